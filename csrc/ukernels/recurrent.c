/* Products of one sample, a matrix times a vector: with the weights as they are, rows side by side whose sums are
 * collected in lanes; with packed weights, as gemm.tile would do it.
 *
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

/* c[j] (+)= the sums of `rows` rows, 8 or 1: VL chains, and the tree of vsum. */
FNN_INLINE void FN(gate_rows)(const int rows, ptrdiff_t k, const real *w, const real *v, ptrdiff_t skew, real *c,
                              int accumulate)
{
    vec acc[8];
#pragma GCC unroll 8
    for (int j = 0; j < rows; j++)
        acc[j] = (vec){0};
    FN(gate_part)(rows, k, v, w, skew, acc);
    FN(turn)(rows, skew, acc);
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
        real *at = c + j * VL;
        vstore_upto(at, accumulate ? acc[j] + vload_upto(at, rows) : acc[j], rows);
    }
}

static void FN(matvec)(ptrdiff_t rows, ptrdiff_t k, const void *w_, const void *v_, void *c_, int accumulate)
{
    const real *w = w_, *v = v_;
    real *c = c_;
    const ptrdiff_t skew = FN(row_skew)(k, w);
    ptrdiff_t j = 0;
    for (; j + 8 <= rows; j += 8)
        FN(gate_rows)(8, k, w + j * k, v, skew, c + j, accumulate);
    for (; j < rows; j++)
        FN(gate_rows)(1, k, w + j * k, v, skew, c + j, accumulate);
}

FNN_INLINE void FN(row_of)(const int panels, ptrdiff_t k, const real *v, const fnn_panel *panel, ptrdiff_t pitch)
{
    vec acc[4][2];
    const real *w[4];
#pragma GCC unroll 4
    for (int j = 0; j < panels; j++)
        acc[j][0] = acc[j][1] = (vec){0}, w[j] = panel[j].w;
    for (ptrdiff_t p = 0; p < k; p++) {
        const vec vp = vset1(v[p]);
#pragma GCC unroll 4
        for (int j = 0; j < panels; j++) {
            acc[j][0] += vp * vload(w[j] + p * pitch);
            acc[j][1] += vp * vload(w[j] + p * pitch + VL);
        }
    }
#pragma GCC unroll 4
    for (int j = 0; j < panels; j++) {
        real *c = panel[j].c;
        for (int half = 0; half < 2 && half * VL < panel[j].width; half++, c += VL) {
            const ptrdiff_t lanes = panel[j].width - half * VL;
            vstore_upto(c, panel[j].accumulate ? acc[j][half] + vload_upto(c, lanes) : acc[j][half], lanes);
        }
    }
}

static void FN(row)(int panels, ptrdiff_t k, const void *v, const fnn_panel *panel, ptrdiff_t pitch)
{
    switch (panels) {
    case 1: FN(row_of)(1, k, v, panel, pitch); break;
    case 2: FN(row_of)(2, k, v, panel, pitch); break;
    case 3: FN(row_of)(3, k, v, panel, pitch); break;
    default: FN(row_of)(4, k, v, panel, pitch);
    }
}

/* ---- cells ---- */

/* The argument of gate k of unit j: the products so far, + b_ih, + b_hh. */
FNN_INLINE vec FN(gate)(const fnn_cell *s, const real *gates, const int k, ptrdiff_t j, ptrdiff_t lanes)
{
    const real *b_ih = s->b_ih, *b_hh = s->b_hh;
    vec a = vload_upto(gates + k * s->hidden + j, lanes);
    if (b_ih)
        a += vload_upto(b_ih + k * s->hidden + j, lanes);
    if (b_hh)
        a += vload_upto(b_hh + k * s->hidden + j, lanes);
    return a;
}

FNN_INLINE void FN(put_gates)(const fnn_cell *s, real *gates, const int columns, const vec *value, ptrdiff_t j,
                              ptrdiff_t lanes)
{
    if (s->keep)
#pragma GCC unroll 4
        for (int k = 0; k < columns; k++)
            vstore_upto(gates + k * s->hidden + j, value[k], lanes);
}

/* h to the result, and to the state unless that is made elsewhere. */
FNN_INLINE void FN(put_h)(const fnn_cell *s, ptrdiff_t at, vec h, ptrdiff_t lanes)
{
    vstore_upto((real *)s->y + at, h, lanes);
    if (s->h)
        vstore_upto((real *)s->h + at, h, lanes);
}

