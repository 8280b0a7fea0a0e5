"""Extreme but legal magnitudes: finite where the mathematics is finite, and as near to the double-precision reference
as the conditioning of the problem allows."""

import numpy as np
import pytest
from support import algorithms, differentiable, each_spec, with_algo

from fastnn import ops, reference
from fastnn.registry import as_tuple, flat, map_arrays
from fastnn.verify import widen

# Powers of two, beyond 1e30 and 1e270 and as far below 1; results of what is drawn stay in range.
SCALES = {np.dtype(np.float32): (2.0**100, 2.0**-60), np.dtype(np.float64): (2.0**900, 2.0**-900)}


def scaled_by(factor, arrays):
    return map_arrays(lambda a: a * a.dtype.type(factor) if a.dtype.kind == "f" else a, arrays)


def assert_scaled(got, want, factor, what):
    """got is factor * want, bit for bit but for the sign of zeros."""
    for name, w in want.items():
        if w is not None and w.dtype.kind == "f":
            exact = w * w.dtype.type(factor)
            assert np.isfinite(exact).all(), f"{what}: {name} overflows"
            np.testing.assert_array_equal(got[name], exact, f"{what}: {name}")


def small_case(spec):
    """The second case: that of all arguments and a tail, as a rule."""
    return spec.cases[min(1, len(spec.cases) - 1)]


def gradients(spec, arrays, options, dy):
    """Of copies, by name."""
    _, ctx = spec.forward(ops, map_arrays(np.copy, arrays), options)
    return flat(spec.backward(ops, dy, ctx))


@each_spec(differentiable)
def test_gradients_scale_with_that_of_the_output(spec, dtype, isa):
    """A gradient is linear in dy, and a power of two rounds nothing: 1e30 and 1e-18 come through every operator."""
    case = small_case(spec)
    arrays = spec.inputs(case, dtype, seed=5)
    for algo in algorithms(spec, case, dtype):
        options = with_algo(case, algo).options
        outputs, _ = spec.forward(ops, map_arrays(np.copy, arrays), options)
        dy = spec.draw_dy(outputs)
        want = gradients(spec, arrays, options, dy)
        for factor in SCALES[dtype]:
            got = gradients(spec, arrays, options, scaled_by(factor, dy))
            assert_scaled(got, want, factor, f"{algo}, {factor:g}")


def first_argument(spec, arrays):
    """What y is linear in: the first argument of real numbers and, unless it is the second factor, the bias b."""
    name = next(name for name, x in arrays.items() if x is not None and x.dtype.kind == "f")
    return {name, "b"} if spec.name != "matmul" else {name}


@each_spec(lambda spec: spec.multilinear)
def test_linear_operators_scale(spec, dtype, isa):
    """Also to subnormal numbers, which are not flushed: small integers times the least number give such, exactly."""
    case, least = small_case(spec), float(np.finfo(dtype).smallest_subnormal)
    for factor, kind in [(s, "normal") for s in SCALES[dtype]] + [(least, "integer")] * spec.exact:
        arrays = spec.inputs(case, dtype, seed=6, kind=kind)
        linear = first_argument(spec, arrays)
        scaled = {name: scaled_by(factor, x) if name in linear else x for name, x in arrays.items()}
        for algo in algorithms(spec, case, dtype):
            if kind == "integer" and algo in spec.rounding and not spec.rounding[algo].exact:
                continue
            options = with_algo(case, algo).options
            want, got = (as_tuple(spec.forward(ops, x, options)[0]) for x in (arrays, scaled))
            assert_scaled(dict(enumerate(got)), dict(enumerate(want)), factor, f"{algo}, {factor:g}")


# ---- by families ----

EXTREMES = (0, 1e-45, 1e-38, 1e-30, 1e-10, 1, 30, 89, 1e2, 1e4, 1e10, 1e19, 1e30, 3e38)
"""And their negatives."""

SATURATING = (
    "sigmoid",
    "tanh",
    "gelu",
    "silu",
    "softplus",
    "elu",
    "leaky_relu",
    "hardsigmoid",
    "hardswish",
    "erf",
    "relu6",
)


