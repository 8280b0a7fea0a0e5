"""Random problems: whatever shapes and options an operator takes, it equals its reference on integers.

An operator is added by a strategy of its cases. Sizes lie about the edges of vectors and register tiles.
"""

from math import prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastnn.kernels import runtime
from fastnn.registry import Case, specs
from fastnn.specs import elementwise, softmax
from fastnn.verify import Problem, forced, why_not

# One below, at and above the vector lengths and tile sizes of the instruction sets, and small numbers.
EDGES = [1, 2, 3, 5, 7, 8, 9, 13, 14, 15, 16, 17, 31, 32, 33]
small = st.integers(1, 4)
edge = st.sampled_from(EDGES)


def integer_or_pair(values):
    return st.one_of(values, st.tuples(values, values))


def as_pair(value):
    return value if isinstance(value, tuple) else (value, value)


@st.composite
def matmul_cases(draw):
    m, k, n = draw(edge), draw(edge), draw(edge)
    return Case({"a": (m, k), "b": (k, n)})


@st.composite
def linear_cases(draw):
    n, d, m = draw(edge), draw(edge), draw(edge)
    return Case({"x": (n, d), "w": (m, d), "b": draw(st.sampled_from([(m,), None]))})


paddings = st.one_of(integer_or_pair(st.integers(0, 3)), st.tuples(*[st.integers(0, 3)] * 4))


