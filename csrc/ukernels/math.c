/* Vector functions of one element type: e^x, tanh, the logistic function, log.
 *
 * The exponentials stand on one polynomial: x = n ln 2 + r with n integer and |r| <= ln 2 / 2, and the Taylor
 * polynomial q(r) of e^r - 1, whose remainder r^(K+1)/(K+1)! is below a quarter ulp of r for the degree K here.
 * Lanes are independent: a value gives the same result in every lane. Rounding is to nearest.
 */

#undef FNN_MANTISSA
#undef FNN_BIAS
#undef FNN_EXP_DEGREE
#undef FNN_EXP_LO
#undef FNN_EXP_HI
#undef FNN_TANH_HI
#if FNN_BITS == 32
#define FNN_MANTISSA 23
#define FNN_BIAS 127
#define FNN_EXP_DEGREE 7
#define FNN_EXP_LO -104 /* e^x rounds to 0 from here down */
#define FNN_EXP_HI 89   /* e^x overflows from here up */
#define FNN_TANH_HI 20  /* tanh(x) rounds to 1 for 2x from here up */
#else
#define FNN_MANTISSA 52
#define FNN_BIAS 1023
#define FNN_EXP_DEGREE 13
#define FNN_EXP_LO -746
#define FNN_EXP_HI 710
#define FNN_TANH_HI 40
#endif

/* 2^n as a vector, from the biased exponent n + FNN_BIAS of a normal number. */
#define vpow2 FN(vpow2)
FNN_INLINE vec vpow2(ivec biased) { return (vec)(biased << FNN_MANTISSA); }

/* q and n with e^x = 2^n (1 + q), for x in [FNN_EXP_LO, FNN_EXP_HI]. Of a NaN, q is NaN and n arbitrary. */
#define vexpm1_parts FN(vexpm1_parts)
FNN_INLINE vec vexpm1_parts(vec x, ivec *n)
{
    static const real taylor[] = {1,         1,          1. / 2,      1. / 6,        1. / 24,
                                  1. / 120,  1. / 720,   1. / 5040,   1. / 40320,    1. / 362880,
                                  1. / 3628800, 1. / 39916800, 1. / 479001600, 1. / 6227020800.};
    /* Adding 1.5 * 2^FNN_MANTISSA leaves no bits for a fraction: the sum rounds to an integer, kept in its low bits. */
    const vec shift = vset1((real)(3ull << (FNN_MANTISSA - 1)));
    const vec shifted = x * vset1((real)0x1.71547652b82fep+0 /* 1 / ln 2 */) + shift;
    const vec rounded = shifted - shift;
    *n = (ivec)shifted - (ivec)shift;
    /* ln 2 in two parts (Cody and Waite): n times the first is exact, it has 15 or 37 bits. */
#if FNN_BITS == 32
    const vec r = (x - rounded * vset1(0x1.62e4p-1f)) - rounded * vset1(0x2.fefa39ef35793p-21f);
#else
    const vec r = (x - rounded * vset1(0x1.62e42fefap-1)) - rounded * vset1(0x3.9ef35793c7673p-41);
#endif
    vec p = vset1(taylor[FNN_EXP_DEGREE]);
    for (int k = FNN_EXP_DEGREE - 1; k >= 2; k--)
        p = p * r + vset1(taylor[k]);
    return r * r * p + r;
}

/* e^x. The power of two is applied in two halves, so that overflow and subnormal results round once. */
#define vexp FN(vexp)
FNN_INLINE vec vexp(vec x)
{
    ivec n;
    x = vsel(x > vset1(FNN_EXP_HI), vset1(FNN_EXP_HI), x);
    x = vsel(x < vset1(FNN_EXP_LO), vset1(FNN_EXP_LO), x);
    const vec q = vexpm1_parts(x, &n);
    n += 2 * FNN_BIAS;
    const ivec half = (ivec)((nvec)n >> 1);
    return (1 + q) * vpow2(half) * vpow2(n - half);
}

/* tanh x = (e^2|x| - 1) / (e^2|x| + 1) with the sign of x. */
#define vtanh FN(vtanh)
FNN_INLINE vec vtanh(vec x)
{
    ivec n;
    const ivec sign = (ivec)x & (ivec)vset1(-(real)0);
    vec t = (vec)((ivec)x ^ sign);
    t = t + t;
    t = vsel(t > vset1(FNN_TANH_HI), vset1(FNN_TANH_HI), t);
    const vec q = vexpm1_parts(t, &n);
    const vec scale = vpow2(n + FNN_BIAS);
    const vec em = scale * q + (scale - 1);
    return (vec)((ivec)(em / (em + 2)) | sign);
}

/* 1 / (1 + e^-x), which for x < 0 is e^x / (1 + e^x). */
#define vsigmoid FN(vsigmoid)
FNN_INLINE vec vsigmoid(vec x)
{
    const vec e = vexp((vec)((ivec)x | (ivec)vset1(-(real)0))); /* e^-|x| <= 1 */
    return vsel(x < vset1(0), e, vset1(1)) / (1 + e);
}
