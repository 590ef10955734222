"""`train.layers`: what the objective reads of the batch, and what of it the rest of the section refers to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from netspec.document import Node as DocumentNode
from netspec.expressions import Literal
from netspec.origins import untraced
from netspec.program import Call, Instance, Ref, Reuse
from netspec.recipe.train import Loss, Reference
from netspec.recipe.train_values import ModelInfo, settled
from netspec.shapes import Size, TensorType
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
    model: ModelInfo, fields: Mapping[str, FieldInfo] | None, inputs: Mapping[str, str], span: Span
) -> tuple[Input, ...]:
    """The fields with their shapes in a batch, whose size is `N`.

    What a source can't tell is what the model's input says that takes the field; a field of which nothing is known is
    left out.
    """
    wanted = {field: model.inputs.get(port) for port, field in inputs.items()}
    found = []
    for name in dict.fromkeys([*(fields or ()), *wanted]):
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
            continue
        dims = [Dim(kind="symbol", span=span, symbol="N"), *(_dim(size, span) for size in shape)]
        found.append(Input(name=name, span=span, shape=tuple(dims), dtype=dtype))
    return tuple(found)


def _dim(size: Size | None, span: Span) -> Dim:
    if isinstance(size, int):
        return Dim(kind="value", span=span, expr=Literal(int(size)))
    name = str(size) if size is not None else ""
    return Dim(kind="symbol", span=span, symbol=name) if name.isidentifier() else Dim(kind="any", span=span)


def read_graph(instance: Instance, model: ModelInfo) -> Graph:
    """What an elaborated objective says about the model's inputs and the losses in it."""
    inputs: dict[str, str] = {}
    for node in instance.order:
        if isinstance(node.op, Reuse) and node.op.target.key == MODEL:
            for port, ref in node.op.inputs.items():
                if isinstance(ref, Ref) and ref.node is None:
                    inputs.setdefault(port, ref.name)
    return Graph(
        instance=instance,
        inputs=inputs,
        losses=tuple(_losses(instance, model)),
        spans={node.name: node.layer.span for node in instance.order},
    )


def _losses(instance: Instance, model: ModelInfo) -> Iterator[Loss]:
    for node in instance.order:
        if isinstance(node.op, Call) and node.op.entry.category == "loss":
            refs = [ref for ref in node.op.inputs.values() if isinstance(ref, Ref)]
            yield Loss(
                name=node.name,
                type=node.op.entry.name,
                target=node.op.entry.target,
                arguments=settled({name: untraced(given.value) for name, given in node.op.arguments.items()}),
                inputs=tuple(_reference(ref, model) for ref in refs),
            )


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
    return found if isinstance(found, TensorType) else None
