"""RNN, GRU, LSTM and their cells against torch's, with all options; lengths against sequences run alone."""

import copy
from itertools import product

import numpy as np
import pytest
from networks import drawn
from nn_support import close, flat
from recurrent_support import CELLS, GOLDEN, GOLDEN_FILE, D, H, N, T, arrays_of, layer_of, leaf, run, same

import fastnn
from fastnn import Tensor, nn

BOTH = (False, True)
each_cell = pytest.mark.parametrize("cell", CELLS)
each_way = pytest.mark.parametrize("bidirectional", BOTH, ids=["one way", "both ways"])

LENGTHS = (3, 1, 4, 1, 3, 2)
"""With ties and ones, in no order."""


# ---- against torch ----


def theirs_of(torch):
    return lambda a: torch.tensor(a, requires_grad=True)


@each_cell
@each_way
@pytest.mark.parametrize("bias", BOTH, ids=["no bias", "bias"])
@pytest.mark.parametrize("num_layers", [1, 2])
def test_all_options(torch, cell, num_layers, bias, bidirectional):
    """Results, states, and gradients of the input, the states and all parameters."""
    options = {"num_layers": num_layers, "bias": bias, "bidirectional": bidirectional}
    for batch_first, batch, given in product(BOTH, BOTH, BOTH):
        options["batch_first"] = batch_first
        ours, theirs = layer_of(nn, cell, options), layer_of(torch.nn, cell, options)
        arrays = arrays_of(ours, batch, given)
        note = f"{batch_first=} {batch=} {given=}"
        same(run(ours, leaf, arrays), run(theirs, theirs_of(torch), arrays), note=note)


@pytest.mark.parametrize("i", range(len(GOLDEN)))
def test_agrees_with_golden_values(i):
    cell, options, batch, given = GOLDEN[i]
    layer = layer_of(nn, cell, options)
    got = run(layer, leaf, arrays_of(layer, batch, given))
    with np.load(GOLDEN_FILE) as content:
        parts = np.split(content[str(i)], np.cumsum([x.size for x in got.values()]))
    assert not parts.pop().size
    same(got, {key: part.reshape(got[key].shape) for key, part in zip(got, parts, strict=True)})


def test_golden_values_are_complete_and_small():
    """`python tests/golden/make_recurrent.py` after adding a case."""
    with np.load(GOLDEN_FILE) as content:
        assert content.files == [str(i) for i in range(len(GOLDEN))]
    assert GOLDEN_FILE.stat().st_size < 30_000


@each_cell
def test_single_precision(torch, cell):
    options = {"num_layers": 2, "bidirectional": True}
    layer = layer_of(nn, cell, options, np.float32)
    got = run(layer, leaf, arrays_of(layer, dtype=np.float32))
    theirs = layer_of(torch.nn, cell, options)
    arrays = [a.astype(np.float64) for a in arrays_of(layer, dtype=np.float32)]
    same(got, run(theirs, theirs_of(torch), arrays), np.float32)


# ---- lengths ----


def padded(layer, lengths=LENGTHS):
    """Arrays as of arrays_of, NaN behind the ends."""
    x, *states = arrays_of(layer)
    for n, length in enumerate(lengths):
        (x[n] if layer.batch_first else x[:, n])[length:] = np.nan
    return [x, *states]


