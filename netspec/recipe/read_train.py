"""The `train` section of a document becomes a `TrainRecipe`, or diagnostics.

The keys have been checked by the schema; here are the values, the names (of batch fields, outputs, parameters, figures), and
whether the losses can take what the model gives and the data hold (in `netspec.recipe.fit_train`).
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping as MappingABC
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any, cast, get_args

from netspec.catalog.entry import Argument, Entry
from netspec.catalog.kinds import accepts
from netspec.catalog.sources import FieldInfo
from netspec.diagnostics import Diagnostics, Span
from netspec.document import Mapping, Node, Scalar, Sequence
from netspec.recipe.reading import SectionReader, show
from netspec.recipe.train import (
    Checkpoint,
    ClipGrad,
    Duration,
    EarlyStopping,
    Group,
    Interval,
    Loss,
    Metric,
    Mode,
    Optimizer,
    Precision,
    Reference,
    Scheduler,
    TrainRecipe,
    WarmUp,
)
from netspec.shapes import TensorType
from netspec.suggest import suggest

FUNCTIONS = {"lr_lambda": "epoch", "scale_fn": "x"}
"""Arguments that torch wants as a function, and the name that stands for its argument in an expression."""
BY_STEP = ("OneCycleLR", "CyclicLR")
"""Schedulers whose authors meant them to step with every update."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """An output of the model: its type, the catalog name of the layer that gives it, and where its width is written."""

    type: TensorType | None
    layer: str | None = None
    span: Span | None = None
    width: Span | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """What the model tells about itself: its inputs and outputs by name, and the names of its parameters."""

    inputs: MappingABC[str, TensorType | None]
    outputs: MappingABC[str, Head]
    parameters: tuple[str, ...]
    spans: MappingABC[str, Span] = field(default_factory=dict)
    """Where each input is stated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataInfo:
    """What the data tell without being read. `fields` is None where the source can't say."""

    splits: tuple[str, ...]
    fields: MappingABC[str, FieldInfo] | None
    span: Span | None = None
    """Where the source of the training data stands."""


def read_train(
    node: Mapping,
    diagnostics: Diagnostics,
    scope: MappingABC[str, object],
    *,
    span: Span,
    model: ModelInfo,
    data: DataInfo | None,
) -> TrainRecipe | None:
    """Read the section. `scope` holds the document's parameters, and its sections under their names for dotted paths.
    `span` is where its key stands.

    Returns None where anything was wrong; the diagnostics say what.
    """
    from netspec.recipe.fit_train import check_fit

    before = sum(d.severity == "error" for d in diagnostics.found)
    reader = _Reader(diagnostics=diagnostics, scope=scope, node=node, span=span, model=model, data=data)
    recipe = reader.read()
    if recipe is None or sum(d.severity == "error" for d in diagnostics.found) > before:
        return None
    check_fit(recipe, node, reader.spans, diagnostics, model=model, data=data)
    return None if sum(d.severity == "error" for d in diagnostics.found) > before else recipe


