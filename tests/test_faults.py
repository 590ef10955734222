"""What goes wrong around a run: disks, signals, folders that vanish. Nothing is lost, and the message says it."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_resume import assert_same, deadly, in_child, start_or_resume
from torch import Tensor
from training_support import MLP, StubProgram, TensorData, TensorStream, digits, recipe

from netspec.cli import main
from netspec.recipe.seeing import TensorBoard
from netspec.recipe.train import Checkpoint, Duration
from netspec.runtime import checkpoint
from netspec.runtime.errors import RunError
from netspec.runtime.finite import Guard
from netspec.runtime.run import train

EACH = Checkpoint(every=Duration(epochs=1))


@pytest.fixture(autouse=True)
def no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than these runs; test_train.py looks at the picture."""
    monkeypatch.setattr("netspec.runtime.run.draw_curves", lambda *_: None)


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    """A file system of its own, so that it can be full or read-only for root as well."""
    folder.mkdir(exist_ok=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("needs the right to mount a file system")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


class Calling(TensorStream):
    """A stream that calls something before it gives the batch of that number."""

    at = 0
    call: Any = None

    def batches(self, epoch: int, start: int = 0) -> Iterator[dict[str, Tensor]]:
        for batch in super().batches(epoch, start):
            if self.at == 0:
                self.call()
            self.at -= 1
            yield batch


def calling(at: int, call: Any, split: str = "train") -> TensorData:
    """The digits; before the batch of that number of the split the call is made."""
    data = digits()
    stream = Calling(**vars(data.splits[split]))
    stream.at, stream.call = at, call
    data.splits[split] = stream
    return data


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def fill(disk: Path) -> None:
    """Leave no room, once the checkpoint of the first epoch is there: it is written in the background."""
    while not (disk / "run" / "checkpoints" / "step-20").exists():
        time.sleep(0.01)
    (disk / "run" / "metrics.csv").unlink()  # a row more would still fit its last block
    with (disk / "filler").open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        while True:
            file.write(bytes(4096))


class TestFullDisk:
    def test_training_goes_on_and_the_earlier_checkpoint_stays(self, tmp_path: Path) -> None:
        """A real file system that is full from the second epoch on, and is made larger before the last."""
        disk, program = tmp_path / "disk", StubProgram(MLP, recipe(length=Duration(epochs=5), checkpoint=EACH))
        said: list[str] = []
        with mounted(disk, "size=1m"):

            def look() -> None:
                found = checkpoint.newest(disk / "run" / "checkpoints", said.append)
                assert found is not None and found.stored.step == 20
                (disk / "filler").unlink()

            data = calling(25, lambda: fill(disk))
            data.splits["val"] = calling(0, lambda: None, "val").splits["val"]
            data.splits["val"].at, data.splits["val"].call = 5 * 4 - 1, look  # type: ignore[attr-defined]
            run = train(program, run_dir=disk / "run", data=data, progress="none", say=said.append)
            assert run.status == "finished" and run.steps == 100
            failed = [line for line in said if "could not be written: No space left on device" in line]
            assert any("the checkpoint step-40 " in line and "; step-20 is whole;" in line for line in failed), said
            assert any(line.startswith("metrics.csv could not be written") for line in said)
            assert [row["epoch"] for row in rows(disk / "run")] == ["1", "2", "3", "4", "5"]
            assert not list((disk / "run" / "checkpoints").glob("*.tmp"))
            train(program, run_dir=tmp_path / "whole", data=digits(), progress="none")
            assert_same(tmp_path / "whole", disk / "run")

    def test_that_stays_full_ends_in_an_error(self, tmp_path: Path) -> None:
        disk, program = tmp_path / "disk", StubProgram(MLP, recipe(checkpoint=EACH))
        with mounted(disk, "size=1m"):
            with pytest.raises(RunError, match=r"NS907 .*No space left on device; step-20 is whole"):
                train(
                    program,
                    run_dir=disk / "run",
                    data=calling(25, lambda: fill(disk)),
                    progress="none",
                    say=lambda _: None,
                )
            (disk / "filler").unlink()
            train(program, resume=disk / "run", data=digits(), progress="none")
            train(program, run_dir=tmp_path / "whole", data=digits(), progress="none")
            assert_same(tmp_path / "whole", disk / "run")

    @pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
    def test_events_are_left_out(self, tmp_path: Path) -> None:
        """TensorBoard's files are for looking at."""
        disk, said = tmp_path / "disk", []
        settings: dict[str, Any] = {"checkpoint": EACH, "tensorboard": TensorBoard(), "log_every": 1}

        with mounted(disk, "size=2m"):
            data = calling(25, lambda: fill(disk))
            program = StubProgram(MLP, recipe(length=Duration(epochs=4), **settings))
            with pytest.raises(RunError, match="NS907"):
                train(program, run_dir=disk / "run", data=data, progress="none", say=said.append)
        assert len([line for line in said if line.startswith("TensorBoard's events could not be written")]) == 1, said

    def test_from_the_start(self, tmp_path: Path) -> None:
        disk = tmp_path / "disk"
        with mounted(disk, "size=4k"), pytest.raises(RunError, match=r"NS901 .* cannot be .*: No space left on device"):
            train(StubProgram(MLP, recipe()), run_dir=disk / "run", data=digits(), progress="none")


class TestReadOnly:
    def test_a_new_run(self, tmp_path: Path) -> None:
        with mounted(tmp_path / "disk", "ro"), pytest.raises(RunError, match=r"NS901 .*Read-only file system"):
            train(StubProgram(MLP, recipe()), run_dir=tmp_path / "disk", data=digits(), progress="none")

    def test_a_run_to_go_on_with(self, tmp_path: Path) -> None:
        """Nothing is trained that could not be saved."""
        disk = tmp_path / "disk"
        train(StubProgram(MLP, recipe()), run_dir=tmp_path / "run", data=digits(), progress="none")
        with mounted(disk, "size=4m"):
            shutil.copytree(tmp_path / "run", disk / "run")
            subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
            longer = StubProgram(MLP, recipe(length=Duration(epochs=5)))
            with pytest.raises(RunError, match=r"NS901 .*Read-only file system"):
                train(longer, resume=disk / "run", data=digits(), progress="none")


def test_a_folder_that_is_removed_while_the_run_goes_on(tmp_path: Path) -> None:
    program, said = StubProgram(MLP, recipe(checkpoint=EACH)), []
    data = calling(30, lambda: (tmp_path / "run").rename(tmp_path / "gone"))
    train(program, run_dir=tmp_path / "run", data=data, progress="none", say=said.append)
    assert any("was removed while the run goes on, and has been written again" in line for line in said)
    train(program, run_dir=tmp_path / "whole", data=digits(), progress="none")
    assert_same(tmp_path / "whole", tmp_path / "run")
    train(program, resume=tmp_path / "run", data=digits(), progress="none")


def test_nothing_goes_through_the_folder_for_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "absent"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "absent"))
    run = train(StubProgram(MLP, recipe()), run_dir=tmp_path / "run", data=digits(), progress="none")
    assert run.status == "finished" and not (tmp_path / "absent").exists()


