"""Which initialisation rule speaks for which parameter: one reading for both doors and for the check."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from typing import Any

from netspec import catalog
from netspec.catalog.entry import Entry
from netspec.program import Call, Instance, walk


def is_type(pattern: str) -> bool:
    """Whether a `match` names a layer type; anything else is a glob over paths."""
    entry = catalog.lookup(pattern)
    return entry is not None and entry.category not in ("function", "model")


def entry_matches(pattern: str, entry: Entry, path: str) -> bool:
    """Whether a rule's pattern speaks of a module of this entry at this path (from where the rule stands)."""
    return matcher(pattern)(entry, path)


def matcher(pattern: str) -> Callable[[Entry, str], bool]:
    """The same as a function of entry and path, for a pattern that is held against many modules."""
    if is_type(pattern):
        return lambda entry, path: entry.name == pattern or pattern in entry.ancestors
    return lambda entry, path: fnmatchcase(path, pattern)


def leaves(instance: Instance) -> Iterator[tuple[str, Call]]:
    """The catalog modules below an instance with their paths, in the order of registration."""
    for path, node in walk(instance):
        if isinstance(node.op, Call) and node.key is not None:
            yield path, node.op


def initializer(value: Any) -> tuple[str | None, dict[str, Any]]:
    """The initializer's name with its arguments; (None, {}) for a number or an expression, which fills the
    parameter.
    """
    from netspec.expressions import Literal

    if value.layer is not None:
        kind = value.layer.type
        assert kind is not None and isinstance(kind.expr, Literal)
        return str(kind.expr.value), value.layer.arguments
    if isinstance(value.expr, Literal) and isinstance(value.expr.value, str):
        return value.expr.value, {}
    return None, {}
