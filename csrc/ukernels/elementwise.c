/* Functions of one element x with two parameters p and q: the value y, and the gradient dx from dy and what the
 * backward pass keeps, x or y. Two loops that they are inlined into, and a table.
 * past: results go past the caches (vstream). Below them the sum of two arrays, on the second loop. */

/* y = f(x) */
FNN_INLINE void FN(map_unary)(vec (*f)(vec, vec, vec), ptrdiff_t n, const real *x, real *y, double p_, double q_,
                              int past)
{
    const vec p = vset1((real)p_), q = vset1((real)q_);
    ptrdiff_t i = 0;
    if (past) {
        i = vstream_head(y, n);
        vstore_n(y, f(vload_n(x, i), p, q), i);
        for (; i + VL <= n; i += VL)
            vstream(y + i, f(vload(x + i), p, q));
        vstream_end();
    }
    for (; i + VL <= n; i += VL)
        vstore(y + i, f(vload(x + i), p, q));
    if (i < n)
        vstore_n(y + i, f(vload_n(x + i, n - i), p, q), n - i);
}

/* y = f(a, b) */
FNN_INLINE void FN(map_binary)(vec (*f)(vec, vec, vec, vec), ptrdiff_t n, const real *a, const real *b, real *y,
                               double p_, double q_, int past)
{
    const vec p = vset1((real)p_), q = vset1((real)q_);
    ptrdiff_t i = 0;
    if (past) {
        i = vstream_head(y, n);
        vstore_n(y, f(vload_n(a, i), vload_n(b, i), p, q), i);
        for (; i + VL <= n; i += VL)
            vstream(y + i, f(vload(a + i), vload(b + i), p, q));
        vstream_end();
    }
    for (; i + VL <= n; i += VL)
        vstore(y + i, f(vload(a + i), vload(b + i), p, q));
    if (i < n)
        vstore_n(y + i, f(vload_n(a + i, n - i), vload_n(b + i, n - i), p, q), n - i);
}

