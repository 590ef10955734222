"""Dotted paths into a document (`train.optimizer.lr`, `model.layers.features.0`), and trees changed at one place.

Nodes are immutable: a change gives a new tree that shares all the rest with the old one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from netspec.diagnostics import Span
from netspec.document import Mapping, Node, Sequence

Steps = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """How far a path leads. `rest` is empty where it leads to the end, and `node` is then what stands there."""

    steps: Steps
    node: Node
    rest: Steps


def find(node: Node, path: str) -> Found:
    """Follow `path` as far as it goes. Keys that hold dots themselves (`tie: {head.weight: …}`) are found too."""
    return _find(node, (), tuple(path.split(".")))


def _find(node: Node, steps: Steps, rest: Steps) -> Found:
    best = Found(steps, node, rest)
    if not rest:
        return best
    if isinstance(node, Sequence):
        index = _index(node, rest[0])
        return best if index is None else _find(node.items[index], (*steps, rest[0]), rest[1:])
    if isinstance(node, Mapping):
        for count in range(1, len(rest) + 1):
            key = ".".join(rest[:count])
            if key in node.items:
                found = _find(node.items[key], (*steps, key), rest[count:])
                if not found.rest:
                    return found
                if len(found.rest) < len(best.rest):
                    best = found
    return best


def _index(node: Sequence, step: str) -> int | None:
    return int(step) if step.isascii() and step.isdigit() and len(step) < 7 and int(step) < len(node.items) else None


def put(node: Node, steps: Steps, value: Node, key_span: Span) -> Node:
    """The tree with `value` at `steps`; mappings on the way that do not exist yet are made.

    `key_span` is where the keys stand that are made. All but the last of the existing steps lead to collections.
    """
    if not steps:
        return value
    step, rest = steps[0], steps[1:]
    if isinstance(node, Sequence):
        index = int(step)
        items = (*node.items[:index], put(node.items[index], rest, value, key_span), *node.items[index + 1 :])
        return Sequence(items, node.span)
    assert isinstance(node, Mapping)
    inner = node.items.get(step)
    if inner is None:
        inner = Mapping({}, {}, key_span)
    spans = node.key_spans if step in node.key_spans and rest else {**node.key_spans, step: key_span}
    return Mapping({**node.items, step: put(inner, rest, value, key_span)}, spans, node.span)


def drop(node: Node, steps: Steps) -> Node:
    """The tree without what stands at `steps`, which exists."""
    step, rest = steps[0], steps[1:]
    if isinstance(node, Sequence):
        index = int(step)
        inner = (drop(node.items[index], rest),) if rest else ()
        return Sequence((*node.items[:index], *inner, *node.items[index + 1 :]), node.span)
    assert isinstance(node, Mapping)
    if rest:
        return Mapping({**node.items, step: drop(node.items[step], rest)}, node.key_spans, node.span)
    return without(node, step)


def with_key(node: Mapping, key: str, value: Node, key_span: Span) -> Mapping:
    """The mapping with one key set."""
    return Mapping({**node.items, key: value}, {**node.key_spans, key: key_span}, node.span)


def without(node: Mapping, *keys: str) -> Mapping:
    """The mapping without some of its keys."""
    return Mapping(
        {key: value for key, value in node.items.items() if key not in keys},
        {key: span for key, span in node.key_spans.items() if key not in keys},
        node.span,
    )


def keys_named(node: Node, key: str, steps: Steps = ()) -> Iterator[Steps]:
    """The paths to every key of that name."""
    if isinstance(node, Mapping):
        for name, value in node.items.items():
            if name == key:
                yield (*steps, name)
            yield from keys_named(value, key, (*steps, name))
    elif isinstance(node, Sequence):
        for index, value in enumerate(node.items):
            yield from keys_named(value, key, (*steps, str(index)))


def measure(node: Node) -> tuple[int, int]:
    """How many values the node holds when nothing is shared, and how many levels deep they stand."""
    known: dict[int, tuple[int, int]] = {}

    def measured(one: Node) -> tuple[int, int]:
        if not isinstance(one, Mapping | Sequence):
            return 1, 0
        if id(one) not in known:
            values, height = 1, 1
            for item in one.items.values() if isinstance(one, Mapping) else one.items:
                more, below = measured(item)
                values += more
                height = max(height, below + 1)
            known[id(one)] = values, height
        return known[id(one)]

    return measured(node)


def names_at(node: Node) -> list[str]:
    """What the next step of a path could be."""
    if isinstance(node, Mapping):
        return list(node.items)
    return [str(index) for index in range(len(node.items))] if isinstance(node, Sequence) else []
