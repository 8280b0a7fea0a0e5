"""What the papers show runs: the example, the README's Python, and the code that CONTRIBUTING quotes."""

import os
import re
import subprocess
import sys
from pathlib import Path

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
    """The quick form: gradients agree (the script raises if not), and 8 epochs reach 95 % (30 reach 98 %)."""
    pytest.importorskip("sklearn")
    pytest.importorskip("matplotlib")
    output = run(str(ROOT / "examples" / "digits_cnn.py"), "--quick", "--out", "digits.png", cwd=tmp_path)
    accuracy = [float(percent) for percent in re.findall(r"held-out accuracy ([\d.]+)%", output)]
    assert len(accuracy) == 8
    assert accuracy[-1] >= 95
    assert re.search(r"ratio \d+\.\d", output)
    assert (tmp_path / "digits.png").read_bytes().startswith(b"\x89PNG")


def test_readme_python(tmp_path):
    """All blocks, one after the other, as a reader would type them."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) >= 2
    output = run("-W", "error", "-c", "\n".join(blocks), cwd=tmp_path)
    assert float(output.rpartition(":")[2]) < 1e-4


QUOTE = re.compile(r"^`([\w/.]+)`:\n\n```\w+\n(.*?)```$", re.DOTALL | re.MULTILINE)
QUOTES = QUOTE.findall((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))


def test_contributing_quotes():
    assert len(QUOTES) >= 10


@pytest.mark.parametrize(("path", "code"), QUOTES, ids=[path for path, _ in QUOTES])
def test_contributing_quote(path, code):
    """The walk through ReLU shows the files as they are."""
    assert code in (ROOT / path).read_text(encoding="utf-8")
