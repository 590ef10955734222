"""Several models of one document: one instance that holds them."""

from __future__ import annotations

from dataclasses import replace

from netspec.diagnostics import Diagnostics, Span
from netspec.elaborate import elaborate
from netspec.expressions import Literal
from netspec.program import Apply, Instance, Node, Ref
from netspec.spec import Block, Body, Layer, Spec
from netspec.unused import check_unused


def elaborate_models(spec: Spec, diagnostics: Diagnostics, broken: tuple[Span, ...] = ()) -> Instance | None:
    """The model of a spec, or its several models as the layers of one instance that holds them, and runs none.

    Blocks that no model uses are looked at as well.
    """
    met: list[Block] = []
    model = _several(spec, diagnostics, broken, met) if spec.models else elaborate(spec, diagnostics, broken, met)
    if not broken:
        check_unused(spec, met, diagnostics)
    return model


def _several(spec: Spec, diagnostics: Diagnostics, broken: tuple[Span, ...], met: list[Block]) -> Instance:
    """One instance that holds several models."""
    span = next(iter(spec.models.values())).span
    layers = tuple(Layer(name=Literal(name), span=block.span) for name, block in spec.models.items())
    around = Block(
        name=spec.name,
        span=span,
        params={},
        inputs=(),
        let={},
        body=Body(kind="mapping", layers=layers, span=span),
        description=spec.description,
    )
    whole = Instance(block=around, group=False, scope={}, inputs={})
    for layer, (name, block) in zip(layers, spec.models.items(), strict=True):
        model = elaborate(replace(spec, model=block, models={}), diagnostics, broken, met)
        assert model is not None
        whole.failed = whole.failed or model.failed
        inputs = {port: Ref(None, f"{name}.{port}", type_) for port, type_ in model.inputs.items()}
        types = {output: ref.type for output, ref in model.outputs.items()}
        node = Node(layer, name, name, {}, Apply(model, {}, inputs), types)
        whole.inputs.update({ref.name: ref.type for ref in inputs.values()})
        for output, ref in model.outputs.items():
            whole.outputs[f"{name}.{output}" if output else name] = Ref(node, output, ref.type)
        whole.nodes.append(node)
    whole.order = list(whole.nodes)
    return whole
