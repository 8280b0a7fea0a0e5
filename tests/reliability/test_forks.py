"""Forks at any moment: children compute the same bits, in seconds, and end; process_support.py says what they do."""

import os
import sys
import threading
from contextlib import contextmanager

import pytest
from process_support import Small, forked, gradients, kernel_and_cache, script, train

import fastnn
from fastnn import random
from fastnn.kernels import runtime
from fastnn.verify import forced

openmp = pytest.mark.skipif(not runtime.OPENMP, reason="built without OpenMP: kernels are serial")
linux = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system"),
    # Forking beside threads is what is tested, and Python 3.12 warns of it.
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def trained():
    """What `train` returns in this process."""
    return train()


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


def generator_state():
    fastnn.set_rng_state(fastnn.get_rng_state())


def test_fork_at_any_moment(scaled, trained):
    """While other threads are inside parallel kernels, take and give kept memory, and hold the lock of the random
    numbers, children train a network of all families, and so does the parent after each."""
    with forced(threads=3):
        assert train() == trained
        with busy(kernel_and_cache, kernel_and_cache, generator_state, fastnn.release_memory):
            children = [forked(train) for _ in range(scaled(10, 100))]
        assert set(children) == {trained}
        assert train() == trained


def test_fork_while_a_thread_draws_numbers():
    """A child inherited the lock of the random numbers as it was: held for ever by a thread that it has not."""
    with random.lock:
        want = random.default_generator._state
        assert forked(lambda: (fastnn.get_rng_state().tolist(), random.default_generator.draw())) == (list(want), want)


def test_grandchildren(trained):
    with forced(threads=3):
        assert train() == trained
        assert forked(lambda: forked(lambda: [train(), forked(train)])) == [trained, trained]


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


@pytest.mark.parametrize("end", ENDS)
def test_a_child_ends(python, end):
    """It flushes, runs its atexit functions, and leaves, with its parent's parallel kernels behind it."""
    code, status = ENDS[end]
    words = script(
        python,
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
        """,
    )
    assert words == ["same", str(status)]


@openmp
def test_end_of_a_thread_that_forked(python):
    """In the child, the end of the thread waited for ever for OpenMP's threads of the parent's."""
    words = script(
        python,
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
        """,
    )
    assert words == ["True", "0"]


@linux
@openmp
def test_fork_after_another_library_used_libgomp(python):
    """A child waited for ever in its first parallel kernel, if the threads were another library's of the parent."""
    words = script(
        python,
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
        print(len(os.listdir("/proc/self/task")) >= 3)
        print(forked(lambda: region() or train_on_threads(3)) == train())
        region()
        print(len(os.listdir("/proc/self/task")) >= 3)
        """,
    )
    if words == ["no libgomp"]:
        pytest.skip("built with another OpenMP than GNU's")
    assert words == ["True", "True", "True"]


@linux
@openmp
def test_fork_that_python_hears_of_afterwards(python):
    """As in servers that fork in C, and then tell the interpreter of the child."""
    words = script(
        python,
        """if True:
        import ctypes, os, signal, threading
        import fastnn
        from process_support import SECONDS, train_on_threads
        want = train_on_threads(3)
        for thread in threading.enumerate()[1:]:  # one that waits for the interpreter would be waited for in the child
            thread.join()
        pid = ctypes.PyDLL(None).fork()
        signal.alarm(SECONDS)
        if not pid:
            ctypes.pythonapi.PyOS_AfterFork_Child()
            print(train_on_threads(3) == want, fastnn.get_num_threads(), flush=True)
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        """,
    )
    assert words == ["True", "1", "0"]


@linux
@openmp
def test_a_child_has_threads_if_its_parent_had_none(python):
    words = script(
        python,
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
        """,
    )
    assert words == ["5", "True", "True"]


def test_threads_in_a_child():
    """One thread if the parent had used several, whatever is set; the parent keeps its own."""
    with forced(threads=3):
        train()
        assert forked(lambda: (fastnn.set_num_threads(3), fastnn.get_num_threads())) == (None, 1)
        assert fastnn.get_num_threads() == (3 if runtime.OPENMP else 1)
