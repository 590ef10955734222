"""The graph of an instance as steps: groups without modules dissolved, the same layer found in every instance."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from netspec.codegen.rolls import Roll, part, roll_of
from netspec.expressions import free_names
from netspec.program import Apply, Gather, Instance, Node, Ref
from netspec.shapes import ListType

if TYPE_CHECKING:
    from netspec.codegen.constructor import Constructor

Read = Ref | tuple[Ref, ...]
"""What is read: a value, or several as a list."""


class Steps:
    """The nodes in the order of execution, groups without modules dissolved; references lead to what is really
    computed.
    """

    def __init__(
        self,
        passes: Callable[[Node], bool],
        whole: Callable[[Node], bool],
        straight: frozenset[int] = frozenset(),
    ) -> None:
        self.passes = passes
        self.whole = whole
        self.straight = straight
        """The groups that are written out although their members could run in a loop."""
        self.nodes: list[Node] = []
        self.inputs: dict[int, dict[str, Any]] = {}
        self.measured: dict[int, dict[str, Ref]] = {}
        self.choosers: dict[int, Ref] = {}
        """The texts that say which of a node's modules runs."""
        self.outer: dict[int, tuple[Apply, Node]] = {}
        """For a node inside a dissolved group: the group's call and its node."""
        self.rolls: dict[int, Roll] = {}
        """The groups whose members a loop runs; each is a step itself."""

    def actual(self, ref: Ref, reader: Node | None = None) -> Ref:
        """The value itself, which is no list of others."""
        found = self.read(ref, reader)
        assert isinstance(found, Ref)
        return found

    def read(self, ref: Ref, reader: Node | None = None) -> Read:
        """What a reference leads to; the values of a list that nothing holds one by one."""
        node = ref.node
        if node is None:
            if reader is None or id(reader) not in self.outer:
                return ref
            group, owner = self.outer[id(reader)]
            name, _, position = ref.name.partition(".")
            given = self.read(group.inputs[name], owner)
            return _at(given, int(position)) if position else given
        if isinstance(node.op, Gather):
            return self.gathered(node, ref)
        if node.dissolved and not self.whole(node):
            return self.inside(node, ref)
        if self.passes(node):
            return self.read(next(iter(node.inputs)), node)
        return ref

    def inside(self, node: Node, ref: Ref) -> Read:
        """What a reference to a dissolved group leads to."""
        assert isinstance(node.op, Apply)
        inside = node.op.instance
        if id(node) in self.rolls:
            if inside.parallel and inside.block.body.kind == "mapping" and not ref.name:
                return Ref(node, next(iter(node.types)), ref.type)
            return ref
        if inside.parallel and not ref.name and inside.block.body.kind == "list":
            return tuple(self.inner(node, one) for one in inside.outputs.values())
        if inside.parallel:
            return self.inner(node, inside.outputs[ref.name or next(iter(inside.outputs))])
        if ref.name in inside.members:
            return self.inner(node, Ref(inside.by_name[ref.name], "", ref.type))
        return self.inner(node, inside.outputs[""])

    def inner(self, node: Node, ref: Ref) -> Ref:
        """What a reference of a group's own leads to."""
        assert isinstance(node.op, Apply)
        if ref.node is None:
            return self.actual(node.op.inputs[ref.name], node)
        return self.actual(ref)

    def result(self, node: Node) -> Ref:
        """What a node gives by default."""
        return self.actual(Ref(node, "", node.type))

    def gathered(self, node: Node, ref: Ref) -> Read:
        assert isinstance(node.op, Gather)
        parts = tuple(self.actual(one, node) for one in node.op.inputs.values())
        if ref.name:
            return parts[int(ref.name)]
        owner = parts[0].node if parts else None
        roll = self.rolls.get(id(owner))
        names = [one.name for one in parts if one.node is owner]
        if roll is not None and names == list(roll.instance.by_name):
            return Ref(owner, "*", ref.type)
        return parts

    def length(self, node: Node | None, name: str) -> int | None:
        """How many tensors a list holds; None where it is none, or where that is not known."""
        roll = self.rolls.get(id(node))
        if roll is not None and roll.chained:
            return roll.count
        type_ = self.list_type(node, name)
        return len(type_.items) if isinstance(type_, ListType) and type_.element is None else None

    def list_type(self, node: Node | None, name: str) -> Any:
        return self.input_types.get(name) if node is None else node.types.get(name or next(iter(node.types)))

    input_types: dict[str, Any]

    def refs(self, node: Node) -> list[Ref]:
        """All that a node reads, in order."""
        found: list[Ref] = []
        for ref in self.inputs[id(node)].values():
            found += ref if isinstance(ref, tuple) else (ref,)
        chooser = self.choosers.get(id(node))
        return [*found, *self.measured.get(id(node), {}).values(), *([chooser] if chooser is not None else [])]


