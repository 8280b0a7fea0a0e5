/* Vector functions of one element type: e^x, tanh, the logistic function, logarithms, the error function.
 *
 * The exponentials stand on one polynomial: x = n ln 2 + r with n integer and |r| <= ln 2 / 2, and
 * q(r) = r + r^2 p(r) for e^r - 1. Polynomials interpolate their function at the Chebyshev nodes of its interval; the
 * degree is the least whose error stays below a quarter ulp of the result.
 * Lanes are independent: a value gives the same result in every lane. Rounding is to nearest.
 */

#undef FNN_MANTISSA
#undef FNN_BIAS
#undef FNN_EXP_LO
#undef FNN_EXP_HI
#undef FNN_NEAR
#undef FNN_ONE_HI
#undef FNN_ERFC_HI
#undef FNN_LN2_HI
#undef FNN_LN2_LO
#undef FNN_EXP_TERMS
#undef FNN_LOG_TERMS
#undef FNN_POW_TERMS
#undef FNN_ERF_TERMS
#undef FNN_ERFC_TERMS
#undef FNN_ERFC_K
#undef FNN_ERFC_SCALE
#if FNN_BITS == 32
#define FNN_MANTISSA 23
#define FNN_BIAS 127
#define FNN_EXP_LO -104  /* e^x rounds to 0 below */
#define FNN_EXP_HI 89    /* e^x overflows from here up */
#define FNN_NEAR 64      /* e^x is far from subnormal or infinite for |x| below */
#define FNN_ONE_HI 20    /* e^x + 2 rounds to e^x - 1 from here up */
#define FNN_ERFC_HI 10.3 /* e^(-z^2) rounds to 0 from here up */
/* ln 2 in two parts (Cody and Waite): the first has so few bits that its product with any exponent is exact. */
#define FNN_LN2_HI 0x1.62e4p-1f
#define FNN_LN2_LO 0x2.fefa39ef35793p-21f
#define FNN_EXP_TERMS 0.5f, 0.1666657695f, 0.04166655456f, 0.008363186256f, 0.001392619259f
#define FNN_LOG_TERMS 0.6666668505f, 0.3998877828f, 0.2958005304f
#define FNN_POW_TERMS 0.6666666655f, 0.4000012184f, 0.2855082082f, 0.2333046722f
#define FNN_ERF_TERMS \
    0.1283791658f, -0.3761262667f, 0.1128359472f, -0.02685421201f, 0.005189087423f, -0.0008016864287f, 7.875875063e-5f
#define FNN_ERFC_TERMS \
    1.252389472f, 0.8438941953f, 0.4037867583f, 0.1263929453f, 0.01800738448f, -0.003116617905f, -0.001532634386f, \
        7.799501722e-5f, 0.0001005526636f
#define FNN_ERFC_K 2.64
#define FNN_ERFC_SCALE 2.512621359223301f
#else
#define FNN_MANTISSA 52
#define FNN_BIAS 1023
#define FNN_EXP_LO -746
#define FNN_EXP_HI 710
#define FNN_NEAR 512
#define FNN_ONE_HI 40
#define FNN_ERFC_HI 27.5
#define FNN_LN2_HI 0x1.62e42fefap-1
#define FNN_LN2_LO 0x3.9ef35793c7673p-41
#define FNN_EXP_TERMS \
    0.50000000000000010, 0.16666666666666667, 0.041666666666624087, 0.0083333333333300587, 0.0013888888917234206, \
        0.00019841269863069373, 2.4801521264122019e-5, 2.7557268435517562e-6, 2.7620103584886964e-7, \
        2.5100397137931663e-8
#define FNN_LOG_TERMS \
    0.66666666666666697, 0.39999999999899443, 0.28571428626003269, 0.22222211130259877, 0.18182889455674946, \
        0.15331710618210772, 0.14616585424888622
#define FNN_POW_TERMS \
    0.66666666666666667, 0.40000000000000877, 0.28571428570803612, 0.22222222391713917, 0.18181795640132906, \
        0.15386239702814658, 0.13268773138656885, 0.13086626147840102
