"""`weight: balanced` on a loss: a weight for each class from the counts of the training data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight

import netspec
from netspec.runtime.checkpoint import newest
from netspec.runtime.evaluate import evaluate
from netspec.runtime.run import train

TEXT = """\
netspec: 1
name: net
model:
  inputs: {features: [N, 3]}
  layers: {head: {type: Linear, out_features: 3}}
data:
  source: {type: NumPy, path: x.npz}
  split: {train: 60, val: rest, shuffle: false}
  batch_size: 60
train:
  epochs: 1
  device: cpu
  tensorboard: false
  loss: LOSS
  optimizer: {type: SGD, lr: 0.1}
"""


def compiled(folder: Path, loss: str) -> Any:
    (folder / "spec.yaml").write_text(TEXT.replace("LOSS", loss))
    return netspec.compile(folder / "spec.yaml")


@pytest.fixture
def labels(tmp_path: Path) -> np.ndarray[Any, Any]:
    """Three classes, the last ten samples of another mixture."""
    draw = np.random.default_rng(0)
    found = np.concatenate([draw.choice(3, 60, p=[0.6, 0.3, 0.1]), draw.choice(3, 10)])
    np.savez(tmp_path / "x.npz", features=draw.normal(size=(70, 3)).astype(np.float32), label=found)
    return found


@pytest.mark.parametrize(
    "loss", ["{type: CrossEntropyLoss, weight: balanced}", "{main: {type: CrossEntropyLoss, weight: balanced}}"]
)
def test_weights_are_scikit_learns(loss: str, labels: np.ndarray[Any, Any], tmp_path: Path) -> None:
    program = compiled(tmp_path, loss)
    run = train(program, run_dir=tmp_path / "run", progress="none")
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels[:60]).tolist()
    kept = newest(tmp_path / "run" / "checkpoints", print).state["data"]["class_weights"]["label"]
    assert kept == pytest.approx(expected)
    # The loss is torch's with these weights, in training and in an evaluation that has not seen the training data.
    stated = loss.replace("balanced", str(expected))
    other = train(compiled(tmp_path, stated), run_dir=tmp_path / "stated", progress="none")
    assert run.history[0]["train.loss"] == pytest.approx(other.history[0]["train.loss"], abs=1e-6)
    assert evaluate(tmp_path / "run", "val")["loss"] == run.results["val"]["loss"]
    assert torch.isfinite(torch.tensor(run.results["val"]["loss"]))


def test_other_losses_have_no_classes_to_balance(labels: np.ndarray[Any, Any], tmp_path: Path) -> None:
    with pytest.raises(netspec.SpecError) as caught:
        compiled(tmp_path, "{type: BCEWithLogitsLoss, weight: balanced}")
    assert [d.code for d in caught.value.diagnostics if d.severity == "error"]
