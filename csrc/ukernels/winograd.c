/* Winograd's minimal filtering F(m x m, r x r): m*m results of an r x r correlation from n^2 products, n = m + r - 1.
 * There are F(2x2, 3x3), F(4x4, 3x3) and F(2x2, 5x5).
 *
 *     Y = A^T [ (G g G^T) . (B^T d B) ] A          (Lavin & Gray, "Fast algorithms for convolutional neural
 *                                                   networks", 2016; points 0, 1, -1 and, for n = 6, 2, -2)
 *
 * and, by transposition, the gradient of the filter from tiles of input and of result
 *
 *     dg = G^T [ sum over tiles of (B^T d B) . (A dy A^T) ] G
 *
 * The products of equal position in many tiles form n^2 matrix products over the channels. Transforms work on
 * VL tiles at a time (the filter's on up to VL filters): every lane is a tile. Single precision only: float64 is
 * for those who want the rounding of the definition.
 */
#if FNN_BITS == 32

/* The largest of each, for arrays on the stack. */
enum { WINO_N = 6, WINO_M = 4, WINO_R = 5 };

/* x[0], x[s], ... x[(n-1)*s] <- B^T x */
FNN_INLINE void FN(wino_bt)(const int n, vec *x, const int s)
{
    const vec d0 = x[0], d1 = x[s], d2 = x[2 * s], d3 = x[3 * s];
    if (n == 4) {
        x[0] = d0 - d2;
        x[s] = d1 + d2;
        x[2 * s] = d2 - d1;
        x[3 * s] = d1 - d3;
        return;
    }
    const vec d4 = x[4 * s], d5 = x[5 * s];
    const vec two = vset1(2), four = vset1(4), five = vset1(5);
    const vec a = d4 - four * d2, b = d3 - four * d1, c = d4 - d2, e = two * (d3 - d1);
    x[0] = four * d0 - five * d2 + d4;
    x[s] = a + b;
    x[2 * s] = a - b;
    x[3 * s] = c + e;
    x[4 * s] = c - e;
    x[5 * s] = four * d1 - five * d3 + d5;
}

/* x[0], ... x[(m-1)*s] <- A^T x for the n values in x */
FNN_INLINE void FN(wino_at)(const int m, const int n, vec *x, const int s)
{
    const vec p0 = x[0], p1 = x[s], p2 = x[2 * s], p3 = x[3 * s];
    if (n == 4) {
        x[0] = p0 + p1 + p2;
        x[s] = p1 - p2 - p3;
        return;
    }
    const vec p4 = x[4 * s], p5 = x[5 * s];
    const vec two = vset1(2), four = vset1(4), eight = vset1(8);
    const vec a = p1 + p2, b = p1 - p2, c = p3 + p4, d = p3 - p4;
    x[0] = p0 + a + c;
    if (m == 2) {
        x[s] = b + two * d + p5;
        return;
    }
    x[s] = b + two * d;
    x[2 * s] = a + four * c;
    x[3 * s] = b + eight * d + p5;
}

/* u[0], ... u[(n-1)*s] <- G g for the r values of g, t apart */
FNN_INLINE void FN(wino_g)(const int r, const int n, const vec *g, const int t, vec *u, const int s)
{
    const vec g0 = g[0], g1 = g[t], g2 = g[2 * t];
    if (n == 4) {
        const vec half = vset1((real)0.5), a = half * (g0 + g2), b = half * g1;
        u[0] = g0;
        u[s] = a + b;
        u[2 * s] = a - b;
        u[3 * s] = g2;
        return;
    }
    const vec third = vset1((real)(1. / 3)), sixth = vset1((real)(1. / 6)), quarter = vset1((real)0.25);
    vec a = sixth * (-g0 - g2), b = sixth * g1, c = sixth * (quarter * g0 + g2), d = quarter * third * g1;
    u[0] = quarter * g0;
    u[5 * s] = g2;
    if (r == 5) {
        const vec g3 = g[3 * t], g4 = g[4 * t];
        a -= sixth * g4;
        b += sixth * g3;
        c += (third + third) * g4;
        d += third * g3;
        u[5 * s] = g4;
    }
    u[s] = a - b;
    u[2 * s] = a + b;
    u[3 * s] = c + d;
    u[4 * s] = c - d;
}

