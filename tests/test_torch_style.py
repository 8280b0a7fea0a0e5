"""What code written for torch calls on Tensors, and a network written for torch, in torch and here."""

import numpy as np
import pytest

import fastnn
from fastnn import Tensor


@pytest.fixture
def data():
    """Distinct values, so that every extreme is at one place."""
    rng = np.random.default_rng(0)
    return (rng.permutation(2 * 3 * 4 * 5).reshape(2, 3, 4, 5) / 60 - 0.99).astype(np.float64)


CALLS = {
    "view of size": lambda x: x.view(x.size(0), -1),
    "view of tuple": lambda x: x.view((4, -1)),
    "flatten": lambda x: x.flatten(1),
    "unflatten": lambda x: x.unflatten(1, (3, 1)),
    "mean of list": lambda x: x.mean([2, 3]),
    "mean": lambda x: x.mean(dim=(2, 3), keepdim=True),
    "sum": lambda x: x.sum(-1),
    "var": lambda x: x.var(dim=[1, 2]),
    "max of axis": lambda x: x.max(1)[0],
    "max keepdim": lambda x: x.max(dim=-2, keepdim=True).values,
    "min of axis": lambda x: x.min(2).values,
    "max": lambda x: x.max(),
    "amax": lambda x: x.amax([1, 3]),
    "softmax": lambda x: x.softmax(dim=1),
    "log_softmax": lambda x: x.log_softmax(-1),
    "relu": lambda x: x.relu() + x.sigmoid() * x.tanh(),
    "square": lambda x: x.square(),
    "permute": lambda x: x.permute(0, 2, 3, 1).contiguous().view(x.size(0), -1, 3),
    "transpose": lambda x: x.transpose(1, 2).contiguous(),
    "t": lambda x: x[0, 0].t(),
    "chunk": lambda x: x.chunk(2, dim=3)[1],
    "chunks of a short axis": lambda x: x.chunk(7, 1)[2],
    "split": lambda x: x.split([1, 2], 1)[1],
    "unsqueeze": lambda x: x.unsqueeze(1).squeeze(1),
    "expand": lambda x: x[:, :1].expand(-1, 6, -1, -1),
    "to": lambda x: x.to("cpu").float().double(),
    "cpu": lambda x: x.cpu(),
    "device": lambda x: x.to(x.device),
    "dim": lambda x: x.sum(x.dim() - 1) / x.numel(),
    "clamp": lambda x: x.clamp(min=0.1),
    "matmul": lambda x: x[0, 0].matmul(x[0, 0].t()),
}


@pytest.mark.parametrize("name", CALLS)
def test_calls(torch, data, name):
    """Results and gradients, to the rounding of sums of at most 40 terms; in single precision of what went through."""
    ours, theirs = Tensor(data, True), torch.tensor(data, requires_grad=True)
    y, t = CALLS[name](ours), CALLS[name](theirs)
    tolerance = 40 * (2.0**-23 if name == "to" else 2.0**-52)
    np.testing.assert_allclose(y.data, t.detach().numpy(), rtol=tolerance, atol=tolerance)
    weights = np.random.default_rng(1).standard_normal(y.shape)
    (y * weights).sum().backward()
    (t * torch.tensor(weights)).sum().backward()
    np.testing.assert_allclose(ours.grad, theirs.grad.numpy(), rtol=tolerance, atol=tolerance)


def test_indices(torch, data):
    ours, theirs = Tensor(data), torch.tensor(data)
    for f in (
        lambda x: x.max(1)[1],
        lambda x: x.min(-1).indices,
        lambda x: x.argmax(dim=2, keepdim=True),
        lambda x: x.argmin(0),
        lambda x: x.max(3, keepdim=True).indices,
    ):
        got, want = f(ours), f(theirs).numpy()
        assert np.array_equal(got.data, want) and got.shape == want.shape and got.dtype == np.int64


def test_size(data):
    x = Tensor(data)
    assert x.size == x.numel() == 120 and x.size() == (2, 3, 4, 5) and (x.size(1), x.size(-1)) == (3, 5)
    assert x.size + 1 == 121 and isinstance(x.size, int) and x.dim() == x.ndim == 4
    with pytest.raises(IndexError):
        x.size(4)


