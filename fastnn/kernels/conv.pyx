"""Convolution, forward and both gradients, as one machine: a correlation of an image with a list of taps.

A `Correlation` says: result (u, v) of filter m is the sum over channels and taps of weight * source at row
u*sy + top + row_tap, column v*sx + left + col_tap. Forward is that directly. The gradient of the input is the same
with the kernel rotated by 180 degrees and filters and channels exchanged; for stride t it falls into t*t
correlations, one for every residue of the input position modulo t, each with the taps that meet it.

The correlation is a matrix product, filters x (channels, taps) times (channels, taps) x pixels, whose right operand
is never stored: a task copies the few source rows it needs into a zero-padded slab, columns sorted by residue modulo
the stride, so that every row of the operand is a handful of contiguous runs, and packs one panel after the other.
"""

cimport numpy as cnp
from cython.parallel cimport prange, threadid
from libc.string cimport memset

from fastnn.kernels.gemm cimport multiply_panel, pack_tiles, tile_count, tile_row
from fastnn.kernels.runtime cimport Scratch, data_or_null, scratch, table_of, threads_for
from fastnn.kernels.ukernels cimport FNN_ACCUMULATE, FNN_RELU, fnn_line, fnn_run, fnn_ukernels

cnp.import_array()

cdef enum:
    K_BLOCK = 256            # steps of the sum per block: a panel is 32 KiB at AVX-512
    MAX_SEGMENT = 1024       # longest run of result pixels
    RESULT_BYTES = 768 * 1024  # results a task keeps in the second-level cache while it sums over blocks
    COLUMNS_BYTES = 1024 * 1024  # explicit im2col: bytes of the column matrix of a task
    DW_ROWS = 96             # weight gradient: (channel, tap) pairs per task
    DW_PIXELS = 1024         # weight gradient: pixels per step
    DW_TASKS = 8             # weight gradient: fewer tasks than this are cut along the sum too


cdef void plan_lines(const Correlation *q, Plan *p) noexcept nogil:
    """All of the plan that does not depend on how many lines a task has."""
    cdef Py_ssize_t i
    p.depth = q.channels * q.row_taps * q.col_taps
    p.segments = ceil_div(q.ow, MAX_SEGMENT)
    p.segment = ceil_div(q.ow, p.segments)
    p.lines = q.images * q.oh * p.segments
    p.row_span = p.col_span = 1
    for i in range(q.row_taps):
        p.row_span = max(p.row_span, q.row_tap[i] + 1)
    for i in range(q.col_taps):
        p.col_span = max(p.col_span, q.col_tap[i] + 1)
    p.direct = (q.sx == 1 and q.top >= 0 and q.left >= 0 and q.top + (q.oh - 1) * q.sy + p.row_span <= q.h
                and q.left + q.ow - 1 + p.col_span <= q.w)
    p.residue_pitch = p.segment + (p.col_span - 1) // q.sx
    p.pitch = p.residue_pitch * q.sx


cdef void plan_task(const fnn_ukernels *uk, const Correlation *q, Plan *p, Py_ssize_t lines,
                    Py_ssize_t channels) noexcept nogil:
    """Room for tasks of so many lines and, in the slab, so many channels at once."""
    cdef Py_ssize_t pieces
    p.task_lines = min(lines, p.lines)
    p.task_pixels = p.task_lines * p.segment
    if p.direct:
        p.channel_pitch = q.h * q.w
        p.slab_bytes = 0
        return
    # lines of one image share source rows, unless a row has several
    pieces = p.task_lines if p.segments > 1 else (p.task_lines - 1 + q.oh - 1) // q.oh + 1
    pieces = min(pieces, p.task_lines)
    p.channel_pitch = p.pitch * (p.task_lines * q.sy + pieces * max(<Py_ssize_t>0, p.row_span - q.sy))
    p.slab_bytes = aligned((channels * p.channel_pitch + 2 * uk.gemm.nr) * uk.gemm.itemsize)


