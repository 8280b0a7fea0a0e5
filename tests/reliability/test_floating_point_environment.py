"""Rounding mode, flush-to-zero, denormals-are-zero and traps: fastnn changes none of them, in no thread, and computes
in those of the thread that calls. That no test leaves a change behind is asserted after every one (tests/conftest.py).
"""

import ctypes
import platform
import sys
from contextlib import contextmanager

import numpy as np
import pytest
from support import assert_same_bits

import fastnn
from fastnn import ops
from fastnn.kernels import runtime
from fastnn.verify import forced

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="reads x86's registers by glibc's fegetenv"
)

# glibc's fenv_t: x87's control word first, MXCSR last.
FENV_BYTES, MXCSR = 32, 7
FLUSH = 0x8040  # flush-to-zero and denormals-are-zero: what torch.set_flush_denormal sets
ROUND = {"down": 0x2000, "up": 0x4000, "towards zero": 0x6000}
ENVIRONMENTS = {"flush": FLUSH, **ROUND}
PROLOGUE = """if True:
    import ctypes, sys
    libm = ctypes.CDLL("libm.so.6")

    def environment():
        bits = (ctypes.c_uint32 * 8)()
        libm.fegetenv(bits)
        return bits

    def control():
        bits = environment()
        return bits[0] & 0xffff, bits[7] & 0xffc0

    bits = environment()
    bits[7] |= int(sys.argv[1])
    libm.fesetenv(bits)
    before = control()
"""

IMPORT = """
    import fastnn
    assert control() == before, "import fastnn"
    from fastnn.registry import specs
    from fastnn import functional, nn, optim, train, data, distributions, serialize
    assert control() == before, "import of the rest"
    print(len(specs()))
"""

EVERY_OPERATOR = """
    import numpy as np
    from fastnn import ops
    from fastnn.kernels import runtime
    from fastnn.registry import flat, specs, as_tuple
    from fastnn.verify import forced

    def results(spec, case):
        arrays = spec.inputs(case, seed=31)
        outputs, ctx = spec.forward(ops, arrays, case.options)
        found = list(as_tuple(outputs))
        if spec.grads:
            found += flat(spec.backward(ops, spec.draw_dy(outputs), ctx)).values()
        assert control() == before, (spec.name, case)
        return [y.tobytes() for y in (*found, *flat(arrays).values()) if isinstance(y, np.ndarray)]

    for isa in runtime.supported_isas():
        with np.errstate(all="ignore"):
            for spec in specs().values():
                for case in spec.cases[:: int(sys.argv[2])]:
                    with forced(isa=isa, threads=1):
                        want = results(spec, case)
                    with forced(isa=isa, threads=3):
                        assert results(spec, case) == want, (spec.name, case, isa)
    states = runtime.floating_point_states()
    assert len(states) == (3 if runtime.OPENMP else 1) and len(set(states)) == 1
    print(len(specs()))
"""


@pytest.mark.parametrize("setting", [0, *ENVIRONMENTS.values()])
def test_import_leaves_the_environment_alone(python, setting):
    """The default one, and what the program has chosen before."""
    child = python("-W", "error", "-c", PROLOGUE + IMPORT, str(setting))
    assert child.returncode == 0, child.stderr


@pytest.mark.parametrize("setting", ENVIRONMENTS)
def test_operators_run_in_the_programs_environment(python, setting, scaled):
    """Every operator at every level, forward and backward: nothing changes it, and threads do not change results."""
    step = str(scaled(4, 1))  # of the cases
    child = python("-c", PROLOGUE + EVERY_OPERATOR, str(ENVIRONMENTS[setting]), step, timeout=280)
    assert child.returncode == 0, child.stderr


@contextmanager
def environment(bits):
    """Set bits of MXCSR in this thread within the with block."""
    libm = ctypes.CDLL("libm.so.6")
    before, changed = ((ctypes.c_uint32 * (FENV_BYTES // 4))() for _ in range(2))
    libm.fegetenv(before)
    libm.fegetenv(changed)
    changed[MXCSR] |= bits
    libm.fesetenv(changed)
    try:
        yield
    finally:
        libm.fesetenv(before)


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_workers_compute_as_the_caller_does(name, isa):
    """Regression: workers of OpenMP kept the environment of the time when they were started, so that results of a
    program that flushes subnormal numbers to zero depended on the number of threads."""
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(100_001).astype(np.float32) for _ in range(2))
    a[::3] *= 1e-39  # subnormal
    with forced(isa=isa, threads=4):
        ops.add_forward(a, b)  # the workers are there
        with environment(ENVIRONMENTS[name]):
            four = ops.gelu_forward(a)[0], ops.add_forward(a, b)[0]
            with fastnn.num_threads(1):
                one = ops.gelu_forward(a)[0], ops.add_forward(a, b)[0]
        default = ops.gelu_forward(a)[0], ops.add_forward(a, b)[0]
    assert_same_bits(dict(enumerate(four)), dict(enumerate(one)), name)
    assert any((x != y).any() for x, y in zip(one, default, strict=True)), "the environment made no difference"


def test_states_show_a_change_of_this_thread():
    """What tests/conftest.py relies on."""
    default = runtime.floating_point_states()[0]
    for bits in ENVIRONMENTS.values():
        with environment(bits):
            assert runtime.floating_point_states()[0] ^ default == bits
    assert runtime.floating_point_states()[0] == default


@pytest.mark.skipif(not runtime.OPENMP, reason="built without OpenMP: kernels are serial")
def test_states_show_a_worker_that_began_in_another_environment(python):
    """They are the workers' own, and not those that a region gives them."""
    code = """
    import numpy as np
    from fastnn import ops
    from fastnn.kernels import runtime
    from fastnn.verify import forced
    with forced(threads=3):
        ops.relu_forward(np.ones(1000, np.float32))
        bits[7] &= ~0x8040
        libm.fesetenv(bits)
        caller, *workers = runtime.floating_point_states()
    print([worker ^ caller for worker in workers])
    """
    assert python("-c", PROLOGUE + code, str(FLUSH)).stdout.strip() == str([FLUSH] * 2)
