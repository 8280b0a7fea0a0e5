"""One OpSpec per operator: what tests, `fastnn check`, `fastnn bench` and the tape need to know of it.

The specs live beside each other in `fastnn.specs`, one file a family; `specs()` collects them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, NamedTuple

import numpy as np

Arrays = dict[str, Any]


class Work(NamedTuple):
    """What a call costs at least: arithmetic operations, and bytes that must cross the memory bus."""

    flops: float
    bytes: float
    written: float | None = None
    """Of the bytes, those that are written; None: half of them."""


class Rounding(NamedTuple):
    """Errors of an algorithm that does not add up the definition's terms."""

    amplification: float
    """Of rounding errors: the bound is so many eps of the largest magnitude, if that is more than depth gives."""
    exact: bool
    """Small integers still give exact results."""


def show_shape(shape):
    """2x3, or 2x3+2x4 of a list."""
    return "+".join(map(show_shape, shape)) if isinstance(shape, list) else "x".join(map(str, shape))


def parse_shape(value):
    """A shape of a case that went through JSON, which has lists for tuples."""
    if value is None:
        return None
    return [tuple(s) for s in value] if value and isinstance(value[0], list) else tuple(value)


def rebuilt(sequence, elements):
    """A list, tuple or named tuple like sequence, of other elements."""
    cls = type(sequence)
    return cls(*elements) if hasattr(cls, "_fields") else cls(elements)


def map_arrays(f, value):
    """f of an array, and of each in a list, tuple or dictionary; other things as they are."""
    if isinstance(value, dict):
        return {name: map_arrays(f, v) for name, v in value.items()}
    if isinstance(value, list | tuple):
        return rebuilt(value, [map_arrays(f, v) for v in value])
    return f(value) if isinstance(value, np.ndarray) else value


def flat(arguments):
    """Arguments or results by name with the elements of a list as "name[0]", "name[1]", …"""
    found = {}
    for name, value in arguments.items():
        found |= {f"{name}[{i}]": v for i, v in enumerate(value)} if isinstance(value, list) else {name: value}
    return found


def restored(flat, like):
    """The inverse of `flat`: its values, by names and lists as in `like`."""
    return {
        name: [flat[f"{name}[{i}]"] for i in range(len(v))] if isinstance(v, list) else flat[name]
        for name, v in like.items()
    }


class Case(NamedTuple):
    """One problem: the shapes of the array arguments and the keyword options. A shape is a tuple, None for an absent
    argument, or a list of tuples for an argument that is a list of arrays."""

    shapes: Mapping[str, Any]
    options: Mapping[str, Any] = {}
    label: str = ""

    def __str__(self):
        shapes = " ".join(f"{name}={show_shape(s)}" for name, s in self.shapes.items() if s is not None)
        options = " ".join(f"{name}={value}" for name, value in self.options.items())
        return self.label or " ".join(filter(None, (shapes, options)))


