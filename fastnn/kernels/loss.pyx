"""Losses: one value a problem, and their sum in double precision over blocks of fixed size."""

cimport numpy as cnp
from cython.parallel cimport prange
from libc.stdint cimport int64_t

from fastnn.kernels.runtime cimport (
    FNN_COLUMNS, FNN_F32, Scratch, data_or_null, fnn_classes, fnn_loss_ukernels, fnn_pair_loss, fnn_pairs, scratch,
    table_of, tables, threads_of,
)

cnp.import_array()

# Elements summed as one; part of the result, because it fixes the order of additions.
cdef Py_ssize_t BLOCK = 16384
# As in softmax.pyx: an element's share of the time, in operations.
cdef double CROSS_ENTROPY_FLOPS = 40
cdef double JS_FLOPS = 60


cdef int64_t *indices_or_null(cnp.ndarray target) noexcept:
    """The elements of a target of class indices; NULL if it holds probabilities."""
    return <int64_t *>cnp.PyArray_DATA(target) if cnp.PyArray_TYPE(target) == cnp.NPY_INT64 else NULL


cdef char *probabilities_or_null(cnp.ndarray target) noexcept:
    return NULL if cnp.PyArray_TYPE(target) == cnp.NPY_INT64 else <char *>cnp.PyArray_DATA(target)


def target_weight(cnp.ndarray target, int64_t ignore_index, cnp.ndarray weight):
    """How many targets (int64) are not ignore_index, or the sum of their classes' weights."""
    cdef const int64_t *p = <const int64_t *>cnp.PyArray_DATA(target)
    cdef Py_ssize_t n = cnp.PyArray_SIZE(target), i, count = 0
    cdef double total = 0
    cdef const double *wide
    if weight is None:
        with nogil:
            for i in range(n):
                count += p[i] != ignore_index
        return count
    weight = weight.astype(float)
    wide = <const double *>cnp.PyArray_DATA(weight)
    with nogil:
        for i in range(n):
            if p[i] != ignore_index:
                total += wide[p[i]]
    return total


cdef fnn_classes classes_of(Py_ssize_t n, int64_t ignore_index, double label_smoothing, cnp.ndarray weight):
    """n: how many."""
    cdef double total = n if weight is None else weight.sum(dtype=float)
    return fnn_classes(ignore_index, label_smoothing, data_or_null(weight), total)


