"""The files that a spec is made of."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from netspec.diagnostics import Diagnostics, Label, Span
from netspec.document import Mapping, Node, Scalar, read_document
from netspec.history import History, brief
from netspec.paths import measure
from netspec.text.events import MAX_DEPTH, MAX_VALUES

MAX_CHAIN = 50


def directory_of(span: Span) -> Path:
    """The directory that relative paths stated at `span` start from: its file's, or the working directory."""
    if span.is_override or span.file.startswith("<"):
        return Path()
    return Path(span.file).parent


@dataclass(slots=True)
class Part:
    """A document that has become whole."""

    document: Mapping
    history: History


class Files:
    """Reads each file once, knows which are being read, and reports references that lead nowhere.

    `assemble` makes a document whole; it asks for further files by calling `part`.
    """

    def __init__(self, diagnostics: Diagnostics, assemble: Callable[[Files, Mapping], Part]) -> None:
        self.diagnostics = diagnostics
        self.names: list[str] = []
        """The files that were read, in that order."""
        self._assemble = assemble
        self._parts: dict[str, Part | None] = {}
        self._open: list[tuple[str, str]] = []
        """The files that are being put together, by real path and by shown name, the outermost first."""

    @contextmanager
    def opened(self, file: str) -> Iterator[None]:
        """While the file is put together, a reference to it is a cycle."""
        self.names.append(file)
        self._open.append((os.path.realpath(file), file))
        yield
        self._open.pop()

    def error(
        self, code: str, message: str, span: Span, *, help: str | None = None, labels: tuple[Label, ...] = ()
    ) -> None:
        self.diagnostics.error(code, message, span, help=help, labels=labels)

    def path(self, node: Node, what: str) -> Scalar | None:
        """The node, if it is a path to a file of this machine. `what` says in messages who wants it."""
        if not isinstance(node, Scalar) or not isinstance(node.value, str) or not node.value.strip():
            help = "a spec has one base; let that one extend the next" if what == "`extends`" else "write a path"
            self.error("NS030", f"{what} names a file by its path, this is {brief(node)}", node.span, help=help)
            return None
        if not node.value.isprintable():
            self.error("NS030", f"{what} names a file, this is no name of one", node.span, help="write a path")
            return None
        if re.match(r"[a-zA-Z][a-zA-Z0-9+.-]+://", node.value):
            self.error(
                "NS030",
                f"{what} cannot fetch a URL",
                node.span,
                help="download the file and name it by its path: a spec never reaches for the network",
            )
            return None
        return node

    def part(self, reference: Scalar, text: str, what: str) -> Part | None:
        """The file at the path `text`, put together. `reference` is where it is named."""
        file = os.path.normpath(directory_of(reference.span) / text)
        real = os.path.realpath(file)
        if len(self._open) > MAX_CHAIN:
            self.error(
                "NS032",
                f"more than {MAX_CHAIN} files lead from one to the next",
                reference.span,
                help="let a spec name what it needs directly",
            )
            return None
        opened = [path for path, _ in self._open]
        if real in opened:
            chain = [shown for _, shown in self._open[opened.index(real) :]]
            self.error(
                "NS032",
                f"{what} leads back to `{chain[0]}`",
                reference.span,
                help="a file cannot be part of itself: " + " → ".join([*chain, chain[0]]),
            )
            return None
        if real not in self._parts:
            document = read_document(file, self.diagnostics, at=reference.span)
            if document is None:
                self._parts[real] = None
            else:
                with self.opened(file):
                    part = self._assemble(self, document)
                self._parts[real] = part if self.within_limits(part.document, reference.span) else None
        return self._parts[real]

    def within_limits(self, document: Mapping, span: Span) -> bool:
        """Whether what was put together is no larger than one document may be; otherwise it is reported at `span`."""
        values, height = measure(document)
        if height > MAX_DEPTH:
            message = f"with all its files the spec is more than {MAX_DEPTH} levels deep"
            self.error("NS008", message, span, help="let fewer files stand inside each other")
        elif values > MAX_VALUES:
            message = f"with all its files the spec holds more than {MAX_VALUES:,} values"
            self.error("NS007", message, span, help="take each file in once, and use its blocks by their names")
        return height <= MAX_DEPTH and values <= MAX_VALUES
