"""Expressions that YAML cuts because nobody quoted them, and how they are mended.

`{a: $(max(1, b))}` is to YAML a mapping of `a` to `$(max(1` and of `b))` to nothing. Such an expression is reported as
what it is, and the text is read again as if it had been quoted, so that nothing else is blamed.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from netspec.diagnostics import Diagnostics
from netspec.text.source import SourceText

_FLOW = ",[]{}"
_CALL = re.compile(r"([A-Z]\w*)\(")
"""A layer as one calls it in Python."""
_EXAMPLES = {
    "Conv2d": "Conv2d, out_channels: 64, kernel_size: 3",
    "Linear": "Linear, out_features: 10",
}
_LONGEST_LINE = 100


@dataclass(frozen=True, slots=True)
class Accident:
    """All places are indices in the original text."""

    start: int
    """Where the plain scalar begins that has to be quoted, and where it ends."""
    end: int
    opening: int
    """The expression's `$(`, and the end of its `)`."""
    closing: int
    cut: str
    """What cut it: a character of flow style, `: ` or ` #`."""
    flow: bool


class Repair:
    """The text with quotes put in, and the way back from its indices to those of the original."""

    def __init__(self, text: str, start: int) -> None:
        self._text = text
        self._start = start
        self._inserted: list[tuple[int, str]] = []
        self._places: list[int] = []
        self.accidents: list[Accident] = []
        self.text = text[start:]

    def original(self, index: int) -> int:
        if not self._places:
            return index + self._start
        return index - bisect_left(self._places, index) + self._start

    def covers(self, accident: Accident) -> bool:
        return any(one.start < accident.end and accident.start < one.end for one in self.accidents)

    def add(self, accidents: Iterable[Accident]) -> None:
        for accident in accidents:
            if not self.covers(accident):
                self.accidents.append(accident)
                self._inserted += _quotes(self._text, accident)
        self._inserted.sort(key=lambda one: one[0])
        self._places = [index - self._start + number for number, (index, _) in enumerate(self._inserted)]
        pieces, last = [], self._start
        for index, character in self._inserted:
            pieces += [self._text[last:index], character]
            last = index
        self.text = "".join([*pieces, self._text[last:]])


def _quotes(text: str, accident: Accident) -> list[tuple[int, str]]:
    """What to insert where: double quotes, or single ones (doubled inside) where the expression has others already."""
    inside = text[accident.start : accident.end]
    if '"' not in inside and "\\" not in inside:
        return [(accident.start, '"'), (accident.end, '"')]
    doubled = [(accident.start + index, "'") for index, one in enumerate(inside) if one == "'"]
    return [(accident.start, "'"), *doubled, (accident.end, "'")]


def report(accidents: Sequence[Accident], source: SourceText, diagnostics: Diagnostics) -> None:
    for accident in accidents:
        call = _CALL.match(source.text, accident.opening)
        if call is not None:
            diagnostics.error(
                "NS019",
                f"`{call[0]}…)`: a layer is no call, and its arguments have names",
                source.span(accident.opening, accident.closing),
                help=f"as in `{{type: {_EXAMPLES.get(call[1], f'{call[1]}, …')}}}`",
            )
            continue
        where = "inside `{…}` and `[…]` YAML ends a value" if accident.flow else "YAML ends an unquoted value"
        diagnostics.error(
            "NS019",
            f"{where} at `{accident.cut}`: this expression has to be quoted",
            source.span(accident.opening, accident.closing),
            help=f"quote it: `{_mended_line(accident, accidents, source)}`",
        )


def _mended_line(accident: Accident, accidents: Sequence[Accident], source: SourceText) -> str:
    """The line as it has to be, with all its expressions quoted; of a long line only this value."""
    start, end = source.line_bounds(accident.start)
    if end - start > _LONGEST_LINE or accident.end > end:
        return " ".join(_with(source.text, accident.start, accident.end, _quotes(source.text, accident)).split())
    here = [one for one in accidents if start <= one.start and one.end <= end]
    insertions = sorted((place for one in here for place in _quotes(source.text, one)), key=lambda place: place[0])
    return _with(source.text, start, end, insertions).strip()


def _with(text: str, start: int, end: int, insertions: list[tuple[int, str]]) -> str:
    for index, character in reversed(insertions):
        text = text[:index] + character + text[index:]
    return text[start : end + len(insertions)]


def accident_in(source: SourceText, start: int, end: int, flow: bool) -> Accident | None:
    """The accident of the plain scalar that YAML saw at `start:end`, if one of its expressions does not end in it."""
    accident = _walk_plain(source, start, flow)[1]
    return accident if accident and accident.closing > end else None


