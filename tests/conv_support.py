"""Helpers of convolution's tests: problems in short form, and the algorithms that take them."""

from functools import cache

import numpy as np

from fastnn.descriptors import conv1d_desc, conv2d_desc, conv_transpose2d_desc
from fastnn.ops.conv import CONV2D_ALGORITHMS
from fastnn.registry import specs
from fastnn.specs.conv import case, case_transposed
from fastnn.verify import Problem

DESCRIBE = {"conv2d": conv2d_desc, "conv1d": conv1d_desc, "conv_transpose2d": conv_transpose2d_desc}


def convolution(op, x, w, **options):
    """(spec, case) of conv2d, conv1d or conv_transpose2d with a bias."""
    return specs()[op], (case_transposed if op == "conv_transpose2d" else case)(x, w, **options)


def algorithms(spec, case, dtype):
    """Names of all algorithms in the table that take a case."""
    desc = DESCRIBE[spec.name](case.shapes["x"], case.shapes["w"], **case.options)
    return [a.name for a in CONV2D_ALGORITHMS if a.declines(desc, np.dtype(dtype)) is None]


@cache
def problem_of(op, x, w, dtype, options=()):
    """A Problem with its truth, computed once for all instruction sets. options: pairs, to be hashable."""
    return Problem(*convolution(op, x, w, **dict(options)), dtype)


def assert_right(dtype, *problems):
    """Forward and gradients of (op, x, w, options) are within their bounds of the float64 reference, with every
    algorithm."""
    for op, x, w, options in problems:
        problem = problem_of(op, x, w, dtype, tuple(options.items()))
        for algo in algorithms(problem.spec, problem.case, dtype):
            forward = problem.forward(algo)
            assert forward, f"{op} {problem.case}, {algo}: {forward}"
            backward = problem.backward(algo)
            assert backward, f"{op} {problem.case}, {algo}, backward: {backward}"
