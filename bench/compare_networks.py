"""Time whole networks in fastnn and PyTorch, in one process, in turn.

    python bench/compare_networks.py [network …] [--threads 1 2] [--rounds 5]

Inference is as fast as each library can be asked for: batch norm folded into convolutions, nothing recorded. PyTorch's
time is the better one of its two memory formats. A training step is everything from the batch to the updated weights.
Both have the same weights and images, and nothing is timed before their results agree.
"""

import sys
from copy import deepcopy
from itertools import pairwise
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples"))

import fashion_mnist
import networks
import numpy as np
import torch
from side_by_side import compare, parser_of

import fastnn
import fastnn.nn
from fastnn import Tensor
from fastnn.measure import Effort, Entry

TOLERANCES = 1e-4, 1e-2
"""Of the norm of the difference of logits, relative to the norm of PyTorch's, at the first call and the second. What is
between them is a training step, and Adam divides gradients by their size, also those that are mere rounding errors."""


def resnet_optimizer(optim, parameters):
    return optim.SGD(parameters, lr=0.01, momentum=0.9)


def fashion_optimizer(optim, parameters):
    return optim.Adam(parameters, lr=fashion_mnist.LEARNING_RATE)


def fashion(nn):
    return fashion_mnist.network(nn, 28, 28)


IMAGES = 8, 3, 224, 224
TASKS = {
    "resnet18": (networks.resnet18, IMAGES, None),
    "resnet18-train": (networks.resnet18, IMAGES, resnet_optimizer),
    "vgg16": (networks.vgg16, (4, *IMAGES[1:]), None),
    "fashion-train": (fashion, (fashion_mnist.BATCH, 1, 28, 28), fashion_optimizer),
}
"""Function of nn, shape of the images, and the optimiser of a training step; None for inference."""


def pair(make):
    """(fastnn's, PyTorch's) network with the same weights; scales, shifts and statistics are not 1 and 0."""
    ours, theirs = make(fastnn.nn), make(torch.nn)
    state = {name: value.numpy() for name, value in theirs.state_dict().items()}
    state |= networks.parameters({name: x.shape for name, x in state.items() if x.ndim < 2}, np.float32)
    theirs.load_state_dict({name: torch.from_numpy(x) for name, x in state.items()})
    ours.load_state_dict(state)
    return ours, theirs


def folded(model):
    """PyTorch's model in evaluation mode, with each batch norm folded into the convolution before it."""
    model.eval()
    for module in list(model.modules()):
        for (name, conv), (after, norm) in pairwise(list(module.named_children())):
            if isinstance(conv, torch.nn.Conv2d) and isinstance(norm, torch.nn.BatchNorm2d):
                setattr(module, name, torch.nn.utils.fusion.fuse_conv_bn_eval(conv, norm))
                setattr(module, after, torch.nn.Identity())
    return model


def inference(make, x):
    """Function to time by name; each returns logits."""
    ours, theirs = pair(make)
    ours, theirs = fastnn.nn.fuse(ours), folded(theirs)

    def torch_call(model, x):
        with torch.inference_mode():
            return model(x).numpy()

    calls = {"fastnn": lambda: ours(x)}
    for name, (model, images) in torch_formats(theirs, x).items():
        calls[name] = lambda model=model, images=images: torch_call(model, images)
    return calls


def torch_formats(model, x):
    """(model, images) by name, in both memory formats."""
    images, last = torch.from_numpy(x), torch.channels_last
    return {
        "torch": (model, images),
        "torch channels_last": (deepcopy(model).to(memory_format=last), images.to(memory_format=last)),
    }


def training(make, x, optimizer):
    """Function to time by name: a step, which returns the logits before it."""
    ours, theirs = pair(make)
    classes = np.arange(len(x)) * 3 % 10

    def step_of(nn, optim, model, images, classes):
        criterion = nn.CrossEntropyLoss()
        updates = optimizer(optim, model.parameters())

        def step():
            logits = model(images)
            loss = criterion(logits, classes)
            updates.zero_grad()
            loss.backward()
            updates.step()
            return logits.detach().numpy()

        return step

    calls = {"fastnn": step_of(fastnn.nn, fastnn.optim, ours, Tensor(x), classes)}
    for name, (model, images) in torch_formats(theirs, x).items():
        calls[name] = step_of(torch.nn, torch.optim, model, images, torch.from_numpy(classes))
    return calls


def main():
    parser = parser_of(__doc__, rounds=5)
    parser.add_argument("networks", nargs="*", metavar="network", help=f"of {', '.join(TASKS)} (default: all)")
    args = parser.parse_args()
    if unknown := set(args.networks) - set(TASKS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    effort = Effort(args.rounds, 0.1, 100.0)
    print(f"fastnn {fastnn.__version__}, PyTorch {torch.__version__}, milliseconds")
    print(f"{'network':<16}{'threads':>8}{'fastnn':>10}{'torch':>10}{'channels_last':>15}{'ratio':>8}")
    for name in args.networks or TASKS:
        make, shape, optimizer = TASKS[name]
        x = networks.drawn("images", shape, np.float32)
        calls = training(make, x, optimizer) if optimizer else inference(make, x)
        entries = {who: Entry(call) for who, call in calls.items()}
        for index, threads in enumerate(args.threads):
            times = compare(name, entries, threads, effort, () if index else TOLERANCES)
            ours, *others = times.values()
            cells = f"{1e3 * ours:>10.1f}{1e3 * others[0]:>10.1f}{1e3 * others[1]:>15.1f}"
            print(f"{name:<16}{threads:>8}{cells}{min(others) / ours:>8.2f}", flush=True)


if __name__ == "__main__":
    main()
