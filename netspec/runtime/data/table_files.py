"""Files of tables, read into columns: CSV as words, Parquet as what it stores."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from netspec.runtime.errors import MissingPackage, RunError

Column = Sequence[str] | np.ndarray[Any, Any]
"""Words, or numbers in which an absent one is NaN."""


@dataclass(slots=True)
class Table:
    """Columns of equal length by name. `numbers` are what a person calls each row; `bad` are rows left out, and why."""

    path: Path
    columns: dict[str, Column]
    numbers: Sequence[int]
    bad: dict[int, str] = field(default_factory=dict)

    def require(self, names: Sequence[str]) -> None:
        """Raises RunError NS924 for a column that the table has not."""
        for name in names:
            if name not in self.columns:
                raise RunError(
                    "NS924", f"{self.path} has no column {name!r}", help=f"its columns are {', '.join(self.columns)}"
                )

    def words(self, name: str) -> list[str]:
        """The column as words; numbers as Python writes them, an absent one as nothing."""
        column = self.columns[name]
        if not isinstance(column, np.ndarray):
            return [word.strip() for word in column]
        if column.dtype.kind == "f":
            return [
                "" if value != value else repr(int(value) if value.is_integer() else value) for value in column.tolist()
            ]
        return [str(value) for value in column.tolist()]

    def cell(self, name: str, row: int) -> str:
        column = self.columns[name]
        return "" if isinstance(column, np.ndarray) and column[row] != column[row] else str(column[row])

    def keep(self, rows: Sequence[int]) -> None:
        """Only these rows, by position."""
        for name, column in self.columns.items():
            kept = column[np.array(rows)] if isinstance(column, np.ndarray) else [column[row] for row in rows]
            self.columns[name] = kept
        self.numbers = [self.numbers[row] for row in rows]


def read_table_file(path: Path, arguments: Mapping[str, Any], *, skip: bool) -> Table:
    """The whole file. `skip`: rows of a wrong length go to `bad`. Raises RunError NS920, NS921 or NS924."""
    if not path.is_file():
        raise RunError("NS920", f"there is no file {path}", help="check `path`")
    table = _parquet(path) if path.suffix in (".parquet", ".pq") else _csv(path, arguments["delimiter"], skip=skip)
    if not len(table.numbers):
        raise RunError(
            "NS920", f"{path} holds no rows below a header", help="check `path`: a table needs a row for each sample"
        )
    return table


def _csv(path: Path, delimiter: str, *, skip: bool) -> Table:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [(number, row) for number, row in enumerate(csv.reader(file, delimiter=delimiter), 1) if row]
    except (OSError, UnicodeDecodeError, csv.Error, TypeError) as error:
        raise RunError("NS921", f"{path} can't be read as a table: {error}") from error
    header = [name.strip() for name in rows[0][1]] if rows else []
    bad: dict[int, str] = {}
    body = []
    for number, row in rows[1:]:
        if len(row) == len(header):
            body.append((number, row))
            continue
        wrong = f"has {len(row)} cells, and the header names {len(header)} columns"
        if not skip:
            raise RunError("NS924", f"row {number} of {path} {wrong}")
        bad[number] = wrong
    columns = zip(*(row for _, row in body), strict=True) if body else ([] for _ in header)
    return Table(path, dict(zip(header, columns, strict=True)), [number for number, _ in body], bad)


def _parquet(path: Path) -> Table:
    try:
        parquet = import_module("pyarrow.parquet")
    except ImportError as error:
        raise MissingPackage("a Parquet file", "pyarrow", "data") from error
    arrow = import_module("pyarrow")
    try:
        stored = parquet.read_table(path)
    except (OSError, ValueError, arrow.ArrowException) as error:
        raise RunError("NS921", f"{path} can't be read as Parquet: {error}") from error
    columns = {name: _stored(stored.column(name), arrow) for name in stored.column_names}
    return Table(path, columns, range(1, stored.num_rows + 1))


def _stored(column: Any, arrow: Any) -> Column:
    types = arrow.types
    if types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if types.is_integer(column.type) and not column.null_count:
        return np.asarray(column.to_numpy())
    if types.is_floating(column.type) or types.is_integer(column.type) or types.is_decimal(column.type):
        return np.asarray(column.cast(arrow.float64()).to_numpy(), dtype=np.float64)
    if types.is_boolean(column.type) and not column.null_count:
        return np.asarray(column.to_numpy(zero_copy_only=False)).astype(np.int64)
    return ["" if value is None else str(value) for value in column.to_pylist()]
