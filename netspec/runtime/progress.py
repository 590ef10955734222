"""The bar of a terminal: how far the run is, how fast, how long still. Elsewhere a line an epoch has to do."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from netspec.runtime.loop import Progress


class Bar:
    """A rich progress bar over all updates of the run; it is redrawn ten times a second at most."""

    def __init__(self, total_steps: int, samples_per_step: float, name: str) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        self.loss = math.nan
        self.samples_per_step = samples_per_step
        self._bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.completed}/{task.total} steps"),
            TextColumn("{task.fields[rate]:.0f} samples/s"),
            TextColumn("loss {task.fields[loss]:.4f}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            auto_refresh=False,
            transient=True,
        )
        self._task = self._bar.add_task(name, total=total_steps, rate=0.0, loss=math.nan)
        self._next = 0.0
        self._start: tuple[float, int] | None = None

    def open(self) -> None:
        self._bar.start()

    def tick(self, progress: Progress) -> None:
        """Called after each update; costs a look at the clock where it is too early to draw."""
        now = time.perf_counter()
        if now < self._next:
            return
        self._next = now + 0.1
        if self._start is None:
            self._start = (now, progress.step)
        since, first = self._start
        rate = (progress.step - first) * self.samples_per_step / (now - since) if now > since else 0.0
        self._bar.update(self._task, completed=progress.step, rate=rate, loss=self.loss, refresh=True)

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        self._bar.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def close(self) -> None:
        self._bar.stop()
