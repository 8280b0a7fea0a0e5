"""Specs of softmax, its logarithm and its limit."""

from fastnn.registry import Case, OpSpec, gradient_terms, rows_of
from fastnn.specs.elementwise import EXP_FLOPS, streaming


def softmax_case(shape, axis=-1):
    return Case({"x": shape}, {"axis": axis})


# Along the last axis: shorter than a vector, of vectors, with tails. Across: one column, tails, more than one task.
CASES = (
    softmax_case((1, 1)),
    softmax_case((4, 10)),
    softmax_case((3, 64)),
    softmax_case((2, 3, 133)),
    softmax_case((7,), 0),
    softmax_case((5, 1), 0),
    softmax_case((5, 7, 3), 1),
    softmax_case((2, 3, 4, 5), -3),
    softmax_case((3, 6, 257), -2),
    softmax_case((1, 21, 12, 13), 1),
)
# Classifiers of ten and of a thousand classes, the next token of a language model, segmentation.
BENCH = (
    softmax_case((64, 10)),
    softmax_case((4096, 1000)),
    softmax_case((1, 50257)),
    softmax_case((8, 21, 128, 128), 1),
)


def depth(case):
    """The sum along the axis, and 4 for each of exponential and quotient (or logarithm and difference)."""
    return case.shapes["x"][case.options["axis"]] + 8


def batch(case):
    """Axis 0, unless the softmax is along it."""
    shape = case.shapes["x"]
    return {"x": 0} if case.options["axis"] % len(shape) else {}


def torch_hardmax(torch, x, axis):
    return torch.zeros_like(x).scatter_(axis, torch.argmax(x, axis, keepdim=True), 1)


SPECS = (
    OpSpec(
        name="softmax",
        grads=("x",),
        cases=CASES,
        bench=BENCH,
        work=streaming(1, 1, EXP_FLOPS + 4),  # maximum, difference, sum, quotient
        backward_work=streaming(2, 1, 4),
        depth=depth,
        gradient_terms=gradient_terms("softmax", ("x",)),
        batch=batch,
        sized=lambda n: softmax_case(rows_of(n)),
        exact=False,
        peers={"torch": lambda torch, x, axis: torch.softmax(x, axis)},
    ),
    OpSpec(
        name="log_softmax",
        grads=("x",),
        cases=CASES,
        bench=BENCH,
        work=streaming(1, 1, EXP_FLOPS + 5),
        backward_work=streaming(2, 1, EXP_FLOPS + 3),
        depth=depth,
        gradient_terms=gradient_terms("log_softmax", ("x",)),
        batch=batch,
        sized=lambda n: softmax_case(rows_of(n)),
        exact=False,
        peers={"torch": lambda torch, x, axis: torch.log_softmax(x, axis)},
    ),
    OpSpec(
        name="argmax",
        grads=(),
        cases=CASES,
        bench=BENCH,
        work=streaming(1, 0, 2),
        depth=lambda case: 0,
        batch=batch,
        sized=lambda n: softmax_case(rows_of(n)),
        peers={"torch": lambda torch, x, axis: torch.argmax(x, axis)},
    ),
    OpSpec(
        name="hardmax",
        grads=(),
        cases=CASES,
        bench=BENCH,
        work=streaming(1, 1, 2),
        depth=lambda case: 0,
        batch=batch,
        sized=lambda n: softmax_case(rows_of(n)),
        peers={"torch": torch_hardmax},
    ),
)
