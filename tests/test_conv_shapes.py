"""Sizes at which convolution's kernels cut their work, one below and one above; and images that are hardly there."""

import numpy as np
import pytest
from conv_support import algorithms, assert_right, convolution

from fastnn import ops, reference
from fastnn.ops.conv import CONV2D_ALGORITHMS
from fastnn.specs.conv import ALGOS

# ---- register tiles, panels, blocks of the sum ----

# Register tiles are 6 or 14 filters high, panels 4 to 32 pixels wide; other kernels will have other sizes.
FILTERS = [*range(1, 34)]
PIXELS = [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47, 48, 49, 63, 64, 65]
BLOCK = [255, 256, 257]


def conv2d(x, w, **options):
    return "conv2d", x, w, options


def test_the_table_of_algorithms_is_the_specs():
    assert tuple(a.name for a in CONV2D_ALGORITHMS) == ALGOS


def test_filters_and_pixels(dtype, isa):
    """Of a matrix product, and of the one with filters and channels exchanged."""
    for i, filters in enumerate(FILTERS):
        for pixels in PIXELS[i % 3 :: 3]:
            assert_right(dtype, conv2d((1, 3, 1, pixels), (filters, 3, 1, 1)))
        assert_right(dtype, conv2d((1, filters, 1, PIXELS[i % len(PIXELS)]), (2, filters, 1, 1)))


def test_filters_and_tiles(dtype, isa):
    """Of 3 x 3 kernels, padded: panels of Winograd tiles."""
    for i, filters in enumerate(FILTERS):
        assert_right(dtype, conv2d((2, 2, 5, 7), (filters, 2, 3, 3), padding=1))
        assert_right(dtype, conv2d((2, 2, 5, 7), (filters, 2, 5, 5), padding=2))
        assert_right(dtype, conv2d((1, filters, 1 + i % 9, 3 + i % 7), (3, filters, 3, 3), padding=1))


def test_widths_and_heights(dtype, isa):
    """2 and 4 pixels make a tile, and up to 32 tiles a panel."""
    for width in (*range(1, 20), 31, 32, 33, 63, 64, 65, 66, 127, 128, 129):
        for height in (1 + width % 6, 4 + width % 5):
            assert_right(dtype, conv2d((1, 2, height, width), (3, 2, 3, 3), padding=1))
            assert_right(dtype, conv2d((1, 2, height, width), (3, 2, 5, 5), padding=2))
            assert_right(dtype, conv2d((1, 2, height, width), (2, 1, 3, 3), padding=1, groups=2))


def test_widths_and_strides(dtype, isa):
    """Rows of multiply-adds, ordinary and depthwise, in vectors and what remains."""
    for width in (5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 34, 63, 64, 65):
        for stride in (1, 2, 3):
            options = {"stride": (1, stride), "padding": (1, 2)}
            assert_right(dtype, conv2d((2, 3, 4, width), (3, 1, 2, 5), groups=3, **options))
            assert_right(dtype, conv2d((2, 1, 4, width), (4, 1, 2, 5), **options))


