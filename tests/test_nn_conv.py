"""Layers of convolution: beside torch's, their errors, and filters that are prepared once and noticed to change."""

import copy
import inspect
import pickle
import threading

import numpy as np
import pytest
from nn_support import compare, name_of, pair

import fastnn
from fastnn import Tensor, nn, no_grad, optim
from fastnn.nn import functional as F

X4, X3 = (2, 4, 11, 8), (2, 4, 13)

# class, arguments, options, shape of the input
SAME = [
    ("Conv2d", (4, 6, 3), {}, X4),
    ("Conv2d", (4, 6, (3, 2)), {"stride": (2, 1), "padding": (1, 0), "dilation": (1, 2), "groups": 2}, X4),
    ("Conv2d", (4, 8, 3), {"groups": 4, "padding": 1, "bias": False}, X4),
    ("Conv2d", (4, 6, (5, 3)), {"padding": "same", "dilation": (1, 2)}, X4),
    ("Conv2d", (4, 6, 3), {"padding": "valid", "stride": 2}, (4, 11, 8)),
    ("Conv2d", (4, 6, 3), {"padding": "same", "padding_mode": "reflect", "dilation": 2}, X4),
    ("Conv2d", (4, 6, (3, 4)), {"padding": (2, 1), "padding_mode": "circular"}, X4),
    ("Conv2d", (4, 6, 3), {"padding": 1, "padding_mode": "replicate", "stride": 2}, X4),
    ("Conv2d", (16, 32, 3), {"padding": 1}, (2, 16, 17, 15)),
    ("Conv1d", (4, 6, 3), {}, X3),
    ("Conv1d", (4, 6, 4), {"stride": 2, "padding": 3, "dilation": 2, "groups": 2}, (4, 13)),
    ("Conv1d", (4, 6, 5), {"padding": "same", "bias": False}, X3),
    ("Conv1d", (4, 6, 3), {"padding": 2, "padding_mode": "reflect"}, X3),
    ("ConvTranspose2d", (4, 6, 3), {}, X4),
    ("ConvTranspose2d", (4, 6, (3, 2), (2, 3), 1, (1, 0), 2), {}, X4),
    ("ConvTranspose2d", (4, 6, 3), {"stride": 2, "dilation": (2, 1), "bias": False}, (4, 5, 7)),
    ("ConvTranspose1d", (4, 6, 3), {}, X3),
    ("ConvTranspose1d", (4, 6, 4, 3, 2, 1), {"groups": 2, "bias": False}, (4, 13)),
]

CLASSES = "Conv1d", "Conv2d", "ConvTranspose1d", "ConvTranspose2d"


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("case", SAME, ids=name_of)
def test_same_as_torch(torch, case, dtype):
    name, args, options, shape = case
    ours, theirs = pair(torch, name, args, options, dtype)
    assert repr(ours) == repr(theirs)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    x = np.random.default_rng(1).standard_normal(shape).astype(dtype)
    for training in (True, False):
        compare(torch, ours.train(training), theirs.train(training), x, dtype)


@pytest.mark.parametrize("name", CLASSES)
def test_signature(torch, name):
    ours, theirs = (inspect.signature(getattr(module, name).__init__).parameters for module in (nn, torch.nn))
    assert [(p.name, p.kind, p.default) for p in ours.values()] == [
        (p.name, p.kind, p.default) for p in theirs.values()
    ]


@pytest.mark.parametrize("name", ["ConvTranspose1d", "ConvTranspose2d"])
def test_output_size(torch, name):
    ours, theirs = pair(torch, name, (3, 2, 3), {"stride": 3, "padding": 1})
    axes = int(name[-2])
    x = np.random.default_rng(0).standard_normal((2, 3, *(5, 4)[:axes])).astype(np.float32)
    for more in range(3):
        size = [13 + more, 10][:axes]
        y = ours(x, size)
        want = theirs(torch.tensor(x), size).detach().numpy()
        assert y.shape == want.shape
        np.testing.assert_allclose(y, want, atol=1e-5)  # sums of 27 products of about 1: 27 eps = 3e-6
    with pytest.raises(ValueError, match=rf"{name}: output_size is .* expected 13 to 15 in axis -{axes}"):
        ours(x, [16, 10][:axes])


