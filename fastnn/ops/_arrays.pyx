"""Checked inputs and fresh outputs: the steps that every call takes, compiled because tiny calls consist of them."""

import numpy as np

cimport numpy as cnp
from libc.stdlib cimport qsort
from libc.string cimport memset

from fastnn.kernels.runtime cimport Scratch, fresh, scratch

cnp.import_array()


def refuse_mask(object x, str op, str name):
    """TypeError for a masked array."""
    # np.ma is named here only, because NumPy imports it when it is first named, for a seventh of its own time.
    if not cnp.PyArray_CheckExact(x) and isinstance(x, np.ma.MaskedArray):
        raise TypeError(f"{op}: {name} is a masked array, and its mask would be lost; fill it first")


cdef cnp.ndarray conform(object x, str op, str name, cnp.ndarray like):
    """x as a C-contiguous aligned ndarray of float32 or float64, copied only where its layout demands it."""
    cdef int kind
    if not cnp.PyArray_Check(x):
        raise TypeError(f"{op}: {name} must be a NumPy array of float32 or float64, got {type(x).__name__}")
    kind = cnp.PyArray_TYPE(<cnp.ndarray>x)
    if (kind != cnp.NPY_FLOAT and kind != cnp.NPY_DOUBLE) or not cnp.PyArray_ISNOTSWAPPED(<cnp.ndarray>x):
        raise TypeError(f"{op}: {name} has dtype {(<object>x).dtype}, expected float32 or float64")
    if like is not None and kind != cnp.PyArray_TYPE(like):
        raise TypeError(f"{op}: {name} has dtype {(<object>x).dtype}, expected {(<object>like).dtype} "
                        "like the first argument")
    if not cnp.PyArray_CheckExact(x):
        refuse_mask(x, op, name)
        # A subclass may redefine what an operator uses: np.matrix.sum keeps the axis.
        x = np.asarray(x)
    return x if cnp.PyArray_ISCARRAY_RO(<cnp.ndarray>x) else np.require(x, requirements="CA")


def array(object x, str op, str name, int ndim=-1, str layout="", cnp.ndarray like=None):
    """The argument `name` of `op` as a C-contiguous aligned array, or an error saying what came and what was expected.

    ndim and layout, e.g. 4 and "(N, C, H, W)", are the expected rank and its reading; -1 accepts any.
    like: an array whose dtype x must share.
    """
    cdef cnp.ndarray a = conform(x, op, name, like)
    if ndim >= 0 and cnp.PyArray_NDIM(a) != ndim:
        raise ValueError(f"{op}: {name} has {cnp.PyArray_NDIM(a)} dimensions, shape {(<object>a).shape}, "
                         f"expected {ndim}: {layout}")
    return a


def array_of_shape(object x, str op, str name, tuple shape, cnp.ndarray like=None):
    """The same for an argument whose whole shape is known."""
    cdef cnp.ndarray a = conform(x, op, name, like)
    cdef bint same = cnp.PyArray_NDIM(a) == len(shape)
    cdef int i
    if same:
        for i in range(cnp.PyArray_NDIM(a)):
            same = same and cnp.PyArray_DIM(a, i) == <Py_ssize_t>shape[i]
    if not same:
        raise ValueError(f"{op}: {name} has shape {(<object>a).shape}, expected {shape}")
    return a


def arrays_alike(str op, tuple names, tuple arguments, Py_ssize_t required):
    """A list of all arguments as `array` gives them, of the first one's dtype; None stays None behind the first
    `required`, of which there is at least one."""
    cdef list arrays = []
    cdef cnp.ndarray like = None
    cdef Py_ssize_t i
    if len(names) != len(arguments):
        raise TypeError(f"{op}: {len(arguments)} arguments for the names {names}")
    for i in range(len(names)):
        x = arguments[i]
        if x is not None or i < required:
            x = conform(x, op, <str>names[i], like)
        if like is None:
            like = x
        arrays.append(x)
    return arrays


