"""The average of the weights: torch's `AveragedModel` over a loop by hand, in figures, checkpoints and `eval`."""

from __future__ import annotations

import random
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from test_resume import assert_same, deadly, in_child, start_or_resume
from test_train_torch import BATCHES, STEPS, assert_equal, batches, compiled
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR
from torch.optim.swa_utils import SWALR, AveragedModel, get_ema_multi_avg_fn, update_bn
from torch.utils._python_dispatch import TorchDispatchMode
from training_support import MLP, StubProgram, TensorStream, digits, recipe

from netspec.recipe.train import Checkpoint, Duration, EarlyStopping, Ema, Optimizer, Scheduler, Swa
from netspec.runtime import checkpoint
from netspec.runtime.averaging import EmaAverage
from netspec.runtime.evaluate import evaluate, load_run
from netspec.runtime.run import train


@pytest.fixture(autouse=True)
def no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("netspec.runtime.run.draw_curves", lambda *_: None)


@pytest.mark.parametrize("use_buffers", [False, True])
def test_the_average_is_torchs(use_buffers: bool, tmp_path: Path) -> None:
    """The checkpoint's model is the average, beside the weights that train; `eval` gives what training reported."""
    program = compiled(
        optimizer={"type": "SGD", "lr": 0.1, "fused": False}, ema={"decay": 0.8, "use_buffers": use_buffers}
    )
    done = train(program, run_dir=tmp_path / "run", progress="none")
    model, criterion = program.module(seed=0), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.8), use_buffers=use_buffers)
    for batch in [batch for epoch in batches(program) for batch in epoch][:STEPS]:
        optimizer.zero_grad()
        criterion(model(batch["image"]), batch["label"]).backward()
        optimizer.step()
        average.update_parameters(model)
    newest = checkpoint.stored(tmp_path / "run" / "checkpoints")[-1].path
    assert_equal(load_file(newest / "model.safetensors"), average.module.state_dict())
    kept = load_file(newest / "state.safetensors")
    assert torch.equal(kept["average.weights.1.weight"], model.state_dict()["1.weight"])
    assert not torch.equal(model.state_dict()["1.weight"], average.module.state_dict()["1.weight"])
    assert_equal(dict(load_run(tmp_path / "run").model.state_dict()), average.module.state_dict())
    assert evaluate(tmp_path / "run", "test") == dict(done.results["test"])


