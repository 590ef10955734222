"""What a starter spec says about a table of one's own: which column is predicted, as what, and from which others.

Columns of numbers are features, columns of few words are `categorical`, and what can be neither is left out and named.
A column of words, or of few whole numbers, tells classes; any other is a number to predict.
"""

from __future__ import annotations

import csv
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from netspec.suggest import suggest

CLASSIFICATION: Final = "classification"
REGRESSION: Final = "regression"
MOST: Final = 20
"""So many different values a column of classes or of categories has at most."""
FEW: Final = 0.1
"""A column that is empty in a larger share of the rows is left out; below, the rows are."""
SPLITS: Final = 3
ENOUGH: Final = 10
"""Rows from which on they are split into three, and from which on a column that counts is taken for a row's number."""
_FEATURES: Final = ("features", "feature", "x", "data", "inputs", "x_train")
_TARGETS: Final = ("target", "targets", "label", "labels", "y", "y_train")
_DELIMITERS: Final = (",", ";", "\t", "|")


class Unfit(Exception):
    """No spec can be written for this file; the message says why."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column as stored: words, an absent one empty."""

    name: str
    words: Sequence[str]

    @property
    def filled(self) -> list[str]:
        return [word for word in self.words if word]

    @property
    def empty(self) -> int:
        return len(self.words) - len(self.filled)

    @property
    def distinct(self) -> int:
        return len(set(self.filled))

    def numbers(self) -> list[float] | None:
        """What is filled as finite numbers; None where a cell is no number."""
        try:
            found = [float(word) for word in self.filled]
        except ValueError:
            return None
        return found if all(map(math.isfinite, found)) else None


@dataclass(slots=True, kw_only=True)
class Starter:
    """What goes into a template, and what the person is told of it."""

    task: str
    source: dict[str, Any]
    """The arguments of the source, after its `type`."""
    type: str
    columns: int
    rows: int
    num_classes: int = 0
    stratify: bool = False
    skip: int = 0
    mean: float = 0.0
    deviation: float = 1.0
    flat: bool = False
    """Whether a target has no dimension beside the batch's."""
    notes: list[str] = field(default_factory=list)


def fit(path: Path, target: str | None, task: str | None) -> Starter:
    """A starter for the file. Raises Unfit where it holds nothing to learn from."""
    if path.suffix in (".npy", ".npz"):
        return _of_arrays(path, target, task)
    extra: dict[str, Any] = {}
    if path.suffix in (".parquet", ".pq"):
        columns, kind = _parquet(path), "Parquet"
    else:
        (columns, delimiter), kind = _csv(path), "CSV"
        extra = {"delimiter": delimiter} if delimiter != "," else {}
    if len(columns) < 2 or not columns[0].words:
        raise Unfit(f"{path} needs a header with two columns or more, and rows")
    predicted = _chosen(columns, target, path)
    starter = _judge(predicted, task, kind)
    if target is None:
        starter.notes.append("that is the last column: `--target NAME` takes another")
    _features([column for column in columns if column is not predicted], predicted, starter)
    starter.source = {"label" if starter.task == CLASSIFICATION else "target": predicted.name} | starter.source | extra
    return starter


def _csv(path: Path) -> tuple[list[Column], str]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            first = stream.readline()
            stream.seek(0)
            delimiter = max(_DELIMITERS, key=lambda sign: (first.count(sign), sign == ","))
            header, *rows = [row for row in csv.reader(stream, delimiter=delimiter) if row] or [[]]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise Unfit(f"{path} cannot be read as a CSV file: {error}") from None
    names = [name.strip() for name in header]
    wrong = next((number for number, row in enumerate(rows, 2) if len(row) != len(header)), None)
    if wrong is not None:
        raise Unfit(f"row {wrong} of {path} has {len(rows[wrong - 2])} cells, and the header names {len(header)}")
    if rows and len(names) > 1 and all(_is_number(name) for name in names):
        raise Unfit(f"the first row of {path} holds numbers: write a row with the names of the columns above it")
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        raise Unfit(f"the header of {path} names the column {twice!r} twice")
    cells = zip(*rows, strict=True) if rows else ([] for _ in names)
    return [Column(name, [cell.strip() for cell in words]) for name, words in zip(names, cells, strict=True)], delimiter


