"""Tensors and the tape: gradients of every operator, of the arithmetic, and of graphs of any form; what is kept, freed
and protected."""

import gc
import threading
import weakref

import numpy as np
import pytest
from support import assert_same_bits, copy, differentiable, each_case

import fastnn
from fastnn import Tensor, enable_grad, gradcheck, is_grad_enabled, no_grad, ops, tensor
from fastnn import functional as F
from fastnn.autograd import call
from fastnn.registry import as_tuple, flat, map_arrays


def leaf(*shape, seed=0, dtype=np.float64):
    """A Tensor of distinct values in ±[0.1, 2] that requires a gradient."""
    rng = np.random.default_rng(seed)
    size = int(np.prod(shape))
    values = (rng.permutation(size) + rng.uniform(0.25, 0.75, size)) / max(size, 1) * 1.9 + 0.1
    return Tensor((values * rng.choice([-1, 1], size)).reshape(shape).astype(dtype), True)


def positive(*shape, seed=0):
    x = leaf(*shape, seed=seed)
    return Tensor(np.abs(x.data), True)


# ---- every operator of the registry ----


@each_case(differentiable)
def test_registry(spec, case, dtype):
    """Gradients through the tape are those of the backward function, bit for bit."""
    kind = "distinct" if spec.distinct else "normal"
    arrays = spec.inputs(case, dtype, seed=3, kind=kind)
    given = copy(arrays)
    outputs, ctx = spec.forward(ops, given, case.options)
    dy = spec.draw_dy(outputs)
    want = flat(spec.backward(ops, dy, ctx))

    given = copy(arrays)
    leaves = {
        name: map_arrays(lambda x: Tensor(x, x.dtype.kind == "f"), x) if name in spec.grads else x
        for name, x in given.items()
    }
    results = call(spec.function(ops), **leaves, **case.options)
    assert_same_bits(
        {i: y.data for i, y in enumerate(as_tuple(results))}, dict(enumerate(as_tuple(outputs))), "results"
    )
    total = sum((y * d).sum() for y, d in zip(as_tuple(results), as_tuple(dy), strict=False))
    total.backward()
    found = flat({name: leaves[name] for name in spec.grads})
    assert_same_bits({name: x if x is None else x.grad for name, x in found.items()}, want, "gradients")


@each_case(differentiable)
def test_needs(spec, case):
    """A gradient of one argument alone is the same, and the others get none."""
    kind = "distinct" if spec.distinct else "normal"
    arrays = spec.inputs(case, np.float32, seed=3, kind=kind)
    outputs, ctx = spec.forward(ops, copy(arrays), case.options)
    dy = spec.draw_dy(outputs)
    want = spec.backward(ops, dy, ctx)
    for name in spec.grads:
        if not isinstance(arrays[name], np.ndarray) or arrays[name].dtype.kind != "f":
            continue
        given = map_arrays(Tensor, copy(arrays))
        given[name].requires_grad = True
        results = as_tuple(call(spec.function(ops), **given, **case.options))
        sum((y * d).sum() for y, d in zip(results, as_tuple(dy), strict=False)).backward()
        assert_same_bits({name: given[name].grad}, {name: want[name]}, name)
        assert all(x.grad is None for other, x in flat(given).items() if other != name and x is not None)


def test_functional_matches_arrays():
    x, w = leaf(3, 5), leaf(4, 5, seed=1)
    y = F.linear(x, w)
    assert isinstance(y, Tensor)
    np.testing.assert_array_equal(y.data, F.linear(x.data, w.data))
    assert isinstance(F.linear(x.data, w.data), np.ndarray)
    assert isinstance(F.linear(x.data, w), Tensor)


def test_indices_and_flags():
    x = leaf(1, 1, 4, 4)
    y, indices = F.max_pool2d(x, 2, return_indices=True)
    assert indices.dtype.kind == "i" and not indices.requires_grad
    F.max_unpool2d(y, indices, 2).sum().backward()
    assert x.grad.sum() == 4
    logits, target = leaf(3, 4), Tensor(np.array([0, 3, 1]))
    F.cross_entropy(logits, target).backward()
    assert logits.grad.shape == (3, 4)
    assert not F.argmax(logits, 1).requires_grad


