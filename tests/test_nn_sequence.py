"""Packed and padded sequences against torch's; forms of recurrent networks."""

import numpy as np
import pytest
from networks import drawn
from nn_support import close
from recurrent_support import CELLS, D, H, N, T, arrays_of, layer_of, leaf

import fastnn
from fastnn import Tensor, nn
from fastnn.nn import functional as F
from fastnn.nn.utils import rnn

LENGTHS = (3, 1, 4, 1, 3, 2)

each_cell = pytest.mark.parametrize("cell", CELLS)


# ---- torch.nn.utils.rnn ----


def equal(got, want):
    """The same numbers in the same order."""
    assert np.array_equal(np.asarray(got), np.asarray(want)) and np.asarray(got).shape == np.asarray(want).shape


def equal_packed(got, want):
    for a, b in zip(got, want, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            equal(a, b)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("trailing", [(), (D,), (2, 3)])
@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int64])
def test_packing(torch, batch_first, trailing, kind):
    theirs = torch.nn.utils.rnn
    for lengths, enforce_sorted in ((LENGTHS, False), (sorted(LENGTHS, reverse=True), True), ((2,) * N, True)):
        shape = (N, T, *trailing) if batch_first else (T, N, *trailing)
        x = (drawn("x", shape, np.float64) * 100).astype(kind)
        got = rnn.pack_padded_sequence(x, lengths, batch_first, enforce_sorted)
        want = theirs.pack_padded_sequence(torch.tensor(x), torch.tensor(lengths), batch_first, enforce_sorted)
        assert got.data.dtype == kind
        equal_packed(got, want)
        for options in ({}, {"batch_first": True, "padding_value": -2}, {"total_length": T + 3}):
            y, t = rnn.pad_packed_sequence(got, **options), theirs.pad_packed_sequence(want, **options)
            equal(y[0], t[0])
            equal(y[1], t[1])
        for y, t in zip(rnn.unpack_sequence(got), theirs.unpack_sequence(want), strict=True):
            equal(y, t)
        equal_packed(rnn.PackedSequence(*got[:3]), want)


@pytest.mark.parametrize("options", [{}, {"batch_first": True, "padding_value": 7.5}, {"padding_side": "left"}])
def test_padding(torch, options):
    theirs = torch.nn.utils.rnn
    sequences = [drawn(f"sequence {i}", (length, 2), np.float32) for i, length in enumerate((*LENGTHS, 0))]
    tensors = [torch.tensor(x) for x in sequences]
    equal(rnn.pad_sequence(sequences, **options), theirs.pad_sequence(tensors, **options))
    equal_packed(
        rnn.pack_sequence(sequences[:-1], enforce_sorted=False),
        theirs.pack_sequence(tensors[:-1], enforce_sorted=False),
    )
    equal_packed(rnn.pack_sequence([x[:1] for x in sequences[:2]]), theirs.pack_sequence([x[:1] for x in tensors[:2]]))
    for batch_first in (False, True):
        padded = rnn.pad_sequence(sequences[:-1], batch_first)
        for y, x in zip(rnn.unpad_sequence(padded, LENGTHS, batch_first), sequences[:-1], strict=True):
            equal(y, x)


def test_gradients_of_packing_and_padding():
    """Every element of a sequence is at one place, and none has a part in what is behind the ends."""
    x = leaf(drawn("x", (T, N, D), np.float64))
    weights = drawn("weights", (T, N, D), np.float64)
    y, lengths = rnn.pad_packed_sequence(rnn.pack_padded_sequence(x, LENGTHS, enforce_sorted=False), padding_value=3.0)
    (y * weights).sum().backward()
    inside = np.arange(T)[:, None] < lengths
    assert np.array_equal(x.grad, weights * inside[..., None])
    assert (y.data[~inside] == 3).all()
    sequences = [leaf(drawn(f"sequence {i}", (length, D), np.float64)) for i, length in enumerate(LENGTHS)]
    (rnn.pad_sequence(sequences) * weights).sum().backward()
    for n, sequence in enumerate(sequences):
        assert np.array_equal(sequence.grad, weights[: len(sequence), n])