@each_cell
@each_way
@pytest.mark.parametrize("batch_first", BOTH, ids=["T N", "N T"])
def test_lengths_are_sequences_run_alone(cell, bidirectional, batch_first):
    """Results, states and all gradients; the output behind an end is zero, and no gradient comes from there."""
    layer = layer_of(nn, cell, {"num_layers": 2, "bidirectional": bidirectional, "batch_first": batch_first})
    arrays = padded(layer)
    got = run(layer, leaf, arrays, lambda layer, x, hx: layer(x, hx, lengths=LENGTHS))

    def alone(layer, x, hx):
        """The same, one sequence after the other."""
        outputs, states = [], []
        for n, length in enumerate(LENGTHS):
            one = x[n, :length] if batch_first else x[:length, n]
            hx_n = None if hx is None else tuple(h[:, n] for h in hx) if isinstance(hx, tuple) else hx[:, n]
            y, *after = flat(layer(one, hx_n))
            rest = Tensor(np.zeros((T - length, y.shape[1])))
            outputs.append(nn.functional.cat([y, rest]) if length < T else y)
            states.append(after)
        stacked = [nn.functional.stack(each, 1) for each in zip(*states, strict=True)]
        return nn.functional.stack(outputs, 0 if batch_first else 1), tuple(stacked)

    same(got, run(layer, leaf, arrays, alone))
    for n, length in enumerate(LENGTHS):
        for key in ("result 0", "gradient of argument 0"):
            assert not (got[key][n, length:] if batch_first else got[key][length:, n]).any()


@each_cell
@each_way
@pytest.mark.parametrize("enforce_sorted", BOTH)
def test_lengths_and_packed_sequences(torch, cell, bidirectional, enforce_sorted):
    """One text for torch and fastnn packs, runs and pads; lengths give the same."""
    options = {"num_layers": 2, "bidirectional": bidirectional, "batch_first": True}
    lengths = sorted(LENGTHS, reverse=True) if enforce_sorted else list(LENGTHS)

    def packed(nn):
        def call(layer, x, hx):
            rnn = nn.utils.rnn
            y, states = layer(rnn.pack_padded_sequence(x, lengths, True, enforce_sorted), hx)
            assert isinstance(y, rnn.PackedSequence)
            y, found = rnn.pad_packed_sequence(y, True, total_length=T)
            assert found.tolist() == lengths
            return y, states

        return call

    ours = layer_of(nn, cell, options)
    arrays = padded(ours, lengths)
    want = run(layer_of(torch.nn, cell, options), theirs_of(torch), arrays, packed(torch.nn))
    same(run(ours, leaf, arrays, packed(nn)), want)
    same(run(ours, leaf, arrays, lambda layer, x, hx: layer(x, hx, lengths=lengths)), want)


@pytest.mark.parametrize("kind", [list, tuple, np.int32, np.uint8, Tensor], ids=str)
def test_kinds_of_lengths(kind):
    layer = layer_of(nn, "gru", {})
    x, h = arrays_of(layer)
    lengths = np.array(LENGTHS)
    given = kind(lengths.tolist()) if kind in (list, tuple) else kind(lengths)
    assert np.array_equal(layer(x, h, lengths=given)[0], layer(x, h, lengths=lengths)[0])
    assert np.array_equal(layer(x, h, lengths=np.full(N, T))[0], layer(x, h)[0])
    one = layer(x[:, 0], h[:, 0], lengths=[LENGTHS[0]])
    close(one[0][: LENGTHS[0]], layer(x, h, lengths=lengths)[0][: LENGTHS[0], 0], np.float64, "unbatched", 100)
    assert not one[0][LENGTHS[0] :].any()


# ---- arrays and Tensors ----


@each_cell
@pytest.mark.parametrize("lengths", [None, LENGTHS])
def test_arrays_give_arrays(cell, lengths):
    """The same bits as Tensors, which one among the arguments makes of all."""
    layer = layer_of(nn, cell, {"num_layers": 2, "bidirectional": True})
    x, *states = arrays_of(layer) if lengths is None else padded(layer)
    pair = len(states) == 2

    def results(x, *states):
        return flat(layer(x, states if pair else states[0], lengths=lengths))

    plain = results(x, *states)
    assert all(isinstance(y, np.ndarray) for y in plain)
    for given in ((Tensor(x), *states), (x, *map(Tensor, states)), (x, *states[:-1], Tensor(states[-1]))):
        found = results(*given)
        assert all(isinstance(y, Tensor) and np.array_equal(y.data, p) for y, p in zip(found, plain, strict=True))
    with fastnn.no_grad():
        assert not results(*map(leaf, (x, *states)))[0].requires_grad


