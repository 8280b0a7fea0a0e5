"""What a run of `fit` leaves and shows: its History, plots of it, and its progress."""

import io
import json
import re
import sys
from math import nan

import numpy as np
import pytest
from train_support import adam, network, problem, timeless

from fastnn import optim, terminal, train
from fastnn.train import Best, History, fit, progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


# ---- history ----


def test_history():
    history = History()
    assert len(history) == 0 and repr(history) == "History(0 epochs)"
    for i, loss in enumerate([3.0, nan, 1.0, 1.0]):
        history.append({"epoch": i + 1, "loss": loss, "accuracy": -loss, "f1": loss})
    assert history.best("loss") == Best(3, 1.0) == history.best("accuracy", "min")._replace(epoch=3, value=1.0)
    assert history.best("accuracy") == (3, -1.0) and history.best("f1", mode="max") == (1, 3.0)
    assert "loss" in history and "val_loss" not in history and list(history.keys()) == list(history)
    assert repr(history) == "History(4 epochs: loss 1, accuracy -1, f1 1)"
    with pytest.raises(ValueError, match="best: mode is None, expected 'min' or 'max', as 'f1'"):
        history.best("f1")
    with pytest.raises(KeyError, match="history has no 'val_loss', expected one of epoch, loss, accuracy, f1"):
        history["val_loss"]
    with pytest.raises(ValueError, match="history: got epoch, loss, expected epoch, loss, accuracy, f1"):
        history.append({"epoch": 5, "loss": 1.0})
    with pytest.raises(ValueError, match="best: 'loss' has no number yet"):
        empty = History()
        empty.append({"epoch": 1, "loss": nan})
        empty.best("loss")


def test_history_in_json():
    x, y = problem(16)
    model = network()
    history = fit(model, (x, y), epochs=2, optimizer=adam(model), gradient_statistics=1, batch_size=8, progress=False)
    text = json.dumps(history.to_dict())
    assert History.from_dict(json.loads(text)) == history
    assert History() != history and History() != 3
    good = json.loads(text)
    for wrong in (
        None, [], {}, {**good, "values": {"loss": 3}}, {**good, "values": {"epoch": [1], "loss": [1.0, 2.0]}},
        {**good, "gradients": {"step": [], "layers": good["gradients"]["layers"]}}, {**good, "stopped": 3},
        {**good, "values": {"epoch": ["a"]}},
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"History.from_dict: got something else"):
            History.from_dict(wrong)


def test_plots(tmp_path):
    pytest.importorskip("matplotlib")
    x, y = problem(16)
    model = network()
    optimizer = adam(model)
    history = fit(
        model, (x, y), epochs=3, optimizer=optimizer, gradient_statistics=1, batch_size=8, progress=False,
        validation_data=(x, y), metrics="accuracy", scheduler=optim.lr_scheduler.ExponentialLR(optimizer, 0.5),
    )  # fmt: skip
    figure = history.plot(tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert [axes.get_title() for axes in figure.axes] == ["loss", "accuracy", "learning rate"]
    lines = {line.get_label(): list(line.get_ydata()) for line in figure.axes[0].lines}
    assert lines == {"training": history["loss"], "validation": history["val_loss"]}
    figure = history.plot_gradients(str(tmp_path / "g.svg"))
    assert b"<svg" in (tmp_path / "g.svg").read_bytes()
    (axes,) = figure.axes
    assert axes.get_yscale() == "log" and [line.get_label() for line in axes.lines] == ["0", "1", "4"]
    assert list(axes.lines[2].get_ydata()) == history.gradients["layers"]["4"]["norm"]
    with pytest.raises(ValueError, match="statistic is 'mean', expected one of norm, mean_abs, update_ratio"):
        history.plot_gradients(statistic="mean")
    with pytest.raises(ValueError, match="history has no gradients"):
        History().plot_gradients()


def test_plots_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"History.plot needs matplotlib: pip install 'fastnn\[plot\]'"):
        History().plot()


# ---- progress ----


def run_with(progress, **options):
    x, y = problem(32)
    model = network()
    return fit(model, (x, y), epochs=2, optimizer=adam(model), batch_size=8, progress=progress, **options)


