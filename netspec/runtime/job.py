"""What the training loop works with: how far a run has come, the batches it takes, and everything else in a `Job`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from netspec.recipe.train import TrainRecipe
from netspec.runtime.averaging import Average
from netspec.runtime.checkpoint import Snapshot
from netspec.runtime.device import Context
from netspec.runtime.finite import Guard
from netspec.runtime.freezing import Freezing
from netspec.runtime.metrics import Metrics
from netspec.runtime.monitors.answers import Answers
from netspec.runtime.objective import Objective
from netspec.runtime.processes import ALONE, Part, Processes
from netspec.runtime.saver import Saver
from netspec.runtime.schedulers import Schedule
from netspec.runtime.signals import Stop
from netspec.runtime.state import LooseBuffers

if TYPE_CHECKING:
    from netspec.runtime.graphs import Graphs
    from netspec.runtime.journal import Journal
    from netspec.runtime.monitors.watcher import Watcher


class Stream(Protocol):
    """The batches of a split. The order of an epoch depends on the seed and the epoch alone."""

    @property
    def size(self) -> int: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def batches_per_epoch(self) -> int: ...
    def batches(self, epoch: int, start: int = 0) -> Iterator[dict[str, Tensor]]: ...
    def close(self) -> None: ...


@dataclass(slots=True)
class Progress:
    """How far a run has come. `batch` batches of epoch `epoch` (counted from 0) and `step` updates have been done."""

    loss: Tensor
    """The sum over the samples of this epoch whose update was made, on the device."""
    epoch: int = 0
    batch: int = 0
    step: int = 0
    samples: int = 0
    lost: int = 0
    """How many of the samples had their update withheld; where `counted` is given, as of the last `look`."""
    counted: Tensor | None = None
    """How many had it made, where the device alone knows."""
    withheld: int = 0
    """How many updates had been withheld when the epoch began."""
    seconds: float = 0.0
    """Time spent in training, over all sessions of the run."""
    history: list[dict[str, float]] = field(default_factory=list)
    """A row an epoch, by column."""
    processes: Processes = ALONE

    def summed(self) -> Tensor:
        """`loss` over all processes. Each weighs its part so that this is their mean."""
        return self.loss if self.processes.count == 1 else self.processes.sum(self.loss) / self.processes.count

    def look(self) -> tuple[float, int]:
        """`summed`, and the number of samples that it is of: a synchronisation on a GPU."""
        if self.counted is not None:
            self.lost = self.samples - int(self.counted.item())
        return float(self.summed()), self.samples - self.lost

    def next_epoch(self) -> None:
        """Begin an epoch."""
        self.epoch, self.batch, self.samples, self.lost = self.epoch + 1, 0, 0, 0
        self.loss.zero_()
        if self.counted is not None:
            self.counted.zero_()


@dataclass(slots=True, kw_only=True)
class Job:
    """Everything that `fit` works with."""

    recipe: TrainRecipe
    objective: Objective
    optimizer: torch.optim.Optimizer
    freezing: Freezing
    schedule: Schedule
    metrics: Metrics
    train: Stream
    val: Stream | None
    device: torch.device
    context: Context
    scaler: torch.amp.GradScaler | None
    guard: Guard
    progress: Progress
    saver: Saver
    journal: Journal
    stop: Stop
    loose: LooseBuffers
    describe: Callable[[], Mapping[str, Any]]
    """What else a checkpoint holds: the state of the data, the settings of which the state depends."""
    answers: Callable[[bool], Answers | None] = lambda embed: None
    """Makes what looks at an evaluation of a classifier; `embed` keeps what its last layer gets, too."""
    news: Callable[[], str | None] = lambda: None
    """What the data have to tell since it was last asked: samples that could not be read."""
    watcher: Watcher | None = None
    """Looks at some of the updates and evaluations, where the recipe says so."""
    prune: Callable[[Mapping[str, float]], bool] | None = None
    """Is told of each epoch's row; where it says so, the run ends there."""
    pruned: bool = False
    average: Average | None = None
    processes: Processes = ALONE
    part: Part | None = None
    """What this process has of the batch at hand, where several train together."""
    sharded: bool = False
    """Whether each process has a part of the weights alone."""
    in_parts: bool = False
    """Whether each process writes its parts of a checkpoint, and reads them, in a folder that all see."""
    graphs: Graphs | None = None
    """Does the steps that can be recorded, where the recipe says so."""
    told_of_evaluation: bool = False
    """Whether it has been told where the numbers of an evaluation come from that are not finite."""
    held: Snapshot | None = None
    """The best so far, where it was not yet time to write it."""
    saved: tuple[int, ...] = ()
    """The `mark` of the last state that was handed to the saver, or restored."""
    saved_at: float = 0.0
    rate: float = 0.0
    """Samples a second in the last epoch's training, evaluations and checkpoints left out."""
    began: float = 0.0
    """When the run would have begun, had all its sessions followed one another."""

    @property
    def scale_of_gradients(self) -> float:
        """What gradients are multiplied with after a step; a fused optimizer leaves the scaler's factor in them."""
        fused = all(group.get("fused") for group in self.optimizer.param_groups)
        return self.scaler.get_scale() if self.scaler is not None and fused and not self.recipe.clip_grad else 1.0


@dataclass(slots=True)
class Pace:
    """How fast an epoch is trained."""

    samples: int = 0
    began: float = 0.0

    def begin(self, progress: Progress) -> None:
        self.samples, self.began = progress.samples, time.perf_counter()

    def rate(self, progress: Progress) -> float:
        """Samples a second since `begin`."""
        spent = time.perf_counter() - self.began
        return round((progress.samples - self.samples) / spent, 1) if spent > 0 else 0.0


def reached(job: Job) -> bool:
    """Whether all the steps, or all the epochs, have been made."""
    length, progress = job.recipe.length, job.progress
    if length.steps is not None:
        return progress.step >= length.steps
    return progress.epoch >= (length.epochs or 0)


def reached_after(job: Job) -> bool:
    """Whether the run's length is reached with the epoch that ends."""
    length, progress = job.recipe.length, job.progress
    return progress.step >= length.steps if length.steps is not None else progress.epoch + 1 >= (length.epochs or 0)


def finished(job: Job) -> bool:
    """Whether that is so and the last epoch has its row, or the figure that is watched has stopped improving."""
    history, rule = job.progress.history, job.recipe.early_stopping
    if reached(job) and history and history[-1]["step"] == job.progress.step:
        return True
    if rule is None or not history:
        return False
    sign = 1 if rule.mode == "min" else -1
    best, since = math.inf, 0
    for row in history:
        figure = sign * row[rule.monitor]
        best, since = (figure, 0) if figure < best - rule.min_delta else (best, since + 1)
    return since >= rule.patience


def mark(progress: Progress) -> tuple[int, ...]:
    """What tells two states of one run apart."""
    return progress.step, progress.epoch, progress.batch, len(progress.history)


def sum_type(device: torch.device) -> torch.dtype:
    """The widest floating-point type of the device: sums over an epoch keep their digits in it."""
    return torch.float32 if device.type == "mps" else torch.float64
