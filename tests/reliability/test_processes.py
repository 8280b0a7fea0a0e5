"""fastnn in several processes, and beside other libraries in one: forks at any moment, pools, OpenMP's environment,
signals, the end of the interpreter, limits on memory. What the children do is in process_support.py."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from process_support import SECONDS, Small, forked, gradients, infer, predict, train, train_on_threads, wrong_shape

import fastnn
from fastnn import ops, random
from fastnn.kernels import runtime
from fastnn.verify import forced

openmp = pytest.mark.skipif(not runtime.OPENMP, reason="built without OpenMP: kernels are serial")
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
linux = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
METHODS = multiprocessing.get_all_start_methods()

# Forking beside threads is what is tested, and Python 3.12 warns of it.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


@pytest.fixture
def script(python):
    """script(code, code of the end=0, **environment) -> what a fresh interpreter printed, as words; it must end so, and
    say nothing else."""

    def run(code, end=0, **environment):
        paths = os.pathsep.join([str(Path(fastnn.__file__).parents[1]), str(Path(__file__).parent)])
        environment = {"PYTHONPATH": paths, "OMP_WAIT_POLICY": "passive", **environment}
        result = python("-c", code, timeout=2 * SECONDS, **environment)
        assert (result.returncode, result.stderr) == (end, ""), result.stdout
        return result.stdout.split()

    return run


@pytest.fixture(scope="module")
def trained():
    """What `train` returns in this process."""
    return train()


# ---- fork ----


@contextmanager
def busy(*works):
    """Threads that repeat each of these for as long as the block runs."""
    stop = threading.Event()

    def repeat(work):
        while not stop.is_set():
            work()

    workers = [threading.Thread(target=repeat, args=(work,)) for work in works]
    for worker in workers:
        worker.start()
    try:
        yield
    finally:
        stop.set()
        for worker in workers:
            worker.join()


def kernel_and_cache():
    """A parallel kernel whose result is large enough to be kept when it is freed."""
    ops.relu_forward(np.ones(200_000, np.float32))


def generator_state():
    fastnn.set_rng_state(fastnn.get_rng_state())


@needs_fork
def test_fork_at_any_moment(scaled, trained):
    """While other threads are inside parallel kernels, take and give kept memory, and hold the lock of the random
    numbers, children train a network of all families, and so does the parent after each."""
    with forced(threads=3):
        assert train() == trained
        with busy(kernel_and_cache, kernel_and_cache, generator_state, fastnn.release_memory):
            children = [forked(train) for _ in range(scaled(10, 100))]
        assert set(children) == {trained}
        assert train() == trained


@needs_fork
def test_fork_while_a_thread_draws_numbers():
    """A child inherited the lock of the random numbers as it was: held for ever by a thread that it has not."""
    with random.lock:
        want = random.default_generator._state
        assert forked(lambda: (fastnn.get_rng_state().tolist(), random.default_generator.draw())) == (list(want), want)


@needs_fork
def test_grandchildren(trained):
    with forced(threads=3):
        assert train() == trained
        assert forked(lambda: forked(lambda: [train(), forked(train)])) == [trained, trained]


@needs_fork
def test_children_of_threads():
    """Each of four threads that use kernels forks."""
    model, results = Small(), []

    def work():
        results.extend([gradients(model), forked(lambda: gradients(model)), gradients(model)])

    with forced(threads=2):
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert results == [gradients(model)] * 12


ENDS = {
    "sys.exit": ("sys.exit(7)", 7),
    "exception": ("sys.stderr = open(os.devnull, 'w'); raise ValueError", 1),
    "end of the program": ("", 0),
    "os._exit": ("sys.stdout.flush(); os._exit(7)", 7),
}


@needs_fork
@pytest.mark.parametrize("end", ENDS)
def test_a_child_ends(script, end):
    """It flushes, runs its atexit functions, and leaves, with its parent's parallel kernels behind it."""
    code, status = ENDS[end]
    words = script(
        f"""if True:
        import os, sys, time
        from process_support import SECONDS, train_on_threads
        want = train_on_threads(3)
        pid = os.fork()
        if not pid:
            print("same" if train_on_threads(3) == want else "different")
            {code}
        else:
            import signal
            signal.alarm(SECONDS)
            print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        """
    )
    assert words == ["same", str(status)]


