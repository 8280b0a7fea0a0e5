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

/* Losses of one element x and its target t, with a parameter p and, for one of them, w: the value, and the slopes along
 * x and t. Loops and table as in elementwise.c. */

/* The n - i elements from i on of an array that may be absent, and is 1 then. */
FNN_INLINE vec FN(load_or_one)(const real *x, ptrdiff_t i, ptrdiff_t n)
{
    return x ? vload_upto(x + i, n - i) : vset1(1);
}

typedef vec FN(pair_function)(vec x, vec t, vec w, vec p);

/* Weighted value of elements i and on of the arrays, zero behind their end n. */
FNN_INLINE vec FN(pair_at)(FN(pair_function) *f, const fnn_pairs *a, ptrdiff_t i, ptrdiff_t n)
{
    const vec v = f(vload_upto((const real *)a->x + i, n - i), vload_upto((const real *)a->target + i, n - i),
                    FN(load_or_one)(a->positive, i, n), vset1((real)a->p));
    return a->weight ? v * FN(load_or_one)(a->weight, i, n) : v;
}

FNN_INLINE void FN(pair_values)(FN(pair_function) *f, const fnn_pairs *a, ptrdiff_t first, ptrdiff_t n, real *y)
{
    for (ptrdiff_t i = first; i < first + n; i += VL)
        vstore_upto(y + i, FN(pair_at)(f, a, i, first + n), first + n - i);
}

FNN_INLINE double FN(pair_sum)(FN(pair_function) *f, const fnn_pairs *a, ptrdiff_t first, ptrdiff_t n)
{
    FN(dvec) acc[2] = {{0}};
    ptrdiff_t i = first;
    for (; i + VL <= first + n; i += VL)
        FN(accumulate)(acc, FN(pair_at)(f, a, i, first + n), vset1(1));
    if (i < first + n)
        FN(accumulate)(acc, vsel(viota() < (inat)(first + n - i), FN(pair_at)(f, a, i, first + n), (vec){0}), vset1(1));
    return FN(total)(acc);
}

/* dx = g times the slope along x, with g = scale dy, dtarget likewise; either may be NULL. dy_step 0: one dy for all. */
FNN_INLINE void FN(pair_gradients)(FN(pair_function) *slope, FN(pair_function) *target_slope, const fnn_pairs *a,
                                   ptrdiff_t first, ptrdiff_t n, const real *dy, ptrdiff_t dy_step, double scale,
                                   real *dx, real *dtarget)
{
    const vec all = vset1((real)(scale * *dy)), factor = vset1((real)scale);
    const ptrdiff_t end = first + n;
    for (ptrdiff_t i = first; i < end; i += VL) {
        const vec g = dy_step ? vload_upto(dy + i, end - i) * factor : all;
        if (dx)
            vstore_upto(dx + i, g * FN(pair_at)(slope, a, i, end), end - i);
        if (dtarget)
            vstore_upto(dtarget + i, g * FN(pair_at)(target_slope, a, i, end), end - i);
    }
}

#define FNN_UNUSED __attribute__((unused))
#define FNN_PAIR(name) \
    FNN_INLINE vec FN(name)(vec x FNN_UNUSED, vec t FNN_UNUSED, vec w FNN_UNUSED, vec p FNN_UNUSED)