cdef Py_ssize_t block_channels(const Correlation *q, Py_ssize_t steps) noexcept nogil:
    """Most channels that a block of so many steps of the sum touches; it may begin and end amid one's taps."""
    return min(q.channels, (steps - 2) // (q.row_taps * q.col_taps) + 2)


cdef void tap_offsets(const Correlation *q, const Plan *p, Py_ssize_t *off) noexcept nogil:
    """off[k]: where the run of (channel, tap) k starts for a line that starts at 0."""
    cdef Py_ssize_t c, i, j, k = 0, row = q.w if p.direct else p.pitch
    for c in range(q.channels):
        for i in range(q.row_taps):
            for j in range(q.col_taps):
                # read in place (sx == 1), or columns sorted by residue
                off[k] = (c * p.channel_pitch + q.row_tap[i] * row + q.col_tap[j] % q.sx * p.residue_pitch
                          + q.col_tap[j] // q.sx)
                k = k + 1


cdef Py_ssize_t make_lines(const fnn_ukernels *uk, const Correlation *q, const Plan *p, Py_ssize_t first,
                           Py_ssize_t last, Py_ssize_t c0, Py_ssize_t c1, const char *x, char *slab,
                           fnn_line *lines) noexcept nogil:
    """Lines [first, last) of the result; copies the source rows of channels [c0, c1) they need into the slab
    (slab == NULL: lines only). x: the group's first channel. Returns the number of pixels."""
    cdef Py_ssize_t line, stop, image, u, segment, row = 0, pixels = 0, i
    line = first
    while line < last:
        segment = line % p.segments
        u = line // p.segments % q.oh
        image = line // (p.segments * q.oh)
        # a piece: lines that share source rows
        stop = min(last, line + (q.oh - u if p.segments == 1 else 1))
        for i in range(line, stop):
            lines[i - first].length = min(p.segment, q.ow - segment * p.segment)
            lines[i - first].y = image * q.y_image + (u + i - line) * q.y_row + segment * p.segment * q.y_col
            if p.direct:
                lines[i - first].start = ((image * q.groups * q.channels * q.h + (u + i - line) * q.sy + q.top) * q.w
                                          + segment * p.segment + q.left)
            else:
                lines[i - first].start = (row + (i - line) * q.sy) * p.pitch
            pixels = pixels + lines[i - first].length
        if not p.direct:
            if slab != NULL:
                fill_slab(uk, q, p, image, u * q.sy + q.top, (stop - line - 1) * q.sy + p.row_span,
                          segment * p.segment * q.sx + q.left, c0, c1, x, slab + row * p.pitch * uk.gemm.itemsize)
            row = row + (stop - line - 1) * q.sy + p.row_span
        line = stop
    return pixels


cdef bint is_used(Py_ssize_t residue, Py_ssize_t step, const Py_ssize_t *tap, Py_ssize_t taps) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(taps):
        if tap[i] % step == residue:
            return True
    return False


cdef void fill_slab(const fnn_ukernels *uk, const Correlation *q, const Plan *p, Py_ssize_t image, Py_ssize_t y0,
                    Py_ssize_t rows, Py_ssize_t x0, Py_ssize_t c0, Py_ssize_t c1, const char *x,
                    char *slab) noexcept nogil:
    """Source rows [y0, y0 + rows) from column x0 on, zero outside the image, columns sorted by residue modulo sx."""
    cdef Py_ssize_t es = uk.gemm.itemsize, c, r, s
    cdef const char *plane
    cdef char *dst
    for r in range(rows):
        if q.sy > 1 and not is_used(r % q.sy, q.sy, q.row_tap, q.row_taps):
            continue
        for c in range(c0, c1):
            dst = slab + ((c - c0) * p.channel_pitch + r * p.pitch) * es
            if y0 + r < 0 or y0 + r >= q.h:
                memset(dst, 0, p.pitch * es)
                continue
            plane = x + ((image * q.groups * q.channels + c) * q.h + y0 + r) * q.w * es
            for s in range(q.sx):
                if q.sx == 1 or is_used(s, q.sx, q.col_tap, q.col_taps):
                    uk.conv.gather_row(plane, q.w, x0 + s, q.sx, p.residue_pitch, dst + s * p.residue_pitch * es)


# ---- forward, and the gradient of the input ----


cdef void multiply_lines(const fnn_ukernels *uk, const Correlation *q, const fnn_line *lines, Py_ssize_t pixels,
                         Py_ssize_t t0, Py_ssize_t t1, Py_ssize_t kb, const char *packed, const char *src,
                         const Py_ssize_t *off, bint slack, char *y, const char *bias, int flags, char *panel,
                         char *tile) noexcept nogil:
    """All panels of a task for one block of the sum: pack, multiply, store or add."""
    cdef Py_ssize_t nr = uk.gemm.nr, es = uk.gemm.itemsize, tiles = tile_count(uk.gemm, q.filters)
    cdef Py_ssize_t done = 0, line = 0, used = 0, width, n, i, m, at
    cdef Py_ssize_t row0 = tile_row(t0, tiles, q.filters), row1 = tile_row(t1, tiles, q.filters)
    cdef fnn_run runs[64]       # nr is at most 32
    cdef Py_ssize_t place[64]
    cdef bint contiguous
    while done < pixels:
        width = 0
        n = 0
        contiguous = q.y_col == 1
        while width < nr and done + width < pixels:
            runs[n].start = lines[line].start + used
            runs[n].length = min(lines[line].length - used, nr - width)
            place[n] = lines[line].y + used * q.y_col
            if n > 0 and place[n] != place[0] + width:
                contiguous = False
            width = width + runs[n].length
            used = used + runs[n].length
            if used == lines[line].length:
                line = line + 1
                used = 0
            n = n + 1
        uk.gemm.pack_b(kb, src, off, n, runs, panel, nr, slack)
        if contiguous:
            multiply_panel(uk.gemm, t0, t1, q.filters, kb, packed, panel, nr, y + place[0] * es, q.y_filter, width,
                           bias, flags)
        else:
            if flags & FNN_ACCUMULATE:
                for m in range(row0, row1):
                    at = m * nr
                    for i in range(n):
                        uk.conv.gather_row(y + (m * q.y_filter + place[i]) * es, runs[i].length * q.y_col, 0, q.y_col,
                                           runs[i].length, tile + at * es)
                        at = at + runs[i].length
            multiply_panel(uk.gemm, t0, t1, q.filters, kb, packed, panel, nr, tile, nr, width, bias, flags)
            for m in range(row0, row1):
                at = m * nr
                for i in range(n):
                    uk.conv.put_row(tile + at * es, runs[i].length, y + (m * q.y_filter + place[i]) * es, q.y_col)
                    at = at + runs[i].length
        done = done + width


cdef void correlate_task(const fnn_ukernels *uk, const Correlation *q, const Plan *p, Py_ssize_t group,
                         Py_ssize_t line_task, Py_ssize_t t0, Py_ssize_t t1, const char *x, const char *packed,
                         const Py_ssize_t *off, const char *bias, char *y, int flags, bint explicit,
                         char *tmp) noexcept nogil:
    cdef Py_ssize_t es = uk.gemm.itemsize, nr = uk.gemm.nr, taps = q.row_taps * q.col_taps
    cdef Py_ssize_t first = line_task * p.task_lines, last = min(p.lines, first + p.task_lines)
    cdef fnn_line *lines = <fnn_line *>tmp
    cdef char *panel = tmp + aligned(p.task_lines * sizeof(fnn_line))
    cdef char *tile = panel + aligned((K_BLOCK * nr + nr) * es)
    cdef char *slab = tile + aligned(q.filters * nr * es)
    cdef char *columns = slab + p.slab_bytes
    cdef Py_ssize_t k, kb, c0, c1, pixels, i, at
    cdef const char *src
    x = x + group * q.channels * q.h * q.w * es
    y = y + group * q.filters * q.y_filter * es
    packed = packed + group * q.filters * p.depth * es
    if bias != NULL:
        bias = bias + group * q.filters * es
    k = 0
    while k < p.depth:
        kb = min(<Py_ssize_t>K_BLOCK, p.depth - k)
        c0 = k // taps
        c1 = (k + kb - 1) // taps + 1
        pixels = make_lines(uk, q, p, first, last, c0, c1, x, slab, lines)
        src = x if p.direct else slab - c0 * p.channel_pitch * es
        if explicit:
            src = write_columns(uk, lines, last - first, pixels, kb, src, off + k, not p.direct, columns)
            at = 0
            for i in range(last - first):
                lines[i].start = at
                at = at + lines[i].length
        multiply_lines(uk, q, lines, pixels, t0, t1, kb, packed + k * q.filters * es, src,
                       <const Py_ssize_t *>columns if explicit else off + k, explicit or not p.direct, y,
                       bias if k + kb == p.depth else NULL,
                       (flags & FNN_ACCUMULATE if k == 0 else FNN_ACCUMULATE)
                       | (flags & FNN_RELU if k + kb == p.depth else 0), panel, tile)
        k = k + kb


cdef const char *write_columns(const fnn_ukernels *uk, const fnn_line *lines, Py_ssize_t n, Py_ssize_t pixels,
                               Py_ssize_t kb, const char *src, const Py_ssize_t *off, bint slack,
                               char *columns) noexcept nogil:
    """Explicit im2col of a task: columns holds kb row offsets, then the runs, then the (kb, pixels) matrix returned."""
    cdef Py_ssize_t *row = <Py_ssize_t *>columns
    cdef fnn_run *runs = <fnn_run *>(row + K_BLOCK)
    cdef char *matrix = columns + aligned(K_BLOCK * sizeof(Py_ssize_t) + n * sizeof(fnn_run))
    cdef Py_ssize_t i
    for i in range(n):
        runs[i].start = lines[i].start
        runs[i].length = lines[i].length
    uk.gemm.pack_b(kb, src, off, n, runs, matrix, pixels, slack)
    for i in range(kb):
        row[i] = i * pixels
    return matrix


cdef int threads_of(const Correlation *q) noexcept nogil:
    cdef double depth = q.channels * q.row_taps * q.col_taps
    return threads_for(2 * depth * q.groups * q.filters * q.images * q.oh * q.ow, 0)


cdef Scratch pack_weights(const fnn_ukernels *uk, const Correlation *q, const char *w, Py_ssize_t w_filter,
                          Py_ssize_t w_channel, const Py_ssize_t *w_tap, Py_ssize_t w_group, int nt):
    """Filters as the register tiles of `correlate`: [group][block of the sum][register tile][step][row]. The weight of
    filter m, channel c and tap t of group g is at w[g*w_group + m*w_filter + c*w_channel + w_tap[t]]."""
    cdef Py_ssize_t es = uk.gemm.itemsize, taps = q.row_taps * q.col_taps, depth = q.channels * taps
    cdef Py_ssize_t tiles = tile_count(uk.gemm, q.filters), blocks = ceil_div(depth, K_BLOCK), i, g, k
    cdef Scratch packed = scratch(q.groups * q.filters * depth * es)
    cdef Scratch memory = scratch(depth * sizeof(Py_ssize_t))
    cdef Py_ssize_t *off = <Py_ssize_t *>memory.ptr
    with nogil:
        for i in range(depth):
            off[i] = i // taps * w_channel + w_tap[i % taps]
        for i in prange(q.groups * blocks, num_threads=nt, schedule="static"):
            g = i // blocks
            k = i % blocks * K_BLOCK
            pack_tiles(uk.gemm, 0, tiles, q.filters, min(<Py_ssize_t>K_BLOCK, depth - k), w + g * w_group * es,
                       w_filter, off + k, packed.ptr + (g * depth + k) * q.filters * es)
    return packed


cdef int correlate(const fnn_ukernels *uk, const Correlation *q, const char *x, const char *packed, const char *bias,
                   char *y, int flags, bint explicit, int nt) except -1:
    """y (+)= the correlation with the filters of pack_weights."""
    cdef Plan p
    cdef Py_ssize_t es = uk.gemm.itemsize, nr = uk.gemm.nr
    cdef Py_ssize_t tiles = tile_count(uk.gemm, q.filters), t, lines, tile_tasks, line_tasks, tmp_bytes, table_bytes
    plan_lines(q, &p)
    # lines of a task: results of one task stay in cache; every thread gets as many tasks as the others
    lines = max(<Py_ssize_t>1, (COLUMNS_BYTES // K_BLOCK if explicit else RESULT_BYTES // q.filters)
                // (es * p.segment))
    line_tasks = ceil_div(ceil_div(p.lines, lines), nt) * nt
    plan_task(uk, q, &p, ceil_div(p.lines, line_tasks), block_channels(q, K_BLOCK))
    line_tasks = ceil_div(p.lines, p.task_lines)
    tile_tasks = min(tiles, ceil_div(nt, line_tasks * q.groups))
    tmp_bytes = (aligned(p.task_lines * sizeof(fnn_line)) + aligned((K_BLOCK * nr + nr) * es)
                 + aligned(q.filters * nr * es) + p.slab_bytes)
    if explicit:
        tmp_bytes += aligned(K_BLOCK * sizeof(Py_ssize_t) + p.task_lines * sizeof(fnn_run))
        tmp_bytes += aligned((K_BLOCK * p.task_pixels + nr) * es)
    table_bytes = aligned(p.depth * sizeof(Py_ssize_t))
    cdef Scratch memory = scratch(table_bytes + nt * tmp_bytes)
    cdef Py_ssize_t *off = <Py_ssize_t *>memory.ptr
    cdef char *tmp = memory.ptr + table_bytes
    with nogil:
        tap_offsets(q, &p, off)
        for t in prange(q.groups * line_tasks * tile_tasks, num_threads=nt, schedule="dynamic"):
            correlate_task(uk, q, &p, t // (line_tasks * tile_tasks), t // tile_tasks % line_tasks,
                           tiles * (t % tile_tasks) // tile_tasks, tiles * (t % tile_tasks + 1) // tile_tasks,
                           x, packed, off, bias, y, flags, explicit, tmp + threadid() * tmp_bytes)
    return 0


cdef Py_ssize_t tap_table_bytes(desc) except -1:
    return (desc.r + desc.s + desc.r * desc.s) * sizeof(Py_ssize_t)


cdef void flatten_pointwise(Correlation *q) noexcept:
    """1x1, stride 1, no padding: an image is one long row."""
    if (q.row_taps * q.col_taps == 1 and q.sy == 1 and q.sx == 1 and q.top == 0 and q.left == 0 and q.h == q.oh
            and q.w == q.ow and q.y_col == 1 and q.y_row == q.ow):
        q.w = q.ow = q.y_row = q.h * q.w
        q.h = q.oh = 1


cdef int forward_correlation(Correlation *q, desc, Py_ssize_t *table) except -1:
    """The correlation that conv2d is; table: tap_table_bytes(desc) for its tap lists."""
    cdef Py_ssize_t i, dilation_y, dilation_x
    q.images, q.groups, q.channels, q.h, q.w = desc.n, desc.groups, desc.c // desc.groups, desc.h, desc.w
    q.filters, q.oh, q.ow = desc.k // desc.groups, desc.oh, desc.ow
    q.sy, q.sx = desc.stride
    q.top, q.left = -desc.padding[0], -desc.padding[2]
    q.row_taps, q.col_taps = desc.r, desc.s
    q.y_col, q.y_row, q.y_filter = 1, q.ow, q.oh * q.ow
    q.y_image = q.groups * q.filters * q.y_filter
    q.row_tap, q.col_tap = table, table + q.row_taps
    dilation_y, dilation_x = desc.dilation
    for i in range(q.row_taps):
        table[i] = i * dilation_y
    for i in range(q.col_taps):
        table[q.row_taps + i] = i * dilation_x
    flatten_pointwise(q)
    return 0


def prepare(cnp.ndarray w, desc):
    """The filters in the form conv2d_forward multiplies with; for every input and thread count, but one ISA level."""
    cdef const fnn_ukernels *uk = table_of(w)
    cdef Correlation q
    cdef Scratch memory = scratch(tap_table_bytes(desc))
    cdef Py_ssize_t *table = <Py_ssize_t *>memory.ptr
    forward_correlation(&q, desc, table)
    cdef Py_ssize_t i, taps = q.row_taps * q.col_taps
    cdef Py_ssize_t *w_tap = table + q.row_taps + q.col_taps
    for i in range(taps):
        w_tap[i] = i
    return pack_weights(uk, &q, <char *>cnp.PyArray_DATA(w), q.channels * taps, taps, w_tap,
                        q.filters * q.channels * taps, threads_of(&q))


def conv2d_forward(cnp.ndarray x, Scratch filters, b, cnp.ndarray y, desc, bint relu, bint explicit):
    """y = x correlated with the filters of `prepare`, + b, ReLU. explicit: store the column matrix (im2col) instead
    of packing on the fly."""
    cdef Correlation q
    cdef Scratch memory = scratch(tap_table_bytes(desc))
    forward_correlation(&q, desc, <Py_ssize_t *>memory.ptr)
    correlate(table_of(x), &q, <char *>cnp.PyArray_DATA(x), filters.ptr,
              data_or_null(b), <char *>cnp.PyArray_DATA(y),
              FNN_RELU if relu else 0, explicit, threads_of(&q))


cdef Py_ssize_t residue_taps(Py_ssize_t at, Py_ssize_t taps, Py_ssize_t stride, Py_ssize_t dilation, Py_ssize_t *tap,
                             Py_ssize_t *index, Py_ssize_t *lowest) noexcept nogil:
    """One axis of the input's gradient. The padded input positions at + u*stride meet kernel element i if
    at - i*dilation is a multiple of the stride, and there result u + (at - i*dilation)/stride. Writes these offsets,
    counted from the lowest, and the i; returns how many."""
    cdef Py_ssize_t i, n = 0
    lowest[0] = 0
    for i in range(taps - 1, -1, -1):     # rot180: falling i, rising offset
        if (at - i * dilation) % stride == 0:
            tap[n] = (at - i * dilation) // stride
            index[n] = i
            if n == 0:
                lowest[0] = tap[0]
            tap[n] = tap[n] - lowest[0]
            n += 1
    return n


cdef Py_ssize_t input_table_bytes(desc) except -1:
    return (2 * (desc.r + desc.s) + desc.r * desc.s) * sizeof(Py_ssize_t)


cdef bint input_correlation(Correlation *q, desc, Py_ssize_t y0, Py_ssize_t x0, Py_ssize_t *table,
                            Py_ssize_t **w_tap) except -1:
    cdef Py_ssize_t height = desc.h, width = desc.w, r = desc.r, s = desc.s, stride_y, stride_x, dilation_y, dilation_x
    cdef Py_ssize_t *row_tap = table
    cdef Py_ssize_t *row_index = row_tap + r
    cdef Py_ssize_t *col_tap = row_index + r
    cdef Py_ssize_t *col_index = col_tap + s
    cdef Py_ssize_t i, j
    stride_y, stride_x = desc.stride
    dilation_y, dilation_x = desc.dilation
    q.images, q.groups, q.channels, q.filters = desc.n, desc.groups, desc.k // desc.groups, desc.c // desc.groups
    q.h, q.w = desc.oh, desc.ow
    q.oh, q.ow = ceil_div(height - y0, stride_y), ceil_div(width - x0, stride_x)
    q.sy = q.sx = 1
    q.y_filter = height * width
    q.y_image = q.groups * q.filters * q.y_filter
    q.y_row, q.y_col = stride_y * width, stride_x
    q.row_tap, q.col_tap = row_tap, col_tap
    q.row_taps = residue_taps(y0 + <Py_ssize_t>desc.padding[0], r, stride_y, dilation_y, row_tap, row_index, &q.top)
    q.col_taps = residue_taps(x0 + <Py_ssize_t>desc.padding[2], s, stride_x, dilation_x, col_tap, col_index, &q.left)
    w_tap[0] = col_index + s
    for i in range(q.row_taps):
        for j in range(q.col_taps):
            w_tap[0][i * q.col_taps + j] = row_index[i] * s + col_index[j]
    flatten_pointwise(q)
    return q.row_taps > 0 and q.col_taps > 0


cdef int fill_residue(const fnn_ukernels *uk, const Correlation *q, const char *bias, char *y) except -1:
    """The pixels of a residue that no tap meets: the bias, or zero."""
    cdef Py_ssize_t es = uk.gemm.itemsize, filters = q.groups * q.filters, i, u
    cdef Scratch row = scratch(q.ow * es)
    for i in range(q.images * filters):
        uk.conv.tap_row(q.ow, row.ptr, 0, NULL, NULL, bias + i % filters * es if bias != NULL else NULL, 0, row.ptr)
        for u in range(q.oh):
            uk.conv.put_row(row.ptr, q.ow, y + (i * q.y_filter + u * q.y_row) * es, q.y_col)
    return 0


def conv2d_backward_data(cnp.ndarray dy, cnp.ndarray w, cnp.ndarray dx, desc, b=None):
    """dx = dy, dilated with zeros by the stride, fully correlated with w rotated by 180 degrees; + b a channel, for
    those to whom this is the forward pass (transposed convolution)."""
    cdef const fnn_ukernels *uk = table_of(dy)
    cdef Correlation q
    cdef Py_ssize_t es = uk.gemm.itemsize, width = desc.w, height = desc.h, taps = desc.r * desc.s
    cdef Py_ssize_t stride_y, stride_x, y0, x0
    cdef Py_ssize_t *w_tap
    cdef Scratch packed, memory = scratch(input_table_bytes(desc))
    cdef const char *bias = data_or_null(b)
    cdef char *out
    cdef int nt
    stride_y, stride_x = desc.stride
    for y0 in range(min(stride_y, height)):
        for x0 in range(min(stride_x, width)):
            out = <char *>cnp.PyArray_DATA(dx) + (y0 * width + x0) * es
            if not input_correlation(&q, desc, y0, x0, <Py_ssize_t *>memory.ptr, &w_tap):
                fill_residue(uk, &q, bias, out)
                continue
            nt = threads_of(&q)
            packed = pack_weights(uk, &q, <char *>cnp.PyArray_DATA(w), taps, q.filters * taps, w_tap,
                                  q.channels * q.filters * taps, nt)
            correlate(uk, &q, <char *>cnp.PyArray_DATA(dy), packed.ptr, bias, out, 0, False, nt)


# ---- the gradient of the weights ----


cdef void weight_task(const fnn_ukernels *uk, const Correlation *q, const Plan *p, Py_ssize_t group, Py_ssize_t k,
                      Py_ssize_t first, Py_ssize_t last, const char *x, const Py_ssize_t *off, const char *dy,
                      char *dw, char *tmp) noexcept nogil:
    """dw[filters][k : k + DW_ROWS] of a group, summed over lines [first, last)."""
    cdef Py_ssize_t es = uk.gemm.itemsize, taps = q.row_taps * q.col_taps, kb = min(<Py_ssize_t>DW_ROWS, p.depth - k)
    cdef Py_ssize_t c0 = k // taps, c1 = (k + kb - 1) // taps + 1, line, stop, pixels, pitch, i, plane = q.oh * q.ow
    cdef fnn_line *lines = <fnn_line *>tmp
    cdef fnn_run *runs = <fnn_run *>(tmp + aligned(p.task_lines * sizeof(fnn_line)))
    cdef Py_ssize_t *dy_off = <Py_ssize_t *>(<char *>runs + aligned(p.task_lines * sizeof(fnn_run)))
    cdef char *slab = <char *>dy_off + aligned(q.filters * sizeof(Py_ssize_t))
    cdef char *columns = slab + p.slab_bytes
    cdef char *dy_packed = columns + aligned((DW_ROWS * (p.task_pixels + 32) + uk.gemm.nr) * es)
    cdef const char *src
    cdef int flags = 0
    x = x + group * q.channels * q.h * q.w * es
    dy = dy + group * q.filters * plane * es
    dw = dw + (group * q.filters * p.depth + k) * es
    for i in range(q.filters):
        dy_off[i] = i * plane
    line = first
    while line < last:
        stop = min(last, line + p.task_lines)
        pixels = make_lines(uk, q, p, line, stop, c0, c1, x, slab, lines)
        for i in range(stop - line):
            runs[i].start = lines[i].start
            runs[i].length = lines[i].length
        src = x if p.direct else slab - c0 * p.channel_pitch * es
        # rows a cache line apart from alignment with each other: whole lines are read, from different sets
        pitch = (pixels + 15) // 16 * 16 + 16
        uk.gemm.pack_b(kb, src, off + k, stop - line, runs, columns, pitch, not p.direct)
        for i in range(stop - line):
            runs[i].start = lines[i].y
        uk.gemm.pack_b(q.filters, dy, dy_off, stop - line, runs, dy_packed, pitch, False)
        uk.gemm.dot(q.filters, kb, pixels, dy_packed, pitch, columns, pitch, dw, p.depth, NULL, flags)
        flags = FNN_ACCUMULATE
        line = stop


def conv2d_backward_weight(cnp.ndarray x, cnp.ndarray dy, cnp.ndarray dw, desc):
    """dw = x correlated with dy, summed over the batch."""
    cdef const fnn_ukernels *uk = table_of(dy)
    cdef Correlation q
    cdef Plan p
    cdef Scratch tap_memory = scratch(tap_table_bytes(desc))
    forward_correlation(&q, desc, <Py_ssize_t *>tap_memory.ptr)
    cdef Py_ssize_t es = uk.gemm.itemsize, i, t
    plan_lines(&q, &p)
    plan_task(uk, &q, &p, max(<Py_ssize_t>1, DW_PIXELS // p.segment), block_channels(&q, DW_ROWS))
    cdef Py_ssize_t row_tasks = ceil_div(p.depth, DW_ROWS), steps = ceil_div(p.lines, p.task_lines)
    # few rows of dw: cut the sum over pixels too, into parts that depend on the problem alone, added in order
    cdef Py_ssize_t parts = min(steps, ceil_div(DW_TASKS, row_tasks * q.groups))
    cdef Py_ssize_t part_lines = ceil_div(steps, parts) * p.task_lines
    parts = ceil_div(p.lines, part_lines)
    cdef Py_ssize_t tasks = q.groups * row_tasks * parts, size = q.groups * q.filters * p.depth
    cdef Py_ssize_t tmp_bytes = (aligned(p.task_lines * sizeof(fnn_line)) + aligned(p.task_lines * sizeof(fnn_run))
                                 + aligned(q.filters * sizeof(Py_ssize_t)) + p.slab_bytes
                                 + aligned((DW_ROWS * (p.task_pixels + 32) + uk.gemm.nr) * es)
                                 + aligned((q.filters * (p.task_pixels + 32) + uk.gemm.nr) * es))
    cdef Py_ssize_t table_bytes = aligned(p.depth * sizeof(Py_ssize_t)), parts_bytes = aligned((parts - 1) * size * es)
    cdef int nt = threads_for(2. * size * p.lines * p.segment, 0)
    cdef Scratch memory = scratch(table_bytes + parts_bytes + nt * tmp_bytes)
    cdef Py_ssize_t *off = <Py_ssize_t *>memory.ptr
    cdef char *partial = memory.ptr + table_bytes
    cdef char *tmp = partial + parts_bytes
    cdef const char *px = <const char *>cnp.PyArray_DATA(x)
    cdef const char *pdy = <const char *>cnp.PyArray_DATA(dy)
    cdef char *pdw = <char *>cnp.PyArray_DATA(dw)
    with nogil:
        tap_offsets(&q, &p, off)
        for t in prange(tasks, num_threads=nt, schedule="dynamic"):
            weight_task(uk, &q, &p, t // (row_tasks * parts), t // parts % row_tasks * DW_ROWS,
                        t % parts * part_lines, min(p.lines, (t % parts + 1) * part_lines), px, off, pdy,
                        pdw if t % parts == 0 else partial + (t % parts - 1) * size * es,
                        tmp + threadid() * tmp_bytes)
        for i in range(parts - 1):
            uk.conv.scatter_row(partial + i * size * es, size, pdw, size, 0, 1)


# ---- im2col, col2im ----


def im2col(cnp.ndarray x, cnp.ndarray cols, desc):
    """cols[n, (c, i, j), (u, v)] = x[n, c, u*sy - top + i*dy, v*sx - left + j*dx], zero outside the image."""
    cdef const fnn_ukernels *uk = table_of(x)
    cdef const char *src = <const char *>cnp.PyArray_DATA(x)
    cdef char *dst = <char *>cnp.PyArray_DATA(cols)
    cdef Py_ssize_t planes = desc.n * desc.c, h = desc.h, w = desc.w, r = desc.r, s = desc.s, oh = desc.oh, ow = desc.ow
    cdef Py_ssize_t sy, sx, dy, dx, top = desc.padding[0], left = desc.padding[2], t
    sy, sx = desc.stride
    dy, dx = desc.dilation
    cdef double nbytes = 2. * planes * r * s * oh * ow * uk.gemm.itemsize
    for t in prange(planes * r * s, nogil=True, num_threads=threads_for(0, nbytes), schedule="static"):
        im2col_row(uk, src + t // (r * s) * h * w * uk.gemm.itemsize, h, w, t // s % r * dy - top, sy,
                   t % s * dx - left, sx, oh, ow, dst + t * oh * ow * uk.gemm.itemsize)


cdef void im2col_row(const fnn_ukernels *uk, const char *plane, Py_ssize_t h, Py_ssize_t w, Py_ssize_t y0,
                     Py_ssize_t sy, Py_ssize_t x0, Py_ssize_t sx, Py_ssize_t oh, Py_ssize_t ow,
                     char *row) noexcept nogil:
    cdef Py_ssize_t es = uk.gemm.itemsize, u, y
    for u in range(oh):
        y = y0 + u * sy
        if 0 <= y < h:
            uk.conv.gather_row(plane + y * w * es, w, x0, sx, ow, row + u * ow * es)
        else:
            memset(row + u * ow * es, 0, ow * es)


def col2im(cnp.ndarray cols, cnp.ndarray x, desc):
    """The adjoint of im2col: x is overwritten with the sums of the columns' elements at their places of origin."""
    cdef const fnn_ukernels *uk = table_of(x)
    cdef const char *src = <const char *>cnp.PyArray_DATA(cols)
    cdef char *dst = <char *>cnp.PyArray_DATA(x)
    cdef Py_ssize_t es = uk.gemm.itemsize, planes = desc.n * desc.c, h = desc.h, w = desc.w, r = desc.r, s = desc.s
    cdef Py_ssize_t sy, sx, dy, dx, top = desc.padding[0], left = desc.padding[2], oh = desc.oh, ow = desc.ow, t
    sy, sx = desc.stride
    dy, dx = desc.dilation
    cdef double nbytes = 3. * planes * r * s * oh * ow * es
    for t in prange(planes, nogil=True, num_threads=threads_for(0, nbytes), schedule="static"):
        col2im_plane(uk, src + t * r * s * oh * ow * es, h, w, r, s, -top, sy, dy, -left, sx, dx, oh, ow,
                     dst + t * h * w * es)


cdef void col2im_plane(const fnn_ukernels *uk, const char *rows, Py_ssize_t h, Py_ssize_t w, Py_ssize_t r,
                       Py_ssize_t s, Py_ssize_t y0, Py_ssize_t sy, Py_ssize_t dy, Py_ssize_t x0, Py_ssize_t sx,
                       Py_ssize_t dx, Py_ssize_t oh, Py_ssize_t ow, char *plane) noexcept nogil:
    cdef Py_ssize_t es = uk.gemm.itemsize, i, j, u, y
    memset(plane, 0, h * w * es)
    for i in range(r):
        for j in range(s):
            for u in range(oh):
                y = y0 + i * dy + u * sy
                if 0 <= y < h:
                    uk.conv.scatter_row(rows, ow, plane + y * w * es, w, x0 + j * dx, sx)
                rows = rows + ow * es
