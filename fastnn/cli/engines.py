"""Inference engines as peers: onnxruntime, openvino and ncnn.

An engine compiles a model of one operator; that is when it packs or transforms weights, which is therefore not timed.
Forward passes in float32 only: lower precisions that an engine would choose by itself are switched off. Inputs lie in
its own tensors, and outputs stay there.

A model is described by a function of the table ONNX (onnxruntime, openvino) or NCNN: from the array arguments and the
options of the operator to a `Graph` or a `Layer`, or None for options that the engine does not have.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import contextmanager
from functools import partial
from tempfile import NamedTemporaryFile
from typing import Any, NamedTuple

import numpy as np

from fastnn.descriptors import conv1d_desc, conv2d_desc, conv_transpose2d_desc, pool2d_desc
from fastnn.measure import Entry


class Engine:
    """What engines have in common. A subclass has a table `describe` and a method `compile`."""

    needs: tuple[str, ...]
    prepared = True
    backward_means = ""
    describe: Mapping[str, Callable[..., Any]]

    def __init__(self):
        self.n = 1

    @contextmanager
    def threads(self, n):
        """Limit models that are compiled inside to n threads."""
        before, self.n = self.n, n
        try:
            yield
        finally:
            self.n = before

    def entry(self, spec, direction, arrays, options, dy):
        """The forward pass of a compiled model, ready to time; None if the engine does not have it."""
        arrays = {name: x for name, x in arrays.items() if x is not None}
        if direction != "forward" or any(x.dtype != np.float32 for x in arrays.values()):
            return None
        describe = self.describe.get(spec.name)
        model = describe(arrays, **options) if describe else None
        if model is None:
            return None
        call = self.compile(model, arrays)
        call.arrays = arrays  # their memory is shared, but not kept
        return Entry(call)

    def compile(self, model, arrays):
        """The call to time."""
        raise NotImplementedError


# ---- geometry that both kinds of model share ----


def sides(desc):
    """Padding of pooling as (top, left), (bottom, right). In ceil mode the last window can end beyond the padding,
    which is the same as more padding there."""
    begin = desc.padding
    beyond = [
        (out - 1) * stride + dilation * (kernel - 1) + 1 - size - padding
        for out, stride, dilation, kernel, size, padding in zip(
            (desc.oh, desc.ow), desc.stride, desc.dilation, desc.kernel, (desc.h, desc.w), begin, strict=True
        )
    ]
    return begin, tuple(max(pair) for pair in zip(begin, beyond, strict=True))


def output_padding(desc):
    """That of the transposed convolution with this descriptor, (down, across)."""
    top, bottom, left, right = desc.padding
    return (
        desc.h + top + bottom - desc.dilation[0] * (desc.r - 1) - 1 - (desc.oh - 1) * desc.stride[0],
        desc.w + left + right - desc.dilation[1] * (desc.s - 1) - 1 - (desc.ow - 1) * desc.stride[1],
    )


def average_window(arrays, kernel_size, stride=None, padding=0, ceil_mode=False, divisor_override=None, **_):
    """The descriptor of an average pooling; None for a divisor that engines do not have."""
    if divisor_override is not None:
        return None
    return pool2d_desc("avg_pool2d", arrays["x"].shape, kernel_size, stride, padding, 1, ceil_mode)


# ---- ONNX ----


class Node(NamedTuple):
    """An operator of ONNX."""

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any] = {}


class Graph(NamedTuple):
    """An ONNX graph. Arguments of the operator that are not `inputs` are constants, so that an engine prepares them."""

    nodes: tuple[Node, ...]
    inputs: tuple[str, ...] = ("x",)
    outputs: tuple[str, ...] = ("y",)
    arrays: Mapping[str, np.ndarray] | None = None
    """Inputs and constants, where they are not the operator's arguments themselves."""
    shapes: tuple[tuple[int, ...], ...] | None = None
    """Of the operator's results, where the outputs have others."""

    def results(self, outputs):
        """The operator's results, from the outputs as NumPy arrays."""
        return tuple(outputs if self.shapes is None else map(np.reshape, outputs, self.shapes))


