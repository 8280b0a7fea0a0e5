#include "cpu.h"

#if !defined(_WIN32)
#include <unistd.h>
#endif

#if defined(__x86_64__) || defined(_M_X64)
#include <cpuid.h>

/* XCR0: the register state the operating system saves on a context switch. */
static unsigned long long xcr0(void)
{
    unsigned lo, hi;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return ((unsigned long long)hi << 32) | lo;
}

static int highest_level(void)
{
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d))
        return FNN_BASELINE;
    const unsigned fma = 1u << 12, osxsave = 1u << 27, avx = 1u << 28;
    if ((c & (fma | osxsave | avx)) != (fma | osxsave | avx))
        return FNN_BASELINE;

    const unsigned long long ymm_state = 0x6;             /* SSE and AVX halves of YMM */
    const unsigned long long zmm_state = ymm_state | 0xe0; /* opmask, ZMM0-15 upper, ZMM16-31 */
    const unsigned long long saved = xcr0();
    if ((saved & ymm_state) != ymm_state || !__get_cpuid_count(7, 0, &a, &b, &c, &d))
        return FNN_BASELINE;
    if (!(b & (1u << 5)))
        return FNN_BASELINE;

    const unsigned f = 1u << 16, dq = 1u << 17, bw = 1u << 30, vl = 1u << 31;
    const unsigned avx512 = f | dq | bw | vl;
    if ((b & avx512) == avx512 && (saved & zmm_state) == zmm_state)
        return FNN_AVX512;
    return FNN_AVX2;
}
#else
static int highest_level(void) { return FNN_BASELINE; }
#endif

int fnn_cpu_supports(int isa) { return isa >= FNN_BASELINE && isa <= highest_level(); }

long fnn_cache_bytes(void)
{
    long n = 0;
#if defined(_SC_LEVEL2_CACHE_SIZE)
    n = sysconf(_SC_LEVEL2_CACHE_SIZE);
#endif
    return n > 0 ? n : 1L << 20;
}
