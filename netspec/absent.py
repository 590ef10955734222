"""Layers that are left out: what passes in their place, and what runs where the sizes of an input are others."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

from netspec import catalog
from netspec.expressions import Literal
from netspec.frame import Frame, Poisoned
from netspec.joins import Joins
from netspec.patterns import bound_names
from netspec.program import Node, Ref, Skip
from netspec.spec import Layer


class Absent(Joins):
    """The part of the elaboration that leaves layers out."""

    @abstractmethod
    def node(
        self,
        layer: Layer,
        written: Layer,
        target: Any,
        frame: Frame,
        env: Mapping[str, Any],
        incoming: Ref | None,
        loops: tuple[tuple[Layer, int], ...],
    ) -> Node:
        """A layer that is there, with what it reads and gives."""

    @abstractmethod
    def node_name(self, layer: Layer, frame: Frame, env: Mapping[str, Any]) -> str:
        """What a layer is called in this copy."""

    @abstractmethod
    def register(self, node: Node, frame: Frame) -> Ref:
        """Let the body know a node; what it gives."""

    def leave_out(
        self,
        layer: Layer,
        written: Layer,
        frame: Frame,
        env: Mapping[str, Any],
        incoming: Ref | None,
        loops: tuple[tuple[Layer, int], ...],
    ) -> tuple[list[Node], Ref | None]:
        """A layer whose condition does not hold: its first input passes; a named module leaves an `nn.Identity`."""
        if layer.compute is not None:
            passed = self.caller.first_tensor(layer, frame, env)
        else:
            refs = self.references(layer, frame, env, incoming)
            passed = self.first(refs)
        if layer.name is None or layer.inline:
            return [], passed
        name = self.node_name(layer, frame, env)
        key = name if self.would_make_module(layer) else None
        node = Node(written, name, key, env, Skip({"input": passed}), {"": passed.type}, loops)
        if key is None and layer.condition is not None:
            node.other = self.otherwise(layer, written, frame, env, incoming, loops)
        return [node], self.register(node, frame)

    def otherwise(
        self,
        layer: Layer,
        written: Layer,
        frame: Frame,
        env: Mapping[str, Any],
        incoming: Ref | None,
        loops: tuple[tuple[Layer, int], ...],
    ) -> Node | None:
        """What a function or a group that is left out is where the sizes of an input are others; None where they do not
        decide, or where it can't be said at the sizes that the spec states.
        """
        outer = frame
        while outer.instance.group and outer.parent is not None:
            outer = outer.parent
        if layer.condition is None or not layer.condition.names & bound_names(outer.instance.block) or _reuses(layer):
            return None
        failed, here, silent = frame.instance.failed, self.frame, self.diagnostics.silent
        self.diagnostics.silent = True
        try:
            target = self.target(layer.type, env) if layer.type is not None else None
            found = self.node(layer, written, target, frame, env, incoming, loops)
        except Poisoned:
            return None
        finally:
            self.diagnostics.silent, self.frame, frame.instance.failed = silent, here, failed
        return found if found.key is None else None

    def would_make_module(self, layer: Layer) -> bool:
        """Whether a layer that is left out would have been a module."""
        if layer.body is not None:
            return any(self.would_make_module(inner) for inner in layer.body.layers)
        if layer.type is None or layer.use is not None:
            return False
        if not layer.type.literal:
            return True
        assert isinstance(layer.type.expr, Literal)
        name = str(layer.type.expr.value)
        entry = catalog.lookup(name)
        return name in self.spec.blocks or (entry is not None and entry.category not in ("function", "weight"))


def _reuses(layer: Layer) -> bool:
    """Whether a layer applies a module that exists already, in whatever depth."""
    return layer.use is not None or any(_reuses(inner) for inner in (layer.body.layers if layer.body else ()))
