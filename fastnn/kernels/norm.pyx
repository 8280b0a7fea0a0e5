"""Normalisation: channels are independent, so they are what threads share out."""

cimport numpy as cnp
from cython.parallel cimport prange

from fastnn.kernels.runtime cimport data_or_null, table_of, threads_for
from fastnn.kernels.ukernels cimport fnn_batch_norm, fnn_batch_norm_backward, fnn_norm_ukernels

cnp.import_array()


def batch_norm(cnp.ndarray x, cnp.ndarray weight, cnp.ndarray bias, cnp.ndarray running_mean, cnp.ndarray running_var,
               cnp.ndarray y, cnp.ndarray mean, cnp.ndarray invstd, Py_ssize_t n, Py_ssize_t c, Py_ssize_t s,
               bint training, double momentum, double eps, double flops, double nbytes):
    """y (n, c, s); mean and invstd are float64 or None; running statistics are updated in place if training."""
    cdef const fnn_norm_ukernels *uk = table_of(x).norm
    cdef fnn_batch_norm p
    p.n, p.c, p.s = n, c, s
    p.x, p.weight, p.bias, p.y = data_or_null(x), data_or_null(weight), data_or_null(bias), data_or_null(y)
    p.running_mean, p.running_var = data_or_null(running_mean), data_or_null(running_var)
    p.mean, p.invstd = <double *>data_or_null(mean), <double *>data_or_null(invstd)
    p.training, p.momentum, p.eps = training, momentum, eps
    cdef Py_ssize_t block = 1 if s > 1 else uk.block, task
    for task in prange((c + block - 1) // block, nogil=True, num_threads=threads_for(flops, nbytes), schedule="static"):
        uk.batch_norm(&p, task * block)


def batch_norm_backward(cnp.ndarray dy, cnp.ndarray x, cnp.ndarray weight, cnp.ndarray mean, cnp.ndarray invstd,
                        cnp.ndarray dx, cnp.ndarray dweight, cnp.ndarray dbias, Py_ssize_t n, Py_ssize_t c,
                        Py_ssize_t s, bint training, double flops, double nbytes):
    """dx, dweight and dbias where they are not None."""
    cdef const fnn_norm_ukernels *uk = table_of(x).norm
    cdef fnn_batch_norm_backward p
    p.n, p.c, p.s = n, c, s
    p.dy, p.x, p.weight = data_or_null(dy), data_or_null(x), data_or_null(weight)
    p.mean, p.invstd = <const double *>data_or_null(mean), <const double *>data_or_null(invstd)
    p.dx, p.dweight, p.dbias = data_or_null(dx), data_or_null(dweight), data_or_null(dbias)
    p.training = training
    cdef Py_ssize_t block = 1 if s > 1 else uk.block, task
    for task in prange((c + block - 1) // block, nogil=True, num_threads=threads_for(flops, nbytes), schedule="static"):
        uk.batch_norm_backward(&p, task * block)
