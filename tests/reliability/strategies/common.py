"""Pieces of the strategies: sizes about the edges of vectors and register tiles, shapes, options.

Few draws make an example cheap, so several choices are the digits of one number. It has less than 24 bits: within these
Hypothesis draws numbers equally often.
"""

from functools import cache
from math import prod

from hypothesis import strategies as st

# One below, at and above the vector lengths and tile sizes of the instruction sets, and small numbers.
EDGES = (1, 2, 3, 5, 7, 8, 9, 13, 14, 15, 16, 17, 31, 32, 33)
LONG = (*EDGES, 63, 64, 65, 127, 128, 129, 257, 1037)

edge = st.sampled_from(EDGES)
long = st.sampled_from(LONG)
small = st.integers(1, 4)
batch = st.sampled_from((2, 1, 3, 0, 4))
"""Samples; there may be none."""
yes_or_no = st.booleans()
eighths = st.integers(-16, 16).map(lambda n: n / 8)
"""A number of either sign, or 0."""
reductions = st.sampled_from(("mean", "sum", "none"))


@cache  # to make a strategy takes longer than to draw from it
def digits(*radices):
    """A digit below each of these."""
    assert prod(radices) < 2**24

    def split(number):
        found = []
        for radix in radices:
            number, digit = divmod(number, radix)
            found.append(digit)
        return found

    return st.integers(0, prod(radices) - 1).map(split)


@cache
def picks(*options):
    """One of each of these tuples or ranges."""
    return digits(*map(len, options)).map(lambda found: [each[i] for each, i in zip(options, found, strict=True)])


SHORT = (1, 2, 3, 4)


@cache
def shapes(least=0, most=4, empty=True):
    """Shapes of so many axes: small but for one of any length; some with an axis of 0, if they may be empty."""

    def shape(drawn):
        ndim, length, place, without, *sizes = drawn
        if ndim:
            sizes[place % ndim] = length
            if empty and without < ndim:
                sizes[without] = 0
        return tuple(sizes[:ndim])

    return picks(range(least, most + 1), LONG, range(most), range(39, -1, -1), *[SHORT] * most).map(shape)


@cache
def one_or_pair(values):
    """An option of images: a number, or one for each axis, in a tuple or a list."""
    return st.one_of(values, st.tuples(values, values), st.lists(values, min_size=2, max_size=2))


def as_pair(value):
    return tuple(value) if isinstance(value, tuple | list) else (value, value)


def four_sides(padding):
    if isinstance(padding, tuple | list) and len(padding) == 4:
        return tuple(padding)
    vertical, horizontal = as_pair(padding)
    return vertical, vertical, horizontal, horizontal


def sometimes(draw, **options):
    """Of options, each with a strategy, some, the others staying at their defaults."""
    (chosen,) = draw(digits(2 ** len(options)))
    return {name: draw(values) for i, (name, values) in enumerate(options.items()) if chosen >> i & 1}
