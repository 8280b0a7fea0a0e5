"""load, and the Model that it makes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np

from fastnn.autograd import Tensor
from fastnn.onnx.graph import Graph, Value, parse
from fastnn.onnx.optimize import optimized
from fastnn.onnx.plan import Program

__all__ = ["Model", "load"]


def load(source, *, optimize=True) -> Model:
    """The model in a file of the ONNX format.

    source: a path, the bytes of a file, or an onnx.ModelProto. optimize: False runs every node as it is written.
    TypeError, ValueError for what is no model; UnsupportedOperator names an operator that fastnn does not have.
    """
    graph = parse(source)
    return Model(optimized(graph) if optimize else graph)


class Model:
    """A graph that can be run: `y = model(x)`, or `model.run({"x": x})`."""

    def __init__(self, graph: Graph):
        self.graph = graph
        self.program = Program(graph)

    @property
    def inputs(self) -> list[Value]:
        """Those that a call needs: name, shape, dtype."""
        return self.graph.inputs

    @property
    def outputs(self) -> list[Value]:
        """What a call returns."""
        return self.graph.outputs

    def __call__(self, *arrays):
        """The output for these inputs, in the order of `inputs`; a tuple if there are several."""
        results = self.run(arrays)
        return results[0] if len(results) == 1 else tuple(results)

    def run(self, inputs, outputs=None):
        """The outputs for inputs given as a dict of arrays by name, as a dict; or for a sequence of arrays in the order
        of `inputs`, as a list.

        outputs: names of those that are wanted; all of them if None. Inputs are not changed, and results belong to the
        caller. Several threads may call a Model at once. TypeError, ValueError for inputs that are not as `inputs`
        says.
        """
        named = isinstance(inputs, Mapping)
        results = self.program.run(self.arranged(inputs, named))
        found = dict(zip((v.name for v in self.outputs), results, strict=True))
        if outputs is not None:
            if isinstance(outputs, str) or (unknown := [name for name in outputs if name not in found]):
                what = repr(outputs) if isinstance(outputs, str) else f"a list with {unknown}"
                raise ValueError(f"run: outputs is {what}, expected a list of names out of {list(found)}")
            found = {name: found[name] for name in outputs}
        return found if named else list(found.values())

    def arranged(self, inputs, named):
        """The arrays as the program takes them."""
        names = [v.name for v in self.inputs]
        if named:
            if unknown := [name for name in inputs if name not in names]:
                raise ValueError(f"run: inputs has {unknown}, expected {names}")
            if missing := [name for name in names if name not in inputs]:
                raise ValueError(f"run: inputs lacks {missing}, expected {names}")
            inputs = [inputs[name] for name in names]
        elif not isinstance(inputs, list | tuple):
            raise TypeError(f"run: inputs must be a dict or a sequence of arrays, got {type(inputs).__name__}")
        elif len(inputs) != len(names):
            raise ValueError(f"run: inputs has {len(inputs)} arrays, expected {len(names)}: {names}")
        return [conforming(value, x) for value, x in zip(self.inputs, inputs, strict=True)]

    def __str__(self):
        lines = [f"inputs   {', '.join(map(str, self.inputs))}", f"outputs  {', '.join(map(str, self.outputs))}"]
        parameters = sum(array.size for array in self.graph.initializers.values())
        counts = Counter(node.op for node in self.graph.nodes)
        lines.append(f"{parameters:,} parameters and constants, {len(self.graph.nodes)} nodes")
        return "\n".join(lines + [f"  {count:>5} {op}" for op, count in counts.most_common()])

    def __repr__(self):
        return f"<fastnn.onnx.Model of {len(self.graph.nodes)} nodes: {', '.join(map(str, self.inputs))}>"


def conforming(value, x):
    """An input as the program takes it: C-contiguous. TypeError, ValueError if it is not what the model says."""
    if isinstance(x, Tensor):
        x = x.detach().numpy()
    if value.dtype is None:
        return x
    if not isinstance(x, np.ndarray | np.generic):
        raise TypeError(f"run: input {value.name!r} must be a NumPy array, got {type(x).__name__}")
    if x.dtype != value.dtype and not (value.dtype == object and x.dtype.kind in "UTO"):
        raise TypeError(f"run: input {value.name!r} is {x.dtype}, expected {value.dtype}")
    if value.shape is not None:
        fits = x.ndim == len(value.shape) and all(
            not isinstance(size, int) or size == n for size, n in zip(value.shape, x.shape, strict=True)
        )
        if not fits:
            raise ValueError(f"run: input {value.name!r} has shape {x.shape}, expected {value}")
    return np.require(x, requirements="CA")
