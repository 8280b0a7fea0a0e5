/* Losses. Problems of the cross-entropy lie in memory as those of softmax.c; targets, losses and statistics have
 * one element a problem, side by side. Sums of losses are formed in double. */

/* v_c w_c, w NULL being 1: of classes i and on along a row, and of class i in columns. */
FNN_INLINE vec FN(weighed)(vec v, const real *w, ptrdiff_t i, ptrdiff_t n)
{
    return w ? v * vload_upto(w + i, n - i) : v;
}
FNN_INLINE real FN(weight_of)(const real *w, ptrdiff_t i) { return w ? w[i] : 1; }

/* The loss is Σ_c w_c q_c (log Σ e^(x-m) - (x_c-m)) with q_c = (1-s) p_c + s/n, s the smoothing, p the target's
 * probabilities: 1 at an index and 0 elsewhere, or given. 0 log 0 = 0. */

/* Σ_c w_c (x_c - m), what smoothing needs with an index. */
FNN_INLINE void FN(centred_sums)(ptrdiff_t n, ptrdiff_t stride, ptrdiff_t w, const real *x, const real *weight,
                                 const real *max, real *centred)
{
    memset(centred, 0, FNN_COLUMNS * sizeof(real));
    if (stride == 1) {
        vec c = {0};
        for (ptrdiff_t i = 0; i < n; i += VL)
            c += FN(weighed)(vload_pad(x + i, n - i, max[0]) - max[0], weight, i, n);
        centred[0] = vsum(c);
        return;
    }
    for (ptrdiff_t i = 0; i < n; i++)
        for (ptrdiff_t j = 0; j < w; j += VL) {
            const vec c = vload_upto(x + i * stride + j, w - j) - vload(max + j);
            vstore(centred + j, vload(centred + j) + c * FN(weight_of)(weight, i));
        }
}

/* The losses with given probabilities, and mass = Σ_c w_c q_c. */
FNN_INLINE void FN(probability_losses)(ptrdiff_t n, ptrdiff_t stride, ptrdiff_t w, const real *x, const real *p,
                                       const real *weight, real smoothing, const real *max, const real *log_sum,
                                       real *loss, real *mass)
{
    const vec rest = vset1(1 - smoothing), uniform = vset1(smoothing / n);
    if (stride == 1) {
        vec l = {0}, total = {0};
        for (ptrdiff_t i = 0; i < n; i += VL) {
            vec q = FN(weighed)(rest * vload_upto(p + i, n - i) + uniform, weight, i, n);
            q = n - i < VL ? vsel(viota() < (inat)(n - i), q, (vec){0}) : q;
            total += q;
            l += vsel(q == vset1(0), (vec){0}, q * (log_sum[0] - (vload_upto(x + i, n - i) - max[0])));
        }
        loss[0] = vsum(l);
        mass[0] = vsum(total);
        return;
    }
    memset(loss, 0, FNN_COLUMNS * sizeof(real));
    memset(mass, 0, FNN_COLUMNS * sizeof(real));
    for (ptrdiff_t i = 0; i < n; i++)
        for (ptrdiff_t j = 0; j < w; j += VL) {
            const vec q = (rest * vload_upto(p + i * stride + j, w - j) + uniform) * FN(weight_of)(weight, i);
            const vec d = vload(log_sum + j) - (vload_upto(x + i * stride + j, w - j) - vload(max + j));
            vstore(mass + j, vload(mass + j) + q);
            vstore(loss + j, vload(loss + j) + vsel(q == vset1(0), (vec){0}, q * d));
        }
}

static void FN(cross_entropy)(ptrdiff_t n, ptrdiff_t stride, ptrdiff_t w, const void *x_, const int64_t *target,
                              const void *p, const fnn_classes *o, void *loss_, void *max_, void *sum_, void *mass_)
{
    const real *x = x_, *weight = o->weight, s = (real)o->smoothing;
    real max[FNN_COLUMNS], sum[FNN_COLUMNS], log_sum[FNN_COLUMNS], more[FNN_COLUMNS], losses[FNN_COLUMNS];
    real *loss = loss_;
    if (stride == 1) {
        vec tail;
        max[0] = FN(row_max)(n, x);
        sum[0] = FN(row_exp)(n, x, max[0], NULL, &tail);
    } else {
        FN(columns_max)(n, stride, w, x, max);
        FN(columns_exp)(n, stride, w, x, max, sum, NULL);
    }
    for (ptrdiff_t j = 0; j < w; j += VL)
        vstore(log_sum + j, vlog(vload_upto(sum + j, w - j)));
    if (p) {
        FN(probability_losses)(n, stride, w, x, p, weight, s, max, log_sum, losses, more);
        memcpy(loss, losses, (size_t)w * sizeof(real));
    } else {
        if (s != 0)
            FN(centred_sums)(n, stride, w, x, weight, max, more);
        for (ptrdiff_t j = 0; j < w; j++) {
            loss[j] = 0;
            if (target[j] != o->ignore) {
                const real l = log_sum[j] - (x[target[j] * stride + j] - max[j]);
                loss[j] = l * FN(weight_of)(weight, target[j]);
                if (s != 0)
                    loss[j] = (1 - s) * loss[j] + s / n * ((real)o->weight_sum * log_sum[j] - more[j]);
            }
        }
    }
    if (max_) {
        memcpy(max_, max, (size_t)w * sizeof(real));
        memcpy(sum_, sum, (size_t)w * sizeof(real));
        if (p)
            memcpy(mass_, more, (size_t)w * sizeof(real));
    }
}

