"""Timing of competing functions, and the limits of the machine that their times are held against."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from itertools import repeat
from statistics import median
from time import perf_counter, sleep
from typing import Any, NamedTuple

import numpy as np

from fastnn.kernels import runtime

__all__ = ["COPY_BYTES", "MIXES", "THOROUGH", "Effort", "Entry", "fma_peak", "interleave", "memory_bandwidth"]

MIXES = ((1, 0), (4, 1), (2, 1), (1, 1), (1, 4))
"""Arrays read and written at a time that memory_bandwidth can measure."""

COPY_BYTES = 256 << 20
"""Bytes that memory_bandwidth's arrays take together: beyond every core's own caches and most shared ones."""


class Entry(NamedTuple):
    """A function to time, and the context it runs in."""

    call: Callable[[], Any]
    context: Callable[[], AbstractContextManager[Any]] = nullcontext


class Effort(NamedTuple):
    """How thoroughly to time."""

    rounds: int = 7
    """Timings of each function; their median counts."""
    least: float = 0.02
    """Seconds that one timing takes at least; shorter calls are repeated."""
    budget: float = 1.0
    """Seconds after which a function takes part in no further round."""


THOROUGH = Effort()


def seconds_per_call(call: Callable[[], Any], n: int) -> float:
    """Mean seconds of n calls."""
    start = perf_counter()
    for _ in repeat(None, n):
        call()
    return (perf_counter() - start) / n


def warm_up(call: Callable[[], Any], seconds: float) -> float:
    """Call for so long, at least once; returns the seconds of the last call."""
    end = perf_counter() + seconds
    while True:
        last = seconds_per_call(call, 1)
        if perf_counter() >= end:
            return last


def interleave(entries: Mapping[str, Entry], effort: Effort = THOROUGH, settle: float = 0.0) -> dict[str, float]:
    """Median seconds per call of each entry, timed in turn: A B C, A B C, …, so that a drift of the machine hits all.

    Before each timing nothing runs for `settle` seconds, and then the entry untimed for as long, at least once: the
    worker threads of another runtime (OpenMP's, a BLAS library's) spin for some milliseconds after their last call,
    and would be timed as a slow machine.
    """
    times: dict[str, list[float]] = {name: [] for name in entries}
    spent = dict.fromkeys(entries, 0.0)
    for _ in range(effort.rounds):
        for name, entry in entries.items():
            if spent[name] > effort.budget:
                continue
            start = perf_counter()
            with entry.context():
                sleep(settle)
                once = warm_up(entry.call, settle)
                if once > effort.budget:  # too slow to call twice
                    times[name].append(once)
                else:
                    n = max(1, round(effort.least / max(once, 1e-7)))
                    times[name].append(seconds_per_call(entry.call, n))
            spent[name] += perf_counter() - start
    return {name: median(values) for name, values in times.items()}


def best_rate(run: Callable[[int], float], seconds: float) -> float:
    """The highest work per second of run(size), which returns the work it did.

    The size grows until a run takes 20 ms, and further while that raises the rate: on a busy machine, waiting for a
    thread to be scheduled can outlast any small run.
    """
    size, best = 1, 0.0
    end = perf_counter() + seconds
    while True:
        start = perf_counter()
        work = run(size)
        elapsed = perf_counter() - start
        if elapsed < 0.02 or work / elapsed > 1.25 * best:
            size *= 2
        best = max(best, work / elapsed)
        if perf_counter() >= end:
            return best


def fma_peak(threads: int, dtype=np.float32, seconds: float = 0.25) -> float:
    """The arithmetic limit in FLOP/s: independent chains of fused multiply-adds in registers, each counted as two
    operations, on `threads` threads at the instruction-set level in use. The best of several runs in `seconds`."""
    bits = np.dtype(dtype).itemsize * 8
    return best_rate(lambda size: runtime.fma_chain(size << 18, threads, bits), seconds)


def aligned(nbytes: int, value: float) -> np.ndarray:
    """A float32 array that begins with a cache line."""
    memory = np.full(nbytes // 4 + 16, value, np.float32)
    start = -memory.ctypes.data % 64 // 4
    return memory[start : start + nbytes // 4]


def memory_bandwidth(
    threads: int, nbytes: int = COPY_BYTES, seconds: float = 0.25, mix: tuple[int, int] = (1, 1)
) -> float:
    """The memory limit in bytes/s, on `threads` threads: mix[0] arrays are read while mix[1] are written, `nbytes` in
    all, of which each counts once. More than the last cache holds is written past it, without reading the line first.
    The best of several runs in `seconds`. What fits a shared cache is faster than the default."""
    reads, writes = mix
    size = nbytes // (reads + writes) // 256 * 256
    sources, results = [aligned(size, 1) for _ in range(reads)], [aligned(size, 0) for _ in range(writes)]
    return best_rate(lambda n: sum(runtime.stream(sources, results, threads) for _ in range(n)), seconds)
