"""What a ModelProto says, as plain dataclasses of names and NumPy arrays."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import external_data_helper, helper, inliner, numpy_helper

__all__ = ["Graph", "Node", "UnsupportedOperator", "Value", "parse"]

PLAIN_OPSET = 7
"""From it on broadcasting is as in NumPy, and training is said by nodes; nodes of before are read as ones of it."""


class UnsupportedOperator(NotImplementedError):
    """A graph has an operator, or a form of one, that fastnn does not run."""


@dataclass(frozen=True)
class Value:
    """An input or output of a graph."""

    name: str
    shape: tuple[int | str | None, ...] | None
    """Sizes; a name or None for one that is found out at run time. None: of any number of axes."""
    dtype: np.dtype | None
    """None: no tensor of numbers, or not said."""

    def __str__(self):
        sizes = "(...)" if self.shape is None else f"({', '.join('?' if s is None else str(s) for s in self.shape)})"
        return f"{self.name}: {self.dtype or '?'} {sizes}"


@dataclass
class Node:
    """A call of an operator."""

    op: str
    domain: str
    """"" is ONNX's own, "fastnn" what optimisation made."""
    name: str
    inputs: list[str]
    """"" for one that is left out."""
    outputs: list[str]
    attributes: dict[str, Any] = field(default_factory=dict)
    """int, float, str, bytes, ndarray, Graph, or lists of them."""
    opset: int = 0
    """The version of the operators of its domain that the model was written for."""

    def __str__(self):
        called = f" {self.name!r}" if self.name else f" that makes {', '.join(map(repr, filter(None, self.outputs)))}"
        return f"node{called}, operator {self.domain + '.' if self.domain else ''}{self.op}"

    def subgraphs(self) -> Iterator[Graph]:
        """Those of If, Loop and Scan."""
        return (value for value in self.attributes.values() if isinstance(value, Graph))

    def uses(self) -> list[str]:
        """Names of all values it reads, those that its subgraphs read of the graph around them among them."""
        return [*filter(None, self.inputs), *(name for graph in self.subgraphs() for name in graph.captures())]


@dataclass
class Graph:
    """Nodes in an order in which they can run."""

    inputs: list[Value]
    outputs: list[Value]
    initializers: dict[str, np.ndarray]
    nodes: list[Node]
    name: str = ""

    def captures(self) -> list[str]:
        """Names that are used here and defined in the graph around it."""
        own = {value.name for value in self.inputs} | set(self.initializers)
        own.update(name for node in self.nodes for name in node.outputs)
        used = [name for node in self.nodes for name in node.uses()] + [value.name for value in self.outputs]
        return list(dict.fromkeys(name for name in used if name not in own))

    def copy(self) -> Graph:
        """One whose lists and nodes may be changed; the arrays are the same."""
        nodes = [
            Node(n.op, n.domain, n.name, list(n.inputs), list(n.outputs), dict(n.attributes), n.opset)
            for n in self.nodes
        ]
        return Graph(list(self.inputs), list(self.outputs), dict(self.initializers), nodes, self.name)


# ---- from protos ----


def parse(source) -> Graph:
    """The graph of a model.

    source: a path, the bytes of a file, or a ModelProto. Tensors in files beside it are read from the model's folder.
    TypeError for anything else; ValueError for what is no model, or one whose graph is not in order (a value that is
    used before it is made, or made twice); UnsupportedOperator for a node of before opset 7 without a counterpart.
    """
    folder = None
    if isinstance(source, str | os.PathLike):
        folder = Path(source).parent
        source = Path(source).read_bytes()
    if isinstance(source, bytes | bytearray | memoryview):
        source = decoded(bytes(source))
    if not isinstance(source, onnx.ModelProto):
        raise TypeError(f"load: source must be a path, bytes or an onnx.ModelProto, got {type(source).__name__}")
    opsets = {"" if i.domain == "ai.onnx" else i.domain: i.version for i in source.opset_import}
    if not source.HasField("graph") or not opsets:
        raise ValueError("load: source has no graph or says no opset, expected a model in the ONNX format")
    if source.functions:
        source = inliner.inline_local_functions(source)
    return graph_of(source.graph, opsets, partial(tensor, folder=folder), set())


def decoded(data: bytes) -> onnx.ModelProto:
    """The ModelProto that bytes hold."""
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except Exception as error:  # protobuf's DecodeError; which module that is in depends on its version
        raise ValueError(
            f"load: {len(data)} bytes are no model in the ONNX format, or not all of it: {error}"
        ) from error
    return model


def tensor(proto, folder) -> np.ndarray:
    """A TensorProto's array, which nobody may write to."""
    if external_data_helper.uses_external_data(proto):
        if folder is None:
            raise ValueError(
                f"load: tensor {proto.name!r} is in another file, expected the model's path, which says where that is"
            )
        external_data_helper.load_external_data_for_tensor(proto, str(folder))
        proto.data_location = onnx.TensorProto.DEFAULT
    array = np.require(numpy_helper.to_array(proto), requirements=["C", "A"])
    array.flags.writeable = False
    return array


