"""Arguments that make no sense raise TypeError or ValueError, naming the operator, the argument and what came."""

import inspect
import re

import numpy as np
import pytest
from support import differentiable, each_spec

from fastnn import ops
from fastnn.registry import as_tuple, flat, restored
from fastnn.specs import attention, dropout, elementwise, loss, optim, response_norm, row_norm, softmax

# Arguments that may have any number of axes.
ANY_RANK = {
    ("linear", "x"),
    *((spec.name, "x") for spec in (*elementwise.SPECS, *softmax.SPECS, *loss.SPECS)),
    *((spec.name, "x") for spec in dropout.SPECS if spec.name not in ("dropout1d", "dropout2d")),
    *((spec.name, next(iter(spec.cases[0].shapes))) for spec in optim.SPECS),
    ("batch_norm", "x"),
    *((spec.name, "x") for spec in (*row_norm.SPECS, *response_norm.SPECS)),
    *((spec.name, name) for spec in attention.SPECS for name in ("q", "k", "v")),
    ("js_divergence", "p"),
    ("add", "a"),
    ("pad", "x"),
}


def masked(x):
    return np.ma.masked_array(x, np.zeros(x.shape, bool))


# What is not an array of float32 or float64 in native byte order, and what the message says of it.
NOT_FLOAT = [
    (lambda x: x.tolist(), "list"),
    (lambda x: float(x.flat[0]), "float"),
    (lambda x: "text", "str"),
    (lambda x: x.astype(np.int64), "int64"),
    (lambda x: x.astype(bool), "bool"),
    (lambda x: x.astype(np.complex64), "complex64"),
    (lambda x: x.astype(np.float16), "float16"),
    (lambda x: x.astype(np.longdouble), str(np.dtype(np.longdouble))),
    (lambda x: x.astype(object), "object"),
    (lambda x: x.astype(x.dtype.newbyteorder()), np.dtype(np.float32).newbyteorder().str),
    (masked, "masked"),
]
not_float = pytest.mark.parametrize(
    ("change", "said"), [pytest.param(change, said, id=said) for change, said in NOT_FLOAT]
)


def floats(arrays):
    """Names of the arrays of floating-point numbers, those in lists one by one."""
    return [name for name, x in flat(arrays).items() if isinstance(x, np.ndarray) and x.dtype.kind == "f"]


def with_array(arrays, name, change):
    """The arguments with one array changed."""
    found = flat(arrays)
    return restored({**found, name: change(found[name])}, arrays)


def raises(error, op, name, said=""):
    """name: of an argument, or a pattern."""
    name = re.escape(name) if "[" in name else name
    return pytest.raises(error, match=rf"^{op}: .*\b{name}(?!\w).*{said}")


@each_spec()
@not_float
def test_not_an_array_of_floats(spec, change, said):
    """Each argument in turn; the others are right."""
    case = spec.cases[-1]
    arrays = spec.inputs(case)
    for name in floats(arrays):
        with raises(TypeError, spec.name, name, said):
            spec.forward(ops, with_array(arrays, name, change), case.options)


@each_spec()
def test_missing(spec):
    case = spec.cases[-1]
    arrays = spec.inputs(case)
    parameters = inspect.signature(spec.function(ops)).parameters
    for name in floats(arrays):
        if parameters[name.partition("[")[0]].default is inspect.Parameter.empty:
            with raises(TypeError, spec.name, name, "NoneType"):
                spec.forward(ops, with_array(arrays, name, lambda x: None), case.options)


@each_spec()
def test_mixed_dtypes(spec):
    """Nothing is promoted silently."""
    case = spec.cases[-1]
    arrays = spec.inputs(case)
    for name in floats(arrays)[1:]:
        with raises(TypeError, spec.name, name, "float64.*expected float32"):
            spec.forward(ops, with_array(arrays, name, lambda x: x.astype(np.float64)), case.options)


