"""What comparisons with other libraries in one process share: verify that results agree, then time all in turn."""

import argparse
import sys

import numpy as np
import torch

import fastnn
from fastnn.measure import interleave

SETTLE = 0.05
"""Seconds between the libraries' turns, see fastnn.measure.interleave."""


def parser_of(doc, rounds):
    """An argument parser with the options of all comparisons. doc: of the script; rounds: the default."""
    parser = argparse.ArgumentParser(description=doc.partition("\n")[0])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=rounds, help="timings of each; their median counts")
    return parser


def arrays(results):
    """The NumPy arrays of what a call returned: an array, a tensor of either library, or a tuple or list of such."""
    if isinstance(results, tuple | list):
        return [x for each in results for x in arrays(each)]
    return [results if isinstance(results, np.ndarray) else results.detach().numpy()]


def check(name, entries, tolerances, convert):
    """Exit unless all return what PyTorch returns, at so many calls. tolerances: of a difference's norm, relative to
    the norm of PyTorch's array, at each call. convert: see compare."""
    for tolerance in tolerances:
        results = {}
        for who, entry in entries.items():
            with entry.context():
                results[who] = convert.get(who, arrays)(entry.call())
        wants = results["torch"]
        for who, found in results.items():
            for got, want in zip(found, wants, strict=True):
                if got.shape != want.shape:
                    sys.exit(f"{name}: a result of {who} has shape {got.shape}, PyTorch's {want.shape}")
                error = np.linalg.norm(got - want) / np.linalg.norm(want)
                if not error <= tolerance:
                    sys.exit(f"{name}: the results of {who} differ from PyTorch's by {error:.1e}, nothing is timed")


def compare(name, entries, threads, effort, tolerances=(), convert=None, beside=None):
    """Median seconds of each entry on so many threads, checked before.

    convert: functions by name from what an entry returned to its arrays, where that is not `arrays`.
    beside: entries that are timed in turn with them, but return something else.
    """
    torch.set_num_threads(threads)
    with fastnn.num_threads(threads):
        check(name, entries, tolerances, convert or {})
        return interleave(entries | (beside or {}), effort, SETTLE)
