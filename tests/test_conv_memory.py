"""Convolution's memory beyond arguments and results: at most 32 MiB a thread, and the filters in another form."""

import tracemalloc

import numpy as np
import pytest
from conv_support import algorithms, convolution
from support import with_algo

from fastnn import ops
from fastnn.kernels import runtime
from fastnn.verify import forced

MiB = 1 << 20
PER_THREAD = 32 * MiB

# Transformed filters have (m + r - 1)^2 elements in place of r^2; others are packed as they are. 1 MiB is for tables,
# and for rounding up to whole tiles and cache lines.
FORMS = {"winograd4": 36 / 9, "winograd2": 16 / 9, "winograd5": 36 / 25}

# The smallest batch that fills the tasks of two threads.
LAYERS = {
    "vgg 64 224x224": ("conv2d", (1, 64, 224, 224), (64, 64, 3, 3), {"padding": 1}),
    "vgg 512 28x28": ("conv2d", (1, 512, 28, 28), (512, 512, 3, 3), {"padding": 1}),
    "5x5": ("conv2d", (4, 96, 28, 28), (128, 96, 5, 5), {"padding": 2}),
    "1x1 2048": ("conv2d", (1, 2048, 7, 7), (2048, 2048, 1, 1), {}),
    "depthwise 112x112": ("conv2d", (1, 96, 112, 112), (96, 1, 3, 3), {"padding": 1, "groups": 96}),
    "stem 7x7/2": ("conv2d", (8, 3, 224, 224), (64, 3, 7, 7), {"stride": 2, "padding": 3}),
    "alexnet 11x11/4": ("conv2d", (2, 3, 227, 227), (64, 3, 11, 11), {"stride": 4}),
    "up 4x4/2": ("conv_transpose2d", (1, 256, 28, 28), (256, 128, 4, 4), {"stride": 2, "padding": 1}),
    "up 3x3": ("conv_transpose2d", (1, 128, 56, 56), (128, 128, 3, 3), {"padding": 1}),
    "sequence": ("conv1d", (1, 256, 20000), (64, 256, 3), {"padding": 1}),
    # what no network has, but the bound is for any call
    "many filters 1x1": ("conv2d", (1, 16, 34, 33), (16384, 16, 1, 1), {}),
    "many filters 3x3": ("conv2d", (1, 8, 34, 33), (4096, 8, 3, 3), {"padding": 1}),
    "many channels": ("conv2d", (1, 4088, 34, 33), (8, 4088, 3, 3), {"padding": 1}),
    "many channels 5x5": ("conv2d", (1, 4088, 21, 22), (8, 4088, 5, 5), {"padding": 2}),
    "many of both": ("conv2d", (1, 1024, 9, 9), (1024, 1024, 3, 3), {"padding": 1}),
    "many filters, one channel": ("conv2d", (1, 1, 2, 1000), (8192, 1, 3, 3), {"padding": 1}),
    "one row": ("conv2d", (1, 64, 1, 100_000), (32, 64, 1, 9), {"padding": (0, 4)}),
    "high kernel": ("conv2d", (1, 16, 300, 500), (8, 16, 300, 5), {"padding": (5, 2)}),
    "many filters, few channels": ("conv2d", (1, 90, 20, 200), (16384, 90, 1, 1), {"stride": (1, 6)}),
    "few filters 1x1": ("conv2d", (1, 256, 160, 256), (1, 256, 1, 1), {"padding": 1}),
    "strided 1x1": ("conv2d", (1, 96, 512, 512), (4, 96, 1, 1), {"stride": 16}),
    "dilated 7x7": ("conv2d", (1, 6, 300, 1024), (1, 6, 7, 7), {"padding": "same", "dilation": (49, 3)}),
    "few channels": ("conv2d", (1, 2, 5, 1000), (2048, 2, 5, 5), {"padding": 2}),
    "dilated": ("conv2d", (1, 30, 310, 1024), (1, 30, 3, 3), {"padding": "same", "dilation": (150, 1)}),
}


def extra_memory(call):
    """(results, most bytes of scratch memory and of arrays beyond the results' that were in use during a call)."""
    runtime.scratch_peak()
    scratch = runtime.scratch_peak()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        results = call()
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    new = sum(a.nbytes for a in results if isinstance(a, np.ndarray))
    return results, runtime.scratch_peak() - scratch + most - before - new


def test_extra_memory_sees_scratch_and_arrays():
    x = np.zeros((1, 8, 30, 30), np.float32)
    w = np.zeros((16, 8, 3, 3), np.float32)
    (prepared,), used = extra_memory(lambda: (ops.prepare_conv2d(w),))
    assert w.nbytes <= used <= w.nbytes + 4096
    _, used = extra_memory(lambda: ops.conv2d_forward(x, prepared, algo="winograd4"))
    assert used >= 4 * w.nbytes, "transformed filters"
    _, again = extra_memory(lambda: ops.conv2d_forward(x, prepared, algo="winograd4"))
    assert 0 < again <= used - 4 * w.nbytes, "are kept, not made again"
    _, used = extra_memory(lambda: (np.zeros(MiB, np.uint8), np.zeros(2 * MiB, np.uint8)[:0].copy()))
    assert 0 <= used - 2 * MiB < 4096


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", LAYERS)
def test_memory_is_bounded(name, threads):
    op, x, w, options = LAYERS[name]
    spec, case = convolution(op, x, w, **options)
    arrays = {name: None if s is None else np.zeros(s, np.float32) for name, s in case.shapes.items()}
    too_much = []
    for algo in algorithms(spec, case, np.float32):
        bound = threads * PER_THREAD + FORMS.get(algo, 1) * arrays["w"].nbytes + MiB
        with forced(threads=threads):
            chosen = with_algo(case, algo).options
            (y, ctx), used = extra_memory(lambda chosen=chosen: spec.forward(ops, arrays, chosen))
            found = {"forward": used}
            for i, gradient in enumerate(spec.grads):
                needs = tuple(j == i for j in range(len(spec.grads)))
                _, found[f"d{gradient}"] = extra_memory(
                    lambda y=y, ctx=ctx, needs=needs: spec.backward(ops, y, ctx, needs=needs).values()
                )
        too_much += [f"{algo} {what}: {n / MiB:.1f} of {bound / MiB:.1f} MiB" for what, n in found.items() if n > bound]
        print(algo, {k: round(v / MiB, 1) for k, v in found.items()}, f"of {bound / MiB:.1f} MiB")
    assert not too_much, "; ".join(too_much)
