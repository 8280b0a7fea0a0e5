"""Densities: Uniform, Normal, Exponential, Beta."""

from __future__ import annotations

from math import e, inf, log, pi
from typing import Any

import numpy as np

from fastnn import functional as F
from fastnn.autograd import Tensor
from fastnn.distributions.base import Distribution
from fastnn.special import betaln, digamma, xlog1py, xlogy

__all__ = ["Beta", "Exponential", "Normal", "Uniform"]


class Uniform(Distribution):
    """Density 1/(high - low) from low to high, both included (torch excludes high)."""

    low: Any
    high: Any

    def __init__(self, low: Any, high: Any) -> None:
        super().__init__(low=low, high=high)

    def check_all(self):
        low, high = self.of.low.array, self.of.high.array
        self.check("high", high > low, "above low")

    @property
    def width(self) -> Tensor:
        return self.of.high - self.of.low

    def moments(self):
        return (self.of.low + self.of.high) / 2, self.width.square() / 12

    def inside(self, x):
        return (x >= self.of.low.array) & (x <= self.of.high.array)

    def density(self, x):
        return 0 * x - F.log(self.width)

    def noise(self, rng, shape):
        return rng.random(shape)

    def transform(self, noise):
        return self.of.low + self.width * noise

    def entropy_of(self):
        """log(high - low)"""
        return F.log(self.width)

    def divergence(self, other):
        """log (high' - low')/(high - low), infinite if that does not contain this."""
        beyond = (other.of.low.array > self.of.low.array) | (other.of.high.array < self.of.high.array)
        return F.where(beyond, inf, F.log(other.width) - F.log(self.width))


class Normal(Distribution):
    """Density exp(-(x - loc)²/(2 scale²)) / (scale √(2π)); scale > 0."""

    loc: Any
    scale: Any

    def __init__(self, loc: Any, scale: Any) -> None:
        super().__init__(loc=loc, scale=scale)

    def check_all(self):
        self.positive("scale")

    def moments(self):
        return self.of.loc, self.of.scale.square()

    def density(self, x):
        return -0.5 * ((x - self.of.loc) / self.of.scale).square() - F.log(self.of.scale) - 0.5 * log(2 * pi)

    def noise(self, rng, shape):
        return rng.standard_normal(shape)

    def transform(self, noise):
        return self.of.loc + self.of.scale * noise

    def entropy_of(self):
        """log(scale √(2πe))"""
        return F.log(self.of.scale) + 0.5 * log(2 * pi * e)

    def divergence(self, other):
        """(r² - 1)/2 - log r + (loc - loc')²/(2 scale'²), where r = scale/scale'"""
        ratio = self.of.scale / other.of.scale
        distance = (self.of.loc - other.of.loc) / other.of.scale
        return 0.5 * ((ratio - 1) * (ratio + 1) + distance.square()) - F.log(ratio)


class Exponential(Distribution):
    """Density rate exp(-rate x), x >= 0; rate > 0."""

    rate: Any

    def __init__(self, rate: Any) -> None:
        super().__init__(rate=rate)

    def check_all(self):
        self.positive("rate")

    def moments(self):
        return 1 / self.of.rate, 1 / self.of.rate.square()

    def inside(self, x):
        return x >= 0

    def density(self, x):
        return F.log(self.of.rate) - self.of.rate * x

    def noise(self, rng, shape):
        return rng.standard_exponential(shape)

    def transform(self, noise):
        return noise / self.of.rate

    def entropy_of(self):
        """1 - log rate"""
        return 1 - F.log(self.of.rate)

    def divergence(self, other):
        """r - 1 - log r, where r = rate'/rate"""
        ratio = other.of.rate / self.of.rate
        return ratio - 1 - F.log(ratio)


class Beta(Distribution):
    """Density x^(a - 1) (1 - x)^(b - 1) / B(a, b), 0 <= x <= 1; concentration1 is a, concentration0 is b, both > 0."""

    concentration1: Any
    concentration0: Any

    def __init__(self, concentration1: Any, concentration0: Any) -> None:
        super().__init__(concentration1=concentration1, concentration0=concentration0)

    def check_all(self):
        self.positive("concentration1", "concentration0")

    @property
    def ab(self) -> tuple[Tensor, Tensor]:
        return self.of.concentration1, self.of.concentration0

    def moments(self):
        a, b = self.ab
        n = a + b
        return a / n, a / n * (b / n) / (n + 1)

    def inside(self, x):
        return (x >= 0) & (x <= 1)

    def density(self, x):
        a, b = self.ab
        return xlogy(a - 1, x) + xlog1py(b - 1, -x) - betaln(a, b)

    def draw(self, rng, shape):
        a, b = (x.array.astype(np.float64) for x in self.ab)
        return rng.beta(a, b, shape)

    def cross_entropy(self, other: Beta) -> Tensor:
        """E -log q(x), from E log x = digamma(a) - digamma(a + b) and the same of 1 - x"""
        (a, b), (c, d) = self.ab, other.ab
        return betaln(c, d) - (c - 1) * digamma(a) - (d - 1) * digamma(b) + (c + d - 2) * digamma(a + b)

    def entropy_of(self):
        return self.cross_entropy(self)

    def divergence(self, other):
        return self.cross_entropy(other) - self.entropy_of()
