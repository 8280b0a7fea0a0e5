"""Functions of one element: accuracy in units of the last place over all magnitudes, special values, and `out`.

Agreement with the reference over shapes and options, gradients, and errors of dtype are in the tests that iterate over
the registry.
"""

import math

import numpy as np
import pytest
from support import samples, ulps, wider

from fastnn import functional as F
from fastnn import ops, reference
from fastnn.kernels import runtime
from fastnn.specs import elementwise
from fastnn.verify import forced

INF, NAN = np.inf, np.nan
DTYPES = [np.float32, np.float64]


# ---- the truth, in a type wider than the kernels' ----


def upper_half(x):
    """x with half of its bits: its square is exact."""
    return x.astype(np.float32 if x.dtype == np.longdouble else np.float16).astype(x.dtype)


def erf_series(x):
    """2/√π exp(-x²) Σ 2ⁿ x²ⁿ⁺¹ / (2n+1)!!, for |x| <= 2: all terms have one sign."""
    term, total, n = x, x, 0
    while np.abs(term).max(initial=0) > 1e-22:
        n += 1
        term = term * (2 * x * x / (2 * n + 1))
        total = total + term
    return 2 / np.sqrt(PI.astype(x.dtype)) * np.exp(-x * x) * total


def erfc_fraction(z):
    """exp(-z²)/√π / (z + ½/(z + 1/(z + 3/2/(z + …)))), for z >= 2."""
    fraction = z
    for k in range(120, 0, -1):
        fraction = z + (z.dtype.type(k) / 2) / fraction
    h = upper_half(z)
    return np.exp(-h * h) * np.exp(-(z - h) * (z + h)) / np.sqrt(PI.astype(z.dtype)) / fraction


PI = np.array("3.14159265358979323846264338327950288", np.longdouble)


def erfc(z):
    """Of z >= 0."""
    y = np.empty_like(z)
    small = z < 2
    y[small] = 1 - erf_series(z[small])
    y[~small] = erfc_fraction(z[~small])
    return y


def erf(x):
    y = np.sign(x)
    a = np.abs(x)
    small, middle = a < 1, (a >= 1) & (a < 8)
    y[small] = erf_series(x[small])
    y[middle] *= 1 - erfc(a[middle])
    return y


def gelu(x):
    y = np.where(x < 0, 0, x)
    near = np.abs(x) < 50
    tail = np.abs(x[near]) * erfc(np.abs(x[near]) / np.sqrt(x.dtype.type(2))) / 2
    y[near] -= tail
    return y


def sigmoid(x):
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1) / (1 + e)


def silu(x):
    x = np.maximum(x, -2000)
    return x * sigmoid(x)


def elu(x):
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


def softplus(x):
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def log(x):
    return np.log(np.where(x < 0, NAN, x))


# Function, truth, largest error in units of the last place.
ACCURATE = {
    "sigmoid": (F.sigmoid, sigmoid, 4),
    "tanh": (F.tanh, np.tanh, 4),
    "exp": (F.exp, np.exp, 2),
    "log": (F.log, log, 2),
    "erf": (F.erf, erf, 4),
    "elu": (F.elu, elu, 4),
    "silu": (F.silu, silu, 4),
    "gelu": (F.gelu, gelu, 6),
    "softplus": (lambda x: F.softplus(x, threshold=1e30), softplus, 4),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ACCURATE)
def test_error_in_units_of_the_last_place(name, dtype):
    function, truth, bound = ACCURATE[name]
    x = samples(dtype)
    with np.errstate(all="ignore"):
        exact = truth(x.astype(wider(dtype)))
        for isa in runtime.supported_isas():
            with forced(isa=isa):
                error = ulps(function(x), exact)
            assert error.max() <= bound, f"{isa}: {error.max()} ulp at {x[error.argmax()]!r}"


CHUNK = 2**22


def float64_of(f, inside):
    """f of Python floats, of those that `inside` selects; and what else() gives, of the others."""

    def apply(x, otherwise):
        y = otherwise(x)
        near = inside(x)
        y[near] = np.frompyfunc(f, 1, 1)(x[near]).astype(np.float64)
        return y

    return apply


