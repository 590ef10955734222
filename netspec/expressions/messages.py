"""The words for what went wrong: which values an operation was given, and why it has no result."""

from __future__ import annotations

from collections.abc import Mapping

from netspec.expressions.nodes import Binary, Call, Compare, Expr, Subscript, Unary, size
from netspec.expressions.printer import to_text


def describe(value: object) -> str:
    """What a value is, in a spec's words."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int():
            return f"the whole number {value}" if value.bit_length() < 200 else "a large whole number"
        case float():
            return f"the number {value}"
        case str():
            return f'the text "{value}"' if len(value) <= 40 else "a long text"
        case list() | tuple():
            return f"a list of {len(value)}"
        case Mapping():
            return "a mapping"
    if type(value).__name__ == "Dim":
        return f"the size {value}, which is open until the model runs"
    return "a block or layer"


def shown(expr: Expr) -> str:
    """The expression between backticks, or a word for one that is too long to show."""
    if size(expr) <= 40:
        try:
            text = to_text(expr)
        except TypeError:  # it holds a value that cannot be written
            text = ""
        if text and len(text) <= 80:
            return f"`{text}`"
    return "the expression"


def out_of_range(expr: Expr, values: tuple[object, ...]) -> tuple[str, str | None]:
    """The message and help for an index that a list or text does not have."""
    match expr, values:
        case Subscript(value), (list() | tuple() | str() as items, int(index)):
            last = f"the first is at 0, the last at {len(items) - 1}" if items else None
            return f"{shown(value)} is {describe(items)}, so it has no item {index}", last
    return f"{shown(expr)} reads past the end", None


def misfit(expr: Expr, values: tuple[object, ...], error: Exception) -> tuple[str, str | None]:
    """The message and help for an operation that the values do not allow."""
    kinds = [describe(value) for value in values]
    within = f"in {shown(expr)}"
    match expr:
        case Binary("%", _, _) if isinstance(values[0], str):
            return "text is not formatted with `%`", "write the text with `$name` or `$(…)` inside it"
        case Binary(op, _, _):
            return f"`{op}` cannot combine {kinds[0]} with {kinds[1]}", within
        case Unary(op, _):
            return f"`{op}` cannot stand before {kinds[0]}", within
        case Compare():
            return f"{shown(expr)} cannot compare {kinds[0]} with {kinds[1]}", None
        case Subscript(value, _) if not isinstance(values[0], list | tuple | str):
            return f"{shown(value)} is {kinds[0]}, which has no items", "only lists and texts have items"
        case Subscript():
            return f"{shown(expr)} needs whole numbers between `[` and `]`", f"here stands {kinds[1]}"
        case Call("min" | "max" as function, _) if values == ([],):
            return f"`{function}` has nothing to choose from: the list is empty", within
        case Call("make_divisible", _) if isinstance(error, ValueError):
            return f"`make_divisible`: {error}", within
        case Call(function, _):
            return f"`{function}` has no result for {' and '.join(kinds)}", within
    return f"{shown(expr)} has no value", None
