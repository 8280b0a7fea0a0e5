"""Distributions against scipy.stats, scipy.special and torch; samples within error bars; gradients by differences."""

from itertools import product

import numpy as np
import pytest

import fastnn
from fastnn import distributions as D
from fastnn import special

INF, NAN = np.inf, np.nan
EPS = np.finfo(np.float64).eps


@pytest.fixture
def stats():
    return pytest.importorskip("scipy.stats")


CASES = [
    ("Bernoulli", {"probs": [[0.0], [0.3], [1.0]]}),
    ("Bernoulli", {"logits": [[-40.0], [0.4], [3.0]]}),
    ("Binomial", {"total_count": [[0], [1], [7], [40]], "probs": 0.3}),
    ("Binomial", {"total_count": 5, "probs": [[0.0], [1e-9], [0.5], [1.0]]}),
    ("Binomial", {"total_count": 30, "logits": [[-30.0], [0.2], [2.0]]}),
    ("Poisson", {"rate": [[0.0], [1e-3], [1.0], [4.5], [300.0]]}),
    ("Uniform", {"low": [[-1.0], [0.0], [5.0]], "high": [[0.5], [1e6], [5.5]]}),
    ("Normal", {"loc": [[0.0], [-3.0], [1e3]], "scale": [[1.0], [1e-3], [20.0]]}),
    ("Exponential", {"rate": [[1e-3], [1.0], [50.0]]}),
    ("Beta", {"concentration1": [[0.5], [1.0], [1.0], [30.0]], "concentration0": [[0.5], [1.0], [3.0], [7.0]]}),
]  # fmt: skip
IDS = [f"{name}-{'-'.join(options)}" for name, options in CASES]
VALUES = {
    "Bernoulli": [0, 1, 2, -1, 0.5, NAN, INF],
    "Binomial": [0, 1, 5, 7, 8, 30, 40, 41, -1, 2.5, NAN, INF],
    "Poisson": [0, 1, 2, 7, 300, 1000, -1, 0.5, NAN],  # scipy has NaN for infinity
    "Uniform": [-1, -0.5, 0, 0.5, 5, 5.25, 5.5, 1e6, -2, 2e6, NAN, INF],
    "Normal": [0, 1, -3, -3.001, 1e3, 1e5, -INF, INF, NAN],
    "Exponential": [0, 1e-3, 1, 3, 1e3, -1e-300, -1, INF, NAN],
    "Beta": [0, 1e-9, 0.1, 0.5, 0.99, 1, -0.1, 1.5, NAN, INF],
}


def truth(stats, distribution):
    """The same distribution of scipy."""
    p = distribution
    return {
        "Bernoulli": lambda: stats.bernoulli(p.probs),
        "Binomial": lambda: stats.binom(p.total_count, p.probs),
        "Poisson": lambda: stats.poisson(p.rate),
        "Uniform": lambda: stats.uniform(p.low, p.high - p.low),
        "Normal": lambda: stats.norm(p.loc, p.scale),
        "Exponential": lambda: stats.expon(scale=1 / p.rate),
        "Beta": lambda: stats.beta(p.concentration1, p.concentration0),
    }[p.name]()


def of(name, options, dtype=np.float64):
    return getattr(D, name)(**{key: np.array(value, dtype) for key, value in options.items()})


# ---- special functions ----


X = np.concatenate(
    [10.0 ** np.arange(-300, 300, 7.3), np.linspace(0.01, 30, 3001), [1, 2, 9.999999, 10, 1.4616321449683]]
)


def test_lgamma():
    """math.lgamma's error is some roundings of the largest of its terms, (x - 1/2) log x and x."""
    scipy = pytest.importorskip("scipy.special")
    got, want = special.lgamma(X), scipy.gammaln(X)
    assert np.all(np.abs(got - want) <= 16 * EPS * np.maximum(np.abs(want), 1))
    assert special.lgamma(np.array([0.0, -1, INF, 1e308])).tolist() == [INF, INF, INF, INF]
    assert special.lgamma(np.array([1.0, 2.0])).tolist() == [0, 0]


