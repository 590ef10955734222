"""Loops in a constructor: which names they run over, and the sizes that they hand from copy to copy."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from netspec.codegen.scope import OpenLoop, Retry, Row, holds, is_carry
from netspec.expressions import (
    Binary,
    Conditional,
    Expr,
    ListExpr,
    Literal,
    Name,
    Subscript,
    free_names,
    substitute,
)
from netspec.origins import Opaque, Origin, names_of, untraced
from netspec.program import Instance, Loop, Node
from netspec.spec import Layer, Value

if TYPE_CHECKING:
    pass

from netspec.codegen.block_calls import BlockCalls
from netspec.codegen.writer import Line, Rows, copies_in, rows_by_copy


def step_value(value: Value, k: int, name: str, copy_rows: Rows) -> Expr:
    """What a loop's name stands for in copy `k`: a number, or an element of the list that it runs over."""
    expr = value.expr
    if isinstance(expr, ListExpr):
        return expr.items[k]
    if not copy_rows:
        return Literal(k)
    env = copy_rows[0].env
    found = untraced(env[name])
    if not free_names(expr):
        return Literal(found)
    listed = isinstance(expr, Name) and isinstance(env.get(expr.id), list)
    return Literal(k) if found == k and not listed else Subscript(expr, Literal(k))


def sets(statement: str, variable: str) -> bool:
    """Whether a statement sets a variable: `size = 3`, `size += 3`."""
    return bool(re.match(rf"{variable} (\W\W?)?= ", statement))


