"""Operators of ONNX in forms that its own tests leave out: older opsets, unequal pads, float64, empty arrays; against
onnxruntime."""

import numpy as np
import pytest

pytest.importorskip("onnx")

import onnx.reference
from onnx import TensorProto, helper

from fastnn.onnx import UnsupportedOperator, load

IR_VERSION = 8
F = np.float32


def model_of(op, opset, arrays, outputs=1, **attributes):
    """A model of one node; None among the arrays is an input left out."""
    names = ["" if x is None else f"x{i}" for i, x in enumerate(arrays)]
    node = helper.make_node(op, names, [f"y{i}" for i in range(outputs)], **attributes)
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
        for name, x in zip(names, arrays, strict=True)
        if name
    ]
    results = [onnx.ValueInfoProto(name=name) for name in node.output]
    graph = helper.make_graph([node], op, inputs, results)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=IR_VERSION)


def run(model, arrays):
    return load(model).run([x for x in arrays if x is not None])


def truth(model, arrays):
    """What onnxruntime makes of it; or ONNX's own evaluator, where that declines: pads SAME beside dilations."""
    runtime = pytest.importorskip("onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    feeds = {f"x{i}": x for i, x in enumerate(arrays) if x is not None}
    if declined(model):
        return onnx.reference.ReferenceEvaluator(model).run(None, feeds)
    session = runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


def declined(model):
    """Whether onnxruntime does not have this form of a node."""
    (node,) = model.graph.node
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    return "dilations" in attributes and attributes.get("auto_pad", b"").startswith(b"SAME")


def array(*shape, dtype=F, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


def ints(*values, dtype=np.int64):
    return np.array(values, dtype)


X4, X3, X5 = array(2, 4, 7, 5), array(2, 3, 9), array(2, 2, 5, 6, 4)
EMPTY = np.zeros((0, 4, 7, 5), F)
CHANNELS = [np.abs(array(4, seed=i)) + F(0.5) for i in range(4)]
RECURRENT = {  # gates of W and R
    "RNN": 1,
    "GRU": 3,
    "LSTM": 4,
}


def recurrent(op, directions=1, lengths=None, states=False, peepholes=False, bias=True, layout=0):
    """Inputs of a recurrent operator: T 4, N 3, D 2, H 5."""
    gates, d = RECURRENT[op], directions
    state = [array(d, 3, 5, seed=8), array(d, 3, 5, seed=9)][: 2 if op == "LSTM" else 1] if states else []
    x = array(4, 3, 2)
    if layout:
        x, state = x.swapaxes(0, 1).copy(), [s.swapaxes(0, 1).copy() for s in state]
    arrays = [x, array(d, gates * 5, 2), array(d, gates * 5, 5), array(d, 2 * gates * 5) if bias else None]
    arrays += [None if lengths is None else ints(*lengths, dtype=np.int32), *state]
    if peepholes:
        arrays += [None] * (7 - len(arrays)) + [array(d, 15)]
    return arrays


CASES = [
    # opset 12 and before: all axes from `axis` on are one
    *[(op, 11, [X4], {"axis": axis}) for op in ("Softmax", "LogSoftmax", "Hardmax") for axis in (0, 1, -1)],
    *[(op, 13, [X4], {"axis": axis}) for op in ("Softmax", "LogSoftmax", "Hardmax") for axis in (1, -2)],
    # attributes that became inputs
    ("Clip", 6, [X4], {"min": -0.5, "max": 0.5}), ("Clip", 6, [X4], {"max": 0.25}), ("Clip", 11, [X4, F(-0.5)], {}),
    ("Clip", 12, [ints(-3, 0, 9, dtype=np.int32), None, np.int32(4)], {}), ("Dropout", 7, [X4], {"ratio": 0.9}),
    ("Squeeze", 11, [X4[:, :1]], {"axes": [-3]}), ("Squeeze", 11, [X4[:1, :1]], {}),
    ("Unsqueeze", 11, [X3], {"axes": [0, -1]}), ("Unsqueeze", 13, [X3, ints(-1, 1)], {}),
    ("Slice", 9, [X4], {"axes": [1, -1], "starts": [1, -3], "ends": [99, -1]}),
    ("Slice", 9, [X3], {"starts": [0], "ends": [1]}),
    ("Slice", 13, [X4, ints(-1, 9), ints(-99, -99), ints(2, 3), ints(-2, -1)], {}),
    ("Slice", 13, [X4, ints(5), ints(1), ints(3)], {}),
    *[("Pad", 10, [X4], {"pads": [0, 0, 1, 2, 0, 0, 3, 0], "mode": mode})
      for mode in ("constant", "reflect", "edge")],
    ("Pad", 10, [X4], {"pads": [0, 0, -1, 2, 0, 1, 0, -2], "value": 1.5}),
    ("Pad", 13, [X4, ints(1, 0, -2, 0, 0, 0, 1, 1), F(2)], {}),
    ("Pad", 18, [X4, ints(1, 2), None, ints(-1)], {"mode": "reflect"}),
    ("Upsample", 7, [X4], {"scales": [1.0, 1.0, 2.0, 3.0], "mode": "nearest"}),
    ("Upsample", 9, [X4, np.array([1, 1, 2, 2], F)], {"mode": "linear"}),
    ("Resize", 10, [X4, np.array([1, 1, 0.6, 1.7], F)], {}),
    *[("ReduceSum", 11, [X4], {"axes": [-1, 1], "keepdims": keep}) for keep in (0, 1)],
    ("ReduceSum", 13, [X4, ints(-2)], {}), ("ReduceMean", 13, [X4], {"axes": [2, 3]}),
    ("ReduceMean", 18, [X4, ints(-1, -2)], {"keepdims": 0}), ("ReduceLogSumExp", 13, [X4 * F(100)], {"axes": [1]}),
    ("ReduceL2", 18, [X4], {}), ("ReduceProd", 13, [X3], {"axes": [2]}),
    ("ReduceMax", 13, [ints(3, -7, 2, dtype=np.int32)], {}),
    ("ReduceSum", 13, [X4, np.zeros(0, np.int64)], {"noop_with_empty_axes": 1}),
    ("Split", 11, [X4], {"axis": 1, "split": [1, 3]}, 2), ("Split", 2, [X4], {"axis": -3}, 2),
    ("Split", 13, [X4, ints(3, 4)], {"axis": 2}, 2), ("Split", 18, [X4], {"axis": 2, "num_outputs": 3}, 3),
    ("TopK", 10, [X3, ints(4)], {"axis": -1}, 2), ("TopK", 11, [X3, ints(2)], {"axis": 1, "largest": 0}, 2),
    ("ArgMax", 11, [X4], {"axis": -2, "keepdims": 0}),
    ("ArgMin", 12, [np.ones((2, 3), F)], {"axis": 1, "select_last_index": 1}),
    ("BatchNormalization", 7, [X4, *CHANNELS], {"epsilon": 1e-3}),
    ("BatchNormalization", 9, [X3[:, [0, 1, 2, 0]], *CHANNELS], {}),
    ("BatchNormalization", 15, [X5[:, [0, 1, 1, 0]], *CHANNELS], {}),
    ("BatchNormalization", 15, [EMPTY, *CHANNELS], {}),
    ("BatchNormalization", 14, [X4, *CHANNELS], {"training_mode": 1, "momentum": 0.7}, 3),
    ("GroupNormalization", 21, [X4, CHANNELS[0], CHANNELS[1]], {"num_groups": 2}), ("LRN", 13, [X4], {"size": 3}),
    ("InstanceNormalization", 6, [X3, *[c[:3] for c in CHANNELS[:2]]], {}),
    ("LayerNormalization", 17, [X4, array(7, 5), array(7, 5, seed=1)], {"axis": 2}, 3),
    ("LayerNormalization", 17, [X4, array(5), None], {}), ("MeanVarianceNormalization", 13, [X4], {}),
    ("LpNormalization", 1, [X4], {"axis": 1, "p": 1}), ("PRelu", 9, [X4, array(4, 1, 1)], {}),
    ("PRelu", 7, [X4, array(1)], {}), ("Celu", 12, [X4], {"alpha": 1.5}), ("HardSigmoid", 6, [X4], {"alpha": 0.3}),
    ("Shrink", 9, [X4], {"lambd": 0.5, "bias": 0.25}),
    # products
    *[("Gemm", 11, [array(3, 4), array(5, 4), c], {"transB": 1, "alpha": alpha, "beta": 0.5}) for alpha in (1.0, 0.25)
      for c in (None, array(5), array(1, 5), array(3, 1), array(1), array(3, 5))],
    ("Gemm", 9, [array(4, 3), array(4, 5), array(5)], {"transA": 1}),
    ("Gemm", 13, [np.zeros((0, 4), F), array(4, 5), array(5)], {}),
    *[("MatMul", 13, [array(*a), array(*b)], {}) for a, b in (((4,), (4, 3)), ((2, 4), (4,)), ((2, 3, 4), (4, 5)),
      ((2, 1, 3, 4), (5, 4, 2)), ((0, 4), (4, 3)), ((3,), (3,)))],
    ("Einsum", 12, [array(2, 3, 4), array(4, 5)], {"equation": "bij, jk -> bik"}),
    # convolutions
    ("Conv", 11, [X3, array(4, 3, 3), array(4)], {"pads": [2, 1], "strides": [2]}),
    *[("Conv", 11, [X4, array(6, 2, 3, 2)], {"group": 2, "auto_pad": auto, "strides": [2, 3], "dilations": [1, 2]})
      for auto in ("SAME_UPPER", "SAME_LOWER", "VALID")],
    ("Conv", 1, [X4, array(3, 4, 3, 3), array(3)], {"pads": [2, 0, 1, 3], "dilations": [2, 1]}),
    ("Conv", 11, [EMPTY, array(3, 4, 3, 3)], {}),
    ("Conv", 11, [X5, array(4, 1, 3, 2, 2), array(4)],
      {"group": 2, "pads": [1, 0, 1, 2, 1, 0], "strides": [2, 1, 2]}),
    ("ConvTranspose", 11, [X4, array(4, 3, 3, 2), array(3)],
      {"strides": [2, 3], "pads": [1, 0, 0, 1], "output_padding": [1, 0]}),
    ("ConvTranspose", 11, [X4, array(4, 2, 2, 2)], {"strides": [3, 3], "group": 2, "output_padding": [2, 1]}),
    ("ConvTranspose", 11, [X4, array(4, 2, 3, 3)], {"strides": [2, 2], "output_shape": [14, 10]}),
    ("ConvTranspose", 11, [X3, array(3, 2, 4), array(2)], {"strides": [2], "pads": [1, 2], "dilations": [2]}),
    ("ConvTranspose", 11, [X5, array(2, 3, 2, 3, 2), array(3)], {"strides": [2, 1, 3], "pads": [1, 0, 1, 0, 1, 0]}),
    *[("ConvTranspose", 11, [X4, array(4, 2, 3, 3)], {"strides": [2, 2], "auto_pad": auto})
      for auto in ("SAME_UPPER", "SAME_LOWER")],
    # pooling
    *[("MaxPool", 12, [X4], {"kernel_shape": [3, 2], **more}, 2) for more in ({},
      {"pads": [1, 1, 1, 1], "strides": [2, 1]}, {"pads": [0, 1, 2, 0], "strides": [2, 2]},
      {"dilations": [2, 1], "ceil_mode": 1, "strides": [2, 3]}, {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
      {"storage_order": 1})],
    ("MaxPool", 12, [X3], {"kernel_shape": [3], "pads": [2, 0], "strides": [2]}, 2),
    ("MaxPool", 8, [X5], {"kernel_shape": [2, 3, 2], "pads": [1, 0, 1, 0, 1, 0], "strides": [2, 1, 2]}),
    ("MaxPool", 12, [(X4 * 20).astype(np.int8)], {"kernel_shape": [2, 2], "pads": [1, 0, 0, 1]}),
    ("MaxPool", 12, [EMPTY], {"kernel_shape": [2, 2]}),
    *[("AveragePool", 11, [X4], {"kernel_shape": [3, 2], "count_include_pad": include, **more}) for include in (0, 1)
      for more in ({}, {"pads": [1, 1, 1, 1], "strides": [2, 1]}, {"pads": [0, 1, 2, 0]},
      {"ceil_mode": 1, "strides": [3, 2]}, {"auto_pad": "SAME_LOWER", "strides": [2, 2]})],
    ("AveragePool", 19, [X4], {"kernel_shape": [3, 2], "dilations": [2, 1], "pads": [1, 1, 1, 1]}),
    ("AveragePool", 7, [X3], {"kernel_shape": [4], "pads": [1, 0]}),
    ("AveragePool", 11, [X5], {"kernel_shape": [2, 3, 2], "pads": [1, 0, 1, 0, 1, 1], "strides": [2, 2, 1]}),
    *[("LpPool", 11, [X4], {"kernel_shape": [3, 2], "p": p, "pads": [1, 0, 1, 1], "strides": [2, 1]})
      for p in (1, 2, 3)],
    ("GlobalAveragePool", 1, [X5], {}), ("GlobalMaxPool", 1, [X3], {}), ("GlobalLpPool", 2, [X4], {"p": 3}),
    # recurrent networks
    *[(op, 14, recurrent(op, 2, (4, 1, 3), True), {"hidden_size": 5, "direction": "bidirectional"}, 2)
      for op in RECURRENT],
    *[(op, 7, recurrent(op, bias=False), {"hidden_size": 5, "direction": "reverse"}, 2) for op in RECURRENT],
    *[(op, 14, recurrent(op, states=True), {"hidden_size": 5, "clip": 0.5}, 2) for op in ("RNN", "LSTM")],
    ("GRU", 14, recurrent("GRU", states=True), {"hidden_size": 5, "linear_before_reset": 1}, 2),
    ("GRU", 14, recurrent("GRU", lengths=(2, 4, 1)), {"hidden_size": 5, "activations": ["HardSigmoid", "Softsign"]}, 2),
    ("RNN", 14, recurrent("RNN"), {"hidden_size": 5, "activations": ["ScaledTanh"], "activation_alpha": [0.5],
      "activation_beta": [0.1]}, 2),
    ("RNN", 14, recurrent("RNN"), {"hidden_size": 5, "activations": ["Relu"]}, 2),
    ("LSTM", 14, recurrent("LSTM", 1, (2, 4, 3), True, True), {"hidden_size": 5}, 3),
    ("LSTM", 14, recurrent("LSTM"), {"hidden_size": 5, "input_forget": 1}, 3),
    # places
    ("Gather", 11, [X4, ints(-1, 0, 3)], {"axis": 1}),
    ("GatherElements", 11, [X3, ints(0, -1, 2).reshape(1, 1, 3)], {"axis": 2}),
    ("GatherND", 12, [X4, ints(1, 0, -1, 2).reshape(2, 2)], {"batch_dims": 1}),
    ("ScatterND", 13, [X3, ints(1, 0).reshape(2, 1), X3 * F(2)], {}),
    *[("ScatterElements", 18, [X3, ints(0, 0, -1).reshape(1, 1, 3), array(1, 1, 3)], {"axis": 2, "reduction": kind})
      for kind in ("none", "add", "mul", "max")],
    ("CumSum", 14, [X4, np.array(-1)], {"exclusive": 1, "reverse": 1}),
    ("CumSum", 11, [np.zeros((2, 0), F), np.array(1)], {"exclusive": 1}),
    ("OneHot", 11, [ints(0, -1, 9), ints(3), np.array([0, 5], F)], {"axis": 0}),
    ("Reshape", 14, [np.zeros((0, 3), F), ints(3, 0)], {"allowzero": 1}), ("Reshape", 13, [X4, ints(0, -1, 5)], {}),
    ("Flatten", 13, [X4], {"axis": -1}), ("Flatten", 9, [X4], {"axis": 0}), ("Concat", 13, [X4, EMPTY], {"axis": 0}),
    ("Tile", 13, [X3, ints(1, 2, 0)], {}), ("Expand", 13, [X4[:, :1], ints(3, 1, 4, 1, 1)], {}),
    ("Transpose", 13, [X4], {}), ("Shape", 15, [X4], {"start": -3, "end": 99}),
    ("Range", 11, [F(3), F(-1), F(-0.75)], {}), ("NonZero", 13, [np.eye(3, 4, dtype=F)], {}),
    ("Trilu", 14, [X4, np.array(-1)], {"upper": 0}), ("DepthToSpace", 13, [X4], {"blocksize": 2, "mode": "CRD"}),
    ("SpaceToDepth", 13, [X4[:, :, :6, :4]], {"blocksize": 2}),
    # integers
    ("Div", 14, [ints(-7, 7, -7, 6), ints(2, -2, -2, 3)], {}), ("Mod", 13, [ints(-7, 7, -7), ints(3, -3, -3)], {}),
    ("Mod", 13, [X3, X3[::-1].copy()], {"fmod": 1}), ("Mod", 13, [ints(-7, 7, -7), ints(3, -3, -3)], {"fmod": 1}),
    ("Pow", 13, [ints(2, -3, 5), np.array([3, 2, 0.5], F)], {}), ("Pow", 15, [X3, ints(2)], {}),
    ("Pow", 13, [ints(2, -3, 5, dtype=np.int32), ints(3)], {}), ("Cast", 13, [X4 * F(9)], {"to": TensorProto.INT32}),
    ("Cast", 9, [ints(0, 2)], {"to": TensorProto.BOOL}), ("Round", 11, [np.array([-1.5, -0.5, 0.5, 1.5, 2.5], F)], {}),
    ("Max", 12, [X4, array(5), array(7, 1)], {}), ("Mean", 8, [X3, X3 * F(3)], {}),
    # resampling
    *[("GridSample", 16, [X4, array(2, 3, 4, 2)], {"mode": mode, "padding_mode": padding, "align_corners": align})
      for mode in ("bilinear", "nearest", "bicubic") for padding in ("zeros", "border", "reflection")
      for align in (0, 1)],
    *[("Resize", 13, [X4, None, np.array([1, 1, *scales], F)], {"mode": mode, "coordinate_transformation_mode": kind})
      for mode in ("nearest", "linear", "cubic") for kind in ("half_pixel", "asymmetric", "pytorch_half_pixel")
      for scales in ((2, 2), (0.6, 1.5))],
    *[("Resize", 13, [X4, None, None, ints(2, 4, 5, 9)],
      {"mode": mode, "coordinate_transformation_mode": "align_corners"}) for mode in ("nearest", "linear", "cubic")],
    *[("Resize", 13, [X4, None, None, ints(2, 4, 5, 9)], {"mode": "nearest", "nearest_mode": rule})
      for rule in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")],
]  # fmt: skip


def ids(condition=lambda case: True):
    return [f"{i}: {case[0]} {case[1]} {case[3]}" for i, case in enumerate(CASES) if condition(case)]


def unpacked(case):
    op, opset, arrays, attributes, *outputs = case
    arrays = [None if x is None else np.asarray(x) for x in arrays]
    return op, opset, arrays, attributes, *(outputs or [1])


def close(got, want):
    """Sums of less than a hundred terms near 1: float32 to some units of its last place."""
    np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("case", CASES, ids=ids())
def test_against_onnxruntime(case):
    op, opset, arrays, attributes, outputs = unpacked(case)
    model = model_of(op, opset, arrays, outputs, **attributes)
    want = truth(model, arrays)
    got = run(model, arrays)
    assert [(y.shape, y.dtype) for y in got] == [(y.shape, y.dtype) for y in want]
    for g, w in zip(got, want, strict=True):
        close(g, w)


def several(case):
    return len(case[2]) > 1


@pytest.mark.parametrize("case", list(filter(several, CASES)), ids=ids(several))
def test_constant_inputs(case):
    """All inputs but the first as parts of the model, for which weights are prepared and shapes planned: in the first
    call and in the second the results are the same, and near those for inputs."""
    op, opset, arrays, attributes, outputs = unpacked(case)
    model = model_of(op, opset, arrays, outputs, **attributes)
    want = run(model, arrays)
    constants = [(f"x{i}", x) for i, x in enumerate(arrays) if i and x is not None]
    model.graph.initializer.extend(onnx.numpy_helper.from_array(x, name) for name, x in constants)
    del model.graph.input[1:]
    loaded = load(model)
    first, second = loaded.run(arrays[:1]), loaded.run(arrays[:1])
    for a, b, w in zip(first, second, want, strict=True):
        assert a.tobytes() == b.tobytes()
        assert (a.shape, a.dtype) == (w.shape, w.dtype)
        close(a, w)


@pytest.mark.parametrize("case", CASES, ids=ids())
def test_float64_and_layout(case):
    """float64 gives float64, near what float32 gives; and arrays with gaps the same bits as without."""
    op, opset, arrays, attributes, outputs = unpacked(case)
    single = run(model_of(op, opset, arrays, outputs, **attributes), arrays)
    apart = [None if x is None or not x.ndim else np.repeat(x, 2, -1)[..., ::2] for x in arrays]
    apart = [x if y is None else y for x, y in zip(arrays, apart, strict=True)]
    for a, b in zip(single, run(model_of(op, opset, arrays, outputs, **attributes), apart), strict=True):
        assert a.tobytes() == b.tobytes()
    if not any(x is not None and x.dtype == F for x in arrays) or op in ("Resize", "Upsample", "Cast"):
        return
    wide = [x.astype(np.float64) if x is not None and x.dtype == F else x for x in arrays]
    double = run(model_of(op, opset, wide, outputs, **attributes), wide)
    for narrow, y in zip(single, double, strict=True):
        assert y.dtype == (np.float64 if narrow.dtype == F else narrow.dtype)
        close(y, narrow)


def test_response_norm_of_an_even_size():
    """By the definition: floor((size - 1) / 2) channels before, ceil((size - 1) / 2) behind. onnxruntime takes odd
    sizes only, and ONNX's evaluator sums for as many channels as the batch has samples."""
    x = array(2, 5, 3, 2, dtype=np.float64)
    (y,) = run(model_of("LRN", 13, [x], size=4, alpha=0.3, beta=0.5, bias=2.0), [x])
    squares = np.stack([(x[:, max(c - 1, 0) : c + 3] ** 2).sum(1) for c in range(5)], 1)
    alpha = float(F(0.3))  # attributes are float32
    np.testing.assert_allclose(y, x / (2 + alpha / 4 * squares) ** 0.5, rtol=1e-14)


def test_group_norm_of_opset_18():
    """scale and bias are those of groups; in opset 21, which onnxruntime has, of channels."""
    x, scale, bias = X4, array(2), array(2, seed=1)
    (y,) = run(model_of("GroupNormalization", 18, [x, scale, bias], num_groups=2), [x, scale, bias])
    each = [x, scale.repeat(2), bias.repeat(2)]
    (z,) = run(model_of("GroupNormalization", 21, each, num_groups=2), each)
    assert y.tobytes() == z.tobytes()


@pytest.mark.parametrize("op", ["Conv", "Gemm", "Softmax", "Gelu", "LayerNormalization", "Add"])
@pytest.mark.parametrize(
    "dtype", [np.float16, helper.tensor_dtype_to_np_dtype(TensorProto.BFLOAT16)], ids=["f16", "bf16"]
)
def test_halves_are_float32_rounded(op, dtype):
    """float16 and bfloat16 in, and the float32 result rounded once out."""
    arrays = {
        "Conv": [X4, array(3, 4, 2, 2)], "Gemm": [array(3, 4), array(4, 5), array(5)], "Softmax": [X4], "Gelu": [X4],
        "LayerNormalization": [X4, array(5)], "Add": [X4, array(5)],
    }[op]  # fmt: skip
    halves = [x.astype(dtype) for x in arrays]
    singles = [x.astype(F) for x in halves]
    (y,) = run(model_of(op, 21, halves), halves)
    (want,) = run(model_of(op, 21, singles), singles)
    assert y.dtype == dtype
    assert y.tobytes() == want.astype(dtype).tobytes()


def test_broadcasting_of_opset_6():
    """The second operand begins at an axis of the first."""
    b = array(4)
    (y,) = run(model_of("Mul", 6, [X4, b], broadcast=1, axis=1), [X4, b])
    np.testing.assert_array_equal(y, X4 * b[:, None, None])
    (y,) = run(model_of("Add", 6, [X4, array(5)], broadcast=1), [X4, array(5)])
    np.testing.assert_array_equal(y, X4 + array(5))
    (y,) = run(model_of("PRelu", 6, [X4, b]), [X4, b])
    np.testing.assert_array_equal(y, np.where(X4 < 0, b[:, None, None] * X4, X4))


def test_batch_norm_of_opset_6():
    arrays = [X4, *CHANNELS]
    (y,) = run(model_of("BatchNormalization", 6, arrays, is_test=1), arrays)
    (want,) = run(model_of("BatchNormalization", 9, arrays), arrays)
    assert y.tobytes() == want.tobytes()
    with pytest.raises(UnsupportedOperator, match="BatchNormalization of opset 6: training mode"):
        load(model_of("BatchNormalization", 6, arrays))


@pytest.mark.parametrize(
    ("op", "opset", "arrays", "attributes", "message"),
    [
        ("Softmax", 13, [X4], {"axis": 4}, "axis is 4, expected -4 to 3"),
        ("Transpose", 13, [X4], {"perm": [0, 1, 1, 2]}, "perm is"),
        ("Gather", 13, [X3, ints(9)], {"axis": 2}, "indices are 9 to 9, expected -9 to 8"),
        ("Reshape", 13, [X3, ints(5, -1)], {}, r"shape \(2, 3, 9\) cannot get the shape \[5, -1\]"),
        ("Conv", 11, [X4, array(3, 4, 2, 2)], {"pads": [1, 1]}, "pads are"),
        ("MaxPool", 12, [X4], {"kernel_shape": [9, 9]}, "the window's height, 9"),
        ("Split", 13, [X4, ints(1, 1)], {"axis": 2}, "split is"),
        ("TopK", 11, [X3, ints(10)], {}, "K is 10"),
        ("Squeeze", 13, [X4, ints(1)], {}, "expected axes of size 1"),
        ("LSTM", 14, recurrent("LSTM"), {"hidden_size": 5, "direction": "bidirectional"}, "expected 2 directions"),
        ("GRU", 14, recurrent("GRU"), {"hidden_size": 5, "activations": ["Tanh"]}, "1 activations, expected 2"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_errors_name_node_and_argument(op, opset, arrays, attributes, message):
    with pytest.raises(ValueError, match=f"operator {op}.*{message}"):
        run(model_of(op, opset, arrays, **attributes), arrays)


def test_operands_of_two_types():
    arrays = [X4, X4.astype(np.float64)]
    with pytest.raises(TypeError, match=r"operator Mul.*float32, float64"):
        run(model_of("Mul", 14, arrays), arrays)
