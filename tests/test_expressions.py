"""Expressions: what can be written, what it is worth, what is said where it cannot be, and how it prints as Python.

The oracles are Python's own `eval` (on text that we printed, never on a spec's), `ruff format`, and torchvision's rule
for channel counts.
"""

from __future__ import annotations

import math
import shutil
import subprocess
import sys
import time
from pathlib import Path as FilePath
from typing import Any

import pytest
from expression_strategies import SCOPE, anything, tensor_arithmetic, valued
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from netspec.diagnostics import Diagnostics, Span
from netspec.document import Mapping, Scalar, parse_document
from netspec.expressions import (
    Binary,
    Expr,
    ExpressionError,
    Invalid,
    ListExpr,
    Literal,
    Name,
    Path,
    Template,
    Tensor,
    evaluate,
    fold,
    free_names,
    from_value,
    is_expression,
    literal,
    make_divisible,
    name_span,
    parse_compute,
    parse_scalar,
    python_requirements,
    report,
    size,
    substitute,
    tensors,
    to_python,
    to_text,
)
from netspec.shapes import Dim


def scalar(text: str) -> Scalar:
    return Scalar(text, Span("spec.yaml", 1, 1, 1, 1 + len(text)), text)


def parsed(text: str, *, paths: bool = False, compute: bool = False) -> Expr:
    diagnostics = Diagnostics()
    expr = parse_compute(scalar(text), diagnostics) if compute else parse_scalar(scalar(text), diagnostics, paths=paths)
    assert not diagnostics.found, diagnostics.found
    return expr


def value(text: str, **scope: object) -> Any:
    return evaluate(parsed(text), scope)


def failure(text: str, **scope: object) -> ExpressionError:
    with pytest.raises(ExpressionError) as caught:
        evaluate(parsed(text), scope)
    return caught.value


def outcome(expr: Expr, scope: dict[str, Any] | None = None) -> tuple[str, str]:
    """The value with its type (which `==` does not compare), or that there is none."""
    try:
        found = evaluate(expr, SCOPE if scope is None else scope)
    except ExpressionError as error:
        return "error", error.code
    return type(found).__name__, repr(found)


# What an expression is worth


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$width", 64),
        ("$(width * 4)", 256),
        ("$(64 * 2 ** s)", 256),
        ("$(2 if s > 0 and i == 0 else 1)", 2),
        ("$(int(width * 3 / 64) * 2)", 6),
        ("$(stride != 1 or width != 64)", False),
        ("$(depths[:s])", [3, 4]),
        ("$(depths[-1])", 3),
        ("$(sum(depths[:s]) + i)", 7),
        ("$([ceil(d * 1.2) for d in depths if d > 3])", [5, 8]),
        ("$([a * b for a, b in zip(depths, range(4))])", [0, 4, 12, 9]),
        ("$(reversed(range(3)))", [2, 1, 0]),
        ("$(make_divisible(35 * 0.75, 8))", 24),
        ("$(round(0.25 * width))", 16),
        ("$(sqrt(2 / width))", math.sqrt(2 / 64)),
        ("$(-log((1 - 0.01) / 0.01))", -math.log(99)),
        ("$(act is not null and act != 'relu')", True),
        ("$([1, 2.5, 'a', true, null])", [1, 2.5, "a", True, None]),
        ("$((1, 2))", [1, 2]),
        ("$(3 in depths)", True),
        ("$(0 < s < 3)", True),
        ("layer$(s + 1)", "layer3"),
        ("encoder_layer_$i", "encoder_layer_0"),
        ("block$(s + 1)-$i", "block3-0"),
        ("downs.$i", "downs.0"),
        ("$true", True),
        ("$(null)", None),
        ("$(größe * ﬁ)", 6),
        ("$ﬁ", 2),
        ("inner_blocks.$(s - 1)", "inner_blocks.1"),
        ("block$(i).0", "block0.0"),
        ("costs $$5", "costs $5"),
        ("$$width", "$width"),
        ("$(width)$$", "64$"),
        (" $i ", " 0 "),
    ],
)
def test_values(text: str, expected: object) -> None:
    scope = {"width": 64, "s": 2, "i": 0, "stride": 1, "depths": [3, 4, 6, 3], "act": "gelu", "größe": 3, "ﬁ": 2}
    found = value(text, **scope)
    assert found == expected
    assert type(found) is type(expected)


