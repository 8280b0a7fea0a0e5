"""Layers of fastnn.nn beside torch's of the same names."""

import numpy as np

from fastnn import Tensor, nn

EPS = {np.float32: 2.0**-23, np.float64: 2.0**-52}

# torch has the factor 1/6 of its gradient in single precision, whatever the dtype.
SINGLE = {"Hardsigmoid"}


def name_of(case):
    """An id, the same in every process: without functions, whose addresses are not."""
    return " ".join(str(value) for value in case if not callable(value))


def pair(torch, name, args, options, dtype=np.float32, seed=0):
    """Our layer with random parameters, and torch's with the same."""
    theirs = getattr(torch.nn, name)(*args, **options).to(getattr(torch, np.dtype(dtype).name))
    ours = getattr(nn, name)(*args, **options).to(dtype)
    rng = np.random.default_rng(seed)
    for parameter in ours.parameters():
        parameter.data[...] = rng.standard_normal(parameter.shape) * 0.5
    theirs.load_state_dict({key: torch.tensor(x) for key, x in ours.state_dict().items()})
    return ours, theirs


def flat(results):
    """Tensors and arrays of nested tuples."""
    return [y for x in results for y in flat(x)] if isinstance(results, tuple) else [results]


def close(got, want, dtype, what, terms=1):
    """Both computed the same, with errors of rounding: of a chain of `terms` sums or products, and functions of a few
    units in the last place, relative to the largest value."""
    assert (got.shape, got.dtype) == (want.shape, want.dtype), what
    scale = max(1.0, np.abs(want).max(initial=0))
    np.testing.assert_allclose(got, want, rtol=0, atol=(16 + 2 * terms) * EPS[dtype] * scale, err_msg=what)


def compare(torch, ours, theirs, x, dtype):
    """Results, gradients and running statistics of one call."""
    given, leaf = Tensor(x.copy(), True), torch.tensor(x, requires_grad=True)
    got = flat(ours(given))
    want = flat(theirs(leaf.clone()))  # which an inplace layer may overwrite
    plain = flat(ours(x.copy())) if not ours.training else got
    terms = x.size
    for i, (y, t, p) in enumerate(zip(got, want, plain, strict=True)):
        assert isinstance(y, Tensor)
        close(y.data, t.detach().numpy(), dtype, f"result {i}", terms)
        assert ours.training or (isinstance(p, np.ndarray) and np.array_equal(p, y.data))
    rng = np.random.default_rng(7)
    weights = [rng.standard_normal(y.shape).astype(dtype) for y in got]
    sum((y * w).sum() for y, w in zip(got, weights, strict=True)).backward()
    sum((t * torch.tensor(w)).sum() for t, w in zip(want, weights, strict=True)).backward()
    precision = np.float32 if type(ours).__name__ in SINGLE else dtype
    close(given.grad, leaf.grad.numpy(), precision, "gradient of the input", terms)
    for (key, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        close(p.grad, q.grad.numpy(), dtype, f"gradient of {key}", terms)
        p.grad = q.grad = None
    for key, buffer in theirs.named_buffers():
        close(dict(ours.named_buffers())[key].astype(dtype), buffer.numpy().astype(dtype), dtype, key, terms)
