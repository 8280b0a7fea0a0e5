"""The instruction set in use, thread counts and scratch memory: one copy for the whole process."""

import os

cimport cython
cimport numpy as cnp
from cpython.pycapsule cimport PyCapsule_New
from cpython.pyport cimport PY_SSIZE_T_MAX
from libc.string cimport strcpy
from cython.parallel cimport prange

cdef extern from "cpu.h" nogil:
    int fnn_cpu_supports(int isa)
    Py_ssize_t fnn_cache_bytes(int level)
    double fnn_now()

cdef extern from "fpenv.h" nogil:
    unsigned fnn_fp_control()
    unsigned fnn_x87_control()

cdef extern from "memory.h" nogil:
    void *fnn_allocate(size_t nbytes)
    void fnn_free(void *p)
    void fnn_offer(void *p, size_t nbytes)
    Py_ssize_t fnn_memory_bytes()
    void fnn_count(Py_ssize_t *now, Py_ssize_t *peak, Py_ssize_t change)

cdef extern from "test_memory.h" nogil:
    const int FNN_GUARDS
    ctypedef struct fnn_test_settings:
        int in_use
        int poison
        int side
        ptrdiff_t failing
        ptrdiff_t allocations
    fnn_test_settings fnn_test
    ptrdiff_t fnn_test_blocks
    void *fnn_test_allocate(size_t nbytes, size_t alignment)
    void fnn_test_free(void *p, int guarded)
    void *fnn_numpy_malloc(void *guarded, size_t n)
    void *fnn_numpy_calloc(void *guarded, size_t n, size_t size)
    void *fnn_numpy_realloc(void *guarded, void *p, size_t n)
    void fnn_numpy_free(void *guarded, void *p, size_t n)

cdef extern from "numpy/arrayobject.h":  # which the .pxd of NumPy 2.0 leaves out
    ctypedef struct PyDataMemAllocator:
        void *ctx
        void *(*malloc)(void *ctx, size_t size)
        void *(*calloc)(void *ctx, size_t count, size_t size)
        void *(*realloc)(void *ctx, void *p, size_t size)
        void (*free)(void *ctx, void *p, size_t size)
    ctypedef struct PyDataMem_Handler:
        char[127] name
        unsigned char version
        PyDataMemAllocator allocator
    object PyDataMem_SetHandler(object handler)

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
    #define fnn_openmp_threads() omp_get_max_threads()
    #else
    #define FNN_OPENMP 0
    #define fnn_openmp_threads() 1
    #endif
    #ifdef FNN_REGION
    unsigned fnn_own_fp_control(void);
    #else
    #define fnn_own_fp_control fnn_fp_control
    #endif
    #if FNN_OPENMP && defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 9
    /* Wheels are linked with the system's older libgomp, whatever the compiler's. */
    extern __typeof__(omp_pause_resource_all) omp_pause_resource_all __attribute__((weak));
    #define fnn_end_threads() (omp_pause_resource_all ? omp_pause_resource_all(omp_pause_soft) : 0)
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
    int fnn_openmp_threads() nogil
    unsigned fnn_own_fp_control() nogil
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
    return ISA_LEVELS[fnn_load_int(&current_isa)]


def set_isa(name):
    """Use the micro-kernels of another level from the next call on, in all threads. For tests and measurements."""
    cdef int level
    cdef const fnn_ukernels *chosen = fnn_ukernels_baseline
    if name not in ISA_LEVELS:
        raise ValueError(f"FASTNN_ISA: unknown instruction set {name!r}, expected one of {', '.join(ISA_LEVELS)}")
    if name not in supported_isas():
        raise ValueError(f"FASTNN_ISA: this machine cannot run {name!r}, only {', '.join(supported_isas())}")
    level = ISA_LEVELS.index(name)
    if level == 2:
        chosen = fnn_ukernels_avx512
    elif level == 1:
        chosen = fnn_ukernels_avx2
    fnn_store_int(&current_isa, level)
    fnn_store_pointer(<const void **>&tables, chosen)


*_, best_isa = supported_isas()
set_isa(os.environ.get("FASTNN_ISA") or best_isa)

# ---- threads ----

# What is not constant among these variables is written by some threads while others read it, in `fnn_load` and
# `fnn_store`: a call sees the value of before or after, and its results do not depend on which.

cdef int num_threads = 1
# What OpenMP would take for a region of its own if nobody has called omp_set_num_threads, which threadpoolctl does.
cdef int openmp_default = fnn_openmp_threads()

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

cdef int last_team = 1                 # threads of the latest call that took several; for tests
cdef int pool_started = False          # OpenMP has worker threads, or is about to
cdef int pool_lost = False             # they stayed behind in the parent process


cdef double seconds_of(double flops, double nbytes) noexcept nogil:
    """On one thread."""
    return max(flops / FLOPS_PER_SECOND[fnn_load_int(&current_isa)],
               nbytes / (CACHED_BYTES_PER_SECOND if nbytes <= fnn_load_size(&last_cache_bytes) else BYTES_PER_SECOND))


