"""A memory network answers questions about stories, such as "where is the milk?".

The stories are of the kind of task 2 of Weston et al. 2015, "Towards AI-complete question answering" (bAbI): people
move, take things and leave them. Every question needs two sentences: the last one about the thing, which says who had
it, and that person's last move, or the last one before the thing was left. Others stand before, between and behind. A
world that obeys the rules makes stories without end; those held out are never trained on.

The picture shows the learning curves, and what the network looks at in two stories held out.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

import fastnn
from fastnn import Tensor, optim, train
from fastnn import functional as F
from fastnn.demos import Result
from fastnn.models import MemoryNetwork

PEOPLE = "Mary", "John", "Sandra", "Daniel"
PLACES = "bathroom", "bedroom", "garden", "hallway", "kitchen", "office"
THINGS = "apple", "football", "milk"
MOVES, TAKES, LEAVES = ("went", "moved", "walked"), ("took", "grabbed", "got"), ("dropped", "left", "discarded")
WORDS = "", *PEOPLE, *PLACES, *THINGS, *MOVES, *TAKES, *LEAVES, "to", "the", "where", "is"
CODES = {word: code for code, word in enumerate(WORDS)}
PERSON, PLACE, THING, MOVE, TAKE, LEAVE = (
    np.array([CODES[word] for word in words]) for words in (PEOPLE, PLACES, THINGS, MOVES, TAKES, LEAVES)
)
SHORTEST, LONGEST = 6, 10
"""Sentences of a story."""
BATCH = 128
TESTS = 20
"""In the course of training."""
LEARNING_RATE = 5e-3


class Stories(NamedTuple):
    """sentences: words (N, LONGEST, 5), zeros behind the end. lengths: (N,). questions: words (N, 5). answers: words
    (N,). facts: (N, 2), the sentences that answer: the last about the thing, and the move that says where."""

    sentences: np.ndarray
    lengths: np.ndarray
    questions: np.ndarray
    answers: np.ndarray
    facts: np.ndarray

    def some(self, index) -> Stories:
        """Those at an index."""
        return Stories(*(array[index] for array in self))


def tell(rng, n: int) -> Stories:
    """At most n stories: those of n worlds where something was taken, which is asked for.

    Somebody is chosen for each sentence, and moves, or takes or leaves a thing if that can be. Who was not heard of yet
    moves, so that all places are known. Things can lie anywhere at first.
    """
    worlds = np.arange(n)
    lengths = rng.integers(SHORTEST, LONGEST + 1, n)
    place = np.full((n, len(PEOPLE)), -1)
    moved = np.full((n, len(PEOPLE)), -1)  # the sentence that says so
    holder = np.full((n, len(THINGS)), -1)
    lies = rng.integers(0, len(PLACES), (n, len(THINGS)))
    facts = np.full((n, len(THINGS), 2), -1)
    sentences = np.zeros((n, LONGEST, 5), np.int64)
    for time in range(LONGEST):
        goes_on = time < lengths
        who = rng.integers(0, len(PEOPLE), n)
        here = place[worlds, who]
        held = holder == who[:, None]
        free = (holder < 0) & (lies == here[:, None])
        thing = (rng.random(held.shape) + (held | free)).argmax(1)  # one of those in reach
        acts = goes_on & (rng.random(n) < 0.6)
        takes, leaves = acts & free[worlds, thing], acts & held[worlds, thing]
        moves = goes_on & ~takes & ~leaves
        to = np.where(here < 0, 0, here + 1) + rng.integers(0, len(PLACES) - (here >= 0), n)  # another place
        to %= len(PLACES)

        verb = np.select([moves, takes, leaves], [table[rng.integers(0, 3, n)] for table in (MOVE, TAKE, LEAVE)])
        move = np.stack([np.full(n, CODES["to"]), np.full(n, CODES["the"]), PLACE[to]], 1)
        act = np.stack([np.full(n, CODES["the"]), THING[thing], np.zeros(n, np.int64)], 1)
        sentences[:, time, 0], sentences[:, time, 1] = PERSON[who], verb
        sentences[:, time, 2:] = np.where(moves[:, None], move, act)

        place[moves, who[moves]], moved[moves, who[moves]] = to[moves], time
        holder[takes, thing[takes]] = who[takes]
        facts[takes | leaves, thing[takes | leaves], 0] = time
        holder[leaves, thing[leaves]] = -1
        lies[leaves, thing[leaves]] = here[leaves]
        facts[leaves, thing[leaves], 1] = moved[worlds, who][leaves]

    sentences[np.arange(LONGEST) >= lengths[:, None]] = 0
    asked = (rng.random(holder.shape) + (facts[:, :, 0] >= 0)).argmax(1)
    has, facts = holder[worlds, asked], facts[worlds, asked]
    facts[:, 1] = np.where(has >= 0, moved[worlds, has], facts[:, 1])
    answers = PLACE[np.where(has >= 0, place[worlds, has], lies[worlds, asked])]
    questions = np.tile([CODES["where"], CODES["is"], CODES["the"], 0, 0], (n, 1))
    questions[:, 3] = THING[asked]
    return Stories(sentences, lengths, questions, answers, facts).some(facts[:, 0] >= 0)


def text_of(words) -> str:
    """A sentence."""
    return " ".join(WORDS[word] for word in words if word)


def last_place(stories: Stories) -> np.ndarray:
    """The place that each story names last."""
    place = stories.sentences[:, :, 4]
    last = place.shape[1] - 1 - (place > 0)[:, ::-1].argmax(1)
    return place[np.arange(len(place)), last]


def batches(rng, steps: int, held_out: set[bytes]):
    """So many batches of new stories, none of those held out (their sentences' bytes)."""
    while steps > 0:
        stories = tell(rng, 32 * BATCH)
        stories = stories.some([each.tobytes() not in held_out for each in stories.sentences])
        for begin in range(0, min(len(stories.answers) // BATCH, steps) * BATCH, BATCH):
            steps -= 1
            yield stories.some(slice(begin, begin + BATCH))


def learn(model: MemoryNetwork, stories, test: Stories, steps: int) -> list[float]:
    """Train on batches of stories; the accuracies on those held out, which are tested TESTS times on the way."""
    optimizer = optim.Adam(model.parameters(), LEARNING_RATE)
    schedule = optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps, pct_start=0.1)
    curve: list[float] = []
    losses: list[float] = []
    tests = {*times(steps)}
    for _ in train.track(range(steps), "stories", lambda: {"loss": losses[-1]}):
        batch = next(stories)
        loss = F.cross_entropy(model(Tensor(batch.sentences), batch.questions, batch.lengths), batch.answers)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if len(losses) in tests:
            curve.append(accuracy(model, test))
            print(f"  {len(losses)} steps: loss {np.mean(losses[-20:]):.4f}, held out {curve[-1]:.1%}", flush=True)
    return curve


def times(steps: int) -> list[int]:
    """Steps after which is tested, the last one among them."""
    return [*range(steps, 0, -max(steps // TESTS, 1))][::-1]


def accuracy(model: MemoryNetwork, test: Stories) -> float:
    return float((model(test.sentences, test.questions, test.lengths).argmax(1) == test.answers).mean())


def run(*, quick: bool = False, seed: int = 0, steps: int | None = None, hops: int = 3, size: int = 64) -> Result:
    """steps: batches of 128 stories for each network (default: 6000, quick: 700). hops: how often the memory is read.
    size: of the vectors."""
    if steps is None:
        steps = 700 if quick else 6000
    if steps < 1:
        raise ValueError(f"stories: steps is {steps}, expected at least 1")
    rng = np.random.default_rng(seed)
    test = tell(rng, 2500 if quick else 6000)
    held_out = {each.tobytes() for each in test.sentences}
    print(f"{len(test.answers)} stories are held out, such as:")
    print(". ".join(map(text_of, test.sentences[0, : test.lengths[0]])) + f". {text_of(test.questions[0])}?")
    baselines = {
        "always the same place": float(np.bincount(test.answers).max() / len(test.answers)),
        "the last place named": float((last_place(test) == test.answers).mean()),
    }
    curves, models = {}, {}
    for n in dict.fromkeys((1, hops)):
        print(f"{n} hops" if n > 1 else "1 hop")
        fastnn.manual_seed(seed)
        models[n] = MemoryNetwork(len(WORDS), LONGEST, size=size, hops=n)
        curves[n] = learn(models[n], batches(np.random.default_rng(seed + 1), steps, held_out), test, steps)
    _, weights = models[hops](test.sentences, test.questions, test.lengths, need_weights=True)
    looked_at = [(weights.argmax(2) == fact).any(0).mean() for fact in test.facts.T]

    def draw(figure):
        axes = figure.subplots(1, 3, width_ratios=[1.3, 1, 1])
        draw_curves(axes[0], curves, steps, baselines)
        left = np.isin(test.sentences[np.arange(len(test.facts)), test.facts[:, 0], 1], LEAVE)
        between = test.facts[:, 1] < test.lengths - 3
        for each, chosen in zip(axes[1:], (~left & between, left & between), strict=True):
            draw_story(each, test, np.flatnonzero(chosen)[0], models[hops], weights)

    measures = {"accuracy": curves[hops][-1], "one_hop": curves[1][-1], "fact_1": looked_at[0], "fact_2": looked_at[1]}
    text = (
        f"{curves[hops][-1]:.1%} of {len(test.answers)} stories held out are answered with {hops} hops, "
        f"{curves[1][-1]:.1%} with one; the last place named is right for {baselines['the last place named']:.1%}, "
        f"always the same one for {baselines['always the same place']:.1%}. A hop looks most at the sentence about the "
        f"thing in {looked_at[0]:.1%}, and at the move that says where in {looked_at[1]:.1%}."
    )
    return Result(text, measures | baselines, draw)


def draw_curves(axes, curves, steps, baselines):
    """Accuracy on what is held out, and what costs no training."""
    for n, curve in curves.items():
        axes.plot(times(steps), curve, marker=".", label=f"{n} hops" if n > 1 else "1 hop")
    for style, (label, value) in zip((":", "--"), baselines.items(), strict=True):
        axes.axhline(value, color="gray", linestyle=style, label=label)
    axes.set(xlabel="steps", ylabel="answered correctly, held out", ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    axes.legend()


def draw_story(axes, test, i, model, weights):
    """The weights of a story's sentences at each hop; those that answer are marked."""
    n = test.lengths[i]
    axes.imshow(weights[:, i, :n].T, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    marks = ["▸ " if row in test.facts[i] else "" for row in range(n)]
    axes.set_yticks(range(n), [mark + text_of(test.sentences[i, row]) for row, mark in enumerate(marks)], fontsize=8)
    axes.set_xticks(range(len(weights)), [f"hop {hop + 1}" for hop in range(len(weights))])
    found = model(test.sentences[i : i + 1], test.questions[i : i + 1], test.lengths[i : i + 1]).argmax()
    right = "" if found == test.answers[i] else f" (it is: {WORDS[test.answers[i]]})"
    axes.set_title(f"{text_of(test.questions[i])}? {WORDS[found]}{right}", fontsize=10)
