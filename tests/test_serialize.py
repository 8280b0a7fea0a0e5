"""Weights in files: what is saved comes back, files are the safetensors package's, malformed ones are refused."""

import errno
import json
import math
import os
import re
import signal
import stat
import threading
import time
import tracemalloc
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors_support import blob, entry, files, one, same

import fastnn
import fastnn.files as files_module
from fastnn.serialize import DTYPES, MAX_HEADER, match

posix = pytest.mark.skipif(os.name != "posix", reason="a test of POSIX signals, limits and modes")

SAVED = [np.dtype(code) for name, code in DTYPES.items() if name != "BF16"]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "weights.safetensors"


def values_of(dtype, shape=(3, 5), seed=0):
    """Random bits, NaNs with payloads among them; 0 and 1 for booleans."""
    bits = np.random.default_rng(seed).integers(0, 256, math.prod(shape) * dtype.itemsize, np.uint8)
    return (bits & 1 if dtype.kind == "b" else bits).view(dtype).reshape(shape)


# ---- round trips ----


@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize("shape", [(), (0,), (1,), (3, 5), (2, 0, 3), (1,) * 64])
@pytest.mark.parametrize("dtype", SAVED, ids=str)
def test_round_trip(path, dtype, shape, mmap):
    x = values_of(dtype, shape)
    fastnn.save(path, {"x": x})
    assert same(fastnn.load(path, mmap=mmap)["x"], x)


LAYOUTS = {
    "Fortran": np.asfortranarray,
    "transposed": lambda x: x.T,
    "reversed": lambda x: x[::-1, ::-1],
    "strided": lambda x: x[::2, 1::3],
    "broadcast": lambda x: np.broadcast_to(x[:, :1], (4, *x[:, :1].shape)),
    "big-endian": lambda x: x.astype(x.dtype.newbyteorder(">")),
    "big-endian, strided": lambda x: x.astype(x.dtype.newbyteorder(">"))[:, ::2],
    "subclass": lambda x: x.view(np.recarray),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", SAVED, ids=str)
def test_every_layout_is_written_right(path, dtype, layout):
    x = LAYOUTS[layout](values_of(dtype, (6, 7)))
    before = x.tobytes()
    x.flags.writeable = False
    fastnn.save(path, {"x": x})
    assert same(fastnn.load(path)["x"], np.array(x, dtype.newbyteorder("="), order="C"))
    assert x.tobytes() == before


def test_misaligned_arrays_are_written_right(path):
    x = np.zeros(41, np.uint8)[1:].view(np.float64)
    x[:] = range(5)
    assert not x.flags.aligned
    fastnn.save(path, {"x": x})
    assert fastnn.load(path)["x"].tolist() == [0, 1, 2, 3, 4]


def test_booleans_of_other_bits_are_saved_as_true(path):
    fastnn.save(path, {"x": np.array([[0, 1], [2, 255]], np.uint8).view(bool).T})
    assert fastnn.load(path)["x"].view(np.uint8).tolist() == [[0, 1], [1, 1]]


NAMES = ["", "a.b/c\\d", 'quo"te', "line\nbreak\t\x00\x1f\x7f", "ü", "重み", "\U0001f600", "\u2028", "a" * 10_000]


def test_names_and_metadata_are_any_text(path):
    tensors = {name: np.full((), i, np.int32) for i, name in enumerate(NAMES)}
    metadata = {name: name[::-1] for name in NAMES}
    fastnn.save(path, tensors, metadata)
    assert {name: int(x) for name, x in fastnn.load(path).items()} == {name: i for i, name in enumerate(NAMES)}
    assert fastnn.load_metadata(path) == metadata


@pytest.mark.parametrize("metadata", [None, {}])
def test_nothing_at_all(path, metadata):
    fastnn.save(path, {}, metadata)
    assert path.read_bytes() == blob("{}      ")
    assert fastnn.load(path) == fastnn.load(path, mmap=True) == {}
    assert fastnn.load_metadata(path) == {}


@pytest.mark.parametrize("kind", [str, os.fsencode, Path])
def test_paths_of_every_kind(path, kind):
    fastnn.save(kind(path), {"x": np.ones(2)}, {"a": "b"})
    assert fastnn.load(kind(path))["x"].tolist() == [1, 1]
    assert fastnn.load_metadata(kind(path)) == {"a": "b"}


@hypothesis.given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"])).filter(lambda name: name != "__metadata__"),
        hnp.arrays(st.sampled_from(SAVED), hnp.array_shapes(min_dims=0, min_side=0, max_side=4)),
        max_size=5,
    ),
    st.dictionaries(*[st.text(st.characters(exclude_categories=["Cs"]))] * 2, max_size=3),
)
def test_round_trip_of_anything(tmp_path_factory, tensors, metadata):
    path = tmp_path_factory.getbasetemp() / "anything.safetensors"
    fastnn.save(path, tensors, metadata)
    assert fastnn.load_metadata(path) == metadata
    for mmap in (False, True):
        loaded = fastnn.load(path, mmap=mmap)
        assert loaded.keys() == tensors.keys()
        assert all(same(loaded[name], tensors[name]) for name in tensors)
    assert {name: x.tobytes() for name, x in safetensors.numpy.load_file(path).items()} == {
        name: x.tobytes() for name, x in tensors.items()
    }


