/* Layer, group, instance and root-mean-square norm: rows of contiguous elements, statistics a row.
 *
 * inner == 1: neighbours have weights of their own. inner > 1: each of a row's channels is batch norm's row of one
 * channel, with the statistics of the whole row. A row is read from memory for its moments; what follows finds it in
 * the cache.
 */

/* f(extra | flags & (a | b | c), ...) with a constant as first argument */
#define FNN_BY_BITS(flags, a, b, c, extra, f, ...) \
    switch ((flags) & ((a) | (b) | (c))) { \
    case 0: f(extra, __VA_ARGS__); break; \
    case a: f((extra) | (a), __VA_ARGS__); break; \
    case b: f((extra) | (b), __VA_ARGS__); break; \
    case (a) | (b): f((extra) | (a) | (b), __VA_ARGS__); break; \
    case c: f((extra) | (c), __VA_ARGS__); break; \
    case (a) | (c): f((extra) | (a) | (c), __VA_ARGS__); break; \
    case (b) | (c): f((extra) | (b) | (c), __VA_ARGS__); break; \
    default: f((extra) | (a) | (b) | (c), __VA_ARGS__); \
    }

/* Mean and variance of a row; not centred: 0 and the mean square. */
FNN_INLINE void FN(rn_moments)(int centred, ptrdiff_t n, const real *x, double *mean, double *var)
{
    if (centred && n > FNN_CHUNK) {
        FN(row_moments)(1, n, n, x, mean, var);
        *mean /= (double)n;
        *var /= (double)n;
        return;
    }
    double squares = 0;
    real d = 0, dd, centre = centred ? NAN : 0;
    for (ptrdiff_t j = 0; j < n; j += FNN_CHUNK) {
        FN(chunk_moments)(1, FN(least)(FNN_CHUNK, n - j), n, x + j, FN(least)(FNN_CHUNK, n), &centre, &d, &dd);
        squares += dd;
    }
    const double rest = centred && d == d ? d / (double)n : 0; /* d is NaN if the mean is infinite */
    squares /= (double)n;
    if (squares - squares == 0) /* one that overflowed stays infinite */
        squares -= rest * rest;
    *mean = centre + rest;
    *var = squares < 0 ? 0 : squares;
}

/* y = ((x - centre) * scale + shift) * weight + bias */
FNN_INLINE void FN(rn_affine)(const int flags, ptrdiff_t n, const real *x, double centre_, double scale_,
                              double shift_, const real *weight, const real *bias, real *y)
{
    const vec centre = vset1((real)centre_), scale = vset1((real)scale_), shift = vset1((real)shift_);
    const ptrdiff_t head = flags & FNN_BN_PAST ? vstream_head(y, n) : 0;
#define EACH(v, j, lanes) \
    vec here = FN(bn_affine)(vload_upto(x + j, lanes), centre, scale, shift); \
    if (flags & FNN_RN_WEIGHT) \
        here *= vload_upto(weight + j, lanes); \
    if (flags & FNN_RN_BIAS) \
        here += vload_upto(bias + j, lanes); \
    FN(bn_put)(flags, y + j, here, lanes)
    if (head) {
        EACH(0, 0, head);
    }
    FNN_ALONG(head, n, EACH)
#undef EACH
}

static void FN(row_norm)(const fnn_row_norm *p, ptrdiff_t first, ptrdiff_t rows)
{
    const ptrdiff_t n = p->channels * p->inner;
    const int flags = (p->weight ? FNN_RN_WEIGHT : 0) | (p->bias ? FNN_RN_BIAS : 0) | (p->past ? FNN_BN_PAST : 0);
    ptrdiff_t group = first % p->groups;
    for (ptrdiff_t r = first; r < first + rows; r++, group = group + 1 < p->groups ? group + 1 : 0) {
        const real *x = (const real *)p->x + r * n;
        const real *weight = p->weight ? (const real *)p->weight + group * p->channels : NULL;
        const real *bias = p->bias ? (const real *)p->bias + group * p->channels : NULL;
        real *y = (real *)p->y + r * n;
        double mean, var;
        FN(rn_moments)(p->centred, n, x, &mean, &var);
        const double invstd = 1 / sqrt(var + p->eps), rest = mean - (real)mean;
        if (p->mean)
            p->mean[r] = mean, p->invstd[r] = invstd;
        if (p->var)
            p->var[r] = var;
        if (p->inner == 1 || !(weight || bias)) {
            FNN_BY_BITS(flags, FNN_RN_WEIGHT, FNN_RN_BIAS, FNN_BN_PAST, 0, FN(rn_affine), n, x, mean, invstd,
                        -rest * invstd, weight, bias, y)
            continue;
        }
        const real centre = (real)mean;
        for (ptrdiff_t k = 0; k < p->channels; k++, x += p->inner, y += p->inner) {
            const double factor = weight ? weight[k] * invstd : invstd;
            const real scale = (real)factor, shift = (real)((bias ? bias[k] : 0) - rest * factor);
            if (p->past)
                FN(bn_row_affine)(FNN_BN_PAST, 1, p->inner, 1, x, x, &centre, &scale, &shift, y);
            else
                FN(bn_row_affine)(0, 1, p->inner, 1, x, x, &centre, &scale, &shift, y);
        }
    }
    if (p->past)
        vstream_end();
}

