"""How long training stands still for a checkpoint, against the copy of the state that it cannot do without.

    python benchmarks/checkpoint.py [--megabytes 200] [--saves 30]

A run with AdamW, so that a third of the state is weights and two thirds the optimizer's memory, saves every few steps.
The stall is the time in which the loop makes no step: the copy, and waiting for the thread that writes where it has not
done with the last one. Beside it, in turn, the state is copied tensor by tensor with `clone`. The writing goes on
beside the steps, so their time while it does is printed as well, against the time of the others.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

import numpy as np
import torch

import netspec
from netspec.runtime import epoch, loop
from netspec.runtime.job import Job
from netspec.runtime.objective import Terms

BAR = 1.2


def program(folder: Path, megabytes: int, steps: int, every: int) -> netspec.Program:
    """Linear layers whose weights and two moments take about so many megabytes."""
    layers = 8
    width = int((megabytes * 1e6 / 3 / 4 / layers) ** 0.5)
    random = np.random.default_rng(0)
    x = random.standard_normal((64, width), dtype=np.float32)
    np.savez(folder / "data.npz", x=x, label=random.integers(0, 10, 64))
    body = [layer for _ in range(layers) for layer in ({"type": "Linear", "out_features": width}, "ReLU")]
    return netspec.compile(
        {
            "netspec": 1,
            "name": "checkpoint",
            "model": {"inputs": {"x": ["N", width]}, "layers": [*body, {"type": "Linear", "out_features": 10}]},
            "data": {
                "train": {
                    "source": {
                        "type": "NumPy",
                        "path": str(folder / "data.npz"),
                        "fields": {"x": "x", "label": "label"},
                        "classes": [str(i) for i in range(10)],
                    }
                },
                "batch_size": 4,
            },
            "train": {
                "steps": steps,
                "loss": "CrossEntropyLoss",
                "optimizer": {"type": "AdamW", "lr": 1e-3},
                "device": "cpu",
                "threads": 1,
                "tensorboard": False,
                "checkpoint": {"every": {"steps": every}},
            },
        }
    )


def tensors(value: Any) -> list[torch.Tensor]:
    """All tensors of a tree."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        return [tensor for item in value.values() for tensor in tensors(item)]
    if isinstance(value, list | tuple):
        return [tensor for item in value for tensor in tensors(item)]
    return []


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--saves", type=int, default=30)
    parser.add_argument("--every", type=int, default=60, help="steps between two, in which the last one gets written")
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, {len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f}")
    stalls: list[float] = []
    copies: list[float] = []
    clones: list[float] = []
    busy: list[float] = []
    idle: list[float] = []
    sizes: list[int] = []
    save, take, forward = epoch.save, epoch.take, Terms.forward
    last = [0.0, False]

    def taking(job: Job) -> Any:
        begin = time.perf_counter()
        taken = take(job)
        copies.append(time.perf_counter() - begin)
        return taken

    def saving(job: Job) -> None:
        live = [*tensors(job.objective.model.state_dict()), *tensors(job.optimizer.state_dict()["state"])]
        first = len(stalls) % 2 == 1  # the one that comes second finds the caches warm
        if first:
            clones.append(cloned(live))
        begin = time.perf_counter()
        save(job)
        stalls.append(time.perf_counter() - begin)
        if not first:
            clones.append(cloned(live))
        sizes.append(sum(tensor.nbytes for tensor in live))
        last[0] = 0.0

    def cloned(live: list[torch.Tensor]) -> float:
        begin = time.perf_counter()
        kept = [tensor.clone() for tensor in live]
        spent = time.perf_counter() - begin
        del kept
        return spent

    jobs: list[Job] = []

    def stepping(self: Terms, batch: Any) -> Any:
        now = time.perf_counter()
        if last[0]:
            (busy if last[1] else idle).append(now - last[0])
        thread = jobs[0].saver.thread
        last[:] = now, thread is not None and thread.is_alive()
        return forward(self, batch)

    def fitting(job: Job) -> None:
        jobs.append(job)
        loop.fit(job)

    with (
        tempfile.TemporaryDirectory() as place,
        mock.patch.object(loop, "save", saving),
        mock.patch.object(epoch, "save", saving),
        mock.patch.object(epoch, "take", taking),
        mock.patch.object(Terms, "forward", stepping),
        mock.patch("netspec.runtime.run.fit", fitting),
    ):
        made = program(Path(place), args.megabytes, args.saves * args.every + 1, args.every)
        netspec.train(made, run_dir=Path(place) / "run", progress="none")
    ratio = median(stall / clone for stall, clone in zip(stalls, clones, strict=True))
    own = median(stall / copy for stall, copy in zip(stalls, copies, strict=True))
    print(f"{sizes[0] / 1e6:.0f} MB of weights and memory, {len(stalls)} saves")
    print(f"stall {median(stalls) * 1e3:.1f} ms, its copy {median(copies) * 1e3:.1f} ms ({own:.2f} x)")
    print(f"clone of the same tensors {median(clones) * 1e3:.1f} ms")
    print(f"stall {ratio:.2f} x clone; bar {BAR} {'met' if ratio <= BAR else 'MISSED'}")
    if busy and idle:
        print(f"a step {median(idle) * 1e3:.1f} ms, while a checkpoint is written {median(busy) * 1e3:.1f} ms")
    print(f"load {os.getloadavg()[0]:.1f}")
    return 0 if ratio <= BAR else 1


if __name__ == "__main__":
    sys.exit(main())