# In double precision, fast enough for 2^32 values: where the function is not a line or constant to 32 bits, from libm.
EXHAUSTIVE = {name: row[1] for name, row in ACCURATE.items()} | {
    "erf": lambda x: float64_of(math.erf, lambda x: (np.abs(x) > 2.0**-16) & (np.abs(x) < 6))(
        x, lambda x: np.where(np.abs(x) < 1, x * (2 / math.sqrt(math.pi)), np.sign(x))
    ),
    "gelu": lambda x: float64_of(
        lambda x: x * math.erfc(-x / math.sqrt(2)) / 2, lambda x: (np.abs(x) > 2.0**-17) & (np.abs(x) < 20)
    )(x, lambda x: np.where(np.abs(x) < 1, x / 2 + x * x / math.sqrt(2 * math.pi), np.maximum(x, 0))),
}


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", ACCURATE)
def test_every_float32(name, record_property):
    """All 2^32 bit patterns, at every level."""
    function, _, bound = ACCURATE[name]
    worst = dict.fromkeys(runtime.supported_isas(), (0.0, None))
    with np.errstate(all="ignore"):
        for first in range(0, 2**32, CHUNK):
            x = np.arange(first, first + CHUNK, dtype=np.uint64).astype(np.uint32).view(np.float32)
            exact = EXHAUSTIVE[name](x.astype(np.float64))
            rounded = exact.astype(np.float32)
            steps = rounded.view(np.int32)
            for isa in worst:
                with forced(isa=isa, threads=1):
                    y = function(x)
                # The distance in floating-point numbers is the error to half a unit; the worst are looked at closely.
                distance = np.abs(y.view(np.int32) - steps)
                distance[(y == rounded) | (np.isnan(y) & np.isnan(rounded))] = 0
                most = distance.max()
                if most and most + 0.5 > worst[isa][0]:
                    some = distance >= most - 1
                    error = ulps(y[some], exact[some])
                    worst[isa] = max(
                        worst[isa], (float(error.max()), float(x[some][error.argmax()])), key=lambda w: w[0]
                    )
    for isa, (error, where) in worst.items():
        print(f"{name} {isa}: {error:.3f} ulp at {where!r}")
        record_property(f"{name} {isa}", error)
    assert max(error for error, _ in worst.values()) <= bound, worst


# ---- special values ----

