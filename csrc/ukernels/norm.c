/* Batch normalisation of x (n, c, s): statistics of each channel over n and s.
 *
 * Two layouts. s > 1: a channel is n rows of s elements, n*s small enough for the cache, so that the first pass over
 * it reads memory and the second does not. s == 1: channels are adjacent, and lanes are channels.
 *
 * flags, known at compile time in each copy of a loop, say what follows the affine map: FNN_BN_ADD, a residual is
 * added; then FNN_BN_RELU. The gradient at the result is masked accordingly: ReLU's mask is computed anew from x, or
 * read from y if there is a residual. FNN_BN_MOVING: the statistics are those of x and depend on it. FNN_BN_PAST: the
 * results go past the caches.
 */

enum { FN(BN_ROWS) = 64 /* of a chunk where lanes are channels */ };
#define BN_ROWS FN(BN_ROWS)
#define BN_BLOCK (2 * FNN_ACCS * VL) /* channels of a task where lanes are channels */

/* f(extra | flags & (FNN_BN_RELU | FNN_BN_ADD), ...) with a constant as first argument */
#define FNN_BY_FLAGS(flags, extra, f, ...) \
    switch ((flags) & (FNN_BN_RELU | FNN_BN_ADD)) { \
    case 0: f(extra, __VA_ARGS__); break; \
    case FNN_BN_RELU: f((extra) | FNN_BN_RELU, __VA_ARGS__); break; \
    case FNN_BN_ADD: f((extra) | FNN_BN_ADD, __VA_ARGS__); break; \
    default: f((extra) | FNN_BN_RELU | FNN_BN_ADD, __VA_ARGS__); \
    }

FNN_INLINE vec FN(bn_affine)(vec x, vec centre, vec scale, vec shift) { return (x - centre) * scale + shift; }

FNN_INLINE vec FN(bn_result)(const int flags, vec v, vec residual)
{
    if (flags & FNN_BN_ADD)
        v += residual;
    return flags & FNN_BN_RELU ? vrelu(v) : v;
}

/* dy where ReLU let the result pass: y, or without a residual the affine map of x. */
FNN_INLINE vec FN(bn_masked)(const int flags, vec dy, vec x, vec y, vec centre, vec scale, vec shift)
{
    if (!(flags & FNN_BN_RELU))
        return dy;
    if (!(flags & FNN_BN_ADD))
        y = FN(bn_affine)(x, centre, scale, shift);
    return vsel(y > vset1(0), dy, (vec){0});
}

FNN_INLINE vec FN(bn_slope)(const int flags, vec g, vec x, vec centre, vec a, vec b, vec c)
{
    return flags & FNN_BN_MOVING ? g * a + ((x - centre) * b + c) : g * a;
}

/* Loads and stores of `lanes` elements, of which the compiler knows where they are VL; a residual, say, that a copy of
 * the loop does not need is not read. */
FNN_INLINE vec FN(bn_get)(int needed, const real *p, ptrdiff_t lanes) { return needed ? vload_upto(p, lanes) : (vec){0}; }

FNN_INLINE void FN(bn_put)(const int flags, real *p, vec v, ptrdiff_t lanes)
{
    if (lanes == VL && flags & FNN_BN_PAST)
        vstream(p, v);
    else
        vstore_upto(p, v, lanes);
}

/* ---- rows: one channel, n rows of s elements, `stride` apart ---- */

