"""Depthwise convolution, plane by plane; and convolution with few filters in a group, row by row.

With one filter a matrix product has one row, and packing its operand costs more than the product. Depthwise kernels of
usual size therefore go over the planes as they lie. Otherwise a row of results is a sum of shifted rows of the slab of
`conv`, one for every channel and tap; a task is some rows of the filters of one group.
"""

cimport numpy as cnp
from cython.parallel cimport prange, threadid
from libc.string cimport memset

from fastnn.kernels.conv cimport (
    Correlation, Plan, aligned, ceil_div, fill_residue, forward_correlation, input_correlation, input_table_bytes,
    make_lines, plan_lines, plan_task, tap_offsets, tap_table_bytes,
)
from fastnn.kernels.conv import conv2d_backward_weight as direct_backward_weight
from fastnn.kernels.runtime cimport Scratch, data_or_null, scratch, table_of, threads_for
from fastnn.kernels.ukernels cimport (
    FNN_RELU, FNN_WINDOW_COLUMNS, FNN_WINDOW_TAPS, fnn_line, fnn_run, fnn_ukernels, fnn_window,
)

cnp.import_array()

cdef enum:
    TASK_PIXELS = 8192     # slab and results of a task stay in the first-level cache or close to it


cdef double work(const Correlation *q) noexcept nogil:
    return 2. * q.groups * q.filters * q.channels * q.images * q.oh * q.ow * q.row_taps * q.col_taps


cdef double traffic(const Correlation *q, Py_ssize_t es) noexcept nogil:
    return <double>es * q.groups * q.images * (q.channels * q.h * q.w + q.filters * q.oh * q.ow)


