/* What this machine is: instruction sets that it can run (what the CPU has and the operating system saves), caches, time. */
#ifndef FNN_CPU_H
#define FNN_CPU_H

enum { FNN_BASELINE = 0, FNN_AVX2 = 1, FNN_AVX512 = 2, FNN_ISA_COUNT = 3 };

/* 1 if code compiled for `isa` may run here (CPU and operating system), else 0. */
int fnn_cpu_supports(int isa);

/* Bytes of the cache of level 2 or 3 that a core uses; a guess where the system does not tell. */
long fnn_cache_bytes(int level);

/* Seconds on a clock that never goes back, where there is one. */
double fnn_now(void);

#endif