def test_a_scalar_without_dollar_is_its_value() -> None:
    for plain in (3, 0.5, True, None, "a text"):
        node = Scalar(plain, Span("spec.yaml", 1, 1, 1, 2), str(plain))
        assert parse_scalar(node, Diagnostics()) == Literal(plain)
        assert not is_expression(node)
    assert is_expression(scalar("layer$i"))


def test_literals_of_different_types_differ() -> None:
    assert len({Literal(1), Literal(1.0), Literal(True), Literal(0.0), Literal(-0.0)}) == 5
    assert Literal(math.nan) == Literal(math.nan)


def test_document_paths() -> None:
    document = {"train": {"epochs": 20, "groups": [{"lr": 0.1}]}}
    for text in ("$train.epochs", "$(train.epochs)", "$(train.groups.0.lr * 200)"):
        assert evaluate(parsed(text, paths=True), document) == 20
    assert parsed("$train.epochs", paths=True) == Path(("train", "epochs"))
    with pytest.raises(ExpressionError) as caught:
        evaluate(parsed("$(train.epoch)", paths=True), document)
    assert (caught.value.code, caught.value.help) == ("NS210", "did you mean `train.epochs`?")


def test_names_reach_the_scope_lazily() -> None:
    assert value("$(a if flag else missing)", a=1, flag=True) == 1
    assert value("$(flag or missing)", flag=True) is True
    assert value("$(off and missing)", off=False) is False


def test_opaque_values_pass_through() -> None:
    block = object()
    assert value("$block", block=block) is block
    assert value("$(block is not null)", block=block) is True
    assert value("$(block == other)", block=block, other=block) is True
    assert value("$(block if wide else null)", block=block, wide=True) is block
    assert "a block or layer" in failure("$(block + 1)", block=block).message


def test_sizes_that_are_open_flow_through() -> None:
    height = Dim("H")
    assert value("$((window - H % window) % window)", H=height, window=7) == (7 - height % 7) % 7
    assert value("$(16 * H // 4)", H=height) == 4 * height
    error = failure("$(1 if H > 3 else 2)", H=height)
    assert error.code == "NS213"
    assert "open until the model runs" in error.message
    assert failure("$(max(3, H))", H=height).code == "NS213"


class Remembering(int):
    """An integer whose arithmetic leaves a trace, as the compiler's sizes do."""

    trace: str

    def __new__(cls, number: int, trace: str) -> Remembering:
        made = super().__new__(cls, number)
        made.trace = trace
        return made

    def __mul__(self, other: int) -> Remembering:
        return Remembering(int(self) * other, f"{self.trace} * {other}")

    def apply(self, function: str, arguments: tuple[Any, ...], result: Any) -> Remembering:
        return Remembering(result, f"{function}({', '.join(getattr(a, 'trace', repr(a)) for a in arguments)})")


def test_functions_keep_what_a_size_remembers() -> None:
    size = Remembering(12, "C")
    assert value("$(C * 4)", C=size).trace == "C * 4"
    assert value("$(max(1, C * 2))", C=size).trace == "max(1, C * 2)"
    assert value("$(make_divisible(C, 8))", C=size).trace == "make_divisible(C, 8)"
    assert value("$(make_divisible(C, 8))", C=size) == 16


@pytest.fixture(scope="module")
def torchvisions_rule() -> Any:
    return pytest.importorskip("torchvision.models._utils")._make_divisible


@given(v=st.floats(0.1, 5000) | st.integers(1, 5000), divisor=st.integers(1, 64))
def test_make_divisible_is_torchvisions(torchvisions_rule: Any, v: float, divisor: int) -> None:
    assert make_divisible(v, divisor) == torchvisions_rule(v, divisor)


