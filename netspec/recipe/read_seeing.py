"""What a run shows of itself: `tensorboard`, `monitor` and `track` of the `train` section."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Literal, cast

from netspec.catalog.seeing import METHODS, TRACKERS, WATCHED
from netspec.document import Mapping, Node, Sequence
from netspec.recipe.reading import WRONG, show
from netspec.recipe.seeing import CamImages, Method, Monitor, TensorBoard, Tracker
from netspec.recipe.train import Duration
from netspec.recipe.train_values import TrainReader, listed, settled
from netspec.suggest import suggest

BY_EPOCH = ("pr_curves", "confusion", "embeddings")
"""What is made of an evaluation."""


class SeeingReader(TrainReader):
    """Reads `tensorboard`, `monitor` and `track`."""

    __slots__ = ()

    def tensorboard(self) -> TensorBoard | None:
        node = self.node.items.get("tensorboard")
        if not isinstance(node, Mapping):
            return TensorBoard() if self.flag("tensorboard", True, self.node) else None
        default = TensorBoard()
        return TensorBoard(
            graph=self.flag("graph", True, node),
            **{
                key: self.often(node, key, getattr(default, key))
                for key in ("histograms", "images", "pr_curves", "confusion", "embeddings")
            },
        )

    def often(
        self, node: Mapping, key: str, default: Duration | Literal["auto"] | None
    ) -> Duration | Literal["auto"] | None:
        found = node.items.get(key)
        if isinstance(found, Mapping):
            if key in BY_EPOCH and "steps" in found.items:
                self.error(
                    "NS508",
                    f"`{key}` is made of an evaluation, which comes with an epoch's end",
                    found.key_spans["steps"],
                    help=f"{key}: {{epochs: 1}}",
                )
            return self.length(found, key, found.span)
        if found is None:
            return default
        return "auto" if self.flag(key, True, node) else None

    def monitoring(self, log_every: int) -> Monitor | None:
        node = self.node.items.get("monitor")
        if not isinstance(node, Mapping):
            return None
        watched = {}
        for kind in WATCHED:
            names = self.model.parameters if kind == "parameters" else self.model.layers
            what = "parameter" if kind == "parameters" else "layer that is a module"
            if kind in node.items:
                watched[kind] = self.globs(node.items[kind], names, what)
        cam = node.items.get("cam")
        every = self.count(node, "every", 1)
        return Monitor(
            every=log_every if every is None else every,
            watched=watched,
            cam=self.cam(cam) if cam is not None else None,
        )

    def cam(self, node: Node) -> CamImages | None:
        if not isinstance(node, Mapping) and self.value(node) is not True:
            return None
        if self.data is not None and "val" not in self.data.splits:
            self.error("NS570", "maps are drawn over images of `val`, and the data have none", node.span)
        if not isinstance(node, Mapping):
            return CamImages(every=Duration(epochs=1))
        every = node.items.get("every")
        layer = node.items.get("layer")
        found = self.globs(layer, self.model.layers, "layer that is a module") if layer is not None else ()
        return CamImages(
            every=(self.length(every, "every", every.span) if isinstance(every, Mapping) else None)
            or Duration(epochs=1),
            layer=found[0] if found else None,
            method=cast(Method, self.choice(node, "method", METHODS, "gradcam")),
            images=self.count(node, "images", 1) or 8,
        )

    def globs(self, node: Node, names: Iterable[str], what: str) -> tuple[str, ...]:
        """Patterns, each of which has to match one of the names at least."""
        patterns = self.value(node)
        patterns = [patterns] if isinstance(patterns, str) else patterns
        if not isinstance(patterns, list) or not all(isinstance(pattern, str) for pattern in patterns):
            self.reject(
                patterns, "NS570", f"here stands a glob, or a list of them, and got {show(patterns)}", node.span
            )
            return ()
        spans = [item.span for item in node.items] if isinstance(node, Sequence) else [node.span]
        known = list(names)
        for pattern, span in zip(patterns, spans, strict=True):
            if not any(fnmatchcase(name, pattern) for name in known):
                near = suggest(pattern, known)
                there = f"names are such as {listed(known[:4])}; `*` crosses dots" if known else "the model has none"
                self.error(
                    "NS570",
                    f"`{pattern}` matches no {what} of the model",
                    span,
                    help=f"did you mean `{near}`?" if near else there,
                )
        return tuple(patterns)

    def trackers(self) -> tuple[Tracker, ...]:
        node = self.node.items.get("track")
        if node is None:
            return ()
        if not isinstance(node, Mapping):
            items = node.items if isinstance(node, Sequence) else [node]
            for item in items:
                if self.value(item) not in TRACKERS:
                    self.unknown("tracker", self.value(item), item.span, TRACKERS)
            return tuple(Tracker(type=str(self.value(item))) for item in items)
        given = {name: self.value(item) for name, item in node.items.items()}
        return tuple(Tracker(type=name, arguments=settled(a)) for name, a in given.items() if a is not WRONG)
