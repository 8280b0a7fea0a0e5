"""A small problem and a network with all kinds of state, for the tests of fastnn.train."""

import numpy as np

import fastnn
import fastnn.nn as nn
from fastnn import optim


def problem(samples=50, seed=0):
    """x (N, 6) float32 and classes y (N,) of 3."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((samples, 6)).astype(np.float32)
    return x, (x @ rng.standard_normal((6, 3))).argmax(1)


def network(seed=1):
    """Weights, running statistics, and dropout, which draws random numbers."""
    fastnn.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 10), nn.BatchNorm1d(10), nn.ReLU(), nn.Dropout(0.2), nn.Linear(10, 3))


def adam(model, lr=0.02):
    return optim.Adam(model.parameters(), lr=lr)


def equal(a, b):
    """Are two state_dicts the same, bit for bit?"""
    return a.keys() == b.keys() and all(a[n].dtype == b[n].dtype and a[n].tobytes() == b[n].tobytes() for n in a)


def timeless(history):
    """A History without what differs between runs."""
    stored = history.to_dict()
    return {**stored, "values": {name: x for name, x in stored["values"].items() if name != "seconds"}}
