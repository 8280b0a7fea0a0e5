"""Peers of `fastnn bench`: what they compute, and that weights are prepared on both sides or on neither."""

from contextlib import nullcontext
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from fastnn import ops, reference
from fastnn.cli import contest, main
from fastnn.cli.bench import geometric_means, ratios_by_case
from fastnn.cli.contest import Row, copies, disagreement, measure_case, results_of
from fastnn.cli.engines import NCNN, ONNX
from fastnn.cli.peers import PEERS
from fastnn.measure import Effort, Entry
from fastnn.registry import Case, specs

FEW = Effort(rounds=1, least=0, budget=1)
CONV = Case({"x": (1, 2, 5, 4), "w": (3, 2, 3, 3), "b": (3,)}, {"padding": 1}, "tiny")

# Case of an engine's table -> options that it declines, of which the operator's own cases have some.
DECLINED = {
    "batch_norm": lambda case: case.options.get("training", True) or None in case.shapes.values(),
    "max_pool2d": lambda case: case.options.get("return_indices") or case.options.get("dilation", 1) != 1,
    "avg_pool2d": lambda case: case.options.get("divisor_override") or case.options.get("ceil_mode"),
    "linear": lambda case: len(case.shapes["x"]) > 2,
    "lstm": lambda case: case.shapes["w_hr"],
}


@pytest.fixture(params=["onnxruntime", "openvino", "ncnn"])
def engine(request):
    """Each inference engine that is installed."""
    for package in PEERS[request.param].needs:
        pytest.importorskip(package)
    return PEERS[request.param]()


def outcome(peer, spec, case, threads=1):
    """None if the peer declines, else what is wrong with its result, an empty string if nothing is."""
    arrays = spec.inputs(case, np.float32)
    want = results_of("forward", spec.forward(reference, copies(arrays), case.options))
    with peer.threads(threads):
        entry = peer.entry(spec, "forward", copies(arrays), case.options, None)
    return None if entry is None else disagreement(peer.arrays(entry.call()), want)


@pytest.mark.parametrize("op", sorted({*ONNX, *NCNN}))
def test_engine_computes_the_operator(engine, op):
    if op not in engine.describe:
        pytest.skip("not in its table")
    spec = specs()[op]
    found = {str(case): outcome(engine, spec, case) for case in spec.cases}
    assert not {case: wrong for case, wrong in found.items() if wrong}
    declined = [case for case in spec.cases if found[str(case)] is None]
    assert len(declined) < len(found)
    assert all(op in DECLINED and DECLINED[op](case) for case in declined), [str(case) for case in declined]


def test_engine_fuses_relu(engine):
    case = CONV._replace(options={"padding": (0, 1, 2, 1), "stride": (1, 2), "activation": "relu"})
    assert outcome(engine, specs()["conv2d"], case) == ""


def test_engine_declines_what_it_has_not(engine):
    spec = specs()["conv2d"]
    for direction, dtype in (("backward", np.float32), ("forward", np.float64)):
        assert engine.entry(spec, direction, spec.inputs(CONV, dtype), CONV.options, None) is None
    spec = specs()["lstm_step"]
    assert engine.entry(spec, "forward", spec.inputs(spec.cases[0]), {}, None) is None


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts threads in /proc")
def test_engine_on_one_thread_starts_no_other(engine, python):
    """In a fresh process; OpenVINO starts some that coordinate, and is asked for the limit instead."""
    if type(engine).__name__ == "OpenVino":
        pytest.skip("INFERENCE_NUM_THREADS is its own limit")
    code = f"""
import os
from fastnn.cli.peers import PEERS
from fastnn.registry import specs
spec = specs()["conv2d"]
case = spec.bench[0]
def threads(n):
    with peer.threads(n):
        entry = peer.entry(spec, "forward", spec.inputs(case), case.options, None)
    entry.call()
    return len(os.listdir("/proc/self/task")), entry
peer = next(peer() for peer in PEERS.values() if peer.__name__ == {type(engine).__name__!r})
print(threads(1)[0], threads(3)[0])
"""
    done = python("-c", code)
    assert done.returncode == 0, done.stderr
    one, three = map(int, done.stdout.split())
    assert three - one == 2


def test_torch_fuses_relu():
    pytest.importorskip("torch")
    case = CONV._replace(options={"activation": "relu"})
    assert outcome(PEERS["torch"](), specs()["conv2d"], case) == ""


class Fake:
    """A peer that is the reference, waiting for the weights to be prepared or not."""

    version, backward_means, needs = "1", "", ()

    def __init__(self, prepared, declines=False):
        self.prepared, self.declines = prepared, declines

    def threads(self, n):
        return nullcontext()

    def entry(self, spec, direction, arrays, options, dy):
        call = partial(getattr(reference, f"{spec.name}_forward"), **arrays, **options)
        return None if self.declines else Entry(lambda: call()[0])

    def arrays(self, results):
        return (results,)


