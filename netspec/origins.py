"""Integers that remember the expression they came from.

While a block is elaborated every size is a plain number, so nothing is inferred generically; but a number that came
from
`$(planes * 4)` or from an input's bound size keeps that expression, and arithmetic on it keeps the arithmetic. Emission
writes the expression where it holds for all uses of the block, and the number where none does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from netspec.expressions import Binary, Call, Expr, Literal, Unary, fold, free_names, size, substitute

LARGEST = 24
"""An origin of more nodes than this reads worse than the number: it is kept as the set of its names alone."""

DEEPEST = 24
"""Operations after which an origin is given up for its names without being put together."""


@dataclass(frozen=True, slots=True)
class Opaque:
    """An origin that is too long to write down: only the names that it depends on are known."""

    names: frozenset[str]


Origin = Expr | Opaque

Later = tuple[Any, ...]
"""A function that gives an origin, and its arguments."""


def names_of(origin: Origin | Traced) -> frozenset[str]:
    """The names whose change could change the number."""
    return origin.names if isinstance(origin, Opaque | Traced) else free_names(origin)


class Traced(int):
    """An `int` with `.origin`; compares, hashes and prints as the number alone.

    The origin of a result is put together when somebody asks for it, which for most sizes is never.
    """

    names: frozenset[str]
    """The names whose change could change the number; never empty."""
    depth: int
    """How many operations it is away from what was written."""
    _origin: Origin | Later

    def __new__(cls, value: int, origin: Origin | Later, names: frozenset[str], depth: int = 0) -> Traced:
        traced = int.__new__(cls, value)
        traced._origin = origin
        traced.names = names
        traced.depth = depth
        return traced

    @property
    def origin(self) -> Origin:
        origin = self._origin
        if isinstance(origin, tuple):
            function, *arguments = origin
            origin = self._origin = function(*arguments)
        return origin

    def apply(self, function: str, arguments: tuple[Any, ...], result: Any) -> Any:
        """`result`, which `function` gave for these arguments, with the call as its origin (integers only)."""
        return _result(result, _call, function, arguments)

    def __add__(self, other: int) -> Any:
        return _binary("+", self, other, int.__add__(self, other))

    def __radd__(self, other: int) -> Any:
        return _binary("+", other, self, int.__radd__(self, other))

    def __sub__(self, other: int) -> Any:
        return _binary("-", self, other, int.__sub__(self, other))

    def __rsub__(self, other: int) -> Any:
        return _binary("-", other, self, int.__rsub__(self, other))

    def __mul__(self, other: int) -> Any:
        return _binary("*", self, other, int.__mul__(self, other))

    def __rmul__(self, other: int) -> Any:
        return _binary("*", other, self, int.__rmul__(self, other))

    def __floordiv__(self, other: int) -> Any:
        return _binary("//", self, other, int.__floordiv__(self, other))

    def __rfloordiv__(self, other: int) -> Any:
        return _binary("//", other, self, int.__rfloordiv__(self, other))

    def __mod__(self, other: int) -> Any:
        return _binary("%", self, other, int.__mod__(self, other))

    def __rmod__(self, other: int) -> Any:
        return _binary("%", other, self, int.__rmod__(self, other))

    def __pow__(self, other: int, modulo: None = None) -> Any:  # type: ignore[override]
        return _binary("**", self, other, int.__pow__(self, other))

    def __rpow__(self, other: int, modulo: None = None) -> Any:  # type: ignore[override]
        return _binary("**", other, self, int.__rpow__(self, other))

    def __neg__(self) -> Any:
        return _result(int.__neg__(self), Unary, "-", (self,))

    def __pos__(self) -> Traced:
        return self

    def __abs__(self) -> Any:
        return _result(int.__abs__(self), _call, "abs", (self,))

    def __ceil__(self) -> Traced:
        return self

    def __floor__(self) -> Traced:
        return self

    def __trunc__(self) -> Traced:
        return self


def _binary(op: str, left: Any, right: Any, result: Any) -> Any:
    if result is NotImplemented:
        return NotImplemented
    return _result(result, Binary, op, (left, right))


def _result(value: Any, build: Callable[..., Expr], word: str, parts: tuple[Any, ...]) -> Any:
    """An operation's integer result, which remembers the operation."""
    if type(value) not in (int, Traced):
        return value
    names: frozenset[str] | None = None
    depth = 0
    for part in parts:
        if isinstance(part, Traced):
            if names is None:
                names = part.names
            elif names is not part.names:
                names |= part.names
            if part.depth > depth:
                depth = part.depth
    if names is None:
        return untraced(value)
    if depth >= DEEPEST:
        return Traced(int.__index__(value), Opaque(names), names, depth)
    return Traced(int.__index__(value), (_join, build, word, parts), names, depth + 1)


