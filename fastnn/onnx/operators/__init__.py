"""The table of operators: functions of a Node and arrays.

    @operator("Relu", since=6)
    def relu(node, x):
        return ops.relu_forward(x, keep=False)[0]

An optional inputthat is left out is None. A node's attributes are `node.attributes`. The result is an array, or a
tuple with one for each output that the operator may have, of which the node takes as many as it names. Nothing may
write to its inputs; the result may be one of them, or a view. A function of a node with subgraphs also gets `run=`, a
function `run(graph, *inputs) -> list of outputs`.
"""

from importlib import import_module

from fastnn.onnx.graph import Node, UnsupportedOperator

__all__ = ["lookup", "operator"]

TABLE: dict[tuple[str, str], list[tuple[int, object]]] = {}
"""(domain, name) -> (since, function), newest first"""


def operator(name, since=1, domain=""):
    """Decorator: the function is this operator from this version of its domain on."""

    def add(function):
        versions = TABLE.setdefault((domain, name), [])
        versions.append((since, function))
        versions.sort(key=lambda entry: -entry[0])
        return function

    return add


def lookup(node: Node):
    """The function for a node; UnsupportedOperator if there is none."""
    for since, function in TABLE.get((node.domain, node.op), ()):
        if since <= node.opset:
            return function
    raise UnsupportedOperator(f"{node} of opset {node.opset} is not supported")


FAMILIES = (
    "activation", "arithmetic", "attention", "control", "conv", "create", "grid", "index", "loss", "matmul", "norm",
    "pool", "quantized", "recurrent", "reduce", "resize", "shape",
)  # fmt: skip
for family in FAMILIES:
    import_module(f"{__name__}.{family}")
