"""The training loop. One function, read from top to bottom; what it needs stands in a `Job`.

Nothing in a step reads a number back from the device: the sums stay there, and are read every `log_every` steps.
"""

from __future__ import annotations

import math
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Final, NoReturn

import torch
from torch import Tensor

from netspec.runtime.clipping import clip
from netspec.runtime.compiling import uncompiled
from netspec.runtime.epoch import close_epoch, save
from netspec.runtime.finite import Buffers, Sums
from netspec.runtime.job import Job, Pace, finished, mark, reached
from netspec.runtime.not_finite import culprit, explain, locator
from netspec.runtime.objective import Batch
from netspec.runtime.optimizers import bare_step
from netspec.runtime.processes import shared
from netspec.runtime.together import apart

if TYPE_CHECKING:
    from netspec.runtime.monitors.watcher import Watcher

SMALLEST_SCALE: Final = 2.0**-10
"""fp16 training whose factor has fallen below this finds no finite gradient any more."""


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
    ema = job.average if recipe.ema is not None else None
    graphs, part = job.graphs, job.part
    train_metrics = job.metrics if job.metrics and job.val is None else None
    buffers, limit, held = Buffers(model, guard.read()), recipe.withheld_limit, 0
    sums = Sums(guard, progress.loss, progress.samples - progress.lost) if guard.deferred else None
    if sums is not None:
        progress.loss, progress.counted = sums.loss, sums.counted
    at_once = sums is None  # whether each update is known to be finite before the next
    losses, held_losses = progress.loss, torch.zeros_like(progress.loss)
    save_every = recipe.checkpoint.every.steps if recipe.checkpoint.every else None
    # What a step asks for stands here: a small model's step takes as long as forty calls of an empty function.
    accumulate, log_every, clipping = recipe.accumulate, recipe.log_every, recipe.clip_grad
    last_step = math.inf if recipe.length.steps is None else recipe.length.steps
    context = None if job.context is nullcontext else job.context
    by_steps, thaws = watcher is not None and watcher.by_steps, job.freezing.by_steps
    tick = journal.tick if journal.bar is not None else None
    job.saved_at = time.monotonic()
    job.began = job.saved_at - progress.seconds

    while not finished(job):
        job.freezing.apply(epoch=progress.epoch, step=progress.step)
        model.train()
        if not progress.batch:
            progress.withheld = guard.read()
        pace.begin(progress)
        update = bare_step(optimizer)
        for batch in () if reached(job) else job.train.batches(progress.epoch, start=progress.batch):
            done = progress.batch % accumulate
            if at_once and not done:
                buffers.keep()
            # Batches that share an update weigh alike; fewer may be left for the last update of an epoch.
            share = 1 if accumulate == 1 else min(accumulate, total - progress.batch + done)
            ends = progress.batch + 1 >= total
            look = watcher is not None and (by_steps or ends) and done + 1 >= share and looked_at(watcher, job, ends)
            updated = False
            if graphs is not None and not look and share == accumulate and graphs.takes(batch):
                outputs = loss = scaled = None  # nothing is left of a pass on another stream
                outputs, loss = graphs.run(batch)
                updated = graphs.whole
            else:
                if context is None:
                    outputs = objective.forward(batch)
                    loss = objective.loss(outputs, batch)
                else:
                    with context():
                        outputs = objective.forward(batch)
                        loss = objective.loss(outputs, batch)
                scaled = loss if share == 1 else loss / share
                (scaled if scaler is None else scaler.scale(scaled)).backward()  # type: ignore[no-untyped-call]

            size, seen = len(batch[first_field]) if part is None else part.whole, loss.detach()
            progress.samples += size
            progress.batch += 1
            if train_metrics is not None:
                train_metrics.update(outputs, batch)
            if share != 1:  # what shares an update is counted or withheld with it
                if not done:
                    held = 0
                    held_losses.zero_()
                held += size
                held_losses.add_(seen, alpha=size)
                if done + 1 < share:
                    continue
                seen, size = (held_losses / held).to(seen.dtype), held

            made = True
            if scaler is not None:
                step_scaled(job, parameters)
                made = guard.note(seen, buffers.sound)
            elif not updated:
                if clipping is not None:
                    clip(parameters, clipping)
                made = guard.check(seen, [p.grad for p in parameters if p.grad is not None])
                if made and lbfgs:
                    update(Again(job, batch, loss))
                elif made:
                    update()
            if sums is not None:
                sums.add(seen, size)
            elif made:
                losses.add_(seen, alpha=size)
            else:
                progress.lost += size
                buffers.restore()
                if guard.withheld >= limit:
                    give_up(job)
            if look:
                assert watcher is not None
                watcher.close(progress.step + 1, batch, job.scale_of_gradients)
            for p in parameters:
                p.grad = None
            progress.step += 1
            if ema is not None:
                ema.after_step()
            if schedule.active:
                schedule.after_step(progress.step)
            if thaws:
                job.freezing.apply(epoch=progress.epoch, step=progress.step)

            if progress.step % log_every == 0:
                if guard.read() >= limit:
                    give_up(job)
                if guard.deferred:
                    buffers.look(guard.withheld)
                journal.log(progress, schedule.rate)  # a synchronisation
            if tick is not None:
                tick(progress)
            if stop.signal or progress.step >= last_step:
                break
            if save_every and progress.step % save_every == 0 and progress.batch < total:
                if guard.deferred:  # what a resumed run goes back to is what this one goes back to
                    buffers.look(guard.read())
                save(job)

        if guard.read() >= limit:
            give_up(job)
        if guard.deferred:
            buffers.look(guard.withheld)
        job.rate = pace.rate(progress)
        if stop.signal or not close_epoch(job, withheld=guard.withheld - progress.withheld):
            break
        if job.processes.first(lambda: job.prune is not None and job.prune(progress.history[-1])):
            job.pruned = True
            break
    if stop.signal:  # before workers that got the same signal give up waiting for work
        for stream in (job.train, job.val):
            if stream is not None:
                stream.close()
    if job.processes.first(lambda: job.saved != mark(progress) or job.saver.failed()):
        save(job)
    job.processes.first(job.saver.wait)
    progress.seconds = time.monotonic() - job.began


