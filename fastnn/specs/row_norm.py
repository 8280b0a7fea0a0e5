"""Specs of layer, group, instance and root-mean-square norm."""

from math import prod

import numpy as np

from fastnn.descriptors import group_norm_desc, instance_norm_desc, layer_norm_desc
from fastnn.registry import Case, OpSpec, Work, draw, image_of, rows_of


def layer(shape, axes=1, affine=True, **options):
    """A case of layer norm over the last `axes` axes."""
    normalized = shape[len(shape) - axes :]
    arrays = dict.fromkeys(("weight", "bias"), normalized if affine else None)
    return Case({"x": shape, **arrays}, {"normalized_shape": normalized, **options})


def rms(shape, axes=1, affine=True, eps=1e-5):
    """eps is given: the default depends on the dtype, and the truth is computed in float64."""
    case = layer(shape, axes, affine, eps=eps)
    return case._replace(shapes={name: s for name, s in case.shapes.items() if name != "bias"})


def group(shape, num_groups, affine=True, **options):
    arrays = dict.fromkeys(("weight", "bias"), shape[1:2] if affine else None)
    return Case({"x": shape, **arrays}, {"num_groups": num_groups, **options})


def instance(shape, affine=True, running=True, **options):
    arrays = dict.fromkeys(("weight", "bias"), shape[1:2] if affine else None)
    arrays |= dict.fromkeys(("running_mean", "running_var"), shape[1:2] if running else None)
    return Case({"x": shape, **arrays}, options)


def make(case, dtype, rng, kind):
    """Variances are positive."""
    arrays = {name: None if s is None else draw(s, dtype, rng, kind) for name, s in case.shapes.items()}
    if arrays.get("running_var") is not None:
        arrays["running_var"] = np.abs(arrays["running_var"]) + dtype.type(0.5)
    return arrays


def layer_desc(shape, normalized_shape, **_):
    return layer_norm_desc(shape, "layer_norm", normalized_shape)


def group_desc(shape, num_groups, **_):
    return group_norm_desc(shape, num_groups)


def instance_desc(shape, use_input_stats=True, **_):
    return instance_norm_desc(shape, use_input_stats)


