"""Naive Bayes of categorical features with scikit-learn's interface, over the counts of `fastnn.models`."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from scipy.special import logsumexp
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from fastnn.models.naive_bayes import counts, log_probabilities
from fastnn.sklearn.options import boolean, check, real
from fastnn.sklearn.targets import Labels

__all__ = ["CategoricalNB"]

RULES = {"alpha": real(0), "force_alpha": boolean, "fit_prior": boolean}
LEAST = 1e-10
"""The smallest alpha without force_alpha."""


class CategoricalNB(ClassifierMixin, BaseEstimator):
    """Naive Bayes of categorical features, as sklearn.naive_bayes.CategoricalNB: X (N, D) of integers from 0 on.

    alpha: smoothing, without force_alpha at least 1e-10. fit_prior: classes are as likely as in the samples, else all
    equally. class_prior: how likely, instead, (K,). min_categories: of all features or of each, at least.

    After fit: classes_, class_count_, class_log_prior_, and of each feature n_categories_, category_count_ and
    feature_log_prob_, (K, n_categories_[i]).
    """

    def __init__(self, *, alpha=1.0, force_alpha=True, fit_prior=True, class_prior=None, min_categories=None):
        self.alpha = alpha
        self.force_alpha = force_alpha
        self.fit_prior = fit_prior
        self.class_prior = class_prior
        self.min_categories = min_categories

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> CategoricalNB:
        """Count anew. sample_weight: what each sample counts, None for 1."""
        return self._count(X, y, sample_weight, None, fresh=True)

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> CategoricalNB:
        """Count further samples, which may have categories that are new. classes: all that will come, asked for in the
        first call."""
        fresh = not hasattr(self, "classes_")
        if fresh and classes is None:
            raise ValueError("classes must be passed on the first call to partial_fit.")
        if not fresh and classes is not None and not np.array_equal(self.classes_, np.unique(classes)):
            raise ValueError(f"`classes={classes!r}` is not the same as on last call to partial_fit, {self.classes_!r}")
        return self._count(X, y, sample_weight, classes, fresh)

    def _count(self, X: Any, y: Any, sample_weight: Any, classes: Any, fresh: bool) -> CategoricalNB:
        check(self, RULES)
        X, y = validate_data(self, X, y, dtype="int", reset=fresh)
        not_negative(X)
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, X)
        if fresh:
            self._labels = Labels("CategoricalNB", y, classes)
            self.classes_ = self._labels.classes
            self.class_count_ = np.zeros(len(self.classes_))
            self.category_count_ = [np.zeros((len(self.classes_), 0)) for _ in range(X.shape[1])]
        numbers = self._labels.numbers(y)
        self.class_count_ = self.class_count_ + np.bincount(numbers, sample_weight, minlength=len(self.classes_))
        before = [count.shape[1] for count in self.category_count_]
        self.n_categories_ = np.maximum(self._categories(X), before)
        for i, c in enumerate(self.n_categories_):
            more = counts(numbers, X[:, i], len(self.classes_), c, sample_weight)
            more[:, : before[i]] = more[:, : before[i]] + self.category_count_[i]
            self.category_count_[i] = more.astype(np.float64)
        alpha = self.alpha
        if alpha < LEAST and not self.force_alpha:
            warnings.warn(
                f"alpha too small: it is {alpha}, and {LEAST} is used (force_alpha=True keeps it)", stacklevel=3
            )
            alpha = LEAST
        self.feature_log_prob_ = [log_probabilities(count, alpha) for count in self.category_count_]
        self.class_log_prior_ = self._prior()
        return self

    def _categories(self, X: np.ndarray) -> np.ndarray:
        """The categories of each feature, (D,)."""
        seen = X.max(0) + 1
        if self.min_categories is None:
            return seen
        least = np.asarray(self.min_categories)
        if least.dtype.kind not in "iu" or least.shape not in ((), seen.shape):
            raise ValueError(
                f"CategoricalNB: min_categories is {self.min_categories!r}, expected an integer or {len(seen)} of them"
            )
        return np.maximum(seen, least)

    def _prior(self) -> np.ndarray:
        """log P(y = k): (K,)"""
        k = len(self.classes_)
        if self.class_prior is not None:
            prior = np.asarray(self.class_prior, np.float64)
            if prior.shape != (k,):
                raise ValueError(f"CategoricalNB: class_prior has shape {prior.shape}, expected ({k},), of each class")
            with np.errstate(divide="ignore"):
                return np.log(prior)
        if not self.fit_prior:
            return np.full(k, -np.log(k))
        with np.errstate(divide="ignore"):  # of partial_fit: a class without a sample yet
            return np.log(self.class_count_) - np.log(self.class_count_.sum())

    def predict_joint_log_proba(self, X: Any) -> np.ndarray:
        """log P(y = k) + Σ_i log P(x_i | y = k): (N, K). ValueError for a category that fit did not count."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype="int", reset=False)
        not_negative(X)
        total = np.tile(self.class_log_prior_, (len(X), 1))
        for i, log_prob in enumerate(self.feature_log_prob_):
            if X[:, i].max(initial=0) >= log_prob.shape[1]:
                raise ValueError(
                    f"CategoricalNB: feature {i} has category {X[:, i].max()}, expected less than {log_prob.shape[1]} "
                    "(min_categories)"
                )
            total += log_prob[:, X[:, i]].T
        return total

    def predict(self, X: Any) -> np.ndarray:
        """The most probable class, the first of equal ones: (N,)."""
        joint = self.predict_joint_log_proba(X)
        return self.classes_[joint.argmax(1)]

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """log P(y = k | x): (N, K)"""
        joint = self.predict_joint_log_proba(X)
        return joint - logsumexp(joint, axis=1, keepdims=True)

    def predict_proba(self, X: Any) -> np.ndarray:
        """P(y = k | x): (N, K)"""
        return np.exp(self.predict_log_proba(X))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.categorical = True
        tags.input_tags.positive_only = True
        return tags


def not_negative(X: np.ndarray) -> None:
    """ValueError unless categories are numbered from 0 on."""
    if X.size and X.min() < 0:
        raise ValueError(f"Negative values in data passed to CategoricalNB (input X): {X.min()}, expected none below 0")
