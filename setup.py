"""Build of fastnn's compiled part: micro-kernels once per instruction set, then the Cython extensions.

Environment:
    FASTNN_NO_OPENMP=1   build without OpenMP (kernels run serially)
    FASTNN_DEBUG=1       bounds checks in Cython, -Og -g (for C: FASTNN_SANITIZE)
    FASTNN_COVERAGE=1    counts executed lines for gcov (tests/reliability/coverage_report.py)
    FASTNN_SANITIZE=...  passed to -fsanitize= of compiler and linker, e.g. address,undefined

The compiler is GCC or Clang, on Windows clang-cl in place of cl, from PATH or C:\\Program Files\\LLVM.
"""

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
DEBUG = os.environ.get("FASTNN_DEBUG", "") not in ("", "0")
NO_OPENMP = os.environ.get("FASTNN_NO_OPENMP", "") not in ("", "0")
COVERAGE = os.environ.get("FASTNN_COVERAGE", "") not in ("", "0")
SANITIZE = os.environ.get("FASTNN_SANITIZE", "")

# Those that this process may use.
CPUS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()

if sys.platform == "darwin":  # Python itself may be built for two architectures, whose instruction sets differ
    ARCHITECTURES = re.findall(r"-arch\s+(\S+)", os.environ.setdefault("ARCHFLAGS", f"-arch {platform.machine()}"))
    if len(set(ARCHITECTURES)) != 1:
        sys.exit(f"ARCHFLAGS: expected one architecture, got {ARCHITECTURES}: build a wheel for each")
    MACHINE = ARCHITECTURES[0]
else:
    MACHINE = platform.machine().lower()
X86_64 = MACHINE in ("x86_64", "amd64")

# Instruction sets in order of preference at run time: name -> compiler flags.
ISA_FLAGS = {"baseline": []}
if X86_64:
    ISA_FLAGS["avx2"] = ["-DFNN_BUILD_AVX2", "-mavx2", "-mfma", "-mprfchw"]
    ISA_FLAGS["avx512"] = ["-DFNN_BUILD_AVX512", "-mavx2", "-mfma", "-mavx512f", "-mavx512bw", "-mavx512dq",
                           "-mavx512vl", "-mprfchw", "-mprefer-vector-width=512"]  # fmt: skip

# Contraction to fused multiply-adds is the one liberty taken with floating point. No -ffast-math: it also flips the
# FTZ/DAZ bits of every process that loads the library.
COMMON = ["-std=gnu11", "-Wall", "-Wextra", "-fvisibility=hidden", "-ffp-contract=fast", "-fno-math-errno",
          "-fno-trapping-math"]  # fmt: skip
COMMON += ["-Og", "-g", "-UNDEBUG", "-DFNN_DEBUG"] if DEBUG else ["-O3", "-g0"]
LINK = []
if COVERAGE:  # atomic: counts of loops that several threads run are differences of counters, which must not be lost
    COMMON += ["-O1", "--coverage", "-fprofile-update=atomic"]
    LINK += ["--coverage", "-Wl,--exclude-libs,ALL"]  # no symbols of libgcov to be seen
