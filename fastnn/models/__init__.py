"""The networks of the literature, each readable in one file, built from `fastnn.nn`.

docs/models.md lists them with their papers and what they reach; `python -m fastnn run NAME` trains one on real data.
"""

from fastnn.models.classic import (
    MLP,
    DualPerceptron,
    Perceptron,
    TwoLayerPerceptron,
    log_likelihood,
    mlp,
    polynomial,
)
from fastnn.models.lenet import LeNet, lenet
from fastnn.models.naive_bayes import CategoricalNB

__all__ = [
    "MLP",
    "CategoricalNB",
    "DualPerceptron",
    "LeNet",
    "Perceptron",
    "TwoLayerPerceptron",
    "lenet",
    "log_likelihood",
    "mlp",
    "polynomial",
]
