"""One run of a model, watched: which Modules were called, which operators ran in them, and what became of what.

Operators are seen where all pass, in `fastnn.autograd.call`; Modules, which have no hooks, by a `forward` of their own
for the time of the run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from inspect import signature
from threading import get_ident
from typing import Any, NamedTuple
from weakref import ref

import numpy as np

from fastnn import tensor_ops
from fastnn._tape import Prepared, observe
from fastnn.autograd import Tensor, no_grad
from fastnn.nn.module import Module
from fastnn.ops.conv import PreparedConv2d
from fastnn.random import get_rng_state, set_rng_state
from fastnn.registry import Case, map_arrays, specs

__all__ = ["ModuleCall", "Operand", "Operation", "Trace", "arrays_of", "check_model", "inputs_of", "trace"]


class Operand(NamedTuple):
    """An array that an operator got."""

    shape: tuple[int, ...]
    itemsize: int
    parameter: str | None
    """The path of the Parameter that it is."""
    source: Operation | None
    """What made it; None: none of the operators that were seen."""
    data: bool
    """Does it depend on the model's input?"""


class Operation:
    """A call of an operator."""

    __slots__ = ("arguments", "data", "forward", "name", "nbytes", "path", "shapes")

    def __init__(self, forward, arguments, path):
        self.forward, self.arguments, self.path = forward, arguments, path
        self.name: str = forward.__name__.removesuffix("_forward")
        self.data = any(operand.data for operand in self.operands())
        self.shapes: list[tuple[int, ...]] = []
        """Of the results."""
        self.nbytes = 0
        """Of the results that are not in an argument's memory."""

    def operands(self) -> list[Operand]:
        """All arrays among the arguments."""
        lists = (x if isinstance(x, list) else [x] for x in self.arguments.values())
        return [x for each in lists for x in each if isinstance(x, Operand)]

    def multiply_adds(self) -> int:
        """As the operator's descriptor says; 0 of what does not consist of matrix products."""
        if self.forward is tensor_ops.product_forward:
            a, b = (self.arguments[name].shape for name in "ab")
            row, column = (1, *a)[-2:], (*b, 1)[:2] if len(b) == 1 else b[-2:]
            case = Case({"a": row, "b": column})
            products = int(np.prod(np.broadcast_shapes(a[:-2], b[:-2])))
            return products * round(specs()["matmul"].work(case, 1).flops) // 2
        spec = specs().get(self.name)
        if spec is None or not spec.products:
            return 0
        names = array_names(self.name)
        shapes = {name: shape_of(x) for name, x in self.arguments.items() if name in names or is_operand(x)}
        options = {name: x for name, x in self.arguments.items() if name not in shapes and name != "out"}
        itemsize = max((operand.itemsize for operand in self.operands()), default=1)
        return round(spec.work(Case(shapes, options), itemsize).flops) // 2


class ModuleCall:
    """A call of a Module, and the calls and operations in it."""

    __slots__ = ("children", "inputs", "module", "operations", "outputs", "path")

    def __init__(self, module, path, inputs):
        self.module, self.path, self.inputs = module, path, inputs
        self.outputs: list[tuple[int, ...]] = []
        """Shapes of the results, like inputs."""
        self.children: list[ModuleCall] = []
        self.operations: list[Operation] = []
        """Those that no child made."""


@cache
def array_names(name):
    """The array arguments of a registered operator, those that may be None too."""
    return {argument for case in specs()[name].cases for argument in case.shapes}


@cache
def signature_of(forward):
    return signature(forward)


def is_operand(x):
    return isinstance(x, Operand) or (isinstance(x, list) and any(isinstance(each, Operand) for each in x))


def shape_of(x):
    """Of what stands for an array in Operation.arguments, in the form that a Case has it."""
    return [each.shape for each in x] if isinstance(x, list) else None if x is None else x.shape


