"""Numbers that are not finite, from end to end: what the spec's layers gave them is named, and nothing good is lost."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from test_objective import NETWORK, document
from training_support import MLP, StubProgram, TensorData, digits, recipe

import netspec
from netspec.cli import main
from netspec.recipe.train import Checkpoint, Duration, Ema
from netspec.runtime import checkpoint
from netspec.runtime.errors import RunError
from netspec.runtime.run import train

ROOTS = {
    "inputs": {"image": ["N", 1, 8, 8]},
    "layers": {
        "flat": {"type": "flatten", "start_dim": 1},
        "fc1": {"type": "Linear", "out_features": 16},
        "rooted": "sqrt",
        "head": {"type": "Linear", "out_features": 10},
    },
}


@pytest.fixture(autouse=True)
def no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    for what in ("netspec.runtime.run.draw_curves", "netspec.runtime.run.leave_report"):
        monkeypatch.setattr(what, lambda *_: None, raising=False)


def spoiled(split: str, batch: int) -> TensorData:
    """The digits with a NaN in one batch of a split, the first sample of it."""
    data = digits()
    stream = data.splits[split]
    order = torch.arange(stream.size)
    if stream.shuffle:
        order = torch.randperm(stream.size, generator=torch.Generator().manual_seed(stream.seed * 1000003))
    stream.fields["image"][order[batch * stream.batch_size], 0, 3, 3] = float("nan")
    return data


def test_a_layer_without_a_module_is_named_with_its_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A root of negative numbers: in the message, and by the line of the spec."""
    import yaml

    file = tmp_path / "spec.yaml"
    file.write_text(yaml.safe_dump(document({"loss": "CrossEntropyLoss"}, ROOTS), sort_keys=False))
    assert main(["train", str(file), "--run-dir", str(tmp_path / "run"), "--progress", "none"]) == 3
    said = capsys.readouterr().err
    assert re.search(r"that is not finite|output that is not finite is that of `sqrt` \(model.py, line \d+\)", said), (
        said
    )
    assert "layer `rooted` (sqrt)" in said
    line = next(number for number, text in enumerate(file.read_text().splitlines(), 1) if "rooted" in text)
    assert f"spec.yaml:{line}:" in said


def test_a_layer_of_the_objective_is_named(tmp_path: Path) -> None:
    layers = {
        "logits": {"use": "model", "from": "image"},
        "logs": {"type": "log", "from": "logits"},
        "loss": {"type": "MSELoss", "from": ["logs", "logits"]},
    }
    program = netspec.compile(document({"layers": layers}, NETWORK))
    with pytest.raises(RunError, match="output that is not finite is that of the layer `logs`"):
        train(program, run_dir=tmp_path / "run", progress="none")


def test_a_mask_of_infinities_is_not_to_blame(tmp_path: Path) -> None:
    source = MLP.replace(
        "x = self.relu(self.bn1(self.fc1(image.flatten(1))))",
        "x = self.fc1(image.flatten(1)); x = x.masked_fill(x < 0, float('-inf')).softmax(1); x = (x - 2).log()",
    )
    with pytest.raises(RunError, match=r"is that of `log` \(model.py, line"):
        train(StubProgram(source, recipe()), run_dir=tmp_path / "run", data=digits(), progress="none")


@pytest.mark.parametrize("ema", [None, Ema(decay=0.9)])
def test_in_an_evaluation_the_batch_is_told_once(tmp_path: Path, ema: Ema | None) -> None:
    said: list[str] = []
    program = StubProgram(MLP, recipe(ema=ema))
    done = train(program, run_dir=tmp_path / "run", data=spoiled("val", 2), progress="none", say=said.append)
    told = [line for line in said if "not finite" in line]
    assert len(told) == 1, said
    assert "the loss of `val` after 20 steps is nan, from batch 3 of 5 on: the field `image` of the batch" in told[0]
    assert done.status == "finished" and done.results["test"]["loss"] < 2.5


def test_in_the_last_evaluation_as_well(tmp_path: Path) -> None:
    said: list[str] = []
    program = StubProgram(MLP, recipe(length=Duration(epochs=1)))
    train(program, run_dir=tmp_path / "run", data=spoiled("test", 1), progress="none", say=said.append)
    (told,) = [line for line in said if "not finite" in line]
    assert "the loss of `test` after 20 steps is nan, from batch 2 of 5 on: the field `image` of the batch" in told


