"""A folder that one process at a time writes into: a lock on a file in it, which a dead process does not hold."""

from __future__ import annotations

import errno
import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from netspec.runtime.errors import RunError

if sys.platform != "win32":
    import fcntl

LOCK: Final = ".lock"
UNSUPPORTED: Final = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)
"""What a file system without locks answers."""

_held: set[tuple[int, int]] = set()
"""The files that this process holds, by device and inode: the system lets a process lock a file twice."""


@contextmanager
def locked(folder: Path, what: str = "run") -> Iterator[None]:
    """Hold the folder of a run (or of a sweep, as `what` says) for as long as the context is open.

    The lock is POSIX's: the kernel drops it with the process, however that ends, and a worker that the process forks
    does not have it. The file says who holds it, and stays behind. On a file system without locks, as NFS may be, and
    on Windows there is none, and two processes are not kept apart.

    Raises RunError NS918 where another process, or this one, holds it, OSError where the folder can't be written to.
    """
    if sys.platform == "win32":
        yield
        return
    path = folder / LOCK
    if path.exists() and _key(path.stat()) in _held:  # opened and closed once more it would be held no longer
        raise _taken(folder, what, "this process")
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    key = _key(os.fstat(file))
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(file)
        if error.errno in (errno.EACCES, errno.EAGAIN):
            raise _taken(folder, what, _holder(path)) from error
        if error.errno in UNSUPPORTED:
            yield
            return
        raise
    _held.add(key)
    try:
        with suppress(OSError):  # a full disk; the lock itself needs no room
            os.ftruncate(file, 0)
            os.pwrite(file, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode(), 0)
        yield
    finally:
        _held.discard(key)
        os.close(file)


def _key(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def _holder(path: Path) -> str:
    with suppress(OSError, ValueError, KeyError, TypeError):
        found = json.loads(path.read_text(encoding="utf-8"))
        return f"process {int(found['pid'])} on {found['host']}"
    return "another process"


def _taken(folder: Path, what: str, holder: str) -> RunError:
    return RunError(
        "NS918",
        f"{holder} is working in the {what} {folder}, and two at once would spoil it",
        help="wait until it has ended, or end it (Ctrl-C saves); a process that has died holds nothing",
    )
