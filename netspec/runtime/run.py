"""`netspec train`: from a program and its data to a run directory that can be resumed, evaluated and exported."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
import yaml

from netspec.diagnostics import Diagnostics
from netspec.program import Program
from netspec.recipe.train import TrainRecipe
from netspec.runtime import checkpoint, directory, parts
from netspec.runtime.batch_size import with_batch_size
from netspec.runtime.checkpoint import Loaded
from netspec.runtime.device import at, choose_device, set_precision, threads_kept
from netspec.runtime.ending import count, judge, leave_report, report, show, summary
from netspec.runtime.epoch import save
from netspec.runtime.errors import RunError
from netspec.runtime.job import Job, finished, mark
from netspec.runtime.journal import figure
from netspec.runtime.library import weights_told, without_weights
from netspec.runtime.load import import_source, model_class
from netspec.runtime.loop import fit
from netspec.runtime.monitors.answers import Answers
from netspec.runtime.monitors.trackers import make_trackers
from netspec.runtime.notes import noted
from netspec.runtime.plots import draw_curves
from netspec.runtime.prepare import Telling, prepare, used_fields
from netspec.runtime.processes import ALONE, Processes, found_processes, joined
from netspec.runtime.run_folder import common_folder, note_start, seen_by_all
from netspec.runtime.signals import leaving
from netspec.runtime.state import random_state, restore_random_state, seed_everything
from netspec.runtime.together import own_random_state
from netspec.runtime.weights import load_weights

Style = Literal["auto", "bar", "plain", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What a training left. `exit_code` is 0, 130 after Ctrl-C, 143 after SIGTERM; the state is saved in each case."""

    directory: Path | None
    """None for a dry run, which writes nothing."""
    status: Literal["finished", "interrupted", "pruned", "dry run"]
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
    program: Program | str | Path,
    *,
    set: Mapping[str, Any] | None = None,
    run_dir: str | Path | None = None,
    resume: str | Path | None = None,
    overrides: Sequence[str] = (),
    dry_run: bool = False,
    progress: Style = "auto",
    trust: bool = False,
    data: Any = None,
    say: Callable[[str], None] = print,
    plugins: Sequence[str | Path] = (),
    prune: Callable[[Mapping[str, float]], bool] | None = None,
) -> Run:
    """Train a spec as its `train` section says.

    program: a compiled spec, or the path of one; `set` overrides values of a path by their dotted names. run_dir: a new
    or empty folder (default: the next of `runs/<name>/`). resume: the folder of a run to go on with, in place.
    overrides: what `--set` changed, for the record. dry_run: build everything, make one update on one batch, write
    nothing. progress: `auto` is a bar on a terminal and a line an epoch elsewhere, `none` is silence. trust: run a
    `model.py` that is not what the spec says. data: opened data to use in place of the spec's `data` section. say:
    takes each line. plugins: files to enable as `--plugin` does, where the spec is a path. prune: is told of each
    epoch's row (`val.loss` and so on); where it says True the run ends there, saved and without results.

    Raises SpecError where the spec is wrong, or where the data turn out not to suit it; RunError where the run can't
    begin or can't go on. What torch raises in a layer keeps its type and gains a note with the layer's place in the
    spec, the tensors that it got, and the mend.
    """
    if isinstance(program, str | Path):
        from netspec.compiler import compile

        program = compile(program, set, plugins=plugins)
        overrides = [*overrides, *(f"{name}={value}" for name, value in (set or {}).items())]
    recipe = train_recipe(program)
    processes = found_processes()
    device = choose_device(recipe.device, processes)
    set_precision(recipe.precision, device)
    if not processes.writes:
        progress, say = "none", _unsaid
    told = say if progress != "none" else _unsaid
    bar = not dry_run and (progress == "bar" or (progress == "auto" and sys.stdout.isatty()))
    telling = Telling(say=say, lines=progress != "none", bar=bar, files=not dry_run and processes.writes)
    with (
        leaving(),
        at(device),
        threads_kept(),
        joined(processes, device),
        # What is chosen here is chosen by all, and stands in the run's spec.
        nullcontext(with_batch_size(program, device, processes, resume=resume, opened=data, say=told)) as program,
        common_folder(processes, program, run_dir, resume, dry_run=dry_run, trust=trust) as (folder, resume),
        noted(program, folder=None if dry_run else folder) as known,
    ):
        loaded, home = None, None
        if processes.count > 1 and recipe.sharded and not dry_run:
            home = seen_by_all(processes, folder, told)
        if resume is not None and home is not None:
            loaded = parts.found_by_all(processes, partial(found_checkpoint, folder, say, checkpoint.checked))
        elif resume is not None:
            loaded = parts.passed_on(processes, partial(found_checkpoint, folder, say))
        # The weights are the first that is drawn, so that they are those of `program.module(seed)`.
        with weights_told() if loaded is None else without_weights(program):
            source = import_source(folder / directory.MODEL)
            seed_everything(recipe.seed)
            model = model_class(source)()
            fitted = load_weights(model, recipe.weights) if recipe.weights is not None and loaded is None else None
            model = known.model = model.to(device)
        start = loaded.state["random"] if loaded is not None else random_state(device)
        opened = data if data is not None else open_recipe_data(program, device, loaded, processes)
        try:
            job, threads = prepare(
                recipe,
                model,
                program.outputs,
                opened,
                device,
                folder,
                loaded,
                telling,
                program.name,
                processes,
                home,
            )
            saved = loaded.state if loaded is not None else {}
            start = own_random_state(processes, recipe.seed, start, saved, device)
            title = f"{program.name}: {contents(job)}, on {place(job, threads)}"
            if dry_run:
                return rehearse(job, title, say)
            if not processes.writes:
                return follow(job, folder, opened.splits, start)
            with directory.writing(folder):
                note_start(folder, program, job, threads, overrides, resumed=resume is not None, fitted=fitted)
                job.journal.open(job.progress.history, job.progress.step)
            draw_graph(job, program)
            job.prune = prune
            if telling.lines:
                say(title)
                if fitted is not None and recipe.weights is not None:
                    say(f"weights of {recipe.weights.source}: {fitted}")
                if loaded is not None:
                    say(f"going on after {count(job.progress.step, 'step')}, from {loaded.stored.path.name}")
            done = conduct(job, folder, opened, start, program)
        finally:
            if data is None:
                opened.close()
    if telling.lines:
        report(done, say)
    return done


