"""One name, one meaning: ops and reference have the same functions, documented, and torch knows the same names."""

import ast
import importlib
import inspect
import pkgutil
from pathlib import Path

import pytest

import fastnn
from fastnn import functional, ops, reference
from fastnn.registry import specs

PACKAGE = Path(fastnn.__file__).parent

# Modules of ops without a family of operators, and why.
NO_FAMILY: dict[str, str] = {
    "inference": "operators of other families with what follows them, for fastnn.onnx: tests/test_inference_ops.py",
}
FAMILIES = [
    module.name
    for module in pkgutil.iter_modules(ops.__path__)
    if not module.name.startswith("_") and module.name not in NO_FAMILY
]

# Functions of the reference alone, and why it has them.
REFERENCE_ONLY: dict[str, str] = {
    "conv2d_loops": "the definition as seven loops, to be read",
}

# Operators that torch has no function for, and why that is so.
WITHOUT_TORCH_PEER: dict[str, str] = {
    "whiten": "torch has no whitening; tests/test_whiten.py compares with its eigh",
}

# Public names of fastnn.functional that torch.nn.functional has not, and why we have them.
OUR_OWN: dict[str, str] = {
    "hardmax": "the indicator of the largest element: torch has argmax only",
    "js_divergence": "Jensen-Shannon divergence in bits: torch has kl_div only",
    "im2col": "the textbook's name for torch's unfold",
    "col2im": "the textbook's name for torch's fold",
    "rot180": "the kernel rotation of convolution's backward pass, public because people come to learn it",
    "min_pool1d": "pooling with the minimum",
    "min_pool2d": "pooling with the minimum",
    "subsample2d": "one pixel of every block",
    "gru": "a recurrent network of several layers, a Module in torch (its function is torch._VF.gru)",
    "gru_step": "one time step: torch.nn.GRUCell's function",
    "rnn": "a recurrent network of several layers, a Module in torch (its function is torch._VF.rnn_tanh)",
    "rnn_step": "one time step: torch.nn.RNNCell's function",
    "lstm": "a recurrent network of several layers, a Module in torch (its function is torch._VF.lstm)",
    "lstm_step": "one time step: torch.nn.LSTMCell's function",
    "additive_attention": "Bahdanau's attention",
    "upsample_zeros2d": "zero-insertion",
    "add": "torch.add, of one shape",
    "cat": "torch.cat",
    "stack": "torch.stack",
    "split": "torch.split",
    "flatten": "torch.flatten",
    "unflatten": "torch.unflatten",
    "where": "torch.where",
    "maximum": "torch.maximum",
    "minimum": "torch.minimum",
    "matmul": "torch.matmul, outside of torch.nn.functional",
    "argmax": "torch.argmax",
    "exp": "torch.exp",
    "log": "torch.log",
    "erf": "torch.erf",
    "whiten": "what batch norm replaced",
}


def public(module):
    """name -> function, for the public functions of a package or module."""
    return {
        name: f
        for name, f in vars(module).items()
        if inspect.isfunction(f) and not name.startswith("_") and f.__module__.startswith(module.__name__)
    }


def test_same_families():
    families = [module.name for module in pkgutil.iter_modules(reference.__path__) if not module.name.startswith("_")]
    assert families == FAMILIES


@pytest.mark.parametrize("family", FAMILIES)
def test_same_names(family):
    compiled = importlib.import_module(f"fastnn.ops.{family}")
    plain = importlib.import_module(f"fastnn.reference.{family}")
    assert sorted(compiled.__all__) == sorted(set(plain.__all__) - set(REFERENCE_ONLY))
    assert all(hasattr(ops, name) and hasattr(reference, name) for name in compiled.__all__)


@pytest.mark.parametrize("name", list(public(ops)))
def test_same_signature(name):
    assert inspect.signature(getattr(ops, name)) == inspect.signature(getattr(reference, name))