def _parquet(path: Path) -> list[Column]:
    try:
        table = import_module("pyarrow.parquet").read_table(path)
    except ImportError:
        raise Unfit("a Parquet file needs the package pyarrow: pip install 'netspec[data]'") from None
    except (OSError, ValueError) as error:
        raise Unfit(f"{path} cannot be read as Parquet: {error}") from None
    stored = ((name, table.column(name).to_pylist()) for name in table.column_names)
    return [Column(name, [_word(value) for value in values]) for name, values in stored]


def _word(value: Any) -> str:
    if value is None or value != value:
        return ""
    return str(int(value) if isinstance(value, bool) or (isinstance(value, float) and value.is_integer()) else value)


def _chosen(columns: Sequence[Column], target: str | None, path: Path) -> Column:
    if target is None:
        return columns[-1]
    names = [column.name for column in columns]
    if target not in names:
        near = suggest(target, names)
        raise Unfit(f"{path} has no column {target!r}; " + (f"did you mean {near!r}?" if near else _listed(names)))
    return columns[names.index(target)]


def _listed(names: Iterable[str]) -> str:
    return "its columns are " + ", ".join(names)


def _judge(column: Column, task: str | None, kind: str) -> Starter:
    """Whether a column tells classes or is a number to predict."""
    numbers, distinct, filled = column.numbers(), column.distinct, len(column.filled)
    name = f"`{column.name}`"
    if distinct < 2:
        raise Unfit(
            f"{name} is the same in every row, so there is nothing to learn: `--target NAME` takes another column"
        )
    whole = numbers is not None and all(number.is_integer() for number in numbers)
    classes = numbers is None or (whole and (distinct == 2 or (distinct <= MOST and 2 * distinct <= filled)))
    chosen = task or (CLASSIFICATION if classes else REGRESSION)
    values = "different whole numbers" if whole else "different numbers" if numbers is not None else "different words"
    if chosen == REGRESSION and numbers is None:
        raise Unfit(f"{name} holds words, which no regression predicts: `--target NAME` takes another column")
    if chosen == CLASSIFICATION and 2 * distinct > filled and distinct > 2:
        raise Unfit(
            f"{name} has {distinct} {values} in {filled} rows, too many for classes: "
            "`--target NAME` takes another column"
        )
    starter = Starter(task=chosen, source={}, type=kind, columns=0, rows=len(column.words))
    if chosen == CLASSIFICATION:
        what = f"tells the {distinct} classes of {name} apart"
        other = "" if numbers is None else "; `--task regression` predicts it as a number"
        starter.num_classes = distinct
        starter.stratify = min(Counter(column.filled).values()) >= SPLITS
    else:
        assert numbers is not None
        what = f"predicts the number {name}, which has {distinct} different values"
        other = "; `--task classification` makes classes of them" if distinct <= MOST else ""
        starter.mean, starter.deviation = _moments(numbers)
    starter.notes.append(f"{what}{other}")
    return starter


def _moments(numbers: Sequence[float]) -> tuple[float, float]:
    """Mean and deviation, rounded as a person would write them."""
    mean = math.fsum(numbers) / len(numbers)
    deviation = math.sqrt(math.fsum((number - mean) ** 2 for number in numbers) / len(numbers))
    return float(f"{mean:.4g}"), float(f"{deviation:.4g}")


