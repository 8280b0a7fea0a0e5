"""Build the documentation: python docs/build.py [folder], by default build/site. Needs the extra `docs`.

The pages are README.md, CHANGELOG.md and CONTRIBUTING.md, those of this folder, and one for each public module, from
its docstrings. A warning is an error. Nothing is taken from the network.
"""

import fnmatch
import re
import sys
import tempfile
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

MODULES = {
    "fastnn": "The package itself",
    "fastnn.nn": "Layers",
    "fastnn.functional": "Functions of arrays and Tensors",
    "fastnn.ops": "Operators on arrays, forward and backward",
    "fastnn.optim": "Optimisers",
    "fastnn.optim.lr_scheduler": "Schedules of the learning rate",
    "fastnn.train": "Training",
    "fastnn.data": "Data sets and loaders",
    "fastnn.models": "Networks",
    "fastnn.distributions": "Probability distributions",
    "fastnn.init": "Initial values",
    "fastnn.verify": "Comparison with the reference",
    "fastnn.sklearn": "scikit-learn estimators",
    "fastnn.torch": "PyTorch models on fastnn's kernels",
    "fastnn.onnx": "ONNX files",
    "fastnn.compat.cs231n": "The course's functions",
}
"""Public modules -> what they are. Those that cannot be imported, as an extra is missing, have no page."""

PAGES = {path.name: path for path in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]}
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)#\s]+)(#[^)\s]*)?\)")


def with_links_of_the_site(text, folder):
    """Markdown of a page in folder, whose links to other pages lead to those of the site; links to other files of the
    repository, which are not on it, become the files' names."""

    def link(match):
        words, target, anchor = match.groups()
        if re.match(r"\w+:", target):
            return match[0]
        path = (folder / target).resolve()
        if PAGES.get(path.name) == path:
            return f"[{words}]({path.name}{anchor or ''})"
        if not path.exists():
            raise FileNotFoundError(f"a link to {target} in a page of {folder}: there is no such file")
        name = path.relative_to(ROOT).as_posix()
        return f"`{name}`" if words in (name, path.name, f"`{name}`", f"`{path.name}`") else f"{words} (`{name}`)"

    return LINK.sub(link, text)


def with_matching_patterns(text):
    """Markdown without patterns in tables of contents that no page matches: pages of parts that are not there."""
    return re.sub(r"(?m)^(\S+\*)\n", lambda m: m[0] if fnmatch.filter(PAGES, m[1] + ".md") else "", text)


def public_names(module):
    """What a module's page has: no modules, which have pages of their own."""
    names = getattr(module, "__all__", None) or [name for name in vars(module) if not name.startswith("_")]
    return [name for name in names if not isinstance(getattr(module, name), type(sys))]


def reference_page(name):
    """Markdown of a module's page. What is no class or function, such as a table, would be left out by automodule."""
    module = import_module(name)
    names = public_names(module)
    called = [n for n in names if callable(getattr(module, n))]
    options = f".. automodule:: {name}\n   :members: {', '.join(called)}\n   :undoc-members:\n"
    options += "".join(f"\n.. autodata:: {name}.{n}\n   :no-value:\n" for n in names if n not in called)
    return f"# {name}\n\n{MODULES[name]}.\n\n```{{eval-rst}}\n{options}```\n"


def write_sources(folder):
    """The site's pages, as Sphinx reads them; returns the modules without one."""
    for name, path in PAGES.items():
        text = path.read_text(encoding="utf-8")
        text = with_links_of_the_site(with_matching_patterns(text), path.parent)
        (folder / name).write_text(text, encoding="utf-8")
    for path in (ROOT / "docs").glob("*.png"):
        (folder / path.name).write_bytes(path.read_bytes())
    missing, entries = [], []
    (folder / "api").mkdir()
    for name in MODULES:
        try:
            page = reference_page(name)
        except ImportError as error:
            missing.append(f"{name} ({error})")
            continue
        (folder / "api" / f"{name}.md").write_text(page, encoding="utf-8")
        entries.append(name)
    contents = "\n".join(["# Reference\n", "```{toctree}\n:maxdepth: 1\n", *entries, "```\n"])
    (folder / "api" / "index.md").write_text(contents, encoding="utf-8")
    return missing


def main(target=ROOT / "build" / "site"):
    from sphinx.cmd.build import build_main

    with tempfile.TemporaryDirectory() as work:
        sources, doctrees = Path(work) / "sources", Path(work) / "doctrees"
        sources.mkdir()
        for name in write_sources(sources):
            print(f"no page for {name}", file=sys.stderr)
        status = build_main(
            ["-q", "-W", "--keep-going", "-c", str(ROOT / "docs"), "-d", str(doctrees), str(sources), str(target)]
        )
    if status == 0:
        print(Path(target) / "index.html")
    return status


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
