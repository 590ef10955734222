"""The folder of a run as training finds it: made with the spec and the source in it, or an old one to go on with."""

from __future__ import annotations

import os
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

from netspec.diagnostics import SpecError
from netspec.program import Program
from netspec.runtime import directory
from netspec.runtime.device import environment
from netspec.runtime.errors import RunError
from netspec.runtime.job import Job
from netspec.runtime.load import changed_lines, check_source
from netspec.runtime.lock import LOCK, locked
from netspec.runtime.processes import Processes
from netspec.runtime.resolved import load_program, resolved_text
from netspec.runtime.weights import Fit, digest

PATIENCE: Final = 5.0
"""Seconds after which a file that another machine has made is not there."""


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
def common_folder(
    processes: Processes,
    program: Program,
    run_dir: str | Path | None,
    resume: str | Path | None,
    *,
    dry_run: bool,
    trust: bool,
) -> Iterator[tuple[Path, str | Path | None]]:
    """The folder of a run for each of its processes, and the run that it goes on with, if it does.

    The first makes or opens it; another one has a folder of its own with the same source, which vanishes. Processes
    that were started anew after a failure go on with the run that the launch began.
    """
    if processes.restarts and resume is None and not dry_run:
        resume = processes.first(lambda: launched(program.name, run_dir, processes.launch))
    with ExitStack() as stack:

        def enter() -> tuple[Path, dict[str, str]]:
            made = ready_folder(program, run_dir, resume, dry_run=dry_run, trust=trust)
            folder = stack.enter_context(made)
            return folder, {name: (folder / name).read_text("utf-8") for name in (directory.RESOLVED, directory.MODEL)}

        if processes.count == 1:
            yield stack.enter_context(ready_folder(program, run_dir, resume, dry_run=dry_run, trust=trust)), resume
            return
        folder, texts = processes.first(enter)
        if not processes.writes:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="netspec-")))
            for name, text in texts.items():
                directory.write_text(folder / name, text)
        yield folder, resume


def seen_by_all(processes: Processes, folder: Path, say: Callable[[str], None]) -> Path | None:
    """The run's folder, which is `folder` in the first process, for all that see it; None where one of them does not.

    It is on a file system of another machine then, and the first process says what that means.
    """
    mark = f".seen-{uuid.uuid4().hex}"

    def leave() -> Path:
        with directory.writing(folder):
            (folder / mark).touch()
        return folder.absolute() / mark

    left = processes.first(leave)
    seen = processes.all(_sees(left, patience=PATIENCE if processes.local_count < processes.count else 0))
    if processes.writes:
        left.unlink(missing_ok=True)
        if not all(seen):
            say(
                f"process {seen.index(False)} does not see {folder}, so checkpoints are gathered in the first process, "
                "which needs room for all of the weights and the optimizer's memory"
            )
    return left.parent if all(seen) else None


def _sees(mark: Path, patience: float) -> bool:
    """Whether a file is there, where this process may write too; a network's file system may take its time."""
    until = time.monotonic() + patience
    while not mark.exists():
        if time.monotonic() > until:
            return False
        time.sleep(0.1)
    return os.access(mark.parent, os.W_OK)


def launched(name: str, run_dir: str | Path | None, launch: str | None) -> Path | None:
    """The run that a launch has begun, the newest of them; None where it has not come so far."""
    if launch is None:
        return None
    folders = [Path(run_dir)] if run_dir is not None else sorted(Path("runs", name).glob("*/"), key=_number)
    for folder in reversed(folders):
        known = directory.read_json(folder / directory.SUMMARY).get("launch") == launch
        if known and (folder / directory.RESOLVED).is_file():
            return folder
    return None


def _number(folder: Path) -> int:
    return int(folder.name) if folder.name.isdecimal() else -1


@contextmanager
def _kept(program: Program, run_dir: str | Path | None) -> Iterator[str]:
    """A folder for a new run; one that was refused before it began leaves none."""
    mine = run_dir is None or not Path(run_dir).exists()
    folder = directory.make_directory(program.name, run_dir)
    try:
        yield str(folder)
    except (RunError, SpecError) as refused:
        another_runs = isinstance(refused, RunError) and refused.code == "NS918"
        begun = (folder / directory.SUMMARY).exists() or (folder / directory.CHECKPOINTS).exists()
        if not another_runs and not begun:
            with suppress(OSError):  # it can't be written to, or something else lies there
                for name in (directory.RESOLVED, directory.MODEL, LOCK):
                    (folder / name).unlink(missing_ok=True)
                if mine:
                    folder.rmdir()
        raise


def spec_name(folder: Path) -> str | None:
    """The path of the spec that a run was made from, as the first line of its source names it."""
    name = directory.read_json(folder / directory.SUMMARY).get("spec")
    return name if isinstance(name, str) else None


def check_overrides(folder: Path, program: Program) -> None:
    """Refuse a model that is not the run's: its weights would not fit, or would mean something else.

    Raises RunError NS905. What else an override changes, the length say, or the rate, a run can go on with.
    """
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
        # One that was killed before its first step has written nothing of itself yet.
        record = {"name": program.name, "overrides": []} | record
        record |= {"status": "running", "resumed": [*record.get("resumed", ()), step]}
    else:
        record = {"status": "running", "name": program.name, "spec": program.file, "overrides": list(overrides)}
        if plugins := directory.keep_plugins(folder, program.document):
            record["plugins"] = plugins
        if fitted is not None and (weights := job.recipe.weights) is not None:
            record["weights"] = {"from": weights.source, "sha256": digest(weights), **fitted.record()}
    if job.processes.launch is not None:
        record["launch"] = job.processes.launch
    if job.processes.count > 1 or "processes" in record:
        record["processes"] = job.processes.count
    directory.write_json(path, record)
    directory.write_json(folder / directory.ENVIRONMENT, environment(job.device, threads, job.recipe.precision))
