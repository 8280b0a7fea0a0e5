"""What is copied and sent to other processes: every layer, Tensors, optimisers, schedules, contexts of every operator,
prepared weights, histories, loaders, generators."""

import copy
import pickle
from functools import partial

import nn_support
import numpy as np
import pytest
from process_support import Small, samples
from support import assert_same_bits, each_spec
from test_nn_layers import LOSSES, SAME

import fastnn
import fastnn.functional as F
from fastnn import data, nn, ops, optim, train
from fastnn.nn.module import untracked
from fastnn.registry import flat
from fastnn.verify import Problem

PROTOCOLS = range(2, pickle.HIGHEST_PROTOCOL + 1)
CLONES = {"copy": copy.deepcopy} | {f"pickle {n}": lambda x, n=n: pickle.loads(pickle.dumps(x, n)) for n in PROTOCOLS}
clones = pytest.mark.parametrize("clone", CLONES.values(), ids=CLONES)

X3, X4 = (2, 3, 11), (2, 3, 8, 8)

# The rest of fastnn.nn: how to make one, and the shapes of its inputs, or the inputs.
OTHERS = {
    "AdditiveAttention": (lambda: nn.AdditiveAttention(4, 4, 3), ((2, 5, 4), (2, 6, 4))),
    "Conv1d": (lambda: nn.Conv1d(3, 4, 3), (X3,)),
    "Conv2d": (lambda: nn.Conv2d(3, 4, 3), (X4,)),
    "ConvTranspose1d": (lambda: nn.ConvTranspose1d(3, 4, 3), (X3,)),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(3, 4, 3), (X4,)),
    "DotAttention": (lambda: nn.DotAttention(), ((2, 5, 4), (2, 6, 4))),
    "Embedding": (lambda: nn.Embedding(7, 3), (np.array([[1, 6, 0]]),)),
    "Hardmax": (lambda: nn.Hardmax(), ((5, 6),)),
    "JSDivergence": (lambda: nn.JSDivergence(), (np.full((2, 4), 0.25, np.float32), np.eye(2, 4, dtype=np.float32))),
    "ManyToMany": (lambda: nn.ManyToMany(nn.GRU(3, 4), nn.Linear(4, 2)), ((5, 2, 3),)),
    "ManyToOne": (lambda: nn.ManyToOne(nn.LSTM(3, 4), nn.Linear(4, 2)), ((5, 2, 3),)),
    "MaxUnpool1d": (lambda: nn.MaxUnpool1d(2), F.max_pool1d(np.ones(X3, np.float32), 2, return_indices=True)),
    "MaxUnpool2d": (lambda: nn.MaxUnpool2d(2), F.max_pool2d(np.ones(X4, np.float32), 2, return_indices=True)),
    "MinPool1d": (lambda: nn.MinPool1d(2), (X3,)),
    "MinPool2d": (lambda: nn.MinPool2d(2), (X4,)),
    "ModuleDict": (lambda: nn.ModuleDict({"a": nn.Linear(2, 3)}), ()),
    "ModuleList": (lambda: nn.ModuleList([nn.Linear(2, 3), nn.Tanh()]), ()),
    "MultiheadAttention": (lambda: nn.MultiheadAttention(4, 2), ((5, 2, 4),) * 3),
    "OneToMany": (lambda: nn.OneToMany(nn.RNN(3, 3), nn.Linear(3, 3)), ()),
    "Parallel": (lambda: nn.Parallel(nn.Conv2d(3, 2, 1), nn.MaxPool2d(3, 1, 1)), (X4,)),
    "Residual": (lambda: nn.Residual(nn.BatchNorm2d(3), relu=True), (X4,)),
    "Sequential": (lambda: nn.Sequential(nn.Linear(11, 2), nn.Dropout(0.5)), (X3,)),
    "SubSample2d": (lambda: nn.SubSample2d(2), (X4,)),
    "UpsampleZeros2d": (lambda: nn.UpsampleZeros2d(2), (X4,)),
    "Whiten": (lambda: nn.Whiten(3), ((9, 3),)),
}  # fmt: skip
BASES = {"Layer", "Module", "Parameter"}

PROBABILITIES = np.full((4, 5), 0.2, np.float32)
TARGETS = {"NLLLoss": np.zeros(4, np.int64)}
LAYERS = [
    *((f"{name} {i}", partial(getattr(nn, name), *args, **options), (shape,))
      for i, (name, args, options, shape) in enumerate(SAME)),
    *((name, getattr(nn, name), (PROBABILITIES, TARGETS.get(name, PROBABILITIES)))
      for name in dict.fromkeys(case[0] for case in LOSSES)),
    *((name, *row) for name, row in OTHERS.items()),
]  # fmt: skip


def test_no_layer_is_left_out():
    classes = {name for name in nn.__all__ if isinstance(getattr(nn, name), type)} - BASES
    assert {row[0].split()[0] for row in LAYERS} == classes


def outputs(layer, inputs):
    """Of a call on copies, by number."""
    fastnn.manual_seed(3)
    return dict(enumerate(nn_support.flat(untracked(layer(*map(np.copy, inputs)))))) if inputs else {}


