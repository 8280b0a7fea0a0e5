"""Functions of one element, dropout, softmax, addition."""

from hypothesis import strategies as st

from fastnn.registry import Case
from fastnn.specs import dropout, elementwise
from strategies.common import digits, eighths, shapes, sometimes, yes_or_no

positive = st.sampled_from((0.125, 0.5, 0.7, 1.0, 2.5, 20.0))

OPTIONS = {
    "leaky_relu": {"negative_slope": eighths},
    "elu": {"alpha": eighths},
    "gelu": {"approximate": st.sampled_from(("none", "tanh"))},
    "softplus": {"beta": positive, "threshold": positive},
    "hardtanh": {"min_val": eighths.map(lambda v: v - 2), "max_val": eighths.map(lambda v: v + 2)},
}


@st.composite
def function_cases(draw, options):
    return Case({"x": draw(shapes())}, sometimes(draw, **options) if options else {})


@st.composite
def add_cases(draw):
    shape = draw(shapes())
    return Case({"a": shape, "b": shape}, {"relu": draw(yes_or_no)})


word = st.integers(0, 2**64 - 1)
probabilities = st.sampled_from((0.5, 0.1, 0.25, 0.0, 1.0, 0.9, 2.0**-14, 0.123456789))


@st.composite
def dropout_cases(draw, least, most):
    options = sometimes(draw, p=probabilities, offset=word, training=yes_or_no)
    return Case({"x": draw(shapes(least, most))}, {"seed": draw(word), **options})


@st.composite
def along_an_axis(draw):
    shape = draw(shapes(1, empty=False))
    axis, without = draw(digits(2 * len(shape), 16))
    axis -= len(shape)
    if without == 15:  # nothing along another axis; along this one there must be something
        shape = tuple(n if i == axis % len(shape) else 0 for i, n in enumerate(shape))
    return Case({"x": shape}, {"axis": axis})


AXES = {"dropout1d": (2, 3), "dropout2d": (4, 4)}

STRATEGIES = {
    **{spec.name: function_cases(OPTIONS.get(spec.name)) for spec in elementwise.SPECS},
    **{spec.name: dropout_cases(*AXES.get(spec.name, (0, 4))) for spec in dropout.SPECS},
    **dict.fromkeys(("softmax", "log_softmax", "argmax", "hardmax"), along_an_axis()),
    "add": add_cases(),
}
