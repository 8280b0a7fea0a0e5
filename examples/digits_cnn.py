"""A LeNet-style network of layers, trained on real handwritten digits, its gradients checked before.

    python examples/digits_cnn.py [--epochs 30] [--seed 0] [--out digits_cnn.png] [--threads 1] [--quick]

The data are scikit-learn's 1,797 digits of 8x8 pixels; a stratified fifth is held out. Each layer is an operator of
`fastnn.ops` (compiled), which `fastnn.reference` states in plain NumPy, where the equations can be read. So the same
network is first checked against these, gradient by gradient, then trained, then timed in both.

The architecture follows LeCun et al. 1998, "Gradient-based learning applied to document recognition"; ReLU and
max-pooling, He initialisation and Adam are the usual choices of today.
"""

import argparse
import copy
import inspect
from statistics import median
from time import perf_counter

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from threadpoolctl import threadpool_limits  # comes with scikit-learn

import fastnn
import fastnn.nn as nn
from fastnn import Tensor, init, ops, optim, reference
from fastnn import functional as F
from fastnn.data import DataLoader, RandomCrop
from fastnn.registry import Case, specs
from fastnn.train import fit, predict
from fastnn.verify import algo_of, tolerance

BATCH = 32
LEARNING_RATE = 4e-3


def lenet():
    """Two convolutions with pooling, two fully connected layers: (N, 1, 8, 8) -> (N, 10) logits."""
    net = nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1),  # (N, 32, 8, 8)
        nn.ReLU(),
        nn.MaxPool2d(2),  # (N, 32, 4, 4)
        nn.Conv2d(32, 64, 3, padding=1),  # (N, 64, 4, 4)
        nn.ReLU(),
        nn.MaxPool2d(2),  # (N, 64, 2, 2)
        nn.Flatten(),
        nn.Linear(64 * 2 * 2, 128),
        nn.ReLU(),
        nn.Linear(128, 10),
    )
    for name, parameter in net.named_parameters():
        if name.endswith("weight"):
            init.kaiming_normal_(parameter, nonlinearity="relu")
        else:
            init.zeros_(parameter)
    return net


# ---- the same network in the words of the reference ----


def operator(layer):
    """The operator that a layer is: its OpSpec, its parameters by their name there, its options."""
    options = {}
    if isinstance(layer, nn.Conv2d):
        name, options = "conv2d", {"padding": 1}
    elif isinstance(layer, nn.MaxPool2d):
        name, options = "max_pool2d", {"kernel_size": 2}
    else:
        name = {nn.ReLU: "relu", nn.Linear: "linear"}[type(layer)]
    spec = specs()[name]
    names = list(inspect.signature(spec.function(reference)).parameters)[1:]
    return spec, dict(zip(names, layer.parameters(), strict=False)), options


def plain_forward(net, x):
    """Logits, and what backward needs of every layer."""
    passed = []
    for layer in net:
        if isinstance(layer, nn.Flatten):
            x = x.reshape(len(x), -1)
            continue
        spec, parameters, options = operator(layer)
        x, ctx = spec.forward(reference, {"x": x} | {name: p.data for name, p in parameters.items()}, options)
        passed.append((spec, parameters, ctx, x.shape))
    return x, passed


def plain_backward(dy, passed):
    """The chain rule, last layer first: the gradients of all parameters, in `grad` as the tape leaves them."""
    for spec, parameters, ctx, shape in reversed(passed):
        grads = spec.backward(reference, dy.reshape(shape), ctx)  # another shape where nn.Flatten stands
        for name, parameter in parameters.items():
            parameter.grad = grads[name]
        dy = grads["x"]


def plain_step(net, x, target):
    """The loss of a batch and its gradients, by the reference."""
    logits, passed = plain_forward(net, x)
    loss, entropy = reference.cross_entropy_forward(logits, target)
    plain_backward(reference.cross_entropy_backward(np.ones_like(loss), entropy), passed)


