"""Runs of whole specs that are killed and go on: the weights to the last bit, over six families of models.

Each spec has dropout, EMA, gradients of several batches, random augmentation, and whatever else draws or remembers. The
kill is a SIGKILL at a random batch of training or of an evaluation, at the end of either, or at a random moment.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_resume import assert_same, in_child
from torch import Tensor

import netspec
from netspec.runtime.data.streams import Stream
from netspec.runtime.run import train

DATA = """\
data:
  train: {source: {type: NumPy, path: train.npz}, transforms: [TRANSFORMS]}
  val: {source: {type: NumPy, path: val.npz}}
  batch_size: 8
  cache: false
  workers: WORKERS
"""
TRAIN = """\
train:
  epochs: 3
  seed: 3
  device: cpu
  tensorboard: false
  accumulate: 2
  ema: {decay: 0.9}
  checkpoint: {every: {steps: 2}, monitor: val.loss}
"""
NOISE = "{type: GaussianNoise, sigma: 0.1, clip: false}"
CLASSIFIER = "  loss: CrossEntropyLoss\n  metrics: [Accuracy]\n"
ADAMW = "  optimizer: {type: AdamW, lr: 3e-3}\n"
SGD = "  optimizer: {type: SGD, lr: 0.05, momentum: 0.9, nesterov: true}\n  clip_grad: 1.0\n"


def spec(name: str, shape: str, layers: str, train: str, transforms: str = NOISE) -> str:
    body = "\n".join(f"    {line}" for line in layers.strip().splitlines())
    head = f"netspec: 1\nname: {name}\nmodel:\n  inputs: {{image: [N, {shape}]}}\n  layers:\n{body}\n"
    return head + DATA.replace("TRANSFORMS", transforms) + TRAIN + train


DENOISING = """\
  layers:
    noise: {type: randn_like, from: image}
    noisy: {compute: image + 0.1 * noise}
    made: {use: model}
    again: {use: model, from: made, grad: false}
    whole: {type: MSELoss, from: [made, image], mask: image > -1}
    still: {type: MSELoss, from: [made, again]}
    sparse: {type: L1Loss, from: made, target: 0}
    loss: {compute: whole + 0.1 * still + $(0.1 / train.epochs) * sparse}
"""
"""An objective that draws numbers of its own."""

FAMILIES = {
    "mlp-regression": (
        (1, 1, 6),
        spec(
            "mlp",
            "1, 1, 6",
            """
flat: {type: flatten, start_dim: 1}
hidden: {type: Linear, out_features: 16}
norm: BatchNorm1d
act: ReLU
drop: {type: Dropout, p: 0.2}
out: {type: Linear, out_features: 1}
""",
            "  loss: {type: MSELoss, from: [out, target]}\n  scheduler: {type: OneCycleLR, max_lr: 0.01}\n" + ADAMW,
        ),
    ),
    "lenet": (
        (1, 12, 12),
        spec(
            "lenet",
            "1, 12, 12",
            """
conv1: {type: Conv2d, out_channels: 4, kernel_size: 3}
pool1: {type: MaxPool2d, kernel_size: 2}
act1: ReLU
drop: {type: Dropout2d, p: 0.2}
flat: {type: flatten, start_dim: 1}
fc: {type: Linear, out_features: 3}
""",
            CLASSIFIER + SGD + "  scheduler: {type: CosineAnnealingLR, T_max: 3, warmup: {steps: 5}}\n",
            transforms="{type: RandomCrop, size: 12, padding: 2}, {type: RandomHorizontalFlip, p: 0.5}",
        ),
    ),
    "lstm": (
        (1, 5, 4),
        spec(
            "lstm",
            "1, 5, 4",
            """
rows: {type: squeeze, dim: 1}
rnn: {type: LSTM, hidden_size: 8, num_layers: 2, dropout: 0.3, batch_first: true}
last: {compute: "rnn.output[:, -1]"}
fc: {type: Linear, out_features: 3}
""",
            CLASSIFIER + ADAMW,
        ),
    ),
    "transformer": (
        (1, 5, 8),
        spec(
            "transformer",
            "1, 5, 8",
            """
rows: {type: squeeze, dim: 1}
encoder:
  - {type: TransformerEncoderLayer, nhead: 2, dim_feedforward: 16, dropout: 0.2, batch_first: true, repeat: 2}
pooled: {type: mean, dim: 1}
fc: {type: Linear, out_features: 3}
""",
            CLASSIFIER
            + ADAMW
            + "  scheduler: {type: ReduceLROnPlateau, patience: 0, monitor: val.loss}\n"
            + "  freeze: encoder.0.*\n  unfreeze: {encoder.0.*: {steps: 5}}\n",
        ),
    ),
    "autoencoder": (
        (1, 8, 8),
        spec(
            "autoencoder",
            "1, 8, 8",
            """
encoder:
  - {type: Conv2d, out_channels: 4, kernel_size: 3, stride: 2, padding: 1}
  - ReLU
  - {type: Dropout, p: 0.1}
decoder:
  - {type: ConvTranspose2d, out_channels: 1, kernel_size: 2, stride: 2}
""",
            DENOISING + ADAMW,
        ),
    ),
    "resnet": (
        (3, 8, 8),
        spec(
            "resnet",
            "3, 8, 8",
            """
