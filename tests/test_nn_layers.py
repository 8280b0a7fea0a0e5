"""Layers against torch's of the same names: signatures, repr, state, results and gradients in both modes; errors; how
parameters are drawn. Those of convolution are in tests/test_nn_conv.py."""

import inspect
from math import sqrt

import numpy as np
import pytest
from nn_support import close, compare, name_of, pair

import fastnn
from fastnn import Tensor, nn
from fastnn.nn import functional as F

# Public classes that torch.nn has not, and why we have them.
OUR_OWN = {
    "Layer": "the base of fastnn's own layers, which take arrays without being wrapped",
    "Residual": "body(x) + shortcut(x)",
    "Parallel": "the concatenation of branches",
    "Hardmax": "the indicator of the largest element",
    "AdditiveAttention": "Bahdanau's attention",
    "DotAttention": "attention to a memory, one head without weights",
    "JSDivergence": "Jensen-Shannon divergence in bits: torch has KLDivLoss only",
    "ManyToMany": "a head at every time of a recurrent layer",
    "ManyToOne": "a head on the last state of a recurrent layer",
    "MinPool1d": "pooling with the minimum",
    "MinPool2d": "pooling with the minimum",
    "OneToMany": "a recurrent layer whose results are its next inputs",
    "SubSample2d": "one pixel of every block",
    "UpsampleZeros2d": "zero-insertion",
    "Whiten": "what batch norm replaced",
}

CLASSES = [name for name in nn.__all__ if inspect.isclass(getattr(nn, name))]


def normal(rng, shape):
    return rng.standard_normal(shape)


def positive(rng, shape):
    return np.abs(rng.standard_normal(shape)) + 0.1


def classes(*shape, n):
    return lambda rng: rng.integers(0, n, shape)


def distributions(rng, shape):
    x = rng.random(shape) + 0.1
    return x / x.sum(-1, keepdims=True)


def logarithms(rng, shape):
    return np.log(distributions(rng, shape))


X4, X3, X2 = (2, 3, 9, 8), (2, 3, 11), (5, 6)

