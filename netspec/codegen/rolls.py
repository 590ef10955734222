"""Which layers that the body around them runs one by one can be run by a loop: the members of a chain, and branches.

A group of which the body runs the members is *rolled* where every member does the same with what it reads: the one
before it, a tensor that is the same for all, or the next tensor of a list.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from netspec.program import Apply, Gather, Instance, Node, Ref
from netspec.shapes import ListType

if TYPE_CHECKING:
    from netspec.codegen.steps import Steps


@dataclass(slots=True, eq=False)
class Zipped:
    """A list of which every copy reads one tensor."""

    source: Ref
    length: int
    positions: tuple[int, ...]
    """Which one each copy reads."""


@dataclass(slots=True, eq=False)
class Roll:
    """The copies that one loop runs."""

    owner: Node
    copies: list[list[Node]]
    """What each copy runs, in order."""
    reads: list[list[Ref]]
    """What each copy reads from outside of itself, in order."""
    results: list[Ref]
    """What each copy gives."""
    chained: bool
    """Whether a copy reads the one before; branches read none."""
    start: Ref | None
    """What the first copy reads for the one before."""
    passed: int
    """How many of the first copies do nothing, and give what the start is."""
    zipped: list[Zipped]
    fixed: list[Ref]
    """What every copy reads."""
    collected: bool
    """Whether what the copies give is kept in a list: single ones are read, or all."""

    @property
    def instance(self) -> Instance:
        assert isinstance(self.owner.op, Apply)
        return self.owner.op.instance

    @property
    def modules(self) -> bool:
        """Whether each copy is one module."""
        return self.copies[0][0].key is not None

    @property
    def rereads_start(self) -> bool:
        """Whether every copy reads what the first one starts from, beside the one before it."""
        start = self.start
        return start is not None and any(same(start, ref) for ref in self.fixed)

    @property
    def by_name(self) -> bool:
        return self.instance.block.body.kind == "mapping"

    @property
    def count(self) -> int:
        """Members, those included that do nothing."""
        return len(self.copies) + self.passed

    def is_previous(self, ref: Ref, k: int) -> bool:
        before = self.results[k - 1] if k else self.start
        return before is not None and same(ref, before)


def same(a: Ref, b: Ref) -> bool:
    return a.node is b.node and a.name == b.name


def part(ref: Ref, position: int) -> Ref:
    """One tensor of a list."""
    return Ref(ref.node, f"{ref.name}.{position}" if ref.name and ref.name != "*" else str(position), ref.type)


def _split(ref: Ref) -> tuple[str, int] | None:
    """The list that a reference reads, and the position; None where it reads no part of one."""
    base, _, position = ref.name.rpartition(".")
    return (base, int(position)) if position.isdecimal() else None


def roll_of(steps: Steps, owner: Node, members: Sequence[tuple[Node, list[Node]]]) -> Roll | None:
    """The loop that runs the members of a group, each with the nodes that it became; None where they differ."""
    assert isinstance(owner.op, Apply)
    inside = owner.op.instance
    body = inside.block.body
    if id(owner) in steps.straight or not (body.kind == "list" or inside.parallel):
        return None
    if any(isinstance(node.op, Gather) or node.layer.when for node in inside.order) or len(inside.order) < 2:
        return None
    if inside.order != inside.nodes:
        return None
    copies, results = [nodes for _, nodes in members], [steps.result(member) for member, _ in members]
    passed = 0
    while not inside.parallel and passed < len(copies) and not copies[passed]:
        passed += 1
    copies = copies[passed:]
    if len(copies) < 2 or not all(_is_one_kind(nodes, copies[0], steps) for nodes in copies):
        return None
    if inside.parallel and (copies[0][0].key is None or any(node.name != node.key for node, _ in members)):
        return None
    reads = [_reads(nodes, steps) for nodes in copies]
    if len({len(refs) for refs in reads}) != 1 or not reads[0]:
        return None
    before = results[passed - 1 : -1] if passed else [reads[0][0], *results[:-1]]
    roll = Roll(owner, copies, reads, results[passed:], not inside.parallel, None, passed, [], [], bool(inside.members))
    chained = False
    for position in range(len(reads[0])):
        column = [refs[position] for refs in reads]
        if all(same(ref, column[0]) for ref in column):
            roll.fixed.append(column[0])
            continue
        first = 0 if passed else 1
        if not inside.parallel and all(same(ref, b) for ref, b in zip(column[first:], before[first:], strict=True)):
            start = before[0] if passed else column[0]
            if chained and roll.start is not None and not same(roll.start, start):
                return None
            roll.start, chained = start, True
            continue
        zipped = _zipped(column, steps)
        if zipped is None:
            return None
        if not any(same(zipped.source, z.source) and zipped.positions == z.positions for z in roll.zipped):
            roll.zipped.append(zipped)
    if not inside.parallel and not chained:
        return None
    return roll


def _is_one_kind(nodes: list[Node], first: list[Node], steps: Steps) -> bool:
    """Whether a copy is one module, or computations alone, as the first one is."""
    if not nodes or any(id(node) in steps.rolls or (isinstance(node.op, Apply) and node.dissolved) for node in nodes):
        return False
    if len(nodes[0].types) > 1:
        return False
    if first[0].key is not None:
        return len(nodes) == 1 and nodes[0].key is not None
    return len(nodes) == len(first) and all(node.key is None for node in nodes)


def _reads(nodes: list[Node], steps: Steps) -> list[Ref]:
    inner = {id(node) for node in nodes}
    return [ref for node in nodes for ref in steps.refs(node) if id(ref.node) not in inner]


def _zipped(column: list[Ref], steps: Steps) -> Zipped | None:
    parts = [_split(ref) for ref in column]
    first = parts[0]
    if first is None or any(ref.node is not column[0].node for ref in column):
        return None
    positions = [one[1] for one in parts if one is not None and one[0] == first[0]]
    length = steps.length(column[0].node, first[0])
    if len(positions) != len(column) or length is None or len(set(positions)) != len(positions):
        return None
    if len({after - before for before, after in pairwise(positions)}) > 1:
        return None
    roll = steps.rolls.get(id(column[0].node))
    name = "*" if roll is not None and roll.chained else first[0]
    return Zipped(Ref(column[0].node, name, ListType(())), length, tuple(positions))


def span_of(length: int, positions: Sequence[int], text: str) -> str:
    """The stretch of a list at these positions, which are evenly spaced: `features[:-1]`, `reversed(features)`."""
    first, last = positions[0], positions[-1]
    step = positions[1] - positions[0] if len(positions) > 1 else 1
    low, high = min(first, last), max(first, last)
    if abs(step) != 1:
        stop = high + 1 if step > 0 else low - 1
        return f"{text}[{first or ''}:{stop if 0 <= stop < length else ''}:{step}]"
    start = str(low) if low else ""
    stop_ = "" if high == length - 1 else f"-{length - 1 - high}" if length - 1 - high == 1 else str(high + 1)
    stretch = f"{text}[{start}:{stop_}]" if start or stop_ else text
    return f"reversed({stretch})" if step < 0 else stretch
