"""What a file of data says of itself at its beginning: a table's columns, the shapes of arrays. No data is read.

Where a file is absent, or is not what its name says, there is nothing to tell: whoever reads it says so.
"""

from __future__ import annotations

import csv
from ast import literal_eval
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import IO, Final
from zipfile import BadZipFile, ZipFile

MAGIC: Final = b"\x93NUMPY"
LONGEST: Final = 1 << 16
"""Bytes of a header; a longer one is not looked at."""


@dataclass(frozen=True, slots=True)
class Stored:
    """An array as NumPy keeps it: its shape, and the kind of its numbers by NumPy's letter (`f4`, `u1`)."""

    shape: tuple[int, ...]
    kind: str


def columns(path: Path, delimiter: str) -> tuple[str, ...] | None:
    """The names of a table's columns, from the first row of a CSV file or the schema of a Parquet file."""
    if path.suffix in (".parquet", ".pq"):
        return _schema(path)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = (line for line in iter(lambda: file.readline(LONGEST), ""))
            header = next((row for row in csv.reader(lines, delimiter=delimiter) if row), None)
    except (OSError, UnicodeDecodeError, csv.Error, TypeError):
        return None
    return tuple(name.strip() for name in header) if header else None


def _schema(path: Path) -> tuple[str, ...] | None:
    if not path.is_file():
        return None
    try:
        return tuple(import_module("pyarrow.parquet").read_schema(path).names)
    except (ImportError, OSError, ValueError):
        return None


def arrays(stated: str | Mapping[str, str]) -> dict[str, Stored] | None:
    """The arrays of an `.npy` or `.npz` file by name, the one of an `.npy` file as ``; or those of several files.

    None where one of them can't be told.
    """
    found: dict[str, Stored] = {}
    for name, path in stated.items() if isinstance(stated, Mapping) else (("", stated),):
        held = _arrays(name, Path(path))
        if held is None:
            return None
        found |= held
    return found


def _arrays(name: str, path: Path) -> dict[str, Stored] | None:
    try:
        with path.open("rb") as file:
            start = file.read(len(MAGIC))
            file.seek(0)
            if start == MAGIC:
                return {name: _header(file)}
        with ZipFile(path) as archive:
            found = {}
            for member in archive.namelist():
                with archive.open(member) as file:
                    found[member.removesuffix(".npy")] = _header(file)
            return found
    # NotImplementedError is zipfile's, for a member that it can't unpack: what is no header is told when it is read.
    except (OSError, ValueError, SyntaxError, KeyError, TypeError, EOFError, BadZipFile, NotImplementedError):
        return None


def _header(file: IO[bytes]) -> Stored:
    """The header of NumPy's format: a magic word, a version, a length, and a dictionary of literals."""
    start = file.read(len(MAGIC) + 2)
    if len(start) < len(MAGIC) + 2 or not start.startswith(MAGIC):
        raise ValueError("no array")
    width = 2 if start[len(MAGIC)] == 1 else 4
    length = int.from_bytes(file.read(width), "little")
    if length > LONGEST:
        raise ValueError("no header of an array")
    told = literal_eval(file.read(length).decode("utf-8" if width == 4 else "latin-1"))
    shape, kind = told["shape"], told["descr"]
    if not isinstance(kind, str) or not all(isinstance(size, int) for size in shape):
        raise ValueError("an array of records")
    return Stored(tuple(shape), kind.lstrip("<>=|"))
