"""Specs of arithmetic on two arrays."""

from math import prod

import numpy as np

from fastnn.registry import Case, OpSpec, Work, draw_arrays


def case(*shape, **options):
    return Case({"a": shape, "b": shape}, options)


def make(case, dtype, rng, kind):
    """Before ReLU, sums keep away from 0, where it has no derivative."""
    arrays = draw_arrays(case, dtype, rng, kind)
    if case.options.get("relu") and kind != "integer":
        signs = rng.choice([-2, 2], case.shapes["a"])
        arrays = {"a": signs + np.tanh(arrays["a"]) / 2, "b": np.tanh(arrays["b"]) / 2}
        arrays = {name: x.astype(dtype) for name, x in arrays.items()}
    return arrays


def work(case, itemsize):
    size = prod(case.shapes["a"])
    return Work(size, 3.0 * size * itemsize, size * itemsize)


def backward_work(case, itemsize):
    """dy, and y with ReLU, are read; two gradients are written."""
    size = prod(case.shapes["a"])
    return Work(size, (3.0 + bool(case.options.get("relu"))) * size * itemsize, 2 * size * itemsize)


def torch_add(torch, a, b, relu=False):
    y = torch.add(a, b)
    return torch.nn.functional.relu(y) if relu else y


SPECS = (
    OpSpec(
        name="add",
        grads=("a", "b"),
        cases=(
            case(1),
            case(2, 3, 5, 7),
            case(1037),
            case(64, relu=True),
            case(3, 5, 29, relu=True),
        ),
        bench=(case(16), case(32, 64, 56, 56), case(16, relu=True), case(32, 64, 56, 56, relu=True)),
        work=work,
        backward_work=backward_work,
        depth=lambda case: 1,
        batch=lambda case: {"a": 0, "b": 0},
        make=make,
        sized=case,
        peers={"torch": torch_add},
    ),
)
