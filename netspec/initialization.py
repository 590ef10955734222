"""Which initialisation rule speaks for which parameter: one reading for both doors and for the check."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

from netspec import catalog
from netspec.call_parts import arguments_of
from netspec.catalog.entry import Entry, GivenModule
from netspec.origins import origin_of, untraced
from netspec.program import Apply, Argument, Call, Instance, Node, walk


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
    """The modules below an instance that may have weights of their own, with their paths: those of the catalog, those
    inside of them, and blocks and groups with a `Parameter` among their layers.
    """
    for path, node in walk(instance):
        if node.key is not None:
            yield from _leaves_of(node, path)


def _leaves_of(node: Node, path: str) -> Iterator[tuple[str, Call]]:
    """A node's own module, those that it makes, and those that it is given, which stand inside of it."""
    op = node.op
    if isinstance(op, Apply) and (own := own_parameters(op.instance)):
        yield path, Call(_holder(op.instance.block.name, own), {}, {})
    if not isinstance(op, Call):
        return
    yield path, op
    yield from _parts_of(op.entry, arguments_of(op), path)
    for declared in op.entry.arguments:
        given = op.arguments.get(declared.name) if declared.places is not None else None
        if given is None or not isinstance(given.value, GivenModule):
            continue
        assert declared.places is not None
        for place in declared.places({name: argument.value for name, argument in op.arguments.items()}):
            inner = given.value.node
            yield from _leaves_of(inner, f"{path}.{place}")
            if isinstance(inner.op, Apply):
                yield from ((f"{path}.{place}.{below}", call) for below, call in leaves(inner.op.instance))


def _parts_of(entry: Entry, arguments: Mapping[str, Any], path: str) -> Iterator[tuple[str, Call]]:
    """The modules that a module makes itself, and those that they make."""
    for part in entry.inner(arguments) if entry.inner is not None else ():
        place = f"{path}.{part.place}" if path else part.place
        stated = {name: Argument(value=value, origin=origin_of(value)) for name, value in part.arguments.items()}
        yield place, Call(part.entry, stated, {})
        yield from _parts_of(part.entry, part.arguments, place)


def own_parameters(instance: Instance) -> dict[str, tuple[int, ...]]:
    """The shapes of the parameters that stand alone among the layers of an instance, by name."""
    calls = {node.name: node.op for node in instance.nodes if node.is_weight and isinstance(node.op, Call)}
    return {
        name: tuple(int(size) for size in untraced(op.arguments["shape"].value))
        for name, op in calls.items()
        if op.entry.name == "Parameter"
    }


def _holder(name: str, shapes: Mapping[str, tuple[int, ...]]) -> Entry:
    """A block or group as a module whose parameters rules may speak of."""
    return Entry(name=name, category="layer", target="torch.nn.Module", parameters=lambda arguments: shapes)


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
