"""The thread that writes checkpoints while training goes on, and what happens where it cannot."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

from safetensors import SafetensorError

from netspec.runtime import checkpoint, directory
from netspec.runtime.checkpoint import Snapshot
from netspec.runtime.errors import RunError


class Saver:
    """Writes snapshots in the background, one at a time, and removes what need not be kept.

    folder: that of the run's checkpoints. files: what else makes the run's folder a run (its resolved spec, its
    source), by name: where somebody removes the folder while the run goes on, it is made anew with them. keep: how many
    of the newest stay (two at least); the best by `mode` of the monitored figure stays as well. say: takes a line.

    A write that fails, on a full disk say, is told at once; what there was before stays, training goes on, and the next
    checkpoint is the next try. Only where the last one of a run fails is that an error, which `wait` raises.
    """

    def __init__(
        self,
        folder: Path,
        files: Mapping[str, str],
        *,
        keep: int,
        mode: Literal["min", "max"],
        say: Callable[[str], None],
    ) -> None:
        self.folder = folder
        self.files = files
        self.keep = max(2, keep)
        self.mode: Literal["min", "max"] = mode
        self.say = say
        self.thread: threading.Thread | None = None
        self.failure: OSError | SafetensorError | None = None
        """Why the last write failed; None where it went well."""
        self.bug: BaseException | None = None
        self.unwritten: Snapshot | None = None
        """The best of those that could not be written: what the next try writes first."""

    def save(self, *snapshots: Snapshot) -> None:
        """Start writing, after what is being written."""
        self._join()
        left, self.unwritten = self.unwritten, None
        if left is not None and all(left.step != taken.step for taken in snapshots):
            snapshots = (left, *snapshots)
        # A daemon: a second Ctrl-C does not wait for it, and what it leaves half-written bears no checkpoint's name.
        self.thread = threading.Thread(target=self._run, args=(snapshots,), name="netspec-checkpoint", daemon=True)
        self.thread.start()

    def failed(self) -> bool:
        """Whether there is something that could not be written, once the last write is over."""
        self._join()
        return self.failure is not None or self.unwritten is not None

    def wait(self) -> None:
        """Return when nothing is being written. Raises RunError NS907 where the last write failed."""
        self._join()
        if self.failure is not None:
            raise RunError(
                "NS907",
                f"the last checkpoint could not be written: {reason(self.failure)}; {self._left()}",
                help="make room where the run lies, then go on with --resume",
            ) from self.failure

    def _join(self) -> None:
        if self.thread is not None:
            self.thread.join()
            self.thread = None
        if self.bug is not None:
            bug, self.bug = self.bug, None
            raise bug

    def _run(self, snapshots: tuple[Snapshot, ...]) -> None:
        try:
            for taken in snapshots:
                self._write(taken)
        except BaseException as error:  # raised again where training waits for it
            self.bug = error

    def _write(self, taken: Snapshot) -> None:
        try:
            self._store(taken)
            self.failure = None
        except (OSError, SafetensorError) as error:
            self.failure = error
            self._keep(taken)
            told = f"the checkpoint step-{taken.step} could not be written: {reason(error)}; {self._left()}"
            if not isinstance(error, ConnectionError):  # without another process it does not
                told += "; training goes on, and the next checkpoint is the next try"
            self.say(told)

    def _store(self, taken: Snapshot) -> None:
        """Raises OSError or SafetensorError."""
        self._restore_folder()
        checkpoint.write(self.folder, taken, self.files.get(directory.RESOLVED, ""))
        checkpoint.rotate(self.folder, keep=self.keep, mode=self.mode)

    def _restore_folder(self) -> None:
        run = self.folder.parent
        missing = {name: text for name, text in self.files.items() if not (run / name).exists()}
        if missing:
            run.mkdir(parents=True, exist_ok=True)
            for name, text in missing.items():
                directory.write_text(run / name, text)
            self.say(f"{', '.join(missing)} of {run} was removed while the run goes on, and has been written again")

    def _keep(self, taken: Snapshot) -> None:
        """Hold on to the best of what could not be written, and to nothing else: each takes the memory of a model."""
        left, sign = self.unwritten, 1 if self.mode == "min" else -1
        if taken.figure is None or taken.figure != taken.figure:
            return
        if left is None or left.figure is None or sign * taken.figure < sign * left.figure:
            self.unwritten = taken

    def _left(self) -> str:
        found = checkpoint.stored(self.folder)
        return f"{found[-1].path.name} is whole" if found else "there is no earlier one"


class Idle(Saver):
    """Stands in the place of a saver in a process that writes nothing."""

    def save(self, *snapshots: Snapshot) -> None:
        return None

    def failed(self) -> bool:
        return False

    def wait(self) -> None:
        return None


def reason(error: Exception) -> str:
    """Why a file could not be written, in the words of the system. safetensors has them within its own."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return re.sub(r".*?[Ii]/?[Oo] error: (.*?)( \(os error \d+\))?$", r"\1", str(error), flags=re.DOTALL)
