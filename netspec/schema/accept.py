"""Whether a value fits a schema, and no more than that: what most values do, in a few microseconds.

jsonschema says what is wrong with a value, but importing it takes a tenth of a second, which a spec without mistakes
need not wait for. So a value is tried here first, and given to jsonschema only where it does not fit. This covers the
words of draft-07 that our schemas use; `tests/test_schema_structure.py` holds it against jsonschema.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

Test = Callable[[Any], bool]


def acceptor(schema: Any) -> Test:
    """A function that says whether a value fits. Raises KeyError for a word of JSON Schema that is not known here."""
    if schema is True:
        return lambda value: True
    tests = [_WORDS[word](argument, schema) for word, argument in schema.items()]
    if len(tests) == 1:
        return tests[0]
    return lambda value: all(test(value) for test in tests)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_TYPES: Final[dict[str, Test]] = {
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": _is_number,
    "boolean": lambda value: isinstance(value, bool),
    "string": lambda value: isinstance(value, str),
    "null": lambda value: value is None,
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
}


def _type(names: str | list[str], schema: Any) -> Test:
    if isinstance(names, str):
        return _TYPES[names]
    tests = [_TYPES[name] for name in names]
    return lambda value: any(test(value) for test in tests)


def _any_of(alternatives: list[Any], schema: Any) -> Test:
    tests = [acceptor(alternative) for alternative in alternatives]
    return lambda value: any(test(value) for test in tests)


def _enum(choices: list[Any], schema: Any) -> Test:
    # In JSON, unlike in Python, true is not 1.
    return lambda value: any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in choices)


def _pattern(pattern: str, schema: Any) -> Test:
    search = re.compile(pattern).search
    return lambda value: not isinstance(value, str) or search(value) is not None


def _items(items: Any, schema: Any) -> Test:
    test = acceptor(items)
    return lambda value: not isinstance(value, list) or all(test(item) for item in value)


def _properties(properties: dict[str, Any], schema: Any) -> Test:
    tests = {key: acceptor(inside) for key, inside in properties.items()}
    return lambda value: (
        not isinstance(value, dict) or all(tests[key](item) for key, item in value.items() if key in tests)
    )


def _additional(rest: Any, schema: Any) -> Test:
    known = frozenset(schema.get("properties", ()))
    test: Test = (lambda value: False) if rest is False else acceptor(rest)
    return lambda value: (
        not isinstance(value, dict) or all(test(item) for key, item in value.items() if key not in known)
    )


_WORDS: Final[dict[str, Callable[[Any, Any], Test]]] = {
    "type": _type,
    "anyOf": _any_of,
    "enum": _enum,
    "const": lambda one, schema: _enum([one], schema),
    "pattern": _pattern,
    "minimum": lambda limit, schema: lambda value: not _is_number(value) or value >= limit,
    "maximum": lambda limit, schema: lambda value: not _is_number(value) or value <= limit,
    "items": _items,
    "minItems": lambda count, schema: lambda value: not isinstance(value, list) or len(value) >= count,
    "maxItems": lambda count, schema: lambda value: not isinstance(value, list) or len(value) <= count,
    "properties": _properties,
    "minProperties": lambda count, schema: lambda value: not isinstance(value, dict) or len(value) >= count,
    "additionalProperties": _additional,
    "required": lambda keys, schema: lambda value: not isinstance(value, dict) or all(key in value for key in keys),
}
