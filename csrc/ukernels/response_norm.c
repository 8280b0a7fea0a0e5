/* Local response normalisation across channels: y = x d^-beta, d = k + scale * (sum of squares of a window's channels).
 *
 * Lanes are columns. A channel of all columns of the task follows the other, so that the window's rows stay in the
 * first-level cache. Windows are summed anew: a sum that slides would keep the rounding of what has left it.
 */

/* d^-1/2 for normal d: an approximation with a relative error of 2^-14, and a step that triples the digits. */
#define vinverse_root FN(vinverse_root)
FNN_INLINE vec vinverse_root(vec d)
{
#if defined(FNN_BUILD_AVX512)
#if FNN_BITS == 32
    vec r = (vec)_mm512_rsqrt14_ps((__m512)d);
#else
    vec r = (vec)_mm512_rsqrt14_pd((__m512d)d);
#endif
#pragma GCC unroll 2
    for (int step = 0; step < FNN_BITS / 32; step++) {
        const vec e = 1 - (d * r) * r;
        r += r * e * (e * vset1((real)0.375) + vset1((real)0.5));
    }
    return r;
#else
    for (ptrdiff_t i = 0; i < VL; i++)
        d[i] = (real)sqrt(d[i]);
    return 1 / d;
#endif
}

/* d^-3/4, and 1/d, for normal d */
FNN_INLINE vec FN(lrn_near)(vec d, vec *inverse)
{
    const vec r = vinverse_root(d);
    *inverse = r * r;
    return r * vinverse_root(r) * r;
}

/* d^-beta and 1/d, d >= 0 or NaN. usual: beta is 3/4, and no function but the root needed. */
FNN_INLINE vec FN(lrn_power)(const int usual, vec d, vec beta, vec *inverse)
{
    if (!usual) {
        *inverse = 1 / d;
        return vsel(beta == 0, vset1(1), vexp(-beta * vlog(d)));
    }
    const vec least = vset1(FNN_BITS == 32 ? (real)0x1p-126 : (real)0x1p-1022);
    if (vall_less(least, d) && vall_less(d, vset1(INFINITY)))
        return FN(lrn_near)(d, inverse);
    const ivec normal = (d >= least) & (d < vset1(INFINITY));
    const ivec small = d < least; /* 2^64 times as much is normal unless it is 0 */
    const vec power = FN(lrn_near)(vsel(normal, d, vsel(small & (d > 0), d * vset1(0x1p64), vset1(1))), inverse);
    const vec other = vsel(d == 0, vset1(INFINITY), vsel(small, power * vset1(0x1p48), vsel(d == d, (vec){0}, d)));
    *inverse = vsel(normal, *inverse, 1 / d);
    return vsel(normal, power, other);
}

FNN_INLINE void FN(lrn_put)(int past, real *p, vec v, ptrdiff_t lanes)
{
    if (lanes == VL && past)
        vstream(p, v);
    else
        vstore_upto(p, v, lanes);
}

/* k + scale * (sum of squares of `count` rows of x) */
FNN_INLINE vec FN(lrn_base)(const fnn_response_norm *p, ptrdiff_t count, const real *x, ptrdiff_t lanes)
{
    vec sum = {0};
#pragma GCC unroll 5
    for (ptrdiff_t i = 0; i < count; i++) {
        const vec v = vload_upto(x + i * p->stride, lanes);
        sum += v * v;
    }
    return vset1((real)p->k) + vset1((real)p->scale) * sum;
}

/* y of one channel, of which x is the row; the window is `count` rows from `window` on. The row that the next one has
 * more is fetched meanwhile. */
FNN_INLINE void FN(lrn_row)(const fnn_response_norm *p, const int usual, ptrdiff_t count, ptrdiff_t n,
                            const real *window, const real *x, real *y)
{
    const vec beta = vset1((real)p->beta);
    const int past = p->past;
    const ptrdiff_t head = past ? vstream_head(y, n) : 0;
    const ptrdiff_t ahead = count * p->stride;
    vec unused;
#define EACH(v, j, lanes) \
    __builtin_prefetch(window + ahead + j); \
    FN(lrn_put)(past, y + j, \
                vload_upto(x + j, lanes) * \
                    FN(lrn_power)(usual, FN(lrn_base)(p, count, window + j, lanes), beta, &unused), \
                lanes)
    if (head) {
        EACH(0, 0, head);
    }
    FNN_ALONG(head, n, EACH)
#undef EACH
}

/* Channels low.. low + count of the window of channel c. */
FNN_INLINE ptrdiff_t FN(lrn_window)(const fnn_response_norm *p, ptrdiff_t c, ptrdiff_t before, ptrdiff_t after,
                                    ptrdiff_t *low)
{
    *low = c < before ? 0 : c - before;
    return FN(least)(p->c - 1, c + after) + 1 - *low;
}

