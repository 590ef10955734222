"""Lists of tensors: what a part of one is, all of one, and tensors that are put into one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from netspec.catalog.entry import TypeLike
from netspec.diagnostics import Diagnostics, Span
from netspec.expressions import Literal
from netspec.frame import Frame, Poisoned
from netspec.order import stated_values
from netspec.origins import Opaque, Traced, trace, translate, untraced
from netspec.program import Apply, Gather, Instance, Node, Ref
from netspec.shapes import Dim, ListType, TensorType, substitute
from netspec.spec import Layer


def seen_from_outside(type_: TypeLike, inside: Instance) -> TypeLike:
    """The type of a group's member, its sizes in terms of the scope around.

    A size that depends on the copy of a loop is a number there, of which only the names are known that the group reads.
    """
    read: set[str] = set()
    copies: set[str] = set()
    for node in inside.nodes:
        for value in stated_values(node.layer):
            read |= value.names
        for layer, _ in node.loops:
            read |= {name for value in (layer.loop.values if layer.loop else ()) for name in value.names}
            copies |= set(layer.loop.names if layer.loop else ())
    known = Opaque(frozenset(read & inside.scope.keys()))
    written_out = all(not node.loops and node.layer.condition is None for node in inside.nodes)
    steady = {n: c.before for record in inside.loops for n, c in record.carried.items() if c.update is None}

    def seen(size: Any) -> Any:
        if not isinstance(size, int):
            return size
        size = translate(size, steady)
        fixed = size.names <= inside.scope.keys() - copies if isinstance(size, Traced) else written_out
        return size if fixed else trace(untraced(size), known)

    def one(tensor: TensorType) -> TensorType:
        return TensorType(tuple(map(seen, tensor.shape)), tensor.dtype)

    return one(type_) if isinstance(type_, TensorType) else type_.with_members(map(one, type_.members))


def is_list(node: Node) -> bool:
    """Whether a node is a chain or a list of branches, whose members can be read by their positions."""
    return isinstance(node.op, Apply) and node.op.instance.group and node.op.instance.block.body.kind == "list"


def part_of(owner: Ref, index: int) -> Ref | None:
    """One tensor of a list by its position, counted from the end where it is negative; None outside of it."""
    type_ = owner.type
    assert isinstance(type_, ListType)
    if type_.element is not None:
        # Its own sizes are those of one tensor, and no longer what stands for each of them.
        own = {name: Dim(f"{name}[{index}]") for name in type_.own}
        return Ref(
            owner.node, _path(owner, index), TensorType(substitute(type_.element.shape, own), type_.element.dtype)
        )
    if not -len(type_.items) <= index < len(type_.items):
        return None
    if owner.node is None or isinstance(owner.node.op, Apply):
        index %= len(type_.items)  # what torch cuts may come in another number of parts in another use of a block
    return Ref(owner.node, _path(owner, index), type_.items[index])


def _path(owner: Ref, index: int) -> str:
    """How a part of a value is called: by its position, after the name of the input or port that it is a part of."""
    return f"{owner.name}.{index}" if owner.name else str(index)


def gather(name: str, refs: Mapping[str, Ref], span: Span, frame: Frame, diagnostics: Diagnostics) -> Ref:
    """A list of these tensors, as a value of the body around."""
    for ref in refs.values():
        if isinstance(ref.type, ListType):
            diagnostics.error(
                "NS405",
                f"a list holds tensors, and one of these is a {ref.type}",
                span,
                help="name the tensors of both lists one by one, or join each first",
            )
            raise Poisoned
    types = tuple(ref.type for ref in refs.values() if isinstance(ref.type, TensorType))
    layer = Layer(name=Literal(name), span=span)
    node = Node(layer, name, None, {}, Gather(dict(refs)), {"": ListType(types)})
    frame.order.append(node)
    return Ref(node, "", node.type, tuple(refs.values()))


def all_of(
    owner: Ref, text: str, span: Span, frame: Frame, diagnostics: Diagnostics, member: Callable[[str], Ref]
) -> Ref:
    """What `x.*` names: all tensors of a list, all members of a chain, all branches. `member` reads one of them."""
    node = owner.node
    if isinstance(owner.type, ListType):
        parts = tuple(part for i in range(len(owner.type.items)) if (part := part_of(owner, i)) is not None)
        return Ref(node, owner.name, owner.type, parts)
    if (
        node is not None
        and isinstance(node.op, Apply)
        and (is_list(node) or node.op.instance.parallel)
        and node.chosen_by is None
    ):
        names = list(node.types) if node.op.instance.parallel else list(node.op.instance.by_name)
        return gather(text, {name: member(name) for name in names}, span, frame, diagnostics)
    base = text.removesuffix(".*")
    diagnostics.error(
        "NS330",
        f"`{text}` is every tensor of a list, and `{base}` gives one tensor",
        span,
        help=f"write `{base}`; lists are branches, what repeats under a name, and inputs with `list`",
    )
    raise Poisoned


def branch_outputs(instance: Instance, layer: Layer, diagnostics: Diagnostics) -> dict[str, TypeLike]:
    """Set what a group of branches gives: a list, or a port for each name. Returns the types, by port."""
    listed = instance.block.body.kind == "list"
    nodes = [node for node in instance.nodes if not node.is_weight]
    for node in nodes:
        if isinstance(node.type, ListType):
            diagnostics.error(
                "NS405",
                f"branch `{node.name}` of `{instance.block.name}` gives a {node.type}, and a branch gives one tensor",
                node.layer.span,
                help="join its tensors, or give the list a name of its own beside the branches",
            )
            raise Poisoned
    types = {node.name: seen_from_outside(node.type, instance) for node in nodes}
    instance.outputs = {node.name: Ref(node, "", node.type) for node in nodes}
    if listed:
        return {"": ListType(tuple(one for one in types.values() if isinstance(one, TensorType)))}
    if not types:
        diagnostics.error("NS109", f"`{instance.block.name}` has no branches", layer.span, help="name at least one")
        raise Poisoned
    return types
