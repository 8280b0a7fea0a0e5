"""Networks in files of the ONNX format, run by fastnn's kernels: `load(path)` makes a Model, `Model(x)` runs it."""

try:
    import onnx  # noqa: F401
except ImportError as error:
    raise ImportError("fastnn.onnx reads files with the package onnx: pip install 'fastnn[onnx]'") from error

from fastnn.onnx.graph import Graph, Node, UnsupportedOperator, Value
from fastnn.onnx.model import Model, load

__all__ = ["Graph", "Model", "Node", "UnsupportedOperator", "Value", "load"]
