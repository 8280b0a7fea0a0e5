"""Memory that runs out: the k-th allocation fails, for every k until a call succeeds.

Each time the caller gets a MemoryError and nothing else; no block leaks; inputs, and arrays that would have been
updated, are untouched; and the next call gives the right bits.

`python test_allocation_failures.py` does that to the allocations of Python's objects, in forward and backward passes.
"""

import sys

import numpy as np
import pytest
from memory_support import fail_each
from support import assert_same_bits, copy, each_spec, run

from fastnn import ops
from fastnn.kernels import runtime
from fastnn.registry import flat, map_arrays, specs
from fastnn.verify import forced

try:
    import _testcapi
except ImportError:
    _testcapi = None


def fail_case(spec, case, dtype):
    """Forward and backward pass of a case."""
    inputs = spec.inputs(case, dtype)
    arrays, what = copy(inputs), f"{spec.name}: {case}"
    want = run(spec, ops, inputs, case.options)

    def check():
        assert_same_bits(flat(arrays), flat(inputs), f"arguments of {what}")
        assert_same_bits(run(spec, ops, inputs, case.options), want, f"{what} after a failure")

    failed = fail_each(lambda: spec.forward(ops, arrays, case.options), check, what)
    arrays = copy(inputs)
    if spec.grads:
        outputs, ctx = spec.forward(ops, arrays, case.options)
        after = copy(arrays)
        dy = spec.draw_dy(outputs)
        kept = map_arrays(np.copy, dy)

        def check_backward():
            assert_same_bits(flat(arrays), flat(after), f"arguments of {what}")
            got, expected = ({"dy": x} if isinstance(x, np.ndarray) else dict(enumerate(x)) for x in (dy, kept))
            assert_same_bits(got, expected, f"dy of {what}")
            grads = flat(spec.backward(ops, dy, ctx))
            assert_same_bits(grads, {name: want[f"d{name}"] for name in grads}, f"gradients of {what}")

        failed += fail_each(lambda: spec.backward(ops, dy, ctx), check_backward, f"gradients of {what}")
    return failed


@each_spec()
def test_every_allocation_fails_once(spec, scaled):
    """In forward and backward passes: of every case in the long form, of that with most allocations in the short."""
    cases = scaled(
        [(heaviest(spec), np.float32)], [(case, dtype) for case in spec.cases for dtype in (np.float32, np.float64)]
    )
    with forced(threads=1):
        failed = [fail_case(spec, case, dtype) for case, dtype in cases]
    print(f"{spec.name}: {sum(failed)} allocations in {len(cases)} cases")
    assert all(failed)


def heaviest(spec):
    """The case of an operator with most allocations."""

    def allocations(case):
        arrays = spec.inputs(case)
        with runtime.failing_memory(0) as memory:
            run(spec, ops, arrays, case.options)
        return memory.allocations

    return max(spec.cases, key=allocations)


@pytest.mark.parametrize("name", [name for name, spec in specs().items() if "running_mean" in spec.cases[0].shapes])
def test_running_statistics_are_updated_last(name):
    """Instance norm and whitening updated them before all memory was there."""
    spec = specs()[name]
    for case in spec.cases:
        fail_case(spec, case, np.float32)


def test_batches_are_counted_last():
    """Batch norm counted a batch before all memory was there."""
    x, mean, var, count = (
        np.ones((4, 3), np.float32),
        np.zeros(3, np.float32),
        np.ones(3, np.float32),
        np.zeros((), int),
    )

    def check():
        assert (count, mean.any()) == (0, False)

    options = {"running_mean": mean, "running_var": var, "training": True, "num_batches_tracked": count}
    assert fail_each(lambda: ops.batch_norm_forward(x, **options), check, "batch_norm") >= 3
    assert (count, mean.all()) == (1, True)


