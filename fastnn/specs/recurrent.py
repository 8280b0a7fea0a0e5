"""Specs of recurrent cells and sequences."""

from fastnn.descriptors import GATES, recurrent_desc
from fastnn.registry import Case, OpSpec, Work, draw_arrays, gradient_terms

ARGUMENTS = {
    "rnn": ("x", "w_ih", "w_hh", "b_ih", "b_hh", "h0"),
    "gru": ("x", "w_ih", "w_hh", "b_ih", "b_hh", "h0"),
    "lstm": ("x", "w_ih", "w_hh", "b_ih", "b_hh", "w_hr", "h0", "c0"),
}


def case_of(cell, n, d, h, t=None, *, bias=True, state=True, p=None, label="", **options):
    """A step, or a sequence where t is given; p: projected to so many."""
    rows, size = GATES[cell] * h, h if p is None else p
    shapes = {"x": (n, d) if t is None else (t, n, d), "w_ih": (rows, d), "w_hh": (rows, size)}
    shapes |= dict.fromkeys(("b_ih", "b_hh"), (rows,) if bias else None)
    shapes |= {"w_hr": (p, h) if p else None, "h0": (n, size) if state else None, "c0": (n, h) if state else None}
    return Case({name: shapes[name] for name in ARGUMENTS[cell]}, options, label)


def make(case, dtype, rng, kind):
    """Normal weights with the variance 1/D or 1/H of trained networks: with variance 1 the states are chaotic, and any
    two roundings lead to different sequences after some tens of steps."""
    arrays = draw_arrays(case, dtype, rng, kind)
    if kind == "normal":
        for name in ("w_ih", "w_hh", "w_hr"):
            if arrays.get(name) is not None:
                arrays[name] /= dtype.type(arrays[name].shape[1] ** 0.5)
    return arrays


def describe(case):
    shapes = case.shapes
    cell = "lstm" if "c0" in shapes else "gru" if shapes["w_hh"][0] == 3 * shapes["w_hh"][1] else "rnn"
    op = cell if len(shapes["x"]) == 3 else f"{cell}_step"
    return recurrent_desc(op, shapes["x"], shapes["w_ih"], shapes["w_hh"], shapes.get("w_hr"))


def work(case, itemsize):
    desc = describe(case)
    return Work(desc.flops, desc.bytes(itemsize))


def backward_work(case, itemsize):
    """Two products of the same size for each of forward's; the gates are read, and their gradients written."""
    desc = describe(case)
    return Work(2 * desc.flops, 2 * desc.bytes(itemsize) + 2 * desc.gates * desc.t * desc.n * desc.h * itemsize)


def depth(case):
    """A gate sums d + p products, a projection h, a step then adds about 20 operations; a weight's gradient sums t*n
    products."""
    desc = describe(case)
    return desc.t * (desc.d + desc.p + (desc.h if desc.p != desc.h else 0) + 20) + desc.t * desc.n


def batch(sequence):
    """Of cases without lengths, which say how many samples there are."""
    axes = {"x": 1 if sequence else 0, "h0": 0}
    return lambda case: {} if "lengths" in case.options else axes | ({"c0": 0} if "c0" in case.shapes else {})


