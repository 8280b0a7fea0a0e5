"""3x3 convolution by Winograd's minimal filtering, F(2x2, 3x3) and F(4x4, 3x3); float32, stride 1, no dilation.

A tile of m x m results needs (m+2)^2 products instead of 9 m^2: 4/9 of them for m = 2, 1/4 for m = 4. Tiles are a
correlation with stride m and (m+2)^2 taps, so the slab of `conv` serves them as it is: columns sorted by residue
modulo m make equal elements of neighbouring tiles neighbours. (A row of tiles must be one line of the plan, at most
conv.MAX_SEGMENT tiles: `ops.conv.winograd_declines` sees to it.) A task transforms its tiles, channel by channel,
into panels, multiplies them with the transformed filters, one product for each of the (m+2)^2 positions, and
transforms back into the result.
"""

cimport numpy as cnp
from cython.parallel cimport prange, threadid

from fastnn.kernels.conv cimport (
    Correlation, Plan, aligned, ceil_div, forward_correlation, input_correlation, input_table_bytes, make_lines,
    plan_lines, plan_task, tap_offsets, tap_table_bytes,
)
from fastnn.kernels.gemm cimport multiply_panel, tile_count, tile_row
from fastnn.kernels.runtime cimport Scratch, data_or_null, scratch, table_of, threads_for
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
    GRADIENT_ROWS = 96       # weight gradient: filters a task
    STAGGER = 80             # elements between the matrices of two points; see `staggered`


cdef inline Py_ssize_t staggered(Py_ssize_t elements) noexcept nogil:
    """Distance of the matrices of neighbouring points. Transforms write or read all points of a tile at once: an odd
    number of cache lines more than a power of two keeps these (m + 2)^2 lines in different sets of the cache."""
    return (elements + 1023) // 1024 * 1024 + STAGGER


cdef struct Tiling:
    int m                                # results of a tile along each axis
    Py_ssize_t points                    # (m + 2)^2
    Py_ssize_t tile_columns              # tiles of a tile row
    Py_ssize_t tiles                     # of all images
    Py_ssize_t task_tiles                # most tiles of a task
    Py_ssize_t panels                    # most panels of a task
    Py_ssize_t oh, ow, y_row             # of the result in pixels
    Correlation tile                     # reads tiles: one "pixel" a tile
    Plan plan
    Py_ssize_t v_pitch, product_pitch    # between points, of tiles and products
    Py_ssize_t lines_bytes, runs_bytes, v_bytes, tmp_bytes


cdef void make_grid(const Correlation *q, int m, const Py_ssize_t *taps, Py_ssize_t reach, Tiling *t) noexcept nogil:
    """Tiles of m x m results of q as a correlation that reads reach x reach source elements a tile."""
    t.m = m
    t.points = (m + 2) * (m + 2)
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


