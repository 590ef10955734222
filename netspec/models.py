"""The models and blocks of a document, read into the dataclasses of `netspec.spec`."""

from __future__ import annotations

from dataclasses import replace

from netspec.diagnostics import Diagnostics
from netspec.document import Mapping, Scalar
from netspec.expressions import Expr, substitute
from netspec.spec import Block, Param, Reader, Spec, Value


def read_spec(document: Mapping, diagnostics: Diagnostics) -> Spec:
    """The models and blocks of a document that the schema has approved."""
    reader = Reader(diagnostics)
    items = document.items
    name, description = items.get("name"), items.get("description")
    title = str(name.value) if isinstance(name, Scalar) else "model"
    blocks_node = items.get("blocks")
    blocks: dict[str, Block] = {}
    if isinstance(blocks_node, Mapping):
        for key, node in blocks_node.items.items():
            assert isinstance(node, Mapping)
            blocks[key] = reader.block(key, blocks_node.key_spans[key], node)
    model_node, models_node = items.get("model"), items.get("models")
    params = items.get("params")
    model = None
    models: dict[str, Block] = {}
    for key, node in models_node.items.items() if isinstance(models_node, Mapping) else ():
        assert isinstance(node, Mapping) and isinstance(models_node, Mapping)
        shared = reader.params(params)
        own = reader.params(node.items.get("params"))
        read = reader.block(key, models_node.key_spans[key], node)
        models[key] = replace(read, params={**shared, **_in_terms_of(shared, own)})
    if isinstance(model_node, Mapping):
        model = reader.block(
            title, document.key_spans["model"], model_node, params if isinstance(params, Mapping) else None
        )
    return Spec(
        name=title,
        description=str(description.value) if isinstance(description, Scalar) else "",
        model=model,
        blocks=blocks,
        models=models,
    )


def _in_terms_of(shared: dict[str, Param], own: dict[str, Param]) -> dict[str, Param]:
    """A model's own parameters, whose values are read in the document: `classes: $classes` is the document's."""
    known: dict[str, Expr] = {}
    for name, param in shared.items():
        if param.default is not None and param.default.layer is None:
            known[name] = substitute(param.default.expr, known)
    found = {}
    for name, param in own.items():
        default = param.default
        if default is not None and default.names & shared.keys():
            default = Value(expr=substitute(default.expr, known), span=default.span, scalar=default.scalar)
        found[name] = replace(param, default=default)
    return found