@pytest.mark.parametrize("name", SATURATING)
def test_functions_and_slopes_of_extremes(name, dtype, isa):
    """Slopes are at most about 1: a few units in the last place of that, or of x where f(x) is about x."""
    x = np.array([*EXTREMES, *np.negative(EXTREMES)], dtype)
    forward, backward = (getattr(ops, f"{name}_{direction}") for direction in ("forward", "backward"))
    y, ctx = forward(x)
    dx = backward(np.ones_like(x), ctx)
    want, wide = getattr(reference, f"{name}_forward")(x.astype(float))
    slope = getattr(reference, f"{name}_backward")(np.ones(x.shape), wide)
    eps = np.finfo(dtype).eps
    assert np.isfinite(y).all() and np.isfinite(dx).all()
    # the reference of GELU adds 1 and erf(x), which cancel for a negative x
    cancelled = 4 * 2.0**-52 * np.minimum(np.abs(want - x), 40) if name == "gelu" else 0
    assert (np.abs(y - want) <= 4 * eps * np.abs(want) + np.finfo(dtype).smallest_subnormal + cancelled).all()
    assert (np.abs(dx - slope) <= 8 * eps).all()


LOGITS = (
    (0, 0, 0), (1e30, -1e30, 0), (-1e30, -1e30, -1e30), (1e30, 1e30, 1e30), (1e4, 9999, -1e4), (88, 89, 90),
    (-1e4, -10001, -1e4), (3e38, 3e38, -3e38), (1e-30, -1e-30, 0), (1e-45, 0, -1e-45),
)  # fmt: skip


@pytest.mark.parametrize("columns", [False, True])
def test_softmax_of_extremes(dtype, isa, columns):
    """e^(x-m) has the relative error eps |x-m|, and is 0 where that exceeds 104, or 745."""
    x = np.array(LOGITS, dtype)
    axis = 0 if columns else 1
    x = np.ascontiguousarray(x.T) if columns else x
    eps = np.finfo(dtype).eps
    with np.errstate(over="ignore"):
        p, log_p = (f(x.astype(float), axis)[0] for f in (reference.softmax_forward, reference.log_softmax_forward))
    y, ctx = ops.softmax_forward(x, axis)
    assert (np.abs(y - p) <= 4 * eps * (1 + np.minimum(np.abs(log_p), 745)) * p + np.finfo(dtype).tiny).all()
    dx = ops.softmax_backward(np.ones_like(x), ctx)
    assert (np.abs(dx) <= 4 * eps).all()  # exactly 0: y times a difference that cancels
    logs, _ = ops.log_softmax_forward(x, axis)
    with np.errstate(over="ignore"):  # -6e38 is -inf in single precision
        want = log_p.astype(dtype)
    finite = np.isfinite(want)
    np.testing.assert_array_equal(logs[~finite], want[~finite])
    assert (np.abs(logs - log_p)[finite] <= 4 * eps * (1 + np.abs(log_p[finite]))).all()


def test_cross_entropy_where_the_target_has_no_probability(dtype, isa):
    x, target = np.array([[1e30, 0], [0, 1e4], [-1e30, 1e30]], dtype), np.array([1, 0, 0])
    losses, ctx = ops.cross_entropy_forward(x, target, reduction="none")
    np.testing.assert_array_equal(losses, np.array([1e30, 1e4, 2e30], dtype))
    dx = ops.cross_entropy_backward(np.ones_like(losses), ctx)
    np.testing.assert_array_equal(dx, [[1, -1], [-1, 1], [-1, 1]])


def test_losses_of_certainties(dtype, isa):
    """Probabilities of 0 and 1, and differences of 1e30."""
    zero_one, large = np.array([0, 1, 0, 1], dtype), np.array([1e30, -1e30, 1e30, 0], dtype)
    bce, ctx = ops.binary_cross_entropy_forward(zero_one, zero_one[::-1].copy(), reduction="none")
    np.testing.assert_array_equal(bce, [100] * 4)  # the limit of torch
    assert np.isfinite(ops.binary_cross_entropy_backward(np.ones(4, dtype), ctx)[0]).all()
    logits, ctx = ops.binary_cross_entropy_with_logits_forward(large, zero_one, reduction="none")
    np.testing.assert_array_equal(logits, np.array([1e30, 1e30, 1e30, np.log(2)], dtype))
    np.testing.assert_array_equal(ops.binary_cross_entropy_with_logits_backward(np.ones(4, dtype), ctx)[0],
                                  np.array([1, -1, 1, -0.5], dtype))  # fmt: skip
    js, ctx = ops.js_divergence_forward(zero_one[:2], np.array([1, 0], dtype), reduction="none")
    assert js == 1
    assert all(np.isfinite(d).all() for d in ops.js_divergence_backward(np.ones((), dtype), ctx))
    kl, _ = ops.kl_div_forward(np.array([-1e30, -1, 0, -5], dtype), zero_one, reduction="none")
    np.testing.assert_array_equal(kl, [0, 1, 0, 5])
    for name, offset in (("l1_loss", 0), ("smooth_l1_loss", 0.5), ("huber_loss", 0.5)):
        loss, ctx = getattr(ops, f"{name}_forward")(large, zero_one, reduction="none")
        np.testing.assert_array_equal(loss[:3], np.abs(large[:3]))
        np.testing.assert_array_equal(getattr(ops, f"{name}_backward")(np.ones(4, dtype), ctx)[0][:3], [1, -1, 1])
        assert loss[3] == 1 - offset


