"""Padding, cropping, concatenation: threads share out the elements of the results, whatever their rows."""

cimport numpy as cnp
from cython.parallel cimport prange

from fastnn.kernels.runtime cimport Scratch, ceil_div, past_caches, scratch, table_of, threads_for
from fastnn.kernels.ukernels cimport (
    FNN_CIRCULAR, FNN_CONSTANT, FNN_REFLECT, FNN_REPLICATE, fnn_concat, fnn_pad
)

cnp.import_array()

# Results a task: whole cache lines, so that no two tasks write to one.
cdef Py_ssize_t BLOCK = 1 << 15

# Arrays whose places fit the stack.
cdef enum:
    FEW = 32

MODES = {"constant": FNN_CONSTANT, "reflect": FNN_REFLECT, "replicate": FNN_REPLICATE, "circular": FNN_CIRCULAR}
"""Name -> what the kernels call it."""

ctypedef void (*pad_t)(const fnn_pad *g, Py_ssize_t first, Py_ssize_t last, const void *x, void *y,
                       int past) noexcept nogil


cdef void share_out(pad_t f, const fnn_pad *g, const char *src, cnp.ndarray dst, double nbytes):
    """All of dst by f; nothing if it is empty."""
    cdef Py_ssize_t n = cnp.PyArray_SIZE(dst), task
    cdef char *pd = <char *>cnp.PyArray_DATA(dst)
    cdef int past = past_caches(nbytes), nt = threads_for(0, nbytes)
    if n == 0:
        return
    if nt == 1:
        with nogil:
            f(g, 0, n, src, pd, past)
        return
    for task in prange(ceil_div(n, BLOCK), nogil=True, num_threads=nt, schedule="static"):
        f(g, task * BLOCK, min(n, (task + 1) * BLOCK), src, pd, past)


cdef fnn_pad axes_of(int mode, tuple n, tuple out, tuple before, double value):
    cdef fnn_pad g
    cdef int a
    g.mode, g.ndim, g.value = mode, <int>len(n), value
    for a in range(g.ndim):
        g.n[a], g.out[a], g.before[a] = n[a], out[a], before[a]
    return g


def pad(int mode, cnp.ndarray x, cnp.ndarray y, tuple n, tuple out, tuple before, double value):
    """y, whose axes are `out`, from x, whose axes are `n`, with before[a] more in front of axis a, or fewer."""
    cdef fnn_pad g = axes_of(mode, n, out, before, value)
    share_out(table_of(x).move.pad, &g, <char *>cnp.PyArray_DATA(x), y, 2. * cnp.PyArray_NBYTES(y))


def pad_backward(int mode, cnp.ndarray dy, cnp.ndarray dx, tuple n, tuple out, tuple before):
    """dx = the sum of dy over the results that repeat an element; n, out, before as forward, three of each, the first
    without padding. Not of mode "constant", where padding is dropped by pad."""
    cdef fnn_pad g = axes_of(mode, n, out, before, 0)
    share_out(table_of(dy).move.pad_backward, &g, <char *>cnp.PyArray_DATA(dy), dx,
              <double>cnp.PyArray_NBYTES(dy) + cnp.PyArray_NBYTES(dx))


def concat(list arrays, Py_ssize_t outer, cnp.ndarray y):
    """y = the arrays' rows one after the other, `outer` > 0 of them from each."""
    cdef Py_ssize_t count = len(arrays), size = cnp.PyArray_SIZE(y), i, task
    cdef const void *few_sources[FEW]
    cdef Py_ssize_t[FEW] few_lengths
    cdef const void **sources = few_sources
    cdef Py_ssize_t *lengths = few_lengths
    cdef Scratch s
    if count > FEW:
        s = scratch(2 * count * sizeof(void *))
        sources, lengths = <const void **>s.ptr, <Py_ssize_t *>s.ptr + count
    cdef cnp.ndarray a
    for i in range(count):
        a = arrays[i]
        sources[i], lengths[i] = cnp.PyArray_DATA(a), cnp.PyArray_SIZE(a) // outer
    cdef fnn_concat g
    g.count, g.arrays, g.lengths = count, sources, lengths
    uk = table_of(y).move
    cdef char *py = <char *>cnp.PyArray_DATA(y)
    cdef double nbytes = 2. * cnp.PyArray_NBYTES(y)
    cdef int past = past_caches(nbytes), nt = threads_for(0, nbytes)
    if nt == 1:
        with nogil:
            uk.concat(&g, 0, size, py, past)
        return
    for task in prange(ceil_div(size, BLOCK), nogil=True, num_threads=nt, schedule="static"):
        uk.concat(&g, task * BLOCK, min(size, (task + 1) * BLOCK), py, past)


def split(cnp.ndarray y, Py_ssize_t outer, list arrays):
    """The other way round: y's rows, `outer` > 0 of them, cut into those of the arrays."""
    cdef Py_ssize_t width = cnp.PyArray_SIZE(y) // outer, at = 0, length
    cdef fnn_pad g
    cdef cnp.ndarray a
    g.mode, g.ndim, g.value = FNN_CONSTANT, 2, 0
    for a in arrays:
        length = cnp.PyArray_SIZE(a) // outer
        g.n[0], g.out[0], g.before[0] = outer, outer, 0
        g.n[1], g.out[1], g.before[1] = width, length, -at
        share_out(table_of(y).move.pad, &g, <char *>cnp.PyArray_DATA(y), a, 2. * cnp.PyArray_NBYTES(a))
        at += length
