"""Convolution, forward and both gradients, as one machine: a correlation of an image with a list of taps.

A `Correlation` says: result (u, v) of filter m is the sum over channels and taps of weight * source at row
u*sy + top + row_tap, column v*sx + left + col_tap. Forward is that directly. The gradient of the input is the same
with the kernel rotated by 180 degrees and filters and channels exchanged; for stride t it falls into t*t
correlations, one for every residue of the input position modulo t, each with the taps that meet it.

The correlation is a matrix product, filters x (channels, taps) times (channels, taps) x pixels, whose right operand
is never stored: a task copies the few source rows it needs into a zero-padded slab, columns sorted by residue modulo
the stride, so that every row of the operand is a handful of contiguous runs. Register tiles read panels of it from
there, the first one packing a panel for the others.
"""

cimport numpy as cnp
from cython.parallel cimport prange, threadid
from libc.string cimport memcpy, memset

from fastnn.kernels.gemm cimport multiply_panel, pack_tiles, tile_count, tile_row
from fastnn.kernels.runtime cimport Scratch, cache_bytes, data_or_null, scratch, table_beside, table_of, threads_for
from fastnn.kernels.ukernels cimport FNN_ACCUMULATE, FNN_RELU, fnn_feed, fnn_line, fnn_run, fnn_ukernels

cnp.import_array()

cdef enum:
    K_BLOCK = 256            # steps of the sum per block: a panel is 32 KiB at AVX-512
    MAX_SEGMENT = 1024       # longest run of result pixels
    FEW_PANELS = 8           # pixels of a task at least, if there are so many: weights are read once a task
    COLUMNS_BYTES = 1024 * 1024  # explicit im2col: bytes of the column matrix of a task
    SLAB_BYTES = 8 << 20     # tasks have so few lines that their slab is smaller, unless one line's is larger
    CHUNK_ROWS = 96          # weight gradient: rows of a task
    CHUNK_PIXELS = 512       # weight gradient: pixels of a block of the sum,
    CHUNK_BYTES = 16 << 20   # or fewer, if the transposed operand would take more than this
    PARTS = 8                # weight gradient: so few tasks are cut along the sum instead, into so many,
    PART_BYTES = 512 * 1024  # if the gradient is so small


cdef void plan_lines(const Correlation *q, Plan *p) noexcept nogil:
    """All of the plan that does not depend on how many lines a task has."""
    cdef Py_ssize_t i
    p.depth = q.channels * q.row_taps * q.col_taps
    p.row_span = p.col_span = 1
    for i in range(q.row_taps):
        p.row_span = max(p.row_span, q.row_tap[i] + 1)
    for i in range(q.col_taps):
        p.col_span = max(p.col_span, q.col_tap[i] + 1)
    p.direct = (q.sx == 1 and q.top >= 0 and q.left >= 0 and q.top + (q.oh - 1) * q.sy + p.row_span <= q.h
                and q.left + q.ow - 1 + p.col_span <= q.w)
    plan_segments(q, p, MAX_SEGMENT)


cdef void plan_segments(const Correlation *q, Plan *p, Py_ssize_t longest) noexcept nogil:
    """Lines of at most so many pixels."""
    p.segments = ceil_div(q.ow, longest)
    p.segment = ceil_div(q.ow, p.segments)
    p.lines = q.images * q.oh * p.segments
    p.residue_pitch = p.segment + (p.col_span - 1) // q.sx
    p.pitch = p.residue_pitch * q.sx


cdef void plan_task(const fnn_ukernels *uk, const Correlation *q, Plan *p, Py_ssize_t lines,
                    Py_ssize_t channels) noexcept nogil:
    """Room for tasks of so many lines and, in the slab, so many channels at once."""
    cdef Py_ssize_t pieces, rows
    p.by_tap = False
    p.task_lines = min(lines, p.lines)
    p.task_pixels = p.task_lines * p.segment
    if p.direct:
        p.channel_pitch = q.h * q.w
        p.slab_bytes = 0
        return
    # lines of one image share source rows, unless a row has several
    pieces = p.task_lines if p.segments > 1 else (p.task_lines - 1 + q.oh - 1) // q.oh + 1
    pieces = min(pieces, p.task_lines)
    rows = p.task_lines * q.sy + pieces * max(<Py_ssize_t>0, p.row_span - q.sy)
    # a large slab leaves out the rows that dilation or stride skips
    if channels * p.pitch * rows * uk.gemm.itemsize > SLAB_BYTES and q.row_taps * p.task_lines < rows:
        p.by_tap = True
        rows = q.row_taps * p.task_lines
    p.channel_pitch = p.pitch * rows
    p.slab_bytes = aligned((channels * p.channel_pitch + 2 * uk.gemm.nr) * uk.gemm.itemsize)


