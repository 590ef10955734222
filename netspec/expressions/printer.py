"""Printing: an expression back as text, in Python for the emitted code or in the spec's own words for messages.

Python comes out as an expert writes it and as `ruff format` leaves it: no parentheses but the needed ones, `2**s` without
spaces between simple operands, `x[: s + 1]` with a space where a bound is more than a name or a number.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from netspec.expressions.functions import FUNCTIONS
from netspec.expressions.nodes import (
    Binary,
    BoolOp,
    Call,
    Compare,
    Comprehension,
    Conditional,
    Expr,
    Invalid,
    ListExpr,
    Literal,
    Name,
    Path,
    SliceExpr,
    Subscript,
    Template,
    Tensor,
    TupleExpr,
    Unary,
    walk,
)

# Python's precedences, loosest first.
_CONDITIONAL, _OR, _AND, _NOT, _COMPARE, _SUM, _PRODUCT, _SIGN, _POWER, _ATOM = range(10)
_BINARY = {"+": _SUM, "-": _SUM, "*": _PRODUCT, "/": _PRODUCT, "//": _PRODUCT, "%": _PRODUCT, "@": _PRODUCT}

Rename = Callable[[str], "str | Expr"]


def to_python(
    expr: Expr, rename: Rename | None = None, *, tensors: Rename | None = None, iterated: bool = False
) -> str:
    """The expression as one line of Python, stable under `ruff format` as far as its line is long enough.

    `rename` says what a name becomes (an expression, or text such as `self.width` that needs no parentheses of its own),
    `tensors` the same for a tensor's reference. `iterated`: a `for` loops over it, so `range`, `zip` and `reversed` need
    not become lists. What the text needs around it is in `python_requirements`. Raises TypeError for an opaque value.
    """
    return _Printer(rename, tensors, python=True).print(expr, _CONDITIONAL, iterated=iterated)


def to_text(expr: Expr) -> str:
    """The expression in the spec's own spelling, without `$(` and `)`; parsing it gives an equal expression."""
    return _Printer(None, None, python=False).print(expr, _CONDITIONAL)


def python_requirements(expr: Expr) -> set[str]:
    """What `to_python`'s text uses beside Python's builtins: `math`, `make_divisible`."""
    needs = set()
    for node in walk(expr):
        if isinstance(node, Call):
            if (FUNCTIONS[node.function].python or "").startswith("math."):
                needs.add("math")
            elif node.function == "make_divisible":
                needs.add("make_divisible")
    return needs


def literal(value: object) -> str:
    """A number, text, bool or None as Python's source, as `ruff format` spells it."""
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, bool) or value is None:
        return repr(value)
    if value is ...:
        return "..."
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, float):
        return float.__repr__(value).replace("e+", "e") if math.isfinite(value) else f'float("{value}")'
    raise TypeError(f"a {type(value).__name__} cannot be written as an expression")


def _quoted(text: str) -> str:
    """Double quotes, unless single ones save escapes."""
    quote = '"' if text.count('"') <= text.count("'") else "'"
    body = "".join(
        f"\\{quote}" if letter == quote else letter if letter in "\"'" else repr(letter)[1:-1] for letter in text
    )
    return f"{quote}{body}{quote}"


