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

/* Steps of A that are fetched before they are needed. It may be larger than the caches: the transformed filters of a
 * 512 x 512 convolution have 38 MB, and the processor's own look-ahead ends at every page. */
#define FNN_AHEAD 48

/* Clang takes nothing but literals. */
FNN_INLINE void FN(fetch)(const real *p, const int write)
{
    if (write)
        __builtin_prefetch(p, 1);
    else
        __builtin_prefetch(p, 0);
}

/* Brings the lines of a row of the tile closer. */
FNN_INLINE void FN(fetch_row)(const real *row, const int write)
{
    const ptrdiff_t line = 64 / sizeof(real);
    for (ptrdiff_t i = 0; i < 2 * VL; i += line)
        FN(fetch)(row + i, write);
    FN(fetch)(row + 2 * VL - 1, write);
}

enum { FN(PACKED), FN(WHOLE), FN(TWO), FN(MANY) }; /* where a row of B comes from: b, or so many runs of a feed */

/* A * B in registers, v vectors of each row; rows from a feed are left in b, for the tiles that follow.
 *
 * Memory is slower than arithmetic, and a burst of prefetches stalls as loads do. So what will be needed is asked for a
 * row at a time between the steps: first C, touched at the end, then the rows of the next panel. */
FNN_INLINE void FN(gemm_sum)(const int m, const int v, const int from, vec acc[][2], ptrdiff_t k, const real *a, real *b,
                             ptrdiff_t ldb, const real *c, ptrdiff_t ldc, const fnn_feed *feed)
{
    enum { STEPS = FNN_MR > 6 ? 4 : 8 };
    const ptrdiff_t *off = feed ? feed->off : 0;
    const real *src = feed ? feed->src : 0, *next = feed ? feed->next : 0;
    FN(piece) pieces[2][FNN_VBYTES / sizeof(real)];
    int n0 = 0, n1 = 0;
    lanes first0 = vfirst(0), first1 = first0, rest0 = first0, rest1 = first0;
    const real *rest = src;
    if (from == FN(MANY)) {
        n0 = FN(cut_runs)(feed->nruns, feed->runs, 0, pieces[0]);
        n1 = v == 2 ? FN(cut_runs)(feed->nruns, feed->runs, 1, pieces[1]) : 0;
    } else if (from != FN(PACKED)) {
        const ptrdiff_t n = feed->runs[0].length, two = feed->nruns > 1 ? n + feed->runs[1].length : n;
        first0 = vbetween(0, n), first1 = vbetween(-VL, n - VL);
        rest0 = vbetween(n, two), rest1 = vbetween(n - VL, two - VL);
        rest = src + (feed->nruns > 1 ? feed->runs[1].start - n : 0);
        src += feed->runs[0].start;
    }
    ptrdiff_t row = 0, ahead = feed ? feed->first : 0;
    const ptrdiff_t end = next ? feed->last : ahead, blocks = k / STEPS > m ? k / STEPS - m : 1;
    const ptrdiff_t each = (end - ahead + blocks - 1) / blocks;
#pragma GCC unroll 16
    for (int i = 0; i < m; i++)
        acc[i][0] = acc[i][1] = (vec){0};
    for (ptrdiff_t p = 0; p < k;) {
        if (row < m)
            FN(fetch_row)(c + row++ * ldc, 1);
        else
            for (ptrdiff_t i = 0; i < each && ahead < end; i++)
                FN(fetch_row)(next + off[ahead++], 0);
        for (const ptrdiff_t stop = p + STEPS < k ? p + STEPS : k; p < stop; p++, a += m, b += ldb) {
            vec b0, b1;
            __builtin_prefetch(a + FNN_AHEAD * m);
            if (from == FN(TWO)) {
                b0 = vload_more(vload_if(first0, src + off[p]), rest0, rest + off[p]);
                b1 = vload_more(vload_if(first1, src + off[p] + VL), rest1, rest + off[p] + VL);
            } else if (from == FN(MANY)) {
                b0 = FN(join_pieces)(pieces[0], n0, src + off[p]);
                b1 = v == 2 ? FN(join_pieces)(pieces[1], n1, src + off[p]) : (vec){0};
            } else {
                const real *row_b = from == FN(WHOLE) ? src + off[p] : b;
                b0 = vload(row_b), b1 = v == 2 ? vload(row_b + VL) : (vec){0};
            }
            if (from != FN(PACKED))
                vstore(b, b0);
            if (from != FN(PACKED) && v == 2)
                vstore(b + VL, b1);
#pragma GCC unroll 16
            for (int i = 0; i < m; i++) {
                const vec ai = vset1(a[i]);
                acc[i][0] += ai * b0;
                if (v == 2)
                    acc[i][1] += ai * b1;
            }
        }
    }
}

