"""One plain RNN in three forms, on the 1797 digits of scikit-learn, 8 × 8 pixels, a row at each time.

Many to one reads the rows of a digit and says which it is; another one reads pixel by pixel, 64 in place of 8 steps, on
whose way gradients fade. Many to many tells each next row from those before. One to many is given a class and draws in
black and white: each row is drawn from the probabilities that the network gives for its pixels, and fed back. It
learned that with the rows of real digits in place of those ("teacher forcing", Williams and Zipser 1989).

A fifth of the digits is held out. The picture shows accuracies and gradients over time, next rows as they were told,
and digits that were drawn.
"""

from __future__ import annotations

from math import ceil

import numpy as np

import fastnn
import fastnn.nn as nn
from fastnn import Tensor, optim, train
from fastnn import functional as F
from fastnn.data import digits, every_fifth
from fastnn.demos import Result

BATCH = 64
LEARNING_RATE = 3e-3
CLIP = 1.0
DRAWN = 50
"""Digits of each class."""
PIXELS = 64
"""Steps of the one that reads pixel by pixel."""


def learn(model, data, test, epochs: int, loss=F.cross_entropy, metrics=None):
    """Train a model, with a line for every tenth part of the epochs; its history."""

    def progress(record):
        if record["epoch"] % max(epochs // 10, 1) == 0:
            accuracy = f", accuracy {record['val_accuracy']:.1%}" if metrics else ""
            print(f"  epoch {record['epoch']}/{epochs}, held out: loss {record['val_loss']:.4f}{accuracy}", flush=True)

    optimizer = optim.Adam(model.parameters(), LEARNING_RATE)
    total = epochs * ceil(len(data[0]) / BATCH)
    schedule = optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=total)
    return train.fit(
        model, data, epochs=epochs, batch_size=BATCH, optimizer=optimizer, loss=loss, metrics=metrics,
        validation_data=test, scheduler=schedule, schedule_every="batch", clip_grad_norm=CLIP, progress=progress,
    )  # fmt: skip


def gradient_norms(model, x, y) -> np.ndarray:
    """‖dL/dh_t‖ at every step of sequences x, (T,)."""
    loss = F.cross_entropy(model(Tensor(x)), y)
    with train.gradients_over_time() as norms:
        loss.backward()
    model.zero_grad()
    return norms[0]


def classify(name: str, x, y, held_out, hidden: int, epochs: int):
    """Many to one, of sequences (N, T, features): the network, its history, and gradient norms before and after."""
    print(f"many to one, {name}")
    model = nn.ManyToOne(nn.RNN(x.shape[2], hidden, batch_first=True), nn.Linear(hidden, 10))
    test = x[held_out], y[held_out]
    norms = [gradient_norms(model, *test)]
    history = learn(model, (x[~held_out], y[~held_out]), test, epochs, metrics="accuracy")
    return model, history, [*norms, gradient_norms(model, *test)]


def next_rows(x, held_out, hidden: int, epochs: int) -> np.ndarray:
    """Many to many: rows 1 to 7 of those held out, each told from the rows before it."""
    print("many to many, the next row")
    model = nn.ManyToMany(nn.RNN(8, hidden, batch_first=True), nn.Sequential(nn.Linear(hidden, 8), nn.Sigmoid()))
    data, test = ((rows[:, :-1], rows[:, 1:]) for rows in (x[~held_out], x[held_out]))
    learn(model, data, test, epochs, loss=F.mse_loss)
    return model(test[0])


def after_class(y) -> np.ndarray:
    """What the painter reads first: the class (N,) in the first 10 of 18 features, (N, 18); rows are in the others."""
    return np.pad(np.eye(10, dtype=np.float32)[y], ((0, 0), (0, 8)))


def after_row(rows):
    """What the painter reads behind rows (…, 8): (…, 18)."""
    return F.pad(rows, (10, 0))


def painter(black, y, held_out, hidden: int, epochs: int):
    """One to many, taught as many to many with pictures (N, 8, 8) of zeros and ones, and their classes: the network,
    and the bits for each pixel held out."""
    print("one to many, a class is drawn")
    model = nn.ManyToMany(nn.RNN(18, hidden, batch_first=True), nn.Linear(hidden, 8))
    x = np.concatenate([after_class(y)[:, None], after_row(black[:, :-1])], 1)
    data, test = ((x[part], black[part]) for part in (~held_out, held_out))
    history = learn(model, data, test, epochs, loss=F.binary_cross_entropy_with_logits)
    return model, history["val_loss"][-1] / np.log(2)


def paint(model, y, rng) -> np.ndarray:
    """Pictures (N, 8, 8), of zeros and ones, of classes (N,)."""
    chance = rng.random((8, len(y), 8))
    times = iter(chance)

    def feedback(logits):
        return after_row(Tensor((next(times) < F.sigmoid(logits.numpy())).astype(np.float32)))

    logits = nn.OneToMany(model.rnn, model.head, feedback)(after_class(y), 8)
    return (chance.swapaxes(0, 1) < F.sigmoid(logits)).astype(np.float32)


