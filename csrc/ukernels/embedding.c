/* Rows of a table, looked up and summed. Rows have d elements. */

/* Row j of y is row index[j] of weight. */
static void FN(embedding_gather)(ptrdiff_t n, ptrdiff_t d, const int64_t *index, const void *weight_, void *y_, int past)
{
    enum { AHEAD = 4 /* rows fetched before their turn, since no prefetcher can know them */ };
    const real *weight = weight_;
    real *y = y_;
    past = past && vstream_head(y, d) == 0 && d % VL == 0;
    for (ptrdiff_t j = 0; j < n; j++, y += d) {
        const real *row = weight + index[j] * d;
        if (j + AHEAD < n)
            for (ptrdiff_t i = 0; i < d; i += 64 / (ptrdiff_t)sizeof(real))
                __builtin_prefetch(weight + index[j + AHEAD] * d + i);
        if (past)
            for (ptrdiff_t i = 0; i < d; i += VL)
                vstream(y + i, vload(row + i));
        else
            for (ptrdiff_t i = 0; i < d; i += VL)
                vstore_upto(y + i, vload_upto(row + i, d - i), d - i);
    }
    if (past)
        vstream_end();
}

/* Elements [c, c + w) of the sum of the rows order[0], …, order[count - 1] of dy, in that order; w <= 8 * VL. */
FNN_INLINE void FN(sum_of_rows)(ptrdiff_t count, const int64_t *order, ptrdiff_t d, ptrdiff_t c, ptrdiff_t w,
                                const real *dy, vec divisor, real *out, int past)
{
    vec acc[8] = {{0}};
    if (w == 8 * VL) {
        for (ptrdiff_t k = 0; k < count; k++)
#pragma GCC unroll 8
            for (int i = 0; i < 8; i++)
                acc[i] += vload(dy + order[k] * d + c + i * VL);
    } else {
        for (ptrdiff_t k = 0; k < count; k++)
            for (ptrdiff_t i = 0; i * VL < w; i++)
                acc[i] += vload_upto(dy + order[k] * d + c + i * VL, w - i * VL);
    }
    for (ptrdiff_t i = 0; i * VL < w; i++) {
        const vec v = acc[i] / divisor;
        if (past)
            vstream(out + i * VL, v);
        else
            vstore_upto(out + i * VL, v, w - i * VL);
    }
}

static void FN(embedding_sums)(const fnn_scatter *s, ptrdiff_t first, ptrdiff_t rows, ptrdiff_t c0, ptrdiff_t c1,
                               void *dweight_, int past)
{
    const ptrdiff_t d = s->d;
    real *dweight = dweight_;
    past = past && vstream_head(dweight + first * d + c0, d) == 0 && d % VL == 0 && (c1 - c0) % VL == 0;
    for (ptrdiff_t r = first; r < first + rows; r++) {
        const ptrdiff_t count = s->start[r + 1] - s->start[r];
        const vec divisor = vset1(s->by_frequency && count ? (real)count : 1);
        for (ptrdiff_t c = c0; c < c1; c += 8 * VL)
            FN(sum_of_rows)(count, s->order + s->start[r], d, c, c1 - c < 8 * VL ? c1 - c : 8 * VL, s->dy, divisor,
                            dweight + r * d + c, past);
    }
    if (past)
        vstream_end();
}

/* The p-norm, in double precision. */
static double FN(embedding_norm)(ptrdiff_t d, const real *x, double p)
{
    double sum = 0;
    for (ptrdiff_t i = 0; i < d; i++) {
        const double a = fabs((double)x[i]);
        if (isinf(p))
            sum = a > sum || a != a ? a : sum;
        else
            sum += p == 2 ? a * a : p == 1 ? a : pow(a, p);
    }
    return isinf(p) || p == 1 ? sum : p == 2 ? sqrt(sum) : pow(sum, 1 / p);
}

static void FN(embedding_renorm)(ptrdiff_t d, double max_norm, double p, void *row_)
{
    real *row = row_;
    const double norm = FN(embedding_norm)(d, row, p);
    if (!(norm > max_norm))
        return;
    const vec scale = vset1((real)(max_norm / (norm + 1e-7)));
    for (ptrdiff_t i = 0; i < d; i += VL)
        vstore_upto(row + i, vload_upto(row + i, d - i) * scale, d - i);
}

static const fnn_embedding_ukernels FN(embedding_ukernels) = {
    .gather = FN(embedding_gather),
    .sums = FN(embedding_sums),
    .renorm = FN(embedding_renorm),
};
