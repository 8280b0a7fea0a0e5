"""Convolution gives the same bits at any number of threads, on problems that are cut in every way that there is."""

import pytest
from conv_support import algorithms, convolution
from support import assert_same_bits, run, with_algo

from fastnn import ops
from fastnn.kernels import runtime
from fastnn.verify import forced

THREADS = (2, 3, 4, 7)

PROBLEMS = {
    # many lines: cut along pixels, whose number 7 threads do not divide
    "pixels": ("conv2d", (2, 20, 37, 53), (26, 20, 3, 3), {"padding": 1}),
    "5 x 5": ("conv2d", (2, 20, 30, 29), (26, 20, 5, 5), {"padding": 2}),
    # few lines: cut along filters too, and blocks of the sum
    "filters": ("conv2d", (1, 70, 3, 5), (120, 70, 3, 3), {"padding": 1}),
    "one pixel": ("conv2d", (1, 300, 1, 1), (131, 300, 1, 1), {}),
    "pointwise": ("conv2d", (3, 33, 19, 23), (47, 33, 1, 1), {}),
    "stem": ("conv2d", (2, 3, 71, 65), (17, 3, 7, 7), {"stride": 2, "padding": 3}),
    "one channel": ("conv2d", (5, 1, 28, 30), (9, 1, 3, 3), {"padding": 1}),
    "strided": ("conv2d", (2, 24, 29, 31), (30, 24, 3, 3), {"stride": (2, 3), "padding": 1, "dilation": (1, 2)}),
    "large slab": ("conv2d", (1, 129, 293, 64), (2, 129, 2, 1), {"dilation": (280, 1), "padding": (0, 1)}),
    "many filters": ("conv2d", (1, 3, 5, 17), (2100, 3, 1, 1), {}),
    "groups": ("conv2d", (2, 36, 21, 22), (45, 12, 3, 3), {"padding": 1, "groups": 3}),
    "depthwise": ("conv2d", (2, 19, 43, 41), (19, 1, 3, 3), {"padding": 1, "groups": 19}),
    "depthwise large": ("conv2d", (1, 3, 131, 137), (3, 1, 3, 3), {"padding": 1, "groups": 3}),
    "depthwise strided": ("conv2d", (2, 5, 61, 90), (5, 1, 5, 5), {"padding": 2, "stride": 2, "groups": 5}),
    "many tiles": ("conv2d", (3, 5, 131, 133), (8, 5, 3, 3), {"padding": 1}),
    "long rows": ("conv2d", (1, 3, 4, 2500), (6, 3, 2, 3), {"padding": 1}),
    "many images": ("conv2d", (50, 6, 5, 6), (7, 6, 3, 3), {"padding": 1}),
    "few tiles": ("conv2d", (1, 150, 9, 10), (70, 150, 3, 3), {"padding": 1}),
    "up 2x": ("conv_transpose2d", (2, 25, 17, 19), (25, 21, 4, 4), {"stride": 2, "padding": 1}),
    "up 3x": ("conv_transpose2d", (1, 6, 23, 21), (6, 14, 2, 2), {"stride": 3, "output_padding": 1}),
    "transposed": ("conv_transpose2d", (2, 26, 30, 31), (26, 28, 3, 3), {"padding": 1}),
    "up depthwise": ("conv_transpose2d", (2, 9, 30, 31), (9, 1, 3, 3), {"stride": 2, "padding": 1, "groups": 9}),
    "sequence": ("conv1d", (3, 21, 700), (34, 21, 5), {"padding": 2}),
    "sequence, strided": ("conv1d", (2, 6, 3001), (8, 3, 7), {"stride": 3, "dilation": 2, "groups": 2}),
    "sequence, depthwise": ("conv1d", (2, 9, 1500), (9, 1, 3), {"padding": 1, "groups": 9}),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_same_bits_at_any_thread_count(name, dtype, isa):
    """Forward and all gradients, with every algorithm; on memory that holds NaN, so that no thread leaves a gap."""
    op, x, w, options = PROBLEMS[name]
    spec, case = convolution(op, x, w, **options)
    arrays = spec.inputs(case, dtype, seed=1)
    for algo in [*algorithms(spec, case, dtype), "auto"]:
        chosen = with_algo(case, algo).options
        with forced(threads=1):
            want = run(spec, ops, arrays, chosen)
        for threads in THREADS:
            with forced(threads=threads), runtime.poisoned_memory():
                assert_same_bits(run(spec, ops, arrays, chosen), want, f"{algo}, {threads} threads")


def test_same_bits_with_relu_and_prepared_filters(isa):
    """The fused epilogue, and filters that were packed by another number of threads."""
    spec, case = convolution("conv2d", (2, 20, 37, 53), (26, 20, 3, 3), padding=1)
    arrays = spec.inputs(case, "float32", seed=1)
    for algo in algorithms(spec, case, "float32"):
        options = {**case.options, "algo": algo, "activation": "relu"}
        with forced(threads=1):
            want = run(spec, ops, arrays, options)
            del want["w after"]
        for threads in THREADS:
            with forced(threads=threads):
                got = run(spec, ops, {**arrays, "w": ops.prepare_conv2d(arrays["w"])}, options)
                del got["w after"]
                assert_same_bits(got, want, f"{algo}, {threads} threads")
