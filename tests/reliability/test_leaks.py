"""Flat memory: calls that succeed, and calls that fail, leave nothing behind. `--long -rP` prints the figures."""

import sys
from pathlib import Path

import numpy as np
import pytest
from support import copy, each_spec

import fastnn
from fastnn import ops
from fastnn.kernels import runtime
from fastnn.registry import as_tuple, flat, restored
from fastnn.verify import forced

ROUND = 10
"""Calls between two that fail."""


def smallest(spec):
    """The case of an operator with fewest elements."""
    return min(spec.cases, key=lambda case: sum(x.nbytes for x in arrays_of(spec.inputs(case))))


def arrays_of(arguments):
    return [x for x in flat(arguments).values() if isinstance(x, np.ndarray)]


def failing_calls(spec, case, arrays):
    """Calls that raise TypeError, ValueError or MemoryError: each array of a dtype that does not exist here, so that
    what stands before it is checked already; a dy of another shape; memory that runs out."""
    calls = []
    for name, x in flat(arrays).items():
        if isinstance(x, np.ndarray) and x.dtype.kind == "f":
            wrong = restored({**flat(arrays), name: x.astype(np.float16)}, arrays)
            calls.append(lambda wrong=wrong: spec.forward(ops, wrong, case.options))
    with runtime.failing_memory(0) as memory:
        outputs, ctx = spec.forward(ops, arrays, case.options)
    if spec.grads:
        dy = tuple(np.zeros((*y.shape, 2, 3), y.dtype) for y in as_tuple(outputs)[: spec.outputs])
        calls.append(lambda: spec.backward(ops, dy if spec.outputs > 1 else dy[0], ctx))

    def without_memory(k):
        with runtime.failing_memory(k):
            spec.forward(ops, arrays, case.options)

    calls += [lambda k=k: without_memory(k) for k in range(1, memory.allocations + 1)]
    return calls


def resident():
    """Bytes of memory that this process occupies, where the system tells."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * 4096 if statm.exists() else 0


def repeat(spec, case, arrays, failing, count):
    """Forward and backward pass count times, and after every tenth one of the failing calls."""
    options = case.options
    outputs, _ = spec.forward(ops, copy(arrays), options)
    dy = spec.draw_dy(outputs) if spec.grads else None
    for i in range(count):
        _, ctx = spec.forward(ops, arrays, options)
        if dy is not None:
            spec.backward(ops, dy, ctx)
        if i % ROUND == 0:
            try:
                failing[i // ROUND % len(failing)]()
            except (TypeError, ValueError, MemoryError):
                continue
            pytest.fail(f"{spec.name}: a call that should fail did not")


def figures():
    """Python's blocks, and bytes of scratch memory."""
    runtime.scratch_peak()
    return sys.getallocatedblocks(), runtime.scratch_peak()


@each_spec()
def test_flat_memory(spec, scaled):
    """Python's objects, arrays, scratch memory and the references to inputs are as many as before, but for what
    Python's own caches and free lists hold: fewer blocks than one for every call that fails. Over 10^5 calls (the long
    form), the process grows by less than the smallest leak of malloc in every call would cost, 32 bytes.
    """
    count = scaled(200, 100_000)
    case = smallest(spec)
    arrays = spec.inputs(case)
    inputs = arrays_of(arrays)
    failing = failing_calls(spec, case, arrays)
    with forced(threads=1):
        blocks = runtime.test_blocks()
        with runtime.failing_memory(0):  # counts the blocks of arrays, results and scratch memory
            repeat(spec, case, arrays, failing, max(200, 3 * ROUND * len(failing)))
        assert runtime.test_blocks() == blocks
        references = [sys.getrefcount(x) for x in inputs]
        before, size = figures(), resident()
        repeat(spec, case, arrays, failing, count)
        size = resident() - size
        after = figures()
    assert [sys.getrefcount(x) for x in inputs] == references
    print(f"{spec.name}: {count} calls, {after[0] - before[0]:+d} blocks of Python, {size / 1024:+.0f} KiB")
    assert after[1:] == before[1:]
    assert after[0] - before[0] < count // ROUND
    # Python's and malloc's arenas grow by up to 1 MiB at a time.
    assert size < max(32 * count, 2 << 20)


def test_a_leak_is_found():
    """The count of Python's blocks grows with what is kept."""
    kept = []
    before = sys.getallocatedblocks()
    for _ in range(100):
        y, _ = ops.relu_forward(np.ones(3, np.float32))
        kept.append(y)
    assert sys.getallocatedblocks() - before >= 100


def test_kept_memory_is_bounded():
    """What is kept of freed blocks for later calls is no leak: calls of many sizes do not add up, and it can be given
    back."""
    fastnn.release_memory()
    before = resident()
    for size in range(1, 40):
        ops.relu_forward(np.ones(size << 16, np.float32))
    fastnn.release_memory()
    assert resident() - before < 64 << 20
