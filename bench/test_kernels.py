"""Every operator's bench cases under pytest-benchmark, grouped by operator: `pytest bench [-k conv] [--reference]`.

For ratios to other libraries use `python -m fastnn bench`, which times all of them in turn.
"""

import numpy as np
import pytest

from fastnn import ops, reference
from fastnn.cli.contest import call_of, copies, disagreement, results_of
from fastnn.registry import specs

PROBLEMS = [
    pytest.param(
        spec, case, direction, id=f"{spec.name}-{direction}-{case}", marks=pytest.mark.benchmark(group=spec.name)
    )
    for spec in specs().values()
    for direction in (("forward", "backward") if spec.grads else ("forward",))
    for case in spec.bench
]


@pytest.mark.benchmark(max_time=0.3, min_rounds=3, warmup=True, warmup_iterations=1)
@pytest.mark.parametrize(("spec", "case", "direction"), PROBLEMS)
def test_kernel(benchmark, spec, case, direction, implementation):
    arrays = spec.inputs(case, np.float32)
    dy = None
    if direction == "backward":
        dy = spec.draw_dy(spec.forward(reference, copies(arrays), case.options)[0])
    want = call_of(reference, spec, direction, arrays, case.options, dy)()
    module = {"fastnn": ops, "numpy": reference}[implementation]
    call = call_of(module, spec, direction, arrays, case.options, dy)
    first = results_of(direction, call())
    assert disagreement(first, results_of(direction, want)) == ""
    benchmark(call)
