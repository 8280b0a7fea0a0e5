/* Optimiser steps and the clipping of gradients, in place: n elements of one parameter, its gradient and its state,
 * a[0], a[1], … as declared in ukernels.h, with the operations of torch.optim's single-tensor implementations in their
 * order. What is read is written at once, so that nothing goes past the caches. */

#define FNN_EACH(i, n) for (ptrdiff_t i = 0; i < (n); i += VL)
/* Elements i and on of array k, and what becomes of them. */
#define FNN_GET(k) vload_upto((const real *)a[k] + i, n - i)
#define FNN_PUT(k, v) vstore_upto((real *)a[k] + i, v, n - i)

/* start + weight (end - start), the way round that is exact at the nearer end */
FNN_INLINE vec FN(lerp)(vec start, vec end, real weight)
{
    return weight < (real)0.5 ? start + weight * (end - start) : end - (end - start) * (1 - weight);
}

static void FN(sgd_step)(const fnn_step *o, ptrdiff_t n, void *const *a)
{
    const real lr = (real)o->lr, momentum = (real)o->momentum, rest = (real)(1 - o->dampening);
    const real decay = (real)o->weight_decay;
    const int maximize = o->maximize, buffered = o->momentum != 0, first = o->first, nesterov = o->nesterov;
    FNN_EACH(i, n) {
        const vec p = FNN_GET(0);
        vec g = maximize ? -FNN_GET(1) : FNN_GET(1);
        if (decay != 0)
            g += decay * p;
        if (buffered) {
            const vec buffer = first ? g : momentum * FNN_GET(2) + rest * g;
            FNN_PUT(2, buffer);
            g = nesterov ? g + momentum * buffer : buffer;
        }
        FNN_PUT(0, p - lr * g);
    }
}

static void FN(rmsprop_step)(const fnn_step *o, ptrdiff_t n, void *const *a)
{
    const real lr = (real)o->lr, alpha = (real)o->beta2, rest = (real)(1 - o->beta2), eps = (real)o->eps;
    const real momentum = (real)o->momentum, decay = (real)o->weight_decay;
    const int maximize = o->maximize, centered = o->centered, buffered = o->momentum > 0;
    FNN_EACH(i, n) {
        const vec p = FNN_GET(0);
        vec g = maximize ? -FNN_GET(1) : FNN_GET(1);
        if (decay != 0)
            g += decay * p;
        const vec square = alpha * FNN_GET(2) + rest * g * g;
        vec variance = square;
        FNN_PUT(2, square);
        if (centered) {
            const vec mean = FN(lerp)(FNN_GET(3), g, rest);
            FNN_PUT(3, mean);
            variance = square - mean * mean;
        }
        const vec denominator = vsqrt(variance) + eps;
        if (buffered) {
            const vec buffer = momentum * FNN_GET(4) + g / denominator;
            FNN_PUT(4, buffer);
            FNN_PUT(0, p - lr * buffer);
        } else
            FNN_PUT(0, p - lr * g / denominator);
    }
}

static void FN(adam_step)(const fnn_step *o, ptrdiff_t n, void *const *a)
{
    const real beta2 = (real)o->beta2, rest1 = (real)(1 - o->beta1), rest2 = (real)(1 - o->beta2), eps = (real)o->eps;
    const real rate = (real)o->rate, shrink = (real)o->shrink;
    const real decay = o->decoupled ? 0 : (real)o->weight_decay, keep = (real)(1 - o->lr * o->weight_decay);
    const int maximize = o->maximize, amsgrad = o->amsgrad, decoupled = o->decoupled && o->weight_decay != 0;
    FNN_EACH(i, n) {
        vec p = FNN_GET(0), g = maximize ? -FNN_GET(1) : FNN_GET(1);
        if (decoupled)
            p *= keep;
        if (decay != 0)
            g += decay * p;
        const vec mean = FN(lerp)(FNN_GET(2), g, rest1);
        vec square = beta2 * FNN_GET(3) + rest2 * g * g;
        FNN_PUT(2, mean);
        FNN_PUT(3, square);
        if (amsgrad) {
            const vec before = FNN_GET(4);
            square = vsel((before > square) | (before != before), before, square);
            FNN_PUT(4, square);
        }
        FNN_PUT(0, p - rate * mean / (vsqrt(square) * shrink + eps));
    }
}

/* NaN stays. */
static void FN(clamp_step)(const fnn_step *o, ptrdiff_t n, void *const *a)
{
    const vec limit = vset1((real)o->rate);
    FNN_EACH(i, n)
        FNN_PUT(0, vmin(limit, vmax(-limit, FNN_GET(0))));
}

static void FN(scale_step)(const fnn_step *o, ptrdiff_t n, void *const *a)
{
    const real scale = (real)o->rate;
    FNN_EACH(i, n)
        FNN_PUT(0, FNN_GET(0) * scale);
}

static double FN(sum_of_squares)(ptrdiff_t n, const void *x_)
{
    const real *x = x_;
    FN(dvec) acc[4] = {{0}};
    ptrdiff_t i = 0;
    for (; i + 2 * VL <= n; i += 2 * VL) {
        const vec u = vload(x + i), v = vload(x + i + VL);
        FN(accumulate)(acc, u, u);
        FN(accumulate)(acc + 2, v, v);
    }
    for (; i < n; i += VL) {
        const vec v = vload_upto(x + i, n - i);
        FN(accumulate)(acc, v, v);
    }
    return FN(total)(acc) + FN(total)(acc + 2);
}

/* NaN if there is one. */
static double FN(largest)(ptrdiff_t n, const void *x_)
{
    const real *x = x_;
    vec most = {0}, nan = {0};
    for (ptrdiff_t i = 0; i < n; i += VL) {
        const vec v = vload_upto(x + i, n - i);
        most = vmax(vabs(v), most);
        nan = vsel(v == v, nan, v);
    }
    real result = 0;
    for (ptrdiff_t k = 0; k < VL; k++) {
        if (nan[k] != nan[k])
            return (double)nan[k];
        result = most[k] > result ? most[k] : result;
    }
    return (double)result;
}

#undef FNN_EACH
#undef FNN_GET
#undef FNN_PUT

static const fnn_optim_ukernels FN(optim_ukernels) = {
    .sgd = FN(sgd_step),
    .rmsprop = FN(rmsprop_step),
    .adam = FN(adam_step),
    .clamp = FN(clamp_step),
    .scale = FN(scale_step),
    .sum_of_squares = FN(sum_of_squares),
    .largest = FN(largest),
};
