"""`__init__`: one statement a layer, in the file's order, repeats as loops.

Rows run through this file: the nodes that one written layer has become in all uses of its block. A value is written
from the expression in the spec where the person wrote one, and from its rows where it was inferred.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from netspec.catalog.entry import Argument as CatalogArgument
from netspec.catalog.entry import Entry
from netspec.codegen.literals import as_identifier, for_argument, literal, sequence, string
from netspec.codegen.scope import OpenLoop, Plan, Retry, Scope, holds, is_constant
from netspec.expressions import Expr, ListExpr, Literal, Name, Subscript, free_names
from netspec.origins import Opaque, names_of, origin_of, untraced
from netspec.program import Apply, Call, Factory, Instance, Loop, Node, Ref, Skip
from netspec.shapes import TensorType
from netspec.spec import Body, Layer, Value

if TYPE_CHECKING:
    from netspec.codegen.classes import Classes

Rows = list[Node]
Line = tuple[int, str]
"""Indentation level and statement."""


class Constructor(Scope):
    """Writes the statements of one class's `__init__`."""

    def __init__(self, plan: Plan, classes: Classes) -> None:
        super().__init__(plan)
        self.classes = classes
        self.lines: list[Line] = []
        self.level = 0
        self.imports: set[str] = set()
        self.variables: set[str] = set()
        self.records: dict[str, list[Loop]] = {}
        self.in_loop = False
        """Whether statements of a loop's body are being written."""
        self.owners: dict[int, Node] = {}
        """For a node that begins a chain written in place: the chain's own node."""

    def say(self, statement: str) -> None:
        self.lines.append((self.level, statement))

    # Bodies

    def mapping(self, body: Body, instances: list[Instance]) -> None:
        """Named children as attributes of `self`."""
        self.named(body, [node for instance in instances for node in instance.nodes], instances, "self")

    def named(self, body: Body, rows: Rows, instances: list[Instance], owner: str) -> None:
        for layer in body.layers:
            mine = rows_of(layer, rows)
            if layer.loop is not None and (
                layer.inline or (layer.name and free_names(layer.name) & set(layer.loop.names))
            ):
                for copy_rows, _ in self.copies(layer, rows, instances):
                    if layer.inline and layer.body is not None:
                        self.named(layer.body, copy_rows, instances, owner)
                    else:
                        self.child(layer, rows_of(layer, copy_rows), instances, owner)
            elif layer.inline and layer.body is not None:
                self.named(layer.body, rows, instances, owner)
            else:
                self.child(layer, mine, instances, owner)

    def copies(self, layer: Layer, rows: Rows, instances: list[Instance]) -> Iterator[tuple[Rows, int]]:
        """The copies of a loop that is written out, each with its names fixed while the caller works on it."""
        assert layer.loop is not None
        records = self.loop_records(layer, instances)
        counts = {len(record.values) for record in records} or {copies_in(layer, rows)}
        names = layer.loop.names
        depends = frozenset().union(*(free_names(value.expr) for value in layer.loop.values))
        self.give_up_on(frozenset(n for n in self.roots(depends) if self.is_count(layer, n)), must=len(counts) > 1)
        kept = dict(self.values)
        carried = {name: self.handed(record.carried[name].before) for record in records[:1] for name in record.carried}
        for k in range(counts.pop()):
            copy_rows = [node for node in rows if in_copy(node, layer, k)]
            for name, value in zip(names, layer.loop.values, strict=False):
                self.values[name] = step_value(value, k, name, rows, layer)
            for name, expr in carried.items():
                sizes = {untraced(node.env[name]) for node in copy_rows if name in node.env}
                self.values[name] = expr if expr is not None else Literal(sizes.pop() if len(sizes) == 1 else None)
            yield copy_rows, k
            for record in records[:1]:
                updates = {name: carry.update for name, carry in record.carried.items() if carry.update is not None}
                carried.update({name: self.handed(update) for name, update in updates.items()})
            self.values = dict(kept)

    def handed(self, origin: Any) -> Expr | None:
        """A carried size in the constructor's names; None where only its number is known."""
        if isinstance(origin, Opaque):
            self.give_up_on(origin.names)
            return None
        return self.resolve(origin)

    def is_count(self, layer: Layer, name: str) -> bool:
        """Whether a name decides how many copies there are, and not only what is in them."""
        assert layer.loop is not None
        if any(not free_names(value.expr) for value in layer.loop.values):
            return False
        return any(name in self.roots(free_names(value.expr)) for value in layer.loop.values)

    def child(self, layer: Layer, rows: Rows, instances: list[Instance], owner: str) -> None:
        """A named child: `self.conv1 = …`, or `add_module` where the name is no identifier."""
        rows = [node for node in rows if node.key is not None]
        if not rows:
            return
        name = rows[0].name
        condition = self.condition(layer, rows)
        made = [node for node in rows if not isinstance(node.op, Skip)]
        if condition == "False" or not made:
            self.attach(owner, name, "nn.Identity()")
            return
        statement: Callable[[str], None] = lambda text: self.attach(owner, name, text)  # noqa: E731
        if condition == "True":
            target = f"{owner}.{name}" if name.isidentifier() else None
            self.module(layer, made, statement, target)
            return
        before = len(self.lines)
        self.module(
            layer, made, lambda text: self.attach(owner, name, f"{text} if {condition} else nn.Identity()"), None
        )
        if len(self.lines) > before + 1:
            written = self.lines[before:]
            del self.lines[before:]
            self.attach(owner, name, "nn.Identity()", annotation="nn.Module")
            self.say(f"if {condition}:")
            self.lines += [(level + 1, text) for level, text in written[:-1]]
            last_level, last = written[-1]
            self.lines.append((last_level + 1, last.replace(f" if {condition} else nn.Identity()", "")))

    def attach(self, owner: str, name: str, text: str, annotation: str = "") -> None:
        if name.isidentifier():
            self.say(f"{owner}.{name}{': ' + annotation if annotation else ''} = {text}")
        else:
            self.say(f"{owner}.add_module({string(name)}, {text})")

    def condition(self, layer: Layer, rows: Rows) -> str:
        """Python for `if`: "True" or "False" where it is decided for this class."""
        if layer.condition is None:
            return "True"
        resolved = self.resolve(layer.condition.expr)
        if is_constant(resolved):
            return str(bool(resolved.value)) if isinstance(resolved, Literal) else "True"
        if all(isinstance(node.op, Skip) for node in rows):
            self.give_up_on(free_names(layer.condition.expr))
            return "False"
        return self.text(layer.condition.expr)

    # Modules

    def module(self, layer: Layer, rows: Rows, put: Callable[[str], None], target: str | None) -> None:
        """One module: `put` receives its expression. A chain that needs statements builds itself on `target`."""
        op = rows[0].op
        if isinstance(op, Call):
            put(self.call(layer, rows))
            self.after(layer, rows, target)
        elif isinstance(op, Apply) and op.instance.group and all(n.op.instance.sequential for n in rows):  # type: ignore[union-attr]
            self.chain(layer, rows, put, target)
        else:
            put(self.use_block(layer, rows))

    def after(self, layer: Layer, rows: Rows, target: str | None) -> None:
        """A layer's own `initialize`."""
        from netspec.codegen.initialize import own_rules

        if layer.initialize:
            assert target is not None
            for level, text in own_rules(self, layer, rows, target):
                self.lines.append((self.level + level, text))

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
        return f"{self.classes.target(entry.target)}({', '.join(positional(entry, arguments))})"

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
            written = {name: literal(a.value) for name, a in op.arguments.items()}
            return f"{self.classes.target(op.entry.target)}({', '.join(positional(op.entry, written))})"
        if inferred or not isinstance(resolved, Name) or layer.arguments or resolved.id not in self.block.params:
            self.give_up_on(names, must=len(entries) > 1)
        assert isinstance(resolved, Name)
        self.classes.factories.add((id(self.block), resolved.id))
        return f"{self.text(resolved)}()"

    def arguments(self, entry: Entry, layer: Layer, rows: Rows) -> dict[str, str]:
        """The texts of the arguments that are stated or inferred, in torch's order."""
        texts: dict[str, str] = {}
        for declared in entry.arguments:
            stated = [node.op.arguments.get(declared.name) for node in rows if isinstance(node.op, Call)]
            if all(argument is None for argument in stated):
                continue
            if declared.name in layer.arguments:
                texts[declared.name] = self.stated(declared, layer.arguments[declared.name])
            elif all(argument is not None and argument.inferred for argument in stated):
                texts[declared.name] = self.inferred(declared, rows)
            else:
                first = stated[0]
                assert first is not None
                texts[declared.name] = for_argument(declared, first.value)
        return texts

    def stated(self, declared: CatalogArgument, value: Value) -> str:
        resolved = self.resolve(value.expr)
        if is_constant(resolved):
            plain = [i.value for i in resolved.items] if isinstance(resolved, ListExpr) and all(  # type: ignore[union-attr]
                isinstance(i, Literal) for i in resolved.items
            ) else getattr(resolved, "value", None)  # fmt: skip
            return for_argument(declared, plain)
        if isinstance(resolved, ListExpr):
            return sequence([self.write(item) for item in resolved.items])
        return self.text(value.expr)

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
        return product or self.number(
            [(a.origin, n.env, untraced(a.value)) for a, n in zip(values, rows, strict=True)], declared.name
        )

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

    # Blocks

    def use_block(self, layer: Layer, rows: Rows) -> str:
        """A block's class, called: `Bottleneck(in_channels, 64, stride=2)`."""
        written = {id(w): w for w in (self.classes.of(node.op.instance) for node in rows if isinstance(node.op, Apply))}
        if len(written) > 1:
            depends = frozenset().union(*(free_names(v.expr) for v in layer.arguments.values()), *(
                names_of(origin_of(size))
                for node in rows for ref in node.inputs if isinstance(ref.type, TensorType)
                for size in ref.type.shape if isinstance(size, int)
            ))  # fmt: skip
            self.give_up_on(depends, must=True)
        (made,) = written.values()
        if layer.type is not None and not layer.type.literal:
            resolved = self.resolve(layer.type.expr)
            if not is_constant(resolved):
                self.give_up_on(free_names(layer.type.expr))
        first: list[str] = []
        named: list[str] = []
        for argument in made.arguments:
            text = self.block_argument(argument.name, made, layer, rows)
            if text is None or text == argument.default:
                continue
            text = self.hoisted(argument.name, text)
            in_order = not named and len(first) == made.arguments.index(argument)
            if in_order and (text == argument.name or (argument.default is None and len(first) < 2)):
                first.append(text)
            else:
                named.append(f"{argument.name}={text}")
        return f"{made.name}({', '.join([*first, *named])})"

    def hoisted(self, name: str, text: str) -> str:
        """A conditional argument as a local variable of the loop's body, where the name is free."""
        taken = {*self.block.params, *self.block.let, *self.lifted, *(n for loop in self.loops for n in loop.names)}
        taken |= {variable for loop in self.loops for variable in loop.variables.values()}
        if " if " not in text or not self.in_loop or name in taken:
            return text
        self.say(f"{name} = {text}")
        return name

    def block_argument(self, name: str, made: Any, layer: Layer, rows: Rows) -> str | None:
        if name in made.lifted:
            _, port, axis = made.lifted[name]
            return self.number([size_row(node, port, axis) for node in rows], name)
        if name in layer.arguments:
            value = layer.arguments[name]
            if (id(made.block), name) in self.classes.factories:
                return self.factory_text(value, rows, name)
            resolved = self.resolve(value.expr)
            if is_constant(resolved):
                return literal(constant(resolved))
            return self.text(value.expr)
        if made.group:
            return self.text(Name(name))
        preset = rows[0].op.arguments.get(name) if isinstance(rows[0].op, Apply) else None
        return literal(preset.value) if preset is not None else None

    def factory_text(self, value: Value, rows: Rows, name: str) -> str:
        """A layer given as a value: its class, or a partial of it."""
        resolved = self.resolve(value.expr) if value.layer is None else None
        if isinstance(resolved, Name):
            loop = next((one for one in self.loops if resolved.id in one.names), None)
            if loop is None:
                self.classes.factories.add((id(self.block), resolved.id))
            elif not self.lists_layers(loop, resolved.id):
                raise Retry(unroll=frozenset({id(loop.layer)}))
            else:
                loop.factories.add(resolved.id)
            return self.write(resolved)
        if resolved is not None and not is_constant(resolved):
            self.give_up_on(free_names(value.expr), must=True)
        given = {self.classes.factory(node.op.instance.scope[name]) for node in rows if isinstance(node.op, Apply)}
        assert len(given) == 1
        return given.pop()

    def lists_layers(self, loop: OpenLoop, name: str) -> bool:
        """Whether a loop's name runs over a written list of layer names."""
        assert loop.layer.loop is not None
        value = loop.layer.loop.values[loop.names.index(name)]
        return isinstance(value.expr, ListExpr) and all(
            isinstance(item, Literal) and (item.value is None or isinstance(item.value, str))
            for item in value.expr.items
        )

    # Chains

    def chain(self, layer: Layer, rows: Rows, put: Callable[[str], None], target: str | None) -> None:
        """A group that is an `nn.Sequential`: one expression where it can be, else built step by step."""
        assert layer.body is not None
        inner = [node.op.instance for node in rows if isinstance(node.op, Apply)]
        nodes = [node for instance in inner for node in instance.nodes]
        self.owners.update(
            {id(one): node for node in rows if isinstance(node.op, Apply) for one in node.op.instance.nodes}
        )
        whole = self.chain_expression(layer.body, nodes, inner)
        if whole is not None:
            put(whole)
            return
        name = target or self.variable(layer)
        if target is None:
            self.say(f"{name} = nn.Sequential()")
        else:
            put("nn.Sequential()")
        self.steps(layer.body, nodes, inner, name)
        if target is None:
            put(name)

    def variable(self, layer: Layer) -> str:
        base = "stage" if layer.name is None else as_identifier(str(getattr(layer.name, "value", "stage")))
        name, number = base, 2
        while name in self.variables or name in self.block.params or name in self.block.let:
            name, number = f"{base}{number}", number + 1
        self.variables.add(name)
        return name

    def chain_expression(self, body: Body, nodes: Rows, instances: list[Instance]) -> str | None:
        """`nn.Sequential(…)` in one expression, or None where it takes statements."""
        if len(body.layers) == 1 and body.kind == "list" and body.layers[0].loop is not None:
            return self.repeated(body.layers[0], nodes, instances)
        texts = self.plain_items(body, nodes, instances)
        if texts is None:
            return None
        if body.kind == "list":
            return f"nn.Sequential({', '.join(text for _, text in texts)})"
        self.imports.add("OrderedDict")
        return f"nn.Sequential(OrderedDict([{', '.join(f'({string(name)}, {text})' for name, text in texts)}]))"

    def plain_items(self, body: Body, nodes: Rows, instances: list[Instance]) -> list[tuple[str, str]] | None:
        """The children's expressions, or None where there are loops, conditions or children that take statements."""
        texts: list[tuple[str, str]] = []
        for layer in body.layers:
            rows = rows_of(layer, nodes)
            if layer.loop is not None or layer.inline or layer.initialize:
                return None
            nullable = layer.type is not None and not layer.type.literal
            condition = self.condition(layer, rows) if rows or layer.condition is not None else "True"
            if condition == "False" or (not rows and body.kind == "list"):
                if not rows and condition not in ("True", "False"):
                    return None
                if nullable and not self.is_frozen_null(layer):
                    return None
                continue
            if condition != "True" or (nullable and self.may_be_null(layer)):
                return None
            found: list[str] = []
            before = len(self.lines)
            self.module(layer, rows, found.append, None)
            if len(self.lines) != before:
                del self.lines[before:]
                return None
            texts.append((rows[0].name, found[0]))
        return texts

    def is_frozen_null(self, layer: Layer) -> bool:
        assert layer.type is not None
        resolved = self.resolve(layer.type.expr)
        return isinstance(resolved, Literal) and resolved.value is None

    def may_be_null(self, layer: Layer) -> bool:
        """Whether `type: $act` is null in some use, or could be by its default."""
        assert layer.type is not None
        expr = self.resolve(layer.type.expr)
        if not isinstance(expr, Name):
            return False
        return any(instance.scope.get(expr.id) is None for instance in self.plan.instances)

    def repeated(self, layer: Layer, nodes: Rows, instances: list[Instance]) -> str | None:
        """`nn.Sequential(*(Block(…) for i in range(depth)))`, where the copies hand on no size and depend on no
        condition.
        """
        if layer.condition is not None or layer.inline or id(layer) in self.plan.unrolled or not nodes:
            return None
        if layer.body is not None or layer.initialize:
            return None
        state = len(self.lines)
        loop = self.open(layer, instances)
        outside, self.in_loop = self.in_loop, False
        found: list[str] = []
        self.module(layer, rows_of(layer, nodes), found.append, None)
        self.in_loop = outside
        self.loops.pop()
        if loop.variables or len(self.lines) != state:
            del self.lines[state:]
            return None
        return f"nn.Sequential(*({found[0]} for {self.header(loop)}))"

    def steps(self, body: Body, nodes: Rows, instances: list[Instance], name: str, kind: str = "") -> None:
        """`name.append(…)` for each entry, `for` for loops, `if` for conditions."""
        batch: list[str] = []
        kind = kind or body.kind

        def flush() -> None:
            if len(batch) == 1:
                self.say(f"{name}.append({batch[0]})")
            elif batch:
                self.say(f"{name}.extend([{', '.join(batch)}])")
            batch.clear()

        for layer in body.layers:
            rows = rows_of(layer, nodes)
            if layer.loop is not None:
                flush()
                self.loop(layer, nodes, instances, name, kind)
            elif layer.inline and layer.body is not None:
                flush()
                self.guarded(layer, rows, lambda layer=layer: self.steps(layer.body, nodes, instances, name))  # type: ignore[misc]
            elif kind == "list":
                self.entry(layer, rows, name, batch, flush)
            else:
                flush()
                self.child(layer, rows, instances, name)
        flush()

    def entry(self, layer: Layer, rows: Rows, name: str, batch: list[str], flush: Callable[[], None]) -> None:
        """One entry of a list."""
        guard = self.guard(layer, rows)
        if guard == "False" or (not rows and guard == "True"):
            return
        if not rows:
            assert layer.condition is not None
            self.give_up_on(free_names(layer.condition.expr))
            return
        if guard != "True" or layer.body is not None or layer.initialize:
            flush()
        if guard == "True":
            before = len(self.lines)
            found: list[str] = []
            self.module(layer, rows, found.append, f"{name}[-1]" if layer.initialize else None)
            if len(self.lines) == before:
                batch.append(found[0])
                return
            written = self.lines[before:]
            del self.lines[before:]
            if layer.initialize:
                self.say(f"{name}.append({found[0]})")
                self.lines += written
            else:
                self.lines += written
                self.say(f"{name}.append({found[0]})")
            return
        self.say(f"if {guard}:")
        self.level += 1
        self.module(layer, rows, lambda text: self.say(f"{name}.append({text})"), None)
        self.level -= 1

    def guard(self, layer: Layer, rows: Rows) -> str:
        condition = self.condition(layer, rows) if layer.condition is not None else "True"
        if condition == "True" and layer.type is not None and not layer.type.literal:
            if self.is_frozen_null(layer):
                return "False"
            if self.may_be_null(layer):
                return f"{self.text(layer.type.expr)} is not None"
        return condition

    def guarded(self, layer: Layer, rows: Rows, write: Callable[[], None]) -> None:
        guard = self.condition(layer, rows) if layer.condition is not None else "True"
        if guard == "False":
            return
        if guard == "True":
            write()
            return
        self.say(f"if {guard}:")
        self.level += 1
        write()
        self.level -= 1

    # Loops

    def loop_records(self, layer: Layer, instances: list[Instance]) -> list[Loop]:
        """What this loop did in the instances at hand, in the copies of outer loops that are being written."""
        found = []
        for instance in instances:
            for record in instance.loops:
                if record.layer is layer and all(
                    holds(expr, record.env, record.env[name])
                    for name, expr in self.values.items()
                    if name in record.env and not free_names(expr) - set(record.env)
                ):
                    found.append(record)
        return found

    def open(self, layer: Layer, instances: list[Instance]) -> OpenLoop:
        assert layer.loop is not None
        loop = OpenLoop(layer, layer.loop.names)
        records = self.loop_records(layer, instances)
        for name in dict.fromkeys(name for record in records for name in record.carried):
            self.carries[name] = loop
            self.records[name] = records
        self.loops.append(loop)
        return loop

    def carried(self, name: str, hint: str) -> Expr:
        """A size that a loop hands on: what it is before the loop where the copies leave it alone, else a local
        variable.
        """
        loop = self.carries[name]
        records = [r for r in self.records[name] if name in r.carried]
        updates = dict.fromkeys(record.carried[name].update for record in records)
        if list(updates) == [None]:
            rows = [(r.carried[name].before, r.env, r.carried[name].value) for r in records]
            chosen = self.choose(rows)
            if chosen is None:
                self.give_up_on(frozenset().union(*(names_of(o) for o, _, _ in rows)), must=True)
            assert chosen is not None
            return self.resolve(chosen, hint)
        steady = self.steady(records, name, hint)
        if steady is not None:
            return steady
        if (
            loop not in self.loops
            or any(update is None or isinstance(update, Opaque) for update in updates)
            or len(updates) > 1
        ):
            raise Retry(unroll=frozenset({id(loop.layer)}))
        loop.variables[name] = self.size_variable(hint or "size", name)
        return Name(loop.variables[name])

    def steady(self, records: list[Loop], name: str, hint: str) -> Expr | None:
        """The size where each copy sets it to what it was before the loop."""
        befores = dict.fromkeys(record.carried[name].before for record in records)
        updates = dict.fromkeys(record.carried[name].update for record in records)
        if len(befores) > 1 or len(updates) > 1:
            return None
        (before,), (update,) = befores, updates
        if update is None or isinstance(before, Opaque) or isinstance(update, Opaque) or name in free_names(update):
            return None
        first, after = self.resolve(before, hint), self.resolve(update, hint)
        return first if first == after else None

    def size_variable(self, hint: str, name: str) -> str:
        mine = {v for loop in self.loops for v in loop.variables.values()}
        outer = self.loops[:-1]
        for loop in reversed(outer):
            for carry, variable in loop.variables.items():
                if carry.rpartition(" ")[2] == name.rpartition(" ")[2]:
                    return variable
        taken = {*self.block.params, *self.block.let, *self.lifted, *mine}
        base, number = hint, 2
        while hint in taken:
            hint, number = f"{base}{number}", number + 1
        return hint

    def loop(self, layer: Layer, nodes: Rows, instances: list[Instance], name: str, kind: str) -> None:
        if id(layer) in self.plan.unrolled or kind == "mapping":
            for copy_rows, _ in self.copies(layer, nodes, instances):
                if kind == "list":
                    self.copy(layer, copy_rows, instances, name)
                elif layer.inline and layer.body is not None:
                    self.steps(layer.body, copy_rows, instances, name, kind)
                else:
                    self.child(layer, rows_of(layer, copy_rows), instances, name)
            return
        rows = [node for node in nodes if any(part is layer for part, _ in node.loops)]
        if not rows:
            assert layer.loop is not None
            self.give_up_on(frozenset().union(*(free_names(v.expr) for v in layer.loop.values)))
            return
        start = len(self.lines)
        loop = self.open(layer, instances)
        outside, self.in_loop = self.in_loop, True
        self.level += 1
        self.copy(layer, rows, instances, name)
        self.level -= 1
        self.in_loop = outside
        body = self.lines[start:]
        del self.lines[start:]
        updates, before = self.handovers(loop, body)
        header = f"for {self.header(loop)}:"
        self.loops.pop()
        self.lines += before
        self.say(header)
        self.lines += body + updates

    def handovers(self, loop: OpenLoop, body: list[Line]) -> tuple[list[Line], list[Line]]:
        """The statements that set the carried sizes: after each copy, and before the loop."""
        updates: list[Line] = []
        before: list[Line] = []
        for carry in list(loop.variables):
            variable = loop.variables[carry]
            records = [r for r in self.records[carry] if carry in r.carried]
            (update,) = dict.fromkeys(record.carried[carry].update for record in records)
            assert update is not None and not isinstance(update, Opaque)
            text = self.text(update, variable)
            if text != variable and not self.set_last(body, variable, text):
                updates.append((self.level + 1, f"{variable} = {text}"))
            self.loops.pop()
            rows = [(r.carried[carry].before, r.env, r.carried[carry].value) for r in records]
            start = self.choose(rows)
            if start is None:
                self.loops.append(loop)
                raise Retry(unroll=frozenset({id(loop.layer)}))
            first = self.text(start, variable)
            self.loops.append(loop)
            if first != variable and self.current(variable) != first:
                before.append((self.level, f"{variable} = {first}"))
        return updates, before

    def set_last(self, body: list[Line], variable: str, text: str) -> bool:
        """Whether an inner loop has set the variable to this already when the copy ends."""
        for _, statement in reversed(body):
            if statement.startswith(f"{variable} = "):
                return statement == f"{variable} = {text}"
        return False

    def current(self, variable: str) -> str | None:
        """What a variable holds at this point, where that is known."""
        for level, statement in reversed(self.lines):
            if statement.startswith(f"{variable} = "):
                return statement.partition(" = ")[2] if level >= self.level else None
            if level < self.level:
                return None
        return None

    def copy(self, layer: Layer, rows: Rows, instances: list[Instance], name: str) -> None:
        """What one copy of a loop appends."""
        if layer.inline and layer.body is not None:
            self.guarded(layer, rows, lambda: self.steps(layer.body, rows, instances, name))  # type: ignore[arg-type]
            return
        batch: list[str] = []
        self.entry(layer, rows_of(layer, rows), name, batch, batch.clear)
        for text in batch:
            self.say(f"{name}.append({text})")

    def header(self, loop: OpenLoop) -> str:
        """`i in range(depth)`, `width, depth in zip(widths, depths)`, `i, width in enumerate(widths)`."""
        assert loop.layer.loop is not None
        values = loop.layer.loop.values
        if not loop.names:
            return f"_ in {self.iterable(values[0], loop)}"
        wanted = [(n, v) for n, v in zip(loop.names, values, strict=True) if n in loop.used]
        if not wanted:
            listed = next((v for v in values if self.counts(v, loop)), values[0])
            return f"_ in {self.iterable(listed, loop)}"
        if len(wanted) == 1:
            return f"{wanted[0][0]} in {self.iterable(wanted[0][1], loop)}"
        lists = [(n, v) for n, v in wanted if not self.counts(v, loop)]
        if len(wanted) == 2 and len(lists) == 1:
            counter = next(n for n, v in wanted if self.counts(v, loop))
            return f"{counter}, {lists[0][0]} in enumerate({self.iterable(lists[0][1], loop)})"
        texts = ", ".join(self.iterable(v, loop) for _, v in wanted)
        return f"{', '.join(n for n, _ in wanted)} in zip({texts}, strict=True)"

    def counts(self, value: Value, loop: OpenLoop) -> bool:
        """Whether a loop's value is a number of copies."""
        records = [r for rs in self.records.values() for r in rs if r.layer is loop.layer]
        env = records[0].env if records else self.plan.instances[0].scope
        from netspec.expressions import ExpressionError, evaluate

        try:
            return isinstance(evaluate(value.expr, env), int)
        except ExpressionError:
            return False

    def iterable(self, value: Value, loop: OpenLoop) -> str:
        open_loops = self.loops
        self.loops = [one for one in open_loops if one is not loop]
        counted = self.counts(value, loop)
        if loop.factories & set(loop.names) and any(
            v is value and n in loop.factories
            for n, v in zip(loop.names, loop.layer.loop.values, strict=True)  # type: ignore[union-attr]
        ):
            assert isinstance(value.expr, ListExpr)
            self.loops = open_loops
            return f"[{', '.join(self.classes.factory(getattr(item, 'value', None)) for item in value.expr.items)}]"
        text = self.write(self.resolve(value.expr), iterated=not counted)
        self.loops = open_loops
        return f"range({text})" if counted else text


