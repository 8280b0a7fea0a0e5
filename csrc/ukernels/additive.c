/* Additive attention: scores weight . tanh(q + k), lanes along the features of queries and keys. The tanhs of all pairs
 * are never stored: the backward pass computes them again. And softmax along rows of scores, also for few queries of
 * scaled dot-product attention. */

/* s[i] = weight . tanh(q + k[i]), keys in rows of n features; four at a time share the sums across lanes */
static void FN(additive_scores)(ptrdiff_t keys, ptrdiff_t n, const void *q_, const void *k_, const void *weight_,
                                void *s_)
{
    const real *q = q_, *k = k_, *weight = weight_;
    real *s = s_, four[4];
    for (; keys > 0; keys -= 4, k += 4 * n, s += 4) {
        vec sums[4] = {{0}};
        const int rows = keys < 4 ? (int)keys : 4;
        for (ptrdiff_t a = 0; a < n; a += VL) {
            const vec qa = vload_upto(q + a, n - a), w = vload_upto(weight + a, n - a);
            for (int i = 0; i < rows; i++)
                sums[i] += w * vtanh(qa + vload_upto(k + i * n + a, n - a));
        }
        vsum4(sums[0], sums[1], sums[2], sums[3], four);
        memcpy(s, four, (size_t)rows * sizeof(real));
    }
}

/* y = factor * x */
static void FN(additive_scale)(ptrdiff_t n, double factor, const void *x, void *y)
{
    for (ptrdiff_t i = 0; i < n; i += VL)
        vstore_upto((real *)y + i, vload_upto((const real *)x + i, n - i) * (real)factor, n - i);
}

/* The softmax of s + mask, of which successive elements are `step` apart (of bytes, -inf where it is 0), in place;
 * zeros if all are -inf. max and norm (NULL: not wanted) as attention_finish has them. */
static void FN(additive_softmax)(ptrdiff_t n, const void *mask, ptrdiff_t step, int boolean, void *s_, void *max,
                                 void *norm)
{
    real *s = s_;
    for (ptrdiff_t i = 0; mask && i < n; i++)
        s[i] += !boolean ? ((const real *)mask)[i * step] : ((const uint8_t *)mask)[i * step] ? 0 : -(real)INFINITY;
    const real m = FN(row_max)(n, s), base = m == -INFINITY ? 0 : m;
    vec tail;
    const real sum = FN(row_exp)(n, s, base, s, &tail), scale = sum == 0 ? 0 : 1 / sum;
    ptrdiff_t i = 0;
    for (; i + VL <= n; i += VL)
        vstore(s + i, vload(s + i) * scale);
    if (i < n)
        vstore_n(s + i, tail * scale, n - i);
    if (max)
        *(real *)max = base, *(real *)norm = scale;
}

/* From the gradients ds (queries, keys) at the scores, for n features (rows of q, k, dq, dk are `row` apart):
 * dq, dk and dweight, each of which may be NULL. */
static void FN(additive_backward)(ptrdiff_t queries, ptrdiff_t keys, ptrdiff_t n, ptrdiff_t row, const void *q_,
                                  const void *k_, const void *weight_, const void *ds_, void *dq_, void *dk_,
                                  void *dweight_)
{
    const real *weight = weight_;
    for (ptrdiff_t a = 0; a < n; a += VL) {
        const ptrdiff_t left = n - a;
        const real *q = (const real *)q_ + a, *ds = ds_;
        const vec w = vload_upto(weight + a, left);
        vec dw = {0};
        for (ptrdiff_t i = 0; dk_ && i < keys; i++)
            vstore_upto((real *)dk_ + i * row + a, (vec){0}, left);
        for (ptrdiff_t t = 0; t < queries; t++, q += row, ds += keys) {
            const vec qa = vload_upto(q, left);
            const real *k = (const real *)k_ + a;
            real *dk = dk_ ? (real *)dk_ + a : 0;
            vec dq = {0}, dw_t = {0};
            for (ptrdiff_t i = 0; i < keys; i++, k += row) {
                const vec d = vset1(ds[i]), y = vtanh(qa + vload_upto(k, left)), g = d * (1 - y * y);
                dw_t += d * y;
                dq += g;
                if (dk) {
                    vstore_upto(dk, vload_upto(dk, left) + g * w, left);
                    dk += row;
                }
            }
            dw += dw_t;
            if (dq_)
                vstore_upto((real *)dq_ + t * row + a, dq * w, left);
        }
        if (dweight_)
            vstore_upto((real *)dweight_ + a, dw, left);
    }
}

static const fnn_additive_ukernels FN(additive_ukernels) = {
    .scores = FN(additive_scores),
    .scale = FN(additive_scale),
    .softmax = FN(additive_softmax),
    .backward = FN(additive_backward),
};