#define FNN_ERF_TERMS \
    0.12837916709551257, -0.37612638903183540, 0.11283791670945006, -0.026866170643237770, 0.0052239776071164227, \
        -0.00085483259753896921, 0.00012055294904839708, -1.4924736907419660e-5, 1.6447424703317362e-6, \
        -1.6208483801871706e-7, 1.3720064546777686e-8, -7.7958988270021422e-10
#define FNN_ERFC_TERMS \
    1.2024490129292842, 0.98694604777725298, 0.67692529700666971, 0.38377665895778187, 0.17529717418997528, \
        0.060986059746417164, 0.013877523034152490, 0.00072071198828900290, -0.00078099200463020866, \
        -0.00023972384054213277, 1.9016964652066343e-5, 2.4437100273081673e-5, 1.1276369759970748e-6, \
        -2.3496662226139458e-6, -2.5249478923834673e-7, 2.4991002101619523e-7, 2.9543392815930138e-8, \
        -2.9592788152343082e-8, -2.4554347526142562e-9, 3.4241054781606857e-9, 1.1128105300820887e-10, \
        -2.6611706648741148e-10
#define FNN_ERFC_K 3.5
#define FNN_ERFC_SCALE 2.2545454545454545
#endif

/* Adding 1.5 * 2^FNN_MANTISSA leaves no bits for a fraction: the sum rounds to an integer, kept in its low bits. */
#undef FNN_SHIFT
#define FNN_SHIFT ((real)(3ull << (FNN_MANTISSA - 1)))

#define vsign FN(vsign)
#define vabs FN(vabs)
#define vcopysign FN(vcopysign)
FNN_INLINE ivec vsign(vec x) { return (ivec)x & (ivec)vset1(-(real)0); }
FNN_INLINE vec vabs(vec x) { return (vec)((ivec)x ^ vsign(x)); }
FNN_INLINE vec vcopysign(vec a, vec x) { return (vec)((ivec)a | vsign(x)); } /* a >= 0 */

/* c[0] + c[1] x + … + c[n-1] x^(n-1) */
#define vpoly FN(vpoly)
FNN_INLINE vec vpoly(vec x, size_t n, const real *c)
{
    vec p = vset1(c[n - 1]);
#pragma GCC unroll 32
    for (size_t k = n - 1; k-- > 0;)
        p = p * x + vset1(c[k]);
    return p;
}
#undef FNN_POLY
#define FNN_POLY(x, ...) vpoly(x, sizeof((real[]){__VA_ARGS__}) / sizeof(real), (const real[]){__VA_ARGS__})

