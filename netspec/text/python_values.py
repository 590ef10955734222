"""A document that comes as Python values: what in it can be said in YAML, and what cannot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from netspec.diagnostics import Diagnostics
from netspec.text.events import MAX_DEPTH, MAX_VALUES


class _Wrong(Exception):
    pass


def checked(spec: Any, diagnostics: Diagnostics) -> dict[str, Any] | None:
    """The values as plain dicts, lists and scalars, or None after reporting the first that is neither."""
    if not isinstance(spec, Mapping):
        diagnostics.error("NS005", f"a spec is a mapping, this is {_kind(spec)}", None, help="give a dict or a path")
        return None
    try:
        values = _checked(spec, "", [0], 0)
    except _Wrong as problem:
        diagnostics.error("NS028", str(problem), None, help="use dicts with text keys, lists, numbers, text and None")
        return None
    assert isinstance(values, dict)
    return values


def _checked(value: Any, path: str, count: list[int], depth: int) -> Any:
    count[0] += 1
    if depth > MAX_DEPTH:
        raise _Wrong(f"`{path}` is more than {MAX_DEPTH} levels deep")
    if count[0] > MAX_VALUES:
        raise _Wrong(f"the spec holds more than {MAX_VALUES:,} values")
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise _Wrong(f"the key {key!r} in {_at(path)} is {_kind(key)}")
        return {key: _checked(item, f"{path}.{key}" if path else key, count, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_checked(item, f"{path}.{index}", count, depth + 1) for index, item in enumerate(value)]
    raise _Wrong(f"{_at(path)} is {_kind(value)}, which YAML cannot say")


def _at(path: str) -> str:
    return f"`{path}`" if path else "the spec"


def _kind(value: Any) -> str:
    name = type(value).__name__
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"
