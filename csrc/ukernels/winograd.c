/* Winograd's minimal filtering F(m x m, 3 x 3), m = 2 and 4: m*m results of a 3 x 3 correlation from (m+2)^2 products.
 *
 *     Y = A^T [ (G g G^T) . (B^T d B) ] A          (Lavin & Gray, "Fast algorithms for convolutional neural
 *                                                   networks", 2016; points 0, 1, -1 and, for m = 4, 2, -2)
 *
 * and, by transposition, the gradient of the filter from tiles of input and of result
 *
 *     dg = G^T [ sum over tiles of (B^T d B) . (A dy A^T) ] G
 *
 * The products of equal position in many tiles form (m+2)^2 matrix products over the channels. Transforms work on
 * VL tiles at a time (the filter's on up to VL filters): every lane is a tile. Single precision only: float64 is
 * for those who want the rounding of the definition.
 */
#if FNN_BITS == 32

/* x[0], x[s], ... x[(m+1)*s] <- B^T x */
FNN_INLINE void FN(wino_bt)(const int m, vec *x, const int s)
{
    const vec d0 = x[0], d1 = x[s], d2 = x[2 * s], d3 = x[3 * s];
    if (m == 2) {
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

/* x[0], ... x[(m-1)*s] <- A^T x for the m + 2 values in x */
FNN_INLINE void FN(wino_at)(const int m, vec *x, const int s)
{
    const vec p0 = x[0], p1 = x[s], p2 = x[2 * s], p3 = x[3 * s];
    if (m == 2) {
        x[0] = p0 + p1 + p2;
        x[s] = p1 - p2 - p3;
        return;
    }
    const vec p4 = x[4 * s], p5 = x[5 * s];
    const vec two = vset1(2), four = vset1(4), eight = vset1(8);
    const vec a = p1 + p2, b = p1 - p2, c = p3 + p4, d = p3 - p4;
    x[0] = p0 + a + c;
    x[s] = b + two * d;
    x[2 * s] = a + four * c;
    x[3 * s] = b + eight * d + p5;
}

/* u[0], ... u[(m+1)*s] <- G g for the three values of g, t apart */
FNN_INLINE void FN(wino_g)(const int m, const vec *g, const int t, vec *u, const int s)
{
    const vec g0 = g[0], g1 = g[t], g2 = g[2 * t];
    if (m == 2) {
        const vec half = vset1((real)0.5), a = half * (g0 + g2), b = half * g1;
        u[0] = g0;
        u[s] = a + b;
        u[2 * s] = a - b;
        u[3 * s] = g2;
        return;
    }
    const vec a = (g0 + g2) / vset1(-6), b = g1 / vset1(6);
    const vec c = g0 / vset1(24) + g2 / vset1(6), d = g1 / vset1(12);
    u[0] = g0 / vset1(4);
    u[s] = a - b;
    u[2 * s] = a + b;
    u[3 * s] = c + d;
    u[4 * s] = c - d;
    u[5 * s] = g2;
}

/* u[0], ... u[(m+1)*s] <- A y for the m values of y, t apart */
FNN_INLINE void FN(wino_a)(const int m, const vec *y, const int t, vec *u, const int s)
{
    const vec y0 = y[0], y1 = y[t];
    if (m == 2) {
        u[0] = y0;
        u[s] = y0 + y1;
        u[2 * s] = y0 - y1;
        u[3 * s] = -y1;
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

/* x[0], x[s], x[2*s] <- G^T x for the m + 2 values in x */
FNN_INLINE void FN(wino_gt)(const int m, vec *x, const int s)
{
    const vec p0 = x[0], p1 = x[s], p2 = x[2 * s], p3 = x[3 * s];
    if (m == 2) {
        const vec half = vset1((real)0.5), a = half * (p1 + p2), b = half * (p1 - p2);
        x[0] = p0 + a;
        x[s] = b;
        x[2 * s] = a + p3;
        return;
    }
    const vec p4 = x[4 * s], p5 = x[5 * s];
    const vec a = (p1 + p2) / vset1(6), b = (p2 - p1) / vset1(6), c = p3 + p4, d = (p3 - p4) / vset1(12);
    x[0] = p0 / vset1(4) - a + c / vset1(24);
    x[s] = b + d;
    x[2 * s] = c / vset1(6) - a + p5;
}

FNN_INLINE void FN(wino_filter_m)(const int m, ptrdiff_t rows, const real *w, ptrdiff_t rs, const ptrdiff_t *tap,
                                  real *dst, ptrdiff_t pitch)
{
    const int n = m + 2;
    for (ptrdiff_t r = 0; r < rows; r += VL) {
        const ptrdiff_t count = rows - r < VL ? rows - r : VL;
        vec g[9], t[6 * 3], u[6 * 6];
        real lane[9][FNN_VBYTES / sizeof(real)] = {{0}};
        for (ptrdiff_t i = 0; i < count; i++)
            for (int j = 0; j < 9; j++)
                lane[j][i] = w[(r + i) * rs + tap[j]];
#pragma GCC unroll 9
        for (int j = 0; j < 9; j++)
            g[j] = vload(lane[j]);
#pragma GCC unroll 3
        for (int j = 0; j < 3; j++)
            FN(wino_g)(m, g + j, 3, t + j, 3);
#pragma GCC unroll 6
        for (int i = 0; i < n; i++)
            FN(wino_g)(m, t + 3 * i, 1, u + n * i, 1);
        for (int i = 0; i < n * n; i++)
            vstore_upto(dst + i * pitch + r, u[i], count);
    }
}

static void FN(wino_filter)(int m, ptrdiff_t rows, const void *w, ptrdiff_t rs, const ptrdiff_t *tap, void *dst,
                            ptrdiff_t pitch)
{
    if (m == 4)
        FN(wino_filter_m)(4, rows, w, rs, tap, dst, pitch);
    else
        FN(wino_filter_m)(2, rows, w, rs, tap, dst, pitch);
}

/* B^T d B of VL tiles whose element (i, j) is the vector at src + off[i*n + j]; or, if `adjoint`, A dy A^T of tiles of
 * m x m elements at src + off[i*m + j]. Stores the first `count` tiles. */
FNN_INLINE void FN(wino_input_vec)(const int m, const int adjoint, const real *src, const ptrdiff_t *off, real *dst,
                                   ptrdiff_t pitch, ptrdiff_t count)
{
    const int n = m + 2, in = adjoint ? m : n;
    vec d[6 * 6], e[4];
#pragma GCC unroll 6
    for (int j = 0; j < in; j++) {
#pragma GCC unroll 6
        for (int i = 0; i < in; i++)
            d[i * n + j] = vload(src + off[i * in + j]);
        if (adjoint) {
#pragma GCC unroll 4
            for (int i = 0; i < m; i++)
                e[i] = d[i * n + j];
            FN(wino_a)(m, e, 1, d + j, n);
        } else
            FN(wino_bt)(m, d + j, n);
    }
#pragma GCC unroll 6
    for (int i = 0; i < n; i++) {
        if (adjoint) {
#pragma GCC unroll 4
            for (int j = 0; j < m; j++)
                e[j] = d[i * n + j];
            FN(wino_a)(m, e, 1, d + i * n, 1);
        } else
            FN(wino_bt)(m, d + i * n, 1);
#pragma GCC unroll 6
        for (int j = 0; j < n; j++)
            vstore_upto(dst + (i * n + j) * pitch, d[i * n + j], count);
    }
}

/* Whole vectors are written while there is room in the panel: what a run writes too much, the next overwrites. */
FNN_INLINE void FN(wino_input_m)(const int m, const int adjoint, const real *src, const ptrdiff_t *off, ptrdiff_t nruns,
                                 const fnn_run *runs, real *dst, ptrdiff_t pitch)
{
    ptrdiff_t room = 2 * VL;
    for (ptrdiff_t r = 0; r < nruns; r++) {
        const ptrdiff_t n = runs[r].length;
        for (ptrdiff_t i = 0; i < n; i += VL)
            FN(wino_input_vec)(m, adjoint, src + runs[r].start + i, off, dst + i, pitch, room - i);
        dst += n;
        room -= n;
    }
}

static void FN(wino_input)(int m, const void *src, const ptrdiff_t *off, ptrdiff_t nruns, const fnn_run *runs,
                           void *dst, ptrdiff_t pitch)
{
    if (m == 4)
        FN(wino_input_m)(4, 0, src, off, nruns, runs, dst, pitch);
    else
        FN(wino_input_m)(2, 0, src, off, nruns, runs, dst, pitch);
}

static void FN(wino_output_adjoint)(int m, const void *src, const ptrdiff_t *off, ptrdiff_t nruns, const fnn_run *runs,
                                    void *dst, ptrdiff_t pitch)
{
    if (m == 4)
        FN(wino_input_m)(4, 1, src, off, nruns, runs, dst, pitch);
    else
        FN(wino_input_m)(2, 1, src, off, nruns, runs, dst, pitch);
}

FNN_INLINE void FN(wino_filter_adjoint_m)(const int m, ptrdiff_t count, const real *src, ptrdiff_t pitch, real *dw)
{
    const int n = m + 2;
    for (ptrdiff_t c = 0; c < count; c += VL) {
        const ptrdiff_t lanes = count - c < VL ? count - c : VL;
        real lane[9][FNN_VBYTES / sizeof(real)];
        vec d[6 * 6];
        for (int i = 0; i < n * n; i++)
            d[i] = vload_upto(src + i * pitch + c, lanes);
#pragma GCC unroll 6
        for (int j = 0; j < n; j++)
            FN(wino_gt)(m, d + j, n);
#pragma GCC unroll 3
        for (int i = 0; i < 3; i++) {
            FN(wino_gt)(m, d + i * n, 1);
#pragma GCC unroll 3
            for (int j = 0; j < 3; j++)
                vstore(lane[3 * i + j], d[i * n + j]);
        }
        for (ptrdiff_t i = 0; i < lanes; i++)
            for (int j = 0; j < 9; j++)
                dw[(c + i) * 9 + j] = lane[j][i];
    }
}

static void FN(wino_filter_adjoint)(int m, ptrdiff_t count, const void *src, ptrdiff_t pitch, void *dw)
{
    if (m == 4)
        FN(wino_filter_adjoint_m)(4, count, src, pitch, dw);
    else
        FN(wino_filter_adjoint_m)(2, count, src, pitch, dw);
}

/* The m rows of VL*m pixels that VL tiles make, in rows of out */
FNN_INLINE void FN(wino_output_vec)(const int m, const real *src, ptrdiff_t pitch, vec bias, int flags, real *out,
                                    ptrdiff_t row)
{
    const int n = m + 2;
    vec d[6 * 6];
#pragma GCC unroll 6
    for (int j = 0; j < n; j++) {
#pragma GCC unroll 6
        for (int i = 0; i < n; i++)
            d[i * n + j] = vload(src + (i * n + j) * pitch);
        FN(wino_at)(m, d + j, n);
    }
#pragma GCC unroll 4
    for (int i = 0; i < m; i++) {
        vec *y = d + i * n;
        FN(wino_at)(m, y, 1);
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

static void FN(wino_output)(int m, ptrdiff_t tiles, const void *src_, ptrdiff_t pitch, const void *bias_, int flags,
                            ptrdiff_t nruns, const fnn_tile_run *runs, void *y_, ptrdiff_t y_row)
{
    const real *src = src_;
    const vec bias = vset1(bias_ ? *(const real *)bias_ : 0);
    real *y = y_, out[4 * 4 * 2 * FNN_VBYTES / sizeof(real)];
    const ptrdiff_t row = m * 2 * VL;
    for (ptrdiff_t i = 0; i < tiles; i += VL) {
        if (m == 4)
            FN(wino_output_vec)(4, src + i, pitch, bias, flags, out + i * m, row);
        else
            FN(wino_output_vec)(2, src + i, pitch, bias, flags, out + i * m, row);
    }
    const real *o = out;
    for (ptrdiff_t r = 0; r < nruns; r++) {
        for (ptrdiff_t i = 0; i < runs[r].rows; i++) {
            real *dst = y + runs[r].y + i * y_row;
            const real *s = o + i * row;
            ptrdiff_t p = 0;
            for (; p + VL <= runs[r].columns; p += VL)
                vstore(dst + p, vload(s + p));
            if (p < runs[r].columns)
                vstore_n(dst + p, vload_n(s + p, runs[r].columns - p), runs[r].columns - p);
        }
        o += runs[r].tiles * m;
    }
}

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
