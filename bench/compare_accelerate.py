"""Time PyTorch models before and after fastnn.torch.accelerate, in one process, in turn.

    python bench/compare_accelerate.py [network …] [--threads 1 2] [--rounds 9] [--layers]

The same model twice, the second accelerated, with parameters of its own where it is trained. Inference is under
torch.inference_mode, a training step is everything from the batch to the updated weights. Nothing is timed before the
results agree. --layers: instead, layers of some sizes, forward alone and with the backward pass.
"""

import sys
from copy import deepcopy
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import networks
import torch
from side_by_side import compare, parser_of
from torch import nn

import fastnn
import fastnn.torch
from fastnn.measure import Effort, Entry

TOLERANCES = 1e-4, 1e-2
"""As in compare_networks.py: between the first call and the second is a training step."""


def transformer():
    """Six layers of 512 features and 8 heads, on sequences of such."""
    layer = nn.TransformerEncoderLayer(512, 8, 2048, dropout=0.0, batch_first=True)
    return nn.TransformerEncoder(layer, 6, enable_nested_tensor=False)


def tagger():
    """Two GRU layers in both directions, and a linear one."""

    class Tagger(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.GRU(128, 256, 2, batch_first=True, bidirectional=True)
            self.out = nn.Linear(512, 50)

        def forward(self, x):
            return self.out(self.rnn(x)[0])

    return Tagger()


IMAGE = 3, 224, 224
TASKS = {
    "ResNet-18": (lambda: networks.resnet18(nn), [(1, *IMAGE), (8, *IMAGE)], [(8, *IMAGE)]),
    "VGG-16": (lambda: networks.vgg16(nn), [(1, *IMAGE), (4, *IMAGE)], []),
    "LeNet-5": (lambda: networks.lenet(nn), [(1, 1, 28, 28), (64, 1, 28, 28)], [(64, 1, 28, 28)]),
    "GRU tagger": (tagger, [(1, 40, 128), (16, 40, 128)], [(16, 40, 128)]),
    "Transformer": (transformer, [(1, 64, 512), (8, 64, 512)], [(8, 64, 512)]),
}
"""Function that makes a network; shapes of batches for inference; for training."""

LAYERS = {
    "conv 8x8x3x3": (lambda: nn.Conv2d(8, 8, 3, padding=1), [(1, 8, 8, 8), (8, 8, 8, 8)]),
    "conv 64x64x3x3": (lambda: nn.Conv2d(64, 64, 3, padding=1), [(1, 64, 56, 56), (8, 64, 56, 56)]),
    "conv 512x512x3x3": (lambda: nn.Conv2d(512, 512, 3, padding=1), [(1, 512, 7, 7), (8, 512, 7, 7)]),
    "linear 64": (lambda: nn.Linear(64, 64), [(1, 64), (128, 64)]),
    "linear 1024": (lambda: nn.Linear(1024, 1024), [(1, 1024), (32, 1024)]),
    "batch norm": (lambda: nn.BatchNorm2d(64), [(8, 64, 56, 56)]),
    "layer norm": (lambda: nn.LayerNorm(512), [(32, 128, 512)]),
    "group norm": (lambda: nn.GroupNorm(4, 64), [(8, 64, 56, 56)]),
    "max pooling 3/2": (lambda: nn.MaxPool2d(3, 2, 1), [(1, 8, 8, 8), (8, 64, 112, 112)]),
    "average pooling 2": (lambda: nn.AvgPool2d(2), [(8, 64, 56, 56)]),
    "tanh": (nn.Tanh, [(64, 512)]),
    "GELU": (nn.GELU, [(32, 128, 512)]),
    "RNN 128": (lambda: nn.RNN(64, 128), [(50, 1, 64), (50, 32, 64)]),
    "GRU 128": (lambda: nn.GRU(64, 128), [(50, 1, 64), (50, 32, 64)]),
    "LSTM 128": (lambda: nn.LSTM(64, 128), [(50, 1, 64), (50, 32, 64)]),
}
"""Function that makes a layer; shapes of inputs."""


def inference(model, x):
    def call():
        with torch.inference_mode():
            return results(model(x))

    return call


def gradients(model, x):
    """A forward and a backward pass."""
    x = x.clone().requires_grad_()
    torch.manual_seed(1)
    dy = torch.randn_like(results(model(x)))

    def call():
        return torch.autograd.grad(results(model(x)), [x, *model.parameters()], dy)

    return call


def step(model, x):
    """A training step, which returns what the model said before it."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001, momentum=0.9)

    def call():
        y = model(x)
        optimizer.zero_grad()
        y.square().mean().backward()
        optimizer.step()
        return y

    return call


def results(y):
    """The first one of a recurrent layer's."""
    return y[0] if isinstance(y, tuple) else y


def rows(tasks, training):
    """(name, batch, model, kind of call) of each measurement."""
    for name, (make, *shapes) in tasks.items():
        for kind, batches in zip((inference, training), shapes * 2 if len(shapes) == 1 else shapes, strict=True):
            for shape in batches:
                yield name, shape, make, kind


def main():
    parser = parser_of(__doc__, rounds=9)
    parser.add_argument("networks", nargs="*", metavar="network", help=f"of {', '.join(TASKS)} (default: all)")
    parser.add_argument("--layers", action="store_true", help="layers, not networks")
    args = parser.parse_args()
    tasks, training = (LAYERS, gradients) if args.layers else (TASKS, step)
    if unknown := set(args.networks) - set(tasks):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    tasks = {name: task for name, task in tasks.items() if not args.networks or name in args.networks}
    effort = Effort(args.rounds, 0.02, 60.0)
    print(f"fastnn {fastnn.__version__}, PyTorch {torch.__version__}, milliseconds")
    print(f"{'':<20}{'input':<18}{'':<11}{'threads':>8}{'torch':>10}{'fastnn':>10}{'ratio':>8}")
    for name, shape, make, kind in rows(tasks, training):
        torch.manual_seed(0)
        model, x = make(), torch.randn(shape)
        model.train(kind is not inference)
        ours = fastnn.torch.accelerate(deepcopy(model), inplace=True)
        entries = {"torch": Entry(kind(model, x)), "fastnn": Entry(kind(ours, x))}
        for index, threads in enumerate(args.threads):
            theirs, fast = compare(f"{name} {shape}", entries, threads, effort, () if index else TOLERANCES).values()
            label = f"{name:<20}{'x'.join(map(str, shape)):<18}{kind.__name__:<11}"
            print(f"{label}{threads:>8}{1e3 * theirs:>10.3f}{1e3 * fast:>10.3f}{theirs / fast:>8.2f}", flush=True)


if __name__ == "__main__":
    main()
