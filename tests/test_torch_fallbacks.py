"""Calls that fastnn does not compute are PyTorch's, with the same results and errors."""

from contextlib import nullcontext

import pytest
from torch_support import agree, every_size, leaves, nn, noted_calls, torch

import fastnn.torch
from fastnn.torch import layers
from fastnn.torch.layers import STANDS

any_size, taken = pytest.fixture(every_size), pytest.fixture(noted_calls)


def pair(module):
    """(PyTorch's module, the accelerated one)."""
    return module, fastnn.torch.accelerate(module)


def conv(**options):
    return nn.Conv2d(4, 6, 3, padding=1, **options)


IMAGE = 2, 4, 5, 7
CALLS = {
    "bfloat16": (lambda: conv(dtype=torch.bfloat16), lambda: torch.ones(IMAGE, dtype=torch.bfloat16)),
    "half": (lambda: nn.Linear(7, 3, dtype=torch.half), lambda: torch.ones(IMAGE, dtype=torch.half)),
    "complex": (lambda: conv(dtype=torch.complex64), lambda: torch.ones(IMAGE, dtype=torch.complex64)),
    "integers": (lambda: nn.MaxPool2d(2), lambda: torch.arange(280).reshape(IMAGE)),
    "meta": (lambda: conv(device="meta"), lambda: torch.ones(IMAGE, device="meta")),
    "channels_last input": (conv, lambda: torch.rand(IMAGE).to(memory_format=torch.channels_last)),
    "channels_last weight": (lambda: conv().to(memory_format=torch.channels_last), lambda: torch.rand(IMAGE)),
    "channels_last pooling": (lambda: nn.MaxPool2d(2), lambda: torch.rand(IMAGE).to(memory_format=torch.channels_last)),
    "empty batch": (conv, lambda: torch.ones(0, 4, 5, 7)),
    "one image": (conv, lambda: torch.rand(4, 5, 7)),
    "circular padding": (lambda: conv(padding_mode="circular"), lambda: torch.rand(IMAGE)),
    "mixed norm": (lambda: nn.BatchNorm2d(4), lambda: torch.rand(IMAGE).to(torch.bfloat16)),
    "indices": (lambda: nn.MaxPool2d(2, return_indices=True), lambda: torch.rand(IMAGE)),
    "in place": (lambda: nn.SiLU(inplace=True), lambda: torch.rand(IMAGE)),
    "a sequence without batch": (lambda: nn.LSTM(7, 3), lambda: torch.rand(5, 7)),
    "sparse": (lambda: nn.Linear(4, 3), lambda: torch.eye(4).to_sparse()),
    "no features": (lambda: nn.Linear(0, 3, bias=False), lambda: torch.rand(2, 0)),
    "one pixel": (lambda: nn.ConvTranspose2d(4, 3, 2), lambda: torch.rand(2, 4, 1, 1)),
}


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")  # PyTorch's, of a layer without features
@pytest.mark.parametrize("name", CALLS)
def test_other_inputs(name, taken):
    make, data = CALLS[name]
    theirs, ours = pair(make())
    x = data()
    # Two copies: PyTorch's layer may change its input in place.
    want, got = theirs(x.clone()), ours(x.clone())
    assert taken == [False]
    for g, w in zip(leaves(got), leaves(want), strict=True):
        assert (g.dtype, g.shape, g.device, g.stride()) == (w.dtype, w.shape, w.device, w.stride())
        assert g.is_meta or torch.equal(g, w)


class Subclass(torch.Tensor):
    """A tensor that may mean something else by each operation."""


def wrapped(x):
    return x.as_subclass(Subclass)


def test_subclass_of_tensor(taken):
    theirs, ours = pair(conv())
    x = wrapped(torch.rand(IMAGE))
    assert type(ours(x)) is Subclass
    agree(ours(x), theirs(x))
    assert not any(taken)


def test_packed_sequence(taken):
    theirs, ours = pair(nn.GRU(3, 4, batch_first=True))
    x = nn.utils.rnn.pack_padded_sequence(torch.rand(3, 5, 3), [5, 2, 4], batch_first=True, enforce_sorted=False)
    (want, last), (got, ours_last) = theirs(x), ours(x)
    agree([got.data, ours_last], [want.data, last])
    assert taken == [False]


