"""fastnn.init: distributions by their distribution functions, seeds, what becomes of the tensor, torch's numbers."""

from math import erfc, exp, inf, nan, sqrt
from threading import Thread

import numpy as np
import pytest

import fastnn
from fastnn import init, nn

N = 40_000
"""More than half a chunk, so that two tensors of it have a border within."""


def distance(values, distribution):
    """Kolmogorov's: √n times the largest difference between the distribution of n values and that one. It is above 1.95
    in one of a thousand draws; ours are fixed by their seeds."""
    x = np.sort(values.ravel().astype(np.float64))
    want = np.array([distribution(each) for each in x])
    n = len(x)
    return sqrt(n) * max((np.arange(1, n + 1) / n - want).max(), (want - np.arange(n) / n).max())


def uniform(a, b):
    return lambda x: min(max((x - a) / (b - a), 0), 1)


def above(z):
    """The standard normal distribution's share above z."""
    return erfc(z / sqrt(2)) / 2


def normal(mean, std, a=-inf, b=inf):
    low, high = above((a - mean) / std), above((b - mean) / std)
    return lambda x: (low - above((x - mean) / std)) / (low - high)


def filled(function, *args, shape=(2, N), dtype=np.float32, seed=1, **options):
    x = np.full(shape, nan, dtype)
    assert function(x, *args, **options, generator=fastnn.Generator(seed)) is x
    return x


DRAWS = [
    (lambda x, **g: init.uniform_(x, **g), uniform(0, 1)),
    (lambda x, **g: init.uniform_(x, -3, 0.5, **g), uniform(-3, 0.5)),
    (lambda x, **g: init.normal_(x, **g), normal(0, 1)),
    (lambda x, **g: init.normal_(x, 5.0, 0.25, **g), normal(5, 0.25)),
    (lambda x, **g: init.trunc_normal_(x, **g), normal(0, 1, -2, 2)),
    (lambda x, **g: init.trunc_normal_(x, 1.0, 0.5, 0.25, inf, **g), normal(1, 0.5, 0.25)),
    (lambda x, **g: init.trunc_normal_(x, 0.0, 1.0, -0.125, 0.25, **g), normal(0, 1, -0.125, 0.25)),
    (lambda x, **g: init.trunc_normal_(x, 2.0, 1.0, -inf, -1.0, **g), normal(2, 1, -inf, -1)),
    (lambda x, **g: -init.trunc_normal_(x, 0.0, 1.0, -1e9, -8.0, **g), normal(0, 1, 8, 1e9)),
]


@pytest.mark.parametrize(("function", "distribution"), DRAWS, ids=range(len(DRAWS)))
def test_distributions(function, distribution, dtype):
    x = function(np.full((2, N), nan, dtype), generator=fastnn.Generator(7))
    assert distance(x, distribution) < 1.95
    assert len(np.unique(x)) > 0.8 * x.size


@pytest.mark.parametrize(("function", "distribution"), DRAWS, ids=range(len(DRAWS)))
def test_both_dtypes_get_the_same_numbers(function, distribution):
    single, double = (function(np.ones((3, 50), d), generator=fastnn.Generator(3)) for d in (np.float32, np.float64))
    np.testing.assert_array_equal(single, double.astype(np.float32), strict=True)


def test_truncated_far_away():
    """Where no normal number ever comes, values have the mean of the density φ(x) / (1 - Φ(30)), and nearly 1/30 as
    standard deviation. Closer to a bound than the spacing of numbers all are the bound."""
    x = filled(init.trunc_normal_, 0.0, 1.0, 30.0, 1e30, dtype=np.float64)
    assert x.min() >= 30
    mean = exp(-450) / (sqrt(2 * np.pi) * above(30))
    assert x.mean() == pytest.approx(mean, abs=5 / 30 / sqrt(x.size))
    x = filled(init.trunc_normal_, 0.0, 1e-30, 1.0, 2.0, shape=(10,))
    np.testing.assert_array_equal(x, 1)
    np.testing.assert_array_equal(filled(init.trunc_normal_, 0.0, 1.0, 0.5, 0.5, shape=(10,)), 0.5)


# (shape, fan_in, fan_out): Linear(7, 60), Conv2d(6, 20, (3, 5)), ConvTranspose2d(20, 6, 4), Conv1d(30, 4, 9, groups=3)
FANS = [((60, 7), 7, 60), ((20, 6, 3, 5), 90, 300), ((20, 6, 4, 4), 96, 320), ((4, 10, 9), 90, 36)]


