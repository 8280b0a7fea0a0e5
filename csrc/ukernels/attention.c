/* Attention between its matrix products.
 *
 * A block of scores is transposed: rows are keys, and the NR columns are queries. Softmax runs down the columns, so that
 * lanes are problems of their own, and nothing is ever summed across a vector. Lanes behind the last query hold harmless
 * numbers.
 *
 * The softmax is that of FlashAttention (Dao et al. 2022; online softmax: Milakov & Gimelshein 2018): with m the maximum
 * so far, s the sum of e^(x-m) and y the sum of e^(x-m) v, a larger maximum m' scales both by e^(m-m'). A query whose
 * scores are all -inf keeps m = -inf and s = 0; its results are zeros. NaN is passed over by the maximum and reaches
 * the results through the sum.
 */

#undef NR
#define NR (2 * VL)

/* dst[e][j] = factor * src[j][e] for j < queries, 0 for the other columns */
static void FN(attention_columns)(ptrdiff_t queries, ptrdiff_t n, const void *src, ptrdiff_t src_row, double factor,
                                  void *dst_)
{
    real *dst = dst_;
    FN(transpose)(queries, n, src, src_row, dst, NR);
    const lanes m0 = vfirst(queries < VL ? queries : VL), m1 = vfirst(queries < VL ? 0 : queries - VL);
    for (; n--; dst += NR) {
        vstore(dst, vpick(m0, vload(dst) * (real)factor, (vec){0}));
        vstore(dst + VL, vpick(m1, vload(dst + VL) * (real)factor, (vec){0}));
    }
}

/* s[i][j] += mask[j*column + i*row]; of bytes, -inf where it is 0 */
static void FN(attention_mask)(ptrdiff_t keys, ptrdiff_t queries, const void *mask, ptrdiff_t row, ptrdiff_t column,
                               int boolean, void *s_)
{
    real *s = s_, part[FNN_ATTENTION_KEYS], turned[FNN_ATTENTION_KEYS * NR];
    const real *reals = mask;
    const uint8_t *bytes = mask;
    if (column == 0) { /* the same for all queries */
        for (ptrdiff_t i = 0; i < keys; i++, s += NR) {
            const vec x = vset1(!boolean ? reals[i * row] : bytes[i * row] ? 0 : -(real)INFINITY);
            vstore(s, vload(s) + x);
            vstore(s + VL, vload(s + VL) + x);
        }
        return;
    }
    memset(turned, 0, (size_t)(keys * NR) * sizeof(real));
    if (row == 1 && !boolean)
        FN(transpose)(queries, keys, mask, column, turned, NR);
    else
        for (ptrdiff_t j = 0; j < queries; j++) {
            if (boolean)
                for (ptrdiff_t i = 0; i < keys; i++)
                    part[i] = bytes[j * column + i * row] ? 0 : -(real)INFINITY;
            else
                for (ptrdiff_t i = 0; i < keys; i++)
                    part[i] = reals[j * column + i * row];
            for (ptrdiff_t i = 0; i < keys; i++)
                turned[i * NR + j] = part[i];
        }
    for (ptrdiff_t i = 0; i < keys * NR; i += VL)
        vstore(s + i, vload(s + i) + vload(turned + i));
}

/* s[i][j] = -inf for j < first + i */
static void FN(attention_causal)(ptrdiff_t keys, ptrdiff_t first, void *s_)
{
    real *s = s_;
    const vec out = vset1(-INFINITY);
    for (ptrdiff_t i = 0; i < keys; i++, s += NR, first++) {
        if (first <= 0)
            continue;
        vstore(s, vpick(vbetween(first, VL), vload(s), out));
        vstore(s + VL, vpick(vbetween(first - VL, VL), vload(s + VL), out));
    }
}

/* No keys yet. */
static void FN(attention_start)(ptrdiff_t n, void *max_, void *sum_)
{
    real *max = max_, *sum = sum_;
    for (ptrdiff_t i = 0; i < n; i += VL) {
        vstore(max + i, vset1(-INFINITY));
        vstore(sum + i, (vec){0});
    }
}