@pytest.mark.parametrize(("order", "ours"), [(0, special.digamma), (1, special.trigamma)])
def test_digamma(order, ours):
    """Within twenty roundings, as the module derives, and as many of scipy's; of 1.5/x + 3 or 1/x² + 1.7, of which the
    result consists, digamma's of more than 1 near its zero."""
    scipy = pytest.importorskip("scipy.special")
    x = X if order == 0 else X[X > 1e-150]  # whose square is a normal number
    want = scipy.digamma(x) if order == 0 else scipy.zeta(2, x)
    got = ours(x)
    scale = np.maximum(np.abs(want), 3 if order == 0 else 0)
    assert np.all(np.abs(got - want) <= 20 * EPS * scale)
    assert np.isnan(ours(np.array([-1.0, NAN]))).all()
    assert ours(np.array([INF]))[0] == (INF if order == 0 else 0)
    assert np.isinf(ours(np.array([0.0]))[0])


def test_known_values():
    """Abramowitz and Stegun 6.3.2, 6.3.3, 23.2.24"""
    gamma = 0.57721566490153286
    near = {"rtol": 5 * EPS, "atol": 0}
    np.testing.assert_allclose(special.digamma(np.array([1.0, 0.5])), [-gamma, -gamma - 2 * np.log(2)], **near)
    np.testing.assert_allclose(special.trigamma(np.array([1.0, 0.5])), [np.pi**2 / 6, np.pi**2 / 2], **near)


def test_float32():
    x = np.array([0.3, 2.5, 40], np.float32)
    for function in special.lgamma, special.digamma, special.trigamma:
        y = function(x)
        assert y.dtype == np.float32
        np.testing.assert_array_equal(y, function(x.astype(np.float64)).astype(np.float32))


@pytest.mark.parametrize("function", [special.lgamma, special.digamma, special.log1p])
def test_special_gradients(function):
    x = fastnn.Tensor(np.array([0.3, 1.5, 4.0, 12.0]), requires_grad=True)
    assert fastnn.gradcheck(function, x)


def test_no_weight_no_logarithm():
    """0 log 0 = 0, with a gradient of 0."""
    y = fastnn.Tensor(np.zeros(2), requires_grad=True)
    x = np.array([0.0, 2.0])
    assert special.xlogy(fastnn.Tensor(x), y).data.tolist() == [0, -INF]
    assert np.isnan(special.xlogy(x, np.full(2, NAN))).all()
    assert special.xlog1py(x, np.array([-1.0, -1.0])).tolist() == [0, -INF]
    special.xlogy(np.zeros(2), y).sum().backward()
    assert y.grad.tolist() == [0, 0]


# ---- log_prob, moments, entropy ----


@pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)
def test_log_prob(stats, name, options):
    """Roundings of the terms that are added up: log Γ(n + 1) of counts, n log p, and those of values near a bound."""
    p, x = of(name, options), np.array(VALUES[name])
    other = truth(stats, p)
    with np.errstate(all="ignore"):
        want = (other.logpmf if hasattr(other.dist, "logpmf") else other.logpdf)(x)
    got = p.log_prob(x)
    assert got.dtype == np.float64
    assert got.shape == want.shape
    largest = np.abs(np.where(np.isfinite(want), want, 0)) + special.lgamma(np.where(x > 0, x, 0) + 2) + 100
    finite = np.isfinite(want)
    np.testing.assert_array_equal(got[~finite], want[~finite])
    assert np.all(np.abs(got[finite] - want[finite]) <= 20 * EPS * largest[finite])


@pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)
def test_moments(stats, name, options):
    p = of(name, options)
    other = truth(stats, p)
    for got, want in (p.mean, other.mean()), (p.variance, other.var()), (p.stddev, other.std()):
        np.testing.assert_allclose(got, want, rtol=1e-13, atol=1e-300)
        assert got.shape == p.batch_shape
    if name not in ("Binomial", "Poisson"):
        # scipy's (1 - p) log(1 - p) has lost p where that is small.
        np.testing.assert_allclose(p.entropy(), other.entropy(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)
def test_probabilities_add_up(name, options):
    """The sum or integral of exp(log_prob), by Gauss and Legendre's rule where nothing is infinite, is 1."""
    p = of(name, options)
    if name in ("Bernoulli", "Binomial", "Poisson"):
        total = np.exp(p.log_prob(np.arange(1000.0))).sum(-1)
        np.testing.assert_allclose(total, 1, rtol=1e-12)
    elif name == "Beta":
        x, w = np.polynomial.legendre.leggauss(100)
        total = np.exp(p.log_prob((1 + x) / 2)) @ w / 2
        np.testing.assert_allclose(total[1:], 1, rtol=1e-9)
    else:
        x, w = np.polynomial.legendre.leggauss(200)
        low, high = (p.low, p.high) if name == "Uniform" else (p.mean - 12 * p.stddev, p.mean + 12 * p.stddev)
        low = np.maximum(low, 0) if name == "Exponential" else low
        half = (high - low) / 2
        total = (np.exp(p.log_prob(low + half * (1 + x))) * w * half).sum(-1)
        np.testing.assert_allclose(total, 1, rtol=1e-5 if name == "Exponential" else 1e-9)  # e^-13 is cut off


@pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)
def test_torch(torch, name, options):
    """log_prob and entropy in float32, away from where torch clamps probabilities."""
    if name in ("Bernoulli", "Binomial") and "probs" in options:
        options = {**options, "probs": 0.3}
    p = of(name, options, np.float32)
    other = getattr(torch.distributions, name)(
        **{key: torch.tensor(value, dtype=torch.float32) for key, value in options.items()}, validate_args=False
    )
    x = other.sample((5,))
    if name == "Beta":
        x = x.clamp(0.01, 0.99)
    got, want = p.log_prob(x.numpy()), other.log_prob(x).numpy()
    assert got.dtype == np.float32
    size = np.finfo(np.float32).eps * (100 + np.abs(np.asarray(x)) * 10)
    assert np.all(np.abs(got - want) <= 20 * size + 1e-5 * np.abs(want))


# ---- samples ----


@pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)
def test_samples(stats, name, options):
    """Mean and variance of n samples are within five standard deviations: those of the mean are σ/√n, and of the
    variance, of kurtosis k + 3, σ² √((k + 2 + 2/(n - 1))/n). What is constant has none."""
    p, n = of(name, options), 4000
    fastnn.manual_seed(3)
    x = p.sample(n)
    assert x.shape == (n, *p.batch_shape)
    assert x.dtype == np.float64
    assert np.all(np.isfinite(x))
    assert np.all(p.log_prob(x) > -INF)
    with np.errstate(all="ignore"):
        kurtosis = np.nan_to_num(truth(stats, p).stats(moments="k"), posinf=0, neginf=0)
    small = 1e-12 * (np.abs(p.mean) + 1)
    assert np.all(np.abs(D.sample_mean(x) - p.mean) <= 5 * p.stddev / np.sqrt(n) + small)
    rare = p.variance * n < 30  # events that are not seen often enough for a normal distribution of the variance
    error = p.variance * np.sqrt((np.maximum(kurtosis, -2) + 2 + 2 / (n - 1)) / n)
    counts = name in ("Bernoulli", "Binomial", "Poisson")
    assert np.all((np.abs(D.sample_variance(x) - p.variance) <= 5 * error + small) | (rare & counts))


@pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)
def test_samples_by_seed(name, options):
    p = of(name, options)
    fastnn.manual_seed(7)
    first, second = p.sample((3, 50)), p.sample((3, 50))
    fastnn.manual_seed(7)
    np.testing.assert_array_equal(p.sample((3, 50)), first)
    generator = fastnn.Generator(7)
    np.testing.assert_array_equal(p.sample((3, 50), generator=generator), first)
    np.testing.assert_array_equal(p.sample((3, 50), generator=generator), second)
    if np.all(p.variance > 0.1):
        assert np.any(first != second)
    single = of(name, options, np.float32).sample((3, 50), generator=fastnn.Generator(7))
    assert single.dtype == np.float32


def test_kolmogorov(stats):
    """The whole distribution, of continuous ones: the statistic is above 1.95/√n in one of 1000 cases."""
    fastnn.manual_seed(1)
    for p in D.Uniform(-1, 3), D.Normal(2, 0.5), D.Exponential(3), D.Beta(0.5, 2), D.Beta(4, 3):
        x = p.sample(5000)
        assert stats.kstest(x, truth(stats, p).cdf).statistic < 1.95 / np.sqrt(len(x)), p


