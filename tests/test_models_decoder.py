"""The decoder: sizes, and that it learns to paint digits from what is measured of them."""

import numpy as np
import pytest
from demo_support import demonstrate

import fastnn
from fastnn import functional as F
from fastnn import models, optim
from fastnn.demos.decoder import FACTORS, factors


@pytest.mark.parametrize(("size", "channels", "width"), [(4, 1, 1), (28, 1, 4), (32, 3, 2)])
def test_sizes(size, channels, width):
    model = models.Decoder(5, image_size=size, channels=channels, width=width)
    h = np.random.default_rng(0).random((3, 5), np.float32)
    assert model(h).shape == (3, channels, size, size)
    maps = 4 * width * (size // 4) ** 2
    up = 16 * (8 * width**2 + 2 * width**2) + 3 * width
    count = 6 * 8 * width + (8 * width + 1) * maps + up + (9 * width + 1) * channels
    assert sum(p.size for p in model.parameters()) == count


@pytest.mark.parametrize("size", [0, 30])
def test_size_that_cannot_be_halved_twice(size):
    with pytest.raises(ValueError, match=f"image_size is {size}, expected a multiple of 4"):
        models.Decoder(5, image_size=size)


def test_minimises_squared_error():
    """Four images are learnt by heart."""
    rng = np.random.default_rng(0)
    x, h = rng.random((4, 1, 8, 8), np.float32), np.eye(4, dtype=np.float32)
    fastnn.manual_seed(0)
    model = models.Decoder(4, image_size=8, width=8)
    optimizer = optim.Adam(model.parameters(), 3e-3)
    for _ in range(300):
        optimizer.zero_grad()
        F.mse_loss(model(fastnn.Tensor(h)), x).backward()
        optimizer.step()
    assert ((model(h) - x) ** 2).mean() < 0.01 * x.var()


def test_factors():
    """Of a slanted bar and of what is moved, thicker and flipped of it."""
    bar = np.zeros((1, 1, 28, 28), np.float32)
    for row in range(8, 20):
        column = 20 - row // 2
        bar[0, 0, row, column - 2 : column + 3] = 0.5
    found = dict(zip(FACTORS, factors(bar)[0], strict=True))
    assert found["slant"] == pytest.approx(0.5, abs=0.02)
    assert found["width"] == pytest.approx(np.sqrt(2), abs=0.1), "deviation of 5 columns"
    assert found["height"] == pytest.approx(np.sqrt((12**2 - 1) / 12)), "deviation of 12 rows"
    assert found["ink"] == pytest.approx(12 * 5 * 0.5 / 28**2)
    moved = dict(zip(FACTORS, factors(np.roll(bar, (2, -3), (2, 3)))[0], strict=True))
    assert moved == pytest.approx(found | {"x": found["x"] - 3, "y": found["y"] + 2})
    darker = dict(zip(FACTORS, factors(2 * bar)[0], strict=True))
    assert darker == pytest.approx(found | {"ink": 2 * found["ink"]})
    assert factors(bar[..., ::-1])[0, 0] == pytest.approx(-found["slant"])


def test_demonstration():
    """Nearer to digits held out than their class's mean image in the right place, and than linear regression."""
    errors = demonstrate("decoder").measures
    assert errors["decoder"] < 0.9 * min(errors["mean"], errors["linear"])


def test_determined_by_seed():
    found = [demonstrate("decoder", epochs=1, width=1, seed=3).measures for _ in range(2)]
    assert found[0] == found[1]