def test_shape_is_asked_of_the_caller() -> None:
    sizes = {"up": [2, 64, 8, 8], "blocks.1": [2, 32, 4, 4]}
    functions = {"shape": lambda name: sizes[name]}
    assert evaluate(parsed("$(shape(up)[2:])"), {}, functions=functions) == [8, 8]
    assert evaluate(parsed("$(shape(blocks.$i)[1])"), {"i": 1}, functions=functions) == 32
    assert evaluate(parsed("$(shape(blocks.$(i - 1))[1])"), {"i": 2}, functions=functions) == 32
    assert "layer's arguments" in failure("$(shape(up))").message


# Tensor arithmetic


def test_compute_tells_tensors_from_values() -> None:
    expr = parsed("qkv_parts.0 * $(head_dim ** -0.5) + $scale * x", compute=True)
    assert tensors(expr) == (Tensor("qkv_parts.0"), Tensor("x"))
    assert free_names(expr) == {"head_dim", "scale"}
    assert to_python(expr) == "qkv_parts[0] * head_dim**-0.5 + scale * x"


def test_compute_references_may_be_templates() -> None:
    (reference,) = tensors(parsed("up + inner_blocks.$(levels - 1)", compute=True))[1:]
    assert reference == Tensor(Template(("inner_blocks.", Binary("-", Name("levels"), Literal(1)))))
    assert to_python(parsed("block$(i).0 * 2", compute=True), tensors=lambda name: "parts[0]") == "parts[0] * 2"


@pytest.mark.parametrize(
    "text",
    [
        "x + up",
        "-mean",
        "encoder[:, 0]",
        "lstm.h_n[-2:]",
        "row[:, None] - row[None, :] + $window - 1",
        "even[..., 1::2, 0::2, :]",
        "unrolled[:, :$H, :$W, :]",
        "(ids[:, None, :] != ids[:, :, None]) * -100.0",
        "q @ k * 0.5",
        "x ** 2 // 3 % 5 / 1e-6",
    ],
)
def test_compute_does_what_python_does(text: str) -> None:
    """The values of tensors are numpy arrays here, which have the same operators."""
    numpy = pytest.importorskip("numpy")
    random = numpy.random.default_rng(0)
    names = {"window": 7, "H": 3, "W": 2}
    arrays = {
        "x": random.normal(size=(4, 4)), "up": random.normal(size=(4, 4)), "mean": random.normal(size=4),
        "encoder": random.normal(size=(2, 5, 3)), "lstm.h_n": random.normal(size=(4, 2)), "row": random.normal(size=5),
        "even": random.normal(size=(2, 6, 6, 3)), "unrolled": random.normal(size=(2, 6, 6, 3)),
        "ids": random.normal(size=(3, 4)), "q": random.normal(size=(3, 4)), "k": random.normal(size=(4, 3)),
    }  # fmt: skip
    expr = parsed(text, compute=True)
    scope = {name.partition(".")[0]: array for name, array in arrays.items()} | names
    expected = eval(to_python(expr, tensors=lambda name: str(name).partition(".")[0]), {}, scope)
    assert numpy.array_equal(evaluate(expr, names, tensors=arrays), expected)


# What is said where a text cannot be read


