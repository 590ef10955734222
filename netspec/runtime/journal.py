"""What a run writes down while it trains: `metrics.csv`, TensorBoard's events, a line an epoch."""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from netspec.runtime.monitors.events import Events
from netspec.runtime.monitors.trackers import Tracker
from netspec.runtime.progress import Bar

if TYPE_CHECKING:
    from netspec.runtime.job import Progress

MOST_LINES: Final = 200
"""A run of more epochs prints some of them; `metrics.csv` has them all."""
_PLAIN = ("epoch", "step", "lr", "samples_per_second", "seconds", "withheld")


class Journal:
    """Takes rows by column (`val.accuracy`) and passes them on to whoever wants them.

    folder: the run's, or None where nothing is to be written. columns: of `metrics.csv`, in order.
    say: takes the lines of a run. warn: takes what must be said in a silent one as well.
    """

    def __init__(
        self,
        folder: Path | None,
        columns: Sequence[str],
        *,
        epochs: int | None,
        events: Events | None,
        say: Callable[[str], None],
        warn: Callable[[str], None],
        bar: Bar | None,
    ) -> None:
        self.path = folder / "metrics.csv" if folder is not None else None
        self.events = events
        self.trackers: list[Tracker] = []
        """Others who are told of each row."""
        self.columns = tuple(columns)
        self.epochs = epochs
        self.say = say
        self.warn = warn
        self.bar = bar
        self.tick: Callable[[Progress], None] = bar.tick if bar is not None else _nothing
        self._rows: list[Mapping[str, float]] = []
        self._whole = True
        self._before = (0.0, 0, 0)
        self._paced = (0.0, 0)

    def open(self, history: Sequence[Mapping[str, float]], step: int) -> None:
        """Begin, or go on after `step` updates: rows that a killed run wrote after its last checkpoint are dropped."""
        self._rows = list(history)
        if self.path is not None:
            self._write(self.path)
        if self.events is not None and step:
            self.events.purge = step + 1

    def row(self, row: Mapping[str, float]) -> None:
        """Note an epoch."""
        self._rows.append(row)
        if self.path is not None:
            self._append(self.path, row)
        step = int(row["step"])
        if self.events is not None:
            alone: dict[str, float] = {}
            together: dict[str, dict[str, float]] = {}
            for name, value in row.items():
                if name not in _PLAIN:
                    split, _, figure = name.partition(".")
                    alone[f"{figure}/{split}_epoch"] = value
                    together.setdefault(split, {})[figure] = value
            self.events.scalars(alone, step)
            self.events.together(together, step)
            self.events.flush()
        self._tell({name: value for name, value in row.items() if name not in ("step", "seconds")}, step)
        self._before = (0.0, 0, int(row["epoch"]))
        number = int(row["epoch"])
        if self.epochs is None or number % max(1, self.epochs // MOST_LINES) == 0 or number == self.epochs:
            self.say(self.line(row))

    def log(self, progress: Progress, rate: float) -> None:
        """Note the mean loss since the last time. It reads the sum from the device."""
        (total, counted), samples, epoch = progress.look(), progress.samples, progress.epoch
        before_total, before_counted, before_epoch = self._before
        if epoch != before_epoch or counted < before_counted:
            before_total, before_counted = 0.0, 0
        new = counted - before_counted
        mean = (total - before_total) / new if new else math.nan  # all updates since were withheld
        self._before = (total, counted, epoch)
        now = time.perf_counter()
        then, last = self._paced
        self._paced = (now, samples)
        if self.events is not None:
            figures = {"loss/train": mean, "lr": rate}
            if then and samples > last:
                figures["samples_per_second"] = (samples - last) / (now - then)
            self.events.scalars(figures, progress.step)
        self._tell({"train.loss_step": mean, "lr": rate}, progress.step)
        if self.bar is not None:
            self.bar.loss = mean

    def _tell(self, figures: Mapping[str, float], step: int) -> None:
        for tracker in tuple(self.trackers):
            self._guarded(tracker, partial(tracker.log, figures, step))

    def _guarded(self, tracker: Tracker, work: Callable[[], None]) -> None:
        """A tracker that fails is told of nothing more; the run goes on."""
        try:
            work()
        except Exception as error:  # each client has exceptions of its own
            self.trackers.remove(tracker)
            said = str(error).strip().partition("\n")[0]
            self.warn(f"{type(tracker).__name__} fails and is left out from here on: {type(error).__name__}: {said}")

    def end_trackers(self, results: Mapping[str, float], files: Sequence[Path], status: str) -> None:
        """Tell the trackers how it ended: `finished`, `failed`, `interrupted` or `pruned`."""
        for tracker in tuple(self.trackers):
            self._guarded(tracker, partial(tracker.close, results, list(files), status))
        self.trackers.clear()

    def line(self, row: Mapping[str, float]) -> str:
        """An epoch in words: `epoch  3/30  train loss 0.1234  val loss 0.1021  val accuracy 0.9722  lr 0.001`."""
        number = f"{int(row['epoch'])}/{self.epochs}" if self.epochs is not None else str(int(row["epoch"]))
        width = 2 * len(str(self.epochs)) + 1 if self.epochs is not None else 0
        parts = [f"epoch {number:>{width}}"]
        parts += [f"{name.replace('.', ' ')} {figure(value)}" for name, value in row.items() if name not in _PLAIN]
        parts.append(f"lr {row['lr']:.3g}")
        if row["withheld"]:
            parts.append(f"{int(row['withheld'])} updates withheld (not finite)")
        return "  ".join(parts)

    def close(self) -> None:
        if self.events is not None:
            self.events.close()
        if self.bar is not None:
            self.bar.close()

    def _write(self, path: Path) -> None:
        temporary = path.with_suffix(".csv.tmp")
        with temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(self.columns)
            writer.writerows(self._cells(row) for row in self._rows)
        temporary.replace(path)

    def _append(self, path: Path, row: Mapping[str, float]) -> None:
        """Add a row; the whole file where it has gone, or where the row before could not be written.

        A full disk is told once, and nothing is lost by it: the checkpoints hold all rows, and so does this.
        """
        try:
            if self._whole and path.exists():
                with path.open("a", newline="", encoding="utf-8") as file:
                    csv.writer(file, lineterminator="\n").writerow(self._cells(row))
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._write(path)
                self._whole = True
        except OSError as error:
            if self._whole:
                self.warn(f"{path.name} could not be written: {error.strerror}; it is tried again with each epoch")
            self._whole = False

    def _cells(self, row: Mapping[str, float]) -> list[str]:
        return ["" if name not in row else repr(row[name]) for name in self.columns]


def figure(value: float) -> str:
    """A number as a person reads it: four decimals, or three digits where those would show nothing."""
    if not math.isfinite(value):
        return str(value)
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e4 else f"{value:.3g}"


def _nothing(_: Progress) -> None:
    return None
