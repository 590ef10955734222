"""`netspec sweep`: a study whose trials are runs. Each is an ordinary run in the sweep's folder, below `trials/`.

`sweep.yaml` is the resolved spec with its `sweep` section, `study.journal` Optuna's memory of the study, `trials.csv` a
row a trial, `best.yaml` the spec of the best, which `netspec train` takes, and `sweep.png` what it looked like.
"""

from __future__ import annotations

import errno
import gc
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import torch

from netspec.compiler import override_texts
from netspec.diagnostics import Diagnostics, SpecError
from netspec.program import Program
from netspec.recipe.sweep import SweepRecipe
from netspec.runtime import checkpoint, directory
from netspec.runtime.errors import RunError
from netspec.runtime.journal import figure
from netspec.runtime.lock import locked
from netspec.runtime.resolved import resolved_text
from netspec.runtime.run import Run, Style, train
from netspec.runtime.signals import leaving
from netspec.runtime.sweep.results import cell, table, write_results
from netspec.runtime.sweep.study import Row, State, Study, short_names
from netspec.variants import variant

SWEEP: Final = "sweep.yaml"
TRIALS: Final = "trials"
BEST: Final = "best.yaml"
IN_A_ROW: Final = 5
"""So many trials that fail one after the other end a session: what ails them is no matter of their values."""
NO_PLACE: Final = ("NS901", "NS907", "NS918")
"""What a trial fails with that can't be written down, or that another process works at: no fault of its values."""

NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""The same from the operating system."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """What a sweep left. `exit_code` is 0, 130 after Ctrl-C, 143 after SIGTERM, 3 where no trial came to its end."""

    directory: Path
    status: Literal["finished", "interrupted", "stopped"]
    """`stopped`: the time was up."""
    exit_code: int
    rows: Sequence[Row]
    best: Row | None


@dataclass(slots=True, kw_only=True)
class _Trial:
    """How a trial of this session ended."""

    state: State
    value: float | None = None
    message: str = ""
    signal: int = 0


def sweep(
    program: Program | str | Path | None,
    *,
    set: Mapping[str, Any] | None = None,
    sweep_dir: str | Path | None = None,
    resume: str | Path | None = None,
    progress: Style = "auto",
    say: Callable[[str], None] = print,
    plugins: Sequence[str | Path] = (),
) -> Sweep:
    """Run the study that a spec's `sweep` section states, one trial after the other.

    program: a compiled spec, or the path of one; None with `resume`, for that of the sweep. `set` overrides values of a
    path by their dotted names, `{"sweep.trials": 40}`. sweep_dir: a new or empty folder (default: the next of
    `runs/<name>/`). resume: the folder of a sweep to go on with; a trial that was under way goes on from its last
    checkpoint. progress: `auto` is a line a trial, `plain` or `bar` those of each run as well, `none` is silence.

    Raises SpecError where the spec is wrong, RunError NS911 without Optuna, NS912 where the spec has no `sweep`, NS970
    where the folder is none of a sweep or its study is another, NS971 where trials fail one after the other, NS901 and
    NS918 where the folder can't be written to or another process works in it. What fails in a trial is noted.
    """
    if program is None or isinstance(program, str | Path):
        from netspec.compiler import compile

        program = compile(program or open_sweep(resume or ""), set, plugins=plugins)
    recipe = sweep_recipe(program)
    with leaving(), ExitStack() as held:
        folder = directory.make_directory(program.name, sweep_dir) if resume is None else open_sweep(resume).parent
        with directory.writing(folder):
            held.enter_context(locked(folder, "sweep"))
            study = Study(folder, recipe, program.name)
            directory.write_text(folder / SWEEP, resolved_text(program, sweep=True))
            directory.keep_plugins(folder, program.document)
        session = _Session(program, recipe, study, folder, progress, say)
        return session.run()


def open_sweep(folder: str | Path) -> Path:
    """The spec that a sweep keeps. Raises RunError NS970 where the folder is none of a sweep."""
    found = Path(folder) / SWEEP
    if not found.is_file():
        raise RunError(
            "NS970",
            f"{folder} is no sweep: it has no {SWEEP}",
            help="a sweep is the folder that `netspec sweep` names at its end; its trials are resumed by themselves",
        )
    return found


def sweep_recipe(program: Program) -> SweepRecipe:
    """The program's `sweep` section. Raises RunError NS912 where it has none."""
    found = program.recipe.sweep if program.recipe is not None else None
    if found is None:
        raise RunError(
            "NS912",
            f"{program.name} has no `sweep` section",
            help="sweep: {parameters: {train.optimizer.lr: {type: float, low: 1e-4, high: 0.1}}, trials: 20}",
        )
    assert isinstance(found, SweepRecipe)
    return found


