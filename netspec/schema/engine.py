"""jsonschema, kept behind one door: a node and a schema go in, findings and the places inside come out.

jsonschema judges plain values, one place at a time; what a `$ref` leads to is left out of the value and handed back, to
be judged as a place of its own. It is imported when the first place is judged, since that takes a tenth of a second.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from netspec.document import Mapping, Node, Scalar, Sequence
from netspec.schema.pieces import EXPRESSION, IDENTIFIER, Schema, kind_of

if TYPE_CHECKING:
    from jsonschema import ValidationError
    from jsonschema.protocols import Validator

Step = str | int
Rule = Literal["keys", "value", "limit", "empty"]

_LIMITS = frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "enum", "const"})
_JSON_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string", type(None): "null"}


class Child(NamedTuple):
    """A place inside another: what kind it is of, the way to it, its node."""

    kind: str
    path: tuple[Step, ...]
    node: Node


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What is wrong at `path` inside a place: its keys, the value's type, a limit that it breaks, or its emptiness."""

    path: tuple[Step, ...]
    rule: Rule
    missing: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    known: tuple[str, ...] = ()


class Judge:
    """A schema, and the jsonschema validators of its alternatives, made when first needed and kept."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self._validators: dict[int, Validator] = {}

    def choose(self, node: Node) -> Schema | None:
        """The alternative of the schema that is made for this type of node; None where none is."""
        if "anyOf" not in self.schema:
            return self.schema if _fits(self.schema, node) else None
        return next((schema for schema in self.schema["anyOf"] if _fits(schema, node)), None)

    def findings(self, node: Node, schema: Schema) -> tuple[list[Finding], list[Child]]:
        """What is wrong with the node, and the places inside it. `schema` is what `choose` gave."""
        validator = self._validators.get(id(schema))
        if validator is None:
            validator = self._validators[id(schema)] = _validator_class()(_shallow(schema))
        children: list[Child] = []
        value = _cut(node, schema, (), children)
        return list(_digest(validator.iter_errors(value))), children


def json_type(node: Node) -> str:
    if isinstance(node, Scalar):
        return _JSON_TYPES[type(node.value)]
    return "object" if isinstance(node, Mapping) else "array"


def inner(schema: Schema, step: Step) -> Schema:
    """The schema of an item or of a key's value; empty where anything may stand."""
    if isinstance(step, int):
        found = schema.get("items", {})
    else:
        found = schema.get("properties", {}).get(step, schema.get("additionalProperties", {}))
    return found if isinstance(found, dict) else {}


def _fits(schema: Schema, node: Node) -> bool:
    wanted = schema.get("type")
    found = json_type(node)
    return wanted is None or found == wanted or (wanted == "number" and found == "integer")


def _cut(node: Node, schema: Schema, path: tuple[Step, ...], children: list[Child]) -> Any:
    """The plain value, with null for what a `$ref` leads to; those places are added to `children`."""
    kind = kind_of(schema)
    if kind is not None:
        children.append(Child(kind, path, node))
        return None
    if isinstance(node, Scalar):
        return node.value
    if isinstance(node, Sequence):
        items = inner(schema, 0)
        return [_cut(item, items, (*path, i), children) for i, item in enumerate(node.items)]
    return {key: _cut(item, inner(schema, key), (*path, key), children) for key, item in node.items.items()}


def _shallow(schema: Schema) -> Any:
    """The schema as jsonschema is to see it: anything may stand where a `$ref` is; names are checked elsewhere."""
    if kind_of(schema) is not None:
        return True
    made: Schema = {}
    for key, part in schema.items():
        if key in ("propertyNames", "description", "default", "expects") or part == IDENTIFIER:
            continue
        if key == "properties":
            made[key] = {name: _shallow(inside) for name, inside in part.items()}
        elif key in ("items", "additionalProperties") and isinstance(part, dict):
            made[key] = _shallow(part)
        else:
            made[key] = part
    return made


@cache
def _validator_class() -> Any:
    """Draft 7, in which a whole float is no integer: YAML keeps `2` and `2.0` apart, and so does torch."""
    from jsonschema.validators import Draft7Validator, extend

    def is_integer(checker: object, value: object) -> bool:
        return isinstance(value, int) and not isinstance(value, bool)

    checker = Draft7Validator.TYPE_CHECKER.redefine("integer", is_integer)
    return extend(Draft7Validator, type_checker=checker)  # type: ignore[no-untyped-call]


def _digest(errors: Iterator[ValidationError]) -> Iterator[Finding]:
    """One finding for each mapping with wrong keys, and one for each wrong value."""
    mappings: dict[tuple[Step, ...], ValidationError] = {}
    for error in errors:
        path = tuple(error.absolute_path)
        if error.validator in ("required", "additionalProperties"):
            mappings.setdefault(path, error)
        elif error.validator in ("minItems", "minProperties") and not error.instance:
            yield Finding(path=path, rule="empty")
        else:
            leaf = _leaf(error)
            rule: Rule = "limit" if leaf.validator in _LIMITS else "value"
            yield Finding(path=tuple(leaf.absolute_path), rule=rule)
    for path, error in mappings.items():
        schema: Any = error.schema
        properties, instance = schema.get("properties", {}), error.instance
        closed = schema.get("additionalProperties") is False
        assert isinstance(instance, dict)
        yield Finding(
            path=path,
            rule="keys",
            missing=tuple(key for key in schema.get("required", ()) if key not in instance),
            unknown=tuple(key for key in instance if closed and key not in properties),
            known=tuple(properties),
        )


def _leaf(error: ValidationError) -> ValidationError:
    """The error inside an `anyOf` that says most: the deepest, and of these one about a limit."""
    leaves = [leaf for leaf in _leaves(error) if leaf.schema != EXPRESSION]
    return max(leaves, key=lambda leaf: (len(leaf.absolute_path), leaf.validator in _LIMITS), default=error)


def _leaves(error: ValidationError) -> Iterator[ValidationError]:
    if not error.context:
        yield error
    for inside in error.context:
        yield from _leaves(inside)
