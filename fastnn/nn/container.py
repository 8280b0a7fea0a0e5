"""Modules made of Modules."""

from __future__ import annotations

from itertools import count, islice, pairwise, zip_longest
from operator import index

from fastnn import functional as F
from fastnn.nn.activation import ReLU
from fastnn.nn.module import Module, indented, is_own

__all__ = ["ModuleDict", "ModuleList", "Parallel", "Residual", "Sequential"]


class Numbered(Module):
    """Modules as attributes "0", "1", …, and otherwise like a list."""

    def own_list(self):
        """The Modules, in order."""
        return [x for x in vars(self).values() if isinstance(x, Module)]

    def own_names(self):
        """Their names, in order."""
        return [name for name, x in vars(self).items() if isinstance(x, Module)]

    def renumber(self, names, modules):
        """Have these Modules, under these names."""
        modules = list(modules)
        for module in modules:
            if not isinstance(module, Module):
                raise TypeError(f"{type(self).__name__}: expected Modules, got {type(module).__name__}")
        for name in self.own_names():
            delattr(self, name)
        for name, module in zip(names, modules, strict=True):
            setattr(self, name, module)

    def become(self, modules):
        """Have these Modules, in order."""
        self.renumber(map(str, range(len(modules))), modules)

    def __len__(self):
        return len(self.own_list())

    def __iter__(self):
        return iter(self.own_list())

    def __getitem__(self, i):
        return type(self)(*self.own_list()[i]) if isinstance(i, slice) else self.own_list()[index(i)]

    def __setitem__(self, i, module):
        modules = self.own_list()
        modules[index(i)] = module
        self.renumber(self.own_names(), modules)

    def __delitem__(self, i):
        modules = self.own_list()
        del modules[i]
        self.become(modules)

    def append(self, module):
        """Add a Module at the end; returns self."""
        return self.extend([module])

    def extend(self, modules):
        """Add Modules at the end, with the next numbers that are not taken as names; returns self."""
        names, modules = self.own_names(), list(modules)
        free = (name for name in map(str, count(len(names))) if name not in names)
        self.renumber([*names, *islice(free, len(modules))], [*self.own_list(), *modules])
        return self

    def insert(self, i, module):
        """Add a Module in front of number i."""
        modules = self.own_list()
        modules.insert(i, module)
        self.become(modules)


class Sequential(Numbered):
    """Modules one after the other, each with the result of the one before: Sequential(a, b) or
    Sequential({"name": a, …}). A ReLU behind a convolution or batch norm is computed in the same pass."""

    def __init__(self, *args):
        if len(args) == 1 and isinstance(args[0], dict):
            self.renumber(args[0].keys(), args[0].values())
        else:
            self.become(args)

    def __getitem__(self, i):
        """A Module, or a Sequential of some, which keep their names."""
        if not isinstance(i, slice):
            return super().__getitem__(i)
        return type(self)(dict(zip(self.own_names()[i], self.own_list()[i], strict=True)))

    def forward(self, input):
        modules, done = self.own_list(), None
        for module, following in zip_longest(modules, modules[1:]):
            if module is done:
                done = None
            elif one_pass(module, following):
                input, done = module.forward_relu(input), following
            else:
                input = module(input)
        return input


def one_pass(module, following):
    """Can a layer and the ReLU behind it be computed in one pass over memory?"""
    return type(following) is ReLU and hasattr(module, "forward_relu") and is_own(module) and is_own(following)


class ModuleList(Numbered):
    """A list of Modules, without a forward of its own."""

    def __init__(self, modules=()):
        self.become(list(modules))

    def __getitem__(self, i):
        return ModuleList(self.own_list()[i]) if isinstance(i, slice) else super().__getitem__(i)

    def __iadd__(self, modules):
        return self.extend(modules)

    def child_lines(self):
        """Modules in a row that look the same are shown once: "(0-2): 3 x …"."""
        texts = list(map(repr, self.own_list()))
        starts = [i for i, text in enumerate(texts) if i == 0 or text != texts[i - 1]]
        lines = []
        for start, end in pairwise([*starts, len(texts)]):
            n = end - start
            head = f"({start}-{end - 1}): {n} x " if n > 1 else f"({start}): "
            lines.append(indented(head + texts[start]))
        return lines


class ModuleDict(Module):
    """Modules by name, without a forward of its own."""

    def __init__(self, modules=()):
        self.update(modules)

    def __getitem__(self, name):
        if name not in self:
            raise KeyError(name)
        return vars(self)[name]

    def __setitem__(self, name, module):
        if not isinstance(module, Module):
            raise TypeError(f"ModuleDict: expected a Module, got {type(module).__name__}")
        if hasattr(type(self), name) or "." in name:
            raise KeyError(f"ModuleDict: {name!r} cannot name a Module")
        setattr(self, name, module)

    def __delitem__(self, name):
        if name not in self:
            raise KeyError(name)
        delattr(self, name)

    def __contains__(self, name):
        return isinstance(vars(self).get(name), Module)

    def __len__(self):
        return len(self.keys())

    def __iter__(self):
        return iter(self.keys())

    def keys(self):
        """The names, in order."""
        return [name for name, x in vars(self).items() if isinstance(x, Module)]

    def values(self):
        """The Modules, in order."""
        return [vars(self)[name] for name in self.keys()]

    def items(self):
        """(name, Module), in order."""
        return [(name, vars(self)[name]) for name in self.keys()]

    def pop(self, name):
        """Remove a Module and return it."""
        module = self[name]
        del self[name]
        return module

    def clear(self):
        """Remove all."""
        for name in self.keys():
            del self[name]

    def update(self, modules):
        """Add Modules by name, from a dictionary or pairs."""
        for name, module in dict(modules).items():
            self[name] = module


class Residual(Module):
    """body(x) + shortcut(x), and then ReLU if relu=True (He et al. 2016); a shortcut of None is x itself."""

    def __init__(self, body, shortcut=None, relu=False):
        self.body, self.shortcut, self.relu = body, shortcut, relu

    def forward(self, input):
        shortcut = input if self.shortcut is None else self.shortcut(input)
        return F.add(self.body(input), shortcut, relu=self.relu)

    def extra_repr(self):
        return "relu=True" if self.relu else ""


class Parallel(Numbered):
    """The results of several Modules for the same input, concatenated along the axis dim."""

    def __init__(self, *modules, dim=1):
        self.dim = dim
        self.become(modules)

    def forward(self, input):
        return F.cat([module(input) for module in self.own_list()], self.dim)

    def __getitem__(self, i):
        return Parallel(*self.own_list()[i], dim=self.dim) if isinstance(i, slice) else super().__getitem__(i)

    def extra_repr(self):
        return f"dim={self.dim}"
