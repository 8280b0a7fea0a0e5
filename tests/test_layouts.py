"""Arrays in every layout of memory give the same bits as contiguous ones, and stay as they are."""

import numpy as np
import pytest
from support import assert_same_bits, copy, each_case

from fastnn import ops
from fastnn.registry import as_tuple, flat, restored


def stepped(x, tmp_path):
    """Every second element along each axis of a larger array."""
    big = np.zeros([2 * n for n in x.shape], x.dtype)
    view = big[tuple(slice(None, None, 2) for _ in x.shape)]
    view[...] = x
    return view


def reversed_axes(x, tmp_path):
    """Negative strides along each axis."""
    flip = tuple(slice(None, None, -1) for _ in x.shape)
    return x[flip].copy()[flip]


def fortran(x, tmp_path):
    return np.asfortranarray(x)


def cut_out(x, tmp_path):
    """The inside of a larger array."""
    big = np.zeros([n + 3 for n in x.shape], x.dtype)
    view = big[tuple(slice(1, n + 1) for n in x.shape)]
    view[...] = x
    return view


def misaligned(x, tmp_path):
    """Contiguous, but one byte off every element's alignment."""
    memory = np.zeros(x.nbytes + 1, np.uint8)
    view = memory[1:].view(x.dtype).reshape(x.shape)
    view[...] = x
    assert view.flags.c_contiguous and view.flags.aligned == (x.itemsize == 1)
    return view


def element_aligned(x, tmp_path):
    """Aligned to an element but to no vector."""
    memory = np.zeros(x.size + 65, x.dtype)
    start = 1 + (-memory.ctypes.data % 64) // x.itemsize
    view = memory[start : start + x.size].reshape(x.shape)
    view[...] = x
    return view


def read_only(x, tmp_path):
    x = x.copy()
    x.flags.writeable = False
    return x


def broadcast(x, tmp_path):
    """Read-only with strides of zero: the first element everywhere."""
    return np.broadcast_to(x.flat[0], x.shape)


def memory_mapped(x, tmp_path):
    path = tmp_path / f"{len(list(tmp_path.iterdir()))}.bin"
    path.write_bytes(x.tobytes())
    return np.memmap(path, x.dtype, "r", shape=x.shape)


class Subclass(np.ndarray):
    pass


def subclass(x, tmp_path):
    return x.copy().view(Subclass)


LAYOUTS = [
    stepped,
    reversed_axes,
    fortran,
    cut_out,
    misaligned,
    element_aligned,
    read_only,
    broadcast,
    memory_mapped,
    subclass,
]


def forward_backward(spec, arrays, options, dy):
    outputs, ctx = spec.forward(ops, arrays, options)
    results = {f"y{i}": y for i, y in enumerate(as_tuple(outputs))}
    return results | (flat(spec.backward(ops, dy, ctx)) if spec.grads else {})


@each_case()
@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda f: f.__name__)
def test_layout(spec, case, layout, tmp_path):
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
        return layout(x, tmp_path) if x.size and x.ndim else x  # a number has one layout

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