cdef void make_tiling(const fnn_ukernels *uk, const Correlation *q, int m, const Py_ssize_t *taps, int nt,
                      Tiling *t) noexcept nogil:
    cdef Py_ssize_t nr = uk.gemm.nr, es = uk.gemm.itemsize, tasks, panels, panel_bytes
    make_grid(q, m, taps, m + 2, t)
    # whole panels a task, as many tasks for every thread
    panel_bytes = t.points * (q.channels + q.filters) * es * nr
    panels = TASK_BYTES // panel_bytes
    if t.points * q.channels * q.filters * es > FILTER_BYTES:
        panels = max(panels, min(<Py_ssize_t>FEW_PANELS, MOST_BYTES // panel_bytes))
    panels = min(max(panels, <Py_ssize_t>1), <Py_ssize_t>MAX_PANELS)
    tasks = ceil_div(ceil_div(t.tiles, panels * nr), nt) * nt
    plan_tiles(uk, ceil_div(ceil_div(t.tiles, tasks), nr) * nr, t)
    t.v_pitch = staggered(t.panels * q.channels * nr)
    t.product_pitch = staggered(t.panels * q.filters * nr)
    t.v_bytes = aligned(t.points * t.v_pitch * es)
    t.tmp_bytes = (t.lines_bytes + t.runs_bytes + t.plan.slab_bytes + t.v_bytes
                   + aligned(t.points * t.product_pitch * es))


cdef void transform_filters(const fnn_ukernels *uk, int m, const Correlation *q, Py_ssize_t tile, const char *w,
                            Py_ssize_t w_filter, Py_ssize_t w_channel, const Py_ssize_t *w_tap,
                            char *packed) noexcept nogil:
    """One register tile of transformed filters: packed[point][block of channels][register tile][channel][row]."""
    cdef Py_ssize_t es = uk.gemm.itemsize, c, k, kb, pitch = staggered(q.channels * q.filters)
    cdef Py_ssize_t tiles = tile_count(uk.gemm, q.filters), row = tile_row(tile, tiles, q.filters)
    cdef Py_ssize_t rows = tile_row(tile + 1, tiles, q.filters) - row
    for c in range(q.channels):
        k = c // K_BLOCK * K_BLOCK
        kb = min(<Py_ssize_t>K_BLOCK, q.channels - k)
        uk.winograd.filter(m, rows, w + (row * w_filter + c * w_channel) * es, w_filter, w_tap,
                           packed + (k * q.filters + row * kb + (c - k) * rows) * es, pitch)


cdef int threads_of(const Correlation *q) noexcept nogil:
    return threads_for(4. * q.groups * q.filters * q.channels * q.images * q.oh * q.ow, 0)


cdef Scratch pack_weights(const fnn_ukernels *uk, int m, const Correlation *q, const char *w, Py_ssize_t w_filter,
                          Py_ssize_t w_channel, const Py_ssize_t *w_tap, Py_ssize_t w_group, int nt):
    """Transformed filters; arguments as for conv.pack_weights."""
    cdef Py_ssize_t es = uk.gemm.itemsize, tiles = tile_count(uk.gemm, q.filters), i
    cdef Py_ssize_t group_bytes = (m + 2) * (m + 2) * staggered(q.channels * q.filters) * es
    cdef Scratch packed = scratch(q.groups * group_bytes)
    for i in prange(q.groups * tiles, nogil=True, num_threads=nt, schedule="static"):
        transform_filters(uk, m, q, i % tiles, w + i // tiles * w_group * es, w_filter, w_channel, w_tap,
                          packed.ptr + i // tiles * group_bytes)
    return packed


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


cdef void winograd_task(const fnn_ukernels *uk, const Tiling *t, Py_ssize_t group, Py_ssize_t first, Py_ssize_t t0,
                        Py_ssize_t t1, const char *x, const char *packed, const Py_ssize_t *off, const char *bias,
                        char *y, int flags, char *tmp) noexcept nogil:
    """Tiles [first, first + task_tiles) for the filters of register tiles [t0, t1)."""
    cdef Py_ssize_t nr = uk.gemm.nr, es = uk.gemm.itemsize, channels = t.tile.channels, filters = t.tile.filters
    cdef Py_ssize_t tiles = min(t.task_tiles, t.tiles - first), panels = ceil_div(tiles, nr)
    cdef Py_ssize_t width, panel, x0, c, k, kb, block, filter_pitch = staggered(channels * filters)
    cdef Py_ssize_t line0 = first // t.tile_columns, line1 = ceil_div(first + tiles, t.tile_columns), c0, c1
    cdef Py_ssize_t row0 = tile_row(t0, tile_count(uk.gemm, filters), filters)
    cdef Py_ssize_t row1 = tile_row(t1, tile_count(uk.gemm, filters), filters), rows = row1 - row0
    cdef fnn_line *lines = <fnn_line *>tmp
    cdef fnn_run *runs = <fnn_run *>(tmp + t.lines_bytes)
    cdef fnn_tile_run *places = <fnn_tile_run *>(runs + t.panels * MAX_PANEL)
    cdef char *slab = tmp + t.lines_bytes + t.runs_bytes
    cdef char *v = slab + t.plan.slab_bytes              # [point][panel][channel][nr]
    cdef char *products = v + t.v_bytes                  # [point][panel][filter][nr]
    cdef Py_ssize_t counts[MAX_PANELS]
    x = x + group * channels * t.tile.h * t.tile.w * es
    y = y + group * filters * t.tile.y_filter * es
    packed = packed + group * t.points * filter_pitch * es
    if bias != NULL:
        bias = bias + group * filters * es
    for block in range(ceil_div(channels, SLAB_CHANNELS)):
        c0 = block * SLAB_CHANNELS
        c1 = min(channels, c0 + SLAB_CHANNELS)
        make_lines(uk, &t.tile, &t.plan, line0, line1, c0, c1, x, slab, lines)
        if c0 == 0:
            cut_panels(uk, t, lines, line0, first - line0 * t.tile_columns, tiles, runs, places, counts)
        for panel in range(panels):
            for c in range(c0, c1):
                uk.winograd.input(t.m, slab + (c - c0) * t.plan.channel_pitch * es, off, counts[panel],
                                  runs + panel * MAX_PANEL, v + (panel * channels + c) * nr * es, t.v_pitch)
    for x0 in range(t.points):
        for block in range(ceil_div(channels, K_BLOCK)):
            k = block * K_BLOCK
            kb = min(<Py_ssize_t>K_BLOCK, channels - k)
            for panel in range(panels):
                multiply_panel(uk.gemm, t0, t1, filters, kb, packed + (x0 * filter_pitch + k * filters) * es,
                               v + (x0 * t.v_pitch + (panel * channels + k) * nr) * es, nr,
                               products + (x0 * t.product_pitch + (panel * rows - row0) * nr) * es, nr, nr, NULL,
                               FNN_ACCUMULATE if k > 0 else 0)
    for panel in range(panels):
        width = min(nr, tiles - panel * nr)
        for k in range(row0, row1):
            uk.winograd.output(t.m, width, products + (panel * rows + k - row0) * nr * es, t.product_pitch,
                               bias + k * es if bias != NULL else NULL, flags, counts[panel],
                               places + panel * MAX_PANEL, y + k * t.tile.y_filter * es, t.y_row)


cdef int winograd(const fnn_ukernels *uk, int m, const Correlation *q, const char *x, const char *packed,
                  const char *bias, char *y, int flags, int nt) except -1:
    """conv.correlate for a 3x3 kernel with stride 1 and taps 0, 1, 2, and the filters of pack_weights."""
    cdef Py_ssize_t register_tiles = tile_count(uk.gemm, q.filters), tasks, splits, i
    cdef Py_ssize_t[6] taps = [0, 1, 2, 3, 4, 5]
    cdef Tiling t
    make_tiling(uk, q, m, taps, nt, &t)
    tasks = ceil_div(t.tiles, t.task_tiles)
    # few tiles: share out the filters too
    splits = min(register_tiles, ceil_div(nt, tasks * q.groups))
    cdef Py_ssize_t table_bytes = aligned(q.channels * t.points * sizeof(Py_ssize_t))
    cdef Scratch memory = scratch(table_bytes + nt * t.tmp_bytes)
    cdef Py_ssize_t *off = <Py_ssize_t *>memory.ptr
    cdef char *tmp = memory.ptr + table_bytes
    with nogil:
        tap_offsets(&t.tile, &t.plan, off)
        for i in prange(q.groups * tasks * splits, num_threads=nt, schedule="dynamic"):
            winograd_task(uk, &t, i // (tasks * splits), i // splits % tasks * t.task_tiles,
                          register_tiles * (i % splits) // splits, register_tiles * (i % splits + 1) // splits, x,
                          packed, off, bias, y, flags, tmp + threadid() * t.tmp_bytes)
    return 0


def prepare(cnp.ndarray w, desc, int m):
    """conv.prepare for F(m x m, 3 x 3)."""
    cdef Correlation q
    cdef Scratch memory = scratch(tap_table_bytes(desc))
    cdef Py_ssize_t[9] taps = [0, 1, 2, 3, 4, 5, 6, 7, 8]
    forward_correlation(&q, desc, <Py_ssize_t *>memory.ptr)
    return pack_weights(table_of(w), m, &q, <char *>cnp.PyArray_DATA(w), q.channels * 9, 9, taps,
                        q.filters * q.channels * 9, threads_of(&q))


def conv2d_forward(cnp.ndarray x, Scratch filters, b, cnp.ndarray y, desc, bint relu, int m):
    """conv.conv2d_forward by F(m x m, 3 x 3)."""
    cdef Correlation q
    cdef Scratch memory = scratch(tap_table_bytes(desc))
    forward_correlation(&q, desc, <Py_ssize_t *>memory.ptr)
    winograd(table_of(x), m, &q, <char *>cnp.PyArray_DATA(x), filters.ptr,
             data_or_null(b), <char *>cnp.PyArray_DATA(y),
             FNN_RELU if relu else 0, threads_of(&q))


def conv2d_backward_data(cnp.ndarray dy, cnp.ndarray w, cnp.ndarray dx, desc, b=None, *, int m):
    """conv.conv2d_backward_data by F(m x m, 3 x 3)."""
    cdef const fnn_ukernels *uk = table_of(dy)
    cdef Correlation q
    cdef Py_ssize_t *w_tap
    cdef Scratch packed, memory = scratch(input_table_bytes(desc))
    input_correlation(&q, desc, 0, 0, <Py_ssize_t *>memory.ptr, &w_tap)
    cdef int nt = threads_of(&q)
    packed = pack_weights(uk, m, &q, <char *>cnp.PyArray_DATA(w), 9, q.filters * 9, w_tap,
                          q.channels * q.filters * 9, nt)
    winograd(uk, m, &q, <char *>cnp.PyArray_DATA(dy), packed.ptr,
             data_or_null(b), <char *>cnp.PyArray_DATA(dx), 0, nt)


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
                uk.winograd.output_adjoint(t.m, slab + (c - c0) * t.plan.channel_pitch * es, off, counts[panel],
                                           runs + panel * MAX_PANEL, dst, t.v_pitch)
            else:
                uk.winograd.input(t.m, slab + (c - c0) * t.plan.channel_pitch * es, off, counts[panel],
                                  runs + panel * MAX_PANEL, dst, t.v_pitch)


def conv2d_backward_weight(cnp.ndarray x, cnp.ndarray dy, cnp.ndarray dw, desc, *, int m):
    """conv.conv2d_backward_weight by transposed F(m x m, 3 x 3): the sum over pixels becomes one over tiles, a matrix
    product along the tiles for each of the (m+2)^2 points. Tiles are taken in chunks that depend on the problem alone.
    """
    cdef const fnn_ukernels *uk = table_of(x)
    cdef Correlation q, r
    cdef Tiling tx, ty
    cdef Py_ssize_t[6] taps = [0, 1, 2, 3, 4, 5]
    cdef Scratch table = scratch(tap_table_bytes(desc))
    forward_correlation(&q, desc, <Py_ssize_t *>table.ptr)
    r = q                                    # dy read as it is
    r.channels, r.h, r.w, r.top, r.left = q.filters, q.oh, q.ow, 0, 0
    make_grid(&q, m, taps, m + 2, &tx)
    make_grid(&r, m, taps, m, &ty)
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
                uk.winograd.filter_adjoint(m, channels, products.ptr + i * channels * es, product_pitch,
                                           pw + (group * filters + i) * channels * 9 * es)


cdef void multiply_tiles(const fnn_ukernels *uk, Py_ssize_t channels, Py_ssize_t filters, Py_ssize_t tiles,
                         Py_ssize_t k, const char *vx, const char *vy, Py_ssize_t row, char *products,
                         bint accumulate) noexcept nogil:
    """Rows [k, k + GRADIENT_ROWS) of the product of one point, [filter][channel], along the tiles."""
    cdef Py_ssize_t es = uk.gemm.itemsize
    uk.gemm.dot(min(<Py_ssize_t>GRADIENT_ROWS, filters - k), channels, tiles, vy + k * row * es, row, vx, row,
                products + k * channels * es, channels, NULL, FNN_ACCUMULATE if accumulate else 0)