# class, arguments, options, shape of the input: torch's layer of the same name, with its state, computes the same.
SAME = [
    ("Linear", (6, 4), {}, X2),
    ("Linear", (6, 4), {"bias": False}, (2, 3, 6)),
    ("Linear", (6, 4), {}, (6,)),
    ("Identity", (), {}, X3),
    ("Identity", (7, "anything"), {"more": 1}, X3),
    ("Flatten", (), {}, X4),
    ("Flatten", (0, 2), {}, X4),
    ("Flatten", (), {"start_dim": -2}, X4),
    ("Unflatten", (1, (2, 3)), {}, X2),
    ("Unflatten", (-1, (-1, 4)), {}, X4),
    ("BatchNorm1d", (6,), {}, X2),
    ("BatchNorm1d", (3,), {"eps": 1e-3, "momentum": 0.3}, X3),
    ("BatchNorm2d", (3,), {}, X4),
    ("BatchNorm2d", (3,), {"momentum": None}, X4),
    ("BatchNorm2d", (3,), {"affine": False}, X4),
    ("BatchNorm2d", (3,), {"bias": False}, X4),
    ("BatchNorm2d", (3,), {"track_running_stats": False}, X4),
    ("BatchNorm2d", (3,), {"track_running_stats": False, "momentum": None}, X4),
    ("BatchNorm3d", (3,), {}, (2, 3, 4, 5, 3)),
    ("InstanceNorm1d", (3,), {}, X3),
    ("InstanceNorm1d", (3,), {"affine": True, "track_running_stats": True}, X3),
    ("InstanceNorm1d", (3,), {"affine": True}, (3, 11)),
    ("InstanceNorm2d", (3,), {"affine": True, "bias": False, "eps": 1e-3}, X4),
    ("InstanceNorm2d", (3,), {"track_running_stats": True, "momentum": 0.4}, X4),
    ("InstanceNorm3d", (3,), {}, (2, 3, 4, 5, 3)),
    ("LayerNorm", (6,), {}, X2),
    ("LayerNorm", ([9, 8],), {"eps": 1e-3}, X4),
    ("LayerNorm", ((8,),), {"bias": False}, X4),
    ("LayerNorm", (8,), {"elementwise_affine": False}, X4),
    ("RMSNorm", (6,), {}, X2),
    ("RMSNorm", ((9, 8),), {"eps": 1e-3, "elementwise_affine": False}, X4),
    ("GroupNorm", (3, 6), {}, (2, 6, 5)),
    ("GroupNorm", (2, 6), {"affine": False}, X2),
    ("GroupNorm", (1, 6), {"bias": False, "eps": 1e-3}, (2, 6, 5)),
    ("LocalResponseNorm", (2,), {}, X4),
    ("LocalResponseNorm", (3,), {"alpha": 0.1, "beta": 0.5, "k": 2.0}, X3),
    ("MaxPool1d", (3,), {}, X3),
    ("MaxPool1d", (3,), {"stride": 2, "padding": 1, "dilation": 2, "ceil_mode": True}, (3, 11)),
    ("MaxPool2d", (2,), {}, X4),
    ("MaxPool2d", ((3, 2),), {"stride": (2, 1), "padding": (1, 0)}, X4),
    ("MaxPool2d", (3, 2), {"ceil_mode": True, "dilation": 2}, (3, 9, 8)),
    ("AvgPool1d", (3,), {"stride": 2, "padding": 1}, X3),
    ("AvgPool1d", (2,), {"ceil_mode": True, "count_include_pad": False}, (3, 11)),
    ("AvgPool2d", (2,), {}, X4),
    ("AvgPool2d", ((3, 2), 2, 1), {"count_include_pad": False, "divisor_override": 5}, X4),
    ("LPPool1d", (2, 3), {"stride": 2}, X3),
    ("LPPool2d", (1.5, (2, 3)), {"ceil_mode": True}, X4),
    ("AdaptiveAvgPool1d", (4,), {}, X3),
    ("AdaptiveAvgPool2d", (1,), {}, X4),
    ("AdaptiveAvgPool2d", ((4, None),), {}, (3, 9, 8)),
    ("AdaptiveMaxPool1d", (4,), {}, X3),
    ("AdaptiveMaxPool2d", ((None, 3),), {}, X4),
    ("ReLU", (), {}, X3),
    ("ReLU", (True,), {}, X3),
    ("ReLU6", (True,), {}, X3),
    ("SiLU", (), {"inplace": True}, X3),
    ("Hardsigmoid", (True,), {}, X3),
    ("Hardswish", (True,), {}, X3),
    ("Sigmoid", (), {}, X3),
    ("Tanh", (), {}, X3),
    ("LeakyReLU", (0.2,), {"inplace": True}, X3),
    ("LeakyReLU", (), {}, X3),
    ("ELU", (0.7,), {}, X3),
    ("ELU", (), {"inplace": True}, X3),
    ("GELU", (), {}, X3),
    ("GELU", ("tanh",), {}, X3),
    ("Softplus", (2.0, 1.5), {}, X3),
    ("Hardtanh", (-0.5, 0.7), {}, X3),
    ("Hardtanh", (), {"inplace": True}, X3),
    ("PReLU", (), {}, X3),
    ("PReLU", (3,), {"init": 0.1}, X4),
    ("Softmax", (1,), {}, X3),
    ("LogSoftmax", (-1,), {}, X3),
    ("Softmax2d", (), {}, X4),
    ("Softmax2d", (), {}, (3, 4, 5)),
    ("Upsample", (), {"scale_factor": 2}, X4),
    ("Upsample", (), {"scale_factor": (1.5, 2), "mode": "bilinear"}, X4),
    ("Upsample", (7,), {}, X3),
    ("Upsample", (), {"size": 17, "mode": "linear", "align_corners": True}, X3),
    ("Upsample", (), {"scale_factor": 1.3, "mode": "bilinear", "recompute_scale_factor": True}, X4),
    ("UpsamplingNearest2d", (), {"scale_factor": 3}, X4),
    ("UpsamplingBilinear2d", ((13, 5),), {}, X4),
    ("ZeroPad1d", (2,), {}, X3),
    ("ZeroPad2d", ((1, 2, 3, -1),), {}, X4),
    ("ConstantPad1d", (2, 3.5), {}, X3),
    ("ConstantPad2d", ((1, 0, 2, 3), -1.0), {}, X4),
    ("ReflectionPad1d", ((3, 1),), {}, X3),
    ("ReflectionPad2d", (2,), {}, X4),
    ("ReplicationPad1d", (2,), {}, X3),
    ("ReplicationPad2d", ((1, 2, 3, 4),), {}, X4),
    ("CircularPad1d", (2,), {}, X3),
    ("CircularPad2d", ((1, 2, 3, 4),), {}, X4),
    ("Dropout", (0.0,), {}, X3),
    ("Dropout", (1.0,), {"inplace": True}, X3),
    ("Dropout1d", (0.0,), {}, X3),
    ("Dropout2d", (0.0,), {}, X4),
    ("AlphaDropout", (0.0,), {}, X3),
    ("LSTM", (6, 4), {}, (3, 2, 6)),
    ("LSTM", (6, 4), {"num_layers": 2, "bidirectional": True, "bias": False}, (3, 2, 6)),
    ("LSTM", (6, 4, 3), {"batch_first": True, "bidirectional": True}, (3, 2, 6)),
    ("LSTM", (6, 4, 2), {"dropout": 1.0}, (3, 6)),
    ("LSTM", (6, 4), {"num_layers": 2, "bidirectional": True, "proj_size": 3}, (3, 2, 6)),
    ("GRU", (6, 4, 2), {"batch_first": True, "bidirectional": True}, (3, 2, 6)),
    ("GRU", (6, 4), {"bias": False, "dropout": 0.0}, (3, 6)),
    ("RNN", (6, 4, 2, "relu"), {"bias": False, "dropout": 1.0}, (3, 2, 6)),
    ("RNN", (6, 4), {"bidirectional": True}, (3, 6)),
    ("LSTMCell", (6, 4), {}, X2),
    ("LSTMCell", (6, 4), {"bias": False}, (6,)),
    ("GRUCell", (6, 4), {}, X2),
    ("GRUCell", (6, 4), {"bias": False}, (6,)),
    ("RNNCell", (6, 4), {}, X2),
    ("RNNCell", (6, 4, False, "relu"), {}, (6,)),
]

