"""MLPClassifier and MLPRegressor against scikit-learn's: weights, curves, predictions; and what only ours do."""

import numpy as np
import pytest

pytest.importorskip("sklearn")

import scipy.sparse
import sklearn
import sklearn.neural_network as original
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn_support import FEW_EPOCHS, problem

import fastnn.sklearn as ours

pytestmark = FEW_EPOCHS

# Weights are of order 1 and differ by 1e-16 a step, 1e-14 after the hundreds of steps here; where steps were made of
# anything else than rounding they differ by more than 1e-6 (epsilon in another place, the penalty on biases).
RTOL, ATOL = 1e-9, 1e-11
KINDS = {"multiclass": "MLPClassifier", "binary": "MLPClassifier", "multilabel": "MLPClassifier",
         "one": "MLPRegressor", "several": "MLPRegressor"}  # fmt: skip
WEIGHTED = tuple(map(int, sklearn.__version__.split(".")[:2])) >= (1, 7)

OPTIONS = {
    "defaults": {},
    "tanh": {"activation": "tanh", "hidden_layer_sizes": (7, 5)},
    "logistic": {"activation": "logistic", "alpha": 0.1, "batch_size": 33},
    "linear": {"activation": "identity", "hidden_layer_sizes": ()},
    "adam": {"beta_1": 0.5, "beta_2": 0.9, "epsilon": 1e-3, "learning_rate_init": 0.01},
    "sgd": {"solver": "sgd", "learning_rate_init": 0.05},
    "momentum": {"solver": "sgd", "nesterovs_momentum": False, "learning_rate_init": 0.03, "batch_size": 50},
    "no momentum": {"solver": "sgd", "momentum": 0, "learning_rate_init": 0.1},
    "invscaling": {"solver": "sgd", "learning_rate": "invscaling", "learning_rate_init": 0.3, "power_t": 0.4},
    "adaptive": {"solver": "sgd", "learning_rate": "adaptive", "learning_rate_init": 0.05, "max_iter": 70, "tol": 0.01,
                 "n_iter_no_change": 2},
    "early stopping": {"early_stopping": True, "n_iter_no_change": 3, "learning_rate_init": 0.02},
    "tol": {"shuffle": False, "tol": 0.1, "n_iter_no_change": 2},
    "lbfgs": {"solver": "lbfgs", "max_iter": 12},
}  # fmt: skip


def pair(name, **options):
    return [getattr(module, name)(**{"max_iter": 20, "random_state": 1, **options}) for module in (ours, original)]


def assert_same(a, b, X):
    """Weights, losses, and what follows from them."""
    for p, q in zip(a.coefs_ + a.intercepts_, b.coefs_ + b.intercepts_, strict=True):
        assert p.dtype == q.dtype
        np.testing.assert_allclose(p, q, RTOL, ATOL)
    for name in ("n_iter_", "n_layers_", "n_outputs_", "out_activation_", "t_", "n_features_in_"):
        assert getattr(a, name) == getattr(b, name), name
    np.testing.assert_allclose(a.loss_, b.loss_, RTOL)
    if a.solver != "lbfgs":
        np.testing.assert_allclose(a.loss_curve_, b.loss_curve_, RTOL)
        for name in ("best_loss_", "best_validation_score_", "validation_scores_"):
            x, y = getattr(a, name), getattr(b, name)
            assert (x is None) == (y is None), name
            if x is not None:
                np.testing.assert_allclose(x, y, RTOL)
    got, want = a.predict(X), b.predict(X)
    assert got.dtype == want.dtype
    if hasattr(a, "classes_"):
        np.testing.assert_array_equal(a.classes_, b.classes_)
        np.testing.assert_array_equal(got, want)
        np.testing.assert_allclose(a.predict_proba(X), b.predict_proba(X), RTOL, ATOL)
        likely = b.predict_proba(X) > 1e-6  # 1 - p of scikit-learn is rounded to 1e-16
        with np.errstate(divide="ignore"):
            want = b.predict_log_proba(X)
        np.testing.assert_allclose(a.predict_log_proba(X)[likely], want[likely], RTOL, 1e-9)
    else:
        np.testing.assert_allclose(got, want, RTOL, ATOL)


