"""From the parser's events to nodes, one event at a time, without recursion, every limit checked on the way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from netspec.diagnostics import Diagnostics, Label, Span
from netspec.suggest import suggest
from netspec.text.nodes import Mapping, Node, Scalar, Sequence, plain
from netspec.text.scalars import NumberTooLarge, resolve
from netspec.text.source import SourceText

MAX_DEPTH = 100
MAX_VALUES = 1_000_000
MAX_ALIASED = 100_000
"""How many values aliases and merge keys may add. A bomb of ten lines reaches millions."""


class LimitPassed(Exception):
    """A limit was passed: reading on would serve nobody."""


@dataclass(slots=True)
class _Known:
    """A finished node with what its expansion costs."""

    node: Node
    values: int
    height: int


@dataclass(slots=True)
class _Open:
    """A collection whose end has not come yet."""

    start: int
    mapping: bool
    flow: bool
    anchor: str | None
    key: Scalar | None = None
    awaits_value: bool = False
    items: list[Node] = field(default_factory=list)
    entries: dict[str, Node] = field(default_factory=dict)
    key_spans: dict[str, Span] = field(default_factory=dict)
    merged: set[str] = field(default_factory=set)
    """Keys that so far only a `<<` has given."""
    merges: bool = False
    cut: bool = False
    """One of its values is an expression that ends too early."""
    values: int = 1
    height: int = 1
    end: int = 0


_CORE = "tag:yaml.org,2002:"
_TYPES = {"str": str, "int": int, "float": float, "bool": bool, "null": type(None)}


class Builder:
    """Takes the parser's events one by one and builds the tree, without recursion."""

    def __init__(self, source: SourceText, original: Callable[[int], int], diagnostics: Diagnostics) -> None:
        self.source = source
        self.original = original
        self.diagnostics = diagnostics
        self.root: Node | None = None
        self.damaged = False
        self.suspects: list[tuple[int, int, bool]] = []
        """Start, end and flow style of plain scalars in which something may be open: `$(`, or a call of a layer."""
        self.quotes: list[tuple[int, int]] = []
        """Quoted scalars that run over several lines: where a forgotten quote may stand."""
        self._stack: list[_Open] = []
        self._anchors: dict[str, _Known | _Open] = {}
        self._values = 0
        self._aliased = 0
        self._documents = 0

    def take(self, event: Any) -> None:
        match type(event).__name__:
            case "ScalarEvent":
                self._scalar(event)
            case "MappingStartEvent" | "SequenceStartEvent":
                self._open(event)
            case "MappingEndEvent" | "SequenceEndEvent":
                self._close(self.original(event.end_mark.index))
            case "AliasEvent":
                self._alias(event)
            case "DocumentStartEvent":
                self._document(event)

    def _error(self, code: str, message: str, span: Span, **rest: Any) -> None:
        self.diagnostics.error(code, message, span, **rest)

    def _stop(self, code: str, message: str, span: Span, **rest: Any) -> None:
        self._error(code, message, span, **rest)
        self.damaged = True
        raise LimitPassed

    def _span(self, event: Any) -> Span:
        return self.source.span(self.original(event.start_mark.index), self.original(event.end_mark.index))

    def _document(self, event: Any) -> None:
        self._documents += 1
        if self._documents > 1:
            start = self.original(event.start_mark.index)
            self._stop(
                "NS006",
                "a second document starts here",
                self.source.span(start, start + 3),
                help="one file holds one spec: move this part to a file of its own",
            )

    def _count(self, span: Span) -> None:
        self._values += 1
        if self._values > MAX_VALUES:
            self._stop(
                "NS007",
                f"the document holds more than {MAX_VALUES:,} values",
                span,
                help="say it with `for` or `repeat` instead of writing every layer down",
            )

    def _check_depth(self, height: int, span: Span) -> None:
        if len(self._stack) + height > MAX_DEPTH:
            self._stop(
                "NS008",
                f"lists and mappings stand more than {MAX_DEPTH} levels deep",
                span,
                help="give the inner part a name under `blocks` and use it by that name",
            )

    def _scalar(self, event: Any) -> None:
        start, end = self.original(event.start_mark.index), self.original(event.end_mark.index)
        if event.anchor is not None or event.tag is not None:
            start = self._skip_properties(start, end)
        text = self.source.text[start:end]
        quoted = event.style not in (None, "")
        if event.style in ("|", ">"):
            text = text.rstrip()
            end = start + len(text)
        span = self.source.span(start, end)
        self._count(span)
        flow = bool(self._stack) and self._stack[-1].flow
        if not quoted and ("$(" in text or (flow and "(" in text and text[0].isupper())):
            self.suspects.append((start, end, flow))
            if flow and text.count("(") > text.count(")"):
                self._stack[-1].cut = True
        if quoted and "\n" in text and event.style in ("'", '"'):
            self.quotes.append((start, end))
        value: str | int | float | bool | None = event.value
        if not quoted and event.tag != "!":
            try:
                value = resolve(event.value)
            except NumberTooLarge as problem:
                self._error("NS026", str(problem), span, help="quote it to make it text; infinity is `.inf`")
        node = Scalar(value, span, text, quoted)
        if event.tag is not None and event.tag != "!":
            node = self._tagged(event, node)
        # A character costs what a sixty-fourth of a value costs, so that long aliased texts count too.
        known = _Known(node, 1 + len(text) // 64, 0)
        if event.anchor is not None:
            self._anchors[event.anchor] = known
        self._add(known, end)

    def _skip_properties(self, start: int, end: int) -> int:
        """Past the anchor and the tag, which the parser counts as part of the node."""
        text = self.source.text
        while start < end and text[start] in "&!":
            while start < end and not text[start].isspace():
                start += 1
            while start < end and text[start].isspace():
                start += 1
        return start

    def _tagged(self, event: Any, node: Scalar) -> Scalar:
        kind = event.tag.removeprefix(_CORE)
        if kind not in _TYPES:
            self._bad_tag(event)
            return node
        if kind == "str":
            return Scalar(event.value, node.span, node.text, True)
        value = resolve(event.value) if node.quoted else node.value
        if kind == "float" and type(value) is int:
            value = float(value)
        elif type(value) is not _TYPES[kind]:
            self._error(
                "NS022", f"`{event.value}` is not what its tag `!!{kind}` says", node.span, help="remove the tag"
            )
        return Scalar(value, node.span, node.text, node.quoted)

    def _bad_tag(self, event: Any) -> None:
        start = self.original(event.start_mark.index)
        text = self.source.text
        if text[start : start + 1] == "&":
            start = text.find("!", start)
        end = start
        while end < len(text) and not text[end].isspace() and text[end] not in ",]}":
            end += 1
        written = text[start:end]
        why = "a spec is data and runs no Python" if "python" in event.tag else "a spec has no tags"
        self._error(
            "NS022",
            f"unknown tag `{written}`",
            self.source.span(start, end),
            help=f"remove the tag: {why}, what a layer is stands under `type`",
        )
        self.damaged = True

    def _open(self, event: Any) -> None:
        span = self._span(event)
        self._count(span)
        self._check_depth(1, span)
        mapping = type(event).__name__ == "MappingStartEvent"
        if event.tag is not None and event.tag not in ("!", _CORE + ("map" if mapping else "seq")):
            self._bad_tag(event)
        start = self.original(event.start_mark.index)
        opened = _Open(start, mapping, bool(event.flow_style), event.anchor)
        if event.anchor is not None:
            self._anchors[event.anchor] = opened
        self._stack.append(opened)

    def _close(self, event_end: int) -> None:
        done = self._stack.pop()
        end = event_end if done.flow else (done.end or done.start)
        span = self.source.span(done.start, end)
        node: Node
        node = Mapping(done.entries, done.key_spans, span) if done.mapping else Sequence(tuple(done.items), span)
        known = _Known(node, done.values, done.height)
        if done.anchor is not None:
            self._anchors[done.anchor] = known
        self._add(known, end)

    def _alias(self, event: Any) -> None:
        known = self._anchors.get(event.anchor)
        span = self._span(event)
        if known is None:
            near = suggest(event.anchor, self._anchors)
            self._stop(
                "NS023",
                f"no anchor `&{event.anchor}` stands before this alias",
                span,
                help=f"did you mean `*{near}`?"
                if near
                else f'if it is a pattern or a text, quote it: `"*{event.anchor}"`',
            )
        elif isinstance(known, _Open):
            opened = self.source.span(known.start, known.start + 1 + len(event.anchor))
            self._stop(
                "NS024",
                f"`*{event.anchor}` stands inside the value that `&{event.anchor}` names, so it would never end",
                span,
                labels=[Label(opened, "the anchor")],
                help="take the alias out; to use a layer's weights again write `use:`",
            )
        else:
            self._aliased += known.values
            if self._aliased > MAX_ALIASED:
                self._stop(
                    "NS009",
                    f"aliases and merge keys expand this document by more than {MAX_ALIASED:,} values",
                    span,
                    help="say it with `blocks`, `for` or `repeat`: those are not copied out",
                )
            self._check_depth(known.height, span)
            self._add(known, self.original(event.end_mark.index), alias=span)

    def _add(self, known: _Known, end: int, alias: Span | None = None) -> None:
        if not self._stack:
            self.root = known.node
            return
        parent = self._stack[-1]
        parent.values += known.values
        if known.height >= parent.height:
            parent.height = known.height + 1
        if end > parent.end:
            parent.end = end
        if not parent.mapping:
            parent.items.append(known.node)
        elif not parent.awaits_value:
            parent.key = self._key(known.node, alias)
            parent.awaits_value = True
        else:
            parent.awaits_value = False
            if parent.key is not None:
                self._entry(parent, parent.key, known.node, alias)

    def _key(self, node: Node, alias: Span | None) -> Scalar | None:
        if isinstance(node, Scalar) and isinstance(node.value, str):
            return node if alias is None else Scalar(node.value, alias, node.text, node.quoted)
        if isinstance(node, Scalar):
            kind = {bool: "a truth value", int: "a number", float: "a number"}.get(type(node.value), "null")
            self._error(
                "NS021",
                f"a key is text, `{node.text or 'null'}` is {kind}",
                alias or node.span,
                help=f'quote it: `"{node.text}"`' if node.text else "write a name before the colon",
            )
            return Scalar(node.text, alias or node.span, node.text, True) if node.text else None
        kind = "a list" if isinstance(node, Sequence) else "a mapping"
        self._error("NS021", f"a key is text, this is {kind}", alias or node.span, help=_key_help(node))
        self.damaged = True
        return None

    def _entry(self, parent: _Open, key: Scalar, value: Node, alias: Span | None) -> None:
        name = str(key.value)
        if name == "<<" and not key.quoted:
            if parent.merges:
                self._error(
                    "NS020", "duplicate key `<<`", key.span, help="merge several at once: `<<: [*first, *second]`"
                )
            parent.merges = True
            self._merge(parent, value, alias)
        elif name in parent.entries and name not in parent.merged:
            self._error(
                "NS020",
                f"duplicate key `{name}`",
                key.span,
                labels=[Label(parent.key_spans[name], "stated here first")],
                help="remove one of the two, or give it another name",
            )
        else:
            if parent.cut and key.text.count(")") > key.text.count("(") and plain(value) is None:
                return  # the rest of an expression that YAML cut: its beginning is reported
            parent.merged.discard(name)
            parent.entries[name] = value
            parent.key_spans[name] = key.span

    def _merge(self, parent: _Open, value: Node, alias: Span | None) -> None:
        """Keys come in where `<<` stands. One stated beside it wins, and so does the earlier of two mappings."""
        merged = value.items if isinstance(value, Sequence) else (value,)
        for one in merged:
            if not isinstance(one, Mapping):
                self._error(
                    "NS025",
                    "`<<` merges mappings, this is none",
                    alias or one.span,
                    help="name a mapping: `<<: *anchor`, or several: `<<: [*first, *second]`",
                )
                continue
            for name, node in one.items.items():
                if name not in parent.entries:
                    parent.entries[name] = node
                    parent.key_spans[name] = one.key_spans[name]
                    parent.merged.add(name)


def _key_help(node: Node) -> str:
    if isinstance(node, Mapping):
        return "quote a value that starts with `{`: YAML reads `{{x}}` as a mapping inside a mapping"
    return "quote it if it is meant as text"
