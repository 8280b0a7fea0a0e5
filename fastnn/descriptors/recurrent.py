"""Recurrent networks."""

from dataclasses import dataclass
from functools import lru_cache

GATES = {"rnn": 1, "gru": 3, "lstm": 4}
"""Blocks of rows in a cell's weights."""

ROWS = {
    "rnn": "(H, H)",
    "gru": "(3H, H), one block of rows per gate r, z, n",
    "lstm": "(4H, H), one block of rows per gate i, f, g, o",
    "projected": "(4H, P), one block of rows per gate i, f, g, o",
}


@dataclass(frozen=True, slots=True)
class RecurrentDesc:
    """t steps of a cell with `gates` blocks of h hidden units on n samples of d features. p: size of the state h."""

    gates: int
    t: int
    n: int
    d: int
    h: int
    p: int

    @property
    def flops(self):
        """The matrix products."""
        projection = self.h * self.p if self.p != self.h else 0
        return 2.0 * self.t * self.n * (self.gates * self.h * (self.d + self.p) + projection)

    def bytes(self, itemsize):
        """Input and output sequences and all weights, once."""
        projection = self.h * self.p if self.p != self.h else 0
        weights = self.gates * self.h * (self.d + self.p) + projection
        return float((self.t * self.n * (self.d + self.p) + weights) * itemsize)


@lru_cache(maxsize=1024)
def recurrent_desc(op, x_shape, w_ih_shape, w_hh_shape, w_hr_shape=None):
    """The descriptor of `op`, a cell's name for x (T, N, D), or with "_step" for x (N, D)."""
    cell, _, step = op.partition("_")
    gates, expected = GATES[cell], "(N, D)" if step else "(T, N, D)"
    if len(x_shape) != (2 if step else 3):
        raise ValueError(f"{op}: x has shape {x_shape}, expected {expected}")
    *t, n, d = x_shape
    p = w_hh_shape[1] if len(w_hh_shape) == 2 else 0
    if p and w_hr_shape is not None and (len(w_hr_shape) != 2 or w_hr_shape[0] != p):
        raise ValueError(f"{op}: w_hr has shape {w_hr_shape}, expected (P, H) with P = {p}, the columns of w_hh")
    h = p if w_hr_shape is None else w_hr_shape[-1]
    if not p or w_hh_shape != (gates * h, p):
        rows = ROWS[cell if w_hr_shape is None else "projected"]
        raise ValueError(f"{op}: w_hh has shape {w_hh_shape}, expected {rows}")
    if w_ih_shape != (gates * h, d):
        raise ValueError(
            f"{op}: w_ih has shape {w_ih_shape}, expected {(gates * h, d)} for {d} features in x and {h} hidden units"
        )
    if 0 in (*t, d, h, p):
        raise ValueError(
            f"{op}: x has shape {x_shape} and w_hh {w_hh_shape}, expected at least one step, feature and hidden unit"
        )
    return RecurrentDesc(gates, t[0] if t else 1, n, d, h, p)
