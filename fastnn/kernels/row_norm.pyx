"""Normalisation of rows by their own statistics. Threads share out blocks of rows; what these contribute to the
gradients of weight and bias is added up in a second step."""

cimport numpy as cnp
from cython.parallel cimport prange

from fastnn.kernels.runtime cimport (Scratch, ceil_div, data_or_null, fnn_row_norm, fnn_row_norm_backward,
                                     fnn_row_norm_ukernels, past_caches, scratch, table_of, threads_for)

cnp.import_array()

# Bytes of x a task works on, at least a row.
cdef Py_ssize_t TASK_BYTES = 1 << 15
# Results of shorter runs go through the caches, unless they are whole lines: lines at their ends are shared.
cdef Py_ssize_t LONG_RUN = 2048
# Rows whose contributions to the gradients of weight and bias are added up at once. More cost less memory for the sums,
# fewer can be shared out: a sixteenth of the rows, within these bounds.
cdef Py_ssize_t LEAST_ROWS = 8, MOST_ROWS = 64
# Columns a task of the second step adds up.
cdef Py_ssize_t COLUMNS = 1024


cdef inline bint goes_past(Py_ssize_t run, double nbytes) noexcept nogil:
    """Do results, in runs of so many bytes, go past the caches?"""
    return (run >= LONG_RUN or run % 64 == 0) and past_caches(nbytes)


def row_norm(cnp.ndarray x, cnp.ndarray weight, cnp.ndarray bias, cnp.ndarray y, cnp.ndarray mean, cnp.ndarray var,
             cnp.ndarray invstd, Py_ssize_t rows, Py_ssize_t groups, Py_ssize_t channels, Py_ssize_t inner, double eps,
             bint centred, double flops, double nbytes):
    """y (rows, channels, inner); mean, var and invstd (rows,) are float64 or None."""
    cdef const fnn_row_norm_ukernels *uk = table_of(x).row_norm
    cdef fnn_row_norm p
    cdef Py_ssize_t es = cnp.PyArray_ITEMSIZE(x), n = channels * inner, block = max(1, TASK_BYTES // (n * es)), task
    cdef int nt = threads_for(flops, nbytes)
    p.groups, p.channels, p.inner = groups, channels, inner
    p.x, p.weight, p.bias, p.y = data_or_null(x), data_or_null(weight), data_or_null(bias), data_or_null(y)
    p.mean, p.var, p.invstd = <double *>data_or_null(mean), <double *>data_or_null(var), <double *>data_or_null(invstd)
    p.eps, p.centred = eps, centred
    p.past = goes_past(n * es if inner == 1 or p.weight == NULL and p.bias == NULL else inner * es, nbytes)
    if nt == 1:
        with nogil:
            uk.row_norm(&p, 0, rows)
        return
    for task in prange(ceil_div(rows, block), nogil=True, num_threads=nt, schedule="static"):
        uk.row_norm(&p, task * block, min(block, rows - task * block))


def row_norm_backward(cnp.ndarray dy, cnp.ndarray x, cnp.ndarray weight, cnp.ndarray mean, cnp.ndarray invstd,
                      cnp.ndarray dx, cnp.ndarray dweight, cnp.ndarray dbias, Py_ssize_t rows, Py_ssize_t groups,
                      Py_ssize_t channels, Py_ssize_t inner, bint centred, double flops, double nbytes):
    """dx, dweight and dbias where they are not None."""
    cdef const fnn_row_norm_ukernels *uk = table_of(x).row_norm
    cdef fnn_row_norm_backward p
    cdef Py_ssize_t es = cnp.PyArray_ITEMSIZE(x), n = channels * inner, block = max(1, TASK_BYTES // (n * es)), task
    cdef Py_ssize_t width = groups * channels, parts = 0, part_step = 0
    cdef int nt = threads_for(flops, nbytes)
    cdef bint sums = dweight is not None or dbias is not None
    cdef char *pw = NULL
    cdef char *pb = NULL
    cdef char *sw = data_or_null(dweight)
    cdef char *sb = data_or_null(dbias)
    cdef Scratch memory
    p.groups, p.channels, p.inner = groups, channels, inner
    p.dy, p.x, p.weight, p.dx = data_or_null(dy), data_or_null(x), data_or_null(weight), data_or_null(dx)
    p.mean, p.invstd = <const double *>data_or_null(mean), <const double *>data_or_null(invstd)
    p.centred = centred
    p.past = dx is not None and goes_past(n * es if inner == 1 or p.weight == NULL and not sums else inner * es, nbytes)
    if sums:
        if inner == 1:
            block = min(max(rows // 16, LEAST_ROWS), MOST_ROWS)
            parts, part_step = ceil_div(rows, block), width * es
        else:
            parts, part_step = rows // groups, block * channels * es
        memory = scratch(2 * parts * width * es)
        pw, pb = memory.ptr, memory.ptr + parts * width * es
    for task in prange(ceil_div(rows, block), nogil=True, num_threads=nt, schedule="static"):
        uk.row_norm_backward(&p, task * block, min(block, rows - task * block),
                             pw + task * part_step if sums else NULL, pb + task * part_step if sums else NULL)
    if not sums:
        return
    nt = threads_for(parts * width, 2 * parts * width * es)
    for task in prange(ceil_div(width, COLUMNS), nogil=True, num_threads=nt, schedule="static"):
        if sw != NULL:
            uk.sum_parts(parts, width, min(COLUMNS, width - task * COLUMNS), pw + task * COLUMNS * es,
                         sw + task * COLUMNS * es)
        if sb != NULL:
            uk.sum_parts(parts, width, min(COLUMNS, width - task * COLUMNS), pb + task * COLUMNS * es,
                         sb + task * COLUMNS * es)
