/* A barrier for steps of a microsecond, within a parallel region of fastnn.kernels: OpenMP's own takes half of that.
 *
 * A thread looks for the others for a while, and then sleeps, so that the scheduler can bring one that was put off by
 * other work over to its CPU. Only Linux can sleep on an address in few words; elsewhere it gives way and looks again. */
#ifndef FNN_BARRIER_H
#define FNN_BARRIER_H

#if defined(__linux__)
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#elif defined(_WIN32)
#include <windows.h>
#else
#include <sched.h>
#endif
#if defined(__x86_64__)
#include <immintrin.h>
#define fnn_pause() _mm_pause()
#elif defined(__aarch64__)
#define fnn_pause() __asm__ volatile("yield")
#else
#define fnn_pause() (void)0
#endif

/* Zero at first. They lie in different cache lines, as one is written while others read the other. */
typedef struct {
    char before[64];
    int waiting, sleeping;
    char between[120];
    int phase;
    char behind[60];
} fnn_barrier;

enum { FNN_SPINS = 4000 }; /* some tens of microseconds: as long as to sleep and be woken takes */

static inline void fnn_sleep(fnn_barrier *b, int phase)
{
#if defined(__linux__)
    __atomic_add_fetch(&b->sleeping, 1, __ATOMIC_SEQ_CST);
    syscall(SYS_futex, &b->phase, FUTEX_WAIT_PRIVATE, phase, NULL, NULL, 0);
    __atomic_sub_fetch(&b->sleeping, 1, __ATOMIC_SEQ_CST);
#elif defined(_WIN32)
    (void)b, (void)phase, SwitchToThread();
#else
    (void)b, (void)phase, sched_yield();
#endif
}

static inline void fnn_wake(fnn_barrier *b)
{
#if defined(__linux__)
    if (__atomic_load_n(&b->sleeping, __ATOMIC_SEQ_CST))
        syscall(SYS_futex, &b->phase, FUTEX_WAKE_PRIVATE, 1 << 30, NULL, NULL, 0);
#else
    (void)b;
#endif
}

/* Returns when all of so many threads have come, and what they wrote before can be read. */
static inline void fnn_wait(fnn_barrier *b, int threads)
{
    if (threads == 1)
        return;
    const int phase = __atomic_load_n(&b->phase, __ATOMIC_RELAXED);
    if (__atomic_add_fetch(&b->waiting, 1, __ATOMIC_ACQ_REL) == threads) {
        __atomic_store_n(&b->waiting, 0, __ATOMIC_RELAXED);
        __atomic_store_n(&b->phase, phase + 1, __ATOMIC_SEQ_CST);
        fnn_wake(b);
        return;
    }
    for (int spins = 0; __atomic_load_n(&b->phase, __ATOMIC_ACQUIRE) == phase; spins++)
        if (spins < FNN_SPINS)
            fnn_pause();
        else
            fnn_sleep(b, phase);
}

#endif
