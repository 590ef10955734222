"""Loops: the copies that `for` and `repeat` make, and the sizes that they hand from one to the next."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import permutations
from typing import Any

from netspec.call_parts import translate_type
from netspec.diagnostics import Diagnostics, Label
from netspec.expressions import (
    Conditional,
    Expr,
    ExpressionError,
    Literal,
    Name,
    Subscript,
    describe,
    evaluate,
    free_names,
)
from netspec.frame import Frame, Poisoned
from netspec.origins import Opaque, Origin, Traced, names_of, origin_of, rename, trace, untraced
from netspec.program import Carry, Loop, Node, Ref
from netspec.references import References
from netspec.shapes import TensorType
from netspec.spec import Layer, Spec
from netspec.values import FAILED

LONGEST_LOOP = 10_000
"""Copies that one loop may make."""


def _rolled(layer: Layer) -> bool:
    """Whether the loop stays a loop in emitted code, where the number of its copies may change."""
    return layer.name is None or layer.inline or (layer.loop is not None and layer.loop.computed)


Copies = list[tuple[dict[str, Any], Ref | None]]


class Loops(References, ABC):
    """The part of the elaboration that makes copies."""

    def __init__(self, spec: Spec, diagnostics: Diagnostics) -> None:
        super().__init__(spec, diagnostics)
        self.variants: dict[int, tuple[Layer, Layer]] = {}
        """Looping layers without their `from`, for the copies after the first."""
        self.loop_numbers: dict[int, tuple[Layer, int]] = {}

    @abstractmethod
    def single(
        self,
        layer: Layer,
        frame: Frame,
        env: Mapping[str, Any],
        incoming: Ref | None,
        loops: tuple[tuple[Layer, int], ...],
        original: Layer | None = None,
    ) -> tuple[list[Node], Ref | None]:
        """One copy of a layer: its nodes, and what the last of them gives."""

    def loop(
        self,
        layer: Layer,
        frame: Frame,
        env: Mapping[str, Any],
        incoming: Ref | None,
        loops: tuple[tuple[Layer, int], ...],
    ) -> tuple[list[Node], Ref | None]:
        self.check_loop_names(layer, env)
        values = self.loop_values(layer, env)
        names = set(layer.loop.names) if layer.loop else set()
        afresh = _mentions(layer.inputs, names)
        if layer.inputs is not None and not afresh and not frame.parallel:
            refs = self.references(layer, frame, env, incoming)
            incoming = self.first(refs) if len(refs) == 1 else incoming
        record = Loop(layer, env, tuple(values))
        if frame.parallel:
            frame.instance.loops.append(record)
            return self.side_by_side(layer, frame, env, incoming, loops, values)
        rolled = _rolled(layer)
        frame.instance.loops.append(record)
        start = outside = incoming
        nodes: list[Node] = []
        copies: list[tuple[dict[str, Any], Ref | None]] = []
        for k, step in enumerate(values):
            scope: dict[str, Any] = {**env, **step}
            previous = self.carry_in(layer, incoming, scope, frame) if rolled else incoming
            frame.previous = previous
            single = (
                layer
                if afresh or (k == 0 and layer.inputs is not None and len(layer.inputs) > 1)
                else (self.without_inputs(layer))
            )
            copy_nodes, incoming = self.single(single, frame, scope, previous, (*loops, (layer, k)), original=layer)
            nodes += copy_nodes
            copies.append(({**scope, **frame.live}, incoming))
            if incoming is None:
                raise Poisoned
            outside = self.fix_names(record, k, copy_nodes, incoming, frame, self.names_inside(record, scope, outside))
            if not rolled:
                incoming = outside
        if rolled and copies and start is not None and incoming is not None:
            incoming = self.carry_out(record, start, copies, frame)
        return nodes, incoming

    def check_loop_names(self, layer: Layer, env: Mapping[str, Any]) -> None:
        """A loop's name is no other value's: written as Python, the loop would overwrite what is read after it."""
        for name in layer.loop.names if layer.loop is not None else ():
            if name in env:
                owner = self.using[-1] if self.using else self.spec.model
                stated = owner.params.get(name) if owner is not None else None
                self.diagnostics.error(
                    "NS328",
                    f"the loop's `{name}` is the name of a value already",
                    layer.loop.span if layer.loop is not None else layer.span,
                    labels=[Label(stated.span, "the parameter")] if stated is not None else [],
                    help=f"give one step a name of its own, as in `for: {{one_{name}: ${name}}}`",
                )
                raise Poisoned

    def side_by_side(
        self,
        layer: Layer,
        frame: Frame,
        env: Mapping[str, Any],
        incoming: Ref | None,
        loops: tuple[tuple[Layer, int], ...],
        values: list[dict[str, Any]],
    ) -> tuple[list[Node], Ref | None]:
        """The copies of a loop among branches: each reads its own `from`, or what all branches read."""
        nodes: list[Node] = []
        for k, step in enumerate(values):
            nodes += self.single(layer, frame, {**env, **step}, incoming, (*loops, (layer, k)))[0]
        return nodes, incoming

    def without_inputs(self, layer: Layer) -> Layer:
        if layer.inputs is None:
            return layer
        known = self.variants.get(id(layer))
        if known is None:
            known = self.variants[id(layer)] = (layer, replace(layer, inputs=None))
        return known[1]

    def loop_values(self, layer: Layer, env: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The loop's names with their values, a mapping for each copy."""
        assert layer.loop is not None
        columns: list[list[Any]] = []
        for value in layer.loop.values:
            given = self.evaluate(value, env)
            if given is FAILED:
                raise Poisoned
            if isinstance(given, int) and not isinstance(given, bool):
                if not 0 <= given <= LONGEST_LOOP:
                    self.diagnostics.error(
                        "NS318",
                        f"a loop makes from 0 to {LONGEST_LOOP} copies, and this one {given}",
                        value.span,
                        help="for no copy at all write 0" if given < 0 else "split it, or take fewer",
                    )
                    raise Poisoned
                columns.append(list(range(given)))
            elif isinstance(given, list):
                columns.append(given)
            else:
                self.diagnostics.error(
                    "NS318",
                    f"a loop runs over a number of copies or a list, and this is {describe(untraced(given))}",
                    value.span,
                    labels=self.given_at(value),
                    help="as in `repeat: 3`, `for: {i: 3}` or `for: {width: [16, 32]}`",
                )
                raise Poisoned
        if len({len(column) for column in columns}) > 1:
            lengths = ", ".join(
                f"`{name}` {len(column)}" for name, column in zip(layer.loop.names, columns, strict=True)
            )
            self.diagnostics.error(
                "NS319",
                f"the names of a loop advance together, and their lists differ in length: {lengths}",
                layer.loop.span,
                help="give each as many values as there are copies; a number `n` counts from 0 to n - 1",
            )
            raise Poisoned
        names = layer.loop.names
        if not names:
            return [{} for _ in columns[0]]
        return [
            {name: trace(untraced(item), Name(name)) for name, item in zip(names, row, strict=True)}
            for row in zip(*columns, strict=True)
        ]

    def names_inside(self, record: Loop, scope: Mapping[str, Any], outside: Ref | None) -> dict[str, Origin | Traced]:
        """What the sizes that only a copy knows are to those around the loop; `outside` is what the copy was given."""
        names: dict[str, Origin | Traced] = {
            name: Opaque(frozenset()) for name in scope if name not in record.env or name in record.carried
        }
        shape = outside.type.shape if outside is not None and isinstance(outside.type, TensorType) else ()
        for axis, size in enumerate(shape):
            name = self.carry_name(record.layer, axis)
            if isinstance(size, int) and name in scope:
                names[name] = size if isinstance(size, Traced) else Literal(size)
        return names

    def fix_names(
        self,
        record: Loop,
        k: int,
        nodes: list[Node],
        out: Ref,
        frame: Frame,
        inside: Mapping[str, Origin | Traced],
    ) -> Ref:
        """After a copy: what is known by name outside of it no longer speaks of the loop's names."""
        step = {**inside, **self.step_origins(record, k)}

        def fixed(ref: Ref) -> Ref:
            return Ref(ref.node, ref.name, translate_type(ref.type, step))

        for node in nodes:
            ref = frame.names.get(node.name)
            if ref is not None:
                frame.names[node.name] = fixed(ref)
        return fixed(out)

    def carry_in(self, layer: Layer, incoming: Ref | None, scope: dict[str, Any], frame: Frame) -> Ref | None:
        """The tensor that a copy of a rolled loop gets, its sizes under the loop's own names."""
        if incoming is None or not isinstance(incoming.type, TensorType):
            return incoming
        shape = []
        for axis, size in enumerate(incoming.type.shape):
            if isinstance(size, int):
                name = self.carry_name(layer, axis)
                size = trace(untraced(size), Name(name))
                scope[name] = size
                frame.live.pop(name, None)
            shape.append(size)
        return Ref(incoming.node, incoming.name, TensorType(tuple(shape), incoming.type.dtype))

    def carry_name(self, layer: Layer, axis: int) -> str:
        number = self.loop_numbers.setdefault(id(layer), (layer, len(self.loop_numbers)))[1]
        return f"loop {number} size {axis}"

    def carry_out(self, record: Loop, start: Ref, copies: Copies, frame: Frame) -> Ref:
        """What the loop gives, its sizes in terms of the scope around it; records what each size does in the loop."""
        out = copies[-1][1]
        assert out is not None
        if not isinstance(out.type, TensorType) or not isinstance(start.type, TensorType):
            return out
        conditions = tuple(_conditions(record.layer))
        for axis, size in enumerate(start.type.shape):
            if isinstance(size, int):
                name = self.carry_name(record.layer, axis)
                record.carried[name] = Carry(size, partial(_update, name, axis, copies, conditions))
                if len(out.type.shape) > axis and isinstance(out.type.shape[axis], int):
                    frame.live[name] = record.carried[name].after = untraced(out.type.shape[axis])
        last = self.step_origins(record, len(copies) - 1)
        shape = [
            _after_loop(self.carry_name(record.layer, axis), axis, record, last, copies, conditions)
            if isinstance(size, int)
            else size
            for axis, size in enumerate(out.type.shape)
        ]
        given = Ref(out.node, out.name, TensorType(tuple(shape), out.type.dtype))
        if out.node is not None and not out.name and out.node.name in frame.names:
            frame.names[out.node.name] = given
        return given

    def step_origins(self, record: Loop, k: int) -> dict[str, Origin]:
        """The loop's names as they are in copy `k`, in terms of the scope around the loop."""
        assert record.layer.loop is not None
        step: dict[str, Origin] = {}
        for name, value in zip(record.layer.loop.names, record.layer.loop.values, strict=False):
            listed = value.expr
            if isinstance(listed, Name) and isinstance(record.env.get(listed.id), list):
                last = k == len(record.values) - 1
                step[name] = Subscript(listed, Literal(-1 if last and _rolled(record.layer) else k))
            elif not free_names(listed):
                step[name] = Literal(untraced(record.values[k][name]))
            else:
                step[name] = Opaque(free_names(listed))
        return step


