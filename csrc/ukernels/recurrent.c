/* The gates of one sample, a matrix times a vector: rows of the weights side by side, their sums collected in lanes.
 * Then the pointwise part of recurrent cells: all gates of a unit in one pass. Lanes are hidden units. */

/* Where whole vectors of w meet cache lines: elements behind a line, equal for all rows. */
FNN_INLINE ptrdiff_t FN(row_skew)(ptrdiff_t k, const real *w)
{
#if defined(FNN_BUILD_AVX512)
    return k % VL == 0 ? (ptrdiff_t)((uintptr_t)w % FNN_VBYTES / sizeof(real)) : 0;
#else
    (void)k, (void)w;
    return 0;
#endif
}

/* acc[j] += w[j][p] v[p] for all p, in lane (p + skew) % VL */
FNN_INLINE void FN(gate_part)(const int rows, ptrdiff_t k, const real *v, const real *w, ptrdiff_t skew, vec *acc)
{
    ptrdiff_t p = 0;
#if defined(FNN_BUILD_AVX512)
    if (skew) {
        const vec head = vload_from(v, skew);
#pragma GCC unroll 8
        for (int j = 0; j < rows; j++)
            acc[j] += head * vload_from(w + j * k, skew);
        p = VL - skew;
    }
#else
    (void)skew;
#endif
    for (; p + VL <= k; p += VL) {
        const vec vp = vload(v + p);
#pragma GCC unroll 8
        for (int j = 0; j < rows; j++)
            acc[j] += vp * vload(w + j * k + p);
    }
    if (p < k) {
        const vec tail = vload_n(v + p, k - p);
#pragma GCC unroll 8
        for (int j = 0; j < rows; j++)
            acc[j] += tail * vload_n(w + j * k + p, k - p);
    }
}

FNN_INLINE void FN(turn)(const int rows, ptrdiff_t by, vec *acc)
{
#if defined(FNN_BUILD_AVX512)
    if (by)
#pragma GCC unroll 8
        for (int j = 0; j < rows; j++)
            acc[j] = vrotate(acc[j], by);
#else
    (void)rows, (void)by, (void)acc;
#endif
}

/* sums[j] of `rows` rows, 8 or 1: VL chains over both products, and the tree of vsum. */
FNN_INLINE void FN(gate_rows)(const int rows, ptrdiff_t d, const real *x, const real *w_ih, ptrdiff_t skew_ih,
                              ptrdiff_t hidden, const real *h, const real *w_hh, ptrdiff_t skew_hh, int accumulate,
                              real *sums)
{
    vec acc[8];
#pragma GCC unroll 8
    for (int j = 0; j < rows; j++)
        acc[j] = (vec){0};
    if (x) {
        FN(gate_part)(rows, d, x, w_ih, skew_ih, acc);
        FN(turn)(rows, skew_ih - skew_hh, acc);
    }
    if (h)
        FN(gate_part)(rows, hidden, h, w_hh, skew_hh, acc);
    FN(turn)(rows, skew_hh, acc);
    int count = rows; /* vectors, each of which holds the terms of rows/count sums */
#pragma GCC unroll 4
    for (int terms = VL; terms > 1; terms /= 2) {
        if (count == 1) {
            acc[0] = veven(acc[0], acc[0]) + vodd(acc[0], acc[0]);
            continue;
        }
        count /= 2;
#pragma GCC unroll 4
        for (int j = 0; j < count; j++)
            acc[j] = veven(acc[2 * j], acc[2 * j + 1]) + vodd(acc[2 * j], acc[2 * j + 1]);
    }
#pragma GCC unroll 4
    for (int j = 0; j < count; j++) {
        real *at = sums + j * VL;
        vstore_upto(at, accumulate ? acc[j] + vload_upto(at, rows) : acc[j], rows);
    }
}

static void FN(lstm_gates)(ptrdiff_t units, ptrdiff_t d, const void *x_, const void *w_ih_, ptrdiff_t hidden,
                           const void *h_, const void *w_hh_, void *gates_)
{
    const real *x = x_, *w_ih = w_ih_, *h = h_, *w_hh = w_hh_;
    real *gates = gates_;
    const ptrdiff_t skew_ih = x ? FN(row_skew)(d, w_ih) : 0, skew_hh = h ? FN(row_skew)(hidden, w_hh) : skew_ih;
    for (int k = 0; k < 4; k++, w_ih += hidden * d, w_hh += hidden * hidden, gates += hidden) {
        ptrdiff_t j = 0;
        for (; j + 8 <= units; j += 8)
            FN(gate_rows)(8, d, x, w_ih + j * d, skew_ih, hidden, h, w_hh + j * hidden, skew_hh, !x,
                          gates + j);
        for (; j < units; j++)
            FN(gate_rows)(1, d, x, w_ih + j * d, skew_ih, hidden, h, w_hh + j * hidden, skew_hh, !x, gates + j);
    }
}