@pytest.mark.parametrize("use_buffers", [False, True])
def test_an_update_of_the_average_waits_for_no_device(use_buffers: bool) -> None:
    """Nothing is copied from the CPU to the device of the model, here to `meta`, which is what torch's own does."""
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).to("meta")
    average = EmaAverage(model, Ema(decay=0.9, use_buffers=use_buffers))
    average.after_step()
    seen: list[str] = []

    class Watching(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen.append(str(func))
            return func(*args, **(kwargs or {}))

    with Watching():
        average.after_step()
    assert "aten._foreach_lerp_.Scalar" in seen and "aten._to_copy.default" not in seen
    with Watching():
        average.averaged.update_parameters(model)
    assert "aten._to_copy.default" in seen


def test_an_average_that_is_left_out_gives_the_trained_weights_back(tmp_path: Path) -> None:
    plain = compiled(optimizer="SGD", steps=2 * STEPS)
    train(compiled(optimizer="SGD", ema=0.9), run_dir=tmp_path / "run", progress="none")
    train(plain, resume=tmp_path / "run", progress="none")
    train(plain, run_dir=tmp_path / "whole", progress="none")
    one, other = (
        load_file(checkpoint.stored(tmp_path / name / "checkpoints")[-1].path / "model.safetensors")
        for name in ("run", "whole")
    )
    assert_equal(one, other)


SWA_RULES: dict[str, dict[str, Any]] = {
    "as torch's page has it": {"swa_lr": 0.05, "anneal_epochs": 2},
    "linear": {"swa_lr": 0.02, "anneal_epochs": 3, "anneal_strategy": "linear"},
    "at once": {"swa_lr": 0.02, "anneal_epochs": 0},
    "no rate of its own": {},
    "judged": {"swa_lr": 0.05, "anneal_epochs": 2, "evaluate": True},
}


@pytest.mark.parametrize("interval", ["epoch", "step"])
@pytest.mark.parametrize("name", SWA_RULES)
def test_swa_is_torchs(name: str, interval: str, tmp_path: Path) -> None:
    """The loop of torch's documentation: the weights at the ends of the last epochs, SWALR, `update_bn` at the end."""
    rule, start, epochs = SWA_RULES[name], 2, 5
    scheduler: dict[str, Any] = {"type": "CosineAnnealingLR", "T_max": epochs, "interval": "epoch"}
    if interval == "step":
        scheduler = {"type": "OneCycleLR", "max_lr": 0.2}
    program = compiled(
        optimizer={"type": "SGD", "lr": 0.1, "momentum": 0.9, "fused": False},
        scheduler=scheduler,
        steps=epochs * BATCHES,
        swa={"start": {"epochs": start}, **rule},
        metrics=["Accuracy"],
    )
    done = train(program, run_dir=tmp_path / "run", progress="none")
    model, criterion = program.module(seed=0), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    schedule: Any = CosineAnnealingLR(optimizer, epochs)
    if interval == "step":
        schedule = OneCycleLR(optimizer, 0.2, total_steps=epochs * BATCHES)
    average, annealing, rates, seen = AveragedModel(model), None, [], []
    for epoch, found in enumerate(batches(program, epochs)):
        for batch in found:
            optimizer.zero_grad()
            criterion(model(batch["image"]), batch["label"]).backward()
            optimizer.step()
            if interval == "step" and (epoch < start or not rule):
                schedule.step()
        seen = found
        rates.append(optimizer.param_groups[0]["lr"])
        if epoch >= start:
            average.update_parameters(model)
            if rule:
                annealing = annealing or SWALR(
                    optimizer,
                    rule["swa_lr"],
                    anneal_epochs=rule["anneal_epochs"],
                    anneal_strategy=rule.get("anneal_strategy", "cos"),
                )
                annealing.step()
        if interval == "epoch" and (epoch < start or not rule):
            schedule.step()
    assert [row["lr"] for row in done.history] == rates
    own = {key: value.clone() for key, value in model.state_dict().items()}
    update_bn([batch["image"] for batch in seen], average)
    newest = checkpoint.stored(tmp_path / "run" / "checkpoints")[-1].path
    assert_equal(load_file(newest / "model.safetensors"), average.module.state_dict())
    kept = load_file(newest / "state.safetensors")
    assert_equal({key: kept[f"average.weights.{key}"] for key in own}, own)
    assert evaluate(tmp_path / "run", "test") == dict(done.results["test"])
    average.eval()
    with torch.no_grad():
        right = [(average(b["image"]).argmax(1) == b["label"]).sum() for b in all_tested(program)]
    assert done.results["test"]["accuracy"] == pytest.approx(float(sum(right)) / TESTED)


TESTED = 1617


def all_tested(program: Any) -> Any:
    from netspec.runtime.data import open_data

    data = open_data(program.recipe.data, seed=0, device=torch.device("cpu"), splits=["test"])
    assert data.splits["test"].size == TESTED
    return data.splits["test"].batches(0)


SGD = Optimizer(type="SGD", target="torch.optim.SGD", arguments={"lr": 0.05, "momentum": 0.9})
COSINE = Scheduler(
    type="CosineAnnealingLR", target="torch.optim.lr_scheduler.CosineAnnealingLR", arguments={"T_max": 4}
)
SWA_RUNS: dict[str, dict[str, Any]] = {
    "at the end": {"swa": Swa(start=1, swa_lr=0.02, anneal_epochs=2)},
    "judged": {"swa": Swa(start=1, swa_lr=0.02, anneal_epochs=2, evaluate=True), "accumulate": 3},
    "in steps": {"swa": Swa(start=1, evaluate=True), "length": Duration(steps=70)},
}


@pytest.mark.parametrize("name", SWA_RUNS)
def test_a_killed_swa_goes_on_exactly(name: str, tmp_path: Path) -> None:
    """Killed at random batches, with dropout and batch norm, before and after the average begins."""
    settings = {"checkpoint": Checkpoint(every=Duration(steps=3)), "optimizer": SGD, "scheduler": COSINE}
    program = StubProgram(MLP, recipe(**{**settings, "length": Duration(epochs=4), **SWA_RUNS[name]}))
    train(program, run_dir=tmp_path / "whole", data=digits(), progress="none")
    draw = random.Random(name)
    for _ in range(3):
        status = in_child(lambda: start_or_resume(program, tmp_path / "killed", deadly(draw.randrange(1, 35))))
        assert status in (0, -signal.SIGKILL)
    start_or_resume(program, tmp_path / "killed", digits())
    assert_same(tmp_path / "whole", tmp_path / "killed")


def test_swa_changes_nothing_but_what_is_kept(tmp_path: Path) -> None:
    """Without a rate of its own, training is that of a run without it; the pass for the statistics draws nothing."""
    settings = recipe(length=Duration(epochs=3), optimizer=SGD)
    train(StubProgram(MLP, settings), run_dir=tmp_path / "plain", data=digits(), progress="none")
    with_swa = recipe(length=Duration(epochs=3), optimizer=SGD, swa=Swa(start=0, evaluate=True))
    train(StubProgram(MLP, with_swa), run_dir=tmp_path / "swa", data=digits(), progress="none")
    train(StubProgram(MLP, settings), resume=tmp_path / "swa", data=digits(), progress="none")
    one, other = (checkpoint.load(checkpoint.stored(tmp_path / n / "checkpoints")[-1].path) for n in ("plain", "swa"))
    kept = other.state["average"]["weights"]
    assert_equal(dict(one.model), kept)
    assert not torch.equal(other.model["fc1.weight"], kept["fc1.weight"])


def test_a_signal_during_the_pass_for_the_statistics(tmp_path: Path) -> None:
    program = StubProgram(MLP, recipe(length=Duration(epochs=3), optimizer=SGD, swa=Swa(start=1)))
    train(program, run_dir=tmp_path / "whole", data=digits(), progress="none")

    class Signalling(TensorStream):
        passes = 0

        def batches(self, epoch: int, start: int = 0) -> Any:
            self.passes += 1
            for index, batch in enumerate(super().batches(epoch, start)):
                if self.passes == 4 and index == 5:
                    signal.raise_signal(signal.SIGTERM)
                yield batch

    data = digits()
    data.splits["train"] = Signalling(**vars(data.splits["train"]))
    stopped = train(program, run_dir=tmp_path / "stopped", data=data, progress="none")
    assert (stopped.exit_code, stopped.steps, len(stopped.history)) == (143, 60, 2)
    train(program, resume=tmp_path / "stopped", data=digits(), progress="none")
    assert_same(tmp_path / "whole", tmp_path / "stopped")


def test_an_early_stop_is_judged_by_the_average(tmp_path: Path) -> None:
    rule = EarlyStopping(monitor="val.loss", patience=1, min_delta=100.0)
    settings = recipe(length=Duration(epochs=9), optimizer=SGD, early_stopping=rule, swa=Swa(start=1, evaluate=True))
    done = train(StubProgram(MLP, settings), run_dir=tmp_path / "run", data=digits(), progress="none")
    assert done.epochs == 2
    assert done.results["val"]["loss"] == done.history[-1]["val.loss"]


def test_longer_or_without_swa_a_run_goes_on(tmp_path: Path) -> None:
    """Extended, the average goes on as that of the longer run; left out, the weights that train come back."""
    swa = Swa(start=1, swa_lr=0.02, anneal_epochs=2)
    for name, epochs in (("extended", 2), ("whole", 4), ("dropped", 3)):
        settings = recipe(length=Duration(epochs=epochs), optimizer=SGD, swa=swa)
        train(StubProgram(MLP, settings), run_dir=tmp_path / name, data=digits(), progress="none")
    longer = recipe(length=Duration(epochs=4), optimizer=SGD, swa=swa)
    train(StubProgram(MLP, longer), resume=tmp_path / "extended", data=digits(), progress="none")
    one, other = (
        load_file(checkpoint.stored(tmp_path / name / "checkpoints")[-1].path / "model.safetensors")
        for name in ("extended", "whole")
    )
    assert_equal(one, other)
