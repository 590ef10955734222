"""Sharded weights go with what else a run has: each run in two processes is held against the same run in one."""

from __future__ import annotations

import csv
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch._dynamo  # imported before processes are forked, which spares each of them the time
import torch._functorch.aot_autograd
from several_support import BLOCKS, SHARDED, assert_close, one_group, together, trained, weights, write_spec
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from netspec.runtime.errors import RunError
from netspec.runtime.run import train


@pytest.fixture(autouse=True)
def no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than these runs."""
    monkeypatch.setattr("netspec.runtime.run.draw_curves", lambda *_: None)
    monkeypatch.setattr("netspec.runtime.run.leave_report", lambda *_: None)


def both(folder: Path, train: str, model: str = BLOCKS, within: float = 1e-6) -> None:
    """The run in one process and in two end with the same weights and the same figures."""
    spec = write_spec(folder, model=model, train=train)
    assert trained(1, spec, folder / "one") == [0]
    assert trained(2, spec, folder / "two") == [0, 0]
    assert_close(folder / "one", folder / "two", within)
    for one, other in zip(figures(folder / "one"), figures(folder / "two"), strict=True):
        assert other == pytest.approx(one, abs=within)


def figures(folder: Path) -> list[list[float]]:
    timed = ("seconds", "samples_per_second")
    with (folder / "metrics.csv").open(encoding="utf-8") as file:
        return [[float(value) for name, value in row.items() if name not in timed] for row in csv.DictReader(file)]


def test_an_average_and_frozen_parts_go_on_with_another_number(tmp_path: Path) -> None:
    """With a BatchNorm, whose statistics are averaged too, and a weight that two blocks share."""
    frozen = """\
  ema: {decay: 0.9, use_buffers: true}
  sync_batchnorm: true
  freeze: ["one.norm.*", "out.*"]
  unfreeze: {"out.*": {epochs: 1}, "one.norm.*": {steps: 7}}
"""
    tied = BLOCKS.replace("model:\n", "model:\n  tie: {two.hidden.weight: one.hidden.weight}\n")
    spec = write_spec(tmp_path, model=tied.replace("LayerNorm", "BatchNorm1d"), train=SHARDED + frozen)
    assert trained(1, spec, tmp_path / "one") == [0]
    assert trained(2, spec, tmp_path / "two", **{"train.epochs": 1}) == [0, 0]
    assert trained(3, spec, tmp_path / "two", resume=True) == [0, 0, 0]
    assert_close(tmp_path / "one", tmp_path / "two")


def test_the_mean_of_epochs_is_that_of_one_process(tmp_path: Path) -> None:
    text = SHARDED + "  sync_batchnorm: true\n  swa: {start: {epochs: 1}, swa_lr: 0.05}\n"
    both(tmp_path, text + '  freeze: ["one.*"]\n', BLOCKS.replace("LayerNorm", "BatchNorm1d"))


def test_fp16_with_its_factor(tmp_path: Path) -> None:
    """Sums over a batch are rounded to 16 bits, in each process its own."""
    both(tmp_path, SHARDED + "  precision: fp16\n", within=1e-3)


def test_blocks_are_compiled(tmp_path: Path) -> None:
    text = SHARDED.replace("epochs: 3", "epochs: 1") + "  compile: {backend: aot_eager, fullgraph: true}\n"
    spec = write_spec(tmp_path, model=BLOCKS, train=text)
    assert trained(1, spec, tmp_path / "one") == [0]

    def work() -> int:
        code = train(spec, run_dir=tmp_path / "two", progress="none").exit_code
        return code if torch._dynamo.utils.counters["stats"]["unique_graphs"] >= 2 else 9

    assert together(2, work) == [0, 0]
    assert_close(tmp_path / "one", tmp_path / "two")


@pytest.mark.long
def test_blocks_are_compiled_by_inductor(tmp_path: Path) -> None:
    both(tmp_path, SHARDED + "  compile: true\n")


MAPS = """\
netspec: 1
name: small
blocks:
  Wide:
    inputs: {x: [N, C, H, W]}
    layers:
      conv: {type: Conv2d, out_channels: 5, kernel_size: 1}
      norm: {type: GroupNorm, num_groups: 1}
      act: ReLU
