"""fastnn bench: every kernel against the NumPy reference and every installed peer."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.util import find_spec
from inspect import signature
from itertools import product
from math import exp, log, prod
from operator import itemgetter
from pathlib import Path

import numpy as np

from fastnn import __version__, reference
from fastnn.cli.contest import SERIAL, SMALLEST_COPY, Row, arithmetic_limit, measure_case, memory_limit, threads_of_all
from fastnn.cli.peers import PEERS, installed
from fastnn.cli.select import DTYPES, add_filter, comma_list, numbers, selected
from fastnn.config import config, cpu_model
from fastnn.kernels import runtime
from fastnn.measure import COPY_BYTES, MIXES, THOROUGH, Effort
from fastnn.registry import Case, parse_shape, specs
from fastnn.terminal import Cell, Column, Progress, Table, colour, fit, si, width
from fastnn.threads import get_num_threads
from fastnn.verify import forced

QUICK = Effort(rounds=3, least=0.002, budget=0.1)
SIZES = ",".join(str(4**k) for k in range(2, 14))


def is_shape(value) -> bool:
    """Is this of JSON a shape, or a list of shapes, or none?"""
    if isinstance(value, list) and value and isinstance(value[0], list):
        return all(isinstance(each, list) and is_shape(each) for each in value)
    if not isinstance(value, list):
        return value is None
    return all(type(n) is int and n >= 0 for n in value) and prod(n for n in value if n) < 2**60


def read_case(item) -> tuple[str, Case]:
    """(operator, case) of an element of a shapes file. ValueError if it is none."""
    if not isinstance(item, dict) or not isinstance(item.get("op"), str) or not isinstance(item.get("shapes"), dict):
        raise ValueError(f"got {str(item)[:60]}, expected an object with the keys op and shapes")
    name, shapes, options, label = item["op"], item["shapes"], item.get("options", {}), item.get("label", "")
    if name not in specs():
        raise ValueError(f"unknown operator {name!r}")
    if not isinstance(options, dict) or not isinstance(label, str):
        raise ValueError(f"{name}: expected options to be an object, label a string")
    known = signature(specs()[name].function(reference)).parameters
    for key in (*shapes, *options):
        if key not in known:
            raise ValueError(f"{name} has no argument {key!r}, expected some of {', '.join(known)}")
    for key, shape in shapes.items():
        if not is_shape(shape):
            raise ValueError(f"{name}: {key} is {str(shape)[:60]}, expected a shape, a list of integers")
    return name, Case({key: parse_shape(shape) for key, shape in shapes.items()}, options, label)


def read_shapes(path) -> list[tuple[str, Case]]:
    """[(operator, case)] of a shapes file: JSON, a list of {"op", "shapes", and optionally "options", "label"}.
    ValueError for anything else."""
    try:
        items = json.loads(Path(path).read_text(encoding="utf-8"))
    except RecursionError:
        items = None
    if not isinstance(items, list):
        raise ValueError("expected a list of objects")
    return [read_case(item) for item in items]


def cases_of_files(paths, parser) -> dict[str, list[Case]]:
    """{operator: cases} of shapes files; a usage error if a file is wrong, or if two cases have the same name."""
    found: dict[str, dict[str, Case]] = {}
    for path in paths:
        try:
            items = read_shapes(path)
        except (OSError, ValueError) as e:
            parser.error(f"--shapes {path}: {type(e).__name__}: {e}")
        for op, case in items:
            if found.setdefault(op, {}).setdefault(str(case), case) is not case:
                parser.error(f"--shapes {path}: there is another {op} {case}")
    return {op: list(cases.values()) for op, cases in found.items()}


def cases_of_sizes(spec, sizes):
    """A case of about each size."""
    for n in sizes:
        case = spec.sized(max(16, 1 << n.bit_length() - 1))
        yield case._replace(label=f"{n} elements: {case}")


def add_parser(commands) -> None:
    """Add the command `bench` and its options."""
    parser = commands.add_parser(
        "bench",
        help="every kernel against the NumPy reference and installed peers",
        description="Verify, then time, every kernel, the NumPy reference and the installed peers, in turn. Ratios "
        "are their time over fastnn's: above 1, fastnn is faster.",
    )
    add_filter(parser)
    parser.add_argument("--threads", type=numbers, metavar="N,N", help="numbers of threads (default: 1 and all)")
    parser.add_argument("--backward", action="store_true", help="backward passes too")
    parser.add_argument("--algos", action="store_true", help="a row for each algorithm that applies, too")
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    parser.add_argument("--isa", choices=runtime.supported_isas(), help="instruction-set level (default: the highest)")
    parser.add_argument(
        "--peers", type=comma_list, metavar="NAME,NAME", help=f"of {', '.join(PEERS)}; none (default: all installed)"
    )
    parser.add_argument(
        "--shapes", nargs="+", metavar="FILE", help='JSON lists of {"op", "shapes", "options", "label"} to time'
    )
    parser.add_argument(
        "--sizes",
        nargs="?",
        const=SIZES,
        type=numbers,
        metavar="N,N",
        help="problems of so many elements, rounded down to powers of 2, of each operator that memory or overhead "
        "limits (default: 16 to 67 million by fours)",
    )
    parser.add_argument("--quick", action="store_true", help="fewer and shorter timings")
    parser.add_argument("--json", metavar="FILE", help="write machine, limits and all rows")
    parser.add_argument("--plot", metavar="FILE", help="write a bar chart of the ratios (needs matplotlib)")
    parser.set_defaults(run=run)


def load_peers(args, parser):
    """The peers to measure against, by name."""
    names = installed() if args.peers is None else [name for name in args.peers if name != "none"]
    for name in names:
        if name not in PEERS:
            parser.error(f"--peers {name}: expected some of {', '.join(PEERS)}")
        if name not in installed():
            parser.error(f"--peers {name}: not installed")
    return {name: PEERS[name]() for name in names}


def load_average():
    """Processes that ran or waited to, on average of the last minute; 0 where the system does not tell."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


