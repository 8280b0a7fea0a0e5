"""Matrix products: cutting into register tiles, packing, threads.

After Goto & van de Geijn, "Anatomy of high-performance matrix multiplication" (2008): a block of A that stays in the
second-level cache meets panels of B that stay in the first. Sums run over k in blocks whose size depends on the
problem alone, so the result is the same for any number of threads.
"""

from cython.parallel cimport prange, threadid

from fastnn.kernels.ukernels cimport FNN_ACCUMULATE, FNN_RELU, fnn_feed, fnn_gemm_ukernels, fnn_run

cdef enum:
    K_BLOCK = 256         # gemm_nn: steps per block; a panel of B is 32 KiB at AVX-512
    M_TILES = 36          # gemm_nn: register tiles of A per task, about 500 KiB at AVX-512
    PANELS = 8            # gemm_nn: most panels of B per task
    UNPACKED_ROWS = 28    # gemm_nn: a row-major B is read in place for so few rows of A, or
    UNPACKED_BYTES = 65536  # if it is so small: packing it would cost more than it saves
    TRANSPOSED_STEPS = 8  # gemm_nn: of A^T, packed at a time for several tiles
    PACK_TILES = 8        # gemm_nn: tiles of A that a task packs
    NT_K_BLOCK = 1024     # gemm_nt: steps per block; one register tile's rows of A stay in the first-level cache
    NT_ROWS = 48          # gemm_nt: rows and columns per task
    NT_COLUMNS = 64


cdef void gemm_nt(const fnn_gemm_ukernels *uk, Py_ssize_t m, Py_ssize_t n, Py_ssize_t k, const void *a,
                  Py_ssize_t lda, const void *b, Py_ssize_t ldb, void *c, Py_ssize_t ldc, const void *bias, int flags,
                  int threads) noexcept nogil:
    cdef Py_ssize_t row_tasks = (m + NT_ROWS - 1) // NT_ROWS, column_tasks = (n + NT_COLUMNS - 1) // NT_COLUMNS, t
    if threads == 1 or row_tasks * column_tasks == 1:
        for t in range(row_tasks * column_tasks):
            nt_task(uk, t // column_tasks, t % column_tasks, m, n, k, <const char *>a, lda, <const char *>b, ldb,
                    <char *>c, ldc, <const char *>bias, flags)
        return
    for t in prange(row_tasks * column_tasks, num_threads=threads, schedule="static"):
        nt_task(uk, t // column_tasks, t % column_tasks, m, n, k, <const char *>a, lda, <const char *>b, ldb,
                <char *>c, ldc, <const char *>bias, flags)


cdef void nt_task(const fnn_gemm_ukernels *uk, Py_ssize_t row_task, Py_ssize_t column_task, Py_ssize_t m, Py_ssize_t n,
                  Py_ssize_t k, const char *a, Py_ssize_t lda, const char *b, Py_ssize_t ldb, char *c, Py_ssize_t ldc,
                  const char *bias, int flags) noexcept nogil:
    cdef Py_ssize_t i = row_task * NT_ROWS, j = column_task * NT_COLUMNS, es = uk.itemsize, p = 0, kb
    cdef Py_ssize_t mb = min(<Py_ssize_t>NT_ROWS, m - i), nb = min(<Py_ssize_t>NT_COLUMNS, n - j)
    cdef const char *no_bias = NULL
    cdef bint last
    while True:
        kb = min(<Py_ssize_t>NT_K_BLOCK, k - p)
        last = p + kb == k
        uk.dot(mb, nb, kb, a + (i * lda + p) * es, lda, b + (j * ldb + p) * es, ldb, c + (i * ldc + j) * es, ldc,
               bias + j * es if bias != NULL and last else no_bias,
               (flags & FNN_ACCUMULATE if p == 0 else FNN_ACCUMULATE) | (flags & FNN_RELU if last else 0))
        p += kb
        if last:
            return


cdef void pack_tiles(const fnn_gemm_ukernels *uk, Py_ssize_t t0, Py_ssize_t t1, Py_ssize_t m, Py_ssize_t k,
                     const char *a, Py_ssize_t rs, const Py_ssize_t *off, char *packed) noexcept nogil:
    cdef Py_ssize_t t, first, row, rows, tiles = tile_count(uk, m), es = uk.itemsize, p = 0
    # of a transposed A, tiles next to each other share cache lines, which are gone after a few hundred steps
    cdef Py_ssize_t steps = k if rs != 1 else TRANSPOSED_STEPS
    first = tile_row(t0, tiles, m)
    while p < k:
        for t in range(t0, t1):
            row = tile_row(t, tiles, m)
            rows = tile_row(t + 1, tiles, m) - row
            uk.pack_a(rows, min(steps, k - p), a + (row - first) * rs * es, rs, off + p,
                      packed + ((row - first) * k + p * rows) * es)
        p += steps


cdef void multiply_panel(const fnn_gemm_ukernels *uk, Py_ssize_t t0, Py_ssize_t t1, Py_ssize_t m, Py_ssize_t k,
                         const char *packed, char *b, Py_ssize_t ldb, char *c, Py_ssize_t ldc, Py_ssize_t n,
                         const char *bias, int flags, const fnn_feed *feed) noexcept nogil:
    cdef Py_ssize_t t, row, rows, tiles = tile_count(uk, m), es = uk.itemsize
    cdef fnn_feed part
    if feed != NULL:
        part = feed[0]
    for t in range(t0, t1):
        row = tile_row(t, tiles, m)
        rows = tile_row(t + 1, tiles, m) - row
        part.first = k * (t - t0) // (t1 - t0)
        part.last = k * (t - t0 + 1) // (t1 - t0)
        uk.tile[rows](k, packed + row * k * es, b, ldb, c + row * ldc * es, ldc, n,
                      bias + row * es if bias != NULL else NULL, flags, &part if feed != NULL else NULL)
        part.src = NULL                # the first tile has packed it