# ---- memory ----


def test_loaded_arrays_are_ones_own(path):
    fastnn.save(path, {"a": np.ones(3, np.float32), "b": np.ones(3, np.float32)})
    loaded = fastnn.load(path)
    loaded["a"][:] = 2
    assert loaded["a"].flags.owndata and loaded["b"].tolist() == [1, 1, 1]
    assert fastnn.load(path)["a"].tolist() == [1, 1, 1]


def test_mapped_arrays_are_read_only_views(path):
    fastnn.save(path, {"a": np.arange(3.0), "b": np.array(7, np.int8)})
    loaded = fastnn.load(path, mmap=True)
    for x in loaded.values():
        assert not x.flags.owndata and x.flags.aligned
        with pytest.raises(ValueError, match="read-only"):
            x[...] = 0
        with pytest.raises(ValueError, match="WRITEABLE"):
            x.flags.writeable = True


@pytest.mark.parametrize("mmap", [False, True])
def test_unaligned_data_are_aligned(path, mmap):
    # One byte in front of eight; both headers of odd length, so that the whole data are shifted.
    a, b = entry('"U8"', "[1]", "[0,1]"), entry('"F64"', "[]", "[1,9]")
    text = f'{{"a":{a},"b":{b}}}'
    for padding in range(8):
        path.write_bytes(blob(text + " " * padding, b"\x07" + np.float64(1.5).tobytes()))
        loaded = fastnn.load(path, mmap=mmap)
        assert loaded["a"].tolist() == [7] and loaded["b"] == 1.5
        assert loaded["b"].flags.aligned and loaded["b"].flags.writeable == (not mmap)


@posix
def test_a_mapped_file_can_be_saved_over(path):
    x = np.random.default_rng(0).standard_normal(100_000)
    fastnn.save(path, {"x": x})
    mapped = fastnn.load(path, mmap=True)
    fastnn.save(path, {"x": mapped["x"][::-1]})
    assert same(mapped["x"], x)
    assert same(fastnn.load(path)["x"], x[::-1])


def peak(function):
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


MiB = 1 << 20


