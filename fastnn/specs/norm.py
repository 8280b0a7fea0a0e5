"""Specs of normalisation."""

from math import prod

import numpy as np

from fastnn.descriptors import batch_norm_desc
from fastnn.registry import Case, OpSpec, Work, draw

STATISTICS = ("running_mean", "running_var")


def case(shape, *, affine=True, running=True, **options):
    channels = shape[1:2]
    shapes = {"x": shape}
    shapes |= dict.fromkeys(("weight", "bias"), channels if affine else None)
    shapes |= dict.fromkeys(STATISTICS, channels if running else None)
    return Case(shapes, options)


def make(case, dtype, rng, kind):
    """Variances are positive."""
    arrays = {name: None if s is None else draw(s, dtype, rng, kind) for name, s in case.shapes.items()}
    if arrays["running_var"] is not None:
        arrays["running_var"] = np.abs(arrays["running_var"]) + dtype.type(0.5)
    return arrays


def work(case, itemsize):
    desc = batch_norm_desc(case.shapes["x"])
    return Work(desc.flops, desc.bytes(itemsize))


def backward_work(case, itemsize):
    desc = batch_norm_desc(case.shapes["x"])
    return Work(desc.backward_flops, desc.backward_bytes(itemsize))


def depth(case):
    """Sums over the m values of a channel (the reference's; the kernels' chunks are shorter), and the steps from
    moments to results: a dozen, of which a few amplify rounding, by the ratio of a value to the deviation."""
    n, _, *spatial = case.shapes["x"]
    return 16 + n * prod(spatial)


def gradient_terms(arrays, dy, training=True, eps=1e-5, **_):
    """The formulas of batch_norm_backward with all differences as sums, that of x - mean included. With two values in a
    channel, say, the terms of dx cancel almost entirely."""
    x, dy = np.abs(arrays["x"]), np.abs(dy)
    axes = (0, *range(2, x.ndim))

    def column(v):
        return np.reshape(v, (-1, *[1] * (x.ndim - 2)))

    weight = 1 if arrays["weight"] is None else column(np.abs(arrays["weight"]))
    if training:
        mean, var = arrays["x"].mean(axes), arrays["x"].var(axes)
    else:
        mean, var = arrays["running_mean"], arrays["running_var"]
    std = column(np.sqrt(var + eps))
    normalised = (x + column(np.abs(mean))) / std
    dx = dy
    if training:
        dx = dy + column(dy.mean(axes)) + normalised * column((dy * normalised).mean(axes))
    return {"x": weight / std * dx, "weight": (dy * normalised).sum(axes), "bias": dy.sum(axes)}


def torch_batch_norm(torch, x, weight, bias, running_mean, running_var, training=True, momentum=0.1, eps=1e-5):
    return torch.nn.functional.batch_norm(x, running_mean, running_var, weight, bias, training, momentum, eps)


SPECS = (
    OpSpec(
        name="batch_norm",
        grads=("x", "weight", "bias"),
        cases=(
            case((7, 1)),
            case((2, 3), running=False),
            case((9, 5), affine=False),
            case((70, 67)),
            case((130, 131), training=False),
            case((5, 3, 4)),
            case((3, 2, 5, 7), momentum=0.3, eps=1e-2),
            case((1, 4, 3, 3)),
            case((4, 5, 3, 3), training=False),
            case((3, 4, 5, 6), training=False, affine=False),
            case((2, 3, 19, 31), running=False),
            case((2, 2, 41, 53)),
            case((2, 2, 3, 4, 5)),
        ),
        bench=(
            case((64, 512)),
            case((32, 64, 56, 56)),
            case((32, 256, 14, 14)),
            case((32, 512, 7, 7)),
            case((32, 64, 56, 56), training=False),
        ),
        work=work,
        backward_work=backward_work,
        depth=depth,
        gradient_terms=gradient_terms,
        exact=False,
        make=make,
        peers={"torch": torch_batch_norm},
    ),
)
