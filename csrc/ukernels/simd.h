/* Instruction-set constants of this compilation of all.c.
 *
 * Everything is written on the vector extensions of GCC and Clang; an instruction set is a vector width, a
 * register-tile height and the masked loads below. NEON needs nothing of its own: it is the baseline of arm64.
 */
#ifndef FNN_SIMD_H
#define FNN_SIMD_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "../ukernels.h"

#if defined(FNN_BUILD_AVX512)
#include <immintrin.h>
#define FNN_VBYTES 64 /* bytes in a vector register */
#define FNN_MR 14     /* rows of the GEMM tile: 14*2 accumulators, 2 vectors of B, 1 broadcast, of 32 registers */
#define FNN_OM 12     /* rows of the outer-product tile: 12*2 accumulators, 2*2 vectors of B, 1 broadcast */
#define FNN_DM 6      /* rows of the dot-product tile: 6*4 accumulators, 6 + 1 operands */
#define FNN_TABLE fnn_ukernels_avx512
#elif defined(FNN_BUILD_AVX2)
#include <immintrin.h>
#define FNN_VBYTES 32
#define FNN_MR 6 /* 6*2 accumulators, 2 + 1 operands, of 16 registers */
#define FNN_OM 6
#define FNN_DM 3 /* 3*4 accumulators, 3 + 1 operands */
#define FNN_TABLE fnn_ukernels_avx2
#else
#if defined(__x86_64__)
#include <immintrin.h>
#endif
#define FNN_VBYTES 16
#if defined(__aarch64__) /* NEON has 32 registers */
#define FNN_MR 14
#define FNN_OM 12
#define FNN_DM 6
#else
#define FNN_MR 6
#define FNN_OM 6
#define FNN_DM 3
#endif
#define FNN_TABLE fnn_ukernels_baseline
#endif

#define FNN_INLINE static inline __attribute__((always_inline))

/* All vstream before it are seen by other threads before anything after it. */
FNN_INLINE void vstream_end(void)
{
#if defined(__x86_64__)
    _mm_sfence();
#endif
}

#endif