def test_to():
    x = Tensor(np.array([1.5, -2.5], np.float32), True)
    assert x.to("cpu") is x.to(np.float32) is x.to(device="cpu", dtype=None) is x.cpu() is x.float() is x
    y = x.to("cpu", np.float64, non_blocking=True)
    assert y.dtype == np.float64 and y.requires_grad
    y.sum().backward()
    assert x.grad.dtype == np.float32 and x.grad.tolist() == [1, 1]
    assert x.long().tolist() == [1, -2] and not x.long().requires_grad
    with pytest.raises(ValueError, match="to: got 'cuda', expected the device 'cpu' or a dtype"):
        x.to("cuda")


def test_refused():
    x = Tensor(np.ones((2, 3, 4)))
    with pytest.raises(ValueError, match="flatten: end_dim is 3, expected -3 to 2"):
        x.flatten(1, 3)
    with pytest.raises(ValueError, match="unflatten: dim is -4, expected -3 to 2"):
        x.unflatten(-4, (1, 2))
    with pytest.raises(ValueError, match="chunk: chunks is 0, expected at least 1"):
        x.chunk(0)
    with pytest.raises(ValueError, match="t: the Tensor has shape"):
        x.t()


def test_top_level(torch, data):
    for name, arguments in {"flatten": (1,), "split": (2, 1)}.items():
        got, want = (
            getattr(fastnn, name)(Tensor(data), *arguments),
            getattr(torch, name)(torch.tensor(data), *arguments),
        )
        for y, t in zip(got, want, strict=True):
            assert np.array_equal(y.data, t.numpy())
    for name in "cat", "stack":
        got = getattr(fastnn, name)([Tensor(data), data], 1)
        assert np.array_equal(got.data, getattr(torch, name)([torch.tensor(data)] * 2, 1).numpy())
    x = Tensor(data[0, 0])
    assert np.array_equal(fastnn.where(data[0, 0] > 0, x, 0.0).data, np.maximum(data[0, 0], 0))
    assert fastnn.matmul(x, x.t()).shape == (4, 4)


def network(nn, F, flatten, cat):
    """Written as for torch; only what is imported differs."""

    class Block(nn.Module):
        def __init__(self, features, rate=0.0):
            super().__init__()
            self.norm1 = nn.BatchNorm2d(features)
            self.act = nn.ReLU(inplace=True)
            self.norm2 = nn.GroupNorm(1, features)
            self.drop = nn.Dropout(p=rate)

        def forward(self, x):
            out = self.act(self.norm1(x))
            out = self.drop(self.norm2(out))
            out += x
            return F.relu(out)

    class Net(nn.Module):
        def __init__(self, classes=4):
            super().__init__()
            self.stem = nn.Sequential(nn.ZeroPad2d(1), nn.AvgPool2d(3, stride=1), nn.LeakyReLU(0.1))
            self.blocks = nn.ModuleList([Block(3) for _ in range(2)])
            self.pool = nn.MaxPool2d(kernel_size=2)
            self.avg = nn.AdaptiveAvgPool2d((1, 1))
            self.fc = nn.Linear(2 * 3 + 3 * 2 * 2, classes)

        def forward(self, x):
            x = self.stem(x)
            for block in self.blocks:
                x = block(x)
            x = self.pool(x)
            pooled = flatten(self.avg(x), 1)
            x = cat([pooled, x.mean([2, 3]), x.view(x.size(0), -1)], dim=1)
            return F.log_softmax(self.fc(x), dim=1)

    return Net()


def test_network(torch):
    import fastnn.nn.functional as F

    import fastnn.nn as nn

    theirs = network(torch.nn, torch.nn.functional, torch.flatten, torch.cat).double()
    ours = network(nn, F, fastnn.flatten, fastnn.cat).double()
    assert repr(ours) == repr(theirs)
    assert ours.load_state_dict(theirs.state_dict()) == ([], [])
    rng = np.random.default_rng(0)
    for training in True, False:
        ours.train(training)
        theirs.train(training)
        x, target = rng.standard_normal((6, 3, 4, 4)), rng.integers(0, 4, 6)
        loss = nn.NLLLoss()(ours(Tensor(x)), target)
        want = torch.nn.NLLLoss()(theirs(torch.tensor(x)), torch.tensor(target))
        np.testing.assert_allclose(loss.item(), want.item(), rtol=1e-13)  # some thousand eps through six layers
        ours.zero_grad()
        theirs.zero_grad()
        loss.backward()
        want.backward()
        for (name, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
            np.testing.assert_allclose(p.grad, q.grad.numpy(), rtol=0, atol=1e-13, err_msg=name)
    for (name, a), b in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True):
        np.testing.assert_allclose(a, b.numpy(), rtol=1e-13, err_msg=name)
