"""Tables: a CSV or Parquet file becomes columns of numbers, and columns are standardised."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from netspec.runtime.data.samples import Sample
from netspec.runtime.data.table_files import Table, read_table_file
from netspec.runtime.errors import RunError


def read_table(
    path: Path,
    arguments: Mapping[str, Any],
    reference: Mapping[str, Any] | None,
    *,
    inputs_only: bool = False,
    aside: Sequence[str] = (),
    skip: bool = False,
) -> tuple[dict[str, Tensor], dict[str, Any], Table]:
    """The fields of a table, a row a sample, the state that reads another file alike, and what was read.

    `features` is float32 [rows, columns], a categorical column taking one 0/1 column for each of its values. `label`
    is the index of the class, int64 [rows]; `target` is float32 [rows, targets]. With `inputs_only` only features are
    read. Columns `aside` are no features. With `skip`, rows of which a cell can't be read are left out, and the
    table's `bad` says which. Raises RunError naming the line and column of a cell that is no number.
    """
    table = read_table_file(path, arguments, skip=skip)
    label, target = arguments["label"], arguments["target"]
    targets = [target] if isinstance(target, str) else list(target or ())
    outputs = [name for name in (label, *targets) if name is not None]
    names = list(reference["columns"]) if reference else list(arguments["features"] or ())
    names = names or [name for name in table.columns if name not in outputs and name not in aside]
    table.require(names if inputs_only else [*names, *outputs, *aside])
    categories: dict[str, list[str]] = dict(reference["categories"]) if reference else {}
    categorical = [name for name in names if name in (categories if reference else arguments["categorical"])]
    if skip:
        plain = [name for name in names if name not in categorical]
        _leave_out(table, plain + targets, [label] if label is not None else [])
    if reference is None:
        categories = {name: _sorted_values(table.words(name)) for name in categorical}
    if not names:
        others = ", ".join(f"`{name}`" for name in [*outputs, *aside])
        raise RunError(
            "NS924",
            f"{table.path} has no columns but {others}: none is left for `features`",
            help="give it columns for what goes in, or `delimiter` where another sign stands between them",
        )
    parts: list[np.ndarray[Any, Any]] = []
    for name in names:
        if name in categories:
            index = _indices(table, name, categories[name], "value")
            parts.append(np.eye(len(categories[name]), dtype=np.float32)[index])
        else:
            parts.append(_numbers(table, name, categorical=True)[:, None])
    columns = {"features": torch.from_numpy(np.concatenate(parts, axis=1).astype(np.float32))}
    classes = list((reference or arguments)["classes"] or ())
    if label is not None and not inputs_only:
        classes = classes or _sorted_values(_filled(table, label))
        columns["label"] = torch.from_numpy(_indices(table, label, classes, "class"))
    if targets and not inputs_only:
        stacked = np.stack([_numbers(table, name) for name in targets], axis=1)
        columns["target"] = torch.from_numpy(stacked.astype(np.float32))
    return columns, {"columns": names, "categories": categories, "classes": classes}, table


def _leave_out(table: Table, numbers: Sequence[str], words: Sequence[str]) -> None:
    """Take out the rows of which a cell that has to be a number is none, or a cell that has to be filled is empty."""
    wrong: dict[int, str] = {}
    for name in numbers:
        column = table.columns[name]
        if isinstance(column, np.ndarray):
            bad = np.flatnonzero(~np.isfinite(column.astype(np.float64))).tolist()
        else:
            bad = [row for row, cell in enumerate(column) if not _is_finite(cell)]
        for row in bad:
            wrong.setdefault(row, f"{name} is {table.cell(name, row) or 'empty'}")
    for name in words:
        for row, word in enumerate(table.words(name)):
            if not word:
                wrong.setdefault(row, f"{name} is empty")
    if wrong:
        table.bad.update({table.numbers[row]: reason for row, reason in sorted(wrong.items())})
        table.keep([row for row in range(len(table.numbers)) if row not in wrong])
    if not len(table.numbers):
        raise RunError("NS920", f"no row of {table.path} can be read", help="check `path` and the columns")


def _filled(table: Table, name: str) -> list[str]:
    words = table.words(name)
    row = next((row for row, word in enumerate(words) if not word), None)
    if row is not None:
        raise _empty(table, name, row)
    return words


def _empty(table: Table, name: str, row: int) -> RunError:
    return RunError(
        "NS924",
        f"row {table.numbers[row]} of {table.path}: {name} is empty",
        help="fill the cell, or take the row or the column out; `skip_unreadable: 10` leaves out up to 10 such rows",
    )


def _sorted_values(words: Sequence[str]) -> list[str]:
    """The values in order: as numbers where all are, so that 10 comes after 9."""
    values = sorted(set(words))
    try:
        return sorted(values, key=float)
    except ValueError:
        return values


def _indices(table: Table, column: str, values: Sequence[str], what: str) -> np.ndarray[Any, np.dtype[np.int64]]:
    index = {value: i for i, value in enumerate(values)}
    words = table.words(column)
    try:
        return np.array([index[word] for word in words], dtype=np.int64)
    except KeyError as error:
        row = next(row for row, word in enumerate(words) if word not in index)
        raise RunError(
            "NS924",
            f"row {table.numbers[row]} of {table.path}: {column} has the {what} {error.args[0]!r}, which is not among "
            "those known",
            help=f"known are {', '.join(values)}",
        ) from None


def _numbers(table: Table, name: str, *, categorical: bool = False) -> np.ndarray[Any, np.dtype[np.float64]]:
    column = table.columns[name]
    try:
        numbers = np.array(column).astype(np.float64)
    except ValueError:
        row, cell = next((row, cell) for row, cell in enumerate(column) if not _is_number(cell))
        if not cell.strip():
            raise _empty(table, name, row) from None
        raise RunError(
            "NS924",
            f"row {table.numbers[row]} of {table.path}: {name} is {cell!r}, which is no number",
            help=f"a column of words goes into `categorical: [{name}]`" if categorical else None,
        ) from None
    if not np.isfinite(numbers).all():
        row = int(np.flatnonzero(~np.isfinite(numbers))[0])
        cell = table.cell(name, row)
        if not cell:
            raise _empty(table, name, row)
        raise RunError(
            "NS924",
            f"row {table.numbers[row]} of {table.path}: {name} is {cell}, which is no finite number",
            help="mend the cell, or leave such rows out: `skip_unreadable: 10` does up to 10",
        )
    return numbers


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _is_finite(cell: str) -> bool:
    return _is_number(cell) and math.isfinite(float(cell))


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
        if value.shape[-1:] != self.mean.shape[-1:]:
            raise RunError(
                "NS924",
                f"`{self.field}` has {list(value.shape)} numbers, and the training data had {list(self.mean.shape)}",
                help="give the columns that the run was trained with, in their order",
            )
        mean, std = self.mean.to(value.device), self.std.to(value.device)
        return {**sample, self.field: ((value - mean) / std).to(value.dtype)}
