"""Symbolic sizes, held against Python's own integers."""

from __future__ import annotations

import operator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netspec.broadcast import broadcast
from netspec.shapes import (
    Dim,
    ListType,
    Problem,
    Size,
    TensorType,
    Undecided,
    bounds,
    provably_less,
    solve,
    substitute,
    symbols,
)

N, h, w = Dim("N"), Dim("h"), Dim("w")
SYMBOLS = ("N", "h", "w")

# An expression is a number, a symbol, or (operator, left, right). Divisors are positive, as sizes are.
_leaves = st.one_of(st.integers(-6, 12), st.sampled_from(SYMBOLS))
_divisors = st.one_of(st.integers(1, 9), st.sampled_from(SYMBOLS))
expressions = st.recursive(
    _leaves,
    lambda inner: st.one_of(
        st.tuples(st.sampled_from("+-*"), inner, inner), st.tuples(st.sampled_from(("//", "%")), inner, _divisors)
    ),
    max_leaves=8,
)
values = st.fixed_dictionaries({name: st.integers(1, 20) for name in SYMBOLS})
OPERATORS = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "//": operator.floordiv,
    "%": operator.mod,
}


def compute(expression: Any, scope: dict[str, Any]) -> Any:
    if isinstance(expression, tuple):
        sign, left, right = expression
        return OPERATORS[sign](compute(left, scope), compute(right, scope))
    return scope[expression] if isinstance(expression, str) else expression


def symbolic(expression: Any) -> Size:
    return compute(expression, {name: Dim(name) for name in SYMBOLS})


def at(size: Size, scope: dict[str, int]) -> Size:
    return size.substitute(scope) if isinstance(size, Dim) else size


@given(expressions, values)
@settings(max_examples=400)
def test_a_size_has_the_value_that_python_computes(expression: Any, scope: dict[str, int]) -> None:
    assert at(symbolic(expression), scope) == compute(expression, scope)


@given(expressions, values)
def test_a_size_prints_as_python(expression: Any, scope: dict[str, int]) -> None:
    size = symbolic(expression)
    assert eval(str(size), {}, scope) == at(size, scope)  # the text is ours, built from symbols and numbers


@given(expressions, expressions, values)
def test_equal_sizes_are_equal_everywhere(left: Any, right: Any, scope: dict[str, int]) -> None:
    a, b = symbolic(left), symbolic(right)
    if a == b:
        assert hash(a) == hash(b)
        assert compute(left, scope) == compute(right, scope)


@given(expressions, values)
def test_replacing_symbols_one_by_one_gives_the_same(expression: Any, scope: dict[str, int]) -> None:
    size = symbolic(expression)
    for name in SYMBOLS:
        size = at(size, {name: scope[name]})
    assert size == compute(expression, scope)


@given(expressions, values)
def test_bounds_hold(expression: Any, scope: dict[str, int]) -> None:
    size = symbolic(expression)
    low, high = bounds(size)
    value = compute(expression, scope)
    assert low is None or low <= value
    assert high is None or value <= high


@given(expressions, expressions, values)
def test_what_is_decided_is_true(left: Any, right: Any, scope: dict[str, int]) -> None:
    a, b = symbolic(left), symbolic(right)
    for compare in (operator.lt, operator.le, operator.gt, operator.ge):
        try:
            answer = compare(a, b)
        except Undecided:
            continue
        assert answer == compare(compute(left, scope), compute(right, scope))


