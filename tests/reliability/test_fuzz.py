"""Random problems: whatever an operator takes, in whatever layout, it agrees with its reference.

Each example is a case of the operator's strategy (shapes and options) and the way it is run: data, dtype, algorithm,
instruction-set level, threads, the layout of every argument, which gradients are asked for, `keep` and `out`. The long
form explores other examples in each run. FASTNN_FUZZ_RECORD names a file for how many ran to their end (fuzz_table.py).
"""

import json
import os
import time
from functools import cache
from inspect import signature
from pathlib import Path
from typing import NamedTuple

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from layout_support import LAYOUTS
from strategies import FAMILIES, STRATEGIES
from strategies.common import digits
from support import assert_same_bits, copy, each_spec

from fastnn import ops, reference
from fastnn.kernels import runtime
from fastnn.registry import Case, as_tuple, flat, map_arrays, restored, specs
from fastnn.specs import attention, norm, recurrent
from fastnn.verify import Problem, forced, why_not, widen

ISAS = runtime.supported_isas()
THREADS = (1, 1, 1, 2, 3, 4)
DTYPES = (np.dtype(np.float32), np.dtype(np.float64))


def test_every_operator_has_a_strategy():
    assert STRATEGIES.keys() == specs().keys()
    assert len(STRATEGIES) == sum(map(len, FAMILIES.values())), "an operator is in two families"


def test_arguments_without_dimensions_are_arrays():
    """Specs that compute their arguments made numbers of them."""
    for name in ("log", "kl_div", "binary_cross_entropy"):
        spec = specs()[name]
        arrays = spec.inputs(Case(dict.fromkeys(("x",) if name == "log" else ("x", "target"), ())))
        assert all(isinstance(x, np.ndarray) and x.shape == () for x in arrays.values())


@pytest.mark.parametrize(
    ("name", "case", "seed"),
    [
        ("batch_norm", norm.case((0, 3)), 0),  # no mean to divide by
        ("rnn", recurrent.case_of("rnn", 0, 2, 3, 2), 0),  # no largest gradient
        ("scaled_dot_product_attention", attention.case((2,), 0, 3, 4, mask=(0, 3), boolean=True), 0),  # no first query
        ("softmax", Case({"x": (2,)}, {"axis": -1}), 684),  # a gradient of -0.025 is the difference of terms near 0.5
        ("lstm_step", recurrent.case_of("lstm", 1, 1, 1, p=1), 0),
    ],
    ids=str,
)
def test_bounds_of_problems_without_samples_or_with_few_elements(name, case, seed):
    problem = Problem(specs()[name], case, np.float32, seed=seed)
    assert problem.forward()
    assert problem.backward()


class Way(NamedTuple):
    """How a case is run."""

    seed: int
    kind: str
    dtype: np.dtype
    algo: str | None
    isa: str
    threads: int
    layouts: tuple
    """Of each argument, and then of each dy; None: as it is."""
    needs: int
    """A bit for each gradient."""
    keep: bool
    out: str
    """"": none; "apart" or "itself", the first argument."""


@cache
def parameters(name, direction="forward"):
    return signature(specs()[name].function(ops, direction)).parameters


seeds = st.integers(0, 2**24 - 1)
six_layouts = digits(*[len(LAYOUTS) + 1] * 6)


@st.composite
def ways(draw, spec):
    kinds = ("integer", "normal") if spec.exact else ("normal",)
    algos = (None, *spec.algos)
    gradients = len(spec.grads) if spec.grads and "needs" in parameters(spec.name, "backward") else 0
    keep = (True, False) if "keep" in parameters(spec.name) else (True,)
    outs = ("", "apart", "itself") if "out" in parameters(spec.name) else ("",)
    seed = draw(seeds)
    kind, dtype, algo, isa, threads, k, out = draw(
        digits(len(kinds), 2, len(algos), len(ISAS), len(THREADS), len(keep), len(outs))
    )
    layouts = tuple(None if i == 0 else LAYOUTS[i - 1] for _ in range(2) for i in draw(six_layouts))
    (needs,) = draw(digits(2**gradients))
    return Way(
        seed, kinds[kind], DTYPES[dtype], algos[algo], ISAS[isa], THREADS[threads], layouts, needs, keep[k], outs[out]
    )


