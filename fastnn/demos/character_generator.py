"""A recurrent network learns a text letter by letter, and writes a new one at three temperatures.

The text is Debian's collection of fortunes, 2.5 million characters, if it is installed (apt install fortunes), or what
Python itself explains in `help()`, 0.4 million; or files of a folder of yours. A twentieth of the pieces is held out,
and what a network knows is said in bits per character there: -log2 of the probability that it gave to the character
that came, beside those of n-grams and of a compressor.

Training is truncated back-propagation through time (Werbos 1990; Williams and Peng 1990): the text runs in parallel
streams through windows of STEPS characters; the state is carried from window to window, and gradients are not. The
norm of the gradient is clipped (Pascanu et al. 2013, "On the difficulty of training recurrent neural networks").
The picture shows the learning curves, how the gradient of one loss fades on its way back in time, and what was written.
"""

from __future__ import annotations

import lzma
import re
import textwrap
from math import ceil, log
from pathlib import Path
from time import perf_counter

import numpy as np

import fastnn
import fastnn.nn as nn
from fastnn import Tensor, optim, train
from fastnn import functional as F
from fastnn.demos import Result
from fastnn.models import CharacterGenerator

FORTUNES = "/usr/share/games/fortunes"
INDICES = ".dat", ".u8"
"""Files beside the texts: where each fortune begins, and links to the same texts."""
END = "\0"
"""Ends every piece."""
RARE = "\ufffd"
"""Stands for all characters that occur less than LEAST times."""
LEAST = 20
STREAMS, STEPS = 32, 32
READ = 8e6
"""Characters to be read in training, in all epochs together."""
CLIP = 0.25
NGRAMS, K = 8, 24.0
"""The longest n-grams, and the weight of shorter ones: the best of 2 to 64 for the fortunes held out."""
TEMPERATURES = 0.5, 0.8, 1.1
LEARNING_RATES = {"rnn": 0.003, "gru": 0.004, "lstm": 0.012}


# ---- text ----


def read_folder(folder: str) -> list[str]:
    """All different pieces of a folder's files, which lines "%" part. FileNotFoundError if there are none."""
    try:
        files = [path for path in sorted(Path(folder).iterdir()) if path.is_file() and path.suffix not in INDICES]
    except (FileNotFoundError, NotADirectoryError):
        files = []
    texts = [path.read_text("utf-8", errors="replace") for path in files]
    pieces = {piece.strip("\n") for text in texts for piece in f"\n{text}\n".split("\n%\n")} - {""}
    if not pieces:
        raise FileNotFoundError(
            f"There are no texts in {folder}. Debian and Ubuntu have fortunes: apt install fortunes. Elsewhere, name a "
            "folder of texts, parted by lines '%', or none, for Python's own explanations"
        )
    return sorted(pieces)


def read_python() -> list[str]:
    """All different paragraphs of what `help()` explains of Python, in English; a line each, without ruled lines."""
    from pydoc_data.topics import topics

    text = re.sub(r"([-=*~])\1{2,}", "", "\n\n".join(topics.values()))
    return sorted({" ".join(paragraph.split()) for paragraph in text.split("\n\n")} - {""})


def read(folder: str, quick: bool) -> tuple[str, list[str]]:
    """What a text is called, and its pieces, each with its END, in random order, always the same."""
    if folder or (Path(FORTUNES).is_dir() and not quick):
        name, pieces = folder or "Debian's fortunes", read_folder(folder or FORTUNES)
    else:
        name, pieces = "Python's help", read_python()
    return name, [pieces[i] + END for i in np.random.default_rng(0).permutation(len(pieces))]


def alphabet(pieces: list[str]) -> list[str]:
    """All symbols: END, RARE, and the characters that are not rare in these pieces."""
    characters, counts = np.unique(list("".join(pieces)), return_counts=True)
    return [END, RARE, *(str(c) for c in characters[counts >= LEAST] if c not in (END, RARE))]


def encode(pieces: list[str], symbols: list[str]) -> list[np.ndarray]:
    """Indices of symbols, an array for every piece."""
    index = {symbol: i for i, symbol in enumerate(symbols)}
    rare = index[RARE]
    return [np.array([index.get(c, rare) for c in piece]) for piece in pieces]


def streams(text: np.ndarray, n: int) -> np.ndarray:
    """A text (L,) cut into n of equal length, side by side: (L // n, n)."""
    length = len(text) // n
    return text[: n * length].reshape(n, length).T


def windows(text: np.ndarray, steps: int):
    """Characters and those that come next, (steps, N) each, the last maybe shorter, one window after the other."""
    for begin in range(0, len(text) - 1, steps):
        end = min(begin + steps, len(text) - 1)
        yield text[begin:end], text[begin + 1 : end + 1]


# ---- what the text costs without a network ----


