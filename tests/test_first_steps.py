"""What somebody who begins gets wrong, from the first spec to the first run, on a table and on digits of their own."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from netspec.cli import main

HOUSES = """\
netspec: 1
name: houses
model:
  inputs: {features: [N, 2]}
  layers:
    fc: {type: Linear, out_features: 1}
data:
  source: {type: CSV, path: houses.csv, target: price}
  split: {train: 0.8, val: 0.2}
train:
  epochs: 1
  loss: MSELoss
  optimizer: SGD
  metrics: [R2Score]
"""


@pytest.fixture
def houses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A table of forty houses, in a working directory of its own, and a spec for it."""
    monkeypatch.chdir(tmp_path)
    draw = random.Random(0)
    rows = [f"{draw.uniform(0, 1):.3f},{draw.randint(1, 6)},{draw.uniform(1, 9):.2f}" for _ in range(40)]
    Path("houses.csv").write_text("\n".join(["area,rooms,price", *rows]), encoding="utf-8")
    path = Path("houses.yaml")
    path.write_text(HOUSES, encoding="utf-8")
    return path


def train(path: Path, old: str, new: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What `train` says of the spec with a change; it has to fail."""
    assert old in HOUSES
    path.write_text(HOUSES.replace(old, new), encoding="utf-8")
    assert main(["train", str(path)]) in (1, 3)
    shown = capsys.readouterr()
    assert "Traceback" not in shown.err + shown.out
    return shown.err + shown.out


def test_a_table_of_another_width(houses: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Told before the first step, with the shape to write; it was a product of matrices that failed."""
    said = train(houses, "[N, 2]", "[N, 3]", capsys)
    assert (
        "error[NS913]: the model's input `features` takes [N, 3], and a batch of the field `features` is [N, 2]" in said
    )
    assert "`inputs: {features: [N, 2]}`" in said
    assert not list(Path("runs").rglob("checkpoints"))


def test_accuracy_of_prices(houses: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = train(houses, "R2Score", "Accuracy", capsys)
    assert "error[NS913]: Accuracy compares classes, and the target that it gets holds numbers" in said
