"""The instruction set in use, thread counts and scratch memory: one copy for the whole process."""

import os

cimport cython
cimport numpy as cnp
from cpython.pycapsule cimport PyCapsule_New
from cpython.pyport cimport PY_SSIZE_T_MAX
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memset, strcpy
from cython.parallel cimport prange

cdef extern from "cpu.h" nogil:
    int fnn_cpu_supports(int isa)
    Py_ssize_t fnn_cache_bytes(int level)
    double fnn_now()

cdef extern from "memory.h" nogil:
    void *fnn_allocate(size_t nbytes)
    void fnn_free(void *p)
    void fnn_offer(void *p, size_t nbytes)
    Py_ssize_t fnn_memory_bytes()
    void fnn_count(ptrdiff_t *now, ptrdiff_t *peak, ptrdiff_t change)

cdef extern from *:
    """
    #if defined(__x86_64__) || defined(_M_X64)
    #define FNN_X86 1
    #else
    #define FNN_X86 0
    #define fnn_ukernels_avx2 fnn_ukernels_baseline
    #define fnn_ukernels_avx512 fnn_ukernels_baseline
    #endif
    #ifdef _OPENMP
    #include <omp.h>
    #define FNN_OPENMP _OPENMP
    #else
    #define FNN_OPENMP 0
    #endif
    #if FNN_OPENMP && defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 9
    #define fnn_end_threads() omp_pause_resource_all(omp_pause_soft)
    #else /* other runtimes look after forks themselves */
    #define fnn_end_threads() 0
    #endif
    #ifdef FNN_DEBUG
    #define FNN_IS_DEBUG 1
    #else
    #define FNN_IS_DEBUG 0
    #endif
    #if defined(__clang__)
    #define FNN_COMPILER __VERSION__
    #elif defined(__GNUC__)
    #define FNN_COMPILER "GCC " __VERSION__
    #else
    #define FNN_COMPILER "unknown"
    #endif
    """
    const int FNN_X86
    const int FNN_OPENMP
    const int FNN_IS_DEBUG
    const char *FNN_COMPILER
    int fnn_end_threads()

cnp.import_array()

OPENMP = FNN_OPENMP
"""Date of the OpenMP specification the kernels were compiled for (201511 = 4.5), 0 if they are serial."""
DEBUG = bool(FNN_IS_DEBUG)
COMPILER = FNN_COMPILER.decode()

# ---- instruction set ----

ISA_LEVELS = ("baseline", "avx2", "avx512") if FNN_X86 else ("baseline",)
"""Compiled instruction-set levels, lowest first."""


def supported_isas():
    """The compiled levels that this CPU and operating system can run, lowest first."""
    return tuple([name for level, name in enumerate(ISA_LEVELS) if fnn_cpu_supports(level)])


cdef int current_isa = 0


def get_isa():
    """Name of the instruction-set level in use."""
    return ISA_LEVELS[current_isa]


def set_isa(name):
    """Use the micro-kernels of another level from the next call on. For tests and measurements."""
    global tables, current_isa
    if name not in ISA_LEVELS:
        raise ValueError(f"FASTNN_ISA: unknown instruction set {name!r}, expected one of {', '.join(ISA_LEVELS)}")
    if name not in supported_isas():
        raise ValueError(f"FASTNN_ISA: this machine cannot run {name!r}, only {', '.join(supported_isas())}")
    current_isa = ISA_LEVELS.index(name)
    if current_isa == 2:
        tables = fnn_ukernels_avx512
    elif current_isa == 1:
        tables = fnn_ukernels_avx2
    else:
        tables = fnn_ukernels_baseline


*_, best_isa = supported_isas()
set_isa(os.environ.get("FASTNN_ISA") or best_isa)

# ---- threads ----

cdef int num_threads = 1

