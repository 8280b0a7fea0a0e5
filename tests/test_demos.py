"""fastnn models and fastnn run: the list, the flags, the picture, and what they say when something is missing."""

import inspect
from pathlib import Path

import pytest

import fastnn
from fastnn import demos
from fastnn.cli import main
from fastnn.demos import DEMOS, Demo, Result

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = Path(fastnn.__file__).parent


@pytest.fixture
def tiny(monkeypatch):
    """A demonstration that only tells what it was given, and the list of that."""
    calls = []

    class Module:
        """One line.

        And more.
        """

        @staticmethod
        def run(*, quick=False, seed=0, epochs: int | None = None, rate=0.5, cell="lstm", fast=True):
            """epochs: passes (default: 3)."""
            calls.append((quick, seed, epochs, rate, cell, fast))
            return Result("All of it.", {"accuracy": 1.0}, lambda figure: figure.subplots().plot([1, 2]))

    monkeypatch.setitem(DEMOS, "tiny", Demo("M0", "Nothing much", "Nobody 1900", "models/tiny.py"))
    load = demos.load
    monkeypatch.setattr(demos, "load", lambda name: Module if name == "tiny" else load(name))
    return calls


def test_list(capsys):
    """Each demonstration in a line with its paper."""
    assert main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name, demo in DEMOS.items():
        (line,) = (line for line in lines if line.split()[:1] == [name])
        assert all(text in line for text in (demo.number, demo.title, demo.paper, demo.model))


def test_list_names_what_is_not_installed(capsys, monkeypatch):
    monkeypatch.setattr(demos, "find_spec", lambda name: None if name == "mlxtend" else True)
    main(["models"])
    needs = [name for name, demo in DEMOS.items() if "mlxtend" in demo.needs]
    assert f"pip install mlxtend, for {', '.join(needs)}" in capsys.readouterr().out


def test_every_model_of_the_specification():
    assert [demo.number for demo in DEMOS.values()] == [f"M{i}" for i in range(1, 22)]


@pytest.mark.parametrize("name", DEMOS)
def test_module(name):
    """It says what it does, takes what all take, and its network is where the list says."""
    module = demos.load(name)
    assert module.__doc__.strip()
    parameters = inspect.signature(module.run).parameters
    assert parameters["quick"].default is False and parameters["seed"].default == 0
    for parameter in parameters.values():
        assert parameter.kind is inspect.Parameter.KEYWORD_ONLY
        if parameter.default is None:  # an int that depends on others: it says of what kind
            assert parameter.annotation in ("int | None", int | None)
        else:
            assert type(parameter.default) in (bool, int, float, str)
    assert (PACKAGE / DEMOS[name].model).is_file()


@pytest.mark.parametrize("name", DEMOS)
def test_help(name, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["run", name, "--help"])
    assert stop.value.code == 0
    printed = capsys.readouterr().out
    assert demos.load(name).__doc__.splitlines()[0] in printed and "--quick" in printed


def test_run(tiny, tmp_path, capsys, monkeypatch):
    """What it found, and the picture."""
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    assert main(["run", "tiny"]) == 0
    assert tiny == [(False, 0, None, 0.5, "lstm", True)]
    printed = capsys.readouterr().out
    assert "Nobody 1900" in printed and "All of it." in printed and "tiny.png" in printed
    assert (tmp_path / "tiny.png").read_bytes().startswith(b"\x89PNG")


def test_run_with_options(tiny, tmp_path, capsys):
    options = ["--quick", "--seed", "7", "--epochs", "2", "--rate", "1", "--cell", "gru", "--no-fast", "--threads", "1"]
    threads = fastnn.get_num_threads()
    try:
        assert main(["run", "tiny", *options, "--no-figure"]) == 0
    finally:
        fastnn.set_num_threads(threads)
    assert tiny == [(True, 7, 2, 1.0, "gru", False)]
    assert "threads: 1" in capsys.readouterr().out
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["nothing"], "invalid choice: 'nothing'"),
        (["tiny", "--epochs", "few"], "argument --epochs: invalid positive value: 'few'"),
        (["tiny", "--epochs", "0"], "argument --epochs: 0, expected at least 1"),
        (["tiny", "--width", "2"], "unrecognized arguments: --width 2"),
        (["tiny", "--threads", "0"], "argument --threads"),
        (["tiny", "--figure", "nowhere/tiny.png"], "there is no folder nowhere"),
        (["tiny", "--figure", "tiny.xyz"], "argument --figure: tiny.xyz"),
    ],
)
def test_run_refuses(tiny, options, message, capsys, tmp_path, monkeypatch):
    """Before anything is trained."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(["run", *options])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
    assert not tiny


@pytest.mark.parametrize("missing", ["matplotlib", "mlxtend", "scikit-learn"])
def test_run_names_what_is_not_installed(tiny, missing, monkeypatch, capsys):
    monkeypatch.setitem(DEMOS, "tiny", DEMOS["tiny"]._replace(needs=("scikit-learn", "mlxtend")))
    monkeypatch.setattr(demos, "find_spec", lambda name: None if name == demos.MODULES.get(missing, missing) else True)
    with pytest.raises(SystemExit):
        main(["run", "tiny"])
    assert f"needs {missing}, which is not installed: pip install {missing}" in capsys.readouterr().err
    assert not tiny


def test_run_without_data(tiny, monkeypatch, capsys):
    """What no package of pip has: the message of who looked for it."""

    def run(*, quick=False, seed=0):
        raise FileNotFoundError("There is no text. Debian has it: apt install text")

    monkeypatch.setattr(demos.load("tiny"), "run", run)
    with pytest.raises(SystemExit) as stop:
        main(["run", "tiny", "--no-figure"])
    assert stop.value.code == 1
    assert "apt install text" in capsys.readouterr().err


@pytest.mark.parametrize("named", [True, False])
def test_run_with_wrong_values(tiny, named, monkeypatch, capsys):
    """What the demonstration itself says of its options is a usage error; another error is one of the library."""

    def run(*, quick=False, seed=0):
        raise ValueError(f"{'tiny' if named else 'conv2d'}: epochs is 0, expected at least 1")

    monkeypatch.setattr(demos.load("tiny"), "run", run)
    with pytest.raises(SystemExit if named else ValueError) as stop:
        main(["run", "tiny", "--no-figure"])
    assert not named or (stop.value.code == 2 and "epochs is 0" in capsys.readouterr().err)


@pytest.mark.parametrize("name", DEMOS)
def test_page(name):
    """docs/models.md has a row for each, with paper, file, command and numbers."""
    page = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    (row,) = (line for line in page.splitlines() if line.startswith(f"| {DEMOS[name].number} |"))
    assert DEMOS[name].paper in row and f"fastnn/{DEMOS[name].model}" in row and f"`fastnn run {name}`" in row
