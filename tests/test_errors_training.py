"""Every argument of optimisers, loaders, fit, evaluate, predict, save and load, with values that are not of its kind:
TypeError or ValueError that names it, before anything is changed."""

import inspect

import numpy as np
import pytest

import fastnn
from fastnn import data, nn, optim, train

NAN, INF = float("nan"), float("inf")
WORDS = ["text", ("a", "b"), 1j, {}]
NUMBER = [*WORDS, None, True, -1, NAN, INF]
SWITCH = ["text", "", None, 1.5, (), {}, 1j]
COUNT = ["text", None, 1.5, True, NAN, -1, (), {}]
RATES = ["ab", None, 0.9, (0.9,), (0.9, 1.0), (-0.1, 0.9), (NAN, 0.9), ("a", "b"), {}, (0.9, 0.9, 0.9)]
PARAMS = [None, 1, "text", [], [1], [None], [np.ones(3, np.float32)], {}, [{}], [[]], fastnn.tensor([1.0])]
OPTIMISERS = {
    "SGD": {"lr": NUMBER, "momentum": NUMBER, "dampening": [*WORDS, None, True], "weight_decay": NUMBER,
            "nesterov": SWITCH, "maximize": SWITCH},
    "RMSprop": {"lr": NUMBER, "alpha": NUMBER, "eps": NUMBER, "weight_decay": NUMBER, "momentum": NUMBER,
                "centered": SWITCH, "maximize": SWITCH},
    "Adam": {"lr": NUMBER, "betas": RATES, "eps": NUMBER, "weight_decay": NUMBER, "amsgrad": SWITCH, "maximize": SWITCH,
             "decoupled_weight_decay": SWITCH},
    "AdamW": {"lr": NUMBER, "betas": RATES, "eps": NUMBER, "weight_decay": NUMBER, "amsgrad": SWITCH,
              "maximize": SWITCH},
}  # fmt: skip
LOADER = {
    "dataset": [None, 1, "text", {}, iter([])],
    "batch_size": [*COUNT, 0],
    "shuffle": SWITCH,
    "seed": ["text", None, 1.5, NAN, ()],
    "drop_last": SWITCH,
    "transform": [1, "text", (), {}],
    "workers": COUNT,
    "prefetch": [*COUNT, 0],
}
FIT = {
    "model": [None, 1, "text", len, []],
    "data": [None, 1, "text", (), {}, (1, 2), [1], (np.ones((3, 4), np.float32), np.zeros(2, np.int64))],
    "optimizer": [None, 1, "text", {}, []],
    "epochs": COUNT,
    "loss": [None, 1, "text", {}],
    "batch_size": [*COUNT, 0],
    "shuffle": SWITCH,
    "seed": ["text", 1.5, NAN, ()],
    "validation_data": [1, "text", {}, iter([])],
    "metrics": [1, "unknown", ["unknown"], [1], {1: "accuracy"}, {"a": 1}, {"loss": "accuracy"}],
    "scheduler": [1, "text", {}, []],
    "schedule_every": ["text", None, 1, ()],
    "clip_grad_norm": [*WORDS, True, 0, -1, NAN],
    "clip_grad_value": [*WORDS, True, 0, -1, NAN],
    "early_stopping": [1, "text", True, {}],
    "checkpoint": [1, 1.5, {}, [], "/nowhere/at/all"],
    "checkpoint_every": [1, "text", 1.5, True, 0, -1],
    "resume": ["text", 1.5, (), {}, True],
    "gradient_statistics": ["text", None, 1.5, -1, NAN],
    "on_nonfinite": ["text", None, 1, ()],
    "progress": [1, "text", 1.5, ()],
}


# What a message calls a part of an argument.
ALIASES = {"data": "x of a batch|a batch|y", "validation_data": "a batch", "metrics": "metric", "dataset": "arrays"}


def problem():
    """The arguments of fit that are right."""
    model = nn.Linear(4, 3)
    x, y = np.ones((6, 4), np.float32), np.arange(6) % 3
    return {"model": model, "data": (x, y), "optimizer": optim.SGD(model.parameters()), "progress": False}


def rows(table):
    return [(name, value) for name, values in table.items() for value in values]


def refused(call, name):
    with pytest.raises((TypeError, ValueError), match=rf"\b({name}|{ALIASES.get(name, name)})\b"):
        call()


def test_tables_are_complete():
    for name, table in OPTIMISERS.items():
        found = set(inspect.signature(getattr(optim, name)).parameters) - {"params", "switches"}
        assert table.keys() == found
    assert LOADER.keys() == set(inspect.signature(data.DataLoader).parameters)
    assert FIT.keys() == set(inspect.signature(train.fit).parameters)


@pytest.mark.parametrize("name", OPTIMISERS)
def test_optimiser(name):
    optimiser = getattr(optim, name)
    for option, value in rows(OPTIMISERS[name]):
        p = nn.Parameter(np.ones(3, np.float32))
        refused(lambda: optimiser([p], **{option: value}), option)  # noqa: B023
        refused(lambda: optimiser([{"params": [p], option: value}]), option)  # noqa: B023
    for params in PARAMS:
        refused(lambda: optimiser(params), "(params|group)")  # noqa: B023


@pytest.mark.parametrize("argument", LOADER)
def test_loader(argument):
    right = {"dataset": (np.ones((6, 4), np.float32), np.arange(6))}
    for value in LOADER[argument]:
        refused(lambda: data.DataLoader(**{**right, argument: value}), argument)  # noqa: B023


@pytest.mark.parametrize("argument", FIT)
def test_fit(argument):
    for value in FIT[argument]:
        arguments = problem()
        before = arguments["model"].weight.array.copy()
        refused(lambda: train.fit(**{**arguments, argument: value}), argument)  # noqa: B023
        np.testing.assert_array_equal(arguments["model"].weight.array, before)


@pytest.mark.parametrize("function", [train.evaluate, train.predict])
def test_evaluate_and_predict(function):
    right = {"model": problem()["model"], "data": problem()["data"]}
    if function is train.predict:
        right["data"] = right["data"][0]
    for argument, wrong in {
        "model": FIT["model"],
        "data": [None, 1, "text", {}],
        "batch_size": FIT["batch_size"],
    }.items():
        for value in wrong:
            refused(lambda: function(**{**right, argument: value}), argument)  # noqa: B023


@pytest.mark.parametrize("tensors", [None, 1, "text", [np.ones(3)], [("a", np.ones(3))]])
def test_save_no_dict(tensors, tmp_path):
    with pytest.raises(TypeError, match=r"^save: tensors must be a dict"):
        fastnn.save(tmp_path / "file", tensors)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [None, 1, "text", [1.0], np.ones(3, complex), np.array(["a"]), np.array([None])])
def test_save_no_array(value, tmp_path):
    with pytest.raises(TypeError, match=r"^save: tensor 'a'"):
        fastnn.save(tmp_path / "file", {"a": value})
    assert list(tmp_path.iterdir()) == []
