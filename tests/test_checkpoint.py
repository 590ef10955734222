"""Checkpoints: written whole or not at all, checked when read, the right ones kept."""

from __future__ import annotations

import json
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_resume import assert_same, in_child
from training_support import MLP, StubProgram, digits, recipe

from netspec.recipe.train import Checkpoint, Duration, Optimizer
from netspec.runtime import checkpoint
from netspec.runtime.errors import RunError
from netspec.runtime.run import train
from netspec.runtime.state import pack, unpack


@pytest.fixture(autouse=True)
def no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than these runs; test_train.py looks at the picture."""
    monkeypatch.setattr("netspec.runtime.run.draw_curves", lambda *_: None)


LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
TENSORS = st.lists(st.floats(allow_nan=False, width=32), max_size=4).map(torch.tensor)
TREES = st.recursive(
    LEAVES | TENSORS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text() | st.integers(), inner, max_size=3)
    ),
    max_leaves=12,
)


def same(a: Any, b: Any) -> bool:
    """Equal with equal types all the way down."""
    if type(a) is not type(b):
        return False
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


@given(TREES)
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_any_state_comes_back_as_it_was(tree: Any) -> None:
    value, tensors = pack(tree)
    assert same(unpack(json.loads(json.dumps(value)), tensors), tree)


def test_what_can_not_be_stored_is_refused() -> None:
    with pytest.raises(TypeError, match=r"a\.b: a checkpoint can't hold a set"):
        pack({"a": {"b": {1}}})


def taken(step: int, *, figure: float | None = None, bad: bool = False) -> checkpoint.Snapshot:
    weight = torch.full((3,), float("nan") if bad else float(step))
    return checkpoint.Snapshot(
        step=step, epoch=step, model={"w": weight}, state={"counter": step, "momentum": weight}, figure=figure
    )


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_is_written_can_be_read(tmp_path: Path) -> None:
    path = checkpoint.write(tmp_path, taken(7, figure=0.5), "netspec: 1\n")
    loaded = checkpoint.load(path)
    assert torch.equal(loaded.model["w"], torch.full((3,), 7.0))
    assert loaded.state["counter"] == 7
    assert (loaded.stored.step, loaded.stored.figure, loaded.stored.finite) == (7, 0.5, True)
    assert (path / "resolved.yaml").read_text() == "netspec: 1\n"
    assert not [file for file in path.iterdir() if file.suffix in (".pt", ".pkl")]


@pytest.mark.parametrize(
    "name", ["model.safetensors", "state.safetensors", "state.json", "resolved.yaml", "manifest.json"]
)
def test_every_flipped_bit_is_noticed(tmp_path: Path, name: str) -> None:
    """Any byte of any file, and what is read then is the checkpoint before."""
    checkpoint.write(tmp_path, taken(1), "netspec: 1\n")
    path = checkpoint.write(tmp_path, taken(2), "netspec: 1\n")
    content = (path / name).read_bytes()
    draw = random.Random(0)
    for place in {draw.randrange(len(content)) for _ in range(30)}:
        damaged = bytearray(content)
        damaged[place] ^= 1 << draw.randrange(8)
        (path / name).write_bytes(bytes(damaged))
        with pytest.raises(RunError, match="NS903"):
            checkpoint.load(path)
    said: list[str] = []
    found = checkpoint.newest(tmp_path, said.append)
    assert found is not None and found.stored.step == 1
    assert len(said) == 1 and name in said[0]
    assert "step-2 is damaged" in said[0] and said[0].endswith("kept as step-2.damaged; going on from step-1")
    assert names(tmp_path) == ["step-1", "step-2.damaged"]


@pytest.mark.parametrize("name", ["model.safetensors", "state.json", "manifest.json"])
def test_a_missing_or_short_file_is_noticed(tmp_path: Path, name: str) -> None:
    path = checkpoint.write(tmp_path, taken(1), "")
    content = (path / name).read_bytes()
    (path / name).write_bytes(content[:-3])
    with pytest.raises(RunError, match="NS903"):
        checkpoint.load(path)
    (path / name).unlink()
    with pytest.raises(RunError, match="NS903"):
        checkpoint.load(path)
    with pytest.raises(RunError, match="no checkpoint of this run is whole"):
        checkpoint.newest(tmp_path, lambda _: None)


def test_no_checkpoint_yet_is_no_mistake(tmp_path: Path) -> None:
    assert checkpoint.newest(tmp_path / "checkpoints", print) is None


class TestRotation:
    def test_keeps_the_newest_and_the_best(self, tmp_path: Path) -> None:
        for step, figure in enumerate([0.5, 0.9, 0.7, 0.9, 0.8, 0.6], 1):
            checkpoint.write(tmp_path, taken(step, figure=figure), "")
            checkpoint.rotate(tmp_path, keep=2, mode="max")
        assert names(tmp_path) == ["step-2", "step-5", "step-6"]
        best = checkpoint.best(checkpoint.stored(tmp_path), "max")
        assert best is not None and best.step == 2

    def test_steps_are_numbers(self, tmp_path: Path) -> None:
        for step in (9, 10, 100):
            checkpoint.write(tmp_path, taken(step), "")
        checkpoint.rotate(tmp_path, keep=2, mode="min")
        assert names(tmp_path) == ["step-10", "step-100"]

    def test_weights_that_are_not_finite_push_nothing_out(self, tmp_path: Path) -> None:
        for step, bad in enumerate([False, False, True, True, True], 1):
            checkpoint.write(tmp_path, taken(step, bad=bad), "")
            checkpoint.rotate(tmp_path, keep=2, mode="min")
        assert names(tmp_path) == ["step-1", "step-2", "step-5"]

    def test_a_figure_that_is_not_a_number_is_never_the_best(self, tmp_path: Path) -> None:
        for step, figure in enumerate([0.5, float("nan")], 1):
            checkpoint.write(tmp_path, taken(step, figure=figure), "")
        for mode in ("min", "max"):
            best = checkpoint.best(checkpoint.stored(tmp_path), mode)
            assert best is not None and best.step == 1


class Killer:
    """Replaces a function of `os` or `pathlib` with one that kills the process at its n-th call."""

    def __init__(self, real: Callable[..., Any], at: int) -> None:
        self.real, self.left = real, at

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self.left -= 1
        return self.real(*args, **kwargs)


@pytest.mark.parametrize("function", ["fsync", "rename", "mkdir", "open", "rmdir", "unlink"])
def test_killed_at_every_step_of_the_protocol(tmp_path: Path, function: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever call of the third save is the last: a whole checkpoint is there, and the next save goes through."""
    calls = 0
    while True:
        folder = tmp_path / f"{function}-{calls}"
        for step in (1, 2):
            checkpoint.write(folder, taken(step), "")

        def save(folder: Path = folder, at: int = calls) -> None:
            setattr(os, function, Killer(getattr(os, function), at))
            checkpoint.write(folder, taken(3), "")
            checkpoint.rotate(folder, keep=2, mode="min")

        status = in_child(save)
        found = checkpoint.newest(folder, lambda text: pytest.fail(text))
        assert found is not None and found.stored.step in (2, 3)
        assert torch.equal(found.model["w"], torch.full((3,), float(found.stored.step)))
        checkpoint.recover(folder)
        checkpoint.write(folder, taken(3), "")
        checkpoint.rotate(folder, keep=2, mode="min")
        assert names(folder) == ["step-2", "step-3"]
        if status == 0:
            break
        assert status == -signal.SIGKILL
        calls += 1
    assert calls > 0, f"os.{function} is never called: the test tests nothing"


