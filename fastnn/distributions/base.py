"""What distributions have in common, and the moments of samples."""

from __future__ import annotations

from collections.abc import Callable
from math import inf, prod
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np

from fastnn import functional as F
from fastnn.autograd import Tensor, no_grad
from fastnn.descriptors import is_int
from fastnn.random import Generator, numpy_generator

__all__ = ["Distribution", "kl_divergence", "sample_mean", "sample_variance"]


def as_tensor(op: str, name: str, x: Any, dtype: Any) -> Tensor:
    """Numbers as a Tensor of that dtype; a Tensor is left as it is."""
    if isinstance(x, Tensor):
        if x.dtype != dtype:
            raise TypeError(f"{op}: {name} has dtype {x.dtype}, expected {dtype}, that of the others")
        return x
    array = np.asarray(x)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{op}: {name} must be numbers, got {x!r}")
    return Tensor(array.astype(dtype))


class Distribution:
    """What all have in common.

    A family names its parameters, checks them, and defines the moments, `density`, the log_prob of Tensors inside the
    support, and `draw`; or, where a sample is a differentiable function of noise, `noise` and `transform`.
    """

    POINT: ClassVar[float] = 0.5
    """Within the support, for whatever parameters, or where the density does not depend on the value."""

    FIXED: ClassVar[tuple[str, ...]] = ()
    """Parameters that are no choice of the user."""

    def __init__(self, **given: Any) -> None:
        tensors = [x for x in given.values() if isinstance(x, Tensor)]
        arrays = [x.dtype for x in given.values() if isinstance(x, np.ndarray | np.generic) and x.dtype.kind == "f"]
        single = bool(arrays) and all(dtype == np.float32 for dtype in arrays)
        self.dtype = tensors[0].dtype if tensors else np.dtype(np.float32 if single else np.float64)
        self.made_of_tensors = bool(tensors)
        if self.dtype.kind != "f":
            raise TypeError(f"{self.name}: parameters have dtype {self.dtype}, expected float32 or float64")
        parameters = {name: as_tensor(self.name, name, x, self.dtype) for name, x in given.items()}
        shapes = [x.shape for x in parameters.values()]
        try:
            self.batch_shape = np.broadcast_shapes(*shapes)
        except ValueError:
            came = ", ".join(f"{name} {x.shape}" for name, x in parameters.items())
            raise ValueError(f"{self.name}: parameters have shapes {came}, expected those that broadcast") from None
        self.of = SimpleNamespace(**parameters)  # for formulas
        for name, x in parameters.items():
            self.check(name, np.isfinite(x.array), "finite numbers")
            setattr(self, name, self.out(x))  # for users
        self.check_all()

    @property
    def name(self) -> str:
        """The family."""
        return type(self).__name__

    def check(self, name: str, valid: np.ndarray, expected: str) -> None:
        """ValueError if that is not so of a parameter everywhere; names an offending value."""
        if not np.all(valid):
            x = getattr(self.of, name).array
            wrong = np.broadcast_to(x, np.broadcast_shapes(x.shape, valid.shape))[~np.broadcast_to(valid, valid.shape)]
            raise ValueError(f"{self.name}: {name} is {wrong.flat[0]}, expected {expected}")

    def positive(self, *names: str) -> None:
        """ValueError for parameters that are not above 0."""
        for name in names:
            self.check(name, getattr(self.of, name).array > 0, "above 0")

    def check_all(self) -> None:
        """ValueError for parameters that the family does not have."""

    def out(self, y: Tensor, *values: Any) -> Any:
        """A result as the user wants it."""
        if self.made_of_tensors or any(isinstance(x, Tensor) for x in values):
            return y
        return y.array[()]

    def broadcast(self, y: Tensor) -> Any:
        """A result of each element of batch_shape."""
        return self.out(y if y.shape == self.batch_shape else y.expand(*self.batch_shape))

    def __repr__(self) -> str:
        shown = (f"{name}: {x.array}" for name, x in vars(self.of).items() if name not in self.FIXED)
        return f"{self.name}({', '.join(shown)})"

    @property
    def mean(self) -> Any:
        """E x"""
        return self.broadcast(self.moments()[0])

    @property
    def variance(self) -> Any:
        """E (x - mean)²"""
        return self.broadcast(self.moments()[1])

    @property
    def stddev(self) -> Any:
        """The square root of the variance."""
        return self.broadcast(self.moments()[1].sqrt())

    def log_prob(self, value: Any) -> Any:
        """log p(value), of a density or a probability: value broadcasts with batch_shape."""
        x = as_tensor(f"{self.name}.log_prob", "value", value, self.dtype)
        inside = self.inside(x.array) | np.isnan(x.array)
        density = self.density(F.where(inside, x, self.POINT))
        return self.out(F.where(inside, density, -inf), value)

    def sample(self, sample_shape: int | tuple[int, ...] = (), *, generator: Generator | None = None) -> Any:
        """Independent samples, of shape sample_shape + batch_shape, through which no gradient goes. generator: where
        random numbers come from, None for the one that fastnn.manual_seed seeds; a call draws one pair from it."""
        shape, rng = self.shape_and_numbers("sample", sample_shape, generator)
        return self.out(Tensor(np.asarray(self.draw(rng, shape)).astype(self.dtype)))

    def rsample(self, sample_shape: int | tuple[int, ...] = (), *, generator: Generator | None = None) -> Any:
        """The same samples as functions of parameters and noise, so that gradients go to parameters."""
        shape, rng = self.shape_and_numbers("rsample", sample_shape, generator)
        return self.out(self.transform(Tensor(np.asarray(self.noise(rng, shape)).astype(self.dtype))))

    def shape_and_numbers(self, method: str, sample_shape: Any, generator: Generator | None) -> tuple[Any, Any]:
        """The shape of samples, and NumPy's generator."""
        op = f"{self.name}.{method}"
        shape = (sample_shape,) if is_int(sample_shape) else sample_shape
        if not isinstance(shape, tuple | list) or not all(is_int(n) for n in shape):
            raise TypeError(f"{op}: sample_shape must be an integer or a tuple of integers, got {sample_shape!r}")
        if min(shape, default=0) < 0:
            raise ValueError(f"{op}: sample_shape is {sample_shape}, expected lengths of at least 0")
        return (*shape, *self.batch_shape), numpy_generator(op, generator)

    def entropy(self) -> Any:
        """E -log p(x), in nats."""
        return self.broadcast(self.entropy_of())

    # ---- what a family defines ----

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and variance."""
        raise NotImplementedError

    def inside(self, x: np.ndarray) -> np.ndarray:
        """Which values are in the support."""
        return np.ones(x.shape, bool)

    def density(self, x: Tensor) -> Tensor:
        """log p(x) of values in the support."""
        raise NotImplementedError

    def draw(self, rng: Any, shape: tuple[int, ...]) -> np.ndarray:
        """Samples."""
        with no_grad():
            return self.transform(Tensor(np.asarray(self.noise(rng, shape)).astype(self.dtype))).array

    def noise(self, rng: Any, shape: tuple[int, ...]) -> np.ndarray:
        """What does not depend on parameters."""
        raise NotImplementedError(f"{self.name}: a sample is no differentiable function of the parameters; use sample")

    def transform(self, noise: Tensor) -> Tensor:
        """Noise as samples."""
        raise NotImplementedError

    def entropy_of(self) -> Tensor:
        """The entropy, where it is closed."""
        raise NotImplementedError(f"{self.name}: entropy has no closed form")

    def divergence(self, other: Any) -> Tensor:
        """KL from another one of the family."""
        raise NotImplementedError


def kl_divergence(p: Distribution, q: Distribution) -> Any:
    """KL(p ‖ q) = E_p log p(x)/q(x), of two distributions of one family, whose shapes broadcast; infinite where p has
    probability and q has none. TypeError for two families."""
    for name, x in ("p", p), ("q", q):
        if not isinstance(x, Distribution):
            raise TypeError(f"kl_divergence: {name} must be a Distribution, got {type(x).__name__}")
    if type(p) is not type(q):
        raise TypeError(f"kl_divergence: got {p.name} and {q.name}, expected two of one family")
    if p.dtype != q.dtype:
        raise TypeError(f"kl_divergence: p is {p.dtype} and q {q.dtype}, expected one dtype")
    shape = np.broadcast_shapes(p.batch_shape, q.batch_shape)
    divergence = p.divergence(q).expand(*shape)
    return divergence if p.made_of_tensors or q.made_of_tensors else divergence.array[()]


def sample_mean(x: Any, dim: int | tuple[int, ...] = 0) -> Any:
    """Σ x / n of samples along an axis or axes, of an array or a Tensor; ValueError for none."""
    x, give = samples("sample_mean", x, dim, 1)
    return give(x.mean(dim))


def sample_variance(x: Any, dim: int | tuple[int, ...] = 0) -> Any:
    """Σ (x - mean)² / (n - 1), whose expectation is the variance; ValueError for fewer than two samples."""
    x, give = samples("sample_variance", x, dim, 2)
    return give(x.var(dim))


def samples(op: str, x: Any, dim: int | tuple[int, ...], least: int) -> tuple[Tensor, Callable[[Tensor], Any]]:
    """Samples as a Tensor, and what makes a result of the kind that they were."""
    found = x if isinstance(x, Tensor) else Tensor(np.asarray(x))
    if found.dtype.kind != "f":
        found = Tensor(found.array.astype(np.float64))
    n = prod(found.shape[axis] for axis in (dim if isinstance(dim, tuple) else (dim,)))
    if n < least:
        raise ValueError(f"{op}: x has {n} samples along dim {dim}, expected at least {least}")
    return found, (lambda y: y) if isinstance(x, Tensor) else (lambda y: y.array[()])