@each_cell
def test_user_subclass_and_copy(cell):
    """Their forward gets Tensors; a copy has parameters of its own."""
    name, more = CELLS[cell]

    class Twice(getattr(nn, name)):
        def forward(self, input, hx=None):
            assert isinstance(input, Tensor)
            return super().forward(input * 2, hx)

    layer = Twice(D, H, **more).double()
    plain = getattr(nn, name)(D, H, **more).double()
    plain.load_state_dict(layer.state_dict())
    x = arrays_of(layer)[0]
    assert np.array_equal(layer(x)[0], plain(2 * x)[0])
    other = copy.deepcopy(plain)
    other.weight_hh_l0.data[...] = 0
    assert not np.array_equal(other(x)[0], plain(x)[0]) and plain.weight_hh_l0.data.any()


# ---- cells ----

CELL_CASES = [
    ("RNN", {}),
    ("RNN", {"nonlinearity": "relu"}),
    ("GRU", {}),
    ("GRU", {"variant": "paper"}),
    ("LSTM", {}),
]


def cell_of(layer, name, options):
    """The cell with the parameters of a layer."""
    cell = getattr(nn, f"{name}Cell")(D, H, **options).double()
    cell.load_state_dict({key.removesuffix("_l0"): x for key, x in layer.state_dict().items()})
    return cell


@pytest.mark.parametrize(("name", "options"), CELL_CASES)
@pytest.mark.parametrize("batch", BOTH)
def test_a_cell_is_a_step_of_its_layer(name, options, batch):
    layer = getattr(nn, name)(D, H, **options).double()
    cell, state = cell_of(layer, name, options), None
    x = drawn("x", (T, N, D) if batch else (T, D), np.float64)
    outputs = []
    for each in x:
        state = cell(each, state)
        outputs.append(state[0] if name == "LSTM" else state)
    y, *last = flat(layer(x))
    close(np.stack(outputs), y, np.float64, "outputs", T * (D + H))
    for found, want in zip(flat(state), last, strict=True):
        close(found, want[0], np.float64, "state", T * (D + H))
    single = layer(x[:1])[0]
    close(single[0], outputs[0], np.float64, "a sequence of one", D + H)


@pytest.mark.parametrize(("name", "options"), [case for case in CELL_CASES if "variant" not in case[1]])
@pytest.mark.parametrize("bias", BOTH)
@pytest.mark.parametrize("batch", BOTH)
@pytest.mark.parametrize("given", BOTH)
def test_cells(torch, name, options, bias, batch, given):
    """Against torch's, with gradients of states."""
    ours, theirs = (getattr(m, f"{name}Cell")(D, H, bias=bias, **options) for m in (nn, torch.nn))
    ours, theirs = ours.double(), theirs.double()
    for key, p in ours.named_parameters():
        p.data[...] = drawn(key, p.shape, np.float64)
    theirs.load_state_dict({key: torch.tensor(x) for key, x in ours.state_dict().items()})
    shapes = [(D,), (H,), (H,)][: (3 if name == "LSTM" else 2) if given else 1]
    arrays = [drawn(f"argument {i}", (*(N,) * batch, *shape), np.float64) for i, shape in enumerate(shapes)]
    same(run(ours, leaf, arrays), run(theirs, theirs_of(torch), arrays))
    assert repr(ours) == repr(theirs)


