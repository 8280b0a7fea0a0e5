"""Disks that are full, folders that cannot be written, savers that meet: the old file survives, nothing is left."""

import builtins
import errno
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from safetensors_support import files, same
from train_support import adam, equal, network, problem, timeless

import fastnn
import fastnn.files as files_module
from fastnn.train import fit

posix = pytest.mark.skipif(os.name != "posix", reason="a test of POSIX file systems")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "weights.safetensors"


@pytest.fixture
def disk(tmp_path, request):
    """An empty disk of 1 MB and 16 files."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m,nr_inodes=16", "fastnn-test", str(place)]
    try:
        failed = subprocess.run(mount, capture_output=True).returncode
    except FileNotFoundError:
        failed = True
    if failed:
        pytest.skip("mounting a small disk needs a superuser; test_limits is of the same")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def tensors(size, value=1):
    """One that is written as it is, and one that is copied for it; size bytes in all."""
    n = size // 12
    return {"a": np.full(n, value, np.float32), "b": np.full((n, 3), value, np.float32)[:, ::2].T}


def check_survives(path, old, error, save):
    """save() raises the error, which names the file; the old one is there and nothing else is."""
    before = files(path.parent)
    with pytest.raises(OSError) as raised:
        save()
    assert raised.value.errno == error and raised.value.filename == str(path)
    assert path.read_bytes() == old and files(path.parent) == before
    assert fastnn.load(path)


@posix
@pytest.mark.parametrize("size", [901_000, 1_000_000, 3_000_000])
def test_a_full_disk(disk, size):
    path = disk / "weights.safetensors"
    fastnn.save(path, tensors(200_000))
    old = path.read_bytes()
    check_survives(path, old, errno.ENOSPC, lambda: fastnn.save(path, tensors(size, 2)))
    fastnn.save(path, tensors(300_000, 3))
    assert all((x == 3).all() for x in fastnn.load(path).values()) and files(disk) == [path.name]


@posix
def test_every_amount_of_room(disk):
    """From none to just enough, in steps of a page: refused until it fits."""
    path = disk / "weights.safetensors"
    fastnn.save(path, tensors(40_000))
    old = path.read_bytes()
    filler = disk / "filler"
    page, free = os.statvfs(disk).f_frsize, os.statvfs(disk).f_bfree
    for pages in range(24):
        filler.write_bytes(bytes((free - pages) * page))
        try:
            fastnn.save(path, tensors(60_000, 2))
        except OSError as error:
            assert error.errno == errno.ENOSPC and path.read_bytes() == old
            assert files(disk) == ["filler", path.name]
        else:
            break
        filler.unlink()
    assert 60_000 // page < pages <= 60_000 // page + 2
    assert fastnn.load(path)["a"][0] == 2 and files(disk) == ["filler", path.name]


@posix
def test_no_more_files(disk):
    path = disk / "weights.safetensors"
    fastnn.save(path, tensors(1000))
    old = path.read_bytes()
    with pytest.raises(OSError, match=re.escape(os.strerror(errno.ENOSPC))):
        for i in range(16):
            (disk / str(i)).touch()
    check_survives(path, old, errno.ENOSPC, lambda: fastnn.save(path, tensors(1000, 2)))


@posix
def test_a_disk_that_is_only_read(disk):
    path = disk / "weights.safetensors"
    fastnn.save(path, tensors(1000))
    old = path.read_bytes()
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    check_survives(path, old, errno.EROFS, lambda: fastnn.save(path, tensors(1000, 2)))


LIMITED = """
import errno, resource, sys, numpy as np, fastnn
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), -1))
try:
    fastnn.save(sys.argv[1], {"a": np.ones(100_000), "b": np.ones((300, 300), np.float32).T})
except OSError as error:
    print(errno.errorcode[error.errno], error.filename == sys.argv[1])
