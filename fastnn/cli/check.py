"""fastnn check: every kernel against the float64 reference on this machine."""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

from fastnn.cli.select import DTYPES, add_filter, comma_list, selected
from fastnn.kernels import runtime
from fastnn.registry import OpSpec
from fastnn.terminal import Cell, Column, Progress, Table, colour, width
from fastnn.verify import PERFECT, Problem, Verdict, failure, forced, why_not

THREADS = (1, 2, 3)


class Tally(NamedTuple):
    """Outcome of many comparisons: how many, the worst, and what was run there."""

    runs: int = 0
    verdict: Verdict = PERFECT
    what: str = ""

    def add(self, verdict: Verdict, what: str) -> Tally:
        """This tally and one more run of `what`."""
        new = (not verdict.ok, verdict.bound_ratio, verdict.max_error)
        old = (not self.verdict.ok, self.verdict.bound_ratio, self.verdict.max_error)
        worse = new > old or not self.runs
        return Tally(self.runs + 1, verdict if worse else self.verdict, what if worse else self.what)


def attempt(run, algo) -> Verdict:
    """A verdict in any case: an exception is a failure, and no reason to stop checking the others."""
    try:
        return run(algo)
    except Exception as e:
        return failure(f"raised {type(e).__name__}: {e}")


def check_op(spec: OpSpec, isas) -> dict[tuple[str, str], Tally]:
    """Every case, dtype, kind of input, algorithm and number of threads: tallies by direction and instruction set."""
    directions = ("forward", "backward") if spec.grads else ("forward",)
    tallies = {(direction, isa): Tally() for direction in directions for isa in isas}
    kinds = ("normal", "integer") if spec.exact else ("normal",)
    declined: dict[tuple[str | None, str], str] = {(algo, isa): "no cases" for algo in spec.algos for isa in isas}
    for case, (dtype_name, dtype), kind in product(spec.cases, DTYPES.items(), kinds):
        problem = Problem(spec, case, dtype, kind)
        for isa, algo in product(isas, (None, *spec.algos)):
            with forced(isa):
                reason = why_not(spec, case, dtype, algo)
            if reason is not None:
                if (algo, isa) in declined:
                    declined[algo, isa] = reason
                continue
            declined.pop((algo, isa), None)
            for threads, direction in product(THREADS, directions):
                what = [str(case), f"algo={algo}" if algo else "", dtype_name, kind, f"{threads} thr"]
                with forced(isa, threads):
                    verdict = attempt(getattr(problem, direction), algo)
                tallies[direction, isa] = tallies[direction, isa].add(verdict, " ".join(filter(None, what)))
    for (algo, isa), reason in declined.items():
        verdict = failure(f"algo={algo} applies to no case: {reason}")
        tallies["forward", isa] = tallies["forward", isa].add(verdict, f"algo={algo}")
    return tallies


def add_parser(commands) -> None:
    """Add the command `check` and its options."""
    parser = commands.add_parser(
        "check",
        help="every kernel against the NumPy reference",
        description="Run every kernel, case, algorithm and dtype at each instruction-set level on 1, 2 and 3 threads "
        "and compare with the reference in float64. Each row shows the result nearest to its error bound.",
    )
    add_filter(parser)
    parser.add_argument("--isa", type=comma_list, help="instruction-set levels, e.g. avx2,avx512 (default: all)")
    parser.set_defaults(run=run)


def run(args, parser) -> int:
    """The command; returns the exit status."""
    chosen = selected(args, parser)
    isas = args.isa or runtime.supported_isas()
    for isa in isas:
        if isa not in runtime.supported_isas():
            parser.error(f"--isa {isa}: this machine runs {', '.join(runtime.supported_isas())}")
    columns = [
        Column("op", max(len(spec.name) for spec in chosen)),
        Column("direction", 9),
        Column("ISA", 8),
        Column("runs", 5, True),
        Column("error", 8, True),
        Column("bound", 8, True),
        Column("ratio", 6, True),
        Column("", 4),
    ]
    rest = sum(column.width + 2 for column in columns)
    table = Table([*columns, Column("worst case", max(20, width() - rest))])
    failures = []
    runs = 0
    with Progress(len(chosen)) as progress:
        progress.print(table.heading())
        for spec in chosen:
            progress.step(spec.name)
            for (direction, isa), tally in check_op(spec, isas).items():
                verdict = tally.verdict
                runs += tally.runs
                word = Cell("ok", "green") if verdict.ok else Cell("FAIL", "red")
                numbers = [f"{verdict.error:.1e}", f"{verdict.bound:.1e}", f"{verdict.bound_ratio:.3f}"]
                progress.print(table.row([spec.name, direction, isa, str(tally.runs), *numbers, word, tally.what]))
                if not verdict.ok:
                    failures.append(f"{spec.name} {direction} {isa}, {tally.what}: {verdict.where}")
    print()
    for line in failures:
        print(colour(line, "red"))
    outcome = f"{len(failures)} rows FAILED" if failures else "all within their bounds"
    print(f"{runs} comparisons of {len(chosen)} operators: {outcome}")
    return 1 if failures else 0
