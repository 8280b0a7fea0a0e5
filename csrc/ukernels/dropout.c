/* Dropout: y = x * (scale or 0) by Bernoulli trials of the elements (philox.c), or of rows of them. The backward pass
 * takes the bits of the trials from memory: drawing them again takes longer than reading one bit an element. */

/* y[i] = x[i] * m + c: m is scale and c is kept where bit i of keep is set, else m is 0 and c is dropped; without
 * `shifted`, there is no c. Dropped infinities and NaN are NaN, and the sign of zeros is x's. */
FNN_INLINE void FN(apply_bits)(const uint32_t *keep, ptrdiff_t n, const real *x, real *y, vec scale, int shifted,
                               vec kept, vec dropped, int past)
{
    for (ptrdiff_t i = 0; i < n; i += VL) {
        const lanes m = vlanes(keep[i / 32] >> i % 32);
        vec v = vload_upto(x + i, n - i) * vpick(m, scale, (vec){0});
        if (shifted)
            v += vpick(m, kept, dropped);
        if (past && n - i >= VL)
            vstream(y + i, v);
        else
            vstore_upto(y + i, v, n - i);
    }
}

FNN_INLINE void FN(dropout_loop)(const fnn_bernoulli *b, ptrdiff_t first, ptrdiff_t n, const real *x, real *y,
                                 uint32_t *bits, int shifted, int past)
{
    const philox_keys keys = philox_schedule(b->seed);
    const vec scale = vset1((real)b->scale), kept = vset1((real)b->kept), dropped = vset1((real)b->dropped);
    for (ptrdiff_t i = 0; i < n; i += FNN_DRAWS) {
        uint32_t keep[FNN_DRAWS / 32];
        bernoulli(&keys, b, first + i, keep);
        if (bits)
            memcpy(bits + i / 32, keep, sizeof keep);
        if (n - i >= FNN_DRAWS)
            FN(apply_bits)(keep, FNN_DRAWS, x + i, y + i, scale, shifted, kept, dropped, past);
        else
            FN(apply_bits)(keep, n - i, x + i, y + i, scale, shifted, kept, dropped, 0);
    }
    if (past)
        vstream_end();
}

static void FN(dropout)(const fnn_bernoulli *b, ptrdiff_t first, ptrdiff_t n, const void *x_, void *y_, uint32_t *bits,
                        int past)
{
    const real *x = (const real *)x_ + first;
    real *y = (real *)y_ + first;
    if (bits)
        bits += first / 32;
    past = past && vstream_head(y, n) == 0;
    if (b->shifted)
        FN(dropout_loop)(b, first, n, x, y, bits, 1, past);
    else
        FN(dropout_loop)(b, first, n, x, y, bits, 0, past);
}

static void FN(dropout_masked)(const uint32_t *keep, ptrdiff_t first, ptrdiff_t n, double scale, const void *x_,
                               void *y_, int past)
{
    const real *x = (const real *)x_ + first;
    real *y = (real *)y_ + first;
    if (past && vstream_head(y, n) == 0) {
        FN(apply_bits)(keep + first / 32, n, x, y, vset1((real)scale), 0, (vec){0}, (vec){0}, 1);
        vstream_end();
    } else
        FN(apply_bits)(keep + first / 32, n, x, y, vset1((real)scale), 0, (vec){0}, (vec){0}, 0);
}

static void FN(dropout_bits)(const fnn_bernoulli *b, ptrdiff_t first, ptrdiff_t n, uint32_t *keep)
{
    const philox_keys keys = philox_schedule(b->seed);
    for (ptrdiff_t i = first; i < first + n; i += FNN_DRAWS)
        bernoulli(&keys, b, i, keep + i / 32);
}

static void FN(dropout_rows)(const uint32_t *keep, ptrdiff_t first, ptrdiff_t rows, ptrdiff_t s, double scale,
                             const void *x_, void *y_, int past)
{
    for (ptrdiff_t r = first; r < first + rows; r++) {
        const real *x = (const real *)x_ + r * s;
        real *y = (real *)y_ + r * s;
        const vec m = vset1(keep[r / 32] >> r % 32 & 1 ? (real)scale : 0);
        ptrdiff_t i = 0;
        if (past) {
            i = vstream_head(y, s);
            for (ptrdiff_t k = 0; k < i; k++)
                y[k] = x[k] * m[0];
            for (; i + VL <= s; i += VL)
                vstream(y + i, vload(x + i) * m);
        }
        for (; i < s; i += VL)
            vstore_upto(y + i, vload_upto(x + i, s - i) * m, s - i);
    }
    if (past)
        vstream_end();
}

static const fnn_dropout_ukernels FN(dropout_ukernels) = {
    .dropout = FN(dropout),
    .masked = FN(dropout_masked),
    .bits = FN(dropout_bits),
    .rows = FN(dropout_rows),
};