@st.composite
def conv2d_cases(draw):
    """Images at least as large as the dilated kernel needs. Half of them are what some algorithms are for: 3 x 3
    and 5 x 5 kernels without stride, single pixels, one channel a group."""
    kind = draw(st.sampled_from(["any"] * 4 + ["3 x 3", "5 x 5", "1 x 1", "depthwise"]))
    groups = draw(st.sampled_from([1, 1, 1, 2, 3]))
    channels, filters = groups * draw(st.one_of(small, edge)), groups * draw(st.one_of(small, edge))
    r, s = draw(small), draw(small)
    dilation = draw(integer_or_pair(st.integers(1, 3)))
    padding = draw(st.one_of(paddings, st.sampled_from(["valid"])))
    stride = draw(integer_or_pair(st.integers(1, 3)))
    if kind in ("3 x 3", "5 x 5"):
        r = s = int(kind[0])
        stride = dilation = 1
    elif kind == "1 x 1":
        r, s = 1, 1
    elif kind == "depthwise":
        groups = filters = channels
    if draw(st.integers(0, 7)) == 0:
        stride, padding = 1, "same"
    top, bottom, left, right = (0, 0, 0, 0) if isinstance(padding, str) else four_sides(padding)
    (dy, dx) = as_pair(dilation)
    height = max(1, dy * (r - 1) + 1 - top - bottom) + draw(st.integers(0, 6))
    width = max(1, dx * (s - 1) + 1 - left - right) + draw(st.one_of(st.integers(0, 6), edge))
    x, w = (draw(st.integers(1, 3)), channels, height, width), (filters, channels // groups, r, s)
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return Case({"x": x, "w": w, "b": draw(st.sampled_from([(filters,), None]))}, options)


@st.composite
def conv1d_cases(draw):
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    channels, filters = groups * draw(st.one_of(small, edge)), groups * draw(st.one_of(small, edge))
    if draw(st.integers(0, 3)) == 0:
        groups = filters = channels
    r, dilation, stride = draw(st.integers(1, 6)), draw(st.integers(1, 4)), draw(st.integers(1, 4))
    padding = draw(st.one_of(st.integers(0, 4), st.tuples(*[st.integers(0, 4)] * 2), st.sampled_from(["valid"])))
    if draw(st.integers(0, 7)) == 0:
        stride, padding = 1, "same"
    outside = 0 if isinstance(padding, str) else sum(as_pair(padding))
    length = max(1, dilation * (r - 1) + 1 - outside) + draw(st.one_of(small, edge))
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    shapes = {"x": (draw(small), channels, length), "w": (filters, channels // groups, r)}
    return Case({**shapes, "b": draw(st.sampled_from([(filters,), None]))}, options)


@st.composite
def conv_transpose2d_cases(draw):
    """Images large enough that padding leaves something; output_padding below stride or dilation."""
    groups = draw(st.sampled_from([1, 1, 1, 2, 3]))
    channels, per_group = groups * draw(st.one_of(small, edge)), draw(st.one_of(small, edge))
    if draw(st.integers(0, 3)) == 0:
        groups, per_group = channels, 1
    r, s = draw(small), draw(small)
    stride, dilation = draw(integer_or_pair(st.integers(1, 3))), draw(integer_or_pair(st.integers(1, 3)))
    if draw(st.integers(0, 3)) == 0:
        r = s = draw(st.sampled_from([3, 5]))
        stride = dilation = 1
    padding = draw(paddings)
    (ty, tx), (dy, dx) = as_pair(stride), as_pair(dilation)
    extra = draw(st.integers(0, max(ty, dy) - 1)), draw(st.integers(0, max(tx, dx) - 1))
    top, bottom, left, right = four_sides(padding)
    height = max(1, -((dy * (r - 1) + extra[0] - top - bottom) // ty) + 1) + draw(st.integers(0, 4))
    width = max(1, -((dx * (s - 1) + extra[1] - left - right) // tx) + 1) + draw(st.one_of(st.integers(0, 4), edge))
    options = {"stride": stride, "padding": padding, "output_padding": extra, "groups": groups, "dilation": dilation}
    shapes = {"x": (draw(st.integers(1, 3)), channels, height, width), "w": (channels, per_group, r, s)}
    return Case({**shapes, "b": draw(st.sampled_from([(per_group * groups,), None]))}, options)


def four_sides(padding):
    if isinstance(padding, tuple) and len(padding) == 4:
        return padding
    vertical, horizontal = as_pair(padding)
    return vertical, vertical, horizontal, horizontal


@st.composite
def pool2d_cases(draw, dilated):
    """Padding of at most half the kernel, and no window that steps over the whole image, as pooling demands."""
    kernel_size = draw(integer_or_pair(small))
    (r, s) = as_pair(kernel_size)
    padding = draw(st.tuples(st.integers(0, r // 2), st.integers(0, s // 2)))
    dilation = draw(integer_or_pair(st.integers(1, 3))) if dilated else 1
    (dy, dx) = as_pair(dilation)
    height = max(dy, dy * (r - 1) + 1 - 2 * padding[0]) + draw(st.integers(0, 9))
    width = max(dx, dx * (s - 1) + 1 - 2 * padding[1]) + draw(st.one_of(st.integers(0, 9), edge))
    options = {"kernel_size": kernel_size, "padding": padding, "ceil_mode": draw(st.booleans())}
    options["stride"] = draw(st.one_of(st.none(), integer_or_pair(st.integers(1, 4))))
    if dilated:
        options["dilation"] = dilation
        options["return_indices"] = draw(st.booleans())
    else:
        options["count_include_pad"] = draw(st.booleans())
        # A divisor of a power of two: the quotient of small integers does not round.
        options["divisor_override"] = draw(st.sampled_from([1, 2, 4, -8]))
    return Case({"x": (draw(small), draw(small), height, width)}, options)


@st.composite
def subsample2d_cases(draw):
    block = draw(integer_or_pair(small))
    height, width = (b + draw(st.integers(0, 20)) for b in as_pair(block))
    options = {"block": block, "position": draw(st.sampled_from(["upper_left", "middle"]))}
    return Case({"x": (draw(small), draw(small), height, width)}, options)


STRATEGIES = {
    "matmul": matmul_cases(),
    "linear": linear_cases(),
    "conv1d": conv1d_cases(),
    "conv2d": conv2d_cases(),
    "conv_transpose2d": conv_transpose2d_cases(),
    "max_pool2d": pool2d_cases(dilated=True),
    "min_pool2d": pool2d_cases(dilated=True),
    "avg_pool2d": pool2d_cases(dilated=False),
    "subsample2d": subsample2d_cases(),
}


@pytest.mark.parametrize("name", sorted(STRATEGIES.keys() & specs().keys()))
def test_integers_are_exact(name):
    spec = specs()[name]

    @given(
        case=STRATEGIES[name],
        dtype=st.sampled_from([np.float32, np.float64]),
        isa=st.sampled_from(runtime.supported_isas()),
        threads=st.integers(1, 4),
        algo=st.sampled_from(spec.algos or (None,)),
        seed=st.integers(0, 99),
    )
    def check(case, dtype, isa, threads, algo, seed):
        if why_not(spec, case, dtype, algo):
            algo = None
        problem = Problem(spec, case, dtype, "integer", seed)
        problem.exact = True
        with forced(isa=isa, threads=threads):
            for verdict in (problem.forward(algo), problem.backward(algo)):
                assert verdict, f"{case}: {verdict}"

    check()


SHAPES = st.lists(st.one_of(small, edge), min_size=1, max_size=4).filter(lambda shape: prod(shape) < 5000)


ANY_SHAPE = [spec.name for spec in (*elementwise.SPECS, *softmax.SPECS)]


@pytest.mark.parametrize("name", ANY_SHAPE)
def test_functions_of_any_shape(name):
    """Operators of one array, of any shape, within their bounds."""
    spec = specs()[name]

    @given(shape=SHAPES, data=st.data(), isa=st.sampled_from(runtime.supported_isas()), threads=st.integers(1, 4))
    def check(shape, data, isa, threads):
        options = dict(data.draw(st.sampled_from(spec.cases)).options)
        if "axis" in options:
            options["axis"] = data.draw(st.integers(-len(shape), len(shape) - 1))
        problem = Problem(spec, Case({"x": tuple(shape)}, options), np.float32, seed=prod(shape))
        with forced(isa=isa, threads=threads):
            assert problem.forward()
            assert not spec.grads or problem.backward()

    check()
