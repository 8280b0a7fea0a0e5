"""What other processes do in the tests of processes, and how to wait for one."""

import copy
import hashlib
import os
import pickle
import select
import signal
import sys
import time
from pathlib import Path

import numpy as np

import fastnn
import fastnn.functional as F
from fastnn import data, nn, ops, optim
from fastnn.verify import forced

SECONDS = 60
"""After which a process hangs: what is waited for takes less than one, on an idle machine."""


def script(python, code, *, end=0, **environment):
    """What a fresh interpreter of the fixture `python` printed, as words; it must end with this code, and complain of
    nothing. It can import this module."""
    paths = os.pathsep.join([str(Path(fastnn.__file__).parents[1]), str(Path(__file__).parent)])
    # Python 3.12 warns of forks beside threads.
    quiet = {"OMP_WAIT_POLICY": "passive", "PYTHONWARNINGS": "ignore::DeprecationWarning"}
    environment = {"PYTHONPATH": paths, **quiet, **environment}
    result = python("-c", code, timeout=2 * SECONDS, **environment)
    assert (result.returncode, result.stderr) == (end, ""), f"{result.returncode}: {result.stdout}{result.stderr}"
    return result.stdout.split()


class Small(nn.Module):
    """Layers of all families: (N, 2, 8, 8) -> (N, 3)."""

    def __init__(self):
        self.conv = nn.Conv2d(2, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.pool = nn.MaxPool2d(2)
        self.lstm = nn.LSTM(8, 16, batch_first=True)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.dropout = nn.Dropout(0.3)
        self.linear = nn.Linear(16, 3)

    def forward(self, x):
        pixels = self.pool(F.relu(self.norm(self.conv(x)))).flatten(2).transpose(1, 2)
        states, _ = self.lstm(pixels)
        seen, _ = self.attention(states, states, states)
        return self.linear(self.dropout(seen.mean(1)))


def samples():
    rng = np.random.default_rng(0)
    return rng.standard_normal((12, 2, 8, 8)).astype(np.float32), rng.integers(0, 3, 12)


def digest(arrays):
    """Of their bits."""
    return hashlib.sha256(b"".join(x.tobytes() for x in arrays)).hexdigest()


def train(seed=0):
    """Three steps of Adam, on batches that a thread makes; the digest of what came out."""
    fastnn.manual_seed(seed)
    model = Small()
    optimizer = optim.Adam(model.parameters())
    for x, y in data.DataLoader(samples(), batch_size=4, workers=1):
        optimizer.zero_grad()
        F.cross_entropy(model(fastnn.Tensor(x)), y).backward()
        optimizer.step()
    return digest(model.state_dict().values())


def gradients(model):
    """The digest of those of a model in inference mode: unlike `train`, no call draws random numbers, so that several
    threads may do the same."""
    model = copy.deepcopy(model).eval()
    x, y = samples()
    F.cross_entropy(model(fastnn.Tensor(x)), y).backward()
    return digest(p.grad for p in model.parameters())


def train_on_threads(threads):
    """The same, every call of a kernel in parallel."""
    with forced(threads=threads):
        return train()


def kernel_and_cache():
    """A parallel kernel whose result is large enough to be kept when it is freed."""
    ops.relu_forward(np.ones(200_000, np.float32))


def predict(model, x):
    return model(x)


def wrong_shape():
    nn.Linear(3, 2)(np.ones((4, 5), np.float32))


def forked(work, seconds=SECONDS):
    """What work() returns in a fork of this process."""
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.close(reader)
            with open(writer, "wb") as file:
                try:
                    pickle.dump(work(), file)
                except BaseException as error:
                    pickle.dump(error, file)
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as file:
        if not select.select([file], [], [], seconds)[0]:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise AssertionError("the child hangs")
        answer = file.read()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status == 0, f"the child ended with {status}"
    answer = pickle.loads(answer)
    if isinstance(answer, BaseException):
        raise answer
    return answer


# ---- throughput ----


def conv_net():
    """For inference: (N, 8, 32, 32) -> (N, 10)."""
    layers = [nn.Conv2d(8, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(32 * 16 * 16, 10)).eval()


def infer(calls):
    """(begin, end) of so many calls in this process, on one thread."""
    fastnn.set_num_threads(1)
    model, x = conv_net(), np.ones((4, 8, 32, 32), np.float32)
    for _ in range(20):
        model(x)
    begin = time.monotonic()
    for _ in range(calls):
        model(x)
    return begin, time.monotonic()


if __name__ == "__main__":  # in a process with an environment of its own: train on so many threads
    print(train_on_threads(int(sys.argv[1])))