def preparing_of(peers):
    """Names of the peers that prepare weights before they are timed."""
    return [name for name, peer in peers.items() if peer.prepared]


def header(args, load, effort, peers, threads):
    """Lines that say what is measured, and how."""
    yield f"fastnn {__version__}, {runtime.get_isa()}, {args.dtype}, {runtime.COMPILER}; {cpu_model()}"
    blas = "on as many threads" if find_spec("threadpoolctl") else "on all threads (threadpoolctl is not installed)"
    yield f"numpy {np.__version__}: the reference in {args.dtype}, its BLAS {blas}"
    if peers:
        yield f"peers: {', '.join(f'{name} {peer.version}' for name, peer in peers.items())}"
    for n in threads:
        peak = arithmetic_limit(n, runtime.get_isa(), DTYPES[args.dtype])
        rates = ", ".join(f"{r}:{w} {si(memory_limit(n, COPY_BYTES, (r, w)), 'B/s')}" for r, w in MIXES)
        yield f"limits, {n} thread{'s' * (n > 1)}: {si(peak, 'FLOP/s')} multiply-add in registers;"
        yield f"       {COPY_BYTES >> 20} MiB read:written {rates}"
    if load > 0.5:
        yield colour(f"load average {load:.1f}: other processes distort times, those on several threads most", "yellow")
    yield f"times: medians of {effort.rounds} interleaved rounds; ratios: their time / fastnn's, above 1 is faster"
    yield "share: of the nearer limit, arithmetic or as many bytes as the call must move, reads to writes as there;"
    yield f"       of at least {SMALLEST_COPY >> 20} MiB; what a core's own cache serves can exceed 100 %"
    if preparing := preparing_of(peers):
        yield f"{', '.join(preparing)}: forward in float32, weights packed or transformed before they are timed:"
        names = ", ".join(spec.name for spec in specs().values() if spec.prepares)
        yield f'       rows "prepared" ({names}) compare with fastnn on prepared weights, others with its whole call'
    if args.backward:
        for peer in peers.values():
            if peer.backward_means:
                yield f"backward: {peer.backward_means}"


