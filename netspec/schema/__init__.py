"""The structure of a document: its JSON Schema for editors, and the validator that reports mistakes at their place."""

from netspec.schema.names import NameProblem, check_layer_name
from netspec.schema.structure import UNSUPPORTED
from netspec.schema.validator import validate

__all__ = ["UNSUPPORTED", "NameProblem", "check_layer_name", "validate"]