def ngram_bits(known: np.ndarray, test: np.ndarray, symbols: int, longest: int) -> list[float]:
    """Bits per character of test by n-grams counted in known, n from 1 to `longest`.

    The probabilities of n are mixed with those of n - 1: (count + K p_shorter) / (total + K) (MacKay and Peto 1995).
    """
    p, bits = np.full(len(test), 1 / symbols), []
    for n in range(1, longest + 1):
        keys = []
        for text in (known, test):
            padded = np.concatenate([np.zeros(n - 1, np.int64), text])
            context = sum(padded[i : i + len(text)] * symbols ** (n - 2 - i) for i in range(n - 1))
            keys.append((context + np.zeros_like(text), text))
        (context, last), (test_context, test_last) = keys
        total = occurrences(context, test_context)
        count = occurrences(context * symbols + last, test_context * symbols + test_last)
        p = (count + K * p) / (total + K)
        bits.append(float(-np.log2(p).mean()))
    return bits


def occurrences(keys, wanted):
    """How often each of `wanted` is among the keys."""
    keys = np.sort(keys)
    return np.searchsorted(keys, wanted, "right") - np.searchsorted(keys, wanted, "left")


def lzma_bits(known: np.ndarray, test: np.ndarray) -> float:
    """Bits per character that test adds to the compressed form of known."""
    dtype = np.min_scalar_type(max(known.max(), test.max()))
    before, after = (
        len(lzma.compress(text.astype(dtype).tobytes(), preset=9 | lzma.PRESET_EXTREME))
        for text in (known, np.concatenate([known, test]))
    )
    return 8 * (after - before) / len(test)


def baselines(known: np.ndarray, test: np.ndarray, symbols: int) -> dict[str, float]:
    """Bits per character of test by name of the method."""
    longest = min(NGRAMS, int(log(2**63, symbols)))  # keys are int64
    ngrams = {f"{n}-grams": bits for n, bits in enumerate(ngram_bits(known, test, symbols, longest), 1)}
    return ngrams | {"lzma": lzma_bits(known, test)}


# ---- training ----


def detached(state):
    """The same numbers, without the way they came."""
    return tuple(map(Tensor.detach, state)) if isinstance(state, tuple) else state.detach()


def train_epoch(model, optimizer, schedule, text: np.ndarray, label: str) -> None:
    """Truncated back-propagation through time over streams (L, N)."""
    state = None
    losses: list[float] = []
    for x, target in train.track([*windows(text, STEPS)], label, lambda: {"bits": losses[-1] / log(2)}):
        logits, state = model(Tensor(x), state)
        loss = F.cross_entropy(logits.flatten(0, 1), target.ravel())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        schedule.step()
        state = detached(state)
        losses.append(loss.item())


def bits_per_character(model, text: np.ndarray) -> float:
    """The mean of -log2 p over streams (L, N)."""
    state, bits, count = None, 0.0, 0
    for x, target in windows(text, STEPS):
        logits, state = model(x, state)
        bits += F.cross_entropy(logits.reshape(-1, model.symbols), target.ravel(), reduction="sum") / np.log(2)
        count += target.size
    return float(bits) / count