/* Losses of the difference have opposite slopes. */
#define FNN_DIFFERENCE(name) \
    FNN_PAIR(name##_target_slope) { return -FN(name##_slope)(x, t, w, p); }

FNN_PAIR(mse_value) { return (x - t) * (x - t); }
FNN_PAIR(mse_slope) { return 2 * (x - t); }
FNN_DIFFERENCE(mse)

/* NaN stays, and ±0 gives 0. */
FNN_INLINE vec FN(sign_of)(vec d) { return vsel(d > vset1(0), vset1(1), vsel(d < vset1(0), vset1(-1), d)); }

FNN_PAIR(l1_value) { return vabs(x - t); }
FNN_PAIR(l1_slope) { return FN(sign_of)(x - t); }
FNN_DIFFERENCE(l1)

/* p: β; 0 is the absolute difference */
FNN_PAIR(smooth_l1_value)
{
    const vec d = vabs(x - t);
    return vsel(d < p, vset1(0.5) * d * d / p, d - vset1(0.5) * p);
}
FNN_PAIR(smooth_l1_slope)
{
    const vec d = x - t;
    return vsel(vabs(d) < p, d / p, FN(sign_of)(d));
}
FNN_DIFFERENCE(smooth_l1)

/* p: δ */
FNN_PAIR(huber_value)
{
    const vec d = vabs(x - t);
    return vsel(d < p, vset1(0.5) * d * d, p * (d - vset1(0.5) * p));
}
FNN_PAIR(huber_slope)
{
    const vec d = x - t;
    return vsel(vabs(d) < p, d, p * FN(sign_of)(d));
}
FNN_DIFFERENCE(huber)

/* -w t log σ(x) - (1 - t) log σ(-x), where log σ(-x) = log σ(x) - x; w: the weight of positives */
FNN_PAIR(bce_value) { return (1 - t) * x + (1 + (w - 1) * t) * vsoftplus(-x); }
FNN_PAIR(bce_slope) { return (1 - t) - (1 + (w - 1) * t) * vsigmoid(-x); }
FNN_PAIR(bce_target_slope) { return (w - 1) * vsoftplus(-x) - x; }

/* t (log t - x), 0 where t is */
FNN_PAIR(kl_value) { return vsel(t == vset1(0), (vec){0}, t * (vlog(t) - x)); }
FNN_PAIR(kl_slope) { return -t; }
FNN_PAIR(kl_target_slope) { return vsel(t == vset1(0), (vec){0}, vlog(t) + 1 - x); }

/* The same of the logarithm of a target. */
FNN_PAIR(kl_log_value) { return vexp(t) * (t - x); }
FNN_PAIR(kl_log_slope) { return -vexp(t); }
FNN_PAIR(kl_log_target_slope) { return vexp(t) * (t - x + 1); }

#define FNN_LOOPS(name, flops) \
    static void FN(name##_values)(const fnn_pairs *a, ptrdiff_t first, ptrdiff_t n, void *y) \
    { \
        FN(pair_values)(FN(name##_value), a, first, n, y); \
    } \
    static double FN(name##_sum)(const fnn_pairs *a, ptrdiff_t first, ptrdiff_t n) \
    { \
        return FN(pair_sum)(FN(name##_value), a, first, n); \
    } \
    static void FN(name##_gradients)(const fnn_pairs *a, ptrdiff_t first, ptrdiff_t n, const void *dy, \
                                     ptrdiff_t dy_step, double scale, void *dx, void *dtarget) \
    { \
        FN(pair_gradients)(FN(name##_slope), FN(name##_target_slope), a, first, n, dy, dy_step, scale, dx, dtarget); \
    }
#define FNN_ROW(name, flops) {#name, flops, FN(name##_values), FN(name##_sum), FN(name##_gradients)},

/* The time an element takes, in operations. */
#define FNN_PAIR_LOSSES(X) \
    X(mse, 4) \
    X(l1, 4) \
    X(smooth_l1, 10) \
    X(huber, 8) \
    X(bce, 40) \
    X(kl, 25) \
    X(kl_log, 20)

FNN_PAIR_LOSSES(FNN_LOOPS)

static const fnn_pair_loss FN(pair_losses)[] = {FNN_PAIR_LOSSES(FNN_ROW){0}};

#undef FNN_UNUSED
#undef FNN_PAIR
#undef FNN_DIFFERENCE
#undef FNN_LOOPS
#undef FNN_ROW
#undef FNN_PAIR_LOSSES

static const fnn_loss_ukernels FN(loss_ukernels) = {
    .pairs = FN(pair_losses),
    .cross_entropy = FN(cross_entropy),
    .cross_entropy_backward = FN(cross_entropy_backward),
    .sum = FN(sum),
};
