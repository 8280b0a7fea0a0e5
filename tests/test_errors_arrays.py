"""Every array argument of every operator beyond what test_errors.py changes in the last case: arguments that only other
cases have, integers, lists, results to write to, arguments updated in place."""

import inspect
import re

import numpy as np
import pytest
from support import differentiable, each_spec
from test_errors import NOT_FLOAT, floats, masked, raises, with_array

from fastnn import ops
from fastnn.registry import as_tuple, flat, specs
from fastnn.specs import attention


def last_case(spec, condition):
    """The last case whose arguments satisfy a condition."""
    return next((case for case in reversed(spec.cases) if condition(spec.inputs(case))), None)


def arguments(spec):
    """(case, arguments, name of an array of floats) of every such argument, in the last case that has it."""
    found = {}
    for case in spec.cases:
        arrays = spec.inputs(case)
        found.update({name: (case, name) for name in floats(arrays) if flat(arrays)[name].size})
    return list(found.values())


@each_spec()
def test_arguments_of_other_cases(spec):
    """What the last case leaves out is checked as well when it is there: type, dtype, mixed dtypes, shape."""
    for case, name in arguments(spec):
        if case is spec.cases[-1]:
            continue
        arrays = spec.inputs(case)
        x = flat(arrays)[name]
        for change, said in NOT_FLOAT:
            if (name, said) not in (("mask", "bool"), ("target", "int64")):  # which are right, or another problem
                said = type(x.tolist()).__name__ if said == "list" else said
                with raises(TypeError, spec.name, name, said):
                    spec.forward(ops, with_array(arrays, name, change), case.options)
        if name != floats(arrays)[0]:
            with raises(TypeError, spec.name, name, "float64.*expected float32"):
                spec.forward(ops, with_array(arrays, name, lambda x: x.astype(np.float64)), case.options)


# Axes that the result has from this argument alone, as it has all those of the first argument.
FREE = {
    **{(spec.name, next(iter(spec.cases[-1].shapes))): range(9) for spec in specs().values()},
    ("matmul", "b"): (1,),
    ("embedding", "weight"): (0, 1),
    ("conv1d", "w"): (0, 2),  # another number of filters, and another size of them
    ("conv2d", "w"): (3,),
    ("conv_transpose2d", "w"): (2, 3),
    **{(spec.name, "v"): (2,) for spec in attention.SPECS},
}


@each_spec()
def test_shapes_that_differ_from_each_other(spec):
    """Three times the rows, columns or planes: no broadcasting beyond what is documented, no reading past an end."""
    for case, name in arguments(spec):
        arrays = spec.inputs(case)
        shape = np.shape(flat(arrays)[name])
        for axis in range(len(shape)):
            if axis in FREE.get((spec.name, name.partition("[")[0]), ()):
                continue
            with pytest.raises(ValueError, match=rf"^{spec.name}: .*(expected|larger than)") as caught:
                changed = with_array(arrays, name, lambda x, axis=axis: np.repeat(x, 3, axis=axis))
                spec.forward(ops, changed, case.options)
            named = {word for word in re.findall(r"\w+", str(caught.value)) if word in arrays}
            assert named or "kernel" in str(caught.value), caught.value


INTEGERS = {
    "embedding": ("x", lambda case: case.shapes["weight"][0]),
    "cross_entropy": ("target", lambda case: case.shapes["x"][1]),
    "nll_loss": ("target", lambda case: case.shapes["x"][1]),
    "max_unpool1d": ("indices", lambda case: 10**6),
    "max_unpool2d": ("indices", lambda case: 10**6),
}


def test_integer_arguments_are_all_known():
    found = {
        (spec.name, name)
        for spec in specs().values()
        for case in spec.cases
        for name, x in spec.inputs(case).items()
        if isinstance(x, np.ndarray) and x.dtype.kind in "iu"
    }
    assert found == {(op, name) for op, (name, _) in INTEGERS.items()}


