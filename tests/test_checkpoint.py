"""Checkpoints: a run that is killed at any moment and resumed ends as one that was left alone, bit for bit."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from train_support import adam, equal, network, problem, timeless

import fastnn
import fastnn.functional as F
import fastnn.nn as nn
from fastnn import optim
from fastnn.data import DataLoader
from fastnn.train import EarlyStopping, History, evaluate, fit, load_checkpoint

posix = pytest.mark.skipif(os.name != "posix", reason="a test of POSIX signals")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.safetensors"


class Broken(Exception):
    pass


def run(path=None, epochs=4, break_at=None, seed=1, make=adam, schedule=None, stop=True, data=None, **options):
    """A run with every kind of state, broken off by an exception at a batch; (model, history)."""
    model = network(seed)
    optimizer = make(model)
    calls = []

    def loss(output, target):
        calls.append(1)
        if len(calls) == break_at:
            raise Broken
        return F.cross_entropy(output, target)

    scheduler = optim.lr_scheduler.CosineAnnealingLR(optimizer, 10) if schedule is None else schedule(optimizer)
    stopping = EarlyStopping("val_loss", patience=4, restore_best=True) if stop else None
    given = {
        "loss": loss, "batch_size": 8, "seed": 3, "metrics": ["accuracy"], "validation_data": problem(20, 5),
        "scheduler": scheduler, "early_stopping": stopping, "clip_grad_norm": 1.0, "gradient_statistics": 3,
        "checkpoint": path, "resume": path is not None, "progress": False,
    }  # fmt: skip
    history = fit(
        model, problem() if data is None else data, epochs=epochs, optimizer=optimizer, **{**given, **options}
    )
    return model, history


@pytest.mark.parametrize("every, breaks", [(None, (2, 5, 11, 17, 20, 4)), (1, (2, 5, 9, 4, 8)), (3, (2, 5, 9, 4, 8))])
def test_a_broken_run_resumes_bit_for_bit(path, every, breaks):
    # An epoch takes 7 batches of training and 3 of validation; these lie in both.
    model, history = run()
    random_state = fastnn.get_rng_state()
    for break_at in breaks:
        with pytest.raises(Broken):
            run(path, break_at=break_at, checkpoint_every=every)
    other, resumed = run(path, checkpoint_every=every)
    assert equal(model.state_dict(), other.state_dict())
    assert timeless(history) == timeless(resumed) and len(history) == 4
    assert np.array_equal(random_state, fastnn.get_rng_state())
    assert all(seconds > 0 for seconds in resumed["seconds"])


def test_a_finished_run_is_there_at_once_and_goes_on_with_more_epochs(path):
    model, history = run(path)
    other, again = run(path, break_at=1)
    assert equal(model.state_dict(), other.state_dict()) and again == history
    longer, further = run(path, epochs=6)
    whole, expected = run(epochs=6)
    assert equal(longer.state_dict(), whole.state_dict()) and timeless(further) == timeless(expected)


def test_a_run_that_stopped_early_stays_stopped(path):
    options = {"validation_data": (problem()[0], (problem()[1] + 1) % 3), "epochs": 20}
    model, history = run(path, **options)
    assert history.stopped == "early_stopping" and len(history) < 20
    other, again = run(path, break_at=1, **options)
    assert equal(model.state_dict(), other.state_dict()) and again == history
    last, best = load_checkpoint(path)[0], load_checkpoint(path).best
    assert equal(best, model.state_dict()) and not equal(last, best)


def test_without_resume_a_run_begins_anew(path):
    run(path, epochs=1)
    model, history = run(path, epochs=2, resume=False)
    other, expected = run(epochs=2)
    assert equal(model.state_dict(), other.state_dict()) and timeless(history) == timeless(expected)


@pytest.mark.parametrize("kind", ["sgd", "rmsprop", "plateau", "one cycle", "float64"])
def test_other_optimisers_and_schedules(path, kind):
    data = problem()
    options = {
        "sgd": {"make": lambda m: optim.SGD(m.parameters(), lr=0.05, momentum=0.9, nesterov=True)},
        "rmsprop": {"make": lambda m: optim.RMSprop([{"params": p} for p in m.parameters()], centered=True)},
        "plateau": {"schedule": lambda o: optim.lr_scheduler.ReduceLROnPlateau(o, patience=0)},
        "one cycle": {
            "schedule": lambda o: optim.lr_scheduler.OneCycleLR(o, 0.1, total_steps=100), "schedule_every": "batch",
        },
        "float64": {
            "make": lambda m: adam(m.double()),
            "data": (data[0].astype(np.float64), data[1]),
            "validation_data": (data[0].astype(np.float64), data[1]),
        },
    }[kind]  # fmt: skip
    model, history = run(**options)
    for break_at in (5, 12, 14):
        with pytest.raises(Broken):
            run(path, break_at=break_at, checkpoint_every=2, **options)
    other, resumed = run(path, **options)
    assert equal(model.state_dict(), other.state_dict()) and timeless(history) == timeless(resumed)


class Stateful:
    """A loader whose order depends on all that went before."""

    def __init__(self):
        self.data, self.round = problem(), 1

    def __iter__(self):
        order = np.random.default_rng(self.round).permutation(50)
        self.round = self.round * 3 + 1
        for i in range(0, 50, 10):
            yield tuple(x[order[i : i + 10]] for x in self.data)

    def state_dict(self):
        return {"round": self.round}

    def load_state_dict(self, state):
        self.round = state["round"]


@pytest.mark.parametrize("make", [Stateful, lambda: DataLoader(problem(), 9, shuffle=True, seed=4, workers=1)])
def test_loaders_go_on_where_they_were(path, make):
    model, history = run(data=make(), stop=False)
    for break_at in (8, 7, 11):
        with pytest.raises(Broken):
            run(path, data=make(), stop=False, break_at=break_at, checkpoint_every=2)
    other, resumed = run(path, data=make(), stop=False)
    assert equal(model.state_dict(), other.state_dict()) and timeless(history) == timeless(resumed)


@pytest.mark.parametrize("at", [3, 9, 16])
def test_ctrl_c_writes_a_checkpoint(path, at, keyboard):
    model, history = run()
    calls = []

    def press(output, target):
        calls.append(1)
        if len(calls) == at:
            signal.raise_signal(signal.SIGINT)
        return F.cross_entropy(output, target)

    _, partial = run(path, loss=press)
    assert partial.stopped == "interrupted" and len(partial) == at // 10
    state = load_checkpoint(path).state
    assert (state["epoch"], state["batch"]) == (at // 10, min(at % 10, 7))
    other, resumed = run(path)
    assert equal(model.state_dict(), other.state_dict()) and timeless(history) == timeless(resumed)


# ---- files ----


def test_a_checkpoint_is_a_safetensors_file(path):
    model, history = run(path, epochs=2)
    found = load_checkpoint(path)
    other = network(9)
    other.load_state_dict(found.best)
    assert equal(other.state_dict(), model.state_dict())
    assert evaluate(other, problem(20, 5))["loss"] == pytest.approx(min(history["val_loss"]), rel=1e-6)
    assert History.from_dict(found.state["history"]) == history
    metadata = fastnn.load_metadata(path)
    assert metadata["format"] == "fastnn checkpoint 1" and json.loads(metadata["state"]) == found.state
    assert {name.split(".")[0] for name in fastnn.load(path)} == {"model", "best", "optimizer", "rng"}
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def same_after_failure(path, text, **options):
    """The run raises a ValueError, and has changed neither the model, nor the optimiser, nor the random numbers."""
    seen = {}

    def make(model):
        seen["model"], seen["optimizer"] = model, options.get("make", adam)(model)
        seen["before"] = {name: x.copy() for name, x in model.state_dict().items()}
        seen["rng"] = fastnn.get_rng_state()
        return seen["optimizer"]

    content = path.read_bytes()
    with pytest.raises(ValueError, match=text):
        run(path, **{**options, "make": make})
    assert equal(seen["before"], seen["model"].state_dict())
    assert not seen["optimizer"].state
    assert np.array_equal(seen["rng"], fastnn.get_rng_state())
    assert all(group["lr"] == 0.02 for group in seen["optimizer"].param_groups)
    assert path.read_bytes() == content


def test_checkpoints_of_other_runs_are_refused(path, monkeypatch):
    run(path, epochs=1)
    refused = "run.safetensors: cannot resume from this checkpoint: "
    same_after_failure(path, refused + "optimizer: it has 'Adam', expected 'SGD'",
                       make=lambda m: optim.SGD(m.parameters(), lr=0.02))  # fmt: skip
    same_after_failure(path, refused + "scheduler: it has 'CosineAnnealingLR', expected 'StepLR'",
                       schedule=lambda o: optim.lr_scheduler.StepLR(o, 1))  # fmt: skip
    same_after_failure(path, refused + "early_stopping: it has True, expected False", stop=False)
    same_after_failure(path, refused + "EarlyStopping: monitor was 'val_loss', expected 'loss'",
                       early_stopping=EarlyStopping("loss", restore_best=True))  # fmt: skip
    same_after_failure(path, refused + "the History's names: it has .*, expected", metrics=None)
    same_after_failure(path, refused + "load_state_dict: batch_size is 8, expected 4", batch_size=4)
    same_after_failure(path, refused + "load_state_dict: seed is 3, expected 4", seed=1, data=DataLoader(
        problem(), 8, shuffle=True, seed=4))  # fmt: skip
    same_after_failure(path, refused + "Adam: state_dict has groups of ",
                       make=lambda m: optim.Adam([{"params": p} for p in m.parameters()], lr=0.02))  # fmt: skip
    monkeypatch.setattr(sys.modules[__name__], "network", lambda seed: nn.Sequential(nn.Linear(6, 3)))
    same_after_failure(path, refused + "load_state_dict: Sequential: (?s:.)*unexpected: ")


@pytest.mark.parametrize("fault", ["no checkpoint", "weights", "cut", "text", "state", "array", "rng", "keys", "dtype"])
def test_damaged_files_are_refused(path, fault):
    run(path, epochs=1)
    arrays, metadata = fastnn.load(path), fastnn.load_metadata(path)
    state = json.loads(metadata["state"])
    if fault == "no checkpoint":
        path.write_bytes(b"PK\3\4 is a pickle in a zip")
        same_after_failure(path, "run.safetensors: the header")
    elif fault == "weights":
        fastnn.save(path, network(1).state_dict())
        same_after_failure(path, "run.safetensors: format is a file without it, such as one of fastnn.save, expected")
    elif fault == "cut":
        path.write_bytes(path.read_bytes()[:-1])
        same_after_failure(path, "is the file cut off")
    elif fault == "text":
        for text in ("", "{", "[]", "3", "[" * 100_000):
            fastnn.save(path, arrays, {**metadata, "state": text})
            same_after_failure(path, "the state is no object of JSON")
    elif fault == "array":
        fastnn.save(path, {**arrays, "more": np.zeros(1)}, metadata)
        same_after_failure(path, "got an array 'more', expected one of model, optimizer, best")
        fastnn.save(path, {n: x for n, x in arrays.items() if n != "rng"}, metadata)
        same_after_failure(path, "got no array 'rng'")
    elif fault == "rng":
        fastnn.save(path, {**arrays, "rng": np.zeros(3, np.uint64)}, metadata)
        same_after_failure(path, r"set_rng_state: state has shape \(3,\)")
    elif fault == "keys":
        for key in state:
            fastnn.save(path, arrays, {**metadata, "state": json.dumps({k: v for k, v in state.items() if k != key})})
            same_after_failure(path, f"cannot resume from this checkpoint: '{key}' is missing")
        for key in state:
            for value in ("text", -1, [3], {"a": None}):
                if key == "seconds" and value == -1:
                    continue
                fastnn.save(path, arrays, {**metadata, "state": json.dumps({**state, key: value})})
                same_after_failure(path, "cannot resume from this checkpoint: ")
    elif fault == "dtype":
        name = "model.0.weight"
        fastnn.save(path, {**arrays, name: arrays[name].astype(np.float64)}, metadata)
        same_after_failure(path, "0.weight has dtype float64, expected float32")
        fastnn.save(path, {n: x for n, x in arrays.items() if not n.startswith("best")}, metadata)
        same_after_failure(path, "the weights of the best epoch are there or missing")
        fastnn.save(path, {n: x for n, x in arrays.items() if n != "optimizer.0.exp_avg"}, metadata)
        same_after_failure(path, "Adam: state of parameter 0 has")
    else:
        state["scheduler"]["state"].pop("T_max")
        fastnn.save(path, arrays, {**metadata, "state": json.dumps(state)})
        same_after_failure(path, "CosineAnnealingLR: state_dict has")


# ---- kills ----

PROGRAM = """
import json, os, signal, sys
sys.path.insert(0, sys.argv[4])
import fastnn
from fastnn import optim
from fastnn.train import EarlyStopping, fit
from train_support import adam, network, problem, timeless

