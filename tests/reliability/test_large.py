"""Sizes beyond 2^31 elements and 2^63 bytes: the arithmetic, calls that read little of a large array, and, in the long
form, calls that read or write all of one (large_calls.py)."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
from large_calls import CALLS
from large_support import zeros
from support import each_spec

from fastnn import descriptors as d
from fastnn import ops
from fastnn.verify import forced

K = 2**20

# ---- the source ----

SOURCE = Path(__file__).parents[2] / "csrc" / "ukernels" / "all.c"


@pytest.mark.skipif(not shutil.which("gcc") or not SOURCE.exists(), reason="no gcc, or no source")
def test_the_kernels_narrow_no_integer():
    """No conversion that could lose bits of an integer, or its sign, without being written down. Counts become real
    numbers in a few places."""
    command = ["gcc", "-std=gnu11", "-fsyntax-only", "-Wconversion", "-Wsign-conversion", "-Wno-float-conversion"]
    result = subprocess.run(
        [*command, str(SOURCE)], env={**os.environ, "LC_ALL": "C"}, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr
    warnings = [line for line in result.stderr.splitlines() if "warning:" in line]
    assert [line for line in warnings if not re.search(r"to '(float|double)'", line)] == []


# ---- descriptors ----

# name: (descriptor, its results' shape, operations, bytes of float32); nothing is allocated
SIZES = MappingProxyType({
    "conv2d": (d.conv2d_desc((K, 64, 4096, 4096), (128, 64, 3, 3), padding=1), (K, 128, 4096, 4096),
               2 * 128 * 64 * 9 * 2**44, 4 * (192 * 2**44 + 128 * 64 * 9)),
    "conv1d": (d.conv1d_desc((3, 2, 2**33), (5, 2, 7), stride=3), (3, 5, 1, (2**33 - 7) // 3 + 1),
               2 * 3 * 5 * 14 * ((2**33 - 7) // 3 + 1), 4 * (6 * 2**33 + 70 + 15 * ((2**33 - 7) // 3 + 1))),
    "conv_transpose2d": (d.conv_transpose2d_desc((1, 2, K, K), (2, 3, 4, 4), stride=4), (1, 2, K, K),
                         2 * 2 * K * K * 3 * 16, 4 * (3 * 16 * K * K + 96 + 2 * K * K)),
    "max_pool2d": (d.pool2d_desc("max_pool2d", (K, K, 32768, 65535), 2), (K, K, 16384, 32767),
                   4 * K * K * 16384 * 32767, 4 * K * K * (32768 * 65535 + 16384 * 32767)),
    "subsample2d": (d.subsample2d_desc((K, 2, 2**33, 3), (2**32, 1)), (K, 2, 2, 3), None, 4 * K * 2 * 2 * 6),
    "max_unpool2d": (d.max_unpool2d_desc("max_unpool2d", (2, 3, K, K), 4), (2, 3, 4 * K, 4 * K), None,
                     6 * K * K * (4 + 8 + 16 * 4)),
    "upsample": (d.upsample_desc("upsample_nearest2d", (2, 3, K, K), scale_factor=16.0), (2, 3, 16 * K, 16 * K), None,
                 4 * 6 * (K * K + 256 * K * K)),
    "pad": (d.pad_desc((2**33, 2**20), (1, 2)), (2**33, 2**20 + 3), None, 4 * 2**33 * (2 * 2**20 + 3)),
    "attention": (d.attention_desc("scaled_dot_product_attention", (K, 2**33, 8), (K, 2**33, 8), (K, 2**33, 4)),
                  (K, 2**33, 4), 2.0 * K * 2**66 * 12, 4.0 * K * 2**34 * 12),
})  # fmt: skip


@pytest.mark.parametrize("name", SIZES)
def test_descriptors_count_beyond_64_bits(name):
    desc, shape, flops, nbytes = SIZES[name]
    assert desc.y_shape == shape
    if flops is not None:
        assert (desc.flops() if callable(desc.flops) else desc.flops) == flops
    assert desc.bytes(4) == nbytes


def test_descriptors_of_rows_and_steps():
    assert d.recurrent_desc("lstm", (2**33, 2, 3), (4 * K, 3), (4 * K, K)).flops == 2.0 * 2**34 * 4 * K * (3 + K)
    assert d.layer_norm_desc((2**33, K), "layer_norm", K).layout == (2**33, 1, K, 1)
    assert d.group_norm_desc((K, 64, 2**33), 8).layout == (8 * K, 8, 8, 2**33)
    assert d.batch_norm_desc((2**33, 3, K)).size == 3 * 2**53
    assert d.response_norm_desc((2, 5, 2**33, 7), 3).elements == 70 * 2**33


# Results of 2^60 elements and more, whose bytes would not fit 63 bits, and planes whose indices would not fit 31.
TOO_LARGE = (
    (lambda: d.conv2d_desc((1, 1, K, K), (2**40, 1, 1, 1), padding=2**19), "conv2d: .*fewer than 2\\*\\*60"),
    (lambda: d.conv2d_desc((1, 1, 1, 1), (1, 1, 1, 1), padding=2**40), "conv2d: the padded input.*2\\*\\*60"),
    (lambda: d.conv_transpose2d_desc((1, 1, K, K), (1, 1, 1, 1), stride=2**20), "conv_transpose2d: .*2\\*\\*60"),
    (lambda: d.pool2d_desc("max_pool2d", (1, 1, 65536, 32768), 2), "max_pool2d: x has 65536 x 32768 pixels"),
    (lambda: d.pool2d_desc("max_pool2d", (1, 1, 9, 9), 2, stride=2**31), "max_pool2d: .*less than 2\\*\\*31"),
    (lambda: d.adaptive_pool2d_desc("adaptive_avg_pool2d", (1, 1, 9, 9), 2**30), "adaptive_avg_pool2d: .*2\\*\\*60"),
    (lambda: d.max_unpool2d_desc("max_unpool2d", (1, 1, K, K), 1, 2**20), "max_unpool2d: .*2\\*\\*60"),
    (lambda: d.upsample_desc("upsample_nearest2d", (1, 1, 3, 3), size=2**31), "longer than 2\\*\\*31 - 1|2\\*\\*60"),
    (lambda: d.upsample_zeros2d_desc((1, 1, K, K), 2**11), "upsample_zeros2d: .*(longer than|2\\*\\*60)"),
    (lambda: d.pad_desc((1,), (2**60, 0)), "pad: the result would have .*2\\*\\*60"),
)


@pytest.mark.parametrize(("make", "message"), TOO_LARGE, ids=[message.split(":")[0] for _, message in TOO_LARGE])
def test_too_large_is_an_error(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_windows_beside_a_wide_padding_are_not_gone_through():
    """Of 2^30 windows that start in the padding each was looked at, for minutes (found by reading)."""
    size = 2**31 - 2
    desc = d.pool2d_desc("max_pool2d", (1, 1, 1, size), (1, 2**31 - 2), 1, (0, 2**30 - 1))
    assert desc.y_shape == (1, 1, 1, 2**31 - 1)


def test_dilated_windows_without_a_pixel():
    """The check of dilated windows in the padding against the definition, for all small axes."""
    wrong = {True: 0, False: 0}
    for size in range(1, 7):
        for kernel in range(1, 7):
            for padding in range(kernel // 2 + 1):
                for dilation in range(1, 9):
                    for stride in range(1, 4):
                        span = dilation * (kernel - 1) + 1
                        if span > size + 2 * padding:
                            continue
                        starts = range(-padding, size + padding - span + 1, stride)
                        pixels = [range(s, s + span, dilation) for s in starts]
                        empty = not all(any(0 <= i < size for i in window) for window in pixels)
                        case = (1, 1, 1, size), (1, kernel), (1, stride), (0, padding), (1, dilation)
                        if empty:
                            with pytest.raises(ValueError, match="no pixel of the image"):
                                d.pool2d_desc("max_pool2d", *case)
                        else:
                            d.pool2d_desc("max_pool2d", *case)
                        wrong[empty] += 1
    assert min(wrong.values()) > 0


# ---- arrays that are large by their strides ----


@each_spec(lambda spec: spec.batch(spec.cases[0]))
def test_an_absurd_batch_is_an_error(spec):
    """2^48 samples that are all the same memory: an error that names the size, and no time or memory spent. Operators
    read contiguous arrays, so that the first thing would be a copy of some hundred tebibytes."""
    case = spec.cases[0]
    arrays, axes = spec.inputs(case), spec.batch(case)

    def repeated(x, axis):
        shape = (*x.shape[:axis], 2**48, *x.shape[axis + 1 :])
        return np.broadcast_to(x[(slice(None),) * axis + (slice(0, 1),)], shape)

    for name, axis in axes.items():
        x = arrays[name]
        if x is not None:
            arrays[name] = [repeated(a, axis) for a in x] if isinstance(x, list) else repeated(x, axis)
    with pytest.raises((MemoryError, ValueError), match=r"28147497671065|allocate|shape|too (big|large)"):
        spec.forward(ops, arrays, case.options)


# ---- calls that read little of a large array ----

FAR = 2**31 + 5


def test_embedding_of_a_large_table():
    table = zeros((FAR, 2))
    table[[0, 2**30, 2**31, -1]] = [[1, 2], [3, 4], [5, 6], [7, 8]]
    index = np.array([FAR - 1, 2**31, 0, 2**30, 2**31 - 1])
    y, _ = ops.embedding_forward(index, table)
    np.testing.assert_array_equal(y, [[7, 8], [5, 6], [1, 2], [3, 4], [0, 0]])
    with pytest.raises(ValueError, match="embedding: x has the value 2147483653"):
        ops.embedding_forward(np.array([FAR]), table)


@pytest.mark.parametrize("shape", [(2, FAR), (1, FAR, 2)], ids=str)
def test_nll_loss_of_many_classes(shape):
    x, target = zeros(shape), np.array([FAR - 1, 2**31]).reshape(shape[:1] + shape[2:])
    for j, t in enumerate(target.ravel()):
        x[(j, t) if len(shape) == 2 else (0, t, j)] = j + 1
    losses, _ = ops.nll_loss_forward(x, target, reduction="none")
    np.testing.assert_array_equal(losses.ravel(), [-1, -2])


@pytest.mark.parametrize("mode", ["constant", "circular"])
def test_crop_at_the_end(mode):
    x = zeros((1, 1, 2**33))
    x[..., -3:] = 1, 2, 3
    if mode == "constant":
        y, _ = ops.pad_forward(x, (-(2**33) + 5, 0))
        np.testing.assert_array_equal(y, [[[0, 0, 1, 2, 3]]])
    else:
        y, _ = ops.pad_forward(x[..., -3:], (2, 0), mode="circular")
        np.testing.assert_array_equal(y, [[[2, 3, 1, 2, 3]]])


def test_convolutions_with_a_long_stride():
    """Rows and columns 2^15 apart, in images of 2^32 pixels, of which the last ones count."""
    x = zeros((2, 1, 2**16, 2**16))
    x[1, 0, 2**15, 2**15], x[1, 0, 2**15 + 1, 2**15 + 1], x[0, 0, 0, 0] = 3, 5, 7
    w = np.arange(1, 5, dtype=np.float32).reshape(1, 1, 2, 2)
    for algo in ("implicit", "depthwise"):
        y, _ = ops.conv2d_forward(x, w, stride=2**15, algo=algo)
        np.testing.assert_array_equal(y, [[[[7, 0], [0, 0]]], [[[0, 0], [0, 3 + 4 * 5]]]])


def test_pooling_with_a_long_stride():
    x = zeros((3, 1, 32768, 65535))
    x[2, 0, 16384, 30001] = 4
    (y, index), _ = ops.max_pool2d_forward(x, (1, 2), (16384, 30000), return_indices=True)
    np.testing.assert_array_equal(y[2, 0], [[0, 0, 0], [0, 4, 0]])
    np.testing.assert_array_equal(
        index[2, 0], 65535 * 16384 * np.array([[0], [1]]) + [[0, 30000, 60000], [0, 30001, 60000]]
    )
    y, _ = ops.subsample2d_forward(zeros((1, 1, 2**17, 2**16)), (2**16, 2**15))
    np.testing.assert_array_equal(y, zeros((1, 1, 2, 2)))


def test_shrinking_a_large_image():
    x = zeros((1, 1, 2**16, 2**16))
    x[0, 0, 2**15, 2**15] = 2
    y, _ = ops.upsample_nearest2d_forward(x, size=(2, 2))
    np.testing.assert_array_equal(y, [[[[0, 0], [0, 2]]]])


# ---- long sums and many rows ----


@pytest.mark.parametrize("columns", [3, 130])
def test_argmax_of_columns_counts_more_rows_than_one_run(isa, dtype, columns):
    """Places are counted in runs of 2^20 rows: in lanes of 32 bits they came out negative beyond 2^31, and hardmax
    wrote in front of its result (found by reading)."""
    rows = 2**20 + 3 if columns < 10 else 2**20 // 8
    x = zeros((rows, columns), dtype)
    want = np.linspace(0, rows - 1, columns).astype(int)[::-1]
    x[want, np.arange(columns)] = 1
    x[-1, 0] = np.nan
    np.testing.assert_array_equal(ops.argmax_forward(x, 0)[0], want)
    y, _ = ops.hardmax_forward(x, 0)
    assert y.sum() == columns
    np.testing.assert_array_equal(y[want, np.arange(columns)], 1)


@pytest.mark.parametrize("shape", [(1, 2**26 + 2**24), (2**24 + 2**20, 2)], ids=["row", "columns"])
def test_softmax_of_so_many_that_one_is_lost(shape):
    """A sum of 2^24 in single precision stays that when 1 is added: the results were too large beyond. Here at the
    level with the fewest sums side by side."""
    with forced("baseline"):
        axis = 1 if shape[0] == 1 else 0
        y, _ = ops.softmax_forward(zeros(shape), axis, keep=False)
    exact = 1 / shape[axis]
    # a part of 4096 terms is exact; so many parts, half an ulp each
    assert abs(y.flat[0] / exact - 1) <= 2**-24 * (4 + shape[axis] / 4096 / 4)
    assert y.flat[0] == y.flat[-1]


# ---- the long form ----


def available_gibibytes():
    """What the system can still give, or infinity where it does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return float("inf")
    return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable")) / 2**20


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", CALLS)
def test_large_call(name, python):
    """In a process of its own; a minute or less each."""
    needed = CALLS[name][0]
    if available_gibibytes() < needed + 2:
        pytest.skip(f"needs {needed} GiB and 2 to spare, {available_gibibytes():.1f} are available")
    tests = Path(__file__).parent
    result = python(str(tests / "large_calls.py"), name, timeout=500)
    assert result.returncode == 0, result.stderr[-3000:]
    print(result.stdout, end="")