/* q and FNN_SHIFT + n with e^x = 2^n (1 + q), for x in [FNN_EXP_LO, FNN_EXP_HI]. Of a NaN, q is NaN, n arbitrary. */
#define vexpm1_parts FN(vexpm1_parts)
FNN_INLINE vec vexpm1_parts(vec x, vec *shifted)
{
    *shifted = x * vset1((real)0x1.71547652b82fep+0 /* 1 / ln 2 */) + FNN_SHIFT;
    const vec n = *shifted - FNN_SHIFT;
    const vec r = (x - n * vset1(FNN_LN2_HI)) - n * vset1(FNN_LN2_LO);
    return r * r * FNN_POLY(r, FNN_EXP_TERMS) + r;
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

/* The same of normal numbers, the result being one: only the exponent changes. */
#define vscale_near FN(vscale_near)
FNN_INLINE vec vscale_near(vec v, vec shifted) { return (vec)((ivec)v + ((ivec)shifted << FNN_MANTISSA)); }

/* e^x for |x| < FNN_NEAR. */
#define vexp_near FN(vexp_near)
FNN_INLINE vec vexp_near(vec x)
{
    vec shifted;
    const vec q = vexpm1_parts(x, &shifted);
    return vscale_near(1 + q, shifted);
}

/* e^x. Zeros are selected rather than computed: CPUs take hundreds of cycles over a result that underflows, and
 * e^-inf is common (masks of attention). Here as below, vectors of common numbers only are spared the precautions, which
 * changes no bit of a result. */
#define vexp FN(vexp)
FNN_INLINE vec vexp(vec x)
{
    if (vall_less(vabs(x), vset1(FNN_NEAR)))
        return vexp_near(x);
    vec shifted;
    const ivec zero = x < vset1(FNN_EXP_LO);
    const vec q = vexpm1_parts(vsel(zero, (vec){0}, vmin(vset1(FNN_EXP_HI), x)), &shifted);
    return vsel(zero, (vec){0}, vscale(1 + q, shifted));
}

/* e^x - 1 for |x| <= 2 FNN_ONE_HI. */
#define vexpm1_near FN(vexpm1_near)
FNN_INLINE vec vexpm1_near(vec x)
{
    vec shifted;
    const vec q = vexpm1_parts(x, &shifted);
    const vec scale = (vec)(((ivec)shifted + FNN_BIAS) << FNN_MANTISSA); /* 2^n, the low bits of shifted being n */
    return scale * q + (scale - 1);
}

/* tanh x = (e^2|x| - 1) / (e^2|x| + 1) with the sign of x. */
#define vtanh FN(vtanh)
FNN_INLINE vec vtanh(vec x)
{
    const vec a = vabs(x), em = vexpm1_near(vmin(vset1(FNN_ONE_HI), a + a));
    return vcopysign(vquotient(em, em + 2), x);
}

/* 1 / (1 + e^-x) for |x| <= FNN_NEAR. */
#define vsigmoid_near FN(vsigmoid_near)
FNN_INLINE vec vsigmoid_near(vec x) { return vquotient(vset1(1), 1 + vexp_near(-x)); }

#define vclamp_near FN(vclamp_near)
FNN_INLINE vec vclamp_near(vec x) { return vmax(vset1(-FNN_NEAR), vmin(vset1(FNN_NEAR), x)); }

/* 1 / (1 + e^-x), which is e^x below -FNN_NEAR. */
#define vsigmoid FN(vsigmoid)
FNN_INLINE vec vsigmoid(vec x)
{
    if (vall_less(vabs(x), vset1(FNN_NEAR)))
        return vsigmoid_near(x);
    return vsel(x >= vset1(-FNN_NEAR), vsigmoid_near(vclamp_near(x)), vexp(x));
}

/* x times it. Where e^x is subnormal, x e^x still has more bits: the power of two comes last. */
#define vsilu FN(vsilu)
FNN_INLINE vec vsilu(vec x)
{
    if (vall_less(vabs(x), vset1(FNN_NEAR)))
        return x * vsigmoid_near(x);
    vec shifted;
    const vec low = vmax(vset1(FNN_EXP_LO - 8), x); /* x e^x rounds to 0 below */
    const vec m = 1 + vexpm1_parts(vmin(vset1(0), low), &shifted);
    return vsel(x >= vset1(-FNN_NEAR), x * vsigmoid_near(vclamp_near(x)), vscale(low * m, shifted));
}

/* log(1 + f) - f for 1 + f in [sqrt 1/2, sqrt 2): the logarithm is 2 artanh(s) for s = f / (2 + f),
 * 2s + 2s^3/3 + 2s^5/5 + …, where s^2 <= 0.0295, and 2s = f - s f. */
#define vlog1p_rest FN(vlog1p_rest)
FNN_INLINE vec vlog1p_rest(vec f)
{
    const vec s = vquotient(f, f + 2), ss = s * s;
    return -s * (f - ss * FNN_POLY(ss, FNN_LOG_TERMS));
}

/* e and f with x = 2^e (1 + f), f without rounding, for positive x. */
#define vlog_parts FN(vlog_parts)
FNN_INLINE vec vlog_parts(vec x, vec *f)
{
    const real smallest = FNN_BITS == 32 ? 0x1p-126 : 0x1p-1022, up = (real)(1ull << FNN_MANTISSA);
    const ivec subnormal = x < vset1(smallest), root = (ivec)vset1((real)0x1.6a09e667f3bcdp-1);
    const ivec bits = (ivec)vsel(subnormal, x * up, x) - root;
    /* e as a real, from the low bits of FNN_SHIFT + e; the bits of e are shifted down unsigned, and so biased. */
    const ivec biased = (ivec)((nvec)(bits + ((inat)FNN_BIAS << FNN_MANTISSA)) >> FNN_MANTISSA) - FNN_BIAS;
    *f = (vec)((bits & (((inat)1 << FNN_MANTISSA) - 1)) + root) - 1;
    return ((vec)(biased + (ivec)vset1(FNN_SHIFT)) - FNN_SHIFT) - vsel(subnormal, vset1(FNN_MANTISSA), (vec){0});
}

/* Natural logarithm. */
#define vlog FN(vlog)
FNN_INLINE vec vlog(vec x)
{
    vec f;
    const vec e = vlog_parts(x, &f), y = e * vset1(FNN_LN2_HI) + (f + (vlog1p_rest(f) + e * vset1(FNN_LN2_LO)));
    const vec zero_or_less = vsel(x < vset1(0), vset1(NAN), vset1(-INFINITY));
    return vsel(x > vset1(0), vsel(x < vset1(INFINITY), y, x), vsel(x <= vset1(0), zero_or_less, x));
}

/* log(1 + x): what rounding 1 + x lost is the logarithm's slope times as much. */
#define vlog1p FN(vlog1p)
FNN_INLINE vec vlog1p(vec x)
{
    const vec u = 1 + x, lost = x - (u - 1);
    return vlog(u) + lost / vsel(u == vset1(0), vset1(1), u);
}

/* x^p for p != 0: e^(p log |x|), the logarithm as a sum of two numbers so that a large exponent magnifies no error,
 * with the sign of x for odd p; NaN for negative x, if p is no integer. log(1 + f) = 2s + s^3 (2/3 + …) for s = f / (2 + f),
 * of which the remainder of the division is a part. */
#define vpow FN(vpow)
FNN_INLINE vec vpow(vec x, double p)
{
    const vec a = vabs(x), power = vset1((real)p);
    vec f, rest, shifted;
    const vec e = vlog_parts(a, &f), d = 2 + f, s = f / d, sd = vproduct(s, d, &rest), ss = s * s;
    const vec s_rest = ((f - sd) - rest - s * (f - (d - 2))) / d;
    const vec first = e * vset1(FNN_LN2_HI), sum = first + 2 * s;
    const vec others =
        (2 * s - (sum - first)) + (2 * s_rest + (s * ss * FNN_POLY(ss, FNN_POW_TERMS) + e * vset1(FNN_LN2_LO)));
    const vec log = sum + others, log_rest = others - (log - sum);
    const vec exponent = vproduct(power, log, &rest);
    rest += power * log_rest + vset1((real)(p - (real)p)) * log;
    const ivec zero = exponent < vset1(FNN_EXP_LO);
    const vec m = 1 + vexpm1_parts(vsel(zero, (vec){0}, vmin(vset1(FNN_EXP_HI), exponent)), &shifted);
    vec y = vsel(zero, (vec){0}, vscale(m + m * rest, shifted));
    y = vsel(a == (vec){0}, vset1(p > 0 ? 0 : INFINITY), y);
    y = vsel(a == vset1(INFINITY), vset1(p > 0 ? INFINITY : 0), y);
    const double half = p / 2;
    if (p != floor(p))
        y = vsel(x < vset1(0), vset1(NAN), y);
    else if (half != floor(half)) /* odd */
        y = vcopysign(y, x);
    return vsel(x == x, y, x);
}

/* log(1 + e^x) = max(x, 0) + log(1 + e^-|x|) */
#define vsoftplus FN(vsoftplus)
FNN_INLINE vec vsoftplus(vec x)
{
    const vec e = vexp(-vabs(x));
    const ivec large = e > vset1((real)0x1.a827999fcef32p-2); /* sqrt 2 - 1: half of 1 + e is near 1 */
    const vec f = vsel(large, e * vset1(0.5) - vset1(0.5), e);
    const vec ln2 = vsel(large, vset1((real)0x1.62e42fefa39efp-1), (vec){0});
    return vsel(x <= vset1(0), (vec){0}, x) + (f + (vlog1p_rest(f) + ln2));
}

/* m and FNN_SHIFT + n with c e^(-a^2 / divisor) = 2^n m, divisor 1 or 2: vexpm1_parts, with the part of a^2 that rounding
 * would lose and e^x would magnify a hundredfold. */
#define vgauss_parts FN(vgauss_parts)
FNN_INLINE vec vgauss_parts(vec a, int divisor, double c, vec *shifted)
{
    static const real terms[] = {1, 1, FNN_EXP_TERMS};
    enum { TERMS = sizeof terms / sizeof *terms };
    real scaled[TERMS];
#pragma GCC unroll 16
    for (int k = 0; k < TERMS; k++) {
        scaled[k] = (real)(c * terms[k]);
        c /= -divisor;
    }
    vec rest;
    const vec square = vsquare(a, &rest);
    *shifted = square * vset1((real)(-0x1.71547652b82fep+0 / divisor)) + FNN_SHIFT;
    const vec n = *shifted - FNN_SHIFT;
    const vec r = (square + n * vset1(FNN_LN2_HI * divisor)) + n * vset1(FNN_LN2_LO * divisor) + rest;
    return vpoly(r, TERMS, scaled);
}

/* p and u with p u = erfc(z) e^(z^2) / s for a = s z, 0 <= z <= FNN_ERFC_HI: u = 1 / s(z + K), and p is a polynomial in
 * z / (z + K), here mapped to [-1, 1] (after Shepherd and Laframboise 1981). */
#define verfcx FN(verfcx)
FNN_INLINE vec verfcx(vec a, double s, vec *u)
{
    *u = vquotient(vset1(1), a + vset1((real)(s * FNN_ERFC_K)));
    return FNN_POLY(1 - a * *u * vset1(FNN_ERFC_SCALE), FNN_ERFC_TERMS);
}

/* erf(x) = 1 - erfc(x), below 1 x times a polynomial in x^2. */
#define verf FN(verf)
FNN_INLINE vec verf(vec x)
{
    vec shifted, u;
    const vec a = vmin(vset1(6), vabs(x)); /* erfc(6) < 2^-54 */
    const vec m = vgauss_parts(a, 1, 1, &shifted), p = verfcx(a, 1, &u);
    const vec far = vcopysign(1 - p * u * vscale_near(m, shifted), x);
    return vsel(a < vset1(1), x + x * FNN_POLY(x * x, FNN_ERF_TERMS), vsel(x == x, far, x));
}

#undef FNN_SQRT_2
#undef FNN_GAUSS_HI
#undef FNN_GAUSS_NEAR
#define FNN_SQRT_2 0x1.6a09e667f3bcdp+0
#define FNN_GAUSS_HI (FNN_ERFC_HI * FNN_SQRT_2)
#define FNN_GAUSS_NEAR (FNN_BITS == 32 ? 11 : 31) /* e^(-a^2/2) is far from subnormal for a below */

/* x Φ(x) for the normal distribution Φ, Φ(-a) = erfc(a / sqrt 2) / 2; the power of two last, as in vsilu. */
#define vgelu_far FN(vgelu_far)
FNN_INLINE vec vgelu_far(vec x)
{
    vec shifted, u, a = vabs(x), tail;
    const int near = vall_less(a, vset1(FNN_GAUSS_NEAR));
    if (!near)
        a = vmin(vset1((real)FNN_GAUSS_HI), a);
    const vec m = vgauss_parts(a, 2, FNN_SQRT_2 / 2, &shifted), p = verfcx(a, FNN_SQRT_2, &u);
    const vec h = p * (a * u) * m;
    if (near)
        tail = vscale_near(h, shifted); /* n = 0 where h might be 0 or subnormal */
    else
        tail = vscale(h, shifted);
    return vmax(vset1(-(real)0), x) - tail; /* of zeros vmax takes x */
}

/* The same, more accurate and, where registers hold a table, faster near 0: below 3.875 Φ(-a) is a polynomial in what a leaves to the nearest quarter, one
 * of sixteen that interpolate it with a relative error of 2^-27. */
#define vgelu FN(vgelu)
#if defined(FNN_BUILD_AVX512) && FNN_BITS == 32
FNN_INLINE vec vgelu(vec x)
{
    static const real terms[][VL] = {
        {0.5f, 0.401293665f, 0.308537543f, 0.22662735f, 0.158655256f, 0.105649777f, 0.066807203f, 0.0400591567f,
         0.0227501318f, 0.0122244731f, 0.00620966544f, 0.00297976332f, 0.00134989806f, 0.000577025057f,
         0.000232629085f, 8.84172841e-05f},
        {-0.398942292f, -0.386668116f, -0.352065325f, -0.301137418f, -0.241970718f, -0.182649091f, -0.1295176f,
         -0.086277321f, -0.0539909676f, -0.0317396522f, -0.0175283011f, -0.00909356214f, -0.00443184841f,
         -0.00202904805f, -0.000872682722f, -0.0003525957f},
        {0, 0.0483335145f, 0.0880163312f, 0.112926535f, 0.120985359f, 0.11415568f, 0.0971381962f, 0.0754926577f,
         0.0539909676f, 0.0357071087f, 0.021910375f, 0.0125036482f, 0.00664777262f, 0.00329720299f, 0.00152719475f,
         0.000661116908f},
        {0.0664901286f, 0.0604166947f, 0.0440080948f, 0.0219580103f, 1.63620243e-07f, -0.0171231776f,
         -0.0269827135f, -0.0296577886f, -0.026995508f, -0.0214904454f, -0.0153373191f, -0.00994612277f,
         -0.00590914907f, -0.00323379831f, -0.00163627556f, -0.000767623715f},
        {0, -0.0118315909f, -0.0201703347f, -0.0229381397f, -0.020164201f, -0.013674913f, -0.00607117452f,
         0.000393152324f, 0.00449922262f, 0.0061371522f, 0.00593406567f, 0.00475400174f, 0.00332389562f,
         0.00207793037f, 0.00117721478f, 0.000609467155f},
        {-0.0099411523f, -0.00844530761f, -0.00457526697f, 0.000137685551f, 0.00401188806f, 0.00596496277f,
         0.00585352909f, 0.00430596853f, 0.002252826f, 0.000469029561f, -0.000659265905f, -0.00111784798f,
         -0.00110565044f, -0.00086519483f, -0.000579188694f, -0.000342781452f},
        {0, 0.00192406226f, 0.00306186406f, 0.00303203217f, 0.00201314176f, 0.00057777029f, -0.000652930525f,
         -0.00130487571f, -0.00134662678f, -0.000990597415f, -0.000514261366f, -0.000120601457f, 0.000109607077f,
         0.000191082654f, 0.000180285322f, 0.000132459201f},
    };
    enum { TERMS = sizeof terms / sizeof *terms };
    const vec a = vabs(x), shifted = a + vset1(0x1p21f), t = a - (shifted - vset1(0x1p21f));
    vec p = {0};
#pragma GCC unroll 8
    for (int k = TERMS; k-- > 0;)
        p = p * t + (vec)_mm512_permutexvar_ps((__m512i)shifted, (__m512)vload(terms[k]));
    const vec near = vmax(vset1(-(real)0), x) - a * p;
    if (vall_less(a, vset1(3.875f)))
        return near;
    return vsel(a < vset1(3.875f), near, vgelu_far(x));
}
#elif FNN_BITS == 32
FNN_INLINE vec vgelu(vec x) /* (x / 2) (1 + erf(x / sqrt 2)) near 0 */
{
    const vec z = x * vset1((real)(FNN_SQRT_2 / 2));
    const vec near = x * vset1(0.5f) * (1 + (z + z * FNN_POLY(z * z, FNN_ERF_TERMS)));
    return vsel(vabs(x) < vset1(0.5f), near, vgelu_far(x));
}
#else
FNN_INLINE vec vgelu(vec x) { return vgelu_far(x); }
#endif

/* Its derivative Φ(x) + x φ(x), which at -x is what it leaves to 1. */
#define vgelu_slope FN(vgelu_slope)
FNN_INLINE vec vgelu_slope(vec x)
{
    vec shifted, u, a = vabs(x), e;
    const int near = vall_less(a, vset1(FNN_GAUSS_NEAR));
    if (!near)
        a = vmin(vset1((real)FNN_GAUSS_HI), a);
    const vec m = vgauss_parts(a, 2, FNN_SQRT_2 / 2, &shifted), p = verfcx(a, FNN_SQRT_2, &u);
    if (near)
        e = vscale_near(m, shifted);
    else
        e = vscale(m, shifted);
    const vec tail = e * (p * u - a * vset1((real)0x1.20dd750429b6dp-1 /* 1 / sqrt π */));
    return vsel(x < vset1(0), tail, 1 - tail);
}
