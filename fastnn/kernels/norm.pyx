"""Normalisation: channels are independent, so they are what threads share out; in inference images are, too."""

cimport numpy as cnp
from cython.parallel cimport prange

from fastnn.kernels.runtime cimport ceil_div, data_or_null, past_caches, table_of, threads_for
from fastnn.kernels.ukernels cimport fnn_batch_norm, fnn_batch_norm_backward, fnn_norm_ukernels

cnp.import_array()

# Bytes of x a task of inference works on, for which it computes the map of its channels.
cdef Py_ssize_t TASK_BYTES = 1 << 18
# Results of shorter rows go through the caches: lines at their ends are shared.
cdef Py_ssize_t LONG_ROW = 2048


def batch_norm(cnp.ndarray x, cnp.ndarray weight, cnp.ndarray bias, cnp.ndarray running_mean, cnp.ndarray running_var,
               cnp.ndarray residual, cnp.ndarray y, cnp.ndarray mean, cnp.ndarray invstd, Py_ssize_t n, Py_ssize_t c,
               Py_ssize_t s, bint training, double momentum, double eps, bint relu, double flops, double nbytes):
    """y (n, c, s); mean and invstd are float64 or None; running statistics are updated in place if training."""
    cdef const fnn_norm_ukernels *uk = table_of(x).norm
    cdef fnn_batch_norm p
    p.n, p.c, p.s = n, c, s
    p.x, p.weight, p.bias, p.y = data_or_null(x), data_or_null(weight), data_or_null(bias), data_or_null(y)
    p.residual = data_or_null(residual)
    p.running_mean, p.running_var = data_or_null(running_mean), data_or_null(running_var)
    p.mean, p.invstd = <double *>data_or_null(mean), <double *>data_or_null(invstd)
    p.momentum, p.eps, p.relu = momentum, eps, relu
    cdef Py_ssize_t es = cnp.PyArray_ITEMSIZE(x), block = 1 if training and s > 1 else uk.block
    cdef Py_ssize_t blocks = ceil_div(c, block), task, images, groups
    cdef int nt = threads_for(flops, nbytes)
    p.past = s * es >= LONG_ROW and past_caches(nbytes)
    if training:
        for task in prange(blocks, nogil=True, num_threads=nt, schedule="static"):
            uk.batch_norm(&p, task * block)
        return
    images = max(1, TASK_BYTES // (min(block, c) * s * es))
    groups = ceil_div(n, images)
    for task in prange(groups * blocks, nogil=True, num_threads=nt, schedule="static"):
        uk.batch_norm_fixed(&p, task % blocks * block, task // blocks * images,
                            min(images, n - task // blocks * images))


def batch_norm_backward(cnp.ndarray dy, cnp.ndarray x, cnp.ndarray y, cnp.ndarray weight, cnp.ndarray bias,
                        cnp.ndarray mean, cnp.ndarray invstd, cnp.ndarray dx, cnp.ndarray dresidual,
                        cnp.ndarray dweight, cnp.ndarray dbias, Py_ssize_t n, Py_ssize_t c, Py_ssize_t s,
                        bint training, bint relu, double flops, double nbytes):
    """dx, dresidual, dweight and dbias where they are not None; dresidual comes with dx only."""
    cdef const fnn_norm_ukernels *uk = table_of(x).norm
    cdef fnn_batch_norm_backward p
    p.n, p.c, p.s = n, c, s
    p.dy, p.x, p.y, p.weight, p.bias = data_or_null(dy), data_or_null(x), data_or_null(y), data_or_null(weight), \
        data_or_null(bias)
    p.mean, p.invstd = <const double *>data_or_null(mean), <const double *>data_or_null(invstd)
    p.dx, p.dresidual, p.dweight, p.dbias = data_or_null(dx), data_or_null(dresidual), data_or_null(dweight), \
        data_or_null(dbias)
    p.training, p.relu = training, relu
    p.past = s * cnp.PyArray_ITEMSIZE(x) >= LONG_ROW and past_caches(nbytes)
    cdef Py_ssize_t block = 1 if s > 1 else uk.block, task
    for task in prange(ceil_div(c, block), nogil=True, num_threads=threads_for(flops, nbytes), schedule="static"):
        uk.batch_norm_backward(&p, task * block)
