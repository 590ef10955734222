"""What is minimised: `train.layers` in the layer language, and `loss` as its short form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from training_support import TensorData, TensorStream

import netspec
from netspec.diagnostics import SpecError
from netspec.runtime.metrics import Metrics
from netspec.runtime.objective import make_objective
from netspec.runtime.run import train

NETWORK = {
    "inputs": {"image": ["N", 1, 8, 8]},
    "layers": {
        "flat": {"type": "flatten", "start_dim": 1},
        "fc1": {"type": "Linear", "out_features": 16},
        "relu": "ReLU",
        "dropout": {"type": "Dropout", "p": 0.2},
        "fc2": {"type": "Linear", "out_features": 10},
    },
}
LAYERS = {
    "logits": {"use": "model", "from": "image"},
    "loss": {"type": "CrossEntropyLoss", "from": ["logits", "label"]},
}


def document(objective: dict[str, Any], model: dict[str, Any] = NETWORK, **changes: Any) -> dict[str, Any]:
    settings = {"epochs": 2, "optimizer": {"type": "Adam", "lr": 0.01}, "device": "cpu", "tensorboard": False}
    return {
        "netspec": 1,
        "name": "digits",
        "model": model,
        "data": {"source": "Digits", "split": {"train": 0.2, "val": 0.1, "test": 0.7}, "batch_size": 64},
        "train": {**settings, **objective, **changes},
    }


def run(document: dict[str, Any], folder: Path) -> list[dict[str, float]]:
    """The rows of a training, without what the clock says."""
    done = train(netspec.compile(document), run_dir=folder, progress="none")
    clock = ("seconds", "samples_per_second")
    return [{name: figure for name, figure in row.items() if name not in clock} for row in done.history]


def loss_of(document: dict[str, Any], batch: dict[str, Tensor], mode: bool = True) -> Tensor:
    """The loss of a batch under a spec's objective, with the weights of seed 0."""
    program = netspec.compile(document)
    model = program.module(seed=0).train(mode)
    objective = make_objective(model, program.recipe.train, tuple(program.outputs), torch.device("cpu"))
    assert set(objective.fields) <= set(batch)
    torch.manual_seed(1)
    return objective.loss(objective.forward(batch), batch)


BATCH = {
    "image": torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0)),
    "label": torch.tensor([0, 1, 2, 3, 4, 5]),
}


@pytest.fixture(autouse=True)
def no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("netspec.runtime.run.draw_curves", lambda *_: None)


def test_the_short_form_is_the_same_objective(tmp_path: Path) -> None:
    """Equal rows to the last bit: losses, figures and, through them, weights and random numbers."""
    short = run(document({"loss": "CrossEntropyLoss"}, metrics=["Accuracy"]), tmp_path / "short")
    layers = run(document({"layers": LAYERS}, metrics=["Accuracy"]), tmp_path / "layers")
    named = document({"layers": LAYERS}, metrics=[{"type": "Accuracy", "from": ["logits", "label"]}])
    assert short == layers == run(named, tmp_path / "named")
    assert short[-1]["val.accuracy"] > 0.15


def test_a_run_with_layers_is_evaluated_and_resumed_from_its_directory(tmp_path: Path) -> None:
    from netspec.runtime.evaluate import evaluate

    program = netspec.compile(document({"layers": LAYERS}, metrics=["Accuracy"]))
    done = train(program, run_dir=tmp_path / "run", progress="none")
    assert evaluate(tmp_path / "run", "test") == dict(done.results["test"])
    longer = netspec.compile(document({"layers": LAYERS}, metrics=["Accuracy"]), {"train.epochs": 4})
    extended = train(longer, resume=tmp_path / "run", progress="none")
    assert extended.history[:2] == done.history
    whole = train(longer, run_dir=tmp_path / "whole", progress="none")
    assert extended.history[-1]["train.loss"] == whole.history[-1]["train.loss"]


