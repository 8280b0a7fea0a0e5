"""Guard pages: no kernel reads or writes beside an array, a result or its scratch memory.

Every array, result and scratch block lies in pages of its own, flush with a page that nobody may touch. An overrun
kills the process, so the problems run in a child interpreter, this file as a program, which names each as it begins:
`python test_guards.py ISA PART PARTS` runs the problems of one part at one instruction-set level.
"""

import inspect
import signal as signals
import sys
from mmap import PAGESIZE
from zlib import crc32

import numpy as np
import pytest
from support import algorithms, assert_same_bits, copy, run, with_algo

from fastnn import ops
from fastnn.kernels import runtime
from fastnn.registry import as_tuple, specs
from fastnn.verify import forced

SIDES = ("before", "after")
SHORT = 4
"""The short form runs one problem in so many, and of each operator one at least."""

try:
    runtime.guarded_memory("after")
except NotImplementedError as error:
    pytestmark = pytest.mark.skip(reason=str(error))


# ---- the child ----


def problems():
    """(operator's spec, case, dtype) of everything, algorithms as options of the cases."""
    for spec in specs().values():
        for case in spec.cases:
            for dtype in np.float32, np.float64:
                for algo in algorithms(spec, case, dtype):
                    yield spec, with_algo(case, algo), dtype


def chosen(spec, case, dtype, isa, parts):
    """Which part a problem belongs to; the same in every run, another at each level."""
    return crc32(f"{spec.name} {case} {case.options} {np.dtype(dtype)} {isa}".encode()) % parts


def results(spec, case, arrays):
    """Outputs, gradients, arrays after the call; and with `out=`, or prepared, where the operator has that."""
    found = run(spec, ops, arrays, case.options)
    if "out" in inspect.signature(spec.function(ops)).parameters:
        out = np.empty_like(found["y0"])
        spec.forward(ops, copy(arrays), case.options, out=out, keep=False)
        found["out"] = out
    if spec.prepares:
        prepare = getattr(ops, f"prepare_{spec.name}")
        prepared = {**copy(arrays), spec.prepares: prepare(arrays[spec.prepares])}
        found["prepared"] = as_tuple(spec.forward(ops, prepared, case.options, keep=False)[0])[0]
    return found


def main(isa, part, parts):
    count, once = 0, set()
    for spec, case, dtype in problems():
        if part is not None and chosen(spec, case, dtype, isa, parts) != part and spec.name in once:
            continue
        once.add(spec.name)
        name = f"{spec.name}: {case} {case.options.get('algo', '')} {np.dtype(dtype)} {isa}"
        arrays = spec.inputs(case, dtype)
        with forced(isa=isa, threads=1):
            want = results(spec, case, arrays)
        for threads in 1, 3:
            for side in SIDES:
                print(f"{name}, {threads} threads, guard pages {side} every block", flush=True)
                with forced(isa=isa, threads=threads), runtime.guarded_memory(side), runtime.poisoned_memory():
                    got = results(spec, case, copy(arrays))
                assert_same_bits(got, want, name)
                got = None
                count += 1
    assert runtime.test_blocks() == 0
    print(f"{count} runs of {len(once)} operators", flush=True)


# ---- the tests ----


def child(python, *arguments, **options):
    """A run of this file, or of code, that says where it crashed."""
    return python("-X", "faulthandler", *arguments, PYTHONPATH=":".join(filter(None, sys.path)), **options)


@pytest.mark.parametrize("isa", runtime.supported_isas())
def test_nothing_is_touched_beside_a_block(python, scaled, isa):
    part, parts, timeout = scaled(("0", str(SHORT), 280), ("all", "1", 7200))
    result = child(python, __file__, isa, part, parts, timeout=timeout)
    last = result.stdout.splitlines()[-1:]
    assert result.returncode == 0, f"at {last}:\n{result.stderr}"
    assert last[0].endswith(f"{len(specs())} operators")


OVERRUN = """
import numpy as np
from fastnn import ops
from fastnn.kernels import runtime

def moved(x, first, count):
    "count elements from number `first` of x on, wherever that is"
    data = x.ctypes.data + first * x.itemsize, False
    interface = {{"data": data, "typestr": "<f4", "shape": (count,), "version": 3}}
    return np.asarray(type("Elements", (), {{"__array_interface__": interface}})())

with runtime.guarded_memory("{side}"):
    x, y = np.ones(1000, np.float32), np.ones(1000, np.float32)
{code}
print("survived")
"""


@pytest.mark.parametrize(
    ("side", "code", "signal"),
    [
        ("after", "ops.relu_forward(moved(x, 0, 1000))", None),
        ("before", "ops.relu_forward(moved(x, 0, 1000))", None),
        ("after", "ops.relu_forward(moved(x, 1, 1000))", "SIGSEGV"),
        ("before", "ops.relu_forward(moved(x, -1, 1000))", "SIGSEGV"),
        ("after", "ops.relu_forward(x, out=moved(y, 1, 1000))", "SIGSEGV"),
        ("before", "ops.relu_forward(x, out=moved(y, -1, 1000))", "SIGSEGV"),
        ("after", "ops.relu_forward(x, out=moved(y, -1, 1000)); del y", "SIGABRT"),
        ("before", "ops.relu_forward(x, out=moved(y, 1, 1000)); del y", "SIGABRT"),
    ],
)
def test_guards_find_one_element_too_many(python, side, code, signal):
    """Of a kernel that reads or writes one element beside its array: a page that may not be touched, or a pattern that
    was changed."""
    result = child(python, "-c", OVERRUN.format(side=side, code=code))
    if signal is None:
        assert (result.returncode, result.stdout) == (0, "survived\n"), result.stderr
    else:
        assert result.returncode == -getattr(signals, signal), result.stderr
        assert "survived" not in result.stdout


@pytest.mark.parametrize("side", SIDES)
def test_where_guarded_blocks_lie(side):
    """Flush with a page, whatever their size; and memory is as NumPy promises it."""
    for size in (1, 3, 1023, 1024, 1025, 100_000):
        with runtime.guarded_memory(side), runtime.poisoned_memory():
            x, zeros = np.empty(size, np.float32), np.zeros(size, np.float32)
            grown = np.arange(size, dtype=np.float32)
            grown.resize(2 * size, refcheck=False)
            y, _ = ops.relu_forward(zeros, keep=False)
        for a in x, zeros, grown, y:
            at = a.ctypes.data + (a.nbytes if side == "after" else 0)
            assert at % PAGESIZE == 0
        assert np.isnan(x).all() and not zeros.any() and not y.any()
        assert grown[:size].tolist() == list(range(size))


if __name__ == "__main__":
    level, which, of = sys.argv[1:]
    main(level, None if which == "all" else int(which), int(of))
