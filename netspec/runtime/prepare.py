"""From a recipe, a model and opened data to the `Job` that the loop works on, new or as a checkpoint left it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from netspec.recipe.fit_train import OF_SCORES
from netspec.recipe.train import Distribute, TrainRecipe
from netspec.runtime.averaging import make_average
from netspec.runtime.checkpoint import Loaded
from netspec.runtime.compiling import compiled
from netspec.runtime.device import autocast, make_scaler, set_threads, step_flops
from netspec.runtime.directory import CHECKPOINTS, MODEL, RESOLVED
from netspec.runtime.errors import RunError
from netspec.runtime.finite import Guard
from netspec.runtime.freezing import Freezing
from netspec.runtime.graphs import make_graphs
from netspec.runtime.job import Job, Progress, mark, reached, sum_type
from netspec.runtime.journal import Journal
from netspec.runtime.layout import ChannelsLast, to_channels_last, wants_channels_last
from netspec.runtime.metrics import Metrics
from netspec.runtime.monitors.answers import image_field
from netspec.runtime.monitors.events import Events, unwritten
from netspec.runtime.monitors.watcher import Watcher, make_answers
from netspec.runtime.objective import Objective, make_objective, with_class_weights
from netspec.runtime.optimizers import has_sparse_gradients, make_optimizer, restore_optimizer
from netspec.runtime.parts import read_by_all
from netspec.runtime.processes import ALONE, Part, Processes
from netspec.runtime.progress import Bar
from netspec.runtime.replicas import alone, replicated
from netspec.runtime.saver import Idle, Saver
from netspec.runtime.saver_together import TogetherSaver
from netspec.runtime.schedulers import Schedule, in_steps
from netspec.runtime.sharding import Sharded, placed, shard
from netspec.runtime.shares import share_losses
from netspec.runtime.signals import Stop
from netspec.runtime.state import LooseBuffers
from netspec.runtime.together import Shared, Together, Vote, check_parts, synchronised


@dataclass(frozen=True, slots=True, kw_only=True)
class Telling:
    """Who is told of a run's progress: lines to `say`, a bar on a terminal, files unless it is a rehearsal."""

    say: Callable[[str], None]
    lines: bool
    bar: bool
    files: bool


