"""From Python's syntax tree of one expression to ours: what the language has is converted, all else refused."""

from __future__ import annotations

import ast
from contextlib import suppress
from copy import deepcopy
from typing import TYPE_CHECKING

from netspec.expressions.functions import FUNCTIONS, MAX_BITS
from netspec.expressions.nodes import (
    Binary,
    BoolOp,
    Call,
    Compare,
    Comprehension,
    Conditional,
    Expr,
    ListExpr,
    Literal,
    Name,
    SliceExpr,
    Subscript,
    Template,
    Tensor,
    TupleExpr,
    Unary,
)
from netspec.expressions.refusals import Mistake, call_refused, refusal
from netspec.expressions.scanner import Reference

if TYPE_CHECKING:
    from netspec.expressions.parser import Parser

MAX_DEPTH = 60
"""Levels of an expression, and of its brackets."""

_WORDS: dict[str, object] = {"null": None, "true": True, "false": False, "None": None, "True": True, "False": False}

_BINARY: dict[type[ast.operator], str] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.FloorDiv: "//",
    ast.Mod: "%",
    ast.Pow: "**",
}
_COMPARE: dict[type[ast.cmpop], str] = {
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.In: "in",
    ast.NotIn: "not in",
    ast.Is: "is",
    ast.IsNot: "is not",
}


class _Spelled(ast.NodeTransformer):
    """Puts what was written back where blanks stand for dotted names and for values."""

    def __init__(self, converter: Converter) -> None:
        self.converter = converter

    def visit_Name(self, node: ast.Name) -> ast.expr:
        reference = self.converter.references.get(self.converter.place(node)[0])
        if reference is None:
            return node
        if reference.text is not None:
            with suppress(SyntaxError):
                return ast.parse(reference.text, mode="eval").body
        start = self.converter.start
        return ast.Name(self.converter.parser.text[start + reference.start : start + reference.end])


