"""Weights in files of the safetensors format: names and arrays, and never code.

A file is the length of its header (8 bytes, little-endian), the header (JSON in UTF-8, at most 100 MB), and the bytes
of all tensors, little-endian and C-contiguous, one behind the other without a gap:

    {"__metadata__": {"key": "text", ...},
     "name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, ...}

Offsets count from the end of the header. It begins with "{" and may end with spaces; the metadata may be missing.

Source: the format's description and dtypes, https://github.com/huggingface/safetensors (README, "Format").
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from json import JSONDecodeError, JSONDecoder, dumps
from math import prod
from mmap import ACCESS_READ
from mmap import mmap as map_file
from threading import Thread
from typing import Any, BinaryIO, NamedTuple

import numpy as np

__all__ = ["Mismatch", "load", "load_metadata", "match", "save"]

Path = str | bytes | os.PathLike[str] | os.PathLike[bytes]

DTYPES = {
    "U64": "<u8",
    "I64": "<i8",
    "F64": "<f8",
    "C64": "<c8",
    "F32": "<f4",
    "U32": "<u4",
    "I32": "<i4",
    "BF16": "<u2",
    "F16": "<f2",
    "U16": "<u2",
    "I16": "<i2",
    "I8": "|i1",
    "U8": "|u1",
    "BOOL": "|b1",
}
"""NumPy's name of each dtype, in the order in which save and the safetensors package write them: wide ones first, so
that every tensor is aligned. Of BF16, which NumPy lacks, it is that of its bits."""

WRITTEN = {numpy_name[1:]: name for name, numpy_name in DTYPES.items() if name != "BF16"}
"""The format's name of each dtype that save takes, by kind and size."""

METADATA = "__metadata__"
MAX_HEADER = 100_000_000
MAX_AXES = 64
"""Axes of an array in NumPy 2."""
CHUNK = 1 << 18
"""Elements of BF16 that are read at a time."""
PIECE = 1 << 25
"""Bytes that are written before the disk is told to begin with them."""

SPACE = re.compile(r"[ \t\n\r]*")
INTEGER = re.compile(r"(?:0|[1-9][0-9]{0,18})(?![0-9.eE])")


class Tensor(NamedTuple):
    """What the header says of a tensor."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def quoted(text: str) -> str:
    """A file's text for an error message, however long it is."""
    return repr(text if len(text) <= 60 else text[:60] + "…")


class Cursor:
    """Reads a header from left to right, and of JSON only what may stand there: objects, strings, lists of integers.

    A header that is something else, nested a million deep for instance, fails where it begins to be so. Parsing it as
    any JSON and looking afterwards would take more than twenty times its size in memory.
    """

    decode = JSONDecoder().raw_decode

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def skip_space(self) -> None:
        self.at = SPACE.match(self.text, self.at).end()  # type: ignore[union-attr]  # matches the empty string

    def found(self) -> str:
        """What stands here, for an error message."""
        return quoted(self.text[self.at : self.at + 20]) if self.at < len(self.text) else "the end of the header"

    def accept(self, character: str) -> bool:
        """Step over a character if it stands here."""
        self.skip_space()
        here = self.text.startswith(character, self.at)
        self.at += here
        return here

    def expect(self, character: str, what: str) -> None:
        if not self.accept(character):
            raise ValueError(f"{what}: got {self.found()}, expected {character!r}")

    def string(self, what: str) -> str:
        self.skip_space()
        if not self.text.startswith('"', self.at):
            raise ValueError(f"{what} is {self.found()}, expected a string")
        try:
            value, self.at = self.decode(self.text, self.at)
            value.encode()
        except JSONDecodeError as error:
            raise ValueError(f"{what} is {self.found()}, expected a string of JSON ({error.msg})") from None
        except UnicodeEncodeError:
            raise ValueError(f"{what} is {quoted(value)}, expected Unicode, got half a surrogate pair") from None
        return value

    def integers(self, what: str, most: int) -> list[int]:
        """A list of at most so many integers in [0, 10^19)."""
        values: list[int] = []
        self.expect("[", what)
        if self.accept("]"):
            return values
        while True:
            self.skip_space()
            digits = INTEGER.match(self.text, self.at)
            if digits is None:
                raise ValueError(f"{what}[{len(values)}] is {self.found()}, expected an integer in [0, 2^63)")
            if len(values) == most:
                raise ValueError(f"{what} has more than {most} elements, expected at most {most}")
            values.append(int(digits[0]))
            self.at = digits.end()
            if not self.accept(","):
                self.expect("]", what)
                return values

    def keys(self, what: str) -> Iterator[str]:
        """The keys of an object one after the other; the caller reads the value behind each."""
        seen = set()
        self.expect("{", what)
        if self.accept("}"):
            return
        while True:
            key = self.string(f"{what}: a key")
            if key in seen:
                raise ValueError(f"{what}: got key {quoted(key)} twice, expected it once")
            seen.add(key)
            self.expect(":", f"{what}: behind key {quoted(key)}")
            yield key
            if not self.accept(","):
                self.expect("}", what)
                return

    def metadata(self) -> dict[str, str]:
        return {key: self.string(f"{METADATA}[{quoted(key)}]") for key in self.keys(METADATA)}

    def tensor(self, name: str) -> Tensor:
        """A tensor, consistent in itself."""
        what = f"tensor {quoted(name)}"
        fields: dict[str, Any] = {}
        for key in self.keys(what):
            if key == "dtype":
                fields[key] = self.string(f"{what}: dtype")
            elif key == "shape":
                fields[key] = self.integers(f"{what}: shape", MAX_AXES)
            elif key == "data_offsets":
                fields[key] = self.integers(f"{what}: data_offsets", 2)
            else:
                raise ValueError(f"{what}: got key {quoted(key)}, expected dtype, shape and data_offsets")
        for key in ("dtype", "shape", "data_offsets"):
            if key not in fields:
                raise ValueError(f"{what}: {key} is missing, expected dtype, shape and data_offsets")
        dtype, shape, offsets = fields["dtype"], fields["shape"], fields["data_offsets"]
        if dtype == "F4" or dtype.startswith(("F6_", "F8_")):
            raise ValueError(f"{what}: dtype is {quoted(dtype)}, a float of 8 bits or fewer, which NumPy lacks")
        if dtype not in DTYPES:
            raise ValueError(f"{what}: dtype is {quoted(dtype)}, expected one of {', '.join(DTYPES)}")
        if len(offsets) != 2:
            raise ValueError(f"{what}: data_offsets are {offsets}, expected [begin, end]")
        itemsize = np.dtype(DTYPES[dtype]).itemsize
        # NumPy's own limit. It leaves out axes of length 0, so that an empty array may not have any shape either.
        if prod(n for n in shape if n) * itemsize >= 2**63:
            raise ValueError(f"{what}: shape is {quoted(str(shape))}, expected fewer than 2^63 bytes")
        begin, end = offsets
        if end - begin != prod(shape) * itemsize:
            raise ValueError(
                f"{what}: data_offsets are {offsets}, expected {prod(shape) * itemsize} bytes "
                f"for {dtype} of shape {shape}"
            )
        return Tensor(name, dtype, tuple(shape), begin, end)


