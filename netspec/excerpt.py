"""A line of source with marks under it, as a compiler shows it: tabs and wide characters aligned, long lines cut."""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate

TAB = 4
Paint = Callable[[str, str], str]
"""paint(text, style) with the styles `error`, `warning`, `note`, `gutter`, `bold`, `help`."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Underlines columns `start` to `end` of a line (from 1, `end` not included) and says something about them."""

    start: int
    end: int
    message: str
    primary: bool


def clean(text: str) -> str:
    """Without what would steer a terminal or reorder text: control characters and bidirectional overrides."""
    if text.isprintable():
        return text
    return "".join(one if one in "\n\t" or not _steers(one) else "\ufffd" for one in text)


def _steers(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")


def _cells(line: str) -> list[str]:
    """What to show for each character; its length in columns is `_width` of it."""
    return [" " * TAB if one == "\t" else "\ufffd" if _steers(one) else one for one in line]


def _width(cell: str) -> int:
    if len(cell) != 1 or cell.isascii():
        return len(cell)
    if unicodedata.combining(cell):
        return 0
    return 2 if unicodedata.east_asian_width(cell) in "WF" else 1


def frame(
    lines: Sequence[str], marks: dict[int, list[Mark]], gutter: int, width: int, style: str, paint: Paint
) -> Iterable[str]:
    """The lines of the frame. `marks` says what to underline on which line (from 1); what lies between is left out."""
    bar = paint(" " * gutter + " |", "gutter")
    yield bar
    last = 0
    for number in sorted(marks):
        if last and number == last + 2 and last < len(lines):
            yield from _numbered(last + 1, _fit(_cells(lines[last]), 1, width)[0], gutter, paint)
        elif last and number > last + 2:
            yield paint("...", "gutter")
        line = lines[number - 1] if 0 < number <= len(lines) else ""
        focus = min((not mark.primary, mark.start) for mark in marks[number])[1]
        shown, columns = _fit(_cells(line), focus, width)
        yield from _numbered(number, shown, gutter, paint)
        for row in _mark_rows(marks[number], columns, style, paint):
            yield f"{bar} {row}".rstrip()
        last = number


def _numbered(number: int, shown: str, gutter: int, paint: Paint) -> Iterable[str]:
    yield f"{paint(f'{number:>{gutter}} |', 'gutter')} {shown}".rstrip()


def _fit(cells: list[str], focus: int, width: int) -> tuple[str, Callable[[int], int]]:
    """The line, cut around column `focus` to `width`, and where on the screen (from 0) each of its columns stands."""
    widths = [_width(cell) for cell in cells]
    starts = [0, *accumulate(widths)]
    total = starts[-1]

    def place(column: int) -> int:
        index = column - 1
        return starts[index] if index < len(starts) else total + index - len(cells)

    if total <= width:
        return "".join(cells), place
    left = min(place(focus) - width // 3, total - width)
    cut_from, before = (bisect_right(starts, left), "…") if left > 0 else (0, "")
    room = width - len(before)
    whole = total - starts[cut_from] <= room
    cut_to, after = (len(cells), "") if whole else (bisect_right(starts, starts[cut_from] + room - 1) - 1, "…")
    shown = before + "".join(cells[cut_from:cut_to]) + after
    base = starts[cut_from] - len(before)
    limit = starts[cut_to] - base + len(after)
    return shown, lambda column: min(max(place(column) - base, 0), limit)


def _mark_rows(marks: list[Mark], columns: Callable[[int], int], style: str, paint: Paint) -> Iterable[str]:
    """The underlines of a line with the last one's message behind it, then the other messages, each at its mark."""
    placed = sorted(((columns(one.start), columns(one.end), one) for one in marks), key=lambda p: (p[0], p[2].primary))
    row: list[tuple[str, str]] = []
    for start, end, mark in placed:
        sign, sign_style = ("^", style) if mark.primary else ("-", "gutter")
        row += [(" ", "")] * (max(end, start + 1) - len(row))
        row[start : max(end, start + 1)] = [(sign, sign_style)] * (max(end, start + 1) - start)
    *others, last = placed
    underlines = _painted(row, paint)
    message = paint(clean(last[2].message), style if last[2].primary else "gutter")
    yield f"{underlines} {message}" if last[2].message else underlines
    for start, _, mark in reversed(others):
        if mark.message:
            yield " " * start + paint(clean(mark.message), style if mark.primary else "gutter")


def _painted(row: list[tuple[str, str]], paint: Paint) -> str:
    text = ""
    index = 0
    while index < len(row):
        end = index
        while end < len(row) and row[end] == row[index]:
            end += 1
        sign, style = row[index]
        text += paint(sign * (end - index), style) if style else sign * (end - index)
        index = end
    return text
