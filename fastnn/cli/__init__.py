"""The command line: python -m fastnn info | check | bench | models | run."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from fastnn.cli import bench, check, models
from fastnn.config import show_config

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; argv defaults to the process's arguments. Returns the exit status: 0, or 1 if a check failed."""
    parser = argparse.ArgumentParser(prog="fastnn", description="Neural-network layers for CPUs.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    info = commands.add_parser("info", help="versions, instruction sets, threads, machine")
    info.set_defaults(run=lambda args, parser: show_config())
    check.add_parser(commands)
    bench.add_parser(commands)
    models.add_parsers(commands)
    args = parser.parse_args(argv)
    return args.run(args, parser) or 0
