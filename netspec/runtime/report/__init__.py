"""`report.html`: one page that a run leaves. Nothing in it comes from elsewhere, and nothing in it runs.

What the spec and the data say goes onto the page as text; its policy forbids the browser to load anything.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from typing import Any, Final

from torch import Tensor

from netspec.program import Program
from netspec.runtime import directory
from netspec.runtime.journal import figure
from netspec.runtime.monitors.answers import Answers
from netspec.runtime.report.curves import Series, curve

SAMPLES: Final = 24
SIDE: Final = 128
"""Pixels of a sample's longer side, at most."""
LARGEST: Final = 40
"""A confusion matrix of more classes is left to `classes.csv`."""
ROWS: Final = 60
"""So many layers and classes are listed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What a report tells of a run beside the files in its folder."""

    history: Sequence[Mapping[str, float]]
    results: Mapping[str, Mapping[str, float]]
    answers: Mapping[str, Answers] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    """In a few words each: weights, samples, length."""


def write_report(folder: Path, name: str, program: Program | None, contents: Contents) -> Path:
    """Write the page of the run in `folder`, with the files there as they are now. program: for the layers."""
    import jinja2
    from markupsafe import Markup

    loader = jinja2.PackageLoader("netspec", "runtime/report")
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["figure"] = figure
    summary = directory.read_json(folder / directory.SUMMARY)
    split = next((one for one in ("test", "val") if one in contents.answers), None)
    page = environment.get_template("report.html").render(
        name=name,
        about=program.description if program is not None else "",
        style=Markup(str(loader.get_source(environment, "report.css")[0])),
        status=summary.get("status", "running"),
        place=folder.name,
        tiles=tiles(contents, summary),
        results=contents.results,
        columns=list(dict.fromkeys(key for figures in contents.results.values() for key in figures)),
        curves=[Markup(svg) for svg in curves(contents.history)],
        split=split,
        matrix=matrix(contents.answers[split]) if split is not None else None,
        classes=contents.answers[split].by_class()[:ROWS] if split is not None else [],
        samples=samples(contents.answers[split]) if split is not None else [],
        layers=layers(program) if program is not None else [],
        spec=directory_text(folder / directory.RESOLVED),
        environment=environment_rows(directory.read_json(folder / directory.ENVIRONMENT)),
        overrides=summary.get("overrides", []),
    )
    path = folder / directory.REPORT
    directory.write_text(path, page + "\n")
    return path


def tiles(contents: Contents, summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The figures at the top: what it reached, in how long."""
    found: list[tuple[str, str]] = []
    for split in ("test", "val"):
        if split in contents.results:
            figures = contents.results[split]
            names = [name for name in figures if name != "loss"][:2] or ["loss"]
            found += [(f"{split} {name.replace('_', ' ')}", figure(figures[name])) for name in names]
            break
    found += list(contents.facts.items())
    seconds = float(summary.get("seconds") or 0)
    found.append(("trained for", f"{seconds:.1f} s" if seconds < 60 else str(timedelta(seconds=round(seconds)))))
    return found


def curves(history: Sequence[Mapping[str, float]]) -> list[str]:
    """A picture for each figure with a line a split, then the rate and the pace."""
    panels: dict[str, dict[str, str]] = {}
    for column in history[-1] if history else ():
        split, dot, name = column.partition(".")
        if dot:
            panels.setdefault(name, {})[split] = column
    for column in ("lr", "samples_per_second"):
        if history and column in history[-1]:
            panels[column] = {"": column}
    return [
        curve(
            name.replace("_", " "),
            [
                Series(split, [(row["epoch"], row[column]) for row in history if column in row])
                for split, column in of.items()
            ],
        )
        for name, of in panels.items()
    ]


def matrix(answers: Answers) -> dict[str, Any] | None:
    """Names, and rows of (count, share of the row) a cell."""
    counts = answers.matrix
    if counts is None or len(counts) > LARGEST:
        return None
    rows = counts.tolist()
    return {
        "names": answers.names,
        "rows": [
            (name, [(n, n / max(sum(row), 1)) for n in row]) for name, row in zip(answers.names, rows, strict=True)
        ],
    }


def samples(answers: Answers) -> list[dict[str, Any]]:
    return [{**sample, "image": png(sample["image"])} for sample in answers.samples(SAMPLES)]


def png(image: Tensor) -> str:
    """An image [3, H, W] of floats from 0 to 1 as a data address."""
    from PIL import Image

    held = BytesIO()
    drawn = Image.fromarray((image * 255).round().byte().permute(1, 2, 0).numpy())
    drawn.thumbnail((SIDE, SIDE))
    drawn.save(held, format="PNG")
    return "data:image/png;base64," + base64.b64encode(held.getvalue()).decode("ascii")


def layers(program: Program) -> list[dict[str, str | int]]:
    """The layers of the first two levels."""
    from netspec.table import layer_table, short

    return [
        {
            "name": row.path.rpartition(".")[2],
            "depth": row.depth,
            "type": row.type,
            "shape": str(row.shape),
            "parameters": f"{row.parameters:,}" if row.parameters else "",
            "flops": short(row.flops) if row.flops else "",
        }
        for row in layer_table(program, 2)[:ROWS]
    ]


def directory_text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def environment_rows(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for key, value in found.items():
        if isinstance(value, Mapping):
            rows += [(name, str(one)) for name, one in value.items()]
        else:
            rows.append((key, " ".join(map(str, value)) if isinstance(value, list) else str(value)))
    return rows
