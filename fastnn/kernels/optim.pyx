"""Optimiser steps and the clipping of gradients over lists of arrays, in place.

Functions check nothing and give a Step, which the caller calls: an optimiser readies those of all its parameters first.
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


cdef class Step(Pieces):
    """A step that is ready: to call it allocates nothing, and cannot fail."""
    cdef tuple lists                     # keeps the arrays
    cdef fnn_step_function *function
    cdef fnn_step o
    cdef double flops                    # of an element
    cdef double traffic                  # arrays read or written

    def __init__(self, tuple lists):
        Pieces.__init__(self, lists)
        self.lists = lists

    cdef Step use(self, fnn_step_function *function, double flops, double traffic):
        self.function, self.flops, self.traffic = function, flops, traffic
        return self

    def __call__(self):
        cdef fnn_step_function *f = self.function
        cdef const fnn_step *o = &self.o
        cdef Piece *piece = self.piece
        cdef Py_ssize_t size = self.size, itemsize = self.itemsize, count = self.count
        cdef int nt = threads_for(self.flops * size, self.traffic * size * itemsize), i
        if nt == 1:
            with nogil:
                step_range(f, o, piece, count, itemsize, 0, size)
            return
        for i in prange(nt, nogil=True, num_threads=nt, schedule="static", chunksize=1):
            step_range(f, o, piece, count, itemsize, size * i // nt, size * (i + 1) // nt)


def sgd(tuple lists, double lr, double momentum, double dampening, double weight_decay, int nesterov, int maximize,
        int first):
    """lists: parameters, gradients, momentum buffers or None."""
    cdef Step s = Step(lists)
    s.o.lr, s.o.momentum, s.o.dampening, s.o.weight_decay = lr, momentum, dampening, weight_decay
    s.o.nesterov, s.o.maximize, s.o.first = nesterov, maximize, first
    return s.use(table_of(lists[0][0]).optim.sgd, SGD_FLOPS, 5 if momentum else 3)


def rmsprop(tuple lists, double lr, double alpha, double eps, double weight_decay, double momentum, int maximize):
    """lists: parameters, gradients, mean squares, means or None, momentum buffers or None."""
    cdef Step s = Step(lists)
    s.o.lr, s.o.beta2, s.o.eps, s.o.weight_decay, s.o.momentum = lr, alpha, eps, weight_decay, momentum
    s.o.maximize, s.o.centered = maximize, lists[3] is not None
    return s.use(table_of(lists[0][0]).optim.rmsprop, RMSPROP_FLOPS, 2 * s.arrays - 1)


def adam(tuple lists, Py_ssize_t step, double lr, double beta1, double beta2, double eps, double weight_decay,
         int decoupled, int maximize):
    """lists: parameters, gradients, means, mean squares, their maxima or None."""
    cdef Step s = Step(lists)
    s.o.lr, s.o.beta1, s.o.beta2, s.o.eps, s.o.weight_decay = lr, beta1, beta2, eps, weight_decay
    s.o.rate, s.o.shrink = lr / (1 - beta1 ** step), 1 / sqrt(1 - beta2 ** step)
    s.o.maximize, s.o.decoupled, s.o.amsgrad = maximize, decoupled, lists[4] is not None
    return s.use(table_of(lists[0][0]).optim.adam, ADAM_FLOPS, 2 * s.arrays - 1)


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
    cdef Step s = Step((grads,))
    s.o.rate = factor
    return s.use(table_of(grads[0]).optim.scale, CLIP_FLOPS, 2)


def clamp(list grads, double limit):
    """Clip all elements to [-limit, limit]."""
    cdef Step s = Step((grads,))
    s.o.rate = limit
    return s.use(table_of(grads[0]).optim.clamp, CLIP_FLOPS, 2)