@pytest.mark.parametrize(
    ("text", "code", "marked", "message"),
    [
        ("$(max(1, width)", "NS202", "$(max(1, width)", "not closed"),
        ("cost: $5", "NS208", "$", "stands alone"),
        ("$()", "NS201", "$()", "empty"),
        ("$(a b)", "NS201", None, "no complete expression"),
        ("$(width +)", "NS201", "+", "missing after `+`"),
        ("$(a and)", "NS201", "and", "missing after `and`"),
        ("$(a = 3)", "NS201", "=", "`=` compares nothing"),
        ("$(a && b)", "NS201", "&&", "`&&` is no operator"),
        ("$(!a)", "NS201", "!", "`!` is no operator"),
        ("$(a ? b : c)", "NS201", "?", "`?` is no operator"),
        ("$(class + 1)", "NS201", "class", "a word of Python's own"),
        ("$('a\nb' + x.y)", "NS201", None, "on one line"),
        ("$(1 # one)", "NS201", "# one", "`#` cannot stand"),
        ("$(x.y)", "NS206", "x.y", "path into the document"),
        ("$train.epochs", "NS206", "$train.epochs", "path into the document"),
        ("$(widths.0)", "NS206", "widths.0", "no value"),
        ("$(a[0].real)", "NS203", "a[0].real", "no attributes"),
        ("$(x.append(1))", "NS203", "x.append", "only by name"),
        ("$(1 + (lambda: 3))", "NS203", "lambda: 3", "lambda"),
        ("$(f'{a}')", "NS203", "f'{a}'", "f-string"),
        ("$((a := 3))", "NS203", "a := 3", ":="),
        ("$({1: 2})", "NS203", "{1: 2}", "mapping"),
        ("$({1, 2})", "NS203", "{1, 2}", "set"),
        ("$(sum(x for x in xs))", "NS203", "(x for x in xs)", "generator"),
        ("$([*a])", "NS203", "*a", "unpack"),
        ("$([x for x in a for y in b])", "NS203", "[x for x in a for y in b]", "one `for`"),
        ("$(a ^ 2)", "NS203", "a ^ 2", "`^`"),
        ("$(~a)", "NS203", "~a", "`~`"),
        ("$(1j)", "NS203", "1j", "complex"),
        ("$(b'a')", "NS203", "b'a'", "bytes"),
        ("$(a is 3)", "NS203", "a is 3", "`is` is for `null`"),
        ("$($a + 1)", "NS203", "$a", "without `$`"),
        ("$(round(x, ndigits=2))", "NS203", "round", "without names"),
        ("$(maks(1, 2))", "NS204", "maks", "no function `maks`"),
        ("$(open('x'))", "NS204", "open", "no function `open`"),
        ("$(sqrt(1, 2))", "NS205", "sqrt(1, 2)", "takes 1 argument, and here are 2"),
        ("$(range())", "NS205", "range()", "takes 1 to 3 arguments, and here are none"),
        ("layer$(größe + x.y)", "NS206", "x.y", "path"),
        ("$('ü' + (lambda: 3))", "NS203", "lambda: 3", "lambda"),
        ("a $(b) $(c.d)", "NS206", "c.d", "path"),
    ],
)
def test_what_cannot_be_read_is_marked(text: str, code: str, marked: str | None, message: str) -> None:
    diagnostics = Diagnostics()
    assert parse_scalar(scalar(text), diagnostics) == Invalid()
    (found,) = diagnostics
    assert (found.code, message in found.message) == (code, True), found
    assert found.span is not None
    if marked is not None:
        assert text[found.span.column - 1 : found.span.end_column - 1] == marked


@pytest.mark.parametrize(
    ("text", "code", "marked"),
    [
        ("relu(x) + 1", "NS209", "relu(x)"),
        ("x and y", "NS209", "x and y"),
        ("x if y else z", "NS209", "x if y else z"),
        ("0 < x < 1", "NS209", "0 < x < 1"),
        ("x.0 & y.1", "NS209", "x.0 & y.1"),
        ("[x, y]", "NS209", "[x, y]"),
        ("x + 'a'", "NS209", "'a'"),
        ("x + ...", "NS209", "..."),
        ("x[0].y", "NS209", "x[0].y"),
        ("x + $(open(1))", "NS204", "open"),
        ("x + $(a", "NS202", "$(a"),
        ("x $$ y", "NS208", "$$"),
        ("x +", "NS201", "+"),
        ("", "NS201", ""),
    ],
)
def test_what_compute_cannot_do_is_marked(text: str, code: str, marked: str) -> None:
    diagnostics = Diagnostics()
    assert parse_compute(scalar(text), diagnostics) == Invalid()
    (found,) = diagnostics
    assert found.code == code, found
    assert found.span is not None
    assert text[found.span.column - 1 : found.span.end_column - 1] == marked


@pytest.mark.parametrize(
    ("yaml", "line", "column"),
    [
        ("a: $(1 + x.y)", 1, 10),
        ('a: "$(1 + x.y)"', 1, 11),
        ("a: '$(''b'' + x.y)'", 1, 15),
        ('a: "\\u0024(1 + x.y)"', 1, 16),
        ("a: >-\n  $(1 +\n  x.y)", 3, 3),
        ("a:\n  $(1 +\n    x.y)", 3, 5),
    ],
)
def test_columns_are_those_of_the_file(yaml: str, line: int, column: int) -> None:
    diagnostics = Diagnostics()
    document = parse_document(yaml, "spec.yaml", diagnostics)
    assert isinstance(document, Mapping)
    node = document.items["a"]
    assert isinstance(node, Scalar)
    parse_scalar(node, diagnostics)
    (found,) = diagnostics
    assert found.span is not None
    assert (found.span.line, found.span.column) == (line, column)


