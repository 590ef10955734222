"""`forward`: the graph as statements that one would write by hand.

A value that the next statement alone reads flows on in `x` (or `out`, while the input is still needed); norms,
activations and dropouts wrap the call before them; what is read later keeps its layer's name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from netspec.codegen.comments import shape_comment
from netspec.codegen.literals import as_identifier
from netspec.codegen.operations import Operations
from netspec.codegen.printer import WIDTH
from netspec.codegen.source_map import Mark, Piece, marked, rewritten
from netspec.codegen.steps import flat
from netspec.codegen.tensors import result_pattern
from netspec.program import Arithmetic, Instance, Node
from netspec.shapes import ListType

if TYPE_CHECKING:
    from netspec.codegen.constructor import Constructor


class Forward(Operations):
    """Writes the statements of one class's `forward`."""

    def __init__(self, writer: Constructor, instances: list[Instance]) -> None:
        super().__init__(writer, instances)
        self.lines: list[str] = []
        self.comments: list[str] = []
        self.output = ""
        self.result = Piece("", self.outputs_mark())
        self.result_comment = ""

    def write(self, inputs: list[str]) -> None:
        """Fill `lines` and `output`."""
        for name in inputs:
            self.texts[(0, name)] = (name, 0)
            self.taken.add(name)
        self.steps = flat(self.instance, self.passes)
        self.outputs = {name: self.steps.actual(ref) for name, ref in self.instance.outputs.items()}
        plan = list(self.steps.nodes)
        readers = self.count_readers(plan)
        deferred = {id(node) for i, node in enumerate(plan) if self.defers(node, i, plan, readers)}
        statements = [node for node in plan if id(node) not in deferred]
        last_use = self.last_uses(plan, statements)
        at = 0
        for node in plan:
            text, depth = self.expression(node)
            if id(node) in deferred:
                self.texts[(id(node), "")] = (text, depth)
                continue
            if at == len(statements) - 1 and self.is_result(node):
                self.output, self.result = text, self.pieces[id(node)]
                self.result_comment = self.comment(node)
                break
            if not readers.get(id(node)):
                if not isinstance(node.op, Arithmetic):  # it may draw, or update what it keeps
                    self.say(text, "", node)
                at += 1
                continue
            name = self.variable(node, at, last_use, inputs) if not self.returns(node) else ""
            self.texts[(id(node), "")] = (name, 0)
            ports = self.ports_read(node) if not name else [""]
            comment = self.comment(node, ports[0]) if len(ports) == 1 else ""
            self.say(f"{name or self.unpack(node, ports, at, last_use, inputs)} = {text}", comment, node)
            at += 1
        if not self.output:
            self.output = self.results()
            self.result = Piece(self.output, self.outputs_mark())
        self.lines[:0] = self.unpacking()

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
        outputs = list(self.outputs.items())
        return (
            len(outputs) == 1
            and not self.returns(node)
            and outputs[0][0] == ""
            and outputs[0][1].node is node
            and not outputs[0][1].name
        )

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
        if last_use.get(id(node), at + 1) <= at + 1 and not isinstance(node.type, ListType):
            alive = {name for name in inputs if last_use.get(name, -1) > at}
            return "x" if "x" not in alive else "out"
        return self.fresh(as_identifier(node.name if not node.name.isdigit() else self.member_name(node)))

    def fresh(self, base: str) -> str:
        """A variable of that name, with a number where it is taken."""
        name, number = base, 2
        while name in self.taken or name in ("x", "out"):
            name, number = f"{base}{number}", number + 1
        self.taken.add(name)
        return name

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
        return shape_comment([row.types.get(port, row.type) for row in rows], self.instance, len(self.instances) > 1)
