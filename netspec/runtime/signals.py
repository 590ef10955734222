"""Ctrl-C and SIGTERM: a flag that training reads between two steps, so that it ends with all of its work saved."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Final, NoReturn

PASSED_ON: Final = 0.5
"""Seconds within which a second Ctrl-C is the first one once more: `uv run` and its like pass on what they get, while
the terminal has told every process already."""
LINGER: Final = 20
"""Seconds for which a worker goes on after SIGTERM."""


@dataclass(slots=True)
class Stop:
    """Set by a signal, read between two steps and two batches of an evaluation."""

    signal: int = 0
    since: float = 0.0
    asked: int = 0
    """The signal that this process got. Where several train together it counts once they have agreed to stop."""
    agree: Callable[[], None] | None = None
    """Asks the others, and sets `signal` where one was asked to stop; None for a process that is alone."""

    @contextmanager
    def listening(self) -> Iterator[Stop]:
        """Ctrl-C and SIGTERM set the flag and nothing else, for as long as the context is open.

        A second Ctrl-C raises KeyboardInterrupt at once: the person does not want to wait for the end of the step.
        """
        if threading.current_thread() is not threading.main_thread():
            yield self
            return

        def note(number: int, _: FrameType | None) -> None:
            now = time.monotonic()
            if not self.asked:
                self.asked, self.since = number, now
                if self.agree is None:
                    self.signal = number
            elif number == signal.SIGINT and now - self.since > PASSED_ON:
                raise KeyboardInterrupt

        before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


@contextmanager
def leaving() -> Iterator[None]:
    """SIGTERM raises SystemExit(143), as Ctrl-C raises KeyboardInterrupt: while a run is prepared there is nothing to
    save, but there are workers and temporary folders to clear away."""
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def leave(number: int, _: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def in_worker(_: int) -> None:
    """Take the place of the inherited handlers in a process that makes batches.

    Both signals go to the whole group of processes where a terminal or a batch system sends them. Only the parent
    answers: it needs batches until its step is done, and then ends the workers in order.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _linger)


def _linger(_: int, __: FrameType | None) -> None:
    # A worker that the parent has given up, or that hangs, still ends.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(LINGER)
