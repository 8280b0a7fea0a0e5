"""A Helmholtz machine learns to dream handwritten digits, by wake-sleep.

Four fifths of the 1797 digits in scikit-learn's package, 8 × 8 pixels made black or white, are for training; of the
others the log-likelihood is estimated, by importance sampling. The picture shows dreams and how the likelihood rose.
"""

from __future__ import annotations

import numpy as np

import fastnn
from fastnn.data import digits
from fastnn.demos import Result
from fastnn.models import HelmholtzMachine

INK = 8
"""Of 16: a pixel is black from here on."""

MIXTURES = 5, 10, 20, 40, 80, 160
"""Sizes of mixtures, of which the best on the held-out digits is the baseline."""


def run(*, quick: bool = False, seed: int = 0, epochs: int | None = None, samples: int = 1000) -> Result:
    """epochs: passes over the images (default: 1000, quick: 40); samples: for each image's likelihood, at the end."""
    if epochs is None:
        epochs = 40 if quick else 1000
    x = (digits()[0].reshape(-1, 64) >= INK).astype(np.float32)
    held_out = np.random.default_rng(seed).permutation(len(x)) < len(x) // 5
    train, test = x[~held_out], x[held_out]
    pixels = mixture_nats(train, test, 1, seed)
    mixtures = {size: mixture_nats(train, test, size, seed) for size in (MIXTURES[1:2] if quick else MIXTURES)}
    size = min(mixtures, key=mixtures.__getitem__)
    print(f"held out, in nats: independent pixels {pixels:.2f}, mixture of {size} {mixtures[size]:.2f}")

    fastnn.manual_seed(seed)
    model = HelmholtzMachine(64, 64, 32, 16)
    curve = []

    def after_epoch(epoch: int) -> None:
        if epoch % (epochs // 10 or 1) == 0:
            rng = np.random.default_rng(seed)
            seen, new = (-model.log_likelihood(part, rng).mean() for part in (train, test))
            curve.append((epoch, seen, new))
            print(f"epoch {epoch:{len(str(epochs))}d}/{epochs}  training {seen:.2f}  held out {new:.2f}", flush=True)

    model.fit(train, epochs=epochs, lr=2e-2, batch_size=16, seed=seed, after_epoch=after_epoch)
    rng = np.random.default_rng(seed)
    nats = -model.log_likelihood(test, rng, 100 if quick else samples).mean()
    dreams = model.sample(60, rng)

    def draw(figure):
        left, middle, right = figure.subfigures(1, 3, width_ratios=[6, 5, 5])
        axes = left.subplots()
        epoch, seen, new = zip(*curve, strict=True)
        axes.plot(epoch, seen, label="seen in training")
        axes.plot(epoch, new, label="held out")
        axes.axhline(pixels, color="0.6", linestyle=":", label="held out, independent pixels")
        axes.axhline(mixtures[size], color="0.4", linestyle="--", label=f"held out, mixture of {size}")
        axes.set(xlabel="epoch", ylabel="-log p, nats an image")
        axes.grid(alpha=0.3)
        axes.legend()
        for part, title, images in ((middle, "held-out digits", test), (right, "dreams", dreams)):
            part.suptitle(title)
            for axes, image in zip(part.subplots(10, 6).flat, images, strict=False):
                axes.axis("off")
                axes.imshow(image.reshape(8, 8), cmap="gray_r", vmin=0, vmax=1)

    text = (
        f"{nats:.2f} nats an image, on {len(test)} digits held out, after {epochs} epochs over {len(train)}; "
        f"independent pixels {pixels:.2f}, the best mixture of independent pixels, of {size} components, "
        f"{mixtures[size]:.2f}."
    )
    return Result(text, {"nats": nats, "pixels": pixels, "mixture": mixtures[size]}, draw)


def mixture_nats(train: np.ndarray, test: np.ndarray, size: int, seed: int, steps: int = 100) -> float:
    """-log p of a test image, the mean, by a mixture of so many products of Bernoulli distributions of the pixels,
    fitted by expectation-maximisation with one image's worth of grey added to each component."""
    share = np.random.default_rng(seed).dirichlet(np.ones(size), len(train))
    for _ in range(steps if size > 1 else 1):
        count = share.sum(0)
        p = (share.T @ train + 0.5) / (count[:, None] + 1)
        prior = (count + 1) / (count + 1).sum()
        share = np.exp(log_joint(train, p, prior))
        share /= share.sum(1, keepdims=True)
    return float(-np.logaddexp.reduce(log_joint(test, p, prior), 1).mean())


def log_joint(x: np.ndarray, p: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """log probability of image and component: (N, size)."""
    return x @ np.log(p).T + (1 - x) @ np.log1p(-p).T + np.log(prior)