/* sum g, and sum g * (x - centre), of g = dy * weight. The next row's dy is fetched here, its x by rn_backward. */
FNN_INLINE void FN(rn_sums)(const int flags, ptrdiff_t n, const real *dy, const real *x, const real *weight,
                            double centre_, double *sum, double *dot)
{
    const vec centre = vset1((real)centre_);
    *sum = *dot = 0;
    for (ptrdiff_t j0 = 0; j0 < n; j0 += FNN_CHUNK) {
        const ptrdiff_t nj = FN(least)(FNN_CHUNK, n - j0);
        vec a[FNN_ACCS] = {0}, b[FNN_ACCS] = {0};
#define EACH(v, j, lanes) \
    const vec w = FN(bn_get)(flags & FNN_RN_WEIGHT, weight + j0 + j, lanes); \
    const vec here = vload_upto(dy + j0 + j, lanes), \
              g = flags & FNN_RN_WEIGHT ? here * w : here; \
    __builtin_prefetch(dy + n + j0 + j); \
    a[v] += g, b[v] += g * (vload_upto(x + j0 + j, lanes) - centre)
        FNN_ALONG(0, nj, EACH)
#undef EACH
        *sum += FN(accs_total)(a);
        *dot += FN(accs_total)(b);
    }
}

/* dx = g * scale + (x - centre) * b + c; dweight += dy * x^ and dbias += dy with x^ = (x - centre) * scale + shift */
FNN_INLINE void FN(rn_backward)(const int flags, ptrdiff_t n, const real *dy, const real *x, const real *weight,
                                double centre_, double scale_, double shift_, double b_, double c_, real *dx,
                                real *dweight, real *dbias)
{
    const vec centre = vset1((real)centre_), scale = vset1((real)scale_), shift = vset1((real)shift_);
    const vec b = vset1((real)b_), c = vset1((real)c_);
    const ptrdiff_t head = flags & FNN_BN_PAST ? vstream_head(dx, n) : 0;
#define EACH(v, j, lanes) \
    const vec here = vload_upto(dy + j, lanes), e = vload_upto(x + j, lanes) - centre; \
    __builtin_prefetch(x + n + j); \
    if (flags & FNN_RN_SUMS) { \
        vstore_upto(dweight + j, vload_upto(dweight + j, lanes) + here * (e * scale + shift), lanes); \
        vstore_upto(dbias + j, vload_upto(dbias + j, lanes) + here, lanes); \
    } \
    if (flags & FNN_RN_DX) { \
        const vec w = FN(bn_get)(flags & FNN_RN_WEIGHT, weight + j, lanes); \
        const vec g = flags & FNN_RN_WEIGHT ? here * w : here; \
        FN(bn_put)(flags, dx + j, g * scale + (e * b + c), lanes); \
    }
    if (head) {
        EACH(0, 0, head);
    }
    FNN_ALONG(head, n, EACH)
#undef EACH
}

/* With m = n elements, d = x - mean and g = dy weight:  dx = invstd (g - sum g / m - d invstd^2 sum g d / m); without
 * the term of the mean if not centred. */
