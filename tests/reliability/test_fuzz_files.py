"""A fuzzer of files: whatever load and read_idx get, they return what the file says, or raise ValueError.

Valid files are bent: bits, bytes, lengths, numbers and tokens of the header, its structure; and headers are drawn from
a grammar of right and wrong values. All is a function of the seed. What is accepted is compared with the safetensors
package, saved and loaded again; what is refused must be refused by the package too, but for the differences listed.
"""

import gzip
import json
import os
import random
import re
from collections import Counter
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from safetensors_support import blob, limited, load_mapped, one, outcome, same

import fastnn
from fastnn.data import read_idx

STRICTER = re.compile(
    r"twice, expected it once|expected dtype, shape and data_offsets$|a byte above 1|a float of 8 bits"
    r"|has more than 64 elements|fewer than 2\^63 bytes|begins with b' |is '[0-9]{19}"
)
"""Why load refuses what the package takes; docs/reliability.md says why."""


@pytest.fixture
def path():
    """A file in memory where there is such a place, because a million files are written."""
    folder = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else Path(os.environ.get("TMPDIR", "/tmp"))
    path = folder / f"fastnn-fuzz-{os.getpid()}"
    yield path
    path.unlink(missing_ok=True)


# ---- valid files ----


def seeds():
    save = safetensors.numpy.save
    return [
        save({"a": np.arange(3.0), "b": np.ones((2, 2), np.float16)}, {"format": "pt"}),
        save({"x": np.array(True), "y": np.zeros((0, 4), np.int8), "z": np.uint16([1, 2])}),
        save({'ü\n"': np.zeros((2, 1, 3), np.int64), "": np.ones(5, np.complex64)}, {"重み": "\U0001f600\\"}),
        one(bytes(range(8)), dtype='"BF16"', shape="[2,2]", data_offsets="[0,8]"),
        blob("{}"),
    ]


# ---- mutations ----

NUMBERS = ["0", "4", "8", "-1", "-0", "1.0", "1e9", "1e400", "01", "4611686018427387904", "9223372036854775807",
           "9223372036854775808", "18446744073709551615", "1" * 400]  # fmt: skip
TEXTS = ['""', '"a"', '"F64"', '"BF16"', '"BOOL"', '"f32"', '"F8_E4M3"', '"shape"', '"__metadata__"', '"\\u0000"',
         '"\\ud800"', '"\\ud83d\\ude00"', "\\u0041", "\\", "'a'"]  # fmt: skip
OTHERS = [
    "true",
    "null",
    "NaN",
    "Infinity",
    "[]",
    "{}",
    "[[",
    "]",
    "}",
    ",",
    ":",
    " ",
    "/**/",
    "\x00",
    "\x7f",
    "\ufeff",
]
TOKENS = [token.encode() for token in [*NUMBERS, *TEXTS, *OTHERS]] + [b"\xff", b"\xed\xa0\x80", b"\xc0\xaf"]
TOKEN = re.compile(rb'"[^"]*"|[0-9]+|[\[\]{}:,]')


def parts(data):
    length = int.from_bytes(data[:8], "little")
    return data[8 : 8 + length], data[8 + length :]


