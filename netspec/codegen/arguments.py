"""A catalog layer as a call: its arguments as an expert writes them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from netspec.catalog.entry import Argument as CatalogArgument
from netspec.catalog.entry import Entry, GivenClass, GivenModule
from netspec.catalog.given import function, leading
from netspec.catalog.models import FILES
from netspec.codegen.literals import for_argument, sequence
from netspec.codegen.scope import Row, is_constant
from netspec.codegen.source_map import marked
from netspec.expressions import Expr, ListExpr, Literal, Name, free_names
from netspec.origins import origin_of, untraced
from netspec.program import Call, Factory, Node
from netspec.shapes import TensorType
from netspec.spec import Layer, Value

if TYPE_CHECKING:
    pass

from netspec.codegen.writer import Rows, Writer


def positional(entry: Entry, arguments: dict[str, str]) -> list[str]:
    """Arguments as an expert writes them: the leading sizes by position, at most two, the rest by name."""
    texts: list[str] = []
    by_position = entry.category != "model"  # its builder takes all by name
    for i, declared in enumerate(entry.arguments):
        text = arguments.get(declared.name)
        alone = i == 0 and len(arguments) == 1 and not declared.takes_function
        leading = declared.required or declared.inferred or alone
        if text is None:
            by_position = False
            continue
        by_position = by_position and leading and i < 2 and len(texts) == i
        texts.append(text if by_position else f"{declared.name}={text}")
        by_position = by_position and not declared.takes_module
    return texts


class LayerCalls(Writer):
    """Writes calls of catalog layers."""

    def call(self, layer: Layer, rows: Rows) -> str:
        """A catalog module: `nn.Conv2d(3, 64, kernel_size=7)`."""
        op = rows[0].op
        assert isinstance(op, Call)
        entry = op.entry
        if layer.type is not None and not layer.type.literal:
            resolved = self.resolve(layer.type.expr)
            if not is_constant(resolved) or isinstance(self.frozen_factory(layer), Factory):
                return self.made_by_parameter(layer, rows, resolved)
        arguments = self.arguments(entry, layer, rows)
        if op.whole is not None:
            self.weights_of(layer, rows, arguments)
        return f"{self.classes.target(entry.target)}({', '.join(positional(entry, arguments))})"

    def weights_of(self, layer: Layer, rows: Rows, arguments: dict[str, str]) -> None:
        """The `weights` of a library's model as its builder takes them: a name, or nothing where a file follows."""
        if "weights" not in arguments:
            return
        if self.weights_file(layer, rows) is not None:
            del arguments["weights"]
        elif arguments["weights"] == '"default"':
            arguments["weights"] = '"DEFAULT"'

    def weights_file(self, layer: Layer, rows: Rows) -> str | None:
        """The file that holds the weights of a library's model, where `weights` names one."""
        calls = [node.op for node in rows if isinstance(node.op, Call) and "weights" in node.op.arguments]
        given = {str(untraced(call.arguments["weights"].value)) for call in calls}
        files = {text for text in given if text.endswith(FILES)}
        value = layer.arguments.get("weights")
        if value is not None and (files or "default" in given) and not is_constant(self.resolve(value.expr)):
            # Whether it is a name, a file or nothing decides what is written.
            self.give_up_on(free_names(value.expr), must=True)
        return next(iter(files), None)

    def frozen_factory(self, layer: Layer) -> Any:
        expr = layer.type.expr if layer.type else None
        return self.plan.frozen.get(expr.id) if isinstance(expr, Name) else None

    def made_by_parameter(self, layer: Layer, rows: Rows, resolved: Expr) -> str:
        """`type: $act`: the parameter is a class or a function that makes a module."""
        names = free_names(layer.type.expr) if layer.type else frozenset()
        entries = {id(node.op.entry) for node in rows if isinstance(node.op, Call)}
        inferred = any(a.inferred for node in rows if isinstance(node.op, Call) for a in node.op.arguments.values())
        factory = self.frozen_factory(layer)
        if isinstance(factory, Factory):
            assert isinstance(factory.target, Entry)
            op = rows[0].op
            assert isinstance(op, Call)
            written = self.arguments(op.entry, layer, rows)
            if op.whole is not None:
                self.weights_of(layer, rows, written)
            return f"{self.classes.target(op.entry.target)}({', '.join(positional(op.entry, written))})"
        if inferred or not isinstance(resolved, Name) or layer.arguments or resolved.id not in self.block.params:
            self.give_up_on(names, must=len(entries) > 1)
        assert isinstance(resolved, Name)
        self.classes.factories.add((id(self.block), resolved.id))
        return f"{self.text(resolved)}()"

    def arguments(self, entry: Entry, layer: Layer, rows: Rows) -> dict[str, str]:
        """The texts of the arguments that are stated or inferred, in torch's order."""
        texts: dict[str, str] = {}
        made_here: list[str] = []
        for declared in entry.arguments:
            if declared.call:
                continue  # `forward` writes it
            stated = [node.op.arguments.get(declared.name) for node in rows if isinstance(node.op, Call)]
            if all(argument is None for argument in stated):
                continue
            values = [argument.value for argument in stated if argument is not None]
            if any(isinstance(value, GivenModule | GivenClass) for value in values):
                at = len(self.lines)
                texts[declared.name] = self.given(declared, layer, values)
                if isinstance(values[0], GivenModule):
                    self.made_before(texts, made_here, at)
                    made_here.append(declared.name)
                continue
            if any(argument is not None and argument.measured for argument in stated):
                texts[declared.name] = self.inferred(declared, rows)
            elif declared.name in layer.arguments:
                texts[declared.name] = self.stated(declared, layer.arguments[declared.name])
            elif all(argument is not None and argument.inferred for argument in stated):
                texts[declared.name] = self.inferred(declared, rows)
            else:
                first = stated[0]
                assert first is not None
                texts[declared.name] = self.plain(declared, first.value)
        return texts

    def stated(self, declared: CatalogArgument, value: Value) -> str:
        resolved = self.resolve(value.expr)
        if declared.takes_function:
            return self.function_text(declared, value, resolved)
        if is_constant(resolved):
            plain = [i.value for i in resolved.items] if isinstance(resolved, ListExpr) and all(  # type: ignore[union-attr]
                isinstance(i, Literal) for i in resolved.items
            ) else getattr(resolved, "value", None)  # fmt: skip
            return self.literal(declared, plain)
        if isinstance(resolved, ListExpr):
            return sequence([self.write(item) for item in resolved.items])
        return self.text(value.expr)

    def function_text(self, declared: CatalogArgument, value: Value, resolved: Expr) -> str:
        """A function by its name, a string where torch knows it by that."""
        if not is_constant(resolved):
            self.give_up_on(free_names(value.expr), must=True)
        return self.plain(declared, getattr(resolved, "value", None))

    def plain(self, declared: CatalogArgument, value: Any) -> str:
        """A value that is known, as torch takes it."""
        if declared.takes_function and isinstance(value, str) and value not in declared.choices:
            entry = function(value)
            assert entry is not None
            return self.classes.target(entry.target)
        return self.literal(declared, value)

    def literal(self, declared: CatalogArgument, value: Any) -> str:
        if declared.kind.startswith("tensor") and value is not None:
            self.classes.imports.add("import torch")
        return for_argument(declared, value)

    def inferred(self, declared: CatalogArgument, rows: Rows) -> str:
        values = []
        for node in rows:
            assert isinstance(node.op, Call)
            values.append(node.op.arguments[declared.name])
        if all(isinstance(a.value, list | tuple) for a in values):
            return sequence(
                [
                    self.number(
                        [
                            (origin_of(a.value[i]), n.env, untraced(a.value[i]))
                            for a, n in zip(values, rows, strict=True)
                        ],
                        "",
                    )
                    for i in range(len(values[0].value))
                ]
            )
        product = self.product(rows) if declared.name == "in_features" else None
        numbers = [(a.origin, n.env, untraced(a.value)) for a, n in zip(values, rows, strict=True)]
        return product or self.size(numbers, rows, declared.name)

    # Modules, classes and functions

    def given(self, declared: CatalogArgument, layer: Layer, values: list[Any]) -> str:
        """A module as it is made, or a class of layers."""
        kinds = {type(value) for value in values}
        if len(kinds) > 1:  # null for some
            self.give_up_on(self.deciding_argument(declared, layer), must=True)
        if kinds == {GivenClass}:
            return self.class_text(declared, layer, values)
        nodes = [value.node for value in values]
        inner, found = nodes[0].layer, list[str]()
        self.module(inner, nodes, found.append, None)
        if not inner.initialize:
            return found[0]
        name = self.fresh_variable(declared.name)
        self.say(f"{name} = {found[0]}")
        self.after(inner, nodes, name)
        return name

    def made_before(self, texts: dict[str, str], names: list[str], at: int) -> None:
        """Where the statements from `at` make a module, make those before it by statements too: the first draws its
        weights first.
        """
        if len(self.lines) == at:
            return
        for name in names:
            if texts[name].isidentifier():
                continue
            variable = self.fresh_variable(name)
            self.lines.insert(at, (self.level, marked(f"{variable} = {texts[name]}", self.mark)))
            texts[name], at = variable, at + 1

    def deciding_argument(self, declared: CatalogArgument, layer: Layer) -> frozenset[str]:
        """The names that decide what an argument is."""
        value = layer.arguments.get(declared.name)
        if value is None:
            return layer.type.names if layer.type is not None else frozenset()
        return value.names if value.layer is None or value.layer.type is None else value.layer.type.names

    def class_text(self, declared: CatalogArgument, layer: Layer, values: list[GivenClass]) -> str:
        """`nn.BatchNorm2d`, or `partial(nn.GroupNorm, 32)` where something is said of it beforehand."""
        first, *others = values
        written = layer.arguments.get(declared.name)
        inner = written.layer if written is not None else None
        names = self.deciding_argument(declared, layer)
        if names and any(one.entry is not first.entry for one in others):
            self.give_up_on(names, must=True)
        if inner is None and not all(one.arguments == first.arguments for one in others):
            self.give_up_on(names, must=True)
        target = self.classes.target(first.entry.target)
        texts: dict[str, str] = {}
        for argument in first.entry.arguments:
            if inner is not None and argument.name in inner.arguments:
                texts[argument.name] = self.stated(argument, inner.arguments[argument.name])
            elif argument.name in first.arguments:
                texts[argument.name] = self.plain(argument, first.arguments[argument.name])
        if not texts:
            return target
        before = leading(first)
        given = [text if name in before else f"{name}={text}" for name, text in texts.items()]
        self.imports.add("partial")
        return f"partial({', '.join([target, *given])})"

    @abstractmethod
    def fresh_variable(self, base: str) -> str:
        """A variable that nothing else is called by."""

    @abstractmethod
    def after(self, layer: Layer, rows: Rows, target: str) -> None:
        """A layer's own `initialize`."""

    @abstractmethod
    def module(self, layer: Layer, rows: Rows, put: Callable[[str], None], target: str | None) -> None:
        """One module: `put` receives its expression."""

    @abstractmethod
    def size(self, numbers: list[Row], nodes: Rows, hint: str) -> str:
        """The text for a size that was inferred for these nodes."""

    def product(self, rows: Rows) -> str | None:
        """`256 * 6 * 6` for a flattened input, where all sizes are plain numbers: it says where the number comes
        from.
        """
        if len(rows) != 1:
            return None
        node: Node | None = rows[0]
        while node is not None:
            refs = list(node.inputs)
            while refs and refs[0].node is None and id(node) in self.owners:
                node = self.owners[id(node)]
                refs = list(node.inputs)
            if not refs or refs[0].node is None:
                return None
            node = refs[0].node
            op = node.op
            if isinstance(op, Call) and op.entry.role == "dropout":
                continue
            if not isinstance(op, Call) or op.entry.name not in ("flatten", "Flatten"):
                return None
            given = next(iter(node.inputs)).type
            if not isinstance(given, TensorType) or not isinstance(node.type, TensorType):
                return None
            sizes = given.shape[len(node.type.shape) - 1 :]
            if len(sizes) < 2 or not all(type(size) is int for size in sizes) or len(node.type.shape) != 2:
                return None
            if all(size == 1 for size in sizes[1:]):
                return None
            return " * ".join(str(size) for size in sizes)
        return None
