"""Translation: decoding against brute force, steps against sequences, and training on few words."""

from itertools import product

import numpy as np
import pytest
from demo_support import demonstrate

import fastnn
from fastnn.demos import letters_to_phonemes as demo
from fastnn.models import Translator, beam_search, greedy_search

START, END, LONGEST = 0, 1, 4


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


def test_widest_beam_is_exact():
    """As many beams as there are sequences: nothing is left out."""
    toy = Toy(5)
    symbols, score = beam_search(toy.step, toy.first, START, END, toy.classes**LONGEST, LONGEST)
    for number in range(5):
        all_scores = {s: toy.score(number, s) for s in product(range(toy.classes), repeat=LONGEST)}
        best = max(all_scores.values())
        assert score[number] == pytest.approx(best, rel=1e-12)
        assert toy.score(number, symbols[number]) == pytest.approx(best, rel=1e-12)


def test_beam_of_one_is_greedy():
    toy = Toy(40, seed=1)
    want = greedy_search(toy.step, toy.first, START, END, LONGEST)
    symbols, score = beam_search(toy.step, toy.first, START, END, 1, LONGEST)
    np.testing.assert_array_equal(symbols, want)
    np.testing.assert_allclose(score, [toy.score(i, s) for i, s in enumerate(want)], rtol=1e-12)
    ends = (want == END).argmax(axis=1)
    assert len(set(ends)) > 2  # some ended early, some did not
    behind = (np.arange(want.shape[1]) > ends[:, None]) & (want == END).any(axis=1)[:, None]
    assert (want[behind] == END).all()


def test_beam_of_one_sequence_alone():
    """What a sequence gives does not depend on those beside it, nor its score on when they end."""
    toy = Toy(20, seed=2)
    symbols, score = beam_search(toy.step, toy.first, START, END, 3, LONGEST)
    for i in range(20):
        alone, its_score = beam_search(toy.step, toy.first[i : i + 1], START, END, 3, LONGEST)
        np.testing.assert_array_equal(filled(alone)[0], filled(symbols)[i])
        assert its_score[0] == score[i] == pytest.approx(toy.score(i, symbols[i]), rel=1e-12)


def test_error_rates():
    """The nearest pronunciation counts: 1 error of 3, none of 2, 2 of 2."""
    distances = [("kitten", "sitting", 3), ("", "abc", 3), ("abc", "", 3), ("flaw", "lawn", 2), ("ab", "ab", 0)]
    for a, b, want in distances:
        assert demo.edit_distance(a, b) == want
    phoneme_rate, word_rate = demo.error_rates(["ab", "cd", "xy"], [["abc", "zzzz"], ["d", "cd"], ["uv"]])
    assert (phoneme_rate, word_rate) == (3 / 7, 2 / 3)


def test_read_and_split(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("read R EH1 D\nread(2) R IY1 D\nread(3) R EH0 D # again\nt.v. T IY1\nits' IH0 T S\n\n")
    assert demo.read_dictionary(path) == {"read": [("R", "EH", "D"), ("R", "IY", "D")], "its'": [("IH", "T", "S")]}
    words = [f"{chr(97 + i)}{chr(97 + j)}{s}" for i in range(26) for j in range(26) for s in ("", "'s")]
    parts = demo.split(words)
    assert sorted(word for part in parts for word in part) == sorted(words)
    assert all(len(part) > 0.02 * len(words) for part in parts) and len(parts[0]) > 0.8 * len(words)
    stems = [{word.partition("'")[0] for word in part} for part in parts]
    assert sum(map(len, stems)) == 26 * 26


@pytest.mark.parametrize("attention", [False, True])
def test_steps_are_the_sequence(attention):
    """What `stepper` gives phoneme by phoneme, for two beams a word, is what the taught sequence gives: float64."""
    fastnn.manual_seed(3)
    model = Translator(9, 7, hidden_size=6, embedding_dim=5, attention=attention).double().eval()
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


def test_sizes():
    with pytest.raises(ValueError, match="hidden_size is 7, expected a multiple of 2"):
        Translator(9, 7, hidden_size=7)
    with_it, without = (Translator(30, 42, attention=attention) for attention in (True, False))
    sizes = [sum(p.size for p in model.parameters()) for model in (with_it, without)]
    assert sizes == [608682, 477482]


def small_language(path):
    """Words whose letters are their phonemes, but "h", which changes the one before, and "e", which is mute, in a file;
    the share of errors of who tells every letter without those beside it."""
    rng = np.random.default_rng(0)
    lines, changed, total = set(), 0, 0
    for _ in range(1500):
        word = "".join(rng.choice(list("abcdhe"), rng.integers(3, 7)))
        sounds = [a.upper() + ("H" if b == "h" else "") for a, b in zip(word, word[1:] + " ", strict=True)]
        sounds = [s for s in sounds if s[0] not in "HE"]
        if sounds:
            lines.add(f"{word} {' '.join(sounds)}")
            changed, total = changed + sum(len(s) > 1 for s in sounds), total + len(sounds)
    path.write_text("\n".join(sorted(lines)), encoding="utf-8")
    return changed / total


def test_small_language(tmp_path, capsys):
    path = tmp_path / "words.txt"
    by_itself = small_language(path)
    result = demo.run(dictionary=str(path), epochs=8, words="chad bead")
    blind, attentive = (result.measures[f"{name} attention, greedy, phonemes"] for name in ("without", "with"))
    assert attentive < min(by_itself, blind), (by_itself, blind)
    assert "\nchad: " in capsys.readouterr().out


def test_demonstration():
    """Of English. Who sees where he is in the word makes less errors; all are wrong for who has learned nothing."""
    measures = demonstrate("letters_to_phonemes", epochs=3).measures
    assert measures["with attention, beam of 5, phonemes"] < 0.6
    assert measures["with attention, greedy, phonemes"] < measures["without attention, greedy, phonemes"] < 0.8


def test_same_seed_same_result(tmp_path):
    path = tmp_path / "words.txt"
    small_language(path)
    options = {"dictionary": str(path), "epochs": 1, "hidden": 16, "words": "chad", "seed": 2}
    assert demo.run(**options).measures == demo.run(**options).measures


def test_refused(tmp_path):
    """Messages for what cannot be done."""
    path = tmp_path / "words.txt"
    path.write_text("a AH0\n", encoding="utf-8")
    with pytest.raises(FileNotFoundError, match=r"none\.txt"):
        demo.run(dictionary=str(tmp_path / "none.txt"))
    for options, message in (
        ({}, "words is 'through .*, with c, d, e, .*, expected words in letters of the dictionary"),
        ({"words": " "}, "words is ' ', with none"),
        ({"words": "a"}, "the dictionary has 1 words, too few"),
        ({"epochs": 0}, "epochs is 0, expected at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            demo.run(dictionary=str(path), **options)
