"""The schema that editors use to complete a spec, show what a key means, and underline what cannot be.

It is made of the same pieces as the validator's, as plain draft-07: `type` is one of the catalog's names or any other
string, since blocks are names too, and an `if`/`then` for each name says which arguments it takes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from netspec import catalog
from netspec.catalog import Category, Entry
from netspec.schema.pieces import EXPRESSION, TEXT, Schema, array, kind_of, ref
from netspec.schema.sections import BESIDE
from netspec.schema.structure import KINDS, STEERING, UNSUPPORTED, VERSION
from netspec.schema.typed import CATEGORIES, entry_schema

_FILE: Final[dict[str, Schema]] = {
    "file": {
        "type": "string",
        "description": "Takes this section from another file; `file.yaml#models.generator` takes a part of it.",
    },
    "params": {"type": "object", "description": "Values for the parameters of that file."},
}
_SECTIONS: Final = ("model", "one_model", "data", "train")
_MERGED: Final = ("document", "block", *_SECTIONS)
"""What may be written in part, with the rest in a base or another file: nothing in it is required here."""
_OURS: Final = ("expects", "example")
_SHARED: Final = "torchvision.ops."
"""Where modules come from by whose names people call blocks too (`MLP`): what these take is offered, not asked for."""


def editor_schema() -> Schema:
    """The whole schema, with every entry that the catalog has now."""
    definitions: dict[str, Any] = {kind: _published(_supported(kind, schema)) for kind, schema in KINDS.items()}
    definitions["expression"] = {**EXPRESSION, "description": "An expression: `$name`, or `$(…)` for arithmetic."}
    for kind in _MERGED:
        definitions[kind].pop("required", None)
    for kind in _SECTIONS:
        definitions[kind]["properties"] |= _FILE
    layers = [*_entries(None), *_entries("model")]
    definitions["layer"] = _layer("layer_type")
    definitions["member"] = _layer("member_type")
    definitions["module"] = {"anyOf": [ref("layer"), {"type": "null"}]}
    definitions["layer_type"] = _names(layers)
    definitions["member_type"] = _names(entry for entry in layers if entry.category != "function")
    definitions["layer_mapping"] = _mapping("layer", layers, STEERING)
    for kind, category in CATEGORIES.items():
        entries = _entries(category)
        definitions[f"{kind}_type"] = _names(entries)
        definitions[f"{kind}_mapping"] = _mapping(kind, entries, BESIDE[kind])
        others = [ref(f"{kind}_type"), *([{"type": "number"}] if kind == "initializer" else [])]
        definitions[kind] = _by_form(others, ref(f"{kind}_mapping"))
    definitions["loss"]["then"] = {"if": {"required": ["type"]}, "then": ref("loss_mapping"), "else": ref("losses")}
    document = definitions.pop("document")
    reached = _reached(document, definitions)
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "description": f"A network and how it is trained, in version {VERSION} of netspec's language.",
        **document,
        "definitions": {name: schema for name, schema in definitions.items() if name in reached},
    }


def _reached(part: Any, definitions: Mapping[str, Any]) -> set[str]:
    """The definitions that a part of the schema refers to, directly or through others."""
    found: set[str] = set()
    waiting = [part]
    while waiting:
        part = waiting.pop()
        if isinstance(part, list):
            waiting += part
        elif isinstance(part, dict):
            kind = kind_of(part)
            if kind is not None and kind not in found:
                found.add(kind)
                waiting.append(definitions[kind])
            waiting += part.values()
    return found


def _entries(category: Category | None) -> list[Entry]:
    found = (catalog.lookup(name, category) for name in catalog.names(category))
    return [entry for entry in found if entry is not None]


def _names(entries: Iterable[Entry]) -> Schema:
    """One of these names, each with its description, or any other string."""
    return {"anyOf": [*({"const": entry.name, "description": entry.doc} for entry in entries), TEXT]}


def _layer(types: str) -> Schema:
    return _by_form([ref(types), array(ref("member"))], ref("layer_mapping"))


def _by_form(others: list[Schema], mapping: Schema) -> Schema:
    """One of several forms; a mapping is judged by itself, or editors blame it for not being one of the others."""
    return {"anyOf": [*others, {"type": "object"}], "if": {"type": "object"}, "then": mapping}


def _mapping(kind: str, entries: Iterable[Entry], beside: Mapping[str, Schema]) -> Schema:
    """A mapping whose `type` decides which arguments may stand in it; a block's may be any."""
    shared = {key: part for key, part in beside.items() if f"{kind}.{key}" not in UNSUPPORTED}
    if "initialize" in shared:  # a tensor that stands alone takes an initializer itself
        either = [ref("initialize"), ref("initializer")]
        shared["initialize"] = {"anyOf": either, "description": "How its weights start."}
    pattern = f"^({'|'.join(sorted({*shared, 'type'}))})$"
    closed = {"patternProperties": {pattern: True}, "additionalProperties": False}
    cases: list[Schema] = []
    if kind == "layer":
        cases.append({"if": {"not": {"required": ["type"]}}, "then": closed})
    for entry in entries:
        schema = entry_schema(kind, entry.name)
        arguments = {key: part for key, part in schema["properties"].items() if key not in beside and key != "type"}
        needed = {"required": schema["required"]} if "required" in schema else {}
        takes = {"properties": _published_all(arguments), **needed, **closed}
        if entry.target.startswith(_SHARED):
            takes = {"properties": takes["properties"]}
        alike = next((case for case in cases if case.get("then") == takes), None) if entry.category == "model" else None
        if alike is not None:  # models of one family take the same
            alike["if"]["properties"]["type"]["enum"].append(entry.name)
            continue
        named = {"enum": [entry.name]} if entry.category == "model" else {"const": entry.name}
        cases.append({"if": {"properties": {"type": named}, "required": ["type"]}, "then": takes})
    return {
        "type": "object",
        "properties": {**_published_all(shared), "type": ref(f"{kind}_type", "What it is, by name.")},
        "allOf": cases,
        **({} if kind in ("layer", "scheduler") else {"required": ["type"]}),
    }


def _supported(kind: str, schema: Schema) -> Schema:
    """The schema of a kind without the keys that this version does not do yet."""
    if "anyOf" in schema:
        return {**schema, "anyOf": [_supported(kind, part) for part in schema["anyOf"]]}
    if "properties" not in schema:
        return schema
    kept = {key: part for key, part in schema["properties"].items() if f"{kind}.{key}" not in UNSUPPORTED}
    return {**schema, "properties": kept}


def _published(schema: Any) -> Any:
    """A schema without our own words, and with expressions defined once: they may stand nearly everywhere."""
    if isinstance(schema, list):
        return [_published(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if schema == EXPRESSION:
        return ref("expression")
    return {
        key: _published_all(part) if key == "properties" else _published(part)
        for key, part in schema.items()
        if key not in _OURS
    }


def _published_all(properties: Mapping[str, Schema]) -> dict[str, Any]:
    return {key: _published(part) for key, part in properties.items()}