def test_a_run_goes_on_from_the_one_before_a_damaged_checkpoint(tmp_path: Path) -> None:
    program = StubProgram(MLP, recipe(checkpoint=Checkpoint(every=Duration(epochs=1))))
    train(program, run_dir=tmp_path / "whole", data=digits(), progress="none")
    train(StubProgram(MLP, recipe(length=Duration(epochs=2))), run_dir=tmp_path / "run", data=digits(), progress="none")
    weights = tmp_path / "run" / "checkpoints" / "step-40" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    said: list[str] = []
    train(program, resume=tmp_path / "run", data=digits(), progress="none", say=said.append)
    assert said == [
        "the checkpoint step-40 is damaged: model.safetensors is not what was written; "
        "kept as step-40.damaged; going on from step-20"
    ]
    assert_same(tmp_path / "whole", tmp_path / "run")


def test_killed_while_the_only_checkpoint_is_replaced(tmp_path: Path) -> None:
    """The end of an epoch writes the step anew, with its figures: in between neither may be lost."""
    calls = 0
    while True:
        folder = tmp_path / str(calls)
        checkpoint.write(folder, taken(1), "")

        def save(folder: Path = folder, at: int = calls) -> None:
            os.rename = Killer(os.rename, at)
            checkpoint.write(folder, taken(1, figure=0.5), "")

        status = in_child(save)
        checkpoint.recover(folder)
        found = checkpoint.newest(folder, lambda text: pytest.fail(text))
        assert found is not None and found.stored.figure in (None, 0.5) and names(folder) == ["step-1"]
        if status == 0:
            break
        calls += 1
    assert calls == 2


def test_the_best_is_what_is_reported_and_kept(tmp_path: Path) -> None:
    """The best epoch's weights stay, though it lies before the two newest, and the results are theirs."""
    rule = Checkpoint(every=Duration(epochs=1), monitor="val.accuracy", mode="max")
    rate = Optimizer(type="AdamW", target="torch.optim.AdamW", arguments={"lr": 0.1})
    program = StubProgram(MLP, recipe(length=Duration(epochs=8), checkpoint=rule, optimizer=rate))
    run = train(program, run_dir=tmp_path / "run", data=digits(), progress="none")
    accuracies = [row["val.accuracy"] for row in run.history]
    best = accuracies.index(max(accuracies))
    assert best < 6, "choose another seed: the best epoch is one of the newest, and the test shows nothing"
    assert run.checkpoint == tmp_path / "run" / "checkpoints" / f"step-{20 * (best + 1)}"
    assert run.results["val"]["accuracy"] == max(accuracies)
    assert names(tmp_path / "run" / "checkpoints") == sorted([run.checkpoint.name, "step-140", "step-160"])
