"""The line of a terminal: what it says at which time, by a clock of the test's."""

from __future__ import annotations

from io import StringIO

import pytest
import torch
from rich.console import Console

from netspec.runtime.job import Progress
from netspec.runtime.progress import Bar, pace, span


def test_the_line_has_epoch_steps_pace_loss_and_what_is_left() -> None:
    now = 100.0
    console = Console(file=StringIO(), width=110, force_terminal=True, color_system=None)
    bar = Bar(1000, 64, "digits", epochs=10, clock=lambda: now, console=console)
    progress = Progress(loss=torch.zeros(()))
    drawn: list[str] = []

    def tick() -> None:
        progress.step += 1
        bar.tick(progress)
        drawn.append(bar._bar.tasks[0].fields["told"])

    bar.open()
    for _ in range(100):  # an epoch at a hundred steps a second
        now += 0.01
        tick()
    assert drawn[-1] == "91/1,000  6.4k samples/s  9 s left"
    assert len(set(drawn)) == 10  # ten drawings a second
    bar.loss = 0.12345
    now += 9.0  # an evaluation, which is no training
    progress.epoch = 1
    for _ in range(300):
        now += 0.01
        tick()
    bar.close()
    # Of what is left nine tenths are evaluations to come; the pace is that of training.
    assert "6.4k samples/s" in drawn[-1] and "loss 0.1235" in drawn[-1] and drawn[-1].endswith("20 s left")
    written = console.file.getvalue()  # type: ignore[attr-defined]
    assert "digits epoch 2/10" in written
    assert max(len(line) for line in written.replace("\r", "\n").split("\n")) < 160  # one line, escapes included


@pytest.mark.parametrize(
    ("rate", "words"), [(3.21, "3.21"), (950.4, "950"), (12_345, "12.3k"), (1_254_000, "1.25M"), (99_960, "100k")]
)
def test_pace(rate: float, words: str) -> None:
    assert pace(rate) == words


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (42, "42 s"), (187, "3:07 min"), (18_720, "5:12 h"), (187_200, "2 d 4 h")]
)
def test_span(seconds: float, words: str) -> None:
    assert span(seconds) == words
