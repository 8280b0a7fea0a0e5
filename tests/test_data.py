"""Data sets, batches, augmentation and IDX files: the same numbers whatever makes them, and nothing lost."""

import gc
import gzip
import multiprocessing
import os
import threading
import time
import traceback
import tracemalloc
from functools import partial

import numpy as np
import pytest

from fastnn import Tensor
from fastnn.data import (
    FASHION_MNIST_CLASSES,
    ArrayDataset,
    Compose,
    DataLoader,
    Dataset,
    Draws,
    Normalize,
    RandomCrop,
    RandomHorizontalFlip,
    Subset,
    ToFloat,
    fashion_mnist,
    mnist,
    random_split,
    read_idx,
)
from fastnn.reference._philox import philox4x32

AUGMENT = Compose([RandomHorizontalFlip(), RandomCrop((5, 6), padding=(1, 2)), ToFloat(1 / 255), Normalize(0.5, 0.25)])


def images(n=37, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (n, 2, 5, 6), np.uint8), rng.integers(0, 10, n)


def same(a, b):
    """Two lists of batches, equal in dtype, shape and every bit."""
    assert len(a) == len(b)
    for one, other in zip(a, b, strict=True):
        assert [(x.dtype, x.shape) for x in one] == [(x.dtype, x.shape) for x in other]
        assert [x.tobytes() for x in one] == [x.tobytes() for x in other]
    return True


def workers_alive():
    return [t for t in threading.enumerate() if t.name.startswith("fastnn.data")]


def assert_no_workers():
    deadline = time.monotonic() + 10
    while workers_alive() and time.monotonic() < deadline:
        time.sleep(0.001)
    assert not workers_alive()


# ---- data sets ----


def test_array_dataset():
    x, y = images()
    data = ArrayDataset(x, y)
    assert len(data) == 37
    assert same([data[5]], [(x[5], y[5])])
    batch = data.take(np.array([3, 0, 3]))
    assert same([batch], [(x[[3, 0, 3]], y[[3, 0, 3]])])
    assert not any(np.shares_memory(a, b) for a, b in zip(batch, (x, y), strict=True))
    assert ArrayDataset(Tensor(np.ones(3))).arrays[0].shape == (3,)


@pytest.mark.parametrize(
    ("arrays", "error", "said"),
    [
        ((), ValueError, "got no arrays"),
        ((np.ones(3), np.ones(4)), ValueError, r"lengths \[3, 4\]"),
        ((np.ones(3), np.float64(1)), TypeError, r"arrays\[1\] must be an array, got float64"),
        ((np.array(1.0),), ValueError, r"arrays\[0\] has no axes"),
        (([1, 2],), TypeError, "got list"),
    ],
)
def test_array_dataset_refuses(arrays, error, said):
    with pytest.raises(error, match=said):
        ArrayDataset(*arrays)


def test_subset():
    x, y = images()
    part = Subset(Subset((x, y), range(10, 20)), [9, 0, 4])
    assert len(part) == 3
    assert same([part.take(np.array([2, 0])), part[1]], [(x[[14, 19]], y[[14, 19]]), (x[10], y[10])])
    assert len(Subset((x, y), [])) == 0
    for indices, error, said in (
        ([0, 37], ValueError, "have 37, expected 0 to 36"),
        ([-1], ValueError, "have -1"),
        ([0.5], TypeError, "integers"),
        ([[0]], TypeError, "integers"),
    ):
        with pytest.raises(error, match=said):
            Subset((x, y), indices)


@pytest.mark.parametrize(
    ("lengths", "counts"),
    [
        ([30, 7], [30, 7]),
        ([0.5, 0.3, 0.2], [19, 11, 7]),
        ([0.9, 0.1], [34, 3]),
        ([37], [37]),
        ([0, 37], [0, 37]),
        ([1.0], [37]),
    ],
)
def test_random_split(lengths, counts):
    """Lengths, or shares whose remainder goes around as torch's does; all samples once, by the seed."""
    torch = pytest.importorskip("torch")
    parts = random_split(np.arange(37), lengths, seed=3)
    assert [len(part) for part in parts] == counts
    assert [len(part) for part in torch.utils.data.random_split(range(37), lengths)] == counts
    order = np.concatenate([part.indices for part in parts])
    assert sorted(order) == list(range(37))
    assert not np.array_equal(order, np.arange(37))
    again, other = (
        np.concatenate([part.indices for part in random_split(np.arange(37), lengths, seed)]) for seed in (3, 4)
    )
    assert np.array_equal(order, again)
    assert not np.array_equal(order, other)


