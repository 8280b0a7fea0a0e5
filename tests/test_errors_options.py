"""Every option of every operator, in turn, with values of the wrong kind: TypeError or ValueError, as the table
says, never a result, and the message names operator, option and what came.

An option without a row here fails `test_every_option_has_a_row`. `keep` has none: it is read by its truth value.
"""

import inspect
import re

import numpy as np
import pytest

from fastnn import ops
from fastnn.registry import specs

NAN, HUGE = float("nan"), 2**64


class Strange:
    """Of no type that anything expects; shows itself in a word."""

    def __repr__(self):
        return "strange"


def types(*values):
    return [(value, TypeError) for value in values]


def values(*values):
    return [(value, ValueError) for value in values]


NOT_A_NUMBER = types("1", [1.0], (1.0,), 1j, True, np.array([1.0, 2.0]), {}, Strange())
NOT_AN_INTEGER = types("1", 1.5, 2.0, True, NAN, 1j, np.array([1, 1]), {}, Strange())
NOT_A_PAIR = types((), (1, 1.5), (1, True), ("a", "b"), (1, 1, 1, 1, 1), (1, None), [1, 2.0])
NONE = types(None)

# What kinds of options take is not here: it is the complement.
KINDS = {
    "number": NOT_A_NUMBER + NONE,
    "number or None": NOT_A_NUMBER,
    "at least 0": NOT_A_NUMBER + NONE + values(-1.0, -1, NAN, -np.inf),
    "at least 0, or None": NOT_A_NUMBER + values(-1.0, -1, NAN, -np.inf),
    "finite, at least 0": NOT_A_NUMBER + NONE + values(-1.0, -1, NAN, np.inf, -np.inf),
    "positive": NOT_A_NUMBER + NONE + values(0, 0.0, -1.0, NAN, -np.inf),
    "not 0": NOT_A_NUMBER + NONE + values(0, 0.0, -0.0, NAN),
    "2 or inf": NOT_A_NUMBER + NONE + values(0, 1, 3.0, -2, NAN, -np.inf),
    "probability": NOT_A_NUMBER + NONE + values(-0.1, 1.1, 2, NAN, np.inf),
    "rates": types("ab", None, 0.9, (0.9,), (0.9, 0.9, 0.9), {}, Strange(), np.array([0.9, 0.9])),
    "axis": NOT_AN_INTEGER + NONE + values(99, -99, HUGE, -HUGE),
    "count": NOT_AN_INTEGER + types(None, (1,)) + values(0, -1, HUGE, -HUGE),
    "row or None": NOT_AN_INTEGER + values(1000, -1001, HUGE),
    "64 bits": NOT_AN_INTEGER + NONE + values(-1, HUGE, -HUGE),
    "signed 64 bits": NOT_AN_INTEGER + types(None, HUGE, -HUGE),
    "divisor": [(value, ValueError) for value, _ in NOT_AN_INTEGER] + values(0, HUGE, -HUGE),
    "sizes": NOT_AN_INTEGER + NOT_A_PAIR + types(None, (1, 1, 1)) + values(0, -1, (1, 0), -HUGE),
    "sizes or None": NOT_AN_INTEGER + NOT_A_PAIR + types((1, 1, 1)) + values(0, -1, (1, 0), -HUGE),
    "output sizes": NOT_AN_INTEGER + NOT_A_PAIR[:-2] + types((1, 1, 1)) + values(0, -1, (1, 0), -HUGE),
    "size": NOT_AN_INTEGER + NOT_A_PAIR + types(None, (1, 1)) + values(0, -1, -HUGE),
    "size or None": NOT_AN_INTEGER + NOT_A_PAIR + types((1, 1)) + values(0, -1, -HUGE),
    "paddings": NOT_AN_INTEGER + NOT_A_PAIR + types(None, (1, 1, 1)) + values(-1, (0, -1), -HUGE),
    "padding": NOT_AN_INTEGER + NOT_A_PAIR + types(None, (1, 1, 1)) + values(-1, -HUGE),
    "shape": types("1", None, 1.5, (), (1.5,), (True,), {}, Strange(), ("a", "b")) + values(99, (-1,), (1, 2), HUGE),
    "sequence of integers": types("1", None, 1, 1.5, (1, 1.5), (True, True), {}, Strange()) + values((1,), (1, 1, 1)),
    "lengths": types("1", (1.5,) * 5, (True,) * 5, {}, Strange(), ("a",) * 5)
    + values(1, (1,), (0, 1, 1, 1, 1), (4, 1, 1, 1, 1), (-1, 1, 1, 1, 1), ((1, 1, 1, 1, 1),)),
    "resized": types("ab", 1.5, True, (1, True), (1.5, 1.5), {}, Strange()) + values(0, -1, (1,) * 3, (), -HUGE),
    "scale": types("ab", True, 1j, (1.0, "a"), {}, Strange()) + values(0, -1.0, NAN, np.inf, (1.0,) * 3, ()),
    "resized row": types("ab", 1.5, True, (True,), (1.5,), {}, Strange()) + values(0, -1, (1, 1), (), -HUGE),
    "scale row": types("ab", True, 1j, ("a",), {}, Strange()) + values(0, -1.0, NAN, np.inf, (1.0, 1.0), ()),
    "unpooled": types("1", 1, 1.5, (), (1.5, 1.5), (1, 1, 1, 1, 1), {}, Strange()) + values((1, 1), (HUGE, HUGE)),
    "unpooled row": types("1", 1, 1.5, (), (1.5,), (1, 1), {}, Strange()) + values((1,), (HUGE,)),
    "flag": types("yes", "", None, 0, 1, 1.0, NAN, [], (True,), np.array(True), np.array([True, False]), Strange()),
    "mode": values("unknown", "", None, 1, True, NAN, b"mean", ["mean"], np.array(["mean", "sum"]), {}, Strange()),
    "mode or None": values("unknown", "", 1, True, NAN, b"relu", ["relu"], np.array(["relu"]), {}, Strange()),
}  # fmt: skip

