"""Python threads: every operator called by eight at once, the settings of the process changed meanwhile, threads that
come and go. Whatever happens beside a call, its results are those of one thread, bit for bit."""

import os
import threading
import time
from itertools import count

import numpy as np
import pytest
from support import assert_same_bits, each_spec
from threads_support import THREADS, Job, all_jobs, in_threads, jobs_of

import fastnn
from fastnn import ops
from fastnn.kernels import runtime
from fastnn.ops._arrays import empty
from fastnn.registry import specs
from fastnn.verify import Problem, forced


@each_spec()
def test_eight_threads_call_one_operator(spec, scaled):
    """On the same arguments. Each call is cut into two parts, so that eight teams of OpenMP's threads are at work."""
    jobs = jobs_of(spec)
    with forced(threads=2):

        def work(thread):
            for call in range(scaled(25, 1000)):
                jobs[(thread + call) % len(jobs)].check()

        in_threads(work)


def test_eight_threads_call_all_operators(scaled):
    """Each another one at any time: thread i begins an eighth of the way after thread i - 1."""
    jobs = all_jobs()
    with forced(threads=2):

        def work(thread):
            first = thread * len(jobs) // THREADS
            for _ in range(scaled(1, 20)):
                for job in jobs[first:] + jobs[:first]:
                    job.check()

        in_threads(work)


def test_prepared_weights_are_shared(scaled):
    """By threads that come to them first at the same time: none has found its algorithm's form of them yet."""
    for spec in specs().values():
        if not spec.prepares:
            continue
        jobs = jobs_of(spec)
        for job in jobs * scaled(1, 20):
            prepared = getattr(ops, f"prepare_{spec.name}")(job.arrays[spec.prepares])
            with forced(threads=2):
                in_threads(lambda _, job=job, prepared=prepared: job.check(**{job.spec.prepares: prepared}))


class Settings:
    """Changes of what the process is set to, as often as a thread can, until the end of a with block."""

    def __init__(self, *changes):
        self.changes, self.stop, self.error = changes, threading.Event(), None
        self.done = 0
        self.threads = [threading.Thread(target=self.run, args=(k,), daemon=True) for k in range(2)]

    def run(self, start):
        try:
            for i in count(start):
                if self.stop.is_set():
                    return
                self.changes[i % len(self.changes)](i)
                self.done += 1
                time.sleep(1e-5)
        except BaseException as error:
            self.error = error

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *exception):
        self.stop.set()
        for thread in self.threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in self.threads)
        assert self.error is None, self.error
        assert self.done > 10, "hardly anything was changed"


def within_num_threads(i):
    with fastnn.num_threads(1 + i % 3):
        fastnn.get_num_threads()