/* f(..., usual, count, ...) with constants for the usual beta and window */
#define FNN_LRN_USUAL(p, count, f, ...) \
    if ((p)->beta == 0.75 && (count) == 5) \
        f(p, 1, 5, __VA_ARGS__); \
    else if ((p)->beta == 0.75) \
        f(p, 1, count, __VA_ARGS__); \
    else \
        f(p, 0, count, __VA_ARGS__);

static void FN(response_norm)(const fnn_response_norm *p, ptrdiff_t n, const void *x_, void *y_)
{
    const real *x = x_;
    real *y = y_;
    for (ptrdiff_t c = 0; c < p->c; c++) {
        ptrdiff_t low;
        const ptrdiff_t count = FN(lrn_window)(p, c, p->before, p->after, &low);
        FNN_LRN_USUAL(p, count, FN(lrn_row), n, x + low * p->stride, x + c * p->stride, y + c * p->stride)
    }
    if (p->past)
        vstream_end();
}

/* Of one channel: direct = dy d^-beta, and indirect = dy x d^(-beta-1), which each channel of its window shares. */
FNN_INLINE void FN(lrn_row_terms)(const fnn_response_norm *p, const int usual, ptrdiff_t count, ptrdiff_t n,
                                  const real *window, const real *dy, const real *x, real *direct, real *indirect)
{
    const vec beta = vset1((real)p->beta);
    const ptrdiff_t ahead = count * p->stride;
#define EACH(v, j, lanes) \
    vec inverse; \
    __builtin_prefetch(window + ahead + j); \
    __builtin_prefetch(dy + p->stride + j); \
    const vec power = FN(lrn_power)(usual, FN(lrn_base)(p, count, window + j, lanes), beta, &inverse); \
    const vec g = vload_upto(dy + j, lanes) * power; \
    vstore_upto(direct + j, g, lanes); \
    vstore_upto(indirect + j, g * vload_upto(x + j, lanes) * inverse, lanes)
    FNN_ALONG(0, n, EACH)
#undef EACH
}

/* dx_c = direct_c - 2 scale beta x_c sum of indirect_i, the sum over the channels i whose windows hold c: those of the
 * window with `before` and `after` exchanged. Terms are kept in rings of as many rows as a window has. */
static void FN(response_norm_backward)(const fnn_response_norm *p, ptrdiff_t n, const void *dy_, const void *x_,
                                       void *dx_, void *scratch)
{
    const real *dy = dy_, *x = x_;
    const ptrdiff_t ring = p->before + p->after + 1;
    real *direct = scratch, *indirect = direct + ring * n;
    const vec factor = vset1((real)(-2 * p->scale * p->beta));
    for (ptrdiff_t i = 0; i < p->c + p->before; i++) {
        ptrdiff_t low;
        if (i < p->c) {
            const ptrdiff_t count = FN(lrn_window)(p, i, p->before, p->after, &low);
            FNN_LRN_USUAL(p, count, FN(lrn_row_terms), n, x + low * p->stride, dy + i * p->stride, x + i * p->stride,
                          direct + i % ring * n, indirect + i % ring * n)
        }
        const ptrdiff_t c = i - p->before;
        if (c < 0)
            continue;
        const ptrdiff_t count = FN(lrn_window)(p, c, p->after, p->before, &low), start = low % ring;
        const ptrdiff_t until = FN(least)(count, ring - start); /* then from the ring's first row on */
        const real *own = direct + c % ring * n, *here = x + c * p->stride;
        real *dx = (real *)dx_ + c * p->stride;
        const ptrdiff_t head = p->past ? vstream_head(dx, n) : 0;
#define EACH(v, j, lanes) \
    vec sum = {0}; \
    for (ptrdiff_t q = start; q < start + until; q++) \
        sum += vload_upto(indirect + q * n + j, lanes); \
    for (ptrdiff_t q = 0; q < count - until; q++) \
        sum += vload_upto(indirect + q * n + j, lanes); \
    FN(lrn_put)(p->past, dx + j, vload_upto(own + j, lanes) + factor * vload_upto(here + j, lanes) * sum, lanes)
        if (head) {
            EACH(0, 0, head);
        }
        FNN_ALONG(head, n, EACH)
#undef EACH
    }
    if (p->past)
        vstream_end();
}

static const fnn_response_norm_ukernels FN(response_norm_ukernels) = {
    .response_norm = FN(response_norm),
    .response_norm_backward = FN(response_norm_backward),
};
#undef FNN_LRN_USUAL