conv1: {type: Conv2d, out_channels: 4, kernel_size: 3, padding: 1, bias: false}
bn1: BatchNorm2d
body:
  - for: {i: 3}
    type: Basic
pooled: {type: mean, dim: [2, 3]}
drop: {type: Dropout, p: 0.2}
fc: {type: Linear, out_features: 3}
""",
            CLASSIFIER + SGD + "  early_stopping: {monitor: val.loss, patience: 2}\n",
            transforms="RandomHorizontalFlip, {type: RandomErasing, p: 0.5}",
        )
        .replace("ema: {decay: 0.9}", "ema: {decay: 0.9, use_buffers: true}")
        .replace(
            "model:\n",
            """blocks:
  Basic:
    inputs: {x: [N, c, h, w]}
    layers:
      conv1: {type: Conv2d, out_channels: $c, kernel_size: 3, padding: 1, bias: false}
      bn1: BatchNorm2d
      act: relu
      conv2: {type: Conv2d, out_channels: $c, kernel_size: 3, padding: 1, bias: false}
      bn2: BatchNorm2d
      sum: {compute: bn2 + x}
      out: relu
model:
""",
            1,
        ),
    ),
}
"""The shape of a sample, and the spec."""


def write_data(folder: Path, shape: tuple[int, ...]) -> None:
    draw = np.random.default_rng(0)
    for name, count in (("train", 52), ("val", 20)):
        image = draw.normal(size=(count, *shape)).astype(np.float32)
        label = draw.integers(0, 3, count)
        target = image.reshape(count, -1)[:, :1] * 2
        np.savez(folder / f"{name}.npz", image=image, label=label, target=target)


TRAINING, EVALUATION = 7, 3
"""Batches of an epoch: 52 and 20 samples, eight at a time."""


def run_until(program: Any, folder: Path, batches: int | None) -> None:
    """Begin or go on with a run in a folder; kill the process when so many batches of any kind have been asked for."""
    if batches is not None:
        whole, left = Stream.batches, [batches]

        def counted(self: Stream, epoch: int, start: int = 0) -> Iterator[dict[str, Tensor]]:
            for batch in whole(self, epoch, start):
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                left[0] -= 1
                yield batch
            if left[0] == 0:  # after the last batch: at the end of an epoch, before its figures are written
                os.kill(os.getpid(), signal.SIGKILL)

        Stream.batches = counted  # type: ignore[method-assign]
    begun = (folder / "resolved.yaml").exists()
    train(program, **{"resume" if begun else "run_dir": folder}, progress="none")


def killed_after(seconds: float, work: Callable[[], object]) -> int:
    """Run something in a forked process that is killed after so long; 0 where it was through before."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str, workers: int, places: int, moments: int) -> int:
    """Runs that are killed once each, at random places or moments, against one that was not; the number of kills."""
    shape, text = FAMILIES[family]
    monkeypatch.chdir(tmp_path)
    for what in ("draw_curves", "leave_report"):
        monkeypatch.setattr(f"netspec.runtime.run.{what}", lambda *_: None)
    write_data(tmp_path, shape)
    (tmp_path / "spec.yaml").write_text(text.replace("WORKERS", str(workers)))
    program = netspec.compile(tmp_path / "spec.yaml")
    run_until(program, tmp_path / "whole", None)  # here, so that the children find everything imported
    draw, kills = random.Random(f"{family} {workers}"), 0
    began = time.monotonic()
    assert in_child(lambda: run_until(program, tmp_path / "timed", None)) == 0
    took = time.monotonic() - began
    for number in range(places + moments):
        folder = tmp_path / f"killed-{number}"
        if number < places:
            place = draw.randrange(1, 3 * (TRAINING + EVALUATION) + EVALUATION)
            assert in_child(lambda: run_until(program, folder, place)) == -signal.SIGKILL  # noqa: B023
            kills += 1
        else:
            status = killed_after(draw.uniform(0.1, 1) * took, lambda: run_until(program, folder, None))  # noqa: B023
            assert status in (0, -signal.SIGKILL)
            kills += status != 0
        assert in_child(lambda: run_until(program, folder, None)) == 0  # noqa: B023
        assert_same(tmp_path / "whole", folder)
        shutil.rmtree(folder)
    print(f"{family}, {workers} workers: {kills} kills")
    return kills


@pytest.mark.parametrize("family", FAMILIES)
def test_killed_and_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str) -> None:
    check(tmp_path, monkeypatch, family, 0, 2, 1)


def test_killed_and_resumed_with_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check(tmp_path, monkeypatch, "lenet", 2, 1, 1)


@pytest.mark.long
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("family", FAMILIES)
def test_killed_at_many_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str, workers: int) -> None:
    """200 in all at random batches, and some more at random moments."""
    assert check(tmp_path, monkeypatch, family, workers, 17, 6) >= 17


@pytest.mark.long
@pytest.mark.parametrize("place", [TRAINING, TRAINING + EVALUATION, TRAINING + 1])
def test_killed_at_the_end_of_an_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: int) -> None:
    """Right before an evaluation, right after it, and within it."""
    monkeypatch.setattr(random.Random, "randrange", lambda *_: place)
    check(tmp_path, monkeypatch, "resnet", 0, 1, 0)
