"""Python threads share Modules, train models of their own, take gradients in shared parameters, use files."""

import threading
from copy import deepcopy

import numpy as np
import pytest
from support import assert_same_bits
from threads_support import THREADS, in_threads

import fastnn
from fastnn import functional as F
from fastnn import nn, optim, serialize
from fastnn.data import DataLoader
from fastnn.verify import forced


def images(n=4, seed=0):
    return np.random.default_rng(seed).standard_normal((n, 6, 12, 11)).astype(np.float32)


def sequences(seed=0):
    return np.random.default_rng(seed).standard_normal((3, 7, 10)).astype(np.float32)


def convolutional():
    return nn.Sequential(
        nn.Conv2d(6, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.Conv2d(16, 8, 1), nn.ReLU(),
        nn.Flatten(), nn.Dropout(), nn.Linear(8 * 6 * 5, 5), nn.LogSoftmax(1),
    )  # fmt: skip


class LastState(nn.Module):
    """A user's Module, whose forward is written for Tensors."""

    def __init__(self, layer):
        self.layer, self.head = layer, nn.Linear(12, 4)

    def forward(self, x):
        y, _ = self.layer(x)
        return F.tanh(self.head(y[:, -1] * 2.0))


class Attending(nn.Module):
    def __init__(self):
        self.attention, self.norm = nn.MultiheadAttention(10, 2, batch_first=True), nn.LayerNorm(10)

    def forward(self, x):
        return self.norm(x + self.attention(x, x, x)[0])


MODELS = {
    "convolutional": (convolutional, images),
    "fused": (lambda: nn.fuse(convolutional().eval()), images),
    "LSTM": (lambda: LastState(nn.LSTM(10, 12, 2, batch_first=True)), sequences),
    "GRU": (lambda: LastState(nn.GRU(10, 12, batch_first=True)), sequences),
    "attention": (Attending, sequences),
}


@pytest.fixture(autouse=True)
def seed():
    fastnn.manual_seed(0)


@pytest.mark.parametrize("name", MODELS)
def test_eight_threads_share_a_model(name, scaled):
    """In inference, first use included: of a fresh copy each time, whose convolutions have prepared no filters yet."""
    make, inputs = MODELS[name]
    model = make().eval()
    xs = [inputs(seed=i) for i in range(3)]
    wants = [model(x) for x in xs]
    for _ in range(scaled(3, 60)):
        shared = deepcopy(model)
        with forced(threads=2):

            def work(thread, shared=shared):
                for call in range(scaled(5, 20)):
                    i = (thread + call) % len(xs)
                    assert_same_bits({"y": shared(xs[i])}, {"y": wants[i]}, name)

            in_threads(work)


def random_state(model, seed):
    rng = np.random.default_rng(seed)
    return {name: rng.uniform(0.1, 1, x.shape).astype(x.dtype) for name, x in model.state_dict().items()}


def load_all(model, seed):
    model.load_state_dict(random_state(model, seed))


def write_in_place(model, seed):
    """To arrays that were handed out, behind the Tensors' backs."""
    for name, x in random_state(model, seed).items():
        model.state_dict()[name][...] = x


def replace_arrays(model, seed):
    state = random_state(model, seed)
    for name, parameter in model.named_parameters():
        parameter.data = state[name]
    for name, x in model.named_buffers():
        x[...] = state[name]


@pytest.mark.parametrize("change", [load_all, write_in_place, replace_arrays])
def test_a_change_between_calls_is_seen_by_all_threads(change, scaled):
    """One thread changes the weights, then all call: nobody uses filters that were prepared before."""
    model, fresh, x = convolutional().eval(), convolutional().eval(), images()
    rounds = scaled(6, 300)
    wants = []
    for i in range(rounds):
        fresh.load_state_dict(random_state(fresh, i))
        wants.append(deepcopy(fresh)(x))
    barrier = threading.Barrier(THREADS)

    def work(thread):
        for i in range(rounds):
            barrier.wait(60)
            if thread == i % THREADS:
                change(model, i)
            barrier.wait(60)
            for _ in range(3):
                assert_same_bits({"y": model(x)}, {"y": wants[i]}, f"round {i}")

    in_threads(work)


def test_streams_of_one_layer(scaled):
    """A Stream belongs to a thread, the layer to all."""
    layer = nn.LSTM(10, 12, 2, batch_first=True)
    x = sequences()

    def steps(_):
        stream = layer.stream(3)
        return np.stack([stream.step(np.ascontiguousarray(x[:, t])).copy() for t in range(7)] * scaled(2, 50))

    want = steps(0)
    for got in in_threads(steps):
        assert_same_bits({"h": got}, {"h": want}, "stream")


def train(seed):
    """A model, trained alone: its weights, drawn and dropped out by its own generator."""
    generator = fastnn.Generator(seed)
    layers = [nn.Linear(20, 30), nn.Linear(30, 30), nn.Linear(30, 3)]
    for layer in layers:
        for parameter in layer.parameters():
            fastnn.init.uniform_(parameter, -0.3, 0.3, generator=generator)
    model = nn.ModuleList(layers)
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    rng = np.random.default_rng(seed)
    x, target = rng.standard_normal((96, 20)).astype(np.float32), rng.integers(0, 3, 96)
    for _ in range(4):
        for xs, ts in DataLoader((x, target), 32, shuffle=True, seed=seed, workers=1):
            y = F.relu(layers[0](fastnn.tensor(xs)))
            y = F.dropout(F.tanh(layers[1](y)), 0.3, generator=generator)
            optimizer.zero_grad()
            F.cross_entropy(layers[2](y), ts).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
    return {name: x.copy() for name, x in model.state_dict().items()}


def test_models_that_train_in_threads_become_what_they_become_alone(scaled):
    """Initialisation, batches by a thread each, dropout, gradients, clipping, Adam: bit for bit."""
    want = [train(seed) for seed in range(THREADS)]
    assert not np.array_equal(want[0]["0.weight"], want[1]["0.weight"])
    with forced(threads=2):
        for _ in range(scaled(1, 30)):
            for seed, got in enumerate(in_threads(train)):
                assert_same_bits(got, want[seed], f"seed {seed}")


def test_gradients_of_threads_add_up(scaled):
    """Graphs of their own that end in the same parameters: no gradient is lost. Integers, so that the order of the sum,
    which is not determined, changes no bit; so large that NumPy releases Python's lock while it adds."""
    w = fastnn.tensor(np.ones((300, 400), np.float32), requires_grad=True)
    b = fastnn.tensor(np.ones(300, np.float32), requires_grad=True)
    x = np.random.default_rng(0).integers(-3, 4, (5, 400)).astype(np.float32)
    calls = scaled(25, 1000)

    def work(thread):
        for _ in range(calls):
            F.linear(fastnn.tensor(x), w, b).sum().backward()

    for _ in range(2):
        w.grad = b.grad = None
        in_threads(work)
        n = np.float32(THREADS * calls)
        assert (b.grad == 5 * n).all()
        assert (w.grad == x.sum(0) * n).all()


def test_long_graphs_are_gone_through_in_order_in_all_threads():
    """Nodes are numbered across threads. A number that is used twice, or smaller than an earlier one, would take an
    operation before all its users have given it their gradients."""

    def work(thread):
        x = fastnn.tensor(np.full(2, 1.0 + thread), requires_grad=True)
        y = x
        for _ in range(300):
            y = y * 0.5 + F.relu(y) * 0.5  # y itself, used twice
        y.sum().backward()
        return x.grad

    for grad in in_threads(work):
        assert (grad == 1).all()


def test_files_are_read_and_written_at_once(tmp_path, scaled):
    """To one path: whoever reads finds one of the files whole; and no temporary file is left."""
    states = [{"w": np.full((40, 50), i, np.float32), "b": np.full(3000, i)} for i in range(THREADS)]
    common = tmp_path / "common"
    serialize.save(common, states[0])

    def work(thread):
        own = tmp_path / str(thread)
        for _ in range(scaled(10, 300)):
            serialize.save(own, states[thread], {"thread": str(thread)})
            assert_same_bits(serialize.load(own), states[thread], "own file")
            serialize.save(common, states[thread])
            found = serialize.load(common)
            assert_same_bits(found, states[int(found["b"][0])], "common file")

    in_threads(work)
    assert sorted(path.name for path in tmp_path.iterdir()) == [*map(str, range(THREADS)), "common"]


def test_loaders_of_one_dataset():
    """One each, with a thread of its own; a DataLoader itself belongs to one thread."""
    x, y = np.arange(3000, dtype=np.float32).reshape(300, 10), np.arange(300)

    def batches(thread):
        loader = DataLoader((x, y), 16, shuffle=True, seed=5, workers=1 + thread % 2)
        return {
            f"{epoch}.{i}.{k}": a for epoch in range(3) for i, batch in enumerate(loader) for k, a in enumerate(batch)
        }

    want = batches(0)
    for got in in_threads(batches):
        assert_same_bits(got, want, "batches")
