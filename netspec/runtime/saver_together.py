"""The threads that write a checkpoint together, each the parts that its process has, while training goes on.

The first process makes the folder, all write into it, the first writes the manifest and gives the folder its name. They
talk over a line of their own (`Processes.apart`), a gloo group that no other thread uses: training's own collectives
stand in another order there in each process. Each save is three talks, which every process comes to whatever went wrong
in its part, so that none waits for one that has given up; one that is gone ends the line, and the save.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

from safetensors import SafetensorError

from netspec.runtime import checkpoint, directory, parts
from netspec.runtime.checkpoint import Snapshot
from netspec.runtime.processes import Processes
from netspec.runtime.saver import Saver, reason

T = TypeVar("T")


class TogetherSaver(Saver):
    """A saver in each of several processes, all of which are given the same steps to save in the same order.

    folder: that of the run's checkpoints, which all processes see. The other arguments are those of a `Saver`.
    Make it in all processes at once.
    """

    def __init__(
        self,
        folder: Path,
        files: Mapping[str, str],
        *,
        keep: int,
        mode: Literal["min", "max"],
        say: Callable[[str], None],
        processes: Processes,
    ) -> None:
        super().__init__(folder, files, keep=keep, mode=mode, say=say)
        self.processes = processes.apart()

    def _store(self, taken: Snapshot) -> None:
        """Raises OSError in all processes, or in none."""
        temporary: Path | None = None
        try:
            temporary = self.folder / self._first(lambda: self._begin(taken))
            part = self._tried(lambda: parts.write_part(temporary, taken, self.processes.rank))
            written = self._talk(lambda: self.processes.gathered(part))
            self._first(lambda: self._finish(temporary, taken, written))
        except OSError:
            if temporary is not None and self.processes.writes:  # nothing of it takes room
                shutil.rmtree(temporary, ignore_errors=True)
            raise

    def _begin(self, taken: Snapshot) -> str:
        self._restore_folder()
        # A name of its own: a machine may remember for a while what a folder on another one was called.
        return checkpoint.begin(self.folder, f"step-{taken.step}.{uuid.uuid4().hex[:8]}.tmp").name

    def _finish(self, temporary: Path, taken: Snapshot, written: list[tuple[Any, str]]) -> None:
        try:
            for rank, (_, failure) in enumerate(written):
                if failure:
                    raise OSError(f"process {rank}: {failure}")
            found = [part for part, _ in written]
            parts.close_parts(temporary, taken, found, self.files.get(directory.RESOLVED, ""))
            checkpoint.settle(temporary, taken.step)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        checkpoint.rotate(self.folder, keep=self.keep, mode=self.mode)

    def _first(self, work: Callable[[], T]) -> T:
        """What `work` gives in the first process, in all of them. Raises OSError in all where it fails there."""
        told: tuple[Any, str] = self._tried(work) if self.processes.writes else (None, "")
        found, failure = self._talk(lambda: self.processes.first(lambda: told))
        if failure:
            raise OSError(failure)
        return cast(T, found)

    def _tried(self, work: Callable[[], T]) -> tuple[T | None, str]:
        """What `work` gives, or why it failed: a mistake of ours, too, is raised when the others know."""
        try:
            return work(), ""
        except (OSError, SafetensorError) as error:
            return None, reason(error)
        except Exception as error:
            self.bug = error
            return None, f"{type(error).__name__}: {error}"

    def _talk(self, talk: Callable[[], T]) -> T:
        try:
            return talk()
        except RuntimeError as error:  # of torch's, where a connection is closed
            raise ConnectionError("another process of the run is gone") from error