if SANITIZE:
    COMMON += [f"-fsanitize={SANITIZE}", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-g1"]
    LINK += [f"-fsanitize={SANITIZE}"]
# Cython's output has parameters that no Python signature can drop.
CYTHON_C_FLAGS = ["-Wno-unused-parameter", "-Wno-missing-field-initializers", "-Wno-cast-function-type"]

OPENMP_PROBE = """
#if defined(FNN_REGION) && defined(__clang__)
#error "Clang's regions do not call GOMP_parallel, which csrc/region.c stands for"
#endif
#include <omp.h>
#include <stdio.h>
int main(void)
{
    int n = 0;
#pragma omp parallel num_threads(2) reduction(+ : n)
    n += 1;
    printf("%d\\n", n);
    return n == 2 ? 0 : 1;
}
"""


def openmp_candidates(llvm):
    """Flags of compiler and linker, and sources to be linked with every module; llvm: clang-cl's folder."""
    if llvm:
        return [(["-fopenmp"], [f"/LIBPATH:{llvm / 'lib'}", "libomp.lib"], [])]
    candidates = [
        (["-fopenmp", "-DFNN_REGION"], ["-fopenmp", "-Wl,--wrap=GOMP_parallel"], ["csrc/region.c"]),  # GCC
        (["-fopenmp"], ["-fopenmp"], []),
        (["-Xpreprocessor", "-fopenmp"], ["-lomp"], []),  # Apple clang with libomp
    ]
    if sys.platform == "darwin":  # Homebrew's, on arm64 and x86-64, and MacPorts', which no compiler looks for
        for include, lib in (
            ("/opt/homebrew/opt/libomp/include", "/opt/homebrew/opt/libomp/lib"),
            ("/usr/local/opt/libomp/include", "/usr/local/opt/libomp/lib"),
            ("/opt/local/include/libomp", "/opt/local/lib/libomp"),
        ):
            candidates.append((["-Xpreprocessor", "-fopenmp", f"-I{include}"], [f"-L{lib}", "-lomp"], []))
    return candidates


def clang_cl():
    """clang-cl's folder, that of bin and lib: from PATH, or where LLVM's installer puts it."""
    found = shutil.which("clang-cl") or shutil.which("clang-cl", path=r"C:\Program Files\LLVM\bin")
    if not found:
        sys.exit("fastnn needs clang-cl on Windows: its kernels use vector extensions that cl does not have")
    return Path(found).parent.parent


def spelled(flags, llvm):
    """GCC's flags as the compiler takes them."""
    return [f"/clang:{flag}" for flag in flags] if llvm else list(flags)


# What the built modules depend on besides their sources, and where it is noted: {path of fastnn.kernels.runtime: it}.
SETTINGS = repr([COMMON, LINK, NO_OPENMP, *map(os.environ.get, ("CC", "CFLAGS", "CPPFLAGS", "LDFLAGS", "LDSHARED"))])
RECORD = ROOT / "build" / "settings.json"


def read_record():
    try:
        return json.loads(RECORD.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def write_record(record):
    RECORD.parent.mkdir(exist_ok=True)
    RECORD.write_text(json.dumps(record, indent=1), encoding="utf-8")


class BuildExt(build_ext):
    """build_ext that compiles csrc/ once per instruction set into folders of their own and links the objects in.

    (setuptools' `libraries=` shares one build folder: compiling the same source twice silently reuses the first.)
    """

    def finalize_options(self):
        super().finalize_options()
        self.parallel = self.parallel or CPUS

    llvm = None  # clang-cl's folder

    def use_clang_cl(self):
        """setuptools' compiler for Windows, with clang-cl in place of cl."""
        self.llvm = clang_cl()
        self.compiler.initialize()
        self.compiler.cc = str(self.llvm / "bin" / "clang-cl.exe")
        for options in (self.compiler.compile_options, self.compiler.compile_options_debug):
            options[:] = [option for option in options if option != "/GL"]  # cl's optimisation in the linker
        for ext in self.extensions:
            ext.extra_compile_args = spelled(ext.extra_compile_args, self.llvm)

    def build_extensions(self):
        if self.compiler.compiler_type == "msvc":
            self.use_clang_cl()
        runtime = next(ext for ext in self.extensions if ext.name == "fastnn.kernels.runtime")
        target = os.path.relpath(self.get_ext_fullpath(runtime.name), ROOT)
        record = read_record()
        # Unknown while it is being built: should that be interrupted, some modules are new and some old.
        self.force = self.force or record.pop(target, None) != SETTINGS
        write_record(record)
        compile_flags, link_flags, sources = self.openmp_flags()
        objects = self.compile_into("openmp", sources, compile_flags) if sources else []
        for ext in self.extensions:
            ext.extra_compile_args += spelled(compile_flags, self.llvm)
            ext.extra_link_args += link_flags
            ext.extra_objects += objects
        if self.is_stale(target, [*runtime.sources, *runtime.depends]):
            runtime.extra_objects += self.compile_csrc()
        super().build_extensions()
        write_record({**read_record(), target: SETTINGS})

    def is_stale(self, target, sources):
        newest = max(Path(path).stat().st_mtime for path in sources)
        return self.force or not Path(target).exists() or Path(target).stat().st_mtime < newest

    def compile_into(self, folder, sources, flags=()):
        """The objects of sources, in a folder of their own; those that are up to date stay as they are."""
        target = str(Path(self.build_temp) / "csrc" / folder)
        objects = self.compiler.object_filenames(sources, output_dir=target)
        if any(self.is_stale(path, [*sources, *HEADERS]) for path in objects):
            self.compiler.compile(sources, target, extra_postargs=spelled([*COMMON, *flags], self.llvm))
        return objects

    def compile_csrc(self):
        """One process of the compiler for each instruction set, as many at once as for the extensions: each takes
        longer than any of these."""
        objects = self.compile_into("common", ["csrc/cpu.c"])
        with ThreadPoolExecutor(self.parallel) as pool:
            return [*objects, *chain.from_iterable(pool.map(self.compile_isa, reversed(ISA_FLAGS)))]

    def compile_isa(self, isa):
        return self.compile_into(isa, ["csrc/ukernels/all.c"], ISA_FLAGS[isa])

    def openmp_flags(self):
        """(compiler flags, linker flags, sources) that compile, link and run a parallel region; empty if none does."""
        if NO_OPENMP:
            return [], [], []
        with tempfile.TemporaryDirectory() as tmp:
            source = Path(tmp) / "probe.c"
            source.write_text(OPENMP_PROBE)
            env = os.environ
            if self.llvm:  # has libomp.dll
                env = {**env, "PATH": f"{self.llvm / 'bin'}{os.pathsep}{env['PATH']}"}
            for compile_flags, link_flags, sources in openmp_candidates(self.llvm):
                flags = spelled(compile_flags, self.llvm)
                try:
                    objects = self.compiler.compile([str(source), *sources], tmp, extra_postargs=flags)
                    self.compiler.link_executable(objects, "probe", tmp, extra_postargs=link_flags)
                    subprocess.run([str(Path(tmp) / "probe")], check=True, capture_output=True, timeout=60, env=env)
                except Exception:  # whatever fails, this candidate does not work here
                    continue
                return compile_flags, link_flags, sources
        print("warning: no working OpenMP: fastnn's kernels will run on one thread", file=sys.stderr)
        return [], [], []


HEADERS = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "csrc").rglob("*.[ch]"))
PXDS = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "fastnn").rglob("*.pxd"))

extensions = [
    Extension(
        ".".join(path.relative_to(ROOT).with_suffix("").parts),
        [str(path.relative_to(ROOT))],
        include_dirs=["csrc", numpy.get_include()],
        define_macros=[("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION"), ("NPY_TARGET_VERSION", "NPY_2_0_API_VERSION")],
        extra_compile_args=[*COMMON, *CYTHON_C_FLAGS],
        extra_link_args=[*LINK],
        depends=[*HEADERS, *PXDS],
    )
    for path in sorted((ROOT / "fastnn").rglob("*.pyx"))
]

setup(
    ext_modules=cythonize(
        extensions,
        nthreads=CPUS,
        build_dir="build/cython-debug" if DEBUG else "build/cython",  # the directives differ
        compiler_directives={
            "language_level": 3,
            "boundscheck": DEBUG,
            "wraparound": False,
            "initializedcheck": DEBUG,
            "cdivision": True,
            "embedsignature": True,
            "freethreading_compatible": True,
            "legacy_implicit_noexcept": False,
        },
    ),
    cmdclass={"build_ext": BuildExt},
)
