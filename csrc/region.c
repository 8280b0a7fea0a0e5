/* Parallel regions of one thread without OpenMP: GCC makes a region a call of GOMP_parallel, which takes a quarter of a
 * microsecond to set up a team, however small. The linker sends that call here (--wrap=GOMP_parallel). Outside any
 * region a thread is a team of one already, and work sharing gives it all iterations. */
#include <omp.h>

void __real_GOMP_parallel(void (*body)(void *), void *data, unsigned threads, unsigned flags);
void __wrap_GOMP_parallel(void (*body)(void *), void *data, unsigned threads, unsigned flags);

void __wrap_GOMP_parallel(void (*body)(void *), void *data, unsigned threads, unsigned flags)
{
    if (threads == 1 && omp_get_level() == 0)
        body(data);
    else
        __real_GOMP_parallel(body, data, threads, flags);
}