@pytest.mark.parametrize("bias", BOTH)
def test_paper_gru(bias):
    """Cho et al. 2014 (equations 5 to 8): the reset gate before the product, and z the share of what is new."""
    options = {"variant": "paper", "bias": bias}
    layer = nn.GRU(D, H, **options).double()
    x, h = drawn("x", (T, N, D), np.float64), drawn("h", (1, N, H), np.float64)
    y, last = layer(x, h)
    w, u = layer.weight_ih_l0.data, layer.weight_hh_l0.data
    b = layer.bias_ih_l0.data + layer.bias_hh_l0.data if bias else np.zeros(3 * H)
    state, want = h[0], []
    for x_t in x:
        r, z = (
            1 / (1 + np.exp(-(x_t @ w[rows].T + state @ u[rows].T + b[rows])))
            for rows in (slice(H), slice(H, 2 * H))
        )  # fmt: skip
        new = np.tanh(x_t @ w[2 * H :].T + (r * state) @ u[2 * H :].T + b[2 * H :])
        state = (1 - z) * state + z * new
        want.append(state)
    close(y, np.stack(want), np.float64, "output", T * (D + H + 20))
    close(last[0], want[-1], np.float64, "state", T * (D + H + 20))
    assert repr(layer) == f"GRU({D}, {H}{'' if bias else ', bias=False'}, variant=paper)"
    assert repr(nn.GRUCell(D, H, **options)) == f"GRUCell({D}, {H}{'' if bias else ', bias=False'}, variant=paper)"
    assert not np.allclose(y, cell_twin(layer)(x, h)[0], atol=1e-3)


def cell_twin(layer):
    """torch's GRU with the parameters of another."""
    twin = nn.GRU(D, H, bias=layer.bias).double()
    twin.load_state_dict(layer.state_dict())
    return twin


# ---- dropout ----


@pytest.mark.parametrize("bidirectional", BOTH)
def test_dropout_is_between_layers(bidirectional):
    """Layer 0 is always 1, and layer 1 shows what it gets: all is 0 or 1 / (1 - p), which a second dropout would not
    leave, and zeros are as many as p says, within six standard deviations."""
    p, size, shape = 0.3, 8, (20, 50)
    layer = nn.RNN(1, size, 2, "relu", dropout=p, bidirectional=bidirectional)
    for parameter in layer.parameters():
        parameter.data[...] = 0
    directions = ("", "_reverse") if bidirectional else ("",)
    for i, direction in enumerate(directions):
        getattr(layer, f"bias_ih_l0{direction}").data[...] = 1
        getattr(layer, f"weight_ih_l1{direction}").data[:, i * size : (i + 1) * size] = np.eye(size)
    x = np.zeros((*shape, 1), np.float32)
    y, h = layer(x)
    assert set(np.unique(y).tolist()) == {0.0, np.float32(1 / (1 - p)).item()}
    assert abs((y == 0).mean() - p) < 6 * (p * (1 - p) / y.size) ** 0.5
    assert (h[: len(directions)] == 1).all()
    assert not np.array_equal(y, layer(x)[0])
    fastnn.manual_seed(4)
    first = layer(Tensor(x))[0].data
    fastnn.manual_seed(4)
    assert np.array_equal(layer(x)[0], first)
    assert (layer.eval()(x)[0] == 1).all()
    one = nn.RNN(1, size, 1, "relu", dropout=p)
    assert np.array_equal(one(x)[0], one(x)[0])


# ---- sizes ----


@each_cell
@each_way
def test_no_samples(torch, cell, bidirectional):
    options = {"num_layers": 2, "bidirectional": bidirectional}
    layer = layer_of(nn, cell, options)
    arrays = [a[:, :0] for a in arrays_of(layer)]
    got = run(layer, leaf, arrays)
    want = run(layer_of(torch.nn, cell, options), theirs_of(torch), arrays)
    assert {key: x.shape for key, x in got.items()} == {key: x.shape for key, x in want.items()}
    assert not any(x.any() for x in got.values())
    assert layer(arrays[0], lengths=[])[0].shape == got["result 0"].shape


@each_cell
def test_one_step(torch, cell):
    options = {"num_layers": 2, "bidirectional": True}
    ours = layer_of(nn, cell, options)
    arrays = arrays_of(ours)
    arrays[0] = arrays[0][:1]
    same(run(ours, leaf, arrays), run(layer_of(torch.nn, cell, options), theirs_of(torch), arrays))


# ---- state ----


