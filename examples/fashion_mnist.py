"""A convolutional network trained on the 60,000 photographs of Fashion-MNIST, with fastnn's layers from end to end.

    python examples/fashion_mnist.py [--epochs 6] [--seed 0] [--out fashion_mnist.png] [--threads N] [--quick] [--torch]

The images are the files of the Debian package dataset-fashion-mnist; --folder or FASTNN_FASHION_MNIST name another
folder (Xiao et al. 2017, "Fashion-MNIST: a novel image dataset for benchmarking machine learning algorithms"). The
figure shows the learning curve and the mistakes of which the network was surest.

--torch also times an epoch of the same network in PyTorch.
"""

import argparse
from statistics import median
from time import perf_counter

import numpy as np

import fastnn
import fastnn.nn as nn
from fastnn import Tensor, optim, train
from fastnn import functional as F
from fastnn.data import FASHION_MNIST_CLASSES, Compose, DataLoader, RandomHorizontalFlip, ToFloat, fashion_mnist

BATCH = 128
LEARNING_RATE = 4e-3
BLOCK = 20
"""Batches that are timed at a stretch in one library before it is the other's turn."""


def network(nn, height, width):
    """Two convolutions with batch norm and pooling, two fully connected layers: (N, 1, H, W) -> (N, 10) logits.

    nn: fastnn.nn, or torch.nn, in which the same lines build the same network.
    """
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1, bias=False),  # batch norm has a bias of its own
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * (height // 4) * (width // 4), 128),
        nn.ReLU(),
        nn.Linear(128, 10),
    )


def loader(x, y, seed):
    """Batches for training: in random order, every other image mirrored."""
    augment = Compose([RandomHorizontalFlip(), ToFloat(1 / 255)])
    return DataLoader((x, y), BATCH, shuffle=True, seed=seed, transform=augment, drop_last=len(x) >= BATCH)


# ---- the same epoch in PyTorch ----


def compare_with_torch(x, y, seed, threads, batches):
    """Print the time of an epoch in both libraries: the same initial weights, batches and optimiser.

    They take turns every BLOCK batches, so that a drift of the machine's speed is shared, over as many batches as said.
    The time of a step is everything from the batch to the updated weights; making the batches is not counted.
    """
    import torch

    torch.set_num_threads(threads)
    ours = network(nn, *x.shape[2:])
    theirs = network(torch.nn, *x.shape[2:])
    theirs.load_state_dict({name: torch.from_numpy(np.copy(value)) for name, value in ours.state_dict().items()})
    our_optimizer = optim.Adam(ours.parameters(), LEARNING_RATE)
    their_optimizer = torch.optim.Adam(theirs.parameters(), LEARNING_RATE)

    def our_step(images, classes):
        loss = F.cross_entropy(ours(Tensor(images)), classes)
        our_optimizer.zero_grad()
        loss.backward()
        our_optimizer.step()
        return loss.item()

    def their_step(images, classes):
        loss = torch.nn.functional.cross_entropy(theirs(torch.from_numpy(images)), torch.from_numpy(classes))
        their_optimizer.zero_grad()
        loss.backward()
        their_optimizer.step()
        return loss.item()

    losses = {our_step: [], their_step: []}
    seconds = {our_step: [], their_step: []}
    block = []
    data = loader(x, y, seed)
    for count, batch in zip(range(min(batches, len(data))), data, strict=False):
        block.append(batch)
        if len(block) < BLOCK and count + 1 < min(batches, len(data)):
            continue
        for step in (our_step, their_step):
            start = perf_counter()
            losses[step] += [step(*batch) for batch in block]
            seconds[step].append((perf_counter() - start) / len(block))
        block = []
    first, other = (values[0] for values in losses.values())
    assert abs(first - other) <= 1e-4 * other, f"the first losses are {first} and {other}"
    # The first block has what happens only once: threads begin, memory is fetched.
    ours, theirs = (median(values[1:] or values) * len(data) for values in seconds.values())
    print(
        f"\nTime per epoch, threads: {threads}, {len(data)} batches of {BATCH}, median of {len(seconds[our_step])} "
        f"blocks: fastnn {ours:.2f} s, PyTorch {torch.__version__} {theirs:.2f} s, ratio {theirs / ours:.2f}"
    )
    print("Mean loss of these batches: fastnn {:.4f}, PyTorch {:.4f}".format(*map(np.mean, losses.values())))


