"""The `train` section once more, when the data have been opened and their fields are known."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping as MappingABC
from dataclasses import replace
from typing import TYPE_CHECKING

from netspec.catalog.sources import FieldInfo
from netspec.diagnostics import Diagnostics
from netspec.document import Mapping
from netspec.recipe.fit_train import open_sizes
from netspec.recipe.read_train import read_train
from netspec.recipe.sections import Recipe, document_scope, elaborating, model_info, source_span
from netspec.recipe.train_values import DataInfo, Head
from netspec.shapes import Size, TensorType, substitute, symbols

if TYPE_CHECKING:
    from netspec.program import Instance
    from netspec.spec import Spec


def check_found(
    document: Mapping,
    recipe: Recipe,
    model: Instance,
    fields: MappingABC[str, FieldInfo],
    diagnostics: Diagnostics,
    split: str = "train",
    *,
    spec: Spec | None = None,
    elaborate_objective: Callable[..., Instance | None] | None = None,
) -> None:
    """Report what in `train` does not go with the fields that the data of a split turned out to have.

    `elaborate_objective` works out the graph of `train.layers` for the spec once more; without it a spec that has one
    is passed over.
    """
    node = document.items.get("train")
    if recipe.train is None or recipe.data is None:
        return
    if recipe.train.objective is not None and elaborate_objective is None:
        return
    assert isinstance(node, Mapping)
    info = model_info(model)
    sizes = open_sizes(info, recipe.train.inputs, fields)
    source = source_span(document.items.get("data"), split)
    scope = document_scope(document, diagnostics)
    read_train(
        node,
        diagnostics,
        scope,
        span=document.key_spans["train"],
        model=replace(info, outputs={name: _known(head, sizes) for name, head in info.outputs.items()}),
        data=DataInfo(splits=tuple(recipe.data.splits), fields=fields, span=source),
        elaborate=elaborating(elaborate_objective, spec, model, diagnostics, scope) if elaborate_objective else None,
    )


def _known(head: Head, sizes: MappingABC[str, Size]) -> Head:
    """An output at those sizes; of unknown type where one other than the batch stays open."""
    if head.type is None:
        return head
    shape = substitute(head.type.shape, sizes)
    return replace(head, type=None if symbols(shape[1:]) else TensorType(shape, head.type.dtype))
