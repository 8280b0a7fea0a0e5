"""Multi-layer perceptrons with the parameters, attributes and random numbers of sklearn.neural_network."""

from __future__ import annotations

from itertools import pairwise
from math import inf, sqrt
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, MultiOutputMixin, RegressorMixin
from sklearn.metrics import accuracy_score, r2_score
from sklearn.utils import column_or_1d
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, check_random_state, validate_data

from fastnn import functional as F
from fastnn.descriptors import is_int
from fastnn.sklearn.options import boolean, check, choice, integer, keep, real, unless
from fastnn.sklearn.solvers import ACTIVATIONS, Stochastic, minimize, network
from fastnn.sklearn.targets import Labels, rows

__all__ = ["MLPClassifier", "MLPRegressor"]

OUTPUTS = {
    "softmax": lambda z: F.softmax(z, dim=1),
    "logistic": F.sigmoid,
    "identity": lambda z: z,
    "exp": F.exp,
}
"""Functions of the last layer by their name in out_activation_."""

RULES = {
    "activation": choice(*ACTIVATIONS),
    "solver": choice("adam", "sgd", "lbfgs"),
    "alpha": real(0),
    "batch_size": unless("auto", rule=integer(1)),
    "learning_rate": choice("constant", "invscaling", "adaptive"),
    "learning_rate_init": real(0, ends="()"),
    "power_t": real(0),
    "max_iter": integer(1),
    "shuffle": boolean,
    "tol": real(0),
    "warm_start": boolean,
    "momentum": real(0, 1),
    "nesterovs_momentum": boolean,
    "early_stopping": boolean,
    "validation_fraction": real(0, 1, "[)"),
    "beta_1": real(0, 1, "[)"),
    "beta_2": real(0, 1, "[)"),
    "epsilon": real(0, ends="()"),
    "n_iter_no_change": unless(inf, rule=integer(1)),
    "max_fun": integer(1),
}


def stochastic(estimator: Any) -> bool:
    """Has the solver single steps, for partial_fit?"""
    if estimator.solver == "lbfgs":
        raise AttributeError("partial_fit needs solver 'adam' or 'sgd', got 'lbfgs', which has no single steps")
    return True


