"""How a run ends: the figures of the weights that count, the report, the last lines."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netspec.program import Program
from netspec.recipe.train import Duration
from netspec.runtime import checkpoint, directory, parts
from netspec.runtime.averaging import averaged
from netspec.runtime.epoch import measured
from netspec.runtime.job import Job
from netspec.runtime.journal import figure
from netspec.runtime.monitors.answers import Answers, write_classes
from netspec.runtime.not_finite import look_into
from netspec.runtime.plots import draw_confusion
from netspec.runtime.report import Contents, write_report
from netspec.runtime.sharding import placed_weights
from netspec.runtime.together import Shared
from netspec.table import short

if TYPE_CHECKING:
    from netspec.runtime.run import Run


def judge(
    job: Job, folder: Path, splits: Mapping[str, Any]
) -> tuple[Path, dict[str, dict[str, float]], dict[str, Answers]]:
    """The figures of `val` and `test` with the weights that count: the best by the monitored figure, else the last.
    Of a classifier also what it answered.
    """
    rule, model = job.recipe.checkpoint, job.objective.model
    mode, processes = rule.mode if rule.monitor is not None else None, job.processes
    chosen = processes.first(lambda: checkpoint.choose(folder / directory.CHECKPOINTS, mode))
    if chosen.step != job.progress.step:
        if rule.monitor is None:
            job.journal.warn(f"the last weights are not finite: the results are those of {chosen.path.name}")
        if job.in_parts:
            loaded = parts.found_by_all(processes, lambda: checkpoint.checked(chosen.path))
        else:
            loaded = parts.passed_on(processes, lambda: checkpoint.load(chosen.path))
        assert loaded is not None
        weights = loaded.model
        if job.sharded:
            weights = parts.read_by_all(processes, lambda: placed_weights(weights, model))
        model.load_state_dict(weights)
        job.loose.restore(loaded.state.get("buffers", {}))
    results, answers = {}, {}
    board = job.recipe.tensorboard
    for split in ("val", "test"):
        if split in splits:
            looked = job.answers(board is not None and board.embeddings is not None)
            with averaged(job.average if chosen.step == job.progress.step else None):
                stream = splits[split] if job.part is None else Shared(splits[split], job.part, processes)
                figures = measured(job, stream, looked)
                if figures is not None:
                    look_into(job, split, figures, stream)
            if figures is not None:
                results[split] = figures
                if looked is not None and looked:
                    answers[split] = looked
    return chosen.path, results, answers


def show(job: Job, answers: Mapping[str, Answers]) -> None:
    """What TensorBoard has of the end of a run."""
    if job.watcher is not None:
        for split, looked in answers.items():
            job.watcher.evaluated(split, looked, job.progress.step, final=True)
        job.watcher.finish(job.progress.step)


def leave_report(job: Job, folder: Path, program: Program, done: Run, answers: Mapping[str, Answers]) -> None:
    """The files that people look at: of a classifier its classes and their confusion, and one page of it all."""
    if answers:
        write_classes(folder / directory.CLASSES, answers)
        split = next(one for one in ("test", "val") if one in answers)
        if (matrix := answers[split].matrix) is not None:
            draw_confusion(matrix.tolist(), answers[split].names, folder / directory.CONFUSION, split)
    facts = {
        "weights": short(sum(p.numel() for p in job.objective.model.parameters())),
        "training samples": f"{job.train.size:,}",
        "epochs": str(done.epochs),
        "samples a second": f"{job.rate:,.0f}",
    }
    write_report(
        folder,
        program.name,
        program if isinstance(program, Program) else None,
        Contents(history=done.history, results=done.results, answers=answers, facts=facts),
    )


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


def report(done: Run, say: Callable[[str], None]) -> None:
    """The last lines: how long it took, the figures, where everything lies."""
    say(f"{done.status} after {count(done.epochs, 'epoch')}, {count(done.steps, 'step')}, in {done.seconds:.1f} s")
    for split, figures in done.results.items():
        say(f"{split}: " + "  ".join(f"{name} {figure(value)}" for name, value in figures.items()))
    if done.exit_code:
        say(f"saved; go on with: netspec train --resume {done.directory}")
    named = f", {directory.CHECKPOINTS}/{done.checkpoint.name}" if done.checkpoint else ""
    say(f"results in {done.directory}: {directory.REPORT}, metrics.csv, {directory.MODEL}{named}")


def count(number: int, unit: str) -> str:
    return str(Duration(**{f"{unit}s": number}))