def parse(text: str) -> tuple[list[Tensor], dict[str, str]]:
    """Tensors in the order of the header, and metadata."""
    cursor = Cursor(text)
    tensors, metadata = [], {}
    for key in cursor.keys("header"):
        if key == METADATA:
            metadata = cursor.metadata()
        else:
            tensors.append(cursor.tensor(key))
    cursor.skip_space()
    if cursor.at < len(text):
        raise ValueError(f"header: got {cursor.found()} behind it, expected spaces")
    return tensors, metadata


def read_header(file: BinaryIO) -> tuple[list[Tensor], dict[str, str], int]:
    """Tensors in the order of their data, metadata, and where the data begins. They fill the file to its end."""
    size = os.fstat(file.fileno()).st_size
    if size < 8:
        raise ValueError(f"the file has {size} bytes, expected 8 with the header's length")
    length = int.from_bytes(file.read(8), "little")
    if length > MAX_HEADER:
        raise ValueError(f"the header's length is {length}, expected at most {MAX_HEADER}; no safetensors file?")
    if length > size - 8:
        raise ValueError(f"the header's length is {length}, expected at most {size - 8}, as the file has {size} bytes")
    header = file.read(length)
    if not header.startswith(b"{"):
        raise ValueError(f"the header begins with {header[:8]!r}, expected '{{'")
    try:
        text = header.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start} of the header is no UTF-8, expected JSON in UTF-8") from None
    del header
    tensors, metadata = parse(text)
    tensors.sort(key=lambda tensor: (tensor.begin, tensor.end))
    at = 0
    for tensor in tensors:
        if tensor.begin != at:
            fault = "overlap those of another tensor" if tensor.begin < at else "leave a gap"
            raise ValueError(
                f"tensor {quoted(tensor.name)}: data_offsets are {[tensor.begin, tensor.end]} and {fault}, "
                f"expected the data to begin at {at}"
            )
        at = tensor.end
        if at > size - 8 - length:
            raise ValueError(
                f"tensor {quoted(tensor.name)}: data_offsets are {[tensor.begin, tensor.end]}, "
                f"expected at most {size - 8 - length}, the bytes behind the header; is the file cut off?"
            )
    if at < size - 8 - length:
        raise ValueError(f"the file has {size - 8 - length} bytes behind the header, expected {at}")
    return tensors, metadata, 8 + length


@contextmanager
def errors_of(path: Path) -> Iterator[None]:
    """Say in an error message of what a file holds which one it is."""
    try:
        yield
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


