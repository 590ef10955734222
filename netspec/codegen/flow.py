"""What flows where in `forward`: which node reads what, how often, and which values need no name of their own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Any

from netspec.choices import is_text
from netspec.codegen.rolls import same
from netspec.codegen.scope import is_constant
from netspec.codegen.steps import Read, Steps, all_nodes, find_twins
from netspec.codegen.tensors import entry_of
from netspec.expressions import Expr, Tensor, free_names, from_value, substitute, walk
from netspec.origins import untraced
from netspec.program import Apply, Arithmetic, Call, Instance, Node, Ref, Reuse, Skip
from netspec.shapes import ListType

if TYPE_CHECKING:
    from netspec.codegen.constructor import Constructor

WRAPS = ("norm", "activation", "dropout")
"""The roles of layers that are written around the call before them."""
DEEPEST = 3
"""How many calls are written in one expression."""


class Flow(ABC):
    """The steps of a class's `forward`, from its first instance; the others have the same graph."""

    def __init__(self, writer: Constructor, instances: list[Instance]) -> None:
        self.writer = writer
        self.instances = instances
        self.instance = instances[0]
        self.twins = find_twins(writer, instances, self.is_whole)
        self.by_id = {id(node): node for node in all_nodes(self.instance, self.is_whole)}
        self.steps = Steps(self.passes, self.is_whole)
        self.outputs: dict[str, Read] = {}
        self.unwritten: set[int] = set()
        """Arithmetic that nothing reads, by `id`."""

    @abstractmethod
    def is_dynamic(self, names: Iterable[str]) -> bool:
        """Whether one of these names depends on the sizes that an input has when the model runs."""

    def passes(self, node: Node) -> bool:
        """Whether a node leaves no trace: left out in every use, and no module."""
        rows = self.twins.get(id(node), [node])
        if not all(isinstance(n.op, Skip) and n.key is None for n in rows):
            return False
        condition = node.layer.condition
        return condition is None or self.made(node) is node or not self.is_dynamic(condition.names)

    def is_whole(self, node: Node) -> bool:
        """Whether a node is a group without modules that some uses leave out: an `if` with its statements below."""
        return node.layer.body is not None and not node.is_weight and self.is_conditional(node)

    def made(self, node: Node) -> Node:
        """The node in a use that has it, where there is one."""
        rows = self.twins.get(id(node), [node])
        made = (row if not isinstance(row.op, Skip) else row.other for row in rows)
        return next((row for row in made if row is not None), node)

    def reads(self, node: Node) -> list[Ref]:
        """What the text of a node names; where this use leaves it out, also what one that keeps it names."""
        refs = self.steps.refs(node)
        made = self.made(node)
        if made is node:
            return refs
        if id(node) in self.steps.outer and node.layer.condition is not None:
            self.writer.give_up_on(free_names(node.layer.condition.expr), must=True)
        known = {(id(ref.node), ref.name) for ref in refs}
        others = [self.counterpart(ref) for ref in made.inputs]
        return [*refs, *(ref for ref in others if (id(ref.node), ref.name) not in known)]

    def counterpart(self, ref: Ref) -> Ref:
        """What a reference of another use is in this one."""
        if ref.node is None:
            return ref
        mine = next(
            (self.by_id[key] for key, rows in self.twins.items() if any(row is ref.node for row in rows)), ref.node
        )
        return self.steps.actual(Ref(mine, ref.name, ref.type))

    @property
    def results_read(self) -> list[Ref]:
        """What the block gives, value by value."""
        return [one for ref in self.outputs.values() for one in (ref if isinstance(ref, tuple) else (ref,))]

    def count_readers(self, plan: list[Node]) -> dict[int, int]:
        """How often each node's value is written, by `id`. Arithmetic that nothing reads is not written, and reads
        nothing.
        """
        readers = Counter(id(ref.node) for ref in self.results_read if ref.node is not None)
        for node in reversed(plan):
            if isinstance(node.op, Arithmetic) and not readers[id(node)] and id(node) not in self.steps.rolls:
                self.unwritten.add(id(node))
                continue
            for ref in self.reads(node):
                if ref.node is not None:
                    readers[id(ref.node)] += mentions(node)
        return readers

    def last_uses(self, plan: list[Node], statements: list[Node]) -> dict[Any, int]:
        """The last statement that reads each value or input, by position."""
        last: dict[Any, int] = {}
        position = 0

        def note(ref: Ref, position: int) -> None:
            last[id(ref.node) if ref.node is not None else ref.name.partition(".")[0]] = position
            if ref.node is not None:
                last[id(ref.node), ref.name] = position

        for node in plan:
            roll = self.steps.rolls.get(id(node))
            for ref in self.reads(node):
                note(ref, position)
                if roll is None or not roll.chained:
                    continue
                if roll.rereads_start or not (roll.start is not None and same(ref, roll.start)):
                    note(ref, position + 1)  # the loop reads it again when it has set its own variable
            entry = entry_of(node)
            if entry is not None and entry.creates and (port := first_tensor(self.instance)):
                last[port] = position  # its device is read
            if position < len(statements) and statements[position] is node:
                position += 1
        for ref in self.results_read:
            note(ref, len(statements))
        return last

    def defers(self, node: Node, i: int, plan: list[Node], readers: dict[int, int]) -> bool:
        """Whether the value is written inside the next node's expression instead of getting a name."""
        if readers.get(id(node), 0) != 1 or i + 1 >= len(plan):
            return False
        reader = plan[i + 1]
        if reader.layer.when or node.layer.when:
            return False
        if self.is_conditional(reader) or self.is_conditional(node):
            return False  # they are statements
        if not any(ref.node is node for ref in self.steps.refs(reader)):
            return False
        if id(reader) in self.steps.rolls or reader.each is not None:
            return False  # it would be computed in every step
        if isinstance(node.type, ListType):
            return self.joins(node, reader)
        if id(node) in self.steps.rolls or len(node.types) > 1 or self.returns(node):
            return False
        wraps = self.role(reader) in WRAPS
        mine = self.role(node)
        if isinstance(reader.op, Arithmetic):
            return (
                mine not in WRAPS
                and not isinstance(node.op, Arithmetic)
                and self.is_call(node)
                and (self.chain_depth(node, i, plan, readers) == 1)
            )
        if wraps and mine not in ("activation", "dropout"):
            return self.chain_depth(node, i, plan, readers) < DEEPEST
        return False

    def joins(self, node: Node, reader: Node) -> bool:
        """Whether a list is written where it is joined: `torch.cat([head(x) for x in features], dim=1)`."""
        roll = self.steps.rolls.get(id(node))
        if isinstance(reader.op, Call) and (node.each is not None or (roll is not None and not roll.chained)):
            return any(port.variadic for port in reader.op.entry.inputs) and len(self.steps.refs(reader)) == 1
        return False

    def chain_depth(self, node: Node, i: int, plan: list[Node], readers: dict[int, int]) -> int:
        depth = 1
        while i > 0 and self.defers(plan[i - 1], i - 1, plan, readers):
            depth += 1
            i -= 1
        return depth

    def role(self, node: Node) -> str:
        op = node.op.target.op if isinstance(node.op, Reuse) else node.op
        if isinstance(op, Skip):
            for twin in self.twins.get(id(node), []):
                if isinstance(twin.op, Call):
                    return twin.op.entry.role
        return op.entry.role if isinstance(op, Call) else ""

    def is_call(self, node: Node) -> bool:
        return isinstance(node.op, Call | Apply | Reuse | Skip)

    def is_conditional(self, node: Node) -> bool:
        """Whether it is a function, arithmetic or a group without modules that runs only where its `if` holds."""
        condition = node.layer.condition
        if condition is None or node.key is not None or not isinstance(node.op, Arithmetic | Call | Skip | Apply):
            return False
        return self.is_dynamic(condition.names) or not is_constant(self.resolved(condition.expr, node))

    def resolved(self, expr: Expr, node: Node) -> Expr:
        """The expression in the constructor's names, with what is fixed in this copy of a loop put in."""
        names = free_names(expr) - self.instance.scope.keys()
        values = {name: from_value(untraced(node.env[name])) for name in names if isinstance(node.env.get(name), int)}
        return self.writer.resolve(substitute(expr, values))

    def returns(self, node: Node) -> tuple[str | tuple[str, ...], ...]:
        """How the ports stand in what the node's call gives, where that is a tuple."""
        op = self.made(node).op
        op = op.target.op if isinstance(op, Reuse) else op
        return op.returned if isinstance(op, Call) else ()

    @cached_property
    def ports_read_within(self) -> dict[int, set[str]]:
        """The ports of each node that other nodes read, by the node's `id`; what the outputs read is left out."""
        found: dict[int, set[str]] = {}
        for other in self.steps.nodes:
            for ref in self.steps.refs(other):
                found.setdefault(id(ref.node), set()).add(ref.name)
        return found

    def ports_read(self, node: Node) -> list[str]:
        """The ports of a node that something reads; its only one for a node without readers."""
        names = {
            *self.ports_read_within.get(id(node), ()),
            *(ref.name for ref in self.results_read if ref.node is node),
        }
        read = {name or next(iter(node.types)) for name in names}
        return [port for port in node.types if port in read] or list(node.types)[:1]


def first_tensor(instance: Instance) -> str:
    """The first input that is no text, on whose device new tensors are made; nothing where there is none."""
    return next((port for port, type_ in instance.inputs.items() if not is_text(type_)), "")


def mentions(node: Node) -> int:
    """How often a node's expression may write a tensor that it reads: `x * x` writes it twice."""
    if not isinstance(node.op, Arithmetic):
        return 1
    return max(Counter(part for part in walk(node.op.expr) if isinstance(part, Tensor)).values(), default=1)
