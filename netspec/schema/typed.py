"""The schema of one mapping with a `type`: the keys that may stand beside it, and the arguments of what is named."""

from __future__ import annotations

from collections.abc import Mapping as MappingType
from functools import cache

from netspec.catalog import Argument, Category, Entry, cached, lookup
from netspec.catalog.constant_targets import PORT, takes_constant
from netspec.catalog.kinds import describe, json_schema
from netspec.catalog.losses_classes import BALANCED, weighs_classes
from netspec.document import Mapping, Node, Scalar
from netspec.schema.pieces import (
    ANYTHING,
    BOOLEAN,
    INTEGER,
    NAMES,
    NUMBER,
    TEXT,
    Schema,
    array,
    fixed,
    record,
    ref,
    value,
)
from netspec.schema.sections import BESIDE, MASK, TARGET
from netspec.schema.structure import STEERING

CATEGORIES: dict[str, Category] = {
    "initializer": "initializer",
    "source": "source",
    "transform": "transform",
    "optimizer": "optimizer",
    "scheduler": "scheduler",
    "loss": "loss",
    "loss_term": "loss",
    "metric": "metric",
    "study_sampler": "sampler",
    "study_pruner": "pruner",
}
"""The kinds of place, other than layers, that name an entry of the catalog, and the category of it."""

_WORDS: dict[str, Schema] = {
    "int": value(INTEGER, "an integer"),
    "float": value(NUMBER, "a number"),
    "bool": value(BOOLEAN, "true or false"),
    "str": value(TEXT, "a string"),
    "list": value(array(ANYTHING), "a list"),
    "layer": ref("module"),
    "block": ref("module"),
}


def argument_schema(argument: Argument) -> Schema:
    """What may stand for an argument of a catalog entry: its kind, or an expression."""
    if argument.takes_module or argument.takes_class:
        return ref("module", argument.doc)
    return value(json_schema(argument), describe(argument))


def takes(entry: Entry, beside: MappingType[str, Schema]) -> Schema:
    """The schema of a mapping that names the entry; `beside` are the keys that are no arguments."""
    arguments = {a.name: argument_schema(a) for a in entry.arguments}
    return record({**arguments, **beside}, [a.name for a in entry.arguments if a.required])


def _of_loss(entry: Entry, factor: list[Schema]) -> dict[str, Schema]:
    """What a loss takes beside its arguments, under `train`; `factor` is what `weight` may be as well."""
    found = {"mask": MASK, **({PORT: TARGET} if takes_constant(entry) else {})}
    weight = entry.argument("weight")
    if weight is not None and weighs_classes(entry):
        found["weight"] = value(
            {"anyOf": [*factor, json_schema(weight), {"enum": [BALANCED]}]},
            f"{'a factor, ' if factor else ''}a list of one for each class, or `{BALANCED}`",
            f"A factor for each class; under `train`, `{BALANCED}` takes it from how often each occurs in the training "
            f"data.",
        )
    return found


@cached
def entry_schema(kind: str, name: str) -> Schema:
    """The schema of a place of that kind that names this entry."""
    if kind == "layer":
        entry = lookup(name)
        assert entry is not None
        start = {"initialize": ref("initializer", "How it starts.")} if entry.category == "weight" else {}
        return takes(entry, {**STEERING, **start, **(_of_loss(entry, []) if entry.category == "loss" else {})})
    entry = lookup(name, CATEGORIES[kind])
    assert entry is not None
    beside = {"type": fixed(TEXT, "a name"), **BESIDE[kind]}
    if entry.category == "loss":
        beside |= _of_loss(entry, [NUMBER] if kind == "loss_term" else [])
    if kind == "optimizer":
        settings = {a.name: argument_schema(a) for a in entry.arguments}
        match = fixed(NAMES, "a pattern of parameter names, or a list of them", "Which parameters: `*.bias`, `head.*`.")
        group = record({**settings, "match": match}, ["match"], "{match: '*.bias', weight_decay: 0}")
        beside["groups"] = array(group, "a list of groups", "[{match: '*.bias', weight_decay: 0}]")
    elif kind == "scheduler" and entry.argument("schedulers") is not None:
        beside["schedulers"] = ref("schedulers", "The schedules that it holds.")
    elif kind == "transform":
        from netspec.catalog.transforms import TransformEntry

        if isinstance(entry, TransformEntry) and entry.nested:
            beside["transforms"] = ref("transforms", "The transforms that it runs.")
    return takes(entry, beside)


@cache
def open_schema(kind: str) -> Schema:
    """The schema of a place that names nothing known: the arguments may be any."""
    beside = STEERING if kind == "layer" else {"type": fixed(TEXT, "a name"), **BESIDE[kind]}
    return {**record(beside), "additionalProperties": True}


@cache
def bare_schema() -> Schema:
    """The schema of a layer without a type: it has no arguments."""
    return record({key: part for key, part in STEERING.items() if key != "replace"})


def block_schema(params: Mapping | None, types: frozenset[str]) -> Schema:
    """The schema of a layer whose type is a block with these parameters; `types` are layers and blocks."""
    properties: dict[str, Schema] = {}
    required: list[str] = []
    for name, node in params.items.items() if params else ():
        word = word_of(node)
        if word:
            properties[name] = _WORDS[word]
            required.append(name)
        else:
            properties[name] = ref("module") if _is_layer(node, types) else ANYTHING
    return record({**properties, **STEERING}, required)


def word_of(node: Node) -> str:
    """The type word that declares a parameter without a default, else the empty string."""
    if isinstance(node, Scalar) and isinstance(node.value, str) and not node.quoted and node.value in _WORDS:
        return node.value
    return ""


def _is_layer(node: Node, types: frozenset[str]) -> bool:
    """Whether a default is a layer: a mapping with a `type`, or the name of one."""
    if isinstance(node, Mapping):
        return "type" in node.items
    return isinstance(node, Scalar) and isinstance(node.value, str) and node.value in types
