"""Gradients by central differences, to compare those of the tape with."""

from math import fsum

import numpy as np

from fastnn.autograd import Tensor, no_grad

__all__ = ["gradcheck"]


def gradcheck(function, inputs, *, step=2.0**-10, roundings=100, raise_exception=True):
    """Are the gradients of function(*inputs) its derivatives? True, or an AssertionError; False instead of that without
    raise_exception.

    inputs: a Tensor or a tuple; those that require a gradient are float64, and the others constants. function: returns
    a Tensor or a tuple of them, the same for the same inputs; it must be smooth there. step: times max(1, |x|), the h
    of central differences D(h). The truncation error of (4 D(h) - D(2h)) / 3 is less than its difference from the same
    of 2h, which is allowed; besides, so many roundings of the results.
    """
    inputs = inputs if isinstance(inputs, tuple | list) else (inputs,)
    leaves = [x for x in inputs if isinstance(x, Tensor) and x.tracked]
    for x in leaves:
        if x.dtype != np.float64:
            raise TypeError(f"gradcheck: an input has dtype {x.dtype}, expected float64")
    arguments = [Tensor(x.array.copy(), x.tracked) if isinstance(x, Tensor) else x for x in inputs]

    def results():
        y = function(*arguments)
        return [y for y in (y if isinstance(y, tuple | list) else (y,)) if y.dtype.kind == "f"]

    rng = np.random.default_rng(0)
    ys = results()
    dys = [rng.uniform(0.5, 1, y.shape) * rng.choice([-1.0, 1.0], y.shape) for y in ys]
    total = sum(((y * dy).sum() for y, dy in zip(ys, dys, strict=True)), Tensor(np.zeros(())))
    if total.tracked:
        total.backward()
    magnitude = fsum(float(np.abs(y.array * dy).sum()) for y, dy in zip(ys, dys, strict=True))

    @no_grad()
    def value():
        return fsum(p for y, dy in zip(results(), dys, strict=True) for p in (y.array * dy).flat)

    for i, x in enumerate(arguments):
        if not (isinstance(x, Tensor) and x.tracked):
            continue
        gradient = np.zeros(x.shape) if x.grad is None else x.grad
        for at in np.ndindex(x.shape):
            middle = x.array[at]
            h = step * max(1.0, abs(middle))

            def difference(h, x=x, at=at, middle=middle):
                ends = []
                for end in (middle + h, middle - h):
                    x.array[at] = end
                    ends.append(value())
                x.array[at] = middle
                return (ends[0] - ends[1]) / (2 * h)

            d1, d2, d4 = difference(h), difference(2 * h), difference(4 * h)
            want, coarse = (4 * d1 - d2) / 3, (4 * d2 - d4) / 3
            rounding = roundings * np.finfo(np.float64).eps * (magnitude / h + abs(want))
            bound = abs(want - coarse) + rounding
            problem = ""
            if not bound <= 1e-3 * max(abs(want), magnitude / max(1.0, abs(middle))) + rounding:
                # At a kink the estimate is as uncertain as it is large, and would let any gradient pass.
                problem = f"the function is not smooth at {list(at)} of input {i}, within {4 * h}"
            elif not abs(gradient[at] - want) <= bound:
                problem = f"the gradient of input {i} at {list(at)} is {gradient[at]}, expected {want} ± {bound}"
            if problem and raise_exception:
                raise AssertionError(f"gradcheck: {problem}")
            if problem:
                return False
    return True
