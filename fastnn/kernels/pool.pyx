"""Pooling and sub-sampling of planes; every thread takes a run of whole planes."""

cimport numpy as cnp
from cython.parallel cimport prange
from libc.stdint cimport int64_t, uint64_t

from fastnn.kernels.runtime cimport (
    Scratch, aligned, fnn_pool, fnn_pool_arrays, fnn_pool_function, past_caches, scratch, table_of, threads_for
)

cnp.import_array()


cdef fnn_pool windows(cnp.ndarray x, cnp.ndarray y, tuple geometry, Py_ssize_t divisor=0, bint include_pad=False,
                      double norm=0):
    """Windows on the planes of x with outputs y; geometry: kernel, stride, padding, dilation, each down and across.

    What lies in memory as a row does is made one, because rows are what vectors take: a column of pixels, a window over
    the whole plane, and windows of one pixel each.
    """
    cdef fnn_pool p
    p.h, p.w = cnp.PyArray_DIM(x, 2), cnp.PyArray_DIM(x, 3)
    p.oh, p.ow = cnp.PyArray_DIM(y, 2), cnp.PyArray_DIM(y, 3)
    p.kh, p.kw, p.sh, p.sw, p.ph, p.pw, p.dh, p.dw = geometry
    if p.w == 1 and p.kw == 1:
        p.h, p.oh, p.kh, p.sh, p.ph, p.dh, p.w, p.ow, p.kw, p.sw, p.pw, p.dw = (
            1, 1, 1, 1, 0, 1, p.h, p.oh, p.kh, p.sh, p.ph, p.dh
        )
    elif p.dh == 1 and p.dw == 1 and p.ph == 0 and p.pw == 0 and (
            p.oh == 1 and p.ow == 1 and p.kh == p.h and p.kw == p.w or
            p.kh == 1 and p.kw == 1 and p.sh == 1 and p.sw == 1):
        p.h, p.oh, p.kh, p.w, p.ow, p.kw = 1, 1, 1, p.h * p.w, p.oh * p.ow, p.kh * p.kw
    p.divisor, p.include_pad, p.norm = divisor, include_pad, norm
    p.past = past_caches(<double>cnp.PyArray_NBYTES(x) + cnp.PyArray_NBYTES(y))
    return p


cdef double ROW = 200  # what a row of outputs costs apart from its taps, in taps: 10 ns
cdef tuple PIXELS = (1, 1, 2, 2, 0, 0, 1, 1)  # of windows that indices stand in for: nothing to make a row of


cdef inline void run_share(fnn_pool_function *f, const fnn_pool *p, const fnn_pool_arrays *all, Py_ssize_t lo,
                           Py_ssize_t hi, Py_ssize_t src_plane, Py_ssize_t dst_plane, Py_ssize_t index_plane,
                           void *memory) noexcept nogil:
    """f on planes lo <= i < hi of all; planes in bytes."""
    cdef fnn_pool_arrays a
    a.src = <const char *>all.src + lo * src_plane
    a.dst = <char *>all.dst + lo * dst_plane
    a.index = NULL if all.index == NULL else <char *>all.index + lo * index_plane
    a.x = a.y = NULL
    if all.y != NULL:
        a.x = <const char *>all.x + lo * dst_plane
        a.y = <const char *>all.y + lo * src_plane
    f(p, hi - lo, &a, memory)


cdef void run(fnn_pool_function *f, const fnn_pool *p, cnp.ndarray src, cnp.ndarray dst, cnp.ndarray index,
              Py_ssize_t scratch_bytes, cnp.ndarray x=None, cnp.ndarray y=None, double term=1):
    """f from src to dst, an equal share of the planes a thread, each with so much scratch. x and y are as large as dst
    and src; a pixel's term costs as much as `term` additions."""
    cdef Py_ssize_t planes = cnp.PyArray_DIM(src, 0) * cnp.PyArray_DIM(src, 1), es = cnp.PyArray_ITEMSIZE(src)
    cdef Py_ssize_t src_plane = cnp.PyArray_DIM(src, 2) * cnp.PyArray_DIM(src, 3) * es
    cdef Py_ssize_t dst_plane = cnp.PyArray_DIM(dst, 2) * cnp.PyArray_DIM(dst, 3) * es
    cdef Py_ssize_t index_plane = 0 if index is None else p.oh * p.ow * cnp.PyArray_ITEMSIZE(index)
    cdef fnn_pool_arrays all
    all.src, all.dst = cnp.PyArray_DATA(src), cnp.PyArray_DATA(dst)
    all.index = NULL if index is None else cnp.PyArray_DATA(index)
    all.x = NULL if x is None else cnp.PyArray_DATA(x)
    all.y = NULL if y is None else cnp.PyArray_DATA(y)
    # about 4 instructions for a tap: down for every column, across for every output; and some for a row of outputs
    cdef double kh = p.kh if p.kh else p.h // p.oh + 1, kw = p.kw if p.kw else p.w // p.ow + 1
    cdef double flops = 4. * planes * p.oh * (kh * p.w * term + kw * p.ow + (ROW if p.oh * p.ow > 1 else 0))
    cdef int nt = <int>min(threads_for(flops, <double>planes * (src_plane + dst_plane)), planes), t
    scratch_bytes = aligned(scratch_bytes) + 64  # no two threads on one line, nor on one that is fetched with it
    cdef Scratch s = scratch(max(nt, 1) * scratch_bytes)
    if nt <= 1:
        with nogil:
            f(p, planes, &all, s.ptr)
        return
    for t in prange(nt, nogil=True, num_threads=nt, schedule="static", chunksize=1):
        run_share(f, p, &all, planes * t // nt, planes * (t + 1) // nt, src_plane, dst_plane, index_plane,
                  s.ptr + t * scratch_bytes)


