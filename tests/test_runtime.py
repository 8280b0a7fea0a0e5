"""The process: instruction-set choice, thread counts, fork, the GIL, memory."""

import os
import signal
import sys
import threading
import time

import numpy as np
import pytest

import fastnn
from fastnn import ops, threads
from fastnn.kernels import runtime
from fastnn.verify import forced

PRINT_ISA = "from fastnn.kernels import runtime; print(runtime.get_isa())"
PRINT_THREADS = "import fastnn; print(fastnn.get_num_threads())"
openmp = pytest.mark.skipif(not runtime.OPENMP, reason="built without OpenMP: kernels are serial")


def last_line(text):
    return text.strip().splitlines()[-1]


# ---- instruction set ----


@pytest.mark.parametrize("name", runtime.supported_isas())
def test_isa_from_environment(python, name):
    assert python("-c", PRINT_ISA, FASTNN_ISA=name).stdout.strip() == name


@pytest.mark.parametrize("value", [None, ""])
def test_isa_defaults_to_the_best(python, value):
    assert python("-c", PRINT_ISA, FASTNN_ISA=value).stdout.strip() == runtime.supported_isas()[-1]


@pytest.mark.parametrize("name", ["avx1024", "AVX2", " baseline"])
def test_unknown_isa(python, name):
    result = python("-c", PRINT_ISA, FASTNN_ISA=name)
    assert result.returncode != 0
    line = last_line(result.stderr)
    assert line.startswith("ValueError") and "FASTNN_ISA" in line and repr(name) in line and "baseline" in line


def test_set_isa():
    before = runtime.get_isa()
    for name in runtime.supported_isas():
        with forced(isa=name):
            assert runtime.get_isa() == name
    assert runtime.get_isa() == before
    with pytest.raises(ValueError, match="sse9"):
        runtime.set_isa("sse9")
    assert runtime.get_isa() == before


@pytest.mark.skipif(runtime.supported_isas() == runtime.ISA_LEVELS, reason="this machine runs every compiled level")
def test_unsupported_isa():
    missing = runtime.ISA_LEVELS[-1]
    with pytest.raises(ValueError, match=f"cannot run '{missing}'"):
        runtime.set_isa(missing)


# ---- thread counts ----


@openmp
@pytest.mark.parametrize(
    ("fastnn_value", "omp_value", "expected"),
    [("3", None, 3), (None, "5", 5), ("2", "5", 2), ("", "4", 4), (None, "4,2", 4), (" 6 ", None, 6)],
)
def test_threads_from_environment(python, fastnn_value, omp_value, expected):
    result = python("-c", PRINT_THREADS, FASTNN_NUM_THREADS=fastnn_value, OMP_NUM_THREADS=omp_value)
    assert result.stdout.strip() == str(expected), result.stderr


@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5", "10000000000", "9" * 31])
@pytest.mark.parametrize("variable", ["FASTNN_NUM_THREADS", "OMP_NUM_THREADS"])
def test_malformed_threads(python, variable, value):
    unset = {"FASTNN_NUM_THREADS": None, "OMP_NUM_THREADS": None}
    result = python("-c", PRINT_THREADS, **{**unset, variable: value})
    assert result.returncode != 0
    line = last_line(result.stderr)
    assert line.startswith("ValueError") and variable in line and repr(value) in line


def test_num_threads_context():
    before = fastnn.get_num_threads()
    with fastnn.num_threads(before + 2):
        assert fastnn.get_num_threads() == (before + 2 if runtime.OPENMP else 1)
        with fastnn.num_threads(1):
            assert fastnn.get_num_threads() == 1
        assert fastnn.get_num_threads() == (before + 2 if runtime.OPENMP else 1)
    assert fastnn.get_num_threads() == before
    with pytest.raises(ZeroDivisionError), fastnn.num_threads(before + 1):
        raise ZeroDivisionError
    assert fastnn.get_num_threads() == before


@pytest.mark.parametrize("n", [0, -3])
def test_too_few_threads(n):
    before = fastnn.get_num_threads()
    with pytest.raises(ValueError, match=f"at least 1, got {n}"):
        fastnn.set_num_threads(n)
    with pytest.raises(TypeError):
        fastnn.set_num_threads("2")
    assert fastnn.get_num_threads() == before


@openmp
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no CPU affinity on this system")
def test_affinity_is_the_default(python):
    code = "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])\n" + PRINT_THREADS
    result = python("-c", code, FASTNN_NUM_THREADS=None, OMP_NUM_THREADS=None)
    assert result.stdout.strip() == "1", result.stderr


def test_cgroup_quota(monkeypatch):
    monkeypatch.setattr(threads, "cgroup_cpus", lambda: 0.5)
    assert threads.available_cpus() == 1


