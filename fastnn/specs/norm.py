"""Specs of normalisation."""

from math import prod

import numpy as np

from fastnn.descriptors import batch_norm_desc
from fastnn.registry import Case, OpSpec, Work, draw, image_of

GRADIENTS = ("x", "weight", "bias", "residual")
STATISTICS = ("running_mean", "running_var")


def case(shape, *, affine=True, running=True, residual=False, **options):
    channels = shape[1:2]
    shapes = {"x": shape, "residual": shape if residual else None}
    shapes |= dict.fromkeys(("weight", "bias"), channels if affine else None)
    shapes |= dict.fromkeys(STATISTICS, channels if running else None)
    return Case(shapes, options)


def make(case, dtype, rng, kind):
    """Variances are positive; before ReLU, results keep away from 0, where it has no derivative."""
    arrays = {name: None if s is None else draw(s, dtype, rng, kind) for name, s in case.shapes.items()}
    if arrays["running_var"] is not None:
        arrays["running_var"] = np.abs(arrays["running_var"]) + dtype.type(0.5)
    if case.options.get("relu"):
        small = {name: np.tanh(a) / 8 for name, a in arrays.items() if a is not None}
        signs = 1 - 2 * (np.indices(case.shapes["x"]).sum(0) % 2)
        arrays |= small | {"x": signs + small["x"], "weight": np.sign(arrays["weight"]) * (1 + small["weight"])}
        arrays["running_var"] = 1 + small["running_var"]
        arrays = {name: None if a is None else a.astype(dtype) for name, a in arrays.items()}
    return arrays


def work(case, itemsize):
    desc = batch_norm_desc(case.shapes["x"])
    written = desc.size * itemsize
    return Work(desc.flops, desc.bytes(itemsize, case.shapes.get("residual") is not None), written)


def backward_work(case, itemsize):
    desc = batch_norm_desc(case.shapes["x"])
    residual = case.shapes.get("residual") is not None
    written = (1 + residual) * desc.size * itemsize
    return Work(desc.backward_flops, desc.backward_bytes(itemsize, residual), written)


def depth(case):
    """Sums over the m values of a channel (the reference's; the kernels' chunks are shorter), and the steps from
    moments to results: a dozen, of which a few amplify rounding, by the ratio of a value to the deviation."""
    n, _, *spatial = case.shapes["x"]
    return 16 + n * prod(spatial)


def gradient_terms(arrays, dy, training=True, eps=1e-5, **_):
    """The formulas of batch_norm_backward with all differences as sums, that of x - mean included. With two values in a
    channel, say, the terms of dx cancel almost entirely."""
    x, dy = np.abs(arrays["x"]), np.abs(dy)
    if not x.size:  # there is no mean, and all sums are 0
        return {name: np.zeros(arrays[name].shape) for name in GRADIENTS if arrays[name] is not None}
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
    return {"x": weight / std * dx, "weight": (dy * normalised).sum(axes), "bias": dy.sum(axes), "residual": dy}


def torch_batch_norm(
    torch, x, residual, weight, bias, running_mean, running_var, relu=False, training=True, momentum=0.1, eps=1e-5
):
    y = torch.nn.functional.batch_norm(x, running_mean, running_var, weight, bias, training, momentum, eps)
    if residual is not None:
        y = y + residual
    return torch.nn.functional.relu(y) if relu else y


SPECS = (
    OpSpec(
        name="batch_norm",
        grads=GRADIENTS,
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
            case((9, 67), relu=True),
            case((3, 5, 4, 7), relu=True, residual=True),
            case((5, 3, 3, 5), relu=True, training=False),
            case((3, 70), relu=True, residual=True, training=False),
            case((2, 3, 5, 5), residual=True),
        ),
        bench=(
            case((64, 512)),
            case((32, 64, 56, 56)),
            case((32, 256, 14, 14)),
            case((32, 512, 7, 7)),
            case((32, 64, 56, 56), training=False),
            case((32, 64, 56, 56), relu=True),
            case((32, 64, 56, 56), relu=True, residual=True),
            case((32, 64, 56, 56), relu=True, residual=True, training=False),
        ),
        work=work,
        backward_work=backward_work,
        depth=depth,
        gradient_terms=gradient_terms,
        exact=False,
        batch=lambda case: {"x": 0} | ({} if case.shapes.get("residual") is None else {"residual": 0}),
        make=make,
        sized=lambda n: case(image_of(n)),
        peers={"torch": torch_batch_norm},
    ),
)
