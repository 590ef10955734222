"""Which classes a program needs, and what each takes: one a block, unless its uses differ in what no argument can
say.
"""

from __future__ import annotations

import builtins
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

from netspec.codegen.constructor import Constructor
from netspec.codegen.forward import Forward
from netspec.codegen.initialize import block_rules, path_of
from netspec.codegen.literals import as_identifier, class_name, identifier, literal
from netspec.codegen.scope import Lifted, Plan, Retry
from netspec.codegen.source_map import Mark, marked, rewritten
from netspec.codegen.writer import mark_of
from netspec.expressions import Expr, ExpressionError, evaluate, free_names
from netspec.origins import untraced
from netspec.program import Apply, Call, Factory, Instance, Program, Ref, instances, with_inner
from netspec.shapes import ListType
from netspec.spec import Block

MOST_TRIES = 40

MODELS = "torchvision.models"


@dataclass(frozen=True, slots=True)
class CtorArgument:
    name: str
    hint: str
    default: str | None
    value: Any = None
    origin: str = ""
    """Of a group: what the value is called in the block around it, where that is no identifier (`x.shape[1]`)."""


@dataclass(slots=True, eq=False)
class Written:
    """A class as it will stand in the file."""

    name: str
    block: Block
    group: bool
    base: str
    arguments: list[CtorArgument]
    lifted: dict[str, Lifted]
    init: list[tuple[int, str]]
    inputs: list[tuple[str, str]]
    forward: list[str]
    returns: str
    output_type: str
    comment: str
    frozen_paths: list[str]
    frozen: frozenset[str] = frozenset()
    """The parameters whose values are written into it."""
    doc: str = ""
    fields: list[str] = field(default_factory=list)


