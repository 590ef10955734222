"""Printing: an expression back as text, in Python for the emitted code or in the spec's own words for messages.

Python comes out as an expert writes it and as `ruff format` leaves it: no parentheses but the needed ones, `2**s`
without spaces between simple operands, `x[: s + 1]` with a space where a bound is more than a name or a number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

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
    free_names,
    map_children,
    substitute,
    walk,
)

# Python's precedences, loosest first.
_CONDITIONAL, _OR, _AND, _NOT, _COMPARE, _SUM, _PRODUCT, _SIGN, _POWER, _ATOM = range(10)
_BINARY = {"+": _SUM, "-": _SUM, "*": _PRODUCT, "/": _PRODUCT, "//": _PRODUCT, "%": _PRODUCT, "@": _PRODUCT}


def to_python(
    expr: Expr,
    rename: Callable[[str], str | Expr] | None = None,
    *,
    tensors: Callable[[str | Template], str | Expr] | None = None,
    iterated: bool = False,
) -> str:
    """The expression as one line of Python, which `ruff format` leaves as it is where it fits the line.

    `rename` says what a name becomes: an expression, or text such as `self.width` or `x.shape[1]` that never
    needs parentheses. `tensors` does the same for a tensor's reference. `iterated`: a `for` will loop over it, so
    that `range`, `zip` and `reversed` need not be made lists. `python_requirements` says what the text relies on.
    Raises TypeError for what Python has no text for (a block as a value).
    """
    return _Printer(python=True).print(_renamed(expr, rename, tensors), _CONDITIONAL, iterated=iterated)


def to_text(expr: Expr) -> str:
    """The expression in the spec's own spelling, without `$(` and `)`. A `Template` comes out as the scalar's text."""
    return _Printer(python=False).print(expr, _CONDITIONAL)


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
    """A number, text, bool or None as Python's source, spelt as ruff does. Raises TypeError for anything else."""
    if isinstance(value, str):
        return _quoted([value])
    if isinstance(value, bool) or value is None:
        return repr(value)
    if value is ...:
        return "..."
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, float):
        return float.__repr__(value).replace("e+", "e") if math.isfinite(value) else f'float("{value}")'
    raise TypeError(f"a {type(value).__name__} cannot be written as an expression")


def _renamed(
    expr: Expr,
    rename: Callable[[str], str | Expr] | None,
    tensors: Callable[[str | Template], str | Expr] | None,
) -> Expr:
    """The tree with its names and tensors replaced. Text becomes a `Name`, which is printed as it stands."""

    def node(new: str | Expr) -> Expr:
        return Name(new) if isinstance(new, str) else new

    def replaced(part: Expr) -> Expr:
        if isinstance(part, Tensor):
            assert tensors is not None
            return node(tensors(part.name))
        return map_children(part, replaced)

    if rename is not None:
        expr = substitute(expr, {name: node(rename(name)) for name in free_names(expr)})
    return expr if tensors is None else replaced(expr)


def _quoted(texts: Sequence[str], between: Sequence[str] = ()) -> str:
    """Texts as one string literal, an f-string with the expressions `between` them.

    In double quotes, or in single ones where these save escapes.
    """
    whole = "".join(texts)
    quote = "'" if whole.count('"') > whole.count("'") else '"'
    pieces = []
    for text in texts:
        letters = (letter if letter in "\"'" else repr(letter)[1:-1] for letter in text)
        pieces.append("".join(letters).replace(quote, f"\\{quote}"))
    if not between:
        return f"{quote}{''.join(pieces)}{quote}"
    first, *rest = (piece.replace("{", "{{").replace("}", "}}") for piece in pieces)
    inside = "".join(f"{{{expr}}}{piece}" for expr, piece in zip(between, rest, strict=True))
    return f"f{quote}{first}{inside}{quote}"