@openmp
def test_parallel_calls_use_threads():
    """The other tests of thread counts mean nothing if a forced call stayed serial."""
    counts = f"/proc/{os.getpid()}/task"
    if not os.path.isdir(counts):
        pytest.skip("cannot count the process's threads on this system")
    with forced(threads=5):
        ops.relu_forward(np.ones(10**6, np.float32))
        assert len(os.listdir(counts)) >= 5


# ---- fork, Python threads ----


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
# Forking with OpenMP's threads alive is what is tested: the child must not wait for them.
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")
def test_fork_after_parallel_use():
    x = np.linspace(-1, 1, 10**6, dtype=np.float32)
    with forced(threads=3):
        want = ops.relu_forward(x)[0]
        pid = os.fork()
        if pid == 0:
            runtime.set_num_threads(3)  # does not bring them back
            runtime.fma_chain(1, 3)
            os._exit(0 if np.array_equal(ops.relu_forward(x)[0], want) else 7)
        deadline = time.monotonic() + 20
        status = None
        while status is None and time.monotonic() < deadline:
            done, code = os.waitpid(pid, os.WNOHANG)
            status = code if done else None
            time.sleep(0.01)
        if status is None:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        assert status is not None, "the child hangs"
        assert os.waitstatus_to_exitcode(status) == 0
        np.testing.assert_array_equal(ops.relu_forward(x)[0], want)  # the parent goes on in parallel


@openmp
def test_kernels_release_the_gil():
    """While one thread is inside a long kernel, another runs Python code."""
    x = np.ones(3 * 10**7, np.float32)
    ticks, stop = [], threading.Event()

    def tick():
        while not stop.is_set():
            ticks.append(time.perf_counter())
            time.sleep(0.0002)

    # Were the GIL held, the ticker could only run between calls, or so briefly after one begins or before it ends as
    # Python code keeps the GIL from others.
    before, margin = sys.getswitchinterval(), 0.0005
    sys.setswitchinterval(1e-5)
    ticker = threading.Thread(target=tick)
    ticker.start()
    try:
        inside = 0
        for _ in range(100):
            start = time.perf_counter()
            with forced(threads=2):
                ops.relu_forward(x)
            end = time.perf_counter()
            inside += sum(start + margin < t < end - margin for t in ticks[-1000:])
            if inside > 10:
                break
    finally:
        stop.set()
        ticker.join()
        sys.setswitchinterval(before)
    assert inside > 10


# ---- memory ----

TOO_LARGE = """
import resource
import numpy as np
from fastnn import ops
x = np.ones(4_000_000, np.float32)
ops.relu_forward(x[:10])
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 8_000_000, resource.RLIM_INFINITY))
for _ in range(3):
    try:
        ops.relu_forward(x)
    except MemoryError:
        print("MemoryError")
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(int(ops.relu_forward(x)[0].sum()))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and RLIMIT_AS")
def test_failed_allocation(python):
    result = python("-c", TOO_LARGE, FASTNN_NUM_THREADS="1")
    assert result.stdout.split() == ["MemoryError"] * 3 + ["4000000"], result.stderr


def test_repeated_calls_leak_nothing():
    if not os.path.exists("/proc/self/statm"):
        pytest.skip("cannot measure memory on this system")

    def pages():
        with open("/proc/self/statm") as f:
            return int(f.read().split()[1])

    x = np.ones((64, 1024), np.float32)  # 256 kB, with its context 1 MB a round
    for _ in range(10):
        ops.relu_backward(*ops.relu_forward(x))
    before = pages()
    for _ in range(200):
        ops.relu_backward(*ops.relu_forward(x))
    assert (pages() - before) * os.sysconf("SC_PAGESIZE") < 20 * x.nbytes


def address(x):
    return x.__array_interface__["data"][0]


def test_memory_of_a_freed_result_is_used_again():
    fastnn.release_memory()
    x = np.ones((3, 1 << 20), np.float32)
    y, _ = ops.relu_forward(x)
    first = address(y)
    assert first % 64 == 0
    last_rows = y[1:]  # which keeps the memory in use
    del y
    other, _ = ops.relu_forward(-x)
    assert not np.shares_memory(other, last_rows)
    assert (last_rows == 1).all()
    assert (other == 0).all()
    del last_rows
    again, _ = ops.relu_forward(x[:, : -(1 << 16)].copy())
    assert address(again) == first
    much_smaller, _ = ops.relu_forward(x[:1])
    assert address(much_smaller) not in (first, address(other))


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_kept_memory_is_given_back(python):
    code = """if True:
        import os, numpy as np, fastnn
        def megabytes():
            return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGESIZE") >> 20
        x = np.ones(1 << 24, np.float32)
        fastnn.functional.relu(x[:10])
        before = megabytes()
        fastnn.functional.relu(x)
        print(megabytes() - before)
        fastnn.release_memory()
        print(megabytes() - before)
    """
    kept, after = map(int, python("-c", code).stdout.split())
    assert 60 <= kept <= 70
    assert after <= 6
