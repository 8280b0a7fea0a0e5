"""VGG-16 with batch norm, an eighth as wide and for small images, learns to tell them.

The picture shows the learning curve, and what each stage of 3 × 3 convolutions makes of an image: as maps shrink, each
pixel sees more.
"""

from __future__ import annotations

import numpy as np

import fastnn
from fastnn import models, nn
from fastnn.demos import Result
from fastnn.demos._images import draw_curves, draw_maps, load, size_of, strongest, train_classifier


def run(
    *, quick: bool = False, seed: int = 0, data: str = "auto", epochs: int | None = None, width: float = 0.125
) -> Result:
    """data: mnist, fashion (Fashion-MNIST), or auto, that if it is installed. epochs: passes over the images (default:
    12, quick: 2). width: channels in multiples of the paper's."""
    if epochs is None:
        epochs = 2 if quick else 12
    images = load("vgg", data, quick=quick, size=14 if quick else 28)
    fastnn.manual_seed(seed)
    model = models.vgg16_bn(10, in_channels=1, width=width, input_size=images.size)
    trained = train_classifier(model, images, epochs=epochs, seed=seed)
    stages = stages_of(model.eval(), images.held_out_x[:1])

    def draw(figure):
        left, right = figure.subfigures(1, 2)
        draw_curves(left.subplots(), trained.history)
        right.suptitle(f"maps of an image held out ({images.classes[images.held_out_y[0]]}), strongest first")
        draw_maps(right, stages, 8)

    full = size_of(nn.utils.skip_init(models.vgg16))
    text = f"{trained.text(images)} {size_of(model):,} parameters; the full VGG-16 has {full:,}."
    return Result(text, {"accuracy": trained.accuracy, "parameters": full}, draw)


def stages_of(model: models.VGG, x: np.ndarray) -> dict[str, np.ndarray]:
    """The maps of one image before each pooling, those with the largest means first."""
    rows = {"image": x[0]}
    for layer in model.features:
        if isinstance(layer, nn.MaxPool2d):
            rows[f"{x.shape[2]} × {x.shape[3]}"] = strongest(x[0])
        x = layer(x)
    return rows