def accidents_near(source: SourceText, error: Any, repair: Repair) -> list[Accident]:
    """Expressions that explain the parser's error: on its line, or on the lines of what it was inside of."""
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return []
    context = getattr(error, "context_mark", None)
    last = repair.original(mark.index)
    block = "block" in (error.context or "")  # such a one may have begun far above
    first = last if context is None or block else repair.original(context.index)
    found: list[Accident] = []
    start, end = source.line_bounds(first)
    depth = 0
    for _ in range(20):
        accidents, depth = _walk_line(source, start, end, depth)
        found += [one for one in accidents if not repair.covers(one)]
        following = source.next_line(end)
        if end >= last or following is None:
            break
        start, end = following
    subscript = None if found or repair.original(mark.index) >= len(source.text) else _subscript(source, last)
    return found[:1] if subscript is None or repair.covers(subscript) else [subscript]


def _subscript(source: SourceText, index: int) -> Accident | None:
    """The unquoted value around the `[` at `index`, where YAML ended it: `{compute: x[:, 0]}`."""
    text = source.text
    first, stop = source.line_bounds(index)
    start = index
    while start > first and text[start - 1] not in ",[{" and text[start - 2 : start] not in (": ", "- "):
        start -= 1
    if text[index] != "[" or text[start:index].isspace() or not text[index - 1].isalnum() or '"' in text[start:index]:
        return None
    start += len(text[start:index]) - len(text[start:index].lstrip())
    depth, end = 0, index
    while end < stop and (depth or text[end] not in ",]}"):
        depth += (text[end] == "[") - (text[end] == "]")
        end += 1
    end = start + len(text[start:end].rstrip())
    return None if depth else Accident(start, end, start, end, "[", flow=True)


def _walk_line(source: SourceText, index: int, end: int, depth: int) -> tuple[list[Accident], int]:
    text = source.text
    found: list[Accident] = []
    while index < end:
        character = text[index]
        if character in " \t,:-?" or (character in "]}" and depth):
            depth -= character in "]}"
            index += 1
        elif character in "[{":
            depth += 1
            index += 1
        elif character in "\"'":
            closing = text.find(character, index + 1, end)
            index = end if closing < 0 else closing + 1
        elif character == "#":
            break
        else:
            index, accident = _walk_plain(source, index, depth > 0)
            if accident:
                found.append(accident)
    return found, depth


def _walk_plain(source: SourceText, start: int, flow: bool) -> tuple[int, Accident | None]:
    """Where a plain scalar would end if its expressions were whole, and what cuts the first that is not."""
    text = source.text
    _, end = source.line_bounds(start)
    index, first = start, None
    call = _CALL.match(text, start, end) if flow else None
    if call is not None:
        closing = _closing(source, call.end() - 2, flow)
        cut = _cut(text, call.end(), closing, flow) if closing is not None else ""
        if closing is not None and cut == ",":
            first, index = (start, closing, cut), closing
    while index < end:
        if text.startswith("$$", index):
            index += 2
        elif text.startswith("$(", index):
            closing = _closing(source, index, flow)
            if closing is None:
                index += 2
                continue
            cut = _cut(text, index, closing, flow)
            if cut and first is None:
                first = (index, closing, cut)
            index = closing
            end = max(end, source.line_bounds(index - 1)[1])
        elif (flow and text[index] in _FLOW) or _separates(text, index):
            break
        else:
            index += 1
    while index > start and text[index - 1] in " \t":
        index -= 1
    index = max(index, start + 1)
    if first is None:
        return index, None
    return index, Accident(start, index, *first, flow)


def _closing(source: SourceText, index: int, flow: bool) -> int | None:
    """The end of the `)` for the `$(` at `index`: on its line, in flow style up to two lines further down."""
    text = source.text
    first = end = source.line_bounds(index)[1]
    for _ in range(2 if flow else 0):
        following = source.next_line(end)
        end = following[1] if following else end
    depth, quote = 0, ""
    for place in range(index + 1, end):
        character = text[place]
        if quote:
            quote = "" if character == quote else quote
        elif character in "\"'":
            quote = character
        elif character == "(":
            depth += 1
        elif character == ")":
            depth -= 1
            if depth == 0:  # further down, behind another key, it is not ours
                return None if ": " in text[first:place] else place + 1
    return None


def _cut(text: str, start: int, end: int, flow: bool) -> str:
    for index in range(start, end):
        if flow and text[index] in _FLOW:
            return text[index]
        if _separates(text, index):
            return ": " if text[index] == ":" else " #"
    return ""


def _separates(text: str, index: int) -> bool:
    after = text[index + 1 : index + 2]
    if text[index] == ":":
        return after in " \t\n\r"
    return text[index] in " \t" and after == "#"
