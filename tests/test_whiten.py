"""Whitening beyond its cases: what it is for, signs and order, close eigenvalues, torch's eigenvectors as a witness."""

import numpy as np
import pytest

from fastnn import functional as F
from fastnn import ops

METHODS = pytest.mark.parametrize("method", ["pca", "zca"])


def correlated(n, d, seed=0, values=None):
    """Samples whose biased covariance has the given eigenvalues, 1 … d by default."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d))
    left, _, right = np.linalg.svd(x - x.mean(0), full_matrices=False)
    values = np.arange(1.0, d + 1) if values is None else np.asarray(values, float)
    return left * np.sqrt(n * values) @ right + 5


def covariance(x):
    return (x - x.mean(0)).T @ (x - x.mean(0)) / len(x)


@METHODS
def test_result_is_white(method):
    y = F.whiten(correlated(200, 6), method=method, training=True, eps=0)
    np.testing.assert_allclose(y.mean(0), 0, atol=1e-13)
    np.testing.assert_allclose(covariance(y), np.eye(6), atol=1e-13)


def test_methods_differ_by_a_rotation():
    x = correlated(100, 5)
    pca, zca = (F.whiten(x, method=method, training=True) for method in ("pca", "zca"))
    rotation = np.linalg.lstsq(pca, zca, rcond=None)[0]
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(5), atol=1e-12)
    np.testing.assert_allclose(pca @ rotation, zca, atol=1e-12)


def test_order_and_signs_of_axes():
    """The largest variance first; a turned sign of the data turns the results, not the axes."""
    scales = np.array([1.0, 4.0, 2.0])
    x = correlated(50, 3, values=[1, 1, 1]) * scales
    y, ctx = ops.whiten_forward(x, method="pca", eps=0)
    np.testing.assert_allclose(ctx.matrix, np.eye(3)[[1, 2, 0]] / np.array([4, 2, 1])[:, None], atol=1e-12)
    np.testing.assert_allclose(ops.whiten_forward(-x, method="pca", eps=0)[0], -y, atol=1e-12)


def test_zca_of_white_data_changes_nothing():
    x = correlated(60, 4, values=[1, 1, 1, 1])
    np.testing.assert_allclose(F.whiten(x, training=True, eps=0), x - x.mean(0), atol=1e-12)


@METHODS
def test_running_statistics(method):
    x = correlated(30, 4)
    mean, cov = np.full(4, 2.0), np.eye(4)
    ops.whiten_forward(x, mean, cov, method, momentum=0.25)
    ops.whiten_forward(x[:0], mean, cov, method, momentum=0.25)  # changes nothing
    np.testing.assert_allclose(mean, 1.5 + 0.25 * x.mean(0), rtol=1e-14)
    np.testing.assert_allclose(cov, 0.75 * np.eye(4) + 0.25 * np.cov(x.T), rtol=1e-13)
    before = mean.copy(), cov.copy()
    mean[:], cov[:] = x.mean(0), covariance(x)
    np.testing.assert_allclose(F.whiten(x, mean, cov, method), F.whiten(x, method=method, training=True), rtol=1e-11)
    assert not np.array_equal(mean, before[0])
    _, ctx = ops.whiten_forward(x, *before, method, training=False)
    dy = np.ones_like(x)
    np.testing.assert_allclose(ops.whiten_backward(dy, ctx), dy @ ctx.matrix, rtol=1e-14)


@METHODS
def test_same_bits_every_time(method):
    x, dy = np.random.default_rng(0).standard_normal((2, 300, 40)).astype(np.float32)
    y, ctx = ops.whiten_forward(x, method=method)
    dx = ops.whiten_backward(dy, ctx)
    for _ in range(5):
        again, ctx = ops.whiten_forward(x.copy(), method=method)
        assert again.tobytes() == y.tobytes()
        assert ops.whiten_backward(dy.copy(), ctx).tobytes() == dx.tobytes()


@pytest.mark.parametrize("gap", [0.0, 1e-14, 1e-9, 1e-4])
def test_zca_gradient_of_close_eigenvalues(gap):
    """By central differences, of step 1e-4: an error of 1e-8, and rounding of 1e-16 / 1e-4."""
    x = correlated(40, 3, values=[1, 1 + gap, 2])
    rng = np.random.default_rng(1)
    dy, v = rng.standard_normal((2, *x.shape))
    _, ctx = ops.whiten_forward(x)
    got = (ops.whiten_backward(dy, ctx) * v).sum()
    h = 1e-4
    want = (dy * (F.whiten(x + h * v, training=True) - F.whiten(x - h * v, training=True))).sum() / (2 * h)
    assert got == pytest.approx(want, abs=1e-6 * np.abs(dy).sum())


@METHODS
def test_pca_gradient_of_fewer_samples_than_features(method):
    """Equal eigenvalues of 0 have no axes, and give no infinite gradient."""
    x = np.random.default_rng(2).standard_normal((4, 9))
    _, ctx = ops.whiten_forward(x, method=method, eps=0.5)
    dx = ops.whiten_backward(np.random.default_rng(3).standard_normal(x.shape), ctx)
    assert np.abs(dx).max() < 100


@METHODS
def test_not_finite(method):
    x = correlated(10, 3)
    x[2, 1] = np.inf
    y, ctx = ops.whiten_forward(x, method=method)
    assert np.isnan(y).all()
    assert np.isnan(ops.whiten_backward(np.ones_like(x), ctx)).all()


def torch_whiten(torch, x, method, eps):
    centred = x - x.mean(0)
    values, vectors = torch.linalg.eigh(centred.T @ centred / len(x))
    values, vectors = values.flip(0), vectors.flip(1)
    vectors = vectors * vectors.gather(0, vectors.abs().argmax(0, keepdim=True)).sign()
    matrix = vectors.T / torch.sqrt(values + eps)[:, None]
    return centred @ (matrix if method == "pca" else vectors @ matrix).T


@METHODS
def test_agrees_with_torchs_eigenvectors(method):
    torch = pytest.importorskip("torch")
    x, dy = correlated(50, 6), np.random.default_rng(4).standard_normal((50, 6))
    tensor = torch.from_numpy(x.copy()).requires_grad_()
    want = torch_whiten(torch, tensor, method, 1e-3)
    want.backward(torch.from_numpy(dy))
    y, ctx = ops.whiten_forward(x, method=method, eps=1e-3)
    np.testing.assert_allclose(y, want.detach().numpy(), rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(ops.whiten_backward(dy, ctx), tensor.grad.numpy(), rtol=1e-10, atol=1e-11)