class Classifier(nn.Module):
    """As programs for PyTorch pack: embedding, packing, a layer, a linear layer of the packed data."""

    def __init__(self):
        self.embedding = nn.Embedding(9, D)
        self.lstm = nn.LSTM(D, H, bidirectional=True, batch_first=True)
        self.linear = nn.Linear(2 * H, 4)

    def forward(self, words, lengths):
        packed = rnn.pack_padded_sequence(self.embedding(words), lengths, batch_first=True, enforce_sorted=False)
        assert isinstance(packed.data, Tensor)
        y, _ = self.lstm(packed)
        y = rnn.PackedSequence(self.linear(y.data), *y[1:])
        return rnn.pad_packed_sequence(y, batch_first=True)


def test_packed_sequences_in_a_module():
    """Arrays of integers and lengths in, arrays out; the same numbers as with lengths."""
    model, words = Classifier(), np.random.default_rng(0).integers(0, 9, (N, T))
    y, found = model(words, np.array(LENGTHS))
    assert isinstance(y, np.ndarray) and isinstance(found, np.ndarray) and found.tolist() == list(LENGTHS)
    want = model.linear(model.lstm(model.embedding(words), lengths=LENGTHS)[0])
    inside = np.arange(T) < found[:, None]
    close(y[inside], want[inside], np.float32, "results", 2 * H)
    assert not y[~inside].any()


# ---- forms ----


def head_of(layer, out=D):
    """A linear layer on a recurrent layer's features."""
    head = nn.Linear((layer.proj_size or H) * (2 if layer.bidirectional else 1), out).double()
    for key, p in head.named_parameters():
        p.data[...] = drawn(f"head {key}", p.shape, np.float64)
    return head


@each_cell
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
def test_many_to_one(cell, bidirectional, batch_first):
    """head of the last output; of the reverse direction, of the first; with lengths, as of every sequence alone."""
    layer = layer_of(nn, cell, {"num_layers": 2, "bidirectional": bidirectional, "batch_first": batch_first})
    model = nn.ManyToOne(layer, head_of(layer))
    x, *states = arrays_of(layer)
    hx = tuple(states) if len(states) == 2 else states[0]
    y = layer(x, hx)[0]
    y = y.swapaxes(0, 1) if batch_first else y
    size = layer.proj_size or H
    last = np.concatenate([y[-1, :, :size], y[0, :, size:]], 1)
    assert np.array_equal(model(x, hx), model.head(last))
    got = model(x, lengths=LENGTHS)
    packed = rnn.pack_padded_sequence(x, LENGTHS, batch_first, enforce_sorted=False)
    close(model(packed), got, np.float64, "packed", 100)
    for n, length in enumerate(LENGTHS):
        alone = x[n, :length] if batch_first else x[:length, n]
        close(model(alone), got[n], np.float64, "alone", 100)


@each_cell
@pytest.mark.parametrize("batch_first", [False, True])
def test_many_to_many(cell, batch_first):
    layer = layer_of(nn, cell, {"num_layers": 2, "batch_first": batch_first})
    model = nn.ManyToMany(layer, head_of(layer))
    x, *states = arrays_of(layer)
    hx = tuple(states) if len(states) == 2 else states[0]
    want = model.head(layer(x, hx, lengths=LENGTHS)[0])
    assert np.array_equal(model(x, hx, lengths=LENGTHS), want)
    packed = model(rnn.pack_padded_sequence(x, LENGTHS, batch_first, enforce_sorted=False), hx)
    y, lengths = rnn.pad_packed_sequence(packed, batch_first)
    for n, length in enumerate(lengths):
        at = (n, slice(length)) if batch_first else (slice(length), n)
        close(y[at], want[at], np.float64, "packed", 100)
    assert model(x[0] if batch_first else x[:, 0]).shape == (T, D)