/* c = f c_prev + i g, h = o tanh c */
static void FN(lstm_cell)(ptrdiff_t n, ptrdiff_t units, ptrdiff_t hidden, void *gates_, const void *b_ih_,
                          const void *b_hh_, const void *c_prev_, void *c_, void *h_)
{
    const real *b_ih = b_ih_, *b_hh = b_hh_, *c_prev = c_prev_;
    real *gates = gates_, *c = c_, *h = h_;
    for (ptrdiff_t r = 0; r < n; r++, gates += 4 * hidden, c += hidden, h += hidden) {
        for (ptrdiff_t j = 0; j < units; j += VL) {
            const ptrdiff_t lanes = units - j;
            vec a[4];
#pragma GCC unroll 4
            for (int k = 0; k < 4; k++) {
                a[k] = vload_upto(gates + k * hidden + j, lanes);
                if (b_ih)
                    a[k] += vload_upto(b_ih + k * hidden + j, lanes);
                if (b_hh)
                    a[k] += vload_upto(b_hh + k * hidden + j, lanes);
            }
            const vec i = vsigmoid(a[0]), f = vsigmoid(a[1]), g = vtanh(a[2]), o = vsigmoid(a[3]);
            vec cell = i * g;
            if (c_prev)
                cell += f * vload_upto(c_prev + r * hidden + j, lanes);
            vstore_upto(gates + j, i, lanes);
            vstore_upto(gates + hidden + j, f, lanes);
            vstore_upto(gates + 2 * hidden + j, g, lanes);
            vstore_upto(gates + 3 * hidden + j, o, lanes);
            vstore_upto(c + j, cell, lanes);
            vstore_upto(h + j, o * vtanh(cell), lanes);
        }
    }
}

static void FN(lstm_cell_backward)(ptrdiff_t n, ptrdiff_t units, ptrdiff_t hidden, const void *gates_,
                                   const void *c_prev_, const void *c_, const void *dh_, const void *dy_, void *dc_,
                                   void *dgates_, void *dbias_)
{
    const real *gates = gates_, *c_prev = c_prev_, *c = c_, *dh = dh_, *dy = dy_;
    real *dc = dc_, *dgates = dgates_, *dbias = dbias_;
    for (ptrdiff_t j = 0; j < units; j += VL) {
        const ptrdiff_t lanes = units - j;
        vec sum[4] = {0};
        for (ptrdiff_t r = 0; r < n; r++) {
            const real *a = gates + r * 4 * hidden + j;
            const ptrdiff_t at = r * hidden + j;
            const vec i = vload_upto(a, lanes), f = vload_upto(a + hidden, lanes);
            const vec g = vload_upto(a + 2 * hidden, lanes), o = vload_upto(a + 3 * hidden, lanes);
            const vec tanh_c = vtanh(vload_upto(c + at, lanes));
            vec d = vload_upto(dh + at, lanes);
            if (dy)
                d += vload_upto(dy + at, lanes);
            const vec dcell = vload_upto(dc + at, lanes) + d * o * (1 - tanh_c * tanh_c);
            const vec before = c_prev ? vload_upto(c_prev + at, lanes) : (vec){0};
            const vec da[4] = {dcell * g * i * (1 - i), dcell * before * f * (1 - f), dcell * i * (1 - g * g),
                               d * tanh_c * o * (1 - o)};
            vstore_upto(dc + at, dcell * f, lanes);
#pragma GCC unroll 4
            for (int k = 0; k < 4; k++) {
                vstore_upto(dgates + (r * 4 + k) * hidden + j, da[k], lanes);
                sum[k] += da[k];
            }
        }
        if (dbias)
#pragma GCC unroll 4
            for (int k = 0; k < 4; k++)
                vstore_upto(dbias + k * hidden + j, vload_upto(dbias + k * hidden + j, lanes) + sum[k], lanes);
    }
}

static const fnn_recurrent_ukernels FN(recurrent_ukernels) = {
    .lstm_gates = FN(lstm_gates),
    .lstm_cell = FN(lstm_cell),
    .lstm_cell_backward = FN(lstm_cell_backward),
};
