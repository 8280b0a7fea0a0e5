"""Initial values of parameters, with torch.nn.init's names and arguments.

Each function fills a Tensor, without recording it, or a writable ndarray, and returns it. generator: where random
numbers come from, None for the one that fastnn.manual_seed seeds. A call draws one pair (seed, offset) from it, the key
of a Philox generator of NumPy. Numbers are drawn in double precision and rounded, so that both dtypes get the same.

fan_in and fan_out are the sizes of weight[0] and weight[:, 0]: of a Linear or a convolution, as many values go into an
output, and are made of an input. Of a transposed convolution, whose weight is (C, K, …), it is the other way round.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from math import ceil, erf, hypot, inf, isfinite, prod, sqrt
from typing import Any, TypeVar

import numpy as np

from fastnn.autograd import Tensor
from fastnn.descriptors import is_int, number
from fastnn.random import Generator, numpy_generator

__all__ = [
    "calculate_gain",
    "constant_",
    "dirac_",
    "eye_",
    "kaiming_normal_",
    "kaiming_uniform_",
    "normal_",
    "ones_",
    "orthogonal_",
    "sparse_",
    "trunc_normal_",
    "uniform_",
    "xavier_normal_",
    "xavier_uniform_",
    "zeros_",
]

Target = TypeVar("Target", Tensor, np.ndarray)

CHUNK = 1 << 16
"""Numbers that are drawn at a time, so that they stay in the cache and large parameters need no second copy."""


skipping: ContextVar[bool] = ContextVar("skipping", default=False)
"""Does `draw` leave tensors as they are?"""


@contextmanager
def skipped() -> Iterator[None]:
    """Within, nothing is drawn, but by orthogonal_ and sparse_: see `fastnn.nn.utils.skip_init`."""
    token = skipping.set(True)
    try:
        yield
    finally:
        skipping.reset(token)


def memory(op: str, tensor: Tensor | np.ndarray, least: int = 0, most: float = inf) -> np.ndarray:
    """The array of a Tensor, or the array, which must be writable and have from `least` to `most` dimensions."""
    array = tensor.array if isinstance(tensor, Tensor) else tensor
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{op}: tensor must be a Tensor or a NumPy array, got {type(array).__name__}")
    if not array.flags.writeable:
        raise ValueError(f"{op}: tensor is read-only, expected a writable one")
    if not least <= array.ndim <= most:
        expected = f"{least}" if least == most else f"{least} to {most}" if most < inf else f"at least {least}"
        raise ValueError(f"{op}: tensor has shape {array.shape}, expected {expected} dimensions")
    return array


def changed(tensor: Target) -> Target:
    """Count that as a change in place."""
    if isinstance(tensor, Tensor):
        tensor.increment_version()
    return tensor


def finite(op: str, **options: float) -> list[float]:
    """Options that are finite numbers."""
    values = [number(value, op, name) for name, value in options.items()]
    for name, value in zip(options, values, strict=True):
        if not isfinite(value):
            raise ValueError(f"{op}: {name} is {value}, expected a finite number")
    return values


def random_numbers(op: str, array: np.ndarray, generator: Generator | None) -> Any:
    """NumPy's generator of the numbers of one call, for an array of floating-point numbers."""
    if array.dtype not in (np.float32, np.float64):
        raise TypeError(f"{op}: tensor has dtype {array.dtype}, expected float32 or float64")
    return numpy_generator(op, generator)


def draw(op: str, tensor: Target, generator: Generator | None, numbers: Callable[[Any, int], np.ndarray]) -> Target:
    """Fill a tensor with numbers(NumPy's generator, how many), part by part in row-major order."""
    array = memory(op, tensor)
    if skipping.get():
        return tensor
    rng = random_numbers(op, array, generator)
    flat = array.reshape(-1)  # a copy if it is not contiguous
    with np.errstate(over="ignore"):
        for i in range(0, flat.size, CHUNK):
            part = flat[i : i + CHUNK]
            part[...] = numbers(rng, part.size)
    if not array.flags.c_contiguous:
        array[...] = flat.reshape(array.shape)
    return changed(tensor)


def uniform_(tensor: Target, a: float = 0.0, b: float = 1.0, generator: Generator | None = None) -> Target:
    """Uniform in [a, b]."""
    a, b = finite("uniform_", a=a, b=b)
    if a > b:
        raise ValueError(f"uniform_: a is {a}, expected at most b, {b}")
    return draw("uniform_", tensor, generator, lambda rng, n: a + (b - a) * rng.random(n))