def test_no_terminal_gets_a_line_an_epoch(capsys):
    history = run_with(None, metrics="accuracy", validation_data=problem(8))
    out, err = capsys.readouterr()
    assert not err
    lines = out.splitlines()
    number = r"[0-9.e+-]+"
    names = "  ".join(rf"{name} {number}" for name in ("loss", "accuracy", "val_loss", "val_accuracy", "lr"))
    assert len(lines) == 2
    for i, line in enumerate(lines):
        assert re.fullmatch(rf"epoch {i + 1}/2  [0-9.]+ s  {names}", line)
    assert f"loss {history['loss'][0]:.4f}" in lines[0] and lines[0].endswith("lr 0.02")
    stream = io.StringIO()
    run_with(stream)
    assert stream.getvalue().count("\n") == 2 and "\033" not in stream.getvalue() and "\r" not in stream.getvalue()


def test_a_terminal_gets_a_bar(monkeypatch):
    monkeypatch.setattr("fastnn.train.progress.INTERVAL", 0)
    monkeypatch.delenv("TERM", raising=False)
    for room, length in ((100, 24), (70, None), (30, 6)):
        monkeypatch.setattr(terminal, "columns", lambda room=room: room)
        stream = Terminal()
        run_with(stream, validation_data=problem(8))
        drawn = stream.getvalue().split("\r\033[K")
        lines = [line for line in drawn if line.endswith("\n")]
        bars = [line for line in drawn if line and line not in lines]
        assert len(bars) == 2 * (4 + 1) and len(lines) == 2 and all(len(line) < room for line in bars)
        assert bars[1].startswith("epoch 1/2  ███") and bars[5].startswith("epoch 2/2  █")
        assert stream.getvalue().endswith("\r\033[K")
        if length == 24:
            assert re.search(r"/2  ████████████············ 2/4  0:00 left  \d+ batch/s  loss [0-9.]+$", bars[1])
            assert bars[4].startswith("epoch 1/2 validation  ████████████████████████ 1/1")
        elif room == 70:
            assert re.search(r"/2  █+·+ 2/4  0:00 left  \d+ batch/s  loss [0-9.]+$", bars[1])
    monkeypatch.setenv("TERM", "dumb")
    stream = Terminal()
    run_with(stream)
    assert "\033" not in stream.getvalue()


def test_a_bar_without_a_known_length_and_after_an_error(monkeypatch):
    monkeypatch.setattr("fastnn.train.progress.INTERVAL", 0)
    monkeypatch.delenv("TERM", raising=False)
    x, y = problem(16)

    class Endless:
        def __iter__(self):
            yield x, y
            yield x * np.float32(nan), y

    stream = Terminal()
    model = network()
    with pytest.raises(FloatingPointError):
        fit(model, Endless(), optimizer=adam(model), progress=stream)
    assert "epoch 1/1  1 batches" in stream.getvalue() and stream.getvalue().endswith("\r\033[K")


def test_silence_and_a_function_of_the_record(capsys):
    run_with(False)
    records = []
    history = run_with(records.append)
    assert capsys.readouterr() == ("", "")
    assert records == [{name: history[name][i] for name in history} for i in range(2)]
    assert timeless(history)["stopped"] is None


def test_track_in_a_terminal(monkeypatch):
    """A bar that is taken away at the end, with values as they are then; the items come as they are."""
    monkeypatch.setattr(progress, "INTERVAL", 0.0)
    stream, now = Terminal(), {}
    for i, item in enumerate(train.track("abcd", "letters", lambda: now, progress=stream)):
        assert item == "abcd"[i]
        now["count"] = i + 1
    assert re.search(r"letters .* 4/4 .* count 4\.0000", stream.getvalue())
    assert stream.getvalue().endswith("\r\033[K")


def test_track_elsewhere():
    """Nothing is written; the bar is taken away also if the loop is left."""
    stream = io.StringIO()
    assert [*train.track(range(3), "steps", progress=stream)] == [0, 1, 2]
    assert stream.getvalue() == ""
    stream = Terminal()
    for _ in train.track(range(3), "steps", progress=stream):
        break
    assert stream.getvalue().endswith("\r\033[K")
    assert [*train.track([], "nothing", progress=Terminal())] == []