SPECIAL = np.array([0.0, -0.0, INF, -INF, NAN])
# Of +0, -0, +inf, -inf, NaN.
VALUES = {
    "relu": (F.relu, [0.0, 0.0, INF, 0.0, NAN]),
    "sigmoid": (F.sigmoid, [0.5, 0.5, 1, 0, NAN]),
    "tanh": (F.tanh, [0.0, -0.0, 1, -1, NAN]),
    "leaky_relu": (F.leaky_relu, [0.0, -0.0, INF, -INF, NAN]),
    "elu": (F.elu, [0.0, -0.0, INF, -1, NAN]),
    "gelu": (F.gelu, [0.0, -0.0, INF, -0.0, NAN]),
    "gelu_tanh": (lambda x: F.gelu(x, "tanh"), [0.0, -0.0, INF, -0.0, NAN]),
    "silu": (F.silu, [0.0, -0.0, INF, -0.0, NAN]),
    "softplus": (lambda x: F.softplus(x, threshold=INF), [np.log(2), np.log(2), INF, 0, NAN]),
    "hardtanh": (F.hardtanh, [0.0, -0.0, 1, -1, NAN]),
    "relu6": (F.relu6, [0.0, 0.0, 6, 0, NAN]),
    "hardsigmoid": (F.hardsigmoid, [0.5, 0.5, 1, 0, NAN]),
    "hardswish": (F.hardswish, [0.0, -0.0, INF, -0.0, NAN]),
    "exp": (F.exp, [1, 1, INF, 0, NAN]),
    "log": (F.log, [-INF, -INF, INF, NAN, NAN]),
    "erf": (F.erf, [0.0, -0.0, 1, -1, NAN]),
}


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("length", [1, 16, 35])
def test_zeros_infinities_and_nan(name, length, dtype, isa):
    """Alone, and in a vector of common numbers."""
    function, want = VALUES[name]
    for value, y in zip(SPECIAL, want, strict=True):
        x = np.full(length, 0.25, dtype)
        x[length // 2] = value
        got = function(x)[length // 2]
        np.testing.assert_array_equal(got, dtype.type(y), err_msg=str(value))
        if not np.isnan(y) and name not in ("relu6",):
            assert np.signbit(got) == np.signbit(y), f"sign of the result for {value}"


@pytest.mark.parametrize("name", VALUES)
def test_subnormals(name, dtype, isa):
    """Functions that are lines through 0 keep them, exactly where the slope is 1, else within 6 units."""
    function, _ = VALUES[name]
    x = np.array([1, 2, 3, 1000, -1, -5], dtype) * np.finfo(dtype).smallest_subnormal
    y = function(x)
    slope = {"tanh": 1, "elu": 1, "hardtanh": 1, "gelu": 0.5, "gelu_tanh": 0.5, "silu": 0.5, "hardswish": 0.5}
    if name in slope:
        assert (
            np.abs(y - x * slope[name]) <= (0 if slope[name] == 1 else 6) * np.finfo(dtype).smallest_subnormal
        ).all()
    assert np.isfinite(y[: 4 if name == "log" else None]).all()


@pytest.mark.parametrize("name", VALUES)
def test_a_value_gives_the_same_result_in_every_lane(name, dtype, isa):
    """Among others like it, and in a vector with one that needs precautions."""
    function, _ = VALUES[name]
    for value in np.array([-3.3, -0.7, 0.1, 2.6, 30.0, -63.0, -95.0], dtype):
        alone = function(np.full(1, value))[0]
        for n in (2, 3, 7, 8, 15, 16, 17, 33):
            x = np.full(n, value)
            np.testing.assert_array_equal(function(x), np.full(n, alone))
            x[0] = -INF
            np.testing.assert_array_equal(function(x)[1:], np.full(n - 1, alone))


def test_softplus_is_the_identity_above_its_threshold(dtype):
    x = np.array([0.5, 1.0, 1.5, 3.0], dtype)
    y, ctx = ops.softplus_forward(x, beta=2.0, threshold=2.0)
    np.testing.assert_array_equal(y[2:], x[2:])
    assert (y[:2] > x[:2]).all()
    np.testing.assert_array_equal(ops.softplus_backward(np.ones_like(x), ctx)[2:], 1)


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gradients_vanish_or_pass_at_infinity(approximate, dtype, isa):
    """No inf times 0."""
    x = np.array([INF, -INF, 1e6, -1e6], dtype)
    for op, options in (("gelu", {"approximate": approximate}), ("silu", {}), ("softplus", {}), ("elu", {})):
        _, ctx = getattr(ops, f"{op}_forward")(x, **options)
        dx = getattr(ops, f"{op}_backward")(np.ones_like(x), ctx)
        np.testing.assert_array_equal(dx, [1, 0, 1, 0], err_msg=op)


# ---- out ----

each_function = pytest.mark.parametrize("spec", elementwise.SPECS, ids=lambda spec: spec.name)


@each_function
def test_out(spec, dtype):
    """Written to another array or to x itself, the result is the same; the reference does it as well."""
    case = spec.cases[1]
    x = spec.inputs(case, dtype, seed=3)["x"]
    for module in (ops, reference):
        forward = getattr(module, f"{spec.name}_forward")
        want, want_ctx = forward(x)
        out = np.full_like(x, NAN)
        y, ctx = forward(x, out=out)
        assert y is out
        np.testing.assert_array_equal(out, want)
        backward = getattr(module, f"{spec.name}_backward")
        np.testing.assert_array_equal(backward(x, ctx), backward(x, want_ctx))
        inplace = x.copy()
        y, ctx = forward(inplace, out=inplace, keep=False)
        assert y is inplace and ctx is None
        np.testing.assert_array_equal(inplace, want)
    np.testing.assert_array_equal(getattr(F, spec.name)(x, out=out), getattr(F, spec.name)(x))


@each_function
def test_in_place_with_a_backward_pass(spec):
    """Possible where y is enough for it."""
    x = spec.inputs(spec.cases[1], np.float32, seed=3)["x"]
    forward, backward = getattr(ops, f"{spec.name}_forward"), getattr(ops, f"{spec.name}_backward")
    dy = np.ones_like(x)
    want = backward(dy, forward(x)[1])
    inplace = x.copy()
    if spec.name in ("relu", "sigmoid", "tanh", "exp"):
        np.testing.assert_array_equal(backward(dy, forward(inplace, out=inplace)[1]), want)
    else:
        with pytest.raises(ValueError, match=f"^{spec.name}: out is x, which the backward pass needs; .*keep=False"):
            forward(inplace, out=inplace)
        np.testing.assert_array_equal(inplace, x)


def read_only(x):
    x.flags.writeable = False
    return x


@pytest.mark.parametrize(
    ("out", "error", "said"),
    [
        (lambda x: x.astype(np.float64), TypeError, "out has dtype float64, expected float32"),
        (lambda x: x.tolist(), TypeError, "out must be a NumPy array"),
        (lambda x: x[:-1].copy(), ValueError, r"out has shape \(3, 6\), expected .* of shape \(4, 6\)"),
        (lambda x: np.asfortranarray(x), ValueError, "expected a writable, aligned, C-contiguous array"),
        (lambda x: read_only(x.copy()), ValueError, "expected a writable"),
        (lambda x: x.base[1:25].reshape(4, 6), ValueError, "out overlaps x"),
    ],
)
def test_out_does_not_fit(out, error, said):
    x = np.arange(30, dtype=np.float32)[:24].reshape(4, 6)
    with pytest.raises(error, match=f"^relu: .*{said}"):
        ops.relu_forward(x, out=out(x))