OPSET, IR_VERSION = 17, 8  # of 2022, so that engines of the last years read it


def onnx_bytes(graph: Graph, arrays):
    """The serialised ONNX model."""
    from onnx import TensorProto, helper, numpy_helper

    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, arrays[name].shape) for name in graph.inputs]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in graph.outputs]
    constants = [numpy_helper.from_array(x, name) for name, x in arrays.items() if name not in graph.inputs]
    nodes = [helper.make_node(node.op, node.inputs, node.outputs, **node.attributes) for node in graph.nodes]
    body = helper.make_graph(nodes, "operator", inputs, outputs, constants)
    opsets = [helper.make_opsetid("", OPSET)]
    return helper.make_model(body, opset_imports=opsets, ir_version=IR_VERSION).SerializeToString()


def onnx_node(op, *inputs, **attributes):
    """A function that describes a model of one node with fixed attributes."""
    graph = Graph((Node(op, inputs, ("y",), attributes),), inputs)
    return lambda arrays: graph


def onnx_softmax(op, arrays, axis):
    return Graph((Node(op, ("x",), ("y",), {"axis": axis}),))


def onnx_linear(arrays):
    """All axes of x but the last are rows."""
    x, w = arrays["x"], arrays["w"]
    node = Node("Gemm", tuple(arrays), ("y",), {"transB": 1})
    return Graph((node,), arrays=arrays | {"x": x.reshape(-1, x.shape[-1])}, shapes=((*x.shape[:-1], len(w)),))


def onnx_conv(describe, dimensions, arrays, activation=None, **options):
    """The nodes of a convolution, and of its ReLU."""
    desc = describe(arrays["x"].shape, arrays["w"].shape, **options)
    top, bottom, left, right = desc.padding
    conv = Node("Conv", tuple(arrays), ("y" if activation is None else "sum",), {
        "strides": desc.stride[-dimensions:],
        "dilations": desc.dilation[-dimensions:],
        "pads": (top, left)[-dimensions:] + (bottom, right)[-dimensions:],
        "group": desc.groups,
    })  # fmt: skip
    return Graph((conv,) if activation is None else (conv, Node("Relu", ("sum",), ("y",))))


def onnx_conv_transpose(arrays, **options):
    desc = conv_transpose2d_desc(arrays["x"].shape, arrays["w"].shape, **options)
    top, bottom, left, right = desc.padding
    return Graph((Node("ConvTranspose", tuple(arrays), ("y",), {
        "strides": desc.stride,
        "dilations": desc.dilation,
        "pads": (top, left, bottom, right),
        "output_padding": output_padding(desc),
        "group": desc.groups,
    }),))  # fmt: skip


def onnx_pool(op, desc, **attributes):
    """The node of a pooling; None with padding as large as the kernel, which ONNX Runtime refuses."""
    begin, end = sides(desc)
    if any(padding >= size for padding, size in zip(end, desc.kernel, strict=True)):
        return None
    geometry = {"kernel_shape": desc.kernel, "strides": desc.stride, "pads": begin + end}
    return Graph((Node(op, ("x",), ("y",), geometry | attributes),))


def onnx_max_pool(arrays, return_indices=False, **options):
    if return_indices:
        return None
    desc = pool2d_desc("max_pool2d", arrays["x"].shape, **options)
    return onnx_pool("MaxPool", desc, dilations=desc.dilation)


def onnx_avg_pool(arrays, count_include_pad=True, **options):
    desc = average_window(arrays, **options)
    if desc is None or (count_include_pad and sides(desc)[1] != desc.padding):
        return None
    return onnx_pool("AveragePool", desc, count_include_pad=int(count_include_pad))


