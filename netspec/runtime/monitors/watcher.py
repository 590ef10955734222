"""What the loop shows to those who look: nothing between two looks, and then once, without changing a number."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

import torch
from torch import Tensor, nn

from netspec.recipe.train import Duration, TrainRecipe
from netspec.runtime.cut import let_go
from netspec.runtime.monitors.answers import Answers, markdown, of_classes
from netspec.runtime.monitors.cam import activation_maps, map_layer
from netspec.runtime.monitors.events import Events
from netspec.runtime.monitors.hooks import Hooks
from netspec.runtime.monitors.pictures import drawn_confusion, grid, in_bytes, is_image, overlay, shown, stretched

if TYPE_CHECKING:
    from tensorboard.compat.proto.graph_pb2 import GraphDef

    from netspec.runtime.objective import Batch, Objective

How = Duration | Literal["auto"] | None
SHARE: Final = 0.01
"""What is looked at without being asked for takes no more of a run's time than this."""
FIRST: Final = 0.3
"""Seconds that it is thought to take before it has been measured."""
EMBEDDED: Final = 500
"""So many samples go to the projector."""
CURVES: Final = 100
"""So many classes have a curve at most."""
TABLE: Final = 30
"""So many classes have a confusion matrix with names."""


class Watcher:
    """Decides which updates and epochs are looked at, puts hooks in for those, and writes events.

    `due` is asked before each update, `open` and `close` stand around one that is. answers: makes what looks at an
    evaluation, None where the model is no classifier. agree: where weights are cut all processes have a watcher, as
    they look together, and the first one's decides what at; the others' have events that are not written.
    """

    def __init__(
        self,
        recipe: TrainRecipe,
        objective: Objective,
        events: Events,
        answers: Callable[[bool], Answers | None],
        images: str | None,
        started: int,
        agree: Callable[[Callable[[], set[str]]], set[str]] | None = None,
    ) -> None:
        self.events = events
        self.model = objective.model
        self.fields = tuple(recipe.inputs.values())
        """What the model takes of a batch, in the order of its inputs."""
        self.answers = answers
        self.image = images
        self.length = recipe.length
        self.settings = recipe.tensorboard
        self.monitor = recipe.monitor
        self.agree = agree
        self.hooks: Hooks | None = None
        if recipe.monitor and recipe.monitor.watched:
            self.hooks = Hooks(recipe.monitor, self.model, follows=events.broken)
        self.graph: Callable[[], GraphDef] | None = None
        """Draws the model, where that is wanted: once, when the first epoch has ended."""
        self._once = started == 0
        self._spent, self._last, self._began = 0.0, FIRST, time.monotonic()
        self._at: tuple[tuple[str, int], ...] = tuple(self._steps())
        self._now: set[str] = set()
        self._epoch = 0
        self._factor = 1.0
        self._counted = -1

    @property
    def by_steps(self) -> bool:
        """Whether updates are looked at in the middle of an epoch."""
        return bool(self._at)

    def _steps(self) -> list[tuple[str, int]]:
        """The kinds that are looked at by steps."""
        kinds = {"histograms": self.settings.histograms, "images": self.settings.images} if self.settings else {}
        found = [(kind, how.steps) for kind, how in kinds.items() if isinstance(how, Duration) and how.steps]
        return [*found, ("hooks", self.monitor.every)] if self.hooks is not None and self.monitor else found

    def due(self, step: int, *, ends: bool, epoch: int) -> bool:
        """Whether update number `step` is looked at. ends: it is the last of epoch number `epoch`, from 1."""
        if not ends and (not self._at or all(step % every for _, every in self._at)):
            return False
        self._now = {kind for kind, every in self._at if step % every == 0}
        if (ends or step == self.length.steps) and self.settings is not None:
            last = step == self.length.steps or epoch == self.length.epochs
            for kind, how in (("histograms", self.settings.histograms), ("images", self.settings.images)):
                once = kind == "images" and how == "auto"
                if self._once if once else self._wanted(how, epoch, last):
                    self._now.add(kind)
        if self.agree is not None:
            self._now = self.agree(lambda: self._now)
        return bool(self._now)

    def _wanted(self, how: How, epoch: int, last: bool) -> bool:
        if isinstance(how, Duration):
            return how.epochs is not None and epoch % how.epochs == 0
        return how == "auto" and (last or self._afford())

    def _afford(self) -> bool:
        return self._spent + self._last <= SHARE * (time.monotonic() - self._began)

    def open(self, factor: float = 1.0) -> None:
        """Before the forward pass of an update that is due, whose loss `factor` will be multiplied with."""
        self._factor = factor
        if self.hooks is not None and "hooks" in self._now:
            self.hooks.open()

    def close(self, step: int, batch: Batch, factor: float = 1.0) -> None:
        """After its update, while the gradients are there; `factor` is what they are multiplied with by then."""
        began = time.monotonic()
        if self.hooks is not None and "hooks" in self._now:
            self.hooks.close()
            self.hooks.write(self.events, step, self._factor)
        if "histograms" in self._now:
            self._histograms(step, factor)
        if "images" in self._now:
            self._once = False
        if "images" in self._now and not self.events.broken:
            self._inputs(step, batch)
        self._took(began)

    def _histograms(self, step: int, factor: float) -> None:
        self._counted = step
        found: dict[str, Tensor] = {f"weights/{name}": p for name, p in self.model.named_parameters()}
        for name, parameter in self.model.named_parameters():
            if parameter.grad is not None:
                grad = parameter.grad
                found[f"weights_grad/{name}"] = grad if factor == 1.0 else grad / factor
        self.events.histograms(found, step)

    def _inputs(self, step: int, batch: Batch) -> None:
        for field in self.fields:
            if is_image(batch[field]):
                self.events.picture(f"batch/{field}", grid(batch[field]), step)

    def _took(self, began: float) -> None:
        self._last = max(self._last if self._last != FIRST else 0.0, time.monotonic() - began)
        self._spent += time.monotonic() - began

    def looks(self, epoch: int, *, last: bool) -> Answers | None:
        """What looks at the evaluation at the end of epoch number `epoch`; None where nothing wants it."""
        if self.settings is None or self.events.broken:
            return None
        self._epoch = epoch
        kinds = {kind: getattr(self.settings, kind) for kind in ("pr_curves", "confusion", "embeddings")}
        # At the very end the figures of the best weights follow, with all of it.
        self._now = {
            kind for kind, how in kinds.items() if how is not None and self._wanted(how, epoch, False) and not last
        }
        return self.answers("embeddings" in self._now) if self._now else None

    def evaluated(self, split: str, answers: Answers, step: int, *, final: bool = False) -> None:
        """Write what was seen of an evaluation: at the end of a run all kinds that are on."""
        settings, began = self.settings, time.monotonic()
        if settings is None or not answers or self.events.broken:
            return
        now = self._now
        if final:
            now = {k for k in ("pr_curves", "confusion", "embeddings") if getattr(settings, k) is not None}
        names, matrix = answers.names, answers.matrix
        if "pr_curves" in now:
            scores, true = answers.all_scores()
            for index in (1,) if len(names) == 2 else range(min(len(names), CURVES)):
                self.events.pr_curve(f"pr/{split}/{names[index]}", true == index, scores[:, index], step)
        if "confusion" in now and matrix is not None:
            if len(names) <= TABLE:
                self.events.text(f"confusion/{split}", markdown(matrix, names), step)
            self.events.picture(f"confusion/{split}", drawn_confusion(matrix, names, split), step)
        found = answers.embedding() if "embeddings" in now else None
        if found is not None:
            rows, labels, images = found
            self.events.embedding(f"features_{split}", rows, labels, images, step)
        self._took(began)

    def epoch_ended(self, epoch: int, step: int, batches: Callable[[], Batch | None], context: Any) -> None:
        """The graph, once, and maps over images where they are due. `batches` gives a batch of `val`."""
        if self.graph is not None:
            graph, self.graph = self.graph, None
            self.events.graph(graph())
        self.events.flush()
        cam = self.monitor.cam if self.monitor is not None else None
        if cam is None or self.image is None:
            return
        if epoch % (cam.every.epochs or 1) == 0 if cam.every.steps is None else step % cam.every.steps == 0:
            batch = batches()
            if batch is not None and is_image(batch[self.image]):
                some = tuple(batch[field][: cam.images] for field in self.fields)
                self.events.picture("cam", self._maps(some, batch[self.image][: cam.images], context), step)

    def _maps(self, inputs: tuple[Tensor, ...], images: Tensor, context: Any) -> Tensor:
        """Each image beside its map."""
        cam = self.monitor.cam if self.monitor is not None else None
        assert cam is not None
        self.model.eval()  # as the evaluation left it; an epoch begins with `train()`
        with context():
            layer = map_layer(self.model, inputs, cam.layer)
            maps, _ = activation_maps(self.model, inputs, layer, cam.method)
        let_go(self.model)
        plain = shown(images)
        pairs = torch.stack([plain, overlay(plain, stretched(maps.float().cpu()))], dim=1).flatten(0, 1)
        return grid_of(pairs)

    def finish(self, step: int) -> None:
        """At the end of a run: the graph and the weights where they have not been written."""
        if self.graph is not None:
            graph, self.graph = self.graph, None
            self.events.graph(graph())
        if self.settings is not None and self.settings.histograms == "auto" and self._counted != step:
            self._histograms(step, 1.0)


def grid_of(pairs: Tensor) -> Tensor:
    """Images and their maps, [2 N, 3, H, W], four pairs a row."""
    from torchvision.utils import make_grid

    return in_bytes(make_grid(pairs, nrow=8, padding=1, pad_value=1.0))


def last_weighted(model: nn.Module) -> nn.Module | None:
    """The last layer that has weights of its own: what comes into it is what the model knows of a sample."""
    return next((m for m in reversed(list(model.modules())) if list(m.parameters(recurse=False))), None)


def make_answers(
    recipe: TrainRecipe,
    outputs: tuple[str, ...],
    model: nn.Module,
    classes: Sequence[str] | None,
    image: str | None,
    *,
    embed: bool,
) -> Answers | None:
    """What looks at an evaluation, with its classes' names; None where the model is no classifier."""
    loss = of_classes(recipe)
    if loss is None:
        return None
    layer = last_weighted(model) if embed else None
    return Answers(
        loss,
        outputs,
        classes,
        image=image,
        embed=(layer, EMBEDDED) if layer is not None else None,
    )
