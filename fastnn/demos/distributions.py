"""Seven distributions: samples against densities, their moments within error bars, and two fitted to real data.

Of n samples the mean is within a few σ/√n of the true one, and the unbiased variance within a few of its own standard
error, σ² √((k + 2 + 2/(n - 1))/n), where k is the excess kurtosis. The real data is the ink of scikit-learn's
handwritten digits, to which Poisson and Normal are fitted by maximum likelihood; a fifth is held out.
"""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np

import fastnn
from fastnn.data import digits, every_fifth
from fastnn.demos import Result
from fastnn.distributions import (
    Bernoulli,
    Beta,
    Binomial,
    Distribution,
    Exponential,
    Normal,
    Poisson,
    Uniform,
    sample_mean,
    sample_variance,
)

FAMILIES = [
    Bernoulli(0.3), Binomial(20, 0.3), Poisson(4.0), Uniform(-1.0, 2.0), Normal(1.0, 2.0), Exponential(0.5),
    Beta(2.0, 5.0),
]  # fmt: skip

COUNTS = Binomial, Poisson
"""Families of integers, of which Bernoulli is one."""


def kurtosis(p: Any) -> float:
    """Excess kurtosis, scipy's."""
    from scipy import stats

    shapes = {
        "Bernoulli": lambda: stats.bernoulli(p.probs), "Binomial": lambda: stats.binom(p.total_count, p.probs),
        "Poisson": lambda: stats.poisson(p.rate), "Uniform": stats.uniform, "Normal": stats.norm,
        "Exponential": stats.expon, "Beta": lambda: stats.beta(p.concentration1, p.concentration0),
    }  # fmt: skip
    return float(shapes[p.name]().stats(moments="k"))


def run(*, quick: bool = False, seed: int = 0, samples: int | None = None) -> Result:
    """samples: of each distribution (default: 1000000, quick: 10000)."""
    if samples is None:
        samples = 10_000 if quick else 1_000_000
    fastnn.manual_seed(seed)
    drawn, worst = [], 0.0
    print(f"{'':12}{'mean':>10}{'of samples':>12}{'errors':>8}{'variance':>11}{'of samples':>12}{'errors':>8}")
    for p in FAMILIES:
        x = p.sample(samples)
        drawn.append(x)
        mean, variance = float(sample_mean(x)), float(sample_variance(x))
        off_mean = (mean - p.mean) / (p.stddev / sqrt(samples))
        off_variance = (variance - p.variance) / (p.variance * sqrt((kurtosis(p) + 2 + 2 / (samples - 1)) / samples))
        worst = max(worst, abs(off_mean), abs(off_variance))
        print(
            f"{p.name:12}{p.mean:10.4f}{mean:12.4f}{off_mean:+8.2f}{p.variance:11.4f}{variance:12.4f}{off_variance:+8.2f}"
        )
    images, classes = digits()
    ink, held_out = images.reshape(-1, 64).sum(1).astype(np.float64), every_fifth(classes)
    seen, test = ink[~held_out], ink[held_out]
    fits = {"Poisson": Poisson(seen.mean()), "Normal": Normal(seen.mean(), seen.std())}
    likelihood = {name: float(p.log_prob(test).mean()) for name, p in fits.items()}
    print(", ".join(f"ink by {name}: {found:.2f} nats a digit held out" for name, found in likelihood.items()))

    def draw(figure):
        axes = figure.subplots(2, 4).flat
        for p, x in zip(FAMILIES, drawn, strict=True):
            panel(next(axes), p, x)
        last = next(axes)
        grid = np.arange(ink.min(), ink.max() + 1)
        last.hist(ink, 40, density=True, color="lightsteelblue")
        for name, p in fits.items():
            last.plot(grid, np.exp(p.log_prob(grid)), label=name)
        last.set_title("ink of a digit", fontsize=10)
        last.legend(fontsize=8)

    text = (
        f"Means and variances of {samples} samples of seven distributions are at most {worst:.1f} standard errors off. "
        f"Log-likelihood of the ink of a digit, {len(test)} held out: {likelihood['Normal']:.2f} by Normal, "
        f"{likelihood['Poisson']:.2f} by Poisson."
    )
    return Result(text, {"errors": worst, **likelihood}, draw)


def panel(axes, p: Distribution, x: np.ndarray) -> None:
    """A histogram of samples, and the density or probabilities."""
    if isinstance(p, COUNTS):
        values, count = np.unique(x, return_counts=True)
        axes.bar(values, count / len(x), color="lightsteelblue", label="samples")
        axes.plot(values, np.exp(p.log_prob(values)), "o", color="C1", markersize=4, label="probability")
    else:
        axes.hist(x, 60, density=True, color="lightsteelblue", label="samples")
        grid = np.linspace(x.min(), x.max(), 400)
        axes.plot(grid, np.exp(p.log_prob(grid)), color="C1", label="density")
    axes.set_title(str(p), fontsize=8)
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=7)