def prepare(
    recipe: TrainRecipe,
    model: nn.Module,
    types: Mapping[str, Any],
    data: Any,
    device: torch.device,
    folder: Path,
    loaded: Loaded | None,
    telling: Telling,
    name: str,
    processes: Processes = ALONE,
    home: Path | None = None,
) -> tuple[Job, int]:
    """Everything that the loop needs, and the number of CPU threads.

    `types` are those of the model's outputs, by name; `data` the opened splits; `loaded` the checkpoint to go on from;
    `home` the run's folder where all processes see it and write their parts of checkpoints into it.
    Raises RunError where a part does not fit the others.
    """
    stream, val = data.splits["train"], data.splits.get("val")
    if processes.count > 1:
        model = synchronised(model, recipe)
        check_parts(model, stream, processes)
    outputs, loose = tuple(types), LooseBuffers(model)
    if channels_last := wants_channels_last(recipe.channels_last, model, device):
        to_channels_last(model)
    check_fields(recipe, stream)
    check_classes(recipe, types, stream)
    check_tokens(recipe, model, stream)
    saved: Mapping[str, Any] = loaded.state if loaded is not None else {}
    recipe = with_class_weights(recipe, lambda field: data.class_weights(field))
    objective = make_objective(model, recipe, outputs, device)
    if channels_last:
        objective = ChannelsLast(objective)
    threads = set_threads(
        recipe.threads or saved.get("threads"),
        device,
        lambda: step_flops(model, lambda: objective.forward(next(iter(stream.batches(0))))),
        among=processes.local_count,
    )
    freezing = Freezing(model, recipe)
    optimizer = make_optimizer(model, recipe.optimizer)
    steps_per_epoch = -(-stream.batches_per_epoch // recipe.accumulate)
    total_steps = in_steps(recipe.length, steps_per_epoch)
    schedule = Schedule(optimizer, recipe.scheduler, steps_per_epoch, total_steps, recipe.swa)
    settings = {"optimizer": repr(recipe.optimizer), "schedule": schedule.settings, "length": str(recipe.length)}
    if recipe.freeze:
        settings["optimizer"] += repr((recipe.freeze, recipe.unfreeze))
    scaler = make_scaler(recipe.precision, device)
    metrics = Metrics(recipe.metrics, outputs, device)
    progress = Progress(loss=torch.zeros((), dtype=sum_type(device), device=device), processes=processes)
    per_step, epochs = stream.batch_size * recipe.accumulate, recipe.length.epochs
    bar = Bar(total_steps, per_step, name, epochs=epochs) if telling.bar else None
    warn = bar.say if bar is not None else telling.say
    if processes.count == 1 and recipe.distribute is not None and recipe.distribute.type == "data_parallel":
        objective = replicated(objective, device, warn)
    elif processes.count == 1 and recipe.distribute is not None and telling.lines:
        warn(alone(recipe.distribute.type, device))
    part = Part() if processes.count > 1 else None
    sharded = part is not None and recipe.sharded

    def faster(objective: Objective, blocks: Sequence[nn.Module] | None = None) -> Objective:
        streams = data.splits.values()
        return compiled(objective, recipe.compile, streams, device, warn, lambda: freezing.still, part, blocks)

    if not sharded:
        objective = faster(objective)
    image = image_field(stream.fields, recipe.inputs)
    events = Events(folder, warn=warn) if telling.files and (recipe.tensorboard or recipe.monitor) else None
    job = Job(
        recipe=recipe,
        objective=objective,
        optimizer=optimizer,
        freezing=freezing,
        schedule=schedule,
        metrics=metrics,
        train=stream,
        val=val,
        device=device,
        context=autocast(recipe.precision, device),
        scaler=scaler,
        guard=make_guard(optimizer, device, scaler, sparse=has_sparse_gradients(model)),
        progress=progress,
        average=make_average(model, recipe.ema, recipe.swa),
        processes=processes,
        saver=make_saver(recipe, folder, home, processes, warn),
        in_parts=home is not None,
        journal=Journal(
            folder if telling.files else None,
            columns(recipe, has_val=val is not None),
            epochs=recipe.length.epochs,
            events=events if recipe.tensorboard is not None else None,
            say=warn if telling.lines else _silent,
            warn=warn,
            bar=bar,
        ),
        stop=Stop(),
        loose=loose,
        describe=lambda: {"data": data.state(), "settings": settings, "threads": threads},
        news=getattr(data, "news", lambda: None),
    )
    if loaded is not None and not sharded:
        restore(job, loaded, settings, telling.say)
    if part is not None:
        join(job, part, faster)
    if loaded is not None and sharded:  # each process takes its parts into what it has cut
        cut = read_by_all(processes, lambda: placed(loaded, model))
        restore(job, cut, settings, telling.say)
    job.graphs = make_graphs(job, warn)
    if telling.files or not processes.writes:
        job.answers = lambda embed: make_answers(recipe, outputs, model, stream.classes, image, embed=embed)
    agree = processes.first if job.sharded else None
    if agree is not None and processes.first(lambda: events is not None):
        events = events or unwritten(folder)
    if events is not None:
        job.watcher = Watcher(recipe, objective, events, job.answers, images=image, started=progress.step, agree=agree)
    return job, threads


def restore(job: Job, loaded: Loaded, settings: Mapping[str, str], say: Callable[[str], None]) -> None:
    """Put a checkpoint's state into a job built as for a new run, all but the random states, which come last.

    `settings` are what the rates depend on; where they are not those of the checkpoint, `say` is told what that means.

    Raises RunError NS905 where the weights are not those of the model.
    """
    saved, progress, model = loaded.state, job.progress, job.objective.model
    try:
        model.load_state_dict(loaded.model)
    except RuntimeError as error:
        raise RunError("NS905", f"{loaded.stored.path.name} holds other weights than the model has: {error}") from error
    done = saved["progress"]
    progress.loss.fill_(done["loss"])
    progress.epoch, progress.batch, progress.step = done["epoch"], done["batch"], loaded.stored.step
    progress.samples, progress.seconds, progress.history = done["samples"], done["seconds"], list(done["history"])
    progress.withheld, progress.lost = done["withheld"], done.get("lost", 0)
    kept = saved.get("average")
    if job.average is not None and kept is not None and kept["kind"] == job.average.kind:
        job.average.restore(kept)
    elif kept is not None and kept["shown"]:  # the spec has left the average out since
        model.load_state_dict(kept["weights"])
    if progress.batch and progress.history and progress.history[-1]["step"] == progress.step and not reached(job):
        progress.history.pop()  # the row of an epoch that its last session ended within; now the epoch goes on
    if job.processes.writes:
        job.metrics.restore(saved["metrics"])
    job.loose.restore(saved.get("buffers", {}))
    if job.scaler is not None and saved["scaler"] is not None:
        job.scaler.load_state_dict(saved["scaler"])
    before = saved["settings"]
    same = all(before[name] == settings[name] for name in ("optimizer", "schedule"))
    restore_optimizer(job.optimizer, model, saved["optimizer"], settings=same)
    if same:
        job.schedule.restore(saved["schedule"], progress.step)
    else:  # another length, rate or schedule: the rates are those that it would have had here
        job.schedule.replay(progress.step, progress.epoch, progress.history)
        if before.get("length") != settings["length"] and before["schedule"] != settings["schedule"]:
            say(
                f"the schedule depends on the length of the run: from here on the rates are those of "
                f"{settings['length']}, while up to here they were those of {before.get('length', 'another')}; "
                f"a run of {settings['length']} at once would give other weights"
            )
    if job.sharded:  # its guard knows the others already
        job.guard.withheld, job.guard.step = saved["withheld"], progress.step
    else:
        job.guard = make_guard(
            job.optimizer,
            job.device,
            job.scaler,
            sparse=job.guard.sparse,
            withheld=saved["withheld"],
            step=progress.step,
        )
    job.saved = mark(progress)


def make_saver(
    recipe: TrainRecipe, folder: Path, home: Path | None, processes: Processes, say: Callable[[str], None]
) -> Saver:
    """What writes the checkpoints of this process: its parts of them, all, or nothing."""
    files = {name: (folder / name).read_text(encoding="utf-8") for name in (RESOLVED, MODEL)}
    rule = recipe.checkpoint
    if home is not None:
        return TogetherSaver(home / CHECKPOINTS, files, keep=rule.keep, mode=rule.mode, say=say, processes=processes)
    made = Saver if processes.writes else Idle
    return made(folder / CHECKPOINTS, files, keep=rule.keep, mode=rule.mode, say=say)


def join(job: Job, part: Part, faster: Callable[[Objective, Sequence[nn.Module]], Objective]) -> None:
    """Have the job's processes share its batches, add up their gradients, and agree on what they decide.

    faster: compiles the blocks of a sharded model, where that is wanted.
    """
    job.part = job.metrics.part = part
    rule = job.recipe.distribute or Distribute()
    if rule.type == "data_parallel":
        raise RunError("NS952", "`data_parallel` is for one process", help="`distribute: ddp`, or leave out --nproc")
    share_losses(job.objective, job.recipe, job.processes, part)
    together: Together | Sharded
    if rule.type == "fsdp":
        cut = shard(job, rule.match, **{"reshard_after_forward": None, **rule.arguments})
        job.sharded = True
        job.objective = faster(job.objective, cut)
        job.guard = Guard(  # no optimizer reads on the device what it found of cut weights
            job.optimizer, job.device, deferred=False, withheld=job.guard.read(), step=job.guard.step, sharded=True
        )
        vars(job.optimizer).pop("found_inf", None)
        together = Sharded(job.objective, job.processes, part)
    else:
        # What is frozen for a time has no gradient then, which the processes have to find out.
        arguments = {"find_unused_parameters": bool(job.recipe.unfreeze), **rule.arguments}
        together = Together(job.objective, job.processes, part, arguments)
    job.objective = together
    job.train = Shared(job.train, part, job.processes, accumulate=job.recipe.accumulate, meet=together.meet)
    job.val = Shared(job.val, part, job.processes) if job.val is not None else None
    vote = Vote(job.processes, job.device, job.stop)
    job.stop.agree, job.guard.agree = vote.ask, vote.update


def make_guard(
    optimizer: torch.optim.Optimizer,
    device: torch.device,
    scaler: torch.amp.GradScaler | None,
    *,
    sparse: bool,
    withheld: int = 0,
    step: int = 0,
) -> Guard:
    """On a GPU the answer stays there where a fused optimizer, or a scaler, looks for itself."""
    fused = all(group.get("fused") for group in optimizer.param_groups)
    deferred = device.type == "cuda" and (fused or scaler is not None)
    return Guard(
        optimizer,
        device,
        deferred=deferred,
        withheld=withheld,
        step=step,
        sparse=sparse,
        scaled=scaler is not None,
    )


def used_fields(recipe: TrainRecipe) -> dict[str, str]:
    """Each batch field that something takes, with what takes it."""
    return {
        **{field: f"the mask of {m.type}" for m in recipe.metrics if m.mask for field in m.mask.fields},
        **{field: f"the mask of {loss.type}" for loss in recipe.losses if loss.mask for field in loss.mask.fields},
        **{r.name: f"the metric {m.type}" for m in recipe.metrics for r in m.inputs if r.kind == "field"},
        **{field: "the objective" for field in (recipe.objective.inputs if recipe.objective is not None else ())},
        **{r.name: f"the loss {loss.type}" for loss in recipe.losses for r in loss.inputs if r.kind == "field"},
        **{field: f"the model's input `{port}`" for port, field in recipe.inputs.items()},
    }


def check_fields(recipe: TrainRecipe, stream: Any) -> None:
    """What the data turned out to hold against what the model and the losses take. Raises RunError NS913."""
    for name, taker in used_fields(recipe).items():
        if name not in stream.fields:
            raise RunError(
                "NS913",
                f"{taker} takes the field `{name}`, and the data have {', '.join(f'`{f}`' for f in stream.fields)}",
                help="name the input after the field, or map it: `train: {inputs: {input: field}}`",
            )


def check_classes(recipe: TrainRecipe, types: Mapping[str, Any], stream: Any) -> None:
    """The number of classes that the data turned out to have against the width of the head. Raises RunError NS913."""
    for loss in recipe.losses:
        scores, target = loss.inputs[0], loss.inputs[-1]
        if loss.type not in OF_SCORES or scores.kind != "output" or target.kind != "field":
            continue
        shape: tuple[Any, ...] = getattr(types[scores.name], "shape", ())
        count = getattr(stream.fields[target.name], "num_classes", None)
        if len(shape) > 1 and isinstance(shape[1], int) and count is not None and shape[1] != count:
            raise RunError(
                "NS913",
                f"the data have {count} classes, and the model's output `{scores.name}` has {int(shape[1])} scores",
                help=f"one score for each class: {count}",
            )


def check_tokens(recipe: TrainRecipe, model: nn.Module, stream: Any) -> None:
    """The number of tokens that the data turned out to have against the model's embeddings. Raises RunError NS913."""
    sizes = [module.num_embeddings for module in model.modules() if isinstance(module, nn.Embedding)]
    for field in recipe.inputs.values():
        info = stream.fields[field]
        count = getattr(info, "num_classes", None)
        if sizes and info.dtype == "int64" and count is not None and count > max(sizes):
            raise RunError(
                "NS913",
                f"the data have {count} different {field}, and no embedding of the model has more than {max(sizes)}",
                help=f"`num_embeddings: {count}`, and as many scores at the end",
            )


def columns(recipe: TrainRecipe, *, has_val: bool) -> list[str]:
    """The columns of `metrics.csv`. Metrics are taken on `val`, or on the training batches where there is none."""
    metrics = [metric.name for metric in recipe.metrics]
    split = [f"val.{name}" for name in ("loss", *metrics)] if has_val else [f"train.{name}" for name in metrics]
    return ["epoch", "step", "train.loss", *split, "lr", "samples_per_second", "seconds", "withheld"]


def _silent(_: str) -> None:
    return None
