"""Weights in files of the safetensors format (fastnn.header): names and arrays, and never code."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from json import dumps
from math import prod
from mmap import ACCESS_READ
from mmap import mmap as map_file
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from fastnn.files import open_regular, write_atomically
from fastnn.header import DTYPES, MAX_HEADER, METADATA, Header, Tensor, quoted, read_header

__all__ = ["Mismatch", "load", "load_metadata", "match", "save"]

Path = str | bytes | os.PathLike[str] | os.PathLike[bytes]

WRITTEN = {numpy_name[1:]: name for name, numpy_name in DTYPES.items() if name != "BF16"}
"""The format's name of each dtype that save takes, by kind and size."""

CHUNK = 1 << 18
"""Elements of BF16 that are read at a time."""


@contextmanager
def opened(path: Path) -> Iterator[tuple[BinaryIO, Header]]:
    """An open file and its header. A ValueError of what it holds says which file it is."""
    try:
        with open_regular(os.fspath(path)) as file:
            yield file, read_header(file)
    except ValueError as error:
        raise ValueError(f"load: {os.fsdecode(path)}: {error}") from None


def widen(bits: np.ndarray, out: np.ndarray) -> None:
    """BF16 is the upper half of a float32."""
    np.left_shift(bits, 16, out=out, dtype=np.uint32)


def check_booleans(tensor: Tensor, values: np.ndarray) -> None:
    """NumPy computes nonsense on booleans of other bits."""
    if values.view(np.uint8).max(initial=0) > 1:
        raise ValueError(f"tensor {quoted(tensor.name)}: got a byte above 1, expected 0 or 1 for BOOL")


def read_bytes(file: BinaryIO, out: np.ndarray) -> None:
    """Fill a contiguous array from the file."""
    if file.readinto(out.reshape(-1).view(np.uint8)) != out.nbytes:  # type: ignore[attr-defined]
        raise ValueError("the file became shorter while it was read")


def read_tensor(file: BinaryIO, tensor: Tensor) -> np.ndarray:
    """The tensor whose data come next in the file, in memory of its own."""
    dtype = np.dtype(DTYPES[tensor.dtype])
    if tensor.dtype == "BF16":
        wide = np.empty(tensor.shape, np.uint32)
        flat = wide.reshape(-1)
        bits = np.empty(min(flat.size, CHUNK), dtype)
        for i in range(0, flat.size, CHUNK):
            part = flat[i : i + CHUNK]
            read_bytes(file, bits[: part.size])
            widen(bits[: part.size], part)
        return wide.view(np.float32)
    values = np.empty(tensor.shape, dtype)
    read_bytes(file, values)
    if tensor.dtype == "BOOL":
        check_booleans(tensor, values)
    return values.astype(dtype.newbyteorder("="), copy=False)


def read_tensors(file: BinaryIO, header: Header) -> dict[str, np.ndarray]:
    """All of them, behind the header, which has just been read."""
    return {tensor.name: read_tensor(file, tensor) for tensor in header.tensors()}


def mapped_tensor(file: BinaryIO, mapping: map_file, start: int, tensor: Tensor) -> np.ndarray:
    """The tensor as a read-only view of the mapped file whose data begin at `start`, or a copy where it must be one.

    Nothing here looks at the mapping: if somebody cut the file meanwhile, that would be the end of the process.
    """
    dtype = np.dtype(DTYPES[tensor.dtype])
    at = start + tensor.begin
    if tensor.dtype in ("BF16", "BOOL") or at % dtype.alignment or not dtype.isnative:
        file.seek(at)
        values = read_tensor(file, tensor)
    else:
        values = np.frombuffer(mapping, dtype, prod(tensor.shape), at).reshape(tensor.shape)
    values.flags.writeable = False
    return values


def load(path: Path, *, mmap: bool = False) -> dict[str, np.ndarray]:
    """The tensors of a safetensors file by name, in the order of their data.

    dtypes: BOOL, U8 to U64, I8 to I64, F16, F32, F64 and C64 become NumPy's; BF16 becomes float32, exactly. NumPy has
    no floats of 8 bits and fewer (F8_E4M3, F8_E5M2, …): ValueError.

    mmap: False reads every tensor into an array of its own. True returns read-only views of the mapped file, which is
    read when they are used and must not be written to or cut meanwhile (`save` to its path does neither): an element
    that is no longer there ends the process. Tensors that lie in the file unaligned, BF16 and BOOL are copies.

    A file that is malformed in any way raises ValueError with its path, the tensor and what was expected; so does
    what the safetensors package lets pass: duplicate keys, unknown keys of a tensor, booleans other than 0 and 1, a
    header that begins with a space. Beside the result, memory for twice the header is all that is taken, whatever a
    file claims to hold. ValueError for pipes and devices. Errors of the operating system are passed on.
    """
    with opened(path) as (file, header):
        if not mmap:
            return read_tensors(file, header)
        mapping = map_file(file.fileno(), header.size, access=ACCESS_READ)
        return {x.name: mapped_tensor(file, mapping, header.start, x) for x in header.tensors()}


