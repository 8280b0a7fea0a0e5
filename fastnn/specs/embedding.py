"""Specs of the embedding."""

from math import prod

import numpy as np

from fastnn.registry import Case, OpSpec, Work, draw


def case(indices, table, **options):
    return Case({"x": indices, "weight": table}, options)


def make(case, dtype, rng, kind):
    """Indices that are small more often than large, as those of words are; but equally often, a power of two, if
    gradients are divided by that, so that integers stay exact."""
    rows, shape = case.shapes["weight"][0], case.shapes["x"]
    if case.options.get("scale_grad_by_freq"):
        indices = (rng.permutation(prod(shape)) % rows).reshape(shape)
    else:
        indices = np.asarray(rows * rng.random(shape) ** 3).astype(np.int64)
    return {"x": indices, "weight": draw(case.shapes["weight"], dtype, rng, kind)}


def lookups(case):
    return prod(case.shapes["x"])


def work(case, itemsize):
    """Every index is read, and of the table at least what is looked up, or all of it."""
    rows, d = case.shapes["weight"]
    written = lookups(case) * d * itemsize
    return Work(0, min(lookups(case), rows) * d * itemsize + 8 * lookups(case) + written, written)


def backward_work(case, itemsize):
    rows, d = case.shapes["weight"]
    return Work(lookups(case) * d, (lookups(case) + rows) * d * itemsize + 8 * lookups(case), rows * d * itemsize)


SPECS = (
    OpSpec(
        name="embedding",
        grads=("weight",),
        cases=(
            case((1,), (1, 1)),
            case((), (5, 7)),
            case((2, 3), (11, 16)),
            case((4, 9), (7, 130), padding_idx=2),
            case((70,), (9, 33), padding_idx=-1),
            case((320,), (5, 8), scale_grad_by_freq=True),
            case((2, 4, 32), (32, 600), padding_idx=0, scale_grad_by_freq=True),
            case((17,), (1000, 64)),
        ),
        bench=(
            case((16,), (1000, 64)),
            case((32, 128), (30522, 768), padding_idx=0),
            case((64, 512), (50257, 768)),
            case((2048, 50), (100000, 64)),
        ),
        work=work,
        backward_work=backward_work,
        # A sum over all positions at most, and a quotient.
        depth=lambda case: lookups(case) + 1 if case.options.get("scale_grad_by_freq") else lookups(case),
        multilinear=True,
        derivative=lambda case: not {"padding_idx", "scale_grad_by_freq"} & set(case.options),
        batch=lambda case: {"x": 0} if case.shapes["x"] else {},
        make=make,
        peers={
            "torch": lambda torch, x, weight, **options: torch.nn.functional.embedding(x, weight, **options),
        },
    ),
)
