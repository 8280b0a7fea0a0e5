"""The captioner against its equations and brute force, and what its demonstration holds out."""

from itertools import product

import numpy as np
import pytest
from demo_support import demonstrate

import fastnn
from fastnn import Tensor
from fastnn import functional as F
from fastnn.demos import captioning
from fastnn.models import Captioner
from fastnn.models.decoding import END, PADDING, START, beam_search, greedy_search

RNG = np.random.default_rng(0)
FORMS = [(attention, cell) for attention in (False, True) for cell in ("lstm", "gru")]


def captioner(attention=True, cell="lstm", vocabulary=5, **options):
    fastnn.manual_seed(0)
    options = {"width": 2, "hidden_size": 6, "embedding_dim": 3} | options
    return Captioner(vocabulary, (9, 12), attention=attention, cell=cell, **options).double().eval()


def images(n=3):
    return RNG.random((n, 1, 9, 12))


@pytest.mark.parametrize("attention, cell", FORMS)
def test_shapes(attention, cell):
    model, x = captioner(attention, cell), images()
    previous = RNG.integers(0, 5, (3, 4))
    logits, weights = model(x, previous)
    assert logits.shape == (3, 4, 5)
    if attention:
        assert weights.shape == (3, 4, 2 * 3)
        np.testing.assert_allclose(weights.sum(2), 1, rtol=1e-12)
        assert (weights > 0).all()
    else:
        assert weights is None


