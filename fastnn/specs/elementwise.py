"""Specs of the functions of one element."""

from math import prod

import numpy as np

from fastnn.registry import Case, OpSpec, Work

SHAPES = [(1,), (2, 3, 5, 7), (64,), (1037,)]
# Operations of one vector exponential: range reduction, polynomial, scaling.
EXP_FLOPS = 20
BENCH_SHAPES = [(16,), (32, 64, 56, 56)]


def cases(shapes):
    """The same operator at several shapes of x."""
    return tuple(Case({"x": shape}) for shape in shapes)


def streaming(reads, writes, flops):
    """Work of an operator that reads and writes so many arrays of its first argument's size, at `flops` an element."""

    def work(case, itemsize):
        size = prod(next(iter(case.shapes.values())))
        return Work(flops * size, (reads + writes) * size * itemsize, writes * size * itemsize)

    return work


def function(name, depth, flops, backward_flops, *options, bench=BENCH_SHAPES, torch=None, **more):
    """The spec of an operator of one array: torch.nn.functional has it, unless `torch` says where.
    options: of the cases beyond SHAPES."""

    def peer(package, x, **options):
        return getattr(package.nn.functional, name)(x, **options)

    return OpSpec(
        name=name,
        grads=("x",),
        cases=cases(SHAPES) + tuple(Case({"x": (5, 29)}, each) for each in options),
        bench=cases(bench),
        work=streaming(1, 1, flops),
        backward_work=streaming(2, 1, backward_flops),
        depth=lambda case: depth,
        peers={"torch": torch or peer},
        sized=lambda n: Case({"x": (n,)}),
        **more,
    )


def make_positive(case, dtype, rng, kind):
    """Values between 1/16 and 16."""
    return {"x": np.exp2(rng.uniform(-4, 4, case.shapes["x"])).astype(dtype)}


# Roundings: 4 ulp of the function for the value, and for the gradient twice that where it is a product with y or a
# difference from 1.
SPECS = (
    function("relu", 0, 1, 1, distinct=True),
    function("sigmoid", 8, EXP_FLOPS + 2, 3, exact=False),
    # y^2 twice, and y^2 <= 1 against dx as small as 1 - y^2
    function("tanh", 16, EXP_FLOPS + 5, 4, exact=False),
    function("leaky_relu", 2, 2, 2, {"negative_slope": 0.25}, {"negative_slope": -1.5}, exact=False, distinct=True),
    function("elu", 6, EXP_FLOPS + 3, EXP_FLOPS + 3, {"alpha": 0.3}, {"alpha": -2.0}, exact=False, distinct=True),
    function("gelu", 8, 50, 50, {"approximate": "tanh"}, exact=False),
    function("silu", 8, EXP_FLOPS + 4, EXP_FLOPS + 6, exact=False),
    function("softplus", 8, 45, EXP_FLOPS + 4, {"beta": 2.5}, {"beta": 0.5, "threshold": 0.7}, exact=False),
    function("hardtanh", 0, 2, 3, {"min_val": -0.5, "max_val": 2.25}, distinct=True),
    function("relu6", 0, 2, 3, distinct=True),
    # torch's own gradient has a single-precision 1 / 6, even in double precision
    function("hardsigmoid", 4, 4, 4, exact=False, distinct=True, torch=lambda torch, x: torch.clamp(x + 3, 0, 6) / 6),
    function("hardswish", 6, 5, 6, exact=False, distinct=True),
    function("exp", 4, EXP_FLOPS, 1, exact=False, torch=lambda torch, x: torch.exp(x)),
    function("log", 4, 25, 4, exact=False, make=make_positive, torch=lambda torch, x: torch.log(x)),
    function("erf", 6, 45, EXP_FLOPS + 6, exact=False, torch=lambda torch, x: torch.erf(x)),
)
