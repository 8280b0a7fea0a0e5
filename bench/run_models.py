"""Runs demonstrations one after the other, and prints their rows of docs/models.md: what they reach in what time.

    python bench/run_models.py [NAME ...] [--page docs/models.md] [--figures FOLDER] [--seed 0] [--threads N]

Without names it runs all. --page puts the rows into the page's table, in the place of those that it has.
"""

import argparse
import os
import sys
from pathlib import Path
from time import perf_counter

import fastnn
from fastnn import demos
from fastnn.cli.models import draw
from fastnn.demos import DEMOS


def row(name, text, seconds):
    """A row of the table."""
    demo = DEMOS[name]
    file = f"[{os.path.basename(demo.model)}](../fastnn/{demo.model})"
    return f"| {demo.number} | {demo.title} | {demo.paper} | {file} | `fastnn run {name}` | {text} | {seconds:.0f} s |"


def update(page, line):
    """Put a row into a page's table, in the place of the one with its number if there is one, in their order."""
    lines = page.read_text(encoding="utf-8").splitlines()
    rows = {int(old[3:].partition(" ")[0]): old for old in [*lines, line] if old.startswith("| M")}
    first = lines.index("|---|---|---|---|---|---|---|") + 1
    rest = [old for old in lines[first:] if not old.startswith("| M")]
    lines = [*lines[:first], *(rows[number] for number in sorted(rows)), *rest]
    page.write_text("\n".join(lines) + "\n", encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of {', '.join(DEMOS)} (default: all)")
    parser.add_argument("--page", type=Path, help="a page with the table, which is brought up to date")
    parser.add_argument("--figures", type=Path, help="where the pictures go (default: none are drawn)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, help="default: all processors")
    args = parser.parse_args()
    if unknown := {*args.names} - {*DEMOS}:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    if args.threads is not None:
        fastnn.set_num_threads(args.threads)
    rows = []
    for name in args.names or DEMOS:
        start = perf_counter()
        result = demos.load(name).run(seed=args.seed)
        rows.append(row(name, result.text, perf_counter() - start))
        if args.page:
            update(args.page, rows[-1])
        if args.figures:
            draw(result, os.fspath(args.figures / f"{name}.png"))
    print(f"\nPython {sys.version.split()[0]}, threads: {fastnn.get_num_threads()}", *rows, sep="\n")


if __name__ == "__main__":
    main()
