"""Samples that can't be read, rows that hold no numbers, workers that die: counted, named, and nothing is lost."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from data_support import epoch, equal, image_folder, joined, opened
from PIL import Image
from test_resume import assert_same, in_child
from torch import Tensor

import netspec
from netspec.runtime.data.streams import Stream
from netspec.runtime.errors import RunError
from netspec.runtime.run import train

SPEC = """\
netspec: 1
name: photos
model:
  inputs: {image: [N, 3, 12, 12]}
  layers:
    conv: {type: Conv2d, out_channels: 4, kernel_size: 3}
    drop: {type: Dropout, p: 0.2}
    flat: {type: flatten, start_dim: 1}
    head: {type: Linear, out_features: 2}
data:
  train: {source: {type: ImageFolder, root: photos}, transforms: [{type: RandomResizedCrop, size: 12}]}
  val: {source: {type: ImageFolder, root: photos}, transforms: [{type: Resize, size: [12, 12]}]}
  batch_size: 4
  workers: WORKERS
  cache: CACHE
  skip_unreadable: LIMIT
train:
  epochs: 3
  device: cpu
  tensorboard: false
  loss: CrossEntropyLoss
  optimizer: {type: SGD, lr: 0.1, momentum: 0.9}
  checkpoint: {every: {steps: 2}}