class Classes:
    """All classes of a file, written callees first."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.written: list[Written] = []
        self.by_instance: dict[int, Written] = {}
        self.factories: set[tuple[int, str]] = set()
        """(block, parameter) pairs whose value is a layer."""
        self.imports: set[str] = set()
        self.requirements: set[str] = set()
        self.names: set[str] = set()
        self.outputs: dict[int, str] = {}
        self.written_names: set[str] = set()
        self.spoken = spoken(program)
        self.imported = imported(program, self.spoken)
        """What may be imported by its own name, as `from library import Name`; `written_names` is what is."""
        self.names |= {dotted.rpartition(".")[2] for dotted in self.imported}

    def write(self) -> None:
        """Write every class, those that others use first."""
        by_block: dict[int, list[Instance]] = defaultdict(list)
        uses: dict[int, list[int]] = defaultdict(list)
        for instance in instances(self.program.model):
            if is_class(instance) and not (self.program.several and instance is self.program.model):
                by_block[id(instance.block)].append(instance)
                uses[id(instance.block)] += [id(used.block) for used in classes_in(instance)]
        done: set[int] = set()

        def visit(key: int) -> None:
            if key in done:
                return
            done.add(key)
            for used in uses[key]:
                visit(used)
            self.block(by_block[key])

        for key in list(by_block):
            visit(key)

    # One block

    def block(self, uses: list[Instance]) -> None:
        frozen: frozenset[str] = frozenset()
        unrolled: frozenset[int] = frozenset()
        kept: frozenset[str] = frozenset()
        for _ in range(MOST_TRIES):
            groups: dict[Any, list[Instance]] = defaultdict(list)
            for instance in uses:
                groups[tuple(_key(instance.scope.get(name)) for name in sorted(frozen))].append(instance)
            try:
                made = [self.one(group, frozen, unrolled, kept, len(groups) > 1) for group in groups.values()]
            except Retry as retry:
                assert retry.freeze - frozen or retry.unroll - unrolled or retry.keep - kept, (
                    "a class could not be written, and no reason is left"
                )
                frozen |= retry.freeze
                unrolled |= retry.unroll
                kept |= retry.keep
                continue
            for group, written in zip(groups.values(), made, strict=True):
                written.name = self.name(written.name)
                self.written.append(written)
                for instance in group:
                    self.by_instance[id(instance)] = written
            return
        raise AssertionError(f"block {uses[0].block.name} could not be written")

    def name(self, wanted: str) -> str:
        name, number = wanted, 2
        while name in self.names:
            name, number = f"{wanted}{number}", number + 1
        self.names.add(name)
        return name

    def one(
        self,
        uses: list[Instance],
        frozen: frozenset[str],
        unrolled: frozenset[int],
        kept: frozenset[str],
        several: bool,
    ) -> Written:
        block, first = uses[0].block, uses[0]
        plan = Plan(block, uses, {n: first.scope.get(n) for n in frozen}, set(unrolled), kept)
        writer = Constructor(plan, self)
        is_chain = all(instance.sequential for instance in uses) and block.body.kind == "list"
        forward: Forward | None = None
        init: list[tuple[int, str]] = []
        if is_chain:
            self.sequential(writer, uses, init)
        else:
            writer.mapping(block.body, uses)
            forward = Forward(writer, uses)
            forward.write([as_identifier(port) for port in first.inputs])
            init.append((0, "super().__init__()"))
        attributes = [
            (0, marked(f"self.{name} = {text}", Mark(name, block.span)))
            for name, text in (forward.attributes if forward else {}).items()
        ]
        writer.lines += [(0, f"{path_of(tie.path)} = {path_of(tie.source)}") for tie in first.ties]
        rules = block_rules(writer, block.initialize, uses)
        lets = [
            (0, marked(f"{name} = {text}", Mark(name, block.let[name].span) if name in block.let else None))
            for name, text in writer.lets.items()
        ]
        arguments = self.ctor_arguments(writer, uses)
        frozen_marks = frozen_children(uses[0]) if not first.group or first.has_modules else {}
        frozen_paths = list(frozen_marks)
        freezing = [(0, marked(f"{path}.requires_grad_(False)", mark)) for path, mark in frozen_marks.items()]
        self.requirements |= writer.requirements
        self.imports |= writer.imports
        inputs = [
            (as_identifier(port), "list[Tensor]" if isinstance(t, ListType) else "str" if t.is_text else "Tensor")
            for port, t in first.inputs.items()
        ]
        returns = hint_of(first.outputs[""]) if list(first.outputs) == [""] else self.output_type(first)
        name = class_name(block.name if not first.group else self.group_name(block))
        body_init = [*init[:1], *lets, *attributes, *writer.lines, *rules, *freezing]
        if is_chain and lets and len(init) == 1 and init[0][1] != "super().__init__()":
            body_init = [*lets, *init, *attributes, *writer.lines, *rules, *freezing]
        return Written(
            name=name + (self.suffix(first, frozen) if several else ""),
            block=block,
            group=first.group,
            base="nn.Sequential" if is_chain else "nn.Module",
            arguments=arguments,
            lifted=writer.lifted,
            init=body_init,
            inputs=inputs,
            forward=[*forward.lines, self.result(forward)] if forward else [],
            returns=returns,
            output_type=self.outputs.get(id(block), ""),
            comment=forward.result_comment if forward else "",
            frozen_paths=frozen_paths,
            frozen=frozen,
            fields=[f"{as_identifier(name)}: {hint_of(ref)}" for name, ref in first.outputs.items() if name],
        )

    def result(self, forward: Forward) -> str:
        text = marked(f"return {forward.output}", forward.result.mark, [forward.result])
        return rewritten(text, text + self.trailing(forward))

    def trailing(self, forward: Forward) -> str:
        previous = forward.comments[-1] if forward.comments else ""
        comment = forward.result_comment
        if comment and comment != previous and len(forward.output) + len(comment) < 62:
            return f"  # {comment}"
        return ""

    def sequential(self, writer: Constructor, uses: list[Instance], init: list[tuple[int, str]]) -> None:
        """A block that is a list: a subclass of `nn.Sequential`."""
        body = uses[0].block.body
        nodes = [node for instance in uses for node in instance.nodes]
        items = writer.plain_items(body, nodes, uses)
        with writer.about(Mark(uses[0].block.name, uses[0].block.span)):
            writer.say(f"super().__init__({', '.join(text for _, text in items or ())})")
        if items is None:
            writer.steps(body, nodes, uses, "self")
            writer.join(0, "self", "super().__init__()")
        init.append(writer.lines.pop(0))

    def suffix(self, instance: Instance, frozen: frozenset[str]) -> str:
        """Tells the classes of one block apart by the values that are fixed in them."""
        words = []
        for name in sorted(frozen):
            value = instance.scope.get(name)
            if isinstance(value, str):
                words.append(class_name(value))
        return "".join(words)

    def group_name(self, block: Block) -> str:
        return block.name if not block.name.isdigit() else f"Group{block.name}"

    # Arguments

    def ctor_arguments(self, writer: Constructor, uses: list[Instance]) -> list[CtorArgument]:
        block = writer.block
        arguments = [CtorArgument(name, "int", None) for name in writer.lifted]
        for name, param in block.params.items():
            if name not in writer.used or name in writer.plan.frozen:
                continue
            arguments.append(self.ctor_argument(writer, name, param.default, uses))
        if uses[0].group:
            for name in writer.used:
                values = [instance.scope.get(name) for instance in uses]
                arguments.append(CtorArgument(as_identifier(name), type_hint(values[0], None), None, origin=name))
        return sorted(arguments, key=lambda argument: argument.default is not None)

    def ctor_argument(self, writer: Constructor, name: str, default: Any, uses: list[Instance]) -> CtorArgument:
        block = writer.block
        values = [instance.scope.get(name) for instance in uses]
        if (id(block), name) in self.factories:
            self.imports.add("Callable")
            null = any(v is None for v in values)
            if default is not None and default.layer is None:
                null = null or _default(block, name) is None
            text = None
            if default is not None:
                text = self.factory(_default(block, name) if default.layer is None else values[0])
            return CtorArgument(name, f"Callable[[], nn.Module]{' | None' if null else ''}", text)
        word = block.params[name].word
        if default is None:
            return CtorArgument(name, type_hint(values[0], word or None), None)
        try:
            value = _default(block, name)
        except ExpressionError:  # every use states its own
            return CtorArgument(name, type_hint(values[0], None), None)
        return CtorArgument(name, self.hint(value, values), literal(value), value)

    def hint(self, default: Any, values: list[Any]) -> str:
        hint = type_hint(default, None)
        if hint == "int" and any(isinstance(v, float) for v in values):
            hint = "float"
        lists = {len(v) for v in values if isinstance(v, list)}
        if hint == "int" and len(lists) == 1:  # one number, or one a side
            hint = f"int | tuple[{', '.join(['int'] * lists.pop())}]"
        if hint.startswith("Sequence"):
            self.imports.add("Sequence")
        return hint

    # Names that others write

    def of(self, instance: Instance) -> Written:
        return self.by_instance[id(instance)]

    def target(self, dotted: str) -> str:
        """A catalog target as emitted code spells it: `nn.Conv2d`, `F.relu`, `torch.cat`."""
        module, _, name = dotted.rpartition(".")
        identifier(name)
        if module == "torch.nn":
            return f"nn.{name}"
        if module == "torch.nn.init":
            return f"nn.init.{name}"
        if module == "torch.nn.functional":
            self.imports.add("F")
            return f"F.{name}"
        if dotted in self.imported:
            self.written_names.add(dotted)
            return name
        if module == MODELS and "models" not in self.spoken:
            self.written_names.add(MODELS)
            return f"models.{name}"
        self.imports.add(f"import {module}")
        return dotted

    def factory(self, value: Any) -> str:
        """A layer as a value: its class, or a function that makes it with its arguments."""
        from netspec.catalog import lookup

        if value is None:
            return "None"
        if isinstance(value, str):
            entry = lookup(value)
            assert entry is not None
            return self.target(entry.target)
        assert isinstance(value, Factory) and not isinstance(value.target, Block)
        target = self.target(value.target.target)
        if not value.arguments:
            return target
        given = ", ".join(f"{name}={literal(argument.value)}" for name, argument in value.arguments.items())
        return f"lambda: {target}({given})"

    def output_type(self, instance: Instance) -> str:
        key = id(instance.block)
        if key not in self.outputs:
            self.outputs[key] = self.name(f"{class_name(instance.block.name)}Output")
            self.imports.add("NamedTuple")
        return self.outputs[key]


def imported(program: Program, taken: set[str]) -> set[str]:
    """The plugins' classes and functions that the code imports by name, as dotted names.

    One whose name is taken by something else is written with its module.
    """
    nodes = [node for instance in instances(program.model) for node in with_inner(instance.nodes)]
    calls = [node.op for node in nodes if isinstance(node.op, Call)]
    targets = list(dict.fromkeys(call.entry.target for call in calls if call.entry.plugin))
    bare = Counter(target.rpartition(".")[2] for target in targets)
    names = {target: target.rpartition(".")[2] for target in targets}
    return {target for target, name in names.items() if bare[name] == 1 and name not in taken}


def spoken(program: Program) -> set[str]:
    """The names that the spec gives to values, inputs and layers: variables of the code may bear them."""
    found = {"torch", "nn", "F", "Tensor", *dir(builtins)}
    for instance in instances(program.model):
        found.update(instance.scope, instance.inputs, (node.name for node in instance.nodes))
        found.update(name for node in instance.nodes for name in node.env)
    return found


def is_class(instance: Instance) -> bool:
    """Whether an instance is written as a class: blocks are; groups unless they are chains or without modules."""
    return not instance.group or (instance.has_modules and not instance.sequential and not instance.container)


def hint_of(ref: Ref) -> str:
    """The annotation of what a block gives: what torch cuts is a tuple, what we put together a list."""
    if isinstance(ref.type, ListType):
        cut = ref.node is not None and isinstance(ref.node.op, Call) and ref.node.each is None
        return "tuple[Tensor, ...]" if cut else "list[Tensor]"
    return f"Tensor{' | None' if ref.node is not None and ref.node.layer.when else ''}"


def classes_in(instance: Instance) -> list[Instance]:
    """The instances below that are classes, through the groups that are written in place."""
    found: list[Instance] = []
    for node in with_inner(instance.nodes):
        if isinstance(node.op, Apply):
            for inner in (node.op.instance, *node.op.others):
                found += [inner] if is_class(inner) else classes_in(inner)
    return found


def _default(block: Block, name: str) -> Any:
    """A parameter's default, in the scope of the parameters before it."""
    scope: dict[str, Any] = {}
    for param in block.params.values():
        if param.default is not None and param.default.layer is None:
            scope[param.name] = evaluate(param.default.expr, scope) if _known(param.default.expr, scope) else None
        if param.name == name:
            break
    return untraced(scope.get(name))


