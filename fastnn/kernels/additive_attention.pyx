"""Additive attention (Bahdanau et al. 2014): a score is the sum of weight · tanh(q + k) over the features, and no
tensor of all pairs and features is ever stored. The weights are, and the backward pass computes the tanh again.
"""

cimport numpy as cnp
from cython.parallel cimport prange, threadid
from libc.string cimport memcpy

from fastnn.kernels.attention cimport KEYS, multiply_rows, read_bytes, read_values, row_length, whole_rows
from fastnn.kernels.gemm cimport tile_count, tile_row
from fastnn.kernels.runtime cimport (
    Scratch, aligned, ceil_div, data_or_null, fnn_additive_ukernels, fnn_gemm_ukernels, fnn_softmax_ukernels, scratch,
    table_of, threads_for,
)
from fastnn.kernels.ukernels cimport FNN_ACCUMULATE, fnn_ukernels

cnp.import_array()

# A tanh's share of the time, with what is added around it, in operations.
cdef double TANH_FLOPS = 40

cdef enum:
    FEATURES = 64     # of a task of the backward pass, at most


cdef struct Additive:
    const fnn_gemm_ukernels *gemm
    const fnn_additive_ukernels *uk
    Py_ssize_t heads, t, s, a, m  # queries, keys; features of these, and of values
    Py_ssize_t es
    const char *q
    const char *k
    const char *weight
    const char *v
    const char *mask          # NULL: none; the mask of head h begins at mask_at[h], in bytes
    const Py_ssize_t *mask_at
    Py_ssize_t mask_row, mask_column  # steps from key to key, from query to query
    bint boolean
    char *weights             # (heads, t, s)
    Py_ssize_t *along
    Py_ssize_t *down          # by rows of weights


cdef void forward_task(const Additive *g, char *y, Py_ssize_t task, char *tmp) noexcept nogil:
    """A tile of a head's queries."""
    cdef Py_ssize_t tiles = tile_count(g.gemm, g.t), head = task // tiles, es = g.es, i
    cdef Py_ssize_t t0 = tile_row(task % tiles, tiles, g.t), t1 = tile_row(task % tiles + 1, tiles, g.t)
    cdef const char *k = g.k + head * g.s * g.a * es
    cdef const char *v = g.v + head * g.s * g.m * es
    cdef char *weights = g.weights + (head * g.t + t0) * g.s * es
    cdef const char *mask = NULL
    for i in range(t1 - t0):
        g.uk.scores(g.s, g.a, g.q + (head * g.t + t0 + i) * g.a * es, k, g.weight, weights + i * g.s * es)
        if g.mask != NULL:
            mask = g.mask + g.mask_at[head] + (t0 + i) * g.mask_column * (1 if g.boolean else es)
        g.uk.softmax(g.s, mask, g.mask_row, g.boolean, weights + i * g.s * es, NULL, NULL)
    read_values(g.gemm, t1 - t0, g.s, g.m, weights, g.s, v, g.along, y + (head * g.t + t0) * g.m * es, tmp)


cdef void scores_task(const Additive *g, const fnn_softmax_ukernels *softmax, const char *dy, const char *dweights,
                      Py_ssize_t row, char *ds) noexcept nogil:
    """The gradient at the scores of one query of one head."""
    cdef Py_ssize_t es = g.es
    cdef const char *v = g.v + row // g.t * g.s * g.m * es
    ds += row * g.s * es
    if dweights != NULL:
        memcpy(ds, dweights + row * g.s * es, g.s * es)
    g.gemm.dot(1, g.s, g.m, dy + row * g.m * es, g.m, v, g.m, ds, g.s, NULL, FNN_ACCUMULATE if dweights != NULL else 0)
    softmax.softmax_backward(g.s, 1, 1, ds, g.weights + row * g.s * es, ds)


cdef void values_task(const Additive *g, const char *dy, Py_ssize_t task, char *dv, char *tmp) noexcept nogil:
    """The gradient at a tile of a head's values."""
    cdef Py_ssize_t tiles = tile_count(g.gemm, g.s), head = task // tiles, es = g.es, t0 = 0, queries
    cdef Py_ssize_t s0 = tile_row(task % tiles, tiles, g.s), s1 = tile_row(task % tiles + 1, tiles, g.s)
    cdef char *copy = tmp + aligned(g.gemm.mr * KEYS * es)
    while t0 < g.t:
        queries = min(<Py_ssize_t>KEYS, g.t - t0)
        g.gemm.pack_a(s1 - s0, queries, g.weights + ((head * g.t + t0) * g.s + s0) * es, 1, g.down, tmp)
        multiply_rows(g.gemm, s1 - s0, g.m, queries, tmp,
                      whole_rows(g.gemm, dy + (head * g.t + t0) * g.m * es, queries, g.m, copy),
                      row_length(g.gemm, g.m), dv + (head * g.s + s0) * g.m * es, FNN_ACCUMULATE if t0 else 0)
        t0 += queries


