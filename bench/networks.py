"""Whole networks, fastnn's time against PyTorch's:

    python bench/networks.py [--net resnet18] [--threads 1,2] [--rounds 7]

float32, 3x224x224. Rows "inference": without gradients, running statistics, the best of PyTorch's default and
channels_last layout, its batch norms folded into convolutions; fastnn's are folded where it has nn.fuse. Rows
"training": forward, cross-entropy, backward, and a step of SGD with momentum,
the better layout again. All take turns.
"""

import argparse
from copy import deepcopy
from functools import partial

import numpy as np
import torch
from nets import resnet18, vgg
from torch.nn.utils.fusion import fuse_conv_bn_eval

import fastnn
from fastnn import nn, optim
from fastnn.cli.contest import threads_of_all
from fastnn.cli.peers import PEERS
from fastnn.measure import Effort, Entry, interleave

NETS = {"resnet18": (resnet18, 8), "vgg16": (vgg, 4)}
"""A function of nn, and the batch size."""
SGD = {"lr": 1e-4, "momentum": 0.9}


def folded(model):
    """PyTorch's batch norms folded into the convolutions before them, in place; returns the model."""
    for parent in list(model.modules()):
        before = None
        for name, child in list(parent.named_children()):
            if isinstance(child, torch.nn.BatchNorm2d):
                before, conv = None, before
                setattr(parent, conv, fuse_conv_bn_eval(getattr(parent, conv), child))
                setattr(parent, name, torch.nn.Identity())
            elif isinstance(child, torch.nn.Conv2d):
                before = name
    return model


def pair(make):
    """The network of fastnn and that of PyTorch, with the same weights."""
    theirs = make(torch.nn)
    ours = make(nn)
    ours.load_state_dict({name: x.numpy() for name, x in theirs.state_dict().items()})
    return ours, theirs


LAYOUTS = {"torch": torch.contiguous_format, "torch channels_last": torch.channels_last}


def inference(make, x):
    """{name: entry}"""
    ours, theirs = pair(make)
    ours, theirs = ours.eval(), folded(theirs.eval())
    if hasattr(nn, "fuse"):
        ours = nn.fuse(ours)
    entries = {"fastnn": Entry(lambda: ours(x))}
    for name, layout in LAYOUTS.items():
        model = deepcopy(theirs).to(memory_format=layout)
        t = torch.from_numpy(x).to(memory_format=layout)
        entries[name] = Entry(partial(model, t), torch.inference_mode)
    return entries


def training(make, x):
    """{name: entry}"""
    labels = np.arange(len(x))
    ours, theirs = pair(make)

    def entry(model, library, optimizer, x, labels):
        loss = library.CrossEntropyLoss()

        def step():
            optimizer.zero_grad()
            loss(model(x), labels).backward()
            optimizer.step()

        return Entry(step)

    entries = {"fastnn": entry(ours, nn, optim.SGD(ours.parameters(), **SGD), fastnn.Tensor(x), labels)}
    for name, layout in LAYOUTS.items():
        model = deepcopy(theirs).to(memory_format=layout)
        t = torch.from_numpy(x).to(memory_format=layout)
        optimizer = torch.optim.SGD(model.parameters(), **SGD)
        entries[name] = entry(model, torch.nn, optimizer, t, torch.from_numpy(labels))
    return entries


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--net", choices=NETS, nargs="+", default=list(NETS))
    parser.add_argument("--pass", choices=["inference", "training"], nargs="+", default=["inference", "training"],
                        dest="passes")  # fmt: skip
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    effort = Effort(rounds=args.rounds, budget=60.0)
    print(f"{'net':10} {'pass':10} thr {'fastnn':>9} {'torch':>9} {'ratio':>6}")
    for name in args.net:
        make, batch = NETS[name]
        x = np.random.default_rng(0).standard_normal((batch, 3, 224, 224), np.float32)
        for what in args.passes:
            entries = {"inference": inference, "training": training}[what](make, x)
            for n in map(int, args.threads.split(",")):
                with threads_of_all(n, {"torch": PEERS["torch"]()}):
                    times = interleave(entries, effort, settle=0.2 if n > 1 else 0.0)
                best = min(t for peer, t in times.items() if peer != "fastnn")
                ours = times["fastnn"]
                print(f"{name:10} {what:10} {n:3} {ours * 1e3:6.1f} ms {best * 1e3:6.1f} ms {best / ours:6.2f}")


if __name__ == "__main__":
    main()