/* dx_c = g (softmax_c Σ w q - w_c q_c) with g = scale dy; 0 if ignored. dy_step 0: one dy for all. */
static void FN(cross_entropy_backward)(ptrdiff_t n, ptrdiff_t stride, ptrdiff_t w, const void *x_,
                                       const int64_t *target, const void *p_, const fnn_classes *o, const void *max_,
                                       const void *sum_, const void *mass_, const void *dy_, ptrdiff_t dy_step,
                                       double scale, void *dx_)
{
    const real *x = x_, *p = p_, *max = max_, *sum = sum_, *mass = mass_, *dy = dy_, *weight = o->weight;
    const real uniform = (real)(o->smoothing / n), rest = (real)(1 - o->smoothing);
    /* Without smoothing the weight of a class that is no target does not count, not even a NaN. */
    const real *each_weight = p || o->smoothing != 0 ? weight : NULL;
    const real smoothed = o->smoothing != 0 ? (real)(o->smoothing / n * o->weight_sum) : 0;
    real *dx = dx_, g[FNN_COLUMNS], share[FNN_COLUMNS], at_target[FNN_COLUMNS], ignored[FNN_COLUMNS];
    for (ptrdiff_t j = 0; j < w; j++) {
        g[j] = (real)(dy[j * dy_step] * scale);
        ignored[j] = !p && target[j] == o->ignore;
        at_target[j] = p || ignored[j] ? 0 : rest * FN(weight_of)(weight, target[j]);
        share[j] = (p ? mass[j] : at_target[j] + smoothed) / sum[j];
    }
    if (stride == 1) {
        if (!p && *target == o->ignore) {
            memset(dx, 0, (size_t)n * sizeof(real));
            return;
        }
        for (ptrdiff_t i = 0; i < n; i += VL) {
            vec q = vset1(uniform);
            if (p)
                q += rest * vload_upto(p + i, n - i);
            const vec e = vexp(vload_upto(x + i, n - i) - max[0]);
            vstore_upto(dx + i, g[0] * (e * share[0] - FN(weighed)(q, each_weight, i, n)), n - i);
        }
    } else {
        for (ptrdiff_t i = 0; i < n; i++)
            for (ptrdiff_t j = 0; j < w; j += VL) {
                const ptrdiff_t at = i * stride + j;
                vec q = vset1(uniform);
                if (p)
                    q += rest * vload_upto(p + at, w - j);
                const vec e = vexp(vload_upto(x + at, w - j) - vload_upto(max + j, w - j));
                const vec v = e * vload(share + j) - q * FN(weight_of)(each_weight, i);
                vstore_upto(dx + at, vsel(vload(ignored + j) != 0, (vec){0}, vload(g + j) * v), w - j);
            }
    }
    if (!p)
        for (ptrdiff_t j = 0; j < w; j++)
            if (!ignored[j])
                dx[target[j] * stride + j] -= g[j] * at_target[j];
}

/* loss = -w_t x_t of w problems `step` apart, whose classes are `stride` apart; 0 if ignored */
static void FN(nll)(ptrdiff_t stride, ptrdiff_t step, ptrdiff_t w, const void *x_, const int64_t *target,
                    const fnn_classes *o, void *loss_)
{
    const real *x = x_;
    real *loss = loss_;
    for (ptrdiff_t j = 0; j < w; j++)
        loss[j] = target[j] == o->ignore ? 0 : -FN(weight_of)(o->weight, target[j]) * x[target[j] * stride + j * step];
}

static void FN(nll_backward)(ptrdiff_t n, ptrdiff_t stride, ptrdiff_t w, const int64_t *target, const fnn_classes *o,
                             const void *dy_, ptrdiff_t dy_step, double scale, void *dx_)
{
    const real *dy = dy_;
    real *dx = dx_;
    for (ptrdiff_t i = 0; i < (stride == 1 ? 1 : n); i++)
        memset(dx + i * stride, 0, (size_t)(stride == 1 ? n : w) * sizeof(real));
    for (ptrdiff_t j = 0; j < w; j++)
        if (target[j] != o->ignore)
            dx[target[j] * stride + j] = -FN(weight_of)(o->weight, target[j]) * (real)(dy[j * dy_step] * scale);
}