def _gives(origin: Any, scope: Mapping[str, Any], size: int) -> bool:
    try:
        return bool(evaluate(origin, scope) == size)
    except ExpressionError:
        return False


def _sizes(axis: int, copies: Copies) -> list[tuple[dict[str, Any], int]] | None:
    """The scope and the size of every copy's output, or None where it is not a number in all of them."""
    sizes = []
    for scope, ref in copies:
        if ref is None or not isinstance(ref.type, TensorType) or len(ref.type.shape) <= axis:
            return None
        size = ref.type.shape[axis]
        if not isinstance(size, int):
            return None
        sizes.append((scope, size))
    return sizes


def _conditions(layer: Layer) -> Iterator[Expr]:
    """The conditions of the layers that a copy of a loop puts in a row."""
    if layer.condition is not None:
        yield layer.condition.expr
    if layer.inline and layer.body is not None:
        for inner in layer.body.layers:
            yield from _conditions(inner)


def _common_origin(axis: int, copies: Copies, conditions: tuple[Expr, ...]) -> Origin:
    """The expression that gives this size after every copy, or the names that it depends on."""
    sizes = _sizes(axis, copies)
    if sizes is None:
        return Opaque(frozenset())
    candidates = dict.fromkeys(origin_of(size) for _, size in sizes)
    for candidate in candidates:
        if not isinstance(candidate, Opaque) and all(_gives(candidate, scope, size) for scope, size in sizes):
            return candidate
    written = [candidate for candidate in candidates if not isinstance(candidate, Opaque)]
    for one, other in permutations(written, 2) if len(written) == 2 else ():
        for condition in conditions:
            chosen = Conditional(condition, one, other)
            if all(_gives(chosen, scope, size) for scope, size in sizes):
                return chosen
    return Opaque(frozenset().union(*(names_of(c) for c in candidates)))


