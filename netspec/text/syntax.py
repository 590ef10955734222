"""What is wrong with the YAML, in our own words.

The parser says `did not find expected key`; a person wants to know which line to touch. Each function here looks at one
kind of complaint and at the text around it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from netspec.diagnostics import Diagnostics, Label, Span
from netspec.text.source import SourceText

_CLOSING = {"[": "]", "{": "}"}


@dataclass(frozen=True, slots=True)
class _Complaint:
    source: SourceText
    problem: str
    context: str
    index: int
    """Where the parser stopped, and where the construct began that it was in (None where it says nothing)."""
    opened: int | None
    quotes: Sequence[tuple[int, int]]
    diagnostics: Diagnostics

    @property
    def line(self) -> str:
        return self.source.line(self.index)

    @property
    def before(self) -> str:
        """The text of the line to the left of the problem."""
        start, _ = self.source.line_bounds(self.index)
        return self.source.text[start : self.index]

    @property
    def character(self) -> str:
        return self.source.text[self.index : self.index + 1]

    def span(self, index: int, width: int = 1) -> Span:
        return self.source.span(index, min(index + width, len(self.source.text)))

    def error(self, code: str, message: str, span: Span, help: str, labels: Sequence[Label] = ()) -> None:
        self.diagnostics.error(code, message, span, help=help, labels=labels)


def explain(
    error: Any,
    source: SourceText,
    original: Callable[[int], int],
    quotes: Sequence[tuple[int, int]],
    diagnostics: Diagnostics,
) -> None:
    """Report what stopped the YAML parser. `quotes` are the quoted scalars that it read over several lines."""
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        _control_character(source, diagnostics)
        return
    context = getattr(error, "context_mark", None)
    length = len(source.text)
    complaint = _Complaint(
        source,
        error.problem or "",
        error.context or "",
        min(original(mark.index), length),
        min(original(context.index), length) if context is not None else None,
        quotes,
        diagnostics,
    )
    for attempt in (_tab, _open_quote, _bracket, _start_character, _escape, _colon, _no_colon, _indentation):
        if attempt(complaint):
            return
    words = error.problem or "this is no YAML"
    complaint.error(
        "NS018", f"the YAML cannot be read here: {words}", complaint.span(complaint.index), help="look at this line"
    )


def _control_character(source: SourceText, diagnostics: Diagnostics) -> None:
    allowed = "\t\n\r -~\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff"
    found = re.search(f"[^{allowed}]", source.text)
    index = found.start() if found else 0
    character = ord(source.text[index]) if source.text else 0
    diagnostics.error(
        "NS003",
        f"the character U+{character:04X} cannot stand in a text file",
        source.span(index, index + 1),
        help="remove it; inside double quotes it can be written as an escape, `\\x07`",
    )


def _tab(c: _Complaint) -> bool:
    start, end = c.source.line_bounds(c.index)
    text = c.source.text
    indentation = text[start:end][: end - start - len(text[start:end].lstrip())]
    if "\t" in indentation:
        index = start + indentation.index("\t")
    elif c.character == "\t":
        index = c.index
    else:
        return False
    width = len(indentation) - (index - start) if "\t" in indentation else 1
    c.error("NS010", "a tab cannot indent", c.span(index, width), help="indent with spaces, two for each level")
    return True


def _open_quote(c: _Complaint) -> bool:
    if "quoted scalar" in c.context and c.opened is not None and "escape" not in c.problem:
        _report_quote(c, c.opened)
        return True
    # A forgotten quote is closed by the next one, lines further down, and what stood inside that one is then outside.
    for start, end in reversed(c.quotes):
        if end <= c.index and c.source.place(end)[0] == c.source.place(c.index)[0]:
            _report_quote(c, start)
            return True
    return False


def _report_quote(c: _Complaint, start: int) -> None:
    quote = c.source.text[start]
    end = c.source.line_bounds(start)[1]
    line = c.source.line(start).strip()
    c.error(
        "NS012",
        f"this `{quote}` is never closed",
        c.span(start, end - start),
        help=f"close it: `{line}{quote}`" if len(line) < 80 else f"put another `{quote}` where the text ends",
    )


def _bracket(c: _Complaint) -> bool:
    if "flow" in c.context and c.opened is not None:
        opener = c.source.text[c.opened : c.opened + 1]
        closer = _CLOSING.get(opener, "]")
        here = Label(c.span(c.opened), "opened here")
        if c.character and c.character in "]}":
            message = f"`{c.character}` closes what `{opener}` opened"
            c.error("NS013", message, c.span(c.index), help=f"write `{closer}`", labels=[here])
        elif c.character == ":" and re.search(r":\s[^,{}\[\]]*$", c.before):
            help = "quote the value if the colon belongs to it, or part the entries with a comma"
            c.error("NS015", "a second `: ` in one entry", c.span(c.index), help=help)
        elif c.source.place(c.index)[0] != c.source.place(c.opened)[0] or not c.character:
            c.error(
                "NS013", f"this `{opener}` is never closed", c.span(c.opened), help=f"write `{closer}` where it ends"
            )
        else:
            message = f"a comma or `{closer}` is missing before this"
            c.error("NS013", message, c.span(c.index), help="part the entries with commas", labels=[here])
        return True
    if c.character and c.character in "]}":
        c.error("NS013", f"`{c.character}` closes nothing", c.span(c.index), help="remove it, or open its bracket")
        return True
    return False


def _start_character(c: _Complaint) -> bool:
    index = c.index
    if c.opened is not None and "scanning an a" in c.context:  # an alias or an anchor without a proper name
        index = c.opened
    elif "cannot start any token" not in c.problem or not c.character:
        return False
    start, end = index, c.source.line_bounds(index)[1]
    character = c.source.text[start]
    rest = re.split(r"\s#|[,\]}]", c.source.text[start:end])[0].rstrip()
    name = "a backtick" if character == "`" else f"`{character}`"
    quote = "'" if '"' in rest else '"'
    help = "put it in quotes" if "`" in rest else f"quote it: `{quote}{rest}{quote}`"
    c.error("NS016", f"a value cannot start with {name} in YAML", c.span(start), help=help)
    return True


def _escape(c: _Complaint) -> bool:
    if "escape" not in c.problem and "hexdecimal" not in c.problem:
        return False
    index = c.index if c.character == "\\" else max(c.source.text.rfind("\\", 0, c.index + 1), 0)
    written = c.source.text[index : index + 2]
    message = f"`{written}` is no escape of double-quoted text"
    c.error("NS017", message, c.span(index, 2), help="use single quotes, where a backslash is a backslash")
    return True


def _colon(c: _Complaint) -> bool:
    """A second `: ` on one line, or a deeper line below a key that has its value already."""
    if "mapping values are not allowed" not in c.problem:
        return False
    indentation = len(c.line) - len(c.line.lstrip())
    start, _ = c.source.line_bounds(c.index)
    left = c.before.lstrip(" -")
    above = _line_above(c.source, start)
    if re.search(r":\s", left):
        key, _, value = c.line.strip().partition(": ")
        mend = f'`{key}: "{value}"`' if '"' not in value else f"`{key}: '{value}'`"
        c.error(
            "NS015",
            "a second `: ` on one line",
            c.span(c.index),
            help=f"quote the value if the colon belongs to it: {mend}; else give the second key a line of its own",
        )
    elif above is not None:
        first, end = above
        text = c.source.text[first:end]
        column = len(text) - len(text.lstrip())
        if ": " not in text and not text.endswith(":"):
            _report_no_colon(c, first + column)
            return True
        c.error(
            "NS014",
            "this line is indented under one that holds a value already",
            c.source.span(start + indentation, c.index),
            labels=[Label(c.source.span(first + column, end), "the value is complete here")],
            help=_align_help(column),
        )
    else:
        c.error("NS015", "a colon cannot stand here", c.span(c.index), help="quote the text that it belongs to")
    return True


def _align_help(column: int) -> str:
    return f"indent it by {_spaces(column)}, as the line above" if column else "begin it in the first column"


def _spaces(count: int) -> str:
    return f"{count} space{'s' * (count != 1)}"


def _line_above(source: SourceText, start: int) -> tuple[int, int] | None:
    """The bounds of the nearest line above that holds more than a comment."""
    while start > 0:
        first, end = source.line_bounds(start - 1)
        text = source.text[first:end].strip()
        if text and not text.startswith("#"):
            return first, end
        start = first
    return None


def _no_colon(c: _Complaint) -> bool:
    if "could not find expected ':'" not in c.problem or c.opened is None:
        return False
    _report_no_colon(c, c.opened)
    return True


def _report_no_colon(c: _Complaint, start: int) -> None:
    """The line from `start` on is neither a key nor a value."""
    written = re.split(r"\s#", c.source.text[start : c.source.line_bounds(start)[1]])[0].rstrip()
    span = c.span(start, len(written))
    joined = re.fullmatch(r"(- )?([\w.$()+-]+?):([^\s:].*)", written)
    if joined is not None:
        mend = f"{joined[1] or ''}{joined[2]}: {joined[3]}"
        c.error("NS011", "no space after the colon", span, help=f"write `{mend}`")
        return
    key, _, value = written.partition(" ")
    c.error("NS011", "this line has no colon", span, help=f"write `{key}: {value.strip() or '…'}`")


def _indentation(c: _Complaint) -> bool:
    if "block" not in c.context and "document start" not in c.problem:
        return False
    if c.before.strip():  # not the first thing on its line
        if c.before.endswith("'"):
            help = "inside single quotes an apostrophe is written twice, or use double quotes"
            c.error("NS012", "the quoted text ends before this", c.span(c.index), help=help)
            return True
        c.error(
            "NS018",
            "this does not belong to the value before it",
            c.span(c.index),
            help="remove it, or quote the whole value",
        )
        return True
    end = c.source.line_bounds(c.index)[1]
    here = c.source.span(c.index, end)
    indentation = len(c.before)
    if c.opened is not None and c.source.place(c.opened)[1] == indentation + 1:
        inside_list = "collection" in c.context
        message = "a key stands among the items of a list" if inside_list else "a list item stands among keys"
        help = "start each item with `- `, or indent it under one" if inside_list else "indent the list under its key"
        begin = Label(c.span(c.opened), f"the {'list' if inside_list else 'mapping'} begins here")
        c.error("NS014", message, here, labels=[begin], help=help)
        return True
    labels = []
    above = _line_above(c.source, c.index - indentation)
    if above is not None:
        text = c.source.text[above[0] : above[1]]
        column = len(text) - len(text.lstrip())
        labels.append(Label(c.source.span(above[0] + column, above[1]), f"indented by {_spaces(column)}"))
    message = f"this line is indented by {_spaces(indentation)}, as none is that it could belong to"
    c.error("NS014", message, here, labels=labels, help="line it up with the lines that it belongs to")
    return True
