"""The time of one training step: netspec with its defaults, loops written by hand, and other frameworks where they are
installed.

    python benchmarks/overhead.py [--rounds 15] [--models mlp] [--peers]

One process, one thread, batches of 64, the same module, data, loss and seed. The contenders take turns, forwards in one
round and backwards in the next; what is compared is the median of the rounds' ratios, once of the time on the clock and
once of the processor time of the process, which others on the machine disturb less. Two loops stand for what one writes
by hand: over a `DataLoader` with an optimizer's defaults, and over tensors in memory with a fused optimizer, which is
the data path that netspec takes for data of this size. netspec logs every 50 steps, writes TensorBoard's files, checks
that all is finite and keeps checkpoints; the loops sum the loss and do nothing else. Its time is that of whole runs,
from the first batch to the last checkpoint on the disk.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import netspec
from netspec.runtime.job import Job
from netspec.runtime.loop import fit

BATCH = 64
SAMPLES = 6400
EPOCHS = {"logistic": 50, "mlp": 20, "lenet": 8}
"""Of a hundred steps each."""
RATE = 0.05

LENET = {
    "features": [
        {"type": "Conv2d", "out_channels": 6, "kernel_size": 5, "padding": 2},
        "ReLU",
        {"type": "MaxPool2d", "kernel_size": 2},
        {"type": "Conv2d", "out_channels": 16, "kernel_size": 5},
        "ReLU",
        {"type": "MaxPool2d", "kernel_size": 2},
    ],
    "classifier": [
        "Flatten",
        {"type": "Linear", "out_features": 120},
        "ReLU",
        {"type": "Linear", "out_features": 84},
        "ReLU",
        {"type": "Linear", "out_features": 10},
    ],
}
MODELS: dict[str, tuple[list[Any], Any, float, float]] = {
    "logistic": (["N", 64], {"fc": {"type": "Linear", "out_features": 10}}, 0.60, 1.05),
    "mlp": (
        ["N", 64],
        {
            "layers": [
                {"type": "Linear", "out_features": 128},
                "ReLU",
                {"type": "Linear", "out_features": 128},
                "ReLU",
                {"type": "Linear", "out_features": 10},
            ]
        },
        0.70,
        1.03,
    ),
    "lenet": (["N", 1, 28, 28], LENET, 1.00, 1.02),
}
"""Input, layers, and the bars: against the DataLoader loop, and against the loop over tensors in memory."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds: on the clock, and of the processor in all threads of this process."""

    wall: float
    processor: float


class Clock:
    """Runs from when it is made, or started."""

    def __init__(self) -> None:
        self.end: tuple[float, float] | None = None
        self.start()

    def start(self) -> None:
        self.begin = time.perf_counter(), time.process_time()

    def stop(self) -> None:
        self.end = time.perf_counter(), time.process_time()

    def spent(self) -> tuple[float, float]:
        if self.end is None:
            self.stop()
        assert self.end is not None
        return self.end[0] - self.begin[0], self.end[1] - self.begin[1]


def per_step(spent: tuple[float, float], steps: int) -> Cost:
    return Cost(spent[0] / steps, spent[1] / steps)


