"""How many threads kernels may use."""

import math
import os
import re
import sys
from contextlib import contextmanager

from fastnn.kernels import runtime

__all__ = ["available_cpus", "get_num_threads", "num_threads", "set_num_threads"]

get_num_threads = runtime.get_num_threads
set_num_threads = runtime.set_num_threads


@contextmanager
def num_threads(n):
    """Use up to n threads inside the with block; the setting is the process's, not the thread's."""
    before = get_num_threads()
    set_num_threads(n)
    try:
        yield
    finally:
        set_num_threads(before)


def lines(path):
    """Of a file of the system; none if it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read().splitlines()
    except (OSError, ValueError):  # the latter for a path with a NUL
        return []


def quota(folder):
    """The CPU quota of one control group in CPUs: infinite if it has none, or nothing that can be understood."""
    files = ("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")  # of versions 2 and 1
    for names in files:
        words = " ".join(line for name in names for line in lines(f"{folder}/{name}")).split()
        if len(words) == 2 and all(re.fullmatch("[1-9][0-9]{,17}", word) for word in words):  # not "max" and not "-1"
            return int(words[0]) / int(words[1])
    return math.inf


def cpu_groups(root=""):
    """Folders of the control groups that this process is in, each with those around it, as far as they can be seen.

    root: what stands before all paths, for tests. Source: cgroups(7), proc_pid_mountinfo(5).
    """
    groups = {}
    for line in lines(f"{root}/proc/self/cgroup"):  # number:controllers:path, in version 2 0::path
        number, controllers, path = (line.split(":", 2) + ["", ""])[:3]
        if number == "0" or "cpu" in controllers.split(","):
            groups["cgroup2" if number == "0" else "cgroup"] = path
    for line in lines(f"{root}/proc/self/mountinfo"):  # … … … root mount-point … - type source options
        mount, _, system = (words.split() for words in line.partition(" - "))
        if len(mount) < 5 or len(system) < 3 or system[0] not in groups:
            continue
        if system[0] == "cgroup" and "cpu" not in system[2].split(","):
            continue
        base, point = (re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), word) for word in mount[3:5])
        # Of a mount that shows only part of the tree, such as a container's, the path is that within the whole tree.
        path, base = groups[system[0]], base.rstrip("/")
        within = f"{path}/".startswith(f"{base}/") and "/../" not in f"{path}/"
        inner = [name for name in path[len(base) :].split("/") if name] if within else []
        for depth in range(len(inner) + 1):
            yield root + "/".join([point, *inner[:depth]])


def cgroup_cpus(root=""):
    """The tightest CPU quota, in CPUs, of the control groups that this process is in, or infinity."""
    return min(map(quota, cpu_groups(root)), default=math.inf)


def available_cpus():
    """CPUs this process may use: affinity mask and control-group quota, at least 1."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(cpus, cgroup_cpus())))


def from_environment(name):
    """A thread count from the environment: None if unset, an error that names the variable if malformed."""
    text = os.environ.get(name, "").split(",")[0].strip()  # OMP_NUM_THREADS may list nested levels
    if not text:
        return None
    if not text.isdecimal() or len(text) > 9 or int(text) < 1:
        shown = text if len(text) <= 60 else text[:60] + "…"
        raise ValueError(f"{name}: expected a positive number of threads, below 10^9, got {shown!r}")
    return int(text)


def default_num_threads():
    """(threads, where the number comes from): FASTNN_NUM_THREADS, else OMP_NUM_THREADS, else one per available CPU."""
    for name in ("FASTNN_NUM_THREADS", "OMP_NUM_THREADS"):
        n = from_environment(name)
        if n is not None:
            return n, name
    return available_cpus(), "CPUs available: affinity mask and control-group quota"


set_num_threads(default_num_threads()[0])

if hasattr(sys.modules.get("threadpoolctl"), "LibController"):  # its version 3.2 or newer
    import fastnn.threadpoolctl  # noqa: F401