def test_memory_of_loading_and_saving(path):
    # One array at a time beside what the caller holds; 2 MiB for whatever the interpreter does.
    x = np.ones((4, MiB), np.float32)
    tensors = {"a": x, "b": x, "c": x[:1].T, "d": x.view(">f4")[:1]}
    assert peak(lambda: fastnn.save(path, tensors)) < 4 * MiB + 2 * MiB
    assert peak(lambda: fastnn.load(path)) < 40 * MiB + 2 * MiB
    assert peak(lambda: fastnn.load(path, mmap=True)) < 2 * MiB
    assert peak(lambda: fastnn.load_metadata(path)) < MiB
    path.write_bytes(one(bytes(8 * MiB), dtype='"BF16"', shape=f"[{4 * MiB}]", data_offsets=f"[0,{8 * MiB}]"))
    assert peak(lambda: fastnn.load(path)) < 16 * MiB + 2 * MiB


# ---- the safetensors package ----


def some_tensors(names="zyxwvutsrqponmlkjihgfedcba"):
    return {
        f"{name}.{dtype}": values_of(dtype, shape, i)
        for i, (name, dtype) in enumerate(zip(names, SAVED * 2, strict=True))
        for shape in [[(), (0, 2), (3,), (2, 3)][i % 4]]
    }


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_bytes_are_those_of_the_package(path, metadata):
    tensors = {**some_tensors(), **{name: np.ones(1, np.float32) for name in NAMES}}
    fastnn.save(path, tensors, metadata)
    assert path.read_bytes() == safetensors.numpy.save(tensors, metadata)


def test_equal_arguments_give_equal_bytes(path):
    tensors = some_tensors()
    metadata = dict.fromkeys("hello world", "x")
    fastnn.save(path, tensors, metadata)
    before = path.read_bytes()
    fastnn.save(path, dict(reversed(tensors.items())), dict(reversed(metadata.items())))
    assert path.read_bytes() == before
    assert int.from_bytes(before[:8], "little") % 8 == 0


@pytest.mark.parametrize("mmap", [False, True])
def test_files_of_the_package_load(path, mmap):
    tensors = some_tensors()
    safetensors.numpy.save_file(tensors, path, {"a": "1", "b": "2"})
    loaded = fastnn.load(path, mmap=mmap)
    assert loaded.keys() == tensors.keys()
    assert all(same(loaded[name], tensors[name]) for name in tensors)
    assert fastnn.load_metadata(path) == {"a": "1", "b": "2"}


def test_tensors_come_in_the_order_of_their_data(path):
    path.write_bytes(blob(f'{{"b":{entry(data_offsets="[4,8]")},"e":{entry(shape="[0]", data_offsets="[4,4]")},'
                          f'"a":{entry()}}}', b"12345678"))  # fmt: skip
    assert list(fastnn.load(path)) == ["a", "e", "b"]
    assert fastnn.load(path)["b"].tobytes() == b"5678"


@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize("shape", [(), (0,), (65536,), (3, 218453)])
def test_bfloat16_becomes_float32_exactly(path, shape, mmap):
    # All bit patterns, and more than are read at a time; an odd byte in front.
    bits = np.resize(np.arange(65536, dtype="<u2"), shape)
    a, w = entry('"I8"', "[1]", "[0,1]"), entry('"BF16"', list(shape), [1, 1 + bits.nbytes])
    text = f'{{"a":{a},"w":{w}}}'
    path.write_bytes(blob(text, b"\x01" + bits.tobytes()))
    w = fastnn.load(path, mmap=mmap)["w"]
    assert w.dtype == np.float32 and w.shape == shape and w.flags.writeable == (not mmap)
    assert (w.view(np.uint32) == bits.astype(np.uint32) * 65536).all()


@pytest.mark.parametrize("kind", ["float32", "float64", "float16", "bfloat16", "int64", "uint8", "bool", "complex64"])
def test_a_state_dict_of_torch_loads(path, kind):
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    torch.manual_seed(0)
    state = {name: 100 * torch.randn(shape) for name, shape in {"w": (4, 3), "b": (4,), "n": ()}.items()}
    state = {name: x.to(getattr(torch, kind)) for name, x in state.items()}
    save_file(state, path, {"format": "pt"})
    loaded = fastnn.load(path)
    assert fastnn.load_metadata(path) == {"format": "pt"}
    for name, x in state.items():
        expected = (x.float() if kind == "bfloat16" else x).numpy()
        assert same(loaded[name], expected)


