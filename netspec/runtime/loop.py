"""The training loop. One function, read from top to bottom; what it needs stands in a `Job`.

Nothing in a step reads a number back from the device: the sums stay there, and are read every `log_every` steps.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NoReturn, Protocol

import torch
from torch import Tensor

from netspec.recipe.train import Checkpoint, ClipGrad, TrainRecipe
from netspec.runtime.averaging import Average, averaged
from netspec.runtime.checkpoint import Snapshot, snapshot
from netspec.runtime.device import Context
from netspec.runtime.finite import Buffers, Guard, explain
from netspec.runtime.freezing import Freezing
from netspec.runtime.metrics import Metrics
from netspec.runtime.monitors.answers import Answers
from netspec.runtime.objective import Batch, Objective
from netspec.runtime.optimizers import optimizer_state
from netspec.runtime.saver import Saver
from netspec.runtime.schedulers import Schedule
from netspec.runtime.signals import Stop
from netspec.runtime.state import LooseBuffers, random_state

if TYPE_CHECKING:
    from netspec.runtime.journal import Journal
    from netspec.runtime.monitors.watcher import Watcher

PAUSE: Final = 5.0
"""Seconds between checkpoints where the spec does not say how often."""
SMALLEST_SCALE: Final = 2.0**-10
"""fp16 training whose factor has fallen below this finds no finite gradient any more."""


class Stream(Protocol):
    """The batches of a split. The order of an epoch depends on the seed and the epoch alone."""

    @property
    def size(self) -> int: ...
    @property
    def batches_per_epoch(self) -> int: ...
    def batches(self, epoch: int, start: int = 0) -> Iterator[dict[str, Tensor]]: ...
    def close(self) -> None: ...


@dataclass(slots=True)
class Progress:
    """How far a run has come. `batch` batches of epoch `epoch` (counted from 0) and `step` updates have been done."""

    loss: Tensor
    """The sum over the samples of this epoch, on the device."""
    epoch: int = 0
    batch: int = 0
    step: int = 0
    samples: int = 0
    seconds: float = 0.0
    """Time spent in training, over all sessions of the run."""
    history: list[dict[str, float]] = field(default_factory=list)
    """A row an epoch, by column."""


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
    watcher: Watcher | None = None
    """Looks at some of the updates and evaluations, where the recipe says so."""
    average: Average | None = None
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


def fit(job: Job) -> None:
    """Train until the recipe's end, an early stop, or a signal. The last checkpoint is on the disk when it returns.

    Raises RunError NS902 where too many updates were not finite, NS907 where the last checkpoint can't be written.
    """
    recipe, objective, optimizer, schedule = job.recipe, job.objective, job.optimizer, job.schedule
    progress, scaler, guard, stop, journal = job.progress, job.scaler, job.guard, job.stop, job.journal
    model, first_field, total = objective.model, objective.fields[0], job.train.batches_per_epoch
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    lbfgs = isinstance(optimizer, torch.optim.LBFGS)
    watcher, pace = job.watcher, Pace()
    average = job.average
    train_metrics = job.metrics if job.metrics and job.val is None else None
    buffers, limit = Buffers(model, guard.read()), recipe.withheld_limit
    at_once = scaler is None and not guard.deferred  # whether each update is known to be finite before the next
    save_every = recipe.checkpoint.every.steps if recipe.checkpoint.every else None
    job.saved_at = time.monotonic()
    job.began = job.saved_at - progress.seconds

    while not finished(job):
        job.freezing.apply(epoch=progress.epoch, step=progress.step)
        model.train()
        skipped = guard.read()
        pace.begin(progress)
        for batch in () if reached(job) else job.train.batches(progress.epoch, start=progress.batch):
            if at_once and progress.batch % recipe.accumulate == 0:
                buffers.keep()
            # Batches that share an update weigh alike; fewer may be left for the last update of an epoch.
            done = progress.batch % recipe.accumulate
            share = min(recipe.accumulate, total - progress.batch + done)
            look = watcher is not None and done + 1 >= share and looked_at(watcher, progress, total)
            with job.context():
                outputs = objective.forward(batch)
                loss = objective.loss(outputs, batch)
            scaled = loss if share == 1 else loss / share
            (scaled if scaler is None else scaler.scale(scaled)).backward()  # type: ignore[no-untyped-call]

            size = len(batch[first_field])
            progress.loss.add_(loss.detach(), alpha=size)
            progress.samples += size
            progress.batch += 1
            if train_metrics is not None:
                train_metrics.update(outputs, batch)
            if done + 1 < share:
                continue

            if scaler is not None:
                step_scaled(job, parameters)
            else:
                if recipe.clip_grad is not None:
                    clip(parameters, recipe.clip_grad)
                if guard.check(loss, [p.grad for p in parameters if p.grad is not None]):
                    if lbfgs:
                        optimizer.step(Again(job, batch, loss))  # type: ignore[arg-type]
                    else:
                        optimizer.step()
                else:
                    buffers.restore()
                    if guard.withheld >= limit:
                        give_up(job)
            if look:
                assert watcher is not None
                watcher.close(progress.step + 1, batch, job.scale_of_gradients)
            for p in parameters:
                p.grad = None
            progress.step += 1
            if average is not None:
                average.update()
            if schedule.active:
                schedule.after_step(progress.step)
            if job.freezing.by_steps:
                job.freezing.apply(epoch=progress.epoch, step=progress.step)

            if progress.step % recipe.log_every == 0:
                if guard.read() >= limit:
                    give_up(job)
                if guard.deferred:
                    buffers.look(guard.withheld)
                journal.log(progress, schedule.rate)  # a synchronisation
            journal.tick(progress)
            if stop.signal or reached(job):
                break
            if save_every and progress.step % save_every == 0 and progress.batch < total:
                save(job)

        if guard.read() >= limit:
            give_up(job)
        if guard.deferred:
            buffers.look(guard.withheld)
        job.rate = pace.rate(progress)
        if stop.signal or not close_epoch(job, withheld=guard.withheld - skipped):
            break
    if stop.signal:  # before workers that got the same signal give up waiting for work
        for stream in (job.train, job.val):
            if stream is not None:
                stream.close()
    if job.saved != mark(progress) or job.saver.failed():
        save(job)
    job.saver.wait()
    progress.seconds = time.monotonic() - job.began


def reached(job: Job) -> bool:
    """Whether all the steps, or all the epochs, have been made."""
    length, progress = job.recipe.length, job.progress
    if length.steps is not None:
        return progress.step >= length.steps
    return progress.epoch >= (length.epochs or 0)


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


def clip(parameters: list[torch.nn.Parameter], rule: ClipGrad) -> None:
    """Shorten the gradients: all of them together to a norm, or each number to a range."""
    if rule.norm is not None:
        torch.nn.utils.clip_grad_norm_(parameters, rule.norm)
    if rule.value is not None:
        torch.nn.utils.clip_grad_value_(parameters, rule.value)


def looked_at(watcher: Watcher, progress: Progress, total: int) -> bool:
    """Whether the update that a batch completes is looked at; if so its hooks stand."""
    due = watcher.due(progress.step + 1, ends=progress.batch + 1 >= total, epoch=progress.epoch + 1)
    if due:
        watcher.open()
    return due


def step_scaled(job: Job, parameters: list[torch.nn.Parameter]) -> None:
    """An update in fp16: the scaler withholds it where a gradient is not finite, and then takes a smaller factor."""
    assert job.scaler is not None
    if job.recipe.clip_grad is not None:
        job.scaler.unscale_(job.optimizer)
        clip(parameters, job.recipe.clip_grad)
    job.scaler.step(job.optimizer)
    job.scaler.update()
    if job.progress.step % job.recipe.log_every == 0 and job.scaler.get_scale() < SMALLEST_SCALE:
        give_up(job)


class Again:
    """The closure that LBFGS calls as often as it likes: the loss and its gradient at the present weights.

    The first call is answered with what the loop has computed for these weights already.
    """

    def __init__(self, job: Job, batch: Batch, loss: Tensor) -> None:
        self.job = job
        self.batch = batch
        self.known: Tensor | None = loss

    def __call__(self) -> Tensor:
        if self.known is not None:
            loss, self.known = self.known, None
            return loss
        self.job.optimizer.zero_grad()
        with self.job.context():
            loss = self.job.objective.loss(self.job.objective.forward(self.batch), self.batch)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss


def give_up(job: Job) -> NoReturn:
    """Raise the error that names the last batch whose update was withheld, and the layer where it went wrong."""
    progress, total = job.progress, job.train.batches_per_epoch
    back = (job.guard.step - job.guard.last) * job.recipe.accumulate if job.guard.last else 0
    place = progress.epoch * total + max(progress.batch, 1) - 1 - back
    epoch, index = divmod(max(place, 0), total)
    batch = next(iter(job.train.batches(epoch, start=index)))
    with job.context():
        raise explain(job.objective, batch, job.guard.withheld, f"epoch {epoch + 1}, batch {index + 1} of {total}")


def evaluate(
    objective: Objective,
    stream: Stream,
    metrics: Metrics,
    context: Context,
    stop: Stop,
    answers: Answers | None = None,
) -> dict[str, float] | None:
    """The loss (its mean over the samples) and the metrics of a split, or None where a signal came in between.

    `answers` looks at each batch as well.
    """
    objective.model.eval()
    metrics.reset()
    total: Tensor | None = None
    samples = 0
    with torch.no_grad(), nullcontext() if answers is None else answers:
        for batch in stream.batches(0):
            with context():
                outputs = objective.forward(batch)
                loss = objective.loss(outputs, batch)
            size = len(batch[objective.fields[0]])
            total = loss.new_zeros((), dtype=sum_type(loss.device)) if total is None else total
            total.add_(loss, alpha=size)
            samples += size
            metrics.update(outputs, batch)
            if answers is not None:
                answers.update(outputs, batch)
            if stop.signal:
                return None
    figures = {"loss": math.nan if total is None else float(total) / samples, **metrics.compute()}
    metrics.reset()
    return figures


def close_epoch(job: Job, *, withheld: int) -> bool:
    """Evaluate, write the epoch's row, advance the schedule, save where it is time. False where a signal came first."""
    progress, checkpoint = job.progress, job.recipe.checkpoint
    row: dict[str, float] = {"epoch": progress.epoch + 1, "step": progress.step}
    row["train.loss"] = float(progress.loss) / progress.samples if progress.samples else math.nan
    if job.val is None:
        row |= {f"train.{name}": value for name, value in job.metrics.compute().items()}
    else:
        answers = job.watcher.looks(progress.epoch + 1, last=reached_after(job)) if job.watcher is not None else None
        with averaged(job.average):
            figures = evaluate(job.objective, job.val, job.metrics, job.context, job.stop, answers)
        if figures is None:
            return False
        if answers is not None and job.watcher is not None:
            job.watcher.evaluated("val", answers, progress.step)
        row |= {f"val.{name}": value for name, value in figures.items()}
    progress.seconds = time.monotonic() - job.began
    row |= {"lr": job.schedule.rate, "samples_per_second": job.rate, "seconds": round(progress.seconds, 3)}
    row["withheld"] = withheld
    progress.history.append(row)
    job.journal.row(row)
    if job.watcher is not None:
        batches = functools.partial(first_batch, job.val)
        with averaged(job.average):
            job.watcher.epoch_ended(progress.epoch + 1, progress.step, batches, job.context)

    complete = progress.batch >= job.train.batches_per_epoch
    if complete:
        progress.epoch, progress.batch, progress.samples = progress.epoch + 1, 0, 0
        progress.loss.zero_()
        job.metrics.reset()
        job.schedule.after_epoch(row, progress.step)

    every = checkpoint.every
    if every is None:
        due = time.monotonic() - job.saved_at >= PAUSE
    elif every.epochs is not None:
        due = complete and progress.epoch % every.epochs == 0
    else:
        due = progress.step % (every.steps or 1) == 0
    if due:
        save(job)
    elif improved(progress.history, checkpoint):
        job.held = take(job)
    return True


