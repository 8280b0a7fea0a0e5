"""How the multi-layer perceptrons of `mlp` learn: Adam, gradient descent and L-BFGS over the tape."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from math import inf, sqrt
from typing import Any

import numpy as np
from sklearn.base import is_classifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils import shuffle

from fastnn import functional as F
from fastnn import ops, optim
from fastnn.autograd import Tensor
from fastnn.nn import Parameter
from fastnn.sklearn.targets import dense

__all__ = ["ACTIVATIONS", "Stochastic", "minimize", "network"]

ACTIVATIONS: dict[str, Any] = {"identity": lambda z: z, "logistic": F.sigmoid, "tanh": F.tanh, "relu": F.relu}
"""Functions of the hidden layers by their name."""


def network(x: Any, weights: Sequence[Any], biases: Sequence[Any], activation: str) -> Any:
    """(N, D) -> the last layer without a function (N, K), of Tensors or arrays. weights: (fan_out, fan_in) each."""
    for w, b in zip(weights[:-1], biases[:-1], strict=True):
        x = ACTIVATIONS[activation](F.linear(x, w, b))
    return F.linear(x, weights[-1], biases[-1])


def half_squares(z: Any, y: np.ndarray, reduction: str) -> Any:
    return F.mse_loss(z, y, reduction=reduction) * 0.5


def poisson(z: Any, y: np.ndarray, reduction: str) -> Any:
    """Half the deviance of the means e^z: y log y - y - y z + e^z."""
    losses = F.exp(z) - z * y + (np.where(y > 0, y * np.log(np.where(y > 0, y, 1)), 0) - y).astype(y.dtype)
    return losses.sum() if reduction == "sum" else losses


LOSSES: dict[str, Any] = {
    "softmax": F.cross_entropy,
    "logistic": F.binary_cross_entropy_with_logits,
    "identity": half_squares,
    "exp": poisson,
}
"""loss(z, y, reduction=…) by the function of the last layer, which is part of it."""


class Objective:
    """The mean of a loss over samples, and of coefficients alpha / 2 times the sum of squares, over the number of
    samples. Its parameters share the memory of coefs_ and intercepts_."""

    def __init__(self, estimator: Any) -> None:
        self.weights = [Parameter(c.T) for c in estimator.coefs_]
        self.biases = [Parameter(b) for b in estimator.intercepts_]
        self.activation, self.alpha = estimator.activation, estimator.alpha
        self.loss = LOSSES[estimator.out_activation_]

    def __call__(self, x: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None) -> tuple[Any, float, float]:
        """The mean, a Tensor; that of the squares, whose gradient is left to the solver; and the sum of the weights."""
        z = network(Tensor(x), self.weights, self.biases, self.activation)
        if sample_weight is None:
            total = float(len(x))
            loss = self.loss(z, y, reduction="sum") / total
        else:
            total = float(sample_weight.sum())
            losses = self.loss(z, y, reduction="none")
            loss = (losses * sample_weight.reshape(-1, *[1] * (losses.ndim - 1))).sum() / (total or 1.0)
        # By a kernel: threads of NumPy's BLAS, between two calls of these, take their processors away.
        norm = float(ops.clip_grad_norm([w.array for w in self.weights], inf))
        return loss, 0.5 * self.alpha * norm**2 / (total or 1.0), total


def reported(estimator: Any, loss: float, penalty: float) -> float:
    """The loss as scikit-learn states it: of squared errors the mean over outputs, though their sum is minimised."""
    return loss / (estimator.n_outputs_ if estimator.out_activation_ == "identity" else 1) + penalty


def minimize(estimator: Any, X: Any, y: np.ndarray, sample_weight: np.ndarray | None) -> None:
    """L-BFGS of all samples at once, by SciPy."""
    from scipy import optimize

    objective, x = Objective(estimator), dense(X)
    params: list[Any] = objective.weights + objective.biases
    ends = np.cumsum([p.size for p in params])[:-1]
    last: list[float] = []

    def load(flat: np.ndarray) -> None:
        for p, part in zip(params, np.split(flat, ends), strict=True):
            p.array[...] = part.reshape(p.shape)
            p.increment_version()
            p.grad = None

    def value(flat: np.ndarray) -> tuple[float, np.ndarray]:
        load(flat)
        loss, penalty, total = objective(x, y, sample_weight)
        loss.backward()
        for w in objective.weights:
            w.grad += estimator.alpha / (total or 1.0) * w.array
        last[:] = [loss.item(), penalty]
        return sum(last), np.concatenate([p.grad.ravel() for p in params], dtype=np.float64)

    options = {"maxfun": estimator.max_fun, "maxiter": estimator.max_iter, "gtol": estimator.tol}
    start = np.concatenate([p.array.ravel() for p in params], dtype=np.float64)
    found = optimize.minimize(value, start, method="L-BFGS-B", jac=True, options=options)
    value(found.x)
    estimator.n_iter_ = min(found.nit, estimator.max_iter)
    estimator.loss_ = reported(estimator, *last)
    if estimator.verbose:
        print(f"{found.nit} iterations, loss = {estimator.loss_:.8f}")
    if found.status == 1:
        warnings.warn(
            f"L-BFGS stopped after {found.nit} iterations and {found.nfev} evaluations before it converged; expected "
            "a larger max_iter or max_fun, or scaled samples",
            ConvergenceWarning,
            stacklevel=4,
        )


class Stochastic:
    """Epochs of batches with Adam or gradient descent: the steps, their order and when they end are scikit-learn's."""

    def __init__(self, estimator: Any, X: Any, y: np.ndarray, sample_weight: np.ndarray | None) -> None:
        self.estimator = estimator
        self.train: Any = (X, y, sample_weight)
        self.validation: Any = None
        if estimator.early_stopping:
            self.split()
        self.samples = self.train[0].shape[0]
        batch = estimator.batch_size
        if batch != "auto" and batch > self.samples:
            warnings.warn(
                f"batch_size is {batch}, more than {self.samples} samples, and is clipped to them", stacklevel=4
            )
        self.batch = min(200 if batch == "auto" else batch, self.samples)
        self.objective = Objective(estimator)
        groups = [{"params": self.objective.weights}, {"params": self.objective.biases}]
        if estimator.solver == "adam":
            betas = estimator.beta_1, estimator.beta_2
            self.optimizer: Any = optim.Adam(groups, estimator.learning_rate_init, betas, estimator.epsilon)
        else:
            momentum = estimator.momentum
            nesterov = bool(estimator.nesterovs_momentum) and momentum > 0
            self.optimizer = optim.SGD(groups, estimator.learning_rate_init, momentum, nesterov=nesterov)
        self.steps = 0

    def split(self) -> None:
        """Set a part of the samples aside, of two classes as many as each has."""
        estimator = self.estimator
        X, y, sample_weight = self.train
        arrays = [X, y] if sample_weight is None else [X, y, sample_weight]
        stratify = y if is_classifier(estimator) and estimator.n_outputs_ == 1 else None
        parts = train_test_split(
            *arrays, random_state=estimator._rng, test_size=estimator.validation_fraction, stratify=stratify
        )
        parts += [None] * (6 - len(parts))
        self.train, self.validation = tuple(parts[0::2]), tuple(parts[1::2])
        if self.validation[0].shape[0] < 2:
            raise ValueError(
                f"{estimator._name}: the validation set is too small: validation_fraction is "
                f"{estimator.validation_fraction} of {X.shape[0]} samples, expected at least 2"
            )

    def run(self, more: bool) -> None:
        """All epochs, or, for more, one that goes on where the last one was."""
        estimator = self.estimator
        if more and estimator._optimizer_state is not None:
            self.steps, stored = estimator._optimizer_state
            self.optimizer.load_state_dict(stored)
        best = self.copies() if self.validation is not None else None
        order = np.arange(self.samples)
        estimator.n_iter_ = 0
        try:
            for _ in range(1 if more else estimator.max_iter):
                if estimator.shuffle:
                    order = shuffle(order, random_state=estimator._rng)
                estimator.loss_ = self.epoch(order)
                estimator.n_iter_ += 1
                estimator.t_ += self.samples
                estimator.loss_curve_.append(estimator.loss_)
                if estimator.verbose:
                    print(f"Iteration {estimator.n_iter_}, loss = {estimator.loss_:.8f}")
                if self.judge():
                    best = self.copies()
                if estimator.solver == "sgd" and estimator.learning_rate == "invscaling":
                    self.set_rate(estimator.learning_rate_init / (estimator.t_ + 1) ** estimator.power_t)
                if estimator._waited > estimator.n_iter_no_change and self.ends():
                    break
                if not more and estimator.n_iter_ == estimator.max_iter:
                    warnings.warn(
                        f"Stochastic Optimizer: Maximum iterations ({estimator.max_iter}) reached and the optimization "
                        "hasn't converged yet.",
                        ConvergenceWarning,
                        stacklevel=4,
                    )
        except KeyboardInterrupt:
            warnings.warn("Training interrupted by user.", stacklevel=4)
        estimator._optimizer_state = self.steps, self.optimizer.state_dict()
        if best is not None:
            estimator.coefs_, estimator.intercepts_ = best

    def copies(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """coefs_ and intercepts_ as they are now."""
        return [c.copy(order="K") for c in self.estimator.coefs_], [b.copy() for b in self.estimator.intercepts_]

    def epoch(self, order: np.ndarray) -> float:
        """One pass over the samples; the mean of what the loss was on the way."""
        X, y, sample_weight = self.train
        estimator, total = self.estimator, 0.0
        for start in range(0, self.samples, self.batch):
            part: Any = slice(start, start + self.batch)
            if estimator.shuffle:
                part = order[part]
            x = dense(X[part])
            weight = None if sample_weight is None else sample_weight[part]
            loss, penalty, count = self.objective(x, y[part], weight)
            total += reported(estimator, loss.item(), penalty) * len(x)
            if count:  # samples without weight are not there
                self.step(loss, count)
        return total / self.samples

    def step(self, loss: Tensor, count: float) -> None:
        """Backward, and a step of all parameters."""
        weights, biases = self.optimizer.param_groups
        self.optimizer.zero_grad()
        loss.backward()
        self.steps += 1
        weights["weight_decay"] = self.estimator.alpha / count
        if self.estimator.solver == "adam":
            # epsilon is added to the root of the mean square before its bias is corrected, here after it
            eps = self.estimator.epsilon / sqrt(1 - self.estimator.beta_2**self.steps)
            weights["eps"] = biases["eps"] = eps
        self.optimizer.step()

    def judge(self) -> bool:
        """Has the epoch improved the loss, or the score of what was set aside? Is it the best of these scores?"""
        estimator, tol = self.estimator, self.estimator.tol
        if self.validation is None:
            loss = estimator.loss_
            estimator._waited = estimator._waited + 1 if loss > estimator.best_loss_ - tol else 0
            estimator.best_loss_ = min(loss, estimator.best_loss_)
            return False
        score = estimator._score(*self.validation)
        estimator.validation_scores_.append(score)
        if estimator.verbose:
            print(f"Validation score: {score:f}")
        estimator._waited = estimator._waited + 1 if score < estimator.best_validation_score_ + tol else 0
        better = score > estimator.best_validation_score_
        estimator.best_validation_score_ = max(score, estimator.best_validation_score_)
        return better

    def ends(self) -> bool:
        """There was no improvement for long: is this the end, or does it go on at a lower rate?"""
        estimator = self.estimator
        rate = self.optimizer.param_groups[0]["lr"]
        adaptive = estimator.solver == "sgd" and estimator.learning_rate == "adaptive" and rate > 1e-6
        if estimator.verbose:
            what = "Validation score" if self.validation else "Training loss"
            then = f"Setting learning rate to {rate / 5:f}" if adaptive else "Stopping."
            print(f"{what} did not improve more than tol={estimator.tol:f} for {estimator.n_iter_no_change} "
                  f"consecutive epochs. {then}")  # fmt: skip
        if not adaptive:
            return True
        self.set_rate(rate / 5)
        estimator._waited = 0
        return False

    def set_rate(self, rate: float) -> None:
        """Another learning rate. The momentum is of steps that were taken, here of gradients: a step's part in it is
        not to change with the rate."""
        for group in self.optimizer.param_groups:
            for p in group["params"]:
                buffer = self.optimizer.state.get(p, {}).get("momentum_buffer")
                if buffer is not None:
                    buffer *= group["lr"] / rate
            group["lr"] = rate
