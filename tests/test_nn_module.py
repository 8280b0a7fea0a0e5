"""Modules: what they consist of, their state, modes, text, containers, and how they are called; against torch where it
has the same."""

import copy
import pickle
import threading

import numpy as np
import pytest

from fastnn import Tensor, nn
from fastnn import functional as F


class Net(nn.Module):
    """A Module as users write it, with parameters, children and buffers of all kinds."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(np.array([2.0, 3.0, 4.0], np.float32))
        self.body = nn.Sequential(nn.Linear(5, 3), nn.ReLU(), nn.BatchNorm1d(3))
        self.absent = None
        self.register_buffer("count", np.zeros((), np.int64))
        self.register_buffer("scratch", np.ones(2, np.float32), persistent=False)
        self.register_buffer("nothing", None)

    def forward(self, x, times=1):
        for _ in range(times):
            y = self.body(x) * self.scale
        return y


def torch_net(torch):
    """The same in torch."""
    net = torch.nn.Module()
    net.scale = torch.nn.Parameter(torch.tensor([2.0, 3.0, 4.0]))
    net.body = torch.nn.Sequential(torch.nn.Linear(5, 3), torch.nn.ReLU(), torch.nn.BatchNorm1d(3))
    net.absent = None
    net.register_buffer("count", torch.tensor(0))
    net.register_buffer("scratch", torch.ones(2), persistent=False)
    net.register_buffer("nothing", None)
    return net


@pytest.fixture
def x():
    return np.random.default_rng(0).standard_normal((4, 5)).astype(np.float32)


def names(pairs):
    return [name for name, _ in pairs]


# ---- what it consists of ----


def test_names_are_torchs(torch):
    ours, theirs = Net(), torch_net(torch)
    for method in "named_parameters", "named_buffers", "named_modules", "named_children":
        assert names(getattr(ours, method)()) == names(getattr(theirs, method)()), method
    for method in "named_parameters", "named_buffers":
        for options in {"recurse": False}, {"prefix": "net"}:
            assert names(getattr(ours, method)(**options)) == names(getattr(theirs, method)(**options)), method
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert list(ours.state_dict(prefix="a.")) == list(theirs.state_dict(prefix="a."))
    assert len(list(ours.parameters())) == len(list(ours.parameters(recurse=False))) + 4 == 5
    assert [b is c for b, (_, c) in zip(ours.buffers(), ours.named_buffers(), strict=True)] == [True] * 5
    assert [type(m).__name__ for m in ours.modules()] == ["Net", "Sequential", "Linear", "ReLU", "BatchNorm1d"]


def test_shared_modules_and_parameters(torch):
    def shared(nn, module):
        module.a = nn.Linear(3, 3)
        module.b = module.a
        module.c = nn.Linear(3, 3)
        module.c.weight = module.a.weight
        return module

    ours, theirs = shared(nn, nn.Module()), shared(torch.nn, torch.nn.Module())
    for remove in True, False:
        for method in "named_parameters", "named_modules":
            got = names(getattr(ours, method)(remove_duplicate=remove))
            assert got == names(getattr(theirs, method)(remove_duplicate=remove)), (method, remove)
    assert names(ours.named_children()) == names(theirs.named_children()) == ["a", "c"]
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.double()
    assert ours.a.weight is ours.c.weight and ours.c.weight.dtype == np.float64


def test_get_by_path():
    net = Net()
    assert net.get_submodule("") is net and net.get_submodule("body.0") is net.body[0]
    assert net.get_parameter("body.0.weight") is net.body[0].weight and net.get_parameter("scale") is net.scale
    with pytest.raises(AttributeError, match=r"get_submodule: Sequential has no Module '9' of 'body.9'"):
        net.get_submodule("body.9")
    with pytest.raises(AttributeError, match=r"get_parameter: there is no Parameter 'body.1.weight'"):
        net.get_parameter("body.1.weight")


def test_attributes():
    net = Net()
    with pytest.raises(TypeError, match=r"Net: scale is a Parameter, expected another one or None, got ndarray"):
        net.scale = np.ones(3)
    assert isinstance(net.scale, nn.Parameter)
    net.scale = nn.Parameter(np.ones(2))
    net.scale = None
    assert names(net.named_parameters(recurse=False)) == []
    net.register_parameter("extra", nn.Parameter(np.ones(2)))
    net.add_module("head", nn.Linear(3, 2))
    assert [name for name in names(net.named_parameters()) if "body" not in name] == [
        "extra",
        "head.weight",
        "head.bias",
    ]
    del net.head
    assert names(net.named_children()) == ["body"]


def test_buffers():
    net = Net()
    net.scratch = Tensor(np.zeros(4, np.float32))
    assert isinstance(net.scratch, np.ndarray) and net.scratch.shape == (4,)
    for value in 3, [1.0]:
        with pytest.raises(TypeError, match="Net: scratch is a buffer, expected an ndarray or None, got"):
            net.scratch = value
    net.scratch = None
    assert "scratch" not in dict(net.named_buffers())
    with pytest.raises(TypeError, match="wrong is a buffer"):
        net.register_buffer("wrong", "text")
    net.wrong = "text"  # which it did not become


def test_parameter():
    data = np.ones(3, np.float32)
    p = nn.Parameter(data)
    assert p.data is data and p.requires_grad and p.is_leaf and p.size == 3
    assert not nn.Parameter(Tensor(data), requires_grad=False).requires_grad
    assert repr(p) == "Parameter containing:\ntensor([1., 1., 1.], requires_grad=True)"
    assert not isinstance(p * 2, nn.Parameter)
    with pytest.raises(TypeError, match="expected float32 or float64"):
        nn.Parameter(np.ones(3, np.int64))


# ---- state ----


def test_load_state_dict_of_torch(torch, x):
    ours, theirs = Net(), torch_net(torch)
    with torch.no_grad():
        for p in theirs.parameters():
            p.normal_()
    weight = ours.body[0].weight.data
    assert ours.load_state_dict(theirs.state_dict()) == ([], [])
    assert ours.body[0].weight.data is weight
    ours.eval()
    theirs.eval()
    want = (theirs.body(torch.tensor(x)) * theirs.scale).detach().numpy()
    np.testing.assert_allclose(ours(x), want, rtol=0, atol=2.0**-23 * 16 * np.abs(want).max())


def test_load_state_dict_rounds_and_takes_tensors():
    layer = nn.Linear(2, 1)
    weight = np.array([[0.1, 0.2]])
    layer.load_state_dict({"weight": weight, "bias": Tensor(np.ones(1, np.float32))})
    assert np.array_equal(layer.weight.data, weight.astype(np.float32)) and layer.bias.tolist() == [1]


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        (lambda s: s.pop("scale"), ValueError, "load_state_dict: Net: .*\n  missing: 'scale'"),
        (lambda s: s.update(more=np.ones(1)), ValueError, "unexpected: 'more'"),
        (lambda s: s.update(scale=np.ones(4)), ValueError, r"'scale' has shape \(4,\), expected \(3,\)"),
        (lambda s: s.update(scale=np.ones(3, complex)), TypeError, "scale has dtype complex128, expected float32"),
        (lambda s: s.update(count=np.array(1.5)), TypeError, "count has dtype float64, expected int64"),
        (lambda s: s.update(scale="text"), (TypeError, ValueError), "scale"),
    ],
)
def test_refused_state(change, error, said):
    net = Net()
    before = {key: a.copy() for key, a in net.state_dict().items()}
    state = {key: a + 1 for key, a in before.items()}
    change(state)
    with pytest.raises(error, match=said):
        net.load_state_dict(state)
    assert all(np.array_equal(a, before[key]) for key, a in net.state_dict().items())


def test_refused_state_names_all():
    with pytest.raises(ValueError, match=r"(?s)'weight' has shape.*missing: 'bias'.*unexpected: 'b', 'c'"):
        nn.Linear(2, 3).load_state_dict({"weight": np.ones(1), "b": np.ones(1), "c": np.ones(1)})


def test_not_strict():
    net = Net()
    missing, unexpected = net.load_state_dict({"scale": np.full(3, 7), "more": np.ones(1)}, strict=False)
    assert net.scale.tolist() == [7, 7, 7] and unexpected == ["more"] and missing[:2] == ["count", "body.0.weight"]
    with pytest.raises(ValueError, match="'scale' has shape"):
        net.load_state_dict({"scale": np.ones(2)}, strict=False)


def test_loading_counts_as_a_change(x):
    """A graph that was recorded before has other values than the parameters it would go back through."""
    layer = nn.Linear(5, 3)
    y = layer(Tensor(x, True)).sum()
    layer.load_state_dict({key: a + 1 for key, a in layer.state_dict().items()})
    with pytest.raises(RuntimeError, match="changed in place"):
        y.backward()


# ---- modes, dtypes, copies ----


def test_train_and_eval():
    net = Net()
    assert net.training and net.eval() is net
    assert not any(m.training for m in net.modules())
    net.train()
    assert all(m.training for m in net.modules())
    with pytest.raises(TypeError, match="train: mode must be True or False, got 'eval'"):
        net.train("eval")
    net.body.eval()
    assert net.training and not net.body[2].training


def test_apply_is_children_first(torch):
    def order(net):
        visited = []
        assert net.apply(lambda m: visited.append(type(m).__name__)) is net
        return visited

    assert order(Net())[:-1] == order(torch_net(torch))[:-1] == ["Linear", "ReLU", "BatchNorm1d", "Sequential"]


def test_gradients_of_parameters(x):
    net = Net()
    net(Tensor(x)).sum().backward()
    assert all(p.grad is not None for p in net.parameters())
    net.zero_grad(set_to_none=False)
    assert not any(p.grad.any() for p in net.parameters())
    net.zero_grad()
    assert all(p.grad is None for p in net.parameters())
    assert net.requires_grad_(False) is net and not net(Tensor(x)).requires_grad
    net.requires_grad_()
    assert net(Tensor(x)).requires_grad


def test_dtypes(x):
    net = Net()
    net(Tensor(x)).sum().backward()
    assert net.double() is net
    assert {a.dtype for a in net.state_dict().values()} == {np.dtype(np.float64), np.dtype(np.int64)}
    assert net.scratch.dtype == net.scale.grad.dtype == np.float64
    net(Tensor(x.astype(np.float64))).sum().backward()
    net.to(np.float32)
    assert net(x).dtype == np.float32 and net.scale.grad.dtype == np.float32
    with pytest.raises(TypeError, match="to: dtype is int64, expected float32 or float64"):
        net.to(np.int64)
    with pytest.raises(ValueError, match="to: got 'cuda', expected the device 'cpu', float32 or float64"):
        net.to("cuda")
    assert net.to("cpu") is net.cpu() is net and net.to("cpu", dtype=np.float64).scale.dtype == np.float64


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))], ids=["copy", "pickle"])
def test_copies(clone, x):
    net = Net().eval()
    net.tied = net.scale
    other = clone(net)
    assert list(other.state_dict()) == list(net.state_dict()) and not other.training
    assert np.array_equal(other(x), net(x))
    assert isinstance(other.scale, nn.Parameter) and other.tied is other.scale and other.scale is not net.scale
    other.scale.data[:] = 0
    assert net.scale.tolist() == [2, 3, 4]
    other.requires_grad_(False)
    assert net.scale.requires_grad
    assert "scratch" in dict(other.named_buffers()) and "scratch" not in other.state_dict()


# ---- calls ----


def test_arrays_in_arrays_out(x):
    net = Net()
    y, t = net.eval()(x), net(Tensor(x))
    assert isinstance(y, np.ndarray) and isinstance(t, Tensor) and np.array_equal(y, t.data) and t.requires_grad
    assert np.array_equal(net(x, times=2), y) and np.array_equal(net(x=x), y)


class Nested(nn.Module):
    """Takes and returns all that can be nested."""

    def forward(self, xs, named=None, flag=False):
        total = sum(xs, start=named["a"] if named else 0.0)
        return [total, {"first": xs[0], "flag": flag}, (total * 2, None)]


def test_nested_arguments(x):
    module = Nested()
    total, found, (double, nothing) = module([x, x], named={"a": x}, flag=True)
    assert isinstance(total, np.ndarray) and np.allclose(total, 3 * x) and np.allclose(double, 6 * x)
    assert isinstance(found["first"], np.ndarray) and found["flag"] is True and nothing is None
    total, found, _ = module([Tensor(x, True), Tensor(x)])
    assert isinstance(total, Tensor) and total.requires_grad and isinstance(found["first"], Tensor)
    total, _, _ = module([Tensor(x, True), x])
    assert isinstance(total, Tensor) and total.requires_grad


def test_named_tuples(x):
    """They stay what they are, on the way in and out."""

    class Largest(nn.Module):
        def forward(self, given):
            return given.values.max(1)

    y = Largest()(Tensor(x).max(1)._replace(values=x, indices=None))
    assert np.array_equal(y.values, x.max(1)) and np.array_equal(y.indices, x.argmax(1))
    assert isinstance(y.values, np.ndarray) and isinstance(y.indices, np.ndarray)


def test_mixed_arguments(x):
    class Sum(nn.Module):
        def forward(self, a, b):
            return F.add(a, b)

    a = Tensor(x, True)
    for y in Sum()(a, x), Sum()(x, b=a):
        assert isinstance(y, Tensor) and y.requires_grad


def test_without_forward():
    with pytest.raises(AttributeError, match="forward"):
        nn.Module()(1)


# ---- text ----


def test_repr_is_torchs(torch):
    def build(nn):
        return nn.Sequential(
            nn.Linear(2, 3),
            nn.Sequential(nn.ReLU(), nn.ModuleList([nn.Tanh(), nn.Flatten()])),
            nn.ModuleDict({"a": nn.Identity(), "b": nn.Sequential()}),
        )

    assert repr(build(nn)) == repr(build(torch.nn))
    assert repr(nn.ModuleList()) == repr(torch.nn.ModuleList()) == "ModuleList()"


def test_repr_of_repeated_modules(torch):
    """A ModuleList says once what it has several times in a row."""

    def build(nn):
        return nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2), nn.Sequential(nn.ReLU()), nn.Linear(2, 2)])

    assert repr(build(nn)) == repr(build(torch.nn))


def test_repr_with_extra():
    module = nn.Parallel(nn.ReLU(), nn.Tanh(), dim=-1)
    assert repr(module) == "Parallel(\n  dim=-1\n  (0): ReLU()\n  (1): Tanh()\n)"


# ---- containers ----


def kinds(modules):
    return [type(m).__name__ for m in modules]


def edit(nn, container):
    """What lists can do."""
    steps = [kinds(container)]
    container.append(nn.Tanh())
    steps.append(kinds(container))
    container.insert(1, nn.Flatten())
    steps.append(kinds(container))
    container.extend([nn.Identity(), nn.ReLU()])
    steps.append(kinds(container))
    container[0] = nn.GELU()
    container[-1] = nn.ELU()
    steps.append(kinds(container))
    del container[2]
    steps.append(kinds(container))
    del container[1:3]
    steps += [kinds(container), names(container.named_children()), len(container), kinds(container[-2:])]
    return [*steps, type(container[:2]).__name__, kinds([container[-1]])]


@pytest.mark.parametrize("name", ["Sequential", "ModuleList"])
def test_lists(torch, name):
    def build(nn):
        parts = nn.ReLU(), nn.Softplus(), nn.SiLU()
        return edit(nn, nn.Sequential(*parts) if name == "Sequential" else nn.ModuleList(parts))

    assert build(nn) == build(torch.nn)


def test_sequential(x):
    a, b = nn.Linear(5, 4), nn.Linear(4, 3)
    named = nn.Sequential({"first": a, "then": b})
    assert list(named.state_dict()) == ["first.weight", "first.bias", "then.weight", "then.bias"]
    assert np.array_equal(named(x), b(a(x))) and named.first is a
    assert nn.Sequential()(x) is not None and np.array_equal(nn.Sequential()(x), x)
    with pytest.raises(TypeError, match="Sequential: expected Modules, got function"):
        nn.Sequential(a, lambda x: x)
    with pytest.raises(IndexError):
        named[2]
    assert list(named[1:].state_dict()) == ["then.weight", "then.bias"]
    assert names(named.append(nn.ReLU()).named_children()) == ["first", "then", "2"]
    assert names(named[1:].append(nn.ELU()).extend([nn.Tanh()]).named_children()) == ["then", "2", "3", "4"]


def test_refused_edit_changes_nothing():
    layers = nn.ModuleList([nn.ReLU(), nn.Tanh()])
    for method, *arguments in (
        (layers.append, 3),
        (layers.__setitem__, 1, 2),
        (layers.insert, 0, None),
        (layers.extend, [nn.ELU(), "x"]),
    ):
        with pytest.raises(TypeError, match="ModuleList: expected Modules, got"):
            method(*arguments)
        assert kinds(layers) == ["ReLU", "Tanh"]


def test_module_dict(torch):
    def build(nn):
        d = nn.ModuleDict({"a": nn.ReLU(), "b": nn.Tanh()})
        d["c"] = nn.Linear(2, 3)
        d.update([("a", nn.ELU())])
        del d["b"]
        popped = d.pop("c")
        d["d"] = popped
        return [list(d), len(d), kinds(d.values()), names(d.items()), "a" in d, "b" in d, list(d.state_dict())]

    assert build(nn) == build(torch.nn)
    d = nn.ModuleDict()
    for key in "b", "keys", "training":
        with pytest.raises(KeyError):
            d[key]
    with pytest.raises(KeyError):
        del d["b"]
    with pytest.raises(KeyError, match=r"'a.b' cannot name a Module"):
        d["a.b"] = nn.ReLU()
    with pytest.raises(KeyError, match="'keys' cannot name a Module"):
        d["keys"] = nn.ReLU()
    with pytest.raises(TypeError, match="ModuleDict: expected a Module, got int"):
        d["a"] = 3
    d["a"] = nn.ReLU()
    d.clear()
    assert not len(d)


def test_residual(x):
    body, shortcut = nn.Linear(5, 5), nn.Linear(5, 5, bias=False)
    assert np.array_equal(nn.Residual(body)(x), body(x) + x)
    assert np.array_equal(nn.Residual(body, shortcut, relu=True)(x), np.maximum(body(x) + shortcut(x), 0))
    t = Tensor(x, True)
    nn.Residual(body)(t).sum().backward()
    np.testing.assert_allclose(t.grad, np.ones_like(x) + body.weight.data.sum(0), rtol=2.0**-20)
    assert names(nn.Residual(body).named_children()) == ["body"]


def test_parallel(x):
    a, b = nn.Linear(5, 4), nn.Linear(5, 3)
    both = nn.Parallel(a, b)
    assert np.array_equal(both(x), np.concatenate([a(x), b(x)], 1))
    assert both[:1].dim == 1 and kinds(both[:1]) == ["Linear"]
    stacked = nn.Parallel(a, a, dim=0)
    assert stacked(x).shape == (8, 4) and len(list(stacked.parameters())) == 2


@pytest.mark.parametrize("tracked", [False, True])
@pytest.mark.parametrize("make", [lambda: nn.Conv2d(3, 8, 3), lambda: nn.BatchNorm2d(3)])
def test_sequential_computes_relu_in_the_pass_before(monkeypatch, make, tracked):
    """Bit for bit what the two give apart, for results, gradients and running statistics."""
    layer, relu = make(), nn.ReLU()
    apart, x = copy.deepcopy(layer), np.random.default_rng(0).standard_normal((2, 3, 9, 8)).astype(np.float32)
    x[0, 0, 0, 0] = np.nan
    given = [Tensor(x.copy(), tracked) for _ in range(2)]
    want = nn.ReLU()(apart(given[0]))
    monkeypatch.setattr(nn.ReLU, "function", None)  # it is not called
    y = nn.Sequential(layer, relu)(given[1])
    assert np.array_equal(y.data, want.data, equal_nan=True)
    if tracked:
        (y * 3).sum().backward()
        (want * 3).sum().backward()
        for p, q in zip([given[0], *apart.parameters()], [given[1], *layer.parameters()], strict=True):
            assert np.array_equal(p.grad, q.grad, equal_nan=True)
    for p, q in zip(apart.buffers(), layer.buffers(), strict=True):
        assert np.array_equal(p, q, equal_nan=True)


def test_sequential_calls_the_forward_of_a_subclass():
    class Negative(nn.Conv2d):
        def forward(self, input):
            return -1 - super().forward(input).abs()

    x = np.ones((1, 3, 5, 5), np.float32)
    for given in (x, Tensor(x)):
        y = nn.Sequential(Negative(3, 4, 3), nn.ReLU())(given)
        assert not np.asarray(y.data if isinstance(y, Tensor) else y).any()


def test_a_subclass_of_a_layer_sees_tensors():
    """Arrays in, arrays out, whatever its forward computes with its parameters; and gradients for Tensors."""

    class Standardised(nn.Conv2d):
        def forward(self, input):
            w = self.weight
            w = (w - w.mean([1, 2, 3], keepdim=True)) / w.std([1, 2, 3], keepdim=True)
            return F.conv2d(input, w, self.bias).view(input.size(0), -1)

    layer, x = Standardised(3, 4, 3), np.random.default_rng(0).standard_normal((2, 3, 5, 5)).astype(np.float32)
    y, t = layer(x), layer(Tensor(x))
    assert type(y) is np.ndarray and y.shape == (2, 36) and np.array_equal(y, t.data)
    t.sum().backward()
    assert layer.weight.grad is not None


def test_sequential_calls_a_forward_that_was_replaced():
    relu = nn.ReLU()
    relu.forward = lambda x: x * 0 + 5
    assert (nn.Sequential(nn.Conv2d(3, 4, 3), relu)(np.ones((1, 3, 5, 5), np.float32)) == 5).all()


# ---- arrays within forward ----


class Words(nn.Module):
    """Vectors of words beside those of places, which only forward knows; by way of a Module of its own or not."""

    def __init__(self, wrapped):
        super().__init__()
        self.words, self.places = nn.Embedding(5, 3), nn.Embedding(4, 3)
        self.inner = Inner(self.places) if wrapped else self.places

    def forward(self, x, words, scale=1.0):
        assert isinstance(x, Tensor) and isinstance(words, Tensor)
        places = self.inner(np.arange(words.shape[1]))
        assert isinstance(places, Tensor)
        return (self.words(words) + places) * x * scale


class Inner(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x)


@pytest.mark.parametrize("wrapped", [False, True])
def test_arrays_beside_tensors_and_within_forward(wrapped):
    """All that took part learns; of arrays alone, arrays come, as they were."""
    model = Words(wrapped)
    x, words = np.random.default_rng(0).random((2, 1, 1), np.float32), np.array([[0, 1, 2], [3, 0, 0]])
    y = model(Tensor(x), words)
    y.sum().backward()
    by_hand = np.zeros((5, 3), np.float32)
    np.add.at(by_hand, words, np.broadcast_to(x, (2, 3, 3)))
    np.testing.assert_allclose(model.words.weight.grad, by_hand, rtol=1e-6)
    np.testing.assert_allclose(model.places.weight.grad[:3], np.full((3, 3), x.sum()), rtol=1e-6)
    plain = model(x, words)
    assert isinstance(plain, np.ndarray) and np.array_equal(plain, y.data)
    assert isinstance(model.places(np.arange(2)), np.ndarray)


def test_an_error_in_forward_leaves_arrays_arrays():
    class Fails(nn.Module):
        def forward(self, x):
            raise KeyError("no")

    for x in (np.zeros(2, np.float32), Tensor(np.zeros(2, np.float32))):
        with pytest.raises(KeyError):
            Fails()(x)
    assert isinstance(nn.Linear(2, 2)(np.zeros((1, 2), np.float32)), np.ndarray)


def test_another_thread_is_not_within_forward():
    """Whether a forward runs is known for each thread."""
    found = []

    class Starts(nn.Module):
        def forward(self, x):
            layer, array = nn.Linear(2, 2), np.zeros((1, 2), np.float32)
            thread = threading.Thread(target=lambda: found.append(layer(array)))
            thread.start()
            thread.join()
            found.append(layer(array))
            return x

    Starts()(Tensor(np.zeros(2, np.float32)))
    assert [type(x) for x in found] == [np.ndarray, Tensor]
