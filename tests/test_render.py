"""What people and programs see of diagnostics."""

from __future__ import annotations

import io
import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netspec.diagnostics import Diagnostic, Diagnostics, Label, Span, SpecError
from netspec.render import render, summary, to_json, to_sarif, wants_color

TEXT = "model:\n  a: {type: Conv2d}\n  b: 1\n\n\n  c: {type: Linear, out_features: 日本}\n\tx: 日本 y\n"


def one(
    span: Span | None, *labels: Label, message: str = "wrong", help: str | None = "the mend", text: str = TEXT
) -> Diagnostics:
    diagnostics = Diagnostics(sources={"spec.yaml": text})
    diagnostics.error("NS400", message, span, labels=labels, help=help)
    return diagnostics


def at(line: int, column: int, end_column: int, file: str = "spec.yaml") -> Span:
    return Span(file, line, column, line, end_column)


def shown(diagnostics: Diagnostics, **options: int) -> list[str]:
    return render(diagnostics, **options).splitlines()  # type: ignore[arg-type]


def test_a_frame_with_labels() -> None:
    diagnostics = one(at(6, 13, 19), Label(at(2, 13, 19), "128 from `a`"), Label(at(6, 3, 4), "64 from `c`"))
    assert shown(diagnostics) == [
        "error[NS400]: wrong",
        " --> spec.yaml:6:13",
        "  |",
        "2 |   a: {type: Conv2d}",
        "  |             ------ 128 from `a`",
        "...",
        "6 |   c: {type: Linear, out_features: 日本}",
        "  |   -         ^^^^^^",
        "  |   64 from `c`",
        "  |",
        "  = help: the mend",
    ]


def test_one_line_between_two_marks_is_shown() -> None:
    assert "2 |   a: {type: Conv2d}" in shown(one(at(3, 3, 4), Label(at(1, 1, 6), "in this")))


def test_a_label_on_the_place_itself_is_printed_behind_the_carets() -> None:
    assert "  |   ^ here" in shown(one(at(3, 3, 4), Label(at(3, 3, 4), "here")))


def test_tabs_and_wide_characters_are_aligned() -> None:
    lines = shown(one(at(7, 5, 7), Label(at(7, 8, 9), "there")))
    assert lines[3:5] == ["7 |     x: 日本 y", "  |        ^^^^ - there"]


def test_a_stretch_of_several_lines_is_marked_on_its_first() -> None:
    assert shown(one(Span("spec.yaml", 2, 6, 6, 4)))[3:5] == ["2 |   a: {type: Conv2d}", "  |      ^^^^^^^^^^^^^^"]


def test_an_empty_stretch_has_a_caret() -> None:
    assert shown(one(at(3, 7, 7)))[4] == "  |       ^"


def test_long_lines_are_cut_around_the_place() -> None:
    text = "x" * 300 + "HERE" + "y" * 300 + "\n"
    lines = shown(one(at(1, 301, 305), text=text), width=60)
    assert max(map(len, lines)) <= 60
    line, carets = lines[3:5]
    assert line[carets.index("^") : carets.rindex("^") + 1] == "HERE"
    assert line.startswith("1 | …")
    assert line.endswith("…")


@given(
    st.text(alphabet="ab\té日\u0301", min_size=1, max_size=60),
    st.integers(0, 59),
    st.integers(1, 5),
    st.integers(20, 40),
)
def test_the_carets_stand_under_the_place(line: str, start: int, length: int, width: int) -> None:
    start %= len(line)
    line = line[:start] + "X" * length + line[start:]
    lines = shown(one(at(1, start + 1, start + 1 + length), text=line), width=width)
    source, carets = (row[4:] for row in lines[3:5])
    columns = "".join(
        one * 2 if one == "日" else "" if one == "\u0301" else one for one in source
    )  # one letter for each column of a terminal
    marked = "".join(columns[i] for i in range(len(columns)) if i < len(carets) and carets[i] == "^")
    assert marked.strip("…").strip("X") == ""
    assert "X" in marked


def test_labels_in_other_files() -> None:
    diagnostics = one(at(1, 1, 6), Label(at(2, 1, 2, "gone.yaml"), "the base"), Label(at(3, 3, 4, "two.yaml"), "this"))
    diagnostics.sources["two.yaml"] = "\n\n  z: 1\n"
    assert shown(diagnostics)[4:10] == [
        "  | ^^^^^",
        " ::: gone.yaml:2:1",
        "  = line 2: the base",
        " ::: two.yaml:3:3",
        "  |",
        "3 |   z: 1",
    ]