"""


@posix
@pytest.mark.parametrize("room", [0, 100, 10_000, 1_000_000])
def test_limits(path, python, room):
    """Of the size of files, which need no superuser."""
    fastnn.save(path, tensors(1000))
    old = path.read_bytes()
    result = python("-B", "-c", LIMITED, str(path), str(room))
    assert result.stdout == "EFBIG True\n", result.stderr
    assert path.read_bytes() == old and files(path.parent) == [path.name]


class Late:
    """A file that fails when it is closed, as where a disk in the network tells late that it is full."""

    def __init__(self, file, error):
        self.file, self.error = file, error

    def __getattr__(self, name):
        return getattr(self.file, name)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.file.close()
        raise self.error


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize("step", ["fsync", "replace", "close"])
def test_errors_that_come_late(path, monkeypatch, step, error):
    fastnn.save(path, tensors(1000))
    old = path.read_bytes()

    failure = OSError(error, os.strerror(error))

    def fail(*args):
        raise failure

    def opened(name, mode, *args, **options):
        file = builtins.open(name, mode, *args, **options)  # noqa: SIM115  # the caller closes it
        return Late(file, failure) if mode == "xb" else file

    with monkeypatch.context() as patch:
        if step == "close":
            patch.setattr(files_module, "open", opened, raising=False)
        else:
            patch.setattr(os, step, fail)
        check_survives(path, old, error, lambda: fastnn.save(path, tensors(1000, 2)))
    fastnn.save(path, tensors(1000, 3))
    assert fastnn.load(path)["a"][0] == 3 and files(path.parent) == [path.name]


AS_NOBODY = """
import errno, os, sys, numpy as np, fastnn
fastnn.save  # read from the package, which nobody else may be allowed to
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
try:
    fastnn.save(sys.argv[1], {"x": np.ones(3)})
except OSError as error:
    print(errno.errorcode[error.errno], error.filename == sys.argv[1])
"""


@posix
def test_a_folder_that_may_not_be_written(tmp_path, python):
    folder = tmp_path / "folder"
    folder.mkdir()
    path = folder / "weights.safetensors"
    fastnn.save(path, tensors(1000))
    old = path.read_bytes()
    folder.chmod(0o555)
    for above in folder.parents[:3]:
        above.chmod(above.stat().st_mode | 0o011)
    result = python("-B", "-c", AS_NOBODY, str(path))
    folder.chmod(0o755)
    assert result.stdout == "EACCES True\n", result.stderr
    assert path.read_bytes() == old and files(folder) == [path.name]


@posix
@pytest.mark.parametrize(
    ("place", "error"),
    [("missing/x", errno.ENOENT), ("file/x", errno.ENOTDIR), ("loop", errno.ELOOP), ("x" * 256, errno.ENAMETOOLONG)],
)
def test_places_where_nothing_can_be(tmp_path, place, error):
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(OSError) as raised:
        fastnn.save(tmp_path / place, tensors(1000))
    assert raised.value.errno == error and os.path.basename(place) in os.fsdecode(raised.value.filename)
    assert files(tmp_path) == ["file", "loop"] and (tmp_path / "file").read_bytes() == b"content"


# ---- training ----


def train(path, epochs=4):
    model = network()
    optimizer = adam(model)
    history = fit(model, problem(), epochs=epochs, optimizer=optimizer, batch_size=8, seed=3, progress=False,
                  checkpoint=path, checkpoint_every=2, resume=True)  # fmt: skip
    return model, history


@posix
def test_training_goes_on_once_there_is_room(disk, tmp_path):
    """The error names the checkpoint, the one before survives, and the run ends as one on a disk with room."""
    expected, history = train(tmp_path / "undisturbed")
    path = disk / "run"
    train(path, epochs=1)
    old = path.read_bytes()
    filler = disk / "filler"
    free = os.statvfs(disk)
    filler.write_bytes(bytes(free.f_bfree * free.f_frsize))
    check_survives(path, old, errno.ENOSPC, lambda: train(path))
    filler.unlink()
    model, resumed = train(path)
    assert equal(model.state_dict(), expected.state_dict()) and timeless(resumed) == timeless(history)
    assert files(disk) == ["run"]


# ---- temporary files ----


def temporary(path):
    """The name of the temporary file of a save to this path."""
    file = files_module.Temporary(str(path))
    file.remove()
    file.release()
    return file.name


@posix
def test_what_a_killed_process_left_is_removed(path):
    for content in (b"", bytes(10_000)):
        with open(temporary(path), "wb") as file:
            file.write(content)
        fastnn.save(path, tensors(1000))
        assert files(path.parent) == [path.name]


@posix
def test_the_file_of_a_process_that_lives_stays(path):
    other = files_module.Temporary(str(path))
    for value in (1, 2):
        fastnn.save(path, tensors(1000, value))
        assert fastnn.load(path)["a"][0] == value
        assert files(path.parent) == [os.path.basename(other.name), path.name]
    other.release()
    fastnn.save(path, tensors(1000))
    assert files(path.parent) == [path.name]


@posix
def test_other_things_of_that_name_are_not_written_to(path, tmp_path):
    """A link, a folder and a pipe where the temporary file would be: taken for a process that lives, or removed."""
    (tmp_path / "victim").write_bytes(b"content")
    first = temporary(path)
    os.symlink(tmp_path / "victim", first)
    os.mkdir(second := first.replace("-0.tmp", "-1.tmp"))
    os.mkfifo(first.replace("-0.tmp", "-2.tmp"))
    fastnn.save(path, tensors(1000))
    assert fastnn.load(path)["a"][0] == 1 and (tmp_path / "victim").read_bytes() == b"content"
    assert os.path.islink(first) and os.path.isdir(second)


def test_where_files_cannot_be_locked(path, monkeypatch):
    """Nobody knows whether the other file's process lives: it stays."""
    other = files_module.Temporary(str(path))
    monkeypatch.setattr(files_module, "flock", None)
    fastnn.save(path, tensors(1000))
    assert files(path.parent) == [os.path.basename(other.name), path.name]
    other.remove()
    other.release()
    assert files(path.parent) == [path.name]