/* sum g, and sum g * (x - centre), of the masked gradient g */
FNN_INLINE void FN(bn_row_sums)(const int flags, ptrdiff_t n, ptrdiff_t s, ptrdiff_t stride, const real *dy,
                                const real *x, const real *y, const real *centre_, const real *scale_,
                                const real *shift_, double *sum, double *dot)
{
    const ptrdiff_t rows = s < FNN_CHUNK ? FNN_CHUNK / s : 1, ahead = FN(next_chunk)(n, s, stride);
    const vec centre = vset1(*centre_), scale = vset1(*scale_), shift = vset1(*shift_);
    *sum = *dot = 0;
    for (ptrdiff_t i0 = 0; i0 < n; i0 += rows)
        for (ptrdiff_t j0 = 0; j0 < s; j0 += FNN_CHUNK) {
            const ptrdiff_t ni = FN(least)(rows, n - i0), nj = FN(least)(FNN_CHUNK, s - j0);
            vec a[FNN_ACCS] = {0}, b[FNN_ACCS] = {0};
            for (ptrdiff_t i = i0; i < i0 + ni; i++) {
                const real *p = dy + i * stride + j0, *q = x + i * stride + j0, *r = y + i * stride + j0;
#define EACH(v, j, lanes) \
    const vec here = vload_upto(q + j, lanes), result = FN(bn_get)(flags & FNN_BN_ADD, r + j, lanes), \
              g = FN(bn_masked)(flags, vload_upto(p + j, lanes), here, result, centre, scale, shift); \
    __builtin_prefetch(p + j + ahead); \
    __builtin_prefetch(q + j + ahead); \
    a[v] += g, b[v] += g * (here - centre)
                FNN_ALONG(0, nj, EACH)
#undef EACH
            }
            *sum += FN(accs_total)(a);
            *dot += FN(accs_total)(b);
        }
}

/* y = (x - centre) * scale + shift, and what follows. Here as below the last rows, read last for the sums, come first:
 * they are most likely to be in the cache. */
FNN_INLINE void FN(bn_row_affine)(const int flags, ptrdiff_t n, ptrdiff_t s, ptrdiff_t stride, const real *x,
                                  const real *residual, const real *centre_, const real *scale_, const real *shift_,
                                  real *y)
{
    const vec centre = vset1(*centre_), scale = vset1(*scale_), shift = vset1(*shift_);
    for (ptrdiff_t i = (n - 1) * stride; i >= 0; i -= stride) {
        const ptrdiff_t head = flags & FNN_BN_PAST ? vstream_head(y + i, s) : 0;
#define EACH(v, j, lanes) \
    const vec here = FN(bn_affine)(vload_upto(x + i + (j), lanes), centre, scale, shift); \
    const vec added = FN(bn_get)(flags & FNN_BN_ADD, residual + i + (j), lanes); \
    FN(bn_put)(flags, y + i + (j), FN(bn_result)(flags, here, added), lanes)
        if (head) {
            EACH(0, 0, head);
        }
        FNN_ALONG(head, s, EACH)
#undef EACH
    }
    if (flags & FNN_BN_PAST)
        vstream_end();
}

/* dx = g * a + (x - centre) * b + c, and dresidual = g unless that is NULL */
FNN_INLINE void FN(bn_row_backward)(const int flags, ptrdiff_t n, ptrdiff_t s, ptrdiff_t stride, const real *dy,
                                    const real *x, const real *y, const real *centre_, const real *scale_,
                                    const real *shift_, const real *a_, const real *b_, const real *c_, real *dx,
                                    real *dresidual)
{
    const vec centre = vset1(*centre_), scale = vset1(*scale_), shift = vset1(*shift_);
    const vec a = vset1(*a_), b = vset1(*b_), c = vset1(*c_);
    const int reads_x = flags & (FNN_BN_MOVING | FNN_BN_RELU);
    for (ptrdiff_t i = (n - 1) * stride; i >= 0; i -= stride) {
        const ptrdiff_t head = flags & FNN_BN_PAST ? vstream_head(dx + i, s) : 0;
#define EACH(v, j, lanes) \
    const vec here = FN(bn_get)(reads_x, x + i + (j), lanes); \
    const vec result = FN(bn_get)(flags & FNN_BN_ADD, y + i + (j), lanes); \
    const vec g = FN(bn_masked)(flags, vload_upto(dy + i + (j), lanes), here, result, centre, scale, shift); \
    if (flags & FNN_BN_ADD && dresidual) \
        vstore_upto(dresidual + i + (j), g, lanes); \
    FN(bn_put)(flags, dx + i + (j), FN(bn_slope)(flags, g, here, centre, a, b, c), lanes)
        if (head) {
            EACH(0, 0, head);
        }
        FNN_ALONG(head, s, EACH)
#undef EACH
    }
    if (flags & FNN_BN_PAST)
        vstream_end();
}

