"""The graph of an instance as steps: groups without modules dissolved, the same layer found in every instance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from netspec.expressions import free_names
from netspec.program import Apply, Instance, Node, Ref

if TYPE_CHECKING:
    from netspec.codegen.constructor import Constructor


class Steps:
    """The nodes in the order of execution, groups without modules dissolved; references lead to what is really
    computed.
    """

    def __init__(self, passes: Any, whole: Any) -> None:
        self.passes = passes
        self.whole = whole
        self.nodes: list[Node] = []
        self.inputs: dict[int, dict[str, Any]] = {}
        self.outer: dict[int, tuple[Apply, Node]] = {}
        """For a node inside a dissolved group: the group's call and its node."""

    def actual(self, ref: Ref, reader: Node | None = None) -> Ref:
        if ref.node is None:
            if reader is not None and id(reader) in self.outer:
                group, owner = self.outer[id(reader)]
                return self.actual(group.inputs[ref.name], owner)
            return ref
        node = ref.node
        if node.dissolved and not self.whole(node):
            assert isinstance(node.op, Apply)
            inside = node.op.instance
            inner = Ref(inside.children[ref.name], "", ref.type) if ref.name in inside.members else inside.outputs[""]
            if inner.node is None:
                return self.actual(node.op.inputs[inner.name], node)
            return self.actual(inner)
        if self.passes(node):
            return self.actual(next(iter(node.inputs)), node)
        return ref

    def refs(self, node: Node) -> list[Ref]:
        found: list[Ref] = []
        for ref in self.inputs[id(node)].values():
            found += ref if isinstance(ref, tuple) else (ref,)
        return found


def flat(instance: Instance, passes: Any, whole: Any) -> Steps:
    """`passes` says which nodes leave no trace, `whole` which groups are a step of their own."""
    steps = Steps(passes, whole)

    def visit(current: Instance, outer: tuple[Apply, Node] | None) -> None:
        for node in current.order:
            if outer is not None:
                steps.outer[id(node)] = outer
            if node.dissolved and not whole(node):
                assert isinstance(node.op, Apply)
                visit(node.op.instance, (node.op, node))
            elif not passes(node) and not node.is_weight:
                steps.nodes.append(node)
                steps.inputs[id(node)] = {
                    port: tuple(steps.actual(one, node) for one in ref)
                    if isinstance(ref, tuple)
                    else steps.actual(ref, node)
                    for port, ref in node.op.inputs.items()
                }

    visit(instance, None)
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
    counted = {value for column in columns for n in column if n.key and n.key.isdigit() for layer, _ in n.loops
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