def test_long_names(tmp_path):
    path = tmp_path / ("n" * 255)
    fastnn.save(path, tensors(1000))
    assert fastnn.load(path)["a"][0] == 1 and files(tmp_path) == [path.name]


SAVER = """
import sys, numpy as np, fastnn
path, me, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
print("ready", flush=True)
sys.stdin.readline()
for i in range(count):
    fastnn.save(path, {"x": np.full(10_000 * (1 + me), me), "y": np.full(me + 1, i)}, {"who": str(me)})
"""


@posix
@pytest.mark.timeout(600)
def test_four_processes_save_to_one_name(path, scaled):
    """A reader always finds the file of one of them, whole."""
    count = scaled(25, 1000)
    command = [sys.executable, "-c", SAVER, str(path)]
    environment = {**os.environ, "PYTHONPATH": str(Path(fastnn.__file__).parents[1])}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    savers = [
        subprocess.Popen([*command, str(i), str(count)], env=environment, cwd=path.parent, **pipes) for i in range(4)
    ]
    seen = Counter()
    try:
        fastnn.save(path, {"x": np.full(10_000, 0), "y": np.full(1, 0)}, {"who": "0"})
        for saver in savers:
            assert saver.stdout.readline() == b"ready\n"
        for saver in savers:
            saver.stdin.write(b"go\n")
            saver.stdin.flush()
        while any(saver.poll() is None for saver in savers):
            loaded = fastnn.load(path)
            who = int(loaded["x"][0])
            assert same(loaded["x"], np.full(10_000 * (1 + who), who)) and loaded["y"].shape == (who + 1,)
            seen[who] += 1
        assert [saver.returncode for saver in savers] == [0] * 4
    finally:
        for saver in savers:
            saver.kill()
            saver.communicate()
    assert seen.total() > 0 and files(path.parent) == [path.name]