def test_what_stands_between_model_and_loss_is_computed() -> None:
    """Weighted losses, arithmetic and a function, against the same written in torch."""
    layers = {
        "logits": {"use": "model", "from": "image"},
        "again": {"use": "model", "from": "image"},
        "main": {"type": "CrossEntropyLoss", "from": ["logits", "label"], "label_smoothing": 0.1},
        "agree": {"type": "MSELoss", "from": ["logits", "again"]},
        "loss": {"compute": "main + 0.5 * agree"},
    }
    program = netspec.compile(document({"layers": layers}))
    model = program.module(seed=0)
    torch.manual_seed(1)
    one, two = model(BATCH["image"]), model(BATCH["image"])
    expected = torch.nn.CrossEntropyLoss(label_smoothing=0.1)(one, BATCH["label"]) + 0.5 * torch.nn.MSELoss()(one, two)
    assert loss_of(document({"layers": layers}), BATCH) == expected
    assert not torch.equal(one, two), "the dropout draws anew"


def test_random_sources_have_the_batchs_size() -> None:
    layers = {
        "noise": {"type": "randn", "size": ["$N", 1, 8, 8]},
        "noisy": {"compute": "image + 0.1 * noise"},
        "logits": {"use": "model"},
        "loss": {"type": "CrossEntropyLoss", "from": ["logits", "label"]},
    }
    program = netspec.compile(document({"layers": layers}))
    model = program.module(seed=0)
    torch.manual_seed(1)
    expected = torch.nn.CrossEntropyLoss()(model(BATCH["image"] + 0.1 * torch.randn(6, 1, 8, 8)), BATCH["label"])
    assert loss_of(document({"layers": layers}), BATCH) == expected


AUXILIARY = {
    "inputs": {"image": ["N", 1, 8, 8]},
    "layers": {
        "flat": {"type": "flatten", "start_dim": 1},
        "hidden": {"type": "Linear", "out_features": 16},
        "aux": {"type": "Linear", "out_features": 10, "when": "training"},
        "head": {"type": "Linear", "out_features": 10, "from": "hidden"},
    },
    "outputs": {"logits": "head", "aux": "aux"},
}


def test_an_auxiliary_output_counts_in_training_alone(tmp_path: Path) -> None:
    losses = {
        "main": {"type": "CrossEntropyLoss", "from": ["logits", "label"]},
        "side": {"type": "CrossEntropyLoss", "from": ["aux", "label"], "weight": 0.3},
    }
    spec = document({"loss": losses}, AUXILIARY, metrics=[{"type": "Accuracy", "from": ["logits", "label"]}])
    model = netspec.compile(spec).module(seed=0)
    criterion, found = torch.nn.CrossEntropyLoss(), model(BATCH["image"])
    both = criterion(found.logits, BATCH["label"]) + criterion(found.aux, BATCH["label"]) * 0.3
    assert loss_of(spec, BATCH) == both
    assert loss_of(spec, BATCH, mode=False) == criterion(found.logits, BATCH["label"])
    rows = run(spec, tmp_path / "run")
    assert rows[-1]["val.loss"] < rows[-1]["train.loss"], "the sum of two losses against one"


MASKED = {
    "inputs": {"image": ["N", 1, 8, 8]},
    "layers": {
        "flat": {"type": "flatten", "start_dim": 1},
        "fc": {"type": "Linear", "out_features": 10},
        "mean": {"type": "mean", "dim": 1, "from": "flat"},
        "bright": {"compute": "mean > 0.5"},
    },
    "outputs": {"logits": "fc", "bright": "bright", "mean": "mean"},
}
CHOSEN = {"type": "CrossEntropyLoss", "from": ["logits", "label"], "mask": "bright"}