@needs_fork
@openmp
def test_end_of_a_thread_that_forked(script):
    """In the child, the end of the thread waited for ever for OpenMP's threads of the parent's."""
    words = script(
        """if True:
        import os, signal, threading
        from process_support import SECONDS, train_on_threads
        def work():
            want = train_on_threads(3)
            pid = os.fork()
            signal.alarm(SECONDS)
            if pid:
                print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
            else:
                print(train_on_threads(3) == want, flush=True)
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        """
    )
    assert words == ["True", "0"]


@needs_fork
@linux
@openmp
def test_fork_after_another_library_used_libgomp(script):
    """A child waited for ever in its first parallel kernel, if the threads were another library's of the parent."""
    words = script(
        """if True:
        import ctypes, os, signal
        import fastnn
        from process_support import SECONDS, forked, train, train_on_threads
        paths = {line.split()[-1] for line in open("/proc/self/maps") if "libgomp" in line}
        if not paths:
            print("no libgomp")
            raise SystemExit
        gomp = ctypes.CDLL(paths.pop())
        def region():  # a parallel region on three threads, each of which frees nothing
            gomp.GOMP_parallel(ctypes.CDLL(None).free, None, 3, 0)
        region()
        print(len(os.listdir("/proc/self/task")))
        print(forked(lambda: train_on_threads(3)) == train())
        region()
        print(len(os.listdir("/proc/self/task")))
        """
    )
    if words == ["no libgomp"]:
        pytest.skip("built with another OpenMP than GNU's")
    assert words == ["3", "True", "3"]


@needs_fork
@linux
@openmp
def test_a_child_has_threads_if_its_parent_had_none(script):
    words = script(
        """if True:
        import os
        import fastnn
        from process_support import forked, train, train_on_threads
        def work():
            fastnn.set_num_threads(5)
            result = train_on_threads(5)
            return fastnn.get_num_threads(), len(os.listdir("/proc/self/task")) >= 5, result
        with fastnn.num_threads(1):
            threads, parallel, result = forked(work)
            print(threads, parallel, result == train())
        """
    )
    assert words == ["5", "True", "True"]


@needs_fork
def test_threads_in_a_child():
    """One thread if the parent had used several, whatever is set; the parent keeps its own."""
    with forced(threads=3):
        train()
        assert forked(lambda: (fastnn.set_num_threads(3), fastnn.get_num_threads())) == (None, 1)
        assert fastnn.get_num_threads() == (3 if runtime.OPENMP else 1)


# ---- multiprocessing ----


def in_pool(pool):
    """What is asked of workers: training, a model that is sent, an error that comes back."""
    model, x = Small().eval(), np.ones((2, 2, 8, 8), np.float32)
    answer = pool.submit(predict, model, x).result(SECONDS)
    assert answer.tobytes() == model(x).tobytes()
    with pytest.raises(ValueError) as here:
        wrong_shape()
    with pytest.raises(ValueError) as there:
        pool.submit(wrong_shape).result(SECONDS)
    assert str(there.value) == str(here.value)
    return [pool.submit(train_on_threads, 2).result(SECONDS), pool.submit(train).result(SECONDS)]


@pytest.mark.parametrize("method", METHODS)
def test_executor(method, trained):
    with forced(threads=2):
        assert train() == trained
    with ProcessPoolExecutor(2, multiprocessing.get_context(method)) as pool:
        assert in_pool(pool) == [trained, trained]


@pytest.mark.parametrize("method", METHODS)
def test_pool(method, trained, scaled):
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert pool.map(train, [0] * scaled(2, 20)) == [trained] * scaled(2, 20)


def test_joblib(trained):
    joblib = pytest.importorskip("joblib")
    assert joblib.Parallel(n_jobs=2)(joblib.delayed(train)() for _ in range(2)) == [trained, trained]


def rate(pool, processes, calls):
    """Inferences a second of so many processes together."""
    times = pool.map(infer, [calls] * processes, chunksize=1)
    return processes * calls / (max(end for _, end in times) - min(begin for begin, _ in times))


