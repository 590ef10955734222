"""The sizes of a block's inputs in one call, and what follows from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from netspec.expressions import Name, evaluate
from netspec.origins import Opaque, names_of, origin_of, untraced
from netspec.patterns import align
from netspec.program import Argument, Instance, Node, Skip
from netspec.shapes import UNKNOWN, Dim, TensorType, solve


class Sizes:
    """The sizes of an instance with their values in this call, read from the shapes of its inputs.

    Most calls have the sizes that the model was compiled for. Where they differ, the names that an input binds and the
    `let`s that depend on them have other values too.
    """

    def __init__(self, instance: Instance, values: Mapping[str, Any], around: Sizes | None = None) -> None:
        self.symbols: dict[str, int] = dict(around.symbols) if around is not None else {}
        self.exact: dict[Dim, int] = dict(around.exact) if around is not None else {}
        self.changed: dict[str, Any] = dict(around.changed) if around is not None else {}
        """The names whose values differ from those that the model was compiled for."""
        for name, type_ in instance.inputs.items():
            if isinstance(type_, TensorType):
                if type_ == UNKNOWN:
                    self.symbols.setdefault("N", len(values[name]))
                elif not type_.is_text:
                    self._read(type_, values[name])
            elif type_.element is None:
                for one, tensor in zip(type_.items, values[name], strict=True):
                    self._read(one, tensor)
            else:
                self.symbols[f"len({name})"] = len(values[name])
                for tensor in values[name][:1]:
                    self._read(type_.element, tensor, type_.own)
        for pattern in instance.block.inputs if not instance.group else ():
            if pattern.name in values and isinstance(values[pattern.name], Tensor):
                self._read_multiples(pattern.shape or (), values[pattern.name])
        for name, let in instance.block.let.items() if self.changed else ():
            if let.names & self.changed.keys():
                self.changed[name] = evaluate(let.expr, self.scope(instance.scope))

    def _read(self, type_: TensorType, tensor: Tensor, own: frozenset[str] = frozenset()) -> None:
        """`own` are the sizes that each tensor of a list has for itself."""
        if len(type_.shape) != tensor.dim():
            raise ValueError(f"expected {len(type_.shape)}D input (got {tensor.dim()}D input)")
        for size, actual in zip(type_.shape, tensor.shape, strict=True):
            if isinstance(size, Dim) and size.symbols & own:
                continue
            if isinstance(size, Dim):
                self.exact.setdefault(size, actual)  # what the body around a group knows is right at any size
                for symbol in size.symbols:
                    found = solve(size, symbol, actual)
                    if isinstance(found, int):
                        self.symbols.setdefault(symbol, found)
            elif size != actual:
                origin = origin_of(size)
                if isinstance(origin, Name):
                    self.changed[origin.id] = actual

    def _read_multiples(self, pattern: tuple[Any, ...], tensor: Tensor) -> None:
        for dim, actual in zip(align(pattern, tensor.dim()) or (), tensor.shape, strict=False):
            if dim is not None and dim.kind == "multiple" and self.changed:
                self.changed[dim.symbol] = actual // dim.factor

    def value(self, value: Any) -> Any:
        """A value with its symbolic sizes replaced."""
        if isinstance(value, Dim):
            known = self.exact.get(value)
            return known if known is not None else value.substitute(self.symbols)
        if isinstance(value, list):
            return [self.value(item) for item in value]
        return untraced(value)

    def argument(self, env: Mapping[str, Any], argument: Argument) -> Any:
        """A function's argument in this call."""
        if self.changed and not argument.inferred and names_of(argument.origin) & self.changed.keys():
            assert not isinstance(argument.origin, Opaque), "what a person wrote is an expression"
            return self.value(evaluate(argument.origin, self.scope(env)))
        return self.value(argument.value)

    def scope(self, env: Mapping[str, Any]) -> dict[str, Any]:
        """What the names of a scope are in this call."""
        return {**{name: self.value(value) for name, value in env.items()}, **self.changed}

    def now(self, node: Node) -> Node | None:
        """The node as it is at the sizes of this call: another where one was left out, None where it is left out.

        Raises RuntimeError where it would run and could not be worked out at the sizes that the spec states.
        """
        condition = node.layer.condition
        if not self.changed or condition is None or node.key is not None or not condition.names & self.changed.keys():
            return node
        runs = bool(evaluate(condition.expr, self.scope(node.env)))
        if runs != isinstance(node.op, Skip):
            return node
        if not runs:
            return None
        if node.other is None:
            sizes = ", ".join(f"{name} = {value}" for name, value in self.changed.items())
            raise RuntimeError(
                f"`{node.name}` would run at {sizes}, and does not fit the sizes that the model was compiled for: "
                "compile it for these"
            )
        return node.other
