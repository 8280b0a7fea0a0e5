"""Time recurrent layers and attention in fastnn, PyTorch and ONNX Runtime, in one process, in turn.

    python bench/compare_recurrent.py [--only 'GRU step*'] [--threads 1 2] [--rounds 7] [--json FILE]

A step is one of batch 1 from the state that the last one left: `stream` against PyTorch's cell, and beside it the time
of a call that only reads as many bytes as there are weights, from the cache they are in. Inference takes arrays, and
PyTorch is in inference mode. Training is forward and backward, with gradients of the input and all parameters. All have
the same weights and inputs, and nothing is timed before the results agree. ONNX Runtime prepares weights before it is
timed, and the others in every call but that of a stream.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from statistics import geometric_mean
from typing import NamedTuple

import numpy as np
import torch
from side_by_side import arrays, compare, parser_of

from fastnn import Tensor, nn
from fastnn import functional as F
from fastnn.cli.bench import load_average
from fastnn.cli.peers import PEERS, installed
from fastnn.config import config
from fastnn.kernels import runtime
from fastnn.measure import Effort, Entry, aligned
from fastnn.registry import specs
from fastnn.terminal import Cell, Column, Table, si

TOLERANCES = 1e-5, 1e-5
"""At the first call and the second, which for a step goes on from the first one's state: ten times the rounding errors
of the gradients of biases, sums over all steps and samples."""

ENGINE = "onnxruntime"
MOST_OF_READING = 1.5
"""Times of reading the weights that a step may take."""


class Contest(NamedTuple):
    """Who is timed, see side_by_side.compare."""

    entries: Mapping[str, Entry]
    convert: Mapping[str, Callable] = {}
    beside: Mapping[str, Entry] = {}


class Task(NamedTuple):
    """A row: its name and kind, the function from threads to a Contest, and how many times faster than whom to be."""

    name: str
    kind: str
    make: Callable[[int], Contest]
    targets: Mapping[str, float]


def drawn(*shape):
    """Normal numbers in float32, the same for the same shape."""
    return np.random.default_rng(shape).standard_normal(shape, np.float32)


def layers(cell, d, h):
    """(fastnn's, PyTorch's) layer of that name, with the same weights."""
    torch.manual_seed(0)
    theirs, ours = getattr(torch.nn, cell)(d, h), getattr(nn, cell)(d, h)
    ours.load_state_dict({name: value.numpy() for name, value in theirs.state_dict().items()})
    return ours, theirs


def step(cell, h, threads):
    """The next hidden state, h features to h units."""
    ours, layer = layers(cell, h, h)
    theirs = getattr(torch.nn, f"{cell}Cell")(h, h)
    theirs.load_state_dict({name.removesuffix("_l0"): value for name, value in layer.state_dict().items()})
    x, state = drawn(1, h), None
    tensor = torch.from_numpy(x)

    def torch_step():
        nonlocal state
        state = theirs(tensor, state)
        return state

    nbytes = sum(p.nbytes for p in ours.state_dict().values())
    weights = aligned(nbytes + -nbytes % 256, 1)
    return Contest(
        {"fastnn": Entry(partial(ours.stream(1).step, x)), "torch": Entry(torch_step, torch.inference_mode)},
        {"torch": lambda state: arrays(state)[:1]},
        {f"reading {n}": Entry(partial(runtime.stream, [weights], [], n)) for n in {1, threads}},
    )


def inference(cell, t, n, d, h, threads):
    """A sequence from the initial state 0."""
    ours, theirs = layers(cell, d, h)
    x = drawn(t, n, d)
    entries = {
        "fastnn": Entry(partial(ours, x)),
        "torch": Entry(partial(theirs, torch.from_numpy(x)), torch.inference_mode),
    }
    if ENGINE not in installed():
        return Contest(entries)
    engine, spec = PEERS[ENGINE](), specs()[cell.lower()]
    inputs = dict(zip(spec.grads, (x, *ours.state_dict().values()), strict=False))
    with engine.threads(threads):
        entries[ENGINE] = engine.entry(spec, "forward", inputs, {}, None)

    def convert(results):
        y, *states = engine.arrays(results)
        return [y, *(state[None] for state in states)]

    return Contest(entries, {ENGINE: convert})


def forward_backward(function, leaves, dy):
    """(Result, gradients of the leaves) of a function."""
    for leaf in leaves:
        leaf.grad = None
    y = function()
    y.backward(dy)
    return [y, *(leaf.grad for leaf in leaves)]


def training(cell, t, n, d, h, threads):
    """The same with gradients."""
    x, dy = drawn(t, n, d), drawn(t, n, h)

    def entry(layer, x, dy):
        return Entry(partial(forward_backward, lambda: layer(x)[0], [x, *layer.parameters()], dy))

    ours, theirs = layers(cell, d, h)
    return Contest({
        "fastnn": entry(ours, Tensor(x, requires_grad=True), dy),
        "torch": entry(theirs, torch.from_numpy(x).requires_grad_(), torch.from_numpy(dy)),
    })  # fmt: skip


def attention(shape, grad, threads):
    """Scaled dot products of queries, keys and values of one shape."""
    *qkv, dy = drawn(4, *shape)

    def entry(attend, qkv, dy):
        return Entry(partial(forward_backward, lambda: attend(*qkv), qkv, dy))

    attend, theirs = F.scaled_dot_product_attention, torch.nn.functional.scaled_dot_product_attention
    tensors = [torch.from_numpy(x) for x in qkv]
    if not grad:
        call = partial(theirs, *tensors)
        return Contest({"fastnn": Entry(partial(attend, *qkv)), "torch": Entry(call, torch.inference_mode)})
    return Contest({
        "fastnn": entry(attend, [Tensor(x, requires_grad=True) for x in qkv], dy),
        "torch": entry(theirs, [x.requires_grad_() for x in tensors], torch.from_numpy(dy)),
    })  # fmt: skip


CELLS = "LSTM", "GRU", "RNN"
STEPS = {32: 8, 64: 8, 128: 8, 256: None, 512: 3}
"""Hidden units, and how many times PyTorch's speed is wanted."""
SEQUENCES = (100, 1, 128, 128), (100, 32, 128, 256), (50, 64, 512, 512)
"""Steps, samples, features, hidden units."""
HEADS = 8, 8, 256, 64
"""Samples, heads, positions, features."""


