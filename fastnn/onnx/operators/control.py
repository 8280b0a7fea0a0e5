"""Operators with graphs in them, and sequences of tensors."""

import numpy as np

from fastnn.onnx.operators import operator
from fastnn.onnx.operators.common import axis_in, unsupported


@operator("If")
def if_(node, condition, *, run):
    return tuple(run(node.attributes["then_branch" if condition.item() else "else_branch"]))


@operator("Loop")
def loop(node, trips, condition, *carried, run):
    """The carried values, then what every iteration gave of each scanned one, stacked."""
    body = node.attributes["body"]
    scanned = [[] for _ in body.outputs[1 + len(carried) :]]
    going = condition is None or condition.item()
    i = 0
    while going and (trips is None or i < trips.item()):
        going, *results = run(body, np.array(i, np.int64), np.array(going), *carried)
        going, carried, i = going.item(), results[: len(carried)], i + 1
        for values, value in zip(scanned, results[len(carried) :], strict=True):
            values.append(value)
    return *carried, *stacked(node, scanned, body.outputs[1 + len(carried) :], [0] * len(scanned))


def stacked(node, scanned, values, axes):
    """The values of all iterations, along a new axis; of none, an empty array of the shape that the graph says."""
    results = []
    for parts, value, axis in zip(scanned, values, axes, strict=True):
        if parts:
            results.append(np.stack(parts, axis_in(node, axis, parts[0].ndim + 1)))
        else:
            shape = [n if isinstance(n, int) else 0 for n in value.shape or ()]
            results.append(np.zeros((0, *shape), value.dtype or np.float32))
    return results


@operator("Scan", since=9)
def scan(node, *arrays, run):
    a, body = node.attributes, node.attributes["body"]
    count = a["num_scan_inputs"]
    states, inputs = list(arrays[: len(arrays) - count]), arrays[len(arrays) - count :]
    outputs = body.outputs[len(states) :]
    axes = a.get("scan_input_axes") or [0] * count
    backwards = a.get("scan_input_directions") or [0] * count
    moved = [
        np.moveaxis(x, axis_in(node, axis, x.ndim), 0)[:: -1 if back else 1]
        for x, axis, back in zip(inputs, axes, backwards, strict=True)
    ]
    scanned = [[] for _ in outputs]
    for step in range(len(moved[0])):
        results = run(body, *states, *(np.asarray(x[step]) for x in moved))
        states = results[: len(states)]
        for values, value in zip(scanned, results[len(states) :], strict=True):
            values.append(value)
    for values, back in zip(scanned, a.get("scan_output_directions") or [0] * len(scanned), strict=True):
        if back:
            values.reverse()
    return *states, *stacked(node, scanned, outputs, a.get("scan_output_axes") or [0] * len(scanned))


@operator("Scan", since=8)
def scan_8(node, lengths, *arrays, run):
    """Each sample of a batch by itself."""
    if lengths is not None:
        raise unsupported(node, "sequence_lens")
    if any(node.attributes.get("directions") or ()):
        raise unsupported(node, "directions")
    samples = zip(*(map(np.asarray, x) for x in arrays), strict=True)
    return tuple(np.stack(results) for results in zip(*(scan(node, *s, run=run) for s in samples), strict=True))


# ---- sequences: lists of arrays ----


@operator("SequenceEmpty", since=11)
def sequence_empty(node):
    return []


@operator("SequenceConstruct", since=11)
def sequence_construct(node, *arrays):
    return list(arrays)


def place(node, sequence, index, end):
    """An index counted from the first, at most `end`."""
    found = index.item()
    if not -len(sequence) <= found < end:
        raise ValueError(f"position {found} in a sequence of {len(sequence)}")
    return found + len(sequence) if found < 0 else found


@operator("SequenceAt", since=11)
def sequence_at(node, sequence, index):
    return sequence[place(node, sequence, index, len(sequence))]


@operator("SequenceInsert", since=11)
def sequence_insert(node, sequence, x, index=None):
    at = len(sequence) if index is None else place(node, sequence, index, len(sequence) + 1)
    return [*sequence[:at], x, *sequence[at:]]


@operator("SequenceErase", since=11)
def sequence_erase(node, sequence, index=None):
    at = len(sequence) - 1 if index is None else place(node, sequence, index, len(sequence))
    return [*sequence[:at], *sequence[at + 1 :]]


@operator("SequenceLength", since=11)
def sequence_length(node, sequence):
    return np.array(len(sequence), np.int64)


@operator("ConcatFromSequence", since=11)
def concat_from_sequence(node, sequence):
    axis, new = node.attributes["axis"], node.attributes.get("new_axis", 0)
    return np.stack(sequence, axis) if new else np.concatenate(sequence, axis)


@operator("SplitToSequence", since=11)
def split_to_sequence(node, x, split=None):
    axis = axis_in(node, node.attributes.get("axis", 0), x.ndim)
    n = x.shape[axis]
    if split is None or split.ndim == 0:
        each = 1 if split is None else split.item()
        edges = range(each, n, each)
    else:
        edges = np.cumsum(split)[:-1]
    parts = np.split(x, edges, axis)
    if split is None and not node.attributes.get("keepdims", 1):
        parts = [p.squeeze(axis) for p in parts]
    return parts


@operator("SequenceMap", since=17)
def sequence_map(node, sequence, *more, run):
    results = [
        run(node.attributes["body"], x, *(m[i] if isinstance(m, list) else m for m in more))
        for i, x in enumerate(sequence)
    ]
    return tuple(map(list, zip(*results, strict=True)))


# ---- optional values: themselves, or None ----


@operator("Optional", since=15)
def optional(node, x=None):
    return x


@operator("OptionalHasElement", since=15)
def optional_has_element(node, x=None):
    return np.array(x is not None)


@operator("OptionalGetElement", since=15)
def optional_get_element(node, x):
    if x is None:
        raise ValueError("the input is empty, expected an optional value that is there")
    return x
