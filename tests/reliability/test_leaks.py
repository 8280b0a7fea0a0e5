"""Flat memory: calls that succeed, and calls that fail, leave nothing behind. `--long -rP` prints the figures."""

import gc
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from support import arrays_of, copy, each_spec, smallest

from fastnn import ops
from fastnn.kernels import runtime
from fastnn.registry import as_tuple, flat, restored
from fastnn.verify import forced

ROUNDS = 20
"""Of calls at most; one in which the number of objects stays is enough."""


@pytest.fixture(scope="module", autouse=True)
def only_new_objects_are_collected():
    """A full collection among all that the tests have loaded would take longer than the calls."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def failing_calls(spec, case, arrays):
    """Calls that raise TypeError, ValueError or MemoryError: each array of a dtype that does not exist here, so that
    what stands before it is checked already; a dy of another shape; memory that runs out."""
    calls = []
    for name, x in flat(arrays).items():
        if isinstance(x, np.ndarray) and x.dtype.kind == "f":
            wrong = restored({**flat(arrays), name: x.astype(np.float16)}, arrays)
            calls.append(lambda wrong=wrong: spec.forward(ops, wrong, case.options))
    given, fresh = copy(arrays), copy(arrays)
    with runtime.failing_memory(0) as memory:
        outputs, ctx = spec.forward(ops, fresh, case.options)
    if spec.grads:
        dy = tuple(np.zeros((*y.shape, 2, 3), y.dtype) for y in as_tuple(outputs)[: spec.outputs])
        calls.append(lambda: spec.backward(ops, dy if spec.outputs > 1 else dy[0], ctx))

    def without_memory(k):
        fresh = copy(given)  # a gradient that was clipped already may need less memory
        with runtime.failing_memory(k):
            spec.forward(ops, fresh, case.options)

    calls += [lambda k=k: without_memory(k) for k in range(1, memory.allocations + 1)]
    return calls


def resident():
    """Bytes of memory that this process occupies, where the system tells."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * 4096 if statm.exists() else 0


def repeat(spec, case, arrays, failing, count):
    """Forward and backward pass, and one of the failing calls, count times."""
    options = case.options
    outputs, _ = spec.forward(ops, copy(arrays), options)
    dy = spec.draw_dy(outputs) if spec.grads else None
    for i in range(count):
        _, ctx = spec.forward(ops, arrays, options)
        if dy is not None:
            spec.backward(ops, dy, ctx)
        try:
            failing[i % len(failing)]()
        except (TypeError, ValueError, MemoryError):
            continue
        pytest.fail(f"{spec.name}: a call that should fail did not")


def figures():
    """Blocks of Python's allocator, bytes of scratch memory."""
    gc.collect()  # empties free lists, too
    runtime.scratch_peak()
    return sys.getallocatedblocks(), runtime.scratch_peak()


@each_spec()
def test_flat_memory(spec, scaled):
    """Arrays, results, scratch memory, the references to inputs and Python's objects are as many as before; the first
    without the help of the garbage collector.

    Objects but for caches and free lists of Python and NumPy, which fill in the first rounds; a call that leaves one
    object behind, be it only one of the kinds that fail, does so in all. Over 10^5 calls (the long form) the process
    grows by less than the smallest leak of malloc in every call would cost, 32 bytes; arenas of Python and malloc grow
    by up to 1 MiB at a time.
    """
    case = smallest(spec)
    arrays = spec.inputs(case)
    inputs = arrays_of(arrays)
    with forced(threads=1):
        failing = failing_calls(spec, case, arrays)
        count = scaled(20 * max(5, len(failing)), 100_000)
        blocks = runtime.test_blocks()
        gc.disable()
        with runtime.failing_memory(0):  # counts the blocks of arrays, results and scratch memory
            repeat(spec, case, arrays, failing, 2 * len(failing))
        gc.enable()
        assert runtime.test_blocks() == blocks
        repeat(spec, case, arrays, failing, 2 * len(failing))
        references = [sys.getrefcount(x) for x in inputs]
        size = resident()
        for _ in range(ROUNDS):
            before = figures()
            repeat(spec, case, arrays, failing, count)
            after = figures()
            if after[0] - before[0] < count // len(failing):
                break
        size = resident() - size
    grown = after[0] - before[0]
    print(f"{spec.name}: {count} calls and {count} that fail: {grown:+d} blocks of Python, {size / 1024:+.0f} KiB")
    assert [sys.getrefcount(x) for x in inputs] == references
    assert after[1] == before[1]
    assert grown < count // len(failing)
    assert size < max(32 * count, 2 << 20)


def test_a_leak_is_found():
    """The count of Python's blocks grows with what is kept, and that of test memory."""
    with runtime.failing_memory(0):
        before = sys.getallocatedblocks(), runtime.test_blocks()
        kept = [ops.relu_forward(np.ones(3, np.float32)) for _ in range(100)]
        assert sys.getallocatedblocks() - before[0] >= 100
        assert runtime.test_blocks() - before[1] == 100
        kept.pop()
        assert runtime.test_blocks() - before[1] == 99


GIVEN_BACK = """
import numpy as np
import fastnn
from fastnn import ops
from test_leaks import resident

x = np.ones(16 << 18, np.float32)
ops.relu_forward(x[:16])
before = resident()
for size in range(1, 17):
    ops.relu_forward(x[: size << 18])
kept = resident() - before
fastnn.release_memory()
print(kept, resident() - before)
"""


def test_kept_memory_can_be_given_back(python):
    """What is kept of freed blocks of 1 to 16 MiB for later calls is no leak. In a process of its own: what others in
    this one free, and malloc keeps, is more than what is measured here."""
    done = python("-c", GIVEN_BACK, PYTHONPATH=os.pathsep.join(sys.path))
    assert done.returncode == 0, done.stderr
    kept, left = map(int, done.stdout.split())
    if resident():
        assert kept >= 16 << 20 and left < 1 << 20
