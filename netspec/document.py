"""YAML text to values that know where they stand: the face of `netspec.text`.

The tree is built from the parser's events, never by a YAML constructor: no tag makes an object, and every limit is
checked while reading. Aliased nodes are shared, so their spans point to where the anchor stands.
"""

from __future__ import annotations

import os
from pathlib import Path

from netspec.diagnostics import Diagnostics, Span
from netspec.text.nodes import Mapping, Node, Scalar, Sequence, plain
from netspec.text.source import SourceText

__all__ = [
    "Mapping",
    "Node",
    "Scalar",
    "Sequence",
    "parse_document",
    "parse_value",
    "part_of",
    "plain",
    "read_document",
]


def part_of(scalar: Scalar, start: int, end: int) -> Span:
    """The place in the source of `scalar.value[start:end]`, through quotes, escapes and folded lines."""
    from netspec.text.alignment import offsets

    places = offsets(scalar.text, str(scalar.value), scalar.quoted)
    last = len(places) - 1
    start, end = min(start, last), min(max(start, end), last)
    # The end is one past the last character's own place: between the two there may be a line's end.
    stop = places[end - 1] + 1 if end > start else places[start]
    source = SourceText(scalar.text, scalar.span.file)
    first, final = source.place(places[start]), source.place(stop)

    def absolute(place: tuple[int, int]) -> tuple[int, int]:
        line, column = place
        return scalar.span.line + line - 1, column + (scalar.span.column - 1 if line == 1 else 0)

    return Span(scalar.span.file, *absolute(first), *absolute(final))


def read_document(path: str | os.PathLike[str], diagnostics: Diagnostics, *, at: Span | None = None) -> Mapping | None:
    """The document in a file, or None where it cannot be had; what is wrong goes to `diagnostics`.

    `at` is where another document names this file: mistakes of reaching it are reported there.
    """
    from netspec.text.reading import read_text

    text = read_text(Path(path), diagnostics, at)
    return None if text is None else parse_document(text, str(path), diagnostics)


def parse_document(text: str, file: str, diagnostics: Diagnostics) -> Mapping | None:
    """The document that `text` holds, or None where it holds none; what is wrong goes to `diagnostics`."""
    source = SourceText(text, file)
    diagnostics.sources[file] = text
    node, fine = _load(source, 0, diagnostics)
    if node is None or (isinstance(node, Scalar) and node.value is None and not node.quoted):
        if fine:
            diagnostics.error("NS004", "the document is empty", source.span(0, 0), help=_STARTER)
        return None
    if not isinstance(node, Mapping):
        kind = "a list" if isinstance(node, Sequence) else "a single value"
        diagnostics.error("NS005", f"a spec is a mapping of keys to values, this is {kind}", node.span, help=_STARTER)
        return None
    return node if fine else None


_STARTER = "start with `netspec: 1`, or let `netspec init` write a first spec"


def parse_value(text: str, file: str, diagnostics: Diagnostics, *, start: int = 0) -> Node | None:
    """One value, as after `--set key=`: the YAML in `text` from `start` on; places count from the beginning of `text`.

    Nothing is null. None means that a mistake was reported.
    """
    source = SourceText(text, file)
    diagnostics.sources[file] = text
    node, fine = _load(source, start, diagnostics)
    if not fine:
        return None
    return node or Scalar(None, source.span(len(text), len(text)))


def _load(source: SourceText, start: int, diagnostics: Diagnostics) -> tuple[Node | None, bool]:
    """The root node (None in an empty document), and whether all of it could be understood."""
    import yaml

    from netspec.text.accidents import Repair, accident_in, accidents_near, report
    from netspec.text.events import Builder, LimitPassed
    from netspec.text.syntax import explain

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    repair = Repair(source.text, start)
    for _ in range(50):  # each round mends at least one expression; so many at once are not an accident
        findings = Diagnostics()
        builder = Builder(source, repair.original, findings)
        error: Exception | None = None
        try:
            for event in iter(loader(repair.text).get_event, None):
                builder.take(event)
        except LimitPassed:
            pass
        except (yaml.YAMLError, UnicodeEncodeError) as problem:
            error = problem
        cut = [accident for place in builder.suspects if (accident := accident_in(source, *place))]
        cut = [accident for accident in cut if not repair.covers(accident)]
        if not cut and error is not None:
            cut = accidents_near(source, error, repair)
        if not cut:
            break
        repair.add(cut)
    report(repair.accidents, source, diagnostics)
    diagnostics.found.extend(findings.found)
    if error is not None:
        explain(error, source, repair.original, builder.quotes, diagnostics)
    return builder.root, not builder.damaged and error is None
