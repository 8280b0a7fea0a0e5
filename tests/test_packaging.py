"""What the distribution says and holds: version, metadata, files, and the platforms that wheels are built for."""

import fnmatch
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import fastnn

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")

NOT_IN_SDIST = (".ci/*", ".github/*", ".gitignore")


def test_one_version():
    """fastnn.__version__ is what the distribution's is read from: SemVer, and no other place has it."""
    assert re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc)\d+)?", fastnn.__version__)
    assert 'version = { attr = "fastnn.__version__" }' in PYPROJECT
    assert not re.search(r'(?m)^version = "', PYPROJECT)
    latest = re.search(r"## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))
    assert latest[1] in (fastnn.__version__, "Unreleased")


def installed():
    """Metadata of the fastnn under test, if that is installed."""
    for distribution in metadata.distributions(name="fastnn"):
        if Path(str(distribution.locate_file("fastnn"))) == Path(fastnn.__file__).parent and distribution.files:
            return distribution
    return pytest.skip("fastnn is not installed")


def test_metadata():
    about = installed().metadata
    assert about["Version"] == fastnn.__version__
    assert about["Requires-Python"] == ">=3.10"
    required = [line for line in about.get_all("Requires-Dist") if "extra ==" not in line]
    assert required == ["numpy>=2.0"]


PYTHONS = ("cp310", "cp311", "cp312", "cp313", "cp314", "cp314t")
PLATFORMS = {
    "linux": ("manylinux_x86_64", "manylinux_aarch64"),
    "macos": ("macosx_x86_64", "macosx_arm64"),
    "windows": ("win_amd64",),
}


@pytest.mark.parametrize("platform", PLATFORMS)
def test_wheels(platform):
    """cibuildwheel understands the configuration, and makes these wheels of it."""
    pytest.importorskip("cibuildwheel")
    found = []
    for arch in {"linux": ("x86_64", "aarch64"), "macos": ("x86_64", "arm64"), "windows": ("AMD64",)}[platform]:
        command = [sys.executable, "-m", "cibuildwheel", "--print-build-identifiers", "--platform", platform]
        result = subprocess.run([*command, "--archs", arch, str(ROOT)], capture_output=True, text=True, timeout=60)
        assert result.returncode == 0, result.stderr
        found += result.stdout.split()
    assert sorted(found) == sorted(f"{python}-{tag}" for python in PYTHONS for tag in PLATFORMS[platform])


def test_workflows():
    """They are YAML, and build what pyproject.toml configures."""
    yaml = pytest.importorskip("yaml")
    if not (ROOT / ".github").exists():
        pytest.skip("an sdist has no workflows")
    for path in (ROOT / ".github" / "workflows").glob("*.yml"):
        jobs = yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"]
        assert jobs and all("runs-on" in job and job["steps"] for job in jobs.values()), path.name


def test_sdist_has_every_file():
    """Everything in the repository, but for what serves it alone, is named in MANIFEST.in or taken by setuptools."""
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not in a repository")
    patterns = ["pyproject.toml", "setup.py", "MANIFEST.in", "fastnn/*.py", *NOT_IN_SDIST]
    for line in (ROOT / "MANIFEST.in").read_text(encoding="utf-8").splitlines():
        command, *words = line.split()
        folder = {"include": "", "recursive-include": f"{words[0]}/"}[command]
        patterns += [f"{folder}{pattern}" for pattern in (words[1:] if folder else words)]
        patterns += [f"{folder}*/{pattern}" for pattern in words[1:] if folder]
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    assert listed.returncode == 0, listed.stderr
    files = listed.stdout.splitlines()
    assert len(files) > 300
    assert [f for f in files if not any(fnmatch.fnmatchcase(f, pattern) for pattern in patterns)] == []
