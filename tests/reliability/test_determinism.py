"""The same call gives the same bits: in another process, under other settings of OpenMP and of Python's hashes, at any
number of threads, on prepared weights.

What of this holds within one process is in tests/test_ops.py (every case and algorithm at every level, threads 1, 2, 3,
4 and 7, poisoned memory) and tests/test_layouts.py (where arrays lie)."""

import itertools
import json

import numpy as np
import pytest
from support import algorithms, assert_same_bits, each_case, run, with_algo

from fastnn import ops
from fastnn.kernels import runtime
from fastnn.verify import forced

# Prints {operator: hash of the bits of all results of all its cases}, computed by argv[1] threads.
RESULTS = """if True:
    import hashlib, json, sys
    import numpy as np
    from fastnn import ops
    from fastnn.registry import as_tuple, flat, specs
    from fastnn.verify import forced, why_not

    def results(spec, case, dtype):
        for algo in spec.algos or (None,):
            if why_not(spec, case, dtype, algo) is not None:
                continue
            arrays = spec.inputs(case, dtype, seed=21)
            outputs, ctx = spec.forward(ops, arrays, case.options, **({"algo": algo} if algo else {}))
            yield from as_tuple(outputs)
            if spec.grads:
                yield from flat(spec.backward(ops, spec.draw_dy(outputs), ctx)).values()
            yield from flat(arrays).values()

    hashes = {}
    with forced(threads=int(sys.argv[1])):
        for spec in specs().values():
            bits = hashlib.sha256()
            for case in spec.cases:
                for dtype in ("float32", "float64"):
                    for y in results(spec, case, dtype):
                        bits.update(y.tobytes() if isinstance(y, np.ndarray) else repr(y).encode())
            hashes[spec.name] = bits.hexdigest()[:16]
    print(json.dumps(hashes))
"""

# What may differ between two runs of a program, one after the other in the long form, all at once in the short one.
SURROUNDINGS = [
    {"PYTHONHASHSEED": "1"},
    {"PYTHONHASHSEED": "2", "OMP_DYNAMIC": "true"},
    {"OMP_SCHEDULE": "dynamic,1"},
    {"OMP_SCHEDULE": "guided"},
    {"OMP_WAIT_POLICY": "passive"},
    {"OMP_WAIT_POLICY": "active", "GOMP_SPINCOUNT": "1000"},
    {"OMP_THREAD_LIMIT": "1"},
    {"OMP_THREAD_LIMIT": "2"},
    {"OMP_NUM_THREADS": "1"},
    {"OMP_NUM_THREADS": "5,2", "OMP_MAX_ACTIVE_LEVELS": "2"},
    {"OMP_PROC_BIND": "true", "OMP_PLACES": "cores"},
    {"FASTNN_NUM_THREADS": "3"},
    {"MALLOC_PERTURB_": "165"},
    {"MALLOC_ARENA_MAX": "1", "LC_ALL": "C"},
]
AT_ONCE = [
    ({}, 1),
    ({"PYTHONHASHSEED": "1", "OMP_DYNAMIC": "true", "OMP_SCHEDULE": "dynamic,1", "MALLOC_PERTURB_": "165"}, 2),
    ({"PYTHONHASHSEED": "2", "OMP_THREAD_LIMIT": "1", "OMP_NUM_THREADS": "5,2"}, 4),
]


def differing(got, want):
    return [name for name in want if got[name] != want[name]]


def test_processes_agree(python, scaled):
    """All operators, cases and algorithms, forward and backward, in fresh processes."""
    singly = [(each, threads) for each in SURROUNDINGS for threads in (1, 3)]
    runs = scaled(AT_ONCE, [({}, 1), ({}, 1), ({}, 2), ({}, 7), *singly])
    for isa in scaled(runtime.supported_isas()[-1:], runtime.supported_isas()):
        want = None
        for surroundings, threads in runs:
            child = python("-c", RESULTS, str(threads), timeout=280, FASTNN_ISA=isa, **surroundings)
            assert child.returncode == 0, child.stderr
            got = json.loads(child.stdout)
            want = want or got
            assert not differing(got, want), f"{isa}, {threads} threads, {surroundings}"


@each_case(lambda spec: spec.prepares is not None)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_prepared_weights_change_no_bit(spec, case, dtype, isa):
    """Whatever number of threads prepared them, and whatever number uses them."""
    arrays = spec.inputs(case, dtype, seed=22)
    prepare = getattr(ops, f"prepare_{spec.name}")
    for algo in algorithms(spec, case, dtype):
        options = with_algo(case, algo).options
        with forced(threads=1):
            want = run(spec, ops, arrays, options)
        del want[f"{spec.prepares} after"]
        for preparing, using in itertools.product((1, 3), (1, 2, 3, 4, 7)):
            prepared = prepare(arrays[spec.prepares])
            for threads in (preparing, using):  # its form is made at the first use
                with forced(threads=threads):
                    got = run(spec, ops, arrays | {spec.prepares: prepared}, options)
                del got[f"{spec.prepares} after"]
                assert_same_bits(got, want, f"{algo}, prepared by {preparing} and used by {using} threads")


@pytest.mark.parametrize(("algo", "size"), [("winograd2", 3), ("winograd4", 3), ("winograd5", 5)])
def test_prepared_filters_serve_few_and_many_tiles(algo, size, isa):
    """Regression: sums over more than 128 channels were cut into smaller blocks for few tiles, but not if the filters
    were prepared, so that results differed in the last places. In any order, with one prepared object."""
    rng = np.random.default_rng(0)
    w = rng.standard_normal((9, 270, size, size)).astype(np.float32)
    few, many = (rng.standard_normal(shape).astype(np.float32) for shape in ((1, 270, 7, 6), (3, 270, 30, 29)))
    for images in ((few, many, few), (many, few, many)):
        prepared = ops.prepare_conv2d(w)
        for x in images:
            got = ops.conv2d_forward(x, prepared, padding=size // 2, algo=algo)[0]
            want = ops.conv2d_forward(x, w, padding=size // 2, algo=algo)[0]
            assert_same_bits({"y": got}, {"y": want}, f"{x.shape}")


@pytest.mark.parametrize("algo", ["implicit", "im2col", "winograd2", "winograd4"])
def test_filters_are_read_at_the_level_they_were_packed_for(monkeypatch, algo):
    """Regression: another thread may choose another level between the look-up of the packed filters and the kernel,
    whose register tiles are of another height."""
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal(shape).astype(np.float32) for shape in ((2, 20, 17, 19), (26, 20, 3, 3)))
    look_up = ops.conv.PreparedConv2d.form
    for isa, chosen_meanwhile in itertools.product(runtime.supported_isas(), repeat=2):

        def form(self, *arguments, chosen_meanwhile=chosen_meanwhile):
            found = look_up(self, *arguments)
            runtime.set_isa(chosen_meanwhile)
            return found

        with forced(isa=isa), monkeypatch.context() as patch:
            want = ops.conv2d_forward(x, w, padding=1, algo=algo)[0]
            patch.setattr(ops.conv.PreparedConv2d, "form", form)
            got = ops.conv2d_forward(x, ops.prepare_conv2d(w), padding=1, algo=algo)[0]
        assert_same_bits({"y": got}, {"y": want}, f"packed at {isa}, {chosen_meanwhile} in use")
