"""Recurrent networks over time.

A thread owns blocks of hidden units, all gates of them, for the whole sequence: the input's part of the gates is one
product for many steps, then every step adds the part of the state before, makes the new state, and hands it to all
threads, which wait for each other once a step (twice in cells of two products, one after the other).

Rows are samples at a time. Sequences of different lengths lie as in torch's PackedSequence: the samples sorted from
longest to shortest, and of each time only those that are not over, so a step has a prefix of the samples.
"""

cimport numpy as cnp
from cython.parallel cimport parallel, threadid
from libc.string cimport memcpy, memset

from fastnn.kernels.gemm cimport multiply_panel, pack_tiles, tile_count, tile_row
from fastnn.kernels.runtime cimport (
    Scratch, aligned, ceil_div, data_or_null, scratch, table_of, threads_for_steps,
)
from fastnn.kernels.ukernels cimport *

cnp.import_array()

cdef extern from *:
    """
    #ifdef _OPENMP
    #include <omp.h>
    #define fnn_team() omp_get_num_threads()
    #else
    #define fnn_team() 1
    #endif
    """
    int fnn_team() nogil

cdef extern from "barrier.h" nogil:
    ctypedef struct fnn_barrier:
        pass
    void fnn_wait(fnn_barrier *b, int threads)

cdef enum:
    K_BLOCK = 128      # steps of a product at a time, to keep the panel in the first-level cache
    INPUT_ROWS = 256   # rows of x per product with w_ih: enough for its full speed, and the gates stay in cache

# Operations of one unit's gates and states: four sigmoids or tanhs more or less, and the sums and products.
cdef double CELL_FLOPS = 150

CELLS = {"rnn_tanh": FNN_RNN_TANH, "rnn_relu": FNN_RNN_RELU, "lstm": FNN_LSTM, "gru_torch": FNN_GRU,
         "gru_paper": FNN_GRU_PAPER}
"""A cell's name, and its option where it has one."""


# ---- products ----

cdef struct Product:
    const fnn_gemm_ukernels *gemm
    const fnn_recurrent_ukernels *uk
    const char *w              # (gates * height, k)
    Py_ssize_t gates, height, k
    Py_ssize_t[4] column       # the result of gate g goes to columns column[g] * height and so on
    bint[4] first              # and nothing is there yet
    char *panels               # by blocks of nr rows of w, and by gates: (k, nr); NULL: w as it is
    # So many panels side by side: one row of a reads them as one stream, which is faster. Else each by itself, as the
    # first-level cache can hold no other form of it.
    Py_ssize_t group
    const Py_ssize_t *rising   # 0, 1, 2, ...: steps of a packed row
    const Py_ssize_t *rows     # 0, nr, 2 nr, ...: rows of a panel


cdef Py_ssize_t blocks_of(const fnn_gemm_ukernels *gemm, Py_ssize_t height) noexcept nogil:
    return ceil_div(height, gemm.nr)


cdef Py_ssize_t width_of(const Product *q, Py_ssize_t block) noexcept nogil:
    return min(<Py_ssize_t>q.gemm.nr, q.height - block * q.gemm.nr)


cdef Py_ssize_t panel_bytes(const Product *q) noexcept nogil:
    """Of all panels."""
    return aligned(ceil_div(blocks_of(q.gemm, q.height) * q.gates, q.group) * q.group * q.k * q.gemm.nr
                   * q.gemm.itemsize)


cdef Py_ssize_t group_for(Py_ssize_t gates, Py_ssize_t n) noexcept nogil:
    return 1 if n > 1 else gates if gates > 1 else 4


