/* Losses. Problems of the cross-entropy lie in memory as those of softmax.c; targets, losses and statistics have
 * one element a problem, side by side. Sums of losses are formed in double. */

/* Both: loss = (1-s) (log Σ e^(x-m) - (x[t]-m)) + s (log Σ e^(x-m) - Σ(x-m) / n), s the smoothing; 0 if ignored. */
FNN_INLINE real FN(cross_entropy_of)(ptrdiff_t n, real log_sum, real target_logit, real centred_sum, real smoothing)
{
    const real loss = log_sum - target_logit;
    return smoothing == 0 ? loss : (1 - smoothing) * loss + smoothing * (log_sum - centred_sum / n);
}

static void FN(cross_entropy)(ptrdiff_t n, ptrdiff_t stride, ptrdiff_t w, const void *x_, const int64_t *target,
                              int64_t ignore, double smoothing_, void *loss_, void *max_, void *sum_)
{
    const real *x = x_, smoothing = (real)smoothing_;
    real *loss = loss_, max[FNN_COLUMNS], sum[FNN_COLUMNS], log_sum[FNN_COLUMNS], centred[FNN_COLUMNS] = {0};
    if (stride == 1) {
        vec tail;
        max[0] = FN(row_max)(n, x);
        sum[0] = FN(row_exp)(n, x, max[0], NULL, &tail);
        if (smoothing != 0) {
            vec c = {0};
            for (ptrdiff_t i = 0; i < n; i += VL)
                c += vload_pad(x + i, n - i, max[0]) - max[0];
            centred[0] = vsum(c);
        }
    } else {
        FN(columns_max)(n, stride, w, x, max);
        FN(columns_exp)(n, stride, w, x, max, sum, NULL);
        if (smoothing != 0)
            for (ptrdiff_t i = 0; i < n; i++)
                for (ptrdiff_t j = 0; j < w; j += VL)
                    vstore(centred + j, vload(centred + j) + (vload_upto(x + i * stride + j, w - j) - vload(max + j)));
    }
    for (ptrdiff_t j = 0; j < w; j += VL)
        vstore(log_sum + j, vlog(vload_upto(sum + j, w - j)));
    for (ptrdiff_t j = 0; j < w; j++)
        loss[j] = target[j] == ignore ? 0
                                      : FN(cross_entropy_of)(n, log_sum[j], x[target[j] * stride + j] - max[j],
                                                             centred[j], smoothing);
    if (max_) {
        memcpy(max_, max, (size_t)w * sizeof(real));
        memcpy(sum_, sum, (size_t)w * sizeof(real));
    }
}

/* dx = g (e^(x-m) / Σ e^(x-m) - s/n - (1-s) [i = t]) with g = scale dy; 0 if ignored. dy_step 0: one dy for all. */
static void FN(cross_entropy_backward)(ptrdiff_t n, ptrdiff_t stride, ptrdiff_t w, const void *x_,
                                       const int64_t *target, int64_t ignore, double smoothing, const void *max_,
                                       const void *sum_, const void *dy_, ptrdiff_t dy_step, double scale, void *dx_)
{
    const real *x = x_, *max = max_, *sum = sum_, *dy = dy_, uniform = (real)(smoothing / n);
    real *dx = dx_;
    if (stride == 1) {
        if (*target == ignore) {
            memset(dx, 0, (size_t)n * sizeof(real));
            return;
        }
        const vec g = vset1((real)(*dy * scale)), p = vset1(1 / *sum);
        for (ptrdiff_t i = 0; i < n; i += VL)
            vstore_upto(dx + i, g * (vexp(vload_upto(x + i, n - i) - *max) * p - uniform), n - i);
        dx[*target] -= g[0] * (real)(1 - smoothing);
        return;
    }
    real g[FNN_COLUMNS], ignored[FNN_COLUMNS];
    for (ptrdiff_t j = 0; j < w; j++) {
        g[j] = (real)(dy[j * dy_step] * scale);
        ignored[j] = target[j] == ignore;
    }
    for (ptrdiff_t i = 0; i < n; i++)
        for (ptrdiff_t j = 0; j < w; j += VL) {
            const vec p = vexp(vload_upto(x + i * stride + j, w - j) - vload_upto(max + j, w - j)) /
                          vload_upto(sum + j, w - j);
            const vec v = vload_upto(g + j, w - j) * (p - uniform);
            vstore_upto(dx + i * stride + j, vsel(vload_upto(ignored + j, w - j) != 0, (vec){0}, v), w - j);
        }
    for (ptrdiff_t j = 0; j < w; j++)
        if (!ignored[j])
            dx[target[j] * stride + j] -= g[j] * (real)(1 - smoothing);
}

/* acc += a * b, exactly multiplied and summed in double */
typedef double FN(dvec) __attribute__((vector_size(FNN_VBYTES)));

FNN_INLINE void FN(accumulate)(FN(dvec) acc[2], vec a, vec b)
{
#if FNN_BITS == 32
    typedef float half __attribute__((vector_size(FNN_VBYTES / 2)));
    half h[2], k[2];
    memcpy(h, &a, sizeof a);
    memcpy(k, &b, sizeof b);
    for (int i = 0; i < 2; i++)
        acc[i] += __builtin_convertvector(h[i], FN(dvec)) * __builtin_convertvector(k[i], FN(dvec));
#else
    acc[0] += a * b;
#endif
}

FNN_INLINE double FN(total)(const FN(dvec) acc[2])
{
    double sum = 0;
    for (size_t i = 0; i < sizeof acc[0] / sizeof(double); i++)
        sum += acc[0][i] + acc[1][i];
    return sum;
}

static double FN(sum)(ptrdiff_t n, const void *x_)
{
    const real *x = x_;
    FN(dvec) acc[2] = {{0}};
    for (ptrdiff_t i = 0; i < n; i += VL)
        FN(accumulate)(acc, vload_upto(x + i, n - i), vset1(1));
    return FN(total)(acc);
}

static double FN(squared_error_sum)(ptrdiff_t n, const void *x_, const void *target_)
{
    const real *x = x_, *target = target_;
    FN(dvec) acc[2] = {{0}};
    for (ptrdiff_t i = 0; i < n; i += VL) {
        const vec d = vload_upto(x + i, n - i) - vload_upto(target + i, n - i);
        FN(accumulate)(acc, d, d);
    }
    return FN(total)(acc);
}

/* dx = 2 g (x - target) with g = scale dy, dtarget = -dx; either may be NULL. dy_step 0: one dy for all. */
static void FN(squared_error_backward)(ptrdiff_t n, const void *x_, const void *target_, const void *dy_,
                                       ptrdiff_t dy_step, double scale, void *dx_, void *dtarget_)
{
    const real *x = x_, *target = target_, *dy = dy_;
    real *dx = dx_, *dtarget = dtarget_;
    const vec all = vset1((real)(2 * scale * *dy)), two = vset1((real)(2 * scale));
    for (ptrdiff_t i = 0; i < n; i += VL) {
        const vec g = dy_step ? vload_upto(dy + i, n - i) * two : all;
        const vec d = (vload_upto(x + i, n - i) - vload_upto(target + i, n - i)) * g;
        if (dx)
            vstore_upto(dx + i, d, n - i);
        if (dtarget)
            vstore_upto(dtarget + i, -d, n - i);
    }
}

static const fnn_loss_ukernels FN(loss_ukernels) = {
    .cross_entropy = FN(cross_entropy),
    .cross_entropy_backward = FN(cross_entropy_backward),
    .sum = FN(sum),
    .squared_error_sum = FN(squared_error_sum),
    .squared_error_backward = FN(squared_error_backward),
};
