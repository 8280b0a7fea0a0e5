"""The examples run."""

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import fastnn

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = Path(fastnn.__file__).parent


def run(*arguments, cwd):
    """Standard output of a fresh interpreter with the fastnn under test."""
    env = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    done = subprocess.run([sys.executable, *arguments], cwd=cwd, env=env, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_digits_cnn(tmp_path):
    """The quick form: gradients agree (the script raises if not), and 8 epochs reach 95 % (30 reach 99 %)."""
    pytest.importorskip("sklearn")
    pytest.importorskip("matplotlib")
    output = run(str(ROOT / "examples" / "digits_cnn.py"), "--quick", "--out", "digits.png", cwd=tmp_path)
    accuracy = [float(value) for value in re.findall(r"val_accuracy ([\d.]+)", output)]
    assert len(accuracy) == 8
    assert accuracy[-1] >= 0.95
    assert re.search(r"ratio \d+\.\d", output)
    assert (tmp_path / "digits.png").read_bytes().startswith(b"\x89PNG")


def test_fashion_mnist(tmp_path):
    """On ten kinds of bars under noise, in files such as it reads: 3 epochs tell them apart."""
    pytest.importorskip("matplotlib")
    rng = np.random.default_rng(0)
    for part, n in (("train", 1536), ("t10k", 200)):
        classes = rng.integers(0, 10, n).astype(np.uint8)
        images = rng.integers(0, 128, (n, 12, 11), np.uint8)
        images[np.arange(n), classes + 1] += 100  # a row for each class, the same when mirrored
        for name, array in (("images-idx3", images), ("labels-idx1", classes)):
            header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
            (tmp_path / f"{part}-{name}-ubyte").write_bytes(header + array.tobytes())
    torch = ["--torch"] if find_spec("torch") else []
    script = str(ROOT / "examples" / "fashion_mnist.py")
    output = run(script, "--folder", ".", "--epochs", "3", "--out", "fashion.png", *torch, cwd=tmp_path)
    assert float(re.search(r"Test accuracy ([\d.]+)%", output)[1]) >= 95
    assert len(re.findall(r"val_accuracy", output)) == 3
    assert bool(torch) == bool(re.search(r"PyTorch \S+ [\d.]+ s, ratio \d+\.\d", output))
    assert (tmp_path / "fashion.png").read_bytes().startswith(b"\x89PNG")
