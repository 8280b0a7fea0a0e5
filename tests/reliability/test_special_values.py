"""NaN, infinities, signed zeros, subnormal and largest numbers in every lane of every argument of every operator.

One element is replaced at a time. What the kernel then gives is compared, element by element, with

- the kernel's results without it, where the reference's did not change: these must be the same, so that nothing leaks
  into a neighbouring lane, or out of one that is masked;
- the reference in double precision on the same numbers, elsewhere: NaN where it has NaN, the same infinities, and
  finite numbers to half the digits, as in `verify.agree` (rounding is the business of tests/test_ops.py).

Where a number of single precision overflows on the way (the square of the largest one) the reference in the kernel's
own precision may be right instead. Positions cover every lane of the longest vector, and the last elements. What
kernels may do otherwise is in RULES, with reasons.
"""

import re
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import numpy as np
import pytest
from support import algorithms, each_case, each_spec, run, with_algo

from fastnn import ops, reference
from fastnn.kernels import runtime
from fastnn.registry import as_tuple, flat, restored
from fastnn.verify import forced, widen

LANES = 16
"""Of the longest vector: 64 bytes of float32."""

INFINITE = ("nan", "inf", "-inf")
LARGE = (*INFINITE, "max", "-max")
ALL = (*LARGE, "0", "-0", "least", "largest subnormal", "-largest subnormal")


class Rule(NamedTuple):
    """What a kernel may do otherwise than the reference, and why."""

    reason: str
    ops: str
    """A regular expression, like algo, argument and result."""
    kind: str
    """"sign": NaN or an infinity instead of another of them, where the special element counts. In results `near` it,
    whether it counts or not: "spread", the same instead of a number; "rounding", other roundings; "tile", anything."""
    algo: str = ".*"
    argument: str = ".*"
    values: tuple = LARGE
    result: str = ".*"
    near: str = "sample"
    """In the same sample ("sample"), of the same filter ("filter") or channel ("channel"), or everywhere ("all")."""

    def holds(self, op, algo, argument, value, result):
        expressions = (self.ops, op), (self.algo, algo or ""), (self.argument, argument), (self.result, result)
        return value in self.values and all(re.fullmatch(e, text) for e, text in expressions)


NORMS = "(batch|layer|group|instance|rms)_norm|whiten"
ATTENTION = ".*attention.*"

OVERFLOW = "cross_entropy|binary_cross_entropy|js_divergence|lp_pool.*|local_response_norm|rnn.*"

RULES = (
    Rule("Winograd's transforms round the elements of a tile together", "conv.*", "rounding", "winograd.*", values=ALL,
         near="all"),
    Rule("and mix them", "conv.*", "tile", "winograd.*", "x|dy", result="y0|dx"),
    Rule("and the gradient of the filters all tiles", "conv.*", "tile", "winograd.*", "x|dy", result="dw", near="all"),
    Rule("and those of a filter", "conv.*", "tile", "winograd.*", "w", near="filter"),
    Rule("padding is zeros that are multiplied with the filters, as in the forward pass: 0 inf is NaN", "conv.*",
         "spread", "implicit|im2col|depthwise", "w", INFINITE, near="filter"),
    Rule("so are pixels that no window has, with gradients of 0, for the gradient of the filters", "conv.*", "spread",
         "depthwise", "x|dy", result="dw", near="all"),
    Rule("a NaN among a query's scores, or an infinite gradient at its weights, reaches the keys that it does not see, "
         "as torch's softmax has it", ATTENTION, "spread"),
    Rule("the weight of the only key that a query sees is 1 up to rounding", ATTENTION, "rounding", values=ALL),
    Rule("sums of the backward pass meet infinities in another order", f"{ATTENTION}|cross_entropy", "sign"),
    Rule("x a + b with b = bias - mean a is inf - inf for an infinite weight or statistic, as in torch; and sums of "
         "the backward pass meet infinities in another order", NORMS, "sign"),
    Rule("and a ReLU makes 0 of some of these", "batch_norm", "tile", values=("inf", "-inf", "max", "-max"),
         near="channel"),
    Rule("squares and products overflow on the way", f"{NORMS}|{ATTENTION}", "spread", values=("max", "-max"),
         near="all"),
    Rule("so do sums and powers, before a 0 is made of them", OVERFLOW, "spread", values=("max", "-max"), near="all"),
    Rule("and a ReLU makes 0 of NaN's gradient", "rnn.*", "tile", values=("max", "-max"), near="all"),
    Rule("x^-1 of a subnormal number is infinite", "lp_pool.*", "spread", values=ALL),
    Rule("all samples are multiplied with one matrix by BLAS", "whiten", "rounding", values=ALL, near="all"),
)  # fmt: skip


