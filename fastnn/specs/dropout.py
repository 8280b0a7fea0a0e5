"""Specs of dropout."""

from math import sqrt

import numpy as np

from fastnn.registry import Case, OpSpec
from fastnn.specs.elementwise import streaming

SEED = 12345
# Of an element: ten rounds of six operations for four words, that is eight elements, the comparison and the product.
FLOPS = 10


def case(*shape, **options):
    return Case({"x": shape}, {"seed": SEED, **options})


def agrees(factor, axes, direction, results, arrays, dy, p=0.5, training=True, shifts=lambda p: (0.0, 0.0), **_):
    """What is wrong with a peer's dropout, whose mask is its own: each element, or all behind the first axes(x) axes,
    is x * factor(p) or x * 0, shifted; how many are dropped is within 6 standard deviations of the expected number."""
    (x,), (y,) = (dy if direction == "backward" else arrays["x"],), results
    p = p if training else 0.0
    kept, dropped = shifts(p) if direction == "forward" else (0.0, 0.0)
    close = {"rtol": 1e-5, "atol": 1e-6}
    is_kept = np.isclose(y, x * factor(p) + kept, **close)
    is_dropped = np.isclose(y, dropped, **close)
    if not (is_kept | is_dropped).all():
        return f"{np.count_nonzero(~(is_kept | is_dropped))} of {y.size} elements are neither kept nor dropped"
    groups = int(np.prod(x.shape[: axes(x)]))
    lost = (is_dropped & ~(is_kept & (factor(p) != 0))).reshape(groups, -1)
    if (lost.any(axis=1) & (is_kept & ~is_dropped).reshape(groups, -1).any(axis=1)).any():
        return "a channel is kept in part"
    count, expected = int(lost.any(axis=1).sum()), p * groups
    if abs(count - expected) > 6 * sqrt(groups * p * (1 - p)):
        return f"{count} of {groups} are dropped, expected about {expected:.0f}"
    return ""


def inverse(p):
    return 1 / (1 - p) if p < 1 else 0.0


def alpha(p):
    """(a, s) of alpha dropout."""
    s = 1.7580993408473766
    return (1 / sqrt((1 + s**2 * p) * (1 - p)) if p < 1 else 0.0), s


def alpha_shifts(p):
    a, s = alpha(p)
    return a * s * p, a * s * (p - 1)


def spec(name, cases, bench, factor, axes, shifts=None, **more):
    """The spec of dropout of whatever lies behind the first axes(x) axes."""

    def peer(torch, x, p=0.5, *, seed, offset=0, training=True):
        return getattr(torch.nn.functional, name)(x, p, training)

    options = {"shifts": shifts} if shifts else {}
    return OpSpec(
        name=name,
        grads=("x",),
        cases=cases,
        bench=bench,
        work=streaming(1, 1, FLOPS),
        backward_work=streaming(1, 1, FLOPS),
        depth=lambda case: 2,  # the factor and the product
        exact=False,
        agrees=lambda *args, **kwargs: agrees(factor, axes, *args, **options, **kwargs),
        peers={"torch": peer},
        **more,
    )


ELEMENT_CASES = (
    case(1),
    case(2, 3, 5, 7, p=0.1),
    case(129, p=0.75, offset=2**64 - 1),
    case(1037, p=0.3, offset=7),
    case(3, 11, p=0.0),
    case(5, 13, p=1.0),
    case(7, 9, training=False),
    case(40, 1031, p=2.0**-14),  # thresholds that whole numbers do not reach: ties need more bits
    case(33, 1031, p=0.123456789),
)
ELEMENT_BENCH = (case(16), case(64, 1024, p=0.1), case(256, 4096), case(32, 64, 56, 56), case(128, 64, 56, 56, p=0.1))

SPECS = (
    spec("dropout", ELEMENT_CASES, ELEMENT_BENCH, inverse, lambda x: x.ndim, multilinear=True, sized=case),
    spec(
        "dropout1d",
        (case(4, 33), case(3, 5, 7, p=0.25), case(40, 17, 3, p=0.9, offset=3), case(2, 3, 5, training=False)),
        (case(64, 256, 100),),
        inverse,
        lambda x: x.ndim - 1,
        multilinear=True,
    ),
    spec(
        "dropout2d",
        (
            case(2, 3, 5, 7),
            case(3, 50, 4, 5, p=0.3, offset=9),
            case(2, 67, 16, 16, p=0.75),
            case(2, 3, 4, 5, p=1.0),
            case(2, 3, 4, 5, p=0.0),
        ),
        (case(16, 64, 7, 7), case(32, 64, 56, 56)),
        inverse,
        lambda x: 2,
        multilinear=True,
    ),
    spec(
        "alpha_dropout",
        ELEMENT_CASES[:-1],
        (case(64, 1024, p=0.1), case(32, 64, 56, 56)),
        lambda p: alpha(p)[0],
        lambda x: x.ndim,
        alpha_shifts,
    ),
)
