"""The `train` section of a document becomes a `TrainRecipe`, or diagnostics.

The keys have been checked by the schema; here are the values and the names. Whether the parts fit each other is seen in
`netspec.recipe.fit_train`.
"""

from __future__ import annotations

from collections.abc import Mapping as MappingABC
from typing import cast, get_args

from netspec.diagnostics import Diagnostics, Span
from netspec.document import Mapping, Sequence
from netspec.recipe.fit_several import check_sharded
from netspec.recipe.fit_train import check_fit
from netspec.recipe.read_averages import AverageReader
from netspec.recipe.read_layers import Elaborate
from netspec.recipe.read_objective import ObjectiveReader
from netspec.recipe.read_optimizer import OptimizerReader
from netspec.recipe.read_several import SeveralReader
from netspec.recipe.read_speed import SpeedReader
from netspec.recipe.read_tuning import TuningReader
from netspec.recipe.reading import show
from netspec.recipe.train import (
    Checkpoint,
    ClipGrad,
    Duration,
    EarlyStopping,
    Metric,
    Mode,
    Optimizer,
    Precision,
    TrainRecipe,
)
from netspec.recipe.train_values import DataInfo, ModelInfo
from netspec.suggest import suggest


def read_train(
    node: Mapping,
    diagnostics: Diagnostics,
    scope: MappingABC[str, object],
    *,
    span: Span,
    model: ModelInfo,
    data: DataInfo | None,
    elaborate: Elaborate | None = None,
) -> TrainRecipe | None:
    """Read the section. `scope` holds the document's parameters, and its sections under their names for dotted paths.
    `span` is where its key stands; `elaborate` works out `layers`.

    Returns None where anything was wrong; the diagnostics say what.
    """
    before = sum(d.severity == "error" for d in diagnostics.found)
    reader = _Reader(
        diagnostics=diagnostics, scope=scope, node=node, span=span, model=model, data=data, elaborate=elaborate
    )
    recipe = reader.read()
    if sum(d.severity == "error" for d in diagnostics.found) > before:
        return None
    check_fit(recipe, node, reader.spans, diagnostics, model=model, data=data)
    check_sharded(recipe, node, diagnostics, model)
    return None if sum(d.severity == "error" for d in diagnostics.found) > before else recipe


class _Reader(AverageReader, ObjectiveReader, OptimizerReader, SeveralReader, SpeedReader, TuningReader):
    __slots__ = ()

    def read(self) -> TrainRecipe:
        length = self.length(self.node, "train", self.span)
        inputs = self.inputs()
        graph = self.graph(inputs)
        if graph is not None:
            inputs = dict(graph.inputs)
        losses = self.losses(inputs)
        optimizer = self.optimizer()
        metrics = self.metrics(losses)
        figures = self.figures(metrics)
        log_every = self.whole("log_every", 50, 1)
        if length is None or optimizer is None:  # said already; the rest is read for its own mistakes
            length, optimizer = Duration(epochs=1), Optimizer(type="", target="")
        freeze = self.freeze()
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
            withheld_limit=self.whole("withheld_limit", 10, 1),
            ema=self.ema(),
            swa=self.swa(length),
            channels_last=self.flag("channels_last", False, self.node) if "channels_last" in self.node.items else None,
            compile=self.compiling(),
            cuda_graphs=self.recording(),
            distribute=self.distribute(),
            sync_batchnorm=self.flag("sync_batchnorm", False, self.node),
            log_every=log_every,
            tensorboard=self.tensorboard(),
            monitor=self.monitoring(log_every),
            track=self.trackers(),
            objective=graph.instance if graph is not None else None,
            weights=self.weights(),
            freeze=freeze,
            unfreeze=self.unfreeze(freeze),
            paths=self.paths,
        )

    def device(self) -> str:
        if "device" not in self.node.items:
            return "auto"
        value = self.value(self.node.items["device"])
        kind, _, index = str(value).partition(":")
        if (kind in ("auto", "cpu", "mps") and not index) or (kind == "cuda" and (not index or index.isdecimal())):
            return str(value)
        near = suggest(kind, ("auto", "cpu", "cuda", "mps"))
        self.reject(
            value,
            "NS508",
            f"`device` is auto, cpu, cuda, cuda:N or mps, and got {show(value)}",
            self.node.items["device"].span,
            help=f"did you mean `{near}`?" if near else None,
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

    def figures(self, metrics: tuple[Metric, ...]) -> tuple[str, ...] | None:
        """The figures of an epoch; None where a metric is wrong, so that they are not all known.

        Metrics are taken on `val`, or on the training batches where there is none.
        """
        stated = self.node.items.get("metrics")
        if isinstance(stated, Sequence) and len(stated.items) != len(metrics):
            return None
        split = "val" if self.data is not None and "val" in self.data.splits else "train"
        return tuple(dict.fromkeys(("train.loss", f"{split}.loss", *(f"{split}.{metric.name}" for metric in metrics))))

    def mode(self, node: Mapping, monitor: str | None) -> Mode:
        lower = monitor is None or monitor.endswith("loss") or monitor.endswith("_error")
        return cast(Mode, self.choice(node, "mode", get_args(Mode), "min" if lower else "max"))

    def checkpoint(self, figures: tuple[str, ...] | None) -> Checkpoint:
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

    def early_stopping(self, figures: tuple[str, ...] | None) -> EarlyStopping | None:
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
