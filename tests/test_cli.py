"""The command line: what it prints, writes and returns."""

import json
import time
from math import prod

import numpy as np
import pytest
from support import each_spec

import fastnn
from fastnn import ops
from fastnn.cli import main
from fastnn.cli.contest import Row, copy_size, nearest_mix
from fastnn.kernels import runtime
from fastnn.measure import MIXES, Effort, Entry, best_rate, fma_peak, interleave, memory_bandwidth
from fastnn.registry import Work
from fastnn.terminal import Column, Table, fit, si


@pytest.fixture
def wrong_relu(monkeypatch):
    """relu_forward as it would be if it computed |x|."""
    relu = ops.relu_forward
    monkeypatch.setattr(ops, "relu_forward", lambda x, *, keep=True: relu(np.abs(x), keep=keep))


def test_info_prints_what_show_config_prints(capsys):
    assert main(["info"]) == 0
    printed = capsys.readouterr().out
    fastnn.show_config()
    assert printed == capsys.readouterr().out
    assert fastnn.__version__ in printed
    assert np.__version__ in printed
    assert all(isa in printed for isa in runtime.ISA_LEVELS)


def test_info_names_the_source_of_the_thread_count(capsys, monkeypatch):
    if not runtime.OPENMP:
        pytest.skip("built without OpenMP")
    monkeypatch.setenv("FASTNN_NUM_THREADS", "3")
    with fastnn.num_threads(3):
        main(["info"])
    assert "3 (FASTNN_NUM_THREADS)" in capsys.readouterr().out
    with fastnn.num_threads(2):
        main(["info"])
    assert "2 (set_num_threads)" in capsys.readouterr().out


def test_module_runs(python):
    done = python("-m", "fastnn", "info")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("fastnn")


def test_check_passes(capsys):
    before = runtime.get_isa(), fastnn.get_num_threads()
    assert main(["check", "--filter", "relu"]) == 0
    out = capsys.readouterr().out
    rows = [line.split() for line in out.splitlines() if line.startswith("relu")]
    assert [row[1:3] for row in rows] == [[d, i] for d in ("forward", "backward") for i in runtime.supported_isas()]
    assert "within their bounds" in out
    assert (runtime.get_isa(), fastnn.get_num_threads()) == before


@pytest.mark.usefixtures("wrong_relu")
def test_check_fails_for_a_wrong_kernel(capsys):
    assert main(["check", "--filter", "relu", "--isa", "baseline"]) == 1
    out = capsys.readouterr().out
    assert "FAIL" in out
    assert "expected 0.0" in out


def test_check_reports_an_exception(capsys, monkeypatch):
    def broken(x, *, keep=True):
        raise RuntimeError("out of order")

    monkeypatch.setattr(ops, "relu_forward", broken)
    assert main(["check", "--filter", "relu", "--isa", "baseline"]) == 1
    assert "raised RuntimeError: out of order" in capsys.readouterr().out


@pytest.mark.parametrize(
    "argv", [["check", "--filter", "nothing*"], ["check", "--isa", "mmx"], ["bench", "--threads", "0"],
             ["bench", "--peers", "abacus"], ["bench", "--shapes", "no such file"], ["bench", "--sizes", "0"],
             ["bench", "--sizes", "--filter", "conv2d"], []]
)  # fmt: skip
def test_usage_errors(argv, capsys):
    with pytest.raises(SystemExit) as e:
        main(argv)
    assert e.value.code == 2
    assert "error:" in capsys.readouterr().err


@pytest.fixture
def shapes(tmp_path):
    """A small shapes file."""
    path = tmp_path / "shapes.json"
    path.write_text(json.dumps([{"op": "relu", "shapes": {"x": [4, 1000]}, "label": "small map"}]))
    return str(path)


def test_bench_of_sizes(capsys, shapes):
    argv = ["bench", "--quick", "--filter", "relu", "--peers", "none", "--threads", "1", "--sizes", "16,1000"]
    assert main(argv) == 0
    out = capsys.readouterr().out
    rows = [line for line in out.splitlines() if line.startswith("relu")]
    assert ["16 elements: x=16" in rows[0], "1000 elements: x=512" in rows[1], len(rows)] == [True, True, 2]
    with pytest.raises(SystemExit):
        main([*argv, "--shapes", shapes])
    assert "--sizes and --shapes" in capsys.readouterr().err


@each_spec(lambda spec: spec.sized)
@pytest.mark.parametrize("n", [16, 256, 1 << 20])
def test_sized_problems(spec, n):
    """The first argument has about n elements, in a shape that the operator takes."""
    case = spec.sized(n)
    first = next(iter(case.shapes.values()))
    assert n // 2 <= sum(prod(shape) for shape in (first if isinstance(first, list) else [first])) <= 2 * n
    if n == 16:
        assert spec.forward(ops, spec.inputs(case), case.options)


