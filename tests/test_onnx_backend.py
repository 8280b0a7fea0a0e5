"""ONNX's own tests of backends: those in the list pass, the others say that an operator is not supported.

Operators written as graphs of others are in test_onnx_backend_expanded.py.
"""

import numpy as np
import pytest

pytest.importorskip("onnx")

from onnx import helper
from onnx_backend import (
    CASES,
    NOT_SUPPORTED,
    PASSING,
    SCALARS,
    cases,
    content,
    listed,
    node_tests,
    not_supported,
    of_installed_version,
)
from onnx_report import PAGE, page

from fastnn.onnx.backend import FastnnBackend


def case(name):
    """Another version of onnx has other cases."""
    if name not in cases():
        pytest.skip(f"not in the installed version of onnx: {name}")
    return name


@pytest.mark.parametrize("name", [name for name in listed(PASSING) if "_expanded" not in name])
def test_passes(name):
    assert not_supported(case(name)) is None


@pytest.mark.parametrize("name", listed(NOT_SUPPORTED))
def test_not_supported(name):
    error = not_supported(case(name))
    assert error is None or str(error).startswith("node ")
    assert error is not None or not of_installed_version(), "it passes: write the lists anew"


def test_lists_are_whole():
    """Sorted, each case once; and cases that they do not have, of another onnx, pass or are not supported."""
    known = listed(PASSING) + listed(NOT_SUPPORTED)
    assert sorted(known) == sorted(set(known))
    assert all(listed(which) == sorted(listed(which)) for which in (PASSING, NOT_SUPPORTED))
    unknown = sorted(set(cases()) - set(known))
    for name in unknown:
        error = not_supported(name)
        assert error is None or str(error).startswith("node "), name
    assert not (unknown and of_installed_version()), f"write the lists in {CASES} anew: python tests/onnx_report.py"


def test_page_of_operators():
    if not of_installed_version():
        pytest.skip("the page is of another version of onnx")
    assert PAGE.read_text() == page(listed(PASSING), listed(NOT_SUPPORTED)), "python tests/onnx_report.py"


def test_sequence_that_the_runner_cannot_compare():
    test = node_tests().get(SCALARS) or pytest.skip("another onnx")
    ((inputs, (want,)),) = test.data_sets
    (got,) = FastnnBackend.prepare(test.model).run(inputs)
    assert content(got) == content(want)


def test_run_node():
    """By way of ONNX's interface: an input that is left out, and the opset that is asked for."""
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    node = helper.make_node("Clip", ["x", "", "high"], ["y"])
    (y,) = FastnnBackend.run_node(node, [x, np.float32(2)])
    np.testing.assert_array_equal(y, np.minimum(x, 2))
    node = helper.make_node("Softmax", ["x"], ["y"], axis=0)
    (y,) = FastnnBackend.run_node(node, [x], opset_version=11)
    np.testing.assert_allclose(y.sum(), 1, rtol=1e-6)


def test_device():
    assert FastnnBackend.supports_device("CPU")
    assert not FastnnBackend.supports_device("CUDA")
