"""Products of weights and values, which both kinds of attention read them by."""

from fastnn.kernels.runtime cimport fnn_gemm_ukernels
from fastnn.kernels.ukernels cimport FNN_ATTENTION_KEYS

cdef enum:
    KEYS = FNN_ATTENTION_KEYS  # in a block

cdef void multiply_rows(const fnn_gemm_ukernels *uk, Py_ssize_t rows, Py_ssize_t n, Py_ssize_t k, const char *tile,
                        char *b, Py_ssize_t ldb, char *c, int flags) noexcept nogil
cdef Py_ssize_t row_length(const fnn_gemm_ukernels *uk, Py_ssize_t n) noexcept nogil
cdef char *whole_rows(const fnn_gemm_ukernels *uk, const char *x, Py_ssize_t rows, Py_ssize_t n,
                      char *copy) noexcept nogil
cdef void read_values(const fnn_gemm_ukernels *uk, Py_ssize_t rows, Py_ssize_t keys, Py_ssize_t n, const char *weights,
                      Py_ssize_t ldw, const char *v, const Py_ssize_t *along, char *y, char *tmp) noexcept nogil
cdef Py_ssize_t read_bytes(const fnn_gemm_ukernels *uk, Py_ssize_t n) noexcept nogil