class Case:
    """One model with its data, and every way to train it."""

    def __init__(self, name: str, folder: Path) -> None:
        shape, layers, self.bar_loader, self.bar_resident = MODELS[name]
        self.epochs = EPOCHS[name]
        random = np.random.default_rng(0)
        arrays = {
            "x": random.standard_normal((SAMPLES, *shape[1:]), dtype=np.float32),
            "label": random.integers(0, 10, SAMPLES),
        }
        file = folder / f"{name}.npz"
        np.savez(file, **arrays)
        self.x, self.y = torch.tensor(arrays["x"]), torch.tensor(arrays["label"])
        self.folder = folder
        classes = [str(i) for i in range(10)]
        self.program = netspec.compile(
            {
                "netspec": 1,
                "name": name,
                "model": {"inputs": {"x": shape}, "layers": layers},
                "data": {
                    "train": {"source": {"type": "NumPy", "path": str(file), "fields": {"x": "x", "label": "label"},
                                         "classes": classes}},
                    "batch_size": BATCH,
                },
                "train": {
                    "epochs": self.epochs,
                    "loss": "CrossEntropyLoss",
                    "optimizer": {"type": "SGD", "lr": RATE, "momentum": 0.9},
                    "device": "cpu",
                    "threads": 1,
                    "log_every": 50,
                },
            }
        )  # fmt: skip

    def model(self) -> nn.Module:
        return self.program.module(seed=0)

    def loader(self) -> DataLoader[tuple[Tensor, ...]]:
        return DataLoader(TensorDataset(self.x, self.y), batch_size=BATCH, shuffle=True)

    # Each gives what a step costs.

    def by_netspec(self) -> Cost:
        costs: list[tuple[float, float]] = []

        def timed(job: Job) -> None:
            clock = Clock()
            fit(job)
            costs.append(clock.spent())

        with tempfile.TemporaryDirectory(dir=self.folder) as place, mock.patch("netspec.runtime.run.fit", timed):
            run = netspec.train(self.program, run_dir=Path(place) / "run", progress="none")
        return per_step(costs[0], run.steps)

    def by_loader(self) -> Cost:
        model, criterion = self.model(), nn.CrossEntropyLoss()
        optimizer = torch.optim.SGD(model.parameters(), lr=RATE, momentum=0.9)
        loader, total, steps = self.loader(), torch.zeros(()), 0
        clock = Clock()
        for _ in range(self.epochs):
            for x, label in loader:
                optimizer.zero_grad()
                loss = criterion(model(x), label)
                loss.backward()
                optimizer.step()
                total += loss.detach()
                steps += 1
        return per_step(clock.spent(), steps)

    def by_tensors(self) -> Cost:
        model, criterion = self.model(), nn.CrossEntropyLoss()
        optimizer = torch.optim.SGD(model.parameters(), lr=RATE, momentum=0.9, fused=True)
        total, steps = torch.zeros(()), 0
        clock = Clock()
        for _ in range(self.epochs):
            for places in torch.randperm(SAMPLES).split(BATCH):
                # Faster than `self.x[places]`.
                x, label = self.x.index_select(0, places), self.y.index_select(0, places)
                loss = criterion(model(x), label)
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
                total += loss.detach()
                steps += 1
        return per_step(clock.spent(), steps)

    def by_lightning(self) -> Cost:
        import lightning

        case = self

        class Module(lightning.LightningModule):
            def __init__(self) -> None:
                super().__init__()
                self.model, self.criterion = case.model(), nn.CrossEntropyLoss()

            def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
                loss = self.criterion(self.model(batch[0]), batch[1])
                self.log("loss", loss)
                return loss

            def configure_optimizers(self) -> torch.optim.Optimizer:
                return torch.optim.SGD(self.parameters(), lr=RATE, momentum=0.9)

        clock = Clock()

        class Watch(lightning.Callback):
            def on_train_start(self, *_: Any) -> None:
                clock.start()

            def on_train_end(self, *_: Any) -> None:
                clock.stop()

        with tempfile.TemporaryDirectory(dir=self.folder) as place:
            trainer = lightning.Trainer(
                max_epochs=self.epochs,
                accelerator="cpu",
                devices=1,
                default_root_dir=place,
                log_every_n_steps=50,
                enable_progress_bar=False,
                enable_model_summary=False,
                callbacks=[Watch()],
            )
            trainer.fit(Module(), self.loader())
        return per_step(clock.spent(), trainer.global_step)

    def by_accelerate(self) -> Cost:
        from accelerate import Accelerator

        accelerator = Accelerator(cpu=True)
        model, criterion = self.model(), nn.CrossEntropyLoss()
        optimizer = torch.optim.SGD(model.parameters(), lr=RATE, momentum=0.9)
        model, optimizer, loader = accelerator.prepare(model, optimizer, self.loader())
        total, steps = torch.zeros(()), 0
        clock = Clock()
        for _ in range(self.epochs):
            for x, label in loader:
                optimizer.zero_grad()
                loss = criterion(model(x), label)
                accelerator.backward(loss)
                optimizer.step()
                total += loss.detach()
                steps += 1
        return per_step(clock.spent(), steps)

    def by_ignite(self) -> Cost:
        from ignite.engine import create_supervised_trainer

        model, criterion = self.model(), nn.CrossEntropyLoss()
        optimizer = torch.optim.SGD(model.parameters(), lr=RATE, momentum=0.9)
        trainer = create_supervised_trainer(
            model, optimizer, criterion, output_transform=lambda *given: given[-1].detach()
        )
        clock = Clock()
        state = trainer.run(self.loader(), max_epochs=self.epochs)
        return per_step(clock.spent(), state.iteration)

    def by_transformers(self) -> Cost:
        from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

        case, clock = self, Clock()

        class Wrapped(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.model, self.criterion = case.model(), nn.CrossEntropyLoss()

            def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:  # so its collator calls them
                return {"loss": self.criterion(self.model(x), labels)}

        class Watch(TrainerCallback):
            def on_train_begin(self, *_: Any, **__: Any) -> None:
                clock.start()

            def on_train_end(self, *_: Any, **__: Any) -> None:
                clock.stop()

        rows = [{"x": x, "label": label} for x, label in zip(self.x, self.y, strict=True)]
        with tempfile.TemporaryDirectory(dir=self.folder) as place:
            arguments = TrainingArguments(
                output_dir=place,
                num_train_epochs=self.epochs,
                per_device_train_batch_size=BATCH,
                logging_steps=50,
                max_grad_norm=0.0,  # the others clip nothing either
                lr_scheduler_type="constant",
                save_strategy="no",
                report_to=[],
                disable_tqdm=True,
                use_cpu=True,
                remove_unused_columns=False,
            )
            model = Wrapped()
            optimizer = torch.optim.SGD(model.parameters(), lr=RATE, momentum=0.9)
            trainer = Trainer(model, arguments, train_dataset=rows, optimizers=(optimizer, None), callbacks=[Watch()])
            trainer.remove_callback(PrinterCallback)
            trainer.train()
        return per_step(clock.spent(), trainer.state.global_step)


OURS = ("by_netspec", "by_loader", "by_tensors")
PEERS = {
    "by_lightning": "lightning",
    "by_accelerate": "accelerate",
    "by_ignite": "ignite",
    "by_transformers": "transformers",
}


def installed(module: str) -> bool:
    from importlib.util import find_spec

    return find_spec(module) is not None


def load() -> str:
    """How busy the machine is: this benchmark alone makes 1."""
    return f"load {os.getloadavg()[0]:.1f}"


def compare(name: str, rounds: int, peers: bool, folder: Path) -> bool:
    """Print the medians and ratios of one model; True where its bars are met."""
    case = Case(name, folder)
    ways = [*OURS, *(way for way, module in PEERS.items() if peers and installed(module))]
    costs: dict[str, list[Cost]] = {way: [] for way in ways}
    for turn in range(rounds + 1):
        for way in ways if turn % 2 else reversed(ways):
            measure: Callable[[], Cost] = getattr(case, way)
            found = measure()
            if turn:  # the first round warms up
                costs[way].append(found)
    ours = costs["by_netspec"]
    print(
        f"{name}: {median(one.wall for one in ours) * 1e6:.0f} µs a step with netspec, "
        f"{median(one.processor for one in ours) * 1e6:.0f} µs of the processor"
    )
    good = True
    bars = {
        "by_loader": case.bar_loader,
        "by_tensors": case.bar_resident,
        "by_lightning": 0.5 if name == "mlp" else None,
    }
    for way in ways[1:]:
        pairs, bar = list(zip(ours, costs[way], strict=True)), bars.get(way)
        ratio = median(a.wall / b.wall for a, b in pairs)
        processor = median(a.processor / b.processor for a, b in pairs)
        said = "" if bar is None else f"   bar {bar:.2f} {'met' if ratio <= bar else 'MISSED'}"
        good = good and (bar is None or ratio <= bar)
        wall = median(one.wall for one in costs[way]) * 1e6
        print(f"    {ratio:.2f} x {way.removeprefix('by_'):<13}{wall:6.0f} µs   processor {processor:.2f}{said}")
    return good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--peers", action="store_true", help="measure the other frameworks that are installed, too")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.peers:
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        for module in PEERS.values():
            if not installed(module):
                print(f"{module} is not installed here, and left out")
    print(f"torch {torch.__version__}, {len(os.sched_getaffinity(0))} cores, {load()}")
    with tempfile.TemporaryDirectory() as place:
        met = [compare(name, args.rounds, args.peers, Path(place)) for name in args.models]
    print(f"afterwards {load()}")
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
