"""The spec as a run keeps it: resolved, and with paths that hold from wherever it is read."""

from __future__ import annotations

from collections.abc import Mapping as MappingABC
from pathlib import Path
from typing import TYPE_CHECKING

from netspec.compose import Composed
from netspec.compose import resolved_text as render
from netspec.document import Mapping, Node, Scalar, Sequence
from netspec.history import History
from netspec.paths import without

if TYPE_CHECKING:
    from netspec.program import Program


def resolved_text(program: Program, *, sweep: bool = False) -> str:
    """The program's document as YAML, with which the run can be repeated from any directory. A run is one trial, and
    has no `sweep`; what a sweep keeps of itself has.
    """
    sections = [getattr(program.recipe, section, None) for section in ("data", "train", "sweep")]
    paths = {place: path for section in sections for place, path in getattr(section, "paths", {}).items()}
    document = _with_paths(program.document if sweep else without(program.document, "sweep"), "", paths)
    assert isinstance(document, Mapping)
    return render(Composed(document=document, sources=(program.file,), history=History()))


def load_program(folder: Path, overrides: MappingABC[str, object] | None = None) -> Program:
    """Compile the spec of a run again. Raises netspec.diagnostics.SpecError where an override makes it wrong."""
    from netspec.compiler import compile
    from netspec.runtime.directory import RESOLVED, check_plugins

    check_plugins(folder)
    return compile(folder / RESOLVED, dict(overrides or {}), headers=False)


def _with_paths(node: Node, place: str, paths: MappingABC[str, str]) -> Node:
    """The node with the values at dotted places replaced."""
    if isinstance(node, Mapping):
        items = {k: _with_paths(v, f"{place}.{k}" if place else k, paths) for k, v in node.items.items()}
        return Mapping(items, node.key_spans, node.span)
    if isinstance(node, Sequence):
        return Sequence(tuple(_with_paths(v, f"{place}.{i}", paths) for i, v in enumerate(node.items)), node.span)
    return Scalar(paths[place], node.span, quoted=True) if place in paths else node
