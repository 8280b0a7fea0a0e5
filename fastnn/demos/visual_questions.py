"""A network answers questions about two handwritten digits: "is the left digit larger than the right one?".

18 of the 100 pairs of digits, and a fifth of scikit-learn's images, are held out: what is tested are all questions
about pairs that were never seen, written in images that were never seen. With a pair its mirror image is held out, and
every digit stands as often on either side.

Sums are not asked: what two digits make together is told by no other pairs, and the network guesses it.

The picture shows questions with their answers, and how much of each kind is right, with the image and without.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import NamedTuple

import numpy as np

import fastnn
from fastnn import Tensor
from fastnn import functional as F
from fastnn.demos import Result
from fastnn.demos._composites import NUMBERS, Pool, compose, learn, split
from fastnn.models import VisualQuestions

SIZE = 12, 24
"""Pixels of an image, each half of which has a digit somewhere."""
HALF = 12, 12
ANSWERS = "no", "yes", *NUMBERS
ZERO = ANSWERS.index("zero")


class Question(NamedTuple):
    """A kind of questions, its words, and the answer of digits, arrays: its place in ANSWERS."""

    kind: str
    words: str
    answer: Callable[[np.ndarray, np.ndarray], np.ndarray]


QUESTIONS = (
    Question("name", "what is the left digit", lambda left, right: left + ZERO),
    Question("name", "what is the right digit", lambda left, right: right + ZERO),
    Question("parity", "is the left digit odd", lambda left, right: left % 2),
    Question("parity", "is the right digit odd", lambda left, right: right % 2),
    Question("parity", "is the left digit even", lambda left, right: 1 - left % 2),
    Question("parity", "is the right digit even", lambda left, right: 1 - right % 2),
    Question("order", "is the left digit larger than the right one", lambda left, right: left > right),
    Question("order", "is the right digit larger than the left one", lambda left, right: right > left),
    Question("order", "is the left digit smaller than the right one", lambda left, right: left < right),
    Question("order", "is the right digit smaller than the left one", lambda left, right: right < left),
    Question("equality", "are the digits equal", lambda left, right: left == right),
    Question("equality", "are the digits different", lambda left, right: left != right),
    Question("count", "how many digits are odd", lambda left, right: left % 2 + right % 2 + ZERO),
    Question("count", "how many digits are even", lambda left, right: 2 - left % 2 - right % 2 + ZERO),
    Question("extreme", "what is the largest digit", lambda left, right: np.maximum(left, right) + ZERO),
    Question("extreme", "what is the smallest digit", lambda left, right: np.minimum(left, right) + ZERO),
)
KINDS = tuple(dict.fromkeys(question.kind for question in QUESTIONS))
KIND = np.array([KINDS.index(question.kind) for question in QUESTIONS])
COUNTS = np.bincount(KIND)
FIRST = np.cumsum(COUNTS) - COUNTS
WORDS = ("", *sorted({word for question in QUESTIONS for word in question.words.split()}))
"""Words of questions, by their codes; 0 stands behind the end."""
LENGTHS = np.array([len(question.words.split()) for question in QUESTIONS])
CODES = np.zeros((len(QUESTIONS), LENGTHS.max()), np.int64)
for row, question in zip(CODES, QUESTIONS, strict=True):
    row[: len(question.words.split())] = [WORDS.index(word) for word in question.words.split()]
EACH = 4
"""Questions about an image."""
ROWS, COLUMNS = 3, 3
"""Of examples in the picture."""


class Batch(NamedTuple):
    """images (N, 1, *SIZE), asked (N, EACH), the questions' places in QUESTIONS, answers (N, EACH), places in ANSWERS,
    digits (N, 2)."""

    images: np.ndarray
    asked: np.ndarray
    answers: np.ndarray
    digits: np.ndarray


def pairs(rng) -> tuple[np.ndarray, np.ndarray]:
    """Those to train on (82, 2) and those held out (18, 2).

    Held out are (i, s(i)) and (s(i), i), for a permutation s of the digits with two fixed points, no exchange of two,
    and no neighbours: that 3 is less than 4 is told by no other pair.
    """
    digits = np.arange(len(NUMBERS))
    every = np.stack(np.divmod(np.arange(100), 10), 1)
    while True:
        s = rng.permutation(10)
        fixed = s == digits
        if fixed.sum() == 2 and not (s[s] == digits)[~fixed].any() and not (abs(s - digits) == 1).any():
            held_out = np.zeros((10, 10), bool)
            held_out[digits, s] = held_out[s, digits] = True
            return every[~held_out.ravel()], every[held_out.ravel()]


def ask(rng, pool: Pool, choice: np.ndarray, n: int, *, augment: bool = False, kinds: int = len(KINDS)) -> Batch:
    """Composites of n pairs from a choice (P, 2), a third of them of equal digits, and EACH questions about each, of
    the first so many KINDS, which are equally likely."""
    same = choice[:, 0] == choice[:, 1]
    chances = np.where(same, 1 / same.sum(), 2 / (~same).sum()) / 3
    digits = choice[rng.choice(len(choice), n, p=chances)]
    kind = rng.integers(0, kinds, (n, EACH))
    asked = FIRST[kind] + rng.integers(0, COUNTS[kind])  # QUESTIONS are in the order of KINDS
    every = np.stack([question.answer(*digits.T).astype(np.int64) for question in QUESTIONS], 1)
    halves = [compose(rng, pool, digits[:, i : i + 1], HALF, augment=augment)[0] for i in (0, 1)]
    return Batch(np.concatenate(halves, 3), asked, np.take_along_axis(every, asked, 1), digits)


def batches(rng, pool: Pool, choice: np.ndarray, size: int, names: int):
    """Batches of so many images, distorted, without end. Names are asked first, for so many batches: whoever compares
    digits before knowing them learns the pairs by heart."""
    for step in count():
        yield ask(rng, pool, choice, size, augment=True, kinds=1 if step < names else len(KINDS))


def answer(model: VisualQuestions, images: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """The likeliest answers (N, EACH)."""
    parts = 1 + len(images) // 500
    both = zip(np.array_split(images, parts), np.array_split(asked, parts), strict=True)
    return np.concatenate([model(x, CODES[q], LENGTHS[q]).argmax(2) for x, q in both])


def usual(batch: Batch) -> np.ndarray:
    """The most frequent answer to each of QUESTIONS."""
    return np.array([np.bincount(batch.answers[batch.asked == i]).argmax() for i in range(len(QUESTIONS))])


def run(*, quick: bool = False, seed: int = 0, steps: int | None = None, fusion: str = "matching") -> Result:
    """steps: batches of 128 images with 4 questions each (default: 900; quick: 300 of 64 images, and a smaller
    network). fusion: matching, or product, that of the first paper."""
    if steps is None:
        steps = 300 if quick else 900
    if steps < 1:
        raise ValueError(f"visual_questions: steps is {steps}, expected at least 1")
    rng = np.random.default_rng(seed)
    seen, held_out = pairs(rng)
    pool, test_pool = split()
    test = ask(rng, test_pool, held_out, 400 if quick else 2000)
    known = ask(rng, test_pool, seen, len(test.images))
    fastnn.manual_seed(seed)
    model = VisualQuestions(len(WORDS), len(ANSWERS), SIZE, width=12 if quick else 16, fusion=fusion)

    def loss_of(batch):
        logits = model(Tensor(batch.images), CODES[batch.asked], LENGTHS[batch.asked])
        return F.cross_entropy(logits.flatten(0, 1), batch.answers.ravel())

    def score(batch, images=None, n=None):
        """Which answers are right: of the first n images of a batch, or of others."""
        images = batch.images if images is None else images
        return answer(model, images[:n], batch.asked[:n]) == batch.answers[:n]

    rate, size = 8e-3, 64 if quick else 128
    learn(
        model,
        batches(rng, pool, seen, size, steps // 4),
        loss_of,
        steps,
        rate,
        lambda: float(score(test, n=400).mean()),
        weight_decay=0.2,  # or pairs are learned by heart
    )
    rights = {
        "the image": score(test),
        "another image": score(test, np.roll(test.images, 1, 0)),
        "the usual answer": usual(ask(rng, pool, seen, 5000))[test.asked] == test.answers,
    }
    of_kind = {
        name: [float(right[KIND[test.asked] == i].mean()) for i in range(len(KINDS))] for name, right in rights.items()
    }
    measures = {
        "accuracy": float(rights["the image"].mean()),
        "known_pairs": float(score(known).mean()),
        "another_image": float(rights["another image"].mean()),
        "usual_answer": float(rights["the usual answer"].mean()),
        **dict(zip(KINDS, of_kind["the image"], strict=True)),
    }
    kinds = ", ".join(f"{kind} {measures[kind]:.1%}" for kind in KINDS)
    text = (
        f"{measures['accuracy']:.1%} of {test.answers.size} questions are answered correctly, digits and pairs both "
        f"held out ({kinds}); {measures['known_pairs']:.1%} about known pairs. The usual answer to each question is "
        f"right for {measures['usual_answer']:.1%}, what the network says with another image before it for "
        f"{measures['another_image']:.1%}."
    )

    def draw(figure):
        left, right = figure.subfigures(1, 2, width_ratios=[2, 1])
        draw_examples(left, model, test)
        draw_kinds(right.subplots(), of_kind)

    return Result(text, measures, draw)


def draw_examples(figure, model, test):
    """Questions about images held out, a kind after the other."""
    figure.suptitle("Held out: questions and answers")
    for i, axes in enumerate(figure.subplots(ROWS, COLUMNS).flat):
        image, place = test.images[i : i + 1], FIRST[i % len(KINDS)] + i // len(KINDS)
        question, codes = QUESTIONS[place], CODES[None, place, : LENGTHS[place]]
        found = model(image, codes).argmax()
        right = question.answer(*test.digits[i])
        axes.imshow(image[0, 0], cmap="gray_r")
        said = ANSWERS[found] + ("" if found == right else f" (it is: {ANSWERS[int(right)]})")
        axes.set_title(f"{question.words} ?\n{said}", fontsize=8)
        axes.axis("off")


def draw_kinds(axes, of_kind):
    """Bars: how much of each kind is right."""
    for i, (name, shares) in enumerate(of_kind.items()):
        axes.barh(np.arange(len(KINDS)) + 0.27 * (i - 1), shares, 0.25, label=name)
    axes.set_yticks(range(len(KINDS)), KINDS)
    axes.invert_yaxis()
    axes.set(xlabel="answered correctly, held out", xlim=(0, 1))
    axes.legend(loc="upper center", bbox_to_anchor=(0.4, -0.1), ncols=3, fontsize=7, columnspacing=1, handlelength=1)
