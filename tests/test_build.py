"""What the build must keep true: flags, dependencies, symbols, one copy of the kernels' tables."""

import re
import runpy
import shutil
import subprocess
import sys
import types
from pathlib import Path

import pytest

import fastnn
from fastnn.kernels import runtime
from fastnn.verify import forced

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = Path(fastnn.__file__).parent
EXTENSIONS = sorted(PACKAGE.rglob("*.so"))

needs_nm = pytest.mark.skipif(shutil.which("nm") is None, reason="binutils' nm is not installed")


FORBIDDEN = ["-ffast-math", "-Ofast", "-funsafe-math-optimizations", "-march=native", "-mtune=native"]


@pytest.mark.parametrize("flag", FORBIDDEN)
def test_forbidden_flags(flag):
    """Fast maths changes results and the process's floating-point mode; native code does not run elsewhere."""
    code = re.sub(r"(?m)#.*$", "", (ROOT / "setup.py").read_text(encoding="utf-8"))
    assert flag not in code


def test_no_optimisation_by_pragma():
    pattern = r"pragma\s+(GCC|clang)\s+(optimize|fp)|__attribute__\s*\(\(.*optimize"
    for path in (ROOT / "csrc").rglob("*.[ch]"):
        assert not re.search(pattern, path.read_text(encoding="utf-8")), path


@pytest.fixture
def load_setup(monkeypatch):
    """Run setup.py without setuptools and Cython: neither need be installed here. load_setup(**environment) ->
    (its globals, what it hands to setuptools)."""
    found = []

    def stub(name, **content):
        module = types.ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)

    def extension(name, sources, **options):
        return types.SimpleNamespace(name=name, sources=sources, extra_objects=[], **options)

    stub("setuptools", Extension=extension, setup=lambda ext_modules, **_: found.extend(ext_modules))
    stub("setuptools.command")
    stub("setuptools.command.build_ext", build_ext=type("build_ext", (), {"build_extensions": lambda self: None}))
    stub("Cython")
    stub("Cython.Build", cythonize=lambda extensions, **_: extensions)

    def load(**environment):
        found.clear()
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        return runpy.run_path(str(ROOT / "setup.py")), list(found)

    return load


@pytest.fixture
def extensions(load_setup):
    return load_setup()[1]


def test_other_settings_rebuild(load_setup, tmp_path, monkeypatch):
    """A module that was built with other flags is not taken for up to date because its sources are older."""
    target = tmp_path / "runtime.so"

    def build(fails=False, **environment):
        """Whether a build compiles everything."""
        names, extensions = load_setup(**environment)
        vars_of = names["BuildExt"].build_extensions.__globals__
        vars_of["RECORD"] = tmp_path / "build" / "settings.json"
        builder = names["BuildExt"]()
        builder.extensions, builder.force = extensions, None
        builder.compiler = types.SimpleNamespace(compiler_type="unix")
        builder.openmp_flags = lambda: ([], [], [])
        builder.get_ext_fullpath = lambda name: str(target)
        compiled = []

        def compile_csrc():
            compiled.append("csrc")
            if fails:
                raise KeyboardInterrupt
            target.touch()
            return []

        builder.compile_csrc = compile_csrc
        builder.build_extensions()
        assert bool(builder.force) == bool(compiled)
        return bool(compiled)

    for name in ("FASTNN_DEBUG", "FASTNN_SANITIZE", "FASTNN_NO_OPENMP", "CFLAGS"):
        monkeypatch.delenv(name, raising=False)
    target.touch()
    assert build(), "nothing is known of what is there"
    assert not build()
    assert build(FASTNN_SANITIZE="address")
    assert not build(FASTNN_SANITIZE="address")
    assert build(FASTNN_SANITIZE="")
    assert build(FASTNN_DEBUG="1")
    with pytest.raises(KeyboardInterrupt):
        build(fails=True, FASTNN_DEBUG="")
    assert build(FASTNN_DEBUG="1"), "half of it may have been built otherwise"
    assert build(FASTNN_DEBUG="", FASTNN_NO_OPENMP="1")
    assert build(FASTNN_NO_OPENMP="", CFLAGS="-O1")


def test_clang_cl_in_place_of_cl(load_setup, monkeypatch):
    """On Windows, setuptools' compiler becomes clang-cl, which gets our flags marked as Clang's, and none that only cl
    knows."""
    names, extensions = load_setup()
    monkeypatch.setattr(shutil, "which", lambda name, path=None: f"/LLVM/bin/{name}.exe")
    options = ["/nologo", "/O2", "/W3", "/GL", "/DNDEBUG", "/MD"]
    builder = names["BuildExt"]()
    builder.extensions = extensions
    builder.compiler = types.SimpleNamespace(initialize=lambda: None, compile_options=options, compile_options_debug=[])
    before = [list(extension.extra_compile_args) for extension in extensions]
    builder.use_clang_cl()
    assert Path(builder.compiler.cc) == Path("/LLVM/bin/clang-cl.exe")
    assert options == ["/nologo", "/O2", "/W3", "/DNDEBUG", "/MD"]
    assert before[0]
    for extension, flags in zip(extensions, before, strict=True):
        assert extension.extra_compile_args == [f"/clang:{flag}" for flag in flags]
    ((flags, link, sources),) = names["openmp_candidates"](builder.llvm)
    assert (flags, link[-1], sources) == (["-fopenmp"], "libomp.lib", [])