@pytest.mark.parametrize("op", INTEGERS)
def test_integer_argument(op):
    spec, (name, limit) = specs()[op], INTEGERS[op]

    def integers(arrays):
        return isinstance(arrays[name], np.ndarray) and arrays[name].dtype.kind == "i" and arrays[name].size > 0

    case = last_case(spec, integers)
    arrays = spec.inputs(case)

    def changed(x):
        return {**arrays, name: x}

    x = arrays[name]
    not_integers = {
        "list": x.tolist(), "int": 0, "str": "text", "NoneType": None, "bool": x.astype(bool),
        "complex64": x.astype(np.complex64), "object": x.astype(object), "masked": masked(x),
        "datetime64": x.astype("M8[s]"), "timedelta64": x.astype("m8[s]"),
    }  # fmt: skip
    for said, wrong in not_integers.items():
        with raises(TypeError, op, name, said):
            spec.forward(ops, changed(wrong), case.options)
    if op != "cross_entropy":  # which takes probabilities as well
        with raises(TypeError, op, name, "float64"):
            spec.forward(ops, changed(x.astype(np.float64)), case.options)
    for bad in (limit(case), -5, 2**62, -(2**63)):
        wrong = x.astype(np.int64)
        wrong.flat[-1] = bad
        with raises(ValueError, op, name, str(bad)):
            spec.forward(ops, changed(wrong), case.options)
    wrong = x.astype(np.uint64)
    wrong.flat[-1] = 2**64 - 5
    # The rows of a table are looked up in the caller's array, places of pixels as the int64 that they became.
    with raises(ValueError, op, name, "-5" if "unpool" in op else "18446744073709551611"):
        spec.forward(ops, changed(wrong), case.options)
    if op != "embedding":  # which takes any shape
        for wrong in (np.concatenate([x, x]), x[None], x[..., :1]):
            with raises(ValueError, op, name, "expected"):
                spec.forward(ops, changed(wrong), case.options)


@pytest.mark.parametrize("spec", attention.SPECS, ids=lambda spec: spec.name)
def test_masked_mask(spec):
    """A mask that is a masked array of bools: what it hides would count."""
    case = last_case(spec, lambda arrays: getattr(arrays["mask"], "dtype", None) == np.bool_)
    arrays = spec.inputs(case)
    with raises(TypeError, spec.name, "mask", "masked"):
        spec.forward(ops, {**arrays, "mask": masked(arrays["mask"])}, case.options)


def has_out(spec):
    return "out" in inspect.signature(spec.function(ops)).parameters


def read_only(x):
    x.flags.writeable = False
    return x


# What is no array to write y to, made of an array like y.
NOT_OUT = [
    (lambda y: y.tolist(), TypeError, "list"),
    (lambda y: 0.0, TypeError, "float"),
    (lambda y: "text", TypeError, "str"),
    (lambda y: y.astype(np.float64), TypeError, "float64.*expected float32"),
    (lambda y: y.astype(np.int32), TypeError, "int32"),
    (lambda y: y.astype(np.float16), TypeError, "float16"),
    (lambda y: y.astype(y.dtype.newbyteorder()), TypeError, "expected float32"),
    (masked, TypeError, "masked"),
    (lambda y: y[None], ValueError, "expected a writable"),
    (lambda y: y[..., :-1].copy(), ValueError, "expected a writable"),
    (lambda y: np.concatenate([y, y]), ValueError, "expected a writable"),
    (lambda y: np.repeat(y, 2, axis=-1)[..., ::2], ValueError, "expected a writable"),
    (lambda y: y[..., ::-1], ValueError, "expected a writable"),
    (lambda y: read_only(y.copy()), ValueError, "expected a writable"),
    (lambda y: np.empty(y.nbytes + 1, np.uint8)[1:].view(y.dtype).reshape(y.shape), ValueError, "aligned"),
]


@each_spec(has_out)
@pytest.mark.parametrize(("change", "error", "said"), NOT_OUT)
def test_out(spec, change, error, said):
    case = spec.cases[-1]
    arrays = spec.inputs(case)
    first = next(iter(arrays.values()))
    with raises(error, spec.name, "out", said):
        spec.forward(ops, arrays, case.options, out=change(np.zeros_like(first)))


