"""What the tests of fastnn.sklearn share: data, and a model whose name is the same in every process."""

import numpy as np
import pytest

pytest.importorskip("sklearn")

import fastnn.nn as nn

# Tests stop long before convergence, and say so here once.
FEW_EPOCHS = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


class Small(nn.Module):
    """A hidden layer, for samples of any shape."""

    def __init__(self, n_features, n_outputs, hidden=20):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(n_features, hidden), nn.ReLU(), nn.Linear(hidden, n_outputs)
        )

    def forward(self, x):
        return self.layers(x)


class Images(nn.Module):
    """(N, 1, H, W) -> (N, n_outputs), with all that a run's random numbers are used for."""

    def __init__(self, n_outputs):
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.dropout = nn.Dropout(0.1)
        self.pool = nn.AdaptiveAvgPool2d((4, 3))
        self.last = nn.Linear(96, n_outputs)

    def forward(self, x):
        return self.last(self.dropout(self.pool(self.norm(self.conv(x)).relu()).flatten(1)))


def problem(kind, n=230, dtype=np.float64):
    """(X, y) that a small network learns: "multiclass", "binary", "multilabel", "one" or "several" numbers."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, 12))
    y = {
        "multiclass": np.array(["a", "b", "c"])[(X @ rng.standard_normal((12, 3))).argmax(1)],
        "binary": np.where(X[:, 0] > 0, "yes", "no"),
        "multilabel": (X[:, :4] > 0.2).astype(int),
        "one": X[:, 0] ** 2 + X[:, 1],
        "several": X[:, :3] ** 2,
    }[kind]
    return X.astype(dtype), y
