"""bench/shapes: every layer of the usual networks that there is an operator for."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from fastnn import ops
from fastnn.cli import main
from fastnn.cli.bench import read_shapes
from fastnn.registry import specs

FILES = sorted((Path(__file__).parent.parent / "bench" / "shapes").glob("*.json"))
CASES = [pytest.param(op, case, id=f"{op}: {case}") for path in FILES for op, case in read_shapes(path)]


def test_networks():
    assert [path.stem for path in FILES] == [
        "alexnet", "cs231n", "googlenet", "lenet", "mobilenet", "recurrent", "resnet18", "resnet50", "vgg16",
    ]  # fmt: skip


def test_labels_are_unique():
    names = Counter((op, str(case)) for path in FILES for op, case in read_shapes(path))
    assert [name for name, count in names.items() if count > 1] == []
    assert all(case.label.startswith(path.stem) for path in FILES for _, case in read_shapes(path))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_problems_are_distinct(path):
    problems = Counter((op, repr((case.shapes, case.options))) for op, case in read_shapes(path))
    assert [problem for problem, count in problems.items() if count > 1] == []


@pytest.mark.parametrize(("op", "case"), CASES)
def test_operator_accepts_it(op, case):
    """All checks of the call, on a batch of nothing so that it computes nothing; and its cost is known."""
    spec = specs()[op]
    work = spec.work(case, 4)
    assert work.bytes > 0
    shapes = dict(case.shapes)
    for name, axis in spec.batch(case).items():
        shapes[name] = (*shapes[name][:axis], 0, *shapes[name][axis + 1 :])
    integers = {"target": np.int64}
    arrays = {
        name: None if shape is None else np.zeros(shape, integers.get(name, np.float32))
        for name, shape in shapes.items()
    }
    with np.errstate(all="ignore"):
        spec.forward(ops, arrays, case.options)


def test_sizes_of_known_networks():
    """Parameters of the layers that occur once each, as the papers count them."""
    filters = {
        path.stem: sum(
            int(np.prod(case.shapes["w"])) + (case.shapes["b"] or (0,))[0]
            for op, case in read_shapes(path)
            if op in ("conv2d", "linear")
        )
        for path in FILES
    }
    assert filters["alexnet"] == 61_100_840
    # LeNet-5 with complete connections between its second and third layers.
    assert filters["lenet"] == 61_706
    # VGG-16 has three 3x3 layers of these sizes twice or three times.
    repeated = (256 * 256 * 9 + 256) + (512 * 512 * 9 + 512) * 3
    assert filters["vgg16"] + repeated == 138_357_544


def test_several_files_and_repeated_names(capsys, tmp_path):
    one, two = tmp_path / "one.json", tmp_path / "two.json"
    one.write_text('[{"op": "relu", "shapes": {"x": [5]}, "label": "small"}]')
    two.write_text('[{"op": "relu", "shapes": {"x": [9]}, "label": "smaller"}, {"op": "tanh", "shapes": {"x": [3]}}]')
    argv = ["bench", "--quick", "--peers", "none", "--threads", "1", "--shapes"]
    assert main([*argv, str(one), str(two)]) == 0
    assert "of 3 cases" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main([*argv, str(one), str(one)])
    assert "another relu small" in capsys.readouterr().err