def test_a_mask_chooses_the_rows_that_count(tmp_path: Path) -> None:
    accuracy = {"type": "Accuracy", "from": ["logits", "label"]}
    spec = document({"loss": CHOSEN}, MASKED, metrics=[accuracy, {**accuracy, "mask": "bright"}])
    model = netspec.compile(spec).module(seed=0)
    found, criterion = model(BATCH["image"]), torch.nn.CrossEntropyLoss()
    rows = BATCH["image"].flatten(1).mean(1) > 0.5
    assert 0 < rows.sum() < len(rows)
    assert loss_of(spec, BATCH) == criterion(found.logits[rows], BATCH["label"][rows])
    dark = loss_of(spec, {**BATCH, "image": BATCH["image"] * 0})
    dark.backward()
    assert dark == 0, "of no row at all"
    metrics = Metrics(netspec.compile(spec).recipe.train.metrics, ("logits", "bright", "mean"), torch.device("cpu"))
    metrics.update(found, BATCH)
    right = (found.logits.argmax(1) == BATCH["label"]).double()
    assert metrics.compute() == {"accuracy": float(right.mean()), "accuracy_2": float(right[rows].mean())}


@pytest.mark.parametrize(
    "layers,code",
    [
        ({"logits": {"use": "network", "from": "image"}}, "NS309"),
        ({"logits": {"use": "model", "from": "picture"}}, "NS302"),
        ({**LAYERS, "loss": {"type": "CrossEntropyLoss", "from": ["logits", "image"]}}, None),
        ({**LAYERS, "loss": {"type": "BCEWithLogitsLoss", "from": ["logits", "label"]}}, None),
        ({"logits": {"use": "model", "from": "image"}}, "NS563"),
        ({"z": {"type": "randn", "size": [4]}, "loss": {"type": "mean"}}, "NS563"),
    ],
)
def test_mistakes_are_found_when_it_is_compiled(layers: dict[str, Any], code: str | None) -> None:
    with pytest.raises(SpecError) as caught:
        netspec.compile(document({"layers": layers}))
    codes = [found.code for found in caught.value.diagnostics if found.severity == "error"]
    assert len(codes) == 1 and (code is None or codes == [code])


NEXT_TOKEN = {
    "seen": {"compute": "tokens[:, :-1]"},
    "logits": {"use": "model"},
    "scores": {"type": "transpose", "dim0": 1, "dim1": 2},
    "after": {"compute": "tokens[:, 1:]"},
    "loss": {"type": "CrossEntropyLoss", "from": ["scores", "after"]},
}


def test_a_language_model_learns_the_next_token(root: Path, tmp_path: Path) -> None:
    """The small GPT over a line of text that repeats: each position is asked for the character after it."""
    text = "the objective of a training is stated in the language of layers. " * 30
    known = sorted(set(text))
    codes = torch.tensor([known.index(letter) for letter in text])
    tokens = torch.stack([codes[start : start + 17] for start in range(0, len(codes) - 17, 7)])
    sizes = {"vocab_size": len(known), "context": 16, "depth": 1, "num_heads": 2, "width": 16, "dropout": 0.0}
    program = netspec.compile(
        root / "specs" / "gpt.yaml",
        {
            **{f"params.{name}": size for name, size in sizes.items()},
            "train": {"steps": 60, "layers": NEXT_TOKEN, "optimizer": {"type": "AdamW", "lr": 0.02}, "device": "cpu"},
        },
    )
    model = program.module(seed=0)
    objective = make_objective(model, program.recipe.train, tuple(program.outputs), torch.device("cpu"))
    by_hand = torch.nn.functional.cross_entropy(model(tokens[:8, :-1]).transpose(1, 2), tokens[:8, 1:])
    assert objective.loss(objective.forward({"tokens": tokens[:8]}), {"tokens": tokens[:8]}) == by_hand
    data = TensorData({"train": TensorStream({"tokens": tokens}, batch_size=32)})
    done = train(program, run_dir=tmp_path / "run", data=data, progress="none")
    assert done.history[0]["train.loss"] > 2 * done.history[-1]["train.loss"]
