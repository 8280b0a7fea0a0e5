"""Every operator of the registry, compiled, against its reference and against itself."""

import numpy as np
import pytest
from support import algorithms, assert_same_bits, copy, differentiable, each_case, each_spec, run, with_algo

from fastnn import ops, reference
from fastnn.kernels import runtime
from fastnn.registry import as_tuple, flat
from fastnn.verify import Problem, forced, widen

# Operators for which a batch of no samples has no meaning, and why: they raise ValueError.
NO_EMPTY_BATCH: dict[str, str] = {}


def verify(spec, case, dtype, kind, seed):
    """Forward and backward are within their bounds of the reference, with every algorithm that takes the case, at
    every number of threads."""
    problem = Problem(spec, case, dtype, kind, seed)
    for algo in algorithms(spec, case, dtype):
        for threads in (1, 2, 3):
            with forced(threads=threads):
                forward = problem.forward(algo)
                assert forward, f"forward, {algo}, {threads} threads: {forward}"
                if spec.grads:
                    backward = problem.backward(algo)
                    assert backward, f"backward, {algo}, {threads} threads: {backward}"


@each_case(lambda spec: spec.exact)
def test_integers_are_exact(spec, case, dtype, isa):
    """Sums of small integers do not round: not one bit may differ, in whatever order a kernel adds."""
    verify(spec, case, dtype, "integer", seed=2)


@each_case()
def test_random_numbers_within_the_bound(spec, case, dtype, isa):
    verify(spec, case, dtype, "distinct" if spec.distinct else "normal", seed=3)


@each_case()
def test_same_bits_at_any_thread_count(spec, case, dtype, isa):
    """And from run to run, and whatever fresh memory holds."""
    arrays = spec.inputs(case, dtype, seed=4)
    for algo in algorithms(spec, case, dtype):
        options = with_algo(case, algo).options
        with forced(threads=1):
            want = run(spec, ops, arrays, options)
            with runtime.poisoned_memory():
                assert_same_bits(run(spec, ops, arrays, options), want, "on poisoned memory")
        for threads in (2, 3, 4, 7):
            with forced(threads=threads):
                assert_same_bits(run(spec, ops, arrays, options), want, f"{threads} threads")
        assert_same_bits(run(spec, ops, arrays, options), want, "threads by size of the work")


@each_case(lambda spec: bool(spec.algos))
def test_an_algorithm_declines_with_a_reason(spec, case):
    for algo in set(spec.algos) - set(algorithms(spec, case, np.float32)):
        with pytest.raises(ValueError, match=f"^{spec.name}: .*{algo}"):
            spec.forward(ops, spec.inputs(case), case.options, algo=algo)


@each_spec(lambda spec: bool(spec.algos))
def test_every_algorithm_takes_some_case(spec):
    taken = {algo for case in spec.cases for algo in algorithms(spec, case, np.float32)}
    assert taken == set(spec.algos)
    case = spec.cases[0]
    with pytest.raises(ValueError, match=f"^{spec.name}: .*algo.*guesswork.*auto"):
        spec.forward(ops, spec.inputs(case), case.options, algo="guesswork")


@each_case(lambda spec: not spec.updates)
def test_inference_keeps_nothing(spec, case, dtype):
    arrays = spec.inputs(case, dtype, seed=5)
    for module in (ops, reference):
        outputs, ctx = spec.forward(module, copy(arrays), case.options, keep=False)
        assert ctx is None
        got = {f"y{i}": y for i, y in enumerate(as_tuple(outputs))}
        want = run(spec, module, arrays, case.options)
        assert_same_bits(got, {name: want[name] for name in got}, "keep=False")


@each_case()
def test_results_are_fresh(spec, case):
    """Contiguous, writable, and sharing memory neither with an argument nor with each other."""
    arrays = spec.inputs(case, np.float32, seed=6)
    outputs, ctx = spec.forward(ops, arrays, case.options)
    results = list(as_tuple(outputs))
    if spec.grads:
        dy = spec.draw_dy(outputs)
        results += flat(spec.backward(ops, dy, ctx)).values()
        arrays |= {f"dy{i}": x for i, x in enumerate(as_tuple(dy))}
    results = [y for y in results if isinstance(y, np.ndarray)]
    for i, y in enumerate(results):
        assert y.flags.c_contiguous and y.flags.writeable and y.flags.aligned
        for other in (*flat(arrays).values(), *results[:i]):
            assert other is None or not np.shares_memory(y, other)


