"""GoogLeNet in the paper's form, an eighth as wide and for small images, learns to tell them.

Without batch norm, 22 layers learn because two auxiliary classifiers bring gradients to their middle. The picture shows
the learning curve, and what the four branches of the first Inception module see. What is printed of that module: the
multiply-adds at full width, with 1 × 1 reductions and in its naive form.
"""

from __future__ import annotations

import fastnn
from fastnn import functional as F
from fastnn import models, nn
from fastnn.demos import Result
from fastnn.demos._images import draw_curves, draw_maps, load, size_of, strongest, train_classifier
from fastnn.models.googlenet import MODULES


def run(
    *, quick: bool = False, seed: int = 0, data: str = "auto", epochs: int | None = None, width: float = 0.125
) -> Result:
    """data: mnist, fashion (Fashion-MNIST), or auto, that if it is installed. epochs: passes over the images (default:
    8, quick: 3). width: channels in multiples of the paper's."""
    if epochs is None:
        epochs = 3 if quick else 8
    images = load("googlenet", data, quick=quick, size=14 if quick else 28)
    fastnn.manual_seed(seed)
    model = models.googlenet(10, aux_logits=True, in_channels=1, width=width, input_size=images.size)
    trained = train_classifier(
        model, images, epochs=epochs, seed=seed, loss=loss_of_all, metrics={"accuracy": accuracy}
    )
    branches = branches_of(model.eval(), images.held_out_x[:1])

    def draw(figure):
        left, right = figure.subfigures(1, 2)
        draw_curves(left.subplots(), trained.history)
        right.suptitle(
            f"branches of 3a, strongest first, of an image held out ({images.classes[images.held_out_y[0]]})"
        )
        draw_maps(right, branches, 4)

    full = size_of(nn.utils.skip_init(models.googlenet))
    reduced, naive = costs_of("4e", 528, 14)
    text = (
        f"{trained.text(images)} {size_of(model):,} parameters, with auxiliary classifiers; the full network without "
        f"has {full:,}. Its module 4e takes {reduced / 1e6:.0f} million multiply-adds, and without reductions, with as "
        f"many maps of each kernel, {naive / 1e6:.0f} million."
    )
    return Result(text, {"accuracy": trained.accuracy, "parameters": full, "reduced": reduced, "naive": naive}, draw)


def loss_of_all(outputs, y):
    """The paper's loss in training; in evaluation there is one classifier only."""
    if not isinstance(outputs, models.GoogLeNetOutputs):
        return F.cross_entropy(outputs, y)
    auxiliary = F.cross_entropy(outputs.aux_logits1, y) + F.cross_entropy(outputs.aux_logits2, y)
    return F.cross_entropy(outputs.logits, y) + 0.3 * auxiliary


def accuracy(outputs, y):
    """Of the last classifier."""
    logits = outputs.logits if isinstance(outputs, models.GoogLeNetOutputs) else outputs
    return fastnn.train.METRICS["accuracy"](logits, y)


def branches_of(model, x):
    """The maps of one image behind each branch of the first Inception module."""
    x = model.norm1(model.maxpool1(model.conv1(x)))
    x = model.maxpool2(model.norm2(model.conv3(model.conv2(x))))
    module = model.inception3a
    kinds = {"1 × 1": module.branch1, "3 × 3": module.branch2, "5 × 5": module.branch3, "pooling": module.branch4}
    return {name: strongest(branch(x)[0]) for name, branch in kinds.items()}


def costs_of(name: str, channels: int, size: int) -> tuple[int, int]:
    """Multiply-adds of an Inception module of the full network, and of a naive one with as many maps of each kernel."""
    numbers = MODULES[name]
    modules = models.Inception(channels, *numbers), models.NaiveInception(channels, *numbers[:-1][::2])
    reduced, naive = (fastnn.summary(module, (1, channels, size, size)).multiply_adds for module in modules)
    return reduced, naive
