"""A model from its source file: what a run trains and predicts with is the `model.py` that a person can read."""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Final

from torch import nn

from netspec.runtime.errors import RunError

SOURCE: Final = "netspec_model_"
"""How the names begin under which emitted models are imported."""


def import_source(path: Path) -> ModuleType:
    """Import a generated file by path, under a name that its content determines."""
    name = SOURCE + hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    found = importlib.util.spec_from_file_location(name, path)
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules[name] = module  # dataclasses and named tuples look their module up there
    cached, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        found.loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = cached
    return module


def model_class(module: ModuleType) -> type[nn.Module]:
    """The model of a generated file: the last module class that it defines; the blocks stand above it."""
    classes = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, nn.Module) and value.__module__ == module.__name__
    ]
    if not classes:
        raise RunError("NS904", f"{Path(module.__file__ or '').name} defines no module")
    return classes[-1]


def check_source(path: Path, expected: str, *, trust: bool) -> None:
    """Refuse a run's source that is not what its spec says: it is code, and would be run.

    Raises RunError NS904, which shows the first lines that differ, unless the person trusts the file.
    """
    try:
        found = path.read_text(encoding="utf-8")
    except OSError as error:
        raise RunError("NS904", f"the run has no readable {path.name}: {error.strerror}") from error
    shown = "" if trust else changed_lines(expected, found, "spec", path.name)
    if not shown:
        return
    raise RunError(
        "NS904",
        f"{path.name} of this run is not what its spec says:\n{shown}",
        help="if the file is yours and you mean it, run it with --trust",
    )


def changed_lines(one: str, other: str, name: str, other_name: str) -> str:
    """The first lines in which two sources differ, as a diff; empty where they don't."""
    lines = difflib.unified_diff(body(one).splitlines(), body(other).splitlines(), name, other_name, lineterm="", n=0)
    return "\n".join(list(lines)[:12])


def body(source: str) -> str:
    """The source without its first comment lines, which name the spec's path."""
    lines = source.splitlines()
    while lines and (lines[0].startswith("#") or not lines[0].strip()):
        lines.pop(0)
    return "\n".join(lines).rstrip() + "\n"
