"""A file's text, or a diagnostic that says why there is none."""

from __future__ import annotations

import codecs
import os
from pathlib import Path

from netspec.diagnostics import Diagnostics, Span
from netspec.suggest import suggest

MAX_BYTES = 16 * 2**20
_WIDE = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_text(path: Path, diagnostics: Diagnostics, at: Span | None) -> str | None:
    """The file as text, without a byte order mark. `at` is where the user named it, None for the command line."""
    try:
        problem = _problem(path)
        if problem is not None:
            code, message, help = problem
            diagnostics.error(code, message, at, help=help)
            return None
        with path.open("rb") as file:
            too_large = os.fstat(file.fileno()).st_size > MAX_BYTES
            data = b"" if too_large else file.read()
    except OSError as error:
        reason = (error.strerror or "it cannot be read").lower()
        diagnostics.error("NS002", f"cannot read `{path}`: {reason}", at, help="look at its permissions")
        return None
    if too_large:
        diagnostics.error(
            "NS007", f"`{path}` is larger than 16 MiB", at, help="a spec that long is written by a program: use `for`"
        )
        return None
    return decode(data, str(path), diagnostics)


def _problem(path: Path) -> tuple[str, str, str | None] | None:
    if path.is_file():
        return None
    if path.is_dir():
        inside = sorted(one.name for one in path.iterdir() if one.suffix in (".yaml", ".yml"))
        return "NS002", f"`{path}` is a directory", f"name a file in it: `{path / inside[0]}`" if inside else None
    if not path.exists():
        return "NS001", f"there is no file `{path}`", _missing_help(path)
    return "NS002", f"`{path}` is no regular file", "a spec is read from a file"


def _missing_help(path: Path) -> str | None:
    folder = path.parent
    if not folder.is_dir():
        return f"there is no directory `{folder}` either"
    names = sorted(os.listdir(folder))
    near = suggest(path.name, names)
    if near is None:
        near = next(
            (name for name in names if Path(name).suffix in (".yaml", ".yml") and Path(name).stem == path.stem), None
        )
    return f"did you mean `{folder / near}`?" if near else None


def decode(data: bytes, file: str, diagnostics: Diagnostics) -> str | None:
    if data.startswith(_WIDE):
        diagnostics.error(
            "NS003", "this file is UTF-16, a spec is UTF-8", Span(file, 1, 1, 1, 1), help="save it as UTF-8"
        )
        return None
    zero = data.find(b"\0")
    if zero >= 0:
        diagnostics.error(
            "NS003",
            "this is a binary file, a spec is text",
            _byte_span(data, zero, file),
            help="weights and images are named in a spec, they are not one",
        )
        return None
    try:
        return data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        diagnostics.error(
            "NS003",
            f"the byte 0x{data[error.start]:02x} is not UTF-8",
            _byte_span(data, error.start, file),
            help="save the file as UTF-8",
        )
        return None


def _byte_span(data: bytes, index: int, file: str) -> Span:
    before = data[:index].decode("utf-8", "replace").removeprefix("\ufeff")
    line = before.count("\n") + 1
    column = len(before) - (before.rfind("\n") + 1) + 1
    return Span(file, line, column, line, column + 1)