def test_an_average_stays_finite(tmp_path: Path) -> None:
    """A batch that is withheld moves neither weights nor buffers, and so nothing bad into their average."""
    rule = Ema(decay=0.9, use_buffers=True)
    program = StubProgram(MLP, recipe(length=Duration(epochs=1), ema=rule))
    done = train(program, run_dir=tmp_path / "run", data=spoiled("train", 7), progress="none")
    assert done.history[0]["withheld"] == 1 and done.history[0]["val.loss"] < 2.5
    kept = checkpoint.load(checkpoint.stored(tmp_path / "run" / "checkpoints")[-1].path)
    assert all(value.isfinite().all() for value in kept.model.values())
    assert all(value.isfinite().all() for value in kept.state["average"]["weights"].values())


def test_in_fp16_a_batch_is_withheld_whole(tmp_path: Path) -> None:
    """The scaler withholds the weights; the running means are put back, and the limit holds."""
    program = StubProgram(MLP, recipe(length=Duration(epochs=1), precision="fp16"))
    done = train(program, run_dir=tmp_path / "run", data=spoiled("train", 7), progress="none")
    assert done.history[0]["withheld"] == 1
    kept = checkpoint.load(checkpoint.stored(tmp_path / "run" / "checkpoints")[-1].path)
    assert kept.stored.finite and all(value.isfinite().all() for value in kept.model.values())
    strict = StubProgram(MLP, recipe(precision="fp16", withheld_limit=1))
    with pytest.raises(RunError, match=r"NS902 1 update was withheld: .* epoch 1, batch 8 of 20: the field `image`"):
        train(strict, run_dir=tmp_path / "strict", data=spoiled("train", 7), progress="none")


def exploding(**changes: Any) -> netspec.Program:
    """A rate that throws the weights out of range with the thirteenth update, or with other changes none that does."""
    rate = {"type": "LambdaLR", "lr_lambda": "$(1e38 if epoch == 12 else 1)", "interval": "step"}
    often = {"every": {"steps": 1}}
    settings = {"optimizer": {"type": "SGD", "lr": 10.0}, "checkpoint": often, "epochs": 5, "scheduler": rate}
    made = document({"loss": "CrossEntropyLoss"}, NETWORK, **{**settings, **changes})
    made["train"] = {key: value for key, value in made["train"].items() if value is not None}
    return netspec.compile(made)


def test_bad_weights_push_no_good_checkpoint_out(tmp_path: Path) -> None:
    """The run stops; what went before is still there, and the run goes on from it with a smaller rate."""
    with pytest.raises(RunError, match=r"NS902 10 updates were withheld: .*: the weight `.*` is not finite"):
        train(exploding(), run_dir=tmp_path / "run", progress="none")
    found = checkpoint.stored(tmp_path / "run" / "checkpoints")
    good = [one for one in found if one.finite]
    assert [one.step for one in good] == [11, 12] and not found[-1].finite
    said: list[str] = []
    calm = exploding(scheduler={"type": "ConstantLR", "factor": 0.01, "total_iters": 1000})
    done = train(calm, resume=tmp_path / "run", progress="none", say=said.append)
    assert done.status == "finished" and done.results["test"]["loss"] == done.results["test"]["loss"]
    assert any("are not finite; kept as step-" in line and "going on from step-12" in line for line in said), said


def test_bad_weights_give_no_results(tmp_path: Path) -> None:
    """Thrown out of range shortly before its end, a run reports its last good weights."""
    said: list[str] = []
    often = {"every": {"steps": 1}, "keep": 9}
    program = exploding(epochs=None, steps=15, checkpoint=often)
    done = train(program, run_dir=tmp_path / "run", progress="none", say=said.append)
    assert done.checkpoint == tmp_path / "run" / "checkpoints" / "step-12" and done.results["val"]["loss"] < 1e9
    assert "the last weights are not finite: the results are those of step-12" in said


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_mask_among_the_buffers_is_no_bad_weight(tmp_path: Path, precision: Any) -> None:
    """A buffer of infinities, as of causal attention: the best and the newest are kept as ever."""
    line = '        self.register_buffer("mask", torch.full((3, 3), float("-inf")).triu(1))\n        self.fc1 ='
    source = MLP.replace("        self.fc1 =", line)
    rule = Checkpoint(every=Duration(epochs=1), keep=3)
    program = StubProgram(source, recipe(checkpoint=rule, length=Duration(epochs=4), precision=precision))
    done = train(program, run_dir=tmp_path / "run", data=digits(), progress="none")
    assert all(row["withheld"] == 0 for row in done.history)
    found = checkpoint.stored(tmp_path / "run" / "checkpoints")
    assert [one.step for one in found] == [40, 60, 80] and all(one.finite for one in found)
