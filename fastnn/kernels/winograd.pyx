"""Convolution by Winograd's minimal filtering F(m x m, r x r); float32, stride 1, no dilation.

A tile of m x m results needs n^2 products, n = m + r - 1, instead of m^2 r^2: 4/9 of them for F(2x2, 3x3), 1/4 for
F(4x4, 3x3), 9/25 for F(2x2, 5x5). Tiles are a correlation with stride m and n^2 taps, so the slab of `conv` serves
them as it is: columns sorted by residue modulo m make equal elements of neighbouring tiles neighbours. (A row of tiles
must be one line of the plan, at most conv.MAX_SEGMENT tiles: `ops.conv.winograd_declines` sees to it.) A task
transforms its tiles, channel by channel, into panels, multiplies them with the transformed filters, one product for
each of the n^2 positions, and transforms back into the result.
"""

cimport cython
cimport numpy as cnp
from cython.parallel cimport prange, threadid

from fastnn.kernels.conv cimport (
    Correlation, Plan, Weights, aligned, ceil_div, filters_of, forward_correlation, input_correlation, input_filters,
    input_table_bytes, make_lines,    plan_lines, plan_task, tap_offsets, tap_table_bytes,
)
from fastnn.kernels.gemm cimport multiply_panel, tile_count, tile_row
from fastnn.kernels.runtime cimport Scratch, cache_bytes, data_or_null, scratch, table_of, threads_for
from fastnn.kernels.ukernels cimport FNN_ACCUMULATE, FNN_RELU, fnn_line, fnn_run, fnn_tile_run, fnn_ukernels

cnp.import_array()

cdef enum:
    K_BLOCK = 256            # channels of a product at a time
    SLAB_CHANNELS = 16       # channels in the slab at a time
    MAX_PANEL = 32           # tiles of a panel at most
    MAX_PANELS = 32          # panels of a task at most
    TASK_BYTES = 1280 * 1024  # transformed tiles and products of a task, to stay in the second-level cache; but
    FEW_PANELS = 4            # so many panels a task where the filters are larger than that cache,
    FILTER_BYTES = 6 << 20    # so large, to read them less often,
    MOST_BYTES = 24 << 20     # if the task remains below this
    OWN_TILES = 128          # so few tiles in all: a task transforms the filters itself, a cacheful at a time
    OWN_CHANNELS = 128       # channels of these
    GRADIENT_ROWS = 96       # weight gradient: filters a task
    STAGGER = 80             # elements between the matrices of two points; see `staggered`


cdef inline Py_ssize_t staggered(Py_ssize_t elements) noexcept nogil:
    """Distance of the matrices of neighbouring points. Transforms write or read all points of a tile at once: an odd
    number of cache lines more than a power of two keeps these (m + 2)^2 lines in different sets of the cache."""
    return (elements + 1023) // 1024 * 1024 + STAGGER


cdef struct Tiling:
    int m, r                             # results of a tile along each axis, taps
    Py_ssize_t points                    # (m + r - 1)^2
    Py_ssize_t tile_columns              # tiles of a tile row
    Py_ssize_t tiles                     # of all images
    Py_ssize_t task_tiles                # most tiles of a task
    Py_ssize_t panels                    # most panels of a task
    Py_ssize_t oh, ow, y_row             # of the result in pixels
    Correlation tile                     # reads tiles: one "pixel" a tile
    Plan plan
    Py_ssize_t v_pitch, product_pitch    # between points, of tiles and products
    bint own                             # tasks transform the filters themselves
    Py_ssize_t group_tiles, block, u_pitch   # register tiles of filters and channels at a time; between their points
    Py_ssize_t lines_bytes, runs_bytes, v_bytes, product_bytes, tmp_bytes