@each_cell
def test_state_through_safetensors(torch, cell, tmp_path):
    """There and back, with names, order and values."""
    files = pytest.importorskip("safetensors.torch")
    name, more = CELLS[cell]
    options = {"num_layers": 2, "bidirectional": True, **more}
    theirs, ours = getattr(torch.nn, name)(D, H, **options), getattr(nn, name)(D, H, **options)
    assert repr(ours) == repr(theirs)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    files.save_file(theirs.state_dict(), tmp_path / "theirs.safetensors")
    ours.load_state_dict(fastnn.load(tmp_path / "theirs.safetensors"))
    assert all(
        np.array_equal(p.data, q.detach().numpy()) for p, q in zip(*map(parameters, (ours, theirs)), strict=True)
    )
    ours.reset_parameters()
    fastnn.save(tmp_path / "ours.safetensors", ours.state_dict())
    theirs.load_state_dict(files.load_file(tmp_path / "ours.safetensors"))
    assert all(
        np.array_equal(p.data, q.detach().numpy()) for p, q in zip(*map(parameters, (ours, theirs)), strict=True)
    )
    assert [[p.shape for p in each] for each in ours.all_weights] == [
        [tuple(p.shape) for p in each] for each in theirs.all_weights
    ]
    ours.flatten_parameters()


def parameters(layer):
    return list(layer.parameters())


# ---- inspection ----


@pytest.mark.parametrize(("cell", "gates"), [("tanh", 1), ("gru", 3), ("lstm", 4), ("projected", 4)])
def test_summary(cell, gates):
    """Products of inputs and states with the gates' weights, and of h with the projection."""
    layer = layer_of(nn, cell, {"num_layers": 2, "bidirectional": True, "batch_first": True})
    size = layer.proj_size or H
    projection = H * size if layer.proj_size else 0
    found = fastnn.summary(layer, (N, T, D), dtypes=np.float64)
    products = gates * H * ((D + size) + (2 * size + size)) + 2 * projection
    assert found.multiply_adds == 2 * T * N * products
    assert found.parameters == sum(p.size for p in layer.parameters())
    states = [(4, N, size), (4, N, H)] if gates == 4 else [(4, N, size)]
    assert found.rows[0].outputs == [(N, T, 2 * size), *states]


class BetweenConvolutions(nn.Module):
    """Two convolutions of rows, and what is between."""

    def __init__(self, between):
        self.first, self.between, self.last = nn.Conv1d(D, 8, 3, 1, 1), between, nn.Conv1d(8, 4, 3, 1, 1)

    def forward(self, x):
        x = self.first(x).transpose(1, 2)
        x, _ = self.between(x) if self.between else (x, None)
        return self.last(x.transpose(1, 2))


@pytest.mark.parametrize("name", [None, "RNN", "GRU", "LSTM"])
def test_lint(name):
    """To the guidelines a recurrent layer is something that is not linear."""
    model = BetweenConvolutions(name and getattr(nn, name)(8, 8, 2, batch_first=True))
    found = [finding.rule for finding in fastnn.lint(model, (N, D, 9))]
    assert found == ([] if name else ["consecutive-convolutions"])


# ---- errors ----

X = np.ones((T, N, D), np.float32)
S = np.ones((1, N, H), np.float32)

