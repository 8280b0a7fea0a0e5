"""What all layers have in common: parameters, state, modes, and how they are called."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from fastnn._tape import Version, mode
from fastnn.autograd import Tensor, no_grad
from fastnn.registry import map_arrays, rebuilt
from fastnn.serialize import Mismatch, match

__all__ = ["Layer", "Module", "Parameter"]


class Parameter(Tensor):
    """A Tensor that a Module learns: as an attribute it is found by `parameters` and `state_dict`.

    data: an ndarray, which is shared and not copied, or a Tensor. requires_grad: False freezes it.
    """

    __slots__ = ()

    def __init__(self, data, requires_grad=True):
        super().__init__(data, requires_grad)

    def convert(self, dtype):
        """Data and gradient in another dtype."""
        if self.dtype != dtype:
            self.array, self.versions = self.array.astype(dtype), Version()
            self.grad = None if self.grad is None else self.grad.astype(dtype)

    def __repr__(self):
        return f"Parameter containing:\n{super().__repr__()}"


class Module:
    """A part of a network. A subclass assigns Parameters and Modules to attributes, and defines `forward`.

    Tensors in, Tensors out, which gradients can be taken through. Arrays in, arrays out: nothing is recorded. A call
    with both is one with Tensors. `forward` sees Tensors in place of arrays in any case, so that it can be written for
    them; and what other Modules give it are Tensors too, even of arrays, so that their parameters learn.

    Parameters, children and buffers are plain attributes, in the order of their first assignment, and no hooks exist.
    """

    training = True
    """In training mode? Dropout and batch norm differ; see train and eval."""

    forward: Callable[..., Any]

    def __call__(self, *args, **kwargs):
        recorded = mode.forwards > 0 or kind_of((*args, *kwargs.values())) is not np.ndarray
        args, kwargs = map_arrays(Tensor, args), map_arrays(Tensor, kwargs)
        mode.forwards += 1
        try:
            if recorded:
                return self.forward(*args, **kwargs)
            with no_grad():
                return untracked(self.forward(*args, **kwargs))
        finally:
            mode.forwards -= 1

    def __setattr__(self, name, value):
        if value is not None and not isinstance(value, Parameter) and isinstance(vars(self).get(name), Parameter):
            raise TypeError(
                f"{type(self).__name__}: {name} is a Parameter, expected another one or None, got "
                f"{type(value).__name__}; its values are {name}.data"
            )
        if name in vars(self).get("_buffers", ()):
            value = buffer(self, name, value)
        super().__setattr__(name, value)

    # ---- what it consists of ----

    def register_buffer(self, name, array, persistent=True):
        """An attribute that belongs to the state but is not learned, an ndarray (that of a Tensor) or None; not
        persistent: it is left out of state_dict."""
        array = buffer(self, name, array)
        vars(self).setdefault("_buffers", {})[name] = persistent
        setattr(self, name, array)

    def register_parameter(self, name, parameter):
        """An attribute, a Parameter or None."""
        setattr(self, name, parameter)

    def add_module(self, name, module):
        """An attribute, a Module or None."""
        setattr(self, name, module)

    def own_parameters(self) -> dict[str, Parameter]:
        """The parameters of this Module, without those of its children."""
        return {name: x for name, x in vars(self).items() if isinstance(x, Parameter)}

    def own_buffers(self, persistent_only=False) -> dict[str, np.ndarray]:
        """The buffers of this Module, without those of its children."""
        buffers = vars(self).get("_buffers", {})
        wanted = (name for name, persistent in buffers.items() if persistent or not persistent_only)
        return {name: vars(self)[name] for name in wanted if vars(self).get(name) is not None}

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The Modules among the attributes, each once."""
        seen = set()
        for name, x in vars(self).items():
            if isinstance(x, Module) and id(x) not in seen:
                seen.add(id(x))
                yield name, x

    def children(self) -> Iterator[Module]:
        """The Modules among the attributes, each once."""
        return (child for _, child in self.named_children())

    def named_modules(self, memo=None, prefix="", remove_duplicate=True) -> Iterator[tuple[str, Module]]:
        """This Module, as prefix, and all Modules in it, named by their path, such as "features.0"."""
        memo = set() if memo is None else memo
        if remove_duplicate:
            if id(self) in memo:
                return
            memo.add(id(self))
        yield prefix, self
        for name, x in vars(self).items():
            if isinstance(x, Module):
                yield from x.named_modules(memo, f"{prefix}.{name}" if prefix else name, remove_duplicate)

    def modules(self) -> Iterator[Module]:
        """This Module and all in it, each once."""
        return (module for _, module in self.named_modules())

    def named_members(self, members, prefix, recurse, remove_duplicate):
        """What members(module) names, of this Module and all in it."""
        modules = self.named_modules(prefix=prefix, remove_duplicate=remove_duplicate) if recurse else [(prefix, self)]
        seen = set()
        for path, module in modules:
            for name, x in members(module).items():
                if remove_duplicate and id(x) in seen:
                    continue
                seen.add(id(x))
                yield f"{path}.{name}" if path else name, x

    def named_parameters(self, prefix="", recurse=True, remove_duplicate=True) -> Iterator[tuple[str, Parameter]]:
        """(path, Parameter) of this Module and, with recurse, of all in it; shared ones once."""
        return self.named_members(Module.own_parameters, prefix, recurse, remove_duplicate)

    def parameters(self, recurse=True) -> Iterator[Parameter]:
        """The Parameters of this Module and, with recurse, of all in it; shared ones once."""
        return (parameter for _, parameter in self.named_parameters(recurse=recurse))

    def named_buffers(self, prefix="", recurse=True, remove_duplicate=True) -> Iterator[tuple[str, np.ndarray]]:
        """(path, ndarray) of this Module's buffers and, with recurse, of all in it."""
        return self.named_members(Module.own_buffers, prefix, recurse, remove_duplicate)

    def buffers(self, recurse=True) -> Iterator[np.ndarray]:
        """The buffers of this Module and, with recurse, of all in it."""
        return (buffer for _, buffer in self.named_buffers(recurse=recurse))

    def get_submodule(self, target: str) -> Module:
        """The Module at a path such as "layer1.0.conv1"; "" is this one. AttributeError if there is none."""
        module = self
        for name in target.split(".") if target else ():
            child = vars(module).get(name)
            if not isinstance(child, Module):
                raise AttributeError(f"get_submodule: {type(module).__name__} has no Module {name!r} of {target!r}")
            module = child
        return module

    def get_parameter(self, target: str) -> Parameter:
        """The Parameter at a path such as "layer1.0.conv1.weight". AttributeError if there is none."""
        path, _, name = target.rpartition(".")
        parameter = vars(self.get_submodule(path)).get(name)
        if not isinstance(parameter, Parameter):
            raise AttributeError(f"get_parameter: there is no Parameter {target!r}")
        return parameter

    # ---- state ----

    def state_dict(self, prefix="") -> dict[str, np.ndarray]:
        """path -> ndarray, of all parameters and persistent buffers, with torch's names and layouts. The arrays are
        the Module's own, not copies: training goes on in them."""
        state = {prefix + name: p.data for name, p in self.own_parameters().items()}
        state |= {prefix + name: b for name, b in self.own_buffers(persistent_only=True).items()}
        for name, x in vars(self).items():
            if isinstance(x, Module):
                state |= x.state_dict(f"{prefix}{name}.")
        return state

    def load_state_dict(self, state_dict: Mapping[str, Any], strict=True) -> Mismatch:
        """Copy arrays (or Tensors) into the parameters and buffers of these names.

        A floating-point array is rounded to the parameter's dtype, as torch does. strict: all names must be here and
        there. ValueError that lists all that is missing, unexpected or of another shape, TypeError of another kind of
        dtype; nothing is changed then. Returns the names that are (missing, unexpected).
        """
        own = self.state_dict()
        given = {name: np.asarray(x.array if isinstance(x, Tensor) else x) for name, x in state_dict.items()}
        try:
            mismatch = match({name: x.shape for name, x in own.items()}, given, strict=strict)
        except ValueError as error:
            raise ValueError(f"load_state_dict: {type(self).__name__}: {error}") from None
        shared = [name for name in own if name in given]
        for name in shared:
            if not np.can_cast(given[name].dtype, own[name].dtype, "same_kind"):
                raise TypeError(f"load_state_dict: {name} has dtype {given[name].dtype}, expected {own[name].dtype}")
        for name in shared:
            np.copyto(own[name], given[name], casting="same_kind")
        for parameter in self.parameters():
            parameter.increment_version()
        return mismatch

    def convert(self, dtype):
        """All floating-point parameters, gradients and buffers to another dtype; returns the Module."""
        for module in self.modules():
            for parameter in module.own_parameters().values():
                parameter.convert(dtype)
            for name, buffer in module.own_buffers().items():
                if buffer.dtype.kind == "f":
                    setattr(module, name, buffer.astype(dtype))
        return self

    def to(self, *args, device=None, dtype=None):
        """float32 or float64 for all parameters and buffers that are not integers; returns the Module. A device may be
        named, "cpu"."""
        wanted = None
        for x in (*args, device, dtype):
            if x is None or isinstance(x, bool) or str(x) == "cpu":
                continue
            try:
                wanted = np.dtype(x)
            except TypeError:
                raise ValueError(f"to: got {x!r}, expected the device 'cpu', float32 or float64") from None
            if wanted not in (np.float32, np.float64):
                raise TypeError(f"to: dtype is {wanted}, expected float32 or float64")
        return self if wanted is None else self.convert(wanted)

    def cpu(self):
        """The Module itself"""
        return self

    def float(self):
        """All parameters and buffers that are not integers in float32; returns the Module."""
        return self.convert(np.float32)

    def double(self):
        """All parameters and buffers that are not integers in float64; returns the Module."""
        return self.convert(np.float64)

    # ---- modes ----

    def train(self, mode=True):
        """Training mode for this Module and all in it; mode False is `eval`. Returns the Module."""
        if not isinstance(mode, bool):
            raise TypeError(f"train: mode must be True or False, got {mode!r}")
        for module in self.modules():
            module.training = mode
            if mode and "_prepared" in vars(module):
                vars(module)["_prepared"].clear()  # what inference made of parameters
        return self

    def eval(self):
        """Inference mode for this Module and all in it: no dropout, running statistics. Returns the Module."""
        return self.train(False)

    def requires_grad_(self, requires_grad=True):
        """Freeze all parameters, with False, or release them; returns the Module."""
        for parameter in self.parameters():
            parameter.requires_grad = requires_grad
        return self

    def zero_grad(self, set_to_none=True):
        """Forget the gradients of all parameters: they become None, or, if they are there, zeros."""
        for parameter in self.parameters():
            if set_to_none or parameter.grad is None:
                parameter.grad = None
            else:
                parameter.grad.fill(0)

    def apply(self, fn):
        """Call fn with all Modules in this one, children first, and with itself; returns the Module."""
        for child in self.children():
            child.apply(fn)
        fn(self)
        return self

    # ---- text ----

    def extra_repr(self) -> str:
        """What stands between the parentheses before the children."""
        return ""

    def child_lines(self) -> list[str]:
        """What repr says of the children."""
        return [f"({name}): {indented(repr(x))}" for name, x in vars(self).items() if isinstance(x, Module)]

    def __repr__(self):
        extra = self.extra_repr()
        children = self.child_lines()
        if not children:
            return f"{type(self).__name__}({extra})"
        lines = "".join(f"\n  {line}" for line in ([extra] if extra else []) + children)
        return f"{type(self).__name__}({lines}\n)"


