"""What a document is made of: values that know where they stand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from netspec.diagnostics import Span


@dataclass(frozen=True, slots=True)
class Scalar:
    """A YAML 1.2 core scalar. `text` is what stands in the file; `quoted` scalars are always strings."""

    value: str | int | float | bool | None
    span: Span
    text: str = ""
    quoted: bool = False


@dataclass(frozen=True, slots=True)
class Sequence:
    items: tuple[Node, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Mapping:
    """Keys are unique strings, in the order of the file; `key_spans` says where each key stands."""

    items: dict[str, Node]
    key_spans: dict[str, Span]
    span: Span


Node = Scalar | Sequence | Mapping


def plain(node: Node) -> Any:
    """The node's value without spans: scalars, lists and dicts."""
    match node:
        case Scalar(value=value):
            return value
        case Sequence(items=items):
            return [plain(item) for item in items]
        case Mapping(items=entries):
            return {key: plain(value) for key, value in entries.items()}
