"""Specs of the losses."""

from math import log, prod, sqrt

import numpy as np

from fastnn import reference
from fastnn.registry import Case, OpSpec, Terms, draw, rows_of
from fastnn.specs.elementwise import EXP_FLOPS, streaming


def cross_entropy_case(shape, weighted=False, **options):
    axis = min(1, len(shape) - 1)
    shapes = {"x": shape, "target": shape[:axis] + shape[axis + 1 :]}
    return Case({**shapes, "weight": shape[axis : axis + 1]} if weighted else shapes, options)


def probability_case(shape, weighted=False, **options):
    case = cross_entropy_case(shape, weighted, **options)
    return case._replace(shapes={**case.shapes, "target": shape})


def probabilities(shape, dtype, rng, axis):
    """Distributions along an axis, some of their elements 0."""
    p = np.exp(rng.standard_normal(shape)) * (rng.random(shape) < 0.8)
    total = p.sum(axis=axis, keepdims=True)
    return np.divide(p, total, where=total > 0, out=np.full(shape, 1 / shape[axis])).astype(dtype)


def make_labelled(case, dtype, rng, kind):
    """Logits, weights, and class indices, every fifth ignore_index if the case names one; or probabilities."""
    shape = case.shapes["x"]
    axis = min(1, len(shape) - 1)
    if case.shapes["target"] == shape:
        target = probabilities(shape, dtype, rng, axis)
    else:
        target = rng.integers(0, shape[axis], case.shapes["target"])
        if "ignore_index" in case.options:
            target.flat[::5] = case.options["ignore_index"]
    arrays = {"x": draw(shape, dtype, rng, kind), "target": target}
    if "weight" in case.shapes:
        arrays["weight"] = rng.uniform(0.5, 2, case.shapes["weight"]).astype(dtype)
    return arrays


def make_log_labelled(case, dtype, rng, kind):
    """The same with negative logits, whose sum does not cancel."""
    arrays = make_labelled(case, dtype, rng, kind)
    return {**arrays, "x": -np.abs(arrays["x"])}


def cross_entropy_terms(arrays, dy, **options):
    """dx = (softmax(x) Σ w q - w q) dy with a sum for the difference."""
    _, ctx = reference.cross_entropy_forward(**arrays, **options)
    return {"x": reference.cross_entropy_backward(np.abs(dy), ctx._replace(q=ctx.q.view(Terms)))}


def class_depth(case):
    """The sum over the classes, 4 for each of exponential and logarithm, a few for smoothing, weights and mean."""
    return case.shapes["x"][min(1, len(case.shapes["x"]) - 1)] + 20


def class_batch(case):
    if len(case.shapes["x"]) == 1:
        return {}
    return {"x": 0, "target": 0}


def pair_case(*shape, **options):
    return Case({"x": shape, "target": shape}, options)


def pair_depth(case, each=4):
    """`each` for an element, and the double-precision sum of a block of 16384 in at least two lanes: rounding errors of
    a chain of n additions stay below 2√n units with near certainty (Higham & Mary 2019)."""
    return each + sqrt(min(prod(case.shapes["x"]), 16384) / 2)


def weighted_case(shape, weight, pos_weight, **options):
    return Case({"x": shape, "target": shape, "weight": weight, "pos_weight": pos_weight}, options)


def fraction_case(shape, weight, **options):
    return Case({"x": shape, "target": shape, "weight": weight}, options)


def make_probabilities(case, dtype, rng, kind):
    """Normal x, targets and weights between 1/16 and 1; their logarithms for log_target, and x one as well."""
    arrays = {
        name: None if shape is None else np.exp2(rng.uniform(-4, 0, shape)).astype(dtype)
        for name, shape in case.shapes.items()
    }
    if case.options.get("log_target"):
        arrays["target"] = np.log(arrays["target"])
    arrays["x"] = draw(case.shapes["x"], dtype, rng, kind)
    return arrays


