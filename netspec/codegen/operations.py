"""The expressions of `forward`: calls of modules and functions, arithmetic, and the sizes that they read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from netspec.catalog.entry import Entry
from netspec.codegen.flow import Flow, first_tensor
from netspec.codegen.literals import as_identifier, for_argument, literal, local_name, sequence
from netspec.codegen.rolls import Roll
from netspec.codegen.scope import bound_sizes, is_constant
from netspec.codegen.source_map import Mark, Piece, marked
from netspec.codegen.steps import Read, rename
from netspec.codegen.tensors import entry_of, is_simple, written_arguments, written_tensors
from netspec.expressions import Expr, ListExpr, Name, evaluate, free_names, to_python
from netspec.origins import origin_of
from netspec.program import Arithmetic, Call, Instance, Node, Ref, Reuse, Skip
from netspec.shapes import Dim, ListType, TensorType, symbols
from netspec.spec import Value

if TYPE_CHECKING:
    from netspec.codegen.constructor import Constructor


EACH = "one of a list"
"""The name under which one tensor of a list is read that a layer is applied to."""


def from_end(position: int, count: int) -> int:
    """How people count: the last of a list is at -1."""
    return -1 if position == count - 1 and count > 1 else position


class Operations(Flow):
    """Writes what each node computes."""

    def __init__(self, writer: Constructor, instances: list[Instance]) -> None:
        super().__init__(writer, instances)
        self.attributes: dict[str, str] = {}
        """Values of the constructor that `forward` needs: attribute → text."""
        self.texts: dict[tuple[int, str], tuple[str, int]] = {}
        """What stands for a value now: a variable or a pending expression, with its depth."""
        self.pieces: dict[int, Piece] = {}
        """The expressions of the nodes, by the node's `id`."""
        self.unpacked: dict[str, dict[int, str]] = {}
        """The sizes of inputs that are used, by input and axis."""
        self.lets: dict[str, str] = {}
        """Values that follow from them, in order, with their texts."""
        self.standing: dict[tuple[int, str], str] = {}
        """What stands for a value inside a loop: the loop's own variables."""
        self.modules: dict[int, str] = {}
        """The variables of loops that stand for modules."""
        self.taken: set[str] = {"self", *(name for name in self.instance.scope if name.isidentifier())}

    def read(self, ref: Read) -> tuple[str, int]:
        """The text of a value, and how deep it is nested."""
        if isinstance(ref, tuple):
            return f"[{', '.join(self.read(one)[0] for one in ref)}]", 0
        node, (name, _, position) = ref.node, ref.name.partition(".")
        known = self.standing.get((id(node) if node is not None else 0, ref.name))
        if known is not None:
            return known, 0
        if node is None:
            text, depth = self.texts[(0, name)]
            length = self.steps.length(None, name) or 0
            return f"{text}[{from_end(int(position), length)}]" if position else text, depth
        if node.is_weight:
            return f"self.{node.name}", 0
        roll = self.steps.rolls.get(id(node))
        if roll is not None:
            return self.of_roll(roll, ref), 0
        port = (id(node), name or next(iter(node.types)))
        text, depth = self.texts.get(port) or self.texts[(id(node), "")]
        if port in self.texts:
            return f"{text}[{position}]" if position else text, depth
        if name and name not in node.types:
            return f"{text}[{int(name)}]", depth
        if len(node.types) > 1:
            text = f"{text}[{list(node.types).index(name or next(iter(node.types)))}]"
        return f"{text}[{position}]" if position else text, depth

    def of_roll(self, roll: Roll, ref: Ref) -> str:
        """What a loop gave: the last value, the list of all, or one of them."""
        if not roll.chained:
            text = self.texts[(id(roll.owner), "")][0]
            if roll.by_name:
                return f"list({text}.values())" if ref.name == "*" else f"{text}[{literal(ref.name)}]"
            return f"{text}[{from_end(int(ref.name), roll.count)}]" if ref.name else text
        if not ref.name:
            return self.texts[(id(roll.owner), "")][0]
        text = self.texts[(id(roll.owner), "*")][0]
        return text if ref.name == "*" else f"{text}[{from_end(int(ref.name), roll.count)}]"

    def expression(self, node: Node) -> tuple[str, int]:
        """The text of what a node computes, and how deep it is nested."""
        text, depth = self.computed(node)
        inside = [self.pieces[id(ref.node)] for ref in self.steps.refs(node) if id(ref.node) in self.pieces]
        self.pieces[id(node)] = Piece(text, self.mark(node), tuple(piece for piece in inside if piece.text in text))
        if node.layer.when:
            return f"{text} if {'' if node.layer.when == 'training' else 'not '}self.training else None", depth
        return text, depth

    def mark(self, node: Node) -> Mark:
        """The part of the spec that a node is written from."""
        span = node.layer.compute.span if node.layer.compute is not None else node.layer.span
        return Mark(node.name, span, tuple(self.twins.get(id(node), [node])))

    def computed(self, node: Node) -> tuple[str, int]:
        made = self.made(node)
        op = made.op
        inputs = self.steps.inputs[id(node)]
        if made is not node and isinstance(op, Call) and isinstance(node.op, Skip) and made.key is None:
            inputs = {
                port: tuple(map(self.counterpart, ref)) if isinstance(ref, tuple) else self.counterpart(ref)
                for port, ref in op.inputs.items()
            }
        if isinstance(op, Call) and made.key is None:
            return self.function(made, op, rename(inputs, op)), 1
        if isinstance(op, Arithmetic):
            return self.arithmetic(op, made, node), 1
        target = op.target if isinstance(op, Reuse) else made
        module = self.member(target)
        if id(node) in self.steps.choosers:
            module += f"[{self.read(self.steps.choosers[id(node)])[0]}]"
        return self.apply(module, rename(inputs, op), entry_of(target), target)

    def member(self, node: Node) -> str:
        assert node.key is not None
        if id(node) in self.modules:
            return self.modules[id(node)]
        if id(node) in self.steps.outer:
            owner = self.steps.outer[id(node)][1]
            if owner.key is not None:
                key = node.key if node.key.isdigit() else literal(node.key)
                return f"{self.member(owner)}[{key}]"
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

    def function(self, made: Node, op: Call, inputs: Any) -> str:
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
        if entry.creates and (port := first_tensor(self.instance)):
            type_ = self.instance.inputs[port]
            text = self.texts[0, as_identifier(port)][0]
            listed.append(f"device={text}{'[0]' if isinstance(type_, ListType) else ''}.device")
        if module == "torch.Tensor":
            owner = tensors[0]
            return f"{owner if is_simple(owner) else f'({owner})'}.{name}({', '.join([*tensors[1:], *listed])})"
        leading = [arguments[declared.name] for declared in entry.arguments if declared.leads]
        return f"{self.writer.classes.target(entry.target)}({', '.join([*leading, *tensors, *listed])})"

    def condition(self, node: Node) -> str:
        """When a function, arithmetic or group that some uses leave out runs: decided by the sizes of an input, or by
        an attribute.
        """
        condition = node.layer.condition
        assert condition is not None
        if self.is_dynamic(condition.names):
            return to_python(self.resolve(condition.expr, self.made(node)), self.name)
        return self.attribute(f"has_{as_identifier(node.name)}", self.writer.write(self.resolved(condition.expr, node)))

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
        tensor = partial(self.tensor, node=node, node_inputs=self.steps.measured.get(id(node), {}))
        if isinstance(resolved, ListExpr):
            return sequence([to_python(item, self.name, tensors=tensor) for item in resolved.items])
        return to_python(resolved, self.name, tensors=tensor)

    def tensor(self, name: Any, node: Node, node_inputs: Mapping[str, Ref]) -> str:
        """The tensor that an expression names, as an operand."""
        word = name if isinstance(name, str) else str(evaluate(name, node.env))
        text = self.read(node_inputs[word])[0]
        return text if is_simple(text) else f"({text})"

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
        for port, type_ in self.tensor_inputs.items():
            for axis, size in enumerate(type_.shape):
                symbolic = isinstance(size, Dim) and size == self.instance.scope.get(name)
                origin = origin_of(size) if isinstance(size, int) else None
                if symbolic or (isinstance(origin, Name) and origin.id == name):
                    return self.size(name, port, axis)
        multiple = bound_sizes(self.instance).get(name)
        if multiple is not None:
            whole = self.size(f"{multiple.port}.{multiple.axis}", multiple.port, multiple.axis)
            return f"({whole} // {multiple.factor})"
        if name in self.instance.block.let and self.is_dynamic([name]):
            if name not in self.lets:
                text = to_python(self.instance.block.let[name].expr, self.name)
                self.lets[name] = text
            return as_identifier(name)
        return self.attribute(name, self.writer.text(Name(name)))

    @property
    def tensor_inputs(self) -> dict[str, TensorType]:
        """The tensors among the inputs, those in lists as `features.0`."""
        found: dict[str, TensorType] = {}
        for port, type_ in self.instance.inputs.items():
            if isinstance(type_, TensorType):
                found[port] = type_
            elif type_.element is not None:
                shared = tuple(0 if symbols(size) & type_.own else size for size in type_.element.shape)
                found[f"{port}.0"] = TensorType(shared, type_.element.dtype)
            else:
                found |= {f"{port}.{i}": item for i, item in enumerate(type_.items)}
        return found

    def size(self, name: str, port: str, axis: int) -> str:
        """A size of an input, as a variable that is read from its shape before anything else."""
        names = self.unpacked.setdefault(port, {})
        if axis not in names:
            variable = (
                local_name(name) if name.isidentifier() else f"{as_identifier(port.replace('.', '_'))}_size_{axis}"
            )
            names[axis] = variable
            self.taken.add(variable)
        return names[axis]

    def unpacking(self) -> list[str]:
        """`N, _, H, W = x.shape` for every input whose sizes are used."""
        lines = []
        block = self.instance.block
        spans = {pattern.name: pattern.span for pattern in block.inputs}
        for port, names in self.unpacked.items():
            base, _, position = port.partition(".")
            mark = Mark(base, spans.get(base, block.span))
            rank = len(self.tensor_inputs[port].shape)
            shape = f"{as_identifier(base)}{f'[{position}]' if position else ''}.shape"
            if len(names) == 1:
                ((axis, variable),) = names.items()
                lines.append(marked(f"{variable} = {shape}[{axis}]", mark))
            else:
                lines.append(marked(f"{', '.join(names.get(axis, '_') for axis in range(rank))} = {shape}", mark))
        written = [(name, value.span) for name, value in block.let.items() if name in self.lets]
        lets = [marked(f"{as_identifier(name)} = {self.lets[name]}", Mark(name, span)) for name, span in written]
        return [*lines, *lets]

    def is_dynamic(self, names: Iterable[str]) -> bool:
        """Whether one of these names depends on the sizes that an input has when the model runs; those that weights
        fix are known to the constructor.
        """
        fixed = {*self.instance.block.params, *(lifted.name for lifted in self.writer.lifted.values())}
        bound = bound_sizes(self.instance).keys() - fixed
        let = self.instance.block.let
        return any(
            isinstance(self.instance.scope.get(name), Dim)
            or name in bound
            or (name in let and self.is_dynamic(let[name].names))
            for name in names
        )

    def arithmetic(self, op: Arithmetic, made: Node, node: Node) -> str:
        def tensor(name: Any) -> str:
            word = name if isinstance(name, str) else str(evaluate(name, made.env))
            ref = op.inputs[word]
            text = self.read(self.steps.actual(ref, made) if made is node else self.counterpart(ref))[0]
            return text if is_simple(text) else f"({text})"

        return to_python(self.resolve(op.expr, made), self.name, tensors=tensor)
