"""Processes that train trials of a sweep side by side, for one that draws their values and alone writes the study.

The two talk in lines of JSON: the values of a trial go out, the figures of each epoch come in and whether to end there
goes out, until how it ended comes in. A worker whose sweep is gone ends at once, wherever it is: its trial goes on from
its last checkpoint, as after any kill.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any, Final, NoReturn

from netspec.compiler import compile
from netspec.plugin.load import enable_installed
from netspec.recipe.sweep import SweepRecipe
from netspec.runtime.errors import RunError
from netspec.runtime.sweep.trial import Ended, Prune, Trials

START: Final = "from netspec.runtime.sweep.worker import main; main()"
PATIENCE: Final = 20
"""Seconds that a process without work has to end."""


class Worker:
    """A process of its own that trains trials, one after the other."""

    def __init__(self, spec: Path, plugins: Sequence[str], environment: Mapping[str, str]) -> None:
        """spec: the `sweep.yaml` of the sweep. environment: what the process has beside this one's."""
        found = os.pathsep.join(path for path in sys.path if path)
        self.told = False
        """Whether it was asked to stop."""
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", START],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env={**os.environ, "PYTHONPATH": found, **environment},
            start_new_session=True,  # Ctrl-C comes to the sweep, which asks each worker to stop
        )
        self.send({"spec": str(spec), "plugins": list(plugins)})

    @property
    def lost(self) -> bool:
        return self.process.poll() is not None

    def conduct(self, number: int, values: Mapping[str, Any], prune: Prune) -> Ended:
        """As `Trials.conduct`. A trial whose process ends without a word has failed, unless it was asked to stop."""
        self.send({"number": number, "values": dict(values)})
        while (told := self.heard()) is not None:
            match told:
                case {"row": row}:
                    self.send({"prune": prune(row)})
                case {"ended": ended}:
                    return Ended(**ended)
                case {"run_error": [code, message, help]}:
                    raise RunError(code, message, help=help)
                case {"os_error": [error, message]}:
                    raise OSError(error, message)
        code = self.process.wait()
        if self.told:
            return Ended(state="running", signal=signal.SIGTERM)
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return Ended(state="failed", message=f"its process {how}")

    def send(self, told: Any) -> None:
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # that it is gone is found where it is listened to
            self.process.stdin.write(f"{json.dumps(told)}\n")
            self.process.stdin.flush()

    def heard(self) -> Any:
        """What the process says next; None where it is gone."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        return json.loads(line) if line.endswith("\n") else None

    def stop(self) -> None:
        """Have the trial save and end, as after SIGTERM."""
        self.told = True
        self.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.told = True
        self.process.kill()

    def close(self) -> None:
        """Have the process end: of itself where it waits for a trial, at once where it is at one."""
        assert self.process.stdin is not None and self.process.stdout is not None
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


def main() -> None:
    """What a worker does: it trains what it is told to until nobody is there to tell it more."""
    signal.signal(signal.SIGINT, _leave)
    signal.signal(signal.SIGTERM, _leave)
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints is no answer
    work = _Work(answers)
    first = work.next()
    if first is None:
        return
    enable_installed()
    program = compile(first["spec"], plugins=first["plugins"])
    recipe = program.recipe.sweep if program.recipe is not None else None
    assert isinstance(recipe, SweepRecipe)
    trials = Trials(program, recipe, Path(first["spec"]).parent, "none", lambda _: None)
    while (told := work.next()) is not None:
        ended = _conducted(trials, told, work)
        work.busy = False
        work.answer(ended)


class _Work:
    """The worker's end of the two lines."""

    def __init__(self, answers: Any) -> None:
        self.answers = answers
        self.busy = False
        """Whether there is something that has been said and not been done."""
        self.lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        # Without a buffer, whose lock this thread would hold when the process ends.
        with open(0, "rb", buffering=0, closefd=False) as told:
            for line in told:
                self.busy = True
                self.lines.put(line)
        if self.busy:
            os._exit(1)
        self.lines.put(None)

    def next(self) -> Any:
        """What is to be done next, None where there is nobody to say it."""
        line = self.lines.get()
        return json.loads(line) if line is not None else None

    def answer(self, told: Any) -> None:
        try:
            self.answers.write(f"{json.dumps(told)}\n")
            self.answers.flush()
        except BrokenPipeError:
            os._exit(1)

    def prune(self, row: Mapping[str, float]) -> bool:
        self.answer({"row": dict(row)})
        return bool(self.next()["prune"])


def _conducted(trials: Trials, told: Any, work: _Work) -> dict[str, Any]:
    """How a trial ended, or what no trial could go on with."""
    try:
        return {"ended": asdict(trials.conduct(told["number"], told["values"], work.prune))}
    except RunError as error:
        return {"run_error": [error.code, error.message, error.help]}
    except OSError as error:
        return {"os_error": [error.errno, error.strerror]}


def _leave(number: int, _: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)
