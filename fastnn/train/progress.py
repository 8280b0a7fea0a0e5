"""How far a run is: a bar in a terminal, a line an epoch elsewhere."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from time import perf_counter
from typing import Any, Protocol, TypeVar

from fastnn import terminal

__all__ = ["Bar", "Calls", "Lines", "Silent", "as_progress", "track"]

Item = TypeVar("Item")
Made = TypeVar("Made", covariant=True)


class Countable(Protocol[Made]):
    """What a DataLoader, a list and a range have in common."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Made]: ...


INTERVAL = 0.1
"""Seconds between two drawings of the bar, so that it takes no time that counts."""


def text_of(values: Mapping[str, float]) -> str:
    """Names and values: four digits."""
    return "  ".join(
        f"{name} {value:.4f}" if 0.01 <= abs(value) < 1e4 and not name.startswith("lr") else f"{name} {value:.4g}"
        for name, value in values.items()
    )


def line_of(record: Mapping[str, float], epochs: int) -> str:
    """An epoch in a line."""
    values = {name: value for name, value in record.items() if name not in ("epoch", "seconds")}
    epoch = f"{record['epoch']:{len(str(epochs))}d}"
    return f"epoch {epoch}/{epochs}  {record['seconds']:.1f} s  {text_of(values)}"


class Silent:
    """Shows nothing; what all kinds can be told."""

    def begin(self, label: str, total: int | None, done: int = 0) -> None:
        """Batches begin, of which some may be done."""

    def batch(self, values: Callable[[], Mapping[str, float]]) -> None:
        """A batch is done; values(): means so far."""

    def epoch(self, record: Mapping[str, float], epochs: int) -> None:
        """An epoch is done."""

    def close(self) -> None:
        """The run is over, or broken off."""


class Calls(Silent):
    """Calls a function with the record of each epoch."""

    def __init__(self, function: Callable[[dict[str, float]], Any]) -> None:
        self.function = function

    def epoch(self, record: Mapping[str, float], epochs: int) -> None:
        self.function(dict(record))


class Lines(Silent):
    """A line an epoch."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def epoch(self, record: Mapping[str, float], epochs: int) -> None:
        print(line_of(record, epochs), file=self.stream, flush=True)


class Bar(Lines):
    """A line an epoch, and below it one that is drawn again and again."""

    def begin(self, label: str, total: int | None, done: int = 0) -> None:
        self.label, self.total = label, total
        self.first = self.done = done
        self.start = self.drawn = perf_counter()

    def batch(self, values: Callable[[], Mapping[str, float]]) -> None:
        self.done += 1
        now = perf_counter()
        if now - self.drawn >= INTERVAL:
            self.drawn = now
            self.draw(now - self.start, values())

    def draw(self, elapsed: float, values: Mapping[str, float]) -> None:
        rate = (self.done - self.first) / elapsed
        speed = f"{rate:.0f} batch/s" if rate >= 10 else f"{1 / rate:.2f} s/batch"
        if self.total is None:
            terminal.redraw(self.stream, f"{self.label}  {self.done} batches  {speed}  {text_of(values)}")
            return
        seconds = round(max(self.total - self.done, 0) / rate)
        left = f"{seconds // 60}:{seconds % 60:02d} left"
        rest = f" {self.done}/{self.total}  {left}  {speed}  {text_of(values)}"
        # The bar gives way to what is to be read.
        length = min(max(terminal.columns() - 3 - len(self.label) - len(rest), 6), 24)
        terminal.redraw(self.stream, f"{self.label}  {terminal.bar(self.done, self.total, length)}{rest}")

    def epoch(self, record: Mapping[str, float], epochs: int) -> None:
        self.close()
        super().epoch(record, epochs)

    def close(self) -> None:
        terminal.redraw(self.stream, "")


def as_progress(progress: Any, op: str) -> Silent:
    """None: a bar if standard output is a terminal, else lines. False: nothing. A stream: likewise there. A function:
    it is called with each epoch's record."""
    if progress is None or progress is True:
        progress = sys.stdout
    if progress is False:
        return Silent()
    if hasattr(progress, "write"):
        terminal_like = getattr(progress, "isatty", bool)() and os.environ.get("TERM") != "dumb"
        return Bar(progress) if terminal_like else Lines(progress)
    if callable(progress):
        return Calls(progress)
    raise TypeError(f"{op}: progress must be None, True, False, a stream or a function, got {progress!r}")


def track(
    items: Countable[Item], label: str, values: Callable[[], Mapping[str, float]] = dict, progress: Any = None
) -> Iterator[Item]:
    """The items, and on the way how far they are: for loops of one's own, as `fit` shows its batches.

    label: what is being done. values: called from time to time for numbers to be shown. progress: as in `fit`; what is
    not a terminal is told nothing.

    for step in train.track(range(1000), "generator", lambda: {"loss": loss.item()}):
        ...
    """
    shown = as_progress(progress, "track")
    shown.begin(label, len(items))
    try:
        for item in items:
            yield item
            shown.batch(values)
    finally:
        shown.close()
