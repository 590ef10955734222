"""From a line of emitted code back to the spec: which layer, parameter or rule each stretch of it was written from.

Statements carry their pieces along (`Code`), through the line breaking of the printer; the file itself says nothing of
it. `netspec.codegen.emit_with_map` gives the map beside the source.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from netspec.diagnostics import Span
from netspec.program import Node, Program, walk


@dataclass(frozen=True, slots=True, eq=False)
class Mark:
    """A part of the spec that code is written from."""

    name: str
    span: Span
    nodes: tuple[Node, ...] = ()
    """The layers that the code stands for, in all uses of its block."""


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """An expression with its mark, and the expressions within it in the order of the text."""

    text: str
    mark: Mark
    inside: tuple[Piece, ...] = ()


Stretch = tuple[int, int, Mark]
"""From a column to before another, counted from 0."""


class Code(str):
    """A statement, or a line of one, that knows where its stretches come from; the outer ones first."""

    __slots__ = ("stretches",)
    stretches: tuple[Stretch, ...]

    @classmethod
    def of(cls, text: str, stretches: Iterable[Stretch]) -> Code:
        made = cls(text)
        made.stretches = tuple(stretches)
        return made


def stretches_of(text: str) -> tuple[Stretch, ...]:
    """Where a statement's stretches come from; none for plain text."""
    return text.stretches if isinstance(text, Code) else ()


def marked(text: str, mark: Mark | None, pieces: Sequence[Piece] = ()) -> str:
    """A statement as `Code`: all of it from `mark`, and the pieces that are found in it from theirs."""
    whole = [(0, len(text), mark)] if mark is not None else []
    return Code.of(text, [*whole, *_located(text, pieces, 0, len(text))])


def _located(text: str, pieces: Sequence[Piece], start: int, end: int) -> list[Stretch]:
    found: list[Stretch] = []
    for piece in pieces:
        at = text.find(piece.text, start, end)
        if at < 0:
            continue
        stop = at + len(piece.text)
        found += [(at, stop, piece.mark), *_located(text, piece.inside, at, stop)]
        start = stop
    return found


def rewritten(old: str, new: str) -> str:
    """A statement that was cut or extended at its end, or behind all that is marked, with the marks of the old one."""
    stretches = stretches_of(old)
    kept = [(a, len(new) if b == len(old) else b, mark) for a, b, mark in stretches if a < len(new)]
    return Code.of(new, [(a, min(b, len(new)), mark) for a, b, mark in kept])


def indented(line: str) -> str:
    """A statement one level further in."""
    return Code.of(f"    {line}", [(a + 4, b + 4, mark) for a, b, mark in getattr(line, "stretches", ())])


def spread(statement: str, lines: Sequence[str]) -> list[str]:
    """The lines that a statement was broken into, with its stretches.

    Breaking changes white space, and adds brackets and trailing commas; all other characters stay in their order.
    """
    stretches = stretches_of(statement)
    if not stretches:
        return list(lines)
    home: list[tuple[int, int]] = [(0, 0)] * len(statement)
    at = 0
    for row, line in enumerate(lines):
        for column, char in enumerate(line):
            while at < len(statement) and statement[at] == " " and char != " ":
                at += 1
            if at < len(statement) and char == statement[at] and (char != " " or line[:column].strip()):
                home[at] = (row, column)
                at += 1
    found: list[list[Stretch]] = [[] for _ in lines]
    for start, stop, mark in stretches:
        (first, column), (last, end) = home[start], home[stop - 1]
        if stop == len(statement):  # a bracket that was added closes it
            last, end = len(lines) - 1, len(lines[-1]) - 1
        for row in range(first, last + 1):
            left = column if row == first else len(lines[row]) - len(lines[row].lstrip())
            found[row].append((left, end + 1 if row == last else len(lines[row]), mark))
    return [Code.of(line, own) for line, own in zip(lines, found, strict=True)]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a stretch of an emitted line comes from. Columns count from 1; `end_column` is the one behind it."""

    column: int
    end_column: int
    name: str
    """What it is called in its block: a layer's name, `num_classes`, `initialize`."""
    paths: tuple[str, ...]
    """The layers of the model that it stands for, as in `program.shapes`: one for each use of its block."""
    span: Span


@dataclass(frozen=True, slots=True)
class SourceMap:
    """The places of an emitted file by line, the outer ones first; lines that netspec writes in every file have
    none.
    """

    places: Mapping[int, tuple[Place, ...]]

    @property
    def all(self) -> list[Place]:
        """Every place, line by line."""
        return [place for number in sorted(self.places) for place in self.places[number]]

    def at(self, line: int, column: int | None = None) -> Place | None:
        """The innermost place around a column; without one, around the first character of the line."""
        places = self.places.get(line, ())
        if not places:
            return None
        column = min(place.column for place in places) if column is None else column
        return next((p for p in reversed(places) if p.column <= column < p.end_column), places[0])


def source_map(program: Program, lines: Sequence[str]) -> SourceMap:
    """The map of a file's lines, those that are `Code` with their stretches."""
    paths: dict[int, list[str]] = {}
    for path, node in walk(program.model):
        paths.setdefault(id(node), []).append(path)
    known: dict[int, tuple[str, ...]] = {}

    def paths_of(mark: Mark) -> tuple[str, ...]:
        if id(mark) not in known:
            known[id(mark)] = tuple(dict.fromkeys(path for node in mark.nodes for path in paths.get(id(node), ())))
        return known[id(mark)]

    return SourceMap(
        {
            number: tuple(Place(a + 1, b + 1, m.name, paths_of(m), m.span) for a, b, m in line.stretches)
            for number, line in enumerate(lines, start=1)
            if isinstance(line, Code) and line.stretches
        }
    )
