"""Tables: a CSV file becomes columns of numbers, and columns are standardised."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from netspec.runtime.data.samples import Sample
from netspec.runtime.errors import RunError

Cells = dict[str, tuple[str, ...]]


def read_table(
    path: Path, arguments: Mapping[str, Any], reference: Mapping[str, Any] | None, *, inputs_only: bool = False
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The fields of a CSV file, a row a sample, and the state that reads another file alike.

    `features` is float32 [rows, columns], a categorical column taking one 0/1 column for each of its values. `label`
    is the index of the class, int64 [rows]; `target` is float32 [rows, targets]. With `inputs_only` only features are
    read. Raises RunError naming the line and column of a cell that is no number.
    """
    cells = _read_cells(path, arguments["delimiter"])
    label, target = arguments["label"], arguments["target"]
    targets = [target] if isinstance(target, str) else list(target or ())
    outputs = [name for name in (label, *targets) if name is not None]
    names = list(reference["columns"]) if reference else list(arguments["features"] or ())
    names = names or [name for name in cells if name not in outputs]
    _require(path, cells, names if inputs_only else [*names, *outputs])
    categories: dict[str, list[str]] = dict(reference["categories"]) if reference else {}
    if reference is None:
        categories = {name: _sorted_values(cells[name]) for name in names if name in arguments["categorical"]}
    parts: list[np.ndarray[Any, Any]] = []
    for name in names:
        if name in categories:
            index = _indices(path, name, cells[name], categories[name], "value")
            parts.append(np.eye(len(categories[name]), dtype=np.float32)[index])
        else:
            parts.append(_numbers(path, name, cells[name], categorical=True)[:, None])
    columns = {"features": torch.from_numpy(np.concatenate(parts, axis=1).astype(np.float32))}
    classes = list((reference or arguments)["classes"] or ())
    if label is not None and not inputs_only:
        classes = classes or _sorted_values(cells[label])
        columns["label"] = torch.from_numpy(_indices(path, label, cells[label], classes, "class"))
    if targets and not inputs_only:
        stacked = np.stack([_numbers(path, name, cells[name]) for name in targets], axis=1)
        columns["target"] = torch.from_numpy(stacked.astype(np.float32))
    return columns, {"columns": names, "categories": categories, "classes": classes}


def _read_cells(path: Path, delimiter: str) -> Cells:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [row for row in csv.reader(file, delimiter=delimiter) if row]
    except FileNotFoundError as error:
        raise RunError("NS920", f"there is no file {path}", help="check `path`") from error
    except (OSError, UnicodeDecodeError, csv.Error, TypeError) as error:
        raise RunError("NS921", f"{path} can't be read as a table: {error}") from error
    if len(rows) < 2:
        raise RunError("NS920", f"{path} holds no rows below a header")
    header = [name.strip() for name in rows[0]]
    for number, row in enumerate(rows[1:], 2):
        if len(row) != len(header):
            raise RunError(
                "NS924", f"row {number} of {path} has {len(row)} cells, and the header names {len(header)} columns"
            )
    return dict(zip(header, zip(*rows[1:], strict=True), strict=True))


def _require(path: Path, cells: Cells, names: Sequence[str]) -> None:
    for name in names:
        if name not in cells:
            raise RunError("NS924", f"{path} has no column {name!r}", help=f"its columns are {', '.join(cells)}")


def _sorted_values(cells: Sequence[str]) -> list[str]:
    """The values in order: as numbers where all are, so that 10 comes after 9."""
    values = sorted({cell.strip() for cell in cells})
    try:
        return sorted(values, key=float)
    except ValueError:
        return values


def _indices(
    path: Path, column: str, cells: Sequence[str], values: Sequence[str], what: str
) -> np.ndarray[Any, np.dtype[np.int64]]:
    index = {value: i for i, value in enumerate(values)}
    try:
        return np.array([index[cell.strip()] for cell in cells], dtype=np.int64)
    except KeyError as error:
        row = next(i for i, cell in enumerate(cells, 2) if cell.strip() not in index)
        raise RunError(
            "NS924",
            f"row {row} of {path}: {column} has the {what} {error.args[0]!r}, which is not among those known",
            help=f"known are {', '.join(values)}",
        ) from None


def _numbers(
    path: Path, column: str, cells: Sequence[str], *, categorical: bool = False
) -> np.ndarray[Any, np.dtype[np.float64]]:
    try:
        numbers = np.array(cells).astype(np.float64)
    except ValueError:
        row, cell = next((i, cell) for i, cell in enumerate(cells, 2) if not _is_number(cell))
        mend = f"a column of words goes into `categorical: [{column}]`" if categorical else None
        raise RunError(
            "NS924",
            f"row {row} of {path}: {column} is {cell!r}, which is no number"
            if cell.strip()
            else f"row {row} of {path}: {column} is empty",
            help=mend if cell.strip() else "fill the cell, or take the row or the column out",
        ) from None
    if not np.isfinite(numbers).all():
        row = int(np.flatnonzero(~np.isfinite(numbers))[0])
        raise RunError("NS924", f"row {row + 2} of {path}: {column} is {cells[row]}, which is no finite number")
    return numbers


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Standardize:
    """(x - mean) / std for the columns of one field, [columns] or [rows, columns]."""

    field: str
    mean: Tensor
    std: Tensor

    @classmethod
    def fit(cls, field: str, column: Tensor) -> Standardize:
        """From the rows of training data, with the population's deviation, and 1 for a column that never changes."""
        rows = column.double()
        std = rows.std(dim=0, correction=0)
        # Rounding leaves a constant column a deviation of about its size times 1e-16, not 0.
        tiny = 10 * torch.finfo(torch.float64).eps * rows.abs().amax(dim=0)
        std = torch.where(std <= tiny, 1.0, std)
        return cls(field, rows.mean(dim=0), std)

    @classmethod
    def from_state(cls, field: str, state: Mapping[str, Any]) -> Standardize:
        return cls(field, *(torch.tensor(state[key], dtype=torch.float64) for key in ("mean", "std")))

    def state(self) -> dict[str, Any]:
        return {"mean": self.mean.tolist(), "std": self.std.tolist()}

    def __call__(self, sample: Sample) -> Sample:
        value: Tensor = sample[self.field]
        mean, std = self.mean.to(value.device), self.std.to(value.device)
        return {**sample, self.field: ((value - mean) / std).to(value.dtype)}
