"""The time from the start of a process to the end of its first training step: `netspec train` against a script that
does no more than that.

    python benchmarks/first_step.py [--rounds 9]

Whole processes, each new, in turn; the median of the rounds' ratios, of the time on the clock and of the processor
time. Both read the same file, build the same model with the same fused optimizer, and make one step over one batch.
netspec also reads and checks the spec, compiles it, writes the model's source and the run's folder, and imports what it
needs for that.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from children import environment

BAR = 1.15
HEAVY = ("matplotlib", "tensorboard", "rich", "jsonschema", "networkx", "sklearn", "pandas", "torchvision", "PIL")
"""What the spec of this benchmark does not ask for, and must not be there before the first step."""

SPEC = """\
netspec: 1
name: first
model:
  inputs: {x: [N, 64]}
  layers:
    layers:
      - {type: Linear, out_features: 128}
      - ReLU
      - {type: Linear, out_features: 128}
      - ReLU
      - {type: Linear, out_features: 10}
data:
  train: {source: {type: NumPy, path: data.npz, fields: {x: x, label: label}, classes: [a, b, c, d, e, f, g, h, i, j]}}
  batch_size: 64
train:
  epochs: 1
  loss: CrossEntropyLoss
  optimizer: {type: SGD, lr: 0.05, momentum: 0.9}
  device: cpu
"""

DATA = """\
import numpy
random = numpy.random.default_rng(0)
x = random.standard_normal((6400, 64), dtype=numpy.float32)
numpy.savez("data.npz", x=x, label=random.integers(0, 10, 6400))
"""

END = """\
def end():
    import json, os, sys, time
    loaded = [name for name in {heavy} if name in sys.modules]
    print(json.dumps({{"at": time.time(), "processor": time.process_time(), "loaded": loaded}}), flush=True)
    os._exit(0)
"""

BY_HAND = """
import numpy
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10))
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, fused=True)
data = numpy.load("data.npz")
x, label = torch.from_numpy(data["x"]), torch.from_numpy(data["label"])
for places in torch.randperm(len(x)).split(64):
    loss = criterion(model(x[places]), label[places])
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    end()
"""

BY_NETSPEC = """
import sys
sys.argv = ["netspec", "train", "spec.yaml", "--run-dir", sys.argv[1]]
from netspec.cli import main
from netspec.runtime import loop

real = loop.bare_step
def watched(optimizer):
    step = real(optimizer)
    def ending():
        step()
        end()
    return ending
loop.bare_step = watched
main()
"""


def measure(folder: Path, script: str, turn: int) -> tuple[float, float, list[str]]:
    """Seconds from the start of a process to its first step, those of the processor, and what was loaded of `HEAVY`."""
    command = [sys.executable, "-c", END.format(heavy=HEAVY) + script, f"run-{turn}"]
    start = time.time()
    done = subprocess.run(
        command, cwd=folder, check=True, capture_output=True, text=True, env=environment(f"{folder}/bytecode")
    )
    said = json.loads(done.stdout.splitlines()[-1])
    return said["at"] - start, said["processor"], said["loaded"]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    print(f"{len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f}")
    ways = {"netspec train": BY_NETSPEC, "by hand": BY_HAND}
    found: dict[str, list[tuple[float, float, list[str]]]] = {name: [] for name in ways}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "spec.yaml").write_text(SPEC, encoding="utf-8")
        subprocess.run([sys.executable, "-c", DATA], cwd=folder, check=True)
        for turn in range(args.rounds + 1):
            for name, script in ways.items() if turn % 2 else reversed(ways.items()):
                one = measure(folder, script, turn)
                if turn:  # the first writes bytecode
                    found[name].append(one)
    ours, theirs = found.values()
    for name, times in found.items():
        print(f"{name:<14} {median(t[0] for t in times):6.2f} s, {median(t[1] for t in times):6.2f} s of the processor")
    ratio = median(a[0] / b[0] for a, b in zip(ours, theirs, strict=True))
    processor = median(a[1] / b[1] for a, b in zip(ours, theirs, strict=True))
    print(f"ratio {ratio:.2f}, processor {processor:.2f}; bar {BAR} {'met' if ratio <= BAR else 'MISSED'}")
    unasked = sorted({name for one in ours for name in one[2]})
    print(f"loaded unasked: {', '.join(unasked) or 'nothing'}; load {os.getloadavg()[0]:.1f}")
    return 0 if ratio <= BAR and not unasked else 1


if __name__ == "__main__":
    sys.exit(main())
