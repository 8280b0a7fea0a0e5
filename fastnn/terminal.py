"""Tables, colours and a progress bar."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from time import perf_counter
from typing import NamedTuple, TextIO

COLOURS = {"red": "31", "green": "32", "yellow": "33", "dim": "2", "bold": "1"}
PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n"))


def columns() -> int:
    """Columns of the terminal."""
    return shutil.get_terminal_size((120, 24)).columns


def width() -> int:
    """Columns to write in: the terminal's, else 120."""
    return columns() if sys.stdout.isatty() else 120


def colour(text: str, name: str | None) -> str:
    """Text in a colour of COLOURS if standard output is a terminal and NO_COLOR is not set."""
    if not name or not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        return text
    return f"\033[{COLOURS[name]}m{text}\033[0m"


def si(value: float, unit: str) -> str:
    """Three significant digits with a prefix: 1.23 ms, 45.6 GFLOP/s."""
    # From 999.5 on, three digits round up to the next prefix.
    factor, prefix = next((f, p) for f, p in PREFIXES if abs(value) >= 0.9995 * f or p == "n")
    scaled = value / factor
    digits = 2 if abs(scaled) < 9.995 else 1 if abs(scaled) < 99.95 else 0
    return f"{scaled:.{digits}f} {prefix}{unit}"


def fit(text: str, room: int) -> str:
    """Text in so many columns, cut in the middle if it must be: a case begins with its shapes and ends with options."""
    if len(text) <= room:
        return text
    tail = (room - 1) // 2
    return f"{text[: room - 1 - tail]}…{text[len(text) - tail :]}"


def bar(done: int, total: int, length: int = 24) -> str:
    """So many columns, filled as far as the work is done."""
    filled = min(length * done // total, length) if total else length
    return "█" * filled + "·" * (length - filled)


def redraw(stream: TextIO, line: str) -> None:
    """Put a line in the place of the terminal's present one, cut to its width."""
    print(f"\r\033[K{fit(line, columns() - 1)}", end="", file=stream, flush=True)


class Column(NamedTuple):
    """A column of a table: its title, its width, and whether numbers are aligned at the right."""

    title: str
    width: int
    right: bool = False


class Cell(NamedTuple):
    """Text in a colour."""

    text: str
    colour: str | None = None


class Table:
    """Rows of fixed widths that can be printed as they come."""

    def __init__(self, columns: Sequence[Column]):
        self.columns = [column._replace(width=max(column.width, len(column.title))) for column in columns]

    def heading(self) -> str:
        """The titles, with a line below."""
        titles = self.row([column.title for column in self.columns])
        return f"{colour(titles, 'bold')}\n{'─' * (sum(column.width + 2 for column in self.columns) - 2)}"

    def row(self, cells: Sequence[str | Cell]) -> str:
        """One line."""
        texts = []
        for column, cell in zip(self.columns, cells, strict=True):
            text, name = (cell, None) if isinstance(cell, str) else cell
            text = fit(text, column.width)
            text = text.rjust(column.width) if column.right else text.ljust(column.width)
            texts.append(colour(text, name))
        return "  ".join(texts).rstrip()


class Progress:
    """A bar on standard error while it is a terminal, nothing otherwise; lines of output go above it.

    Use as a context manager; `step` before each piece of work, `print` for output.
    """

    def __init__(self, total: int):
        self.total, self.done = total, 0
        self.visible = sys.stderr.isatty()
        self.start = perf_counter()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.clear()

    def clear(self):
        if self.visible:
            redraw(sys.stderr, "")

    def step(self, what: str) -> None:
        """Show what is being worked on; everything before is done."""
        if self.visible:
            elapsed = perf_counter() - self.start
            left = f" {elapsed / self.done * (self.total - self.done):.0f} s left" if self.done else ""
            redraw(sys.stderr, f"{bar(self.done, self.total)} {self.done}/{self.total}{left}  {what}")
        self.done += 1

    def print(self, line: str) -> None:
        """A line of output above the bar."""
        self.clear()
        print(line, flush=True)
