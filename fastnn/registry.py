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


def shape_text(shape):
    """2x3 for (2, 3); 2x3+4 for the list [(2, 3), (4,)]."""
    return "+".join(map(shape_text, shape)) if isinstance(shape, list) else "x".join(map(str, shape))


class Case(NamedTuple):
    """One problem: the shapes of the array arguments, as tuples, lists of them for arguments that are lists of arrays,
    or None for an absent one; and the keyword options."""

    shapes: Mapping[str, Any]
    options: Mapping[str, Any] = {}
    label: str = ""

    def __str__(self):
        shapes = " ".join(f"{name}={shape_text(s)}" for name, s in self.shapes.items() if s is not None)
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


def each_array(f, x):
    """f of an array, or of each in a list of them; what is neither, such as None, as it is."""
    if isinstance(x, list):
        return [each_array(f, y) for y in x]
    return f(x) if isinstance(x, np.ndarray) else x


def named_arrays(arrays):
    """{name: array} of all arrays among arguments by name, those in lists under names like "params[0]"."""
    found = {}
    for name, x in arrays.items():
        if isinstance(x, list):
            found.update(named_arrays({f"{name}[{i}]": y for i, y in enumerate(x)}))
        elif isinstance(x, np.ndarray):
            found[name] = x
    return found


def flat(results):
    """Arrays, and those in lists, one after the other, without None."""
    return [y for x in results for y in (flat(x) if isinstance(x, list) else [x] if x is not None else [])]


def draw_shapes(shapes, dtype, rng, kind):
    """Data of a shape, a list of data of a list of shapes, or None."""
    if isinstance(shapes, list):
        return [draw_shapes(s, dtype, rng, kind) for s in shapes]
    return None if shapes is None else draw(shapes, dtype, rng, kind)


def draw_arrays(case, dtype, rng, kind):
    """All array arguments of a case, drawn independently; the default of OpSpec.make."""
    return {name: draw_shapes(s, dtype, rng, kind) for name, s in case.shapes.items()}


def as_tuple(outputs):
    """Outputs or gradients as a tuple, whether there is one or several."""
    return outputs if isinstance(outputs, tuple) else (outputs,)


@dataclass(frozen=True)
class OpSpec:
    """An operator `name`: ops.{name}_forward(**arrays, **options) and ops.{name}_backward(dy, ctx); or, if it `updates`
    its arguments, ops.{name}(**arrays, **options)."""

    name: str
    grads: tuple[str, ...]
    """Array arguments that backward returns the gradients of, in its order; empty if there is no backward."""
    cases: tuple[Case, ...]
    """Small problems for correctness: every option, odd sizes, batch 0 excepted (tests derive that one)."""
    bench: tuple[Case, ...]
    """Problems of real networks for speed."""
    work: Callable[[Case, int], Work]
    """Work of the forward pass from the case and the item size in bytes."""
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

    def inputs(self, case, dtype=np.float32, seed=0, kind="normal"):
        """The array arguments of a case; the same seed gives the same values in every dtype."""
        return self.make(case, np.dtype(dtype), np.random.default_rng(seed), kind)

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
