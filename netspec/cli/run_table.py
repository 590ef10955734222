"""The runs below a folder as rows, and the differences of their specs.

Read from what a run keeps of itself, `summary.json` and `resolved.yaml`; nothing of it is run.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from netspec.diagnostics import Diagnostics
from netspec.document import Mapping as MappingNode
from netspec.document import Node, parse_document
from netspec.document import Sequence as SequenceNode

RESOLVED, SUMMARY = "resolved.yaml", "summary.json"

Row = dict[str, Any]
"""A run by column: run, name, status, epochs, steps, seconds, its figures as `val.accuracy`, spec."""


def runs_below(folder: Path) -> list[Path]:
    """The folders of the runs in a folder, at any depth; those of their checkpoints are none."""
    found = [path.parent for path in folder.rglob(RESOLVED) if "checkpoints" not in path.relative_to(folder).parts]
    return sorted(found, key=lambda path: [(len(p), p) if p.isdecimal() else (0, p) for p in path.parts])


def row_of(run: Path) -> Row:
    """What a run tells of itself. `spec` is the start of its resolved spec's SHA-256: equal specs have equal ones."""
    try:
        summary = json.loads((run / SUMMARY).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        summary = {}
    row: Row = {"run": str(run)}
    row |= {key: summary.get(key) for key in ("name", "status", "epochs", "steps", "seconds")}
    results = summary.get("results") or {}
    figures = {f"{split}.{name}": value for split, found in results.items() for name, value in found.items()}
    last = summary.get("last") or {}
    row |= figures or {name: value for name, value in last.items() if name.startswith(("train.", "val."))}
    row["spec"] = hashlib.sha256((run / RESOLVED).read_bytes()).hexdigest()[:12]
    return row


def columns(rows: Sequence[Row]) -> list[str]:
    """The columns of all rows, the spec last."""
    names = dict.fromkeys(name for row in rows for name in row if name != "spec")
    return [*names, "spec"]


def by(rows: Sequence[Row], name: str, *, reverse: bool = False) -> list[Row]:
    """The rows in the order of a column, lowest first or `reverse`. Runs that lack it come last."""
    there = [row for row in rows if _known(row.get(name))]
    ordered = sorted(there, key=lambda row: (isinstance(row[name], str), row[name]), reverse=reverse)
    return [*ordered, *(row for row in rows if not _known(row.get(name)))]


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
