/* The vector vocabulary of one element type. all.c includes it with FNN_BITS 32 and then 64, each time followed by
 * the families, so that every micro-kernel is written once over
 *
 *   real   float or double                 FN(name)  name_f32 or name_f64
 *   vec    a register of VL reals          ivec      integers of the same lane width; comparisons give 0 / -1
 *   inat   one lane of ivec                nvec, unat    the same unsigned
 */
#undef real
#undef inat
#undef unat
#undef FN
#undef REAL_
#if FNN_BITS == 32
#define real float
#define inat int32_t
#define unat uint32_t
#define FN(name) name##_f32
#define REAL_(name) name##f /* the libm function for this type */
#else
#define real double
#define inat int64_t
#define unat uint64_t
#define FN(name) name##_f64
#define REAL_(name) name
#endif

#define vec FN(vec)
#define ivec FN(ivec)
#define nvec FN(nvec)
#define uvec FN(uvec)
#define VL ((ptrdiff_t)(FNN_VBYTES / sizeof(real)))

typedef real vec __attribute__((vector_size(FNN_VBYTES)));
typedef inat ivec __attribute__((vector_size(FNN_VBYTES)));
typedef unat nvec __attribute__((vector_size(FNN_VBYTES)));
typedef real uvec __attribute__((vector_size(FNN_VBYTES), aligned(sizeof(real)), may_alias));

#define vload FN(vload)
#define vstore FN(vstore)
#define vset1 FN(vset1)
#define vstream FN(vstream)
#define vstream_head FN(vstream_head)
#define vload_n FN(vload_n)
#define vstore_n FN(vstore_n)
#define vload_upto FN(vload_upto)
#define vstore_upto FN(vstore_upto)
#define vsel FN(vsel)
#define vmax FN(vmax)
#define vmin FN(vmin)
#define vsqrt FN(vsqrt)
#define vquotient FN(vquotient)
#define vproduct FN(vproduct)
#define vsquare FN(vsquare)
#define vall FN(vall)
#define vall_less FN(vall_less)
#define vrelu FN(vrelu)
#define veven FN(veven)
#define vodd FN(vodd)
#define vzip_lo FN(vzip_lo)
#define vzip_hi FN(vzip_hi)
#define vsum FN(vsum)
#define vsum4 FN(vsum4)
#define viota FN(viota)

/* Loads and stores need the alignment of one element only. */
FNN_INLINE vec vload(const real *p) { return *(const uvec *)p; }
FNN_INLINE void vstore(real *p, vec v) { *(uvec *)p = v; }
FNN_INLINE vec vset1(real x) { return x - (vec){0}; } /* x - (+0) is x, signed zeros and NaN included */

/* To an aligned address, past the caches, which need not read the line first; vstream_end before another thread reads. */
FNN_INLINE void vstream(real *p, vec v)
{
#if defined(FNN_BUILD_AVX512)
    _mm512_stream_ps((float *)p, (__m512)v);
#elif defined(FNN_BUILD_AVX2)
    _mm256_stream_ps((float *)p, (__m256)v);
#elif defined(__x86_64__)
    _mm_stream_ps((float *)p, (__m128)v);
#else
    *(vec *)p = v;
#endif
}

/* How many of the n elements at p lie before the first that vstream can begin with. */
FNN_INLINE ptrdiff_t vstream_head(const real *p, ptrdiff_t n)
{
    const ptrdiff_t head = (ptrdiff_t)(-(uintptr_t)p % FNN_VBYTES / sizeof(real));
    return head < n ? head : n;
}

/* 0, 1, 2, … as integers of the lane width. */
FNN_INLINE ivec viota(void)
{
    ivec v;
    for (ptrdiff_t i = 0; i < VL; i++)
        v[i] = (inat)i;
    return v;
}

