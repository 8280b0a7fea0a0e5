"""fastnn.compat.cs231n: every layer against its definition, its gradients, dtypes, layouts, batches of nothing."""

import numpy as np
import pytest
from course_support import LAYERS, conv, max_pool

from fastnn.compat import cs231n as c
from fastnn.compat.cs231n import eval_numerical_gradient_array


def each(layers):
    return pytest.mark.parametrize("layer", layers, ids=lambda layer: layer.name)


each_layer = each(LAYERS)
# Layers one after the other round what is between them to the dtype that they have come to, as NumPy does.
each_single_layer = each([layer for layer in LAYERS if layer.name != "conv_bn_relu"])


def flat(results):
    ys, _, grads = results
    return [*ys, *grads]


def assert_identical(got, want):
    for g, w in zip(got, want, strict=True):
        assert (g.dtype, g.shape) == (w.dtype, w.shape)
        np.testing.assert_array_equal(g, w)


@each_layer
def test_definition(layer, dtype):
    """Sums have at most some 40 terms of about 1, and the recurrent layers 4 steps: within 200 roundings of the largest
    result. With one sample of a channel's few, x - mean of a norm is not much smaller than x."""
    arrays = layer.draw(dtype)
    *results, _ = layer.forward(*arrays)
    want = layer.definition(*(a.astype(np.float64) for a in arrays))
    for got, y in zip(results, want if isinstance(want, tuple) else (want,), strict=True):
        assert (got.dtype, got.shape) == (dtype, y.shape)
        assert got.flags.c_contiguous
        np.testing.assert_allclose(got, y, rtol=0, atol=200 * np.finfo(dtype).eps * abs(y).max())


@each_layer
def test_gradients(layer):
    """Central differences of the definition, with h = 1e-5: their truncation is some 1e-10, their rounding 1e-11 times
    the square root of the number of results. 1e-8 of the largest is what the course accepts (of 1, where
    all are 0 but for rounding: the bias in front of a batch norm)."""
    arrays = layer.draw()
    _, douts, grads = layer.results(arrays)
    differentiable = 3 if layer.positive else len(arrays)  # running statistics have no gradient
    arrays, constants = arrays[:differentiable], arrays[differentiable:]

    def value(i, a):
        y = layer.definition(*arrays[:i], a, *arrays[i + 1 :], *constants)
        return np.concatenate([part.ravel() for part in (y if isinstance(y, tuple) else (y,))])

    dout = np.concatenate([dout.ravel() for dout in douts])
    assert len(grads) == len(arrays)
    for i, grad in enumerate(grads):
        want = eval_numerical_gradient_array(lambda a, i=i: value(i, a), arrays[i], dout)
        assert grad.shape == arrays[i].shape
        np.testing.assert_allclose(grad, want, rtol=0, atol=1e-8 * max(1, abs(want).max()), err_msg=f"argument {i}")


@each_single_layer
def test_one_float64_among_float32(layer):
    """NumPy's promotion: everything is as if all had been float64."""
    arrays = layer.draw(np.float32)
    for i in range(len(arrays)):
        mixed = [a.astype(np.float64) if i == k else a for k, a in enumerate(arrays)]
        assert_identical(flat(layer.results(mixed)), flat(layer.results([a.astype(np.float64) for a in arrays])))


@each_layer
@pytest.mark.parametrize("kind", [np.int64, np.int8, np.bool_, np.float16, ">f8"], ids=lambda kind: np.dtype(kind).str)
def test_other_dtypes(layer, kind):
    """Integers are computed with as float64, half precision as float32."""
    arrays = [np.round(2 * a).astype(kind) for a in layer.draw()]
    dtype = np.float32 if kind is np.float16 else np.float64
    assert_identical(flat(layer.results(arrays)), flat(layer.results([a.astype(dtype) for a in arrays])))


@each_single_layer
def test_gradient_of_a_wider_dtype(layer):
    """float32 forward, a float64 gradient back: as if all had been float64; and the other way round."""
    arrays = layer.draw(np.float32)
    wide = [a.astype(np.float64) for a in arrays]
    *_, cache = layer.forward(*arrays)
    _, douts, _ = layer.results(wide)
    *_, wide_cache = layer.forward(*wide)

    def grads(douts, cache):
        result = layer.backward(*douts, cache)
        return result if isinstance(result, tuple) else (result,)

    assert_identical(grads(douts, cache), grads(douts, wide_cache))
    narrow = [dout.astype(np.float32) for dout in douts]
    assert_identical(grads(narrow, wide_cache), grads([dout.astype(np.float64) for dout in narrow], wide_cache))


