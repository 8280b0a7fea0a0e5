"""The reference's gradients are the derivatives of the reference's outputs, by central differences in float64.

With D(h) the central difference of step h, R(h) = (4 D(h) - D(2h)) / 3 has an error of order h**4, and
|R(h) - R(2h)| is about 15 times that error: it bounds the truncation without any tuning. What rounding adds is
bounded by the operator's error bound divided by h. Inputs are float32 numbers, so that x ± h is exact.
"""

from math import fsum

import numpy as np
import pytest
from support import copy, differentiable, each_case

from fastnn import reference
from fastnn.registry import as_tuple, flat, map_arrays, restored

H = 2.0**-10
ALL_BELOW = 16  # arguments with so few elements are checked element by element
SAMPLE = 6  # of the others, so many elements, and as many directions that change all elements at once
EPS = np.finfo(np.float64).eps


def directions(x, rng):
    """Elements alone, and all elements up or down, of length about 1: a wrong element of the gradient shows in almost
    each of these."""
    picks = range(x.size) if x.size <= ALL_BELOW else rng.choice(x.size, SAMPLE, replace=False)
    for i in picks:
        v = np.zeros(x.size)
        v[i] = 1
        yield f"element {np.unravel_index(i, x.shape)}", v.reshape(x.shape)
    step = 2.0 ** -round(np.log2(x.size) / 2)
    for i in range(SAMPLE):
        yield f"direction {i}", rng.choice([-step, step], x.shape)


@each_case(differentiable, where=lambda spec, case: spec.derivative(case))
def test_central_differences(spec, case):
    kind = "distinct" if spec.distinct else "normal"
    inputs = spec.inputs(case, np.float32, seed=12, kind=kind)
    arrays = map_arrays(lambda x: x.astype(np.float64) if x.dtype == np.float32 else x, inputs)
    outputs, ctx = spec.forward(reference, copy(arrays), case.options)
    dy = spec.draw_dy(outputs)
    grads = spec.backward(reference, dy, ctx)

    def scalar(arrays, dy):
        """sum of dy * y over the outputs that have a gradient, rounded once."""
        outputs, _ = spec.forward(reference, copy(arrays), case.options)
        return fsum(p for y, d in zip(as_tuple(outputs), as_tuple(dy), strict=False) for p in (y * d).flat)

    if spec.multilinear:
        absolute = map_arrays(lambda x: np.abs(x) if x.dtype.kind == "f" else x, arrays)
        magnitude = scalar(absolute, tuple(map(np.abs, as_tuple(dy))))
    else:
        magnitude = sum(
            np.abs(d).sum() * np.abs(y).max(initial=0) for y, d in zip(as_tuple(outputs), as_tuple(dy), strict=False)
        )
    rounding = (spec.depth(case) + 3) * EPS * magnitude

    rng = np.random.default_rng(13)
    flat_arrays, flat_grads = flat(arrays), flat(grads)
    assert list(flat_grads) == list(flat({name: arrays[name] for name in spec.grads}))
    for name, dx in flat_grads.items():
        x = flat_arrays[name]
        assert (x is None) == (dx is None), name
        if x is None:
            continue
        assert (dx.shape, dx.dtype) == (x.shape, x.dtype), name
        for what, v in directions(x, rng):

            def difference(h, name=name, x=x, v=v):
                up, down = (restored({**flat_arrays, name: x + s * h * v}, arrays) for s in (1, -1))
                return (scalar(up, dy) - scalar(down, dy)) / (2 * h)

            d1, d2, d4 = difference(H), difference(2 * H), difference(4 * H)
            got, coarse = (4 * d1 - d2) / 3, (4 * d2 - d4) / 3
            truncation = abs(got - coarse)
            # At a kink the estimate is as large as the derivative, and would let any gradient pass.
            scale = max(np.abs(dx).max(), magnitude / max(np.abs(x).max(), 1) * 1e-3)
            assert truncation <= 1e-3 * scale, f"{name}, {what}: not smooth here ({d1}, {d2}, {d4})"
            want = fsum((dx * v).flat)
            tolerance = truncation + 1.5 * rounding / H + (spec.depth(case) + 3) * EPS * fsum(np.abs(dx * v).flat)
            assert got == pytest.approx(want, rel=0, abs=tolerance), f"d{name}, {what}"