def _at(given: Read, position: int) -> Ref:
    return given[position] if isinstance(given, tuple) else part(given, position)


def flat(
    instance: Instance,
    passes: Callable[[Node], bool],
    whole: Callable[[Node], bool],
    straight: frozenset[int] = frozenset(),
) -> Steps:
    """The steps of an instance. `passes` says which nodes leave no trace, `whole` which groups are a step of their own;
    `straight` are the groups that no loop is to run.
    """
    steps = Steps(passes, whole, straight)
    steps.input_types = dict(instance.inputs)

    def tensors(refs: tuple[Ref, ...], node: Node) -> tuple[Ref, ...]:
        read = [steps.read(one, node) for one in refs]
        return tuple(one for found in read for one in (found if isinstance(found, tuple) else (found,)))

    def visit(node: Node, outer: tuple[Apply, Node] | None, into: list[Node]) -> None:
        if outer is not None:
            steps.outer[id(node)] = outer
        if isinstance(node.op, Gather):
            return
        if node.dissolved and not whole(node):
            dissolve(node, into)
        elif not passes(node) and not node.is_weight:
            into.append(node)
            steps.inputs[id(node)] = {
                port: tensors(ref, node) if isinstance(ref, tuple) else steps.read(ref, node)
                for port, ref in node.op.inputs.items()
            }
            if node.chosen_by is not None:
                steps.choosers[id(node)] = steps.actual(node.chosen_by, node)
            steps.measured[id(node)] = {text: steps.actual(ref, node) for text, ref in node.measured.items()}

    def dissolve(node: Node, into: list[Node]) -> None:
        assert isinstance(node.op, Apply)
        members: list[tuple[Node, list[Node]]] = []
        for member in node.op.instance.order:
            mine: list[Node] = []
            visit(member, (node.op, node), mine)
            members.append((member, mine))
        roll = roll_of(steps, node, members)
        if roll is None:
            into += [one for _, nodes in members for one in nodes]
            return
        steps.rolls[id(node)] = roll
        inner = {id(one) for nodes in roll.copies for one in nodes}
        outside = [ref for refs in roll.reads for ref in refs if id(ref.node) not in inner]
        outside += [roll.start] if roll.start is not None else []
        named = {(id(ref.node), ref.name): ref for ref in outside}
        steps.inputs[id(node)] = {str(i): ref for i, ref in enumerate(named.values())}
        into.append(node)

    for node in instance.order:
        visit(node, None, steps.nodes)
    return steps


def all_nodes(instance: Instance, whole: Any) -> list[Node]:
    nodes: list[Node] = []
    for node in instance.order:
        nodes.append(node)
        if node.dissolved and not whole(node):
            assert isinstance(node.op, Apply)
            nodes += all_nodes(node.op.instance, whole)
    return nodes


def find_twins(writer: Constructor, instances: list[Instance], whole: Any) -> dict[int, list[Node]]:
    """For each node of the first instance, the same written layer's node in every instance."""
    columns = [all_nodes(instance, whole) for instance in instances]
    # What the copies of a loop are called for, one by one, cannot change in number.
    counted = {value for column in columns for n in column if n.layer.name is None for layer, _ in n.loops
               for value in (layer.loop.values if layer.loop else ())}  # fmt: skip
    writer.give_up_on(frozenset().union(*(value.names for value in counted)))
    shapes = {tuple(node.name for node in column) for column in columns}
    if len(shapes) > 1:
        names = frozenset().union(
            *(free_names(n.layer.condition.expr) for c in columns for n in c if n.layer.condition is not None)
        )
        writer.give_up_on(names, must=True)
    return {id(row[0]): list(row) for row in zip(*columns, strict=True)}


def rename(inputs: dict[str, Any], op: Any) -> dict[str, Any]:
    """The inputs under the ports of the operation that is written, where this use left it out."""
    ports = list(op.inputs)
    if list(inputs) == ports:
        return inputs
    return dict(zip(ports, inputs.values(), strict=False))
