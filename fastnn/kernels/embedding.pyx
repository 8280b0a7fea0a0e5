"""Embedding: rows of a table, looked up forward and summed backward."""

cimport numpy as cnp
from cython.parallel cimport prange
from libc.stdint cimport int64_t
from libc.string cimport memset

from fastnn.kernels.runtime cimport (
    Scratch, ceil_div, fnn_embedding_ukernels, fnn_scatter, past_caches, scratch, table_of, threads_for,
)

cnp.import_array()

# Bytes of results a task.
cdef Py_ssize_t TASK_BYTES = 1 << 16
# Columns of a task of sums, so that a row that most of the batch looked up is shared out, too.
cdef Py_ssize_t COLUMNS = 512


def gather(cnp.ndarray index, cnp.ndarray weight, cnp.ndarray y):
    """y (…, d) = the rows `index` (int64, in range) of weight (rows, d)."""
    cdef const fnn_embedding_ukernels *uk = table_of(weight).embedding
    cdef const int64_t *pi = <const int64_t *>cnp.PyArray_DATA(index)
    cdef const char *pw = <const char *>cnp.PyArray_DATA(weight)
    cdef char *py = <char *>cnp.PyArray_DATA(y)
    cdef Py_ssize_t n = cnp.PyArray_SIZE(index), d = cnp.PyArray_DIM(weight, 1), es = cnp.PyArray_ITEMSIZE(y), i
    cdef Py_ssize_t step = max(TASK_BYTES // max(d * es, 1), 1)
    cdef double nbytes = 2. * n * d * es
    cdef int past = past_caches(nbytes)
    for i in prange(ceil_div(n, step), nogil=True, num_threads=threads_for(0, nbytes), schedule="static"):
        uk.gather(min(step, n - i * step), d, pi + i * step, pw, py + i * step * d * es, past)


cdef void sort(const int64_t *index, Py_ssize_t n, Py_ssize_t rows, int64_t padding, int64_t *start,
               int64_t *order) noexcept nogil:
    """Where the index is r, in ascending order: order[start[r]], …, order[start[r + 1] - 1]; nowhere for padding."""
    cdef Py_ssize_t i
    memset(start, 0, (rows + 2) * sizeof(int64_t))
    for i in range(n):
        start[index[i] + 2] += index[i] != padding
    for i in range(2, rows + 2):
        start[i] += start[i - 1]
    for i in range(n):                       # start[r + 1] moves from where row r begins to where it ends
        if index[i] != padding:
            order[start[index[i] + 1]] = i
            start[index[i] + 1] += 1


cdef Py_ssize_t boundary(const int64_t *start, Py_ssize_t rows, double work) noexcept nogil:
    """The first row before which there is so much work: one for a row, one for each of its terms."""
    cdef Py_ssize_t low = 0, high = rows, middle
    while low < high:
        middle = (low + high) // 2
        if middle + start[middle] < work:
            low = middle + 1
        else:
            high = middle
    return low


def sums(cnp.ndarray index, cnp.ndarray dy, int64_t padding, int by_frequency, cnp.ndarray dweight):
    """Row r of dweight = the sum of dy where the index is r, in that order, divided by their number if by_frequency;
    0 for the row `padding`, -1: none. A row is written once; which task does it changes nothing."""
    cdef const fnn_embedding_ukernels *uk = table_of(dweight).embedding
    cdef const int64_t *pi = <const int64_t *>cnp.PyArray_DATA(index)
    cdef char *pw = <char *>cnp.PyArray_DATA(dweight)
    cdef Py_ssize_t n = cnp.PyArray_SIZE(index), d = cnp.PyArray_DIM(dweight, 1), es = cnp.PyArray_ITEMSIZE(dy)
    cdef Py_ssize_t rows = cnp.PyArray_DIM(dweight, 0), i, first, last, column
    cdef Py_ssize_t slabs = ceil_div(d, COLUMNS), parts = max(ceil_div((n + rows) * d * es, TASK_BYTES * slabs), 1)
    cdef Scratch room = scratch((rows + 2 + n) * sizeof(int64_t))
    cdef int64_t *start = <int64_t *>room.ptr
    cdef int64_t *order = start + rows + 2
    cdef fnn_scatter s = fnn_scatter(d, start, order, cnp.PyArray_DATA(dy), by_frequency)
    cdef double nbytes = <double>(n + rows) * d * es, share = <double>(n + rows) / parts
    cdef int nt = threads_for(0, nbytes), past = past_caches(nbytes)
    with nogil:
        sort(pi, n, rows, padding, start, order)
    for i in prange(parts * slabs, nogil=True, num_threads=nt, schedule="dynamic"):
        column = i % slabs * COLUMNS
        first = boundary(start, rows, i // slabs * share)
        last = rows if i // slabs == parts - 1 else boundary(start, rows, (i // slabs + 1) * share)
        uk.sums(&s, first, last - first, column, min(column + COLUMNS, d), pw, past)


def renorm(cnp.ndarray index, cnp.ndarray weight, double max_norm, double norm_type):
    """Scale the rows `index` (int64, distinct) of weight down to max_norm in place."""
    cdef const fnn_embedding_ukernels *uk = table_of(weight).embedding
    cdef const int64_t *pi = <const int64_t *>cnp.PyArray_DATA(index)
    cdef char *pw = <char *>cnp.PyArray_DATA(weight)
    cdef Py_ssize_t d = cnp.PyArray_DIM(weight, 1), es = cnp.PyArray_ITEMSIZE(weight), n = cnp.PyArray_SIZE(index), i
    for i in prange(n, nogil=True, num_threads=threads_for(4. * n * d, 2. * n * d * es), schedule="static"):
        uk.renorm(d, max_norm, norm_type, pw + pi[i] * d * es)