# OpenMP's threads wait actively for some milliseconds after a call, and then sleep. A region costs two or three
# microseconds to start and join while they wait, so that each thread must get at least this much work; to wake one
# takes up to a tenth of a millisecond.
cdef double SECONDS_PER_THREAD = 8e-6
cdef double WAKING = 200e-6
# Within a region they wait for each other in a third of a microsecond.
cdef double SECONDS_PER_STEP = 1e-6
# They wait, or work follows work closely enough to wake them for it.
cdef double WAITING = 1e-3
# Rough single-core rates that turn a call's work into seconds.
cdef double[3] FLOPS_PER_SECOND = [15e9, 50e9, 80e9]  # by instruction set
cdef double BYTES_PER_SECOND = 20e9, CACHED_BYTES_PER_SECOND = 50e9

cdef double idle_from = 0              # when the last call that was worth a thread is over, on the monotonic clock

cdef bint pool_started = False         # OpenMP has worker threads, or is about to
cdef bint pool_lost = False            # they stayed behind in the parent process


cdef double seconds_of(double flops, double nbytes) noexcept nogil:
    """On one thread."""
    return max(flops / FLOPS_PER_SECOND[current_isa],
               nbytes / (CACHED_BYTES_PER_SECOND if nbytes <= last_cache_bytes else BYTES_PER_SECOND))


cdef int threads_for(double flops, double nbytes) noexcept nogil:
    return 1 if num_threads == 1 else threads_for_seconds(seconds_of(flops, nbytes))


cdef int threads_for_seconds(double seconds) noexcept nogil:
    global pool_started, idle_from
    cdef double now
    cdef bint awake
    if seconds < 2 * SECONDS_PER_THREAD:
        return 1
    if SECONDS_PER_THREAD > 0:
        now = fnn_now()
        awake = now < idle_from + WAITING
        idle_from = now + seconds
        if not awake and seconds < WAKING:
            return 1
    pool_started = True
    return <int>min(<double>num_threads, seconds / SECONDS_PER_THREAD) if SECONDS_PER_THREAD > 0 else num_threads


cdef int threads_for_steps(Py_ssize_t steps, double flops, double nbytes) noexcept nogil:
    cdef double seconds = seconds_of(flops, nbytes)
    cdef int threads
    if num_threads == 1 or (SECONDS_PER_THREAD > 0 and seconds < 2 * SECONDS_PER_STEP):
        return 1
    threads = threads_for_seconds(steps * seconds)
    return <int>min(<double>threads, seconds / SECONDS_PER_STEP) if SECONDS_PER_THREAD > 0 else threads


def get_num_threads():
    """The largest number of threads a kernel may use."""
    return num_threads


def set_num_threads(int n):
    """Let kernels use up to n threads; without OpenMP, and in the fork of a process that used it, they stay serial."""
    global num_threads
    if n < 1:
        raise ValueError(f"set_num_threads: n must be at least 1, got {n}")
    num_threads = n if FNN_OPENMP and not pool_lost else 1


def set_seconds_per_thread(double seconds):
    """Least work, in estimated seconds, that is worth a thread; returns the value before. Tests set 0, which makes
    every call parallel however small."""
    global SECONDS_PER_THREAD
    before, SECONDS_PER_THREAD = SECONDS_PER_THREAD, seconds
    return before


def _before_fork():
    """End the worker threads of the thread that forks: its next parallel region makes new ones. They would not survive
    in the child, where whoever shares libgomp with fastnn would wait for them for ever in its next parallel region, and
    so would the end of the thread."""
    if not pool_lost:
        fnn_end_threads()


def _after_fork_in_child():
    """Worker threads may be lost all the same if the process forks by other means than Python's."""
    global pool_lost
    pool_lost = pool_started
    if pool_lost:
        set_num_threads(1)
    if kept_lock.locked():
        kept_lock.release()  # was about to be another thread's, which is not here; what it guards is not half changed


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_child=_after_fork_in_child)

# ---- caches ----

