"""The structure of a document: its JSON Schema for editors, and the validator that reports mistakes at their place."""

from __future__ import annotations

from netspec.schema.names import NameProblem, check_layer_name
from netspec.schema.paths import knows, suggest_path
from netspec.schema.pieces import Schema
from netspec.schema.structure import UNSUPPORTED
from netspec.schema.validator import validate

__all__ = ["UNSUPPORTED", "NameProblem", "check_layer_name", "editor_schema", "knows", "suggest_path", "validate"]


def editor_schema() -> Schema:
    """The JSON Schema (draft-07) of a document, for editors: committed as `netspec.schema.json` beside this file."""
    from netspec.schema import editor

    return editor.editor_schema()