/* u[0], ... u[(n-1)*s] <- A y for the m values of y, t apart */
FNN_INLINE void FN(wino_a)(const int m, const int n, const vec *y, const int t, vec *u, const int s)
{
    const vec y0 = y[0], y1 = y[t];
    if (n == 4) {
        u[0] = y0;
        u[s] = y0 + y1;
        u[2 * s] = y0 - y1;
        u[3 * s] = -y1;
        return;
    }
    if (m == 2) {
        const vec twice = y1 + y1;
        u[0] = y0;
        u[s] = y0 + y1;
        u[2 * s] = y0 - y1;
        u[3 * s] = y0 + twice;
        u[4 * s] = y0 - twice;
        u[5 * s] = y1;
        return;
    }
    const vec y2 = y[2 * t], y3 = y[3 * t];
    const vec a = y0 + y2, b = y1 + y3, c = y0 + vset1(4) * y2, d = vset1(2) * y1 + vset1(8) * y3;
    u[0] = y0;
    u[s] = a + b;
    u[2 * s] = a - b;
    u[3 * s] = c + d;
    u[4 * s] = c - d;
    u[5 * s] = y3;
}

/* x[0], ... x[(r-1)*s] <- G^T x for the n values in x */
FNN_INLINE void FN(wino_gt)(const int r, const int n, vec *x, const int s)
{
    const vec p0 = x[0], p1 = x[s], p2 = x[2 * s], p3 = x[3 * s];
    if (n == 4) {
        const vec half = vset1((real)0.5), a = half * (p1 + p2), b = half * (p1 - p2);
        x[0] = p0 + a;
        x[s] = b;
        x[2 * s] = a + p3;
        return;
    }
    const vec p4 = x[4 * s], p5 = x[5 * s];
    const vec sixth = vset1((real)(1. / 6)), quarter = vset1((real)0.25), half = vset1((real)0.5);
    const vec a = sixth * (p1 + p2), b = sixth * (p2 - p1), c = sixth * (p3 + p4), d = half * sixth * (p3 - p4);
    x[0] = quarter * (p0 + c) - a;
    x[s] = b + d;
    x[2 * s] = c - a;
    if (r == 3) {
        x[2 * s] += p5;
        return;
    }
    x[3 * s] = b + vset1(4) * d;
    x[4 * s] = vset1(4) * c - a + p5;
}

/* lane[j*VL + i] = tap j of filter i for i < count <= VL. Groups of four filters and taps, the last ones overlapping. */
FNN_INLINE void FN(wino_lanes)(const int taps, ptrdiff_t count, const real *w, ptrdiff_t rs, real *lane)
{
    if (count < 4) {
        for (ptrdiff_t i = 0; i < count; i++)
            for (int j = 0; j < taps; j++)
                lane[j * VL + i] = w[i * rs + j];
        return;
    }
    for (ptrdiff_t i = 0; i < count; i += 4) {
        const ptrdiff_t at = i + 4 > count ? count - 4 : i;
#pragma GCC unroll 7
        for (int j = 0; j < taps; j += 4) {
            const int tap = j + 4 > taps ? taps - 4 : j;
            FN(transpose4)(w + at * rs + tap, rs, lane + tap * VL + at, VL);
        }
    }
}

FNN_INLINE void FN(wino_filter_mr)(const int m, const int r, ptrdiff_t rows, const real *w, ptrdiff_t rs,
                                   const ptrdiff_t *tap, real *dst, ptrdiff_t pitch)
{
    const int n = m + r - 1;
    for (ptrdiff_t k = 0; k < rows; k += VL) {
        const ptrdiff_t count = rows - k < VL ? rows - k : VL;
        vec g[WINO_R * WINO_R], t[WINO_N * WINO_R], u[WINO_N * WINO_N];
        real lane[WINO_R * WINO_R][FNN_VBYTES / sizeof(real)];
        FN(wino_lanes)(r * r, count, w + k * rs, rs, lane[0]);
#pragma GCC unroll 25
        for (int j = 0; j < r * r; j++)
            g[j] = vload_upto(lane[tap[j]], count);
#pragma GCC unroll 5
        for (int j = 0; j < r; j++)
            FN(wino_g)(r, n, g + j, r, t + j, r);
#pragma GCC unroll 6
        for (int i = 0; i < n; i++)
            FN(wino_g)(r, n, t + r * i, 1, u + n * i, 1);
        for (int i = 0; i < n * n; i++)
            vstore_upto(dst + i * pitch + k, u[i], count);
    }
}

/* One function a form, chosen by m and r. */
#define FNN_FORMS(call) \
    if (m == 4) \
        call(4, 3); \
    else if (r == 3) \
        call(2, 3); \
    else \
        call(2, 5);

