"""Time ONNX graphs in fastnn.onnx and ONNX Runtime, in one process, in turn.

    python bench/compare_onnx.py [network …] [--threads 1 2] [--batches 1 4] [--rounds 7]

The networks are built here, with drawn weights of He et al.'s variance. Both libraries load the same bytes with all of
their optimisation, and nothing is timed before their results agree.
"""

import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import networks
import numpy as np
import onnx_networks
import onnxruntime
from side_by_side import parser_of

import fastnn
import fastnn.onnx
from fastnn.measure import Effort, Entry, interleave

TOLERANCE = 1e-4
"""Of the norm of the logits' difference, relative to the norm of ONNX Runtime's: Winograd's rounding over 53 layers."""
IMAGES = 3, 224, 224
TASKS = {
    "alexnet": (onnx_networks.alexnet, lambda batch: (batch, *IMAGES)),
    "resnet50": (onnx_networks.resnet50, lambda batch: (batch, *IMAGES)),
    "vgg19": (onnx_networks.vgg19, lambda batch: (batch, *IMAGES)),
    "lstm": (onnx_networks.lstm, lambda batch: (64, batch, 128)),
}
"""Function that makes the model, and the input's shape."""


def session(data, threads):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def main():
    parser = parser_of(__doc__, rounds=7)
    parser.add_argument("networks", nargs="*", metavar="network", help=f"of {', '.join(TASKS)} (default: all)")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4])
    args = parser.parse_args()
    if unknown := set(args.networks) - set(TASKS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    effort = Effort(args.rounds, 0.1, 100.0)
    print(f"fastnn {fastnn.__version__}, ONNX Runtime {onnxruntime.__version__}, milliseconds")
    print(f"{'network':<12}{'batch':>6}{'threads':>8}{'fastnn':>10}{'onnxruntime':>13}{'ratio':>8}")
    ratios = []
    for name in args.networks or TASKS:
        make, shape_of = TASKS[name]
        data = make().SerializeToString()
        model = fastnn.onnx.load(data)
        for threads in args.threads:
            peer = session(data, threads)
            for batch in args.batches:
                x = networks.drawn("images", shape_of(batch), np.float32)
                with fastnn.num_threads(threads):
                    want, got = peer.run(None, {"x": x})[0], model(x)
                    error = np.linalg.norm(got - want) / np.linalg.norm(want)
                    if not error <= TOLERANCE:
                        sys.exit(f"{name}: results differ by {error:.1e}, nothing is timed")
                    entries = {
                        "fastnn": Entry(partial(model, x)),
                        "onnxruntime": Entry(partial(peer.run, None, {"x": x})),
                    }
                    ours, theirs = interleave(entries, effort, 0.05).values()
                ratios.append(theirs / ours)
                cells = f"{1e3 * ours:>10.2f}{1e3 * theirs:>13.2f}{ratios[-1]:>8.2f}"
                print(f"{name:<12}{batch:>6}{threads:>8}{cells}", flush=True)
    print(f"geometric mean {np.exp(np.mean(np.log(ratios))):.2f}")


if __name__ == "__main__":
    main()
