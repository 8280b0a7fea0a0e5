"""Places that are no files of bytes, and files that change while they are read: an error, never a wait or a crash."""

import errno
import os
import socket
import stat
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from safetensors_support import LOADERS, blob, entry, load_mapped, outcome, same, whole

import fastnn
from fastnn.data import read_idx
from fastnn.header import Header
from fastnn.train import load_checkpoint
from fastnn.train.checkpoint import Checkpoint, save_checkpoint

posix = pytest.mark.skipif(os.name != "posix", reason="a test of POSIX files")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "weights.safetensors"


# ---- what is no file of bytes ----


@pytest.fixture
def places(tmp_path):
    """Paths by what is there."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    (tmp_path / "empty").write_bytes(b"")
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(os.path.relpath(tmp_path / "socket"))
    listening.close()
    return tmp_path


PLACES = {
    "pipe": (ValueError, "it is a pipe or a device, expected a regular file"),
    "/dev/zero": (ValueError, "it is a pipe or a device"),
    "/dev/null": (ValueError, "it is a pipe or a device"),
    "/proc/self/status": (ValueError, "0 bytes|begins with b'Name'"),  # whose size is 0
    "empty": (ValueError, "0 bytes|begins with b''"),
    "": (IsADirectoryError, "."),
    "loop": (OSError, os.strerror(errno.ELOOP)),
    "dangling": (FileNotFoundError, "."),
    "missing": (FileNotFoundError, "."),
    "empty/x": (NotADirectoryError, "."),
    "socket": (OSError, "."),
    "x" * 300: (OSError, os.strerror(errno.ENAMETOOLONG)),
    "a\0b": (ValueError, "null byte"),
}


@posix
@pytest.mark.timeout(30)
@pytest.mark.parametrize("load", [*LOADERS, read_idx], ids=lambda load: load.__name__)
@pytest.mark.parametrize("place", PLACES)
def test_places(places, place, load):
    error, message = PLACES[place]
    with pytest.raises(error, match=message):
        load(places / place)


AS_NOBODY = """
import os, sys, fastnn
path = sys.argv[1]
fastnn.load, fastnn.save  # read from the package, which nobody else may be allowed to
import fastnn.data, fastnn.train
os.setgid(65534)
os.setuid(65534)
for load in (fastnn.load, fastnn.load_metadata, fastnn.train.load_checkpoint, fastnn.data.read_idx):
    try:
        load(path)
    except PermissionError as error:
        print(error.filename == path)
"""


@posix
def test_no_permission(path, python):
    whole(path)
    path.chmod(0)
    if os.geteuid() == 0:
        for folder in path.parents[:3]:
            folder.chmod(stat.S_IMODE(folder.stat().st_mode) | 0o011)
        result = python("-c", AS_NOBODY, str(path))
        assert result.stdout == "True\n" * 4, result.stderr
    else:
        for load in [*LOADERS, read_idx]:
            with pytest.raises(PermissionError):
                load(path)


# ---- files that change while they are read ----


@pytest.mark.parametrize("change", [-1, -9, -30, 3])
@pytest.mark.parametrize("load", [fastnn.load, load_mapped])
def test_a_file_of_another_size_a_moment_later(path, monkeypatch, load, change):
    """One that was cut is refused; what was appended is not looked at."""
    data = whole(path)
    expected = fastnn.load(path)
    fstat, calls = os.fstat, []

    def changed(descriptor):
        result = fstat(descriptor)
        calls.append(descriptor)
        if len(calls) == 2:  # the first one asked what kind of file it is
            os.truncate(path, len(data) + change)
        return result

    monkeypatch.setattr(os, "fstat", changed)
    if change < 0:
        with pytest.raises(ValueError, match=r"weights\.safetensors: "):
            load(path)
    else:
        loaded = load(path)
        assert loaded.keys() == expected.keys() and all(same(loaded[name], expected[name]) for name in expected)


def test_a_file_that_is_replaced_while_it_is_read(path, monkeypatch):
    """A checkpoint has the state and the arrays of one file."""

    def checkpoint(step):
        save_checkpoint(path, Checkpoint({"w": np.full(9, step)}, {}, {}, np.zeros(2, np.uint64), {"step": step}))

    checkpoint(1)
    metadata = Header.metadata

    def replaced(header):
        result = metadata(header)
        checkpoint(2)
        return result

    monkeypatch.setattr(Header, "metadata", replaced)
    for step in (1, 2):
        found = load_checkpoint(path)
        assert found.state["step"] == step and (found.model["w"] == step).all()


CUT = """
import os, sys, fastnn, numpy as np
from fastnn import serialize
path = sys.argv[1]
mapped = serialize.map_file
def cut(*args, **options):
    mapping = mapped(*args, **options)
    os.truncate(path, os.path.getsize(path) - 100_000)
    return mapping
serialize.map_file = cut
try:
    fastnn.load(path, mmap=True)
except ValueError as error:
    print("the file became shorter while it was read" in str(error))
"""


@posix
@pytest.mark.parametrize("dtype", ['"BF16"', '"BOOL"', '"F32"'])
def test_a_file_that_is_cut_behind_the_mapping(path, python, dtype):
    """Its pages are gone, and touching them would kill the process; load does not touch them."""
    size = 200_000
    elements = size // {'"BF16"': 2, '"BOOL"': 1, '"F32"': 4}[dtype]
    header = f'{{"w":{entry(dtype, f"[{elements}]", f"[0,{size}]")}}}'
    path.write_bytes(blob(header + " " * (1 + -len(header) % 8), bytes(size)))  # unaligned, so that F32 is copied
    result = python("-c", CUT, str(path))
    assert (result.returncode, result.stdout) == (0, "True\n"), result.stderr


RESTLESS = """
import os, sys, random
path, content = sys.argv[1], open(sys.argv[1], "rb").read()
rng = random.Random(0)
print("going", flush=True)
while True:
    with open(path, "r+b") as file:
        file.truncate(rng.randrange(len(content)))
        file.seek(0)
        file.write(content + bytes(rng.randrange(1000)))
        file.truncate(len(content))
"""


@posix
@pytest.mark.timeout(600)
def test_a_file_that_another_process_cuts_and_fills_again(path, scaled):
    fastnn.save(path, {"a": np.arange(20_000.0), "b": np.ones(5000, bool)})
    expected = fastnn.load(path)
    outcomes = Counter()
    with subprocess.Popen([sys.executable, "-c", RESTLESS, str(path)], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout.readline() == b"going\n"
            for _ in range(scaled(500, 20_000)):
                for load in LOADERS[:3]:
                    result = outcome(load, path)
                    outcomes["refused" if isinstance(result, ValueError) else "read"] += 1
                    if load is fastnn.load and isinstance(result, dict):
                        assert result.keys() == expected.keys()
            assert process.poll() is None
        finally:
            process.kill()
    assert outcomes["refused"] > 0
