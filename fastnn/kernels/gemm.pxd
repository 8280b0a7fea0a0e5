# Matrix products for every family. Pointers are to elements of uk's type; leading dimensions count elements.
# flags: FNN_ACCUMULATE (C += instead of C =), FNN_RELU (after the bias).
from fastnn.kernels.ukernels cimport fnn_feed, fnn_gemm_ukernels

# C[m][n] (+)= A[m][k] * B[n][k]^T (+ bias[n], ReLU): both operands contiguous along k, nothing is packed.
# The case of `linear`: y = x w^T + b.
cdef void gemm_nt(const fnn_gemm_ukernels *uk, Py_ssize_t m, Py_ssize_t n, Py_ssize_t k, const void *a,
                  Py_ssize_t lda, const void *b, Py_ssize_t ldb, void *c, Py_ssize_t ldc, const void *bias, int flags,
                  int threads) noexcept nogil

# C[m][n] (+)= A * B, A[i][p] at a[i*a_rs + p*a_cs] and B[p][j] at b[p*b_rs + j*b_cs]: either orientation, but one of
# B's two strides is 1; C row-major. scratch: gemm_nn_scratch(...) bytes.
cdef void gemm_nn(const fnn_gemm_ukernels *uk, Py_ssize_t m, Py_ssize_t n, Py_ssize_t k, const void *a,
                  Py_ssize_t a_rs, Py_ssize_t a_cs, const void *b, Py_ssize_t b_rs, Py_ssize_t b_cs, void *c,
                  Py_ssize_t ldc, int flags, int threads, char *scratch) noexcept nogil

cdef Py_ssize_t gemm_nn_scratch(const fnn_gemm_ukernels *uk, Py_ssize_t m, Py_ssize_t k, int threads) noexcept nogil

# ---- the pieces, for products whose operands are made on the fly (convolution) ----

# A is packed as register tiles of equal height: tile t has rows [tile_row(t), tile_row(t + 1)) of m.
cdef inline Py_ssize_t tile_count(const fnn_gemm_ukernels *uk, Py_ssize_t m) noexcept nogil:
    return (m + uk.mr - 1) // uk.mr

cdef inline Py_ssize_t tile_row(Py_ssize_t t, Py_ssize_t tiles, Py_ssize_t m) noexcept nogil:
    return t * m // tiles

# packed: rows [tile_row(t0), tile_row(t1)) as [tile][k][rows of the tile], from row tile_row(t0) at `a`
cdef void pack_tiles(const fnn_gemm_ukernels *uk, Py_ssize_t t0, Py_ssize_t t1, Py_ssize_t m, Py_ssize_t k,
                     const char *a, Py_ssize_t rs, const Py_ssize_t *off, char *packed) noexcept nogil

# C (+)= rows [tile_row(t0), tile_row(t1)) of the packed A times one panel of n <= nr columns of B.
# packed, c and bias point to the first row of the whole matrix. feed (may be NULL): B lies elsewhere yet, and what to
# fetch meanwhile; its first and last are not read.
cdef void multiply_panel(const fnn_gemm_ukernels *uk, Py_ssize_t t0, Py_ssize_t t1, Py_ssize_t m, Py_ssize_t k,
                         const char *packed, char *b, Py_ssize_t ldb, char *c, Py_ssize_t ldc, Py_ssize_t n,
                         const char *bias, int flags, const fnn_feed *feed) noexcept nogil
