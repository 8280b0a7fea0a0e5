"""The pages: their Python runs, their commands are understood, CONTRIBUTING quotes the tree as it is, the site builds.

In a page's Markdown, comments say what a reader need not see:

    <!-- needs: torch, sklearn -->    the page's Python is skipped without these
    <!-- setup                        Python that runs before the block below, such as data for the names that it uses
    x = ...
    -->
    <!-- not run: reason -->          above a block that must not run
"""

import argparse
import os
import re
import shlex
import subprocess
import sys
import types
from importlib import import_module
from pathlib import Path

import pytest

import fastnn
import fastnn.cli

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = Path(fastnn.__file__).parent
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
}

NEEDS = re.compile(r"<!-- needs: (.*?) -->")
NOT_RUN = re.compile(r"<!-- not run: (.+?) -->\n+```python\n", re.DOTALL)
QUOTE = re.compile(r"^`([\w/.]+)`:\n\n```\w+\n(.*?)```$", re.DOTALL | re.MULTILINE)
PYTHON = re.compile(r"^(?:```python|<!-- setup)\n(.*?)^(?:```|-->)$", re.DOTALL | re.MULTILINE)
COMMANDS = re.compile(r"^```(?:sh|console)\n(.*?)^```$", re.DOTALL | re.MULTILINE)

UNRUN = {}
"""Page -> how many of its blocks are not run, for a reason that it gives."""

EXPECTED = {
    "README.md": r"largest difference: \d\S*e-0[5-9]\n",
    "docs/layers.md": r"(?s)epoch 20/20.*Conv2d",
}
"""Page -> pattern of what its Python prints."""


def program(page):
    """A page's Python, every line at its place in the page, so that a traceback names it there."""
    text = PAGES[page]
    left_out = [match.end() for match in NOT_RUN.finditer(text)] + [match.start(2) for match in QUOTE.finditer(text)]
    lines = [""] * (text.count("\n") + 1)
    for match in PYTHON.finditer(text):
        if match.start(1) not in left_out:
            first = text.count("\n", 0, match.start(1))
            block = match[1].splitlines()
            lines[first : first + len(block)] = block
    return "\n".join(lines)


PROGRAMS = {page: code for page in PAGES if (code := program(page)).strip()}


def test_pages_with_python():
    assert set(PROGRAMS) >= {"README.md", *(f"docs/{name}.md" for name in ("index", "install", "tutorial", "layers"))}


def test_blocks_that_are_not_run():
    assert {page: len(found) for page, text in PAGES.items() if (found := NOT_RUN.findall(text))} == UNRUN


@pytest.mark.parametrize("page", PROGRAMS)
def test_python(page, tmp_path):
    """A page's blocks, one after the other, as a reader would type them, in an empty folder."""
    for needs in NEEDS.findall(PAGES[page]):
        for module in needs.split(", "):
            pytest.importorskip(module)
    script = tmp_path / Path(page).name
    script.write_text(PROGRAMS[page], encoding="utf-8")
    env = {**os.environ, "PYTHONPATH": str(PACKAGE.parent), "PYTHONIOENCODING": "utf-8", "MPLBACKEND": "agg"}
    result = subprocess.run(
        [sys.executable, "-W", "error", str(script)],
        cwd=tmp_path, env=env, capture_output=True, text=True, encoding="utf-8", timeout=240,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    assert re.search(EXPECTED.get(page, ""), result.stdout), result.stdout


# ---- commands ----


def commands(page):
    """Words of each command in a page's blocks for the shell."""
    text = "".join(COMMANDS.findall(PAGES[page])).replace("\\\n", " ")
    for line in text.splitlines():
        words = shlex.split(line.removeprefix("$ "), comments=True)
        while words:
            end = words.index("&&") if "&&" in words else len(words)
            # Settings of the environment stand before the command.
            yield words[next(i for i, word in enumerate(words) if "=" not in word) : end]
            words = words[end + 1 :]


COMMANDS_OF = {page: list(commands(page)) for page in PAGES if COMMANDS.search(PAGES[page])}


@pytest.fixture
def understood(monkeypatch):
    """The command line's parser, without what would run."""
    parse = argparse.ArgumentParser.parse_args

    def parsed(self, argv=None, namespace=None):
        args = parse(self, argv, namespace)
        args.run = lambda args, parser: 0
        return args

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parsed)


@pytest.mark.parametrize("page", COMMANDS_OF)
def test_commands(page, understood):
    """Commands of fastnn have arguments that it knows, programs of the tree and extras of the package exist."""
    extras = set(re.findall(r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE))
    for words in COMMANDS_OF[page]:
        if words[0] == "fastnn" and "--help" not in words:
            assert fastnn.cli.main(words[1:]) == 0
        if words[0].startswith("python") and words[1].endswith(".py"):
            assert (ROOT / words[1]).exists(), words
        for word in words:
            if named := re.fullmatch(r"(?:fastnn|\.|\S+\.whl)\[(.+)\]", word):
                assert set(named[1].split(",")) <= extras, words


# ---- quotes ----

QUOTES = QUOTE.findall(PAGES["CONTRIBUTING.md"])


def test_contributing_quotes():
    assert len(QUOTES) >= 10


@pytest.mark.parametrize(("path", "code"), QUOTES, ids=[path for path, _ in QUOTES])
def test_contributing_quote(path, code):
    """The walk through ReLU shows the files as they are."""
    assert code in (ROOT / path).read_text(encoding="utf-8")


# ---- the site ----


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site's folder."""
    for module in ("sphinx", "myst_parser", "furo"):
        pytest.importorskip(module)
    target = tmp_path_factory.mktemp("site")
    env = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    command = [sys.executable, str(ROOT / "docs" / "build.py"), str(target)]
    result = subprocess.run(command, cwd=target, env=env, capture_output=True, text=True, timeout=240)
    assert result.returncode == 0, result.stdout + result.stderr
    return target


def test_site_has_all_pages(site):
    for page in PAGES:
        assert (site / Path(page).name).with_suffix(".html").exists(), page


REFERENCE = ("nn", "functional", "ops", "optim", "optim.lr_scheduler", "train", "data", "models", "distributions")


def test_site_has_all_public_names(site):
    """Every public name has an entry, under its module's name; modules have pages."""
    read = import_module("sphinx.util.inventory").InventoryFile.loads
    inventory = read((site / "objects.inv").read_bytes(), uri="")
    found = {name for kind, names in inventory.data.items() if kind.startswith("py:") for name in names}
    for name in ["fastnn", *(f"fastnn.{module}" for module in REFERENCE)]:
        module = import_module(name)
        public = getattr(module, "__all__", None) or [name for name in vars(module) if name.endswith("_forward")]
        entries = {f"{name}.{entry}" for entry in public if not isinstance(getattr(module, entry), types.ModuleType)}
        assert entries and not entries - found