/* ---- columns: `lanes` adjacent channels in `vecs` vectors, n rows `stride` apart ---- */

#define FNN_VECS(vecs) _Pragma("GCC unroll 8") for (int v = 0; v < (vecs); v++)

FNN_INLINE void FN(bn_column_moments)(const int vecs, ptrdiff_t lanes, ptrdiff_t n, ptrdiff_t stride, const real *x,
                                      double *total, double *m2)
{
    for (ptrdiff_t l = 0; l < lanes; l++)
        total[l] = m2[l] = 0;
    for (ptrdiff_t i0 = 0; i0 < n; i0 += BN_ROWS) {
        const ptrdiff_t ni = FN(least)(BN_ROWS, n - i0);
        vec mean[FNN_ACCS] = {0}, d[FNN_ACCS] = {0}, dd[FNN_ACCS] = {0};
        const double per_row = i0 ? 1 / (double)i0 : NAN;
        int centred = 1;
        for (ptrdiff_t l = 0; l < lanes; l++) {
            const real m = ((real *)mean)[l] = (real)(total[l] * per_row);
            centred &= m - m == 0; /* as for rows */
        }
        if (!centred) { /* in these lanes alone, so that a channel with a NaN changes no other */
            vec own[FNN_ACCS] = {0};
            for (ptrdiff_t i = i0; i < i0 + ni; i++)
                FNN_VECS(vecs) own[v] += vload_upto(x + i * stride + v * VL, lanes);
            FNN_VECS(vecs) mean[v] = vsel(mean[v] - mean[v] == vset1(0), mean[v], own[v] / vset1((real)ni));
        }
        for (ptrdiff_t i = i0; i < i0 + ni; i++)
            FNN_VECS(vecs)
            {
                const vec e = vload_upto(x + i * stride + v * VL, lanes) - mean[v];
                d[v] += e, dd[v] += e * e;
            }
        FN(merge_moments)(lanes, (double)i0, (double)ni, (real *)mean, (real *)d, (real *)dd, total, m2);
    }
}

FNN_INLINE void FN(bn_column_sums)(const int flags, const int vecs, ptrdiff_t lanes, ptrdiff_t n, ptrdiff_t stride,
                                   const real *dy, const real *x, const real *y, const real *centre, const real *scale,
                                   const real *shift, double *sum, double *dot)
{
    for (ptrdiff_t l = 0; l < lanes; l++)
        sum[l] = dot[l] = 0;
    for (ptrdiff_t i0 = 0; i0 < n; i0 += BN_ROWS) {
        vec a[FNN_ACCS] = {0}, b[FNN_ACCS] = {0};
        for (ptrdiff_t i = i0; i < FN(least)(n, i0 + BN_ROWS); i++)
            FNN_VECS(vecs)
            {
                const ptrdiff_t at = i * stride + v * VL;
                const vec here = vload_upto(x + at, lanes), c = vload(centre + v * VL);
                const vec g = FN(bn_masked)(flags, vload_upto(dy + at, lanes), here,
                                            FN(bn_get)(flags & FNN_BN_ADD, y + at, lanes), c, vload(scale + v * VL),
                                            vload(shift + v * VL));
                a[v] += g, b[v] += g * (here - c);
            }
        for (ptrdiff_t l = 0; l < lanes; l++)
            sum[l] += ((real *)a)[l], dot[l] += ((real *)b)[l];
    }
}

FNN_INLINE void FN(bn_column_affine)(const int flags, const int vecs, ptrdiff_t lanes, ptrdiff_t n, ptrdiff_t stride,
                                     const real *x, const real *residual, const real *centre, const real *scale,
                                     const real *shift, real *y)
{
    for (ptrdiff_t i = 0; i < n; i++)
        FNN_VECS(vecs)
        {
            const ptrdiff_t at = i * stride + v * VL;
            const vec here = FN(bn_affine)(vload_upto(x + at, lanes), vload(centre + v * VL), vload(scale + v * VL),
                                           vload(shift + v * VL));
            vstore_upto(y + at, FN(bn_result)(flags, here, FN(bn_get)(flags & FNN_BN_ADD, residual + at, lanes)), lanes);
        }
}