#define FNN_UNUSED __attribute__((unused))
#define FNN_VALUE(name) FNN_INLINE vec FN(name##_value)(vec x, vec p FNN_UNUSED, vec q FNN_UNUSED)
#define FNN_GRADIENT(name, kept) \
    FNN_INLINE vec FN(name##_gradient)(vec dy, vec kept, vec p FNN_UNUSED, vec q FNN_UNUSED)

FNN_VALUE(relu) { return vrelu(x); }
FNN_GRADIENT(relu, y) { return vsel(y > vset1(0), dy, (vec){0}); }

FNN_VALUE(sigmoid) { return vsigmoid(x); }
FNN_GRADIENT(sigmoid, y) { return dy * (y * (1 - y)); }

/* 1 - y^2 as a product of factors that are exact, or nearly so, where the difference cancels */
FNN_VALUE(tanh) { return vtanh(x); }
FNN_GRADIENT(tanh, y) { return dy * ((1 - y) * (1 + y)); }

FNN_VALUE(exp) { return vexp(x); }
FNN_GRADIENT(exp, y) { return dy * y; }

FNN_VALUE(log) { return vlog(x); }
FNN_GRADIENT(log, x) { return dy / x; }

FNN_VALUE(erf) { return verf(x); }
FNN_GRADIENT(erf, x)
{
    vec shifted;
    const vec m = vgauss_parts(vmin(vset1((real)FNN_ERFC_HI), vabs(x)), 1, 0x1.20dd750429b6dp+0 /* 2 / sqrt π */,
                               &shifted);
    return dy * vscale(m, shifted);
}

/* p: the slope for x <= 0 */
FNN_VALUE(leaky_relu) { return vsel(x > vset1(0), x, p * x); }
FNN_GRADIENT(leaky_relu, x) { return vsel(x > vset1(0), dy, p * dy); }

/* p: minus the limit at -inf */
FNN_VALUE(elu) { return vsel(x >= vset1(0), x, p * vexpm1_near(vmax(vset1(-2 * FNN_ONE_HI), vmin((vec){0}, x)))); }
FNN_GRADIENT(elu, x) { return vsel(x > vset1(0), dy, dy * (p * vexp(vmin((vec){0}, x)))); }

FNN_VALUE(silu) { return vsilu(x); }
FNN_GRADIENT(silu, x)
{
    const vec a = vmax(vset1(FNN_EXP_LO - 8), vmin(vset1(2 * FNN_ONE_HI), x)), s = vsigmoid(a); /* no inf 0 */
    return dy * (s * (1 + a * (1 - s)));
}

FNN_VALUE(gelu) { return vgelu(x); }
FNN_GRADIENT(gelu, x) { return dy * vgelu_slope(x); }

/* x σ(2u) with u = sqrt(2 / π) (x + 0.044715 x^3), which is x (1 + tanh u) / 2; beyond ±30 σ is 0 or 1 */
#define FNN_TWO_SQRT_2_PI ((real)1.5957691216057307117597842397375)
FNN_VALUE(gelu_tanh)
{
    const vec a = vmax(vset1(-30), x), c = vset1((real)0.044715 * FNN_TWO_SQRT_2_PI);
    return a * vsigmoid(a * (c * (a * a) + FNN_TWO_SQRT_2_PI));
}
FNN_GRADIENT(gelu_tanh, x)
{
    const vec a = vmax(vset1(-30), vmin(vset1(30), x)), aa = a * a, c = vset1((real)0.044715 * FNN_TWO_SQRT_2_PI);
    const vec s = vsigmoid(a * (c * aa + FNN_TWO_SQRT_2_PI));
    return dy * (s + a * (s * (1 - s)) * (3 * c * aa + FNN_TWO_SQRT_2_PI));
}

/* p: β; q: the threshold of βx above which y = x */
FNN_VALUE(softplus) { return vsel(x * p > q, x, vsoftplus(x * p) / p); }
FNN_GRADIENT(softplus, x) { return vsel(x * p > q, dy, dy * vsigmoid(x * p)); }

/* p: the least, q: the largest value */
FNN_INLINE vec FN(clamp)(vec x, vec p, vec q) { return vmin(q, vmax(p, x)); }
FNN_VALUE(hardtanh) { return FN(clamp)(x, p, q); }
FNN_GRADIENT(hardtanh, x) { return vsel((x > p) & (x < q), dy, (vec){0}); }

FNN_VALUE(hardsigmoid) { return FN(clamp)(x + 3, vset1(0), vset1(6)) / 6; }
FNN_GRADIENT(hardsigmoid, x) { return vsel((x > vset1(-3)) & (x < vset1(3)), dy * vset1((real)1 / 6), (vec){0}); }

FNN_VALUE(hardswish) { return vmax(vset1(-3), x) * (FN(clamp)(x + 3, vset1(0), vset1(6)) / 6); }
FNN_GRADIENT(hardswish, x)
{
    const vec inside = dy * (x * vset1((real)1 / 3) + vset1((real)0.5));
    return vsel(x <= vset1(-3), (vec){0}, vsel(x >= vset1(3), dy, inside));
}

#define FNN_LOOPS(name, kept, value_flops, gradient_flops) \
    static void FN(name)(ptrdiff_t n, const void *x, void *y, double p, double q, int past) \
    { \
        FN(map_unary)(FN(name##_value), n, x, y, p, q, past); \
    } \
    static void FN(name##_backward)(ptrdiff_t n, const void *dy, const void *kept, void *dx, double p, double q, \
                                    int past) \
    { \
        FN(map_binary)(FN(name##_gradient), n, dy, kept, dx, p, q, past); \
    }
#define FNN_ROW(name, kept, value_flops, gradient_flops) \
    {#name, #kept[0] == 'x', value_flops, gradient_flops, FN(name), FN(name##_backward)},

/* What the backward pass keeps, and the time an element takes, in operations. */
#define FNN_FUNCTIONS(X) \
    X(relu, y, 1, 1) \
    X(sigmoid, y, 20, 3) \
    X(tanh, y, 20, 4) \
    X(exp, y, 16, 1) \
    X(log, x, 20, 4) \
    X(erf, x, 40, 20) \
    X(leaky_relu, x, 2, 2) \
    X(elu, x, 18, 18) \
    X(silu, x, 20, 24) \
    X(gelu, x, 35, 35) \
    X(gelu_tanh, x, 25, 30) \
    X(softplus, x, 35, 20) \
    X(hardtanh, x, 2, 3) \
    X(hardsigmoid, x, 4, 4) \
    X(hardswish, x, 5, 6)

FNN_FUNCTIONS(FNN_LOOPS)

static const fnn_function FN(elementwise_functions)[] = {FNN_FUNCTIONS(FNN_ROW){0}};

FNN_INLINE vec FN(sum_of)(vec a, vec b, vec p FNN_UNUSED, vec q FNN_UNUSED) { return a + b; }
FNN_INLINE vec FN(relu_of_sum)(vec a, vec b, vec p FNN_UNUSED, vec q FNN_UNUSED) { return vrelu(a + b); }

static void FN(add)(ptrdiff_t n, const void *a, const void *b, void *y, double p, double q, int past)
{
    FN(map_binary)(FN(sum_of), n, a, b, y, p, q, past);
}

static void FN(add_relu)(ptrdiff_t n, const void *a, const void *b, void *y, double p, double q, int past)
{
    FN(map_binary)(FN(relu_of_sum), n, a, b, y, p, q, past);
}

/* da = db = dy, where y > 0 if `relu`; past the caches only to arrays that begin with a vector, as all large ones do */
FNN_INLINE void FN(add_gradients)(const int relu, const int both, ptrdiff_t n, const real *dy, const real *y, real *da,
                                  real *db, int past)
{
    ptrdiff_t i = 0;
#define FNN_GRADIENTS(store) \
    vec g = vload_upto(dy + i, n - i); \
    if (relu) \
        g = vsel(vload_upto(y + i, n - i) > vset1(0), g, (vec){0}); \
    store(da + i, g, n - i); \
    if (both) \
        store(db + i, g, n - i)
#define FNN_STREAM(p, v, n) vstream(p, v)
    if (past && !(((uintptr_t)da | (both ? (uintptr_t)db : 0)) % FNN_VBYTES)) {
        for (; i + VL <= n; i += VL) {
            FNN_GRADIENTS(FNN_STREAM);
        }
        vstream_end();
    }
    for (; i < n; i += VL) {
        FNN_GRADIENTS(vstore_upto);
    }
#undef FNN_GRADIENTS
#undef FNN_STREAM
}

static void FN(add_backward)(ptrdiff_t n, const void *dy, const void *y, void *da, void *db, int past)
{
    if (y && db)
        FN(add_gradients)(1, 1, n, dy, y, da, db, past);
    else if (y)
        FN(add_gradients)(1, 0, n, dy, y, da, 0, past);
    else if (db)
        FN(add_gradients)(0, 1, n, dy, 0, da, db, past);
    else
        FN(add_gradients)(0, 0, n, dy, 0, da, 0, past);
}

static const fnn_add_ukernels FN(add_ukernels) = {
    .add = FN(add),
    .add_relu = FN(add_relu),
    .backward = FN(add_backward),
};

#undef FNN_UNUSED
#undef FNN_VALUE
#undef FNN_GRADIENT
#undef FNN_LOOPS
#undef FNN_ROW
#undef FNN_FUNCTIONS
#undef FNN_TWO_SQRT_2_PI