def looked_at(watcher: Watcher, job: Job, ends: bool) -> bool:
    """Whether the update that a batch completes is looked at; if so its hooks stand."""
    due = watcher.due(job.progress.step + 1, ends=ends, epoch=job.progress.epoch + 1)
    if due:
        watcher.open(job.scaler.get_scale() if job.scaler is not None else 1.0)
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
        self.known: Tensor | None = self._of_all(loss)

    def __call__(self) -> Tensor:
        if self.known is not None:
            loss, self.known = self.known, None
            return loss
        self.job.optimizer.zero_grad()
        with self.job.context():
            loss = self.job.objective.loss(self.job.objective.forward(self.batch), self.batch)
        loss.backward()  # type: ignore[no-untyped-call]
        return self._of_all(loss)

    def _of_all(self, loss: Tensor) -> Tensor:
        """The loss of the whole batch, by which each process asks as often as the others."""
        processes = self.job.processes
        return loss if processes.count == 1 else processes.sum(loss.detach()) / processes.count


def give_up(job: Job) -> NoReturn:
    """Raise the error that names the last batch whose update was withheld, and the layer where it went wrong."""
    progress, total, accumulate = job.progress, job.train.batches_per_epoch, job.recipe.accumulate
    back = (job.guard.step - job.guard.last) * accumulate if job.guard.last else 0
    place = progress.epoch * total + max(progress.batch, 1) - 1 - back
    epoch, last = divmod(max(place, 0), total)
    objective: Any = job.objective
    if job.sharded:
        objective.meet(True)
    else:
        objective = uncompiled(apart(objective))
    found, index = None, last
    for index, batch in enumerate(job.train.batches(epoch, start=last - last % accumulate), last - last % accumulate):
        with job.context():
            locate = locator(job.train, epoch, index)
            found = culprit(objective, batch, gradients=True, locate=locate, processes=job.processes)
        if found is not None or index == last:
            break
    error = explain(found, job.guard.withheld, f"epoch {epoch + 1}, batch {index + 1} of {total}")
    raise error if job.processes.count == 1 else shared(error)