def test_numbers_and_shapes():
    p = D.Normal(0, [1, 2])
    assert p.batch_shape == (2,)
    assert isinstance(D.Normal(0, 1).log_prob(0), np.float64)
    assert D.Normal(0, 1).sample().shape == ()
    assert D.Poisson(2.0).log_prob(INF) == -INF
    assert p.sample((0,)).shape == (0, 2)
    assert p.log_prob(np.zeros((3, 1))).shape == (3, 2)
    assert p.mean.tolist() == [0, 0]
    assert repr(D.Beta(1, 2)) == "Beta(concentration1: 1.0, concentration0: 2.0)"
    assert repr(D.Bernoulli(0.5)) == "Bernoulli(probs: 0.5)"
    assert D.Bernoulli(logits=0.0).probs == 0.5
    assert D.Bernoulli(0.5).logits == 0
    assert D.Normal(np.float32(0), np.ones(2, np.float32)).mean.dtype == np.float32
    assert D.Normal(0.0, np.ones(2, np.float32)).mean.dtype == np.float32


def test_likely_successes_keep_their_digits():
    """log(1 - p) of logits, where p rounds to 1, and of probs, where 1 - p does."""
    assert D.Bernoulli(logits=50.0).log_prob(0) == -50
    assert D.Bernoulli(logits=-50.0).log_prob(0) == pytest.approx(-np.exp(-50), rel=1e-14)
    assert D.Bernoulli(1e-20).log_prob(0) == pytest.approx(-1e-20, rel=1e-14)


# ---- Kullback and Leibler's divergence ----

PAIRS = {
    "Bernoulli": [{"probs": x} for x in (0.1, 0.5, 0.9)] + [{"logits": -2.0}],
    "Binomial": [{"total_count": 6, "probs": x} for x in (0.1, 0.5, 0.9)] + [{"total_count": 6, "logits": -2.0}],
    "Poisson": [{"rate": x} for x in (0.5, 2.0, 7.0)],
    "Uniform": [{"low": -1.0, "high": 2.0}, {"low": 0.0, "high": 1.0}, {"low": 0.0, "high": 3.0}],
    "Normal": [{"loc": 0.0, "scale": 1.0}, {"loc": 2.0, "scale": 0.5}, {"loc": -1.0, "scale": 3.0}],
    "Exponential": [{"rate": x} for x in (0.2, 1.0, 5.0)],
    "Beta": [{"concentration1": a, "concentration0": b} for a, b in ((0.5, 0.7), (2.0, 3.0), (1.0, 1.0))],
}
BOTH = [(name, a, b) for name, options in PAIRS.items() for a, b in product(options, options)]


@pytest.mark.parametrize(("name", "a", "b"), BOTH)
def test_kl(torch, name, a, b):
    """As torch in double precision; not negative; 0 of one distribution from itself."""
    p, q = of(name, a), of(name, b)
    got = D.kl_divergence(p, q)
    kind = getattr(torch.distributions, name)
    theirs = [kind(**{k: torch.tensor(v, dtype=torch.float64) for k, v in options.items()}) for options in (a, b)]
    want = torch.distributions.kl_divergence(*theirs).item()
    # torch makes logits of probabilities, which costs an accuracy of 1e-15 or so.
    assert got == want or got == pytest.approx(want, rel=1e-12, abs=1e-13)
    assert got >= -1e-14
    if a == b:
        assert abs(got) < 1e-14


@pytest.mark.parametrize(("name", "a", "b"), [case for case in BOTH if case[1] != case[2]])
def test_kl_is_a_mean(name, a, b):
    """Of log p/q over samples of p, within five standard errors; infinite where one sample is impossible."""
    p, q = of(name, a), of(name, b)
    fastnn.manual_seed(0)
    x = p.sample(4000)
    ratio = p.log_prob(x) - q.log_prob(x)
    got = D.kl_divergence(p, q)
    if np.isinf(ratio).any():
        assert got == INF
    else:
        assert abs(got - ratio.mean()) <= 5 * ratio.std() / np.sqrt(len(x)) + 1e-12


@pytest.mark.parametrize(
    ("p", "q", "want"),
    [
        (D.Bernoulli(0.5), D.Bernoulli([0.0, 1.0]), [INF, INF]),
        (D.Bernoulli([0.0, 1.0]), D.Bernoulli([0.0, 1.0]), [0, 0]),
        (D.Bernoulli([0.0, 1.0]), D.Bernoulli(0.25), [-np.log(0.75), -np.log(0.25)]),
        (D.Binomial([0, 5, 5], [0.5, 0.0, 1.0]), D.Binomial(5, [0.25, 0.25, 1.0]), [-5 * np.log(0.75)] * 2 + [0]),
        (D.Binomial([3, 3, 0], [0.5, 0.0, 0.2]), D.Binomial([2, 2, 0], 0.5), [INF, 2 * np.log(2), 0]),
        (D.Binomial(0, 0.5), D.Binomial(0, 1.0), 0),
        (D.Poisson([0.0, 0.0, 1.0]), D.Poisson([2.0, 0.0, 0.0]), [2, 0, INF]),
        (D.Uniform([0, 0, 0], [1, 1, 1]), D.Uniform([0, 0.1, -1], [2, 2, 0.9]), [np.log(2), INF, INF]),
    ],
)
def test_kl_at_the_edges(p, q, want):
    np.testing.assert_allclose(D.kl_divergence(p, q), want, rtol=1e-15)


