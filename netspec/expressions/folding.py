"""Folding: an expression whose constant parts are computed, as a person would write it after the values are known."""

from __future__ import annotations

from netspec.expressions.evaluate import evaluate
from netspec.expressions.limits import ExpressionError
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
    SliceExpr,
    Subscript,
    Template,
    Unary,
    children,
    from_value,
    map_children,
    tensors,
)


def fold(expr: Expr) -> Expr:
    """The expression with its constant parts computed; it has the same value in every scope in which the first has one.

    `n * 1`, `n + 0` and the like become `n`, a conditional with a known test its branch, `reversed(widths)[0]` becomes
    `widths[-1]`. Lists that a call or a
    repetition makes stay as they are written, and so does what has no value (`1 // 0`).
    """
    match expr:
        case BoolOp(op, values):
            return _bool_op(op, values)
        case Conditional(test, body, orelse):
            known = fold(test)
            if isinstance(known, Literal):
                return fold(body if known.value else orelse)
            return Conditional(known, fold(body), fold(orelse))
        case Comprehension() | SliceExpr() | ListExpr():
            return map_children(expr, fold)
    folded = map_children(expr, fold)
    if tensors(folded):
        return folded  # a tensor times 1 is a number where the tensor is bool
    match folded:
        case Binary("*", left, right) if _is(right, 1) or _is(left, 1):
            return left if _is(right, 1) else right
        case Binary("+", left, right) if _is(right, 0) or _is(left, 0):
            return left if _is(right, 0) else right
        case Binary("-", left, right) if _is(right, 0):
            return left
        case Binary("**", left, right) if _is(right, 1):
            return left
        case Binary() | Unary() | Compare() | Call() | Subscript() if all(map(_is_constant, children(folded))):
            return _computed(folded)
        case Subscript(Call("reversed", (listed,)), Literal(place)) if type(place) is int:
            return fold(Subscript(listed, Literal(-place - 1)))
        case Subscript(Subscript(Call("zip", lists), Literal(place)), Literal(which)):
            item = _of_zip(lists, place, which)
            return folded if item is None else fold(item)
        case Template(parts):
            return _template(parts)
    return folded


def _of_zip(lists: tuple[Expr, ...], place: object, which: object) -> Expr | None:
    """`zip(a, b)[0][1]` as `b[0]`. Of one that is counted from the end the shortest list decides: it stays."""
    if type(place) is int and place >= 0 and type(which) is int and -len(lists) <= which < len(lists):
        return Subscript(lists[which], Literal(place))
    return None


def _template(parts: tuple[str | Expr, ...]) -> Expr:
    """Text with its constant parts put in; where all are, the text."""
    merged: list[str | Expr] = []
    for part in parts:
        text = str(part.value) if isinstance(part, Literal) and type(part.value) in (int, str) else part
        if isinstance(text, str) and merged and isinstance(merged[-1], str):
            merged[-1] += text
        else:
            merged.append(text)
    if len(merged) == 1 and isinstance(merged[0], str):
        return Literal(merged[0])
    return Template(tuple(merged))


def _bool_op(op: str, values: tuple[Expr, ...]) -> Expr:
    decisive = op == "or"
    kept: list[Expr] = []
    for number, value in enumerate(map(fold, values)):
        if isinstance(value, Literal) and bool(value.value) == decisive:
            kept.append(value)  # nothing after it is looked at
            break
        if not isinstance(value, Literal) or number == len(values) - 1:
            kept.append(value)
    return kept[0] if len(kept) == 1 else BoolOp(op, tuple(kept))


def _computed(expr: Expr) -> Expr:
    try:
        value = evaluate(expr, {})
    except ExpressionError:
        return expr
    if isinstance(value, list) or (isinstance(value, int) and value.bit_length() > 64):
        return expr
    return from_value(value)


def _is(expr: Expr, number: int) -> bool:
    return isinstance(expr, Literal) and type(expr.value) is int and expr.value == number


def _is_constant(expr: Expr) -> bool:
    match expr:
        case Literal():
            return True
        case ListExpr() | SliceExpr():
            return all(map(_is_constant, children(expr)))
    return False