@pytest.mark.parametrize("name", CLASSES)
def test_initial_parameters(name):
    """Uniform in ±1/√fan_in, as torch's reset_parameters says; by their largest value, mean and variance."""
    fastnn.manual_seed(1)
    layer = getattr(nn, name)(24, 16, 5, groups=2)
    bound = np.prod(layer.weight.shape[1:]) ** -0.5
    for parameter in layer.parameters():
        x = parameter.data
        n = x.size
        assert 1 - 5 / n < abs(x).max() / bound <= 1
        assert abs(x.mean()) < 4 * bound / (3 * n) ** 0.5  # four standard deviations
        assert abs(x.var() / (bound**2 / 3) - 1) < 4 * (0.8 / n) ** 0.5
    again = fastnn.manual_seed(1) and getattr(nn, name)(24, 16, 5, groups=2)
    assert np.array_equal(again.weight.data, layer.weight.data)


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: nn.Conv2d(3.0, 4, 3), TypeError, "Conv2d: in_channels must be an integer, got 3.0"),
        (lambda: nn.Conv2d(3, 4, 3, groups=2), ValueError, "Conv2d: groups is 2, expected a divisor of in_channels 3"),
        (lambda: nn.Conv2d(4, 4, 3, groups=0), ValueError, "Conv2d: groups is 0"),
        (lambda: nn.Conv2d(3, 4, (3, 3, 3)), ValueError, r"Conv2d: kernel_size is \(3, 3, 3\)"),
        (lambda: nn.Conv1d(3, 4, 0), ValueError, "Conv1d: kernel_size is 0, expected an integer of at least 1"),
        (lambda: nn.Conv2d(3, 4, 3, stride=1.5), TypeError, "Conv2d: stride must be an integer or 2 of them, got 1.5"),
        (lambda: nn.Conv2d(3, 4, 3, 2, "same"), ValueError, "Conv2d: padding is 'same' with stride"),
        (lambda: nn.Conv2d(3, 4, 3, padding="full"), TypeError, "Conv2d: padding must be an integer or 2 of them"),
        (lambda: nn.Conv2d(3, 4, 3, padding=-1), ValueError, "Conv2d: padding is -1"),
        (lambda: nn.Conv2d(3, 4, 3, padding_mode="wrap"), ValueError, "Conv2d: padding_mode is 'wrap', expected"),
        (lambda: nn.ConvTranspose2d(3, 4, 3, padding_mode="reflect"), ValueError, "padding_mode is 'reflect'"),
        (lambda: nn.Conv2d(3, 4, 3, device="cuda"), ValueError, "device is 'cuda'"),
        (lambda: nn.Conv2d(3, 4, 3, dtype=np.int32), TypeError, "dtype is int32"),
        (lambda: nn.Conv2d(3, 4, 3)(np.zeros((2, 5), np.float32)), ValueError, "Conv2d: input has 2 dimensions"),
        (lambda: nn.Conv2d(3, 4, 3)([1.0]), TypeError, "Conv2d: input must be a Tensor or an array, got list"),
        (lambda: nn.Conv2d(3, 4, 3)(np.zeros((1, 5, 8, 8), np.float32)), ValueError, "conv2d: .*channels"),
        (lambda: nn.Conv2d(3, 4, 3)(np.zeros((1, 3, 8, 8))), TypeError, "conv2d: .*float32"),
    ],
)
def test_errors(make, error, text):
    with pytest.raises(error, match=text):
        make()


@pytest.mark.parametrize("mode", ["zeros", "circular"])
def test_padding_on_four_sides(mode):
    """Top, bottom, left, right: fastnn's own."""
    x = np.random.default_rng(0).standard_normal(X4).astype(np.float32)
    layer = nn.Conv2d(4, 6, 3, padding=(0, 1, 2, 3), padding_mode=mode)
    padded = F.pad(x, (2, 3, 0, 1), "constant" if mode == "zeros" else mode)
    np.testing.assert_allclose(layer(x), F.conv2d(padded, layer.weight.data, layer.bias.data), atol=1e-5)
    layer = nn.Conv1d(4, 6, 3, padding=(2, 0), padding_mode=mode)
    padded = F.pad(x[:, :, 0], (2, 0), "constant" if mode == "zeros" else mode)
    np.testing.assert_allclose(layer(x[:, :, 0]), F.conv1d(padded, layer.weight.data, layer.bias.data), atol=1e-5)


def test_empty_batch():
    assert nn.Conv2d(3, 4, 3)(np.zeros((0, 3, 8, 8), np.float32)).shape == (0, 4, 6, 6)


# ---- prepared filters ----

IMAGES = np.random.default_rng(0).standard_normal((2, 16, 9, 7)).astype(np.float32)
FILTERS = np.random.default_rng(1).standard_normal((32, 16, 3, 3)).astype(np.float32)