def make_fractions(case, dtype, rng, kind):
    """Probabilities x between 1/16 and 15/16, other arrays as above."""
    x = rng.uniform(1 / 16, 15 / 16, case.shapes["x"]).astype(dtype)
    return {**make_probabilities(case, dtype, rng, kind), "x": x}


def pair_loss(name, depth, flops, *more, **options):
    """The spec of a loss of single elements and their targets; more: cases beyond those that all have."""

    def peer(torch, x, target, reduction="mean", **options):
        loss = getattr(torch.nn.functional, name)
        if name == "kl_div" and reduction == "mean":  # which warns
            return loss(x, target, reduction="sum", **options) / x.numel()
        return loss(x, target, reduction=reduction, **options)

    return OpSpec(
        name=name,
        grads=("x", "target"),
        cases=(
            *more,
            pair_case(1),
            pair_case(5, 7),
            pair_case(2, 3, 5, 7, reduction="sum"),
            pair_case(131, reduction="none"),
            pair_case(33, 1031),  # several blocks
        ),
        bench=(pair_case(64, 10), pair_case(64, 3, 64, 64), pair_case(16, 3, 256, 256)),
        work=streaming(2, 0, flops),
        backward_work=streaming(2, 2, flops),
        depth=lambda case: pair_depth(case, depth),
        sized=pair_case,
        batch=lambda case: {
            name: 0 for name, shape in case.shapes.items() if shape and shape[0] == case.shapes["x"][0]
        },
        exact=False,
        peers={"torch": peer},
        **options,
    )


def js_case(shape, axis=-1, **options):
    return Case({"p": shape, "q": shape}, {"axis": axis, **options})


def js_batch(case):
    shape = case.shapes["p"]
    return {"p": 0, "q": 0} if case.options["axis"] % len(shape) else {}


def make_distributions(case, dtype, rng, kind):
    """Zeros only where a gradient check, which draws distinct values, cannot meet them."""
    arrays = {}
    for name, shape in case.shapes.items():
        p = np.exp(rng.standard_normal(shape)) * (kind == "distinct" or rng.random(shape) < 0.8) + (kind == "distinct")
        total = p.sum(axis=case.options["axis"], keepdims=True)
        arrays[name] = (p / np.where(total > 0, total, 1)).astype(dtype)
    return arrays


def js_terms(arrays, dy, **options):
    """dp = log2(p / m) / 2 dy, where p / m, which may be near 1, is as inexact as a number is."""
    _, ctx = reference.js_divergence_forward(**arrays, **options)
    slopes = tuple(np.where(slope == 0, 0, 1 + np.abs(slope)) for slope in ctx.slopes)
    return dict(zip("pq", reference.js_divergence_backward(np.abs(dy), ctx._replace(slopes=slopes)), strict=True))


def torch_js_divergence(torch, p, q, axis, reduction="mean"):
    m = (p + q) / 2
    terms = torch.xlogy(p, p) + torch.xlogy(q, q) - torch.xlogy(p + q, m)
    losses = terms.sum(axis) / (2 * log(2))
    return losses if reduction == "none" else losses.mean() if reduction == "mean" else losses.sum()