def preload() -> None:
    """Import now what torch imports in an optimizer's first step."""
    import torch._dynamo  # noqa: F401


def found_checkpoint(
    folder: Path, say: Callable[[str], None], read: Callable[[Path], Loaded] = checkpoint.load
) -> Loaded | None:
    """The newest whole checkpoint of a run that is gone on with."""
    with directory.writing(folder):
        checkpoint.recover(folder / directory.CHECKPOINTS)
    return checkpoint.newest(folder / directory.CHECKPOINTS, say, read)


def ended(job: Job, folder: Path | None, results: Mapping[str, Mapping[str, float]], chosen: Path | None = None) -> Run:
    """What a job that has come to its end left, in its folder where this process writes one."""
    progress, signal = job.progress, job.stop.signal
    return Run(
        directory=folder,
        status="interrupted" if signal else "pruned" if job.pruned else "finished",
        exit_code=128 + signal if signal else 0,
        epochs=progress.epoch,
        steps=progress.step,
        seconds=progress.seconds,
        history=tuple(progress.history),
        results=results,
        checkpoint=chosen,
    )


def follow(job: Job, folder: Path, splits: Mapping[str, Any], start: Mapping[str, Any]) -> Run:
    """What a process does that writes nothing: it trains and measures with the first, which writes it all down."""
    stop = job.stop
    results: Mapping[str, Mapping[str, float]] = {}
    with stop.listening():
        restore_random_state(start, job.device)
        try:
            fit(job)
        except RunError as error:
            rescue(job, error, folder)
            raise
        finally:
            if not isinstance(sys.exception(), KeyboardInterrupt):  # the others need its part of what is being written
                job.saver.failed()
        if finished(job) and not job.pruned:
            _, results, answers = judge(job, folder, splits)
            show(job, answers)
    return ended(job, None, results)


