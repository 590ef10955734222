"""Activations that a loss applies itself are seen through layers that keep the values, and blocks of them."""

from __future__ import annotations

from typing import Any

import pytest

import netspec

SIGMOID: dict[str, Any] = {"fc": {"type": "Linear", "out_features": 4}, "act": "Sigmoid"}
SOFTMAX: dict[str, Any] = {"fc": {"type": "Linear", "out_features": 4}, "act": {"type": "Softmax", "dim": 1}}
GRID = {"type": "Unflatten", "dim": 1, "unflattened_size": [2, 2]}


def compiled(layers: Any, train: dict[str, Any], **more: Any) -> netspec.Program:
    return netspec.compile(
        {
            "netspec": 1,
            "name": "net",
            "model": {"inputs": {"x": ["N", 8]}, "layers": layers},
            "train": {"epochs": 1, "optimizer": "SGD", **train},
            **more,
        }
    )


def warned(layers: Any, loss: str, **more: Any) -> list[str]:
    program = compiled(layers, {"loss": loss}, **more)
    return [one.message for one in program.warnings if one.code == "NS553"]


@pytest.mark.parametrize(
    ("layers", "loss", "message"),
    [
        ({**SIGMOID, "grid": GRID}, "BCEWithLogitsLoss", "Sigmoid before BCEWithLogitsLoss"),
        ({**SIGMOID, "grid": GRID, "flat": "Flatten"}, "BCEWithLogitsLoss", "Sigmoid before BCEWithLogitsLoss"),
        ({**SIGMOID, "one": {"type": "unsqueeze", "dim": 1}}, "BCEWithLogitsLoss", "Sigmoid before BCEWithLogitsLoss"),
        ({**SOFTMAX, "flat": "Flatten"}, "CrossEntropyLoss", "Softmax before CrossEntropyLoss"),
        ({**SOFTMAX, "same": "Identity"}, "CrossEntropyLoss", "Softmax before CrossEntropyLoss"),
        ({"a": {"layers": SOFTMAX}, "b": {"layers": {"f": "Flatten"}}}, "CrossEntropyLoss", "Softmax before Cross"),
        (SIGMOID, "BCEWithLogitsLoss", "Sigmoid right before BCEWithLogitsLoss"),
        ({"fc": SIGMOID["fc"], "grid": GRID}, "BCELoss", "BCELoss takes probabilities, and Linear gives numbers"),
    ],
)
def test_an_activation_is_seen(layers: Any, loss: str, message: str) -> None:
    (told,) = warned(layers, loss)
    assert told.startswith(message)


@pytest.mark.parametrize(
    ("layers", "loss"),
    [
        ({**SIGMOID, "grid": GRID}, "BCELoss"),
        ({**SIGMOID, "more": {"type": "Linear", "out_features": 4}, "flat": "Flatten"}, "BCEWithLogitsLoss"),
        ({**SIGMOID, "twice": {"compute": "act * 2"}, "flat": "Flatten"}, "BCEWithLogitsLoss"),
    ],
)
def test_what_changes_the_values_ends_the_search(layers: Any, loss: str) -> None:
    assert warned(layers, loss) == []


def test_a_block_is_looked_through() -> None:
    blocks = {"Shape": {"inputs": {"y": ["N", 4]}, "layers": {"grid": GRID}}}
    assert warned({**SIGMOID, "shape": "Shape"}, "BCEWithLogitsLoss", blocks=blocks)


def test_an_objective_of_layers_is_looked_through() -> None:
    layers = {
        "found": {"use": "model", "from": "x"},
        "grid": {"type": "unflatten", "from": "found", "dim": 1, "sizes": [2, 2]},
        "loss": {"type": "BCEWithLogitsLoss", "from": ["grid", "y"]},
    }
    program = compiled(SIGMOID, {"layers": layers})
    assert [one.message for one in program.warnings] == ["Sigmoid before BCEWithLogitsLoss"]


def regression(head: Any, metric: str) -> netspec.Program:
    data = {"source": "BreastCancer", "split": {"train": 0.8, "val": 0.2}}
    train = {
        "epochs": 1,
        "optimizer": "SGD",
        "loss": {"type": "MSELoss", "from": ["out", "target"]},
        "metrics": [metric],
    }
    layers = {"fc": {"type": "Linear", "out_features": 1}, "out": head}
    model = {"inputs": {"features": ["N", 30]}, "layers": layers}
    return netspec.compile({"netspec": 1, "name": "net", "model": model, "data": data, "train": train})


@pytest.mark.parametrize("metric", ["Accuracy", "F1Score", "Precision", "Recall"])
def test_classes_are_not_counted_in_a_regression(metric: str) -> None:
    with pytest.raises(netspec.SpecError, match=f"NS552 {metric} counts right classes, and MSELoss predicts numbers"):
        regression("Identity", metric)
    regression("Sigmoid", metric)  # the mean squared error of a probability
    regression("Identity", "R2Score")
