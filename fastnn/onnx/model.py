"""load, and the Model that it makes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fastnn.onnx.graph import Graph, Value, parse
from fastnn.onnx.plan import Program

__all__ = ["Model", "load"]


def load(source, *, optimize=True) -> Model:
    """The model in a file of the ONNX format.

    source: a path, the bytes of a file, or an onnx.ModelProto. optimize: False runs every node as it is written.
    TypeError, ValueError for what is no model; UnsupportedOperator names an operator that fastnn does not have.
    """
    graph = parse(source)
    return Model(graph)


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
        """The outputs for inputs given as a dict of arrays by name, as a dict; or for a sequence of arrays, as a list.

        outputs: names of those that are wanted; all of them if None.
        """
        arrays = list(inputs.values()) if isinstance(inputs, Mapping) else list(inputs)
        if isinstance(inputs, Mapping):
            arrays = [inputs[v.name] for v in self.inputs]
        results = self.program.run([np.asarray(x) for x in arrays])
        names = [v.name for v in self.outputs]
        found = dict(zip(names, results, strict=True))
        wanted = names if outputs is None else list(outputs)
        return {n: found[n] for n in wanted} if isinstance(inputs, Mapping) else [found[n] for n in wanted]
