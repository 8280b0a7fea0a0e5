"""One case as a contest: kernels, the NumPy reference and peers, verified and then timed in turn."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from importlib import import_module
from importlib.util import find_spec
from itertools import product

import numpy as np

from fastnn import ops, reference
from fastnn.kernels import runtime
from fastnn.measure import COPY_BYTES, MIXES, Entry, fma_peak, interleave, memory_bandwidth
from fastnn.registry import Case, OpSpec, listed, map_arrays
from fastnn.threads import num_threads
from fastnn.verify import agree, why_not

# Each thread's arrays must leave its own L2, or a copy of them would not measure what lies behind.
SMALLEST_COPY = 8 << 20
# fastnn itself on one thread, beside several.
SERIAL = "1 thread"
# GNU OpenMP's threads spin for some milliseconds before they sleep, those of OpenBLAS for about
# twenty, and the system takes some more to give every thread a core of its own again.
SETTLE = 0.05


@dataclass
class Row:
    """One measurement; times in seconds a call."""

    op: str
    direction: str
    case: str
    algo: str
    dtype: str
    threads: int
    seconds: float
    flops: float
    bytes: float
    limit: str
    """Which limit is nearer: "arithmetic" or "memory"."""
    share: float
    """Time the call would take at that limit / time it takes."""
    others: dict[str, float] = field(default_factory=dict)
    """Times of those that are compared with it: the reference ("numpy") and the peers."""
    prepared: bool = False
    """Weights were packed or transformed before, by us and by the others."""

    def ratio(self, other: str) -> float | None:
        """How many times faster fastnn is; None if the other does not take part."""
        return self.others[other] / self.seconds if other in self.others else None


@contextmanager
def threads_of_all(n, peers):
    """Limit kernels, NumPy's BLAS (if threadpoolctl is installed) and peers to n threads."""
    with ExitStack() as stack:
        stack.enter_context(num_threads(n))
        for peer in peers.values():
            stack.enter_context(peer.threads(n))
        if find_spec("threadpoolctl"):
            stack.enter_context(import_module("threadpoolctl").threadpool_limits(n, "blas"))
        yield


@cache
def arithmetic_limit(threads, isa, dtype):
    """Measured FLOP/s."""
    return fma_peak(threads, dtype)


@cache
def memory_limit(threads, nbytes, mix=(1, 1)):
    """Measured bytes/s of so many bytes, read and written in the proportion `mix`."""
    return memory_bandwidth(threads, nbytes, mix=mix)


def copy_size(nbytes):
    """The traffic that a call moving nbytes is held against: the next power of two, so that both come from the same
    level of cache or memory."""
    size = SMALLEST_COPY
    while size < min(nbytes, COPY_BYTES):
        size *= 2
    return size


def nearest_mix(work):
    """The measured proportion of reading and writing that is nearest to the work's."""
    share = 0.5 if work.written is None else work.written / work.bytes
    return min(MIXES, key=lambda mix: abs(mix[1] / sum(mix) - share))


def nearer_limit(work, threads, dtype):
    """(name, seconds) of the limit that takes longer for the work."""
    arithmetic = work.flops / arithmetic_limit(threads, runtime.get_isa(), dtype)
    memory = work.bytes / memory_limit(threads, copy_size(work.bytes), nearest_mix(work)) if work.bytes else 0.0
    return ("arithmetic", arithmetic) if arithmetic > memory else ("memory", memory)


def copies(arrays):
    """Arguments of its own for each competitor: some operators update theirs in place."""
    return map_arrays(np.copy, arrays)


def with_prepared(spec, arrays):
    """The arrays with ops' prepared form in place of the argument that the operator prepares."""
    prepare = getattr(ops, f"prepare_{spec.name}")
    return {**arrays, spec.prepares: prepare(arrays[spec.prepares])}


def our_entry(spec, direction, arrays, options, dy, prepared):
    """The compiled kernels as a competitor."""
    return Entry(call_of(ops, spec, direction, with_prepared(spec, arrays) if prepared else arrays, options, dy))