def rows_of(layer: Layer, nodes: Rows) -> Rows:
    """The nodes that a written layer became."""
    return [node for node in nodes if node.layer is layer]


def in_copy(node: Node, layer: Layer, k: int) -> bool:
    return any(part is layer and number == k for part, number in node.loops)


def copies_in(layer: Layer, rows: Rows) -> int:
    return len({k for node in rows for part, k in node.loops if part is layer})


def step_value(value: Value, k: int, name: str, rows: Rows, layer: Layer) -> Expr:
    """What a loop's name stands for in one copy: a number, or an element of the list that it runs over."""
    expr = value.expr
    if isinstance(expr, ListExpr):
        return expr.items[k]
    for node in rows:
        if in_copy(node, layer, k):
            found = untraced(node.env[name])
            if not free_names(expr):
                return Literal(found)
            if isinstance(expr, Name) and isinstance(node.env.get(expr.id), list):
                return Subscript(expr, Literal(k))
            if found == k:
                return Literal(k)
            return Subscript(expr, Literal(k))
    return Literal(k)


def size_row(node: Node, port: str, axis: int) -> tuple[Any, Any, Any]:
    assert isinstance(node.op, Apply)
    ref: Ref = node.op.inputs[port]
    assert isinstance(ref.type, TensorType)
    size = ref.type.shape[axis]
    return origin_of(size), node.env, untraced(size)


def positional(entry: Entry, arguments: dict[str, str]) -> list[str]:
    """Arguments as an expert writes them: the leading sizes by position, at most two, the rest by name."""
    texts: list[str] = []
    by_position = True
    for i, declared in enumerate(entry.arguments):
        text = arguments.get(declared.name)
        leading = declared.required or declared.inferred or (i == 0 and len(arguments) == 1)
        if text is None:
            by_position = False
            continue
        by_position = by_position and leading and i < 2 and len(texts) == i
        texts.append(text if by_position else f"{declared.name}={text}")
    return texts


def constant(expr: Expr) -> Any:
    if isinstance(expr, ListExpr):
        return [constant(item) for item in expr.items]
    assert isinstance(expr, Literal)
    return expr.value
