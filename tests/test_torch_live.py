"""The kernels against PyTorch, where it is installed: every case of every operator that it has."""

import numpy as np
import pytest
from peer import judge, torch_results
from support import each_case

from fastnn import reference
from fastnn.verify import Problem

pytest.importorskip("torch")


@each_case(lambda spec: "torch" in spec.peers and spec.agrees is None)
def test_agrees_with_torch(spec, case):
    problem = Problem(spec, case, np.float64, "distinct" if spec.distinct else "normal", seed=21)
    dy = problem.dy if spec.grads else None
    for direction, verdict in judge(problem, *torch_results(spec, problem.arguments(), case.options, dy)):
        assert verdict, f"{direction}: {verdict}"


@each_case(lambda spec: "torch" in spec.peers and spec.agrees is not None)
def test_torch_does_the_same_with_its_own_random_numbers(spec, case):
    """And so do the kernels: what `agrees` accepts is what all compute."""
    problem = Problem(spec, case, np.float64, seed=22)
    outputs, grads = torch_results(spec, problem.arguments(), case.options, problem.dy)
    _, expected, ctx = problem.reference()
    ours = spec.backward(reference, problem.dy, ctx)
    for y, dx in ((outputs, grads), (expected, ours)):
        assert spec.agrees("forward", y, problem.arrays, None, **case.options) == ""
        assert spec.agrees("backward", list(dx.values()), problem.arrays, problem.dy, **case.options) == ""