def torch_step(cell):
    def f(
        torch, x, w_ih, w_hh, b_ih=None, b_hh=None, w_hr=None, h0=None, c0=None, nonlinearity="tanh", variant="torch"
    ):
        h0 = torch.zeros(len(x), w_hh.shape[1], dtype=x.dtype) if h0 is None else h0
        if variant == "paper":
            return paper_gru(torch, x, w_ih, w_hh, b_ih, b_hh, h0)
        if cell == "lstm":
            c0 = torch.zeros(len(x), len(w_hh) // 4, dtype=x.dtype) if c0 is None else c0
            if w_hr is not None:
                _, h, c = torch_sequence(cell)(torch, x[None], w_ih, w_hh, b_ih, b_hh, w_hr, h0, c0)
                return h, c
            return torch._VF.lstm_cell(x, (h0, c0), w_ih, w_hh, b_ih, b_hh)
        name = "gru_cell" if cell == "gru" else f"rnn_{nonlinearity}_cell"
        return getattr(torch._VF, name)(x, h0, w_ih, w_hh, b_ih, b_hh)

    return f


def paper_gru(torch, x, w_ih, w_hh, b_ih, b_hh, h0):
    """Torch has no such cell: its operators, as the formula says."""
    size = len(w_hh) // 3
    b = 0 if b_ih is None else b_ih + b_hh
    a = x @ w_ih.T + b
    r, z = torch.sigmoid(a[:, : 2 * size] + h0 @ w_hh[: 2 * size].T).split(size, 1)
    n = torch.tanh(a[:, 2 * size :] + (r * h0) @ w_hh[2 * size :].T)
    return (1 - z) * h0 + z * n


def turned(torch, x, lengths):
    """Each sample's sequence from last to first."""
    return torch.stack([torch.cat([x[:t, i].flip(0), x[t:, i]]) for i, t in enumerate(lengths)], 1)


def torch_sequence(cell):
    def f(
        torch, x, w_ih, w_hh, b_ih=None, b_hh=None, w_hr=None, h0=None, c0=None, nonlinearity="tanh", variant="torch",
        lengths=None, reverse=False,
    ):  # fmt: skip
        steps, n = x.shape[:2]
        if reverse:
            x = turned(torch, x, lengths or [steps] * n)
        h0 = torch.zeros(n, w_hh.shape[1], dtype=x.dtype) if h0 is None else h0
        if variant == "paper":
            y = [h0]
            for t, x_t in enumerate(x):
                h = paper_gru(torch, x_t, w_ih, w_hh, b_ih, b_hh, y[-1])
                y.append(h if lengths is None else torch.where(t < torch.tensor(lengths)[:, None], h, y[-1]))
            y, h = torch.stack(y[1:]), y[-1]
            if lengths:
                y = torch.where(torch.arange(steps)[:, None, None] < torch.tensor(lengths)[:, None], y, 0)
            return (turned(torch, y, lengths or [steps] * n) if reverse else y), h
        weights = [w for w in (w_ih, w_hh, b_ih, b_hh, w_hr) if w is not None]
        name = f"rnn_{nonlinearity}" if cell == "rnn" else cell
        state = h0[None]
        if cell == "lstm":
            state = [state, (torch.zeros(n, len(w_hh) // 4, dtype=x.dtype) if c0 is None else c0)[None]]
        last = weights, b_ih is not None, 1, 0.0, False, False
        if lengths is None:
            y, *states = getattr(torch._VF, name)(x, state, *last, False)
            states = [each[0] for each in states]
        else:
            rnn = torch.nn.utils.rnn
            packed = rnn.pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=False)
            order, back = packed.sorted_indices, packed.unsorted_indices
            state = [each[:, order] for each in state] if cell == "lstm" else state[:, order]
            y, *states = getattr(torch._VF, name)(packed.data, packed.batch_sizes, state, *last)
            packed = rnn.PackedSequence(y, packed.batch_sizes, order, back)
            y, states = rnn.pad_packed_sequence(packed, total_length=steps)[0], [each[0, back] for each in states]
        return (turned(torch, y, lengths or [steps] * n) if reverse else y), *states

    return f


STEPS = ((2, 3, 5), (3, 40, 16), (17, 9, 65))
SEQUENCES = ((3, 4, 5, 1), (2, 3, 5, 7), (17, 9, 67, 5), (130, 6, 16, 5))
BENCH = ((1, 128, 128, 100), (32, 128, 256, 100), (64, 512, 512, 50))
"""n, d, h, t"""


def specs_of(cell, kinds):
    """The specs of a step and of the sequence. kinds: options beyond the default ones."""

    def case(*sizes, **options):
        return case_of(cell, *sizes, **options)

    # one unit; of a GRU three, as the bound of its gradients is relative to the largest of them, and that of a single
    # unit, if it is saturated, is a small difference
    least = 1, 1, 3 if cell == "gru" else 1

    common = {
        "grads": ARGUMENTS[cell],
        "make": make,
        "products": True,
        "work": work,
        "backward_work": backward_work,
        "depth": depth,
        "exact": False,
    }
    yield OpSpec(
        name=f"{cell}_step",
        gradient_terms=gradient_terms(f"{cell}_step", ARGUMENTS[cell], largest=True),
        cases=(
            *(case(*sizes) for sizes in (least, *STEPS)),
            case(1, 7, 33, bias=False),
            case(3, 40, 16, state=False),
            *(case_of(cell, *sizes, **kind) for kind in kinds for sizes in ((1, 7, 33), (5, 6, 18))),
        ),
        bench=(case(1, 128, 128), case(1, 512, 512), case(32, 128, 256)),
        outputs=2 if cell == "lstm" else 1,
        batch=batch(False),
        peers={"torch": torch_step(cell)},
        **common,
    )
    yield OpSpec(
        name=cell,
        gradient_terms=gradient_terms(cell, ARGUMENTS[cell], largest=True),
        cases=(
            *(case(*sizes) for sizes in ((*least, 1), *SEQUENCES)),
            case(1, 7, 33, 4, bias=False),
            case(5, 4, 40, 3, state=False),
            case(3, 4, 33, 4, reverse=True),
            case(7, 5, 18, 6, lengths=(2, 6, 1, 4, 1, 6, 3)),
            case(6, 5, 18, 5, lengths=(1, 5, 3, 3, 1, 2), reverse=True),
            case(3, 5, 18, 4, lengths=(1, 3, 2), reverse=True, state=False),
            *(
                case_of(cell, *sizes, **kind, **more)
                for kind in kinds
                for sizes, more in (((1, 7, 33, 4), {}), ((5, 6, 18, 3), {"lengths": (1, 3, 2, 1, 3), "reverse": True}))
            ),
        ),
        bench=tuple(case(*sizes) for sizes in BENCH),
        outputs=3 if cell == "lstm" else 2,
        batch=batch(True),
        peers={"torch": torch_sequence(cell)},
        **common,
    )


SPECS = (
    *specs_of("rnn", [{"nonlinearity": "relu"}]),
    *specs_of("gru", [{"variant": "paper"}]),
    *specs_of("lstm", [{"p": 5}, {"p": 37}]),
)
