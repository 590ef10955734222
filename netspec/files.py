"""The files that a spec is made of, each read once, and how they go together."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from netspec.diagnostics import Diagnostics, Label, Span
from netspec.document import Mapping, Node, Scalar, Sequence, plain, read_document
from netspec.history import History, brief, merge
from netspec.paths import drop, find, names_at, put, without
from netspec.suggest import suggest

Change = Callable[[Mapping, History], Mapping]


def directory_of(span: Span) -> Path:
    """The directory that relative paths stated at `span` start from: its file's, or the working directory."""
    if span.file.startswith(("--set ", "<")):
        return Path()
    return Path(span.file).parent


@dataclass(slots=True)
class Part:
    """A document that has become whole."""

    document: Mapping
    history: History = field(default_factory=History)


class Files:
    """Reads files, follows what they refer to, and reports what is wrong with the references."""

    def __init__(self, diagnostics: Diagnostics) -> None:
        self.diagnostics = diagnostics
        self.names: list[str] = []
        self._parts: dict[str, Part | None] = {}
        self._open: list[tuple[str, str]] = []
        """The files that are being put together, by real path and by shown name, the outermost first."""

    def read(self, file: str, at: Span | None = None) -> Mapping | None:
        document = read_document(file, self.diagnostics, at=at)
        return document

    def assemble(self, document: Mapping, file: str, change: Change | None = None) -> Part:
        """Everything that the document refers to in its place. `change` acts between the base and the sections."""
        self.names.append(file)
        self._open.append((os.path.realpath(file), file))
        history = History()
        imported = self._imports(document)
        document = self._extended(document, imported, history)
        if change is not None:
            document = change(document, history)
        document = self._sections(document, history)
        self._open.pop()
        return Part(document, history)

    def part(self, reference: Scalar, text: str, what: str) -> Part | None:
        """The file that `reference` names, put together."""
        file = os.path.normpath(directory_of(reference.span) / text)
        real = os.path.realpath(file)
        opened = [name for name, _ in self._open]
        if real in opened:
            chain = [shown for _, shown in self._open[opened.index(real) :]]
            self._error(
                "NS032",
                f"{what} leads back to `{chain[0]}`",
                reference.span,
                help="a file cannot be part of itself: " + " → ".join([*chain, chain[0]]),
            )
            return None
        if real not in self._parts:
            document = self.read(file, reference.span)
            self._parts[real] = None if document is None else self.assemble(document, file)
        return self._parts[real]

    def _error(
        self, code: str, message: str, span: Span, *, help: str | None = None, labels: tuple[Label, ...] = ()
    ) -> None:
        self.diagnostics.error(code, message, span, help=help, labels=labels)

    def _path(self, node: Node, what: str) -> Scalar | None:
        """The node as a path to a file of this machine."""
        if not isinstance(node, Scalar) or not isinstance(node.value, str) or not node.value.strip():
            help = "a spec has one base; let that one extend the next" if what == "`extends`" else "write a path"
            self._error("NS030", f"{what} names a file by its path, this is {brief(node)}", node.span, help=help)
            return None
        if re.match(r"[a-zA-Z][a-zA-Z0-9+.-]+://", node.value):
            self._error(
                "NS030",
                f"{what} cannot fetch a URL",
                node.span,
                help="download the file and name it by its path: a spec never reaches for the network",
            )
            return None
        return node

    # extends and remove

    def _extended(self, document: Mapping, imported: Mapping | None, history: History) -> Mapping:
        reference = document.items.get("extends")
        removals = document.items.get("remove")
        own = without(document, "extends", "remove", "imports")
        base: Mapping | None = None
        if reference is not None:
            path = self._path(reference, "`extends`")
            part = None if path is None else self.part(path, str(path.value), "`extends`")
            if part is not None:
                base = part.document
                history.add(part.history)
        if removals is not None and (base is not None or reference is None):
            base = self._removed(base, removals)
        if imported is not None:
            stated = own.items.get("blocks")
            inherited = base.items.get("blocks") if base is not None else None
            self._check_clashes(imported, stated)
            self._check_clashes(imported, inherited)
            joined = _join(imported, stated)
            own = _with(own, "blocks", joined, own.key_spans.get("blocks", imported.span))
        if base is None:
            return own
        merged = merge(base, own, history)
        assert isinstance(merged, Mapping)
        return merged

    def _removed(self, base: Mapping | None, removals: Node) -> Mapping | None:
        if base is None:
            self._error(
                "NS033", "`remove` takes from a base, and there is none", removals.span, help="name one: `extends: …`"
            )
            return None
        items = removals.items if isinstance(removals, Sequence) else (removals,)
        for item in items:
            path = item.value if isinstance(item, Scalar) else None
            if not isinstance(path, str):
                self._error(
                    "NS033",
                    f"`remove` lists paths, this is {brief(item)}",
                    item.span,
                    help="write paths into the base: `remove: [train.scheduler]`",
                )
                continue
            found = find(base, path)
            if found.rest:
                near = suggest(found.rest[0], names_at(found.node))
                meant = ".".join([*found.steps, near, *found.rest[1:]]) if near else ""
                where = f"`{'.'.join(found.steps)}` of the base" if found.steps else "the base"
                self._error(
                    "NS033",
                    f"there is no `{found.rest[0]}` in {where}",
                    item.span,
                    help=f"did you mean `{meant}`?" if meant else "what the base has not need not be removed",
                )
            else:
                changed = drop(base, found.steps)
                assert isinstance(changed, Mapping)
                base = changed
        return base

    # imports

    def _imports(self, document: Mapping) -> Mapping | None:
        """The blocks of all imported files."""
        node = document.items.get("imports")
        if node is None:
            return None
        joined: Mapping | None = None
        for item in node.items if isinstance(node, Sequence) else (node,):
            path = self._path(item, "`imports`")
            part = None if path is None else self.part(path, str(path.value), "`imports`")
            if part is None or path is None:
                continue
            blocks = part.document.items.get("blocks")
            if not isinstance(blocks, Mapping) or not blocks.items:
                self._error(
                    "NS035",
                    f"`{path.value}` has no blocks to import",
                    path.span,
                    help="`imports` brings in blocks; a section comes in with `file:`, a base with `extends:`",
                )
                continue
            if joined is not None:
                self._check_clashes(blocks, joined)
            joined = _join(blocks, joined)
        return joined

    def _check_clashes(self, blocks: Mapping, others: Node | None) -> None:
        if not isinstance(others, Mapping):
            return
        for name, block in blocks.items.items():
            other = others.items.get(name)
            if other is not None and not _same(block, other):
                self._error(
                    "NS034",
                    f"two blocks are called `{name}`",
                    others.key_spans[name],
                    labels=(Label(blocks.key_spans[name], "the other one"),),
                    help="give one of them another name",
                )

    # file: sections

    def _sections(self, document: Mapping, history: History) -> Mapping:
        for key in ("model", "data", "train"):
            document = self._section(document, (key,), history)
        models = document.items.get("models")
        if isinstance(models, Mapping):
            for name in models.items:
                document = self._section(document, ("models", name), history)
        return document

    def _section(self, document: Mapping, steps: tuple[str, ...], history: History) -> Mapping:
        """The document with the section at `steps` taken from its file, if it names one."""
        node = find(document, ".".join(steps)).node if steps[0] in document.items else None
        if not isinstance(node, Mapping) or "file" not in node.items:
            return document
        title = f"`{'.'.join(steps)}`"
        reference = self._path(node.items["file"], "`file`")
        if reference is None:
            return document
        text, _, fragment = str(reference.value).partition("#")
        part = self.part(reference, text, f"the file of {title}")
        taken = None if part is None else self._taken(part.document, reference, fragment, steps[0], text)
        if part is None or taken is None:
            return document
        at, section = taken
        history.add(part.history.moved(at, steps))
        if steps[0] in ("model", "models"):
            document = self._borrow_blocks(document, part.document)
            given = node.items.get("params")
            document, params = self._bind(document, part.document, given, steps, str(reference.value))
            if params is not None:
                section = _with(section, "params", params, params.span)
        merged = merge(section, without(node, "file", "params"), history, steps)
        changed = put(document, steps, merged, find_key_span(document, steps))
        assert isinstance(changed, Mapping)
        return changed

    def _taken(
        self, document: Mapping, reference: Scalar, fragment: str, kind: str, text: str
    ) -> tuple[tuple[str, ...], Mapping] | None:
        """What a section takes of a file: the part that is named, the section of its own kind, or all of it."""
        kind = "model" if kind == "models" else kind
        if not fragment and "netspec" not in document.items and kind not in document.items:
            return (), document
        found = find(document, fragment or kind)
        if found.rest:
            near = suggest(found.rest[0], names_at(found.node))
            meant = ".".join([*found.steps, near, *found.rest[1:]]) if near else ""
            several = document.items.get("models")
            if near is None and not fragment and isinstance(several, Mapping) and several.items:
                meant = f"models.{next(iter(several.items))}"
            self._error(
                "NS036",
                f"`{text}` has no `{fragment or kind}`",
                reference.span,
                help=f"did you mean `{text}#{meant}`?" if meant else f"it has {', '.join(map(_code, document.items))}",
            )
            return None
        if not isinstance(found.node, Mapping):
            self._error(
                "NS036",
                f"`{fragment or kind}` of `{text}` is {brief(found.node)}, not a section",
                reference.span,
                labels=(Label(found.node.span, "this"),),
            )
            return None
        return found.steps, found.node

    def _borrow_blocks(self, document: Mapping, other: Mapping) -> Mapping:
        blocks = other.items.get("blocks")
        if not isinstance(blocks, Mapping):
            return document
        own = document.items.get("blocks")
        self._check_clashes(blocks, own)
        return _with(document, "blocks", _join(blocks, own), document.key_spans.get("blocks", blocks.span))

    def _bind(
        self, document: Mapping, other: Mapping, given: Node | None, steps: tuple[str, ...], file: str
    ) -> tuple[Mapping, Mapping | None]:
        """The parameters that the file's model has, with the values that were given for it.

        `model` is a block whose parameters are the document's, so there they join the document's. Each of several
        `models` keeps its own, under its `params`; their values are read in the document.
        """
        declared = other.items.get("params")
        params = declared if isinstance(declared, Mapping) else Mapping({}, {}, other.span)
        if isinstance(given, Mapping):
            for name in given.items:
                if name not in params.items:
                    near = suggest(name, params.items)
                    self._error(
                        "NS037",
                        f"`{file}` has no parameter `{name}`",
                        given.key_spans[name],
                        help=f"did you mean `{near}`?" if near else f"it has {_listed(params)}",
                    )
            bound = {name: given.items.get(name, value) for name, value in params.items.items()}
            spans = {name: given.key_spans.get(name, span) for name, span in params.key_spans.items()}
            params = Mapping(bound, spans, given.span)
        elif given is not None:
            self._error(
                "NS037",
                f"`params` maps names to values, this is {brief(given)}",
                given.span,
                help="write `{name: value}`",
            )
        if steps[0] == "models":
            return document, params if params.items else None
        own = document.items.get("params")
        for name, value in params.items.items():
            stated = own.items.get(name) if isinstance(own, Mapping) else None
            if stated is None or _same(stated, value) or _refers(value, name):
                continue
            assert isinstance(own, Mapping)
            self._error(
                "NS038",
                f"both this spec and `{file}` have a parameter `{name}`",
                own.key_spans[name],
                labels=(Label(params.key_spans[name], f"the file's, {brief(value)} here"),),
                help=f"pass it on, `params: {{{name}: ${name}}}`, or give this one another name",
            )
        if params.items:
            document = _with(document, "params", _join(params, own), document.key_spans.get("params", params.span))
        return document, None


def find_key_span(document: Mapping, steps: tuple[str, ...]) -> Span:
    """Where the last of the steps stands as a key."""
    parent = find(document, ".".join(steps[:-1])).node if len(steps) > 1 else document
    assert isinstance(parent, Mapping)
    return parent.key_spans[steps[-1]]


def _with(node: Mapping, key: str, value: Node, key_span: Span) -> Mapping:
    return Mapping({**node.items, key: value}, {**node.key_spans, key: key_span}, node.span)


def _join(new: Mapping, own: Node | None) -> Mapping:
    """The entries of both, the own ones last and stronger."""
    if not isinstance(own, Mapping):
        return new
    return Mapping({**new.items, **own.items}, {**new.key_spans, **own.key_spans}, own.span)


def _same(one: Node, other: Node) -> bool:
    return one is other or plain(one) == plain(other)


def _refers(value: Node, name: str) -> bool:
    return isinstance(value, Scalar) and value.value in (f"${name}", f"$({name})")


def _code(name: str) -> str:
    return f"`{name}`"


def _listed(params: Mapping) -> str:
    return ", ".join(map(_code, params.items)) or "none"
