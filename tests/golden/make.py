"""Write tests/golden/*.npz: what PyTorch computes, so that the tests can compare without it.

    python tests/golden/make.py [operator …]        (with fastnn and torch installed)

Every file holds a few small cases of one operator. For case i: "i.case", its shapes and options as JSON; "i.in.x", …,
float32 inputs; "i.dy.0", …, gradients at the outputs; "i.out.0", … and "i.grad.x", …, torch's results in float64.
"""

import json
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from peer import torch_results  # noqa: E402

from fastnn.registry import as_tuple, flat, specs  # noqa: E402
from fastnn.verify import Problem, widen  # noqa: E402

LARGEST = 400  # numbers in a case's inputs
CASES = 3  # of an operator


def size(case):
    return sum(int(np.prod(s)) for s in flat(case.shapes).values() if s is not None)


def selection(spec):
    """Cases spread evenly over those that are small, the first and the last among them."""
    small = [case for case in spec.cases if size(case) <= LARGEST]
    picks = np.unique(np.linspace(0, len(small) - 1, min(CASES, len(small))).astype(int))
    return [small[i] for i in picks]


def make(spec):
    content = {}
    for i, case in enumerate(selection(spec)):
        problem = Problem(spec, case, np.float32, "distinct" if spec.distinct else "normal", seed=31)
        dy = problem.dy if spec.grads else ()
        outputs, grads = torch_results(spec, widen(problem.arrays), case.options, widen(dy))
        content[f"{i}.case"] = json.dumps({"shapes": case.shapes, "options": case.options})
        content |= {f"{i}.in.{name}": x for name, x in flat(problem.arrays).items() if x is not None}
        content |= {f"{i}.dy.{k}": d for k, d in enumerate(as_tuple(dy))}
        content |= {f"{i}.out.{k}": y for k, y in enumerate(outputs)}
        content |= {f"{i}.grad.{name}": g for name, g in flat(grads).items() if g is not None}
    np.savez_compressed(HERE / f"{spec.name}.npz", **content)


if __name__ == "__main__":
    for name in sys.argv[1:] or specs():
        if "torch" in specs()[name].peers and specs()[name].agrees is None:
            make(specs()[name])