def special(dtype):
    """Values by name."""
    info = np.finfo(dtype)
    values = {
        "nan": np.nan,
        "inf": np.inf,
        "-inf": -np.inf,
        "0": 0.0,
        "-0": -0.0,
        "least": info.smallest_subnormal,
        "largest subnormal": info.tiny - info.smallest_subnormal,
        "-largest subnormal": info.smallest_subnormal - info.tiny,
        "max": info.max,
        "-max": info.min,
    }
    return {name: dtype.type(value) for name, value in values.items()}


def size_of(shape):
    if isinstance(shape, list):
        return sum(map(size_of, shape))
    return 0 if shape is None else int(np.prod(shape))


def small_case(spec):
    """The smallest case whose first argument has a vector and a tail; the largest if none has."""
    first = next(iter(spec.cases[0].shapes))
    by_size = sorted(spec.cases, key=lambda case: size_of(case.shapes[first]))
    return next((case for case in by_size if size_of(case.shapes[first]) > 2 * LANES), by_size[-1])


def positions(size, rng, each):
    """`each` positions of every lane modulo LANES, as far as there are so many, and the last."""
    found = {size - 1}
    for lane in range(min(LANES, size)):
        found.update(int(p) for p in rng.choice(np.arange(lane, size, LANES), each))
    return sorted(found)


def placed(arguments, name, position, value):
    """The arguments with one element replaced."""
    changed = flat(arguments)
    changed[name] = changed[name].copy()
    changed[name].reshape(-1)[position] = value
    return restored(changed, arguments)


@contextmanager
def level(isa, past):
    """An instruction-set level; past: results go past the caches as those of large arrays do."""
    with ExitStack() as stack:
        stack.enter_context(forced(isa))
        if past:
            stack.callback(runtime.set_last_cache_bytes, runtime.set_last_cache_bytes(0))
        yield


def same(a, b):
    """Elementwise: equal, or both NaN."""
    return (a == b) | ((a != a) & (b != b))


def near(rule, op, result, shape, index, size):
    """Where a result of a shape may differ by the rule, as an index of it; index: where the special element is in an
    argument of shape `size`."""
    if rule.near == "sample" and shape[:1] == size[:1]:
        return index[:1]
    if rule.near == "channel":
        channel = index[1] if len(size) > 1 else index[0]
        return (slice(None), channel) if len(shape) > 1 else channel
    if rule.near == "filter" and result in (
        "y0",
        "dx",
    ):  # (K, C / groups, …), of a transposed convolution (C, K / groups, …)
        first = (result == "dx") == op.startswith("conv_transpose")
        return (slice(None), index[0] if first else slice(index[1], None, size[1]))
    return ...


class Problem:
    """A case without special values: arguments, gradients at the outputs, and what the reference makes of them."""

    def __init__(self, spec, case, dtype):
        self.spec, self.case, self.dtype = spec, case, dtype
        self.arguments = spec.inputs(case, dtype, seed=3)
        outputs = as_tuple(spec.forward(reference, widen(self.arguments), case.options)[0])
        if spec.grads:
            dy = spec.draw_dy(tuple(y.astype(dtype) for y in outputs[: spec.outputs]))
            self.arguments = {**self.arguments, "dy": list(dy) if isinstance(dy, tuple) else dy}
        self.truth = self.reference(self.arguments)

    def run(self, module, arguments, options):
        arrays = {name: x for name, x in arguments.items() if name != "dy"}
        dy = arguments.get("dy")
        with np.errstate(all="ignore"):
            return run(self.spec, module, arrays, options, tuple(dy) if isinstance(dy, list) else dy)

    def reference(self, arguments, wide=True):
        return self.run(reference, widen(arguments) if wide else arguments, self.case.options)

    def kernels(self, arguments, algo):
        return self.run(ops, arguments, with_algo(self.case, algo).options)


def wrong(got, clean, want, before, narrow, scale, rules):
    """What is wrong with one result, as text; None if nothing is.

    got, clean: the kernel's with and without the special value; want, before: the reference's; narrow: that of the
    kernel's own precision; scale: the special value's magnitude, which what it adds to is rounded to. rules: pairs of a
    kind and an index.
    """
    if want.dtype.kind != "f":
        return None if np.array_equal(got, want) else f"got {got}, expected {want}"
    with np.errstate(all="ignore"):
        independent = np.asarray(same(want, before))
        eps = float(np.finfo(got.dtype).eps)
        # Arguments are of order 1, and so are the terms of sums that cancel.
        bound = eps**0.5 * np.abs(want[np.isfinite(want)]).max(initial=0) + 4 * eps * max(scale, 4)
        close = same(got, want.astype(got.dtype)) | (np.abs(got - want) <= bound)
        right = np.where(independent, same(got, clean), close | same(got, narrow) | (np.abs(got - narrow) <= bound))
        if scale > 1:  # what overflows in the reference need not do so in the kernel
            right |= ~independent & ~np.isfinite(want)
        for kind, index in rules:
            here = np.zeros(want.shape, bool)
            here[index] = True
            right |= {
                "sign": ~independent & ~np.isfinite(want) & ~np.isfinite(got),
                "spread": here & ~np.isfinite(got),
                "tile": here,
                "rounding": here & close,
            }[kind]
    if right.all():
        return None
    i = tuple(map(int, np.argwhere(~right)[0]))
    text = f"expected {want[i]} or {narrow[i]}" if not independent[i] else f"expected {clean[i]} as without it"
    return f"{(~right).sum()} of {right.size} wrong, first {i}: got {got[i]}, {text}"