@pytest.mark.parametrize(
    ("size", "same"),
    [
        (2 * (h + 1) - 2, 2 * h),
        (h // 2 // 2, h // 4),
        ((h + 1) // 2 // 3, (h + 1) // 6),
        ((4 * h + 6) // 2, 2 * h + 3),
        ((2 * h + 2 * 3 - 7) // 2 + 1, h),
        (4 * h // 6, 2 * h // 3),
        ((h + w) * (h - w), h**2 - w**2),
        (16 * h % 16, 0),
        ((16 * h + 5) % 16, 5),
        (N * 196 // 14, 14 * N),
        (N * h // h, N),
        ((N * h + h) // h, N + 1),
        (3 * (N + h) // (N + h), 3),
        (h - h, 0),
        (h // 1, h),
        (0 // h, 0),
        (h % 7 + h // 7 * 7, h),
    ],
)
def test_canonical_forms_meet(size: Size, same: Size) -> None:
    assert size == same


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (16 * h, "16*h"),
        (N * 196, "196*N"),
        ((h + 1) // 2, "(h + 1) // 2"),
        (3 * (h // 2), "3*(h // 2)"),
        (N * (h // 2) + 1, "N*(h // 2) + 1"),
        (h // 2 + w, "w + h // 2"),
        (2 * h - 3, "2*h - 3"),
        (1 - h, "-h + 1"),
        (N * N, "N**2"),
        (7 // h, "7 // h"),
        (N // (h + 1), "N // (h + 1)"),
    ],
)
def test_sizes_print_as_people_write_them(size: Size, text: str) -> None:
    assert str(size) == text


def test_numbers_stay_numbers() -> None:
    assert type(h - h + 3) is int
    assert type(at(h // 2, {"h": 9})) is int
    assert Dim("h") != 3


def test_order_is_decided_where_every_value_agrees() -> None:
    assert h > 0
    assert h >= 1
    assert 2 * h >= 2
    assert not h + 1 < 2
    assert h // 2 >= 0
    assert bool(h)
    for question in (lambda: h > 1, lambda: h < w, lambda: bool(h // 2), lambda: h - w > 0):
        with pytest.raises(Undecided, match="depends on h"):
            question()


def test_provably_less() -> None:
    assert provably_less(h, h + 1)
    assert provably_less(3, 4)
    assert provably_less(0, h)
    assert not provably_less(h, 5)
    assert not provably_less(h, h)


def test_division_by_zero_is_pythons() -> None:
    with pytest.raises(ZeroDivisionError):
        h // 0
    with pytest.raises(ZeroDivisionError):
        h % 0


def test_other_types_are_left_to_python() -> None:
    for wrong in (0.5, "2", None):
        with pytest.raises(TypeError):
            h + wrong  # type: ignore[operator]
    with pytest.raises(TypeError):
        h**-1


@pytest.mark.parametrize(
    ("pattern", "value", "answer"),
    [
        (16 * h, 224, 14),
        (16 * h, 30, None),
        (h + 1, 197, 196),
        (h + 1, 1, None),
        (2 * h - 1, 7, 4),
        (16 * h, 32 * w, 2 * w),
        (h, N + 2, N + 2),
        (h * h, 9, None),
        (h // 2, 4, None),
        (h * w, 6, None),
        (7, 7, None),
    ],
)
def test_solving_a_pattern(pattern: Size, value: Size, answer: Size | None) -> None:
    assert solve(pattern, "h", value) == answer


def test_symbols_and_substitution_of_shapes() -> None:
    shape = (N, 64, h // 2, h * w)
    assert symbols(shape) == {"N", "h", "w"}
    assert symbols(7) == frozenset()
    assert symbols((h + 1) // w) == {"h", "w"}
    assert substitute(shape, {"h": 9, "w": N}) == (N, 64, 4, 9 * N)


@pytest.mark.parametrize(
    ("a", "b", "together"),
    [
        ((N, 3), (N, 3), (N, 3)),
        ((N, 3, 1), (3, 5), (N, 3, 5)),
        ((), (N,), (N,)),
        ((1, h), (N, 1), (N, h)),
        ((4, 1), (1, 5), (4, 5)),
    ],
)
def test_broadcasting(a: tuple[Size, ...], b: tuple[Size, ...], together: tuple[Size, ...]) -> None:
    assert broadcast(a, b) == together
    assert broadcast(b, a) == together


def test_broadcasting_says_which_dimension_is_wrong() -> None:
    problem = broadcast((N, 64, 7, 7), (N, 128, 7, 7))
    assert isinstance(problem, Problem)
    assert problem.message == (
        "[N, 64, 7, 7] and [N, 128, 7, 7] do not go together: dimension -3 is 64 in the first and 128 in the second"
    )
    assert isinstance(broadcast((N,), (h,)), Problem)


def test_types_print_their_shapes() -> None:
    assert str(TensorType((N, 64, 16 * h))) == "[N, 64, 16*h]"
    assert str(TensorType(())) == "[]"
    assert str(ListType((TensorType((N, 3)), TensorType((N, 4))))) == "list of [N, 3], [N, 4]"
    assert len(ListType((TensorType((N,)),))) == 1
