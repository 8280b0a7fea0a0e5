"""LeNet: sizes, names, and that it learns to read digits."""

import numpy as np
import pytest
from demo_support import demonstrate

from fastnn import models


def test_parameters():
    """As in the paper's table with every map seeing all maps: 156 + 2416 + 48120 + 10164 + 850."""
    model = models.lenet()
    assert sum(p.size for p in model.parameters()) == 61706
    assert [*model.state_dict()][:2] == ["features.0.weight", "features.0.bias"]


@pytest.mark.parametrize("size", [12, 13, 28, 33])
def test_sizes(size):
    model = models.lenet(7, in_channels=3, width=0.5, input_size=size)
    x = np.random.default_rng(0).random((2, 3, size, size), np.float32)
    assert model(x).shape == (2, 7)


def test_too_small():
    with pytest.raises(ValueError, match="input_size is 11, expected at least 12"):
        models.lenet(input_size=11)


def test_demonstration():
    """Ten classes: chance is 10 %."""
    result = demonstrate("lenet")
    assert result.measures["accuracy"] >= 0.9
