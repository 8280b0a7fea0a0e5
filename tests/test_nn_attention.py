"""MultiheadAttention beside torch's; the reading of a memory beside its formula; errors."""

from itertools import product

import numpy as np
import pytest
from nn_support import close, pair

import fastnn
from fastnn import Tensor, nn
from fastnn._tape import observe
from fastnn.nn import functional as F

N, T, S, E, H = 3, 4, 6, 8, 2

MASKS = {
    "none": (None, None),
    "padding": ("bools", None),
    "numbers for padding": ("numbers", None),
    "pairs": (None, "bools"),
    "numbers for pairs": (None, "numbers"),
    "pairs of heads": (None, "bools of heads"),
    "numbers for pairs of heads": (None, "numbers of heads"),
    "both": ("bools", "bools"),
    "both, numbers": ("numbers", "numbers of heads"),
    "bools and numbers": ("bools", "numbers"),
    "numbers and bools": ("numbers", "bools of heads"),
}


def draw(*shape, seed=0):
    return np.random.default_rng(seed + sum(shape)).standard_normal(shape)


def unseen(*shape):
    """Bools, True where a key is not seen; the first one is."""
    mask = np.random.default_rng(len(shape)).random(shape) < 1 / 3
    mask[..., 0] = False
    return mask


def masks(name, t, s):
    """(key_padding_mask, attn_mask)"""
    padding, pairs = MASKS[name]
    shape = (N * H, t, s) if pairs and pairs.endswith("heads") else (t, s)
    return (
        None if padding is None else unseen(N, s) if padding == "bools" else draw(N, s),
        None if pairs is None else unseen(*shape) if pairs.startswith("bools") else draw(*shape),
    )


def arguments(layout, kinds, kdim=E, vdim=E):
    """Queries, keys and values, in self-attention one array, in cross-attention keys and values perhaps another."""

    def of(length, features):
        shape = {
            "time first": (length, N, features),
            "batch first": (N, length, features),
            "single": (length, features),
        }
        return draw(*shape[layout], seed=features)

    query = of(T, E)
    if kinds == "self":
        return query, query, query
    key = of(S, kdim)
    return query, key, key if kinds == "memory" else of(S, vdim) + 1


def leaves(arrays, make):
    """A leaf of each array, the same one for the same array."""
    made = {}
    return [made.setdefault(id(x), make(x)) for x in arrays]


