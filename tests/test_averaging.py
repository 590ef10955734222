"""The average of the weights: torch's `AveragedModel` over a loop by hand, in figures, checkpoints and `eval`."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from test_train_torch import STEPS, assert_equal, batches, compiled
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from netspec.runtime import checkpoint
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
