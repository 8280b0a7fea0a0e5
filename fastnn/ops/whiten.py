"""Whitening (K17): what batch norm replaced. Through LAPACK by NumPy, in float64 whatever the dtype."""

from typing import NamedTuple

import numpy as np

from fastnn.descriptors import flag, number, one_of
from fastnn.ops._arrays import array, array_of_shape, writable
from fastnn.ops.norm import update

__all__ = ["whiten_backward", "whiten_forward"]


class WhitenCtx(NamedTuple):
    """What the backward pass needs of the forward pass, in float64 but for x."""

    x: np.ndarray
    mean: np.ndarray
    matrix: np.ndarray
    """(D, D) with y = (x - mean) matrix^T."""
    values: np.ndarray
    """Eigenvalues of the covariance, those of the columns of vectors."""
    vectors: np.ndarray
    method: str
    eps: float
    training: bool


def decompose(cov):
    """Eigenvalues in descending order, at least 0, and eigenvectors as columns, each with a positive component of the
    largest magnitude (the first such); NaN for a matrix that is not finite."""
    if not np.isfinite(cov).all():
        return np.full(len(cov), np.nan), np.full(cov.shape, np.nan)
    values, vectors = np.linalg.eigh(cov)
    values, vectors = np.maximum(values[::-1], 0), vectors[:, ::-1]
    largest = np.take_along_axis(vectors, np.abs(vectors).argmax(0)[None], 0)
    return values, vectors * np.where(largest < 0, -1.0, 1.0)


def whiten_forward(
    x, running_mean=None, running_cov=None, method="zca", training=True, momentum=0.1, eps=1e-5, *, keep=True
):
    """Whitening, y = W (x - mean): features without correlation and, but for eps, of variance 1.

    With the covariance U Λ U^T of the features and S = (Λ + eps)^-1/2: method "pca", W = S U^T, features along the
    principal axes, that of the largest variance first, each axis with the sign that makes its component of the largest
    magnitude positive; "zca", W = U S U^T, the symmetric one, whose results are nearest to x (Bell & Sejnowski 1997;
    Kessy, Lewin & Strimmer 2018).
    x: (N, D), float32 or float64; computed in float64.
    training: mean and biased covariance are those of x, and running_mean and running_cov, if given, become
    (1 - momentum) * running + momentum * new in place, new being the mean and the unbiased covariance; they must be
    writable C-contiguous (D,) and (D, D) arrays of x's dtype. An empty batch leaves them as they are.
    Otherwise running_mean and running_cov, which must be symmetric (its lower triangle is read), are the statistics,
    and constants to the backward pass.
    Returns (y, ctx). A value that is not finite makes all results NaN.
    Raises ValueError for an eps below 0 and when training on a single sample.
    """
    x = array(x, "whiten", "x", 2, "(N, D)")
    n, d = x.shape
    if d == 0:
        raise ValueError(f"whiten: x has shape {x.shape}, expected at least one feature")
    one_of("whiten", "method", method, "pca", "zca")
    training, momentum = flag(training, "whiten", "training"), number(momentum, "whiten", "momentum")
    eps = number(eps, "whiten", "eps")
    if not eps >= 0:
        raise ValueError(f"whiten: eps must not be negative or NaN, got {eps}")
    if training:
        if n == 1:
            raise ValueError(f"whiten: x of shape {x.shape} has one sample, expected more than one when training")
        if running_mean is not None:
            running_mean = writable(running_mean, "whiten", "running_mean", (d,), x)
        if running_cov is not None:
            running_cov = writable(running_cov, "whiten", "running_cov", (d, d), x)
    elif running_mean is None or running_cov is None:
        raise ValueError("whiten: running_mean and running_cov are needed when training=False")
    else:
        running_mean = array_of_shape(running_mean, "whiten", "running_mean", (d,), x)
        running_cov = array_of_shape(running_cov, "whiten", "running_cov", (d, d), x)
    with np.errstate(all="ignore"):
        wide = x.astype(np.float64)
        if not training:
            mean, cov = running_mean.astype(np.float64), running_cov.astype(np.float64)
        elif n:
            mean = wide.mean(0)
            cov = (wide - mean).T @ (wide - mean) / n
        else:
            mean, cov = np.zeros(d), np.eye(d)
        values, vectors = decompose(cov)
        matrix = vectors.T / np.sqrt(values + eps)[:, None]
        if method == "zca":
            matrix = vectors @ matrix
        y = ((wide - mean) @ matrix.T).astype(x.dtype)
        if training and n:
            update((running_mean, running_cov), (mean, cov * (n / (n - 1))), momentum)
    ctx = WhitenCtx(x, mean, matrix, values, vectors, method, eps, training) if keep else None
    return y, ctx


def whiten_backward(dy, ctx):
    """dx of the whole map, mean and covariance included unless they were constants.

    With c = x - mean and dW = dy^T c, the gradient at the covariance A = U Λ U^T is, of "zca", U (K ∘ U^T dW U) U^T
    with the divided differences K_ij of (λ + eps)^-1/2 (Daleckii & Krein 1965), which close eigenvalues do not disturb.
    Of "pca" it has the terms 1 / (λ_j - λ_i) of the eigenvectors' derivative: it grows without bounds as eigenvalues
    come close, and where they are equal to rounding, so that the axes are arbitrary, those terms are left out.
    """
    dy = array_of_shape(dy, "whiten", "dy", ctx.x.shape, ctx.x)
    with np.errstate(all="ignore"):
        wide, u, values = dy.astype(np.float64), ctx.vectors, ctx.values
        dx = wide @ ctx.matrix
        n = len(dx)
        if ctx.training and n:
            centred = ctx.x - ctx.mean
            dmatrix = wide.T @ centred
            root = np.sqrt(values + ctx.eps)
            if ctx.method == "zca":
                # (1/a - 1/b) / (a^2 - b^2) for roots a, b, without the differences
                inner = -(u.T @ dmatrix @ u) / (np.outer(root, root) * np.add.outer(root, root))
            else:
                rotated = dmatrix @ u  # row k: the gradient at row k of W, in the basis of eigenvectors
                gaps = values - values[:, None]
                apart = np.abs(gaps) > len(values) * np.finfo(np.float64).eps * values[0]
                inner = np.where(apart, (rotated / root[:, None]).T / np.where(apart, gaps, 1), 0)
                inner -= np.diag(np.diag(rotated) / (2 * root**3))
            dcov = u @ inner @ u.T
            dx += centred @ (dcov + dcov.T) / n
            dx -= dx.mean(0)
    return dx.astype(dy.dtype)
