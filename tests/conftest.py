"""What every test shares: instruction-set levels, dtypes, the floating-point environment, a child interpreter."""

import os
import signal
import subprocess
import sys
from pathlib import Path

# Tests use more threads than there may be processors; threads that wait must not keep the others from running. OpenMP
# reads this when it is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import hypothesis
import numpy as np
import pytest

import fastnn
from fastnn.kernels import runtime
from fastnn.verify import forced

# No deadline, because a shared machine stalls; no database, and examples derived from the test itself, so that two
# runs test the same. HYPOTHESIS_PROFILE=random explores.
hypothesis.settings.register_profile("fixed", derandomize=True, deadline=None, max_examples=100, database=None)
hypothesis.settings.register_profile("random", deadline=None, max_examples=500, print_blob=True)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))

PACKAGE = Path(fastnn.__file__).parent


def pytest_addoption(parser):
    parser.addoption(
        "--long", action="store_true", help="the long forms: more examples and repetitions, and tests marked slow"
    )


def pytest_configure(config):
    if config.option.long and config.option.markexpr == "not slow":
        config.option.markexpr = ""


def pytest_report_header(config):
    return (
        f"fastnn {fastnn.__version__} in {PACKAGE.parent}; {', '.join(runtime.supported_isas())}; "
        f"{'OpenMP' if runtime.OPENMP else 'no OpenMP'}, {fastnn.get_num_threads()} threads"
        f"{', debug' if runtime.DEBUG else ''}"
    )


@pytest.fixture(params=runtime.supported_isas())
def isa(request):
    """The test runs at every instruction-set level of this machine, one after the other in use."""
    with forced(isa=request.param):
        yield request.param


@pytest.fixture(params=[np.dtype(np.float32), np.dtype(np.float64)], ids=str)
def dtype(request):
    """The test runs in both precisions."""
    return request.param


# Smallest normal numbers, and neighbours of 1: products that only come out right with gradual underflow and
# rounding to nearest.
TINY = np.array([np.finfo(np.float32).tiny], np.float32)
HALF_ULP = np.array([2.0**-24], np.float32)
ONE = np.ones(1, np.float32)
STATES = set(runtime.floating_point_states())


@pytest.fixture(autouse=True)
def floating_point_environment():
    """No test may leave flush-to-zero, denormals-are-zero or another rounding mode behind, in this thread or in one
    of those that OpenMP keeps for the next call."""
    yield
    assert set(runtime.floating_point_states()) == STATES, "a thread's floating-point environment is another one"
    subnormal = TINY / 2
    assert subnormal[0] != 0, "results are flushed to zero"
    assert (subnormal * 2)[0] == TINY[0], "subnormal operands are taken for zero"
    assert (ONE + HALF_ULP)[0] == 1, "rounding is not to nearest even: a half ulp was rounded up"
    assert (ONE + 1.5 * HALF_ULP)[0] > 1, "rounding is not to nearest: three quarters of an ulp were cut off"


@pytest.fixture
def scaled(request):
    """scaled(short, long): the first of two numbers of examples or repetitions, with --long the second."""
    return lambda short, long: long if request.config.option.long else short


@pytest.fixture
def python(tmp_path):
    """Run a fresh interpreter, away from the source tree, with the fastnn that is under test.

    python(*arguments, timeout=60, **environment) -> CompletedProcess; an environment value of None unsets.
    """

    def run(*arguments, timeout=60, **environment):
        env = {**os.environ, "PYTHONPATH": str(PACKAGE.parent), **environment}
        env = {name: value for name, value in env.items() if value is not None}
        return subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=timeout
        )

    return run


@pytest.fixture
def keyboard():
    """Ctrl-C as in a terminal; what a shell starts in the background ignores it from the beginning."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def torch():
    """PyTorch, for tests that compare with it."""
    return pytest.importorskip("torch")