@pytest.mark.parametrize(("shape", "fan_in", "fan_out"), FANS)
def test_xavier_and_kaiming(shape, fan_in, fan_out):
    """Many draws of one shape; each has a variance that its fans determine."""
    generator = fastnn.Generator(5)

    def draws(function, *args, **options):
        count = N // np.prod(shape)
        return np.stack([function(np.empty(shape), *args, **options, generator=generator) for _ in range(count)])

    std = 1.5 * sqrt(2 / (fan_in + fan_out))
    assert distance(draws(init.xavier_normal_, 1.5), normal(0, std)) < 1.95
    assert distance(draws(init.xavier_uniform_, 1.5), uniform(-sqrt(3) * std, sqrt(3) * std)) < 1.95
    std = sqrt(2 / (1 + 0.2**2) / fan_in)
    assert distance(draws(init.kaiming_normal_, 0.2), normal(0, std)) < 1.95
    assert distance(draws(init.kaiming_uniform_, 0.2), uniform(-sqrt(3) * std, sqrt(3) * std)) < 1.95
    std = sqrt(2 / fan_out)
    assert distance(draws(init.kaiming_normal_, mode="fan_out", nonlinearity="relu"), normal(0, std)) < 1.95
    assert (
        distance(draws(init.kaiming_uniform_, 0, "fan_out", "tanh"), uniform(*np.array([-5, 5]) / sqrt(3 * fan_out)))
        < 1.95
    )


def test_gains_and_fans_are_torchs():
    theirs = pytest.importorskip("torch.nn.init")
    torch = pytest.importorskip("torch")
    for name in [*init.GAINS, "leaky_relu"]:
        assert init.calculate_gain(name) == theirs.calculate_gain(name)
    for slope in (0, 0.3, -2, 5):
        assert init.calculate_gain("leaky_relu", slope) == theirs.calculate_gain("leaky_relu", slope)
        assert init.calculate_gain("relu", slope) == sqrt(2)
    for shape, fan_in, fan_out in FANS:
        assert theirs._calculate_fan_in_and_fan_out(torch.empty(shape)) == (fan_in, fan_out)
        assert init.fans("fans", np.empty(shape)) == (fan_in, fan_out)


# ---- seeds ----


def test_manual_seed_determines_all():
    """And a call's numbers do not depend on how many the calls before it drew."""

    def draw(sizes):
        fastnn.manual_seed(3)
        return [init.normal_(np.empty(size)) for size in sizes]

    a, b, c = draw([5, 100_000, 7]), draw([5, 100_000, 7]), draw([70_000, 1, 7])
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x, y)
    np.testing.assert_array_equal(a[2], c[2])
    np.testing.assert_array_equal(a[0], c[0][:5])
    assert not np.isin(a[0], a[1]).any()
    fastnn.manual_seed(4)
    assert not np.isin(init.normal_(np.empty(5)), a[0]).any()


def test_a_generator_of_ones_own():
    fastnn.manual_seed(3)
    state = fastnn.get_rng_state()
    functions = [f for f in map(init.__dict__.get, init.__all__) if "generator" in f.__code__.co_varnames]
    assert len(functions) == 9
    for function in functions:
        args = (0.3,) if function is init.sparse_ else ()
        generator = fastnn.Generator(9)
        x = function(np.empty((6, 4)), *args, generator=generator)
        assert generator.draw() == (9, 1)
        np.testing.assert_array_equal(function(np.empty((6, 4)), *args, generator=fastnn.Generator(9)), x)
        assert (function(np.empty((6, 4)), *args, generator=fastnn.Generator(2**64 - 1)) != x).any()
    np.testing.assert_array_equal(fastnn.get_rng_state(), state)


# ---- tensors ----


@pytest.mark.parametrize("name", [name for name in init.__all__ if name.endswith("_")])
def test_tensors_are_changed_in_place(name):
    """Leaves that require a gradient too, without recording; and the tape knows of it."""
    args = {"constant_": (2.5,), "sparse_": (0.5,)}.get(name, ())
    shape = (4, 3, 3) if name == "dirac_" else (4, 3)
    x = fastnn.Tensor(np.full(shape, 7.0, np.float32), requires_grad=True)
    data, loss = x.data, (x * x).sum()
    fastnn.manual_seed(2)
    assert getattr(init, name)(x, *args) is x
    assert x.data is data
    assert x.is_leaf
    assert (data != 7).all()
    with pytest.raises(RuntimeError, match="changed in place"):
        loss.backward()
    fastnn.manual_seed(2)
    big = np.full((*shape[:-1], 2 * shape[-1]), 7.0, np.float32)
    view = big[..., ::-2]
    getattr(init, name)(view, *args)
    np.testing.assert_array_equal(view, data)
    np.testing.assert_array_equal(big[..., ::2], 7)