cdef Py_ssize_t cache_bytes = min(max(fnn_cache_bytes(2), <Py_ssize_t>1 << 18), <Py_ssize_t>1 << 21)
cdef Py_ssize_t last_cache_bytes = min(max(fnn_cache_bytes(3), <Py_ssize_t>1 << 21), <Py_ssize_t>1 << 26)


def set_last_cache_bytes(Py_ssize_t nbytes):
    """Results of calls that move more bytes go past the caches; returns the figure before. Tests set 0."""
    global last_cache_bytes
    before, last_cache_bytes = last_cache_bytes, nbytes
    return before


# ---- memory of results and scratch ----

cdef bint poisoned = False

# Blocks worth keeping when they are freed: the system would map and clear their pages anew in every call, which takes
# longer than most kernels take to fill them.
cdef Py_ssize_t KEEP_LEAST = 1 << 18
# Kept blocks beyond so many bytes, oldest first, are offered to the system, which takes them when it runs short. Not
# the newest: they are likely to be used again soon, and a page that was offered costs a kernel up to half its speed.
cdef Py_ssize_t OFFER_BEYOND = 1 << 28

cdef enum:
    KEPT = 64

cdef struct Kept:
    void *memory                       # NULL in an unused place
    Py_ssize_t nbytes
    Py_ssize_t age                     # when it was freed
    bint offered