cdef char *panel_at(const Product *q, Py_ssize_t i, Py_ssize_t row) noexcept nogil:
    """A row of panel i, which is gate i % gates of block i // gates."""
    return q.panels + ((i // q.group * q.k + row) * q.group + i % q.group) * q.gemm.nr * q.gemm.itemsize


cdef void clear_columns(const Product *q, Py_ssize_t i) noexcept nogil:
    """Of a panel that has less than nr: what memory held before could be numbers that are slow to multiply."""
    cdef Py_ssize_t p
    if width_of(q, i // q.gates) < q.gemm.nr:
        for p in range(q.k):
            memset(panel_at(q, i, p), 0, q.gemm.nr * q.gemm.itemsize)


cdef void pack_weights(const Product *q, Py_ssize_t b0, Py_ssize_t b1) noexcept nogil:
    cdef Py_ssize_t es = q.gemm.itemsize, nr = q.gemm.nr, k = q.k, i
    for i in range(b0 * q.gates, b1 * q.gates):
        clear_columns(q, i)
        q.gemm.transpose(width_of(q, i // q.gates), k, q.w + (i % q.gates * q.height + i // q.gates * nr) * k * es, k,
                         panel_at(q, i, 0), q.group * nr)


cdef void pack_transposed(const Product *q, Py_ssize_t b0, Py_ssize_t b1) noexcept nogil:
    """The same of w (k, height), of one gate."""
    cdef Py_ssize_t es = q.gemm.itemsize, nr = q.gemm.nr, i, p
    for i in range(b0, b1):
        clear_columns(q, i)
        for p in range(q.k):
            memcpy(panel_at(q, i, p), q.w + (p * q.height + i * nr) * es, width_of(q, i) * es)


cdef void multiply(const Product *q, Py_ssize_t b0, Py_ssize_t b1, Py_ssize_t n, const char *a, char *c,
                   Py_ssize_t ldc) noexcept nogil:
    """c (n, ldc) = or += a (n, k) times blocks [b0, b1) of the weights. a as `hand_over` leaves it."""
    cdef Py_ssize_t es = q.gemm.itemsize, nr = q.gemm.nr, gates = q.gates, k = q.k, i = b0 * gates, p, kb, j, at
    cdef Py_ssize_t end = b1 * gates, count
    cdef fnn_panel[4] panel
    cdef fnn_feed feed
    if q.panels == NULL:
        for i in range(b0 * gates, end):
            at = q.column[i % gates] * q.height + i // gates * nr
            j = i % gates * q.height + i // gates * nr
            if n == 1:
                q.uk.matvec(width_of(q, i // gates), k, q.w + j * k * es, a, c + at * es, not q.first[i % gates])
            else:
                q.gemm.dot(n, width_of(q, i // gates), k, a, k, q.w + j * k * es, k, c + at * es, ldc, NULL,
                           0 if q.first[i % gates] else FNN_ACCUMULATE)
    elif n == 1:
        while i < end:
            count = min(4 if q.group == 1 else q.group - i % q.group, end - i)
            p = 0
            while p < k:
                kb = min(<Py_ssize_t>K_BLOCK, k - p)
                for j in range(count):
                    at = q.column[(i + j) % gates] * q.height + (i + j) // gates * nr
                    panel[j] = fnn_panel(panel_at(q, i + j, p), c + at * es, width_of(q, (i + j) // gates),
                                         p > 0 or not q.first[(i + j) % gates])
                q.uk.row(<int>count, kb, a + p * es, panel, q.group * nr)
                p += kb
            i += count
    else:
        feed = fnn_feed(q.rows, NULL, 0, NULL, NULL, 0, 0)
        for i in range(b0 * gates, end):
            at = q.column[i % gates] * q.height + i // gates * nr
            p = 0
            while p < k:
                kb = min(<Py_ssize_t>K_BLOCK, k - p)
                feed.next = panel_at(q, i, p + kb)   # or the panel after it; there is no harm behind the last
                multiply_panel(q.gemm, 0, tile_count(q.gemm, n), n, kb, a + n * p * es, panel_at(q, i, p), nr,
                               c + at * es, ldc, width_of(q, i // gates), NULL,
                               FNN_ACCUMULATE if p or not q.first[i % gates] else 0, &feed)
                p += kb


cdef void hand_over(const Product *q, const char *src, Py_ssize_t pitch, Py_ssize_t first, Py_ssize_t last,
                    Py_ssize_t n, Py_ssize_t to, char *a) noexcept nogil:
    """Columns [first, last) of src (n, pitch) as columns to, to + 1, ... of the a that `multiply` takes: blocks of
    K_BLOCK columns, each in register tiles; dense for one row, or with weights as they are."""
    cdef Py_ssize_t es = q.gemm.itemsize, i, p, kb, count, row, rows, tiles = tile_count(q.gemm, n)
    if q.panels == NULL or n == 1:
        for i in range(n):
            memcpy(a + (i * q.k + to) * es, src + (i * pitch + first) * es, (last - first) * es)
        return
    while first < last:
        p = to // K_BLOCK * K_BLOCK
        kb = min(<Py_ssize_t>K_BLOCK, q.k - p)
        count = min(last - first, p + kb - to)
        for i in range(tiles):
            row = tile_row(i, tiles, n)
            rows = tile_row(i + 1, tiles, n) - row
            q.gemm.pack_a(rows, count, src + (row * pitch + first) * es, pitch, q.rising,
                          a + (n * p + row * kb + (to - p) * rows) * es)
        first += count
        to += count


cdef void hand_over_rows(const Product *q, const char *src, Py_ssize_t n, int thread, int threads,
                         char *a) noexcept nogil:
    """A thread's share of the register tiles of src (n, k)."""
    cdef Py_ssize_t es = q.gemm.itemsize, tiles = tile_count(q.gemm, n), t0 = thread * tiles // threads, p = 0, kb
    cdef Py_ssize_t t1 = (thread + 1) * tiles // threads, row = tile_row(t0, tiles, n)
    while p < q.k:
        kb = min(<Py_ssize_t>K_BLOCK, q.k - p)
        pack_tiles(q.gemm, t0, t1, n, kb, src + (row * q.k + p) * es, q.k, q.rising, a + (n * p + row * kb) * es)
        p += kb


# ---- times ----

cdef struct Times:
    Py_ssize_t steps, n
    const Py_ssize_t *offset   # (steps + 1,) the first row of every time; NULL: n rows each
    bint reverse               # the last time comes first


cdef Py_ssize_t row_of(const Times *s, Py_ssize_t step) noexcept nogil:
    cdef Py_ssize_t t = s.steps - 1 - step if s.reverse else step
    return t * s.n if s.offset == NULL else s.offset[t]


cdef Py_ssize_t count_of(const Times *s, Py_ssize_t step) noexcept nogil:
    cdef Py_ssize_t t = s.steps - 1 - step if s.reverse else step
    return s.n if s.offset == NULL else s.offset[t + 1] - s.offset[t]


cdef Py_ssize_t total_of(const Times *s) noexcept nogil:
    return s.steps * s.n if s.offset == NULL else s.offset[s.steps]


# ---- forward ----

cdef struct Net:
    const fnn_gemm_ukernels *gemm
    const fnn_recurrent_ukernels *uk
    int cell
    bint two                   # there is a second product: of r h, or
    bint projection            # of what becomes the state h
    Py_ssize_t n, h, p         # samples, hidden units, size of the state h
    Py_ssize_t columns         # blocks of h in a row of gates
    Times times
    Product input, state, second
    bint pack                  # the weights first
    const char *b_ih           # NULL: zero
    const char *b_hh
    const char *x
    char *hs                   # the states (N, P) and (N, H), in place
    char *cs
    char *gates                # of all times, or without keep of INPUT_ROWS rows
    char *y
    char *c_kept               # NULL: not wanted
    char *middle               # (rows, H): o tanh c before the projection, or r h; of all times, without keep of one
    bint keep
    char *packed_x
    char *packed_middle
    char *packed_h[2]
    fnn_barrier barrier


cdef int gates_of(int cell) noexcept nogil:
    """Blocks of rows in the weights."""
    return 4 if cell == FNN_LSTM else 3 if cell == FNN_GRU or cell == FNN_GRU_PAPER else 1


def columns(int cell):
    """Blocks of H in a row of gates: a GRU's last is w_hn h."""
    return 4 if cell == FNN_GRU else gates_of(cell)


cdef int setup(Net *r, int cell, cnp.ndarray w_ih, cnp.ndarray w_hh, cnp.ndarray b_ih, cnp.ndarray b_hh,
               cnp.ndarray w_hr, Py_ssize_t n, Py_ssize_t rows) except -1:
    """The part of a Net that the weights, the number of samples and that of all rows of x decide."""
    cdef const fnn_ukernels *uk = table_of(w_ih)
    cdef int g, gates = gates_of(cell)
    memset(r, 0, sizeof(Net))
    r.gemm, r.uk, r.cell = uk.gemm, uk.recurrent, cell
    r.h, r.p = w_ih.shape[0] // gates, w_hh.shape[1]
    r.columns = columns(cell)
    r.b_ih, r.b_hh = data_or_null(b_ih), data_or_null(b_hh)
    r.projection = w_hr is not None
    r.two = r.projection or cell == FNN_GRU_PAPER
    r.input.w, r.input.gates, r.input.height, r.input.k = data_or_null(w_ih), gates, r.h, w_ih.shape[1]
    r.state.w, r.state.gates, r.state.height, r.state.k = data_or_null(w_hh), gates, r.h, r.p
    for g in range(gates):
        r.input.column[g] = r.state.column[g] = g
        r.input.first[g] = True
    if cell == FNN_GRU:
        r.state.column[2] = 3
        r.state.first[2] = True
    elif cell == FNN_GRU_PAPER:
        r.state.gates = 2
        r.second.w = r.state.w + 2 * r.h * r.p * r.gemm.itemsize
        r.second.column[0] = 2
        r.second.gates, r.second.height, r.second.k = 1, r.h, r.h
    if w_hr is not None:
        r.second.w = data_or_null(w_hr)
        r.second.first[0] = True
        r.second.gates, r.second.height, r.second.k = 1, r.p, r.h
    r.input.gemm = r.state.gemm = r.second.gemm = r.gemm
    r.input.uk = r.state.uk = r.second.uk = r.uk
    r.n = n
    r.input.group, r.state.group = group_for(r.input.gates, rows), group_for(r.state.gates, n)
    r.second.group = group_for(1, n)
    return 0


cdef void fill_tables(Py_ssize_t *rising, Py_ssize_t longest, Py_ssize_t nr) noexcept nogil:
    """A product's `rising`, and K_BLOCK `rows` behind it."""
    cdef Py_ssize_t i
    for i in range(longest):
        rising[i] = i
    for i in range(K_BLOCK):
        rising[longest + i] = i * nr


cdef Py_ssize_t longest_of(const Net *r) noexcept nogil:
    return max(max(r.input.k, r.h), r.p)


cdef Py_ssize_t weights_bytes(const Net *r) noexcept nogil:
    """Of the packed weights, and of the tables that packing reads."""
    return (aligned((longest_of(r) + K_BLOCK) * sizeof(Py_ssize_t)) + panel_bytes(&r.input) + panel_bytes(&r.state)
            + (panel_bytes(&r.second) if r.two else 0))


cdef void place_weights(Net *r, char *at) noexcept nogil:
    """Gives them their places in so many bytes."""
    cdef Product *products[3]
    cdef Py_ssize_t *rising = <Py_ssize_t *>at
    cdef Py_ssize_t longest = longest_of(r), i
    fill_tables(rising, longest, r.gemm.nr)
    at += aligned((longest + K_BLOCK) * sizeof(Py_ssize_t))
    products[:] = [&r.input, &r.state, &r.second]
    for i in range(3 if r.two else 2):
        products[i].rising, products[i].rows, products[i].panels = rising, rising + longest, at
        at += panel_bytes(products[i])


cdef Py_ssize_t work_bytes(const Net *r) noexcept nogil:
    """Of what a run needs beside its arguments."""
    cdef Py_ssize_t es = r.gemm.itemsize, rows = min(total_of(&r.times), max(<Py_ssize_t>INPUT_ROWS, r.n))
    return (aligned(rows * r.input.k * es) + 2 * aligned(r.n * r.p * es)
            + (0 if r.keep else aligned(rows * r.columns * r.h * es))
            + (2 if r.two else 0) * aligned(r.n * r.h * es))


cdef void place_work(Net *r, char *at) noexcept nogil:
    cdef Py_ssize_t es = r.gemm.itemsize, rows = min(total_of(&r.times), max(<Py_ssize_t>INPUT_ROWS, r.n)), i
    r.packed_x = at
    at += aligned(rows * r.input.k * es)
    for i in range(2):
        r.packed_h[i] = at
        at += aligned(r.n * r.p * es)
    if not r.keep:
        r.gates = at
        at += aligned(rows * r.columns * r.h * es)
    if r.two:
        r.packed_middle = at
        at += aligned(r.n * r.h * es)
        if r.middle == NULL:
            r.middle = at


cdef void forward_share(Net *r, int thread, int threads) noexcept nogil:
    """What a thread does of a sequence."""
    cdef Py_ssize_t es = r.gemm.itemsize, nr = r.gemm.nr, k = r.input.k, step = 0, end, rows, first, n
    cdef Py_ssize_t blocks = blocks_of(r.gemm, r.h), b0 = thread * blocks // threads
    cdef Py_ssize_t b1 = (thread + 1) * blocks // threads
    cdef Py_ssize_t state_blocks = blocks_of(r.gemm, r.p), s0 = thread * state_blocks // threads
    cdef Py_ssize_t s1 = (thread + 1) * state_blocks // threads
    cdef const char *x
    cdef char *gates
    if r.pack:
        pack_weights(&r.input, b0, b1)
        pack_weights(&r.state, b0, b1)
        if r.two:
            pack_weights(&r.second, s0, s1)
    hand_over(&r.state, r.hs, r.p, s0 * nr, min(s1 * nr, r.p), count_of(&r.times, 0), s0 * nr, r.packed_h[0])
    while step < r.times.steps:
        end, rows = step, 0
        while end < r.times.steps and (end == step or rows + count_of(&r.times, end) <= INPUT_ROWS):
            rows += count_of(&r.times, end)
            end += 1
        first = min(row_of(&r.times, step), row_of(&r.times, end - 1))
        x = r.x + first * k * es
        gates = r.gates + first * r.columns * r.h * es if r.keep else r.gates
        if r.input.panels != NULL and rows > 1:
            hand_over_rows(&r.input, x, rows, thread, threads, r.packed_x)
            x = r.packed_x
        fnn_wait(&r.barrier, threads)
        multiply(&r.input, b0, b1, rows, x, gates, r.columns * r.h)
        while step < end:
            n = row_of(&r.times, step) - first
            forward_step(r, step, gates + n * r.columns * r.h * es, b0, b1, s0, s1, threads)
            step += 1
            if step < r.times.steps:
                hand_over(&r.state, r.hs, r.p, s0 * nr, min(s1 * nr, r.p), count_of(&r.times, step), s0 * nr,
                          r.packed_h[step & 1])
                fnn_wait(&r.barrier, threads)


cdef void forward_step(Net *r, Py_ssize_t step, char *gates, Py_ssize_t b0, Py_ssize_t b1, Py_ssize_t s0,
                       Py_ssize_t s1, int threads) noexcept nogil:
    """A step of blocks [b0, b1) of the hidden units, and of blocks [s0, s1) of the state."""
    cdef Py_ssize_t es = r.gemm.itemsize, nr = r.gemm.nr, n = count_of(&r.times, step), row = row_of(&r.times, step)
    cdef Py_ssize_t ld = r.columns * r.h, first, last, width, i
    cdef char *middle = r.middle + row * r.h * es if r.two and r.keep else r.middle
    # the cell's arithmetic passes while the next block's weights arrive; and gates of many samples are still in cache
    cdef Py_ssize_t each = max(4 // r.state.gates, 1) if n == 1 else 1
    first = b0
    while first < b1:
        last = min(first + each, b1)
        multiply(&r.state, first, last, n, r.packed_h[step & 1], gates, ld)
        apply_cell(r, 0, n, row, gates, middle, first, last)
        first = last
    if not r.two:
        return
    hand_over(&r.second, middle, r.h, b0 * nr, min(b1 * nr, r.h), n, b0 * nr, r.packed_middle)
    fnn_wait(&r.barrier, threads)
    if not r.projection:
        multiply(&r.second, b0, b1, n, r.packed_middle, gates, ld)
        apply_cell(r, 1, n, row, gates, middle, b0, b1)
        return
    multiply(&r.second, s0, s1, n, r.packed_middle, r.y + row * r.p * es, r.p)
    first = s0 * nr
    last = min(s1 * nr, r.p)
    width = last - first
    for i in range(n):
        memcpy(r.hs + (i * r.p + first) * es, r.y + ((row + i) * r.p + first) * es, width * es)


cdef char *shifted(char *p, Py_ssize_t nbytes) noexcept nogil:
    """NULL stays NULL."""
    return NULL if p == NULL else p + nbytes


cdef void apply_cell(const Net *r, int part, Py_ssize_t n, Py_ssize_t row, char *gates, char *middle, Py_ssize_t b0,
                     Py_ssize_t b1) noexcept nogil:
    cdef Py_ssize_t es = r.gemm.itemsize, j = b0 * r.gemm.nr
    cdef fnn_cell s
    s.n, s.units, s.hidden, s.keep = n, min(b1 * r.gemm.nr, r.h) - j, r.h, r.keep
    s.gates = gates + j * es
    s.b_ih = shifted(<char *>r.b_ih, j * es)
    s.b_hh = shifted(<char *>r.b_hh, j * es)
    s.c = shifted(r.cs, j * es)
    s.c_kept = shifted(r.c_kept, (row * r.h + j) * es)
    s.h = NULL if r.projection else r.hs + j * es
    s.y = middle + j * es if r.projection else r.y + (row * r.h + j) * es
    s.reset = shifted(middle, j * es)
    r.uk.forward[r.cell][part](&s)


cdef int threads_of_steps(const Net *r) noexcept:
    """A few rows wait for the weights to come from a cache: those of the input once in a block of steps."""
    cdef double n = <double>total_of(&r.times) / r.times.steps
    cdef double steps = max(1., min(<double>r.times.steps, INPUT_ROWS / n))
    cdef double weights = <double>r.state.gates * r.h * r.p + (<double>r.second.height * r.h if r.two else 0)
    cdef double inputs = <double>r.input.gates * r.h * r.input.k
    return threads_for_steps(r.times.steps, n * (2 * (weights + inputs) + CELL_FLOPS * r.h),
                             (weights + inputs / steps) * r.gemm.itemsize)


cdef Times times_of(Py_ssize_t steps, Py_ssize_t n, cnp.ndarray offset, bint reverse) noexcept:
    return Times(steps, n, <const Py_ssize_t *>data_or_null(offset), reverse)


def forward(int cell, cnp.ndarray x, cnp.ndarray w_ih, cnp.ndarray w_hh, cnp.ndarray b_ih, cnp.ndarray b_hh,
            cnp.ndarray w_hr, cnp.ndarray h, cnp.ndarray c, cnp.ndarray y, cnp.ndarray gates, cnp.ndarray c_kept,
            cnp.ndarray middle, Py_ssize_t steps, cnp.ndarray offset, bint reverse, bint pack):
    """y (R, P) from x (R, D), R rows: all samples of the first time, and so on; offset (steps + 1,): the first rows of
    all times, None if they have N each. h (N, P) and c (N, H, None but for an LSTM): the initial states, which become
    the last.

    gates (R, columns H), c_kept (R, H) and middle (R, H, what the second product is made of) keep what the backward
    pass needs; or None. pack: the weights first, which pays for itself in many rows.
    """
    cdef Net r
    cdef Scratch tmp
    cdef Py_ssize_t packed
    cdef int threads
    setup(&r, cell, w_ih, w_hh, b_ih, b_hh, w_hr, h.shape[0], x.shape[0])
    r.times = times_of(steps, r.n, offset, reverse)
    r.keep = gates is not None
    r.x, r.y, r.hs, r.cs = data_or_null(x), data_or_null(y), data_or_null(h), data_or_null(c)
    r.gates, r.c_kept, r.middle = data_or_null(gates), data_or_null(c_kept), data_or_null(middle)
    r.pack = pack
    packed = weights_bytes(&r) if r.pack else 0
    tmp = scratch(packed + work_bytes(&r))
    if r.pack:
        place_weights(&r, tmp.ptr)
    place_work(&r, tmp.ptr + packed)
    threads = threads_of_steps(&r)
    with nogil, parallel(num_threads=threads):
        forward_share(&r, threadid(), fnn_team())


# ---- one step after the other ----

cdef class Stream:
    """A cell with packed weights that keeps its states from step to step."""

    cdef Net r
    cdef Scratch memory
    cdef tuple biases
    cdef Py_ssize_t d
    cdef Stream below
    cdef object convert
    cdef readonly cnp.ndarray h, c, y

    def __init__(self, int cell, cnp.ndarray w_ih, cnp.ndarray w_hh, cnp.ndarray b_ih, cnp.ndarray b_hh,
                 cnp.ndarray w_hr, cnp.ndarray h, cnp.ndarray c, cnp.ndarray y, Stream below, convert):
        """h (N, P), c (N, H, None but for an LSTM): the states, in place. y (N, P) becomes each step's result. below:
        what x goes through first. convert: makes x the array that the first cell takes, where it is not."""
        cdef Py_ssize_t packed
        setup(&self.r, cell, w_ih, w_hh, b_ih, b_hh, w_hr, h.shape[0], h.shape[0])
        self.biases, self.h, self.c, self.y, self.below, self.convert = (b_ih, b_hh), h, c, y, below, convert
        self.d = w_ih.shape[1]
        self.r.times = times_of(1, self.r.n, None, False)
        self.r.hs, self.r.cs, self.r.y = data_or_null(h), data_or_null(c), data_or_null(y)
        packed = weights_bytes(&self.r)
        self.memory = scratch(packed + work_bytes(&self.r))
        place_weights(&self.r, self.memory.ptr)
        place_work(&self.r, self.memory.ptr + packed)
        pack_weights(&self.r.input, 0, blocks_of(self.r.gemm, self.r.h))
        pack_weights(&self.r.state, 0, blocks_of(self.r.gemm, self.r.h))
        if self.r.two:
            pack_weights(&self.r.second, 0, blocks_of(self.r.gemm, self.r.second.height))

    cpdef cnp.ndarray step(self, x):
        """y from x (N, D): an array that the next step overwrites."""
        cdef cnp.ndarray a
        cdef int threads
        if self.below is not None:
            a = self.below.step(x)
        elif (type(x) is cnp.ndarray and cnp.PyArray_NDIM(x) == 2 and cnp.PyArray_DIM(x, 0) == self.r.n
                and cnp.PyArray_DIM(x, 1) == self.d and cnp.PyArray_TYPE(x) == cnp.PyArray_TYPE(self.h)
                and cnp.PyArray_ISCARRAY_RO(x)):
            a = x
        else:
            a = self.convert(x)
        if self.r.n == 0:
            return self.y
        self.r.x = <const char *>cnp.PyArray_DATA(a)
        threads = threads_of_steps(&self.r)
        with nogil, parallel(num_threads=threads):
            forward_share(&self.r, threadid(), fnn_team())
        return self.y


# ---- backward ----

cdef struct Back:
    const fnn_gemm_ukernels *gemm
    const fnn_recurrent_ukernels *uk
    int cell
    bint two, projection       # as in Net
    bint initial               # the gradient at the initial h is wanted
    Py_ssize_t n, h, p, columns
    Times times
    Product state, second      # with the weights of the same names
    const fnn_add_ukernels *sums
    const char *dy             # (R, P) or NULL
    const char *gates          # as forward kept them
    const char *after          # (R, H): c of an LSTM, else y
    const char *before         # (N, H): the same before the first step
    char *dh                   # (N, P): at the last h; becomes that at the initial one
    char *dc                   # (N, H), likewise
    char *dgates               # (R, columns H)
    char *dbias                # (columns H,), added to; NULL: not wanted
    char *dstates              # (R, P): at h after every step; NULL: not wanted, and there is no projection
    char *dmiddle              # (N, H): at what is projected, or at r h
    char *packed_middle
    char *packed[2]
    fnn_barrier barrier


cdef struct Gates:
    Py_ssize_t count
    Py_ssize_t[4] column       # in dgates, of what is multiplied with w_hh


cdef Gates recurrent_gates(int cell) noexcept nogil:
    cdef Gates g
    g.count = 4 if cell == FNN_LSTM else 3 if cell == FNN_GRU else 2 if cell == FNN_GRU_PAPER else 1
    g.column[0], g.column[1], g.column[2], g.column[3] = 0, 1, 3 if cell == FNN_GRU else 2, 3
    return g


cdef void add_dy(const Back *r, Py_ssize_t n, Py_ssize_t row, Py_ssize_t first, Py_ssize_t last) noexcept nogil:
    """dstates = dh + dy in columns [first, last) of n samples."""
    cdef Py_ssize_t es = r.gemm.itemsize, i, at
    for i in range(n):
        at = ((row + i) * r.p + first) * es
        if r.dy == NULL:
            memcpy(r.dstates + at, r.dh + (i * r.p + first) * es, (last - first) * es)
        else:
            r.sums.add(last - first, r.dh + (i * r.p + first) * es, r.dy + at, r.dstates + at, 0, 0, 0)


cdef void apply_gradient(const Back *r, int part, Py_ssize_t step, Py_ssize_t b0, Py_ssize_t b1) noexcept nogil:
    """Of the samples that had a step before, and of those that begin."""
    cdef Py_ssize_t es = r.gemm.itemsize, n = count_of(&r.times, step), row = row_of(&r.times, step), i = 0
    cdef Py_ssize_t had = min(n, count_of(&r.times, step - 1)) if step else 0, j = b0 * r.gemm.nr, at
    cdef fnn_cell_gradient s
    s.units, s.hidden = min(b1 * r.gemm.nr, r.h) - j, r.h
    s.dbias = shifted(r.dbias, j * es)
    while i < n:
        s.n = had if i < had else n - had
        at = (row + i) * r.h + j
        s.gates = r.gates + ((row + i) * r.columns * r.h + j) * es if r.gates != NULL else NULL
        s.dgates = r.dgates + ((row + i) * r.columns * r.h + j) * es
        s.after = r.after + at * es
        s.before = (r.after + (row_of(&r.times, step - 1) * r.h + j) * es if i < had
                    else r.before + (i * r.h + j) * es)
        s.dy = shifted(<char *>r.dy, at * es) if not r.projection else NULL
        s.dh = (r.dmiddle if r.projection else r.dh) + (i * r.h + j) * es
        s.dc = shifted(r.dc, (i * r.h + j) * es)
        s.dreset = shifted(r.dmiddle, (i * r.h + j) * es)
        r.uk.backward[r.cell][part](&s)
        i += s.n


cdef void backward_share(Back *r, int thread, int threads) noexcept nogil:
    """What a thread does of a sequence's way back."""
    cdef Py_ssize_t es = r.gemm.itemsize, nr = r.gemm.nr, step = r.times.steps, n, row, i
    cdef Py_ssize_t blocks = blocks_of(r.gemm, r.h), b0 = thread * blocks // threads
    cdef Py_ssize_t b1 = (thread + 1) * blocks // threads, first = b0 * nr, last = min(b1 * nr, r.h)
    cdef Py_ssize_t state_blocks = blocks_of(r.gemm, r.p), s0 = thread * state_blocks // threads
    cdef Py_ssize_t s1 = (thread + 1) * state_blocks // threads
    cdef Gates recurrent = recurrent_gates(r.cell)
    cdef char *dgates
    if r.times.steps > 1 or r.initial:
        pack_transposed(&r.state, s0, s1)
    if r.two:
        pack_transposed(&r.second, b0, b1)
    while step > 0:
        step -= 1
        n, row = count_of(&r.times, step), row_of(&r.times, step)
        dgates = r.dgates + row * r.columns * r.h * es
        if step + 1 < r.times.steps:
            multiply(&r.state, s0, s1, count_of(&r.times, step + 1), r.packed[step + 1 & 1], r.dh, r.p)
        if r.dstates != NULL:
            add_dy(r, n, row, s0 * nr, min(s1 * nr, r.p))
        if r.projection:
            hand_over(&r.second, r.dstates + row * r.p * es, r.p, s0 * nr, min(s1 * nr, r.p), n, s0 * nr,
                      r.packed_middle)
            fnn_wait(&r.barrier, threads)
            multiply(&r.second, b0, b1, n, r.packed_middle, r.dmiddle, r.h)
        apply_gradient(r, 0, step, b0, b1)
        if r.two and not r.projection:
            hand_over(&r.second, dgates + 2 * r.h * es, r.columns * r.h, first, last, n, first, r.packed_middle)
            fnn_wait(&r.barrier, threads)
            multiply(&r.second, b0, b1, n, r.packed_middle, r.dmiddle, r.h)
            apply_gradient(r, 1, step, b0, b1)
        for i in range(recurrent.count):
            hand_over(&r.state, dgates + recurrent.column[i] * r.h * es, r.columns * r.h, first, last, n,
                      i * r.h + first, r.packed[step & 1])
        fnn_wait(&r.barrier, threads)
    if r.initial:
        multiply(&r.state, s0, s1, count_of(&r.times, 0), r.packed[0], r.dh, r.p)


def backward(int cell, cnp.ndarray dy, cnp.ndarray w_hh, cnp.ndarray w_hr, cnp.ndarray gates, cnp.ndarray after,
             cnp.ndarray before, cnp.ndarray dh, cnp.ndarray dc, cnp.ndarray dgates, cnp.ndarray dbias,
             cnp.ndarray dstates, Py_ssize_t steps, cnp.ndarray offset, bint reverse, bint initial):
    """Back-propagation through time: dgates (R, columns H), and dbias (columns H,) added to. dh (N, P) and dc (N, H)
    come in as the gradients at the last states and leave as those at the initial ones (dh only if `initial`).

    dy (R, P) may be None, and dbias. after (R, H): the states c of an LSTM, else h; before (N, H): the initial ones.
    dstates (R, P), None unless it is wanted or there is w_hr, becomes the gradient at the states h after every step.
    The weights' gradients are products of all these.
    """
    cdef Back r
    cdef const fnn_ukernels *uk = table_of(w_hh)
    cdef Scratch tmp
    cdef Product *q
    cdef Py_ssize_t es, i, longest, tables_bytes, packed_bytes, middle_bytes
    cdef Py_ssize_t *rising
    cdef char *at
    cdef double weights, n
    cdef int threads
    memset(&r, 0, sizeof(Back))
    r.gemm, r.uk, r.sums, r.cell = uk.gemm, uk.recurrent, uk.add, cell
    es = r.gemm.itemsize
    r.n, r.p, r.h = dh.shape[0], w_hh.shape[1], after.shape[1]
    r.columns = dgates.shape[1] // r.h
    r.projection, r.initial = w_hr is not None, initial
    r.two = r.projection or cell == FNN_GRU_PAPER
    r.times = times_of(steps, r.n, offset, reverse)
    r.dy, r.gates, r.after, r.before = data_or_null(dy), data_or_null(gates), data_or_null(after), data_or_null(before)
    r.dh, r.dc, r.dgates, r.dbias = data_or_null(dh), data_or_null(dc), data_or_null(dgates), data_or_null(dbias)
    r.dstates = data_or_null(dstates)
    r.state.w, r.state.gates, r.state.height = data_or_null(w_hh), 1, r.p
    r.state.k = recurrent_gates(cell).count * r.h
    r.state.first[0] = cell != FNN_GRU and cell != FNN_GRU_PAPER     # they leave a part of it in dh
    if r.two:
        r.second.w = <const char *>data_or_null(w_hr) if r.projection else r.state.w + 2 * r.h * r.p * es
        r.second.k = r.p if r.projection else r.h
        r.second.gates, r.second.height, r.second.first[0] = 1, r.h, True
    r.state.gemm = r.second.gemm = r.gemm
    r.state.uk = r.second.uk = r.uk
    r.state.group = r.second.group = group_for(1, r.n)
    longest = max(r.state.k, r.second.k)
    tables_bytes = aligned((longest + K_BLOCK) * sizeof(Py_ssize_t))
    packed_bytes = aligned(r.n * r.state.k * es)
    middle_bytes = aligned(r.n * max(r.h, r.second.k) * es) if r.two else 0
    tmp = scratch(tables_bytes + panel_bytes(&r.state) + (panel_bytes(&r.second) if r.two else 0) + 2 * packed_bytes
                  + 2 * middle_bytes)
    rising = <Py_ssize_t *>tmp.ptr
    fill_tables(rising, longest, r.gemm.nr)
    at = tmp.ptr + tables_bytes
    for i in range(2):
        r.packed[i] = at
        at += packed_bytes
    if r.two:
        r.packed_middle, r.dmiddle = at, at + middle_bytes
        at += 2 * middle_bytes
    for i in range(2 if r.two else 1):
        q = &r.second if i else &r.state
        q.rising, q.rows, q.panels = rising, rising + longest, at
        at += panel_bytes(q)
    weights = <double>r.state.k * r.p + (<double>r.second.k * r.h if r.two else 0)
    n = <double>total_of(&r.times) / steps
    threads = threads_for_steps(steps, n * (2 * weights + CELL_FLOPS * r.h), weights * es)
    with nogil, parallel(num_threads=threads):
        backward_share(&r, threadid(), fnn_team())
