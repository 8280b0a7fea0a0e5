"""Models through fastnn.torch.accelerate: what must stay as it was, and networks as a whole."""

import copy
import io
import pickle
import threading

import networks
import numpy as np
import pytest
from torch_support import agree, every_size, nn, noted_calls, torch

import fastnn
import fastnn.torch
from fastnn.torch import accelerate, calls, layers, restore

any_size, taken = pytest.fixture(every_size), pytest.fixture(noted_calls)


def cnn():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 3, padding=1, groups=2, bias=False), nn.GroupNorm(2, 8), nn.GELU(), nn.AdaptiveAvgPool2d(2),
        nn.Flatten(), nn.Dropout(0.2), nn.Linear(32, 5),
    )  # fmt: skip


class Tagger(nn.Module):
    """Words to labels, with an LSTM."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.words = nn.Embedding(20, 6)
        self.rnn = nn.LSTM(6, 7, 2, bidirectional=True, batch_first=True)
        self.norm = nn.LayerNorm(14)
        self.out = nn.Linear(14, 5)

    def forward(self, x):
        return self.out(self.norm(self.rnn(self.words(x))[0]).mean(1))


class Transformer(nn.Module):
    """Words to labels, with attention."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.words = nn.Embedding(20, 8)
        each = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True, activation="gelu")
        self.encoder = nn.TransformerEncoder(each, 2, enable_nested_tensor=False)
        self.out = nn.Linear(8, 5)

    def forward(self, x):
        return self.out(self.encoder(self.words(x)).mean(1))


def images():
    return torch.randn(6, 3, 8, 10, generator=torch.Generator().manual_seed(1))


def words():
    return torch.randint(20, (6, 9), generator=torch.Generator().manual_seed(1))


NETWORKS = {"CNN": (cnn, images), "LSTM": (Tagger, words), "attention": (Transformer, words)}
each_network = pytest.mark.parametrize("name", NETWORKS)


def trained(model, x, optimizer, steps=3):
    """The losses of some steps."""
    losses = []
    for step in range(steps):
        torch.manual_seed(step)  # dropout's
        loss = nn.functional.cross_entropy(model(x), torch.arange(len(x)) % 5)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return losses


@each_network
def test_training(name, any_size):
    """Losses, parameters, statistics; then the network in evaluation. float64, because the differences of rounding
    grow from step to step, not more than tenfold here."""
    make, data = NETWORKS[name]
    theirs, ours = make().double(), accelerate(make().double())
    x = data()
    x = x.double() if x.is_floating_point() else x
    losses = [trained(m, x, torch.optim.SGD(m.parameters(), lr=0.05, momentum=0.9)) for m in (theirs, ours)]
    assert losses[0][-1] < losses[0][0]
    agree(losses[1], losses[0], 10_000)
    agree([*ours.state_dict().values()], [*theirs.state_dict().values()], 10_000)
    theirs.eval(), ours.eval()
    with torch.no_grad():
        agree(ours(x), theirs(x), 10_000)


@pytest.mark.parametrize("batch", [1, 2])
def test_resnet18(batch, taken):
    """Convolutions by Winograd's algorithm are less exact, layer after layer: 1e-4 of the largest logit is
    side_by_side's bound."""
    torch.manual_seed(0)
    model = networks.resnet18(nn, classes=10).eval()
    x = torch.randn(batch, 3, 72, 56)
    with torch.inference_mode():
        want, got = model(x), accelerate(model)(x)
    assert (got - want).norm() <= 1e-4 * want.norm()
    assert all(taken) and len(taken) == 20 + 20 + 3


# ---- what stays ----


def test_a_copy_that_shares_everything():
    model = cnn()
    ours = accelerate(model)
    assert ours is not model and type(model[0]) is nn.Conv2d and type(ours[0]) is layers.Conv2d
    assert all(a is b for a, b in zip(ours.parameters(), model.parameters(), strict=True))
    assert all(a is b for a, b in zip(ours.buffers(), model.buffers(), strict=True))
    assert accelerate(model, inplace=True) is model and type(model[0]) is layers.Conv2d
    assert restore(model, inplace=True) is model and type(model[0]) is nn.Conv2d
    assert [type(m) for m in restore(ours).modules()] == [type(m) for m in cnn().modules()]
    assert type(ours[0]) is layers.Conv2d
    assert accelerate(ours)[0].weight is model[0].weight