def _features(columns: Sequence[Column], predicted: Column, starter: Starter) -> None:
    """Which of the other columns are features, which of these are words, and which rows can't be read."""
    kept: list[str] = []
    categorical: list[str] = []
    left: list[str] = []
    wrong = {row for row, word in enumerate(predicted.words) if not word}
    for column in columns:
        rows, numbers = len(column.words), column.numbers()
        reason = None
        if not column.name:
            reason = "a column without a name"
        elif column.distinct < 2 and not column.empty:
            reason = "the same in every row"
        elif numbers is None and column.distinct > MOST:
            reason = f"{column.distinct} different words"
        elif column.empty > FEW * rows:
            reason = f"empty in {column.empty} of {rows} rows"
        elif numbers is not None and rows >= ENOUGH and _counts(numbers):
            reason = "the number of the row"
        if reason is not None:
            left.append(f"`{column.name}` ({reason})" if column.name else reason)
            continue
        kept.append(column.name)
        wrong |= {row for row, word in enumerate(column.words) if not word and numbers is not None}
        if numbers is None:
            categorical.append(column.name)
    if not kept:
        raise Unfit("no column is left to predict from: " + ", ".join(left))
    by_name = {column.name: column for column in columns}
    widths = {
        name: len({word for row, word in enumerate(by_name[name].words) if row not in wrong}) for name in categorical
    }
    starter.columns = len(kept) - len(categorical) + sum(widths.values())
    starter.skip = len(wrong)
    starter.source = ({"features": kept} if left else {}) | ({"categorical": categorical} if categorical else {})
    if categorical:
        told = ", ".join(f"`{name}` ({width})" for name, width in widths.items())
        starter.notes.append(f"words become one 0/1 feature for each value: {told}")
    if left:
        starter.notes.append(f"left out: {', '.join(left)}; `features` and `categorical` of the source take them in")
    if wrong:
        starter.notes.append(f"rows left out for an empty cell: {len(wrong)} of {starter.rows} (`skip_unreadable`)")


def _counts(numbers: Sequence[float]) -> bool:
    """Whether they number the rows, from 0 or 1."""
    return numbers[0] in (0, 1) and all(number == index for index, number in enumerate(numbers, int(numbers[0])))


def _is_number(cell: str) -> bool:
    return re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", cell.strip()) is not None


def _of_arrays(path: Path, target: str | None, task: str | None) -> Starter:
    """An `.npz` of rows of floats, and a label or a number for each."""
    np = import_module("numpy")
    try:
        found = np.load(path, allow_pickle=False)
        arrays = {name: found[name] for name in found.files} if hasattr(found, "files") else None
    except (OSError, ValueError, EOFError) as error:
        raise Unfit(f"{path} cannot be read as arrays of NumPy: {error}") from None
    if arrays is None:
        raise Unfit(f"{path} holds one array: save what goes in and what comes out with numpy.savez(x=…, y=…)")
    y = target or _named(arrays, _TARGETS) or ""
    if y not in arrays:
        said = f"no array {y!r}" if y else f"none of the arrays {', '.join(_TARGETS[:5])}"
        raise Unfit(f"{path} has {said}; it holds {', '.join(arrays)}: name one with `--target`")
    others = [name for name in arrays if name != y and len(arrays[name].shape) == 2]
    x = _named({name: None for name in others}, _FEATURES) or (others[0] if len(others) == 1 else "")
    if not x:
        raise Unfit(
            f"{path} has no array of rows, [samples, columns], to predict `{y}` from; it holds " + _shapes(arrays)
        )
    if arrays[x].dtype.kind != "f":
        raise Unfit(f"the array `{x}` of {path} is {arrays[x].dtype}, and a network takes floats: x.astype('float32')")
    values = arrays[y]
    if len(values) != len(arrays[x]) or values.ndim > 2 or (values.ndim == 2 and values.shape[1] != 1):
        raise Unfit(f"`{y}` is one value for each row of `{x}`, and {path} holds {_shapes(arrays)}")
    starter = _judge(Column(y, [_word(value) for value in values.reshape(-1).tolist()]), task, "NumPy")
    wanted = "iu" if starter.task == CLASSIFICATION else "f"
    if values.dtype.kind not in wanted or (starter.task == CLASSIFICATION and values.ndim > 1):
        mend = "integers from 0, [samples]" if starter.task == CLASSIFICATION else "floats: y.astype('float32')"
        raise Unfit(
            f"the array `{y}` of {path} is {values.dtype} {list(values.shape)}, and a {starter.task} takes {mend}"
        )
    field_name = "label" if starter.task == CLASSIFICATION else "target"
    starter.num_classes = int(values.max()) + 1 if starter.task == CLASSIFICATION else 0
    starter.columns, starter.flat = arrays[x].shape[1], values.ndim == 1 and starter.task == REGRESSION
    starter.source = {"fields": {"features": x, field_name: y}}
    return starter


def _named(arrays: Iterable[str], names: Sequence[str]) -> str | None:
    folded = {name.casefold(): name for name in arrays}
    return next((folded[name] for name in names if name in folded), None)


def _shapes(arrays: dict[str, Any]) -> str:
    return ", ".join(f"`{name}` {list(array.shape)}" for name, array in arrays.items())