# ---- figure ----


def draw(path, history, x, y, logits):
    """The learning curve, and the mistakes of which the network was surest."""
    from matplotlib.figure import Figure

    predicted, probability = logits.argmax(axis=1), F.softmax(logits, 1).max(axis=1)
    wrong = np.flatnonzero(predicted != y)
    wrong = wrong[np.argsort(-probability[wrong], kind="stable")]
    figure = Figure(figsize=(13, 8), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=(2, 3))
    for axes, name in zip(top.subplots(1, 2), ("loss", "accuracy"), strict=True):
        axes.plot(history["epoch"], history[name], marker=".", label="training, on the way")
        axes.plot(history["epoch"], history[f"val_{name}"], marker=".", label="test")
        axes.set(title=name, xlabel="epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend()
    bottom.suptitle(f"{len(wrong)} mistakes in {len(y)}; the surest ones")
    cells = bottom.subplots(3, 10).flat
    for axes in cells:
        axes.axis("off")
    for axes, i in zip(bottom.axes, wrong, strict=False):
        axes.imshow(x[i, 0], cmap="gray_r")
        seen, true = FASHION_MNIST_CLASSES[predicted[i]], FASHION_MNIST_CLASSES[y[i]]
        axes.set_title(f"{seen} {probability[i]:.0%},\nis {true}", fontsize=8)
    figure.savefig(path, dpi=100)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, help="passes over the training images (default: 6, quick: 2)")
    parser.add_argument("--seed", type=int, default=0, help="of initial weights, order and augmentation")
    parser.add_argument(
        "--out", default="fashion_mnist.png", metavar="FILE", help="figure of learning curve and mistakes"
    )
    parser.add_argument("--threads", type=int, help="default: all processors")
    parser.add_argument("--folder", help="where the four files are")
    parser.add_argument("--quick", action="store_true", help="a tenth of the images, two epochs")
    parser.add_argument("--torch", action="store_true", help="time PyTorch, too")
    args = parser.parse_args(argv)
    epochs = args.epochs if args.epochs is not None else 2 if args.quick else 6
    if epochs < 1:
        parser.error(f"--epochs must be at least 1, got {epochs}")
    if args.threads is not None:
        fastnn.set_num_threads(args.threads)
    try:
        x, y, x_test, y_test = fashion_mnist(args.folder)
    except FileNotFoundError as error:
        parser.exit(1, f"{error}\n")
    if args.quick:
        x, y, x_test, y_test = x[::10], y[::10], x_test[::10], y_test[::10]

    fastnn.manual_seed(args.seed)
    model = network(nn, *x.shape[2:])
    threads = fastnn.get_num_threads()
    print(f"fastnn {fastnn.__version__}, threads: {threads}, {sum(p.size for p in model.parameters()):,} parameters")
    print(f"Training on {len(x)} images, testing on {len(x_test)}")
    batches = loader(x, y, args.seed)
    test = DataLoader((x_test, y_test), 500, transform=ToFloat(1 / 255))
    optimizer = optim.Adam(model.parameters(), LEARNING_RATE)
    schedule = optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=epochs * len(batches))
    start = perf_counter()
    history = train.fit(
        model,
        batches,
        optimizer=optimizer,
        epochs=epochs,
        scheduler=schedule,
        schedule_every="batch",
        validation_data=test,
        metrics="accuracy",
    )
    print(f"Test accuracy {history['val_accuracy'][-1]:.2%} after {perf_counter() - start:.1f} s")
    draw(args.out, history, x_test, y_test, train.predict(model, test))
    print(f"Learning curve and mistakes: {args.out}")
    if args.torch:
        compare_with_torch(x, y, args.seed, threads, 2 * BLOCK if args.quick else 10 * BLOCK)


if __name__ == "__main__":
    main()