class Repeats(BlockCalls):
    """Opens and closes loops."""

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
            if name in self.closed:
                loop.previous[name] = Name(self.closed.pop(name))
            self.carries[name] = loop
            self.records[name] = records
        self.loops.append(loop)
        return loop

    def copies(self, layer: Layer, rows: Rows, instances: list[Instance]) -> Iterator[tuple[Rows, int]]:
        """The copies of a loop that is written out, each with its names fixed while the caller works on it."""
        assert layer.loop is not None
        records = self.loop_records(layer, instances)
        counts = {len(record.values) for record in records} or {copies_in(layer, rows)}
        names = layer.loop.names
        depends = frozenset().union(*(free_names(value.expr) for value in layer.loop.values))
        self.give_up_on(frozenset(n for n in self.roots(depends) if self.is_count(layer, n)), must=len(counts) > 1)
        kept, seen = dict(self.values), dict(self.seen)
        carried = {name: self.handed(record.carried[name].before) for record in records[:1] for name in record.carried}
        by_copy = rows_by_copy(layer, rows)
        for k in range(counts.pop()):
            copy_rows = by_copy.get(k, [])
            for name, value in zip(names, layer.loop.values, strict=False):
                self.values[name] = step_value(value, k, name, copy_rows)
            for name, expr in carried.items():
                sizes = {untraced(node.env[name]) for node in copy_rows if name in node.env}
                self.keep(name, expr if expr is not None else Literal(sizes.pop() if len(sizes) == 1 else None))
            yield copy_rows, k
            for record in records[:1]:
                updates = {name: carry.update for name, carry in record.carried.items() if carry.update is not None}
                carried.update({name: self.handed(update) for name, update in updates.items()})
            # What loops inside this copy ended with is still known after it.
            ended = {name for name in self.values if is_carry(name) and name not in carried}
            self.values = {**kept, **{name: self.values[name] for name in ended}}
            self.seen = {**seen, **{name: self.seen[name] for name in ended}}
        for name, expr in carried.items():
            after = {record.carried[name].after for record in records if name in record.carried}
            if expr is None and len(after) == 1:
                expr = Literal(after.pop())
            if expr is not None:
                self.keep(name, expr)

    def handed(self, origin: Any) -> Expr | None:
        """A carried size in the constructor's names; None where only its number is known."""
        if isinstance(origin, Opaque):
            self.give_up_on(origin.names)
            return None
        resolved = self.resolve(origin)
        return None if any(map(is_carry, free_names(resolved))) else resolved

    def is_count(self, layer: Layer, name: str) -> bool:
        """Whether a name decides how many copies there are, and not only what is in them."""
        assert layer.loop is not None
        if any(not free_names(value.expr) for value in layer.loop.values):
            return False
        return any(name in self.roots(free_names(value.expr)) for value in layer.loop.values)

    def carried(self, name: str, hint: str) -> Expr:
        """A size that a loop hands on: what it is before the loop where the copies leave it alone, else a local
        variable.
        """
        loop = self.carries[name]
        records = [r for r in self.records[name] if name in r.carried]
        updates = dict.fromkeys(record.carried[name].update for record in records)
        if list(updates) == [None]:
            rows = [(self.before(loop, r, name), r.env, r.carried[name].value) for r in records]
            chosen = self.choose(rows)
            if chosen is None:
                self.give_up_on(frozenset().union(*(names_of(o) for o, _, _ in rows)), must=True)
            assert chosen is not None
            return self.resolve(chosen, hint)
        steady = self.steady(loop, records, name, hint)
        if steady is not None:
            return steady
        if (
            loop not in self.loops
            or any(update is None or isinstance(update, Opaque) for update in updates)
            or len(updates) > 1
        ):
            raise Retry(unroll=frozenset({id(loop.layer)}))
        variable = loop.variables[name] = self.size_variable(loop, hint or "size", name)
        if variable in self.holders:
            loop.held[variable] = self.holders[variable]
        self.holders[variable] = name
        return Name(variable)

    def before(self, loop: OpenLoop, record: Loop, name: str) -> Origin:
        """What a size is before a run of the loop; an earlier run may have left it, under the same name."""
        origin = record.carried[name].before
        return origin if isinstance(origin, Opaque) else substitute(origin, loop.previous)

    def steady(self, loop: OpenLoop, records: list[Loop], name: str, hint: str) -> Expr | None:
        """The size where each copy sets it to what it was before the loop."""
        befores = dict.fromkeys(self.before(loop, record, name) for record in records)
        updates = dict.fromkeys(record.carried[name].update for record in records)
        if len(befores) > 1 or len(updates) > 1:
            return None
        (before,), (update,) = befores, updates
        if update is None or isinstance(before, Opaque) or isinstance(update, Opaque) or name in free_names(update):
            return None
        if not self.reachable(update):
            return None
        read = set(loop.read)
        first, after = self.resolve(before, hint), self.resolve(update, hint)
        if first == after:
            return first
        loop.read = read
        return None

    def size_variable(self, loop: OpenLoop, hint: str, name: str) -> str:
        """The variable for a size that a loop carries: that of a loop around it for the same axis, where it may."""
        around = self.loops[: self.loops.index(loop)]
        for outer in reversed(around):
            for carry, variable in outer.variables.items():
                if carry.rpartition(" ")[2] != name.rpartition(" ")[2] or carry in self.plan.kept:
                    continue
                if variable not in loop.read:
                    return variable
        taken = {
            *self.block.params,
            *self.block.let,
            *self.lifted,
            *self.sizes,
            *loop.read,
            *(v for v, carry in self.holders.items() if carry in self.plan.kept),
            *(v for one in self.loops for v in (*one.variables.values(), *one.lists)),
            *(n for one in self.loops for n in one.names),
        }
        base, number = hint, 2
        while hint in taken:
            hint, number = f"{base}{number}", number + 1
        return hint

    def size(self, numbers: list[Row], nodes: Rows, hint: str) -> str:
        """The text for a size that was inferred for these nodes: in a loop a variable that runs over the sizes of all
        copies, where no expression gives them.
        """
        values = self.sizes_by_copy(numbers, nodes)
        if values is None:
            return self.number(numbers, hint)
        listed = f"({', '.join(map(str, values))})"
        loop = self.loops[-1]
        known = next((variable for variable, text in loop.lists.items() if text == listed), None)
        variable = known or self.size_variable(loop, hint or "size", "")
        loop.lists[variable] = listed
        return variable

    def sizes_by_copy(self, numbers: list[Row], nodes: Rows) -> list[int] | None:
        """The size in each copy of the innermost loop, where it is the copy alone that decides; else None."""
        if not self.loops or self.choose(numbers) is not None:
            return None
        loop = self.loops[-1]
        found: dict[int, int] = {}
        for (_, _, value), node in zip(numbers, nodes, strict=True):
            k = self.copy_of(node, loop.layer)
            if k is None or found.setdefault(k, value) != value:
                return None
        names = frozenset().union(*(names_of(origin) for origin, _, _ in numbers))
        if any(n in self.carries for n in names) or names & {n for one in self.loops for n in one.names}:
            return None
        self.give_up_on(names)
        if len(set(found.values())) == 1:
            return None
        return [found[k] for k in sorted(found)]

    def copy_of(self, node: Node | None, layer: Layer) -> int | None:
        """In which copy of a loop a node is, itself or by the chain that it stands in."""
        while node is not None:
            for part, number in node.loops:
                if part is layer:
                    return number
            node = self.owners.get(id(node))
        return None

    def handovers(self, loop: OpenLoop, body: list[Line]) -> tuple[list[Line], list[Line]]:
        """The statements that set the carried sizes: after each copy, and before the loop."""
        updates: list[Line] = []
        before: list[Line] = []
        for carry in list(loop.variables):
            variable = loop.variables[carry]
            records = [r for r in self.records[carry] if carry in r.carried]
            (update,) = dict.fromkeys(record.carried[carry].update for record in records)
            assert update is not None and not isinstance(update, Opaque)
            after = self.resolve(update, variable)
            text = self.write(after)
            if text != variable and not self.set_last(body, variable, text):
                local = next(
                    (n for n, t in self.locals.items() if t == text and (self.level + 1, f"{n} = {t}") in body), ""
                )
                if local:
                    updates.append((self.level + 1, f"{variable} = {local}"))
                    continue
                updates += self.setting(variable, after, self.level + 1, [*body, *updates])
        self.leave(loop)
        starts: dict[str, Expr] = {}
        for carry, variable in list(loop.variables.items()):
            records = [r for r in self.records[carry] if carry in r.carried]
            start = self.choose([(self.before(loop, r, carry), r.env, r.carried[carry].value) for r in records])
            if start is None:
                raise Retry(unroll=frozenset({id(loop.layer)}))
            starts[variable] = self.resolve(start, variable)
            first = self.write(starts[variable])
            if first != variable and self.current(variable) != first:
                before += self.setting(variable, starts[variable], self.level)
        for carry, variable in loop.variables.items():
            self.closed[carry] = variable
            self.holders[variable] = carry
            self.epochs[variable] += 1
        return updates, before

    def leave(self, loop: OpenLoop) -> None:
        """Close a loop as if it had not been opened: its variables hold what they held before it."""
        self.loops.pop()
        for variable in loop.variables.values():
            del self.holders[variable]
        self.holders.update(loop.held)
        self.closed.update({carry: v for carry, e in loop.previous.items() for v in free_names(e)})

    def setting(self, variable: str, value: Expr, level: int, body: Sequence[Line] = ()) -> list[Line]:
        """`size += step`; under an `if` what else would be left alone, under that which the body ends with if it is
        the same.
        """
        if isinstance(value, Conditional) and value.orelse == Name(variable):
            test, inner = f"if {self.write(value.test)}:", self.setting(variable, value.body, level + 1)
            last = next((text for at, text in reversed(body) if at == level), "")
            return inner if last == test else [(level, test), *inner]
        if isinstance(value, Binary) and value.left == Name(variable):
            return [(level, f"{variable} {value.op}= {self.write(value.right)}")]
        return [(level, f"{variable} = {self.write(value)}")]

    def set_last(self, body: list[Line], variable: str, text: str) -> bool:
        """Whether an inner loop has set the variable to this already when the copy ends."""
        for _, statement in reversed(body):
            if sets(statement, variable):
                value = statement.removeprefix(f"{variable} = ")
                return text in (value, self.locals.get(value))
        return False

    def current(self, variable: str) -> str | None:
        """What a variable holds at this point, where that is known."""
        for level, statement in reversed(self.lines):
            if sets(statement, variable):
                plain = level >= self.level and statement.startswith(f"{variable} = ")
                return statement.partition(" = ")[2] if plain else None
            if level < self.level:
                return None
        return None

    def header(self, loop: OpenLoop) -> str:
        """`i in range(depth)`, `width, depth in zip(widths, depths)`, `i, width in enumerate(widths)`."""
        assert loop.layer.loop is not None
        values = loop.layer.loop.values
        if loop.lists:
            return self.header_with_lists(loop)
        if not loop.names:
            return f"_ in {self.iterable(values[0], loop)}"
        wanted = [(n, v) for n, v in zip(loop.names, values, strict=True) if n in loop.used]
        if not wanted:
            listed = next((v for v in values if self.counts(v, loop)), values[0])
            return f"_ in {self.iterable(listed, loop)}"
        if len(wanted) == 1:
            return f"{wanted[0][0]} in {self.iterable(wanted[0][1], loop)}"
        lists = [(n, v) for n, v in wanted if not self.counts(v, loop)]
        counters = [n for n, v in wanted if self.counts(v, loop)]
        if len(counters) == len(lists) == 1:
            return f"{counters[0]}, {lists[0][0]} in enumerate({self.iterable(lists[0][1], loop)})"
        if len(counters) == 1:
            names, texts = ", ".join(n for n, _ in lists), ", ".join(self.iterable(v, loop) for _, v in lists)
            return f"{counters[0]}, ({names}) in enumerate(zip({texts}, strict=True))"
        texts = ", ".join(self.iterable(v, loop) for _, v in wanted)
        return f"{', '.join(n for n, _ in wanted)} in zip({texts}, strict=True)"

    def header_with_lists(self, loop: OpenLoop) -> str:
        """The same for a loop that also runs over sizes: `in_channels in (256, 512)`."""
        assert loop.layer.loop is not None
        wanted = [(n, v) for n, v in zip(loop.names, loop.layer.loop.values, strict=False) if n in loop.used]
        if not wanted and len(loop.lists) == 1:
            ((variable, listed),) = loop.lists.items()
            return f"{variable} in {listed}"
        names = [*(n for n, _ in wanted), *loop.lists]
        texts = [*(self.iterable(v, loop) for _, v in wanted), *loop.lists.values()]
        return f"{', '.join(names)} in zip({', '.join(texts)}, strict=True)"

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
        assert loop.layer.loop is not None
        for name, ran_over in zip(loop.names, loop.layer.loop.values, strict=False):
            if name in loop.factories and ran_over is value:
                self.loops = open_loops
                return f"[{', '.join(self.classes.factory(item) for item in self.layer_names(loop, name) or [])}]"
        text = self.write(self.resolve(value.expr), iterated=not counted)
        self.loops = open_loops
        return f"range({text})" if counted else text
