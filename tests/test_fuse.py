"""nn.fuse: what is folded in networks of all forms, that the results stay, and that nothing else changes."""

import copy
import pickle

import numpy as np
import pytest

import fastnn
from fastnn import Tensor, nn
from fastnn.nn import functional as F

X = np.random.default_rng(0).standard_normal((2, 4, 9, 8))


def warmed(model, dtype=np.float64):
    """The model in eval mode with random statistics and parameters of batch norm."""
    rng = np.random.default_rng(1)
    for module in model.to(dtype).modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
            module.running_mean[...] = rng.standard_normal(module.num_features)
            module.running_var[...] = rng.random(module.num_features) + 0.5
            for p in module.parameters():
                p.data[...] = rng.standard_normal(p.shape)
    return model.eval()


def number(model, kind):
    return sum(type(module) is kind for module in model.modules())


class Net(nn.Module):
    """Two convolutions with batch norm, and a forward that the test gives."""

    def __init__(self, forward, **more):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.conv2, self.bn2 = nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.relu = nn.ReLU()
        for name, module in more.items():
            setattr(self, name, module)
        self.steps = forward

    def forward(self, x):
        return self.steps(self, x)


def residual(self, x):
    y = self.relu(self.bn1(self.conv1(x)))
    y = self.bn2(self.conv2(y))
    y += x
    return self.relu(y)


def functional(self, x):
    return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))).flatten(1)


def sizes(self, x):
    y = self.bn1(self.conv1(x))
    return y.view(y.shape[0], -1) + y.reshape(y.size(0), y.shape[1] * 9 * 8).mean(1, keepdim=True)


def pre_activation(self, x):
    return x + self.conv2(self.relu(self.bn2(self.conv1(self.relu(self.bn1(x))))))


def used_twice(self, x):
    y = self.conv1(x)
    return self.bn1(y) + y


def used_by_both(self, x):
    y = self.conv1(x)
    return self.bn1(y) + self.bn2(y)


def returned(self, x):
    y = self.conv1(x)
    return {"before": [y], "after": (self.bn1(y), None)}


def stored(self, x):
    y = self.features = self.conv1(x)
    return self.bn1(y)


def between(self, x):
    return self.bn1(self.conv1(x) * 2)


def by_two_convolutions(self, x):
    return self.bn1(self.conv1(x)) + self.bn1(self.conv2(x))


def convolution_twice(self, x):
    return self.bn1(self.conv1(self.conv1(x)))


def normalised_twice(self, x):
    return self.bn1(self.bn1(self.conv1(x)))


def weight_read(self, x):
    return self.bn1(self.conv1(x)) + F.conv2d(x, self.conv1.weight, padding=1)


def weight_computed_with(self, x):
    return self.bn1(self.conv1(x)) + F.conv2d(x, self.conv1.weight * 2, padding=1)


def weight_read_as_array(self, x):
    return self.bn1(self.conv1(x)) * float(self.conv1.weight.data[0, 0, 0, 0])


def scale_read(self, x):
    return self.bn1(self.conv1(x)) * self.bn1.weight[0]


def in_place(self, x):
    y = z = self.conv1(x)
    z += 1
    return self.bn1(y)


def written_to(self, x):
    y = self.conv1(x)
    y[:, 0] = 0
    return self.bn1(y)


def only_relu(self, x):
    return self.relu(self.conv1(x)) + self.bn2(self.conv2(self.relu(self.conv2(x))))


def concatenated(self, x):
    return fastnn.cat([self.bn1(self.conv1(x)), self.relu(self.bn2(self.conv2(x)))], 1)