SPECS = (
    OpSpec(
        name="cross_entropy",
        grads=("x",),
        cases=(
            cross_entropy_case((1, 1)),
            cross_entropy_case((7,)),
            cross_entropy_case((5, 10)),
            cross_entropy_case((13, 37), True, reduction="sum"),
            cross_entropy_case((6, 130), reduction="none"),
            cross_entropy_case((11, 9), True, ignore_index=-100),
            cross_entropy_case((11, 9), ignore_index=3, reduction="none", label_smoothing=0.25),
            cross_entropy_case((9, 17), True, label_smoothing=0.1),
            cross_entropy_case((9, 17), label_smoothing=1.0, reduction="sum"),
            cross_entropy_case((3, 4, 5)),
            cross_entropy_case((2, 21, 11, 13), ignore_index=20, label_smoothing=0.1),
            probability_case((5,), True),
            probability_case((7, 19), label_smoothing=0.1),
            probability_case((7, 35), True, reduction="none"),
            probability_case((2, 5, 67), True, label_smoothing=0.2),
            probability_case((2, 70, 3, 2), reduction="sum"),
            cross_entropy_case((2, 5, 3, 67), True, ignore_index=1, label_smoothing=0.2),
            cross_entropy_case((2, 3, 2, 65), reduction="none"),
        ),
        bench=(
            cross_entropy_case((64, 10)),
            cross_entropy_case((256, 1000)),
            cross_entropy_case((8, 21, 128, 128)),
            probability_case((256, 1000)),
        ),
        work=streaming(1, 0, EXP_FLOPS + 3),  # maximum, difference, sum
        backward_work=streaming(1, 1, EXP_FLOPS + 4),
        depth=class_depth,
        gradient_terms=cross_entropy_terms,
        exact=False,
        batch=class_batch,
        make=make_labelled,
        sized=lambda n: cross_entropy_case(rows_of(n)),
        peers={"torch": lambda torch, x, target, **options: torch.nn.functional.cross_entropy(x, target, **options)},
    ),
    OpSpec(
        name="nll_loss",
        grads=("x",),
        cases=(
            cross_entropy_case((7,)),
            cross_entropy_case((5, 10), True),
            cross_entropy_case((11, 9), True, ignore_index=3),
            cross_entropy_case((3, 4, 5), True, reduction="none"),
            cross_entropy_case((2, 21, 11, 13), reduction="sum"),
        ),
        bench=(cross_entropy_case((256, 1000)), cross_entropy_case((8, 21, 128, 128))),
        work=streaming(0, 0, 1),
        backward_work=streaming(0, 1, 1),
        depth=lambda case: 4 + sqrt(prod(case.shapes["target"])),
        exact=False,
        batch=class_batch,
        make=make_log_labelled,
        sized=lambda n: cross_entropy_case(rows_of(n)),
        peers={"torch": lambda torch, x, target, **options: torch.nn.functional.nll_loss(x, target, **options)},
    ),
    OpSpec(
        name="js_divergence",
        grads=("p", "q"),
        cases=(
            js_case((9,)),
            js_case((2, 3)),
            js_case((5, 37), reduction="sum"),
            js_case((4, 33), 0, reduction="none"),
            js_case((3, 4, 5), 1),
            js_case((2, 6, 131), -2, reduction="none"),
        ),
        bench=(js_case((256, 1000)), js_case((8, 21, 64, 64), 1)),
        work=streaming(2, 0, 60),
        backward_work=streaming(2, 2, 60),
        depth=lambda case: case.shapes["p"][case.options["axis"]] + 16,
        gradient_terms=js_terms,
        exact=False,
        distinct=True,
        batch=js_batch,
        make=make_distributions,
        sized=lambda n: js_case(rows_of(n)),
        peers={"torch": torch_js_divergence},
    ),
    pair_loss("mse_loss", 4, 3),
    pair_loss("l1_loss", 4, 3),
    pair_loss("smooth_l1_loss", 6, 8, pair_case(29, beta=0.3), pair_case(3, 11, beta=0.0, reduction="none")),
    pair_loss("huber_loss", 6, 8, pair_case(29, delta=0.3, reduction="none")),
    pair_loss(
        "binary_cross_entropy_with_logits",
        16,
        50,
        weighted_case((3, 17), (17,), None, reduction="sum"),
        weighted_case((3, 17), (3, 1), (17,)),
        weighted_case((3, 17), None, (3, 17), reduction="none"),
        make=make_probabilities,
    ),
    pair_loss(
        "binary_cross_entropy",
        12,
        50,
        fraction_case((3, 17), (17,), reduction="sum"),
        fraction_case((3, 17), (3, 1)),
        fraction_case((3, 17), (3, 17), reduction="none"),
        make=make_fractions,
    ),
    pair_loss(
        "kl_div",
        12,
        EXP_FLOPS + 8,
        pair_case(5, 9, reduction="batchmean"),
        pair_case(5, 9, reduction="batchmean", log_target=True),
        pair_case(67, reduction="none", log_target=True),
        make=make_probabilities,
    ),
)
