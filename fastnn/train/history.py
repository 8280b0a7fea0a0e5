"""What a run of `fit` recorded, epoch by epoch, and plots of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

__all__ = ["Best", "History", "is_better", "mode_of"]

STATISTICS = {
    "norm": "norm of the gradient",
    "mean_abs": "mean magnitude of the gradient",
    "update_ratio": "norm of the update / norm of the weights",
}
"""What is recorded of a layer's gradients, and how a plot calls it."""

SMALLER_IS_BETTER = ("loss", "error", "mse", "mae", "seconds")
GREATER_IS_BETTER = ("accuracy",)


class Best(NamedTuple):
    """The epoch, counted from 1, in which a value was best, and the value."""

    epoch: int
    value: float


def mode_of(name: str, mode: str | None, op: str) -> str:
    """ "min" or "max", what is better; None: as the name of a value says."""
    if mode is None:
        if name.endswith(SMALLER_IS_BETTER):
            return "min"
        if name.endswith(GREATER_IS_BETTER):
            return "max"
        raise ValueError(f"{op}: mode is None, expected 'min' or 'max', as {name!r} does not say which is better")
    if mode not in ("min", "max"):
        raise ValueError(f"{op}: mode is {mode!r}, expected 'min', 'max' or None")
    return mode


def is_better(value: float, than: float, mode: str, margin: float = 0.0) -> bool:
    """Is a value better than another one, by more than a margin? NaN never is."""
    return value < than - margin if mode == "min" else value > than + margin


