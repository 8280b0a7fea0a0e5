/* Softmax and log-softmax over n elements `stride` apart, of w problems side by side in memory. stride 1 is one
 * contiguous problem (w = 1), vectorised along it; otherwise lanes are problems, and w <= FNN_COLUMNS.
 *
 * With m the maximum, e^(x-m) <= 1 and its sum is in [1, n]: nothing overflows. A NaN is passed over by the
 * maximum and reaches every result through the sum; so do the NaNs of inf - inf, when m is infinite.
 */

#undef FNN_PLACES
#define FNN_PLACES ((ptrdiff_t)1 << 20) /* rows whose places are counted together */
/* Terms that are added up before their sum is added to those of the terms before: a long sum would lose its terms, as
 * 2^24 loses a 1 in single precision. */
#undef FNN_TERMS
#define FNN_TERMS ((ptrdiff_t)1 << 12)

/* x[i...] with lanes behind the end of n filled by `pad`. */
#define vload_pad FN(vload_pad)
FNN_INLINE vec vload_pad(const real *x, ptrdiff_t n, real pad)
{
    return n < VL ? vsel(viota() < (inat)n, vload_n(x, n), vset1(pad)) : vload(x);
}

FNN_INLINE real FN(row_max)(ptrdiff_t n, const real *x)
{
    vec m = vset1(-INFINITY), m1 = m;
    ptrdiff_t i = 0;
    for (; i + 2 * VL <= n; i += 2 * VL) {
        m = vmax(vload(x + i), m);
        m1 = vmax(vload(x + i + VL), m1);
    }
    for (; i < n; i += VL)
        m = vmax(vload_pad(x + i, n - i, -INFINITY), m);
    m = vmax(m, m1);
    for (ptrdiff_t lanes = VL; lanes > 1; lanes /= 2)
        m = vmax(veven(m, m), vodd(m, m));
    return m[0];
}

/* Sum of e^(x-m); the terms of whole vectors in y unless it is NULL, those of the last n % VL elements in tail. */
FNN_INLINE real FN(row_exp)(ptrdiff_t n, const real *x, real m, real *y, vec *tail)
{
    vec sum = *tail = (vec){0};
    const ptrdiff_t whole = n - n % VL;
    ptrdiff_t i = 0;
    while (i < whole) {
        const ptrdiff_t end = FN(least)(whole, i + FNN_TERMS * VL);
        vec part = {0};
        for (; i < end; i += VL) {
            const vec e = vexp(vload(x + i) - m);
            if (y)
                vstore(y + i, e);
            part += e;
        }
        sum += part;
    }
    if (i < n) {
        *tail = vsel(viota() < (inat)(n - i), vexp(vload_n(x + i, n - i) - m), (vec){0});
        sum += *tail;
    }
    return vsum(sum);
}

/* max[j] and, if sum, sum[j] = Σ e^(x-max) of each column; the terms in y unless it is NULL. The buffers are a whole
 * number of vectors long; lanes behind w hold harmless values. */
FNN_INLINE void FN(columns_max)(ptrdiff_t n, ptrdiff_t stride, ptrdiff_t w, const real *x, real *max)
{
    for (ptrdiff_t j = 0; j < w; j += VL)
        vstore(max + j, vset1(-INFINITY));
    for (ptrdiff_t i = 0; i < n; i++)
        for (ptrdiff_t j = 0; j < w; j += VL)
            vstore(max + j, vmax(vload_upto(x + i * stride + j, w - j), vload(max + j)));
}

/* sum += part */
FNN_INLINE void FN(add_columns)(ptrdiff_t w, const real *part, real *sum)
{
    for (ptrdiff_t j = 0; j < w; j += VL)
        vstore(sum + j, vload(sum + j) + vload(part + j));
}

FNN_INLINE void FN(columns_exp)(ptrdiff_t n, ptrdiff_t stride, ptrdiff_t w, const real *x, const real *max, real *sum,
                                real *y)
{
    memset(sum, 0, FNN_COLUMNS * sizeof(real));
    for (ptrdiff_t first = 0; first < n; first += FNN_TERMS) {
        real part[FNN_COLUMNS] = {0};
        for (ptrdiff_t i = first; i < FN(least)(n, first + FNN_TERMS); i++)
            for (ptrdiff_t j = 0; j < w; j += VL) {
                const vec e = vexp(vload_upto(x + i * stride + j, w - j) - vload(max + j));
                if (y)
                    vstore_upto(y + i * stride + j, e, w - j);
                vstore(part + j, vload(part + j) + e);
            }
        FN(add_columns)(w, part, sum);
    }
}