@pytest.mark.parametrize("name", list(specs()))
def test_spec_names_functions(name):
    """An operator of the registry has both its functions, in both packages, with the conventional arguments."""
    spec = specs()[name]
    forward = inspect.signature(spec.function(ops)).parameters
    if not spec.updates:
        assert forward["keep"].kind is inspect.Parameter.KEYWORD_ONLY and forward["keep"].default is True
    assert set(spec.updates) <= set(forward)
    for case in (*spec.cases, *spec.bench):
        assert set(case.shapes) | set(case.options) <= set(forward), str(case)
    assert set(spec.grads) <= set(forward)
    if spec.algos:
        assert forward["algo"].default == "auto"
    if spec.grads:
        backward = inspect.signature(getattr(ops, f"{name}_backward")).parameters
        assert list(backward)[:2] == ["dy", "ctx"]
        if len(spec.grads) > 1:
            assert backward["needs"].default == (True,) * len(spec.grads)
    else:
        assert not hasattr(ops, f"{name}_backward")


def test_every_op_has_a_spec():
    missing = {name.removesuffix("_forward") for name in public(ops) if name.endswith("_forward")} - set(specs())
    assert not missing


@pytest.mark.parametrize("name", list(specs()))
def test_torch_peer_or_reason(name):
    assert ("torch" in specs()[name].peers) != (name in WITHOUT_TORCH_PEER)


@pytest.mark.parametrize("name", list(specs()))
def test_cases_are_distinct(name):
    """A case that is listed twice tests nothing new, and its twin's name hides it in reports."""
    spec = specs()[name]
    for cases in (spec.cases, spec.bench):
        assert cases
        names = [str(case) for case in cases]
        assert len(set(names)) == len(names)


# ---- docstrings ----


def documented():
    for package in (ops, reference, functional, fastnn):
        for name, f in public(package).items():
            yield pytest.param(f, id=f"{package.__name__}.{name}")


@pytest.mark.parametrize("f", list(documented()))
def test_docstring(f):
    assert f.__doc__ and f.__doc__.strip()


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_module_docstring(path):
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


# ---- the reference is free of compiled code ----


def imports(path):
    """Every module that a source file imports, inside functions as well."""
    for node in ast.walk(ast.parse(Path(path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", sorted(Path(reference.__path__[0]).glob("*.py")), ids=lambda path: path.stem)
def test_reference_imports_nothing_compiled(path):
    compiled = ("fastnn.kernels", "fastnn.ops", "fastnn.functional", "fastnn.threads")
    assert not [name for name in imports(path) if name.startswith(compiled)]


# ---- torch.nn.functional ----


@pytest.mark.parametrize("name", functional.__all__)
def test_functional_is_public(name):
    assert callable(getattr(functional, name))


@pytest.mark.parametrize("name", functional.__all__)
def test_functional_has_torchs_arguments(name):
    """The same leading arguments, so that a call written for torch means the same here."""
    torch = pytest.importorskip("torch")
    theirs = getattr(torch.nn.functional, name, None)
    if name in OUR_OWN:
        assert theirs is None, f"torch has {name}: it is not our own"
        return
    assert theirs is not None, f"torch.nn.functional has no {name}"
    parameters = inspect.signature(getattr(functional, name)).parameters.values()
    ours = [p.name for p in parameters if p.kind is not inspect.Parameter.KEYWORD_ONLY]
    expected = torch_arguments(theirs)
    if expected is None:
        pytest.skip(f"torch does not say what the arguments of {name} are")
    obsolete = ("inplace", "size_average", "reduce", "_stacklevel")
    expected = [argument for argument in expected if argument not in obsolete]
    common = min(len(ours), len(expected))
    assert ours[:common] == expected[:common]


def torch_arguments(f):
    """Names of the arguments of a function of torch, from its signature or from its docstring's first line."""
    try:
        parameters = inspect.signature(f).parameters.values()
    except ValueError:
        parameters = ()
    if parameters and not any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters):
        return [p.name for p in parameters]
    first = (f.__doc__ or "").strip().partition("\n")[0]
    inside = first.partition(" -> ")[0].partition("(")[2].rpartition(")")[0]
    return [part.partition("=")[0].strip() for part in inside.split(",") if part.strip() not in ("", "*")] or None