# ---- files by hand ----


def test_white_space_that_json_allows(path):
    path.write_bytes(blob(f'{{\n\t"w" : {entry().replace(",", " , ").replace("[", "[ ")}\r\n}} \n', b"1234"))
    assert fastnn.load(path)["w"].tobytes() == b"1234"


def test_errors_of_the_system_pass(path, tmp_path):
    for function in (fastnn.load, fastnn.load_metadata):
        with pytest.raises(FileNotFoundError):
            function(path)
        with pytest.raises(IsADirectoryError if os.name == "posix" else OSError):
            function(tmp_path)
        with pytest.raises(TypeError):
            function(0)
    with pytest.raises(FileNotFoundError):
        fastnn.save(tmp_path / "missing" / "x", {})


# ---- what save refuses ----


def named(value):
    return {"layer.weight": value}


@pytest.mark.parametrize(
    ("tensors", "metadata", "error", "message"),
    [
        (
            named(np.zeros(2, object)),
            None,
            TypeError,
            "tensor 'layer.weight' has dtype object, expected one of uint64,",
        ),
        (named(np.zeros(2, "U3")), None, TypeError, "tensor 'layer.weight' has dtype <U3"),
        (named(np.zeros(2, "S4")), None, TypeError, "tensor 'layer.weight' has dtype |S4"),
        (named(np.zeros(2, "M8[s]")), None, TypeError, "tensor 'layer.weight' has dtype datetime64[s]"),
        (named(np.zeros(2, "m8[s]")), None, TypeError, "tensor 'layer.weight' has dtype timedelta64[s]"),
        (named(np.zeros(2, "f4,f4")), None, TypeError, "tensor 'layer.weight' has dtype [('f0'"),
        (named(np.zeros(2, "V4")), None, TypeError, "tensor 'layer.weight' has dtype |V4"),
        (named(np.zeros(2, complex)), None, TypeError, "tensor 'layer.weight' has dtype complex128"),
        (named([1.0]), None, TypeError, "tensor 'layer.weight' must be a NumPy array, got list"),
        (named(np.float32(1)), None, TypeError, "tensor 'layer.weight' must be a NumPy array, got float32"),
        (named(np.ma.zeros(2)), None, TypeError, "tensor 'layer.weight' must be a NumPy array, got MaskedArray"),
        ({3: np.zeros(2)}, None, TypeError, "a tensor's name must be a string, got 3"),
        ({b"w": np.zeros(2)}, None, TypeError, "a tensor's name must be a string, got b'w'"),
        ({"__metadata__": np.zeros(2)}, None, ValueError, "a tensor is named '__metadata__'"),
        ({"\ud800": np.zeros(2)}, None, ValueError, r"a tensor's name is '\ud800', expected Unicode"),
        ([np.zeros(2)], None, TypeError, "tensors must be a dict, got list"),
        ({}, [], TypeError, "metadata must be a dict, got list"),
        ({}, {"a": 1}, TypeError, "metadata['a'] must be a string, got 1"),
        ({}, {1: "a"}, TypeError, "a key of metadata must be a string, got 1"),
        ({}, {"a": "\udfff"}, ValueError, r"metadata['a'] is '\udfff', expected Unicode"),
        ({}, {"a": "x" * MAX_HEADER}, ValueError, "the header would have 100000032 bytes, expected at most 100000000"),
    ],
)
def test_save_refuses(path, tensors, metadata, error, message):
    path.write_bytes(b"old")
    with pytest.raises(error, match=re.escape(f"save: {message}")):
        fastnn.save(path, tensors, metadata)
    assert files(path.parent) == [path.name] and path.read_bytes() == b"old"


