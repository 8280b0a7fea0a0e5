"""Batch norm folded into the convolution before it, and ReLU computed in the same pass, for inference:

    γ (w ∗ x + b − μ) / √(σ² + ε) + β = (s w) ∗ x + s (b − μ) + β,  s = γ / √(σ² + ε)

What follows what is found out as torch.fx does it: `forward` runs once with Symbols in place of Tensors, which note
the layers that are called with them, and any other use. Nothing is concluded from names or the order of definition.
"""

from __future__ import annotations

import sys
from collections import Counter
from copy import deepcopy
from opcode import opmap
from weakref import ref

import numpy as np

from fastnn._tape import expect_symbols, observe
from fastnn.autograd import Tensor, no_grad
from fastnn.nn.activation import ReLU
from fastnn.nn.container import Numbered, Residual
from fastnn.nn.conv import Conv2d, ConvTranspose2d
from fastnn.nn.linear import Identity
from fastnn.nn.module import Module, Parameter, is_own
from fastnn.nn.norm import BatchNorm2d

__all__ = ["fuse"]


def fuse(model):
    """A copy of a Module for inference, in eval mode, that computes the same in less time:

        fused = nn.fuse(model)
        y = fused(images)

    A BatchNorm2d becomes Identity where its only input is the result of a Conv2d or ConvTranspose2d that nothing else
    uses, with weights that were folded in double precision. A ReLU module becomes Identity where all it does is taken
    over by such a Conv2d, whose repr says activation=relu. Any `forward` will do, of shortcuts and shared layers, if
    what it does depends on no value and no size of a Tensor; calls of functional.relu, and a ReLU module that is also
    used behind something else, stay. Layers whose parameters are shared, or used by `forward` itself, are left; it must
    not read the statistics of a batch norm.

    The model is not changed. TypeError if it is no Module. ValueError if `forward` needs values or sizes; its parts may
    still be fused: `model.backbone = nn.fuse(model.backbone)`.
    """
    if not isinstance(model, Module):
        raise TypeError(f"fuse: model must be a Module, got {type(model).__name__}")
    fused = deepcopy(model).eval()
    trace = Trace(fused)
    for layer, norm in list(trace.followed_by((Conv2d, ConvTranspose2d), BatchNorm2d)):
        if fold(layer, norm):
            trace.merge(layer, norm)
    rectified = list(trace.followed_by((Conv2d,), ReLU))
    for relu in {id(relu): relu for _, relu in rectified}.values():
        layers = [layer for layer, behind in rectified if behind is relu]
        if len(layers) == len(trace.calls[id(relu)]):
            for layer in layers:
                layer.activation = "relu"
            become_identity(relu)
    return fused


def fold(layer, norm):
    """Let a convolution compute what batch norm makes of its results. False if that cannot be: without running
    statistics, with a ReLU between, or where a product would be too large for the dtype."""
    if norm.running_mean is None or getattr(layer, "activation", None):
        return False
    w = layer.weight.data.astype(np.float64)
    scale = 1 / np.sqrt(norm.running_var.astype(np.float64) + norm.eps)
    if norm.weight is not None:
        scale *= norm.weight.data
    shift = -norm.running_mean.astype(np.float64)
    if layer.bias is not None:
        shift += layer.bias.data
    shift *= scale
    if norm.bias is not None:
        shift += norm.bias.data
    if layer.transposed:  # weight[c, k] makes filter k of the group that channel c is in
        grouped = w.reshape(layer.groups, -1, *w.shape[1:])
        w = (grouped * scale.reshape(layer.groups, 1, -1, 1, 1)).reshape(w.shape)
    else:
        w *= scale[:, None, None, None]
    largest = np.finfo(layer.weight.dtype).max
    if not (np.abs(w).max(initial=0) <= largest and np.abs(shift).max(initial=0) <= largest):
        return False
    trained = layer.weight.requires_grad
    layer.weight, layer.bias = (Parameter(x.astype(layer.weight.dtype), trained) for x in (w, shift))
    become_identity(norm)
    return True


