"""Checkpoints of a run of `fit`: one safetensors file, all of the state between two batches.

Arrays: "model.<name>", "optimizer.<number of the parameter>.<name>", "best.<name>" (the model in its best epoch) and
"rng" (fastnn.get_rng_state). Everything else is JSON in the metadata "state"; the metadata "format" says what it is.
`fastnn.save` puts the file in its place whole or not at all, so that a kill leaves the checkpoint before or this one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from fastnn.serialize import Path, opened, read_tensors, save

__all__ = ["Checkpoint", "load_checkpoint", "save_checkpoint"]

FORMAT = "fastnn checkpoint 1"
RNG = "rng"


class Checkpoint(NamedTuple):
    """What a checkpoint holds.

    model: its state_dict. optimizer: the arrays of fastnn.optim.flatten_state. best: the model's state_dict in the best
    epoch, empty without restore_best. rng: of fastnn.get_rng_state. state: all that is no array, as JSON has it.
    """

    model: dict[str, np.ndarray]
    optimizer: dict[str, np.ndarray]
    best: dict[str, np.ndarray]
    rng: np.ndarray
    state: dict[str, Any]


PARTS = ("model", "optimizer", "best")


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint in the place of what is there, atomically. TypeError if its state is no JSON."""
    arrays: dict[str, np.ndarray] = {RNG: checkpoint.rng}
    for part in PARTS:
        arrays |= {f"{part}.{name}": x for name, x in getattr(checkpoint, part).items()}
    save(path, arrays, {"format": FORMAT, "state": json.dumps(checkpoint.state)})


def integer(text: str) -> int:
    """An integer of JSON, if arithmetic with floats can take it: they end at 1.8e308."""
    if len(text) > 308:
        raise ValueError
    return int(text)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint, for instance to use its model: model.load_state_dict(load_checkpoint(path).model).

    ValueError that names the file if it is none, or damaged. Errors of the operating system are passed on.
    """
    with opened(path) as (file, header):  # once, because it may be replaced at any time
        metadata = header.metadata()
        arrays = read_tensors(file, header) if metadata.get("format") == FORMAT else {}
    where = f"load_checkpoint: {os.fsdecode(path)}"
    if metadata.get("format") != FORMAT:
        came = repr(metadata["format"]) if "format" in metadata else "a file without it, such as one of fastnn.save"
        raise ValueError(f"{where}: format is {came}, expected {FORMAT!r}")
    try:
        state = json.loads(metadata.get("state", ""), parse_int=integer)
    except (ValueError, RecursionError):
        state = None
    if not isinstance(state, Mapping):
        raise ValueError(f"{where}: the state is no object of JSON")
    parts: dict[str, dict[str, np.ndarray]] = {part: {} for part in PARTS}
    rng = arrays.pop(RNG, None)
    if rng is None:
        raise ValueError(f"{where}: got no array {RNG!r}")
    for key, x in arrays.items():
        part, _, name = key.partition(".")
        if part not in parts:
            raise ValueError(f"{where}: got an array {key!r}, expected one of {', '.join(PARTS)}")
        parts[part][name] = x
    return Checkpoint(**parts, rng=rng, state=dict(state))
