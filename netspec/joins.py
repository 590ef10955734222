"""Uses of a block with `inline`: its layers join the body around them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from netspec.diagnostics import Diagnostics, Label
from netspec.expressions import Expr, Literal, Name
from netspec.frame import Frame, Poisoned
from netspec.inlining import joined
from netspec.instances import UNNAMED, Instances
from netspec.origins import Opaque, origin_of, untraced
from netspec.patterns import align, bind
from netspec.program import Node, Ref
from netspec.shapes import Dim, Problem, TensorType
from netspec.spec import Block, Body, Layer, Spec

if TYPE_CHECKING:
    from netspec.calls import Caller


class Joins(Instances):
    """The part of the elaboration that joins blocks to the body around them."""

    caller: Caller

    def __init__(self, spec: Spec, diagnostics: Diagnostics) -> None:
        super().__init__(spec, diagnostics)
        self.bodies: dict[Any, tuple[Layer, Body]] = {}

    def join(
        self,
        target: Any,
        layer: Layer,
        frame: Frame,
        env: Mapping[str, Any],
        incoming: Ref | None,
        loops: tuple[tuple[Layer, int], ...],
    ) -> tuple[list[Node], Ref | None]:
        """The layers of a block as those of the body that uses it, and what the block gives."""
        kind = frame.instance.block.body.kind
        if not isinstance(target, Block) or target.initialize or layer.initialize or target in self.using:
            self.refuse(target, layer)
        elif target.body.kind != kind:
            self.diagnostics.error(
                "NS345",
                f"`{target.name}` is a {target.body.kind} of layers, and cannot join a {kind}",
                layer.span,
                labels=[Label(target.body.span, "its layers")],
                help="a list joins a list, a mapping a mapping; or leave `inline` out",
            )
            raise Poisoned
        ports = self.caller.block_inputs(target, layer, self.references(layer, frame, env, incoming), target.name)
        values = {name: a.value for name, a in self.caller.block_arguments(target, layer, env).items()}
        for param in target.params.values():
            if param.name not in values and param.default is not None:
                values[param.name] = self.argument(param.default, values).value
            if param.name in values:
                self.caller.check_word(param.word, param.name, values[param.name], layer, target)
        sizes = self.sizes_of(target, layer, ports, values, frame)
        key = (id(layer), tuple(sizes.items()))
        body = self.bodies.setdefault(key, (layer, joined(target, layer.arguments, sizes)))[1]
        found = frame.instance.joined.setdefault(id(layer), [])
        if all(one is not body for one in found):
            found.append(body)
        outside = {port: frame.names.pop(port) for port in ports if port in frame.names}
        frame.names.update(ports)
        self.using.append(target)
        try:
            nodes, last = self.body(body, frame, env, next(iter(ports.values())), loops)
            if target.outputs is not None:
                last = next(iter(self.all_of(target.outputs, lambda v: self.resolve(v, frame, env)).values()))
        finally:
            self.using.pop()
            for port in ports:
                del frame.names[port]
            frame.names.update(outside)
        return nodes, last

    def refuse(self, target: Any, layer: Layer) -> None:
        message, help = "`inline` joins the layers of a block, and this is none", "leave `inline` out"
        labels: list[Label] = []
        if isinstance(target, Block) and target in self.using:
            message, help = f"block `{target.name}` contains itself", "repeat a block with `for` or `repeat`"
        elif isinstance(target, Block):
            rules = target.initialize or layer.initialize
            message = f"`initialize` speaks of a module, and `inline` makes none of `{target.name}`"
            help = "write the rules on the layers themselves, or in the block around them"
            labels = [Label(rules[0].span, "these rules")]
        self.diagnostics.error("NS345", message, layer.span, labels=labels, help=help)
        raise Poisoned

    def sizes_of(
        self, block: Block, layer: Layer, ports: Mapping[str, Ref], values: dict[str, Any], frame: Frame
    ) -> dict[str, Expr]:
        """What the sizes that a block's inputs bind are in the body around it."""
        found: dict[str, Expr] = {}
        scope = {name: untraced(value) for name, value in values.items()}
        for pattern in block.inputs or (UNNAMED,):
            ref = ports[pattern.name]
            bound = bind(pattern, ref.type, scope, lambda dim: self.dim(dim, values))
            if isinstance(bound, Problem):
                self.diagnostics.error(
                    bound.code,
                    bound.message,
                    layer.span,
                    labels=[Label(pattern.span, f"`{pattern.name}` of `{block.name}`"), *self.caller.labels(ref)],
                    help=bound.help or f"give `{block.name}` another tensor, or change its `inputs`",
                )
                raise Poisoned
            if not isinstance(ref.type, TensorType) or pattern.shape is None:
                continue
            for dim, size in zip(align(pattern.shape, len(ref.type.shape)) or (), ref.type.shape, strict=True):
                if dim is not None and dim.kind in ("symbol", "multiple"):
                    size = size // dim.factor if dim.factor > 1 else size
                    found.setdefault(dim.symbol, self.size_expr(size, frame))
        return found

    def size_expr(self, size: Any, frame: Frame) -> Expr:
        if isinstance(size, Dim):
            names = (name for name, value in frame.instance.scope.items() if value == size and isinstance(value, Dim))
            return Name(next(names, "?"))
        origin = origin_of(size)
        return Literal(int(size)) if isinstance(origin, Opaque) else origin