@pytest.mark.parametrize("name", ["RNN", "GRU", "LSTM"])
@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("feedback", [None, lambda y: 2 * y, nn.Softmax(-1)])
def test_one_to_many_is_a_loop_of_a_cell(name, batch, feedback):
    layer, cell = getattr(nn, name)(D, H).double(), getattr(nn, f"{name}Cell")(D, H).double()
    cell.load_state_dict({key.removesuffix("_l0"): x for key, x in layer.state_dict().items()})
    model = nn.OneToMany(layer, head_of(layer), feedback)
    x = drawn("x", (N, D) if batch else (D,), np.float64)
    hx = tuple(drawn(f"h{i}", (1, N, H) if batch else (1, H), np.float64) for i in range(2))
    hx, state = (hx, (hx[0][0], hx[1][0])) if name == "LSTM" else (hx[0], hx[0][0])
    got, want, given = model(x, 5, hx), [], x
    for _ in range(5):
        state = cell(given, state)
        y = model.head(state[0] if name == "LSTM" else state)
        want.append(y)
        given = feedback(y) if feedback else y
    close(got, np.stack(want), np.float64, "results", 5 * (H + D))
    if batch:
        layer.batch_first = True
        assert np.array_equal(model(x, 5, hx), got.swapaxes(0, 1))


def test_words_are_fed_back():
    """An embedding of the likeliest word: layers in a row, bits as with one-hot inputs."""
    words = 7
    layer, table = nn.GRU(D, H, 2), nn.Embedding(words, D)
    model = nn.OneToMany(layer, nn.Linear(H, words), lambda y: table(y.argmax(-1)))
    first = table(np.arange(N))
    got = model(first, 6)
    given, hx = first, None
    for y in got:
        out, hx = layer(given[None], hx)
        assert np.array_equal(model.head(out[0]), y)
        given = table(y.argmax(-1))
    assert dict(nn.OneToMany(layer, model.head, table).named_children())["feedback"] is table


@pytest.mark.parametrize("name", ["RNN", "GRU", "LSTM"])
@pytest.mark.parametrize("form", ["ManyToOne", "ManyToMany", "OneToMany"])
def test_gradients_by_differences(name, form):
    """Of the input, the states and all parameters; those of OneToMany pass through what is fed back."""
    size, n = 2, 2
    layer = getattr(nn, name)(size, size, 1)
    model = getattr(nn, form)(layer, nn.Linear(size, size)).double()
    if form == "OneToMany":
        model.feedback = nn.Tanh()
    names = [key for key, _ in model.named_parameters()]
    parameters = [Tensor(drawn(key, p.shape, np.float64), True) for key, p in model.named_parameters()]
    owners = [(vars(model.get_submodule(key.rpartition(".")[0])), key.rpartition(".")[2]) for key in names]
    x = leaf(drawn("x", (n, size) if form == "OneToMany" else (3, n, size), np.float64))
    states = [leaf(drawn(f"h{i}", (1, n, size), np.float64)) for i in range(2 if name == "LSTM" else 1)]

    def f(x, *rest):
        for (attributes, attribute), tensor in zip(owners, rest[len(states) :], strict=True):
            attributes[attribute] = tensor  # past Module's check that it is a Parameter
        hx = rest[: len(states)] if name == "LSTM" else rest[0]
        return model(x, 3, hx) if form == "OneToMany" else model(x, hx)

    assert fastnn.gradcheck(f, (x, *states, *parameters))


