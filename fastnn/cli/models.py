"""fastnn models, fastnn run: the list of demonstrations, and one of them."""

from __future__ import annotations

import argparse
import inspect
import os
from time import perf_counter
from types import ModuleType

import fastnn
from fastnn import demos
from fastnn.terminal import Column, Table, colour

OWN = "quick", "seed"
"""Options of every demonstration, which have flags of their own."""


def add_parsers(commands) -> None:
    """Add both commands."""
    commands.add_parser("models", help="list the networks that can be run").set_defaults(run=list_models)
    parser = commands.add_parser(
        "run",
        help="train a network on real data, and draw what it does",
        description="Train a network on real data, print what it reaches, and draw it. `fastnn models` lists the "
        "names; `fastnn run NAME --help` says more of one.",
    )
    parser.add_argument("name", metavar="NAME", choices=demos.DEMOS, help="a name that `fastnn models` lists")
    parser.add_argument("rest", metavar="...", nargs=argparse.REMAINDER, help="options: --quick, --help and others")
    parser.set_defaults(run=run)


def list_models(args, parser) -> None:
    """A table: name, number in the specification, network, paper, file."""
    rows = [(name, demo.number, demo.title, demo.paper, f"fastnn/{demo.model}") for name, demo in demos.DEMOS.items()]
    titles = "name", "", "network", "after", "to be read in"
    table = Table(
        [Column(title, max(map(len, texts))) for title, texts in zip(titles, zip(*rows, strict=True), strict=True)]
    )
    print(table.heading())
    for row in rows:
        print(table.row(row))
    for package in sorted({package for demo in demos.DEMOS.values() for package in demo.missing()}):
        needs = ", ".join(name for name, demo in demos.DEMOS.items() if package in demo.needs)
        print(f"\npip install {package}, for {needs}", end="")
    print("\nfastnn run NAME trains it on real data, in at most five minutes on two cores; --quick in seconds")


def options_of(name: str, module: ModuleType) -> argparse.ArgumentParser:
    """The flags of a demonstration: those that all have, and one for each further argument of its `run`, of its
    default's type, integers of at least 1; None stands for one that depends on others."""
    parser = argparse.ArgumentParser(
        prog=f"fastnn run {name}",
        description=f"{module.__doc__}\n{inspect.getdoc(module.run) or ''}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="smaller, in seconds")
    parser.add_argument("--seed", type=int, default=0, help="of initial weights, order and samples (default: 0)")
    parser.add_argument("--figure", metavar="FILE", default=f"{name}.png", help=f"the picture (default: {name}.png)")
    parser.add_argument("--no-figure", dest="figure", action="store_const", const=None, help="no picture")
    parser.add_argument("--threads", type=int, help="(default: all processors)")
    for parameter in inspect.signature(module.run).parameters.values():
        if parameter.name not in OWN:
            flag, default = f"--{parameter.name}", parameter.default
            if isinstance(default, bool):
                parser.add_argument(flag, action=argparse.BooleanOptionalAction, default=default)
                continue
            kind = positive if default is None or isinstance(default, int) else type(default)
            shown = None if default is None else "(default: %(default)s)"
            parser.add_argument(flag, type=kind, default=default, help=shown)
    return parser


def positive(text: str) -> int:
    """An integer of at least 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number}, expected at least 1")
    return number


def run(args, parser) -> None:
    """One demonstration: what it prints, its result, and its picture."""
    demo = demos.DEMOS[args.name]
    module = demos.load(args.name)
    parser = options_of(args.name, module)
    options = vars(parser.parse_args(args.rest))
    figure, threads = options.pop("figure"), options.pop("threads")
    missing = demo._replace(needs=(*demo.needs, *["matplotlib"] * (figure is not None))).missing()
    if missing:
        verb = "are" if len(missing) > 1 else "is"
        parser.error(f"needs {', '.join(missing)}, which {verb} not installed: pip install {' '.join(missing)}")
    if figure is not None:
        check_picture(figure, parser)
    if threads is not None:
        try:
            fastnn.set_num_threads(threads)
        except ValueError as error:
            parser.error(f"argument --threads: {error}")
    print(f"{colour(demo.title, 'bold')} ({demo.paper}), fastnn/{demo.model}, threads: {fastnn.get_num_threads()}")
    start = perf_counter()
    try:
        result = module.run(**options)
    except FileNotFoundError as error:  # data that no package of pip has
        parser.exit(1, f"{error}\n")
    except ValueError as error:
        if not str(error).startswith(f"{args.name}: "):
            raise
        parser.error(str(error))  # of an option
    print(f"\n{result.text}\n{perf_counter() - start:.0f} s", end="")
    if figure is not None:
        draw(result, figure)
        print(f"; picture: {figure}", end="")
    print()


def check_picture(path: str, parser: argparse.ArgumentParser) -> None:
    """A usage error now, not after minutes, if the picture could not be written."""
    from matplotlib.figure import Figure

    folder, kinds = os.path.dirname(path), Figure().canvas.get_supported_filetypes()
    if folder and not os.path.isdir(folder):
        parser.error(f"argument --figure: there is no folder {folder}")
    if os.path.splitext(path)[1][1:].lower() not in kinds:
        parser.error(f"argument --figure: {path} should end in one of .{', .'.join(kinds)}")


def draw(result: demos.Result, path: str) -> None:
    """Write the picture of a result."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 5), layout="constrained")
    result.draw(figure)
    figure.savefig(path, dpi=100)