def test_no_elements():
    for function in (init.uniform_, init.xavier_normal_, init.kaiming_uniform_, init.orthogonal_, init.eye_):
        assert function(np.empty((0, 5))).shape == (0, 5)
        assert function(np.empty((5, 0))).shape == (5, 0)


def test_constants():
    x = fastnn.Tensor(np.zeros((2, 3), np.int64))
    assert init.ones_(x).data.tolist() == [[1] * 3] * 2
    assert init.constant_(x, -4).data.tolist() == [[-4] * 3] * 2
    assert init.zeros_(x).data.tolist() == [[0] * 3] * 2
    assert init.eye_(x).data.tolist() == [[1, 0, 0], [0, 1, 0]]


@pytest.mark.parametrize("shape", [(3, 2, 5), (6, 2, 3), (4, 8, 3, 2), (6, 3, 1, 4, 5)])
@pytest.mark.parametrize("groups", [1, 2])
def test_dirac_is_torchs(shape, groups):
    torch = pytest.importorskip("torch")
    if shape[0] % groups:
        return
    want = torch.nn.init.dirac_(torch.empty(shape), groups).numpy()
    np.testing.assert_array_equal(init.dirac_(np.full(shape, nan, np.float32), groups), want)


def test_dirac_is_the_identity():
    x = np.random.default_rng(0).standard_normal((2, 6, 5, 7)).astype(np.float32)
    w = init.dirac_(np.empty((6, 2, 3, 3), np.float32), 3)
    np.testing.assert_array_equal(fastnn.functional.conv2d(x, w, padding=1, groups=3), x)


@pytest.mark.parametrize("shape", [(5, 5), (9, 4), (4, 9), (6, 2, 5), (12, 1, 3, 3)])
def test_orthogonal(shape, dtype):
    x = filled(init.orthogonal_, 1.5, shape=shape, dtype=dtype).reshape(shape[0], -1).astype(np.float64)
    product = x @ x.T if x.shape[0] <= x.shape[1] else x.T @ x
    # Sums of up to 12 products of numbers that are rounded, of sum 1.5^2.
    np.testing.assert_allclose(product, 2.25 * np.eye(len(product)), atol=40 * np.finfo(dtype).eps)


def test_orthogonal_matrices_are_equally_likely():
    """The trace of one of 2 rows is 2 cos of a uniform angle for rotations, 0 for reflections, which are half; without
    the signs of the triangle's diagonal all would be reflections."""
    generator = fastnn.Generator(0)
    x = np.stack([init.orthogonal_(np.empty((2, 2)), generator=generator) for _ in range(2000)])
    rotations = np.linalg.det(x) > 0
    assert abs(rotations.mean() - 0.5) < 4 * 0.5 / sqrt(2000)
    angle = np.arctan2(x[:, 1, 0], x[:, 0, 0])
    assert distance(angle, uniform(-np.pi, np.pi)) < 1.95


@pytest.mark.parametrize("sparsity", [0, 0.3, 0.55, 1])
def test_sparse(sparsity):
    x = filled(init.sparse_, sparsity, 0.5, shape=(10, 3000), dtype=np.float64)
    zeros = int(np.ceil(sparsity * 10))
    assert ((x == 0).sum(axis=0) == zeros).all()
    if zeros < 10:
        assert distance(x[x != 0], normal(0, 0.5)) < 1.95
    # Each row is as likely: binomial.
    assert abs((x == 0).sum(axis=1) - 300 * zeros).max() <= 4 * sqrt(3000 * zeros * (10 - zeros)) / 10