cdef void plan(const fnn_ukernels *uk, const Correlation *q, Plan *p) noexcept nogil:
    plan_lines(q, p)
    plan_task(uk, q, p, min(max(<Py_ssize_t>1, TASK_PIXELS // (p.segment * q.channels)), q.oh * p.segments), q.channels)


cdef void row_task(const fnn_ukernels *uk, const Correlation *q, const Plan *p, Py_ssize_t group, Py_ssize_t first,
                   const char *x, const char *w, const Py_ssize_t *off, const char *bias, char *y, int flags,
                   char *tmp) noexcept nogil:
    cdef Py_ssize_t es = uk.gemm.itemsize, last = min(p.lines, first + p.task_lines), i, k, at
    cdef fnn_line *lines = <fnn_line *>tmp
    cdef char *row = tmp + aligned(p.task_lines * sizeof(fnn_line))
    cdef char *slab = row + aligned(p.segment * es)
    cdef const char *src = slab
    cdef fnn_run run
    x = x + group * q.channels * q.h * q.w * es
    y = y + group * q.filters * q.y_filter * es
    w = w + group * q.filters * p.depth * es
    if p.direct:
        src = x
    make_lines(uk, q, p, first, last, 0, q.channels, x, slab, lines)
    for i in range(last - first):
        for k in range(q.filters):
            at = (lines[i].y + k * q.y_filter) * es
            uk.conv.tap_row(lines[i].length, src + lines[i].start * es, p.depth, off, w + k * p.depth * es,
                            bias + (group * q.filters + k) * es if bias != NULL else NULL, flags,
                            y + at if q.y_col == 1 else row)
            if q.y_col != 1:
                run.start, run.length = 0, lines[i].length
                uk.conv.put_rows(1, row, 0, 1, &run, y + at, 0, q.y_col)


cdef Scratch pack_weights(const fnn_ukernels *uk, const Correlation *q, const char *w, Py_ssize_t w_filter,
                          Py_ssize_t w_channel, const Py_ssize_t *w_tap, Py_ssize_t w_group):
    """Weights in the order of correlate_rows, [group][filter][channel][tap]; arguments as of conv.pack_weights."""
    cdef Py_ssize_t es = uk.gemm.itemsize, taps = q.row_taps * q.col_taps, g, k, c
    cdef Scratch packed = scratch(q.groups * q.filters * q.channels * taps * es)
    cdef char *dst = packed.ptr
    for g in range(q.groups):
        for k in range(q.filters):
            for c in range(q.channels):
                uk.gemm.pack_a(1, taps, w + (g * w_group + k * w_filter + c * w_channel) * es, 0, w_tap, dst)
                dst = dst + taps * es
    return packed


cdef int correlate_rows(const fnn_ukernels *uk, const Correlation *q, const char *x, const char *w, const char *bias,
                        char *y, int flags) except -1:
    """y = the correlation with the weights w[group][filter][channel][tap]."""
    cdef Plan p
    plan(uk, q, &p)
    cdef Py_ssize_t es = uk.gemm.itemsize, i, tasks = ceil_div(p.lines, p.task_lines)
    cdef Py_ssize_t off_bytes = aligned(p.depth * sizeof(Py_ssize_t))
    cdef Py_ssize_t tmp_bytes = aligned(p.task_lines * sizeof(fnn_line)) + aligned(p.segment * es) + p.slab_bytes
    cdef int nt = threads_for(work(q), traffic(q, es))
    cdef Scratch memory = scratch(off_bytes + nt * tmp_bytes)
    cdef Py_ssize_t *off = <Py_ssize_t *>memory.ptr
    cdef char *tmp = memory.ptr + off_bytes
    with nogil:
        tap_offsets(q, &p, off)
        for i in prange(q.groups * tasks, num_threads=nt, schedule="static"):
            row_task(uk, q, &p, i // tasks, i % tasks * p.task_lines, x, w, off, bias, y, flags,
                     tmp + threadid() * tmp_bytes)
    return 0


# ---- whole planes ----


cdef struct Planes:
    Py_ssize_t channels, planes            # of an image, of all images
    Py_ssize_t rows, pieces                # of a task's results, tasks a plane; if that is one:
    Py_ssize_t group                       # planes a task, all of one image


cdef bint window_of(desc, fnn_window *g) except -1:
    """The geometry of a depthwise convolution; False if the plane kernels are not for it."""
    g.h, g.w, g.oh, g.ow, g.r, g.s = desc.h, desc.w, desc.oh, desc.ow, desc.r, desc.s
    g.sy, g.sx = desc.stride
    g.dy, g.dx = desc.dilation
    g.top, g.left = desc.padding[0], desc.padding[2]
    return g.sx <= 2 and g.s <= FNN_WINDOW_COLUMNS and g.r * g.s <= FNN_WINDOW_TAPS


cdef int cut_planes(const fnn_ukernels *uk, desc, Py_ssize_t rows, Py_ssize_t columns, Planes *p) except -1:
    """Tasks of TASK_PIXELS results or, of large planes, so many rows; returns the number of threads."""
    cdef Py_ssize_t es = uk.gemm.itemsize, taps = desc.r * desc.s
    cdef double results = <double>desc.n * desc.c * rows * columns
    p.channels, p.planes = desc.c, desc.n * desc.c
    p.rows = max(<Py_ssize_t>1, min(rows, TASK_PIXELS // max(<Py_ssize_t>1, columns)))
    p.pieces = ceil_div(rows, p.rows)
    p.group = max(<Py_ssize_t>1, TASK_PIXELS // max(<Py_ssize_t>1, rows * columns)) if p.pieces == 1 else 1
    return threads_for(2 * taps * results, es * (results + <double>desc.n * desc.c * (
        desc.oh * desc.ow if rows == desc.h else desc.h * desc.w)))


cdef void plane_task(const fnn_ukernels *uk, const fnn_window *g, const Planes *p, bint spread, Py_ssize_t task,
                     const char *x, const char *w, const char *zeros, const char *bias, int flags,
                     char *y) noexcept nogil:
    """spread: x is dy, y is dx."""
    cdef Py_ssize_t es = uk.gemm.itemsize, tasks = ceil_div(p.channels, p.group) * p.pieces
    cdef Py_ssize_t channel = task % tasks // p.pieces * p.group, plane = task // tasks * p.channels + channel
    cdef Py_ssize_t count = min(p.group, p.channels - channel), u0 = task % p.pieces * p.rows
    w = w + channel * g.r * g.s * es
    if bias != NULL:
        bias = bias + channel * es
    if spread:
        uk.depthwise.spread(g, count, x + plane * g.oh * g.ow * es, w, bias, u0, min(g.h, u0 + p.rows),
                            y + plane * g.h * g.w * es)
    else:
        uk.depthwise.forward(g, count, x + plane * g.h * g.w * es, w, zeros, bias, flags, u0, min(g.oh, u0 + p.rows),
                             y + plane * g.oh * g.ow * es)


cdef int run_planes(const fnn_ukernels *uk, desc, const fnn_window *g, bint spread, const char *x, const char *w,
                    const char *bias, int flags, char *y) except -1:
    cdef Planes p
    cdef Py_ssize_t task
    cdef int nt = cut_planes(uk, desc, g.h if spread else g.oh, g.w if spread else g.ow, &p)
    cdef Py_ssize_t tasks = p.planes // p.channels * ceil_div(p.channels, p.group) * p.pieces
    cdef Scratch zeros = scratch(g.w * uk.gemm.itemsize)
    memset(zeros.ptr, 0, g.w * uk.gemm.itemsize)
    for task in prange(tasks, nogil=True, num_threads=nt, schedule="static"):
        plane_task(uk, g, &p, spread, task, x, w, zeros.ptr, bias, flags, y)
    return 0


# ---- the operators ----


def prepare(cnp.ndarray w, desc):
    """Nothing to do: a kernel's few weights are read as they are."""


def conv2d_forward(cnp.ndarray x, cnp.ndarray w, prepared, b, cnp.ndarray y, desc, bint relu):
    """conv.conv2d_forward with one channel and one filter a group."""
    cdef const fnn_ukernels *uk = table_of(x)
    cdef Correlation q
    cdef fnn_window g
    cdef Scratch memory
    cdef int flags = FNN_RELU if relu else 0
    if window_of(desc, &g):
        run_planes(uk, desc, &g, False, <char *>cnp.PyArray_DATA(x), <char *>cnp.PyArray_DATA(w), data_or_null(b),
                   flags, <char *>cnp.PyArray_DATA(y))
        return
    memory = scratch(tap_table_bytes(desc))
    forward_correlation(&q, desc, <Py_ssize_t *>memory.ptr)
    correlate_rows(uk, &q, <char *>cnp.PyArray_DATA(x), <char *>cnp.PyArray_DATA(w), data_or_null(b),
                   <char *>cnp.PyArray_DATA(y), flags)


cdef int rotate(const fnn_ukernels *uk, Py_ssize_t channels, fnn_window *g, const char *w, Scratch rotated) except -1:
    """The window of the input's gradient for stride 1, and the kernels rotated by 180 degrees."""
    cdef Py_ssize_t taps = g.r * g.s, i
    cdef Py_ssize_t[64] off
    g.h, g.w, g.oh, g.ow = g.oh, g.ow, g.h, g.w
    g.top, g.left = (g.r - 1) * g.dy - g.top, (g.s - 1) * g.dx - g.left
    for i in range(taps):
        off[i] = taps - 1 - i
    for i in range(channels):
        uk.gemm.pack_a(1, taps, w + i * taps * uk.gemm.itemsize, 0, off, rotated.ptr + i * taps * uk.gemm.itemsize)
    return 0


def conv2d_backward_data(cnp.ndarray dy, cnp.ndarray w, cnp.ndarray dx, desc, b=None):
    """conv.conv2d_backward_data with one channel and one filter a group."""
    cdef const fnn_ukernels *uk = table_of(dy)
    cdef fnn_window g
    cdef Scratch rotated
    if not window_of(desc, &g) or (g.sx == 1 and g.sy != 1):
        backward_data_by_rows(dy, w, dx, desc, b)
    elif g.sx == 1:
        rotated = scratch(cnp.PyArray_NBYTES(w))
        rotate(uk, desc.c, &g, <char *>cnp.PyArray_DATA(w), rotated)
        run_planes(uk, desc, &g, False, <char *>cnp.PyArray_DATA(dy), rotated.ptr, data_or_null(b), 0,
                   <char *>cnp.PyArray_DATA(dx))
    else:
        run_planes(uk, desc, &g, True, <char *>cnp.PyArray_DATA(dy), <char *>cnp.PyArray_DATA(w), data_or_null(b), 0,
                   <char *>cnp.PyArray_DATA(dx))


def backward_data_by_rows(cnp.ndarray dy, cnp.ndarray w, cnp.ndarray dx, desc, b=None):
    """conv.conv2d_backward_data for few channels a group."""
    cdef const fnn_ukernels *uk = table_of(dy)
    cdef Correlation q
    cdef Py_ssize_t es = uk.gemm.itemsize, width = desc.w, height = desc.h, taps = desc.r * desc.s
    cdef Py_ssize_t stride_y, stride_x, y0, x0
    cdef Py_ssize_t *w_tap
    cdef Scratch packed, memory = scratch(input_table_bytes(desc))
    cdef const char *bias = data_or_null(b)
    cdef char *out
    stride_y, stride_x = desc.stride
    for y0 in range(min(stride_y, height)):
        for x0 in range(min(stride_x, width)):
            out = <char *>cnp.PyArray_DATA(dx) + (y0 * width + x0) * es
            if not input_correlation(&q, desc, y0, x0, <Py_ssize_t *>memory.ptr, &w_tap):
                fill_residue(uk, &q, bias, out)
                continue
            packed = pack_weights(uk, &q, <char *>cnp.PyArray_DATA(w), taps, q.filters * taps, w_tap,
                                  q.channels * q.filters * taps)
            correlate_rows(uk, &q, <char *>cnp.PyArray_DATA(dy), packed.ptr, bias, out, 0)


def conv2d_backward_weight(cnp.ndarray x, cnp.ndarray dy, cnp.ndarray dw, desc):
    """conv.conv2d_backward_weight with one channel and one filter a group."""
    cdef const fnn_ukernels *uk = table_of(x)
    cdef fnn_window g
    if not window_of(desc, &g):
        direct_backward_weight(x, dy, dw, desc)
        return
    cdef Py_ssize_t es = uk.gemm.itemsize, images = desc.n, channels = desc.c, i
    cdef Py_ssize_t x_plane = g.h * g.w, y_plane = g.oh * g.ow
    cdef const char *px = <const char *>cnp.PyArray_DATA(x)
    cdef const char *pdy = <const char *>cnp.PyArray_DATA(dy)
    cdef char *pdw = <char *>cnp.PyArray_DATA(dw)
    cdef double pixels = <double>images * channels
    cdef int nt = threads_for(2 * pixels * y_plane * g.r * g.s, es * pixels * (x_plane + y_plane))
    for i in prange(channels, nogil=True, num_threads=nt, schedule="static"):
        uk.depthwise.sums(&g, images, px + i * x_plane * es, channels * x_plane, pdy + i * y_plane * es,
                          channels * y_plane, pdw + i * g.r * g.s * es)
