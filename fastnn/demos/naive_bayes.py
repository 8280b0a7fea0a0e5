"""Naive Bayes reads digits: each pixel is a category, from 0 to 16, independent of the others within a class.

Of scikit-learn's handwritten digits a fifth is held out. Maximum likelihood holds many of these for impossible,
smoothing reads them. The picture shows the smoothing's effect, the mean image of each class, and what the model draws.
"""

from __future__ import annotations

import numpy as np

from fastnn.data import digits, every_fifth
from fastnn.demos import Result
from fastnn.models import CategoricalNB

ALPHAS = 0.0, 0.001, 0.01, 0.1, 0.3, 1.0, 3.0, 10.0, 100.0


def run(*, quick: bool = False, seed: int = 0, alpha: float = 1.0) -> Result:
    """alpha: smoothing of the model that is told of."""
    images, classes = digits()
    x, held_out = images.reshape(len(images), -1), every_fifth(classes)
    seen, test = (x[~held_out], classes[~held_out]), (x[held_out], classes[held_out])
    accuracy = {}
    for each in ALPHAS[::4] if quick else ALPHAS:
        model = CategoricalNB(each, categories=17).fit(*seen)
        accuracy[each] = float(np.mean(model.predict(test[0]) == test[1]))
        print(
            f"alpha {each:g}: held out {accuracy[each]:.1%}, {model.impossible(test[0]).sum()} of {len(test[1])} "
            "images impossible in every class"
        )
    model = CategoricalNB(alpha, categories=17).fit(*seen)
    reached, theirs = float(np.mean(model.predict(test[0]) == test[1])), from_sklearn(alpha, seen, test)
    unseen = int(CategoricalNB(0, categories=17).fit(*seen).impossible(test[0]).sum())
    probabilities = np.exp(np.stack(model.feature_log_prob))  # (pixels, classes, categories)
    rng = np.random.default_rng(seed)
    mean = (probabilities @ np.arange(17)).T.reshape(10, 8, 8)
    drawn = (rng.random((64, 10, 1)) > probabilities.cumsum(2)[:, :, :-1]).sum(2).T.reshape(10, 8, 8)
    example = np.stack([images[np.flatnonzero(classes == k)[0], 0] for k in range(10)])

    def draw(figure):
        left, right = figure.subfigures(1, 2, width_ratios=[1, 2])
        axes = left.subplots()
        axes.plot(accuracy.keys(), accuracy.values(), "o-")
        axes.set_xscale("symlog", linthresh=1e-3)
        axes.set(xlabel="alpha, smoothing", ylabel="accuracy, held out")
        axes.grid(alpha=0.3)
        rows = right.subplots(3, 10)
        for row, title, pictures in zip(rows, ("real", "mean of class", "drawn"), (example, mean, drawn), strict=True):
            row[0].set_ylabel(title, fontsize=9)
            for k, axes in enumerate(row):
                axes.imshow(pictures[k], cmap="gray_r", vmin=0, vmax=16)
                axes.set(xticks=[], yticks=[])
        for k in range(10):
            rows[0, k].set_title(str(model.classes[k]), fontsize=9)

    text = (
        f"{reached:.1%} of {len(test[1])} digits held out with alpha {alpha:g}, scikit-learn's CategoricalNB "
        f"{theirs:.1%}; by pure maximum likelihood {accuracy[0.0]:.1%}, as it holds {unseen} of them for impossible."
    )
    return Result(text, {"accuracy": reached, "sklearn": theirs, "likelihood": accuracy[0.0]}, draw)


def from_sklearn(alpha: float, seen: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray]) -> float:
    """What scikit-learn's model reaches."""
    from sklearn.naive_bayes import CategoricalNB as Theirs

    return float(Theirs(alpha=alpha, min_categories=17).fit(*seen).score(*test))
