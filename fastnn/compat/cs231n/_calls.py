"""What the functions of the package share: NumPy's promotion of dtypes, parameters in dictionaries, and caches."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from fastnn.ops._arrays import array_of_shape, empty

REQUIRED: Any = object()
"""The default of a parameter that has none."""


def promoted(op, **arguments):
    """The arguments, arrays of real numbers, in the dtype that NumPy computes in with them: float64 for integers,
    float32 for half precision."""
    for name, x in arguments.items():
        if not isinstance(x, np.ndarray):
            raise TypeError(f"{op}: {name} must be a NumPy array, got {type(x).__name__}")
        if x.dtype.kind not in "biuf" or x.dtype.itemsize > 8:
            raise TypeError(f"{op}: {name} has dtype {x.dtype}, expected real numbers of at most 64 bits")
    dtype = np.result_type(*(x.dtype for x in arguments.values()))
    dtype = np.dtype(np.float64) if dtype.kind != "f" else np.result_type(dtype, np.float32)
    return [x.astype(dtype, copy=False) for x in arguments.values()]


def contiguous(x):
    """A C-contiguous copy, in memory that fastnn keeps for later results: what is new costs a page fault every 4 kB."""
    y = empty(x.shape, x)
    np.copyto(y, x)
    return y


def parameter(op, name, parameters, key, default=REQUIRED):
    """parameters[key] of the argument `name`, a dictionary that may have other keys too."""
    if not isinstance(parameters, Mapping):
        raise TypeError(f"{op}: {name} must be a dictionary, got {type(parameters).__name__}")
    if key in parameters:
        return parameters[key]
    if default is REQUIRED:
        raise ValueError(f"{op}: {name} has no {key!r}, only {list(parameters)}")
    return default


class Cache(NamedTuple):
    """What a backward function needs of the forward function; opaque to callers."""

    op: str
    forward: Callable
    """(*arrays) -> (result or tuple of results, ctx), without an effect on anything else"""
    backward: Callable
    """(*gradients of the results, ctx) -> gradients of the arrays"""
    arrays: tuple
    ctx: Any
    shapes: tuple
    """Of the results."""


def call(op, forward, backward, *arrays):
    """(results, cache) of a function on arrays of one dtype."""
    results, ctx = forward(*arrays)
    shapes = tuple(y.shape for y in (results if isinstance(results, tuple) else (results,)))
    return results, Cache(op, forward, backward, arrays, ctx, shapes)


def gradients(op, cache, **douts):
    """What backward of the cache returns for the arrays `douts`. If these are of a wider dtype than the arguments were,
    the forward function runs again in that."""
    if not isinstance(cache, Cache) or cache.op != op:
        came = f"of {cache.op}" if isinstance(cache, Cache) else f"of type {type(cache).__name__}"
        raise TypeError(f"{op}: cache is {came}, expected what the forward function of {op} returned")
    ctx, like = cache.ctx, cache.arrays[0]
    arrays = promoted(op, **douts)
    dtype = np.result_type(arrays[0].dtype, like.dtype)
    if dtype != like.dtype:
        wider = [x.astype(dtype) for x in cache.arrays]
        like, ctx = wider[0], cache.forward(*wider)[1]
    arrays = [
        array_of_shape(dout.astype(dtype, copy=False), op, name, shape, like)
        for name, dout, shape in zip(douts, arrays, cache.shapes, strict=True)
    ]
    return cache.backward(*arrays, ctx)