# class, options, makers of input and target
LOSSES = [
    ("CrossEntropyLoss", {}, (4, 5), classes(4, n=5)),
    ("CrossEntropyLoss", {"ignore_index": 2, "label_smoothing": 0.1, "weighted": 5}, (4, 5, 3), classes(4, 3, n=5)),
    ("CrossEntropyLoss", {"reduction": "sum"}, (4, 5), lambda rng: distributions(rng, (4, 5))),
    ("CrossEntropyLoss", {}, (5,), classes(n=5)),
    ("NLLLoss", {"reduction": "none", "weighted": 5}, (4, 5), classes(4, n=5)),
    ("NLLLoss", {"ignore_index": 1}, (4, 5), classes(4, n=5)),
    ("BCELoss", {"weighted": 6, "reduction": "sum"}, X2, lambda rng: rng.random(X2)),
    ("BCEWithLogitsLoss", {}, X2, lambda rng: rng.random(X2)),
    ("BCEWithLogitsLoss", {"weighted": 6, "positive": 6, "reduction": "sum"}, X2, lambda rng: rng.random(X2)),
    ("MSELoss", {}, X3, lambda rng: normal(rng, X3)),
    ("MSELoss", {"reduction": "none"}, X3, lambda rng: normal(rng, X3)),
    ("L1Loss", {"reduction": "sum"}, X3, lambda rng: normal(rng, X3)),
    ("SmoothL1Loss", {"beta": 0.7}, X3, lambda rng: normal(rng, X3)),
    ("HuberLoss", {"delta": 0.7, "reduction": "sum"}, X3, lambda rng: normal(rng, X3)),
    ("KLDivLoss", {"reduction": "batchmean"}, X2, lambda rng: distributions(rng, X2)),
    ("KLDivLoss", {"log_target": True, "reduction": "sum"}, X2, lambda rng: logarithms(rng, X2)),
]


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")  # torch of itself
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("case", SAME, ids=name_of)
def test_same_as_torch(torch, case, dtype):
    name, args, options, shape = case
    ours, theirs = pair(torch, name, args, options, dtype)
    rng = np.random.default_rng(1)
    for training in (True, True, False):
        ours.train(training)
        theirs.train(training)
        compare(torch, ours, theirs, positive(rng, shape).astype(dtype) if "LPPool" in name else
                (rng.permutation(int(np.prod(shape))).reshape(shape) / 20 - 1.01).astype(dtype), dtype)  # fmt: skip