def arrays_of(value) -> Iterator[np.ndarray]:
    """The arrays in arguments or results of a Module, those of Tensors too, in lists, tuples and dictionaries."""
    if isinstance(value, Tensor):
        yield value.array
    elif isinstance(value, np.ndarray):
        yield value
    elif isinstance(value, list | tuple | dict):
        for each in value.values() if isinstance(value, dict) else value:
            yield from arrays_of(each)


class Trace:
    """What happened in a run of `model`, as an observer of the tape."""

    def __init__(self, model: Module):
        self.calls: list[ModuleCall] = []
        """Of the model itself: one, which the others are in."""
        self.operations: list[Operation] = []
        """All of them, in order."""
        self.outputs: list[Operation] = []
        """What made the model's results."""
        self.parameters = {id(x.array): name for name, x in model.named_parameters()}
        self.known: dict[int, tuple[Any, Operation | None]] = {}
        """id of an array -> weak reference to it, what made it."""
        self.stack: list[ModuleCall] = []

    def learn(self, array, operation):
        """An array that depends on the model's input, or was made by an operation."""
        self.known[id(array)] = ref(array), operation

    def operand(self, x):
        """What stands for an argument in Operation.arguments."""
        if isinstance(x, list | tuple) and any(isinstance(each, Tensor | np.ndarray) for each in x):
            return [self.operand(each) for each in x]
        array = x.array if isinstance(x, Tensor) else x.w if isinstance(x, PreparedConv2d) else x
        if not isinstance(array, np.ndarray):
            return x
        parameter = self.parameters.get(id(array))
        reference, source = self.known.get(id(array), (None, None))
        if reference is None or reference() is not array:
            return Operand(array.shape, array.itemsize, parameter, None, False)
        return Operand(array.shape, array.itemsize, parameter, source, source is None or source.data)

    def called(self, forward, args, options, results):
        """An operator ran."""
        bound = signature_of(forward).bind(*args, **options)
        arguments = {name: self.operand(x) for name, x in bound.arguments.items()}
        operation = Operation(forward, arguments, self.stack[-1].path if self.stack else "")
        given = list(arrays_of([*args, *options.values()]))
        for y in arrays_of(results if isinstance(results, list | tuple) else [results]):
            operation.shapes.append(y.shape)
            if not any(np.may_share_memory(x, y) for x in given):
                operation.nbytes += y.nbytes
            self.learn(y, operation)
        self.operations.append(operation)
        if self.stack:
            self.stack[-1].operations.append(operation)

    def overwritten(self, target, source):
        """A Tensor took over the data of another one."""
        self.learn(target.array, self.known.get(id(source.array), (None, None))[1])

    def watched(self, module, path) -> Callable[..., Any]:
        """The forward of a Module that takes down its calls. Other threads' calls are none of this run."""
        forward, thread = module.forward, get_ident()

        def watched_forward(*args, **kwargs):
            if get_ident() != thread:
                return forward(*args, **kwargs)
            call = ModuleCall(module, path, [x.shape for x in arrays_of([args, kwargs])])
            (self.stack[-1].children if self.stack else self.calls).append(call)
            self.stack.append(call)
            try:
                results = forward(*args, **kwargs)
            finally:
                self.stack.pop()
            call.outputs = [y.shape for y in arrays_of(results)]
            return results

        return watched_forward


class Unprepared:
    """Stands for a layer's Prepared: Parameters as they are, so that it is seen whose they are and nothing is kept."""

    def of(self, parameter):
        return parameter

    def clear(self):
        pass