def is_updated(name, spec, case):
    """Does the operator write to the argument `name`? It is then writable and contiguous."""
    name = name.partition("[")[0]
    training = case.options.get("training", case.options.get("use_input_stats", True))
    return name in spec.updates or (name.startswith("running_") and training)


def laid_out(arrays, layouts, updated=lambda name: False):
    """The arrays (a flat dictionary), each in its layout; a number has only one."""
    found = {}
    for i, (name, x) in enumerate(arrays.items()):
        layout = layouts[i % len(layouts)]
        as_it_is = layout is None or x is None or x.ndim == 0 or updated(name)
        found[name] = (None if x is None else x.copy()) if as_it_is else layout(x)
    return found


def results(spec, arrays, options, dy, needs=None, **extra):
    """All results by name."""
    outputs, ctx = spec.forward(ops, arrays, options, **extra)
    found = {f"y{i}": y for i, y in enumerate(as_tuple(outputs))}
    if spec.grads and ctx is not None:
        found |= {f"d{k}": v for k, v in flat(spec.backward(ops, dy, ctx, **(needs or {}))).items()}
    return found


def check_layouts(spec, problem, way, algo):
    """The same bits as from contiguous arrays, whichever gradients are asked for; arguments unchanged."""
    case = problem.case
    options = dict(case.options) | ({} if algo is None else {"algo": algo})
    like, given = problem.arrays, flat(problem.arrays)
    arrays = laid_out(given, way.layouts, lambda name: is_updated(name, spec, case))
    dys = dict(enumerate(as_tuple(problem.dy))) if spec.grads else {}
    laid_out_dys = laid_out(dys, way.layouts[::-1])
    plain, plain_dys = (
        {k: None if x is None else np.array(x, order="C", subok=False) for k, x in each.items()}
        for each in (arrays, laid_out_dys)
    )

    def gradient(dys):
        return tuple(dys.values()) if spec.outputs > 1 else dys.get(0)

    saved, saved_dys = copy(plain), copy(plain_dys)
    want = results(spec, restored(plain, like), options, gradient(plain_dys))
    extra, needs = {}, None
    if spec.grads and "needs" in parameters(spec.name, "backward"):
        needs = {"needs": tuple(bool(way.needs >> i & 1) for i in range(len(spec.grads)))}
        want |= {f"d{name}": None for name, need in zip(spec.grads, needs["needs"], strict=True) if not need}
    if "keep" in parameters(spec.name):
        extra["keep"] = way.keep
        want = {name: x for name, x in want.items() if way.keep or name.startswith("y")}
    first = next(iter(arrays))
    if way.out == "apart" or (way.out == "itself" and way.keep):
        extra["out"] = np.full_like(plain[first], np.nan, subok=False)
    elif way.out == "itself":
        arrays[first] = extra["out"] = plain[first].copy()
    got = results(spec, restored(arrays, like), options, gradient(laid_out_dys), needs, **extra)
    assert_same_bits(got, want, "laid out")
    assert "out" not in extra or got["y0"] is extra["out"]
    for name, x in arrays.items():
        if x is not None and x is not extra.get("out"):
            after = plain if is_updated(name, spec, case) else saved
            np.testing.assert_array_equal(x, after[name], err_msg=f"{name} was changed")
    for name, x in laid_out_dys.items():
        np.testing.assert_array_equal(x, saved_dys[name], err_msg=f"dy {name} was changed")


