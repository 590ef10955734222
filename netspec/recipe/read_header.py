"""A source held against the files that it names, as far as their headers tell: columns of tables, arrays by name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from collections.abc import Mapping as MappingABC
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from netspec.catalog.sources import FieldInfo
from netspec.diagnostics import Diagnostics, Span
from netspec.document import Mapping, Node, Sequence
from netspec.recipe import peek
from netspec.recipe.data import Source
from netspec.recipe.field_flow import Fields
from netspec.recipe.reading import show
from netspec.suggest import suggest

TABLES = ("CSV", "Parquet")
FILES = (*TABLES, "NumPy")
"""Sources with columns that are no fields."""
LISTED = 20
"""So many names a message lists."""


@dataclass(frozen=True, slots=True)
class Aside:
    """A column that a split or a sampler goes by, and where it is named."""

    name: str
    span: Span


def with_header(
    source: Source,
    node: Node,
    fields: MappingABC[str, FieldInfo] | None,
    aside: Iterable[Aside],
    diagnostics: Diagnostics,
) -> Fields | None:
    """The fields with what the headers of the source's files tell of them; a name that they lack is reported."""
    known = None if fields is None else dict(fields)
    if source.type in TABLES:
        return _of_table(source, node, known or {}, tuple(aside), diagnostics)
    if source.type == "NumPy":
        return _of_arrays(source, node, known or {}, tuple(aside), diagnostics) or known
    return known


def _of_table(source: Source, node: Node, fields: Fields, aside: tuple[Aside, ...], diagnostics: Diagnostics) -> Fields:
    arguments = source.arguments
    columns = peek.columns(Path(arguments["path"]), arguments.get("delimiter", ","))
    if columns is None:
        return fields
    places = [
        *(place for key in ("label", "target", "features", "categorical") for place in _named(node, key, arguments)),
        *((one.name, one.span) for one in aside),
    ]
    lacking = [(name, span) for name, span in places if name not in columns]
    for name, span in lacking:
        _report("column", name, span, arguments["path"], columns, diagnostics)
    outputs = {name for key in ("label", "target") for name, _ in _named(node, key, arguments)}
    features = arguments["features"] or [name for name in columns if name not in outputs | {one.name for one in aside}]
    if lacking or "features" not in fields or set(features) & set(arguments["categorical"]):
        return fields
    return {**fields, "features": replace(fields["features"], shape=(len(features),))}


def _named(node: Node, key: str, arguments: MappingABC[str, Any]) -> Iterator[tuple[str, Span]]:
    """The columns that an argument names, each with its place."""
    value = arguments[key]
    stated = node.items.get(key) if isinstance(node, Mapping) else None
    if stated is None or value is None:
        return
    names = [value] if isinstance(value, str) else value
    places = stated.items if isinstance(stated, Sequence) and len(stated.items) == len(names) else [stated] * len(names)
    yield from ((name, place.span) for name, place in zip(names, places, strict=True))


def _of_arrays(
    source: Source, node: Node, fields: Fields, aside: tuple[Aside, ...], diagnostics: Diagnostics
) -> Fields | None:
    arguments = source.arguments
    stored = peek.arrays(arguments["path"])
    if stored is None:
        return None
    apart = {one.name for one in aside}
    for one in aside:
        if one.name not in stored and "" not in stored:
            _report("array", one.name, one.span, _paths(arguments["path"]), tuple(stored), diagnostics)
    stated: MappingABC[str, str] | None = arguments["fields"]
    names = stated or {name or "features": name for name in stored if name not in apart}
    if list(stored) == [""]:  # one array of a file without names is whatever the spec calls it
        if len(names) > 1:
            return None
        names = dict.fromkeys(names, "")
    found: Fields = {}
    written = node.items.get("fields") if isinstance(node, Mapping) else None
    for field, name in names.items():
        if name not in stored:
            place = written.items[field].span if isinstance(written, Mapping) and field in written.items else node.span
            _report("array", name, place, _paths(arguments["path"]), tuple(stored), diagnostics)
            return None
        known = fields.get(field) or FieldInfo(name=field, shape=None, dtype="any")
        found[field] = _described(known, stored[name], arguments["channels_last"])
    return found


def _described(field: FieldInfo, array: peek.Stored, channels_last: bool) -> FieldInfo:
    """What the source makes of an array: floats of 32 bits, int64, an image's bytes as they are, channels first."""
    shape, letter = array.shape[1:], array.kind[:1]
    if field.name == "image" and len(array.shape) == 3:
        shape = (1, *shape)
    elif field.name == "image" and channels_last and len(shape) == 3:
        shape = (shape[2], shape[0], shape[1])
    if letter not in "biuf" or not array.shape:
        return replace(field, shape=None, dtype="any")
    bytes_ = field.name == "image" and array.kind == "u1"
    dtype = "uint8" if bytes_ else {"b": "bool", "f": "float32"}.get(letter, "int64")
    return replace(field, shape=shape, dtype=dtype)


def _paths(path: str | MappingABC[str, str]) -> str:
    return path if isinstance(path, str) else ", ".join(path.values())


def _report(what: str, name: str, span: Span, path: str, names: tuple[str, ...], diagnostics: Diagnostics) -> None:
    near = suggest(name, names)
    told = ", ".join(names[:LISTED]) + (", …" if len(names) > LISTED else "")
    help = f"did you mean {show(near)}?" if near else f"its {what}s are {told}"
    other = next((sign for sign in (";", "\t", "|") if len(names) == 1 and sign in names[0]), None)
    if other is not None:
        help = f"its only column is {show(names[0])}: cells stand apart by another sign, `delimiter: {other!r}`"
    diagnostics.error("NS512", f"{_short(path)} has no {what} {show(name)}", span, help=help)


def _short(path: str) -> str:
    return f"`{Path(path).name}`" if ", " not in path else path
