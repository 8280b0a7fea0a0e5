"""Perceptron and CategoricalNB against scikit-learn's, and against the perceptron that takes one sample at a time."""

import numpy as np
import pytest

pytest.importorskip("sklearn")

import scipy.sparse
import sklearn.linear_model
import sklearn.naive_bayes
from sklearn.datasets import load_digits
from sklearn_support import FEW_EPOCHS

from fastnn.models import classic
from fastnn.sklearn import CategoricalNB, Perceptron

pytestmark = FEW_EPOCHS


def integers(classes, n=333, features=7, seed=0):
    """Samples of small integers, whose sums are exact, and classes that are not separable."""
    rng = np.random.default_rng(seed)
    X = rng.integers(-4, 5, (n, features))
    return X.astype(float), (X @ rng.integers(-3, 4, (features, classes)) + rng.integers(-9, 9, classes)).argmax(1)


OPTIONS = {
    "defaults": {},
    "no intercept": {"fit_intercept": False},
    "balanced": {"class_weight": "balanced"},
    "weights": {"class_weight": {0: 2.0, 1: 0.5, 2: 4.0}},
    "l2": {"penalty": "l2", "alpha": 0.01, "eta0": 0.5},
    "strong l2": {"penalty": "l2", "alpha": 0.5, "eta0": 0.3},
    "tol": {"tol": 1e-2, "max_iter": 100, "n_iter_no_change": 3},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
@pytest.mark.parametrize("classes", [2, 3, 5])
def test_makes_the_mistakes_of_scikit_learn(classes, options):
    """Sample by sample, in their order. What is not exact in integers is rounded in another order."""
    X, y = integers(classes)
    if "weights" in str(options) and isinstance(options["class_weight"], dict) and classes == 2:
        options = {"class_weight": {0: 2.0, 1: 0.5}}
    options = {"shuffle": False, "max_iter": 7, "tol": None, **options}
    weight = np.random.default_rng(1).integers(1, 4, len(y))
    a = Perceptron(**options).fit(X, y, weight)
    b = sklearn.linear_model.Perceptron(**options).fit(X, y, sample_weight=weight)
    np.testing.assert_allclose(a.coef_, b.coef_, 1e-9, 1e-9)
    np.testing.assert_allclose(a.intercept_, b.intercept_, 1e-9, 1e-9)
    np.testing.assert_array_equal(a.predict(X), b.predict(X))
    np.testing.assert_allclose(a.decision_function(X), b.decision_function(X), 1e-9, 1e-9)
    assert a.n_iter_ == b.n_iter_


@pytest.mark.parametrize("n", [1, 63, 64, 65, 200])
def test_blocks_are_one_sample_after_the_other(n):
    X, y = integers(2, n=n + 2)
    y[:2] = 0, 1
    a = Perceptron(shuffle=False, max_iter=9, tol=None).fit(X, y)
    b = classic.Perceptron().fit(X, 2 * y - 1, epochs=9)
    np.testing.assert_array_equal(a.coef_[0], b.weight)
    assert a.intercept_ == b.bias
    assert a.n_iter_ == len(b.mistakes)


def test_ends_when_all_are_separated():
    X = np.array([[0.0, 3], [1, 4], [5, 0], [6, 1]])
    a = Perceptron(tol=None).fit(X, ["up", "up", "down", "down"])
    assert a.score(X, ["up", "up", "down", "down"]) == 1
    assert a.n_iter_ < 20


def test_digits():
    """A linear classifier has nine of ten digits that it has not seen; float32 and sparse samples are as good."""
    X, y = load_digits(return_X_y=True)
    a = Perceptron(random_state=3).fit(X[:1400], y[:1400])
    assert a.score(X[1400:], y[1400:]) > 0.85
    single = Perceptron(random_state=3).fit(X[:1400].astype(np.float32), y[:1400])
    assert single.coef_.dtype == np.float32
    np.testing.assert_array_equal(single.coef_, a.coef_)  # of integers
    sparse = Perceptron(random_state=3).fit(scipy.sparse.csr_matrix(X[:1400]), y[:1400])
    np.testing.assert_array_equal(sparse.coef_, a.coef_)
    np.testing.assert_array_equal(sparse.predict(scipy.sparse.csr_matrix(X)), a.predict(X))


def test_perceptron_goes_on():
    """partial_fit of all samples is an epoch, and warm_start begins with the weights that there are."""
    X, y = integers(3)
    whole = Perceptron(shuffle=False, max_iter=4, tol=None).fit(X, y)
    parts = Perceptron(shuffle=False)
    for _ in range(4):
        parts.partial_fit(X, y, classes=[0, 1, 2])
    np.testing.assert_array_equal(parts.coef_, whole.coef_)
    warm = Perceptron(shuffle=False, max_iter=2, tol=None, warm_start=True).fit(X, y).fit(X, y)
    np.testing.assert_array_equal(warm.coef_, whole.coef_)
    assert warm.t_ == whole.t_ == parts.t_ == 4 * len(X) + 1


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"penalty": "l1"}, ValueError),
        ({"alpha": -1}, ValueError),
        ({"eta0": 0}, ValueError),
        ({"max_iter": 0}, ValueError),
        ({"tol": "small"}, TypeError),
        ({"n_iter_no_change": 0.5}, TypeError),
        ({"fit_intercept": None}, TypeError),
    ],
)
def test_wrong_parameters_of_the_perceptron(options, error):
    with pytest.raises(error, match=next(iter(options))):
        Perceptron(**options).fit(*integers(2))


