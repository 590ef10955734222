"""Steps a second of `netspec train specs/digits.yaml` against a loop over a DataLoader as one writes it by hand.

    python benchmarks/digits.py

The same module, data, batch size, optimizer and schedule, one thread, interleaved rounds, medians. Both add up the
loss and measure the validation split once an epoch; netspec also keeps its run directory, the other one nothing.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import netspec

SPEC = Path(__file__).resolve().parent.parent / "specs" / "digits.yaml"


def by_hand(program: netspec.Program, epochs: int) -> float:
    """Steps a second of a plain loop."""
    images, labels = load_digits(return_X_y=True)
    x = torch.tensor(images / 16, dtype=torch.float32).view(-1, 1, 8, 8)
    y = torch.tensor(labels)
    first, second = round(len(x) * 0.7), round(len(x) * 0.8)
    loader = DataLoader(TensorDataset(x[:first], y[:first]), batch_size=64, shuffle=True)
    held_out = DataLoader(TensorDataset(x[first:second], y[first:second]), batch_size=64)
    model = program.module(seed=0)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs)
    steps = 0
    start = time.perf_counter()
    for _ in range(epochs):
        total = torch.zeros(())
        model.train()
        for image, label in loader:
            optimizer.zero_grad()
            loss = criterion(model(image), label)
            loss.backward()
            optimizer.step()
            total += loss.detach()
            steps += 1
        scheduler.step()
        model.eval()
        right = torch.zeros((), dtype=torch.int64)
        with torch.no_grad():
            for image, label in held_out:
                right += (model(image).argmax(1) == label).sum()
        total.item(), right.item()
    return steps / (time.perf_counter() - start)


def by_netspec(epochs: int) -> float:
    """Steps a second of `netspec train` with its defaults, on the CPU."""
    program = netspec.compile(SPEC, set={"train.epochs": epochs, "train.threads": 1, "train.device": "cpu"})
    with tempfile.TemporaryDirectory() as folder:
        run = netspec.train(program, run_dir=Path(folder) / "run", progress="none")
    return run.steps / run.seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=10)
    args = parser.parse_args()
    torch.set_num_threads(1)
    program = netspec.compile(SPEC)
    hand, ours = [], []
    by_netspec(1)
    for _ in range(args.rounds):
        hand.append(by_hand(program, args.epochs))
        ours.append(by_netspec(args.epochs))
    ratio = median(ours) / median(hand)
    print(f"a DataLoader loop by hand  {median(hand):8.1f} steps/s")
    print(f"netspec train              {median(ours):8.1f} steps/s")
    print(f"        ratio {ratio:.2f}, target 1.0 {'met' if ratio >= 1 else 'MISSED'}")
    return 0 if ratio >= 1 else 1


if __name__ == "__main__":
    sys.exit(main())
