"""Matrix products, the fully connected layer, embedding."""

from hypothesis import strategies as st

from fastnn.registry import Case
from strategies.common import EDGES, LONG, picks, shapes, sometimes, yes_or_no

MAYBE_NONE = (*EDGES, 63, 64, 65, 0)


@st.composite
def matmul_cases(draw):
    m, k, n = draw(picks(MAYBE_NONE, MAYBE_NONE, MAYBE_NONE))
    return Case({"a": (m, k), "b": (k, n)})


@st.composite
def linear_cases(draw):
    d, m, bias = draw(picks(LONG, EDGES, (True, False)))
    return Case({"x": (*draw(shapes(0, 3)), d), "w": (m, d), "b": (m,) if bias else None})


@st.composite
def embedding_cases(draw):
    """Tables with at least a row; where gradients are divided by frequencies, these are powers of two."""
    rows, d = draw(picks(EDGES, MAYBE_NONE))
    options = sometimes(draw, padding_idx=st.integers(-rows, rows - 1), scale_grad_by_freq=yes_or_no)
    indices = draw(shapes(0, 3))
    if options.get("scale_grad_by_freq"):
        indices = (rows * 2 ** draw(st.integers(0, 3)),)
    return Case({"x": indices, "weight": (rows, d)}, options)


STRATEGIES = {"matmul": matmul_cases(), "linear": linear_cases(), "embedding": embedding_cases()}
