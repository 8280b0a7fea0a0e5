"""Recurrent cells and sequences."""

from hypothesis import strategies as st

from fastnn.specs.recurrent import case_of
from strategies.common import digits, picks, sometimes, yes_or_no

SIZES = (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 33, 65)
FORMS = {
    "rnn": {"nonlinearity": st.sampled_from(("tanh", "relu"))},
    "gru": {"variant": st.sampled_from(("torch", "paper"))},
    "lstm": {},
}


@st.composite
def cell_cases(draw, cell, sequence):
    n, d, h, t, bias, state = draw(picks((1, 2, 3, 5, 17, 0), SIZES, SIZES, (1, 2, 3, 5), (True, False), (True, False)))
    if cell == "gru":
        h = max(h, 3)  # as in the spec's own cases: the bound is relative to the largest gradient of all units
    options = sometimes(draw, **FORMS[cell])
    projected = draw(st.sampled_from((None, None, 1, 2, 5, 9))) if cell == "lstm" else None
    if sequence:
        options |= sometimes(draw, reverse=yes_or_no)
        if n and draw(yes_or_no):
            options["lengths"] = tuple(1 + i % t for i in draw(digits(*[t] * min(n, 9))) * 2)[:n] if n < 18 else None
    return case_of(cell, n, d, h, t if sequence else None, bias=bias, state=state, p=projected, **options)


STRATEGIES = {
    cell if sequence else f"{cell}_step": cell_cases(cell, sequence) for cell in FORMS for sequence in (False, True)
}