def test_settings_change_while_six_threads_compute(scaled):
    changes = (
        lambda i: fastnn.set_num_threads(1 + i % 4),
        within_num_threads,
        lambda i: fastnn.release_memory(),
        lambda i: runtime.set_last_cache_bytes((0, 1 << 25)[i % 2]),
        lambda i: runtime.set_seconds_per_thread((0, 8e-6)[i // 2 % 2]),
    )
    jobs = all_jobs()
    large = Job(specs()["relu"], specs()["relu"].cases[0]._replace(shapes={"x": (3, 1 << 17)}))  # kept when freed
    with forced(threads=2):
        cache = runtime.set_last_cache_bytes(0)
        try:
            with Settings(*changes):

                def work(thread):
                    for _ in range(scaled(1, 20)):
                        for job in jobs[thread::6]:
                            job.check()
                            large.check()

                in_threads(work, 6)
            n = fastnn.get_num_threads()
            assert type(n) is int and 1 <= n <= 4
        finally:
            runtime.set_last_cache_bytes(cache)


def test_instruction_sets_change_while_six_threads_compute(scaled):
    """Each call runs at one level from beginning to end: packed weights are read at the level they were packed for.
    Integers give the same bits at all levels; other results are within their bound of the reference."""
    problems = []
    for spec in specs().values():
        for case in spec.cases[:: scaled(3, 1)]:
            problem = Problem(spec, case, kind="integer" if spec.exact else "normal")
            assert problem.forward()  # and what it compares with is there for all threads
            assert not spec.grads or problem.backward()
            problems.append(problem)
    conv = specs()["conv2d"]
    jobs = [job for job in jobs_of(conv, kind="integer") if conv.rounding.get(job.options.get("algo")) is None]
    levels = runtime.supported_isas()
    with forced(isa=levels[0], threads=2), Settings(lambda i: runtime.set_isa(levels[i // 2 % len(levels)])):

        def work(thread):
            for problem in problems[thread::6] * scaled(1, 5):
                verdicts = [problem.forward(), problem.backward()] if problem.spec.grads else [problem.forward()]
                assert all(verdicts), f"{problem.spec.name}: {problem.case}: {verdicts}"
            for job in jobs[thread::2]:
                prepared = ops.prepare_conv2d(job.arrays["w"])
                for _ in range(scaled(5, 50)):
                    job.check(w=prepared)

        in_threads(work, 6)


def test_poisoned_memory_ends_with_the_last_of_overlapping_contexts():
    """Regression: what was first to end restored what another thread had found, and fresh memory stayed poisoned."""
    first, second = runtime.poisoned_memory(), runtime.poisoned_memory()
    ready, end = threading.Event(), threading.Event()

    def other():
        with second:
            ready.set()
            end.wait(60)

    thread = threading.Thread(target=other)
    with first:
        thread.start()
        ready.wait(60)
    end.set()
    thread.join()
    fastnn.release_memory()
    fresh = empty((1 << 21,), np.zeros(1, np.float32))
    assert not np.isnan(fresh).all()


def test_two_threads_with_four_workers_each(scaled):
    """On large arrays; each Python thread has a team of OpenMP's threads of its own."""
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal(shape).astype(np.float32) for shape in ((256, 300), (200, 300)))
    a = rng.standard_normal(10**6).astype(np.float32)
    want = {"linear": ops.linear_forward(x, w)[0], "relu": ops.relu_forward(a)[0]}
    with forced(threads=4):

        def work(thread):
            for _ in range(scaled(20, 500)):
                assert_same_bits({"linear": ops.linear_forward(x, w)[0], "relu": ops.relu_forward(a)[0]}, want, "teams")

        in_threads(work, 2)


COMING_AND_GOING = """if True:
    import os, sys, threading, time
    import numpy as np
    from fastnn import ops
    from fastnn.verify import forced

    def figures():
        for _ in range(200):  # a thread that was joined may still be on its way out of the system's list
            tasks = len(os.listdir("/proc/self/task"))
            if tasks <= 1:
                break
            time.sleep(0.01)
        return tasks, int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGESIZE")

    x = np.linspace(-1, 1, 10_000, dtype=np.float32)
    want = ops.relu_forward(x)[0]

    def call():
        assert (ops.relu_forward(x)[0] == want).all()

    def threads(n):
        for _ in range(n // 4):
            group = [threading.Thread(target=call) for _ in range(4)]
            for thread in group: thread.start()
            for thread in group: thread.join()

    with forced(threads=3):
        threads(100)
        tasks, memory = figures()
        threads(int(sys.argv[1]))
        after = figures()
    print(tasks, after[0], after[1] - memory)
"""


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="cannot count the process's threads on this system")
def test_threads_come_and_go(python, scaled):
    """OpenMP keeps a pool of workers for each thread that calls a kernel, and ends them with it: neither threads nor
    memory pile up. Each of 1,000 stacks that stayed behind would be 8 MB of addresses and some tens of kB of memory."""
    n = scaled(1000, 20_000)
    result = python("-c", COMING_AND_GOING, str(n), timeout=200)
    assert not result.stderr
    before, after, grown = map(int, result.stdout.split())
    assert after <= before, "threads stayed behind"
    assert grown < 4 << 20, f"{grown / n:.0f} bytes a thread"


def test_no_grad_and_forwards_are_a_threads_own():
    """Half of the threads record and half do not, at the same time; so does a Module that is within its forward."""
    barrier = threading.Barrier(THREADS)
    w = fastnn.tensor(np.ones((3, 3), np.float32), requires_grad=True)

    class Slow(fastnn.nn.Module):
        def forward(self, x):
            barrier.wait(60)
            inside = fastnn._tape.mode.forwards
            barrier.wait(60)
            return x * float(inside)

    slow = Slow()

    def work(thread):
        for _ in range(20):
            mode = fastnn.no_grad() if thread % 2 else fastnn.enable_grad()
            with mode:
                barrier.wait(60)
                y = fastnn.functional.relu(w @ w)
                assert y.requires_grad == (thread % 2 == 0) == fastnn.is_grad_enabled()
                barrier.wait(60)
            assert fastnn.is_grad_enabled()
        assert (slow(np.ones(2, np.float32)) == 1).all()
        assert fastnn._tape.mode.forwards == 0

    in_threads(work)


def test_random_numbers_of_threads_are_all_different(scaled):
    """No pair is drawn twice, none left out; which thread gets which is not promised."""
    calls = scaled(1000, 50_000)
    fastnn.manual_seed(3)
    drawn = in_threads(lambda _: [fastnn.random.default_generator.draw() for _ in range(calls)])
    assert sorted(pair for pairs in drawn for pair in pairs) == [(3, i) for i in range(THREADS * calls)]


def test_a_threads_own_generator_draws_what_it_draws_alone():
    x = np.ones((50, 50), np.float32)

    def masks(seed):
        generator = fastnn.Generator(seed)
        return {str(i): fastnn.functional.dropout(x, generator=generator) for i in range(30)}

    want = [masks(seed) for seed in range(THREADS)]
    for seed, got in enumerate(in_threads(masks)):
        assert_same_bits(got, want[seed], f"seed {seed}")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_fork_while_threads_draw_and_add_up(python, scaled):
    """The child of a fork can draw random numbers and take gradients, whatever the parent's threads held."""
    code = """if True:
        import os, sys, threading, time, warnings
        warnings.simplefilter("ignore")  # of Python 3.12, about forks beside threads, which this is about
        import numpy as np, fastnn
        fastnn.set_num_threads(1)
        w = fastnn.tensor(np.ones(200_000, np.float32), requires_grad=True)
        stop = threading.Event()

        def draw():
            while not stop.is_set():
                fastnn.random.default_generator.draw()
                time.sleep(1e-5)  # else a fork waits long for its turn on a busy machine

        def add():
            while not stop.is_set():
                (w * 1.0).sum().backward()
                time.sleep(1e-5)

        threads = [threading.Thread(target=f) for f in (draw, draw, add, add)]
        for thread in threads: thread.start()
        codes = []
        for _ in range(int(sys.argv[1])):
            pid = os.fork()
            if pid == 0:
                fastnn.random.default_generator.draw()
                w.grad = None
                (w * 1.0).sum().backward()
                os._exit(0 if (w.grad == 1).all() else 7)
            codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        stop.set()
        for thread in threads: thread.join()
        print(set(codes))
    """
    child = python("-c", code, str(scaled(15, 300)), timeout=200)
    assert child.stdout.strip() == "{0}", child.stderr