/* The first n < VL lanes; a load gives zero in the others, a store leaves memory behind them untouched. */
FNN_INLINE vec vload_n(const real *p, ptrdiff_t n)
{
#if defined(FNN_BUILD_AVX512) && FNN_BITS == 32
    return (vec)_mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
#elif defined(FNN_BUILD_AVX512)
    return (vec)_mm512_maskz_loadu_pd((__mmask8)((1u << n) - 1), p);
#elif defined(FNN_BUILD_AVX2) && FNN_BITS == 32
    return (vec)_mm256_maskload_ps(p, (__m256i)(viota() < (inat)n));
#elif defined(FNN_BUILD_AVX2)
    return (vec)_mm256_maskload_pd(p, (__m256i)(viota() < (inat)n));
#else
    vec v = {0};
    for (ptrdiff_t i = 0; i < n; i++)
        v[i] = p[i];
    return v;
#endif
}

FNN_INLINE void vstore_n(real *p, vec v, ptrdiff_t n)
{
#if defined(FNN_BUILD_AVX512) && FNN_BITS == 32
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), (__m512)v);
#elif defined(FNN_BUILD_AVX512)
    _mm512_mask_storeu_pd(p, (__mmask8)((1u << n) - 1), (__m512d)v);
#elif defined(FNN_BUILD_AVX2) && FNN_BITS == 32
    _mm256_maskstore_ps(p, (__m256i)(viota() < (inat)n), (__m256)v);
#elif defined(FNN_BUILD_AVX2)
    _mm256_maskstore_pd(p, (__m256i)(viota() < (inat)n), (__m256d)v);
#else
    for (ptrdiff_t i = 0; i < n; i++)
        p[i] = v[i];
#endif
}

/* The first n lanes, or all if n >= VL: the steps of a loop `for (i = 0; i < n; i += VL)` over n - i elements. */
FNN_INLINE vec vload_upto(const real *p, ptrdiff_t n) { return n < VL ? vload_n(p, n) : vload(p); }

FNN_INLINE void vstore_upto(real *p, vec v, ptrdiff_t n)
{
    if (n < VL)
        vstore_n(p, v, n);
    else
        vstore(p, v);
}

#if defined(FNN_BUILD_AVX512) /* where a load that crosses a cache line costs two */
#define vload_from FN(vload_from)
#define vrotate FN(vrotate)

/* Lanes n.. from p on, zero in the first n: what vload(p - n) gives there. */
FNN_INLINE vec vload_from(const real *p, ptrdiff_t n)
{
#if FNN_BITS == 32
    return (vec)_mm512_maskz_loadu_ps((__mmask16)(0xffffu << n), p - n);
#else
    return (vec)_mm512_maskz_loadu_pd((__mmask8)(0xffu << n), p - n);
#endif
}

/* Lane i of the result is lane (i + n) mod VL of v. */
FNN_INLINE vec vrotate(vec v, ptrdiff_t n)
{
#if FNN_BITS == 32
    const __m512i lanes = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    return (vec)_mm512_permutexvar_ps(_mm512_add_epi32(lanes, _mm512_set1_epi32((int)n)), (__m512)v);
#else
    const __m512i lanes = _mm512_set_epi64(7, 6, 5, 4, 3, 2, 1, 0);
    return (vec)_mm512_permutexvar_pd(_mm512_add_epi64(lanes, _mm512_set1_epi64(n)), (__m512d)v);
#endif
}
#endif

/* Lane-wise m ? a : b, with m all ones or all zeros in each lane, as a comparison gives it. */
FNN_INLINE vec vsel(ivec m, vec a, vec b) { return (vec)(((ivec)a & m) | ((ivec)b & ~m)); }

/* A choice of lanes that is made once and used often: the first n, -VL <= n <= VL (none if n <= 0). */
#define lanes FN(lanes)
#define vfirst FN(vfirst)
#define vbetween FN(vbetween)
#define vload_if FN(vload_if)
#define vlanes FN(vlanes)
#define vpick FN(vpick)
#define vload_more FN(vload_more)
#if defined(FNN_BUILD_AVX512) && FNN_BITS == 32
typedef __mmask16 lanes;
#elif defined(FNN_BUILD_AVX512)
typedef __mmask8 lanes;
#else
typedef ivec lanes;
#endif

