/* Rows of an image seen through a kernel tap: the one primitive of im2col, of padding, and of their adjoints. */

/* The t in [0, count) with 0 <= first + t*step < w are [*lo, *hi). step >= 1. */
FNN_INLINE void FN(clip)(ptrdiff_t w, ptrdiff_t first, ptrdiff_t step, ptrdiff_t count, ptrdiff_t *lo, ptrdiff_t *hi)
{
    ptrdiff_t l = first < 0 ? (-first + step - 1) / step : 0;
    ptrdiff_t h = first >= w ? 0 : (w - first + step - 1) / step;
    if (l > count)
        l = count;
    if (h > count)
        h = count;
    *lo = l;
    *hi = h < l ? l : h;
}

/* dst[t] = src[t*step], t < n; step is a constant where it is 1, 2 or 4 */
FNN_INLINE void FN(gather)(const real *src, ptrdiff_t n, const ptrdiff_t step, real *dst)
{
    ptrdiff_t t = 0;
    if (step == 1) {
        for (; t + VL <= n; t += VL)
            vstore(dst + t, vload(src + t));
        if (t < n)
            vstore_n(dst + t, vload_n(src + t, n - t), n - t);
        return;
    }
    /* whole vectors read step - 1 elements more than they use: only while another one follows */
    for (; (step == 2 || step == 4) && t + VL < n; t += VL) {
        const real *s = src + step * t;
        vec v = veven(vload(s), vload(s + VL));
        if (step == 4)
            v = veven(v, veven(vload(s + 2 * VL), vload(s + 3 * VL)));
        vstore(dst + t, v);
    }
    if (step == 2 && t < n) {
        const real *s = src + 2 * t;
        const ptrdiff_t left = 2 * (n - t) - 1;
        const vec low = vload_upto(s, left), high = left > VL ? vload_n(s + VL, left - VL) : (vec){0};
        vstore_upto(dst + t, veven(low, high), n - t);
        return;
    }
    for (; t < n; t++)
        dst[t] = src[t * step];
}

/* For every row: dst[t] = src[first + t*step] for t < count, zero outside [0, w) */
static void FN(gather_rows)(ptrdiff_t rows, const void *src_, ptrdiff_t src_row, ptrdiff_t w, ptrdiff_t first,
                            ptrdiff_t step, ptrdiff_t count, void *dst_, ptrdiff_t dst_row)
{
    const real *src = src_;
    real *dst = dst_;
    ptrdiff_t lo, hi;
    FN(clip)(w, first, step, count, &lo, &hi);
    for (ptrdiff_t r = 0; r < rows; r++, src += src_row, dst += dst_row) {
        const real *s = src + first + lo * step;
        for (ptrdiff_t t = 0; t < lo; t++)
            dst[t] = 0;
        if (step == 1)
            FN(gather)(s, hi - lo, 1, dst + lo);
        else if (step == 2)
            FN(gather)(s, hi - lo, 2, dst + lo);
        else if (step == 4)
            FN(gather)(s, hi - lo, 4, dst + lo);
        else
            FN(gather)(s, hi - lo, step, dst + lo);
        for (ptrdiff_t t = hi; t < count; t++)
            dst[t] = 0;
    }
}

/* dst[first + t*step] += src[t], dropped outside [0, w): the adjoint of gathering */
static void FN(scatter_row)(const void *src_, ptrdiff_t count, void *dst_, ptrdiff_t w, ptrdiff_t first, ptrdiff_t step)
{
    const real *src = src_;
    real *dst = dst_;
    ptrdiff_t lo, hi;
    FN(clip)(w, first, step, count, &lo, &hi);
    ptrdiff_t t = lo;
    if (step == 1) {
        for (; t + VL <= hi; t += VL)
            vstore(dst + first + t, vload(dst + first + t) + vload(src + t));
    }
    for (; t < hi; t++)
        dst[first + t * step] += src[t];
}

/* dst[t*step] = src[t], t < n */
FNN_INLINE void FN(put)(const real *src, ptrdiff_t n, real *dst, ptrdiff_t step)
{
    ptrdiff_t t = 0;
    if (step == 1) {
        for (; t + VL <= n; t += VL)
            vstore(dst + t, vload(src + t));
        if (t < n)
            vstore_n(dst + t, vload_n(src + t, n - t), n - t);
        return;
    }
    if (step == 2) {
        const ivec even = (viota() & 1) == 0;
        for (; t + VL < n; t += VL) { /* strictly: the last odd neighbour is not ours */
            const vec v = vload(src + t);
            real *d = dst + 2 * t;
            vstore(d, vsel(even, vzip_lo(v, v), vload(d)));
            vstore(d + VL, vsel(even, vzip_hi(v, v), vload(d + VL)));
        }
    }
    for (; t < n; t++)
        dst[t * step] = src[t];
}

/* For every row, run after run of src to dst[start], dst[start + step], … */
static void FN(put_rows)(ptrdiff_t rows, const void *src_, ptrdiff_t src_row, ptrdiff_t nruns, const fnn_run *runs,
                         void *dst_, ptrdiff_t dst_row, ptrdiff_t step)
{
    const real *src = src_;
    real *dst = dst_;
    for (ptrdiff_t i = 0; i < nruns; src += runs[i].length, i++)
        for (ptrdiff_t r = 0; r < rows; r++)
            FN(put)(src + r * src_row, runs[i].length, dst + runs[i].start + r * dst_row, step);
}

/* One row of a correlation with one channel: y[v] = bias + sum_t w[t] src[off[t] + v]. Several vectors at a time share
 * the broadcast weight and hide the latency of the additions. */
FNN_INLINE void FN(tap_vectors)(const int vectors, const real *src, ptrdiff_t taps, const ptrdiff_t *off,
                                const real *w, vec bias, int flags, real *y)
{
    vec acc[4];
#pragma GCC unroll 4
    for (int i = 0; i < vectors; i++)
        acc[i] = (vec){0};
    for (ptrdiff_t t = 0; t < taps; t++) {
        const real *s = src + off[t];
        const vec wt = vset1(w[t]);
#pragma GCC unroll 4
        for (int i = 0; i < vectors; i++)
            acc[i] += wt * vload(s + i * VL);
    }
#pragma GCC unroll 4
    for (int i = 0; i < vectors; i++) {
        const vec v = acc[i] + bias;
        vstore(y + i * VL, flags & FNN_RELU ? vrelu(v) : v);
    }
}

static void FN(tap_row)(ptrdiff_t n, const void *src_, ptrdiff_t taps, const ptrdiff_t *off, const void *w_,
                        const void *bias_, int flags, void *y_)
{
    const real *src = src_, *w = w_;
    const vec bias = vset1(bias_ ? *(const real *)bias_ : 0);
    real *y = y_;
    ptrdiff_t v = 0;
    for (; v + 4 * VL <= n; v += 4 * VL)
        FN(tap_vectors)(4, src + v, taps, off, w, bias, flags, y + v);
    for (; v + VL <= n; v += VL)
        FN(tap_vectors)(1, src + v, taps, off, w, bias, flags, y + v);
    if (v < n) {
        vec acc = {0};
        for (ptrdiff_t t = 0; t < taps; t++)
            acc += vset1(w[t]) * vload_n(src + off[t] + v, n - v);
        acc += bias;
        vstore_n(y + v, flags & FNN_RELU ? vrelu(acc) : acc, n - v);
    }
}

static const fnn_conv_ukernels FN(conv_ukernels) = {
    .gather_rows = FN(gather_rows),
    .scatter_row = FN(scatter_row),
    .put_rows = FN(put_rows),
    .tap_row = FN(tap_row),
};
