"""Specs of the functions of one element."""

from math import prod

from fastnn.registry import Case, OpSpec, Work

SHAPES = [(1,), (2, 3, 5, 7), (64,), (1037,)]
# Operations of one vector exponential: range reduction, polynomial, scaling.
EXP_FLOPS = 20
BENCH_SHAPES = [(16,), (32, 64, 56, 56)]


def cases(shapes):
    """The same operator at several shapes of x."""
    return tuple(Case({"x": shape}) for shape in shapes)


def streaming(reads, writes, flops):
    """Work of an operator that reads and writes so many arrays of x's size, at `flops` operations an element."""

    def work(case, itemsize):
        size = prod(case.shapes["x"])
        return Work(flops * size, (reads + writes) * size * itemsize, writes * size * itemsize)

    return work


SPECS = (
    OpSpec(
        name="relu",
        grads=("x",),
        cases=cases(SHAPES),
        bench=cases(BENCH_SHAPES),
        work=streaming(1, 1, 1),
        backward_work=streaming(2, 1, 1),
        depth=lambda case: 0,
        distinct=True,
        peers={"torch": lambda torch, x: torch.nn.functional.relu(x)},
    ),
    OpSpec(
        name="sigmoid",
        grads=("x",),
        cases=cases(SHAPES),
        bench=cases(BENCH_SHAPES),
        work=streaming(1, 1, EXP_FLOPS + 2),
        backward_work=streaming(2, 1, 3),
        depth=lambda case: 8,  # 4 ulp of y in 1 - y and again in y
        exact=False,
        peers={"torch": lambda torch, x: torch.sigmoid(x)},
    ),
    OpSpec(
        name="tanh",
        grads=("x",),
        cases=cases(SHAPES),
        bench=cases(BENCH_SHAPES),
        work=streaming(1, 1, EXP_FLOPS + 5),
        backward_work=streaming(2, 1, 4),
        depth=lambda case: 16,  # 4 ulp of y, twice in y^2, and y^2 <= 1 against dx as small as 1 - y^2
        exact=False,
        peers={"torch": lambda torch, x: torch.tanh(x)},
    ),
)