def cross_entropy(cnp.ndarray x, cnp.ndarray target, Py_ssize_t outer, Py_ssize_t n, Py_ssize_t inner,
                  int64_t ignore_index, double label_smoothing, cnp.ndarray weight, cnp.ndarray loss, cnp.ndarray max,
                  cnp.ndarray sum, cnp.ndarray mass):
    """x (outer, n, inner), the others (outer, inner), a target of probabilities excepted; max, sum and, with one, mass
    are for the backward, or None."""
    cdef const fnn_loss_ukernels *uk = table_of(x).loss
    cdef fnn_classes o = classes_of(n, ignore_index, label_smoothing, weight)
    cdef const char *px = <const char *>cnp.PyArray_DATA(x)
    cdef int64_t *pt = indices_or_null(target)
    cdef char *pp = probabilities_or_null(target)
    cdef char *ploss = <char *>cnp.PyArray_DATA(loss)
    cdef char *pmax = <char *>data_or_null(max)
    cdef char *psum = <char *>data_or_null(sum)
    cdef char *pmass = <char *>data_or_null(mass)
    cdef Py_ssize_t es = cnp.PyArray_ITEMSIZE(x), i, j, k, at
    cdef Py_ssize_t blocks = (inner + FNN_COLUMNS - 1) // FNN_COLUMNS, tasks = outer * blocks
    cdef int nt = <int>min(threads_of(x, CROSS_ENTROPY_FLOPS, 1), tasks)
    for i in prange(tasks, nogil=True, num_threads=nt, schedule="static"):
        j = i % blocks * FNN_COLUMNS
        k = i // blocks * inner + j  # the problem
        at = (i // blocks * n * inner + j) * es
        uk.cross_entropy(n, inner, min(inner - j, <Py_ssize_t>FNN_COLUMNS), px + at,
                         NULL if pt == NULL else pt + k, NULL if pp == NULL else pp + at, &o, ploss + k * es,
                         NULL if pmax == NULL else pmax + k * es, NULL if psum == NULL else psum + k * es,
                         NULL if pmass == NULL else pmass + k * es)


def cross_entropy_backward(cnp.ndarray x, cnp.ndarray target, Py_ssize_t outer, Py_ssize_t n, Py_ssize_t inner,
                           int64_t ignore_index, double label_smoothing, cnp.ndarray weight, cnp.ndarray max,
                           cnp.ndarray sum, cnp.ndarray mass, cnp.ndarray dy, double scale, cnp.ndarray dx):
    """The gradient at a problem's loss is scale * dy, dy (outer, inner) or 0-d."""
    cdef const fnn_loss_ukernels *uk = table_of(x).loss
    cdef fnn_classes o = classes_of(n, ignore_index, label_smoothing, weight)
    cdef const char *px = <const char *>cnp.PyArray_DATA(x)
    cdef int64_t *pt = indices_or_null(target)
    cdef char *pp = probabilities_or_null(target)
    cdef const char *pmax = <const char *>cnp.PyArray_DATA(max)
    cdef const char *psum = <const char *>cnp.PyArray_DATA(sum)
    cdef char *pmass = data_or_null(mass)
    cdef const char *pdy = <const char *>cnp.PyArray_DATA(dy)
    cdef char *pdx = <char *>cnp.PyArray_DATA(dx)
    cdef Py_ssize_t es = cnp.PyArray_ITEMSIZE(x), i, j, k, at
    cdef Py_ssize_t blocks = (inner + FNN_COLUMNS - 1) // FNN_COLUMNS, tasks = outer * blocks
    cdef Py_ssize_t dy_step = cnp.PyArray_NDIM(dy) > 0
    cdef int nt = <int>min(threads_of(x, CROSS_ENTROPY_FLOPS, 2), tasks)
    for i in prange(tasks, nogil=True, num_threads=nt, schedule="static"):
        j = i % blocks * FNN_COLUMNS
        k = i // blocks * inner + j  # the problem
        at = (i // blocks * n * inner + j) * es
        uk.cross_entropy_backward(n, inner, min(inner - j, <Py_ssize_t>FNN_COLUMNS), px + at,
                                  NULL if pt == NULL else pt + k, NULL if pp == NULL else pp + at, &o, pmax + k * es,
                                  psum + k * es, NULL if pmass == NULL else pmass + k * es, pdy + dy_step * k * es,
                                  dy_step, scale, pdx + at)


def nll(cnp.ndarray x, cnp.ndarray target, Py_ssize_t outer, Py_ssize_t n, Py_ssize_t inner, int64_t ignore_index,
        cnp.ndarray weight, cnp.ndarray loss):
    """x (outer, n, inner), the others (outer, inner): one element of x a problem, so that threads would not pay."""
    cdef const fnn_loss_ukernels *uk = table_of(x).loss
    cdef fnn_classes o = classes_of(n, ignore_index, 0, weight)
    cdef const char *px = <const char *>cnp.PyArray_DATA(x)
    cdef const int64_t *pt = <const int64_t *>cnp.PyArray_DATA(target)
    cdef char *ploss = <char *>cnp.PyArray_DATA(loss)
    cdef Py_ssize_t es = cnp.PyArray_ITEMSIZE(x), i
    with nogil:
        if inner == 1:
            uk.nll(1, n, outer, px, pt, &o, ploss)
        else:
            for i in range(outer):
                uk.nll(inner, 1, inner, px + i * n * inner * es, pt + i * inner, &o, ploss + i * inner * es)


def nll_backward(cnp.ndarray target, Py_ssize_t outer, Py_ssize_t n, Py_ssize_t inner, int64_t ignore_index,
                 cnp.ndarray weight, cnp.ndarray dy, double scale, cnp.ndarray dx):
    """The gradient at a problem's loss is scale * dy, dy (outer, inner) or 0-d."""
    cdef const fnn_loss_ukernels *uk = table_of(dx).loss
    cdef fnn_classes o = classes_of(n, ignore_index, 0, weight)
    cdef const int64_t *pt = <const int64_t *>cnp.PyArray_DATA(target)
    cdef const char *pdy = <const char *>cnp.PyArray_DATA(dy)
    cdef char *pdx = <char *>cnp.PyArray_DATA(dx)
    cdef Py_ssize_t es = cnp.PyArray_ITEMSIZE(dx), dy_step = cnp.PyArray_NDIM(dy) > 0, i
    for i in prange(outer, nogil=True, num_threads=threads_of(dx, 1, 1), schedule="static"):
        uk.nll_backward(n, inner, inner, pt + i * inner, &o, pdy + dy_step * i * inner * es, dy_step, scale,
                        pdx + i * n * inner * es)


def js_divergence(cnp.ndarray p, cnp.ndarray q, Py_ssize_t outer, Py_ssize_t n, Py_ssize_t inner, cnp.ndarray loss):
    """p and q (outer, n, inner), loss (outer, inner)."""
    cdef const fnn_loss_ukernels *uk = table_of(p).loss
    cdef const char *pp = <const char *>cnp.PyArray_DATA(p)
    cdef const char *pq = <const char *>cnp.PyArray_DATA(q)
    cdef char *ploss = <char *>cnp.PyArray_DATA(loss)
    cdef Py_ssize_t es = cnp.PyArray_ITEMSIZE(p), i, j, at
    cdef Py_ssize_t blocks = (inner + FNN_COLUMNS - 1) // FNN_COLUMNS, tasks = outer * blocks
    cdef int nt = <int>min(threads_of(p, JS_FLOPS, 2), tasks)
    for i in prange(tasks, nogil=True, num_threads=nt, schedule="static"):
        j = i % blocks * FNN_COLUMNS
        at = (i // blocks * n * inner + j) * es
        uk.js_divergence(n, inner, min(inner - j, <Py_ssize_t>FNN_COLUMNS), pp + at, pq + at,
                         ploss + (i // blocks * inner + j) * es)


def js_divergence_backward(cnp.ndarray p, cnp.ndarray q, Py_ssize_t outer, Py_ssize_t n, Py_ssize_t inner,
                           cnp.ndarray dy, double scale, cnp.ndarray dp, cnp.ndarray dq):
    """The gradient at a problem's loss is scale * dy, dy (outer, inner) or 0-d; dp or dq may be None."""
    cdef const fnn_loss_ukernels *uk = table_of(p).loss
    cdef const char *pp = <const char *>cnp.PyArray_DATA(p)
    cdef const char *pq = <const char *>cnp.PyArray_DATA(q)
    cdef const char *pdy = <const char *>cnp.PyArray_DATA(dy)
    cdef char *pdp = <char *>data_or_null(dp)
    cdef char *pdq = <char *>data_or_null(dq)
    cdef Py_ssize_t es = cnp.PyArray_ITEMSIZE(p), dy_step = cnp.PyArray_NDIM(dy) > 0, i, j, at
    cdef Py_ssize_t blocks = (inner + FNN_COLUMNS - 1) // FNN_COLUMNS, tasks = outer * blocks
    cdef int nt = <int>min(threads_of(p, JS_FLOPS, 4), tasks)
    for i in prange(tasks, nogil=True, num_threads=nt, schedule="static"):
        j = i % blocks * FNN_COLUMNS
        at = (i // blocks * n * inner + j) * es
        uk.js_divergence_backward(n, inner, min(inner - j, <Py_ssize_t>FNN_COLUMNS), pp + at, pq + at,
                                  pdy + dy_step * (i // blocks * inner + j) * es, dy_step, scale,
                                  NULL if pdp == NULL else pdp + at, NULL if pdq == NULL else pdq + at)


cdef void store_quotient(double total, double divisor, cnp.ndarray y) noexcept:
    """y = total / divisor, y 0-d: NaN for 0 / 0, and no warning on overflow."""
    if cnp.PyArray_TYPE(y) == cnp.NPY_DOUBLE:
        (<double *>cnp.PyArray_DATA(y))[0] = total / divisor
    else:
        (<float *>cnp.PyArray_DATA(y))[0] = <float>(total / divisor)


def reduce(cnp.ndarray loss, double divisor, cnp.ndarray y):
    """y = Σ loss / divisor, y 0-d."""
    cdef const fnn_loss_ukernels *uk = table_of(loss).loss
    cdef const char *p = <const char *>cnp.PyArray_DATA(loss)
    cdef Py_ssize_t n = cnp.PyArray_SIZE(loss), es = cnp.PyArray_ITEMSIZE(loss), i
    cdef double total = 0
    with nogil:
        for i in range((n + BLOCK - 1) // BLOCK):
            total += uk.sum(min(BLOCK, n - i * BLOCK), p + i * BLOCK * es)
    store_quotient(total, divisor, y)


cdef list names_of(const fnn_pair_loss *f):
    cdef list names = []
    while f.name != NULL:
        names.append((<bytes>f.name).decode())
        f += 1
    return names


PAIR_LOSSES = {name: index for index, name in enumerate(names_of(tables[FNN_F32].loss.pairs))}
"""Losses of one element and its target: name -> place in the table."""


cdef fnn_pairs pairs_of(cnp.ndarray x, cnp.ndarray target, cnp.ndarray weight, cnp.ndarray positive, double p) noexcept:
    return fnn_pairs(cnp.PyArray_DATA(x), cnp.PyArray_DATA(target), data_or_null(weight), data_or_null(positive), p)


def pair_values(int loss, cnp.ndarray x, cnp.ndarray target, cnp.ndarray weight, cnp.ndarray positive, double p,
                cnp.ndarray y):
    """y[i] = the loss of x[i] and target[i]. weight and positive are of x's shape, or None."""
    cdef const fnn_pair_loss *f = &table_of(x).loss.pairs[loss]
    cdef fnn_pairs a = pairs_of(x, target, weight, positive, p)
    cdef char *py = <char *>cnp.PyArray_DATA(y)
    cdef Py_ssize_t n = cnp.PyArray_SIZE(x), i
    for i in prange((n + BLOCK - 1) // BLOCK, nogil=True, num_threads=threads_of(x, f.flops, 3), schedule="static"):
        f.values(&a, i * BLOCK, min(BLOCK, n - i * BLOCK), py)


def pair_reduce(int loss, cnp.ndarray x, cnp.ndarray target, cnp.ndarray weight, cnp.ndarray positive, double p,
                double divisor, cnp.ndarray y):
    """y = Σ losses / divisor, y 0-d."""
    cdef const fnn_pair_loss *f = &table_of(x).loss.pairs[loss]
    cdef fnn_pairs a = pairs_of(x, target, weight, positive, p)
    cdef Py_ssize_t n = cnp.PyArray_SIZE(x), i
    cdef Py_ssize_t tasks = (n + BLOCK - 1) // BLOCK
    cdef double total = 0
    cdef Scratch room
    cdef double *partial
    if tasks == 1:
        with nogil:
            total = f.sum(&a, 0, n)
    else:
        room = scratch(tasks * sizeof(double))
        partial = <double *>room.ptr
        for i in prange(tasks, nogil=True, num_threads=threads_of(x, f.flops, 2), schedule="static"):
            partial[i] = f.sum(&a, i * BLOCK, min(BLOCK, n - i * BLOCK))
        for i in range(tasks):
            total += partial[i]
    store_quotient(total, divisor, y)


def pair_gradients(int loss, cnp.ndarray x, cnp.ndarray target, cnp.ndarray weight, cnp.ndarray positive, double p,
                   cnp.ndarray dy, double scale, cnp.ndarray dx, cnp.ndarray dtarget):
    """The gradients, either of which may be None; that at loss i is scale * dy[i], or scale * dy of a 0-d dy."""
    cdef const fnn_pair_loss *f = &table_of(x).loss.pairs[loss]
    cdef fnn_pairs a = pairs_of(x, target, weight, positive, p)
    cdef const char *pdy = <const char *>cnp.PyArray_DATA(dy)
    cdef char *pdx = <char *>data_or_null(dx)
    cdef char *pdt = <char *>data_or_null(dtarget)
    cdef Py_ssize_t n = cnp.PyArray_SIZE(x), dy_step = cnp.PyArray_NDIM(dy) > 0, i
    for i in prange((n + BLOCK - 1) // BLOCK, nogil=True, num_threads=threads_of(x, f.flops, 4), schedule="static"):
        f.gradients(&a, i * BLOCK, min(BLOCK, n - i * BLOCK), pdy, dy_step, scale, pdx, pdt)