def _known(expr: Expr, scope: dict[str, Any]) -> bool:
    return free_names(expr) <= set(scope)


def _key(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_key(item) for item in value)
    if isinstance(value, Factory):
        return (id(value.target), tuple((k, _key(a.value)) for k, a in value.arguments.items()))
    plain = untraced(value)
    return (type(plain).__name__, plain)


def type_hint(value: Any, word: str | None) -> str:
    """The annotation of an argument, by its declared type word or by its value."""
    if word in ("int", "float", "bool", "str"):
        return word
    plain = untraced(value)
    if isinstance(plain, bool):
        return "bool"
    if isinstance(plain, int):
        return "int"
    if isinstance(plain, float):
        return "float"
    if isinstance(plain, str):
        return "str"
    if isinstance(plain, list | tuple):
        inner = {type_hint(item, None) for item in plain}
        item = inner.pop() if len(inner) == 1 else "float" if inner <= {"int", "float"} else "object"
        return f"Sequence[{item}]"
    return "None" if plain is None else "object"


def frozen_children(instance: Instance, prefix: str = "self") -> dict[str, Mark]:
    """Where the frozen modules of a class are, from `self`, through the chains written in it."""
    paths: dict[str, Mark] = {}
    for node in instance.nodes:
        if node.key is None:
            continue
        path = f"{prefix}.{node.key}" if node.key.isidentifier() else f"{prefix}[{node.key}]"
        if node.layer.freeze:
            paths[path] = mark_of(node.layer, [node])
        elif isinstance(node.op, Apply) and node.op.instance.group and not is_class(node.op.instance):
            paths |= frozen_children(node.op.instance, path)
    return paths
