#include "cpu.h"

#include <stdio.h>
#include <time.h>

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

#if defined(__linux__)
/* What the kernel tells of a cache, 0 if nothing. (In virtual machines sysconf may count caches of the whole host.) */
static long listed_cache_bytes(int level)
{
    char path[64];
    long kib = 0;
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/size", level); /* 0 and 1 are level 1 */
    FILE *f = fopen(path, "r");
    if (!f)
        return 0;
    if (fscanf(f, "%ldK", &kib) != 1)
        kib = 0;
    fclose(f);
    return kib << 10;
}
#else
static long listed_cache_bytes(int level) { return (void)level, 0; }
#endif

long fnn_cache_bytes(int level)
{
    long n = listed_cache_bytes(level);
#if defined(_SC_LEVEL2_CACHE_SIZE)
    if (n <= 0)
        n = sysconf(level == 2 ? _SC_LEVEL2_CACHE_SIZE : _SC_LEVEL3_CACHE_SIZE);
#endif
    return n > 0 ? n : level == 2 ? 1L << 20 : 1L << 25;
}

double fnn_now(void)
{
    struct timespec t;
#if defined(CLOCK_MONOTONIC)
    clock_gettime(CLOCK_MONOTONIC, &t);
#else
    timespec_get(&t, TIME_UTC);
#endif
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