def onnx_batch_norm(arrays, training=True, momentum=0.1, eps=1e-5, relu=False):
    inputs = ("x", "weight", "bias", "running_mean", "running_var")
    if training or not arrays.keys() >= set(inputs):
        return None
    steps = [("BatchNormalization", inputs, {"epsilon": eps})]
    if "residual" in arrays:
        steps.append(("Add", ("normalised", "residual"), {}))
    if relu:
        steps.append(("Relu", ("total" if "residual" in arrays else "normalised",), {}))
    results = {"BatchNormalization": "normalised", "Add": "total", "Relu": "passed", steps[-1][0]: "y"}
    nodes = (Node(op, taken, (results[op],), attributes) for op, taken, attributes in steps)
    return Graph(tuple(nodes), ("x", "residual") if "residual" in arrays else ("x",))


def onnx_gates(w, order, negated):
    """Blocks of rows in another order, one of them with the opposite sign, behind an axis of directions."""
    blocks = np.split(w, len(order))
    return np.concatenate([-blocks[k] if k == negated else blocks[k] for k in order])[None]


def onnx_recurrent(op, arrays, order, lengths=None, reverse=False, negated=None, **attributes):
    """The node of a sequence; None with a projection. order: our gates in that of ONNX, see onnx_gates."""
    if "w_hr" in arrays:
        return None
    (steps, n, _), size = arrays["x"].shape, arrays["w_hh"].shape[1]
    found = {"x": arrays["x"]}
    found |= {name: onnx_gates(arrays[name], order, negated) for name in ("w_ih", "w_hh")}
    if "b_ih" in arrays:
        found["b"] = np.concatenate([onnx_gates(arrays[name], order, negated) for name in ("b_ih", "b_hh")], 1)
    if lengths is not None:
        found["lengths"] = np.asarray(lengths, np.int32)
    states = {name: arrays[name][None] for name in ("h0", "c0") if name in arrays}
    found |= states
    inputs = tuple(name if name in found else "" for name in ("x", "w_ih", "w_hh", "b", "lengths", "h0", "c0"))
    kept = ("h", "c") if op == "LSTM" else ("h",)
    attributes |= {"hidden_size": size, "direction": "reverse" if reverse else "forward"}
    node = Node(op, inputs[: 5 + len(kept)], ("y", *kept), attributes)
    shapes = ((steps, n, size), *[(n, size)] * len(kept))
    return Graph((node,), ("x", *states), node.outputs, found, shapes)


def onnx_rnn(arrays, nonlinearity="tanh", **options):
    return onnx_recurrent("RNN", arrays, (0,), activations=[nonlinearity.capitalize()], **options)


def onnx_gru(arrays, variant="torch", **options):
    """In ONNX z is the share of the state that stays, as in torch; in the paper that of what is new, and 1 - sigmoid(a)
    is sigmoid(-a)."""
    negated, after = {"torch": (None, 1), "paper": (1, 0)}[variant]
    return onnx_recurrent("GRU", arrays, (1, 0, 2), negated=negated, linear_before_reset=after, **options)


def onnx_lstm(arrays, **options):
    return onnx_recurrent("LSTM", arrays, (0, 3, 1, 2), **options)


ONNX: Mapping[str, Callable[..., Graph | None]] = {
    "conv2d": partial(onnx_conv, conv2d_desc, 2),
    "conv1d": partial(onnx_conv, conv1d_desc, 1),
    "conv_transpose2d": onnx_conv_transpose,
    "linear": onnx_linear,
    "matmul": onnx_node("MatMul", "a", "b"),
    "max_pool2d": onnx_max_pool,
    "avg_pool2d": onnx_avg_pool,
    "batch_norm": onnx_batch_norm,
    "relu": onnx_node("Relu", "x"),
    "sigmoid": onnx_node("Sigmoid", "x"),
    "tanh": onnx_node("Tanh", "x"),
    "softmax": partial(onnx_softmax, "Softmax"),
    "log_softmax": partial(onnx_softmax, "LogSoftmax"),
    "rnn": onnx_rnn,
    "gru": onnx_gru,
    "lstm": onnx_lstm,
}