def test_argument_without_gradient():
    x, target = leaf(3, 4), positive(3, 4)
    with pytest.raises(TypeError, match="cross_entropy: argument 2 requires a gradient"):
        F.cross_entropy(x, target)
    F.cross_entropy(x, target.detach())
    with pytest.raises(TypeError, match="relu: out is given, expected None with Tensors"):
        F.relu(x, out=np.empty((3, 4)))
    with pytest.raises(TypeError, match="not the forward function"):
        call(lambda x, keep: (x, None), x)


def test_dropout():
    x = leaf(10, 10)
    assert F.dropout(x, 0.5, training=False) is x
    fastnn.manual_seed(3)
    y = F.dropout(x, 0.5, inplace=True)
    y.sum().backward()
    np.testing.assert_array_equal(x.grad, np.where(y.data == 0, 0.0, 2.0))
    fastnn.manual_seed(3)
    np.testing.assert_array_equal(y.data, F.dropout(x.data, 0.5))


def test_running_statistics():
    x, weight, bias = leaf(6, 3), leaf(3, seed=1), leaf(3, seed=2)
    mean, var = np.zeros(3), np.ones(3)
    F.batch_norm(x, mean, var, weight, bias, training=True).sum().backward()
    assert (mean != 0).all()
    np.testing.assert_array_equal(bias.grad, np.full(3, 6.0))


def test_lstm_unused_results():
    x, w_ih, w_hh = leaf(3, 2, 4), leaf(20, 4, seed=1), leaf(20, 5, seed=2)
    h0, c0 = leaf(2, 5, seed=3), leaf(2, 5, seed=4)
    for used in range(3):
        assert gradcheck(lambda *a, used=used: F.lstm(*a[:3], h0=a[3], c0=a[4])[used], (x, w_ih, w_hh, h0, c0))


# ---- arithmetic ----

SHAPES = [((), ()), ((3,), ()), ((2, 3), (3,)), ((2, 1), (1, 3)), ((2, 3), (2, 3)), ((1, 1, 1), (2, 3)), ((0, 3), (3,))]
BINARY = {
    "plus": lambda a, b: a + b,
    "minus": lambda a, b: a - b,
    "times": lambda a, b: a * b,
    "divide": lambda a, b: a / b,
    "maximum": F.maximum,
    "minimum": F.minimum,
    "where": lambda a, b: F.where((a > 0) & (b.data > -0.5), a, b),
    "power": lambda a, b: abs(a) ** b,
}


@pytest.mark.parametrize("shapes", [*SHAPES, *[(b, a) for a, b in SHAPES if a != b]], ids=str)
@pytest.mark.parametrize("name", BINARY)
def test_binary(name, shapes):
    a, b = leaf(*shapes[0]), leaf(*shapes[1], seed=1)
    assert gradcheck(BINARY[name], (a, b))
    assert gradcheck(BINARY[name], (a, b.detach()))
    assert gradcheck(BINARY[name], (a.detach(), b))


@pytest.mark.parametrize(
    "f",
    [
        lambda x: x + 2,
        lambda x: 2 - x,
        lambda x: x * 3.5,
        lambda x: 1 / x,
        lambda x: x**3,
        lambda x: x**0,
        lambda x: 2.0**x,
        lambda x: -x,
        lambda x: +x * x,
        abs,
        lambda x: abs(x).sqrt(),
        lambda x: abs(x).log(),
        lambda x: x.exp() + x.tanh() + x.sigmoid() + x.relu(),
        lambda x: x.clamp(-0.5, 0.7) + x.clamp(min=0.3) + x.clamp(max=0.3),
        lambda x: np.full((2, 1), 2.0) * x,
        lambda x: x * np.float32(1.5),
        Tensor.clone,
    ],
)
def test_unary(f):
    assert gradcheck(f, leaf(2, 3))


