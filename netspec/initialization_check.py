"""What can be wrong with initialisation: rules that find nothing, unknown parameters, values that don't fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from math import prod
from typing import Any

from netspec import catalog
from netspec.call_parts import arguments_of
from netspec.catalog.entry import Entry
from netspec.catalog.kinds import accepts
from netspec.diagnostics import Diagnostics, Span
from netspec.document import Scalar
from netspec.expressions import ExpressionError, evaluate, report
from netspec.initialization import initializer, is_type, leaves, matcher
from netspec.mistakes import Mistakes, got
from netspec.origins import untraced
from netspec.program import Apply, Call, Instance, instances, with_inner
from netspec.spec import Rule, Value
from netspec.suggest import suggest

RANKS: Mapping[str, tuple[int, int]] = {
    "eye": (2, 2),
    "sparse": (2, 2),
    "dirac": (3, 5),
    **dict.fromkeys(("xavier_uniform", "xavier_normal", "kaiming_uniform", "kaiming_normal", "orthogonal"), (2, 99)),
}
"""How many dimensions a parameter needs to have for an initializer, from and to."""


@dataclass(slots=True)
class Site:
    """A rule where it applies: the modules below, and the names that its values may use."""

    rule: Rule
    modules: list[tuple[str, Call]]
    env: Mapping[str, Any]

    def matched(self) -> Iterator[tuple[Call, list[str]]]:
        """The modules that the rule speaks of, with the patterns that say so; a rule without `match` speaks of the
        layer that bears it.
        """
        matchers = [(pattern, matcher(pattern)) for pattern in self.rule.match]
        for path, op in self.modules:
            patterns = [pattern for pattern, matches in matchers if matches(op.entry, path)]
            if patterns or not (self.rule.match or path):
                yield op, patterns


@dataclass(slots=True)
class Found:
    """What a rule found in all its sites."""

    rule: Rule
    patterns: set[str] = field(default_factory=set)
    types: dict[str, str] = field(default_factory=dict)
    """The type of each layer that the rule could have spoken of, by path."""
    parameters: set[str] = field(default_factory=set)
    """Those that the matched layers have, or would have with other arguments."""
    matched: set[str] = field(default_factory=set)
    """The types of the matched layers."""


def check_rules(root: Instance, collector: Diagnostics) -> None:
    """Report every rule of a model that cannot do what it says."""
    diagnostics = Mistakes(collector)
    everything: dict[Span, Found] = {}
    for site in _sites(root):
        rule = site.rule
        found = everything.setdefault(rule.span, Found(rule))  # an alias is the same rule elsewhere
        found.types.update((path, op.entry.name) for path, op in site.modules)
        looked_at: set[int] = set()
        found.patterns |= _check_inside(site, diagnostics)
        for op, patterns in site.matched():
            found.patterns.update(patterns)
            if id(op) in looked_at:
                continue  # another use of the same instance
            looked_at.add(id(op))
            found.matched.add(op.entry.name)
            shapes = _parameters(op)
            found.parameters |= shapes.keys()
            if not {key or "weight" for key in rule.values} <= shapes.keys():
                found.parameters |= _possible(op)
            for key, value in rule.values.items():
                if (key or "weight") in shapes:
                    _check_value(value, key or "weight", shapes, op, site.env, diagnostics)
    for found in everything.values():
        _check_found(found, diagnostics)


def _check_inside(site: Site, diagnostics: Diagnostics) -> set[str]:
    """Refuse a rule that would also start weights inside of what is used whole, which come from their library. Gives
    the pattern that does.
    """
    for path, op in site.modules:
        if op.whole is None and (op.entry.modules is None or not path):
            continue
        weights, modules = _inside(op)
        for inner, classes in modules:
            own = {name.rpartition(".")[2] for name in weights if name.rpartition(".")[0] == inner}
            if not inner or not own & {key or "weight" for key in site.rule.values}:
                continue
            pattern = next((p for p in site.rule.match if _speaks_of(p, f"{path}.{inner}", classes)), None)
            if pattern is None:
                continue
            diagnostics.error(
                "NS327",
                f"`{pattern}` speaks of `{path}.{inner}` too, a part of `{op.entry.name}`, which starts as that does",
                site.rule.match_spans[pattern],
                help="give the layers that you mean an `initialize` of their own, or match their paths",
            )
            return {pattern}
    return set()


def _inside(op: Call) -> tuple[Mapping[str, tuple[int, ...]], Sequence[tuple[str, tuple[str, ...]]]]:
    """The weights and the modules of what is used whole."""
    if op.whole is not None:
        return op.whole.parameters, op.whole.modules
    assert op.entry.modules is not None
    return _parameters(op), op.entry.modules(_arguments(op))


def _speaks_of(pattern: str, path: str, classes: Sequence[str]) -> bool:
    if not is_type(pattern):
        return fnmatchcase(path, pattern)
    entry = catalog.lookup(pattern)
    assert entry is not None
    root, name = entry.target.partition(".")[0], entry.target.rpartition(".")[2]
    return any(one.partition(".")[0] == root and one.rpartition(".")[2] == name for one in classes)


def _sites(root: Instance) -> Iterator[Site]:
    for instance in instances(root):
        for rule in instance.block.initialize:
            yield Site(rule, list(leaves(instance)), instance.scope)
        for node in with_inner(instance.nodes):
            if isinstance(node.op, Call):
                for rule in node.layer.initialize:
                    yield Site(rule, [("", node.op)], node.env)
            elif isinstance(node.op, Apply) and not node.op.instance.group:
                for rule in node.layer.initialize:
                    yield Site(rule, list(leaves(node.op.instance)), node.env)


def _check_found(found: Found, diagnostics: Diagnostics) -> None:
    rule = found.rule
    for pattern in rule.match:
        if pattern not in found.patterns:
            _report_unmatched(pattern, found, diagnostics)
    if any(pattern not in found.patterns for pattern in rule.match):
        return
    for key, value in rule.values.items():
        name = key or "weight"
        if name in found.parameters:
            _check_name(value, diagnostics)
            continue
        near = suggest(name, found.parameters)
        who = f"`{next(iter(found.matched))}`" if len(found.matched) == 1 else "this layer"
        if rule.match and len(found.matched) > 1:
            who = "none of these layers"
        diagnostics.error(
            "NS322",
            f"{who} has {'a' if who.startswith('none') else 'no'} parameter `{name}`",
            rule.value_spans.get(key, value.span),
            help=f"did you mean `{near}`?" if near else _parameter_help(found),
        )


def _parameter_help(found: Found) -> str:
    if found.parameters:
        return f"it has {', '.join(f'`{name}`' for name in sorted(found.parameters))}"
    if not found.matched:
        return "a group or block takes a list of rules: `initialize: [{match: Linear, weight: 0}]`"
    return "it has no parameters at all: leave the rule out"


def _report_unmatched(pattern: str, found: Found, diagnostics: Diagnostics) -> None:
    types = sorted(set(found.types.values()))
    near = None if is_type(pattern) else suggest(pattern, [*found.types, *types])
    if near is None and pattern.startswith("*."):
        last = suggest(pattern[2:], {path.rpartition(".")[2] for path in found.types})
        near = f"*.{last}" if last is not None else None
    what = f"no layer here is a `{pattern}`" if is_type(pattern) else f"`{pattern}` matches no layer here"
    if near is not None:
        help = f"did you mean `{near}`?"
    else:
        here = types if is_type(pattern) else list(found.types)
        help = f"the layers here are {', '.join(f'`{name}`' for name in here[:8])}{', …' if len(here) > 8 else ''}"
        help = help if here else "there is no layer with parameters here: leave the rule out"
    diagnostics.error("NS321", what, found.rule.match_spans[pattern], help=help)


def _is_named(value: Value, diagnostics: Diagnostics) -> bool:
    """Whether an initializer that is written as a mapping has a name, and no expression for one."""
    kind = value.layer.type if value.layer is not None else None
    if kind is None or kind.literal:
        return True
    diagnostics.error(
        "NS113",
        "an initializer is called by its name, and this is an expression",
        kind.span,
        help="write the name: `type: normal`; its arguments may be expressions",
    )
    return False


def _check_name(value: Value, diagnostics: Diagnostics) -> None:
    if not _is_named(value, diagnostics):
        return
    name, _ = initializer(value)
    if name is not None and catalog.lookup(name, "initializer") is None:
        near = catalog.suggest(name, "initializer")
        diagnostics.error(
            "NS113",
            f"there is no initializer `{name}`",
            value.span,
            help=f"did you mean `{near}`?"
            if near
            else "the initializers are those of torch.nn.init, without their `_`",
        )


def _check_value(
    value: Value,
    parameter: str,
    shapes: Mapping[str, tuple[int, ...]],
    op: Call,
    env: Mapping[str, Any],
    diagnostics: Diagnostics,
) -> None:
    """A rule's value for one parameter of one layer."""
    if not _is_named(value, diagnostics):
        return
    name, arguments = initializer(value)
    scope = (
        {}
        if name and all(v.literal for v in arguments.values())
        else ({**env, **_numbers(op), **_fans(shapes[parameter])})
    )
    if name is None:
        filled = _evaluated(value, scope, diagnostics)
        if filled is not None and (isinstance(filled, bool) or not isinstance(filled, int | float)):
            diagnostics.error(
                "NS103",
                f"`{parameter}` starts at a number or by an initializer, and got {got(filled)}",
                value.span,
                help="as in `weight: 0.5`, or `weight: {type: normal, std: 0.02}`",
            )
        return
    entry = catalog.lookup(name, "initializer")
    if entry is None:
        return
    rank = len(shapes[parameter])
    least, most = RANKS.get(name, (0, 99))
    if not least <= rank <= most:
        wanted = f"{least} dimensions" if least == most else f"{least} dimensions or more"
        diagnostics.error(
            "NS313",
            f"`{name}` wants {wanted}, and the `{parameter}` of this `{op.entry.name}` is {list(shapes[parameter])}",
            value.span,
            help="narrow the rule's `match`, or take an initializer for any shape: `normal`, `uniform`, `constant`",
        )
    for argument, given in arguments.items():
        _check_argument(entry, argument, given, scope, diagnostics)