def test_wrong_calls_of_the_perceptron():
    X, y = integers(3)
    with pytest.raises(ValueError, match="classes must be passed"):
        Perceptron().partial_fit(X, y)
    with pytest.raises(ValueError, match="at least 2 classes"):
        Perceptron().fit(X, np.zeros(len(X)))
    a = Perceptron().partial_fit(X, y, classes=[0, 1, 2])
    with pytest.raises(ValueError, match="not the same as on last call"):
        a.partial_fit(X, y, classes=[0, 1])
    with pytest.raises(ValueError, match="classes not in"):
        a.partial_fit(X, y + 1)


# ---- naive Bayes ----

NB = {
    "defaults": {},
    "alpha": {"alpha": 0.25},
    "no smoothing": {"alpha": 1e-12, "force_alpha": False},
    "uniform prior": {"fit_prior": False},
    "prior": {"class_prior": [0.2, 0.3, 0.5]},
    "categories": {"min_categories": 6},
    "of each": {"min_categories": [4, 9, 4, 4, 12]},
}


def categories(n=200, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 4, (n, 5)), np.array(["x", "y", "z"])[rng.integers(0, 3, n)]


def assert_same(a, b, X):
    for name in ("class_count_", "class_log_prior_", "n_categories_", "classes_"):
        x, y = getattr(a, name), getattr(b, name)
        if x.dtype.kind == "f":
            np.testing.assert_allclose(x, y, 1e-12)
        else:
            np.testing.assert_array_equal(x, y)
    for name in ("category_count_", "feature_log_prob_"):
        for x, y in zip(getattr(a, name), getattr(b, name), strict=True):
            np.testing.assert_allclose(x, y, 1e-12)
    for method in ("predict_joint_log_proba", "predict_log_proba", "predict_proba"):
        np.testing.assert_allclose(getattr(a, method)(X), getattr(b, method)(X), 1e-12, 1e-15)
    np.testing.assert_array_equal(a.predict(X), b.predict(X))


@pytest.mark.filterwarnings("ignore:alpha too small")
@pytest.mark.parametrize("options", NB.values(), ids=NB.keys())
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
def test_counts_as_scikit_learn(options, weighted):
    X, y = categories()
    weight = np.random.default_rng(1).uniform(0, 2, len(X)) if weighted else None
    a, b = CategoricalNB(**options), sklearn.naive_bayes.CategoricalNB(**options)
    assert_same(a.fit(X, y, weight), b.fit(X, y, weight), X)


def test_naive_bayes_in_parts():
    """Parts give the counts of the whole, with categories that only a later part has."""
    X, y = categories()
    X[150:, 2] += 3
    a, b, whole = CategoricalNB(), sklearn.naive_bayes.CategoricalNB(), CategoricalNB().fit(X, y)
    for part in (slice(0, 80), slice(80, 200)):
        for estimator in (a, b):
            estimator.partial_fit(X[part], y[part], classes=["x", "y", "z"])
    assert_same(a, b, X)
    assert_same(a, whole, X)


def test_wrong_calls_of_naive_bayes():
    X, y = categories()
    for options, error in (
        ({"alpha": -1}, ValueError),
        ({"fit_prior": 1}, TypeError),
        ({"class_prior": [0.5, 0.5]}, ValueError),
        ({"min_categories": [4, 4]}, ValueError),
        ({"min_categories": 2.5}, ValueError),
    ):
        with pytest.raises(error, match=next(iter(options))):
            CategoricalNB(**options).fit(X, y)
    with pytest.warns(UserWarning, match="alpha too small: it is 0, and 1e-10"):
        CategoricalNB(alpha=0, force_alpha=False).fit(X, y)
    with pytest.raises(ValueError, match="Negative values"):
        CategoricalNB().fit(X - 1, y)
    with pytest.raises(ValueError, match="classes must be passed"):
        CategoricalNB().partial_fit(X, y)
    a = CategoricalNB().fit(X, y)
    with pytest.raises(ValueError, match="feature 1 has category 4, expected less than 4"):
        a.predict(X + np.array([0, 1, 0, 0, 0]))
    with pytest.raises(ValueError, match="not the same as on last call"):
        a.partial_fit(X, y, classes=["x"])
