"""What runs here: versions, instruction sets, threads, machine."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

import numpy as np

from fastnn import threads
from fastnn.kernels import runtime

__all__ = ["config", "show_config"]

OPENMP_LIBRARY = re.compile(r"lib(gomp|omp|iomp5)\b[^/]*\.so[^/]*$")
OPENMP_VERSIONS = {201107: "3.1", 201307: "4.0", 201511: "4.5", 201811: "5.0", 202011: "5.1", 202111: "5.2"}


def cpu_model() -> str:
    """Name of the processor, as far as the system tells."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def openmp_libraries() -> list[str]:
    """Files of the OpenMP runtimes loaded in this process; empty where the system does not tell."""
    try:
        maps = Path("/proc/self/maps").read_text().splitlines()
    except OSError:
        return []
    return sorted({line.split(maxsplit=5)[5] for line in maps if OPENMP_LIBRARY.search(line)})


def openmp() -> str:
    """The OpenMP specification the kernels were compiled for, and the runtimes loaded."""
    if not runtime.OPENMP:
        return "none: kernels are serial"
    version = OPENMP_VERSIONS.get(runtime.OPENMP, "")
    return ", ".join([f"{version} ({runtime.OPENMP})".strip(), *openmp_libraries()])


def threads_source() -> str:
    """Where the number of threads comes from."""
    if not runtime.OPENMP:
        return "no OpenMP"
    n, source = threads.default_num_threads()
    return source if n == threads.get_num_threads() else "set_num_threads"


def config() -> dict[str, str]:
    """Facts by name, in the order that show_config prints them."""
    from fastnn import __version__

    return {
        "fastnn": __version__ + (" (debug build)" if runtime.DEBUG else ""),
        "instruction set": runtime.get_isa(),
        "  compiled": " ".join(runtime.ISA_LEVELS),
        "  supported": " ".join(runtime.supported_isas()),
        "  FASTNN_ISA": os.environ.get("FASTNN_ISA") or "not set",
        "OpenMP": openmp(),
        "threads": f"{threads.get_num_threads()} ({threads_source()})",
        "compiler": runtime.COMPILER,
        "Python": f"{platform.python_version()} ({platform.python_implementation()})",
        "NumPy": np.__version__,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "CPU": cpu_model(),
        "CPUs": f"{os.cpu_count()}, available to this process: {threads.available_cpus()}",
    }


def show_config() -> None:
    """Print versions, instruction sets, OpenMP runtime, threads, compiler and machine: what a bug report needs."""
    facts = config()
    width = max(map(len, facts))
    for name, fact in facts.items():
        print(f"{name:{width}}  {fact}")
