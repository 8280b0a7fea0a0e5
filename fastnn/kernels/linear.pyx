"""Fully connected layers and the plain matrix product."""

cimport numpy as cnp

from fastnn.kernels.gemm cimport gemm_nn, gemm_nn_scratch, gemm_nt
from fastnn.kernels.runtime cimport Scratch, scratch, table_of, threads_for
from fastnn.kernels.ukernels cimport FNN_RELU, fnn_gemm_ukernels

cnp.import_array()


cdef int product_threads(Py_ssize_t m, Py_ssize_t n, Py_ssize_t k, Py_ssize_t es) noexcept nogil:
    return threads_for(2. * m * n * k, <double>(m * k + k * n + m * n) * es)


def linear_forward(cnp.ndarray x, cnp.ndarray w, b, cnp.ndarray y, bint relu):
    """y = x w^T + b; x (N, D), w (M, D), b (M,) or None, y (N, M)"""
    cdef const fnn_gemm_ukernels *uk = table_of(x).gemm
    cdef Py_ssize_t n = y.shape[0], m = w.shape[0], d = w.shape[1]
    cdef const void *bias = NULL if b is None else cnp.PyArray_DATA(<cnp.ndarray>b)
    cdef int nt = product_threads(n, m, d, uk.itemsize), flags = FNN_RELU if relu else 0
    with nogil:
        gemm_nt(uk, n, m, d, cnp.PyArray_DATA(x), d, cnp.PyArray_DATA(w), d, cnp.PyArray_DATA(y), m, bias, flags, nt)


def matmul(cnp.ndarray a, cnp.ndarray b, cnp.ndarray c):
    """c = a b; a (M, K) and b (K, N) C-contiguous or transposed views of C-contiguous arrays, c (M, N)"""
    cdef const fnn_gemm_ukernels *uk = table_of(c).gemm
    cdef Py_ssize_t m = a.shape[0], k = a.shape[1], n = b.shape[1], es = uk.itemsize
    cdef Py_ssize_t rs = cnp.PyArray_STRIDE(a, 0) // es, cs = cnp.PyArray_STRIDE(a, 1) // es
    cdef int nt = product_threads(m, n, k, es)
    cdef Scratch tmp
    if not cnp.PyArray_IS_C_CONTIGUOUS(b) and cnp.PyArray_IS_C_CONTIGUOUS(a):
        with nogil:
            gemm_nt(uk, m, n, k, cnp.PyArray_DATA(a), k, cnp.PyArray_DATA(b), k, cnp.PyArray_DATA(c), n, NULL, 0, nt)
        return
    tmp = scratch(gemm_nn_scratch(uk, m, k, nt))
    with nogil:
        gemm_nn(uk, m, n, k, cnp.PyArray_DATA(a), rs, cs, cnp.PyArray_DATA(b), n, cnp.PyArray_DATA(c), n, 0, nt,
                tmp.ptr)