def test_throughput_of_a_pool(scaled):
    """A process for each CPU, on one thread each: 0.9 of as many times one process's rate where nothing else runs,
    which only the long form asks for; half of it, in the best of several, on a shared machine."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    calls = scaled(60, 2000)
    with multiprocessing.get_context("spawn").Pool(cpus) as pool:
        rate(pool, cpus, 1)
        ratio = max(rate(pool, cpus, calls) / (cpus * rate(pool, 1, calls)) for _ in range(5))
    print(f"{cpus} processes: {ratio:.2f} of {cpus} times one")
    assert ratio >= scaled(0.5, 0.9)


# ---- OpenMP's environment, affinity ----

ENVIRONMENTS = [
    {"OMP_THREAD_LIMIT": "1"},
    {"OMP_THREAD_LIMIT": "2", "OMP_DYNAMIC": "true"},
    {"OMP_NUM_THREADS": "3,2,1", "OMP_SCHEDULE": "dynamic,3"},
    {"OMP_NUM_THREADS": "2", "OMP_MAX_ACTIVE_LEVELS": "3", "OMP_NESTED": "true"},
    {"OMP_PROC_BIND": "true", "OMP_PLACES": "cores", "OMP_WAIT_POLICY": "active"},
    {"OMP_STACKSIZE": "256k", "GOMP_SPINCOUNT": "0"},
    {"OMP_CANCELLATION": "true", "OMP_MAX_TASK_PRIORITY": "3"},
]


@pytest.mark.parametrize("environment", ENVIRONMENTS, ids=str)
def test_environment_of_openmp(script, environment, trained):
    """However many threads OpenMP gives, results are the same; OMP_NESTED is deprecated, and libgomp may say so."""
    code = "from process_support import train_on_threads; print(train_on_threads(4))"
    assert script(code, **environment) == [trained]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no CPU affinity on this system")
def test_affinity_changed_after_import(trained):
    """The number of threads stays what it was, and so do results."""
    before = os.sched_getaffinity(0)
    with fastnn.num_threads(2):
        threads = fastnn.get_num_threads()
        os.sched_setaffinity(0, [min(before)])
        try:
            assert fastnn.get_num_threads() == threads
            assert train_on_threads(3) == trained
        finally:
            os.sched_setaffinity(0, before)


# ---- signals ----


def test_ctrl_c_at_any_moment(keyboard, scaled, trained):
    """KeyboardInterrupt arrives, and nothing is broken by it: the next training is right, on as many threads."""
    rng = np.random.default_rng(0)
    with forced(threads=3):
        for _ in range(scaled(20, 500)):
            timer = threading.Timer(rng.uniform(0, 0.03), os.kill, (os.getpid(), signal.SIGINT))
            with pytest.raises(KeyboardInterrupt):
                timer.start()
                while True:
                    train()
                    kernel_and_cache()
            timer.join()
            assert fastnn.get_num_threads() == (3 if runtime.OPENMP else 1)
        assert train() == trained


def test_ctrl_c_within_a_kernel(keyboard):
    """It arrives once the kernel is over."""
    x, done = np.ones(3 * 10**7, np.float32), []
    with forced(threads=2), pytest.raises(KeyboardInterrupt):
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
        while True:
            done.append(ops.relu_forward(x)[0][-1])
    assert done == [1] * len(done)
    assert ops.relu_forward(x)[0].sum() == x.sum()


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGTERM to speak of")
def test_sigterm_ends_the_process(tmp_path):
    code = "import numpy as np\nfrom fastnn import ops\nx = np.ones(10**7, np.float32)\nprint(1, flush=True)\n"
    code += "while True: ops.relu_forward(x)"
    environment = {**os.environ, "PYTHONPATH": str(Path(fastnn.__file__).parents[1]), "FASTNN_NUM_THREADS": "2"}
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment, cwd=tmp_path) as child:
        child.stdout.readline()
        child.terminate()
        try:
            assert child.wait(SECONDS) == -signal.SIGTERM
        finally:
            child.kill()


# ---- the interpreter ----

DAEMONS = """
import threading, time
import numpy as np
import fastnn
from fastnn import ops
from process_support import train
from fastnn.verify import forced
def repeat(work):
    while True:
        work()
def kernel(x=np.ones(300_000, np.float32)):
    ops.relu_forward(x)
forced(threads=2).__enter__()
for work in (kernel, kernel, train):
    threading.Thread(target=repeat, args=(work,), daemon=True).start()
time.sleep({seconds})
"""


def test_shutdown_with_threads_in_kernels(script, scaled):
    """The interpreter ends under daemon threads that are in kernels and in a training."""
    for seconds in np.linspace(0, 0.2, scaled(5, 100)):
        script(DAEMONS.format(seconds=seconds))


def test_import_in_a_thread(script, trained):
    """In several at once, one of which goes on to train."""
    code = """if True:
        import threading
        def work():
            import fastnn, fastnn.nn, fastnn.optim, fastnn.data
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        from process_support import train
        thread = threading.Thread(target=lambda: print(train()))
        thread.start()
        thread.join()
    """
    assert script(code) == [trained]