def draw(shape, dtype, rng, kind):
    """Random test data of a kind: "normal"; "integer", small enough for exact sums; "distinct", no two elements of the
    same magnitude and none near 0."""
    if kind == "integer":
        return rng.integers(-4, 5, shape).astype(dtype)
    if kind == "distinct":
        size = int(np.prod(shape))
        return ((rng.permutation(size) - size // 2 + 0.25) / 8).reshape(shape).astype(dtype)
    return rng.standard_normal(shape).astype(dtype)


def draw_arrays(case, dtype, rng, kind):
    """All array arguments of a case, drawn independently; the default of OpSpec.make."""

    def of(s):
        return [of(each) for each in s] if isinstance(s, list) else None if s is None else draw(s, dtype, rng, kind)

    return {name: of(s) for name, s in case.shapes.items()}


def image_of(n):
    """The shape (N, C, H, W) of images with n elements, a power of 2: up to 64 x 64 pixels, then up to 64 channels."""
    pixels = min(n, 4096)
    height = 1 << pixels.bit_length() // 2
    channels = min(n // pixels, 64)
    return n // pixels // channels, channels, height, pixels // height


def rows_of(n):
    """The shape (N, D) of rows with n elements, a power of 2: up to 1024 a row."""
    return n // min(n, 1024), min(n, 1024)


def as_tuple(outputs):
    """Outputs or gradients as a tuple, whether there is one or several."""
    return outputs if isinstance(outputs, tuple) else (outputs,)


def listed(results):
    """The arrays among results, those in lists one by one, without absent ones."""
    return [y for y in flat(dict(enumerate(as_tuple(results)))).values() if y is not None]


class Terms(np.ndarray):
    """Magnitudes that add up where numbers would cancel."""

    def __sub__(self, other):
        return self + other

    __rsub__ = __sub__


def gradient_terms(name, grads, largest=False):
    """The OpSpec.gradient_terms of operator `name`: the reference's backward pass on absolute values, each minus in it
    a plus. largest: of each gradient the largest, where an error that is made on the way comes to all elements."""

    def magnitudes(value):
        return map_arrays(lambda a: np.abs(a).view(Terms) if a.dtype.kind == "f" else a, value)

    def terms(arrays, dy, **options):
        module = import_module("fastnn.reference")
        _, ctx = getattr(module, f"{name}_forward")(**arrays, **options)
        found = as_tuple(getattr(module, f"{name}_backward")(magnitudes(dy), magnitudes(ctx)))
        found = [None if a is None else np.abs(a).view(np.ndarray) for a in found]
        if largest:
            found = [None if a is None else np.full(a.shape, a.max(initial=0)) for a in found]
        return dict(zip(grads, found, strict=True))

    return terms


@dataclass(frozen=True)
class OpSpec:
    """An operator `name`: ops.{name}_forward(**arrays, **options) and ops.{name}_backward(dy, ctx); or, if it `updates`
    its arguments, ops.{name}(**arrays, **options)."""

    name: str
    grads: tuple[str, ...]
    """Array arguments that backward returns the gradients of, in its order; a list of gradients of a list of arrays.
    Empty if there is no backward."""
    cases: tuple[Case, ...]
    """Small problems for correctness: every option, odd sizes, batch 0 excepted (tests derive that one)."""
    bench: tuple[Case, ...]
    """Problems of real networks for speed."""
    work: Callable[[Case, int], Work]
    """Work of the forward pass from the case and the item size in bytes."""
    products: bool = False
    """The operations of `work` are multiply-adds, two each: those of matrix products and convolutions."""
    backward_work: Callable[[Case, int], Work] | None = None
    depth: Callable[[Case], float] = lambda case: 4
    """Rounding steps on the longest chain behind one result: the error bound is depth * eps * magnitude."""
    multilinear: bool = False
    """Linear in every argument: magnitude is the reference on absolute values, else the largest |result|."""
    gradient_terms: Callable[..., Mapping[str, Any]] | None = None
    """(arrays, dy, **options) -> for arguments whose gradient is a sum that cancels, the sum of its terms' absolute
    values, in float64: rounding is relative to that."""
    exact: bool = True
    """Integer inputs give results without rounding, so kernels must equal the reference bit for bit."""
    distinct: bool = False
    """Not differentiable at ties: gradient checks draw distinct values."""
    derivative: Callable[[Case], bool] = lambda case: True
    """Is backward the derivative? Options can make it something else by convention: not for gradient checks."""
    outputs: int = 1
    """How many leading outputs of forward have a gradient: backward's dy is one array, or a tuple of so many."""
    batch: Callable[[Case], Mapping[str, int]] = lambda case: {"x": 0}
    """The array arguments that have a batch axis, and which axis it is."""
    algos: tuple[str, ...] = ()
    """Values of the option `algo`, without "auto"."""
    rounding: Mapping[str, Rounding] = field(default_factory=dict)
    """Algorithms that round otherwise than the definition."""
    make: Callable[..., Arrays] = draw_arrays
    """(case, dtype, rng, kind) -> the array arguments, where drawing all independently will not do."""
    peers: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    """Package name -> f(package, **arrays, **options) that computes the same in it, on its own arrays."""
    updates: tuple[str, ...] = ()
    """Arguments that the function is there to update in place. It has no context and no backward pass, and what a peer
    returns is the function's result and then these arguments."""
    agrees: Callable[..., str] | None = None
    """(direction, results, arrays, dy, **options) -> what is wrong with a peer's results, empty if nothing is: of an
    operator whose random numbers are its own. None: results are those of the reference."""
    prepares: str | None = None
    """The array argument that ops.prepare_{name} packs or transforms once for many calls, where there is that."""
    sized: Callable[[int], Case] | None = None
    """n -> a problem whose first argument has about n elements, n a power of 2 from 16 up, for `fastnn bench --sizes`:
    of operators that memory or overhead limits, whatever their size."""

    def inputs(self, case, dtype=np.float32, seed=0, kind="normal"):
        """The array arguments of a case; the same seed gives the same values in every dtype."""
        arrays = self.make(case, np.dtype(dtype), np.random.default_rng(seed), kind)
        # Arithmetic on arrays of no dimension gives numbers.
        return {name: np.asarray(x) if isinstance(x, np.generic) else x for name, x in arrays.items()}

    def function(self, module, direction="forward"):
        """The operator's function in `module` (fastnn.ops or fastnn.reference)."""
        return getattr(module, self.name if self.updates else f"{self.name}_{direction}")

    def forward(self, module, arrays, options, **extra):
        """(outputs, ctx) of `module`."""
        result = self.function(module)(**arrays, **options, **extra)
        return (result, None) if self.updates else result

    def backward(self, module, dy, ctx, **extra):
        """Gradients by name."""
        grads = as_tuple(self.function(module, "backward")(dy, ctx, **extra))
        return dict(zip(self.grads, grads, strict=True))

    def draw_dy(self, outputs, seed=1, kind="normal"):
        """Random gradients at the outputs, in the form that backward takes."""
        rng = np.random.default_rng(seed)
        dy = tuple(draw(y.shape, y.dtype, rng, kind) for y in as_tuple(outputs)[: self.outputs])
        return dy if self.outputs > 1 else dy[0]


@cache
def specs() -> Mapping[str, OpSpec]:
    """All operators by name, in order of family and definition."""
    package = import_module("fastnn.specs")
    found: dict[str, OpSpec] = {}
    for module in iter_modules(package.__path__):
        for spec in import_module(f"fastnn.specs.{module.name}").SPECS:
            if spec.name in found:
                raise RuntimeError(f"two specs are named {spec.name}")
            found[spec.name] = spec
    return found