FNN_INLINE void FN(bn_column_backward)(const int flags, const int vecs, ptrdiff_t lanes, ptrdiff_t n, ptrdiff_t stride,
                                       const real *dy, const real *x, const real *y, const real *centre,
                                       const real *scale, const real *shift, const real *a, const real *b,
                                       const real *c, real *dx, real *dresidual)
{
    const int reads_x = flags & (FNN_BN_MOVING | FNN_BN_RELU);
    for (ptrdiff_t i = 0; i < n; i++)
        FNN_VECS(vecs)
        {
            const ptrdiff_t at = i * stride + v * VL;
            const vec here = FN(bn_get)(reads_x, x + at, lanes), middle = vload(centre + v * VL);
            const vec g = FN(bn_masked)(flags, vload_upto(dy + at, lanes), here,
                                        FN(bn_get)(flags & FNN_BN_ADD, y + at, lanes), middle, vload(scale + v * VL),
                                        vload(shift + v * VL));
            if (flags & FNN_BN_ADD && dresidual)
                vstore_upto(dresidual + at, g, lanes);
            vstore_upto(dx + at, FN(bn_slope)(flags, g, here, middle, vload(a + v * VL), vload(b + v * VL),
                                              vload(c + v * VL)), lanes);
        }
}
#undef FNN_VECS

/* Calls COLUMNS(vecs, lanes, k) on channels k.. of a block: FNN_ACCS vectors at a time, then one. Where nothing is summed,
 * twice as many first: rows may be far apart, and what is read of each should be long. */
#define FNN_PIECES(vecs, COLUMNS) \
    for (; k + (vecs) * VL <= count; k += (vecs) * VL) { \
        COLUMNS(vecs, (vecs) * VL, k); \
    }
#define FNN_SUMMED(COLUMNS) \
    { \
        ptrdiff_t k = 0; \
        FNN_PIECES(FNN_ACCS, COLUMNS) \
        for (; k < count; k += VL) { \
            COLUMNS(1, FN(least)(VL, count - k), k); \
        } \
    }
#define FNN_MAPPED(COLUMNS) \
    { \
        ptrdiff_t k = 0; \
        FNN_PIECES(2 * FNN_ACCS, COLUMNS) \
        FNN_PIECES(FNN_ACCS, COLUMNS) \
        for (; k < count; k += VL) { \
            COLUMNS(1, FN(least)(VL, count - k), k); \
        } \
    }

/* ---- the operator on the channels of one task ---- */

/* The affine map of a block of channels, y = (x - centre) * scale + shift. */
typedef struct {
    real centre[BN_BLOCK], scale[BN_BLOCK], shift[BN_BLOCK];
} FN(bn_map);
#define bn_map FN(bn_map)

FNN_INLINE void FN(bn_set)(bn_map *map, ptrdiff_t k, const real *weight, const real *bias, ptrdiff_t channel,
                           double mean, double invstd)
{
    const double scale = weight ? weight[channel] * invstd : invstd;
    map->centre[k] = (real)mean;
    map->scale[k] = (real)scale;
    map->shift[k] = (real)((bias ? bias[channel] : 0) - (mean - map->centre[k]) * scale);
}