def arrays_to_join(object arrays, str op, str name, object axis):
    """The argument `name`, a list or tuple of arrays of one dtype that differ along `axis` at most: (a list of what
    `array` gives for each, the shape of all in a row, the product of the sizes in front of the axis)."""
    cdef list found = []
    cdef cnp.ndarray first = None
    cdef cnp.ndarray a
    cdef Py_ssize_t i, length = 0, outer = 1
    cdef int ndim = 0, at = 0, d
    cdef bint same
    if not isinstance(arrays, (list, tuple)):
        raise TypeError(f"{op}: {name} must be a list of arrays, got {type(arrays).__name__}")
    if len(arrays) == 0:
        raise ValueError(f"{op}: {name} is empty, expected at least one array")
    for i in range(len(arrays)):
        x = arrays[i]
        if (not cnp.PyArray_CheckExact(x) or not cnp.PyArray_ISCARRAY_RO(<cnp.ndarray>x) or first is None
                or cnp.PyArray_TYPE(<cnp.ndarray>x) != cnp.PyArray_TYPE(first)):
            x = conform(x, op, f"{name}[{i}]", first)
        a = x
        if first is None:
            first, ndim = a, cnp.PyArray_NDIM(a)
            if isinstance(axis, bool) or not isinstance(axis, (int, np.integer)):
                raise TypeError(f"{op}: axis must be an integer, got {axis!r}")
            if not -ndim <= axis < ndim:
                raise ValueError(f"{op}: axis {axis} is out of range for {name}[0] of shape {(<object>a).shape}, "
                                 f"expected one of {ndim} axes")
            at = axis + ndim if axis < 0 else axis
        same = cnp.PyArray_NDIM(a) == ndim
        for d in range(ndim):
            same = same and (d == at or cnp.PyArray_DIM(a, d) == cnp.PyArray_DIM(first, d))
        if not same:
            raise ValueError(f"{op}: {name}[{i}] has shape {(<object>a).shape}, {name}[0] {(<object>first).shape}, "
                             f"expected the same but for axis {axis}")
        length += cnp.PyArray_DIM(a, at)
        found.append(a)
    for d in range(at):
        outer *= cnp.PyArray_DIM(first, d)
    return found, (*(<object>first).shape[:at], length, *(<object>first).shape[at + 1:]), outer


def common_sizes(list arrays, bytes layouts, bytes axes):
    """The sizes of `axes`, one letter each, -1 if absent, or None if the shapes do not fit together.

    layouts: each array's axes, e.g. b"nd gd" for (N, D) and (G, D); equal letters demand equal sizes, None fits any.
    """
    cdef Py_ssize_t[128] sizes
    cdef const unsigned char *letter = layouts
    cdef cnp.ndarray a
    cdef int axis
    memset(sizes, -1, sizeof(sizes))
    for x in arrays:
        a, axis = x, 0
        while b"a" <= letter[0] <= b"z":
            if a is not None:
                if axis == cnp.PyArray_NDIM(a) or sizes[letter[0]] not in (-1, cnp.PyArray_DIM(a, axis)):
                    return None
                sizes[letter[0]] = cnp.PyArray_DIM(a, axis)
            letter += 1
            axis += 1
        if a is not None and axis != cnp.PyArray_NDIM(a):
            return None
        letter += letter[0] == b" "
    return [sizes[letter_of] for letter_of in axes]


def writable(object x, str op, str name, tuple shape, cnp.ndarray like):
    """The same for an argument that the operator writes to, which no copy can stand in for."""
    cdef cnp.ndarray a = array_of_shape(x, op, name, shape, like)
    if a is not x or not cnp.PyArray_ISWRITEABLE(a):
        raise ValueError(f"{op}: {name} is updated in place, expected a writable, aligned, C-contiguous array")
    return a


def destination(object out, str op, cnp.ndarray x, bint keeps_x, str name="x"):
    """Where to write a result of x's shape and dtype: a fresh array, or `out`, the argument of that name. It may be x,
    the argument `name`, itself, unless the backward pass needs that (keeps_x)."""
    cdef cnp.ndarray a
    cdef const char *p
    cdef const char *q
    if out is None:
        return empty_like(x)
    a = conform(out, op, "out", x)
    if a is not out or not cnp.PyArray_ISWRITEABLE(a) or not cnp.PyArray_SAMESHAPE(a, x):
        raise ValueError(f"{op}: out has shape {out.shape}, expected a writable, aligned, C-contiguous array of shape "
                         f"{(<object>x).shape}")
    p, q = <const char *>cnp.PyArray_DATA(a), <const char *>cnp.PyArray_DATA(x)
    if p < q + cnp.PyArray_NBYTES(x) and q < p + cnp.PyArray_NBYTES(x):
        if p != q:
            raise ValueError(f"{op}: out overlaps {name}, expected {name} itself or an array apart from it")
        if keeps_x:
            raise ValueError(f"{op}: out is {name}, which the backward pass needs; expected another array, "
                             "or keep=False")
    return a