@pytest.fixture
def measure(monkeypatch):
    """measure_case on one thread, without measuring the machine."""
    monkeypatch.setattr(contest, "arithmetic_limit", lambda *args: 1e9)
    monkeypatch.setattr(contest, "memory_limit", lambda *args: 1e9)
    return lambda op, case, peers, algos=(): measure_case(
        specs()[op], case, "forward", np.dtype(np.float32), 1, algos, peers, FEW
    )


PAIR = {"plain": Fake(False), "engine": Fake(True)}


def test_prepared_peers_meet_prepared_weights(measure, monkeypatch):
    given = []
    forward = ops.conv2d_forward
    monkeypatch.setattr(ops, "conv2d_forward", lambda x, w, *args, **options: (
        given.append(type(w).__name__), forward(x, w, *args, **options))[1])  # fmt: skip
    rows, problems = measure("conv2d", CONV, PAIR)
    assert not problems
    assert [(row.prepared, sorted(row.others)) for row in rows] == [(False, ["numpy", "plain"]), (True, ["engine"])]
    assert set(given) == {"ndarray", "PreparedConv2d"}
    assert all(row.seconds > 0 and row.ratio(other) > 0 for row in rows for other in row.others)


def test_prepared_rows_of_named_algorithms(measure):
    rows, _ = measure("conv2d", CONV, PAIR, ("implicit",))
    assert [(row.algo, row.prepared) for row in rows] == [
        ("auto", False), ("implicit", False), ("auto", True), ("implicit", True)]  # fmt: skip


def test_no_prepared_row_without_need(measure):
    """Nobody to compare with, or an operator that prepares nothing: one row with everybody in it."""
    rows, _ = measure("conv2d", CONV, {"plain": Fake(False), "engine": Fake(True, declines=True)})
    assert [(row.prepared, sorted(row.others)) for row in rows] == [(False, ["numpy", "plain"])]
    rows, _ = measure("relu", Case({"x": (7,)}), PAIR)
    assert [(row.prepared, sorted(row.others)) for row in rows] == [(False, ["engine", "numpy", "plain"])]


def test_every_prepared_argument_can_be_prepared():
    """OpSpec.prepares names an argument, ops.prepare_<name> takes it, and the result is the same, bit for bit."""
    found = [spec for spec in specs().values() if spec.prepares]
    assert found
    for spec in found:
        arrays = spec.inputs(spec.bench[0])
        plain = spec.forward(ops, arrays, spec.bench[0].options)[0]
        prepared = spec.forward(ops, contest.with_prepared(spec, arrays), spec.bench[0].options)[0]
        np.testing.assert_array_equal(plain, prepared)


def test_bench_prints_prepared_rows(capsys, monkeypatch, tmp_path):
    monkeypatch.setitem(PEERS, "engine", partial(Fake, True))
    monkeypatch.setattr("fastnn.cli.bench.installed", lambda: ["engine"])
    path = tmp_path / "shapes.json"
    path.write_text('[{"op": "conv2d", "shapes": {"x": [1, 2, 5, 4], "w": [3, 2, 3, 3], "b": null}, "label": "tiny"}]')
    assert main(["bench", "--quick", "--filter", "conv2d", "--threads", "1", "--shapes", str(path)]) == 0
    out = capsys.readouterr().out
    assert 'rows "prepared" (conv2d)' in out
    assert [line.split()[:2] for line in out.splitlines() if line.startswith("conv2d")] == [
        ["conv2d", "tiny"], ["conv2d", "prepared"]]  # fmt: skip


# ---- summary ----


def row(case, prepared=False, **others):
    return Row("relu", "forward", case, "auto", "float32", 1, 1.0, 1, 1, "memory", 0.5, others, prepared)


ROWS = [row("a", numpy=8, torch=4), row("a", True, engine=0.5), row("b", numpy=2, torch=1)]
NAMES = ["numpy", "torch", "engine", "absent"]


def test_ratios_by_case_join_rows_of_a_case():
    assert ratios_by_case(ROWS, NAMES) == {
        "numpy": {"relu a": 8, "relu b": 2}, "torch": {"relu a": 4, "relu b": 1}, "engine": {"relu a": 0.5},
        "best peer": {"relu a": 0.5, "relu b": 1},
    }  # fmt: skip


def test_geometric_means_name_the_smallest():
    lines = list(geometric_means(ROWS, NAMES))
    assert lines[0] == "geometric mean, forward, 1 thread:"
    assert [" ".join(line.split()) for line in lines[1:]] == [
        "×numpy 4.00 of 2 cases, none below 1; smallest 2.00: relu b",
        "×torch 2.00 of 2 cases, none below 1; smallest 1.00: relu b",
        "×engine 0.50 of 1 case, 1 below 1; smallest 0.50: relu a",
        "×best peer 0.71 of 2 cases, 1 below 1; smallest 0.50: relu a",
    ]


def test_one_peer_is_not_called_the_best():
    assert list(ratios_by_case([row("a", numpy=8, torch=4)], NAMES)) == ["numpy", "torch"]