def test_a_scalar_without_source_is_marked_whole() -> None:
    diagnostics = Diagnostics()
    node = Scalar("$(x.y)", Span("<mapping>", 1, 1, 1, 1))
    parse_scalar(node, diagnostics)
    assert [found.span for found in diagnostics] == [node.span]


def test_a_reported_mistake_is_not_reported_twice() -> None:
    diagnostics = Diagnostics()
    node = scalar("$(x.y)")
    with pytest.raises(ExpressionError) as caught:
        evaluate(parse_scalar(node, diagnostics), {})
    report(caught.value, node, diagnostics)
    assert len(diagnostics) == 1


def test_an_unknown_name_is_marked_where_it_stands() -> None:
    diagnostics = Diagnostics()
    node = scalar("widht-$(2 * widht)")
    with pytest.raises(ExpressionError) as caught:
        evaluate(parse_scalar(node, diagnostics), {"width": 3})
    report(caught.value, node, diagnostics)
    (found,) = diagnostics
    assert (found.code, found.help) == ("NS210", "did you mean `width`?")
    assert found.span == Span("spec.yaml", 1, 13, 1, 18)


def test_tensors_are_found_in_compute() -> None:
    def columns(text: str, name: str) -> tuple[int, int]:
        span = name_span(scalar(text), name)
        return span.column, span.end_column

    assert columns("fc2 + fc * $scale", "fc") == (7, 9)
    assert columns("fc * $scale", "scale") == (7, 12)
    assert columns("qkv.0 * 2", "qkv.0") == (1, 6)
    assert columns("block$(i).0 + x", "block1.0") == (1, 16)


# What is said where a value cannot be computed


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        ("$(wdith)", "NS210", "`wdith` is not known here"),
        ("$(8 // zero)", "NS211", "`8 // zero` divides by zero"),
        ("$(8 % zero)", "NS211", "divides by zero"),
        ("$(word + 1)", "NS211", '`+` cannot combine the text "relu" with the whole number 1'),
        ("$(-xs)", "NS211", "`-` cannot stand before a list of 3"),
        ("$(word < 1)", "NS211", 'cannot compare the text "relu" with the whole number 1'),
        ("$(xs[3])", "NS211", "`xs` is a list of 3, so it has no item 3"),
        ("$(xs['a'])", "NS211", "needs whole numbers between `[` and `]`"),
        ("$(n[0])", "NS211", "`n` is the whole number 7, which has no items"),
        ("$(none * 2)", "NS211", "null"),
        ("$(max([]))", "NS211", "nothing to choose from"),
        ("$(int(word))", "NS211", '`int` has no result for the text "relu"'),
        ("$(sqrt(-1))", "NS211", "`sqrt` has no result for the whole number -1"),
        ("$((-8) ** 0.5)", "NS211", "no real root"),
        ("$(int(1e308 * 10))", "NS211", "no finite value"),
        ("$(len(n))", "NS211", "`len` has no result for the whole number 7"),
        ("$([a for a in n])", "NS211", "`n` is the whole number 7, not a list"),
        ("$([a for a, b in xs])", "NS211", "needs lists of 2 values"),
        ("$(make_divisible(8, zero))", "NS211", "at least 1"),
        ("$('%1000000000d' % 5)", "NS211", "not formatted"),
        ("x$xs", "NS211", "a list of 3 and cannot become part of a text"),
    ],
)
def test_what_has_no_value_is_said_in_words(text: str, code: str, message: str) -> None:
    error = failure(text, **SCOPE)
    assert (error.code, message in error.message) == (code, True), error.message


