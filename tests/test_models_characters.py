"""The generator of characters: its equations, what it writes, and that it learns a text."""

import fastnn.nn.functional as F
import numpy as np
import pytest
from demo_support import demonstrate

import fastnn
from fastnn.demos import character_generator as demo
from fastnn.models import CharacterGenerator

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_writes_what_it_says(cell):
    """With one character after the other, as if all were read at once: close to temperature 0 the likeliest."""
    fastnn.manual_seed(1)
    model = CharacterGenerator(7, 5, cell=cell).double().eval()
    before = [3, 1, 4]
    written = model.write(before, longest=6, rng=np.random.default_rng(0), temperature=1e-6)
    text = np.array([*before, *written])[:, None]
    logits, _ = model(text)
    assert logits.shape == (9, 1, 7)
    np.testing.assert_array_equal(logits[2:-1, 0].argmax(1), written)
    halves, state = model(text[:4])
    np.testing.assert_allclose(model(text[4:], state)[0], logits[4:], rtol=1e-12)
    np.testing.assert_allclose(halves, logits[:4], rtol=1e-12)
    end = written[2]
    cut = model.write(before, longest=6, rng=np.random.default_rng(0), temperature=1e-6, end=end)
    assert cut == written[: written.index(end)]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_temperature(temperature):
    """First characters are drawn from softmax(logits / temperature)."""
    fastnn.manual_seed(2)
    model = CharacterGenerator(4, 8, cell="rnn").eval()
    model.head.weight.data *= 4
    p = F.softmax(model(np.array([[2]]))[0][0, 0] / temperature, 0)
    rng, n = np.random.default_rng(0), 2000
    drawn = [model.write([2], longest=1, rng=rng, temperature=temperature)[0] for _ in range(n)]
    found = np.bincount(drawn, minlength=4) / n
    assert np.abs(found - p).max() < 5 * np.sqrt(0.25 / n)  # five standard deviations at most
    assert p.max() > 0.3


def test_one_hot_is_an_embedding():
    """A character's vector in the RNN is a column of its first weights; of an LSTM the forget gate begins open."""
    model = CharacterGenerator(6, 3, cell="rnn").eval()
    rnn = model.rnn
    h = np.tanh(rnn.weight_ih_l0.data[:, 4] + rnn.bias_ih_l0.data + rnn.bias_hh_l0.data)
    logits, state = model(np.array([[4]]))
    np.testing.assert_allclose(state[0, 0], h, rtol=1e-5)
    np.testing.assert_allclose(logits[0, 0], model.head.weight.data @ h + model.head.bias.data, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(CharacterGenerator(6, 3).rnn.bias_ih_l0.data[3:6], np.ones(3))


def test_errors():
    with pytest.raises(ValueError, match="cell is 'elman', expected one of rnn, gru, lstm"):
        CharacterGenerator(6, 3, cell="elman")
    model = CharacterGenerator(6, 3)
    with pytest.raises(ValueError, match="before is empty"):
        model.write([], longest=3, rng=RNG)
    with pytest.raises(ValueError, match="temperature is 0, expected a number above 0"):
        model.write([1], longest=3, rng=RNG, temperature=0)


def test_six_words(tmp_path, capsys):
    """Six words in random order, of which every cell learns more than pairs of letters say, and no more than there is
    to know: each word is log2(6) bits, of which its letters and the blank share. The LSTM writes these words."""
    words = ["alpha", "beta", "gamma", "delta", "omega", "kappa"]
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(words, 20)) for _ in range(600)]
    (tmp_path / "words").write_text("\n%\n".join(texts), encoding="utf-8")
    (tmp_path / "words.dat").write_bytes(bytes(range(256)))  # an index, not to be read
    measures = demo.run(folder=str(tmp_path), cells="rnn gru lstm", hidden=32, epochs=4).measures
    last = [measures[cell] for cell in ("rnn", "gru", "lstm")]
    length = np.mean([len(word) + 1 for word in words])
    # The lengths of what is held out vary by 1 %.
    assert np.log2(6) / length * 0.98 < min(last) <= max(last) < measures["2-grams"]
    samples = capsys.readouterr().out.partition("lstm, temperature 0.5 ----\n")[2].splitlines()
    assert {*samples[0].split()[:-1]} <= {*words}  # the last may be cut off


def test_without_texts(tmp_path):
    """It says what it needs, and how to get it."""
    with pytest.raises(FileNotFoundError, match=r"nowhere.*apt install fortunes"):
        demo.run(folder=str(tmp_path / "nowhere"))
    (tmp_path / "words").write_text("a\n%\nb", encoding="utf-8")
    with pytest.raises(ValueError, match="has less than 1056 characters: too little"):
        demo.run(folder=str(tmp_path))
    for options, message in (
        ({"cells": "rnn elman"}, "cells is 'rnn elman', expected some of rnn gru lstm"),
        ({"hidden": 0}, "hidden is 0, expected at least 1"),
        ({"epochs": 0}, "epochs is 0, expected at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            demo.run(quick=True, **options)


def test_fortunes_or_help(tmp_path, monkeypatch):
    """Fortunes where there are some; what Python explains where there are none, and in the quick form."""
    (tmp_path / "some").write_text("one\n%\ntwo\n%\none\n", encoding="utf-8")
    monkeypatch.setattr(demo, "FORTUNES", str(tmp_path))
    name, pieces = demo.read("", quick=False)
    assert name == "Debian's fortunes" and sorted(pieces) == ["one\0", "two\0"]
    name, explained = demo.read("", quick=True)
    assert name == "Python's help" and len(explained) > 1000 and all(piece[-1] == "\0" for piece in explained)
    monkeypatch.setattr(demo, "FORTUNES", str(tmp_path / "nowhere"))
    assert demo.read("", quick=False) == (name, explained)


def test_compression():
    """n-grams of a text that repeats itself know it; lzma does. Of random digits nothing knows less than log2(10)."""
    cycle = np.tile(np.arange(5), 400)
    bits = demo.ngram_bits(cycle, cycle[:500], 5, 3)
    assert bits[0] == pytest.approx(np.log2(5), rel=1e-2) and bits[1] < 0.2
    assert demo.lzma_bits(cycle, cycle[:500]) < 0.2
    digits = RNG.integers(0, 10, 20000)
    assert min(*demo.ngram_bits(digits, digits[:100], 10, 1), demo.lzma_bits(digits[:15000], digits[15000:])) > 3.2


def test_demonstration():
    """Prose: the RNN learns more than pairs of characters say, the LSTM more than triples."""
    measures = demonstrate("character_generator").measures
    assert measures["rnn"] < measures["2-grams"]
    assert measures["lstm"] < measures["3-grams"]


def test_same_seed_same_result():
    a, b = (demonstrate("character_generator", seed=4, hidden=8, epochs=1, cells="gru").measures for _ in range(2))
    assert a == b
