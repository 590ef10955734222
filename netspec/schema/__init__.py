"""The structure of a document: its JSON Schema for editors, and the validator that reports mistakes at their place."""

from netspec.schema.names import NameProblem, check_layer_name
from netspec.schema.paths import knows, suggest_path
from netspec.schema.structure import UNSUPPORTED
from netspec.schema.validator import validate

__all__ = ["UNSUPPORTED", "NameProblem", "check_layer_name", "knows", "suggest_path", "validate"]