def title(op, direction, prepared=False):
    """The operator, with its direction unless that is forward, and whether its weights were prepared."""
    return op + (f" {direction}" if direction != "forward" else "") + " prepared" * prepared


def variant(row: Row):
    """The case, with the algorithm if it was named."""
    return row.case if row.algo == "auto" else f"{row.case} algo={row.algo}"


def ratio_cell(ratio):
    if ratio is None:
        return "–"
    text = f"{ratio:.2f}" if ratio < 99.95 else f"{ratio:.0f}"
    return Cell(text, "green" if ratio >= 1 else "red")


def table_of(problems, others, preparing):
    """The table's layout: wide enough for the names, the case taking what is left of the line."""
    titles = [title(spec.name, direction) for spec, direction, *_ in problems]
    if preparing:
        titles += [title(spec.name, direction, True) for spec, direction, *_ in problems if spec.prepares]
    columns = [
        Column("op", max(map(len, titles))),
        Column("", 0),
        Column("thr", 3, True),
        Column("time", 9, True),
        Column("rate", 13, True),
        Column("share", 6, True),
        *(Column(f"×{name}", 6, True) for name in others),
    ]
    rest = sum(max(column.width, len(column.title)) + 2 for column in columns)
    columns[1] = Column("case", max(24, width() - rest))
    return Table(columns)


def cells_of(row: Row, others):
    """A row of that table."""
    arithmetic = row.limit == "arithmetic"
    rate = si((row.flops if arithmetic else row.bytes) / row.seconds, "FLOP/s" if arithmetic else "B/s")
    op = title(row.op, row.direction, row.prepared)
    facts = [op, variant(row), str(row.threads), si(row.seconds, "s"), rate, f"{row.share:.0%}"]
    return [*facts, *(ratio_cell(row.ratio(name)) for name in others)]


BEST = "best peer"


def ratios_by_case(rows: list[Row], others):
    """{name: {case: ratio}} of each competitor, and of the best peer in each case if there are several."""
    ratios: dict[str, dict[str, float]] = {name: {} for name in others}
    for row in rows:
        for name in row.others:
            ratios[name][f"{row.op} {row.case}"] = row.others[name] / row.seconds
    peers = [ratios[name] for name in others if name not in ("numpy", SERIAL) and ratios[name]]
    if len(peers) > 1:
        cases = dict.fromkeys(case for peer in peers for case in peer)
        ratios[BEST] = {case: min(peer[case] for peer in peers if case in peer) for case in cases}
    return {name: cases for name, cases in ratios.items() if cases}


def geometric_means(rows: list[Row], others):
    """Lines with the mean ratios of the automatic choice, and the smallest, by direction and threads."""
    for direction, n in dict.fromkeys((row.direction, row.threads) for row in rows):
        group = [row for row in rows if (row.direction, row.threads, row.algo) == (direction, n, "auto")]
        yield f"geometric mean, {direction}, {n} thread{'s' * (n > 1)}:"
        for name, ratios in ratios_by_case(group, others).items():
            mean = exp(sum(map(log, ratios.values())) / len(ratios))
            below = sum(ratio < 1 for ratio in ratios.values())
            worst, smallest = min(ratios.items(), key=itemgetter(1))
            line = (
                f"  ×{name:<11} {mean:6.2f} of {len(ratios)} case{'s' * (len(ratios) > 1)}, {below or 'none'} below 1; "
            )
            yield fit(f"{line}smallest {smallest:.2f}: {worst}", width())


