"""Specs of optimiser steps and the clipping of gradients."""

from functools import partial
from importlib import import_module
from math import inf, prod, sqrt
from typing import Any

import numpy as np

from fastnn.registry import Case, OpSpec, Work, draw_arrays

MIXED: list[tuple[int, ...]] = [(16, 32), (16,), (4, 16), (4,), (), (3, 0), (2, 3, 5, 7), (129,)]
LARGE: list[tuple[int, ...]] = [(33, 1031), (7,), (130, 129)]  # several blocks, which do not end with the arrays
SMALL: list[tuple[int, ...]] = [(8, 4), (8,), (2, 8), (2,), ()]


def layers(width, count):
    """Shapes of `count` square layers with biases."""
    return [shape for _ in range(count) for shape in ((width, width), (width,))]


BENCH = {
    "16-32-4": [(32, 16), (32,), (4, 32), (4,)],
    "1e4": layers(70, 2),
    "1e6": layers(350, 8),
    "1e7": layers(1024, 10),
}


def case(lists, shapes, label="", **options):
    return Case(dict.fromkeys(lists, shapes), options, label)


def elements(case):
    return sum(map(prod, next(iter(case.shapes.values()))))


def elements_of(tensors):
    return sum(t.numel() for t in tensors)


def make(case, dtype, rng, kind):
    """Mean squares are positive, and centred ones at least the square of the mean."""
    arrays = draw_arrays(case, dtype, rng, kind)
    for name in ("square_avgs", "exp_avg_sqs", "max_exp_avg_sqs"):
        arrays[name] = [np.asarray(1 + np.square(x)) for x in arrays[name]] if arrays.get(name) else None
    if arrays.get("grad_avgs"):
        arrays["grad_avgs"] = [np.asarray(x / 8) for x in arrays["grad_avgs"]]
    return {name: x for name, x in arrays.items() if name in case.shapes}


def optimiser(name, lists, flops, cases, peer, optional=()):
    """The spec of a step over these lists. peer: torch's function of them (None for what a case leaves out) and the
    options, which updates them. optional: lists that only some cases have."""

    def work(case, itemsize):
        arrays, n = len(case.shapes), elements(case)
        return Work(flops * n, (2 * arrays - 1) * n * itemsize, (arrays - 1) * n * itemsize)

    def updated_by_peer(torch, params, grads, **options):
        states = {key: options.pop(key, None) for key in lists[2:]}
        peer(torch, params, grads, states, **options)
        return (None, params, *states.values())

    return OpSpec(
        name=name,
        grads=(),
        cases=cases,
        bench=tuple(case([key for key in lists if key not in optional], BENCH[size], size, **BENCH_OPTIONS[name])
                    for size in BENCH),
        work=work,
        depth=lambda case: 12,
        exact=False,
        batch=lambda case: {},
        make=make,
        updates=("params", *lists[2:]),
        peers={"torch": updated_by_peer},
    )  # fmt: skip


BENCH_OPTIONS: dict[str, dict[str, Any]] = {
    "sgd_step": {"momentum": 0.9},
    "rmsprop_step": {},
    "adam_step": {"step": 3},
    "adamw_step": {"step": 3},
}


def torch_function(name):
    """torch.optim's function behind the class; its module of the same name is not an attribute of the package."""
    return getattr(import_module(f"torch.optim.{name}"), name)


# The fastest of torch's implementations, at all sizes: fused, and foreach where there is no fused one.


def torch_sgd(
    torch, params, grads, states, lr=1e-3, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False,
    maximize=False, first=False,
):  # fmt: skip
    buffers = states["momentum_buffers"]
    if first or buffers is None:
        states["momentum_buffers"] = buffers = [None] * len(params)
    torch_function("sgd")(
        params, grads, buffers, fused=True, lr=lr, momentum=momentum, dampening=dampening,
        weight_decay=weight_decay, nesterov=nesterov, maximize=maximize,
    )  # fmt: skip


def torch_rmsprop(
    torch, params, grads, states, lr=1e-2, alpha=0.99, eps=1e-8, weight_decay=0.0, momentum=0.0, maximize=False
):
    torch_function("rmsprop")(
        params, grads, states["square_avgs"], states["grad_avgs"] or [], states["momentum_buffers"] or [],
        [torch.tensor(1.0) for _ in params], foreach=elements_of(params) < 100_000, lr=lr, alpha=alpha, eps=eps,
        weight_decay=weight_decay, momentum=momentum, centered=states["grad_avgs"] is not None, maximize=maximize,
    )  # fmt: skip


