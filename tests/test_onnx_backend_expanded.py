"""ONNX's own tests of backends: operators that are written as graphs of others."""

import pytest

pytest.importorskip("onnx")

from onnx_backend import PASSING, cases, listed, not_supported


@pytest.mark.parametrize("name", [name for name in listed(PASSING) if "_expanded" in name])
def test_passes(name):
    if name not in cases():
        pytest.skip(f"not in the installed version of onnx: {name}")
    assert not_supported(name) is None
