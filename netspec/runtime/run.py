"""`netspec train`: from a program and its data to a run directory that can be resumed, evaluated and exported."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from netspec.program import Program
from netspec.recipe.train import Duration, TrainRecipe
from netspec.runtime import checkpoint, directory
from netspec.runtime.device import (
    autocast,
    choose_device,
    environment,
    make_scaler,
    set_precision,
    set_threads,
    step_flops,
)
from netspec.runtime.errors import RunError
from netspec.runtime.finite import Guard
from netspec.runtime.journal import Journal, figure
from netspec.runtime.load import check_source, import_source, model_class
from netspec.runtime.resolved import resolved_text
from netspec.runtime.loop import Job, Progress, Stop, evaluate, finished, fit, mark, sum_type
from netspec.runtime.metrics import Metrics
from netspec.runtime.objective import make_objective
from netspec.runtime.optimizers import make_optimizer, restore_optimizer
from netspec.runtime.plots import draw_curves
from netspec.runtime.progress import Bar
from netspec.runtime.schedulers import Schedule, in_steps
from netspec.runtime.state import restore_random_state, seed_everything

Say = Callable[[str], None]
Style = Literal["auto", "bar", "plain", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What a training left. `exit_code` is 0, 130 after Ctrl-C, or 143 after SIGTERM (the state is saved in each case)."""

    directory: Path | None
    """None for a dry run, which writes nothing."""
    status: Literal["finished", "interrupted", "dry run"]
    exit_code: int = 0
    epochs: int = 0
    steps: int = 0
    seconds: float = 0.0
    history: Sequence[Mapping[str, float]] = ()
    """A row an epoch, by column: `train.loss`, `val.accuracy`."""
    results: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """The figures of the weights that the run ends with, by split."""
    checkpoint: Path | None = None
    """The checkpoint that the results belong to."""


def train(
    program: Program,
    *,
    run_dir: str | Path | None = None,
    resume: str | Path | None = None,
    overrides: Sequence[str] = (),
    dry_run: bool = False,
    progress: Style = "auto",
    trust: bool = False,
    data: Any = None,
    say: Say | None = None,
) -> Run:
    """Train a program as its `train` section says.

    run_dir: a new or empty folder (default: the next of `runs/<name>/`). resume: the folder of a run to go on with, in
    place. overrides: what `--set` changed, for the record. dry_run: build everything, make one update on one batch, write
    nothing. progress: `auto` is a bar on a terminal and a line an epoch elsewhere. trust: run a `model.py` that is not
    what the spec says. data: opened data to use in place of the spec's `data` section. say: takes each line (default: print).

    Raises RunError where the run can't go on, `netspec.diagnostics.SpecError` never.
    """
    recipe = train_recipe(program)
    device = choose_device(recipe.device)
    set_precision(recipe.precision, device)
    with ready_folder(program, run_dir, resume, dry_run=dry_run, trust=trust) as folder:
        # The weights are the first that is drawn, so that they are those of `program.module(seed)`.
        source = import_source(folder / directory.MODEL)
        seed_everything(recipe.seed)
        model = model_class(source)().to(device)
        if data is None:
            data = open_recipe_data(program, device)
        lines = say or print
        try:
            return run(
                program, recipe, model, data, device, folder, lines, progress, overrides, resume is not None, dry_run
            )
        except torch.OutOfMemoryError as error:
            raise RunError(
                "NS910",
                f"{device} has too little memory for a batch of {data.splits['train'].batch_size}",
                help="a smaller data.batch_size, with train.accumulate for the same batch in several parts",
            ) from error