@pytest.mark.filterwarnings("ignore:scipy.optimize. The `disp` and `iprint`:DeprecationWarning")  # of 1.6
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
@pytest.mark.parametrize("kind", KINDS)
def test_learns_the_same_weights(kind, options):
    if kind == "several" and options.get("solver") == "lbfgs":
        pytest.skip("scikit-learn's loss is the mean over outputs, and its gradient that of the sum")
    X, y = problem(kind)
    if y.dtype.kind == "U" and not WEIGHTED:  # whose early stopping fails with strings
        y = np.unique(y, return_inverse=True)[1]
    a, b = pair(KINDS[kind], **options)
    assert_same(a.fit(X, y), b.fit(X, y), X)


@pytest.mark.skipif(not WEIGHTED, reason="sample_weight came with scikit-learn 1.7")
@pytest.mark.parametrize("options", [{}, {"solver": "lbfgs"}, {"early_stopping": True}], ids=["adam", "lbfgs", "early"])
@pytest.mark.parametrize("kind", ["multiclass", "binary", "multilabel", "one"])
def test_sample_weights(kind, options):
    X, y = problem(kind)
    weight = np.random.default_rng(1).uniform(0, 3, len(X))
    a, b = pair(KINDS[kind], **options)
    assert_same(a.fit(X, y, weight), b.fit(X, y, weight), X)


@pytest.mark.skipif(not WEIGHTED, reason="loss came with scikit-learn 1.7")
@pytest.mark.parametrize("kind", ["one", "several"])
def test_poisson(kind):
    X, y = problem(kind)
    y = np.abs(y).round()  # zeros among them
    a, b = pair("MLPRegressor", loss="poisson")
    assert_same(a.fit(X, y), b.fit(X, y), X)
    assert (a.predict(X) > 0).all()
    with pytest.raises(ValueError, match="y has -"):
        a.fit(X, -y - 1)


@pytest.mark.parametrize("solver", ["adam", "sgd"])
@pytest.mark.parametrize("kind", KINDS)
def test_partial_fit(kind, solver):
    X, y = problem(kind)
    a, b = pair(KINDS[kind], solver=solver, learning_rate="invscaling")
    for part in (slice(0, 60), slice(60, 230), slice(0, 100)):
        for estimator in (a, b):
            if KINDS[kind] == "MLPRegressor":
                estimator.partial_fit(X[part], y[part])
            else:
                classes = np.arange(4) if kind == "multilabel" else np.unique(y)
                estimator.partial_fit(X[part], y[part], classes=classes)
        assert_same(a, b, X)


@pytest.mark.parametrize("kind", ["multiclass", "one"])
def test_warm_start(kind):
    X, y = problem(kind)
    a, b = pair(KINDS[kind], warm_start=True, max_iter=4)
    for _ in range(3):
        assert_same(a.fit(X, y), b.fit(X, y), X)
    assert len(a.loss_curve_) == 12
    if kind == "multiclass":
        with pytest.raises(ValueError, match="lacks the classes"):
            a.fit(X[y != "c"], y[y != "c"])


@pytest.mark.parametrize("kind", KINDS)
def test_float32_stays(kind):
    X, y = problem(kind, dtype=np.float32)
    a = getattr(ours, KINDS[kind])(max_iter=5, random_state=0).fit(X, y)
    assert {x.dtype for x in a.coefs_ + a.intercepts_} == {np.dtype(np.float32)}
    assert (a.predict_proba if hasattr(a, "classes_") else a.predict)(X).dtype == np.float32


@pytest.mark.parametrize("form", [scipy.sparse.csr_matrix, scipy.sparse.csc_array, scipy.sparse.coo_matrix])
def test_sparse_samples_are_as_dense_ones(form):
    X, y = problem("multiclass")
    X[np.abs(X) < 1] = 0
    a = ours.MLPClassifier(max_iter=5, random_state=0)
    want = a.fit(X, y).predict_proba(X)
    np.testing.assert_array_equal(a.fit(form(X), y).predict_proba(form(X)), want)


def test_many_samples_in_parts():
    """More rows than are computed at once give what each of them gives alone, but for the order of sums."""
    X, y = problem("multiclass")
    a = ours.MLPClassifier(max_iter=3, random_state=0).fit(X, y)
    many = np.tile(X, (40, 1))
    np.testing.assert_allclose(a.predict_proba(many), np.tile(a.predict_proba(X), (40, 1)), 1e-13)
    assert len(many) > 2 * 4096


