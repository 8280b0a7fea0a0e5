"""Layers with torch.nn's names, signatures, defaults and state_dict keys: `import fastnn.nn as nn`."""

from fastnn import functional, init
from fastnn.nn import utils
from fastnn.nn.container import ModuleDict, ModuleList, Parallel, Residual, Sequential
from fastnn.nn.linear import Linear
from fastnn.nn.module import Layer, Module, Parameter

__all__ = [
    "Layer",
    "Linear",
    "Module",
    "ModuleDict",
    "ModuleList",
    "Parallel",
    "Parameter",
    "Residual",
    "Sequential",
    "functional",
    "init",
    "utils",
]