@each_spec(has_out)
def test_out_overlaps_an_argument(spec):
    case = spec.cases[-1]
    arrays = spec.inputs(case)
    for name, x in arrays.items():
        memory = np.zeros(2 * x.size, x.dtype)
        memory[: x.size] = x.ravel()
        changed = {**arrays, name: memory[: x.size].reshape(x.shape)}
        out = memory[1 : x.size + 1].reshape(x.shape)
        before = memory.copy()
        with raises(ValueError, spec.name, "out", f"overlaps {name}"):
            spec.forward(ops, changed, case.options, out=out)
        assert np.array_equal(memory, before), "nothing is written before all is checked"


UPDATED = {
    "batch_norm": ("running_mean", "running_var"),
    "instance_norm": ("running_mean", "running_var"),
    "whiten": ("running_mean", "running_cov"),
    **{name: spec.updates for name, spec in specs().items() if spec.updates},
}
TRAINING = {"batch_norm": {"training": True}, "instance_norm": {"use_input_stats": True}, "whiten": {"training": True}}


@pytest.mark.parametrize("op", UPDATED)
def test_updated_in_place(op):
    """A copy cannot stand in for what is updated; and nothing is changed before all is checked."""
    spec = specs()[op]

    def complete(arrays):
        return all(arrays.get(name) is not None for name in UPDATED[op]) and np.shape(arrays.get("x", (0, 0)))[0] > 1

    case = last_case(spec, complete)
    options = {**case.options, **TRAINING.get(op, {})}
    wrong = {
        "read-only": lambda x: read_only(x.copy()),
        "stepped": lambda x: np.repeat(x, 2, axis=-1)[..., ::2],
        "misaligned": lambda x: np.zeros(x.nbytes + 1, np.uint8)[1:].view(x.dtype).reshape(x.shape),
    }
    for name in UPDATED[op]:
        for change in wrong.values():
            arrays = spec.inputs(case)
            key = f"{name}[1]" if isinstance(arrays[name], list) else name
            before = spec.inputs(case)
            with raises(ValueError, op, key, "updated in place, expected a writable"):
                spec.forward(ops, with_array(arrays, key, change), options)
            for each, x in arrays.items():
                for a, b in zip(as_listed(x), as_listed(before[each]), strict=True):
                    np.testing.assert_array_equal(a, b, err_msg=each)


def as_listed(x):
    return x if isinstance(x, list) else [x]


@each_spec(lambda spec: any(isinstance(x, list) for x in spec.inputs(spec.cases[-1]).values()))
def test_lists(spec):
    case = spec.cases[-1]
    arrays = spec.inputs(case)
    lists = [name for name, x in arrays.items() if isinstance(x, list)]
    for name in lists:
        for wrong in (arrays[name][0], "text", 1, {"a": arrays[name][0]}, iter(arrays[name]), set()):
            with raises(TypeError, spec.name, name, f"list.*got {type(wrong).__name__}"):
                spec.forward(ops, {**arrays, name: wrong}, case.options)
        for i in (0, len(arrays[name]) - 1):
            wrong = list(arrays[name])
            wrong[i] = None
            with raises(TypeError, spec.name, f"{name}[{i}]", "NoneType"):
                spec.forward(ops, {**arrays, name: wrong}, case.options)
        if len(lists) > 1:
            for wrong in (arrays[name][:-1], [*arrays[name], arrays[name][0].copy()]):
                said = "has" if name != lists[0] else "like params"
                with pytest.raises(ValueError, match=rf"^{spec.name}: .*{said}"):
                    spec.forward(ops, {**arrays, name: wrong}, case.options)


@each_spec(lambda spec: differentiable(spec) and spec.outputs > 1)
def test_each_dy(spec):
    """test_errors.py changes the first of several."""
    case = spec.cases[-1]
    outputs, ctx = spec.forward(ops, spec.inputs(case), case.options)
    dy = as_tuple(spec.draw_dy(outputs))
    for i in range(1, spec.outputs):
        for change, said in NOT_FLOAT:
            with raises(TypeError, spec.name, r"d\w+", said):
                spec.backward(ops, (*dy[:i], change(dy[i]), *dy[i + 1 :]), ctx)
        with raises(ValueError, spec.name, r"d\w+", "expected"):
            spec.backward(ops, (*dy[:i], dy[i][None], *dy[i + 1 :]), ctx)