def torch_adam(
    decoupled, torch, params, grads, states, step, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=None,
    maximize=False,
):  # fmt: skip
    if weight_decay is None:
        weight_decay = 1e-2 if decoupled else 0.0
    maxima = states["max_exp_avg_sqs"]
    torch_function("adam")(
        params, grads, states["exp_avgs"], states["exp_avg_sqs"], maxima or [],
        [torch.tensor(step - 1.0) for _ in params], fused=True, decoupled_weight_decay=decoupled,
        amsgrad=maxima is not None, beta1=betas[0], beta2=betas[1], lr=lr, weight_decay=weight_decay, eps=eps,
        maximize=maximize,
    )  # fmt: skip


SGD = ["params", "grads", "momentum_buffers"]
RMSPROP = ["params", "grads", "square_avgs", "grad_avgs", "momentum_buffers"]
ADAM = ["params", "grads", "exp_avgs", "exp_avg_sqs", "max_exp_avg_sqs"]


def adam(name, decoupled):
    """The spec of either variant of Adam."""
    return optimiser(
        name,
        ADAM,
        15,
        (
            case(ADAM[:4], SMALL, step=1),
            case(ADAM[:4], MIXED, step=2, lr=0.1, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.1),
            case(ADAM, MIXED, step=7, maximize=True),
            case(ADAM[:4], [(37,)], step=1, betas=(0.3, 0.0), weight_decay=0.0),
            case(ADAM, LARGE, step=1000, weight_decay=0.25),
        ),
        partial(torch_adam, decoupled),
        ADAM[4:],
    )


def clip_norm_peer(torch, grads, max_norm, norm_type=2.0):
    total = torch.nn.utils.get_total_norm(grads, norm_type)
    coefficient = (max_norm / (total + 1e-6)).clamp(max=1.0)
    torch._foreach_mul_(grads, coefficient)
    return total, grads


def clip_value_peer(torch, grads, clip_value):
    torch._foreach_clamp_min_(grads, -clip_value)
    torch._foreach_clamp_max_(grads, clip_value)
    return None, grads


def clipping(name, cases, options, depth, passes, peer, exact):
    """The spec of a way to clip gradients, with so many passes over them."""
    return OpSpec(
        name=name,
        grads=(),
        cases=tuple(case(["grads"], shapes, **each) for shapes, each in cases),
        bench=tuple(case(["grads"], shapes, label, **options) for label, shapes in BENCH.items()),
        work=lambda case, itemsize: Work(
            2 * passes * elements(case), passes * elements(case) * itemsize, elements(case) * itemsize
        ),
        depth=depth,
        exact=exact,
        batch=lambda case: {},
        updates=("grads",),
        peers={"torch": peer},
    )


SPECS = (
    optimiser(
        "sgd_step",
        SGD,
        6,
        (
            case(SGD[:2], SMALL, lr=0.1),
            case(SGD[:2], MIXED, lr=0.1, weight_decay=0.2, maximize=True),
            case(SGD, SMALL, lr=0.1, momentum=0.9),
            case(SGD, SMALL, lr=0.1, momentum=0.9, dampening=0.5, first=True),
            case(SGD, MIXED, lr=0.1, momentum=0.8, dampening=0.5, weight_decay=0.1, maximize=True),
            case(SGD, LARGE, momentum=0.5, nesterov=True),
        ),
        torch_sgd,
    ),
    optimiser(
        "rmsprop_step",
        RMSPROP,
        12,
        (
            case(RMSPROP[:3], SMALL),
            case(RMSPROP[:3], MIXED, lr=0.1, alpha=0.9, eps=1e-3, weight_decay=0.1, maximize=True),
            case(RMSPROP[:4], MIXED, lr=0.1),
            case([*RMSPROP[:3], RMSPROP[4]], SMALL, momentum=0.9),
            case(RMSPROP, LARGE, momentum=0.5, weight_decay=0.2),
        ),
        torch_rmsprop,
        RMSPROP[3:],
    ),
    adam("adam_step", False),
    adam("adamw_step", True),
    clipping(
        "clip_grad_norm",
        (
            (SMALL, {"max_norm": 1.0}),
            (MIXED, {"max_norm": 3}),
            (SMALL, {"max_norm": 5, "norm_type": inf}),
            (SMALL, {"max_norm": 0.5, "norm_type": inf}),
            (LARGE, {"max_norm": 1000.0}),
            (LARGE, {"max_norm": 5.0}),
        ),
        {"max_norm": 1.0},
        lambda case: 4 + sqrt(elements(case) / 2),  # a chain of n additions: see loss.pair_depth
        3,
        clip_norm_peer,
        False,
    ),
    clipping(
        "clip_grad_value",
        ((SMALL, {"clip_value": 0.5}), (MIXED, {"clip_value": 3}), (LARGE, {"clip_value": 0.0})),
        {"clip_value": 0.5},
        lambda case: 0,
        2,
        clip_value_peer,
        True,
    ),
)