/* Runs the body for vectors of units j of each sample r: `at` is their place in states, `lanes` how many are left. */
#undef FNN_EACH_UNIT
#define FNN_EACH_UNIT(s)                                                      \
    for (ptrdiff_t r = 0; r < (s)->n; r++)                                    \
        for (ptrdiff_t j = 0, lanes = (s)->units, at = r * (s)->hidden; j < (s)->units; \
             j += VL, lanes -= VL, at += VL)

/* h = f(a) */
FNN_INLINE void FN(rnn_forward)(const fnn_cell *s, const int relu)
{
    FNN_EACH_UNIT(s) {
        const vec a = FN(gate)(s, (const real *)s->gates + r * s->hidden, 0, j, lanes);
        FN(put_h)(s, at, relu ? vrelu(a) : vtanh(a), lanes);
    }
}

static void FN(rnn_tanh_forward)(const fnn_cell *s) { FN(rnn_forward)(s, 0); }
static void FN(rnn_relu_forward)(const fnn_cell *s) { FN(rnn_forward)(s, 1); }

/* c = f c + i g, h = o tanh c; kept: i, f, g, o */
static void FN(lstm_forward)(const fnn_cell *s)
{
    real *c = s->c, *c_kept = s->c_kept;
    FNN_EACH_UNIT(s) {
        real *gates = (real *)s->gates + r * 4 * s->hidden;
        const vec i = vsigmoid(FN(gate)(s, gates, 0, j, lanes)), f = vsigmoid(FN(gate)(s, gates, 1, j, lanes));
        const vec g = vtanh(FN(gate)(s, gates, 2, j, lanes)), o = vsigmoid(FN(gate)(s, gates, 3, j, lanes));
        const vec cell = i * g + f * vload_upto(c + at, lanes);
        FN(put_gates)(s, gates, 4, (vec[]){i, f, g, o}, j, lanes);
        vstore_upto(c + at, cell, lanes);
        if (c_kept)
            vstore_upto(c_kept + at, cell, lanes);
        FN(put_h)(s, at, o * vtanh(cell), lanes);
    }
}

/* The fourth column of gates is w_hn h. n = tanh(a + r (w_hn h + b_hn)), h = (1 - z) n + z h; kept: r, z, n and
 * w_hn h + b_hn */
static void FN(gru_forward)(const fnn_cell *s)
{
    const real *h = s->h, *b_ih = s->b_ih, *b_hh = s->b_hh;
    FNN_EACH_UNIT(s) {
        real *gates = (real *)s->gates + r * 4 * s->hidden;
        const vec reset = vsigmoid(FN(gate)(s, gates, 0, j, lanes)), z = vsigmoid(FN(gate)(s, gates, 1, j, lanes));
        vec a = vload_upto(gates + 2 * s->hidden + j, lanes), hidden = vload_upto(gates + 3 * s->hidden + j, lanes);
        if (b_ih)
            a += vload_upto(b_ih + 2 * s->hidden + j, lanes);
        if (b_hh)
            hidden += vload_upto(b_hh + 2 * s->hidden + j, lanes);
        const vec n = vtanh(a + reset * hidden);
        FN(put_gates)(s, gates, 4, (vec[]){reset, z, n, hidden}, j, lanes);
        FN(put_h)(s, at, (1 - z) * n + z * vload_upto(h + at, lanes), lanes);
    }
}

/* r, z and r h; then n = tanh(a + w_hn (r h)), h = (1 - z) h + z n */
static void FN(gru_paper_reset)(const fnn_cell *s)
{
    const real *h = s->h;
    FNN_EACH_UNIT(s) {
        real *gates = (real *)s->gates + r * 3 * s->hidden;
        const vec reset = vsigmoid(FN(gate)(s, gates, 0, j, lanes)), z = vsigmoid(FN(gate)(s, gates, 1, j, lanes));
        vstore_upto(gates + j, reset, lanes);
        vstore_upto(gates + s->hidden + j, z, lanes);
        vstore_upto((real *)s->reset + at, reset * vload_upto(h + at, lanes), lanes);
    }
}

