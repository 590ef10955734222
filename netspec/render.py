"""Diagnostics as text for people, as JSON for programs, and as SARIF for code hosts and editors."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from netspec.diagnostics import Diagnostic, Label, Span
from netspec.excerpt import Mark, Paint, clean, frame
from netspec.text.reading import MAX_BYTES
from netspec.text.source import split_lines

_ANSI = {
    "error": "\x1b[1;31m",
    "warning": "\x1b[1;33m",
    "note": "\x1b[1;36m",
    "gutter": "\x1b[34m",
    "bold": "\x1b[1m",
    "help": "\x1b[1;36m",
}

_NARROWEST = 20


def wants_color(stream: TextIO | None = None) -> bool:
    """Whether `stream` (stderr by default) is a terminal that shows colours; NO_COLOR and FORCE_COLOR decide first."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    stream = sys.stderr if stream is None else stream
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def render(
    diagnostics: Iterable[Diagnostic],
    *,
    sources: Mapping[str, str] | None = None,
    color: bool = False,
    width: int | None = None,
) -> str:
    """All of them, each with its frame, parted by empty lines and ending with a line's end; nothing for none.

    `sources` is text by file name; a `Diagnostics` brings its own, and other files are read. Lines of source are cut to
    `width` columns, those of the terminal by default.
    """
    texts = _Texts({**getattr(diagnostics, "sources", {}), **(sources or {})})
    columns = max(width or shutil.get_terminal_size((100, 24)).columns, _NARROWEST)

    def paint(text: str, style: str) -> str:
        return f"{_ANSI[style]}{text}\x1b[0m" if color and text else text

    return "\n".join("\n".join(_one(found, texts, columns, paint)) + "\n" for found in diagnostics)


def summary(diagnostics: Iterable[Diagnostic]) -> str:
    """`2 errors, 1 warning`, or nothing where there are none."""
    severities = [one.severity for one in diagnostics]
    counts = [(severities.count("error"), "error"), (severities.count("warning"), "warning")]
    return ", ".join(f"{count} {word}{'s' * (count != 1)}" for count, word in counts if count)


class _Texts:
    """The lines of files, looked up once."""

    def __init__(self, known: Mapping[str, str]) -> None:
        self._known = known
        self._lines: dict[str, list[str] | None] = {}

    def lines(self, file: str) -> list[str] | None:
        if file not in self._lines:
            text = self._known.get(file)
            if text is None:
                text = _read(file)
            self._lines[file] = None if text is None else [line.rstrip("\r\n") for line in split_lines(text)]
        return self._lines[file]


def _read(file: str) -> str | None:
    if file.startswith("--set "):
        return file.removeprefix("--set ")
    try:
        with Path(file).open(encoding="utf-8-sig", errors="replace", newline="") as stream:
            text = stream.read(MAX_BYTES)
    except (OSError, ValueError):
        return None
    return None if "\0" in text else text


def _place(span: Span) -> str:
    return clean(str(span))


def _one(found: Diagnostic, texts: _Texts, width: int, paint: Paint) -> Iterator[str]:
    head = f"{found.severity}[{found.code}]"
    yield f"{paint(head, found.severity)}{paint(f': {clean(found.message)}', 'bold')}"
    gutter, framed = 1, False
    if found.span is not None:
        groups = _by_file(found.span, found.labels)
        gutter = max(len(str(number)) for marks in groups.values() for number in marks)
        for number, (file, marks) in enumerate(groups.items()):
            here = found.span if number == 0 else next(one.span for one in found.labels if one.span.file == file)
            yield f"{' ' * gutter}{paint('-->' if number == 0 else ':::', 'gutter')} {_place(here)}"
            lines = texts.lines(file)
            framed = lines is not None
            if lines is not None:
                yield from frame(lines, _within(marks, lines), gutter, width - gutter - 3, found.severity, paint)
            elif number or any(mark.message for line in marks.values() for mark in line):
                yield from _without_source(marks, gutter, paint)
    if found.help:
        first, *more = clean(found.help).split("\n")
        if framed:
            yield paint(" " * gutter + " |", "gutter")
        yield f"{' ' * gutter} {paint('=', 'gutter')} {paint('help', 'help')}: {first}"
        yield from (f"{' ' * gutter}         {line}" for line in more)