def first_batch(stream: Stream | None) -> Batch | None:
    return next(iter(stream.batches(0))) if stream is not None else None


def reached_after(job: Job) -> bool:
    """Whether the run's length is reached with the epoch that ends."""
    length, progress = job.recipe.length, job.progress
    return progress.step >= length.steps if length.steps is not None else progress.epoch + 1 >= (length.epochs or 0)


def improved(history: list[dict[str, float]], checkpoint: Checkpoint) -> bool:
    """Whether the last row has the best monitored figure so far."""
    if checkpoint.monitor is None:
        return False
    sign = 1 if checkpoint.mode == "min" else -1
    last = sign * history[-1][checkpoint.monitor]
    return all(last < sign * row[checkpoint.monitor] for row in history[:-1]) and last == last


def save(job: Job) -> None:
    """Hand the state, and the best one that was held back, to the thread that writes."""
    taken = take(job)
    held, job.held = job.held, None
    job.saver.save(*([held] if held is not None and held.step != taken.step else []), taken)
    job.saved, job.saved_at = mark(job.progress), time.monotonic()


def take(job: Job) -> Snapshot:
    """A copy of all that the run needs to go on from here, bit for bit."""
    progress = job.progress
    progress.seconds = time.monotonic() - job.began
    row = progress.history[-1] if progress.history else {}
    monitor = job.recipe.checkpoint.monitor
    with averaged(job.average):
        return snapshot(
            step=progress.step,
            epoch=progress.epoch,
            model=job.objective.model,
            figure=row[monitor] if monitor is not None and row.get("step") == progress.step else None,
            state={
                "progress": {
                    "loss": progress.loss,
                    "epoch": progress.epoch,
                    "batch": progress.batch,
                    "samples": progress.samples,
                    "seconds": progress.seconds,
                    "history": progress.history,
                },
                "optimizer": optimizer_state(job.optimizer, job.objective.model),
                "schedule": job.schedule.state(),
                "scaler": job.scaler.state_dict() if job.scaler is not None else None,
                "metrics": job.metrics.state(),
                "withheld": job.guard.read(),
                "random": random_state(job.device),
                "buffers": job.loose.state(),
                **({"average": job.average.state()} if job.average is not None else {}),
                **job.describe(),
            },
        )


def mark(progress: Progress) -> tuple[int, ...]:
    """What tells two states of one run apart."""
    return progress.step, progress.epoch, progress.batch, len(progress.history)


def sum_type(device: torch.device) -> torch.dtype:
    """The widest floating-point type of the device: sums over an epoch keep their digits in it."""
    return torch.float32 if device.type == "mps" else torch.float64
