"""Whatever an expression in `data` or `train` gives, a mistake in it is a diagnostic, and one that says it once."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest

import netspec
from netspec.diagnostics import SpecError

SPEC: dict[str, Any] = {
    "netspec": 1,
    "name": "small",
    "params": {"word": "deep", "three": 3, "mixed": ["a", 3]},
    "model": {
        "inputs": {"image": ["N", 1, 8, 8]},
        "layers": {"flat": "Flatten", "head": {"type": "Linear", "out_features": 10}},
    },
    "data": {
        "source": {"type": "Digits"},
        "split": {"train": 0.8, "val": 0.1, "test": 0.1, "seed": 1, "stratify": "label"},
        "batch_size": 8,
        "workers": 0,
        "cache": True,
        "fields": ["image", "label"],
        "transforms": [{"type": "Normalize", "mean": [0.5], "std": [0.5]}],
        "train": {"sampler": {"type": "RandomSampler", "replacement": True}},
    },
    "train": {
        "epochs": 3,
        "inputs": {"image": "image"},
        "loss": {"type": "CrossEntropyLoss", "label_smoothing": 0.1, "from": ["head", "label"]},
        "optimizer": {"type": "SGD", "lr": 0.1, "groups": [{"match": ["head.*"], "lr": 0.2}]},
        "scheduler": {
            "type": "StepLR",
            "step_size": 2,
            "interval": "epoch",
            "warmup": {"epochs": 1, "start_factor": 0.1},
        },
        "metrics": [{"type": "Accuracy", "from": ["head", "label"]}],
        "precision": "fp32",
        "device": "cpu",
        "seed": 0,
        "threads": 1,
        "clip_grad": {"norm": 1.0},
        "accumulate": 2,
        "log_every": 5,
        "tensorboard": True,
        "checkpoint": {"every": {"epochs": 1}, "keep": 2, "monitor": "val.loss", "mode": "min"},
        "early_stopping": {"monitor": "val.loss", "mode": "min", "patience": 3, "min_delta": 0.1},
    },
}


def places(value: Any, path: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    """The paths to all that a section holds."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in entries:
        yield (*path, key)
        yield from places(inner, (*path, key))


PLACES = [path for section in ("data", "train") for path in places(SPEC[section], (section,))]


def found_at(path: tuple[Any, ...], text: str) -> list[str]:
    """What is reported when the text stands at the place."""
    spec = copy.deepcopy(SPEC)
    inner: Any = spec
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = text
    try:
        netspec.compile(spec)
    except SpecError as error:
        return [one.message for one in error.diagnostics]
    return []


def test_the_spec_is_good() -> None:
    netspec.compile(SPEC)


@pytest.mark.parametrize("text", ["$nowhere", "$(1 / 0)", "$(1"])
def test_an_expression_that_fails_is_reported_once(text: str) -> None:
    for path in PLACES:
        found = found_at(path, text)
        assert len(found) == 1, (path, found)


@pytest.mark.parametrize("text", ["$word", "$three", "$mixed", "$(0.5)", "$(true)", "$([1, 2])"])
def test_a_value_of_any_kind_is_good_or_reported(text: str) -> None:
    good = [path for path in PLACES if not found_at(path, text)]
    assert len(good) < len(PLACES) / 2
