/* Rows of a table, looked up and summed. Rows have d elements. */

/* Row j of y is row index[j] of weight. */
static void FN(embedding_gather)(ptrdiff_t n, ptrdiff_t d, const int64_t *index, const void *weight_, void *y_,
                                 int past)
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

/* n zeros; past: p is aligned and n a multiple of VL. */
FNN_INLINE void FN(zeros)(ptrdiff_t n, real *p, int past)
{
    if (past)
        for (ptrdiff_t i = 0; i < n; i += VL)
            vstream(p + i, (vec){0});
    else
        memset(p, 0, (size_t)n * sizeof(real));
}

/* w elements of the sum of the rows order[0], …, order[count - 1] of dy, w <= 8 * VL, in that order; inlined for a
 * constant w, the sums are in registers. */
FNN_INLINE void FN(sum_of_rows)(ptrdiff_t count, const int64_t *order, ptrdiff_t d, const ptrdiff_t w, const real *dy,
                                real divisor, real *out, int past)
{
    vec acc[8] = {{0}};
    for (ptrdiff_t k = 0; k < count; k++)
#pragma GCC unroll 8
        for (ptrdiff_t i = 0; i < 8; i++)
            if (i * VL < w)
                acc[i] += vload_upto(dy + order[k] * d + i * VL, w - i * VL);
#pragma GCC unroll 8
    for (ptrdiff_t i = 0; i < 8; i++)
        if (i * VL < w) {
            const vec v = divisor == 1 ? acc[i] : acc[i] / divisor;
            if (past)
                vstream(out + i * VL, v);
            else
                vstore_upto(out + i * VL, v, w - i * VL);
        }
}

static void FN(embedding_sums)(const fnn_scatter *s, ptrdiff_t first, ptrdiff_t rows, ptrdiff_t c0, ptrdiff_t c1,
                               void *dweight_, int past)
{
    const ptrdiff_t d = s->d, end = first + rows;
    const int64_t *start = s->start;
    const real *dy = s->dy;
    real *dweight = dweight_;
    past = past && vstream_head(dweight, d) == 0 && d % VL == 0 && (c1 - c0) % VL == 0;
    for (ptrdiff_t r = first; r < end;) {
        const ptrdiff_t count = start[r + 1] - start[r];
        if (count == 0) { /* as most rows are of a large table */
            ptrdiff_t next = r + 1;
            while (c1 - c0 == d && next < end && start[next + 1] == start[r])
                next++;
            FN(zeros)(c1 - c0 == d ? (next - r) * d : c1 - c0, dweight + r * d + c0, past);
            r = next;
            continue;
        }
        const real divisor = s->by_frequency ? (real)count : 1;
        const int64_t *order = s->order + start[r];
        ptrdiff_t c = c0;
        for (; c + 8 * VL <= c1; c += 8 * VL)
            FN(sum_of_rows)(count, order, d, 8 * VL, dy + c, divisor, dweight + r * d + c, past);
        for (; c + 2 * VL <= c1; c += 2 * VL)
            FN(sum_of_rows)(count, order, d, 2 * VL, dy + c, divisor, dweight + r * d + c, past);
        if (c < c1)
            FN(sum_of_rows)(count, order, d, c1 - c, dy + c, divisor, dweight + r * d + c, past);
        r++;
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
