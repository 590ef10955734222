"""The folder of a run as training finds it: made with the spec and the source in it, or an old one to go on with."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from netspec.program import Program
from netspec.runtime import directory
from netspec.runtime.device import environment
from netspec.runtime.errors import RunError
from netspec.runtime.job import Job
from netspec.runtime.load import changed_lines, check_source
from netspec.runtime.lock import locked
from netspec.runtime.resolved import load_program, resolved_text
from netspec.runtime.weights import Fit, digest


@contextmanager
def ready_folder(
    program: Program, run_dir: str | Path | None, resume: str | Path | None, *, dry_run: bool, trust: bool
) -> Iterator[Path]:
    """The folder of the run with the spec and the source in it; for a dry run one that vanishes."""
    if resume is not None:
        folder = directory.open_directory(resume)
        check_overrides(folder, program)
        check_source(folder / directory.MODEL, program.source(spec_name(folder)), trust=trust)
        with ExitStack() as held:
            if not dry_run:
                with directory.writing(folder):
                    held.enter_context(locked(folder))
                    update_resolved(folder, program)
            yield folder
        return
    source, resolved = program.source(), resolved_text(program)
    with tempfile.TemporaryDirectory(prefix="netspec-") if dry_run else _kept(program, run_dir) as place:
        folder = Path(place)
        with ExitStack() as held:
            with directory.writing(folder):
                held.enter_context(locked(folder))
                directory.write_text(folder / directory.RESOLVED, resolved)
                directory.write_text(folder / directory.MODEL, source)
            yield folder


@contextmanager
def _kept(program: Program, run_dir: str | Path | None) -> Iterator[str]:
    yield str(directory.make_directory(program.name, run_dir))


def spec_name(folder: Path) -> str | None:
    """The path of the spec that a run was made from, as the first line of its source names it."""
    name = directory.read_json(folder / directory.SUMMARY).get("spec")
    return name if isinstance(name, str) else None


def check_overrides(folder: Path, program: Program) -> None:
    """Refuse a model that is not the run's: its weights would not fit, or would mean something else.

    Raises RunError NS905. What else an override changes, the length say, or the rate, a run can go on with.
    """
    from netspec.diagnostics import SpecError

    if (folder / directory.RESOLVED).read_text(encoding="utf-8") == resolved_text(program):
        return
    try:
        own = load_program(folder)
    except SpecError:  # written by another netspec, say: `check_source` compares what it left
        return
    lines = changed_lines(own.source(), program.source(), "run", "now")
    if lines:
        raise RunError(
            "NS905",
            f"the model is not that of the run:\n{lines}",
            help="what changes the model makes a new run: leave out --resume",
        )


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


def note_start(
    folder: Path,
    program: Program,
    job: Job,
    threads: int,
    overrides: Sequence[str],
    *,
    resumed: bool,
    fitted: Fit | None,
) -> None:
    """Write down that a run has begun, or goes on, and in which environment."""
    path = folder / directory.SUMMARY
    record = directory.read_json(path)
    if resumed:
        step = {"step": job.progress.step, "overrides": list(overrides)}
        record |= {"status": "running", "resumed": [*record.get("resumed", ()), step]}
    else:
        record = {"status": "running", "name": program.name, "spec": program.file, "overrides": list(overrides)}
        if plugins := directory.keep_plugins(folder, program.document):
            record["plugins"] = plugins
        if fitted is not None and (weights := job.recipe.weights) is not None:
            record["weights"] = {"from": weights.source, "sha256": digest(weights), **fitted.record()}
    directory.write_json(path, record)
    directory.write_json(folder / directory.ENVIRONMENT, environment(job.device, threads, job.recipe.precision))