@pytest.mark.parametrize("case", SAME, ids=name_of)
def test_repr_and_state(torch, case):
    name, args, options, _ = case
    ours, theirs = getattr(nn, name)(*args, **options), getattr(torch.nn, name)(*args, **options)
    assert repr(ours) == repr(theirs)
    state = {key: (x.shape, str(x.dtype)) for key, x in ours.state_dict().items()}
    assert state == {
        key: (tuple(x.shape), str(x.dtype).removeprefix("torch.")) for key, x in theirs.state_dict().items()
    }
    assert list(state) == list(theirs.state_dict())
    assert [key for key, _ in ours.named_parameters()] == [key for key, _ in theirs.named_parameters()]


def loss_pair(torch, name, options, dtype):
    options = dict(options)
    rng = np.random.default_rng(5)
    arrays = {
        argument: (rng.random(options.pop(key)) + 0.5).astype(dtype)
        for key, argument in (("weighted", "weight"), ("positive", "pos_weight"))
        if key in options
    }
    theirs = getattr(torch.nn, name)(**options, **{key: torch.tensor(x) for key, x in arrays.items()})
    return getattr(nn, name)(**options, **arrays), theirs


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("case", LOSSES, ids=name_of)
def test_losses(torch, case, dtype):
    name, options, shape, target = case
    rng = np.random.default_rng(2)
    x, target = normal(rng, shape).astype(dtype), np.asarray(target(rng))
    target = target.astype(dtype) if target.dtype.kind == "f" else target
    x = (x - x.min() + 0.1) / (np.ptp(x) + 0.2) if name == "BCELoss" else x  # which takes probabilities
    ours, theirs = loss_pair(torch, name, options, dtype)
    assert repr(ours) == repr(theirs)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    given, leaf = Tensor(x, True), torch.tensor(x, requires_grad=True)
    y, t = ours(given, target), theirs(leaf, torch.tensor(target))
    close(y.data, t.detach().numpy(), dtype, "loss", x.size)
    assert np.array_equal(ours(x, target), y.data)
    y.sum().backward()
    t.sum().backward()
    close(given.grad, leaf.grad.numpy(), dtype, "gradient", x.size)


@pytest.mark.parametrize(
    ("size_average", "reduce"), [(a, b) for a in (None, False, True) for b in (None, False, True) if a or b or a != b]
)
@pytest.mark.filterwarnings("ignore:size_average and reduce")  # torch's
def test_former_words_for_reduction(torch, size_average, reduce):
    want = torch.nn.MSELoss(size_average, reduce).reduction
    assert nn.MSELoss(size_average, reduce).reduction == want
    assert nn.CrossEntropyLoss(size_average=size_average, reduce=reduce).reduction == want
    assert nn.KLDivLoss(size_average, reduce, "batchmean").reduction == want


# ---- signatures ----


@pytest.mark.parametrize("name", CLASSES)
def test_twin_or_reason(torch, name):
    assert hasattr(torch.nn, name) != (name in OUR_OWN) or name in ("Module", "Parameter")
    assert getattr(nn, name).__doc__


# Those with torch's signature; that of its layers over sequences is only in their docstring.
SEQUENCES = ("GRU", "LSTM", "RNN")
TWINS = [n for n in CLASSES if n not in (*OUR_OWN, *SEQUENCES) and issubclass(getattr(nn, n), nn.Layer)]

# Keyword-only arguments that torch has not.
MORE = {"variant"}


@pytest.mark.parametrize("name", [*TWINS, "MultiheadAttention", "PReLU"])
def test_signature(torch, name):
    """Names, order, kinds and defaults of the constructor's arguments."""

    def parameters(cls):
        _, *found = inspect.signature(cls.__init__).parameters.values()
        own = (p for p in found if p.kind is not p.KEYWORD_ONLY or p.name not in MORE)
        return [(p.name, p.kind, p.default) for p in own if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]

    assert parameters(getattr(nn, name)) == parameters(getattr(torch.nn, name))


@pytest.mark.parametrize("name", SEQUENCES)
def test_signature_of_sequences(torch, name):
    first = getattr(torch.nn, name).__doc__.partition("\n")[0].replace("'", "")
    ours = [p for p in inspect.signature(getattr(nn, name)).parameters.values() if p.name not in MORE]
    assert first == f"__init__({','.join(p.name + ('' if p.default is p.empty else f'={p.default}') for p in ours)})"