@pytest.mark.parametrize("norm", ["batch", "layer", "group", "instance"])
def test_norms_of_a_large_mean_and_a_small_deviation(norm, dtype, isa):
    """A mean of 2e6 (float64: 7e7) deviations: x is exact, and what the kernel subtracts is known to double
    precision."""
    rng = np.random.default_rng(0)
    x = (np.finfo(dtype).eps * 2.0**26 * np.round(rng.standard_normal((6, 4, 300)) * 4) + 2.0**26).astype(dtype)
    if dtype == np.float64:
        x = (2.0**26 + rng.standard_normal(x.shape)).astype(dtype)
    call = {
        "batch": lambda x, m: m.batch_norm_forward(x, training=True)[0],
        "layer": lambda x, m: m.layer_norm_forward(x, 300)[0],
        "group": lambda x, m: m.group_norm_forward(x, 2)[0],
        "instance": lambda x, m: m.instance_norm_forward(x)[0],
    }[norm]
    y, want = call(x, ops), call(x.astype(np.longdouble if dtype == np.float64 else float), reference)
    # The mean's own error, in double precision, over the deviation, which is at least 1: none for float32.
    bound = 64 * np.finfo(dtype).eps * np.abs(want).max() + (2.0**26 * 2.0**-52 * 8 if dtype == np.float64 else 0)
    assert np.abs(y - want).max() <= bound


def test_norms_of_constants(dtype, isa):
    """No variance: results are the bias, gradients 0 or as small as the rounding of a mean times 1 / sqrt(eps)."""
    x, dy = np.full((5, 3, 17), 1e6, dtype), np.ones((5, 3, 17), dtype)
    for forward, backward, options in (
        (ops.batch_norm_forward, ops.batch_norm_backward, {"training": True}),
        (ops.layer_norm_forward, ops.layer_norm_backward, {"normalized_shape": (3, 17)}),
        (ops.group_norm_forward, ops.group_norm_backward, {"num_groups": 3}),
        (ops.instance_norm_forward, ops.instance_norm_backward, {}),
    ):
        y, ctx = forward(x, **options)
        assert not y.any()
        dx = backward(dy, ctx)[0]
        assert np.abs(dx).max() <= 4 * np.finfo(dtype).eps / np.sqrt(1e-5)


def test_norms_of_one_element(dtype, isa):
    x = np.array([[1e30], [-1e-30], [0]], dtype)
    y, ctx = ops.layer_norm_forward(x, 1, np.full(1, 2, dtype), np.full(1, 7, dtype))
    np.testing.assert_array_equal(y, np.full((3, 1), 7))
    dx, dweight, dbias = ops.layer_norm_backward(np.ones_like(x), ctx)
    np.testing.assert_array_equal(dx, np.zeros((3, 1)))
    assert (dweight, dbias) == (0, 3)
    y, _ = ops.rms_norm_forward(x[1:], 1)
    np.testing.assert_allclose(y[:, 0], [0, 0], atol=1e-20)


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_recurrent_networks_with_saturated_gates(cell, dtype, isa):
    """Biases of 1e4 and 1e30 open and close gates for good: states stay in [-1, 1], gradients are 0 through what is
    saturated, and all agree with the reference."""
    rng = np.random.default_rng(1)
    gates, hidden = {"rnn": 1, "gru": 3, "lstm": 4}[cell], 5
    x = rng.standard_normal((4, 3, 6)).astype(dtype)
    weights = [rng.standard_normal((gates * hidden, n)).astype(dtype) for n in (6, hidden)]
    b = np.resize(np.array([1e4, -1e4, 1e30, -1e30, 0.5], dtype), gates * hidden)
    results = {}
    for module, wide in ((ops, False), (reference, True)):
        arrays = widen([x, *weights, b]) if wide else [x, *weights, b]
        outputs, ctx = getattr(module, f"{cell}_forward")(*arrays)
        dy = tuple(np.ones_like(y) for y in as_tuple(outputs))
        results[module] = *as_tuple(outputs), *getattr(module, f"{cell}_backward")(dy[0] if len(dy) == 1 else dy, ctx)
    for got, want in zip(results[ops], results[reference], strict=True):
        if want is None:
            continue
        assert np.isfinite(got).all()
        # 1 - h^2 and h (1 - h) of h near 1 lose eps / (1 - h), which is what they are multiplied with that counts
        assert np.abs(got - want).max() <= 500 * np.finfo(dtype).eps * max(np.abs(want).max(), 1)
    if cell != "lstm":
        assert np.abs(results[ops][0]).max() <= 1


