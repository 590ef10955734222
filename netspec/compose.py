"""One document out of many: `extends`, `remove`, `imports`, `file:` sections and `--set`.

What comes out holds none of these any more. Each value keeps the span of the file or override that states it, and the
history says what it replaced.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Many
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from netspec.bases import extended, imported_blocks
from netspec.diagnostics import Diagnostics
from netspec.document import Mapping, parse_document, plain, read_document
from netspec.files import Files, Part, directory_of
from netspec.history import History, Origin
from netspec.overrides import Knows, Meant, Override, apply, parse_overrides
from netspec.paths import find
from netspec.sections import IN_FILES, filled

__all__ = ["Composed", "compose", "compose_mapping", "directory_of", "resolved_text"]

_ORDER = ("netspec", "name", "description", "params", "blocks", "model", "models", "data", "train", "sweep")


@dataclass(frozen=True, slots=True)
class Composed:
    """A document with everything in place, and where it all came from."""

    document: Mapping
    sources: tuple[str, ...]
    """The files that were read, the spec itself first."""
    history: History

    def provenance(self, path: str) -> list[Origin]:
        """The places that stated the value at a dotted path, oldest first, with what each said. Empty: no such path."""
        found = find(self.document, path)
        return [] if found.rest else self.history.of(found.steps, found.node)


def compose(
    path: str | Path,
    overrides: Many[str] = (),
    diagnostics: Diagnostics | None = None,
    *,
    knows: Knows | None = None,
    meant: Meant | None = None,
) -> Composed | None:
    """The spec in a file with its bases, imports, files and overrides (`a.b.c=value`).

    `knows(steps)` says whether the schema knows a path that the document does not state, so that an override may create
    it, and `meant(steps)` which one a misspelt path meant. None where the file cannot be read; other mistakes are
    reported and left out. Without `diagnostics` mistakes raise SpecError.
    """
    found = Diagnostics() if diagnostics is None else diagnostics
    document = read_document(path, found)
    composed = None if document is None else _composed(document, str(path), overrides, found, knows, meant)
    if diagnostics is None:
        found.raise_if_errors()
    return composed


def compose_mapping(
    spec: Any,
    overrides: Many[str] = (),
    diagnostics: Diagnostics | None = None,
    *,
    knows: Knows | None = None,
    meant: Meant | None = None,
) -> Composed | None:
    """The same for a document in memory. Its spans count in the text that `netspec show --resolved` would print.

    Relative paths in it are relative to the working directory.
    """
    from netspec.text.dump import dump
    from netspec.text.python_values import checked

    found = Diagnostics() if diagnostics is None else diagnostics
    values = checked(spec, found)
    composed = None
    if values is not None:
        document = parse_document(dump(values), "<mapping>", found)
        composed = None if document is None else _composed(document, "<mapping>", overrides, found, knows, meant)
    if diagnostics is None:
        found.raise_if_errors()
    return composed


Change = Callable[[Mapping, History], Mapping]


def _assemble(files: Files, document: Mapping, change: Change | None = None) -> Part:
    """The document with all that it refers to. `change` acts when its base is in place and its sections are not."""
    history = History()
    document = extended(files, document, imported_blocks(files, document), history)
    if change is not None:
        document = change(document, history)
    return Part(filled(files, document, history), history)


def _composed(
    document: Mapping,
    file: str,
    overrides: Many[str],
    diagnostics: Diagnostics,
    knows: Knows | None,
    meant: Meant | None,
) -> Composed:
    parsed = parse_overrides(overrides, diagnostics)
    late: list[Override] = []

    def early(mapping: Mapping, history: History) -> Mapping:
        """Overrides of what a section takes from its file have to be in place before the file is read."""
        for override in parsed:
            if _steers_file(mapping, override.path):
                mapping = apply(mapping, override, history, diagnostics, lambda _: True)
            else:
                late.append(override)
        return mapping

    files = Files(diagnostics, _assemble)
    with files.opened(file):
        part = _assemble(files, document, early)
    final = part.document
    for override in late:
        final = apply(final, override, part.history, diagnostics, knows, meant)
    files.within_limits(final, document.span)
    return Composed(final, tuple(files.names), part.history)


def _steers_file(document: Mapping, path: str) -> bool:
    section, _, key = path.rpartition(".")
    if section.endswith(".params"):
        section, key = section.removesuffix(".params"), "params"
    if key == "file":
        return section in IN_FILES or (section.startswith("models.") and section.count(".") == 1)
    found = find(document, section)
    return key == "params" and not found.rest and isinstance(found.node, Mapping) and "file" in found.node.items


def resolved_text(composed: Composed) -> str:
    """The document as canonical YAML: itself a spec, and the same for the same values however they were written."""
    return document_text(composed.document)


def document_text(document: Mapping) -> str:
    """The same for a document that is resolved already."""
    from netspec.text.dump import dump

    values = plain(document)
    ordered = {key: values.pop(key) for key in _ORDER if key in values}
    return dump({**ordered, **values})
