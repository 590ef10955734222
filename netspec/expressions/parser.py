"""Parsing: `$name`, `$(…)`, texts with either inside, and tensor arithmetic become expression trees.

Python's own parser reads the text into its syntax tree; what the language has is converted node by node, and everything
else is a diagnostic at its column. Nothing is ever compiled or run.
"""

from __future__ import annotations

import ast
import warnings

from netspec.diagnostics import Diagnostics, Span
from netspec.document import Scalar, part_of
from netspec.expressions.conversion import MAX_DEPTH, Converter, named
from netspec.expressions.nodes import Expr, Invalid, Literal, Path, Template
from netspec.expressions.refusals import Mistake, not_python, scan_mistake
from netspec.expressions.scanner import ScanError, dollar, prepare

MAX_LENGTH = 4_000
"""Letters in one expression, and in a text that holds one."""


def is_expression(scalar: Scalar) -> bool:
    """Whether the scalar holds a `$`, so that its value is not its text."""
    return isinstance(scalar.value, str) and "$" in scalar.value


def parse_scalar(scalar: Scalar, diagnostics: Diagnostics, *, paths: bool = False) -> Expr:
    """What a scalar says: its value as a `Literal`, or the expression or `Template` that a `$` in it makes.

    `paths` allows dotted document paths, as `train` and `data` have them. A mistake is added to `diagnostics`, and the
    result is `Invalid()`.
    """
    if not isinstance(scalar.value, str) or "$" not in scalar.value:
        return Literal(scalar.value)
    return _guarded(scalar, diagnostics, paths, compute=False)


def parse_compute(scalar: Scalar, diagnostics: Diagnostics, *, paths: bool = False) -> Expr:
    """Tensor arithmetic: bare names are `Tensor` references, `$name` and `$(…)` values. `paths` and mistakes as for a
    scalar.
    """
    if not isinstance(scalar.value, str):
        return Literal(scalar.value)
    return _guarded(scalar, diagnostics, paths, compute=True)


def name_span(scalar: Scalar, name: str) -> Span:
    """Where a name (or dotted path, or tensor) first stands in the scalar's expressions; else the whole scalar.

    What stands before the first `$` counts only where the name does not follow: it is text, or in `compute` a tensor.
    """
    text = scalar.value if isinstance(scalar.value, str) else ""
    for beginning in (max(text.find("$"), 0), 0):
        start = text.find(name, beginning)
        while start >= 0:
            end = start + len(name)
            around = text[max(start - 1, 0) : start] + text[end : end + 1]
            if not any(letter == "_" or letter.isalnum() for letter in around):
                return _inside(scalar, start, end)
            start = text.find(name, start + 1)
    return scalar.span


def _guarded(scalar: Scalar, diagnostics: Diagnostics, paths: bool, *, compute: bool) -> Expr:
    text = scalar.value
    assert isinstance(text, str)
    try:
        if len(text) > MAX_LENGTH:
            message = f"the expression has {len(text):,} letters, and {MAX_LENGTH:,} are the limit"
            raise Mistake("NS207", message, 0, len(text), "name parts of it under `let`")
        if compute:
            return Parser(text, paths=paths, compute=True).python(0, len(text))
        return Parser(text, paths=paths, compute=False).template(0, len(text))
    except ScanError as error:
        mistake = scan_mistake(error)
    except Mistake as error:
        mistake = error
    diagnostics.error(mistake.code, mistake.message, _inside(scalar, mistake.start, mistake.end), help=mistake.help)
    return Invalid()


def _inside(scalar: Scalar, start: int, end: int) -> Span:
    """The span of the value's letters `start` to `end`; the scalar's own where its source text is not known."""
    span = scalar.span
    if not scalar.text or (span.line == span.end_line and span.end_column - span.column != len(scalar.text)):
        return span
    return part_of(scalar, start, end)


class Parser:
    """One scalar's text on its way to a tree. Raises Mistake and ScanError, with places in the text."""

    def __init__(self, text: str, *, paths: bool, compute: bool) -> None:
        self.text = text
        self.paths = paths
        self.compute = compute

    def values(self) -> Parser:
        """The parser for `$(…)` inside tensor arithmetic."""
        return Parser(self.text, paths=self.paths, compute=False) if self.compute else self

    def template(self, start: int, end: int) -> Expr:
        """A text with `$name`, `$(…)` and `$$` in it; alone, an expression stands for itself."""
        path = self.whole_path()
        if path is not None:
            return path
        parts: list[str | Expr] = []
        literal = ""
        position = start
        while position < end:
            at = self.text.find("$", position, end)
            if at < 0:
                literal += self.text[position:end]
                break
            literal += self.text[position:at]
            part, position = dollar(self.text, at)
            if isinstance(part, str):
                literal += part
                continue
            if literal:
                parts.append(literal)
                literal = ""
            parts.append(self.python(*part) if self.text[position - 1] == ")" else named(self.text[slice(*part)]))
        if not parts:
            return Literal(literal)
        if literal:
            parts.append(literal)
        whole = parts[0] if len(parts) == 1 else None
        return Template(tuple(parts)) if whole is None or isinstance(whole, str) else whole

    def whole_path(self) -> Expr | None:
        """`$train.epochs` where it is the whole scalar."""
        head, *rest = self.text[1:].split(".")
        if not self.text.startswith("$") or not rest or not head.isidentifier():
            return None
        if not all(part.isidentifier() or (self.paths and part.isdecimal()) for part in rest):
            return None
        return self.path((head, *rest), 0, len(self.text))

    def path(self, parts: tuple[str, ...], start: int, end: int) -> Path:
        if self.paths:
            return Path(parts)
        dotted, message = (
            ".".join(parts),
            f"`{'.'.join(parts)}` is a path into the document, which only `train` and `data` may use",
        )
        help = f"give the model or block a parameter `{parts[-1]}`, and write `${parts[-1]}`"
        if parts[-1].isdecimal():
            message, help = (
                f"`{dotted}` is no value",
                f"an item of a list is written `{'.'.join(parts[:-1])}[{parts[-1]}]`",
            )
        raise Mistake("NS206", message, start, end, help)

    def python(self, start: int, end: int) -> Expr:
        """The expression in `text[start:end]`."""
        text = self.text[start:end]
        if not text.strip():
            what = "`compute`" if self.compute else "`$()`"
            raise Mistake(
                "NS201", f"{what} is empty", max(start - 2, 0), end + 1, "write an expression, as in `$(width * 2)`"
            )
        _check_brackets(text, start)
        try:
            prepared, references = prepare(text)
        except ScanError as error:
            raise ScanError(error.kind, error.start + start, error.end + start) from None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # such as "invalid escape sequence": the text is no Python file
                tree = ast.parse(f"({prepared})", mode="eval")
        except SyntaxError as error:
            at = min(max((error.offset or 1) - 2, 0), len(text) - 1) if error.lineno == 1 else 0
            raise not_python(text, start, at, compute=self.compute) from None
        except (ValueError, RecursionError, MemoryError):
            raise not_python(text, start, 0, compute=self.compute) from None
        return Converter(self, prepared, start, references).expression(tree.body, 0)


def _check_brackets(text: str, start: int) -> None:
    depth = 0
    for position, letter in enumerate(text):
        depth += (letter in "([{") - (letter in ")]}")
        if depth > MAX_DEPTH:
            message = f"the expression has more than {MAX_DEPTH} brackets inside each other"
            raise Mistake("NS207", message, start + position, start + position + 1, "name a part of it under `let`")
