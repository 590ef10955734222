"""`__init__`: one statement a layer, in the file's order, repeats as loops.

Rows run through this file: the nodes that one written layer has become in all uses of its block. A value is written
from the expression in the spec where the person wrote one, and from its rows where it was inferred.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from netspec.codegen.buffers import Computation
from netspec.codegen.initialize import block_rules, own_rules, start_of
from netspec.codegen.library import library_model
from netspec.codegen.literals import as_identifier, local_name, string
from netspec.codegen.scope import is_constant
from netspec.expressions import Literal, Name, Template, free_names
from netspec.program import Apply, Call, Factory, Instance, Skip
from netspec.spec import Body, Layer

if TYPE_CHECKING:
    pass
from netspec.codegen.printer import split_top
from netspec.codegen.repeats import Repeats
from netspec.codegen.source_map import Code, marked, rewritten, stretches_of
from netspec.codegen.writer import Rows, mark_of, rows_by_layer, rows_of

ADDING = ((".append(", ")"), (".extend([", "])"))


def quoted(name: str) -> str:
    """A child's name as Python: what holds a quote is an f-string already, for no name may."""
    return name if '"' in name else string(name)


class Constructor(Repeats):
    """Writes the statements of one class's `__init__`."""

    # Bodies

    def mapping(self, body: Body, instances: list[Instance]) -> None:
        """Named children as attributes of `self`."""
        self.named(body, [node for instance in instances for node in instance.nodes], instances, "self")

    def named(self, body: Body, rows: Rows, instances: list[Instance], owner: str) -> None:
        by_layer = rows_by_layer(rows)
        for layer in body.layers:
            mine = by_layer.get(id(layer), [])
            if layer.loop is not None and (
                layer.inline or (layer.name and free_names(layer.name) & set(layer.loop.names))
            ):
                for copy_rows, _ in self.copies(layer, rows, instances):
                    if (inside := self.joined(layer, copy_rows, instances)) is not None:
                        self.named(inside, copy_rows, instances, owner)
                    else:
                        self.child(layer, rows_of(layer, copy_rows), instances, owner)
            elif (inside := self.joined(layer, rows, instances)) is not None:
                self.named(inside, rows, instances, owner)
            else:
                self.child(layer, mine, instances, owner)

    def child(self, layer: Layer, rows: Rows, instances: list[Instance], owner: str) -> None:
        """A named child: `self.conv1 = …`, or `add_module` where the name is no identifier."""
        with self.about(mark_of(layer, rows)):
            self.child_statements(layer, rows, owner)

    def child_statements(self, layer: Layer, rows: Rows, owner: str) -> None:
        weights = [node for node in rows if node.is_weight]
        if weights:
            self.weight(layer, weights, owner)
        rows = [node for node in rows if node.key is not None]
        if not rows:
            return
        name = self.child_name(layer, rows)
        condition = self.guard(layer, rows)
        made = [node for node in rows if not isinstance(node.op, Skip)]
        if condition == "False" or not made:
            self.attach(owner, name, "nn.Identity()")
            return
        statement: Callable[[str], None] = lambda text: self.attach(owner, name, text)  # noqa: E731
        if condition != "True" and any(len(node.op.inputs) != 1 or node.chosen_by is not None for node in made):
            # An nn.Identity in its place could not take them all, or is nothing to choose from: two classes.
            self.give_up_on(self.deciding(layer))
        target = f"{owner}.{name}" if name.isidentifier() else None
        if condition == "True":
            self.module(layer, made, statement, target)
            self.after(layer, made, target or f"{owner}.get_submodule({quoted(name)})")
            return
        if layer.initialize:
            self.attach(owner, name, "nn.Identity()", annotation="nn.Module")
            self.say(f"if {condition}:")
            self.level += 1
            self.module(layer, made, statement, target)
            self.after(layer, made, target or f"{owner}.get_submodule({quoted(name)})")
            self.level -= 1
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
            self.lines.append(
                (last_level + 1, rewritten(last, last.removesuffix(f" if {condition} else nn.Identity()")))
            )

    def weight(self, layer: Layer, rows: Rows, owner: str) -> None:
        """`self.cls = nn.Parameter(torch.zeros(1, 1, width))`, and how it starts."""
        op = rows[0].op
        assert isinstance(op, Call)
        texts = self.arguments(op.entry, layer, rows)
        target = f"{owner}.{rows[0].name}"
        if op.body is not None:
            bodies = [node.op.body for node in rows if isinstance(node.op, Call) and node.op.body is not None]
            computation = Computation(self, bodies)
            self.lines += [(self.level, line) for line in computation.lines]
            kept = ", persistent=False" if texts.get("persistent") == "False" else ""
            self.say(f"{target} = nn.Buffer({computation.output}{kept})")
            return
        shape = ", ".join(split_top(texts["shape"][1:-1], ","))
        dtype = f", dtype={texts['dtype']}" if "dtype" in texts else ""
        persistent = f", persistent={texts['persistent']}" if "persistent" in texts else ""
        made, start = start_of(self, layer, shape, dtype)
        self.classes.imports.add("import torch")
        self.say(f"{target} = nn.{op.entry.name}({made}{persistent})")
        if start:
            self.say(start.format(target))

    def attach(self, owner: str, name: str, text: str, annotation: str = "") -> None:
        if name.isidentifier():
            self.say(f"{owner}.{name}{': ' + annotation if annotation else ''} = {text}")
        else:
            self.say(f"{owner}.add_module({quoted(name)}, {text})")

    def child_name(self, layer: Layer, rows: Rows) -> str:
        """A child's name; in a loop that stays one, the f-string for it."""
        open_names = {name for loop in self.loops for name in loop.names}
        if layer.name is None or not open_names & free_names(self.resolve(layer.name)):
            return rows[0].name
        return self.text(layer.name)

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
        op, since, mark = rows[0].op, len(self.pieces), mark_of(layer, rows)

        def place(text: str) -> None:
            self.piece(text, mark, since)
            put(text)

        if isinstance(op, Call) and op.whole is not None:
            library_model(self, layer, rows, place, target)
        elif isinstance(op, Call):
            place(self.call(layer, rows))
        elif isinstance(op, Apply) and op.instance.group and (op.instance.sequential or op.instance.container):
            self.chain(layer, rows, place, target)
        else:
            place(self.use_block(layer, rows))

    def after(self, layer: Layer, rows: Rows, target: str) -> None:
        """A layer's own `initialize`; the class of a group that is no chain runs it itself."""
        if not layer.initialize:
            return
        inside = [node.op.instance for node in rows if isinstance(node.op, Apply)]
        if not inside:
            lines = own_rules(self, layer, rows, target)
        elif not inside[0].group or inside[0].sequential or inside[0].container:
            lines = block_rules(self, layer.initialize, inside, target)
        else:
            lines = []
        self.lines += [(self.level + level, text) for level, text in lines]

    # Blocks

    # Chains

    def chain(self, layer: Layer, rows: Rows, put: Callable[[str], None], target: str | None) -> None:
        """A group that is an `nn.Sequential`: one expression where it can be, else built step by step."""
        assert layer.body is not None
        inner = [node.op.instance for node in rows if isinstance(node.op, Apply)]
        nodes = [node for instance in inner for node in instance.nodes]
        self.owners.update(
            {id(one): node for node in rows if isinstance(node.op, Apply) for one in node.op.instance.nodes}
        )
        container = inner[0].container
        whole = self.chain_expression(layer.body, nodes, inner, container)
        if whole is not None:
            put(whole)
            return
        name = target or self.variable(layer)
        empty = f"nn.{container or 'Sequential'}()"
        if target is None:
            self.say(f"{name} = {empty}")
        else:
            put(empty)
        at = len(self.lines) - 1
        self.steps(layer.body, nodes, inner, name)
        if not container:
            self.join(at, name, "nn.Sequential()")
        if target is None:
            put(name)

    def join(self, at: int, name: str, empty: str) -> None:
        """What is appended right after a chain was made is written where it was made: `nn.Sequential(first, …)`."""
        if len(self.lines) < at + 2:
            return
        (level, made), (next_level, added) = self.lines[at : at + 2]
        items = next((added.removeprefix(f"{name}{how}")[: -len(end)] for how, end in ADDING
                      if added.startswith(f"{name}{how}")), "")  # fmt: skip
        if level != next_level or not items or not made.endswith(empty):
            return
        head = made.removesuffix(empty) + empty[:-1]
        cut = added.index(items)
        stretches = [
            *((a, len(head) + len(items) + 1 if b == len(made) else b, mark) for a, b, mark in stretches_of(made)),
            *((a - cut + len(head), b - cut + len(head), m) for a, b, m in stretches_of(added) if a >= cut),
        ]
        self.lines[at : at + 2] = [(level, Code.of(f"{head}{items})", stretches))]

    def variable(self, layer: Layer) -> str:
        name = layer.name.parts[0] if isinstance(layer.name, Template) else getattr(layer.name, "value", None)
        base = as_identifier(str(name)).rstrip("_") if isinstance(name, str) and name.strip("_-") else "stage"
        return self.fresh_variable(local_name(base))

    def fresh_variable(self, base: str) -> str:
        name, number = base, 2
        while name in self.variables or name in self.block.params or name in self.block.let:
            name, number = f"{base}{number}", number + 1
        self.variables.add(name)
        return name

    def chain_expression(self, body: Body, nodes: Rows, instances: list[Instance], container: str) -> str | None:
        """`nn.Sequential(…)` or `nn.ModuleList([…])` in one expression, or None where it takes statements."""
        if len(body.layers) == 1 and body.kind == "list" and body.layers[0].loop is not None:
            return self.repeated(body.layers[0], nodes, instances, container)
        texts = self.plain_items(body, nodes, instances)
        if texts is None:
            return None
        if container == "ModuleDict":
            return f"nn.ModuleDict({{{', '.join(f'{string(name)}: {text}' for name, text in texts)}}})"
        if container:
            return f"nn.ModuleList([{', '.join(text for _, text in texts)}])"
        if body.kind == "list":
            return f"nn.Sequential({', '.join(text for _, text in texts)})"
        self.imports.add("OrderedDict")
        return f"nn.Sequential(OrderedDict([{', '.join(f'({string(name)}, {text})' for name, text in texts)}]))"

    def plain_items(self, body: Body, nodes: Rows, instances: list[Instance]) -> list[tuple[str, str]] | None:
        """The children's expressions, or None where there are loops, conditions or children that take statements."""
        since = len(self.pieces)
        texts = self.items(body, nodes, instances)
        if texts is None:
            del self.pieces[since:]
        return texts

    def items(self, body: Body, nodes: Rows, instances: list[Instance]) -> list[tuple[str, str]] | None:
        texts: list[tuple[str, str]] = []
        by_layer = rows_by_layer(nodes)
        for layer in body.layers:
            rows = by_layer.get(id(layer), [])
            if layer.loop is not None or layer.inline or layer.initialize:
                return None
            guard = self.guard(layer, rows)
            if guard not in ("True", "False"):
                return None
            rows = [node for node in rows if node.key is not None]
            if not rows:
                continue
            if all(isinstance(node.op, Skip) for node in rows):
                texts.append((rows[0].name, "nn.Identity()"))
                continue
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
        if isinstance(self.frozen_factory(layer), Factory):
            return False
        resolved = self.resolve(layer.type.expr)
        return isinstance(resolved, Literal) and resolved.value is None

    def may_be_null(self, layer: Layer) -> bool:
        """Whether `type: $act` is null in some use, or could be by its default."""
        assert layer.type is not None
        expr = self.resolve(layer.type.expr)
        if not isinstance(expr, Name):
            return False
        return any(instance.scope.get(expr.id, expr) is None for instance in self.plan.instances)

    def repeated(self, layer: Layer, nodes: Rows, instances: list[Instance], container: str) -> str | None:
        """`nn.Sequential(*(Block(…) for i in range(depth)))`, where the copies hand on no size and depend on no
        condition.
        """
        if layer.condition is not None or layer.inline or id(layer) in self.plan.unrolled or not nodes:
            return None
        if layer.initialize:
            return None
        state, since, variables = len(self.lines), len(self.pieces), set(self.variables)
        loop = self.open(layer, instances)
        outside, self.in_loop = self.in_loop, False
        found: list[str] = []
        self.module(layer, rows_of(layer, nodes), found.append, None)
        self.in_loop = outside
        if loop.variables or len(self.lines) != state:
            del self.lines[state:], self.pieces[since:]
            self.variables = variables
            self.leave(loop)
            return None
        header = self.header(loop)
        self.leave(loop)
        repeats = f"{found[0]} for {header}"
        return f"nn.ModuleList([{repeats}])" if container else f"nn.Sequential(*({repeats}))"

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

        by_layer = rows_by_layer(nodes)
        for layer in body.layers:
            rows = by_layer.get(id(layer), [])
            if layer.loop is not None:
                flush()
                self.loop(layer, nodes, instances, name, kind)
            elif (inside := self.joined(layer, nodes, instances)) is not None:
                flush()
                self.guarded(layer, rows, partial(self.steps, inside, nodes, instances, name))
            elif kind == "list":
                self.entry(layer, rows, name, batch, flush)
            else:
                flush()
                self.child(layer, rows, instances, name)
        flush()

    def entry(self, layer: Layer, rows: Rows, name: str, batch: list[str], flush: Callable[[], None]) -> None:
        """One entry of a list."""
        with self.about(mark_of(layer, rows)):
            self.entry_statements(layer, rows, name, batch, flush)

    def entry_statements(
        self, layer: Layer, rows: Rows, name: str, batch: list[str], flush: Callable[[], None]
    ) -> None:
        guard = self.guard(layer, rows)
        if guard == "False" or (not rows and guard == "True"):
            return
        if not rows:
            self.give_up_on(self.deciding(layer))
            return
        if guard != "True" or layer.body is not None or layer.initialize:
            flush()
        if guard == "True":
            before = len(self.lines)
            found: list[str] = []
            self.module(layer, rows, found.append, None)
            if len(self.lines) == before and not layer.initialize:
                batch.append(found[0])
                return
            self.say(f"{name}.append({found[0]})")
            self.after(layer, rows, f"{name}[-1]")
            return
        if not self.follows(guard):
            self.say(f"if {guard}:")
        self.level += 1
        self.module(layer, rows, lambda text: self.say(f"{name}.append({text})"), None)
        self.after(layer, rows, f"{name}[-1]")
        self.level -= 1

    def guard(self, layer: Layer, rows: Rows) -> str:
        """Python for whether the layer is there: its `if`, and its type where that may be null."""
        condition, present = self.condition(layer, rows), self.presence(layer, rows)
        if "False" in (condition, present):
            return "False"
        if "True" in (condition, present):
            return present if condition == "True" else condition
        return f"{present} and {f'({condition})' if ' or ' in condition or ' if ' in condition else condition}"

    def deciding(self, layer: Layer) -> frozenset[str]:
        """The names that decide whether a layer is there."""
        values = [value for value in (layer.condition, layer.type) if value is not None]
        return frozenset().union(*(free_names(value.expr) for value in values))

    def presence(self, layer: Layer, rows: Rows) -> str:
        """Python for whether `type: $act` names a layer: "True" or "False" where it is decided for this class."""
        if layer.type is None or layer.type.literal:
            return "True"
        if self.is_frozen_null(layer):
            return "False"
        if not self.may_be_null(layer):
            return "True"
        if rows and all(isinstance(node.op, Skip) for node in rows):
            self.give_up_on(free_names(layer.type.expr))
            return "False"
        return f"{self.text(layer.type.expr)} is not None"

    def guarded(self, layer: Layer, rows: Rows, write: Callable[[], None]) -> None:
        guard = self.condition(layer, rows) if layer.condition is not None else "True"
        if guard == "False":
            return
        if guard == "True":
            write()
            return
        if not self.follows(guard):
            self.say(f"if {guard}:")
        self.level += 1
        write()
        self.level -= 1

    def follows(self, guard: str) -> bool:
        """Whether what was said last stands under the same condition, and could not have changed it."""
        for level, statement in reversed(self.lines):
            if level == self.level:
                return statement == f"if {guard}:"
            if level < self.level or " = " in statement.partition("(")[0]:
                return False
        return False

    # Loops

    def loop(self, layer: Layer, nodes: Rows, instances: list[Instance], name: str, kind: str) -> None:
        assert layer.loop is not None
        if id(layer) in self.plan.unrolled or (kind == "mapping" and not layer.loop.computed):
            for copy_rows, _ in self.copies(layer, nodes, instances):
                if kind == "list":
                    self.copy(layer, copy_rows, instances, name, kind)
                elif (inside := self.joined(layer, copy_rows, instances)) is not None:
                    self.steps(inside, copy_rows, instances, name, kind)
                else:
                    self.child(layer, rows_of(layer, copy_rows), instances, name)
            return
        rows = [node for node in nodes if any(part is layer for part, _ in node.loops)]
        if not rows:
            self.give_up_on(frozenset().union(*(free_names(v.expr) for v in layer.loop.values)))
            return
        start = len(self.lines)
        loop = self.open(layer, instances)
        outside, self.in_loop = self.in_loop, True
        self.level += 1
        self.copy(layer, rows, instances, name, kind)
        self.level -= 1
        self.in_loop = outside
        body = self.lines[start:]
        del self.lines[start:]
        updates, before = self.handovers(loop, body)
        header = f"for {self.header(loop)}:"  # after all that may speak of the loop's names
        mark = mark_of(layer, rows, layer.loop.span)
        self.lines += [(level, marked(text, mark)) for level, text in before]
        with self.about(mark):
            self.say(header)
        self.lines += [*body, *((level, marked(text, mark)) for level, text in updates)]

    def copy(self, layer: Layer, rows: Rows, instances: list[Instance], name: str, kind: str) -> None:
        """What one copy of a loop appends."""
        inside = self.joined(layer, rows, instances)
        if inside is not None:
            self.guarded(layer, rows, partial(self.steps, inside, rows, instances, name, kind))
            return
        if kind == "mapping":
            self.child(layer, rows_of(layer, rows), instances, name)
            return
        batch: list[str] = []
        self.entry(layer, rows_of(layer, rows), name, batch, batch.clear)
        for text in batch:
            self.say(f"{name}.append({text})")