class Fuzzed(Problem):
    """A problem whose bounds, on demand, are relative to the largest result and to what a result changes by if all
    arguments do by an eps, in addition to the terms of a gradient where the operator gives them.

    Among few elements each result can be a small difference, as f c + i g of a single LSTM unit. No algorithm can do
    better then than the exact result of arguments that are off in the last place.
    """

    def results(self, f=lambda x: x):
        """Outputs and gradients of the reference on the arguments, through f."""
        outputs, ctx = self.spec.forward(reference, f(widen(self.arrays)), self.case.options)
        grads = self.spec.backward(reference, f(widen(self.dy)), ctx) if self.spec.grads else {}
        return list(as_tuple(outputs)), list(flat(grads).values())

    def magnitudes(self):
        """Of each output and of each gradient."""
        eps, rng = float(np.finfo(self.dtype).eps), np.random.default_rng(self.dy_seed)

        def change(x):
            return x * (1 + eps * rng.choice([-1, 1], x.shape)) if x.dtype.kind == "f" else x

        want = self.results()
        moved = [self.results(lambda arrays: map_arrays(change, arrays)) for _ in range(4)]

        def magnitude(x, others):
            if x is None or x.dtype.kind != "f":
                return None
            if self.spec.name == "js_divergence":  # from 0 to 1, of logarithms of ratios that may be near 1
                return np.full(x.shape, self.truth[2].divisor if self.case.options["reduction"] == "sum" else 1.0)
            return np.full(x.shape, np.abs(x).max(initial=0) + max(np.abs(o - x).max(initial=0) for o in others) / eps)

        return [
            [magnitude(x, others) for x, *others in zip(results, *more, strict=True)]
            for results, *more in zip(want, *moved, strict=True)
        ]

    def verdicts(self, algo):
        """Of forward and of backward, with these bounds where the first ones are exceeded."""
        passes = [("forward", "magnitude")] + [("backward", "gradient_magnitudes")] * bool(self.spec.grads)
        for i, (direction, bound) in enumerate(passes):
            verdict = getattr(self, direction)(algo)
            if not verdict and not self.exact and not self.spec.multilinear and not self.spec.updates:
                magnitudes = self.magnitudes()[i]
                if terms := getattr(self, bound):  # of sums in the gradient; what forward passes to it can cancel, too
                    pairs = zip(magnitudes, terms, strict=True)
                    magnitudes = [m if m is None or t is None else m + t for m, t in pairs]
                setattr(self, bound, (None, magnitudes) if direction == "forward" else magnitudes)
                verdict = getattr(self, direction)(algo)
                delattr(self, bound)
            yield direction, verdict


def check(spec, case, way):
    """One example, against the reference and then against itself."""
    algo = None if why_not(spec, case, way.dtype, way.algo) else way.algo
    problem = Fuzzed(spec, case, way.dtype, way.kind, way.seed)
    with forced(isa=way.isa, threads=way.threads):
        for direction, verdict in problem.verdicts(algo):
            assert verdict, f"{direction}: {verdict}"
        check_layouts(spec, problem, way, algo)


def reads_past_strides(x, y):
    y.flat[-1:] += not x.flags.c_contiguous


def writes_to_its_argument(x, y):
    if x.flags.writeable:
        x += 1


def leaves_the_last_element_out(x, y):
    y.flat[-1:] = np.nan


@pytest.mark.parametrize("fault", [reads_past_strides, writes_to_its_argument, leaves_the_last_element_out])
def test_a_fault_is_found(fault, monkeypatch):
    """Each of these, in an operator, is an example that fails."""
    sigmoid = ops.sigmoid_forward

    def faulty(x, **options):
        y, ctx = sigmoid(x, **options)
        fault(x, y)
        return y, ctx

    monkeypatch.setattr(ops, "sigmoid_forward", faulty)
    layouts = (LAYOUTS[0],) * 12
    way = Way(0, "normal", DTYPES[0], None, ISAS[0], 1, layouts, 0, True, "")
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        check(specs()["sigmoid"], Case({"x": (5, 3)}), way)


class Record:
    """Counts of examples that ran to their end, in the file that FASTNN_FUZZ_RECORD names."""

    def __init__(self, name):
        self.name, self.examples, self.start = name, 0, time.perf_counter()

    def write(self, failed):
        path = os.environ.get("FASTNN_FUZZ_RECORD")
        if path:
            path = Path(path)
            record = json.loads(path.read_text()) if path.exists() else {}
            seconds = round(time.perf_counter() - self.start, 1)
            record[self.name] = {"examples": self.examples, "failed": failed, "seconds": seconds}
            path.write_text(json.dumps(record, indent=1) + "\n")


@each_spec()
@pytest.mark.timeout(3600)
def test_random_problems(spec, scaled):
    record = Record(spec.name)
    count = scaled(200, 10_000)

    @hypothesis.settings(
        max_examples=count,
        derandomize=scaled(hypothesis.settings.default.derandomize, False),
        phases=(hypothesis.Phase.generate, hypothesis.Phase.shrink),
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(case=STRATEGIES[spec.name], way=ways(spec))
    def run(case, way):
        check(spec, case, way)
        record.examples += 1

    failed = True
    try:
        run()
        failed = False
    finally:
        record.write(failed)
    assert record.examples >= count
