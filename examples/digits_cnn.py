"""A LeNet-style network trained on real handwritten digits with explicit forward and backward passes.

    python examples/digits_cnn.py [--epochs 30] [--seed 0] [--out digits_cnn.png] [--threads 1] [--quick]

The data are scikit-learn's 1,797 digits of 8x8 pixels; a stratified fifth is held out. Every function of the network
takes the module that computes it as an argument: `fastnn.ops` (compiled) or `fastnn.reference` (plain NumPy, where the
equations can be read). So the same lines are first checked, gradient by gradient, then trained, then timed in both.

The architecture follows LeCun et al. 1998, "Gradient-based learning applied to document recognition"; ReLU and
max-pooling, He initialisation and Adam are the usual choices of today.
"""

import argparse
import copy
import inspect
import sys
from functools import partial
from statistics import median
from time import perf_counter

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from threadpoolctl import threadpool_limits  # comes with scikit-learn

import fastnn
from fastnn import ops, reference
from fastnn.registry import Case, specs
from fastnn.verify import algo_of, tolerance

BATCH = 32
LEARNING_RATE = 4e-3


# ---- the network ----


class LeNet:
    """Two convolutions with pooling, two fully connected layers: (N, 1, 8, 8) -> (N, 10) logits."""

    def __init__(self, rng, dtype=np.float32):
        def he(*shape):  # He et al. 2015: variance 2 / (inputs of one unit), for ReLU
            return (rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))).astype(dtype)

        self.params = {
            "w1": he(32, 1, 3, 3),
            "b1": np.zeros(32, dtype),
            "w2": he(64, 32, 3, 3),
            "b2": np.zeros(64, dtype),
            "w3": he(128, 64 * 2 * 2),
            "b3": np.zeros(128, dtype),
            "w4": he(10, 128),
            "b4": np.zeros(10, dtype),
        }

    def forward(self, ops, x, keep=True):
        """Logits, and what backward needs of every step (nothing with keep=False)."""
        p = self.params
        h, conv1 = ops.conv2d_forward(x, p["w1"], p["b1"], padding=1, keep=keep)  # (N, 32, 8, 8)
        h, relu1 = ops.relu_forward(h, keep=keep)
        h, pool1 = ops.max_pool2d_forward(h, kernel_size=2, keep=keep)  # (N, 32, 4, 4)
        h, conv2 = ops.conv2d_forward(h, p["w2"], p["b2"], padding=1, keep=keep)  # (N, 64, 4, 4)
        h, relu2 = ops.relu_forward(h, keep=keep)
        h, pool2 = ops.max_pool2d_forward(h, kernel_size=2, keep=keep)  # (N, 64, 2, 2)
        h, fc1 = ops.linear_forward(h.reshape(len(x), -1), p["w3"], p["b3"], keep=keep)  # (N, 128)
        h, relu3 = ops.relu_forward(h, keep=keep)
        logits, fc2 = ops.linear_forward(h, p["w4"], p["b4"], keep=keep)  # (N, 10)
        return logits, (conv1, relu1, pool1, conv2, relu2, pool2, fc1, relu3, fc2)

    def backward(self, ops, dlogits, ctx):
        """The chain rule, last step first: gradients by the name of the parameter."""
        conv1, relu1, pool1, conv2, relu2, pool2, fc1, relu3, fc2 = ctx
        g = {}
        dh, g["w4"], g["b4"] = ops.linear_backward(dlogits, fc2)
        dh = ops.relu_backward(dh, relu3)
        dh, g["w3"], g["b3"] = ops.linear_backward(dh, fc1)
        dh = ops.max_pool2d_backward(dh.reshape(-1, 64, 2, 2), pool2)
        dh = ops.relu_backward(dh, relu2)
        dh, g["w2"], g["b2"] = ops.conv2d_backward(dh, conv2)
        dh = ops.max_pool2d_backward(dh, pool1)
        dh = ops.relu_backward(dh, relu1)
        _, g["w1"], g["b1"] = ops.conv2d_backward(dh, conv1, needs=(False, True, True))  # nobody needs d(image)
        return g