cdef int most_threads() noexcept nogil:
    """How many a call from this thread may take: not more than OpenMP's own number for the calling thread, where
    somebody has set that."""
    cdef int most = fnn_load_int(&num_threads), own
    if most > 1:
        own = fnn_openmp_threads()
        if own != openmp_default:
            most = min(most, own)
    return most


cdef int threads_for(double flops, double nbytes) noexcept nogil:
    return 1 if fnn_load_int(&num_threads) == 1 else threads_for_seconds(seconds_of(flops, nbytes))


cdef int threads_for_seconds(double seconds) noexcept nogil:
    cdef double now, least = fnn_load_double(&SECONDS_PER_THREAD)
    cdef int threads
    cdef bint awake
    if seconds < 2 * least:
        return 1
    threads = most_threads()
    if least > 0:
        now = fnn_now()
        awake = now < fnn_load_double(&idle_from) + WAITING
        fnn_store_double(&idle_from, now + seconds)
        if not awake and seconds < WAKING:
            return 1
        threads = <int>min(<double>threads, seconds / least)
    return team_of(threads)


cdef int team_of(int threads) noexcept nogil:
    """So many threads, which exist from now on."""
    if threads > 1:
        fnn_store_int(&pool_started, True)
        fnn_store_int(&last_team, threads)
    return threads


cdef int threads_for_steps(Py_ssize_t steps, double flops, double nbytes) noexcept nogil:
    cdef double seconds = seconds_of(flops, nbytes)
    cdef bint any_size = fnn_load_double(&SECONDS_PER_THREAD) == 0
    cdef int threads
    if fnn_load_int(&num_threads) == 1 or (not any_size and seconds < 2 * SECONDS_PER_STEP):
        return 1
    threads = threads_for_seconds(steps * seconds)
    return threads if any_size else <int>min(<double>threads, seconds / SECONDS_PER_STEP)


def get_num_threads():
    """The largest number of threads a kernel may use."""
    return fnn_load_int(&num_threads)


def set_num_threads(int n):
    """Let each call use up to n threads, from whatever Python thread it comes: one setting for the whole process. Where
    a thread has called omp_set_num_threads, as threadpoolctl does, that number limits its calls too.
    Without OpenMP, and in the fork of a process that used it, kernels stay serial."""
    if n < 1:
        raise ValueError(f"set_num_threads: n must be at least 1, got {n}")
    fnn_store_int(&num_threads, n if FNN_OPENMP and not fnn_load_int(&pool_lost) else 1)


def set_seconds_per_thread(double seconds):
    """Least work, in estimated seconds, that is worth a thread; returns the value before. Tests set 0, which makes
    every call parallel however small."""
    before = fnn_load_double(&SECONDS_PER_THREAD)
    fnn_store_double(&SECONDS_PER_THREAD, seconds)
    return before


def _before_fork():
    """End the worker threads of the thread that forks: its next parallel region makes new ones. They would not survive
    in the child, where whoever shares libgomp with fastnn would wait for them for ever in its next parallel region, and
    so would the end of the thread."""
    if not fnn_load_int(&pool_lost):
        fnn_end_threads()
    kept_lock.acquire()  # in the child nobody could let go of what another thread held


def _after_fork():
    kept_lock.release()


def _after_fork_in_child():
    """Worker threads may be lost all the same if the process forks by other means than Python's."""
    fnn_store_int(&pool_lost, fnn_load_int(&pool_started))
    if fnn_load_int(&pool_lost):
        set_num_threads(1)
    _after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child)


def floating_point_states(int threads=0):
    """How threads compute: rounding, flushing to zero and traps, as the control bits of x86's MXCSR and above them
    those of the x87 unit (elsewhere of FPCR). A list of the calling thread's and of so many less one that OpenMP keeps
    for its calls; 0: of as many as the latest call took, if one took several since this was asked. For tests."""
    cdef int i
    if threads < 1:
        threads = fnn_load_int(&last_team)
    threads = measured_threads(min(threads, 256))
    fnn_store_int(&last_team, 1)
    cdef unsigned[256] controls
    cdef unsigned[256] x87
    with nogil:
        for i in prange(threads, num_threads=threads, schedule="static", chunksize=1):
            controls[i], x87[i] = fnn_own_fp_control(), fnn_x87_control()
    controls[0], x87[0] = fnn_fp_control(), fnn_x87_control()
    return [<Py_ssize_t>x87[i] << 32 | controls[i] for i in range(threads)]


# ---- caches ----

cdef Py_ssize_t cache_bytes = min(max(fnn_cache_bytes(2), <Py_ssize_t>1 << 18), <Py_ssize_t>1 << 21)
cdef Py_ssize_t last_cache_bytes = min(max(fnn_cache_bytes(3), <Py_ssize_t>1 << 21), <Py_ssize_t>1 << 26)


def set_last_cache_bytes(Py_ssize_t nbytes):
    """Results of calls that move more bytes go past the caches; returns the figure before. Tests set 0."""
    before = fnn_load_size(&last_cache_bytes)
    fnn_store_size(&last_cache_bytes, nbytes)
    return before