@pytest.mark.parametrize(
    "text",
    [
        "$(2 ** 100000)",
        "$(2 ** -100000)",
        "$(9 ** 9 ** 9)",
        "$(((2 ** 1000) ** 2) * 2 ** 1000)",
        "$([0] * 100000)",
        "$(100000 * [0])",
        "$('a' * 100000)",
        "$([[0] * 5000] * 5000)",
        "$(range(10 ** 30))",
        "$(range(100000))",
        "$([[i * j for i in range(9999)] for j in range(9999)])",
        "$(sum([sum([i * j for i in range(9999)]) for j in range(9999)]))",
        "$([xs == xs for xs in [[range(9999)] * 1 for i in range(9999)]])",
        "$(round(5, -1000000000))",
        "$(reversed(range(9999)) + range(9999))",
        "$(['a' * 9999 for i in range(9999)])",
        "$([max([[0] * 4000, [0] * 4000]) == 0 for i in range(9999)])",
        "$(zip(range(9999), range(9999)))",
        "$((height + 1) ** 1000)",
        "$((height * 2) ** 60 ** 3)",
        "$([(height * i) ** 64 for i in range(9999)][-1] ** 64)",
        "$((height + width + 1) ** 4 * (height + width - 1) ** 4)",
    ],
)
def test_nothing_grows_past_the_limits(text: str) -> None:
    start = time.process_time()
    assert failure(text, height=Dim("H"), width=Dim("W")).code == "NS212"
    assert time.process_time() - start < 2


@pytest.mark.parametrize(
    "text",
    [
        "$(" + "(" * 500 + "1" + ")" * 500 + ")",
        "$(" + "-" * 3000 + "1)",
        "$(" + "not " * 900 + "1)",
        "$(" + "1 + " * 900 + "1)",
        "$(" + "x" * 100_000 + ")",
        "$(" + "9" * 3900 + ")",
        "$(" + "[" * 61 + "]" * 61 + ")",
        "$(" + "a if b else " * 300 + "c)",
    ],
)
def test_no_text_is_too_large_for_an_answer(text: str) -> None:
    diagnostics = Diagnostics()
    start = time.process_time()
    parse_scalar(scalar(text), diagnostics)
    parse_compute(scalar(text), diagnostics)
    assert time.process_time() - start < 2
    assert {found.code for found in diagnostics} <= {"NS201", "NS207", "NS209"}
    assert len(diagnostics.found) == 2


_PIECES = """
$ $( $$ ( ) [ ] { } a b.0 x.y 1 2.5 1e5 0x + - * ** // / % @ == != < = := , : . ... ' " \\ # f' null True é 变
and or not if else for in is lambda max( sum( shape(
"""
_fragments = st.lists(st.sampled_from([*_PIECES.split(), " ", "\n", "\t", "\0", "\r", "\x0c"]), max_size=25).map(
    "".join
)


@settings(max_examples=600, deadline=2000, suppress_health_check=[HealthCheck.too_slow])
@given(_fragments | st.text(max_size=40) | _fragments.map(lambda text: f"$({text})"), st.booleans())
def test_any_text_gives_a_tree_or_one_diagnostic(text: str, paths: bool) -> None:
    for parse in (lambda node, found: parse_scalar(node, found, paths=paths), parse_compute):
        diagnostics = Diagnostics()
        expr = parse(scalar(text), diagnostics)
        assert (expr == Invalid()) == (len(diagnostics.found) == 1)
        for found in diagnostics:
            assert found.code.startswith("NS20")
            assert found.message
            assert found.span is not None
        try:
            evaluate(expr, SCOPE, tensors={"x": 2})
        except ExpressionError as error:
            assert error.message


# Printing


