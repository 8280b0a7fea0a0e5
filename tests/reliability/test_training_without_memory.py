"""Memory that runs out in layers, optimisers and files: see test_allocation_failures.py."""

import numpy as np
import pytest
from memory_support import fail_each
from support import assert_same_bits, copy

import fastnn
from fastnn import functional as F
from fastnn import nn, optim
from fastnn.kernels import runtime


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


def test_inference():
    """In a model that keeps prepared filters, they are kept whole or not at all."""
    model = Network().eval()
    x = np.random.default_rng(0).standard_normal((2, 1, 5, 6), np.float32)
    want = model(x)

    def check():
        assert_same_bits({"y": model(x)}, {"y": want}, "inference")

    def anew():
        try:
            return model(x)
        finally:
            model.conv._prepared.clear()

    model.conv._prepared.clear()
    allocations = fail_each(anew, check, "inference")
    assert allocations > 10
    for k in range(1, allocations + 1):
        model.conv._prepared.clear()
        with runtime.failing_memory(k), pytest.raises(MemoryError):
            model(x)
        check()


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
