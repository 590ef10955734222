"""What the readers of a section share: values with their expressions evaluated, and entries of the catalog by name."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping as MappingABC
from dataclasses import dataclass
from typing import Any, Final

from netspec.catalog import registry
from netspec.catalog.entry import Category, Entry
from netspec.catalog.given import no_function
from netspec.catalog.kinds import accepts
from netspec.catalog.left_out import why_not
from netspec.catalog.transforms import TransformEntry
from netspec.catalog.versions import lacking
from netspec.diagnostics import Diagnostics, Span
from netspec.document import Mapping, Node, Scalar, Sequence
from netspec.suggest import suggest


class _Wrong:
    """What stands for a value that could not be computed."""

    def __repr__(self) -> str:
        return "a value that can't be computed"


WRONG: Final = _Wrong()

_LISTED: Final = 12
"""So many names a message lists."""


@dataclass(slots=True, kw_only=True)
class SectionReader:
    """`scope` holds the document's parameters, and its sections under their names for dotted paths."""

    diagnostics: Diagnostics
    scope: MappingABC[str, object]

    def value(self, node: Node) -> Any:
        """The node as plain values, its expressions evaluated; `WRONG`, and a diagnostic, where one of them fails."""
        match node:
            case Sequence(items=items):
                listed = [self.value(item) for item in items]
                return WRONG if WRONG in listed else listed
            case Mapping(items=entries):
                mapped = {key: self.value(value) for key, value in entries.items()}
                return WRONG if WRONG in mapped.values() else mapped
            case Scalar(value=str() as text) if "$" in text:
                from netspec.expressions import ExpressionError, evaluate, parse_scalar, report

                try:
                    return evaluate(parse_scalar(node, self.diagnostics, paths=True), self.scope)
                except ExpressionError as error:
                    report(error, node, self.diagnostics)
                    return WRONG
            case Scalar(value=value):
                return value

    def reject(self, value: object, code: str, message: str, span: Span, *, help: str | None = None) -> None:
        """Report what is wrong with a value, unless its evaluation has failed, which has been reported."""
        if value is not WRONG:
            self.diagnostics.error(code, message, span, help=help)

    def count(self, mapping: Mapping, key: str, minimum: int, *, auto: bool = False) -> int | None:
        if key not in mapping.items:
            return None
        node = mapping.items[key]
        value = self.value(node)
        if auto and value == "auto":
            return None
        if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
            either = "auto or " if auto else ""
            self.reject(
                value, "NS508", f"`{key}` is {either}a whole number from {minimum}, and got {show(value)}", node.span
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
                self.reject(value, "NS508", f"`{key}` is true or false, and got {show(value)}", mapping.items[key].span)
        return default

    def entry(self, node: Node, category: Category) -> tuple[Entry, dict[str, Any]] | None:
        """The catalog entry that `NAME` or `{type: NAME, …}` names, and the arguments that it gives.

        The `transforms` of a container stay a node, for the caller to read.
        """
        named = node.items.get("type") if isinstance(node, Mapping) else node
        name = self.value(named) if named is not None else None
        entry = registry.lookup(name, category) if isinstance(name, str) else None
        if named is None or entry is None:
            names = registry.names(category)
            self.unknown(category, name, (named or node).span, names)
            return None
        mapping = node if isinstance(node, Mapping) else Mapping({}, {}, node.span)
        given: dict[str, Any] = {}
        before = len(self.diagnostics.found)
        for key, item in mapping.items.items():
            argument = entry.argument(key)
            if key == "type":
                continue
            if argument is None:
                self._no_argument(entry, key, mapping.key_spans[key])
            elif here := lacking(argument.since, entry.target):
                self.diagnostics.error(
                    "NS502",
                    f"{entry.name} of {here} has no argument `{key}`",
                    mapping.key_spans[key],
                    help=f"it came with {argument.since}: install a newer one, or leave it out",
                )
            elif isinstance(entry, TransformEntry) and entry.nested and key == "transforms":
                given[key] = item
                if not isinstance(item, Sequence):
                    self.diagnostics.error("NS503", "`transforms` takes a list of transforms", item.span)
            else:
                given[key] = value = self.value(item)
                problem = None if value is WRONG else accepts(argument, value)
                if problem is None and argument.takes_function and isinstance(value, str):
                    problem = no_function(argument, value)
                if problem is not None:
                    whole = isinstance(value, float) and value.is_integer() and "int" in argument.kind
                    mend = "`//` divides to a whole number" if whole else None
                    self.diagnostics.error("NS503", problem.message, item.span, help=problem.help or mend)
        for argument in entry.arguments:
            if argument.required and argument.name not in mapping.items:
                self.diagnostics.error(
                    "NS502",
                    f"{entry.name} needs `{argument.name}`",
                    named.span,
                    help=f"write {{type: {entry.name}, {argument.name}: …}}",
                )
        return (entry, given) if len(self.diagnostics.found) == before else None

    def _no_argument(self, entry: Entry, key: str, span: Span) -> None:
        names = [argument.name for argument in entry.arguments]
        near = suggest(key, names)
        takes = ", ".join(f"`{name}`" for name in names) or "no arguments"
        self.diagnostics.error(
            "NS502",
            f"{entry.name} has no argument `{key}`",
            span,
            help=f"did you mean `{near}`?" if near else f"{entry.name} takes {takes}",
        )

    def unknown(self, what: str, name: object, span: Span, names: Iterable[str]) -> None:
        """Report a name that is not among the names."""
        listed = list(names)
        near = suggest(name, listed) if isinstance(name, str) else None
        reason = why_not(name, what) if isinstance(name, str) else None
        more = ", …" if len(listed) > _LISTED else ""
        self.reject(
            name,
            "NS501",
            f"a {what} needs its `type`" if name is None else f"there is no {what} {show(name)}",
            span,
            help=reason or (f"did you mean `{near}`?" if near else f"there are {', '.join(listed[:_LISTED])}{more}"),
        )


def show(value: object) -> str:
    """A value as one writes it in YAML, for messages."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return f"`{value}`" if isinstance(value, str) else str(value)
