"""Every allocation of a call fails in turn."""

from fastnn.kernels import runtime


def memory_in_use():
    """Blocks, and bytes of scratch memory."""
    runtime.scratch_peak()
    return runtime.test_blocks(), runtime.scratch_peak()


def fail_each(call, check, what, keeps=False):
    """call(), with each of its allocations failing in turn; check() follows each failure. How many there are.

    keeps: when it succeeds, the call puts arrays where they stay.
    """
    before = memory_in_use()
    k = 0
    while True:
        k += 1
        error = result = None
        with runtime.failing_memory(k) as memory:
            try:
                result = call()
            except MemoryError as e:
                error = e.with_traceback(None)
        if memory.allocations < k:
            break
        assert error is not None, f"{what}: succeeded although allocation {k} failed"
        assert error.__cause__ is None and error.__context__ is None, f"{what}: {error!r} hides another error"
        del error
        assert memory_in_use() == before, f"{what}: allocation {k} failed, and left memory behind"
        check()
    assert error is None, f"{what}: {error!r}, but no allocation failed"
    del result
    assert keeps or memory_in_use() == before, f"{what}: memory is left behind"
    return k - 1
