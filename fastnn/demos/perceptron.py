"""The perceptron tells two digits apart by a line, and cannot do that with XOR; its dual form can, in another space.

Both forms learn zeros and ones of scikit-learn's handwritten digits, and then every pair of digits; a fifth of each is
held out. The picture shows the weight as an image, mistakes in each epoch, XOR, and the pairs.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np

from fastnn import train
from fastnn.data import digits, every_fifth
from fastnn.demos import Result
from fastnn.models import DualPerceptron, Perceptron, polynomial

XOR = np.array([[-1, -1], [-1, 1], [1, -1], [1, 1]]), np.array([-1, 1, 1, -1])


def run(*, quick: bool = False, seed: int = 0, epochs: int | None = None) -> Result:
    """epochs: a limit of passes over the samples (default: 200, quick: 20)."""
    if epochs is None:
        epochs = 20 if quick else 200
    images, classes = digits()
    x, held_out = images.reshape(len(images), -1), every_fifth(classes)

    def of(a: int, b: int, part: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Images of two digits, a as +1 and b as -1."""
        chosen = part & np.isin(classes, (a, b))
        return x[chosen], np.where(classes[chosen] == a, 1, -1)

    primal, dual = Perceptron(), DualPerceptron()
    for model in primal, dual:
        model.fit(*of(1, 0, ~held_out), epochs, seed)
        print(f"1 against 0, {model.name}: {model.report()}")
    difference = max(np.abs(primal.weight - dual.weight).max(), abs(primal.bias - dual.bias))
    print(f"largest difference of both forms' weights: {difference:g}")

    line, line_dual = (model.fit(*XOR, epochs) for model in (Perceptron(), DualPerceptron()))
    curve = DualPerceptron(kernel=polynomial(2)).fit(*XOR, epochs)
    for what, model in ("a line", line), ("a line, dual", line_dual), ("a conic, dual", curve):
        print(f"XOR by {what}: {model.report()}")

    accuracy, separated = np.full((10, 10), np.nan), 0
    for a, b in train.track(list(combinations(range(10), 2)), "pairs"):
        model = Perceptron().fit(*of(a, b, ~held_out), epochs, seed)
        test, truth = of(a, b, held_out)
        accuracy[b, a] = np.mean(model.predict(test) == truth)
        separated += model.separated
    test, truth = of(1, 0, held_out)
    right = int(np.sum(primal.predict(test) == truth))

    def draw(figure):
        weight, mistakes, plane, pairs = figure.subplots(1, 4)
        largest = np.abs(primal.weight).max()
        shown = weight.imshow(primal.weight.reshape(8, 8), cmap="RdBu", vmin=-largest, vmax=largest)
        weight.set_title("weight: blue for 1, red for 0", fontsize=10)
        weight.axis("off")
        figure.colorbar(shown, ax=weight, shrink=0.5)
        for name, model in ("1 against 0", primal), ("XOR by a line", line), ("XOR by a conic", curve):
            mistakes.plot(range(1, len(model.mistakes) + 1), model.mistakes, "o-", markersize=3, label=name)
        mistakes.set(xlabel="epoch", ylabel="mistakes", xscale="log")
        mistakes.legend(fontsize=8)
        mistakes.grid(alpha=0.3)
        grid = np.stack(np.meshgrid(*[np.linspace(-2, 2, 101)] * 2), -1)
        values = curve.decision_function(grid.reshape(-1, 2)).reshape(101, 101)
        plane.contourf(*np.moveaxis(grid, 2, 0), values, [-np.inf, 0, np.inf], colors=["#f4c0b8", "#b8d0f4"])
        plane.scatter(*XOR[0].T, c=np.where(XOR[1] > 0, "blue", "red"))
        plane.set(title="XOR, polynomial kernel of degree 2", aspect="equal")
        plane.title.set_fontsize(10)
        shown = pairs.imshow(accuracy, cmap="viridis", origin="lower")
        pairs.set(xticks=range(10), yticks=range(10))
        pairs.set_title("pairs of digits, accuracy held out", fontsize=10)
        figure.colorbar(shown, ax=pairs, shrink=0.5)

    text = (
        f"1 against 0 {primal.report()}, primal and dual alike; {right} of {len(truth)} held out are right. "
        f"{separated} of 45 pairs of digits separated within {epochs} epochs, {np.nanmean(accuracy):.1%} right on "
        f"average. XOR {line.report()}; with a polynomial kernel, {curve.report()}."
    )
    measures = {
        "accuracy": right / len(truth), "pairs": float(np.nanmean(accuracy)), "separated": separated,
        "difference": float(difference), "xor": line.separated + line_dual.separated, "xor_kernel": curve.separated,
    }  # fmt: skip
    return Result(text, measures, draw)
