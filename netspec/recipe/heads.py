"""Which layer an output of the model comes from: the last one, and the one whose values it holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from netspec.program import Apply, Call, Reuse, Skip
from netspec.recipe.train_values import Head
from netspec.shapes import TensorType

if TYPE_CHECKING:
    from netspec.diagnostics import Span
    from netspec.program import Node, Ref

KEEPING: Final = frozenset(
    (
        "Flatten",
        "Identity",
        "Unflatten",
        "flatten",
        "movedim",
        "permute",
        "reshape",
        "squeeze",
        "swapaxes",
        "transpose",
        "unflatten",
        "unsqueeze",
        "view",
    )
)
"""Layers that give the values that they get, in another shape or order at most."""


def head(ref: Ref) -> Head:
    """An output, followed into the block that gives it down to the catalog layer."""
    found: TensorType | None = ref.type if isinstance(ref.type, TensorType) else None
    giver = origin(ref)
    gives = giver.op.entry.name if giver is not None and isinstance(giver.op, Call) else None
    made = giver.layer.span if giver is not None else None
    node = ref.node
    span: Span | None = None
    while node is not None:
        span = node.layer.span
        op = node.op.target.op if isinstance(node.op, Reuse) else node.op
        if isinstance(op, Call):
            width = next(
                (
                    value.span
                    for name, value in node.layer.arguments.items()
                    if name in ("out_features", "out_channels") and value.span is not None
                ),
                None,
            )
            return Head(type=found, layer=op.entry.name, span=span, width=width, gives=gives, made=made)
        if not isinstance(op, Apply) or len(op.instance.outputs) != 1:
            break
        (inner,) = op.instance.outputs.values()
        node = inner.node
    return Head(type=found, span=span, gives=gives, made=made)


def origin(ref: Ref | None) -> Node | None:
    """The catalog layer whose values a tensor holds: layers that keep them, and blocks, are looked through.

    A module that is applied again is told by where it was made. None for inputs, and for what arithmetic gives.
    """
    around: list[Mapping[str, Ref | tuple[Ref, ...]]] = []
    while ref is not None:
        node = ref.node
        if node is None:
            ref = _one(around.pop().get(ref.name)) if around else None
            continue
        target, inputs = node, getattr(node.op, "inputs", {})
        if isinstance(node.op, Reuse):
            target = node.op.target
        op = target.op
        if isinstance(op, Skip) or (isinstance(op, Call) and op.entry.name in KEEPING):
            ref = _one(next(iter(inputs.values()), None))
        elif isinstance(op, Apply) and op.instance.outputs:
            around.append(inputs)
            outputs = op.instance.outputs
            ref = outputs.get(ref.name) or next(iter(outputs.values()))
        else:
            return target if isinstance(op, Call) else None
    return None


def _one(value: Ref | tuple[Ref, ...] | None) -> Ref | None:
    return None if isinstance(value, tuple) else value
