"""Checkpoints into which several processes write their parts: one whole checkpoint, or none, whoever dies or fails."""

from __future__ import annotations

import json
import os
import pickle
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from several_support import together
from test_checkpoint import Killer
from test_checkpoint_damage import pretend_whole
from test_faults import mounted
from torch import Tensor
from torch.distributed.checkpoint import HuggingFaceStorageReader, load  # type: ignore[attr-defined]
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

from netspec.runtime import checkpoint, parts
from netspec.runtime.checkpoint import Snapshot, snapshot
from netspec.runtime.errors import RunError
from netspec.runtime.parts import found_by_all
from netspec.runtime.pieces import like, part_names
from netspec.runtime.processes import Processes, found_processes, joined
from netspec.runtime.saver_together import TogetherSaver

CPU = torch.device("cpu")
GONE = 7
"""How a process ends that was told that another one is gone."""


def whole(step: int) -> dict[str, Tensor]:
    """Sizes that no number of processes divides, fewer rows than processes, nothing at all, a scalar."""
    shapes = {"wide": (7, 3), "few": (1, 5), "none": (0, 4), "row": (5,), "cube": (4, 2, 3)}
    draw = torch.Generator().manual_seed(step)
    return {name: torch.randn(shape, generator=draw) for name, shape in shapes.items()}


def cut(value: Tensor, processes: Processes, dim: int = 0) -> Any:
    return distribute_tensor(value.clone(), init_device_mesh("cpu", (processes.count,)), [Shard(dim)])


def taken(step: int, processes: Processes, *, figure: float | None = None, dim: int = 0) -> Snapshot:
    """What a process has of a step: pieces in the model and anywhere in the state, and what is alike in all."""
    tensors = whole(step)
    pieces = {name: cut(value, processes, dim if value.dim() > dim else 0) for name, value in tensors.items()}
    model = torch.nn.Module()
    state = {"optimizer": {"state": {"wide": {"exp_avg": pieces["wide"], "step": torch.tensor(float(step))}}}}
    state |= {"list": [(pieces["row"], step)], "word": "cosine"}  # type: ignore[dict-item]
    weights = {**pieces, "mean": torch.full((), float(step))}
    return snapshot(step=step, epoch=step, model=model, weights=weights, state=state, figure=figure)


def is_step(found: checkpoint.Loaded, step: int) -> bool:
    tensors, state = whole(step), found.state
    return (
        found.model.keys() == {*tensors, "mean"}
        and all(torch.equal(found.model[name], value) for name, value in tensors.items())
        and torch.equal(state["optimizer"]["state"]["wide"]["exp_avg"], tensors["wide"])
        and torch.equal(state["list"][0][0], tensors["row"])
        and (state["list"][0][1], state["word"], float(found.model["mean"])) == (step, "cosine", step)
    )


def in_all(count: int, work: Callable[[Processes, Callable[[], TogetherSaver]], int | None], folder: Path) -> list[int]:
    """Do something in so many processes that can talk; it gets what makes the savers of a run in `folder`."""

    def run() -> int:
        processes = found_processes()
        said: Path = folder.parent / f"said-{folder.name}"

        def say(line: str) -> None:
            with said.open("a") as file:
                file.write(line + "\n")

        with joined(processes, CPU):
            return (
                work(
                    processes,
                    lambda: TogetherSaver(
                        folder,
                        {},
                        keep=2,
                        mode="min",
                        say=say if processes.writes else lambda _: None,
                        processes=processes,
                    ),
                )
                or 0
            )

    folder.parent.mkdir(parents=True, exist_ok=True)
    return together(count, run, within=60)


def said(folder: Path) -> list[str]:
    path = folder.parent / f"said-{folder.name}"
    return path.read_text().splitlines() if path.exists() else []