@pytest.mark.parametrize("dim", [None, 0, 1, -1, (0, 2), (1,), (-1, -3)])
@pytest.mark.parametrize("keepdim", [False, True])
@pytest.mark.parametrize("name", ["sum", "mean", "var", "std", "amax", "amin"])
def test_reductions(name, dim, keepdim):
    x = leaf(2, 3, 4)
    assert gradcheck(lambda x: getattr(x, name)(dim, keepdim=keepdim), x)
    want = getattr(x.data, name.removeprefix("a"))(dim, keepdims=keepdim, **{"ddof": 1} if name in "var std" else {})
    np.testing.assert_allclose(getattr(x, name)(dim, keepdim=keepdim).data, want, rtol=1e-14)


def test_ties_share():
    x = tensor([1.0, 3.0, 3.0], requires_grad=True)
    x.max().backward()
    np.testing.assert_array_equal(x.grad, [0, 0.5, 0.5])
    a, b = tensor([1.0, 2.0], requires_grad=True), tensor([1.0, 1.0], requires_grad=True)
    F.maximum(a, b).sum().backward()
    np.testing.assert_array_equal(a.grad, [0.5, 1])
    np.testing.assert_array_equal(b.grad, [0.5, 0])


@pytest.mark.parametrize(
    "shapes",
    [((2, 3), (3, 4)), ((3,), (3,)), ((3,), (3, 4)), ((2, 3), (3,)), ((5, 2, 3), (3, 4)), ((5, 2, 3), (5, 3, 4))]
    + [((2, 1, 2, 3), (5, 3, 4)), ((3,), (5, 3, 4)), ((5, 2, 3), (3,)), ((0, 3), (3, 4)), ((5, 2, 0), (0, 4))],
    ids=str,
)
def test_matmul(shapes):
    a, b = leaf(*shapes[0]), leaf(*shapes[1], seed=1)
    assert gradcheck(lambda a, b: a @ b, (a, b))
    assert gradcheck(lambda a: a @ b.data, a)
    assert gradcheck(lambda b: a.data @ b, b)


INDICES = [
    0, -1, np.int64(1), slice(None, None, 2), slice(None, None, -1), (0, 1), (slice(None), 2), (..., 0), None,
    (None, 1, ..., None), [0, 2, 0], np.array([[1, 1], [0, 1]]), (np.array([0, 0, 2]), np.array([1, 1, 0])),
    (slice(None), [1, 1]), ([0, 0], slice(0, 2), None), np.arange(12).reshape(3, 4) % 3 == 0, [], (0, ..., [1, 1]),
]  # fmt: skip


@pytest.mark.parametrize("index", INDICES, ids=repr)
def test_indexing(index):
    x = leaf(3, 4)
    np.testing.assert_array_equal(x[index].data, x.data[index])
    assert gradcheck(lambda x: x[index], x)


@pytest.mark.parametrize("index", INDICES, ids=repr)
@pytest.mark.parametrize("broadcast", [False, True])
def test_index_assignment(index, broadcast):
    x = leaf(3, 4)
    value = leaf(*(() if broadcast else x.data[index].shape), seed=1)

    def f(x, value):
        y = x * 1
        y[index] = value
        return y * y

    assert gradcheck(f, (x, value))


def test_index_by_tensor():
    x = leaf(4)
    np.testing.assert_array_equal(x[Tensor(np.array([1, 1]))].data, x.data[[1, 1]])
    np.testing.assert_array_equal(x[x > 0].data, x.data[x.data > 0])
    assert [y.item() for y in x] == x.tolist()
    with pytest.raises(TypeError, match="without dimensions"):
        iter(x.sum())


