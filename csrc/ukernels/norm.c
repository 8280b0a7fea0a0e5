/* Batch normalisation of x (n, c, s): statistics of each channel over n and s.
 *
 * Two layouts. s > 1: a channel is n rows of s elements, n*s small enough for the cache, so that the first pass over
 * it reads memory and the second does not. s == 1: channels are adjacent, and lanes are channels.
 *
 * Moments are summed in chunks of a fixed size (so results depend on the shape alone): first the chunk's mean, then
 * deviations from it, whose own sum corrects the rounding of that mean. Chunks are merged in double precision by the
 * update of Chan, Golub & LeVeque (1983). No step subtracts numbers of the size of the mean.
 */

enum { FN(BN_CHUNK) = 1024, FN(BN_ROWS) = 64 /* of a chunk where lanes are channels */, FN(BN_VECS) = 4 };
#define BN_CHUNK FN(BN_CHUNK)
#define BN_ROWS FN(BN_ROWS)
#define BN_VECS FN(BN_VECS)
#define BN_BLOCK (BN_VECS * VL) /* channels of a task where lanes are channels */

FNN_INLINE ptrdiff_t FN(bn_min)(ptrdiff_t a, ptrdiff_t b) { return a < b ? a : b; }

/* Adds chunks of nb elements, with mean centre + d/nb and squared deviations dd - d*d/nb, to the totals over na. */
FNN_INLINE void FN(bn_merge)(ptrdiff_t lanes, double na, double nb, const real *centre, const real *d, const real *dd,
                             double *total, double *m2)
{
    const double ra = na > 0 ? 1 / na : 0, rb = 1 / nb, weight = na * nb / (na + nb);
    for (ptrdiff_t l = 0; l < lanes; l++) {
        /* d is NaN if the chunk has an infinity; the mean is that infinity */
        const double mean = centre[l] + (d[l] == d[l] ? d[l] * rb : 0), delta = mean - total[l] * ra;
        const double m2b = dd[l] - (double)d[l] * d[l] * rb;
        m2[l] += (m2b < 0 ? 0 : m2b) + delta * delta * weight;
        total[l] += mean * nb;
    }
}

/* ---- rows: one channel, n rows of s elements, `stride` apart ---- */

/* A loop over a row for BN_VECS accumulators: EACH(v, j) for whole vectors, LAST(v, j, lanes) for the rest. */
#define FNN_ROW(s, EACH, LAST) \
    { \
        ptrdiff_t j = 0; \
        for (; j + BN_VECS * VL <= (s); j += BN_VECS * VL) { \
            _Pragma("GCC unroll 4") for (int v = 0; v < BN_VECS; v++) { EACH(v, j + v * VL); } \
        } \
        _Pragma("GCC unroll 4") for (int v = 0; v < BN_VECS; v++, j += VL) \
        { \
            if (j + VL <= (s)) { \
                EACH(v, j); \
            } else if (j < (s)) { \
                LAST(v, j, (s)-j); \
            } \
        } \
    }

FNN_INLINE real FN(bn_total)(const vec *acc) { return vsum((acc[0] + acc[1]) + (acc[2] + acc[3])); }

static void FN(bn_row_moments)(ptrdiff_t n, ptrdiff_t s, ptrdiff_t stride, const real *x, double *total, double *m2)
{
    const ptrdiff_t rows = s < BN_CHUNK ? BN_CHUNK / s : 1;
    double count = 0;
    *total = *m2 = 0;
    for (ptrdiff_t i0 = 0; i0 < n; i0 += rows)
        for (ptrdiff_t j0 = 0; j0 < s; j0 += BN_CHUNK) {
            const ptrdiff_t ni = FN(bn_min)(rows, n - i0), nj = FN(bn_min)(BN_CHUNK, s - j0);
            const real *chunk = x + i0 * stride + j0;
            vec a[BN_VECS] = {0}, d[BN_VECS] = {0}, dd[BN_VECS] = {0};
            for (ptrdiff_t i = 0; i < ni; i++) {
                const real *p = chunk + i * stride;
#define EACH(v, j) a[v] += vload(p + j)
#define LAST(v, j, lanes) a[v] += vload_n(p + j, lanes)
                FNN_ROW(nj, EACH, LAST)
#undef EACH
#undef LAST
            }
            const real centre = FN(bn_total)(a) / (real)(ni * nj);
            const vec mean = vset1(centre);
            for (ptrdiff_t i = 0; i < ni; i++) {
                const real *p = chunk + i * stride;
#define EACH(v, j) \
    const vec e = vload(p + j) - mean; \
    d[v] += e, dd[v] += e * e
#define LAST(v, j, lanes) \
    const vec e = vsel(viota() < (inat)(lanes), vload_n(p + j, lanes) - mean, (vec){0}); \
    d[v] += e, dd[v] += e * e
                FNN_ROW(nj, EACH, LAST)
#undef EACH
#undef LAST
            }
            const real sum_d = FN(bn_total)(d), sum_dd = FN(bn_total)(dd);
            FN(bn_merge)(1, count, (double)(ni * nj), &centre, &sum_d, &sum_dd, total, m2);
            count += (double)(ni * nj);
        }
}