def test_equations():
    """An LSTM with attention in NumPy, from the features of the cells on: float64."""
    model, x = captioner(), images(2)
    cells = model.encoder(x)
    assert cells.shape == (2, 8, 2, 3)
    previous = np.array([[START, 3, 4], [START, 4, 4]])
    logits, weights = model(x, previous)
    att = model.attention

    def linear(layer, value):
        return value @ layer.weight.data.T + (0 if layer.bias is None else layer.bias.data)

    def sigmoid(value):
        return 1 / (1 + np.exp(-value))

    for i in range(2):
        a = cells[i].reshape(8, -1).T
        h, c = np.tanh(linear(model.first, a.mean(0))).reshape(2, 6)
        for t, word in enumerate(previous[i]):
            p = np.exp(np.tanh(linear(att.query_proj, h) + linear(att.key_proj, a)) @ att.weight.data)
            p /= p.sum()
            np.testing.assert_allclose(weights[i, t], p, rtol=1e-10)
            z, cell = p @ a, model.cell
            y = np.concatenate([model.embedding.weight.data[word], z])
            gates = cell.weight_ih.data @ y + cell.bias_ih.data + cell.weight_hh.data @ h + cell.bias_hh.data
            enter, forget, new, out = gates.reshape(4, 6)
            c = sigmoid(forget) * c + sigmoid(enter) * np.tanh(new)
            h = sigmoid(out) * np.tanh(c)
            want = linear(model.classify, np.maximum(linear(model.mix, np.concatenate([h, z])), 0))
            np.testing.assert_allclose(logits[i, t], want, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("attention, cell", FORMS)
def test_all_parameters_learn(attention, cell):
    """Gradients reach all of them, from words that are arrays beside a Tensor of images."""
    model = captioner(attention, cell).train()
    logits, _ = model(Tensor(images(4)), np.array([[START, 2, 3, 4]] * 4))
    F.cross_entropy(logits.flatten(0, 1), RNG.integers(0, 5, 16)).backward()
    still = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not still


def test_padding_does_not_matter():
    """Words behind END change neither the logits before them nor the loss."""
    model, x = captioner(), images(2)
    short, long = np.array([[START, 3], [START, 4]]), np.array([[START, 3, PADDING, 4], [START, 4, 2, 2]])
    (a, _), (b, _) = model(x, short), model(x, long)
    np.testing.assert_array_equal(a, b[:, :2])
    target = np.array([[3, END], [4, END]])
    padded = np.pad(target, ((0, 0), (0, 2)), constant_values=PADDING)
    losses = [
        F.cross_entropy(logits.reshape(-1, 5), words.ravel(), ignore_index=PADDING)
        for logits, words in ((a, target), (b, padded))
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)


@pytest.mark.parametrize("attention, cell", FORMS)
def test_steps_are_the_sequence(attention, cell):
    """What `stepper` gives word by word, for two beams an image, is what the taught caption gives."""
    model, x = captioner(attention, cell), images(2)
    previous = np.array([[START, 3, 4], [START, 2, 2], [START, 4, 3], [START, 3, 3]])  # two for each image
    logits, _ = model(np.repeat(x, 2, 0), previous)
    step, state = model.stepper(x)
    state = state.repeat(2, 0)
    for time in range(3):
        got, state = step(previous[:, time], state)
        np.testing.assert_allclose(got, F.log_softmax(logits[:, time], 1), rtol=1e-10, atol=1e-12)


def sharpened(attention=True, cell="lstm"):
    """A captioner whose words depend much on those before."""
    model = captioner(attention, cell, embedding_dim=8, hidden_size=12)
    for p in model.parameters():
        p.data *= 2.5
        p.increment_version()
    return model


def scores_of(model, x):
    """{caption: log-probabilities (N,)} of all that have ended within three words, or have three words."""
    every = [s for s in product(range(5), repeat=3) if END not in s[:-1]]
    every += [s for n in (1, 2) for s in product(range(5), repeat=n) if s[-1] == END and END not in s[:-1]]
    result = {}
    for words in every:
        logits, _ = model(x, np.array([[START, *words[:-1]]] * len(x)))
        result[words] = F.log_softmax(logits, 2)[:, np.arange(len(words)), words].sum(1)
    return result


@pytest.mark.parametrize("attention, cell", FORMS)
def test_beams(attention, cell):
    """Of one beam it is the greedy search; of so many that none is left out, the best of all captions; what it finds
    has the log-probability that it says; and three beams find likelier captions than the greedy search, in all."""
    model, x = sharpened(attention, cell), images(24)
    scores = scores_of(model, x)
    assert sum(np.exp(s) for s in scores.values()) == pytest.approx(np.ones(24), rel=1e-9)

    def score(symbols):
        ended = [tuple(row[: [*row, END].index(END) + 1]) for row in symbols.tolist()]
        return np.array([scores[words][i] for i, words in enumerate(ended)])

    step, first = model.stepper(x)
    greedy = greedy_search(step, first, START, END, 3)
    np.testing.assert_array_equal(greedy, beam_search(step, first, START, END, 1, 3)[0])
    np.testing.assert_array_equal(greedy, model.caption(x, max_length=3))
    found = {}
    for width in 3, 5**3:
        symbols, found[width] = beam_search(step, first, START, END, width, 3)
        np.testing.assert_allclose(score(symbols), found[width], rtol=1e-9)
        np.testing.assert_array_equal(symbols, model.caption(x, beams=width, max_length=3))
    best = np.max([*scores.values()], 0)
    np.testing.assert_allclose(found[5**3], best, rtol=1e-9)
    assert (score(greedy) < best - 1e-6).any(), "every greedy caption is the best, which tests nothing"
    assert found[3].sum() > score(greedy).sum()


def test_images_alone():
    """A caption does not depend on the images beside it."""
    model, x = sharpened(), images(6)
    together = model.caption(x, max_length=4)
    for i in range(6):
        alone = model.caption(x[i : i + 1], max_length=4)[0]
        np.testing.assert_array_equal(alone, together[i, : len(alone)])
        assert (together[i, len(alone) :] == END).all()


def test_refused():
    with pytest.raises(ValueError, match="cell is 'rnn', expected 'lstm' or 'gru'"):
        captioner(cell="rnn")
    with pytest.raises(ValueError, match=r"input_size is \(3, 12\), expected at least \(4, 4\)"):
        Captioner(5, (3, 12))
    with pytest.raises(ValueError, match=r"images have shape \(1, 1, 16, 12\).*expected \(2, 3\)"):
        captioner()(np.zeros((1, 1, 16, 12)), np.array([[START]]))
    with pytest.raises(ValueError, match="beams is 0, expected at least 1"):
        captioner().caption(images(1), beams=0)
    with pytest.raises(ValueError, match="form is 'all', expected 'attention' or 'whole'"):
        captioning.run(form="all")
    with pytest.raises(ValueError, match="steps is 0, expected at least 1"):
        captioning.run(steps=0)


def test_tuples_held_out():
    """A fifth of those of 2 digits and more; none of them is trained on."""
    seen, held_out = captioning.tuples(np.random.default_rng(1), 3)
    for length, (a, b) in enumerate(zip(seen, held_out, strict=True), 1):
        every = {*map(tuple, a)} | {*map(tuple, b)}
        assert len(a) + len(b) == len(every) == 10**length
        assert len(b) == (0 if length == 1 else 2 * 10 ** (length - 1))
        assert all((row[:length] >= 0).all() and (row[length:] == -1).all() for row in [*a, *b])
    unseen = {*map(tuple, np.concatenate(held_out))}
    assert not unseen & {*map(tuple, captioning.choose(np.random.default_rng(2), seen, 5000))}
    assert unseen >= {*map(tuple, captioning.choose(np.random.default_rng(2), held_out, 5000))}


def test_captions():
    words = captioning.captions(np.array([[3, 1, -1], [0, 4, 9], [7, -1, -1]]))
    assert [captioning.text_of(row.tolist()) for row in words] == ["three one", "zero four nine", "seven"]
    assert (words[0, 2], words[0, 3], words[1, 3]) == (END, PADDING, END)
    np.testing.assert_array_equal(captioning.before(words)[:, 1:], words[:, :-1])
    assert (captioning.before(words)[:, 0] == START).all()


def test_where_it_looks():
    """All attention on one cell: in the first digit, and beside the second."""
    attention = np.zeros((1, 3, 2 * 6))
    attention[0, 0, 6 + 1] = attention[0, 1, 3] = 1  # the cells in the middle of (6, 6) and (2, 14)
    corners = np.array([[[1, 2], [3, 14]]])
    assert captioning.on_digit(attention, (2, 6), corners, np.array([2])) == [0.5]


def test_demonstration():
    """One or two digits. Who knows that there are two has 1 % of the pairs right by guessing."""
    result = demonstrate("captioning")
    assert result.measures["guess"] == pytest.approx(0.01)
    assert result.measures["accuracy"] >= 0.8
    assert result.measures["alone"] >= 0.9
    assert result.measures["looks"] >= 0.5


def test_demonstration_of_the_whole_image():
    """By seed; what is too short to learn can be drawn, too."""
    first, second = (demonstrate("captioning", steps=2, form="whole", cell="gru", seed=3) for _ in range(2))
    assert first.measures == second.measures and first.text == second.text
    assert "looks" not in first.measures
