"""Images as matrices of windows: rows (c, i, j), channel and place in the window, and columns (y, x, n), place of the
window and sample. Windows that would end behind the padding are left out."""

from math import prod

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from fastnn import ops
from fastnn.compat.cs231n._calls import contiguous, promoted
from fastnn.descriptors import Conv2dDesc, conv2d_desc, is_int
from fastnn.ops._arrays import array, array_of_shape, empty

__all__ = [
    "col2im_6d_cython",
    "col2im_cython",
    "col2im_indices",
    "get_im2col_indices",
    "im2col_cython",
    "im2col_indices",
]


def windows_of(op, x_shape, field_height, field_width, padding, stride) -> Conv2dDesc:
    """Windows on images (N, C, H, W) as the convolution that would read them."""
    for name, value in (("padding", padding), ("stride", stride)):
        if not is_int(value):
            raise TypeError(f"{op}: {name} must be an integer, got {value!r}")
    filters = (1, x_shape[1], field_height, field_width)
    return conv2d_desc(tuple(x_shape), filters, stride, padding, 1, 1, op)


def zeros(shape, like):
    """In memory that fastnn keeps for its results, as `contiguous`."""
    image = empty(shape, like)
    image.fill(0)
    return image


def windows_on(image, field_height, field_width, stride):
    """A view (C, OH, OW, N, field_height, field_width) of the windows on padded images (C, H, W, N)."""
    view = sliding_window_view(image, (field_height, field_width), (1, 2), writeable=True)
    return view[:, ::stride, ::stride]


def im2col_cython(x, field_height, field_width, padding, stride):
    """x (N, C, H, W) as columns (C field_height field_width, OH OW N), zero where a window lies in the padding;
    OH = (H + 2 padding - field_height) // stride + 1."""
    op = "im2col"
    (x,) = promoted(op, x=x)
    x = array(x, op, "x", 4, "(N, C, H, W)")
    desc = windows_of(op, x.shape, field_height, field_width, padding, stride)
    # Samples go last before windows are copied: what is transposed is the image, not the windows that share its pixels.
    n, c, h, w = x.shape
    image = zeros((c, h + 2 * padding, w + 2 * padding, n), x)
    image[:, padding : padding + h, padding : padding + w] = x.transpose(1, 2, 3, 0)
    windows = windows_on(image, field_height, field_width, stride)
    return contiguous(windows.transpose(0, 4, 5, 1, 2, 3)).reshape(desc.depth, desc.oh * desc.ow * n)


def col2im_6d_cython(cols, N, C, H, W, HH, WW, pad, stride):
    """The adjoint of im2col for cols (C, HH, WW, N, OH, OW): every element added to the pixel of the images
    (N, C, H, W) that it came from."""
    op = "col2im"
    (cols,) = promoted(op, cols=cols)
    desc = windows_of(op, (N, C, H, W), HH, WW, pad, stride)
    cols = array_of_shape(cols, op, "cols", (C, HH, WW, N, desc.oh, desc.ow))
    each = contiguous(cols.transpose(3, 0, 1, 2, 4, 5)).reshape(N, desc.depth, desc.oh * desc.ow)
    return ops.col2im(each, (N, C, H, W), (HH, WW), stride, pad)


def col2im_cython(cols, N, C, H, W, field_height, field_width, padding, stride):
    """The adjoint of im2col_cython: every element of cols (C field_height field_width, OH OW N) added to the pixel of
    the images (N, C, H, W) that it came from."""
    op = "col2im"
    (cols,) = promoted(op, cols=cols)
    desc = windows_of(op, (N, C, H, W), field_height, field_width, padding, stride)
    cols = array_of_shape(cols, op, "cols", (desc.depth, desc.oh * desc.ow * N))
    cols = cols.reshape(C, field_height, field_width, desc.oh, desc.ow, N)
    # as in im2col_cython, it is the image that is transposed
    image = zeros((C, H + 2 * padding, W + 2 * padding, N), cols)
    windows = windows_on(image, field_height, field_width, stride)
    for i, j in np.ndindex(field_height, field_width):
        windows[..., i, j] += cols[:, i, j]
    return contiguous(image[:, padding : padding + H, padding : padding + W].transpose(3, 0, 1, 2))


def im2col_indices(x, field_height, field_width, padding=1, stride=1):
    """im2col_cython, with defaults."""
    return im2col_cython(x, field_height, field_width, padding, stride)


def col2im_indices(cols, x_shape, field_height=3, field_width=3, padding=1, stride=1):
    """col2im_cython for images of shape x_shape (N, C, H, W), with defaults."""
    return col2im_cython(cols, *x_shape, field_height, field_width, padding, stride)


def get_im2col_indices(x_shape, field_height, field_width, padding=1, stride=1):
    """(k, i, j): where in padded images (N, C, H, W) the element in row (c, i, j) and column (y, x) of a sample comes
    from: its channel (rows, 1), and its row and column of pixels (rows, OH OW)."""
    desc = windows_of("im2col", x_shape, field_height, field_width, padding, stride)
    shape = desc.c, desc.r, desc.s, desc.oh, desc.ow
    c, i, j, y, x = np.indices(shape, sparse=True)
    rows = prod(shape[:3])
    i, j = (np.broadcast_to(index, shape).reshape(rows, -1) for index in (i + stride * y, j + stride * x))
    return np.broadcast_to(c[..., 0, 0], shape[:3]).reshape(rows, 1), i, j
