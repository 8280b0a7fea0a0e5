"""Two DCGANs learn to write the digits of MNIST (with --data fashion: to design the clothes of Fashion-MNIST), one from
noise alone, and one that is told the class.

Every fifth image is held out. What the generators make, with moving averages of their weights, is judged by a
classifier that learned from the same real images, and is tested with those held out: for how many samples is it at
least 90 % sure of a class, do all ten classes appear, and is it the class that was asked for?
"""

from __future__ import annotations

from time import perf_counter
from typing import NamedTuple

import numpy as np

import fastnn
from fastnn import functional as F
from fastnn import nn, optim, train
from fastnn.data import FASHION_MNIST_CLASSES, DataLoader, RandomCrop, every_fifth, fashion_mnist, mnist_subset
from fastnn.demos import Result
from fastnn.demos._tiles import tiles
from fastnn.models import DCGANGenerator, MovingAverage, dcgan, lenet

SURE = 0.9
"""The probability of a class from which on the classifier counts as sure."""

SAMPLES = 1000
ONE_HOT = np.eye(10, dtype=np.float32)


def run(
    *, quick: bool = False, seed: int = 0, data: str = "mnist", epochs: int | None = None, width: int | None = None,
    loss: str = "non-saturating",
) -> Result:  # fmt: skip
    """data: mnist, or fashion. epochs: passes over the images from noise alone, and a third of that with classes
    (default: 28, quick: 6). width: of the networks (default: 24, quick: 16). loss: of the generators, non-saturating,
    or minimax."""
    epochs = (6 if quick else 28) if epochs is None else epochs
    width = (16 if quick else 24) if width is None else width
    x, y, names = images(data)
    if quick:  # half as high and wide
        x = x.reshape(-1, 1, 16, 2, 16, 2).mean((3, 5), dtype=np.float32)
    held_out = every_fifth(y)
    fastnn.manual_seed(seed)
    classifier, accuracy = trained_classifier(x, y, held_out, 5 if quick else 20, seed)
    real = judged(classifier, x[held_out])[1].mean()

    asked = np.arange(SAMPLES) % 10
    batch = 32 if quick else 64
    print("DCGAN from noise alone")
    plain = trained(x[~held_out], None, epochs, batch, width, loss, seed)
    print("DCGAN with classes")
    told = trained(x[~held_out], y[~held_out], -(-epochs // 3), batch, width, loss, seed)
    classes, sure = judged(classifier, plain.samples)
    before = judged(classifier, plain.before)[1].mean()
    found, certain = judged(classifier, told.samples)
    kept = variety(told.samples, asked) / variety(x[held_out], y[held_out])
    right = (found == asked)[certain].mean() if certain.any() else 0.0
    counts = [np.bincount(each[known], minlength=10) for each, known in ((classes, sure), (found, certain))]

    def draw(figure):
        left, side = figure.subfigures(1, 2, width_ratios=(8, 3))
        for axes, title, made in zip(
            left.subplots(1, 2), ("noise alone", "a class a column"), (plain, told), strict=True
        ):
            axes.imshow(tiles(made.samples[:100], 10), cmap="gray_r" if data == "mnist" else "gray", vmin=0, vmax=1)
            axes.set_title(f"samples: {title}", fontsize=10)
            axes.axis("off")
        top, bottom = side.subplots(2, 1)
        for column, name in enumerate(("discriminator", "generator")):
            smooth = max(len(plain.losses) // 100, 1)
            curve = np.convolve(plain.losses[:, column], np.full(smooth, 1 / smooth), "valid")
            steps = np.arange(smooth, len(plain.losses) + 1) * epochs / len(plain.losses)
            top.plot(steps, curve, label=name)
        top.axhline(2 * np.log(2), color="gray", linestyle=":", label="2 log 2: D cannot tell")
        top.set_title("losses, noise alone", fontsize=10)
        top.set(xlabel="epoch", ylim=(0, None))
        top.legend(fontsize=7)
        for shift, count, label in zip((-0.2, 0.2), counts, ("noise alone", "with classes"), strict=True):
            bottom.bar(np.arange(10) + shift, count, 0.4, label=label)
        bottom.set_title(f"classified with at least {SURE:.0%}, of {SAMPLES}", fontsize=10)
        bottom.set_xticks(range(10), names, rotation=0 if data == "mnist" else 90, fontsize=8)
        bottom.set_ylim(0, 1.3 * max(map(max, counts)))
        bottom.legend(fontsize=7, ncols=2)

    text = (
        f"A classifier, right about {accuracy:.1%} of {held_out.sum()} real images held out and at least {SURE:.0%} "
        f"sure of {real:.1%} of them, is as sure of {sure.mean():.1%} of {SAMPLES} samples from noise alone (before "
        f"training: {before:.1%}; per class {', '.join(map(str, counts[0]))}), and of {certain.mean():.1%} of those "
        f"made for a class (per class {', '.join(map(str, counts[1]))}; {right:.1%} of these are of the class asked "
        f"for). The variance within a class is {kept:.0%} of that of the real images."
    )
    measures = {
        "accuracy": accuracy, "sure_real": real, "sure_before": before, "sure": sure.mean(),
        "classes": np.count_nonzero(counts[0]), "sure_told": certain.mean(), "right": right, "variety": kept,
        "classes_told": np.count_nonzero(counts[1]),
    }  # fmt: skip
    return Result(text, {name: float(value) for name, value in measures.items()}, draw)


def images(data: str) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """float32 (N, 1, 32, 32) from 0 to 1, with a margin of 2, classes, and their names."""
    if data == "mnist":
        x, y = mnist_subset()
        names = [str(digit) for digit in range(10)]
    elif data == "fashion":
        x, y = (part[:5000] for part in fashion_mnist()[:2])
        names = list(FASHION_MNIST_CLASSES)
    else:
        raise ValueError(f"gan: data is {data!r}, expected 'mnist' or 'fashion'")
    return np.pad(x.astype(np.float32) / 255, ((0, 0), (0, 0), (2, 2), (2, 2))), y, names


def trained_classifier(x, y, held_out, epochs: int, seed: int) -> tuple[nn.Module, float]:
    """LeNet, trained with shifted images, and its accuracy on those held out."""
    print("classifier of real images")
    size = x.shape[2]
    model = lenet(input_size=size)
    loader = DataLoader(
        (x[~held_out], y[~held_out]), 64, shuffle=True, seed=seed, transform=RandomCrop(size, size // 16)
    )
    optimizer = optim.Adam(model.parameters(), 3e-3)
    schedule = optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=epochs * len(loader))
    history = train.fit(
        model, loader, epochs=epochs, optimizer=optimizer, validation_data=(x[held_out], y[held_out]),
        metrics="accuracy", scheduler=schedule, schedule_every="batch",
    )  # fmt: skip
    return model.eval(), history["val_accuracy"][-1]


def judged(classifier: nn.Module, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The class of each image from 0 to 1, and is the classifier sure of it?"""
    probabilities = F.softmax(classifier(samples), 1)
    return probabilities.argmax(1), probabilities.max(1) >= SURE


def variety(samples: np.ndarray, classes: np.ndarray) -> float:
    """Variance of a pixel within a class, the mean over pixels and ten classes."""
    return float(np.mean([samples[classes == each].var(0).mean() for each in range(10)]))


class Trained(NamedTuple):
    """What a generator made before and after training, from 0 to 1, sample i for class i modulo 10; and the losses of
    discriminator and generator, (steps, 2)."""

    before: np.ndarray
    samples: np.ndarray
    losses: np.ndarray


def trained(x, y, epochs: int, batch: int, width: int, loss: str, seed: int) -> Trained:
    """Train a DCGAN with images from 0 to 1; y: their classes, which it is told, or None."""
    size = x.shape[2]
    options = {"width": width, "latent": 16, "classes": 0 if y is None else 10}
    gan = dcgan(size, loss=loss, **options)
    average = MovingAverage(gan.generator, DCGANGenerator(size, **options), 0.99)
    given = () if y is None else (ONE_HOT[np.arange(SAMPLES) % 10],)
    noise = gan.noise(SAMPLES)
    before = average.copy.eval()(noise, *given)
    # The discriminator learns more slowly, so that it does not get too good to be learned from.
    optimizer_g = optim.Adam(gan.generator.parameters(), 1e-3, betas=(0.5, 0.999))
    optimizer_d = optim.Adam(gan.discriminator.parameters(), 5e-4, betas=(0.5, 0.999))
    losses: list[tuple[float, float]] = []
    loader = DataLoader((2 * x - 1,) if y is None else (2 * x - 1, ONE_HOT[y]), batch, True, seed, drop_last=True)
    for epoch in range(1, epochs + 1):
        start = perf_counter()
        for real, *labels in train.track(loader, f"epoch {epoch}/{epochs}"):
            losses.append(gan.train_step(real, optimizer_g, optimizer_d, *labels))
            average.update()
        loss_d, loss_g = np.mean(losses[-len(loader) :], 0)
        print(
            f"epoch {epoch:{len(str(epochs))}d}/{epochs}  {perf_counter() - start:.1f} s  "
            f"discriminator {loss_d:.4f}  generator {loss_g:.4f}", flush=True,
        )  # fmt: skip
    return Trained((before + 1) / 2, (average.copy(noise, *given) + 1) / 2, np.array(losses))