@pytest.mark.parametrize("flags", ["-arch arm64", "-arch x86_64", "-arch arm64 -arch x86_64"])
def test_one_architecture_of_macos(load_setup, monkeypatch, flags):
    """Instruction sets are those of the architecture that is built for, and there can be only one."""
    monkeypatch.setattr(sys, "platform", "darwin")
    if flags.count("-arch") > 1:
        with pytest.raises(SystemExit, match="ARCHFLAGS: expected one architecture"):
            load_setup(ARCHFLAGS=flags)
        return
    names, _ = load_setup(ARCHFLAGS=flags)
    assert list(names["ISA_FLAGS"]) == (["baseline"] if "arm64" in flags else ["baseline", "avx2", "avx512"])
    assert any("-L/opt/homebrew/opt/libomp/lib" in link for _, link, _ in names["openmp_candidates"](None))


def test_every_c_file_is_a_dependency(extensions):
    """Editing any file of csrc or any .pxd rebuilds every extension."""
    files = [*(ROOT / "csrc").rglob("*.[ch]"), *(ROOT / "fastnn").rglob("*.pxd")]
    names = {str(path.relative_to(ROOT)) for path in files}
    assert names and extensions
    for extension in extensions:
        assert names <= set(extension.depends), extension.name


def test_every_pyx_is_built(extensions):
    built = {source for extension in extensions for source in extension.sources}
    assert built == {str(path.relative_to(ROOT)) for path in (ROOT / "fastnn").rglob("*.pyx")}
    assert {path.name.partition(".")[0] for path in EXTENSIONS} >= {Path(source).stem for source in built}


def symbols(path, *flags):
    """(type, name) of a binary's symbols."""
    out = subprocess.run(["nm", *flags, str(path)], capture_output=True, text=True, check=True).stdout
    return [tuple(line.split()[-2:]) for line in out.splitlines() if len(line.split()) >= 2]


@needs_nm
@pytest.mark.skipif(not EXTENSIONS, reason="no shared objects of the ELF or Mach-O kind")
def test_extensions_export_their_init_function_only():
    for path in EXTENSIONS:
        defined = [name.lstrip("_") for _, name in symbols(path, "-D", "--defined-only")]
        assert [name for name in defined if not name.startswith("PyInit_")] in ([], ["init", "fini"]), path.name


AVX2 = ["-DFNN_BUILD_AVX2", "-mavx2", "-mfma"]
AVX512 = ["-DFNN_BUILD_AVX512", "-mavx2", "-mfma", *(f"-mavx512{x}" for x in ("f", "bw", "dq", "vl"))]
ISA_FLAGS = {"baseline": [], "avx2": AVX2, "avx512": AVX512}


@needs_nm
@pytest.mark.parametrize("isa", runtime.ISA_LEVELS)
def test_one_external_symbol_per_instruction_set(isa, tmp_path):
    """Code for a newer CPU cannot leak: each compilation of all.c defines its table and nothing else."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler")
    target, source = tmp_path / f"{isa}.o", ROOT / "csrc" / "ukernels" / "all.c"
    # Without optimisation: a static function stays one at any level, and this is several times quicker.
    command = [compiler, "-std=gnu11", "-O0", "-c", *ISA_FLAGS[isa], str(source), "-o", str(target)]
    subprocess.run(command, check=True, capture_output=True)
    defined = [name.lstrip("_") for _, name in symbols(target, "-g", "--defined-only")]
    assert defined == [f"fnn_ukernels_{isa}"]


@needs_nm
@pytest.mark.skipif(not EXTENSIONS, reason="no shared objects of the ELF or Mach-O kind")
def test_one_copy_of_the_kernels():
    """The micro-kernels are linked into one extension, and the others find them through it."""
    holders = []
    for path in EXTENSIONS:
        names = {name.lstrip("_") for _, name in symbols(path)}
        if {f"fnn_ukernels_{isa}" for isa in runtime.ISA_LEVELS} & names:
            holders.append(path.name.partition(".")[0])
    if not holders:
        pytest.skip("the extensions are stripped of symbols")
    assert holders == ["runtime"]


def test_every_level_has_a_table_of_its_own():
    """The operations in one step of the arithmetic benchmark grow with the vector registers in use."""
    counts = []
    for name in runtime.supported_isas():
        with forced(isa=name):
            counts.append(runtime.fma_chain(1, 1))
    assert counts == sorted(set(counts))


def test_installed_package_is_small():
    """A wheel of a few megabytes. What debug symbols and sanitizers add to a build is not in it."""
    if runtime.DEBUG:
        pytest.skip("debug build")
    if any(name in path.read_bytes() for path in EXTENSIONS for name in (b"__asan_init", b"__ubsan_handle_")):
        pytest.skip("built with sanitizers")
    assert sum(path.stat().st_size for path in EXTENSIONS) < 25e6


def test_sources_that_are_not_compiled_say_so(python, tmp_path):
    """In a clone, after `pip install .`, the folder fastnn/ hides the installed package."""
    ignore = shutil.ignore_patterns("*.so", "*.pyd", "__pycache__")
    shutil.copytree(PACKAGE, tmp_path / "fastnn", ignore=ignore)
    for arguments in (["-m", "fastnn", "info"], ["-c", "import fastnn"], ["-c", "from fastnn.ops import _arrays"]):
        result = python(*arguments, PYTHONPATH=str(tmp_path))
        assert result.returncode != 0
        line = result.stderr.strip().splitlines()[-1]
        assert line.startswith("ImportError: fastnn in ") and "has not been compiled" in line
        assert "`pip install .`, run Python in another folder" in line


def test_package_data():
    assert (PACKAGE / "py.typed").exists()