def graph_of(proto, opsets, tensor, outer) -> Graph:
    """A GraphProto's Graph. outer: names of the values around it."""
    if proto.sparse_initializer:
        raise UnsupportedOperator(f"load: graph {proto.name!r} has sparse initializers, expected dense ones")
    initializers = {t.name: tensor(t) for t in proto.initializer}
    inputs = [value_of(v) for v in proto.input if v.name not in initializers]
    known = outer | set(initializers) | {v.name for v in inputs}
    nodes = []
    waiting = list(proto.node)
    while waiting:  # files ought to have them in order; most that do not can still be put in order
        ready, later = [], []
        for p in waiting:
            if all(name in known for name in read_by(p)):
                ready.append(p)
                known.update(filter(None, p.output))
            else:
                later.append(p)
        if not ready:
            names = sorted({name for p in waiting for name in read_by(p) if name not in known})
            raise ValueError(
                f"load: graph {proto.name!r} is not in order: {names} are used by nodes that have to run before "
                "what makes them, or made by none"
            )
        nodes += ready
        waiting = later
    made = [name for p in nodes for name in p.output if name]
    if len(made) > len(set(made)):
        twice = sorted({name for name in made if made.count(name) > 1})
        raise ValueError(f"load: graph {proto.name!r} makes {twice} more than once, expected a name for each value")
    outputs = [value_of(v) for v in proto.output]
    if missing := [v.name for v in outputs if v.name not in known]:
        raise ValueError(f"load: graph {proto.name!r} has outputs {missing}, which nothing makes")
    return Graph(inputs, outputs, initializers, [node_of(p, opsets, tensor, known) for p in nodes], proto.name)


def read_by(proto) -> Iterator[str]:
    """Names of what a NodeProto and its subgraphs read of the graph around it."""
    yield from filter(None, proto.input)
    for graph in (a.g for a in proto.attribute if a.type == onnx.AttributeProto.GRAPH):
        own = {v.name for v in graph.input} | {t.name for t in graph.initializer}
        own.update(name for p in graph.node for name in p.output)
        read = [name for p in graph.node for name in read_by(p)] + [v.name for v in graph.output]
        yield from (name for name in read if name not in own)


def node_of(proto, opsets, tensor, known) -> Node:
    domain = "" if proto.domain == "ai.onnx" else proto.domain
    if domain not in opsets:
        raise ValueError(f"load: node {proto.name!r} is of domain {domain!r}, of which the model says no opset")
    attributes = {a.name: attribute_of(a, opsets, tensor, known) for a in proto.attribute}
    node = Node(proto.op_type, domain, proto.name, list(proto.input), list(proto.output), attributes, opsets[domain])
    return node if domain or node.opset >= PLAIN_OPSET else modern(node)


ALONG_AXIS = ("Add", "Sub", "Mul", "Div", "Pow", "And", "Or", "Xor", "Equal", "Less", "Greater", "PRelu")
"""Operators before opset 7 whose attribute `axis` says where the second operand begins: "fastnn.AddAlongAxis", …"""
OTHER_INPUTS = ("Tile", "Upsample")
OLD_DEFAULTS: dict[str, dict[str, Any]] = {
    "Concat": {"axis": 1},
    "PRelu": {"axis": 1},
    "Selu": {"alpha": 1.6732, "gamma": 1.0507},
}


def modern(node: Node) -> Node:
    """A node of before opset 7 as one of opset 7, or of our own domain; UnsupportedOperator if there is none."""
    a = {**OLD_DEFAULTS.get(node.op, {}), **node.attributes}
    training = node.op in ("BatchNormalization", "Dropout") and not a.pop("is_test", 0)
    if node.op in OTHER_INPUTS or training:
        form = "training mode" if training else "this form"
        raise UnsupportedOperator(f"{node} of opset {node.opset}: {form} is not supported")
    for name in ("consumed_inputs", "broadcast"):
        a.pop(name, None)
    if "paddings" in a:
        a["pads"] = a.pop("paddings")
    if node.op == "Cast" and isinstance(a.get("to"), str):
        a["to"] = onnx.TensorProto.DataType.Value(a["to"])
    op, own = node.op, False
    if op in ALONG_AXIS and "axis" in a:
        op, own = f"{op}AlongAxis", True
    elif op == "Reshape" and "shape" in a:
        op, own = "ReshapeTo", True
    return Node(op, "fastnn" if own else "", node.name, node.inputs, node.outputs, a, 1 if own else PLAIN_OPSET)


def attribute_of(proto, opsets, tensor, known):
    kinds = onnx.AttributeProto
    if proto.type == kinds.GRAPH:
        return graph_of(proto.g, opsets, tensor, known)
    if proto.type == kinds.TENSOR:
        return tensor(proto.t)
    value = helper.get_attribute_value(proto)
    if proto.type == kinds.STRING:
        return text(value)
    if proto.type == kinds.STRINGS:
        return [text(v) for v in value]
    if proto.type in (kinds.INTS, kinds.FLOATS):
        return list(value)
    return value


def text(value: bytes) -> str | bytes:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value


def value_of(proto) -> Value:
    kind = proto.type.tensor_type
    if not proto.type.HasField("tensor_type"):
        return Value(proto.name, None, None)
    shape = None
    if kind.HasField("shape"):
        shape = tuple(d.dim_value if d.HasField("dim_value") else d.dim_param or None for d in kind.shape.dim)
    return Value(proto.name, shape, helper.tensor_dtype_to_np_dtype(kind.elem_type) if kind.elem_type else None)
