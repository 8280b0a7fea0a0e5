"""What is special to optimiser steps and clipping: lists, memory, values that are not finite, torch's optimisers."""

from itertools import pairwise
from math import inf, nan

import numpy as np
import pytest

from fastnn import ops, reference
from fastnn.registry import map_arrays
from fastnn.verify import forced

SHAPES = [(3, 5), (), (129,), (4, 0), (17_000,), (2, 3, 4)]
STATES = {"sgd_step": 1, "rmsprop_step": 1, "adam_step": 2, "adamw_step": 2}
OPTIONS = {"sgd_step": {"momentum": 0.9}, "rmsprop_step": {}, "adam_step": {"step": 2}, "adamw_step": {"step": 2}}
each_step = pytest.mark.parametrize("op", STATES)


class Subclass(np.ndarray):
    pass


def draw(dtype=np.float32, seed=0, shapes=SHAPES):
    rng = np.random.default_rng(seed)
    return [np.asarray(rng.standard_normal(shape), dtype) for shape in shapes]


def arguments(op, dtype=np.float32, shapes=SHAPES):
    """params, grads and states, of which the last is positive."""
    lists = [draw(dtype, seed, shapes) for seed in range(2 + STATES[op])]
    return [*lists[:-1], [np.asarray(np.abs(x)) for x in lists[-1]]]


@each_step
def test_how_parameters_are_split_changes_nothing(op, dtype, isa):
    """One long array or many short ones, at any number of threads: the same bits."""
    n = 40_000
    whole = arguments(op, dtype, [(n,)])
    cuts = [0, 1, 1, 7, 20_000, 20_013, 39_999, n]
    want = map_arrays(np.copy, whole)
    getattr(ops, op)(*want, **OPTIONS[op])
    for threads in (1, 2, 3, 7):
        parts = [[x[0][a:b].copy() for a, b in pairwise(cuts)] for x in whole]
        with forced(threads=threads):
            getattr(ops, op)(*parts, **OPTIONS[op])
        for got, expected in zip(parts, want, strict=True):
            np.testing.assert_array_equal(np.concatenate(got), expected[0])


@each_step
def test_no_parameters(op):
    """There is nothing to do, and that is no error."""
    lists = [[] for _ in range(2 + STATES[op])]
    assert getattr(ops, op)(*lists, **OPTIONS[op]) is None
    assert lists == [[]] * len(lists)


@each_step
def test_lists(op):
    lists = arguments(op)
    step, options = getattr(ops, op), OPTIONS[op]
    with pytest.raises(TypeError, match=rf"^{op}: params must be a list of NumPy arrays, got ndarray"):
        step(lists[0][0], *lists[1:], **options)
    with pytest.raises(TypeError, match=rf"^{op}: grads must be a list of NumPy arrays, got NoneType"):
        step(lists[0], None, *lists[2:], **options)
    with pytest.raises(ValueError, match=rf"^{op}: grads has 5 arrays, expected 6 like params"):
        step(lists[0], lists[1][:-1], *lists[2:], **options)
    with pytest.raises(ValueError, match=rf"^{op}: grads\[2\] has shape \(3,\), expected \(129,\)"):
        step(lists[0], [*lists[1][:2], np.ones(3, np.float32), *lists[1][3:]], *lists[2:], **options)
    with pytest.raises(TypeError, match=rf"^{op}: params\[1\] has dtype float64, expected float32"):
        step([lists[0][0], np.array(1.0), *lists[0][2:]], *lists[1:], **options)


@each_step
@pytest.mark.parametrize(
    "change",
    [lambda x: x[::2].repeat(2)[::2], lambda x: np.frombuffer(x.tobytes(), x.dtype), lambda x: x.view(Subclass)],
    ids=["strided", "read-only", "subclass"],
)
def test_what_is_updated_must_be_plain_memory(op, change):
    for k in range(2 + STATES[op]):
        lists = [[x] for x in (y[2] for y in arguments(op))]
        lists[k] = [change(np.concatenate([lists[k][0]] * 2)[:258])[:129]]
        if k == 1:
            getattr(ops, op)(*lists, **OPTIONS[op])  # grads are only read
        else:
            with pytest.raises(ValueError, match=rf"^{op}: \w+\[0\] is updated in place, expected a writable"):
                getattr(ops, op)(*lists, **OPTIONS[op])


