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

/* dst[t] = src[first + t*step], zero outside [0, w) */
static void FN(gather_row)(const void *src_, ptrdiff_t w, ptrdiff_t first, ptrdiff_t step, ptrdiff_t count, void *dst_)
{
    const real *src = src_;
    real *dst = dst_;
    ptrdiff_t lo, hi;
    FN(clip)(w, first, step, count, &lo, &hi);
    for (ptrdiff_t t = 0; t < lo; t++)
        dst[t] = 0;
    ptrdiff_t t = lo;
    if (step == 1) {
        for (; t + VL <= hi; t += VL)
            vstore(dst + t, vload(src + first + t));
    } else if (step == 2) {
        for (; t + VL < hi; t += VL) { /* strictly: the last odd neighbour is read too */
            const real *s = src + first + 2 * t;
            vstore(dst + t, veven(vload(s), vload(s + VL)));
        }
    }
    for (; t < hi; t++)
        dst[t] = src[first + t * step];
    for (; t < count; t++)
        dst[t] = 0;
}

/* dst[first + t*step] += src[t], dropped outside [0, w): the adjoint of gather_row */
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

/* dst[t*step] = src[t] */
static void FN(put_row)(const void *src_, ptrdiff_t count, void *dst_, ptrdiff_t step)
{
    const real *src = src_;
    real *dst = dst_;
    if (step == 1)
        memcpy(dst, src, (size_t)count * sizeof(real));
    else
        for (ptrdiff_t t = 0; t < count; t++)
            dst[t * step] = src[t];
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

/* sums[t] += sum over the lines of sum_v dy[line.y + v] src[line.start + off[t] + v], for `taps` taps */
FNN_INLINE void FN(tap_sums_n)(const int taps, ptrdiff_t nlines, const fnn_line *lines, const real *src,
                               const ptrdiff_t *off, const real *dy, real *sums)
{
    vec acc[8];
#pragma GCC unroll 8
    for (int t = 0; t < taps; t++)
        acc[t] = (vec){0};
    for (ptrdiff_t l = 0; l < nlines; l++) {
        const real *s = src + lines[l].start, *d = dy + lines[l].y;
        const ptrdiff_t n = lines[l].length;
        ptrdiff_t v = 0;
        for (; v + VL <= n; v += VL) {
            const vec dv = vload(d + v);
#pragma GCC unroll 8
            for (int t = 0; t < taps; t++)
                acc[t] += dv * vload(s + off[t] + v);
        }
        if (v < n) {
            const vec dv = vload_n(d + v, n - v);
#pragma GCC unroll 8
            for (int t = 0; t < taps; t++)
                acc[t] += dv * vload_n(s + off[t] + v, n - v);
        }
    }
#pragma GCC unroll 8
    for (int t = 0; t < taps; t++)
        sums[t] += vsum(acc[t]);
}

static void FN(tap_sums)(ptrdiff_t nlines, const fnn_line *lines, const void *src, ptrdiff_t taps,
                         const ptrdiff_t *off, const void *dy, void *sums_)
{
    real *sums = sums_;
    ptrdiff_t t = 0;
    for (; t + 8 <= taps; t += 8)
        FN(tap_sums_n)(8, nlines, lines, src, off + t, dy, sums + t);
    for (; t + 3 <= taps; t += 3)
        FN(tap_sums_n)(3, nlines, lines, src, off + t, dy, sums + t);
    for (; t < taps; t++)
        FN(tap_sums_n)(1, nlines, lines, src, off + t, dy, sums + t);
}

static const fnn_conv_ukernels FN(conv_ukernels) = {
    .gather_row = FN(gather_row),
    .scatter_row = FN(scatter_row),
    .put_row = FN(put_row),
    .tap_row = FN(tap_row),
    .tap_sums = FN(tap_sums),
};
