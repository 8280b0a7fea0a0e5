/* Register tiles of the matrix product, and the packing that feeds them.
 *
 * tile:  C[m x NR] = A * B with A packed [k][m] and rows of NR in B: per step one broadcast a row, two vectors of B.
 * dot:   C[m x n] = A * B^T with both operands row-major along the summed index: no packing at all.
 *
 * Every element of C is one chain of fused multiply-adds in the order of k, whatever m, n and the position in the
 * tile (dot: VL chains and a fixed tree), so results do not depend on how the work was cut.
 */

FNN_INLINE vec FN(epilogue)(vec v, const real *bias, int flags)
{
    if (bias)
        v += vset1(*bias);
    if (flags & FNN_RELU)
        v = vrelu(v);
    return v;
}

FNN_INLINE void FN(gemm_tile_m)(const int m, ptrdiff_t k, const real *a, const real *b, ptrdiff_t ldb, real *c,
                                ptrdiff_t ldc, ptrdiff_t n, const real *bias, int flags)
{
    vec acc[FNN_MR][2];
#pragma GCC unroll 16
    for (int i = 0; i < m; i++)
        acc[i][0] = acc[i][1] = (vec){0};
    for (int i = 0; i < m; i++) { /* C is touched k steps from now, in lines that often share one cache set */
        __builtin_prefetch(c + i * ldc, 1);
        __builtin_prefetch(c + i * ldc + VL, 1);
    }
    for (ptrdiff_t p = 0; p < k; p++, a += m, b += ldb) {
        const vec b0 = vload(b), b1 = vload(b + VL);
#pragma GCC unroll 16
        for (int i = 0; i < m; i++) {
            const vec ai = vset1(a[i]);
            acc[i][0] += ai * b0;
            acc[i][1] += ai * b1;
        }
    }
    const ptrdiff_t n0 = n < VL ? n : VL, n1 = n - n0;
#pragma GCC unroll 16
    for (int i = 0; i < m; i++, c += ldc) {
        const real *bi = bias ? bias + i : 0;
        if (n1 == VL) {
            if (flags & FNN_ACCUMULATE)
                acc[i][0] += vload(c), acc[i][1] += vload(c + VL);
            vstore(c, FN(epilogue)(acc[i][0], bi, flags));
            vstore(c + VL, FN(epilogue)(acc[i][1], bi, flags));
            continue;
        }
        if (flags & FNN_ACCUMULATE)
            acc[i][0] += vload_upto(c, n0);
        acc[i][0] = FN(epilogue)(acc[i][0], bi, flags);
        if (n0 < VL) {
            vstore_n(c, acc[i][0], n0);
            continue;
        }
        vstore(c, acc[i][0]);
        if (n1) {
            if (flags & FNN_ACCUMULATE)
                acc[i][1] += vload_n(c + VL, n1);
            vstore_n(c + VL, FN(epilogue)(acc[i][1], bi, flags), n1);
        }
    }
}

/* One function a height, each with the register file to itself. */
#define FNN_TILE(M) \
    static __attribute__((noinline)) void FN(gemm_tile_##M)(ptrdiff_t k, const void *a, const void *b, ptrdiff_t ldb, \
                                                            void *c, ptrdiff_t ldc, ptrdiff_t n, const void *bias, \
                                                            int flags) \
    { \
        FN(gemm_tile_m)(M, k, a, b, ldb, c, ldc, n, bias, flags); \
    }
FNN_TILE(1) FNN_TILE(2) FNN_TILE(3) FNN_TILE(4) FNN_TILE(5) FNN_TILE(6)
#if FNN_MR > 6
FNN_TILE(7) FNN_TILE(8) FNN_TILE(9) FNN_TILE(10) FNN_TILE(11) FNN_TILE(12)
FNN_TILE(13) FNN_TILE(14)
#endif
#undef FNN_TILE