class History:
    """Lists of numbers by name, one number an epoch: history["val_loss"].

    Names: "epoch" (from 1), "loss" and each metric, the same with "val_" in front, "lr" ("lr_1", … of further groups of
    the optimiser) as used in that epoch, "grad_norm" (the mean before clipping) with clip_grad_norm, and "seconds".

    stopped: why the run ended before its last epoch, "early_stopping" or "interrupted", else None.
    gradients: {"step": [...], "layers": {path: {"norm": [...], "mean_abs": [...], "update_ratio": [...]}}}, a number
    each time that gradient_statistics took them; "step" counts batches from 1 through all epochs.
    """

    def __init__(self) -> None:
        self.values: dict[str, list[float]] = {}
        self.gradients: dict[str, Any] = {"step": [], "layers": {}}
        self.stopped: str | None = None

    def __getitem__(self, name: str) -> list[float]:
        if name not in self.values:
            raise KeyError(f"history has no {name!r}, expected one of {', '.join(self.values) or 'nothing yet'}")
        return self.values[name]

    def __contains__(self, name: object) -> bool:
        return name in self.values

    def __iter__(self) -> Iterator[str]:
        return iter(self.values)

    def keys(self):
        """The names."""
        return self.values.keys()

    def __len__(self) -> int:
        """How many epochs."""
        return len(self.values.get("epoch", ()))

    def __eq__(self, other: object) -> bool:
        return self.to_dict() == other.to_dict() if isinstance(other, History) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __repr__(self) -> str:
        last = ", ".join(f"{name} {values[-1]:.4g}" for name, values in self.values.items() if name != "epoch")
        return f"History({len(self)} epochs{': ' * bool(last)}{last})"

    def append(self, record: Mapping[str, float]) -> None:
        """Add an epoch: a number for each name, the same names as before."""
        if self.values and record.keys() != self.values.keys():
            raise ValueError(f"history: got {', '.join(record)}, expected {', '.join(self.values)}")
        for name, value in record.items():
            self.values.setdefault(name, []).append(value)

    def append_gradients(self, step: int, layers: Mapping[str, Mapping[str, float]]) -> None:
        """Add statistics of the gradients of each layer."""
        self.gradients["step"].append(step)
        for path, statistics in layers.items():
            series = self.gradients["layers"].setdefault(path, {name: [] for name in STATISTICS})
            for name, value in statistics.items():
                series[name].append(value)

    def best(self, name: str, mode: str | None = None) -> Best:
        """The first epoch in which a value was best. mode: "min", "max", or None for what the name says: losses and
        errors are better if smaller, accuracies if greater. ValueError if there is no epoch, or none with a number."""
        mode = mode_of(name, mode, "best")
        found = None
        for epoch, value in zip(self["epoch"], self[name], strict=True) if len(self) else ():
            if value == value and (found is None or is_better(value, found.value, mode)):
                found = Best(int(epoch), value)
        if found is None:
            raise ValueError(f"best: {name!r} has no number yet, expected at least one epoch")
        return found

    # ---- storage ----

    def to_dict(self) -> dict[str, Any]:
        """All of it as dicts, lists, numbers and texts, which json.dumps takes; not copied."""
        return {"values": self.values, "gradients": self.gradients, "stopped": self.stopped}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> History:
        """The History of to_dict. ValueError if it is something else."""
        history = cls()
        try:
            values, gradients, stopped = stored["values"], stored["gradients"], stored["stopped"]
            history.values = {name: numbers(series) for name, series in values.items()}
            history.gradients = {
                "step": numbers(gradients["step"]),
                "layers": {
                    path: {name: numbers(series[name]) for name in STATISTICS}
                    for path, series in gradients["layers"].items()
                },
            }
            history.stopped = stopped
            whole = {len(series) for series in history.values.values()} <= {len(history)}
            layers = history.gradients["layers"].values()
            counts = {len(series) for layer in layers for series in layer.values()}
            known = stopped is None or isinstance(stopped, str)
            if not (whole and known and counts <= {len(history.gradients["step"])}):
                raise ValueError
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError):
            raise ValueError("History.from_dict: got something else than History.to_dict returns") from None
        return history

    # ---- plots ----

    def plot(self, path: str | None = None):
        """Loss, metrics, and the learning rate if it changes, over epochs; returns matplotlib's Figure.

        path: a file to write it to, its format by the ending. ImportError without matplotlib.
        """
        series = [name for name in self.values if name not in ("epoch", "seconds")]
        series = [name for name in series if not name.startswith(("val_", "lr"))]
        rates = [name for name in self.values if name.startswith("lr") and len(set(self.values[name])) > 1]
        panels = [[name, f"val_{name}"] for name in series] + ([rates] if rates else [])
        figure = new_figure("plot", max(len(panels), 1))
        for axes, names in zip(figure.axes, panels, strict=False):
            for name in names:
                if name in self.values:
                    label = "validation" if name.startswith("val_") else "training" if len(names) == 2 else name
                    axes.plot(self["epoch"], self.values[name], marker="." if len(self) < 50 else None, label=label)
            title = "learning rate" if names is rates else names[0].replace("_", " ")
            axes.set(title=title, xlabel="epoch")
            axes.xaxis.get_major_locator().set_params(integer=True)
            if len(axes.lines) > 1:
                axes.legend()
        return finished(figure, path)

    def plot_gradients(self, path: str | None = None, statistic: str = "norm"):
        """A statistic of the gradients, "norm", "mean_abs" or "update_ratio", over batches: a line a layer, from the
        first (dark) to the last (bright), on a logarithmic scale. Vanishing gradients lie far below the last layer's,
        exploding ones rise. Returns matplotlib's Figure; path and errors as of `plot`."""
        if statistic not in STATISTICS:
            raise ValueError(f"plot_gradients: statistic is {statistic!r}, expected one of {', '.join(STATISTICS)}")
        if not self.gradients["step"]:
            raise ValueError("plot_gradients: history has no gradients, expected fit(…, gradient_statistics=True)")
        figure = new_figure("plot_gradients", 1)
        from matplotlib import colormaps

        (axes,) = figure.axes
        layers = self.gradients["layers"]
        for i, (layer, series) in enumerate(layers.items()):
            # A zero has no place on a logarithmic scale: it is a gap.
            heights = [value if value > 0 else float("nan") for value in series[statistic]]
            colour = colormaps["viridis"](0.9 * i / max(len(layers) - 1, 1))
            axes.plot(self.gradients["step"], heights, color=colour, linewidth=1, label=layer or "(model)")
        axes.set(title=STATISTICS[statistic], xlabel="batch", yscale="log")
        axes.legend(
            fontsize="small" if len(layers) <= 16 else "xx-small",
            ncols=1 + len(layers) // 32,
            loc="center left",
            bbox_to_anchor=(1, 0.5),
        )
        return finished(figure, path)


def numbers(series: Any) -> list[float]:
    """A copy of a list, if it is one of numbers, in the range of floats."""
    if not isinstance(series, list) or not all(type(x) in (int, float) for x in series):
        raise ValueError
    for x in series:
        float(x)
    return list(series)


def new_figure(op: str, panels: int):
    """A figure with panels side by side. It belongs to no window, so that any thread may draw it."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError(f"History.{op} needs matplotlib: pip install 'fastnn[plot]'") from None
    figure = Figure(figsize=(max(4.5 * panels, 7 if panels == 1 else 0), 3.5), layout="constrained")
    for axes in figure.subplots(1, panels, squeeze=False)[0]:
        axes.grid(alpha=0.3)
    return figure


def finished(figure, path: str | None):
    if path is not None:
        figure.savefig(path, dpi=150)
    return figure