cdef void make_grid(const Correlation *q, int m, int r, const Py_ssize_t *taps, Py_ssize_t reach,
                    Tiling *t) noexcept nogil:
    """Tiles of m x m results of q as a correlation that reads reach x reach source elements a tile."""
    t.m, t.r = m, r
    t.points = (m + r - 1) * (m + r - 1)
    t.oh, t.ow, t.y_row = q.oh, q.ow, q.y_row
    t.tile = q[0]
    t.tile.oh, t.tile.ow = ceil_div(q.oh, m), ceil_div(q.ow, m)
    t.tile.sy = t.tile.sx = m
    t.tile.row_taps = t.tile.col_taps = reach
    t.tile.row_tap = t.tile.col_tap = taps
    t.tile.y_row, t.tile.y_col = q.y_row * m, q.y_col * m
    plan_lines(&t.tile, &t.plan)
    t.tile_columns = t.tile.ow
    t.tiles = q.images * t.tile.oh * t.tile.ow


cdef void plan_tiles(const fnn_ukernels *uk, Py_ssize_t tiles, Tiling *t) noexcept nogil:
    """Room for the lines and runs of so many tiles, whole panels, and for their source in a slab."""
    t.task_tiles = tiles
    t.panels = tiles // uk.gemm.nr
    plan_task(uk, &t.tile, &t.plan, (tiles - 1) // t.tile_columns + 2,
              min(t.tile.channels, <Py_ssize_t>SLAB_CHANNELS))
    t.lines_bytes = aligned(t.plan.task_lines * sizeof(fnn_line))
    t.runs_bytes = aligned(t.panels * MAX_PANEL * (sizeof(fnn_run) + sizeof(fnn_tile_run)))


cdef bint few_tiles(const fnn_ukernels *uk, const Correlation *q, int m, int r) noexcept nogil:
    """So few in all that a task transforms the filters itself, unless they are prepared."""
    cdef Py_ssize_t tiles = q.images * ceil_div(q.oh, m) * ceil_div(q.ow, m)
    return tiles <= OWN_TILES and ceil_div(tiles, uk.gemm.nr) * panel_bytes(uk, q, m, r) <= MOST_BYTES


cdef Py_ssize_t panel_bytes(const fnn_ukernels *uk, const Correlation *q, int m, int r) noexcept nogil:
    """Of a panel of transformed tiles, and of their products."""
    return (m + r - 1) * (m + r - 1) * (q.channels + q.filters) * uk.gemm.itemsize * uk.gemm.nr


cdef Py_ssize_t block_channels(const fnn_ukernels *uk, const Correlation *q, int m, int r) noexcept nogil:
    """Channels of a product at a time. Prepared filters do not change it, and so no bit of the sums."""
    return min(q.channels, <Py_ssize_t>OWN_CHANNELS if few_tiles(uk, q, m, r) else <Py_ssize_t>K_BLOCK)