/* sum dy, and sum dy * (x - centre) */
static void FN(bn_row_sums)(ptrdiff_t n, ptrdiff_t s, ptrdiff_t stride, const real *dy, const real *x,
                            const real *centre, double *sum, double *dot)
{
    const ptrdiff_t rows = s < BN_CHUNK ? BN_CHUNK / s : 1;
    const vec mean = vset1(*centre);
    *sum = *dot = 0;
    for (ptrdiff_t i0 = 0; i0 < n; i0 += rows)
        for (ptrdiff_t j0 = 0; j0 < s; j0 += BN_CHUNK) {
            const ptrdiff_t ni = FN(bn_min)(rows, n - i0), nj = FN(bn_min)(BN_CHUNK, s - j0);
            vec a[BN_VECS] = {0}, b[BN_VECS] = {0};
            for (ptrdiff_t i = 0; i < ni; i++) {
                const real *p = dy + (i0 + i) * stride + j0, *q = x + (i0 + i) * stride + j0;
#define EACH(v, j) \
    const vec g = vload(p + j); \
    a[v] += g, b[v] += g * (vload(q + j) - mean)
#define LAST(v, j, lanes) \
    const vec g = vload_n(p + j, lanes); \
    a[v] += g, b[v] += g * (vload_n(q + j, lanes) - mean)
                FNN_ROW(nj, EACH, LAST)
#undef EACH
#undef LAST
            }
            *sum += FN(bn_total)(a);
            *dot += FN(bn_total)(b);
        }
}

/* y = (x - centre) * scale + shift */
static void FN(bn_row_affine)(ptrdiff_t n, ptrdiff_t s, ptrdiff_t stride, const real *x, const real *centre,
                              const real *scale, const real *shift, real *y)
{
    const vec c = vset1(*centre), a = vset1(*scale), b = vset1(*shift);
    for (ptrdiff_t i = 0; i < n; i++, x += stride, y += stride) {
#define EACH(v, j) vstore(y + j, (vload(x + j) - c) * a + b)
#define LAST(v, j, lanes) vstore_n(y + j, (vload_n(x + j, lanes) - c) * a + b, lanes)
        FNN_ROW(s, EACH, LAST)
#undef EACH
#undef LAST
    }
}

/* dx = dy * a + (x - centre) * b + c */
static void FN(bn_row_backward)(ptrdiff_t n, ptrdiff_t s, ptrdiff_t stride, const real *dy, const real *x,
                                const real *centre, const real *a_, const real *b_, const real *c_, real *dx)
{
    const vec mean = vset1(*centre), a = vset1(*a_), b = vset1(*b_), c = vset1(*c_);
    for (ptrdiff_t i = 0; i < n; i++, dy += stride, x += stride, dx += stride) {
#define EACH(v, j) vstore(dx + j, vload(dy + j) * a + ((vload(x + j) - mean) * b + c))
#define LAST(v, j, lanes) vstore_n(dx + j, vload_n(dy + j, lanes) * a + ((vload_n(x + j, lanes) - mean) * b + c), lanes)
        FNN_ROW(s, EACH, LAST)
#undef EACH
#undef LAST
    }
}
#undef FNN_ROW

/* ---- columns: `lanes` adjacent channels in `vecs` vectors, n rows `stride` apart ---- */

FNN_INLINE void FN(bn_column_moments)(const int vecs, ptrdiff_t lanes, ptrdiff_t n, ptrdiff_t stride, const real *x,
                                      double *total, double *m2)
{
    for (ptrdiff_t l = 0; l < lanes; l++)
        total[l] = m2[l] = 0;
    for (ptrdiff_t i0 = 0; i0 < n; i0 += BN_ROWS) {
        const ptrdiff_t ni = FN(bn_min)(BN_ROWS, n - i0);
        vec mean[BN_VECS] = {0}, d[BN_VECS] = {0}, dd[BN_VECS] = {0};
        for (ptrdiff_t i = i0; i < i0 + ni; i++)
#pragma GCC unroll 4
            for (int v = 0; v < vecs; v++)
                mean[v] += vload_upto(x + i * stride + v * VL, lanes);
        for (int v = 0; v < vecs; v++)
            mean[v] /= vset1((real)ni);
        for (ptrdiff_t i = i0; i < i0 + ni; i++)
#pragma GCC unroll 4
            for (int v = 0; v < vecs; v++) {
                const vec e = vload_upto(x + i * stride + v * VL, lanes) - mean[v];
                d[v] += e, dd[v] += e * e;
            }
        FN(bn_merge)(lanes, (double)i0, (double)ni, (real *)mean, (real *)d, (real *)dd, total, m2);
    }
}