@pytest.mark.parametrize(
    ("text", "python"),
    [
        ("$(64 * 2 ** s)", "64 * 2**s"),
        ("$((a + b) ** 2)", "(a + b) ** 2"),
        ("$(x[0] ** 2)", "x[0] ** 2"),
        ("$(2 ** -1)", "2**-1"),
        ("$((-1) ** n)", "(-1) ** n"),
        ("$(-x ** 2)", "-(x**2)"),
        ("$(not x ** 2)", "not (x**2)"),
        ("$(a - (b - c))", "a - (b - c)"),
        ("$((a - b) - c)", "a - b - c"),
        ("$((a and b) and c)", "a and b and c"),
        ("$(not (a or b))", "not (a or b)"),
        ("$((a if b else c) if d else e)", "(a if b else c) if d else e"),
        ("$(a if b else (c if d else e))", "a if b else c if d else e"),
        ("$(depths[:s + 1])", "depths[: s + 1]"),
        ("$(depths[s:])", "depths[s:]"),
        ("$(depths[-n:a.b])", "depths[-n : a.b]"),
        ("$(x[::2])", "x[::2]"),
        ("$(x[not a:])", "x[not a :]"),
        ("$('it\\'s')", '"it\'s"'),
        ("$('say \"a\"')", "'say \"a\"'"),
        ("$(1e-6)", "1e-06"),
        ("$(10.0 ** 20)", "10.0**20"),
        ("$(null)", "None"),
        ("$(sqrt(2 / fan_out))", "math.sqrt(2 / fan_out)"),
        ("$(ceil(x))", "math.ceil(x)"),
        ("$(reversed(range(n)))", "list(reversed(range(n)))"),
        ("$([i for i in reversed(range(n))])", "[i for i in reversed(range(n))]"),
        ("$(sum(range(n)))", "sum(range(n))"),
        ("$([w for w, d in zip(a, b)])", "[w for w, d in zip(a, b)]"),
        ("$([p for p in zip(a, b)])", "[p for p in list(map(list, zip(a, b)))]"),
        ("layer$(s + 1)", 'f"layer{s + 1}"'),
        ("block$(s + 1)-$i{}", 'f"block{s + 1}-{i}{{}}"'),
        ("a$(x['b'])", '"a" + str(x["b"])'),
        ("$(shape(up)[2:])", "up.shape[2:]"),
    ],
)
def test_python(text: str, python: str) -> None:
    assert to_python(parsed(text, paths=True)) == python


def test_loops_need_no_lists() -> None:
    assert to_python(parsed("$(reversed(range(n)))"), iterated=True) == "reversed(range(n))"
    assert to_python(parsed("$(range(n))"), iterated=True) == "range(n)"


def test_names_can_become_other_text_and_expressions() -> None:
    expr = parsed("$(width ** 2 * planes + [width for i in range(2)][0])")
    new = {"width": "self.width", "planes": Binary("+", Name("width"), Literal(1))}
    assert to_python(expr, new.__getitem__) == "self.width**2 * (width + 1) + [self.width for i in range(2)][0]"
    assert to_python(parsed("$(C ** 2)"), lambda name: "x.shape[1]") == "x.shape[1] ** 2"


def test_requirements() -> None:
    assert python_requirements(parsed("$([ceil(x) for x in xs])")) == {"math"}
    assert python_requirements(parsed("a$(make_divisible(x, 8))")) == {"make_divisible"}
    assert python_requirements(parsed("$(max(1, x))")) == set()


def test_what_has_no_text_is_refused() -> None:
    with pytest.raises(TypeError):
        literal(object())
    with pytest.raises(TypeError):
        from_value({"a": 1})
    assert from_value([1, (None, "a")]) == ListExpr((Literal(1), ListExpr((Literal(None), Literal("a")))))


@settings(max_examples=400, deadline=None)
@given(anything)
def test_printed_text_parses_back(expr: Expr) -> None:
    text = f"$({to_text(expr)})"
    assume(len(text) < 4000)
    assert parsed(text) == expr


@settings(max_examples=200, deadline=None)
@given(tensor_arithmetic)
def test_printed_tensor_arithmetic_parses_back(expr: Expr) -> None:
    assert parsed(to_text(expr), compute=True) == expr


