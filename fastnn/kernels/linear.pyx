"""Fully connected layers and the plain matrix product."""

cimport numpy as cnp
from libc.string cimport memcpy

from fastnn.kernels.gemm cimport gemm_nn, gemm_nn_scratch, gemm_nt
from fastnn.kernels.runtime cimport Scratch, data_or_null, scratch, table_of, threads_for
from fastnn.kernels.ukernels cimport FNN_ACCUMULATE, FNN_RELU, fnn_gemm_ukernels

cnp.import_array()


cdef int product_threads(Py_ssize_t m, Py_ssize_t n, Py_ssize_t k, Py_ssize_t es) noexcept nogil:
    return threads_for(2. * m * n * k, <double>(m * k + k * n + m * n) * es)


cdef enum:
    DOT_ROWS = 40      # A B^T by dot products, without packing, for so few rows of A


cdef int product_nt(const fnn_gemm_ukernels *uk, Py_ssize_t m, Py_ssize_t n, Py_ssize_t k, const void *a,
                    Py_ssize_t lda, const void *b, Py_ssize_t ldb, void *c, const void *bias, int flags) except -1:
    """C[m][n] = (or +=) A[m][k] B[n][k]^T + bias[n]; rows of C follow each other."""
    cdef int nt = product_threads(m, n, k, uk.itemsize)
    cdef Py_ssize_t i
    cdef Scratch tmp
    if m <= DOT_ROWS:
        with nogil:
            gemm_nt(uk, m, n, k, a, lda, b, ldb, c, n, bias, flags, nt)
        return 0
    tmp = scratch(gemm_nn_scratch(uk, m, k, nt))
    with nogil:
        if bias != NULL:
            for i in range(m):
                memcpy(<char *>c + i * n * uk.itemsize, bias, n * uk.itemsize)
        gemm_nn(uk, m, n, k, a, lda, 1, b, 1, ldb, c, n, flags | (FNN_ACCUMULATE if bias != NULL else 0), nt, tmp.ptr)
    return 0


def linear_forward(cnp.ndarray x, cnp.ndarray w, b, cnp.ndarray y, bint relu=False):
    """y = x w^T + b, max(x w^T + b, 0) if relu; x (N, D), w (M, D), b (M,) or None, y (N, M)"""
    product_nt(table_of(x).gemm, y.shape[0], w.shape[0], w.shape[1], cnp.PyArray_DATA(x), w.shape[1],
               cnp.PyArray_DATA(w), w.shape[1], cnp.PyArray_DATA(y), data_or_null(b), FNN_RELU if relu else 0)


def matmul(cnp.ndarray a, cnp.ndarray b, cnp.ndarray c, bint accumulate):
    """c = a b, or c += a b; a (M, K) and b (K, N) may be transposed views and parts of wider arrays, but one of
    their axes is contiguous; c (M, N) is C-contiguous"""
    cdef const fnn_gemm_ukernels *uk = table_of(c).gemm
    cdef Py_ssize_t m = a.shape[0], k = a.shape[1], n = b.shape[1], es = uk.itemsize
    cdef Py_ssize_t a_rs = a.strides[0] // es, a_cs = a.strides[1] // es
    cdef Py_ssize_t b_rs = b.strides[0] // es, b_cs = b.strides[1] // es
    cdef int nt = product_threads(m, n, k, es), flags = FNN_ACCUMULATE if accumulate else 0
    cdef Scratch tmp
    if a_cs == 1 and b_cs != 1:
        product_nt(uk, m, n, k, cnp.PyArray_DATA(a), a_rs, cnp.PyArray_DATA(b), b_cs, cnp.PyArray_DATA(c),
                   NULL, flags)
        return
    tmp = scratch(gemm_nn_scratch(uk, m, k, nt))
    with nogil:
        gemm_nn(uk, m, n, k, cnp.PyArray_DATA(a), a_rs, a_cs, cnp.PyArray_DATA(b), b_rs, b_cs, cnp.PyArray_DATA(c), n,
                flags, nt, tmp.ptr)