/* Images first_image.. of a block of `count` channels, or of one if their rows are long. */
FNN_INLINE void FN(bn_apply)(const fnn_batch_norm *p, const bn_map *map, ptrdiff_t first, ptrdiff_t count,
                             ptrdiff_t first_image, ptrdiff_t images)
{
    const ptrdiff_t stride = p->c * p->s, at = first_image * stride + first * p->s;
    const real *x = (const real *)p->x + at, *residual = p->residual ? (const real *)p->residual + at : x;
    real *y = (real *)p->y + at;
    const int flags = (p->relu ? FNN_BN_RELU : 0) | (p->residual ? FNN_BN_ADD : 0);
    if (p->s == 1) {
#define COLUMNS(vecs, lanes, k) \
    FNN_BY_FLAGS(flags, 0, FN(bn_column_affine), vecs, lanes, images, stride, x + k, residual + k, map->centre + k, \
                 map->scale + k, map->shift + k, y + k)
        FNN_MAPPED(COLUMNS)
#undef COLUMNS
        return;
    }
    /* rows of one channel image by image, or of all channels, which lie one behind the other */
    const ptrdiff_t rows = count == 1 ? images : 1;
    for (ptrdiff_t i = 0; i < images; i += rows)
        for (ptrdiff_t k = 0; k < count; k++) {
            const ptrdiff_t row = i * stride + k * p->s;
            if (p->past)
                FNN_BY_FLAGS(flags, FNN_BN_PAST, FN(bn_row_affine), rows, p->s, stride, x + row, residual + row,
                             map->centre + k, map->scale + k, map->shift + k, y + row)
            else
                FNN_BY_FLAGS(flags, 0, FN(bn_row_affine), rows, p->s, stride, x + row, residual + row, map->centre + k,
                             map->scale + k, map->shift + k, y + row)
        }
}

static void FN(batch_norm)(const fnn_batch_norm *p, ptrdiff_t first)
{
    const ptrdiff_t count = p->s > 1 ? 1 : FN(least)(BN_BLOCK, p->c - first), stride = p->c * p->s;
    const real *x = (const real *)p->x + first * p->s;
    real *running_mean = p->running_mean, *running_var = p->running_var;
    const double m = (double)p->n * (double)p->s;
    double mean[BN_BLOCK], var[BN_BLOCK];
    bn_map map = {0};
    if (p->s > 1) {
        FN(row_moments)(p->n, p->s, stride, x, mean, var);
    } else {
#define COLUMNS(vecs, lanes, k) FN(bn_column_moments)(vecs, lanes, p->n, stride, x + k, mean + k, var + k)
        FNN_SUMMED(COLUMNS)
#undef COLUMNS
    }
    for (ptrdiff_t k = 0; k < count; k++) {
        const ptrdiff_t channel = first + k;
        mean[k] /= m;
        if (running_mean)
            running_mean[channel] = (real)((1 - p->momentum) * running_mean[channel] + p->momentum * mean[k]);
        if (running_var)
            running_var[channel] = (real)((1 - p->momentum) * running_var[channel] + p->momentum * var[k] / (m - 1));
        const double invstd = 1 / sqrt(var[k] / m + p->eps);
        if (p->mean)
            p->mean[channel] = mean[k], p->invstd[channel] = invstd;
        FN(bn_set)(&map, k, p->weight, p->bias, channel, mean[k], invstd);
    }
    FN(bn_apply)(p, &map, first, count, 0, p->n);
}

static void FN(batch_norm_fixed)(const fnn_batch_norm *p, ptrdiff_t first, ptrdiff_t first_image, ptrdiff_t images)
{
    const ptrdiff_t count = FN(least)(BN_BLOCK, p->c - first);
    const real *mean = p->running_mean, *var = p->running_var;
    bn_map map = {0};
    for (ptrdiff_t k = 0; k < count; k++) {
        const ptrdiff_t channel = first + k;
        const double invstd = 1 / sqrt(var[channel] + p->eps);
        if (p->mean && !first_image)
            p->mean[channel] = mean[channel], p->invstd[channel] = invstd;
        FN(bn_set)(&map, k, p->weight, p->bias, channel, mean[channel], invstd);
    }
    FN(bn_apply)(p, &map, first, count, first_image, images);
}

/* With d = x - mean and g the masked dy:  dweight = invstd sum g d,  dbias = sum g,
 * dx = weight invstd (g - dbias/m - d invstd dweight/m), or weight invstd g where the statistics were constants. */
