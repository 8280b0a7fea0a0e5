"""Pooling and sub-sampling of planes; every thread takes a run of whole planes."""

cimport numpy as cnp
from cython.parallel cimport prange

from fastnn.kernels.runtime cimport (
    Scratch, fnn_pool, fnn_pool_function, scratch, table_of, threads_for
)

cnp.import_array()


cdef fnn_pool windows(cnp.ndarray x, cnp.ndarray y, tuple geometry, Py_ssize_t divisor=0, bint include_pad=False):
    """Windows on the planes of x with outputs y; geometry: kernel, stride, padding, dilation, each down and across."""
    cdef fnn_pool p
    p.h, p.w = cnp.PyArray_DIM(x, 2), cnp.PyArray_DIM(x, 3)
    p.oh, p.ow = cnp.PyArray_DIM(y, 2), cnp.PyArray_DIM(y, 3)
    p.kh, p.kw, p.sh, p.sw, p.ph, p.pw, p.dh, p.dw = geometry
    if p.w == 1 and p.kw == 1:  # a column of pixels lies in memory as a row does, and rows are what vectors take
        p.h, p.oh, p.kh, p.sh, p.ph, p.dh, p.w, p.ow, p.kw, p.sw, p.pw, p.dw = (
            1, 1, 1, 1, 0, 1, p.h, p.oh, p.kh, p.sh, p.ph, p.dh
        )
    p.divisor, p.include_pad = divisor, include_pad
    return p


cdef void run(fnn_pool_function *f, const fnn_pool *p, cnp.ndarray src, cnp.ndarray dst, cnp.ndarray index,
              Py_ssize_t scratch_bytes):
    """f from src to dst, an equal share of the planes a thread, each with so much scratch."""
    cdef Py_ssize_t planes = cnp.PyArray_DIM(src, 0) * cnp.PyArray_DIM(src, 1), es = cnp.PyArray_ITEMSIZE(src), lo, hi
    cdef Py_ssize_t src_plane = cnp.PyArray_DIM(src, 2) * cnp.PyArray_DIM(src, 3) * es
    cdef Py_ssize_t dst_plane = cnp.PyArray_DIM(dst, 2) * cnp.PyArray_DIM(dst, 3) * es
    cdef Py_ssize_t index_plane = 0 if index is None else p.oh * p.ow * es
    cdef const char *ps = <const char *>cnp.PyArray_DATA(src)
    cdef char *pd = <char *>cnp.PyArray_DATA(dst)
    cdef char *pi = NULL if index is None else <char *>cnp.PyArray_DATA(index)
    # about 4 instructions for a tap: down for every column, across for every output
    cdef double flops = 4. * planes * p.oh * (<double>p.kh * p.w + <double>p.kw * p.ow)
    cdef int nt = <int>min(threads_for(flops, <double>planes * (src_plane + dst_plane)), planes), t
    cdef Scratch s = scratch(max(nt, 1) * scratch_bytes)
    if nt <= 1:
        with nogil:
            f(p, planes, ps, pd, pi, s.ptr)
        return
    for t in prange(nt, nogil=True, num_threads=nt, schedule="static", chunksize=1):
        lo = planes * t // nt
        hi = planes * (t + 1) // nt
        f(p, hi - lo, ps + lo * src_plane, pd + lo * dst_plane, pi + lo * index_plane, s.ptr + t * scratch_bytes)


def select(cnp.ndarray x, cnp.ndarray y, cnp.ndarray index, tuple geometry, bint minimum):
    """y = the maximum (minimum) of every window; index: where in the plane it was found, unless None."""
    cdef fnn_pool p = windows(x, y, geometry)
    uk = table_of(x).pool
    run(uk.min if minimum else uk.max, &p, x, y, index, uk.scratch(&p))


def select_backward(cnp.ndarray dy, cnp.ndarray index, cnp.ndarray dx, tuple geometry):
    """dx = dy at the pixels that were taken, summed where windows overlap."""
    cdef fnn_pool p = windows(dx, dy, geometry)
    run(table_of(dy).pool.index_backward, &p, dy, dx, index, 0)


def average(cnp.ndarray x, cnp.ndarray y, tuple geometry, Py_ssize_t divisor, bint include_pad):
    """y = the sum of every window / divisor; 0: / its pixels, those of the padding too if include_pad."""
    cdef fnn_pool p = windows(x, y, geometry, divisor, include_pad)
    uk = table_of(x).pool
    run(uk.avg, &p, x, y, None, uk.scratch(&p))


def average_backward(cnp.ndarray dy, cnp.ndarray dx, tuple geometry, Py_ssize_t divisor, bint include_pad):
    """dx = the sum of dy / divisor over the windows that cover a pixel."""
    cdef fnn_pool p = windows(dx, dy, geometry, divisor, include_pad)
    uk = table_of(dy).pool
    run(uk.avg_backward, &p, dy, dx, None, uk.avg_backward_scratch(&p))


def subsample(cnp.ndarray x, cnp.ndarray y, tuple geometry):
    """y = the pixel of every window of one pixel; its offset is a negative padding."""
    cdef fnn_pool p = windows(x, y, geometry)
    run(table_of(x).pool.subsample, &p, x, y, None, 0)


def subsample_backward(cnp.ndarray dy, cnp.ndarray dx, tuple geometry):
    """dx = dy at the pixels that were kept, zero elsewhere."""
    cdef fnn_pool p = windows(dx, dy, geometry)
    run(table_of(dy).pool.subsample_backward, &p, dy, dx, None, 0)
