"""Losses of an objective: a target that is one number, the rows that a mask chooses, fields of unknown shape.

A number becomes a tensor of its own right before the loss, and a mask a tensor of truth values; both are layers of the
objective that nobody wrote.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, NoReturn

from netspec.call_parts import Refs, spread
from netspec.catalog import lookup
from netspec.catalog.constant_targets import BY_ROW, CLASSES, PORT, constant_target, takes_constant
from netspec.catalog.entry import Entry, Inferred, TypeLike
from netspec.diagnostics import Span
from netspec.document import Scalar
from netspec.expressions import Literal, parse_compute
from netspec.frame import Frame, Poisoned
from netspec.model_calls import ModelCaller, Ports
from netspec.program import Argument, Arithmetic, Call, Node, Ref
from netspec.shapes import UNKNOWN, Dim, Problem, TensorType
from netspec.spec import Layer, Value

OF_LOSSES: Final = ("mask", PORT)
"""What stands on a loss beside its arguments."""


class LossCaller(ModelCaller):
    """Makes the calls of losses. Methods raise Poisoned after a report."""

    @abstractmethod
    def call(
        self, entry: Entry, layer: Layer, preset: Mapping[str, Argument], env: Mapping[str, Any], refs: Refs, name: str
    ) -> tuple[Call, dict[str, TypeLike]]:
        """The call of a catalog entry, and what it gives."""

    @abstractmethod
    def arithmetic(
        self, layer: Layer, frame: Frame, env: Mapping[str, Any], name: str
    ) -> tuple[Arithmetic, dict[str, TypeLike]]:
        """What a `compute` does, and what it gives."""

    def loss(
        self, entry: Entry, layer: Layer, refs: Refs, env: Mapping[str, Any], name: str
    ) -> tuple[Layer, Refs, Ref | None]:
        """The loss without `mask` and `target`, its inputs with the target among them, and the mask."""
        beside = {key: layer.arguments[key] for key in OF_LOSSES if key in layer.arguments}
        bare = replace(layer, arguments={k: v for k, v in layer.arguments.items() if k not in beside})
        if not self.elaborator.objective:
            for key in beside:
                self.diagnostics.error(
                    "NS106",
                    f"`{entry.name}` has no argument `{key}`",
                    layer.argument_spans[key],
                    help=f"`{key}` belongs to the losses under `train`",
                )
                raise Poisoned
        if PORT in beside:
            refs = self.with_constant(entry, layer, refs, env, name, beside[PORT])
        mask = self.mask(layer, beside["mask"], env, name) if "mask" in beside else None
        return bare, refs, mask

    # A target that is one number

    def with_constant(
        self, entry: Entry, layer: Layer, refs: Refs, env: Mapping[str, Any], name: str, value: Value
    ) -> Refs:
        if not takes_constant(entry):
            self.refuse(f"`{name}`: {entry.name} has no target that one number could say", layer.argument_spans[PORT])
        others = [port.name for port in entry.inputs if port.name != PORT]
        given = refs if isinstance(refs, dict) else dict(zip(others, spread(refs), strict=False))
        if PORT in given:
            self.refuse(
                f"`{name}` has a target in `from` and one in `target`",
                layer.argument_spans[PORT],
                help="leave out one of them",
            )
        if not given or (not isinstance(refs, dict) and len(spread(refs)) > len(others)):
            self.refuse(
                f"`{name}`: with `target`, {entry.name} takes {', '.join(f'`{o}`' for o in others)} alone",
                layer.span,
                help="name these in `from`, in this order",
            )
        number = self.elaborator.argument(value, env).value
        first = next(iter(given.values()))
        type_ = first.type if isinstance(first.type, TensorType) and first.type != UNKNOWN else None
        if type_ is None:
            self.refuse(f"`{name}`: the shape of its target is that of its first input, which is not known", layer.span)
        wanted = constant_target(entry, number, type_)
        if isinstance(wanted, Problem):
            self.refuse(f"`{name}`: {wanted.message}", value.span, help=wanted.help)
        assert wanted is not None
        if entry.name in BY_ROW:
            row = parse_compute(Scalar(value="x[:, 0]", span=value.span), self.diagnostics)
            first = self.add(
                f"{name}_row", value.span, env, Arithmetic(row, {"x": first}), TensorType(wanted.shape, type_.dtype)
            )
        full = lookup("full_like")
        assert full is not None
        whole = entry.name in CLASSES
        said = {
            "fill_value": Value(expr=Literal(int(number) if whole else float(number)), span=value.span),
            **({"dtype": Value(expr=Literal(wanted.dtype), span=value.span)} if whole else {}),
        }
        op, types = self.call(full, Layer(name=None, span=value.span, arguments=said), {}, env, (first,), name)
        return {**given, PORT: self.add(f"{name}_target", value.span, env, op, next(iter(types.values())))}

    # The rows that count

    def mask(self, layer: Layer, value: Value, env: Mapping[str, Any], name: str) -> Ref:
        assert self.elaborator.frame is not None
        scalar = value.scalar
        if scalar is None or not isinstance(scalar.value, str):
            self.refuse(f"`{name}`: `mask` names a tensor of truth values, or compares one", value.span)
        expr = parse_compute(scalar, self.diagnostics, paths=True)
        compute = Value(expr=expr, span=value.span, scalar=scalar)
        op, types = self.arithmetic(
            Layer(name=None, span=layer.span, compute=compute), self.elaborator.frame, env, f"{name}: mask"
        )
        type_ = types[""]
        if type_ != UNKNOWN and isinstance(type_, TensorType) and type_.dtype != "bool":
            self.refuse(
                f"`{name}`: a mask is made of truth values, and this is {type_.dtype} {type_}",
                value.span,
                help=f"compare it, as in `mask: {scalar.value} > 0`",
                code="NS552",
            )
        return self.add(f"{name}_mask", value.span, env, op, type_)

    def of_rows(self, layer: Layer, ports: Ports, mask: Ref, name: str) -> dict[str, TypeLike]:
        """The types of a loss's inputs where the mask is true."""
        rows = mask.type
        assert isinstance(rows, TensorType) and mask.node is not None
        found: dict[str, TypeLike] = {}
        for port, ref in ports.items():
            assert isinstance(ref, Ref)
            type_ = ref.type
            if type_ == UNKNOWN or rows == UNKNOWN or not isinstance(type_, TensorType):
                found[port] = UNKNOWN
                continue
            depth = len(rows.shape)
            if not depth or type_.shape[:depth] != rows.shape:
                self.refuse(
                    f"`{name}`: the mask is {rows}, and `{port}` is {type_}",
                    mask.node.layer.span,
                    help="a mask has the first sizes of all that the loss takes, such as [N]",
                    code="NS552",
                )
            found[port] = TensorType((Dim(f"{name}_rows"), *type_.shape[depth:]), type_.dtype)
        return found

    # Fields of which nothing is known

    def known(self, refs: Refs | tuple[Ref, ...], layer: Layer, name: str) -> None:
        """Refuse what reads a field whose shape is not known."""
        for ref in refs.values() if isinstance(refs, dict) else refs:
            if ref.type == UNKNOWN:
                what = f"the field `{ref.name}`" if ref.node is None else f"`{ref.node.name}`"
                self.refuse(
                    f"`{name}` needs the shape of {what}, which the data do not tell before they are read",
                    layer.span,
                    help="losses, masks and the model take such a field as it is; for more, let an input of the model "
                    "bear its name",
                    code="NS565",
                )

    def of_unknown(self, entry: Entry, stated: Mapping[str, Any], types: Mapping[str, Any]) -> Inferred | None:
        """What a loss gives where one of its inputs is not known: one number, unless it does not reduce."""
        if not any(type_ == UNKNOWN for type_ in types.values()):
            return None
        first = next((t for t in types.values() if isinstance(t, TensorType) and t != UNKNOWN), None)
        if stated.get("reduction") == "none":
            return Inferred(outputs={"output": UNKNOWN})
        return Inferred(outputs={"output": TensorType((), first.dtype if first is not None else "float32")})

    # Both

    def add(self, name: str, span: Span, env: Mapping[str, Any], op: Any, type_: TypeLike) -> Ref:
        """A layer that stands before the one that is worked out."""
        assert self.elaborator.frame is not None
        node = Node(Layer(name=Literal(name), span=span), name, None, env, op, {"": type_})
        self.elaborator.frame.order.append(node)
        return Ref(node, "", type_)

    def refuse(self, message: str, span: Span, help: str | None = None, code: str = "NS566") -> NoReturn:
        self.diagnostics.error(code, message, span, help=help)
        raise Poisoned
