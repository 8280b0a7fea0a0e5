/* GCC makes a parallel region a call of GOMP_parallel, and the linker sends that call here (--wrap=GOMP_parallel), for
 * two reasons.
 *
 * Regions of one thread go without OpenMP, which takes a quarter of a microsecond to set up a team, however small.
 * Outside any region a thread is a team of one already, and work sharing gives it all iterations.
 *
 * In regions of several, all compute as the calling thread does. OpenMP's threads keep the floating-point environment
 * of the time when they began, so that subnormal results would depend on which thread makes them once the program
 * has chosen to flush them to zero. */
#include "fpenv.h"

#include <omp.h>

void __real_GOMP_parallel(void (*body)(void *), void *data, unsigned threads, unsigned flags);
void __wrap_GOMP_parallel(void (*body)(void *), void *data, unsigned threads, unsigned flags);
unsigned fnn_own_fp_control(void);

struct region {
    void (*body)(void *);
    void *data;
    unsigned control;
};

static __thread unsigned own_control;

/* How the thread computes outside the region that it is in. */
unsigned fnn_own_fp_control(void) { return own_control; }

static void run_as_the_caller(void *p)
{
    const struct region *r = p;
    const unsigned own = own_control = fnn_fp_control();
    if (own == r->control) {
        r->body(r->data);
        return;
    }
    fnn_set_fp_control(r->control);
    r->body(r->data);
    fnn_set_fp_control(own);
}

void __wrap_GOMP_parallel(void (*body)(void *), void *data, unsigned threads, unsigned flags)
{
    struct region r = {body, data, fnn_fp_control()};
    if (threads == 1 && omp_get_level() == 0)
        body(data);
    else
        __real_GOMP_parallel(run_as_the_caller, &r, threads, flags);
}