BAD = [
    (lambda: nn.RNN(D, 0), ValueError, "RNN: input_size is 3 and hidden_size 0, expected at least 1"),
    (lambda: nn.GRU(2.0, H), TypeError, "GRU: input_size must be an integer, got 2.0"),
    (lambda: nn.GRU(D, H, 0), ValueError, "GRU: num_layers is 0, expected at least 1"),
    (lambda: nn.RNN(D, H, nonlinearity="elu"), ValueError, "RNN: nonlinearity is 'elu', expected 'tanh' or 'relu'"),
    (lambda: nn.RNNCell(D, H, True, None), ValueError, "RNNCell: nonlinearity is None, expected 'tanh' or 'relu'"),
    (lambda: nn.GRU(D, H, variant="2014"), ValueError, "GRU: variant is '2014', expected 'torch' or 'paper'"),
    (lambda: nn.GRU(D, H, dropout=-0.5), ValueError, "GRU: dropout is -0.5, expected 0 to 1"),
    (lambda: nn.GRU(D, H, dropout="much"), TypeError, "GRU: dropout must be a number, got 'much'"),
    (lambda: nn.GRU(D, H, proj_size=2), TypeError, "proj_size"),
    (lambda: nn.LSTM(D, H, proj_size=-1), ValueError, "LSTM: proj_size is -1, expected at least 0"),
    (lambda: nn.LSTM(D, H, proj_size=H), ValueError, "LSTM: proj_size is 5, expected less than hidden_size, 5"),
    (lambda: nn.LSTM(D, H, dtype=np.int32), TypeError, "dtype is int32, expected float32 or float64"),
    (lambda: nn.GRU(D, H)(X[None]), ValueError, "GRU: input has 4 dimensions, .* expected 2 or 3"),
    (lambda: nn.GRU(D, H)([1.0]), TypeError, "GRU: input must be a Tensor or an array, got list"),
    (lambda: nn.GRU(4, H)(X), ValueError, "GRU: input has 3 features, .* expected input_size, 4"),
    (lambda: nn.GRU(D, H)(X, (S, S)), TypeError, "GRU: hx must have an array or Tensor as h, got tuple"),
    (lambda: nn.GRU(D, H)(X, S[0]), ValueError, r"GRU: hx has h of shape \(6, 5\), expected \(1, 6, 5\)"),
    (lambda: nn.GRU(D, H, batch_first=True)(X, S), ValueError, r"hx has h of shape .* expected \(1, 4, 5\)"),
    (lambda: nn.GRU(D, H)(X[:, 0], S), ValueError, r"GRU: hx has h of shape \(1, 6, 5\), expected \(1, 5\)"),
    (lambda: nn.LSTM(D, H)(X, S), TypeError, r"LSTM: hx must be None or a pair of states \(h, c\), got ndarray"),
    (lambda: nn.LSTM(D, H)(X, (S, None)), TypeError, "LSTM: hx must have an array or Tensor as c, got NoneType"),
    (
        lambda: nn.LSTM(D, H, proj_size=2)(X, (S, S)),
        ValueError,
        r"LSTM: hx has h of shape \(1, 6, 5\), expected \(1, 6, 2\)",
    ),
    (lambda: nn.GRUCell(D, H)(X), ValueError, "GRUCell: input has 3 dimensions, .* expected 1 or 2"),
    (lambda: nn.RNNCell(D, H)(X[0], S), ValueError, r"RNNCell: hx has h of shape .* expected \(6, 5\)"),
    (lambda: nn.GRU(D, H)(X, lengths=[1.0] * N), TypeError, "GRU: lengths must be integers, got"),
    (lambda: nn.GRU(D, H)(X, lengths=[1, 2]), ValueError, r"GRU: lengths has shape \(2,\), expected \(6,\)"),
    (lambda: nn.GRU(D, H)(X, lengths=[1, 2, 3, 4, 5, 4]), ValueError, r"lengths are \[.*\], expected each 1 to 4"),
    (lambda: nn.GRU(D, H)(X, lengths=[1, 2, 3, 4, 0, 4]), ValueError, r"lengths are \[.*\], expected each 1 to 4"),
    (
        lambda: nn.GRU(D, H)(nn.utils.rnn.pack_sequence([X[:, 0]]), lengths=[T]),
        TypeError,
        "GRU: lengths is given beside a PackedSequence",
    ),
    (
        lambda: nn.GRU(D, H)(nn.utils.rnn.pack_sequence([X])),
        ValueError,
        r"GRU: input is a PackedSequence whose data have shape \(4, 6, 3\), expected 2 dimensions",
    ),
]


@pytest.mark.parametrize(("make", "error", "said"), BAD, ids=[f"{i} {said[:40]}" for i, (_, _, said) in enumerate(BAD)])
def test_errors(make, error, said):
    with pytest.raises(error, match=said):
        make()
