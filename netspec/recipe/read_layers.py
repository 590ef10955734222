"""`train.layers`: what the objective reads of the batch, and what of it the rest of the section refers to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from netspec.catalog import lookup
from netspec.catalog.constant_targets import PORT
from netspec.catalog.losses_classes import BALANCED, weighs_classes
from netspec.diagnostics import Diagnostics
from netspec.document import Mapping as MappingNode
from netspec.document import Node as DocumentNode
from netspec.document import Scalar, Sequence
from netspec.expressions import Literal, parse_compute, tensors
from netspec.origins import untraced
from netspec.program import Call, Instance, Ref, Reuse
from netspec.recipe.train import Loss, Reference
from netspec.recipe.train_values import ModelInfo, settled, without
from netspec.shapes import UNKNOWN, Size, TensorType
from netspec.spec import Dim, Input

if TYPE_CHECKING:
    from collections.abc import Mapping

    from netspec.catalog.sources import FieldInfo
    from netspec.diagnostics import Span

MODEL = "model"
"""What `use` calls the model."""
Elaborate = Callable[[DocumentNode, tuple[Input, ...], "Span"], Instance | None]
"""Works out a graph over the model and the fields of a batch, or reports what is wrong with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """A stated objective: its layers, the field that each input of the model takes, its losses."""

    instance: Instance
    inputs: Mapping[str, str]
    losses: tuple[Loss, ...]
    spans: Mapping[str, Span]
    """Where each loss stands."""


def batch_fields(
    model: ModelInfo,
    fields: Mapping[str, FieldInfo] | None,
    inputs: Mapping[str, str],
    span: Span,
    named: Iterable[str] = (),
) -> tuple[Input, ...]:
    """The fields with their shapes in a batch, whose size is `N`.

    What a source can't tell is what the model's input says that takes the field; one of which nothing is known has no
    shape. `named` are the names that may be fields where the data tell of none.
    """
    wanted = {field: model.inputs.get(port) for port, field in inputs.items()}
    found = []
    for name in dict.fromkeys([*(fields or ()), *wanted, *(named if fields is None else ())]):
        info, type_ = (fields or {}).get(name), wanted.get(name)
        shape: tuple[Size | None, ...] | None = info.shape if info is not None else None
        dtype = info.dtype if info is not None and info.dtype != "any" else ""
        if type_ is not None:
            inner = type_.shape[1:]
            if shape is None:
                shape = inner
            elif len(shape) == len(inner):
                shape = tuple(b if a is None else a for a, b in zip(shape, inner, strict=True))
            dtype = dtype or type_.dtype
        if shape is None or not dtype:
            found.append(Input(name=name, span=span))
            continue
        dims = [Dim(kind="symbol", span=span, symbol="N"), *(_dim(size, span) for size in shape)]
        found.append(Input(name=name, span=span, shape=tuple(dims), dtype=dtype))
    return tuple(found)


def named_tensors(layers: DocumentNode) -> Iterator[str]:
    """The names that layers read and none of them bears."""
    own = set(layers.items) if isinstance(layers, MappingNode) else set()
    for name in _named(layers):
        if name.partition(".")[0] not in own and name != "previous" and name.isidentifier():
            yield name


def _named(node: DocumentNode) -> Iterator[str]:
    if isinstance(node, Sequence):
        for item in node.items:
            yield from _named(item)
    if not isinstance(node, MappingNode):
        return
    for key, item in node.items.items():
        if key == "from":
            yield from _texts(item)
        elif key in ("compute", "mask") and isinstance(item, Scalar):
            names = (tensor.name for tensor in tensors(parse_compute(item, Diagnostics(), paths=True)))
            yield from (name for name in names if isinstance(name, str))
        else:
            yield from _named(item)


def _texts(node: DocumentNode) -> Iterator[str]:
    if isinstance(node, Scalar):
        yield str(node.value)
    else:
        for item in node.items.values() if isinstance(node, MappingNode) else node.items:
            yield from _texts(item)