def test_long_double_is_refused(path):
    if np.dtype(np.longdouble).itemsize == 8:
        pytest.skip("long double is double here")
    with pytest.raises(TypeError, match="tensor 'x' has dtype"):
        fastnn.save(path, {"x": np.zeros(1, np.longdouble)})


@posix
def test_folders_and_devices_are_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path, tmp_path / "pipe", os.devnull):
        with pytest.raises(ValueError, match="expected nothing or a regular file there"):
            fastnn.save(place, {})
    assert files(tmp_path) == ["pipe"] and stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


# ---- saving is all or nothing ----


@pytest.fixture
def old(path):
    """A file that must survive."""
    fastnn.save(path, {"x": np.zeros(1000)}, {"version": "old"})
    return path.read_bytes()


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), OSError(errno.EIO, "broken"), MemoryError()], ids=repr)
@pytest.mark.parametrize("step", ["fsync", "replace", "chmod"])
def test_a_failure_at_any_step_leaves_the_old_file(path, old, monkeypatch, step, failure):
    def fail(*args):
        raise failure

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(type(failure)):
        fastnn.save(path, {"x": np.ones(1000)})
    assert path.read_bytes() == old and files(path.parent) == [path.name]


def test_a_failure_while_data_are_written_leaves_the_old_file(path, old):
    class Broken(np.ndarray):
        def astype(self, *args, **kwargs):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fastnn.save(path, {"a": np.ones(MiB), "b": np.ones(3).view(Broken)})
    assert path.read_bytes() == old and files(path.parent) == [path.name]


@pytest.fixture
def in_pieces(monkeypatch):
    """The disk is told to begin after every 100 bytes, in another thread."""
    monkeypatch.setattr(files_module, "PIECE", 100)


def test_the_disk_begins_while_data_are_written(path, monkeypatch):
    x = {"a": np.arange(1000.0), "b": np.arange(55, dtype=np.int8), "c": np.arange(2000.0).reshape(40, 50).T}
    fastnn.save(path, x)
    whole = path.read_bytes()
    threads, fsync = [], os.fsync

    def recorded(descriptor):
        threads.append(threading.current_thread())
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", recorded)
    monkeypatch.setattr(files_module, "PIECE", 100)
    fastnn.save(path, x)
    assert path.read_bytes() == whole
    assert threads[0] is not threading.main_thread()
    assert not threads[0].is_alive()
    assert threads[-1] is threading.main_thread()


def test_a_failure_of_the_disk_meanwhile_leaves_the_old_file(path, old, monkeypatch, in_pieces):
    """The system does not tell of it a second time."""
    failures, fsync = [OSError(errno.EIO, "broken")], os.fsync

    def fail_once(descriptor):
        if failures:
            raise failures.pop()
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fail_once)
    with pytest.raises(OSError, match="broken"):
        fastnn.save(path, {"x": np.ones(1000)})
    assert path.read_bytes() == old and files(path.parent) == [path.name]


def test_a_failure_while_the_disk_writes_waits_for_it(path, old, monkeypatch, in_pieces):
    class Broken(np.ndarray):
        def astype(self, *args, **kwargs):
            raise KeyboardInterrupt

    begun, done, fsync = [], [], os.fsync

    def slow(descriptor):
        begun.append(descriptor)
        time.sleep(0.05)
        fsync(descriptor)
        done.append(descriptor)

    monkeypatch.setattr(os, "fsync", slow)
    with pytest.raises(KeyboardInterrupt):
        fastnn.save(path, {"a": np.ones(1000), "b": np.ones(3).view(Broken)})
    assert begun and begun == done
    assert path.read_bytes() == old and files(path.parent) == [path.name]


def test_saving_where_no_thread_can_be_started(path, monkeypatch, in_pieces):
    def start(thread):
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(files_module.Thread, "start", start)
    fastnn.save(path, {"x": np.arange(1000)})
    assert (fastnn.load(path)["x"] == np.arange(1000)).all()


