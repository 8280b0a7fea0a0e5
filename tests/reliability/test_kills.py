"""Processes that are killed at random moments while they save or train: files are whole, and training goes on bit for
bit. One process forks the victims, kills them, and looks at what they left."""

import os
import re

import pytest

posix = pytest.mark.skipif(not hasattr(os, "fork"), reason="a test of POSIX signals")

# Each victim saves again and again; the last one that returned is version, or the one after it.
SAVES = """
import os, random, signal, sys, time
from collections import Counter
import numpy as np, fastnn

path, kills, largest = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
folder = os.path.dirname(path)
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background ignores
rng = random.Random(1)
sizes = [size for size in (1_000, 30_000, 1_000_000, 10_000_000, 50_000_000) if size <= largest]

def save(version, size):
    # Two tensors, of which one is copied for it, so that there is time between the first and the last byte.
    x = np.full((2, size // 32), version)
    fastnn.save(path, {"a": x, "b": x.T}, {"version": str(version), "size": str(size)})

def victim(version, size):
    try:
        while True:
            version += 1
            save(version, size)
    except KeyboardInterrupt:
        os._exit(1)

def seconds(size):
    save(0, size)
    start = time.perf_counter()
    save(0, size)
    return time.perf_counter() - start

def ended(pid, number):
    # A SIGINT that comes while Python is still forking is lost: again, if the victim lives on.
    while True:
        os.kill(pid, number)
        for _ in range(200):
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.005)

def temporary():
    return {entry.inode() for entry in os.scandir(folder) if entry.name.endswith(".tmp")}

durations = {size: seconds(size) for size in sizes}
counts = Counter()
version = 0
for kill in range(kills):
    size = sizes[kill % len(sizes)]
    number = rng.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
    old = temporary()
    pid = os.fork()
    if not pid:
        victim(version, size)
    if kill % 2:  # at any time
        time.sleep(3 * durations[size] * rng.random())
    else:  # when a file is there that is not complete, or soon after
        number = signal.SIGKILL
        while temporary() <= old:
            pass
        time.sleep(durations[size] * rng.choice([0, 0, rng.random()]))
    assert ended(pid, number) in (-number, 1)

    x = fastnn.load(path)
    metadata = fastnn.load_metadata(path)
    found = int(metadata["version"])
    assert found >= version, (found, version)
    assert x["a"].shape == (2, int(metadata["size"]) // 32) and (x["a"] == found).all()
    assert x["b"].shape == x["a"].shape[::-1] and (x["b"] == found).all()
    version = found
    left = [name for name in os.listdir(folder) if name != os.path.basename(path)]
    assert len(left) <= 1, left
    if left:
        written = os.path.getsize(os.path.join(folder, left[0]))
        counts["opened" if not written else "written in part" if written < size else "written"] += 1
    elif number != signal.SIGINT:
        counts["between"] += 1
    else:
        counts["interrupted, and tidied up"] += 1
save(version, 1_000)
assert os.listdir(folder) == [os.path.basename(path)]
print(*(f"{count} {what};" for what, count in sorted(counts.items())))
"""


@posix
@pytest.mark.timeout(3600)
def test_kills_while_saving(tmp_path, python, scaled):
    """The file is the old or the new one, and at most one temporary file is left, which the next save removes."""
    arguments = scaled((12, 1_000_000), (200, 50_000_000))
    result = python("-c", SAVES, str(tmp_path / "weights.safetensors"), *map(str, arguments), timeout=3000)
    assert result.returncode == 0, result.stderr
    hits = sum(map(int, re.findall(r"(\d+) (?:opened|written)", result.stdout)))
    # Half of the kills are aimed at the writing; were it never hit, nothing would have been tested.
    assert hits >= arguments[0] // 12, result.stdout
    print(result.stdout)


