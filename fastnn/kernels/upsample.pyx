"""Up-sampling: rows of all planes are what threads share out, and tables of the two axes what they have in common."""

cimport numpy as cnp
from cython.parallel cimport prange

from fastnn.kernels.runtime cimport Scratch, aligned, ceil_div, past_caches, scratch, table_of, threads_for
from fastnn.kernels.ukernels cimport FNN_LINEAR, FNN_NEAREST, FNN_ZEROS, fnn_resample

cnp.import_array()

# Bytes a task reads and writes; it takes whole rows.
cdef double TASK_BYTES = 1 << 18

MODES = {"zeros": FNN_ZEROS, "nearest": FNN_NEAREST, "linear": FNN_LINEAR}
"""Name -> what the kernels call it."""


cdef void run(int mode, cnp.ndarray x, cnp.ndarray y, double sy, double sx, bint aligned_corners, bint backward):
    """y from x, or x from y, a gradient each."""
    cdef fnn_resample g
    g.mode = mode
    g.y.n, g.y.out, g.y.scale, g.y.aligned = cnp.PyArray_DIM(x, 2), cnp.PyArray_DIM(y, 2), sy, aligned_corners
    g.x.n, g.x.out, g.x.scale, g.x.aligned = cnp.PyArray_DIM(x, 3), cnp.PyArray_DIM(y, 3), sx, aligned_corners
    cdef const void *src = cnp.PyArray_DATA(y) if backward else cnp.PyArray_DATA(x)
    cdef void *dst = cnp.PyArray_DATA(x) if backward else cnp.PyArray_DATA(y)
    cdef Py_ssize_t planes = cnp.PyArray_DIM(x, 0) * cnp.PyArray_DIM(x, 1)
    cdef Py_ssize_t rows = planes * (g.y.n if backward else g.y.out)
    if rows == 0:
        return
    uk = table_of(x).upsample
    cdef Py_ssize_t tables = aligned(uk.table_bytes(&g, backward)), row = aligned(uk.row_bytes(&g, backward))
    cdef double nbytes = <double>cnp.PyArray_NBYTES(x) + cnp.PyArray_NBYTES(y)
    cdef Py_ssize_t some = max(1, <Py_ssize_t>(TASK_BYTES * rows / nbytes)), tasks = ceil_div(rows, some), task
    # about 8 operations an output; tasks are shared out by number
    cdef int nt = <int>min(threads_for(8. * cnp.PyArray_SIZE(y), nbytes), tasks), t, past = past_caches(nbytes)
    cdef Scratch s = scratch(tables + nt * row)
    uk.prepare(&g, backward, s.ptr)
    step = uk.backward if backward else uk.forward
    if nt == 1:
        with nogil:
            step(&g, s.ptr, 0, rows, src, dst, past, s.ptr + tables)
        return
    for t in prange(nt, nogil=True, num_threads=nt, schedule="static", chunksize=1):
        for task in range(tasks * t // nt, tasks * (t + 1) // nt):
            step(&g, s.ptr, task * some, min(rows, (task + 1) * some), src, dst, past, s.ptr + tables + t * row)


def forward(int mode, cnp.ndarray x, cnp.ndarray y, tuple scale, bint aligned_corners):
    """y (N, C, OH, OW) from x (N, C, H, W); scale: pixels from one result to the next, down and across."""
    run(mode, x, y, scale[0], scale[1], aligned_corners, False)


def backward(int mode, cnp.ndarray dy, cnp.ndarray dx, tuple scale, bint aligned_corners):
    """dx = the sum of dy over the results that a pixel is part of, by its weight in each; not of zero-insertion."""
    run(mode, dx, dy, scale[0], scale[1], aligned_corners, True)