@pytest.mark.parametrize("lengths", [[30, 8], [0.5, 0.4], [-1, 38], [float("nan"), 37], [0.5, 36.5], []])
def test_random_split_refuses(lengths):
    with pytest.raises(ValueError, match="random_split: lengths are"):
        random_split(np.arange(37), lengths)


def test_random_split_one_sample():
    assert [len(part) for part in random_split(np.arange(1), [1])] == [1]


# ---- batches ----


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("n", [0, 1, 31, 32, 33])
def test_in_order(n, drop_last, workers):
    x, y = images(n)
    loader = DataLoader((x, y), batch_size=8, drop_last=drop_last, workers=workers)
    want = [(x[i : i + 8], y[i : i + 8]) for i in range(0, n, 8)]
    want = [batch for batch in want if len(batch[1]) == 8] if drop_last else want
    assert len(loader) == len(want)
    assert same(list(loader), want)
    assert_no_workers()


def test_batches_are_copies():
    x, y = images()
    kept = x.copy(), y.copy()
    for batch in DataLoader((x, y), batch_size=10):
        for array in batch:
            array[...] = 0
    assert same([(x, y)], [kept])


def test_shuffled_by_seed_and_epoch():
    def epochs(seed, count):
        loader = DataLoader(np.arange(100), batch_size=7, shuffle=True, seed=seed)
        return [np.concatenate([x for (x,) in loader]) for _ in range(count)]

    first, second = epochs(0, 2)
    for order in (first, second):
        assert sorted(order) == list(range(100))
    assert len({order.tobytes() for order in (*epochs(0, 3), *epochs(1, 3))}) == 6
    assert np.array_equal(epochs(0, 2), [first, second])
    assert np.array_equal(epochs(2**64, 1), [first])


def test_same_with_any_number_of_workers():
    """Order and augmentation; of batches of another size only the order of the samples' numbers matters."""
    loaders = [
        DataLoader(images(), 8, shuffle=True, seed=5, transform=AUGMENT, workers=workers, prefetch=prefetch)
        for workers, prefetch in ((0, 2), (1, 1), (2, 3), (5, 1))
    ]
    for _ in range(3):
        want, *others = (list(loader) for loader in loaders)
        assert all(same(batches, want) for batches in others)
    whole = DataLoader(images(), 37, shuffle=True, seed=5, transform=AUGMENT)
    whole.set_epoch(2)
    (batch,) = whole
    assert same([batch], [tuple(np.concatenate(parts) for parts in zip(*want, strict=True))])


