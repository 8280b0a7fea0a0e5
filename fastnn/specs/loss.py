"""Specs of the losses."""

from math import prod, sqrt

from fastnn.registry import Case, OpSpec, draw
from fastnn.specs.elementwise import EXP_FLOPS, streaming


def cross_entropy_case(shape, **options):
    axis = min(1, len(shape) - 1)
    return Case({"x": shape, "target": shape[:axis] + shape[axis + 1 :]}, options)


def make_labelled(case, dtype, rng, kind):
    """Logits and class indices, every fifth of them ignore_index if the case names one."""
    shape = case.shapes["x"]
    target = rng.integers(0, shape[min(1, len(shape) - 1)], case.shapes["target"])
    if "ignore_index" in case.options:
        target.flat[::5] = case.options["ignore_index"]
    return {"x": draw(shape, dtype, rng, kind), "target": target}


def mse_case(*shape, **options):
    return Case({"x": shape, "target": shape}, options)


def mse_depth(case):
    """Four for an element, and the double-precision sum of a block of 16384 in at least two lanes: rounding errors of
    a chain of n additions stay below 2√n units with near certainty (Higham & Mary 2019)."""
    return 4 + sqrt(min(prod(case.shapes["x"]), 16384) / 2)


def torch_cross_entropy(torch, x, target, **options):
    return torch.nn.functional.cross_entropy(x, target, **options)


SPECS = (
    OpSpec(
        name="cross_entropy",
        grads=("x",),
        cases=(
            cross_entropy_case((1, 1)),
            cross_entropy_case((7,)),
            cross_entropy_case((5, 10)),
            cross_entropy_case((13, 37), reduction="sum"),
            cross_entropy_case((6, 130), reduction="none"),
            cross_entropy_case((11, 9), ignore_index=-100),
            cross_entropy_case((11, 9), ignore_index=3, reduction="none", label_smoothing=0.25),
            cross_entropy_case((9, 17), label_smoothing=0.1),
            cross_entropy_case((9, 17), label_smoothing=1.0, reduction="sum"),
            cross_entropy_case((3, 4, 5)),
            cross_entropy_case((2, 21, 11, 13), ignore_index=20, label_smoothing=0.1),
            cross_entropy_case((2, 3, 2, 65), reduction="none"),
        ),
        bench=(
            cross_entropy_case((64, 10)),
            cross_entropy_case((256, 1000)),
            cross_entropy_case((8, 21, 128, 128)),
        ),
        work=streaming(1, 0, EXP_FLOPS + 3),  # maximum, difference, sum
        backward_work=streaming(1, 1, EXP_FLOPS + 4),
        # the sum over the classes, 4 for each of exponential and logarithm, a few for smoothing and mean
        depth=lambda case: case.shapes["x"][min(1, len(case.shapes["x"]) - 1)] + 16,
        exact=False,
        batch=lambda case: {"x": 0, "target": 0} if case.shapes["target"] else {},
        make=make_labelled,
        peers={"torch": torch_cross_entropy},
    ),
    OpSpec(
        name="mse_loss",
        grads=("x", "target"),
        cases=(
            mse_case(1),
            mse_case(5, 7),
            mse_case(2, 3, 5, 7, reduction="sum"),
            mse_case(131, reduction="none"),
            mse_case(33, 1031),  # several blocks
        ),
        bench=(mse_case(64, 10), mse_case(64, 3, 64, 64), mse_case(16, 3, 256, 256)),
        work=streaming(2, 0, 3),
        backward_work=streaming(2, 2, 3),
        depth=mse_depth,
        batch=lambda case: {"x": 0, "target": 0},
        exact=False,
        peers={"torch": lambda torch, x, target, **options: torch.nn.functional.mse_loss(x, target, **options)},
    ),
)
