"""Graphs that compute the same with less: constants folded, layers merged with what follows them.

Each pass changes a Graph that belongs to it. A node is merged with the one behind it only if nothing else, and nobody
outside, sees what is between them.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from fastnn.onnx.dependence import RANDOM
from fastnn.onnx.graph import Graph, Node
from fastnn.onnx.operators import lookup
from fastnn.onnx.prepare import convolves, multiplies

__all__ = ["optimized"]

FOLDED_BYTES = 64 << 20
"""Results larger than this, and than what they are made of, are not kept as constants."""


def optimized(graph: Graph) -> Graph:
    """A graph with the same inputs, outputs and, but for rounding, results."""
    graph = graph.copy()
    for step in (
        fold_constants, skip_copies, join_moves, linear_layers, fold_padding, fold_affine, fuse_sums, fuse_relu, sweep,
    ):  # fmt: skip
        step(graph)
    return graph


class Links:
    """Who makes and who uses what."""

    def __init__(self, graph):
        self.graph = graph
        self.maker = {name: node for node in graph.nodes for name in node.outputs if name}
        self.uses = Counter(name for node in graph.nodes for name in node.uses())
        self.uses.update(value.name for value in graph.outputs)
        self.seen = {value.name for value in graph.outputs}

    def before(self, name, *ops):
        """The node that makes a value which only one node uses, if it is one of these operators, else None."""
        node = self.maker.get(name)
        domain = ("", "fastnn")
        if node is None or node.op not in ops or node.domain not in domain or self.uses[name] != 1 or name in self.seen:
            return None
        return node if sum(map(bool, node.outputs)) == 1 else None

    def constants(self, node):
        """The inputs where they are constant."""
        return [self.graph.initializers.get(name) for name in node.inputs]

    def merge(self, first, second, merged):
        """Put a node in the place of two, of which the second is the only user of the first's result."""
        nodes = self.graph.nodes
        nodes[index(nodes, second)] = merged
        del nodes[index(nodes, first)]
        for name in filter(None, first.outputs):
            self.maker.pop(name)
        for name in filter(None, merged.outputs):
            self.maker[name] = merged

    def constant(self, like, array):
        """The name of a new constant."""
        name, count = f"{like}'", 0
        while name in self.graph.initializers or name in self.maker:
            count += 1
            name = f"{like}'{count}"
        array = np.ascontiguousarray(array)
        array.flags.writeable = False
        self.graph.initializers[name] = array
        return name


def index(nodes, node):
    return next(i for i, other in enumerate(nodes) if other is node)


def rename(graph, names):
    """Nodes, and their subgraphs, read other values; names: old -> new."""
    for node in graph.nodes:
        node.inputs = [names.get(name, name) for name in node.inputs]
        for key, inner in node.attributes.items():
            if isinstance(inner, Graph):
                renamed = inner.copy()
                rename(renamed, names)
                renamed.outputs = [replace(v, name=names.get(v.name, v.name)) for v in inner.outputs]
                node.attributes[key] = renamed


def fold_constants(graph):
    """What depends on constants alone is computed now; a node that fails fails when it is run."""
    nodes = []
    for node in graph.nodes:
        arrays = [graph.initializers.get(name) for name in node.inputs]
        missing = any(name and array is None for name, array in zip(node.inputs, arrays, strict=True))
        if missing or node.op in RANDOM or node.domain or any(node.subgraphs()):
            nodes.append(node)
            continue
        try:
            result = lookup(node)(node, *arrays)
        except (TypeError, ValueError, IndexError, OverflowError):
            nodes.append(node)
            continue
        results = result if isinstance(result, tuple) else (result,)
        size = sum(r.nbytes if isinstance(r, np.ndarray | np.generic) else np.inf for r in results)
        if size > max(FOLDED_BYTES, sum(a.nbytes for a in arrays if a is not None)):
            nodes.append(node)
            continue
        for name, array in zip(node.outputs, results, strict=False):
            if name:
                array = np.array(array)
                array.flags.writeable = False
                graph.initializers[name] = array
    graph.nodes = nodes


def skip_copies(graph):
    """Identity, and Dropout in inference, whose results nobody outside sees."""
    seen = {value.name for value in graph.outputs}
    constants = graph.initializers
    names: dict[str, str] = {}
    nodes = []
    uses = Links(graph).uses
    for node in graph.nodes:
        copies = node.op == "Identity"
        if node.op == "Dropout" and not any(uses[name] for name in node.outputs[1:]):
            training = node.inputs[2] if len(node.inputs) > 2 else ""
            copies = not training or (training in constants and not constants[training].any())
        if copies and not node.domain and node.outputs[0] not in seen:
            names[node.outputs[0]] = names.get(node.inputs[0], node.inputs[0])
        else:
            nodes.append(node)
    graph.nodes = nodes
    rename(graph, names)


