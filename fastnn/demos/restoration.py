"""A U-Net restores photographs, in one of four styles that a vector selects.

It is trained on 48 × 48 crops of eight photographs in scikit-image's package, made grey, with noise or at half the
resolution, and is not told which; three other photographs are then restored. Each style is a known function of the
undisturbed photograph, so that outputs in all styles can be measured. The picture shows them, and styles in between.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import fastnn
from fastnn import optim, train
from fastnn.data import photographs
from fastnn.demos import Result
from fastnn.models import ImageToImage

SEEN = "astronaut", "rocket", "coins", "moon", "page", "brick", "grass", "gravel"
HELD_OUT = "chelsea", "camera", "coffee"

STYLES = {
    "natural": lambda x: x,
    "negative": lambda x: 1 - x,
    "contrast": lambda x: (1 + np.tanh(5 * x - 2.5) / np.tanh(2.5)) / 2,
    "pencil": lambda x: 1 - np.minimum(4 * np.hypot(*np.gradient(x)), 1),
}
"""Functions of an undisturbed photograph (H, W) from 0 to 1."""

NOISE = 25 / 255
"""Standard deviation."""

ALONE, TOGETHER = (1.0, 0.0, 0.0, 0.0), (0.4, 0.2, 0.2, 0.2)
"""How often a style is asked for: in the first third of training, while the network learns to restore, and later."""

KINDS = "noise", "resolution"
"""What photographs suffer from."""


def run(*, quick: bool = False, seed: int = 0, epochs: int | None = None, width: int | None = None) -> Result:
    """epochs: of 100 batches of 16 crops (default: 22, quick: 4); width: maps of the first level (default: 16, quick:
    8)."""
    epochs = (4 if quick else 22) if epochs is None else epochs
    width = (8 if quick else 16) if width is None else width
    # In seconds the noise is reduced only if the errors of smooth crops, which are small, hardly count.
    crop, lr, floor = (32, 6e-3, 3e-3) if quick else (48, 3e-3, 1e-4)
    rng = np.random.default_rng(seed)
    seen = [Photograph(x) for x in map(grey, photographs(*SEEN))]
    fastnn.manual_seed(seed)
    model = ImageToImage(1, len(STYLES), width=width)
    # γ of the output has a way of 2 to go for a negative, far for steps of Adam
    groups = [{"params": [*part.parameters()]} for part in model.children()]
    rates = [3 * lr if part is model.out else lr for part in model.children()]
    optimizer = optim.Adam(groups, lr)
    schedule = optim.lr_scheduler.OneCycleLR(optimizer, rates, total_steps=100 * epochs)
    for epoch in range(epochs):
        total = 0.0
        shares = ALONE if epoch < epochs / 3 else TOGETHER
        for _ in train.track(range(100), f"epoch {epoch + 1}/{epochs}"):
            x, style, target = batch(seen, 16, crop, shares, rng)
            optimizer.zero_grad()
            loss = log_error(model(fastnn.Tensor(x), fastnn.Tensor(style)), target, floor)
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() / 100
        print(f"epoch {epoch + 1:{len(str(epochs))}d}/{epochs}  logarithm of squared error {total:.3f}", flush=True)

    tests = [Photograph(x[-96:, -96:] if quick else x) for x in map(grey, photographs(*HELD_OUT))]
    model.eval()
    before, after, table, plain = measure(model, tests, np.random.default_rng(seed))
    measures = {f"{kind}_gain": after[kind] - before[kind] for kind in KINDS}
    own = np.diag(table)
    measures["own_style"] = float(own.min())
    measures["other_style"] = float(table[~np.eye(len(own), dtype=bool)].max())
    measures["style_margin"] = float((own - np.where(np.eye(len(own)), -np.inf, table).max(0)).min())

    def draw(figure):
        left, right = figure.subfigures(1, 2, width_ratios=[5, 2])
        show(left, model, tests, np.random.default_rng(seed))
        axes = right.subplots()
        axes.imshow(table, cmap="viridis")
        for i, j in np.ndindex(table.shape):
            bright = table[i, j] > (table.max() + table.min()) / 2
            axes.text(j, i, f"{table[i, j]:.1f}", ha="center", va="center", color="black" if bright else "white")
        axes.set(
            xticks=range(len(STYLES)), yticks=range(len(STYLES)), xticklabels=STYLES, yticklabels=STYLES,
            xlabel="measured against", ylabel="style vector", title="held out: PSNR in dB",
        )  # fmt: skip
        axes.tick_params("x", rotation=30)

    text = (
        f"On {len(tests)} photographs held out, after {100 * epochs} steps on {len(seen)} others, PSNR is "
        f"{after['noise']:.2f} dB where the noisy input has {before['noise']:.2f} ({measures['noise_gain']:+.2f}), and "
        f"{after['resolution']:.2f} dB where the bicubic one has {before['resolution']:.2f} "
        f"({measures['resolution_gain']:+.2f}). With their own style vector outputs have "
        f"{' / '.join(f'{x:.1f}' for x in own)} dB ({' / '.join(STYLES)}), with others at most "
        f"{measures['other_style']:.1f}; the style's function of the disturbed input "
        f"{' / '.join(f'{x:.1f}' for x in plain)}."
    )
    return Result(text, measures, draw)


def measure(
    model: ImageToImage, tests: list[Photograph], rng: np.random.Generator
) -> tuple[dict[str, float], dict[str, float], np.ndarray, np.ndarray]:
    """Mean PSNR: of inputs and of natural outputs, by kind; of outputs by style vector and style they are measured
    against; and of the styles' functions of the inputs."""
    count, all_of_it = len(STYLES), (slice(None), slice(None))
    before, after = dict.fromkeys(KINDS, 0.0), dict.fromkeys(KINDS, 0.0)
    table, plain = np.zeros((count, count)), np.zeros(count)
    for kind in KINDS:
        for photo in tests:
            x = photo.disturbed(kind, all_of_it, rng)
            outputs = [restored(model, x, style) for style in np.eye(count)]
            before[kind] += psnr(x, photo.clean) / len(tests)
            after[kind] += psnr(outputs[0], photo.clean) / len(tests)
            table += [[psnr(y, target) for target in photo.styles] for y in outputs]
            plain += [psnr(f(x), target) for f, target in zip(STYLES.values(), photo.styles, strict=True)]
    n = len(KINDS) * len(tests)
    return before, after, table / n, plain / n