@contextmanager
def untouched(model):
    """Whatever is done within to the Modules' attributes and buffers, and to the process's random numbers, is undone at
    the end. Of parameters, only those are at risk that a look-up rescales (max_norm)."""
    attributes = [(vars(module), dict(vars(module))) for module in model.modules()]
    rescaled = (module for module in model.modules() if getattr(module, "max_norm", None) is not None)
    arrays = [*model.buffers(), *(p.array for module in rescaled for p in module.own_parameters().values())]
    copies = [(array, array.copy()) for array in arrays if array.flags.writeable]
    random = get_rng_state()
    try:
        yield
    finally:
        for now, before in attributes:
            for name in now.keys() - before.keys():
                del now[name]
            now.update(before)
        for array, copy in copies:
            np.copyto(array, copy)
        set_rng_state(random)


def trace(model, args, kwargs) -> Trace:
    """Run a model once on arrays or Tensors, in inference mode and unrecorded, and undo what that changed."""
    found = Trace(model)
    args, kwargs = (map_arrays(Tensor, x) for x in (args, kwargs))
    inputs = list(arrays_of([args, kwargs]))
    for x in inputs:
        found.learn(x, None)
    with untouched(model), no_grad():
        for path, module in model.named_modules():
            vars(module)["training"] = False
            if isinstance(vars(module).get("_prepared"), Prepared):
                vars(module)["_prepared"] = Unprepared()
            if hasattr(module, "forward"):
                vars(module)["forward"] = found.watched(module, path)
        before = observe(found)
        try:
            results = model(*args, **kwargs)
        finally:
            observe(before)
        made = (found.known.get(id(y), (None, None))[1] for y in arrays_of(results))
        found.outputs = [operation for operation in made if operation is not None]
    return found


def check_model(function, model):
    """TypeError unless it is a Module."""
    if not isinstance(model, Module):
        raise TypeError(f"{function}: model must be a fastnn.nn.Module, got {type(model).__name__}")


def is_shape(x):
    return isinstance(x, list | tuple) and all(isinstance(n, int | np.integer) and not isinstance(n, bool) for n in x)


def inputs_of(function, model, input_shape, input_data, dtypes) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """The arguments of a run: input_data, or arrays of the shapes of input_shape; None if neither is given. TypeError
    or ValueError in the name of `function`."""
    if input_data is not None:
        if input_shape is not None or dtypes is not None:
            raise ValueError(f"{function}: input_data is given, expected no {'dtypes' if dtypes else 'input_shape'}")
        if isinstance(input_data, dict):
            return (), input_data
        return (tuple(input_data), {}) if isinstance(input_data, list | tuple) else ((input_data,), {})
    if input_shape is None:
        return None
    if isinstance(input_shape, dict):
        shapes = list(input_shape.values())
    elif isinstance(input_shape, list | tuple):
        shapes = [input_shape] if is_shape(input_shape) else list(input_shape)
    else:
        raise TypeError(f"{function}: input_shape must be a tuple of lengths, or several, got {input_shape!r}")
    for shape in shapes:
        if not is_shape(shape):
            raise TypeError(f"{function}: input_shape has {shape!r}, expected a tuple of lengths, batch included")
        if any(n < 0 for n in shape):
            raise ValueError(f"{function}: input_shape has {shape!r}, expected lengths of at least 0")
    if dtypes is None:
        floats = (p.dtype for p in model.parameters() if p.dtype.kind == "f")
        dtypes = next(floats, np.dtype(np.float32))
    if not isinstance(dtypes, list | tuple):
        dtypes = [dtypes] * len(shapes)
    if len(dtypes) != len(shapes):
        raise ValueError(f"{function}: there are {len(dtypes)} dtypes, expected {len(shapes)}, as many as inputs")
    arrays = [example(tuple(shape), np.dtype(dtype)) for shape, dtype in zip(shapes, dtypes, strict=True)]
    return ((), dict(zip(input_shape, arrays, strict=True))) if isinstance(input_shape, dict) else (tuple(arrays), {})


def example(shape, dtype):
    """An input: uniform in [0, 1), or zeros of integers, which are valid indices."""
    if dtype.kind == "f":
        return np.random.default_rng(0).random(shape).astype(dtype)
    return np.zeros(shape, dtype)