/* The Jensen-Shannon divergence of p and q in bits: Σ (p log2(2p / (p+q)) + q log2(2q / (p+q))) / 2 with 0 log 0 = 0. A
 * term is not negative but by rounding, and the sum of two distributions is at most 1. */

/* log2(2p / (p+q)), 0 if p is. A small share is scaled, so that it is not subnormal: that would have few digits. */
FNN_INLINE vec FN(log_share)(vec p, vec sum)
{
    const ivec small = vabs(p) < vabs(sum) * vset1((real)0x1p-60);
    const vec scaled = vsel(small, p * vset1((real)0x1p+64), p), exponent = vsel(small, vset1(64), (vec){0});
    const vec l = vlog((scaled + scaled) / sum) * vset1((real)0x1.71547652b82fep+0 /* 1 / ln 2 */) - exponent;
    return vsel(p == vset1(0), (vec){0}, l);
}

FNN_INLINE vec FN(js_term)(vec p, vec q)
{
    const vec sum = p + q;
    return vmax((vec){0}, vset1(0.5) * (p * FN(log_share)(p, sum) + q * FN(log_share)(q, sum)));
}

static void FN(js_divergence)(ptrdiff_t n, ptrdiff_t stride, ptrdiff_t w, const void *p_, const void *q_, void *y_)
{
    const real *p = p_, *q = q_;
    real *y = y_, sum[FNN_COLUMNS] = {0};
    if (stride == 1) {
        vec v = {0};
        for (ptrdiff_t i = 0; i < n; i += VL)
            v += FN(js_term)(vload_upto(p + i, n - i), vload_upto(q + i, n - i));
        sum[0] = vsum(v);
    } else {
        for (ptrdiff_t i = 0; i < n; i++)
            for (ptrdiff_t j = 0; j < w; j += VL) {
                const ptrdiff_t at = i * stride + j;
                const vec v = FN(js_term)(vload_upto(p + at, w - j), vload_upto(q + at, w - j));
                vstore(sum + j, vload(sum + j) + v);
            }
    }
    for (ptrdiff_t j = 0; j < w; j += VL)
        vstore_upto(y + j, vmin(vset1(1), vload(sum + j)), w - j);
}

/* dp = g log2(2p / (p+q)) / 2, dq likewise; either may be NULL. */
static void FN(js_divergence_backward)(ptrdiff_t n, ptrdiff_t stride, ptrdiff_t w, const void *p_, const void *q_,
                                       const void *dy_, ptrdiff_t dy_step, double scale, void *dp_, void *dq_)
{
    const real *p = p_, *q = q_, *dy = dy_;
    real *dp = dp_, *dq = dq_, g[FNN_COLUMNS];
    for (ptrdiff_t j = 0; j < w; j++)
        g[j] = (real)(dy[j * dy_step] * (scale / 2));
    /* a row is n problems' worth of lanes with one g */
    const ptrdiff_t rows = stride == 1 ? 1 : n, columns = stride == 1 ? n : w;
    for (ptrdiff_t i = 0; i < rows; i++)
        for (ptrdiff_t j = 0; j < columns; j += VL) {
            const ptrdiff_t at = i * stride + j, left = columns - j;
            const vec a = vload_upto(p + at, left), b = vload_upto(q + at, left), sum = a + b;
            const vec gj = stride == 1 ? vset1(g[0]) : vload(g + j);
            if (dp)
                vstore_upto(dp + at, gj * FN(log_share)(a, sum), left);
            if (dq)
                vstore_upto(dq + at, gj * FN(log_share)(b, sum), left);
        }
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

/* -t log x - (1 - t) log(1 - x); a logarithm is at least -100, and a slope's divisor 1e-12 */
FNN_INLINE vec FN(at_least)(vec x, double least) { return vsel(x < vset1((real)least), vset1((real)least), x); }
FNN_PAIR(fraction_value) { return -t * FN(at_least)(vlog(x), -100) - (1 - t) * FN(at_least)(vlog1p(-x), -100); }
FNN_PAIR(fraction_slope) { return (x - t) / FN(at_least)(x * (1 - x), 1e-12); }
FNN_PAIR(fraction_target_slope) { return vlog1p(-x) - vlog(x); }

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
    X(fraction, 50) \
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
    .nll = FN(nll),
    .nll_backward = FN(nll_backward),
    .js_divergence = FN(js_divergence),
    .js_divergence_backward = FN(js_divergence_backward),
    .sum = FN(sum),
};
