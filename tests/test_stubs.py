"""Stubs of compiled modules name what is there."""

import ast
import importlib
from pathlib import Path

import pytest

import fastnn

PACKAGE = Path(fastnn.__file__).parent
STUBS = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): path
    for path in PACKAGE.rglob("*.pyi")
    if path.name != "__init__.pyi"
}


def declared(path):
    """Names at the top level of a stub."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id


@pytest.mark.parametrize("name", STUBS)
def test_stub(name):
    module = importlib.import_module(name)
    names = set(declared(STUBS[name]))
    assert names <= set(dir(module))
    functions = {f for f, value in vars(module).items() if type(value).__name__ in ("builtin_function_or_method",
                 "cython_function_or_method") and not f.startswith("_")}  # fmt: skip
    assert functions <= names, "functions without a stub"
