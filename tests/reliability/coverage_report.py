"""Which lines of fastnn does the test suite execute? Python by coverage.py, C and Cython by gcov.

    python tests/reliability/coverage_report.py

copies the tree into a temporary folder, builds it there with FASTNN_COVERAGE=1, runs the suite, a process a file of
tests, and prints the share of each source file and the lines that were never executed. It fails if a test does, and
below 95 % of Python or of C and Cython.

What counts:

- Python: the statements that coverage.py finds, in this process and the children of tests; not what only type
  checkers read.
- C: the lines that gcc generates code for. A line is executed if it is at any instruction-set level; a function that
  the compiler drops because nothing calls it at a level has no lines there.
- Cython: the lines within functions that code is generated for. Cython says in comments which C lines come from
  which of its own; a line is executed if one of its C lines is. Headers of functions and classes, declarations, and
  what Cython adds before and after a body (arguments, clean-up) do not count.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
REQUIRED = 95.0
# A test of several minutes without instrumentation takes the longer with it; nothing else ends a deadlock.
TIMEOUT = 1800

# Tests that cannot hold, and why.
WITHOUT = {
    "tests/reliability/test_allocation_failures.py::test_python_objects_that_cannot_be_made": "coverage.py crashes",
    "tests/test_import.py::test_import_is_quick": "measures time",
    "tests/reliability/test_neighbours.py::test_subinterpreters_are_refused": "coverage.py begins in them, and fails",
}

MARKER = re.compile(r'( *)/\* "(fastnn/.*\.p(?:yx|xd))":(\d+)\n')


def copy_tree(folder):
    """What git knows of, and new files that it does not ignore."""
    files = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(files, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    for name in filter(None, names):
        source, target = ROOT / name, folder / name
        if not source.is_file():  # deleted, and not committed
            target.unlink(missing_ok=True)
        elif not target.exists() or source.read_bytes() != target.read_bytes():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())


def build(folder):
    command = [sys.executable, "setup.py", "build_ext", "--inplace"]
    log = folder / "build.log"
    with log.open("w") as f:
        done = subprocess.run(
            command, cwd=folder, env={**os.environ, "FASTNN_COVERAGE": "1"}, stdout=f, stderr=subprocess.STDOUT
        )
    if done.returncode:
        sys.exit(f"the build failed:\n{log.read_text()[-4000:]}")


def run_suite(folder, files, jobs):
    """The names of files with tests that failed."""
    settings = {"PYTHONPATH": str(folder), "COVERAGE_FILE": str(folder / ".coverage"), "OMP_NUM_THREADS": "1"}
    failed = []

    def run(name):
        without = [f"--deselect={test}" for test in WITHOUT]
        command = ["-m", "coverage", "run", "-m", "pytest", "-q", "--timeout", str(TIMEOUT), *without, name]
        begin = time.monotonic()
        done = subprocess.run(
            [sys.executable, *command], cwd=folder, env={**os.environ, **settings}, capture_output=True, text=True
        )
        last = done.stdout.strip().rpartition("\n")[2].strip("= ")
        print(f"  {name}: {last} ({time.monotonic() - begin:.0f} s)", flush=True)
        if done.returncode not in (0, 5):  # 5: all tests of the file are slow
            failed.append(name)
            (folder / f"{Path(name).stem}.log").write_text(done.stdout + done.stderr)

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(run, files))
    return failed


def python_lines(folder):
    """Per file of Python: {line: whether it was executed}."""
    settings = {**os.environ, "COVERAGE_FILE": str(folder / ".coverage")}

    def coverage(*arguments, check=True):
        subprocess.run(
            [sys.executable, "-m", "coverage", *arguments],
            cwd=folder,
            env=settings,
            check=check,
            stdout=subprocess.DEVNULL,
        )

    if list(folder.glob(".coverage.*")):  # it is an error for coverage.py if all that is left is of killed processes
        coverage("combine", "--append", "--quiet", check=False)
    coverage("json", "--quiet", "--ignore-errors", "-o", "coverage.json")
    found = json.loads((folder / "coverage.json").read_text())["files"]
    return {
        name: dict.fromkeys(data["executed_lines"], True) | dict.fromkeys(data["missing_lines"], False)
        for name, data in found.items()
        if not Path(name).is_absolute()  # copies that tests make elsewhere
    }


def cython_origins(path):
    """{line of generated C: (file, line) of Cython} within the bodies of functions."""
    origins, declarations = {}, set()
    inside, origin = False, None
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(keepends=True), 1):
        if marker := MARKER.fullmatch(line):
            at = marker[2], int(marker[3])
            origin = at if inside else None
            if not marker[1]:
                declarations.add(at)
        elif re.match(r"[A-Za-z].*\{\n", line):
            inside, origin = True, None
        elif line.startswith("}"):
            inside, origin = False, None
        elif origin is not None:
            origins[number] = origin
    return {number: origin for number, origin in origins.items() if origin not in declarations}


def compiled_lines(folder):
    """The same of C and Cython, of all objects together."""
    executed = defaultdict(dict)
    origins = {}
    for notes in sorted((folder / "build").rglob("*.gcno")):
        gcov = ["gcov", "--json-format", "--stdout", str(notes)]
        done = subprocess.run(gcov, cwd=folder, check=True, capture_output=True, text=True)
        for source in json.loads(done.stdout)["files"]:
            path = (folder / source["file"]).resolve()
            if not path.is_relative_to(folder):
                continue  # headers of Python, NumPy and the compiler
            name = str(path.relative_to(folder))
            generated = name.startswith("build/")
            if generated and name not in origins:
                origins[name] = cython_origins(path)
            for line in source["lines"]:
                number = line["line_number"]
                at = origins[name].get(number) if generated else (name, number)
                if at is not None:
                    lines = executed[at[0]]
                    lines[at[1]] = lines.get(at[1], False) or line["count"] > 0
    return executed


def ranges(numbers):
    """1-3, 7"""
    found = []
    for n in sorted(numbers):
        if found and found[-1][1] == n - 1:
            found[-1][1] = n
        else:
            found.append([n, n])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in found)


def report(title, files):
    """Print a table; the percentage of lines executed."""
    print(f"\n{title}\n")
    for name, lines in sorted(files.items()):
        missing = [n for n, yes in lines.items() if not yes]
        if lines:
            share = 100 * (1 - len(missing) / len(lines))
            print(f"  {name:48} {len(lines):6} lines {share:6.1f} %  {ranges(missing)}".rstrip())
    total = sum(map(len, files.values()))
    hit = sum(sum(lines.values()) for lines in files.values())
    share = 100 * hit / total if total else 0.0
    print(f"\n  {title}: {hit} of {total} lines, {share:.2f} %")
    return share


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("files", nargs="*", help="of tests, for a part of the suite; default: all")
    parser.add_argument("--folder", type=Path, help="build here, and add to what was counted here before")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes at a time")
    parser.add_argument("--no-run", action="store_true", help="only print what was counted in --folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.folder or Path(temporary) / "fastnn").resolve()
        failed = []
        if not options.no_run:
            copy_tree(folder)
            build(folder)
            files = options.files or [str(p.relative_to(folder)) for p in sorted(folder.glob("tests/**/test_*.py"))]
            failed = run_suite(folder, files, options.jobs)
        shares = [report("Python", python_lines(folder)), report("C and Cython", compiled_lines(folder))]
    if failed:
        print(f"\nTests failed in {', '.join(failed)}")
    sys.exit(bool(failed) or min(shares) < REQUIRED)


if __name__ == "__main__":
    main()
