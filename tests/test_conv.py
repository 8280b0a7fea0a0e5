"""What convolution is: its definition, and the identities that its backward pass and its neighbours rest on."""

import numpy as np
import pytest
from support import each_case

from fastnn import ops, reference

CASES = [  # x, w, stride, padding, dilation
    ((2, 3, 5, 7), (4, 3, 3, 2), 1, 0, 1),
    ((1, 2, 8, 9), (3, 2, 3, 5), (2, 3), (1, 2), 1),
    ((2, 1, 7, 6), (2, 1, 2, 3), 1, (0, 2, 3, 1), (3, 1)),
]
each_geometry = pytest.mark.parametrize(("x_shape", "w_shape", "stride", "padding", "dilation"), CASES)


def integers(shape, seed=0):
    """Small integers, whose sums are exact."""
    return np.random.default_rng(seed).integers(-4, 5, shape).astype(np.float64)


@each_case(lambda spec: spec.name == "conv2d")
def test_reference_is_the_definition(spec, case):
    """The reference's matrix product equals seven nested loops."""
    arrays = spec.inputs(case, np.float64, kind="integer")
    if arrays["x"].size * arrays["w"].size > 20_000:
        arrays = {"x": arrays["x"][:1, ..., :9], "w": arrays["w"], "b": arrays["b"]}
    y, _ = reference.conv2d_forward(**arrays, **case.options)
    np.testing.assert_array_equal(y, reference.conv2d_loops(**arrays, **case.options))


@each_geometry
def test_convolution_is_a_matrix_product_with_im2col(x_shape, w_shape, stride, padding, dilation, isa):
    x, w = integers(x_shape), integers(w_shape, 1)
    columns = ops.im2col(x, w_shape[2:], stride, padding, dilation)
    y, _ = ops.conv2d_forward(x, w, None, stride, padding, dilation)
    np.testing.assert_array_equal((w.reshape(len(w), -1) @ columns).reshape(y.shape), y)


@each_geometry
@pytest.mark.parametrize("module", [ops, reference], ids=["ops", "reference"])
def test_col2im_is_the_adjoint_of_im2col(module, x_shape, w_shape, stride, padding, dilation, dtype):
    """<im2col(x), cols> = <x, col2im(cols)>"""
    x = integers(x_shape).astype(dtype)
    columns = module.im2col(x, w_shape[2:], stride, padding, dilation)
    other = integers(columns.shape, 1).astype(dtype)
    image = module.col2im(other, x_shape, w_shape[2:], stride, padding, dilation)
    assert columns.dtype == image.dtype == dtype and image.shape == x_shape
    assert np.vdot(columns, other) == np.vdot(x, image)


@each_geometry
def test_im2col_and_col2im_equal_the_reference(x_shape, w_shape, stride, padding, dilation, dtype, isa):
    x = integers(x_shape).astype(dtype)
    geometry = w_shape[2:], stride, padding, dilation
    columns = ops.im2col(x, *geometry)
    np.testing.assert_array_equal(columns, reference.im2col(x, *geometry))
    np.testing.assert_array_equal(
        ops.col2im(columns, x_shape, *geometry), reference.col2im(columns, x_shape, *geometry)
    )


@pytest.mark.parametrize("padding", [0, (1, 0)])
@pytest.mark.parametrize("steps", [{"stride": 2**62}, {"stride": 2**70}, {"stride": (2, 2**33)}])
def test_a_stride_beyond_the_image_is_one_that_just_leaves_it(steps, padding, isa):
    """And takes no longer: the kernels' tables have an entry for every residue of the stride."""
    rng = np.random.default_rng(0)
    x, w = rng.integers(-4, 5, (2, 3, 6, 7)).astype(np.float32), rng.integers(-4, 5, (4, 3, 3, 2)).astype(np.float32)
    big = steps["stride"]
    small = (100, 100) if isinstance(big, int) else (2, 100)
    for algo in ("implicit", "im2col"):
        y, ctx = ops.conv2d_forward(x, w, None, big, padding, algo=algo)
        want, reference_ctx = reference.conv2d_forward(x, w, None, small, padding)
        np.testing.assert_array_equal(y, want)
        dy = np.ones_like(y)
        for got, expected in zip(
            ops.conv2d_backward(dy, ctx), reference.conv2d_backward(dy, reference_ctx), strict=True
        ):
            np.testing.assert_array_equal(got, expected)


