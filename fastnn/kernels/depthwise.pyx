"""Convolution with few filters in a group, depthwise above all, row by row.

With one filter a matrix product has one row, and packing its operand costs more than the product. Instead a row of
results is a sum of shifted rows of the slab of `conv`, one for every channel and tap. A task is some rows of the
filters of one group.
"""

cimport numpy as cnp
from cython.parallel cimport prange, threadid
from libc.string cimport memset

from fastnn.kernels.conv cimport (
    Correlation, Plan, aligned, ceil_div, fill_residue, forward_correlation, input_correlation, input_table_bytes,
    make_lines, plan_lines, plan_task, tap_offsets, tap_table_bytes,
)
from fastnn.kernels.runtime cimport Scratch, data_or_null, scratch, table_of, threads_for
from fastnn.kernels.ukernels cimport FNN_RELU, fnn_line, fnn_ukernels

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
                uk.conv.put_row(row, lines[i].length, y + at, q.y_col)


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


def prepare(cnp.ndarray w, desc):
    """Nothing to do: a kernel's few weights are read as they are."""
    return w


def conv2d_forward(cnp.ndarray x, cnp.ndarray w, b, cnp.ndarray y, desc, bint relu):
    """conv.conv2d_forward for few filters a group."""
    cdef Correlation q
    cdef Scratch memory = scratch(tap_table_bytes(desc))
    forward_correlation(&q, desc, <Py_ssize_t *>memory.ptr)
    correlate_rows(table_of(x), &q, <char *>cnp.PyArray_DATA(x), <char *>cnp.PyArray_DATA(w), data_or_null(b),
                   <char *>cnp.PyArray_DATA(y), FNN_RELU if relu else 0)


def conv2d_backward_data(cnp.ndarray dy, cnp.ndarray w, cnp.ndarray dx, desc, b=None):
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


cdef void sums_task(const fnn_ukernels *uk, const Correlation *q, const Plan *p, Py_ssize_t group, const char *x,
                    const Py_ssize_t *off, const char *dy, char *dw, char *tmp) noexcept nogil:
    cdef Py_ssize_t es = uk.gemm.itemsize, taps = q.row_taps * q.col_taps, line = 0, stop
    cdef fnn_line *lines = <fnn_line *>tmp
    cdef char *slab = tmp + aligned(p.task_lines * sizeof(fnn_line))
    x = x + group * q.h * q.w * es
    dy = dy + group * q.y_filter * es
    dw = dw + group * taps * es
    memset(dw, 0, taps * es)
    while line < p.lines:
        stop = min(p.lines, line + p.task_lines)
        make_lines(uk, q, p, line, stop, 0, 1, x, slab, lines)
        uk.conv.tap_sums(stop - line, lines, x if p.direct else slab, taps, off, dy, dw)
        line = stop


def conv2d_backward_weight(cnp.ndarray x, cnp.ndarray dy, cnp.ndarray dw, desc):
    """conv.conv2d_backward_weight with one channel and one filter a group."""
    cdef const fnn_ukernels *uk = table_of(x)
    cdef Correlation q
    cdef Plan p
    cdef Scratch table = scratch(tap_table_bytes(desc))
    forward_correlation(&q, desc, <Py_ssize_t *>table.ptr)
    plan(uk, &q, &p)
    cdef Py_ssize_t es = uk.gemm.itemsize, i, off_bytes = aligned(q.row_taps * q.col_taps * sizeof(Py_ssize_t))
    cdef Py_ssize_t tmp_bytes = aligned(p.task_lines * sizeof(fnn_line)) + p.slab_bytes
    cdef int nt = threads_for(work(&q), traffic(&q, es))
    cdef Scratch memory = scratch(off_bytes + nt * tmp_bytes)
    cdef Py_ssize_t *off = <Py_ssize_t *>memory.ptr
    cdef char *tmp = memory.ptr + off_bytes
    cdef const char *px = <const char *>cnp.PyArray_DATA(x)
    cdef const char *pdy = <const char *>cnp.PyArray_DATA(dy)
    cdef char *pdw = <char *>cnp.PyArray_DATA(dw)
    with nogil:
        tap_offsets(&q, &p, off)
        for i in prange(q.groups, num_threads=nt, schedule="static"):
            sums_task(uk, &q, &p, i, px, off, pdy, pdw, tmp + threadid() * tmp_bytes)
