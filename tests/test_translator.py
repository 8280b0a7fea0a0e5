"""The example that translates letters to phonemes: its decoding against brute force, its training on few words."""

import importlib.util
import re
import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from test_examples import run

import fastnn

SCRIPT = Path(__file__).resolve().parent.parent / "examples" / "letters_to_phonemes.py"
START, END, LONGEST = 0, 1, 4


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("letters_to_phonemes", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Toy:
    """Four symbols, whose log-probabilities depend on the sequence's number, the symbol before and the time: the state
    (N, 2) is number and time."""

    classes = 4

    def __init__(self, n, seed=0):
        odds = np.random.default_rng(seed).normal(size=(n, LONGEST, self.classes, self.classes)) * 2
        self.table = odds - np.log(np.exp(odds).sum(-1, keepdims=True))
        self.first = np.stack([np.arange(n), np.zeros(n, int)], 1)

    def step(self, symbols, state):
        return self.table[state[:, 0], state[:, 1], symbols], state + [0, 1]

    def score(self, number, sequence):
        """Up to END, which is counted."""
        total, previous = 0.0, START
        for time, symbol in enumerate(sequence):
            total += self.table[number, time, previous, symbol]
            if symbol == END:
                break
            previous = symbol
        return total


def filled(symbols):
    """(N, LONGEST), END behind the ends."""
    return np.pad(symbols, ((0, 0), (0, LONGEST - symbols.shape[1])), constant_values=END)


def test_widest_beam_is_exact(example):
    """As many beams as there are sequences: nothing is left out."""
    toy = Toy(5)
    symbols, score = example.beam(toy.step, toy.first, START, END, toy.classes**LONGEST, LONGEST)
    for number in range(5):
        all_scores = {s: toy.score(number, s) for s in product(range(toy.classes), repeat=LONGEST)}
        best = max(all_scores.values())
        assert score[number] == pytest.approx(best, rel=1e-12)
        assert toy.score(number, symbols[number]) == pytest.approx(best, rel=1e-12)


def test_beam_of_one_is_greedy(example):
    toy = Toy(40, seed=1)
    want = example.greedy(toy.step, toy.first, START, END, LONGEST)
    symbols, score = example.beam(toy.step, toy.first, START, END, 1, LONGEST)
    np.testing.assert_array_equal(symbols, want)
    np.testing.assert_allclose(score, [toy.score(i, s) for i, s in enumerate(want)], rtol=1e-12)
    ends = (want == END).argmax(axis=1)
    assert len(set(ends)) > 2  # some ended early, some did not
    behind = (np.arange(want.shape[1]) > ends[:, None]) & (want == END).any(axis=1)[:, None]
    assert (want[behind] == END).all()


def test_beam_of_one_sequence_alone(example):
    """What a sequence gives does not depend on those beside it, nor its score on when they end."""
    toy = Toy(20, seed=2)
    symbols, score = example.beam(toy.step, toy.first, START, END, 3, LONGEST)
    for i in range(20):
        alone, its_score = example.beam(toy.step, toy.first[i : i + 1], START, END, 3, LONGEST)
        np.testing.assert_array_equal(filled(alone)[0], filled(symbols)[i])
        assert its_score[0] == score[i] == pytest.approx(toy.score(i, symbols[i]), rel=1e-12)


def test_error_rates(example):
    """The nearest pronunciation counts: 1 error of 3, none of 2, 2 of 2."""
    distances = [("kitten", "sitting", 3), ("", "abc", 3), ("abc", "", 3), ("flaw", "lawn", 2), ("ab", "ab", 0)]
    for a, b, want in distances:
        assert example.edit_distance(a, b) == want
    phoneme_rate, word_rate = example.error_rates(["ab", "cd", "xy"], [["abc", "zzzz"], ["d", "cd"], ["uv"]])
    assert (phoneme_rate, word_rate) == (3 / 7, 2 / 3)


def test_read_and_split(example, tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("read R EH1 D\nread(2) R IY1 D\nread(3) R EH0 D # again\nt.v. T IY1\nits' IH0 T S\n\n")
    assert example.read_dictionary(path) == {"read": [("R", "EH", "D"), ("R", "IY", "D")], "its'": [("IH", "T", "S")]}
    words = [f"{chr(97 + i)}{chr(97 + j)}{s}" for i in range(26) for j in range(26) for s in ("", "'s")]
    parts = example.split(words)
    assert sorted(word for part in parts for word in part) == sorted(words)
    assert all(len(part) > 0.02 * len(words) for part in parts) and len(parts[0]) > 0.8 * len(words)
    stems = [{word.partition("'")[0] for word in part} for part in parts]
    assert sum(map(len, stems)) == 26 * 26


@pytest.mark.parametrize("attention", [False, True])
def test_steps_are_the_sequence(example, attention):
    """What `stepper` gives phoneme by phoneme, for two beams a word, is what the taught sequence gives: float64."""
    fastnn.manual_seed(3)
    model = example.Translator(9, 7, hidden_size=6, embedding_dim=5, attention=attention).double().eval()
    letters, lengths = np.array([[3, 4, 5, 8], [7, 6, 0, 0]]), np.array([4, 2])
    previous = np.array([[1, 3, 4], [1, 5, 6], [1, 6, 6], [1, 4, 3]])  # two for each word
    logits, weights = model(letters.repeat(2, 0), lengths.repeat(2), previous)
    step, state = model.stepper(letters, lengths)
    state = state.repeat(2, 0)
    for time in range(3):
        got, state = step(previous[:, time], state)
        want = logits[:, time] - np.log(np.exp(logits[:, time]).sum(1, keepdims=True))
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-13)
    assert (weights is not None) == attention
    if attention:
        np.testing.assert_allclose(weights.sum(2), 1, rtol=1e-12)
        assert (weights[2:, :, 2:] == 0).all()


def test_small_language(tmp_path):
    """Of words whose letters are their phonemes, but "h", which changes the one before, and "e", which is mute."""
    pytest.importorskip("matplotlib")
    rng = np.random.default_rng(0)
    lines, changed, total = set(), 0, 0
    for _ in range(1500):
        word = "".join(rng.choice(list("abcdhe"), rng.integers(3, 7)))
        sounds = [a.upper() + ("H" if b == "h" else "") for a, b in zip(word, word[1:] + " ", strict=True)]
        sounds = [s for s in sounds if s[0] not in "HE"]
        if sounds:
            lines.add(f"{word} {' '.join(sounds)}")
            changed, total = changed + sum(len(s) > 1 for s in sounds), total + len(sounds)
    (tmp_path / "words.txt").write_text("\n".join(sorted(lines)), encoding="utf-8")
    output = run(
        "-W", "error", str(SCRIPT), "--dictionary", "words.txt", "--epochs", "8", "--words", "chad", "bead", "--plot",
        "attention.png", cwd=tmp_path,
    )  # fmt: skip
    rates = re.findall(r"^(with\w*) attention +(greedy|beam of 5) +([\d.]+)% +([\d.]+)%", output, re.MULTILINE)
    assert [row[:2] for row in rates] == [(a, b) for a in ("without", "with") for b in ("greedy", "beam of 5")]
    (_, _, blind, _), _, (_, _, attentive, _), _ = rates
    by_itself = 100 * changed / total  # errors in percent of who tells every letter without those beside it
    assert float(attentive) < min(by_itself, float(blind)), (by_itself, output)
    assert re.search("^chad: ", output, re.MULTILINE)
    assert (tmp_path / "attention.png").read_bytes().startswith(b"\x89PNG")


def test_refused(tmp_path):
    """Messages, and nothing else, for what cannot be done."""
    (tmp_path / "words.txt").write_text("a AH0\n")
    for arguments, message in (
        (["--dictionary", "none.txt"], "none.txt"),
        (["--dictionary", "words.txt"], "--words has"),
        (["--dictionary", "words.txt", "--words", "a"], "too few"),
        (["--epochs", "0"], "at least 1"),
    ):
        done = subprocess.run([sys.executable, SCRIPT, *arguments], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode and message in done.stderr and "Traceback" not in done.stderr