def flip(data, rng, others):
    flipped = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        flipped[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(flipped)


def splice(data, rng, others):
    other = rng.choice(others)
    return data[: rng.randrange(len(data))] + other[rng.randrange(len(other)) :]


def cut_or_repeat(data, rng, others):
    a, b = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    return data[:a] + data[a:b] * rng.choice([0, 2]) + data[b:]


def lie_about_the_length(data, rng, others):
    header, rest = parts(data)
    return blob(header, rest, max(0, len(header) + rng.choice([-8, -1, 1, 8, 2**32, 2**63])))


def append(data, rng, others):
    header, rest = parts(data)
    return blob(header, rest + rng.randbytes(rng.randint(0, 9)))


def random_bytes(data, rng, others):
    return rng.randbytes(rng.randint(0, 200))


def change_tokens(data, rng, others):
    header, rest = parts(data)
    tokens = list(TOKEN.finditer(header))
    for _ in range(rng.randint(1, 2)):
        token = rng.choice(tokens)
        new = rng.choice([rng.choice(TOKENS), rng.choice(tokens)[0], b"", token[0] * 2])
        header = header[: token.start()] + new + header[token.end() :]
    return blob(header, rest)


def change_numbers(data, rng, others):
    header, rest = parts(data)

    def near(number):
        if rng.random() < 0.7:
            return number[0]
        return str(max(0, int(number[0]) + rng.choice([-8, -1, 1, 4, 8, 2**31, 2**61]))).encode()

    return blob(re.sub(rb"(?<![A-Za-z0-9])[0-9]+", near, header), rest)


def change_structure(data, rng, others):
    """Remove, repeat, rename, reorder and nest members of the header's objects, and write it in another way."""
    header, rest = parts(data)
    pairs = json.loads(header, object_pairs_hook=list)
    target = pairs
    if pairs and rng.random() < 0.6 and isinstance(inner := rng.choice(pairs)[1], list) and inner:
        target = inner
    kind = rng.randrange(5)
    if target and all(isinstance(pair, tuple) for pair in target):
        i = rng.randrange(len(target))
        key, value = target[i]
        target[i : i + 1] = [
            [],
            [(key, value)] * 2,
            [(rng.choice(["w", "dtype", "shape", "data_offsets", "__metadata__", "more", key + "\x00"]), value)],
            [(key, [("nested", value)])],
            [(key, rng.choice([None, True, -1, 1.5, "text", [], [[]], [("dtype", "F32")]]))],
        ][kind]
        if rng.random() < 0.3:
            rng.shuffle(target)
    space = rng.choice(["", "", " ", "\n\t"])

    def written(value):
        if isinstance(value, list) and value and all(isinstance(pair, tuple) for pair in value):
            items = (f"{written(key)}{space}:{space}{written(each)}" for key, each in value)
            return "{" + f"{space},{space}".join(items) + "}"
        if isinstance(value, list):
            return "[" + ",".join(map(written, value)) + "]"
        return json.dumps(value, ensure_ascii=bool(kind % 2))

    return blob((written(pairs) if pairs else "{}") + " " * rng.randint(0, 3), rest)


DTYPES = {"F32": 4, "U8": 1, "BOOL": 1, "BF16": 2, "C64": 8, "F8_E5M2": 1, "F16": 2, "X": 1, "I64": 8}


def from_a_grammar(data, rng, others):
    """Tensors that follow each other, with one field in eight wrong."""
    at, entries, order = 0, [], rng.random() < 0.2
    for i in range(rng.randint(0, 5)):
        dtype = rng.choice(list(DTYPES))
        shape = [rng.choice([0, 1, 1, 2, 3]) for _ in range(rng.randint(0, 4))]
        end = at + int(np.prod(shape, dtype=int)) * DTYPES[dtype]
        fields = {"dtype": f'"{dtype}"', "shape": str(shape), "data_offsets": str([at, end])}
        if rng.random() < 0.12:
            fields[rng.choice(list(fields))] = rng.choice(TOKENS).decode(errors="replace")
        members = [f'"{key}":{value}' for key, value in fields.items()]
        rng.shuffle(members)
        entries.append(f'"{rng.choice(["", "a", "é"])}{i}":{{{",".join(members)}}}')
        at = end
    if rng.random() < 0.2:
        entries.insert(0, '"__metadata__":{"a":' + rng.choice(['"b"', '"\\u00e9"', "1", "null"]) + "}")
    if order:
        rng.shuffle(entries)
    return blob("{" + ",".join(entries) + "}", bytes(rng.choice([0, 1, 1]) for _ in range(at)))


MUTATIONS = [flip, splice, cut_or_repeat, lie_about_the_length, append, random_bytes, change_tokens, change_tokens,
             change_numbers, change_structure, change_structure, from_a_grammar]  # fmt: skip


def check_accepted(path, data, loaded):
    """It is what the package says, mapped too, and saving and loading it does not change it."""
    mapped = load_mapped(path)
    assert list(loaded) == list(mapped) and all(same(loaded[name], mapped[name]) for name in loaded)
    peer = dict(safetensors.deserialize(data))
    assert loaded.keys() == peer.keys()
    for name, x in loaded.items():
        assert list(x.shape) == peer[name]["shape"]
        upper_halves = x.reshape(-1).view(np.uint16)[1::2] if peer[name]["dtype"] == "BF16" else x
        assert upper_halves.tobytes() == bytes(peer[name]["data"])
    metadata = fastnn.load_metadata(path)
    fastnn.save(path, loaded, metadata)
    again = fastnn.load(path)
    assert again.keys() == loaded.keys() and all(same(again[name], loaded[name]) for name in loaded)
    assert fastnn.load_metadata(path) == metadata


def check_refused(path, data, error):
    """The message is short and says which file; the package refuses it too, or load is stricter on purpose."""
    message = str(error)
    assert message.startswith(f"load: {path}: ") and len(message) < len(str(path)) + 400
    if STRICTER.search(message) is None:
        with pytest.raises(safetensors.SafetensorError):
            safetensors.deserialize(data)


@pytest.mark.timeout(7200)
def test_safetensors(path, scaled):
    rng = random.Random(1)
    originals = seeds()
    counts = Counter()
    path.write_bytes(originals[0])
    assert fastnn.load(path)  # which imports what it needs, once
    for i in range(scaled(15_000, 1_000_000)):
        data = rng.choice(MUTATIONS)(rng.choice(originals), rng, originals)
        path.write_bytes(data)
        with limited(2 * len(data)) if i % 100 == 0 else nullcontext():
            result = outcome(fastnn.load, path)
        if isinstance(result, ValueError):
            check_refused(path, data, result)
            if i % 8 == 0:
                assert isinstance(outcome(load_mapped, path), ValueError)
        else:
            check_accepted(path, data, result)
        counts[isinstance(result, ValueError)] += 1
    # If few were accepted, mutations would be too coarse to test much; if many, too fine.
    assert counts.total() / 20 < counts[False] < counts.total() / 2
    print(f"{counts[False]} of {counts.total()} files accepted")


# ---- IDX files ----


def idx_seeds():
    plain = [
        bytes([0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3]) + bytes(range(6)),
        bytes([0, 0, 0x0D, 1, 0, 0, 0, 4]) + bytes(16),
        bytes([0, 0, 0x0B, 0, 1, 2]),
    ]
    return plain + [gzip.compress(data) for data in plain]


@pytest.mark.timeout(7200)
def test_idx(path, scaled):
    rng = random.Random(2)
    originals = idx_seeds()
    accepted = 0
    count = scaled(5_000, 200_000)
    for i in range(count):
        data = rng.choice([flip, splice, cut_or_repeat, random_bytes])(rng.choice(originals), rng, originals)
        if rng.random() < 0.2:
            data = gzip.compress(data, 1)
        path.write_bytes(data)
        # 1032 is gzip's largest ratio.
        with limited(2 * (1032 if data.startswith(b"\x1f\x8b") else 1) * len(data)) if i % 100 == 0 else nullcontext():
            result = outcome(read_idx, path)
        if isinstance(result, ValueError):
            assert str(result).startswith("read_idx: ")
        else:
            accepted += 1
            whole = gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data
            assert result.astype(result.dtype.newbyteorder(">")).tobytes() == whole[4 + 4 * result.ndim :]
    assert count / 50 < accepted < count / 2
