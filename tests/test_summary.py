"""fastnn.summary: tables of shapes, parameters and multiply-adds, and that looking changes nothing."""

import threading

import numpy as np
import pytest
from networks import alexnet, resnet18, vgg16
from support import each_case

import fastnn
from fastnn import Tensor, nn, ops
from fastnn import functional as F
from fastnn.autograd import call
from fastnn.inspection.trace import Trace, observe
from fastnn.registry import specs

# ---- known numbers ----


@pytest.mark.parametrize(
    ("make", "parameters", "multiply_adds"),
    [(vgg16, 138_357_544, 15.47e9), (alexnet, 61_100_840, 0.71e9), (resnet18, 11_689_512, 1.81e9)],
)
def test_networks(make, parameters, multiply_adds):
    """The numbers of the papers and of torchvision, for an image of 224 x 224."""
    found = fastnn.summary(make(), (1, 3, 224, 224))
    assert (found.parameters, found.trainable) == (parameters, parameters)
    assert abs(found.multiply_adds - multiply_adds) <= 0.005e9
    assert found.input_bytes == 4 * 3 * 224 * 224
    assert found.parameter_bytes == 4 * parameters
    assert sum(row.parameters for row in found.rows) == parameters
    assert found.rows[-1].outputs == [(1, 1000)]
    assert max(map(len, str(found).splitlines())) <= 110


def test_text():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Sequential(nn.Flatten(), nn.Linear(32, 1000)))
    assert str(fastnn.summary(model, (2, 3, 4, 4))).splitlines() == [
        "─" * 71,
        "Module            Input         Output        Parameters  Multiply-adds",
        "─" * 71,
        "Sequential        [2, 3, 4, 4]  [2, 1000]              –              –",
        "├─ 0: Conv2d      [2, 3, 4, 4]  [2, 8, 2, 2]         224          1,728",
        "├─ 1: ReLU        [2, 8, 2, 2]  [2, 8, 2, 2]           –              –",
        "└─ 2: Sequential  [2, 8, 2, 2]  [2, 1000]              –              –",
        "   ├─ 0: Flatten  [2, 8, 2, 2]  [2, 32]                –              –",
        "   └─ 1: Linear   [2, 32]       [2, 1000]         33,000         64,000",
        "─" * 71,
        "Parameters: 33,224, trainable 33,224, frozen 0",
        "Multiply-adds: 65,728",
        "Size (MB): input 0.00, forward 0.01, parameters 0.13, together 0.14",
        "─" * 71,
    ]


def test_frozen_text():
    model = nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 200))
    model[0].requires_grad_(False)
    model[1].bias.requires_grad = False
    text = str(fastnn.summary(model, (1, 4)))
    assert " 25 frozen " in text
    assert " 1,200, 200 frozen " in text
    assert "Parameters: 1,225, trainable 1,000, frozen 225" in text


@each_case(lambda spec: spec.products)
def test_multiply_adds(spec, case):
    """Half of the operations that the spec counts, whatever way the arguments come."""
    arrays = spec.inputs(case)
    for tensors in (False, True):
        seen = Trace(nn.Module())
        before = observe(seen)
        try:
            first, *others = (Tensor(x) if tensors and x is not None else x for x in arrays.values())
            call(spec.function(ops), first, **dict(zip(list(arrays)[1:], others, strict=True)), **case.options)
        finally:
            observe(before)
        [operation] = seen.operations
        assert 2 * operation.multiply_adds() == spec.work(case, 4).flops


def test_products():
    """The operations of operators with matrices of weights, and of attention by products, are multiply-adds; a new one
    has to say so."""
    weighted = {name for name, spec in specs().items() if {"w", "w_ih"} & spec.cases[0].shapes.keys()}
    assert weighted >= {"conv1d", "conv2d", "conv_transpose2d", "linear", "lstm", "lstm_step"}
    attention = {name for name in specs() if name.startswith("scaled_dot_product")}
    assert {name for name, spec in specs().items() if spec.products} == weighted | attention | {"matmul"}


class Prepared(nn.Module):
    def __init__(self):
        self.filters = ops.prepare_conv2d(np.ones((4, 3, 3, 3), np.float32))

    def forward(self, x):
        return F.conv2d(x, self.filters)


def test_prepared():
    assert fastnn.summary(Prepared(), (2, 3, 5, 6)).multiply_adds == 2 * 4 * 3 * 4 * 27


class Products(nn.Module):
    def forward(self, a, b, v):
        return (a @ b) @ v


def test_batched_product():
    a, b, v = (np.ones(s, np.float32) for s in ((5, 1, 2, 3), (4, 3, 7), (7,)))
    found = fastnn.summary(Products(), input_data=(a, b, v))
    assert found.multiply_adds == 5 * 4 * 2 * 3 * 7 + 5 * 4 * 2 * 7
    assert found.rows[0].inputs == [(5, 1, 2, 3), (4, 3, 7), (7,)]
    assert found.rows[0].outputs == [(5, 4, 2)]