def _call(function: str, *arguments: Expr) -> Call:
    return Call(function, arguments)


def _join(build: Callable[..., Expr], word: str, parts: tuple[Any, ...]) -> Origin:
    origins = [origin_of(part) for part in parts]
    if any(isinstance(o, Opaque) for o in origins):
        return Opaque(frozenset().union(*(names_of(o) for o in origins)))
    return short(fold(_like_terms(build(word, *origins))))


def _like_terms(expr: Expr) -> Expr:
    """`2 * C` for `C + C`, `3 * C` for `2 * C + C`: what `cat` makes of equal parts."""
    match expr:
        case Binary("+", left, right) if left == right and not isinstance(left, Literal):
            return Binary("*", Literal(2), left)
        case Binary("+", Binary("*", Literal(int(count)), left), right) if left == right:
            return Binary("*", Literal(count + 1), left)
    return expr


def short(origin: Origin) -> Origin:
    """The origin itself, or only its names when it is too long to be read."""
    if isinstance(origin, Opaque) or size(origin) <= LARGEST:
        return origin
    return Opaque(free_names(origin))


def origin_of(value: Any) -> Origin:
    """Where a number came from; a plain number came from itself."""
    return value.origin if isinstance(value, Traced) else Literal(value)


def trace(value: Any, origin: Origin) -> Any:
    """An integer with its origin; anything else, and what depends on no name, as it is."""
    if type(value) in (int, Traced):
        names = names_of(origin)
        if names:
            return Traced(int.__index__(value), origin, names)
    return untraced(value)


def untraced(value: Any) -> Any:
    """The value without origins, through lists and tuples."""
    if isinstance(value, Traced):
        return int.__index__(value)
    if isinstance(value, list):
        return [untraced(item) for item in value]
    if isinstance(value, tuple):
        return tuple(untraced(item) for item in value)
    return value


def translate(value: Any, names: Mapping[str, Origin | Traced]) -> Any:
    """A number that was traced in one scope, traced in another: `names` says what each name stands for there."""
    if not isinstance(value, Traced):
        return value
    outer = reach(value.names, names)
    if not outer:
        return int.__index__(value)
    return Traced(int.__index__(value), (_renamed, value, names), outer, min(value.depth + 1, DEEPEST))


def _renamed(value: Traced, names: Mapping[str, Origin | Traced]) -> Origin:
    return rename(value.origin, names)


class Names(dict[str, Any]):
    """What names stand for in another scope: an `Origin` or a `Traced` number each. What they lead to
    is looked up once."""

    def __init__(self, known: Mapping[str, Any] | None = None) -> None:
        super().__init__(known or {})
        self.reached: dict[frozenset[str], frozenset[str]] = {}
        self.behind: dict[str, frozenset[str]] = {}

    def names_behind(self, name: str) -> frozenset[str]:
        found = self.behind.get(name)
        if found is None:
            found = self.behind[name] = names_of(self[name]) if name in self else frozenset((name,))
        return found


def reach(used: frozenset[str], names: Mapping[str, Origin | Traced]) -> frozenset[str]:
    """The names of the other scope behind these."""
    if not isinstance(names, Names):
        return frozenset().union(*(names_of(names[name]) if name in names else (name,) for name in used))
    known = names.reached.get(used)
    if known is None:
        known = names.reached[used] = frozenset().union(*map(names.names_behind, used))
    return known


def rename(origin: Origin, names: Mapping[str, Origin | Traced]) -> Origin:
    """An origin in another scope: each of its names replaced by what it stands for there."""
    used = names_of(origin)
    if isinstance(origin, Opaque):
        return Opaque(reach(used, names))
    mapping: dict[str, Expr] = {}
    for name in sorted(used):
        known = names.get(name)
        known = known.origin if isinstance(known, Traced) else known
        if isinstance(known, Opaque):
            return Opaque(reach(used, names))
        if known is not None:
            mapping[name] = known
    return short(fold(substitute(origin, mapping)))