static void FN(batch_norm_backward)(const fnn_batch_norm_backward *p, ptrdiff_t first)
{
    const ptrdiff_t count = p->s > 1 ? 1 : FN(least)(BN_BLOCK, p->c - first), stride = p->c * p->s, at = first * p->s;
    const real *dy = (const real *)p->dy + at, *x = (const real *)p->x + at, *y = p->y ? (const real *)p->y + at : x;
    real *dx = (real *)p->dx + at, *dresidual = p->dresidual ? (real *)p->dresidual + at : NULL;
    real *dweight = p->dweight, *dbias = p->dbias;
    const double m = (double)p->n * (double)p->s;
    const int flags = (p->relu ? FNN_BN_RELU : 0) | (p->y || dresidual ? FNN_BN_ADD : 0);
    double sum[BN_BLOCK], dot[BN_BLOCK];
    real b[BN_BLOCK] = {0}, c[BN_BLOCK] = {0};
    bn_map map = {0};
    for (ptrdiff_t k = 0; k < count; k++)
        FN(bn_set)(&map, k, p->weight, p->bias, first + k, p->mean[first + k], p->invstd[first + k]);
    const real *centre = map.centre, *scale = map.scale, *shift = map.shift;
    if (p->training || dweight || dbias) {
        if (p->s > 1) {
            FNN_BY_FLAGS(flags, 0, FN(bn_row_sums), p->n, p->s, stride, dy, x, y, centre, scale, shift, sum, dot)
        } else {
#define COLUMNS(vecs, lanes, k) \
    FNN_BY_FLAGS(flags, 0, FN(bn_column_sums), vecs, lanes, p->n, stride, dy + k, x + k, y + k, centre + k, scale + k, \
                 shift + k, sum + k, dot + k)
            FNN_SUMMED(COLUMNS)
#undef COLUMNS
        }
        for (ptrdiff_t k = 0; k < count; k++) {
            const ptrdiff_t channel = first + k;
            const double invstd = p->invstd[channel], rest = p->mean[channel] - centre[k];
            const double dgamma = invstd * (dot[k] - rest * sum[k]);
            if (dweight)
                dweight[channel] = (real)dgamma;
            if (dbias)
                dbias[channel] = (real)sum[k];
            const double slope = -scale[k] * invstd * dgamma / m;
            b[k] = (real)slope;
            c[k] = (real)(-scale[k] * sum[k] / m - slope * rest);
        }
    }
    if (!p->dx)
        return;
    if (p->s > 1) {
#define FNN_ROWS(extra) \
    FNN_BY_FLAGS(flags, extra, FN(bn_row_backward), p->n, p->s, stride, dy, x, y, centre, scale, shift, scale, b, c, dx, \
                 dresidual)
        if (!p->training)
            FNN_ROWS(0)
        else if (p->past)
            FNN_ROWS(FNN_BN_MOVING | FNN_BN_PAST)
        else
            FNN_ROWS(FNN_BN_MOVING)
#undef FNN_ROWS
        return;
    }
#define COLUMNS(vecs, lanes, k) \
    if (p->training) \
        FNN_BY_FLAGS(flags, FNN_BN_MOVING, FN(bn_column_backward), vecs, lanes, p->n, stride, dy + k, x + k, y + k, \
                     centre + k, scale + k, shift + k, scale + k, b + k, c + k, dx + k, dresidual ? dresidual + k : NULL) \
    else \
        FNN_BY_FLAGS(flags, 0, FN(bn_column_backward), vecs, lanes, p->n, stride, dy + k, x + k, y + k, centre + k, \
                     scale + k, shift + k, scale + k, b + k, c + k, dx + k, dresidual ? dresidual + k : NULL)
    FNN_MAPPED(COLUMNS)
#undef COLUMNS
}

static const fnn_norm_ukernels FN(norm_ukernels) = {
    .block = BN_BLOCK,
    .batch_norm = FN(batch_norm),
    .batch_norm_fixed = FN(batch_norm_fixed),
    .batch_norm_backward = FN(batch_norm_backward),
};
#undef FNN_PIECES
#undef FNN_SUMMED
#undef FNN_MAPPED
#undef FNN_BY_FLAGS
#undef BN_ROWS
#undef BN_BLOCK
#undef bn_map