static void FN(gru_paper_forward)(const fnn_cell *s)
{
    const real *h = s->h;
    FNN_EACH_UNIT(s) {
        real *gates = (real *)s->gates + r * 3 * s->hidden;
        const vec z = vload_upto(gates + s->hidden + j, lanes), n = vtanh(FN(gate)(s, gates, 2, j, lanes));
        if (s->keep)
            vstore_upto(gates + 2 * s->hidden + j, n, lanes);
        FN(put_h)(s, at, (1 - z) * vload_upto(h + at, lanes) + z * n, lanes);
    }
}

/* ---- and back ---- */

/* The same for vectors of units of all samples, one vector after the other, with sums over the samples. */
#undef FNN_EACH_SAMPLE
#define FNN_EACH_SAMPLE(s) for (ptrdiff_t r = 0, at = j; r < (s)->n; r++, at += (s)->hidden)
#undef FNN_EACH_VECTOR
#define FNN_EACH_VECTOR(s) for (ptrdiff_t j = 0, lanes = (s)->units; j < (s)->units; j += VL, lanes -= VL)

FNN_INLINE vec FN(gradient_at_h)(const fnn_cell_gradient *s, ptrdiff_t at, ptrdiff_t lanes)
{
    const vec d = vload_upto((const real *)s->dh + at, lanes);
    return s->dy ? d + vload_upto((const real *)s->dy + at, lanes) : d;
}

FNN_INLINE void FN(put_dgate)(const fnn_cell_gradient *s, const int k, const int columns, ptrdiff_t r, ptrdiff_t j,
                              vec da, ptrdiff_t lanes)
{
    vstore_upto((real *)s->dgates + (r * columns + k) * s->hidden + j, da, lanes);
}

FNN_INLINE void FN(add_dbias)(const fnn_cell_gradient *s, const int k, ptrdiff_t j, vec sum, ptrdiff_t lanes)
{
    real *at = (real *)s->dbias + k * s->hidden + j;
    if (s->dbias)
        vstore_upto(at, vload_upto(at, lanes) + sum, lanes);
}

FNN_INLINE void FN(rnn_backward)(const fnn_cell_gradient *s, const int relu)
{
    FNN_EACH_VECTOR(s) {
        vec sum = {0};
        FNN_EACH_SAMPLE(s) {
            const vec d = FN(gradient_at_h)(s, at, lanes), h = vload_upto((const real *)s->after + at, lanes);
            const vec da = relu ? vsel(h > (vec){0}, d, (vec){0}) : d * (1 - h * h);
            FN(put_dgate)(s, 0, 1, r, j, da, lanes);
            sum += da;
        }
        FN(add_dbias)(s, 0, j, sum, lanes);
    }
}

static void FN(rnn_tanh_backward)(const fnn_cell_gradient *s) { FN(rnn_backward)(s, 0); }
static void FN(rnn_relu_backward)(const fnn_cell_gradient *s) { FN(rnn_backward)(s, 1); }

static void FN(lstm_backward)(const fnn_cell_gradient *s)
{
    real *dc = s->dc;
    FNN_EACH_VECTOR(s) {
        vec sum[4] = {0};
        FNN_EACH_SAMPLE(s) {
            const real *a = (const real *)s->gates + r * 4 * s->hidden + j;
            const vec i = vload_upto(a, lanes), f = vload_upto(a + s->hidden, lanes);
            const vec g = vload_upto(a + 2 * s->hidden, lanes), o = vload_upto(a + 3 * s->hidden, lanes);
            const vec tanh_c = vtanh(vload_upto((const real *)s->after + at, lanes));
            const vec d = FN(gradient_at_h)(s, at, lanes);
            const vec dcell = vload_upto(dc + at, lanes) + d * o * (1 - tanh_c * tanh_c);
            const vec before = vload_upto((const real *)s->before + at, lanes);
            const vec da[4] = {dcell * g * i * (1 - i), dcell * before * f * (1 - f), dcell * i * (1 - g * g),
                               d * tanh_c * o * (1 - o)};
            vstore_upto(dc + at, dcell * f, lanes);
#pragma GCC unroll 4
            for (int k = 0; k < 4; k++) {
                FN(put_dgate)(s, k, 4, r, j, da[k], lanes);
                sum[k] += da[k];
            }
        }
#pragma GCC unroll 4
        for (int k = 0; k < 4; k++)
            FN(add_dbias)(s, k, j, sum[k], lanes);
    }
}