def restored(model: ImageToImage, x: np.ndarray, style: np.ndarray) -> np.ndarray:
    """The output (H, W) for an image, in a style."""
    return model(np.ascontiguousarray(x[None, None]), style[None].astype(np.float32))[0, 0].clip(0, 1)


def show(figure: Any, model: ImageToImage, tests: list[Photograph], rng: np.random.Generator) -> None:
    """Two photographs in all styles, and the way from the first style to the last one."""
    styles = np.eye(len(STYLES))
    panels = figure.subplots(3, len(STYLES) + 2)
    for row, photo, kind in zip(panels, tests, KINDS, strict=False):
        y0, x0 = (max(side // 2 - 80, 0) // 4 * 4 for side in photo.clean.shape)
        where = slice(y0, y0 + 160), slice(x0, x0 + 160)
        x = photo.disturbed(kind, where, rng)
        images = [photo.clean[where], x, *(restored(model, x, style) for style in styles)]
        for axes, image, title in zip(row, images, ("held out", kind, *STYLES), strict=True):
            axes.imshow(image, cmap="gray", vmin=0, vmax=1)
            axes.set_title(title, fontsize=9)
    for axes, share in zip(panels[2], np.linspace(0, 1, len(panels[2])), strict=True):
        axes.imshow(restored(model, x, (1 - share) * styles[0] + share * styles[-1]), cmap="gray", vmin=0, vmax=1)
        axes.set_title(f"{share:.0%} {[*STYLES][-1]}", fontsize=9)
    for axes in panels.flat:
        axes.axis("off")


def log_error(found: fastnn.Tensor, target: np.ndarray, floor: float) -> fastnn.Tensor:
    """Mean of the crops' log(mean squared error), and so of their PSNR; what is below the floor counts little."""
    return (((found - target) ** 2).mean((1, 2, 3)) + floor).log().mean()


class Photograph:
    """A photograph (H, W) from 0 to 1, the same at half the resolution, and all styles of it (len(STYLES), H, W)."""

    def __init__(self, x: np.ndarray) -> None:
        self.clean = x
        height, width = x.shape
        self.coarse = resized(resized(x, height // 2, width // 2), height, width)
        self.styles = np.stack([style(x) for style in STYLES.values()])

    def disturbed(self, kind: str, where: tuple[slice, slice], rng: np.random.Generator) -> np.ndarray:
        """A part of it as the network gets it."""
        if kind == "resolution":
            return self.coarse[where]
        x = self.clean[where]
        return x + NOISE * rng.standard_normal(x.shape, np.float32)


def grey(image: np.ndarray) -> np.ndarray:
    """A photograph of fastnn.data as luminance from 0 to 1, with sides that the network can halve twice: (H, W)."""
    weights = [0.299, 0.587, 0.114] if len(image) == 3 else [1.0]
    x = np.tensordot(np.array(weights, np.float32) / 255, image.astype(np.float32), 1)
    return x[: x.shape[0] // 4 * 4, : x.shape[1] // 4 * 4]


def bicubic(size: int, to: int) -> np.ndarray:
    """Keys' cubic convolution (1981, a = -1/2) from size to `to` samples, float32 (to, size): over as many more samples
    as there are for one when their number falls, so that nothing aliases; at the ends of those that exist."""
    scale = size / to
    distance = abs((np.arange(to)[:, None] + 0.5) * scale - 0.5 - np.arange(size)) / max(scale, 1)
    near = 1.5 * distance**3 - 2.5 * distance**2 + 1
    far = -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
    weight = np.where(distance < 1, near, np.where(distance < 2, far, 0))
    return (weight / weight.sum(1, keepdims=True)).astype(np.float32)


def resized(x: np.ndarray, height: int, width: int) -> np.ndarray:
    """A photograph (H, W) of another size."""
    return bicubic(x.shape[0], height) @ x @ bicubic(x.shape[1], width).T


def batch(
    photos: list[Photograph], count: int, size: int, shares: tuple[float, ...], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Disturbed crops (count, 1, size, size), styles one-hot (count, len(STYLES)) in these shares, and what is to come
    out."""
    x, target = np.empty((2, count, 1, size, size), np.float32)
    style = rng.choice(len(STYLES), count, p=shares)
    for i in range(count):
        photo = photos[rng.integers(len(photos))]
        y0, x0 = (rng.integers(side - size + 1) for side in photo.clean.shape)
        where = slice(y0, y0 + size), slice(x0, x0 + size)
        pair = photo.disturbed(KINDS[rng.integers(2)], where, rng), photo.styles[style[i]][where]
        flip = (slice(None, None, rng.choice([-1, 1])), slice(None, None, rng.choice([-1, 1])))
        x[i, 0], target[i, 0] = (part[flip] for part in pair)
    return x, np.eye(len(STYLES), dtype=np.float32)[style], target


def psnr(found: np.ndarray, target: np.ndarray) -> float:
    """Peak signal-to-noise ratio of images from 0 to 1, in decibels."""
    return -10 * np.log10(np.mean((found - target) ** 2, dtype=np.float64))