def unpacked(self, x):
    n, c, h, w = x.shape
    a, b = self.bn1(self.conv1(x)).chunk(2, 1)
    high, _ = a.reshape(n, c // 2, h * w).max(dim=2)
    return high, b


def unused(self, x):
    self.bn1(self.conv1(x))
    return x


# forward, batch norms that are left, ReLUs that are left
FORMS = [
    (residual, 0, 1),  # the one ReLU is also behind the sum
    (functional, 0, 1),
    (sizes, 1, 1),
    (pre_activation, 1, 1),
    (used_twice, 2, 1),
    (used_by_both, 2, 1),
    (returned, 2, 1),
    (stored, 2, 1),
    (between, 2, 1),
    (by_two_convolutions, 2, 1),
    (convolution_twice, 2, 1),
    (normalised_twice, 2, 1),
    (weight_read, 2, 1),
    (weight_computed_with, 2, 1),
    (weight_read_as_array, 2, 1),
    (scale_read, 2, 1),
    (in_place, 2, 1),
    (written_to, 2, 1),
    (only_relu, 2, 1),
    (concatenated, 0, 0),
    (unpacked, 1, 1),
    (unused, 1, 1),
]


def close(y, want, dtype=np.float64):
    """Folding rounds each weight and shift once, and the sum of 36 products otherwise: some 40 eps of the terms, which
    are up to 10 times larger than the result here, in two layers."""
    if isinstance(want, dict | list | tuple):
        assert len(y) == len(want)
        for a, b in zip(*(x.values() if isinstance(x, dict) else x for x in (y, want)), strict=True):
            close(a, b, dtype)
    elif want is not None:
        assert (type(y), y.dtype) == (type(want), want.dtype)
        np.testing.assert_allclose(y, want, rtol=0, atol=1000 * np.finfo(dtype).eps * abs(want).max())


@pytest.mark.parametrize(("forward", "norms", "relus"), FORMS, ids=[form[0].__name__ for form in FORMS])
def test_forms(forward, norms, relus):
    model = warmed(Net(forward))
    before = {name: x.copy() for name, x in model.state_dict().items()}
    fused = nn.fuse(model)
    assert (number(fused, nn.BatchNorm2d), number(fused, nn.ReLU)) == (norms, relus)
    close(fused(X), model(X))
    assert number(model, nn.BatchNorm2d) == 2
    assert before.keys() == model.state_dict().keys()
    assert all(np.array_equal(x, before[name]) for name, x in model.state_dict().items())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 6, 3),
        nn.Conv2d(4, 6, (3, 2), stride=2, padding=1, groups=2, bias=False),
        nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"),
        nn.ConvTranspose2d(4, 6, 3),
        nn.ConvTranspose2d(4, 6, (3, 2), stride=2, groups=2, bias=False),
    ],
    ids=str,
)
@pytest.mark.parametrize("options", [{}, {"affine": False}, {"bias": False, "eps": 0.1}], ids=str)
def test_layers(layer, options, dtype):
    model = warmed(nn.Sequential(copy.deepcopy(layer), nn.BatchNorm2d(6, **options), nn.ReLU()), dtype)
    fused = nn.fuse(model)
    assert [type(x) for x in fused][1] is nn.Identity
    assert (type(fused[2]) is nn.Identity) == isinstance(layer, nn.Conv2d)
    assert repr(fused[0]).endswith(", activation=relu)") == isinstance(layer, nn.Conv2d)
    close(fused(X.astype(dtype)), model(X.astype(dtype)), dtype)


def test_what_is_left():
    """No running statistics; batch norm first; another norm."""
    model = warmed(nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4, track_running_stats=False)))
    fused = nn.fuse(model)
    assert number(fused, nn.BatchNorm2d) == 2
    assert np.array_equal(fused(X), model(X))


def test_nested_containers_and_lists():
    """Layers that also are in a list of the user's own, which is not a ModuleList."""

    class Lists(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList([nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)])
            self.own = [*self.layers]
            self.rest = nn.Parallel(
                nn.Residual(nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)), relu=True),
                nn.Sequential(nn.Conv2d(4, 2, 1), nn.BatchNorm2d(2), nn.ReLU()),
            )

        def forward(self, x):
            for layer in self.own:
                x = layer(x)
            return self.rest(x)

    model = warmed(Lists())
    fused = nn.fuse(model)
    assert (number(fused, nn.BatchNorm2d), number(fused, nn.ReLU)) == (0, 0)
    close(fused(X), model(X))


def test_tied_weights_are_left():
    model = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))
    model[2].weight = model[0].weight
    fused = nn.fuse(warmed(model))
    assert number(fused, nn.BatchNorm2d) == 2
    close(fused(X), model(X))


