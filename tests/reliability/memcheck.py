"""Valgrind's memcheck over every operator's smallest case, both directions: `python tests/reliability/memcheck.py`.

Errors and lost blocks count if a function of fastnn is among their callers: Python and NumPy have some of their own.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

TESTS = Path(__file__).resolve().parent.parent
REPETITIONS = 3
OURS = re.compile(r"/fastnn/(\w+/)?\w+\.[^/]*so\)")
"""A frame in one of fastnn's extension modules."""
VALGRIND = ("valgrind", "--leak-check=full", "--show-leak-kinds=definite", "--num-callers=20")


def calls():
    """What valgrind watches."""
    from support import run, smallest

    from fastnn import ops
    from fastnn.registry import specs

    count = 0
    for spec in specs().values():
        for dtype in np.float32, np.float64:
            arrays = spec.inputs(smallest(spec), dtype)
            for _ in range(REPETITIONS):
                run(spec, ops, arrays, smallest(spec).options)
                count += 1
    print(f"{count} calls of {len(specs())} operators", flush=True)


def errors(log):
    """Memcheck's reports, each a text of several lines."""
    lines = [re.sub(r"^==\d+== ?", "", line) for line in log.splitlines()]
    return [text for text in "\n".join(lines).split("\n\n") if re.search(r"^ +(at|by) 0x", text, re.MULTILINE)]


def main():
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "memcheck"
        # Valgrind knows no AVX-512; Python's own allocator would hide what is read beside its blocks.
        path = os.pathsep.join([str(TESTS.parent), str(TESTS)])
        environment = {**os.environ, "FASTNN_ISA": "avx2", "PYTHONMALLOC": "malloc", "PYTHONPATH": path}
        command = [*VALGRIND, f"--log-file={log}", sys.executable, __file__, "calls"]
        subprocess.run(command, env=environment, check=True)
        found = errors(log.read_text())
    ours = [text for text in found if OURS.search(text)]
    print(f"{len(found)} reports of memcheck, {len(ours)} with a function of fastnn in them", *ours, sep="\n\n")
    return bool(ours)


if __name__ == "__main__":
    sys.exit(calls() if sys.argv[1:] == ["calls"] else main())