def load_metadata(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file; empty if it has none. Reads and checks the header only. Errors: as `load`."""
    with opened(path) as (_, header):
        return header.metadata()


def check_text(text: object, what: str) -> None:
    if not isinstance(text, str):
        raise TypeError(f"save: {what} must be a string, got {text!r}")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"save: {what} is {text!r}, expected Unicode, got half a surrogate pair") from None


def dtype_of(name: str, values: object) -> str:
    """The format's name of an array's dtype."""
    check_text(name, "a tensor's name")
    if name == METADATA:
        raise ValueError(f"save: a tensor is named {METADATA!r}, expected another name, as the format reserves it")
    # np.ma is imported when it is first named, and subclasses are rare.
    if not isinstance(values, np.ndarray) or (type(values) is not np.ndarray and isinstance(values, np.ma.MaskedArray)):
        raise TypeError(f"save: tensor {name!r} must be a NumPy array, got {type(values).__name__}")
    dtype = WRITTEN.get(f"{values.dtype.kind}{values.dtype.itemsize}")
    if dtype is None:
        names = ", ".join(np.dtype(code).name for code in WRITTEN)
        raise TypeError(f"save: tensor {name!r} has dtype {values.dtype}, expected one of {names}")
    return dtype


def save(path: Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None) -> None:
    """Write arrays to a safetensors file, in the place of what is there.

    tensors: arrays by name, of any shape, layout and byte order, of bool, integers, float16, float32, float64 or
    complex64. metadata: texts by name.

    Equal arguments give equal bytes, in any order: tensors are sorted by dtype, wide ones first, and by name, metadata
    by name. The safetensors package writes the same bytes, but for its random order of several metadata.

    The file is written beside its place, brought to the disk and renamed, and the renaming brought to the disk.
    Whatever happens, `path` is the old file or the new one, and after an error the old. A process that is killed leaves
    a `.fastnn-*.tmp`, which the next save to `path` removes.

    TypeError: a name or metadata is no string, a tensor no array or of another dtype. ValueError: a tensor is named
    "__metadata__", a text is no Unicode, the header is longer than 100 MB, or `path` is a folder or device. Errors of
    the operating system are passed on.
    """
    path = os.fsdecode(path)
    metadata = {} if metadata is None else metadata
    for argument, value in (("tensors", tensors), ("metadata", metadata)):
        if not isinstance(value, Mapping):
            raise TypeError(f"save: {argument} must be a dict, got {type(value).__name__}")
    header: dict[str, Any] = {}
    for key, text in metadata.items():
        check_text(key, "a key of metadata")
        check_text(text, f"metadata[{key!r}]")
    if metadata:
        header[METADATA] = dict(sorted(metadata.items()))
    order = list(DTYPES)
    ordered = sorted((order.index(dtype_of(name, values)), name) for name, values in tensors.items())
    at = 0
    for dtype, name in ordered:
        values = tensors[name]
        header[name] = {
            "dtype": order[dtype],
            "shape": list(values.shape),
            "data_offsets": [at, at + values.nbytes],
        }
        at += values.nbytes
    encoded = dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    if len(encoded) > MAX_HEADER:
        raise ValueError(f"save: the header would have {len(encoded)} bytes, expected at most {MAX_HEADER}")

    def parts() -> Iterator[Any]:
        yield len(encoded).to_bytes(8, "little")
        yield encoded
        for dtype, name in ordered:
            values = tensors[name].astype(DTYPES[order[dtype]], order="C", subok=False, copy=False).reshape(-1)
            # A boolean that was made by a view may have other bits than 0 and 1.
            yield (values.view(np.uint8) != 0 if order[dtype] == "BOOL" else values).view(np.uint8)

    write_atomically(path, parts())


class Mismatch(NamedTuple):
    """Names that are in one of two sets of arrays only."""

    missing: list[str]
    unexpected: list[str]


def match(expected: Mapping[str, tuple[int, ...]], given: Mapping[str, np.ndarray], *, strict: bool = True) -> Mismatch:
    """Compare loaded arrays with the names and shapes that a model expects.

    One ValueError names everything that is missing, unexpected or of another shape. With strict=False only shapes
    matter, and the names that are missing or unexpected are returned.
    """
    missing = [name for name in expected if name not in given]
    unexpected = [name for name in given if name not in expected]
    faults = [
        f"{name!r} has shape {given[name].shape}, expected {tuple(shape)}"
        for name, shape in expected.items()
        if name in given and given[name].shape != tuple(shape)
    ]
    if strict:
        faults += [f"missing: {', '.join(map(repr, missing))}"] if missing else []
        faults += [f"unexpected: {', '.join(map(repr, unexpected))}"] if unexpected else []
    if faults:
        raise ValueError("match: the tensors do not fit:\n  " + "\n  ".join(faults))
    return Mismatch(missing, unexpected)