def _by_file(span: Span, labels: Iterable[Label]) -> dict[str, dict[int, list[Mark]]]:
    """What to underline, by file and line; the file of the diagnostic itself comes first."""
    groups: dict[str, dict[int, list[Mark]]] = {}
    for one, message, primary in [(span, "", True), *((label.span, label.message, False) for label in labels)]:
        # Of a stretch of several lines only the beginning is underlined: the end is far away or obvious.
        end = one.end_column if one.end_line == one.line else 10**6
        marks = groups.setdefault(one.file, {}).setdefault(one.line, [])
        same = next((i for i, mark in enumerate(marks) if (mark.start, mark.end) == (one.column, end)), None)
        if same is not None and not marks[same].message:
            marks[same] = Mark(one.column, end, message, marks[same].primary)
        else:
            marks.append(Mark(one.column, end, message, primary))
    return groups


def _within(marks: dict[int, list[Mark]], lines: list[str]) -> dict[int, list[Mark]]:
    """The marks, none of them longer than its line."""
    cut: dict[int, list[Mark]] = {}
    for number, line_marks in marks.items():
        stop = len(lines[number - 1]) + 1 if number <= len(lines) else 1
        cut[number] = [
            Mark(one.start, max(min(one.end, stop), one.start + 1), one.message, one.primary) for one in line_marks
        ]
    return cut


def _without_source(marks: dict[int, list[Mark]], gutter: int, paint: Paint) -> Iterator[str]:
    for number, line_marks in sorted(marks.items()):
        for mark in line_marks:
            if mark.message:
                yield f"{' ' * gutter} {paint('=', 'gutter')} line {number}: {clean(mark.message)}"


def _location(span: Span | None) -> dict[str, Any]:
    if span is None:
        return {"file": None, "line": None, "column": None, "end_line": None, "end_column": None}
    return {
        "file": span.file,
        "line": span.line,
        "column": span.column,
        "end_line": span.end_line,
        "end_column": span.end_column,
    }


def to_json(diagnostics: Iterable[Diagnostic]) -> str:
    """A JSON array with one object for each; lines and columns count from 1, columns in code points."""
    import json

    entries = [
        {
            "code": one.code,
            "severity": one.severity,
            "message": one.message,
            **_location(one.span),
            "labels": [{"message": label.message, **_location(label.span)} for label in one.labels],
            "help": one.help,
        }
        for one in diagnostics
    ]
    return json.dumps(entries, indent=2, ensure_ascii=False) + "\n"


def to_sarif(diagnostics: Iterable[Diagnostic]) -> str:
    """A SARIF 2.1.0 log with one run."""
    import json
    from importlib.metadata import PackageNotFoundError, version

    from netspec.pages import title

    found = list(diagnostics)
    codes = sorted({one.code for one in found})
    driver: dict[str, Any] = {
        "name": "netspec",
        "rules": [{"id": code, "shortDescription": {"text": title(code) or code}} for code in codes],
    }
    with suppress(PackageNotFoundError):  # used from a checkout that is not installed
        driver["version"] = version("netspec")
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "results": [_sarif_result(one, codes) for one in found],
    }
    log = {"$schema": "https://json.schemastore.org/sarif-2.1.0.json", "version": "2.1.0", "runs": [run]}
    return json.dumps(log, indent=2, ensure_ascii=False) + "\n"


def _sarif_result(one: Diagnostic, codes: list[str]) -> dict[str, Any]:
    text = one.message if one.help is None else f"{one.message}\nhelp: {one.help}"
    result: dict[str, Any] = {
        "ruleId": one.code,
        "ruleIndex": codes.index(one.code),
        "level": one.severity,
        "message": {"text": text},
    }
    if one.span is not None and _is_file(one.span):
        result["locations"] = [{"physicalLocation": _sarif_location(one.span)}]
    labels = [label for label in one.labels if _is_file(label.span)]
    if labels:
        result["relatedLocations"] = [
            {"id": number, "message": {"text": label.message}, "physicalLocation": _sarif_location(label.span)}
            for number, label in enumerate(labels, 1)
        ]
    return result


def _is_file(span: Span) -> bool:
    return not span.is_override and not span.file.startswith("<")


def _sarif_location(span: Span) -> dict[str, Any]:
    from urllib.parse import quote

    return {
        "artifactLocation": {"uri": quote(span.file.replace("\\", "/"))},
        "region": {
            "startLine": span.line,
            "startColumn": span.column,
            "endLine": span.end_line,
            "endColumn": span.end_column,
        },
    }