def tasks():
    """All rows, in the order of the table."""
    for cell in CELLS:
        for h, target in STEPS.items():
            yield Task(f"{cell} step {h}", "step", partial(step, cell, h), {} if target is None else {"torch": target})
    for cell in CELLS:
        for t, n, d, h in SEQUENCES:
            name, sizes = f"{cell} {t}x{n} {d}->{h}", (cell, t, n, d, h)
            yield Task(name, "inference", partial(inference, *sizes), {"torch": 2.5 if n == 1 else 1.3, ENGINE: 1.2})
            yield Task(f"{name} training", "training", partial(training, *sizes), {"torch": 1.4})
    name = f"attention {'x'.join(map(str, HEADS))}"
    yield Task(name, "attention", partial(attention, HEADS, False), {"torch": 1.2})
    yield Task(f"{name} training", "attention", partial(attention, HEADS, True), {"torch": 1.2})


class Row(NamedTuple):
    """A measurement: seconds a call by name."""

    name: str
    kind: str
    threads: int
    seconds: Mapping[str, float]
    targets: Mapping[str, float]

    def ratio(self, other):
        """How many times faster fastnn is; None if the other does not take part."""
        return self.seconds[other] / self.seconds["fastnn"] if other in self.seconds else None

    @property
    def of_reading(self):
        """Times of reading the weights that the call takes, None where nothing was read."""
        return self.seconds["fastnn"] / self.seconds["reading"] if "reading" in self.seconds else None

    @property
    def missed(self):
        """What it falls short of."""
        found = [f"×{who} {target}" for who, target in self.targets.items() if (self.ratio(who) or target) < target]
        return found + [f"reading {MOST_OF_READING}"] * ((self.of_reading or 0) > MOST_OF_READING)


def measure(task, threads, effort):
    """The Row of a task."""
    contest = task.make(threads)
    times = compare(task.name, contest.entries, threads, effort, TOLERANCES, contest.convert, contest.beside)
    seconds = {who: times[who] for who in contest.entries}
    if contest.beside:
        seconds["reading"] = min(times[name] for name in contest.beside)
    return Row(task.name, task.kind, threads, seconds, task.targets)


TABLE = Table([
    Column("", 29), *(Column(title, 7, True) for title in ("threads", "fastnn", "torch", ENGINE, "reading")),
    *(Column(title, 6, True) for title in ("×torch", f"×{ENGINE}", "/reading")), Column("missed", 30),
])  # fmt: skip


def cells(row):
    """Of the table."""
    times = [si(row.seconds[who], "s") if who in row.seconds else "" for who in ("fastnn", "torch", ENGINE, "reading")]
    ratios = ["" if x is None else f"{x:.2f}" for x in (row.ratio("torch"), row.ratio(ENGINE), row.of_reading)]
    return [row.name, str(row.threads), *times, *ratios, Cell(", ".join(row.missed), "red")]


def means(rows):
    """Lines with the geometric means of ratios, by kind and threads."""
    groups = defaultdict(list)
    for row in rows:
        for who in ("torch", ENGINE):
            if who in row.seconds:
                groups[row.kind, row.threads, who].append(row.ratio(who))
    for (kind, threads, who), ratios in groups.items():
        yield f"{kind}, {threads} thread{'s' * (threads > 1)}: ×{who} {geometric_mean(ratios):.2f} of {len(ratios)}"


def main():
    parser = parser_of(__doc__, rounds=7)
    parser.add_argument("--only", metavar="GLOB", default="*", help="only rows of matching names")
    parser.add_argument("--json", metavar="FILE", help="write the measurements there")
    args = parser.parse_args()
    chosen = [task for task in tasks() if fnmatchcase(task.name, args.only)]
    if not chosen:
        parser.error(f"--only {args.only}: no row matches; there are {', '.join(task.name for task in tasks())}")
    facts = {name.strip(): fact for name, fact in config().items()} | {"torch": torch.__version__}
    if ENGINE in installed():
        facts[ENGINE] = PEERS[ENGINE]().version
    facts["load average"] = load_average()
    for name in ("CPU", "instruction set", "fastnn", "torch", ENGINE, "load average"):
        print(f"{name}: {facts.get(name, 'not installed')}")
    print(f"\n{TABLE.heading()}")
    effort, rows = Effort(args.rounds, 0.02, 5.0), []
    for task in chosen:
        for threads in args.threads:
            rows.append(measure(task, threads, effort))
            print(TABLE.row(cells(rows[-1])), flush=True)
    print("\ngeometric means:")
    for line in means(rows):
        print(f"  {line}")
    print(f"{sum(bool(row.missed) for row in rows)} of {len(rows)} rows miss a target")
    if args.json:
        found = [row._asdict() | {"missed": row.missed} for row in rows]
        document = {"config": facts, "effort": effort._asdict(), "rows": found}
        Path(args.json).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
