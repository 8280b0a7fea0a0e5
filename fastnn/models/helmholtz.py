"""Helmholtz machine (Hinton, Dayan, Frey and Neal 1995, "The wake-sleep algorithm for unsupervised neural
networks")."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

import fastnn.nn as nn
from fastnn import Tensor, no_grad, optim
from fastnn import functional as F
from fastnn.data import DataLoader

__all__ = ["HelmholtzMachine", "delta_rule"]

States = list[np.ndarray]
"""Of all layers, from the image s_0 up to the top s_L: float32 (N, sizes[k]), 0 or 1."""

MOST_UNITS = 16
"""In two hidden layers that are next to each other, for an exact likelihood: 65,536 pairs of states."""


class HelmholtzMachine(nn.Module):
    """A net of binary stochastic units that dreams images, and one that recognises them.

    Top-down, the generative net is a sigmoid belief net: p(s_L) = Bernoulli(σ(b_L)), and then, down to the image,
    p(s_k | s_k+1) = Bernoulli(σ(W_k s_k+1 + b_k)). Bottom-up, the recognition net says what the layers above may have
    been: q(s_k+1 | s_k) = Bernoulli(σ(V_k s_k + c_k)).

    sizes: units of the layers, from the image's to the top's, at least two.
    """

    def __init__(self, *sizes: int) -> None:
        super().__init__()
        if len(sizes) < 2 or min(sizes) < 1:
            raise ValueError(f"HelmholtzMachine: sizes are {sizes}, expected two or more, of at least 1")
        self.sizes = sizes
        self.generative = nn.ModuleList([nn.Linear(above, below) for below, above in pairwise(sizes)])
        self.recognition = nn.ModuleList([nn.Linear(below, above) for below, above in pairwise(sizes)])
        self.top = nn.Parameter(np.zeros(sizes[-1], np.float32))

    # ---- sampling ----

    def recognise(self, x: np.ndarray, rng: np.random.Generator) -> States:
        """Images (N, sizes[0]), and states of the layers above, drawn bottom-up from q."""
        states = [self.check_images(x, "recognise")]
        for layer in self.recognition:
            states.append(draw(F.sigmoid(layer(states[-1])), rng))
        return states

    def dream(self, n: int, rng: np.random.Generator) -> States:
        """n states of all layers, drawn top-down from p."""
        states = [draw(np.broadcast_to(F.sigmoid(self.top.data), (n, self.sizes[-1])), rng)]
        for layer in reversed([*self.generative]):
            states.append(draw(F.sigmoid(layer(states[-1])), rng))
        return states[::-1]

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """What n dreams show: probabilities of the pixels given the layer above, (n, sizes[0])."""
        return F.sigmoid(self.generative[0](self.dream(n, rng)[1]))

    # ---- learning ----

    def wake(self, states: States) -> None:
        """Gradients of the generative net by the delta rule: of -log p(s_0, …, s_L), the mean of recognised states."""
        for layer, (below, above) in zip(self.generative, pairwise(states), strict=True):
            learn(layer, above, below)
        self.top.grad = (F.sigmoid(self.top.data) - states[-1]).mean(0)

    def sleep(self, states: States) -> None:
        """Gradients of the recognition net by the delta rule: of -log q(s_1, …, s_L | s_0), the mean of dreams."""
        for layer, (below, above) in zip(self.recognition, pairwise(states), strict=True):
            learn(layer, below, above)

    def fit(
        self,
        x: np.ndarray,
        *,
        epochs: int,
        lr: float = 1e-2,
        batch_size: int = 16,
        seed: int = 0,
        after_epoch: Callable[[int], None] = lambda epoch: None,
    ) -> None:
        """Wake-sleep on images (N, sizes[0]) of zeros and ones: for each batch one step of both nets by Adam, whose
        rate rises to lr and falls. after_epoch: called with the number of epochs done."""
        loader = DataLoader(self.check_images(x, "fit"), batch_size, shuffle=True, seed=seed)
        optimizer = optim.Adam(self.parameters(), lr)
        schedule = optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=epochs * len(loader))
        rng = np.random.default_rng(seed)
        for epoch in range(epochs):
            for (batch,) in loader:
                self.wake(self.recognise(batch, rng))
                self.sleep(self.dream(len(batch), rng))
                optimizer.step()
                schedule.step()
            after_epoch(epoch + 1)

    # ---- likelihoods, in nats ----

    def log_joint(self, states: States) -> Tensor:
        """log p(s_0, …, s_L) of each sample, (N,)."""
        logits = [layer(Tensor(above)) for layer, above in zip(self.generative, states[1:], strict=True)]
        logits.append(self.top.expand(len(states[-1]), -1))
        return log_bernoulli(logits, states)

    def log_recognition(self, states: States) -> Tensor:
        """log q(s_1, …, s_L | s_0) of each sample, (N,)."""
        logits = [layer(Tensor(below)) for layer, below in zip(self.recognition, states[:-1], strict=True)]
        return log_bernoulli(logits, states[1:])

    def log_likelihood(self, x: np.ndarray, rng: np.random.Generator, samples: int = 100) -> np.ndarray:
        """log p(x) of images (N, sizes[0]), float64 (N,), estimated with so many samples of q each: the logarithm of
        the mean of p(x, s) / q(s | x). The mean is right on average, its logarithm therefore too small on average."""
        if samples < 1:
            raise ValueError(f"log_likelihood: samples is {samples}, expected at least 1")
        weights = np.empty((samples, len(x)))
        with no_grad():
            for row in weights:
                states = self.recognise(x, rng)
                row[:] = (self.log_joint(states) - self.log_recognition(states)).array
        return np.logaddexp.reduce(weights, 0) - np.log(samples)

    def exact_log_likelihood(self, x: np.ndarray) -> np.ndarray:
        """log p(x) of images (N, sizes[0]), float64 (N,), as a sum over all states of the layers, from the top down.
        ValueError if two hidden layers in a row have more than MOST_UNITS units together."""
        most = max(map(sum, pairwise((*self.sizes[1:], 0))))
        if most > MOST_UNITS:
            raise ValueError(
                f"exact_log_likelihood: {most} units in a row of two layers, expected at most {MOST_UNITS}"
            )
        x = self.check_images(x, "exact_log_likelihood")
        above = all_states(self.sizes[-1])
        log_p = log_table(self.top.data[None], above)[0]
        for layer, size in zip(reversed([*self.generative]), self.sizes[-2::-1], strict=True):
            below = x if layer is self.generative[0] else all_states(size)
            log_p = np.logaddexp.reduce(log_p[:, None] + log_table(layer(above), below), 0)
            above = below
        return log_p

    def check_images(self, x: np.ndarray, op: str) -> np.ndarray:
        """x, unless it is wrong."""
        if not isinstance(x, np.ndarray) or x.dtype != np.float32:
            raise TypeError(f"{op}: x must be an array of float32, got {getattr(x, 'dtype', type(x).__name__)}")
        if x.ndim != 2 or x.shape[1] != self.sizes[0]:
            raise ValueError(f"{op}: x has shape {x.shape}, expected (N, {self.sizes[0]})")
        return x


def delta_rule(layer: nn.Linear, inputs: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How weight and bias change so that units of probability p = σ(W inputs + b) are the targets more often:
    ((targets - p)ᵀ inputs, Σ targets - p) / N, the gradients of the mean log-likelihood."""
    error = targets - F.sigmoid(layer(inputs))
    return error.T @ inputs / len(inputs), error.mean(0)


