"""What threads do at once, for ThreadSanitizer to watch: builds.py, beside this file, runs it.

Without it these are tests as well: results are those of one thread, bit for bit."""

import threading

import numpy as np
import pytest
from support import algorithms, assert_same_bits, copy, run, with_algo

import fastnn
from fastnn import functional as F
from fastnn import nn, ops
from fastnn.kernels import runtime
from fastnn.registry import as_tuple, flat, specs
from fastnn.verify import forced

THREADS = 4
SPECS = list(specs().values())


def at_once(*functions):
    """Call each in a thread of its own, all from the same moment on; raise what one raised."""
    errors = []
    start = threading.Barrier(len(functions))

    def call(f):
        start.wait()
        try:
            f()
        except BaseException as e:
            errors.append(e)

    threads = [threading.Thread(target=call, args=(f,)) for f in functions]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    if errors:
        raise errors[0]


def problems(spec):
    """(arrays, options, results of one thread, arguments that the call updates) of every case and algorithm."""
    cases = [with_algo(case, algo) for case in spec.cases for algo in algorithms(spec, case, np.float32)]
    for case in cases:
        arrays = spec.inputs(case)
        with forced(threads=1):
            want = run(spec, ops, arrays, case.options)
        before = flat(arrays)
        updated = {
            name for name, x in before.items()
            if isinstance(x, np.ndarray) and x.tobytes() != want[f"{name} after"].tobytes()
        }  # fmt: skip
        yield arrays, case.options, want, {name.partition("[")[0] for name in updated}


def check(spec, problem):
    """A call on arrays that other threads use at the same time, but for those that it updates."""
    arrays, options, want, updated = problem
    arrays = {name: copy(x) if name in updated else x for name, x in arrays.items()}
    outputs, ctx = spec.forward(ops, arrays, options)
    got = {f"y{i}": y for i, y in enumerate(as_tuple(outputs))}
    if spec.grads:
        got |= {f"d{name}": dx for name, dx in flat(spec.backward(ops, spec.draw_dy(outputs), ctx)).items()}
    got |= {f"{name} after": x for name, x in flat(arrays).items()}
    assert_same_bits(got, want, spec.name)


@pytest.mark.parametrize("spec", SPECS, ids=[spec.name for spec in SPECS])
def test_an_operator_at_any_number_of_threads(spec, isa):
    """The threads of a region share no byte that one of them writes. (Compilers do not watch masked stores of AVX2 and
    AVX-512: the baseline has none.)"""
    for problem in problems(spec):
        for threads in (2, 3):
            with forced(threads=threads):
                check(spec, problem)


def test_all_operators_at_once():
    """Every thread begins with another operator. Shared arguments, and regions of several threads each."""
    calls = [(spec, problem) for spec in SPECS for problem in problems(spec)]

    def user(first):
        for spec, problem in calls[first:] + calls[:first]:
            check(spec, problem)

    with forced(threads=2):
        at_once(*[lambda i=i: user(i * len(calls) // THREADS) for i in range(THREADS)])


@pytest.mark.parametrize("spec", SPECS, ids=[spec.name for spec in SPECS])
def test_an_operator_at_once(spec):
    """The same operator in all threads, on the same arrays: it has no memory of its own."""
    calls = list(problems(spec))
    with forced(threads=2):
        at_once(*[lambda: [check(spec, problem) for problem in calls]] * THREADS)


def test_settings_and_kept_memory():
    """Results large enough for the block cache, while other threads empty it and change how many threads there are."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((5, 1 << 17)).astype(np.float32)
    want = [ops.relu_forward(x[:n])[0] for n in range(1, 6)]

    def user():
        for i in range(60):
            n = i % 5 + 1
            np.testing.assert_array_equal(F.relu(x[:n]), want[n - 1])

    def setter():
        for i in range(200):
            fastnn.set_num_threads(i % 3 + 1)
            runtime.set_last_cache_bytes(i % 2 << 24)
            fastnn.release_memory()
            runtime.scratch_peak()
            assert fastnn.get_num_threads() in (1, 2, 3)

    with forced(threads=3):
        at_once(user, user, user, setter, setter)
    assert fastnn.get_num_threads() >= 1


MODELS = {
    "convolutions": (
        lambda: nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 4, 1), nn.Flatten(), nn.Linear(256, 5)),
        (2, 3, 8, 8),
    ),
    "LSTM": (lambda: nn.LSTM(6, 40, num_layers=2), (7, 2, 6)),
    "GRU": (lambda: nn.GRU(6, 40, bidirectional=True), (7, 2, 6)),
}


@pytest.mark.parametrize("name", MODELS)
def test_shared_models(name):
    """Layers that prepare their weights at the first call have it in all threads at once."""
    make, shape = MODELS[name]
    model = make().eval()
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    results = []

    def user():
        with fastnn.no_grad():
            results.extend([as_tuple(model(x))[0] for _ in range(5)])

    with forced(threads=3):
        at_once(*[user] * THREADS)
    with forced(threads=1), fastnn.no_grad():
        want = as_tuple(model(x))[0]
    assert len(results) == 5 * THREADS
    for got in results:
        assert_same_bits({"y": got}, {"y": want}, name)
