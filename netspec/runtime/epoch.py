"""Between two epochs: evaluate, write the row, advance the schedule, save where it is time."""

from __future__ import annotations

import functools
import math
import time
from contextlib import nullcontext
from typing import Any, Final

import torch
from torch import Tensor

from netspec.recipe.train import Checkpoint
from netspec.runtime.averaging import SwaAverage, averaged
from netspec.runtime.checkpoint import Snapshot, snapshot
from netspec.runtime.compiling import uncompiled
from netspec.runtime.device import Context
from netspec.runtime.job import Job, Stream, mark, reached_after, sum_type
from netspec.runtime.metrics import Metrics
from netspec.runtime.monitors.answers import Answers
from netspec.runtime.not_finite import look_into
from netspec.runtime.objective import Batch, Objective
from netspec.runtime.optimizers import optimizer_state
from netspec.runtime.processes import ALONE, Part, Processes
from netspec.runtime.sharding import gathered
from netspec.runtime.signals import Stop
from netspec.runtime.together import apart, random_states

PAUSE: Final = 5.0
"""Seconds between checkpoints where the spec does not say how often."""


def evaluate(
    objective: Objective,
    stream: Stream,
    metrics: Metrics,
    context: Context,
    stop: Stop,
    answers: Answers | None = None,
    *,
    processes: Processes = ALONE,
    part: Part | None = None,
) -> dict[str, float] | None:
    """The loss (its mean over the samples) and the metrics of a split, or None where a signal came in between.

    `answers` looks at each batch as well. Where several processes share the batches, `part` says what this one has of
    them, and each gets the figures of all.
    """
    objective.model.eval()
    if processes.count > 1:  # those that a batch norm has gathered differ, and the first one's count
        processes.same([buffer for buffer in objective.model.buffers() if buffer.numel()])
    metrics.reset()
    total: Tensor | None = None
    samples = 0
    with torch.no_grad(), nullcontext() if answers is None else answers:
        for batch in stream.batches(0):
            with context():
                outputs = objective.forward(batch)
                loss = objective.loss(outputs, batch)
            size = len(batch[objective.fields[0]]) if part is None else part.whole
            total = loss.new_zeros((), dtype=sum_type(loss.device)) if total is None else total
            total.add_(loss, alpha=size)
            samples += size
            metrics.update(outputs, batch)
            if answers is not None and (part is None or part.own):
                answers.update(outputs, batch)
            if stop.agree is not None:
                stop.agree()
            if stop.signal:
                return None
    if total is not None and processes.count > 1:
        total = processes.sum(total) / processes.count
    figures = {"loss": math.nan if total is None else float(total) / samples, **metrics.compute(processes)}
    if answers is not None and processes.count > 1:
        answers.take(processes.all(answers.seen()))
    metrics.reset()
    return figures


def close_epoch(job: Job, *, withheld: int) -> bool:
    """Evaluate, write the epoch's row, advance the schedule, save where it is time. False where a signal came first."""
    progress, checkpoint = job.progress, job.recipe.checkpoint
    complete = progress.batch >= job.train.batches_per_epoch
    if complete and job.average is not None:
        job.average.after_epoch(progress.epoch + 1)
    if not settled(job):
        return False
    row: dict[str, float] = {"epoch": progress.epoch + 1, "step": progress.step}
    total, counted = progress.look()
    row["train.loss"] = total / counted if counted else math.nan
    if job.val is None:
        row |= {f"train.{name}": value for name, value in job.metrics.compute(job.processes).items()}
    else:
        answers = looks(job)
        with averaged(job.average):
            figures = measured(job, job.val, answers)
            if figures is not None:
                look_into(job, "val", figures, job.val)
        if figures is None:
            return False
        if answers is not None and job.watcher is not None:
            job.watcher.evaluated("val", answers, progress.step)
        row |= {f"val.{name}": value for name, value in figures.items()}
    progress.seconds = time.monotonic() - job.began
    row |= {"lr": job.schedule.rate, "samples_per_second": job.rate, "seconds": round(progress.seconds, 3)}
    row["withheld"] = withheld
    row = job.processes.first(lambda: row)  # what times and roundings differ in decides nothing
    progress.history.append(row)
    job.journal.row(row)
    if (news := job.news()) is not None:
        job.journal.warn(news)
    if job.watcher is not None:
        batches = functools.partial(first_batch, job.val)
        with averaged(job.average):
            job.watcher.epoch_ended(progress.epoch + 1, progress.step, batches, job.context)

    if complete:
        progress.next_epoch()
        job.metrics.reset()
        job.schedule.after_epoch(row, progress.step)

    every = checkpoint.every
    if every is None:
        due = time.monotonic() - job.saved_at >= PAUSE
    elif every.epochs is not None:
        due = complete and progress.epoch % every.epochs == 0
    else:
        due = progress.step % (every.steps or 1) == 0
    if job.processes.first(lambda: due):
        save(job)
    elif improved(progress.history, checkpoint):
        job.held = take(job)
    return True


