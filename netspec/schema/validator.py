"""Checks a document's structure and every argument that is written out, and says all that is wrong with it.

In two stages: every place is checked against the structure of its kind; what it names (a layer's `type`, an optimizer)
is looked up, and its arguments are checked by a small validator for that name alone, which is kept. One schema for the
whole document would be slow, and its `anyOf` over all layers would hide every cause.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Final

from netspec import catalog
from netspec.diagnostics import Diagnostics, Label, Span
from netspec.document import Mapping, Node, Scalar, Sequence
from netspec.schema import layers, typed, words
from netspec.schema.engine import Child, Judge
from netspec.schema.names import NameProblem, check_layer_name, check_name
from netspec.schema.pieces import Schema
from netspec.schema.structure import KINDS, STEERING, UNSUPPORTED, VERSION
from netspec.schema.words import Owner, report
from netspec.suggest import suggest

_SUBJECTS: Final = {
    "document": "the document",
    "block": "a block",
    "model": "a model",
    "dataset": "a set of samples",
    "rule": "a rule",
    "input": "an input",
}
_NAMED: Final = {
    "blocks": "a block's name",
    "models": "a model's name",
    "params": "a parameter's name",
    "values": "a parameter's name",
    "let": "the name of a value",
    "inputs": "an input's name",
    "loop": "the name of a loop",
}
"""The tables whose keys become names in Python, and what these are called."""
_LAYERS: Final = frozenset({"layer", "member", "module"})
_NOUNS: Final = {
    "initializer": "initializer",
    "source": "source",
    "transform": "transform",
    "optimizer": "optimizer",
    "scheduler": "scheduler",
    "loss": "loss",
    "loss_term": "loss",
    "metric": "metric",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A node, and what one has to know of its surroundings to judge it."""

    node: Node
    kind: str
    title: str
    """What messages call it: "`stem`", "item 2 of `transforms`"."""
    span: Span
    """Where its key stands, or itself in a list."""
    scope: frozenset[str] = frozenset()
    """The names of values that expressions may use there."""
    literal_names: bool = True


def validate(document: Mapping, diagnostics: Diagnostics) -> None:
    """Add every mistake in the structure, the names and the written-out arguments of a composed document.

    A value that is an expression passes; `netspec.catalog.kinds.accepts` judges it once it has been evaluated.
    """
    _Walk(document, diagnostics).run()


@cache
def judge_of_kind(kind: str) -> Judge:
    return Judge(KINDS[kind])


@cache
def judge_of_entry(kind: str, name: str) -> Judge:
    return Judge(typed.entry_schema(kind, name))


@cache
def judge_without_entry(kind: str) -> Judge:
    return Judge(typed.open_schema(kind))


@cache
def judge_of_bare_layer() -> Judge:
    return Judge(typed.bare_schema())


