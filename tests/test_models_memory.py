"""The memory network against its equations, and the stories against an interpreter of their sentences."""

import numpy as np
import pytest
from demo_support import demonstrate

import fastnn
from fastnn.demos import stories
from fastnn.models import MemoryNetwork
from fastnn.models.memory import position_encoding

RNG = np.random.default_rng(0)


def network(hops=3):
    fastnn.manual_seed(hops)
    return MemoryNetwork(11, 6, size=4, hops=hops).double().eval()


def sample():
    """Stories of 5 sentences of 3 words, some of them behind the end, and questions."""
    return RNG.integers(1, 11, (3, 5, 3)), RNG.integers(1, 11, (3, 3)), np.array([5, 2, 4])


def test_position_encoding():
    """The paper's formula, word by word."""
    weights = position_encoding(4, 6)
    for j in range(1, 5):
        for k in range(1, 7):
            want = (1 - j / 4) - k / 6 * (1 - 2 * j / 4)
            assert weights[j - 1, k - 1] == pytest.approx(want, abs=1e-7)
    assert weights.dtype == np.float32


def test_equations():
    """In NumPy, story by story: float64."""
    model, (story, question, lengths) = network(), sample()
    logits, weights = model(story, question, lengths, need_weights=True)
    places = position_encoding(3, 4)
    tables = [[table.weight.data for table in tables] for tables in (model.words, model.ages)]
    for i, length in enumerate(lengths):
        memory = [
            (words[story[i, :length]] * places).sum(1) + ages[np.arange(length)[::-1]]
            for words, ages in zip(*tables, strict=True)
        ]
        u = (model.question.weight.data[question[i]] * places).sum(0)
        for hop, update in enumerate(model.update):
            p = np.exp(memory[hop] @ u)
            p /= p.sum()
            np.testing.assert_allclose(weights[hop, i], np.pad(p, (0, 5 - length)), rtol=1e-12)
            u = np.maximum(update.weight.data @ np.concatenate([u, p @ memory[hop + 1]]) + update.bias.data, 0)
        want = model.answer.weight.data @ u + model.answer.bias.data
        np.testing.assert_allclose(logits[i], want, rtol=1e-11)
    np.testing.assert_array_equal(model(story, question, lengths), logits)


def test_words_in_order():
    """A sentence is more than its words: "John left Mary" is not "Mary left John"."""
    model, (story, question, lengths) = network(), sample()
    logits = model(story, question, lengths)
    story[:, 0] = story[:, 0, ::-1]
    assert np.abs(model(story, question, lengths) - logits).max() > 1e-6


def test_no_word():
    """Word 0 is no word: a sentence of zeros is its age."""
    model = network()
    for table in (model.question, *model.words):
        assert (table.weight.data[0] == 0).all() and (table.weight.data[1:] != 0).all()


def test_errors():
    with pytest.raises(ValueError, match="hops is 0, expected at least 1"):
        MemoryNetwork(11, 6, hops=0)
    with pytest.raises(ValueError, match="7 sentences, expected at most 6"):
        network()(np.ones((1, 7, 3), np.int64), np.ones((1, 3), np.int64))


def read(sentences, thing):
    """Where a thing is, and the two sentences that say so, of words as text."""
    place, moved, where, had, facts = {}, {}, {}, {}, None
    for time, (person, verb, *rest) in enumerate(sentences):
        if verb in stories.MOVES:
            assert rest[:2] == ["to", "the"] and place.get(person) != rest[2]
            place[person], moved[person] = rest[2], time
            continue
        assert rest[0] == "the" and person in place  # all places are known
        if verb in stories.TAKES:
            assert rest[1] not in had and where.get(rest[1]) in (None, place[person])
            had[rest[1]] = person
        else:
            assert had.pop(rest[1]) == person
            where[rest[1]] = place[person]
        if rest[1] == thing:
            facts = time, person, moved[person]
    if thing in had:
        return place[had[thing]], (facts[0], moved[had[thing]])
    return where[thing], (facts[0], facts[2])


def test_stories():
    """What they tell can be, answers and facts are right, and all kinds of things happen."""
    told = stories.tell(np.random.default_rng(0), 500)
    assert 250 < len(told.answers) < 500
    answers, left = set(), 0
    for i, n in enumerate(told.lengths):
        assert (told.sentences[i, n:] == 0).all() and (told.sentences[i, :n, :4] > 0).all()
        sentences = [stories.text_of(words).split() for words in told.sentences[i, :n]]
        question = stories.text_of(told.questions[i]).split()
        answer, facts = read(sentences, question[3])
        assert question[:3] == ["where", "is", "the"]
        assert answer == stories.WORDS[told.answers[i]]
        assert facts == tuple(told.facts[i])
        answers.add(answer)
        left += sentences[facts[0]][1] in stories.LEAVES
    assert answers == {*stories.PLACES}
    assert 0.1 < left / len(told.answers) < 0.9
    assert {*told.lengths} == {*range(stories.SHORTEST, stories.LONGEST + 1)}


def test_held_out_is_not_trained_on():
    told = stories.tell(np.random.default_rng(0), 32 * stories.BATCH)
    held_out = {each.tobytes() for each in told.sentences[::2]}
    batches = [*stories.batches(np.random.default_rng(0), 30, held_out)]  # the same seed: half of them are held out
    assert [len(batch.answers) for batch in batches] == [stories.BATCH] * 30
    assert not held_out & {each.tobytes() for batch in batches for each in batch.sentences}


def test_demonstration():
    """Who reads once cannot put two sentences together; always the same place is right for a sixth."""
    measures = demonstrate("stories").measures
    assert measures["accuracy"] >= 0.85
    assert measures["one_hop"] <= 0.5
    assert min(measures["fact_1"], measures["fact_2"]) >= 0.5


def test_same_seed_same_result():
    a, b = (demonstrate("stories", seed=3, steps=30, size=16).measures for _ in range(2))
    assert a == b
    with pytest.raises(ValueError, match="steps is 0, expected at least 1"):
        demonstrate("stories", steps=0)