def conduct(job: Job, folder: Path, data: Any, start: Mapping[str, Any], program: Program) -> Run:
    """Train to the end or to a signal, look at the results, and write down what there is to write.

    `start` is the state of the global generators with which training begins or goes on.
    """
    progress, stop, path = job.progress, job.stop, folder / directory.SUMMARY
    chosen: Path | None = None
    results: dict[str, dict[str, float]] = {}
    answers: dict[str, Answers] = {}
    try:
        if job.recipe.track:
            config = yaml.safe_load((folder / directory.RESOLVED).read_text(encoding="utf-8"))
            job.journal.trackers = make_trackers(job.recipe.track, program.name, folder, config)
        with stop.listening():
            restore_random_state(start, job.device)  # what was imported and built since then may have drawn from them
            fit(job)
            if finished(job) and not job.pruned:
                chosen, results, answers = judge(job, folder, data.splits)
                if (news := job.news()) is not None:
                    job.journal.warn(news)
                show(job, answers)
        job.saver.wait()
    except BaseException as error:
        with suppress(OSError):  # a full disk must not hide what happened
            directory.write_json(path, directory.read_json(path) | {"status": "failed", "error": str(error)})
        rescue(job, error, folder)
        if isinstance(error, Exception):  # a second Ctrl-C does not wait for what is being written
            with suppress(Exception):
                job.saver.failed()
        job.journal.end_trackers({}, (), "failed")
        raise
    finally:
        job.journal.close()
        if job.watcher is not None:
            job.watcher.events.close()
    draw_curves(progress.history, folder / directory.CURVES, program.name)
    done = ended(job, folder, results, chosen)
    left_out = getattr(data, "left_out", {})
    told = {"unreadable": left_out} if left_out else {}
    directory.write_json(path, directory.read_json(path) | summary(done) | told)
    try:
        leave_report(job, folder, program, done, answers)
    except OSError as error:  # a full disk: what counts has been written
        job.journal.warn(f"{directory.REPORT} could not be written: {error.strerror}")
    figures = {f"{split}.{name}": value for split, of in results.items() for name, value in of.items()}
    left = (folder / name for name in (directory.CURVES, directory.CONFUSION, directory.REPORT))
    job.journal.end_trackers(figures, [path for path in left if path.is_file()], done.status)
    return done


def rescue(job: Job, error: BaseException, folder: Path) -> None:
    """Save what was trained since the last checkpoint where the data gave out: between two updates, with all in order.

    An error of any other kind may have come in the middle of an update; then the last checkpoint is what there is,
    as it is where one process alone has failed: all save together.
    """
    from netspec.runtime.data.workers import WorkerDied

    of_data = isinstance(error, WorkerDied) or (isinstance(error, RunError) and error.code.startswith("NS92"))
    whole = job.progress.batch % job.recipe.accumulate == 0 or job.progress.batch >= job.train.batches_per_epoch
    together = job.processes.count == 1 or getattr(error, "shared", False)
    if not of_data or not whole or not job.progress.step or not together:
        return
    with suppress(Exception):  # what happened first is what counts
        if job.saved != mark(job.progress):
            save(job)
        job.saver.wait()
        job.journal.warn(f"saved after {count(job.progress.step, 'step')}; go on with: netspec train --resume {folder}")


def train_recipe(program: Program) -> TrainRecipe:
    """The program's `train` section. Raises RunError NS912 where it has none."""
    recipe = program.recipe.train if program.recipe is not None else None
    if recipe is None:
        raise RunError(
            "NS912", f"{program.name} has no `train` section", help="`netspec init` writes a spec that has one"
        )
    assert isinstance(recipe, TrainRecipe)
    return recipe


