"""Initialisation rules as the loop over `self.modules()` that an expert writes."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from netspec.call_parts import arguments_of
from netspec.catalog import lookup
from netspec.codegen.literals import for_argument, string
from netspec.codegen.scope import is_constant
from netspec.codegen.source_map import Mark, marked
from netspec.expressions import Literal, Name, evaluate, fold, free_names, substitute, to_python
from netspec.initialization import initializer, is_type, leaves, matcher, own_parameters
from netspec.program import Apply, Call, Instance, Node, walk
from netspec.spec import Layer, Rule, Value

if TYPE_CHECKING:
    from netspec.codegen.constructor import Constructor

Line = tuple[int, str]


def local(writer: Constructor, word: str) -> str:
    """A variable of the loop over the modules; a parameter of that name keeps it."""
    taken = {*writer.block.params, *writer.block.let, *writer.lifted, *writer.plan.instances[0].scope}
    return f"{word}_" if word in taken else word


def rule_mark(rule: Rule, rows: tuple[Node, ...] = ()) -> Mark:
    return Mark("initialize", rule.span, rows)


FANS = ("fan_in", "fan_out")


def block_rules(
    writer: Constructor, rules: tuple[Rule, ...], instances: list[Instance], owner: str = "self"
) -> list[Line]:
    """The rules of a block or model, after its layers, or of a use of it, after `owner` was made."""
    if not rules:
        return []
    globs = any(not is_type(pattern) for rule in rules for pattern in rule.match)
    name, module = local(writer, "name"), local(writer, "module")
    header = f"for {name}, {module} in {owner}.named_modules():" if globs else f"for {module} in {owner}.modules():"
    lines: list[Line] = []
    parameters = list(dict.fromkeys(name for rule in rules for name in _names(rule)))
    if _disjoint(rules):
        fills = [
            (rule, [line for name in _names(rule) for line in _guarded(writer, rule, name, instances)])
            for rule in rules
        ]
        lines += _branches(writer, [(rule, fill) for rule, fill in fills if fill])
        return [(0, marked(header, rule_mark(rules[0]))), *lines] if lines else []
    for parameter in parameters:
        speaking = [rule for rule in reversed(rules) if parameter in _names(rule)]
        filled = [(rule, _guarded(writer, rule, parameter, instances)) for rule in speaking]
        while filled and not filled[-1][1]:
            filled.pop()
        lines += _branches(writer, filled)
    return [(0, marked(header, rule_mark(rules[0]))), *lines] if lines else []


def _branches(writer: Constructor, rules: list[tuple[Rule, list[Line]]]) -> list[Line]:
    """`if … elif …` over the rules; one that fills nothing keeps its place, for it speaks before those after it."""
    lines: list[Line] = []
    for i, (rule, fill) in enumerate(rules):
        word, test = "if" if i == 0 else "elif", _test(writer, rule)
        if i == len(rules) - 1 and len(fill) == 2 and fill[0][1].startswith("if "):
            # Nothing comes after it: one `if` says both.
            test = f"({test})" if " or " in test else test
            added = [(1, f"{word} {test} and {fill[0][1].removeprefix('if ')}"), (2, fill[1][1])]
        else:
            added = [(1, f"{word} {test}:"), *(fill or [(2, "pass")])]
        lines += [(level, marked(text, rule_mark(rule))) for level, text in added]
    return lines


def path_of(path: Sequence[str], owner: str = "self") -> str:
    """A module or parameter as code reaches it: `self.transformer.h[0].weight`."""
    for part in path:
        if part.isdigit():
            owner += f"[{part}]"
        else:
            owner += f".{part}" if part.isidentifier() else f".get_submodule({string(part)})"
    return owner


def own_rules(writer: Constructor, layer: Layer, rows: list[Node], target: str) -> list[Line]:
    """A single layer's `initialize`, right after it was made."""
    lines: list[Line] = []
    for rule in layer.initialize:
        for name in _names(rule):
            present = _has(rows[0], name)
            if present:
                if name == "bias" and isinstance(call := rows[0].op, Call) and call.entry.role == "conv":
                    lines.append((0, f"assert {target}.bias is not None"))  # torch declares it as `Tensor | None`
                text = _fill(writer, rule.values.get(name, rule.values.get("")), target, name)
                lines.append((0, marked(text, rule_mark(rule, tuple(rows)))))
    return lines