FNN_INLINE void FN(bn_column_sums)(const int vecs, ptrdiff_t lanes, ptrdiff_t n, ptrdiff_t stride, const real *dy,
                                   const real *x, const real *centre, double *sum, double *dot)
{
    vec mean[BN_VECS];
    for (int v = 0; v < vecs; v++)
        mean[v] = vload_upto(centre + v * VL, lanes);
    for (ptrdiff_t l = 0; l < lanes; l++)
        sum[l] = dot[l] = 0;
    for (ptrdiff_t i0 = 0; i0 < n; i0 += BN_ROWS) {
        vec a[BN_VECS] = {0}, b[BN_VECS] = {0};
        for (ptrdiff_t i = i0; i < FN(bn_min)(n, i0 + BN_ROWS); i++)
#pragma GCC unroll 4
            for (int v = 0; v < vecs; v++) {
                const vec g = vload_upto(dy + i * stride + v * VL, lanes);
                a[v] += g, b[v] += g * (vload_upto(x + i * stride + v * VL, lanes) - mean[v]);
            }
        for (ptrdiff_t l = 0; l < lanes; l++)
            sum[l] += ((real *)a)[l], dot[l] += ((real *)b)[l];
    }
}

FNN_INLINE void FN(bn_column_affine)(const int vecs, ptrdiff_t lanes, ptrdiff_t n, ptrdiff_t stride, const real *x,
                                     const real *centre, const real *scale, const real *shift, real *y)
{
    for (ptrdiff_t i = 0; i < n; i++, x += stride, y += stride)
#pragma GCC unroll 4
        for (int v = 0; v < vecs; v++)
            vstore_upto(y + v * VL,
                         (vload_upto(x + v * VL, lanes) - vload(centre + v * VL)) * vload(scale + v * VL) +
                             vload(shift + v * VL), lanes);
}

FNN_INLINE void FN(bn_column_backward)(const int vecs, ptrdiff_t lanes, ptrdiff_t n, ptrdiff_t stride, const real *dy,
                                       const real *x, const real *centre, const real *a, const real *b, const real *c,
                                       real *dx)
{
    for (ptrdiff_t i = 0; i < n; i++, dy += stride, x += stride, dx += stride)
#pragma GCC unroll 4
        for (int v = 0; v < vecs; v++)
            vstore_upto(dx + v * VL,
                         vload_upto(dy + v * VL, lanes) * vload(a + v * VL) +
                             ((vload_upto(x + v * VL, lanes) - vload(centre + v * VL)) * vload(b + v * VL) +
                              vload(c + v * VL)), lanes);
}

/* Calls COLUMNS(vecs, lanes, k) on channels k.. of a block: all of it at once, or vector by vector. */
#define FNN_BLOCK(count, COLUMNS) \
    if ((count) == BN_BLOCK) { \
        COLUMNS(BN_VECS, BN_BLOCK, 0); \
    } else { \
        for (ptrdiff_t k = 0; k < (count); k += VL) \
            COLUMNS(1, FN(bn_min)(VL, (count)-k), k); \
    }

/* ---- the operator on the channels of one task ---- */

static void FN(batch_norm)(const fnn_batch_norm *p, ptrdiff_t first)
{
    const ptrdiff_t count = p->s > 1 ? 1 : FN(bn_min)(BN_BLOCK, p->c - first), stride = p->c * p->s;
    const real *x = (const real *)p->x + first * p->s, *weight = p->weight, *bias = p->bias;
    real *y = (real *)p->y + first * p->s, *running_mean = p->running_mean, *running_var = p->running_var;
    const double m = (double)p->n * (double)p->s;
    double mean[BN_BLOCK], var[BN_BLOCK];
    real centre[BN_BLOCK] = {0}, scale[BN_BLOCK] = {0}, shift[BN_BLOCK] = {0};
    if (p->training && p->s > 1) {
        FN(bn_row_moments)(p->n, p->s, stride, x, mean, var);
    } else if (p->training) {
#define COLUMNS(vecs, lanes, k) FN(bn_column_moments)(vecs, lanes, p->n, stride, x + k, mean + k, var + k)
        FNN_BLOCK(count, COLUMNS)
#undef COLUMNS
    }
    for (ptrdiff_t k = 0; k < count; k++) {
        const ptrdiff_t channel = first + k;
        if (p->training) {
            mean[k] /= m;
            if (running_mean)
                running_mean[channel] = (real)((1 - p->momentum) * running_mean[channel] + p->momentum * mean[k]);
            if (running_var)
                running_var[channel] = (real)((1 - p->momentum) * running_var[channel] + p->momentum * var[k] / (m - 1));
            var[k] /= m;
        } else {
            mean[k] = running_mean[channel];
            var[k] = running_var[channel];
        }
        const double invstd = 1 / sqrt(var[k] + p->eps), a = weight ? weight[channel] * invstd : invstd;
        if (p->mean)
            p->mean[channel] = mean[k], p->invstd[channel] = invstd;
        centre[k] = (real)mean[k];
        scale[k] = (real)a;
        shift[k] = (real)((bias ? bias[channel] : 0) - (mean[k] - centre[k]) * a);
    }
    if (p->s > 1) {
        FN(bn_row_affine)(p->n, p->s, stride, x, centre, scale, shift, y);
        return;
    }
#define COLUMNS(vecs, lanes, k) \
    FN(bn_column_affine)(vecs, lanes, p->n, stride, x + k, centre + k, scale + k, shift + k, y + k)
    FNN_BLOCK(count, COLUMNS)
#undef COLUMNS
}

