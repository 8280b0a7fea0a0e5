"""Samples and targets of classifiers and regressors as networks take them."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.utils.multiclass import check_classification_targets, type_of_target

__all__ = ["Labels", "dense", "rows"]

CHUNK = 4096
"""Rows of which outputs are computed at once: enough for the kernels, and memory that does not grow with the data."""


def dense(X: Any) -> np.ndarray:
    """A C-contiguous array of samples, which may be sparse."""
    return np.ascontiguousarray(X.toarray() if issparse(X) else X)


def rows(X: Any) -> Any:
    """Samples in dense parts of CHUNK rows; at least one part."""
    for start in range(0, max(X.shape[0], 1), CHUNK):
        yield dense(X[start : start + CHUNK])


class Labels:
    """Classes and what a network learns in their place.

    classes: (K,), sorted; of multilabel targets, indicators (N, K), 0 to K - 1. kind: "binary", "multiclass" or
    "multilabel".
    """

    def __init__(self, op: str, y: Any, classes: Any = None) -> None:
        """Of the targets y, or, for a first part of them, of all classes that will come."""
        check_classification_targets(y)
        multilabel = type_of_target(y, input_name="y").startswith("multilabel")
        if multilabel:
            self.classes = np.arange(y.shape[1])
        else:
            self.classes = np.unique(y if classes is None else classes)
        self.kind = "multilabel" if multilabel else "binary" if len(self.classes) <= 2 else "multiclass"
        self.op = op

    def numbers(self, y: Any) -> np.ndarray:
        """Multilabel: the indicators (N, K); else the number of each sample's class, (N,). ValueError for others."""
        check_classification_targets(y)
        multilabel = type_of_target(y, input_name="y").startswith("multilabel")
        y = dense(y) if issparse(y) else np.asarray(y)
        if multilabel != (self.kind == "multilabel") or (multilabel and y.shape[1] != len(self.classes)):
            raise ValueError(f"{self.op}: y has shape {y.shape}, expected {self.kind} targets as in the first fit")
        if multilabel:
            return y
        y = y.reshape(len(y))
        found = np.searchsorted(self.classes, y).clip(max=len(self.classes) - 1)
        unknown = np.unique(y[self.classes[found] != y])
        if len(unknown):
            raise ValueError(f"{self.op}: `y` has classes not in `self.classes_`: {unknown}, expected {self.classes}")
        return found

    def of(self, numbers: np.ndarray) -> np.ndarray:
        """What `numbers` was made of; if there is only one class, that."""
        if self.kind == "multilabel":
            return numbers.astype(np.int64)
        return self.classes[numbers.clip(max=len(self.classes) - 1)]
