"""Recurrent cells over time. A task is a block of hidden units: its part of the product with the recurrent weights,
then its gates; every step waits for all tasks of the one before."""

cimport numpy as cnp
from cython.parallel cimport prange
from libc.string cimport memset

from fastnn.kernels.gemm cimport gemm_nt, tile_count, tile_row
from fastnn.kernels.runtime cimport Scratch, aligned, data_or_null, scratch, table_of, threads_for
from fastnn.kernels.ukernels cimport FNN_ACCUMULATE, fnn_gemm_ukernels, fnn_recurrent_ukernels, fnn_run

cnp.import_array()

cdef enum:
    UNITS = 32         # hidden units of a task; a multiple of nr, so that only the last task has a narrow panel
    GATES = 4
    K_BLOCK = 256      # steps of a product at a time, to keep the panel in the first-level cache
    INPUT_ROWS = 256   # rows of x per product with w_ih: enough for its full speed, and the gates stay in cache
    PACKED_ROWS = 4    # packed weights make faster steps from so many samples on,
    PACKED_WORK = 64   # and packing them pays for itself in so many rows of x

# Operations of one unit's gates and states: four sigmoids or tanhs more or less, and the sums and products.
cdef double CELL_FLOPS = 150


cdef struct Lstm:
    const fnn_gemm_ukernels *gemm
    const fnn_recurrent_ukernels *cell
    Py_ssize_t n, d, h
    const char *w_ih       # (4H, D)
    const char *w_hh       # (4H, H)
    const char *b_ih       # (4H,) or NULL
    const char *b_hh
    char *panels           # packed weights, or NULL
    Py_ssize_t *off        # 0, 1, 2, ...: steps of a packed row
    Py_ssize_t *row_off    # 0, H, 2H, ...: rows of w_hh


cdef Py_ssize_t tasks_of(const Lstm *p) noexcept nogil:
    return (p.h + UNITS - 1) // UNITS


cdef Py_ssize_t units_of(const Lstm *p, Py_ssize_t task) noexcept nogil:
    return min(<Py_ssize_t>UNITS, p.h - task * UNITS)


cdef Py_ssize_t panels_of(const Lstm *p, Py_ssize_t task) noexcept nogil:
    """How many panels of at most nr columns a task's units take."""
    return (units_of(p, task) + p.gemm.nr - 1) // p.gemm.nr


cdef void pack_part(const Lstm *p, const char *a, Py_ssize_t columns, Py_ssize_t first, Py_ssize_t count,
                    Py_ssize_t k, Py_ssize_t at, char *packed) noexcept nogil:
    """Columns [first, first + count) of a (n, columns) as steps at, at + 1, ... of k of the packed register tiles."""
    cdef Py_ssize_t es = p.gemm.itemsize, tiles = tile_count(p.gemm, p.n), t, row, rows
    for t in range(tiles):
        row = tile_row(t, tiles, p.n)
        rows = tile_row(t + 1, tiles, p.n) - row
        p.gemm.pack_a(rows, count, a + (row * columns + first) * es, columns, p.off,
                      packed + (row * k + at * rows) * es)


cdef void multiply(const Lstm *p, Py_ssize_t k, const char *packed, char *panel, Py_ssize_t ldb, char *c,
                   Py_ssize_t ldc, Py_ssize_t width) noexcept nogil:
    """c (n, width) = packed (n, k) times a panel (k, ldb)."""
    cdef Py_ssize_t es = p.gemm.itemsize, tiles = tile_count(p.gemm, p.n), at = 0, count, t, row, rows
    while at < k:
        count = min(<Py_ssize_t>K_BLOCK, k - at)
        for t in range(tiles):
            row = tile_row(t, tiles, p.n)
            rows = tile_row(t + 1, tiles, p.n) - row
            p.gemm.tile[rows](count, packed + (row * k + at * rows) * es, panel + at * ldb * es, ldb,
                              c + row * ldc * es, ldc, width, NULL, FNN_ACCUMULATE if at else 0, NULL)
        at += count


# ---- forward ----
#
# Few samples: the input's part of all gates is one product over many steps, and a step adds the recurrent part with
# the weights as they are; a single step of a single sample takes both at once. Many samples: the weights (w_ih, w_hh)
# are packed once, a step's input and state (x, h) are packed as they arise, and each step is one product.

cdef void pack_weights(const Lstm *p, Py_ssize_t task) noexcept nogil:
    """Panels [D + H][columns] of (w_ih, w_hh)^T, one behind the other by gate and unit."""
    cdef Py_ssize_t es = p.gemm.itemsize, nr = p.gemm.nr, d = p.d, h = p.h, gate, panel, j, row, width
    for gate in range(GATES):
        for panel in range(panels_of(p, task)):
            j = task * UNITS + panel * nr
            row = gate * h + j
            width = min(nr, h - j)
            p.gemm.pack_a(width, d, p.w_ih + row * d * es, d, p.off, p.panels + row * (d + h) * es)
            p.gemm.pack_a(width, h, p.w_hh + row * h * es, h, p.off, p.panels + (row * (d + h) + width * d) * es)