def call_of(module, spec, direction, arrays, options, dy):
    """A call without arguments of `module`'s forward, or of its backward on a kept ctx."""
    arrays = copies(arrays)
    forward = partial(spec.function(module), **arrays, **options)
    if spec.updates:
        updated = [arrays.get(name) for name in spec.updates]
        return lambda: ((forward(), *updated), None)
    if direction == "forward":
        return partial(forward, keep=False)
    _, ctx = forward()
    return partial(spec.function(module, "backward"), dy, ctx)


def results_of(direction, result):
    """The arrays that a call of ours or of the reference returned; gradients of absent arguments are left out."""
    return listed(result[0] if direction == "forward" else result)


def disagreement(got, want):
    """What is wrong with results `got`, or an empty string. A peer may return fewer than `want`."""
    for i, (g, w) in enumerate(zip(got, want, strict=False)):
        verdict = agree(g, w, f"result {i}")
        if not verdict:
            return verdict.where
    return ""


def measure_case(spec: OpSpec, case: Case, direction, dtype, threads, algos, peers, effort):
    """(rows, problems): verify, then time, one case; a row for each algorithm that applies, first the automatic one.

    On several threads, fastnn on one is a competitor too: no call should be slower on more.
    Where a peer prepares weights before it is timed, and the operator can do so too, a second row has the time with
    prepared weights, and the ratios to such peers. A competitor whose results disagree with the reference is not
    timed but named in `problems`.
    """
    arrays = spec.inputs(case, dtype)
    dy = None
    if direction == "backward":
        dy = spec.draw_dy(spec.forward(reference, copies(arrays), case.options)[0])
    entries = {"numpy": Entry(call_of(reference, spec, direction, arrays, case.options, dy))}
    # Of arrays that are updated in place, before they are again.
    want = [y.copy() for y in results_of(direction, entries["numpy"].call())]
    problems = []

    def admit(name, make, results, agrees=None):
        """Let a competitor take part if its results agree with the reference's, or as the operator's `agrees` says."""
        try:
            entry = make()
            if entry is None:
                return
            with entry.context():
                got = results(entry.call())
                wrong = agrees(direction, got, arrays, dy, **case.options) if agrees else disagreement(got, want)
        except Exception as e:
            wrong = f"raised {type(e).__name__}: {e}"
        if wrong:
            problems.append(f"{spec.name} {direction}, {case}: {name} is not timed: {wrong}")
        else:
            entries[name] = entry

    for name, peer in peers.items():
        make = partial(peer.entry, spec, direction, copies(arrays), case.options, dy)
        admit(name, make, peer.arrays, spec.agrees)
    can_prepare = direction == "forward" and spec.prepares is not None
    others: dict[bool, list[str]] = {False: [], True: []}
    for name in entries:
        others[can_prepare and name in peers and peers[name].prepared].append(name)

    ours = {}
    applying = [algo for algo in algos if why_not(spec, case, dtype, algo) is None]
    for prepared, algo in product(others, ("auto", *applying)):
        if not others[prepared]:
            continue
        name = ("fastnn" if algo == "auto" else f"algo={algo}") + " prepared" * prepared
        ours[name] = algo, prepared
        options = dict(case.options) if algo == "auto" else {**case.options, "algo": algo}
        make = partial(our_entry, spec, direction, arrays, options, dy, prepared)
        admit(name, make, partial(results_of, direction))
    if threads > 1 and "fastnn" in entries:
        entries[SERIAL] = entries["fastnn"]._replace(context=partial(num_threads, 1))
        others[False].append(SERIAL)

    settle = SETTLE if threads > 1 else 0.0
    times = interleave(entries, effort, settle)
    work = ((spec.backward_work if direction == "backward" else None) or spec.work)(case, dtype.itemsize)
    limit, seconds = nearer_limit(work, threads, dtype)
    rows = [
        Row(spec.name, direction, str(case), algo, dtype.name, threads, times[name], work.flops, work.bytes, limit,
            seconds / times[name], {other: times[other] for other in others[prepared]}, prepared)
        for name, (algo, prepared) in ours.items()
        if name in times
    ]  # fmt: skip
    return rows, problems