def test_output_size(taken):
    theirs, ours = pair(nn.ConvTranspose2d(4, 3, 3, stride=2))
    x = torch.rand(IMAGE)
    agree(ours(x, output_size=[12, 16]), theirs(x, output_size=[12, 16]))
    agree(ours(input=x), theirs(input=x))
    assert taken == [False, True]


# ---- what else follows operations ----

# PyTorch's decompositions for dual numbers are scripted
forward_mode = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated", "ignore:`torch.jit.script` is not")


def test_autocast(taken):
    theirs, ours = pair(conv())
    with torch.autocast("cpu", torch.bfloat16):
        x = torch.rand(IMAGE)
        assert ours(x).dtype == torch.bfloat16
        assert torch.equal(ours(x), theirs(x))
    assert not any(taken)


@forward_mode
def test_vmap_and_functional_gradients(taken):
    theirs, ours = pair(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)))
    x = torch.rand(5, 3)
    agree(torch.vmap(ours)(x), torch.vmap(theirs)(x))
    agree(torch.func.jacrev(ours)(x), torch.func.jacrev(theirs)(x))
    agree(torch.func.jacfwd(ours)(x), torch.func.jacfwd(theirs)(x))
    agree(torch.func.hessian(lambda x: ours(x).sum())(x), torch.func.hessian(lambda x: theirs(x).sum())(x))
    assert not any(taken)


def test_functional_call_with_other_parameters(taken):
    """Outside of transformations fastnn computes it, with the parameters that are given."""
    theirs, ours = pair(conv())
    parameters = {name: torch.rand_like(p) for name, p in theirs.named_parameters()}
    x = torch.rand(IMAGE)
    with torch.no_grad():
        got = torch.func.functional_call(ours, parameters, x)
        agree(got, torch.func.functional_call(theirs, parameters, x))
        agree(ours(x), theirs(x))
    assert all(taken)


@forward_mode
def test_dual_numbers(taken):
    theirs, ours = pair(conv())
    x, tangent = torch.rand(IMAGE), torch.rand(IMAGE)
    agree(torch.func.jvp(ours, (x,), (tangent,)), torch.func.jvp(theirs, (x,), (tangent,)))
    with torch.autograd.forward_ad.dual_level() as _:
        dual = torch.autograd.forward_ad.make_dual(x, tangent)
        got, want = (torch.autograd.forward_ad.unpack_dual(module(dual)) for module in (ours, theirs))
        agree(tuple(got), tuple(want))
    assert not any(taken)


def test_modes(taken):
    from torch.utils.flop_counter import FlopCounterMode

    theirs, ours = pair(conv())
    counts = []
    for module in (theirs, ours):
        with FlopCounterMode(display=False) as counter:
            module(torch.rand(IMAGE))
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1] > 0
    assert taken == [False]


def test_trace_and_script(any_size):
    theirs, ours = pair(nn.Sequential(conv(), nn.BatchNorm2d(6), nn.MaxPool2d(2)).eval())
    x = torch.rand(IMAGE)
    with pytest.warns(DeprecationWarning):
        traced, scripted = torch.jit.trace(ours, x), torch.jit.script(ours)
    assert "aten::_convolution" in str(traced.inlined_graph)
    for module in (traced, scripted):
        agree(module(x), theirs(x))
    assert not any(isinstance(module, layers.Accelerated) for module in scripted.modules())


def test_compile_and_export(any_size):
    theirs, ours = pair(nn.Sequential(conv(), nn.BatchNorm2d(6), nn.Flatten(), nn.Linear(210, 3)).eval())
    x = torch.rand(IMAGE)
    compiled = torch.compile(ours, backend="eager", fullgraph=True)
    agree(compiled(x), theirs(x))
    agree(torch.export.export(ours, (x,)).module()(x), theirs(x))


