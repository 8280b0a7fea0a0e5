"""Rosenblatt's perceptron of any number of classes with scikit-learn's interface."""

from __future__ import annotations

import warnings
from math import log
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import compute_class_weight
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, check_random_state, validate_data

from fastnn.sklearn.options import boolean, check, choice, integer, real, unless
from fastnn.sklearn.targets import Labels, dense

__all__ = ["Perceptron"]

RULES = {
    "penalty": choice(None, "l2"),
    "alpha": real(0),
    "fit_intercept": boolean,
    "max_iter": integer(1),
    "tol": unless(None, rule=real(0)),
    "shuffle": boolean,
    "eta0": real(0, ends="()"),
    "n_iter_no_change": integer(1),
    "warm_start": boolean,
}
BLOCK = 64
"""Samples that are looked at together, at most."""


class Perceptron(ClassifierMixin, BaseEstimator):
    """Linear classifier that learns from mistakes, as sklearn.linear_model.Perceptron, one for each class against the
    others; two classes have one. On a mistake w <- w + η y x, b <- b + η y, with y = ±1; everything begins at 0.

    penalty: None, or "l2": w shrinks by η alpha with each sample. tol: a class is done when its mean loss max(0, -y
    (w·x + b)) has not improved by more than tol for n_iter_no_change epochs; None: when it makes no mistake any more.
    max_iter: epochs. shuffle: another order each epoch, of random_state. class_weight: a dict, "balanced" or None;
    multiplies η for the samples of the class.

    After fit: coef_ (K, D), intercept_ (K,), or (1, D) and (1,) of two classes; classes_, n_iter_, t_ (1 and the
    samples visited).
    """

    def __init__(
        self, *, penalty=None, alpha=0.0001, fit_intercept=True, max_iter=1000, tol=1e-3, shuffle=True, verbose=0,
        eta0=1.0, random_state=0, n_iter_no_change=5, class_weight=None, warm_start=False,
    ):  # fmt: skip
        self.penalty = penalty
        self.alpha = alpha
        self.fit_intercept = fit_intercept
        self.max_iter = max_iter
        self.tol = tol
        self.shuffle = shuffle
        self.verbose = verbose
        self.eta0 = eta0
        self.random_state = random_state
        self.n_iter_no_change = n_iter_no_change
        self.class_weight = class_weight
        self.warm_start = warm_start

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Perceptron:
        """Learn from samples X (N, D) and labels y (N,); sample_weight multiplies η."""
        fresh = not (self.warm_start and hasattr(self, "coef_"))
        return self._learn(X, y, sample_weight, None, fresh, self.max_iter)

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Perceptron:
        """One epoch of these samples. classes: all that will come, asked for in the first call."""
        fresh = not hasattr(self, "classes_")
        if fresh and classes is None:
            raise ValueError("classes must be passed on the first call to partial_fit.")
        if not fresh and classes is not None and not np.array_equal(self.classes_, np.unique(classes)):
            raise ValueError(f"`classes={classes!r}` is not the same as on last call to partial_fit, {self.classes_!r}")
        return self._learn(X, y, sample_weight, classes, fresh, 1)

    def _learn(self, X: Any, y: Any, sample_weight: Any, classes: Any, fresh: bool, epochs: int) -> Perceptron:
        check(self, RULES)
        X, y = validate_data(self, X, y, accept_sparse="csr", dtype=(np.float64, np.float32), reset=fresh)
        weight = _check_sample_weight(sample_weight, X, dtype=X.dtype)
        if fresh:
            self._labels = Labels("Perceptron", y, classes)
            self.classes_ = self._labels.classes
            if len(self.classes_) < 2:
                raise ValueError(f"Perceptron: y has {len(self.classes_)} class, expected at least 2 classes")
            outputs = 1 if len(self.classes_) == 2 else len(self.classes_)
            self.coef_, self.intercept_ = np.zeros((outputs, X.shape[1]), X.dtype), np.zeros(outputs, X.dtype)
            self.t_ = 1.0
        numbers = self._labels.numbers(y)
        of_class = compute_class_weight(self.class_weight, classes=self.classes_, y=y)
        binary = len(self.classes_) == 2
        own = numbers[:, None] == (np.ones(1) if binary else np.arange(len(self.classes_)))
        # of the other classes together 1, as in scikit-learn; of two classes each has its own weight
        rates = self.eta0 * weight[:, None] * (of_class[numbers, None] if binary else np.where(own, of_class, 1))
        self._epochs(X, np.where(own, 1, -1).astype(X.dtype), rates.astype(X.dtype), epochs)
        return self

    def _epochs(self, X: Any, signs: np.ndarray, rates: np.ndarray, epochs: int) -> None:
        """signs and rates: y and η of each sample and class, (N, K)."""
        n, k = signs.shape
        rng = np.random.default_rng(check_random_state(self.random_state).randint(2**31 - 1))
        coef, intercept = np.array(self.coef_, X.dtype), np.array(self.intercept_, X.dtype)
        active = np.ones(k, bool)
        best, waited = np.full(k, np.inf), np.zeros(k, int)
        order = np.arange(n)
        for self.n_iter_ in range(1, epochs + 1):
            if self.shuffle:
                rng.shuffle(order)
            columns = np.flatnonzero(active)
            w, b = coef[columns], intercept[columns]
            losses, mistakes = self._epoch(X, signs[:, columns], rates[:, columns], order, w, b)
            coef[columns], intercept[columns] = w, b
            self.t_ += n
            if self.verbose:
                print(f"Epoch {self.n_iter_}: {mistakes.sum()} mistakes of {len(columns)} classes")
            if self.tol is not None:
                improved = losses / n <= best[columns] - self.tol
                waited[columns] = np.where(improved, 0, waited[columns] + 1)
                best[columns] = np.minimum(best[columns], losses / n)
            # A class without a mistake has none in any later epoch; but for the penalty, which goes on shrinking.
            done = (mistakes == 0) & (self.penalty is None) | (waited[columns] >= self.n_iter_no_change)
            active[columns[done]] = False
            if not active.any():
                break
        else:
            if epochs > 1 and self.tol is not None:
                warnings.warn(
                    f"Perceptron: max_iter is {epochs}, after which {active.sum()} of {k} classes still improve",
                    ConvergenceWarning,
                    stacklevel=4,
                )
        self.coef_, self.intercept_ = coef, intercept

    def _epoch(
        self, X: Any, signs: np.ndarray, rates: np.ndarray, order: np.ndarray, w: np.ndarray, b: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """One sample after the other, for all classes at once; changes w (K, D) and b (K,) in place. Returns the sum of
        losses and the number of mistakes of each class.

        In blocks: decision values of a block's samples are a matrix product, and a mistake at sample i adds its step
        times x_i·x_j to those of the samples j behind it, so that only mistakes cost more.
        """
        n, k = signs.shape
        shrink = max(0.0, 1 - self.eta0 * self.alpha) if self.penalty == "l2" else 1.0
        size = BLOCK if shrink == 1 else max(1, min(BLOCK, int(log(1e-3) / log(shrink)) if shrink > 0 else 1))
        powers = (shrink ** np.arange(size + 1)).astype(w.dtype)
        losses, mistakes = np.zeros(k), np.zeros(k, int)
        for start in range(0, n, size):
            part = order[start : start + size]
            x, y, rate = dense(X[part]), signs[part], rates[part]
            m = len(part)
            gram = x @ x.T
            p = powers[:m, None] * (x @ w.T)
            steps = np.zeros((m, k), x.dtype)
            i = 0
            while i < m:
                wrong = y[i:] * (p[i:] + b) <= 0
                first = np.flatnonzero(wrong.any(1))
                if not len(first):
                    break
                i += first[0]
                now = wrong[first[0]]
                losses -= np.where(now, y[i] * (p[i] + b), 0)
                mistakes += now
                step = steps[i] = np.where(now, rate[i] * y[i], 0)
                p[i + 1 :] += np.outer(powers[: m - 1 - i] * gram[i + 1 :, i], step)
                if self.fit_intercept:
                    b += step
                i += 1
            w *= powers[m]
            w += (powers[m - 1 - np.arange(m), None] * steps).T @ x
        return losses, mistakes

    def decision_function(self, X: Any) -> np.ndarray:
        """w·x + b: (N, K), of two classes (N,), above 0 for the second."""
        check_is_fitted(self)
        X = validate_data(self, X, accept_sparse="csr", dtype=self.coef_.dtype, reset=False)
        scores = np.asarray(X @ self.coef_.T) + self.intercept_
        return scores.ravel() if scores.shape[1] == 1 else scores

    def predict(self, X: Any) -> np.ndarray:
        """The class with the largest decision value: (N,)."""
        scores = self.decision_function(X)
        return self.classes_[(scores > 0).astype(np.intp) if scores.ndim == 1 else scores.argmax(1)]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags
