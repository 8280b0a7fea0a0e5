"""Optimiser steps and the clipping of gradients over lists of arrays, in place.

Arguments that are lists hold equally many arrays, whose elements follow each other in one long range; threads share
that out, so that many small parameters cost as much as a large one.
"""

cimport numpy as cnp
from cython.parallel cimport prange
from libc.math cimport fmax, isnan, sqrt

from fastnn.kernels.runtime cimport (
    Scratch, ceil_div, fnn_optim_ukernels, fnn_step, fnn_step_function, scratch, table_of, threads_for,
)

cnp.import_array()

cdef enum:
    ARRAYS = 5                           # most lists of a step

# Elements that are summed as one; part of the result, because it fixes the order of additions.
cdef Py_ssize_t BLOCK = 16384
# An element's share of the time in cache, in operations.
cdef double SGD_FLOPS = 6, RMSPROP_FLOPS = 30, ADAM_FLOPS = 40, CLIP_FLOPS = 2

cdef struct Piece:
    Py_ssize_t first                     # where its elements begin in the range
    Py_ssize_t end
    char *a[ARRAYS]                      # a parameter, its gradient, its state; NULL if absent


cdef class Pieces:
    """The lists as pieces of a range."""
    cdef Scratch room
    cdef Piece *piece
    cdef Py_ssize_t count                # of pieces
    cdef Py_ssize_t size                 # elements
    cdef Py_ssize_t itemsize
    cdef int arrays                      # given

    def __init__(self, tuple lists):
        cdef list arrays = lists[0]
        cdef Py_ssize_t i
        cdef int k
        self.count = len(arrays)
        self.room = scratch(self.count * sizeof(Piece))
        self.piece = <Piece *>self.room.ptr
        for i in range(self.count):
            self.piece[i].first = self.size
            self.size += cnp.PyArray_SIZE(<cnp.ndarray>arrays[i])
            self.piece[i].end = self.size
        self.itemsize = cnp.PyArray_ITEMSIZE(<cnp.ndarray>arrays[0])
        for k in range(ARRAYS):
            arrays = lists[k] if k < len(lists) else None
            self.arrays += arrays is not None
            for i in range(self.count):
                self.piece[i].a[k] = NULL if arrays is None else <char *>cnp.PyArray_DATA(<cnp.ndarray>arrays[i])


cdef Py_ssize_t piece_at(const Piece *piece, Py_ssize_t count, Py_ssize_t element) noexcept nogil:
    """The piece that an element of the range lies in."""
    cdef Py_ssize_t low = 0, high = count - 1, middle
    while low < high:
        middle = (low + high) // 2
        if piece[middle].end <= element:
            low = middle + 1
        else:
            high = middle
    return low


cdef void step_range(fnn_step_function *f, const fnn_step *o, const Piece *piece, Py_ssize_t count, Py_ssize_t itemsize,
                     Py_ssize_t first, Py_ssize_t last) noexcept nogil:
    """The step of the elements [first, last) of the range."""
    cdef Py_ssize_t i = piece_at(piece, count, first), n, offset
    cdef void *a[ARRAYS]
    cdef int k
    while first < last:
        n = min(piece[i].end, last) - first
        offset = (first - piece[i].first) * itemsize
        for k in range(ARRAYS):
            a[k] = piece[i].a[k] + offset if piece[i].a[k] != NULL else NULL
        if n > 0:
            f(o, n, a)
        first += n
        i += 1


cdef int run(fnn_step_function *f, const fnn_step *o, Pieces p, double flops, double traffic) except -1:
    """The step of all elements, with so many arrays of theirs read or written."""
    cdef Piece *piece = p.piece
    cdef Py_ssize_t size = p.size, itemsize = p.itemsize, count = p.count
    cdef int nt = threads_for(flops * size, traffic * size * itemsize), i
    if nt == 1:
        with nogil:
            step_range(f, o, piece, count, itemsize, 0, size)
        return 0
    for i in prange(nt, nogil=True, num_threads=nt, schedule="static", chunksize=1):
        step_range(f, o, piece, count, itemsize, size * i // nt, size * (i + 1) // nt)
    return 0


def sgd(tuple lists, double lr, double momentum, double dampening, double weight_decay, int nesterov, int maximize,
        int first):
    """lists: parameters, gradients, momentum buffers or None."""
    cdef Pieces p = Pieces(lists)
    cdef fnn_step o
    o.lr, o.momentum, o.dampening, o.weight_decay = lr, momentum, dampening, weight_decay
    o.nesterov, o.maximize, o.first = nesterov, maximize, first
    run(table_of(lists[0][0]).optim.sgd, &o, p, SGD_FLOPS, 5 if momentum else 3)


def rmsprop(tuple lists, double lr, double alpha, double eps, double weight_decay, double momentum, int maximize):
    """lists: parameters, gradients, mean squares, means or None, momentum buffers or None."""
    cdef Pieces p = Pieces(lists)
    cdef fnn_step o
    o.lr, o.beta2, o.eps, o.weight_decay, o.momentum = lr, alpha, eps, weight_decay, momentum
    o.maximize, o.centered = maximize, lists[3] is not None
    run(table_of(lists[0][0]).optim.rmsprop, &o, p, RMSPROP_FLOPS, 2 * p.arrays - 1)


def adam(tuple lists, Py_ssize_t step, double lr, double beta1, double beta2, double eps, double weight_decay,
         int decoupled, int maximize):
    """lists: parameters, gradients, means, mean squares, their maxima or None."""
    cdef Pieces p = Pieces(lists)
    cdef fnn_step o
    o.lr, o.beta1, o.beta2, o.eps, o.weight_decay = lr, beta1, beta2, eps, weight_decay
    o.rate, o.shrink = lr / (1 - beta1 ** step), 1 / sqrt(1 - beta2 ** step)
    o.maximize, o.decoupled, o.amsgrad = maximize, decoupled, lists[4] is not None
    run(table_of(lists[0][0]).optim.adam, &o, p, ADAM_FLOPS, 2 * p.arrays - 1)


cdef double measure(const fnn_optim_ukernels *uk, bint largest, const Piece *piece, Py_ssize_t count,
                    Py_ssize_t itemsize, Py_ssize_t first, Py_ssize_t last) noexcept nogil:
    """The largest magnitude of the elements [first, last), or the sum of their squares."""
    cdef Py_ssize_t i = piece_at(piece, count, first), n
    cdef double total = 0, part
    cdef const char *x
    while first < last:
        n = min(piece[i].end, last) - first
        x = piece[i].a[0] + (first - piece[i].first) * itemsize
        part = uk.largest(n, x) if largest else uk.sum_of_squares(n, x)
        total = combine(largest, total, part)
        first += n
        i += 1
    return total


cdef double combine(bint largest, double a, double b) noexcept nogil:
    """Of two parts; NaN if one is."""
    if not largest:
        return a + b
    return a + b if isnan(a) or isnan(b) else fmax(a, b)


def norm(list grads, bint largest, cnp.ndarray y):
    """The Euclidean norm of all elements together, or their largest magnitude, in double precision; y, 0-d, is it."""
    cdef Pieces p = Pieces((grads,))
    cdef const fnn_optim_ukernels *uk = table_of(grads[0]).optim
    cdef Piece *piece = p.piece
    cdef Py_ssize_t size = p.size, itemsize = p.itemsize, count = p.count, tasks = ceil_div(p.size, BLOCK), i
    cdef Scratch room = scratch(tasks * sizeof(double))
    cdef double *partial = <double *>room.ptr
    cdef double total = 0
    cdef int nt = threads_for(CLIP_FLOPS * size, <double>size * itemsize)
    for i in prange(tasks, nogil=True, num_threads=nt, schedule="static"):
        partial[i] = measure(uk, largest, piece, count, itemsize, i * BLOCK, min((i + 1) * BLOCK, size))
    for i in range(tasks):
        total = combine(largest, total, partial[i])
    total = total if largest else sqrt(total)
    if cnp.PyArray_TYPE(y) == cnp.NPY_DOUBLE:
        (<double *>cnp.PyArray_DATA(y))[0] = total
    else:                                    # without NumPy's warning on overflow
        (<float *>cnp.PyArray_DATA(y))[0] = <float>total
    return total


def scale(list grads, double factor):
    """grads *= factor"""
    cdef Pieces p = Pieces((grads,))
    cdef fnn_step o
    o.rate = factor
    run(table_of(grads[0]).optim.scale, &o, p, CLIP_FLOPS, 2)


def clamp(list grads, double limit):
    """Clip all elements to [-limit, limit]."""
    cdef Pieces p = Pieces((grads,))
    cdef fnn_step o
    o.rate = limit
    run(table_of(grads[0]).optim.clamp, &o, p, CLIP_FLOPS, 2)
