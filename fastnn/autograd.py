"""Tensors: arrays that remember how they were made, so that gradients can be taken back through it.

    x = fastnn.tensor([[1.0, 2.0]], requires_grad=True)
    F.relu(x @ w).sum().backward()
    x.grad  # an ndarray

Any operator of the registry is differentiable through its forward and backward functions, with no code of its own
here: `call` takes the arrays out of Tensors, runs <op>_forward with keep=True and records its context. Arithmetic is
made of the same pairs of functions (`fastnn.tensor_ops`), and names and arguments are torch's.

What an operation needs for its backward pass is not copied. Every change of a Tensor in place is counted, and
`backward` raises rather than use what was changed since. Writing to an ndarray behind its Tensor's back cannot be seen;
`Tensor.increment_version` tells of it.
"""

from __future__ import annotations

from typing import NamedTuple
from weakref import ref

import numpy as np

from fastnn import _tape, ops
from fastnn import tensor_ops as on
from fastnn._tape import Variable, Version, accumulate, call, mode, propagate, results_are
from fastnn.grad_mode import enable_grad, is_grad_enabled, no_grad

__all__ = ["Tensor", "call", "enable_grad", "is_grad_enabled", "no_grad", "tensor"]

if _tape.ops is not ops:
    raise ImportError(
        "fastnn: imported a second time, after its modules were removed from sys.modules, expected a new process; what "
        "is compiled is as the first time left it"
    )


def operator(forward, swapped=False):
    """The method of an operator of two arguments; swapped: self is the second one."""

    def method(self, other):
        other = self.operand(other, forward)
        if other is NotImplemented:
            return other
        return call(forward, other, self) if swapped else call(forward, self, other)

    return method


def in_place(forward):
    """The method of an augmented assignment."""

    def method(self, other):
        other = self.operand(other, forward)
        if other is NotImplemented:
            return other
        self.check_in_place(other)
        self.become(call(forward, self, other))
        return self

    return method


def comparison(ufunc):
    """The method of a comparison, which returns an ndarray."""

    def method(self, other):
        return ufunc(self.array, other.array if isinstance(other, Tensor) else other)

    return method


def plain(x):
    """An index without Tensors."""
    if isinstance(x, Tensor):
        return x.array
    if isinstance(x, list):
        return np.asarray(x) if x else np.empty(0, np.intp)
    return tuple(map(plain, x)) if isinstance(x, tuple) else x


def leaf(cls, attributes, *fields):
    """A Tensor of class cls, from a copy or pickle."""
    tensor = cls.__new__(cls)
    tensor.array, tensor.versions, tensor.grad, tensor.tracked = fields
    for name, value in attributes.items():
        setattr(tensor, name, value)
    return tensor


class Size(int):
    """How many elements a Tensor has; called as in torch, its shape, or with dim the length of that axis."""

    shape: tuple[int, ...]

    def __call__(self, dim=None):
        return self.shape if dim is None else self.shape[dim]


class Extremes(NamedTuple):
    """What Tensor.max and Tensor.min find along an axis."""

    values: Tensor
    indices: Tensor