@pytest.mark.parametrize(("make", "inputs"), [row[1:] for row in LAYERS], ids=[row[0] for row in LAYERS])
def test_layers(make, inputs):
    """A clone has the state, the mode and the results of the original, and shares no memory with it."""
    layer = make()
    rng = np.random.default_rng(0)
    inputs = [rng.standard_normal(x).astype(np.float32) if isinstance(x, tuple) else x for x in inputs]
    for mode in (True, False):
        layer.train(mode)
        twins = [clone(layer) for clone in CLONES.values()]
        want = outputs(layer, inputs)
        for twin in twins:
            assert (type(twin), repr(twin), twin.training) == (type(layer), repr(layer), mode)
            assert_same_bits(outputs(twin, inputs), want, repr(layer))
            assert_same_bits(twin.state_dict(), layer.state_dict(), repr(layer))
            for mine, other in zip(twin.state_dict().values(), layer.state_dict().values(), strict=True):
                assert not np.shares_memory(mine, other)


# ---- Tensors ----


@clones
@pytest.mark.parametrize("make", [fastnn.Tensor, nn.Parameter])
def test_leaves(clone, make):
    tensor = make(np.arange(6, dtype=np.float64).reshape(2, 3), requires_grad=True)
    (tensor * tensor).sum().backward()
    twin = clone(tensor)
    assert type(twin) is make and twin.requires_grad and twin.is_leaf
    assert_same_bits({"x": twin.data, "dx": twin.grad}, {"x": tensor.data, "dx": tensor.grad}, "clone")
    twin.sum().backward()
    assert (tensor.grad == 2 * tensor.data).all() and (twin.grad == 2 * tensor.data + 1).all()


@clones
def test_subclass_with_attributes(clone):
    tensor = Named(np.ones(3, np.float32))
    tensor.name = "a"
    assert clone([tensor, tensor])[1].name == "a"
    first, second = clone([tensor, tensor])
    assert first is second


class Named(fastnn.Tensor):
    pass


@clones
def test_results_of_operations_say_that_they_are_none(clone):
    """A copy took the whole graph along, did not know whether that had been freed, and backward then did nothing."""
    y = (fastnn.Tensor(np.ones(3, np.float32), requires_grad=True) * 2).sum()
    y.backward()
    with pytest.raises(RuntimeError, match=r"result of sum, expected a leaf; use detach\(\)"):
        clone(y)
    assert clone(y.detach()).item() == 6


def test_shallow_copies_share_versions():
    """Both see what either does to the memory that they share."""
    x = fastnn.Tensor(np.ones(3, np.float32), requires_grad=True)
    y = (x * x).sum()
    copy.copy(x).increment_version()
    with pytest.raises(RuntimeError, match="changed in place"):
        y.backward()


def test_a_copy_has_a_history_of_its_own():
    """It remembered where changes of the original had been, and took everything in between for changed by its own."""
    x = fastnn.Tensor(np.ones(3, np.float32), requires_grad=True)
    x.increment_version()
    assert copy.deepcopy(x)._version == 0


# ---- training ----


def step(model, optimizer, scheduler):
    x, y = samples()
    F.cross_entropy(model(fastnn.Tensor(x)), y).backward()
    optimizer.step()
    scheduler.step()


@clones
@pytest.mark.parametrize("make", [optim.SGD, optim.Adam, optim.AdamW, optim.RMSprop])
def test_training_goes_on_in_a_clone(clone, make):
    """Of model, optimiser, schedule and random numbers together: their references to each other are kept."""
    options = {"momentum": 0.9} if make in (optim.SGD, optim.RMSprop) else {}
    model = Small()
    optimizer = make(model.parameters(), lr=1e-3, **options)
    run = model, optimizer, optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
    step(*run)
    twin, state = clone((run, fastnn.get_rng_state()))
    step(*run)
    fastnn.set_rng_state(state)
    step(*twin)
    assert_same_bits(twin[0].state_dict(), model.state_dict(), make.__name__)
    assert twin[1].param_groups[0]["lr"] == optimizer.param_groups[0]["lr"]


@clones
def test_generators(clone):
    generator = fastnn.Generator(7)
    generator.draw()
    twin = clone(generator)
    assert [twin.draw(), twin.draw()] == [generator.draw(), generator.draw()] == [(7, 1), (7, 2)]


@clones
def test_loaders_and_histories(clone):
    loader = data.DataLoader(samples(), batch_size=5, shuffle=True, workers=1)
    model = nn.Sequential(nn.Flatten(), nn.Linear(128, 3))
    history = train.fit(
        model, loader, optimizer=optim.SGD(model.parameters(), lr=0.1), loss=F.cross_entropy, epochs=2, progress=None
    )
    assert clone(history).values == history.values
    for ours, theirs in zip(loader, clone(loader), strict=True):
        assert_same_bits(dict(enumerate(theirs)), dict(enumerate(ours)), "batch")


# ---- operators ----


@clones
@each_spec(lambda spec: bool(spec.grads))
def test_contexts(clone, spec):
    """The backward pass goes on in a clone of the context."""
    problem = Problem(spec, spec.cases[0])
    results, ctx = spec.forward(ops, problem.arguments(), problem.case.options)
    dy = spec.draw_dy(results)
    ctx, twin = ctx, clone(ctx)
    want = flat(spec.backward(ops, dy, ctx))
    assert_same_bits(flat(spec.backward(ops, dy, twin)), want, spec.name)


@clones
def test_prepared_weights(clone):
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal(shape).astype(np.float32) for shape in ((2, 3, 9, 9), (4, 3, 3, 3)))
    prepared = ops.prepare_conv2d(w)
    twin = clone(prepared)
    assert_same_bits({"y": ops.conv2d_forward(x, twin)[0]}, {"y": ops.conv2d_forward(x, prepared)[0]}, "prepared")
