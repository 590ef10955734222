"""A block as a call: `Bottleneck(in_channels, 64, stride=2)`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from netspec.codegen.literals import literal
from netspec.codegen.scope import Lifted, OpenLoop, Retry, bound_sizes, is_constant
from netspec.expressions import Conditional, ListExpr, Literal, Name, free_names, to_python
from netspec.order import stated_values
from netspec.origins import Opaque, names_of, origin_of, untraced
from netspec.program import Apply, Node
from netspec.shapes import TensorType
from netspec.spec import Layer, Value

if TYPE_CHECKING:
    from netspec.codegen.classes import Written

from netspec.codegen.arguments import LayerCalls
from netspec.codegen.writer import Rows, constant


def size_row(node: Node, size: Lifted) -> tuple[Any, Any, Any]:
    """What a caller gives for a size of a block's input."""
    assert isinstance(node.op, Apply)
    port, _, position = size.port.partition(".")
    type_ = node.op.inputs[port].type
    one = type_ if isinstance(type_, TensorType) else type_.members[min(int(position), len(type_.members) - 1)]
    given = one.shape[size.axis]
    given = given if size.factor == 1 else given // size.factor
    return origin_of(given), node.env, untraced(given)


class BlockCalls(LayerCalls):
    """Writes calls of the classes that blocks became."""

    def use_block(self, layer: Layer, rows: Rows) -> str:
        """A block's class, called: `Bottleneck(in_channels, 64, stride=2)`."""
        written = {id(w): w for w in (self.classes.of(node.op.instance) for node in rows if isinstance(node.op, Apply))}
        choice = self.choice(layer, list(written.values())) if len(written) == 2 else None
        if len(written) > 1 and choice is None:
            depends = frozenset().union(*(free_names(v.expr) for v in stated_values(layer)), *(
                names_of(origin_of(size))
                for node in rows for ref in node.inputs if isinstance(ref.type, TensorType)
                for size in ref.type.shape if isinstance(size, int)
            ))  # fmt: skip
            self.give_up_on(depends, must=True)
        made = next(iter(written.values()))
        if choice is None and layer.type is not None and not layer.type.literal:
            resolved = self.resolve(layer.type.expr)
            if not is_constant(resolved):
                self.give_up_on(free_names(layer.type.expr))
        self.give_up_on_fixed(layer, rows)
        first: list[str] = []
        named: list[str] = []
        for argument in made.arguments:
            text = self.block_argument(argument.name, made, layer, rows, argument.origin)
            if text is None or text == argument.default:
                continue
            text = self.hoisted(argument.name, text)
            in_order = not named and len(first) == made.arguments.index(argument)
            if in_order and (text == argument.name or (argument.default is None and len(first) < 2)):
                first.append(text)
            else:
                named.append(f"{argument.name}={text}")
        called = made.name if choice is None else self.hoisted("block", choice)
        called = f"({called})" if called == choice else called
        return f"{called}({', '.join([*first, *named])})"

    def give_up_on_fixed(self, layer: Layer, rows: Rows) -> None:
        """What a class has fixed, a parameter or a size of an input, follows none of this one's arguments."""
        for node in rows:
            assert isinstance(node.op, Apply)
            sizes = bound_sizes(node.op.instance)
            for name in sorted(self.classes.of(node.op.instance).frozen):
                if name in layer.arguments and not is_constant(self.resolve(layer.arguments[name].expr)):
                    self.give_up_on(free_names(layer.arguments[name].expr))
                elif name in sizes:
                    self.give_up_on(names_of(size_row(node, sizes[name])[0]))

    def choice(self, layer: Layer, classes: list[Written]) -> str | None:
        """`FusedMBConv if s < 3 else MBConv`, where an expression names the block and both classes take the same."""
        resolved = self.resolve(layer.type.expr) if layer.type is not None else None
        if not isinstance(resolved, Conditional):
            return None
        by_block: dict[Any, Written] = {made.block.name: made for made in classes}
        yes, no = (by_block.get(getattr(branch, "value", None)) for branch in (resolved.body, resolved.orelse))
        if yes is None or no is None or yes is no or (yes.arguments, yes.lifted) != (no.arguments, no.lifted):
            return None
        return f"{yes.name} if {self.write(resolved.test)} else {no.name}"

    def hoisted(self, name: str, text: str) -> str:
        """A conditional argument as a local variable of the loop's body, where the name is free; so is a size that the
        copy hands on too, where it takes a call to compute.
        """
        taken = {*self.block.params, *self.block.let, *self.lifted, *(n for loop in self.loops for n in loop.names)}
        taken |= {variable for loop in self.loops for variable in loop.variables.values()}
        if not self.in_loop or name in taken or not (" if " in text or ("(" in text and self.handed_on(text))):
            return text
        self.say_before(f"{name} = {text}")
        self.locals[name] = text
        return name

    def handed_on(self, text: str) -> bool:
        """Whether the innermost loop sets a size to this after each copy."""
        records = [r for name, loop in self.carries.items() if loop is self.loops[-1] for r in self.records[name]]
        updates = {carry.update for record in records for carry in record.carried.values()}
        for update in updates:
            if update is None or isinstance(update, Opaque) or not free_names(update) <= self.known_names():
                continue
            if to_python(self.resolve(update), self.local) == text:
                return True
        return False

    def known_names(self) -> set[str]:
        """The names whose meaning no loop changes: parameters, values derived from them, names of open loops."""
        return {*self.block.params, *self.block.let, *(name for loop in self.loops for name in loop.names)}

    def block_argument(self, name: str, made: Any, layer: Layer, rows: Rows, origin: str) -> str | None:
        if name in made.lifted:
            return self.size([size_row(node, made.lifted[name]) for node in rows], rows, name)
        if name in layer.arguments:
            value = layer.arguments[name]
            if (id(made.block), name) in self.classes.factories:
                return self.factory_text(value, rows, name)
            resolved = self.resolve(value.expr)
            if is_constant(resolved):
                return literal(constant(resolved))
            return self.text(value.expr)
        if made.group:
            return self.text(Name(origin or name), name)
        preset = rows[0].op.arguments.get(name) if isinstance(rows[0].op, Apply) else None
        return literal(preset.value) if preset is not None else None

    def factory_text(self, value: Value, rows: Rows, name: str) -> str:
        """A layer given as a value: its class, or a function that makes it."""
        resolved = self.resolve(value.expr) if value.layer is None else None
        if isinstance(resolved, Name):
            loop = next((one for one in self.loops if resolved.id in one.names), None)
            if loop is None:
                self.classes.factories.add((id(self.block), resolved.id))
            elif self.layer_names(loop, resolved.id) is None:
                raise Retry(unroll=frozenset({id(loop.layer)}))
            else:
                loop.factories.add(resolved.id)
            return self.write(resolved)
        if isinstance(resolved, Conditional):
            branches = [resolved.body, resolved.orelse]
            if all(isinstance(branch, Literal) for branch in branches):
                yes, no = (self.classes.factory(constant(branch)) for branch in branches)
                return f"{yes} if {self.write(resolved.test)} else {no}"
        if resolved is not None and not is_constant(resolved):
            self.give_up_on(free_names(value.expr), must=True)
        given = {self.classes.factory(node.op.instance.scope[name]) for node in rows if isinstance(node.op, Apply)}
        assert len(given) == 1
        return given.pop()

    def layer_names(self, loop: OpenLoop, name: str) -> list[str | None] | None:
        """The list of layers that a loop's name runs over, as the spec or a parameter writes it; None where it is
        anything else.
        """
        assert loop.layer.loop is not None
        expr = loop.layer.loop.values[loop.names.index(name)].expr
        items: list[Any]
        if isinstance(expr, ListExpr) and all(isinstance(item, Literal) for item in expr.items):
            items = [item.value for item in expr.items if isinstance(item, Literal)]
        elif isinstance(expr, Name) and isinstance(self.plan.instances[0].scope.get(expr.id), list):
            if expr.id in self.block.params and expr.id not in self.plan.frozen:
                raise Retry(freeze=frozenset({expr.id}))  # a caller of the class would have to list functions
            items = self.plan.frozen.get(expr.id, [0])
        else:
            return None
        return items if all(item is None or isinstance(item, str) for item in items) else None