@each_step
def test_overlap(op):
    memory = np.ones(1000, np.float32)
    a, b = memory[:500], memory[499:999]
    others = [[x.copy(), x.copy()] for x in [a] * STATES[op]]
    with pytest.raises(ValueError, match=rf"^{op}: params\[1\] and params\[0\] share memory"):
        getattr(ops, op)([a, b], [a.copy(), a.copy()], *others, **OPTIONS[op])
    with pytest.raises(ValueError, match=rf"^{op}: grads\[1\] and params\[0\] share memory"):
        getattr(ops, op)([a, a.copy()], [a.copy(), b], *others, **OPTIONS[op])
    gradient = a.copy()
    getattr(ops, op)([memory[:500], memory[500:]], [gradient, gradient], *others, **OPTIONS[op])  # which is only read


@each_step
@pytest.mark.parametrize("value", [nan, inf, -inf])
def test_values_that_are_not_finite(op, value, isa):
    """They spread as in the reference, and to no other element."""
    for k in range(2):
        lists = [[x] for x in (y[2] for y in arguments(op))]
        lists[k][0][[0, 64, 128]] = value
        want = map_arrays(lambda x: x.astype(np.float64), lists)
        getattr(ops, op)(*lists, **OPTIONS[op])
        with np.errstate(all="ignore"):
            getattr(reference, op)(*want, **OPTIONS[op])
        for got, expected in zip(lists, want, strict=True):
            np.testing.assert_allclose(got[0], expected[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("op", "options", "error", "said"),
    [
        ("sgd_step", {"lr": -1.0}, ValueError, "lr is -1.0, expected a finite number, at least 0"),
        ("sgd_step", {"lr": "1"}, TypeError, "lr must be a number, got '1'"),
        ("sgd_step", {"momentum": nan}, ValueError, "momentum is nan, expected a finite number"),
        ("sgd_step", {"nesterov": True}, ValueError, "nesterov with momentum 0.0 and dampening 0.0"),
        ("rmsprop_step", {"momentum": 0.5}, ValueError, "momentum_buffers is None, expected a list of arrays"),
        ("adam_step", {"step": 0}, ValueError, "step is 0, expected at least 1"),
        ("adam_step", {"step": 1.0}, TypeError, "step must be an integer, got 1.0"),
        ("adamw_step", {"step": 1, "betas": 0.9}, TypeError, "betas must be a pair of numbers, got 0.9"),
        ("adamw_step", {"step": 1, "betas": (0.9, 1.0)}, ValueError, r"betas\[1\] is 1.0, expected 0 <= "),
        ("adam_step", {"step": 1, "eps": -1e-8}, ValueError, "eps is -1e-08, expected a finite number"),
    ],
)
def test_wrong_options(op, options, error, said):
    with pytest.raises(error, match=rf"^{op}: {said}"):
        getattr(ops, op)(*arguments(op), **options)


def test_momentum_needs_buffers():
    with pytest.raises(ValueError, match=r"^sgd_step: momentum_buffers is None, expected a list of arrays"):
        ops.sgd_step(draw(), draw(), momentum=0.9)


# ---- clipping ----


def test_norm_is_that_of_all_elements(dtype, isa):
    grads = draw(dtype)
    flat = np.concatenate([g.ravel() for g in grads]).astype(np.float64)
    for norm_type, want in ((2.0, np.linalg.norm(flat)), (inf, np.abs(flat).max())):
        totals = set()
        for threads in (1, 2, 3, 7):
            with forced(threads=threads):
                clipped = map_arrays(np.copy, grads)
                total = ops.clip_grad_norm(clipped, 1.0, norm_type)
            assert (total.shape, total.dtype) == ((), dtype)
            totals.add(total.tobytes())
        assert len(totals) == 1
        assert total == pytest.approx(want, rel=2 * float(np.finfo(dtype).eps))
        for g, c in zip(grads, clipped, strict=True):
            np.testing.assert_allclose(c, g / (want + 1e-6), rtol=4 * np.finfo(dtype).eps)


@pytest.mark.parametrize("norm_type", [2.0, inf])
@pytest.mark.parametrize("value", [nan, inf])
def test_norm_that_is_not_finite(norm_type, value, isa):
    """An error before anything is changed; else NaN everywhere, or 0 and NaN, as in torch."""
    grads = draw()
    grads[4][16_999] = value
    before = map_arrays(np.copy, grads)
    with pytest.raises(ValueError, match=rf"^clip_grad_norm: the norm of grads is {value}, expected a finite one"):
        ops.clip_grad_norm(grads, 1.0, norm_type, error_if_nonfinite=True)
    for g, b in zip(grads, before, strict=True):
        np.testing.assert_array_equal(g, b)
    total = ops.clip_grad_norm(grads, 1.0, norm_type)
    np.testing.assert_equal(total, np.float32(value))
    factor = np.float32(nan if np.isnan(value) else 0)
    with np.errstate(invalid="ignore"):
        for g, b in zip(grads, before, strict=True):
            np.testing.assert_array_equal(g, b * factor)


def test_norm_does_not_overflow_early():
    grads = [np.full(100, 1e25, np.float32)]
    assert float(ops.clip_grad_norm(grads, 1.0)) == pytest.approx(1e26, rel=1e-6)
    np.testing.assert_allclose(grads[0], 0.1, rtol=1e-6)


def test_clip_grad_norm_arguments():
    with pytest.raises(ValueError, match=r"^clip_grad_norm: norm_type is 1.0, expected 2 or inf"):
        ops.clip_grad_norm(draw(), 1.0, 1)
    with pytest.raises(ValueError, match=r"^clip_grad_norm: grads is empty"):
        ops.clip_grad_norm([], 1.0)


def test_clip_grad_value_keeps_nan(isa):
    grads = [np.array([nan, inf, -inf, 0.25, -0.0, -3.0, 3.0], np.float32)]
    ops.clip_grad_value(grads, 0.5)
    np.testing.assert_array_equal(grads[0], np.array([nan, 0.5, -0.5, 0.25, -0.0, -0.5, 0.5], np.float32))


# ---- torch ----


@pytest.mark.parametrize(
    ("op", "name", "options", "states"),
    [
        ("sgd_step", "SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1, "nesterov": True}, 1),
        ("rmsprop_step", "RMSprop", {"lr": 0.01, "weight_decay": 0.1}, 1),
        ("adam_step", "Adam", {"lr": 0.01, "weight_decay": 0.1}, 2),
        ("adamw_step", "AdamW", {"lr": 0.01, "weight_decay": 0.1}, 2),
    ],
)
def test_ten_steps_of_torchs_single_tensor_optimiser(op, name, options, states, dtype):
    """From the first step on. Each step rounds some ten times, relative to the largest parameter."""
    torch = pytest.importorskip("torch")
    params = draw(dtype)
    theirs = [torch.nn.Parameter(torch.from_numpy(p.copy())) for p in params]
    optimiser = getattr(torch.optim, name)(theirs, foreach=False, **options)
    state = [[np.zeros_like(p) for p in params] for _ in range(states)]
    for t in range(1, 11):
        grads = draw(dtype, 100 + t)
        for p, g in zip(theirs, grads, strict=True):
            p.grad = torch.from_numpy(g.copy())
        optimiser.step()
        more = {"sgd_step": {"first": t == 1}, "rmsprop_step": {}}.get(op, {"step": t})
        getattr(ops, op)(params, grads, *state, **options, **more)
    for p, q in zip(params, theirs, strict=True):
        bound = 10 * 12 * np.finfo(dtype).eps * np.abs(p).max(initial=1)
        np.testing.assert_allclose(p, q.detach().numpy(), rtol=0, atol=bound)
