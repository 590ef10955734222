"""A small network that learns from what a larger one says: by the spec, by hand, and beside one that learns alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import netspec
from netspec.runtime import checkpoint
from netspec.runtime.data import open_data

SPECS = Path(__file__).resolve().parent.parent / "specs"
QUIET: dict[str, Any] = {"train.device": "cpu", "train.tensorboard": False, "train.threads": 1}
SPLIT = {"data.split.train": 0.3, "data.split.test": 0.6}


@pytest.fixture(autouse=True)
def no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    for what in ("netspec.runtime.run.draw_curves", "netspec.runtime.run.leave_report"):
        monkeypatch.setattr(what, lambda *_: None, raising=False)


def teacher(folder: Path, epochs: int) -> Path:
    program = netspec.compile(SPECS / "digits.yaml", {**QUIET, **SPLIT, "train.epochs": epochs})
    netspec.train(program, run_dir=folder, progress="none")
    return folder


def test_a_loop_by_hand_gives_the_same_bits(tmp_path: Path) -> None:
    taught = teacher(tmp_path / "teacher", 1)
    settings = {"train.weights.from": str(taught), "train.epochs": 1, "train.optimizer.fused": False}
    program = netspec.compile(SPECS / "distillation.yaml", {**QUIET, **settings})
    netspec.train(program, run_dir=tmp_path / "run", progress="none")
    found = checkpoint.load(checkpoint.stored(tmp_path / "run" / "checkpoints")[-1].path).model

    model = program.module(seed=0)
    model.teacher.load_state_dict(checkpoint.load(checkpoint.stored(taught / "checkpoints")[-1].path).model)
    model.teacher.requires_grad_(False).eval()
    optimizer = torch.optim.AdamW(model.student.parameters(), lr=5e-3)
    data = open_data(program.recipe.data, seed=0, device=torch.device("cpu"), splits=["train"])
    for batch in data.splits["train"].batches(0):
        with torch.no_grad():
            wanted = (model.teacher(batch["image"]) / 4.0).softmax(1)
        logits = model.student(batch["image"])
        told = nn.KLDivLoss(reduction="batchmean")((logits / 4.0).log_softmax(1), wanted)
        loss = (0.9 * 4.0**2) * told + (1 - 0.9) * nn.CrossEntropyLoss()(logits, batch["label"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    state = model.state_dict()
    assert found.keys() == state.keys()
    for name, value in state.items():
        assert torch.equal(found[name], value), name


@pytest.mark.long
def test_the_taught_one_beats_the_one_that_learns_alone(tmp_path: Path) -> None:
    """Over three seeds: 0.953 on average against 0.946, of 1,078 digits, with a teacher of 0.987."""
    taught = teacher(tmp_path / "teacher", 60)
    mean = {}
    for share in (0.0, 0.9):
        accuracies = []
        for seed in range(3):
            settings = {"train.weights.from": str(taught), "params.share": share, "train.seed": seed}
            program = netspec.compile(SPECS / "distillation.yaml", {**QUIET, **settings})
            run = netspec.train(program, run_dir=tmp_path / f"{share}-{seed}", progress="none")
            accuracies.append(run.results["test"]["accuracy"])
        mean[share] = sum(accuracies) / len(accuracies)
    assert mean[0.9] > mean[0.0] + 0.003, mean