model:
  inputs: {image: [N, 1, 2, 3]}
  layers:
    one: Wide
    two: Wide
    pool: {type: AdaptiveAvgPool2d, output_size: 1}
    flat: Flatten
    out: {type: Linear, out_features: 3}
"""
SEEN = """\
  tensorboard: {histograms: {epochs: 1}, images: {epochs: 1}, embeddings: true, pr_curves: true, confusion: true}
  monitor:
    every: 2
    activations: ["one*"]
    inputs: [two]
    gradients: [two]
    feature_maps: [one.conv]
    parameters: ["*"]
    cam: {every: {epochs: 1}, images: 2, method: cam}
"""


def test_weights_and_gradients_are_seen_whole(tmp_path: Path) -> None:
    for plain in ("  tensorboard: false\n", "  accumulate: 2\n", "  clip_grad: 1.0\n"):
        assert plain in SHARDED
    text = (
        SHARDED.replace("  tensorboard: false\n", "").replace("  accumulate: 2\n", "").replace("  clip_grad: 1.0\n", "")
    )
    both(tmp_path, text.replace("epochs: 3", "epochs: 1") + SEEN, MAPS)
    one, two = (EventAccumulator(str(tmp_path / name / "tensorboard"), {"histograms": 0}) for name in ("one", "two"))
    one.Reload()
    two.Reload()
    for kind in ("scalars", "histograms", "images"):
        assert set(one.Tags()[kind]) == set(two.Tags()[kind])
    of_weights = [tag for tag in one.Tags()["histograms"] if tag.startswith(("weights", "parameters"))]
    assert len(of_weights) == 3 * len(weights(tmp_path / "one"))
    for tag in of_weights:
        for a, b in zip(one.Histograms(tag), two.Histograms(tag), strict=True):
            for name in ("min", "max", "num", "sum", "sum_squares"):
                assert getattr(b.histogram_value, name) == pytest.approx(getattr(a.histogram_value, name), abs=1e-5)
    for tag in (tag for tag in one.Tags()["scalars"] if tag.startswith("parameters")):
        for a, b in zip(one.Scalars(tag), two.Scalars(tag), strict=True):
            assert b.value == pytest.approx(a.value, abs=1e-6)


@pytest.mark.parametrize("way", ["ddp", "fsdp"])
def test_where_a_number_is_not_finite_is_found_by_all(tmp_path: Path, way: str) -> None:
    """One process alone has the sample that spoils it, and a loss whose count all ask each other for."""
    weighed = "  withheld_limit: 1\n  loss: {type: CrossEntropyLoss, weight: [1.0, 5.0, 0.2]}\n"
    text = SHARDED.replace("  loss: CrossEntropyLoss\n", weighed).replace("fsdp", way)
    rooted = BLOCKS.replace("    one: Wide\n", "    rooted: sqrt\n    one: Wide\n")
    cases = {
        "large": (
            BLOCKS,
            1.0,
            3e38,
            r"batch \d of 10: the first layer whose output is not finite is `one.hidden` \(Linear\)",
        ),
        "root": (rooted, 1.0, -1.0, r"the first output that is not finite is that of `sqrt` \(model.py, line \d+\)"),
        "nan": (
            BLOCKS,
            1.0,
            float("nan"),
            r"the field `image` of the batch itself holds .*: .*\b4[12]\b",
        ),
        "val": (BLOCKS, 1.0, 3e38, "from batch 1 of 3 on: the first layer whose output is not finite is `one.hidden`"),
    }
    specs = {name: write_spec(tmp_path / name, model=case[0], train=text) for name, case in cases.items()}
    for name, (_, rest, bad, _) in cases.items():
        file = tmp_path / name / ("val.npz" if name == "val" else "train.npz")
        with np.load(file) as held:
            arrays = dict(held)
        if name != "val":
            arrays["image"][:] = rest
        arrays["image"][6 if name == "val" else 41] = bad
        np.savez(file, **arrays)

    def work() -> int:
        for name, spec in specs.items():
            said: list[str] = []
            try:
                train(spec, run_dir=tmp_path / name / "run", set={"train.epochs": 1}, progress="plain", say=said.append)
            except RunError as error:
                said.append(error.message)
            first = os.environ["RANK"] == "0"
            found = re.search(cases[name][3], "\n".join(said))
            if not (found or (name == "val" and not first)):
                print(name, said)
                return 9
        return 0

    assert together(2, lambda: one_group(work)) == [0, 0]
