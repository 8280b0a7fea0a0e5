"""Builds the library in another way, in a temporary folder, and runs tests there:

    python tests/reliability/builds.py KIND [--keep FOLDER] [pytest's arguments]

KIND           what is built                                                       what runs by default
no-openmp      serial kernels                                                      the whole suite
debug          bounds checks in Cython                                             the whole suite
address        bounds checks, AddressSanitizer, UndefinedBehaviorSanitizer         the whole suite
thread         serial kernels, ThreadSanitizer: what Python threads share          RACES
thread-openmp  Clang, ThreadSanitizer, Archer: what threads of a region share      RACES

RACES is race.py, beside this file. Before the tests of a sanitizer come small programs with faults, which it must
report. Needs setuptools, Cython and GCC; the last kind Clang (CLANG, default clang) with libomp and Archer (Debian:
clang libomp-dev). With --keep the folder is used again, and only what has changed is compiled.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CLANG = os.environ.get("CLANG", "clang")
RACES = ("tests/reliability/race.py",)


@dataclass(frozen=True)
class Kind:
    """A way to build and run."""

    build: dict[str, str]
    run: dict[str, str] = field(default_factory=dict)
    """Variables for Python; libraries (.so) by names that the compiler finds."""
    preload: tuple[str, ...] = ()
    """Libraries that must be in the process before Python, likewise."""
    expects: str = "runtime.OPENMP and not runtime.DEBUG"
    """What is true of fastnn.kernels.runtime."""
    faults: dict[str, str | None] = field(default_factory=dict)
    """Bodies of C functions `void fault(int *p)`, p with four elements, and what is reported of each; None: nothing."""
    tests: tuple[str, ...] = ()
    without: dict[str, str] = field(default_factory=dict)
    """Tests that cannot hold, and why."""


# A sanitizer's own memory is a multiple of the program's, and its time too.
MEASURES = {
    "tests/test_runtime.py::test_failed_allocation": "limits the process's memory",
    "tests/test_runtime.py::test_kept_memory_is_given_back": "measures the process's memory",
    "tests/test_import.py::test_import_is_quick": "measures time",
    "tests/reliability/test_file_memory.py": "measures the process's memory",
    "tests/reliability/test_leaks.py": "measures the process's memory",
    "tests/reliability/test_neighbours.py": "limits the process's memory",
    "tests/reliability/test_processes.py": "measures time",
    "tests/reliability/test_threads.py::test_threads_come_and_go": "measures the process's memory",
    "tests/reliability/test_allocation_failures.py::test_kept_memory_is_given_back_before_a_call_fails": "limits it",
    "tests/reliability/test_guards.py::test_guards_find_one_element_too_many": "reads what it must not, for a signal",
    "tests/test_peers.py": "AddressSanitizer refuses how OpenVINO loads libraries",
}
RACE_FAULT = "for (int i = 0; i < 100; i++, usleep(1000)) ++*p;"
BARRIER = """int a[2], b[2];
#pragma omp parallel num_threads(2)
{
    const int i = omp_get_thread_num();
    a[i] = i;
    #pragma omp barrier
    b[i] = a[1 - i];
}
"""

KINDS = {
    "no-openmp": Kind({"FASTNN_NO_OPENMP": "1"}, expects="not runtime.OPENMP and not runtime.DEBUG"),
    "debug": Kind({"FASTNN_DEBUG": "1"}, expects="runtime.OPENMP and runtime.DEBUG"),
    "address": Kind(
        {"CC": "gcc", "FASTNN_DEBUG": "1", "FASTNN_SANITIZE": "address,undefined"},
        # Python objects come from malloc, one by one, or the sanitizer would not see where they end. What Python and
        # NumPy keep to the end is no leak; a request that cannot be met is NumPy's and our MemoryError.
        {
            "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1",
            "UBSAN_OPTIONS": "print_stacktrace=1",
            "PYTHONMALLOC": "malloc",
        },
        ("libasan.so", "libstdc++.so"),  # the latter for exceptions of C++ libraries that are loaded later
        "runtime.OPENMP and runtime.DEBUG",
        {
            "p[4] = 1;": "heap-buffer-overflow",
            "int *q = malloc(4); free(q); *q = 1;": "heap-use-after-free",
            "p[0] = 1 << (p[1] + 40);": "shift exponent 40 is too large",
            "memcpy(p, p[1] ? p : NULL, p[1]);": "null pointer passed",
            "*(int *)((char *)p + 1) = 1;": "misaligned address",
        },
        without=MEASURES,
    ),
    "thread": Kind(
        {"CC": "gcc", "FASTNN_NO_OPENMP": "1", "FASTNN_SANITIZE": "thread"},
        {"TSAN_OPTIONS": "ignore_noninstrumented_modules=1"},
        ("libtsan.so",),
        "not runtime.OPENMP",
        {RACE_FAULT: "data race"},
        RACES,
        MEASURES,
    ),
    "thread-openmp": Kind(
        {"CC": CLANG, "FASTNN_SANITIZE": "thread"},
        # Archer tells the sanitizer what OpenMP's own synchronisation orders.
        {"TSAN_OPTIONS": "ignore_noninstrumented_modules=1", "OMP_TOOL_LIBRARIES": "libarcher.so"},
        ("libclang_rt.tsan-x86_64.so",),
        "runtime.OPENMP",
        {f"#pragma omp parallel num_threads(2)\n{RACE_FAULT}": "data race", BARRIER: None},
        RACES,
        MEASURES,
    ),
}


def copy_tree(folder):
    """The tree without anything built, but with the C files that Cython made, if they are there."""
    built = shutil.ignore_patterns("build", "dist", "*.so", "*.egg-info", "__pycache__", ".git", ".venv")
    shutil.copytree(ROOT, folder, ignore=built, dirs_exist_ok=True)
    for generated in (ROOT / "build").glob("cython*"):
        shutil.copytree(generated, folder / "build" / generated.name, dirs_exist_ok=True)


def build(folder, kind):
    """In place. What compilers say of unused variables, where regions are serial, is only shown if they fail."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("FASTNN_")}
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    result = subprocess.run(
        command, cwd=folder, env=clean | kind.build, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if result.returncode:
        raise SystemExit(result.stdout)


def library(compiler, name):
    """The path of a library of the compiler's."""
    found = subprocess.run([compiler, f"-print-file-name={name}"], capture_output=True, text=True, check=True)
    path = Path(found.stdout.strip())
    if not path.exists():
        raise SystemExit(f"{compiler} has no {name}")
    return str(path.resolve())


def variables(kind):
    """kind.run with the paths of libraries."""
    return {name: library(kind.build["CC"], v) if v.endswith(".so") else v for name, v in kind.run.items()}


def interpreter(kind):
    """The command that starts Python with the preloaded libraries."""
    if not kind.preload:
        return [sys.executable]
    compiler = kind.build["CC"]
    preload = " ".join(library(compiler, name) for name in kind.preload)
    # ThreadSanitizer does not find its way with addresses that are too random.
    fixed = ["setarch", "-R"] if kind.build["FASTNN_SANITIZE"] == "thread" else []
    return [*fixed, "env", f"LD_PRELOAD={preload}", sys.executable]


FAULTY = """
import ctypes, sys, threading
fault = ctypes.CDLL(sys.argv[1]).fault
libc = ctypes.CDLL(None)
libc.calloc.restype = ctypes.c_void_p
p = ctypes.c_void_p(libc.calloc(4, 4))
threads = [threading.Thread(target=fault, args=(p,)) for _ in range(2)]
for t in threads: t.start()
for t in threads: t.join()
"""


def prove(kind, environment, folder):
    """Each fault is reported, and fails the process; what is right is not."""
    for i, (body, report) in enumerate(kind.faults.items()):
        source, target = folder / f"fault{i}.c", folder / f"fault{i}.so"
        headers = "".join(f"#include <{name}.h>\n" for name in ("omp", "stdlib", "string", "unistd"))
        source.write_text(f"{headers}void fault(int *p)\n{{\n{body}\n}}\n")
        flags = [f"-fsanitize={kind.build['FASTNN_SANITIZE']}", "-fno-sanitize-recover=all", "-fopenmp", "-g", "-w"]
        compiler = kind.build["CC"]
        subprocess.run([compiler, *flags, "-fPIC", "-shared", "-o", str(target), str(source)], check=True)
        command = [*interpreter(kind), "-c", FAULTY, str(target)]
        result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
        as_expected = result.returncode and report in result.stderr if report else result.returncode == 0
        if not as_expected:
            raise SystemExit(f"expected of the sanitizer: {report}, of\n{body}\n{result.stderr}")


REPORTS = "ERROR: AddressSanitizer", "WARNING: ThreadSanitizer", "runtime error:"


def run(kind, environment, folder, arguments):
    """The exit code of the tests; 1 if a sanitizer reports something in any process: to a file, as pytest hides what
    passing tests write."""
    files = folder / "reports"
    shutil.rmtree(files, ignore_errors=True)
    files.mkdir()
    logged = {
        name: f"{value}:log_path={files}/report" for name, value in environment.items() if name.endswith("SAN_OPTIONS")
    }
    deselected = [f"--deselect={test}" for test in kind.without]
    # UndefinedBehaviorSanitizer writes to the process's standard error, which must not end in pytest's hands with it.
    command = [*interpreter(kind), "-m", "pytest", "-q", "--capture=sys", *deselected, *arguments]
    code = subprocess.run(command, cwd=folder, env=environment | logged).returncode
    texts = [path.read_text(errors="replace") for path in sorted(files.iterdir())]
    found = [text for text in texts if any(report in text for report in REPORTS)]
    print(*found, f"{len(found)} processes with reports of sanitizers" if logged else "", sep="\n")
    return code or bool(found)


def main():
    parser = argparse.ArgumentParser(
        usage="python tests/reliability/builds.py KIND [--keep FOLDER] [arguments of pytest]"
    )
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--keep", type=Path)
    options, arguments = parser.parse_known_args()
    kind = KINDS[options.kind]
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.keep or Path(temporary)).resolve() / options.kind
        copy_tree(folder)
        build(folder, kind)
        environment = os.environ | variables(kind) | {"PYTHONPATH": str(folder)}
        prove(kind, environment, folder)
        check = f"from fastnn.kernels import runtime; print(runtime.__file__); assert {kind.expects}"
        subprocess.run([*interpreter(kind), "-c", check], cwd=folder, env=environment, check=True)
        return run(kind, environment, folder, arguments or kind.tests)


if __name__ == "__main__":
    sys.exit(main())
