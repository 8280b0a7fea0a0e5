"""Up-sampling beyond its cases: any sizes, what torch computes, what a transposed convolution is made of."""

from math import floor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastnn import functional as F
from fastnn import ops, reference
from fastnn.kernels import runtime
from fastnn.registry import Case, specs
from fastnn.verify import Problem, forced

LEVELS = st.tuples(st.sampled_from(runtime.supported_isas()), st.integers(1, 4))
sizes = st.one_of(st.integers(1, 12), st.sampled_from([15, 16, 17, 31, 32, 33, 64, 70]))
factors = st.floats(0.2, 4.5)
EPS = np.finfo(np.float32).eps


def draw(shape, dtype=np.float32, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


@st.composite
def targets(draw, shape):
    """The option size or scale_factor, with at least one result on each axis."""
    if draw(st.booleans()):
        return {"size": tuple(draw(sizes) for _ in shape)}
    found = tuple(draw(factors) for _ in shape)
    return {"scale_factor": tuple(max(f, 1 / n) for f, n in zip(found, shape, strict=True))}


@pytest.mark.parametrize(
    "name", ["upsample_nearest1d", "upsample_linear1d", "upsample_nearest2d", "upsample_bilinear2d"]
)
def test_any_sizes_and_factors(name):
    """Within the bound of the reference; nearest on integers exactly."""
    spec = specs()[name]

    @given(st.data(), LEVELS, st.sampled_from([np.float32, np.float64]))
    def check(data, level, dtype):
        axes = 1 if name.endswith("1d") else 2
        shape = tuple(data.draw(sizes) for _ in range(axes))
        options = data.draw(targets(shape))
        if "linear" in name:
            options["align_corners"] = data.draw(st.booleans())
        problem = Problem(spec, Case({"x": (2, 1, *shape)}, options), dtype, "integer" if spec.exact else "normal")
        with forced(*level):
            for verdict in (problem.forward(), problem.backward()):
                assert verdict, f"{problem.case}: {verdict}"

    check()


@given(st.tuples(sizes, sizes), st.tuples(st.integers(1, 5), st.integers(1, 20)), LEVELS)
def test_any_stride(shape, stride, level):
    problem = Problem(specs()["upsample_zeros2d"], Case({"x": (2, 3, *shape)}, {"stride": stride}), np.float32)
    with forced(*level):
        for verdict in (problem.forward(), problem.backward()):
            assert verdict, verdict


# ---- torch ----


@pytest.fixture
def interpolate():
    torch = pytest.importorskip("torch")

    def call(x, **options):
        return torch.nn.functional.interpolate(torch.from_numpy(x), **options).numpy()

    return call


def test_nearest_takes_the_pixels_that_torch_takes(interpolate):
    """In single precision, where floor(o * n / out) and floor(o * float(n / out)) differ now and then."""
    for n in range(1, 50):
        x = np.arange(n, dtype=np.float32).reshape(1, 1, n)
        for out in range(1, 130):
            np.testing.assert_array_equal(F.interpolate(x, size=out), interpolate(x, size=out), err_msg=f"{n}, {out}")
        for f in (0.3, 0.7, 1.1, 1.3, 1.7, 2.1, 2.7, 3.0, 3.3, 5.0):
            if n * f >= 1:
                got = F.interpolate(x, scale_factor=f)
                np.testing.assert_array_equal(got, interpolate(x, scale_factor=f), err_msg=f"{n} times {f}")


@given(st.tuples(sizes, sizes), st.data(), st.booleans(), st.sampled_from([None, True]))
def test_bilinear_as_torch(shape, data, align_corners, recompute):
    torch = pytest.importorskip("torch")
    options = data.draw(targets(shape))
    if "scale_factor" in options:
        options["recompute_scale_factor"] = recompute
    x = draw((2, 2, *shape))
    want = torch.nn.functional.interpolate(torch.from_numpy(x), mode="bilinear", align_corners=align_corners, **options)
    got = F.interpolate(x, mode="bilinear", align_corners=align_corners, **options)
    # torch computes positions in single precision, which shifts them by a few roundings of numbers up to the size of
    # the axis, and the result by as much of the difference of two pixels; then come the roundings of the sums.
    bound = EPS * (4 * sum(shape) + 16) * 2 * np.abs(x).max()
    assert got.shape == tuple(want.shape)
    assert np.abs(got - want.numpy()).max() <= bound


def test_gradient_of_nearest_is_that_of_the_forward_pass():
    """Also where a factor leaves the size: there torch's forward pass repeats a pixel, its backward pass does not."""
    x = np.arange(9, dtype=np.float32).reshape(1, 1, 9)
    y, ctx = ops.upsample_nearest1d_forward(x, scale_factor=1.11)
    np.testing.assert_array_equal(y[0, 0], [0, 0, 1, 2, 3, 4, 5, 6, 7])
    dx = ops.upsample_nearest1d_backward(np.ones_like(y), ctx)
    np.testing.assert_array_equal(dx[0, 0], [2, 1, 1, 1, 1, 1, 1, 1, 0])


# ---- identities ----


@pytest.mark.parametrize(
    ("stride", "padding", "output_padding"), [(2, 0, 0), (2, 1, 1), ((3, 2), (1, 2), (2, 0)), ((2, 3), 0, (1, 1))]
)
def test_transposed_convolution_is_zero_insertion_and_convolution(stride, padding, output_padding):
    """With the kernel rotated by 180 degrees and its input and output channels exchanged."""
    rng = np.random.default_rng(3)
    x = rng.integers(-4, 5, (2, 3, 5, 4)).astype(np.float32)
    w = rng.integers(-4, 5, (3, 2, 4, 3)).astype(np.float32)
    want, _ = ops.conv_transpose2d_forward(
        x, w, stride=stride, padding=padding, output_padding=output_padding, keep=False
    )
    (sy, sx), (py, px), (oy, ox) = (v if isinstance(v, tuple) else (v, v) for v in (stride, padding, output_padding))
    spread, _ = ops.upsample_zeros2d_forward(x, stride, keep=False)
    # Zero-insertion leaves stride - 1 zeros behind the last pixel, of which a transposed convolution has
    # output_padding. Around them is the kernel's reach, of which padding is cut off.
    r, s = w.shape[2] - 1, w.shape[3] - 1
    wide = F.pad(spread, (s - px, s - px + ox - (sx - 1), r - py, r - py + oy - (sy - 1)))
    got, _ = ops.conv2d_forward(wide, ops.rot180(w).swapaxes(0, 1), keep=False)
    np.testing.assert_array_equal(got, want)


def test_sub_sampling_undoes_up_sampling():
    x = draw((2, 3, 5, 7))
    for up in (ops.upsample_zeros2d_forward(x, (2, 3)), ops.upsample_nearest2d_forward(x, scale_factor=(2, 3))):
        np.testing.assert_array_equal(F.subsample2d(up[0], (2, 3)), x)


@pytest.mark.parametrize("isa", runtime.supported_isas())
@pytest.mark.parametrize("options", [{"scale_factor": 2}, {"size": (9, 40)}, {"size": (3, 5)}])
@pytest.mark.parametrize("align_corners", [False, True])
def test_bilinear_of_a_constant_and_of_a_ramp(options, align_corners, isa):
    """A constant stays one; with aligned corners a ramp stays a ramp between the same ends."""
    with forced(isa):
        constant = ops.upsample_bilinear2d_forward(np.full((1, 2, 5, 19), 3, np.float32), **options,
                                                   align_corners=align_corners, keep=False)[0]  # fmt: skip
        assert np.abs(constant - 3).max() <= 4 * EPS * 3
        if align_corners:
            x = np.broadcast_to(np.arange(19, dtype=np.float32), (1, 2, 5, 19))
            y = ops.upsample_bilinear2d_forward(x, **options, align_corners=True, keep=False)[0]
            ramp = np.linspace(0, 18, y.shape[3])
            assert np.abs(y - ramp).max() <= 8 * EPS * 18


@pytest.mark.parametrize("isa", runtime.supported_isas())
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -0.0, 1e-42])
def test_nearest_and_zeros_move_values_as_they_are(value, isa):
    x = np.full((1, 1, 3, 21), value, np.float32)
    with forced(isa):
        for y in (
            F.interpolate(x, scale_factor=2.3),
            F.interpolate(x, scale_factor=0.5),
            F.interpolate(x, size=(7, 42)),
        ):
            assert (y.view(np.uint32) == x.view(np.uint32)[0, 0, 0, 0]).all()
        y = F.upsample_zeros2d(x, 2)
        np.testing.assert_array_equal(y[:, :, ::2, ::2].view(np.uint32), x.view(np.uint32))
        y[:, :, ::2, ::2] = 0
        assert not y.view(np.uint32).any()


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
def test_an_infinite_pixel_reaches_no_other_row(mode):
    """An axis whose size stays is left alone, weights of zero included."""
    x = draw((1, 1, 3, 5))
    x[0, 0, 1, 2] = np.inf
    y = F.interpolate(x, size=(3, 10), mode=mode)
    assert np.isfinite(y[0, 0, ::2]).all()
    assert np.isinf(y[0, 0, 1, 4:6]).all()


