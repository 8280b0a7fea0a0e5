"""What becomes of ONNX's own tests of backends, and which operators there are:

    python tests/onnx_report.py

prints it, and writes tests/onnx_cases/*.txt and docs/onnx_operators.md anew.
"""

import sys
from collections import Counter
from pathlib import Path

import onnx.defs

from fastnn.onnx.graph import PLAIN_OPSET
from fastnn.onnx.operators import TABLE

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))

from onnx_backend import CASES, NOT_SUPPORTED, PASSING, cases, heading, listed, node_tests, not_supported

PAGE = Path(__file__).parents[1] / "docs" / "onnx_operators.md"
DOMAINS = ("", "ai.onnx.preview.training")
"""Domains in the table; what else the package onnx describes are strings, trees and experiments."""
HEAD = """# Operators of fastnn.onnx

Made by `python tests/onnx_report.py`. *Versions*: those of the operator that run, by the opset that began them; nodes
of opsets before 7 are read as their counterparts of opset 7. *Tests*: how many of the backend node tests of onnx
{version} pass, and how many end with `UnsupportedOperator`, which names node and operator; none ends in another way.
Operators that ONNX defines by others are tested as those too.

Neural-network operators run on fastnn's kernels, those on shapes and integers on NumPy. Kernels compute in float32 and
float64; float16 and bfloat16 are computed in float32 and rounded. RNN, GRU and LSTM with other functions than the
usual ones, clipping, peepholes or coupled gates run step by step in NumPy, as do soft caps in Attention.

Forms that are not supported: Dropout in training mode, batch normalisation in training mode before opset 14, results of
floats or integers of less than 8 bits and of 8-bit floats (Cast, QuantizeLinear; such arrays are read), Indices of
MaxPool and Col2Im in three dimensions, strings but for Identity, Concat, Equal and the like, sparse tensors.

"""


def operator_of(test):
    """(domain, name) of the operator that a node test is about, or None; expanded ones are about several."""
    nodes = {(node.domain, node.op_type) for node in test.model.graph.node}
    if "_expanded" not in test.name and len(nodes) == 1:
        return nodes.pop()
    return None


def counts(passing, refused):
    """(passing, not supported) tests by operator."""
    found = {name: operator_of(test) for name, test in node_tests().items()}
    return tuple(Counter(found.get(name) for name in names) for names in (passing, refused))


def versions(domain, name):
    """The versions of an operator from opset 7 on, or the last before, as (runs, since)."""
    since = sorted(
        {s.since_version for s in onnx.defs.get_all_schemas_with_history() if (s.domain, s.name) == (domain, name)}
    )
    first = max((v for v in since if v <= PLAIN_OPSET), default=since[0]) if not domain else since[0]
    oldest = min((begin for begin, _ in TABLE.get((domain, name), ())), default=None)
    return [(oldest is not None and v >= oldest, v) for v in since if v >= first]


def page(passing, refused):
    """The table as Markdown."""
    passed, failed = counts(passing, refused)
    lines = [HEAD.format(version=heading().split()[-1])]
    names = sorted({(s.domain, s.name) for s in onnx.defs.get_all_schemas() if s.domain in DOMAINS})
    runs, missing = [], []
    for key in names:
        supported = [str(v) for yes, v in versions(*key) if yes]
        (runs if supported else missing).append((key, supported))
    lines.append("| operator | versions | tests pass | not supported |\n|---|---|---:|---:|\n")
    for (domain, name), supported in runs:
        label = f"{domain}.{name}" if domain else name
        lines.append(f"| {label} | {', '.join(supported)} | {passed[domain, name]} | {failed[domain, name]} |\n")
    total = sum(passed[key] for key, _ in runs), sum(failed[key] for key, _ in runs)
    lines.append(f"| **{len(runs)} operators** | | {total[0]} | {total[1]} |\n\n")
    labels = [f"{domain}.{name}" if domain else name for (domain, name), _ in missing]
    lines.append(f"Not there ({len(missing)}): {', '.join(labels)}.\n")
    return "".join(lines)


def main():
    lists = {PASSING: [], NOT_SUPPORTED: []}
    wrong = []
    for name in sorted(cases()):
        try:
            lists[NOT_SUPPORTED if not_supported(name) else PASSING].append(name)
        except Exception as error:  # noqa: PERF203
            wrong.append(name)
            print(f"FAILS {name}: {type(error).__name__}: {error}")
    for which, names in lists.items():
        (CASES / f"{which}.txt").write_text(heading() + "".join(f"{name}\n" for name in names))
    passed, failed = counts(lists[PASSING], lists[NOT_SUPPORTED])
    for key, count in sorted(failed.items(), key=lambda item: -item[1]):
        print(f"{count:5} not supported, {passed[key]:4} pass: {'.'.join(filter(None, key)) if key else 'others'}")
    PAGE.write_text(page(listed(PASSING), listed(NOT_SUPPORTED)))
    print(f"{len(lists[PASSING])} pass, {len(lists[NOT_SUPPORTED])} are not supported, {len(wrong)} fail")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
