"""Damaged, replaced and half-written checkpoints: none is taken for a whole one, and nothing of them is run."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import random
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from test_resume import in_child

from netspec.runtime import checkpoint
from netspec.runtime.errors import RunError

FILES = ("model.safetensors", "state.safetensors", "state.json", "resolved.yaml", "manifest.json")


def taken(step: int, size: int = 64) -> checkpoint.Snapshot:
    weight = torch.full((size,), float(step))
    state = {"counter": step, "momentum": weight * 2, "history": [{"epoch": 1, "val.loss": 0.25}], "word": "cosine"}
    return checkpoint.Snapshot(step=step, epoch=1, model={"a": weight, "b": weight.view(8, -1) + 1}, state=state)


def mutate(path: Path, other: Path, draw: random.Random) -> str:
    """Change a checkpoint in one way; `other` is another whole one."""
    file = path / draw.choice(FILES)
    content = bytearray(file.read_bytes())
    where = draw.randrange(len(content))
    kind = draw.choice(["bit", "byte", "cut", "grow", "remove", "swap", "zeros", "double", "lose", "empty"])
    if kind == "bit":
        content[where] ^= 1 << draw.randrange(8)
    elif kind == "byte":
        content[where] = (content[where] + draw.randrange(1, 256)) % 256
    elif kind == "cut":
        del content[where:]
    elif kind == "grow":
        content[where:where] = bytes(draw.randrange(256) for _ in range(draw.randrange(1, 9)))
    elif kind == "lose":
        del content[where : where + draw.randrange(1, 9)]
    elif kind == "zeros":
        content[where:] = b"\0" * (len(content) - where)
    elif kind == "double":
        content = content * 2
    elif kind == "empty":
        content.clear()
    elif kind == "remove":
        file.unlink()
        return f"{file.name}: {kind}"
    else:
        content[:] = (other / file.name).read_bytes()
    file.write_bytes(content)
    return f"{file.name}: {kind} at {where}"


@pytest.mark.parametrize("count", [150, pytest.param(1000, marks=pytest.mark.long)])
def test_no_mutated_checkpoint_loads(tmp_path: Path, count: int) -> None:
    """One that is what it was, byte for byte, loads; every other one is refused with NS903."""
    draw = random.Random(count)
    whole, other = (checkpoint.write(tmp_path / "whole", taken(step), "netspec: 1\n") for step in (1, 2))
    before = {name: (whole / name).read_bytes() for name in FILES}
    changed = 0
    for _ in range(count):
        path = tmp_path / "step-1"
        shutil.copytree(whole, path)
        what = mutate(path, other, draw)
        now = {name: (path / name).read_bytes() if (path / name).exists() else None for name in FILES}
        if now == before:
            checkpoint.load(path)
        else:
            changed += 1
            with pytest.raises(RunError, match="NS903"):
                pytest.fail(f"{what} was loaded: {checkpoint.load(path)}")
        shutil.rmtree(path)
    assert changed > 0.8 * count


def pretend_whole(path: Path) -> None:
    """Write the sums of a checkpoint anew, as somebody would who means harm."""
    manifest = json.loads((path / "manifest.json").read_text())
    for name in manifest["files"]:
        manifest["files"][name]["sha256"] = hashlib.sha256((path / name).read_bytes()).hexdigest()
    del manifest["sha256"]
    (path / "manifest.json").write_text(checkpoint._sealed(manifest))


@pytest.mark.parametrize("name", FILES[:3])
def test_a_pickle_in_the_place_of_a_file_is_not_run(tmp_path: Path, name: str) -> None:
    """Neither with the sums that do not fit it, nor with sums that do."""
    struck = tmp_path / "struck"

    class Bomb:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(struck),)

    path = checkpoint.write(tmp_path, taken(1), "netspec: 1\n")
    for write in (lambda file: file.write_bytes(pickle.dumps(Bomb())), lambda file: torch.save({"w": Bomb()}, file)):
        write(path / name)
        with pytest.raises(RunError, match=f"NS903 .*step-1 is damaged: {name} is not what was written"):
            checkpoint.load(path)
        pretend_whole(path)
        with pytest.raises(RunError, match="NS903"):
            checkpoint.load(path)
    assert not struck.exists()
    pickle.loads(pickle.dumps(Bomb()))
    assert struck.exists(), "the bomb is none: the test shows nothing"


@pytest.mark.parametrize("kills", [8, pytest.param(50, marks=pytest.mark.long)])
def test_killed_at_random_moments_of_back_to_back_saves(tmp_path: Path, kills: int) -> None:
    """What has been saved is there and whole, and the next process goes on from it."""
    draw, steps = random.Random(kills), []
    folder, pipe = tmp_path / "checkpoints", tmp_path / "saved"

    def save(first: int) -> None:
        with pipe.open("w") as told:
            for step in range(first, first + 10_000):
                checkpoint.write(folder, taken(step, size=200_000), "netspec: 1\n")
                told.write(f"{step}\n")
                told.flush()
                checkpoint.rotate(folder, keep=2, mode="min")

    last = 0
    for _ in range(kills):
        pipe.write_text("")
        child = os.fork()
        if child == 0:
            try:
                save(last + 1)
            finally:
                os._exit(1)
        while not pipe.read_text():
            time.sleep(0.002)
        time.sleep(draw.uniform(0, 0.1))
        os.kill(child, signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        acknowledged = int(pipe.read_text().split("\n")[-2])
        checkpoint.recover(folder)
        found = checkpoint.newest(folder, pytest.fail)
        assert found is not None and found.stored.step in (acknowledged, acknowledged + 1)
        assert torch.equal(found.model["a"], torch.full((200_000,), float(found.stored.step)))
        assert sum(1 for _ in folder.iterdir()) <= 3
        last = found.stored.step
        steps.append(last)
    assert steps == sorted(set(steps))


def test_recovering_is_harmless_where_nothing_was_killed(tmp_path: Path) -> None:
    checkpoint.write(tmp_path, taken(1), "")
    checkpoint.recover(tmp_path)
    checkpoint.recover(tmp_path / "absent")
    assert in_child(lambda: checkpoint.load(tmp_path / "step-1")) == 0
