/* What the machine can do at most, for measurements of how near to it a kernel comes. */

/* 12 independent chains of fused multiply-adds: the arithmetic limit of a core. Returns a value that depends on all. */
static double FN(fma_chain)(ptrdiff_t steps)
{
    vec acc[12];
    const vec x = vset1((real)0.999), y = vset1((real)0.001);
    for (int i = 0; i < 12; i++)
        acc[i] = vset1((real)i);
    for (ptrdiff_t p = 0; p < steps; p++) {
#pragma GCC unroll 12
        for (int i = 0; i < 12; i++)
            acc[i] = acc[i] * x + y;
    }
    vec s = acc[0];
    for (int i = 1; i < 12; i++)
        s += acc[i];
    return (double)vsum(s);
}

FNN_INLINE double FN(traffic_of)(const int reads, const int writes, const int past, ptrdiff_t n,
                                 const real *const *src, real *const *dst)
{
    enum { STEP = 4 };
    vec sum[STEP] = {0};
    for (ptrdiff_t i = 0; i + STEP * VL <= n; i += STEP * VL) {
#pragma GCC unroll 4
        for (int k = 0; k < STEP; k++) {
            vec v = vload(src[0] + i + k * VL);
#pragma GCC unroll 4
            for (int r = 1; r < reads; r++)
                v += vload(src[r] + i + k * VL);
            if (!writes)
                sum[k] += v;
#pragma GCC unroll 4
            for (int w = 0; w < writes; w++) {
                if (past)
                    vstream(dst[w] + i + k * VL, v);
                else
                    vstore(dst[w] + i + k * VL, v);
            }
        }
    }
    if (past)
        vstream_end();
    return (double)vsum((sum[0] + sum[1]) + (sum[2] + sum[3]));
}

static double FN(traffic)(int reads, int writes, int past, ptrdiff_t n, const void *const *src, void *const *dst)
{
    const real *const *s = (const real *const *)src;
    real *const *d = (real *const *)dst;
#define FNN_TRAFFIC(r, w) \
    if (reads == r && writes == w) \
        return past ? FN(traffic_of)(r, w, 1, n, s, d) : FN(traffic_of)(r, w, 0, n, s, d);
    FNN_TRAFFIC(1, 0)
    FNN_TRAFFIC(4, 1)
    FNN_TRAFFIC(2, 1)
    FNN_TRAFFIC(1, 1)
    FNN_TRAFFIC(1, 4)
#undef FNN_TRAFFIC
    return NAN;
}

static const fnn_limits_ukernels FN(limits_ukernels) = {
    .fma_chain = FN(fma_chain),
    .fma_chain_flops = 2 * 12 * FNN_VBYTES / sizeof(real),
    .traffic = FN(traffic),
};
