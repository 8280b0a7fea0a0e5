"""Losses: one value a problem, and their sum in double precision over blocks of fixed size."""

cimport numpy as cnp
from cython.parallel cimport prange
from libc.stdint cimport int64_t

from fastnn.kernels.runtime cimport FNN_COLUMNS, Scratch, data_or_null, fnn_loss_ukernels, scratch, table_of, threads_of

cnp.import_array()

# Elements summed as one; part of the result, because it fixes the order of additions.
cdef Py_ssize_t BLOCK = 16384
# As in softmax.pyx: an element's share of the time, in operations.
cdef double CROSS_ENTROPY_FLOPS = 20


def count_targets(cnp.ndarray target, int64_t ignore_index):
    """How many targets (int64) are not ignore_index."""
    cdef const int64_t *p = <const int64_t *>cnp.PyArray_DATA(target)
    cdef Py_ssize_t n = cnp.PyArray_SIZE(target), i, count = 0
    with nogil:
        for i in range(n):
            count += p[i] != ignore_index
    return count


def cross_entropy(cnp.ndarray x, cnp.ndarray target, Py_ssize_t outer, Py_ssize_t n, Py_ssize_t inner,
                  int64_t ignore_index, double label_smoothing, cnp.ndarray loss, cnp.ndarray max, cnp.ndarray sum):
    """x (outer, n, inner), the others (outer, inner); max and sum are for the backward, or None."""
    cdef const fnn_loss_ukernels *uk = table_of(x).loss
    cdef const char *px = <const char *>cnp.PyArray_DATA(x)
    cdef const int64_t *pt = <const int64_t *>cnp.PyArray_DATA(target)
    cdef char *ploss = <char *>cnp.PyArray_DATA(loss)
    cdef char *pmax = <char *>data_or_null(max)
    cdef char *psum = <char *>data_or_null(sum)
    cdef Py_ssize_t es = cnp.PyArray_ITEMSIZE(x), i, j, k
    cdef Py_ssize_t blocks = (inner + FNN_COLUMNS - 1) // FNN_COLUMNS, tasks = outer * blocks
    cdef int nt = <int>min(threads_of(x, CROSS_ENTROPY_FLOPS, 1), tasks)
    for i in prange(tasks, nogil=True, num_threads=nt, schedule="static"):
        j = i % blocks * FNN_COLUMNS
        k = i // blocks * inner + j  # the problem
        uk.cross_entropy(n, inner, min(inner - j, <Py_ssize_t>FNN_COLUMNS), px + (i // blocks * n * inner + j) * es,
                         pt + k, ignore_index, label_smoothing, ploss + k * es,
                         NULL if pmax == NULL else pmax + k * es, NULL if psum == NULL else psum + k * es)


def cross_entropy_backward(cnp.ndarray x, cnp.ndarray target, Py_ssize_t outer, Py_ssize_t n, Py_ssize_t inner,
                           int64_t ignore_index, double label_smoothing, cnp.ndarray max, cnp.ndarray sum,
                           cnp.ndarray dy, double scale, cnp.ndarray dx):
    """The gradient at a problem's loss is scale * dy, dy (outer, inner) or 0-d."""
    cdef const fnn_loss_ukernels *uk = table_of(x).loss
    cdef const char *px = <const char *>cnp.PyArray_DATA(x)
    cdef const int64_t *pt = <const int64_t *>cnp.PyArray_DATA(target)
    cdef const char *pmax = <const char *>cnp.PyArray_DATA(max)
    cdef const char *psum = <const char *>cnp.PyArray_DATA(sum)
    cdef const char *pdy = <const char *>cnp.PyArray_DATA(dy)
    cdef char *pdx = <char *>cnp.PyArray_DATA(dx)
    cdef Py_ssize_t es = cnp.PyArray_ITEMSIZE(x), i, j, k, at
    cdef Py_ssize_t blocks = (inner + FNN_COLUMNS - 1) // FNN_COLUMNS, tasks = outer * blocks
    cdef Py_ssize_t dy_step = cnp.PyArray_NDIM(dy) > 0
    cdef int nt = <int>min(threads_of(x, CROSS_ENTROPY_FLOPS, 2), tasks)
    for i in prange(tasks, nogil=True, num_threads=nt, schedule="static"):
        j = i % blocks * FNN_COLUMNS
        k = i // blocks * inner + j  # the problem
        at = (i // blocks * n * inner + j) * es
        uk.cross_entropy_backward(n, inner, min(inner - j, <Py_ssize_t>FNN_COLUMNS), px + at, pt + k, ignore_index,
                                  label_smoothing, pmax + k * es, psum + k * es, pdy + dy_step * k * es, dy_step,
                                  scale, pdx + at)


cdef void store_quotient(double total, double divisor, cnp.ndarray y) noexcept:
    """y = total / divisor, y 0-d: NaN for 0 / 0, and no warning on overflow."""
    if cnp.PyArray_TYPE(y) == cnp.NPY_DOUBLE:
        (<double *>cnp.PyArray_DATA(y))[0] = total / divisor
    else:
        (<float *>cnp.PyArray_DATA(y))[0] = <float>(total / divisor)


def reduce(cnp.ndarray loss, double divisor, cnp.ndarray y):
    """y = Σ loss / divisor, y 0-d."""
    cdef const fnn_loss_ukernels *uk = table_of(loss).loss
    cdef const char *p = <const char *>cnp.PyArray_DATA(loss)
    cdef Py_ssize_t n = cnp.PyArray_SIZE(loss), es = cnp.PyArray_ITEMSIZE(loss), i
    cdef double total = 0
    with nogil:
        for i in range((n + BLOCK - 1) // BLOCK):
            total += uk.sum(min(BLOCK, n - i * BLOCK), p + i * BLOCK * es)
    store_quotient(total, divisor, y)


def squared_error_reduce(cnp.ndarray x, cnp.ndarray target, double divisor, cnp.ndarray y):
    """y = Σ (x - target)^2 / divisor, y 0-d."""
    cdef const fnn_loss_ukernels *uk = table_of(x).loss
    cdef const char *px = <const char *>cnp.PyArray_DATA(x)
    cdef const char *pt = <const char *>cnp.PyArray_DATA(target)
    cdef Py_ssize_t n = cnp.PyArray_SIZE(x), es = cnp.PyArray_ITEMSIZE(x), i
    cdef Py_ssize_t tasks = (n + BLOCK - 1) // BLOCK
    cdef Scratch room = scratch(tasks * sizeof(double))
    cdef double *partial = <double *>room.ptr
    cdef double total = 0
    for i in prange(tasks, nogil=True, num_threads=threads_of(x, 4, 2), schedule="static"):
        partial[i] = uk.squared_error_sum(min(BLOCK, n - i * BLOCK), px + i * BLOCK * es, pt + i * BLOCK * es)
    for i in range(tasks):
        total += partial[i]
    store_quotient(total, divisor, y)


def squared_error_backward(cnp.ndarray x, cnp.ndarray target, cnp.ndarray dy, double scale, cnp.ndarray dx,
                           cnp.ndarray dtarget):
    """dx = 2 scale dy (x - target) and dtarget = -dx; dy is 0-d or of x's shape, dx or dtarget may be None."""
    cdef const fnn_loss_ukernels *uk = table_of(x).loss
    cdef const char *px = <const char *>cnp.PyArray_DATA(x)
    cdef const char *pt = <const char *>cnp.PyArray_DATA(target)
    cdef const char *pdy = <const char *>cnp.PyArray_DATA(dy)
    cdef char *pdx = <char *>data_or_null(dx)
    cdef char *pdt = <char *>data_or_null(dtarget)
    cdef Py_ssize_t n = cnp.PyArray_SIZE(x), es = cnp.PyArray_ITEMSIZE(x), i, at
    cdef Py_ssize_t tasks = (n + BLOCK - 1) // BLOCK, dy_step = cnp.PyArray_NDIM(dy) > 0
    for i in prange(tasks, nogil=True, num_threads=threads_of(x, 4, 4), schedule="static"):
        at = i * BLOCK * es
        uk.squared_error_backward(min(BLOCK, n - i * BLOCK), px + at, pt + at, pdy + dy_step * at, dy_step, scale,
                                  NULL if pdx == NULL else pdx + at, NULL if pdt == NULL else pdt + at)
