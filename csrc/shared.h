/* Variables that threads read and write without a lock: every access is whole, and in no order with others. */
#ifndef FNN_SHARED_H
#define FNN_SHARED_H

#include <stddef.h>

#define FNN_SHARED(name, type)                                                                                         \
    static inline type fnn_load_##name(type const *p)                                                                  \
    {                                                                                                                  \
        type value;                                                                                                    \
        __atomic_load(p, &value, __ATOMIC_RELAXED);                                                                    \
        return value;                                                                                                  \
    }                                                                                                                  \
    static inline void fnn_store_##name(type *p, type value) { __atomic_store(p, &value, __ATOMIC_RELAXED); }

FNN_SHARED(int, int)
FNN_SHARED(size, ptrdiff_t)
FNN_SHARED(double, double)
FNN_SHARED(pointer, const void *)

/* *p += change; returns the value before. */
static inline ptrdiff_t fnn_add_size(ptrdiff_t *p, ptrdiff_t change)
{
    return __atomic_fetch_add(p, change, __ATOMIC_RELAXED);
}

#endif
