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
from netspec.runtime.verify import verify

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


def layered(loss: str) -> str:
    """The same objective as layers."""
    return f"""
  layers:
    scores: {{use: model}}
    loss: {loss}"""


@pytest.mark.parametrize(
    "loss,mask",
    [("CrossEntropyLoss", ""), ("CrossEntropyLoss", ", mask: label >= 0"), ("MultiMarginLoss", "")],
)
def test_in_an_objective_of_layers_they_are_the_same(
    loss: str, mask: str, labels: np.ndarray[Any, Any], tmp_path: Path
) -> None:
    short = f"{{type: {loss}, weight: balanced{mask}}}"
    one = train(compiled(tmp_path, short), run_dir=tmp_path / "short", progress="none")
    text = layered(f"{{type: {loss}, weight: balanced, from: [scores, label]{mask}}}")
    (tmp_path / "spec.yaml").write_text(TEXT.replace("  loss: LOSS", text.lstrip("\n")))
    other = train(netspec.compile(tmp_path / "spec.yaml"), run_dir=tmp_path / "layers", progress="none")
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels[:60]).tolist()
    kept = newest(tmp_path / "layers" / "checkpoints", print)
    assert kept.state["data"]["class_weights"]["label"] == pytest.approx(expected)
    same = newest(tmp_path / "short" / "checkpoints", print).model
    assert all(torch.equal(kept.model[name], value) for name, value in same.items())
    assert one.history[0]["val.loss"] == other.history[0]["val.loss"]
    assert evaluate(tmp_path / "layers", "val")["loss"] == other.results["val"]["loss"]
    # They are not the losses without weights.
    (tmp_path / "spec.yaml").write_text(
        TEXT.replace("  loss: LOSS", text.replace("weight: balanced, ", "").lstrip("\n"))
    )
    plain = train(netspec.compile(tmp_path / "spec.yaml"), run_dir=tmp_path / "plain", progress="none")
    assert plain.history[0]["train.loss"] != other.history[0]["train.loss"]


@pytest.mark.parametrize(
    "objective,words",
    [
        ("loss: {type: CrossEntropyLoss, weight: balanced, target: 1}", "CrossEntropyLoss compares with one class"),
        (
            layered("{type: CrossEntropyLoss, weight: balanced, from: [scores, scores]}"),
            "CrossEntropyLoss compares with the output `head`",
        ),
        (layered("{type: BCEWithLogitsLoss, weight: balanced, from: [scores, label]}"), "`weight`"),
    ],
)
def test_what_no_field_counts_is_told(objective: str, words: str, labels: np.ndarray[Any, Any], tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text(TEXT.replace("  loss: LOSS", "  " + objective.strip()))
    with pytest.raises(netspec.SpecError) as caught:
        netspec.compile(tmp_path / "spec.yaml")
    (told,) = [d for d in caught.value.diagnostics if d.severity == "error"]
    assert words in told.message and told.span.line > 12


def test_a_model_has_no_data_to_balance_by(tmp_path: Path) -> None:
    """Outside `train` the word means nothing."""
    loss = "{type: CrossEntropyLoss, weight: balanced, from: [x, y]}"
    inputs = "{x: [N, 3], y: {shape: [N], dtype: int64}}"
    text = f"netspec: 1\nname: net\nmodel: {{inputs: {inputs}, layers: {{loss: {loss}}}}}\n"
    (tmp_path / "spec.yaml").write_text(text)
    with pytest.raises(netspec.SpecError) as caught:
        netspec.compile(tmp_path / "spec.yaml")
    (told,) = [d for d in caught.value.diagnostics if d.severity == "error"]
    assert "`weight`" in told.message


def test_other_losses_have_no_classes_to_balance(labels: np.ndarray[Any, Any], tmp_path: Path) -> None:
    with pytest.raises(netspec.SpecError) as caught:
        compiled(tmp_path, "{type: BCEWithLogitsLoss, weight: balanced}")
    assert [d.code for d in caught.value.diagnostics if d.severity == "error"]


def test_a_loss_in_a_model_takes_a_list(tmp_path: Path) -> None:
    """Both doors give torch a tensor of it."""
    document = {
        "netspec": 1,
        "name": "net",
        "model": {
            "inputs": {"x": ["N", 3], "label": {"shape": ["N"], "dtype": "int64"}},
            "layers": {"loss": {"type": "CrossEntropyLoss", "from": ["x", "label"], "weight": [1, 2, 0.5]}},
        },
    }
    program = netspec.compile(document)
    assert verify(program) == []
    x, label = torch.randn(6, 3), torch.tensor([0, 1, 2, 2, 1, 0])
    expected = torch.nn.functional.cross_entropy(x, label, torch.tensor([1.0, 2.0, 0.5]))
    assert torch.equal(program.module()(x, label), expected)
    assert "torch.tensor([1.0, 2.0, 0.5])" in program.source()