def _update(name: str, axis: int, copies: Copies, conditions: tuple[Expr, ...]) -> Origin | None:
    """What a copy makes of the size that the loop carries under this name; None where it leaves it alone."""
    origin = _common_origin(axis, copies, conditions)
    return None if origin == Name(name) else origin


def _after_loop(
    name: str, axis: int, record: Loop, last: Mapping[str, Origin], copies: Copies, conditions: tuple[Expr, ...]
) -> Any:
    """A size that the loop gives, in terms of the scope around it; under the loop's own name for it where each copy
    makes it from what the one before left.
    """
    sizes = _sizes(axis, copies)
    if sizes is None:
        return untraced(copies[-1][1].type.shape[axis])  # type: ignore[union-attr]
    inner = frozenset().union(*(size.names for _, size in sizes if isinstance(size, Traced)))
    names: dict[str, Origin | Traced] = dict(last)
    for carried, carry in record.carried.items():
        if carried in inner:
            names[carried] = Opaque(names_of(carry.size) if isinstance(carry.size, Traced) else frozenset())
    outer = frozenset().union(*(names_of(names[n]) if n in names else (n,) for n in inner))
    value = untraced(sizes[-1][1])

    def origin() -> Origin:
        update = _common_origin(axis, copies, conditions)
        if update == Name(name):
            return record.carried[name].before
        if not isinstance(update, Opaque) and name in record.carried and _inside(free_names(update), record, last):
            return Name(name)
        return rename(update, names)

    grows = frozenset((name,)) if name in record.carried and _inside(inner, record, last) else frozenset()
    return Traced(value, (origin,), outer | grows) if outer | grows else value


def _inside(names: frozenset[str], record: Loop, last: Mapping[str, Origin]) -> bool:
    """Whether an expression speaks of what only the loop's copies know: sizes, or a name whose last value nothing
    says (`i` of `reversed(range(depth))`).
    """
    unsaid = any(isinstance(last.get(name), Opaque) for name in names)
    return bool(unsaid or names & record.carried.keys() or names - {*record.env, *last})


def _mentions(inputs: Any, names: set[str]) -> bool:
    """Whether a `from` speaks of a loop's names or of `previous`, and so is evaluated for each copy."""
    if inputs is None:
        return False
    values = inputs.values() if isinstance(inputs, dict) else inputs
    return any(
        free_names(value.expr) & names or (isinstance(value.expr, Literal) and value.expr.value == "previous")
        for value in values
    )
