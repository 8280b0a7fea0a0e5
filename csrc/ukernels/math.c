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
#undef FNN_LOG_TERMS
#undef FNN_LN2_HI
#undef FNN_LN2_LO
#if FNN_BITS == 32
#define FNN_MANTISSA 23
#define FNN_BIAS 127
#define FNN_EXP_DEGREE 7
#define FNN_EXP_LO -104 /* e^x rounds to 0 below */
#define FNN_EXP_HI 89   /* e^x overflows from here up */
#define FNN_TANH_HI 20  /* tanh(x) rounds to 1 for 2x from here up */
#define FNN_LOG_TERMS 4
/* ln 2 in two parts (Cody and Waite): the first has so few bits that its product with any exponent is exact. */
#define FNN_LN2_HI 0x1.62e4p-1f
#define FNN_LN2_LO 0x2.fefa39ef35793p-21f
#else
#define FNN_MANTISSA 52
#define FNN_BIAS 1023
#define FNN_EXP_DEGREE 13
#define FNN_EXP_LO -746
#define FNN_EXP_HI 710
#define FNN_TANH_HI 40
#define FNN_LOG_TERMS 10
#define FNN_LN2_HI 0x1.62e42fefap-1
#define FNN_LN2_LO 0x3.9ef35793c7673p-41
#endif

/* Adding 1.5 * 2^FNN_MANTISSA leaves no bits for a fraction: the sum rounds to an integer, kept in its low bits. */
#undef FNN_SHIFT
#define FNN_SHIFT ((real)(3ull << (FNN_MANTISSA - 1)))

/* q and FNN_SHIFT + n with e^x = 2^n (1 + q), for x in [FNN_EXP_LO, FNN_EXP_HI]. Of a NaN, q is NaN, n arbitrary. */
#define vexpm1_parts FN(vexpm1_parts)
FNN_INLINE vec vexpm1_parts(vec x, vec *shifted)
{
    static const real taylor[] = {1,
                                  1,
                                  1. / 2,
                                  1. / 6,
                                  1. / 24,
                                  1. / 120,
                                  1. / 720,
                                  1. / 5040,
                                  1. / 40320,
                                  1. / 362880,
                                  1. / 3628800,
                                  1. / 39916800,
                                  1. / 479001600,
                                  1. / 6227020800.};
    *shifted = x * vset1((real)0x1.71547652b82fep+0 /* 1 / ln 2 */) + FNN_SHIFT;
    const vec n = *shifted - FNN_SHIFT;
    const vec r = (x - n * vset1(FNN_LN2_HI)) - n * vset1(FNN_LN2_LO);
    vec p = vset1(taylor[FNN_EXP_DEGREE]);
    for (int k = FNN_EXP_DEGREE - 1; k >= 2; k--)
        p = p * r + vset1(taylor[k]);
    return r * r * p + r;
}

/* v 2^n, n given as FNN_SHIFT + n; overflow and subnormal results round once. */
#define vscale FN(vscale)
FNN_INLINE vec vscale(vec v, vec shifted)
{
#if defined(FNN_BUILD_AVX512) && FNN_BITS == 32
    return (vec)_mm512_scalef_ps((__m512)v, (__m512)(shifted - FNN_SHIFT));
#elif defined(FNN_BUILD_AVX512)
    return (vec)_mm512_scalef_pd((__m512d)v, (__m512d)(shifted - FNN_SHIFT));
#else /* by halves of n, each of which is the exponent of a normal number; the first product is exact */
    const ivec n = (ivec)shifted - ((ivec)vset1(FNN_SHIFT) - 2 * FNN_BIAS);
    const ivec half = (ivec)((nvec)n >> 1);
    return v * (vec)(half << FNN_MANTISSA) * (vec)((n - half) << FNN_MANTISSA);
#endif
}

/* e^x. Zeros are selected rather than computed: CPUs take hundreds of cycles over a result that underflows, and
 * e^-inf is common (masks of attention). */
#define vexp FN(vexp)
FNN_INLINE vec vexp(vec x)
{
    vec shifted;
    const ivec zero = x < vset1(FNN_EXP_LO);
    const vec q = vexpm1_parts(vsel(zero, (vec){0}, vmin(vset1(FNN_EXP_HI), x)), &shifted);
    return vsel(zero, (vec){0}, vscale(1 + q, shifted));
}

/* tanh x = (e^2|x| - 1) / (e^2|x| + 1) with the sign of x. */
#define vtanh FN(vtanh)
FNN_INLINE vec vtanh(vec x)
{
    vec shifted;
    const ivec sign = (ivec)x & (ivec)vset1(-(real)0);
    const vec a = (vec)((ivec)x ^ sign);
    const vec q = vexpm1_parts(vmin(vset1(FNN_TANH_HI), a + a), &shifted);
    const vec scale = (vec)(((ivec)shifted + FNN_BIAS) << FNN_MANTISSA); /* 2^n, the low bits of shifted being n */
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

/* Natural logarithm: x = 2^e m with m in [sqrt 1/2, sqrt 2), and log m = 2 artanh(s) for s = (m - 1) / (m + 1):
 * 2s + 2s^3/3 + 2s^5/5 + …, where s^2 <= 0.0295. With f = m - 1, which is exact, 2s = f - s f. */
#define vlog FN(vlog)
FNN_INLINE vec vlog(vec x)
{
    static const real series[] = {2. / 3, 2. / 5, 2. / 7, 2. / 9, 2. / 11, 2. / 13, 2. / 15, 2. / 17, 2. / 19, 2. / 21};
    const real smallest = FNN_BITS == 32 ? 0x1p-126 : 0x1p-1022, up = (real)(1ull << FNN_MANTISSA);
    const ivec subnormal = x < vset1(smallest), root = (ivec)vset1((real)0x1.6a09e667f3bcdp-1);
    const ivec bits = (ivec)vsel(subnormal, x * up, x) - root;
    /* e as a real, from the low bits of FNN_SHIFT + e; the bits of e are shifted down unsigned, and so biased. */
    const ivec biased = (ivec)((nvec)(bits + ((inat)FNN_BIAS << FNN_MANTISSA)) >> FNN_MANTISSA) - FNN_BIAS;
    const vec e = ((vec)(biased + (ivec)vset1(FNN_SHIFT)) - FNN_SHIFT) - vsel(subnormal, vset1(FNN_MANTISSA), (vec){0});
    const vec f = (vec)((bits & (((inat)1 << FNN_MANTISSA) - 1)) + root) - 1;
    const vec s = f / (f + 2), ss = s * s;
    vec p = vset1(series[FNN_LOG_TERMS - 1]);
    for (int k = FNN_LOG_TERMS - 2; k >= 0; k--)
        p = p * ss + vset1(series[k]);
    const vec y = e * vset1(FNN_LN2_HI) + (f - s * (f - ss * p) + e * vset1(FNN_LN2_LO));
    const vec zero_or_less = vsel(x < vset1(0), vset1(NAN), vset1(-INFINITY));
    return vsel(x > vset1(0), vsel(x < vset1(INFINITY), y, x), vsel(x <= vset1(0), zero_or_less, x));
}
