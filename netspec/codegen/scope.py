"""Which expression stands for a number in the class that is being written.

A class serves all instances of a block, so an origin is written only where it gives the right number in every one of
them. Names resolve to what the constructor knows: its arguments, the block's `let`s as local variables, loop names.
Where no expression serves, `Retry` asks for the class to be written again: with some names frozen to their values (one
class for each combination of values), or with a loop written out.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from netspec.codegen.literals import as_identifier, local_name
from netspec.expressions import (
    Expr,
    ExpressionError,
    ListExpr,
    Literal,
    Name,
    Subscript,
    evaluate,
    fold,
    free_names,
    from_value,
    map_children,
    substitute,
    to_python,
)
from netspec.origins import Opaque, Origin, names_of, untraced
from netspec.patterns import align
from netspec.program import Factory, Instance
from netspec.shapes import TensorType
from netspec.spec import Block, Layer

Row = tuple[Origin, Mapping[str, Any], Any]
"""Where a number came from in one use, the names' values there, and the number."""


class Retry(Exception):
    """Write the class again with these names frozen, these loops written out, or these sizes of loops in variables
    that nothing else sets.
    """

    def __init__(
        self,
        freeze: frozenset[str] = frozenset(),
        unroll: frozenset[int] = frozenset(),
        keep: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__()
        self.keep = keep
        self.freeze = freeze
        self.unroll = unroll


@dataclass(slots=True, eq=False)
class OpenLoop:
    """A `for` statement that is being written."""

    layer: Layer
    names: tuple[str, ...]
    used: set[str] = field(default_factory=set)
    factories: set[str] = field(default_factory=set)
    """The names whose values are layers."""
    variables: dict[str, str] = field(default_factory=dict)
    """Local variables for the sizes that it carries, by carry name."""
    lists: dict[str, str] = field(default_factory=dict)
    """Local variables for sizes that each copy has for itself, with the lists over which they run."""
    previous: dict[str, Expr] = field(default_factory=dict)
    """What the sizes were under the same names before it: an earlier run of the loop left them."""
    held: dict[str, str] = field(default_factory=dict)
    """Which size each of its variables held before."""
    read: set[str] = field(default_factory=set)
    """The variables of other loops that its body reads."""


@dataclass(slots=True, eq=False)
class Plan:
    """What has been decided about a class so far."""

    block: Block
    instances: list[Instance]
    frozen: dict[str, Any]
    unrolled: set[int]
    kept: frozenset[str] = frozenset()
    """Sizes of loops, by carry name, whose variables no other loop sets."""


@dataclass(frozen=True, slots=True)
class Lifted:
    """A size of an input: its name in the block, where it stands, and the factor of a multiple (`16*h`)."""

    name: str
    port: str
    axis: int
    factor: int = 1


def bound_sizes(instance: Instance) -> dict[str, Lifted]:
    """The sizes that a block's inputs bind, by name; those without a name under one of their own."""
    found: dict[str, Lifted] = {}
    for port, type_ in instance.inputs.items():
        listed = () if isinstance(type_, TensorType) else type_.members
        parts: dict[str, Any] = {f"{port}.{i}": one for i, one in enumerate(listed)} or {port: type_}
        for name, part in parts.items():
            for axis, size in enumerate(getattr(part, "shape", ())):
                origin = getattr(size, "origin", None)
                if isinstance(origin, Name):
                    found.setdefault(origin.id, Lifted(origin.id, name, axis))
    for pattern in instance.block.inputs:
        given = instance.inputs.get(pattern.name)
        aligned = align(pattern.shape or (), len(given.shape)) if isinstance(given, TensorType) else None
        for axis, dim in enumerate(aligned or ()):
            if dim is not None and dim.kind == "multiple":
                found.setdefault(dim.symbol, Lifted(dim.symbol, pattern.name, axis, dim.factor))
    return found


class Scope(ABC):
    """The names of a constructor under way."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.block = plan.block
        self.values: dict[str, Expr] = {}
        """What stands for a name at this point: a loop's name in a written-out copy, a carried size."""
        self.loops: list[OpenLoop] = []
        self.lifted: dict[str, Lifted] = {}
        """Sizes of inputs that the constructor takes, by argument."""
        self.used: dict[str, None] = {}
        """Parameters and captured names that the constructor uses."""
        self.lets: dict[str, str] = {}
        """`let`s that it computes, in order, with their texts."""
        self.requirements: set[str] = set()
        self.carries: dict[str, Any] = {}
        self.closed: dict[str, str] = {}
        """The sizes that loops ended with, by carry name: the variable that each was left in."""
        self.holders: dict[str, str] = {}
        """Which size a variable holds at this point: the carry name of the loop that set it last."""
        self.epochs: Counter[str] = Counter()
        """How often each variable was set."""
        self.seen: dict[str, dict[str, int]] = {}
        """For the names in `values`: the variables that they read, as often as these were set then."""
        first = plan.instances[0]
        self.sizes = {} if first.group else bound_sizes(first)

    def choose(self, rows: Sequence[Row]) -> Expr | None:
        """An expression that gives the right number in every row, or None."""
        candidates = dict.fromkeys(origin for origin, _, _ in rows if not isinstance(origin, Opaque))
        for candidate in candidates:
            if all(holds(candidate, env, value) for _, env, value in rows) and self.reachable(candidate):
                return candidate
        return None

    def number(self, rows: Sequence[Row], hint: str) -> str:
        """The text for a number that was inferred: an expression for all uses, else the number itself."""
        chosen = self.choose(rows)
        if chosen is not None:
            return self.text(chosen, hint)
        values = {value for _, _, value in rows}
        depends = frozenset().union(*(names_of(origin) for origin, _, _ in rows))
        self.give_up_on(depends, must=len(values) > 1)
        return str(values.pop())

    def give_up_on(self, names: frozenset[str], *, must: bool = False) -> None:
        """No expression in these names will do: have them written as numbers. Raises Retry where that changes
        anything.
        """
        for loop in self.loops:
            if names & set(loop.names) or any(name in self.carries and self.carries[name] is loop for name in names):
                raise Retry(unroll=frozenset({id(loop.layer)}))
        lost = frozenset(n for n in names if n in self.closed and self.holders.get(self.closed[n]) != n)
        if lost - self.plan.kept:
            raise Retry(keep=lost - self.plan.kept)
        closed = {id(self.carries[name].layer) for name in names if name in self.closed}
        if closed:
            raise Retry(unroll=frozenset(closed))
        freeze = frozenset(n for n in self.roots(names) if n not in self.plan.frozen and not is_carry(n))
        if freeze:
            raise Retry(freeze=freeze)
        if must:
            if self.loops:
                raise Retry(unroll=frozenset({id(self.loops[-1].layer)}))
            scope = self.plan.instances[0].scope
            rest = frozenset(n for n in scope if n not in self.plan.frozen and n not in self.block.let)
            assert rest, f"uses of {self.block.name} differ in nothing that is known"
            raise Retry(freeze=rest)

    def roots(self, names: frozenset[str]) -> frozenset[str]:
        """The constructor's own names behind these, through `let`s, loops and frozen names."""
        found: set[str] = set()
        for name in names:
            if name in self.values:
                found |= self.roots(free_names(self.values[name]))
            elif name in self.block.let:
                found |= self.roots(free_names(self.block.let[name].expr))
            else:
                found.add(name)
        return frozenset(found)

    def text(self, expr: Expr, hint: str = "") -> str:
        """An expression of the block's scope as Python in the constructor."""
        return self.write(self.resolve(expr, hint))

    def write(self, resolved: Expr, *, iterated: bool = False) -> str:
        """A resolved expression as Python; what it names is needed from here on."""
        self.requirements |= requirements(resolved)
        for name in sorted(free_names(resolved)):
            self.need(name)
        return to_python(resolved, self.local, iterated=iterated)

    def need(self, name: str) -> None:
        for loop in self.loops:
            if name in loop.names:
                loop.used.add(name)
                return
            if name in loop.variables.values():
                return
        if name in self.holders:
            return
        if name in self.plan.frozen:
            self.lets.setdefault(name, to_python(from_value(untraced(self.plan.frozen[name]))))
        elif name in self.block.let and not self.plan.instances[0].group:
            if name not in self.lets:
                self.lets[name] = self.write(self.resolve(self.block.let[name].expr))
                self.lets[name] = self.lets.pop(name)
        elif name not in self.lifted:
            self.used[name] = None

    def local(self, name: str) -> str:
        return as_identifier(name)

    def resolve(self, expr: Expr, hint: str = "") -> Expr:
        """The expression with every name replaced by what the constructor knows it as, folded."""
        mapping = {name: self.known(name, hint) for name in sorted(free_names(expr))}
        return self.picked(fold(substitute(expr, mapping)))

    def picked(self, expr: Expr) -> Expr:
        """The expression with the elements of frozen lists in place of `widths[2]`."""
        if isinstance(expr, Subscript) and isinstance(expr.value, Name) and isinstance(expr.index, Literal):
            value = self.plan.frozen.get(expr.value.id)
            if isinstance(value, list) and isinstance(expr.index.value, int):
                return from_value(untraced(value[expr.index.value]))
        return fold(map_children(expr, self.picked)) if free_names(expr) & self.plan.frozen.keys() else expr

    def known(self, name: str, hint: str) -> Expr:
        value = self.values.get(name)
        if value is not None:
            for variable, epoch in self.seen.get(name, {}).items():
                self.reads(variable, current=self.epochs[variable] == epoch)
            return self.resolve(value, hint) if free_names(value) and value != Name(name) else value
        for at, loop in enumerate(self.loops):
            if name in loop.names:
                return Name(name)
            if name in loop.variables:
                return self.reads(loop.variables[name], name, self.loops[at + 1 :])
        if name in self.closed:
            return self.reads(self.closed[name], name, self.loops)
        if name in self.carries:
            return self.carried(name, hint)
        if name in self.plan.frozen:
            value = self.plan.frozen[name]
            return Name(name) if isinstance(value, list) else frozen_value(value)
        if name in self.block.let and not self.plan.instances[0].group:
            return self.let(name)
        if name in self.sizes and name not in self.block.params:
            return Name(self.lift(name, hint))
        return Name(name)

    def reads(self, variable: str, carry: str = "", inside: Sequence[OpenLoop] = (), *, current: bool = True) -> Expr:
        """A variable of a loop, where it holds this size; `inside` are the loops whose bodies read it from around
        them.
        """
        for loop in inside:
            loop.read.add(variable)
        if current and (not carry or self.holders.get(variable) == carry):
            return Name(variable)
        if carry and carry not in self.plan.kept:
            raise Retry(keep=frozenset({carry}))
        setter = self.carries[self.holders[variable]]
        raise Retry(unroll=frozenset({id(setter.layer)}))

    def reachable(self, expr: Expr) -> bool:
        """Whether each size of a loop in this expression is at hand here."""
        for name in free_names(expr):
            if not is_carry(name) or name in self.values:
                continue
            if name in self.closed and self.holders.get(self.closed[name]) == name:
                continue
            if name not in self.carries or self.carries[name] not in self.loops:
                return False
        return True

    def keep(self, name: str, expr: Expr) -> None:
        """Let an expression stand for a name from here on, as long as the variables in it stay as they are."""
        self.values[name] = expr
        self.seen[name] = {variable: self.epochs[variable] for variable in free_names(expr) & self.holders.keys()}

    def let(self, name: str) -> Expr:
        resolved = self.resolve(self.block.let[name].expr)
        return resolved if not free_names(resolved) or isinstance(resolved, Name) else Name(name)

    def lift(self, name: str, hint: str) -> str:
        """Make a size of an input an argument of the constructor."""
        for argument, lifted in self.lifted.items():
            if lifted.name == name:
                return argument
        size = self.sizes[name]
        argument = (
            local_name(name) if name.isidentifier() else (hint or f"{size.port.replace('.', '_')}_size_{size.axis}")
        )
        taken = {*self.lifted, *self.block.params, *self.block.let}
        base, number = argument, 2
        while argument in taken:
            argument, number = f"{base}{number}", number + 1
        self.lifted[argument] = size
        return argument

    @abstractmethod
    def carried(self, name: str, hint: str) -> Expr:
        """What stands for a size that a loop hands from copy to copy."""


def is_carry(name: str) -> bool:
    """Whether a name is one that a loop gives to a size it carries."""
    return " " in name


def frozen_value(value: Any) -> Expr:
    return Literal(None) if isinstance(value, Factory) else from_value(value)


def holds(origin: Origin, env: Mapping[str, Any], value: Any) -> bool:
    """Whether an origin gives the value where the names have these values."""
    if isinstance(origin, Opaque):
        return False
    try:
        return bool(evaluate(origin, env) == value)
    except ExpressionError:
        return False


def requirements(expr: Expr) -> set[str]:
    from netspec.expressions import python_requirements

    return set(python_requirements(expr))


def is_constant(expr: Expr) -> bool:
    return isinstance(expr, Literal) or (isinstance(expr, ListExpr) and all(is_constant(i) for i in expr.items))