@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(valued)
def test_python_finds_the_same_value(expr: Expr) -> None:
    """Except where Python goes on to complex numbers or past our limits."""
    source = to_python(expr)
    try:
        found = evaluate(expr, SCOPE)
    except ExpressionError as error:
        assume(error.code != "NS212" and "no real root" not in error.message)
        with pytest.raises((ArithmeticError, TypeError, ValueError, LookupError)):
            eval(source, {"math": math, "make_divisible": make_divisible, **SCOPE})
        return
    value = eval(source, {"math": math, "make_divisible": make_divisible, **SCOPE})
    assert (type(found), repr(found)) == (type(value), repr(value)), source


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(valued, st.dictionaries(st.sampled_from(["n", "m", "zero", "rate", "flag"]), st.integers(-3, 3)))
def test_folding_keeps_every_value(expr: Expr, known: dict[str, int]) -> None:
    """Whatever of the scope is known: folding what remains and evaluating it later gives the same."""
    partly = substitute(expr, {name: Literal(value) for name, value in known.items()})
    scope = {**SCOPE, **known}
    before = outcome(partly, scope)
    assert before == outcome(expr, scope)
    folded = fold(partly)
    assert size(folded) <= size(partly)
    assert fold(folded) == folded
    if before[0] != "error":
        # `True * 1` may stay True: a bool is equal to the number that it stands for.
        assert evaluate(folded, scope) == evaluate(partly, scope) or before[1] == "nan"


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("$(2 ** 0)", "1"),
        ("$(64 * 2 ** 3)", "512"),
        ("$(planes * 1)", "planes"),
        ("$(0 + planes)", "planes"),
        ("$(planes + 0 * 3)", "planes"),
        ("$(2 if 0 > 0 and i == 0 else 1)", "1"),
        ("$(2 if 1 > 0 and i == 0 else 1)", "2 if i == 0 else 1"),
        ("$(stride != 1 or true)", "stride != 1 or True"),
        ("$(true or stride)", "True"),
        ("$([1, 2][0] * planes)", "planes"),
        ("$(int(64 * 64 / 64) * g)", "64 * g"),
        ("$(1 // 0)", "1 // 0"),
        ("$(range(3))", "list(range(3))"),
        ("$(not 0)", "True"),
        ("$(reversed(widths)[0])", "widths[-1]"),
        ("$(reversed(reversed(widths))[-2])", "widths[-2]"),
        ("$(zip(widths, reversed(depths))[1][1] * 2)", "depths[-2] * 2"),
        ("$(zip(a, b)[-1][0])", "list(map(list, zip(a, b)))[-1][0]"),
        ("$(reversed([1, 2, 3])[0])", "3"),
    ],
)
def test_folding(text: str, folded: str) -> None:
    assert to_python(fold(parsed(text))) == folded


def test_substitution_captures_nothing() -> None:
    expr = parsed("$([i * w for i in range(w)])")
    replaced = substitute(expr, {"w": parsed("$(i + 1)")})
    assert free_names(replaced) == {"i"}
    assert evaluate(replaced, {"i": 2}) == [0, 3, 6]
    assert substitute(expr, {"i": Literal(5)}) == expr


def test_size_counts_shared_parts_in_linear_time() -> None:
    expr: Expr = Name("a")
    for _ in range(60):
        expr = Binary("+", expr, expr)
    assert size(expr) == 2**61 - 1


@pytest.fixture(scope="module")
def ruff() -> str:
    found = shutil.which("ruff") or shutil.which("ruff", path=str(FilePath(sys.executable).parent))
    if not found:
        pytest.skip("needs ruff")
    return found


def test_ruff_leaves_the_text_as_it_is(ruff: str) -> None:
    """Names become attributes in half of the lines, as the emitter makes them."""
    lines: dict[str, None] = {}

    def port(name: str | Template) -> str:
        return name.replace(".0", "[0]") if isinstance(name, str) else "blocks[i]"

    @settings(max_examples=800, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(anything | valued | tensor_arithmetic)
    def collect(expr: Expr) -> None:
        for text in (to_python(expr, tensors=port), to_python(expr, "self.{}".format, tensors=port)):
            if len(text) < 300:
                lines[f"value = {text}"] = None

    collect()
    assert len(lines) > 300
    command = [ruff, "format", "--isolated", "--line-length", "320", "-"]
    source = "\n".join([*lines, ""])
    done = subprocess.run(command, input=source, capture_output=True, text=True, encoding="utf-8", check=True)
    assert done.stdout.splitlines() == list(lines)


def test_importing_brings_little_with_it() -> None:
    """`validate` reads expressions on every start: no regular expressions, no YAML, nothing that runs at import."""
    code = (
        "import sys, ast, dataclasses, netspec.document, netspec.suggest\n"
        "before = set(sys.modules)\nimport netspec.expressions\nprint(*(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    others = {name for name in done.stdout.split() if not name.startswith("netspec.")}
    assert others <= {"math", "typing", "warnings"}
