"""How long a training step takes with one CPU thread and with more, and which number a run would take by itself.

    python benchmarks/threads.py [--rounds 9]

An MLP, LeNet and ResNet-18, with fused SGD, in this process; the numbers of threads take turns. On a machine that
others use as well the second thread often waits for a core, which is what the medians of the ratios then show; the best
of the rounds is nearer to a quiet one.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from netspec.runtime import device
from netspec.runtime.cores import lent_cores  # before torch: idle threads are to sleep

import torch  # isort: skip
from torch import nn  # isort: skip

import netspec  # isort: skip

SPECS = Path(__file__).resolve().parent.parent / "specs"
MLP = {
    "netspec": 1,
    "name": "mlp",
    "model": {
        "inputs": {"x": ["N", 64]},
        "layers": [
            {"type": "Linear", "out_features": 128},
            "ReLU",
            {"type": "Linear", "out_features": 128},
            "ReLU",
            {"type": "Linear", "out_features": 10},
        ],
    },
}
CASES: dict[str, tuple[Any, tuple[int, ...], int]] = {
    "mlp": (MLP, (64, 64), 200),
    "lenet (digits)": (SPECS / "digits.yaml", (64, 1, 8, 8), 10),
    "resnet18, 64 x 64": (SPECS / "imagenet" / "resnet18.yaml", (16, 3, 64, 64), 1),
}
"""The spec, the shape of a batch, steps a measurement."""


def stepper(spec: Any, shape: tuple[int, ...]) -> tuple[nn.Module, torch.Tensor, Callable[[], None]]:
    model = netspec.compile(spec).module(seed=0)
    x = torch.randn(shape)
    label = torch.randint(0, 10, (shape[0],))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, fused=True)

    def step() -> None:
        criterion(model(x), label).backward()
        optimizer.step()
        optimizer.zero_grad()

    return model, x, step


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    lent = lent_cores()
    numbers = sorted({1, 2, lent})
    print(f"torch {torch.__version__}, {lent} cores lent, load {os.getloadavg()[0]:.1f}")
    for name, (spec, shape, steps) in CASES.items():
        model, x, step = stepper(spec, shape)
        times: dict[int, list[float]] = {number: [] for number in numbers}
        for turn in range(args.rounds + 1):
            for number in numbers if turn % 2 else reversed(numbers):
                torch.set_num_threads(number)
                step()
                begin = time.perf_counter()
                for _ in range(steps):
                    step()
                if turn:  # the first round warms up
                    times[number].append((time.perf_counter() - begin) / steps)
        torch.set_num_threads(lent)
        flops = device.step_flops(model, lambda model=model, x=x: model(x))  # type: ignore[misc]
        chosen = device.set_threads(None, torch.device("cpu"), lambda flops=flops: flops)  # type: ignore[misc]
        print(f"{name}: {flops / 1e9:.3g} GFLOP a step, a run takes {chosen} thread{'s' * (chosen > 1)}")
        for number in numbers:
            ratio = median(a / b for a, b in zip(times[number], times[1], strict=True))
            best = min(times[number]) / min(times[1])
            print(
                f"    {number} thread{'s' * (number > 1)} {median(times[number]) * 1e3:9.2f} ms   {ratio:.2f} x"
                f"   at best {min(times[number]) * 1e3:.2f} ms   {best:.2f} x"
            )
    print(f"load {os.getloadavg()[0]:.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
