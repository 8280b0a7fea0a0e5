"""Runs demonstrations as the command does."""

import pytest
from matplotlib.figure import Figure

from fastnn import demos
from fastnn.demos import DEMOS, Result


def demonstrate(name: str, **options) -> Result:
    """The result of a demonstration in its quick form, whose picture can be drawn."""
    missing = DEMOS[name].missing()
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")
    result = demos.load(name).run(quick=True, **options)
    figure = Figure(figsize=(12, 5), layout="constrained")
    result.draw(figure)
    figure.draw_without_rendering()
    assert any(axes.has_data() for axes in figure.findobj(lambda artist: hasattr(artist, "has_data")))
    assert result.text
    return result
