"""Functions of one element: a table in csrc, and two loop nests for all of them."""

cimport numpy as cnp
from cython.parallel cimport prange

from fastnn.kernels.runtime cimport (
    FNN_F32, ceil_div, data_or_null, fnn_function, past_caches, table_of, tables, threads_for
)

cnp.import_array()

# Elements a task; a multiple of every vector length, so that only the last task has a tail.
cdef Py_ssize_t BLOCK = 16384

ctypedef void (*unary_t)(Py_ssize_t n, const void *x, void *y, double p, double q, int past) noexcept nogil
ctypedef void (*binary_t)(Py_ssize_t n, const void *a, const void *b, void *y, double p, double q,
                          int past) noexcept nogil


cdef void map_unary(unary_t f, cnp.ndarray x, cnp.ndarray y, double p, double q, double flops) noexcept:
    """y[i] = f(x[i], p, q) at `flops` operations an element."""
    cdef const char *px = <const char *>cnp.PyArray_DATA(x)
    cdef char *py = <char *>cnp.PyArray_DATA(y)
    cdef Py_ssize_t n = cnp.PyArray_SIZE(x), es = cnp.PyArray_ITEMSIZE(x), i
    cdef Py_ssize_t tasks = (n + BLOCK - 1) // BLOCK
    cdef int nt = threads_for(n * flops, 2. * n * es), past = px != py and past_caches(2 * n * es)
    if nt == 1:
        with nogil:
            f(n, px, py, p, q, past)
        return
    for i in prange(tasks, nogil=True, num_threads=nt, schedule="static"):
        f(min(BLOCK, n - i * BLOCK), px + i * BLOCK * es, py + i * BLOCK * es, p, q, past)


cdef void map_binary(binary_t f, cnp.ndarray a, cnp.ndarray b, cnp.ndarray y, double p, double q,
                     double flops) noexcept:
    """y[i] = f(a[i], b[i], p, q) at `flops` operations an element."""
    cdef const char *pa = <const char *>cnp.PyArray_DATA(a)
    cdef const char *pb = <const char *>cnp.PyArray_DATA(b)
    cdef char *py = <char *>cnp.PyArray_DATA(y)
    cdef Py_ssize_t n = cnp.PyArray_SIZE(y), es = cnp.PyArray_ITEMSIZE(y), i
    cdef Py_ssize_t tasks = (n + BLOCK - 1) // BLOCK
    cdef int nt = threads_for(n * flops, 3. * n * es), past = py != pa and py != pb and past_caches(3 * n * es)
    if nt == 1:
        with nogil:
            f(n, pa, pb, py, p, q, past)
        return
    for i in prange(tasks, nogil=True, num_threads=nt, schedule="static"):
        f(min(BLOCK, n - i * BLOCK), pa + i * BLOCK * es, pb + i * BLOCK * es, py + i * BLOCK * es, p, q, past)


cdef list names_of(const fnn_function *f):
    cdef list names = []
    while f.name != NULL:
        names.append((<bytes>f.name).decode())
        f += 1
    return names


FUNCTIONS = {name: index for index, name in enumerate(names_of(tables[FNN_F32].functions))}
"""Name -> place in the table."""
KEEPS_X = tuple([tables[FNN_F32].functions[index].keeps_x != 0 for index in range(len(FUNCTIONS))])
"""Which of them need x for their gradient; the others need y."""


def value(int function, cnp.ndarray x, cnp.ndarray y, double p, double q):
    """y = f(x)"""
    cdef const fnn_function *f = &table_of(x).functions[function]
    map_unary(f.value, x, y, p, q, f.value_flops)


def gradient(int function, cnp.ndarray dy, cnp.ndarray kept, cnp.ndarray dx, double p, double q):
    """dx = dy f'(x), from x or y"""
    cdef const fnn_function *f = &table_of(dy).functions[function]
    map_binary(f.gradient, dy, kept, dx, p, q, f.gradient_flops)


def add(cnp.ndarray a, cnp.ndarray b, cnp.ndarray y, bint relu):
    """y = a + b, max(a + b, 0) if relu"""
    uk = table_of(a).add
    map_binary(uk.add_relu if relu else uk.add, a, b, y, 0, 0, 1)


def add_backward(cnp.ndarray dy, cnp.ndarray y, cnp.ndarray da, cnp.ndarray db):
    """da = db = dy, where y > 0 unless y is None; one of da and db may be None."""
    if da is None:
        da, db = db, None
    uk = table_of(dy).add
    cdef const char *pdy = <const char *>cnp.PyArray_DATA(dy)
    cdef const char *py = data_or_null(y)
    cdef char *pa = <char *>cnp.PyArray_DATA(da)
    cdef char *pb = data_or_null(db)
    cdef Py_ssize_t n = cnp.PyArray_SIZE(dy), es = cnp.PyArray_ITEMSIZE(dy), i, at
    cdef double nbytes = (2. + (y is not None) + (db is not None)) * n * es
    cdef int past = past_caches(nbytes)
    for i in prange(ceil_div(n, BLOCK), nogil=True, num_threads=threads_for(n, nbytes), schedule="static"):
        at = i * BLOCK * es
        uk.backward(min(BLOCK, n - i * BLOCK), pdy + at, py + at if py else NULL, pa + at, pb + at if pb else NULL,
                    past)