def test_a_fused_model():
    model = warmed(Net(residual))
    fused = nn.fuse(model.train())
    assert model.training and not fused.training
    y = fused(X)
    for twin in (copy.deepcopy(fused), nn.fuse(fused), fused.train()):
        assert np.array_equal(twin(X), y)
    assert isinstance(fused(Tensor(X)), Tensor)
    assert np.array_equal(fused(Tensor(X)).data, y)
    stored = pickle.loads(pickle.dumps(nn.fuse(warmed(nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4))))))
    assert [type(x) for x in stored] == [nn.Conv2d, nn.Identity]


def test_a_lone_layer():
    layer = nn.Conv2d(4, 4, 3).double()
    assert np.array_equal(nn.fuse(layer)(X), layer(X))


def test_relu_between():
    fused = nn.fuse(nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU()))
    model = warmed(nn.Sequential(fused[0], nn.BatchNorm2d(4)))
    assert number(nn.fuse(model), nn.BatchNorm2d) == 1
    assert np.array_equal(nn.fuse(model)(X), model(X))


@pytest.mark.parametrize("factor", [1e30, np.nan])
def test_what_would_overflow_is_left(factor):
    model = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))
    model[1].running_var[...] = 1e-30
    model[1].weight.data[2] = factor
    model[1].eps = 0.0
    assert number(nn.fuse(model), nn.BatchNorm2d) == 1


def test_other_layers_of_the_library():
    """A recurrent layer and PReLU are called as a whole, like those of one operator."""

    def forward(self, x):
        y, (h, _) = self.lstm(self.prelu(self.bn1(self.conv1(x))).mean(1))
        return y + h

    model = warmed(Net(forward, lstm=nn.LSTM(8, 5), prelu=nn.PReLU()))
    fused = nn.fuse(model)
    assert number(fused, nn.BatchNorm2d) == 1
    close(fused(X), model(X))


def test_what_users_changed_is_left():
    """A forward of an instance, and a subclass, do what they say."""

    class Negative(nn.Conv2d):
        def forward(self, input):
            return -super().forward(input)

    model = warmed(nn.Sequential(Negative(4, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)))
    with pytest.raises(ValueError, match="fuse: forward of Sequential"):  # need_ndim of the super class asks for sizes
        nn.fuse(model)
    model[0] = nn.Identity()
    model[1].forward = lambda x: x * 2
    fused = nn.fuse(model)
    assert [type(x) for x in fused][1:] == [nn.BatchNorm2d, nn.Conv2d, nn.Identity]
    close(fused(X), model(X))


def test_frozen_parameters():
    model = nn.Sequential(nn.Conv2d(4, 4, 1, bias=False), nn.BatchNorm2d(4)).requires_grad_(False)
    assert [p.requires_grad for p in nn.fuse(model).parameters()] == [False, False]


def by_value(self, x):
    return self.bn1(self.conv1(x)) if x.sum() > 0 else x


def by_value_with_another_way(self, x):
    try:
        large = x.sum().item() > 0
    except Exception:
        large = False
    return self.bn1(self.conv1(x)) if large else self.conv1(x)


def by_size(self, x):
    return self.bn1(self.conv1(x)) if x.shape[1] == 4 else x


def by_iteration(self, x):
    return fastnn.stack([self.bn1(self.conv1(y[None])) for y in x])


def by_number(self, x):
    return self.conv1(x) * x.mean().item()


def by_object(self, x):
    class Result:
        y = self.conv1(x)

    return Result()


@pytest.mark.parametrize("forward", [by_value, by_value_with_another_way, by_size, by_iteration, by_number, by_object])
def test_values_are_needed(forward):
    model = warmed(Net(forward))
    with pytest.raises(ValueError, match="fuse: forward of Net "):
        nn.fuse(model)
    model(X)
    assert np.array_equal(F.relu(Tensor(X)).data, F.relu(X))  # the tape is as before


def test_no_module():
    with pytest.raises(TypeError, match="fuse: model must be a Module, got int"):
        nn.fuse(3)
    with pytest.raises(ValueError, match="fuse: ModuleList has no forward"):
        nn.fuse(nn.ModuleList([nn.ReLU()]))
