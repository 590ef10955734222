"""Accumulation, clipping, precision and length together, against a loop as one writes it: the same bits."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from test_train_torch import BATCHES, assert_equal, batches, by_netspec, document
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import netspec
from netspec.program import Program

EPOCHS, STEPS = 2, 7
CLIPS: dict[str, Any] = {"none": None, "norm": 0.5, "value": {"value": 0.01}}
CASES = list(itertools.product(("fp32", "bf16", "fp16"), (1, 4), CLIPS, ("epochs", "steps")))
"""Six batches an epoch: with four to an update, the last update of an epoch has two."""
QUICK = {
    ("fp32", 4, "norm", "epochs"),
    ("fp32", 4, "value", "steps"),
    ("fp16", 4, "norm", "steps"),
    ("bf16", 1, "value", "epochs"),
}


@pytest.fixture(autouse=True)
def no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("netspec.runtime.run.draw_curves", lambda *_: None, raising=False)


def by_hand(program: Program, precision: str, accumulate: int, clip: Any, length: str) -> dict[str, Tensor]:
    model, criterion = program.module(seed=0).train(), nn.CrossEntropyLoss()
    parameters = list(model.parameters())
    optimizer = torch.optim.SGD(parameters, lr=0.1, momentum=0.9)
    schedule = CosineAnnealingLR(optimizer, 20)
    scaler = torch.amp.GradScaler("cpu", enabled=precision == "fp16")
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.8))
    steps = 0
    for epoch in batches(program, 4):
        for start in range(0, len(epoch), accumulate):
            share = epoch[start : start + accumulate]
            optimizer.zero_grad()
            for batch in share:
                with torch.autocast(
                    "cpu", torch.float16 if precision == "fp16" else torch.bfloat16, enabled=precision != "fp32"
                ):
                    loss = criterion(model(batch["image"]), batch["label"])
                scaler.scale(loss / len(share) if len(share) > 1 else loss).backward()
            scaler.unscale_(optimizer)
            if clip == "norm":
                nn.utils.clip_grad_norm_(parameters, 0.5)
            if clip == "value":
                nn.utils.clip_grad_value_(parameters, 0.01)
            scaler.step(optimizer)
            scaler.update()
            average.update_parameters(model)
            schedule.step()
            steps += 1
            if length == "steps" and steps == STEPS:
                return average.module.state_dict()
        if length == "epochs" and steps == EPOCHS * -(-BATCHES // accumulate):
            return average.module.state_dict()
    raise AssertionError("there were too few batches")


@pytest.mark.parametrize(
    ("precision", "accumulate", "clip", "length"),
    [case if case in QUICK else pytest.param(*case, marks=pytest.mark.long) for case in CASES],
)
def test_a_run_is_the_loop(precision: str, accumulate: int, clip: str, length: str, tmp_path: Path) -> None:
    """With a schedule that steps with each update, and an average."""
    spec = document(
        optimizer={"type": "SGD", "lr": 0.1, "momentum": 0.9, "fused": False},
        scheduler={"type": "CosineAnnealingLR", "T_max": 20, "interval": "step"},
        precision=precision,
        accumulate=accumulate,
        ema=0.8,
        **({"clip_grad": CLIPS[clip]} if clip != "none" else {}),
    )
    spec["model"] = {**spec["model"], "outputs": {"output": "3"}}
    del spec["train"]["steps"]
    spec["train"][length] = {"epochs": EPOCHS, "steps": STEPS}[length]
    program = netspec.compile(spec)
    assert_equal(by_netspec(program, tmp_path / "run"), by_hand(program, precision, accumulate, clip, length))
