"""Averages of the weights that a run keeps: `ema` and `swa`."""

from __future__ import annotations

from typing import Literal, cast

from netspec.document import Mapping
from netspec.recipe.train import Duration, Ema, Swa
from netspec.recipe.train_values import TrainReader


class AverageReader(TrainReader):
    """Reads `ema` and `swa`."""

    __slots__ = ()

    def ema(self) -> Ema | None:
        node = self.node.items.get("ema")
        if node is None:
            return None
        mapping = node if isinstance(node, Mapping) else Mapping({"decay": node}, {"decay": node.span}, node.span)
        decay = self.number(mapping, "decay", 0.999, 0.0)
        if not decay < 1:
            place = mapping.items["decay"].span
            self.error("NS508", f"`decay` is the share that stays, below 1, and got {decay:g}", place)
        return Ema(decay=decay, use_buffers=self.flag("use_buffers", False, mapping))

    def swa(self, length: Duration) -> Swa | None:
        node = self.node.items.get("swa")
        if not isinstance(node, Mapping):
            return None
        if "ema" in self.node.items:
            self.error(
                "NS508",
                "`swa` and `ema` are two averages, and a run keeps one",
                self.node.key_spans["swa"],
                help="leave out one of them",
            )
        place = node.items["start"]
        start = self.length(place, "start", place.span) if isinstance(place, Mapping) else None
        if start is not None and start.epochs is None:
            self.error(
                "NS508",
                "`start` counts epochs, at whose ends the weights are taken",
                place.span,
                help="start: {epochs: 10}",
            )
        first = start.epochs if start is not None and start.epochs is not None else 0
        if length.epochs is not None and first >= length.epochs:
            self.error(
                "NS508",
                f"the average starts after {first} epochs, and the run has {length.epochs}",
                place.span,
                help="start: {epochs: $(train.epochs * 3 // 4)}",
            )
        stated = "swa_lr" in node.items
        for key in ("anneal_epochs", "anneal_strategy"):
            if key in node.items and not stated:
                where = node.key_spans[key]
                self.error("NS508", f"`{key}` says how the rate goes to `swa_lr`, and there is none", where)
        anneal = self.count(node, "anneal_epochs", 0)
        strategy = self.choice(node, "anneal_strategy", ("cos", "linear"), "cos")
        return Swa(
            start=first,
            swa_lr=self.number(node, "swa_lr", 0.0, 0.0) if stated else None,
            anneal_epochs=10 if anneal is None else anneal,
            anneal_strategy=cast(Literal["cos", "linear"], strategy),
            evaluate=self.flag("evaluate", "early_stopping" in self.node.items, node),
        )