cdef struct Span:
    const char *begin
    const char *end
    bint written


cdef int by_begin(const void *a, const void *b) noexcept nogil:
    cdef const char *p = (<const Span *>a).begin
    cdef const char *q = (<const Span *>b).begin
    return (p > q) - (p < q)


cdef bint any_overlap(tuple lists, int read) except -1:
    """Does an array that is written share memory with another? All but list number `read` are written."""
    cdef Py_ssize_t count = 0, i
    cdef const char *any_end = NULL
    cdef const char *written_end = NULL
    cdef cnp.ndarray a
    cdef int k
    cdef bint found = False
    cdef Scratch room = scratch(len(lists) * len(lists[0]) * sizeof(Span))
    cdef Span *spans = <Span *>room.ptr
    for k in range(len(lists)):
        for a in lists[k] or ():
            if cnp.PyArray_SIZE(a):
                spans[count] = Span(<const char *>cnp.PyArray_DATA(a), <const char *>cnp.PyArray_DATA(a)
                                    + cnp.PyArray_NBYTES(a), k != read)
                count += 1
    qsort(spans, count, sizeof(Span), by_begin)
    for i in range(count):
        found = found or spans[i].begin < (any_end if spans[i].written else written_end)
        any_end = max(any_end, spans[i].end)
        if spans[i].written:
            written_end = max(written_end, spans[i].end)
    return found


cdef list conforming_list(object arrays, str op, str name, list first, str first_name, bint written, cnp.ndarray like):
    """A list of arrays that pass `writable`, or else `array_of_shape`; of the shapes in `first`, None: any."""
    cdef Py_ssize_t i
    cdef cnp.ndarray a
    cdef list conforming = []
    if not isinstance(arrays, (list, tuple)):
        raise TypeError(f"{op}: {name} must be a list of NumPy arrays, got {type(arrays).__name__}")
    if first is not None and len(arrays) != len(first):
        raise ValueError(f"{op}: {name} has {len(arrays)} arrays, expected {len(first)} like {first_name}")
    for i in range(len(arrays)):
        x = arrays[i]
        if like is None:
            like = conform(x, op, f"{name}[{i}]", None)
        # What follows raises all errors; this is for speed.
        if not (cnp.PyArray_CheckExact(x) and cnp.PyArray_TYPE(<cnp.ndarray>x) == cnp.PyArray_TYPE(like)
                and cnp.PyArray_ISCARRAY(<cnp.ndarray>x)
                and (first is None or cnp.PyArray_SAMESHAPE(<cnp.ndarray>x, <cnp.ndarray>first[i]))):
            a = conform(x, op, f"{name}[{i}]", like)
            shape = (<object>a).shape if first is None else first[i].shape
            x = (writable if written else array_of_shape)(x, op, f"{name}[{i}]", shape, like)
        conforming.append(x)
    return conforming


def lists_alike(str op, tuple names, tuple lists, int required, int read=-1):
    """A tuple of lists of arrays: the first, of any shapes, and others of the same shapes; all of one dtype. None stays
    None behind the first `required`.

    They are written in place, and must therefore be contiguous, and apart from each other; list number `read` is not.
    """
    cdef list first = None
    cdef list conforming = []
    cdef cnp.ndarray like = None
    cdef int k
    for k in range(len(lists)):
        x = lists[k]
        if x is not None or k < required:
            x = conforming_list(x, op, names[k], first, names[0], k != read, like)
        conforming.append(x)
        if k == 0:
            first = x
            like = first[0] if first else None
    if any_overlap(tuple(conforming), read):
        named = [(f"{name}[{i}]", x) for name, arrays in zip(names, conforming) for i, x in enumerate(arrays or ())]
        pairs = [f"{a} and {b}" for i, (a, x) in enumerate(named) for b, y in named[:i] if np.may_share_memory(x, y)]
        raise ValueError(f"{op}: {pairs[0]} share memory, expected arrays apart from each other")
    return tuple(conforming)