def failures(spec, case, dtype, each, product):
    """Descriptions of what is wrong, for each value, argument, algorithm and result; and how many calls were made.

    product: every value at every position, at all levels, past the caches and not; else they take turns.
    """
    problem, values, calls = Problem(spec, case, dtype), special(dtype), 0
    rng, found, clean = np.random.default_rng(11), {}, {}
    algos, levels = algorithms(spec, case, dtype), runtime.supported_isas()
    for name, x in flat(problem.arguments).items():
        if x is None or x.dtype.kind != "f" or not x.size:
            continue
        for k, position in enumerate(positions(x.size, rng, each)):
            index = tuple(map(int, np.unravel_index(position, x.shape)))
            for value in values if product else [list(values)[k % len(values)]]:
                arguments = placed(problem.arguments, name, position, values[value])
                want = problem.reference(arguments)
                narrow = problem.reference(arguments, wide=False) if value in ("max", "-max") else want
                scale = float(abs(values[value])) if np.isfinite(values[value]) else 0.0
                for variant in ((isa, past, algo) for isa in levels for algo in algos
                                for past in ((False, True) if product else (k % 2 == 1,))):  # fmt: skip
                    isa, past, algo = variant
                    with level(isa, past):
                        if variant not in clean:
                            clean[variant] = problem.kernels(problem.arguments, algo)
                        got = problem.kernels(arguments, algo)
                    calls += 1
                    for result, w in want.items():
                        if w is None:
                            continue
                        rules = [(rule.kind, near(rule, spec.name, result, w.shape, index, x.shape)) for rule in RULES
                                 if rule.holds(spec.name, algo, name, value, result)]  # fmt: skip
                        what = wrong(got[result], clean[variant][result], w, problem.truth[result], narrow[result],
                                     scale, rules)  # fmt: skip
                        if what:
                            where = f"{value} at {index} of {name}{x.shape}, {' '.join(filter(None, (isa, algo)))}"
                            found.setdefault((value, name, algo, result), f"{case}: {where}: {result}: {what}")
    return list(found.values()), calls


@each_spec()
def test_special_values_in_every_lane(spec, dtype):
    found, calls = failures(spec, small_case(spec), dtype, 1, False)
    assert calls > 0
    assert not found, "\n".join(found)


def test_a_channel_with_a_nan_changes_no_other(dtype, isa):
    """Batch norm of (N, C) centred all channels of a vector anew when one was not finite: other roundings."""
    x = np.random.default_rng(0).standard_normal((70, 67)).astype(dtype)
    clean, _ = ops.batch_norm_forward(x, training=True)
    x[2, 1] = np.nan
    y, _ = ops.batch_norm_forward(x, training=True)
    assert np.isnan(y[:, 1]).all()
    np.testing.assert_array_equal(np.delete(y, 1, 1), np.delete(clean, 1, 1))


@pytest.mark.parametrize("shape", [(5, 37), (5, 37, 2)], ids=str)
@pytest.mark.parametrize("weight", [np.nan, np.inf])
def test_weights_of_classes_that_are_no_targets_do_not_count(torch, dtype, isa, shape, weight):
    """The gradient of cross-entropy was NaN everywhere: 0 times the weight."""
    x = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    target, weights = np.ones(shape[:1] + shape[2:], np.int64), np.ones(37, dtype)
    weights[5] = weight
    loss, ctx = ops.cross_entropy_forward(x, target, weights)
    leaf = torch.tensor(x, requires_grad=True)
    want = torch.nn.functional.cross_entropy(leaf, torch.tensor(target), torch.tensor(weights))
    want.backward()
    bound = 64 * np.finfo(dtype).eps
    assert abs(loss - want.item()) <= bound
    assert np.abs(ops.cross_entropy_backward(np.ones((), dtype), ctx) - leaf.grad.numpy()).max() <= bound


@pytest.mark.slow
@each_spec()
def test_every_special_value_in_every_lane(spec, dtype):
    found, _ = failures(spec, small_case(spec), dtype, 1, True)
    assert not found, "\n".join(found)


LARGEST = 5000
"""Elements of an argument; larger cases are there for tiles and threads."""


@pytest.mark.slow
@each_case(where=lambda spec, case: max(map(size_of, case.shapes.values())) <= LARGEST)
def test_special_values_in_every_case(spec, case, dtype):
    """One value at each position."""
    found, _ = failures(spec, case, dtype, 1, False)
    assert not found, "\n".join(found)