def spec(name, describe, **more):
    """The spec of an operator of the family, describe(shape of x, **options) its descriptor."""

    def work(case, itemsize):
        desc = describe(case.shapes["x"], **case.options)
        return Work(desc.flops, desc.bytes(itemsize), desc.size * itemsize)

    def backward_work(case, itemsize):
        desc = describe(case.shapes["x"], **case.options)
        return Work(desc.backward_flops, desc.backward_bytes(itemsize), desc.size * itemsize)

    def depth(case):
        """Sums over the values of a row, those for weight and bias over rows (the reference's; the kernels' chunks are
        shorter), and the steps from moments to results: a dozen, of which a few amplify rounding, by the ratio of a
        value to the deviation."""
        desc = describe(case.shapes["x"], **case.options)
        return 16 + max(desc.channels * desc.inner, desc.size // max(prod(desc.affine), 1))

    def gradient_terms(arrays, dy, eps=1e-5, **options):
        """The formulas of the backward passes with all differences as sums, that of x - mean included."""
        x, desc = arrays["x"], describe(arrays["x"].shape, **options)
        shape = desc.rows // desc.groups, desc.groups, desc.channels, desc.inner
        x, dy = x.reshape(shape), np.abs(dy).reshape(shape)
        weight = 1 if arrays["weight"] is None else np.abs(arrays["weight"]).reshape(1, *shape[1:3], 1)
        moving = options.get("use_input_stats", True)
        if name == "rms_norm":
            mean, var = 0 * x[..., :1, :1], np.square(x).mean((2, 3), keepdims=True)
        elif moving:
            mean, var = x.mean((2, 3), keepdims=True), x.var((2, 3), keepdims=True)
        else:
            mean, var = (arrays[a].reshape(1, *shape[1:3], 1) for a in ("running_mean", "running_var"))
        std = np.sqrt(var + eps)
        normalised = (np.abs(x) + np.abs(mean)) / std
        g = dy * weight
        dx = g
        if moving:
            dx = g + g.mean((2, 3), keepdims=True) + normalised * (g * normalised).mean((2, 3), keepdims=True)
        dweight, dbias = (a.sum((0, 3)).reshape(desc.affine) for a in (dy * normalised, dy))
        return {"x": (dx / std).reshape(arrays["x"].shape), "weight": dweight, "bias": dbias}

    return OpSpec(
        name=name,
        work=work,
        backward_work=backward_work,
        depth=depth,
        gradient_terms=gradient_terms,
        exact=False,
        make=make,
        **more,
    )


def samples(case):
    """Axis 0, unless it is normalised."""
    shape = case.shapes["x"]
    return {"x": 0} if len(case.options["normalized_shape"]) < len(shape) else {}


def torch_function(name):
    """torch.nn.functional's function of that name, which takes the same arguments."""
    return lambda torch, x, **arguments: getattr(torch.nn.functional, name)(x, **arguments)


SPECS = (
    spec(
        "layer_norm",
        layer_desc,
        grads=("x", "weight", "bias"),
        cases=(
            layer((5, 2)),
            layer((1, 7)),
            layer((3, 64)),
            layer((70, 33), eps=1e-2),
            layer((4, 19), affine=False),
            layer((2, 3, 5, 7), 2),
            layer((3, 4, 5), 3),
            layer((2, 4500)),
            layer((300, 24)),
            layer((2, 3, 16, 16), 3),
        ),
        # Transformers; one token; beyond the caches.
        bench=(layer((4096, 768)), layer((32, 128, 256)), layer((1, 768)), layer((16384, 1024))),
        batch=samples,
        sized=lambda n: layer(rows_of(n)),
        peers={"torch": torch_function("layer_norm")},
    ),
    spec(
        "rms_norm",
        layer_desc,
        grads=("x", "weight"),
        cases=(
            rms((5, 2)),
            rms((70, 33), eps=1e-2),
            rms((4, 19), affine=False),
            rms((2, 3, 5, 7), 2),
            rms((2, 4500)),
            rms((3, 64)),
        ),
        bench=(rms((4096, 768)), rms((1, 768)), rms((16384, 1024))),
        batch=samples,
        sized=lambda n: rms(rows_of(n)),
        peers={"torch": torch_function("rms_norm")},
    ),
    spec(
        "group_norm",
        group_desc,
        grads=("x", "weight", "bias"),
        cases=(
            group((3, 6), 2),
            group((40, 24), 3),
            group((2, 4, 3), 4),
            group((2, 6, 5, 7), 3, eps=1e-2),
            group((3, 4, 5, 5), 2, affine=False),
            group((2, 6, 19, 31), 1),
            group((1, 4, 2, 3, 4), 2),
            group((2, 4, 48, 64), 2),
            group((9, 6, 2, 3), 3),
        ),
        bench=(
            group((8, 64, 56, 56), 32),
            group((2, 320, 64, 64), 32),
            group((32, 256, 7, 7), 32),
            group((64, 512), 32),
        ),
        sized=lambda n: group(image_of(n), 1),
        peers={"torch": torch_function("group_norm")},
    ),
    spec(
        "instance_norm",
        instance_desc,
        grads=("x", "weight", "bias"),
        cases=(
            instance((2, 3, 4)),
            instance((3, 2, 5, 7), momentum=0.3, eps=1e-2),
            instance((3, 4, 5, 5), running=False),
            instance((2, 3, 9, 11), affine=False, running=False),
            instance((2, 2, 70, 70)),
            instance((2, 3, 4, 5, 6)),
            instance((8, 3, 2, 7)),
            instance((4, 5, 3, 3), use_input_stats=False),
            instance((2, 3, 24, 32), affine=False, use_input_stats=False),
        ),
        bench=(
            instance((8, 64, 56, 56), running=False),
            instance((1, 128, 64, 64), running=False),
            instance((32, 64, 56, 56), running=False),
        ),
        sized=lambda n: instance(image_of(n), running=False),
        peers={"torch": torch_function("instance_norm")},
    ),
)
