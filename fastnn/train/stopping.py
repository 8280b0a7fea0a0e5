"""When to stop before the last epoch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fastnn.descriptors import is_int, number
from fastnn.train.history import is_better, mode_of

__all__ = ["EarlyStopping"]

State = dict[str, np.ndarray]


class EarlyStopping:
    """Stop a run of `fit` when a value has not improved for `patience` epochs in a row (Prechelt 1998).

    monitor: a name in the History. min_delta: an improvement is a change by more than that. mode: "min" or "max", which
    is better; None: what the name says, as in History.best. restore_best: keep a copy of the model's state of the best
    epoch, and give it back at the end of the run, whether it stopped early, ran to its end or was interrupted.

    best, best_epoch (from 1), waited: of the present run, which begins afresh with each `fit`. NaN is no improvement.
    """

    best: float | None
    best_epoch: int | None
    waited: int
    best_state: State | None

    def __init__(
        self,
        monitor: str = "val_loss",
        patience: int = 3,
        min_delta: float = 0.0,
        mode: str | None = None,
        restore_best: bool = False,
    ) -> None:
        if not isinstance(monitor, str):
            raise TypeError(f"EarlyStopping: monitor must be a string, got {monitor!r}")
        if not is_int(patience):
            raise TypeError(f"EarlyStopping: patience must be an integer, got {patience!r}")
        if patience < 1:
            raise ValueError(f"EarlyStopping: patience is {patience}, expected at least 1")
        self.min_delta = number(min_delta, "EarlyStopping", "min_delta")
        if not self.min_delta >= 0:
            raise ValueError(f"EarlyStopping: min_delta is {min_delta}, expected at least 0")
        self.monitor, self.patience, self.restore_best = monitor, int(patience), bool(restore_best)
        self.mode = mode_of(monitor, mode, "EarlyStopping")
        self.reset()

    def __repr__(self) -> str:
        return (
            f"EarlyStopping({self.monitor!r}, patience={self.patience}, min_delta={self.min_delta}, "
            f"mode={self.mode!r}, restore_best={self.restore_best})"
        )

    def reset(self) -> None:
        """Forget the run."""
        self.best = self.best_epoch = self.best_state = None
        self.waited = 0

    def update(self, record: Mapping[str, float], state: Callable[[], State]) -> bool:
        """Note an epoch's record; is it time to stop? state(): the model's state, copied if it shall be kept."""
        value = record[self.monitor]
        if value == value and (self.best is None or is_better(value, self.best, self.mode, self.min_delta)):
            self.best, self.best_epoch, self.waited = value, int(record["epoch"]), 0
            if self.restore_best:
                self.best_state = {name: x.copy() for name, x in state().items()}
        else:
            self.waited += 1
        return self.waited >= self.patience

    def state_dict(self) -> dict[str, Any]:
        """What has been noted, but for the state of the best epoch: numbers and texts, as in JSON."""
        return {
            "monitor": self.monitor,
            "mode": self.mode,
            "restore_best": self.restore_best,
            "best": self.best,
            "best_epoch": self.best_epoch,
            "waited": self.waited,
        }

    def load_state_dict(self, stored: Mapping[str, Any], best_state: State | None) -> None:
        """Go on where state_dict was called. ValueError, before anything is changed, if that was for another value."""
        own = self.state_dict()
        if not isinstance(stored, Mapping) or stored.keys() != own.keys() or not is_int(stored["waited"]):
            raise ValueError("EarlyStopping: got something else than state_dict returns")
        for name in ("monitor", "mode", "restore_best"):
            if stored[name] != own[name]:
                raise ValueError(f"EarlyStopping: {name} was {stored[name]!r}, expected {own[name]!r}")
        number = stored["best"] is None or isinstance(stored["best"], int | float)
        if not number or not (stored["best_epoch"] is None or is_int(stored["best_epoch"])):
            raise ValueError(f"EarlyStopping: best is {stored['best']!r} in epoch {stored['best_epoch']!r}")
        self.best, self.best_epoch, self.waited = stored["best"], stored["best_epoch"], stored["waited"]
        self.best_state = best_state
