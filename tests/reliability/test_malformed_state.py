"""What is in files of the right format and is wrong: checkpoints, histories, states of optimisers, tables, shapes.

At every place of a valid JSON document stands, one after the other, each of WRONG: it is refused with a ValueError,
and nothing has changed; or it is taken, and then nothing that follows fails.
"""

import gzip
import json
import random
from math import inf, nan

import numpy as np
import pytest
from safetensors_support import outcome
from train_support import adam, equal, network, problem

import fastnn
from fastnn import optim
from fastnn.cli import main
from fastnn.data.packages import read_table
from fastnn.optim import flatten_state, lr_scheduler, unflatten_state
from fastnn.train import EarlyStopping, History, fit, load_checkpoint

WRONG = [None, "text", -1, 1.5, True, [], {}, [1], inf, nan, 10**30, 10**400, {"a": None}, "9" * 5000]


def places(document, at=()):
    """The ways to everything in a document, of lists to the first two elements."""
    yield at
    if isinstance(document, dict):
        items = document.items()
    else:
        items = enumerate(document[:2]) if isinstance(document, list) else ()
    for key, value in items:
        yield from places(value, (*at, key))


def replaced(document, at, value):
    """A copy with another value at this place; ... removes it."""
    if not at:
        return value
    copy = document.copy()
    if len(at) == 1 and value is ...:
        del copy[at[0]]
    else:
        copy[at[0]] = replaced(copy[at[0]], at[1:], value)
    return copy


def variants(document):
    """(place, value, document) with one fault."""
    for at in places(document):
        for value in WRONG + [...] * bool(at):
            yield at, value, replaced(document, at, value)


# ---- checkpoints ----

SCHEDULES = {
    "one cycle": lambda o: lr_scheduler.OneCycleLR(o, 0.1, total_steps=40),
    "plateau": lr_scheduler.ReduceLROnPlateau,
    "sequence": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.LinearLR(o), lr_scheduler.CosineAnnealingLR(o, 10)], [3]
    ),
}


def train(path, schedule, epochs):
    """(model, optimiser, run), which is begun by calling it."""
    model = network()
    optimizer = adam(model)

    def run():
        return fit(
            model, problem(), epochs=epochs, optimizer=optimizer, batch_size=8, seed=3, metrics=["accuracy"],
            validation_data=problem(20, 5), scheduler=SCHEDULES[schedule](optimizer), clip_grad_norm=1.0,
            early_stopping=EarlyStopping(patience=4, restore_best=True), gradient_statistics=3, checkpoint=path,
            resume=True, progress=False,
        )  # fmt: skip

    return model, optimizer, run


def of_the_schedule(error, at):
    """Steps that a schedule does not have, and rates at which nothing is learnt, show when it comes to them."""
    return str(error).startswith("OneCycleLR: this is step") or (
        isinstance(error, FloatingPointError) and "param_groups" in at
    )