def open_recipe_data(
    program: Program, device: torch.device, loaded: Loaded | None, processes: Processes = ALONE
) -> Any:
    """The data of the program's `data` section; what was learnt from them is the checkpoint's, where there is one.

    Raises RunError NS912 where the spec has none, NS92x where they are not as they should be; SpecError where `train`
    does not go with what they turned out to hold.
    """
    from netspec.objective import elaborate_objective
    from netspec.recipe.found import check_found
    from netspec.runtime.data import open_data

    recipe = train_recipe(program)
    if program.recipe.data is None:
        raise RunError("NS912", f"{program.name} has no `data` section", help="say where the samples come from")
    state = loaded.state["data"] if loaded is not None else None
    if processes.local_rank:
        processes.wait()  # one process of a machine downloads what there is to download
    opened = open_data(
        program.recipe.data,
        seed=recipe.seed,
        device=device,
        fields=used_fields(recipe),
        state=state,
        rank=processes.rank,
        count=processes.count,
    )
    if not processes.local_rank:
        processes.wait()
    for name, stream in opened.splits.items():
        diagnostics = Diagnostics()
        unknown = {field: replace(info, shape=None, dtype="any") for field, info in stream.source_fields.items()}
        fields = {**unknown, **stream.fields}
        check_found(
            program.document,
            program.recipe,
            program.model,
            fields,
            diagnostics,
            name,
            spec=program.spec,
            elaborate_objective=elaborate_objective,
        )
        diagnostics.raise_if_errors()
    return opened


def rehearse(job: Job, title: str, say: Callable[[str], None]) -> Run:
    """One update on one batch, and what would follow."""
    say(title)
    objective = job.objective
    batch = next(iter(job.train.batches(0)))
    job.freezing.apply(epoch=0, step=0)
    objective.model.train()
    with job.context():
        loss = objective.loss(objective.forward(batch), batch)
    (loss if job.scaler is None else job.scaler.scale(loss)).backward()  # type: ignore[no-untyped-call]
    if not isinstance(job.optimizer, torch.optim.LBFGS):
        job.optimizer.step()
    say("a batch holds " + ", ".join(f"{name} {list(value.shape)}" for name, value in batch.items()))
    say(f"its loss is {figure(float(loss.detach()))}; forward, backward and update work; nothing was written")
    return Run(directory=None, status="dry run", steps=1)


def draw_graph(job: Job, program: Program) -> None:
    """Have the watcher draw the program's layers, where there is a program and the run has just begun."""
    watcher, wanted = job.watcher, job.recipe.tensorboard
    if watcher is not None and wanted is not None and wanted.graph and isinstance(program, Program):
        watcher.graph = partial(_graph_def, program) if not job.progress.step else None


def _graph_def(program: Program) -> Any:
    from netspec.runtime.monitors.graph_def import graph_def  # networkx, which takes as long as the rest of netspec

    return graph_def(program)


def contents(job: Job) -> str:
    weights = sum(p.numel() for p in job.objective.model.parameters())
    held = sum(held.parameter.numel() for held in job.freezing.held)
    frozen = f" ({held:,} frozen at the start)" if held else ""
    steps = -(-job.train.batches_per_epoch // job.recipe.accumulate)
    length = f"{job.recipe.length} ({steps:,} steps an epoch)"
    return f"{weights:,} weights{frozen}, {job.train.size:,} training samples, {length}"


def _unsaid(_: str) -> None:
    return None


def place(job: Job, threads: int) -> str:
    cores = f", {threads} thread{'s' * (threads > 1)}" if job.device.type == "cpu" else ""
    compiled = f", compiled by {job.recipe.compile.backend}" if job.recipe.compile is not None else ""
    device = str(job.device)
    if job.processes.count > 1:
        device = f"{job.processes} on {job.device.type}"
    return f"{device}, {job.recipe.precision}{cores}{compiled}"