class _Printer:
    def __init__(self, rename: Rename | None, tensors: Rename | None, *, python: bool) -> None:
        self.rename = rename
        self.tensors = tensors
        self.python = python
        self.bound: tuple[str, ...] = ()

    def print(self, expr: Expr, least: int, *, iterated: bool = False) -> str:
        """The text, in parentheses where it binds more loosely than `least`."""
        text, binding = self.node(expr, iterated)
        return f"({text})" if binding < least else text

    def node(self, expr: Expr, iterated: bool = False) -> tuple[str, int]:
        """The text, and how tightly it binds."""
        match expr:
            case Literal(value):
                text = literal(value)
                return text, _SIGN if text.startswith("-") else _ATOM
            case Name(id):
                return self.renamed(id, None if id in self.bound else self.rename, id)
            case Path(parts):
                return ".".join(parts), _ATOM
            case Tensor(str(name)):
                return self.renamed(name, self.tensors, _port(name) if self.python else name)
            case Tensor(name):
                return self.template(name, quoted=False), _ATOM
            case Template():
                return self.template(expr, quoted=True), _ATOM
            case ListExpr(items):
                return f"[{self.join(items)}]", _ATOM
            case TupleExpr(items):
                return self.join(items) + ("," if len(items) == 1 else ""), _ATOM
            case Unary("not", operand):
                return f"not {self.print(operand, _NOT)}", _NOT
            case Unary(op, operand):
                text = self.print(operand, _SIGN)
                # ruff writes -(x**2) for what binds the same as -x**2.
                return f"{op}({text})" if isinstance(operand, Binary) and operand.op == "**" else op + text, _SIGN
            case Binary("**", left, right):
                space = "" if self.simple(left) and self.simple(right) else " "
                return f"{self.print(left, _ATOM)}{space}**{space}{self.print(right, _SIGN)}", _POWER
            case Binary(op, left, right):
                level = _BINARY[op]
                return f"{self.print(left, level)} {op} {self.print(right, level + 1)}", level
            case Compare(left, ops, comparators):
                parts = [self.print(left, _SUM)]
                for op, comparator in zip(ops, comparators, strict=True):
                    bare = op in ("in", "not in")
                    parts += [op, self.print(comparator, _SUM, iterated=bare and _is_range(comparator))]
                return " ".join(parts), _COMPARE
            case BoolOp(op, values):
                level = _OR if op == "or" else _AND
                return f" {op} ".join(self.print(value, level) for value in values), level
            case Conditional(test, body, orelse):
                text = f"{self.print(body, _OR)} if {self.print(test, _OR)} else {self.print(orelse, _CONDITIONAL)}"
                return text, _CONDITIONAL
            case Subscript(value, index):
                return f"{self.print(value, _ATOM)}[{self.index(index)}]", _ATOM
            case SliceExpr():
                return self.index(expr), _ATOM
            case Call(function, arguments):
                return self.call(function, arguments, iterated), _ATOM
            case Comprehension():
                return self.comprehension(expr), _ATOM
            case Invalid():
                raise TypeError("an expression that could not be read cannot be printed")

    def renamed(self, name: str, rename: Rename | None, otherwise: str) -> tuple[str, int]:
        new = otherwise if rename is None else rename(name)
        return (new, _ATOM) if isinstance(new, str) else self.node(new)

    def join(self, items: tuple[Expr, ...]) -> str:
        return ", ".join(self.index(item) for item in items)

    def index(self, expr: Expr) -> str:
        if not isinstance(expr, SliceExpr):
            return self.print(expr, _CONDITIONAL)
        bounds = (expr.lower, expr.upper, expr.step)
        texts = ["" if bound is None else self.print(bound, _CONDITIONAL) for bound in bounds]
        if expr.step is None:
            texts.pop()
        if all(bound is None or self.plain(bound) for bound in bounds):
            return ":".join(texts)
        text = texts[0]
        for before, after in zip(texts, texts[1:], strict=False):
            text += (" :" if before else ":") + (f" {after}" if after else "")
        return text

    def call(self, function: str, arguments: tuple[Expr, ...], iterated: bool) -> str:
        if not self.python:
            return f"{function}({self.join(arguments)})"
        if function == "shape":
            return f"{self.print(arguments[0], _ATOM)}.shape"
        takes_any = function in ("min", "max", "sum", "zip") or (function == "len" and _is_range(arguments[0]))
        bare = takes_any or (function == "reversed" and _is_range(arguments[0]))
        texts = [self.print(argument, _CONDITIONAL, iterated=bare) for argument in arguments]
        text = f"{FUNCTIONS[function].python or function}({', '.join(texts)})"
        if function == "zip" and not iterated:
            return f"list(map(list, {text}))"
        return f"list({text})" if function in ("range", "reversed") and not iterated else text

    def comprehension(self, expr: Comprehension) -> str:
        iterable = self.print(expr.iterable, _OR, iterated=True)
        if (
            self.python
            and len(expr.targets) == 1
            and isinstance(expr.iterable, Call)
            and expr.iterable.function == "zip"
        ):
            iterable = f"map(list, {iterable})"
        outer, self.bound = self.bound, (*self.bound, *expr.targets)
        try:
            condition = "" if expr.condition is None else f" if {self.print(expr.condition, _OR)}"
            element = self.print(expr.element, _CONDITIONAL)
        finally:
            self.bound = outer
        return f"[{element} for {', '.join(expr.targets)} in {iterable}{condition}]"

    def template(self, expr: Template, *, quoted: bool) -> str:
        if not self.python:
            texts = [
                part.replace("$", "$$") if isinstance(part, str) else f"$({self.print(part, 0)})" for part in expr.parts
            ]
            return "".join(texts)
        texts = []
        for part in expr.parts:
            if isinstance(part, str):
                texts.append(_quoted(part)[1:-1].replace("{", "{{").replace("}", "}}"))
            else:
                texts.append(f"{{{self.print(part, 0)}}}")
        return f'f"{"".join(texts)}"' if quoted else "".join(texts)

    def simple(self, expr: Expr) -> bool:
        """Whether ruff lets `**` hug the operand: names, attributes of names, numbers, and these with a sign."""
        match expr:
            case Literal(value):
                return not isinstance(value, str) and "(" not in literal(value)
            case Unary(op, operand):
                return op != "not" and self.simple(operand)
            case Name() | Tensor(str()) | Path():
                new = self.substituted(expr)
                return new.replace(".", "").isidentifier() if isinstance(new, str) else self.simple(new)
        return False

    def plain(self, expr: Expr) -> bool:
        """Whether ruff writes a slice with this bound without spaces."""
        match expr:
            case Literal(value):
                return "(" not in literal(value) or isinstance(value, str)
            case Unary(op, operand):
                return op != "not" and self.plain(operand)
            case Name() | Tensor(str()) | Path():
                new = self.substituted(expr)
                return new.isidentifier() if isinstance(new, str) else self.plain(new)
        return False

    def substituted(self, expr: Name | Tensor | Path) -> str | Expr:
        if isinstance(expr, Path):
            return ".".join(expr.parts)
        name = expr.id if isinstance(expr, Name) else str(expr.name)
        rename = self.tensors if isinstance(expr, Tensor) else None if name in self.bound else self.rename
        return (_port(name) if isinstance(expr, Tensor) else name) if rename is None else rename(name)


def _port(name: str) -> str:
    """`qkv.0` as Python reads it: `qkv[0]`."""
    head, *ports = name.split(".")
    return head + "".join(f"[{port}]" if port.isdecimal() else f".{port}" for port in ports)


def _is_range(expr: Expr) -> bool:
    return isinstance(expr, Call) and expr.function == "range"
