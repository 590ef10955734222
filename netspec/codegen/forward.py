"""`forward`: the graph as statements that one would write by hand.

A value that the next statement alone reads flows on in `x` (or `out`, while the input is still needed); norms,
activations and dropouts wrap the call before them; what is read later keeps its layer's name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from netspec.codegen.comments import shape_comment
from netspec.codegen.literals import as_identifier
from netspec.codegen.loops import Loops, Straight
from netspec.codegen.printer import WIDTH
from netspec.codegen.rolls import Roll
from netspec.codegen.source_map import Mark, Piece, indented, marked, rewritten
from netspec.codegen.steps import flat
from netspec.codegen.tensors import result_pattern
from netspec.program import Apply, Instance, Node, Ref
from netspec.shapes import ListType

if TYPE_CHECKING:
    from netspec.codegen.constructor import Constructor


class Forward(Loops):
    """Writes the statements of one class's `forward`."""

    def __init__(self, writer: Constructor, instances: list[Instance]) -> None:
        super().__init__(writer, instances)
        self.lines: list[str] = []
        self.kept: set[str] = set()
        """Variables that others read afterwards."""
        self.comments: list[str] = []
        self.output = ""
        self.result = Piece("", self.outputs_mark())
        self.result_comment = ""

    def write(self, inputs: list[str]) -> None:
        """Fill `lines` and `output`."""
        straight: frozenset[int] = frozenset()
        taken, texts = set(self.taken), dict(self.texts)
        while True:
            try:
                return self.write_steps(inputs, straight)
            except Straight as found:
                straight |= {found.group}
            self.taken -= self.taken - taken
            self.lines, self.comments, self.output = [], [], ""
            self.attributes, self.unpacked, self.texts, self.pieces, self.lets = {}, {}, dict(texts), {}, {}
            self.standing, self.modules = {}, {}

    def write_steps(self, inputs: list[str], straight: frozenset[int]) -> None:
        """The same, with these groups written out."""
        for name in inputs:
            self.texts.setdefault((0, name), (name, 0))
            self.taken.add(name)
        self.steps = flat(self.instance, self.passes, self.is_whole, straight)
        self.outputs = {name: self.steps.read(ref) for name, ref in self.instance.outputs.items()}
        plan = list(self.steps.nodes)
        readers = self.count_readers(plan)
        plan = [node for node in plan if id(node) not in self.unwritten]
        deferred = {id(node) for i, node in enumerate(plan) if self.defers(node, i, plan, readers)}
        statements = [node for node in plan if id(node) not in deferred]
        last_use = self.last_uses(plan, statements)
        at = 0
        for node in plan:
            roll = self.steps.rolls.get(id(node))
            if roll is not None and roll.chained:
                self.run(roll, at, last_use, inputs)
                at += 1
                continue
            if self.is_conditional(node):
                result = at == len(statements) - 1 and self.is_result(node)
                self.say_conditional(node, at, last_use, inputs, result)
                at += 1
                continue
            text, depth = self.expression(node)
            if id(node) in deferred:
                self.texts[(id(node), "")] = (text, depth)
                continue
            if at == len(statements) - 1 and self.is_result(node):
                self.output, self.result = text, self.pieces[id(node)]
                self.result_comment = self.comment(node)
                break
            if not readers.get(id(node)):
                self.say(text, "", node)  # it may draw, or update what it keeps
                at += 1
                continue
            name = self.variable(node, at, last_use, inputs) if not self.returns(node) or node.each is not None else ""
            if name in ("x", "out") and self.stands_alone(node, text):
                name = self.fresh(as_identifier(node.name))
            self.texts[(id(node), "")] = (name, 0)
            ports = self.ports_read(node) if not name else [""]
            comment = self.comment(node, ports[0]) if len(ports) == 1 else ""
            self.say(f"{name or self.unpack(node, ports, at, last_use, inputs)} = {text}", comment, node)
            at += 1
        if not self.output:
            self.output = self.results()
            self.result = Piece(self.output, self.outputs_mark())
        self.lines[:0] = self.unpacking()

    def say_conditional(self, node: Node, at: int, last_use: dict[Any, int], inputs: list[str], result: bool) -> None:
        """What some uses leave out: `if shift > 0:`, or one line where its result has another name than its input."""
        passed = self.read(self.steps.refs(node)[0])[0]
        condition = self.condition(node)
        made = self.made(node)
        body: list[str] = []
        if isinstance(made.op, Apply):
            rows = [row for row in self.twins[id(node)] if isinstance(row.op, Apply)] or [made]
            inner = Branch(self, rows, self.alive(at, last_use, inputs))
            body, text = inner.lines, inner.output
            self.pieces[id(node)] = Piece(text, self.mark(node))
        else:
            text = self.expression(node)[0]
        if result and not body:
            self.output, self.result = f"{text} if {condition} else {passed}", self.pieces[id(node)]
            self.result_comment = self.comment(node)
            return
        name = self.variable(node, at, last_use, inputs)
        self.texts[(id(node), "")] = (name, 0)
        if not body and (name != passed or len(self.steps.refs(node)) > 1):
            self.say(f"{name} = {text} if {condition} else {passed}", self.comment(node), node)
            return
        self.say(f"if {condition}:", "", node)
        start = len(self.lines)
        self.lines += body
        self.say(f"{name} = {text}", "", node)
        self.lines[start:] = map(indented, self.lines[start:])
        if name != passed:
            self.say("else:", "", node)
            self.say(f"{name} = {passed}", "", node)
            self.lines[-1] = indented(self.lines[-1])

    def run(self, roll: Roll, at: int, last_use: dict[Any, int], inputs: list[str]) -> None:
        """The statements of a chain that runs in a loop, and what stands for its values after it."""
        owner, key = roll.owner, id(roll.owner)
        soon = last_use.get((key, ""), -1) <= at + 1
        alive = self.alive(at, last_use, inputs)
        name = self.fresh(as_identifier(owner.name)) if roll.collected and self.reads_members(owner) else ""
        flowing = "x" if "x" not in alive else "out"
        variable = flowing if name or soon else self.fresh(as_identifier(owner.name))
        self.pieces[key] = Piece("", self.mark(owner))
        for line in self.chain(roll, variable, name):
            self.say(line, "", owner)
        self.texts[(key, "*")] = (name, 0)
        self.texts[(key, "")] = (variable if soon or not name else f"{name}[-1]", 0)

    def reads_members(self, owner: Node) -> bool:
        """Whether anything reads more of a chain than its end."""
        refs = [*(ref for node in self.steps.nodes for ref in self.steps.refs(node)), *self.results_read]
        return any(ref.node is owner and ref.name for ref in refs)

    def results(self) -> str:
        outputs = self.outputs
        if list(outputs) == [""]:
            return self.read(outputs[""])[0]
        fields = ", ".join(f"{name}={self.read(ref)[0]}" for name, ref in outputs.items())
        return f"{self.writer.classes.output_type(self.instance)}({fields})"

    def outputs_mark(self) -> Mark:
        """The block's `outputs`, or the block where it states none."""
        block = self.instance.block
        stated = [value.span for value in (block.outputs or {}).values()]
        return Mark("outputs", stated[0] if stated else block.span)

    def is_result(self, node: Node) -> bool:
        """Whether a node's value is what the block gives, and all that it gives."""
        result = self.outputs.get("")
        if len(self.outputs) != 1 or not isinstance(result, Ref) or (self.returns(node) and node.each is None):
            return False
        return result.node is node and not result.name

    def say(self, statement: str, comment: str, node: Node) -> None:
        piece = self.pieces[id(node)]
        statement = marked(statement, piece.mark, [piece])
        previous = self.comments[-1] if self.comments else ""
        if comment and comment != previous and len(statement) + len(comment) + 12 <= WIDTH:
            self.lines.append(rewritten(statement, f"{statement}  # {comment}"))
        else:
            self.lines.append(statement)
        self.comments.append(comment or previous)

    def variable(self, node: Node, at: int, last_use: dict[Any, int], inputs: list[str]) -> str:
        """`x` or `out` where only the next statement reads it, else the layer's name."""
        if last_use.get(id(node), at + 1) <= at + 1 and not self.is_many(node):
            alive = self.alive(at, last_use, inputs)
            for name in ("x", "out"):
                if name not in alive:
                    return name
        return self.fresh(as_identifier(node.name if not node.name.isdigit() else self.member_name(node)))

    def alive(self, at: int, last_use: dict[Any, int], inputs: list[str]) -> set[str]:
        """The variables of inputs that are read after this statement."""
        return self.kept | {self.texts[0, name][0] for name in inputs if last_use.get(name, -1) > at}

    def stands_alone(self, node: Node, text: str) -> bool:
        """Whether a value goes into a named output and does not continue what flows on in `x`."""
        ends = id(node) not in self.ports_read_within
        return ends and len(self.outputs) > 1 and not re.search(r"\b(x|out)\b", text)

    def is_many(self, node: Node) -> bool:
        """Whether a node gives several tensors under one name."""
        return isinstance(node.type, ListType) or id(node) in self.steps.rolls

    def unpack(self, node: Node, ports: list[str], at: int, last_use: dict[Any, int], inputs: list[str]) -> str:
        """`output, (h_n, _)`: names for the ports that are read."""
        if len(ports) > 1:
            names = {port: self.fresh(port) for port in ports}
        else:
            names = dict.fromkeys(ports, self.variable(node, at, last_use, inputs))
        self.texts.update({(id(node), port): (name, 0) for port, name in names.items()})
        return result_pattern(self.returns(node), names)

    def member_name(self, node: Node) -> str:
        """What a member of a list gives: the third of `downs` is `down2`."""
        owner = self.steps.outer[id(node)][1].name if id(node) in self.steps.outer else "x"
        return f"{owner.removesuffix('s') or owner}{node.name}"

    def comment(self, node: Node, port: str = "") -> str:
        """The node's shape in all uses of the block, or nothing."""
        rows = self.twins.get(id(node), [node])
        if self.is_many(node):
            return ""
        return shape_comment([row.types.get(port, row.type) for row in rows], self.instance, len(self.instances) > 1)


class Branch(Forward):
    """The statements of a group that stands below an `if`; it has the names of the body around it."""

    def __init__(self, outer: Forward, rows: list[Node], kept: set[str]) -> None:
        calls = [row.op for row in rows if isinstance(row.op, Apply)]
        self.outer = outer
        super().__init__(outer.writer, [call.instance for call in calls])
        self.taken = outer.taken
        for port, ref in calls[0].inputs.items():
            self.texts[(0, port)] = outer.read(outer.counterpart(ref))
        self.kept = kept
        self.write(list(calls[0].inputs))

    def name(self, name: str) -> str:
        """What a name of the block is: the body around it knows."""
        return self.outer.name(name)

    def is_dynamic(self, names: Iterable[str]) -> bool:
        """Whether one of these names depends on the sizes of an input of the body around it."""
        return self.outer.is_dynamic(names)

    def attribute(self, name: str, text: str) -> str:
        """An attribute of the class."""
        return self.outer.attribute(name, text)
