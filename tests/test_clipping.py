"""fastnn.nn.utils: clipping of the gradients of parameters."""

import numpy as np
import pytest

import fastnn
from fastnn.nn.utils import clip_grad_norm_, clip_grad_value_


def with_gradients(dtypes):
    """Parameters, of which the third has no gradient."""
    rng = np.random.default_rng(0)
    shapes = [(3, 5), (129,), (7,), (2, 3, 4)]
    params = [fastnn.Tensor(np.zeros(shape, dtype)) for shape, dtype in zip(shapes, dtypes, strict=True)]
    for i, p in enumerate(params):
        p.grad = None if i == 2 else rng.standard_normal(p.shape).astype(p.dtype)
    return params


@pytest.mark.parametrize("norm_type", [2, 2.0, float("inf"), 1, 3.5])
@pytest.mark.parametrize("max_norm", [0.5, 1e6])
@pytest.mark.parametrize("dtypes", [(np.float32,) * 4, (np.float64,) * 4, (np.float32, np.float64) * 2], ids=str)
def test_clip_grad_norm(norm_type, max_norm, dtypes):
    """The norm is summed in double precision and rounded twice at most, and so is each gradient."""
    params = with_gradients(dtypes)
    grads = [p.grad for p in params]
    flat = np.concatenate([g.ravel().astype(np.float64) for g in grads if g is not None])
    want, eps = np.linalg.norm(flat, norm_type), max(np.finfo(p.dtype).eps for p in params)
    copies = [None if g is None else g.copy() for g in grads]
    total = clip_grad_norm_(iter(params), max_norm, norm_type)
    assert type(total) is float
    assert total == pytest.approx(want, rel=4 * float(eps))
    for p, g, before in zip(params, grads, copies, strict=True):
        assert p.grad is g
        if g is not None:
            assert g.dtype == before.dtype == p.dtype
            np.testing.assert_allclose(g, before * min(1, max_norm / (want + 1e-6)), rtol=4 * eps)


def test_clip_grad_norm_of_torch():
    torch = pytest.importorskip("torch")
    params = with_gradients((np.float64,) * 4)
    theirs = [torch.nn.Parameter(torch.from_numpy(p.data.copy())) for p in params]
    for p, q in zip(params, theirs, strict=True):
        q.grad = None if p.grad is None else torch.from_numpy(p.grad.copy())
    total = torch.nn.utils.clip_grad_norm_(theirs, 0.7)
    assert clip_grad_norm_(params, 0.7) == pytest.approx(total.item(), rel=1e-14)
    for p, q in zip(params, theirs, strict=True):
        if p.grad is not None:
            np.testing.assert_allclose(p.grad, q.grad.numpy(), rtol=1e-14)


def leaf():
    return fastnn.Tensor(np.ones(2, np.float32), requires_grad=True)


@pytest.mark.parametrize("norm_type", [2, 1])
def test_a_norm_that_is_not_finite(norm_type):
    p = leaf()
    p.grad = np.array([1.0, np.nan, 2.0])
    with pytest.raises(ValueError, match=r"^clip_grad_norm_?: the norm of .*grad.* is nan, expected a finite one"):
        clip_grad_norm_(p, 1.0, norm_type, error_if_nonfinite=True)
    np.testing.assert_array_equal(p.grad, [1.0, np.nan, 2.0])
    assert np.isnan(clip_grad_norm_(p, 1.0, norm_type))
    assert np.isnan(p.grad).all()


def test_clipping_without_gradients():
    assert clip_grad_norm_([], 1.0) == 0.0
    assert clip_grad_norm_(leaf(), 1.0) == 0.0
    p = leaf()
    clip_grad_value_(p, 1.0)
    assert p.grad is None


def test_clip_grad_value():
    params = with_gradients((np.float32, np.float64) * 2)
    want = [None if p.grad is None else np.clip(p.grad, -0.25, 0.25) for p in params]
    clip_grad_value_(params, 0.25)
    for p, w in zip(params, want, strict=True):
        np.testing.assert_equal(p.grad, w)


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (
            lambda p: clip_grad_norm_([p, p.data], 1),
            TypeError,
            "clip_grad_norm_: parameters must be Tensors, got ndarr",
        ),
        (
            lambda p: clip_grad_norm_(p, 1, 0),
            ValueError,
            "clip_grad_norm_: norm_type is 0.0, expected a number above 0",
        ),
        (lambda p: clip_grad_norm_(p, 1, "2"), TypeError, "clip_grad_norm_: norm_type must be a number, got '2'"),
        (lambda p: clip_grad_norm_(p, -1), ValueError, "clip_grad_norm_: max_norm is -1.0, expected at least 0"),
        (lambda p: clip_grad_norm_(p, -1, 1), ValueError, "clip_grad_norm_: max_norm is -1.0, expected at least 0"),
        (
            lambda p: clip_grad_value_(p, -1),
            ValueError,
            "clip_grad_value: clip_value is -1.0, expected a finite number",
        ),
    ],
)
def test_wrong_arguments_of_clipping(call, error, said):
    p = leaf()
    p.grad = np.ones(2, np.float32)
    with pytest.raises(error, match=f"^{said}"):
        call(p)
    np.testing.assert_array_equal(p.grad, 1)