/* With d = x - mean:  dweight = invstd sum dy d,  dbias = sum dy,
 * dx = weight invstd (dy - dbias/m - d invstd dweight/m), or weight invstd dy where the statistics were constants. */
static void FN(batch_norm_backward)(const fnn_batch_norm_backward *p, ptrdiff_t first)
{
    const ptrdiff_t count = p->s > 1 ? 1 : FN(bn_min)(BN_BLOCK, p->c - first), stride = p->c * p->s;
    const real *dy = (const real *)p->dy + first * p->s, *x = (const real *)p->x + first * p->s, *weight = p->weight;
    real *dx = (real *)p->dx + first * p->s, *dweight = p->dweight, *dbias = p->dbias;
    const double m = (double)p->n * (double)p->s;
    double sum[BN_BLOCK], dot[BN_BLOCK];
    real centre[BN_BLOCK] = {0}, a[BN_BLOCK] = {0}, b[BN_BLOCK] = {0}, c[BN_BLOCK] = {0};
    const int sums = p->training || dweight || dbias;
    for (ptrdiff_t k = 0; k < count; k++)
        centre[k] = (real)p->mean[first + k];
    if (sums && p->s > 1) {
        FN(bn_row_sums)(p->n, p->s, stride, dy, x, centre, sum, dot);
    } else if (sums) {
#define COLUMNS(vecs, lanes, k) FN(bn_column_sums)(vecs, lanes, p->n, stride, dy + k, x + k, centre + k, sum + k, dot + k)
        FNN_BLOCK(count, COLUMNS)
#undef COLUMNS
    }
    for (ptrdiff_t k = 0; k < count; k++) {
        const ptrdiff_t channel = first + k;
        const double invstd = p->invstd[channel], rest = p->mean[channel] - centre[k];
        const double scale = weight ? weight[channel] * invstd : invstd;
        a[k] = (real)scale;
        if (!sums)
            continue;
        const double dgamma = invstd * (dot[k] - rest * sum[k]);
        if (dweight)
            dweight[channel] = (real)dgamma;
        if (dbias)
            dbias[channel] = (real)sum[k];
        const double slope = -scale * invstd * dgamma / m;
        b[k] = (real)slope;
        c[k] = (real)(-scale * sum[k] / m - slope * rest);
    }
    if (!p->dx)
        return;
    if (!p->training) {
        const real zero[BN_BLOCK] = {0};
        if (p->s > 1) {
            FN(bn_row_affine)(p->n, p->s, stride, dy, zero, a, zero, dx);
            return;
        }
#define COLUMNS(vecs, lanes, k) FN(bn_column_affine)(vecs, lanes, p->n, stride, dy + k, zero, a + k, zero, dx + k)
        FNN_BLOCK(count, COLUMNS)
#undef COLUMNS
        return;
    }
    if (p->s > 1) {
        FN(bn_row_backward)(p->n, p->s, stride, dy, x, centre, a, b, c, dx);
        return;
    }
#define COLUMNS(vecs, lanes, k) \
    FN(bn_column_backward)(vecs, lanes, p->n, stride, dy + k, x + k, centre + k, a + k, b + k, c + k, dx + k)
    FNN_BLOCK(count, COLUMNS)
#undef COLUMNS
}

static const fnn_norm_ukernels FN(norm_ukernels) = {
    .block = BN_BLOCK,
    .batch_norm = FN(batch_norm),
    .batch_norm_backward = FN(batch_norm_backward),
};
#undef FNN_BLOCK
#undef BN_CHUNK
#undef BN_ROWS
#undef BN_VECS
#undef BN_BLOCK