FLAGS = (
    "relu", "is_causal", "enable_gqa", "training", "scale_grad_by_freq", "sparse", "log_target", "nesterov", "maximize",
    "first", "ceil_mode", "error_if_nonfinite", "return_indices", "count_include_pad", "reverse", "use_input_stats",
    "align_corners",
)  # fmt: skip
MODES = "algo", "approximate", "reduction", "mode", "position", "nonlinearity", "variant", "method"
ANY_OP = {
    **dict.fromkeys(FLAGS, "flag"),
    **dict.fromkeys(MODES, "mode"),
    **dict.fromkeys(("negative_slope", "threshold", "value", "min_val", "max_val"), "number"),
    **dict.fromkeys(("groups", "num_groups", "step"), "count"),
    **dict.fromkeys(("kernel_size", "dilation", "block"), "sizes"),
    **dict.fromkeys(("lr", "weight_decay", "clip_value"), "finite, at least 0"),
    "activation": "mode or None",
    "alpha": "number",
    "axis": "axis",
    "beta": "number",
    "betas": "rates",
    "delta": "positive",
    "dampening": "number",
    "divisor_override": "divisor",
    "eps": "at least 0",
    "ignore_index": "signed 64 bits",
    "k": "at least 0",
    "label_smoothing": "probability",
    "lengths": "lengths",
    "max_norm": "at least 0",
    "momentum": "number",
    "normalized_shape": "shape",
    "norm_type": "not 0",
    "offset": "64 bits",
    "output_size": "output sizes",
    "p": "probability",
    "pad": "sequence of integers",
    "padding": "paddings",
    "padding_idx": "row or None",
    "scale": "number or None",
    "scale_factor": "scale",
    "seed": "64 bits",
    "size": "resized",
    "stride": "sizes or None",
}
POOL1D = "max_pool1d", "min_pool1d", "avg_pool1d", "lp_pool1d", "max_unpool1d"
ROWS = {
    **{(op, "kernel_size"): "size" for op in POOL1D},
    **{(op, "stride"): "size or None" for op in POOL1D},
    **{(op, "dilation"): "size" for op in ("conv1d", "max_pool1d", "min_pool1d")},
    ("conv1d", "stride"): "size",
    **{(op, "padding"): "padding" for op in ("conv1d", "max_pool1d", "min_pool1d", "avg_pool1d", "max_unpool1d")},
    **{(op, "output_size"): "size or None" for op in ("adaptive_max_pool1d", "adaptive_avg_pool1d")},
    **{(op, "stride"): "sizes" for op in ("conv2d", "conv_transpose2d", "upsample_zeros2d")},
    **{(op, "momentum"): "finite, at least 0" for op in ("sgd_step", "rmsprop_step")},
    **{(op, "size"): "resized row" for op in ("upsample_nearest1d", "upsample_linear1d")},
    **{(op, "scale_factor"): "scale row" for op in ("upsample_nearest1d", "upsample_linear1d")},
    ("batch_norm", "momentum"): "number or None",
    ("conv_transpose2d", "output_padding"): "paddings",
    ("rmsprop_step", "alpha"): "finite, at least 0",
    ("rmsprop_step", "eps"): "finite, at least 0",
    ("adam_step", "eps"): "finite, at least 0",
    ("adamw_step", "eps"): "finite, at least 0",
    ("local_response_norm", "size"): "count",
    ("local_response_norm", "alpha"): "at least 0",
    ("smooth_l1_loss", "beta"): "at least 0",
    ("clip_grad_norm", "norm_type"): "2 or inf",
    ("embedding", "norm_type"): "positive",
    ("embedding", "max_norm"): "at least 0, or None",
    ("rms_norm", "eps"): "at least 0, or None",
    ("max_unpool2d", "output_size"): "unpooled",
    ("max_unpool1d", "output_size"): "unpooled row",
}  # fmt: skip