def _check_argument(
    entry: Entry, argument: str, given: Value, scope: Mapping[str, Any], diagnostics: Diagnostics
) -> None:
    declared = entry.argument(argument)
    if declared is None or given.literal:
        return  # the schema has looked at it
    result = _evaluated(given, scope, diagnostics)
    problem = accepts(declared, result) if result is not None else None
    if problem is not None:
        diagnostics.error(problem.code, problem.message, given.span, help=f"see `netspec explain {entry.name}`")


def _evaluated(value: Value, scope: Mapping[str, Any], diagnostics: Diagnostics) -> Any:
    """The value without origins; None after a report."""
    try:
        return untraced(evaluate(value.expr, scope))
    except ExpressionError as error:
        report(error, value.scalar or Scalar(value=None, span=value.span), diagnostics)
        return None


def _arguments(op: Call) -> dict[str, Any]:
    return {name: untraced(value) for name, value in arguments_of(op).items()}


def _parameters(op: Call) -> dict[str, tuple[int, ...]]:
    """The shapes of the layer's parameters by name; one that stands alone counts as a weight."""
    if op.entry.category == "weight":
        return {"weight": tuple(_arguments(op)["shape"])}
    return dict(op.entry.parameters(_arguments(op))) if op.entry.parameters is not None else {}


def _possible(op: Call) -> set[str]:
    """The parameters of the layer if nothing were switched off: a rule may speak of a bias that is absent."""
    if op.entry.parameters is None:
        return set()
    switched_on = {a.name: True for a in op.entry.arguments if a.kind == "bool"}
    return set(op.entry.parameters({**_arguments(op), **switched_on}))


def _numbers(op: Call) -> dict[str, Any]:
    """The layer's arguments that are numbers, and attributes of the module under the same name."""
    kinds = {a.name for a in op.entry.arguments if a.kind.removesuffix("?") in ("int", "float")}
    return {name: value for name, value in _arguments(op).items() if name in kinds and value is not None}


def _fans(shape: tuple[int, ...]) -> dict[str, int]:
    if len(shape) < 2:
        return {}
    field_size = prod(shape[2:])
    return {"fan_in": shape[1] * field_size, "fan_out": shape[0] * field_size}