def test_kl_shapes():
    p, q = D.Uniform(np.zeros((3, 1)), 1), D.Uniform(0, np.ones(2))
    assert D.kl_divergence(p, q).shape == (3, 2)
    assert D.kl_divergence(D.Bernoulli(np.full((3, 1), 0.5)), D.Bernoulli(0.5)).shape == (3, 1)


# ---- gradients ----

SMOOTH = [
    ("Bernoulli", [0.3], 1.0),
    ("Poisson", [2.5], 3.0),
    ("Uniform", [-1.0, 2.0], 0.5),
    ("Normal", [0.4, 1.3], 0.9),
    ("Exponential", [0.8], 1.7),
    ("Beta", [1.4, 3.2], 0.3),
]


@pytest.mark.parametrize(("name", "parameters", "value"), SMOOTH)
def test_gradients(name, parameters, value):
    """log_prob, moments, entropy and both sides of KL."""
    family = getattr(D, name)
    tensors = tuple(fastnn.Tensor(np.array([x, x * 1.25]), requires_grad=True) for x in parameters)
    wide = tuple(np.array(x) for x in parameters) if name != "Uniform" else (-2.0, 4.0)
    x = np.array([value, value])
    assert fastnn.gradcheck(lambda *t: family(*t).log_prob(x), tensors)
    assert fastnn.gradcheck(lambda *t: family(*t).stddev + family(*t).mean, tensors)
    assert fastnn.gradcheck(lambda *t: D.kl_divergence(family(*t), family(*wide)), tensors)
    if name != "Uniform":
        assert fastnn.gradcheck(lambda *t: D.kl_divergence(family(*wide), family(*t)), tensors)
    if name != "Poisson":
        assert fastnn.gradcheck(lambda *t: family(*t).entropy(), tensors)
    if name in ("Uniform", "Normal", "Exponential"):
        sample = family(*parameters).sample((4, 2), generator=fastnn.Generator(3))
        again = family(*tensors).rsample(4, generator=fastnn.Generator(3))
        assert again.shape == (4, 2)
        np.testing.assert_array_equal(family(*tensors).sample(4, generator=fastnn.Generator(3)).data, again.data)
        assert sample.shape == (4, 2)
        assert fastnn.gradcheck(lambda *t: family(*t).rsample(4, generator=fastnn.Generator(3)), tensors)


def test_gradients_of_counts():
    """Of probabilities and logits, and 0 of what was impossible."""
    p = fastnn.Tensor(np.array([0.3, 0.6]), requires_grad=True)
    logits = fastnn.Tensor(np.array([-0.3, 2.0]), requires_grad=True)
    x = np.array([2.0, 5.0])
    assert fastnn.gradcheck(lambda t: D.Binomial(5, t).log_prob(x), p)
    assert fastnn.gradcheck(lambda t: D.Binomial(5, logits=t).log_prob(x), logits)
    assert fastnn.gradcheck(lambda t: D.kl_divergence(D.Binomial(5, logits=t), D.Binomial(5, 0.3)), logits)
    none = D.Binomial(5, p).log_prob(np.array([2.5, 6.0]))
    assert none.data.tolist() == [-INF, -INF]
    p.grad = None
    none.sum().backward()
    assert p.grad.tolist() == [0, 0]
    y = fastnn.Tensor(np.array([0.2, 0.7]), requires_grad=True)
    D.Beta(2.0, 3.0).log_prob(y).sum().backward()
    np.testing.assert_allclose(y.grad, 1 / y.data - 2 / (1 - y.data))


def test_samples_have_no_gradient():
    scale = fastnn.tensor(2.0, requires_grad=True)
    p = D.Normal(0.0, scale)
    assert not p.sample(3).requires_grad
    assert p.rsample(3).requires_grad
    assert isinstance(p.mean, fastnn.Tensor)
    assert isinstance(D.Normal(0.0, 1.0).log_prob(fastnn.Tensor(np.zeros(2))), fastnn.Tensor)


