/* How this thread computes: rounding, flushing to zero and traps, without the flags of exceptions that occurred. */
#ifndef FNN_FPENV_H
#define FNN_FPENV_H

#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>

enum { FNN_MXCSR_FLAGS = 0x3f };

static inline unsigned fnn_fp_control(void) { return _mm_getcsr() & ~(unsigned)FNN_MXCSR_FLAGS; }
static inline void fnn_set_fp_control(unsigned control) { _mm_setcsr((_mm_getcsr() & FNN_MXCSR_FLAGS) | control); }

/* The same of the x87 unit, which long doubles are computed in. */
static inline unsigned fnn_x87_control(void)
{
    unsigned short control;
    __asm__ volatile("fnstcw %0" : "=m"(control));
    return control;
}
#elif defined(__aarch64__)
#include <stdint.h>

static inline unsigned fnn_fp_control(void)
{
    uint64_t control;
    __asm__ volatile("mrs %0, fpcr" : "=r"(control));
    return (unsigned)control;
}
static inline void fnn_set_fp_control(unsigned control)
{
    __asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)control));
}
static inline unsigned fnn_x87_control(void) { return 0; }
#else
#include <fenv.h>

static inline unsigned fnn_fp_control(void) { return (unsigned)fegetround(); }
static inline void fnn_set_fp_control(unsigned control) { (void)fesetround((int)control); }
static inline unsigned fnn_x87_control(void) { return 0; }
#endif

#endif