def options_of(spec):
    """Names of the arguments that are not arrays."""
    arrays = {name for case in spec.cases for name in case.shapes} | {"out", "keep", "weight", "pos_weight", "mask"}
    return [name for name in inspect.signature(spec.function(ops)).parameters if name not in arrays]


def others(spec, name):
    """Of size and scale_factor there can be one."""
    other = {"size": "scale_factor", "scale_factor": "size"}.get(name)
    return {other: None} if other in options_of(spec) else {}


def kind_of(op, name):
    return ROWS.get((op, name)) or ANY_OP.get(name)


# Arguments that are arrays and occur in no case: tests/test_norm.py has them.
ARRAYS = {("batch_norm", "num_batches_tracked")}
OPTIONS = [(spec, name) for spec in specs().values() for name in options_of(spec) if (spec.name, name) not in ARRAYS]


def test_every_option_has_a_row():
    assert [f"{spec.name}: {name}" for spec, name in OPTIONS if kind_of(spec.name, name) is None] == []


def test_every_row_has_an_option():
    known = {(spec.name, name) for spec, name in OPTIONS}
    assert set(ROWS) <= known
    assert set(ANY_OP) == {name for _, name in known} - {"output_padding"}
    assert set(KINDS) == {kind_of(*pair) for pair in known}


def shown(value):
    """A pattern for what a message says of a value: itself, or an equal number, in whatever brackets, the wrong element
    of it, or its shape."""
    words = [repr(value)]
    if isinstance(value, int | float) and abs(value) < HUGE:
        words.append(str(float(value)))
    if isinstance(value, int | float):
        words.append(str(value))
    if isinstance(value, list | tuple):
        words += [", ".join(map(repr, value)), f"shape {np.shape(value)}", *map(repr, value[-1:])]
    elif isinstance(value, int):
        words.append("shape ()")
    return "|".join(map(re.escape, words))


CASES = [
    pytest.param(spec, name, value, error, id=f"{spec.name}-{name}-{value!r}")
    for spec, name in OPTIONS
    for value, error in KINDS.get(kind_of(spec.name, name), [])
]


@pytest.mark.parametrize(("spec", "name", "value", "error"), CASES)
def test_option(spec, name, value, error):
    case = spec.cases[-1]
    options = {**case.options, **others(spec, name), name: value}
    with pytest.raises((TypeError, ValueError)) as caught:
        spec.function(ops)(**spec.inputs(case), **options)
    message = str(caught.value)
    assert re.match(rf"{spec.name}: ", message), message
    assert re.search(rf"\b{name}\b", message), message
    assert re.search(shown(value), message, re.S), message
    assert caught.type is error, message
