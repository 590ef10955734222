"""Which dotted paths of a document the schema knows, for `--set`: a typo in one is an error with a suggestion."""

from __future__ import annotations

from collections.abc import Iterator

from netspec import catalog
from netspec.schema.engine import inner
from netspec.schema.pieces import Schema, kind_of
from netspec.schema.sections import BESIDE
from netspec.schema.structure import KINDS, STEERING
from netspec.schema.typed import CATEGORIES
from netspec.suggest import suggest


def knows(path: tuple[str, ...]) -> bool:
    """Whether the schema has a value at this path.

    Names that the user chooses (of layers, of parameters) may be any on the way; what the path ends in has to be a key
    of the language, or an argument of something in the catalog.
    """
    return bool(path) and _unknown_step(path) is None


def suggest_path(path: tuple[str, ...]) -> tuple[str, ...] | None:
    """The path with its first unknown step replaced by the key that was probably meant, if there is one."""
    step = _unknown_step(path)
    if step is None:
        return None
    meant = suggest(path[step], _keys_after(path[:step]))
    return (*path[:step], meant, *path[step + 1 :]) if meant else None


def _unknown_step(path: tuple[str, ...]) -> int | None:
    """The index of the first step that the schema does not know, or does not know as an end."""
    places = [KINDS["document"]]
    for i, step in enumerate(path):
        forms = [form for place in places for form in _forms(place)]
        named = [form["properties"][step] for form in forms if step in form.get("properties", {})]
        free = [form["additionalProperties"] for form in forms if isinstance(form.get("additionalProperties"), dict)]
        items = [inner(form, 0) for form in forms if form.get("type") == "array"] if step.isdecimal() else []
        if i == len(path) - 1:  # `initialize` has the names of torch's parameters, which a user does not choose
            free = [form for form in free if kind_of(form) == "initializer"]
        places = named or items or free
        if not places:
            return i
    return None


def _keys_after(path: tuple[str, ...]) -> list[str]:
    places = [KINDS["document"]]
    for step in path:
        forms = [form for place in places for form in _forms(place)]
        places = [inner(form, 0 if form.get("type") == "array" else step) for form in forms]
    return [key for place in places for form in _forms(place) for key in form.get("properties", {})]


def _forms(schema: Schema) -> Iterator[Schema]:
    """The alternatives of a place, followed through references."""
    kind = kind_of(schema)
    if kind is not None:
        yield from _forms(KINDS["layer" if kind == "module" else kind])
        if kind in ("layer", "member", "module"):
            yield _layer()
            yield from _forms(KINDS["layers"])
        elif kind in CATEGORIES:
            yield _named(kind)
            if kind == "loss":
                yield from _forms(KINDS["losses"])
    elif "anyOf" in schema:
        for alternative in schema["anyOf"]:
            yield from _forms(alternative)
    else:
        yield schema


@catalog.cached
def _layer() -> Schema:
    arguments = (argument.name for name in catalog.names() for argument in _entry(name).arguments)
    return {"type": "object", "properties": {**{key: {} for key in arguments}, **STEERING}}


@catalog.cached
def _named(kind: str) -> Schema:
    category = CATEGORIES[kind]
    names = catalog.names(category)
    arguments = (argument.name for name in names for argument in _entry(name, category).arguments)
    return {"type": "object", "properties": {"type": {}, **{key: {} for key in arguments}, **BESIDE[kind]}}


def _entry(name: str, category: catalog.Category | None = None) -> catalog.Entry:
    entry = catalog.lookup(name, category)
    assert entry is not None
    return entry