cdef void pack_input(const Lstm *p, Py_ssize_t task, const char *x, char *packed) noexcept nogil:
    """The task's share of x (N, D)."""
    cdef Py_ssize_t tasks = tasks_of(p), first = task * p.d // tasks
    pack_part(p, x, p.d, first, (task + 1) * p.d // tasks - first, p.d + p.h, first, packed)


cdef void cell_task(const Lstm *p, Py_ssize_t task, char *gates, const char *c_prev, char *c, char *h) noexcept nogil:
    cdef Py_ssize_t first = task * UNITS * p.gemm.itemsize
    p.cell.lstm_cell(p.n, units_of(p, task), p.h, gates + first, p.b_ih + first if p.b_ih != NULL else NULL,
                     p.b_hh + first if p.b_hh != NULL else NULL, c_prev + first if c_prev != NULL else NULL, c + first,
                     h + first)


cdef void plain_task(const Lstm *p, Py_ssize_t task, const char *x, char *gates, const char *h_prev,
                     const char *c_prev, char *c, char *h) noexcept nogil:
    """One step of UNITS hidden units. x: one sample, or NULL where gates hold the input's part already. h_prev,
    c_prev: NULL is zero."""
    cdef Py_ssize_t es = p.gemm.itemsize, first = task * UNITS, gate, row
    if p.n == 1:
        p.cell.lstm_gates(units_of(p, task), p.d, x, p.w_ih + first * p.d * es, p.h, h_prev,
                          p.w_hh + first * p.h * es, gates + first * es)
    elif h_prev != NULL:
        for gate in range(GATES):
            row = gate * p.h + task * UNITS
            p.gemm.dot(p.n, units_of(p, task), p.h, h_prev, p.h, p.w_hh + row * p.h * es, p.h, gates + row * es,
                       GATES * p.h, NULL, FNN_ACCUMULATE)
    cell_task(p, task, gates, c_prev, c, h)


cdef void packed_task(const Lstm *p, Py_ssize_t task, char *gates, const char *packed, const char *c_prev, char *c,
                      char *h, const char *x_next, char *packed_next) noexcept nogil:
    """One step of UNITS hidden units from the packed (x, h), whose next values are packed unless x_next is NULL."""
    cdef Py_ssize_t es = p.gemm.itemsize, nr = p.gemm.nr, k = p.d + p.h, gate, panel, j, row, width
    for gate in range(GATES):
        for panel in range(panels_of(p, task)):
            j = task * UNITS + panel * nr
            row = gate * p.h + j
            width = min(nr, p.h - j)
            multiply(p, k, packed, p.panels + row * k * es, width, gates + row * es, GATES * p.h, width)
    cell_task(p, task, gates, c_prev, c, h)
    if x_next != NULL:
        pack_input(p, task, x_next, packed_next)
        pack_part(p, h, p.h, task * UNITS, units_of(p, task), k, p.d + task * UNITS, packed_next)


def lstm_forward(cnp.ndarray x, cnp.ndarray w_ih, cnp.ndarray w_hh, cnp.ndarray b_ih, cnp.ndarray b_hh, cnp.ndarray h0,
                 cnp.ndarray c0, cnp.ndarray gates, cnp.ndarray y, cnp.ndarray c, Py_ssize_t steps, Py_ssize_t n,
                 Py_ssize_t d, Py_ssize_t h):
    """x (T, N, D), y (T, N, H). gates (T, N, 4H) and c (T, N, H) keep all steps, or gates is None and c is the last.
    The axis of steps may be absent where there is one."""
    cdef Lstm p
    p.gemm, p.cell = table_of(x).gemm, table_of(x).recurrent
    p.n, p.d, p.h = n, d, h
    p.w_ih, p.w_hh, p.b_ih, p.b_hh = data_or_null(w_ih), data_or_null(w_hh), data_or_null(b_ih), data_or_null(b_hh)
    if n >= PACKED_ROWS and steps * n >= PACKED_WORK:
        packed_forward(&p, data_or_null(x), data_or_null(h0), data_or_null(c0), data_or_null(gates), data_or_null(y),
                       data_or_null(c), steps)
    else:
        plain_forward(&p, data_or_null(x), data_or_null(h0), data_or_null(c0), data_or_null(gates), data_or_null(y),
                      data_or_null(c), steps)


cdef int threads_of(const Lstm *p, Py_ssize_t depth) noexcept:
    """Of one time step, whose products have that depth: a few rows wait for the weights to come from a cache."""
    return threads_for(p.n * p.h * (2. * GATES * depth + CELL_FLOPS), <double>GATES * p.h * depth * p.gemm.itemsize)


cdef int plain_forward(Lstm *p, const char *x, const char *h_prev, const char *c_prev, char *gates, char *y, char *c,
                       Py_ssize_t steps) except -1:
    cdef Py_ssize_t es = p.gemm.itemsize, state = p.n * p.h * es, tasks = tasks_of(p), t, task
    cdef Py_ssize_t block = min(steps, max(1, INPUT_ROWS // p.n))
    cdef int nt_input = threads_for(2. * block * p.n * p.d * GATES * p.h, 0)
    cdef bint keep = gates != NULL, single = steps == 1 and p.n == 1
    cdef int nt = threads_of(p, p.h + (p.d if single else 0))
    cdef Scratch tmp
    if not keep:
        tmp = scratch(block * GATES * state)
    with nogil:
        for t in range(steps):
            if t % block == 0:
                if not keep:
                    gates = tmp.ptr
                if not single:
                    gemm_nt(p.gemm, min(block, steps - t) * p.n, GATES * p.h, p.d, x + t * p.n * p.d * es, p.d, p.w_ih,
                            p.d, gates, GATES * p.h, NULL, 0, nt_input)
            if nt == 1:
                for task in range(tasks):
                    plain_task(p, task, x if single else NULL, gates, h_prev, c_prev, c, y)
            else:
                for task in prange(tasks, num_threads=nt, schedule="static"):
                    plain_task(p, task, x if single else NULL, gates, h_prev, c_prev, c, y)
            h_prev, c_prev = y, c
            y += state
            gates += GATES * state
            if keep:
                c += state
    return 0


cdef int packed_forward(Lstm *p, const char *x, const char *h0, const char *c_prev, char *gates, char *y, char *c,
                        Py_ssize_t steps) except -1:
    cdef Py_ssize_t es = p.gemm.itemsize, n = p.n, d = p.d, h = p.h, state = n * h * es, tasks = tasks_of(p), t, i, task
    cdef int nt = threads_of(p, d + h)
    cdef bint keep = gates != NULL
    # weights with room for the last panel's missing columns, (x, h) now and next, one step's gates, offsets
    cdef Py_ssize_t panel_bytes = aligned((GATES * h * (d + h) + p.gemm.nr) * es)
    cdef Py_ssize_t packed_bytes = aligned(n * (d + h) * es), gate_bytes = 0 if keep else aligned(GATES * state)
    cdef Scratch tmp = scratch(panel_bytes + 2 * packed_bytes + gate_bytes + max(d, h) * sizeof(Py_ssize_t))
    cdef char *packed = tmp.ptr + panel_bytes
    cdef char *packed_next = packed + packed_bytes
    cdef const char *x_next
    p.panels = tmp.ptr
    p.off = <Py_ssize_t *>(packed_next + packed_bytes + gate_bytes)
    with nogil:
        if not keep:
            gates = packed_next + packed_bytes
        for i in range(max(d, h)):
            p.off[i] = i
        if h0 == NULL:
            memset(packed, 0, packed_bytes)
        else:
            pack_part(p, h0, h, 0, h, d + h, d, packed)
        for task in prange(tasks, num_threads=nt, schedule="static"):
            pack_weights(p, task)
            pack_input(p, task, x, packed)
        for t in range(steps):
            x += n * d * es
            x_next = x if t + 1 < steps else NULL
            if nt == 1:
                for task in range(tasks):
                    packed_task(p, task, gates, packed, c_prev, c, y, x_next, packed_next)
            else:
                for task in prange(tasks, num_threads=nt, schedule="static"):
                    packed_task(p, task, gates, packed, c_prev, c, y, x_next, packed_next)
            packed, packed_next = packed_next, packed
            c_prev = c
            y += state
            if keep:
                gates += GATES * state
                c += state
    return 0


# ---- backward ----

cdef void pack_columns(const Lstm *p, Py_ssize_t task) noexcept nogil:
    """Panels [4H][nr] of w_hh, one behind the other."""
    cdef Py_ssize_t es = p.gemm.itemsize, nr = p.gemm.nr, panel, j
    cdef fnn_run run
    for panel in range(panels_of(p, task)):
        j = task * UNITS + panel * nr
        run.start = j
        run.length = min(nr, p.h - j)
        p.gemm.pack_b(GATES * p.h, p.w_hh, p.row_off, 1, &run, p.panels + j * GATES * p.h * es, nr,
                      False)


cdef void product_task(const Lstm *p, Py_ssize_t task, const char *packed, char *dh) noexcept nogil:
    """dh = dgates w_hh in UNITS columns, from the packed dgates."""
    cdef Py_ssize_t es = p.gemm.itemsize, nr = p.gemm.nr, k = GATES * p.h, panel, j
    for panel in range(panels_of(p, task)):
        j = task * UNITS + panel * nr
        multiply(p, k, packed, p.panels + j * k * es, nr, dh + j * es, p.h, min(nr, p.h - j))


cdef void backward_task(const Lstm *p, Py_ssize_t task, const char *gates, const char *c_prev, const char *c,
                        const char *dy, const char *packed, char *dh, char *dc, char *dgates, char *dbias,
                        char *packed_next) noexcept nogil:
    """One step of UNITS hidden units. packed: dgates of the step after, or NULL where dh is given."""
    cdef Py_ssize_t es = p.gemm.itemsize, first = task * UNITS * es, units = units_of(p, task)
    cdef Py_ssize_t gate, column
    if packed != NULL:
        product_task(p, task, packed, dh)
    p.cell.lstm_cell_backward(p.n, units, p.h, gates + first, c_prev + first if c_prev != NULL else NULL, c + first,
                              dh + first, dy + first if dy != NULL else NULL, dc + first, dgates + first,
                              dbias + first if dbias != NULL else NULL)
    for gate in range(GATES):
        column = gate * p.h + task * UNITS
        pack_part(p, dgates, GATES * p.h, column, units, GATES * p.h, column, packed_next)


def lstm_backward(cnp.ndarray dy, cnp.ndarray w_hh, cnp.ndarray c0, cnp.ndarray gates, cnp.ndarray c, cnp.ndarray dh,
                  cnp.ndarray dc, cnp.ndarray dgates, cnp.ndarray dbias, Py_ssize_t steps, Py_ssize_t n, Py_ssize_t h,
                  bint initial):
    """Back-propagation through time: dgates (T, N, 4H), and dbias (4H,) added to. dh and dc (N, H) come in as the
    gradients at the last states and leave as those at the initial ones (dh only if `initial`). dy (T, N, H), c0 and
    dbias may be None."""
    cdef Lstm p
    p.gemm, p.cell = table_of(w_hh).gemm, table_of(w_hh).recurrent
    p.n, p.h, p.w_hh = n, h, data_or_null(w_hh)
    cdef Py_ssize_t es = p.gemm.itemsize, state = n * h * es, tasks = tasks_of(&p), t, i, task
    cdef int nt = threads_of(&p, h)
    cdef Py_ssize_t columns = (h + p.gemm.nr - 1) // p.gemm.nr * p.gemm.nr
    cdef Py_ssize_t panel_bytes = aligned((columns * GATES * h + p.gemm.vl) * es), packed_bytes = aligned(GATES * state)
    cdef Scratch tmp = scratch(panel_bytes + 2 * packed_bytes + 2 * GATES * h * sizeof(Py_ssize_t))
    cdef const char *pg = data_or_null(gates)
    cdef const char *pc = data_or_null(c)
    cdef const char *pc0 = data_or_null(c0)
    cdef const char *pdy = data_or_null(dy)
    cdef const char *c_prev
    cdef const char *dy_t
    cdef char *pdh = data_or_null(dh)
    cdef char *pdc = data_or_null(dc)
    cdef char *pdg = data_or_null(dgates)
    cdef char *pdb = data_or_null(dbias)
    cdef char *packed = NULL
    cdef char *packed_next
    cdef char *spare
    p.panels = tmp.ptr
    packed_next = p.panels + panel_bytes
    spare = packed_next + packed_bytes
    p.off = <Py_ssize_t *>(spare + packed_bytes)
    p.row_off = p.off + GATES * h
    with nogil:
        for i in range(GATES * h):
            p.off[i] = i
            p.row_off[i] = i * h
        if steps > 1 or initial:
            for task in prange(tasks, num_threads=nt, schedule="static"):
                pack_columns(&p, task)
        for t in range(steps - 1, -1, -1):
            c_prev = pc + (t - 1) * state if t else pc0
            dy_t = pdy + t * state if pdy != NULL else NULL
            if nt == 1:
                for task in range(tasks):
                    backward_task(&p, task, pg + t * GATES * state, c_prev, pc + t * state, dy_t, packed, pdh, pdc,
                                  pdg + t * GATES * state, pdb, packed_next)
            else:
                for task in prange(tasks, num_threads=nt, schedule="static"):
                    backward_task(&p, task, pg + t * GATES * state, c_prev, pc + t * state, dy_t, packed, pdh, pdc,
                                  pdg + t * GATES * state, pdb, packed_next)
            packed, packed_next, spare = packed_next, spare, packed_next
        if initial:
            for task in prange(tasks, num_threads=nt, schedule="static"):
                product_task(&p, task, packed, pdh)
