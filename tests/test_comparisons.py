"""What bench/compare_*.py rest on: that nothing is timed whose results differ, and what their tables say."""

from pathlib import Path

import numpy as np
import pytest

from fastnn import Tensor
from fastnn.measure import Effort, Entry

torch = pytest.importorskip("torch")
ONES = np.ones((2, 3), np.float32)
THEIRS = torch.ones(2, 3)


@pytest.fixture
def script(monkeypatch):
    """A function that imports a module of bench/ by name."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "bench"))
    return lambda name: pytest.importorskip(name)


def entries(ours, theirs=THEIRS):
    return {"fastnn": Entry(lambda: ours), "torch": Entry(lambda: theirs, torch.inference_mode)}


def test_arrays_of_any_results(script):
    found = script("side_by_side").arrays(
        [ONES, (torch.ones(2, requires_grad=True), [Tensor(ONES, requires_grad=True)])]
    )
    assert [(type(x), x.shape) for x in found] == [(np.ndarray, (2, 3)), (np.ndarray, (2,)), (np.ndarray, (2, 3))]


@pytest.mark.parametrize(
    ("ours", "theirs", "complaint"),
    [
        (ONES * np.float32(1.01), THEIRS, r"fastnn differ from PyTorch's by 1\.0e-02"),
        (ONES * np.nan, THEIRS, "fastnn differ from PyTorch's by nan"),
        ([ONES, ONES + 1], [THEIRS, THEIRS], "fastnn differ"),
        (ONES[:, :1], THEIRS, r"fastnn has shape \(2, 1\), PyTorch's \(2, 3\)"),
    ],
)
def test_nothing_wrong_is_timed(script, ours, theirs, complaint):
    with pytest.raises(SystemExit, match=complaint):
        script("side_by_side").compare("case", entries(ours, theirs), 1, Effort(1, 0, 1), [1e-4])


def test_later_calls_are_checked(script):
    """As many as there are tolerances: those of a layer with a state differ."""
    results = iter([ONES, ONES * np.float32(1.01)])
    ours = {"fastnn": Entry(lambda: next(results)), "torch": Entry(lambda: THEIRS)}
    script("side_by_side").check("case", ours, [1e-4], {})
    with pytest.raises(SystemExit, match="differ"):
        script("side_by_side").check("case", ours, [1e-4], {})


def test_compare_times_all_in_their_contexts(script, monkeypatch):
    side_by_side = script("side_by_side")
    monkeypatch.setattr(side_by_side, "SETTLE", 0)
    before = torch.get_num_threads()
    try:
        modes = []
        theirs = Entry(lambda: modes.append(torch.is_inference_mode_enabled()), torch.inference_mode)
        both = {"fastnn": Entry(lambda: [ONES]), "torch": theirs}
        beside = {"reading": Entry(lambda: None)}
        times = side_by_side.compare("case", both, 1, Effort(1, 0, 1), [1e-4], {"torch": lambda none: [ONES]}, beside)
    finally:
        torch.set_num_threads(before)
    assert list(times) == ["fastnn", "torch", "reading"] and min(times.values()) > 0
    assert all(modes) and len(modes) >= 3


def test_recurrent_rows(script):
    """Each has a name of its own, and all of the issue's cells and sizes are there with the figure to reach."""
    rows = {task.name: task for task in script("compare_recurrent").tasks()}
    assert len(rows) == len(list(script("compare_recurrent").tasks())) == 15 + 18 + 2
    assert rows["GRU step 128"].targets == {"torch": 8} and rows["GRU step 512"].targets == {"torch": 3}
    assert rows["RNN step 256"].targets == {}
    assert rows["RNN 100x1 128->128"].targets == {"torch": 2.5, "onnxruntime": 1.2}
    assert rows["LSTM 50x64 512->512 training"].targets == {"torch": 1.4}


def test_recurrent_table(script):
    bench = script("compare_recurrent")
    targets = {"torch": 2, "onnxruntime": 1.2}
    seconds = {"fastnn": 1e-3, "torch": 3e-3, "onnxruntime": 1.1e-3}
    fine = bench.Row("fine", "inference", 1, {"fastnn": 1e-3, "torch": 2e-3}, targets)
    slow = bench.Row("slow", "inference", 1, seconds, targets)
    step = bench.Row("step", "step", 2, {"fastnn": 1e-3, "torch": 1e-3, "reading": 0.5e-3}, {"torch": 3})
    assert [row.missed for row in (fine, slow, step)] == [[], ["×onnxruntime 1.2"], ["×torch 3", "reading 1.5"]]
    assert [bench.cells(slow)[k] for k in (0, 2, 3, 4, 5)] == ["slow", "1.00 ms", "3.00 ms", "1.10 ms", ""]
    assert list(bench.means([fine, slow, step])) == [
        "inference, 1 thread: ×torch 2.45 of 2",
        "inference, 1 thread: ×onnxruntime 1.10 of 1",
        "step, 2 threads: ×torch 1.00 of 1",
    ]
