"""Degradation: of plain networks the deep one learns worse than the shallow one, of residual ones it does not.

Networks of 20 and 56 layers, with and without x + F(x), the same otherwise: parameters, He's initial weights, batch
norm, order of images, optimiser. Over-fitting is no explanation: it is the error in training that is worse. The picture
is the paper's figure 6.
"""

from __future__ import annotations

import fastnn
from fastnn import models, optim, train
from fastnn.data import DataLoader, ToFloat
from fastnn.demos import Result
from fastnn.demos._images import load


def run(*, quick: bool = False, seed: int = 0, epochs: int | None = None, deep: int = 56, shallow: int = 20) -> Result:
    """Digits of MNIST, 14 × 14. epochs: passes over the 4000 images (default: 10, quick: one over 1334). deep, shallow:
    numbers of layers, 6n + 2."""
    if epochs is None:
        epochs = 1 if quick else 10
    images = load("resnet", "mnist", size=14)
    every = slice(None, None, 3 if quick else 1)
    x, y = ToFloat(1 / 255)(images.x[every]), images.y[every]
    held_out = images.held_out_x[every], images.held_out_y[every]
    curves, measures = {}, {}
    for residual in (False, True):
        for depth in (shallow, deep):
            name = f"{'residual' if residual else 'plain'} {depth}"
            print(f"{name} layers")
            fastnn.manual_seed(seed)
            model = models.resnet_cifar(depth, residual=residual, in_channels=1, width=0.5, input_size=images.size)
            loader = DataLoader((x, y), 32, shuffle=True, seed=seed)
            optimizer = optim.SGD(model.parameters(), 0.05, momentum=0.9, weight_decay=1e-4)
            schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * len(loader))
            curves[name] = train.fit(
                model, loader, epochs=epochs, optimizer=optimizer, validation_data=held_out, metrics="accuracy",
                scheduler=schedule, schedule_every="batch",
            )  # fmt: skip
            found = train.evaluate(model, (x, y), metrics="accuracy", batch_size=256)
            measures[name], measures[f"{name} loss"] = 1 - found["accuracy"], found["loss"]
            measures[f"{name} held out"] = 1 - curves[name]["val_accuracy"][-1]

    def draw(figure):
        figure.suptitle(f"error by epoch, {len(x)} digits of MNIST, 14 × 14; dashed: held out")
        for axes, kind in zip(figure.subplots(1, 2, sharey=True), ("plain", "residual"), strict=True):
            for depth, colour in ((shallow, "tab:cyan"), (deep, "tab:red")):
                history = curves[f"{kind} {depth}"]
                for key, style in ("accuracy", "-"), ("val_accuracy", "--"):
                    error = [1 - accuracy for accuracy in history[key]]
                    label = f"{depth} layers" if style == "-" else None
                    axes.plot(history["epoch"], error, style, color=colour, label=label, marker=".")
            axes.set(title=kind, xlabel="epoch", ylabel="error", ylim=(0, 1))
            axes.locator_params(axis="x", integer=True)
            axes.grid(alpha=0.3)
            axes.legend()

    errors = "; ".join(f"{name}: {measures[name]:.1%} ({measures[f'{name} held out']:.1%})" for name in curves)
    text = f"Error in training (held out), epochs: {epochs}, over {len(x)} digits of MNIST, 14 × 14: {errors}."
    return Result(text, measures, draw)
