"""Memory that runs out: the k-th allocation fails, for every k until a call succeeds.

Each time the caller gets a MemoryError and nothing else; no block leaks; inputs, and arrays that would have been
updated, are untouched; and the next call gives the right bits.

`python test_allocation_failures.py` does that to the allocations of Python's objects, in forward and backward passes.
"""

import sys

import numpy as np
import pytest
from support import assert_same_bits, copy, each_spec, run

import fastnn
from fastnn import functional as F
from fastnn import nn, ops, optim
from fastnn.kernels import runtime
from fastnn.registry import flat, map_arrays, specs
from fastnn.verify import forced

try:
    import _testcapi
except ImportError:
    _testcapi = None


def memory_in_use():
    """Blocks, and bytes of scratch memory."""
    runtime.scratch_peak()
    return runtime.test_blocks(), runtime.scratch_peak()


def fail_each(call, check, what, keeps=False):
    """call(), with each of its allocations failing in turn; check() follows each failure. How many there are.

    keeps: when it succeeds, the call puts arrays where they stay.
    """
    before = memory_in_use()
    k = 0
    while True:
        k += 1
        error = result = None
        with runtime.failing_memory(k) as memory:
            try:
                result = call()
            except MemoryError as e:
                error = e.with_traceback(None)
        if memory.allocations < k:
            break
        assert error is not None, f"{what}: succeeded although allocation {k} failed"
        assert error.__cause__ is None and error.__context__ is None, f"{what}: {error!r} hides another error"
        del error
        assert memory_in_use() == before, f"{what}: allocation {k} failed, and left memory behind"
        check()
    assert error is None, f"{what}: {error!r}, but no allocation failed"
    del result
    assert keeps or memory_in_use() == before, f"{what}: memory is left behind"
    return k - 1


def fail_case(spec, case, dtype):
    """Forward and backward pass of a case."""
    inputs = spec.inputs(case, dtype)
    arrays, what = copy(inputs), f"{spec.name}: {case}"
    want = run(spec, ops, inputs, case.options)

    def check():
        assert_same_bits(flat(arrays), flat(inputs), f"arguments of {what}")
        assert_same_bits(run(spec, ops, inputs, case.options), want, f"{what} after a failure")

    failed = fail_each(lambda: spec.forward(ops, arrays, case.options), check, what)
    arrays = copy(inputs)
    if spec.grads:
        outputs, ctx = spec.forward(ops, arrays, case.options)
        after = copy(arrays)
        dy = spec.draw_dy(outputs)
        kept = map_arrays(np.copy, dy)

        def check_backward():
            assert_same_bits(flat(arrays), flat(after), f"arguments of {what}")
            got, expected = ({"dy": x} if isinstance(x, np.ndarray) else dict(enumerate(x)) for x in (dy, kept))
            assert_same_bits(got, expected, f"dy of {what}")
            grads = flat(spec.backward(ops, dy, ctx))
            assert_same_bits(grads, {name: want[f"d{name}"] for name in grads}, f"gradients of {what}")

        failed += fail_each(lambda: spec.backward(ops, dy, ctx), check_backward, f"gradients of {what}")
    return failed


@each_spec()
def test_every_allocation_fails_once(spec, scaled):
    """In forward and backward passes: of every case in the long form, of that with most allocations in the short."""
    cases = scaled(
        [(heaviest(spec), np.float32)], [(case, dtype) for case in spec.cases for dtype in (np.float32, np.float64)]
    )
    with forced(threads=1):
        failed = [fail_case(spec, case, dtype) for case, dtype in cases]
    assert all(failed) or spec.updates


def heaviest(spec):
    """The case of an operator with most allocations."""

    def allocations(case):
        arrays = spec.inputs(case)
        with runtime.failing_memory(0) as memory:
            run(spec, ops, arrays, case.options)
        return memory.allocations

    return max(spec.cases, key=allocations)


@pytest.mark.parametrize("name", [name for name, spec in specs().items() if "running_mean" in spec.cases[0].shapes])
def test_running_statistics_are_updated_last(name):
    """Instance norm and whitening updated them before all memory was there."""
    spec = specs()[name]
    for case in spec.cases:
        fail_case(spec, case, np.float32)


