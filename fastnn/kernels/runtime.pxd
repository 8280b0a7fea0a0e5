# What every kernel module shares; there is one copy of it in the process, in fastnn.kernels.runtime.
cimport numpy as cnp
from fastnn.kernels.ukernels cimport *

cdef extern from "shared.h" nogil:
    int fnn_load_int(const int *p)
    void fnn_store_int(int *p, int value)
    Py_ssize_t fnn_load_size(const Py_ssize_t *p)
    void fnn_store_size(Py_ssize_t *p, Py_ssize_t value)
    double fnn_load_double(const double *p)
    void fnn_store_double(double *p, double value)
    const void *fnn_load_pointer(const void **p)
    void fnn_store_pointer(const void **p, const void *value)
    Py_ssize_t fnn_add_size(Py_ssize_t *p, Py_ssize_t change)

# The micro-kernel tables in use, [FNN_F32] and [FNN_F64].
cdef const fnn_ukernels *tables

# The table for an array's element type (float32 or float64). Once in a call: another thread may choose other tables.
cdef inline const fnn_ukernels *table_of(cnp.ndarray x) noexcept:
    cdef const fnn_ukernels *chosen = <const fnn_ukernels *>fnn_load_pointer(<const void **>&tables)
    return &chosen[FNN_F64 if cnp.PyArray_TYPE(x) == cnp.NPY_DOUBLE else FNN_F32]

# The elements of an array, NULL for None.
cdef inline char *data_or_null(cnp.ndarray x) noexcept:
    return NULL if x is None else <char *>cnp.PyArray_DATA(x)

# Bytes of a core's second-level cache, for the sizes of tiles; no result depends on it.
cdef Py_ssize_t cache_bytes

# Bytes of the last cache before memory.
cdef Py_ssize_t last_cache_bytes

# Do the results of a call that moves so many bytes go past the caches (vstream)? They would not stay there anyway: not
# all of the last cache is free for them. (Of 32 MiB: a ReLU gains by it from 22 MiB up on one thread, from 26 on two.)
cdef inline bint past_caches(double nbytes) noexcept nogil:
    return 4 * nbytes > 3 * fnn_load_size(&last_cache_bytes)

# How many threads a call takes that costs `flops` arithmetic operations and moves `nbytes` bytes of memory.
cdef int threads_for(double flops, double nbytes) noexcept nogil

# The same for a call of `steps` steps, after each of which all threads wait for each other; of one step.
cdef int threads_for_steps(Py_ssize_t steps, double flops, double nbytes) noexcept nogil

# The same for `flops` operations an element of x, with so many arrays of x's size read or written.
cdef inline int threads_of(cnp.ndarray x, double flops, double arrays) noexcept nogil:
    return threads_for(flops * cnp.PyArray_SIZE(x), arrays * cnp.PyArray_NBYTES(x))

cdef inline Py_ssize_t ceil_div(Py_ssize_t a, Py_ssize_t b) noexcept nogil:
    return (a + b - 1) // b

# Rounded up to whole cache lines.
cdef inline Py_ssize_t aligned(Py_ssize_t nbytes) noexcept nogil:
    return (nbytes + 63) & ~<Py_ssize_t>63

# Cache-line aligned memory, freed with the object.
cdef class Memory:
    cdef void *block
    cdef Py_ssize_t nbytes         # of the block, which may be larger than what was asked for
    cdef int test                  # 1, or 2 between guard pages, if the block is one of csrc/test_memory.h

# Memory for one call.
cdef class Scratch(Memory):
    cdef Py_ssize_t used
    cdef char *ptr
    cdef const fnn_ukernels *uk    # of prepared weights: the table that they are laid out for

# The table for x beside weights that were prepared, or None.
cdef inline const fnn_ukernels *table_beside(Scratch prepared, cnp.ndarray x) noexcept:
    return table_of(x) if prepared is None else prepared.uk

cdef Scratch scratch(Py_ssize_t nbytes)

# An uninitialised C-contiguous array for a result: float32, float64, int32 or int64.
cdef cnp.ndarray fresh(int ndim, cnp.npy_intp *dims, int dtype)
