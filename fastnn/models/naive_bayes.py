"""Naive Bayes (Maron 1961, "Automatic indexing: an experimental inquiry"): features are independent within a class."""

from __future__ import annotations

import numpy as np

from fastnn.descriptors import is_int, number

__all__ = ["CategoricalNB", "counts", "log_probabilities"]


def counts(
    k: np.ndarray, column: np.ndarray, classes: int, categories: int, weights: np.ndarray | None = None
) -> np.ndarray:
    """How many samples of each class (their numbers k) have each category of a feature, or what they weigh:
    (classes, categories)."""
    return np.bincount(k * categories + column, weights, minlength=classes * categories).reshape(-1, categories)


def log_probabilities(count: np.ndarray, alpha: float) -> np.ndarray:
    """log P(x_i = c | y = k) of counts (classes, categories), smoothed by alpha; log 0 = -inf is what alpha = 0 says of
    the unseen."""
    with np.errstate(divide="ignore"):
        return np.log(count + alpha) - np.log(count.sum(1, keepdims=True) + alpha * count.shape[1])


class CategoricalNB:
    """Naive Bayes of categorical features: (N, D) integers from 0 on -> one of K classes.

    P(y = k) = N_k / N, and P(x_i = c | y = k) = (N_kic + α) / (N_k + α C_i), where N_kic of the N_k samples of class k
    have category c of C_i in feature i. This is maximum likelihood for α = 0; what was never seen then is impossible.

    alpha: α >= 0, Laplace's smoothing for 1. categories: C_i, at least, of all features or of each; None counts those
    seen in `fit`. After `fit`: classes (K,), class_count (K,), class_log_prior (K,), and of each feature category_count
    and feature_log_prob, (K, C_i).
    """

    classes: np.ndarray
    class_count: np.ndarray
    class_log_prior: np.ndarray
    category_count: list[np.ndarray]
    feature_log_prob: list[np.ndarray]

    def __init__(self, alpha: float = 1.0, categories: int | list[int] | np.ndarray | None = None) -> None:
        if not 0 <= number(alpha, "CategoricalNB", "alpha") < np.inf:
            raise ValueError(f"CategoricalNB: alpha is {alpha}, expected at least 0")
        self.alpha, self.categories = float(alpha), categories

    def fit(self, x: np.ndarray, y: np.ndarray) -> CategoricalNB:
        """Count. x: (N, D) integers, y: (N,) classes, of anything that can be sorted. Returns itself."""
        x, y = self.checked(x), np.asarray(y)
        if y.shape != x.shape[:1] or not len(y):
            raise ValueError(f"CategoricalNB: x has shape {x.shape} and y {y.shape}, expected (N, D) and (N,), N >= 1")
        self.classes, k = np.unique(y, return_inverse=True)
        self.class_count = np.bincount(k)
        self.class_log_prior = np.log(self.class_count) - np.log(len(y))
        self.category_count = []
        self.feature_log_prob = []
        for column, c in zip(x.T, self.category_numbers(x), strict=True):
            count = counts(k, column, len(self.classes), c)
            self.category_count.append(count)
            self.feature_log_prob.append(log_probabilities(count, self.alpha))
        return self

    def checked(self, x: np.ndarray) -> np.ndarray:
        """Samples (N, D) of integers that are not negative."""
        x = np.asarray(x)
        if x.dtype.kind not in "iub":
            raise TypeError(f"CategoricalNB: x has dtype {x.dtype}, expected integers")
        if x.ndim != 2:
            raise ValueError(f"CategoricalNB: x has shape {x.shape}, expected (samples, features)")
        if x.size and x.min() < 0:
            raise ValueError(f"CategoricalNB: x has {x.min()}, expected categories from 0 on")
        return x.astype(np.int64)

    def category_numbers(self, x: np.ndarray) -> np.ndarray:
        """C_i of each feature: (D,)."""
        seen = x.max(0) + 1
        if self.categories is None:
            return seen
        given = np.asarray(self.categories)
        if given.dtype.kind not in "iu" or not (is_int(self.categories) or given.shape == seen.shape):
            raise ValueError(f"CategoricalNB: categories is {self.categories!r}, expected an integer or {len(seen)}")
        return np.maximum(seen, given)

    def joint_log_prob(self, x: np.ndarray) -> np.ndarray:
        """log P(y = k) + Σ_i log P(x_i | y = k): (N, K). ValueError for a category that `fit` did not count."""
        x = self.checked(x)
        if x.shape[1] != len(self.feature_log_prob):
            raise ValueError(f"CategoricalNB: x has {x.shape[1]} features, expected {len(self.feature_log_prob)}")
        total = np.tile(self.class_log_prior, (len(x), 1))
        for i, (column, log_prob) in enumerate(zip(x.T, self.feature_log_prob, strict=True)):
            c = log_prob.shape[1]
            if column.max(initial=0) >= c:
                raise ValueError(f"CategoricalNB: feature {i} has category {column.max()}, expected less than {c}")
            total += log_prob[:, column].T
        return total

    def impossible(self, x: np.ndarray) -> np.ndarray:
        """Which samples have probability 0 in every class, which only happens for alpha = 0: (N,) of bools."""
        return np.asarray(np.isneginf(self.joint_log_prob(x)).all(1))

    def predict_log_proba(self, x: np.ndarray) -> np.ndarray:
        """log P(y = k | x): (N, K); -inf for classes that are impossible, and NaN for 0/0, where all are."""
        joint = self.joint_log_prob(x)
        largest = joint.max(1, keepdims=True)
        with np.errstate(invalid="ignore"):  # -inf - -inf
            shifted = joint - largest
            return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))

    def predict(self, x: np.ndarray) -> np.ndarray:
        """The most probable class, the first of equal ones: (N,). What is impossible in every class says nothing of
        them, and gets the most frequent one."""
        joint = self.joint_log_prob(x)
        joint[np.isneginf(joint).all(1)] = self.class_log_prior
        return self.classes[joint.argmax(1)]
