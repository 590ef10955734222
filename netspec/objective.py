"""`train.layers`: the objective of a training, written in the layer language and elaborated like the body of a block.

Its inputs are the fields of a batch. The models stand beside them as modules that exist already, so that
`{use: model, from: image}` applies one, with its shapes checked against what the batch holds. The last layer is what is
minimised.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from netspec.diagnostics import Diagnostics, Label, Span
from netspec.document import Node as DocumentNode
from netspec.elaborate import Elaborator
from netspec.expressions import Literal
from netspec.frame import Poisoned, TooLarge
from netspec.patterns import bind, declare
from netspec.program import Apply, Instance, Node, Ref, Reuse, parameters
from netspec.shapes import UNKNOWN, Dim, Problem, TensorType
from netspec.spec import Block, Input, Layer, Reader, Spec

FLOATING: Final = ("float", "bfloat")


def elaborate_objective(
    spec: Spec,
    models: Mapping[str, Instance],
    layers: DocumentNode,
    fields: tuple[Input, ...],
    diagnostics: Diagnostics,
    span: Span,
    sections: Mapping[str, object] | None = None,
) -> Instance | None:
    """The graph that `layers` states over the models and the fields of a batch, or None after a report.

    models: by the names that `use` knows them by. fields: with their shapes, the batch's size first; one without a
    shape is one of which the data tell nothing. span: where the key stands. sections: of the document, for expressions
    such as `$(train.epochs)`. The instance's inputs are the fields that it reads.
    """
    elaborator = Elaborator(spec, diagnostics)
    elaborator.objective = True
    # What was said of a model when it was worked out by itself is not said again where it is used.
    elaborator.diagnostics.known |= {(found.code, found.span) for found in diagnostics if found.span is not None}
    body = Reader(diagnostics, paths=True).body(layers)
    block = Block(name="objective", span=span, params={}, inputs=fields, let={}, body=body)
    scope = {name: value for model in models.values() for name, value in _values(model).items()}
    scope = {**(sections or {}), **scope}
    instance = Instance(block=block, group=False, scope=scope, inputs={})
    made = {
        name: Node(
            Layer(name=Literal(name), span=model.block.span),
            name,
            name,
            {},
            Apply(model, {}, {}),
            {output: ref.type for output, ref in model.outputs.items()},
        )
        for name, model in models.items()
    }
    try:
        for field in fields:
            if field.shape is None:
                instance.inputs[field.name] = UNKNOWN
                scope.setdefault("N", Dim("N"))  # of a batch that much is known
                continue
            given = declare(field, lambda dim: elaborator.dim(dim, scope))
            bound = bind(field, given, scope, lambda dim: elaborator.dim(dim, scope))
            assert not isinstance(bound, Problem)
            instance.inputs[field.name] = given
        elaborator.fill(instance, made)
    except (Poisoned, TooLarge):
        instance.failed = True
    finally:
        del elaborator.caller
    if instance.failed:
        return None
    read = {ref.name for node in instance.order for ref in node.inputs if ref.node is None}
    instance.inputs = {name: type_ for name, type_ in instance.inputs.items() if name in read}
    return instance if _is_sound(instance, made, diagnostics, span) else None


def _values(model: Instance) -> dict[str, object]:
    """A model's parameters, which the objective may name as the model does."""
    return {name: model.scope[name] for name in model.block.params if name in model.scope}


def _is_sound(instance: Instance, made: Mapping[str, Node], diagnostics: Diagnostics, span: Span) -> bool:
    """Whether it ends in one number, has no weights of its own and reads something of the batch; else a report."""
    before = len(diagnostics.found)
    (last,) = instance.outputs.values()
    place = last.node.layer.span if last.node is not None else span
    if not isinstance(last.type, TensorType) or last.type.shape != () or not last.type.dtype.startswith(FLOATING):
        diagnostics.error(
            "NS563",
            f"the last layer is what is minimised, one number, and `{_name(last)}` gives {last.type}",
            place,
            help="end with a loss, or with a sum of them: `{compute: a + 0.5 * b}`",
        )
    for path, (node, _) in parameters(instance).items():
        diagnostics.error(
            "NS564",
            f"`{path.partition('.')[0]}` has weights, and the objective trains those of the model",
            node.layer.span,
            help="a layer with weights stands in `model`; here stand losses and functions",
        )
    if not instance.inputs:
        diagnostics.error("NS563", "the objective reads nothing of the batch", span, help="name a field in a `from`")
    for node in instance.order:
        for ref in node.inputs:
            source = _origin(ref, made)
            if source is not None and source.layer.when and source.layer.when != node.layer.when:
                diagnostics.error(
                    "NS324",
                    f"`{node.name}` reads `{source.name}`, which gives nothing outside of {source.layer.when}",
                    node.layer.span,
                    labels=[Label(source.layer.span, f"runs in {source.layer.when} only")],
                    help="`loss` leaves out, in an evaluation, a term whose output is not there",
                )
    return len(diagnostics.found) == before


def _name(ref: Ref) -> str:
    return ref.node.name if ref.node is not None else ref.name


def _origin(ref: Ref, made: Mapping[str, Node]) -> Node | None:
    """The layer of a model that an output which the objective reads comes from."""
    op = ref.node.op if ref.node is not None else None
    if not isinstance(op, Reuse) or op.target not in made.values() or not isinstance(op.target.op, Apply):
        return None
    outputs = op.target.op.instance.outputs
    found = outputs.get(ref.name) or next(iter(outputs.values()))
    return found.node
