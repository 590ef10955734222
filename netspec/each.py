"""One module applied to every tensor of a list: what its uses have in common, and what they give together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from netspec.call_parts import weights
from netspec.calls import differing
from netspec.catalog.entry import TypeLike
from netspec.diagnostics import Diagnostics, Label
from netspec.frame import Poisoned
from netspec.origins import untraced
from netspec.program import Apply, Call, Ref
from netspec.shapes import ListType, TensorType
from netspec.spec import Layer

Made = tuple[Any, dict[str, TypeLike]]
"""An operation and what it gives, by port."""


def over_list(
    layer: Layer, refs: tuple[Ref, ...], name: str, make: Callable[[Ref], Made], diagnostics: Diagnostics
) -> Made:
    """The operation of a layer with `each`: the one for the first tensor, which is known to serve the others too."""
    (listed,) = refs
    assert isinstance(layer.inputs, tuple | None)
    span = layer.inputs[0].span if layer.inputs else layer.span
    if not isinstance(listed.type, ListType):
        diagnostics.error(
            "NS330",
            f"`each` takes a list of tensors, and this is one: {listed.type}",
            span,
            help="write `from` in place of `each`; lists are branches, `x.*` of what repeats, and inputs with `list`",
        )
        raise Poisoned
    if not listed.type.members:
        diagnostics.error("NS330", f"`{name}` is applied to an empty list", span, help="leave the layer out")
        raise Poisoned
    made = [make(Ref(listed.node, listed.name, member)) for member in listed.type.members]
    op = made[0][0]
    if isinstance(op, Apply) and op.instance.group and (not op.instance.has_modules or op.instance.container):
        diagnostics.error(
            "NS330",
            f"`{name}`: `each` applies one module, and these layers are none",
            layer.span,
            help="write them as a block, and give `each` with its name as `type`",
        )
        raise Poisoned
    given: list[TensorType] = []
    for _, types in made:
        (first, *others) = types.values()
        if others or isinstance(first, ListType):
            diagnostics.error(
                "NS330",
                f"`{name}`: `each` makes a list of what a layer gives, and this one gives "
                f"{f'{len(types)} outputs' if others else 'a list'}",
                layer.span,
                help="let it be a block with one tensor as its output",
            )
            raise Poisoned
        given.append(first)
    for other, _ in made[1:]:
        _same_weights(op, other, layer, name, diagnostics)
    if isinstance(op, Apply):
        op.others = tuple(other.instance for other, _ in made[1:])
    return op, {"": listed.type.with_members(given)}


def _same_weights(first: Any, other: Any, layer: Layer, name: str, diagnostics: Diagnostics) -> None:
    pairs: list[tuple[str, Any, Any]] = []
    if isinstance(first, Call) and first.entry.category != "function":
        pairs = [(k, a.value, other.arguments[k].value) for k, a in first.arguments.items() if a.inferred]
        pairs += differing(first.arguments, other.arguments)
    elif isinstance(first, Apply):
        both = zip(weights(first.instance), weights(other.instance), strict=True)
        pairs = [(path, a, b) for (path, a), (_, b) in both]
    for what, a, b in pairs:
        if untraced(a) != untraced(b):
            diagnostics.error(
                "NS413",
                f"`{name}` is one module for all tensors of the list, and they need several: "
                f"{what} is {untraced(a)} for the first and {untraced(b)} for another",
                layer.span,
                labels=[Label(layer.inputs[0].span, "the list")] if isinstance(layer.inputs, tuple) else [],
                help="give each its own: `branches: [{for: {i: 4}, from: features.$i, type: …}]`",
            )
            raise Poisoned