def normal_(tensor: Target, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None) -> Target:
    """Normal with this mean and standard deviation."""
    mean, std = finite("normal_", mean=mean, std=std)
    if std < 0:
        raise ValueError(f"normal_: std is {std}, expected at least 0")
    return draw("normal_", tensor, generator, lambda rng, n: mean + std * rng.standard_normal(n))


def trunc_normal_(
    tensor: Target,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: Generator | None = None,
) -> Target:
    """Normal, of the values in [a, b] only. mean and std are those before values are left out.

    By rejection: of normal numbers if most lie in [a, b], else of uniform ones, with the density's ratio to its maximum
    in [a, b] as probability; where that is below e^-50 none are tried.
    """
    op = "trunc_normal_"
    mean, std = finite(op, mean=mean, std=std)
    a, b = number(a, op, "a"), number(b, op, "b")
    if not std > 0:
        raise ValueError(f"{op}: std is {std}, expected a number above 0")
    if not a <= b:
        raise ValueError(f"{op}: a is {a}, expected at most b, {b}")
    low, high = (a - mean) / std, (b - mean) / std
    often = erf(high / sqrt(2)) - erf(low / sqrt(2)) > 0.6
    peak = max(low, min(0.0, high))
    if not isfinite(peak):
        raise ValueError(f"{op}: a is {a} and b {b}, expected numbers within reach of mean {mean} and std {std}")
    reach = hypot(peak, 10.0)
    left, right = max(low, -reach), min(high, reach)

    def numbers(rng: Any, n: int) -> np.ndarray:
        found = np.empty(n)
        count = 0
        while count < n:
            if often:
                z = rng.standard_normal(n - count)
                z = z[(low <= z) & (z <= high)]
            else:
                z = left + (right - left) * rng.random(n - count)
                z = z[rng.random(n - count) <= np.exp((peak - z) * (peak + z) / 2)]
            found[count : count + z.size] = z
            count += z.size
        return np.clip(mean + std * found, a, b)

    return draw(op, tensor, generator, numbers)


def constant_(tensor: Target, val: float) -> Target:
    """All val."""
    memory("constant_", tensor)[...] = number(val, "constant_", "val")
    return changed(tensor)


def ones_(tensor: Target) -> Target:
    """All 1."""
    memory("ones_", tensor)[...] = 1
    return changed(tensor)


def zeros_(tensor: Target) -> Target:
    """All 0."""
    memory("zeros_", tensor)[...] = 0
    return changed(tensor)


def eye_(tensor: Target) -> Target:
    """The identity matrix, or the part of it that fits."""
    array = memory("eye_", tensor, 2, 2)
    array[...] = np.eye(*array.shape)
    return changed(tensor)