def step(net, x, target):
    """The same by layers and tape."""
    net.zero_grad()
    F.cross_entropy(net(Tensor(x)), target).backward()


# ---- do both give the same gradients? ----


def compare_layers(net, x, target):
    """(layer's gradient, its shape, largest relative difference) of all layers, from the loss back.

    The reference computes the network, and each layer gets its numbers, so that a difference is that of one layer. Its
    bound is the one `fastnn check` uses, derived in fastnn.verify: the number of roundings on the way to one result
    times the rounding unit times the magnitude of what was summed. Twice that, since both sides round. Steps that only
    select numbers (ReLU, pooling) must agree exactly.
    """
    calls = []
    for layer in net:
        y = plain_forward([layer], x)[0]
        if not isinstance(layer, nn.Flatten):
            calls.append((layer, x, y.shape))
        x = y
    loss, entropy = reference.cross_entropy_forward(x, target)
    dy = reference.cross_entropy_backward(np.ones_like(loss), entropy)
    rows = []
    for layer, x, shape in reversed(calls):
        dy = dy.reshape(shape)
        spec, parameters, options = operator(layer)
        arrays = {"x": x} | {name: p.data for name, p in parameters.items()}
        want = spec.backward(reference, dy, spec.forward(reference, arrays, options)[1])
        leaf = Tensor(x, requires_grad=True)
        layer.zero_grad()
        layer(leaf).backward(dy)
        got = {"x": leaf.grad} | {name: p.grad for name, p in parameters.items()}
        sizes = dict.fromkeys(want)
        if spec.multilinear:  # the sums of absolute values: the same equations on |x|, |w|, |dy|
            _, absolute = spec.forward(reference, {name: abs(a) for name, a in arrays.items()}, options)
            sizes = spec.backward(reference, abs(dy), absolute)
        case = Case({name: a.shape for name, a in arrays.items()}, options)
        ctx = spec.forward(ops, arrays, options)[1]
        for name, g in want.items():
            error = abs(got[name] - g)
            bound = 2 * tolerance(spec, case, g.dtype, g, sizes[name], algo=algo_of(ctx, name))
            assert (error <= bound).all(), f"{spec.name}: d{name} is off by {error.max():.1e}"
            rows.append((f"{spec.name} d{name}", g.shape, error.max() / abs(g).max()))
        dy = want["x"]
    return rows


def check_gradients(net, x, target):
    """Print the largest relative difference of every gradient of every layer; raise if one exceeds its bound."""
    wide, wide_x = copy.deepcopy(net).double(), x.astype(np.float64)
    print("Gradients, layers and reference, one by one on the same numbers: largest relative difference")
    print(f"  {'from the loss back':20} {'shape':18} {'float32':>9} {'float64':>9}")
    columns = compare_layers(net, x, target), compare_layers(wide, wide_x, target)
    for (name, shape, single), (_, _, double) in zip(*columns, strict=True):
        print(f"  {name:20} {shape!s:18} {single:9.1e} {double:9.1e}")

    # All layers in a row: float64, because in float32 a value that rounds to either side of 0 changes a ReLU.
    both = []
    for either in (step, plain_step):
        either(wide, wide_x, target)
        both.append([p.grad for p in wide.parameters()])
    worst = max(abs(got - want).max() / abs(want).max() for got, want in zip(*both, strict=True))
    assert worst < np.finfo(np.float64).eps ** 0.5, f"the whole backward pass differs by {worst:.1e}"
    print(f"  the whole pass at once, float64: {worst:.1e}\n")


# ---- data, training, timing ----


def load():
    """Images (N, 1, 8, 8) in [0, 1] and classes: train and test."""
    images, classes = load_digits(return_X_y=True)
    images = (images / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    return train_test_split(images, classes, test_size=0.2, stratify=classes, random_state=0)


def train(net, loader, test, epochs):
    """Train the layers, the learning rate falling linearly to zero."""
    optimizer = optim.Adam(net.parameters(), LEARNING_RATE)
    falling = optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=epochs * len(loader))
    fit(
        net, loader, optimizer=optimizer, epochs=epochs, scheduler=falling, schedule_every="batch",
        validation_data=test, metrics="accuracy",
    )  # fmt: skip


