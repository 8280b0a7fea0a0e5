"""A network reads rows of one to four handwritten digits: "three one four".

A fifth of all tuples of two digits or more, and a fifth of scikit-learn's images, are held out: what is tested are
tuples that were never seen, written in images that were never seen. The network is not told where digits are, nor how
many: it looks at a part of the image for each word, and says itself when it has come to the end.

The picture shows composites held out with their captions, and where the network looks for each word.
"""

from __future__ import annotations

import numpy as np

import fastnn
from fastnn import Tensor
from fastnn import functional as F
from fastnn.demos import Result
from fastnn.demos._composites import NUMBERS, SIDE, Pool, compose, learn, split
from fastnn.models import Captioner
from fastnn.models.decoding import END, PADDING, START

ZERO = END + 1
"""The code of the word "zero"."""
WORDS = ("", "start", "end", *NUMBERS)
HEIGHT, PITCH = 12, 12
"""Pixels of an image: its height, and its width for each digit that it may have."""
BEAMS = 3
CELL = 4
"""Pixels of a cell of the network's grid, in each direction."""
ROWS = 6
"""Of the picture."""
FORMS = "attention", "whole"


def tuples(rng, longest: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Those of each length from 1 to `longest`, to train on and held out: classes (tuples, longest), -1 behind the end.

    All digits alone are for training; of longer tuples a fifth is held out.
    """
    seen, held_out = [], []
    for length in range(1, longest + 1):
        every = np.stack(np.unravel_index(rng.permutation(10**length), (10,) * length), 1)
        every = np.pad(every, ((0, 0), (0, longest - length)), constant_values=-1)
        fifth = 0 if length == 1 else len(every) // 5
        held_out.append(every[:fifth])
        seen.append(every[fifth:])
    return seen, held_out


def choose(rng, groups: list[np.ndarray], n: int) -> np.ndarray:
    """n tuples: each group that has some is as likely as another, and so is each tuple in it."""
    groups = [group for group in groups if len(group)]
    sizes = np.array([len(group) for group in groups])
    group = rng.integers(0, len(groups), n)
    return np.concatenate(groups)[(np.cumsum(sizes) - sizes)[group] + rng.integers(0, sizes[group])]


def captions(classes: np.ndarray) -> np.ndarray:
    """The words of tuples (N, K), and END: (N, K + 1), PADDING behind."""
    words = np.pad(np.where(classes >= 0, classes + ZERO, PADDING), ((0, 0), (0, 1)), constant_values=PADDING)
    words[np.arange(len(words)), (classes >= 0).sum(1)] = END
    return words


def before(words: np.ndarray) -> np.ndarray:
    """The words before each."""
    return np.pad(words[:, :-1], ((0, 0), (1, 0)), constant_values=START)


def text_of(words) -> str:
    """A caption before its END."""
    return " ".join(WORDS[word] for word in words[: [*words, END].index(END)])


def batches(rng, pool: Pool, groups: list[np.ndarray], size: int):
    """(images, words), so many, distorted, without end."""
    while True:
        classes = choose(rng, groups, size)
        yield compose(rng, pool, classes, size_of(classes), augment=True)[0], captions(classes)


def size_of(classes: np.ndarray) -> tuple[int, int]:
    return HEIGHT, PITCH * classes.shape[1]


def tell(model: Captioner, images: np.ndarray, length: int, beams: int = 1) -> np.ndarray:
    """Captions (N, length), END from their end on."""
    parts = np.array_split(images, 1 + len(images) // 500)
    found = [model.caption(part, beams=beams, max_length=length) for part in parts]
    return np.concatenate([np.pad(f, ((0, 0), (0, length - f.shape[1])), constant_values=END) for f in found])


def right(found: np.ndarray, words: np.ndarray) -> np.ndarray:
    """Which captions are right, from the first word to the end: bools (N,)."""
    return (found == np.where(words == PADDING, END, words)).all(1)


def on_digit(attention: np.ndarray, grid: tuple[int, int], corners: np.ndarray, length: np.ndarray) -> np.ndarray:
    """For how much of the words of each image (N,) the mean place of its attention (N, T, cells) is in the digit that
    is told, of corners (N, K, 2), so many as length (N,) says."""
    k = corners.shape[1]
    cells = attention[:, :k].reshape(len(attention), k, *grid)
    middle = np.stack([cells.sum(3) @ (np.arange(grid[0]) + 0.5), cells.sum(2) @ (np.arange(grid[1]) + 0.5)], 2) * CELL
    inside = ((corners <= middle) & (middle < corners + SIDE)).all(2)
    return (inside & (np.arange(k) < length[:, None])).sum(1) / length


def draw_row(axes, image, found, title, attention, grid):
    """An image with its caption as title, and where the network looks for each word that was found."""
    for each in axes:
        each.axis("off")
    axes[0].imshow(image, cmap="gray_r")
    axes[0].set_title(title, fontsize=8)
    if attention is not None:
        extent = -0.5, image.shape[1] - 0.5, image.shape[0] - 0.5, -0.5
        for each, word, weights in zip(axes[1:], [*found.split(), "end"], attention, strict=False):
            each.imshow(image, cmap="gray_r")
            each.imshow(weights.reshape(grid), cmap="Reds", alpha=0.6, vmin=0, extent=extent, interpolation="bilinear")
            each.set_title(word, fontsize=9)


def run(
    *, quick: bool = False, seed: int = 0, steps: int | None = None, form: str = "attention", cell: str = "lstm"
) -> Result:
    """steps: batches of 128 images (default: 1000; quick: 300 of 64, of one or two digits). form: attention, or whole:
    the decoder is given the whole image at first. cell: of the decoder, lstm or gru."""
    if steps is None:
        steps = 300 if quick else 1000
    if steps < 1:
        raise ValueError(f"captioning: steps is {steps}, expected at least 1")
    if form not in FORMS:
        raise ValueError(f"captioning: form is {form!r}, expected 'attention' or 'whole'")
    rng = np.random.default_rng(seed)
    longest = 2 if quick else 4
    seen, held_out = tuples(rng, longest)
    pool, test_pool = split()
    classes = choose(rng, held_out, 400 if quick else 2000)
    size, words = size_of(classes), captions(classes)
    images, corners = compose(rng, test_pool, classes, size)
    fastnn.manual_seed(seed)
    model = Captioner(len(WORDS), size, width=12 if quick else 16, attention=form == "attention", cell=cell)

    def loss_of(batch):
        images, words = batch
        logits, _ = model(Tensor(images), before(words))
        return F.cross_entropy(logits.flatten(0, 1), words.ravel(), ignore_index=PADDING)

    def exact(n=None, beams=1):
        return float(right(tell(model, images[:n], longest + 1, beams), words[:n]).mean())

    rate, batch = (8e-3, 64) if quick else (4e-3, 128)
    learn(model, batches(rng, pool, seen, batch), loss_of, steps, rate, lambda: exact(400))
    found = tell(model, images, longest + 1)
    good, length = right(found, words), (classes >= 0).sum(1)
    alone = choose(rng, seen[:1], len(words))
    alone_found = tell(model, compose(rng, test_pool, alone, size)[0], longest + 1)
    measures = {
        "accuracy": float(good.mean()),
        **{f"of_{n}": float(good[length == n].mean()) for n in range(2, longest + 1)},
        "beams": exact(beams=BEAMS),
        "alone": float(right(alone_found, captions(alone)).mean()),
        "guess": float((0.1**length).mean()),
    }
    text = (
        f"{measures['accuracy']:.1%} of {len(words)} captions of 2 to {longest} digits are right from beginning to "
        f"end, digits and combinations both held out; with {BEAMS} beams {measures['beams']:.1%}; digits alone "
        f"{measures['alone']:.1%}. Who knows how many digits there are, and guesses them, has {measures['guess']:.1%}."
    )
    shown = [*np.flatnonzero(good)[: ROWS - 1], *np.flatnonzero(~good), *np.flatnonzero(good)[ROWS - 1 :]][:ROWS]
    attention = model(images, before(found))[1]
    if attention is not None:
        measures["looks"] = float(on_digit(attention, model.encoder.grid, corners, length)[good].mean())
        text += f" It looks at the digit that it tells in {measures['looks']:.1%}."

    def draw(figure):
        looks = "" if attention is None else ", and where it looks for each word"
        figure.suptitle(f"Held out: images with their captions{looks}")
        for row, i in zip(figure.subplots(ROWS, longest + 2), shown, strict=True):
            told = text_of(found[i])
            title = told if good[i] else f"{told}\n(it is: {text_of(words[i])})"
            draw_row(row, images[i, 0], told, title, None if attention is None else attention[i], model.encoder.grid)

    return Result(text, measures, draw)
