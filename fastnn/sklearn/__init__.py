"""Estimators for scikit-learn: networks in pipelines, searches and cross-validation. The extra `sklearn`.

from fastnn.sklearn import MLPClassifier  # in place of sklearn.neural_network's

model = make_pipeline(StandardScaler(), MLPClassifier())
search = GridSearchCV(model, {"mlpclassifier__alpha": [1e-4, 1e-2]}, n_jobs=2)
"""

try:
    import sklearn
except ImportError as error:
    raise ImportError("fastnn.sklearn needs scikit-learn: pip install 'fastnn[sklearn]'") from error

if tuple(map(int, sklearn.__version__.split(".")[:2])) < (1, 6):
    raise ImportError(
        f"fastnn.sklearn needs scikit-learn 1.6 or later, found {sklearn.__version__}: pip install 'fastnn[sklearn]'"
    )

from fastnn.sklearn.mlp import MLPClassifier, MLPRegressor
from fastnn.sklearn.naive_bayes import CategoricalNB
from fastnn.sklearn.net import NetClassifier, NetRegressor
from fastnn.sklearn.perceptron import Perceptron

__all__ = ["CategoricalNB", "MLPClassifier", "MLPRegressor", "NetClassifier", "NetRegressor", "Perceptron"]
