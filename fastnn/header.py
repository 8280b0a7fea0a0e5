"""The header of a safetensors file, checked in memory that the file's size bounds.

A file is the length of its header (8 bytes, little-endian), the header (JSON in UTF-8, at most 100 MB), and the bytes
of all tensors, little-endian and C-contiguous, one behind the other without a gap:

    {"__metadata__": {"key": "text", ...},
     "name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, ...}

Offsets count from the end of the header. It begins with "{" and may end with spaces; the metadata may be missing.

A header of 100 MB may say anything: ten million keys, or a string that takes four bytes a letter in memory. It is
therefore checked as the bytes that it is, and of each tensor and key a few numbers are kept. What it says is read
a second time where it is used, once all of it is known to be right.

Source: the format's description and dtypes, https://github.com/huggingface/safetensors (README, "Format").
"""

from __future__ import annotations

import os
import re
from array import array
from codecs import utf_8_decode
from collections.abc import Callable, Iterator
from io import BytesIO
from json import loads
from math import prod
from typing import Any, BinaryIO, NamedTuple, TypeVar

import numpy as np

__all__ = ["DTYPES", "MAX_HEADER", "METADATA", "Header", "Tensor", "quoted", "read_header"]

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

NAMES = {name.encode(): (name, np.dtype(code).itemsize) for name, code in DTYPES.items()}

METADATA = "__metadata__"
MAX_HEADER = 100_000_000
MAX_AXES = 64
"""Axes of an array in NumPy 2."""
CHUNK = 1 << 13
"""Bytes of a header that are decoded, and hashes that are compared, at a time."""

SPACE = re.compile(rb"[ \t\n\r]*")
INTEGER = re.compile(rb"[ \t\n\r]*(0|[1-9][0-9]{0,18})(?![0-9.eE])[ \t\n\r]*([,\]]?)")
STRING = re.compile(rb'"([^"\\\x00-\x1f]*)"')
"""Without escapes, as almost all are."""
STRETCH = re.compile(
    rb"(?:[ !\x23-\x5b\x5d-\x7f]{1,32}|[\xc0-\xff][\x80-\xbf]*"
    rb'|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\["\\/bfnrt]){1,250}'
)
"""What may stand in a string, up to 8 kB of it, cut between characters."""

USUAL = re.compile(
    rb'\{"dtype":"([A-Z0-9_]{1,16})","shape":\[((?:N(?:,N){0,63})?)\],"data_offsets":\[(N),(N)\]\}'.replace(
        b"N", rb"(?:0|[1-9][0-9]{0,18})"
    )
)
"""A tensor as almost all programs write it, which is read three times as fast as in general."""

Value = TypeVar("Value")


class Tensor(NamedTuple):
    """What the header says of a tensor."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def quoted(text: str | bytes) -> str:
    """A file's text for an error message, however long it is."""
    if isinstance(text, bytes):
        text = text[:244].decode(errors="ignore")  # 61 characters
    return repr(text if len(text) <= 60 else text[:60] + "…")


def repetitions(hashes: array[int]) -> Iterator[int]:
    """The numbers that are there more than once. They are sorted in place."""
    numbers = np.frombuffer(hashes, np.int64) if hashes else np.empty(0, np.int64)
    numbers.sort()
    for at in range(0, len(numbers) - 1, CHUNK):
        some = numbers[at : at + CHUNK + 1]
        yield from map(int, some[1:][some[1:] == some[:-1]])


