"""Accelerated layers against PyTorch's own, in every way that autograd can ask them."""

import copy
from functools import partial

import pytest
from torch_support import LAYERS, agree, every_size, layer, leaves, noted_calls, torch

import fastnn.torch
from fastnn.torch.calls import Operation

any_size, taken = pytest.fixture(every_size), pytest.fixture(noted_calls)

# PyTorch's own, of the layer that fastnn's is compared with
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")

DTYPES = [torch.float32, torch.float64]
each_layer = pytest.mark.parametrize("name", LAYERS)
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=["float32", "float64"])


def pair(name, dtype=torch.float32, training=True):
    """(PyTorch's layer, the accelerated one with parameters of its own, input)."""
    module, x = layer(name, dtype)
    module.train(training)
    return module, fastnn.torch.accelerate(copy.deepcopy(module), inplace=True), x


def gradients_of(module, x, again=False):
    """Results, and gradients at input and parameters for fixed ones at the results; again: of their squares, too."""
    x = x.clone().requires_grad_()
    results = leaves(module(x))
    generator = torch.Generator().manual_seed(2)
    dys = [torch.randn(y.shape, generator=generator, dtype=y.dtype) for y in results]
    operands = [x, *module.parameters()]
    gradients = torch.autograd.grad(results, operands, dys, create_graph=again)
    if again:
        squares = sum((g * g).sum() for g in gradients)
        found = torch.autograd.grad(squares, operands, allow_unused=True, materialize_grads=True)
        return [*results, *gradients, *found]
    return [*results, *gradients]


@each_layer
@each_dtype
def test_results_and_gradients(name, dtype, taken):
    """Of the forward pass where nothing is recorded, of training, and of evaluation with gradients."""
    for training in (True, False):
        theirs, ours, x = pair(name, dtype, training)
        agree(gradients_of(ours, x), gradients_of(theirs, x))
        agree([*ours.buffers()], [*theirs.buffers()])
        with torch.no_grad():
            agree(ours(x), theirs(x))
        with torch.inference_mode():
            agree(ours(x), theirs(x))
        agree([*ours.buffers()], [*theirs.buffers()])
    assert all(taken) and len(taken) == 6


@each_layer
def test_gradcheck(name, any_size):
    """Against central differences."""
    _, ours, x = pair(name, torch.float64)
    names, parameters = zip(*ours.named_parameters(), strict=True) if [*ours.parameters()] else ((), ())

    def f(x, *values):
        return tuple(leaves(torch.func.functional_call(ours, dict(zip(names, values, strict=True)), x)))

    assert torch.autograd.gradcheck(f, (x.requires_grad_(), *parameters), fast_mode=True)


@each_layer
def test_gradients_of_gradients(name, any_size):
    """They are PyTorch's."""
    theirs, ours, x = pair(name, torch.float64)
    agree(gradients_of(ours, x, again=True), gradients_of(theirs, x, again=True), 1000)


@each_layer
@pytest.mark.parametrize("layout", ["transposed", "sliced", "expanded"])
def test_inputs_that_are_not_contiguous(name, layout, any_size):
    theirs, ours, x = pair(name)
    turned = {
        "transposed": lambda x: x.mT.contiguous().mT if x.ndim > 1 else x,
        "sliced": lambda x: torch.stack([x, x], -1)[..., 1],
        "expanded": lambda x: x[:1].expand(x.shape),
    }[layout](x)
    with torch.no_grad():
        agree(ours(turned), theirs(turned))


@each_layer
def test_gradients_at_results_that_are_not_contiguous(name, any_size):
    theirs, ours, x = pair(name)
    found = []
    for module in (theirs, ours):
        each = x.clone().requires_grad_()
        results = leaves(module(each))
        generator = torch.Generator().manual_seed(2)
        dys = [torch.randn((*y.shape, 2), generator=generator)[..., 1] for y in results]
        assert not any(dy.is_contiguous() for dy in dys)
        found.append(torch.autograd.grad(results, [each, *module.parameters()], dys))
    agree(*reversed(found))


def test_gradients_of_a_sum(any_size):
    """They have strides 0."""
    theirs, ours, x = pair("Conv2d")
    for module in (theirs, ours):
        module(x).sum().backward()
    agree(ours.weight.grad, theirs.weight.grad)