def start_of(writer: Constructor, layer: Layer, shape: str, dtype: str) -> tuple[str, str]:
    """The tensor of a weight that stands alone, and the call that initialises it, for `str.format`; empty if none."""
    values = [value for rule in layer.initialize for value in rule.values.values()]
    if not values:
        return f"torch.zeros({shape}{dtype})", ""
    kind, _ = initializer(values[0])
    if kind is not None:
        filled = _fill(writer, values[0], "{}", "").replace("{}.", "{}")
        return f"torch.empty({shape}{dtype})", filled
    text = _text(writer, values[0], "")
    if text in ("0", "0.0"):
        return f"torch.zeros({shape}{dtype})", ""
    if text in ("1", "1.0"):
        return f"torch.ones({shape}{dtype})", ""
    if not dtype:  # torch.full takes the dtype of the number
        text = f"{text}.0" if text.lstrip("-").isdigit() else text if _is_float(writer, values[0]) else f"float({text})"
    sizes = f"({shape},)" if "," not in shape else f"({shape})"
    return f"torch.full({sizes}, {text}{dtype})", ""


def _is_float(writer: Constructor, value: Value) -> bool:
    """Whether an expression gives a float in every use."""
    return all(isinstance(evaluate(value.expr, instance.scope), float) for instance in writer.plan.instances)


def _names(rule: Rule) -> list[str]:
    return [name or "weight" for name in rule.values]


def _value(rule: Rule, name: str) -> Value:
    return rule.values.get(name) or rule.values[""]


def _disjoint(rules: tuple[Rule, ...]) -> bool:
    """Whether no module can match two of these rules."""
    patterns = [(i, pattern) for i, rule in enumerate(rules) for pattern in rule.match]
    for i, first in patterns:
        for j, second in patterns:
            if i >= j:
                continue
            if not (is_type(first) and is_type(second)):
                return False
            a, b = lookup(first), lookup(second)
            assert a is not None and b is not None
            if a.name == b.name or a.name in b.ancestors or b.name in a.ancestors:
                return False
    return True


def _test(writer: Constructor, rule: Rule) -> str:
    types = [p for p in rule.match if is_type(p)]
    globs = [p for p in rule.match if not is_type(p)]
    tests = []
    if types:
        classes = [writer.classes.target(entry.target) for t in types if (entry := lookup(t)) is not None]
        tests.append(f"isinstance({local(writer, 'module')}, {' | '.join(classes)})")
    for pattern in globs:
        tests.append(_path_test(writer, pattern))
    return " or ".join(tests)


def _path_test(writer: Constructor, pattern: str) -> str:
    """Whether a path fits a pattern, in the plainest words that say it."""
    name = local(writer, "name")
    if not any(char in pattern for char in "*?["):
        return f"{name} == {string(pattern)}"
    inner = pattern.strip("*")
    if inner and not any(char in inner for char in "*?["):
        if pattern == f"*{inner}":
            return f"{name}.endswith({string(inner)})"
        if pattern == f"{inner}*":
            return f"{name}.startswith({string(inner)})"
    writer.imports.add("fnmatchcase")
    return f"fnmatchcase({name}, {string(pattern)})"


def _guarded(writer: Constructor, rule: Rule, name: str, instances: list[Instance]) -> list[Line]:
    """The fill, behind a test where some matched module lacks the parameter; nothing where all lack it."""
    matched = _matched(rule, instances)
    present = [_call_has(op, name) for op in matched]
    optional = name == "bias" and any(op.entry.role == "conv" for op in matched)  # torch annotates it so
    if not any(present):
        return []
    module = local(writer, "module")
    text = _fill(writer, _value(rule, name), module, name)
    tests = [f"{module} is not {path_of(path)}" for path in _tied(rule, name, instances)]
    if not all(present) or optional or _catches_groups(rule, instances):
        typed = all(is_type(pattern) for pattern in rule.match)
        attribute = f"{module}.{name}" if typed else f"getattr({module}, {string(name)}, None)"
        tests.append(f"{attribute} is not None")
    return [(2, f"if {' and '.join(tests)}:"), (3, text)] if tests else [(2, text)]


