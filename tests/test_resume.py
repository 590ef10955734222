"""A run that was killed goes on as if nothing had happened: the same weights to the last bit, the same rows."""

from __future__ import annotations

import csv
import os
import random
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from training_support import MLP, StubProgram, TensorData, TensorStream, digits, recipe

import netspec
from netspec.recipe.train import (
    Checkpoint,
    ClipGrad,
    Duration,
    Ema,
    Optimizer,
    Scheduler,
    TrainRecipe,
    WarmUp,
)
from netspec.runtime import checkpoint
from netspec.runtime.errors import RunError
from netspec.runtime.run import Run, train

STEPPED = Checkpoint(every=Duration(steps=7))


class Deadly(TensorStream):
    """A stream whose process is killed when the batch of that number is asked for."""

    left = 0

    def batches(self, epoch: int, start: int = 0) -> Iterator[dict[str, Tensor]]:
        for batch in super().batches(epoch, start):
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            self.left -= 1
            yield batch


def deadly(batches: int, samples: int | None = None) -> TensorData:
    """The digits, the training part of which kills its process after so many batches."""
    data = digits(samples=samples)
    stream = Deadly(**vars(data.splits["train"]))
    stream.left = batches
    data.splits["train"] = stream
    return data


def in_child(work: Callable[[], object]) -> int:
    """Run something in a forked process; its exit status, negative where a signal ended it."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def start_or_resume(program: StubProgram, folder: Path, data: TensorData) -> Run:
    begun = (folder / "checkpoints").is_dir() or (folder / "resolved.yaml").exists()
    where: dict[str, Any] = {"resume": folder} if begun else {"run_dir": folder}
    return train(program, **where, data=data, progress="none")


def final_state(folder: Path) -> dict[str, Tensor]:
    """Every tensor of the newest checkpoint: the weights, the optimizer's memory, the generators."""
    newest = checkpoint.stored(folder / "checkpoints")[-1].path
    return load_file(newest / "model.safetensors") | load_file(newest / "state.safetensors")


def rows(folder: Path) -> list[dict[str, str]]:
    """`metrics.csv` without the columns that depend on the clock."""
    clock = ("seconds", "samples_per_second")
    with (folder / "metrics.csv").open(encoding="utf-8") as file:
        return [{name: cell for name, cell in row.items() if name not in clock} for row in csv.DictReader(file)]


def assert_same(one: Path, other: Path) -> None:
    a, b = final_state(one), final_state(other)
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name
    assert rows(one) == rows(other)


