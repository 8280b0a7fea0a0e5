"""The network that answers questions about images, and what its demonstration asks and holds out."""

import numpy as np
import pytest
from demo_support import demonstrate

import fastnn
from fastnn import Tensor
from fastnn import functional as F
from fastnn.demos import visual_questions as demo
from fastnn.models import VisualQuestions

RNG = np.random.default_rng(0)
FUSIONS = "matching", "product"


def network(fusion="matching"):
    fastnn.manual_seed(0)
    return VisualQuestions(9, 5, (8, 16), width=2, embedding_dim=3, hidden_size=6, code_size=4, fusion=fusion).double()


def sample(n=3, asked=4, words=5):
    return RNG.random((n, 1, 8, 16)), RNG.integers(1, 9, (n, asked, words)), RNG.integers(1, words + 1, (n, asked))


@pytest.mark.parametrize("fusion", FUSIONS)
def test_shapes(fusion):
    """Many questions about an image are answered as each alone; of words behind its end nothing is seen."""
    model, (images, questions, lengths) = network(fusion).eval(), sample()
    logits = model(images, questions, lengths)
    assert logits.shape == (3, 4, 5)
    for i in range(4):
        one = model(images, questions[:, i], lengths[:, i])
        assert one.shape == (3, 5)
        np.testing.assert_allclose(one, logits[:, i], rtol=1e-10, atol=1e-13)
    padded = np.where(np.arange(5) < lengths[:, :, None], questions, 0)
    np.testing.assert_array_equal(model(images, np.pad(padded, ((0, 0), (0, 0), (0, 2))), lengths), logits)
    full = np.full((3, 4), 5)
    np.testing.assert_array_equal(model(images, questions), model(images, questions, full))


def test_equations():
    """In NumPy from the codes of the questions and the cells on: float64."""
    model, other, (images, questions, lengths) = network().eval(), network("product").eval(), sample()

    def linear(layer, value):
        return value @ layer.weight.data.T + layer.bias.data

    def relu(value):
        return np.maximum(value, 0)

    for net in model, other:
        logits = net(images, questions, lengths)
        for i in range(3):
            for j in range(4):
                _, last = net.read(net.embedding(questions[i : i + 1, j]), lengths=lengths[i : i + 1, j])
                q = last[0, 0]
                if net is model:
                    halves = np.split(images[i][None], 2, 3)
                    a, b = (net.code(net.encoder(half).reshape(1, -1))[0] for half in halves)
                    scale, shift = np.split(linear(net.modulate, q), 2)
                    seen = linear(net.match, np.concatenate([a, b, [a @ b, (a - b) @ (a - b)]]))
                    h = relu((1 + scale) * seen + shift)
                else:
                    image = relu(linear(net.image, net.encoder(images[i][None]).ravel()))
                    h = relu(linear(net.match, image * relu(linear(net.question, q))))
                np.testing.assert_allclose(logits[i, j], linear(net.answer, h), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_all_parameters_learn(fusion):
    """Gradients reach all of them, from questions that are arrays beside a Tensor of images."""
    model, (images, questions, lengths) = network(fusion).train(), sample(8)
    logits = model(Tensor(images), questions, lengths)
    F.cross_entropy(logits.flatten(0, 1), RNG.integers(0, 5, 32)).backward()
    still = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not still


def test_refused():
    with pytest.raises(ValueError, match="fusion is 'sum', expected 'matching' or 'product'"):
        network("sum")
    with pytest.raises(ValueError, match=r"input_size is \(8, 13\), expected an even width"):
        VisualQuestions(9, 5, (8, 13))
    with pytest.raises(ValueError, match="steps is 0, expected at least 1"):
        demo.run(steps=0)


@pytest.mark.parametrize("seed", range(5))
def test_pairs_held_out(seed):
    """None is trained on, nor its mirror image; sides are balanced; neighbours, and most equal pairs, are known."""
    seen, held_out = ({*map(tuple, part.tolist())} for part in demo.pairs(np.random.default_rng(seed)))
    assert len(seen) == 82 and len(held_out) == 18 and not seen & held_out
    assert held_out == {(b, a) for a, b in held_out}
    assert sum(a == b for a, b in held_out) == 2
    assert not any(abs(a - b) == 1 for a, b in held_out)
    for side in 0, 1:
        counts = np.bincount([pair[side] for pair in held_out], minlength=10)
        assert sorted(counts) == [1, 1, *[2] * 8]


def test_questions():
    """In words, of kinds one after the other, with the answers that people give."""
    answers = {}
    for question in demo.QUESTIONS:
        answers[question.words] = demo.ANSWERS[int(question.answer(np.array(7), np.array(4)))]
    assert answers == {
        "what is the left digit": "seven",
        "what is the right digit": "four",
        "is the left digit odd": "yes",
        "is the right digit odd": "no",
        "is the left digit even": "no",
        "is the right digit even": "yes",
        "is the left digit larger than the right one": "yes",
        "is the right digit larger than the left one": "no",
        "is the left digit smaller than the right one": "no",
        "is the right digit smaller than the left one": "yes",
        "are the digits equal": "no",
        "are the digits different": "yes",
        "how many digits are odd": "one",
        "how many digits are even": "one",
        "what is the largest digit": "seven",
        "what is the smallest digit": "four",
    }
    assert (np.diff(demo.KIND) >= 0).all()
    for codes, length, question in zip(demo.CODES, demo.LENGTHS, demo.QUESTIONS, strict=True):
        assert " ".join(demo.WORDS[code] for code in codes[:length]) == question.words
        assert not codes[length:].any()


def test_asked():
    """Answers belong to their digits; kinds are equally likely, and a third of the digits equal."""
    pytest.importorskip("sklearn")
    rng = np.random.default_rng(0)
    pool, _ = demo.split()
    seen, _ = demo.pairs(rng)
    batch = demo.ask(rng, pool, seen, 2000)
    assert batch.images.shape == (2000, 1, *demo.SIZE) and batch.asked.shape == batch.answers.shape == (2000, demo.EACH)
    for i in range(50):
        for place, found in zip(batch.asked[i], batch.answers[i], strict=True):
            assert found == int(demo.QUESTIONS[place].answer(*batch.digits[i]))
    assert {*map(tuple, batch.digits.tolist())} <= {*map(tuple, seen.tolist())}
    shares = np.bincount(demo.KIND[batch.asked.ravel()]) / batch.asked.size
    np.testing.assert_allclose(shares, 1 / len(demo.KINDS), atol=0.02)  # 4 standard deviations of 8000 draws
    assert (batch.digits[:, 0] == batch.digits[:, 1]).mean() == pytest.approx(1 / 3, abs=0.045)


def test_demonstration():
    """The usual answers are the baseline; without the right image no more is known than these."""
    measures = demonstrate("visual_questions").measures
    assert measures["usual_answer"] < 0.5
    assert measures["accuracy"] >= measures["usual_answer"] + 0.15
    assert measures["name"] >= 0.3  # chance: 10 %
    assert measures["another_image"] < 0.6


def test_demonstration_of_products():
    """By seed; what is too short to learn can be drawn, too."""
    first, second = (demonstrate("visual_questions", steps=2, fusion="product", seed=3) for _ in range(2))
    assert first.measures == second.measures and first.text == second.text