class _Printer:
    def __init__(self, *, python: bool) -> None:
        self.python = python

    def print(self, expr: Expr, least: int, *, iterated: bool = False) -> str:
        """The text, in parentheses where it binds more loosely than `least`."""
        text, binding = self.node(expr, iterated)
        return f"({text})" if binding < least else text

    def node(self, expr: Expr, iterated: bool) -> tuple[str, int]:
        """The text, and how tightly it binds."""
        match expr:
            case Literal(value):
                text = literal(value)
                return text, _SIGN if text.startswith("-") else _ATOM
            case Name(id):
                return id, _ATOM
            case Path(parts):
                return ".".join(parts), _ATOM
            case Tensor(name):
                return self.tensor(name), _ATOM
            case Template(parts):
                return self.template(parts) if self.python else (self.scalar(parts), _ATOM)
            case ListExpr(items):
                return f"[{', '.join(map(self.index, items))}]", _ATOM
            case TupleExpr(items):
                return ", ".join(map(self.index, items)) + ("," if len(items) == 1 else ""), _ATOM
            case Unary(op, Binary("**", _, _) as power):
                # The parentheses change nothing; ruff wants them.
                text = f"({self.print(power, _CONDITIONAL)})"
                return (f"not {text}", _NOT) if op == "not" else (op + text, _SIGN)
            case Unary("not", operand):
                return f"not {self.print(operand, _NOT)}", _NOT
            case Unary(op, operand):
                return op + self.print(operand, _SIGN), _SIGN
            case Binary("**", left, right):
                left_text = self.print(left, _ATOM)
                space = "" if _hugs(left) and not left_text.startswith("(") and _hugs(right) else " "
                return f"{left_text}{space}**{space}{self.print(right, _SIGN)}", _POWER
            case Binary(op, left, right):
                level = _BINARY[op]
                return f"{self.print(left, level)} {op} {self.print(right, level + 1)}", level
            case Compare(left, ops, comparators):
                text = self.print(left, _SUM)
                for op, comparator in zip(ops, comparators, strict=True):
                    # A number is found in a range as in a list, and faster.
                    bare = op in ("in", "not in") and _calls(comparator, "range")
                    text += f" {op} {self.print(comparator, _SUM, iterated=bare)}"
                return text, _COMPARE
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

    def index(self, expr: Expr) -> str:
        """A subscript, an item or an argument."""
        if not isinstance(expr, SliceExpr):
            return self.print(expr, _CONDITIONAL)
        bounds = (expr.lower, expr.upper) if expr.step is None else (expr.lower, expr.upper, expr.step)
        texts = ["" if bound is None else self.print(bound, _CONDITIONAL) for bound in bounds]
        if all(bound is None or _is_plain(bound) for bound in bounds):
            return ":".join(texts)
        result = texts[0]
        for before, after in pairwise(texts):
            result += (" :" if before else ":") + (f" {after}" if after else "")
        return result

    def call(self, function: str, arguments: tuple[Expr, ...], iterated: bool) -> str:
        if not self.python:
            return f"{function}({', '.join(map(self.index, arguments))})"
        if function == "shape":
            return f"{self.print(arguments[0], _ATOM)}.shape"
        loops = function in ("min", "max", "sum", "zip") and (function == "zip" or len(arguments) == 1)
        bare = loops or (function in ("len", "reversed") and _calls(arguments[0], "range"))
        texts = [self.print(argument, _CONDITIONAL, iterated=bare) for argument in arguments]
        text = f"{FUNCTIONS[function].python or function}({', '.join(texts)})"
        if function == "zip" and not iterated:
            return f"list(map(list, {text}))"
        return f"list({text})" if function in ("range", "reversed") and not iterated else text

    def comprehension(self, expr: Comprehension) -> str:
        # A single name takes the whole item of a zip, which is a list here and would be a tuple in Python.
        unpacked = not _calls(expr.iterable, "zip") or len(expr.targets) > 1
        iterable = self.print(expr.iterable, _OR, iterated=unpacked)
        condition = "" if expr.condition is None else f" if {self.print(expr.condition, _OR)}"
        element = self.print(expr.element, _CONDITIONAL)
        return f"[{element} for {', '.join(expr.targets)} in {iterable}{condition}]"

    def template(self, parts: tuple[str | Expr, ...]) -> tuple[str, int]:
        """An f-string; a sum of texts where an expression has quotes of its own, which older Pythons refuse inside."""
        exprs = [part for part in parts if not isinstance(part, str)]
        if any(isinstance(node, Template) or _is_text(node) for expr in exprs for node in walk(expr)):
            texts = [literal(part) if isinstance(part, str) else f"str({self.print(part, 0)})" for part in parts]
            return " + ".join(texts), _SUM if len(texts) > 1 else _ATOM
        texts = [""]
        for part in parts:
            if isinstance(part, str):
                texts[-1] += part
            else:
                texts.append("")
        return _quoted(texts, [self.print(expr, _CONDITIONAL) for expr in exprs]), _ATOM

    def scalar(self, parts: tuple[str | Expr, ...]) -> str:
        text = ""
        for part, after in zip(parts, (*parts[1:], ""), strict=True):
            if isinstance(part, str):
                text += part.replace("$", "$$")
            else:
                goes_on = isinstance(after, str) and (after[:1].isalnum() or after[:1] in ("_", "."))
                bare = isinstance(part, Name) and not goes_on
                text += f"${self.print(part, 0)}" if bare else f"$({self.print(part, 0)})"
        return text

    def tensor(self, name: str | Template) -> str:
        """A reference: `qkv.0` is `qkv[0]` in Python, and `blocks.$i` is `blocks[i]`."""
        if not self.python:
            return name if isinstance(name, str) else self.scalar(name.parts)
        text = ""
        for part in (name,) if isinstance(name, str) else name.parts:
            if not isinstance(part, str):
                if not text.endswith("."):
                    raise TypeError(f"`{to_text(Tensor(name))}` names a tensor that only its copy knows")
                text = f"{text[:-1]}[{self.print(part, 0)}]"
                continue
            head, *ports = part.split(".")
            if text and head:
                raise TypeError(f"`{to_text(Tensor(name))}` names a tensor that only its copy knows")
            text += head
            text += "".join(f"[{port}]" if port.isdecimal() else f".{port}" for port in ports)
        return text


def _hugs(expr: Expr) -> bool:
    """Whether ruff lets `**` hug the operand: names, attributes of names, numbers, and these with a sign."""
    match expr:
        case Literal(value):
            return not isinstance(value, str) and "(" not in literal(value)
        case Unary(op, operand):
            return op != "not" and _hugs(operand)
        case Name(text) | Tensor(str(text)):
            return all(part.isidentifier() for part in text.split("."))
        case Path(parts):
            return all(part.isidentifier() for part in parts)
    return False


def _is_plain(expr: Expr) -> bool:
    """Whether ruff writes a slice with this bound without spaces: names and literals, and these with a sign."""
    match expr:
        case Literal(value):
            return isinstance(value, str) or "(" not in literal(value)
        case Unary(op, operand):
            return op != "not" and _is_plain(operand)
        case Name(text) | Tensor(str(text)):
            return text.isidentifier()
    return False


def _calls(expr: Expr, function: str) -> bool:
    return isinstance(expr, Call) and expr.function == function


def _is_text(expr: Expr) -> bool:
    return isinstance(expr, Literal) and (isinstance(expr.value, str) or "(" in literal(expr.value))