def compare(torch, ours, theirs, arrays, **options):
    """Results, weights, and all gradients, also those through the weights."""

    def tensor(x):
        return torch.tensor(x) if isinstance(x, np.ndarray) else x

    inputs, wanted = leaves(arrays, lambda x: Tensor(x, True)), leaves(arrays, lambda x: tensor(x).requires_grad_())
    got = ours(*inputs, **options)
    want = theirs(*wanted, **{name: tensor(x) for name, x in options.items()})
    assert (got[1] is None) == (want[1] is None)
    total, total_wanted = 0, 0
    for y, z in zip(got, want, strict=True):
        if y is not None:
            close(y.data, z.detach().numpy(), np.float64, "results", 100)
            dy = draw(*y.shape, seed=3)
            total, total_wanted = total + (y * dy).sum(), total_wanted + (z * tensor(dy)).sum()
    ours.zero_grad()
    theirs.zero_grad()
    total.backward()
    total_wanted.backward()
    for x, z in zip(inputs, wanted, strict=True):
        close(x.grad, z.grad.numpy(), np.float64, "gradient of an argument", 200)
    for (name, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        close(p.grad, q.grad.numpy(), np.float64, name, 200)


FORMS = {
    "plain": {},
    "no bias": {"bias": False},
    "bias_kv": {"add_bias_kv": True},
    "zero": {"add_zero_attn": True},
    "all": {"add_bias_kv": True, "add_zero_attn": True},
    "sizes": {"kdim": 5, "vdim": 7},
    "all sizes": {"kdim": 5, "vdim": 8, "add_bias_kv": True, "bias": False},
}


@pytest.mark.parametrize(
    ("form", "kinds"),
    [
        (form, kinds)
        for form in FORMS
        for kinds in ("self", "memory", "cross")
        if "sizes" not in form or kinds == "cross"
    ],
)
@pytest.mark.parametrize("layout", ["time first", "batch first", "single"])
def test_forms(torch, form, layout, kinds):
    options = {**FORMS[form], "batch_first": layout == "batch first"}
    sizes = {name: n for name, n in FORMS[form].items() if name in ("kdim", "vdim")}
    ours, theirs = pair(torch, "MultiheadAttention", (E, H), options, np.float64)
    arrays = arguments(layout, kinds, **sizes)
    compare(torch, ours, theirs, arrays)
    compare(torch, ours, theirs, arrays, average_attn_weights=False)
    compare(torch, ours, theirs, arrays, need_weights=False)


@pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask")
@pytest.mark.parametrize("form", ["plain", "all"])
@pytest.mark.parametrize("kinds", ["self", "cross"])
@pytest.mark.parametrize("name", MASKS)
def test_masks(torch, form, kinds, name):
    ours, theirs = pair(torch, "MultiheadAttention", (E, H), FORMS[form], np.float64)
    arrays = arguments("time first", kinds)
    padding, pairs = masks(name, T, T if kinds == "self" else S)
    for need_weights in True, False:
        compare(torch, ours, theirs, arrays, key_padding_mask=padding, attn_mask=pairs, need_weights=need_weights)


@pytest.mark.parametrize("form", ["plain", "all"])
def test_masks_of_a_single_sample(torch, form):
    ours, theirs = pair(torch, "MultiheadAttention", (E, H), FORMS[form], np.float64)
    compare(torch, ours, theirs, arguments("single", "cross"), key_padding_mask=unseen(S), attn_mask=unseen(H, T, S))


@pytest.mark.parametrize("form", ["plain", "all"])
@pytest.mark.parametrize("need_weights", [True, False])
def test_causal(torch, form, need_weights):
    """The mask of pairs that torch demands beside is_causal need not be given. torch's fast path hides bias_k and the
    zeros from early queries, its slow path does not, and neither do we."""
    ours, theirs = pair(torch, "MultiheadAttention", (E, H), FORMS[form], np.float64)
    arrays = arguments("time first", "self")
    mask = np.triu(np.ones((T, T), bool), 1)
    compare(torch, ours, theirs, arrays, attn_mask=mask, need_weights=need_weights)
    given = ours(*arrays, attn_mask=mask, need_weights=need_weights)
    for options in {}, {"attn_mask": mask}:
        found = ours(*arrays, need_weights=need_weights, is_causal=True, **options)
        for y, z in zip(found, given, strict=True):
            if y is not None:
                close(y, z, np.float64, "causal", 100)


def test_gradients_of_masks(torch):
    """Of numbers to add, for keys and for pairs."""
    ours, theirs = pair(torch, "MultiheadAttention", (E, H), {}, np.float64)
    arrays, (padding, pairs) = arguments("time first", "cross"), masks("both, numbers", T, S)
    inputs, mine = [Tensor(x) for x in arrays], [Tensor(padding, True), Tensor(pairs, True)]
    wanted, other = [torch.tensor(x) for x in arrays], [torch.tensor(x, requires_grad=True) for x in (padding, pairs)]
    dy = draw(T, N, E)
    (ours(*inputs, mine[0], attn_mask=mine[1])[0] * dy).sum().backward()
    (theirs(*wanted, other[0], attn_mask=other[1])[0] * torch.tensor(dy)).sum().backward()
    for x, z in zip(mine, other, strict=True):
        close(x.grad, z.grad.numpy(), np.float64, "gradient of a mask", 100)


def test_queries_that_see_nothing():
    """Zero weights and the bias of out_proj, where torch gives NaN with weights and this without."""
    layer = nn.MultiheadAttention(E, H, batch_first=True)
    query, key, _ = (x.astype(np.float32) for x in arguments("batch first", "memory"))
    y, weights = layer(query, key, key, key_padding_mask=np.ones((N, S), bool))
    assert not weights.any()
    assert np.array_equal(y, np.broadcast_to(layer.out_proj.bias.data, y.shape))


def test_dropout_of_weights():
    layer = nn.MultiheadAttention(E, H, dropout=0.5)
    x = arguments("time first", "self")[0].astype(np.float32)
    fastnn.manual_seed(4)
    _, weights = layer(x, x, x, average_attn_weights=False)
    assert 0 < (weights == 0).sum() < weights.size
    layer.eval()
    _, weights = layer(x, x, x, average_attn_weights=False)
    assert weights.all()
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-6)


