"""Options of all operators: checks, and a cache for what is made from them."""

from functools import lru_cache, wraps
from inspect import signature
from math import prod
from numbers import Integral, Real

import numpy as np


def hashable(value):
    """Lists as tuples, so that an option can be looked up in a cache."""
    return tuple(hashable(v) for v in value) if isinstance(value, list) else value


def cached(function):
    """lru_cache for a function of shapes and options, of which lists count as tuples.

    2.0 is not 2, and (2.0, 2.0) not (2, 2), though they are equal: what holds anything but int itself goes to the
    function, which knows what it takes. Shapes are those of arrays, and only options are looked into.
    """
    parameters = signature(function)
    first = max(i for i, name in enumerate(parameters.parameters) if name.endswith("_shape")) + 1

    @lru_cache(maxsize=1024, typed=True)  # which compares the types of arguments, but not of the elements of tuples
    def lookup(*args):
        return function(*args), [(i, args[i]) for i in range(first, len(args)) if isinstance(args[i], tuple)]

    @wraps(function)
    def call(*args, **options):
        if options:
            bound = parameters.bind(*args, **options)
            bound.apply_defaults()
            args = bound.args
        try:
            found, tuples = lookup(*args)
        except TypeError:  # a wrong option, or a list, or else an unhashable one
            if list in map(type, args):
                return call(*map(hashable, args))
            return function(*args)
        for i, accepted in tuples:
            if args[i] is not accepted:
                for element in args[i]:
                    if type(element) is not int:
                        return function(*args)
        return found

    return call


def pair(value, op, name, least):
    """An option given as one integer or as (vertical, horizontal), each at least `least`, as a pair."""
    values = tuple(value) if isinstance(value, tuple) else (value, value)
    if len(values) != 2 or not all(is_int(v) for v in values):
        raise TypeError(f"{op}: {name} must be an integer or a pair of integers, got {value!r}")
    if min(values) < least:
        raise ValueError(f"{op}: {name} must be at least {least}, got {value!r}")
    return int(values[0]), int(values[1])


def is_int(value):
    """A Python or NumPy integer, but not a bool."""
    return type(value) is int or (isinstance(value, Integral) and not isinstance(value, bool))


def number(value, op, name):
    """An option that is a real number, as a float."""
    if type(value) is float:
        return value
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"{op}: {name} must be a number, got {value!r}")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"{op}: {name} is beyond the range of floats, 1.8e308") from None


def flag(value, op, name):
    """An option that is True or False, of Python or NumPy; not whatever else has a truth value."""
    if value is True or value is False:
        return value
    if not isinstance(value, np.bool_):
        raise TypeError(f"{op}: {name} must be True or False, got {value!r}")
    return bool(value)


def one_of(op, name, value, *expected):
    """value, if it is one of the expected ones."""
    if not (value is None or isinstance(value, str)) or value not in expected:
        *others, last = map(repr, expected)
        raise ValueError(f"{op}: {name} is {value!r}, expected {', '.join(others)} or {last}")
    return value


def check_size(op, name, shape):
    """ValueError for an array whose size in bytes would overflow, whatever the batch."""
    if prod(max(size, 1) for size in shape) >= 2**60:
        raise ValueError(f"{op}: {name} would have shape {shape}, expected fewer than 2**60 elements")


def at_most(steps, limits):
    """Strides or dilations no larger than they need be: beyond the image, one is like another."""
    return tuple(map(min, steps, limits))


def checked_lengths(op, lengths, t, n):
    """How many of t elements each of n sequences has, a list or array of integers 1 to t, as an array of int64."""
    found = np.asarray(lengths)
    if found.dtype.kind not in "iu" and found.size:
        raise TypeError(f"{op}: lengths must be integers, got {lengths!r}")
    if found.shape != (n,):
        raise ValueError(f"{op}: lengths has shape {found.shape}, expected {(n,)}, one of each sequence")
    if n and not 1 <= found.min() <= found.max() <= t:
        raise ValueError(f"{op}: lengths are {found.tolist()}, expected each 1 to {t}")
    return found.astype(np.int64)