class BaseMLP(BaseEstimator):
    """What classifier and regressor have in common. The network is coefs_ and intercepts_ and nothing else: who
    changes them changes predictions."""

    coefs_: list[np.ndarray]
    intercepts_: list[np.ndarray]
    n_outputs_: int

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Learn from samples X (N, D), an array or a sparse matrix, and targets y, each with a weight, None for 1."""
        return self._learn(X, y, sample_weight, more=False)

    def _learn(self, X: Any, y: Any, sample_weight: Any, more: bool) -> Any:
        """fit, or, for more, partial_fit."""
        check(self, RULES)
        hidden = hidden_sizes(self)
        if more and self.early_stopping:
            raise ValueError(f"{self._name}: partial_fit does not support early_stopping=True")
        fresh = not hasattr(self, "coefs_") or not (self.warm_start or more)
        X, y = validate_data(
            self, X, y, accept_sparse="csr", multi_output=True, y_numeric=self._numeric, reset=fresh,
            dtype=(np.float64, np.float32),
        )  # fmt: skip
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        target = self._encode(y, X.dtype, fresh and not more)
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, X, dtype=X.dtype)
        self._rng = check_random_state(self.random_state)
        if fresh:
            self._start([X.shape[1], *hidden, self.n_outputs_], X.dtype)
        # In memory of their own: after warm_start or partial_fit in a worker process the old may not be writable.
        self.coefs_ = [np.array(c.T, X.dtype, order="C").T for c in self.coefs_]
        self.intercepts_ = [np.array(b, X.dtype) for b in self.intercepts_]
        if self.solver == "lbfgs":
            minimize(self, X, target, sample_weight)
        else:
            Stochastic(self, X, target, sample_weight).run(more)
        if not all(np.isfinite(w).all() for w in (*self.coefs_, *self.intercepts_)):
            raise ValueError(
                f"{self._name}: {self.solver} made weights that are not finite, expected smaller input (StandardScaler "
                "brings it to unit variance) or a smaller learning_rate_init"
            )
        return self

    def _start(self, sizes: list[int], dtype: Any) -> None:
        """Weights and biases uniform in ±√(6 / (fan_in + fan_out)) (Glorot & Bengio 2010), for logistic units 2 in
        place of 6: the same numbers that scikit-learn draws."""
        self.n_layers_ = len(sizes)
        self.n_iter_ = self.t_ = 0
        self.coefs_, self.intercepts_ = [], []
        for n, m in pairwise(sizes):
            bound = sqrt((2.0 if self.activation == "logistic" else 6.0) / (n + m))
            self.coefs_.append(self._rng.uniform(-bound, bound, (n, m)).astype(dtype))
            self.intercepts_.append(self._rng.uniform(-bound, bound, m).astype(dtype))
        self._optimizer_state: Any = None
        if self.solver != "lbfgs":
            self.loss_curve_: list[float] = []
            self._waited = 0
            self.validation_scores_: list[float] | None = [] if self.early_stopping else None
            self.best_validation_score_ = -inf if self.early_stopping else None
            self.best_loss_ = None if self.early_stopping else inf

    def _outputs(self, X: Any) -> np.ndarray:
        """(N, D) -> the last layer before its function: (N, n_outputs_)."""
        check_is_fitted(self)
        X = validate_data(self, X, accept_sparse="csr", dtype=self.coefs_[0].dtype, reset=False)
        return self._logits(X)

    def _logits(self, X: Any) -> np.ndarray:
        weights = [c.T for c in self.coefs_]
        return np.concatenate([network(x, weights, self.intercepts_, self.activation) for x in rows(X)])

    @property
    def _name(self) -> str:
        return type(self).__name__

    def __getstate__(self) -> Any:
        """The generator is of one call of fit."""
        state = super().__getstate__()
        return {name: value for name, value in state.items() if name != "_rng"}

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


class MLPClassifier(ClassifierMixin, BaseMLP):
    """Fully connected network for classes, as sklearn.neural_network.MLPClassifier: the same parameters with the same
    meaning and defaults, the same attributes, and the same random numbers, so that it learns the same weights but for
    rounding.

    y: (N,) of any labels, or indicators (N, K) of classes that do not exclude each other (multilabel). float32 samples
    make a network of float32, twice as fast. Sparse samples become dense a batch at a time.

    After fit: classes_, coefs_ (of shapes (fan_in, fan_out)), intercepts_, n_layers_, n_outputs_, out_activation_,
    n_iter_, t_, loss_; of "adam" and "sgd" loss_curve_, best_loss_, validation_scores_, best_validation_score_.
    """

    classes_: np.ndarray
    _numeric = False

    def __init__(
        self, hidden_layer_sizes=(100,), activation="relu", *, solver="adam", alpha=0.0001, batch_size="auto",
        learning_rate="constant", learning_rate_init=0.001, power_t=0.5, max_iter=200, shuffle=True, random_state=None,
        tol=1e-4, verbose=False, warm_start=False, momentum=0.9, nesterovs_momentum=True, early_stopping=False,
        validation_fraction=0.1, beta_1=0.9, beta_2=0.999, epsilon=1e-8, n_iter_no_change=10, max_fun=15000,
    ):  # fmt: skip
        keep(self, locals())

    def _encode(self, y: Any, dtype: Any, fresh: bool) -> np.ndarray:
        if fresh:
            self._labels = Labels(self._name, y)
        elif self.warm_start and len(missing := np.setdiff1d(self.classes_, Labels(self._name, y).classes)):
            raise ValueError(f"{self._name}: y lacks the classes {missing}, expected all of the first fit (warm_start)")
        labels = self._labels
        self.classes_ = labels.classes
        numbers = labels.numbers(y)
        self.out_activation_ = "softmax" if labels.kind == "multiclass" else "logistic"
        self.n_outputs_ = 1 if labels.kind == "binary" else len(labels.classes)
        return numbers if labels.kind == "multiclass" else numbers.reshape(len(numbers), -1).astype(dtype)

    @available_if(stochastic)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> Any:
        """One epoch of these samples. classes: all that will ever come, asked for in the first call."""
        if not hasattr(self, "classes_"):
            if classes is None:
                raise ValueError("classes must be passed on the first call to partial_fit.")
            self._labels = Labels(self._name, y, classes)
            self.classes_ = self._labels.classes
        elif classes is not None and not np.array_equal(self.classes_, np.unique(classes)):
            raise ValueError(f"`classes={classes!r}` is not the same as on last call to partial_fit, {self.classes_!r}")
        return self._learn(X, y, sample_weight, more=True)

    def predict(self, X: Any) -> np.ndarray:
        """The most probable class, (N,); of multilabel targets 1 where the probability is above 1/2, (N, K)."""
        return self._decide(self._outputs(X))

    def _decide(self, z: np.ndarray) -> np.ndarray:
        kind = self._labels.kind
        numbers = z.argmax(1) if kind == "multiclass" else (z > 0).astype(np.intp)
        return self._labels.of(numbers.ravel() if kind == "binary" else numbers)

    def _score(self, X: Any, target: np.ndarray, sample_weight: Any) -> float:
        binary = self._labels.kind == "binary"
        truth = self._labels.of(target.ravel().astype(np.intp) if binary else target)
        return accuracy_score(truth, self._decide(self._logits(X)), sample_weight=sample_weight)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities of the classes in the order of classes_: (N, K)."""
        z = self._outputs(X)
        p = OUTPUTS[self.out_activation_](z)
        return np.hstack([1 - p, p]) if p.shape[1] == 1 else p

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Their logarithms, without rounding to log 0: (N, K)."""
        z = self._outputs(X)
        if self.out_activation_ == "softmax":
            return F.log_softmax(z, dim=1)
        return -F.softplus(np.hstack([z, -z]) if z.shape[1] == 1 else -z, threshold=40.0)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


class MLPRegressor(MultiOutputMixin, RegressorMixin, BaseMLP):
    """Fully connected network for numbers, as sklearn.neural_network.MLPRegressor: see MLPClassifier.

    y: (N,), or (N, K) for K numbers of each sample. loss: "squared_error", or "poisson" for y >= 0, of which the
    network learns the logarithm of the mean.
    """

    _numeric = True

    def __init__(
        self, loss="squared_error", hidden_layer_sizes=(100,), activation="relu", *, solver="adam", alpha=0.0001,
        batch_size="auto", learning_rate="constant", learning_rate_init=0.001, power_t=0.5, max_iter=200, shuffle=True,
        random_state=None, tol=1e-4, verbose=False, warm_start=False, momentum=0.9, nesterovs_momentum=True,
        early_stopping=False, validation_fraction=0.1, beta_1=0.9, beta_2=0.999, epsilon=1e-8, n_iter_no_change=10,
        max_fun=15000,
    ):  # fmt: skip
        keep(self, locals())

    def _encode(self, y: Any, dtype: Any, fresh: bool) -> np.ndarray:
        check(self, {"loss": choice("squared_error", "poisson")})
        if self.loss == "poisson" and y.min() < 0:
            raise ValueError(f"{self._name}: y has {y.min()}, expected none below 0, as loss is 'poisson'")
        y = y.reshape(len(y), -1)
        if not fresh and hasattr(self, "n_outputs_") and y.shape[1] != self.n_outputs_:
            raise ValueError(f"{self._name}: y has {y.shape[1]} outputs, expected {self.n_outputs_} as before")
        self.n_outputs_ = y.shape[1]
        self.out_activation_ = "exp" if self.loss == "poisson" else "identity"
        return np.ascontiguousarray(y, dtype)

    @available_if(stochastic)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """One epoch of these samples."""
        return self._learn(X, y, sample_weight, more=True)

    def predict(self, X: Any) -> np.ndarray:
        """(N,), or (N, K) of several outputs."""
        return self._decide(self._outputs(X))

    def _decide(self, z: np.ndarray) -> np.ndarray:
        y = OUTPUTS[self.out_activation_](z)
        return y.ravel() if y.shape[1] == 1 else y

    def _score(self, X: Any, target: np.ndarray, sample_weight: Any) -> float:
        return r2_score(target, self._decide(self._logits(X)), sample_weight=sample_weight)


def hidden_sizes(estimator: Any) -> list[int]:
    """hidden_layer_sizes as a list."""
    given = estimator.hidden_layer_sizes
    sizes = [given] if is_int(given) else list(given) if np.iterable(given) and not isinstance(given, str) else [given]
    for size in sizes:
        if not is_int(size):
            raise TypeError(f"{estimator._name}: hidden_layer_sizes must be integers, got {given!r}")
        if size < 1:
            raise ValueError(f"{estimator._name}: hidden_layer_sizes must be > 0, got {given!r}")
    return [int(size) for size in sizes]
