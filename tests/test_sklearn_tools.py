"""The estimators in what scikit-learn makes of estimators: pipelines, searches in processes, copies, files, frames."""

import copy
import os
import pickle
from functools import partial

import numpy as np
import pytest

pytest.importorskip("sklearn")

import joblib
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import load_digits, load_iris
from sklearn.ensemble import VotingClassifier
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn_support import FEW_EPOCHS, Images, Small, problem

import fastnn
from fastnn.sklearn import CategoricalNB, MLPClassifier, MLPRegressor, NetClassifier, NetRegressor, Perceptron

pytestmark = FEW_EPOCHS

ESTIMATORS = {
    "MLPClassifier": (MLPClassifier(max_iter=3, random_state=0), "multiclass"),
    "MLPRegressor": (MLPRegressor(max_iter=3, random_state=0), "several"),
    "CategoricalNB": (CategoricalNB(), "multiclass"),
    "Perceptron": (Perceptron(max_iter=3), "multiclass"),
    "NetClassifier": (NetClassifier(Small, epochs=2, random_state=0), "multiclass"),
    "NetClassifier of a Module": (NetClassifier(Small(12, 3), epochs=2, random_state=0), "multiclass"),
    "NetRegressor": (NetRegressor(partial(Small, hidden=9), epochs=2, random_state=0), "several"),
}


@pytest.fixture(params=ESTIMATORS)
def fitted(request):
    """(a fitted estimator, its samples, its targets)"""
    estimator, kind = ESTIMATORS[request.param]
    X, y = problem(kind)
    if request.param == "CategoricalNB":
        X = np.abs(X).astype(int)
    return clone(estimator).fit(X, y), X, y


def test_copies_and_files(fitted, tmp_path):
    """Copies predict the same, and learn on as the original does, their memory apart."""
    estimator, X, y = fitted
    want = estimator.predict(X)
    joblib.dump(estimator, tmp_path / "estimator")
    copies = [pickle.loads(pickle.dumps(estimator)), copy.deepcopy(estimator), joblib.load(tmp_path / "estimator")]
    # in a worker process arrays are files that cannot be written
    copies.append(joblib.load(tmp_path / "estimator", mmap_mode="r"))
    for other in copies:
        np.testing.assert_array_equal(other.predict(X), want)
    if hasattr(estimator, "partial_fit"):
        went_on = [other.partial_fit(X, y).predict(X) for other in copies]
        np.testing.assert_array_equal(estimator.predict(X), want)
        after = estimator.partial_fit(X, y).predict(X)
        for predicted in went_on:
            np.testing.assert_array_equal(predicted, after)


def test_clones_know_parameters_only(fitted):
    estimator, X, y = fitted
    other = clone(estimator)
    assert other.get_params().keys() == estimator.get_params().keys()
    assert not [name for name in vars(other) if name.endswith("_")]
    np.testing.assert_array_equal(other.fit(X, y).predict(X), estimator.predict(X))
    assert type(estimator).__name__ in repr(estimator)


def test_memory_that_is_not_in_order(fitted):
    """Fortran order, every other column, and read-only samples."""
    estimator, X, y = fitted
    want = estimator.predict(X)
    wide = np.repeat(X, 2, axis=1)[:, ::2]
    fixed = X.copy()
    fixed.flags.writeable = False
    for other in (np.asfortranarray(X), wide, fixed):
        np.testing.assert_array_equal(estimator.predict(other), want)
        np.testing.assert_array_equal(clone(estimator).fit(other, y).predict(X), want)


def test_no_samples_and_one(fitted):
    estimator, X, _ = fitted
    one, many = estimator.predict(X[:1]), estimator.predict(X)[:1]
    if one.dtype.kind == "f":
        np.testing.assert_allclose(one, many, 1e-12)  # sums of 100 products in another order
    else:
        np.testing.assert_array_equal(one, many)
    with pytest.raises(ValueError, match="0 sample"):
        estimator.predict(X[:0])