@each_layer
def test_states_and_inputs_without_gradients(name, any_size):
    """Only some operands need a gradient, and only some results are used."""
    theirs, ours, x = pair(name)
    for module in (theirs, ours):
        for p in [*module.parameters()][1:]:
            p.requires_grad_(False)
    used = [x.clone().requires_grad_() for _ in range(2)]
    for module, each in zip((theirs, ours), used, strict=True):
        leaves(module(each))[-1].pow(3).sum().backward()  # squares of normalised values have a constant sum
    agree(used[1].grad, used[0].grad)
    agree([p.grad for p in ours.parameters()][:1], [p.grad for p in theirs.parameters()][:1])
    assert all(p.grad is None for p in [*ours.parameters()][1:])


@pytest.mark.parametrize("name", ["LSTM", "GRU", "RNN", "LSTM projected"])
def test_initial_states(name, taken):
    theirs, ours, x = pair(name, torch.float64)
    with torch.no_grad():
        last = theirs(x)[1]
    found = []
    for module in (theirs, ours):
        states = [s.clone().requires_grad_() for s in leaves(last)]
        y, after = module(x, tuple(states) if len(states) > 1 else states[0])
        found.append([y, after, torch.autograd.grad([y.sum(), *[s.square().sum() for s in leaves(after)]], states)])
    agree(*reversed(found))
    assert taken == [True]


@pytest.mark.parametrize("name", ["LSTM", "GRU"])
def test_dropout_between_layers(name, any_size):
    """With PyTorch's random numbers, the same ones."""
    theirs, ours, x = pair(name)
    theirs.dropout = ours.dropout = 0.5
    results = []
    for module in (theirs, ours):
        torch.manual_seed(3)
        results.append(module(x)[0])
    agree(*results)
    agree(ours.eval()(x)[0], theirs.eval()(x)[0])


# ---- what autograd relies on ----


def test_input_changed_in_place(any_size):
    """What the backward pass needs may not change, as in PyTorch."""
    for changed in ("x", "weight"):
        _, ours, x = pair("Conv2d")
        y = ours(x)
        with torch.no_grad():
            (x if changed == "x" else ours.weight).mul_(2)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            y.sum().backward()


def test_results_may_change_where_they_are_not_needed(any_size):
    theirs, ours, x = pair("Conv2d")
    for module in (theirs, ours):
        y = module(x)
        y += 1
        y.square().sum().backward()
    agree(ours.weight.grad, theirs.weight.grad)


def test_result_that_is_needed_may_not_change(any_size):
    _, ours, x = pair("Sigmoid")
    y = ours(x.requires_grad_())
    y += 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_backward_twice(any_size):
    _, ours, x = pair("GRU")
    y = ours(x)[0].sum()
    y.backward(retain_graph=True)
    first = [p.grad.clone() for p in ours.parameters()]
    y.backward()
    agree([p.grad for p in ours.parameters()], [2 * g for g in first])
    with pytest.raises(RuntimeError, match="second time"):
        y.backward()


def test_saved_tensors_are_seen_by_hooks(any_size):
    """Checkpointing and offloading work by them: nothing else keeps the memory of arrays."""
    packed = []

    def pack(x):
        packed.append(x)
        return x.clone()

    theirs, ours, x = pair("BatchNorm2d")
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        y = ours(x)
    y.square().sum().backward()
    theirs(x).square().sum().backward()
    assert packed
    agree(ours.weight.grad, theirs.weight.grad)


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpoint(reentrant, any_size):
    from torch.utils.checkpoint import checkpoint

    theirs, ours, x = pair("Conv2d")
    found = []
    for module, call in ((theirs, theirs), (ours, partial(checkpoint, ours, use_reentrant=reentrant))):
        each = x.clone().requires_grad_()
        call(each).square().sum().backward()
        found.append([each.grad, module.weight.grad])
    agree(*reversed(found))


def test_results_share_no_memory_with_inputs(any_size):
    """Nor with fastnn: what is done to one result is seen in no other."""
    for name in LAYERS:
        _, ours, x = pair(name, training=False)
        with torch.no_grad():
            first = [y.clone() for y in leaves(ours(x))]
            for y in leaves(ours(x)):
                y.fill_(torch.nan)
            agree(leaves(ours(x)), first)


def test_a_node_is_named_and_leaves_are_found(any_size):
    _, ours, x = pair("Linear")
    y = ours(x)
    assert type(y.grad_fn).__name__ == f"{Operation.__name__}Backward"
    assert y.requires_grad and not y.is_leaf
