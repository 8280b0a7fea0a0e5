/* Memory for tests of fastnn and NumPy: filled with NaN, between guard pages, or refused at a chosen allocation. Blocks
 * are counted. One state for the process; used while a context of fastnn.kernels.runtime is entered. */
#ifndef FNN_TEST_MEMORY_H
#define FNN_TEST_MEMORY_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "memory.h"

typedef struct {
    int in_use;            /* contexts that are entered */
    int poison;            /* not 0: every byte of fresh memory is 0xFF: NaN in float32 and float64, -1 in integers */
    int side;              /* 1: blocks end where a guard page begins; -1: they begin where one ends; 0: plain blocks */
    ptrdiff_t failing;     /* the number of the allocation that fails, from 1; 0: none */
    ptrdiff_t allocations; /* so far */
} fnn_test_settings;

static fnn_test_settings fnn_test;
static ptrdiff_t fnn_test_blocks; /* that are not freed yet */

/* Is this the allocation that fails? */
static inline int fnn_test_fails(void)
{
    return __atomic_add_fetch(&fnn_test.allocations, 1, __ATOMIC_RELAXED) == fnn_test.failing;
}

static inline void *fnn_test_made(void *p, size_t nbytes)
{
    if (p != NULL) {
        __atomic_add_fetch(&fnn_test_blocks, 1, __ATOMIC_RELAXED);
        if (fnn_test.poison)
            memset(p, 0xFF, nbytes);
    }
    return p;
}

static inline void fnn_test_gone(void) { __atomic_sub_fetch(&fnn_test_blocks, 1, __ATOMIC_RELAXED); }

#if defined(_WIN32)
enum { FNN_GUARDS = 0 };

static inline void *fnn_guarded_allocate(size_t nbytes, size_t alignment) { return (void)nbytes, (void)alignment, NULL; }
static inline size_t fnn_guarded_size(void *p) { return (void)p, 0; }
static inline void fnn_guarded_free(void *p) { (void)p; }
#else
#include <sys/mman.h>
#include <unistd.h>

enum { FNN_GUARDS = 1, FNN_GUARD_PAGES = 16, FNN_BESIDE = 0xA5 };

/* At the start of a block's pages: a page with this, guard pages, those that hold the block, guard pages. */
typedef struct {
    size_t total, nbytes, room; /* bytes of all pages, of the block, of the pages that hold it */
} fnn_guarded_header;

static inline size_t fnn_page(void) { return (size_t)sysconf(_SC_PAGESIZE); }

/* The block lies in the first of the pages that hold it. */
static inline fnn_guarded_header *fnn_guarded_header_of(void *p)
{
    const size_t page = fnn_page();
    return (fnn_guarded_header *)(((uintptr_t)p & ~(uintptr_t)(page - 1)) - (1 + FNN_GUARD_PAGES) * page);
}

/* alignment: a power of 2; up to so many bytes lie between the block and the guard page behind it. */
static inline void *fnn_guarded_allocate(size_t nbytes, size_t alignment)
{
    const size_t page = fnn_page(), guard = FNN_GUARD_PAGES * page, asked = nbytes ? nbytes : 1;
    size_t room, total;
    char *start, *p;
    if (asked > SIZE_MAX / 2)
        return NULL;
    room = (asked + page - 1) & ~(page - 1);
    total = page + guard + room + guard;
    start = mmap(NULL, total, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (start == MAP_FAILED)
        return NULL;
    p = start + page + guard;
    if (mprotect(start, page, PROT_READ | PROT_WRITE) || mprotect(p, room, PROT_READ | PROT_WRITE)) {
        munmap(start, total);
        return NULL;
    }
    *(fnn_guarded_header *)start = (fnn_guarded_header){total, nbytes, room};
    if (fnn_test.side > 0) {
        const size_t slack = room - ((asked + alignment - 1) & ~(alignment - 1));
        memset(p, FNN_BESIDE, slack);
        p += slack;
        memset(p + nbytes, FNN_BESIDE, room - slack - nbytes);
    } else {
        memset(p + nbytes, FNN_BESIDE, room - nbytes);
    }
    return p;
}

static inline size_t fnn_guarded_size(void *p) { return fnn_guarded_header_of(p)->nbytes; }

/* Aborts if something was written beside the block. */
static inline void fnn_guarded_free(void *p)
{
    fnn_guarded_header *header = fnn_guarded_header_of(p);
    const unsigned char *first = (unsigned char *)header + (1 + FNN_GUARD_PAGES) * fnn_page();
    const unsigned char *begin = p, *end = begin + header->nbytes, *q;
    for (q = first; q < first + header->room; q++)
        if ((q < begin || q >= end) && *q != FNN_BESIDE) {
            fprintf(stderr, "fastnn: byte %td of a block of %zu bytes was written\n", q - begin, header->nbytes);
            abort();
        }
    munmap(header, header->total);
}
#endif

/* ---- blocks of fastnn ---- */

static inline void *fnn_test_allocate(size_t nbytes, size_t alignment)
{
    void *p = NULL;
    if (!fnn_test_fails())
        p = fnn_test.side ? fnn_guarded_allocate(nbytes, alignment) : fnn_allocate(nbytes);
    return fnn_test_made(p, nbytes);
}

static inline void fnn_test_free(void *p, int guarded)
{
    if (p == NULL)
        return;
    fnn_test_gone();
    if (guarded)
        fnn_guarded_free(p);
    else
        fnn_free(p);
}

/* ---- NumPy's arrays: allocators of its PyDataMem_Handler, whose context says whether blocks are guarded ---- */

static inline void *fnn_numpy_malloc(void *guarded, size_t n)
{
    void *p = NULL;
    if (!fnn_test_fails())
        p = guarded ? fnn_guarded_allocate(n, 1) : malloc(n);
    return fnn_test_made(p, n);
}

static inline void *fnn_numpy_calloc(void *guarded, size_t n, size_t size)
{
    void *p = n && size > SIZE_MAX / n ? NULL : fnn_numpy_malloc(guarded, n * size);
    return p == NULL ? NULL : memset(p, 0, n * size);
}

static inline void fnn_numpy_free(void *guarded, void *p, size_t n)
{
    (void)n;
    if (p == NULL)
        return;
    fnn_test_gone();
    if (guarded)
        fnn_guarded_free(p);
    else
        free(p);
}

static inline void *fnn_numpy_realloc(void *guarded, void *p, size_t n)
{
    void *q;
    if (p == NULL)
        return fnn_numpy_malloc(guarded, n);
    if (!guarded)
        return fnn_test_fails() ? NULL : realloc(p, n);
    q = fnn_numpy_malloc(guarded, n);
    if (q != NULL) {
        const size_t before = fnn_guarded_size(p);
        memcpy(q, p, before < n ? before : n);
        fnn_numpy_free(guarded, p, before);
    }
    return q;
}

#endif
