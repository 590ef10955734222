"""What all parts of a constructor share: its statements, and the rows that they are written from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from netspec.codegen.scope import Plan, Scope
from netspec.codegen.source_map import Mark, Piece, marked
from netspec.diagnostics import Span
from netspec.expressions import Expr, ListExpr, Literal
from netspec.program import Loop, Node
from netspec.spec import Layer

if TYPE_CHECKING:
    from netspec.codegen.classes import Classes


Rows = list[Node]


Line = tuple[int, str]
"""Indentation level and statement."""


def rows_of(layer: Layer, nodes: Rows) -> Rows:
    """The nodes that a written layer became."""
    return [node for node in nodes if node.layer is layer]


def rows_by_layer(nodes: Rows) -> dict[int, Rows]:
    """The same for all layers at once, by the layer's `id`: a body may have thousands."""
    found: dict[int, Rows] = {}
    for node in nodes:
        found.setdefault(id(node.layer), []).append(node)
    return found


def rows_by_copy(layer: Layer, nodes: Rows) -> dict[int, Rows]:
    """The nodes in each copy of a loop, by the copy's number."""
    found: dict[int, Rows] = {}
    for node in nodes:
        for part, number in node.loops:
            if part is layer:
                found.setdefault(number, []).append(node)
    return found


def copies_in(layer: Layer, rows: Rows) -> int:
    return len({k for node in rows for part, k in node.loops if part is layer})


def constant(expr: Expr) -> Any:
    if isinstance(expr, ListExpr):
        return [constant(item) for item in expr.items]
    assert isinstance(expr, Literal)
    return expr.value


class Writer(Scope):
    """Collects the statements of one class's `__init__`."""

    def __init__(self, plan: Plan, classes: Classes) -> None:
        super().__init__(plan)
        self.classes = classes
        self.lines: list[Line] = []
        self.level = 0
        self.imports: set[str] = set()
        self.variables: set[str] = set()
        self.records: dict[str, list[Loop]] = {}
        self.in_loop = False
        """Whether statements of a loop's body are being written."""
        self.owners: dict[int, Node] = {}
        """For a node that begins a chain written in place: the chain's own node."""

        self.mark: Mark | None = None
        """What the statements at hand are written from."""
        self.pieces: list[Piece] = []
        """The expressions that stand in no statement yet."""

    def say(self, statement: str) -> None:
        self.lines.append((self.level, marked(statement, self.mark, self.pieces)))
        self.pieces.clear()

    def say_before(self, statement: str) -> None:
        """A statement for one whose expressions are under way."""
        self.lines.append((self.level, marked(statement, self.mark)))

    @contextmanager
    def about(self, mark: Mark) -> Iterator[None]:
        """What is said meanwhile is written from this part of the spec."""
        outside, self.mark = self.mark, mark
        yield
        self.mark = outside

    def piece(self, text: str, mark: Mark, since: int) -> None:
        """An expression, with those in it that came about since the list of pieces had that length."""
        inside = tuple(self.pieces[since:])
        self.pieces[since:] = [Piece(text, mark, inside)]


def mark_of(layer: Layer, rows: Rows, span: Span | None = None) -> Mark:
    """A written layer with all that it became."""
    return Mark(rows[0].name if rows else "", span or layer.span, tuple(rows))