FNN_INLINE void FN(gemm_tile_m)(const int m, ptrdiff_t k, const real *a, real *b, ptrdiff_t ldb, real *c,
                                ptrdiff_t ldc, ptrdiff_t n, const real *bias, int flags, const fnn_feed *feed)
{
    vec acc[FNN_MR][2];
    const int packed = !feed || !feed->src;
    if (n <= VL && packed)
        FN(gemm_sum)(m, 1, FN(PACKED), acc, k, a, b, ldb, c, ldc, feed);
    else if (n <= VL)
        FN(gemm_sum)(m, 1, FN(MANY), acc, k, a, b, ldb, c, ldc, feed);
    else if (packed)
        FN(gemm_sum)(m, 2, FN(PACKED), acc, k, a, b, ldb, c, ldc, feed);
    else if (feed->nruns == 1 && feed->runs[0].length == 2 * VL)
        FN(gemm_sum)(m, 2, FN(WHOLE), acc, k, a, b, ldb, c, ldc, feed);
    else if (feed->nruns <= 2)
        FN(gemm_sum)(m, 2, FN(TWO), acc, k, a, b, ldb, c, ldc, feed);
    else
        FN(gemm_sum)(m, 2, FN(MANY), acc, k, a, b, ldb, c, ldc, feed);
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
    static __attribute__((noinline)) void FN(gemm_tile_##M)(ptrdiff_t k, const void *a, void *b, ptrdiff_t ldb, \
                                                            void *c, ptrdiff_t ldc, ptrdiff_t n, const void *bias, \
                                                            int flags, const fnn_feed *feed) \
    { \
        FN(gemm_tile_m)(M, k, a, b, ldb, c, ldc, n, bias, flags, feed); \
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
        } else if (p + 4 <= k && off[p] - off[p + 1] == 1 && off[p] - off[p + 2] == 2 && off[p] - off[p + 3] == 3) {
            for (; i + 4 <= m; i += 4) /* a rotated kernel */
                FN(transpose4)(ap - 3 + i * rs, rs, dst + 3 * m + i, -m);
            for (; i < m; i++)
                for (ptrdiff_t q = 0; q < 4; q++)
                    dst[q * m + i] = ap[i * rs - q];
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

/* C[m x n] += A * B where row i of A lies at a + off[i], line after line of `lines`, as it is; v vectors of B a step. Two
 * steps at a time share the look-up of a row where there are registers for it. */
FNN_INLINE void FN(outer_mv)(const int m, const int v, ptrdiff_t nlines, const fnn_line *lines, const real *a,
                             const ptrdiff_t *off, const real *b, ptrdiff_t ldb, real *c, ptrdiff_t ldc, ptrdiff_t n,
                             int flags)
{
    const int steps = FNN_MR > 6 ? 2 : 1;
    vec acc[FNN_OM][2];
#pragma GCC unroll 16
    for (int i = 0; i < m; i++)
        for (int j = 0; j < v; j++)
            acc[i][j] = (vec){0};
    for (ptrdiff_t l = 0; l < nlines; l++) {
        const real *x = a + lines[l].start;
        ptrdiff_t p = 0;
        for (; p + steps <= lines[l].length; p += steps, b += steps * ldb, x += steps) {
            vec bv[2][2];
            for (int s = 0; s < steps; s++)
                for (int j = 0; j < v; j++)
                    bv[s][j] = vload(b + s * ldb + j * VL);
            const ptrdiff_t *at = off;
            __asm__("" : "+r"(at)); /* look the rows up in every turn: more of them than registers */
#pragma GCC unroll 16
            for (int i = 0; i < m; i++) {
                const real *row = x + at[i];
                for (int s = 0; s < steps; s++) {
                    const vec ai = vset1(row[s]);
                    for (int j = 0; j < v; j++)
                        acc[i][j] += ai * bv[s][j];
                }
            }
        }
        for (; p < lines[l].length; p++, b += ldb, x++) {
            vec bv[2];
            for (int j = 0; j < v; j++)
                bv[j] = vload(b + j * VL);
#pragma GCC unroll 16
            for (int i = 0; i < m; i++) {
                const vec ai = vset1(x[off[i]]);
                for (int j = 0; j < v; j++)
                    acc[i][j] += ai * bv[j];
            }
        }
    }
#pragma GCC unroll 16
    for (int i = 0; i < m; i++, c += ldc)
        for (int j = 0; j < v; j++) {
            const ptrdiff_t left = n - j * VL;
            if (flags & FNN_ACCUMULATE)
                acc[i][j] += vload_upto(c + j * VL, left);
            vstore_upto(c + j * VL, acc[i][j], left);
        }
}

typedef void FN(outer_tile)(ptrdiff_t nlines, const fnn_line *lines, const real *a, const ptrdiff_t *off,
                            const real *b, ptrdiff_t ldb, real *c, ptrdiff_t ldc, ptrdiff_t n, int flags);
#define FNN_OUTER(M, V) \
    static __attribute__((noinline)) void FN(outer_##M##_##V)( \
        ptrdiff_t nlines, const fnn_line *lines, const real *a, const ptrdiff_t *off, const real *b, ptrdiff_t ldb, \
        real *c, ptrdiff_t ldc, ptrdiff_t n, int flags) \
    { \
        FN(outer_mv)(M, V, nlines, lines, a, off, b, ldb, c, ldc, n, flags); \
    }
#define FNN_OUTERS(V) \
    FNN_OUTER(1, V) FNN_OUTER(2, V) FNN_OUTER(3, V) FNN_OUTER(4, V) FNN_OUTER(5, V) FNN_OUTER(6, V)
FNN_OUTERS(1) FNN_OUTERS(2)
#undef FNN_OUTERS
#if FNN_OM > 6
#define FNN_OUTERS(V) \
    FNN_OUTER(7, V) FNN_OUTER(8, V) FNN_OUTER(9, V) FNN_OUTER(10, V) FNN_OUTER(11, V) FNN_OUTER(12, V)
FNN_OUTERS(1) FNN_OUTERS(2)
#undef FNN_OUTERS
#endif
#undef FNN_OUTER

static FN(outer_tile) *const FN(outer_tiles)[2][FNN_OM + 1] = {
#define FNN_OUTERS(V) \
    FN(outer_1_##V), FN(outer_2_##V), FN(outer_3_##V), FN(outer_4_##V), FN(outer_5_##V), FN(outer_6_##V)
#if FNN_OM > 6
#define FNN_MORE_OUTERS(V) \
    , FN(outer_7_##V), FN(outer_8_##V), FN(outer_9_##V), FN(outer_10_##V), FN(outer_11_##V), FN(outer_12_##V)
#else
#define FNN_MORE_OUTERS(V)
#endif
    {0, FNN_OUTERS(1) FNN_MORE_OUTERS(1)},
    {0, FNN_OUTERS(2) FNN_MORE_OUTERS(2)},
#undef FNN_OUTERS
#undef FNN_MORE_OUTERS
};

/* m rows, cut into register tiles of equal height */
static void FN(gemm_outer)(ptrdiff_t m, ptrdiff_t n, ptrdiff_t nlines, const fnn_line *lines, const void *a,
                           const ptrdiff_t *off, const void *b, ptrdiff_t ldb, void *c_, ptrdiff_t ldc, int flags)
{
    real *c = c_;
    const ptrdiff_t tiles = (m + FNN_OM - 1) / FNN_OM;
    for (ptrdiff_t t = 0; t < tiles; t++) {
        const ptrdiff_t i = t * m / tiles, rows = (t + 1) * m / tiles - i;
        FN(outer_tiles)[n > VL][rows](nlines, lines, a, off + i, b, ldb, c + i * ldc, ldc, n, flags);
    }
}

/* dst[j][i] = src[i][j] for i < m, j < n. A cache line of rows at a time, so that lines of dst are written whole; the
 * next ones are asked for meanwhile: rows far apart are too many streams for the hardware to foresee. */
static void FN(transpose)(ptrdiff_t m, ptrdiff_t n, const void *src_, ptrdiff_t src_row, void *dst_, ptrdiff_t dst_row)
{
    const ptrdiff_t line = 64 / sizeof(real);
    const real *src = src_;
    real *dst = dst_;
    for (ptrdiff_t i0 = 0; i0 < m; i0 += line) {
        const ptrdiff_t i1 = m - i0 < line ? m : i0 + line, ahead = i1 + line < m ? i1 + line : m;
        ptrdiff_t j = 0;
        for (; j + 4 <= n; j += 4) {
            if (j % line == 0)
                for (ptrdiff_t r = i1; r < ahead; r++)
                    __builtin_prefetch(src + r * src_row + j);
            ptrdiff_t i = i0;
            for (; i + 4 <= i1; i += 4)
                FN(transpose4)(src + i * src_row + j, src_row, dst + j * dst_row + i, dst_row);
            for (; i < i1; i++)
                for (ptrdiff_t r = j; r < j + 4; r++)
                    dst[r * dst_row + i] = src[i * src_row + r];
        }
        for (; j < n; j++)
            for (ptrdiff_t i = i0; i < i1; i++)
                dst[j * dst_row + i] = src[i * src_row + j];
    }
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
    .outer = FN(gemm_outer),
    .transpose = FN(transpose),
};
