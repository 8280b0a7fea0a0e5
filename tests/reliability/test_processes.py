"""Pools of processes, OpenMP's environment, affinity, signals, and the end of the interpreter; process_support.py says
what the processes do."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from process_support import (
    SECONDS,
    Small,
    infer,
    kernel_and_cache,
    predict,
    script,
    train,
    train_on_threads,
    wrong_shape,
)

import fastnn
from fastnn import ops
from fastnn.kernels import runtime
from fastnn.threads import available_cpus
from fastnn.verify import forced

METHODS = multiprocessing.get_all_start_methods()

# Forking beside threads is what is tested, and Python 3.12 warns of it.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


@pytest.fixture(scope="module")
def trained():
    """What `train` returns in this process."""
    return train()


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
    cpus = available_cpus()
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
def test_environment_of_openmp(python, environment, trained):
    """However many threads OpenMP gives, results are the same; OMP_NESTED is deprecated, and libgomp may say so."""
    code = "from process_support import train_on_threads; print(train_on_threads(4))"
    assert script(python, code, **environment) == [trained]


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
from process_support import Small, gradients
from fastnn.verify import forced
model = Small()
def repeat(work):
    while True:
        work()
def kernel(x=np.ones(300_000, np.float32)):
    ops.relu_forward(x)
forced(threads=2).__enter__()
for work in (kernel, kernel, lambda: gradients(model)):  # `train` may find that no thread can be started any more
    threading.Thread(target=repeat, args=(work,), daemon=True).start()
time.sleep({seconds})
"""


def test_shutdown_with_threads_in_kernels(python, scaled):
    """The interpreter ends under daemon threads that are in kernels and in backward passes."""
    for seconds in np.linspace(0, 0.2, scaled(5, 100)):
        script(python, DAEMONS.format(seconds=seconds))


def test_import_in_a_thread(python, trained):
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
    assert script(python, code) == [trained]
