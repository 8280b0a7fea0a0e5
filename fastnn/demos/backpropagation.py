"""Back-propagation in matrix form, step by step, beside the tape's gradients; and it trains.

A batch of N samples is a matrix of columns. Forward, h_0 = x, h_l = f(W_l h_(l-1) + b_l), and the last layer has no f.
Backward, with Δ the derivative of the loss by what follows it, and D_l that of f at layer l, which scales each element,

    Δh_(l-1) = W_lᵀ D_l Δh_l        ΔW_l = D_l Δh_l h_(l-1)ᵀ        Δb_l = D_l Δh_l, summed over the batch

from Δh_L = (softmax(h_L) - y)/N, the derivative of the cross-entropy. Digits of scikit-learn's package; a fifth is held
out. The picture shows the differences from the tape in terms of what rounding allows, learning, and the first weight.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import fastnn
from fastnn import functional as F
from fastnn import train
from fastnn.data import DataLoader, digits, every_fifth
from fastnn.demos import Result
from fastnn.models import MLP


class Activation(NamedTuple):
    """f; its derivative in terms of h = f(a); bounds of |f'| and of that derivative's own by h, 0 for ReLU's jump; and
    how many roundings f makes."""

    function: Callable[[np.ndarray], np.ndarray]
    derivative: Callable[[np.ndarray], np.ndarray]
    slope: float
    bend: float
    roundings: int


ACTIVATIONS = {
    "relu": Activation(lambda a: np.maximum(a, 0), lambda h: (h > 0).astype(h.dtype), 1, 0, 0),
    "sigmoid": Activation(lambda a: 1 / (1 + np.exp(-a)), lambda h: h * (1 - h), 0.25, 1, 8),
    "tanh": Activation(np.tanh, lambda h: 1 - h * h, 1, 2, 8),
}


class Steps(NamedTuple):
    """What is found on the way: a, D, dW, db of layers 1 to L, at 0 to L - 1; h and dh of layers 0 to L."""

    a: list[np.ndarray]
    h: list[np.ndarray]
    D: list[np.ndarray]
    dh: list[np.ndarray]
    dW: list[np.ndarray]
    db: list[np.ndarray]


def layers_of(model: MLP) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Weights W_l (n_l, n_(l-1)) and biases as columns (n_l, 1)."""
    linear = list(model)[::2]
    return [layer.weight.data for layer in linear], [layer.bias.data[:, None] for layer in linear]


def backpropagate(W: list[np.ndarray], b: list[np.ndarray], x: np.ndarray, y: np.ndarray, f: Activation) -> Steps:
    """x: (n_0, N), y: (n_L, N), with one 1 in each column."""
    last, a, h, D = len(W) - 1, [], [x], []
    for l in range(last + 1):
        a.append(W[l] @ h[l] + b[l])
        h.append(f.function(a[l]) if l < last else a[l])
        D.append(f.derivative(h[l + 1]) if l < last else np.ones_like(a[l]))
    exponentials = np.exp(a[last] - a[last].max(0))
    dh = [(exponentials / exponentials.sum(0) - y) / x.shape[1]]
    dW: list[np.ndarray] = []
    db: list[np.ndarray] = []
    for l in reversed(range(last + 1)):
        scaled = D[l] * dh[0]
        dW.insert(0, scaled @ h[l].T)
        db.insert(0, scaled.sum(1, keepdims=True))
        dh.insert(0, W[l].T @ scaled)
    return Steps(a, h, D, dh, dW, db)


