"""The kernels against committed results of PyTorch (tests/golden/make.py), which need not be installed."""

import json
from pathlib import Path

import numpy as np
import pytest
from peer import judge

from fastnn.cli.bench import shape_of
from fastnn.registry import Case, specs
from fastnn.verify import Problem, widen

FILES = sorted((Path(__file__).parent / "golden").glob("*.npz"))


def numbered(content, prefix):
    """The arrays content[prefix + "0"], content[prefix + "1"], …"""
    found = []
    while (name := f"{prefix}{len(found)}") in content:
        found.append(content[name])
    return tuple(found)


def stored_arrays(content, name, like):
    """The array of that name, or the list of arrays, as `like` is one."""
    return list(numbered(content, f"{name}.")) if isinstance(like, list) else content.get(name)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_agrees_with_golden_values(path, dtype):
    spec = specs()[path.stem]
    with np.load(path, allow_pickle=False) as content:
        count = sum(name.endswith(".case") for name in content)
        assert count
        for i in range(count):
            stored = json.loads(str(content[f"{i}.case"]))
            shapes = {name: shape_of(s) for name, s in stored["shapes"].items()}
            case = Case(shapes, stored["options"])
            problem = Problem(spec, case, dtype)
            problem.arrays = {name: stored_arrays(content, f"{i}.in.{name}", x) for name, x in problem.arrays.items()}
            dy = numbered(content, f"{i}.dy.")
            problem.dy = dy if spec.outputs > 1 else dy[0] if dy else None
            if dtype == np.float64:
                problem.arrays, problem.dy = widen(problem.arrays), widen(problem.dy)
            grads = {name: content.get(f"{i}.grad.{name}") for name in spec.grads}
            for direction, verdict in judge(problem, numbered(content, f"{i}.out."), grads):
                assert verdict, f"{case}, {direction}: {verdict}"


def test_golden_values_are_complete_and_small():
    """A file for every operator that torch has, with the same random numbers if any: `python tests/golden/make.py`
    after adding one."""
    having = {name for name, spec in specs().items() if "torch" in spec.peers and spec.agrees is None}
    assert {path.stem for path in FILES} == having
    assert max(path.stat().st_size for path in FILES) < 30_000
