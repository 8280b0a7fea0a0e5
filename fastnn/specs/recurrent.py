"""Specs of recurrent cells and sequences."""

from fastnn.descriptors import lstm_desc
from fastnn.registry import Case, OpSpec, Work, draw_arrays

ARGUMENTS = ("x", "w_ih", "w_hh", "b_ih", "b_hh", "h0", "c0")


def case(n, d, h, t=None, *, bias=True, state=True, label=""):
    """lstm_step, or lstm where t is given."""
    b = (4 * h,) if bias else None
    s = (n, h) if state else None
    x = (n, d) if t is None else (t, n, d)
    return Case(dict(zip(ARGUMENTS, (x, (4 * h, d), (4 * h, h), b, b, s, s), strict=True)), {}, label)


def make(case, dtype, rng, kind):
    """Normal weights with the variance 1/D or 1/H of trained networks: with variance 1 the states are chaotic, and any
    two roundings lead to different sequences after some tens of steps."""
    arrays = draw_arrays(case, dtype, rng, kind)
    if kind == "normal":
        for name in ("w_ih", "w_hh"):
            arrays[name] /= dtype.type(arrays[name].shape[1] ** 0.5)
    return arrays


def describe(case):
    shapes = case.shapes
    op = "lstm" if len(shapes["x"]) == 3 else "lstm_step"
    return lstm_desc(op, shapes["x"], shapes["w_ih"], shapes["w_hh"])


def work(case, itemsize):
    desc = describe(case)
    return Work(desc.flops, desc.bytes(itemsize))


def backward_work(case, itemsize):
    """Two products of the same size for each of forward's; the gates are read, and their gradients written."""
    desc = describe(case)
    return Work(2 * desc.flops, 2 * desc.bytes(itemsize) + 8 * desc.t * desc.n * desc.h * itemsize)


def depth(case):
    """A gate sums d + h products, a step then adds about 20 operations; a weight's gradient sums t*n products."""
    desc = describe(case)
    return desc.t * (desc.d + desc.h + 20) + desc.t * desc.n


def torch_lstm_step(torch, x, w_ih, w_hh, b_ih=None, b_hh=None, h0=None, c0=None):
    zeros = torch.zeros(x.shape[0], w_hh.shape[1], dtype=x.dtype)
    return torch._VF.lstm_cell(x, (zeros if h0 is None else h0, zeros if c0 is None else c0), w_ih, w_hh, b_ih, b_hh)


def torch_lstm(torch, x, w_ih, w_hh, b_ih=None, b_hh=None, h0=None, c0=None):
    zeros = torch.zeros(x.shape[1], w_hh.shape[1], dtype=x.dtype)
    state = [(zeros if s is None else s)[None] for s in (h0, c0)]
    biases = [] if b_ih is None else [b_ih, b_hh]
    y, h, c = torch._VF.lstm(x, state, [w_ih, w_hh, *biases], bool(biases), 1, 0.0, False, False, False)
    return y, h[0], c[0]


SPECS = (
    OpSpec(
        name="lstm_step",
        grads=ARGUMENTS,
        cases=(
            case(1, 1, 1),
            case(2, 3, 5),
            case(1, 7, 33, bias=False),
            case(3, 40, 16, state=False),
            case(17, 9, 65),
        ),
        bench=(
            case(1, 128, 128),
            case(1, 512, 512),
            case(32, 128, 256),
        ),
        make=make,
        products=True,
        work=work,
        backward_work=backward_work,
        depth=depth,
        exact=False,
        outputs=2,
        batch=lambda case: {"x": 0, "h0": 0, "c0": 0},
        peers={"torch": torch_lstm_step},
    ),
    OpSpec(
        name="lstm",
        grads=ARGUMENTS,
        cases=(
            case(1, 1, 1, t=1),
            case(3, 4, 5, t=1),
            case(2, 3, 5, t=7),
            case(1, 7, 33, t=4, bias=False),
            case(5, 4, 40, t=3, state=False),
            case(17, 9, 67, t=5),
            case(130, 6, 16, t=5),
        ),
        bench=(
            case(1, 128, 128, t=100),
            case(32, 128, 256, t=100),
            case(64, 512, 512, t=35),
        ),
        make=make,
        products=True,
        work=work,
        backward_work=backward_work,
        depth=depth,
        exact=False,
        outputs=3,
        batch=lambda case: {"x": 1, "h0": 0, "c0": 0},
        peers={"torch": torch_lstm},
    ),
)