def rounding(
    W: list[np.ndarray], b: list[np.ndarray], steps: Steps, f: Activation
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """How far ΔW and Δb of two computations may be apart, to first order: twice the error of each.

    A sum of n products errs, in any order, by at most γ_n times the sum of their magnitudes, γ_n = nu/(1 - nu), with u
    half the distance from 1 to the next number (Higham 2002, "Accuracy and stability of numerical algorithms", 3.1);
    and by what its factors' errors make of it. f passes an error on times its slope, exp as a factor, and where an
    error may carry ReLU's argument across 0, its derivative is uncertain by 1. That is the worst case: roundings of
    either sign mostly cancel.
    """
    u = np.finfo(steps.h[0].dtype).eps / 2
    last = len(W) - 1

    def product(a, b, error_a, error_b):
        """The error of a matrix product, of its factors and their errors."""
        n, a, b = a.shape[1], np.abs(a.astype(np.float64)), np.abs(b.astype(np.float64))
        return n * u / (1 - n * u) * (a @ b) + a @ error_b + error_a @ (b + error_b)

    errors_h, errors_D = [np.zeros(steps.h[0].shape)], []
    for l in range(last + 1):
        ones, exact = np.ones((1, steps.h[l].shape[1])), np.zeros((len(W[l]), W[l].shape[1] + 1))
        error = product(
            np.hstack([W[l], b[l]]), np.vstack([steps.h[l], ones]), exact, np.vstack([errors_h[l], 0 * ones])
        )
        if l < last:
            error_h = f.slope * error + f.roundings * u * np.abs(steps.h[l + 1])
            crossing = (f.bend == 0) & (np.abs(steps.a[l]) <= error)
            errors_D.append(f.bend * error_h + 2 * u * (f.bend > 0) + crossing)
        else:
            error_h = error
            errors_D.append(0 * error)
        errors_h.append(error_h)
    a = steps.a[last].astype(np.float64)
    below = a.max(0) - a
    p = np.exp(-below) / np.exp(-below).sum(0)
    relative = np.expm1(2 * errors_h[-1].max(0) + u * (below + below.max(0) + len(a) + 16))
    error = p * relative / a.shape[1] + 4 * u * np.abs(steps.dh[-1])
    errors_dW: list[np.ndarray] = []
    errors_db: list[np.ndarray] = []
    for l in reversed(range(last + 1)):
        scaled, ones = steps.D[l] * steps.dh[l + 1], np.ones((a.shape[1], 1))
        error = (steps.D[l] + errors_D[l]) * error + np.abs(steps.dh[l + 1]) * errors_D[l] + 2 * u * np.abs(scaled)
        errors_dW.insert(0, 2 * product(scaled, steps.h[l].T, error, errors_h[l].T))
        errors_db.insert(0, 2 * product(scaled, ones, error, 0 * ones))
        error = product(W[l].T, scaled, np.zeros(W[l].T.shape), error)
    return errors_dW, errors_db


def one_hot(classes: np.ndarray, dtype: Any) -> np.ndarray:
    """(N,) -> (10, N)"""
    return np.eye(10, dtype=dtype)[:, classes]


def compare(model: MLP, x: np.ndarray, classes: np.ndarray, f: Activation) -> dict[str, np.ndarray]:
    """The matrix form of a batch (N, D) and the tape: |difference| over what is allowed, of each gradient's elements;
    prints both, step by step."""
    model.zero_grad()
    F.cross_entropy(model(fastnn.Tensor(x)), classes).backward()
    W, b = layers_of(model)
    steps = backpropagate(W, b, x.T, one_hot(classes, x.dtype), f)
    allowed = rounding(W, b, steps, f)
    ratios = {}
    for l, layer in reversed(list(enumerate(list(model)[::2]))):
        print(f"layer {l + 1}: Δh{steps.dh[l + 1].shape}, D = {'1' if l == len(W) - 1 else 'derivative of f'}")
        for name, mine, tape, bound in (
            (f"ΔW{l + 1}", steps.dW[l], layer.weight.grad, allowed[0][l]),
            (f"Δb{l + 1}", steps.db[l], layer.bias.grad[:, None], allowed[1][l]),
        ):
            difference = np.abs(mine - tape)
            never = np.where(difference > 0, np.inf, 0.0)  # where rounding allows nothing, of pixels that are all white
            ratios[name] = np.divide(difference, bound, out=never, where=bound > 0)
            i = np.unravel_index(np.abs(mine).argmax(), mine.shape)
            print(
                f"  {name} {mine.shape}, largest: {mine[i]:+.8f}, tape's {tape[i]:+.8f}; all differ by at most "
                f"{difference.max():.1e}, {ratios[name].max():.2%} of what rounding allows"
            )
    return ratios


def run(
    *, quick: bool = False, seed: int = 0, epochs: int | None = None, activation: str = "relu", lr: float = 0.2
) -> Result:
    """epochs: of training by the matrix form (default: 60, quick: 5). activation: relu, sigmoid or tanh."""
    if epochs is None:
        epochs = 5 if quick else 60
    images, classes = digits()
    x, held_out = images.reshape(len(images), -1).astype(np.float32) / 16, every_fifth(classes)
    fastnn.manual_seed(seed)
    model, f = MLP((64, 48, 32, 10), activation), ACTIVATIONS[activation]
    batches = DataLoader((x[~held_out], classes[~held_out]), 32, shuffle=True, seed=seed)
    first, target = next(iter(batches))
    ratios = compare(model, first, target, f)
    accuracy: dict[str, list[float]] = {"seen in training": [], "held out": []}
    W, b = layers_of(model)
    for epoch in train.track(range(epochs), "epochs"):
        for batch, target in batches:
            steps = backpropagate(W, b, batch.T, one_hot(target, batch.dtype), f)
            for parameter, gradient in zip(W + b, steps.dW + steps.db, strict=True):
                parameter -= lr * gradient
        for name, part in ("seen in training", ~held_out), ("held out", held_out):
            accuracy[name].append(float(np.mean(model(x[part]).argmax(1) == classes[part])))
        if (epoch + 1) % max(epochs // 5, 1) == 0:
            print(
                f"epoch {epoch + 1}/{epochs}  "
                + "  ".join(f"{name} {found[-1]:.1%}" for name, found in accuracy.items())
            )
    worst = max(float(ratio.max()) for ratio in ratios.values())

    def draw(figure):
        left, middle, right = figure.subfigures(1, 3)
        axes = left.subplots()
        axes.boxplot([ratio.ravel()[ratio.ravel() > 0] for ratio in ratios.values()], whis=(0, 100))
        axes.set_xticks(range(1, len(ratios) + 1), ratios.keys())
        axes.axhline(1, color="red", linestyle="--")
        axes.set(yscale="log", ylabel="|matrix form - tape| / what rounding allows, where not 0")
        axes = middle.subplots()
        for name, found in accuracy.items():
            axes.plot(range(1, epochs + 1), found, label=name)
        axes.set(xlabel="epoch", ylabel="accuracy, trained by the matrix form")
        axes.legend()
        axes.grid(alpha=0.3)
        right.suptitle("rows of W1 after training", fontsize=10)
        for axes, row in zip(right.subplots(8, 6).flat, W[0], strict=True):
            axes.imshow(row.reshape(8, 8), cmap="RdBu", vmin=-np.abs(row).max(), vmax=np.abs(row).max())
            axes.axis("off")

    size = sum(ratio.size for ratio in ratios.values())
    text = (
        f"All {size} gradients differ from the tape's by at most {worst:.2%} of "
        f"what rounding allows; trained by the matrix form for {epochs} epochs, {accuracy['held out'][-1]:.1%} of "
        f"{held_out.sum()} digits held out."
    )
    return Result(text, {"rounding": worst, "accuracy": accuracy["held out"][-1]}, draw)
