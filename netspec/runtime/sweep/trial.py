"""A trial of a sweep: an ordinary run in the sweep's folder, begun or gone on with, and how it ended."""

from __future__ import annotations

import errno
import gc
import shutil
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch

from netspec.compiler import override_texts
from netspec.diagnostics import Diagnostics, SpecError
from netspec.program import Program
from netspec.recipe.sweep import SweepRecipe
from netspec.runtime import checkpoint, directory
from netspec.runtime.errors import RunError
from netspec.runtime.run import Run, Style, train
from netspec.runtime.sweep.study import State
from netspec.variants import variant

TRIALS: Final = "trials"
NO_PLACE: Final = ("NS901", "NS907", "NS918")
"""What a trial fails with that can't be written down, or that another process works at: no fault of its values."""
NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""The same from the operating system."""

Prune = Callable[[Mapping[str, float]], bool]
"""Takes the figures of an epoch, and says whether the trial is to end there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a trial ended; `running` after a signal, which it goes on from."""

    state: State
    value: float | None = None
    message: str = ""
    signal: int = 0


class Trials:
    """Trains the trials of a sweep in this process, one after the other."""

    def __init__(
        self, program: Program, recipe: SweepRecipe, folder: Path, progress: Style, say: Callable[[str], None]
    ) -> None:
        self.program = program
        self.recipe = recipe
        self.folder = folder
        self.progress: Style = progress if progress in ("bar", "plain") else "none"
        self.say = say

    def conduct(self, number: int, values: Mapping[str, Any], prune: Prune) -> Ended:
        """Train a trial, or go on with it, and say how it ended; what fails in it is caught here."""
        ended = self._trained(number, values, prune)
        release()
        return ended

    def _trained(self, number: int, values: Mapping[str, Any], prune: Prune) -> Ended:
        folder = self.folder / TRIALS / str(number)
        try:
            program = self.compiled(values)
            goes_on = checkpointed(folder)
            if goes_on and directory.read_json(folder / directory.SUMMARY).get("status") == "pruned":
                return Ended(state="pruned")
            if not goes_on and folder.exists():  # killed before its first checkpoint
                shutil.rmtree(folder)
            done = train(
                program,
                run_dir=None if goes_on else folder,
                resume=folder if goes_on else None,
                overrides=override_texts(values),
                progress=self.progress,
                say=self.say,
                prune=lambda row: prune(row) and not is_last(row, program),
            )
        except SpecError as error:
            return Ended(state="failed", message=str(error))
        except RunError as error:
            if error.code in NO_PLACE:
                raise
            return Ended(state="failed", message=f"{error.code} {error.message}")
        except Exception as error:
            if isinstance(error, OSError) and error.errno in NO_ROOM:
                raise
            with suppress(OSError):
                folder.mkdir(parents=True, exist_ok=True)
                directory.write_text(folder / "traceback.txt", traceback.format_exc())
            first = str(error).strip().partition("\n")[0]
            return Ended(state="failed", message=f"{type(error).__name__}: {first}")
        if done.status == "interrupted":
            return Ended(state="running", signal=done.exit_code - 128)
        return Ended(state="pruned" if done.status == "pruned" else "complete", value=self.judged(done))

    def compiled(self, values: Mapping[str, Any]) -> Program:
        diagnostics = Diagnostics()
        program = variant(self.program.document, self.program.file, values, diagnostics)
        diagnostics.raise_if_errors()
        assert program is not None
        return program

    def judged(self, done: Run) -> float | None:
        """The figure of the weights that a run ends with: of its best epoch where it monitors one, else the last."""
        step = int(done.checkpoint.name.rpartition("-")[2]) if done.checkpoint is not None else None
        rows = [row for row in done.history if row["step"] == step] or list(done.history[-1:])
        return rows[-1].get(self.recipe.metric) if rows else None


def checkpointed(folder: Path) -> bool:
    """Whether a trial has a state to go on from."""
    checkpoints = folder / directory.CHECKPOINTS
    if not (folder / directory.RESOLVED).is_file() or not checkpoints.is_dir():
        return False
    checkpoint.recover(checkpoints)
    return bool(checkpoint.stored(checkpoints))


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
