"""What is minimised and measured: the tensors that the model, the losses and the metrics take, by name."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping as MappingABC
from dataclasses import dataclass, replace
from typing import cast

from netspec.catalog.constant_targets import PORT
from netspec.catalog.entry import Entry
from netspec.catalog.losses_classes import BALANCED, weighs_classes
from netspec.catalog.sources import FieldInfo
from netspec.diagnostics import Span
from netspec.document import Mapping, Node, Scalar, Sequence
from netspec.expressions import (
    Expr,
    ExpressionError,
    Invalid,
    Name,
    Path,
    evaluate,
    from_value,
    map_children,
    name_span,
    parse_compute,
    report,
    tensors,
)
from netspec.recipe.read_layers import (
    Elaborate,
    Graph,
    batch_fields,
    layer_type,
    named_tensors,
    read_graph,
    without_balance,
)
from netspec.recipe.reading import WRONG, show
from netspec.recipe.train import Loss, Mask, Metric, Reference
from netspec.recipe.train_values import TrainReader, listed, settled, without
from netspec.suggest import suggest


@dataclass(slots=True, kw_only=True)
class ObjectiveReader(TrainReader):
    """Reads `inputs`, `layers`, `loss` and `metrics`."""

    elaborate: Elaborate | None = None
    stated: Graph | None = None
    """The graph of `layers`, once it has been read."""

    @property
    def fields(self) -> MappingABC[str, FieldInfo] | None:
        return self.data.fields if self.data is not None else None

    def inputs(self) -> dict[str, str]:
        """The batch field of each input of the model: by name, or as `inputs` maps them."""
        node = self.node.items.get("inputs")
        mapping = node if isinstance(node, Mapping) else None
        found: dict[str, str] = {}
        for key in mapping.items if mapping is not None else ():
            if key not in self.model.inputs:
                near = suggest(key, self.model.inputs)
                self.error(
                    "NS555",
                    f"the model has no input `{key}`; it takes {listed(self.model.inputs)}",
                    mapping.key_spans[key] if mapping is not None else None,
                    help=f"did you mean `{near}`?" if near else None,
                )
        for name in self.model.inputs:
            stated = mapping.items.get(name) if mapping is not None else None
            value = self.value(stated) if stated is not None else name
            if value is WRONG:
                continue
            found[name] = field_name = str(value)
            if self.fields is not None and field_name not in self.fields:
                near = suggest(field_name, self.fields)
                mend = near or next(
                    (f for f in self.fields if f not in ("label", "target")), next(iter(self.fields), "…")
                )
                self.error(
                    "NS555",
                    f"the model's input `{name}` takes the data's field `{field_name}`, and the data have "
                    f"{listed(self.fields)}",
                    stated.span if stated is not None else self.model.spans.get(name, self.span),
                    help=f"call the input `{mend}`, or map it: `train: {{inputs: {{{name}: {mend}}}}}`",
                )
        return found

    def graph(self, inputs: MappingABC[str, str]) -> Graph | None:
        """The objective that `layers` states, None where it states none or where a mistake was reported."""
        node = self.node.items.get("layers")
        if node is None or self.elaborate is None:
            return None
        span = self.node.key_spans["layers"]
        if "loss" in self.node.items:
            self.error(
                "NS561",
                "`train` says both `loss` and `layers`",
                span,
                help="`loss` is the short form: write it as a layer, or leave out one of them",
            )
        place = self.data.span if self.data is not None and self.data.span is not None else span
        fields = batch_fields(self.model, self.fields, inputs, place, named_tensors(node))
        plain, balanced = without_balance(node)
        instance = self.elaborate(plain, fields, span)
        if instance is not None:
            self.stated = read_graph(instance, self.model, balanced)
            for loss in self.stated.losses:
                self.has_counts(loss, self.stated.spans[loss.name])
        return self.stated

    def reference(self, name: object, span: Span) -> Reference | None:
        """A layer of the objective, else an output of the model, else a field of the batch."""
        if self.stated is not None and isinstance(name, str) and layer_type(self.stated.instance, name) is not None:
            return Reference(kind="layer", name=name)
        if isinstance(name, str) and name in self.model.outputs:
            return Reference(kind="output", name=name)
        if isinstance(name, str) and (self.fields is None or name in self.fields):
            return Reference(kind="field", name=name)
        known = [*self.model.outputs, *(self.fields or ())]
        near = suggest(str(name), known)
        self.reject(
            name,
            "NS556",
            f"{show(name)} is neither an output of the model ({listed(self.model.outputs)}) nor a field of the data "
            f"({listed(self.fields or ())})",
            span,
            help=f"did you mean `{near}`?" if near else None,
        )
        return None

    def target(self, entry: Entry, inputs: MappingABC[str, str], span: Span) -> Reference | None:
        """The field that a loss compares with where `from` does not say: `label`, `target`, or the only one left."""
        if self.fields is None:
            classes = entry.name in ("CrossEntropyLoss", "NLLLoss", "MultiMarginLoss")
            return Reference(kind="field", name="label" if classes else "target")
        left = [name for name in self.fields if name not in inputs.values()]
        chosen = next((name for name in ("label", "target") if name in left), left[0] if len(left) == 1 else None)
        if chosen is None:
            self.error(
                "NS556",
                f"{entry.name} needs a target, and no field of the data ({listed(self.fields)}) is `label` or `target`",
                span,
                help=f"say what it takes: `{{type: {entry.name}, from: [{next(iter(self.model.outputs), '…')}, …]}}`",
            )
            return None
        return Reference(kind="field", name=chosen)

    def taken(
        self, what: Entry | str, node: Node, ports: int, default: Callable[[], tuple[Reference | None, ...]]
    ) -> tuple[Reference, ...] | None:
        """What a loss or a metric takes: `from`, or the default."""
        stated = node.items.get("from") if isinstance(node, Mapping) else None
        if stated is None:
            found = default()
            return None if None in found else cast(tuple[Reference, ...], found)
        names = self.value(stated)
        if names is WRONG:
            return None
        names = names if isinstance(names, list) else [names]
        spans = [item.span for item in stated.items] if isinstance(stated, Sequence) else [stated.span] * len(names)
        refs = tuple(self.reference(name, span) for name, span in zip(names, spans, strict=True))
        if None in refs:
            return None
        if len(refs) == 1 and ports == 2:  # the other one is what it would have been
            one = cast(Reference, refs[0])
            others = default()
            if None in others:
                return None
            refs = (one, others[1]) if one.kind == "output" else (others[0], one)
            return cast(tuple[Reference, ...], refs)
        if len(refs) != ports:
            name = what if isinstance(what, str) else what.name
            self.error("NS556", f"{name} takes {ports} tensors, and `from` names {len(refs)}", stated.span)
            return None
        return cast(tuple[Reference, ...], refs)

    def losses(self, inputs: MappingABC[str, str]) -> tuple[Loss, ...]:
        node = self.node.items.get("loss")
        if "layers" in self.node.items:
            if self.stated is not None:
                self.spans.update({f"loss.{name}": span for name, span in self.stated.spans.items()})
            return self.stated.losses if self.stated is not None else ()
        if node is None:
            self.error(
                "NS561",
                "`train` has no `loss`: there is nothing to minimise",
                self.span,
                help="`loss: CrossEntropyLoss`",
            )
            return ()
        if isinstance(node, Mapping) and "type" not in node.items:
            found = [self.loss(name, item, inputs, several=True) for name, item in node.items.items()]
        else:
            found = [self.loss("loss", node, inputs, several=False)]
        return () if None in found else tuple(loss for loss in found if loss is not None)

    def loss(self, name: str, node: Node, inputs: MappingABC[str, str], *, several: bool) -> Loss | None:
        factor = 1.0
        extra = ["from", "mask", PORT]
        stated = node.items.get("weight") if isinstance(node, Mapping) else None
        balanced = isinstance(stated, Scalar) and stated.value == BALANCED
        if balanced:
            extra.append("weight")
        elif several and isinstance(node, Mapping) and isinstance(node.items.get("weight"), Scalar):
            factor = self.number(node, "weight", 1.0)  # a list is torch's own `weight`, one for each class
            extra.append("weight")
        given = self.entry(without(node, *extra), "loss")
        if given is None:
            return None
        entry, arguments = given
        self.spans[f"loss.{name}"] = node.span
        if balanced and not weighs_classes(entry):
            assert stated is not None
            self.error("NS503", f"{entry.name} compares with no classes whose weights could be balanced", stated.span)
            return None
        stated = node.items.get(PORT) if isinstance(node, Mapping) else None
        constant = self.value(stated) if stated is not None else None
        ports = [port for port in entry.inputs if not port.optional and not (stated is not None and port.name == PORT)]

        names = ", ".join(port.name for port in ports)

        def default() -> tuple[Reference | None, ...]:
            if len(self.model.outputs) == 1 and len(ports) == 1:
                return (Reference(kind="output", name=next(iter(self.model.outputs))),)
            if len(self.model.outputs) != 1 or len(ports) != 2:
                self.error(
                    "NS556",
                    f"`from` has to say what {entry.name} takes: the model gives {listed(self.model.outputs)}",
                    node.span,
                    help=f"`{{type: {entry.name}, from: [{names}]}}` with the names of outputs and fields",
                )
                return (None,)
            return (
                Reference(kind="output", name=next(iter(self.model.outputs))),
                self.target(entry, inputs, node.span),
            )

        refs = self.taken(entry, node, len(ports), default)
        if refs is None or constant is WRONG:
            return None
        made = Loss(
            name=name,
            type=entry.name,
            target=entry.target,
            arguments={**settled(arguments), **({"weight": BALANCED} if balanced else {})},
            inputs=refs,
            factor=factor,
            mask=self.mask(node),
            constant=constant,
        )
        return made if self.has_counts(made, node.span) else None

    def has_counts(self, loss: Loss, span: Span) -> bool:
        """Whether the weights of a loss are numbers, or the data can count what they are made of."""
        if loss.arguments.get("weight") != BALANCED or (loss.constant is None and loss.inputs[-1].kind == "field"):
            return True
        target = "one class" if loss.constant is not None else f"the {loss.inputs[-1]}"
        self.error(
            "NS503",
            f"`weight: {BALANCED}` counts the classes of a field of the data, and {loss.type} compares with {target}",
            span,
            help="`weight: [1.0, 2.5]` states a weight for each class",
        )
        return False

    def mask(self, node: Node) -> Mask | None:
        """What `mask` names, or compares."""
        stated = node.items.get("mask") if isinstance(node, Mapping) else None
        if not isinstance(stated, Scalar):
            return None
        expr = parse_compute(stated, self.diagnostics, paths=True)
        if isinstance(expr, Invalid):
            return None
        reads: dict[str, Reference] = {}
        for tensor in tensors(expr):
            ref = self.reference(tensor.name, name_span(stated, str(tensor.name)))
            if ref is None:
                return None
            reads[str(tensor.name)] = ref
        if not reads:
            self.error("NS556", f"the mask {show(stated.value)} names no tensor", stated.span, "`mask: label >= 0`")
            return None
        return Mask(text=str(stated.value), expr=self.with_values(expr, stated), reads=reads)

    def with_values(self, expr: Expr, node: Scalar) -> Expr:
        """An expression with the values of the spec that it reads in their places."""

        def settled(part: Expr) -> Expr:
            if isinstance(part, Name | Path):
                try:
                    return from_value(evaluate(part, self.scope))
                except ExpressionError as error:
                    report(error, node, self.diagnostics)
            return map_children(part, settled)

        return settled(expr)

    def metrics(self, losses: tuple[Loss, ...]) -> tuple[Metric, ...]:
        node = self.node.items.get("metrics")
        items = node.items if isinstance(node, Sequence) else ()
        found: dict[str, Metric] = {}
        for item in items:
            metric = self.metric(item, losses)
            if metric is None:
                continue
            name, number = metric.name, 2
            while metric.name in found:
                metric = replace(metric, name=f"{name}_{number}")
                number += 1
            found[metric.name] = metric
            self.spans[f"metric.{metric.name}"] = item.span
        return tuple(found.values())

    def metric(self, node: Node, losses: tuple[Loss, ...]) -> Metric | None:
        named = node.items.get("type") if isinstance(node, Mapping) else node
        kind = self.value(named) if named is not None else None
        if isinstance(kind, str) and kind.startswith("torchmetrics."):
            items = node.items if isinstance(node, Mapping) else {}
            arguments = {key: self.value(item) for key, item in items.items() if key not in ("type", "from", "mask")}
        else:
            given = self.entry(without(node, "from", "mask"), "metric")
            if given is None:
                return None
            kind, arguments = given[0].name, given[1]

        def default() -> tuple[Reference | None, ...]:
            compared = [loss for loss in losses if loss.constant is None]
            first = compared[0].inputs if compared else ()
            if len(first) == 2:
                return first
            if losses or self.stated is not None:
                self.error("NS556", f"{kind}: which output and which field?", node.span, help="`from: [output, field]`")
            return (None,)

        refs = self.taken(str(kind), node, 2, default)
        if refs is None:
            return None
        head = self.model.outputs.get(refs[0].name) if refs[0].kind == "output" else None
        sure = (head is not None and head.layer in ("Sigmoid", "sigmoid", "Softmax", "softmax")) or any(
            loss.type == "BCELoss" and loss.inputs[0] == refs[0] for loss in losses
        )
        return Metric(
            name=snake_case(str(kind).rpartition(".")[2]),
            type=str(kind),
            arguments=settled(arguments),
            inputs=(refs[0], refs[1]),
            mask=self.mask(node),
            scores="probabilities" if sure else "raw",
        )


def snake_case(name: str) -> str:
    """`MeanSquaredError` → `mean_squared_error`, `F1Score` → `f1_score`."""
    letters = [
        f"_{letter.lower()}" if letter.isupper() and index and not name[index - 1].isupper() else letter.lower()
        for index, letter in enumerate(name)
    ]
    return "".join(letters)