@each_network
def test_names_and_classes(name):
    model = NETWORKS[name][0]()
    ours = accelerate(model)
    assert repr(ours) == repr(model)
    assert [n for n, _ in ours.named_modules()] == [n for n, _ in model.named_modules()]
    for a, b in zip(ours.modules(), model.modules(), strict=True):
        assert isinstance(a, type(b))
        assert vars(a).keys() == vars(b).keys()


@each_network
def test_state_dict_both_ways(name, any_size):
    make, data = NETWORKS[name]
    model, ours = make().eval(), accelerate(make()).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(1.5)
        assert [*ours.state_dict()] == [*model.state_dict()]
        ours(data())
        ours.load_state_dict(model.state_dict())
        agree(ours(data()), model(data()))
        other = make().eval()
        other.load_state_dict(ours.state_dict())
        agree(other(data()), model(data()))


def test_an_optimizer_of_before_goes_on(any_size):
    theirs, model = cnn().double(), cnn().double()
    x = images().double()
    optimizers = [torch.optim.SGD(m.parameters(), lr=0.05, momentum=0.9) for m in (theirs, model)]
    found = [trained(m, x, optimizer) for m, optimizer in zip((theirs, model), optimizers, strict=True)]
    ours = accelerate(model)
    found[0] += trained(theirs, x, optimizers[0])
    found[1] += trained(ours, x, optimizers[1])
    agree(found[1], found[0], 10_000)
    agree([*model.parameters()], [*theirs.parameters()], 10_000)


@pytest.mark.parametrize("how", ["deepcopy", "pickle", "torch.save"])
@each_network
def test_copies(name, how, any_size):
    make, data = NETWORKS[name]
    ours = accelerate(make()).eval()
    with torch.no_grad():
        want = ours(data())
        if how == "deepcopy":
            other = copy.deepcopy(ours)
        elif how == "pickle":
            other = pickle.loads(pickle.dumps(ours))
        else:
            file = io.BytesIO()
            torch.save(ours, file)
            file.seek(0)
            other = torch.load(file, weights_only=False)
        assert [type(m) for m in other.modules()] == [type(m) for m in ours.modules()]
        assert all(a is not b for a, b in zip(other.parameters(), ours.parameters(), strict=True))
        assert torch.equal(other(data()), want)
        for p in ours.parameters():
            p.zero_()
        assert torch.equal(other(data()), want)


def test_hooks(any_size):
    """They run, those of before and of afterwards, and keep what they refer to."""
    model = cnn()
    seen = []

    class Recorder:
        def __call__(self, module, args, output):
            seen.append(("result", output.shape))

    model[0].register_forward_hook(Recorder())
    model[4].register_forward_pre_hook(lambda module, args: seen.append(("input", args[0].shape)))
    model[4].register_full_backward_hook(lambda module, dx, dy: seen.append(("gradient", dx[0].shape)))
    ours = accelerate(model)
    ours[1].register_forward_hook(lambda module, args, output: output * 0)
    y = ours(images())
    assert torch.equal(y, y[:1].expand_as(y))  # but for dropout, whose rows are of zeros
    y.sum().backward()
    assert seen == [("result", (6, 8, 8, 10)), ("input", (6, 8, 4, 5)), ("gradient", (6, 8, 4, 5))]


def test_classes_of_others_stay():
    class Mine(nn.Linear):
        def forward(self, x):
            return super().forward(x) + 1

    model = nn.Sequential(Mine(3, 4), nn.Linear(4, 5), nn.utils.parametrizations.weight_norm(nn.Linear(5, 6)))
    ours = accelerate(model)
    assert [isinstance(m, layers.Accelerated) for m in ours] == [False, True, False]
    x = torch.rand(2, 3)
    agree(ours(x), model(x))


def test_shared_modules_and_tied_weights(any_size):
    shared = nn.Linear(4, 4)
    model = nn.Sequential(shared, nn.Tanh(), shared, nn.Linear(4, 4))
    model[3].weight = shared.weight
    ours = accelerate(model)
    assert ours[0] is ours[2] and ours[3].weight is ours[0].weight
    x = torch.rand(2, 4)
    results = []
    for m in (model, ours):
        shared.weight.grad = None
        m(x).square().sum().backward()
        results.append(shared.weight.grad)
    agree(results[1], results[0])