def _tied(rule: Rule, name: str, instances: list[Instance]) -> list[tuple[str, ...]]:
    """The modules that the rule speaks of whose parameter of that name is another's: it starts as that one does."""
    tied = {tie.path[:-1] for instance in instances for tie in instance.ties if tie.path[-1] == name}
    matches = [matcher(pattern) for pattern in rule.match]
    calls = dict(leaves(instances[0])) if tied else {}
    return [
        path
        for path in sorted(tied)
        if (op := calls.get(".".join(path))) is not None and any(fits(op.entry, ".".join(path)) for fits in matches)
    ]


def _catches_groups(rule: Rule, instances: list[Instance]) -> bool:
    """Whether a glob fits the path of a module that holds others, the outermost too, and so has no weights itself."""
    groups = [
        (path, node.op.instance) for i in instances for path, node in walk(i) if isinstance(node.op, Apply) and node.key
    ]
    paths = ["", *(path for path, inside in groups if not own_parameters(inside))]
    return any(fnmatchcase(path, pattern) for pattern in rule.match if not is_type(pattern) for path in paths)


def _matched(rule: Rule, instances: list[Instance]) -> list[Call]:
    from netspec.initialization import entry_matches

    return [
        op
        for instance in instances
        for path, op in leaves(instance)
        if any(entry_matches(pattern, op.entry, path) for pattern in rule.match)
    ]


def _has(node: Node, name: str) -> bool:
    return isinstance(node.op, Call) and _call_has(node.op, name)


def _call_has(op: Call, name: str) -> bool:
    if op.entry.parameters is None:
        return False
    return name in op.entry.parameters(arguments_of(op))


def _fill(writer: Constructor, value: Value | None, owner: str, name: str) -> str:
    assert value is not None
    parameter = f"{owner}.{name}"
    kind, arguments = initializer(value)
    if kind is None:
        text = _text(writer, value, owner)
        if text in ("0", "0.0"):
            return f"nn.init.zeros_({parameter})"
        if text in ("1", "1.0"):
            return f"nn.init.ones_({parameter})"
        return f"nn.init.constant_({parameter}, {text})"
    entry = lookup(kind, "initializer")
    assert entry is not None
    texts = []
    for argument in entry.arguments:
        if argument.name not in arguments:
            continue
        resolved = writer.resolve(arguments[argument.name].expr) if _closed(writer, arguments[argument.name]) else None
        if isinstance(resolved, Literal):
            texts.append(f"{argument.name}={for_argument(argument, resolved.value)}")
        else:
            texts.append(f"{argument.name}={_text(writer, arguments[argument.name], owner)}")
    return f"{writer.classes.target(entry.target)}({', '.join([parameter, *texts])})"


def _closed(writer: Constructor, value: Value) -> bool:
    return not any(_of_module(writer, name) for name in free_names(value.expr))


def _of_module(writer: Constructor, name: str) -> bool:
    scope = writer.plan.instances[0].scope
    looped = any(name in loop.names or name in loop.variables for loop in writer.loops)
    return name in FANS or (name not in scope and name not in writer.values and not looped)


def _text(writer: Constructor, value: Value, owner: str) -> str:
    """A value that may speak of the layer's own arguments and fans."""
    names = free_names(value.expr)
    mapping: dict[str, str] = {}
    for name in names:
        if name in FANS:
            index = FANS.index(name)
            mapping[name] = f"nn.init._calculate_fan_in_and_fan_out({owner}.weight)[{index}]"
        elif _of_module(writer, name):
            mapping[name] = f"{owner}.{name}"
    own = {name: writer.resolve(Name(name)) for name in names if name not in mapping}
    expr = fold(substitute(value.expr, own))
    from netspec.codegen.scope import requirements

    writer.requirements |= requirements(expr)
    for name in sorted(free_names(expr)):
        if name not in mapping:
            writer.need(name)
    if is_constant(expr) and isinstance(expr, Literal):
        return to_python(expr)
    return to_python(expr, lambda name: mapping.get(name, name))
