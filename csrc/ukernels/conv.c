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

static const fnn_conv_ukernels FN(conv_ukernels) = {
    .gather_row = FN(gather_row),
    .scatter_row = FN(scatter_row),
    .put_row = FN(put_row),
};