class Converter:
    """Turns Python's tree of one expression into ours, refusing what the language does not have."""

    def __init__(self, parser: Parser, prepared: str, start: int, references: dict[int, Reference]) -> None:
        self.parser = parser
        self.compute = parser.compute
        self.start = start
        self.references = references
        self.prepared = prepared
        # ast counts columns in UTF-8 bytes; the opening parenthesis that we put before the text is one.
        self.columns: list[int] | None = None
        if not prepared.isascii():
            self.columns = [
                index for index, letter in enumerate(f"({prepared})") for _ in letter.encode("utf-8", "surrogatepass")
            ]

    def place(self, node: ast.expr) -> tuple[int, int]:
        """Where a node stands in the prepared text."""
        begin, end = node.col_offset, node.end_col_offset if node.end_col_offset is not None else node.col_offset + 1
        if self.columns is not None:
            begin, end = self.columns[begin], self.columns[min(end, len(self.columns) - 1)]
        return begin - 1, end - 1

    def refuse(self, node: ast.expr, code: str, message: str, help: str | None = None) -> Mistake:
        begin, end = self.place(node)
        return Mistake(code, message, self.start + max(begin, 0), self.start + end, help)

    def expression(self, node: ast.expr, depth: int) -> Expr:
        if depth > MAX_DEPTH:
            raise self.refuse(
                node, "NS207", f"the expression has more than {MAX_DEPTH} levels", "name a part of it under `let`"
            )
        deeper = depth + 1
        match node:
            case ast.Constant():
                return self.constant(node)
            case ast.Name():
                return self.name(node)
            case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=operand):
                value = self.expression(operand, deeper)
                minus = isinstance(node.op, ast.USub)
                if (
                    minus
                    and isinstance(operand, ast.Constant)
                    and isinstance(value, Literal)
                    and type(value.value) in (int, float)
                ):
                    return Literal(-value.value)  # type: ignore[operator]
                return Unary("-" if minus else "+", value)
            case ast.UnaryOp(op=ast.Not(), operand=operand) if not self.compute:
                return Unary("not", self.expression(operand, deeper))
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY or (
                self.compute and isinstance(op, ast.MatMult)
            ):
                return Binary(_BINARY.get(type(op), "@"), self.expression(left, deeper), self.expression(right, deeper))
            case ast.Compare():
                return self.comparison(node, deeper)
            case ast.Subscript(value=value, slice=index):
                return Subscript(self.expression(value, deeper), self.index(index, deeper))
            case ast.Attribute():
                return self.attribute(node)
        if not self.compute:
            match node:
                case ast.BoolOp(values=values):
                    word = "and" if isinstance(node.op, ast.And) else "or"
                    return BoolOp(word, tuple(self.expression(value, deeper) for value in values))
                case ast.IfExp(test=test, body=body, orelse=orelse):
                    return Conditional(*(self.expression(part, deeper) for part in (test, body, orelse)))
                case ast.List(elts=items) | ast.Tuple(elts=items):
                    return ListExpr(tuple(self.expression(item, deeper) for item in items))
                case ast.Call():
                    return self.call(node, deeper)
                case ast.ListComp():
                    return self.comprehension(node, deeper)
        told = _Spelled(self).visit(deepcopy(node)) if isinstance(node, ast.Call) else node
        raise self.refuse(node, *refusal(told, compute=self.compute))

    def constant(self, node: ast.Constant) -> Expr:
        value = node.value
        if isinstance(value, bytes | complex) or value is ... or (self.compute and isinstance(value, str)):
            raise self.refuse(node, *refusal(node, compute=self.compute))
        if isinstance(value, int) and value.bit_length() > MAX_BITS:
            raise self.refuse(node, "NS207", f"the number is too large: {MAX_BITS} bits are the limit")
        return Literal(value)

    def name(self, node: ast.Name) -> Expr:
        begin, _ = self.place(node)
        reference = self.references.get(begin)
        if reference is not None:
            return self.referred(reference)
        name = self.spelling(node)
        return Tensor(name) if self.compute and name not in _WORDS else named(name)

    def spelling(self, node: ast.Name) -> str:
        """The name as it was written; Python's parser brings letters such as `ﬁ` into their normal form."""
        return self.prepared[slice(*self.place(node))]

    def referred(self, reference: Reference) -> Expr:
        """What a dotted or `$`-holding reference means where it stands."""
        begin, end = self.start + reference.start, self.start + reference.end
        if self.compute:
            value = self.tensor(reference)
            return value.name.parts[0] if _is_value(value) else value  # type: ignore[union-attr, return-value]
        if reference.text is not None:
            return self.parser.path(tuple(reference.text.split(".")), begin, end)
        inner = self.parser.text[begin:end]
        raise Mistake("NS203", "inside `$(…)` names stand without `$`", begin, end, f"write `{inner.replace('$', '')}`")

    def tensor(self, reference: Reference) -> Tensor:
        if reference.text is not None:
            return Tensor(reference.text)
        values = self.parser.values()
        parts = (
            part if isinstance(part, str) else values.python(self.start + part[0], self.start + part[1])
            for part in reference.parts
        )
        return Tensor(Template(tuple(parts)))

    def attribute(self, node: ast.Attribute) -> Expr:
        parts: list[str] = []
        inner: ast.expr = node
        while isinstance(inner, ast.Attribute):
            parts.insert(0, inner.attr)
            inner = inner.value
        if isinstance(inner, ast.Name) and not self.compute and self.place(inner)[0] not in self.references:
            begin, end = self.place(node)
            return self.parser.path((inner.id, *parts), self.start + begin, self.start + end)
        raise self.refuse(node, *refusal(node, compute=self.compute))

    def comparison(self, node: ast.Compare, depth: int) -> Expr:
        ops = tuple(_COMPARE[type(op)] for op in node.ops)
        if self.compute and (len(ops) > 1 or not set(ops) <= {"==", "!=", "<", "<=", ">", ">="}):
            raise self.refuse(node, *refusal(node, compute=True))
        operands = tuple(self.expression(operand, depth) for operand in (node.left, *node.comparators))
        for op, left, right in zip(ops, operands, operands[1:], strict=False):
            if op in ("is", "is not") and Literal(None) not in (left, right):
                instead = "==" if op == "is" else "!="
                raise self.refuse(node, "NS203", f"`{op}` is for `null` alone", f"write `{instead}`")
        return Compare(operands[0], ops, operands[1:])

    def index(self, node: ast.expr, depth: int) -> Expr:
        match node:
            case ast.Slice(lower=lower, upper=upper, step=step):
                return SliceExpr(
                    *(None if part is None else self.expression(part, depth) for part in (lower, upper, step))
                )
            case ast.Tuple(elts=items) if self.compute:
                return TupleExpr(tuple(self.index(item, depth) for item in items))
            case ast.Constant(value=value) if value is ... and self.compute:
                return Literal(...)
            case ast.Tuple():
                raise self.refuse(
                    node, "NS203", "a list takes one index", "an item of an item is written `sizes[0][1]`"
                )
        return self.expression(node, depth)

    def call(self, node: ast.Call, depth: int) -> Expr:
        if not isinstance(node.func, ast.Name) or node.func.id not in FUNCTIONS or node.keywords:
            raise self.refuse(node.func, *call_refused(node))
        name = node.func.id
        count, least, most = len(node.args), FUNCTIONS[name].least, FUNCTIONS[name].most
        if count < least or (most is not None and count > most):
            wanted = f"at least {least}" if most is None else str(least) if least == most else f"{least} to {most}"
            plural = "argument" if wanted in ("1", "at least 1") else "arguments"
            message = f"`{name}` takes {wanted} {plural}, and here are {count or 'none'}"
            raise self.refuse(node, "NS205", message, f"as in `{FUNCTIONS[name].usage}`")
        if name == "shape":
            return Call(name, (self.shape_argument(node.args[0]),))
        return Call(name, tuple(self.expression(argument, depth) for argument in node.args))

    def shape_argument(self, node: ast.expr) -> Tensor:
        if not isinstance(node, ast.Name):
            raise self.refuse(
                node, "NS203", "`shape` takes a tensor's name", "write it as in `shape(x)` or `shape(blocks.0)`"
            )
        reference = self.references.get(self.place(node)[0])
        return Tensor(self.spelling(node)) if reference is None else self.tensor(reference)

    def comprehension(self, node: ast.ListComp, depth: int) -> Expr:
        if len(node.generators) > 1 or node.generators[0].is_async:
            raise self.refuse(
                node, "NS203", "a comprehension has one `for`", "put a second comprehension inside the first"
            )
        clause = node.generators[0]
        names = clause.target.elts if isinstance(clause.target, ast.Tuple) else [clause.target]
        for name in names:
            if not isinstance(name, ast.Name) or self.place(name)[0] in self.references or name.id in _WORDS:
                raise self.refuse(
                    name, "NS203", "a comprehension's `for` takes plain names", "as in `[w * 2 for w in widths]`"
                )
        targets = tuple(self.spelling(name) for name in names if isinstance(name, ast.Name))
        if len(set(targets)) < len(targets):
            raise self.refuse(clause.target, "NS203", "a comprehension's names must differ")
        conditions = [self.expression(condition, depth) for condition in clause.ifs]
        condition = conditions[0] if len(conditions) == 1 else BoolOp("and", tuple(conditions)) if conditions else None
        return Comprehension(self.expression(node.elt, depth), targets, self.expression(clause.iter, depth), condition)


def named(name: str) -> Expr:
    """A name as an expression: a value of the scope, or one of the words for true, false and null."""
    return Literal(_WORDS[name]) if name in _WORDS else Name(name)


def _is_value(tensor: Tensor) -> bool:
    """Whether a reference is nothing but one `$name` or `$(…)`: a value in tensor arithmetic."""
    return isinstance(tensor.name, Template) and len(tensor.name.parts) == 1
