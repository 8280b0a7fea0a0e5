"""The kernels against PyTorch, where it is installed: every case of every operator that it has."""

import numpy as np
import pytest
from peer import judge, torch_results
from support import each_case

from fastnn.verify import Problem

pytest.importorskip("torch")


@each_case(lambda spec: "torch" in spec.peers)
def test_agrees_with_torch(spec, case):
    problem = Problem(spec, case, np.float64, "distinct" if spec.distinct else "normal", seed=21)
    dy = problem.dy if spec.grads else None
    for direction, verdict in judge(problem, *torch_results(spec, problem.arguments(), case.options, dy)):
        assert verdict, f"{direction}: {verdict}"