def test_bench_writes_rows(capsys, tmp_path, shapes):
    path = tmp_path / "rows.json"
    argv = ["bench", "--quick", "--filter", "relu", "--peers", "none", "--threads", "1,2", "--backward"]
    assert main([*argv, "--shapes", shapes, "--json", str(path)]) == 0
    out = capsys.readouterr().out
    assert len([line for line in out.splitlines() if line.startswith("relu") and "small map" in line]) == 4
    assert "geometric mean, backward, 2 threads" in out
    assert all(len(line) <= 120 for line in out.splitlines())
    document = json.loads(path.read_text())
    rows = document["rows"]
    assert [(row["direction"], row["threads"]) for row in rows] == [
        ("forward", 1), ("forward", 2), ("backward", 1), ("backward", 2)]  # fmt: skip
    for row in rows:
        assert row["seconds"] > 0
        assert row["others"]["numpy"] > 0
        assert row["bytes"] == (8 if row["direction"] == "forward" else 12) * 4000
        assert ("1 thread" in row["others"]) == (row["threads"] == 2)
    assert document["isa"] == runtime.get_isa()
    assert document["limits per second"]["1"]["flops"] > 1e8


@pytest.mark.usefixtures("wrong_relu")
def test_bench_does_not_time_a_wrong_kernel(capsys, shapes):
    argv = ["bench", "--quick", "--filter", "relu", "--peers", "none", "--threads", "1", "--shapes", shapes]
    assert main(argv) == 1
    out = capsys.readouterr().out
    assert "fastnn is not timed" in out
    assert "geometric mean" not in out


def test_bench_with_torch(capsys, shapes):
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    argv = ["bench", "--quick", "--filter", "relu", "--peers", "torch", "--threads", "1", "--backward"]
    assert main([*argv, "--shapes", shapes]) == 0
    assert "×torch" in capsys.readouterr().out
    assert torch.get_num_threads() == before


def test_bench_plot(tmp_path, shapes):
    pytest.importorskip("matplotlib")
    path = tmp_path / "bars.png"
    argv = ["bench", "--quick", "--filter", "relu", "--peers", "none", "--threads", "1", "--shapes", shapes]
    assert main([*argv, "--plot", str(path)]) == 0
    assert path.read_bytes().startswith(b"\x89PNG")


def test_limits_grow_with_the_instruction_set_and_are_plausible():
    peak = fma_peak(1, np.float32, 0.05)
    assert 1e8 < peak < 1e13
    assert fma_peak(1, np.float64, 0.05) < peak
    for mix in MIXES:
        assert 1e8 < memory_bandwidth(1, 8 << 20, 0.05, mix) < 1e13


@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize("nbytes", [1 << 16, 1 << 27], ids=["cached", "past the caches"])
def test_traffic_reads_and_writes_what_it_counts(isa, mix, nbytes):
    size = nbytes // sum(mix) // 4 // 64 * 64
    sources = [np.full(size, 1 + i, np.float32) for i in range(mix[0])]
    memory = [np.zeros(size + 16, np.float32) for _ in range(mix[1])]
    results = [x[-x.ctypes.data % 64 // 4 :][:size] for x in memory]
    assert runtime.stream(sources, results, 2) == 4 * size * sum(mix)
    for x in results:
        assert (x == sum(range(1, 1 + mix[0]))).all()


@pytest.mark.parametrize(
    ("work", "mix"),
    [(Work(0, 8), (1, 1)), (Work(0, 4, 0), (1, 0)), (Work(0, 12, 4), (2, 1)), (Work(0, 5, 4), (1, 4))],
)
def test_a_call_is_held_against_the_nearest_mix(work, mix):
    assert nearest_mix(work) == mix


def test_best_rate_sees_past_a_fixed_delay():
    def run(size):
        time.sleep(0.025)
        return size

    assert best_rate(run, 0.3) > 4 / 0.025


def test_interleave_takes_turns_and_leaves_out_what_is_too_slow():
    order = []
    ticks = iter(range(10**9))
    entries = {name: Entry(lambda name=name: order.append((name, next(ticks)))) for name in "ab"}
    times = interleave(entries, Effort(rounds=3, least=1e-5, budget=10))
    assert set(times) == {"a", "b"}
    assert min(times.values()) > 0
    turns = [name for i, (name, _) in enumerate(order) if i == 0 or order[i - 1][0] != name]
    assert turns == list("ababab")
    order.clear()
    interleave(entries, Effort(rounds=3, least=1e-5, budget=0))
    assert [name for name, _ in order] == ["a", "b"]


def test_ratio_is_the_others_time_over_ours():
    row = Row("relu", "forward", "x", "auto", "float32", 1, 2e-3, 1, 1, "memory", 0.5, {"numpy": 6e-3})
    assert row.ratio("numpy") == pytest.approx(3)
    assert row.ratio("torch") is None


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0012345, "1.23 ms"), (999.6e-9, "1.00 µs"), (12.34e9, "12.3 Gs"), (123.4, "123 s"), (0, "0.00 ns")],
)
def test_si(value, text):
    assert si(value, "s") == text


def test_table_aligns_and_cuts():
    table = Table([Column("name", 6), Column("n", 4, True)])
    assert table.row(["longer name", "12"]) == "lon…me    12"
    assert fit("abc", 3) == "abc"


def test_copies_are_powers_of_two_up_to_the_largest():
    assert [copy_size(n) >> 20 for n in (1, 9 << 20, 64 << 20, 1 << 40)] == [8, 16, 64, 256]
