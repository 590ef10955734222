"""YAML text to nodes: the scalars of YAML 1.2, places, limits, and that no text whatever breaks the parser."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from netspec.diagnostics import Diagnostics, Span
from netspec.document import (
    Mapping,
    Node,
    Scalar,
    Sequence,
    parse_document,
    parse_value,
    part_of,
    plain,
    read_document,
)
from netspec.render import render

ROOT = Path(__file__).resolve().parent.parent
SPECS = sorted((ROOT / "specs").rglob("*.yaml"))
CASES = sorted((ROOT / "tests" / "golden" / "diagnostics").glob("NS0*/spec.yaml"))


def parse(text: str) -> Mapping:
    """The document, which has to be without a mistake."""
    diagnostics = Diagnostics()
    document = parse_document(text, "spec.yaml", diagnostics)
    assert list(diagnostics) == []
    assert document is not None
    return document


def codes(text: str) -> list[str]:
    diagnostics = Diagnostics()
    parse_document(text, "spec.yaml", diagnostics)
    return [found.code for found in diagnostics]


def nodes(node: Node) -> Iterator[Node]:
    yield node
    if isinstance(node, Sequence):
        for item in node.items:
            yield from nodes(item)
    elif isinstance(node, Mapping):
        for item in node.items.values():
            yield from nodes(item)


def at(text: str, span: Span) -> str:
    lines = text.splitlines(keepends=True)[span.line - 1 : span.end_line]
    lines[-1] = lines[-1][: span.end_column - 1]
    lines[0] = lines[0][span.column - 1 :]
    return "".join(lines)


# Scalars

CORE_SCHEMA = [
    (r"null|Null|NULL|~|", type(None)),
    (r"true|True|TRUE|false|False|FALSE", bool),
    (r"[-+]?[0-9]+", int),
    (r"0o[0-7]+", int),
    (r"0x[0-9a-fA-F]+", int),
    (r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", float),
    (r"[-+]?(\.inf|\.Inf|\.INF)", float),
    (r"\.nan|\.NaN|\.NAN", float),
    (r".*", str),
]
"""The table of YAML 1.2.2, section 10.3.2, in its order."""


@given(st.text(alphabet="0123456789+-.eExXoOabfFinINulNULtrsTRSy~_", max_size=8))
@example("1e-3")
@example("3E4")
@example("012")
@example("1_000")
@example("0b1")
@example("+.inf")
@example("0o17")
@example("0x1F")
@example("-")
@example("-0o7")
def test_plain_scalars_are_those_of_the_core_schema(text: str) -> None:
    if text == "-":
        return  # an indicator, not a scalar
    expected = next(kind for pattern, kind in CORE_SCHEMA if re.fullmatch(pattern, text))
    value = plain(parse(f"key: {text}"))["key"]
    assert type(value) is expected
    if expected is str:
        assert value == text
    elif expected is int and text[:2] not in ("0x", "0o"):
        assert value == int(text)
    elif expected is float and any(character.isdigit() for character in text):
        assert value == float(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("3E4", 30000.0),
        ("012", 12),
        ("1:30", "1:30"),
        ("0x1F", 31),
        ("0o17", 15),
        ("-.inf", -math.inf),
        ("on", "on"),
        ("Off", "Off"),
        ("yes", "yes"),
        ("NO", "NO"),
        ("~", None),
        ("", None),
        ("2001-01-01", "2001-01-01"),
        ("1_000", "1_000"),
        ("'12'", "12"),
        ('"true"', "true"),
        ("!!str 12", "12"),
        ("!!float 1", 1.0),
        ('!!int "12"', 12),
        ("! 12", "12"),
        ("!!null ''", None),
        ("layer$(s + 1)", "layer$(s + 1)"),
        ("$$5", "$$5"),
    ],
)
def test_scalar(text: str, value: object) -> None:
    found = plain(parse(f"key: {text}"))["key"]
    assert found == value
    assert type(found) is type(value)


def test_not_a_number() -> None:
    assert math.isnan(plain(parse("key: .nan"))["key"])


# Places


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_every_value_stands_where_its_span_says(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    found = list(nodes(parse(text)))
    assert len(found) > 5
    for node in found:
        if isinstance(node, Scalar):
            assert at(text, node.span) == node.text
            if not node.quoted and isinstance(node.value, str):
                assert node.text == node.value
        elif isinstance(node, Mapping):
            for key, span in node.key_spans.items():
                assert at(text, span).strip("\"'") == key


def test_spans_of_collections_end_with_their_last_value() -> None:
    text = "a:\n  b: {c: 1}\n  d:\n    - x\n    - [y,\n       z]\n\n# end\ne: 1\n"
    document = parse(text)
    a = document.items["a"]
    assert isinstance(a, Mapping)
    assert a.span == Span("spec.yaml", 2, 3, 6, 10)
    assert a.items["b"].span == Span("spec.yaml", 2, 6, 2, 12)
    assert a.items["d"].span == Span("spec.yaml", 4, 5, 6, 10)


def test_anchors_and_tags_are_no_part_of_a_scalar() -> None:
    node = parse("a: &x !!str  12\nb: *x\n").items["b"]
    assert isinstance(node, Scalar)
    assert (node.value, node.text, node.span.column) == ("12", "12", 14)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends(end: str) -> None:
    document = parse(f"a: 1{end}b: 2{end}")
    assert document.items["b"].span == Span("spec.yaml", 2, 4, 2, 5)


def test_columns_count_code_points_and_lines_end_as_in_an_editor() -> None:
    document = parse('a: "\u2028 \x85 日本 😀"\nb: {c: "😀", d: 2}\n')
    inner = document.items["b"]
    assert isinstance(inner, Mapping)
    assert inner.items["d"].span == Span("spec.yaml", 2, 16, 2, 17)


def test_a_byte_order_mark_takes_no_column(tmp_path: Path) -> None:
    file = tmp_path / "spec.yaml"
    file.write_bytes("\ufeffkey: 1\n".encode())
    document = read_document(file, Diagnostics())
    assert document is not None
    assert document.key_spans["key"].column == 1


@pytest.mark.parametrize(
    ("text", "inside", "place"),
    [
        ("key: $(a + b)", "b", (1, 12)),
        ("key: '$(a ++ ''x'' + b)'", "b", (1, 22)),
        (r'key: "$(a\n\u00e9 + \x62b)"', "+", (1, 19)),
        ("key: $(a\n  + b)", "b", (2, 5)),
        ("key: '$(a\n\n  + b)'", "b", (3, 5)),
        ("key: |\n  $(a +\n     b)\n", "b", (3, 6)),
        ("key: >-\n  $(a +\n  b)\n", "b", (3, 3)),
        ('key: "$(a \\\n   + b)"', "b", (2, 6)),
    ],
)
def test_part_of_a_scalar(text: str, inside: str, place: tuple[int, int]) -> None:
    node = parse(text).items["key"]
    assert isinstance(node, Scalar)
    index = str(node.value).rindex(inside)
    span = part_of(node, index, index + 1)
    assert (span.line, span.column) == place
    assert (span.end_line, span.end_column) == (place[0], place[1] + 1)


@given(st.text(alphabet="ab$(' \"\\\n\té", min_size=1, max_size=20), st.sampled_from(["dump", "single", "block"]))
def test_part_of_finds_each_character(value: str, style: str) -> None:
    if style == "block":
        text = "key: |2\n" + "".join(f"  {line}\n" for line in value.split("\n"))
    else:
        text = yaml.dump({"key": value}, default_style='"' if style == "dump" else "'", allow_unicode=True, width=12)
    diagnostics = Diagnostics()
    document = parse_document(text, "spec.yaml", diagnostics)
    if document is None:
        return  # a tab where YAML wants none
    node = document.items["key"]
    assert isinstance(node, Scalar)
    for index, character in enumerate(str(node.value)):
        if character in "ab$(":
            span = part_of(node, index, index + 1)
            assert at(text, Span("", span.line, span.column, span.line, span.column + 1)) == character


# Structure


def test_merge_keys() -> None:
    text = "a: &a {x: 1, y: 2}\nb: &b {y: 3, z: 4}\nc: {w: 0, <<: [*a, *b], z: 5}\nd: {y: 9, <<: *a}\n'<<': 1\n"
    assert plain(parse(text)) == {
        "a": {"x": 1, "y": 2},
        "b": {"y": 3, "z": 4},
        "c": {"w": 0, "x": 1, "y": 2, "z": 5},
        "d": {"y": 9, "x": 1},
        "<<": 1,
    }
    assert list(plain(parse(text))["c"]) == ["w", "x", "y", "z"]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="utf-8", exclude_categories=["Cc"])),
        lambda inner: (
            st.lists(inner) | st.dictionaries(st.text(st.characters(min_codepoint=32, max_codepoint=126)), inner)
        ),
        max_leaves=20,
    ),
    st.booleans(),
)
def test_what_pyyaml_writes_is_read_as_meant(value: object, flow: bool) -> None:
    text = yaml.safe_dump({"key": value}, default_flow_style=flow, allow_unicode=True, default_style='"')
    text = re.sub(r'!!(int|bool|null) "([^"]*)"', r"\2", text)
    assert plain(parse(text)) == {"key": value}


def test_the_first_of_two_equal_keys_is_kept() -> None:
    diagnostics = Diagnostics()
    document = parse_document("a: 1\na: 2\n", "spec.yaml", diagnostics)
    assert document is not None
    assert plain(document) == {"a": 1}
    assert [found.code for found in diagnostics] == ["NS020"]


def test_all_mistakes_at_once() -> None:
    text = "a: {x: $(f(1, 2)), x: 3}\n1: !!python/none x\nb: 1e999\nb: 2\n"
    assert codes(text) == ["NS019", "NS020", "NS021", "NS022", "NS026", "NS020"]


def test_an_expression_that_yaml_cut_is_read_whole() -> None:
    diagnostics = Diagnostics()
    document = parse_document("a: {x: $(max(1, b)), y: [$(z[0]), 2]}\nc: 3\n", "spec.yaml", diagnostics)
    assert document is not None
    assert plain(document) == {"a": {"x": "$(max(1, b))", "y": ["$(z[0])", 2]}, "c": 3}
    assert [found.code for found in diagnostics] == ["NS019", "NS019"]
    a = document.items["a"]
    assert isinstance(a, Mapping)
    assert a.items["y"].span == Span("spec.yaml", 1, 25, 1, 37)


EXPRESSIONS = st.recursive(
    st.sampled_from(["a", "b + 1", "' # '", '"x, (y"', "k: v", "c # d", "e,", "']'", "not $b"]),
    lambda inner: st.one_of(
        inner.map("f({})".format),
        inner.map("z[{}]".format),
        inner.map("{{{}}}".format),
        st.tuples(inner, inner).map(", ".join),
    ),
    max_leaves=6,
)


@settings(max_examples=200)
@given(EXPRESSIONS, st.sampled_from(["{x: 0, k: $(%s), l: 1}", "[0, $(%s), 1]", "[0, s-$(%s)e, 1]"]))
def test_nothing_but_the_quotes_is_missed_of_an_expression_that_yaml_cut(inside: str, around: str) -> None:
    diagnostics = Diagnostics()
    text = around.replace("%s", inside)
    document = parse_document(f"key: {text}\nlast: 1\n", "spec.yaml", diagnostics)
    assert {one.code for one in diagnostics} <= {"NS019"}
    assert document is not None
    value = plain(document)["key"]
    first, expression, last = value if isinstance(value, list) else value.values()
    assert (first, last, plain(document)["last"]) == (0, 1, 1)
    assert expression in text
    assert f"$({inside})" in expression
    for found in diagnostics:
        assert found.help is not None
        mended = found.help.removeprefix("quote it: `").removesuffix("`")
        again = parse_document(f"{mended}\nlast: 1\n", "spec.yaml", Diagnostics())
        assert again is not None
        assert plain(again) == plain(document)


def test_an_unclosed_expression_is_left_to_those_who_read_expressions() -> None:
    assert plain(parse("a: $(b + 1\nc: {d: $(max(1, b, e: 2}\n")) == {
        "a": "$(b + 1",
        "c": {"d": "$(max(1", "b": None, "e": 2},
    }


# Limits


def test_a_file_of_more_than_16_mib(tmp_path: Path) -> None:
    file = tmp_path / "spec.yaml"
    file.write_bytes(b"#" * (16 * 2**20 + 1))
    diagnostics = Diagnostics()
    assert read_document(file, diagnostics) is None
    assert [found.code for found in diagnostics] == ["NS007"]


def test_too_many_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("netspec.text.events.MAX_VALUES", 20)
    assert codes("a: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]") == []
    assert codes("a: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19]") == ["NS007"]


def test_nesting() -> None:
    assert codes("a: " + "[" * 99 + "]" * 99) == []
    assert codes("a: " + "[" * 100 + "]" * 100) == ["NS008"]
    assert codes("a: &a " + "[" * 60 + "]" * 60 + "\nb: " + "[" * 60 + "*a" + "]" * 60) == ["NS008"]


def test_long_texts_count_when_they_are_repeated() -> None:
    text = "a: &a " + "x" * 2**20 + "\n"
    assert codes(text + "b: [*a]\n") == []
    assert codes(text + "b: [*a, *a, *a, *a, *a, *a, *a]\n") == ["NS009"]


def test_aliased_nodes_are_shared() -> None:
    document = parse("a: &a [1]\nb: *a\n")
    assert document.items["a"] is document.items["b"]


# Values of overrides


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("k=3", 3),
        ("k=[1, 2]", [1, 2]),
        ("k={a: b}", {"a": "b"}),
        ("k=", None),
        ("k=x=y", "x=y"),
        ("k=$(a, b)", "$(a, b)"),
    ],
)
def test_value(text: str, value: object) -> None:
    node = parse_value(text, f"--set {text}", Diagnostics(), start=2)
    assert node is not None
    assert plain(node) == value
    assert node.span.column == 3


def test_a_bad_value_counts_columns_from_the_beginning_of_the_override() -> None:
    diagnostics = Diagnostics()
    assert parse_value("key=[1", "--set key=[1", diagnostics, start=4) is None
    (found,) = diagnostics
    assert found.span == Span("--set key=[1", 1, 5, 1, 6)


# Robustness

NASTY = "\t\n\r :-#{}[],&*!|>'\"%@`?$()~<\\\0\x01\x85\ufeff\u2028é😀\ud800ab1."


def check_anything(text: str) -> None:
    """Whatever the text: a document or a mistake, places that exist, and a rendering."""
    diagnostics = Diagnostics()
    document = parse_document(text, "spec.yaml", diagnostics)
    assert document is not None or diagnostics.has_errors
    for found in diagnostics:
        assert found.span is not None
        assert re.fullmatch(r"NS0\d\d", found.code)
        assert 1 <= found.span.line <= text.count("\n") + text.count("\r") + 1
        assert found.span.column >= 1
        assert (found.span.line, found.span.column) <= (found.span.end_line, found.span.end_column)
    render(diagnostics, width=60)


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_mutations_of_a_spec_give_diagnostics_only(data: st.DataObject) -> None:
    text = data.draw(st.sampled_from(SPECS)).read_text(encoding="utf-8")
    start = data.draw(st.integers(0, max(len(text) - 400, 0)))
    text = text[start : start + 400]
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(text)))
        length = data.draw(st.integers(0, 5))
        inserted = data.draw(st.text(alphabet=NASTY, max_size=4))
        text = text[:place] + inserted + text[place + length :]
    check_anything(text)


@settings(max_examples=400, deadline=None)
@given(st.text(alphabet=NASTY, max_size=40))
@example("a: 'b\n\n c' d: e")
@example("*")
@example("%YAML 3.0\n---\na: 1")
@example("a: !<tag:yaml.org,2002:int> 1\n!!str b: 1")
@example("{? : , : }")
@example("a: !!int\nb: !!str\nc: &d\n")
@example("!!map {a: !!seq [1]}")
@example("!!str {a: 1}")
def test_any_text_gives_diagnostics_only(text: str) -> None:
    check_anything(text)


@settings(deadline=None)
@given(data=st.binary(max_size=60))
def test_any_bytes_give_diagnostics_only(data: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.getbasetemp() / "bytes.yaml"
    file.write_bytes(data)
    diagnostics = Diagnostics()
    assert read_document(file, diagnostics) is not None or diagnostics.has_errors
    render(diagnostics, width=60)


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.parent.name)
def test_the_parser_written_in_python_finds_the_same(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where PyYAML was built without libyaml."""

    def found() -> list[tuple[str, str, Span | None]]:
        diagnostics = Diagnostics()
        read_document(path, diagnostics)
        return [(one.code, one.message, one.span) for one in diagnostics]

    with_libyaml = found()
    monkeypatch.delattr(yaml, "CSafeLoader")
    assert found() == with_libyaml