@pytest.mark.parametrize("s", [*range(1, 10), 13, 15, 16, 17])
def test_depthwise_kernels(s, dtype, isa):
    """Up to 16 columns and 64 taps stay in registers; others are taken row by row."""
    for r in (*range(1, 6), 7, 8, 9):
        for stride, dilation in ((1, 1), (2, 1)) if (r + s) % 2 else (((3, 2), 1), (1, (1, 2))):
            padding = (r // 2, 0, s // 2, 1)
            options = {"stride": stride, "dilation": dilation, "groups": 2, "padding": padding}
            assert_right(dtype, conv2d((1, 2, r + 1, (2 * s + r % 5, 17 + s)[r % 2]), (2, 1, r, s), **options))


@pytest.mark.parametrize("x", [(2, 3, 91, 90), (2, 3, 64, 128), (1, 2, 3, 2731), (1, 2, 2049, 4), (3, 70, 11, 11)])
@pytest.mark.parametrize("stride", [1, 2])
def test_depthwise_tasks(x, stride, dtype, isa):
    """8192 pixels at a time: parts of a plane, or several planes."""
    assert_right(dtype, conv2d(x, (x[1], 1, 3, 3), groups=x[1], padding=1, stride=stride))


@pytest.mark.parametrize("channels", [*BLOCK, 511, 512, 513])
def test_terms_of_the_sum(channels, dtype, isa):
    """Sums of channels and taps are cut into blocks of 256."""
    assert_right(
        dtype,
        conv2d((1, channels, 3, 11), (7, channels, 1, 1)),
        conv2d((1, 2, 3, 11), (channels, 2, 1, 1)),  # dx sums over filters
    )


@pytest.mark.parametrize("channels", BLOCK)
def test_channels_of_tiles(channels, dtype, isa):
    """Winograd's sums are over channels alone."""
    assert_right(
        dtype,
        conv2d((1, channels, 4, 5), (3, channels, 3, 3), padding=1),
        conv2d((1, 3, 4, 5), (channels, 3, 3, 3), padding=1),
        conv2d((1, channels, 4, 5), (3, channels, 5, 5), padding=2),
        conv2d((1, 3, 4, 5), (channels, 3, 5, 5), padding=2),
    )


@pytest.mark.parametrize(("channels", "taps"), [(63, 4), (64, 4), (65, 4), (28, 9), (29, 9), (57, 9), (32, 8), (85, 3)])
def test_blocks_that_end_amid_taps(channels, taps, dtype, isa):
    r = {3: 1, 4: 2, 8: 2, 9: 3}[taps]
    assert_right(dtype, conv2d((1, channels, 4, 6), (3, channels, r, taps // r), stride=(1, 2), padding=1))


@pytest.mark.parametrize(("filters", "width"), [(2049, 17), (8200, 520), (20000, 220)])
def test_filters_of_the_weight_gradient(filters, width, dtype):
    """The weight gradient takes a row in pieces where dy of so many filters is large."""
    assert_right(dtype, conv2d((1, 1, 1, width), (filters, 1, 1, 2), padding=(0, 1)))


@pytest.mark.parametrize("channels", [31, 32, 33, 95, 96, 97, 191, 192, 193])
def test_rows_of_the_weight_gradient(channels, dtype, isa):
    assert_right(dtype, conv2d((2, channels, 3, 3), (2, channels, 1, 1)))
    assert_right(dtype, conv2d((1, channels, 3, 4), (2, channels, 3, 3), padding=1))


@pytest.mark.parametrize("pixels", [1023, 1024, 1025, 2047, 2048, 2049])
def test_long_rows(pixels, dtype, isa):
    """Rows of results are cut into lines of at most 1024 pixels, and so is the sum of the weight gradient."""
    assert_right(
        dtype,
        conv2d((1, 2, 1, pixels), (2, 2, 1, 1)),
        conv2d((1, 2, 2, pixels), (2, 2, 2, 3), padding=(0, 1)),
        conv2d((1, 2, 3, pixels - 2), (2, 2, 3, 3), padding=(0, 0, 1, 3)),
        conv2d((1, 2, 2, pixels), (2, 1, 2, 3), groups=2, padding=(0, 1)),
        ("conv1d", (1, 2, pixels), (2, 2, 3), {"padding": 1}),
    )


@pytest.mark.parametrize(
    ("x", "w", "options"),
    [
        ((1, 129, 300, 64), (2, 129, 2, 1), {"dilation": (280, 1), "padding": (0, 1)}),
        ((1, 50, 300, 160), (2, 50, 2, 1), {"dilation": (280, 1), "padding": (3, 4, 1, 0)}),
        ((2, 129, 150, 64), (1, 129, 2, 1), {"dilation": (125, 1), "padding": (4, 1), "stride": (3, 1)}),
        ((1, 2, 300, 64), (129, 2, 2, 1), {"dilation": (280, 1), "padding": (0, 1)}),
        ((1, 10, 240, 1030), (1, 10, 2, 1), {"dilation": (230, 1), "padding": (0, 1)}),
        ((1, 40, 200, 190), (3, 40, 1, 1), {"stride": (11, 12)}),
        ((2, 30, 60, 90), (1, 30, 1, 1), {"padding": 1}),
    ],
)
def test_sources_larger_than_a_slab(x, w, options, dtype):
    """What a task needs of the source does not fit the slab: fewer lines, or without the rows that dilation skips."""
    assert_right(dtype, conv2d(x, w, **options))


@pytest.mark.parametrize("size", [5, 6, 7, 8, 9, 13, 14, 15, 16, 17, 31, 32, 33])
def test_transposed(size, dtype, isa):
    """Channels and filters of every residue of the stride, and of the product that dx is."""
    for stride, kernel, output_padding in ((1, 3, 0), (2, 4, 0), (2, 3, 1), ((3, 1), 2, (2, 0))):
        options = {"stride": stride, "output_padding": output_padding, "padding": 1}
        assert_right(
            dtype,
            ("conv_transpose2d", (1, 2, 3, 5), (2, size, kernel, kernel), options),
            ("conv_transpose2d", (1, size, 3, 4), (size, 2, kernel, kernel), options),
            ("conv_transpose2d", (1, 2, 2, size), (2, 1, kernel, kernel), {**options, "groups": 2}),
        )


# ---- images that are hardly there ----

LITTLE = [  # x, w, options
    *(((2, 3, h, w), (4, 3, 3, 3), {"padding": p}) for h, w in [(1, 1), (2, 1), (1, 2), (2, 2), (3, 5), (5, 3), (4, 4),
                                                                (6, 5), (1, 9), (9, 1)] for p in (1, 2, 5)),
    *(((2, 3, h, w), (4, 3, 5, 5), {"padding": p}) for h, w, p in [
        (1, 1, 2), (2, 1, 3), (3, 5, 2), (6, 7, 2), (7, 5, 0),
    ]),
    *(((1, 2, h, w), (3, 2, 3, 3), {}) for h, w in [(3, 3), (4, 3), (3, 4), (4, 4), (5, 5), (7, 6)]),
    *(((2, 2, h, w), (3, 2, r, s), {"padding": p}) for h, w, r, s, p in [
        (2, 3, 5, 5, 2), (1, 1, 7, 7, 3), (1, 1, 7, 7, 6), (2, 1, 11, 11, 5), (3, 2, 4, 6, (1, 2, 2, 3)),
        (1, 4, 8, 1, 4),
    ]),
    *(((2, 2, h, w), (3, 2, r, s), {"padding": p}) for h, w, r, s, p in [
        (1, 40, 1, 5, 0), (1, 40, 5, 1, (2, 0)), (40, 1, 5, 1, 0), (40, 1, 1, 5, (0, 2)), (1, 40, 1, 40, 0),
        (40, 1, 40, 1, 0), (7, 6, 1, 6, 0), (7, 6, 7, 1, 0), (7, 6, 7, 6, 0), (1, 1, 1, 1, 0),
    ]),
    # padding larger than the kernel: windows without a pixel of the image
    *(((1, 2, 3, 4), (3, 2, r, s), {"padding": p, "stride": t}) for r, s, p, t in [
        (3, 3, 7, 1), (3, 3, (0, 9, 4, 0), 1), (1, 1, 3, 1), (1, 1, (0, 0, 0, 5), 1), (2, 3, 6, 3),
        (3, 3, (8, 0, 0, 8), 1), (3, 3, (5, 6, 7, 8), (2, 3)),
    ]),
    # huge dilation: few taps meet the image, or only the middle one
    *(((2, 2, 5, 6), (3, 2, r, s), {"padding": p, "dilation": d, "stride": t}) for r, s, p, d, t in [
        (3, 3, 50, 50, 1), (3, 3, "same", 50, 1), (3, 3, "same", (1, 40), 1), (2, 2, 4, (8, 9), 1),
        (3, 3, 5, (5, 2), 2), (2, 5, (4, 1, 60, 0), (7, 15), 1),
    ]),
    # strides beyond the kernel and beyond the image
    *(((2, 2, 9, 8), (3, 2, r, s), {"padding": p, "stride": t}) for r, s, p, t in [
        (1, 1, 0, 2), (1, 1, 0, (4, 3)), (2, 2, 0, 3), (2, 1, 1, (5, 4)), (3, 3, 1, 20), (3, 3, 1, (1, 9)),
        (2, 2, 0, 7),
    ]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("x", "w", "options"), [pytest.param(*row, id=str(convolution("conv2d", *row[:2], **row[2])[1])) for row in LITTLE]
)
def test_little_images(x, w, options, dtype, isa):
    """With every algorithm, and one channel a group as well; a batch of none."""
    depthwise = (x[1], 1, *w[2:])
    assert_right(dtype, conv2d(x, w, **options), conv2d(x, depthwise, **options, groups=x[1]))
    for filters, groups in ((w, 1), (depthwise, x[1])):
        spec, case = convolution("conv2d", (0, *x[1:]), filters, **options, groups=groups)
        arrays = spec.inputs(case, dtype)
        want, _ = reference.conv2d_forward(**arrays, **case.options)
        for algo in algorithms(spec, case, dtype):
            y, ctx = ops.conv2d_forward(**arrays, **case.options, algo=algo)
            dx, dw, db = ops.conv2d_backward(y, ctx)
            assert (y.shape, y.dtype, dx.shape) == (want.shape, dtype, case.shapes["x"])
            assert dw.shape == filters and not dw.any() and db.shape == filters[:1] and not db.any()


@pytest.mark.parametrize(("kernel", "stride"), [(1, 2), (1, 3), (2, 3), (2, 5), ((1, 3), (4, 3)), ((3, 1), (2, 3))])
@pytest.mark.parametrize("groups", [1, 3])
def test_pixels_that_no_kernel_meets_have_no_gradient(kernel, stride, groups, dtype, isa):
    """Exactly zero, with a sign of plus, whatever memory held."""
    r, s = (kernel, kernel) if isinstance(kernel, int) else kernel
    sy, sx = (stride, stride) if isinstance(stride, int) else stride
    spec, case = convolution("conv2d", (2, 3, 11, 13), (3, 3 // groups, r, s), stride=stride, groups=groups)
    touched = np.zeros((11, 13), bool)
    for u in range((11 - r) // sy + 1):
        for v in range((13 - s) // sx + 1):
            touched[u * sy : u * sy + r, v * sx : v * sx + s] = True
    for algo in algorithms(spec, case, dtype):
        y, ctx = ops.conv2d_forward(**spec.inputs(case, dtype), **case.options, algo=algo)
        for value in (1.0, -1.0, np.nan, np.inf):
            dx, _, _ = ops.conv2d_backward(np.full_like(y, value), ctx, needs=(True, False, False))
            untouched = dx[:, :, ~touched]
            assert untouched.size and not untouched.any() and not np.signbit(untouched).any(), (algo, value)
    assert_right(dtype, conv2d((2, 3, 11, 13), (3, 3 // groups, r, s), stride=stride, groups=groups))


@pytest.mark.parametrize("shape", [(0, 3, 5, 6), (1, 3, 1, 1), (2, 3, 1, 7), (2, 3, 2, 2), (1, 3, 3, 5)])
def test_little_transposed(shape, dtype, isa):
    for w, options in (
        ((3, 2, 3, 3), {"padding": 1} if min(shape[2:]) > 1 else {}),
        ((3, 2, 3, 3), {"stride": 2, "output_padding": 1}),
        ((3, 2, 1, 1), {"stride": (3, 4), "output_padding": (2, 3)}),
        ((3, 2, 2, 5), {"dilation": (1, 9), "output_padding": (0, 8)}),
        ((3, 1, 4, 4), {"groups": 3, "stride": 2, "padding": (0, 1, 1, 0)}),
        ((3, 1, 3, 3), {"groups": 3}),
    ):
        assert_right(dtype, ("conv_transpose2d", shape, w, options))