static void FN(wino_filter)(int m, int r, ptrdiff_t rows, const void *w, ptrdiff_t rs, const ptrdiff_t *tap, void *dst,
                            ptrdiff_t pitch)
{
#define FNN_CALL(M, R) FN(wino_filter_mr)(M, R, rows, w, rs, tap, dst, pitch)
    FNN_FORMS(FNN_CALL)
#undef FNN_CALL
}

/* B^T d B of VL tiles whose element (i, j) is the vector of `count` pieces at src + off[i*n + j]; or, if `adjoint`,
 * A dy A^T of tiles of m x m elements at src + off[i*m + j]. */
FNN_INLINE void FN(wino_input_vec)(const int m, const int r, const int adjoint, const int whole,
                                   const FN(piece) *pieces, int count, const real *src, const ptrdiff_t *off,
                                   real *dst, ptrdiff_t pitch)
{
    const int n = m + r - 1, in = adjoint ? m : n;
    vec d[WINO_N * WINO_N], e[WINO_M];
#pragma GCC unroll 6
    for (int j = 0; j < in; j++) {
#pragma GCC unroll 6
        for (int i = 0; i < in; i++)
            d[i * n + j] = whole ? vload(src + off[i * in + j]) : FN(join_pieces)(pieces, count, src + off[i * in + j]);
        if (adjoint) {
#pragma GCC unroll 4
            for (int i = 0; i < m; i++)
                e[i] = d[i * n + j];
            FN(wino_a)(m, n, e, 1, d + j, n);
        } else
            FN(wino_bt)(n, d + j, n);
    }
#pragma GCC unroll 6
    for (int i = 0; i < n; i++) {
        if (adjoint) {
#pragma GCC unroll 4
            for (int j = 0; j < m; j++)
                e[j] = d[i * n + j];
            FN(wino_a)(m, n, e, 1, d + i * n, 1);
        } else
            FN(wino_bt)(n, d + i * n, 1);
#pragma GCC unroll 6
        for (int j = 0; j < n; j++)
            vstore(dst + (i * n + j) * pitch, d[i * n + j]);
    }
}

/* The runs' tiles, VL at a time; those of one run are read as a whole vector, whatever lies behind it. */
FNN_INLINE void FN(wino_input_mr)(const int m, const int r, const int adjoint, const real *src, const ptrdiff_t *off,
                                  ptrdiff_t nruns, const fnn_run *runs, real *dst, ptrdiff_t pitch)
{
    FN(piece) pieces[FNN_VBYTES / sizeof(real)];
    for (int v = 0; v < 2; v++, dst += VL) {
        const int count = FN(cut_runs)(nruns, runs, v, pieces);
        if (count == 1)
            FN(wino_input_vec)(m, r, adjoint, 1, 0, 0, src + pieces[0].at, off, dst, pitch);
        else if (count)
            FN(wino_input_vec)(m, r, adjoint, 0, pieces, count, src, off, dst, pitch);
    }
}

static void FN(wino_input)(int m, int r, const void *src, const ptrdiff_t *off, ptrdiff_t nruns, const fnn_run *runs,
                           void *dst, ptrdiff_t pitch)
{
#define FNN_CALL(M, R) FN(wino_input_mr)(M, R, 0, src, off, nruns, runs, dst, pitch)
    FNN_FORMS(FNN_CALL)
#undef FNN_CALL
}

static void FN(wino_output_adjoint)(int m, int r, const void *src, const ptrdiff_t *off, ptrdiff_t nruns,
                                    const fnn_run *runs, void *dst, ptrdiff_t pitch)
{
#define FNN_CALL(M, R) FN(wino_input_mr)(M, R, 1, src, off, nruns, runs, dst, pitch)
    FNN_FORMS(FNN_CALL)
#undef FNN_CALL
}