def test_functional_is_a_module():
    import fastnn.nn.functional as functional
    import fastnn.nn.init as init

    assert functional is F is fastnn.functional and init is fastnn.init is nn.init
    assert nn.utils.clip_grad_norm_


# ---- what does not fit the table ----


def test_indices_and_unpooling(torch):
    x = np.random.default_rng(0).standard_normal((2, 3, 8, 6)).astype(np.float32)
    for d, given in (2, x), (2, x[0]), (1, x[0]), (1, x[0, 0]):
        pool, unpool = getattr(nn, f"MaxPool{d}d")(2, return_indices=True), getattr(nn, f"MaxUnpool{d}d")(2)
        theirs = getattr(torch.nn, f"MaxPool{d}d")(2, return_indices=True), getattr(torch.nn, f"MaxUnpool{d}d")(2)
        assert repr(unpool) == repr(theirs[1])
        y, indices = pool(given)
        t, places = theirs[0](torch.tensor(given))
        assert np.array_equal(y, t.numpy()) and np.array_equal(indices, places.numpy())
        assert np.array_equal(unpool(y, indices), theirs[1](t, places).numpy())
        leaf = Tensor(given, True)
        y, indices = pool(leaf)
        unpool(y, indices, leaf.shape[-d:]).sum().backward()
        assert np.array_equal(leaf.grad, unpool(y.data, indices.data) != 0)
        adaptive = getattr(nn, f"AdaptiveMaxPool{d}d")(3, return_indices=True)(given)
        want = getattr(torch.nn, f"AdaptiveMaxPool{d}d")(3, return_indices=True)(torch.tensor(given))
        assert all(np.array_equal(a, b.numpy()) for a, b in zip(adaptive, want, strict=True))


def test_our_own_layers():
    x = np.random.default_rng(0).standard_normal((2, 3, 8, 6))
    assert np.array_equal(nn.MinPool2d(2)(x), -nn.MaxPool2d(2)(-x))
    assert np.array_equal(nn.MinPool1d(3, 2, 1)(x[0]), -nn.MaxPool1d(3, 2, 1)(-x[0]))
    assert np.array_equal(nn.SubSample2d(2)(x), x[:, :, ::2, ::2])
    assert np.array_equal(nn.SubSample2d((2, 3), "middle")(x[0]), x[0, :, 1::2, 1::3])
    assert np.array_equal(nn.UpsampleZeros2d(2)(x)[:, :, ::2, ::2], x)
    assert np.array_equal(nn.Hardmax(1)(x).argmax(1), x.argmax(1))
    p, q = (distributions(np.random.default_rng(i), (4, 5)) for i in range(2))
    assert np.array_equal(nn.JSDivergence(reduction="none")(p, q), F.js_divergence(p, q, reduction="none"))
    assert repr(nn.MinPool2d(2)) == "MinPool2d(kernel_size=2, stride=2, padding=0, dilation=1, ceil_mode=False)"
    assert repr(nn.SubSample2d(3)) == "SubSample2d(block=3, position='upper_left')"
    assert repr(nn.UpsampleZeros2d(3)) == "UpsampleZeros2d(stride=3)"
    assert repr(nn.Whiten(3)) == "Whiten(3, method='zca', eps=1e-05, momentum=0.1)"


@pytest.mark.parametrize("method", ["pca", "zca"])
def test_whiten(method):
    rng = np.random.default_rng(0)
    mixing = rng.standard_normal((4, 4))
    batches = [rng.standard_normal((50, 4)) @ mixing + 3 for _ in range(3)]
    layer = nn.Whiten(4, method, eps=0.0, momentum=None).double()
    for x in batches:
        y = layer(Tensor(x)).data
        np.testing.assert_allclose(y.T @ y / len(y), np.eye(4), atol=1e-9)  # condition of mixing: 1e2, eps 2e-16
    assert layer.num_batches_tracked == 3
    np.testing.assert_allclose(layer.running_mean, np.mean([x.mean(0) for x in batches], 0), rtol=1e-12)
    np.testing.assert_allclose(layer.running_cov, np.mean([np.cov(x.T) for x in batches], 0), rtol=1e-12)
    layer.eval()
    x = batches[0]
    assert np.array_equal(layer(x), F.whiten(x, layer.running_mean, layer.running_cov, method, eps=0.0))
    assert layer.num_batches_tracked == 3
    layer.reset_running_stats()
    if method == "zca":
        np.testing.assert_allclose(layer(x), x, rtol=1e-12)  # of the unit matrix