"""


def photos(folder: Path) -> list[Path]:
    """Twenty-two images of two classes, three of which are none: cut off, empty, and a text."""
    root = image_folder(folder / "photos", {"ant": 11, "bee": 11})
    bad = [root / "ant" / "003.jpg", root / "bee" / "004.png", root / "bee" / "007.png"]
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    (root / "ant" / "003.png").unlink()
    Image.fromarray(pixels).save(bad[0], quality=95)
    bad[0].write_bytes(bad[0].read_bytes()[:900])
    bad[1].write_bytes(b"")
    bad[2].write_text("not an image\n", encoding="utf-8")
    return bad


def spec(folder: Path, *, workers: int = 0, cache: str = "false", limit: int = 5) -> Any:
    text = SPEC.replace("WORKERS", str(workers)).replace("CACHE", cache).replace("LIMIT", str(limit))
    (folder / "spec.yaml").write_text(text, encoding="utf-8")
    return netspec.compile(folder / "spec.yaml")


def section(folder: Path, more: str) -> str:
    return (
        f"train: {{source: {{type: ImageFolder, root: {folder / 'photos'}}}, transforms: "
        f"[{{type: RandomResizedCrop, size: 12}}]}}\nbatch_size: 4\n{more}"
    )


@pytest.mark.parametrize("cache", ["true", "false"])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_batch_goes_without_what_cannot_be_read(tmp_path: Path, workers: int, cache: str) -> None:
    bad = photos(tmp_path)
    data = opened(section(tmp_path, f"workers: {workers}\ncache: {cache}\nskip_unreadable: 3"))
    stream = data.splits["train"]
    first = epoch(stream, 1)
    assert sum(len(batch["label"]) for batch in first) == 19
    assert len(first) == stream.batches_per_epoch == 6
    assert set(data.left_out) == {str(path) for path in bad}
    assert "truncated" in data.left_out[str(bad[0])]
    said = data.news()
    assert said is not None
    assert said.startswith("3 samples that can't be read were left out: ")
    assert all(str(path) in said for path in bad)
    assert data.news() is None
    # The same with the files in memory and without, with workers and without, and from the middle on.
    plain = opened(section(tmp_path, "workers: 0\ncache: false\nskip_unreadable: 3")).splits["train"]
    assert equal(epoch(plain, 1), first)
    assert equal(epoch(stream, 1, start=2), first[2:])
    # The augmentation of a sample does not depend on who is left out.
    data.close()


def test_a_batch_of_which_nothing_is_left_takes_the_next(tmp_path: Path) -> None:
    photos(tmp_path)
    text = section(tmp_path, "cache: false\nskip_unreadable: 3").replace("batch_size: 4", "batch_size: 1")
    batches = epoch(opened(text.replace("]}", "], shuffle: false}")).splits["train"])
    assert [len(batch["label"]) for batch in batches] == [1] * 22


@pytest.mark.parametrize("workers", [0, 2])
def test_one_more_than_the_limit_ends_the_run_with_the_list(tmp_path: Path, workers: int) -> None:
    bad = photos(tmp_path)
    with pytest.raises(RunError) as caught:
        epoch(opened(section(tmp_path, f"workers: {workers}\ncache: false\nskip_unreadable: 2")).splits["train"])
    assert caught.value.code == "NS926"
    assert "3 samples can't be read, and `skip_unreadable` allows 2" in caught.value.message
    assert all(str(path) in caught.value.message for path in bad)
    with pytest.raises(RunError) as caught:
        epoch(opened(section(tmp_path, f"workers: {workers}\ncache: false")).splits["train"])
    assert caught.value.code == "NS921"
    assert any(str(path) in caught.value.message for path in bad)
    assert "skip_unreadable: 10" in str(caught.value.help)


def killed_at(batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process dies when the training stream hands out that many batches."""
    whole = Stream.batches
    left = [batch]

    def batches(self: Stream, epoch: int, start: int = 0) -> Iterator[dict[str, Tensor]]:
        for one in whole(self, epoch, start):
            if self.name == "train":
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                left[0] -= 1
            yield one

    monkeypatch.setattr(Stream, "batches", batches)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_says_what_it_left_out_and_resumes_exactly(
    tmp_path: Path, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = photos(tmp_path)
    program = spec(tmp_path, workers=workers)
    lines: list[str] = []
    whole = train(program, run_dir=tmp_path / "whole", say=lines.append, progress="plain")
    assert whole.status == "finished"
    (told,) = [line for line in lines if "left out" in line]
    assert all(path.name in told for path in bad)
    summary = json.loads((tmp_path / "whole" / "summary.json").read_text())
    assert set(summary["unreadable"]) == {str(path) for path in bad}

    def die() -> None:
        killed_at(9, monkeypatch)
        train(program, run_dir=tmp_path / "killed", progress="none")

    assert in_child(die) == -signal.SIGKILL
    monkeypatch.undo()
    train(program, resume=tmp_path / "killed", progress="none")
    assert_same(tmp_path / "whole", tmp_path / "killed")
    # Those that an earlier session met count once.
    summary = json.loads((tmp_path / "killed" / "summary.json").read_text())
    assert set(summary["unreadable"]) == {str(path) for path in bad}


def test_what_was_trained_before_the_limit_is_saved(tmp_path: Path) -> None:
    """The last of three bad files is met in the middle of the first epoch; mended, the run goes on."""
    bad = photos(tmp_path)
    program = spec(tmp_path, limit=2)
    lines: list[str] = []
    with pytest.raises(RunError, match="NS926"):
        train(program, run_dir=tmp_path / "run", say=lines.append, progress="plain")
    saved = [line for line in lines if line.startswith("saved after")]
    assert len(saved) == 1
    assert f"netspec train --resume {tmp_path / 'run'}" in saved[0]
    for path in bad:
        path.unlink()
        Image.new("RGB", (20, 16), "red").save(path)
    done = train(program, resume=tmp_path / "run", progress="none")
    assert done.status == "finished"
    assert done.epochs == 3


# Tables and arrays


def test_rows_that_hold_no_numbers_are_left_out(tmp_path: Path) -> None:
    rows = ["a,b,kind", "1,2,x", "nan,3,y", "4,,x", "5,6,", "7,eight,y", "9,10", "11,12,y"]
    (tmp_path / "x.csv").write_text("\n".join(rows) + "\n")
    text = f"train: {{source: {{type: CSV, path: {tmp_path / 'x.csv'}, label: kind}}, shuffle: false}}\n"
    data = opened(text + "skip_unreadable: 5")
    (batch,) = epoch(data.splits["train"])
    assert batch["features"].tolist() == [[1, 2], [11, 12]]
    assert data.splits["train"].classes == ("x", "y")
    assert {re.sub(" of .*", "", name): why for name, why in data.left_out.items()} == {
        "row 7": "has 2 cells, and the header names 3 columns",
        "row 3": "a is nan",
        "row 4": "b is empty",
        "row 5": "kind is empty",
        "row 6": "b is eight",
    }
    with pytest.raises(RunError, match="NS926 5 samples can't be read"):
        opened(text + "skip_unreadable: 4")
    with pytest.raises(RunError, match="NS924"):
        opened(text)


def test_rows_of_arrays_and_of_parquet_too(tmp_path: Path) -> None:
    features = np.arange(12.0).reshape(6, 2)
    features[1, 0], features[4, 1] = np.nan, np.inf
    np.savez(tmp_path / "x.npz", features=features, label=np.arange(6))
    data = opened(f"train: {{source: {{type: NumPy, path: {tmp_path / 'x.npz'}}}, shuffle: false}}\nskip_unreadable: 2")
    assert joined(epoch(data.splits["train"]), "label").tolist() == [0, 2, 3, 5]
    assert len(data.left_out) == 2
    pd.DataFrame({"a": features[:, 0], "kind": list("xyxyxy")}).to_parquet(tmp_path / "x.parquet")
    source = f"{{type: Parquet, path: {tmp_path / 'x.parquet'}, label: kind}}"
    data = opened(f"train: {{source: {source}, shuffle: false}}\nskip_unreadable: 2")
    assert joined(epoch(data.splits["train"]), "features").flatten().tolist() == [0, 4, 6, 8, 10]
    assert list(data.left_out.values()) == ["a is empty"]


TABLE = """\
netspec: 1
name: table
model:
  inputs: {features: [N, 3]}
  layers: {head: {type: Linear, out_features: 2}}
data:
  train: {source: SOURCE}
  batch_size: 4
train:
  epochs: 1
  device: cpu
  tensorboard: false
  loss: CrossEntropyLoss
  optimizer: {type: SGD, lr: 0.1}
  withheld_limit: 1
"""


def test_a_number_that_is_not_finite_is_named_with_its_sample_and_column(tmp_path: Path) -> None:
    features = np.random.default_rng(0).normal(size=(10, 3))
    features[7, 2] = np.nan
    np.savez(tmp_path / "x.npz", features=features, label=np.arange(10) % 2)
    (tmp_path / "spec.yaml").write_text(TABLE.replace("SOURCE", f"{{type: NumPy, path: {tmp_path / 'x.npz'}}}"))
    with pytest.raises(RunError, match="NS902") as caught:
        train(netspec.compile(tmp_path / "spec.yaml"), run_dir=tmp_path / "run", progress="none")
    assert "the field `features` of the batch itself holds a number that is not finite" in caught.value.message
    assert f"sample 7 of {tmp_path / 'x.npz'}, at [2]" in caught.value.message


# A worker that is killed


def test_a_killed_worker_costs_nothing_that_was_trained(tmp_path: Path) -> None:
    photos(tmp_path)
    program = spec(tmp_path, workers=2)
    train(program, run_dir=tmp_path / "whole", progress="none")
    code = """
import os, signal, sys, threading, time
import netspec
from netspec.runtime.data import streams, workers
from netspec.runtime.run import train
taken = streams.Stream._taken
count = 0
def kill_one(self, made):
    global count
    count += self.name == "train"
    if count == 9:
        pid = self._loader._iterator._workers[1].pid
        print("killed", pid, flush=True)
        os.kill(pid, signal.SIGKILL)
        time.sleep(0.2)
    return taken(self, made)
streams.Stream._taken = kill_one
sys.exit(netspec.cli.main(["train", "spec.yaml", "--run-dir", "run"]))
"""
    done = subprocess.run(
        [sys.executable, "-c", "import netspec.cli\n" + code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    said = done.stdout + done.stderr
    assert done.returncode == 3, said
    (pid,) = re.findall(r"killed (\d+)", said)
    assert "error[NS641]" in said
    assert f"DataLoader worker (pid {pid}) exited unexpectedly: worker 2 of 2, killed by SIGKILL" in said
    assert "workers" in said
    assert "saved after" in said and "netspec train --resume" in said
    train(program, resume=tmp_path / "run", progress="none")
    assert_same(tmp_path / "whole", tmp_path / "run")
