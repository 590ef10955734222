"""A sweep as one PNG: trial after trial, the curves of all, what each value gave, and which parameters count."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from netspec.recipe.sweep import Choices, Parameter, SweepRecipe
from netspec.runtime.plots import save
from netspec.runtime.sweep.study import Row, short_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BLUE, ORANGE, GREY = "#4C72B0", "#DD8452", "#BBBBBB"
CURVES: Final = 200
"""So many curves are drawn at most, the last ones."""


def draw_sweep(
    rows: Sequence[Row], recipe: SweepRecipe, importances: Mapping[str, float], path: Path, title: str
) -> None:
    """Draw the trials. Needs no display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    count = 3 + (1 if importances else 0)
    canvas = Figure(figsize=(4.6 * count, 3.8), layout="constrained", dpi=110)
    FigureCanvasAgg(canvas)
    canvas.suptitle(f"{title}: {recipe.metric}")
    axes = list(canvas.subplots(1, count))
    _history(axes[0], rows, recipe)
    _curves(axes[1], rows, recipe)
    _parallel(axes[2], rows, recipe)
    if importances:
        _importances(axes[3], importances)
    save(canvas, path)


def _history(axes: Axes, rows: Sequence[Row], recipe: SweepRecipe) -> None:
    """The value of each trial, and the best up to there."""
    from matplotlib.ticker import MaxNLocator

    done = [row for row in rows if row.state == "complete" and _finite(row.value)]
    pruned = [row for row in rows if row.state == "pruned" and _finite(row.value)]
    axes.scatter([r.number for r in pruned], [r.value or 0 for r in pruned], color=GREY, s=16, label="pruned")
    axes.scatter([r.number for r in done], [r.value or 0 for r in done], color=BLUE, s=20, label="complete")
    best: list[float] = []
    for row in done:
        value, better = row.value or 0.0, min if recipe.direction == "minimize" else max
        best.append(better([value, *best[-1:]]))
    axes.step([r.number for r in done], best, where="post", color=ORANGE, label="best so far")
    axes.set_title("trials")
    axes.set_xlabel("trial")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)


def _curves(axes: Axes, rows: Sequence[Row], recipe: SweepRecipe) -> None:
    """The figure of each trial by epoch, pruned ones in grey."""
    from matplotlib.ticker import MaxNLocator

    for row in rows[-CURVES:]:
        points = sorted((epoch, value) for epoch, value in row.curve.items() if math.isfinite(value))
        if points:
            color = BLUE if row.state == "complete" else GREY
            marker = "o" if len(points) == 1 else None
            axes.plot(*zip(*points, strict=True), color=color, alpha=0.6, linewidth=1, marker=marker, markersize=3)
    axes.set_title("epochs")
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)


def _parallel(axes: Axes, rows: Sequence[Row], recipe: SweepRecipe) -> None:
    """A line a trial over its values to its figure, each axis from the lowest to the highest; the best are orange."""
    from matplotlib.colors import LinearSegmentedColormap

    done = [row for row in rows if row.state == "complete" and _finite(row.value)]
    figures = sorted({row.value or 0.0 for row in done}, reverse=recipe.direction == "maximize")
    colors = LinearSegmentedColormap.from_list("value", [ORANGE, GREY])
    last = len(recipe.parameters)
    low, high = (min(figures), max(figures)) if figures else (0.0, 1.0)
    for row in sorted(done, key=lambda row: figures.index(row.value or 0.0), reverse=True):
        heights = [_height(parameter, row.parameters[parameter.path]) for parameter in recipe.parameters]
        heights.append(((row.value or 0.0) - low) / (high - low) if high > low else 0.5)
        shade = figures.index(row.value or 0.0) / max(len(figures) - 1, 1)
        axes.plot(range(last + 1), heights, color=colors(shade), alpha=0.8, linewidth=1.2)
    for index, parameter in enumerate(recipe.parameters):
        for height, text in _marks(parameter):
            axes.text(index, height, text, fontsize=7, ha="center", va="bottom" if height >= 0.5 else "top")
    for height, value in ((0.0, low), (1.0, high)):
        axes.text(last, height, f"{value:.4g}", fontsize=7, ha="center", va="bottom" if height else "top")
    names = short_names([parameter.path for parameter in recipe.parameters])
    axes.set_xticks(range(last + 1), [*names, recipe.metric], fontsize=8, rotation=20)
    axes.set_yticks([])
    axes.set_ylim(-0.12, 1.12)
    axes.grid(axis="x", alpha=0.5)
    axes.set_title("values")


def _height(parameter: Parameter, value: Any) -> float:
    """Where a value stands between the lowest, 0, and the highest, 1."""
    if isinstance(parameter, Choices):
        labels = parameter.labels()
        return labels.index(value) / (len(labels) - 1) if len(labels) > 1 else 0.5
    low, high, at = parameter.low, parameter.high, float(value)
    if parameter.log:
        low, high, at = math.log(low), math.log(high), math.log(at)
    return (at - low) / (high - low) if high > low else 0.5


def _marks(parameter: Parameter) -> list[tuple[float, str]]:
    """What is written at an axis, and where."""
    if not isinstance(parameter, Choices):
        return [(0.0, f"{parameter.low:g}"), (1.0, f"{parameter.high:g}")]
    return [(_height(parameter, label), str(label)[:12]) for label in parameter.labels()]


def _importances(axes: Axes, importances: Mapping[str, float]) -> None:
    """How much of the differences each parameter makes."""
    names = list(importances)[::-1]
    axes.barh(short_names(names), [importances[name] for name in names], color=BLUE)
    axes.set_title("importance")
    axes.set_xlim(0, 1)
    axes.grid(axis="x", alpha=0.3)


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