@pytest.mark.parametrize("workers", [0, 2])
def test_goes_on_after_a_stop(workers):
    """A loader with the state of another in the middle of an epoch goes on with its batches, whatever is prefetched."""

    def make(workers=workers):
        return DataLoader(images(), 4, shuffle=True, seed=1, transform=AUGMENT, workers=workers)

    loader = make()
    list(loader)
    assert loader.state_dict()["epoch"] == 1
    assert loader.state_dict()["batch"] == 0
    iterator = iter(loader)
    for _ in range(3):
        next(iterator)
    state = loader.state_dict()
    assert (state["epoch"], state["batch"]) == (1, 3)
    rest, following = list(iterator), list(loader)

    resumed = make(workers=1 - workers // 2)
    resumed.load_state_dict(state)
    assert resumed.state_dict() == state
    assert same(list(resumed), rest)
    assert same(list(resumed), following)
    resumed.set_epoch(1)
    assert same(list(resumed.start(3)), rest)
    assert same(list(resumed), following)


def test_state_behind_the_last_batch():
    """Before the loop has ended there is an epoch to end; then there is the next one."""
    loader = DataLoader(np.arange(6), 3)
    iterator = iter(loader)
    next(iterator), next(iterator)
    state = loader.state_dict()
    assert (state["epoch"], state["batch"]) == (0, 2)
    assert next(iterator, None) is None
    assert loader.state_dict()["epoch"] == 1
    loader.load_state_dict(state)
    assert list(loader) == []
    assert loader.state_dict()["epoch"] == 1


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"seed": 1}, ValueError, "seed is 1, expected 0"),
        ({"samples": 5}, ValueError, "samples is 5, expected 6"),
        ({"batch_size": 2}, ValueError, "batch_size is 2, expected 3"),
        ({"shuffle": True}, ValueError, "shuffle is True, expected False"),
        ({"batch": 3}, ValueError, "batch is 3, expected at most 2"),
        ({"epoch": -1}, ValueError, "epoch is -1"),
        ({"epoch": "1"}, TypeError, "epoch must be an integer"),
    ],
)
def test_state_of_another_loader(change, error, said):
    loader = DataLoader(np.arange(6), 3)
    state = loader.state_dict()
    with pytest.raises(error, match=said):
        loader.load_state_dict(state | change)
    assert loader.state_dict() == state


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"batch_size": 0}, ValueError, "batch_size is 0, expected at least 1"),
        ({"batch_size": 2.0}, TypeError, "batch_size must be an integer, got 2.0"),
        ({"workers": -1}, ValueError, "workers is -1, expected at least 0"),
        ({"workers": True}, TypeError, "workers must be an integer"),
        ({"prefetch": 0}, ValueError, "prefetch is 0"),
        ({"seed": 0.5}, TypeError, "seed must be an integer"),
        ({"transform": 3}, TypeError, "transform must be callable, got 3"),
        ({"dataset": 3}, TypeError, "dataset must be a Dataset, an array or a tuple of arrays, got int"),
        ({"dataset": (np.ones(3), np.ones(2))}, ValueError, r"lengths \[3, 2\]"),
    ],
)
def test_loader_refuses(options, error, said):
    with pytest.raises(error, match=said):
        DataLoader(**{"dataset": np.arange(6), **options})


class Squares(Dataset):
    """Samples made one by one; number `bad` fails."""

    def __init__(self, n, bad=None):
        self.n, self.bad = n, bad

    def __len__(self):
        return self.n

    def __getitem__(self, index):
        if index == self.bad:
            raise ZeroDivisionError("the bad sample")
        return np.full((2, 3), index, np.float32), index**2


@pytest.mark.parametrize("workers", [0, 2])
def test_samples_one_by_one(workers):
    batches = list(DataLoader(Squares(5), 3, workers=workers))
    want = np.arange(5, dtype=np.float32)[:, None, None] + np.zeros((1, 2, 3), np.float32)
    assert same(batches, [(want[:3], np.arange(3) ** 2), (want[3:], np.array([9, 16]))])
    assert same(list(DataLoader(list(np.arange(5.0)), 3)), [(np.arange(3.0),), (np.arange(3.0, 5),)])


def test_samples_of_different_sizes():
    with pytest.raises(ValueError, match=r"\[1, 2\] parts"):
        list(DataLoader([(1,), (1, 2)]))


# ---- threads ----


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_exception_reaches_the_loop(workers):
    """After the batches before it, with the traceback of where it was raised; the next epoch can be begun."""
    loader = DataLoader(Squares(100, bad=50), 8, workers=workers)
    seen = 0
    with pytest.raises(ZeroDivisionError, match="the bad sample") as caught:
        for _ in loader:
            seen += 1
    assert seen == 6
    assert "in __getitem__" in "".join(traceback.format_exception(caught.value))
    del caught
    assert_no_workers()
    loader.dataset.bad = None
    assert len(list(loader)) == len(loader)


def test_threads_leave_after_break():
    loader = DataLoader(Squares(1000), 2, workers=3)
    for _ in loader:
        assert workers_alive()
        break
    assert_no_workers()


def test_threads_leave_after_an_exception_in_the_loop():
    with pytest.raises(KeyError):
        for _ in DataLoader(Squares(1000), 2, workers=3):
            raise KeyError
    assert_no_workers()


def test_threads_leave_when_a_cycle_is_collected():
    class Cycle:
        pass

    cycle = Cycle()
    cycle.itself, cycle.iterator = cycle, iter(DataLoader(Squares(1000), 2, workers=2))
    next(cycle.iterator)
    del cycle
    gc.collect()
    assert_no_workers()