static void FN(row_norm_backward)(const fnn_row_norm_backward *p, ptrdiff_t first, ptrdiff_t rows, void *dweight_,
                                  void *dbias_)
{
    const ptrdiff_t n = p->channels * p->inner;
    const int plain = p->inner == 1 || !(p->weight || dweight_);
    const int flags = (p->weight ? FNN_RN_WEIGHT : 0) | (dweight_ ? FNN_RN_SUMS : 0) | (p->past ? FNN_BN_PAST : 0);
    real *dweight = dweight_, *dbias = dbias_;
    ptrdiff_t group = first % p->groups;
    if (plain && dweight) {
        memset(dweight, 0, (size_t)(p->groups * p->channels) * sizeof(real));
        memset(dbias, 0, (size_t)(p->groups * p->channels) * sizeof(real));
    }
    for (ptrdiff_t r = first; r < first + rows; r++, group = group + 1 < p->groups ? group + 1 : 0) {
        const real *dy = (const real *)p->dy + r * n, *x = (const real *)p->x + r * n;
        const real *weight = p->weight ? (const real *)p->weight + group * p->channels : NULL;
        real *dx = p->dx ? (real *)p->dx + r * n : NULL;
        const double mean = p->mean[r], invstd = p->invstd[r], rest = mean - (real)mean;
        const real centre = (real)mean, unused = 0;
        double sum = 0, dot = 0;
        if (plain && dx) {
            if (weight)
                FN(rn_sums)(FNN_RN_WEIGHT, n, dy, x, weight, mean, &sum, &dot);
            else
                FN(rn_sums)(0, n, dy, x, weight, mean, &sum, &dot);
        }
        for (ptrdiff_t k = 0; !plain && k < p->channels; k++) {
            double s, d;
            const ptrdiff_t at = k * p->inner;
            FN(bn_row_sums)(0, 1, p->inner, p->inner, dy + at, x + at, x, &centre, &unused, &unused, &s, &d);
            sum += weight ? weight[k] * s + 0 * weight[k] : s; /* NaN if that is infinite, as the sum of g mostly is */
            dot += weight ? weight[k] * d : d;
            if (dweight) {
                *dweight++ = (real)(invstd * (d - rest * s));
                *dbias++ = (real)s;
            }
        }
        dot -= rest * sum;
        const double slope = -invstd * invstd * invstd * dot / (double)n;
        const double constant = (p->centred ? -invstd * sum / (double)n : 0) - slope * rest;
        const real b = (real)slope, c = (real)constant;
        if (plain) {
            const ptrdiff_t at = dweight ? group * p->channels : 0;
            if (dx)
                FNN_BY_BITS(flags, FNN_RN_WEIGHT, FNN_RN_SUMS, FNN_BN_PAST, FNN_RN_DX, FN(rn_backward), n, dy, x,
                            weight, mean, invstd, -rest * invstd, slope, constant, dx, dweight + at, dbias + at)
            else
                FN(rn_backward)(FNN_RN_SUMS, n, dy, x, weight, mean, invstd, -rest * invstd, 0, 0, dx, dweight + at,
                                dbias + at);
            continue;
        }
        for (ptrdiff_t k = 0; dx && k < p->channels; k++) {
            const ptrdiff_t at = k * p->inner;
            const real a = (real)(weight ? weight[k] * invstd : invstd);
#define CHANNEL(flags) \
    FN(bn_row_backward)(flags, 1, p->inner, 1, dy + at, x + at, x, &centre, &unused, &unused, &a, &b, &c, dx + at, NULL)
            if (p->past)
                CHANNEL(FNN_BN_MOVING | FNN_BN_PAST);
            else
                CHANNEL(FNN_BN_MOVING);
#undef CHANNEL
        }
    }
    if (p->past)
        vstream_end();
}

static void FN(sum_parts)(ptrdiff_t parts, ptrdiff_t stride, ptrdiff_t n, const void *part_, void *sum_)
{
    enum { BLOCK = 64 };
    const real *part = part_;
    real *sum = sum_;
    for (ptrdiff_t j = 0; j < n; j += BLOCK) {
        const ptrdiff_t count = FN(least)(BLOCK, n - j);
        double acc[BLOCK] = {0};
        for (ptrdiff_t i = 0; i < parts; i++)
            for (ptrdiff_t l = 0; l < count; l++)
                acc[l] += part[i * stride + j + l];
        for (ptrdiff_t l = 0; l < count; l++)
            sum[j + l] = (real)acc[l];
    }
}

static const fnn_row_norm_ukernels FN(row_norm_ukernels) = {
    .row_norm = FN(row_norm),
    .row_norm_backward = FN(row_norm_backward),
    .sum_parts = FN(sum_parts),
};
#undef FNN_BY_BITS