def test_a_second_interrupt_ends_at_once(tmp_path: Path) -> None:
    """A second one within half a second is the first one passed on; a later one is the person's."""

    def twice() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.6)
        os.kill(os.getpid(), signal.SIGINT)
        pytest.fail("still running")

    program, before = StubProgram(MLP, recipe(checkpoint=EACH)), signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(program, run_dir=tmp_path / "run", data=calling(25, twice), progress="none")
    assert signal.getsignal(signal.SIGINT) is before
    train(program, resume=tmp_path / "run", data=digits(), progress="none")
    train(program, run_dir=tmp_path / "whole", data=digits(), progress="none")
    assert_same(tmp_path / "whole", tmp_path / "run")


COUNTER = MLP.replace(
    "        self.fc1 =", '        self.register_buffer("seen", torch.zeros(()), persistent=False)\n        self.fc1 ='
).replace(
    "        x = self.relu(",
    "        if self.training:\n            self.seen += 1\n"
    "        image = image * (1 + self.seen / 100)\n        x = self.relu(",
)


def test_a_buffer_outside_the_state_dict_that_forward_writes(tmp_path: Path) -> None:
    program = StubProgram(COUNTER, recipe(checkpoint=Checkpoint(every=Duration(steps=7))))
    train(program, run_dir=tmp_path / "whole", data=digits(), progress="none")
    assert in_child(lambda: start_or_resume(program, tmp_path / "killed", deadly(33))) == -signal.SIGKILL
    start_or_resume(program, tmp_path / "killed", digits())
    assert_same(tmp_path / "whole", tmp_path / "killed")
    assert checkpoint.load(tmp_path / "whole" / "checkpoints" / "step-60").state["buffers"] == {
        "seen": torch.tensor(60.0)
    }