cdef void make_tiling(const fnn_ukernels *uk, const Correlation *q, int m, int r, const Py_ssize_t *taps, bint prepared,
                      int nt, Tiling *t) noexcept nogil:
    cdef Py_ssize_t nr = uk.gemm.nr, es = uk.gemm.itemsize, tasks, panels, nbytes = panel_bytes(uk, q, m, r)
    make_grid(q, m, r, taps, m + r - 1, t)
    # whole panels a task, as many tasks for every thread
    panels = TASK_BYTES // nbytes
    if t.points * q.channels * q.filters * es > FILTER_BYTES:
        panels = max(panels, min(<Py_ssize_t>FEW_PANELS, MOST_BYTES // nbytes))
    panels = min(max(panels, <Py_ssize_t>1), <Py_ssize_t>MAX_PANELS)
    t.own = not prepared and few_tiles(uk, q, m, r)
    t.block = block_channels(uk, q, m, r)
    if t.own:
        plan_tiles(uk, ceil_div(t.tiles, nr) * nr, t)
        t.group_tiles = min(tile_count(uk.gemm, q.filters),
                            max(<Py_ssize_t>1, cache_bytes // 4 // (t.points * t.block * uk.gemm.mr * es)))
        t.u_pitch = staggered(t.group_tiles * uk.gemm.mr * t.block)
    else:
        tasks = ceil_div(ceil_div(t.tiles, panels * nr), nt) * nt
        plan_tiles(uk, ceil_div(ceil_div(t.tiles, tasks), nr) * nr, t)
        t.group_tiles = tile_count(uk.gemm, q.filters)
        t.u_pitch = staggered(q.channels * q.filters)
    t.v_pitch = staggered(t.panels * q.channels * nr)
    t.product_pitch = staggered(t.panels * min(q.filters, t.group_tiles * uk.gemm.mr) * nr)
    t.v_bytes = aligned(t.points * t.v_pitch * es)
    t.product_bytes = aligned(t.points * t.product_pitch * es)
    t.tmp_bytes = (t.lines_bytes + t.runs_bytes + t.plan.slab_bytes + t.product_bytes
                   + (aligned(t.points * t.u_pitch * es) if t.own else 0))


cdef void transform_filters(const fnn_ukernels *uk, int m, int r, const Correlation *q, const Weights *w,
                            Py_ssize_t group, Py_ssize_t tile, Py_ssize_t c0, Py_ssize_t c1, Py_ssize_t pitch,
                            char *packed) noexcept nogil:
    """One register tile of a group's transformed filters, channels [c0, c1): packed[point][channel][row]."""
    cdef Py_ssize_t es = uk.gemm.itemsize, c, tiles = tile_count(uk.gemm, q.filters)
    cdef Py_ssize_t row = tile_row(tile, tiles, q.filters), rows = tile_row(tile + 1, tiles, q.filters) - row
    for c in range(c0, c1):
        uk.winograd.filter(m, r, rows, w.w + (group * w.group + row * w.filter + c * w.channel) * es, w.filter, w.tap,
                           packed + (c - c0) * rows * es, pitch)


cdef int threads_of(const Correlation *q) noexcept nogil:
    return threads_for(4. * q.groups * q.filters * q.channels * q.images * q.oh * q.ow, 0)


cdef Scratch pack_weights(const fnn_ukernels *uk, int m, int r, const Correlation *q, const Weights *w, int nt):
    """Transformed filters: [group][point][block of channels][register tile][channel][row]."""
    cdef Py_ssize_t block = block_channels(uk, q, m, r)
    cdef Py_ssize_t es = uk.gemm.itemsize, tiles = tile_count(uk.gemm, q.filters), i
    cdef Py_ssize_t pitch = staggered(q.channels * q.filters), group_bytes = (m + r - 1) * (m + r - 1) * pitch * es
    cdef Scratch packed = scratch(q.groups * group_bytes)
    for i in prange(q.groups * tiles, nogil=True, num_threads=nt, schedule="static"):
        pack_tile(uk, m, r, q, w, i // tiles, i % tiles, block, pitch, packed.ptr + i // tiles * group_bytes)
    return packed


cdef void pack_tile(const fnn_ukernels *uk, int m, int r, const Correlation *q, const Weights *w, Py_ssize_t group,
                    Py_ssize_t tile, Py_ssize_t block, Py_ssize_t pitch, char *packed) noexcept nogil:
    cdef Py_ssize_t es = uk.gemm.itemsize, row = tile_row(tile, tile_count(uk.gemm, q.filters), q.filters), k = 0, kb
    while k < q.channels:
        kb = min(block, q.channels - k)
        transform_filters(uk, m, r, q, w, group, tile, k, k + kb, pitch, packed + (k * q.filters + row * kb) * es)
        k = k + kb


cdef void cut_panels(const fnn_ukernels *uk, const Tiling *t, const fnn_line *lines, Py_ssize_t line, Py_ssize_t used,
                     Py_ssize_t tiles, fnn_run *runs, fnn_tile_run *places, Py_ssize_t *counts) noexcept nogil:
    """The runs of every panel, MAX_PANEL entries apart, and their number; from tile `used` of line `line` on, which
    is the first of `lines`."""
    cdef Py_ssize_t nr = uk.gemm.nr, panel = 0, width, n, length, at = 0, u
    while tiles > 0:
        width = min(nr, tiles)
        tiles = tiles - width
        n = panel * MAX_PANEL
        while width > 0:
            length = min(t.tile_columns - used, width)
            u = line % t.tile.oh
            runs[n].start = lines[at].start + used
            runs[n].length = length
            places[n].tiles = length
            places[n].y = lines[at].y + used * t.m
            places[n].rows = min(<Py_ssize_t>t.m, t.oh - u * t.m)
            places[n].columns = min(length * t.m, t.ow - used * t.m)
            n = n + 1
            width = width - length
            used = used + length
            if used == t.tile_columns:
                used = 0
                at = at + 1
                line = line + 1
        counts[panel] = n - panel * MAX_PANEL
        panel = panel + 1


cdef void read_tiles(const fnn_ukernels *uk, const Tiling *t, Py_ssize_t group, Py_ssize_t first, Py_ssize_t c0,
                     Py_ssize_t c1, const char *x, const Py_ssize_t *off, char *v, char *tmp) noexcept nogil:
    """Transform channels [c0, c1), at most SLAB_CHANNELS, of a task's tiles from `first` on.
    v: [point][panel][channel][nr]."""
    cdef Py_ssize_t nr = uk.gemm.nr, es = uk.gemm.itemsize, channels = t.tile.channels, c, panel
    cdef Py_ssize_t tiles = min(t.task_tiles, t.tiles - first)
    cdef Py_ssize_t line0 = first // t.tile_columns, line1 = ceil_div(first + tiles, t.tile_columns)
    cdef fnn_line *lines = <fnn_line *>tmp
    cdef fnn_run *runs = <fnn_run *>(tmp + t.lines_bytes)
    cdef fnn_tile_run *places = <fnn_tile_run *>(runs + t.panels * MAX_PANEL)
    cdef char *slab = tmp + t.lines_bytes + t.runs_bytes
    cdef Py_ssize_t counts[MAX_PANELS]
    make_lines(uk, &t.tile, &t.plan, line0, line1, c0, c1, x + group * channels * t.tile.h * t.tile.w * es, slab, lines)
    cut_panels(uk, t, lines, line0, first - line0 * t.tile_columns, tiles, runs, places, counts)
    for panel in range(ceil_div(tiles, nr)):
        for c in range(c0, c1):
            uk.winograd.input(t.m, t.r, slab + (c - c0) * t.plan.channel_pitch * es, off, counts[panel],
                              runs + panel * MAX_PANEL, v + (panel * channels + c) * nr * es, t.v_pitch)


cdef void write_tiles(const fnn_ukernels *uk, const Correlation *q, const Tiling *t, Py_ssize_t group, Py_ssize_t first,
                      Py_ssize_t t0, Py_ssize_t t1, const Weights *w, const char *packed, const char *bias, char *y,
                      int flags, char *v, char *tmp) noexcept nogil:
    """The results of a task's transformed tiles v for the filters of register tiles [t0, t1)."""
    cdef Py_ssize_t es = uk.gemm.itemsize, channels = t.tile.channels, filters = t.tile.filters, stop, c0
    cdef Py_ssize_t tiles = min(t.task_tiles, t.tiles - first)
    cdef Py_ssize_t line0 = first // t.tile_columns, line1 = ceil_div(first + tiles, t.tile_columns)
    cdef fnn_line *lines = <fnn_line *>tmp
    cdef fnn_run *runs = <fnn_run *>(tmp + t.lines_bytes)
    cdef fnn_tile_run *places = <fnn_tile_run *>(runs + t.panels * MAX_PANEL)
    cdef char *products = tmp + t.lines_bytes + t.runs_bytes + t.plan.slab_bytes     # [point][panel][filter][nr]
    cdef char *own = products + t.product_bytes
    cdef Py_ssize_t counts[MAX_PANELS]
    make_lines(uk, &t.tile, &t.plan, line0, line1, 0, 0, NULL, NULL, lines)
    cut_panels(uk, t, lines, line0, first - line0 * t.tile_columns, tiles, runs, places, counts)
    while t0 < t1:
        stop = min(t1, t0 + t.group_tiles)
        c0 = 0
        while c0 < channels:
            multiply_points(uk, q, t, group, t0, stop, c0, min(channels, c0 + t.block), w, packed, tiles, v, products,
                            own)
            c0 = c0 + t.block
        write_pixels(uk, t, t0, stop, tiles, products, bias + group * filters * es if bias != NULL else NULL, flags,
                     counts, places, y + group * filters * t.tile.y_filter * es)
        t0 = stop


cdef void multiply_points(const fnn_ukernels *uk, const Correlation *q, const Tiling *t, Py_ssize_t group,
                          Py_ssize_t t0, Py_ssize_t t1, Py_ssize_t c0, Py_ssize_t c1, const Weights *w,
                          const char *packed, Py_ssize_t tiles, char *v, char *products, char *own) noexcept nogil:
    """Products of all points and tiles over channels [c0, c1), for the filters of register tiles [t0, t1)."""
    cdef Py_ssize_t nr = uk.gemm.nr, es = uk.gemm.itemsize, channels = t.tile.channels, filters = t.tile.filters
    cdef Py_ssize_t row_tiles = tile_count(uk.gemm, filters), row0 = tile_row(t0, row_tiles, filters)
    cdef Py_ssize_t rows = tile_row(t1, row_tiles, filters) - row0, kb = c1 - c0, panel, point, tile
    cdef const char *u = packed + (group * t.points * t.u_pitch + c0 * filters) * es
    if t.own:
        for tile in range(t0, t1):
            transform_filters(uk, t.m, t.r, q, w, group, tile, c0, c1, t.u_pitch,
                              own + (tile_row(tile, row_tiles, filters) - row0) * kb * es)
        u = own - row0 * kb * es
    for point in range(t.points):
        for panel in range(ceil_div(tiles, nr)):
            multiply_panel(uk.gemm, t0, t1, filters, kb, u + point * t.u_pitch * es,
                           v + (point * t.v_pitch + (panel * channels + c0) * nr) * es, nr,
                           products + (point * t.product_pitch + (panel * rows - row0) * nr) * es, nr,
                           min(nr, tiles - panel * nr), NULL,
                           FNN_ACCUMULATE if c0 > 0 else 0, NULL)


cdef void write_pixels(const fnn_ukernels *uk, const Tiling *t, Py_ssize_t t0, Py_ssize_t t1, Py_ssize_t tiles,
                       const char *products, const char *bias, int flags, const Py_ssize_t *counts,
                       const fnn_tile_run *places, char *y) noexcept nogil:
    """The pixels of a task's tiles, for the filters of register tiles [t0, t1)."""
    cdef Py_ssize_t nr = uk.gemm.nr, es = uk.gemm.itemsize, filters = t.tile.filters, panel, k
    cdef Py_ssize_t row_tiles = tile_count(uk.gemm, filters), row0 = tile_row(t0, row_tiles, filters)
    cdef Py_ssize_t row1 = tile_row(t1, row_tiles, filters)
    for panel in range(ceil_div(tiles, nr)):
        for k in range(row0, row1):
            uk.winograd.output(t.m, t.r, min(nr, tiles - panel * nr),
                               products + (panel * (row1 - row0) + k - row0) * nr * es, t.product_pitch,
                               bias + k * es if bias != NULL else NULL, flags, counts[panel],
                               places + panel * MAX_PANEL, y + k * t.tile.y_filter * es, t.y_row)


cdef int winograd(const fnn_ukernels *uk, int m, int r, const Correlation *q, const char *x, const Weights *w,
                  Scratch prepared, const char *bias, char *y, int flags, int nt) except -1:
    """conv.correlate for an r x r kernel with stride 1 and taps 0, 1, 2, …; prepared: from pack_weights, or None."""
    cdef Py_ssize_t register_tiles = tile_count(uk.gemm, q.filters), tasks, splits, task, i
    cdef Py_ssize_t[6] taps = [0, 1, 2, 3, 4, 5]
    cdef Tiling t
    make_tiling(uk, q, m, r, taps, prepared is not None, nt, &t)
    if prepared is None and not t.own:
        prepared = pack_weights(uk, m, r, q, w, nt)
    tasks = ceil_div(t.tiles, t.task_tiles) * q.groups
    # few tasks: their channels, and then their filters, are shared out
    splits = min(register_tiles, ceil_div(nt, tasks))
    cdef Py_ssize_t table_bytes = aligned(q.channels * t.points * sizeof(Py_ssize_t)), per_group = tasks // q.groups
    cdef Scratch memory = scratch(table_bytes + nt * (t.v_bytes + t.tmp_bytes))
    cdef Py_ssize_t *off = <Py_ssize_t *>memory.ptr
    cdef char *v = memory.ptr + table_bytes
    cdef char *tmp = v + nt * t.v_bytes
    cdef const char *packed = NULL
    cdef Py_ssize_t slabs = ceil_div(q.channels, SLAB_CHANNELS), group, first
    if prepared is not None:
        packed = prepared.ptr
    with nogil:
        tap_offsets(&t.tile, &t.plan, off)
        if splits == 1:
            for i in prange(tasks, num_threads=nt, schedule="dynamic"):
                winograd_task(uk, q, &t, i // per_group, i % per_group * t.task_tiles, x, w, packed, off, bias, y,
                              flags, v + threadid() * t.v_bytes, tmp + threadid() * t.tmp_bytes)
        else:
            for task in range(tasks):
                group = task // per_group
                first = task % per_group * t.task_tiles
                for i in prange(slabs, num_threads=nt, schedule="dynamic"):
                    read_tiles(uk, &t, group, first, i * SLAB_CHANNELS, min(q.channels, (i + 1) * SLAB_CHANNELS), x,
                               off, v, tmp + threadid() * t.tmp_bytes)
                for i in prange(splits, num_threads=nt, schedule="static"):
                    write_tiles(uk, q, &t, group, first, register_tiles * i // splits,
                                register_tiles * (i + 1) // splits, w, packed, bias, y, flags, v,
                                tmp + threadid() * t.tmp_bytes)
    return 0


cdef void winograd_task(const fnn_ukernels *uk, const Correlation *q, const Tiling *t, Py_ssize_t group,
                        Py_ssize_t first, const char *x, const Weights *w, const char *packed, const Py_ssize_t *off,
                        const char *bias, char *y, int flags, char *v, char *tmp) noexcept nogil:
    """Tiles [first, first + task_tiles) for all filters."""
    cdef Py_ssize_t c = 0
    while c < q.channels:
        read_tiles(uk, t, group, first, c, min(q.channels, c + SLAB_CHANNELS), x, off, v, tmp)
        c = c + SLAB_CHANNELS
    write_tiles(uk, q, t, group, first, 0, tile_count(uk.gemm, q.filters), w, packed, bias, y, flags, v, tmp)


@cython.final
cdef class Filters:
    """Transformed filters, in the blocks of channels of few tiles and of many: each once it is needed."""
    cdef const fnn_ukernels *uk
    cdef Scratch few
    cdef Scratch many

    cdef Scratch get(self, bint few):
        with cython.critical_section(self):
            return self.few if few else self.many

    cdef set(self, bint few, Scratch packed):
        with cython.critical_section(self):
            if few:
                self.few = packed
            else:
                self.many = packed


def prepare(cnp.ndarray w, desc, int m):
    """conv.prepare for F(m x m, r x r)."""
    cdef Filters prepared = Filters.__new__(Filters)
    prepared.uk = table_of(w)
    return prepared


def conv2d_forward(cnp.ndarray x, cnp.ndarray w, Filters prepared, b, cnp.ndarray y, desc, bint relu, int m):
    """conv.conv2d_forward by F(m x m, r x r)."""
    cdef const fnn_ukernels *uk = table_of(x) if prepared is None else prepared.uk
    cdef Correlation q
    cdef Weights weights
    cdef bint few
    cdef Scratch packed = None, memory = scratch(tap_table_bytes(desc))
    forward_correlation(&q, desc, <Py_ssize_t *>memory.ptr)
    filters_of(w, &q, <Py_ssize_t *>memory.ptr, &weights)
    if prepared is not None:
        few = q.channels > OWN_CHANNELS and few_tiles(uk, &q, m, desc.r)
        packed = prepared.get(few)
        if packed is None:
            packed = pack_weights(uk, m, desc.r, &q, &weights, threads_of(&q))
            prepared.set(few, packed)
    winograd(uk, m, desc.r, &q, <char *>cnp.PyArray_DATA(x), &weights, packed, data_or_null(b),
             <char *>cnp.PyArray_DATA(y), FNN_RELU if relu else 0, threads_of(&q))


def conv2d_backward_data(cnp.ndarray dy, cnp.ndarray w, cnp.ndarray dx, desc, b=None, *, int m):
    """conv.conv2d_backward_data by F(m x m, r x r)."""
    cdef Correlation q
    cdef Weights weights
    cdef Py_ssize_t *w_tap
    cdef Scratch memory = scratch(input_table_bytes(desc))
    input_correlation(&q, desc, 0, 0, <Py_ssize_t *>memory.ptr, &w_tap)
    input_filters(w, &q, desc, w_tap, &weights)
    winograd(table_of(dy), m, desc.r, &q, <char *>cnp.PyArray_DATA(dy), &weights, None, data_or_null(b),
             <char *>cnp.PyArray_DATA(dx), 0, threads_of(&q))


# ---- the gradient of the weights ----

cdef void spread(const fnn_ukernels *uk, const Tiling *t, bint adjoint, Py_ssize_t first, Py_ssize_t tiles,
                 Py_ssize_t c0, Py_ssize_t c1, const char *x, const Py_ssize_t *off, char *v, Py_ssize_t row,
                 char *tmp) noexcept nogil:
    """Transform tiles [first, first + tiles) of channels [c0, c1): v[point][channel][tile], channels `row` apart."""
    cdef Py_ssize_t nr = uk.gemm.nr, es = uk.gemm.itemsize, c, panel
    cdef Py_ssize_t line0 = first // t.tile_columns, line1 = ceil_div(first + tiles, t.tile_columns)
    cdef fnn_line *lines = <fnn_line *>tmp
    cdef fnn_run *runs = <fnn_run *>(tmp + t.lines_bytes)
    cdef fnn_tile_run *places = <fnn_tile_run *>(runs + t.panels * MAX_PANEL)
    cdef char *slab = tmp + t.lines_bytes + t.runs_bytes
    cdef char *dst
    cdef Py_ssize_t counts[MAX_PANELS]
    make_lines(uk, &t.tile, &t.plan, line0, line1, c0, c1, x, slab, lines)
    cut_panels(uk, t, lines, line0, first - line0 * t.tile_columns, tiles, runs, places, counts)
    for c in range(c0, c1):
        for panel in range(ceil_div(tiles, nr)):
            dst = v + (c * row + panel * nr) * es
            if adjoint:
                uk.winograd.output_adjoint(t.m, t.r, slab + (c - c0) * t.plan.channel_pitch * es, off, counts[panel],
                                           runs + panel * MAX_PANEL, dst, t.v_pitch)
            else:
                uk.winograd.input(t.m, t.r, slab + (c - c0) * t.plan.channel_pitch * es, off, counts[panel],
                                  runs + panel * MAX_PANEL, dst, t.v_pitch)


def conv2d_backward_weight(cnp.ndarray x, cnp.ndarray dy, cnp.ndarray dw, desc, *, int m):
    """conv.conv2d_backward_weight by transposed F(m x m, r x r): the sum over pixels becomes one over tiles, a matrix
    product along the tiles for each of the (m+2)^2 points. Tiles are taken in chunks that depend on the problem alone.
    """
    cdef const fnn_ukernels *uk = table_of(x)
    cdef Correlation q, g
    cdef int r = desc.r
    cdef Tiling tx, ty
    cdef Py_ssize_t[6] taps = [0, 1, 2, 3, 4, 5]
    cdef Scratch table = scratch(tap_table_bytes(desc))
    forward_correlation(&q, desc, <Py_ssize_t *>table.ptr)
    g = q                                    # dy read as it is
    g.channels, g.h, g.w, g.top, g.left = q.filters, q.oh, q.ow, 0, 0
    make_grid(&q, m, r, taps, m + r - 1, &tx)
    make_grid(&g, m, r, taps, m, &ty)
    cdef Py_ssize_t nr = uk.gemm.nr, es = uk.gemm.itemsize, channels = q.channels, filters = q.filters
    cdef Py_ssize_t chunk = MOST_BYTES // (tx.points * (channels + filters) * es) // nr
    chunk = nr * min(max(chunk, <Py_ssize_t>1), min(ceil_div(tx.tiles, nr), <Py_ssize_t>MAX_PANELS))
    plan_tiles(uk, chunk, &tx)
    plan_tiles(uk, chunk, &ty)
    cdef Py_ssize_t row = chunk + 16         # rows of tiles: aligned, but not a power of two apart
    tx.v_pitch, ty.v_pitch = staggered(channels * row), staggered(filters * row)
    cdef Py_ssize_t product_pitch = staggered(channels * filters)
    cdef Py_ssize_t x_bytes = aligned(tx.points * tx.v_pitch * es), y_bytes = aligned(tx.points * ty.v_pitch * es)
    cdef Py_ssize_t tmp_bytes = max(tx.lines_bytes + tx.runs_bytes + tx.plan.slab_bytes,
                                    ty.lines_bytes + ty.runs_bytes + ty.plan.slab_bytes)
    cdef Py_ssize_t off_bytes = aligned(max(channels, filters) * tx.points * sizeof(Py_ssize_t))
    cdef int nt = threads_of(&q)
    cdef Scratch memory = scratch(2 * off_bytes + x_bytes + y_bytes + nt * tmp_bytes)
    cdef Scratch products = scratch(tx.points * product_pitch * es)
    cdef Py_ssize_t *x_off = <Py_ssize_t *>memory.ptr
    cdef Py_ssize_t *y_off = <Py_ssize_t *>(memory.ptr + off_bytes)
    cdef char *vx = memory.ptr + 2 * off_bytes
    cdef char *vy = vx + x_bytes
    cdef char *tmp = vy + y_bytes
    cdef const char *px = <const char *>cnp.PyArray_DATA(x)
    cdef const char *py = <const char *>cnp.PyArray_DATA(dy)
    cdef char *pw = <char *>cnp.PyArray_DATA(dw)
    cdef Py_ssize_t x_blocks = ceil_div(channels, SLAB_CHANNELS), y_blocks = ceil_div(filters, SLAB_CHANNELS)
    cdef Py_ssize_t row_blocks = ceil_div(filters, GRADIENT_ROWS), first, tiles, group, i
    with nogil:
        tap_offsets(&tx.tile, &tx.plan, x_off)
        tap_offsets(&ty.tile, &ty.plan, y_off)
        for group in range(q.groups):
            first = 0
            while first < tx.tiles:
                tiles = min(chunk, tx.tiles - first)
                for i in prange(x_blocks + y_blocks, num_threads=nt, schedule="dynamic"):
                    if i < x_blocks:
                        spread(uk, &tx, False, first, tiles, i * SLAB_CHANNELS,
                               min(channels, (i + 1) * SLAB_CHANNELS), px + group * channels * q.h * q.w * es, x_off,
                               vx, row, tmp + threadid() * tmp_bytes)
                    else:
                        spread(uk, &ty, True, first, tiles, (i - x_blocks) * SLAB_CHANNELS,
                               min(filters, (i - x_blocks + 1) * SLAB_CHANNELS),
                               py + group * filters * q.oh * q.ow * es, y_off, vy, row, tmp + threadid() * tmp_bytes)
                for i in prange(tx.points * row_blocks, num_threads=nt, schedule="dynamic"):
                    multiply_tiles(uk, channels, filters, tiles, i % row_blocks * GRADIENT_ROWS,
                                   vx + i // row_blocks * tx.v_pitch * es, vy + i // row_blocks * ty.v_pitch * es, row,
                                   products.ptr + i // row_blocks * product_pitch * es, first > 0)
                first = first + tiles
            for i in prange(filters, num_threads=nt, schedule="static"):
                uk.winograd.filter_adjoint(m, r, channels, products.ptr + i * channels * es, product_pitch,
                                           pw + (group * filters + i) * channels * r * r * es)


cdef void multiply_tiles(const fnn_ukernels *uk, Py_ssize_t channels, Py_ssize_t filters, Py_ssize_t tiles,
                         Py_ssize_t k, const char *vx, const char *vy, Py_ssize_t row, char *products,
                         bint accumulate) noexcept nogil:
    """Rows [k, k + GRADIENT_ROWS) of the product of one point, [filter][channel], along the tiles."""
    cdef Py_ssize_t es = uk.gemm.itemsize
    uk.gemm.dot(min(<Py_ssize_t>GRADIENT_ROWS, filters - k), channels, tiles, vy + k * row * es, row, vx, row,
                products + k * channels * es, channels, NULL, FNN_ACCUMULATE if accumulate else 0)