@pytest.mark.parametrize("size", [1e4, 1e30])
def test_attention_of_large_scores(dtype, isa, size):
    """The largest score takes all; a mask of -1e30 is as good as -inf."""
    q = np.array([[1, 0], [0, 1], [-1, 0]], dtype)
    k, v = q * dtype.type(size), np.array([[1], [2], [3]], dtype)
    y, ctx = ops.scaled_dot_product_attention_forward(q, k, v)
    np.testing.assert_array_equal(y, [[1], [2], [3]])
    assert all(g is None or np.isfinite(g).all() for g in ops.scaled_dot_product_attention_backward(y, ctx))
    mask = np.where(np.eye(3, dtype=bool), dtype.type(-size * 3), dtype.type(0))
    masked, _ = ops.scaled_dot_product_attention_forward(q, q, v, mask)
    infinite, _ = ops.scaled_dot_product_attention_forward(q, q, v, np.where(mask < 0, dtype.type(-np.inf), mask))
    np.testing.assert_array_equal(masked, infinite)


STEPS = (0, 1e-45, 1e-30, 1e-20, 1, 1e10, 1e18)
"""Gradients; of larger ones the square overflows single precision, and the step is 0, as torch's."""


@pytest.mark.parametrize("eps", [1e-8, 0.0])
@pytest.mark.parametrize("name", ["adam_step", "rmsprop_step"])
def test_optimisers_with_extreme_gradients(torch, name, eps, dtype, isa):
    """As torch has it, also where that is 0 / 0: no gradient, and eps 0."""
    p, g = np.ones(len(STEPS), dtype), np.array(STEPS, dtype)
    theirs = torch.nn.Parameter(torch.tensor(p))
    optimizer = {"adam_step": torch.optim.Adam, "rmsprop_step": torch.optim.RMSprop}[name]([theirs], lr=0.1, eps=eps)
    states = [np.zeros_like(p) for _ in range(2 if name == "adam_step" else 1)]
    for step in (1, 2):
        theirs.grad = torch.tensor(g)
        optimizer.step()
        more = {"step": step} if name == "adam_step" else {}
        getattr(ops, name)([p], [g], *([s] for s in states), lr=0.1, eps=eps, **more)
    want = theirs.detach().numpy()
    # The square root of a subnormal mean square has as few digits as that: not compared beyond a step's own size.
    coarse = (g != 0) & (g.astype(float) ** 2 < np.finfo(dtype).tiny)
    assert np.array_equal(np.isnan(p), np.isnan(want))
    exact = ~np.isnan(want) & ~coarse
    np.testing.assert_allclose(p[exact], want[exact], rtol=0, atol=4 * np.finfo(dtype).eps)
    finite = coarse & np.isfinite(want)
    assert (np.abs(p[finite] - want[finite]) <= 0.5).all()


def test_clipping_of_extreme_gradients(dtype, isa):
    """The norm is summed in double precision: 1e30 squared does not overflow in float32."""
    large = 1e30 if dtype == np.float32 else 1e150
    grads = [np.full(7, large, dtype), np.full(9, -large, dtype)]
    norm = ops.clip_grad_norm(grads, 1.0)
    np.testing.assert_allclose(norm, 4 * large, rtol=2 * np.finfo(dtype).eps)
    np.testing.assert_allclose(np.concatenate(grads), [0.25] * 7 + [-0.25] * 9, rtol=4 * np.finfo(dtype).eps)
    grads = [np.full(16, 1e-30, dtype)]
    np.testing.assert_allclose(ops.clip_grad_norm(grads, 1.0), 4e-30, rtol=2 * np.finfo(dtype).eps)
    assert (grads[0] == dtype.type(1e-30)).all()
