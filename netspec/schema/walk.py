"""The pass over a document: what each place needs to know, how a place is judged, and which places still wait.

What is done at a place depends on its kind; `validator.HANDLERS` says which function does it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cache

from netspec import catalog
from netspec.diagnostics import Diagnostic, Diagnostics, Label, Span
from netspec.document import Mapping, Node, Scalar
from netspec.schema import typed, words
from netspec.schema.engine import Child, Judge
from netspec.schema.names import NameProblem
from netspec.schema.pieces import Schema
from netspec.schema.structure import KINDS, UNSUPPORTED
from netspec.schema.words import Owner, report


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

    @property
    def owner(self) -> Owner:
        return Owner(subject=self.title, title=self.title, span=self.span)


@cache
def judge_of_kind(kind: str) -> Judge:
    return Judge(KINDS[kind])


@catalog.cached
def judge_of_entry(kind: str, name: str) -> Judge:
    """For a place of that kind that names this entry of the catalog."""
    return Judge(typed.entry_schema(kind, name))


@cache
def judge_without_entry(kind: str) -> Judge:
    """For a place of that kind of which one cannot tell what it names: any argument passes."""
    return Judge(typed.open_schema(kind))


@cache
def judge_of_bare_layer() -> Judge:
    """For a layer without a type: no argument passes."""
    return Judge(typed.bare_schema())


@dataclass(slots=True)
class Walk:
    """One pass over one document. Places wait in a list, so that depth is no matter."""

    diagnostics: Diagnostics
    blocks: Mapping | None
    waiting: list[Place] = field(default_factory=list)
    _block_judges: dict[str, Judge] = field(default_factory=dict)

    def types(self, modules_only: bool = False) -> list[str]:
        """What may stand behind `type` in a layer, functions left out where only modules may stand."""
        names = [*catalog.names("layer"), *catalog.names("loss")] if modules_only else catalog.names()
        return [*(self.blocks.items if self.blocks else ()), *names]

    def check(self, place: Place, node: Node, judge: Judge, owner: Owner, bound: Iterable[str] = ()) -> bool:
        """Judge a node, report what is wrong, and let the places inside wait. False where its type is wrong.

        `bound` are the names of values that the places inside may use beside those of this place.
        """
        schema = judge.choose(node)
        if schema is None:
            self.wrong_type(place, judge.schema)
            return False
        findings, children = judge.findings(node, schema)
        if place.kind == "value":  # where it is used the other arguments are given
            findings = [replace(one, missing=()) for one in findings if one.rule != "keys" or one.unknown]
        if findings:
            words_of = {key: judge.schema[key] for key in ("expects", "example") if key in judge.schema}
            for finding in findings:
                report(finding, node, words_of | schema, owner, place.scope, self.diagnostics)
        if children:
            scope = place.scope.union(bound)
            self.waiting += [_inside(place, node, child, scope) for child in children]
        return True

    def wrong_type(self, place: Place, schema: Schema) -> None:
        node, expects = place.node, str(schema["expects"])
        nothing = isinstance(node, Scalar) and node.value is None and not node.text.strip()
        self.error(
            words.WRONG_TYPE,
            f"{place.title} takes {expects}, and got {words.show(node)}",
            place.span if nothing else node.span,
            words.example(place.title, schema, expects),
        )

    def error(self, code: str, message: str, span: Span, help: str) -> None:
        self.diagnostics.error(code, message, span, help=help)

    def add(self, diagnostic: Diagnostic | None) -> None:
        if diagnostic is not None:
            self.diagnostics.found.append(diagnostic)

    def bad_name(self, problem: NameProblem | None, span: Span) -> None:
        if problem is not None:
            self.error(words.BAD_NAME, problem.message, span, problem.help)

    def supported(self, kind: str, node: Mapping) -> Mapping:
        """The mapping without the keys that wait for a later version, each of which is reported."""
        found = [key for key in node.items if key in _unsupported(kind)]
        for key in found:
            self.not_yet(f"`{key}`", node.key_spans[key])
        if not found:
            return node
        return Mapping({k: v for k, v in node.items.items() if k not in found}, node.key_spans, node.span)

    def not_yet(self, what: str, span: Span) -> None:
        self.error(
            words.NOT_YET,
            f"{what} is part of the language, but this version of netspec does not support it yet",
            span,
            "write the spec without it for now",
        )

    def block(self, name: str, place: Place, span: Span) -> tuple[Judge, Owner]:
        """How a layer is judged whose type is this block, and whose its arguments are."""
        assert self.blocks is not None
        definition = self.blocks.items[name]
        params = definition.items.get("params") if isinstance(definition, Mapping) else None
        params = params if isinstance(params, Mapping) else None
        judge = self._block_judges.get(name)
        if judge is None:
            judge = self._block_judges[name] = Judge(typed.block_schema(params, frozenset(self.types())))
        declared = params.span if params else self.blocks.key_spans[name]
        label = Label(declared, f"the parameters of `{name}`" if params else f"`{name}` has no parameters")
        owner = Owner(
            subject=f"block `{name}`",
            title=place.title,
            span=span,
            noun="parameter",
            known=tuple(params.items) if params else (),
            labels=(label,),
        )
        return judge, owner


@cache
def _unsupported(kind: str) -> frozenset[str]:
    """The keys of a kind of place that wait for a later version."""
    return frozenset(key for of, _, key in (name.partition(".") for name in UNSUPPORTED) if of == kind)


def entry_owner(entry: catalog.Entry, title: str, span: Span) -> Owner:
    known = tuple(argument.name for argument in entry.arguments)
    return Owner(subject=f"`{entry.name}`", title=title, span=span, noun="argument", known=known)


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
    if child.kind == "block":
        scope = frozenset()  # a block sees its own names only
    return Place(node=child.node, kind=child.kind, title=title, span=span, scope=scope)
