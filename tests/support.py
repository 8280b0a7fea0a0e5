"""Helpers of the registry-driven tests: cases as parameters, and an operator's results by name."""

import numpy as np
import pytest

from fastnn.registry import as_tuple, flat, map_arrays, specs
from fastnn.verify import why_not


def each_case(condition=lambda spec: True, complete=False, where=lambda spec, case: True):
    """Decorator: the test runs on every correctness case, as `spec` and `case`, of every operator with condition;
    complete: on those cases that leave no argument out; where: on those that it holds for."""
    return pytest.mark.parametrize(
        ("spec", "case"),
        [
            pytest.param(spec, case, id=f"{spec.name}: {case}")
            for spec in specs().values()
            if condition(spec)
            for case in spec.cases
            if not (complete and None in case.shapes.values()) and where(spec, case)
        ],
    )


def each_spec(condition=lambda spec: True):
    """Decorator: the test runs once for every operator with condition, as `spec`."""
    return pytest.mark.parametrize(
        "spec", [pytest.param(spec, id=spec.name) for spec in specs().values() if condition(spec)]
    )


def differentiable(spec):
    return bool(spec.grads)


def algorithms(spec, case, dtype):
    """The algorithms that take this case; [None] if the operator has only one."""
    return [algo for algo in spec.algos if why_not(spec, case, dtype, algo) is None] or [None]


def arrays_of(arguments):
    """The arrays among arguments by name, those in lists one by one."""
    return [x for x in flat(arguments).values() if isinstance(x, np.ndarray)]


def smallest(spec):
    """The case of an operator with fewest bytes."""
    return min(spec.cases, key=lambda case: sum(x.nbytes for x in arrays_of(spec.inputs(case))))


def with_algo(case, algo):
    return case if algo is None else case._replace(options={**case.options, "algo": algo})


def copy(arrays):
    return map_arrays(np.copy, arrays)


def run(spec, module, arrays, options, dy=None):
    """Outputs and gradients by name, from copies of the arrays: {"y0": …, "dx": …}, those of a list one by one; and the
    arrays after the call, because some operators update their arguments (running statistics): {"x after": …}.

    dy: gradients at the outputs; random ones by default, the same for the same shapes.
    """
    arrays = copy(arrays)
    outputs, ctx = spec.forward(module, arrays, options)
    results = {f"y{i}": y for i, y in enumerate(as_tuple(outputs))}
    if spec.grads:
        dy = spec.draw_dy(outputs) if dy is None else dy
        results |= {f"d{name}": dx for name, dx in flat(spec.backward(module, dy, ctx)).items()}
    return results | {f"{name} after": x for name, x in flat(arrays).items()}


def assert_same_bits(got, want, what):
    """Dictionaries of arrays (or None) are equal bit for bit: shapes, dtypes, signs of zero, NaN payloads."""
    assert got.keys() == want.keys()
    for name in want:
        g, w = got[name], want[name]
        if not isinstance(w, np.ndarray):
            assert g is w or g == w, f"{what}: {name}"
            continue
        assert (g.dtype, g.shape) == (w.dtype, w.shape), f"{what}: {name}"
        if g.tobytes() != w.tobytes():
            with np.errstate(all="ignore"):
                differ = np.argwhere(~((g == w) | (np.isnan(g) & np.isnan(w))))
            where = tuple(differ[0]) if len(differ) else "a sign of zero or a NaN's payload"
            values = f": {g[where]!r}, {w[where]!r}" if len(differ) else ""
            pytest.fail(f"{what}: {name} differs in {len(differ)} of {g.size} elements, first at {where}{values}")


def wider(dtype):
    wide = np.float64 if dtype == np.float32 else np.longdouble
    if np.finfo(wide).nmant < 2 * np.finfo(dtype).nmant - 45:
        pytest.skip("no type wider than double here")
    return wide


def ulps(y, exact):
    """|y - exact| in units of the last place of y's dtype at exact; infinities and NaN must agree."""
    info = np.finfo(y.dtype)
    rounded = exact.astype(y.dtype)
    finite = np.isfinite(rounded)
    np.testing.assert_array_equal(y[~finite], rounded[~finite])
    assert np.isfinite(y[finite]).all()
    _, exponent = np.frexp(exact[finite])
    ulp = np.ldexp(exact.dtype.type(1), np.maximum(exponent, info.minexp + 1) - info.nmant - 1)
    error = np.zeros(y.shape)
    error[finite] = np.abs(y[finite].astype(exact.dtype) - exact[finite]) / ulp
    return error


def samples(dtype):
    """Values of every magnitude, and densely where the functions bend."""
    rng = np.random.default_rng(0)
    if dtype == np.float32:
        # every 4099th of all bit patterns: a prime, so that the low bits vary
        x = np.arange(0, 2**32, 4099, dtype=np.uint64).astype(np.uint32).view(np.float32)
    else:
        x = rng.integers(0, 2**64, 300_000, dtype=np.uint64).view(np.float64)
    dense = [rng.uniform(-s, s, 50_000).astype(dtype) for s in (1e-3, 0.3, 1, 3, 7, 20, 110, 750)]
    return np.concatenate([x[np.isfinite(x)], *dense])
