"""Work in several Python threads at once, and what an operator computes of arguments that threads share."""

import threading
from functools import cache

import numpy as np
from support import algorithms, assert_same_bits, copy, run, with_algo

from fastnn import ops
from fastnn.kernels import runtime
from fastnn.registry import as_tuple, flat, specs

THREADS = 8


def in_threads(work, threads=THREADS):
    """[work(0), work(1), …], begun at once, each in a thread of its own; what one raises is raised. All threads compute
    in the end as this one does: rounding, subnormal numbers."""
    barrier = threading.Barrier(threads)
    results, errors, states = [None] * threads, [], [runtime.floating_point_states()[0]]

    def body(i):
        try:
            barrier.wait()
            results[i] = work(i)
            states.extend(runtime.floating_point_states(2))
        except BaseException as error:
            errors.append(error)

    workers = [threading.Thread(target=body, args=(i,), daemon=True) for i in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(240)
    assert not any(worker.is_alive() for worker in workers), "a thread hangs"
    if errors:
        raise errors[0]
    assert len(set(states)) == 1, "a thread was left in another floating-point environment"
    return results


class Job:
    """A call of an operator, forward and backward, with arguments that may be shared, and its results in one thread."""

    def __init__(self, spec, case, dtype=np.float32, algo=None, kind="normal"):
        self.spec, self.dtype = spec, np.dtype(dtype)
        self.options = with_algo(case, algo).options
        self.name = f"{spec.name}: {case} {dtype} {algo}"
        self.arrays = spec.inputs(case, dtype, seed=11, kind=kind)
        outputs, _ = spec.forward(ops, copy(self.arrays), self.options)
        self.dy = spec.draw_dy(outputs, kind=kind) if spec.grads else None
        self.want = run(spec, ops, self.arrays, self.options, self.dy)
        before = flat(self.arrays)
        # Running statistics, parameters of an optimiser: what is written to cannot be shared.
        self.writes = any(
            isinstance(x, np.ndarray)
            and not np.array_equal(x, self.want[f"{name} after"], equal_nan=x.dtype.kind == "f")
            for name, x in before.items()
        )

    def results(self, **prepared):
        """As `support.run` gives them, of the very arrays that other threads use meanwhile, where nobody writes to
        them."""
        arrays = (copy(self.arrays) if self.writes else self.arrays) | prepared
        outputs, ctx = self.spec.forward(ops, arrays, self.options)
        found = {f"y{i}": y for i, y in enumerate(as_tuple(outputs))}
        if self.spec.grads:
            found |= {f"d{name}": dx for name, dx in flat(self.spec.backward(ops, self.dy, ctx)).items()}
        return found | {f"{name} after": x for name, x in flat(arrays).items() if name not in prepared}

    def check(self, **prepared):
        """Call, and compare all bits with those of one thread."""
        want = {name: x for name, x in self.want.items() if name.removesuffix(" after") not in prepared}
        assert_same_bits(self.results(**prepared), want, self.name)


def jobs_of(spec, **options):
    """One for each case and algorithm; dtypes in turn."""
    return [
        Job(spec, case, dtype, algo, **options)
        for i, case in enumerate(spec.cases)
        for dtype in (("float32", "float64")[i % 2],)
        for algo in algorithms(spec, case, dtype)
    ]


@cache
def all_jobs():
    """One for each case of every operator."""
    return [
        Job(spec, case, ("float64", "float32")[i % 2]) for spec in specs().values() for i, case in enumerate(spec.cases)
    ]
