"""threadpoolctl sees and sets the number of threads that fastnn's kernels take."""

import numpy as np
import pytest

import fastnn
import fastnn.functional as F
from fastnn.kernels import runtime

threadpoolctl = pytest.importorskip("threadpoolctl", minversion="3.2")
pytestmark = pytest.mark.skipif(not runtime.OPENMP, reason="kernels are serial")

IMAGES = np.linspace(-1, 1, 4 * 3 * 17 * 23, dtype=np.float32).reshape(4, 3, 17, 23)
FILTERS = np.linspace(-1, 1, 5 * 3 * 3 * 3, dtype=np.float32).reshape(5, 3, 3, 3)


@pytest.fixture(autouse=True)
def three_threads():
    """Three threads for every call, however small."""
    before = runtime.set_seconds_per_thread(0)
    with fastnn.num_threads(3):
        yield
    runtime.set_seconds_per_thread(before)


def team():
    """How many threads a call took, and its result."""
    runtime.floating_point_states()  # forgets the teams before
    y = F.conv2d(IMAGES, FILTERS)
    return len(runtime.floating_point_states()), y


@pytest.fixture
def controller():
    """fastnn's own, which is registered when fastnn is imported after threadpoolctl; here it may be before."""
    return pytest.importorskip("fastnn.threadpoolctl").Controller


def entries():
    return [entry for entry in threadpoolctl.threadpool_info() if entry["internal_api"] == "fastnn"]


def test_info(controller):
    (entry,) = entries()
    assert entry["num_threads"] == 3
    assert (entry["user_api"], entry["version"]) == ("openmp", fastnn.__version__)
    assert runtime.__file__.endswith(entry["filepath"].rpartition("/")[2])
    fastnn.set_num_threads(2)
    assert entries()[0]["num_threads"] == 2


@pytest.mark.parametrize("user_api", [None, "openmp"])
@pytest.mark.parametrize("limit", [1, 2, 3, 5])
def test_limits(controller, limit, user_api):
    """Calls take so many threads inside and the former number behind, with the same bits."""
    before, y = team()
    assert before == 3
    with threadpoolctl.threadpool_limits(limit, user_api=user_api):
        assert fastnn.get_num_threads() == limit
        threads, same = team()
        assert threads == limit
        np.testing.assert_array_equal(same, y)
    assert fastnn.get_num_threads() == 3
    assert team()[0] == 3


def test_limits_of_blas_leave_fastnn_alone(controller):
    with threadpoolctl.threadpool_limits(1, user_api="blas"):
        assert team()[0] == 3


def test_restored_after_an_error(controller):
    with pytest.raises(ZeroDivisionError), threadpoolctl.threadpool_limits(1):
        raise ZeroDivisionError
    assert team()[0] == 3


UNREGISTERED = """
import sys
from concurrent.futures import ThreadPoolExecutor
import numpy as np
import fastnn
from threadpoolctl import threadpool_limits
from fastnn.kernels import runtime
assert "fastnn.threadpoolctl" not in sys.modules
x = np.ones(100_000, np.float32)
runtime.set_seconds_per_thread(0)
fastnn.set_num_threads(3)

def team():
    runtime.floating_point_states()
    fastnn.functional.relu(x)
    return len(runtime.floating_point_states())

counts = [team()]
for limit in (1, 2):
    with threadpool_limits(limit), ThreadPoolExecutor(1) as pool:
        counts += [team(), pool.submit(team).result()]
    counts.append(team())
print(*counts)
"""


def test_limits_without_registration(python):
    """fastnn before threadpoolctl: the latter calls omp_set_num_threads, which limits the calls from its thread."""
    result = python("-W", "error", "-c", UNREGISTERED, OMP_NUM_THREADS="4", FASTNN_NUM_THREADS=None)
    assert result.stdout.split() == ["3", "1", "3", "3", "2", "3", "3"], result.stderr


def test_registered_at_import(python):
    """threadpoolctl before fastnn, as after `import sklearn`."""
    code = "import threadpoolctl, fastnn; print([e['internal_api'] for e in threadpoolctl.threadpool_info()])"
    result = python("-W", "error", "-c", code)
    assert "'fastnn'" in result.stdout, result.stderr
