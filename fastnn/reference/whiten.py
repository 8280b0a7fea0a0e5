"""Whitening (K17)."""

from typing import NamedTuple

import numpy as np

__all__ = ["whiten_backward", "whiten_forward"]


class WhitenCtx(NamedTuple):
    """What the backward pass needs of the forward pass."""

    centred: np.ndarray
    cov: np.ndarray
    matrix: np.ndarray
    """(D, D) with y = (x - mean) matrix^T."""
    method: str
    eps: float
    training: bool


def principal_axes(cov):
    """[(eigenvalue, eigenvector)], the largest first, each vector's component of the largest magnitude positive."""
    values, vectors = np.linalg.eigh(cov)
    axes = []
    for value, vector in zip(values[::-1], vectors.T[::-1], strict=True):
        sign = np.sign(vector[np.abs(vector).argmax()])
        axes.append((max(value, value.dtype.type(0)), vector * sign))
    return axes


def inverse_root(a):
    """a^-1/2 by Newton's iteration (Denman & Beavers 1976); a need not be symmetric."""
    y, z = a, np.eye(len(a), dtype=a.dtype)
    change = np.inf
    while change > np.sqrt(np.finfo(a.dtype).eps):  # it converges quadratically: what is left is rounding
        before = z
        y, z = (y + np.linalg.inv(z)) / 2, (z + np.linalg.inv(y)) / 2
        change = np.abs(z - before).max() / np.abs(z).max()
    return z


def zca_slope(a, change):
    """The derivative of a^-1/2 in the direction of a change of a: the corner of a block matrix's function (Mathias
    1996), for which eigenvalues may coincide."""
    d = len(a)
    return inverse_root(np.block([[a, change], [np.zeros_like(a), a]]))[:d, d:]


def whiten_forward(
    x, running_mean=None, running_cov=None, method="zca", training=True, momentum=0.1, eps=1e-5, *, keep=True
):
    """y = W (x - mean) with covariance Σ λ_k u_k u_k^T and s_k = (λ_k + eps)^-1/2: rows s_k u_k of W if method is
    "pca", W = Σ s_k u_k u_k^T if "zca" (Kessy, Lewin & Strimmer 2018).

    training: mean and biased covariance of x; the running statistics move towards the mean and the unbiased covariance
    by momentum. Otherwise these.
    """
    n, d = x.shape
    if training and n:
        mean = x.mean(0)
        cov = (x - mean).T @ (x - mean) / n
        if running_mean is not None:
            running_mean[:] = (1 - momentum) * running_mean + momentum * mean
        if running_cov is not None:
            running_cov[:] = (1 - momentum) * running_cov + momentum * cov * n / (n - 1)
    elif training:
        mean, cov = np.zeros(d, x.dtype), np.eye(d, dtype=x.dtype)
    else:
        mean, cov = running_mean, running_cov
    centred = x - mean
    if not np.isfinite(cov).all():
        matrix = np.full_like(cov, np.nan)
    elif method == "pca":
        matrix = np.stack([u / np.sqrt(value + x.dtype.type(eps)) for value, u in principal_axes(cov)])
    else:
        matrix = sum(np.outer(u, u) / np.sqrt(value + x.dtype.type(eps)) for value, u in principal_axes(cov))
    return centred @ matrix.T, WhitenCtx(centred, cov, matrix, method, eps, training) if keep else None


def whiten_backward(dy, ctx):
    """dx = W^T dy, and through W, the covariance A and the mean.

    "zca": the gradient at A is the derivative of the symmetric function A^-1/2 applied to that at W. "pca": by the
    perturbations dλ = u^T dA u and du = (λ - A)^+ dA u of an eigenvalue and its vector (Magnus 1985).
    """
    x, a = ctx.centred, ctx.cov
    dx = dy @ ctx.matrix
    n, d = x.shape
    if not ctx.training or not n:
        return dx
    dmatrix = dy.T @ x
    if not np.isfinite(a).all():
        da = np.full_like(a, np.nan)
    elif ctx.method == "zca":
        da = zca_slope(a + ctx.eps * np.eye(d, dtype=a.dtype), dmatrix)
    else:
        da = np.zeros_like(a)
        for (value, u), row in zip(principal_axes(a), dmatrix, strict=True):
            s = 1 / np.sqrt(value + a.dtype.type(ctx.eps))
            # a pair of equal eigenvalues, here to half the digits, has neither axes of its own nor a share in the sum
            equal = np.sqrt(np.finfo(a.dtype).eps)
            others = np.linalg.pinv(value * np.eye(d, dtype=a.dtype) - a, rcond=equal, hermitian=True)
            da += np.outer(others @ row * s, u) - row @ u * s**3 / 2 * np.outer(u, u)
    dx = dx + x @ (da + da.T) / n
    return dx - dx.mean(0)