def become_identity(module):
    """Whoever refers to a Module, in lists of its own perhaps, has an Identity then."""
    vars(module).clear()
    module.__class__ = Identity
    module.eval()


# ---- what follows what ----


class Trace:
    """One symbolic run of a Module."""

    def __init__(self, root: Module):
        self.calls: dict[int, list[Call]] = {}
        """id of a layer -> its calls"""
        if not hasattr(root, "forward"):
            raise ValueError(f"fuse: {type(root).__name__} has no forward, expected a Module that can be called")
        self.apart: set[int] = set()
        """ids of parameters that are used by something else than one layer."""
        self.failure: str | None = None
        """What was asked of a Symbol that only a Tensor has, even if forward caught the error."""
        self.layers = {id(x): x for x in root.modules() if is_leaf(x)}
        if root is not self.layers.get(id(root)):
            self.run(root)

    def run(self, root):
        """Call the Module. ValueError if that is impossible without values."""
        owned = [p for module in root.modules() for p in module.own_parameters().values()]
        for p in owned:
            p.versions.exposed = False
        for layer in self.layers.values():
            vars(layer)["forward"] = self.recorder(layer)
        expect_symbols(1)
        before = observe(self)
        try:
            inputs = [Symbol(self) for _ in required(root)]
            with no_grad():  # as with arrays
                self.keep(root(*inputs))
        except NeedsValueError:
            pass
        except Exception as error:
            raise ValueError(
                f"fuse: forward of {type(root).__name__} cannot run without values: {type(error).__name__}: {error}"
            ) from error
        finally:
            observe(before)
            expect_symbols(-1)
            for layer in self.layers.values():
                vars(layer).pop("forward", None)
        if self.failure is not None:
            raise ValueError(f"fuse: forward of {type(root).__name__} {self.failure}")
        times = Counter(map(id, owned))
        self.apart |= {id(p) for p in owned if p.versions.exposed or times[id(p)] > 1}

    def called(self, forward, args, options, results):
        """The tape's observer: an operation without a Symbol, perhaps on a parameter."""
        self.use(args, options)

    def overwritten(self, target, source):
        """The tape's observer: a change in place."""
        self.use(target)

    def use(self, *operands):
        """Note what parameters are used by anything but their layer."""
        self.apart |= {id(x) for x in flattened(operands) if isinstance(x, Parameter)}

    def recorder(self, layer):
        """A forward that notes the call."""

        def forward(*args, **kwargs):
            result = Symbol(self)
            inputs = list(symbols_in([args, kwargs]))
            call = Call(layer, result)
            self.calls.setdefault(id(layer), []).append(call)
            for symbol in inputs:
                symbol_uses(symbol).append(call if len(inputs) == 1 else None)
            return result

        return forward

    def operation(self, *operands):
        """The result of anything else that is done with Symbols."""
        for symbol in symbols_in(operands):
            symbol_uses(symbol).append(None)
        self.use(*operands)
        return Symbol(self)

    def keep(self, results):
        """What the run returned is used outside."""
        for x in flattened(results):
            if isinstance(x, Symbol):
                symbol_uses(x).append(None)
            elif x is not None and not isinstance(x, int | float | str | np.ndarray | Tensor):
                self.failure = f"returns a {type(x).__name__}, expected Tensors in lists, tuples and dicts"

    def followed_by(self, kinds, kind):
        """(layer, other layer) for each layer of these kinds that is called once, whose result is the input of a call
        of the other one, and nothing else, in the run or behind it."""
        for key, layer in self.layers.items():
            calls = self.calls.get(key, ())
            if type(layer) not in kinds or len(calls) != 1 or calls[0].symbol() is not None:
                continue
            following = calls[0].uses[0] if len(calls[0].uses) == 1 else None
            if following is None or type(following.layer) is not kind:
                continue
            owned = [*layer.own_parameters().values(), *following.layer.own_parameters().values()]
            if any(id(p) in self.apart for p in owned):
                continue
            if kind is ReLU or len(self.calls[id(following.layer)]) == 1:
                yield layer, following.layer

    def merge(self, layer, norm):
        """The results of a layer are now those of the batch norm behind it."""
        self.calls[id(layer)] = self.calls.pop(id(norm))
        del self.layers[id(norm)]