@pytest.mark.parametrize("factor", [1.5, 2, 2.7])
def test_long_rows_on_several_threads(factor):
    """Rows of more than one claim of the writer, and results past the caches (three threads)."""
    x = draw((1, 2, 3, 2500))
    options = {"scale_factor": (2, factor)}
    for op in ("upsample_nearest2d", "upsample_bilinear2d"):
        forward, backward = (getattr(ops, f"{op}_{pass_}") for pass_ in ("forward", "backward"))
        with forced(threads=1):
            y, ctx = forward(x, **options)
            dx = backward(y, ctx)
        assert y.shape == (1, 2, 6, floor(2500 * factor))
        with forced(threads=3):
            again, ctx = forward(x, **options)
            np.testing.assert_array_equal(again, y)
            np.testing.assert_array_equal(backward(y, ctx), dx)
        want, _ = getattr(reference, f"{op}_forward")(x.astype(np.float64), **options)
        assert np.abs(y - want).max() <= 16 * EPS * np.abs(x).max()


# ---- errors ----


@pytest.mark.parametrize(
    ("shape", "options", "said"),
    [
        ((1, 2, 4), {"size": 3, "mode": "bicubic"}, "mode is 'bicubic', expected 'nearest', 'linear' or 'bilinear'"),
        ((1, 2, 4), {"size": 3, "mode": "bilinear"}, "input has 3 dimensions, expected 4 in mode 'bilinear'"),
        ((1, 2, 4, 4), {"size": 3, "mode": "linear"}, "input has 4 dimensions, expected 3 in mode 'linear'"),
        ((2, 4), {"size": 3}, "input has 2 dimensions, expected 3 or 4"),
        ((1, 2, 4), {"size": 3, "align_corners": False}, "align_corners is False, expected None in mode 'nearest'"),
        ((1, 2, 4), {"size": 3, "antialias": True}, "antialias is True"),
        ((1, 2, 4), {"size": 3, "scale_factor": 2.0, "recompute_scale_factor": True}, "expected one of them"),
    ],
)
def test_interpolate_says_what_it_has_not(shape, options, said):
    with pytest.raises(ValueError, match=f"^interpolate: .*{said}"):
        F.interpolate(np.ones(shape, np.float32), **options)


def test_interpolate_refuses_lists():
    with pytest.raises(TypeError, match=r"^interpolate: input must be a NumPy array .*got list"):
        F.interpolate([1.0], size=3)
