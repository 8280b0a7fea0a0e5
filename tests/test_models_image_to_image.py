"""The image-to-image network: sizes, what a style does, and that it restores photographs."""

import numpy as np
import pytest
from demo_support import demonstrate

import fastnn
from fastnn import models
from fastnn.demos.restoration import resized


@pytest.mark.parametrize(
    ("channels", "styles", "depth", "shape"), [(1, 4, 2, (12, 8)), (3, 1, 1, (6, 2)), (2, 3, 0, (5, 7))]
)
def test_sizes(channels, styles, depth, shape):
    model = models.ImageToImage(channels, styles, width=3, depth=depth)
    rng = np.random.default_rng(0)
    x, style = rng.random((2, channels, *shape), np.float32), rng.random((2, styles), np.float32)
    y = model(x, style)
    np.testing.assert_allclose(y - x, np.broadcast_to(model.last.bias.data[:, None, None], x.shape), atol=1e-6)


def test_sides_that_cannot_be_halved():
    model = models.ImageToImage(1, 1, width=2)
    with pytest.raises(ValueError, match=r"x has shape \(1, 1, 8, 6\), expected sides of multiples of 4"):
        model(np.zeros((1, 1, 8, 6), np.float32), np.ones((1, 1), np.float32))


def test_film():
    """(1 + γ) x + β, with γ and β linear in the style; none at first."""
    rng = np.random.default_rng(0)
    film = models.FiLM(2, 3)
    x, style = rng.random((4, 3, 2, 5), np.float32), rng.random((4, 2), np.float32)
    np.testing.assert_array_equal(film(x, style), x)
    fastnn.init.normal_(film.affine.weight)
    gamma, beta = (part[:, :, None, None] for part in np.split(film.affine(style), 2, 1))
    np.testing.assert_allclose(film(x, style), (1 + gamma) * x + beta, rtol=1e-6)


def test_everything_learns():
    """Also what the style goes through, if that is an array and the image a Tensor."""
    model = models.ImageToImage(1, 2, width=2, depth=1)
    for parameter in model.parameters():
        fastnn.init.normal_(parameter, std=0.3)
    x, style = np.random.default_rng(0).random((2, 1, 4, 4), np.float32), np.eye(2, dtype=np.float32)
    (model(fastnn.Tensor(x), style) ** 2).mean().backward()
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())


@pytest.mark.parametrize("size", [(9, 5), (18, 20), (40, 21)])
def test_bicubic(size):
    """torch's, whose cubic is the same if it is asked not to alias."""
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).random((18, 10), np.float32)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(x)[None, None], size, mode="bicubic", antialias=True, align_corners=False
    )[0, 0]
    np.testing.assert_allclose(resized(x, *size), expected.numpy(), atol=1e-5)


def test_demonstration():
    """On photographs held out, a decibel less noise than in the input at least, as a filter that is the identity has 0;
    and no other style vector comes as near to a style as its own."""
    measures = demonstrate("restoration").measures
    assert measures["noise_gain"] > 1
    assert measures["style_margin"] > 0
