"""Before deep learning: perceptrons of one layer (Rosenblatt 1958, "The perceptron"; its dual form after Aizerman,
Braverman and Rozonoer 1964), of two, and of any number (Rumelhart, Hinton and Williams 1986, "Learning representations
by back-propagating errors")."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

import fastnn.nn as nn
from fastnn import functional as F
from fastnn import optim
from fastnn.autograd import Tensor
from fastnn.descriptors import is_int, number

__all__ = ["MLP", "DualPerceptron", "Perceptron", "TwoLayerPerceptron", "log_likelihood", "mlp", "polynomial"]


class MistakeDriven:
    """Visits one sample after the other, and learns from those it has on the wrong side, or on the border.

    After `fit`: mistakes, how many there were in each epoch; separated, whether the last epoch had none.
    """

    def __init__(self) -> None:
        self.mistakes: list[int] = []

    def fit(self, x: np.ndarray, y: np.ndarray, epochs: int = 100, seed: int | None = None) -> Any:
        """x: (N, D), y: (N,) of +1 and -1. Starts anew; stops after the first epoch without a mistake, or after
        `epochs`. Samples are visited in their order, or with a seed in another one every epoch. Returns itself."""
        x, y = self.checked(x), np.asarray(y)
        if y.shape != x.shape[:1] or not np.all(np.abs(y) == 1):
            raise ValueError(f"{self.name}: y of shape {y.shape} must be +1 or -1, for each of {len(x)} samples")
        if not is_int(epochs) or epochs < 1:
            raise ValueError(f"{self.name}: epochs is {epochs!r}, expected an integer of at least 1")
        rng = None if seed is None else np.random.default_rng(seed)
        self.start(x, y.astype(np.float64))
        self.mistakes = []
        for _ in range(epochs):
            wrong = 0
            for i in range(len(x)) if rng is None else rng.permutation(len(x)):
                if y[i] * self.score(i) <= 0:
                    self.learn(i)
                    wrong += 1
            self.mistakes.append(wrong)
            if not wrong:
                break
        return self

    @property
    def name(self) -> str:
        return type(self).__name__

    @property
    def separated(self) -> bool:
        """Has it all samples on their sides?"""
        return self.mistakes[-1:] == [0]

    def report(self) -> str:
        """What came of `fit`, in a sentence."""
        epochs, total = len(self.mistakes), sum(self.mistakes)
        if not epochs:
            return "not fitted"
        if self.separated:
            return f"separated after {epochs} epochs and {total} mistakes"
        return f"not separated within {epochs} epochs: {self.mistakes[-1]} mistakes in the last, {total} in all"

    def checked(self, x: np.ndarray) -> np.ndarray:
        """Samples as float64."""
        x = np.asarray(x, np.float64)
        if x.ndim != 2:
            raise ValueError(f"{self.name}: x has shape {x.shape}, expected (samples, features)")
        return x

    def known(self, x: np.ndarray, features: int) -> np.ndarray:
        """Samples with as many features as those of `fit`."""
        x = self.checked(x)
        if x.shape[1] != features:
            raise ValueError(f"{self.name}: x has shape {x.shape}, expected (samples, {features}) as in fit")
        return x

    def predict(self, x: np.ndarray) -> np.ndarray:
        """+1 where the decision value is positive, else -1: (N,)."""
        return np.where(self.decision_function(x) > 0, 1, -1)

    def start(self, x: np.ndarray, y: np.ndarray) -> None:
        """Before the first epoch."""
        raise NotImplementedError

    def score(self, i: int) -> float:
        """The decision value of sample i."""
        raise NotImplementedError

    def learn(self, i: int) -> None:
        """Sample i was a mistake."""
        raise NotImplementedError

    def decision_function(self, x: np.ndarray) -> np.ndarray:
        """(N, D) -> decision values (N,)"""
        raise NotImplementedError


class Perceptron(MistakeDriven):
    """Decision w·x + b. On a mistake w <- w + η y x and b <- b + η y; all begin at 0, so that η scales them and nothing
    else. If samples within a radius R (with 1 appended, for b) are separable by a margin γ, it makes at most (R/γ)²
    mistakes (Novikoff 1962); else it never stops.

    weight: (D,), bias: a number.
    """

    weight: np.ndarray
    bias: float

    def __init__(self, eta: float = 1.0) -> None:
        super().__init__()
        self.eta = positive("Perceptron", "eta", eta)

    def start(self, x, y):
        self.x, self.y = x, y
        self.weight, self.bias = np.zeros(x.shape[1]), 0.0

    def score(self, i):
        return self.x[i] @ self.weight + self.bias

    def learn(self, i):
        self.weight += self.eta * self.y[i] * self.x[i]
        self.bias += self.eta * self.y[i]

    def decision_function(self, x):
        return self.known(x, len(self.weight)) @ self.weight + self.bias


class DualPerceptron(MistakeDriven):
    """The same in terms of how often each sample was a mistake, α: the decision is η Σ_j α_j y_j (k(x_j, x) + 1), where
    1 is for the bias. Samples are only met in the Gram matrix k(x_i, x_j), and k may be any kernel, a scalar product in
    another space. With the linear one and the same order of visits it makes the mistakes that Perceptron makes, and
    w = η Σ α_j y_j x_j is its weight, but for the order of additions: exactly where sums are exact, as of integers.

    kernel(a, b): (N, D), (M, D) -> (N, M); None is a bᵀ. alpha: (N,) integers.
    """

    alpha: np.ndarray

    def __init__(self, eta: float = 1.0, kernel: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None) -> None:
        super().__init__()
        self.eta, self.kernel = positive("DualPerceptron", "eta", eta), kernel

    def gram(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """k(a_i, b_j) + 1: (N, M)"""
        return (a @ b.T if self.kernel is None else self.kernel(a, b)) + 1

    def start(self, x, y):
        self.x, self.y = x, y
        self.products = self.gram(x, x)
        self.alpha = np.zeros(len(x), np.int64)

    def score(self, i):
        return self.products[i] @ (self.eta * self.alpha * self.y)

    def learn(self, i):
        self.alpha[i] += 1

    def decision_function(self, x):
        return self.gram(self.known(x, self.x.shape[1]), self.x) @ (self.eta * self.alpha * self.y)

    @property
    def weight(self) -> np.ndarray:
        """η Σ α_j y_j x_j: (D,), of the linear kernel."""
        if self.kernel is not None:
            raise AttributeError("DualPerceptron: weight is of the linear kernel, which is None")
        return (self.eta * self.alpha * self.y) @ self.x

    @property
    def bias(self) -> float:
        """η Σ α_j y_j"""
        return float((self.eta * self.alpha) @ self.y)


def positive(op: str, name: str, value: float) -> float:
    """An option that is a number above 0."""
    if not number(value, op, name) > 0:
        raise ValueError(f"{op}: {name} is {value}, expected above 0")
    return float(value)


def polynomial(degree: int, offset: float = 1.0) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """The kernel (a·b + offset)^degree: the scalar product of all products of up to `degree` features."""
    return lambda a, b: (a @ b.T + offset) ** degree


ACTIVATIONS = {"relu": nn.ReLU, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh}


class MLP(nn.Sequential):
    """Fully connected layers h_l = f(W_l h_(l-1) + b_l), the last one without f: (N, sizes[0]) -> (N, sizes[-1]).

    activation: f, "relu", "sigmoid" or "tanh". demos/backpropagation.py shows its gradients in matrix form.
    """

    def __init__(self, sizes: Sequence[int], activation: str = "relu") -> None:
        if len(sizes) < 2:
            raise ValueError(f"MLP: sizes is {list(sizes)}, expected at least two, of input and output")
        if activation not in ACTIVATIONS:
            raise ValueError(f"MLP: activation is {activation!r}, expected one of {', '.join(ACTIVATIONS)}")
        layers: list[nn.Module] = []
        for n, m in pairwise(sizes):
            layers += [nn.Linear(n, m), ACTIVATIONS[activation]()]
        super().__init__(*layers[:-1])


def mlp(*sizes: int, activation: str = "relu") -> MLP:
    """A multi-layer perceptron: mlp(784, 100, 10)."""
    return MLP(sizes, activation)


def log_likelihood(a: Any, y: Any) -> Any:
    """Σ y A - log(1 + e^A), of logits A and classes 0 and 1, both (N,): what logistic regression maximises. Its
    gradient is y - sigmoid(A)."""
    return (y * a - F.softplus(a, threshold=40.0)).sum()


class TwoLayerPerceptron(nn.Module):
    """A logistic regression on logistic regressions: (N, in_features) -> logits A (N,), P(y = 1) = sigmoid(A).

    A = w·f(V x + c) + b, with f the sigmoid, which makes each hidden unit a logistic regression, or ReLU. hidden:
    units; without any, A = w·x + b, one logistic regression.
    """

    def __init__(self, in_features: int, hidden: int = 8, activation: str = "sigmoid") -> None:
        super().__init__()
        self.layers = MLP((in_features, hidden, 1) if hidden else (in_features, 1), activation)

    def forward(self, x):
        return self.layers(x).flatten()

    def fit(self, x: np.ndarray, y: np.ndarray, steps: int = 500, lr: float = 0.05) -> list[float]:
        """Ascend the log-likelihood of x (N, in_features), y (N,) of 0 and 1, all samples in each step, with Adam's
        step sizes; returns the log-likelihood before each step."""
        x, y = np.asarray(x, np.float32), np.asarray(y, np.float32)
        if y.shape != x.shape[:1] or not np.all((y == 0) | (y == 1)):
            raise ValueError(f"TwoLayerPerceptron: y of shape {y.shape} must be 0 or 1, for each of {len(x)} samples")
        optimizer = optim.Adam(self.parameters(), lr, maximize=True)
        found = []
        for _ in range(steps):
            likelihood = log_likelihood(self(Tensor(x)), y)
            optimizer.zero_grad()
            likelihood.backward()
            optimizer.step()
            found.append(float(likelihood.data))
        return found

    def predict(self, x: np.ndarray) -> np.ndarray:
        """1 where P(y = 1) > 1/2, else 0: (N,)."""
        return (self(np.asarray(x, np.float32)) > 0).astype(np.int64)