# ---- moments of samples ----


def test_moments_of_samples():
    x = np.random.default_rng(0).random((5, 4, 3))
    np.testing.assert_allclose(D.sample_mean(x), x.mean(0))
    np.testing.assert_allclose(D.sample_variance(x, (0, 2)), x.var((0, 2), ddof=1))
    assert D.sample_variance([1, 2, 3]) == 1
    assert isinstance(D.sample_mean(fastnn.Tensor(x)), fastnn.Tensor)


# ---- errors ----


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: D.Normal(0, [1.0, -2.0]), ValueError, "Normal: scale is -2.0, expected above 0"),
        (lambda: D.Normal(NAN, 1), ValueError, "Normal: loc is nan, expected finite numbers"),
        (
            lambda: D.Normal([1, 2], [1, 2, 3]),
            ValueError,
            r"shapes loc \(2,\), scale \(3,\), expected those that br",
        ),
        (lambda: D.Normal("a", 1), TypeError, "Normal: loc must be numbers, got 'a'"),
        (
            lambda: D.Normal(fastnn.tensor([1]), 1),
            TypeError,
            "Normal: parameters have dtype int64, expected float32",
        ),
        (
            lambda: D.Normal(fastnn.tensor(1.0), fastnn.Tensor(np.ones(2))),
            TypeError,
            "Normal: scale has dtype float64, expected float32",
        ),
        (lambda: D.Uniform(0, [1, 0]), ValueError, "Uniform: high is 0.0, expected above low"),
        (lambda: D.Exponential(0), ValueError, "Exponential: rate is 0.0, expected above 0"),
        (lambda: D.Beta(1, 0), ValueError, "Beta: concentration0 is 0.0, expected above 0"),
        (lambda: D.Poisson(-1), ValueError, "Poisson: rate is -1.0, expected at least 0"),
        (lambda: D.Bernoulli(1.5), ValueError, "Bernoulli: probs is 1.5, expected from 0 to 1"),
        (lambda: D.Bernoulli(), ValueError, "Bernoulli: got neither of probs and logits, expected one"),
        (lambda: D.Binomial(3, 0.5, 0.1), ValueError, "Binomial: got both of probs and logits, expected one"),
        (lambda: D.Binomial(2.5, 0.5), ValueError, "Binomial: total_count is 2.5, expected 0, 1, 2, "),
        (lambda: D.Poisson(1).entropy(), NotImplementedError, "Poisson: entropy has no closed form"),
        (lambda: D.Beta(1, 1).rsample(), NotImplementedError, "Beta: a sample is no differentiable function"),
        (lambda: D.Normal(0, 1).sample(-1), ValueError, "Normal.sample: sample_shape is -1, expected"),
        (lambda: D.Normal(0, 1).sample(1.5), TypeError, "Normal.sample: sample_shape must be an integer or a tuple"),
        (lambda: D.Normal(0, 1).sample(generator=3), TypeError, "Normal.sample: generator must be a fastnn.Generator"),
        (lambda: D.Normal(0, 1).log_prob("x"), TypeError, "Normal.log_prob: value must be numbers, got 'x'"),
        (lambda: D.kl_divergence(D.Normal(0, 1), D.Beta(1, 1)), TypeError, "got Normal and Beta, expected two of one"),
        (lambda: D.kl_divergence(D.Normal(0, 1), 3), TypeError, "kl_divergence: q must be a Distribution, got int"),
        (
            lambda: D.kl_divergence(D.Normal(0, 1), D.Normal(np.float32(0), np.float32(1))),
            TypeError,
            "kl_divergence: p is float64 and q float32, expected one dtype",
        ),
        (
            lambda: D.kl_divergence(D.Binomial(3, 0.5), D.Binomial(5, 0.5)),
            NotImplementedError,
            "kl_divergence: total_count is 3.0 and 5.0, expected not less",
        ),
        (
            lambda: D.sample_variance([1.0]),
            ValueError,
            "sample_variance: x has 1 samples along dim 0, expected at least",
        ),
        (lambda: D.sample_mean(np.zeros((0, 2))), ValueError, "sample_mean: x has 0 samples along dim 0, expected at"),
    ],
)
def test_errors(make, error, message):
    with pytest.raises(error, match=message):
        make()