@pytest.mark.parametrize(
    "f",
    [
        lambda x: x.reshape(4, -1) * np.arange(24.0).reshape(4, 6),
        lambda x: x.reshape((24,)) * np.arange(24.0),
        lambda x: x.T * np.arange(24.0).reshape(4, 3, 2),
        lambda x: x.permute(2, 0, 1) * np.arange(24.0).reshape(4, 2, 3),
        lambda x: x.permute(-1, 0, -2) * np.arange(24.0).reshape(4, 2, 3),
        lambda x: x.transpose(0, -1) * np.arange(24.0).reshape(4, 3, 2),
        lambda x: x.flatten(1) * np.arange(24.0).reshape(2, 12),
        lambda x: x.unsqueeze(1).expand(5, -1, 2, 3, 4) * np.arange(240.0).reshape(5, 2, 2, 3, 4),
        lambda x: x.unsqueeze(-1).squeeze() * x.squeeze(0),
        lambda x: x.split(2, 2)[1] * 3,
        lambda x: [part * (i + 1) for i, part in enumerate(x.split(3, -1))],
        lambda x: F.split(x, [1, 0, 2], 1)[2] * x[:, :2],
        lambda x: F.cat([x, x * 2, x[:1]], 0)[1:],
        lambda x: F.cat((x, np.ones((2, 1, 4))), 1) * 2,
        lambda x: F.stack([x, x * x, x], -1) * np.arange(3.0),
        lambda x: F.where(x > 0, x, 0.0) + F.where(x.data > 0, 1.0, x) + F.maximum(x, 0.5) + F.minimum(0.5, x),
    ],
)
def test_shapes(f):
    assert gradcheck(f, leaf(2, 3, 4))


def test_special_values_are_quiet():
    x = tensor([0.0, -1.0, 3e38], requires_grad=True)
    for y in (1 / x, x * 10, x.sqrt(), x + x, x**0.5, x / 0, x.sum() * 10):
        y.sum().backward()
    assert x.dtype == np.float32


def test_dtypes():
    x, wide = tensor([1.0, 2.0]), np.ones(2)
    for y in (x * 2.5, 2 * x, x + np.float64(0.1), np.float64(0.1) * x, x**2, x.mean(), x.var(), x / 3, -x, x + True):
        assert isinstance(y, Tensor) and y.dtype == np.float32
    for f in (lambda: x * wide, lambda: wide * x, lambda: x - Tensor(wide), lambda: x / wide, lambda: x[:1] ** wide,
              lambda: F.maximum(x, wide), lambda: F.where(x > 0, x, wide), lambda: F.stack([x, wide])):  # fmt: skip
        with pytest.raises(TypeError, match=r"(float32 and float64|float64 and float32)"):
            f()
    with pytest.raises(TypeError, match="int64 and the number"):
        Tensor(np.arange(3)) * 1.5
    assert (Tensor(np.arange(3)) * 2).tolist() == [0, 2, 4]
    for f in (lambda: x + "a", lambda: x @ 2, lambda: 2 @ x, lambda: x + None):
        with pytest.raises(TypeError, match="unsupported operand"):
            f()


def test_comparisons():
    x = tensor([1.0, 2.0, 3.0])
    for y in (x > 2, x >= 2, x < 2, x <= 2, x == 2, x != 2, x > x, np.full(3, 2.0) < x):
        assert isinstance(y, np.ndarray) and y.dtype == bool
    np.testing.assert_array_equal(np.full(3, 2.0) < x, [False, False, True])
    assert len({x, x, tensor(1.0)}) == 2


def test_construction():
    assert tensor([1, 2]).dtype == np.int64
    assert tensor([1.0]).dtype == tensor(1.5).dtype == np.float32
    assert tensor([1.0], np.float64).dtype == tensor(np.ones(1)).dtype == np.float64
    array = np.ones(2)
    assert Tensor(array).data is array and tensor(array).data is not array
    with pytest.raises(TypeError, match="data must be a NumPy array, got list"):
        Tensor([1.0])
    with pytest.raises(TypeError, match="requires_grad: data has dtype int64"):
        Tensor(np.arange(2), True)
    x = leaf(2, 3)
    assert (x.shape, x.ndim, x.size, len(x), x.is_leaf) == ((2, 3), 2, 6, 2, True)
    y = x * 2
    assert not y.is_leaf and y.requires_grad and "made by times" in repr(y)
    with pytest.raises(RuntimeError, match="the result of times is not a leaf"):
        y.requires_grad = False
    with pytest.raises(RuntimeError, match="numpy: the Tensor requires a gradient"):
        y.numpy()
    assert y.detach().numpy() is y.data
    assert repr(tensor([1.0], requires_grad=True)) == "tensor([1.], requires_grad=True)"
    assert float(tensor(2.5)) == 2.5 and int(tensor(2.5)) == 2 and [1, 2, 3][Tensor(np.array(1))] == 2
    assert bool(tensor(1.0)) and not tensor(0)