class _Walk:
    """One pass over a document: places wait in a list, so that depth is no matter."""

    def __init__(self, document: Mapping, diagnostics: Diagnostics) -> None:
        self.document = document
        self.diagnostics = diagnostics
        blocks = document.items.get("blocks")
        self.blocks = blocks if isinstance(blocks, Mapping) else None
        self.block_judges: dict[str, Judge] = {}
        self.types = {name: None for name in (*(self.blocks.items if self.blocks else ()), *catalog.names())}
        self.waiting: list[Place] = []

    def run(self) -> None:
        first = next(iter(self.document.key_spans.values()), self.document.span)
        self.waiting.append(Place(node=self.document, kind="document", title="the document", span=first))
        while self.waiting:
            place = self.waiting.pop()
            if place.kind in _LAYERS:
                self.layer(place)
            elif place.kind in typed.CATEGORIES:
                self.named(place)
            else:
                self.plain(place)

    # Places whose keys are known from their kind alone

    def plain(self, place: Place) -> None:
        node = place.node
        if isinstance(node, Mapping):
            if place.kind == "layers" and (problem := layers.single_layer(node, place.title)):
                self.diagnostics.found.append(problem)
                return
            node = self.without_unsupported(place.kind, node)
        judge = judge_of_kind(place.kind)
        subject = _SUBJECTS.get(place.kind, place.title)
        if self.check(place, node, judge, Owner(subject=subject, title=place.title, span=place.span)):
            self.look_closer(place)

    def without_unsupported(self, kind: str, node: Mapping) -> Mapping:
        """The mapping without the keys that wait for a later version, each of which is reported."""
        found = [key for key in node.items if f"{kind}.{key}" in UNSUPPORTED]
        for key in found:
            self.not_yet(f"`{key}`", node.key_spans[key])
        return Mapping({k: v for k, v in node.items.items() if k not in found}, node.key_spans, node.span)

    def not_yet(self, what: str, span: Span) -> None:
        self.diagnostics.error(
            words.NOT_YET,
            f"{what} is part of the language, but this version of netspec does not support it yet",
            span,
            help="write the spec without it for now",
        )

    def check(self, place: Place, node: Node, judge: Judge, owner: Owner) -> bool:
        """Judge a node, report what is wrong, and let the places inside wait. False where it is of the wrong type."""
        schema = judge.choose(node)
        if schema is None:
            self.wrong_type(place, judge.schema)
            return False
        findings, children = judge.findings(node, schema)
        for finding in findings:
            report(finding, node, schema, owner, place.scope, self.diagnostics)
        scope = place.scope | layers.names_bound(node, place.kind) if isinstance(node, Mapping) else place.scope
        for child in children:
            self.waiting.append(_inside(place, node, child, scope))
        return True

    def wrong_type(self, place: Place, schema: Schema) -> None:
        expects = str(schema["expects"])
        self.diagnostics.error(
            words.WRONG_TYPE,
            f"{place.title} takes {expects}, and got {words.show(place.node)}",
            place.node.span if not _is_nothing(place.node) else place.span,
            help=words.example(place.title, schema, expects),
        )

    def look_closer(self, place: Place) -> None:
        """The rules that a schema cannot state."""
        node = place.node
        if not isinstance(node, Mapping):
            return
        if place.kind in _NAMED:
            self.names(node, place.kind)
        elif place.kind in ("layers", "members"):
            self.layer_names(node)
        elif place.kind == "document":
            self.look_at_document(node)

    def names(self, node: Mapping, kind: str) -> None:
        for name, span in node.key_spans.items():
            problem = check_name(name, _NAMED[kind])
            if problem is None and kind == "params" and name in STEERING:
                problem = NameProblem(
                    f"a parameter of a block cannot be called `{name}`: that key steers every layer",
                    f"choose another name, such as `{name}_`",
                )
            self.bad_name(problem, span)

    def layer_names(self, node: Mapping) -> None:
        for name, span in node.key_spans.items():
            if "$" not in name:
                self.bad_name(check_layer_name(name), span)

    def bad_name(self, problem: NameProblem | None, span: Span) -> None:
        if problem:
            self.diagnostics.error(words.BAD_NAME, problem.message, span, help=problem.help)

    def look_at_document(self, node: Mapping) -> None:
        name = node.items.get("name")
        if isinstance(name, Scalar) and isinstance(name.value, str):
            self.bad_name(check_name(name.value, "the name of a spec"), name.span)
        if "model" in node.items and "models" in node.items:
            self.diagnostics.error(
                words.CONTRADICTION,
                "the document has both `model` and `models`",
                node.key_spans["models"],
                labels=[Label(node.key_spans["model"], "the first is here")],
                help="put the one under `models`, by a name",
            )
        keys = node.key_spans.keys()
        only_blocks = "blocks" in keys and not keys & {"data", "train"}
        misspelt = any(suggest(key, ["model"]) for key in keys - KINDS["document"]["properties"].keys())
        if not (keys & {"model", "models"} or only_blocks or misspelt):
            self.diagnostics.error(
                words.MISSING_KEY,
                "the document has no `model`",
                node.key_spans.get("name", next(iter(node.key_spans.values()), node.span)),
                help="add `model:` with `inputs` and `layers`",
            )

    # Places that name something of the catalog, beside layers

    def named(self, place: Place) -> None:
        node, kind = place.node, place.kind
        schema = judge_of_kind(kind).choose(node)
        if schema is None:
            self.wrong_type(place, KINDS[kind])
            return
        if isinstance(node, Scalar):
            if isinstance(node.value, str) and "$" not in node.value and self.entry(node, kind):
                self.check_named(place, Mapping({}, {}, node.span), kind, node.value, node.span)
            return
        assert isinstance(node, Mapping)
        node = self.without_unsupported(kind, node)
        type_node = node.items.get("type")
        if kind == "loss" and type_node is None:
            self.waiting.append(Place(node=node, kind="losses", title=place.title, span=place.span, scope=place.scope))
        elif kind == "scheduler" and type_node is None and "warmup" in node.items:
            self.check(place, node, judge_without_entry(kind), _plain_owner(place))
        elif type_node is None:
            self.no_type(place, node)
        elif not isinstance(type_node, Scalar) or not isinstance(type_node.value, str):
            self.check(place, node, judge_without_entry(kind), _plain_owner(place))
        elif "$" not in type_node.value and self.entry(type_node, kind):
            self.check_named(place, node, kind, type_node.value, type_node.span)

    def no_type(self, place: Place, node: Mapping) -> None:
        noun = _NOUNS[place.kind]
        typo = next((key for key in node.items if suggest(key, ["type"])), None)
        self.diagnostics.error(
            words.UNKNOWN_KEY if typo else words.MISSING_KEY,
            f"unknown key `{typo}` in {place.title}" if typo else f"{place.title} does not say which {noun} it is",
            node.key_spans[typo] if typo else place.span,
            help="did you mean `type`?" if typo else f"add `type:` with the name of the {noun}",
        )

    def entry(self, node: Scalar, kind: str) -> bool:
        """Whether the catalog has what a scalar names; if not, that is reported."""
        name, category, noun = str(node.value), typed.CATEGORIES[kind], _NOUNS[kind]
        try:
            catalog.names(category)
        except ModuleNotFoundError:  # the file of this category is on its way
            return False
        if catalog.lookup(name, category) is not None:
            return True
        meant = catalog.suggest(name, category)
        listed = ", ".join(catalog.names(category)[:12])
        self.diagnostics.error(
            words.UNKNOWN_NAME,
            f"there is no {noun} `{name}`",
            node.span,
            help=f"did you mean `{meant}`?" if meant else f"some that there are: {listed}",
        )
        return False

    def check_named(self, place: Place, node: Mapping, kind: str, name: str, span: Span) -> None:
        entry = catalog.lookup(name, typed.CATEGORIES[kind])
        assert entry is not None
        owner = _entry_owner(entry, place.title, span)
        self.check(place, node, judge_of_entry(kind, name), owner)

    # Layers

    def layer(self, place: Place) -> None:
        node = place.node
        if isinstance(node, Sequence):
            self.waiting.append(Place(node=node, kind="layers", title=place.title, span=place.span, scope=place.scope))
        elif isinstance(node, Mapping):
            self.layer_mapping(place, node)
        elif isinstance(node.value, str):
            self.layer_of_type(place, Mapping({}, {}, node.span), node)
        elif node.value is not None or place.kind != "module":
            self.wrong_type(place, KINDS["layer"])

    def layer_mapping(self, place: Place, node: Mapping) -> None:
        if self.without_unsupported("layer", node).items.keys() != node.items.keys():
            return
        problem = layers.contradiction(node)
        if problem is not None:
            self.diagnostics.found.append(problem)
            self.check(place, node, judge_without_entry("layer"), _layer_owner(place))
            return
        type_node = node.items.get("type")
        if type_node is None:
            self.layer_without_type(place, node)
        elif isinstance(type_node, Scalar) and isinstance(type_node.value, str):
            self.layer_of_type(place, node, type_node)
        else:
            self.check(place, node, judge_without_entry("layer"), _layer_owner(place))

    def layer_without_type(self, place: Place, node: Mapping) -> None:
        if not layers.has_body(node):
            self.diagnostics.found.append(layers.no_body(node, place.title, place.span))
            judge = judge_without_entry("layer")
        else:
            judge = judge_of_bare_layer()
            if place.kind == "member" and "compute" in node.items:
                self.diagnostics.found.append(layers.compute_in_list(node))
        owner = Owner(subject=layers.subject_without_type(node), title=place.title, span=place.span)
        self.check(place, node, judge, owner)

    def layer_of_type(self, place: Place, node: Mapping, type_node: Scalar) -> None:
        name = str(type_node.value)
        owner = _layer_owner(place)
        if "$" in name:
            judge = judge_without_entry("layer")
        elif self.blocks is not None and name in self.blocks.items:
            judge, owner = self.block(name, place, type_node.span)
        elif (entry := catalog.lookup(name)) is not None:
            judge, owner = judge_of_entry("layer", name), _entry_owner(entry, place.title, type_node.span)
            if place.kind == "member" and entry.category == "function":
                self.diagnostics.found.append(layers.function_in_list(name, type_node.span))
        else:
            if layers.is_unsupported_type(name):
                self.not_yet(f"`type: {name}`", type_node.span)
                return
            judge = judge_without_entry("layer")
            self.diagnostics.found.append(layers.unknown_type(type_node, self.types))
        self.check(place, node, judge, owner)

    def block(self, name: str, place: Place, span: Span) -> tuple[Judge, Owner]:
        assert self.blocks is not None
        definition = self.blocks.items[name]
        params = definition.items.get("params") if isinstance(definition, Mapping) else None
        params = params if isinstance(params, Mapping) else None
        judge = self.block_judges.get(name)
        if judge is None:
            judge = self.block_judges[name] = Judge(typed.block_schema(params, self.types))
        declared = params.span if params else self.blocks.key_spans[name]
        labels = (Label(declared, f"the parameters of `{name}`" if params else f"`{name}` has no parameters"),)
        known = tuple(params.items) if params else ()
        owner = Owner(
            subject=f"block `{name}`", title=place.title, span=span, noun="parameter", known=known, labels=labels
        )
        return judge, owner