def loss_and_gradients(ops, net, x, target):
    logits, ctx = net.forward(ops, x)
    loss, entropy = ops.cross_entropy_forward(logits, target)
    dlogits = ops.cross_entropy_backward(np.ones_like(loss), entropy)
    return float(loss), net.backward(ops, dlogits, ctx)


def predict(ops, net, x):
    return net.forward(ops, x, keep=False)[0].argmax(axis=1)


class Adam:
    """Kingma & Ba 2015, "Adam: a method for stochastic optimization"."""

    def __init__(self, params, beta1=0.9, beta2=0.999, eps=1e-8):
        self.params, self.beta1, self.beta2, self.eps, self.t = params, beta1, beta2, eps, 0
        self.m = {name: np.zeros_like(p) for name, p in params.items()}
        self.v = {name: np.zeros_like(p) for name, p in params.items()}

    def step(self, grads, lr):
        self.t += 1
        for name, g in grads.items():
            m, v = self.m[name], self.v[name]
            m += (1 - self.beta1) * (g - m)
            v += (1 - self.beta2) * (g * g - v)
            mean, square = m / (1 - self.beta1**self.t), v / (1 - self.beta2**self.t)
            self.params[name] -= lr * mean / (np.sqrt(square) + self.eps)


# ---- do both ways give the same gradients? ----


class Compared:
    """Stands in for `ops`: computes every step both ways, on the same numbers, and compares the gradients.

    The network goes on with the reference's results, so each difference is that of one layer. Its bound is the one
    `fastnn check` uses, derived in fastnn.verify: the number of roundings on the way to one result times the rounding
    unit times the magnitude of what was summed. Twice that, since both sides round. Steps that only select numbers
    (ReLU, pooling) must agree exactly.
    """

    def __init__(self):
        self.rows = []

    def __getattr__(self, name):
        op, _, direction = name.rpartition("_")
        return partial(getattr(self, f"run_{direction}"), specs()[op])

    def run_forward(self, spec, *args, keep=True, **options):
        names = inspect.signature(getattr(reference, f"{spec.name}_forward")).parameters
        arrays = dict(zip(names, args, strict=False))
        y, plain = spec.forward(reference, arrays, options)
        _, compiled = spec.forward(ops, arrays, options)
        return y, (arrays, options, plain, compiled)

    def run_backward(self, spec, dy, ctx, **needs):
        arrays, options, plain, compiled = ctx
        want = spec.backward(reference, dy, plain, **needs)
        got = spec.backward(ops, dy, compiled, **needs)
        sizes = dict.fromkeys(want)
        if spec.multilinear:  # the sums of absolute values: the same equations on |x|, |w|, |dy|
            _, absolute = spec.forward(reference, {name: abs(x) for name, x in arrays.items()}, options)
            sizes = spec.backward(reference, abs(dy), absolute, **needs)
        case = Case({name: x.shape for name, x in arrays.items()}, options)
        for name, g in want.items():
            if g is not None:
                error = abs(got[name] - g)
                bound = 2 * tolerance(spec, case, g.dtype, g, sizes[name], algo=algo_of(compiled))
                assert (error <= bound).all(), f"{spec.name}: d{name} is off by {error.max():.1e}"
                self.rows.append((f"{spec.name} d{name}", g.shape, error.max() / abs(g).max()))
        gradients = tuple(want.values())
        return gradients if len(gradients) > 1 else gradients[0]


def check_gradients(net, x, target):
    """Print the largest relative difference of every gradient of every layer; raise if one exceeds its bound."""
    columns = []
    for dtype in (np.float32, np.float64):
        wide = copy.copy(net)
        wide.params = {name: p.astype(dtype) for name, p in net.params.items()}
        compared = Compared()
        loss_and_gradients(compared, wide, x.astype(dtype), target)
        columns.append(compared.rows)
    print("Gradients, compiled and reference, layer by layer on the same numbers: largest relative difference")
    print(f"  {'from the loss back':20} {'shape':18} {'float32':>9} {'float64':>9}")
    for (name, shape, single), (_, _, double) in zip(*columns, strict=True):
        print(f"  {name:20} {shape!s:18} {single:9.1e} {double:9.1e}")

    # All layers in a row: float64, because in float32 a value that rounds to either side of 0 changes a ReLU.
    wide_x = x.astype(np.float64)
    got, want = (loss_and_gradients(module, wide, wide_x, target)[1] for module in (ops, reference))
    worst = max(abs(got[name] - want[name]).max() / abs(want[name]).max() for name in want)
    assert worst < np.finfo(np.float64).eps ** 0.5, f"the whole backward pass differs by {worst:.1e}"
    print(f"  the whole pass at once, float64: {worst:.1e}\n")