def dirac_(tensor: Target, groups: int = 1) -> Target:
    """The weight of a convolution, (K, C / groups, spatial…), that lets through as many channels of each group as it
    can, if its padding is half its kernel."""
    array = memory("dirac_", tensor, 3, 5)
    if not is_int(groups) or groups < 1:
        raise ValueError(f"dirac_: groups is {groups!r}, expected an integer, at least 1")
    if array.shape[0] % groups:
        raise ValueError(f"dirac_: tensor has shape {array.shape}, expected a first size that {groups} groups divide")
    array[...] = 0
    outputs = array.shape[0] // groups
    middle: tuple[int, ...] = tuple(size // 2 for size in array.shape[2:])
    for channel in range(min(outputs, array.shape[1])):
        array[(slice(channel, None, outputs), channel) + middle] = 1
    return changed(tensor)


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """A factor of weights' standard deviation, for the non-linearity behind them: "linear", "conv2d" and the like,
    "sigmoid": 1; "tanh": 5/3; "relu": √2; "leaky_relu": √(2 / (1 + param²)), param the slope, None for 0.01; "selu":
    3/4."""
    op = "calculate_gain"
    if nonlinearity == "leaky_relu":
        return sqrt(2.0 / (1 + (0.01 if param is None else number(param, op, "param")) ** 2))
    if nonlinearity not in GAINS:
        raise ValueError(f"{op}: nonlinearity is {nonlinearity!r}, expected leaky_relu, {', '.join(GAINS)}")
    return GAINS[nonlinearity]


GAINS = {
    **dict.fromkeys(["linear", "sigmoid", *(f"conv{t}{n}d" for t in ("", "_transpose") for n in (1, 2, 3))], 1.0),
    "tanh": 5.0 / 3,
    "relu": sqrt(2.0),
    "selu": 3.0 / 4,
}


def fans(op: str, tensor: Tensor | np.ndarray) -> tuple[int, int]:
    """(fan_in, fan_out); at least 1, for tensors without elements."""
    shape = memory(op, tensor, 2).shape
    kernel = prod(shape[2:])
    return max(shape[1] * kernel, 1), max(shape[0] * kernel, 1)


def xavier_std(op: str, tensor: Tensor | np.ndarray, gain: float) -> float:
    return finite(op, gain=gain)[0] * sqrt(2.0 / sum(fans(op, tensor)))


def xavier_uniform_(tensor: Target, gain: float = 1.0, generator: Generator | None = None) -> Target:
    """Uniform in ±gain √(6 / (fan_in + fan_out)) (Glorot & Bengio 2010)."""
    bound = abs(sqrt(3.0) * xavier_std("xavier_uniform_", tensor, gain))
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor: Target, gain: float = 1.0, generator: Generator | None = None) -> Target:
    """Normal with standard deviation gain √(2 / (fan_in + fan_out)) (Glorot & Bengio 2010)."""
    return normal_(tensor, 0.0, xavier_std("xavier_normal_", tensor, gain), generator)


def kaiming_std(op: str, tensor: Tensor | np.ndarray, a: float, mode: str, nonlinearity: str) -> float:
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"{op}: mode is {mode!r}, expected 'fan_in' or 'fan_out'")
    fan_in, fan_out = fans(op, tensor)
    return calculate_gain(nonlinearity, finite(op, a=a)[0]) / sqrt(fan_in if mode == "fan_in" else fan_out)


def kaiming_uniform_(
    tensor: Target,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Target:
    """Uniform in ±gain √(3 / fan), gain = calculate_gain(nonlinearity, a) (He et al. 2015).

    mode: "fan_in" keeps the variance on the way forward, "fan_out" on the way back.
    """
    bound = sqrt(3.0) * kaiming_std("kaiming_uniform_", tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(
    tensor: Target,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Target:
    """Normal with standard deviation gain / √fan; arguments as of kaiming_uniform_."""
    return normal_(tensor, 0.0, kaiming_std("kaiming_normal_", tensor, a, mode, nonlinearity), generator)


def orthogonal_(tensor: Target, gain: float = 1, generator: Generator | None = None) -> Target:
    """gain times a random matrix with orthonormal rows, or columns if there are more rows (Saxe et al. 2014), all
    equally likely (Mezzadri 2007). Axes behind the first count as one."""
    op = "orthogonal_"
    array = memory(op, tensor, 2)
    (gain,) = finite(op, gain=gain)
    rng = random_numbers(op, array, generator)
    if array.size:
        rows, columns = array.shape[0], array.size // array.shape[0]
        q, r = np.linalg.qr(rng.standard_normal((max(rows, columns), min(rows, columns))))
        q *= gain * np.where(np.diag(r) < 0, -1.0, 1.0)
        array[...] = (q if rows >= columns else q.T).reshape(array.shape)
    return changed(tensor)


def sparse_(tensor: Target, sparsity: float, std: float = 0.01, generator: Generator | None = None) -> Target:
    """A matrix of normal numbers, in each column of which a share of `sparsity`, rounded up, is 0 (Martens 2010)."""
    op = "sparse_"
    array = memory(op, tensor, 2, 2)
    sparsity, std = finite(op, sparsity=sparsity, std=std)
    if not 0 <= sparsity <= 1:
        raise ValueError(f"{op}: sparsity is {sparsity}, expected 0 <= sparsity <= 1")
    if std < 0:
        raise ValueError(f"{op}: std is {std}, expected at least 0")
    rng = random_numbers(op, array, generator)
    values = std * rng.standard_normal(array.shape)
    order = rng.random(array.shape).argsort(axis=0)
    np.put_along_axis(values, order[: ceil(sparsity * len(values))], 0.0, axis=0)
    array[...] = values
    return changed(tensor)
