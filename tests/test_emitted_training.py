"""Fifty steps with emitted modules, in a process that has no netspec, and with those made from the specs: equal weights
to the last bit. Both start from the same seed, and what dropout draws is the same too.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import nn

import netspec

STEPS = 50

LOOP = '''\
"""The loop of both: four batches that take turns, SGD with momentum."""

import importlib.util
import json
import sys

import torch
from torch import nn


def train(model, inputs, targets, steps):
    torch.manual_seed(1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    model.train()
    for step in range(steps):
        output = model(inputs[step % len(inputs)])
        output = output.transpose(1, 2) if output.dim() == 3 else output
        loss = nn.functional.cross_entropy(output, targets[step % len(targets)])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


if __name__ == "__main__":
    from safetensors.torch import load_file, save_file

    torch.set_num_threads(1)
    for job in json.load(open(sys.argv[1])):
        spec = importlib.util.spec_from_file_location(job["name"], job["source"])
        emitted = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(emitted)
        torch.manual_seed(0)
        model = getattr(emitted, job["class"])(**job["arguments"])
        train(model, **load_file(job["batches"]), steps=job["steps"])
        save_file({name: value.clone() for name, value in model.state_dict().items()}, job["trained"])
    assert not any(name.partition(".")[0] == "netspec" for name in sys.modules)
'''

DROPLETS = """
netspec: 1
name: droplets
params: {width: 6, p: 0.3}
blocks:
  Unit:
    params: {width: int}
    inputs: {x: [N, C, H, W]}
    layers:
      conv: {type: Conv2d, out_channels: $width, kernel_size: 3, padding: 1}
      norm: BatchNorm2d
      act: {type: leaky_relu, negative_slope: 0.1}
      drop: {type: dropout, p: 0.2}
      sum: {compute: drop + x, if: $(C == width)}
model:
  inputs: {image: [N, 3, 8, 8]}
  layers:
    units: {type: Unit, width: $width, repeat: 3}
    noisy: {type: alpha_dropout, p: 0.1}
    maps: {type: Dropout2d, p: $p}
    pooled: {type: mean, dim: [2, 3]}
    fc: {type: Linear, out_features: 4}
"""
"""Dropout as a function and as a module, in blocks and outside."""

GPT = {"vocab_size": 11, "context": 12, "depth": 2, "num_heads": 2, "width": 16}
MODELS: dict[str, tuple[dict[str, Any], tuple[int, ...], tuple[int, ...], int]] = {
    "mnist": ({}, (8, 1, 28, 28), (8,), 10),
    "cifar10": ({}, (2, 3, 32, 32), (2,), 10),
    "lstm": ({"hidden": 8}, (8, 1, 8, 8), (8,), 10),
    "gpt": (GPT, (4, 12), (4, 12), 11),
    "transformer": ({"width": 16, "depth": 2}, (8, 1, 8, 8), (8,), 10),
    "unet": ({"widths": [4, 8, 8, 16, 16], "num_classes": 3}, (2, 3, 32, 32), (2, 32, 32), 3),
    "droplets": ({}, (4, 3, 8, 8), (4,), 4),
}
"""LeNet, ResNet-20, LSTM, GPT and so on: the parameters, the shapes of a batch and of its targets, how many classes."""


@cache
def compiled(name: str) -> netspec.Program:
    root = Path(__file__).resolve().parent.parent
    changed = {f"params.{parameter}": value for parameter, value in MODELS[name][0].items()}
    if name == "droplets":
        return netspec.compile(yaml.safe_load(DROPLETS))
    return netspec.compile(root / "specs" / f"{name}.yaml", changed)


def batches(name: str) -> dict[str, torch.Tensor]:
    _, inputs, targets, classes = MODELS[name]
    draw = torch.Generator().manual_seed(0)
    whole = name == "gpt"
    return {
        "inputs": torch.randint(classes, (4, *inputs), generator=draw)
        if whole
        else torch.rand((4, *inputs), generator=draw),
        "targets": torch.randint(classes, (4, *targets), generator=draw),
    }


@pytest.fixture(scope="module")
def emitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the weights that each emitted module ended with, all trained by one process."""
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("emitted")
    jobs = []
    for name in MODELS:
        source = compiled(name).source()
        job: dict[str, Any] = {"name": name, "steps": STEPS, "arguments": {}}
        job["class"] = re.findall(r"^class (\w+)\(nn\.\w+\)", source, re.MULTILINE)[-1]
        for what, ending in (("source", "py"), ("batches", "in"), ("trained", "out")):
            job[what] = str(folder / f"{name}.{ending}")
        Path(job["source"]).write_text(source, encoding="utf-8")
        save_file(batches(name), job["batches"])
        jobs.append(job)
    (folder / "loop.py").write_text(LOOP, encoding="utf-8")
    (folder / "jobs.json").write_text(json.dumps(jobs), encoding="utf-8")
    command = [sys.executable, "-I", folder / "loop.py", folder / "jobs.json"]
    child = subprocess.run(command, capture_output=True, text=True, check=False)
    assert child.returncode == 0, child.stderr
    return folder


@pytest.mark.parametrize("name", MODELS)
def test_the_emitted_module_trains_to_the_same_bits(name: str, emitted: Path) -> None:
    scope: dict[str, Any] = {"__name__": "loop"}
    exec(compile(LOOP, "loop.py", "exec"), scope)
    model: nn.Module = compiled(name).module(seed=0)
    start = {key: value.clone() for key, value in model.state_dict().items()}
    scope["train"](model, **batches(name), steps=STEPS)
    found, state = load_file(emitted / f"{name}.out"), model.state_dict()
    assert found.keys() == state.keys()
    for key, value in state.items():
        assert torch.equal(value, found[key]), key
        assert value.isfinite().all(), key
    moved = {key for key, value in state.items() if not torch.equal(value, start[key])}
    assert {key for key, _ in model.named_parameters()} <= moved