# ---- data, training, timing ----


def load():
    """Images (N, 1, 8, 8) in [0, 1] and classes: train and test."""
    images, classes = load_digits(return_X_y=True)
    images = (images / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    return train_test_split(images, classes, test_size=0.2, stratify=classes, random_state=0)


def batches(x, target, rng):
    """All images once, in random order, each batch shifted by up to a pixel in either direction."""
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    order = rng.permutation(len(x))
    for start in range(0, len(x), BATCH):
        chosen = order[start : start + BATCH]
        top, left = rng.integers(0, 3, 2)
        yield np.ascontiguousarray(padded[chosen, :, top : top + 8, left : left + 8]), target[chosen]


def train_epoch(ops, net, optimiser, data, rates):
    """One pass over the batches in `data`; yields the loss of each."""
    for (x, target), rate in zip(data, rates, strict=True):
        loss, grads = loss_and_gradients(ops, net, x, target)
        optimiser.step(grads, rate)
        yield loss


def train(net, x, target, x_test, target_test, epochs, rng):
    """Train with the compiled operators, the learning rate falling linearly to zero; returns the test accuracy."""
    steps = -(-len(x) // BATCH)
    rates = np.linspace(LEARNING_RATE, 0, epochs * steps, endpoint=False).reshape(epochs, steps)
    optimiser = Adam(net.params)
    live = sys.stdout.isatty()
    accuracy = 0.0
    print(f"Training on {len(x)} digits, testing on {len(x_test)}")
    for epoch in range(epochs):
        start, losses = perf_counter(), []
        for loss in train_epoch(ops, net, optimiser, batches(x, target, rng), rates[epoch].tolist()):
            losses.append(loss)
            if live:
                bar = "█" * (24 * len(losses) // steps)
                print(f"\r  epoch {epoch + 1:2}/{epochs} {bar:·<24} loss {np.mean(losses):.4f}", end="", flush=True)
        seconds = perf_counter() - start
        accuracy = float((predict(ops, net, x_test) == target_test).mean())
        print("\r\033[K" if live else "", end="")
        print(f"  epoch {epoch + 1:2}/{epochs}  loss {np.mean(losses):.4f}  held-out accuracy {accuracy:.2%}  "
              f"{seconds:.2f} s")  # fmt: skip
    return accuracy


def compare_speed(net, x, target, rounds):
    """Print the time of an epoch, compiled and reference: the same batches, in turn, from the same start."""
    data = list(batches(x, target, np.random.default_rng(0)))
    seconds = {ops: [], reference: []}
    threads = fastnn.get_num_threads()
    with threadpool_limits(threads, "blas"):  # as many for NumPy's matrix products
        for module, times in [*seconds.items()] * rounds:
            student = copy.deepcopy(net)
            optimiser = Adam(student.params)
            start = perf_counter()
            for _ in train_epoch(module, student, optimiser, data, [1e-4] * len(data)):
                pass
            times.append(perf_counter() - start)
    compiled, plain = (median(times) for times in seconds.values())
    print(f"\nTime per epoch, threads: {threads}, median of {rounds}: compiled {compiled:.3f} s, "
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
    x, x_test, target, target_test = load()
    rng = np.random.default_rng(args.seed)
    net = LeNet(rng)
    print(f"fastnn {fastnn.__version__}, {sum(p.size for p in net.params.values()):,} parameters\n")
    check_gradients(net, x[:64], target[:64])
    train(net, x, target, x_test, target_test, epochs, rng)
    compare_speed(net, x, target, 1 if args.quick else 3)
    draw(args.out, x_test, target_test, predict(ops, net, x_test))
    print(f"Predictions and mistakes: {args.out}")


if __name__ == "__main__":
    main()