def test_the_network_is_its_weights():
    """Predictions come from coefs_ and intercepts_ as they are, in any layout."""
    X, y = problem("one")
    a = ours.MLPRegressor(max_iter=3, random_state=0).fit(X, y)
    assert [c.shape for c in a.coefs_] == [(12, 100), (100, 1)]
    hidden = np.maximum(X @ a.coefs_[0] + a.intercepts_[0], 0)
    np.testing.assert_allclose(a.predict(X), (hidden @ a.coefs_[1] + a.intercepts_[1]).ravel(), 1e-12, 1e-13)
    before = a.predict(X)
    a.coefs_[1] = np.ascontiguousarray(a.coefs_[1] * 2)
    a.intercepts_[1] *= 2
    np.testing.assert_allclose(a.predict(X), 2 * before, 1e-13)


def test_digits_are_learned_as_well_as_by_scikit_learn():
    """In float64 and with the same seeds the runs are the same, whatever rounding makes of them: of 450 digits no more
    than a few are decided otherwise."""
    X, y = load_digits(return_X_y=True)
    Xa, Xb, ya, yb = train_test_split(X / 16, y, random_state=0, stratify=y)
    a, b = pair("MLPClassifier", hidden_layer_sizes=(32,), learning_rate_init=0.01)
    got, want = a.fit(Xa, ya).score(Xb, yb), b.fit(Xa, ya).score(Xb, yb)
    assert abs(got - want) < 5 / 450
    assert got > 0.95


WRONG = {
    "hidden_layer_sizes": [(0, ValueError), ((3, -1), ValueError), (2.5, TypeError), ("wide", TypeError)],
    "activation": [("gelu", ValueError)],
    "solver": [("newton", ValueError)],
    "alpha": [(-1, ValueError), ("much", TypeError), (np.nan, ValueError)],
    "batch_size": [(0, ValueError), ("all", TypeError)],
    "learning_rate": [("cosine", ValueError)],
    "learning_rate_init": [(0, ValueError)],
    "max_iter": [(0, ValueError), (1.5, TypeError)],
    "shuffle": [(1, TypeError)],
    "momentum": [(1.1, ValueError)],
    "validation_fraction": [(1, ValueError)],
    "beta_2": [(1, ValueError)],
    "epsilon": [(0, ValueError)],
    "n_iter_no_change": [(0, ValueError)],
    "random_state": [("seed", ValueError)],
}


@pytest.mark.parametrize(
    ("name", "value", "error"), [(name, value, error) for name, cases in WRONG.items() for value, error in cases]
)
def test_wrong_parameters(name, value, error):
    X, y = problem("binary")
    with pytest.raises(error, match=name if name != "random_state" else "seed"):
        ours.MLPClassifier(**{name: value}).fit(X, y)


def test_wrong_calls():
    X, y = problem("multiclass")
    a = ours.MLPClassifier(max_iter=2, n_iter_no_change=np.inf)
    with pytest.raises(ValueError, match="classes must be passed"):
        a.partial_fit(X, y)
    a.partial_fit(X, y, classes=["a", "b", "c"])
    with pytest.raises(ValueError, match="classes not in"):
        a.partial_fit(X, np.where(y == "a", "d", y))
    with pytest.raises(ValueError, match="not the same as on last call"):
        a.partial_fit(X, y, classes=["a", "b"])
    with pytest.raises(AttributeError, match="partial_fit"):
        _ = a.set_params(solver="lbfgs").partial_fit
    with pytest.raises(ValueError, match="early_stopping"):
        ours.MLPRegressor(early_stopping=True).partial_fit(X, X[:, 0])
    with pytest.raises(ValueError, match="validation_fraction"):
        ours.MLPRegressor(early_stopping=True, validation_fraction=0.05).fit(X[:10], X[:10, 0])
    with pytest.raises(ValueError, match="not finite"), np.errstate(all="ignore"):
        ours.MLPRegressor(solver="sgd", learning_rate_init=1e30, max_iter=9).fit(X, X[:, 0])
    with pytest.warns(UserWarning, match="batch_size is 999"):
        a.set_params(solver="adam", batch_size=999).fit(X, y)


def test_progress_is_told(capsys):
    X, y = problem("one")
    options = {"max_iter": 3, "verbose": True, "random_state": 0}
    ours.MLPRegressor(**options).fit(X, y)
    ours.MLPRegressor(**options, early_stopping=True).fit(X, y)
    ours.MLPRegressor(**options, solver="lbfgs").fit(X, y)
    ours.MLPRegressor(**options | {"max_iter": 9}, tol=9, n_iter_no_change=1).fit(X, y)
    told = capsys.readouterr().out
    assert told.count("Iteration 3, loss = ") == 3
    assert "Validation score: " in told
    assert "3 iterations, loss = " in told
    assert "Training loss did not improve more than tol=9.000000 for 1 consecutive epochs. Stopping." in told
