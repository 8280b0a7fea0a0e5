"""How many threads kernels may use."""

import math
import os
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


def words(path):
    """What a file of the system says."""
    with open(path, encoding="utf-8") as file:
        return file.read().split()


def cgroup_cpus():
    """The CPU quota of this process's control group in CPUs, or infinity."""
    try:
        quota, period = words("/sys/fs/cgroup/cpu.max")
    except (OSError, ValueError):
        try:
            [quota] = words("/sys/fs/cgroup/cpu/cpu.cfs_quota_us")
            [period] = words("/sys/fs/cgroup/cpu/cpu.cfs_period_us")
        except OSError:
            return math.inf
    if quota in ("max", "-1"):
        return math.inf
    return int(quota) / int(period)


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