/* dst[q*m + i] = a[i*rs + q] for i, q < 4 */
FNN_INLINE void FN(transpose4)(const real *a, ptrdiff_t rs, real *dst, ptrdiff_t m)
{
    typedef real quad __attribute__((vector_size(4 * sizeof(real)), aligned(sizeof(real)), may_alias));
    const quad r0 = *(const quad *)a, r1 = *(const quad *)(a + rs);
    const quad r2 = *(const quad *)(a + 2 * rs), r3 = *(const quad *)(a + 3 * rs);
    const quad t0 = __builtin_shufflevector(r0, r1, 0, 4, 1, 5), t1 = __builtin_shufflevector(r0, r1, 2, 6, 3, 7);
    const quad t2 = __builtin_shufflevector(r2, r3, 0, 4, 1, 5), t3 = __builtin_shufflevector(r2, r3, 2, 6, 3, 7);
    *(quad *)dst = __builtin_shufflevector(t0, t2, 0, 1, 4, 5);
    *(quad *)(dst + m) = __builtin_shufflevector(t0, t2, 2, 3, 6, 7);
    *(quad *)(dst + 2 * m) = __builtin_shufflevector(t1, t3, 0, 1, 4, 5);
    *(quad *)(dst + 3 * m) = __builtin_shufflevector(t1, t3, 2, 3, 6, 7);
}

/* dst[p][i] = a[i*rs + off[p]]; vectors where a is contiguous along i or p */
static void FN(pack_a)(ptrdiff_t m, ptrdiff_t k, const void *a_, ptrdiff_t rs, const ptrdiff_t *off, void *dst_)
{
    const real *a = a_;
    real *dst = dst_;
    ptrdiff_t p = 0;
    while (p < k) {
        const real *ap = a + off[p];
        ptrdiff_t i = 0;
        if (rs == 1) {
            for (; i < m; i += VL)
                vstore_upto(dst + i, vload_upto(ap + i, m - i), m - i);
        } else if (p + 4 <= k && off[p + 1] - off[p] == 1 && off[p + 2] - off[p] == 2 && off[p + 3] - off[p] == 3) {
            for (; i + 4 <= m; i += 4)
                FN(transpose4)(ap + i * rs, rs, dst + i, m);
            for (; i < m; i++)
                for (ptrdiff_t q = 0; q < 4; q++)
                    dst[q * m + i] = ap[i * rs + q];
            p += 4, dst += 4 * m;
            continue;
        } else {
            for (; i < m; i++)
                dst[i] = ap[i * rs];
        }
        p++, dst += m;
    }
}

/* Whole vectors are written: what a run writes too much the next one overwrites, and dst has room behind its end. */
FNN_INLINE void FN(pack_runs)(ptrdiff_t k, const real *src, const ptrdiff_t *off, ptrdiff_t nruns, const fnn_run *runs,
                              real *dst, ptrdiff_t width, const int slack)
{
    ptrdiff_t total = 0;
    for (ptrdiff_t r = 0; r < nruns; r++)
        total += runs[r].length;
    for (ptrdiff_t p = 0; p < k; p++, dst += width) {
        real *d = dst;
        for (ptrdiff_t r = 0; r < nruns; r++) {
            const real *s = src + off[p] + runs[r].start;
            const ptrdiff_t n = runs[r].length;
            ptrdiff_t i = 0;
            for (; slack ? i < n : i + VL <= n; i += VL)
                vstore(d + i, vload(s + i));
            if (!slack && i < n)
                vstore(d + i, vload_n(s + i, n - i));
            d += n;
        }
        for (ptrdiff_t i = total; i < width; i += VL)
            vstore(dst + i, (vec){0});
    }
}

static void FN(pack_b)(ptrdiff_t k, const void *src_, const ptrdiff_t *off, ptrdiff_t nruns, const fnn_run *runs,
                       void *dst_, ptrdiff_t width, int slack)
{
    const real *src = src_;
    real *dst = dst_;
    if (nruns == 1 && runs[0].length == 2 * VL && width == 2 * VL) {
        src += runs[0].start;
        for (ptrdiff_t p = 0; p < k; p++, dst += 2 * VL) {
            vstore(dst, vload(src + off[p]));
            vstore(dst + VL, vload(src + off[p] + VL));
        }
    } else if (slack)
        FN(pack_runs)(k, src, off, nruns, runs, dst, width, 1);
    else
        FN(pack_runs)(k, src, off, nruns, runs, dst, width, 0);
}