# ---- graphs ----


def test_used_twice_and_diamond():
    x = leaf(3)
    y = x * x
    z = y * y + y
    (z + y).sum().backward()
    np.testing.assert_allclose(x.grad, 4 * x.data**3 + 4 * x.data, rtol=1e-14)
    assert gradcheck(lambda x: (x * x + x) * (x - x * 3) + F.relu(x) * x, leaf(3))


def test_accumulates_and_owns():
    x, y = leaf(3), leaf(3, seed=1)
    gradient = np.ones(3)
    (x + y).backward(gradient)
    (x + y).backward(Tensor(gradient))
    x.grad *= 10
    np.testing.assert_array_equal(x.grad, np.full(3, 20.0))
    np.testing.assert_array_equal(y.grad, np.full(3, 2.0))
    np.testing.assert_array_equal(gradient, np.ones(3))
    x.zero_grad()
    assert x.grad is None
    x.backward(gradient)
    assert x.grad is not gradient


def test_backward_arguments():
    x = leaf(3)
    with pytest.raises(RuntimeError, match=r"gradient is None, expected one of shape \(3,\)"):
        (x * 2).backward()
    with pytest.raises(ValueError, match=r"gradient has shape \(2,\), expected \(3,\)"):
        (x * 2).backward(np.ones(2))
    with pytest.raises(TypeError, match="array of float64, got float32"):
        (x * 2).backward(np.ones(3, np.float32))
    with pytest.raises(TypeError, match="array of float64, got list"):
        (x * 2).backward([1, 1, 1])
    with pytest.raises(RuntimeError, match="requires no gradient"):
        x.detach().sum().backward()


@pytest.mark.parametrize("f", [F.relu, lambda x: x * 1.0], ids=["relu", "times"])
def test_deep_chain(f):
    x = leaf(2)
    y = x
    for _ in range(100_000):
        y = f(y)
    y.sum().backward()
    np.testing.assert_array_equal(x.grad, (x.data > 0) | (f is not F.relu))
    y = x
    for _ in range(100_000):
        y = f(y)
    alive = weakref.ref(x)
    del x
    del y  # never went backward: the chain is freed without recursion
    assert alive() is None


def test_memory_is_freed():
    gc.collect()
    gc.disable()
    try:
        x = leaf(3)
        middle = x * x
        array = weakref.ref(middle.data)
        y = (middle * middle).sum()
        del middle
        assert array() is not None
        y.backward()
        assert array() is None, "backward frees what was saved"
        middle = F.exp(x)
        array = weakref.ref(middle.data)
        y = middle + 1
        del middle
        assert array() is not None
        del y
        assert array() is None, "so does dropping the result, without cycles"
        y = F.relu(F.exp(x))
        array = weakref.ref(y.data)
        y = (y * 2.0).sum()
        assert array() is not None, "saved by relu"
        with no_grad():
            y = F.exp(x)
            array = weakref.ref(y.data)
            y = y * y
        assert array() is None, "nothing is kept without a gradient"
        y = x * 2
        array = weakref.ref(y.data)
        y = y * 2
        assert array() is None, "nor what no gradient needs"
    finally:
        gc.enable()


def test_retain_graph():
    x = leaf(3)
    y = (x * x).sum()
    y.backward(retain_graph=True)
    once = x.grad.copy()
    y.backward()
    np.testing.assert_array_equal(x.grad, 2 * once)
    with pytest.raises(RuntimeError, match="graph was freed at sum by an earlier backward, expected retain_graph"):
        y.backward()
    np.testing.assert_array_equal(x.grad, 2 * once)