class OnnxRuntime(Engine):
    """ONNX Runtime's CPU provider, inputs and outputs bound to memory of its own.

    With several threads its pool spins for about 35 ms after a call, which makes its next call faster, and which
    `contest.SETTLE` outlasts.
    """

    needs = ("onnxruntime", "onnx")
    describe = ONNX

    def __init__(self):
        import onnxruntime

        super().__init__()
        self.library = onnxruntime
        self.version = onnxruntime.__version__

    def compile(self, model, arrays):
        """The call to time."""
        options = self.library.SessionOptions()
        options.intra_op_num_threads = self.n
        options.inter_op_num_threads = 1
        options.log_severity_level = 4  # errors are raised, and need not be printed
        arrays = model.arrays or arrays
        session = self.library.InferenceSession(onnx_bytes(model, arrays), options, ["CPUExecutionProvider"])
        binding = session.io_binding()
        for name in model.inputs:
            binding.bind_ortvalue_input(name, self.library.OrtValue.ortvalue_from_numpy(arrays[name]))
        for name in model.outputs:
            binding.bind_output(name)
        session.run_with_iobinding(binding)  # allocates the outputs
        outputs = binding.get_outputs()
        for name, y in zip(model.outputs, outputs, strict=True):
            binding.bind_ortvalue_output(name, y)

        def call():
            session.run_with_iobinding(binding)
            return outputs, model

        return call

    def arrays(self, results):
        """Outputs as NumPy arrays."""
        outputs, model = results
        return model.results(y.numpy() for y in outputs)


class OpenVino(Engine):
    """OpenVINO's CPU plug-in, tuned for latency."""

    needs = ("openvino", "onnx")
    describe = ONNX

    def __init__(self):
        import openvino

        super().__init__()
        self.library = openvino
        self.core = openvino.Core()
        self.version = openvino.__version__.partition("-")[0]

    def compile(self, model, arrays):
        """The call to time."""
        arrays = model.arrays or arrays
        settings = {
            "INFERENCE_NUM_THREADS": self.n,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
            "ENABLE_CPU_PINNING": False,  # it would pin the threads of the others' calls, too
        }
        compiled = self.core.compile_model(self.core.read_model(model=onnx_bytes(model, arrays)), "CPU", settings)
        request = compiled.create_infer_request()
        for name in model.inputs:
            request.set_tensor(name, self.library.Tensor(arrays[name], shared_memory=True))
        return lambda: (request.infer(share_outputs=True), model)

    def arrays(self, results):
        """Outputs as NumPy arrays."""
        outputs, model = results
        return model.results(outputs.values())


# ---- ncnn ----


class Layer(NamedTuple):
    """A layer of ncnn: its type, its numbered parameters, and its weights in the order of its model file."""

    type: str
    parameters: Mapping[int, Any]
    weights: tuple[np.ndarray, ...] = ()
    batched: bool = True
    """The first axis of x is the batch."""


def ncnn_filters(desc, w, b, extra):
    """Parameters of all convolutions, and their weights."""
    top, bottom, left, right = desc.padding
    parameters = {
        1: desc.s, 11: desc.r, 2: desc.dilation[1], 12: desc.dilation[0], 3: desc.stride[1], 13: desc.stride[0],
        4: left, 15: right, 14: top, 16: bottom, 5: int(b is not None), 6: w.size,
    } | ({7: desc.groups} if desc.groups > 1 else {}) | extra  # fmt: skip
    return parameters, (w,) if b is None else (w, b)


def ncnn_conv(type, describe, arrays, activation=None, **options):
    """The layer of a convolution or a transposed one."""
    desc = describe(arrays["x"].shape, arrays["w"].shape, **options)
    extra = {0: desc.k, 9: int(activation == "relu")}
    grouped = "DepthWise" if desc.groups > 1 else ""
    return Layer(type.format(grouped), *ncnn_filters(desc, arrays["w"], arrays.get("b"), extra))