/* dgates: at the arguments of r, z, n, and at w_hn h + b_hn */
static void FN(gru_backward)(const fnn_cell_gradient *s)
{
    FNN_EACH_VECTOR(s) {
        vec sum[4] = {0};
        FNN_EACH_SAMPLE(s) {
            const real *a = (const real *)s->gates + r * 4 * s->hidden + j;
            const vec reset = vload_upto(a, lanes), z = vload_upto(a + s->hidden, lanes);
            const vec n = vload_upto(a + 2 * s->hidden, lanes), hidden = vload_upto(a + 3 * s->hidden, lanes);
            const vec before = vload_upto((const real *)s->before + at, lanes);
            const vec d = FN(gradient_at_h)(s, at, lanes);
            const vec dn = d * (1 - z) * (1 - n * n);
            const vec da[4] = {dn * hidden * reset * (1 - reset), d * (before - n) * z * (1 - z), dn, dn * reset};
            vstore_upto((real *)s->dh + at, d * z, lanes);
#pragma GCC unroll 4
            for (int k = 0; k < 4; k++) {
                FN(put_dgate)(s, k, 4, r, j, da[k], lanes);
                sum[k] += da[k];
            }
        }
#pragma GCC unroll 4
        for (int k = 0; k < 4; k++)
            FN(add_dbias)(s, k, j, sum[k], lanes);
    }
}

/* At the arguments of z and n; then, with the gradient at r h, at that of r. */
static void FN(gru_paper_backward)(const fnn_cell_gradient *s)
{
    FNN_EACH_VECTOR(s) {
        vec sum[2] = {0};
        FNN_EACH_SAMPLE(s) {
            const real *a = (const real *)s->gates + r * 3 * s->hidden + j;
            const vec z = vload_upto(a + s->hidden, lanes), n = vload_upto(a + 2 * s->hidden, lanes);
            const vec before = vload_upto((const real *)s->before + at, lanes);
            const vec d = FN(gradient_at_h)(s, at, lanes);
            const vec dz = d * (n - before) * z * (1 - z), dn = d * z * (1 - n * n);
            vstore_upto((real *)s->dh + at, d * (1 - z), lanes);
            FN(put_dgate)(s, 1, 3, r, j, dz, lanes);
            FN(put_dgate)(s, 2, 3, r, j, dn, lanes);
            sum[0] += dz, sum[1] += dn;
        }
        FN(add_dbias)(s, 1, j, sum[0], lanes);
        FN(add_dbias)(s, 2, j, sum[1], lanes);
    }
}

static void FN(gru_paper_reset_backward)(const fnn_cell_gradient *s)
{
    FNN_EACH_VECTOR(s) {
        vec sum = {0};
        FNN_EACH_SAMPLE(s) {
            const vec reset = vload_upto((const real *)s->gates + r * 3 * s->hidden + j, lanes);
            const vec d = vload_upto((const real *)s->dreset + at, lanes);
            const vec dr = d * vload_upto((const real *)s->before + at, lanes) * reset * (1 - reset);
            real *dh = (real *)s->dh + at;
            vstore_upto(dh, vload_upto(dh, lanes) + d * reset, lanes);
            FN(put_dgate)(s, 0, 3, r, j, dr, lanes);
            sum += dr;
        }
        FN(add_dbias)(s, 0, j, sum, lanes);
    }
}

static const fnn_recurrent_ukernels FN(recurrent_ukernels) = {
    .row = FN(row),
    .matvec = FN(matvec),
    .forward = {[FNN_RNN_TANH] = {FN(rnn_tanh_forward)},
                [FNN_RNN_RELU] = {FN(rnn_relu_forward)},
                [FNN_LSTM] = {FN(lstm_forward)},
                [FNN_GRU] = {FN(gru_forward)},
                [FNN_GRU_PAPER] = {FN(gru_paper_reset), FN(gru_paper_forward)}},
    .backward = {[FNN_RNN_TANH] = {FN(rnn_tanh_backward)},
                 [FNN_RNN_RELU] = {FN(rnn_relu_backward)},
                 [FNN_LSTM] = {FN(lstm_backward)},
                 [FNN_GRU] = {FN(gru_backward)},
                 [FNN_GRU_PAPER] = {FN(gru_paper_backward), FN(gru_paper_reset_backward)}},
};