def test_no_more_is_prefetched_than_said():
    taken = []

    class Counted(Squares):
        def take(self, indices):
            taken.append(int(indices[0]))
            return super().take(indices)

    iterator = iter(DataLoader(Counted(100), 1, workers=2, prefetch=3))
    next(iterator)
    deadline = time.monotonic() + 10
    while len(taken) < 7 and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(0.02)
    assert sorted(taken) == list(range(7))
    iterator.close()


def in_child(function):
    """What function() returns in a forked child, which has 20 seconds."""
    receive, send = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(send, repr(function()).encode())
        finally:
            os._exit(0)
    os.close(send)
    deadline = time.monotonic() + 20
    while os.waitpid(child, os.WNOHANG)[0] == 0:
        if time.monotonic() > deadline:
            os.kill(child, 9)
            os.waitpid(child, 0)
            break
        time.sleep(0.001)
    with os.fdopen(receive) as file:
        return file.read()


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # Python 3.12 warns of any fork beside threads
def test_fork():
    loader = DataLoader(np.arange(100), 2, workers=2)
    iterator = iter(loader)
    next(iterator)

    def go_on():
        try:
            return next(iterator)
        except RuntimeError as error:
            return str(error)

    assert "threads do not survive fork" in in_child(go_on)
    assert in_child(lambda: sum(int(x.sum()) for (x,) in loader)) == "4950"
    assert len(list(iterator)) == 49


# ---- augmentation ----