def test_recurrent():
    """Results in tuples of tuples; the products of both directions and layers."""
    found = fastnn.summary(nn.LSTM(5, 7, num_layers=2, bidirectional=True), (6, 3, 5))
    assert found.multiply_adds == 2 * 6 * 3 * 4 * 7 * ((5 + 7) + (14 + 7))
    assert found.rows[0].outputs == [(6, 3, 14), (4, 3, 7), (4, 3, 7)]
    assert found.parameters == 2 * 4 * 7 * ((5 + 7 + 2) + (14 + 7 + 2))


# ---- rows ----


class Odd(nn.Module):
    """Functions instead of layers, a Module called twice, one never called, weights used by their owner's owner."""

    def __init__(self):
        self.kernel = nn.Parameter(np.ones((4, 3, 3, 3), np.float32))
        self.act = nn.ReLU()
        self.blocks = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])
        self.blocks[1].weight = self.blocks[0].weight
        self.unused = nn.Linear(5, 6)
        self.inner = nn.Sequential(nn.Linear(4, 2))
        self.blocks[0].bias.requires_grad = False

    def forward(self, x, scale=None):
        x = self.act(F.conv2d(x, self.kernel)).mean((2, 3))
        x = self.blocks[1](self.act(self.blocks[0](x)))
        return {"y": F.linear(x, self.inner[0].weight), "pair": (x, x * 2)}


def test_rows():
    found = fastnn.summary(Odd(), (2, 3, 6, 5))
    assert [(row.path, row.name, row.kind, row.depth) for row in found.rows] == [
        ("", "", "Odd", 0),
        ("act", "act", "ReLU", 1),
        ("blocks.0", "blocks.0", "Linear", 1),
        ("act", "act", "ReLU", 1),
        ("blocks.1", "blocks.1", "Linear", 1),
        ("unused", "unused", "Linear", 1),
        ("inner.0", "inner.0", "Linear", 1),
    ]
    assert [(row.parameters, row.trainable, row.recursive) for row in found.rows] == [
        (108, 108, False),
        (0, 0, False),
        (20, 16, False),
        (0, 0, False),
        (4, 4, True),
        (36, 36, False),
        (10, 10, False),
    ]
    assert [row.multiply_adds for row in found.rows] == [2 * 4 * 27 * 12 + 2 * 4 * 2, 0, 32, 0, 32, 0, 0]
    assert [row.outputs for row in found.rows] == [
        [(2, 2), (2, 4), (2, 4)], [(2, 4, 4, 3)], [(2, 4)], [(2, 4)], [(2, 4)], None, None,
    ]  # fmt: skip
    assert (found.parameters, found.trainable) == (178, 174)
    # Of the operators' results: convolution, ReLU, mean, linear, ReLU, linear, linear, times.
    assert found.forward_bytes == 4 * 2 * (48 + 48 + 4 + 4 + 4 + 4 + 2 + 4)


def test_recursive():
    """A Module that is called again has its parameters in its first row."""
    layer = nn.Linear(3, 3)
    found = fastnn.summary(nn.Sequential(layer, nn.Sequential(layer, nn.ReLU()), layer), (2, 3))
    assert [(row.name, row.parameters, row.recursive) for row in found.rows] == [
        ("", 0, False), ("0", 12, False), ("1", 0, False), ("0", 0, True), ("1", 0, False), ("0", 0, True),
    ]  # fmt: skip
    assert (found.parameters, found.multiply_adds) == (12, 3 * 18)
    assert str(found).count("(recursive)") == 2


def test_depth():
    """What is deeper counts to the last row shown."""
    model = resnet18()
    whole = fastnn.summary(model, (1, 3, 32, 32))
    for depth in range(3):
        part = fastnn.summary(model, (1, 3, 32, 32), depth=depth)
        assert {row.depth for row in part.rows} == set(range(depth + 1))
        assert sum(row.parameters for row in part.rows) == whole.parameters
        assert part.multiply_adds == whole.multiply_adds
    assert len(part.rows) < len(whole.rows)


def test_not_run():
    """Without an input: parameters alone."""
    found = fastnn.summary(Odd())
    assert (found.parameters, found.multiply_adds, found.forward_bytes) == (178, 0, 0)
    assert [row.path for row in found.rows] == [
        "", "act", "blocks", "blocks.0", "blocks.1", "unused", "inner", "inner.0",
    ]  # fmt: skip
    assert all(row.inputs is None and row.outputs is None for row in found.rows)
    assert "Multiply-adds:" not in str(found)


# ---- inputs ----


class Two(nn.Module):
    def __init__(self):
        self.table = nn.Embedding(7, 4)
        self.fc = nn.Linear(4, 3)

    def forward(self, words, x):
        return self.fc(self.table(words).mean(1) + x)


