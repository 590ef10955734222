"""What goes wrong while a spec runs, told to the person: `RunError` carries a code, a sentence and a mend."""

from __future__ import annotations

import os
import time
from typing import Final

WAIT: Final = 10
"""Seconds that a process waits to be ended after another one of its run has failed."""


class RunError(Exception):
    """A run can't go on for a reason that the user can act on. The CLI prints it and exits with 3."""

    def __init__(self, code: str, message: str, *, help: str | None = None, path: str | None = None) -> None:
        """path: the layer of the model that it is about, where it is about one."""
        super().__init__(message)
        self.path = path
        self.shared = False
        """Whether all processes of a run raise it, so that the first alone has to tell it."""
        self.code = code
        self.message = message
        self.help = help

    def __str__(self) -> str:
        return f"{self.code} {self.message}" + (f"\n  help: {self.help}" if self.help else "")


def tells(error: Exception, code: str) -> bool:
    """Whether this process is the one that tells of an error that ends its run.

    Of several, the first tells what all of them raise. One that only lost the connection to another gives that one time
    to end first: the process that failed is the one that counts.
    """
    if os.environ.get("WORLD_SIZE", "1") == "1":
        return True
    if code == "NS651" and "TORCHELASTIC_RUN_ID" in os.environ:
        time.sleep(WAIT)
        return False
    return os.environ.get("RANK", "0") == "0" or not getattr(error, "shared", False)


class MissingPackage(RunError):
    """An optional library that the spec needs is not installed."""

    def __init__(self, what: str, package: str, extra: str) -> None:
        super().__init__(
            "NS911",
            f"{what} needs the package {package}, which is not installed",
            help=f"pip install 'netspec[{extra}]'",
        )
