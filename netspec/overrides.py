"""`--set a.b.c=value`: one value of the document changed from the command line."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from netspec.diagnostics import Diagnostics, Span
from netspec.document import Mapping, Node, Scalar, Sequence, parse_value
from netspec.history import History, brief
from netspec.paths import Found, Steps, find, keys_named, names_at, put
from netspec.suggest import suggest
from netspec.text.events import MAX_DEPTH

Knows = Callable[[Steps], bool]
"""Whether the schema knows a path, so that an override may create what the document does not state."""

Meant = Callable[[Steps], Steps | None]
"""The path that the schema knows and that a misspelt one probably meant."""


@dataclass(frozen=True, slots=True)
class Override:
    """A path, the value for it, and the text that said so."""

    path: str
    value: Node
    text: str

    @property
    def file(self) -> str:
        return f"--set {self.text}"

    def span(self, start: int, end: int) -> Span:
        return Span(self.file, 1, start + 1, 1, end + 1)


def parse_overrides(texts: Iterable[str], diagnostics: Diagnostics) -> list[Override]:
    """Those that could be understood; the rest is reported."""
    found = []
    for text in texts:
        path, equals, _ = text.partition("=")
        path = path.strip()
        file = f"--set {text}"
        if not equals or not path or "" in path.split("."):
            diagnostics.sources[file] = text
            diagnostics.error(
                "NS040",
                "an override is written `key=value`",
                Span(file, 1, 1, 1, len(text) + 1),
                help="name the value by its path and give the new one: `--set train.epochs=5`",
            )
            continue
        value = parse_value(text, file, diagnostics, start=len(text.partition("=")[0]) + 1)
        if value is not None:
            found.append(Override(path, value, text))
    return found


def apply(
    document: Mapping,
    override: Override,
    history: History,
    diagnostics: Diagnostics,
    knows: Knows | None = None,
    meant: Meant | None = None,
) -> Mapping:
    """The document with the override in place, or as it was where the path leads nowhere."""
    found = find(document, override.path)
    steps = (*found.steps, *found.rest)
    if len(steps) > MAX_DEPTH:
        diagnostics.error(
            "NS008",
            f"this path is more than {MAX_DEPTH} levels deep",
            override.span(0, len(override.path)),
            help="name a value that the spec states",
        )
        return document
    if not found.rest:
        history.replace(found.steps, found.node)
    elif not isinstance(found.node, Mapping) or knows is None or not all(knows(one) for one in _created(found)):
        _report(document, override, found, diagnostics, meant)
        return document
    changed = put(document, steps, override.value, override.span(0, len(override.path)))
    assert isinstance(changed, Mapping)
    return changed


def _created(found: Found) -> list[Steps]:
    """The paths that an override would create. A layer is not made by setting its stride: its name is a typo."""
    return [(*found.steps, *found.rest[: count + 1]) for count in range(len(found.rest))]


def _report(document: Mapping, override: Override, found: Found, diagnostics: Diagnostics, meant: Meant | None) -> None:
    start = sum(len(step) + 1 for step in found.steps)
    here = ".".join(found.steps)
    step = found.rest[0]
    span = override.span(start, start + len(step))
    if isinstance(found.node, Scalar):
        diagnostics.error(
            "NS042",
            f"`{here}` is the single value {brief(found.node)}, there is no `{step}` in it",
            span,
            help=f"replace it whole: `--set {here}='{{type: {found.node.text or '…'}, {step}: …}}'`",
        )
        return
    names = names_at(found.node)
    if isinstance(found.node, Sequence):
        help = f"its entries are {names[0]} to {names[-1]}" if names else "it is empty"
        diagnostics.error("NS042", f"`{here}` is {brief(found.node)}, there is no entry `{step}`", span, help=help)
        return
    where = f"in `{here}`" if here else "in this spec"
    diagnostics.error("NS041", f"there is no `{step}` {where}", span, help=_help(document, found, names, meant))


def _help(document: Mapping, found: Found, names: list[str], meant: Meant | None) -> str:
    step, *rest = found.rest
    near = suggest(step, names)
    if near is not None:
        return f"did you mean `{'.'.join([*found.steps, near, *rest])}`?"
    for prefix in _created(found):
        known = meant(prefix) if meant is not None else None
        if known is not None and known != prefix:
            return f"did you mean `{'.'.join((*known, *found.rest[len(prefix) - len(found.steps) :]))}`?"
    elsewhere = next(iter(keys_named(document, found.rest[-1])), None)
    if elsewhere is not None:
        return f"did you mean `{'.'.join(elsewhere)}`?"
    listed = ", ".join(f"`{name}`" for name in names[:8])
    return f"there are {listed}" if names else "it is empty"
