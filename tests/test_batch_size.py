"""`batch_size: auto`: what is found, why, and that a run with it is the run with the number."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_resume import assert_same

import netspec
from netspec.costs import memory
from netspec.program import Program
from netspec.runtime import batch_size
from netspec.runtime.batch_size import Trial, largest, tiled
from netspec.runtime.errors import RunError

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("netspec.runtime.run.draw_curves", lambda *_: None, raising=False)


def program(size: Any = "auto", **settings: Any) -> Program:
    return netspec.compile(
        {
            "netspec": 1,
            "name": "small",
            "model": {
                "inputs": {"image": ["N", 1, 8, 8]},
                "layers": [
                    {"type": "Conv2d", "out_channels": 8, "kernel_size": 3},
                    "BatchNorm2d",
                    "ReLU",
                    {"type": "Dropout", "p": 0.2},
                    "Flatten",
                    {"type": "Linear", "out_features": 10},
                ],
                "outputs": {"scores": "5"},
            },
            "data": {"source": "Digits", "split": {"train": 0.5, "val": 0.1, "test": 0.4}, "batch_size": size},
            "train": {
                "epochs": 2,
                "loss": {"type": "CrossEntropyLoss", "from": ["scores", "label"]},
                "optimizer": "AdamW",
                "device": "cpu",
                "threads": 1,
                "tensorboard": False,
                **settings,
            },
        }
    )


@given(limit=st.integers(0, 5000), cap=st.integers(1, 5000))
def test_the_largest_that_fits(limit: int, cap: int) -> None:
    asked: list[int] = []

    def fits(size: int) -> bool:
        asked.append(size)
        return size <= limit

    size, failed = largest(fits, cap)
    assert len(asked) == len(set(asked)) <= 18 and all(1 <= one <= cap for one in asked)
    assert size <= min(limit, cap)
    if failed is None:
        assert size == cap
    else:
        assert failed > limit
        assert size > 0 or limit == 0
        assert size < 4 or min(limit, cap) < 1.34 * size, "nearer than a third"


def train(spec: Program, folder: Path, **where: Any) -> tuple[netspec.Run, list[str]]:
    said: list[str] = []
    where = where or {"run_dir": folder}
    return netspec.train(spec, **where, progress="plain", say=said.append), said


def room_for(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Give a CPU the memory of which half is what a batch of that size takes."""
    monkeypatch.setattr(batch_size, "free_bytes", lambda device: 2 * (memory(program(), size).training or 0))


def test_a_run_is_that_of_the_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every bit, and the spec that is kept; a resumed run stays with its number, whatever there is room for now."""
    room_for(monkeypatch, 100)
    _, said = train(program(), tmp_path / "auto")
    assert said[0] == (
        "`batch_size: auto` is 96: 112 was worked out not to fit into half of what cpu has free; "
        "rates stay as the spec has them"
    )
    _, plain = train(program(96), tmp_path / "number")
    assert "auto" not in plain[0]
    assert_same(tmp_path / "auto", tmp_path / "number")
    texts = [(tmp_path / name / "resolved.yaml").read_text() for name in ("auto", "number")]
    assert texts[0] == texts[1] and "batch_size: 96" in texts[0]
    room_for(monkeypatch, 30)
    for spec, name in ((program(epochs=3), "auto"), (program(96, epochs=3), "number")):
        done, said = train(spec, tmp_path, resume=tmp_path / name)
        assert done.epochs == 3 and not any("batch_size" in line for line in said)
    assert_same(tmp_path / "auto", tmp_path / "number")


@pytest.mark.parametrize(
    ("size", "found", "why"),
    [
        ("auto", 512, "the largest power of two that the 899 training samples fill"),
        ({"max": 48}, 48, "`max` is 48"),
        ({"max": 5000}, 512, "the largest power of two that the 899 training samples fill"),
    ],
)
def test_caps(size: Any, found: int, why: str) -> None:
    spec = program(size)
    assert batch_size.chosen(spec, CPU, spec.recipe.data.auto) == (found, why)


def test_what_is_worked_out_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = program()
    room_for(monkeypatch, 77)
    found, _ = batch_size.chosen(spec, CPU, spec.recipe.data.auto)
    needed = memory(spec, 77).training or 0
    assert (memory(spec, found).training or 0) <= needed < (memory(spec, found + 16).training or 0)


def trial(spec: Program) -> Trial:
    example = {"image": torch.rand(2, 1, 8, 8), "label": torch.tensor([1, 2])}
    return Trial(spec, CPU, example, 899)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"precision": "fp16", "ema": 0.9, "freeze": "0.*", "unfreeze": {"0.*": {"epochs": 1}}},
        {"optimizer": "LBFGS", "channels_last": True},
    ],
    ids=["adamw", "fp16-ema-frozen", "lbfgs"],
)
def test_whole_steps_are_tried(settings: dict[str, Any]) -> None:
    """Forward, backward and update, on a model of their own."""
    spec = program(**settings)
    tried = trial(spec)
    model = tried.objective.model
    before = [parameter.clone() for parameter in model.parameters()]
    assert tried(12)
    assert all(not torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True))
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("tried to allocate"), RuntimeError("CUDNN_STATUS: out of memory")]
)
def test_a_device_that_is_full(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a GPU answers: the search goes on below, and frees what was taken."""
    spec = program()
    original: Callable[[Trial, int], None] = Trial._step

    def step(self: Trial, size: int) -> None:
        original(self, min(size, 4))
        if size > 200:
            raise error

    monkeypatch.setattr(Trial, "_step", step)
    monkeypatch.setattr(batch_size, "_estimate", lambda spec, _: trial(spec))
    found, why = batch_size.chosen(spec, CPU, spec.recipe.data.auto)
    assert found == 192 and why.startswith("224 was")
    monkeypatch.setattr(Trial, "_peak", lambda self: self.room + 1)
    with pytest.raises(RunError, match="NS919 a training step of one sample does not fit into the memory that cpu"):
        batch_size.chosen(spec, CPU, spec.recipe.data.auto)


def test_another_mistake_is_none_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def step(self: Trial, size: int) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(Trial, "_step", step)
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        trial(program())(8)


def test_tiled() -> None:
    assert tiled({"x": torch.tensor([3, 4])}, 5)["x"].tolist() == [3, 4, 3, 4, 3]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="what fits is tried on a GPU")
def test_on_a_gpu(tmp_path: Path) -> None:
    _, said = train(program(device="cuda"), tmp_path / "run")
    assert "is 512: the largest power of two" in said[0]