cdef Py_ssize_t panel_bytes(const fnn_gemm_ukernels *uk) noexcept nogil:
    return (K_BLOCK * uk.nr + uk.vl) * uk.itemsize


cdef Py_ssize_t gemm_nn_scratch(const fnn_gemm_ukernels *uk, Py_ssize_t m, Py_ssize_t k, int threads) noexcept nogil:
    cdef Py_ssize_t packed = m * min(k, <Py_ssize_t>K_BLOCK) * uk.itemsize + 64
    return packed + 2 * K_BLOCK * <Py_ssize_t>sizeof(Py_ssize_t) + threads * panel_bytes(uk)


cdef void gemm_nn(const fnn_gemm_ukernels *uk, Py_ssize_t m, Py_ssize_t n, Py_ssize_t k, const void *a,
                  Py_ssize_t a_rs, Py_ssize_t a_cs, const void *b, Py_ssize_t b_rs, Py_ssize_t b_cs, void *c,
                  Py_ssize_t ldc, int flags, int threads, char *scratch) noexcept nogil:
    cdef Py_ssize_t es = uk.itemsize, tiles = tile_count(uk, m), p = 0, kb, t, i
    cdef Py_ssize_t row_tasks = (tiles + M_TILES - 1) // M_TILES
    cdef Py_ssize_t panels = (n + uk.nr - 1) // uk.nr
    # few enough panels a task that every thread gets several
    cdef Py_ssize_t group = max(<Py_ssize_t>1, min(<Py_ssize_t>PANELS, panels * row_tasks // (4 * threads)))
    cdef Py_ssize_t column_tasks = (panels + group - 1) // group
    cdef bint in_place = b_cs == 1 and (m <= UNPACKED_ROWS or k * n * es <= UNPACKED_BYTES)
    cdef Py_ssize_t *a_off = <Py_ssize_t *>scratch
    cdef Py_ssize_t *b_off = a_off + K_BLOCK
    cdef char *b_packed = <char *>(b_off + K_BLOCK)
    cdef char *a_packed = b_packed + threads * panel_bytes(uk)
    cdef int relu = flags & FNN_RELU, f
    for i in range(min(k, <Py_ssize_t>K_BLOCK)):
        a_off[i] = i * a_cs
        b_off[i] = i * b_rs
    while True:
        kb = min(<Py_ssize_t>K_BLOCK, k - p)
        f = (flags & FNN_ACCUMULATE if p == 0 else FNN_ACCUMULATE) | (relu if p + kb == k else 0)
        if threads == 1:
            pack_tiles(uk, 0, tiles, m, kb, <const char *>a + p * a_cs * es, a_rs, a_off, a_packed)
            for t in range(row_tasks * column_tasks):
                nn_task(uk, t // column_tasks, t % column_tasks, group, m, n, kb, a_packed,
                        <const char *>b + p * b_rs * es, b_rs, b_cs, b_off, in_place, <char *>c, ldc, f, b_packed)
        else:
            for t in prange(0, tiles, PACK_TILES, num_threads=threads, schedule="static"):
                pack_tiles(uk, t, min(t + PACK_TILES, tiles), m, kb,
                           <const char *>a + (tile_row(t, tiles, m) * a_rs + p * a_cs) * es, a_rs, a_off,
                           a_packed + tile_row(t, tiles, m) * kb * es)
            for t in prange(row_tasks * column_tasks, num_threads=threads, schedule="dynamic"):
                nn_task(uk, t // column_tasks, t % column_tasks, group, m, n, kb, a_packed,
                        <const char *>b + p * b_rs * es, b_rs, b_cs, b_off, in_place, <char *>c, ldc, f,
                        b_packed + threadid() * panel_bytes(uk))
        p += kb
        if p >= k:
            return


cdef void nn_task(const fnn_gemm_ukernels *uk, Py_ssize_t row_task, Py_ssize_t column_task, Py_ssize_t group,
                  Py_ssize_t m, Py_ssize_t n, Py_ssize_t k, const char *a_packed, const char *b, Py_ssize_t b_rs,
                  Py_ssize_t b_cs, const Py_ssize_t *b_off, bint in_place, char *c, Py_ssize_t ldc, int flags,
                  char *b_packed) noexcept nogil:
    """One group of panels of B times one block of tiles of A, for one block of k."""
    cdef Py_ssize_t nr = uk.nr, es = uk.itemsize, tiles = tile_count(uk, m)
    cdef Py_ssize_t t0 = row_task * M_TILES, t1 = min(tiles, t0 + M_TILES), j = column_task * group * nr
    cdef Py_ssize_t end = min(n, j + group * nr), width, ldb
    cdef char *panel
    cdef fnn_run run
    cdef fnn_feed feed
    cdef const fnn_feed *given
    while j < end:
        width = min(nr, end - j)
        panel = b_packed
        ldb = nr
        given = NULL
        if width == nr and in_place:
            panel = <char *>b + j * es    # no feed: it is only read
            ldb = b_rs
        elif b_cs == 1:
            feed.src = b
            feed.nruns, feed.runs = 1, &run
            run.start, run.length = j, width
            feed.next = b + (j + nr) * es if j + 2 * nr <= end else NULL
            feed.off = b_off
            given = &feed
        else:                      # B's columns are contiguous: they are the rows that pack_a transposes
            uk.pack_a(width, k, b + j * b_cs * es, b_cs, b_off, b_packed)
            ldb = width
        multiply_panel(uk, t0, t1, m, k, a_packed, panel, ldb, c + j * es, ldc, width, NULL, flags, given)
        j += width
