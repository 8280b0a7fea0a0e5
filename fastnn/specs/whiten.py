"""Spec of whitening."""

import numpy as np

from fastnn.registry import Case, OpSpec, Work


def case(n, d, running=True, **options):
    running = {"running_mean": (d,), "running_cov": (d, d)} if running else {"running_mean": None, "running_cov": None}
    return Case({"x": (n, d), **running}, options)


def rotation(d, rng):
    return np.linalg.qr(rng.standard_normal((d, d)))[0]


def make(case, dtype, rng, kind):
    """Covariances have the eigenvalues 1, 2, …, d, or of few samples, as many as their rank and zeros."""
    n, d = case.shapes["x"]
    values, u = np.arange(1.0, d + 1), rotation(d, rng)
    x = rng.standard_normal((n, d))
    if n > 1:
        left, _, right = np.linalg.svd(x - x.mean(0), full_matrices=False)
        rank = min(n - 1, d)
        x = left[:, :rank] * np.sqrt(n * values[:rank]) @ right[:rank] @ u + rng.standard_normal(d)
    arrays = {"x": x.astype(dtype), "running_mean": None, "running_cov": None}
    if case.shapes["running_cov"] is not None:
        arrays["running_mean"] = rng.standard_normal(d).astype(dtype)
        arrays["running_cov"] = (u * values @ u.T).astype(dtype)
    return arrays


def work(case, itemsize):
    """Covariance and product with the matrix; the eigenvalues, about 10 d^3."""
    n, d = case.shapes["x"]
    return Work(4.0 * n * d * d + 10 * d**3, 2 * n * d * itemsize)


def backward_work(case, itemsize):
    n, d = case.shapes["x"]
    return Work(6.0 * n * d * d + 8 * d**3, 3 * n * d * itemsize)


def depth(case):
    """Sums over n samples; eigenvalues and vectors, known to d eps times the largest eigenvalue, which is at most d
    times both the least one and the least gap, and d terms of sums over them, a few times."""
    n, d = case.shapes["x"]
    return n + 16 * d * d


SPECS = (
    OpSpec(
        name="whiten",
        grads=("x",),
        cases=(
            case(9, 1),
            case(20, 3),
            case(20, 3, method="pca"),
            case(33, 5, running=False),
            case(40, 7, method="pca", running=False, eps=0.5),
            case(4, 6, eps=1.0),
            case(4, 6, method="pca", eps=1.0),
            case(2, 3, eps=1.0, momentum=0.5),
            case(10, 4, training=False, eps=1e-3),
            case(1, 4, training=False, method="pca"),
        ),
        bench=(case(1024, 64), case(1024, 64, method="pca"), case(1024, 64, training=False)),
        work=work,
        backward_work=backward_work,
        depth=depth,
        exact=False,
        make=make,
    ),
)
