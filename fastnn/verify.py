"""Do the kernels compute what the reference says? The comparison that tests, `fastnn check` and `fastnn bench` share.

The truth is the reference in float64 on the very numbers the kernel gets. The bound on a result's error is derived,
never tuned. With eps the machine epsilon of the kernel's dtype:

- multilinear operators: (depth + 2) * eps * the reference on the inputs' absolute values, element by element;
- algorithms with a `Rounding` of their own: amplification * eps * the largest of those values, if that is more;
- gradients that the operator gives the `gradient_terms` of: (depth + 2) * eps * these;
- all others: depth * eps * the largest |result|, for each output;
- float64 kernels: twice that, because the reference rounds as well;
- integer inputs to an operator that is `exact`, and integer outputs: no error at all.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from functools import cached_property
from typing import NamedTuple

import numpy as np

from fastnn import ops, reference
from fastnn.kernels import runtime
from fastnn.registry import Case, OpSpec, as_tuple, flat, map_arrays
from fastnn.threads import num_threads

__all__ = ["Problem", "Verdict", "agree", "compare", "forced", "verify_backward", "verify_forward", "why_not"]


class Verdict(NamedTuple):
    """Outcome of a comparison."""

    max_error: float
    """Largest absolute error of any result; infinite if one is NaN or infinite where it should not be."""
    error: float
    """The error that comes nearest to its bound, or exceeds it most."""
    bound: float
    """The bound on that error."""
    bound_ratio: float
    """error / bound; at most 1 if all is well."""
    ok: bool
    where: str
    """The result of that largest ratio, or what else is wrong: "dx[0, 2]: got 1.5, expected 1.25"."""

    def __bool__(self):
        return self.ok


@contextmanager
def forced(isa=None, threads=None):
    """Run kernels at an instruction-set level, and on exactly so many threads, however small the work; on three and
    more, their results go past the caches as those of large arrays do."""
    with ExitStack() as stack:
        if isa is not None:
            stack.callback(runtime.set_isa, runtime.get_isa())
            runtime.set_isa(isa)
        if threads is not None:
            stack.enter_context(num_threads(threads))
            stack.callback(runtime.set_seconds_per_thread, runtime.set_seconds_per_thread(0))
            if threads > 2:
                stack.callback(runtime.set_last_cache_bytes, runtime.set_last_cache_bytes(0))
        yield


def widen(x, f=np.asarray):
    """A float64 copy of a floating-point array, through f; of each in a list, tuple or dict; other things as they
    are."""
    return map_arrays(lambda a: f(a.astype(np.float64)) if a.dtype.kind == "f" else a.copy(), x)


def failure(where: str) -> Verdict:
    return Verdict(np.inf, np.inf, 0.0, np.inf, False, where)


PERFECT = Verdict(0.0, 0.0, 0.0, 0.0, True, "")


def worst(verdicts) -> Verdict:
    """The verdict nearest to its bound, or furthest beyond, with the largest error of all."""
    verdicts = list(verdicts) or [PERFECT]
    return max(verdicts, key=lambda v: (not v.ok, v.bound_ratio))._replace(
        max_error=max(v.max_error for v in verdicts), ok=all(v.ok for v in verdicts)
    )


def compare(got, want, bound, name: str = "y") -> Verdict:
    """Is |got - want| <= bound in every element? NaN equals NaN, and an infinity only itself.

    got, want: arrays of equal shape, or both None. bound: a number or an array of want's shape.
    """
    if got is None or want is None:
        return PERFECT if got is want else failure(f"{name}: got {type(got).__name__}, expected {type(want).__name__}")
    got, want = np.asarray(got), np.asarray(want)
    if got.shape != want.shape:
        return failure(f"{name}: got shape {got.shape}, expected {want.shape}")
    if got.dtype.kind != want.dtype.kind:
        return failure(f"{name}: got dtype {got.dtype}, expected {want.dtype}")
    if want.size == 0:
        return PERFECT
    with np.errstate(all="ignore"):
        same = (got == want) | ((got != got) & (want != want))
        error = np.where(same, 0.0, np.abs(got.astype(np.float64) - want.astype(np.float64)))
        error[np.isnan(error)] = np.inf
        bound = np.broadcast_to(np.asarray(bound, np.float64), error.shape)
        ratio = np.where(same, 0.0, error / bound)
        # An infinite or NaN bound (the truth itself is not finite) excuses nothing.
        ratio[~np.isfinite(bound) & ~same] = np.inf
    i = np.unravel_index(np.argmax(ratio), ratio.shape)
    index = ", ".join(map(str, i))
    where = f"{name}[{index}]: got {got[i]!s}, expected {want[i]!s}" if not same[i] else name
    return Verdict(float(error.max()), float(error[i]), float(bound[i]), float(ratio[i]), bool(ratio[i] <= 1), where)


def tolerance(spec: OpSpec, case: Case, dtype, want, magnitude=None, exact=False, algo=None):
    """Bound on the error of one output whose true value is `want`, an array.

    magnitude: of a multilinear operator, the same output on the inputs' absolute values; of a gradient,
    spec.gradient_terms. algo: what computed it.
    """
    rounding = spec.rounding.get(algo)
    if rounding is not None and not rounding.exact:
        exact = False
    if exact or want is None or want.dtype.kind != "f":
        return 0.0
    info = np.finfo(dtype)
    slack = 2 if info.bits == 64 else 1
    if magnitude is not None and rounding is not None:
        return max(rounding.amplification, spec.depth(case) + 2) * float(info.eps) * magnitude.max(initial=0)
    if magnitude is not None:
        return slack * (spec.depth(case) + 2) * float(info.eps) * magnitude
    depth = spec.depth(case)
    largest = np.abs(want[np.isfinite(want)]).max(initial=0)
    # A result below the normal range is rounded to a multiple of the smallest subnormal.
    return slack * depth * (float(info.eps) * largest + float(info.smallest_subnormal))


def compare_all(spec, case, dtype, names, got, want, magnitudes, exact, algos) -> Verdict:
    """The worst of all outputs `names`, each within its tolerance and of the right dtype. algos: what computed them."""
    if len(got) != len(want):
        return failure(f"{len(got)} results, expected {len(want)}")
    verdicts = []
    for i, (name, g, w, algo) in enumerate(zip(names, got, want, algos, strict=True)):
        if g is not None and g.dtype.kind == "f" and g.dtype != dtype:
            verdicts.append(failure(f"{name}: got dtype {g.dtype}, expected {dtype}"))
            continue
        bound = tolerance(spec, case, dtype, w, None if magnitudes is None else magnitudes[i], exact, algo)
        verdicts.append(compare(g, w, bound, name))
    return worst(verdicts)


def agree(got, want, name: str = "y") -> Verdict:
    """Do two implementations compute the same function? To half the digits of `want`'s dtype, relative to its largest
    value: rounding differs with the order of sums and the algorithm, a wrong function by far more."""
    got, want = np.asarray(got), np.asarray(want)
    if want.dtype.kind != "f":
        return compare(got, want, 0.0, name)
    largest = np.abs(want[np.isfinite(want)]).max(initial=0)
    return compare(got, want, float(np.finfo(want.dtype).eps) ** 0.5 * max(float(largest), 1e-30), name)


def output_names(outputs):
    return ["y"] if len(outputs) == 1 else [f"y{i}" for i in range(len(outputs))]


def with_algo(algo):
    return {} if algo is None else {"algo": algo}


def algo_of(ctx, gradient=None):
    """The algorithm of an operator that has several: what ran forward, or is to compute the gradient of an argument."""
    name = getattr(ctx, "algo", None)
    return name if gradient is None else getattr(ctx, "gradient_algos", {}).get(gradient, name)


def why_not(spec: OpSpec, case: Case, dtype=np.float32, algo: str | None = None) -> str | None:
    """The reason why an algorithm declines a case; None if it takes it, or if none is named."""
    if algo is None:
        return None
    try:
        spec.forward(ops, spec.inputs(case, dtype), case.options, algo=algo)
    except ValueError as e:
        return str(e)
    return None


class Problem:
    """A case with its inputs, drawn once, and its truth, computed once: verify it under any algorithm, instruction
    set and number of threads.

    dtype: of the kernel. kind: of random inputs, as in registry.draw.
    """

    def __init__(self, spec: OpSpec, case: Case, dtype=np.float32, kind="normal", seed=0):
        self.spec, self.case, self.dtype = spec, case, np.dtype(dtype)
        self.exact = spec.exact and kind == "integer"
        self.arrays = spec.inputs(case, self.dtype, seed, kind)
        self.dy_seed, self.kind = seed + 1, kind

    def arguments(self):
        """Fresh copies of the array arguments."""
        return map_arrays(np.copy, self.arrays)

    def reference(self, f=np.asarray):
        """(arguments after the call, outputs, ctx) of the float64 reference on the arguments, through f."""
        wide = widen(self.arrays, f)
        outputs, ctx = self.spec.forward(reference, wide, self.case.options)
        return wide, as_tuple(outputs), ctx

    @cached_property
    def truth(self):
        return self.reference()

    @cached_property
    def magnitude(self):
        """The same on absolute values, which bounds the rounding of a multilinear operator."""
        return self.reference(np.abs) if self.spec.multilinear else None

    @cached_property
    def dy(self):
        outputs = tuple(y.astype(self.dtype) for y in self.truth[1][: self.spec.outputs])
        return self.spec.draw_dy(outputs, self.dy_seed, self.kind)

    @cached_property
    def gradients(self):
        return self.spec.backward(reference, widen(self.dy), self.truth[2])

    @cached_property
    def gradient_magnitudes(self):
        if self.spec.gradient_terms is not None:
            terms = self.spec.gradient_terms(widen(self.arrays), widen(self.dy), **self.case.options)
            return list(flat({name: terms.get(name) for name in self.spec.grads}).values())
        if self.magnitude is None:
            return None
        return list(flat(self.spec.backward(reference, widen(self.dy, np.abs), self.magnitude[2])).values())

    def forward(self, algo=None) -> Verdict:
        """Compiled forward: outputs, and no argument changed that the reference leaves alone.

        algo: one of spec.algos, or None for the operator's own choice; ValueError if it does not apply (see why_not).
        Fresh memory is NaN while the kernel runs.
        """
        spec, case, dtype = self.spec, self.case, self.dtype
        after, want, _ = self.truth
        magnitudes = None if self.magnitude is None else self.magnitude[1]
        arrays = self.arguments()
        with runtime.poisoned_memory():
            got, ctx = spec.forward(ops, arrays, case.options, **with_algo(algo))
        got, algos = as_tuple(got), [algo_of(ctx)] * len(want)
        verdicts = [compare_all(spec, case, dtype, output_names(want), got, want, magnitudes, self.exact, algos)]
        before, after = flat(self.arrays), flat(after)
        for name, x in flat(arrays).items():
            if isinstance(x, np.ndarray):
                untouched = np.array_equal(before[name], after[name], equal_nan=x.dtype.kind == "f")
                # An update is a sum of what was there and its change, neither of which exceeds twice the larger of
                # these.
                terms = np.maximum(np.abs(after[name]), np.abs(before[name])) if x.dtype.kind == "f" else after[name]
                bound = tolerance(spec, case, dtype, terms, None, self.exact or untouched)
                verdicts.append(compare(x, after[name], bound, f"{name} after the call"))
        return worst(verdicts)

    def backward(self, algo=None) -> Verdict:
        """Compiled backward, after compiled forward; algo as in forward."""
        spec, case, dtype = self.spec, self.case, self.dtype
        want = flat(self.gradients)
        with runtime.poisoned_memory():
            _, ctx = spec.forward(ops, self.arguments(), case.options, **with_algo(algo))
            got = flat(spec.backward(ops, self.dy, ctx))
        if got.keys() != want.keys():
            return failure(f"gradients of {', '.join(got)}, expected those of {', '.join(want)}")
        names, algos = [f"d{name}" for name in want], [algo_of(ctx, name) for name in want]
        results = list(got.values()), list(want.values())
        return compare_all(spec, case, dtype, names, *results, self.gradient_magnitudes, self.exact, algos)


def verify_forward(spec: OpSpec, case: Case, dtype=np.float32, algo=None, kind="normal", seed=0) -> Verdict:
    """One forward pass against the reference; see Problem."""
    return Problem(spec, case, dtype, kind, seed).forward(algo)


def verify_backward(spec: OpSpec, case: Case, dtype=np.float32, algo=None, kind="normal", seed=0) -> Verdict:
    """One backward pass against the reference; see Problem."""
    return Problem(spec, case, dtype, kind, seed).backward(algo)
