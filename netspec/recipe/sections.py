"""`data` and `train` of a document, read together and held against the model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from collections.abc import Mapping as MappingABC
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from netspec.diagnostics import Diagnostics, Span
from netspec.document import Mapping, Node, Scalar, Sequence
from netspec.recipe.data import DataRecipe
from netspec.recipe.heads import head
from netspec.recipe.read_data import read_data
from netspec.recipe.read_layers import MODEL, Elaborate
from netspec.recipe.read_train import read_train
from netspec.recipe.sweep import SweepRecipe
from netspec.recipe.train import TrainRecipe
from netspec.recipe.train_values import DataInfo, ModelInfo, Weight
from netspec.shapes import TensorType

if TYPE_CHECKING:
    from netspec.program import Instance, Ref
    from netspec.spec import Spec


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What a document says beside its model."""

    data: DataRecipe | None = None
    train: TrainRecipe | None = None
    sweep: SweepRecipe | None = None


def read_recipe(
    document: Mapping,
    spec: Spec | None,
    model: Instance | None,
    diagnostics: Diagnostics,
    elaborate_objective: Callable[..., Instance | None],
    *,
    headers: bool = True,
) -> Recipe | None:
    """Read both sections of a resolved document. None where it has neither, or where a mistake was found.

    `train` is held against the model where there is a sound one, else only `data` is read. `elaborate_objective` works
    out the graph of `train.layers`. `headers`: whether files of data are asked what they hold.
    """
    data_node, train_node = document.items.get("data"), document.items.get("train")
    if not isinstance(data_node, Mapping) and not isinstance(train_node, Mapping):
        return None
    scope = document_scope(document, diagnostics)
    data = read_data(data_node, diagnostics, scope, headers=headers) if isinstance(data_node, Mapping) else None
    train = None
    sound = model is not None and not model.failed and (data is not None or data_node is None)
    if isinstance(train_node, Mapping) and spec is not None and spec.models:
        diagnostics.error(
            "NS190",
            "training several `models` is part of the language, but this version of netspec does not support it yet",
            document.key_spans["train"],
            help="leave `train` out: `netspec build` writes the models, or train one of them by "
            f"`model: {{file: …#models.{next(iter(spec.models))}}}`",
        )
        return None
    if isinstance(train_node, Mapping) and model is not None and sound:
        info = (
            DataInfo(splits=tuple(data.splits), fields=data.fields, span=source_span(data_node))
            if data is not None
            else None
        )
        train = read_train(
            train_node,
            diagnostics,
            scope,
            span=document.key_spans["train"],
            model=model_info(model),
            data=info,
            elaborate=elaborating(elaborate_objective, spec, model, diagnostics, scope),
        )
    return Recipe(data=data, train=train)


def elaborating(
    elaborate_objective: Callable[..., Instance | None],
    spec: Spec | None,
    model: Instance,
    diagnostics: Diagnostics,
    scope: MappingABC[str, object],
) -> Elaborate:
    """What works out the graph of `train.layers` over a model."""
    return lambda layers, fields, span: elaborate_objective(
        spec, {MODEL: model}, layers, fields, diagnostics, span, _sections(scope)
    )


class _Section(MappingABC[str, object]):
    """A section whose values are evaluated when they are asked for, so that paths may lead to further paths."""

    def __init__(self, node: Mapping, scope: dict[str, object], diagnostics: Diagnostics) -> None:
        self._node = node
        self._scope = scope
        self._diagnostics = diagnostics
        self._open: set[str] = set()

    def __getitem__(self, key: str) -> object:
        from netspec.expressions import ExpressionError

        node = self._node.items[key]
        if key in self._open:
            raise ExpressionError(f"`{key}` is computed from itself", name=key)
        self._open.add(key)
        try:
            return self._value(node)
        finally:
            self._open.discard(key)

    def __iter__(self) -> Iterator[str]:
        return iter(self._node.items)

    def __len__(self) -> int:
        return len(self._node.items)

    def _value(self, node: Node) -> object:
        match node:
            case Mapping():
                return _Section(node, self._scope, self._diagnostics)
            case Sequence(items=items):
                return [self._value(item) for item in items]
            case Scalar(value=str() as text) if "$" in text:
                from netspec.expressions import evaluate, parse_scalar

                found: object = evaluate(parse_scalar(node, self._diagnostics, paths=True), self._scope)
                return found
        return node.value


def document_scope(document: Mapping, diagnostics: Diagnostics) -> dict[str, object]:
    """What `train` and `data` see: the document's parameters by name, and every section for dotted paths."""
    scope: dict[str, object] = {}
    for name, node in document.items.items():
        scope[name] = _Section(node, scope, diagnostics) if isinstance(node, Mapping) else None
        if isinstance(node, Scalar):
            scope[name] = node.value
    params = scope.get("params")
    if isinstance(params, _Section):
        from netspec.expressions import ExpressionError

        for name in params:
            with suppress(ExpressionError):  # reported with the model
                scope[name] = params[name]
    return scope


def _sections(scope: MappingABC[str, object]) -> dict[str, object]:
    """What of a document's scope is a section, which dotted paths lead into."""
    return {name: value for name, value in scope.items() if isinstance(value, _Section)}


def model_info(model: Instance) -> ModelInfo:
    """What `train` needs to know of an elaborated model."""
    return ModelInfo(
        inputs={name: found if isinstance(found, TensorType) else None for name, found in model.inputs.items()},
        outputs={
            name or output_name(ref): replace(head(ref), when=ref.node.layer.when if ref.node is not None else "")
            for name, ref in model.outputs.items()
        },
        parameters=tuple(parameter_names(model)),
        layers=tuple(module_paths(model)),
        spans={stated.name: stated.span for stated in model.block.inputs},
        weights=_weights(model),
    )


def output_name(ref: Ref) -> str:
    """What a single unnamed output is called: the layer that gives it."""
    return ref.node.name if ref.node is not None else ref.name


def parameter_names(model: Instance) -> Iterator[str]:
    """The names of the weights in torch's order of registration; of those that are one the first."""
    from netspec.program import parameters

    one = {".".join(tie.path): ".".join(tie.source) for tie in model.ties}
    told: set[str] = set()
    for name in parameters(model):
        if one.get(name, name) not in told:
            told.add(one.get(name, name))
            yield name


def module_paths(model: Instance) -> Iterator[str]:
    """The paths of the layers that are modules of their own; functions and arithmetic are none."""
    from netspec.program import walk

    return (path for path, node in walk(model) if node.key is not None and not node.is_weight)


def _weights(model: Instance) -> dict[str, Weight]:
    """What an optimizer may ask of each weight."""
    from netspec.program import Call, parameters, walk

    frozen = [f"{path}." for path, node in walk(model) if node.layer.freeze]
    found = {}
    for name, (node, shape) in parameters(model).items():
        sparse = node.op.arguments.get("sparse") if isinstance(node.op, Call) else None
        found[name] = Weight(
            shape=shape,
            layer=node.op.entry.name if isinstance(node.op, Call) else node.name,
            span=node.layer.span,
            sparse=sparse is not None and sparse.value is True,
            frozen=f"{name}.".startswith(tuple(frozen)),
        )
    return found


def source_span(data: Node | None, split: str = "train") -> Span | None:
    """Where the source of a split's samples stands."""
    for path in ((split, "source"), ("source",)):
        node = data
        for key in path:
            node = node.items.get(key) if isinstance(node, Mapping) else None
        if node is not None:
            return node.span
    return None
