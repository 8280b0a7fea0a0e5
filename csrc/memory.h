/* Memory for fastnn.kernels.runtime: aligned to cache lines, large blocks to and in huge pages where the system has
 * them, for fewer page faults and address look-ups. Not for micro-kernels, which never allocate. */
#ifndef FNN_MEMORY_H
#define FNN_MEMORY_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

/* now += change, peak = the most that now has been; from any thread. */
static inline void fnn_count(ptrdiff_t *now, ptrdiff_t *peak, ptrdiff_t change)
{
    const ptrdiff_t n = __atomic_add_fetch(now, change, __ATOMIC_RELAXED);
    ptrdiff_t most = __atomic_load_n(peak, __ATOMIC_RELAXED);
    while (n > most && !__atomic_compare_exchange_n(peak, &most, n, 1, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        ;
}

#if defined(_WIN32)
#include <malloc.h>

static inline void *fnn_allocate(size_t nbytes) { return _aligned_malloc(nbytes + 1, 64); }
static inline void fnn_free(void *p) { _aligned_free(p); }
static inline void fnn_offer(void *p, size_t nbytes) { (void)p, (void)nbytes; }
static inline ptrdiff_t fnn_memory_bytes(void) { return (ptrdiff_t)1 << 33; }
#else
#include <unistd.h>
#if defined(__linux__)
#include <sys/mman.h>
#endif

/* NULL if there is no memory. From the start of a page where that is no waste: a load waits for an earlier store whose
 * address is a little above it modulo the page size, and other large arrays begin near the start of a page, too. */
static inline void *fnn_allocate(size_t nbytes)
{
    const size_t huge_page = (size_t)1 << 21;
    const int large = nbytes >= 2 * huge_page;
    const size_t alignment = large ? huge_page : nbytes >= 1 << 16 ? 4096 : 64;
    void *p;
    if (nbytes > SIZE_MAX - 2 * huge_page || posix_memalign(&p, alignment, nbytes + 1))
        return NULL;
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    if (large)
        (void)madvise(p, nbytes, MADV_HUGEPAGE); /* a wish: refused, the pages are small */
#endif
    return p;
}

static inline void fnn_free(void *p) { free(p); }

/* The system may take the pages of a block if it runs short of memory: the block stays, its contents do not. */
static inline void fnn_offer(void *p, size_t nbytes)
{
#if defined(__linux__) && defined(MADV_FREE)
    (void)madvise(p, nbytes & ~(((size_t)1 << 21) - 1), MADV_FREE);
#else
    (void)p, (void)nbytes;
#endif
}

/* Memory of this machine. */
static inline ptrdiff_t fnn_memory_bytes(void)
{
    return (ptrdiff_t)sysconf(_SC_PHYS_PAGES) * (ptrdiff_t)sysconf(_SC_PAGESIZE);
}
#endif

#endif