@pytest.fixture(autouse=True)
def no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than these runs; test_train.py looks at the picture."""
    monkeypatch.setattr("netspec.runtime.run.draw_curves", lambda *_: None)


SGD = Optimizer(type="SGD", target="torch.optim.SGD", arguments={"lr": 0.05, "momentum": 0.9})
COSINE = Scheduler(
    type="CosineAnnealingLR",
    target="torch.optim.lr_scheduler.CosineAnnealingLR",
    arguments={"T_max": 3},
    warmup=WarmUp(length=Duration(steps=30)),
)
ONE_CYCLE = Scheduler(
    type="OneCycleLR",
    target="torch.optim.lr_scheduler.OneCycleLR",
    arguments={"max_lr": 0.05},
    interval="step",
)
PLATEAU = Scheduler(
    type="ReduceLROnPlateau",
    target="torch.optim.lr_scheduler.ReduceLROnPlateau",
    arguments={"patience": 0, "threshold": 0.5},
    monitor="val.loss",
)
TORCH = "torch.optim.lr_scheduler"
FALLING = Scheduler(type="ExponentialLR", target=f"{TORCH}.ExponentialLR", arguments={"gamma": 0.99})
SEQUENTIAL = Scheduler(
    type="SequentialLR",
    target=f"{TORCH}.SequentialLR",
    arguments={
        "schedulers": (
            Scheduler(type="LinearLR", target=f"{TORCH}.LinearLR", arguments={"total_iters": 20}),
            Scheduler(type="CosineAnnealingLR", target=f"{TORCH}.CosineAnnealingLR", arguments={"T_max": 40}),
        ),
        "milestones": (20,),
    },
)
CHAINED = Scheduler(
    type="ChainedScheduler",
    target=f"{TORCH}.ChainedScheduler",
    arguments={"schedulers": (SEQUENTIAL, FALLING)},
    interval="step",
)
RECIPES = {
    "adamw": recipe(checkpoint=STEPPED),
    "sgd-cosine-warmup": recipe(checkpoint=STEPPED, optimizer=SGD, scheduler=COSINE, clip_grad=ClipGrad(norm=1.0)),
    "onecycle-accumulate": recipe(checkpoint=STEPPED, optimizer=SGD, scheduler=ONE_CYCLE, accumulate=3),
    "plateau-steps": recipe(checkpoint=STEPPED, scheduler=PLATEAU, length=Duration(steps=50)),
    "best-only-in-memory": recipe(checkpoint=Checkpoint(monitor="val.accuracy", mode="max")),
    "chained": recipe(checkpoint=STEPPED, optimizer=SGD, scheduler=CHAINED),
    "ema-accumulate": recipe(checkpoint=STEPPED, ema=Ema(decay=0.9), accumulate=3, optimizer=SGD, scheduler=COSINE),
    "lbfgs": recipe(
        checkpoint=STEPPED,
        length=Duration(steps=12),
        optimizer=Optimizer(type="LBFGS", target="torch.optim.LBFGS", arguments={"lr": 0.1, "max_iter": 3}),
    ),
    "bf16": recipe(checkpoint=STEPPED, precision="bf16"),
    "fp16": recipe(checkpoint=STEPPED, precision="fp16", optimizer=SGD, accumulate=2, clip_grad=ClipGrad(norm=1.0)),
}


@pytest.mark.parametrize("name", RECIPES)
def test_killed_between_two_steps(tmp_path: Path, name: str) -> None:
    """Killed three times at random batches, also in the middle of an epoch, with dropout and batch norm."""
    program = StubProgram(MLP, RECIPES[name])
    train(program, run_dir=tmp_path / "whole", data=digits(), progress="none")
    draw = random.Random(name)
    for _ in range(3):
        status = in_child(lambda: start_or_resume(program, tmp_path / "killed", deadly(draw.randrange(1, 25))))
        assert status in (0, -signal.SIGKILL)
    start_or_resume(program, tmp_path / "killed", digits())
    assert_same(tmp_path / "whole", tmp_path / "killed")


@pytest.mark.long
@pytest.mark.parametrize("batches", range(1, 60))
def test_killed_at_each_step(tmp_path: Path, batches: int) -> None:
    program = StubProgram(MLP, RECIPES["sgd-cosine-warmup"])
    train(program, run_dir=tmp_path / "whole", data=digits(), progress="none")
    assert in_child(lambda: start_or_resume(program, tmp_path / "killed", deadly(batches))) == -signal.SIGKILL
    start_or_resume(program, tmp_path / "killed", digits())
    assert_same(tmp_path / "whole", tmp_path / "killed")


@pytest.mark.long
def test_a_killed_process_of_its_own(tmp_path: Path) -> None:
    """The same without a fork: nothing that this process holds can help the second one."""
    script = (
        "import sys; sys.path[:0] = sys.argv[3:]\n"
        "from test_resume import *\n"
        "start_or_resume(StubProgram(MLP, RECIPES['adamw']), Path(sys.argv[1]), deadly(int(sys.argv[2])))\n"
    )
    here = Path(__file__).resolve().parent
    for batches, expected in ((33, -signal.SIGKILL), (1000, 0)):
        command = [sys.executable, "-c", script, str(tmp_path / "killed"), str(batches), str(here), str(here.parent)]
        assert subprocess.run(command, check=False, timeout=120).returncode == expected
    train(StubProgram(MLP, RECIPES["adamw"]), run_dir=tmp_path / "whole", data=digits(), progress="none")
    assert_same(tmp_path / "whole", tmp_path / "killed")


@pytest.mark.parametrize("number,code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_leaves(tmp_path: Path, number: signal.Signals, code: int) -> None:
    """Ctrl-C and SIGTERM: the state is saved between two steps, and the run can go on."""
    program = StubProgram(MLP, RECIPES["adamw"])
    train(program, run_dir=tmp_path / "whole", data=digits(), progress="none")

    class Signalling(TensorStream):
        def batches(self, epoch: int, start: int = 0) -> Iterator[dict[str, Tensor]]:
            for index, batch in enumerate(super().batches(epoch, start), start):
                if epoch == 1 and index == 11:
                    os.kill(os.getpid(), number)
                yield batch

    data = digits()
    data.splits["train"] = Signalling(**vars(data.splits["train"]))
    before = signal.getsignal(number)
    stopped = train(program, run_dir=tmp_path / "stopped", data=data, progress="none")
    assert (stopped.status, stopped.exit_code, stopped.steps) == ("interrupted", code, 32)
    assert signal.getsignal(number) is before
    done = train(program, resume=tmp_path / "stopped", data=digits(), progress="none")
    assert (done.status, done.exit_code, done.steps) == ("finished", 0, 60)
    assert_same(tmp_path / "whole", tmp_path / "stopped")


def test_a_signal_during_the_evaluation(tmp_path: Path) -> None:
    program = StubProgram(MLP, RECIPES["adamw"])
    train(program, run_dir=tmp_path / "whole", data=digits(), progress="none")

    class Signalling(TensorStream):
        passes = 0

        def batches(self, epoch: int, start: int = 0) -> Iterator[dict[str, Tensor]]:
            self.passes += 1
            for batch in super().batches(epoch, start):
                if self.passes == 3:  # the last epoch's
                    os.kill(os.getpid(), signal.SIGINT)
                yield batch

    data = digits()
    data.splits["val"] = Signalling(**vars(data.splits["val"]))
    stopped = train(program, run_dir=tmp_path / "stopped", data=data, progress="none")
    assert (stopped.steps, len(stopped.history), stopped.exit_code) == (60, 2, 130)
    train(program, resume=tmp_path / "stopped", data=digits(), progress="none")
    assert_same(tmp_path / "whole", tmp_path / "stopped")


def test_a_finished_run_can_be_extended(tmp_path: Path) -> None:
    """More epochs on a finished run give what the longer run gives, where the rates do not depend on its end."""
    shorter, longer = recipe(length=Duration(epochs=2)), recipe(length=Duration(epochs=4))
    train(StubProgram(MLP, shorter), run_dir=tmp_path / "extended", data=digits(), progress="none")
    again = train(StubProgram(MLP, shorter), resume=tmp_path / "extended", data=digits(), progress="none")
    assert again.steps == 40
    train(StubProgram(MLP, longer), resume=tmp_path / "extended", data=digits(), progress="none")
    train(StubProgram(MLP, longer), run_dir=tmp_path / "whole", data=digits(), progress="none")
    assert_same(tmp_path / "whole", tmp_path / "extended")
    assert (tmp_path / "extended" / "resolved.1.yaml").exists()


def scheduled(epochs: int) -> TrainRecipe:
    cosine = Scheduler(
        type="CosineAnnealingLR",
        target="torch.optim.lr_scheduler.CosineAnnealingLR",
        arguments={"T_max": epochs},
    )
    return recipe(length=Duration(epochs=epochs), scheduler=cosine, optimizer=SGD)


def test_an_extended_schedule_goes_on_as_the_longer_one(tmp_path: Path) -> None:
    """The rates after the extension are those of the longer schedule, not the zeros at the end of the shorter."""
    train(StubProgram(MLP, scheduled(3)), run_dir=tmp_path / "extended", data=digits(), progress="none")
    extended = train(StubProgram(MLP, scheduled(6)), resume=tmp_path / "extended", data=digits(), progress="none")
    whole = train(StubProgram(MLP, scheduled(6)), run_dir=tmp_path / "whole", data=digits(), progress="none")
    assert [row["lr"] for row in extended.history[3:]] == [row["lr"] for row in whole.history[3:]]


def test_that_a_schedule_depends_on_the_length_is_said(tmp_path: Path) -> None:
    said: list[str] = []
    train(StubProgram(MLP, scheduled(3)), run_dir=tmp_path / "run", data=digits(), progress="none")
    train(StubProgram(MLP, scheduled(4)), resume=tmp_path / "run", data=digits(), progress="none", say=said.append)
    assert len(said) == 1 and "a run of 4 epochs at once would give other weights" in said[0]
    assert "rates are those of 4 epochs, while up to here they were those of 3 epochs" in said[0]


@pytest.mark.parametrize("scheduler", [COSINE, PLATEAU, None], ids=["warm-up", "plateau", "none"])
def test_a_run_that_ended_within_an_epoch_can_be_extended(tmp_path: Path, scheduler: Scheduler | None) -> None:
    """Its last row was of a part of an epoch, and gives way to that of the whole one."""
    settings: dict[str, Any] = {"scheduler": scheduler, "optimizer": SGD, "accumulate": 3}
    said: list[str] = []
    shorter, longer = (recipe(length=Duration(steps=steps), **settings) for steps in (11, 25))
    train(StubProgram(MLP, shorter), run_dir=tmp_path / "run", data=digits(), progress="none")
    train(StubProgram(MLP, longer), resume=tmp_path / "run", data=digits(), progress="none", say=said.append)
    train(StubProgram(MLP, longer), run_dir=tmp_path / "whole", data=digits(), progress="none")
    assert_same(tmp_path / "whole", tmp_path / "run")
    assert said == []


def test_what_changes_the_model_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether or not the weights would fit."""
    monkeypatch.chdir(Path(__file__).resolve().parent.parent)
    run, settings = tmp_path / "run", {"train.epochs": 1, "train.tensorboard": False, "train.device": "cpu"}
    netspec.train("specs/logistic_regression.yaml", set=settings, run_dir=run, progress="none")
    settings["train.epochs"] = 2
    assert netspec.train("specs/logistic_regression.yaml", set=settings, resume=run, progress="none").epochs == 2
    text = (run / "resolved.yaml").read_text()
    changed = tmp_path / "changed.yaml"
    changed.write_text(re.sub(r"( +)type: Linear\n", r"\1type: Linear\n\1bias: false\n", text))
    if changed.read_text() == text:
        changed.write_text(text.replace("type: Linear,", "type: Linear, bias: false,"))
    with pytest.raises(RunError, match=r"NS905 the model is not that of the run:\n(.|\n)*bias=False"):
        netspec.train(changed, resume=run, progress="none")
    assert (run / "resolved.yaml").read_text() == text


def test_the_state_of_numpy_and_python_is_restored(tmp_path: Path) -> None:
    """A layer that draws from the other generators is exact as well."""
    source = MLP.replace("import torch\n", "import random\nimport numpy\nimport torch\n").replace(
        "self.dropout(x)", "self.dropout(x) * (1 + random.random() * 0.1) * float(1 + numpy.random.rand())"
    )
    program = StubProgram(source, recipe(checkpoint=STEPPED, length=Duration(epochs=1)))
    train(program, run_dir=tmp_path / "whole", data=digits(), progress="none")
    assert in_child(lambda: start_or_resume(program, tmp_path / "killed", deadly(12))) == -signal.SIGKILL
    start_or_resume(program, tmp_path / "killed", digits())
    assert_same(tmp_path / "whole", tmp_path / "killed")
