"""Dropout: elements, or rows of them, that a counter-based generator draws."""

cimport numpy as cnp
from cython.parallel cimport prange
from libc.math cimport floor
from libc.stdint cimport int16_t, uint32_t, uint64_t

from fastnn.kernels.runtime cimport (
    FNN_DRAWS, ceil_div, data_or_null, fnn_bernoulli, fnn_dropout_ukernels, past_caches, table_of, threads_for,
)

cnp.import_array()

# Elements a task; a multiple of FNN_DRAWS.
cdef Py_ssize_t BLOCK = 16384
# An element's share of the time, in operations: the generator is most of it.
cdef double FLOPS = 10


cdef fnn_bernoulli trials(double p, uint64_t seed, uint64_t offset, double scale) noexcept:
    """Elements are dropped with probability 0 <= p < 1, or what of it is a multiple of 2^-48."""
    cdef double steps = p * 65536, whole = floor(steps)
    cdef fnn_bernoulli b
    b.seed, b.offset, b.scale = seed, offset, scale
    b.threshold = <int16_t>(whole - 32768)
    b.rest = <uint32_t>((steps - whole) * 4294967296.)
    b.kept = b.dropped = b.shifted = 0
    return b


def bits_of(Py_ssize_t n):
    """How many words of 32 bits hold those of n elements."""
    return ceil_div(n, FNN_DRAWS) * (FNN_DRAWS // 32)


def elements(cnp.ndarray x, cnp.ndarray y, double p, uint64_t seed, uint64_t offset, double scale, shifts,
             cnp.ndarray bits):
    """y = x * scale, or x * 0 where an element is dropped. shifts: what is added to these, a pair, or None. bits: which
    are kept, int32, or None."""
    cdef const fnn_dropout_ukernels *uk = table_of(x).dropout
    cdef fnn_bernoulli b = trials(p, seed, offset, scale)
    cdef const char *px = <const char *>cnp.PyArray_DATA(x)
    cdef char *py = <char *>cnp.PyArray_DATA(y)
    cdef uint32_t *keep = <uint32_t *>data_or_null(bits)
    cdef Py_ssize_t n = cnp.PyArray_SIZE(x), i
    cdef double nbytes = 2. * cnp.PyArray_NBYTES(x)
    cdef int past = px != py and past_caches(nbytes)
    if shifts is not None:
        b.kept, b.dropped = shifts
        b.shifted = 1
    for i in prange(ceil_div(n, BLOCK), nogil=True, num_threads=threads_for(FLOPS * n, nbytes), schedule="static"):
        uk.dropout(&b, i * BLOCK, min(BLOCK, n - i * BLOCK), px, py, keep, past)


def draw(cnp.ndarray x, cnp.ndarray bits, Py_ssize_t n, double p, uint64_t seed, uint64_t offset):
    """The bits alone, of n elements; of x only the dtype counts."""
    cdef const fnn_dropout_ukernels *uk = table_of(x).dropout
    cdef fnn_bernoulli b = trials(p, seed, offset, 0)
    cdef uint32_t *keep = <uint32_t *>cnp.PyArray_DATA(bits)
    cdef Py_ssize_t i
    for i in prange(ceil_div(n, BLOCK), nogil=True, num_threads=threads_for(FLOPS * n, 0), schedule="static"):
        uk.bits(&b, i * BLOCK, min(BLOCK, n - i * BLOCK), keep)


def masked(cnp.ndarray x, cnp.ndarray y, cnp.ndarray bits, double scale):
    """y = x * scale, or x * 0, by the elements' bits."""
    cdef const fnn_dropout_ukernels *uk = table_of(x).dropout
    cdef const char *px = <const char *>cnp.PyArray_DATA(x)
    cdef char *py = <char *>cnp.PyArray_DATA(y)
    cdef const uint32_t *keep = <const uint32_t *>cnp.PyArray_DATA(bits)
    cdef Py_ssize_t n = cnp.PyArray_SIZE(x), i
    cdef double nbytes = 2. * cnp.PyArray_NBYTES(x)
    cdef int past = px != py and past_caches(nbytes)
    for i in prange(ceil_div(n, BLOCK), nogil=True, num_threads=threads_for(2. * n, nbytes), schedule="static"):
        uk.masked(keep, i * BLOCK, min(BLOCK, n - i * BLOCK), scale, px, py, past)


def rows(cnp.ndarray x, cnp.ndarray y, Py_ssize_t count, cnp.ndarray bits, double scale):
    """The same of whole rows, of which x has `count`."""
    cdef const fnn_dropout_ukernels *uk = table_of(x).dropout
    cdef const char *px = <const char *>cnp.PyArray_DATA(x)
    cdef char *py = <char *>cnp.PyArray_DATA(y)
    cdef const uint32_t *keep = <const uint32_t *>cnp.PyArray_DATA(bits)
    cdef double nbytes = 2. * cnp.PyArray_NBYTES(x)
    cdef Py_ssize_t s = cnp.PyArray_SIZE(x) // max(count, 1), step = max(BLOCK // max(s, 1), 1), i
    cdef int nt = threads_for(cnp.PyArray_SIZE(x), nbytes), past = px != py and past_caches(nbytes)
    for i in prange(ceil_div(count, step), nogil=True, num_threads=nt, schedule="static"):
        uk.rows(keep, i * step, min(step, count - i * step), s, scale, px, py, past)