def measured(job: Job, stream: Stream, answers: Answers | None) -> dict[str, float] | None:
    """The figures of a split with the job's model, as all of its processes see them."""
    parts = {"processes": job.processes, "part": job.part}
    return evaluate(job.objective, stream, job.metrics, job.context, job.stop, answers, **parts)  # type: ignore[arg-type]


def looks(job: Job) -> Answers | None:
    """What looks at the evaluation of the epoch that ends, where the watcher of the first process wants one."""
    epoch, watcher = job.progress.epoch + 1, job.watcher
    found = watcher.looks(epoch, last=reached_after(job)) if watcher is not None else None
    if job.processes.count == 1:
        return found
    embeds = job.processes.first(lambda: None if found is None else found.embeds)
    return found if found is not None or embeds is None else job.answers(embeds)


def settled(job: Job) -> bool:
    """Have the average of an SWA ready to be shown where it is time for that. False where a signal came first."""
    average, swa, progress = job.average, job.recipe.swa, job.progress
    if swa is None or not isinstance(average, SwaAverage) or not average.started or average.settled:
        return True
    if not swa.evaluate and not reached_after(job):
        return True
    with job.context():
        # A pass of sharded weights is one of all processes, and lets go of what it has put together.
        objective = job.objective if job.sharded else uncompiled(apart(job.objective))
        average.settle(job.train.batches(progress.epoch), objective.forward, job.device, job.stop)
    return average.settled


def first_batch(stream: Stream | None) -> Batch | None:
    return next(iter(stream.batches(0))) if stream is not None else None


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
    """A copy of all that the run needs to go on from here, bit for bit; of cut tensors this process's parts."""
    progress = job.progress
    progress.seconds = time.monotonic() - job.began
    row = progress.history[-1] if progress.history else {}
    monitor = job.recipe.checkpoint.monitor
    figure = row[monitor] if monitor is not None and row.get("step") == progress.step else None
    # What the processes tell each other comes first: one that writes nothing is done then.
    (loss, _), metrics = progress.look(), job.metrics.state(job.processes)
    random = random_states(job.processes, job.device)
    memory: Any = optimizer_state(job.optimizer, job.objective.model)
    whole: Any = None
    with averaged(job.average):
        average: Any = {"average": job.average.state()} if job.average is not None else {}
        if job.sharded and not job.in_parts:
            keep = job.processes.writes
            tree = gathered((job.objective.model.state_dict(), memory, average), keep=keep)
            whole, memory, average = tree
        if not job.processes.writes and not job.in_parts:
            return Snapshot(step=progress.step, epoch=progress.epoch, model={}, state={}, figure=figure)
        return snapshot(
            step=progress.step,
            epoch=progress.epoch,
            model=job.objective.model,
            weights=whole,
            figure=figure,
            state={
                "progress": {
                    "loss": loss,
                    "epoch": progress.epoch,
                    "batch": progress.batch,
                    "samples": progress.samples,
                    "lost": progress.lost,
                    "withheld": progress.withheld,
                    "seconds": progress.seconds,
                    "history": progress.history,
                },
                "optimizer": memory,
                "schedule": job.schedule.state(),
                "scaler": job.scaler.state_dict() if job.scaler is not None else None,
                "metrics": metrics,
                "withheld": job.guard.read(),
                **random,
                "buffers": job.loose.state(),
                **average,
                **job.describe(),
            },
        )