cdef class Arguments:
    """An Additive of arrays, which live as long as this."""
    cdef Additive g
    cdef tuple arrays
    cdef Scratch offsets

    def __init__(self, cnp.ndarray q, cnp.ndarray k, cnp.ndarray weight, cnp.ndarray v, mask, mask_at,
                 Py_ssize_t mask_row, Py_ssize_t mask_column, weights):
        cdef Additive *g = &self.g
        cdef const fnn_ukernels *uk = table_of(q)
        cdef Py_ssize_t i
        self.arrays = q, k, weight, v, mask, mask_at, weights
        g.gemm, g.uk = uk.gemm, uk.additive
        g.heads, g.t, g.a = q.shape[0], q.shape[1], q.shape[2]
        g.s, g.m, g.es = k.shape[1], v.shape[2], q.itemsize
        g.q, g.k, g.weight, g.v = data_or_null(q), data_or_null(k), data_or_null(weight), data_or_null(v)
        g.mask, g.mask_at = data_or_null(mask), <const Py_ssize_t *>data_or_null(mask_at)
        g.mask_row, g.mask_column = mask_row, mask_column
        g.boolean = mask is not None and cnp.PyArray_ISBOOL(mask)
        g.weights = data_or_null(weights)
        self.offsets = scratch(2 * KEYS * sizeof(Py_ssize_t))
        g.along = <Py_ssize_t *>self.offsets.ptr
        g.down = g.along + KEYS
        for i in range(KEYS):
            g.along[i], g.down[i] = i, i * g.s

    cdef int threads(self, double tanh_flops, double products):
        cdef Additive *g = &self.g
        cdef double pairs = <double>g.heads * g.t * g.s
        return threads_for(pairs * (tanh_flops * g.a + products * g.m),
                           (<double>g.heads * (g.t + g.s) * (g.a + g.m) + pairs) * g.es)


def forward(Arguments a, cnp.ndarray y):
    """y (heads, T, M), and the weights."""
    cdef const Additive *g = &a.g
    cdef Py_ssize_t i, tasks = g.heads * tile_count(g.gemm, g.t), nbytes = read_bytes(g.gemm, g.m)
    cdef int threads = <int>min(<Py_ssize_t>a.threads(TANH_FLOPS, 2), tasks)
    cdef Scratch tmp = scratch(threads * nbytes)
    cdef char *to = data_or_null(y)
    for i in prange(tasks, nogil=True, num_threads=threads, schedule="static"):
        forward_task(g, to, i, tmp.ptr + threadid() * nbytes)


def backward(Arguments a, cnp.ndarray dy, dweights, cnp.ndarray ds, dq, dk, dv, dweight):
    """ds (heads, T, S), the gradient at the scores, and those that are not None; dweight (heads, A), of each head.
    dweights: None is zero."""
    cdef const Additive *g = &a.g
    cdef const fnn_softmax_ukernels *softmax = table_of(dy).softmax
    cdef Py_ssize_t i, head, column, es = g.es, rows = g.heads * g.t, nbytes = read_bytes(g.gemm, g.m)
    cdef Py_ssize_t values = g.heads * tile_count(g.gemm, g.s), chunks = ceil_div(g.a, FEATURES)
    cdef int threads = a.threads(TANH_FLOPS, 4)
    cdef Scratch tmp = scratch(threads * nbytes)
    cdef const char *p_dy = data_or_null(dy)
    cdef const char *p_dweights = data_or_null(dweights)
    cdef char *p_ds = data_or_null(ds)
    cdef char *p_dq = data_or_null(dq)
    cdef char *p_dk = data_or_null(dk)
    cdef char *p_dv = data_or_null(dv)
    cdef char *p_dweight = data_or_null(dweight)
    for i in prange(rows, nogil=True, num_threads=threads, schedule="static"):
        scores_task(g, softmax, p_dy, p_dweights, i, p_ds)
    if p_dv != NULL:
        for i in prange(values, nogil=True, num_threads=threads, schedule="static"):
            values_task(g, p_dy, i, p_dv, tmp.ptr + threadid() * nbytes)
    if p_dq == NULL and p_dk == NULL and p_dweight == NULL:
        return
    for i in prange(g.heads * chunks, nogil=True, num_threads=threads, schedule="static"):
        head, column = i // chunks, i % chunks * FEATURES
        g.uk.backward(
            g.t, g.s, min(<Py_ssize_t>FEATURES, g.a - column), g.a, g.q + (head * g.t * g.a + column) * es,
            g.k + (head * g.s * g.a + column) * es, g.weight + column * es, p_ds + head * g.t * g.s * es,
            p_dq + (head * g.t * g.a + column) * es if p_dq != NULL else NULL,
            p_dk + (head * g.s * g.a + column) * es if p_dk != NULL else NULL,
            p_dweight + (head * g.a + column) * es if p_dweight != NULL else NULL)