def test_steps_along_an_axis_of_one_pixel_say_nothing():
    rng = np.random.default_rng(0)
    x = rng.integers(-4, 5, (2, 3, 1, 5)).astype(np.float32)
    for w_shape, few, many in [
        ((3, 4, 3, 2), {"stride": (1, 2)}, {"stride": (2**62, 2)}),
        ((3, 4, 1, 2), {"dilation": (1, 2)}, {"dilation": (2**70, 2)}),
    ]:
        w = rng.integers(-4, 5, w_shape).astype(np.float32)
        y, _ = ops.conv_transpose2d_forward(x, w, **many)
        np.testing.assert_array_equal(y, ops.conv_transpose2d_forward(x, w, **few)[0])


@pytest.mark.parametrize("stride", [1, 2, (3, 2)])
def test_input_gradient_is_a_correlation_with_the_rotated_kernel(stride, isa):
    """dx is dy, dilated with zeros by the stride, in full correlation with rot180(w), channels exchanged."""
    x, w = integers((2, 3, 9, 8)), integers((4, 3, 3, 2), 1)
    sy, sx = (stride, stride) if isinstance(stride, int) else stride
    y, ctx = ops.conv2d_forward(x, w, None, stride)
    dy = integers(y.shape, 2)
    dx, _, _ = ops.conv2d_backward(dy, ctx, needs=(True, False, False))
    dilated = np.zeros((*dy.shape[:2], x.shape[2] - 2, x.shape[3] - 1))
    dilated[:, :, : (dy.shape[2] - 1) * sy + 1 : sy, : (dy.shape[3] - 1) * sx + 1 : sx] = dy
    full, _ = ops.conv2d_forward(dilated, ops.rot180(w).swapaxes(0, 1), None, padding=(2, 1))
    np.testing.assert_array_equal(dx, full)


def test_weight_gradient_is_a_correlation_of_input_and_dy(isa):
    x, w = integers((2, 3, 9, 8)), integers((4, 3, 3, 2), 1)
    y, ctx = ops.conv2d_forward(x, w, None)
    dy = integers(y.shape, 2)
    _, dw, _ = ops.conv2d_backward(dy, ctx, needs=(False, True, False))
    found, _ = ops.conv2d_forward(x.swapaxes(0, 1), dy.swapaxes(0, 1))
    np.testing.assert_array_equal(dw, found.swapaxes(0, 1))


def test_linear_is_a_convolution_whose_kernel_covers_the_map(isa, dtype):
    x, w = integers((3, 4, 5, 6)).astype(dtype), integers((7, 4, 5, 6), 1).astype(dtype)
    b = integers(7, 2).astype(dtype)
    y, ctx = ops.conv2d_forward(x, w, b)
    flat, flat_ctx = ops.linear_forward(x.reshape(3, -1), w.reshape(7, -1), b)
    np.testing.assert_array_equal(y.reshape(3, 7), flat)
    for d, f in zip(ops.conv2d_backward(y, ctx), ops.linear_backward(flat, flat_ctx), strict=True):
        np.testing.assert_array_equal(d.reshape(f.shape), f)


@pytest.mark.parametrize("module", [ops, reference], ids=["ops", "reference"])
def test_rot180(module):
    w = integers((2, 3, 4, 5))
    rotated = module.rot180(w)
    assert rotated[1, 2, 0, 1] == w[1, 2, 3, 3]
    np.testing.assert_array_equal(module.rot180(rotated), w)


def test_functions_of_one_image_check_their_arguments():
    x = np.ones((1, 2, 4, 4), np.float32)
    with pytest.raises(TypeError, match=r"^rot180: w .*list"):
        ops.rot180([[1.0]])
    with pytest.raises(ValueError, match=r"^rot180: w .*1 dimensions"):
        ops.rot180(np.ones(3))
    with pytest.raises(TypeError, match=r"^im2col: x .*int64"):
        ops.im2col(x.astype(np.int64), 2)
    with pytest.raises(ValueError, match=r"^im2col: kernel_size .*0"):
        ops.im2col(x, 0)
    with pytest.raises(ValueError, match=r"^im2col: .*larger than the padded image"):
        ops.im2col(x, 5)
    with pytest.raises(ValueError, match=r"^col2im: cols has shape .*expected"):
        ops.col2im(np.ones((1, 8, 8), np.float32), x.shape, 2)
    with pytest.raises(ValueError, match=r"^col2im: x_shape"):
        ops.col2im(np.ones((1, 8, 9), np.float32), (4, 4), 2)