def test_arguments():
    with pytest.raises(TypeError, match=r"accelerate: model must be a torch\.nn\.Module, got int"):
        accelerate(3)
    with pytest.raises(TypeError, match=r"restore: model must be a torch\.nn\.Module, got function"):
        restore(cnn)
    with pytest.raises(TypeError, match="accelerate: inplace must be True or False, got 1"):
        accelerate(cnn(), 1)


# ---- packed weights ----

CHANGES = {
    "in place": lambda w, optimizer: w.mul_(2),
    "data": lambda w, optimizer: w.data.mul_(2),
    "other data": lambda w, optimizer: setattr(w, "data", w.data * 2),
    "an array": lambda w, optimizer: np.multiply(w.detach().numpy(), 2, out=w.detach().numpy()),
    "one element": lambda w, optimizer: w.data.view(-1)[-1:].add_(1),
    "optimizer": lambda w, optimizer: (setattr(w, "grad", torch.ones_like(w)), optimizer.step()),
}


@pytest.mark.parametrize("how", [*CHANGES, "load_state_dict", "another parameter"])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_changed_weights_are_seen(how, mode, taken):
    theirs, ours = (copy.deepcopy(cnn()[:1]) for _ in range(2))
    accelerate(ours, inplace=True)
    x = images()
    with mode():
        agree(ours(x), theirs(x))
    with torch.no_grad():
        for m in (theirs, ours):
            w = m[0].weight
            if how == "load_state_dict":
                m.load_state_dict({name: value + 1 for name, value in m.state_dict().items()})
            elif how == "another parameter":
                m[0].weight = nn.Parameter(w * 2)
            else:
                CHANGES[how](w, torch.optim.SGD([w], lr=1))
    with mode():
        agree(ours(x), theirs(x))
    assert taken == [True, True]


def test_training_gives_packed_weights_back(any_size):
    ours = accelerate(nn.Sequential(nn.Conv2d(3, 4, 3)))
    with torch.no_grad():
        ours(images())
    assert isinstance(vars(ours[0])["packed"], calls.Packed)
    ours(images())
    assert "packed" not in vars(ours[0])
    with torch.no_grad():
        ours(images())
    assert "packed" not in vars(restore(ours)[0])


# ---- threads ----


def test_number_of_threads_is_pytorchs():
    before = torch.get_num_threads(), fastnn.get_num_threads()
    try:
        torch.set_num_threads(3)
        ours = accelerate(nn.Sequential(nn.Linear(1024, 1024)))
        assert fastnn.get_num_threads() == 3
        torch.set_num_threads(2)
        ours(torch.rand(8, 1024))
        assert fastnn.get_num_threads() == 2
        fastnn.set_num_threads(1)  # counts until PyTorch's number changes again
        ours(torch.rand(8, 1024))
        assert fastnn.get_num_threads() == 1
    finally:
        torch.set_num_threads(before[0])
        fastnn.set_num_threads(before[1])


def test_calls_from_several_threads(scaled, any_size):
    """Inference and training at once, on the same parameters."""
    model = accelerate(cnn()).eval()
    x = images()

    def gradients():
        y = model(x)
        return [y.detach(), *torch.autograd.grad(y.square().sum(), [*model.parameters()])]

    def inference():
        with torch.no_grad():
            return [model(x)]

    tasks = [gradients, inference, gradients, inference]
    wants = [task() for task in tasks]
    failures = []

    def work(task, want):
        for _ in range(scaled(10, 500)):
            failures.extend(task for a, b in zip(task(), want, strict=True) if not torch.equal(a, b))

    threads = [threading.Thread(target=work, args=each) for each in zip(tasks, wants, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


# ---- import ----


def test_import_needs_pytorch(python):
    """Without it, the error says what to install."""
    program = "import sys; sys.modules['torch'] = None\nimport fastnn.torch"
    run = python("-c", program)
    assert "fastnn.torch needs PyTorch: pip install 'fastnn[torch]'" in run.stderr
    assert python("-c", "import fastnn, sys; assert 'torch' not in sys.modules").returncode == 0
