"""Which initialisation rule speaks for which parameter: one reading for both doors and for the check."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

from netspec import catalog
from netspec.catalog.entry import Entry
from netspec.diagnostics import Diagnostics
from netspec.program import Apply, Call, Instance, Node, Skip, instances, walk
from netspec.spec import Rule
from netspec.suggest import suggest


def is_type(pattern: str) -> bool:
    """Whether a `match` names a layer type; anything else is a glob over paths."""
    entry = catalog.lookup(pattern)
    return entry is not None and entry.category != "function"


def entry_matches(pattern: str, entry: Entry, path: str) -> bool:
    """Whether a rule's pattern speaks of a module of this entry at this path (from where the rule stands)."""
    if is_type(pattern):
        return entry.name == pattern or pattern in entry.ancestors
    return fnmatchcase(path, pattern)


def leaves(instance: Instance) -> Iterator[tuple[str, Call]]:
    """The catalog modules below an instance with their paths, in the order of registration."""
    for path, node in walk(instance):
        if isinstance(node.op, Call) and node.key is not None:
            yield path, node.op


def check_rules(root: Instance, diagnostics: Diagnostics) -> None:
    """Report rules that match no module, and initialisers that don't exist."""
    matched: dict[int, set[str]] = {}
    rules: dict[int, tuple[Rule, dict[str, str]]] = {}
    for instance in instances(root):
        paths = list(leaves(instance)) if instance.block.initialize else []
        for rule in instance.block.initialize:
            found = matched.setdefault(id(rule), set())
            known = rules.setdefault(id(rule), (rule, {}))[1]
            for path, op in paths:
                known[path] = op.entry.name
                found.update(p for p in rule.match if entry_matches(p, op.entry, path))
        for node in instance.nodes:
            for rule in _own(node):
                check_values(rule, diagnostics)
    for key, (rule, known) in rules.items():
        check_values(rule, diagnostics)
        for pattern in rule.match:
            if pattern not in matched[key]:
                _report_unmatched(pattern, rule, known, diagnostics)


def _report_unmatched(pattern: str, rule: Rule, known: dict[str, str], diagnostics: Diagnostics) -> None:
    """`known` is what the rule could speak of: the type of each layer by its path."""
    types = sorted(set(known.values()))
    near = None if is_type(pattern) else suggest(pattern, [*known, *types])
    if near is None and pattern.startswith("*."):
        last = suggest(pattern[2:], {path.rpartition(".")[2] for path in known})
        near = f"*.{last}" if last is not None else None
    what = f"no layer here is a `{pattern}`" if is_type(pattern) else f"`{pattern}` matches no layer here"
    if near is not None:
        help = f"did you mean `{near}`?"
    elif is_type(pattern) and types:
        help = f"the layers here are {', '.join(f'`{name}`' for name in types[:8])}"
    else:
        help = "a match is a layer's type, or a glob over paths (`*.bn2`)"
    diagnostics.error("NS321", what, rule.span, help=help)


def _own(node: Node) -> tuple[Rule, ...]:
    return () if isinstance(node.op, Apply | Skip) else node.layer.initialize


def check_values(rule: Rule, diagnostics: Diagnostics) -> None:
    for value in rule.values.values():
        name, _ = initializer(value)
        if name is not None and catalog.lookup(name, "initializer") is None:
            near = catalog.suggest(name, "initializer")
            diagnostics.error(
                "NS113",
                f"there is no initializer `{name}`",
                value.span,
                help=f"did you mean `{near}`?" if near else "see `netspec explain initializers`",
            )


def initializer(value: Any) -> tuple[str | None, dict[str, Any]]:
    """The initializer's name with its arguments; (None, {}) for a number or an expression, which fills the parameter."""
    from netspec.expressions import Literal

    if value.layer is not None:
        kind = value.layer.type
        assert kind is not None and isinstance(kind.expr, Literal)
        return str(kind.expr.value), value.layer.arguments
    if isinstance(value.expr, Literal) and isinstance(value.expr.value, str):
        return value.expr.value, {}
    return None, {}