def test_freed_part():
    x = leaf(3)
    shared = x * x
    shared.sum().backward()
    before = x.grad.copy()
    with pytest.raises(RuntimeError, match="freed at times"):
        (shared + x).sum().backward()
    np.testing.assert_array_equal(x.grad, before)


def test_retain_grad():
    x = leaf(3)
    y = x * 2
    plain = x * 3
    y.retain_grad()
    (y * y + plain).sum().backward()
    np.testing.assert_allclose(y.grad, 4 * x.data)
    assert plain.grad is None
    with pytest.raises(RuntimeError, match="requires no gradient"):
        x.detach().retain_grad()


def test_modes():
    x = leaf(2)
    with no_grad():
        assert not is_grad_enabled() and not (x * 2).requires_grad
        with enable_grad():
            assert (x * 2).requires_grad
        seen = []
        thread = threading.Thread(target=lambda: seen.append(is_grad_enabled()))
        thread.start()
        thread.join()
        assert seen == [True]
        assert not is_grad_enabled()
    assert is_grad_enabled()

    @no_grad()
    def f(x):
        return f(x[1:]) * 2 if len(x) else x

    assert not f(x).requires_grad and f.__name__ == "f"
    with pytest.raises(ZeroDivisionError), no_grad():
        _ = 1 // 0
    assert is_grad_enabled()


def test_detach():
    x = leaf(3)
    y = (x * x).detach()
    assert not y.requires_grad and y.is_leaf
    (x * y).sum().backward()
    np.testing.assert_array_equal(x.grad, y.data)


# ---- changes in place ----


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x.copy_(0.0),
        lambda x: x.__setitem__(0, 1.0),
        lambda x: x.__iadd__(1),
        lambda x: x.detach().__imul__(2),
        lambda x: x[1:].__itruediv__(2),
        lambda x: x.T.__isub__(np.ones(3)),
        lambda x: setattr(x, "data", np.multiply(x.data, 2, out=x.data)),
        lambda x: (np.negative(x.data, out=x.data), x.increment_version()),
    ],
)
def test_saved_value_changed(change):
    for f, name in ((lambda x, w: x * x, "times"), (lambda x, w: F.linear(x[None], w), "linear")):
        x, w = leaf(3), leaf(2, 3, seed=1)
        y = f(x, w).sum()
        version = x._version
        with no_grad():
            change(x)
        assert x._version == version + 1
        with pytest.raises(RuntimeError, match=f"backward: {name} needs a value that was changed in place"):
            y.backward()
        assert x.grad is None and w.grad is None


@pytest.mark.parametrize("index", [np.s_[::-1], np.s_[:, 4::-2], np.s_[1:3, 1], np.s_[..., None]])
@pytest.mark.parametrize("part", [np.s_[...], np.s_[-1:], np.s_[::-1]])
def test_saved_value_changed_in_memory_of_any_layout(index, part):
    memory = np.ones((4, 6))
    x, y = Tensor(memory[index], requires_grad=True), Tensor(np.ones((4, 6))[index], requires_grad=True)
    products = (x * x).sum(), (y * y).sum()
    with no_grad():
        x[part] *= 3
    with pytest.raises(RuntimeError, match="backward: times needs a value that was changed in place"):
        products[0].backward()
    products[1].backward()
    np.testing.assert_array_equal(y.grad, 2 * y.data)


def test_changes_that_do_no_harm():
    x = leaf(3)
    want = np.exp(x.data)
    y = x.exp()
    z = y + x * 2.0
    with no_grad():
        x.copy_(np.zeros(3))  # exp saved its result, and times 2 nothing
    z.sum().backward()
    np.testing.assert_allclose(x.grad, want + 2, rtol=1e-14)
    x = leaf(3)
    y = (x * x).sum()
    old = x.data
    x.data = np.zeros(3)  # another array
    y.backward()
    np.testing.assert_array_equal(x.grad, 2 * old)


def test_result_changed():
    x = leaf(3)
    y = x.exp()
    y += 1
    with pytest.raises(RuntimeError, match="exp needs a value that was changed"):
        y.sum().backward()