def learn(model, rate: float, pieces, test: np.ndarray, epochs: int, rng, name: str):
    """Train a model; its bits per character after each epoch, and gradient norms before and after training."""
    total = epochs * ceil((sum(map(len, pieces)) // STREAMS - 1) / STEPS)
    optimizer = optim.Adam(model.parameters(), rate)
    schedule = optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=total, pct_start=0.1)
    held_out = streams(test, STREAMS)
    norms, curve = [gradient_norms(model, held_out)], []
    for epoch in range(epochs):
        # Other neighbours, streams and windows in each epoch.
        text = streams(np.concatenate([pieces[i] for i in rng.permutation(len(pieces))]), STREAMS)
        start = perf_counter()
        train_epoch(model, optimizer, schedule, text, f"{name}, epoch {epoch + 1}/{epochs}")
        seconds = perf_counter() - start
        curve.append(bits_per_character(model, held_out))
        print(
            f"epoch {epoch + 1}/{epochs}: {curve[-1]:.3f} bits per character held out, {seconds:.1f} s, "
            f"{text.size / seconds:,.0f} characters/s",
            flush=True,
        )
    norms.append(gradient_norms(model, held_out))
    return curve, norms


def gradient_norms(model, text: np.ndarray) -> np.ndarray:
    """‖dL/dh_t‖ for each step of a window, L being the loss of its last character only."""
    x, target = next(windows(text, STEPS))
    logits, _ = model(Tensor(x))
    loss = F.cross_entropy(logits[-1], target[-1])
    with train.gradients_over_time() as norms:
        loss.backward()
    model.zero_grad()
    return norms[0]


def run(
    *,
    quick: bool = False,
    seed: int = 0,
    folder: str = "",
    cells: str = "rnn lstm",
    hidden: int | None = None,
    epochs: int | None = None,
) -> Result:
    """folder: of texts, pieces of which lines "%" part. cells: some of rnn, gru, lstm, one after the other. hidden:
    units (default: 256, quick: 64). epochs: passes over the text (default: as many as come closest to 8 million
    characters, at most 20; quick: 3).
    """
    names = cells.split()
    if not names or {*names} - {*LEARNING_RATES}:
        raise ValueError(f"character_generator: cells is {cells!r}, expected some of {' '.join(LEARNING_RATES)}")
    source, pieces = read(folder, quick)
    tests = len(pieces) // 20
    symbols = alphabet(pieces[tests:])
    codes = encode(pieces, symbols)
    held_out, codes = codes[:tests], codes[tests:]
    least = STREAMS * (STEPS + 1)  # a window for each stream
    if sum(map(len, held_out)) < least:
        raise ValueError(f"character_generator: a twentieth of {source} has less than {least} characters: too little")
    known, test = np.concatenate(codes), np.concatenate(held_out)
    if hidden is None:
        hidden = 64 if quick else 256
    if epochs is None:
        epochs = 3 if quick else min(max(round(READ / len(known)), 1), 20)
    for option, value in (("hidden", hidden), ("epochs", epochs)):
        if value < 1:
            raise ValueError(f"character_generator: {option} is {value}, expected at least 1")
    print(f"{source}: {len(codes)} pieces of {len(known):,} characters, {len(symbols)} symbols")
    print(f"Held out: {len(held_out)} pieces of {len(test):,} characters")
    lines = baselines(known, test, len(symbols))
    print("Bits per character held out: " + ", ".join(f"{name} {bits:.3f}" for name, bits in lines.items()))

    fastnn.manual_seed(seed)
    rng = np.random.default_rng(seed)
    curves, norms, samples = {}, {}, {}
    for cell in names:
        model = CharacterGenerator(len(symbols), hidden, cell=cell)
        print(f"\n{cell}: {sum(p.size for p in model.parameters()):,} parameters")
        curves[cell], norms[cell] = learn(model, LEARNING_RATES[cell], codes, test, epochs, rng, cell)
        for temperature in TEMPERATURES:
            longest = 100 if quick else 400
            written = model.write(
                held_out[0], longest=longest, rng=rng, temperature=temperature, end=symbols.index(END)
            )
            samples[temperature] = "".join(symbols[code] for code in written)
            print(f"\n---- {cell}, temperature {temperature} ----\n{samples[temperature]}")

    best = min((name for name in lines if name != "lzma"), key=lambda name: lines[name])

    def draw(figure):
        axes = figure.subplots(1, 3)
        draw_curves(axes[0], curves, {name: lines[name] for name in (best, "lzma")})
        draw_gradients(axes[1], norms)
        draw_text(axes[2], names[-1], samples)

    found = ", ".join(f"{cell} {curve[-1]:.2f}" for cell, curve in curves.items())
    text = (
        f"Bits per character of {len(test):,} held out, after {epochs} epochs over {len(known):,} of {source}: "
        f"{found}, {best} {lines[best]:.2f}, lzma {lines['lzma']:.2f}."
    )
    return Result(text, lines | {cell: curve[-1] for cell, curve in curves.items()}, draw)


# ---- the picture ----


def draw_curves(axes, curves, lines) -> None:
    """Learning curves, and what costs no training (lines)."""
    for cell, curve in curves.items():
        axes.plot(range(1, len(curve) + 1), curve, marker=".", label=cell)
    for style, (label, bits) in zip((":", "--"), lines.items(), strict=True):
        axes.axhline(bits, color="gray", linestyle=style, label=label)
    axes.set(title="bits per character, held out", xlabel="epoch")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.3)
    axes.legend()


def draw_gradients(axes, norms) -> None:
    """Gradients over time, before and after training."""
    for color, (cell, both) in enumerate(norms.items()):
        for style, when, values in zip(("--", "-"), ("at first", "trained"), both, strict=True):
            axes.semilogy(range(1 - len(values), 1), values, style, color=f"C{color}", label=f"{cell}, {when}")
    axes.set(title="‖dL/dh‖ of the last character's loss", xlabel="steps before")
    axes.grid(alpha=0.3)
    axes.legend()


def draw_text(axes, cell, samples) -> None:
    """The beginnings of what was written, in characters that any font has."""
    axes.axis("off")
    axes.set_title(f"written by the {cell}")
    lines = []
    for temperature, sample in samples.items():
        plain = "".join(c if c.isascii() and (c.isprintable() or c == "\n") else " " for c in sample.expandtabs(4))
        wrapped = [part for line in plain.splitlines() for part in textwrap.wrap(line, 56)]
        lines += [f"---- temperature {temperature} ----", *wrapped[:9], ""]
    axes.text(0, 1, "\n".join(lines), va="top", family="monospace", fontsize=7, parse_math=False)