cdef Py_ssize_t slab_lines(const fnn_ukernels *uk, const Correlation *q, const Plan *p,
                           Py_ssize_t channels) noexcept nogil:
    """Most lines whose source rows fit SLAB_BYTES; at least one."""
    if p.direct:
        return p.lines
    return max(<Py_ssize_t>1, SLAB_BYTES // (channels * p.pitch * max(q.sy, q.row_taps) * uk.gemm.itemsize))


cdef Py_ssize_t block_channels(const Correlation *q, Py_ssize_t steps) noexcept nogil:
    """Most channels that a block of so many steps of the sum touches; it may begin and end amid one's taps."""
    return min(q.channels, (steps - 2) // (q.row_taps * q.col_taps) + 2)


cdef void tap_offsets(const Correlation *q, const Plan *p, Py_ssize_t *off) noexcept nogil:
    """off[k]: where the run of (channel, tap) k starts for a line that starts at 0."""
    cdef Py_ssize_t c, i, j, k = 0, row = q.w if p.direct else p.pitch, at
    for c in range(q.channels):
        for i in range(q.row_taps):
            at = i * p.task_lines if p.by_tap else q.row_tap[i]
            for j in range(q.col_taps):
                # read in place (sx == 1), or columns sorted by residue
                off[k] = (c * p.channel_pitch + at * row + q.col_tap[j] % q.sx * p.residue_pitch
                          + q.col_tap[j] // q.sx)
                k = k + 1


cdef Py_ssize_t make_lines(const fnn_ukernels *uk, const Correlation *q, const Plan *p, Py_ssize_t first,
                           Py_ssize_t last, Py_ssize_t c0, Py_ssize_t c1, const char *x, char *slab,
                           fnn_line *lines) noexcept nogil:
    """Lines [first, last) of the result; copies the source rows of channels [c0, c1) they need into the slab
    (slab == NULL: lines only). x: the group's first channel. Returns the number of pixels."""
    cdef Py_ssize_t line, stop, image, u, segment, row = 0, pixels = 0, i, x0
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
            elif p.by_tap:
                lines[i - first].start = (i - first) * p.pitch
            else:
                lines[i - first].start = (row + (i - line) * q.sy) * p.pitch
            pixels = pixels + lines[i - first].length
        x0 = segment * p.segment * q.sx + q.left
        if p.by_tap:
            if slab != NULL:
                for i in range(q.row_taps):
                    fill_rows(uk, q, p, image, u * q.sy + q.top + q.row_tap[i], stop - line, x0, c0, c1, x,
                              slab + (i * p.task_lines + line - first) * p.pitch * uk.gemm.itemsize, 1)
        elif not p.direct:
            if slab != NULL:
                fill_slab(uk, q, p, image, u * q.sy + q.top, (stop - line - 1) * q.sy + p.row_span, x0, c0, c1, x,
                          slab + row * p.pitch * uk.gemm.itemsize)
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
    """Source rows [y0, y0 + rows) from column x0 on, but for those whose residue modulo sy no tap meets."""
    cdef Py_ssize_t r
    for r in range(min(rows, q.sy)):
        if q.sy == 1 or is_used(r, q.sy, q.row_tap, q.row_taps):
            fill_rows(uk, q, p, image, y0 + r, ceil_div(rows - r, q.sy), x0, c0, c1, x,
                      slab + r * p.pitch * uk.gemm.itemsize, q.sy)


cdef void fill_rows(const fnn_ukernels *uk, const Correlation *q, const Plan *p, Py_ssize_t image, Py_ssize_t y0,
                    Py_ssize_t rows, Py_ssize_t x0, Py_ssize_t c0, Py_ssize_t c1, const char *x, char *slab,
                    Py_ssize_t apart) noexcept nogil:
    """Source rows y0, y0 + sy, y0 + 2*sy, ... from column x0 on, `apart` rows apart in the slab: zero outside the
    image, columns sorted by residue modulo sx. Columns whose residues no tap meets are left out."""
    cdef Py_ssize_t es = uk.gemm.itemsize, pitch = p.pitch * es, c, r, s
    cdef Py_ssize_t top = min(rows, ceil_div(max(<Py_ssize_t>0, -y0), q.sy))
    cdef Py_ssize_t bottom = max(top, min(rows, ceil_div(q.h - y0, q.sy)))
    cdef const char *plane
    cdef char *dst
    for c in range(c0, c1):
        dst = slab + (c - c0) * p.channel_pitch * es
        for r in range(top):
            memset(dst + r * apart * pitch, 0, pitch)
        for r in range(bottom, rows):
            memset(dst + r * apart * pitch, 0, pitch)
        plane = x + ((image * q.groups * q.channels + c) * q.h + y0 + top * q.sy) * q.w * es
        for s in range(q.sx):
            if q.sx == 1 or is_used(s, q.sx, q.col_tap, q.col_taps):
                uk.conv.gather_rows(bottom - top, plane, q.sy * q.w, q.w, x0 + s, q.sx, p.residue_pitch,
                                    dst + top * apart * pitch + s * p.residue_pitch * es, apart * p.pitch)


# ---- forward, and the gradient of the input ----


cdef inline Py_ssize_t append(fnn_run *runs, Py_ssize_t n, Py_ssize_t start, Py_ssize_t length,
                              bint joins) noexcept nogil:
    """Add a run, to the one before it if it follows that in memory; returns how many there are."""
    if n > 0 and joins and runs[n - 1].start + runs[n - 1].length == start:
        runs[n - 1].length += length
        return n
    runs[n].start = start
    runs[n].length = length
    return n + 1


cdef void multiply_lines(const fnn_ukernels *uk, const Correlation *q, const fnn_line *lines, Py_ssize_t pixels,
                         Py_ssize_t t0, Py_ssize_t t1, Py_ssize_t kb, const char *packed, const char *src,
                         const Py_ssize_t *off, bint fetches, char *y, const char *bias, int flags, bint first,
                         bint last, char *panel, char *results, Py_ssize_t result_rows) noexcept nogil:
    """All panels of a task for one block of the sum and register tiles [t0, t1): pack, multiply, store or add.

    A panel whose place in y is not contiguous adds up in `results`, [panel][row][nr], from the first block to the last.
    fetches: the source is not in the cache yet."""
    cdef Py_ssize_t nr = uk.gemm.nr, es = uk.gemm.itemsize, tiles = tile_count(uk.gemm, q.filters)
    cdef Py_ssize_t done = 0, line = 0, used = 0, width, sources, places, length
    cdef Py_ssize_t row0 = tile_row(t0, tiles, q.filters), rows = tile_row(t1, tiles, q.filters) - row0
    cdef fnn_run source[64]       # nr is at most 32
    cdef fnn_run place[64]
    cdef fnn_feed feed
    feed.off = off
    feed.runs = source
    while done < pixels:
        width = sources = places = 0
        while width < nr and done + width < pixels:
            length = min(lines[line].length - used, nr - width)
            sources = append(source, sources, lines[line].start + used, length, True)
            places = append(place, places, lines[line].y + used * q.y_col, length, q.y_col == 1)
            width = width + length
            used = used + length
            if used == lines[line].length:
                line = line + 1
                used = 0
        feed.src = src
        feed.nruns = sources
        feed.next = NULL
        if fetches and done + width + nr <= pixels and lines[line].length - used >= nr:
            feed.next = src + (lines[line].start + used) * es
        if places == 1 and q.y_col == 1:
            multiply_panel(uk.gemm, t0, t1, q.filters, kb, packed, panel, nr, y + place[0].start * es, q.y_filter,
                           width, bias, flags, &feed)
        else:
            if first and flags & FNN_ACCUMULATE:
                take_rows(rows, results, nr * es, places, place, y + row0 * q.y_filter * es, q.y_filter * es, es)
            multiply_panel(uk.gemm, t0, t1, q.filters, kb, packed, panel, nr, results - row0 * nr * es, nr, width, bias,
                           flags, &feed)
            if last:
                uk.conv.put_rows(rows, results, nr, places, place, y + row0 * q.y_filter * es, q.y_filter, q.y_col)
        results = results + result_rows * nr * es
        done = done + width


cdef void take_rows(Py_ssize_t rows, char *dst, Py_ssize_t dst_pitch, Py_ssize_t n, const fnn_run *runs,
                    const char *src, Py_ssize_t src_pitch, Py_ssize_t es) noexcept nogil:
    """The opposite of put_rows, for results whose columns follow each other; pitches in bytes."""
    cdef Py_ssize_t row, i, at
    for row in range(rows):
        at = 0
        for i in range(n):
            memcpy(dst + row * dst_pitch + at, src + row * src_pitch + runs[i].start * es, runs[i].length * es)
            at = at + runs[i].length * es


cdef struct Cut:
    Py_ssize_t steps               # of the sum, in a block
    Py_ssize_t group_tiles         # register tiles whose weights stay in the second-level cache for a block
    Py_ssize_t line_tasks, tile_tasks
    Py_ssize_t rows                # most filters of a tile task
    bint scatters                  # a panel's place in the result may not be contiguous
    bint packs                     # a task packs its own weights, which no other one needs
    Py_ssize_t lines_bytes, panel_bytes, results_bytes, weights_bytes, columns_bytes, tmp_bytes


cdef Py_ssize_t block_steps(Py_ssize_t depth) noexcept nogil:
    """Equal blocks of at most K_BLOCK steps."""
    return ceil_div(depth, ceil_div(depth, K_BLOCK))


cdef void cut_work(const fnn_ukernels *uk, const Correlation *q, bint packed, bint explicit, int nt, Plan *p,
                   Cut *cut) noexcept nogil:
    """Tasks of lines and filters. Their results, a block of their weights, and their slab share the second-level cache;
    if that takes few tasks, there are as many for every thread."""
    cdef Py_ssize_t es = uk.gemm.itemsize, nr = uk.gemm.nr, tiles = tile_count(uk.gemm, q.filters), lines, pixels
    plan_lines(q, p)
    cut.steps = block_steps(p.depth)
    pixels = max(cache_bytes // 3 // (q.filters * es), FEW_PANELS * nr)
    if explicit:
        pixels = min(pixels, COLUMNS_BYTES // (K_BLOCK * es))
    lines = min(max(<Py_ssize_t>1, pixels // p.segment), slab_lines(uk, q, p, block_channels(q, cut.steps)))
    cut.line_tasks = ceil_div(p.lines, lines)
    if p.lines * p.segment >= nt * FEW_PANELS * nr:
        cut.line_tasks = ceil_div(cut.line_tasks, nt) * nt
    plan_task(uk, q, p, ceil_div(p.lines, cut.line_tasks), block_channels(q, cut.steps))
    cut.line_tasks = ceil_div(p.lines, p.task_lines)
    cut.tile_tasks = min(tiles, ceil_div(nt, cut.line_tasks * q.groups))
    cut.rows = ceil_div(tiles, cut.tile_tasks) * uk.gemm.mr
    cut.group_tiles = max(<Py_ssize_t>1, cache_bytes // 4 // (uk.gemm.mr * cut.steps * es))
    cut.packs = not packed and cut.line_tasks == 1
    cut.scatters = q.y_col != 1 or q.y_row != q.ow or q.images > 1
    cut.lines_bytes = aligned(p.task_lines * sizeof(fnn_line))
    cut.panel_bytes = aligned((cut.steps * nr + nr) * es)
    cut.results_bytes = aligned(ceil_div(p.task_pixels, nr) * nr * cut.rows * es) if cut.scatters else 0
    cut.weights_bytes = aligned(min(cut.group_tiles * uk.gemm.mr, cut.rows) * cut.steps * es) if cut.packs else 0
    cut.columns_bytes = 0
    if explicit:
        cut.columns_bytes = (aligned(K_BLOCK * sizeof(Py_ssize_t) + p.task_lines * sizeof(fnn_run))
                             + aligned((K_BLOCK * p.task_pixels + nr) * es))
    cut.tmp_bytes = (cut.lines_bytes + cut.panel_bytes + cut.results_bytes + cut.weights_bytes + p.slab_bytes
                     + cut.columns_bytes)


cdef void correlate_task(const fnn_ukernels *uk, const Correlation *q, const Plan *p, const Cut *cut, Py_ssize_t group,
                         Py_ssize_t line_task, Py_ssize_t tile_task, const char *x, const Weights *w,
                         const char *packed, const Py_ssize_t *off, const Py_ssize_t *w_off, const char *bias, char *y,
                         int flags, bint explicit, char *tmp) noexcept nogil:
    cdef Py_ssize_t es = uk.gemm.itemsize, nr = uk.gemm.nr, taps = q.row_taps * q.col_taps
    cdef Py_ssize_t tiles = tile_count(uk.gemm, q.filters), row0
    cdef Py_ssize_t t0 = tiles * tile_task // cut.tile_tasks, t1 = tiles * (tile_task + 1) // cut.tile_tasks, t, stop
    cdef Py_ssize_t first = line_task * p.task_lines, last = min(p.lines, first + p.task_lines)
    cdef fnn_line *lines = <fnn_line *>tmp
    cdef char *panel = tmp + cut.lines_bytes
    cdef char *results = panel + cut.panel_bytes
    cdef char *own = results + cut.results_bytes
    cdef char *slab = own + cut.weights_bytes
    cdef char *columns = slab + p.slab_bytes
    cdef Py_ssize_t k = 0, kb, c0, c1, pixels, i, at
    cdef const char *src
    cdef const char *weights
    cdef bint ends
    x = x + group * q.channels * q.h * q.w * es
    y = y + group * q.filters * q.y_filter * es
    if bias != NULL:
        bias = bias + group * q.filters * es
    while k < p.depth:
        kb = min(cut.steps, p.depth - k)
        ends = k + kb == p.depth
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
        t = t0
        while t < t1:
            stop = min(t1, t + cut.group_tiles)
            row0 = tile_row(t, tiles, q.filters)
            if cut.packs:
                pack_tiles(uk.gemm, t, stop, q.filters, kb, w.w + (group * w.group + row0 * w.filter) * es, w.filter,
                           w_off + k, own)
                weights = own - row0 * kb * es
            else:
                weights = packed + (group * p.depth + k) * q.filters * es
            multiply_lines(uk, q, lines, pixels, t, stop, kb, weights, src,
                           <const Py_ssize_t *>columns if explicit else off + k, p.direct and not explicit, y,
                           bias if ends else NULL,
                           (flags & FNN_ACCUMULATE if k == 0 else FNN_ACCUMULATE) | (flags & FNN_RELU if ends else 0),
                           k == 0, ends, panel, results + (row0 - tile_row(t0, tiles, q.filters)) * nr * es, cut.rows)
            t = stop
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


cdef void weight_offsets(const Correlation *q, const Weights *w, Py_ssize_t *off) noexcept nogil:
    """off[k]: where the weight of (channel, tap) k lies for a filter that starts at 0."""
    cdef Py_ssize_t i, taps = q.row_taps * q.col_taps
    for i in range(q.channels * taps):
        off[i] = i // taps * w.channel + w.tap[i % taps]


cdef Scratch pack_weights(const fnn_ukernels *uk, const Correlation *q, const Weights *w, int nt):
    """Filters as the register tiles of `correlate`: [group][block of the sum][register tile][step][row]."""
    cdef Py_ssize_t es = uk.gemm.itemsize, depth = q.channels * q.row_taps * q.col_taps, steps = block_steps(depth)
    cdef Py_ssize_t tiles = tile_count(uk.gemm, q.filters), blocks = ceil_div(depth, steps), i, t
    cdef Scratch packed = scratch(q.groups * q.filters * depth * es)
    packed.uk = uk
    cdef Scratch memory = scratch(depth * sizeof(Py_ssize_t))
    cdef Py_ssize_t *off = <Py_ssize_t *>memory.ptr
    with nogil:
        weight_offsets(q, w, off)
        for i in prange(q.groups * blocks * tiles, num_threads=nt, schedule="static"):
            t = i % tiles
            pack_block(uk, q, w, i // tiles // blocks, i // tiles % blocks * steps, steps, t, off, packed.ptr)
    return packed


cdef void pack_block(const fnn_ukernels *uk, const Correlation *q, const Weights *w, Py_ssize_t group, Py_ssize_t k,
                     Py_ssize_t steps, Py_ssize_t tile, const Py_ssize_t *off, char *packed) noexcept nogil:
    """One register tile of one block of `pack_weights`."""
    cdef Py_ssize_t es = uk.gemm.itemsize, depth = q.channels * q.row_taps * q.col_taps, kb = min(steps, depth - k)
    cdef Py_ssize_t row = tile_row(tile, tile_count(uk.gemm, q.filters), q.filters)
    pack_tiles(uk.gemm, tile, tile + 1, q.filters, kb, w.w + (group * w.group + row * w.filter) * es, w.filter,
               off + k, packed + ((group * depth + k) * q.filters + row * kb) * es)


cdef int correlate(const fnn_ukernels *uk, const Correlation *q, const char *x, const Weights *w, Scratch prepared,
                   const char *bias, char *y, int flags, bint explicit, int nt) except -1:
    """y (+)= the correlation with weights w; prepared: those, from pack_weights, or None."""
    cdef Plan p
    cdef Cut cut
    cut_work(uk, q, prepared is not None, explicit, nt, &p, &cut)
    cdef Py_ssize_t t, tasks = cut.line_tasks * cut.tile_tasks, table_bytes = aligned(p.depth * sizeof(Py_ssize_t))
    cdef Scratch memory = scratch(2 * table_bytes + nt * cut.tmp_bytes)
    cdef Py_ssize_t *off = <Py_ssize_t *>memory.ptr
    cdef Py_ssize_t *w_off = <Py_ssize_t *>(memory.ptr + table_bytes)
    cdef char *tmp = memory.ptr + 2 * table_bytes
    cdef const char *packed = NULL
    if prepared is None and not cut.packs:
        prepared = pack_weights(uk, q, w, nt)
    if prepared is not None:
        packed = prepared.ptr
    with nogil:
        tap_offsets(q, &p, off)
        if cut.packs:
            weight_offsets(q, w, w_off)
        for t in prange(q.groups * tasks, num_threads=nt, schedule="dynamic"):
            correlate_task(uk, q, &p, &cut, t // tasks, t // cut.tile_tasks % cut.line_tasks, t % cut.tile_tasks, x, w,
                           packed, off, w_off, bias, y, flags, explicit, tmp + threadid() * cut.tmp_bytes)
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


cdef int filters_of(cnp.ndarray w, const Correlation *q, Py_ssize_t *table, Weights *weights) except -1:
    """How filters lie in an array (K, C/groups, R, S), for the forward direction; table: that of tap_table_bytes."""
    cdef Py_ssize_t i, taps = q.row_taps * q.col_taps
    weights.tap = table + q.row_taps + q.col_taps
    for i in range(taps):
        (<Py_ssize_t *>weights.tap)[i] = i
    weights.w = <const char *>cnp.PyArray_DATA(w)
    weights.filter, weights.channel, weights.group = q.channels * taps, taps, q.filters * q.channels * taps
    return 0


def prepare(cnp.ndarray w, desc):
    """The filters in the form conv2d_forward multiplies with; for every input and thread count, but one ISA level."""
    cdef Correlation q
    cdef Weights weights
    cdef Scratch memory = scratch(tap_table_bytes(desc))
    forward_correlation(&q, desc, <Py_ssize_t *>memory.ptr)
    filters_of(w, &q, <Py_ssize_t *>memory.ptr, &weights)
    return pack_weights(table_of(w), &q, &weights, threads_of(&q))


def conv2d_forward(cnp.ndarray x, cnp.ndarray w, Scratch prepared, b, cnp.ndarray y, desc, bint relu, bint explicit,
                   bint accumulate=False):
    """y = x correlated with w, + b, + y if accumulate, ReLU. prepared: w from `prepare`, or None. explicit: store the
    column matrix (im2col) instead of packing on the fly."""
    cdef Correlation q
    cdef Weights weights
    cdef Scratch memory = scratch(tap_table_bytes(desc))
    forward_correlation(&q, desc, <Py_ssize_t *>memory.ptr)
    filters_of(w, &q, <Py_ssize_t *>memory.ptr, &weights)
    correlate(table_beside(prepared, x), &q, <char *>cnp.PyArray_DATA(x), &weights, prepared, data_or_null(b),
              <char *>cnp.PyArray_DATA(y), (FNN_RELU if relu else 0) | (FNN_ACCUMULATE if accumulate else 0), explicit,
              threads_of(&q))


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


cdef int input_filters(cnp.ndarray w, const Correlation *q, desc, const Py_ssize_t *w_tap, Weights *weights) except -1:
    """How the filters of input_correlation lie in an array (K, C/groups, R, S)."""
    cdef Py_ssize_t taps = desc.r * desc.s
    weights.w, weights.tap = <const char *>cnp.PyArray_DATA(w), w_tap
    weights.filter, weights.channel, weights.group = taps, q.filters * taps, q.channels * q.filters * taps
    return 0


cdef int fill_residue(const fnn_ukernels *uk, const Correlation *q, const char *bias, char *y) except -1:
    """The pixels of a residue that no tap meets: the bias, or zero."""
    cdef Py_ssize_t es = uk.gemm.itemsize, filters = q.groups * q.filters, i
    cdef Scratch row = scratch(q.ow * es)
    cdef fnn_run run
    run.start, run.length = 0, q.ow
    for i in range(q.images * filters):
        uk.conv.tap_row(q.ow, row.ptr, 0, NULL, NULL, bias + i % filters * es if bias != NULL else NULL, 0, row.ptr)
        uk.conv.put_rows(q.oh, row.ptr, 0, 1, &run, y + i * q.y_filter * es, q.y_row, q.y_col)
    return 0


def conv2d_backward_data(cnp.ndarray dy, cnp.ndarray w, cnp.ndarray dx, desc, b=None):
    """dx = dy, dilated with zeros by the stride, fully correlated with w rotated by 180 degrees; + b a channel, for
    those to whom this is the forward pass (transposed convolution)."""
    cdef const fnn_ukernels *uk = table_of(dy)
    cdef Correlation q
    cdef Py_ssize_t es = uk.gemm.itemsize, width = desc.w, height = desc.h
    cdef Py_ssize_t stride_y, stride_x, y0, x0
    cdef Py_ssize_t *w_tap
    cdef Scratch memory = scratch(input_table_bytes(desc))
    cdef Weights weights
    cdef const char *bias = data_or_null(b)
    cdef char *out
    stride_y, stride_x = desc.stride
    for y0 in range(min(stride_y, height)):
        for x0 in range(min(stride_x, width)):
            out = <char *>cnp.PyArray_DATA(dx) + (y0 * width + x0) * es
            if not input_correlation(&q, desc, y0, x0, <Py_ssize_t *>memory.ptr, &w_tap):
                fill_residue(uk, &q, bias, out)
                continue
            input_filters(w, &q, desc, w_tap, &weights)
            correlate(uk, &q, <char *>cnp.PyArray_DATA(dy), &weights, None, bias, out, 0, False, threads_of(&q))


# ---- the gradient of the weights ----


# A matrix product along the pixels: rows of one operand, read where they lie, times the other one transposed. The rows
# are the (channel, tap) pairs of the slab and dy is transposed, a panel of filters at a time; that gives the transposed
# gradient. A 1x1 kernel with more filters than channels does it the other way round. The sum is cut into blocks of
# pixels that depend on the problem alone, added in order.

cdef struct WeightCut:
    bint swapped
    Py_ssize_t rows, columns           # of a group's product
    Py_ssize_t panels, chunks          # of a group: nr columns, chunk_rows rows
    Py_ssize_t chunk_rows
    Py_ssize_t parts, part_lines       # of the sum, if it is shared out
    Py_ssize_t panel_bytes             # of one panel of a block, transposed
    Py_ssize_t lines_bytes, sums_bytes, tmp_bytes


cdef void pack_columns(const fnn_ukernels *uk, const Correlation *q, const Plan *p, const WeightCut *cut,
                       Py_ssize_t task, Py_ssize_t first, Py_ssize_t last, const char *x, const char *dy, char *packed,
                       char *tmp) noexcept nogil:
    """One panel of lines [first, last): [pixel][column]."""
    cdef Py_ssize_t es = uk.gemm.itemsize, i, group = task // cut.panels, column = task % cut.panels * uk.gemm.nr
    cdef Py_ssize_t n = min(<Py_ssize_t>uk.gemm.nr, cut.columns - column)
    cdef fnn_line *lines = <fnn_line *>tmp
    cdef char *slab = tmp + cut.lines_bytes
    cdef char *dst = packed + task * cut.panel_bytes
    if cut.swapped:
        x = x + (group * q.channels + (column if p.direct else 0)) * q.h * q.w * es
        make_lines(uk, q, p, first, last, column, column + n, x, slab, lines)
        for i in range(last - first):
            uk.gemm.transpose(n, lines[i].length, (x if p.direct else slab) + lines[i].start * es, p.channel_pitch,
                              dst, n)
            dst = dst + lines[i].length * n * es
        return
    dy = dy + (group * q.filters + column) * q.y_filter * es
    make_lines(uk, q, p, first, last, 0, 0, NULL, NULL, lines)
    for i in range(last - first):
        uk.gemm.transpose(n, lines[i].length, dy + lines[i].y * es, q.y_filter, dst, n)
        dst = dst + lines[i].length * n * es


cdef void multiply_chunk(const fnn_ukernels *uk, const Correlation *q, const Plan *p, const WeightCut *cut,
                         Py_ssize_t task, Py_ssize_t first, Py_ssize_t last, const char *x, const char *dy,
                         const Py_ssize_t *off, const char *packed, char *sums, int flags, char *dw,
                         char *tmp) noexcept nogil:
    """chunk_rows rows of a group's product, over lines [first, last). sums: all groups' so far, (rows, columns).
    dw: where to transpose them to, or NULL."""
    cdef Py_ssize_t es = uk.gemm.itemsize, nr = uk.gemm.nr, taps = q.row_taps * q.col_taps, group = task // cut.chunks
    cdef Py_ssize_t k = task % cut.chunks * cut.chunk_rows, rows = min(cut.chunk_rows, cut.rows - k), panel, i
    cdef Py_ssize_t c0 = k // taps, c1 = (k + rows - 1) // taps + 1
    cdef fnn_line *lines = <fnn_line *>tmp
    cdef char *own = tmp + cut.lines_bytes
    cdef char *slab = own + cut.sums_bytes
    cdef const char *src
    cdef char *dst = own if cut.sums_bytes > 0 else sums + (group * cut.rows + k) * cut.columns * es
    if cut.swapped:
        make_lines(uk, q, p, first, last, 0, 0, NULL, NULL, lines)
        for i in range(last - first):
            lines[i].start = lines[i].y
        src = dy + group * q.filters * q.y_filter * es
    else:
        x = x + group * q.channels * q.h * q.w * es
        make_lines(uk, q, p, first, last, c0, c1, x, slab, lines)
        src = x if p.direct else slab - c0 * p.channel_pitch * es
    for panel in range(cut.panels):
        uk.gemm.outer(rows, min(nr, cut.columns - panel * nr), last - first, lines, src, off + k,
                      packed + (group * cut.panels + panel) * cut.panel_bytes, min(nr, cut.columns - panel * nr),
                      dst + panel * nr * es, cut.columns, flags)
    if dw != NULL:
        uk.gemm.transpose(rows, cut.columns, dst, cut.columns, dw + (group * cut.rows * cut.columns + k) * es, cut.rows)


cdef void sum_part(const fnn_ukernels *uk, const Correlation *q, const Plan *p, const WeightCut *cut, Py_ssize_t task,
                   const char *x, const char *dy, const Py_ssize_t *off, char *sums, char *packed,
                   char *tmp) noexcept nogil:
    """A group's product over one part of the lines; packed: for one group."""
    cdef Py_ssize_t part = task % cut.parts, group = task // cut.parts, t, last
    cdef Py_ssize_t first = part * cut.part_lines, end = min(p.lines, first + cut.part_lines)
    cdef int flags = 0
    sums = sums + part * q.groups * cut.rows * cut.columns * uk.gemm.itemsize
    packed = packed - group * cut.panels * cut.panel_bytes
    while first < end:
        last = min(end, first + p.task_lines)
        for t in range(group * cut.panels, (group + 1) * cut.panels):
            pack_columns(uk, q, p, cut, t, first, last, x, dy, packed, tmp)
        for t in range(group * cut.chunks, (group + 1) * cut.chunks):
            multiply_chunk(uk, q, p, cut, t, first, last, x, dy, off, packed, sums, flags, NULL, tmp)
        flags = FNN_ACCUMULATE
        first = last


def conv2d_backward_weight(cnp.ndarray x, cnp.ndarray dy, cnp.ndarray dw, desc):
    """dw = x correlated with dy, summed over the batch."""
    cdef const fnn_ukernels *uk = table_of(dy)
    cdef Correlation q
    cdef Plan p
    cdef WeightCut cut
    cdef Scratch tap_memory = scratch(tap_table_bytes(desc))
    forward_correlation(&q, desc, <Py_ssize_t *>tap_memory.ptr)
    cdef Py_ssize_t es = uk.gemm.itemsize, nr = uk.gemm.nr, t, first, last, most, lines
    plan_lines(&q, &p)
    cut.swapped = q.row_taps * q.col_taps == 1 and q.filters > q.channels
    cut.rows, cut.columns = (q.filters, p.depth) if cut.swapped else (p.depth, q.filters)
    most = max(<Py_ssize_t>1, CHUNK_BYTES // (q.groups * cut.columns * es))
    if p.segment > most:
        plan_segments(&q, &p, most)
    lines = min(max(<Py_ssize_t>1, min(<Py_ssize_t>CHUNK_PIXELS, most) // p.segment),
                slab_lines(uk, &q, &p, block_channels(&q, CHUNK_ROWS)))
    plan_task(uk, &q, &p, lines, block_channels(&q, CHUNK_ROWS))
    cut.panels = ceil_div(cut.columns, nr)
    cdef int nt = threads_for(2. * q.groups * q.filters * p.depth * p.lines * p.segment, 0)
    cut.chunk_rows = min(<Py_ssize_t>CHUNK_ROWS, cut.rows)
    cut.chunks = ceil_div(cut.rows, cut.chunk_rows)
    # few rows: the sum is shared out
    cut.parts = 1
    if q.groups * cut.chunks < PARTS and cnp.PyArray_NBYTES(dw) <= PART_BYTES:
        cut.parts = min(<Py_ssize_t>PARTS, ceil_div(p.lines, p.task_lines))
    cut.part_lines = ceil_div(ceil_div(p.lines, p.task_lines), cut.parts) * p.task_lines
    cut.parts = ceil_div(p.lines, cut.part_lines)
    if cut.parts == 1 and q.groups * cut.chunks < 4 * nt:           # as many for every thread
        cut.chunk_rows = ceil_div(cut.rows, min(cut.rows, ceil_div(cut.chunks, nt) * nt))
        cut.chunks = ceil_div(cut.rows, cut.chunk_rows)
    cut.panel_bytes = aligned((p.task_pixels + 2) * nr * es)
    cut.lines_bytes = aligned(p.task_lines * sizeof(fnn_line))
    cut.sums_bytes = aligned(cut.chunk_rows * cut.columns * es) if p.lines == p.task_lines and not cut.swapped else 0
    cut.tmp_bytes = cut.lines_bytes + cut.sums_bytes + p.slab_bytes
    cdef Py_ssize_t table_bytes = aligned(cut.rows * sizeof(Py_ssize_t)), group_bytes = cut.panels * cut.panel_bytes
    cdef Py_ssize_t packed_bytes = (q.groups if cut.parts == 1 else nt) * group_bytes, size = cnp.PyArray_NBYTES(dw)
    cdef Scratch memory = scratch(table_bytes + packed_bytes + nt * cut.tmp_bytes)
    cdef Scratch sums = scratch(0 if cut.parts == 1 and (cut.swapped or cut.sums_bytes > 0) else cut.parts * size)
    cdef Py_ssize_t *off = <Py_ssize_t *>memory.ptr
    cdef char *packed = memory.ptr + table_bytes
    cdef char *tmp = packed + packed_bytes
    cdef const char *px = <const char *>cnp.PyArray_DATA(x)
    cdef const char *pdy = <const char *>cnp.PyArray_DATA(dy)
    cdef char *pdw = <char *>cnp.PyArray_DATA(dw)
    cdef char *psums = pdw if cut.swapped and cut.parts == 1 else sums.ptr
    with nogil:
        if cut.swapped:
            for t in range(q.filters):
                off[t] = t * q.y_filter
        else:
            tap_offsets(&q, &p, off)
        if cut.parts == 1:
            first = 0
            while first < p.lines:
                last = min(p.lines, first + p.task_lines)
                for t in prange(q.groups * cut.panels, num_threads=nt, schedule="static"):
                    pack_columns(uk, &q, &p, &cut, t, first, last, px, pdy, packed, tmp + threadid() * cut.tmp_bytes)
                for t in prange(q.groups * cut.chunks, num_threads=nt, schedule="dynamic"):
                    multiply_chunk(uk, &q, &p, &cut, t, first, last, px, pdy, off, packed, psums,
                                   FNN_ACCUMULATE if first > 0 else 0,
                                   pdw if last == p.lines and not cut.swapped else NULL,
                                   tmp + threadid() * cut.tmp_bytes)
                first = last
        else:
            for t in prange(q.groups * cut.parts, num_threads=nt, schedule="dynamic"):
                sum_part(uk, &q, &p, &cut, t, px, pdy, off, psums, packed + threadid() * group_bytes,
                         tmp + threadid() * cut.tmp_bytes)
            for t in range(1, cut.parts):
                uk.conv.scatter_row(psums + t * size, size // es, psums, size // es, 0, 1)
            if cut.swapped:
                memcpy(pdw, psums, size)
            else:
                for t in range(q.groups):
                    uk.gemm.transpose(cut.rows, cut.columns, psums + t * cut.rows * cut.columns * es, cut.columns,
                                      pdw + t * cut.rows * cut.columns * es, cut.rows)


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
    cdef Py_ssize_t es = uk.gemm.itemsize, top = min(oh, ceil_div(max(<Py_ssize_t>0, -y0), sy))
    cdef Py_ssize_t bottom = max(top, min(oh, ceil_div(h - y0, sy)))     # rows [top, bottom) lie inside the image
    memset(row, 0, top * ow * es)
    uk.conv.gather_rows(bottom - top, plane + (y0 + top * sy) * w * es, sy * w, w, x0, sx, ow, row + top * ow * es, ow)
    memset(row + bottom * ow * es, 0, (oh - bottom) * ow * es)


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
