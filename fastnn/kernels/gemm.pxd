# Matrix products for every family. Pointers are to elements of uk's type; leading dimensions count elements.
from fastnn.kernels.ukernels cimport fnn_gemm_ukernels

# C[m][n] (+)= A[m][k] * B[n][k]^T (+ bias[n], ReLU): both operands contiguous along k, nothing is packed.
# The case of `linear`: y = x w^T + b. flags: FNN_ACCUMULATE, FNN_RELU.
cdef void gemm_nt(const fnn_gemm_ukernels *uk, Py_ssize_t m, Py_ssize_t n, Py_ssize_t k, const void *a,
                  Py_ssize_t lda, const void *b, Py_ssize_t ldb, void *c, Py_ssize_t ldc, const void *bias, int flags,
                  int threads) noexcept nogil

# C[m][n] (+)= A * B[k][n] (+ bias[m], ReLU), A[i][p] at a[i*rs + p*cs]: A of either orientation, B and C row-major.
# scratch: gemm_nn_scratch(...) bytes.
cdef void gemm_nn(const fnn_gemm_ukernels *uk, Py_ssize_t m, Py_ssize_t n, Py_ssize_t k, const void *a,
                  Py_ssize_t rs, Py_ssize_t cs, const void *b, Py_ssize_t ldb, void *c, Py_ssize_t ldc,
                  const void *bias, int flags, int threads, char *scratch) noexcept nogil

cdef Py_ssize_t gemm_nn_scratch(const fnn_gemm_ukernels *uk, Py_ssize_t m, Py_ssize_t k, int threads) noexcept nogil
