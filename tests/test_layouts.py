"""Arrays in every layout of memory give the same bits as contiguous ones, and stay as they are."""

import numpy as np
import pytest
from layout_support import LAYOUTS
from support import assert_same_bits, copy, each_case

from fastnn import ops
from fastnn.registry import as_tuple, flat, restored


def forward_backward(spec, arrays, options, dy):
    outputs, ctx = spec.forward(ops, arrays, options)
    results = {f"y{i}": y for i, y in enumerate(as_tuple(outputs))}
    return results | (flat(spec.backward(ops, dy, ctx)) if spec.grads else {})


@each_case()
@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda f: f.__name__)
def test_layout(spec, case, layout):
    arrays = spec.inputs(case, np.float32, seed=11)
    # An argument that the operator updates in place (running statistics) must be writable and stay what it is.
    after = copy(arrays)
    outputs, _ = spec.forward(ops, after, case.options)
    like, arrays, after = arrays, flat(arrays), flat(after)
    updated = {
        k
        for k, x in arrays.items()
        if x is not None and (k.partition("[")[0] in spec.updates or not np.array_equal(after[k], x))
    }

    dy = as_tuple(spec.draw_dy(outputs)) if spec.grads else ()

    def lay_out(x):
        return layout(x) if x.size and x.ndim else x  # a number has one layout

    laid_out = {k: x if x is None or k in updated else lay_out(x) for k, x in arrays.items()}
    laid_out_dy = tuple(map(lay_out, dy))
    contiguous = {k: None if x is None else np.array(x, order="C", subok=False) for k, x in laid_out.items()}
    contiguous_dy = tuple(np.array(x, order="C", subok=False) for x in laid_out_dy)
    saved = copy(contiguous)

    def gradient(dy):
        return dy if spec.outputs > 1 else dy[0] if dy else None

    want = forward_backward(spec, restored(contiguous, like), case.options, gradient(contiguous_dy))
    got = forward_backward(spec, restored(laid_out, like), case.options, gradient(laid_out_dy))
    assert_same_bits(got, want, layout.__name__)
    for y in got.values():
        assert y is None or type(y) is np.ndarray
    for name, x in laid_out.items():
        if x is not None and name not in updated:
            np.testing.assert_array_equal(x, saved[name], err_msg=f"{name} was changed")
