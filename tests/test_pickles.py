"""Pickles with a bomb in them at every door that takes a file: refused with a message, and nothing of them is run."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_checkpoint_damage import pretend_whole
from test_objective import NETWORK, document

import netspec
from netspec.cli import main
from netspec.recipe.train import Weights
from netspec.runtime import checkpoint
from netspec.runtime.errors import RunError
from netspec.runtime.run import train
from netspec.runtime.weights import load_weights


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, struck: Path) -> None:
        self.struck = struck

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.struck),)


@pytest.fixture
def bomb(tmp_path: Path) -> Bomb:
    """A bomb that works, and has not gone off by the end of the test."""
    tried = Bomb(tmp_path / "tried")
    pickle.loads(pickle.dumps(tried))
    assert tried.struck.exists(), "the bomb is none: the test shows nothing"
    return Bomb(tmp_path / "struck")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "run"
    settings: dict[str, Any] = {"ema": 0.9, "checkpoint": {"every": {"epochs": 1}}}
    program = netspec.compile(document({"loss": "CrossEntropyLoss"}, NETWORK, **settings))
    train(program, run_dir=folder, progress="none")
    return folder


WRITERS: dict[str, Callable[[Any, Path], object]] = {
    "zip": lambda value, path: torch.save(value, path),
    "old": lambda value, path: torch.save(value, path, _use_new_zipfile_serialization=False),
    "bare": lambda value, path: path.write_bytes(pickle.dumps(value)),
}


@pytest.mark.parametrize("form", WRITERS)
@pytest.mark.parametrize("name", ["w.pt", "w.pth", "w.bin", "w.ckpt", "w.safetensors"])
def test_as_weights(name: str, form: str, bomb: Bomb, tmp_path: Path) -> None:
    """Alone, among tensors, and as what a tensor is made of."""
    model = netspec.compile({key: value for key, value in document({}).items() if key in ("netspec", "name", "model")})
    module = model.module(seed=0)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    for value in (bomb, {**module.state_dict(), "x": bomb}, {"state_dict": {"fc1.weight": bomb}}, [bomb]):
        WRITERS[form](value, tmp_path / name)
        with pytest.raises(RunError, match="NS915") as caught:
            load_weights(module, Weights(source=str(tmp_path / name)))
        assert name in caught.value.message
    assert not bomb.struck.exists()
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())


def test_as_a_folder_of_a_distributed_checkpoint(bomb: Bomb, tmp_path: Path) -> None:
    """Its `.metadata` is a pickle: a folder that is no run of ours is not looked into."""
    folder = tmp_path / "dcp"
    folder.mkdir()
    (folder / ".metadata").write_bytes(pickle.dumps(bomb))
    (folder / "__0_0.distcp").write_bytes(pickle.dumps(bomb))
    module = netspec.compile(document({"loss": "CrossEntropyLoss"})).module(seed=0)
    with pytest.raises(RunError, match=r"NS901 .*dcp is no run"):
        load_weights(module, Weights(source=str(folder)))
    assert not bomb.struck.exists()


def test_in_a_run_at_every_verb(bomb: Bomb, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In the place of each file of its checkpoints, with sums that fit."""
    run = tmp_path / "run"
    for name in ("model.safetensors", "state.safetensors", "state.json", "manifest.json"):
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(trained, run)
        for stored in checkpoint.stored(run / "checkpoints"):
            torch.save({"weight": bomb}, stored.path / name)
            if name != "manifest.json":
                pretend_whole(stored.path)
        verbs = [
            ["train", "--resume", str(run), "--set", "train.epochs=4", "--progress", "none"],
            ["eval", str(run), "--split", "val"],
            ["export", str(run), "-o", str(tmp_path / "m.safetensors")],
        ]
        for arguments in verbs:
            assert main(arguments) == 3, (name, arguments)
            said = capsys.readouterr().err
            assert "NS903" in said and "Traceback" not in said, said
        with pytest.raises(RunError, match="NS903"):
            netspec.load(run)
        with pytest.raises(RunError, match="NS903"):
            load_weights(torch.nn.Linear(1, 1), Weights(source=str(run)))
    assert not bomb.struck.exists()


def test_beside_the_files_of_a_run(bomb: Bomb, trained: Path, tmp_path: Path) -> None:
    """Files that netspec does not write are not read, whatever they are called."""
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    newest = checkpoint.stored(run / "checkpoints")[-1].path
    for folder in (run, newest):
        for name in ("model.pt", "state.pt", "optimizer.pt", ".metadata", "data.pkl"):
            (folder / name).write_bytes(pickle.dumps(bomb))
    longer = netspec.compile(run / "resolved.yaml", {"train.epochs": 3})
    assert train(longer, resume=run, progress="none").epochs == 3
    assert netspec.load(run).model is not None
    assert not bomb.struck.exists()


def test_as_data(bomb: Bomb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NumPy keeps objects as pickles."""
    monkeypatch.chdir(tmp_path)
    objects = np.empty(4, dtype=object)
    objects[:] = [bomb] * 4
    np.savez("data.npz", image=np.zeros((4, 1, 8, 8), "float32"), label=objects)
    source = {"type": "NumPy", "path": "data.npz"}
    spec = document({"loss": "CrossEntropyLoss"}, NETWORK)
    spec["data"] = {"source": source, "split": {"train": 0.5, "val": 0.5}, "batch_size": 2}
    with pytest.raises(RunError, match="NS92"):
        train(netspec.compile(spec), run_dir=tmp_path / "run", progress="none")
    assert not bomb.struck.exists()
