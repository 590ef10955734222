"""Runs with cut weights: saved by all their processes, gone on with by any number of them, read by every verb."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from several_support import BLOCKS, TRAIN, assert_close, together, trained, write_spec
from test_checkpoint_damage import pretend_whole
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

import netspec
from netspec.cli import main
from netspec.recipe.train import Weights
from netspec.runtime import checkpoint, parts
from netspec.runtime.errors import RunError
from netspec.runtime.pieces import Source, part_names
from netspec.runtime.run import preload, train
from netspec.runtime.weights import load_weights

ADAM = TRAIN.replace("{type: SGD, lr: 0.1, momentum: 0.9}", "{type: AdamW, lr: 1e-2}") + "  distribute: fsdp\n"


@pytest.fixture(autouse=True)
def no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than these runs."""
    monkeypatch.setattr("netspec.runtime.run.draw_curves", lambda *_: None)
    monkeypatch.setattr("netspec.runtime.run.leave_report", lambda *_: None)


@pytest.fixture
def nothing_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """No process may ask for a whole tensor."""

    def asked(*_: Any, **__: Any) -> Any:
        raise AssertionError("a whole tensor was put together")

    monkeypatch.setattr(DTensor, "full_tensor", asked)


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_spec(tmp_path_factory.mktemp("spec"), model=BLOCKS, train=ADAM)


@pytest.fixture(scope="module")
def whole(spec: Path) -> Path:
    """A run of two processes that nothing has cut short."""
    preload()
    assert callable(fully_shard)  # imported here, so that the children need not
    folder = spec.parent / "whole"
    with pytest.MonkeyPatch.context() as patch:
        for name in ("draw_curves", "leave_report"):
            patch.setattr(f"netspec.runtime.run.{name}", lambda *_: None)
        assert trained(2, spec, folder) == [0, 0]
    return folder


def newest(folder: Path) -> checkpoint.Loaded:
    return checkpoint.load(checkpoint.stored(folder / "checkpoints")[-1].path)


