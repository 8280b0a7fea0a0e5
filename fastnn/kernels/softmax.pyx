"""Softmax and log-softmax along the middle axis of (outer, n, inner)."""

cimport numpy as cnp
from cython.parallel cimport prange
from libc.stdint cimport int64_t

from fastnn.kernels.runtime cimport FNN_COLUMNS, fnn_softmax_ukernels, table_of, threads_of

cnp.import_array()

# An element's share of the time, in operations: maximum, exponential, sum, scaling.
cdef double SOFTMAX_FLOPS = 40

ctypedef void (*along_t)(Py_ssize_t n, Py_ssize_t stride, Py_ssize_t w, const void *x, void *y) noexcept nogil
ctypedef void (*along2_t)(Py_ssize_t n, Py_ssize_t stride, Py_ssize_t w, const void *a, const void *b,
                          void *y) noexcept nogil


cdef void map_along(along_t f, cnp.ndarray x, Py_ssize_t outer, Py_ssize_t n, Py_ssize_t inner, cnp.ndarray y,
                    int threads) noexcept:
    """y = f(x): a task is one contiguous problem (inner 1), or up to FNN_COLUMNS problems side by side."""
    cdef const char *px = <const char *>cnp.PyArray_DATA(x)
    cdef char *py = <char *>cnp.PyArray_DATA(y)
    cdef Py_ssize_t es = cnp.PyArray_ITEMSIZE(x), i, j, at
    cdef Py_ssize_t blocks = (inner + FNN_COLUMNS - 1) // FNN_COLUMNS, tasks = outer * blocks
    for i in prange(tasks, nogil=True, num_threads=<int>min(threads, tasks), schedule="static"):
        j = i % blocks * FNN_COLUMNS
        at = (i // blocks * n * inner + j) * es
        f(n, inner, min(inner - j, <Py_ssize_t>FNN_COLUMNS), px + at, py + at)


cdef void map_along2(along2_t f, cnp.ndarray a, cnp.ndarray b, Py_ssize_t outer, Py_ssize_t n, Py_ssize_t inner,
                     cnp.ndarray y, int threads) noexcept:
    """y = f(a, b), likewise."""
    cdef const char *pa = <const char *>cnp.PyArray_DATA(a)
    cdef const char *pb = <const char *>cnp.PyArray_DATA(b)
    cdef char *py = <char *>cnp.PyArray_DATA(y)
    cdef Py_ssize_t es = cnp.PyArray_ITEMSIZE(y), i, j, at
    cdef Py_ssize_t blocks = (inner + FNN_COLUMNS - 1) // FNN_COLUMNS, tasks = outer * blocks
    for i in prange(tasks, nogil=True, num_threads=<int>min(threads, tasks), schedule="static"):
        j = i % blocks * FNN_COLUMNS
        at = (i // blocks * n * inner + j) * es
        f(n, inner, min(inner - j, <Py_ssize_t>FNN_COLUMNS), pa + at, pb + at, py + at)


def softmax(cnp.ndarray x, Py_ssize_t outer, Py_ssize_t n, Py_ssize_t inner, cnp.ndarray y):
    map_along(table_of(x).softmax.softmax, x, outer, n, inner, y, threads_of(x, SOFTMAX_FLOPS, 2))


def softmax_backward(cnp.ndarray dy, cnp.ndarray y, Py_ssize_t outer, Py_ssize_t n, Py_ssize_t inner, cnp.ndarray dx):
    map_along2(table_of(dy).softmax.softmax_backward, dy, y, outer, n, inner, dx, threads_of(dy, 4, 3))


def log_softmax(cnp.ndarray x, Py_ssize_t outer, Py_ssize_t n, Py_ssize_t inner, cnp.ndarray y):
    map_along(table_of(x).softmax.log_softmax, x, outer, n, inner, y, threads_of(x, SOFTMAX_FLOPS, 2))


def log_softmax_backward(cnp.ndarray dy, cnp.ndarray y, Py_ssize_t outer, Py_ssize_t n, Py_ssize_t inner,
                         cnp.ndarray dx):
    map_along2(table_of(dy).softmax.log_softmax_backward, dy, y, outer, n, inner, dx, threads_of(dy, SOFTMAX_FLOPS, 3))


def hardmax(cnp.ndarray x, Py_ssize_t outer, Py_ssize_t n, Py_ssize_t inner, cnp.ndarray y):
    map_along(table_of(x).softmax.hardmax, x, outer, n, inner, y, threads_of(x, 2, 2))


def argmax(cnp.ndarray x, Py_ssize_t outer, Py_ssize_t n, Py_ssize_t inner, cnp.ndarray index):
    """index (outer, inner), int64"""
    cdef const fnn_softmax_ukernels *uk = table_of(x).softmax
    cdef const char *px = <const char *>cnp.PyArray_DATA(x)
    cdef int64_t *pi = <int64_t *>cnp.PyArray_DATA(index)
    cdef Py_ssize_t es = cnp.PyArray_ITEMSIZE(x), i, j
    cdef Py_ssize_t blocks = (inner + FNN_COLUMNS - 1) // FNN_COLUMNS, tasks = outer * blocks
    for i in prange(tasks, nogil=True, num_threads=<int>min(threads_of(x, 2, 1), tasks), schedule="static"):
        j = i % blocks * FNN_COLUMNS
        uk.argmax(n, inner, min(inner - j, <Py_ssize_t>FNN_COLUMNS), px + (i // blocks * n * inner + j) * es,
                  pi + i // blocks * inner + j)
