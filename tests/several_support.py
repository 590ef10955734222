"""What the tests of several processes share: a spec, its data, and processes that train it together."""

from __future__ import annotations

import os
import signal
import socket
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from netspec.runtime import checkpoint
from netspec.runtime.processes import found_processes, joined
from netspec.runtime.run import train

MODEL = """\
netspec: 1
name: small
model:
  inputs: {image: [N, 1, 2, 3]}
  layers:
    flat: Flatten
    hidden: {type: Linear, out_features: 16}
    act: ReLU
    out: {type: Linear, out_features: 3}
"""
TRAIN = """\
data:
  train: {source: {type: NumPy, path: train.npz}, transforms: [TRANSFORMS]}
  val: {source: {type: NumPy, path: val.npz}}
  global_batch_size: 8
  cache: CACHE
  workers: 0
train:
  epochs: 3
  seed: 3
  device: cpu
  tensorboard: false
  loss: CrossEntropyLoss
  metrics: [Accuracy]
  accumulate: 2
  clip_grad: 1.0
  ema: {decay: 0.9}
  optimizer: {type: SGD, lr: 0.1, momentum: 0.9}
  scheduler: {type: ReduceLROnPlateau, patience: 0, monitor: val.loss}
  checkpoint: {every: {steps: 3}, monitor: val.accuracy, mode: max}
"""
SHARDED = TRAIN.replace("  ema: {decay: 0.9}\n", "") + "  distribute: fsdp\n"
BLOCKS = """\
netspec: 1
name: small
blocks:
  Wide:
    inputs: {x: [N, C]}
    layers:
      hidden: {type: Linear, out_features: 17}
      norm: LayerNorm
      act: ReLU
      out: {type: Linear, out_features: $C}
model:
  inputs: {image: [N, 1, 2, 3]}
  layers:
    flat: Flatten
    one: Wide
    two: Wide
    out: {type: Linear, out_features: 3}
"""
NOISE = "{type: GaussianNoise, sigma: 0.1, clip: false}"


def write_spec(folder: Path, *, model: str = MODEL, train: str = TRAIN, streamed: bool = False) -> Path:
    """A spec with 77 samples to learn from and 21 to judge by: in batches of 8, the last ones are not whole."""
    draw = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for name, count in (("train", 77), ("val", 21)):
        image, label = draw.normal(size=(count, 1, 2, 3)).astype("float32"), draw.integers(0, 3, count)
        np.savez(folder / f"{name}.npz", image=image, label=label)
    text = train.replace("TRANSFORMS", NOISE if streamed else "").replace("CACHE", "false" if streamed else "auto")
    (folder / "spec.yaml").write_text(model + text, encoding="utf-8")
    return folder / "spec.yaml"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def together(
    count: int,
    work: Callable[[], int | None],
    *,
    within: float = 120,
    meanwhile: Callable[[list[int]], None] | None = None,
) -> list[int]:
    """Do something in so many forked processes that find each other as torchrun's do; their exit codes.

    meanwhile: gets their process ids. Those that have not ended in time are killed.
    """
    port, children = free_port(), []
    for rank in range(count):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count)}
                os.environ |= {"LOCAL_WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
                status = work() or 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        children.append(child)
    if meanwhile is not None:
        meanwhile(children)
    codes, deadline = dict.fromkeys(children, -signal.SIGALRM.value), time.monotonic() + within
    left = set(children)
    while left and time.monotonic() < deadline:
        for child in tuple(left):
            found, status = os.waitpid(child, os.WNOHANG)
            if found:
                codes[child] = os.waitstatus_to_exitcode(status)
                left.discard(child)
        time.sleep(0.02)
    for child in left:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return list(codes.values())


def one_group(work: Callable[[], int]) -> int:
    """Work that makes several runs, one after the other: all of them talk through one group."""
    with joined(found_processes(), torch.device("cpu")):
        return work()


def trained(count: int, spec: Path, folder: Path, *, resume: bool = False, **settings: Any) -> list[int]:
    """Train a spec in so many processes, or go on with a run; exit codes."""

    def work() -> int:
        where: Mapping[str, Any] = {"resume": folder} if resume else {"run_dir": folder}
        return train(spec, set=settings, progress="none", **where).exit_code

    return together(count, work)


def weights(folder: Path, step: int | None = None) -> dict[str, Tensor]:
    stored = checkpoint.stored(folder / "checkpoints")
    chosen = stored[-1] if step is None else next(one for one in stored if one.step == step)
    return checkpoint.load(chosen.path).model


def assert_close(one: Path, other: Path, within: float = 1e-6) -> None:
    """The weights that two runs end with, and their figures."""
    a, b = weights(one), weights(other)
    assert a.keys() == b.keys()
    for name, value in a.items():
        torch.testing.assert_close(b[name], value, rtol=0, atol=within)
