"""What a run shows of itself beside its figures: the kinds of TensorBoard, declared hooks, maps, and trackers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from netspec.recipe.train import Duration

Method = Literal["gradcam", "cam"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorBoard:
    """How often each kind is written; None is never.

    `auto` is when an epoch ends, as long as all of it takes less than a hundredth of the run's time, and at the end.
    """

    graph: bool = True
    histograms: Duration | Literal["auto"] | None = "auto"
    """Of weights and their gradients."""
    images: Duration | Literal["auto"] | None = "auto"
    """A grid of inputs as the model gets them. `auto` is once."""
    pr_curves: Duration | Literal["auto"] | None = "auto"
    confusion: Duration | Literal["auto"] | None = "auto"
    embeddings: Duration | Literal["auto"] | None = None
    """What goes into the last layer that has weights, for the projector."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CamImages:
    """Maps of what counted for the answer, over some images of `val`: how often, of which layer, of how many images."""

    every: Duration
    layer: str | None = None
    method: Method = "gradcam"
    images: int = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Monitor:
    """Hooks that are there for every so many-th step alone. `watched` has globs by kind, those of `catalog.seeing`."""

    every: int
    watched: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    cam: CamImages | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracker:
    """A client that is told of the run; `arguments` are those of its own `init` or `start_run`."""

    type: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