class Layer(Module):
    """A Module whose `forward` takes arrays as well as Tensors itself, so that a call costs nothing more: those of
    fastnn. It fetches its parameters by `operands`. A user's subclass is called as any Module, since its forward may be
    written for Tensors."""

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if not cls.__module__.startswith(OWN) and "__call__" not in vars(cls):
            cls.__call__ = Module.__call__

    def __call__(self, *args, **kwargs):
        if mode.forwards and args and isinstance(args[0], np.ndarray):  # made by a user's forward
            args, kwargs = map_arrays(Tensor, args), map_arrays(Tensor, kwargs)
        return self.forward(*args, **kwargs)


OWN = "fastnn.nn."
"""What the names of modules with fastnn's own layers begin with."""


def is_own(module):
    """Is it of a class of fastnn, and not of a user's subclass, and has nobody replaced its forward?"""
    return type(module).__module__.startswith(OWN) and "forward" not in vars(module)


def operands(input, *parameters):
    """Parameters (or None) as arguments of a function of `fastnn.functional` beside input: themselves for a Tensor,
    else their arrays."""
    if isinstance(input, Tensor):
        return parameters
    return [p if p is None else p.array for p in parameters]


def buffer(module, name, value):
    """What is to be a buffer: an ndarray, that of a Tensor, or None."""
    if isinstance(value, Tensor):
        return value.array
    if value is not None and not isinstance(value, np.ndarray):
        came = type(value).__name__
        raise TypeError(f"{type(module).__name__}: {name} is a buffer, expected an ndarray or None, got {came}")
    return value


def kind_of(values):
    """Tensor if there is one among values or in lists, tuples and dictionaries of them, else ndarray likewise, else
    None."""
    kind = None
    for x in values:
        if isinstance(x, dict):
            found = kind_of(x.values())
        elif isinstance(x, list | tuple):
            found = kind_of(x)
        else:
            found = Tensor if isinstance(x, Tensor) else np.ndarray if isinstance(x, np.ndarray) else None
        if found is Tensor:
            return Tensor
        kind = kind or found
    return kind


def untracked(value):
    """The arrays of Tensors, also of those in lists, tuples and dictionaries."""
    if isinstance(value, Tensor):
        return value.array
    if isinstance(value, dict):
        return {name: untracked(x) for name, x in value.items()}
    return rebuilt(value, map(untracked, value)) if isinstance(value, list | tuple) else value


def indented(text):
    """All lines but the first two columns to the right."""
    return text.replace("\n", "\n  ")