def by_data(layer):
    layer.weight.data[...] = FILTERS


def by_one_element(layer):
    layer.weight.data[31, 15, 2, 2] += 1


def by_exchange(layer):
    """The sum of the elements stays."""
    layer.weight.data[[0, 1]] = layer.weight.data[[1, 0]]


def by_operator(layer):
    layer.weight.data *= 2


def by_assignment(layer):
    layer.weight.data = FILTERS.copy()


def by_parameter(layer):
    layer.weight = nn.Parameter(FILTERS.copy())


def by_state(layer):
    layer.load_state_dict({"weight": FILTERS, "bias": np.ones(32, np.float32)})


def by_state_dict(layer):
    layer.state_dict()["weight"][...] = FILTERS


def by_view(layer):
    layer.weight.detach()[3:5].data.fill(7)


def in_place(layer):
    with no_grad():
        layer.weight += 1


def by_optimizer(layer):
    optimizer = optim.SGD(layer.parameters(), 0.1)
    layer(Tensor(IMAGES)).sum().backward()
    optimizer.step()


def by_initialisation(layer):
    nn.init.normal_(layer.weight)


def by_bias(layer):
    layer.bias.data[...] = 3


@pytest.mark.parametrize(
    "change",
    [by_data, by_one_element, by_exchange, by_operator, by_assignment, by_parameter, by_state, by_state_dict, by_view,
     in_place, by_optimizer, by_initialisation, by_bias],
)  # fmt: skip
def test_a_changed_parameter_is_noticed(change):
    layer = nn.Conv2d(16, 32, 3, padding=1)
    before = layer(IMAGES)
    assert np.array_equal(layer(IMAGES), before)
    change(layer)
    after = layer(IMAGES)
    assert not np.array_equal(after, before)
    assert np.array_equal(after, F.conv2d(IMAGES, layer.weight.data, layer.bias.data, padding=1))


def test_an_array_that_others_hold():
    """Written to between two calls, by a user who lets go of it before the second."""
    array = FILTERS.copy()
    layer = nn.Conv2d(16, 32, 3, bias=False)
    layer.weight = nn.Parameter(array)
    before = layer(IMAGES)
    array[0] = 0
    del array
    assert np.array_equal(layer(IMAGES), F.conv2d(IMAGES, layer.weight.data)) and before[:, 0].any()


def test_a_view_of_memory_that_others_hold():
    memory = np.zeros(FILTERS.size + 5, np.float32)
    layer = nn.Conv2d(16, 32, 3, bias=False)
    layer.weight = nn.Parameter(memory[5:].reshape(FILTERS.shape))
    for _ in range(3):
        memory += 1
        assert np.array_equal(layer(IMAGES), F.conv2d(IMAGES, layer.weight.data))


def test_dtype_changes():
    layer = nn.Conv2d(16, 32, 3)
    layer(IMAGES)
    y = layer.double()(IMAGES.astype(np.float64))
    assert np.array_equal(y, F.conv2d(IMAGES.astype(np.float64), layer.weight.data, layer.bias.data))


def test_what_is_prepared_is_used(monkeypatch):
    """Filters are prepared once, whatever of the layer's calls, and for none that is recorded."""
    made = []
    layer = nn.Conv2d(16, 32, 3)
    prepare = layer._prepared.__reduce__()[1][0]
    layer._prepared = type(layer._prepared)(lambda w: made.append(1) or prepare(w))
    layer(Tensor(IMAGES))
    assert not made
    layer(IMAGES)
    layer(IMAGES[:1])
    with no_grad():
        layer(Tensor(IMAGES))
    assert len(made) == 1
    layer.eval()
    layer(IMAGES)
    assert len(made) == 1
    nn.Sequential(layer).train()
    layer(IMAGES)
    assert len(made) == 2


def test_copies_are_independent():
    layer = nn.Conv2d(16, 32, 3)
    y = layer(IMAGES)
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert np.array_equal(twin(IMAGES), y)
        twin.weight.data.fill(0)
        assert np.array_equal(layer(IMAGES), y) and not np.array_equal(twin(IMAGES), y)


def test_threads_share_a_layer():
    layer = nn.Conv2d(16, 32, 3)
    want, wrong = layer(IMAGES), []
    layer.train()

    def work():
        for _ in range(50):
            if not np.array_equal(layer(IMAGES), want):
                wrong.append(1)
            layer.weight.data  # handed out, so that the next call compares fingerprints  # noqa: B018
            layer._prepared.clear()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
