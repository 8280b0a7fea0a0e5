"""Local response normalisation: a task is all channels of some adjacent columns of an image."""

cimport numpy as cnp
from cython.parallel cimport prange, threadid

from fastnn.kernels.runtime cimport (Scratch, ceil_div, fnn_response_norm, past_caches, scratch, table_of, threads_for)

cnp.import_array()

# Bytes of a task's rows, of which there are as many as a window has, twice that backward.
cdef Py_ssize_t WINDOW_BYTES = 1 << 15
# A row of a task, in elements: long enough to be read at full speed. No result depends on it.
cdef Py_ssize_t LEAST_COLUMNS = 256, MOST_COLUMNS = 4096
# Results of shorter rows go through the caches: lines at their ends are shared.
cdef Py_ssize_t LONG_ROW = 1024


cdef fnn_response_norm parameters(Py_ssize_t c, Py_ssize_t s, Py_ssize_t size, double alpha, double beta, double k,
                                  bint past) noexcept:
    cdef fnn_response_norm p
    p.c, p.stride = c, s
    p.before, p.after = min(size // 2, c - 1), min((size - 1) // 2, c - 1)
    p.scale, p.beta, p.k, p.past = alpha / size, beta, k, past
    return p


cdef Py_ssize_t columns_of(Py_ssize_t n, Py_ssize_t s, Py_ssize_t row_bytes, int nt) noexcept:
    """Columns of a task: what fits the cache, but some tasks for each thread."""
    cdef Py_ssize_t most = min(max(WINDOW_BYTES // row_bytes, LEAST_COLUMNS), MOST_COLUMNS)
    cdef Py_ssize_t pieces = max(ceil_div(s, most), min(ceil_div(4 * nt, n), s // LEAST_COLUMNS))
    return ceil_div(ceil_div(s, pieces), 64) * 64


def response_norm(cnp.ndarray x, cnp.ndarray y, Py_ssize_t n, Py_ssize_t c, Py_ssize_t s, Py_ssize_t size,
                  double alpha, double beta, double k, double flops, double nbytes):
    """y (n, c, s)"""
    cdef const char *px = <const char *>cnp.PyArray_DATA(x)
    cdef char *py = <char *>cnp.PyArray_DATA(y)
    cdef Py_ssize_t es = cnp.PyArray_ITEMSIZE(x), at, first, task
    cdef fnn_response_norm p = parameters(c, s, size, alpha, beta, k, s * es >= LONG_ROW and past_caches(nbytes))
    cdef int nt = threads_for(flops, nbytes)
    cdef Py_ssize_t columns = columns_of(n, s, (p.before + p.after + 1) * es, nt), pieces = ceil_div(s, columns)
    f = table_of(x).response_norm.response_norm
    for task in prange(n * pieces, nogil=True, num_threads=nt, schedule="static"):
        first = task % pieces * columns
        at = (task // pieces * c * s + first) * es
        f(&p, min(columns, s - first), px + at, py + at)


def response_norm_backward(cnp.ndarray dy, cnp.ndarray x, cnp.ndarray dx, Py_ssize_t n, Py_ssize_t c, Py_ssize_t s,
                           Py_ssize_t size, double alpha, double beta, double k, double flops, double nbytes):
    """dx (n, c, s)"""
    cdef const char *pdy = <const char *>cnp.PyArray_DATA(dy)
    cdef const char *px = <const char *>cnp.PyArray_DATA(x)
    cdef char *pdx = <char *>cnp.PyArray_DATA(dx)
    cdef Py_ssize_t es = cnp.PyArray_ITEMSIZE(x), at, first, task
    cdef fnn_response_norm p = parameters(c, s, size, alpha, beta, k, s * es >= LONG_ROW and past_caches(nbytes))
    cdef int nt = threads_for(flops, nbytes)
    cdef Py_ssize_t terms = 2 * (p.before + p.after + 1) * es
    cdef Py_ssize_t columns = columns_of(n, s, terms, nt), pieces = ceil_div(s, columns)
    cdef Scratch memory = scratch(nt * terms * columns)
    cdef char *rings = memory.ptr
    f = table_of(x).response_norm.response_norm_backward
    for task in prange(n * pieces, nogil=True, num_threads=nt, schedule="static"):
        first = task % pieces * columns
        at = (task // pieces * c * s + first) * es
        f(&p, min(columns, s - first), pdy + at, px + at, pdx + at, rings + threadid() * terms * columns)
