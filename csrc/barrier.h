/* A barrier for steps of a microsecond, within a parallel region of fastnn.kernels: OpenMP's own takes half of that. */
#ifndef FNN_BARRIER_H
#define FNN_BARRIER_H

#if defined(_WIN32)
#include <windows.h>
#define fnn_yield() SwitchToThread()
#else
#include <sched.h>
#define fnn_yield() sched_yield()
#endif
#if defined(__x86_64__)
#include <immintrin.h>
#define fnn_pause() _mm_pause()
#elif defined(__aarch64__)
#define fnn_pause() __asm__ volatile("yield")
#else
#define fnn_pause() (void)0
#endif

/* Zero at first. The two lie in different cache lines, as one is written while others read the other. */
typedef struct {
    char before[64];
    int waiting;
    char between[124];
    int phase;
    char behind[60];
} fnn_barrier;

/* Looks at the phase so often, some microseconds, before it gives its CPU away: there may be more threads than CPUs. */
enum { FNN_SPINS = 1000 };

/* Returns when all of so many threads have come, and what they wrote before can be read. */
static inline void fnn_wait(fnn_barrier *b, int threads)
{
    if (threads == 1)
        return;
    const int phase = __atomic_load_n(&b->phase, __ATOMIC_RELAXED);
    if (__atomic_add_fetch(&b->waiting, 1, __ATOMIC_ACQ_REL) == threads) {
        __atomic_store_n(&b->waiting, 0, __ATOMIC_RELAXED);
        __atomic_store_n(&b->phase, phase + 1, __ATOMIC_RELEASE);
        return;
    }
    for (int spins = 0; __atomic_load_n(&b->phase, __ATOMIC_ACQUIRE) == phase; spins++)
        if (spins < FNN_SPINS)
            fnn_pause();
        else
            fnn_yield();
}

#endif