def ncnn_conv_transpose(arrays, **options):
    """Its filters are (groups, K/groups, C/groups, R, S), ours (C, K/groups, R, S)."""
    w = arrays["w"]
    desc = conv_transpose2d_desc(arrays["x"].shape, w.shape, **options)
    by_group = w.reshape(desc.groups, -1, *w.shape[1:]).swapaxes(1, 2)
    down, across = output_padding(desc)
    extra = {0: desc.c, 18: across, 19: down}
    grouped = "DepthWise" if desc.groups > 1 else ""
    return Layer(f"Deconvolution{grouped}", *ncnn_filters(desc, by_group, arrays.get("b"), extra))


def ncnn_linear(arrays):
    """A batch is the rows of a matrix; None with more axes."""
    if arrays["x"].ndim > 2:
        return None
    w, *b = (arrays[name] for name in ("w", "b") if name in arrays)
    return Layer("InnerProduct", {0: w.shape[0], 1: len(b), 2: w.size}, (w, *b), batched=False)


def ncnn_pool(desc, **kind):
    """The layer of a pooling."""
    (top, left), (bottom, right) = sides(desc)
    (r, s), (down, across) = desc.kernel, desc.stride
    explicit = {5: 1}  # padding as given, no further rounding of the size
    geometry = {1: s, 11: r, 2: across, 12: down, 3: left, 14: right, 13: top, 15: bottom}
    return Layer("Pooling", geometry | explicit | kind.pop("parameters"))


def ncnn_max_pool(arrays, return_indices=False, **options):
    desc = pool2d_desc("max_pool2d", arrays["x"].shape, **options)
    return None if return_indices or desc.dilation != (1, 1) else ncnn_pool(desc, parameters={0: 0})


def ncnn_avg_pool(arrays, count_include_pad=True, **options):
    desc = average_window(arrays, **options)
    if desc is None or (count_include_pad and sides(desc)[1] != desc.padding):
        return None
    return ncnn_pool(desc, parameters={0: 1, 6: int(count_include_pad)})


# Layers that ncnn runs in place (ReLU, softmax, batch normalisation, ...) are left out: on an input that is kept for
# the next call they would be timed with a copy that no network makes.
NCNN: Mapping[str, Callable[..., Layer | None]] = {
    "conv2d": partial(ncnn_conv, "Convolution{}", conv2d_desc),
    "conv_transpose2d": ncnn_conv_transpose,
    "linear": ncnn_linear,
    "max_pool2d": ncnn_max_pool,
    "avg_pool2d": ncnn_avg_pool,
}


class Ncnn(Engine):
    """ncnn on the CPU. Batches are its own, of versions since 2026, not a loop over images."""

    needs = ("ncnn",)
    describe = NCNN

    def __init__(self):
        import ncnn

        super().__init__()
        self.library = ncnn
        self.version = ncnn.__version__

    def compile(self, model, arrays):
        """The call to time."""
        net = self.library.Net()
        net.opt.num_threads = self.n
        for option in dir(net.opt):
            if option.startswith(("use_fp16", "use_bf16")):
                setattr(net.opt, option, False)
        parameters = " ".join(f"{i}={value}" for i, value in model.parameters.items())
        text = f"7767517\n2 2\nInput x 0 1 x\n{model.type} layer 1 1 x y {parameters}\n"
        # The first weights are preceded by a tag that says how they are stored: 0 is float32.
        blobs = (np.zeros(1, np.uint32), *model.weights) if model.weights else ()
        with NamedTemporaryFile(suffix=".bin") as file:
            file.write(b"".join(np.ascontiguousarray(blob).tobytes() for blob in blobs))
            file.flush()
            if net.load_param_mem(text) or net.load_model(file.name):
                raise RuntimeError(f"ncnn does not load {text.splitlines()[-1]!r}")
        x = self.library.Mat(arrays["x"], **({"batch_index": 0} if model.batched else {}))

        def call():
            extractor = net.create_extractor()
            extractor.input("x", x)
            return extractor.extract("y"), model.batched

        return call

    def arrays(self, results):
        """The output as a NumPy array."""
        (status, y), batched = results
        if status:
            raise RuntimeError(f"ncnn returned {status}")
        return (y.numpy(**({"batch_index": 0} if batched else {})),)
