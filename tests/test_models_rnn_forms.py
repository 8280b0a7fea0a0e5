"""One RNN in three forms: they learn, and the painter draws from what it was taught."""

import numpy as np
import pytest
from demo_support import demonstrate

import fastnn
import fastnn.nn as nn
from fastnn.demos import rnn_forms


def test_painted_rows_have_the_probabilities_of_taught_ones():
    """What one to many gives for the rows that it drew itself is what many to many gives, taught with these."""
    fastnn.manual_seed(0)
    model = nn.ManyToMany(nn.RNN(18, 12, batch_first=True), nn.Linear(12, 8)).eval()
    y = np.arange(10).repeat(400)
    pictures = rnn_forms.paint(model, y, np.random.default_rng(0))
    assert pictures.shape == (4000, 8, 8) and {*np.unique(pictures)} == {0, 1}
    x = np.concatenate([rnn_forms.after_class(y)[:, None], rnn_forms.after_row(pictures[:, :-1])], 1)
    p = 1 / (1 + np.exp(-model(x)))
    for wrong in (pictures - p, (pictures - p) * (p - p.mean())):  # residuals are centred, whatever the network says
        assert abs(wrong.mean()) < 5 * wrong.std() / np.sqrt(wrong.size)


def test_bits_of_means():
    """Of pictures that are the same in each class: those of (n + 1) / (n + 2) for n seen."""
    y = np.arange(10).repeat(9)
    black = np.random.default_rng(0).integers(0, 2, (10, 8, 8)).astype(np.float32)[y]
    held_out = np.arange(90) % 9 == 0
    assert rnn_forms.bits_of_means(black, y, held_out) == pytest.approx(-np.log2(9 / 10))


def test_demonstration():
    """Ten classes: chance is 10 %. Rows are told better than by their means, pixels better than by their frequency."""
    measures = demonstrate("rnn_forms").measures
    assert measures["rows"] >= 0.9 and measures["pixels"] >= 0.5
    assert measures["next_row"] < 0.75 * min(measures["repeated_row"], measures["mean_row"])
    assert measures["bits"] < measures["bits_of_means"]
    assert measures["recognised"] >= 0.6


def test_same_seed_same_result():
    a, b, c = (demonstrate("rnn_forms", seed=seed, epochs=1, hidden=8).measures for seed in (1, 1, 2))
    assert a == b != c


@pytest.mark.parametrize("option", ["hidden", "epochs"])
def test_errors(option):
    with pytest.raises(ValueError, match=f"{option} is 0, expected at least 1"):
        demonstrate("rnn_forms", **{option: 0})
