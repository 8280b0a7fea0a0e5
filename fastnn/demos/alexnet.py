"""AlexNet, a quarter as wide and for small images, learns to tell them.

The picture shows the learning curve, what the filters of the first layer became, and the maps they make of an image.
"""

from __future__ import annotations

import numpy as np

import fastnn
from fastnn import models, nn
from fastnn.demos import Result
from fastnn.demos._images import draw_curves, draw_maps, load, size_of, train_classifier


def run(
    *, quick: bool = False, seed: int = 0, data: str = "auto", epochs: int | None = None, width: float = 0.25
) -> Result:
    """data: mnist, fashion (Fashion-MNIST), or auto, that if it is installed. epochs: passes over the images (default:
    10, quick: 2). width: channels in multiples of the paper's."""
    if epochs is None:
        epochs = 2 if quick else 10
    images = load("alexnet", data, quick=quick, size=14 if quick else 28)
    fastnn.manual_seed(seed)
    model = models.alexnet(10, in_channels=1, width=width, input_size=images.size)
    trained = train_classifier(model, images, epochs=epochs, seed=seed, lr=2e-3)
    first = model.eval().features[0]
    samples = [int(np.flatnonzero(images.held_out_y == i)[0]) for i in range(0, 10, 2)]
    maps = nn.Sequential(*model.features[:2])(images.held_out_x[samples])

    def draw(figure):
        left, right = figure.subfigures(1, 2)
        draw_curves(left.subplots(), trained.history)
        columns = 8
        order = np.argsort([-np.std(w) for w in first.weight.data])[:columns]
        rows = {"filter": first.weight.data[order, 0]}
        rows |= {images.classes[2 * i]: picture[order] for i, picture in enumerate(maps)}
        right.suptitle("filters of the first layer, and what they see")
        draw_maps(right, rows, columns)

    full = size_of(nn.utils.skip_init(models.alexnet))
    text = f"{trained.text(images)} {size_of(model):,} parameters; the full network has {full:,}."
    return Result(text, {"accuracy": trained.accuracy, "parameters": full}, draw)