@posix
def test_a_folder_that_cannot_be_synchronised_is_no_failure(path, old, monkeypatch):
    fsync = os.fsync

    def only_files(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "no")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", only_files)
    fastnn.save(path, {"x": np.ones(2)})
    assert fastnn.load(path)["x"].tolist() == [1, 1]


@posix
def test_data_are_on_the_disk_before_the_name_is(path, monkeypatch):
    steps = []

    def recorded(name, function):
        def call(*args):
            is_folder = name == "fsync" and stat.S_ISDIR(os.fstat(args[0]).st_mode)
            steps.append("fsync folder" if is_folder else name)
            return function(*args)

        return call

    for name in ("fsync", "replace"):
        monkeypatch.setattr(os, name, recorded(name, getattr(os, name)))
    fastnn.save(path, {"x": np.ones(2)})
    assert steps == ["fsync", "replace", "fsync folder"]


KILLED = """
import os, signal, sys, numpy as np, fastnn
def die(*args, **options):
    os.kill(os.getpid(), signal.SIGKILL)
step = sys.argv[2]
if step == "after replace":
    replace = os.replace
    os.replace = lambda *args: die(replace(*args))
elif step == "data":
    class Deadly(np.ndarray):
        astype = die
else:
    setattr(os, step, die)
x = np.ones(1000)
fastnn.save(sys.argv[1], {"a": x, "x": x.view(Deadly) if step == "data" else x}, {"version": "new"})
"""


@posix
@pytest.mark.parametrize("step", ["data", "fsync", "replace", "after replace"])
def test_a_kill_at_any_step_leaves_the_old_or_the_new_file(path, old, python, step):
    assert python("-c", KILLED, str(path), step).returncode == -signal.SIGKILL
    version = "new" if step == "after replace" else "old"
    assert fastnn.load_metadata(path) == {"version": version}
    assert (fastnn.load(path)["x"] == (version == "new")).all()


@posix
def test_the_mode_of_a_file_stays_and_a_new_one_has_that_of_any(path):
    before = os.umask(0o027)
    try:
        fastnn.save(path, {})
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        path.chmod(0o604)
        fastnn.save(path, {})
        assert stat.S_IMODE(path.stat().st_mode) == 0o604
    finally:
        os.umask(before)


@posix
def test_a_link_stays_a_link(path, tmp_path):
    (tmp_path / "real").mkdir()
    target = tmp_path / "real" / "file"
    path.symlink_to(target)
    for i in range(2):
        fastnn.save(path, {"x": np.full((), i)})
        assert path.is_symlink() and fastnn.load(target)["x"] == i
    assert files(tmp_path / "real") == ["file"]


# ---- matching names ----


def test_match():
    given = {"a": np.zeros((2, 3)), "b": np.zeros(()), "d": np.zeros(4)}
    assert match({"a": (2, 3), "b": (), "d": (4,)}, given) == ([], [])
    names = match({"a": (2, 3), "c": (1,)}, given, strict=False)
    assert names.missing == ["c"] and names.unexpected == ["b", "d"]
    with pytest.raises(ValueError) as error:
        match({"a": (3, 2), "b": (), "c": (1,)}, given)
    assert str(error.value) == (
        "match: the tensors do not fit:\n  'a' has shape (2, 3), expected (3, 2)\n  missing: 'c'\n  unexpected: 'd'"
    )
    with pytest.raises(ValueError, match=re.escape("'a' has shape (2, 3), expected (3, 2)")):
        match({"a": (3, 2)}, given, strict=False)


def test_headers_are_json(path):
    fastnn.save(path, {"w": np.ones((2, 3), np.float32)}, {"b": "2", "a": "1"})
    data = path.read_bytes()
    header = data[8 : 8 + int.from_bytes(data[:8], "little")]
    assert json.loads(header) == {
        "__metadata__": {"a": "1", "b": "2"},
        "w": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
    }