@pytest.mark.parametrize("training", [True, False])
def test_dropout_modes(training):
    x = np.ones((40, 30), np.float32)
    layer = nn.Dropout(0.25).train(training)
    fastnn.manual_seed(3)
    y = layer(x)
    assert layer(x) is x if not training else set(np.unique(y).tolist()) == {0.0, np.float32(1 / 0.75).item()}
    fastnn.manual_seed(3)
    assert np.array_equal(layer(Tensor(x)).data, y)


def test_inplace_is_for_arrays():
    x = np.array([-1.0, 2.0], np.float32)
    for layer in (nn.ReLU(True), nn.LeakyReLU(inplace=True), nn.Hardtanh(inplace=True)):
        given = x.copy()
        assert layer(given) is given
        given = Tensor(x.copy(), True)
        assert np.array_equal(layer(given).data, layer(x.copy())) and np.array_equal(given.data, x)
    plain = x.copy()
    nn.ReLU()(plain)
    assert np.array_equal(plain, x)


def test_softmax_without_dim():
    rng = np.random.default_rng(0)
    for ndim, dim in (1, 0), (2, 1), (3, 0), (4, 1):
        x = rng.standard_normal((2, 3, 4, 5)[:ndim])
        assert np.array_equal(nn.Softmax()(x), F.softmax(x, dim))


def test_embedding(torch):
    options = {"padding_idx": -2, "max_norm": 1.0, "norm_type": 1.5, "scale_grad_by_freq": True}
    ours, theirs = nn.Embedding(7, 3, **options), torch.nn.Embedding(7, 3, **options)
    assert repr(ours) == repr(theirs) and repr(nn.Embedding(7, 3)) == repr(torch.nn.Embedding(7, 3))
    assert not ours.weight.data[5].any()
    theirs.load_state_dict({key: torch.tensor(x) for key, x in ours.state_dict().items()})
    indices = np.random.default_rng(0).integers(0, 7, (4, 5))
    y, t = ours(Tensor(indices)), theirs(torch.tensor(indices))
    close(y.data, t.detach().numpy(), np.float32, "rows")
    close(ours.weight.data, theirs.weight.detach().numpy(), np.float32, "scaled table")
    weights = np.random.default_rng(1).standard_normal(y.shape).astype(np.float32)
    (y * weights).sum().backward()
    (t * torch.tensor(weights)).sum().backward()
    close(ours.weight.grad, theirs.weight.grad.numpy(), np.float32, "gradient", 20)
    close(ours(indices), y.data, np.float32, "rows, scaled again")


def test_embedding_from_pretrained():
    table = np.arange(12.0).reshape(4, 3)
    layer = nn.Embedding.from_pretrained(table, padding_idx=1)
    assert layer.weight.data is table and not layer.weight.requires_grad and layer.padding_idx == 1
    assert nn.Embedding.from_pretrained(Tensor(table), freeze=False).weight.requires_grad
    assert np.array_equal(layer(np.array([3, 0])), table[[3, 0]])
    with pytest.raises(ValueError, match=r"embeddings must be an array of two dimensions, got \(3,\)"):
        nn.Embedding.from_pretrained(table[0])


# ---- initialisation ----


def uniform(x, bound):
    """Uniform in ±bound: of n values the largest is beyond (1 - 20/n) bound but for e^-20, the mean within 6 sigma."""
    n = x.size
    return (
        np.abs(x).max() <= bound and np.abs(x).max() > (1 - 20 / n) * bound and abs(x.mean()) < 6 * bound / sqrt(3 * n)
    )


