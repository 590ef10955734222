"""The few forms from which the structure of a document is put together.

Everything here is draft-07 JSON Schema, with two words of ours for messages, which others ignore: `expects` says what
a value may be, and `example` shows one as YAML. A `$ref` names a kind of place (`#/definitions/layer`), at which
the validator begins anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

Schema = dict[str, Any]

IDENTIFIER: Final = r"^[^\W\d]\w*$"

EXPRESSION: Final[Schema] = {"type": "string", "pattern": r"\$"}
"""`$name`, `$(…)` or a text with either in it stands wherever a value does."""

ANYTHING: Final[Schema] = {}
INTEGER: Final[Schema] = {"type": "integer"}
COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
NUMBER: Final[Schema] = {"type": "number"}
BOOLEAN: Final[Schema] = {"type": "boolean"}
TEXT: Final[Schema] = {"type": "string"}
NAMES: Final[Schema] = {"anyOf": [TEXT, {"type": "array", "items": TEXT}]}


def ref(kind: str, description: str = "") -> Schema:
    """A place of that kind. The description is for editors, which read what stands beside a `$ref`."""
    schema = {"$ref": f"#/definitions/{kind}"}
    return {**schema, "description": description} if description else schema


def kind_of(schema: Schema) -> str | None:
    """The kind of place that a schema refers to, if it does."""
    target = schema.get("$ref")
    return target.removeprefix("#/definitions/") if isinstance(target, str) else None


def record(properties: Mapping[str, Schema], required: Iterable[str] = (), example: str = "") -> Schema:
    """A mapping with these keys and no others."""
    schema: Schema = {"type": "object", "properties": dict(properties), "additionalProperties": False}
    if needed := list(required):
        schema["required"] = needed
    return fixed(schema, "a mapping", example=example) if example else schema


def table(values: Schema, expects: str, example: str = "", names: str = IDENTIFIER) -> Schema:
    """A mapping whose keys the user chooses."""
    schema = {"type": "object", "additionalProperties": values, "propertyNames": {"pattern": names}}
    return fixed(schema, expects, example=example)


def array(items: Schema, expects: str = "", example: str = "", minimum: int = 0) -> Schema:
    schema: Schema = {"type": "array", "items": items}
    if minimum:
        schema["minItems"] = minimum
    return fixed(schema, expects, example=example) if expects else schema


def fixed(schema: Schema, expects: str, description: str = "", example: str = "") -> Schema:
    """A value that has to stand there as it is: no expression."""
    made = {**schema, "expects": expects}
    if description:
        made["description"] = description
    if example:
        made["example"] = example
    return made


def value(schema: Schema, expects: str, description: str = "") -> Schema:
    """A value that may also be an expression, in whole or in any item."""
    alternatives = _alternatives(with_expressions(schema))
    made: Schema = {"anyOf": [*alternatives, EXPRESSION], "expects": expects} if alternatives != [{}] else {}
    for annotation in ("default", "description"):
        if annotation in schema:
            made[annotation] = schema[annotation]
    return {**made, "description": description} if description else made


def choice(words: Iterable[str], description: str = "") -> Schema:
    listed = list(words)
    made = value({"enum": listed}, either([f"`{word}`" for word in listed]), description)
    return {**made, "example": listed[0]}


def with_expressions(schema: Schema) -> Schema:
    """The same schema, with expressions allowed for the items of its lists, at any depth."""
    made = dict(schema)
    if "anyOf" in schema:
        made["anyOf"] = [with_expressions(alternative) for alternative in schema["anyOf"]]
    if schema.get("items"):
        made["items"] = {"anyOf": [*_alternatives(with_expressions(schema["items"])), EXPRESSION]}
    return made


def _alternatives(schema: Schema) -> list[Schema]:
    """What an `anyOf` may be, the annotations of the whole left out."""
    plain = {key: part for key, part in schema.items() if key not in ("description", "default", "expects", "example")}
    if set(plain) != {"anyOf"}:
        return [plain]
    alternatives: list[Schema] = plain["anyOf"]
    return [part for alternative in alternatives for part in _alternatives(alternative)]


def either(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