@pytest.mark.timeout(1800)
@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_states_of_checkpoints(tmp_path, schedule, scaled):
    path = tmp_path / "run"
    train(path, schedule, 1)[2]()
    arrays, metadata = fastnn.load(path), fastnn.load_metadata(path)
    state = json.loads(metadata["state"])
    every = list(variants(state))
    refused = 0
    for at, value, wrong in random.Random(0).sample(every, scaled(60, len(every))):
        fastnn.save(path, arrays, {**metadata, "state": json.dumps(wrong)})
        model, optimizer, run = train(path, schedule, 2)
        weights = {name: x.copy() for name, x in model.state_dict().items()}
        rng = fastnn.get_rng_state()
        try:
            run()
        except (ValueError, FloatingPointError) as error:
            if of_the_schedule(error, at):
                continue
            assert str(error).startswith((f"fit: {path}: cannot resume", f"load_checkpoint: {path}: ")), (at, value)
            assert equal(weights, model.state_dict()) and not optimizer.state
            assert np.array_equal(rng, fastnn.get_rng_state())
            refused += 1
    assert refused > scaled(30, len(every) // 2)


@pytest.mark.parametrize("wrong", ["", "{", "[]", "3", "null", "NaN", "[" * 100_000, '{"a":' * 100_000, "9" * 100_000])
def test_states_that_are_no_objects(tmp_path, wrong):
    path = tmp_path / "run"
    train(path, "plateau", 1)[2]()
    fastnn.save(path, fastnn.load(path), {**fastnn.load_metadata(path), "state": wrong})
    with pytest.raises(ValueError, match="the state is no object of JSON"):
        load_checkpoint(path)


# ---- histories, optimisers ----


def test_histories():
    run = History()
    run.append({"epoch": 1, "loss": 2.0})
    run.append({"epoch": 2, "loss": 1.0})
    run.append_gradients(1, {"layer": {"norm": 1.0, "mean_abs": 0.5, "update_ratio": 0.1}})
    for at, value, wrong in variants(run.to_dict()):
        found = outcome(History.from_dict, wrong)
        if isinstance(found, ValueError):
            assert str(found) == "History.from_dict: got something else than History.to_dict returns"
        else:
            assert History.from_dict(json.loads(json.dumps(found.to_dict()))) == found or value in (nan, ...), at
            assert len(found) in (0, 2) and repr(found)


@pytest.mark.parametrize("make", [adam, lambda m: optim.SGD(m.parameters(), lr=0.1, momentum=0.9)])
def test_states_of_optimisers(make):
    model = network()
    optimizer = make(model)
    for p in model.parameters():
        p.grad = np.ones_like(p.array)
    optimizer.step()
    arrays, metadata = flatten_state(optimizer.state_dict())
    before, _ = flatten_state(optimizer.state_dict())
    before = {name: x.copy() for name, x in before.items()}
    refused = 0
    for at, value, wrong in variants(metadata):
        fresh = make(model)
        try:
            fresh.load_state_dict(unflatten_state(arrays, wrong))
        except (TypeError, ValueError) as error:
            assert not fresh.state and str(error), (at, value)
            refused += 1
        else:
            assert equal(flatten_state(fresh.state_dict())[0], before), (at, value)
    assert refused > 50


# ---- tables, shapes ----


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "no table of numbers"),
        (b"1,2\n3", "no table of numbers"),
        (b"1,x\n3,4", "no table of numbers"),
        (b"1,,2\n", "no table of numbers"),
        (b"1,nan\n", "numbers that are not in"),
        (b"1,inf\n", "numbers that are not in"),
        (b"-1,1\n", "numbers that are not in"),
        (b"256,1\n", "numbers that are not in"),
        (b"\xff\x00\n", "no table of numbers"),
    ],
)
def test_tables(tmp_path, text, said):
    path = tmp_path / "table.csv.gz"
    path.write_bytes(gzip.compress(text))
    with pytest.raises(ValueError, match=said):
        read_table(str(path))


@pytest.mark.parametrize(
    "damage", [lambda x: x[:-9], lambda x: x[:-8] + bytes(8), lambda x: b"PK" + x, lambda x: x[:3]]
)
def test_tables_that_are_no_gzip(tmp_path, damage):
    path = tmp_path / "table.csv.gz"
    path.write_bytes(damage(gzip.compress(b"1,2\n3,4\n")))
    with pytest.raises(ValueError, match="is not a whole gzip file"):
        read_table(str(path))


SHAPES = [{"op": "linear", "shapes": {"x": [4, 3], "w": [2, 3], "b": None}, "options": {}, "label": "small"}]


def test_shapes_of_bench(tmp_path, capsys):
    """A usage error, unless it is as good as the file that is bent; that is asked for with an operator that it has not,
    so that nothing is timed."""
    path = tmp_path / "shapes.json"
    texts = [json.dumps(wrong) for _, _, wrong in variants(SHAPES)]
    for text in [*texts, "", "[" * 100_000, '[{"op":"linear","shapes":{"more":[1]}}]', "\ufeff[]"]:
        path.write_text(text, encoding="utf-8")
        with pytest.raises(SystemExit) as error:
            main(["bench", "--shapes", str(path), "--filter", "relu", "--peers", "none"])
        said = capsys.readouterr().err
        assert error.value.code == 2
        assert (
            f"--shapes {path}: ValueError: " in said
            or f"--shapes {path}: JSONDecodeError: " in said
            or (said.endswith("no case to time\n"))
        )
    assert "ValueError" in said or "JSONDecodeError" in said


def test_shapes_that_are_no_text(tmp_path, capsys):
    path = tmp_path / "shapes.json"
    path.write_bytes(b"\xff\xfe[]")
    for place in (path, tmp_path, tmp_path / "missing"):
        with pytest.raises(SystemExit):
            main(["bench", "--shapes", str(place), "--peers", "none"])
        assert f"--shapes {place}: " in capsys.readouterr().err