def compare_speed(net, batches, rounds):
    """Print the time of an epoch, layers and reference: the same batches, in turn, from the same start, with the same
    optimiser."""
    seconds = {step: [], plain_step: []}
    threads = fastnn.get_num_threads()
    with threadpool_limits(threads, "blas"):  # as many for NumPy's matrix products
        for either, times in [*seconds.items()] * rounds:
            student = copy.deepcopy(net)
            optimizer = optim.Adam(student.parameters(), 1e-4)
            start = perf_counter()
            for x, target in batches:
                either(student, x, target)
                optimizer.step()
            times.append(perf_counter() - start)
    compiled, plain = (median(times) for times in seconds.values())
    print(f"\nTime per epoch, threads: {threads}, median of {rounds}: layers {compiled:.3f} s, "
          f"NumPy reference {plain:.3f} s, ratio {plain / compiled:.1f}")  # fmt: skip


def draw(path, x, target, predicted):
    """A figure of some test digits with their predictions, and of all mistakes (up to two rows)."""
    from matplotlib.figure import Figure

    right, wrong = np.flatnonzero(predicted == target), np.flatnonzero(predicted != target)
    rows = [right[:12], right[12:24], wrong[:12], wrong[12:24]]
    rows = [row for row in rows if len(row)]
    figure = Figure(figsize=(12, 1.4 * len(rows) + 0.5), layout="constrained")
    axes = figure.subplots(len(rows), 12, squeeze=False)
    for ax in axes.flat:
        ax.axis("off")
    for row, shown in zip(axes, rows, strict=True):
        for ax, i in zip(row, shown, strict=False):
            ax.imshow(x[i, 0], cmap="gray_r")
            if predicted[i] == target[i]:
                ax.set_title(f"{predicted[i]}", color="green", fontsize=10)
            else:
                ax.set_title(f"{predicted[i]}, is {target[i]}", color="red", fontsize=10)
    figure.suptitle(f"Held-out digits with predictions; {len(wrong)} mistakes in {len(target)}")
    figure.savefig(path, dpi=100)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, help="passes over the training images (default: 30, quick: 8)")
    parser.add_argument("--seed", type=int, default=0, help="of initial weights, order and shifts")
    parser.add_argument("--out", default="digits_cnn.png", metavar="FILE", help="figure of predictions")
    parser.add_argument("--threads", type=int, default=1, help="a network so small gains little from more than one")
    parser.add_argument("--quick", action="store_true", help="fewer epochs, one round of timing")
    args = parser.parse_args(argv)
    epochs = args.epochs if args.epochs is not None else 8 if args.quick else 30
    if epochs < 1:
        parser.error(f"--epochs must be at least 1, got {epochs}")

    fastnn.set_num_threads(args.threads)
    fastnn.manual_seed(args.seed)
    x, x_test, target, target_test = load()
    net = lenet()
    print(f"fastnn {fastnn.__version__}, {sum(p.size for p in net.parameters()):,} parameters\n")
    check_gradients(net, x[:64], target[:64])
    shifted = RandomCrop(8, padding=1)  # by up to a pixel in either direction
    loader = DataLoader((x, target), BATCH, shuffle=True, seed=args.seed, transform=shifted)
    print(f"Training on {len(x)} digits, testing on {len(x_test)}")
    train(net, loader, (x_test, target_test), epochs)
    compare_speed(net, list(loader), 1 if args.quick else 3)
    draw(args.out, x_test, target_test, predict(net, x_test).argmax(axis=1))
    print(f"Predictions and mistakes: {args.out}")


if __name__ == "__main__":
    main()
