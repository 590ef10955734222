"""One process at a time works in a folder, and what a dead one held is free."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from test_faults import calling
from training_support import MLP, StubProgram, digits, recipe

from netspec.runtime import lock
from netspec.runtime.errors import RunError
from netspec.runtime.lock import locked
from netspec.runtime.run import train

HOLDER = """
import os, sys, time
from pathlib import Path
from netspec.runtime.lock import locked
with locked(Path(sys.argv[1])):
    if os.fork() == 0:  # as the worker of a loader would
        print(os.getpid(), flush=True)
        time.sleep(60)
        os._exit(0)
    time.sleep(60)
"""


ANOTHER = """
import sys
from pathlib import Path
from netspec.runtime.lock import locked
with locked(Path(sys.argv[1])):
    pass
"""


@pytest.fixture
def holder(root: Path, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A process that holds the folder, and the number of one that it has forked."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        assert process.stdout is not None
        worker = int(process.stdout.readline())
        try:
            yield process, worker
        finally:
            process.kill()
            os.kill(worker, signal.SIGKILL)


def test_another_process_is_named(holder: tuple[subprocess.Popen[str], int], tmp_path: Path) -> None:
    process, _ = holder
    words = f"NS918 process {process.pid} on {socket.gethostname()} is working in the run"
    with pytest.raises(RunError) as caught, locked(tmp_path):
        raise AssertionError("two at once")
    assert str(caught.value).startswith(words) and "a process that has died holds nothing" in str(caught.value)


def test_a_killed_process_holds_nothing_though_its_workers_live(
    holder: tuple[subprocess.Popen[str], int], tmp_path: Path
) -> None:
    process, worker = holder
    process.kill()
    process.wait()
    with locked(tmp_path):
        os.kill(worker, 0)  # it is there


def test_one_process_does_not_hold_a_folder_twice(root: Path, tmp_path: Path) -> None:
    with locked(tmp_path):
        for _ in range(2):
            with pytest.raises(RunError, match="NS918 this process is working in the sweep"), locked(tmp_path, "sweep"):
                raise AssertionError("two at once")
        command = [sys.executable, "-c", ANOTHER, str(tmp_path)]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
        assert f"process {os.getpid()} on" in done.stderr, "the second try has given the first one's lock away"
    with locked(tmp_path):
        pass


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_where_there_are_no_locks_it_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(lock.fcntl, "lockf", refuse)
    with locked(tmp_path):
        pass


def test_a_run_that_is_trained_is_not_gone_on_with(tmp_path: Path) -> None:
    """In the middle of a run somebody else tries to resume it; the run itself ends as if nothing had happened."""
    refused: list[RunError] = []

    def meddle() -> None:
        try:
            train(StubProgram(MLP, recipe()), resume=tmp_path / "run", data=digits(), progress="none")
        except RunError as error:
            refused.append(error)

    state = torch.random.get_rng_state()
    done = train(StubProgram(MLP, recipe()), run_dir=tmp_path / "run", data=calling(25, meddle), progress="none")
    assert done.status == "finished" and [error.code for error in refused] == ["NS918"]
    torch.random.set_rng_state(state)
    assert train(StubProgram(MLP, recipe()), resume=tmp_path / "run", data=digits(), progress="none").epochs == 3
