"""`netspec sweep`: a study whose trials are runs. Each is an ordinary run in the sweep's folder, below `trials/`.

`sweep.yaml` is the resolved spec with its `sweep` section, `study.journal` Optuna's memory of the study, `trials.csv` a
row a trial, `best.yaml` the spec of the best, which `netspec train` takes, and `sweep.png` what it looked like.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from netspec.program import Program
from netspec.recipe.sweep import SweepRecipe
from netspec.runtime import directory
from netspec.runtime.errors import RunError
from netspec.runtime.journal import figure
from netspec.runtime.lock import locked
from netspec.runtime.resolved import resolved_text
from netspec.runtime.run import Style
from netspec.runtime.signals import leaving
from netspec.runtime.sweep.results import cell, table, write_results
from netspec.runtime.sweep.study import Row, Study, short_names
from netspec.runtime.sweep.trial import TRIALS, Ended, Prune, Trials

if TYPE_CHECKING:
    import optuna

    from netspec.runtime.sweep.worker import Worker

SWEEP: Final = "sweep.yaml"
BEST: Final = "best.yaml"
IN_A_ROW: Final = 5
"""So many trials that fail one after the other end a session: what ails them is no matter of their values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """What a sweep left. `exit_code` is 0, 130 after Ctrl-C, 143 after SIGTERM, 3 where no trial came to its end."""

    directory: Path
    status: Literal["finished", "interrupted", "stopped"]
    """`stopped`: the time was up."""
    exit_code: int
    rows: Sequence[Row]
    best: Row | None


def sweep(
    program: Program | str | Path | None,
    *,
    set: Mapping[str, Any] | None = None,
    sweep_dir: str | Path | None = None,
    resume: str | Path | None = None,
    progress: Style = "auto",
    say: Callable[[str], None] = print,
    plugins: Sequence[str | Path] = (),
    jobs: int = 1,
) -> Sweep:
    """Run the study that a spec's `sweep` section states, one trial after the other or several at a time.

    program: a compiled spec, or the path of one; None with `resume`, for that of the sweep. `set` overrides values of a
    path by their dotted names, `{"sweep.trials": 40}`. sweep_dir: a new or empty folder (default: the next of
    `runs/<name>/`). resume: the folder of a sweep to go on with; a trial that was under way goes on from its last
    checkpoint. progress: `auto` is a line a trial, `plain` or `bar` those of each run as well, `none` is silence.
    jobs: so many trials train at a time, each in a process of its own, with a GPU of its own where there are several
    and its share of the CPU's cores; of their runs nothing is shown.

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
        session = _Session(program, recipe, study, folder, progress, say, jobs)
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
        jobs: int,
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
        self.jobs = jobs
        self.waiting: list[int] = []
        """The numbers of those that have begun and wait to go on."""
        self.stopped = False
        """Whether the time was up."""
        self.lock = threading.RLock()
        """Of the study and all else that several trials at a time have in common."""

    def run(self) -> Sweep:
        recipe, study = self.recipe, self.study
        self.say(
            f"{self.program.name}: {recipe.trials} trials over {len(recipe.parameters)} parameters, by "
            f"{recipe.metric} ({recipe.direction}d), {recipe.sampler.type}"
            + (f", {recipe.pruner.type}" if recipe.pruner is not None else "")
        )
        if study.begun:
            self.say(f"going on after {study.begun - len(study.half_done())} of {recipe.trials} trials")
        status: Literal["finished", "interrupted", "stopped"]
        try:
            self.waiting = study.half_done()
            with directory.writing(self.folder):
                signal = self.several() if self.jobs > 1 else self.alone()
            status = "interrupted" if signal else "stopped" if self.stopped else "finished"
        except KeyboardInterrupt:
            status, signal = "interrupted", 2
        finally:
            self.write(drawn=True)
        return self.report(status, signal)

    def alone(self) -> int:
        """The trials by this process; the signal that ended them, or 0."""
        trials = Trials(self.program, self.recipe, self.folder, self.progress, self.say)
        while (trial := self.next()) is not None:
            done = self.trial(trial, trials.conduct)
            if done.signal:
                return done.signal
        return 0

    def several(self) -> int:
        """The trials by processes, several at a time."""
        from netspec.plugin.load import enabled
        from netspec.runtime.sweep.parallel import side_by_side

        def take() -> Callable[[Worker], Ended] | None:
            trial = self.next()
            return None if trial is None else lambda worker: self.trial(trial, worker.conduct)

        assert self.program.recipe is not None
        jobs = min(self.jobs, max(1, len(self.waiting) + self.recipe.trials - self.study.begun))
        plugins = [str(plugin.file) for plugin in enabled() if plugin.file is not None]
        return side_by_side(self.folder / SWEEP, plugins, self.program.recipe.train, jobs, take)

    def next(self) -> optuna.Trial | None:
        """A trial that waits to go on, or a new one, with its values drawn; None where none is left, or no time."""
        with self.lock:
            if not self.waiting and self.study.begun >= self.recipe.trials:
                return None
            if self.late():
                self.stopped = True
                return None
            return self.study.begin(self.waiting.pop(0) if self.waiting else self.study.begun)

    def tell(self, line: str) -> None:
        """What is at work, on a terminal alone, in a line that the next one takes the place of."""
        if self.progress == "auto" and sys.stderr.isatty():
            sys.stderr.write(f"\r\x1b[K{line}")
            sys.stderr.flush()

    def late(self) -> bool:
        return self.recipe.timeout is not None and time.monotonic() - self.began >= self.recipe.timeout

    def trial(self, trial: optuna.Trial, conduct: Callable[[int, Mapping[str, Any], Prune], Ended]) -> Ended:
        """One trial from its values to its row."""
        number, began = trial.number, time.monotonic()

        def prune(row: Mapping[str, float]) -> bool:
            epoch, value = int(row["epoch"]), figure(row[self.recipe.metric])
            with self.lock:
                self.tell(f"trial {number} of {self.recipe.trials}, epoch {epoch}, {self.recipe.metric} {value}")
                return self.study.reached(trial, epoch, row[self.recipe.metric])

        with self.lock:
            values = self.study.values(trial)
            self.tell(f"trial {number} of {self.recipe.trials}")
        done = conduct(number, values, prune)
        with self.lock:
            self.tell("")
            if not done.signal:
                self.end(trial, done, time.monotonic() - began)
        return done

    def end(self, trial: optuna.Trial, done: Ended, seconds: float) -> None:
        """Write down how a trial ended."""
        self.study.end(trial, done.state, done.value, seconds=seconds, message=done.message)
        row = self.study.rows()[trial.number]
        self.failed = self.failed + 1 if row.state == "failed" else 0
        self.say(self.line(row))
        self.write(drawn=False)
        if self.failed >= IN_A_ROW:
            raise RunError(
                "NS971",
                f"{self.failed} trials failed one after the other, the last with: {row.message}",
                help=f"mend what ails them and go on with: netspec sweep --resume {self.folder}",
            )

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


def _silent(_: str) -> None:
    return None