@dataclass(slots=True, kw_only=True)
class _Reader(SectionReader):
    node: Mapping
    span: Span
    model: ModelInfo
    data: DataInfo | None
    spans: dict[str, Span] = field(default_factory=dict)
    """Where each loss and metric stands, by `loss.NAME` and `metric.NAME`."""

    def read(self) -> TrainRecipe | None:
        length = self.length(self.node, "train", self.span)
        inputs = self.inputs()
        losses = self.losses(inputs)
        optimizer = self.optimizer()
        metrics = self.metrics(losses)
        if length is None or optimizer is None or not losses:
            return None
        figures = self.figures(metrics)
        return TrainRecipe(
            length=length,
            inputs=inputs,
            losses=losses,
            optimizer=optimizer,
            scheduler=self.scheduler(length, figures),
            metrics=metrics,
            precision=cast(Precision, self.choice(self.node, "precision", get_args(Precision), "fp32")),
            checkpoint=self.checkpoint(figures),
            early_stopping=self.early_stopping(figures),
            seed=self.whole("seed", 0, 0),
            device=self.device(),
            threads=self.count(self.node, "threads", 1),
            clip_grad=self.clip_grad(),
            accumulate=self.whole("accumulate", 1, 1),
            log_every=self.whole("log_every", 50, 1),
            tensorboard=self.flag("tensorboard", True, self.node),
        )

    # Small values

    def error(self, code: str, message: str, span: Span | None, help: str | None = None) -> None:
        self.diagnostics.error(code, message, span, help=help)

    def whole(self, key: str, default: int, minimum: int) -> int:
        found = self.count(self.node, key, minimum)
        return default if found is None else found

    def number(self, mapping: Mapping, key: str, default: float, minimum: float | None = None) -> float:
        if key not in mapping.items:
            return default
        value = self.value(mapping.items[key])
        if isinstance(value, int | float) and not isinstance(value, bool) and (minimum is None or value >= minimum):
            return float(value)
        least = f" from {minimum:g}" if minimum is not None else ""
        self.error("NS508", f"`{key}` is a number{least}, and got {show(value)}", mapping.items[key].span)
        return default

    def choice(self, mapping: Mapping, key: str, choices: tuple[str, ...], default: str) -> str:
        if key not in mapping.items:
            return default
        value = self.value(mapping.items[key])
        if value in choices:
            return str(value)
        near = suggest(str(value), choices)
        self.error(
            "NS508",
            f"`{key}` is one of {', '.join(choices)}, and got {show(value)}",
            mapping.items[key].span,
            f"did you mean `{near}`?" if near else None,
        )
        return default

    def length(self, mapping: Mapping, what: str, span: Span) -> Duration | None:
        """`epochs` or `steps`, exactly one of them."""
        given = [key for key in ("epochs", "steps") if key in mapping.items]
        if len(given) != 1:
            self.error(
                "NS550",
                f"`{what}` says neither `epochs` nor `steps`"
                if not given
                else f"`{what}` says both `epochs` and `steps`",
                mapping.key_spans[given[1]] if given else span,
                help="how long is it? `epochs: 20`, or `steps: 5000` updates" if not given else "leave out one of them",
            )
            return None
        found = self.count(mapping, given[0], 1)
        return None if found is None else Duration(**{given[0]: found})

    def device(self) -> str:
        if "device" not in self.node.items:
            return "auto"
        value = self.value(self.node.items["device"])
        kind, _, index = str(value).partition(":")
        if (kind in ("auto", "cpu", "mps") and not index) or (kind == "cuda" and (not index or index.isdecimal())):
            return str(value)
        near = suggest(kind, ("auto", "cpu", "cuda", "mps"))
        self.error(
            "NS508",
            f"`device` is auto, cpu, cuda, cuda:N or mps, and got {show(value)}",
            self.node.items["device"].span,
            f"did you mean `{near}`?" if near else None,
        )
        return "auto"

    def clip_grad(self) -> ClipGrad | None:
        node = self.node.items.get("clip_grad")
        if node is None:
            return None
        if not isinstance(node, Mapping):
            return ClipGrad(norm=self.number(self.node, "clip_grad", 1.0, 0.0))
        if len(node.items) != 1:
            self.error("NS508", "`clip_grad` is a norm, `{norm: 1.0}` or `{value: 0.5}`", node.span)
            return None
        (key,) = node.items
        return ClipGrad(**{key: self.number(node, key, 1.0, 0.0)})

    # Names of tensors

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
                    f"the model has no input `{key}`; it takes {_listed(self.model.inputs)}",
                    mapping.key_spans[key] if mapping is not None else None,
                    help=f"did you mean `{near}`?" if near else None,
                )
        for name in self.model.inputs:
            stated = mapping.items.get(name) if mapping is not None else None
            field_name = str(self.value(stated)) if stated is not None else name
            found[name] = field_name
            if self.fields is not None and field_name not in self.fields:
                near = suggest(field_name, self.fields)
                mend = near or next(
                    (f for f in self.fields if f not in ("label", "target")), next(iter(self.fields), "…")
                )
                self.error(
                    "NS555",
                    f"the model's input `{name}` takes the data's field `{field_name}`, and the data have "
                    f"{_listed(self.fields)}",
                    stated.span if stated is not None else self.model.spans.get(name, self.span),
                    help=f"call the input `{mend}`, or map it: `train: {{inputs: {{{name}: {mend}}}}}`",
                )
        return found

    def reference(self, name: object, span: Span) -> Reference | None:
        """An output of the model, else a field of the batch."""
        if isinstance(name, str) and name in self.model.outputs:
            return Reference(kind="output", name=name)
        if isinstance(name, str) and (self.fields is None or name in self.fields):
            return Reference(kind="field", name=name)
        known = [*self.model.outputs, *(self.fields or ())]
        near = suggest(str(name), known)
        self.error(
            "NS556",
            f"{show(name)} is neither an output of the model ({_listed(self.model.outputs)}) nor a field of the data "
            f"({_listed(self.fields or ())})",
            span,
            help=f"did you mean `{near}`?" if near else None,
        )
        return None

    def target(self, entry: Entry, inputs: MappingABC[str, str], span: Span) -> Reference | None:
        """The field that a loss compares with where `from` does not say: `label` or `target`, or the only one left over."""
        if self.fields is None:
            classes = entry.name in ("CrossEntropyLoss", "NLLLoss", "MultiMarginLoss")
            return Reference(kind="field", name="label" if classes else "target")
        left = [name for name in self.fields if name not in inputs.values()]
        chosen = next((name for name in ("label", "target") if name in left), left[0] if len(left) == 1 else None)
        if chosen is None:
            self.error(
                "NS556",
                f"{entry.name} needs a target: the data have {_listed(self.fields)}, and none of them is `label` or `target`",
                span,
                help=f"say what it compares: `{{type: {entry.name}, from: [{next(iter(self.model.outputs), 'output')}, …]}}`",
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
        names = [names] if isinstance(names, str) else names
        spans = [item.span for item in stated.items] if isinstance(stated, Sequence) else [stated.span] * len(names)
        refs = tuple(self.reference(name, span) for name, span in zip(names, spans, strict=True))
        if None in refs:
            return None
        if len(refs) == 1 and ports == 2:  # the other one is what it would have been
            one = cast(Reference, refs[0])
            first, second = default()
            refs = (one, second) if one.kind == "output" else (first, one)
            return None if None in refs else cast(tuple[Reference, ...], refs)
        if len(refs) != ports:
            name = what if isinstance(what, str) else what.name
            self.error("NS556", f"{name} takes {ports} tensors, and `from` names {len(refs)}", stated.span)
            return None
        return cast(tuple[Reference, ...], refs)

    # Losses and metrics

    def losses(self, inputs: MappingABC[str, str]) -> tuple[Loss, ...]:
        node = self.node.items.get("loss")
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
        extra = ["from"]
        if several and isinstance(node, Mapping) and isinstance(node.items.get("weight"), Scalar):
            factor = self.number(node, "weight", 1.0)  # a list is torch's own `weight`, one for each class
            extra.append("weight")
        given = self.entry(_without(node, *extra), "loss")
        if given is None:
            return None
        entry, arguments = given
        self.spans[f"loss.{name}"] = node.span
        ports = [port for port in entry.inputs if not port.optional]

        def default() -> tuple[Reference | None, ...]:
            if len(self.model.outputs) != 1 or len(ports) != 2:
                self.error(
                    "NS556",
                    f"{entry.name} takes {len(ports)} tensors, and the model gives {_listed(self.model.outputs)}: which?",
                    node.span,
                    help=f"`{{type: {entry.name}, from: [{', '.join(port.name for port in ports)}]}}` with names of outputs and fields",
                )
                return (None,)
            return (
                Reference(kind="output", name=next(iter(self.model.outputs))),
                self.target(entry, inputs, node.span),
            )

        refs = self.taken(entry, node, len(ports), default)
        if refs is None:
            return None
        return Loss(
            name=name, type=entry.name, target=entry.target, arguments=_settled(arguments), inputs=refs, factor=factor
        )

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
            arguments = {key: self.value(item) for key, item in items.items() if key not in ("type", "from")}
        else:
            given = self.entry(_without(node, "from"), "metric")
            if given is None:
                return None
            kind, arguments = given[0].name, given[1]

        def default() -> tuple[Reference | None, ...]:
            first = losses[0].inputs if losses else ()
            if len(first) == 2:
                return first
            if losses:
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
            arguments=_settled(arguments),
            inputs=(refs[0], refs[1]),
            scores="probabilities" if sure else "raw",
        )

    # Optimizer and scheduler

    def optimizer(self) -> Optimizer | None:
        node = self.node.items.get("optimizer")
        if node is None:
            self.error("NS561", "`train` has no `optimizer`", self.span, help="`optimizer: {type: AdamW, lr: 0.001}`")
            return None
        given = self.entry(_without(node, "groups"), "optimizer")
        if given is None:
            return None
        entry, arguments = given
        groups = node.items.get("groups") if isinstance(node, Mapping) else None
        items = groups.items if isinstance(groups, Sequence) else ()
        found = [self.group(item, entry) for item in items]
        if entry.name == "LBFGS":
            for key in ("accumulate", "clip_grad"):
                if key in self.node.items:
                    self.error(
                        "NS560", f"LBFGS evaluates a batch by itself and knows no `{key}`", self.node.key_spans[key]
                    )
            if self.value(self.node.items.get("precision", Scalar("fp32", node.span))) == "fp16":
                self.error(
                    "NS560", "LBFGS can't scale its gradients for fp16", self.node.items["precision"].span, "use bf16"
                )
        return Optimizer(
            type=entry.name,
            target=entry.target,
            arguments=_settled(arguments),
            groups=tuple(group for group in found if group is not None),
        )

    def group(self, node: Node, entry: Entry) -> Group | None:
        assert isinstance(node, Mapping), "the schema has seen it"
        match = node.items["match"]
        patterns = self.value(match)
        patterns = [patterns] if isinstance(patterns, str) else patterns
        if not isinstance(patterns, list) or not all(isinstance(pattern, str) for pattern in patterns):
            self.error(
                "NS554",
                f"`match` is a glob over parameter names, or a list of them, and got {show(patterns)}",
                match.span,
            )
            return None
        spans = [item.span for item in match.items] if isinstance(match, Sequence) else [match.span]
        for pattern, span in zip(patterns, spans, strict=True):
            if not any(fnmatchcase(name, pattern) for name in self.model.parameters):
                near = suggest(pattern, [*self.model.parameters, *_families(self.model.parameters)])
                self.error(
                    "NS554",
                    f"`{pattern}` matches no parameter of the model",
                    span,
                    help=f"did you mean `{near}`?"
                    if near
                    else f"names are such as {_listed(self.model.parameters[:4])}; `*` crosses dots",
                )
        arguments: dict[str, Any] = {}
        for key, item in node.items.items():
            if key == "match":
                continue
            argument = entry.argument(key)
            if argument is None:
                near = suggest(key, [a.name for a in entry.arguments])
                self.error(
                    "NS502",
                    f"{entry.name} has no argument `{key}`",
                    node.key_spans[key],
                    f"did you mean `{near}`?" if near else f"it takes {_listed([a.name for a in entry.arguments])}",
                )
                continue
            arguments[key] = self.accepted(argument, item)
        return Group(match=tuple(patterns), arguments=_settled(arguments))

    def accepted(self, argument: Argument, node: Node) -> Any:
        value = self.value(node)
        problem = accepts(argument, value)
        if problem is not None:
            self.error("NS503", problem.message, node.span, problem.help)
        return value

    def scheduler(self, length: Duration, figures: tuple[str, ...]) -> Scheduler | None:
        node = self.node.items.get("scheduler")
        if node is None:
            return None
        warmup = self.warmup(node)
        monitor_node = node.items.get("monitor") if isinstance(node, Mapping) else None
        if isinstance(node, Mapping) and "type" not in node.items and warmup is not None:
            return Scheduler(type="", target="", warmup=warmup)
        functions: dict[str, Any] = {}
        plain = _without(node, "warmup", "interval", "monitor")
        if isinstance(plain, Mapping):
            for name, variable in FUNCTIONS.items():
                if name in plain.items:
                    functions[name] = self.function(plain.items[name], variable)
                    plain.items[name] = Scalar("a function", plain.items[name].span, quoted=True)
        given = self.entry(plain, "scheduler")
        if given is None or (warmup is None and isinstance(node, Mapping) and "warmup" in node.items):
            return None
        entry, arguments = given
        by_step = entry.name in BY_STEP or length.steps is not None
        plateau = entry.name == "ReduceLROnPlateau"
        interval = "step" if by_step and not plateau else "epoch"
        if isinstance(node, Mapping):
            interval = self.choice(node, "interval", get_args(Interval), interval)
        if plateau and interval == "step":
            assert isinstance(node, Mapping)
            self.error(
                "NS557",
                "ReduceLROnPlateau watches the figures of an epoch",
                node.items["interval"].span,
                "leave out `interval`",
            )
        monitor = None
        if plateau:
            monitor = self.monitor(monitor_node, figures) or next(
                (figure for figure in ("val.loss", "train.loss") if figure in figures), None
            )
        elif monitor_node is not None:
            self.error("NS557", f"{entry.name} watches no figure", monitor_node.span, "leave out `monitor`")
        return Scheduler(
            type=entry.name,
            target=entry.target,
            arguments=_settled({**arguments, **functions}),
            interval=cast(Interval, interval),
            monitor=monitor,
            warmup=warmup,
        )

    def warmup(self, node: Node) -> WarmUp | None:
        found = node.items.get("warmup") if isinstance(node, Mapping) else None
        if not isinstance(found, Mapping):
            return None
        length = self.length(found, "warmup", found.span)
        if length is None:
            return None
        return WarmUp(length=length, start_factor=self.number(found, "start_factor", 0.01, 0.0))

    def function(self, node: Node, variable: str) -> Any:
        """An expression of one free name, the values of the others put in; a list of them for a list."""
        from netspec.expressions import ExpressionError, evaluate, parse_scalar, report

        if isinstance(node, Sequence):
            return tuple(self.function(item, variable) for item in node.items)
        if not isinstance(node, Scalar) or isinstance(node.value, bool | None):
            self.error("NS503", f"an expression of `{variable}` is wanted", node.span, f"`$(0.95 ** {variable})`")
            return None
        try:
            expr = _bound(parse_scalar(node, self.diagnostics, paths=True), self.scope, variable)
            value = evaluate(expr, {variable: 1})
        except ExpressionError as error:
            report(error, node, self.diagnostics)
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.error("NS503", f"an expression of `{variable}` gives a number, and this one {show(value)}", node.span)
        return expr

    # Figures

    def figures(self, metrics: tuple[Metric, ...]) -> tuple[str, ...]:
        """The figures of an epoch. Metrics are taken on `val`, or on the training batches where there is none."""
        split = "val" if self.data is not None and "val" in self.data.splits else "train"
        return tuple(dict.fromkeys(("train.loss", f"{split}.loss", *(f"{split}.{metric.name}" for metric in metrics))))

    def monitor(self, node: Node | None, figures: tuple[str, ...]) -> str | None:
        if node is None:
            return None
        name = self.value(node)
        if name in figures:
            return str(name)
        near = suggest(str(name), figures)
        self.error(
            "NS559",
            f"no epoch has the figure {show(name)}; there are {_listed(figures)}",
            node.span,
            f"did you mean `{near}`?"
            if near
            else "metrics come from `train.metrics`, and `val` from the data's splits",
        )
        return None

    def mode(self, node: Mapping, monitor: str | None) -> Mode:
        lower = monitor is None or monitor.endswith("loss") or monitor.endswith("_error")
        return cast(Mode, self.choice(node, "mode", get_args(Mode), "min" if lower else "max"))

    def checkpoint(self, figures: tuple[str, ...]) -> Checkpoint:
        node = self.node.items.get("checkpoint")
        if not isinstance(node, Mapping):
            return Checkpoint()
        every = node.items.get("every")
        monitor = self.monitor(node.items.get("monitor"), figures)
        return Checkpoint(
            every=self.length(every, "every", every.span) if isinstance(every, Mapping) else None,
            keep=self.count(node, "keep", 1) or Checkpoint().keep,
            monitor=monitor,
            mode=self.mode(node, monitor),
        )

    def early_stopping(self, figures: tuple[str, ...]) -> EarlyStopping | None:
        node = self.node.items.get("early_stopping")
        monitor = self.monitor(node.items.get("monitor"), figures) if isinstance(node, Mapping) else None
        if not isinstance(node, Mapping) or monitor is None:
            return None
        return EarlyStopping(
            monitor=monitor,
            mode=self.mode(node, monitor),
            patience=self.count(node, "patience", 1) or 10,
            min_delta=self.number(node, "min_delta", 0.0, 0.0),
        )


