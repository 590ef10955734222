"""The training loss of an epoch with updates that were withheld: the mean over the batches that moved the weights."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from test_resume import assert_same, in_child, start_or_resume
from test_train import LINEAR
from torch.nn.functional import cross_entropy
from training_support import StubProgram, TensorData, TensorStream, digits, recipe

from netspec.recipe.train import Checkpoint, Duration, Optimizer
from netspec.runtime import checkpoint
from netspec.runtime.finite import Guard
from netspec.runtime.run import train

STILL = Optimizer(type="SGD", target="torch.optim.SGD", arguments={"lr": 1e-12})
"""The weights stay what they are, so that the last ones tell each batch's loss."""


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    for what in ("netspec.runtime.run.draw_curves", "netspec.runtime.run.leave_report"):
        monkeypatch.setattr(what, lambda *_: None, raising=False)


@pytest.fixture(params=[False, True], ids=["at once", "deferred"])
def guarded(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the guard's answer stays on the device, as with a fused optimizer on a GPU."""
    if request.param:

        def deferred(optimizer: Any, device: Any, scaler: Any, **settings: Any) -> Guard:
            settings = {"withheld": 0, "step": 0, **settings}
            return Guard(optimizer, device, deferred=True, scaled=scaler is not None, **settings)

        monkeypatch.setattr("netspec.runtime.prepare.make_guard", deferred)
    return bool(request.param)


def order(stream: TensorStream) -> torch.Tensor:
    """The samples of the first epoch."""
    return torch.randperm(stream.size, generator=torch.Generator().manual_seed(stream.seed * 1000003))


def spoiled(*batches: int) -> TensorData:
    data = digits()
    stream = data.splits["train"]
    for number in batches:
        stream.fields["image"][order(stream)[number * stream.batch_size + 5], 0, 3, 3] = float("nan")
    return data


def expected(run: Path, batches: set[int]) -> float:
    """torch's mean over the samples of all batches of the first epoch but those."""
    kept = checkpoint.load(checkpoint.stored(run / "checkpoints")[-1].path)
    stream = digits().splits["train"]
    parts = [part for number, part in enumerate(order(stream).split(stream.batch_size)) if number not in batches]
    rows = torch.cat(parts)
    logits = stream.fields["image"][rows].flatten(1).double() @ kept.model["fc2.weight"].double().T
    return float(cross_entropy(logits + kept.model["fc2.bias"].double(), stream.fields["label"][rows]))


@pytest.mark.parametrize(
    "settings,left_out",
    [
        ({}, {3, 4, 19}),  # the last batch is smaller
        ({"accumulate": 3}, {3, 4, 5, 18, 19}),  # what shares an update is withheld with it
        ({"precision": "fp16"}, {3, 4, 19}),
        ({"precision": "fp16", "accumulate": 3}, {3, 4, 5, 18, 19}),
    ],
)
def test_it_is_the_mean_of_what_was_trained_on(
    settings: dict[str, Any], left_out: set[int], tmp_path: Path, guarded: bool
) -> None:
    program = StubProgram(LINEAR, recipe(length=Duration(epochs=1), optimizer=STILL, log_every=2, **settings))
    done = train(program, run_dir=tmp_path / "run", data=spoiled(3, 4, 19), progress="none")
    (row,) = csv.DictReader((tmp_path / "run" / "metrics.csv").read_text().splitlines())
    near = 2e-2 if "precision" in settings else 1e-6
    assert float(row["train.loss"]) == pytest.approx(expected(tmp_path / "run", left_out), rel=near)
    assert float(row["train.loss"]) == done.history[0]["train.loss"]
    assert int(row["withheld"]) == (2 if "accumulate" in settings else 3)


def test_where_all_were_withheld_there_is_none(tmp_path: Path, guarded: bool) -> None:
    program = StubProgram(LINEAR, recipe(length=Duration(epochs=2), withheld_limit=99))
    data = digits(samples=200)
    data.splits["train"].fields["image"][:] = math.nan
    done = train(program, run_dir=tmp_path / "run", data=data, progress="none")
    assert all(math.isnan(row["train.loss"]) and row["withheld"] == 3 for row in done.history)


def test_a_run_that_goes_on_in_such_an_epoch_has_the_same(tmp_path: Path, guarded: bool) -> None:
    every = Checkpoint(every=Duration(steps=1), keep=99)
    settings = recipe(length=Duration(epochs=2), checkpoint=every, log_every=3)
    whole = train(StubProgram(LINEAR, settings), run_dir=tmp_path / "whole", data=spoiled(1, 4, 7), progress="none")
    assert whole.history[0]["withheld"] == 3 and math.isfinite(whole.history[0]["train.loss"])

    class Stopping(TensorStream):
        def batches(self, epoch: int, start: int = 0) -> Any:
            for index, batch in enumerate(super().batches(epoch, start), start):
                if index == 6 and not start:
                    raise KeyboardInterrupt
                yield batch

    data = spoiled(1, 4, 7)
    data.splits["train"] = Stopping(**vars(data.splits["train"]))
    assert in_child(lambda: start_or_resume(StubProgram(LINEAR, settings), tmp_path / "cut", data)) != 0
    start_or_resume(StubProgram(LINEAR, settings), tmp_path / "cut", spoiled(1, 4, 7))
    assert_same(tmp_path / "whole", tmp_path / "cut")
