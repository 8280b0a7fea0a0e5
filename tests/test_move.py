"""Padding, concatenation and addition beyond their cases."""

from math import prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastnn import functional as F
from fastnn import ops
from fastnn.kernels import runtime
from fastnn.registry import Case, specs
from fastnn.verify import Problem, forced

LEVELS = st.tuples(st.sampled_from(runtime.supported_isas()), st.integers(1, 4))
sizes = st.one_of(st.integers(1, 6), st.sampled_from([15, 16, 17, 33, 70]))
shapes = st.lists(sizes, min_size=1, max_size=4).filter(lambda shape: prod(shape) < 5000).map(tuple)


def verify(name, case, level, kind="integer"):
    problem = Problem(specs()[name], case, np.float32, kind)
    with forced(*level):
        for verdict in (problem.forward(), problem.backward()):
            assert verdict, f"{case}: {verdict}"


@st.composite
def pads(draw, modes):
    shape, mode = draw(shapes), draw(st.sampled_from(modes))
    axes = draw(st.integers(0, len(shape)) if mode == "constant" else st.integers(1, min(2, len(shape))))
    pad = ()
    for n in shape[::-1][:axes]:
        if mode == "constant":
            before = draw(st.integers(-n, 5))
            pad += before, draw(st.integers(max(-n, -n - before), 5))
        else:
            most = {"reflect": n - 1, "replicate": 40, "circular": n}[mode]
            pad += draw(st.integers(0, most)), draw(st.integers(0, most))
    options = {"pad": pad, "mode": mode}
    if mode == "constant":
        options["value"] = draw(st.sampled_from([0.0, -2.0]))
    return Case({"x": shape}, options)


@given(pads(["constant"]), LEVELS)
def test_any_constant_padding(case, level):
    verify("pad", case, level)


@given(pads(["reflect", "replicate", "circular"]), LEVELS)
def test_any_repeating_padding(case, level):
    verify("pad", case, level)