def test_pipelines_and_cross_validation():
    X, y = load_digits(return_X_y=True)
    mlp = make_pipeline(StandardScaler(), MLPClassifier(max_iter=8, learning_rate_init=0.01, random_state=0))
    net = make_pipeline(
        MinMaxScaler(), NetClassifier(Images, input_shape=(1, 8, 8), epochs=8, lr=0.02, dtype="float32")
    )
    net.set_params(netclassifier__random_state=0)
    for pipeline in (mlp, net, VotingClassifier([("mlp", mlp), ("net", net)], voting="soft")):
        assert cross_val_score(pipeline, X[:900], y[:900], cv=2).mean() > 0.8
    target = TransformedTargetRegressor(
        NetRegressor(Small, epochs=30, lr=0.01, random_state=0), transformer=MinMaxScaler()
    )
    X, y = problem("one")
    assert target.fit(X, 1000 * y).score(X, 1000 * y) > 0.8


class Threads(TransformerMixin, BaseEstimator):
    """Lets samples through, if the process, but for that of the tests, has no more threads than its share."""

    def __init__(self, limit, parent):
        self.limit = limit
        self.parent = parent

    def fit(self, X, y=None):
        if os.getpid() != self.parent and fastnn.get_num_threads() > self.limit:
            raise RuntimeError(f"{fastnn.get_num_threads()} threads in a worker, expected at most {self.limit}")
        return self

    def transform(self, X):
        return X

    def __sklearn_is_fitted__(self):
        return True


def test_search_in_two_processes():
    """Two processes at once: no more threads than processors, models over a megabyte (which come as files that cannot
    be written), and the results of one process."""
    X, y = load_digits(return_X_y=True)
    X, y = X[:300] / 16, y[:300]
    threads = Threads(max(joblib.cpu_count() // 2, 1), os.getpid())
    searches = [
        (MLPClassifier((150,), max_iter=3, random_state=0), {"mlpclassifier__alpha": [1e-4, 1.0]}),
        (NetClassifier(Small(64, 10, hidden=5000), epochs=2, random_state=0), {"netclassifier__lr": [1e-3, 1e-5]}),
        (NetClassifier(Small, epochs=2, random_state=0),
         {"netclassifier__model": [partial(Small, hidden=n) for n in (2, 40)]}),
    ]  # fmt: skip
    with joblib.parallel_backend("loky", n_jobs=2):
        found = [
            GridSearchCV(make_pipeline(threads, estimator), grid, cv=2, n_jobs=2, error_score="raise").fit(X, y)
            for estimator, grid in searches
        ]
    for search, (estimator, grid) in zip(found, searches, strict=True):
        alone = GridSearchCV(make_pipeline(estimator), grid, cv=2, error_score="raise").fit(X, y)
        np.testing.assert_array_equal(search.cv_results_["mean_test_score"], alone.cv_results_["mean_test_score"])
        assert search.best_params_.keys() == grid.keys()


def test_frames():
    """Columns have names, which are those of fit; labels are strings or categories."""
    pandas = pytest.importorskip("pandas")
    X, y = load_iris(return_X_y=True, as_frame=True)
    names = y.map({0: "setosa", 1: "versicolor", 2: "virginica"})
    for estimator in (MLPClassifier(max_iter=300, learning_rate_init=0.02, random_state=0),
                      NetClassifier(Small, epochs=40, lr=0.02, random_state=0), Perceptron()):  # fmt: skip
        pipeline = make_pipeline(StandardScaler(), estimator).set_output(transform="pandas")
        for target in (names, names.astype("category"), names.to_numpy()):
            assert pipeline.fit(X, target).score(X, names) > 0.7  # two of the three are not separable
        assert list(estimator.feature_names_in_) == list(X.columns)
        with pytest.raises(ValueError, match="feature names"):
            estimator.predict(pandas.DataFrame(X.to_numpy(), columns=list("abcd")))
    regressor = MLPRegressor(max_iter=5, random_state=0).fit(X, y.to_frame().assign(double=2 * y))
    assert regressor.predict(X).shape == (150, 2)


def test_what_is_missing_is_named(python):
    """Without scikit-learn, or with an old one, the error says what to install; fastnn itself does not import it."""
    hidden = python("-c", "import sys; sys.modules['sklearn'] = None; import fastnn; import fastnn.sklearn")
    assert "ImportError: fastnn.sklearn needs scikit-learn: pip install 'fastnn[sklearn]'" in hidden.stderr
    old = "import sys, types; m = types.ModuleType('sklearn'); m.__version__ = '1.5.2'; sys.modules['sklearn'] = m; "
    found = python("-c", old + "import fastnn.sklearn")
    assert "needs scikit-learn 1.6 or later, found 1.5.2" in found.stderr
    assert python("-c", "import sys, fastnn; assert 'sklearn' not in sys.modules").returncode == 0