@each_spec()
def test_wrong_rank(spec):
    case = spec.cases[-1]
    arrays = spec.inputs(case)
    for name in floats(arrays):
        if (spec.name, name.partition("[")[0]) not in ANY_RANK:
            for change in (lambda x: x[None, None], lambda x: np.array(1, np.float32)):
                with raises(ValueError, spec.name, name, "expected"):
                    spec.forward(ops, with_array(arrays, name, change), case.options)


@each_spec(differentiable)
@not_float
def test_dy_is_not_an_array_of_floats(spec, change, said):
    case = spec.cases[-1]
    outputs, ctx = spec.forward(ops, spec.inputs(case), case.options)
    dy = spec.draw_dy(outputs)
    first, *others = as_tuple(dy)
    if first.ndim == 0 and said in ("list", "float"):
        pytest.skip("the gradient at a loss of one number may be a Python number")
    bad = (change(first), *others) if spec.outputs > 1 else change(first)
    with raises(TypeError, spec.name, r"d\w+", said):
        spec.backward(ops, bad, ctx)


@each_spec(differentiable)
def test_dy_does_not_fit(spec):
    case = spec.cases[-1]
    outputs, ctx = spec.forward(ops, spec.inputs(case), case.options)
    dy = spec.draw_dy(outputs)

    def change(f):
        return (f(dy[0]), *dy[1:]) if spec.outputs > 1 else f(dy)

    if as_tuple(dy)[0].ndim:
        with raises(ValueError, spec.name, r"d\w+", "expected"):
            spec.backward(ops, change(lambda d: np.concatenate([d, d])), ctx)
    with raises(ValueError, spec.name, r"d\w+", "expected"):
        spec.backward(ops, change(lambda d: d[None]), ctx)
    with raises(TypeError, spec.name, r"d\w+", "float64.*expected float32"):
        spec.backward(ops, change(lambda d: d.astype(np.float64)), ctx)


@each_spec(differentiable)
def test_backward_without_a_context(spec):
    """keep=False keeps nothing for it."""
    case = spec.cases[-1]
    outputs, ctx = spec.forward(ops, spec.inputs(case), case.options, keep=False)
    with pytest.raises(TypeError, match=rf"^{spec.name}: ctx is None, .*keep=False.* needs keep=True"):
        spec.backward(ops, spec.draw_dy(outputs), ctx)


@each_spec(lambda spec: len(spec.grads) > 1)
def test_needs_of_the_wrong_length(spec):
    case = spec.cases[-1]
    outputs, ctx = spec.forward(ops, spec.inputs(case), case.options)
    dy = spec.draw_dy(outputs)
    for needs in ((), (True,) * (len(spec.grads) - 1), [True] * (len(spec.grads) + 1)):
        with pytest.raises(ValueError, match=rf"^{spec.name}: needs must have {len(spec.grads)} elements.*got"):
            spec.backward(ops, dy, ctx, needs=needs)
    for needs in (True, None, dict.fromkeys(spec.grads, True)):
        with pytest.raises(TypeError, match=rf"^{spec.name}: needs must be a tuple of {len(spec.grads)} bools, got"):
            spec.backward(ops, dy, ctx, needs=needs)


@each_spec(lambda spec: differentiable(spec) and spec.outputs > 1)
def test_dy_is_not_a_tuple(spec):
    """An array would otherwise be taken apart along its first axis."""
    case = spec.cases[-1]
    outputs, ctx = spec.forward(ops, spec.inputs(case), case.options)
    dy = spec.draw_dy(outputs)
    for bad in (dy[0], np.stack([dy[-1]] * spec.outputs), None):
        with pytest.raises(
            TypeError, match=rf"^{spec.name}: dy must be a tuple \(d\w+, .*\), got {type(bad).__name__}"
        ):
            spec.backward(ops, bad, ctx)
    for bad in (dy[:-1], (*dy, None)):
        with pytest.raises(ValueError, match=rf"^{spec.name}: dy has {len(bad)} elements, expected {spec.outputs}"):
            spec.backward(ops, bad, ctx)


@each_spec()
def test_unknown_option(spec):
    case = spec.cases[-1]
    with pytest.raises(TypeError, match="colour"):
        spec.forward(ops, spec.inputs(case), {**case.options, "colour": "red"})