def join_moves(graph):
    """A Transpose of a Transpose, a Reshape of a Reshape; those that change nothing."""
    links, names, nodes = Links(graph), {}, []
    for node in graph.nodes:
        node.inputs = [names.get(name, name) for name in node.inputs]
        below = links.maker.get(node.inputs[0]) if node.inputs else None
        if below is not None and (below.op, below.domain) == (node.op, node.domain) == (node.op, ""):
            if node.op == "Transpose" and "perm" in node.attributes and "perm" in below.attributes:
                inner = below.attributes["perm"]
                node.attributes["perm"] = [inner[axis] for axis in node.attributes["perm"]]
                node.inputs[0] = below.inputs[0]
            sizes = graph.initializers.get(node.inputs[1]) if node.op == "Reshape" and len(node.inputs) > 1 else None
            if sizes is not None and (sizes != 0).all():
                node.inputs[0] = below.inputs[0]
        perm = node.attributes.get("perm")
        same = node.op == "Transpose" and not node.domain and perm == sorted(perm or [-1])
        if same and node.outputs[0] not in links.seen:
            names[node.outputs[0]] = node.inputs[0]
        else:
            nodes.append(node)
    graph.nodes = nodes
    rename(graph, names)


def linear_layers(graph):
    """MatMul with a constant matrix, and the constant vector that is added: a linear layer."""
    links = Links(graph)
    for node in list(graph.nodes):
        if node.op != "Add" or node.domain:
            continue
        for x, b in (node.inputs, node.inputs[::-1]):
            product = links.before(x, "MatMul")
            bias = graph.initializers.get(b)
            if product is None or bias is None or not multiplies(product, links.constants(product)):
                continue
            w = graph.initializers[product.inputs[1]]
            if bias.shape == (w.shape[1],) and bias.dtype == w.dtype:
                merged = Node("Linear", "fastnn", product.name or node.name, [*product.inputs, b], node.outputs)
                links.merge(product, node, merged)
                break


def fold_padding(graph):
    """Zeros around an image are the convolution's."""
    links = Links(graph)
    for node in list(graph.nodes):
        pad = links.before(node.inputs[0], "Pad") if node.op == "Conv" and not node.domain else None
        if pad is None or node.attributes.get("auto_pad", "NOTSET") != "NOTSET":
            continue
        attributes, arrays = pad.attributes, links.constants(pad)
        if any(name and array is None for name, array in zip(pad.inputs[1:], arrays[1:], strict=True)):
            continue
        if attributes.get("mode", "constant") != "constant" or any(pad.inputs[3:]):
            continue
        pads = attributes["pads"] if len(arrays) < 2 else arrays[1].tolist()
        value = attributes.get("value", 0.0) if len(arrays) < 3 or arrays[2] is None else arrays[2].item()
        half = len(pads) // 2
        around = pads[2:half] + pads[half + 2 :]
        if value != 0 or any(pads[:2]) or any(pads[half : half + 2]) or min(around, default=-1) < 0:
            continue
        own = node.attributes.get("pads", [0] * len(around))
        links.merge(pad, node, replace(
            node, inputs=[pad.inputs[0], *node.inputs[1:]],
            attributes=node.attributes | {"pads": [a + b for a, b in zip(own, around, strict=True)]},
        ))  # fmt: skip


# ---- scales and shifts of channels ----


def fold_affine(graph):
    """Batch norm, and factors and summands for each channel, in the weights of what is before them."""
    links = Links(graph)
    for node in list(graph.nodes):
        found = affine(node, links)
        if found is None:
            continue
        name, shape, scale, shift = found
        layer = links.before(name, "Conv", "ConvTranspose", "Gemm")
        if layer is None or layer.domain or "activation" in layer.attributes or not of_channels(shape, layer, links):
            continue
        folded = with_affine(layer, scale, shift, links)
        if folded is not None:
            links.merge(layer, node, replace(layer, inputs=folded, outputs=list(node.outputs[:1])))


def of_channels(shape, layer, links):
    """Whether a constant of this shape has a number for each channel of a convolution's result; None: it does."""
    w = links.constants(layer)[1]
    if shape is None or w is None:
        return shape is None
    padded = (1,) * (w.ndim - len(shape)) + shape
    return layer.op != "Gemm" and len(padded) == w.ndim and padded[1] == max(padded) == np.prod(padded)


def affine(node, links):
    """(input, shape, scale, shift) of a node that computes scale x + shift, in float64; else None.

    shape: of a constant that has numbers for channels if it is `of_channels`; None: of batch norm, which does.
    """
    arrays = links.constants(node)
    if node.domain:
        return None
    if node.op == "BatchNormalization":
        training = node.attributes.get("training_mode", 0) or not node.attributes.get("spatial", 1)
        if training or any(node.outputs[1:]) or any(a is None for a in arrays[1:5]):
            return None
        gamma, beta, mean, var = (a.astype(np.float64) for a in arrays[1:5])
        with np.errstate(all="ignore"):
            scale = gamma / np.sqrt(var + node.attributes.get("epsilon", 1e-5))
        return node.inputs[0], None, scale, beta - scale * mean
    if node.op not in ("Add", "Sub", "Mul", "Div"):
        return None
    which = [i for i, a in enumerate(arrays) if a is not None]
    if len(which) != 1 or (which == [0] and node.op in ("Sub", "Div")):
        return None
    if arrays[which[0]].dtype.kind != "f":
        return None
    x, shape, value = node.inputs[1 - which[0]], arrays[which[0]].shape, arrays[which[0]].reshape(-1).astype(np.float64)
    if node.op in ("Add", "Sub"):
        return x, shape, np.ones(1), value if node.op == "Add" else -value
    with np.errstate(all="ignore"):
        return x, shape, value if node.op == "Mul" else 1 / value, np.zeros(1)


