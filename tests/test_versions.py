"""What depends on the installed torch, and what only a GPU needs but a CPU can tell."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.data._utils.pin_memory import pin_memory

import netspec
from netspec.catalog import versions
from netspec.recipe.train import Optimizer
from netspec.runtime import optimizers
from netspec.runtime.data.batches import Made
from netspec.runtime.data.seeds import reseed


def test_an_argument_that_came_later_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "installed", lambda library: "2.11.0+cpu")
    optimizer = {"type": "LBFGS", "lr": 0.1, "maximize": True}
    spec = {
        "netspec": 1,
        "name": "net",
        "model": {"inputs": {"x": ["N", 4]}, "layers": [{"type": "Linear", "out_features": 2}]},
        "train": {"loss": "CrossEntropyLoss", "optimizer": optimizer, "epochs": 1},
    }
    with pytest.raises(netspec.SpecError, match=r"LBFGS of torch 2\.11\.0 has no argument `maximize`"):
        netspec.compile(spec)
    del optimizer["maximize"]
    netspec.compile(spec)


def test_an_optimizer_without_a_kernel_for_the_device_is_not_fused(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch refuses in the first step what a signature allows: here all devices but those that it knows."""
    monkeypatch.setattr(optimizers, "FUSED_DEVICES", ("cpu", "meta"))
    recipe = Optimizer(type="Adagrad", target="torch.optim.Adagrad", arguments={"lr": 0.1})
    assert optimizers.can_fuse(recipe, nn.Linear(2, 2).parameters())
    assert not optimizers.can_fuse(recipe, nn.Linear(2, 2, device="meta").parameters())


def test_what_workers_make_is_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: self + 1)
    made = pin_memory(Made({"image": torch.zeros(2)}, {"a.png": "cut off"}))
    assert made.batch["image"].tolist() == [1, 1] and made.left_out == {"a.png": "cut off"}


def test_the_generator_that_is_seeded_is_that_of_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    generators = [torch.Generator(), torch.Generator()]
    monkeypatch.setattr(torch.cuda, "default_generators", generators)
    reseed(7, torch.device("cuda", 1))
    assert [one.initial_seed() == 7 for one in generators] == [False, True]
