"""Sphinx's settings, for the sources that docs/build.py puts together, and how docstrings become reStructuredText."""

import re
import textwrap

import fastnn

project = "fastnn"
author = copyright = "the fastnn developers"
version = release = fastnn.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.mathjax"]
html_theme = "furo"
html_title = f"fastnn {release}"
templates_path = []
exclude_patterns = []

myst_heading_anchors = 4
myst_enable_extensions = ["dollarmath"]
myst_dmath_double_inline = True
suppress_warnings = ["myst.header"]

autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_preserve_defaults = True


# ---- docstrings: plain text with `code`, lists, and code that is indented or a call over several lines ----


def escaped(text):
    """Text with `code` in reStructuredText."""
    parts = re.split(r"(`+[^`]+`+)", text)
    parts[::2] = [re.sub(r"([\\*_|`])", r"\\\1", part) for part in parts[::2]]
    # No space is needed around code in the source: an escaped one ends it.
    parts[1::2] = ["\\ ``" + part.strip("`").strip() + "``\\ " for part in parts[1::2]]
    return "".join(parts)


def literal(lines):
    return ["::", "", *textwrap.indent(textwrap.dedent("\n".join(lines)), "    ").splitlines()]


def converted(paragraph):
    """A paragraph, which is prose, a list or code."""
    first = paragraph[0]
    if first.startswith(("    ", ">>> ")) or any(re.search(r"[(\[{]$", line) for line in paragraph):
        return literal(paragraph)
    items = []
    for line in paragraph:
        if line.startswith((" ", "\t")) and items:
            items[-1] += " " + line.strip()
        else:
            items.append(line.strip())
    listed = first.startswith("- ")
    if not listed and len(items) == len(paragraph):
        return [escaped(" ".join(items))]
    return ["* " + escaped(re.sub("^- ", "", item)) for item in items]


def process(app, what, name, obj, options, lines):
    """A docstring's lines, changed in place."""
    result, paragraph = [], []
    for line in [*lines, ""]:
        if line.strip():
            paragraph.append(line)
        elif paragraph:
            result += [*converted(paragraph), ""]
            paragraph = []
    lines[:] = result


def skip(app, what, name, obj, skipped, options):
    """Methods that scikit-learn makes for its estimators; None: as Sphinx would."""
    return True if re.fullmatch(r"set_\w+_request", name) else None


def setup(app):
    app.connect("autodoc-skip-member", skip)
    app.connect("autodoc-process-docstring", process)
    return {"parallel_read_safe": True}
