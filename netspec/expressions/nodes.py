"""The expression tree: what `$width`, `$(planes * 4)` and `compute: x + up` mean, as immutable values.

One tree serves three readers: the compiler evaluates it for each use of a block, the shape pass walks the tensor
arithmetic in it, and the emitter prints it back as Python. Nodes hold no spans, so equal expressions are equal values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True, eq=False)
class Literal:
    """A number, a text, a bool, None, or `...`.

    Unlike in Python `Literal(1)`, `Literal(1.0)` and `Literal(True)` differ.
    """

    value: object

    def _key(self) -> object:
        # repr tells 0.0 from -0.0 and makes nan equal to itself; everything else compares by type and value.
        return (type(self.value), repr(self.value) if isinstance(self.value, float) else self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Literal) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())


@dataclass(frozen=True, slots=True)
class Name:
    """A value of the scope: a parameter, a bound size, a `let`, a loop's name."""

    id: str


@dataclass(frozen=True, slots=True)
class Path:
    """A dotted path into the document, as in `$(train.epochs)`. Only `train` and `data` have them."""

    parts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor by its reference: `x`, `qkv.0`, or a template such as `inner_blocks.$i` that names one for each copy."""

    name: str | Template


@dataclass(frozen=True, slots=True)
class Template:
    """Text with expressions in it, as in `layer$(s + 1)`."""

    parts: tuple[str | Expr, ...]


@dataclass(frozen=True, slots=True)
class ListExpr:
    items: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class TupleExpr:
    """Several subscripts at once, as in `x[:, 0]`. It occurs nowhere else."""

    items: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Unary:
    """`op` is `-`, `+` or `not`."""

    op: str
    operand: Expr


@dataclass(frozen=True, slots=True)
class Binary:
    """`op` is `+ - * / // % **`, or `@` between tensors."""

    op: str
    left: Expr
    right: Expr


@dataclass(frozen=True, slots=True)
class Compare:
    """A chain as in Python: `left ops[0] comparators[0] ops[1] comparators[1] …`."""

    left: Expr
    ops: tuple[str, ...]
    comparators: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class BoolOp:
    """`op` is `and` or `or`; it gives one of its values, as in Python."""

    op: str
    values: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Conditional:
    """`body if test else orelse`."""

    test: Expr
    body: Expr
    orelse: Expr


@dataclass(frozen=True, slots=True)
class Subscript:
    value: Expr
    index: Expr


@dataclass(frozen=True, slots=True)
class SliceExpr:
    lower: Expr | None
    upper: Expr | None
    step: Expr | None


@dataclass(frozen=True, slots=True)
class Call:
    function: str
    arguments: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Comprehension:
    """`[element for targets in iterable if condition]`; the targets are bound in `element` and `condition`."""

    element: Expr
    targets: tuple[str, ...]
    iterable: Expr
    condition: Expr | None


@dataclass(frozen=True, slots=True)
class Invalid:
    """Stands where a text could not be read, which has been reported: evaluating it fails without a second report."""


Expr: TypeAlias = (
    Literal
    | Name
    | Path
    | Tensor
    | Template
    | ListExpr
    | TupleExpr
    | Unary
    | Binary
    | Compare
    | BoolOp
    | Conditional
    | Subscript
    | SliceExpr
    | Call
    | Comprehension
    | Invalid
)


def from_value(value: object) -> Expr:
    """A Python value as an expression. Raises TypeError for what no expression can write (a dict, a block)."""
    if isinstance(value, list | tuple):
        return ListExpr(tuple(from_value(item) for item in value))
    if value is None or value is ... or isinstance(value, bool | int | float | str):
        return Literal(value)
    raise TypeError(f"no expression stands for a {type(value).__name__}")


def map_children(expr: Expr, change: Callable[[Expr], Expr]) -> Expr:
    """The same node with `change` applied to each expression directly under it, whatever names are bound there."""

    def maybe(child: Expr | None) -> Expr | None:
        return None if child is None else change(child)

    match expr:
        case Tensor(Template() as name):
            changed = change(name)
            assert isinstance(changed, Template | Literal)  # a text, where all that is in it is known
            return Tensor(changed if isinstance(changed, Template) else str(changed.value))
        case Template(parts):
            return Template(tuple(part if isinstance(part, str) else change(part) for part in parts))
        case ListExpr(items):
            return ListExpr(tuple(map(change, items)))
        case TupleExpr(items):
            return TupleExpr(tuple(map(change, items)))
        case Unary(op, operand):
            return Unary(op, change(operand))
        case Binary(op, left, right):
            return Binary(op, change(left), change(right))
        case Compare(left, ops, comparators):
            return Compare(change(left), ops, tuple(map(change, comparators)))
        case BoolOp(op, values):
            return BoolOp(op, tuple(map(change, values)))
        case Conditional(test, body, orelse):
            return Conditional(change(test), change(body), change(orelse))
        case Subscript(value, index):
            return Subscript(change(value), change(index))
        case SliceExpr(lower, upper, step):
            return SliceExpr(maybe(lower), maybe(upper), maybe(step))
        case Call(function, arguments):
            return Call(function, tuple(map(change, arguments)))
        case Comprehension(element, targets, iterable, condition):
            return Comprehension(change(element), targets, change(iterable), maybe(condition))
    return expr


def children(expr: Expr) -> tuple[Expr, ...]:
    """The expressions directly under a node, in the order in which they are written."""
    match expr:
        case Tensor(Template() as name):
            return (name,)
        case Template(parts):
            return tuple(part for part in parts if not isinstance(part, str))
        case ListExpr(items) | TupleExpr(items):
            return items
        case Unary(_, operand):
            return (operand,)
        case Binary(_, left, right):
            return (left, right)
        case Compare(left, _, comparators):
            return (left, *comparators)
        case BoolOp(_, values):
            return values
        case Conditional(test, body, orelse):
            return (body, test, orelse)
        case Subscript(value, index):
            return (value, index)
        case SliceExpr(lower, upper, step):
            return tuple(child for child in (lower, upper, step) if child is not None)
        case Call(_, arguments):
            return arguments
        case Comprehension(element, _, iterable, condition):
            return (element, iterable) if condition is None else (element, iterable, condition)
    return ()


def walk(expr: Expr) -> Iterator[Expr]:
    """The node and all below it, parents first, in the order of the text. Shared parts come once for each use."""
    yield expr
    for child in children(expr):
        yield from walk(child)


def size(expr: Expr) -> int:
    """How many nodes the expression has when written out: shared parts count at each use (but are visited once)."""
    known: dict[int, int] = {}

    def count(node: Expr) -> int:
        if id(node) not in known:
            known[id(node)] = 1 + sum(map(count, children(node)))
        return known[id(node)]

    return count(expr)


def free_names(expr: Expr) -> frozenset[str]:
    """The names that the expression reads from its scope. Tensors, paths and a comprehension's own names are none."""
    if isinstance(expr, Literal):
        return _NONE
    if isinstance(expr, Name):
        return frozenset((expr.id,))
    if isinstance(expr, Comprehension):
        inner = free_names(expr.element) | (free_names(expr.condition) if expr.condition is not None else _NONE)
        return free_names(expr.iterable) | (inner - frozenset(expr.targets))
    return _NONE.union(*map(free_names, children(expr)))