def select(cnp.ndarray x, cnp.ndarray y, cnp.ndarray index, tuple geometry, bint minimum):
    """y = the maximum (minimum) of every window; index: where in the plane it was found, unless None."""
    cdef fnn_pool p = windows(x, y, geometry)
    uk = table_of(x).pool
    run(uk.min if minimum else uk.max, &p, x, y, index, uk.scratch(&p))


def select_backward(cnp.ndarray dy, cnp.ndarray index, cnp.ndarray dx, tuple geometry):
    """dx = dy at the pixels that were taken, summed where windows overlap."""
    cdef fnn_pool p = windows(dx, dy, geometry)
    uk = table_of(dy).pool
    run(uk.index_backward, &p, dy, dx, index, uk.index_backward_scratch(&p))


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


# A power takes as long as so many additions.
cdef double POWER = 12


def power(cnp.ndarray x, cnp.ndarray y, tuple geometry, double norm):
    """y = the norm of every window."""
    cdef fnn_pool p = windows(x, y, geometry, 0, False, norm)
    uk = table_of(x).pool
    run(uk.lp, &p, x, y, None, uk.scratch(&p), None, None, 1 if norm == 1 or norm == 2 else POWER)


def power_backward(cnp.ndarray dy, cnp.ndarray x, cnp.ndarray y, cnp.ndarray dx, tuple geometry, double norm):
    """dx = the sum of dy y^(1 - norm) x^(norm - 1) over the windows that cover a pixel, of a norm that is not 0."""
    cdef fnn_pool p = windows(dx, dy, geometry, 0, False, norm)
    uk = table_of(dy).pool
    run(uk.lp_backward, &p, dy, dx, None, uk.avg_backward_scratch(&p), x, y, 1 if norm == 1 or norm == 2 else POWER)


def first_outside(cnp.ndarray indices, Py_ssize_t limit):
    """The place of the first of all indices, int64, that is not in [0, limit); -1 if there is none."""
    cdef const int64_t *p = <const int64_t *>cnp.PyArray_DATA(indices)
    cdef Py_ssize_t n = cnp.PyArray_SIZE(indices), i
    cdef int nt = threads_for(2. * n, 8. * n)
    cdef Py_ssize_t wrong = 0
    if nt == 1:
        with nogil:
            for i in range(n):
                wrong += <uint64_t>p[i] >= <uint64_t>limit
    else:
        for i in prange(n, nogil=True, num_threads=nt, schedule="static"):
            wrong += <uint64_t>p[i] >= <uint64_t>limit
    if wrong:
        for i in range(n):
            if not 0 <= p[i] < limit:
                return i
    return -1


def unpool(cnp.ndarray x, cnp.ndarray indices, cnp.ndarray y):
    """y = 0, but x at the indices, int64 and in the plane; of several x for one pixel the last stays."""
    cdef fnn_pool p = windows(y, x, PIXELS)
    run(table_of(x).pool.unpool, &p, x, y, indices, 0)


def unpool_backward(cnp.ndarray dy, cnp.ndarray indices, cnp.ndarray dx):
    """dx = dy at the indices."""
    cdef fnn_pool p = windows(dy, dx, PIXELS)
    run(table_of(dy).pool.unpool_backward, &p, dy, dx, indices, 0)


def subsample(cnp.ndarray x, cnp.ndarray y, tuple geometry):
    """y = the pixel of every window of one pixel; its offset is a negative padding."""
    cdef fnn_pool p = windows(x, y, geometry)
    run(table_of(x).pool.subsample, &p, x, y, None, 0)


def subsample_backward(cnp.ndarray dy, cnp.ndarray dx, tuple geometry):
    """dx = dy at the pixels that were kept, zero elsewhere."""
    cdef fnn_pool p = windows(dx, dy, geometry)
    run(table_of(dy).pool.subsample_backward, &p, dy, dx, None, 0)