/* sums[i][j] = A[i] . B[j] */
FNN_INLINE void FN(dot_mn)(const int m, const int n, ptrdiff_t k, const real *a, ptrdiff_t lda, const real *b,
                           ptrdiff_t ldb, real *sums)
{
    vec acc[FNN_DM][8], av[FNN_DM];
#pragma GCC unroll 8
    for (int i = 0; i < m; i++)
#pragma GCC unroll 8
        for (int j = 0; j < n; j++)
            acc[i][j] = (vec){0};
    const real *end = a + (k - k % VL);
    for (; a < end; a += VL, b += VL) {
#pragma GCC unroll 8
        for (int i = 0; i < m; i++)
            av[i] = vload(a + i * lda);
#pragma GCC unroll 8
        for (int j = 0; j < n; j++) {
            const vec bv = vload(b + j * ldb);
#pragma GCC unroll 8
            for (int i = 0; i < m; i++)
                acc[i][j] += av[i] * bv;
        }
    }
    if (k % VL) {
#pragma GCC unroll 8
        for (int i = 0; i < m; i++)
            av[i] = vload_n(a + i * lda, k % VL);
#pragma GCC unroll 8
        for (int j = 0; j < n; j++) {
            const vec bv = vload_n(b + j * ldb, k % VL);
#pragma GCC unroll 8
            for (int i = 0; i < m; i++)
                acc[i][j] += av[i] * bv;
        }
    }
    if (n == 1) {
#pragma GCC unroll 8
        for (int i = 0; i < m; i++)
            sums[i] = vsum(acc[i][0]);
        return;
    }
#pragma GCC unroll 8
    for (int i = 0; i < m; i++)
#pragma GCC unroll 8
        for (int j = 0; j < n; j += 4)
            vsum4(acc[i][j], acc[i][j + 1], acc[i][j + 2], acc[i][j + 3], sums + i * n + j);
}

/* One function a shape, each with the register file to itself: m x 4 and m x 1, and 1 x 8 for matrix times vector. */
typedef void FN(dot_tile)(ptrdiff_t k, const real *a, ptrdiff_t lda, const real *b, ptrdiff_t ldb, real *sums);
#define FNN_DOT(M, N) \
    static __attribute__((noinline)) void FN(dot_##M##_##N)(ptrdiff_t k, const real *a, ptrdiff_t lda, const real *b, \
                                                            ptrdiff_t ldb, real *sums) \
    { \
        FN(dot_mn)(M, N, k, a, lda, b, ldb, sums); \
    }
FNN_DOT(1, 8)
FNN_DOT(1, 1) FNN_DOT(2, 1) FNN_DOT(3, 1)
FNN_DOT(1, 4) FNN_DOT(2, 4) FNN_DOT(3, 4)
#if FNN_DM > 3
FNN_DOT(4, 1) FNN_DOT(5, 1) FNN_DOT(6, 1)
FNN_DOT(4, 4) FNN_DOT(5, 4) FNN_DOT(6, 4)
#endif
#undef FNN_DOT

#if defined(FNN_BUILD_AVX512)
/* Matrix times vector is bound by loading B, whose loads all cross cache lines unless B is aligned to one. If all rows
 * lie equally, `skew` elements behind a line, loads from whole lines of B see the elements in other lanes, and each
 * lane's sum is rotated back in the end: the same additions in the same order. */
static __attribute__((noinline)) void FN(dot_1_8_skewed)(ptrdiff_t k, const real *a, const real *b, ptrdiff_t ldb,
                                                         ptrdiff_t skew, real *sums)
{
    vec acc[8], av = vload_from(a, skew);
#pragma GCC unroll 8
    for (int j = 0; j < 8; j++)
        acc[j] = av * vload_from(b + j * ldb, skew) + (vec){0};
    ptrdiff_t p = VL - skew;
    for (; p + VL <= k; p += VL) {
        av = vload(a + p);
#pragma GCC unroll 8
        for (int j = 0; j < 8; j++)
            acc[j] += av * vload(b + j * ldb + p);
    }
    if (p < k) {
        av = vload_n(a + p, k - p);
#pragma GCC unroll 8
        for (int j = 0; j < 8; j++)
            acc[j] += av * vload_n(b + j * ldb + p, k - p);
    }
#pragma GCC unroll 8
    for (int j = 0; j < 8; j++)
        acc[j] = vrotate(acc[j], skew);
    vsum4(acc[0], acc[1], acc[2], acc[3], sums);
    vsum4(acc[4], acc[5], acc[6], acc[7], sums + 4);
}
#endif

static FN(dot_tile) *const FN(dot_tiles)[2][FNN_DM + 1] = {
#if FNN_DM > 3
    {0, FN(dot_1_1), FN(dot_2_1), FN(dot_3_1), FN(dot_4_1), FN(dot_5_1), FN(dot_6_1)},
    {0, FN(dot_1_4), FN(dot_2_4), FN(dot_3_4), FN(dot_4_4), FN(dot_5_4), FN(dot_6_4)},
#else
    {0, FN(dot_1_1), FN(dot_2_1), FN(dot_3_1)},
    {0, FN(dot_1_4), FN(dot_2_4), FN(dot_3_4)},
#endif
};