_NONE: frozenset[str] = frozenset()


def tensors(expr: Expr) -> tuple[Tensor, ...]:
    """The tensor references in an expression, each once, in the order of the text."""
    return tuple(dict.fromkeys(node for node in walk(expr) if isinstance(node, Tensor)))


def substitute(expr: Expr, mapping: Mapping[str, Expr]) -> Expr:
    """The expression with each free name in `mapping` replaced.

    A comprehension's own names are changed where they would capture a name that comes in.
    """
    match expr:
        case Name(id):
            return mapping.get(id, expr)
        case Comprehension(element, targets, iterable, condition):
            inner = {name: new for name, new in mapping.items() if name not in targets}
            body_names = free_names(element) | (free_names(condition) if condition is not None else frozenset())
            incoming = frozenset().union(*(free_names(new) for name, new in inner.items() if name in body_names))
            taken = incoming | body_names | frozenset(targets)
            renamed = []
            for target in targets:
                fresh = target
                if target in incoming:
                    while fresh in taken:
                        fresh += "_"
                    taken |= {fresh}
                    inner[target] = Name(fresh)
                renamed.append(fresh)
            return Comprehension(
                substitute(element, inner),
                tuple(renamed),
                substitute(iterable, mapping),
                None if condition is None else substitute(condition, inner),
            )
    return map_children(expr, lambda child: substitute(child, mapping))
