"""What a sweep leaves for people: a row a trial as CSV and as a table, and one picture."""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from netspec.recipe.sweep import SweepRecipe
from netspec.runtime import directory
from netspec.runtime.journal import figure
from netspec.runtime.sweep.picture import draw_sweep
from netspec.runtime.sweep.study import Row, Study, best_of, short_names

CSV: Final = "trials.csv"
PICTURE: Final = "sweep.png"
SHOWN: Final = 30
"""The table has the best of so many trials; `trials.csv` has them all."""


def write_results(folder: Path, recipe: SweepRecipe, study: Study, name: str, *, drawn: bool) -> None:
    """`trials.csv`, and where `drawn` the picture as well."""
    rows = study.rows()
    directory.write_text(folder / CSV, csv_text(rows, recipe))
    if drawn and any(row.curve for row in rows):
        draw_sweep(rows, recipe, study.importances(), folder / PICTURE, name)


def csv_text(rows: Sequence[Row], recipe: SweepRecipe) -> str:
    """A line a trial in their order. Numbers as Python writes them, so that they can be read back exactly."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    paths = [parameter.path for parameter in recipe.parameters]
    writer.writerow(["trial", "state", recipe.metric, *paths, "epochs", "seconds", "message"])
    for row in rows:
        value = "" if row.value is None else repr(row.value)
        writer.writerow(
            [
                row.number,
                row.state,
                value,
                *(row.parameters[path] for path in paths),
                row.epochs,
                row.seconds,
                row.message,
            ]
        )
    return text.getvalue()


def table(rows: Sequence[Row], recipe: SweepRecipe) -> str:
    """The trials, the best first, as wide as the terminal."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    sign = 1 if recipe.direction == "minimize" else -1
    states = ("complete", "pruned", "running", "failed")
    ordered = sorted(rows, key=lambda row: (states.index(row.state), sign * (row.value or 0.0), row.number))
    best = best_of(rows, recipe)
    made = Table(box=box.SIMPLE, pad_edge=False)
    made.add_column("trial", justify="right")
    made.add_column(recipe.metric, justify="right")
    for name in short_names([parameter.path for parameter in recipe.parameters]):
        made.add_column(name, justify="right", overflow="fold")
    made.add_column("epochs", justify="right")
    made.add_column("state")
    for row in ordered[:SHOWN]:
        value = "" if row.value is None else figure(row.value)
        values = (cell(row.parameters[parameter.path]) for parameter in recipe.parameters)
        style = "bold" if best is not None and row.number == best.number else None
        made.add_row(str(row.number), value, *values, str(row.epochs), row.state, style=style)
    text = io.StringIO()
    console = Console(file=text, width=shutil.get_terminal_size((100, 24)).columns)
    console.print(made)
    more = f"\n… {len(rows) - SHOWN} more in {CSV}" if len(rows) > SHOWN else ""
    return "\n".join(line.rstrip() for line in text.getvalue().strip("\n").splitlines()) + more


def cell(value: Any) -> str:
    """A value of a parameter as a person reads it."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
