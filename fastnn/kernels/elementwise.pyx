"""Functions of one element."""

cimport numpy as cnp
from cython.parallel cimport prange

from fastnn.kernels.runtime cimport table_of, threads_for

cnp.import_array()

# Elements a task; a multiple of every vector length, so that only the last task has a tail.
cdef Py_ssize_t BLOCK = 16384

ctypedef void (*unary_t)(Py_ssize_t n, const void *x, void *y) noexcept nogil
ctypedef void (*binary_t)(Py_ssize_t n, const void *a, const void *b, void *y) noexcept nogil


cdef void map_unary(unary_t f, cnp.ndarray x, cnp.ndarray y, double flops) noexcept:
    """y[i] = f(x[i]) at `flops` operations an element."""
    cdef const char *px = <const char *>cnp.PyArray_DATA(x)
    cdef char *py = <char *>cnp.PyArray_DATA(y)
    cdef Py_ssize_t n = cnp.PyArray_SIZE(x), es = cnp.PyArray_ITEMSIZE(x), i
    cdef Py_ssize_t tasks = (n + BLOCK - 1) // BLOCK
    cdef int nt = threads_for(n * flops, 2. * n * es)
    if nt == 1:
        with nogil:
            f(n, px, py)
        return
    for i in prange(tasks, nogil=True, num_threads=nt, schedule="static"):
        f(min(BLOCK, n - i * BLOCK), px + i * BLOCK * es, py + i * BLOCK * es)


cdef void map_binary(binary_t f, cnp.ndarray a, cnp.ndarray b, cnp.ndarray y, double flops) noexcept:
    """y[i] = f(a[i], b[i]) at `flops` operations an element."""
    cdef const char *pa = <const char *>cnp.PyArray_DATA(a)
    cdef const char *pb = <const char *>cnp.PyArray_DATA(b)
    cdef char *py = <char *>cnp.PyArray_DATA(y)
    cdef Py_ssize_t n = cnp.PyArray_SIZE(y), es = cnp.PyArray_ITEMSIZE(y), i
    cdef Py_ssize_t tasks = (n + BLOCK - 1) // BLOCK
    cdef int nt = threads_for(n * flops, 3. * n * es)
    if nt == 1:
        with nogil:
            f(n, pa, pb, py)
        return
    for i in prange(tasks, nogil=True, num_threads=nt, schedule="static"):
        f(min(BLOCK, n - i * BLOCK), pa + i * BLOCK * es, pb + i * BLOCK * es, py + i * BLOCK * es)


def relu(cnp.ndarray x, cnp.ndarray y):
    map_unary(table_of(x).elementwise.relu, x, y, 1)


def relu_backward(cnp.ndarray dy, cnp.ndarray y, cnp.ndarray dx):
    map_binary(table_of(dy).elementwise.relu_backward, dy, y, dx, 1)


# Exponential and division cost about this many operations' time.
cdef double EXP_FLOPS = 20


def sigmoid(cnp.ndarray x, cnp.ndarray y):
    map_unary(table_of(x).elementwise.sigmoid, x, y, EXP_FLOPS)


def sigmoid_backward(cnp.ndarray dy, cnp.ndarray y, cnp.ndarray dx):
    map_binary(table_of(dy).elementwise.sigmoid_backward, dy, y, dx, 3)


def tanh(cnp.ndarray x, cnp.ndarray y):
    map_unary(table_of(x).elementwise.tanh, x, y, EXP_FLOPS)


def tanh_backward(cnp.ndarray dy, cnp.ndarray y, cnp.ndarray dx):
    map_binary(table_of(dy).elementwise.tanh_backward, dy, y, dx, 4)


def squared_error(cnp.ndarray x, cnp.ndarray target, cnp.ndarray y):
    map_binary(table_of(x).elementwise.squared_error, x, target, y, 2)
