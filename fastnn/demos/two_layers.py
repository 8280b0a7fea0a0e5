"""Two layers solve XOR, which one cannot: a logistic regression on logistic regressions, or on ReLU units.

The same then tells whether a handwritten digit of scikit-learn's is odd, classes that no line separates well, beside a
logistic regression of one layer; a fifth is held out. The picture shows P(y = 1) over the plane of XOR, and
the log-likelihoods.
"""

from __future__ import annotations

import numpy as np

import fastnn
from fastnn.data import digits, every_fifth
from fastnn.demos import Result
from fastnn.models import TwoLayerPerceptron

XOR = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32), np.array([0, 1, 1, 0])


def run(*, quick: bool = False, seed: int = 0, hidden: int = 16, steps: int | None = None) -> Result:
    """hidden: units. steps: of the gradient's ascent (default: 1000, quick: 300)."""
    if steps is None:
        steps = 300 if quick else 1000
    surfaces, curves, told = {}, {}, []
    measures: dict[str, float] = {}
    images, classes = digits()
    x, y = images.reshape(-1, 64).astype(np.float32) / 16, classes % 2
    held_out = every_fifth(classes)
    grid = np.stack(np.meshgrid(*[np.linspace(-0.5, 1.5, 81, dtype=np.float32)] * 2), -1)
    for activation in "sigmoid", "relu":
        fastnn.manual_seed(seed)
        model = TwoLayerPerceptron(2, hidden, activation)
        curves[f"XOR, {activation}"] = found = model.fit(*XOR, steps)
        right = int(np.sum(model.predict(XOR[0]) == XOR[1]))
        print(f"XOR, {activation}: log-likelihood {found[0]:.3f} -> {found[-1]:.3g}, {right} of 4 right")
        surfaces[activation] = fastnn.functional.sigmoid(model(grid.reshape(-1, 2))).reshape(81, 81)
        measures[f"xor_{activation}"] = right
    candidates = {
        "one layer": lambda: TwoLayerPerceptron(64, 0),
        "sigmoid": lambda: TwoLayerPerceptron(64, hidden, "sigmoid"),
        "relu": lambda: TwoLayerPerceptron(64, hidden, "relu"),
    }
    for name, make in candidates.items():
        fastnn.manual_seed(seed)
        model = make()
        curves[f"odd, {name}"] = found = model.fit(x[~held_out], y[~held_out], steps, lr=0.01)
        measures[name] = float(np.mean(model.predict(x[held_out]) == y[held_out]))
        measures[f"log-likelihood, {name}"] = found[-1]
        told.append(f"{measures[name]:.1%} ({name})")
        print(f"odd, {name}: log-likelihood {found[0]:.1f} -> {found[-1]:.3g}, held out {measures[name]:.1%}")

    def draw(figure):
        for axes, (activation, p) in zip(figure.subplots(1, 3), [*surfaces.items(), ("", None)], strict=True):
            if p is None:
                for name, found in curves.items():
                    axes.plot(np.negative(found), label=name)
                axes.set(xlabel="step", ylabel="-log-likelihood", yscale="log")
                axes.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)
                axes.grid(alpha=0.3)
                continue
            shown = axes.contourf(*np.moveaxis(grid, 2, 0), p, np.linspace(0, 1, 21), cmap="coolwarm")
            axes.contour(*np.moveaxis(grid, 2, 0), p, [0.5], colors="black", linewidths=1)
            axes.scatter(*XOR[0].T, c=np.where(XOR[1] > 0, "darkred", "navy"), edgecolors="white", s=60)
            axes.set(title=f"P(y = 1), {hidden} hidden units, {activation}", aspect="equal")
            axes.title.set_fontsize(10)
            figure.colorbar(shown, ax=axes, ticks=[0, 0.5, 1], shrink=0.6)

    text = (
        f"XOR: {measures['xor_sigmoid']} of 4 right with sigmoid, {measures['xor_relu']} of 4 with ReLU units. Odd or "
        f"even: of {held_out.sum()} digits held out {', '.join(told)} are right."
    )
    return Result(text, measures, draw)
