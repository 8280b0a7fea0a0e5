/* Functions of one element. Loops over whole vectors, then one vector of the remaining lanes. */

static void FN(relu)(ptrdiff_t n, const void *x_, void *y_)
{
    const real *x = x_;
    real *y = y_;
    ptrdiff_t i = 0;
    for (; i + VL <= n; i += VL) {
        const vec v = vload(x + i);
        vstore(y + i, vsel(v <= vset1(0), (vec){0}, v)); /* a NaN fails the comparison and stays */
    }
    if (i < n) {
        const vec v = vload_n(x + i, n - i);
        vstore_n(y + i, vsel(v <= vset1(0), (vec){0}, v), n - i);
    }
}

static void FN(relu_backward)(ptrdiff_t n, const void *dy_, const void *y_, void *dx_)
{
    const real *dy = dy_, *y = y_;
    real *dx = dx_;
    ptrdiff_t i = 0;
    for (; i + VL <= n; i += VL)
        vstore(dx + i, vsel(vload(y + i) > vset1(0), vload(dy + i), (vec){0}));
    if (i < n)
        vstore_n(dx + i, vsel(vload_n(y + i, n - i) > vset1(0), vload_n(dy + i, n - i), (vec){0}), n - i);
}

/* y = f(x) in whole vectors and a tail; f is inlined. */
FNN_INLINE void FN(map)(vec (*f)(vec), ptrdiff_t n, const real *x, real *y)
{
    ptrdiff_t i = 0;
    for (; i + VL <= n; i += VL)
        vstore(y + i, f(vload(x + i)));
    if (i < n)
        vstore_n(y + i, f(vload_n(x + i, n - i)), n - i);
}

static void FN(sigmoid)(ptrdiff_t n, const void *x, void *y) { FN(map)(vsigmoid, n, x, y); }
static void FN(tanh)(ptrdiff_t n, const void *x, void *y) { FN(map)(vtanh, n, x, y); }

static const fnn_elementwise_ukernels FN(elementwise_ukernels) = {
    .relu = FN(relu),
    .relu_backward = FN(relu_backward),
    .sigmoid = FN(sigmoid),
    .tanh = FN(tanh),
};