def write_json(path, load, effort, peers, rows: list[Row], complaints, threads, args):
    """Everything a later comparison needs."""
    dtype = DTYPES[args.dtype]
    limits = {
        n: {
            "flops": arithmetic_limit(n, runtime.get_isa(), dtype),
            "bytes": {f"{r}:{w}": memory_limit(n, COPY_BYTES, (r, w)) for r, w in MIXES},
        }
        for n in threads
    }
    document = {
        "config": {name.strip(): fact for name, fact in config().items()},
        "load average": load,
        "isa": runtime.get_isa(),
        "dtype": args.dtype,
        "threads": threads,
        "peers": {"numpy": np.__version__, **{name: peer.version for name, peer in peers.items()}},
        "effort": effort._asdict(),
        "limits per second": limits,
        "complaints": complaints,
        "rows": [asdict(row) for row in rows],
    }
    Path(path).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def write_plot(path, rows: list[Row], others):
    """Horizontal bars: how many times faster than each competitor, on a logarithmic axis."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 1.5 + 0.22 * len(rows) * (len(others) + 0.5)), layout="constrained")
    axes = figure.subplots()
    height = 0.8 / len(others)
    for i, name in enumerate(others):
        present = [(place, row) for place, row in enumerate(rows) if name in row.others]
        axes.barh([place + i * height for place, _ in present], [row.ratio(name) or 0 for _, row in present], height,
                  label=f"against {name}")  # fmt: skip
    labels = [f"{title(row.op, row.direction, row.prepared)} {variant(row)} {row.threads} thr" for row in rows]
    axes.set_yticks([place + 0.4 - height / 2 for place in range(len(rows))], labels, fontsize=7)
    axes.set_xscale("log")
    axes.axvline(1, color="black", linewidth=0.8)
    axes.margins(y=0.01)
    axes.invert_yaxis()
    axes.set_xlabel("time of the other / time of fastnn (right of 1: fastnn is faster)")
    axes.set_title(f"fastnn {__version__}, {runtime.get_isa()}, {cpu_model()}")
    axes.legend()
    figure.savefig(path, dpi=120)


def run(args, parser) -> int:
    """The command; returns the exit status."""
    chosen = selected(args, parser)
    cases: Mapping[str, Sequence[Case]] = {spec.name: spec.bench for spec in chosen}
    if args.shapes:
        cases = cases_of_files(args.shapes, parser)
    if args.sizes:
        if args.shapes:
            parser.error("--sizes and --shapes: expected one of them")
        cases = {spec.name: list(cases_of_sizes(spec, args.sizes)) for spec in chosen if spec.sized}
    directions = ("forward", "backward") if args.backward else ("forward",)
    threads = args.threads or sorted({1, get_num_threads()})
    problems = [
        (spec, direction, n, case)
        for spec in chosen
        for direction, n, case in product(directions, threads, cases.get(spec.name, ()))
        if direction == "forward" or spec.grads
    ]
    if not problems:
        parser.error("no case to time")
    if args.plot and find_spec("matplotlib") is None:
        parser.error("--plot needs matplotlib: pip install matplotlib")

    peers = load_peers(args, parser)
    others = ["numpy", *peers] + [SERIAL] * (max(threads) > 1)
    load = load_average()
    effort = QUICK if args.quick else THOROUGH
    dtype = DTYPES[args.dtype]
    rows: list[Row] = []
    complaints: list[str] = []
    with forced(args.isa), Progress(len(problems)) as progress:
        progress.step("measuring the limits of this machine")
        progress.done = 0
        for line in header(args, load, effort, peers, threads):
            progress.print(line)
        table = table_of(problems, others, preparing_of(peers))
        progress.print(f"\n{table.heading()}")
        for spec, direction, n, case in problems:
            progress.step(f"{spec.name} {direction} {case}")
            with threads_of_all(n, peers):
                algos = spec.algos if args.algos else ()
                measured, wrong = measure_case(spec, case, direction, dtype, n, algos, peers, effort)
            for row in measured:
                progress.print(table.row(cells_of(row, others)))
            for line in wrong:
                progress.print(colour(line, "red"))
            rows += measured
            complaints += wrong
        progress.print("")
        for line in geometric_means(rows, others):
            progress.print(line)
        if args.json:
            write_json(args.json, load, effort, peers, rows, complaints, threads, args)
        if args.plot:
            write_plot(args.plot, rows, others)
    if complaints:
        print(colour(f"{len(complaints)} results disagree with the reference", "red"))
    return 1 if complaints else 0