def bits_of_means(black, y, held_out) -> float:
    """Bits for each pixel held out of who knows how often it is black in its class, and no neighbours."""
    known, classes = black[~held_out], y[~held_out]
    means = [(known[classes == digit].sum(0) + 1) / ((classes == digit).sum() + 2) for digit in range(10)]
    p = np.stack(means)[y[held_out]]
    return float(-np.log2(np.where(black[held_out] > 0, p, 1 - p)).mean())


def run(*, quick: bool = False, seed: int = 0, hidden: int | None = None, epochs: int | None = None) -> Result:
    """hidden: units of each RNN (default: 128, quick: 64). epochs: passes over the digits for each form (default: 100,
    quick: 40)."""
    if hidden is None:
        hidden = 64 if quick else 128
    if epochs is None:
        epochs = 40 if quick else 100
    for option, value in (("hidden", hidden), ("epochs", epochs)):
        if value < 1:
            raise ValueError(f"rnn_forms: {option} is {value}, expected at least 1")
    x, y = digits()
    x = x.reshape(-1, 8, 8).astype(np.float32) / 16
    held_out = every_fifth(y)
    black = (x >= 0.5).astype(np.float32)
    fastnn.manual_seed(seed)
    kinds = {"row by row": x, "pixel by pixel": x.reshape(-1, PIXELS, 1)}
    histories, norms = {}, {}
    for name, sequences in kinds.items():
        _, histories[name], norms[name] = classify(name, sequences, y, held_out, hidden, epochs)
    told = next_rows(x, held_out, hidden, epochs)
    model, bits = painter(black, y, held_out, hidden, epochs)
    judge, judged, _ = classify("a judge of what is drawn", black, y, held_out, hidden, epochs)
    wanted = np.repeat(np.arange(10), DRAWN)
    drawn = paint(model, wanted, np.random.default_rng(seed))

    actual = x[held_out]
    error = float(np.square(told - actual[:, 1:]).mean())
    repeated = float(np.square(actual[:, :-1] - actual[:, 1:]).mean())
    mean = float(np.square(x[~held_out].mean(0)[1:] - actual[:, 1:]).mean())
    recognised = float((judge(drawn).argmax(1) == wanted).mean())
    measures = {
        "rows": histories["row by row"]["val_accuracy"][-1],
        "pixels": histories["pixel by pixel"]["val_accuracy"][-1],
        "next_row": error, "repeated_row": repeated, "mean_row": mean,
        "bits": bits, "bits_of_means": bits_of_means(black, y, held_out),
        "recognised": recognised, "judge": judged["val_accuracy"][-1],
    }  # fmt: skip
    text = (
        f"Many to one reads {measures['rows']:.1%} of {held_out.sum()} digits held out row by row, and "
        f"{measures['pixels']:.1%} pixel by pixel. Many to many tells the next row with a squared error of "
        f"{error:.3f}; the row before has {repeated:.3f}, the mean row {mean:.3f}. One to many needs {bits:.2f} bits "
        f"for each black or white pixel held out, its frequency in the class alone {measures['bits_of_means']:.2f}; "
        f"of {len(drawn)} digits that it draws, {recognised:.1%} are read as what they should be, where the reader is "
        f"right on {measures['judge']:.1%} of real ones."
    )

    def draw(figure):
        left, right = figure.subfigures(1, 2)
        draw_reading(left, histories, norms)
        above, below = right.subplots(2, 1, height_ratios=[3, 7])
        shown = [np.flatnonzero(y[held_out] == digit)[0] for digit in range(10)]
        rows = np.stack([actual[:, 1:], told, actual[:, :-1]])[:, shown]
        first = np.broadcast_to(actual[shown, :1], (3, 10, 1, 8))
        draw_tiles(above, np.concatenate([first, rows], 2), ["real", "told", "repeated"])
        above.set_title("many to many: rows told from those before", fontsize=10)
        draw_tiles(below, drawn.reshape(10, DRAWN, 8, 8)[:, :7].swapaxes(0, 1), [""] * 7)
        below.set_title("one to many: drawn, having been told a class", fontsize=10)
        below.set_xticks(np.arange(10) * 9 + 4, range(10))

    return Result(text, measures, draw)


# ---- the picture ----


def draw_reading(figure, histories, norms) -> None:
    """Learning curves, and gradients over time before and after training."""
    above, below = figure.subplots(2, 1)
    for color, (name, history) in enumerate(histories.items()):
        above.plot(history["epoch"], history["val_accuracy"], label=name)
        for style, when, values in zip(("--", "-"), ("at first", "trained"), norms[name], strict=True):
            below.semilogy(range(1 - len(values), 1), values, style, color=f"C{color}", label=f"{name}, {when}")
    above.set(title="many to one: accuracy, held out", xlabel="epoch", ylim=(0, 1))
    below.set(title="‖dL/dh‖ at each step", xlabel="steps before the end")
    for axes in (above, below):
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)


def draw_tiles(axes, pictures, names) -> None:
    """Pictures (rows, columns, 8, 8), and the rows' names."""
    rows, columns = pictures.shape[:2]
    tiles = np.pad(pictures, ((0, 0), (0, 0), (0, 1), (0, 1)))
    axes.imshow(tiles.swapaxes(1, 2).reshape(rows * 9, columns * 9), cmap="gray_r", vmin=0, vmax=1)
    axes.set_xticks([])
    axes.set_yticks(np.arange(rows) * 9 + 4, names)
    axes.tick_params(length=0)
