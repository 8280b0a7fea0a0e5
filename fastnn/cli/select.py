"""Options that several commands share."""

from __future__ import annotations

from fnmatch import fnmatchcase

import numpy as np

from fastnn.registry import OpSpec, specs

DTYPES = {"float32": np.dtype(np.float32), "float64": np.dtype(np.float64)}


def add_filter(parser) -> None:
    parser.add_argument("--filter", default="*", metavar="GLOB", help="only operators of matching names, e.g. 'conv*'")


def selected(args, parser) -> list[OpSpec]:
    """The specs whose names match --filter; a usage error if there is none."""
    found = [spec for name, spec in specs().items() if fnmatchcase(name, args.filter)]
    if not found:
        parser.error(f"--filter {args.filter}: no operator matches; there are {', '.join(specs())}")
    return found


def comma_list(text: str) -> list[str]:
    """argparse type: names separated by commas."""
    return [item.strip() for item in text.split(",") if item.strip()]


def numbers(text: str) -> list[int]:
    """argparse type: positive numbers separated by commas."""
    counts = [int(item) for item in comma_list(text)]
    if not counts or min(counts) < 1:
        raise ValueError(text)
    return counts