def test_in_place_on_a_leaf():
    x = leaf(3)
    for change in (lambda: x.copy_(0.0), lambda: x.__iadd__(1), lambda: x.__setitem__(0, 0.0)):
        with pytest.raises(RuntimeError, match=r"a leaf that requires a gradient was to be changed in place"):
            change()
    assert x._version == 0


def test_in_place_is_recorded():
    w = leaf(3, seed=1)

    def f(x):
        y = x * 2
        alias = y
        y += w
        y *= 3.0
        y -= x
        y[1:] = 7.0
        assert alias is y
        return y * y

    assert gradcheck(f, leaf(3))
    x = Tensor(np.ones(3))
    x += w
    assert x.requires_grad
    with pytest.raises(ValueError, match=r"shape \(2, 3\) does not fit"):
        x += np.ones((2, 3))


def test_in_place_beside_a_view():
    y = leaf(3) * 1
    view = y[1:]
    for t in (y, view):
        with pytest.raises(RuntimeError, match="shares memory with a view"):
            t *= 2
    with no_grad():
        view *= 2
    assert y._version == 1
    plain = Tensor(np.arange(3.0))
    part = plain[1:]
    part += 1
    assert plain.tolist() == [0, 2, 3]


def test_data_assignment():
    x = leaf(3)
    with pytest.raises(ValueError, match="data: got an array of shape"):
        x.data = np.ones(4)
    with pytest.raises(TypeError, match="data: expected a NumPy array"):
        x.data = [1, 2, 3]
    x.data -= 1
    assert x._version == 1


# ---- gradcheck itself ----


def test_gradcheck_finds_errors():
    def wrong(x):
        return x * x.detach()

    with pytest.raises(AssertionError, match=r"gradient of input 0 at \[0\] is"):
        gradcheck(wrong, leaf(2))
    assert not gradcheck(wrong, leaf(2), raise_exception=False)
    assert not gradcheck(lambda x: x.detach(), leaf(2), raise_exception=False)
    with pytest.raises(AssertionError, match="not smooth"):
        gradcheck(abs, Tensor(np.full(1, 2.0**-11), True))
    with pytest.raises(TypeError, match="float32, expected float64"):
        gradcheck(abs, leaf(2, dtype=np.float32))


# ---- whole networks ----


def test_network_matches_torch():
    torch = pytest.importorskip("torch")
    TF = torch.nn.functional
    rng = np.random.default_rng(0)
    shapes = [(4, 3, 3, 3), (4,), (4,), (10, 64), (10,)]
    arrays = [rng.standard_normal(s) for s in shapes]
    x, target = rng.standard_normal((5, 3, 8, 8)), rng.integers(0, 10, 5)

    def network(F, x, w, gain, shift, v, b, target, **training):
        y = F.conv2d(x, w, None, padding=1)
        y = F.relu(F.batch_norm(y, None, None, gain, shift, **training))
        y = F.max_pool2d(y + y * 0.5, 2)
        y = y.flatten(1)
        y = F.linear(y, v, b)
        return F.cross_entropy(y, target) + (v * v).mean() + y[[0, 0, 1], [1, 1, 2]].sum()

    ours, theirs = [Tensor(a.copy(), True) for a in arrays], [torch.tensor(a, requires_grad=True) for a in arrays]
    loss = network(F, x, *ours, target, training=True)
    loss.backward()
    expected = network(TF, torch.tensor(x), *theirs, torch.tensor(target), training=True)
    expected.backward()
    assert abs(loss.item() - expected.item()) < 1e-12 * abs(expected.item())
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a.grad, b.grad.numpy(), rtol=1e-10, atol=1e-12)


def test_threads_train_apart():
    """Graphs of several threads that share leaves' data do not disturb each other."""
    w = leaf(4, 4).data
    gradients = [None] * 4

    def work(i):
        for _ in range(50):
            mine = Tensor(w, True)
            F.relu(F.linear(np.ones((2, 4)), mine)).sum().backward()
            gradients[i] = mine.grad

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for g in gradients[1:]:
        np.testing.assert_array_equal(g, gradients[0])