cdef Kept[KEPT] kept
cdef Py_ssize_t kept_bytes = 0, kept_count = 0, offered_bytes = 0
cdef Py_ssize_t keep_most = min(fnn_memory_bytes() // 8, <Py_ssize_t>1 << 30)
cdef cython.pymutex kept_lock


# The functions down to `offer_oldest` are called under the lock.

cdef int oldest_kept(bint offered) noexcept:
    """The place of the block that was kept longest, of those not offered yet unless `offered`; -1 if there is none."""
    cdef int i, oldest = -1
    for i in range(KEPT):
        if (kept[i].memory != NULL and (offered or not kept[i].offered)
                and (oldest < 0 or kept[i].age < kept[oldest].age)):
            oldest = i
    return oldest


cdef void *remove_kept(int place) noexcept:
    """The memory of a kept block, which is no longer kept."""
    global kept_bytes, offered_bytes
    cdef void *memory = kept[place].memory
    kept_bytes -= kept[place].nbytes
    if kept[place].offered:
        offered_bytes -= kept[place].nbytes
    kept[place].memory = NULL
    return memory


cdef void *take_oldest() noexcept:
    """The memory of the block that was kept longest, which is no longer kept; NULL if there is none."""
    cdef int oldest = oldest_kept(True)
    return NULL if oldest < 0 else remove_kept(oldest)


cdef void offer_oldest() noexcept:
    """Offer to the system what is kept beyond OFFER_BEYOND."""
    global offered_bytes
    cdef int oldest
    while kept_bytes - offered_bytes > OFFER_BEYOND:
        oldest = oldest_kept(False)
        fnn_offer(kept[oldest].memory, kept[oldest].nbytes)
        kept[oldest].offered = True
        offered_bytes += kept[oldest].nbytes


cdef void keep(void *memory, Py_ssize_t nbytes) noexcept:
    """Keep a block in place of the oldest ones."""
    global kept_bytes, kept_count
    cdef int i, place
    cdef bint room = False
    while not room:
        with kept_lock:
            place = -1
            for i in range(KEPT):
                if kept[i].memory == NULL:
                    place = i
            room = place >= 0 and kept_bytes + nbytes <= keep_most
            if room:
                kept_count += 1
                kept[place] = Kept(memory, nbytes, kept_count, False)
                kept_bytes += nbytes
                offer_oldest()
            else:
                unwanted = take_oldest()
        if not room:
            fnn_free(unwanted)


cdef void *take(Py_ssize_t *nbytes) noexcept:
    """The smallest kept block that holds nbytes and is not much larger; its size. NULL if there is none."""
    cdef int i, best = -1
    cdef void *memory = NULL
    with kept_lock:
        for i in range(KEPT):
            if (kept[i].memory != NULL and nbytes[0] <= kept[i].nbytes <= nbytes[0] + nbytes[0] // 2
                    and (best < 0 or kept[i].nbytes < kept[best].nbytes)):
                best = i
        if best >= 0:
            nbytes[0] = kept[best].nbytes
            memory = remove_kept(best)
    return memory


cdef ptrdiff_t scratch_now = 0, scratch_most = 0     # bytes


cdef class Memory:
    def __dealloc__(self):
        if KEEP_LEAST <= self.nbytes <= keep_most:
            keep(self.block, self.nbytes)
        else:
            fnn_free(self.block)


cdef int obtain(Memory m, Py_ssize_t nbytes, str purpose) except -1:
    """Give m a block of at least nbytes."""
    m.nbytes = nbytes
    if KEEP_LEAST <= nbytes <= keep_most:
        m.block = take(&m.nbytes)
    if m.block == NULL:
        m.block = fnn_allocate(nbytes)
        if m.block == NULL:
            release_memory()
            m.block = fnn_allocate(nbytes)
        if m.block == NULL:
            m.nbytes = 0
            raise MemoryError(f"fastnn: cannot allocate {nbytes} bytes of {purpose}")
    if poisoned:
        memset(m.block, POISON, nbytes)
    return 0


cdef class Scratch(Memory):
    def __dealloc__(self):
        fnn_count(&scratch_now, &scratch_most, -self.used)


cdef Scratch scratch(Py_ssize_t nbytes):
    cdef Scratch s = Scratch.__new__(Scratch)
    obtain(s, nbytes, "scratch memory")
    s.used = nbytes
    fnn_count(&scratch_now, &scratch_most, nbytes)
    s.ptr = <char *>s.block
    return s


cdef cnp.ndarray fresh(int ndim, cnp.npy_intp *dims, int dtype):
    cdef Py_ssize_t nbytes = 8 if dtype == cnp.NPY_DOUBLE or dtype == cnp.NPY_INT64 else 4
    cdef int i
    cdef Memory m
    cdef cnp.ndarray x
    for i in range(ndim):
        if dims[i] and nbytes > PY_SSIZE_T_MAX // dims[i]:
            nbytes = 0                     # NumPy says what is wrong with it
            break
        nbytes *= dims[i]
    if nbytes < KEEP_LEAST:
        return cnp.PyArray_EMPTY(ndim, dims, dtype, 0)
    m = Memory.__new__(Memory)
    obtain(m, nbytes, "results")
    x = cnp.PyArray_SimpleNewFromData(ndim, dims, dtype, m.block)
    cnp.set_array_base(x, m)
    return x


def scratch_peak():
    """The most bytes of scratch memory, prepared filters included, that were in use at a time since the last call of
    this function. For tests, in one Python thread."""
    global scratch_most
    peak, scratch_most = scratch_most, scratch_now
    return peak


def release_memory():
    """Give back to the system what is kept of freed results and scratch memory for later calls: 1 GiB at most."""
    cdef void *memory
    while True:
        with kept_lock:
            memory = take_oldest()
        if memory == NULL:
            break
        fnn_free(memory)


# ---- poisoned memory, for tests ----

# Every byte of fresh memory: NaN in float32 and float64, -1 in integers.
cdef int POISON = 0xFF


cdef void *poisoned_malloc(void *ctx, size_t n) noexcept nogil:
    cdef void *p = malloc(n)
    if p != NULL:
        memset(p, POISON, n)
    return p


cdef void *plain_calloc(void *ctx, size_t n, size_t size) noexcept nogil:
    return calloc(n, size)


cdef void *plain_realloc(void *ctx, void *p, size_t n) noexcept nogil:
    return realloc(p, n)


cdef void plain_free(void *ctx, void *p, size_t n) noexcept nogil:
    free(p)


cdef cnp.PyDataMem_Handler poisoned_handler
strcpy(poisoned_handler.name, "fastnn_poisoned")
poisoned_handler.version = 1
poisoned_handler.allocator.ctx = NULL
poisoned_handler.allocator.malloc = poisoned_malloc
poisoned_handler.allocator.calloc = plain_calloc
poisoned_handler.allocator.realloc = plain_realloc
poisoned_handler.allocator.free = plain_free
poisoned_capsule = PyCapsule_New(&poisoned_handler, "mem_handler", NULL)


class poisoned_memory:
    """Context in which uninitialised NumPy arrays and scratch memory hold NaN, so that a result that was never
    written, or that depends on what memory held before, shows."""

    def __enter__(self):
        global poisoned
        self.before = poisoned, cnp.PyDataMem_SetHandler(poisoned_capsule)
        poisoned = True

    def __exit__(self, *exc):
        global poisoned
        poisoned, handler = self.before
        cnp.PyDataMem_SetHandler(handler)


# ---- the limits of the machine, for fastnn bench ----

cdef int measured_threads(int threads) noexcept:
    """So many threads, as threads_for would have chosen them."""
    global pool_started
    if pool_lost:
        return 1
    pool_started = pool_started or threads > 1
    return threads


def fma_chain(Py_ssize_t steps, int threads, int bits=32):
    """Run independent fused multiply-adds on every thread; returns the number of floating-point operations done."""
    cdef const fnn_limits_ukernels *uk = tables[FNN_F64 if bits == 64 else FNN_F32].limits
    cdef int _
    cdef double sink = 0
    threads = measured_threads(threads)
    for _ in prange(threads, nogil=True, num_threads=threads, schedule="static", chunksize=1):
        sink += uk.fma_chain(steps)
    if sink != sink:
        raise ArithmeticError("fma_chain gave NaN")
    return <double>steps * uk.fma_chain_flops * threads


cdef double share_of_traffic(const fnn_limits_ukernels *uk, int reads, int writes, int past, Py_ssize_t n,
                             char **src, char **dst, Py_ssize_t offset) noexcept nogil:
    cdef const void *s[8]
    cdef void *d[8]
    cdef int i
    for i in range(reads):
        s[i] = src[i] + offset
    for i in range(writes):
        d[i] = dst[i] + offset
    return uk.traffic(reads, writes, past, n, s, d)


def stream(list sources, list results, int threads):
    """Read so many float32 arrays of the same size, a multiple of 64, while writing so many (see fnn_limits_ukernels),
    each thread its share; returns the bytes read and written. More than the last cache holds is written past it."""
    cdef const fnn_limits_ukernels *uk = tables[FNN_F32].limits
    cdef int reads = <int>len(sources), writes = <int>len(results), past, i
    cdef cnp.ndarray x = sources[0]
    cdef Py_ssize_t n = cnp.PyArray_SIZE(x), steps = n // 64, first, count
    cdef char *all_src[8]
    cdef char *all_dst[8]
    cdef double sink = 0, nbytes = 4. * n * (reads + writes)
    for i in range(reads):
        all_src[i] = <char *>cnp.PyArray_DATA(<cnp.ndarray>sources[i])
    for i in range(writes):
        all_dst[i] = <char *>cnp.PyArray_DATA(<cnp.ndarray>results[i])
    past = past_caches(nbytes)
    threads = measured_threads(threads)
    for i in prange(threads, nogil=True, num_threads=threads, schedule="static", chunksize=1):
        first = steps * i // threads * 64
        count = steps * (i + 1) // threads * 64 - first
        sink += share_of_traffic(uk, reads, writes, past, count, all_src, all_dst, 4 * first)
    if sink != sink:
        raise ArithmeticError(f"stream: NaN, or no kernel reads {reads} arrays and writes {writes}")
    return nbytes