class Cursor:
    """Reads a header from left to right, and of JSON only what may stand there: objects, strings, lists of integers.

    A header that is something else, nested a million deep for instance, fails where it begins to be so. Strings are
    UTF-8 without escapes. most: the bytes behind the header.
    """

    def __init__(self, header: bytes, most: int) -> None:
        self.header = header
        self.most = most
        self.at = 0

    def skip_space(self) -> None:
        self.at = SPACE.match(self.header, self.at).end()  # type: ignore[union-attr]  # matches the empty string

    def found(self) -> str:
        """What stands here, for an error message."""
        if self.at >= len(self.header):
            return "the end of the header"
        return repr(self.header[self.at : self.at + 80].decode(errors="ignore")[:20])

    def accept(self, character: bytes) -> bool:
        """Step over a character if it stands here."""
        self.skip_space()
        here = self.header.startswith(character, self.at)
        self.at += here
        return here

    def expect(self, character: bytes, what: str) -> None:
        if not self.accept(character):
            raise ValueError(f"{what}: got {self.found()}, expected {character.decode()!r}")

    def string(self, what: str) -> bytes:
        self.skip_space()
        plain = STRING.match(self.header, self.at)
        if plain is not None:
            self.at = plain.end()
            return plain[1]
        if not self.header.startswith(b'"', self.at):
            raise ValueError(f"{what} is {self.found()}, expected a string")
        value = BytesIO()  # gives its bytes away without a copy
        at = self.at + 1
        while stretch := STRETCH.match(self.header, at):
            text = loads(b'"%b"' % stretch[0])
            try:
                value.write(text.encode())
            except UnicodeEncodeError:
                raise ValueError(f"{what} is {quoted(text)}, expected Unicode, got half a surrogate pair") from None
            at = stretch.end()
        if not self.header.startswith(b'"', at):
            raise ValueError(f"{what} is {self.found()}, expected a string of JSON ({self.fault(at)})")
        self.at = at + 1
        return value.getvalue()

    def fault(self, at: int) -> str:
        """What is wrong with a string at this place."""
        if at == len(self.header):
            return "without an end"
        return "invalid escape" if self.header.startswith(b"\\", at) else "invalid control character"

    def integers(self, what: str, most: int) -> list[int]:
        """A list of at most so many integers in [0, 10^19)."""
        values: list[int] = []
        self.expect(b"[", what)
        if self.accept(b"]"):
            return values
        while True:
            number = INTEGER.match(self.header, self.at)
            if number is None:
                self.skip_space()
                raise ValueError(f"{what}[{len(values)}] is {self.found()}, expected an integer in [0, 2^63)")
            if len(values) == most:
                raise ValueError(f"{what} has more than {most} elements, expected at most {most}")
            values.append(int(number[1]))
            self.at = number.end()
            if number[2] == b"]":
                return values
            if not number[2]:
                raise ValueError(f"{what}: got {self.found()}, expected ']'")

    def key(self, what: str) -> bytes:
        """The key here of an object, and the colon."""
        key = self.string(f"{what}: a key")
        if not self.accept(b":"):
            raise ValueError(f"{what}: behind key {quoted(key)}: got {self.found()}, expected ':'")
        return key

    def keys(self, what: str) -> Iterator[tuple[int, bytes]]:
        """Place and name of the keys of an object one after the other; the caller reads the value behind each."""
        self.expect(b"{", what)
        if self.accept(b"}"):
            return
        while True:
            self.skip_space()
            at = self.at
            yield at, self.key(what)
            if not self.accept(b","):
                self.expect(b"}", what)
                return

    def members(self, what: str, read: Callable[[bytes], Value]) -> Iterator[tuple[int, bytes, Value]]:
        """The same with their values, read(key). Behind the last one, ValueError if a key was there twice.

        Of each key that passes, eight bytes are kept, its hash. Keys whose hashes are equal are compared.
        """
        start = self.at
        hashes = array("q")
        for at, key in self.keys(what):
            hashes.append(hash(key))
            yield at, key, read(key)
        end = self.at
        for repeated in repetitions(hashes):
            self.at = start
            seen = set()
            for _, key in self.keys(what):
                if hash(key) == repeated:
                    if key in seen:
                        raise ValueError(f"{what}: got key {quoted(key)} twice, expected it once")
                    seen.add(key)
                read(key)
        self.at = end

    def metadata(self) -> Iterator[tuple[bytes, bytes]]:
        """Keys and texts; none of null, which the safetensors package takes too."""
        self.skip_space()
        if self.header.startswith(b"null", self.at):
            self.at += len(b"null")
            return
        for _, key, text in self.members(METADATA, lambda key: self.string(f"{METADATA}[{quoted(key)}]")):
            yield key, text

    def entry(self, key: bytes) -> Tensor | None:
        """What stands behind a key of the header, consistent in itself; None for the metadata."""
        if key != METADATA.encode():
            return self.tensor(key)
        for _ in self.metadata():
            pass
        return None

    def fields(self, what: str) -> tuple[bytes, list[int], list[int]]:
        """dtype, shape and data_offsets of the tensor here."""
        fields: dict[bytes, Any] = {}
        for _, key in self.keys(what):
            if key in fields:
                raise ValueError(f"{what}: got key {quoted(key)} twice, expected it once")
            if key == b"dtype":
                fields[key] = self.string(f"{what}: dtype")
            elif key == b"shape":
                fields[key] = self.integers(f"{what}: shape", MAX_AXES)
            elif key == b"data_offsets":
                fields[key] = self.integers(f"{what}: data_offsets", 2)
            else:
                raise ValueError(f"{what}: got key {quoted(key)}, expected dtype, shape and data_offsets")
        for field in ("dtype", "shape", "data_offsets"):
            if field.encode() not in fields:
                raise ValueError(f"{what}: {field} is missing, expected dtype, shape and data_offsets")
        return fields[b"dtype"], fields[b"shape"], fields[b"data_offsets"]

    def tensor(self, name: bytes) -> Tensor:
        what = f"tensor {quoted(name)}"
        usual = USUAL.match(self.header, self.at)
        if usual is not None:
            self.at = usual.end()
            code, shape = usual[1], [int(n) for n in usual[2].split(b",")] if usual[2] else []
            offsets = [int(usual[3]), int(usual[4])]
        else:
            code, shape, offsets = self.fields(what)
        if code == b"F4" or code.startswith((b"F6_", b"F8_")):
            raise ValueError(f"{what}: dtype is {quoted(code)}, a float of 8 bits or fewer, which NumPy lacks")
        if code not in NAMES:
            raise ValueError(f"{what}: dtype is {quoted(code)}, expected one of {', '.join(DTYPES)}")
        dtype, itemsize = NAMES[code]
        if len(offsets) != 2:
            raise ValueError(f"{what}: data_offsets are {offsets}, expected [begin, end]")
        # NumPy's own limit. It leaves out axes of length 0, so that an empty array may not have any shape either.
        if prod(n for n in shape if n) * itemsize >= 2**63:
            raise ValueError(f"{what}: shape is {quoted(str(shape))}, expected fewer than 2^63 bytes")
        begin, end = offsets
        if end - begin != prod(shape) * itemsize:
            raise ValueError(
                f"{what}: data_offsets are {offsets}, expected {prod(shape) * itemsize} bytes "
                f"for {dtype} of shape {shape}"
            )
        if end > self.most:
            raise ValueError(
                f"{what}: data_offsets are {offsets}, expected at most {self.most}, the bytes behind the header; "
                "is the file cut off?"
            )
        return Tensor("", dtype, tuple(shape), begin, end)


