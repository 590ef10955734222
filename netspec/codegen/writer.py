"""What all parts of a constructor share: its statements, and the rows that they are written from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from netspec.codegen.scope import Plan, Scope
from netspec.codegen.source_map import Mark, Piece, marked
from netspec.diagnostics import Span
from netspec.expressions import Expr, ListExpr, Literal
from netspec.order import stated_values
from netspec.program import Instance, Loop, Node
from netspec.spec import Body, Layer

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


def _reach(body: Body) -> Iterator[Layer]:
    """The layers of a body, and those that join it."""
    for layer in body.layers:
        yield layer
        if layer.inline and layer.body is not None:
            yield from _reach(layer.body)


class Writer(Scope):
    """Collects the statements of one class's `__init__`."""

    def __init__(self, plan: Plan, classes: Classes) -> None:
        super().__init__(plan)
        self.classes = classes
        self.lines: list[Line] = []
        self.level = 0
        self.imports: set[str] = set()
        self.variables: set[str] = set()
        self.locals: dict[str, str] = {}
        """Variables of loops' bodies, with what they were set to last."""
        self.records: dict[str, list[Loop]] = {}
        self.in_loop = False
        """Whether statements of a loop's body are being written."""
        self.owners: dict[int, Node] = {}
        """For a node that begins a chain written in place: the chain's own node."""

        self.mark: Mark | None = None
        """What the statements at hand are written from."""
        self.pieces: list[Piece] = []
        """The expressions that stand in no statement yet."""

    def joined(self, layer: Layer, rows: Rows, instances: list[Instance]) -> Body | None:
        """The layers that join the body at hand instead of this one: those of a group, or of a block that these rows
        came of.
        """
        if not layer.inline or layer.body is not None:
            return layer.body if layer.inline else None
        made = {id(node.layer) for node in rows}
        bodies = {id(body): body for instance in instances for body in instance.joined.get(id(layer), [])}
        found = [body for body in bodies.values() if any(id(inner) in made for inner in _reach(body))]
        if len(found) > 1:
            assert layer.type is not None
            self.give_up_on(frozenset().union(*(value.names for value in stated_values(layer))), must=True)
        return found[0] if found else Body(kind="list", layers=(), span=layer.span)

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
