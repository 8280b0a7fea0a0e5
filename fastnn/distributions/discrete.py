"""Counts: Binomial, Bernoulli, Poisson."""

from __future__ import annotations

from math import inf
from typing import Any

import numpy as np

from fastnn import functional as F
from fastnn.autograd import Tensor
from fastnn.distributions.base import Distribution
from fastnn.special import lgamma, log1p, xlog1py, xlogy

__all__ = ["Bernoulli", "Binomial", "Poisson"]


def is_count(x: np.ndarray) -> np.ndarray:
    """Which are 0, 1, 2, …"""
    return (x >= 0) & (x == np.floor(x)) & (x < inf)


class Binomial(Distribution):
    """How many of total_count independent trials succeed: C(n, k) p^k (1 - p)^(n - k), k = 0 … n.

    Either probs, from 0 to 1, or logits = log p/(1 - p), finite, which keep p near 1 exact.
    """

    POINT = 0
    total_count: Any
    probs: Any
    logits: Any

    def __init__(self, total_count: Any = 1, probs: Any = None, logits: Any = None) -> None:
        if (probs is None) == (logits is None):
            came = "neither" if probs is None else "both"
            raise ValueError(f"{self.name}: got {came} of probs and logits, expected one of them")
        super().__init__(total_count=total_count, **({"logits": logits} if probs is None else {"probs": probs}))
        if probs is None:
            self.p, self.q = F.sigmoid(self.of.logits), F.sigmoid(-self.of.logits)
            self.probs = self.out(self.p)
        else:
            self.p, self.q = self.of.probs, 1 - self.of.probs
            self.logits = self.out(F.log(self.p) - log1p(-self.p))

    def check_all(self):
        self.check("total_count", is_count(self.of.total_count.array), "0, 1, 2, …")
        if hasattr(self.of, "probs"):
            p = self.of.probs.array
            self.check("probs", (p >= 0) & (p <= 1), "from 0 to 1")

    def log_likelihood(self, successes: Tensor, failures: Tensor) -> Tensor:
        """successes log p + failures log(1 - p), where 0 log 0 = 0"""
        if hasattr(self.of, "probs"):
            return xlogy(successes, self.p) + xlog1py(failures, -self.p)
        return -successes * softplus(-self.of.logits) - failures * softplus(self.of.logits)

    def moments(self):
        n = self.of.total_count
        return n * self.p, n * self.p * self.q

    def inside(self, x):
        return is_count(x) & (x <= self.of.total_count.array)

    def density(self, x):
        n = self.of.total_count
        ways = lgamma(n + 1) - lgamma(x + 1) - lgamma(n - x + 1)
        return ways + self.log_likelihood(x, n - x)

    def draw(self, rng, shape):
        return rng.binomial(self.of.total_count.array.astype(np.int64), self.p.array.astype(np.float64), shape)

    def divergence(self, other):
        """n (p log p/p' + (1 - p) log (1 - p)/(1 - p')); infinite for n > n', unless p = 0."""
        n, m = self.of.total_count, other.of.total_count
        nothing = (self.p.array == 0) | (n.array == 0)  # only k = 0 is possible, of which other's n is enough to know
        if np.any((n.array < m.array) & ~nothing):
            raise NotImplementedError(
                f"kl_divergence: total_count is {n.array} and {m.array}, expected not less than that of the second; "
                "no closed form is known"
            )
        one = F.where(nothing, 0, self.p), F.where(nothing, 1, self.q)
        own = F.where(nothing, 0, self.log_likelihood(self.p, self.q))
        trials = F.where(nothing, m, n)
        each = own - other.log_likelihood(*one)
        finite = F.where(trials.array == 0, 0, trials * F.where(trials.array == 0, 0, each))
        return F.where((n.array > m.array) & ~nothing, inf, finite)


def softplus(x: Tensor) -> Tensor:
    """log(1 + exp x), exact to rounding: behind 40, exp(-x) is less than a quarter of a rounding of x."""
    return F.softplus(x, threshold=40.0)


class Bernoulli(Binomial):
    """One trial: 1 with probability p, else 0. Either probs or logits, as of Binomial."""

    FIXED = ("total_count",)

    def __init__(self, probs: Any = None, logits: Any = None) -> None:
        super().__init__(1, probs, logits)

    def entropy_of(self):
        """-p log p - (1 - p) log(1 - p)"""
        return -self.log_likelihood(self.p, self.q)


class Poisson(Distribution):
    """How many of rare independent events happen: rate^k exp(-rate) / k!, k = 0, 1, …; rate >= 0."""

    POINT = 0
    rate: Any

    def __init__(self, rate: Any) -> None:
        super().__init__(rate=rate)

    def check_all(self):
        self.check("rate", self.of.rate.array >= 0, "at least 0")

    def moments(self):
        return self.of.rate, self.of.rate

    def inside(self, x):
        return is_count(x)

    def density(self, x):
        return xlogy(x, self.of.rate) - self.of.rate - lgamma(x + 1)

    def draw(self, rng, shape):
        return rng.poisson(self.of.rate.array.astype(np.float64), shape)

    def divergence(self, other):
        """rate log rate/rate' - rate + rate'"""
        a, b = self.of.rate, other.of.rate
        return xlogy(a, a) - xlogy(a, b) - a + b