@each_layer
def test_layouts(layer, dtype):
    """Fortran's order, every second element, backwards, and read-only: nothing else changes, nor do the arguments."""
    arrays = layer.draw(dtype)
    want = flat(layer.results(arrays))
    for change in (np.asfortranarray, lambda a: np.repeat(a, 2, axis=-1)[..., ::2], lambda a: a[::-1].copy()[::-1]):
        changed = [change(a) for a in arrays]
        for a in changed:
            a.flags.writeable = False
        assert_identical(flat(layer.results(changed)), want)


@each_layer
def test_backward_twice(layer):
    """A cache may be used again, and gradients are fresh."""
    arrays = layer.draw()
    *_, cache = layer.forward(*arrays)
    ys, douts, first = layer.results(arrays)
    for _ in range(2):
        grads = layer.backward(*douts, cache)
        grads = list(grads) if isinstance(grads, tuple) else [grads]
        assert_identical(grads, first)
        for grad in grads:
            assert not any(np.shares_memory(grad, a) for a in (*arrays, *ys, *douts))
            grad.fill(np.nan)


@each([layer for layer in LAYERS if layer.name != "word_embedding"])  # whose only array has no batch
def test_no_samples(layer, dtype):
    batched = {"rnn": 2, "lstm": 2, "rnn_step": 2, "lstm_step": 3}.get(layer.name, 1)
    arrays = [a[:0] if i < batched else a for i, a in enumerate(layer.draw(dtype))]
    *results, cache = layer.forward(*arrays)
    assert all(len(y) == 0 for y in results)
    grads = layer.backward(*results, cache)
    for a, grad in zip(arrays, grads if isinstance(grads, tuple) else (grads,), strict=False):
        assert (grad.shape, grad.dtype) == (a.shape, dtype)
        assert not grad.any()


# ---- convolution and pooling of any sizes ----


def problems(rng, count):
    """(x, height and width of a window, stride, padding) that fit each other."""
    for _ in range(count):
        height, width, stride, pad = rng.integers(1, 5, 4) - (0, 0, 0, 1)
        h, w = rng.integers(np.maximum(1, (height - 2 * pad, width - 2 * pad)), 14)
        yield rng.standard_normal((*rng.integers(1, 5, 2), h, w)), int(height), int(width), int(stride), int(pad)


def test_convolutions(scaled):
    """The definition; and gradients by that of a linear map: for any dout, the sum of dout * conv(x, w) is that of
    dx * x, and that of dw * w. Sums of at most 64 terms, and scalar products of 10,000."""
    rng = np.random.default_rng(0)
    for x, height, width, stride, pad in problems(rng, scaled(60, 3000)):
        w = rng.standard_normal((rng.integers(1, 6), x.shape[1], height, width))
        b = rng.standard_normal(len(w))
        out, cache = c.conv_forward_fast(x, w, b, {"stride": stride, "pad": pad})
        np.testing.assert_allclose(out, conv(x, w, b, stride, pad), rtol=0, atol=1e-13)
        dout = rng.standard_normal(out.shape)
        dx, dw, db = c.conv_backward_fast(dout, cache)
        total = (dout * (out - b[:, None, None])).sum()
        np.testing.assert_allclose([(dx * x).sum(), (dw * w).sum()], total, rtol=0, atol=1e-11)
        np.testing.assert_allclose(db, dout.sum(axis=(0, 2, 3)), rtol=0, atol=1e-13)


def test_poolings(scaled):
    """Of few values, so that there are ties: shared where windows tile the image, elsewhere the first's."""
    rng = np.random.default_rng(0)
    for x, height, width, stride, _ in problems(rng, scaled(100, 3000)):
        if x.shape[2] < height or x.shape[3] < width:
            continue
        x = rng.integers(0, 4, x.shape).astype(float)
        out, cache = c.max_pool_forward_fast(x, {"pool_height": height, "pool_width": width, "stride": stride})
        np.testing.assert_array_equal(out, max_pool(x, height, width, stride))
        dout = rng.integers(-9, 10, out.shape).astype(float)
        shared = height == width == stride and x.shape[2] % height == x.shape[3] % width == 0
        want = np.zeros(x.shape)
        for at in np.ndindex(out.shape):
            window = (
                *at[:2],
                *(slice(i * stride, i * stride + n) for i, n in zip(at[2:], (height, width), strict=True)),
            )
            largest = x[window] == out[at]
            if not shared:
                largest = np.arange(largest.size).reshape(largest.shape) == largest.argmax()
            want[window] += dout[at] / largest.sum() * largest
        np.testing.assert_array_equal(c.max_pool_backward_fast(dout, cache), want)
