"""Images of several handwritten digits in a row, for demonstrations that tell or ask about them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from fastnn import Tensor, data, nn, optim, train

__all__ = ["NUMBERS", "SIDE", "Pool", "compose", "distort", "learn", "split"]

NUMBERS = "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"
SIDE = 8
"""Pixels of a digit."""


class Pool:
    """Digits to be drawn by their classes: images (N, 8, 8) from 0 to 1, labels (N,)."""

    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        order = np.argsort(labels, kind="stable")
        self.images = images[order]
        self.counts = np.bincount(labels, minlength=len(NUMBERS))
        self.first = np.cumsum(self.counts) - self.counts

    def draw(self, rng: np.random.Generator, classes: np.ndarray) -> np.ndarray:
        """Images (*, 8, 8) of classes (*), each of its class as likely as another."""
        return self.images[self.first[classes] + rng.integers(0, self.counts[classes])]


def split() -> tuple[Pool, Pool]:
    """scikit-learn's digits: four fifths of each class to train on, and every fifth, which is held out."""
    images, labels = data.digits()
    pixels = images[:, 0].astype(np.float32) / 16
    held_out = data.every_fifth(labels)
    return Pool(pixels[~held_out], labels[~held_out]), Pool(pixels[held_out], labels[held_out])


def distort(rng: np.random.Generator, images: np.ndarray) -> np.ndarray:
    """Images (N, 8, 8), each turned by up to 0.2 rad, scaled by up to 15 % in each direction, slanted and shifted by
    up to half a pixel, at random: bilinear, zeros outside."""
    n = len(images)
    angle = rng.uniform(-0.2, 0.2, n)
    slant = rng.uniform(-0.15, 0.15, n)
    rows, columns = rng.uniform(0.87, 1.15, (2, n))
    cos, sin = np.cos(angle), np.sin(angle)
    matrix = np.array([[rows * cos, -rows * sin], [columns * (sin + slant * cos), columns * (cos - slant * sin)]])
    centre = (SIDE - 1) / 2
    grid = np.indices((SIDE, SIDE)).reshape(2, -1) - centre
    place = np.einsum("ijn,jp->inp", matrix, grid) + centre + rng.uniform(-0.5, 0.5, (2, n, 1))
    place = np.clip(place + 1, 0, SIDE + 1)  # in the image with a frame of zeros
    low = np.minimum(place.astype(int), SIDE)
    (y, x), (b, d) = low, (place - low).astype(np.float32)
    framed, i = np.pad(images, ((0, 0), (1, 1), (1, 1))), np.arange(n)[:, None]
    above, below = ((1 - d) * framed[i, y + k, x] + d * framed[i, y + k, x + 1] for k in (0, 1))
    return ((1 - b) * above + b * below).reshape(n, SIDE, SIDE)


def compose(
    rng: np.random.Generator, pool: Pool, classes: np.ndarray, size: tuple[int, int], *, augment: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, 1, *size) of digits in a row, and where they are, (N, K, 2): their upper left corners.

    classes: (N, K), from left to right, -1 behind the last. Digits do not overlap, and all places are equally likely;
    each digit has a height of its own. augment: they are distorted.
    """
    n, k = classes.shape
    there = classes >= 0
    free = size[1] - SIDE * there.sum(1, keepdims=True)
    if free.min() < 0 or size[0] < SIDE:
        raise ValueError(f"compose: size is {size}, expected room for {there.sum(1).max()} digits of {SIDE} x {SIDE}")
    gaps = np.sort(np.where(there, rng.random((n, k)), 1), 1)
    left = np.where(there, (gaps * (free + 1)).astype(int) + SIDE * np.arange(k), 0)
    top = rng.integers(0, size[0] - SIDE + 1, (n, k))
    digits = pool.draw(rng, classes[there])
    if augment:
        digits = distort(rng, digits)
    images = np.zeros((n, 1, *size), np.float32)
    y, x = (corner[there][:, None] + np.arange(SIDE) for corner in (top, left))
    images[np.nonzero(there)[0][:, None, None], 0, y[:, :, None], x[:, None]] = digits
    return images, np.stack([top, left], 2)


def learn(
    model: nn.Module,
    batches: Iterable[Any],
    loss_of: Callable[[Any], Tensor],
    steps: int,
    rate: float,
    test: Callable[[], float],
    *,
    weight_decay: float = 0.0,
) -> tuple[list[int], list[float]]:
    """Train with AdamW, the learning rate rising to `rate` and falling once, on so many batches, of which loss_of makes
    the loss. Ten times on the way a line is printed and what is held out tested: those steps, and what `test` found."""
    optimizer = optim.AdamW(model.parameters(), rate, weight_decay=weight_decay)
    schedule = optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.2)
    tests = [*range(steps, 0, -max(steps // 10, 1))][::-1]
    losses: list[float] = []
    curve: list[float] = []
    iterator = iter(batches)
    for step in train.track(range(1, steps + 1), "composites", lambda: {"loss": losses[-1]}):
        loss = loss_of(next(iterator))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if step in tests:
            model.eval()
            curve.append(test())
            model.train()
            print(f"  {step} steps: loss {np.mean(losses[-20:]):.4f}, held out {curve[-1]:.1%}", flush=True)
    model.eval()
    return tests, curve