class Tensor(Variable):
    """An ndarray and, if it requires a gradient, how it was made.

    data: an ndarray, which is shared and not copied. requires_grad: of a leaf, that `backward` adds to its gradient;
    the data must then be float32 or float64. Results require a gradient if an argument does.

    Operators follow NumPy's broadcasting. All arrays and Tensors of an operation have one dtype, else it is a
    TypeError; a Python or NumPy scalar takes the Tensor's. Comparisons return ndarrays.
    """

    __slots__ = ()
    __array_ufunc__ = None  # ndarray + Tensor is for Tensor.__radd__

    def __init__(self, data, requires_grad=False):
        if isinstance(data, Tensor):
            data = data.array
        if not isinstance(data, np.ndarray | np.generic):
            raise TypeError(f"Tensor: data must be a NumPy array, got {type(data).__name__}; see fastnn.tensor")
        self.array = np.asarray(data)
        self.versions = Version()
        self.requires_grad = requires_grad

    # ---- what it is ----

    @property
    def data(self):
        """The ndarray. Assigning another one of the same shape and dtype replaces it; no operation is recorded, and
        `t.data -= …` counts as a change in place."""
        self.versions.exposed = True
        return self.array

    @data.setter
    def data(self, array):
        if not isinstance(array, np.ndarray):
            raise TypeError(f"data: expected a NumPy array, got {type(array).__name__}")
        if (array.shape, array.dtype) != (self.array.shape, self.array.dtype):
            raise ValueError(
                f"data: got an array of shape {array.shape} and dtype {array.dtype}, "
                f"expected {self.array.shape} and {self.array.dtype}"
            )
        if array is self.array:
            self.increment_version()
        else:
            self.array, self.versions = np.asarray(array), Version()

    @property
    def requires_grad(self):
        """Is the gradient wanted? Only leaves can be told to."""
        return self.tracked

    @requires_grad.setter
    def requires_grad(self, value):
        if value and self.array.dtype not in (np.float32, np.float64):
            raise TypeError(f"requires_grad: data has dtype {self.array.dtype}, expected float32 or float64")
        if self.node is not None and not value:
            raise RuntimeError(f"requires_grad: the result of {self.node.name} is not a leaf; use detach()")
        self.tracked = bool(value)

    def requires_grad_(self, requires_grad=True):
        """Set requires_grad; returns the Tensor."""
        self.requires_grad = requires_grad
        return self

    @property
    def is_leaf(self):
        """Was it made by the user, and by no recorded operation?"""
        return self.node is None

    @property
    def shape(self):
        return self.array.shape

    @property
    def ndim(self):
        return self.array.ndim

    @property
    def size(self):
        """How many elements, as of an ndarray; size() is the shape and size(dim) the length of an axis, as in torch."""
        size = Size(self.array.size)
        size.shape = self.array.shape
        return size

    def numel(self):
        """How many elements"""
        return self.array.size

    def dim(self):
        """How many axes"""
        return self.array.ndim

    @property
    def dtype(self):
        return self.array.dtype

    @property
    def device(self):
        """Always "cpu"."""
        return "cpu"

    @property
    def _version(self):
        """How often its memory was changed in place, through it or through others that share it."""
        return self.versions.count

    def __len__(self):
        return len(self.array)

    def __iter__(self):
        if not self.ndim:
            raise TypeError("iteration over a Tensor without dimensions")
        return (self[i] for i in range(len(self.array)))

    def __bool__(self):
        return bool(self.array)

    def __float__(self):
        return float(self.array)

    def __int__(self):
        return int(self.array)

    def __index__(self):
        return self.array.__index__()

    __hash__ = object.__hash__

    def __repr__(self):
        text = np.array2string(self.array, separator=", ", prefix="tensor(")
        dtype = "" if self.dtype == np.float32 else f", dtype={self.dtype}"
        made = f", made by {self.node.name}" if self.node is not None else ", requires_grad=True" * self.tracked
        return f"tensor({text}{dtype}{made})"

    def numpy(self):
        """The ndarray, not copied. RuntimeError if it requires a gradient; `data` and detach() give it anyway."""
        if self.tracked:
            raise RuntimeError("numpy: the Tensor requires a gradient, which an array cannot; use detach().numpy()")
        return self.data

    def item(self):
        """The only element as a Python number."""
        return self.array.item()

    def tolist(self):
        """The elements as nested lists of Python numbers."""
        return self.array.tolist()

    def detach(self):
        """The same data without a past; memory, and the count of its changes, are shared."""
        tensor = Tensor(self.array)
        tensor.versions = self.versions
        return tensor

    def clone(self):
        """A copy, through which gradients pass."""
        return call(on.clone_forward, self)

    def to(self, *args, **kwargs):
        """This Tensor on the device "cpu", or in another dtype, through which gradients pass; itself if that is what it
        is. What else torch's method takes is for other devices."""
        target = self
        for x in (*args, *(kwargs[name] for name in ("device", "dtype") if name in kwargs)):
            if x is None or isinstance(x, bool) or str(x) == "cpu":
                continue
            try:
                dtype = np.dtype(x)
            except TypeError:
                raise ValueError(f"to: got {x!r}, expected the device 'cpu' or a dtype") from None
            if dtype != target.dtype:
                floats = dtype.kind == "f" and target.dtype.kind == "f"
                target = call(on.cast_forward, target, dtype) if floats else Tensor(target.array.astype(dtype))
        return target

    def cpu(self):
        """This Tensor"""
        return self

    def float(self):
        """In float32"""
        return self.to(np.float32)

    def double(self):
        """In float64"""
        return self.to(np.float64)

    def long(self):
        """In int64, without a gradient"""
        return self.to(np.int64)

    def contiguous(self):
        """This Tensor, or a copy if its elements do not lie in memory in their order"""
        return self if self.array.flags.c_contiguous else self.clone()

    # ---- gradients ----

    def backward(self, gradient=None, retain_graph=False):
        """Add the gradients of this Tensor to `grad` of all leaves that require one, ndarrays.

        gradient: of the end result by this Tensor, an array or Tensor of its shape and dtype; None: 1, of one element.
        retain_graph: do not free what the operations saved, so that backward can come this way again.
        RuntimeError if it requires no gradient, if the graph was freed, or if a value that an operation needs was
        changed in place since; no gradient is changed then.
        """
        if not self.tracked:
            raise RuntimeError("backward: the Tensor requires no gradient, and none of what it was made of does")
        if gradient is None:
            if self.size != 1:
                raise RuntimeError(
                    f"backward: gradient is None, expected one of shape {self.shape} or a single element"
                )
            gradient = np.ones(self.shape, self.dtype)
        elif isinstance(gradient, Tensor):
            gradient = gradient.array
        if not isinstance(gradient, np.ndarray) or gradient.dtype != self.dtype:
            came = getattr(gradient, "dtype", type(gradient).__name__)
            raise TypeError(f"backward: gradient must be an array of {self.dtype}, got {came}")
        if gradient.shape != self.shape:
            raise ValueError(f"backward: gradient has shape {gradient.shape}, expected {self.shape}")
        if self.node is None:
            accumulate(self, gradient, False)
        else:
            propagate(self.node, self.number, gradient, retain_graph)

    def retain_grad(self):
        """Keep the gradient of a result of an operation, as if it were a leaf."""
        if not self.tracked:
            raise RuntimeError("retain_grad: the Tensor requires no gradient")
        if self.node is not None:
            self.node.retained = [*(self.node.retained or ()), (self.number, ref(self))]

    def zero_grad(self):
        """Forget the gradient: it becomes None."""
        self.grad = None

    def __reduce__(self):
        """For copy and pickle: data, gradient, and whether one is required."""
        if self.node is not None:
            raise RuntimeError(
                f"pickle, copy: the Tensor is the result of {self.node.name}, expected a leaf; use detach() or clone()"
            )
        attributes = getattr(self, "__dict__", {})  # of a user's class
        return leaf, (type(self), attributes, self.array, self.versions, self.grad, self.tracked)

    # ---- changes in place ----

    def increment_version(self):
        """Say that the data was changed in place, by other means than the methods of this Tensor."""
        self.versions.increment(self.array)

    def copy_(self, source):
        """Overwrite the data with an array, Tensor or scalar that broadcasts to the shape; returns the Tensor."""
        self[...] = source
        return self

    def check_in_place(self, *others):
        """RuntimeError if a change in place cannot be recorded."""
        if not mode.recording:
            return
        if self.tracked and self.node is None:
            raise RuntimeError("a leaf that requires a gradient was to be changed in place, expected that in no_grad()")
        tracked = self.tracked or any(isinstance(x, Tensor) and x.tracked for x in others)
        if tracked and self.versions.viewed:
            raise RuntimeError(
                "a Tensor that shares memory with a view was to be changed in place, expected that in no_grad(), or "
                "with none that requires a gradient"
            )

    def become(self, result):
        """Take over data and past of the result of an operation."""
        if result.shape != self.shape:
            raise ValueError(f"the result of shape {result.shape} does not fit a Tensor of shape {self.shape} in place")
        self.array[...] = result.array
        self.increment_version()
        if mode.observer is not None:
            mode.observer.overwritten(self, result)
        if result.tracked:
            self.node, self.number, self.tracked = result.node, result.number, True

    def __setitem__(self, index, value):
        index = plain(index)
        operand = self.operand(value, on.setitem_forward)
        if operand is NotImplemented:
            raise TypeError(f"setitem: got {type(value).__name__}, expected a Tensor, an array or a number")
        self.check_in_place(operand)
        if mode.recording and (self.tracked or (isinstance(operand, Tensor) and operand.tracked)):
            self.become(call(on.setitem_forward, self, index, operand))
        else:
            self.array[index] = operand.array if isinstance(operand, Tensor) else operand
            self.increment_version()

    # ---- arithmetic ----

    def operand(self, other, forward):
        """The other argument of an operator: of this Tensor's dtype, or a TypeError; NotImplemented of what is none."""
        dtype = self.array.dtype
        if isinstance(other, Tensor | np.ndarray):
            if other.dtype != dtype:
                name = forward.__name__.removesuffix("_forward")
                raise TypeError(f"{name}: got {dtype} and {other.dtype}, expected one dtype")
            return other
        if isinstance(other, float | np.floating) and dtype.kind != "f":
            name = forward.__name__.removesuffix("_forward")
            raise TypeError(f"{name}: got {dtype} and the number {other}, expected an integer")
        if isinstance(other, int | float | np.number | np.bool):
            return dtype.type(other)
        return NotImplemented

    __add__ = operator(on.plus_forward)
    __radd__ = operator(on.plus_forward, swapped=True)
    __iadd__ = in_place(on.plus_forward)
    __sub__ = operator(on.minus_forward)
    __rsub__ = operator(on.minus_forward, swapped=True)
    __isub__ = in_place(on.minus_forward)
    __mul__ = operator(on.times_forward)
    __rmul__ = operator(on.times_forward, swapped=True)
    __imul__ = in_place(on.times_forward)
    __truediv__ = operator(on.divide_forward)
    __rtruediv__ = operator(on.divide_forward, swapped=True)
    __itruediv__ = in_place(on.divide_forward)
    __pow__ = operator(on.power_forward)
    __rpow__ = operator(on.power_forward, swapped=True)
    __ipow__ = in_place(on.power_forward)
    __eq__ = comparison(np.equal)
    __ne__ = comparison(np.not_equal)
    __lt__ = comparison(np.less)
    __le__ = comparison(np.less_equal)
    __gt__ = comparison(np.greater)
    __ge__ = comparison(np.greater_equal)

    def __neg__(self):
        return call(on.negative_forward, self)

    def __pos__(self):
        return self

    def __abs__(self):
        return call(on.absolute_forward, self)

    def __matmul__(self, other):
        """Matrices: ops.matmul. Else as np.matmul."""
        if not isinstance(other, Tensor | np.ndarray):
            return NotImplemented
        return matmul(self, self.operand(other, ops.matmul_forward))

    def __rmatmul__(self, other):
        return (
            matmul(self.operand(other, ops.matmul_forward), self) if isinstance(other, np.ndarray) else NotImplemented
        )

    matmul = __matmul__
    abs = __abs__
    pow = __pow__

    def exp(self):
        return call(ops.exp_forward, self)

    def log(self):
        return call(ops.log_forward, self)

    def sqrt(self):
        return call(on.sqrt_forward, self)

    def relu(self):
        return call(ops.relu_forward, self)

    def sigmoid(self):
        return call(ops.sigmoid_forward, self)

    def tanh(self):
        return call(ops.tanh_forward, self)

    def softmax(self, dim):
        return call(ops.softmax_forward, self, dim)

    def log_softmax(self, dim):
        return call(ops.log_softmax_forward, self, dim)

    def square(self):
        return self * self

    def clamp(self, min=None, max=None):
        """Limited to [min, max], numbers, None for no limit."""
        return call(on.clip_forward, self, min, max)

    # ---- reductions; dim: an axis, a tuple or list of axes, or None for all ----

    def sum(self, dim=None, keepdim=False):
        return call(on.sum_forward, self, axes(dim), keepdim)

    def mean(self, dim=None, keepdim=False):
        return call(on.mean_forward, self, axes(dim), keepdim)

    def var(self, dim=None, correction=1, keepdim=False):
        """Σ (x - mean)^2 / (n - correction)"""
        return call(on.var_forward, self, axes(dim), correction, keepdim)

    def std(self, dim=None, correction=1, keepdim=False):
        """The square root of var"""
        return self.var(dim, correction, keepdim).sqrt()

    def amax(self, dim=None, keepdim=False):
        """The largest element; equal ones share the gradient."""
        return call(on.max_forward, self, axes(dim), keepdim)

    def amin(self, dim=None, keepdim=False):
        """The smallest element; equal ones share the gradient."""
        return call(on.min_forward, self, axes(dim), keepdim)

    def max(self, dim=None, keepdim=False):
        """The largest of all elements, as amax; or along an axis (values, indices), of the first of equal ones."""
        return self.amax(keepdim=keepdim) if dim is None else self.extremes(self.array.argmax(dim), dim, keepdim)

    def min(self, dim=None, keepdim=False):
        """The smallest, likewise."""
        return self.amin(keepdim=keepdim) if dim is None else self.extremes(self.array.argmin(dim), dim, keepdim)

    def extremes(self, indices, dim, keepdim):
        """The elements at these indices along an axis, and the indices."""
        places = list(np.indices(indices.shape, sparse=True))
        places.insert(dim % self.ndim, indices)
        results = self[tuple(places)], Tensor(indices)
        return Extremes(*(x.unsqueeze(dim) for x in results) if keepdim else results)

    def argmax(self, dim=None, keepdim=False):
        """The index of the first largest element, along an axis or in row-major order, as a Tensor of int64."""
        return Tensor(np.asarray(self.array.argmax(dim, keepdims=keepdim)))

    def argmin(self, dim=None, keepdim=False):
        """The index of the first smallest element, likewise."""
        return Tensor(np.asarray(self.array.argmin(dim, keepdims=keepdim)))

    # ---- shapes and parts: views, as of ndarrays ----

    def __getitem__(self, index):
        index = plain(index)
        return call(on.getitem_forward if on.is_basic(index) else on.take_forward, self, index)

    def reshape(self, *shape):
        """shape: integers, one of which may be -1, or a tuple of them; a view where possible."""
        return call(on.reshape_forward, self, sizes(shape))

    view = reshape

    def flatten(self, start_dim=0, end_dim=-1):
        """Axes start_dim to end_dim as one."""
        return call(on.flatten_forward, self, start_dim, end_dim)

    def unflatten(self, dim, sizes):
        """The axis dim as several, of these lengths, one of which may be -1."""
        return call(on.unflatten_forward, self, dim, sizes)

    def permute(self, *dims):
        """dims: all axes in their new order."""
        return call(on.permute_forward, self, sizes(dims))

    def transpose(self, dim0, dim1):
        """Two axes exchanged."""
        axes = list(range(self.ndim))
        axes[dim0], axes[dim1] = axes[dim1], axes[dim0]
        return self.permute(axes)

    def t(self):
        """A matrix transposed; fewer axes are left as they are."""
        if self.ndim > 2:
            raise ValueError(f"t: the Tensor has shape {self.shape}, expected at most 2 dimensions")
        return self.T

    @property
    def T(self):
        """Axes in reversed order."""
        return self.permute(range(self.ndim)[::-1])

    def unsqueeze(self, dim):
        """A new axis of length 1 at dim."""
        return self.reshape(np.expand_dims(self.array, dim).shape)

    def squeeze(self, dim=None):
        """Without axes of length 1: all, or those in dim, others are left."""
        dims = range(self.ndim) if dim is None else [d % self.ndim for d in (dim if isinstance(dim, tuple) else (dim,))]
        return self.reshape(tuple(n for i, n in enumerate(self.shape) if n != 1 or i not in dims))

    def expand(self, *shape):
        """Repeated along new axes in front and those of length 1, to this shape; -1 keeps a length."""
        shape = sizes(shape)
        old = (1,) * (len(shape) - self.ndim) + self.shape
        return call(on.broadcast_to_forward, self, tuple(m if n == -1 else n for n, m in zip(shape, old, strict=True)))

    def split(self, split_size_or_sections, dim=0):
        """A tuple of parts along dim: of one size, the last may be smaller, or of these sizes."""
        return call(on.split_forward, self, split_size_or_sections, dim)

    def chunk(self, chunks, dim=0):
        """A tuple of parts along dim, so many or, if it is shorter, fewer; the last may be smaller."""
        if chunks < 1:
            raise ValueError(f"chunk: chunks is {chunks}, expected at least 1")
        return self.split(max(-(-self.shape[dim] // chunks), 1), dim)


results_are(Tensor)


def axes(dim):
    """A list of axes as a tuple."""
    return tuple(dim) if isinstance(dim, list) else dim


def sizes(arguments):
    """Integers that came one by one, or in one tuple, list or range."""
    return tuple(arguments[0]) if len(arguments) == 1 and not isinstance(arguments[0], int | np.integer) else arguments


def matmul(a, b):
    """The product of two arrays or Tensors, as np.matmul."""
    return call(ops.matmul_forward if a.ndim == b.ndim == 2 else on.product_forward, a, b)


def tensor(data, dtype=None, requires_grad=False):
    """A Tensor with a copy of data: numbers in nested lists, float32 if they are not integers, an array or a Tensor."""
    if isinstance(data, Tensor):
        data = data.array
    array = np.array(data, dtype)
    if dtype is None and array.dtype == np.float64 and not isinstance(data, np.ndarray | np.generic):
        array = array.astype(np.float32)
    return Tensor(array, requires_grad)