def test_batches_are_counted_last():
    """Batch norm counted a batch before all memory was there."""
    x, mean, var, count = (
        np.ones((4, 3), np.float32),
        np.zeros(3, np.float32),
        np.ones(3, np.float32),
        np.zeros((), int),
    )

    def check():
        assert (count, mean.any()) == (0, False)

    options = {"running_mean": mean, "running_var": var, "training": True, "num_batches_tracked": count}
    assert fail_each(lambda: ops.batch_norm_forward(x, **options), check, "batch_norm") >= 3
    assert (count, mean.all()) == (1, True)


def test_preparing_filters():
    """And what a prepared convolution makes of them in its first call with an algorithm."""
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((1, 8, 12, 12), np.float32), rng.standard_normal((8, 8, 3, 3), np.float32)
    for algo in specs()["conv2d"].algos:
        if algo in ("depthwise", "winograd5"):
            continue  # decline these filters
        want, _ = ops.conv2d_forward(x, w, algo=algo, keep=False)

        def prepared():
            return ops.conv2d_forward(x, ops.prepare_conv2d(w), algo=algo, keep=False)[0]  # noqa: B023

        def check():
            assert_same_bits({"y": prepared()}, {"y": want}, algo)  # noqa: B023

        assert fail_each(prepared, check, algo) >= 3
        kept = ops.prepare_conv2d(w)
        before = runtime.test_blocks()
        k, y = 1, None
        while y is None:  # the same object serves after a failure
            with runtime.failing_memory(k):
                try:
                    y, _ = ops.conv2d_forward(x, kept, algo=algo, keep=False)
                except MemoryError:
                    k += 1
        assert_same_bits({"y": y}, {"y": want}, algo)
        del kept, y
        assert runtime.test_blocks() == before


# ---- Python's objects ----


NUMPYS = "without setting an exception", "error return without exception set"
"""SystemErrors that come from functions of NumPy, for want of a MemoryError of theirs."""
ENOUGH = 30
"""So many successes in a row say that a call has fewer allocations than their number."""


def fail_each_object(call):
    """call(), with each allocation of Python's failing in turn; returns how many failed."""
    failed, k, successes = 0, 0, 0
    while successes < ENOUGH:
        error = None
        _testcapi.set_nomemory(k, k + 1)
        try:
            call()
        except (MemoryError, SystemError) as e:
            error = e
        _testcapi.remove_mem_hooks()
        if isinstance(error, SystemError) and not any(text in str(error) for text in NUMPYS):
            raise error
        successes = 0 if error is not None else successes + 1
        failed += error is not None
        k += 1
    return failed


def main():
    """Of every operator's smallest case. What it updates is not looked at: numbers are objects, too, and a few
    operators update in several steps."""
    failed = 0
    for spec in specs().values():
        case = min(
            spec.cases, key=lambda case: sum(x.nbytes for x in flat(spec.inputs(case)).values() if x is not None)
        )
        print(f"{spec.name}: {case}", flush=True)
        inputs = spec.inputs(case)
        want = run(spec, ops, inputs, case.options)
        forward, arrays = spec.function(ops), copy(inputs)
        options = {**arrays, **case.options}
        failed += fail_each_object(lambda: forward(**options))  # noqa: B023
        if spec.grads:
            backward = spec.function(ops, "backward")
            outputs, ctx = forward(**copy(inputs), **case.options)
            dy = spec.draw_dy(outputs)
            failed += fail_each_object(lambda: backward(dy, ctx))  # noqa: B023
        assert_same_bits(run(spec, ops, inputs, case.options), want, spec.name)
    print(f"{failed} failures", flush=True)


@pytest.mark.skipif(not hasattr(_testcapi, "set_nomemory"), reason="a Python without _testcapi.set_nomemory")
def test_python_objects_that_cannot_be_made(python):
    """The process survives, with a MemoryError, and the next call gives the right bits."""
    result = python("-X", "faulthandler", __file__, PYTHONPATH=":".join(filter(None, sys.path)), timeout=250)
    last = result.stdout.splitlines()[-1:]
    assert result.returncode == 0, f"at {last}:\n{result.stderr}"
    assert int(last[0].split()[0]) > 5 * len(specs())


# ---- layers, optimisers, files ----


