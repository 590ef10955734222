"""After mistakes in the structure: what of a document can be worked out all the same.

A mistake in `data` or `train` leaves the model as it is, and one in a layer the layers around it. So these are told in
one go with the shapes that do not fit. Any other mistake may change what everything else means.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from netspec.diagnostics import Diagnostic, Span
from netspec.document import Mapping, Node, Scalar, Sequence
from netspec.schema.structure import STEERING

OF_A_TYPE: Final = frozenset(("NS105", "NS106", "NS107"))
"""What is said of a type and its arguments, wherever it stands."""
OF_A_LAYER: Final = frozenset(("NS101", "NS108", "NS109", "NS111"))
"""What is said of a layer's keys."""
OF_A_VALUE: Final = frozenset(("NS103", "NS104"))
OTHER_SECTIONS: Final = ("data", "train")
_HOLDING: Final = ("layers", "branches", "of")
"""The keys under which layers stand."""

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Remaining:
    """What mistakes leave: the places of those in single layers, and whether there are some in other sections."""

    broken: tuple[Span, ...]
    others: bool


def remaining(document: Mapping, mistakes: Iterable[Diagnostic]) -> Remaining | None:
    """What can be worked out around these mistakes, or None where nothing can."""
    found = list(mistakes)
    places: dict[Span, list[tuple[Path, Node]]] = {}
    wanted = {mistake.span for mistake in found}
    for path, span, node in _places(document):
        if span in wanted:
            places.setdefault(span, []).append((path, node))
    broken: list[Span] = []
    others = False
    for mistake in found:
        if mistake.span is None:
            return None
        here = places.get(mistake.span, [])
        elsewhere = [path[0] in OTHER_SECTIONS and len(path) > 1 for path, _ in here]
        alone = here and not any(elsewhere) and all(_of_one_layer(mistake.code, path, node) for path, node in here)
        if here and all(elsewhere):
            others = True
        elif alone or mistake.code in OF_A_TYPE:
            broken.append(mistake.span)
        else:
            return None
    return Remaining(tuple(broken), others)


def _places(document: Mapping) -> Iterator[tuple[Path, Span, Node]]:
    """Every key and every value of a document, each with its path and the value that stands there."""
    waiting: list[tuple[Path, Node]] = [((), document)]
    while waiting:
        path, node = waiting.pop()
        if path:
            yield path, node.span, node
        if isinstance(node, Mapping):
            for key, value in node.items.items():
                yield (*path, key), node.key_spans[key], value
                waiting.append(((*path, key), value))
        elif isinstance(node, Sequence):
            waiting += [((*path, index), item) for index, item in enumerate(node.items)]


def _of_one_layer(code: str, path: Path, node: Node) -> bool:
    """Whether a mistake is one layer's own, so that the document around it can be read."""
    inside = _inside_layer(path)
    if inside is None:
        return False
    if code in OF_A_LAYER:
        return True
    # What an argument holds may be of any form; what steers a layer may not.
    return code in OF_A_VALUE and bool(inside) and not set(inside) & STEERING.keys() and not _holds_mapping(node)


def _inside_layer(path: Path) -> Path | None:
    """The rest of a path behind the innermost layer that it leads through; None where it leads to none."""
    section, *rest = path
    if section in ("models", "blocks"):
        rest = rest[1:]
    elif section != "model":
        return None
    inside: Path | None = None
    while rest and rest[0] in _HOLDING and len(rest) > 1:
        inside = tuple(rest[2:])
        rest = rest[2:]
        while rest and isinstance(rest[0], int):  # a list of layers under a name
            inside = tuple(rest[1:])
            rest = rest[1:]
    return inside


def _holds_mapping(node: Node) -> bool:
    if isinstance(node, Scalar):
        return False
    return isinstance(node, Mapping) or any(map(_holds_mapping, node.items))
