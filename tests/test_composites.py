"""Composites of handwritten digits: where they are, and that what is held out is held out."""

import numpy as np
import pytest

from fastnn.demos import _composites as composites
from fastnn.demos._composites import NUMBERS, SIDE, Pool, compose, distort


def pool(n=30):
    """Images whose pixels are all one number: that of the image, from 1 on."""
    return Pool(np.ones((n, SIDE, SIDE), np.float32) * np.arange(1, n + 1)[:, None, None], np.arange(n) % 10)


def test_split():
    """A fifth of each class is held out, and no image is on both sides: 1797 different ones."""
    pytest.importorskip("sklearn")
    train, test = composites.split()
    np.testing.assert_array_equal(test.counts, -(-(train.counts + test.counts) // 5))
    assert len(train.images) + len(test.images) == 1797
    seen, held_out = ({image.tobytes() for image in each.images} for each in (train, test))
    assert not seen & held_out
    assert train.images.dtype == np.float32 and train.images.min() == 0 and train.images.max() == 1


def test_draw():
    """Of the class asked for, and all of its images."""
    drawn = pool().draw(np.random.default_rng(0), np.full((100, 2), 7))[:, :, 0, 0]
    assert {*drawn.ravel().tolist()} == {8, 18, 28}


def test_compose():
    """Digits from left to right, within the image, without overlap, each where it is said to be."""
    rng = np.random.default_rng(0)
    classes = np.array([[3, 1, -1], [5, 5, 5], [9, -1, -1]] * 50)
    images, corners = compose(rng, pool(), classes, (11, 30))
    assert images.shape == (150, 1, 11, 30) and images.dtype == np.float32
    for image, row, places in zip(images[:, 0], classes, corners, strict=True):
        ends = 0
        for digit, (y, x) in zip(row[row >= 0], places, strict=False):
            part = image[y : y + SIDE, x : x + SIDE]
            assert part.shape == (SIDE, SIDE) and (part == part[0, 0]).all() and (part[0, 0] - 1) % 10 == digit
            assert x >= ends
            ends = x + SIDE
        assert (image > 0).sum() == SIDE * SIDE * (row >= 0).sum()
    single = corners[2::3, 0]
    assert {*single[:, 0]} == {0, 1, 2, 3} and single[:, 1].min() < 4 and single[:, 1].max() > 18


def test_deterministic():
    classes = np.array([[1, 2], [3, -1]])
    a, b = (compose(np.random.default_rng(5), pool(), classes, (12, 24), augment=True) for _ in range(2))
    np.testing.assert_array_equal(a[0], b[0])
    np.testing.assert_array_equal(a[1], b[1])


def test_no_room():
    with pytest.raises(ValueError, match=r"size is \(12, 20\), expected room for 3 digits of 8 x 8"):
        compose(np.random.default_rng(0), pool(), np.array([[1, 2, 3]]), (12, 20))


def test_distort():
    """A little: the ink of a digit stays about the same, so does its middle; every image in a way of its own."""
    image = np.zeros((SIDE, SIDE), np.float32)
    image[2:6, 3:5] = 1
    images = distort(np.random.default_rng(0), np.repeat(image[None], 500, 0))
    assert images.shape == (500, SIDE, SIDE) and images.dtype == np.float32
    assert images.min() >= 0 and images.max() <= 1 + 1e-6
    assert len({each.tobytes() for each in images}) == 500
    ink = images.sum((1, 2))
    assert ink.mean() == pytest.approx(8, rel=0.1) and ink.min() > 5 and ink.max() < 12
    middle = (images.sum(1) * np.arange(SIDE)).sum(1) / ink
    assert abs(middle - 3.5).max() < 1 and middle.mean() == pytest.approx(3.5, abs=0.05)


def test_names():
    assert len(NUMBERS) == 10 and NUMBERS[7] == "seven"