cdef cnp.ndarray fresh_of_shape(tuple shape, int dtype):
    cdef cnp.npy_intp[64] dims
    cdef int i
    if len(shape) > 64:
        raise ValueError(f"empty: shape {shape} has more than 64 dimensions")
    for i in range(len(shape)):
        dims[i] = shape[i]
    return fresh(<int>len(shape), dims, dtype)


def empty(tuple shape, cnp.ndarray like):
    """An uninitialised C-contiguous array of like's dtype."""
    return fresh_of_shape(shape, cnp.PyArray_TYPE(like))


def empty_indices(tuple shape, cnp.ndarray like):
    """The same of integers as wide as like's elements."""
    return fresh_of_shape(shape, cnp.NPY_INT64 if cnp.PyArray_ITEMSIZE(like) == 8 else cnp.NPY_INT32)


def empty_like(cnp.ndarray x):
    """An uninitialised C-contiguous array of x's shape and dtype."""
    return fresh(cnp.PyArray_NDIM(x), cnp.PyArray_DIMS(x), cnp.PyArray_TYPE(x))


def integer_array(object x, str op, str name, tuple shape):
    """The integer argument `name` of `op` as a C-contiguous int64 array of that shape, or of any if that is None."""
    if not cnp.PyArray_Check(x) or not cnp.PyArray_ISINTEGER(<cnp.ndarray>x):
        came = f"an array of {(<object>x).dtype}" if cnp.PyArray_Check(x) else type(x).__name__
        raise TypeError(f"{op}: {name} must be a NumPy array of integers, got {came}")
    refuse_mask(x, op, name)
    if shape is not None and (<object>x).shape != shape:
        raise ValueError(f"{op}: {name} has shape {(<object>x).shape}, expected {shape}")
    if cnp.PyArray_TYPE(<cnp.ndarray>x) != cnp.NPY_INT64 or not cnp.PyArray_ISCARRAY_RO(<cnp.ndarray>x):
        return np.require(x, np.int64, "CA")
    return x


def index_array(object x, str op, str name, tuple shape, Py_ssize_t limit, object ignore=None):
    """The same with values in [0, limit), or `ignore` unless that is None."""
    cdef cnp.ndarray a = integer_array(x, op, name, shape)
    cdef const cnp.int64_t *p = <const cnp.int64_t *>cnp.PyArray_DATA(a)
    cdef cnp.int64_t other = -1 if ignore is None else ignore
    cdef Py_ssize_t i
    for i in range(cnp.PyArray_SIZE(a)):
        if not 0 <= p[i] < limit and (p[i] != other or ignore is None):
            raise ValueError(f"{op}: {name} has the value {x.flat[i]} at index "
                             f"{[int(k) for k in np.unravel_index(i, (<object>a).shape)]}, "
                             f"expected 0 to {limit - 1}" + (f", or {ignore}" if ignore is not None else ""))
    return a


def axis_layout(cnp.ndarray x, Py_ssize_t axis, str op, str name):
    """(outer, n, inner): the shape of x with everything before and behind `axis`, of length n > 0, taken together."""
    cdef int ndim = cnp.PyArray_NDIM(x), i
    if not -ndim <= axis < ndim:
        raise ValueError(f"{op}: axis {axis} is out of range for {name} of shape {(<object>x).shape}, "
                         f"which has {ndim} dimensions")
    axis = axis + ndim if axis < 0 else axis
    if cnp.PyArray_DIM(x, <int>axis) == 0:
        raise ValueError(f"{op}: {name} has shape {(<object>x).shape}, expected at least one element along axis {axis}")
    cdef Py_ssize_t outer = 1, inner = 1
    for i in range(ndim):
        if i < axis:
            outer *= cnp.PyArray_DIM(x, i)
        elif i > axis:
            inner *= cnp.PyArray_DIM(x, i)
    return outer, cnp.PyArray_DIM(x, <int>axis), inner
