/* The pointwise part of recurrent cells: all gates of a unit in one pass. Lanes are hidden units. */

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
    .lstm_cell = FN(lstm_cell),
    .lstm_cell_backward = FN(lstm_cell_backward),
};
