"""Malformed files take twice their size of memory at most, whatever they say."""

import os
from itertools import count

import pytest
from safetensors_support import blob, entry, limited, one, outcome

import fastnn

posix = pytest.mark.skipif(os.name != "posix", reason="a test of what the system counts")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "weights.safetensors"


def repeated(start, unit, end="", data=b""):
    """size -> a file of about that size: a header of units between start and end; unit(i) is text."""

    def make(size):
        header = bytearray(start.encode())
        if callable(unit):
            numbers = count()
            while len(header) < size:
                header += unit(next(numbers)).encode()
        else:
            header += unit.encode() * (size // len(unit.encode()))
        return blob(bytes(header) + end.encode(), data)

    return make


def empty(i):
    return f'"{i:x}":' + entry('"U8"', "[0]", "[0,0]") + ","


def byte(i):
    return f'"{i:x}":' + entry('"U8"', "[]", f"[{i},{i + 1}]") + ","


LAST = '"last":' + entry('"U8"', "[1]", "[0,1]") + "}"
HOGS = {
    # of JSON that may not stand where it stands
    "lists of lists": repeated("[", "[],"),
    "lists for a tensor": repeated('{"w":[', "[],"),
    "lists for a shape": repeated('{"w":{"shape":[', "[],"),
    "a long shape": repeated('{"w":{"shape":[', "1,"),
    "objects for the metadata": repeated('{"__metadata__":[', "{},"),
    "a list in the metadata": repeated('{"__metadata__":{"a":[', "[],"),
    "lists a million deep": repeated('{"w":', "["),
    "objects a million deep": repeated("", '{"a":'),
    "one number": repeated('{"w":{"shape":[1', "0"),
    "spaces": repeated("{", " "),
    # of what may stand there, with the fault at the end
    "names": repeated("{", empty, '"last":0}'),
    "names and no end": repeated("{", empty),
    "names twice": repeated("{", lambda i: empty(i // 2), LAST, b"1"),
    "names, and a gap": repeated("{", byte, LAST.replace("[0,1]", "[1,2]"), b"12"),
    "keys of metadata": repeated('{"__metadata__":{', lambda i: f'"{i:x}":"",', '"":0}}'),
    "keys of metadata twice": repeated('{"__metadata__":{', lambda i: f'"{i // 2:x}":"",', '"":""}}'),
    "fields of a tensor": repeated('{"w":{"dtype":"F32",', '"dtype":"F32",'),
    # strings, which take up to four bytes a letter as Python's
    "a name": repeated('{"😀', "a", '":0}'),
    "a name of faces": repeated('{"', "😀", '":0}'),
    "a name of escapes": repeated('{"😀', "\\n", '":0}'),
    "a name of letters and escapes": repeated('{"😀', "a\\n", '":0}'),
    "a name of escaped faces": repeated('{"', "\\ud83d\\ude00", '":0}'),
    "a name without end": repeated('{"😀', "a"),
    "a text of the metadata": repeated('{"__metadata__":{"a":"😀', "a", '"}'),
    "a text of escapes": repeated('{"__metadata__":{"a":"😀', "\\u0061", '"}'),
    "a dtype": repeated('{"w":{"dtype":"😀', "a", '"}}'),
    # lies
    "no header": lambda size: bytes(size),
    "a header of zeros": lambda size: blob(bytes(size - 8)),
    "a large shape": lambda size: one(bytes(size), shape=f"[{size}]", data_offsets=f"[0,{4 * size}]"),
    "an enormous shape": lambda size: one(bytes(size), shape=f"[{2**60}]", data_offsets=f"[0,{2**62}]"),
    "a boolean at the end": lambda size: one(bytes(size - 1) + b"\2", dtype='"BOOL"', shape=f"[{size}]",
                                             data_offsets=f"[0,{size}]"),
}  # fmt: skip

PEAK = """
import resource, sys, numpy as np, fastnn
fastnn.save(sys.argv[1] + "0", {"x": np.zeros((), bool)})
fastnn.load(sys.argv[1] + "0")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    fastnn.load(sys.argv[1])
except ValueError:
    print(1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))
"""


@pytest.mark.parametrize("kind", HOGS)
def test_malformed_files_take_twice_their_size_at_most(path, kind):
    """As Python counts. 64 KiB are for buffers, pieces that are decoded, and the message."""
    size = 1 << 18
    path.write_bytes(HOGS[kind](size))
    assert isinstance(outcome(fastnn.load, path), ValueError)
    with limited(2 * path.stat().st_size):
        assert isinstance(outcome(fastnn.load, path), ValueError)


@posix
@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", HOGS)
def test_malformed_files_of_100_megabytes(path, python, kind):
    """As the system counts: the header is as long as it may be. 8 MB are for what the interpreter keeps."""
    path.write_bytes(HOGS[kind](99_000_000))
    result = python("-c", PEAK, str(path), timeout=900)
    assert result.returncode == 0 and result.stdout, result.stderr
    assert int(result.stdout) <= 2 * path.stat().st_size + 8_000_000
    path.unlink()


@pytest.mark.parametrize("count", [20_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def test_very_many_tensors_without_elements(path, count):
    """They are what the file says; memory is that of the result."""
    path.write_bytes(blob("{" + "".join(map(empty, range(count)))[:-1] + "}"))
    loaded = fastnn.load(path)
    assert len(loaded) == count and all(x.shape == (0,) for x in loaded.values())
