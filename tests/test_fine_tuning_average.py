"""Freezing, unfreezing on a schedule, rates of groups and an average of the weights, together as in torch."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from test_fine_tuning import changed, run, spec, weights_at
from test_resume import assert_same, in_child
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import netspec
from netspec.runtime import checkpoint
from netspec.runtime.data import open_data
from netspec.runtime.data.streams import Stream
from netspec.runtime.run import train

STEPS = 12
"""Two epochs of six."""
SETTINGS: dict[str, Any] = {
    "freeze": ["body.*", "neck.*"],
    "unfreeze": {"neck.*": {"epochs": 1}, "body.*": {"steps": 9}},
    "ema": {"decay": 0.8, "use_buffers": True},
    "epochs": 2,
    "optimizer": {
        "type": "AdamW",
        "lr": 0.01,
        "fused": False,
        "groups": [{"match": ["body.*", "neck.*"], "lr": 0.001}, {"match": ["*.bias"], "weight_decay": 0.0}],
    },
}


def batches(program: netspec.Program) -> list[dict[str, Tensor]]:
    data = open_data(program.recipe.data, seed=0, device=torch.device("cpu"), splits=["train"])
    return [batch for epoch in range(2) for batch in data.splits["train"].batches(epoch)]


def freeze(model: nn.Module, steps: int) -> None:
    """By hand, as torch's tutorials do: no gradients, and evaluation mode for what is frozen whole."""
    model.train()
    for name, until in (("neck", 6), ("body", 9)):
        part = model.get_submodule(name)
        part.requires_grad_(steps >= until)
        part.train(steps >= until)


def test_a_loop_by_hand_gives_the_same_bits(tmp_path: Path) -> None:
    source = spec(**SETTINGS)
    folder = run(tmp_path / "run", source)
    program = netspec.compile(source)
    model, criterion = program.module(seed=0), nn.CrossEntropyLoss()
    named = dict(model.named_parameters())
    slow = ("body", "neck")
    groups = [
        {
            "params": [p for n, p in named.items() if n.startswith(slow) == low and n.endswith("bias") == bias],
            **({"lr": 0.001} if low else {}),
            **({"weight_decay": 0.0} if bias else {}),
        }
        for low in (True, False)
        for bias in (True, False)
    ]
    optimizer = torch.optim.AdamW(groups, lr=0.01)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.8), use_buffers=True)
    torch.manual_seed(0)
    program.module()
    for number, batch in enumerate(batches(program)):
        freeze(model, number)
        optimizer.zero_grad()
        criterion(model(batch["image"]), batch["label"]).backward()
        optimizer.step()
        average.update_parameters(model)
    kept = checkpoint.load(checkpoint.stored(folder / "checkpoints")[-1].path)
    for found, expected in ((kept.model, average.module), (kept.state["average"]["weights"], model)):
        state = expected.state_dict()
        assert found.keys() == state.keys()
        for name, value in state.items():
            assert torch.equal(found[name], value), name


def test_the_average_of_what_is_frozen_is_what_it_was(tmp_path: Path) -> None:
    source = spec(**{**SETTINGS, "unfreeze": {"neck.*": {"epochs": 1}}})
    folder = run(tmp_path / "run", source)
    start = netspec.compile(source).module(seed=0).state_dict()
    assert not any(name.startswith("body.") for name in changed(start, weights_at(folder)))
    assert {name for name in start if name.startswith("neck.")} <= changed(start, weights_at(folder))


@pytest.mark.parametrize("place", [5, 8, 10])
def test_killed_in_the_middle_of_the_schedule(tmp_path: Path, place: int) -> None:
    """Before, between and after the two parts are unfrozen."""
    program = netspec.compile(spec(**SETTINGS))
    train(program, run_dir=tmp_path / "whole", progress="none")

    def deadly() -> None:
        whole, left = Stream.batches, [place]

        def counted(self: Stream, epoch: int, start: int = 0) -> Iterator[dict[str, Tensor]]:
            for batch in whole(self, epoch, start):
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                left[0] -= 1
                yield batch

        Stream.batches = counted  # type: ignore[method-assign]
        train(program, run_dir=tmp_path / "killed", progress="none")

    assert in_child(deadly) == -signal.SIGKILL
    train(program, resume=tmp_path / "killed", progress="none")
    assert_same(tmp_path / "whole", tmp_path / "killed")
