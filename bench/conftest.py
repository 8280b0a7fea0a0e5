"""Options of the benchmark suite."""

import pytest

import fastnn


def pytest_addoption(parser):
    group = parser.getgroup("fastnn")
    group.addoption("--threads", type=int, default=fastnn.get_num_threads(), help="threads of the kernels")
    group.addoption("--reference", action="store_true", help="time the NumPy reference, too")


def pytest_generate_tests(metafunc):
    if "implementation" in metafunc.fixturenames:
        names = ["fastnn", "numpy"] if metafunc.config.getoption("--reference") else ["fastnn"]
        metafunc.parametrize("implementation", names)


@pytest.fixture(autouse=True)
def threads(request):
    with fastnn.num_threads(request.config.getoption("--threads")):
        yield