def mapped_tensor(mapping: map_file, start: int, tensor: Tensor) -> np.ndarray:
    """The tensor as a read-only view of the mapped file whose data begin at `start`, or a copy where it must be one."""
    dtype = np.dtype(DTYPES[tensor.dtype])
    flat = np.frombuffer(mapping, dtype, prod(tensor.shape), start + tensor.begin)
    values: np.ndarray = flat.reshape(tensor.shape)
    if tensor.dtype == "BF16":
        wide = np.empty(tensor.shape, np.uint32)
        widen(values, wide)
        values = wide.view(np.float32)
    elif tensor.dtype == "BOOL":
        check_booleans(tensor, values)
    values = values.astype(values.dtype.newbyteorder("="), copy=not values.flags.aligned)
    values.flags.writeable = False
    return values


def load(path: Path, *, mmap: bool = False) -> dict[str, np.ndarray]:
    """The tensors of a safetensors file by name, in the order of their data.

    dtypes: BOOL, U8 to U64, I8 to I64, F16, F32, F64 and C64 become NumPy's; BF16 becomes float32, exactly. NumPy has
    no floats of 8 bits and fewer (F8_E4M3, F8_E5M2, …): ValueError.

    mmap: False reads every tensor into an array of its own. True returns read-only views of the mapped file, which is
    read when they are used and must not be written to or cut meanwhile (`save` to its path does neither). Tensors that
    lie in the file unaligned, and BF16, are copies.

    A file that is malformed in any way raises ValueError with its path, the tensor and what was expected; so does
    what the safetensors package lets pass: duplicate keys, unknown keys of a tensor, booleans other than 0 and 1, a
    header that begins with a space. Beside the result, memory for the header is all that is taken, whatever a file
    claims to hold. Errors of the operating system are passed on.
    """
    with open(os.fspath(path), "rb") as file, errors_of(path):
        tensors, _, start = read_header(file)
        if mmap:
            mapping = map_file(file.fileno(), start + (tensors[-1].end if tensors else 0), access=ACCESS_READ)
            return {tensor.name: mapped_tensor(mapping, start, tensor) for tensor in tensors}
        return {tensor.name: read_tensor(file, tensor) for tensor in tensors}


def load_metadata(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file; empty if it has none. Reads and checks the header only. Errors: as `load`."""
    with open(os.fspath(path), "rb") as file, errors_of(path):
        return read_header(file)[1]


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


def sync_folder(folder: str) -> None:
    """Make a renaming last; some systems cannot open folders, some file systems not synchronise them."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def started(target: Callable[[], None]) -> Thread | None:
    """A thread; None where there can be no more, as at the end of a process."""
    thread = Thread(target=target)
    try:
        thread.start()
    except RuntimeError:
        return None
    return thread


def write_synced(file: BinaryIO, parts: Iterable[Any]) -> None:
    """Write bytes and bring them to the disk.

    The disk takes the first ones while the others are still being made and written. Otherwise it would wait for the
    processor to have written all, and then the processor for the disk.
    """
    thread = None
    failures = []

    def sync() -> None:
        try:
            os.fsync(file.fileno())
        except OSError as error:
            failures.append(error)

    try:
        unsynced = 0
        for part in parts:
            for at in range(0, len(part), PIECE):
                unsynced += file.write(part[at : at + PIECE])
                if unsynced >= PIECE and (thread is None or not thread.is_alive()):
                    thread, unsynced = started(sync), 0
    finally:
        if thread is not None:
            thread.join()
    file.flush()
    os.fsync(file.fileno())
    if failures:  # of which the system tells once, to the thread
        raise failures[0]


def write_atomically(path: str, parts: Iterable[Any]) -> None:
    """Put a file with these bytes in the place of `path`, all of it or nothing."""
    # A link stays one: what it leads to is replaced.
    path = os.path.realpath(path)
    if os.path.exists(path) and not os.path.isfile(path):
        raise ValueError(f"save: {path} exists, expected nothing or a regular file there")
    folder = os.path.dirname(path)
    temporary = os.path.join(folder, f".fastnn-{os.urandom(8).hex()}.tmp")
    try:
        with open(temporary, "xb") as file:
            write_synced(file, parts)
        with suppress(FileNotFoundError):
            os.chmod(temporary, os.stat(path).st_mode & 0o777)
        os.replace(temporary, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    sync_folder(folder)


def save(path: Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None) -> None:
    """Write arrays to a safetensors file, in the place of what is there.

    tensors: arrays by name, of any shape, layout and byte order, of bool, integers, float16, float32, float64 or
    complex64. metadata: texts by name.

    Equal arguments give equal bytes, in any order: tensors are sorted by dtype, wide ones first, and by name, metadata
    by name. The safetensors package writes the same bytes, but for its random order of several metadata.

    The file is written beside its place, brought to the disk and renamed. Whatever happens, `path` is the old file or
    the new one, and after an error the old. A process that is killed leaves a `.fastnn-*.tmp`.

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