def test_training_a_generator():
    """OneToMany learns to go on with a rotation that it sees a point of."""
    fastnn.manual_seed(0)
    angles = np.random.default_rng(0).uniform(0, 2 * np.pi, 32)
    path = np.stack([np.stack([np.cos(angles + 0.5 * t), np.sin(angles + 0.5 * t)], 1) for t in range(6)])
    path = path.astype(np.float32)
    model = nn.OneToMany(nn.GRU(2, 16), nn.Linear(16, 2))
    optimizer = fastnn.optim.Adam(model.parameters(), lr=0.02)
    losses = []
    for _ in range(100):
        loss = F.mse_loss(model(Tensor(path[0]), 5), path[1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 0.3 and losses[-1] < 0.02


def test_summary_of_forms():
    layer = nn.GRU(D, H, batch_first=True)
    found = fastnn.summary(nn.ManyToOne(layer, nn.Linear(H, 4)), (N, T, D))
    assert found.multiply_adds == T * N * 3 * H * (D + H) + N * H * 4
    assert [row.outputs[0] for row in found.rows] == [(N, 4), (N, T, H), (N, 4)]
    model = nn.fuse(nn.ManyToMany(layer, nn.Linear(H, 4)))
    x = drawn("x", (N, T, D), np.float32)
    assert np.array_equal(model(x), nn.ManyToMany(layer, model.head)(x))


# ---- errors ----

X = np.ones((T, N, D), np.float32)
PACKED = rnn.pack_padded_sequence(X, LENGTHS, enforce_sorted=False)

BAD = [
    (
        lambda: rnn.pack_padded_sequence(X, LENGTHS),
        ValueError,
        r"pack_padded_sequence: lengths are \[3, 1, .*\], expected decreasing ones, or enforce_sorted=False",
    ),
    (lambda: rnn.pack_padded_sequence(X, [5] + [1] * 5), ValueError, r"lengths are \[5, .*\], expected each 1 to 4"),
    (lambda: rnn.pack_padded_sequence(X, [0] * N), ValueError, r"lengths are \[0, .*\], expected each 1 to 4"),
    (lambda: rnn.pack_padded_sequence(X, [2.0] * N), TypeError, "pack_padded_sequence: lengths must be integers"),
    (lambda: rnn.pack_padded_sequence(X, [1], True), ValueError, r"lengths has shape \(1,\), expected \(4,\)"),
    (lambda: rnn.pack_padded_sequence(X[:, :0], []), ValueError, "expected at least one sequence"),
    (lambda: rnn.pack_padded_sequence([1], [1]), TypeError, "pack_padded_sequence: input must be a Tensor or an array"),
    (lambda: rnn.pad_packed_sequence(X), TypeError, "pad_packed_sequence: sequence must be a PackedSequence, got nda"),
    (lambda: rnn.pad_packed_sequence(PACKED, total_length=3), ValueError, "total_length is 3, expected at least 4"),
    (lambda: rnn.pad_packed_sequence(PACKED, total_length=4.5), TypeError, "total_length must be an integer or None"),
    (lambda: rnn.pad_sequence([]), TypeError, "pad_sequence: sequences must be a list of at least one array"),
    (
        lambda: rnn.pad_sequence([X, 3]),
        TypeError,
        r"pad_sequence: sequences must hold arrays or Tensors \(L, \*\), got 3",
    ),
    (
        lambda: rnn.pad_sequence([X], padding_side="top"),
        ValueError,
        "padding_side is 'top', expected 'right' or 'left'",
    ),
    (lambda: rnn.pack_sequence([X[:2], X]), ValueError, r"lengths are \[2, 4\], expected decreasing ones"),
    (lambda: rnn.unpad_sequence(X, [1]), ValueError, r"unpad_sequence: lengths has shape \(1,\), expected \(6,\)"),
    (
        lambda: nn.ManyToOne(nn.Linear(3, 4), nn.Tanh()),
        TypeError,
        "ManyToOne: rnn must be an RNN, GRU or LSTM, got Lin",
    ),
    (lambda: nn.ManyToMany(nn.GRU(3, 4), 3), TypeError, "ManyToMany: head must be a Module or a function, got int"),
    (
        lambda: nn.OneToMany(nn.GRU(3, 4), nn.Tanh(), 3),
        TypeError,
        "OneToMany: feedback must be a Module, a function or",
    ),
    (lambda: nn.OneToMany(nn.GRU(3, 4, bidirectional=True), abs), ValueError, "OneToMany: rnn is bidirectional"),
    (lambda: nn.OneToMany(nn.GRU(3, 3), abs)(X[0], 0), ValueError, "OneToMany: steps is 0, expected at least 1"),
    (lambda: nn.OneToMany(nn.GRU(3, 3), abs)(X[0], 1.5), TypeError, "OneToMany: steps must be an integer, got 1.5"),
    (lambda: nn.OneToMany(nn.GRU(3, 3), abs)(X, 2), ValueError, "OneToMany: input has 3 dimensions"),
    (lambda: nn.OneToMany(nn.GRU(3, 4), abs)(X[0], 2), ValueError, "GRU: input has 4 features"),
]


@pytest.mark.parametrize(("make", "error", "said"), BAD, ids=[f"{i} {said[:40]}" for i, (_, _, said) in enumerate(BAD)])
def test_errors(make, error, said):
    with pytest.raises(error, match=said):
        make()