FNN_INLINE lanes vfirst(ptrdiff_t n)
{
#if defined(FNN_BUILD_AVX512)
    return (lanes)((1u << (n < 0 ? 0 : n)) - 1);
#else
    return viota() < (inat)n;
#endif
}

/* Lanes low <= i < high. */
FNN_INLINE lanes vbetween(ptrdiff_t low, ptrdiff_t high)
{
    low = low < 0 ? 0 : low > VL ? VL : low;
    high = high < 0 ? 0 : high > VL ? VL : high;
#if defined(FNN_BUILD_AVX512)
    return (lanes)(vfirst(high) & ~vfirst(low));
#else
    return (viota() < (inat)high) & (viota() >= (inat)low);
#endif
}

/* Lanes i whose bit i is set. */
FNN_INLINE lanes vlanes(uint32_t bits)
{
#if defined(FNN_BUILD_AVX512)
    return (lanes)bits;
#else
    const ivec bit = ((ivec){0} + 1) << viota();
    return (((ivec){0} + (inat)bits) & bit) == bit;
#endif
}

/* a in the lanes of m, b in the others. */
FNN_INLINE vec vpick(lanes m, vec a, vec b)
{
#if defined(FNN_BUILD_AVX512) && FNN_BITS == 32
    return (vec)_mm512_mask_blend_ps(m, (__m512)b, (__m512)a);
#elif defined(FNN_BUILD_AVX512)
    return (vec)_mm512_mask_blend_pd(m, (__m512d)b, (__m512d)a);
#else
    return vsel(m, a, b);
#endif
}

/* The lanes in m, zero in the others, whose memory is not touched. */
FNN_INLINE vec vload_if(lanes m, const real *p)
{
#if defined(FNN_BUILD_AVX512) && FNN_BITS == 32
    return (vec)_mm512_maskz_loadu_ps(m, p);
#elif defined(FNN_BUILD_AVX512)
    return (vec)_mm512_maskz_loadu_pd(m, p);
#elif defined(FNN_BUILD_AVX2) && FNN_BITS == 32
    return (vec)_mm256_maskload_ps(p, (__m256i)m);
#elif defined(FNN_BUILD_AVX2)
    return (vec)_mm256_maskload_pd(p, (__m256i)m);
#else
    vec v = {0};
    for (ptrdiff_t i = 0; i < VL; i++)
        if (m[i])
            v[i] = p[i];
    return v;
#endif
}

/* v, zero in the lanes of m, with these from memory. */
FNN_INLINE vec vload_more(vec v, lanes m, const real *p)
{
#if defined(FNN_BUILD_AVX512) && FNN_BITS == 32
    return (vec)_mm512_mask_loadu_ps((__m512)v, m, p);
#elif defined(FNN_BUILD_AVX512)
    return (vec)_mm512_mask_loadu_pd((__m512d)v, m, p);
#else
    return (vec)((ivec)v | (ivec)vload_if(m, p));
#endif
}

/* Lane-wise a > b ? a : b and a < b ? a : b, so b if either is NaN; square roots. (Compilers do not find these
 * instructions.) */
#if FNN_BITS == 32 && defined(FNN_BUILD_AVX512)
#define FNN_INTRINSIC(f) _mm512_##f##_ps
#elif FNN_BITS == 32 && defined(FNN_BUILD_AVX2)
#define FNN_INTRINSIC(f) _mm256_##f##_ps
#elif FNN_BITS == 32 && defined(__x86_64__)
#define FNN_INTRINSIC(f) _mm_##f##_ps
#elif defined(FNN_BUILD_AVX512)
#define FNN_INTRINSIC(f) _mm512_##f##_pd
#elif defined(FNN_BUILD_AVX2)
#define FNN_INTRINSIC(f) _mm256_##f##_pd
#elif defined(__x86_64__)
#define FNN_INTRINSIC(f) _mm_##f##_pd
#endif
#ifdef FNN_INTRINSIC
FNN_INLINE vec vmax(vec a, vec b) { return (vec)FNN_INTRINSIC(max)(a, b); }
FNN_INLINE vec vmin(vec a, vec b) { return (vec)FNN_INTRINSIC(min)(a, b); }
FNN_INLINE vec vsqrt(vec a) { return (vec)FNN_INTRINSIC(sqrt)(a); }
#undef FNN_INTRINSIC
#else
FNN_INLINE vec vmax(vec a, vec b) { return vsel(a > b, a, b); }
FNN_INLINE vec vmin(vec a, vec b) { return vsel(a < b, a, b); }
FNN_INLINE vec vsqrt(vec a)
{
    for (ptrdiff_t i = 0; i < VL; i++)
        a[i] = REAL_(sqrt)(a[i]);
    return a;
}
#endif