def _inside(place: Place, node: Node, child: Child, scope: frozenset[str]) -> Place:
    """The place of a child, with its title and the span of its key."""
    parent = words.at(node, child.path[:-1])
    step = child.path[-1]
    if isinstance(step, str):
        assert isinstance(parent, Mapping)
        title, span = f"`{step}`", parent.key_spans[step]
    else:
        key = next((s for s in reversed(child.path[:-1]) if isinstance(s, str)), None)
        title, span = f"item {step + 1} of {f'`{key}`' if key else place.title}", child.node.span
    return Place(node=child.node, kind=child.kind, title=title, span=span, scope=scope)


def _entry_owner(entry: catalog.Entry, title: str, span: Span) -> Owner:
    return Owner(
        subject=f"`{entry.name}`",
        title=title,
        span=span,
        noun="argument",
        known=tuple(a.name for a in entry.arguments),
    )


def _layer_owner(place: Place) -> Owner:
    return Owner(subject="a layer", title=place.title, span=place.span)


def _plain_owner(place: Place) -> Owner:
    return Owner(subject=place.title, title=place.title, span=place.span)


def _is_nothing(node: Node) -> bool:
    return isinstance(node, Scalar) and node.value is None and not node.text.strip()


__all__ = ["VERSION", "judge_of_kind", "validate"]