def test_one_product_for_one_argument():
    """A detached copy of the query is another argument, which gets no gradient."""
    layer = nn.MultiheadAttention(E, H).double()
    x = Tensor(arguments("time first", "self")[0], True)
    layer(x, x.detach(), x.detach())[0].sum().backward()
    alone = x.grad
    x.grad = None
    layer(x, x, x)[0].sum().backward()
    assert not np.allclose(alone, x.grad)


def test_how_parameters_are_drawn():
    layer = nn.MultiheadAttention(200, 4, add_bias_kv=True)
    bound = (6 / 800) ** 0.5  # Glorot & Bengio's, of the three projections as one matrix
    w = layer.in_proj_weight.data
    assert 0.98 * bound < np.abs(w).max() <= bound
    assert not layer.in_proj_bias.data.any() and not layer.out_proj.bias.data.any()
    assert np.isclose(layer.bias_k.data.std(), (2 / 400) ** 0.5, rtol=0.2)
    reader = nn.AdditiveAttention(3, 5, 100)
    assert 0.09 < np.abs(reader.weight.data).max() <= 0.1


# ---- reading a memory ----


def weights_of(scores, mask):
    scores = scores if mask is None else np.where(mask, scores, -np.inf) if mask.dtype == bool else scores + mask
    e = np.exp(scores - scores.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def additive(layer, query, key):
    """The formula of Bahdanau et al."""
    q = query @ layer.query_proj.weight.data.T
    k = key @ layer.key_proj.weight.data.T
    return np.tanh(q[:, :, None] + k[:, None]) @ layer.weight.data


READERS = {
    "additive": (lambda: nn.AdditiveAttention(5, 5, 9), additive),
    "dot": (nn.DotAttention, lambda layer, query, key: query @ key.swapaxes(1, 2)),
    "scaled dot": (lambda: nn.DotAttention(None), lambda layer, query, key: query @ key.swapaxes(1, 2) / 5**0.5),
}
MASKS_OF_PAIRS = {
    "none": None,
    "bools": ~unseen(N, T, S),
    "keys": ~unseen(N, 1, S),
    "numbers": draw(T, S),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("mask", MASKS_OF_PAIRS)
@pytest.mark.parametrize("separate", [False, True])
def test_reading(reader, mask, separate):
    make, scores = READERS[reader]
    layer, mask = make().double(), MASKS_OF_PAIRS[mask]
    query, key, value = draw(N, T, 5), draw(N, S, 5), draw(N, S, 7)
    weights = weights_of(scores(layer, query, key), mask)
    want = weights @ (value if separate else key)
    y, a = layer(query, key, value if separate else None, mask, need_weights=True)
    close(a, weights, np.float64, "weights", 100)
    close(y, want, np.float64, "result", 100)
    assert np.array_equal(layer(query, key, value if separate else None, mask), y)


@pytest.mark.parametrize("reader", READERS)
def test_lengths(reader):
    """Keys behind the end are not seen: results are those of the shorter memory."""
    layer = READERS[reader][0]().double()
    query, key = draw(N, T, 5), draw(N, S, 5)
    lengths = np.array([6, 1, 4])
    y, a = layer(query, key, lengths=lengths, need_weights=True)
    with_mask = layer(query, key, mask=np.arange(S) < lengths[:, None, None])
    assert np.array_equal(y, with_mask)
    for i, n in enumerate(lengths):
        alone, weights = layer(query[i], key[i, :n], need_weights=True)
        close(y[i], alone, np.float64, "result", 100)
        close(a[i, :, :n], weights, np.float64, "weights", 100)
        assert not a[i, :, n:].any()
    numbers = draw(T, S)
    close(
        layer(query, key, mask=numbers, lengths=list(lengths)),
        layer(query, key, mask=np.where(np.arange(S) < lengths[:, None, None], numbers, -np.inf)),
        np.float64, "mask and lengths", 100)  # fmt: skip


@pytest.mark.parametrize("reader", READERS)
def test_a_single_query(reader):
    """A step of a decoder: the same without the axis of time."""
    layer = READERS[reader][0]().double()
    query, key, mask = draw(N, 5), draw(N, S, 5), ~unseen(N, S)
    y, a = layer(query, key, mask=mask, need_weights=True)
    long, weights = layer(query[:, None], key, mask=mask[:, None], need_weights=True)
    assert y.shape == (N, 5) and a.shape == (N, S)
    assert np.array_equal(y, long[:, 0]) and np.array_equal(a, weights[:, 0])
    assert np.array_equal(layer(query, key, lengths=np.array([1, 2, 3])).shape, (N, 5))
    numbers = Tensor(draw(N, S), True)
    layer(query, key, mask=numbers).sum().backward()
    assert numbers.grad.any()


def test_project_once():
    """What a decoder prepares serves all its steps, and gradients add up in the projection."""
    layer = nn.AdditiveAttention(4, 5, 9, bias=True).double()
    memory, queries = Tensor(draw(N, S, 5), True), draw(T, N, 4)
    projected = layer.project(memory)
    assert projected.shape == (N, S, 9)
    steps = [layer(Tensor(q), memory, projected=projected) for q in queries]
    every = layer(Tensor(queries.transpose(1, 0, 2)), memory)
    close(np.stack([y.data for y in steps], 1), every.data, np.float64, "steps", 100)
    sum(y.sum() for y in steps).backward()
    grads = [memory.grad, *(p.grad for p in layer.parameters())]
    layer.zero_grad()
    memory.grad = None
    layer(Tensor(queries.transpose(1, 0, 2)), memory).sum().backward()
    for got, p in zip(grads, (memory, *layer.parameters()), strict=True):
        close(got, p.grad, np.float64, "gradient", 200)


@pytest.mark.parametrize("reader", READERS)
def test_gradcheck(reader):
    layer = READERS[reader][0]().double()
    query, key, value = (Tensor(x, True) for x in (draw(2, 3, 5), draw(2, 4, 5), draw(2, 4, 2)))

    def f(query, key, value):
        return layer(query, key, value, lengths=[4, 2], need_weights=True)

    assert fastnn.gradcheck(f, (query, key, value))


def test_repr():
    assert repr(nn.DotAttention()) == "DotAttention(scale=1.0)"
    assert repr(nn.AdditiveAttention(3, 4, 5)).startswith(
        "AdditiveAttention(\n  query_size=3, key_size=4, hidden_size=5"
    )
    assert "(out_proj): Linear(in_features=8, out_features=8, bias=True)" in repr(nn.MultiheadAttention(E, H))


def test_inference_with_arrays_is_the_same():
    for layer in nn.MultiheadAttention(E, H), nn.AdditiveAttention(E, E, 4), nn.DotAttention():
        x = draw(T, N, E).astype(np.float32)
        extra = (x,) if isinstance(layer, nn.MultiheadAttention) else ()
        got, want = layer(x, x, *extra, need_weights=True), layer(*map(Tensor, (x, x, *extra)), need_weights=True)
        for y, z in zip(got, want, strict=True):
            assert isinstance(y, np.ndarray) and np.array_equal(y, z.data)


class Names(list):
    """An observer of the tape: the names of what was called."""

    def called(self, forward, args, options, results):
        self.append(forward.__name__)


def test_every_combination_of_masks_is_one_call():
    """Whatever is asked for, one kernel computes it."""
    layer = nn.MultiheadAttention(E, H)
    x = draw(T, N, E).astype(np.float32)
    for name, need_weights in product(("none", "both"), (True, False)):
        padding, pairs = masks(name, T, T)
        seen = Names()
        before = observe(seen)
        try:
            layer(*map(Tensor, (x, x, x)), padding, attn_mask=pairs, need_weights=need_weights)
        finally:
            observe(before)
        op = "scaled_dot_product_attention" + ("_weights" if need_weights else "")
        assert [name for name in seen if "attention" in name or "softmax" in name] == [f"{op}_forward"]


class Net(nn.Module):
    """Attention to itself and to a memory, behind a convolution that fuse joins with its batch norm."""

    def __init__(self, features):
        self.conv, self.norm = nn.Conv2d(4, features, 3, padding=1), nn.BatchNorm2d(features)
        self.attention = nn.MultiheadAttention(features, 2, batch_first=True)
        self.read, self.dot = nn.AdditiveAttention(features, features, 4), nn.DotAttention()

    def forward(self, x):
        x = self.norm(self.conv(x)).flatten(2).transpose(1, 2)
        y, _ = self.attention(x, x, x)
        return self.dot(self.read(y, x), x)


def test_summary_lint_and_fuse():
    net, x = Net(8).eval(), draw(2, 4, 5, 1).astype(np.float32)
    rows = {row.path: row.multiply_adds for row in fastnn.summary(net, x.shape).rows}
    # the three projections before out_proj, and two products with scores
    assert rows["attention"] == 2 * 5 * 3 * 8 * 8 + 2 * 2 * 5 * 5 * 8
    # the three projections in one are of 8 units each, or of 12, and not of three times as many
    assert not [f for f in fastnn.lint(net, x.shape) if f.rule == "power-of-two-channels"]
    found = [f for f in fastnn.lint(Net(12), x.shape) if f.path == "attention.in_proj"]
    assert [f.rule for f in found] == ["power-of-two-channels"] and "has 12 units" in str(found[0])
    fused = nn.fuse(net)
    assert isinstance(fused.norm, nn.Identity)
    close(fused(x), net(x), np.float32, "fused", 100)


# ---- errors ----

X = draw(T, N, E).astype(np.float32)
MHA = nn.MultiheadAttention(E, H)
READ = nn.AdditiveAttention(E, 5, 4)
MEMORY = draw(N, S, 5).astype(np.float32)
QUERY = draw(N, E).astype(np.float32)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: nn.MultiheadAttention(8, 3), ValueError, "embed_dim is 8, num_heads 3, expected a multiple"),
        (lambda: nn.MultiheadAttention(0, 1), ValueError, "embed_dim is 0, num_heads 1, expected .* at least 1"),
        (lambda: nn.MultiheadAttention(8.0, 2), TypeError, r"embed_dim must be an integer, got 8\.0"),
        (lambda: nn.MultiheadAttention(8, 2, dropout=2), ValueError, "dropout is 2, expected 0 to 1"),
        (lambda: nn.MultiheadAttention(8, 2, kdim=-1), ValueError, "kdim is -1"),
        (lambda: MHA(X, X[..., :5], X), ValueError, r"key has 5 features, shape \(4, 3, 5\), expected 8"),
        (lambda: MHA(X[None], X, X), ValueError, "query has 4 dimensions"),
        (
            lambda: MHA(X, X[0], X[0]),
            ValueError,
            r"key has 2 dimensions, .* query has, of shape \(4, 3, 8\)",
        ),
        (lambda: MHA(X, X, X[:2]), ValueError, r"value \(2, 3, 8\), .* expected as many values as keys"),
        (lambda: MHA(X, X[:, :2], X[:, :2]), ValueError, "as many samples in all"),
        (
            lambda: MHA(X, X, X, np.ones((2, 4), bool)),
            ValueError,
            r"key_padding_mask has shape \(2, 4\), expected \(3, 4",
        ),
        (
            lambda: MHA(X, X, X, attn_mask=np.ones((3, 4, 4))),
            ValueError,
            r"attn_mask .* expected \(4, 4\) or \(6, 4, 4\)",
        ),
        (
            lambda: MHA(X, X, X, attn_mask=np.ones((4, 4), int)),
            TypeError,
            "attn_mask has dtype int64, expected bool or",
        ),
        (lambda: MHA(X, X, X, attn_mask=[[True]]), TypeError, "attn_mask must be an array or a Tensor, got list"),
        (lambda: nn.AdditiveAttention(3, 0, 4), ValueError, "sizes are 3, 0, 4, expected at least 1"),
        (lambda: READ(QUERY, MEMORY, lengths=[1, 2]), ValueError, r"lengths has shape \(2,\), expected \(3,\)"),
        (lambda: READ(QUERY, MEMORY, lengths=[1, 2, 7]), ValueError, "lengths are 1 to 7, expected 0 to 6"),
        (lambda: READ(QUERY, MEMORY, lengths=[1.0, 2, 3]), TypeError, "lengths must be integers, got dtype float64"),
        (
            lambda: READ(QUERY[0], MEMORY),
            ValueError,
            r"query has shape \(8,\), key \(3, 6, 5\), expected \(",
        ),
        (lambda: nn.DotAttention("1"), TypeError, "scale must be a number"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=rf"^(MultiheadAttention|AdditiveAttention|DotAttention): .*{message}"):
        call()


def test_functional_is_what_layers_call():
    y = F.additive_attention(
        READ.query_proj(QUERY)[:, None], READ.project(MEMORY), READ.weight.data, MEMORY)  # fmt: skip
    assert np.array_equal(y[:, 0], READ(QUERY, MEMORY))
