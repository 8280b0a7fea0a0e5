/* Functions of one element, by two loops that their vector functions are inlined into. */

/* y = f(x) */
FNN_INLINE void FN(map_unary)(vec (*f)(vec), ptrdiff_t n, const real *x, real *y)
{
    for (ptrdiff_t i = 0; i < n; i += VL)
        vstore_upto(y + i, f(vload_upto(x + i, n - i)), n - i);
}

/* y = f(a, b) */
FNN_INLINE void FN(map_binary)(vec (*f)(vec, vec), ptrdiff_t n, const real *a, const real *b, real *y)
{
    for (ptrdiff_t i = 0; i < n; i += VL)
        vstore_upto(y + i, f(vload_upto(a + i, n - i), vload_upto(b + i, n - i)), n - i);
}

FNN_INLINE vec FN(relu_gradient)(vec dy, vec y) { return vsel(y > vset1(0), dy, (vec){0}); }

FNN_INLINE vec FN(sigmoid_gradient)(vec dy, vec y) { return dy * (y * (1 - y)); }
/* 1 - y^2 as a product of factors that are exact, or nearly so, where the difference cancels */
FNN_INLINE vec FN(tanh_gradient)(vec dy, vec y) { return dy * ((1 - y) * (1 + y)); }

FNN_INLINE vec FN(squared_difference)(vec x, vec target) { return (x - target) * (x - target); }

#define FNN_UNARY(name, f) \
    static void FN(name)(ptrdiff_t n, const void *x, void *y) { FN(map_unary)(f, n, x, y); }
#define FNN_BINARY(name, f) \
    static void FN(name)(ptrdiff_t n, const void *a, const void *b, void *y) { FN(map_binary)(f, n, a, b, y); }

FNN_UNARY(relu, vrelu)
FNN_BINARY(relu_backward, FN(relu_gradient))
FNN_UNARY(sigmoid, vsigmoid)
FNN_BINARY(sigmoid_backward, FN(sigmoid_gradient))
FNN_UNARY(tanh, vtanh)
FNN_BINARY(tanh_backward, FN(tanh_gradient))
FNN_BINARY(squared_error, FN(squared_difference))

#undef FNN_UNARY
#undef FNN_BINARY

static const fnn_elementwise_ukernels FN(elementwise_ukernels) = {
    .relu = FN(relu),
    .relu_backward = FN(relu_backward),
    .sigmoid = FN(sigmoid),
    .sigmoid_backward = FN(sigmoid_backward),
    .tanh = FN(tanh),
    .tanh_backward = FN(tanh_backward),
    .squared_error = FN(squared_error),
};
