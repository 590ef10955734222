"""The runs below a folder as rows, and the differences of their specs.

Read from what a run keeps of itself, `summary.json` and `resolved.yaml`; nothing of it is run.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, Final

from netspec.diagnostics import Diagnostics
from netspec.document import Mapping as MappingNode
from netspec.document import Node, parse_document
from netspec.document import Sequence as SequenceNode

RESOLVED, SUMMARY, METRICS, CHECKPOINTS = "resolved.yaml", "summary.json", "metrics.csv", "checkpoints"

Row = dict[str, Any]
"""A run by column: run, name, status, epochs, steps, seconds, its figures as `val.accuracy`, spec."""


def runs_below(folder: Path) -> list[Path]:
    """The folders of the runs in a folder, at any depth; those of their checkpoints are none."""
    found = [path.parent for path in folder.rglob(RESOLVED) if CHECKPOINTS not in path.relative_to(folder).parts]
    return sorted(found, key=lambda path: [(len(p), p) if p.isdecimal() else (0, p) for p in path.parts])


def row_of(run: Path) -> Row:
    """What a run tells of itself. `spec` is the start of its resolved spec's SHA-256: equal specs have equal ones.

    A run that is at work, was killed, or lost some of its files tells what is left: the figures of its last epoch by
    `metrics.csv`, or none.
    """
    summary: Any = None
    with suppress(OSError, ValueError, RecursionError):
        summary = json.loads((run / SUMMARY).read_text(encoding="utf-8"))
    summary = _mapping(summary)
    row: Row = {"run": str(run)}
    row |= {key: _plain(summary.get(key)) for key in ("name", "status", "epochs", "steps", "seconds")}
    results = {split: _mapping(found) for split, found in _mapping(summary.get("results")).items()}
    figures = {f"{split}.{name}": value for split, found in results.items() for name, value in found.items()}
    last = _mapping(summary.get("last")) or _last_epoch(run / METRICS)
    if not figures:
        figures = {name: value for name, value in last.items() if name.startswith(("train.", "val."))}
    for key, column in (("epochs", "epoch"), ("steps", "step"), ("seconds", "seconds")):
        if row[key] is None and isinstance(last.get(column), int | float):
            row[key] = last[column] if key == "seconds" else int(last[column])
    row |= {name: _plain(value) for name, value in figures.items()}
    if row["name"] is None:  # killed before it could write more than its spec
        row["name"] = _plain(_values_of(str(run)).get("name"))
    if row["status"] is None and not any((run / left).exists() for left in (SUMMARY, METRICS, CHECKPOINTS)):
        row["status"] = "not begun"
    row["spec"] = None
    with suppress(OSError):
        row["spec"] = hashlib.sha256((run / RESOLVED).read_bytes()).hexdigest()[:12]
    return row


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _plain(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool) else None


def _last_epoch(file: Path) -> dict[str, float]:
    """The last whole row of `metrics.csv`."""
    rows: list[dict[str, Any]] = []
    with suppress(OSError, ValueError, csv.Error):
        rows = list(csv.DictReader(file.read_text(encoding="utf-8").splitlines()))
    for row in reversed(rows):
        if None not in row and None not in row.values():
            with suppress(ValueError, TypeError):
                return {name: float(value) for name, value in row.items() if value}
    return {}


_OPERATORS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "!=": operator.ne,
    "<=": operator.le,
    ">=": operator.ge,
    "=": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
}

Condition = tuple[str, str, str]
"""A column or a place of the spec, an operator, and what it is compared with."""


def condition(text: str) -> Condition | None:
    """`val.accuracy>0.9`, `status=finished`, `train.optimizer.type=AdamW`; None for what is none."""
    found = re.fullmatch(r"\s*([\w.\[\]-]+)\s*(!=|<=|>=|=|<|>)\s*(.*?)\s*", text)
    return (found[1], found[2], found[3]) if found else None


def holds(row: Row, wanted: Condition) -> bool:
    """Whether a run meets a condition. One that lacks the value does not; numbers are compared as numbers."""
    name, sign, text = wanted
    value: Any = cell_of(row, name)
    if value is None:
        return text == "null" and sign == "="
    other: Any = text
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            other = float(text)
        except ValueError:
            return sign == "!="
    else:
        value = str(value).lower() if isinstance(value, bool) else str(value)
    return _OPERATORS[sign](value, other)


def cell_of(row: Row, name: str) -> Any:
    """A column of a run, or a value of its spec by its dotted place."""
    return row[name] if name in row else _values_of(row["run"]).get(name)


def with_columns(rows: Sequence[Row], names: Sequence[str]) -> list[Row]:
    """The rows with these columns alone, behind the run; places of the spec among them."""
    return [{"run": row["run"], **{name: cell_of(row, name) for name in names}} for row in rows]


def known(rows: Sequence[Row], name: str) -> bool:
    """Whether any run has a column or a place of that name."""
    return any(name in row or name in _values_of(row["run"]) for row in rows)


@cache
def _values_of(run: str) -> Mapping[str, Any]:
    return values(Path(run) / RESOLVED)


def columns(rows: Sequence[Row]) -> list[str]:
    """The columns of all rows, the spec last."""
    names = dict.fromkeys(name for row in rows for name in row if name != "spec")
    return [*names, *(["spec"] if any("spec" in row for row in rows) else [])]


def by(rows: Sequence[Row], name: str, *, reverse: bool = False) -> list[Row]:
    """The rows in the order of a column, lowest first or `reverse`. Runs that lack it come last."""
    there = [row for row in rows if _known(cell_of(row, name))]

    def key(row: Row) -> tuple[bool, Any]:
        value = cell_of(row, name)
        return isinstance(value, str), value

    ordered = sorted(there, key=key, reverse=reverse)
    return [*ordered, *(row for row in rows if not _known(cell_of(row, name)))]


def _known(value: Any) -> bool:
    return value is not None and not (isinstance(value, float) and math.isnan(value))


def differences(runs: Sequence[Path]) -> dict[str, list[Any]]:
    """The values of the resolved specs that are not equal in all runs, by dotted place; None where one has none."""
    specs = [values(run / RESOLVED) for run in runs]
    places = dict.fromkeys(place for spec in specs for place in spec)
    found = {place: [spec.get(place) for spec in specs] for place in places}
    return {place: given for place, given in found.items() if any(value != given[0] for value in given)}


def values(file: Path) -> Mapping[str, Any]:
    """The values of a document by dotted place, `model.layers.fc.out_features`."""
    document = None
    with suppress(OSError, UnicodeDecodeError):
        document = parse_document(file.read_text(encoding="utf-8"), str(file), Diagnostics())
    return dict(_values(document, "")) if document is not None else {}


def _values(node: Node, place: str) -> Iterator[tuple[str, Any]]:
    if isinstance(node, MappingNode):
        for key, item in node.items.items():
            yield from _values(item, f"{place}.{key}" if place else key)
    elif isinstance(node, SequenceNode):
        for index, item in enumerate(node.items):
            yield from _values(item, f"{place}.{index}")
    else:
        yield place, node.value