FNN_INLINE void FN(wino_filter_adjoint_mr)(const int m, const int r, ptrdiff_t count, const real *src, ptrdiff_t pitch,
                                           real *dw)
{
    const int n = m + r - 1;
    for (ptrdiff_t c = 0; c < count; c += VL) {
        const ptrdiff_t lanes = count - c < VL ? count - c : VL;
        real lane[WINO_R * WINO_R][FNN_VBYTES / sizeof(real)];
        vec d[WINO_N * WINO_N];
        for (int i = 0; i < n * n; i++)
            d[i] = vload_upto(src + i * pitch + c, lanes);
#pragma GCC unroll 6
        for (int j = 0; j < n; j++)
            FN(wino_gt)(r, n, d + j, n);
#pragma GCC unroll 5
        for (int i = 0; i < r; i++) {
            FN(wino_gt)(r, n, d + i * n, 1);
#pragma GCC unroll 5
            for (int j = 0; j < r; j++)
                vstore(lane[r * i + j], d[i * n + j]);
        }
        for (ptrdiff_t i = 0; i < lanes; i++)
            for (int j = 0; j < r * r; j++)
                dw[(c + i) * r * r + j] = lane[j][i];
    }
}

static void FN(wino_filter_adjoint)(int m, int r, ptrdiff_t count, const void *src, ptrdiff_t pitch, void *dw)
{
#define FNN_CALL(M, R) FN(wino_filter_adjoint_mr)(M, R, count, src, pitch, dw)
    FNN_FORMS(FNN_CALL)
#undef FNN_CALL
}

/* The m rows of VL*m pixels that VL tiles make, in rows of out */
FNN_INLINE void FN(wino_output_vec)(const int m, const int r, const real *src, ptrdiff_t pitch, vec bias, int flags,
                                    real *out, ptrdiff_t row)
{
    const int n = m + r - 1;
    vec d[WINO_N * WINO_N];
#pragma GCC unroll 6
    for (int j = 0; j < n; j++) {
#pragma GCC unroll 6
        for (int i = 0; i < n; i++)
            d[i * n + j] = vload(src + (i * n + j) * pitch);
        FN(wino_at)(m, n, d + j, n);
    }
#pragma GCC unroll 4
    for (int i = 0; i < m; i++) {
        vec *y = d + i * n;
        FN(wino_at)(m, n, y, 1);
#pragma GCC unroll 4
        for (int j = 0; j < m; j++) {
            y[j] += bias;
            if (flags & FNN_RELU)
                y[j] = vrelu(y[j]);
        }
        real *o = out + i * row;
        if (m == 2) {
            vstore(o, vzip_lo(y[0], y[1]));
            vstore(o + VL, vzip_hi(y[0], y[1]));
        } else {
            const vec a = vzip_lo(y[0], y[2]), b = vzip_lo(y[1], y[3]), c = vzip_hi(y[0], y[2]), e = vzip_hi(y[1], y[3]);
            vstore(o, vzip_lo(a, b));
            vstore(o + VL, vzip_hi(a, b));
            vstore(o + 2 * VL, vzip_lo(c, e));
            vstore(o + 3 * VL, vzip_hi(c, e));
        }
    }
}

static void FN(wino_output)(int m, int r, ptrdiff_t tiles, const void *src_, ptrdiff_t pitch, const void *bias_, int flags,
                            ptrdiff_t nruns, const fnn_tile_run *runs, void *y_, ptrdiff_t y_row)
{
    const real *src = src_;
    const vec bias = vset1(bias_ ? *(const real *)bias_ : 0);
    real *y = y_, out[4 * 4 * 2 * FNN_VBYTES / sizeof(real)];
    const ptrdiff_t row = m * 2 * VL;
    for (ptrdiff_t i = 0; i < tiles; i += VL) {
#define FNN_CALL(M, R) FN(wino_output_vec)(M, R, src + i, pitch, bias, flags, out + i * m, row)
        FNN_FORMS(FNN_CALL)
#undef FNN_CALL
    }
    const real *o = out;
    for (ptrdiff_t k = 0; k < nruns; k++) {
        for (ptrdiff_t i = 0; i < runs[k].rows; i++) {
            real *dst = y + runs[k].y + i * y_row;
            const real *s = o + i * row;
            ptrdiff_t p = 0;
            for (; p + VL <= runs[k].columns; p += VL)
                vstore(dst + p, vload(s + p));
            if (p < runs[k].columns)
                vstore_n(dst + p, vload_n(s + p, runs[k].columns - p), runs[k].columns - p);
        }
        o += runs[k].tiles * m;
    }
}

#undef FNN_FORMS

static const fnn_winograd_ukernels FN(winograd_ukernels) = {
    .filter = FN(wino_filter),
    .input = FN(wino_input),
    .output = FN(wino_output),
    .output_adjoint = FN(wino_output_adjoint),
    .filter_adjoint = FN(wino_filter_adjoint),
};

#else

static const fnn_winograd_ukernels FN(winograd_ukernels) = {0};

#endif