def with_affine(layer, scale, shift, links):
    """The inputs of a layer with a scale and a shift in its weights, or None: they are not constant, or do not fit."""
    arrays = links.constants(layer)
    w, a = arrays[1], layer.attributes
    has_bias = len(layer.inputs) > 2 and bool(layer.inputs[2])
    if w is None or w.dtype not in (np.float32, np.float64) or (has_bias and arrays[2] is None):
        return None
    bias = arrays[2].astype(np.float64) if has_bias else 0.0
    wide = w.astype(np.float64)
    if layer.op == "Gemm":
        if has_bias and bias.ndim > 1 and bias.shape[0] != 1:
            return None
        channels = w.shape[0] if a.get("transB", 0) else w.shape[1]
        scale, shift = full(scale, channels), full(shift, channels)
        wide = wide * (scale[:, None] if a.get("transB", 0) else scale)
        beta = a.get("beta", 1.0)
        if beta == 0:
            return None
        shift = (scale * beta * np.reshape(bias, -1) + shift) / beta
    else:
        groups = a.get("group", 1)
        channels = w.shape[0] if layer.op == "Conv" else w.shape[1] * groups
        if len(scale) not in (1, channels) or len(shift) not in (1, channels):
            return None
        scale, shift = full(scale, channels), full(shift, channels)
        if layer.op == "Conv":
            wide = wide * scale.reshape(-1, *[1] * (w.ndim - 1))
        else:
            grouped = wide.reshape(groups, -1, *w.shape[1:])
            wide = (grouped * scale.reshape(groups, 1, -1, *[1] * (w.ndim - 2))).reshape(w.shape)
        shift = scale * bias + shift
    largest = np.finfo(w.dtype).max
    if not (np.abs(wide).max(initial=0) <= largest and np.abs(shift).max(initial=0) <= largest):
        return None
    name = layer.inputs[1]
    return [layer.inputs[0], links.constant(name, wide.astype(w.dtype)), links.constant(name, shift.astype(w.dtype))]


def full(vector, size):
    return np.broadcast_to(vector, (size,))


# ---- sums and activations ----


def fuse_sums(graph):
    """The sum at the end of a residual block is computed with its last convolution, if that is a matrix product."""
    links = Links(graph)
    order = {id(node): i for i, node in enumerate(graph.nodes)}
    for node in list(graph.nodes):
        if node.op != "Add" or node.domain or node.inputs[0] == node.inputs[1]:
            continue
        makers = [links.before(name, "Conv") for name in node.inputs]
        found = [
            (order.get(id(conv), -1), place)
            for place, conv in enumerate(makers)
            if conv is not None and not conv.domain and adds_well(conv, links.constants(conv))
        ]
        if not found:
            continue
        place = max(found)[1]
        conv = makers[place]
        inputs = [*conv.inputs, ""][:3] + [node.inputs[1 - place]]
        merged = replace(conv, domain="fastnn", inputs=inputs, outputs=node.outputs)
        order[id(merged)] = order[id(node)]
        links.merge(conv, node, merged)


def adds_well(conv, constants):
    """Whether a convolution is computed as a product that can add to what is there: no fast algorithm takes it."""
    if not convolves(conv, constants):
        return False
    w, a = constants[1], conv.attributes
    plain = all(s == 1 for s in [*a.get("strides", ()), *a.get("dilations", ())])
    fast = plain and w.shape[2:] in ((3, 3), (5, 5)) and w.dtype == np.float32
    return not fast and w.shape[1] > 1


def fuse_relu(graph):
    """ReLU is computed before a result is stored, where the kernel has that."""
    links = Links(graph)
    for node in list(graph.nodes):
        if node.op != "Relu" or node.domain:
            continue
        layer = links.before(node.inputs[0], "Conv", "Gemm", "Linear", "Add")
        if layer is None or "activation" in layer.attributes:
            continue
        able = {"Conv": convolves, "Gemm": multiplies}.get(layer.op, lambda *_: True)
        if able(layer, links.constants(layer)):
            attributes = layer.attributes | {"activation": "relu"}
            merged = replace(layer, domain="fastnn", attributes=attributes, outputs=node.outputs)
            links.merge(layer, node, merged)


def sweep(graph):
    """Nodes whose results nobody uses, and constants that nobody reads any more."""
    needed = {value.name for value in graph.outputs}
    nodes = []
    for node in reversed(graph.nodes):
        if needed.intersection(node.outputs) or node.op in RANDOM - {"Dropout"}:
            nodes.append(node)
            needed.update(node.uses())
    graph.nodes = nodes[::-1]
    graph.initializers = {name: array for name, array in graph.initializers.items() if name in needed}