# A network with running statistics and dropout, images that are flipped and cropped, Adam, a schedule, early stopping.
TRAINING = """
import json, os, random, signal, sys, time
from collections import Counter
import numpy as np, fastnn
import fastnn.nn as nn
from fastnn import optim
from fastnn.data import ArrayDataset, Compose, DataLoader, RandomCrop, RandomHorizontalFlip, ToFloat
from fastnn.train import EarlyStopping, fit

signal.signal(signal.SIGINT, signal.default_int_handler)
folder, kills, each = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])

def train(path):
    fastnn.manual_seed(1)
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (60, 3, 8, 8), np.uint8), rng.integers(0, 4, 60)
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.2), nn.Flatten(),
                          nn.Linear(512, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 4))
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    augmented = DataLoader(ArrayDataset(x, y), 10, shuffle=True, seed=3, transform=Compose(
        [RandomHorizontalFlip(), RandomCrop((8, 8), 1), ToFloat()]))
    history = fit(
        model, augmented, epochs=6, optimizer=optimizer, metrics="accuracy", clip_grad_norm=1.0, progress=False,
        validation_data=(x[:20].astype(np.float32), y[:20]), gradient_statistics=2, seed=3,
        scheduler=optim.lr_scheduler.CosineAnnealingLR(optimizer, 6), checkpoint=path, checkpoint_every=1, resume=True,
        early_stopping=EarlyStopping(patience=10, restore_best=True))
    if history.stopped == "interrupted":
        os._exit(1)
    arrays, options = optim.flatten_state(optimizer.state_dict())
    stored = history.to_dict()
    del stored["values"]["seconds"]
    fastnn.save(path + ".result", {**model.state_dict(), **arrays, "rng": fastnn.get_rng_state()},
                {"history": json.dumps(stored), "options": json.dumps(options)})

def victim(path):
    code = 1
    try:
        train(path)
        code = 0
    except KeyboardInterrupt:
        pass
    except BaseException:
        import traceback
        traceback.print_exc()
        code = 2
    os._exit(code)

def finished(path, delay=None, number=None):
    '''Did a victim come to its end? It is killed after a delay.'''
    pid = os.fork()
    if not pid:
        victim(path)
    if delay is not None:
        time.sleep(delay)
        os.kill(pid, number)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code in (0, 1, -(number or 0)), code
    return code == 0

def content(path):
    with open(path + ".result", "rb") as file:
        return file.read()

undisturbed = os.path.join(folder, "undisturbed")
start = time.perf_counter()
assert finished(undisturbed)
seconds = time.perf_counter() - start
rng = random.Random(2)
counts = Counter()
while counts["kills"] < kills:
    path = os.path.join(folder, "run")
    done = False
    mine = 0
    while not done:
        number = rng.choice([signal.SIGKILL] * 3 + [signal.SIGTERM, signal.SIGINT])
        done = finished(path, 2.5 * seconds / each * rng.random(), number) if mine < each else finished(path)
        left = [name for name in os.listdir(folder) if name.endswith(".tmp")]
        assert len(left) <= 1, left
        mine += not done
        counts["in the middle of a checkpoint"] += bool(left) and not done
    assert content(path) == content(undisturbed)
    counts["kills"] += mine
    counts["runs"] += 1
    for name in ("run", "run.result"):
        os.unlink(os.path.join(folder, name))
    assert sorted(os.listdir(folder)) == ["undisturbed", "undisturbed.result"]
print(*(f"{count} {what};" for what, count in sorted(counts.items())))
"""


@posix
@pytest.mark.timeout(3600)
def test_kills_while_training(tmp_path, python, scaled):
    """Weights, optimiser, random numbers and History of the resumed run are those of one that was left alone."""
    kills, each = scaled((10, 5), (200, 8))
    result = python("-c", TRAINING, str(tmp_path), str(kills), str(each), timeout=3000)
    assert result.returncode == 0, result.stderr + result.stdout
    assert int(re.search(r"(\d+) kills", result.stdout)[1]) >= kills
    print(result.stdout)