/* a / b for finite a and normal b, 1/b normal, within 1 ulp, and 1 for a = b: where division is slow, by an approximate
 * reciprocal and the remainder it leaves. */
FNN_INLINE vec vquotient(vec a, vec b)
{
#if defined(FNN_BUILD_AVX512)
#if FNN_BITS == 32
    const vec r = (vec)_mm512_rcp14_ps((__m512)b); /* relative error 2^-14 */
#else
    const vec r0 = (vec)_mm512_rcp14_pd((__m512d)b), r = r0 + r0 * (1 - b * r0);
#endif
    const vec q = a * r;
#if FNN_BITS == 32 /* in so many words, because a build without optimisation does not fuse what it may */
    return (vec)_mm512_fmadd_ps((__m512)r, _mm512_fnmadd_ps((__m512)q, (__m512)b, (__m512)a), (__m512)q);
#else
    return (vec)_mm512_fmadd_pd((__m512d)r, _mm512_fnmadd_pd((__m512d)q, (__m512d)b, (__m512d)a), (__m512d)q);
#endif
#else
    return a / b;
#endif
}

/* a b rounded, and what that leaves out: exact by a fused multiply-add, else nearly so by the halves of their bits. */
FNN_INLINE vec vproduct(vec a, vec b, vec *rest)
{
    const vec product = a * b;
#if defined(FNN_BUILD_AVX512) && FNN_BITS == 32
    *rest = (vec)_mm512_fmsub_ps((__m512)a, (__m512)b, (__m512)product);
#elif defined(FNN_BUILD_AVX512)
    *rest = (vec)_mm512_fmsub_pd((__m512d)a, (__m512d)b, (__m512d)product);
#elif defined(FNN_BUILD_AVX2) && FNN_BITS == 32
    *rest = (vec)_mm256_fmsub_ps((__m256)a, (__m256)b, (__m256)product);
#elif defined(FNN_BUILD_AVX2)
    *rest = (vec)_mm256_fmsub_pd((__m256d)a, (__m256d)b, (__m256d)product);
#else
    const ivec upper = (ivec){0} - ((inat)1 << (FNN_BITS == 32 ? 12 : 27));
    const vec ah = (vec)((ivec)a & upper), al = a - ah, bh = (vec)((ivec)b & upper), bl = b - bh;
    *rest = ((ah * bh - product) + (ah * bl + al * bh)) + al * bl;
#endif
    return product;
}

FNN_INLINE vec vsquare(vec a, vec *rest) { return vproduct(a, a, rest); }

/* Do all lanes of a comparison hold? 0, which no result may depend on, where asking is not cheap. */
FNN_INLINE int vall(ivec m)
{
#if defined(FNN_BUILD_AVX512) && FNN_BITS == 32
    return _mm512_movepi32_mask((__m512i)m) == 0xffff;
#elif defined(FNN_BUILD_AVX512)
    return _mm512_movepi64_mask((__m512i)m) == 0xff;
#elif defined(FNN_BUILD_AVX2)
    return _mm256_movemask_epi8((__m256i)m) == -1;
#elif defined(__x86_64__)
    return _mm_movemask_epi8((__m128i)m) == 0xffff;
#else
    return (void)m, 0;
#endif
}