/* Further keys: s = e^(s-max) with the new maximum; sum, and the NR columns of the `rows` rows of y, are scaled to it. */
static void FN(attention_softmax)(ptrdiff_t keys, void *s_, void *max_, void *sum_, ptrdiff_t rows, void *y_)
{
    for (int half = 0; half < 2; half++) {
        real *s = (real *)s_ + half * VL, *y = (real *)y_ + half * VL, *max = (real *)max_ + half * VL;
        real *sum = (real *)sum_ + half * VL;
        const vec before = vload(max);
        vec m0 = before, m1 = before;
        ptrdiff_t i = 0;
        for (; i + 2 <= keys; i += 2) {
            m0 = vmax(vload(s + i * NR), m0);
            m1 = vmax(vload(s + (i + 1) * NR), m1);
        }
        if (i < keys)
            m0 = vmax(vload(s + i * NR), m0);
        m0 = vmax(m0, m1);
        const vec base = vsel(m0 == vset1(-INFINITY), (vec){0}, m0);
        vec total = {0};
        for (i = 0; i < keys; i++) {
            const vec e = vexp(vload(s + i * NR) - base);
            vstore(s + i * NR, e);
            total += e;
        }
        const vec scale = vexp(before - base);
        vstore(max, m0);
        vstore(sum, vload(sum) * scale + total);
        for (i = 0; i < rows; i++)
            vstore(y + i * NR, vload(y + i * NR) * scale);
    }
}

/* The end: dst[j][e] = y[e][j] / sum[j], e < rows, and for the backward pass max and 1 / sum; that is 0 of a sum of 0,
 * whose maximum is then 0. */
static void FN(attention_finish)(ptrdiff_t queries, ptrdiff_t rows, void *y_, const void *max_, const void *sum_,
                                 void *dst, ptrdiff_t dst_row, void *max_out, void *norm_out)
{
    real *y = y_;
    for (ptrdiff_t half = 0; half < NR && half < queries; half += VL) {
        const vec sum = vload((const real *)sum_ + half), max = vload((const real *)max_ + half);
        const vec norm = vsel(sum == vset1(0), (vec){0}, 1 / sum);
        if (max_out) {
            vstore_upto((real *)max_out + half, vsel(max == vset1(-INFINITY), (vec){0}, max), queries - half);
            vstore_upto((real *)norm_out + half, norm, queries - half);
        }
        for (ptrdiff_t i = 0; i < rows; i++)
            vstore(y + i * NR + half, vload(y + i * NR + half) * norm);
    }
    FN(transpose)(rows, queries, y, NR, dst, dst_row);
}

/* s = e^(s-max) * norm */
static void FN(attention_weights)(ptrdiff_t keys, void *s_, const void *max_, const void *norm_)
{
    real *s = s_;
    const vec max0 = vload(max_), max1 = vload((const real *)max_ + VL);
    const vec norm0 = vload(norm_), norm1 = vload((const real *)norm_ + VL);
    for (; keys--; s += NR) {
        vstore(s, vexp(vload(s) - max0) * norm0);
        vstore(s + VL, vexp(vload(s + VL) - max1) * norm1);
    }
}

/* From the gradient at the weights to that at the scores: ds = factor * p * (ds - delta) */
static void FN(attention_gradient)(ptrdiff_t keys, const void *p_, const void *delta_, double factor, void *ds_)
{
    const real *p = p_;
    real *ds = ds_;
    const vec d0 = vload(delta_), d1 = vload((const real *)delta_ + VL), f = vset1((real)factor);
    for (; keys--; p += NR, ds += NR) {
        vstore(ds, vload(p) * (vload(ds) - d0) * f);
        vstore(ds + VL, vload(p + VL) * (vload(ds + VL) - d1) * f);
    }
}

/* sum[j] += a[j] . b[j], rows of n elements */
static void FN(attention_dots)(ptrdiff_t rows, ptrdiff_t n, const void *a_, const void *b_, void *sum_)
{
    const real *a = a_, *b = b_;
    real *sum = sum_;
    for (; rows--; a += n, b += n) {
        vec total = {0};
        for (ptrdiff_t i = 0; i < n; i += VL)
            total += vload_upto(a + i, n - i) * vload_upto(b + i, n - i);
        *sum++ += vsum(total);
    }
}

static const fnn_attention_ukernels FN(attention_ukernels) = {
    .columns = FN(attention_columns),
    .mask = FN(attention_mask),
    .causal = FN(attention_causal),
    .start = FN(attention_start),
    .softmax = FN(attention_softmax),
    .finish = FN(attention_finish),
    .weights = FN(attention_weights),
    .gradient = FN(attention_gradient),
    .dots = FN(attention_dots),
};
#undef NR
