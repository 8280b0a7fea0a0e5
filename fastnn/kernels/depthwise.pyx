"""Depthwise convolution: every channel with one kernel of its own.

No sum over channels, so no matrix product: a result is a handful of multiply-adds on rows of the slab of `conv`, and
memory is the limit. A task is some rows of one channel.
"""

cimport numpy as cnp
from cython.parallel cimport prange, threadid
from libc.string cimport memset

from fastnn.kernels.conv cimport (
    Correlation, Plan, aligned, ceil_div, fill_residue, forward_correlation, input_correlation, input_table_bytes,
    make_lines, plan_lines, plan_task, tap_offsets, tap_table_bytes,
)
from fastnn.kernels.runtime cimport Scratch, scratch, table_of, threads_for
from fastnn.kernels.ukernels cimport FNN_RELU, fnn_line, fnn_ukernels

cnp.import_array()

cdef enum:
    TASK_PIXELS = 8192     # slab and results of a task stay in the first-level cache or close to it


cdef double work(const Correlation *q) noexcept nogil:
    return 2. * q.groups * q.images * q.oh * q.ow * q.row_taps * q.col_taps


cdef double traffic(const Correlation *q, Py_ssize_t es) noexcept nogil:
    return <double>es * q.groups * q.images * (q.h * q.w + q.oh * q.ow)


cdef void plan(const fnn_ukernels *uk, const Correlation *q, Plan *p) noexcept nogil:
    plan_lines(q, p)
    plan_task(uk, q, p, min(max(<Py_ssize_t>1, TASK_PIXELS // p.segment), q.oh * p.segments), 1)


cdef void row_task(const fnn_ukernels *uk, const Correlation *q, const Plan *p, Py_ssize_t group, Py_ssize_t first,
                   const char *x, const char *w, const Py_ssize_t *off, const char *bias, char *y, int flags,
                   char *tmp) noexcept nogil:
    cdef Py_ssize_t es = uk.gemm.itemsize, last = min(p.lines, first + p.task_lines), i
    cdef fnn_line *lines = <fnn_line *>tmp
    cdef char *row = tmp + aligned(p.task_lines * sizeof(fnn_line))
    cdef char *slab = row + aligned(p.segment * es)
    cdef const char *src = slab
    x = x + group * q.h * q.w * es
    y = y + group * q.y_filter * es
    if p.direct:
        src = x
    make_lines(uk, q, p, first, last, 0, 1, x, slab, lines)
    for i in range(last - first):
        if q.y_col == 1:
            row = y + lines[i].y * es
        uk.conv.tap_row(lines[i].length, src + lines[i].start * es, q.row_taps * q.col_taps, off, w,
                        bias + group * es if bias != NULL else NULL, flags, row)
        if q.y_col != 1:
            uk.conv.put_row(row, lines[i].length, y + lines[i].y * es, q.y_col)


cdef int correlate_rows(const fnn_ukernels *uk, const Correlation *q, const char *x, const char *w,
                        Py_ssize_t w_channel, const Py_ssize_t *w_tap, const char *bias, char *y, int flags) except -1:
    """y = every channel of x correlated with its own taps; tap t of channel c is w[c*w_channel + w_tap[t]]."""
    cdef Plan p
    plan(uk, q, &p)
    cdef Py_ssize_t es = uk.gemm.itemsize, taps = q.row_taps * q.col_taps, i, tasks = ceil_div(p.lines, p.task_lines)
    cdef Py_ssize_t off_bytes = aligned(taps * sizeof(Py_ssize_t)), w_bytes = aligned(q.groups * taps * es)
    cdef Py_ssize_t tmp_bytes = aligned(p.task_lines * sizeof(fnn_line)) + aligned(p.segment * es) + p.slab_bytes
    cdef int nt = threads_for(work(q), traffic(q, es))
    cdef Scratch memory = scratch(off_bytes + w_bytes + nt * tmp_bytes)
    cdef Py_ssize_t *off = <Py_ssize_t *>memory.ptr
    cdef char *weights = memory.ptr + off_bytes
    cdef char *tmp = weights + w_bytes
    with nogil:
        tap_offsets(q, &p, off)
        for i in range(q.groups):
            uk.gemm.pack_a(1, taps, w + i * w_channel * es, 0, w_tap, weights + i * taps * es)
        for i in prange(q.groups * tasks, num_threads=nt, schedule="static"):
            row_task(uk, q, &p, i // tasks, i % tasks * p.task_lines, x, weights + i // tasks * taps * es, off, bias, y,
                     flags, tmp + threadid() * tmp_bytes)
    return 0


def prepare(cnp.ndarray w, desc):
    """Nothing to do: a kernel's few weights are read as they are."""
    return w


def conv2d_forward(cnp.ndarray x, cnp.ndarray w, b, cnp.ndarray y, desc, bint relu):
    """conv.conv2d_forward with one channel and one filter a group."""
    cdef Correlation q
    cdef Scratch memory = scratch(tap_table_bytes(desc))
    cdef Py_ssize_t *table = <Py_ssize_t *>memory.ptr
    forward_correlation(&q, desc, table)
    cdef Py_ssize_t i, taps = q.row_taps * q.col_taps
    cdef Py_ssize_t *w_tap = table + q.row_taps + q.col_taps
    for i in range(taps):
        w_tap[i] = i
    correlate_rows(table_of(x), &q, <char *>cnp.PyArray_DATA(x), <char *>cnp.PyArray_DATA(w), taps, w_tap,
                   NULL if b is None else <char *>cnp.PyArray_DATA(b), <char *>cnp.PyArray_DATA(y),
                   FNN_RELU if relu else 0)


def conv2d_backward_data(cnp.ndarray dy, cnp.ndarray w, cnp.ndarray dx, desc, b=None):
    """conv.conv2d_backward_data with one channel and one filter a group."""
    cdef const fnn_ukernels *uk = table_of(dy)
    cdef Correlation q
    cdef Py_ssize_t es = uk.gemm.itemsize, width = desc.w, height = desc.h, taps = desc.r * desc.s
    cdef Py_ssize_t stride_y, stride_x, y0, x0
    cdef Py_ssize_t *w_tap
    cdef Scratch memory = scratch(input_table_bytes(desc))
    cdef const char *bias = NULL if b is None else <char *>cnp.PyArray_DATA(b)
    cdef char *out
    stride_y, stride_x = desc.stride
    for y0 in range(min(stride_y, height)):
        for x0 in range(min(stride_x, width)):
            out = <char *>cnp.PyArray_DATA(dx) + (y0 * width + x0) * es
            if input_correlation(&q, desc, y0, x0, <Py_ssize_t *>memory.ptr, &w_tap):
                correlate_rows(uk, &q, <char *>cnp.PyArray_DATA(dy), <char *>cnp.PyArray_DATA(w), taps, w_tap, bias,
                               out, 0)
            else:
                fill_residue(uk, &q, bias, out)


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