/* vall(a < b). (Compilers make a vector of the comparison's mask and a mask of that.) */
FNN_INLINE int vall_less(vec a, vec b)
{
#if defined(FNN_BUILD_AVX512) && FNN_BITS == 32
    return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_LT_OQ) == 0xffff;
#elif defined(FNN_BUILD_AVX512)
    return _mm512_cmp_pd_mask((__m512d)a, (__m512d)b, _CMP_LT_OQ) == 0xff;
#else
    return vall(a < b);
#endif
}

/* p[lane], lane by lane. */
#define vgather FN(vgather)
FNN_INLINE vec vgather(const real *p, ivec lane)
{
#if defined(FNN_BUILD_AVX512) && FNN_BITS == 32
    return (vec)_mm512_i32gather_ps((__m512i)lane, p, 4);
#elif defined(FNN_BUILD_AVX512)
    return (vec)_mm512_i64gather_pd((__m512i)lane, p, 8);
#elif defined(FNN_BUILD_AVX2) && FNN_BITS == 32
    return (vec)_mm256_i32gather_ps(p, (__m256i)lane, 4);
#elif defined(FNN_BUILD_AVX2)
    return (vec)_mm256_i64gather_pd(p, (__m256i)lane, 8);
#else
    vec v;
    for (ptrdiff_t i = 0; i < VL; i++)
        v[i] = p[lane[i]];
    return v;
#endif
}

/* v[lane], lane by lane, where there is an instruction for it. */
#if defined(FNN_BUILD_AVX512) || defined(FNN_BUILD_AVX2)
#undef FNN_PERMUTES
#define FNN_PERMUTES 1
#define vpermute FN(vpermute)
FNN_INLINE vec vpermute(vec v, ivec lane)
{
#if defined(FNN_BUILD_AVX512) && FNN_BITS == 32
    return (vec)_mm512_permutexvar_ps((__m512i)lane, (__m512)v);
#elif defined(FNN_BUILD_AVX512)
    return (vec)_mm512_permutexvar_pd((__m512i)lane, (__m512d)v);
#elif FNN_BITS == 32
    return (vec)_mm256_permutevar8x32_ps((__m256)v, (__m256i)lane);
#else /* the two halves of each lane */
    const ivec halves = (lane << 1 | lane << 33) + ((inat)1 << 32);
    return (vec)_mm256_permutevar8x32_ps((__m256)v, (__m256i)halves);
#endif
}

/* The same of the 2*VL elements (a, b). */
#define vpermute2 FN(vpermute2)
FNN_INLINE vec vpermute2(vec a, vec b, ivec lane)
{
#if defined(FNN_BUILD_AVX512) && FNN_BITS == 32
    return (vec)_mm512_permutex2var_ps((__m512)a, (__m512i)lane, (__m512)b);
#elif defined(FNN_BUILD_AVX512)
    return (vec)_mm512_permutex2var_pd((__m512d)a, (__m512i)lane, (__m512d)b);
#else
    return vsel(lane < (inat)VL, vpermute(a, lane), vpermute(b, lane - (inat)VL));
#endif
}
#else
#undef FNN_PERMUTES
#define FNN_PERMUTES 0
#endif

/* max(x, 0); a NaN fails the comparison and stays. */
FNN_INLINE vec vrelu(vec x) { return vsel(x <= vset1(0), (vec){0}, x); }

/* Even and odd elements of the 2*VL elements (a, b), in order. */
#if FNN_VBYTES / (FNN_BITS / 8) == 16
FNN_INLINE vec veven(vec a, vec b)
{
    return __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
}
FNN_INLINE vec vodd(vec a, vec b)
{
    return __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
}
#elif FNN_VBYTES / (FNN_BITS / 8) == 8
FNN_INLINE vec veven(vec a, vec b) { return __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14); }
FNN_INLINE vec vodd(vec a, vec b) { return __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15); }
#elif FNN_VBYTES / (FNN_BITS / 8) == 4
FNN_INLINE vec veven(vec a, vec b) { return __builtin_shufflevector(a, b, 0, 2, 4, 6); }
FNN_INLINE vec vodd(vec a, vec b) { return __builtin_shufflevector(a, b, 1, 3, 5, 7); }
#else
FNN_INLINE vec veven(vec a, vec b) { return __builtin_shufflevector(a, b, 0, 2); }
FNN_INLINE vec vodd(vec a, vec b) { return __builtin_shufflevector(a, b, 1, 3); }
#endif

