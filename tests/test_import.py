"""`import fastnn`: what it loads and what it leaves for later, and what it does to the process."""

import ast
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import fastnn

NEW_MODULES = "import sys, numpy; before = set(sys.modules); {}; print(*set(sys.modules) - before)"


def new_modules(python, statements):
    """Modules that statements load beyond what `import numpy` does."""
    result = python("-c", NEW_MODULES.format(statements))
    assert result.returncode == 0, result.stderr
    return set(result.stdout.split())


# ---- what is loaded ----


def test_import_loads_what_every_program_needs(python):
    loaded = new_modules(python, "import fastnn")
    assert {"fastnn.ops", "fastnn.functional", "fastnn.autograd"} <= loaded
    lazy = {f"fastnn.{module}" for module in fastnn.LAZY.values()}
    assert not loaded & (lazy | {"fastnn.registry", "fastnn.specs", "fastnn.verify", "fastnn.measure", "fastnn.cli"})
    assert not loaded & {"numpy.ma", "json", "pathlib", "matplotlib"}
    assert "inspect" not in loaded or "dataclasses" in loaded  # which imports it; not all NumPys have loaded both
    # Cython registers modules of its own for what extensions share.
    foreign = {name for name in loaded if not name.startswith(("_cython_", "cython_runtime", "fastnn"))}
    assert {name.partition(".")[0] for name in foreign} <= {*sys.stdlib_module_names, "numpy"}


def test_calls_on_arrays_load_nothing(python):
    code = "import fastnn; x = numpy.ones((1, 2)); {}fastnn.functional.linear(x, x); fastnn.functional.relu(x)"
    assert new_modules(python, code.format("")) == new_modules(python, "import fastnn")


def test_specs_are_loaded_by_the_first_tensor(python):
    code = "import fastnn; x = fastnn.tensor([1.0], requires_grad=True); {}"
    assert "fastnn.registry" not in new_modules(python, code.format("x + x"))
    assert "fastnn.specs.elementwise" in new_modules(python, code.format("fastnn.functional.relu(x)"))


def test_import_is_quick(python, tmp_path):
    """With its bytecode, as it is when installed, a fifth of the limit on a machine with nothing else to do."""
    code = "import time, numpy; start = time.perf_counter(); import fastnn; print(time.perf_counter() - start)"
    bytecode = {"PYTHONDONTWRITEBYTECODE": None, "PYTHONPYCACHEPREFIX": str(tmp_path)}
    assert min(float(python("-c", code, **bytecode).stdout) for _ in range(5)) < 0.1


# ---- names that are loaded when they are used ----


def test_all_names(python):
    """LAZY's are public, and each is there."""
    assert set(fastnn.__all__) >= set(fastnn.LAZY)
    code = "from fastnn import *; import fastnn; print(*[name for name in fastnn.__all__ if name not in globals()])"
    result = python("-c", code)
    assert result.stdout.split() == [], result.stderr
    assert result.returncode == 0, result.stderr


LAZY_NAMES = """
import sys, fastnn
assert set(fastnn.LAZY) <= set(dir(fastnn))
for name, module in fastnn.LAZY.items():
    value = getattr(fastnn, name)
    found = sys.modules[f"fastnn.{module}"]
    assert value is (found if name == module else getattr(found, name)), name
    assert vars(fastnn)[name] is value, name
"""


def test_lazy_names(python):
    result = python("-c", LAZY_NAMES)
    assert result.returncode == 0, result.stderr


def test_lazy_names_as_type_checkers_see_them():
    tree = ast.parse(Path(fastnn.__file__).read_text(encoding="utf-8"))
    [block] = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    seen = {}
    for statement in block.body:
        assert isinstance(statement, ast.ImportFrom)
        for alias in statement.names:
            seen[alias.name] = alias.name if statement.module == "fastnn" else statement.module.removeprefix("fastnn.")
    assert seen == fastnn.LAZY


@pytest.mark.parametrize("name", [name for name, module in fastnn.LAZY.items() if name != module])
def test_lazy_names_are_no_modules(name):
    """Importing a module puts it in its package's place of that name."""
    assert find_spec(f"fastnn.{name}") is None


def test_unknown_name():
    with pytest.raises(AttributeError, match="module 'fastnn' has no attribute 'laod'"):
        _ = fastnn.laod
    with pytest.raises(ImportError, match="cannot import name 'laod' from 'fastnn'"):
        from fastnn import laod  # noqa: F401


# ---- what it does to the process ----

FP_ENVIRONMENT = """
import numpy as np
tiny = np.array([np.finfo(np.float32).tiny], np.float32)
import fastnn
y, ctx = fastnn.ops.relu_forward(np.ones(100_000, np.float32))
assert (tiny / 2)[0] != 0 and (tiny / 2 * 2)[0] == tiny[0]
subnormal = tiny / 4
assert fastnn.ops.relu_forward(subnormal)[0][0] == subnormal[0] != 0
"""


def test_import_keeps_the_floating_point_environment(python):
    result = python("-c", FP_ENVIRONMENT)
    assert result.returncode == 0, result.stderr


def test_import_without_warnings(python):
    result = python("-W", "error", "-c", "import fastnn, fastnn.registry; fastnn.registry.specs()")
    assert result.returncode == 0, result.stderr
    assert result.stdout == result.stderr == ""