path, kind, at = sys.argv[1], sys.argv[2], int(sys.argv[3])
calls = 0
def deadly(function, before=True):
    def call(*args, **kwargs):
        global calls
        calls += 1
        if before and calls == at:
            os.kill(os.getpid(), signal.SIGKILL)
        result = function(*args, **kwargs)
        if not before and calls == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    return call
if kind in ("fsync", "replace"):
    setattr(os, kind, deadly(getattr(os, kind)))
elif kind == "after replace":
    os.replace = deadly(os.replace, before=False)
elif kind == "step":
    optim.Adam.keep = deadly(optim.Adam.keep)  # between new parameters and the new state
model = network()
optimizer = adam(model)
history = fit(
    model, problem(), epochs=6, optimizer=optimizer, batch_size=8, seed=3, validation_data=problem(20, 5),
    scheduler=optim.lr_scheduler.ExponentialLR(optimizer, 0.9), gradient_statistics=2, metrics="accuracy",
    early_stopping=EarlyStopping(patience=10, restore_best=True), progress=False,
    checkpoint=path, checkpoint_every=1, resume=True,
)
fastnn.save(path + ".model", model.state_dict(), {"history": json.dumps(timeless(history), sort_keys=True)})
"""


def start(path, kind="none", at=0):
    environment = {**os.environ, "PYTHONPATH": str(Path(fastnn.__file__).parents[1])}
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(path), kind, str(at), str(Path(__file__).parent)],
        env=environment, cwd=path.parent, stderr=subprocess.PIPE,
    )  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The file that the program writes when nobody kills it."""
    path = tmp_path_factory.mktemp("undisturbed") / "run"
    with start(path) as process:
        assert process.wait() == 0, process.stderr.read().decode()
    return path.with_suffix(".model").read_bytes()


@posix
def test_kills_while_saving_and_in_the_middle_of_a_step(path, undisturbed):
    steps = [("replace", 1), ("fsync", 3), ("step", 9), ("after replace", 4), ("replace", 9), ("step", 2), ("fsync", 2)]
    for kind, at in steps:
        with start(path, kind, at) as process:
            assert process.wait() == -signal.SIGKILL, process.stderr.read().decode()
    with start(path) as process:
        assert process.wait() == 0, process.stderr.read().decode()
    assert Path(f"{path}.model").read_bytes() == undisturbed
