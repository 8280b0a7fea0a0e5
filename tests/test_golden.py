"""The kernels against committed results of PyTorch (tests/golden/make.py), which need not be installed."""

import json
from pathlib import Path

import numpy as np
import pytest
from peer import judge

from fastnn.registry import Case, flat, parse_shape, restored, specs
from fastnn.verify import Problem, widen

FILES = sorted((Path(__file__).parent / "golden").glob("*.npz"))


def numbered(content, prefix):
    """The arrays content[prefix + "0"], content[prefix + "1"], …"""
    found = []
    while (name := f"{prefix}{len(found)}") in content:
        found.append(content[name])
    return tuple(found)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_agrees_with_golden_values(path, dtype):
    spec = specs()[path.stem]
    with np.load(path, allow_pickle=False) as content:
        count = sum(name.endswith(".case") for name in content)
        assert count
        for i in range(count):
            stored = json.loads(str(content[f"{i}.case"]))
            shapes = {name: parse_shape(s) for name, s in stored["shapes"].items()}
            case = Case(shapes, stored["options"])
            problem = Problem(spec, case, dtype)
            names = flat(problem.arrays)
            problem.arrays = restored({name: content.get(f"{i}.in.{name}") for name in names}, problem.arrays)
            dy = numbered(content, f"{i}.dy.")
            problem.dy = dy if spec.outputs > 1 else dy[0] if dy else None
            if dtype == np.float64:
                problem.arrays, problem.dy = widen(problem.arrays), widen(problem.dy)
            arguments = {name: problem.arrays[name] for name in spec.grads}
            grads = restored({name: content.get(f"{i}.grad.{name}") for name in flat(arguments)}, arguments)
            for direction, verdict in judge(problem, numbered(content, f"{i}.out."), grads):
                assert verdict, f"{case}, {direction}: {verdict}"


def test_golden_values_are_complete_and_small():
    """A file for every operator that torch has, with the same random numbers if any: `python tests/golden/make.py`
    after adding one."""
    having = {name for name, spec in specs().items() if "torch" in spec.peers and spec.agrees is None}
    assert {path.stem for path in FILES} == having
    assert max(path.stat().st_size for path in FILES) < 30_000