class _Session:
    """One process's work at a sweep."""

    def __init__(
        self,
        program: Program,
        recipe: SweepRecipe,
        study: Study,
        folder: Path,
        progress: Style,
        say: Callable[[str], None],
    ) -> None:
        self.program = program
        self.recipe = recipe
        self.study = study
        self.folder = folder
        self.progress: Style = progress
        self.say: Callable[[str], None] = say if progress != "none" else _silent
        self.began = time.monotonic()
        self.failed = 0
        """How many trials in a row."""

    def run(self) -> Sweep:
        recipe, study = self.recipe, self.study
        self.say(
            f"{self.program.name}: {recipe.trials} trials over {len(recipe.parameters)} parameters, by "
            f"{recipe.metric} ({recipe.direction}d), {recipe.sampler.type}"
            + (f", {recipe.pruner.type}" if recipe.pruner is not None else "")
        )
        if study.begun:
            self.say(f"going on after {study.begun - len(study.half_done())} of {recipe.trials} trials")
        status: Literal["finished", "interrupted", "stopped"] = "finished"
        signal = 0
        try:
            waiting = study.half_done()
            with directory.writing(self.folder):
                while waiting or study.begun < recipe.trials:
                    if self.late():
                        status = "stopped"
                        break
                    done = self.trial(waiting.pop(0) if waiting else study.begun)
                    if done.signal:
                        status, signal = "interrupted", done.signal
                        break
        except KeyboardInterrupt:
            status, signal = "interrupted", 2
        finally:
            self.write(drawn=True)
        return self.report(status, signal)

    def tell(self, line: str) -> None:
        """What is at work, on a terminal alone, in a line that the next one takes the place of."""
        if self.progress == "auto" and sys.stderr.isatty():
            sys.stderr.write(f"\r\x1b[K{line}")
            sys.stderr.flush()

    def late(self) -> bool:
        return self.recipe.timeout is not None and time.monotonic() - self.began >= self.recipe.timeout

    def trial(self, number: int) -> _Trial:
        """One trial from its values to its row."""
        trial = self.study.begin(number)
        values = self.study.values(trial)
        began = time.monotonic()

        def prune(row: Mapping[str, float]) -> bool:
            epoch, value = int(row["epoch"]), figure(row[self.recipe.metric])
            self.tell(f"trial {number} of {self.recipe.trials}, epoch {epoch}, {self.recipe.metric} {value}")
            return self.study.reached(trial, int(row["epoch"]), row[self.recipe.metric])

        self.tell(f"trial {number} of {self.recipe.trials}")
        done = self.conduct(number, values, prune)
        self.tell("")
        release()
        if done.signal:
            return done
        self.study.end(trial, done.state, done.value, seconds=time.monotonic() - began, message=done.message)
        rows = self.study.rows()
        row = rows[number]
        self.failed = self.failed + 1 if row.state == "failed" else 0
        self.say(self.line(row))
        self.write(drawn=False)
        if self.failed >= IN_A_ROW:
            raise RunError(
                "NS971",
                f"{self.failed} trials failed one after the other, the last with: {row.message}",
                help=f"mend what ails them and go on with: netspec sweep --resume {self.folder}",
            )
        return done

    def conduct(self, number: int, values: Mapping[str, Any], prune: Callable[[Mapping[str, float]], bool]) -> _Trial:
        """Train a trial, or go on with it, and say how it ended; what fails in it is caught here."""
        folder = self.folder / TRIALS / str(number)
        try:
            program = self.compiled(values)
            goes_on = self.checkpointed(folder)
            if goes_on and directory.read_json(folder / directory.SUMMARY).get("status") == "pruned":
                return _Trial(state="pruned")
            if not goes_on and folder.exists():  # killed before its first checkpoint
                shutil.rmtree(folder)
            done = train(
                program,
                run_dir=None if goes_on else folder,
                resume=folder if goes_on else None,
                overrides=override_texts(values),
                progress=self.progress if self.progress in ("bar", "plain") else "none",
                say=self.say,
                prune=lambda row: prune(row) and not is_last(row, program),
            )
        except SpecError as error:
            return _Trial(state="failed", message=str(error))
        except RunError as error:
            if error.code in NO_PLACE:
                raise
            return _Trial(state="failed", message=f"{error.code} {error.message}")
        except Exception as error:
            if isinstance(error, OSError) and error.errno in NO_ROOM:
                raise
            with suppress(OSError):
                folder.mkdir(parents=True, exist_ok=True)
                directory.write_text(folder / "traceback.txt", traceback.format_exc())
            first = str(error).strip().partition("\n")[0]
            return _Trial(state="failed", message=f"{type(error).__name__}: {first}")
        if done.status == "interrupted":
            return _Trial(state="running", signal=done.exit_code - 128)
        return _Trial(state="pruned" if done.status == "pruned" else "complete", value=self.judged(done))

    def compiled(self, values: Mapping[str, Any]) -> Program:
        diagnostics = Diagnostics()
        program = variant(self.program.document, self.program.file, values, diagnostics)
        diagnostics.raise_if_errors()
        assert program is not None
        return program

    def checkpointed(self, folder: Path) -> bool:
        """Whether a trial has a state to go on from."""
        checkpoints = folder / directory.CHECKPOINTS
        if not (folder / directory.RESOLVED).is_file() or not checkpoints.is_dir():
            return False
        checkpoint.recover(checkpoints)
        return bool(checkpoint.stored(checkpoints))

    def judged(self, done: Run) -> float | None:
        """The figure of the weights that a run ends with: of its best epoch where it monitors one, else the last."""
        step = int(done.checkpoint.name.rpartition("-")[2]) if done.checkpoint is not None else None
        rows = [row for row in done.history if row["step"] == step] or list(done.history[-1:])
        return rows[-1].get(self.recipe.metric) if rows else None

    def write(self, *, drawn: bool) -> None:
        """The table, the spec of the best trial so far, and where `drawn` the picture. The study has all of it, so that
        a full disk is no more than told."""
        best = self.study.best()
        try:
            write_results(self.folder, self.recipe, self.study, self.program.name, drawn=drawn)
            if best is not None:
                text = (self.folder / TRIALS / str(best.number) / directory.RESOLVED).read_text(encoding="utf-8")
                directory.write_text(self.folder / BEST, text)
        except OSError as error:
            self.say(f"the results in {self.folder} could not be written: {error.strerror}")

    def line(self, row: Row) -> str:
        """A trial in words."""
        told = row.message if row.state == "failed" else "" if row.value is None else figure(row.value)
        what = f"{self.recipe.metric} {told}" if row.state != "failed" else f"failed: {told}"
        names = short_names(list(row.parameters))
        values = "  ".join(f"{name} {cell(value)}" for name, value in zip(names, row.parameters.values(), strict=True))
        pruned = f"  pruned after {row.epochs} epochs" if row.state == "pruned" else ""
        return f"trial {row.number}: {what}{pruned}  {values}"

    def report(self, status: Literal["finished", "interrupted", "stopped"], signal: int) -> Sweep:
        rows, best = self.study.rows(), self.study.best()
        if self.progress != "none":
            self.say(table(rows, self.recipe))
        counts = {
            state: sum(row.state == state for row in rows) for state in ("complete", "pruned", "failed", "running")
        }
        self.say(f"{status}: " + ", ".join(f"{count} {state}" for state, count in counts.items() if count))
        if best is not None and best.value is not None:
            self.say(f"best: trial {best.number}, {self.recipe.metric} {figure(best.value)}")
            self.say(f"its spec: {self.folder / BEST}; its run: {self.folder / TRIALS / str(best.number)}")
        if status != "finished":
            self.say(f"saved; go on with: netspec sweep --resume {self.folder}")
        self.say(f"results in {self.folder}: trials.csv, sweep.png, {BEST}")
        code = 128 + signal if signal else 3 if status == "finished" and best is None else 0
        return Sweep(directory=self.folder, status=status, exit_code=code, rows=rows, best=best)


def release() -> None:
    """Give the memory of a trial back before the next one asks for its own."""
    gc.collect()
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()


def is_last(row: Mapping[str, float], program: Program) -> bool:
    """Whether nothing would be spared by ending a run here."""
    length = program.recipe.train.length
    reached: bool = row["epoch"] >= length.epochs if length.epochs is not None else row["step"] >= length.steps
    return reached


def _silent(_: str) -> None:
    return None