def without_balance(layers: DocumentNode) -> tuple[DocumentNode, frozenset[Span]]:
    """The layers without `weight: balanced`, whose numbers no graph knows before the data are read; and the places of
    the losses that said so."""
    found: set[Span] = set()

    def plain(node: DocumentNode, place: Span) -> DocumentNode:
        if not isinstance(node, MappingNode):
            return node
        type_, weight = node.items.get("type"), node.items.get("weight")
        if not isinstance(type_, Scalar) or not isinstance(weight, Scalar) or weight.value != BALANCED:
            return node
        entry = lookup(str(type_.value), "loss")
        if entry is None or not weighs_classes(entry):
            return node
        found.add(place)
        return without(node, "weight")

    if isinstance(layers, MappingNode):
        items = {name: plain(node, layers.key_spans[name]) for name, node in layers.items.items()}
        layers = MappingNode(items, layers.key_spans, layers.span)
    return layers, frozenset(found)


def _dim(size: Size | None, span: Span) -> Dim:
    if isinstance(size, int):
        return Dim(kind="value", span=span, expr=Literal(int(size)))
    name = str(size) if size is not None else ""
    return Dim(kind="symbol", span=span, symbol=name) if name.isidentifier() else Dim(kind="any", span=span)


def read_graph(instance: Instance, model: ModelInfo, balanced: frozenset[Span] = frozenset()) -> Graph:
    """What an elaborated objective says about the model's inputs and the losses in it; those at `balanced` weigh their
    classes by how often they occur."""
    inputs: dict[str, str] = {}
    for node in instance.order:
        if isinstance(node.op, Reuse) and node.op.target.key == MODEL:
            for port, ref in node.op.inputs.items():
                if isinstance(ref, Ref) and ref.node is None:
                    inputs.setdefault(port, ref.name)
    return Graph(
        instance=instance,
        inputs=inputs,
        losses=tuple(_losses(instance, model, balanced)),
        spans={node.name: node.layer.span for node in instance.order},
    )


def _losses(instance: Instance, model: ModelInfo, balanced: frozenset[Span]) -> Iterator[Loss]:
    for node in instance.order:
        if isinstance(node.op, Call) and node.op.entry.category == "loss":
            constant = PORT in node.layer.arguments
            refs = [r for port, r in node.op.inputs.items() if isinstance(r, Ref) and not (constant and port == PORT)]
            arguments = settled({name: untraced(given.value) for name, given in node.op.arguments.items()})
            yield Loss(
                name=node.name,
                type=node.op.entry.name,
                target=node.op.entry.target,
                arguments={**arguments, **({"weight": BALANCED} if node.layer.span in balanced else {})},
                inputs=tuple(_reference(ref, model) for ref in refs),
                constant=constant_of(node.op) if constant else None,
            )


def constant_of(call: Call) -> float | None:
    """The number that is the target of all samples."""
    target = call.inputs.get(PORT)
    op = target.node.op if isinstance(target, Ref) and target.node is not None else None
    return float(untraced(op.arguments["fill_value"].value)) if isinstance(op, Call) else None


def _reference(ref: Ref, model: ModelInfo) -> Reference:
    """What a loss takes, as the section's other parts may name it."""
    if ref.node is None:
        return Reference(kind="field", name=ref.name)
    if isinstance(ref.node.op, Reuse) and ref.node.op.target.key == MODEL:
        return Reference(kind="output", name=ref.name or next(iter(model.outputs)))
    return Reference(kind="layer", name=f"{ref.node.name}.{ref.name}" if ref.name else ref.node.name)


def layer_type(instance: Instance, name: str) -> TensorType | None:
    """What a layer of the objective gives, or one of its outputs (`found.logits`)."""
    layer, _, port = name.partition(".")
    node = instance.by_name.get(layer)
    found = node.types.get(port, node.type if not port else None) if node is not None else None
    return found if isinstance(found, TensorType) and found != UNKNOWN else None