def test_draws_are_philox():
    """Against the generator itself, one sample at a time; a permutation of the samples permutes the numbers."""
    indices = np.array([0, 5, 2**33 + 1])
    draws = Draws(seed=2**40 + 7, epoch=9, indices=indices)
    got = np.array([draws.uniform() for _ in range(6)])
    for column, i in zip(got.T, indices.tolist(), strict=True):
        for k in range(6):
            counter = np.array([[i % 2**32], [i >> 32], [9], [k // 4]])
            assert column[k] == philox4x32(counter, (7, 2**8), rounds=10)[k % 4, 0] / 2**32
    draws = Draws(2**40 + 7, 9, indices[::-1])
    assert np.array_equal(np.array([draws.uniform() for _ in range(6)]), got[:, ::-1])


def test_draws_are_uniform():
    """Mean, variance and frequencies within 5 standard deviations."""
    n = 100_000
    draws = Draws(0, 0, np.arange(n))
    u, v = draws.uniform(), draws.uniform()
    assert u.min() >= 0
    assert u.max() < 1
    assert abs(u.mean() - 0.5) < 5 * (1 / 12 / n) ** 0.5
    assert abs(np.corrcoef(u, v)[0, 1]) < 5 / n**0.5
    counts = np.bincount(draws.integers(-2, 5) + 2, minlength=7)
    assert len(counts) == 7
    assert abs(counts - n / 7).max() < 5 * (n / 7 * 6 / 7) ** 0.5


def test_flip():
    x, _ = images(500)
    kept = x.copy()
    y = RandomHorizontalFlip(0.3)(x, Draws(0, 0, np.arange(500)))
    flipped = Draws(0, 0, np.arange(500)).uniform() < 0.3
    assert 100 < flipped.sum() < 200
    assert np.array_equal(y, np.where(flipped[:, None, None, None], x[..., ::-1], x))
    assert np.array_equal(x, kept)
    assert np.array_equal(RandomHorizontalFlip(0)(x, Draws(0, 0, np.arange(500))), x)
    assert np.array_equal(RandomHorizontalFlip(1)(x, Draws(0, 0, np.arange(500))), x[..., ::-1])


def test_crop():
    """Each image is one of the windows of its padded self, and all windows come."""
    x, _ = images(500)
    y = RandomCrop((4, 6), padding=(1, 2))(x, Draws(0, 0, np.arange(500)))
    assert y.shape == (500, 2, 4, 6)
    assert y.flags.c_contiguous
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (2, 2)))
    draws = Draws(0, 0, np.arange(500))
    top, left = draws.integers(0, 4), draws.integers(0, 5)
    assert len(set(zip(top.tolist(), left.tolist(), strict=True))) == 20
    for i in range(500):
        assert np.array_equal(y[i], padded[i, :, top[i] : top[i] + 4, left[i] : left[i] + 6])
    assert np.array_equal(RandomCrop((5, 6))(x, Draws(0, 0, np.arange(500))), x)


def test_float_and_normalize():
    x, _ = images()
    y = ToFloat(1 / 255)(x)
    assert y.dtype == np.float32
    np.testing.assert_allclose(y, x / 255, rtol=2 * np.finfo(np.float32).eps)
    assert ToFloat(1)(x.astype(np.float64)).dtype == np.float32
    for dtype in (np.float32, np.float64):
        z = Normalize((0.25, 0.5), (0.5, 2))(y.astype(dtype))
        assert z.dtype == dtype
        want = (y.astype(np.float64) - np.reshape([0.25, 0.5], (2, 1, 1))) / np.reshape([0.5, 2], (2, 1, 1))
        np.testing.assert_allclose(z, want, rtol=0, atol=4 * np.finfo(dtype).eps)


@pytest.mark.parametrize(
    ("make", "x", "error", "said"),
    [
        (lambda: RandomHorizontalFlip(1.5), None, ValueError, "p is 1.5"),
        (lambda: RandomHorizontalFlip("1"), None, TypeError, "p must be a number"),
        (lambda: RandomCrop(0), None, ValueError, "size is 0, expected at least 1"),
        (lambda: RandomCrop((3, 3, 3)), None, TypeError, "size must be an integer or two"),
        (lambda: RandomCrop(3, padding=-1), None, ValueError, "padding is -1"),
        (lambda: RandomCrop(8, 1), images()[0], ValueError, r"size is \(8, 8\), expected at most \(7, 8\)"),
        (lambda: RandomCrop(3), np.ones((3, 3)), ValueError, r"shape \(3, 3\), expected \(N, C, H, W\)"),
        (RandomHorizontalFlip, [1], TypeError, "must be an array, got list"),
        (lambda: Normalize(0, 0), None, ValueError, "std is"),
        (lambda: Normalize([0, np.inf], 1), None, ValueError, "mean is"),
        (lambda: Normalize(0, 1), images()[0], TypeError, "dtype uint8, expected float32 or float64"),
        (lambda: Normalize((0, 0, 0), 1), images()[0] / 2, ValueError, "mean has 3 numbers, x has 2 channels"),
        (lambda: Compose([3]), None, TypeError, r"transforms\[0\] must be callable"),
    ],
)
def test_transforms_refuse(make, x, error, said):
    with pytest.raises(error, match=said):
        make()(x, Draws(0, 0, np.arange(37)))


def test_repr():
    assert repr(Compose([RandomHorizontalFlip(), RandomCrop(28, 2), ToFloat(1), Normalize(0, 1)])) == (
        "Compose([RandomHorizontalFlip(p=0.5), RandomCrop(size=(28, 28), padding=(2, 2)), ToFloat(scale=1.0), "
        "Normalize(mean=[0.0], std=[1.0])])"
    )


# ---- files ----


def idx(array, kind, shape=None):
    """The bytes of an IDX file."""
    shape = array.shape if shape is None else shape
    lengths = b"".join(n.to_bytes(4, "big") for n in shape)
    return bytes([0, 0, kind, len(shape)]) + lengths + array.astype(array.dtype.newbyteorder(">")).tobytes()


@pytest.fixture
def folder(tmp_path):
    """Four files of 12 and 5 images, half of them compressed."""
    rng = np.random.default_rng(0)
    for part, n in (("train", 12), ("t10k", 5)):
        x, y = rng.integers(0, 256, (n, 4, 3), np.uint8), rng.integers(0, 10, n).astype(np.uint8)
        (tmp_path / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(x, 8)))
        (tmp_path / f"{part}-labels-idx1-ubyte").write_bytes(idx(y, 8))
    return tmp_path


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("kind", "dtype"), [(8, "u1"), (9, "i1"), (11, "i2"), (12, "i4"), (13, "f4"), (14, "f8")], ids=str
)
def test_read_idx(kind, dtype, packed, tmp_path):
    for shape in ((3, 4, 5), (7,), (0, 3), ()):
        array = np.random.default_rng(0).integers(0, 100, shape).astype(dtype)
        data = idx(np.asarray(array), kind)
        (tmp_path / "x").write_bytes(gzip.compress(data) if packed else data)
        assert same([(read_idx(tmp_path / "x"),)], [(np.asarray(array),)])