def saved(count: int, folder: Path, *steps: int, dim: int = 0) -> None:
    def work(processes: Processes, make: Callable[[], TogetherSaver]) -> None:
        saver = make()
        for step in steps:
            saver.save(taken(step, processes, dim=dim))
        saver.wait()

    assert in_all(count, work, folder) == [0] * count


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(("count", "dim"), [(2, 0), (3, 1)])
def test_what_several_write_one_reads(tmp_path: Path, count: int, dim: int) -> None:
    folder = tmp_path / "run" / "checkpoints"
    saved(count, folder, 1, 2, 3, dim=dim)
    assert names(folder) == ["step-2", "step-3"] and not said(folder)
    for step in (2, 3):
        assert is_step(checkpoint.load(folder / f"step-{step}"), step)
    files = names(folder / "step-3")
    own = [name for rank in range(count) for name in part_names(rank)]
    assert files == sorted(["index.json", "manifest.json", "resolved.yaml", "state.json", *own])


def test_no_process_writes_what_another_has(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "checkpoints"
    saved(2, folder, 1)
    files = [load_file(folder / "step-1" / part_names(rank)[0]) for rank in range(2)]
    assert [part["wide"].shape[0] for part in files] == [4, 3]
    assert "few" not in files[1] and "mean" not in files[1]


def test_torch_reads_the_parts(tmp_path: Path) -> None:
    """torch's own reader of distributed checkpoints in safetensors puts the same tensors together."""
    folder = tmp_path / "run" / "checkpoints"
    saved(3, folder, 4)
    tensors = {name: value for name, value in whole(4).items() if value.numel()} | {"mean": torch.tensor(4.0)}
    found = {name: torch.zeros_like(value) for name, value in tensors.items()}
    with pytest.warns(UserWarning, match=r"torch\.distributed is disabled"):
        load(found, storage_reader=HuggingFaceStorageReader(str(folder / "step-4")), no_dist=True)
    assert all(torch.equal(found[name], value) for name, value in tensors.items())


@pytest.mark.parametrize(("wrote", "reads"), [(3, 2), (1, 2)])
def test_another_number_reads_its_parts_alone(tmp_path: Path, wrote: int, reads: int) -> None:
    folder = tmp_path / "run" / "checkpoints"
    if wrote == 1:
        state: dict[str, Any] = {"optimizer": {}}
        checkpoint.write(folder, Snapshot(step=2, epoch=1, model=whole(2), state=state), "")
    else:
        saved(wrote, folder, 2)

    def work(processes: Processes, _: object) -> None:
        found = found_by_all(processes, lambda: checkpoint.checked(folder / "step-2"))
        assert found is not None
        for dim in (0, 1):
            for name, value in whole(2).items():
                target = cut(torch.zeros_like(value), processes, dim if value.dim() > dim else 0)
                placed = like(found.model[name], target)
                assert placed.shape == target.shape and placed.placements == target.placements
                assert torch.equal(placed.full_tensor(), value)
                local = placed.to_local()
                assert local.untyped_storage().nbytes() == 4 * local.numel()
        assert torch.equal(like(found.model["few"], torch.zeros(1, 5)), whole(2)["few"])

    assert in_all(reads, work, folder) == [0] * reads


CALLS = [("fsync", 0), *((name, rank) for name in ("mkdir", "open", "rmdir") for rank in (0, 1))]
LONG = [pytest.param(*call, marks=pytest.mark.long) for call in CALLS]


@pytest.mark.parametrize(("function", "rank"), [("rename", 0), ("fsync", 1), *LONG])
def test_killed_at_every_step_of_the_protocol(tmp_path: Path, function: str, rank: int) -> None:
    """Whichever call of the third save is a process's last: a whole checkpoint is there, the other process is told and
    does not hang, and the next save goes through."""
    calls = 0
    while True:
        folder = tmp_path / f"{calls}" / "run"

        def work(processes: Processes, make: Callable[[], TogetherSaver], calls: int = calls) -> int:
            saver = make()
            saver.save(taken(1, processes), taken(2, processes))
            saver.wait()
            third = taken(3, processes)
            if processes.rank == rank:
                setattr(os, function, Killer(getattr(os, function), calls))
            saver.save(third)
            if saver.failed():
                os._exit(GONE)  # as a process whose training fails with the other one
            return 0

        codes = in_all(2, work, folder)
        found = checkpoint.newest(folder, pytest.fail)
        assert found is not None and found.stored.step in (2, 3) and is_step(found, found.stored.step)
        killed = codes[rank] == -signal.SIGKILL
        assert codes[1 - rank] in ((0, GONE) if killed else (0,)), codes
        if codes[1 - rank] == GONE and rank == 1:
            assert said(folder)[-1].startswith("the checkpoint step-3 could not be written: another process")
            assert "step-2 is whole" in said(folder)[-1] and names(folder) == ["step-1", "step-2"]
        checkpoint.recover(folder)
        assert not list(folder.glob("*.tmp"))
        if not killed:
            break
        calls += 1
    saved(2, folder, 3, 4)
    assert names(folder) == ["step-3", "step-4"]
    assert calls > 0 or (rank and function in ("rename", "rmdir", "mkdir")), f"os.{function} is never called"


@pytest.mark.parametrize("kills", [2, pytest.param(30, marks=pytest.mark.long)])
def test_both_killed_at_random_moments(tmp_path: Path, kills: int) -> None:
    """As where the machine loses its power: what has been saved is there, and the next processes go on."""
    draw, last = random.Random(kills), 0
    folder = tmp_path / "run"
    for _ in range(kills):

        def work(processes: Processes, make: Callable[[], TogetherSaver], last: int = last) -> None:
            saver = make()
            for step in range(last + 1, 10_000):
                saver.save(taken(step, processes))

        pause = draw.uniform(0, 0.3)

        def kill(processes: list[int], last: int = last, pause: float = pause) -> None:
            deadline = time.monotonic() + 30
            while time.monotonic() < deadline and not list(folder.glob(f"step-{last + 2}")):
                time.sleep(0.01)
            time.sleep(pause)
            for process in processes:
                os.kill(process, signal.SIGKILL)

        def run(work: Any = work) -> int:
            processes = found_processes()
            with joined(processes, CPU):
                work(
                    processes,
                    lambda: TogetherSaver(folder, {}, keep=2, mode="min", say=print, processes=processes),
                )
            return 0

        assert together(2, run, meanwhile=kill) == [-signal.SIGKILL] * 2
        checkpoint.recover(folder)
        found = checkpoint.newest(folder, pytest.fail)
        assert found is not None and found.stored.step >= last + 2 and is_step(found, found.stored.step)
        last = found.stored.step


def test_a_full_disk_in_one_process_is_told_and_the_next_save_is_the_next_try(tmp_path: Path) -> None:
    folder = tmp_path / "run"

    def work(processes: Processes, make: Callable[[], TogetherSaver]) -> None:
        saver = make()
        saver.save(taken(1, processes, figure=0.5))
        assert not saver.failed()
        write = parts.write_part

        def full(*arguments: Any) -> Any:
            raise OSError(28, "No space left on device")

        if processes.rank == 1:
            parts.write_part = full  # type: ignore[assignment]
        saver.save(taken(2, processes, figure=0.1))
        assert saver.failed()
        with pytest.raises(RunError, match=r"NS907 .*process 1: No space left on device; step-1 is whole"):
            saver.wait()
        assert names(folder) == ["step-1"]
        processes.wait()
        parts.write_part = write
        saver.save(taken(3, processes, figure=0.7))  # and the one that was not written, with the better figure
        saver.wait()

    assert in_all(2, work, folder) == [0, 0]
    assert said(folder) == [
        "the checkpoint step-2 could not be written: process 1: No space left on device; step-1 is whole; "
        "training goes on, and the next checkpoint is the next try"
    ]
    assert names(folder) == ["step-2", "step-3"]
    assert is_step(checkpoint.load(folder / "step-2"), 2)


def test_a_disk_that_is_full(tmp_path: Path) -> None:
    """A real one; the two write to it side by side, and either may be the one that finds no room."""
    disk, told = tmp_path / "disk", tmp_path / "said-checkpoints"
    big = {"wide": torch.ones(300, 100)}

    def work(processes: Processes, _: object) -> None:
        def say(line: str) -> None:
            told.write_text((told.read_text() if told.exists() else "") + line + "\n")

        saver = TogetherSaver(disk / "run", {}, keep=2, mode="min", say=say, processes=processes)

        def save(step: int) -> bool:
            weights = {name: cut(value * step, processes) for name, value in big.items()}
            saver.save(snapshot(step=step, epoch=1, model=torch.nn.Module(), weights=weights, state={}))
            return not saver.failed()

        assert save(1)
        if processes.writes:
            (disk / "filler").write_bytes(bytes(300_000))
        processes.wait()
        assert not save(2)
        assert names(disk / "run") == ["step-1"]
        processes.wait()
        if processes.writes:
            (disk / "filler").unlink()
        processes.wait()
        assert save(3)

    with mounted(disk, "size=512k"):
        assert in_all(2, work, tmp_path / "checkpoints") == [0, 0]
        assert names(disk / "run") == ["step-1", "step-3"]
        assert torch.equal(checkpoint.load(disk / "run" / "step-3").model["wide"], big["wide"] * 3)
    line = told.read_text()
    assert "the checkpoint step-2 could not be written: " in line and "No space left on device; step-1 is whole" in line


def test_the_same_step_is_written_anew(tmp_path: Path) -> None:
    """At the end of an epoch, with its figure, in another number of processes too."""
    folder = tmp_path / "run"
    saved(3, folder, 1)

    def work(processes: Processes, make: Callable[[], TogetherSaver]) -> None:
        saver = make()
        saver.save(taken(1, processes, figure=0.5))
        saver.wait()

    assert in_all(2, work, folder) == [0, 0]
    found = checkpoint.load(folder / "step-1")
    assert is_step(found, 1) and found.stored.figure == 0.5 and names(folder) == ["step-1"]
    assert "model-2.safetensors" not in names(folder / "step-1")


def test_a_mistake_in_one_process_leaves_no_other_waiting(tmp_path: Path) -> None:
    def work(processes: Processes, make: Callable[[], TogetherSaver]) -> None:
        saver = make()

        def wrong(*_: Any) -> Any:
            raise KeyError("wrong")

        if processes.rank == 1:
            parts.write_part = wrong  # type: ignore[assignment]
        saver.save(taken(1, processes))
        if processes.rank == 1:
            with pytest.raises(KeyError, match="wrong"):
                saver.failed()
        else:
            assert saver.failed() and "KeyError" in str(saver.failure)

    assert in_all(2, work, tmp_path / "run") == [0, 0]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parts") / "run"
    saved(2, folder, 1, 2)
    return folder


@pytest.mark.parametrize("count", [60, pytest.param(600, marks=pytest.mark.long)])
def test_no_mutated_checkpoint_loads(two: Path, tmp_path: Path, count: int) -> None:
    draw, files = random.Random(count), names(two / "step-1")
    for number in range(count):
        path = tmp_path / "step-1"
        shutil.copytree(two / "step-1", path)
        file = path / files[number % len(files)]
        content = bytearray(file.read_bytes())
        where = draw.randrange(max(1, len(content)))
        kind = draw.choice(["bit", "cut", "grow", "remove", "swap", "empty"])
        if kind == "bit" and content:
            content[where] ^= 1 << draw.randrange(8)
        elif kind == "cut":
            del content[where:]
        elif kind == "grow":
            content += bytes(draw.randrange(1, 9))
        elif kind == "empty":
            content.clear()
        elif kind == "swap":
            content[:] = (two / "step-2" / file.name).read_bytes()
        file.write_bytes(content)
        if kind == "remove":
            file.unlink()
        if not file.exists() or file.read_bytes() != (two / "step-1" / file.name).read_bytes():
            for read in (checkpoint.load, checkpoint.checked):
                with pytest.raises(RunError, match="NS903"):
                    pytest.fail(f"{file.name}: {kind} was loaded: {read(path)}")
        shutil.rmtree(path)


INDEXES = {
    "a part less": lambda index: index[0]["wide"]["pieces"].pop(),
    "a part twice": lambda index: index[0]["wide"]["pieces"].append(index[0]["wide"]["pieces"][-1]),
    "one process twice": lambda index: index[0]["wide"]["pieces"][1].__setitem__(0, 0),
    "a process more": lambda index: index[0]["wide"]["pieces"][1].__setitem__(0, 9),
    "another shape": lambda index: index[0]["wide"].update(shape=[7, 4]),
    "no shape": lambda index: index[0]["wide"].pop("shape"),
    "a huge one": lambda index: index[0]["mean"].update(shape=[10**15]),
    "another dimension": lambda index: index[0]["wide"].update(dim=1),
    "no dimension": lambda index: index[0]["wide"].update(dim=5),
    "a name more": lambda index: index[0].update(more={"shape": [3]}),
    "a list": lambda index: index.append({}),
    "words": lambda index: index[0].update(wide="wide"),
}


@pytest.mark.parametrize("change", INDEXES)
def test_an_index_that_does_not_fit_is_refused(two: Path, tmp_path: Path, change: str) -> None:
    """With sums that fit: an index is believed in nothing that the files do not bear out."""
    path = tmp_path / "step-1"
    shutil.copytree(two / "step-1", path)
    index = json.loads((path / "index.json").read_text())
    INDEXES[change](index)
    (path / "index.json").write_text(json.dumps(index))
    pretend_whole(path)
    with pytest.raises(RunError, match=r"NS903 .*step-1 is damaged"):
        checkpoint.load(path)
        pytest.fail("loaded")


def test_pickles_are_not_run(two: Path, tmp_path: Path) -> None:
    """In the place of each file, with sums that fit, and as what torch keeps beside its own."""
    struck = tmp_path / "struck"

    class Bomb:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(struck),)

    path = tmp_path / "step-1"
    for name in names(two / "step-1"):
        for write in (lambda file: file.write_bytes(pickle.dumps(Bomb())), lambda file: torch.save([Bomb()], file)):
            shutil.rmtree(path, ignore_errors=True)
            shutil.copytree(two / "step-1", path)
            write(path / name)
            with pytest.raises(RunError, match="NS903"):
                checkpoint.load(path)
            if name not in ("manifest.json", "resolved.yaml"):
                pretend_whole(path)
                with pytest.raises(RunError, match="NS903"):
                    checkpoint.load(path)
    shutil.rmtree(path)
    shutil.copytree(two / "step-1", path)
    for name in (".metadata", "__0_0.distcp", "model-7.safetensors", "model.safetensors"):
        (path / name).write_bytes(pickle.dumps(Bomb()))
    assert is_step(checkpoint.load(path), 1)
    assert not struck.exists()
    pickle.loads(pickle.dumps(Bomb()))
    assert struck.exists(), "the bomb is none: the test shows nothing"


def test_a_damaged_one_falls_back_to_the_one_before(two: Path, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    shutil.copytree(two, folder)
    content = bytearray((folder / "step-2" / "state-1.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "step-2" / "state-1.safetensors").write_bytes(content)
    told: list[str] = []
    found = checkpoint.newest(folder, told.append, checkpoint.checked)
    assert found is not None and found.stored.step == 1
    assert told == [
        "the checkpoint step-2 is damaged: state-1.safetensors is not what was written; "
        "kept as step-2.damaged; going on from step-1"
    ]