/* y = e^(x-m) / Σ e^(x-m) */
static void FN(softmax)(ptrdiff_t n, ptrdiff_t stride, ptrdiff_t w, const void *x_, void *y_)
{
    const real *x = x_;
    real *y = y_;
    if (stride == 1) {
        vec tail;
        const vec scale = vset1(1 / FN(row_exp)(n, x, FN(row_max)(n, x), y, &tail));
        ptrdiff_t i = 0;
        for (; i + VL <= n; i += VL)
            vstore(y + i, vload(y + i) * scale);
        if (i < n)
            vstore_n(y + i, tail * scale, n - i);
        return;
    }
    real max[FNN_COLUMNS], scale[FNN_COLUMNS];
    FN(columns_max)(n, stride, w, x, max);
    FN(columns_exp)(n, stride, w, x, max, scale, y);
    for (ptrdiff_t j = 0; j < w; j += VL)
        vstore(scale + j, 1 / vload(scale + j));
    for (ptrdiff_t i = 0; i < n; i++)
        for (ptrdiff_t j = 0; j < w; j += VL) {
            real *p = y + i * stride + j;
            vstore_upto(p, vload_upto(p, w - j) * vload(scale + j), w - j);
        }
}

/* y = (x - m) - log Σ e^(x-m) */
static void FN(log_softmax)(ptrdiff_t n, ptrdiff_t stride, ptrdiff_t w, const void *x_, void *y_)
{
    const real *x = x_;
    real *y = y_;
    if (stride == 1) {
        const real m = FN(row_max)(n, x);
        vec tail;
        const vec log_sum = vlog(vset1(FN(row_exp)(n, x, m, NULL, &tail)));
        for (ptrdiff_t i = 0; i < n; i += VL)
            vstore_upto(y + i, (vload_upto(x + i, n - i) - m) - log_sum, n - i);
        return;
    }
    real max[FNN_COLUMNS], log_sum[FNN_COLUMNS];
    FN(columns_max)(n, stride, w, x, max);
    FN(columns_exp)(n, stride, w, x, max, log_sum, NULL);
    for (ptrdiff_t j = 0; j < w; j += VL)
        vstore(log_sum + j, vlog(vload(log_sum + j)));
    for (ptrdiff_t i = 0; i < n; i++)
        for (ptrdiff_t j = 0; j < w; j += VL) {
            const vec v = vload_upto(x + i * stride + j, w - j);
            vstore_upto(y + i * stride + j, (v - vload(max + j)) - vload(log_sum + j), w - j);
        }
}

/* The two gradients share their shape: a sum over the problem, then a function of dy, y and the sum. */
FNN_INLINE vec FN(softmax_term)(vec dy, vec y) { return dy * y; }
FNN_INLINE vec FN(softmax_gradient)(vec dy, vec y, vec sum) { return y * (dy - sum); }
FNN_INLINE vec FN(log_softmax_term)(vec dy, vec y) { return (void)y, dy; }
FNN_INLINE vec FN(log_softmax_gradient)(vec dy, vec y, vec sum) { return dy - vexp(y) * sum; }

FNN_INLINE void FN(sum_then_gradient)(vec (*term)(vec, vec), vec (*gradient)(vec, vec, vec), ptrdiff_t n,
                                      ptrdiff_t stride, ptrdiff_t w, const real *dy, const real *y, real *dx)
{
    if (stride == 1) {
        vec sum = {0};
        for (ptrdiff_t first = 0; first < n; first += FNN_TERMS * VL) {
            vec part = {0};
            for (ptrdiff_t i = first; i < FN(least)(n, first + FNN_TERMS * VL); i += VL) /* zeros in the lanes behind */
                part += term(vload_upto(dy + i, n - i), vload_upto(y + i, n - i));       /* the end add nothing */
            sum += part;
        }
        sum = vset1(vsum(sum));
        for (ptrdiff_t i = 0; i < n; i += VL)
            vstore_upto(dx + i, gradient(vload_upto(dy + i, n - i), vload_upto(y + i, n - i), sum), n - i);
        return;
    }
    real sum[FNN_COLUMNS] = {0};
    for (ptrdiff_t first = 0; first < n; first += FNN_TERMS) {
        real part[FNN_COLUMNS] = {0};
        for (ptrdiff_t i = first; i < FN(least)(n, first + FNN_TERMS); i++)
            for (ptrdiff_t j = 0; j < w; j += VL) {
                const ptrdiff_t at = i * stride + j;
                vstore(part + j, vload(part + j) + term(vload_upto(dy + at, w - j), vload_upto(y + at, w - j)));
            }
        FN(add_columns)(w, part, sum);
    }
    for (ptrdiff_t i = 0; i < n; i++)
        for (ptrdiff_t j = 0; j < w; j += VL) {
            const ptrdiff_t at = i * stride + j;
            const vec v = gradient(vload_upto(dy + at, w - j), vload_upto(y + at, w - j), vload(sum + j));
            vstore_upto(dx + at, v, w - j);
        }
}