def test_initial_values():
    fastnn.manual_seed(0)
    linear = nn.Linear(200, 300)
    assert uniform(linear.weight.data, np.float32(1 / sqrt(200)))
    assert uniform(linear.bias.data, np.float32(1 / sqrt(200)))
    recurrent = (nn.RNN, nn.GRU, nn.LSTM)
    for layer in (*(c(30, 25, 2, bidirectional=True) for c in recurrent), nn.LSTMCell(30, 25), nn.GRUCell(30, 25)):
        assert all(uniform(p.data, np.float32(1 / 5)) for p in layer.parameters())
    table = nn.Embedding(500, 40).weight.data
    assert abs(table.mean()) < 6 / sqrt(20000) and abs(table.var() - 1) < 6 * sqrt(2 / 20000)
    before = linear.weight.data.copy()
    linear.reset_parameters()
    assert not np.array_equal(linear.weight.data, before)
    norm = nn.BatchNorm1d(3, dtype=np.float64)
    for array in norm.state_dict().values():
        array += 5
    norm.reset_parameters()
    values = {key: x.tolist() for key, x in norm.state_dict().items()}
    assert values == {
        "weight": [1, 1, 1], "bias": [0, 0, 0], "running_mean": [0, 0, 0], "running_var": [1, 1, 1],
        "num_batches_tracked": 0}  # fmt: skip
    assert norm.weight.dtype == norm.running_var.dtype == np.float64
    prelu = nn.PReLU(3, 0.5)
    prelu.weight.data[...] = 7
    prelu.reset_parameters()
    assert prelu.weight.tolist() == [0.5] * 3


# ---- errors ----

X = np.ones((2, 3, 4, 5), np.float32)

