"""Recurrent networks."""

from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True, slots=True)
class LstmDesc:
    """t steps of an LSTM on n samples of d features, with h hidden units."""

    t: int
    n: int
    d: int
    h: int

    @property
    def flops(self):
        """The two matrix products."""
        return 8.0 * self.t * self.n * self.h * (self.d + self.h)

    def bytes(self, itemsize):
        """Input and output sequences and all weights, once."""
        return float((self.t * self.n * (self.d + self.h) + 4 * self.h * (self.d + self.h)) * itemsize)


@lru_cache(maxsize=1024)
def lstm_desc(op, x_shape, w_ih_shape, w_hh_shape):
    """The descriptor of `op`: lstm for x (T, N, D), lstm_step for x (N, D)."""
    expected = {"lstm": "(T, N, D)", "lstm_step": "(N, D)"}[op]
    if len(x_shape) != expected.count(",") + 1:
        raise ValueError(f"{op}: x has shape {x_shape}, expected {expected}")
    *t, n, d = x_shape
    h = w_hh_shape[-1] if w_hh_shape else 0
    if w_hh_shape != (4 * h, h):
        raise ValueError(f"{op}: w_hh has shape {w_hh_shape}, expected (4H, H), one block of rows per gate i, f, g, o")
    if w_ih_shape != (4 * h, d):
        raise ValueError(
            f"{op}: w_ih has shape {w_ih_shape}, expected {(4 * h, d)} for {d} features in x and {h} hidden units"
        )
    if 0 in (*t, d, h):
        raise ValueError(
            f"{op}: x has shape {x_shape} and w_hh {w_hh_shape}, expected at least one step, feature and hidden unit"
        )
    return LstmDesc(t[0] if t else 1, n, d, h)
