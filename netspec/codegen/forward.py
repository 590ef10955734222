"""`forward`: the graph as statements that one would write by hand.

A value that the next statement alone reads flows on in `x` (or `out`, while the input is still needed); norms,
activations and dropouts wrap the call before them; what is read later keeps its layer's name.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from netspec.catalog.entry import Entry
from netspec.codegen.literals import as_identifier, for_argument, sequence
from netspec.codegen.printer import WIDTH
from netspec.codegen.scope import bound_sizes, is_constant
from netspec.expressions import Expr, ListExpr, Literal, Name, Tensor, evaluate, free_names, to_python, walk
from netspec.origins import Opaque, origin_of
from netspec.program import Apply, Arithmetic, Call, Instance, Node, Ref, Reuse, Skip
from netspec.shapes import Dim, ListType, TensorType
from netspec.spec import Value

if TYPE_CHECKING:
    from netspec.codegen.constructor import Constructor
from netspec.codegen.steps import Steps, all_nodes, find_twins, flat, rename
from netspec.codegen.tensors import entry_of, result_pattern, written_arguments, written_tensors

WRAPS = ("norm", "activation", "dropout")
DEEPEST = 3


class Forward:
    """Writes the statements of one class's `forward` from its first instance; the others have the same graph."""

    def __init__(self, writer: Constructor, instances: list[Instance]) -> None:
        self.writer = writer
        self.instances = instances
        self.instance = instances[0]
        self.twins = find_twins(writer, instances)
        self.lines: list[str] = []
        self.comments: list[str] = []
        self.attributes: dict[str, str] = {}
        """Values of the constructor that `forward` needs: attribute → text."""
        self.texts: dict[tuple[int, str], tuple[str, int]] = {}
        """What stands for a value now: a variable or a pending expression, with its depth."""
        self.unpacked: dict[str, dict[int, str]] = {}
        """The sizes of inputs that are used, by input and axis."""
        self.taken: set[str] = {"self", *(name for name in self.instance.scope if name.isidentifier())}
        self.output = ""
        self.result_comment = ""
        self.by_id = {id(node): node for node in all_nodes(self.instance)}
        self.steps = Steps(self.passes)
        self.outputs: dict[str, Ref] = {}

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
                self.output = text
                self.result_comment = self.comment(node)
                break
            if not readers.get(id(node)):
                if not isinstance(node.op, Arithmetic):  # it may draw, or update what it keeps
                    self.say(text, "")
                at += 1
                continue
            name = self.variable(node, at, last_use, inputs) if not self.returns(node) else ""
            self.texts[(id(node), "")] = (name, 0)
            ports = self.ports_read(node) if not name else [""]
            comment = self.comment(node, ports[0]) if len(ports) == 1 else ""
            self.say(f"{name or self.unpack(node, ports, at, last_use, inputs)} = {text}", comment)
            at += 1
        if not self.output:
            self.output = self.results()
        self.lines[:0] = self.unpacking()

    def results(self) -> str:
        outputs = self.outputs
        if list(outputs) == [""]:
            return self.read(outputs[""])[0]
        fields = ", ".join(f"{name}={self.read(ref)[0]}" for name, ref in outputs.items())
        return f"{self.writer.classes.output_type(self.instance)}({fields})"

    def is_result(self, node: Node) -> bool:
        outputs = list(self.outputs.items())
        return (
            len(outputs) == 1
            and not self.returns(node)
            and outputs[0][0] == ""
            and outputs[0][1].node is node
            and not outputs[0][1].name
        )

    def say(self, statement: str, comment: str) -> None:
        previous = self.comments[-1] if self.comments else ""
        if comment and comment != previous and len(statement) + len(comment) + 12 <= WIDTH:
            self.lines.append(f"{statement}  # {comment}")
        else:
            self.lines.append(statement)
        self.comments.append(comment or previous)

    def passes(self, node: Node) -> bool:
        """Whether a node leaves no trace: left out in every use, and no module."""
        return all(isinstance(n.op, Skip) and n.key is None for n in self.twins.get(id(node), [node]))

    def defers(self, node: Node, i: int, plan: list[Node], readers: dict[int, int]) -> bool:
        """Whether the value is written inside the next node's expression instead of getting a name."""
        if readers.get(id(node), 0) != 1 or i + 1 >= len(plan):
            return False
        reader = plan[i + 1]
        if reader.layer.when or node.layer.when:
            return False
        if self.is_conditional(reader):
            return False  # it would be written twice
        if not any(ref.node is node for ref in self.steps.refs(reader)):
            return False
        if isinstance(node.type, ListType) or len(node.types) > 1 or self.returns(node):
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

    def chain_depth(self, node: Node, i: int, plan: list[Node], readers: dict[int, int]) -> int:
        depth = 1
        while i > 0 and self.defers(plan[i - 1], i - 1, plan, readers):
            depth += 1
            i -= 1
        return depth

    def reads(self, node: Node) -> list[Ref]:
        """What the text of a node names; where this use leaves it out, also what one that keeps it names."""
        refs = self.steps.refs(node)
        made = next((row for row in self.twins.get(id(node), [node]) if not isinstance(row.op, Skip)), node)
        if made is node:
            return refs
        if id(node) in self.steps.outer and node.layer.condition is not None:
            self.writer.give_up_on(free_names(node.layer.condition.expr), must=True)
        known = {(id(ref.node), ref.name) for ref in refs}
        others = [self.counterpart(ref) for ref in made.inputs]
        return [*refs, *(ref for ref in others if (id(ref.node), ref.name) not in known)]

    def count_readers(self, plan: list[Node]) -> dict[int, int]:
        readers: dict[int, int] = {}
        read = [ref for node in plan for ref in self.reads(node) for _ in range(mentions(node))]
        for ref in [*read, *self.outputs.values()]:
            if ref.node is not None:
                readers[id(ref.node)] = readers.get(id(ref.node), 0) + 1
        return readers

    def last_uses(self, plan: list[Node], statements: list[Node]) -> dict[Any, int]:
        """The last statement that reads each value or input, by position."""
        last: dict[Any, int] = {}
        position = 0
        for node in plan:
            for ref in self.reads(node):
                last[id(ref.node) if ref.node is not None else ref.name] = position
            entry = entry_of(node)
            if entry is not None and entry.creates and self.instance.inputs:
                last[next(iter(self.instance.inputs))] = position  # its device is read
            if position < len(statements) and statements[position] is node:
                position += 1
        for ref in self.outputs.values():
            last[id(ref.node) if ref.node is not None else ref.name] = len(statements)
        return last

    def is_call(self, node: Node) -> bool:
        return isinstance(node.op, Call | Apply | Reuse | Skip)

    def role(self, node: Node) -> str:
        op = node.op.target.op if isinstance(node.op, Reuse) else node.op
        if isinstance(op, Skip):
            for twin in self.twins.get(id(node), []):
                if isinstance(twin.op, Call):
                    return twin.op.entry.role
        return op.entry.role if isinstance(op, Call) else ""

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

    def returns(self, node: Node) -> tuple[str | tuple[str, ...], ...]:
        """How the ports stand in what the node's call gives, where that is a tuple."""
        made = (row for row in self.twins.get(id(node), [node]) if not isinstance(row.op, Skip))
        entry = entry_of(next(made, node))
        return entry.returns if entry is not None else ()

    def ports_read(self, node: Node) -> list[str]:
        """The ports of a node that something reads; its only one for a node without readers."""
        refs = [*(ref for other in self.steps.nodes for ref in self.steps.refs(other)), *self.outputs.values()]
        read = {ref.name or next(iter(node.types)) for ref in refs if ref.node is node}
        return [port for port in node.types if port in read] or list(node.types)[:1]

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

    # Expressions

    def read(self, ref: Ref) -> tuple[str, int]:
        """The text of a value, and how deep it is nested."""
        node = ref.node
        if node is None:
            return self.texts[(0, ref.name)]
        if node.is_weight:
            return f"self.{node.name}", 0
        port = (id(node), ref.name or next(iter(node.types)))
        if port in self.texts:
            return self.texts[port]
        text, depth = self.texts[(id(node), "")]
        if ref.name and ref.name not in node.types:
            return f"{text}[{int(ref.name)}]", depth
        if len(node.types) > 1:
            output = ref.name or next(iter(node.types))
            return f"{text}[{list(node.types).index(output)}]", depth
        return text, depth

    def expression(self, node: Node) -> tuple[str, int]:
        """The text of what a node computes, and how deep it is nested."""
        text, depth = self.computed(node)
        if node.layer.when:
            return f"{text} if {'' if node.layer.when == 'training' else 'not '}self.training else None", depth
        return text, depth

    def computed(self, node: Node) -> tuple[str, int]:
        rows = self.twins.get(id(node), [node])
        made = next((row for row in rows if not isinstance(row.op, Skip)), node)
        op = made.op
        inputs = self.steps.inputs[id(node)]
        if isinstance(op, Call) and made.key is None:
            return self.function(made, op, node, rename(inputs, op)), 1
        if isinstance(op, Arithmetic):
            return self.conditional(node, rows, self.arithmetic(op, made, node)), 1
        target = op.target if isinstance(op, Reuse) else made
        return self.apply(self.member(target), rename(inputs, op), entry_of(target), target)

    def member(self, node: Node) -> str:
        assert node.key is not None
        if id(node) in self.steps.outer:
            owner = self.steps.outer[id(node)][1]
            if owner.key is not None:
                return f"{self.member(owner)}[{node.key}]"
        return f"self.{node.key}" if node.key.isidentifier() else f'self.get_submodule("{node.key}")'

    def apply(self, target: str, inputs: Any, entry: Entry | None, made: Node) -> tuple[str, int]:
        """A module's call: `self.attention(x, x, x, need_weights=False)`."""
        if entry is None:
            read = [self.read(ref) for ref in inputs.values()]
            return f"{target}({', '.join(text for text, _ in read)})", max((d for _, d in read), default=0) + 1
        first, named, depth = written_tensors(entry, inputs, self.read)
        listed = [
            f"{declared.name}={self.argument(declared, made.layer.arguments[declared.name], made)}"
            for declared in entry.arguments
            if declared.call and declared.name in made.layer.arguments
        ]
        return f"{target}({', '.join([*first, *named, *listed])})", depth + 1

    def function(self, made: Node, op: Call, node: Node, inputs: Any) -> str:
        """`x.flatten(1)`, `torch.cat([a, b], dim=1)`, `F.relu(x)`."""
        entry = op.entry
        arguments: dict[str, str] = {}
        for declared in entry.arguments:
            if declared.name in made.layer.arguments:
                arguments[declared.name] = self.argument(declared, made.layer.arguments[declared.name], made)
        tensors, named, _ = written_tensors(entry, inputs, self.read)
        module, _, name = entry.target.rpartition(".")
        listed = [*written_arguments(entry, arguments), *named]
        if entry.training:
            listed.append("training=self.training")
        if entry.creates and self.instance.inputs:
            port, type_ = next(iter(self.instance.inputs.items()))
            listed.append(f"device={as_identifier(port)}{'[0]' if isinstance(type_, ListType) else ''}.device")
        if module == "torch.Tensor":
            owner = tensors[0]
            call = f"{owner if is_simple(owner) else f'({owner})'}.{name}({', '.join([*tensors[1:], *listed])})"
        else:
            call = f"{self.writer.classes.target(entry.target)}({', '.join([*tensors, *listed])})"
        return self.conditional(node, self.twins.get(id(node), [node]), call)

    def conditional(self, node: Node, rows: list[Node], text: str) -> str:
        """A function or arithmetic that some uses leave out: decided by an attribute."""
        condition = node.layer.condition
        if condition is None:
            return text
        resolved = self.writer.resolve(condition.expr)
        if is_constant(resolved):
            return text
        passed = self.read(self.steps.refs(node)[0])[0]
        flag = self.attribute(f"has_{as_identifier(node.name)}", self.writer.text(condition.expr))
        return f"{text} if {flag} else {passed}"

    def is_conditional(self, node: Node) -> bool:
        condition = node.layer.condition
        function = isinstance(node.op, Arithmetic | Call | Skip) and node.key is None
        return condition is not None and function and not is_constant(self.writer.resolve(condition.expr))

    def attribute(self, name: str, text: str) -> str:
        children = {node.key for node in self.instance.nodes}
        while name in children:
            name += "_"
        self.attributes[name] = text
        return f"self.{name}"

    def argument(self, declared: Any, value: Value, node: Node) -> str:
        resolved = self.resolve(value.expr, node)
        if is_constant(resolved):
            plain = (
                [getattr(item, "value", None) for item in resolved.items]
                if isinstance(resolved, ListExpr)
                else (getattr(resolved, "value", None))
            )
            return for_argument(declared, plain)
        if isinstance(resolved, ListExpr):
            return sequence([to_python(item, self.name) for item in resolved.items])
        return to_python(resolved, self.name)

    def resolve(self, expr: Expr, node: Node) -> Expr:
        """The expression with what is fixed in this copy put in: loop names are numbers here."""
        from netspec.expressions import fold, from_value, substitute
        from netspec.origins import untraced

        mapping: dict[str, Expr] = {}
        for name in free_names(expr):
            if name in self.writer.plan.frozen or (name not in self.instance.scope and name in node.env):
                value = untraced(node.env[name])
                if not isinstance(value, Dim):
                    mapping[name] = from_value(value)
        return fold(substitute(expr, mapping))

    def name(self, name: str) -> str:
        """What a name of the block is in `forward`: a size of an input, or an attribute."""
        for port, type_ in self.instance.inputs.items():
            for axis, size in enumerate(type_.shape if isinstance(type_, TensorType) else ()):
                symbolic = isinstance(size, Dim) and size == self.instance.scope.get(name)
                origin = origin_of(size) if isinstance(size, int) else None
                if symbolic or (isinstance(origin, Name) and origin.id == name):
                    return self.size(name, port, axis)
        multiple = bound_sizes(self.instance).get(name)
        if multiple is not None:
            whole = self.size(f"{multiple.port}.{multiple.axis}", multiple.port, multiple.axis)
            return f"({whole} // {multiple.factor})"
        if name in self.instance.block.let and self.depends_on_input(name):
            text = to_python(self.instance.block.let[name].expr, self.name)
            return f"({text})" if not is_simple(text) else text
        return self.attribute(name, self.writer.text(Name(name)))

    def size(self, name: str, port: str, axis: int) -> str:
        """A size of an input, as a variable that is read from its shape before anything else."""
        names = self.unpacked.setdefault(port, {})
        if axis not in names:
            variable = name if name.isidentifier() else f"{as_identifier(port)}_size_{axis}"
            names[axis] = variable
            self.taken.add(variable)
        return names[axis]

    def unpacking(self) -> list[str]:
        """`N, _, H, W = x.shape` for every input whose sizes are used."""
        lines = []
        for port, names in self.unpacked.items():
            type_ = self.instance.inputs[port]
            assert isinstance(type_, TensorType)
            rank = len(type_.shape)
            shape = f"{as_identifier(port)}.shape"
            if len(names) == 1:
                ((axis, variable),) = names.items()
                lines.append(f"{variable} = {shape}[{axis}]")
            else:
                lines.append(f"{', '.join(names.get(axis, '_') for axis in range(rank))} = {shape}")
        return lines

    def depends_on_input(self, name: str) -> bool:
        return isinstance(self.instance.scope.get(name), Dim)

    def arithmetic(self, op: Arithmetic, made: Node, node: Node) -> str:
        def tensor(name: Any) -> str:
            word = name if isinstance(name, str) else str(evaluate(name, made.env))
            ref = op.inputs[word]
            text = self.read(self.steps.actual(ref, made) if made is node else self.counterpart(ref))[0]
            return text if is_simple(text) else f"({text})"

        return to_python(self.resolve(op.expr, made), self.name, tensors=tensor)

    def counterpart(self, ref: Ref) -> Ref:
        """What a reference of another use is in this one."""
        if ref.node is None:
            return ref
        mine = next(
            (self.by_id[key] for key, rows in self.twins.items() if any(row is ref.node for row in rows)), ref.node
        )
        return self.steps.actual(Ref(mine, ref.name, ref.type))

    # Comments

    def comment(self, node: Node, port: str = "") -> str:
        """The shape, in numbers where they are the same in every use, else in the block's own names."""
        rows = [row for row in self.twins.get(id(node), [node])]
        types = [row.types.get(port, row.type) for row in rows]
        if not all(isinstance(type_, TensorType) for type_ in types):
            return ""
        shapes = [type_.shape for type_ in types if isinstance(type_, TensorType)]
        if len({len(shape) for shape in shapes}) != 1:
            return ""
        words = []
        for axis in range(len(shapes[0])):
            sizes = [shape[axis] for shape in shapes]
            if isinstance(sizes[0], Dim) and len(self.instances) > 1:
                word = self.symbol_name(sizes[0])
            elif (
                not self.instance.group
                and self.instance.block.inputs
                and isinstance(sizes[0], int)
                and len(self.instances) > 1
            ):
                origins = {origin_of(size) for size in sizes if isinstance(size, int)}
                origin = origins.pop()
                if origins or isinstance(origin, Opaque):
                    return ""
                word = str(origin.value) if isinstance(origin, Literal) else to_python(origin)
            else:
                if len(set(sizes)) > 1:
                    return ""
                word = str(sizes[0])
            if len(word) > 14 or ".shape[" in word or "loop " in word:
                return ""
            words.append(word)
        return f"[{', '.join(words)}]"

    def symbol_name(self, size: Dim) -> str:
        for name, value in self.instance.scope.items():
            if isinstance(value, Dim) and value == size and name.isidentifier():
                return name
        return str(size)


def is_simple(text: str) -> bool:
    """Whether a text needs no parentheses as an operand: a name, a call, a subscript."""
    depth = 0
    for char in text:
        if char in "([{":
            depth += 1
        elif char in ")]}":
            depth -= 1
        elif depth == 0 and not (char.isalnum() or char in "_."):
            return False
    return True


def mentions(node: Node) -> int:
    """How often a node's expression may write a tensor that it reads: `x * x` writes it twice."""
    if not isinstance(node.op, Arithmetic):
        return 1
    return max(Counter(part for part in walk(node.op.expr) if isinstance(part, Tensor)).values(), default=1)
