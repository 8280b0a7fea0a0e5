"""Gradients by central differences, to compare those of backward functions with."""

import numpy as np

__all__ = ["eval_numerical_gradient", "eval_numerical_gradient_array", "grad_check_sparse"]


def difference(f, x, at, h):
    """f(x + h) - f(x - h), h being added to the element `at` of x, which is changed and restored."""
    before = x[at]
    x[at] = before + h
    above = np.array(f(x))  # a copy: it may be x itself
    x[at] = before - h
    result = above - f(x)
    x[at] = before
    return result


def eval_numerical_gradient(f, x, verbose=True, h=1e-5):
    """The gradient of a function of x with a number for its result, an array like x. verbose prints each element."""
    gradient = np.zeros_like(x)
    for at in np.ndindex(x.shape):
        gradient[at] = difference(f, x, at, h) / (2 * h)
        if verbose:
            print(at, gradient[at])
    return gradient


def eval_numerical_gradient_array(f, x, df, h=1e-5):
    """The gradient of the sum of f(x) df, an array like x. df: of the shape of f(x), the gradient at that."""
    gradient = np.zeros_like(x)
    for at in np.ndindex(x.shape):
        gradient[at] = np.sum(difference(f, x, at, h) * df) / (2 * h)
    return gradient


def grad_check_sparse(f, x, analytic_grad, num_checks=10, h=1e-5):
    """Print the gradient of f, with a number for its result, beside analytic_grad, and their relative error, at
    num_checks elements of x drawn with np.random."""
    for _ in range(num_checks):
        at = tuple(int(np.random.randint(size)) for size in x.shape)  # noqa: NPY002
        numerical, analytic = difference(f, x, at, h) / (2 * h), analytic_grad[at]
        error = abs(numerical - analytic) / (abs(numerical) + abs(analytic))
        print(f"numerical: {numerical:f} analytic: {analytic:f}, relative error: {error:e}")