def test_without_a_place() -> None:
    assert shown(one(None)) == ["error[NS400]: wrong", "  = help: the mend"]


def test_an_override_is_its_own_source() -> None:
    lines = shown(one(at(1, 7, 9, "--set train.lr=x")))
    assert lines[1:5] == [" --> --set train.lr=x", "  |", "1 | train.lr=x", "  |       ^^"]


def test_nothing_reaches_the_terminal_that_steers_it() -> None:
    text = render(one(at(1, 1, 2), message="a \x1b[31m \u202e b", text="\x1b[2Jx\n"))
    assert "\x1b" not in text
    assert "\u202e" not in text


def test_colours() -> None:
    colored = render(one(at(1, 1, 6)), color=True)
    assert "\x1b[1;31merror[NS400]\x1b[0m" in colored
    plain = render(one(at(1, 1, 6)))
    assert "\x1b" not in plain


def test_colour_is_for_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert wants_color(Terminal())
    assert not wants_color(io.StringIO())
    monkeypatch.setenv("TERM", "dumb")
    assert not wants_color(Terminal())
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert wants_color(io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not wants_color(Terminal())


def test_several_are_parted_by_an_empty_line_and_sorted() -> None:
    diagnostics = one(at(3, 3, 4), help=None)
    diagnostics.warning("NS401", "odd", at(1, 1, 6))
    diagnostics.warning("NS401", "odd", at(1, 1, 6))
    assert [line for line in shown(diagnostics) if "NS" in line] == ["warning[NS401]: odd", "error[NS400]: wrong"]
    assert shown(diagnostics).count("") == 1
    assert summary(diagnostics) == "1 error, 1 warning"
    assert summary([*diagnostics, *diagnostics]) == "2 errors, 2 warnings"
    assert (render([]), summary([])) == ("", "")


def test_json() -> None:
    diagnostics = one(at(6, 13, 19), Label(at(2, 13, 19), "128 from `a`"), message="größer")
    diagnostics.warning("NS401", "odd", None)
    assert json.loads(to_json(diagnostics)) == [
        {
            "code": "NS401",
            "severity": "warning",
            "message": "odd",
            "file": None,
            "line": None,
            "column": None,
            "end_line": None,
            "end_column": None,
            "labels": [],
            "help": None,
        },
        {
            "code": "NS400",
            "severity": "error",
            "message": "größer",
            "file": "spec.yaml",
            "line": 6,
            "column": 13,
            "end_line": 6,
            "end_column": 19,
            "labels": [
                {
                    "message": "128 from `a`",
                    "file": "spec.yaml",
                    "line": 2,
                    "column": 13,
                    "end_line": 2,
                    "end_column": 19,
                }
            ],
            "help": "the mend",
        },
    ]


def test_sarif() -> None:
    diagnostics = one(at(6, 13, 19, "my specs/a.yaml"), Label(at(2, 13, 19), "128 from `a`"))
    diagnostics.error("NS020", "again", at(1, 2, 3, "--set x=1"))
    log = json.loads(to_sarif(diagnostics))
    assert log["version"] == "2.1.0"
    (run,) = log["runs"]
    assert run["columnKind"] == "unicodeCodePoints"
    rules = run["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == ["NS020", "NS400"]
    assert rules[0]["shortDescription"]["text"] == "duplicate key"
    override, shape = run["results"]
    assert "locations" not in override
    assert rules[shape["ruleIndex"]]["id"] == shape["ruleId"] == "NS400"
    assert shape["level"] == "error"
    assert shape["message"]["text"] == "wrong\nhelp: the mend"
    place = shape["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"] == "my%20specs/a.yaml"
    assert place["region"] == {"startLine": 6, "startColumn": 13, "endLine": 6, "endColumn": 19}
    assert shape["relatedLocations"][0]["message"]["text"] == "128 from `a`"


def test_the_exception_says_the_first_mistake_and_how_many() -> None:
    diagnostics = one(at(3, 3, 4))
    diagnostics.error("NS401", "too", at(2, 1, 2))
    with pytest.raises(SpecError, match=r"^spec.yaml:2:1: NS401 too \(and 1 more\)$") as caught:
        diagnostics.raise_if_errors()
    assert caught.value.diagnostics == tuple(diagnostics)


def test_warnings_raise_nothing() -> None:
    diagnostics = Diagnostics([Diagnostic(code="NS401", message="odd", span=None, severity="warning")])
    diagnostics.raise_if_errors()
    assert not diagnostics.has_errors


def test_rendering_is_light() -> None:
    heavy = "{'rich', 'json', 'yaml', 'torch', 'jsonschema'}"
    code = f"import sys, netspec.render; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