@given(pads(["constant", "reflect", "replicate", "circular"]))
def test_padding_as_torch(case):
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).standard_normal(case.shapes["x"]).astype(np.float32)
    tensor = torch.from_numpy(x)
    if case.options["mode"] != "constant":  # which torch has for a batch of images or signals only
        tensor = tensor.reshape((1,) * (2 + len(case.options["pad"]) // 2 - x.ndim) + x.shape)
        if tensor.ndim > 2 + len(case.options["pad"]) // 2:
            tensor = tensor.flatten(0, tensor.ndim - 2 - len(case.options["pad"]) // 2)
    want = torch.nn.functional.pad(tensor, **case.options).numpy()
    got = F.pad(x, **case.options)
    np.testing.assert_array_equal(got.reshape(want.shape), want)


@st.composite
def lists(draw):
    shape = draw(shapes)
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    arrays = []
    for n in draw(st.lists(st.one_of(st.integers(0, 3), sizes), min_size=1, max_size=5)):
        changed = list(shape)
        changed[axis] = n
        arrays.append(tuple(changed))
    return Case({"arrays": arrays}, {"axis": axis})


@given(lists(), LEVELS)
def test_any_list(case, level):
    verify("concat", case, level)


def test_many_arrays():
    arrays = [np.full((2, i % 3, 2), i, np.float32) for i in range(100)]
    y, ctx = ops.concat_forward(arrays, 1)
    np.testing.assert_array_equal(y, np.concatenate(arrays, 1))
    for part, a in zip(ops.concat_backward(y, ctx), arrays, strict=True):
        np.testing.assert_array_equal(part, a)


@given(shapes, st.booleans(), LEVELS)
def test_any_sum(shape, relu, level):
    verify("add", Case({"a": shape, "b": shape}, {"relu": relu}), level)


@pytest.mark.parametrize("isa", runtime.supported_isas())
def test_values_move_as_they_are(isa):
    """NaN with its payload, infinities, the sign of zero, subnormal numbers."""
    values = np.array([np.nan, np.inf, -np.inf, -0.0, 1e-42, 1], np.float32)
    x = np.tile(values, 12).reshape(2, 36)
    with forced(isa):
        y = F.pad(x, (1, 2), "replicate")
        assert y[:, 1:-2].tobytes() == x.tobytes()
        assert F.pad(x, (0, 0, 1, 0), value=np.inf)[1:].tobytes() == x.tobytes()
        assert F.cat([x, x], 0).tobytes() == x.tobytes() * 2


def test_padding_of_nothing():
    empty = np.zeros((0, 3), np.float32)
    np.testing.assert_array_equal(F.pad(empty, (1, 1, 1, 1), value=2), np.full((2, 5), 2, np.float32))
    _, ctx = ops.pad_forward(empty, (1, 1, 1, 1))
    assert ops.pad_backward(np.ones((2, 5), np.float32), ctx).shape == (0, 3)
    number = np.array(3, np.float32)
    assert F.pad(number, ()) == number


def test_add_special_values():
    a = np.array([np.nan, np.inf, np.inf, -np.inf, 0, -0.0, 1e-45, -1], np.float32)
    b = np.array([1, 1, -np.inf, 1, -0.0, -0.0, 1e-45, 1], np.float32)
    with np.errstate(invalid="ignore"):
        want = a + b
    np.testing.assert_array_equal(F.add(a, b), want)
    np.testing.assert_array_equal(np.signbit(F.add(a, b)[5:6]), [True])
    np.testing.assert_array_equal(F.add(a, b, relu=True), np.where(want < 0, 0, want))


@pytest.mark.parametrize("relu", [False, True])
def test_add_in_place(relu):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 5, 33)).astype(np.float32)
    want, ctx = ops.add_forward(a, b, relu=relu)
    for out in (a.copy(), b.copy(), np.empty_like(a)):
        arguments = {"a": out if out[0, 0] == a[0, 0] else a, "b": out if out[0, 0] == b[0, 0] else b}
        y, out_ctx = ops.add_forward(**arguments, relu=relu, out=out)
        assert y is out
        np.testing.assert_array_equal(y, want)
        for got, expected in zip(ops.add_backward(a, out_ctx), ops.add_backward(a, ctx), strict=True):
            np.testing.assert_array_equal(got, expected)


def test_add_out_does_not_fit():
    memory = np.zeros(12, np.float32)
    a, b = memory[:8], np.zeros(8, np.float32)
    with pytest.raises(ValueError, match=r"^add: out overlaps a, expected a itself"):
        ops.add_forward(a, b, out=memory[4:])
    with pytest.raises(ValueError, match=r"^add: out overlaps b, expected b itself"):
        ops.add_forward(b, a, out=memory[4:])
    with pytest.raises(ValueError, match=r"^add: out has shape \(9,\)"):
        ops.add_forward(a, b, out=np.zeros(9, np.float32))
    with pytest.raises(TypeError, match=r"^add: out has dtype float64"):
        ops.add_forward(a, b, out=np.zeros(8))


@pytest.mark.parametrize(
    ("arrays", "axis", "error", "said"),
    [
        (np.ones((2, 2), np.float32), 0, TypeError, "arrays must be a list of arrays, got ndarray"),
        ([], 0, ValueError, "arrays is empty, expected at least one"),
        ([np.ones(2, np.float32), None], 0, TypeError, r"arrays\[1\] must be a NumPy array .*NoneType"),
        ([np.ones(2, np.float32)], 1, ValueError, r"axis 1 is out of range for arrays\[0\] of shape \(2,\)"),
        ([np.ones(2, np.float32)], 0.0, TypeError, r"axis must be an integer, got 0\.0"),
        ([np.ones(2, np.float32)], True, TypeError, "axis must be an integer, got True"),
        ([np.float32(1)[...]], 0, ValueError, r"axis 0 is out of range .* expected one of 0 axes"),
        ([np.ones((2, 3), np.float32), np.ones((3, 3), np.float32)], 1, ValueError,
         r"arrays\[1\] has shape \(3, 3\), arrays\[0\] \(2, 3\), expected the same but for axis 1"),
    ],
)  # fmt: skip
def test_cannot_be_concatenated(arrays, axis, error, said):
    with pytest.raises(error, match=f"^concat: {said}"):
        ops.concat_forward(arrays, axis)