class Header:
    """A header that is right, and whose tensors fill the file behind it."""

    def __init__(self, header: bytes, most: int) -> None:
        self.cursor = cursor = Cursor(header, most)
        self.metadata_at: int | None = None
        """Where the metadata's key stands."""
        places, begins, ends = array("i"), array("q"), array("q")
        for at, _, tensor in cursor.members("header", cursor.entry):
            if tensor is None:
                self.metadata_at = at
            else:
                places.append(at)
                begins.append(tensor.begin)
                ends.append(tensor.end)
        cursor.skip_space()
        if cursor.at < len(header):
            raise ValueError(f"header: got {cursor.found()} behind it, expected spaces")
        self.start = 8 + len(header)
        """Where the data begin."""
        self.size = self.start + most
        self.places = self.in_order(places, begins, ends)
        """Where the tensors' names stand, in the order of their data."""

    def in_order(self, places: array[int], begins: array[int], ends: array[int]) -> np.ndarray:
        """The places in the order of the data. ValueError if these do not fill the file."""
        most = self.cursor.most
        begin, end = (
            np.frombuffer(numbers, np.int64) if numbers else np.empty(0, np.int64) for numbers in (begins, ends)
        )
        order = np.lexsort((end, begin))
        begin, end = begin[order], end[order]
        ordered = np.frombuffer(places, np.intc)[order] if places else np.empty(0, np.intc)
        differ = np.flatnonzero(begin[1:] != end[:-1])
        fault = None
        if len(begin) and begin[0]:
            fault = 0
        elif len(differ):
            fault = int(differ[0]) + 1
        if fault is not None:
            at = int(end[fault - 1]) if fault else 0
            tensor = self.tensor(ordered[fault])
            raise ValueError(
                f"tensor {quoted(tensor.name)}: data_offsets are {[tensor.begin, tensor.end]} and "
                f"{'overlap those of another tensor' if tensor.begin < at else 'leave a gap'}, "
                f"expected the data to begin at {at}"
            )
        filled = int(end[-1]) if len(end) else 0
        if filled < most:
            raise ValueError(f"the file has {most} bytes behind the header, expected {filled}")
        return ordered

    def tensor(self, at: int) -> Tensor:
        """The tensor whose name stands there."""
        self.cursor.at = int(at)
        name = self.cursor.key("header")
        return self.cursor.tensor(name)._replace(name=name.decode())

    def tensors(self) -> Iterator[Tensor]:
        """In the order of their data."""
        return map(self.tensor, self.places)

    def metadata(self) -> dict[str, str]:
        if self.metadata_at is None:
            return {}
        self.cursor.at = self.metadata_at
        self.cursor.key("header")
        return {key.decode(): text.decode() for key, text in self.cursor.metadata()}


def check_utf8(header: bytes) -> None:
    at = 0
    while at < len(header):
        try:
            _, used = utf_8_decode(header[at : at + CHUNK], "strict", at + CHUNK >= len(header))
        except UnicodeDecodeError as error:
            raise ValueError(f"byte {at + error.start} of the header is no UTF-8, expected JSON in UTF-8") from None
        at += used


def read_header(file: BinaryIO) -> Header:
    """The header of an open file."""
    size = os.fstat(file.fileno()).st_size
    if size < 8:
        raise ValueError(f"the file has {size} bytes, expected 8 with the header's length")
    length = int.from_bytes(file.read(8), "little")
    if length > MAX_HEADER:
        raise ValueError(f"the header's length is {length}, expected at most {MAX_HEADER}; no safetensors file?")
    if length > size - 8:
        raise ValueError(f"the header's length is {length}, expected at most {size - 8}, as the file has {size} bytes")
    header = file.read(length)
    if len(header) < length:
        raise ValueError("the file became shorter while it was read")
    if not header.startswith(b"{"):
        raise ValueError(f"the header begins with {header[:8]!r}, expected '{{'")
    check_utf8(header)
    return Header(header, size - 8 - length)
