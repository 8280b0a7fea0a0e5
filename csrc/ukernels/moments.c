/* Means and squared deviations of rows in memory, shared by the families of normalisation.
 *
 * Moments are summed in chunks of a fixed size (so results depend on the shape alone), as deviations from the mean of
 * the chunks before; of the first chunk, from its own. Chunks are merged in double precision by the update of Chan,
 * Golub & LeVeque (1983). Nothing cancels: a chunk whose mean lies D from the others' loses eps D^2 an element, and
 * adds at least D^2 / 2 to the sum of squares.
 */

#undef FNN_CHUNK
#undef FNN_ACCS
#undef FNN_ALONG
#define FNN_CHUNK ((ptrdiff_t)4096) /* elements */
#define FNN_ACCS 4

FNN_INLINE ptrdiff_t FN(least)(ptrdiff_t a, ptrdiff_t b) { return a < b ? a : b; }

/* x - centre, 0 in the lanes from `lanes` on */
FNN_INLINE vec FN(deviation)(const real *x, vec centre, ptrdiff_t lanes)
{
    const vec e = vload_upto(x, lanes) - centre;
    return lanes < VL ? vsel(viota() < (inat)lanes, e, (vec){0}) : e;
}

/* Adds chunks of nb elements, with mean centre + d/nb and squared deviations dd - d*d/nb, to the totals over na. */
FNN_INLINE void FN(merge_moments)(ptrdiff_t lanes, double na, double nb, const real *centre, const real *d,
                                  const real *dd, double *total, double *m2)
{
    const double ra = na > 0 ? 1 / na : 0, rb = 1 / nb, weight = na * nb / (na + nb);
    for (ptrdiff_t l = 0; l < lanes; l++) {
        /* d is NaN if the chunk has an infinity; the mean is that infinity */
        const double mean = centre[l] + (d[l] == d[l] ? d[l] * rb : 0), delta = mean - total[l] * ra;
        /* What overflowed stays infinite, as in the sum of the squares of deviations: not infinity - infinity or * 0 */
        const double m2b = dd[l] - dd[l] == 0 ? dd[l] - (double)d[l] * d[l] * rb : dd[l];
        m2[l] += (m2b < 0 ? 0 : m2b) + (weight > 0 ? delta * delta * weight : 0);
        total[l] += mean * nb;
    }
}

/* A row from element `from` on, for FNN_ACCS accumulators: EACH(v, j, lanes) */
#define FNN_ALONG(from, s, EACH) \
    { \
        ptrdiff_t j = from; \
        for (; j + FNN_ACCS * VL <= (s); j += FNN_ACCS * VL) { \
            _Pragma("GCC unroll 4") for (int v = 0; v < FNN_ACCS; v++) { EACH(v, j + v * VL, VL); } \
        } \
        _Pragma("GCC unroll 4") for (int v = 0; v < FNN_ACCS; v++, j += VL) \
        { \
            if (j + VL <= (s)) { \
                EACH(v, j, VL); \
            } else if (j < (s)) { \
                EACH(v, j, (s)-j); \
            } \
        } \
    }

FNN_INLINE real FN(accs_total)(const vec *acc) { return vsum((acc[0] + acc[1]) + (acc[2] + acc[3])); }

/* Of n rows of s elements, which a thread goes through in chunks, one channel after the other: how far behind a chunk
 * that lies which is needed next, a row of the next channel if there are few, else of the next chunk. */
FNN_INLINE ptrdiff_t FN(next_chunk)(ptrdiff_t n, ptrdiff_t s, ptrdiff_t stride)
{
    if (s >= FNN_CHUNK)
        return FNN_CHUNK;
    return n * s <= 4 * FNN_CHUNK ? s : FNN_CHUNK / s * stride;
}

/* Of ni rows of nj elements: the sum of the deviations from *centre, and of their squares. A centre that is not finite
 * (no value is known yet, or an infinite one or a NaN was among them) becomes the rows' own mean. What lies `ahead`
 * elements behind them is fetched meanwhile. */
FNN_INLINE void FN(chunk_moments)(ptrdiff_t ni, ptrdiff_t nj, ptrdiff_t stride, const real *x, ptrdiff_t ahead,
                                  real *centre, real *sum_d, real *sum_dd)
{
    if (ni == 1 && nj <= VL) { /* the same, without the steps that have nothing to do */
        if (!(*centre - *centre == 0))
            *centre = vsum(vload_upto(x, nj)) / (real)nj;
        const vec e = FN(deviation)(x, vset1(*centre), nj);
        *sum_d = vsum(e);
        *sum_dd = vsum(e * e);
        return;
    }
    vec d[FNN_ACCS] = {0}, dd[FNN_ACCS] = {0};
    if (!(*centre - *centre == 0)) {
        vec a[FNN_ACCS] = {0};
        for (ptrdiff_t i = 0; i < ni; i++) {
            const real *p = x + i * stride;
#define EACH(v, j, lanes) a[v] += vload_upto(p + j, lanes)
            FNN_ALONG(0, nj, EACH)
#undef EACH
        }
        *centre = FN(accs_total)(a) / (real)(ni * nj);
    }
    const vec mean = vset1(*centre);
    for (ptrdiff_t i = 0; i < ni; i++) {
        const real *p = x + i * stride;
#define EACH(v, j, lanes) \
    const vec e = FN(deviation)(p + j, mean, lanes); \
    __builtin_prefetch(p + j + ahead); \
    d[v] += e, dd[v] += e * e
        FNN_ALONG(0, nj, EACH)
#undef EACH
    }
    *sum_d = FN(accs_total)(d);
    *sum_dd = FN(accs_total)(dd);
}

/* Sum and squared deviations of n rows of s elements, `stride` apart. */
static void FN(row_moments)(ptrdiff_t n, ptrdiff_t s, ptrdiff_t stride, const real *x, double *total, double *m2)
{
    const ptrdiff_t rows = s < FNN_CHUNK ? FNN_CHUNK / s : 1, ahead = FN(next_chunk)(n, s, stride);
    double count = 0;
    *total = *m2 = 0;
    for (ptrdiff_t i0 = 0; i0 < n; i0 += rows)
        for (ptrdiff_t j0 = 0; j0 < s; j0 += FNN_CHUNK) {
            const ptrdiff_t ni = FN(least)(rows, n - i0), nj = FN(least)(FNN_CHUNK, s - j0);
            real d, dd, centre = (real)(*total / count);
            FN(chunk_moments)(ni, nj, stride, x + i0 * stride + j0, ahead, &centre, &d, &dd);
            FN(merge_moments)(1, count, (double)(ni * nj), &centre, &d, &dd, total, m2);
            count += (double)(ni * nj);
        }
}