# ---- errors ----


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda: init.zeros_([1.0]), TypeError, "zeros_: tensor must be a Tensor or a NumPy array, got list"),
        (
            lambda: init.uniform_(np.zeros(3, np.int64)),
            TypeError,
            "uniform_: tensor has dtype int64, expected float32 or",
        ),
        (
            lambda: init.ones_(np.broadcast_to(1.0, 3)),
            ValueError,
            "ones_: tensor is read-only, expected a writable one",
        ),
        (lambda: init.uniform_(np.zeros(3), 1, 0), ValueError, "uniform_: a is 1.0, expected at most b, 0.0"),
        (lambda: init.uniform_(np.zeros(3), 0, inf), ValueError, "uniform_: b is inf, expected a finite number"),
        (lambda: init.normal_(np.zeros(3), 0, -1), ValueError, "normal_: std is -1.0, expected at least 0"),
        (lambda: init.normal_(np.zeros(3), "0"), TypeError, "normal_: mean must be a number, got '0'"),
        (
            lambda: init.normal_(np.zeros(3), generator=np.random.default_rng(0)),
            TypeError,
            "normal_: generator must be a fastnn.Generator, got Generator",
        ),
        (
            lambda: init.trunc_normal_(np.zeros(3), 0, 0),
            ValueError,
            "trunc_normal_: std is 0.0, expected a number above",
        ),
        (
            lambda: init.trunc_normal_(np.zeros(3), a=2, b=1),
            ValueError,
            "trunc_normal_: a is 2.0, expected at most b, 1.0",
        ),
        (
            lambda: init.trunc_normal_(np.zeros(3), a=nan),
            ValueError,
            "trunc_normal_: a is nan, expected at most b, 2.0",
        ),
        (
            lambda: init.trunc_normal_(np.zeros(3), a=inf, b=inf),
            ValueError,
            "trunc_normal_: a is inf and b inf, expected",
        ),
        (lambda: init.constant_(np.zeros(3), None), TypeError, "constant_: val must be a number, got None"),
        (lambda: init.eye_(np.zeros(3)), ValueError, r"eye_: tensor has shape \(3,\), expected 2 dimensions"),
        (lambda: init.dirac_(np.zeros((3, 3))), ValueError, r"dirac_: tensor has shape \(3, 3\), expected 3 to 5 dim"),
        (lambda: init.dirac_(np.zeros((3, 3, 3)), 2), ValueError, "dirac_: tensor has shape .* that 2 groups divide"),
        (
            lambda: init.dirac_(np.zeros((3, 3, 3)), 0),
            ValueError,
            "dirac_: groups is 0, expected an integer, at least 1",
        ),
        (lambda: init.xavier_normal_(np.zeros(3)), ValueError, "xavier_normal_: tensor has shape .* at least 2 dimens"),
        (
            lambda: init.xavier_uniform_(np.zeros((3, 3)), nan),
            ValueError,
            "xavier_uniform_: gain is nan, expected a fin",
        ),
        (
            lambda: init.kaiming_normal_(np.zeros(3)),
            ValueError,
            "kaiming_normal_: tensor has shape .* at least 2 dimens",
        ),
        (
            lambda: init.kaiming_uniform_(np.zeros((3, 3)), mode="fan"),
            ValueError,
            "kaiming_uniform_: mode is 'fan', exp",
        ),
        (
            lambda: init.kaiming_uniform_(np.zeros((3, 3)), nonlinearity="elu"),
            ValueError,
            "calculate_gain: nonlinearity",
        ),
        (
            lambda: init.calculate_gain("leaky_relu", True),
            TypeError,
            "calculate_gain: param must be a number, got True",
        ),
        (
            lambda: init.orthogonal_(np.zeros(3)),
            ValueError,
            r"orthogonal_: tensor has shape \(3,\), expected at least 2",
        ),
        (
            lambda: init.sparse_(np.zeros((3, 3)), 2),
            ValueError,
            "sparse_: sparsity is 2.0, expected 0 <= sparsity <= 1",
        ),
    ],
)
def test_wrong_arguments(call, error, said):
    with pytest.raises(error, match=f"^{said}"):
        call()


def test_an_error_draws_nothing():
    state = fastnn.get_rng_state()
    with pytest.raises(TypeError):
        init.uniform_(np.zeros(3, np.int64))
    with pytest.raises(ValueError, match="normal_"):
        init.normal_(np.zeros(3), 0, -1)
    np.testing.assert_array_equal(fastnn.get_rng_state(), state)


def test_skip_init():
    """Nothing is drawn, nor does the generator go on; afterwards, also after an error, all is as before."""
    fastnn.manual_seed(5)
    before = fastnn.get_rng_state()
    layer = nn.utils.skip_init(nn.Linear, 3, out_features=4)
    norm = nn.utils.skip_init(nn.BatchNorm2d, 3)
    np.testing.assert_array_equal(fastnn.get_rng_state(), before)
    assert layer.weight.shape == (4, 3) and norm.weight.data.tolist() == [1, 1, 1]
    layer.load_state_dict({"weight": np.ones((4, 3), np.float32), "bias": np.zeros(4, np.float32)})
    assert layer(np.ones(3, np.float32)).tolist() == [3, 3, 3, 3]
    with pytest.raises(TypeError, match="in_features"):
        nn.utils.skip_init(nn.Linear, "3", 4)
    drawn = nn.Linear(3, 4)
    fastnn.manual_seed(5)
    assert np.array_equal(drawn.weight.data, nn.Linear(3, 4).weight.data)


def test_skip_init_is_of_its_thread():
    x = np.full(100, nan, np.float32)
    thread = Thread(target=init.uniform_, args=(x,))
    with init.skipped():
        thread.start()
        thread.join()
    assert (x >= 0).all()