def run(
    program: Program,
    recipe: TrainRecipe,
    model: torch.nn.Module,
    data: Any,
    device: torch.device,
    folder: Path,
    say: Say,
    style: Style,
    overrides: Sequence[str],
    resumed: bool,
    dry_run: bool,
) -> Run:
    """Train a built model on opened data; the folder holds its spec and source."""
    outputs = tuple(program.outputs)
    stream, val = data.splits["train"], data.splits.get("val")
    check_fields(recipe, stream)
    loaded = checkpoint.newest(folder / directory.CHECKPOINTS, say) if resumed else None
    saved = loaded.state if loaded is not None else {}
    objective = make_objective(model, recipe, outputs, device)
    threads = set_threads(
        recipe.threads or saved.get("threads"),
        device,
        lambda: step_flops(model, lambda: objective.forward(next(iter(stream.batches(0))))),
    )
    optimizer = make_optimizer(model, recipe.optimizer)
    steps_per_epoch = -(-stream.batches_per_epoch // recipe.accumulate)
    total_steps = in_steps(recipe.length, steps_per_epoch)
    schedule = Schedule(optimizer, recipe.scheduler, steps_per_epoch, total_steps)
    settings = {"optimizer": repr(recipe.optimizer), "schedule": repr((recipe.scheduler, recipe.length))}
    scaler = make_scaler(recipe.precision, device)
    metrics = Metrics(recipe.metrics, outputs, device)
    state = Progress(loss=torch.zeros((), dtype=sum_type(device), device=device))
    if loaded is not None:
        restore(loaded, settings, model, optimizer, schedule, scaler, metrics, state, device)
    guard = Guard(optimizer, device, withheld=saved.get("withheld", 0), step=state.step, scaled=scaler is not None)
    bar = (
        Bar(total_steps, stream.batch_size * recipe.accumulate, program.name)
        if wants_bar(style) and not dry_run
        else None
    )
    journal = Journal(
        None if dry_run else folder,
        columns(recipe, val is not None),
        epochs=recipe.length.epochs,
        tensorboard=recipe.tensorboard and not dry_run,
        say=(lambda _: None) if style == "none" else bar.say if bar is not None else say,
        bar=bar,
    )
    resolved = (folder / directory.RESOLVED).read_text(encoding="utf-8")
    saver = checkpoint.Saver(
        folder / directory.CHECKPOINTS, resolved, keep=recipe.checkpoint.keep, mode=recipe.checkpoint.mode
    )
    stop = Stop()
    job = Job(
        recipe=recipe,
        objective=objective,
        optimizer=optimizer,
        schedule=schedule,
        metrics=metrics,
        train=stream,
        val=val,
        device=device,
        context=autocast(recipe.precision, device),
        scaler=scaler,
        guard=guard,
        progress=state,
        saver=saver,
        journal=journal,
        stop=stop,
        describe=lambda: {"data": data.state(), "settings": settings, "threads": threads},
    )
    what = f"{sum(p.numel() for p in model.parameters()):,} weights, {stream.size:,} training samples, {recipe.length}"
    where = f"{device}, {recipe.precision}" + (
        f", {threads} thread{'s' * (threads > 1)}" if device.type == "cpu" else ""
    )
    if dry_run:
        return rehearse(job, say, f"{program.name}: {what} of {steps_per_epoch} steps, on {where}", steps_per_epoch)
    if style != "none":
        say(f"{program.name}: {what}, on {where}")
        if loaded is not None:
            say(f"going on after {state.step} steps, from {loaded.stored.path.name}")
    record = {**directory.read_json(folder / directory.SUMMARY), "status": "running"}
    if resumed:
        record["resumed"] = [*record.get("resumed", ()), {"step": state.step, "overrides": list(overrides)}]
    else:
        record |= {"name": program.name, "spec": program.file, "overrides": list(overrides)}
    directory.write_json(folder / directory.SUMMARY, record)
    directory.write_json(folder / directory.ENVIRONMENT, environment(device, threads, recipe.precision))
    if loaded is not None:
        checkpoint.clear_temporary(folder / directory.CHECKPOINTS)
        job.saved = mark(state)
    journal.open(state.history, state.step)
    if bar is not None:
        bar.open()
    try:
        with stop.listening():
            if loaded is not None:
                restore_random_state(saved["random"], device)  # last: what was built before may have drawn from it
            fit(job)
            whole = finished(job)
            chosen, results = None, {}
            if whole:
                chosen, results = judge(job, folder, data.splits)
    finally:
        journal.close()
        saver.wait()
    status: Literal["finished", "interrupted"] = "interrupted" if stop.signal else "finished"
    draw_curves(state.history, folder / directory.CURVES, program.name)
    done = Run(
        directory=folder,
        status=status,
        exit_code=128 + stop.signal if stop.signal else 0,
        epochs=state.epoch,
        steps=state.step,
        seconds=state.seconds,
        history=tuple(state.history),
        results=results,
        checkpoint=chosen,
    )
    directory.write_json(folder / directory.SUMMARY, record | summary(done))
    if style != "none":
        report(done, say)
    return done


def train_recipe(program: Program) -> TrainRecipe:
    """The program's `train` section. Raises RunError NS912 where it has none."""
    recipe = getattr(program.recipe, "train", None)
    if recipe is None:
        raise RunError(
            "NS912", f"{program.name} has no `train` section", help="say what to minimise: `netspec init` shows one"
        )
    assert isinstance(recipe, TrainRecipe)
    return recipe


def open_recipe_data(program: Program, device: torch.device, **choices: Any) -> Any:
    """The data that the program's `data` section describes. Raises RunError NS912 where it has none."""
    from netspec.runtime.data import open_data

    if getattr(program.recipe, "data", None) is None:
        raise RunError("NS912", f"{program.name} has no `data` section", help="say where the samples come from")
    return open_data(program.recipe.data, seed=train_recipe(program).seed, device=device, **choices)


@contextmanager
def ready_folder(
    program: Program, run_dir: str | Path | None, resume: str | Path | None, *, dry_run: bool, trust: bool
) -> Iterator[Path]:
    """The folder of the run with the spec and the source in it; for a dry run one that vanishes."""
    if resume is not None:
        folder = directory.open_directory(resume)
        name = directory.read_json(folder / directory.SUMMARY).get("spec")
        check_source(folder / directory.MODEL, program.source(name), trust=trust)
        if not dry_run:
            update_resolved(folder, program)
        yield folder
        return
    source, resolved = program.source(), resolved_text(program)
    with tempfile.TemporaryDirectory(prefix="netspec-") if dry_run else _kept(program, run_dir) as place:
        folder = Path(place)
        directory.write_text(folder / directory.RESOLVED, resolved)
        directory.write_text(folder / directory.MODEL, source)
        yield folder


@contextmanager
def _kept(program: Program, run_dir: str | Path | None) -> Iterator[Path]:
    yield directory.make_directory(program.name, run_dir)


def update_resolved(folder: Path, program: Program) -> None:
    """Keep the spec that a run began with beside the one that it goes on with, where they differ."""
    path, text = folder / directory.RESOLVED, resolved_text(program)
    before = path.read_text(encoding="utf-8")
    if before != text:
        number = 1
        while (kept := folder / f"resolved.{number}.yaml").exists():
            number += 1
        directory.write_text(kept, before)
        directory.write_text(path, text)


def restore(
    loaded: checkpoint.Loaded,
    settings: Mapping[str, str],
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: Schedule,
    scaler: torch.amp.GradScaler | None,
    metrics: Metrics,
    state: Progress,
    device: torch.device,
) -> None:
    """Put a checkpoint's state back, into objects built as for a new run. Raises RunError NS905 where it does not fit."""
    saved = loaded.state
    try:
        model.load_state_dict(loaded.model)
    except RuntimeError as error:
        raise RunError("NS905", f"{loaded.stored.path.name} holds other weights than the model has: {error}") from error
    progress = saved["progress"]
    state.loss.copy_(progress["loss"])
    state.epoch, state.batch, state.step = progress["epoch"], progress["batch"], loaded.stored.step
    state.samples, state.seconds, state.history = progress["samples"], progress["seconds"], list(progress["history"])
    metrics.restore(saved["metrics"])
    if scaler is not None and saved["scaler"] is not None:
        scaler.load_state_dict(saved["scaler"])
    same = saved["settings"] == settings
    restore_optimizer(optimizer, model, saved["optimizer"], settings=same)
    if same:
        schedule.restore(saved["schedule"], state.step)
    else:  # another length, rate or schedule: the rates are those that it would have had here
        schedule.replay(state.step, state.epoch, state.history)


def check_fields(recipe: TrainRecipe, stream: Any) -> None:
    """What the data turned out to hold against what the model and the losses take. Raises RunError NS913."""
    wanted = {
        **{name: f"the model's input `{port}`" for port, name in recipe.inputs.items()},
        **{r.name: f"the loss {loss.type}" for loss in recipe.losses for r in loss.inputs if r.kind == "field"},
        **{r.name: f"the metric {m.type}" for m in recipe.metrics for r in m.inputs if r.kind == "field"},
    }
    for name, reader in wanted.items():
        if name not in stream.fields:
            raise RunError(
                "NS913",
                f"{reader} takes the batch's field `{name}`, and the data have {', '.join(stream.fields)}",
                help="name the input after the field, or map it: `train: {inputs: {input: field}}`",
            )


def columns(recipe: TrainRecipe, has_val: bool) -> list[str]:
    """The columns of `metrics.csv`. Metrics are taken on `val`, or on the training batches where there is none."""
    metrics = [metric.name for metric in recipe.metrics]
    split = [f"val.{name}" for name in ("loss", *metrics)] if has_val else [f"train.{name}" for name in metrics]
    return ["epoch", "step", "train.loss", *split, "lr", "seconds", "withheld"]


def wants_bar(style: Style) -> bool:
    return style == "bar" or (style == "auto" and sys.stdout.isatty())


def rehearse(job: Job, say: Say, title: str, steps_per_epoch: int) -> Run:
    """One update on one batch, and what would follow."""
    say(title)
    batch = next(iter(job.train.batches(0)))
    job.objective.model.train()
    with job.context():
        loss = job.objective.loss(job.objective.forward(batch), batch)
    loss.backward()  # type: ignore[no-untyped-call]
    job.optimizer.step() if not isinstance(job.optimizer, torch.optim.LBFGS) else None
    say("one batch: " + ", ".join(f"{name} {list(value.shape)}" for name, value in batch.items()))
    say(f"its loss is {figure(float(loss.detach()))}; forward, backward and update work; nothing was written")
    return Run(directory=None, status="dry run", steps=1)


def judge(job: Job, folder: Path, splits: Mapping[str, Any]) -> tuple[Path | None, dict[str, dict[str, float]]]:
    """The figures of `val` and `test` with the weights that count: the best where the spec monitors one, else the last."""
    found = checkpoint.stored(folder / directory.CHECKPOINTS)
    rule, model = job.recipe.checkpoint, job.objective.model
    chosen = (checkpoint.best(found, rule.mode) if rule.monitor is not None else None) or found[-1]
    if chosen.step != job.progress.step:
        model.load_state_dict(checkpoint.load(chosen.path).model)
    results = {}
    for split in ("val", "test"):
        if split in splits:
            figures = evaluate(job.objective, splits[split], job.metrics, job.context, job.stop)
            if figures is not None:
                results[split] = figures
    return chosen.path, results


def summary(done: Run) -> dict[str, Any]:
    """The end of a run as JSON."""
    return {
        "status": done.status,
        "epochs": done.epochs,
        "steps": done.steps,
        "seconds": round(done.seconds, 3),
        "checkpoint": f"{directory.CHECKPOINTS}/{done.checkpoint.name}" if done.checkpoint else None,
        "results": done.results,
        "last": done.history[-1] if done.history else {},
    }


def report(done: Run, say: Say) -> None:
    """The last lines: how long it took, the figures, where everything lies."""
    assert done.directory is not None
    say(f"{done.status} after {count(done.epochs, 'epoch')}, {count(done.steps, 'step')} in {done.seconds:.1f} s")
    for split, figures in done.results.items():
        say(f"{split:5}" + "  ".join(f"{name} {figure(value)}" for name, value in figures.items()))
    if done.exit_code:
        say(f"saved; go on with: netspec train --resume {done.directory}")
    named = f", {directory.CHECKPOINTS}/{done.checkpoint.name}" if done.checkpoint else ""
    say(f"results in {done.directory}: {directory.CURVES}, metrics.csv, {directory.MODEL}{named}")


def count(number: int, unit: str) -> str:
    return str(Duration(**{f"{unit}s": number}))