def test_preparing_filters():
    """And what a prepared convolution makes of them in its first call with an algorithm."""
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((1, 8, 12, 12), np.float32), rng.standard_normal((8, 8, 3, 3), np.float32)
    for algo in specs()["conv2d"].algos:
        if algo in ("depthwise", "winograd5"):
            continue  # decline these filters
        want, _ = ops.conv2d_forward(x, w, algo=algo, keep=False)

        def prepared():
            return ops.conv2d_forward(x, ops.prepare_conv2d(w), algo=algo, keep=False)[0]  # noqa: B023

        def check():
            assert_same_bits({"y": prepared()}, {"y": want}, algo)  # noqa: B023

        assert fail_each(prepared, check, algo) >= 3
        kept = ops.prepare_conv2d(w)
        before = runtime.test_blocks()
        k, y = 1, None
        while y is None:  # the same object serves after a failure
            with runtime.failing_memory(k):
                try:
                    y, _ = ops.conv2d_forward(x, kept, algo=algo, keep=False)
                except MemoryError:
                    k += 1
        assert_same_bits({"y": y}, {"y": want}, algo)
        del kept, y
        assert runtime.test_blocks() == before


# ---- a system without memory ----


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc, and a limit of address space that is kept to")
def test_kept_memory_is_given_back_before_a_call_fails(python):
    """What is kept of freed blocks makes room for a larger one; where that is not enough, MemoryError."""
    code = """if True:
        import resource, numpy as np, fastnn
        from fastnn import ops
        large, small = np.zeros(25 << 20, np.float32), np.zeros(16 << 20, np.float32)  # 100 and 64 MiB
        ops.relu_forward(small)  # 64 MiB are kept
        size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + (60 << 20),) * 2)
        y = ops.relu_forward(large, keep=False)
        try:
            ops.relu_forward(large)
        except MemoryError as error:
            print(error)
        del y
        print(ops.relu_forward(large)[0].size)
    """
    result = python("-c", code)
    message = "fastnn: cannot allocate 104857600 bytes of results"
    assert result.stdout.splitlines() == [message, str(25 << 20)], result.stderr


# ---- Python's objects ----


NUMPYS = "without setting an exception", "error return without exception set"
"""SystemErrors that come from functions of NumPy, for want of a MemoryError of theirs."""
ENOUGH = 30
"""So many successes in a row say that a call has fewer allocations than their number."""


def fail_each_object(call):
    """call(), with each allocation of Python's failing in turn; returns how many failed."""
    failed, k, successes = 0, 0, 0
    while successes < ENOUGH:
        error = None
        _testcapi.set_nomemory(k, k + 1)
        try:
            call()
        except (MemoryError, SystemError) as e:
            error = e
        _testcapi.remove_mem_hooks()
        if isinstance(error, SystemError) and not any(text in str(error) for text in NUMPYS):
            raise error
        successes = 0 if error is not None else successes + 1
        failed += error is not None
        k += 1
    return failed


def main():
    """Of every operator's smallest case. What it updates is not looked at: numbers are objects, too, and a few
    operators update in several steps."""
    failed = 0
    for spec in specs().values():
        case = min(
            spec.cases, key=lambda case: sum(x.nbytes for x in flat(spec.inputs(case)).values() if x is not None)
        )
        print(f"{spec.name}: {case}", flush=True)
        inputs = spec.inputs(case)
        want = run(spec, ops, inputs, case.options)
        forward, arrays = spec.function(ops), copy(inputs)
        options = {**arrays, **case.options}
        failed += fail_each_object(lambda: forward(**options))  # noqa: B023
        if spec.grads:
            backward = spec.function(ops, "backward")
            outputs, ctx = forward(**copy(inputs), **case.options)
            dy = spec.draw_dy(outputs)
            failed += fail_each_object(lambda: backward(dy, ctx))  # noqa: B023
        assert_same_bits(run(spec, ops, inputs, case.options), want, spec.name)
    print(f"{failed} failures", flush=True)


@pytest.mark.skipif(not hasattr(_testcapi, "set_nomemory"), reason="a Python without _testcapi.set_nomemory")
def test_python_objects_that_cannot_be_made(python):
    """The process survives, with a MemoryError, and the next call gives the right bits."""
    result = python("-X", "faulthandler", __file__, PYTHONPATH=":".join(filter(None, sys.path)), timeout=250)
    last = result.stdout.splitlines()[-1:]
    assert result.returncode == 0, f"at {last}:\n{result.stderr}"
    assert int(last[0].split()[0]) > 5 * len(specs())


if __name__ == "__main__":
    main()