def test_inputs():
    """Several inputs, integers, by name; and the dtype of the parameters."""
    model = Two().double()
    words, x = np.array([[1, 2], [3, 6]]), np.ones((2, 4))
    for given in (
        {"input_shape": [(2, 2), (2, 4)], "dtypes": [np.int64, np.float64]},
        {"input_shape": {"x": (2, 4), "words": (2, 2)}, "dtypes": ["float64", "int64"]},
        {"input_data": (words, x)},
        {"input_data": [words, Tensor(x)]},
        {"input_data": {"x": x, "words": words}},
    ):
        found = fastnn.summary(model, **given)
        assert sorted(found.rows[0].inputs) == [(2, 2), (2, 4)]
        assert (found.parameters, found.input_bytes, found.parameter_bytes) == (43, 96, 8 * 43)
        assert found.multiply_adds == 2 * 4 * 3
    assert fastnn.summary(nn.Linear(4, 3).double(), (5, 4)).input_bytes == 8 * 20
    assert fastnn.summary(nn.Linear(4, 3), input_data=np.ones((5, 4), np.float32)).multiply_adds == 60


# ---- nothing changes ----


class Busy(nn.Module):
    """Leaves traces wherever it can."""

    def __init__(self):
        self.register_buffer("steps", np.zeros(2))
        self.bn, self.drop = nn.BatchNorm2d(3), nn.Dropout()
        self.table = nn.Embedding(4, 5, max_norm=0.5)
        self.fails = False

    def forward(self, x, i):
        assert not self.training
        assert not self.bn.training
        self.steps += 1
        self.last, self.drop.p = x, 0.25
        F.dropout(x, 0.5, training=True)
        y = self.drop(self.bn(x)), self.table(i)
        if self.fails:
            raise RuntimeError("as told")
        return y


@pytest.mark.parametrize("fails", [False, True])
def test_untouched(fails):
    model = Busy()
    model.train()
    model.drop.eval()
    model.fails = fails
    model.bn(Tensor(np.random.default_rng(0).standard_normal((4, 3, 2, 2)).astype(np.float32)))
    before = [(vars(m), dict(vars(m))) for m in model.modules()]
    arrays = {name: x.copy() for name, x in model.state_dict().items()}
    random = fastnn.get_rng_state()
    inputs = {"input_shape": [(2, 3, 4, 4), (3,)], "dtypes": [np.float32, np.int64]}
    if fails:
        with pytest.raises(RuntimeError, match="as told"):
            fastnn.summary(model, **inputs)
    else:
        fastnn.summary(model, **inputs)
    for now, then in before:
        assert list(now) == list(then)
        assert all(now[name] is then[name] for name in then)
    for name, x in model.state_dict().items():
        np.testing.assert_array_equal(x, arrays[name])
    np.testing.assert_array_equal(fastnn.get_rng_state(), random)
    assert fastnn.is_grad_enabled()
    assert observe(None) is None


def test_own_forward():
    """A forward that was assigned to an instance is called, and stays."""
    model = nn.Sequential(nn.Linear(2, 2))
    model[0].forward = lambda x: F.relu(x)
    own = model[0].forward
    assert fastnn.summary(model, (1, 2)).multiply_adds == 0
    assert vars(model[0])["forward"] is own


class Threaded(nn.Module):
    """Another thread calls the same layer while this one does."""

    def __init__(self):
        self.fc = nn.Linear(3, 4)

    def forward(self, x):
        thread = threading.Thread(target=self.fc, args=(np.ones((50, 3), np.float32),))
        thread.start()
        thread.join()
        return self.fc(x)


def test_threads():
    found = fastnn.summary(Threaded(), (2, 3))
    assert [row.inputs for row in found.rows] == [[(2, 3)], [(2, 3)]]
    assert found.multiply_adds == 24


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"model": ops}, TypeError, "summary: model must be a fastnn.nn.Module, got module"),
        ({"input_shape": 5}, TypeError, "summary: input_shape must be"),
        ({"input_shape": (3.5, 2)}, TypeError, "summary: input_shape has 3.5"),
        ({"input_shape": (-1, 2)}, ValueError, "summary: input_shape has .* expected"),
        ({"input_shape": [(1, 2), "ab"]}, TypeError, "summary: input_shape has 'ab'"),
        ({"input_shape": (1, 2), "dtypes": ["float32"] * 2}, ValueError, "there are 2 dtypes, expected 1"),
        ({"input_shape": (1, 2), "input_data": np.ones(2)}, ValueError, "summary: input_data is given"),
        ({"input_data": np.ones(2), "dtypes": "float32"}, ValueError, "summary: input_data is given"),
        ({"depth": -1}, ValueError, "summary: depth is -1"),
    ],
)
def test_errors(options, error, match):
    with pytest.raises(error, match=match):
        fastnn.summary(**{"model": nn.Linear(2, 2), **options})


def test_import(python):
    """fastnn.summary and fastnn.lint are there, and cost nothing until they are used."""
    code = (
        "import sys, fastnn; assert 'fastnn.inspection' not in sys.modules; from fastnn import lint, summary; "
        "assert fastnn.summary is summary; assert {'lint', 'summary'} <= {*fastnn.__all__, *vars(fastnn)}; fastnn.none"
    )
    done = python("-c", code)
    assert done.stderr.endswith("AttributeError: module 'fastnn' has no attribute 'none'\n")