def snake_case(name: str) -> str:
    """`MeanSquaredError` → `mean_squared_error`, `F1Score` → `f1_score`."""
    letters = [
        f"_{letter.lower()}" if letter.isupper() and index and not name[index - 1].isupper() else letter.lower()
        for index, letter in enumerate(name)
    ]
    return "".join(letters)


def _without(node: Node, *keys: str) -> Node:
    """The node without keys that are no arguments."""
    if not isinstance(node, Mapping):
        return node
    return Mapping({key: item for key, item in node.items.items() if key not in keys}, node.key_spans, node.span)


def _settled(arguments: MappingABC[str, Any]) -> dict[str, Any]:
    """Lists as tuples: a recipe does not change."""
    return {name: _tuples(value) for name, value in arguments.items()}


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def _bound(expr: Any, scope: MappingABC[str, object], keep: str) -> Any:
    """The expression with every name but one replaced by its value."""
    from netspec.expressions import Name, Path, evaluate, from_value, map_children

    if isinstance(expr, Path) or (isinstance(expr, Name) and expr.id != keep):
        return from_value(evaluate(expr, scope))
    return map_children(expr, lambda child: _bound(child, scope, keep))


def _families(names: tuple[str, ...]) -> list[str]:
    """Globs that a person may have meant: `conv1.*`, `*.bias`."""
    parts = {f"{name.rpartition('.')[0]}.*" for name in names if "." in name}
    return sorted(parts | {f"*.{name.rpartition('.')[2]}" for name in names if "." in name})


def _listed(names: Any) -> str:
    return ", ".join(f"`{name}`" for name in names) or "none"