BAD = [
    (lambda: nn.Linear(2.5, 3), TypeError, "Linear: in_features must be an integer, got 2.5"),
    (lambda: nn.Linear(2, -3), ValueError, "Linear: out_features is -3, expected at least 0"),
    (lambda: nn.Linear(2, 3, device="cuda"), ValueError, "device is 'cuda', expected None or 'cpu'"),
    (lambda: nn.Linear(2, 3, dtype=np.int64), TypeError, "dtype is int64, expected float32 or float64"),
    (lambda: nn.Linear(4, 3)(X), ValueError, "linear: w has 4 columns, expected 5"),
    (lambda: nn.Flatten(1.0), TypeError, "Flatten: start_dim must be an integer, got 1.0"),
    (lambda: nn.Flatten(4)(X), ValueError, "flatten: start_dim is 4, expected -4 to 3"),
    (lambda: nn.Flatten(2, 1)(X), ValueError, "flatten: start_dim is 2, expected at most end_dim, 1"),
    (lambda: nn.Unflatten("a", (1,)), TypeError, "Unflatten: dim must be an integer, got 'a'"),
    (lambda: nn.Unflatten(1, 3), TypeError, "Unflatten: unflattened_size must be a tuple of integers, got 3"),
    (lambda: nn.Unflatten(1, (2, 2))(X), ValueError, r"unflatten: sizes are \(2, 2\), expected a product of 3"),
    (lambda: nn.BatchNorm2d("3"), TypeError, "BatchNorm2d: num_features must be an integer, got '3'"),
    (lambda: nn.BatchNorm2d(3)(X[0]), ValueError, "BatchNorm2d: input has 3 dimensions, .* expected 4"),
    (lambda: nn.BatchNorm1d(3)(X), ValueError, "BatchNorm1d: input has 4 dimensions, .* expected 2 or 3"),
    (lambda: nn.BatchNorm2d(4)(X), ValueError, "BatchNorm2d: input has 3 channels, .* expected num_features, 4"),
    (lambda: nn.BatchNorm2d(3)([1.0]), TypeError, "BatchNorm2d: input must be a Tensor or an array, got list"),
    (
        lambda: nn.InstanceNorm1d(5)(X[0]),
        ValueError,
        "InstanceNorm1d: input has 4 channels, .* num_features, 5",
    ),
    (lambda: nn.InstanceNorm2d(3)(X[0, 0]), ValueError, "InstanceNorm2d: input has 2 dimensions"),
    (lambda: nn.LayerNorm(2.5), TypeError, "LayerNorm: normalized_shape must be positive integers"),
    (lambda: nn.RMSNorm(()), TypeError, "RMSNorm: normalized_shape must be positive integers"),
    (lambda: nn.GroupNorm(2, 5), ValueError, "GroupNorm: num_channels is 5, expected a multiple of num_groups, 2"),
    (lambda: nn.Whiten(3, "svd"), ValueError, "Whiten: method is 'svd', expected 'pca' or 'zca'"),
    (lambda: nn.MaxPool2d(2)(X[0, 0]), ValueError, "MaxPool2d: input has 2 dimensions, .* expected 3 or 4"),
    (lambda: nn.MaxPool2d(2.0)(X), TypeError, "max_pool2d: kernel_size must be an integer"),
    (lambda: nn.AvgPool1d((2, 2))(X[0]), TypeError, "avg_pool1d: kernel_size must be an integer"),
    (lambda: nn.Hardtanh(1.0, 1.0), ValueError, "Hardtanh: max_val is 1.0, expected more than min_val, 1.0"),
    (lambda: nn.PReLU(4)(X), ValueError, "PReLU: input has shape .* expected num_parameters, 4, channels"),
    (lambda: nn.GELU("erf")(X), ValueError, "gelu: approximate"),
    (lambda: nn.Softmax2d()(X[0, 0]), ValueError, "Softmax2d: input has 2 dimensions, .* expected 3 or 4"),
    (lambda: nn.Dropout(1.5), ValueError, "Dropout: p is 1.5, expected 0 to 1"),
    (lambda: nn.AlphaDropout("a"), TypeError, "AlphaDropout: p must be a number, got 'a'"),
    (lambda: nn.ZeroPad2d((1, 2)), ValueError, r"ZeroPad2d: padding is \(1, 2\), expected an integer or 4 of them"),
    (lambda: nn.ReflectionPad1d(1.5), TypeError, "ReflectionPad1d: padding must be integers, got 1.5"),
    (lambda: nn.Upsample(2, mode="cubic")(X), ValueError, "interpolate: mode is 'cubic'"),
    (lambda: nn.MSELoss(reduction="avg"), ValueError, "MSELoss: reduction is 'avg', expected 'mean', 'sum' or 'none'"),
    (lambda: nn.NLLLoss(weight=[1.0]), TypeError, "NLLLoss: weight is a buffer, expected an ndarray or None, got list"),
    (lambda: nn.Embedding(3, 2, padding_idx=3), ValueError, "Embedding: padding_idx is 3, expected -3 to 2"),
    (lambda: nn.Embedding(3, 2, padding_idx=0.5), TypeError, "Embedding: padding_idx must be an integer or None"),
    (lambda: nn.Embedding(3, 2, sparse=True), ValueError, "Embedding: sparse is True, expected False"),
    (lambda: nn.Embedding(3, 2, _weight=X[0, 0]), ValueError, r"_weight has shape \(4, 5\), expected \(3, 2\)"),
    (lambda: nn.LSTM(3, 0), ValueError, "LSTM: input_size is 3 and hidden_size 0, expected at least 1"),
    (lambda: nn.LSTM(3, 4, 0), ValueError, "LSTM: num_layers is 0, expected at least 1"),
    (lambda: nn.LSTM(3, 4, dropout=2), ValueError, "LSTM: dropout is 2, expected 0 to 1"),
    (lambda: nn.LSTM(3, 4, proj_size=4), ValueError, "LSTM: proj_size is 4, expected less than hidden_size, 4"),
    (lambda: nn.LSTM(3, 4)(X[0]), ValueError, "LSTM: input has 5 features, .* expected input_size, 3"),
    (lambda: nn.LSTM(5, 4)(X), ValueError, "LSTM: input has 4 dimensions, .* expected 2 or 3"),
    (lambda: nn.LSTM(5, 4)(X[0], X), TypeError, r"LSTM: hx must be None or a pair of states \(h, c\), got ndarray"),
    (lambda: nn.LSTM(5, 3)(X[0], (X[0], X[0])), ValueError, r"LSTM: hx has h of shape .*, expected \(1, 4, 3\)"),
    (lambda: nn.LSTMCell(5, 3)(X[0]), ValueError, "LSTMCell: input has 3 dimensions, .* expected 1 or 2"),
]


@pytest.mark.parametrize(("make", "error", "said"), BAD, ids=[said[:50] for _, _, said in BAD])
def test_errors(make, error, said):
    with pytest.raises(error, match=said):
        make()


def test_a_refused_batch_changes_no_statistics():
    layer = nn.BatchNorm1d(3)
    before = {key: x.copy() for key, x in layer.state_dict().items()}
    with pytest.raises(ValueError, match="one value per channel"):
        layer(np.ones((1, 3), np.float32))
    assert all(np.array_equal(x, before[key]) for key, x in layer.state_dict().items())