class Network(nn.Module):
    """Convolution, batch norm, recurrence and attention over a picture's rows."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.lstm = nn.LSTM(4 * 6, 8, batch_first=True)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        x = F.relu(self.norm(self.conv(x)))
        steps, _ = self.lstm(x.transpose(1, 2).flatten(2))
        mixed, _ = self.attention(steps, steps, steps)
        return self.head(mixed.mean(1))


def state_of(model, optimizer):
    """Everything that a step changes, by name; running statistics apart."""
    arrays = {name: x for name, x in model.state_dict().items() if "running" not in name and "tracked" not in name}
    for i, state in optimizer.state_dict()["state"].items():
        arrays |= {f"{i} {name}": np.asarray(x) for name, x in state.items()}
    return copy(arrays)


OPTIMIZERS = {
    "adam": lambda groups: optim.Adam(groups, lr=0.01, amsgrad=True),
    "sgd": lambda groups: optim.SGD(groups, lr=0.01, momentum=0.9),
    "rmsprop": lambda groups: optim.RMSprop(groups, lr=0.01, centered=True, momentum=0.5),
}


def trained(make, steps):
    """A model and its optimiser, of two groups, after so many steps; a function for the next gradients."""
    fastnn.manual_seed(0)
    model = Network()
    biases = [p for p in model.parameters() if p.ndim == 1]
    optimizer = make([{"params": [p for p in model.parameters() if p.ndim > 1]}, {"params": biases}])
    rng = np.random.default_rng(0)
    x = fastnn.Tensor(rng.standard_normal((2, 1, 5, 6)).astype(np.float32))
    labels = np.array([0, 2])

    def gradients():
        optimizer.zero_grad()
        F.cross_entropy(model(x), labels).backward()

    for _ in range(steps):
        gradients()
        optimizer.step()
    return model, optimizer, gradients


@pytest.mark.parametrize("steps", [0, 1])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_steps_all_parameters_or_none(name, steps):
    """Groups, and parameters whose state is still to be made, included; then the step is done again, and right."""
    model, optimizer, gradients = trained(OPTIMIZERS[name], steps)
    gradients()
    before = state_of(model, optimizer)

    def check():
        assert_same_bits(state_of(model, optimizer), before, name)

    assert fail_each(optimizer.step, check, name, keeps=steps == 0) > 2
    model2, optimizer2, gradients2 = trained(OPTIMIZERS[name], steps)
    gradients2()
    optimizer2.step()
    assert_same_bits(state_of(model, optimizer), state_of(model2, optimizer2), name)


def test_a_training_step():
    """A step that fails anywhere leaves parameters and the optimiser's state as they were, and can be done again.
    Running statistics are those of the forward passes, whose number a failure does not undo."""
    model, optimizer, gradients = trained(OPTIMIZERS["adam"], 1)
    before = state_of(model, optimizer)
    optimizer.zero_grad()

    def step():
        try:
            gradients()
            optimizer.step()
        finally:
            optimizer.zero_grad()

    def check():
        assert_same_bits(state_of(model, optimizer), before, "a training step")

    assert fail_each(step, check, "a training step") > 50
    model2, optimizer2, _ = trained(OPTIMIZERS["adam"], 2)
    assert_same_bits(state_of(model, optimizer), state_of(model2, optimizer2), "the step after failures")


def test_files(tmp_path):
    """load gives all arrays or none; load_state_dict, also of another dtype, changes all parameters or none."""
    path = tmp_path / "weights.safetensors"
    model = Network()
    arrays = copy(dict(model.state_dict()))
    fastnn.save(path, arrays)
    assert fail_each(lambda: fastnn.load(path), lambda: None, "load") >= 1
    assert_same_bits(fastnn.load(path), arrays, "load after failures")
    fail_each(lambda: fastnn.save(path, arrays), lambda: assert_same_bits(fastnn.load(path), arrays, "save"), "save")
    changed = {name: x + x.dtype.type(1) for name, x in arrays.items()}
    for given in changed, {name: x.astype("f8") if x.dtype == "f4" else x for name, x in changed.items()}:
        model.load_state_dict(arrays)

        def check():
            assert_same_bits(dict(model.state_dict()), arrays, "load_state_dict")

        fail_each(lambda: model.load_state_dict(given), check, "load_state_dict")  # noqa: B023
        assert_same_bits(dict(model.state_dict()), changed, "load_state_dict after failures")


if __name__ == "__main__":
    main()
