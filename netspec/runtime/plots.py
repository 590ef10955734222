"""The curves of a run as one PNG: a panel for each figure, a line for each split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ALONE: Final = ("lr", "samples_per_second")
COLORS = {"train": "#4C72B0", "val": "#DD8452", "test": "#55A868"}


LABELLED: Final = 30
"""A matrix of more classes has no names and no counts."""


def draw_curves(history: Sequence[Mapping[str, float]], path: Path, title: str) -> None:
    """Draw the history of a run. Needs no display; an empty history draws nothing."""
    if not history:
        return
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    panels: dict[str, list[str]] = {}
    for column in history[-1]:
        split, dot, figure = column.partition(".")
        if dot and split in COLORS:
            panels.setdefault(figure, []).append(split)
    panels |= {column: [] for column in ALONE if column in history[-1]}
    canvas = Figure(figsize=(4.2 * len(panels), 3.4), layout="constrained", dpi=120)
    FigureCanvasAgg(canvas)
    canvas.suptitle(title)
    for axes, (figure, splits) in zip(canvas.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        marker = "o" if len(history) == 1 else None
        for column, label in [(f"{split}.{figure}", split) for split in splits] or [(figure, figure)]:
            points = [(row["epoch"], row[column]) for row in history if column in row]
            axes.plot(*zip(*points, strict=True), label=label, color=COLORS.get(label, "#8172B3"), marker=marker)
        axes.set_title(figure.replace("_", " "))
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        if len(splits) > 1:
            axes.legend()
    save(canvas, path)


def draw_confusion(matrix: Sequence[Sequence[int]], names: Sequence[str], path: Path, title: str) -> None:
    """Draw a confusion matrix, as `confusion_figure` does, into a file."""
    save(confusion_figure(matrix, names, title), path)


def save(canvas: Figure, path: Path) -> None:
    """Replace a PNG as a whole."""
    temporary = path.with_name(f".{path.name}")
    canvas.savefig(temporary, format="png")
    temporary.replace(path)


def confusion_figure(matrix: Sequence[Sequence[int]], names: Sequence[str], title: str) -> Figure:
    """A confusion matrix: a row a true class, shaded by the share of its samples; counts where they can be read."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    count = len(names)
    side = min(max(3.2, 0.42 * count + 1.6), 12)
    canvas = Figure(figsize=(side, side), layout="constrained", dpi=100)
    FigureCanvasAgg(canvas)
    axes = canvas.subplots()
    shares = [[cell / max(sum(row), 1) for cell in row] for row in matrix]
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if count <= LABELLED:
        words = [name if len(name) <= 14 else name[:13] + "\N{HORIZONTAL ELLIPSIS}" for name in names]
        axes.set_xticks(range(count), words, rotation=90 if max(map(len, words)) > 2 else 0)
        axes.set_yticks(range(count), words)
        for y, row in enumerate(matrix):
            for x, cell in enumerate(row):
                if cell:
                    shade = "white" if shares[y][x] > 0.5 else "#333333"
                    axes.text(x, y, str(cell), ha="center", va="center", color=shade, fontsize=8)
    axes.set_xlabel("answered")
    axes.set_ylabel("true")
    axes.set_title(title)
    return canvas