compressed = partial(gzip.compress, mtime=0)  # the same in every process
WHOLE = idx(np.arange(6, dtype=np.uint8).reshape(2, 3), 8)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "begins with b''"),
        (b"\0\0\x08", "begins with"),
        (b"\x01" + WHOLE[1:], "expected two bytes 0"),
        (b"\0\0\x0a" + WHOLE[3:], "one of 0x08, 0x09, 0x0b"),
        (b"\0\0\x08\xff" + WHOLE[4:], "255 axes"),
        (WHOLE[:9], "ends in its header"),
        (WHOLE[:-1], "has 5 bytes of data, expected 6"),
        (WHOLE + b"\0", "goes on after the 6 bytes"),
        (idx(np.arange(6, dtype=np.uint8), 8, (2**32 - 1,) * 40), "of its size can hold"),
        (idx(np.zeros(0, np.uint8), 8, (0, *(2**32 - 1,) * 40)), "of its size can hold"),
        (compressed(WHOLE[:-1]), "has 5 bytes of data, expected 6"),
        (compressed(WHOLE + b"\0"), "goes on after"),
        (compressed(idx(np.zeros(0, np.uint8), 8, (2**30,))), "of its size can hold"),
        (compressed(WHOLE)[:-9], "not a whole gzip file"),
        (compressed(WHOLE)[:-5] + b"\0\0\0\0\0", "not a whole gzip file"),
        (compressed(WHOLE)[:10] + b"\xff" * 20, "not a whole gzip file"),
        (b"\x1f\x8b\x00", "not a whole gzip file"),
    ],
)
def test_malformed_idx(data, said, tmp_path):
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(ValueError, match=said):
        read_idx(tmp_path / "x")


def test_gzip_bomb(tmp_path):
    """100 MB behind an array of 6 bytes: they are not unpacked."""
    (tmp_path / "x").write_bytes(gzip.compress(WHOLE + bytes(100_000_000), 1))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="goes on after"):
            read_idx(tmp_path / "x")
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_fashion_mnist(folder, monkeypatch):
    x_train, y_train, x_test, y_test = fashion_mnist(folder)
    assert [(a.shape, str(a.dtype)) for a in (x_train, y_train, x_test, y_test)] == [
        ((12, 1, 4, 3), "uint8"),
        ((12,), "int64"),
        ((5, 1, 4, 3), "uint8"),
        ((5,), "int64"),
    ]
    rng = np.random.default_rng(0)
    assert np.array_equal(x_train[:, 0], rng.integers(0, 256, (12, 4, 3), np.uint8))
    assert np.array_equal(y_train, rng.integers(0, 10, 12))
    monkeypatch.setenv("FASTNN_FASHION_MNIST", str(folder))
    assert same([fashion_mnist()], [mnist(str(folder))])
    assert len(FASHION_MNIST_CLASSES) == 10


def test_missing_files(folder, monkeypatch):
    (folder / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(FileNotFoundError, match=r"no t10k-labels-idx1-ubyte\.gz"):
        mnist(folder)
    monkeypatch.setenv("FASTNN_FASHION_MNIST", str(folder / "nowhere"))
    with pytest.raises(FileNotFoundError, match="apt install dataset-fashion-mnist"):
        fashion_mnist()


def test_files_that_do_not_belong_together(folder):
    labels = folder / "train-labels-idx1-ubyte"
    labels.write_bytes(idx(np.zeros(11, np.uint8), 8))
    with pytest.raises(ValueError, match=r"has 12 images, .* has 11 classes"):
        mnist(folder)
    labels.write_bytes(idx(np.zeros(12, np.int32), 12))
    with pytest.raises(ValueError, match=r"int32 of shape .*, expected uint8 with 1 axes"):
        mnist(folder)
    labels.write_bytes(idx(np.zeros(12, np.uint8), 8))
    (folder / "t10k-images-idx3-ubyte.gz").write_bytes(idx(np.zeros((5, 4, 4), np.uint8), 8))
    with pytest.raises(ValueError, match=r"\(4, 3\), those for testing \(4, 4\)"):
        mnist(folder)
