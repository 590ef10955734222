"""Random expressions for hypothesis: any that can be written, and typed ones that mostly have a value."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import strategies as st

from netspec.expressions import (
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

SCOPE = {
    "n": 7,
    "m": -3,
    "zero": 0,
    "rate": 0.25,
    "flag": True,
    "off": False,
    "xs": [4, 1, 9],
    "word": "relu",
    "none": None,
}

_ARITHMETIC = ["+", "-", "*", "/", "//", "%", "**"]
_ORDER = ["==", "!=", "<", "<=", ">", ">="]

integers = st.integers(-6, 12).map(Literal) | st.sampled_from([Name("n"), Name("m"), Name("zero")])
numbers = integers | st.floats(-8, 8).map(Literal) | st.just(Name("rate"))
texts = st.text(max_size=6).map(Literal) | st.just(Name("word"))
booleans = st.sampled_from([Literal(True), Literal(False), Name("flag"), Name("off")])


def _instead(inner: st.SearchStrategy[Expr], wrong: Callable[[Expr], bool], name: Expr) -> st.SearchStrategy[Expr]:
    """A name in the place of what is wrong there. A filter would give up in deep recursion, and print all of it."""
    return inner.map(lambda e: name if wrong(e) else e)


def _numeric(inner: st.SearchStrategy[Expr]) -> st.SearchStrategy[Expr]:
    test = st.builds(lambda a, op, b: Compare(a, (op,), (b,)), inner, st.sampled_from(_ORDER), inner)
    chain = st.builds(lambda a, b, c: Compare(a, ("<", "<="), (b, c)), inner, inner, inner)
    some = st.lists(inner, min_size=1, max_size=3).map(lambda items: ListExpr(tuple(items)))
    counted = st.builds(
        lambda element, iterable, condition: Comprehension(element, ("i",), iterable, condition),
        inner | st.builds(Binary, st.sampled_from(["+", "*"]), st.just(Name("i")), inner),
        some | st.just(Call("range", (Name("n"),))) | st.just(Call("reversed", (Name("xs"),))),
        st.none() | test,
    )
    listed = some | counted | st.just(Name("xs")) | st.builds(lambda a, b: Binary("+", a, b), some, some)
    return st.one_of(
        st.builds(Binary, st.sampled_from(_ARITHMETIC), inner, inner),
        st.builds(Unary, st.just("-"), _instead(inner, lambda e: isinstance(e, Literal), Name("n"))),
        st.builds(Conditional, test | chain | booleans, inner, inner),
        st.builds(lambda op, *values: BoolOp(op, values), st.sampled_from(["and", "or"]), inner, test, inner),
        test,
        st.builds(lambda value: Unary("not", value), test),
        st.builds(
            lambda f, a: Call(f, (a,)), st.sampled_from(["abs", "int", "float", "round", "ceil", "floor"]), inner
        ),
        st.builds(lambda f, a: Call(f, (a,)), st.sampled_from(["sum", "min", "max", "len"]), listed),
        st.builds(lambda f, a, b: Call(f, (a, b)), st.sampled_from(["min", "max"]), inner, inner),
        st.builds(lambda a, b: Call("make_divisible", (a, b)), inner, st.integers(1, 9).map(Literal)),
        st.builds(Subscript, listed, st.integers(-2, 2).map(Literal)),
        st.builds(lambda a, b, c: Call("len", (Subscript(a, SliceExpr(b, c, None)),)), listed, integers, integers),
        st.builds(lambda a: Call("sqrt", (Call("abs", (a,)),)), inner),
        st.builds(
            lambda a, b: Call("sum", (Comprehension(Name("a"), ("a", "b"), Call("zip", (a, b)), None),)), listed, listed
        ),
    )


valued: st.SearchStrategy[Expr] = st.recursive(numbers | booleans, _numeric, max_leaves=12)
"""Expressions over SCOPE that are mostly numbers or bools."""


def _maybe(inner: st.SearchStrategy[Expr]) -> st.SearchStrategy[Expr | None]:
    return st.none() | inner


def _any(inner: st.SearchStrategy[Expr], operators: list[str], name: Expr) -> list[st.SearchStrategy[Expr]]:
    return [
        st.builds(Binary, st.sampled_from(operators), inner, inner),
        st.builds(
            Unary,
            st.sampled_from("-+"),
            _instead(inner, lambda e: isinstance(e, Literal) and e.value is not True, name),
        ),
        st.builds(lambda a, op, b: Compare(a, (op,), (b,)), inner, st.sampled_from(_ORDER), inner),
    ]


def _anything(inner: st.SearchStrategy[Expr]) -> st.SearchStrategy[Expr]:
    operand = _instead(inner, lambda e: isinstance(e, BoolOp), Name("n"))
    several = st.lists(inner, max_size=3).map(tuple)
    return st.one_of(
        *_any(inner, _ARITHMETIC, Name("n")),
        st.builds(lambda a, b, c: Compare(a, ("in", "<"), (b, c)), inner, inner, inner),
        st.builds(lambda a, op: Compare(a, (op,), (Literal(None),)), inner, st.sampled_from(["is", "is not"])),
        st.builds(lambda value: Unary("not", value), inner),
        st.builds(lambda op, *values: BoolOp(op, values), st.sampled_from(["and", "or"]), operand, operand),
        st.builds(Conditional, inner, inner, inner),
        st.builds(ListExpr, several),
        st.builds(Subscript, inner, inner),
        st.builds(lambda a, *b: Subscript(a, SliceExpr(*b)), inner, _maybe(inner), _maybe(inner), _maybe(inner)),
        st.builds(
            lambda f, a: Call(f, (a,)), st.sampled_from(["range", "reversed", "sqrt", "ceil", "zip", "len"]), inner
        ),
        st.builds(lambda a, b: Call("max", (a, b)), inner, inner),
        st.builds(lambda a, i, c: Comprehension(a, ("n", "other"), i, c), inner, inner, _maybe(inner)),
    )


_words = st.sampled_from([Name("n"), Name("width"), Literal(None), Literal(True), Literal(False)])
anything: st.SearchStrategy[Expr] = st.recursive(numbers | texts | _words, _anything, max_leaves=10)
"""Expressions over values that can be written, whether they have a value or not."""


def _tensor(inner: st.SearchStrategy[Expr]) -> st.SearchStrategy[Expr]:
    bound = _maybe(st.integers(-3, 5).map(Literal) | inner)
    item = st.builds(SliceExpr, bound, bound, bound) | st.sampled_from([Literal(None), Literal(...), Literal(0)])
    items = st.lists(item, min_size=1, max_size=3).map(lambda items: TupleExpr(tuple(items)))
    return st.one_of(*_any(inner, [*_ARITHMETIC, "@"], Tensor("x")), st.builds(Subscript, inner, item | items))


_references = st.sampled_from(
    [
        "x",
        "qkv.0",
        "lstm.h_n",
        Template(("downs.", Name("i"))),
        Template(("block", Binary("+", Name("s"), Literal(1)), ".0")),
    ]
).map(Tensor)
tensor_arithmetic: st.SearchStrategy[Expr] = st.recursive(
    _references | numbers.filter(lambda e: isinstance(e, Literal)), _tensor, max_leaves=10
)
"""What `compute` can say, without values in it."""