# ---- memory of results and scratch ----

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


cdef Py_ssize_t scratch_now = 0, scratch_most = 0     # bytes


cdef class Memory:
    def __dealloc__(self):
        if self.test:
            fnn_test_free(self.block, self.test == 2)
        elif KEEP_LEAST <= self.nbytes <= keep_most:
            keep(self.block, self.nbytes)
        else:
            fnn_free(self.block)


cdef int obtain(Memory m, Py_ssize_t nbytes, Py_ssize_t alignment, str purpose) except -1:
    """Give m a block of at least nbytes. alignment: what its users rely on, at most 64."""
    m.nbytes = nbytes
    if fnn_test.in_use:
        m.test = 2 if fnn_test.side else 1
        m.block = fnn_test_allocate(nbytes, alignment)
    else:
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
    return 0


cdef class Scratch(Memory):
    def __dealloc__(self):
        fnn_count(&scratch_now, &scratch_most, -self.used)


cdef Scratch scratch(Py_ssize_t nbytes):
    cdef Scratch s = Scratch.__new__(Scratch)
    obtain(s, nbytes, 64, "scratch memory")
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
    obtain(m, nbytes, 1, "results")        # as `out` may be, aligned to its elements
    x = cnp.PyArray_SimpleNewFromData(ndim, dims, dtype, m.block)
    cnp.set_array_base(x, m)
    return x


def scratch_peak():
    """The most bytes of scratch memory, prepared filters included, that were in use at a time since the last call of
    this function. For tests, in one Python thread."""
    peak = fnn_load_size(&scratch_most)
    fnn_store_size(&scratch_most, fnn_load_size(&scratch_now))
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


# ---- memory for tests ----

# NumPy's arrays, plain and between guard pages; the handlers' context says which.
cdef PyDataMem_Handler[2] test_handlers
cdef list test_capsules = []
cdef int guarded
for guarded in range(2):
    strcpy(test_handlers[guarded].name, "fastnn_test")
    test_handlers[guarded].version = 1
    test_handlers[guarded].allocator.ctx = &test_handlers[guarded] if guarded else NULL
    test_handlers[guarded].allocator.malloc = fnn_numpy_malloc
    test_handlers[guarded].allocator.calloc = fnn_numpy_calloc
    test_handlers[guarded].allocator.realloc = fnn_numpy_realloc
    test_handlers[guarded].allocator.free = fnn_numpy_free
    test_capsules.append(PyCapsule_New(&test_handlers[guarded], "mem_handler", NULL))


class _TestMemory:
    """Context in which arrays, results and scratch memory are those of csrc/test_memory.h, and no freed block is kept.

    The state is the process's, NumPy's arrays are those of this thread: for tests, in one Python thread, except that
    several may poison at once. An inner context adds to what an outer one does. A block outlives its context.
    """

    poisons = False

    def __init__(self, **settings):
        self.settings = settings

    def __enter__(self):
        global fnn_test
        self.before = fnn_test
        fnn_test = {**self.before, **self.settings, **self.counts(1)}
        self.handler = PyDataMem_SetHandler(test_capsules[fnn_test.side != 0])
        return self

    def __exit__(self, *exc):
        global fnn_test
        self.after = fnn_test
        fnn_test = {**self.before, **self.counts(-1)}
        PyDataMem_SetHandler(self.handler)

    def counts(self, change):
        """How many contexts are entered, and how many that poison, with one more or fewer."""
        return {"in_use": fnn_test.in_use + change, "poison": fnn_test.poison + change * self.poisons}


class poisoned_memory(_TestMemory):
    """Fresh memory holds NaN, so that a result that was never written, or that depends on what memory held before,
    shows."""

    poisons = True


class guarded_memory(_TestMemory):
    """Each block has pages of its own between pages that nobody may touch: it ends where they begin, with side="after",
    or begins where they end, with side="before". To touch those kills the process; what is written on the block's
    other side, or between its end and the next multiple of 64 bytes in scratch memory, is found when it is freed, and
    ends the process as well."""

    def __init__(self, side):
        if side not in ("before", "after"):
            raise ValueError(f"guarded_memory: side is {side!r}, expected 'before' or 'after'")
        if not FNN_GUARDS:
            raise NotImplementedError("guarded_memory: this system has no mmap")
        super().__init__(side=1 if side == "after" else -1)


class failing_memory(_TestMemory):
    """The k-th allocation from here on fails, and no other; with k = 0 none."""

    def __init__(self, k):
        super().__init__(failing=k, allocations=0)

    @property
    def allocations(self):
        """How many were tried within the context."""
        return self.after["allocations"]


def test_blocks():
    """Blocks that were made in these contexts and are not freed yet."""
    return fnn_test_blocks


# ---- the limits of the machine, for fastnn bench ----

cdef int measured_threads(int threads) noexcept:
    """So many threads, as threads_for would have chosen them."""
    return 1 if fnn_load_int(&pool_lost) else team_of(threads)


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
