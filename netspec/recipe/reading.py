"""What the readers of a section share: values with their expressions evaluated, and entries of the catalog by name."""

from __future__ import annotations

from collections.abc import Mapping as MappingABC
from dataclasses import dataclass
from typing import Any

from netspec.catalog import registry
from netspec.catalog.entry import REQUIRED, Category, Entry
from netspec.catalog.kinds import accepts
from netspec.catalog.transforms import TransformEntry
from netspec.diagnostics import Diagnostics, Span
from netspec.document import Mapping, Node, Scalar, Sequence
from netspec.shapes import Problem
from netspec.suggest import suggest


@dataclass(slots=True, kw_only=True)
class SectionReader:
    """`scope` holds the document's parameters, and its sections under their names for dotted paths."""

    diagnostics: Diagnostics
    scope: MappingABC[str, object]

    def value(self, node: Node) -> Any:
        """The node as plain values, its expressions evaluated; None, and a diagnostic, for one that is wrong."""
        match node:
            case Sequence(items=items):
                return [self.value(item) for item in items]
            case Mapping(items=entries):
                return {key: self.value(value) for key, value in entries.items()}
            case Scalar(value=str() as text) if "$" in text:
                from netspec.expressions import ExpressionError, evaluate, parse_scalar, report

                try:
                    return evaluate(parse_scalar(node, self.diagnostics, paths=True), self.scope)
                except ExpressionError as error:
                    report(error, node, self.diagnostics)
                    return None
            case Scalar(value=value):
                return value

    def count(self, mapping: Mapping, key: str, minimum: int, *, auto: bool = False) -> int | None:
        if key not in mapping.items:
            return None
        node = mapping.items[key]
        value = self.value(node)
        if auto and value == "auto":
            return None
        if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
            either = "auto or " if auto else ""
            self.diagnostics.error(
                "NS508", f"`{key}` is {either}a whole number from {minimum}, and got {show(value)}", node.span
            )
            return None
        return value

    def flag(self, key: str, default: bool, *mappings: Mapping | None) -> bool:
        """The first of the mappings that has the key says."""
        for mapping in mappings:
            if mapping is not None and key in mapping.items:
                value = self.value(mapping.items[key])
                if isinstance(value, bool):
                    return value
                self.diagnostics.error(
                    "NS508", f"`{key}` is true or false, and got {show(value)}", mapping.items[key].span
                )
        return default

    def entry(self, node: Node, category: Category, place: str) -> tuple[Entry, dict[str, Any]] | None:
        """The catalog entry that `NAME` or `{type: NAME, …}` names, and the arguments that it gives."""
        named = node.items.get("type") if isinstance(node, Mapping) else node
        name = self.value(named) if named is not None else None
        entry = registry.lookup(name, category) if isinstance(name, str) else None
        if named is None or entry is None:
            near = registry.suggest(name, category) if isinstance(name, str) else None
            self.unknown(category, name, (named or node).span, near, f"`netspec explain {category}s` lists them")
            return None
        given: dict[str, Any] = {}
        right = True
        items = node.items if isinstance(node, Mapping) else {}
        for key, item in items.items():
            if key == "type":
                continue
            assert isinstance(node, Mapping)
            argument = entry.argument(key)
            if argument is None:
                near = suggest(key, [a.name for a in entry.arguments])
                takes = ", ".join(f"`{a.name}`" for a in entry.arguments) or "no arguments"
                self.diagnostics.error(
                    "NS502",
                    f"{entry.name} has no argument `{key}`",
                    node.key_spans[key],
                    help=f"did you mean `{near}`?" if near else f"{entry.name} takes {takes}",
                )
                right = False
                continue
            nested = isinstance(entry, TransformEntry) and entry.nested and key == "transforms"
            if nested and isinstance(item, Sequence):
                given[key] = item
                continue
            errors = len(self.diagnostics.found)
            value = self.value(item)
            problem = None if len(self.diagnostics.found) > errors else accepts(argument, value)
            if nested and problem is None:
                problem = Problem("`transforms` takes a list of transforms", argument=key)
            if problem is not None or len(self.diagnostics.found) > errors:
                if problem is not None:
                    self.diagnostics.error("NS503", problem.message, item.span, help=problem.help)
                right = False
            given[key] = value
        for argument in entry.arguments:
            if argument.default is REQUIRED and argument.name not in items:
                self.diagnostics.error(
                    "NS502",
                    f"{entry.name} needs `{argument.name}`",
                    (named or node).span,
                    help=f"write {{type: {entry.name}, {argument.name}: …}}",
                )
                right = False
        return (entry, given) if right else None

    def unknown(self, what: str, name: object, span: Span, near: str | None, otherwise: str) -> None:
        self.diagnostics.error(
            "NS501",
            f"there is no {what} {show(name)}" if name is not None else f"a {what} needs its `type`",
            span,
            help=f"did you mean `{near}`?" if near else otherwise,
        )


def show(value: object) -> str:
    """A value as one writes it in YAML, for messages."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return f"`{value}`" if isinstance(value, str) else str(value)
