"""Graphs as steps that run."""

from functools import partial

from fastnn.onnx.graph import Graph
from fastnn.onnx.operators import lookup

__all__ = ["Program"]


class Program:
    """A graph whose nodes have been looked up."""

    def __init__(self, graph: Graph):
        self.graph = graph
        self.functions = [lookup(node) for node in graph.nodes]

    def run(self, arrays, outer=None):
        """The outputs for these inputs. outer: values of the graph around it by name."""
        values = dict(outer or {}) | self.graph.initializers
        values.update(zip((v.name for v in self.graph.inputs), arrays, strict=True))
        for node, function in zip(self.graph.nodes, self.functions, strict=True):
            options = {"run": partial(self.subgraph, values)} if any(node.subgraphs()) else {}
            result = function(node, *(values[name] if name else None for name in node.inputs), **options)
            results = result if isinstance(result, tuple) else (result,)
            values.update(zip(node.outputs, results, strict=False))
        return [values[v.name] for v in self.graph.outputs]

    @staticmethod
    def subgraph(values, graph, *inputs):
        return Program(graph).run(inputs, values)
