"""The bar of a terminal: how far the run is, how fast, how long still. Elsewhere a line an epoch has to do."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from netspec.runtime.job import Progress

EVERY: Final = 0.1
"""Seconds between two drawings."""
WINDOW: Final = 2.0
"""Seconds over which the pace is taken."""


class Bar:
    """One line over all updates of the run: epoch, steps, samples a second, loss, and the time that is left.

    It looks at the clock after an update and draws ten times a second at most. It reads nothing from the device: the
    loss is that of the last point of the curves. The pace is that of training alone; what is left has evaluations and
    checkpoints in it, as they come along. clock: seconds, for tests.
    """

    def __init__(
        self,
        total_steps: int,
        samples_per_step: float,
        name: str,
        *,
        epochs: int | None = None,
        clock: Callable[[], float] = time.perf_counter,
        console: Any = None,
    ) -> None:
        from rich.progress import BarColumn, Progress, TextColumn

        self.loss = math.nan
        self.samples_per_step = samples_per_step
        self.epochs = epochs
        self.total = total_steps
        self.clock = clock
        self._bar = Progress(
            TextColumn("[bold]{task.description}[/] {task.fields[epoch]}"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[told]}", markup=False),
            auto_refresh=False,
            transient=True,
            expand=True,
            console=console,
        )
        self._task = self._bar.add_task(name, total=total_steps, epoch="", told="")
        self._next = 0.0
        self._start: tuple[float, int] | None = None
        self._window: tuple[float, int, int] = (0.0, 0, -1)
        self._rate = 0.0

    def open(self) -> None:
        self._bar.start()

    def tick(self, progress: Progress) -> None:
        """Called after each update; costs a look at the clock where it is too early to draw."""
        now = self.clock()
        if now < self._next:
            return
        self._next = now + EVERY
        step, epoch = progress.step, progress.epoch
        if self._start is None:
            self._start = (now, step)
        since, first, of = self._window
        if epoch != of:  # between two epochs it was evaluated
            self._window = (now, step, epoch)
        elif now - since >= WINDOW or (not self._rate and now > since):
            self._rate = (step - first) * self.samples_per_step / (now - since)
            self._window = (now, step, epoch) if now - since >= WINDOW else self._window
        number = f"{epoch + 1}/{self.epochs}" if self.epochs is not None else str(epoch + 1)
        self._bar.update(self._task, completed=step, epoch=f"epoch {number}", told=self._told(now, step), refresh=True)

    def _told(self, now: float, step: int) -> str:
        assert self._start is not None
        since, first = self._start
        parts = [f"{step:,}/{self.total:,}"]
        if self._rate:
            parts.append(f"{pace(self._rate)} samples/s")
        if not math.isnan(self.loss):
            parts.append(f"loss {self.loss:.4f}")
        if step > first:
            parts.append(f"{span((now - since) / (step - first) * (self.total - step))} left")
        return "  ".join(parts)

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        self._bar.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def close(self) -> None:
        self._bar.stop()


def pace(rate: float) -> str:
    """A rate with three digits: 950, 12.3k, 1.25M."""
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if rate >= size:
            return f"{rate / size:.3g}{unit}"
    return f"{rate:.3g}" if rate < 100 else f"{rate:.0f}"


def span(seconds: float) -> str:
    """A time to come in two units at most: 42 s, 3:07 min, 5:12 h, 2 d 4 h."""
    left = round(seconds)
    if left < 60:
        return f"{left} s"
    if left < 3600:
        return f"{left // 60}:{left % 60:02} min"
    if left < 86400:
        return f"{left // 3600}:{left % 3600 // 60:02} h"
    return f"{left // 86400} d {left % 86400 // 3600} h"