def assert_same(one: Any, other: Any, path: str = "") -> None:
    """Bit for bit, all the way down, but for the time that it took."""
    assert type(one) is type(other), path
    if isinstance(one, dict):
        assert one.keys() == other.keys(), path
        for key in one:
            if key not in ("seconds", "samples_per_second"):
                assert_same(one[key], other[key], f"{path}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), path
        for index, (a, b) in enumerate(zip(one, other, strict=True)):
            assert_same(a, b, f"{path}.{index}")
    elif isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype and torch.equal(one, other), path
    else:
        assert one == other or one != one, path


def dying(step: int, ranks: tuple[int, ...], *, after: bool) -> Any:
    """`write_part` of processes that are killed before or after they have written their parts of that step."""
    write = parts.write_part

    def write_part(folder: Path, taken: checkpoint.Snapshot, rank: int) -> Any:
        if taken.step == step and rank in ranks and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        written = write(folder, taken, rank)
        if taken.step == step and rank in ranks:
            os.kill(os.getpid(), signal.SIGKILL)
        return written

    return write_part


@pytest.mark.usefixtures("nothing_whole")
@pytest.mark.parametrize(("ranks", "after"), [((1,), True), pytest.param((0, 1), False, marks=pytest.mark.long)])
def test_killed_while_saving_and_gone_on_with_bit_for_bit(
    spec: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ranks: tuple[int, ...], after: bool
) -> None:
    """In the third save, which is one in mid-epoch, as is the one before; where one is left, it is told and ends."""
    folder, told = tmp_path / "run", tmp_path / "told"
    monkeypatch.setattr(parts, "write_part", dying(9, ranks, after=after))

    def work() -> int:
        def say(line: str) -> None:
            told.write_text(told.read_text() + line + "\n" if told.exists() else line + "\n")

        try:
            return train(spec, run_dir=folder, progress="none", say=say).exit_code
        except RuntimeError:  # of torch's: the other one is gone
            return 7

    codes = together(2, work)
    assert codes == [-signal.SIGKILL if rank in ranks else 7 for rank in range(2)]
    stored = checkpoint.stored(folder / "checkpoints")
    assert [one.step for one in stored][-1] == 6
    if 0 not in ranks:
        line = "the checkpoint step-9 could not be written: another process of the run is gone; step-6 is whole"
        assert line in told.read_text()
        assert not list((folder / "checkpoints").glob("*.tmp"))
    monkeypatch.undo()
    assert trained(2, spec, folder, resume=True) == [0, 0]
    mine, its = newest(folder), newest(whole)
    assert (mine.stored.step, mine.stored.figure) == (its.stored.step, its.stored.figure)
    assert_same(mine.model, its.model)
    assert_same(mine.state, its.state)


def test_both_have_written(whole: Path) -> None:
    path = newest(whole).stored.path
    sizes = [(path / part_names(rank)[0]).stat().st_size for rank in range(2)]
    assert min(sizes) > 0.6 * max(sizes)


def test_cut_or_not_any_number_goes_on(spec: Path, tmp_path: Path) -> None:
    """Two with cut weights, three with whole ones, one, and three with cut weights."""
    train(spec, run_dir=tmp_path / "one", progress="none", set={"train.epochs": 4})
    folder = tmp_path / "run"
    whole: dict[str, Any] = {"train.distribute": "ddp"}

    for number, (count, settings) in enumerate(((2, {}), (3, whole), (1, {}), (3, {})), 1):
        settings = {"train.epochs": number, **settings}
        assert trained(count, spec, folder, resume=number > 1, **settings) == [0] * count
    assert_close(tmp_path / "one", folder)


def test_every_verb_reads_it(whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = json.loads((whole / "summary.json").read_text())["results"]["val"]
    assert main(["eval", str(whole), "--split", "val", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["val"] == pytest.approx(results, abs=1e-6)
    assert main(["export", str(whole), "-o", str(tmp_path / "m.safetensors")]) == 0
    capsys.readouterr()
    run = netspec.load(whole)
    exported = load_file(tmp_path / "m.safetensors")
    module = netspec.compile(whole / "resolved.yaml").module(seed=5)
    load_weights(module, Weights(source=str(whole)))
    for name, value in run.model.state_dict().items():
        assert torch.equal(exported[name], value) and torch.equal(module.state_dict()[name], value)
    assert main(["runs", str(whole)]) == 0


def test_where_a_process_does_not_see_the_folder_the_first_gathers(
    spec: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, told = tmp_path / "run", tmp_path / "told"
    monkeypatch.setattr("netspec.runtime.run_folder._sees", lambda *_, **__: os.environ["RANK"] == "0")

    def work() -> int:
        def say(line: str) -> None:
            with told.open("a") as file:
                file.write(line + "\n")

        where: dict[str, Any] = {"resume": folder} if folder.exists() else {"run_dir": folder}
        return train(
            spec, progress="plain", say=say, set={"train.epochs": 2 if "run_dir" in where else 3}, **where
        ).exit_code

    for _ in range(2):
        assert together(2, work) == [0, 0]
    assert f"process 1 does not see {folder}, so checkpoints are gathered in the first process" in told.read_text()
    assert not list(folder.glob("checkpoints/*/index.json")) and not list(folder.glob(".seen-*"))
    assert_same(newest(folder).model, newest(whole).model)


def test_a_part_that_one_process_can_not_read_is_told_by_all(
    spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    assert trained(2, spec, folder, **{"train.epochs": 1}) == [0, 0]

    def work() -> int:
        if os.environ["RANK"] == "1":
            monkeypatch.setattr(Source, "_file", lambda *_: open("/absent"))  # noqa: SIM115
        with pytest.raises(RunError, match=r"NS903 in process 1: .*absent: No such file"):
            train(spec, resume=folder, progress="none")
        return 5

    assert together(2, work) == [5, 5]
    monkeypatch.undo()

    struck = tmp_path / "struck"

    class Bomb:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(struck),)

    def refused() -> int:
        with pytest.raises(RunError, match="NS903"):
            train(spec, resume=folder, progress="none")
        return 5

    for stored in checkpoint.stored(folder / "checkpoints"):
        torch.save([Bomb()], stored.path / "state-1.safetensors")
        pretend_whole(stored.path)
    assert together(2, refused) == [5, 5]
    assert not struck.exists()


def test_one_that_is_asked_to_stop_stops_all_and_both_save(spec: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"

    def ask(processes: list[int]) -> None:
        deadline = time.monotonic() + 60
        while not list(folder.glob("checkpoints/step-*/manifest.json")) and time.monotonic() < deadline:
            time.sleep(0.02)
        os.kill(processes[1], signal.SIGTERM)

    def work() -> int:
        return train(spec, run_dir=folder, set={"train.epochs": 100000}, progress="none").exit_code

    assert together(2, work, meanwhile=ask) == [143, 143]
    summary, last = json.loads((folder / "summary.json").read_text()), newest(folder)
    assert (summary["status"], summary["steps"]) == ("interrupted", last.stored.step)
    assert (last.stored.path / "index.json").exists()