@each_case(differentiable)
def test_backward_can_be_repeated(spec, case):
    """It leaves dy and the context as they are."""
    outputs, ctx = spec.forward(ops, spec.inputs(case, np.float32, seed=7), case.options)
    dy = spec.draw_dy(outputs)
    before = [x.copy() for x in as_tuple(dy)]
    first = flat(spec.backward(ops, dy, ctx))
    assert_same_bits(flat(spec.backward(ops, dy, ctx)), first, "second backward")
    assert_same_bits(dict(enumerate(as_tuple(dy))), dict(enumerate(before)), "dy")


@each_case(lambda spec: len(spec.grads) > 1)
def test_needless_gradients_are_none(spec, case):
    """needs=… leaves out what is not wanted, and does not change what is."""
    for module in (ops, reference):
        outputs, ctx = spec.forward(module, spec.inputs(case, np.float32, seed=8), case.options)
        dy = spec.draw_dy(outputs)
        want = spec.backward(module, dy, ctx)
        for i, name in enumerate(spec.grads):
            for needs in ([j == i for j in range(len(spec.grads))], [j != i for j in range(len(spec.grads))]):
                got = spec.backward(module, dy, ctx, needs=tuple(needs))
                expected = {key: want[key] if need else None for key, need in zip(want, needs, strict=True)}
                assert_same_bits(got, expected, f"needs={needs}, {name}")


def empty_batch(spec, case, axes):
    """The case with no samples."""

    def without(s, axis):
        return [without(each, axis) for each in s] if isinstance(s, list) else (*s[:axis], 0, *s[axis + 1 :])

    emptied = {name: without(case.shapes[name], axis) for name, axis in axes.items() if case.shapes.get(name)}
    return case._replace(shapes={**case.shapes, **emptied})


@each_case(lambda spec: spec.name not in NO_EMPTY_BATCH)
def test_empty_batch(spec, case, dtype):
    """No samples give outputs without samples, and gradients of zero for what the samples share."""
    axes = spec.batch(case)
    if not axes:
        pytest.skip("a single sample, without a batch axis")
    arrays = spec.inputs(empty_batch(spec, case, axes), dtype)
    got, want = (run(spec, module, arrays, case.options) for module in (ops, reference))
    assert got["y0"].size == 0 or got["y0"].ndim == 0  # a loss reduced to one number
    assert_same_bits(got, want, "empty batch")
    assert not any(y.any() for name, y in got.items() if name.startswith("d") and y is not None)


@each_spec(lambda spec: spec.name in NO_EMPTY_BATCH)
def test_empty_batch_is_an_error(spec):
    case = spec.cases[0]
    with pytest.raises(ValueError, match=f"^{spec.name}: "):
        spec.forward(ops, spec.inputs(empty_batch(spec, case, {"x": 0})), case.options)


@each_case(complete=True)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_special_values(spec, case, value, dtype, isa):
    """NaN comes out wherever the definition has one, from one element that is NaN or infinite.

    The reverse holds only for some algorithms: Winograd's transforms spread a NaN over the whole tile. Cases without
    some argument are left out: the term is absent then, and not zeros that would turn an infinity into NaN.
    """
    for name in spec.grads:
        arrays = spec.inputs(case, dtype, seed=9)
        if arrays[name] is None:
            continue
        first = arrays[name][0] if isinstance(arrays[name], list) else arrays[name]
        first.flat[first.size // 2] = value
        with np.errstate(all="ignore"):
            want = run(spec, reference, widen(arrays), case.options)
        for algo in algorithms(spec, case, dtype):
            got = run(spec, ops, arrays, with_algo(case, algo).options)
            for key, w in want.items():
                if isinstance(w, np.ndarray) and w.dtype.kind == "f":
                    missing = np.argwhere(np.isnan(w) & ~np.isnan(got[key]))
                    assert not len(missing), f"{algo}: {value} in {name}, {key} is not NaN at {missing[0]}"
