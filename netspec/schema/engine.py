"""jsonschema, kept behind one door: a node and a schema go in, findings and the places inside come out.

jsonschema judges plain values, one place at a time; what a `$ref` leads to is left out of the value and handed back, to
be judged as a place of its own. It is imported only when a value does not fit its schema (`accept.py`), to say why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from netspec.document import Mapping, Node, Scalar, Sequence
from netspec.schema.accept import Test, acceptor
from netspec.schema.pieces import ANYTHING, IDENTIFIER, Schema, kind_of

if TYPE_CHECKING:
    from jsonschema import ValidationError

Step = str | int
Rule = Literal["keys", "value", "limit", "empty"]

_LIMITS: Final = frozenset({"minimum", "maximum", "enum", "const"})
_UNSEEN: Final = frozenset({"propertyNames", "description", "default", "expects", "example"})
_JSON_TYPES: Final = {bool: "boolean", int: "integer", float: "number", str: "string", type(None): "null"}


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
    """A schema, and what tells whether its alternatives are met, made when first needed and kept."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self._made: dict[int, tuple[Schema, Test]] = {}

    def choose(self, node: Node) -> Schema | None:
        """The alternative of the schema that is made for this type of node; None where none is."""
        if "anyOf" not in self.schema:
            return self.schema if _fits(self.schema, node) else None
        return next((schema for schema in self.schema["anyOf"] if _fits(schema, node)), None)

    def findings(self, node: Node, schema: Schema) -> tuple[list[Finding], list[Child]]:
        """What is wrong with the node, and the places inside it. `schema` is what `choose` gave."""
        if id(schema) not in self._made:
            shallow = bare(schema)
            self._made[id(schema)] = (shallow, acceptor(shallow))
        shallow, fits = self._made[id(schema)]
        children: list[Child] = []
        value = _cut(node, schema, (), children)
        return [] if fits(value) else list(explain(value, shallow)), children


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
    if kind is None and schema is ANYTHING and isinstance(node, Mapping):
        kind = "value"  # of a person's own values the only mappings are layers
    if kind is not None:
        children.append(Child(kind, path, node))
        return None
    if isinstance(node, Scalar):
        return node.value
    if isinstance(node, Sequence):
        items = ANYTHING if schema is ANYTHING else inner(schema, 0)
        return [_cut(item, items, (*path, i), children) for i, item in enumerate(node.items)]
    return {key: _cut(item, inner(schema, key), (*path, key), children) for key, item in node.items.items()}


def bare(schema: Any) -> Any:
    """The schema as values are held against it: anything may stand where a `$ref` is; names are checked elsewhere."""
    if not isinstance(schema, dict):
        return schema
    if kind_of(schema) is not None:
        return True
    made: Schema = {}
    for word, part in schema.items():
        if word == "properties":
            made[word] = {key: bare(inside) for key, inside in part.items()}
        elif word == "anyOf":
            made[word] = [bare(alternative) for alternative in part]
        elif word not in _UNSEEN and part != IDENTIFIER:
            made[word] = bare(part) if word in ("items", "additionalProperties") else part
    return made


def explain(value: object, schema: Schema) -> Iterator[Finding]:
    """What jsonschema finds wrong with a plain value: one finding for a mapping's keys, one for each wrong value."""
    mappings: dict[tuple[Step, ...], ValidationError] = {}
    for error in validator_class()(schema).iter_errors(value):
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
        failed: Any = error.schema
        properties, instance = failed.get("properties", {}), error.instance
        closed = failed.get("additionalProperties") is False
        assert isinstance(instance, dict)
        yield Finding(
            path=path,
            rule="keys",
            missing=tuple(key for key in failed.get("required", ()) if key not in instance),
            unknown=tuple(key for key in instance if closed and key not in properties),
            known=tuple(properties),
        )


@cache
def validator_class() -> Any:
    """jsonschema's Draft 7, with two things of YAML's that JSON has not.

    A whole float is no integer: `2` and `2.0` are two things, to torch as well. And `.nan` is within no limits.
    """
    from jsonschema import ValidationError
    from jsonschema.validators import Draft7Validator, extend

    def is_integer(checker: object, value: object) -> bool:
        return isinstance(value, int) and not isinstance(value, bool)

    def limit(word: str) -> Callable[..., Iterator[ValidationError]]:
        def check(validator: Any, bound: float, value: Any, schema: object) -> Iterator[ValidationError]:
            if validator.is_type(value, "number") and not (value >= bound if word == "minimum" else value <= bound):
                yield ValidationError(f"{value} breaks the {word} of {bound}")

        return check

    checker = Draft7Validator.TYPE_CHECKER.redefine("integer", is_integer)
    limits = {word: limit(word) for word in ("minimum", "maximum")}
    return extend(Draft7Validator, limits, type_checker=checker)  # type: ignore[no-untyped-call]


def _leaf(error: ValidationError) -> ValidationError:
    """The error inside an `anyOf` that says most: the deepest, and of these one about a limit."""
    return max(_leaves(error), key=lambda leaf: (len(leaf.absolute_path), leaf.validator in _LIMITS))


def _leaves(error: ValidationError) -> Iterator[ValidationError]:
    if not error.context:
        yield error
    for inside in error.context:
        yield from _leaves(inside)