class Call:
    """A call of a layer."""

    def __init__(self, layer, result):
        self.layer = layer
        self.symbol = ref(result)
        """The result, while there is somebody who may still use it."""
        self.uses: list[Call | None] = symbol_uses(result)
        """The layers that got it as their only Symbol; None: something else did."""


class NeedsValueError(Exception):
    """A Symbol was asked for what only a Tensor has."""


def refuse(symbol, what):
    """Give the trace up, also if forward catches the error and goes another way."""
    object.__getattribute__(symbol, "trace").failure = f"{what}, which is only known in a call"
    raise NeedsValueError(what)


class Symbol(Tensor):
    """A Tensor without data: all that is done with it makes another Symbol, and is noted."""

    __slots__ = ("trace", "uses")
    __hash__ = object.__hash__

    def __init__(self, trace):
        object.__setattr__(self, "trace", trace)
        object.__setattr__(self, "uses", [])

    @staticmethod
    def applied(forward, args, options):
        """An operation of the tape."""
        symbol = next(symbols_in([args, options]))
        return object.__getattribute__(symbol, "trace").operation(args, options)

    def __getattribute__(self, name):
        if name.startswith("__") or name in ("trace", "applied"):
            return object.__getattribute__(self, name)
        if name in ("numpy", "item", "tolist", "backward"):
            refuse(self, f"uses {name}")
        return object.__getattribute__(self, "trace").operation(self)

    def __setattr__(self, name, value):
        refuse(self, f"assigns {name}")

    def __repr__(self):
        return "Symbol()"

    def __iter__(self):
        """Only of as many parts as the program unpacks: n, c, h, w = x.shape"""
        caller = sys._getframe(1)
        code, at = caller.f_code.co_code, caller.f_lasti
        if code[at] != opmap["UNPACK_SEQUENCE"]:
            refuse(self, "needs the length of a Tensor")
        return iter([self[i] for i in range(code[at + 1])])

    def __call__(self, *args, **kwargs):  # of a method
        return self.trace.operation(self, args, kwargs)


def value_needed(name):
    """A special method that Symbols cannot have."""

    def method(self, *args):
        refuse(self, f"needs the value of a Tensor, for __{name}__")

    return method


OPERATORS = ["add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor"]
# A change in place is one more use of the Symbol.
for name in [
    *(kind + name for kind in ("", "r", "i") for name in OPERATORS),
    "neg",
    "pos",
    "abs",
    "getitem",
    "setitem",
]:
    setattr(Symbol, f"__{name}__", lambda self, *args: self.trace.operation(self, args))
for name in ["bool", "int", "float", "index", "len", "contains", "eq", "ne", "lt", "le", "gt", "ge", "array"]:
    setattr(Symbol, f"__{name}__", value_needed(name))


def symbol_uses(symbol):
    """The list of a Symbol's uses."""
    return object.__getattribute__(symbol, "uses")


def flattened(value):
    """What is in nested lists, tuples and dictionaries."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for x in value:
            yield from flattened(x)
    else:
        yield value


def symbols_in(value):
    """The Symbols in nested lists, tuples and dictionaries."""
    return (x for x in flattened(value) if isinstance(x, Symbol))


def is_leaf(module):
    """Is it one of fastnn's own Modules that is called as a whole?"""
    return is_own(module) and hasattr(module, "forward") and not isinstance(module, Numbered | Residual)


def required(module):
    """The arguments of forward that a call must have."""
    from inspect import signature  # takes longer to import than all of fastnn.nn

    parameters = signature(module.forward).parameters.values()
    return [p for p in parameters if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
