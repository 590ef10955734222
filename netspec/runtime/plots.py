"""The curves of a run as one PNG: a panel for each figure, a line for each split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

COLORS = {"train": "#4C72B0", "val": "#DD8452", "test": "#55A868"}


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
    panels["lr"] = []
    canvas = Figure(figsize=(4.2 * len(panels), 3.4), layout="constrained", dpi=120)
    FigureCanvasAgg(canvas)
    canvas.suptitle(title)
    for axes, (figure, splits) in zip(canvas.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        marker = "o" if len(history) == 1 else None
        for column, label in [(f"{split}.{figure}", split) for split in splits] or [("lr", "lr")]:
            points = [(row["epoch"], row[column]) for row in history if column in row]
            axes.plot(*zip(*points, strict=True), label=label, color=COLORS.get(label, "#8172B3"), marker=marker)
        axes.set_title(figure.replace("_", " "))
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        if len(splits) > 1:
            axes.legend()
    temporary = path.with_name(f".{path.name}")
    canvas.savefig(temporary, format="png")
    temporary.replace(path)