/* The lower and upper halves of a and b interleaved: a0, b0, a1, b1, ... */
#if FNN_VBYTES / (FNN_BITS / 8) == 16
FNN_INLINE vec vzip_lo(vec a, vec b)
{
    return __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
}
FNN_INLINE vec vzip_hi(vec a, vec b)
{
    return __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
}
#elif FNN_VBYTES / (FNN_BITS / 8) == 8
FNN_INLINE vec vzip_lo(vec a, vec b) { return __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11); }
FNN_INLINE vec vzip_hi(vec a, vec b) { return __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15); }
#elif FNN_VBYTES / (FNN_BITS / 8) == 4
FNN_INLINE vec vzip_lo(vec a, vec b) { return __builtin_shufflevector(a, b, 0, 4, 1, 5); }
FNN_INLINE vec vzip_hi(vec a, vec b) { return __builtin_shufflevector(a, b, 2, 6, 3, 7); }
#else
FNN_INLINE vec vzip_lo(vec a, vec b) { return __builtin_shufflevector(a, b, 0, 2); }
FNN_INLINE vec vzip_hi(vec a, vec b) { return __builtin_shufflevector(a, b, 1, 3); }
#endif

/* Elements 1 .. VL, and VL-1 .. 2*VL-2, of the 2*VL elements (a, b): b's neighbours on the left, a's on the right. */
#define vafter FN(vafter)
#define vbefore FN(vbefore)
#if FNN_VBYTES / (FNN_BITS / 8) == 16
FNN_INLINE vec vafter(vec a, vec b)
{
    return __builtin_shufflevector(a, b, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16);
}
FNN_INLINE vec vbefore(vec a, vec b)
{
    return __builtin_shufflevector(a, b, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30);
}
#elif FNN_VBYTES / (FNN_BITS / 8) == 8
FNN_INLINE vec vafter(vec a, vec b) { return __builtin_shufflevector(a, b, 1, 2, 3, 4, 5, 6, 7, 8); }
FNN_INLINE vec vbefore(vec a, vec b) { return __builtin_shufflevector(a, b, 7, 8, 9, 10, 11, 12, 13, 14); }
#elif FNN_VBYTES / (FNN_BITS / 8) == 4
FNN_INLINE vec vafter(vec a, vec b) { return __builtin_shufflevector(a, b, 1, 2, 3, 4); }
FNN_INLINE vec vbefore(vec a, vec b) { return __builtin_shufflevector(a, b, 3, 4, 5, 6); }
#else
FNN_INLINE vec vafter(vec a, vec b) { return __builtin_shufflevector(a, b, 1, 2); }
FNN_INLINE vec vbefore(vec a, vec b) { return __builtin_shufflevector(a, b, 1, 2); }
#endif

/* Horizontal sums by a fixed tree: the order of additions is part of the result. */
FNN_INLINE real vsum(vec v)
{
    for (ptrdiff_t n = VL; n > 1; n /= 2)
        v = veven(v, v) + vodd(v, v);
    return v[0];
}

/* The sums of four vectors, each by the tree of vsum. */
FNN_INLINE void vsum4(vec a, vec b, vec c, vec d, real out[4])
{
    vec ab = veven(a, b) + vodd(a, b), cd = veven(c, d) + vodd(c, d);
    if (VL == 2) {
        out[0] = ab[0], out[1] = ab[1], out[2] = cd[0], out[3] = cd[1];
        return;
    }
    vec v = veven(ab, cd) + vodd(ab, cd);
    for (ptrdiff_t n = VL; n > 4; n /= 2)
        v = veven(v, v) + vodd(v, v);
    memcpy(out, &v, 4 * sizeof(real));
}