def learn(layer: nn.Linear, inputs: np.ndarray, targets: np.ndarray) -> None:
    """The delta rule as gradients to be descended."""
    weight, bias = delta_rule(layer, inputs, targets)
    layer.weight.grad, layer.bias.grad = -weight, -bias


def draw(p: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Ones with probability p, else zeros."""
    return (rng.random(p.shape, np.float32) < p).astype(np.float32)


def log_bernoulli(logits: Sequence[Tensor], states: Sequence[np.ndarray]) -> Tensor:
    """Σ log probability of the units' states, (N,)."""
    terms = [
        -F.binary_cross_entropy_with_logits(z, s, reduction="none").sum(1) for z, s in zip(logits, states, strict=True)
    ]
    return sum(terms[1:], terms[0])


def all_states(units: int) -> np.ndarray:
    """float32 (2^units, units)"""
    return (np.arange(2**units)[:, None] >> np.arange(units) & 1).astype(np.float32)


def log_table(logits: np.ndarray, states: np.ndarray) -> np.ndarray:
    """log probability of each state (M, units) under each row of logits (A, units): float64 (A, M)."""
    logits, states = logits.astype(np.float64), states.astype(np.float64)
    return logits @ states.T - np.logaddexp(0, logits).sum(1, keepdims=True)