def test_fx(taken):
    """Layers are what they are to torch.fx, and fastnn's in the module that it makes, too."""
    theirs, ours = pair(nn.Sequential(conv(), nn.BatchNorm2d(6), nn.AdaptiveAvgPool2d(1)).eval())
    x = torch.rand(IMAGE)
    graphs = [torch.fx.symbolic_trace(module) for module in (theirs, ours)]
    assert [str(node) for node in graphs[0].graph.nodes] == [str(node) for node in graphs[1].graph.nodes]
    agree(graphs[1](x), graphs[0](x))
    assert taken == [True] * 3


# ---- errors are PyTorch's ----

WRONG = {
    "channels": (conv, lambda: torch.rand(2, 3, 5, 7)),
    "axes": (conv, lambda: torch.rand(2, 4)),
    "features": (lambda: nn.Linear(3, 2), lambda: torch.rand(2, 4)),
    "axes of a norm": (lambda: nn.BatchNorm2d(4), lambda: torch.rand(2, 4)),
    "channels of a norm": (lambda: nn.BatchNorm2d(4), lambda: torch.rand(2, 3, 5, 7)),
    "one value": (lambda: nn.BatchNorm1d(4), lambda: torch.rand(1, 4)),
    "shape of a norm": (lambda: nn.LayerNorm(4), lambda: torch.rand(2, 3)),
    "groups": (lambda: nn.GroupNorm(2, 4), lambda: torch.rand(2, 3, 5)),
    "window": (lambda: nn.MaxPool2d(2, padding=2), lambda: torch.rand(2, 3, 5, 5)),
    "small image": (lambda: nn.Conv2d(4, 6, 9), lambda: torch.rand(IMAGE)),
    "sequence": (lambda: nn.LSTM(3, 4), lambda: torch.rand(5, 2, 4)),
    "dtype": (conv, lambda: torch.rand(IMAGE, dtype=torch.float64)),
    "an array": (conv, lambda: torch.rand(IMAGE).numpy()),
    "nothing": (lambda: nn.Linear(3, 2), lambda: None),
}


@pytest.mark.parametrize("name", WRONG)
def test_errors(name, any_size):
    make, data = WRONG[name]
    theirs, ours = pair(make())
    errors = []
    for module in (theirs, ours):
        with pytest.raises(Exception) as info:
            module(data())
        errors.append((info.type, str(info.value)))
    assert errors[0] == errors[1]
    assert [*ours.buffers()] == [] or all(
        torch.equal(a, b) for a, b in zip(ours.buffers(), theirs.buffers(), strict=True)
    )


def test_states_of_another_shape(any_size):
    theirs, ours = pair(nn.LSTM(3, 4))
    x, states = torch.rand(5, 2, 3), (torch.rand(1, 3, 4), torch.rand(1, 2, 4))
    errors = []
    for module in (theirs, ours):
        with pytest.raises(RuntimeError) as info:
            module(x, states)
        errors.append(str(info.value))
    assert errors[0] == errors[1]


# ---- small calls ----


@pytest.mark.parametrize("recorded", [False, True], ids=["inference", "training"])
@pytest.mark.parametrize(
    ("kind", "args", "shape"),
    [(nn.Conv2d, (4, 4, 3), (1, 4, 4, 4)), (nn.Linear, (8, 8), (1, 8)), (nn.BatchNorm2d, (4,), (2, 4, 4, 4))],
    ids=["Conv2d", "Linear", "BatchNorm2d"],
)
def test_small_calls_are_pytorchs(kind, args, shape, recorded):
    """Those whose work costs less than what a call of fastnn costs more."""
    _, ours = pair(kind(*args))
    with nullcontext() if recorded else torch.no_grad():
        assert ours.fast(torch.rand(shape)) is NotImplemented


def test_large_calls_are_fastnns():
    for module, shape in ((nn.Conv2d(32, 32, 3), (4, 32, 16, 16)), (nn.Linear(512, 512), (16, 512))):
        _, ours = pair(module)
        agree(ours.fast(x := torch.rand(shape)), module(x), 1000)


def test_all_layers_are_tested():
    from torch_support import LAYERS

    assert {kind for kind, *_ in LAYERS.values()} == {*STANDS}
    for theirs, ours in STANDS.items():
        assert issubclass(ours, theirs) and ours.__name__ == theirs.__name__
        assert ours.__doc__
