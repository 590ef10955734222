"""Integers that remember the expression they came from.

While a block is elaborated every size is a plain number, so nothing is inferred generically; but a number that came from
`$(planes * 4)` or from an input's bound size keeps that expression, and arithmetic on it keeps the arithmetic. Emission
writes the expression where it holds for all uses of the block, and the number where none does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from netspec.expressions import Binary, Call, Expr, Literal, Unary, fold, free_names, size, substitute

LARGEST = 24
"""An origin of more nodes than this reads worse than the number: it is kept as the set of its names alone."""


@dataclass(frozen=True, slots=True)
class Opaque:
    """An origin that is too long to write down: only the names that it depends on are known."""

    names: frozenset[str]


Origin = Expr | Opaque


def names_of(origin: Origin) -> frozenset[str]:
    """The names whose change could change the number."""
    return origin.names if isinstance(origin, Opaque) else free_names(origin)


class Traced(int):
    """An `int` with `.origin`; compares, hashes and prints as the number alone."""

    origin: Origin

    def __new__(cls, value: int, origin: Origin) -> Traced:
        traced = super().__new__(cls, value)
        traced.origin = origin
        return traced

    def apply(self, function: str, arguments: tuple[Any, ...], result: Any) -> Any:
        """`result`, which `function` gave for these arguments, with the call as its origin (integers only)."""
        return trace(result, _join(lambda *parts: Call(function, tuple(parts)), *arguments))

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

    def __pow__(self, other: int, modulo: None = None) -> Any:
        return _binary("**", self, other, int.__pow__(self, other))

    def __rpow__(self, other: int, modulo: None = None) -> Any:
        return _binary("**", other, self, int.__rpow__(self, other))

    def __neg__(self) -> Any:
        return trace(int.__neg__(self), _join(lambda part: Unary("-", part), self))

    def __pos__(self) -> Traced:
        return self

    def __abs__(self) -> Any:
        return trace(int.__abs__(self), _join(lambda part: Call("abs", (part,)), self))

    def __ceil__(self) -> Traced:
        return self

    def __floor__(self) -> Traced:
        return self

    def __trunc__(self) -> Traced:
        return self


def _binary(op: str, left: Any, right: Any, result: Any) -> Any:
    if result is NotImplemented:
        return NotImplemented
    return trace(result, _join(lambda a, b: Binary(op, a, b), left, right))


def _join(build: Any, *parts: Any) -> Origin:
    origins = [origin_of(part) for part in parts]
    if any(isinstance(o, Opaque) for o in origins):
        return Opaque(frozenset().union(*(names_of(o) for o in origins)))
    return short(fold(build(*origins)))


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
    if type(value) in (int, Traced) and names_of(origin):
        return Traced(value, origin)
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


def translate(value: Any, names: Mapping[str, Origin]) -> Any:
    """A number that was traced in one scope, traced in another: `names` says what each name stands for there."""
    if not isinstance(value, Traced):
        return value
    used = names_of(value.origin)
    if isinstance(value.origin, Opaque) or any(isinstance(names.get(n), Opaque) for n in used):
        return trace(value, Opaque(frozenset().union(*(names_of(names[n]) if n in names else {n} for n in used))))
    mapping: dict[str, Expr] = {}
    for name in used:
        origin = names.get(name)
        if origin is not None and not isinstance(origin, Opaque):
            mapping[name] = origin
    return trace(value, short(fold(substitute(value.origin, mapping))))