static void FN(softmax_backward)(ptrdiff_t n, ptrdiff_t stride, ptrdiff_t w, const void *dy, const void *y, void *dx)
{
    FN(sum_then_gradient)(FN(softmax_term), FN(softmax_gradient), n, stride, w, dy, y, dx);
}

static void FN(log_softmax_backward)(ptrdiff_t n, ptrdiff_t stride, ptrdiff_t w, const void *dy, const void *y,
                                     void *dx)
{
    FN(sum_then_gradient)(FN(log_softmax_term), FN(log_softmax_gradient), n, stride, w, dy, y, dx);
}

/* Where the first largest element is, or the first NaN. Side by side, places are counted in lanes as wide as an element,
 * and therefore in runs of rows: there may be more rows than 32 bits count. */
static void FN(argmax)(ptrdiff_t n, ptrdiff_t stride, ptrdiff_t w, const void *x_, int64_t *index)
{
    const real *x = x_;
    if (stride == 1) {
        const vec m = vset1(FN(row_max)(n, x));
        ptrdiff_t i = 0; /* none before i is NaN or the maximum */
        while (i + VL <= n && vall_less(vload(x + i), m))
            i += VL;
        while (!(x[i] != x[i] || x[i] == m[0]))
            i++;
        for (*index = i; i + VL <= n && vall(vload(x + i) <= m); i += VL)
            ;
        for (; i < n; i++)
            if (x[i] != x[i]) {
                *index = i;
                break;
            }
        return;
    }
    real best[FNN_COLUMNS];
    for (ptrdiff_t j = 0; j < w; j++)
        index[j] = 0;
    for (ptrdiff_t j = 0; j < w; j += VL)
        vstore(best + j, vload_upto(x + j, w - j));
    for (ptrdiff_t first = 1; first < n; first += FNN_PLACES) {
        const ptrdiff_t rows = FN(least)(FNN_PLACES, n - first);
        inat place[FNN_COLUMNS] = {0}; /* from 1 on, of the best so far in these rows; 0: it is none of them */
        for (ptrdiff_t i = 0; i < rows; i++)
            for (ptrdiff_t j = 0; j < w; j += VL) {
                const vec v = vload_upto(x + (first + i) * stride + j, w - j), b = vload(best + j);
                const ivec better = (v > b) | ((v != v) & (b == b));
                ivec at;
                memcpy(&at, place + j, sizeof at);
                at = (better & (inat)(i + 1)) | (~better & at);
                memcpy(place + j, &at, sizeof at);
                vstore(best + j, vsel(better, v, b));
            }
        for (ptrdiff_t j = 0; j < w; j++)
            if (place[j])
                index[j] = first + place[j] - 1;
    }
}

/* 1 there, 0 elsewhere */
static void FN(hardmax)(ptrdiff_t n, ptrdiff_t stride, ptrdiff_t w, const void *x, void *y_)
{
    real *y = y_;
    int64_t index[FNN_COLUMNS];
    FN(argmax)(n, stride, w, x, index);
    for (ptrdiff_t i = 0; i < (stride == 1 ? 1 : n); i++)
        memset(y + i * stride, 0, (size_t)(stride == 1 ? n : w) * sizeof(real));
    for (ptrdiff_t j = 0; j < w; j++)
        y[index[j] * stride + j] = 1;
}

static const fnn_softmax_ukernels FN(softmax_ukernels) = {
    .softmax = FN(softmax),
    .softmax_backward = FN(softmax_backward),
    .log_softmax = FN(log_softmax),
    .log_softmax_backward = FN(log_softmax_backward),
    .argmax = FN(argmax),
    .hardmax = FN(hardmax),
};