class TestNotFinite:
    def spoiled(self, *batches: int) -> TensorData:
        """The digits, with a NaN in the first sample of those batches of the first epoch."""
        data = digits()
        stream = data.splits["train"]
        order = torch.randperm(stream.size, generator=torch.Generator().manual_seed(stream.seed * 1000003))
        for number in batches:
            stream.fields["image"][order[number * stream.batch_size], 0, 3, 3] = float("nan")
        return data

    @pytest.mark.parametrize("settings", [{}, {"precision": "fp16"}, {"precision": "fp16", "accumulate": 2}])
    def test_a_bad_batch_is_skipped_whole(self, settings: dict[str, Any], tmp_path: Path) -> None:
        """The weights and the running means are as if the batch had not been there."""
        program = StubProgram(MLP, recipe(length=Duration(epochs=1), **settings))
        run = train(program, run_dir=tmp_path / "run", data=self.spoiled(3, 4), progress="none")
        assert run.history[0]["withheld"] == 2 and run.history[0]["val.loss"] < 2.5
        found = checkpoint.newest(tmp_path / "run" / "checkpoints", pytest.fail)
        assert found is not None and found.stored.finite

    def test_gradients_that_the_scaler_withholds_are_no_fault(self, tmp_path: Path) -> None:
        """In search of its factor it meets infinite ones, and running means go on from the batches that gave them."""
        steep = (replace(recipe().losses[0], factor=1e4),)
        program = StubProgram(MLP, recipe(length=Duration(epochs=1), precision="fp16", losses=steep))
        run = train(program, run_dir=tmp_path / "run", data=digits(), progress="none")
        state = checkpoint.load(tmp_path / "run" / "checkpoints" / "step-20")
        assert state.state["scaler"]["scale"] < 65536 and run.history[0]["withheld"] == 0
        assert state.model["bn1.num_batches_tracked"] == 20

    def test_a_checkpoint_between_two_looks_is_gone_on_from_exactly(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Where the answer stays on the device, running means are put back with the log, and with each checkpoint."""

        def deferred(optimizer: Any, device: Any, scaler: Any, **settings: Any) -> Guard:
            return Guard(optimizer, device, deferred=True, **{"withheld": 0, "step": 0, **settings})

        monkeypatch.setattr("netspec.runtime.prepare.make_guard", deferred)
        stepped = Checkpoint(every=Duration(steps=4), keep=9)
        program = StubProgram(MLP, recipe(length=Duration(epochs=1), checkpoint=stepped, log_every=7))
        train(program, run_dir=tmp_path / "whole", data=self.spoiled(7, 10), progress="none")

        kept = checkpoint.stored(tmp_path / "whole" / "checkpoints")
        assert [one.step for one in kept] == [4, 8, 12, 16, 20] and all(one.finite for one in kept)

        class Dying(TensorStream):
            def batches(self, epoch: int, start: int = 0) -> Iterator[dict[str, Tensor]]:
                for index, batch in enumerate(super().batches(epoch, start), start):
                    if index == 9:
                        time.sleep(1.0)  # the checkpoint of step 8 is written in the background
                        os.kill(os.getpid(), signal.SIGKILL)
                    yield batch

        data = self.spoiled(7, 10)
        data.splits["train"] = Dying(**vars(data.splits["train"]))
        assert in_child(lambda: start_or_resume(program, tmp_path / "killed", data)) == -signal.SIGKILL
        assert checkpoint.stored(tmp_path / "killed" / "checkpoints")[-1].step == 8
        start_or_resume(program, tmp_path / "killed", self.spoiled(7, 10))
        assert_same(tmp_path / "whole", tmp_path / "killed")

    @pytest.mark.parametrize("precision", ["fp32", "fp16"])
    def test_the_limit_is_the_specs(self, precision: Any, tmp_path: Path) -> None:
        program = StubProgram(MLP, recipe(withheld_limit=1, precision=precision))
        with pytest.raises(
            RunError,
            match=r"NS902 1 update was withheld: .* at epoch 1, batch 4 of 20: the field `image` of the batch itself",
        ):
            train(program, run_dir=tmp_path / "run", data=self.spoiled(3, 4), progress="none")
        summary = json.loads((tmp_path / "run" / "summary.json").read_text())
        assert summary["status"] == "failed"


SPEC = """\
netspec: 1
name: images
model:
  inputs: {image: [N, 3, 16, 16]}
  layers:
    conv: {type: Conv2d, out_channels: 4, kernel_size: 3}
    relu: ReLU
    drop: {type: Dropout, p: 0.2}
    flat: {type: flatten, start_dim: 1}
    head: {type: Linear, out_features: 2}
data:
  source: {type: ImageFolder, root: images}
  split: {train: 0.8, val: 0.2, seed: 0}
  transforms: [ToImage, RandomHorizontalFlip, {type: ToDtype, dtype: float32, scale: true}]
  batch_size: 4
  workers: 2
  cache: false
train:
  epochs: EPOCHS
  device: cpu
  tensorboard: false
  loss: CrossEntropyLoss
  optimizer: {type: SGD, lr: 0.1, momentum: 0.9}
  checkpoint: {every: {epochs: 1}}
"""


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "netspec", "train", *arguments, "--progress", "plain"]


@pytest.mark.parametrize(
    "number,code", [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.long)]
)
def test_a_signal_to_the_whole_group_with_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, code: int
) -> None:
    """A terminal and a batch system send it to the workers as well, which go on until their parent has saved."""
    from data_support import image_folder

    image_folder(tmp_path / "images", {"cat": 20, "dog": 20}, (16, 16))
    (tmp_path / "spec.yaml").write_text(SPEC.replace("EPOCHS", "500"))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent)}
    options: dict[str, Any] = {"cwd": tmp_path, "env": environment, "text": True}
    child = subprocess.Popen(
        command("spec.yaml", "--run-dir", "run"),
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        **options,
    )
    try:
        waited = time.monotonic() + 60
        while not list(tmp_path.glob("run/checkpoints/step-*/manifest.json")) and time.monotonic() < waited:
            time.sleep(0.05)
        os.killpg(child.pid, number)
        said, _ = child.communicate(timeout=60)
    finally:
        child.kill()
    assert child.returncode == code, said
    assert "saved; go on with: netspec train --resume run" in said and "Traceback" not in said
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["status"] == "interrupted"
    monkeypatch.chdir(tmp_path)
    for arguments in (["--resume", "run"], ["spec.yaml", "--run-dir", "whole"]):
        length = f"train.epochs={summary['epochs'] + 1}"
        assert main(["train", *arguments, "--progress", "none", "--set", length]) == 0
    assert_same(tmp_path / "whole", tmp_path / "run")