/* The block A (m rows) times B^T (n rows), cut into register tiles. */
static void FN(gemm_dot)(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const void *a_, ptrdiff_t lda, const void *b_,
                         ptrdiff_t ldb, void *c_, ptrdiff_t ldc, const void *bias_, int flags)
{
    const real *a = a_, *b = b_, *bias = bias_;
    real *c = c_, sums[FNN_DM * 8];
    ptrdiff_t mi, nj;
#if defined(FNN_BUILD_AVX512)
    const ptrdiff_t skew = k >= VL && ldb % VL == 0 ? (ptrdiff_t)((uintptr_t)b % FNN_VBYTES / sizeof(real)) : 0;
#endif
    for (ptrdiff_t i = 0; i < m; i += mi) {
        /* equal heights: 7 rows as 4 + 3, not 6 + 1 */
        const ptrdiff_t left = m - i, tiles = (left + FNN_DM - 1) / FNN_DM;
        mi = (left + tiles - 1) / tiles;
        for (ptrdiff_t j = 0; j < n; j += nj) {
            nj = n - j >= 8 && mi == 1 ? 8 : n - j >= 4 ? 4 : 1;
#if defined(FNN_BUILD_AVX512)
            if (nj == 8 && skew)
                FN(dot_1_8_skewed)(k, a + i * lda, b + j * ldb, ldb, skew, sums);
            else
#endif
            {
                FN(dot_tile) *tile = nj == 8 ? FN(dot_1_8) : FN(dot_tiles)[nj == 4][mi];
                tile(k, a + i * lda, lda, b + j * ldb, ldb, sums);
            }
            if (nj == 8) { /* one row: all branches outside of loops */
                real *cc = c + i * ldc + j;
                for (int jj = 0; jj < 8 && (flags & FNN_ACCUMULATE); jj++)
                    sums[jj] += cc[jj];
                for (int jj = 0; jj < 8 && bias; jj++)
                    sums[jj] += bias[j + jj];
                for (int jj = 0; jj < 8 && (flags & FNN_RELU); jj++)
                    sums[jj] = sums[jj] <= 0 ? 0 : sums[jj];
                memcpy(cc, sums, 8 * sizeof(real));
                continue;
            }
            for (ptrdiff_t ii = 0; ii < mi; ii++)
                for (ptrdiff_t jj = 0; jj < nj; jj++) {
                    real *cc = c + (i + ii) * ldc + j + jj, v = sums[ii * nj + jj];
                    if (flags & FNN_ACCUMULATE)
                        v += *cc;
                    if (bias)
                        v += bias[j + jj];
                    *cc = (flags & FNN_RELU) && v <= 0 ? 0 : v;
                }
        }
    }
}

/* 12 independent chains of fused multiply-adds: the arithmetic limit of a core. Returns a value that depends on all. */
static double FN(fma_chain)(ptrdiff_t steps)
{
    vec acc[12];
    const vec x = vset1((real)0.999), y = vset1((real)0.001);
    for (int i = 0; i < 12; i++)
        acc[i] = vset1((real)i);
    for (ptrdiff_t p = 0; p < steps; p++) {
#pragma GCC unroll 12
        for (int i = 0; i < 12; i++)
            acc[i] = acc[i] * x + y;
    }
    vec s = acc[0];
    for (int i = 1; i < 12; i++)
        s += acc[i];
    return (double)vsum(s);
}

static const fnn_gemm_ukernels FN(gemm_ukernels) = {
    .mr = FNN_MR,
    .nr = 2 * FNN_VBYTES / sizeof(real),
    .vl = FNN_VBYTES / sizeof(real),
    .itemsize = sizeof(real),
    .tile = {0, FN(gemm_tile_1), FN(gemm_tile_2), FN(gemm_tile_3), FN(gemm_tile_4), FN(gemm_tile_5), FN(gemm_tile_6),
#if FNN_MR > 6
             FN(gemm_tile_7), FN(gemm_tile_8), FN(gemm_tile_9), FN(gemm_tile_10), FN(gemm_tile_11), FN(gemm_tile_12),
             FN(gemm_tile_13), FN(gemm_tile_14),
#endif
    },
    .pack_a = FN(pack_a),
    .pack_b = FN(pack_b),
    .dot = FN(gemm_dot),
    .fma_chain = FN(fma_chain),
    .fma_chain_flops = 2 * 12 * FNN_VBYTES / sizeof(real),
};
