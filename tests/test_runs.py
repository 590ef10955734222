"""`netspec runs`: a table of runs, and the differences of their specs."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

import netspec
from netspec.cli import main
from netspec.runtime.run import train

SPEC: dict[str, Any] = {
    "netspec": 1,
    "name": "small",
    "params": {"width": 4},
    "model": {
        "inputs": {"image": ["N", 1, 8, 8]},
        "layers": {
            "flat": "Flatten",
            "body": {"type": "Linear", "out_features": "$width"},
            "head": {"type": "Linear", "out_features": 10},
        },
    },
    "data": {"source": "Digits", "split": {"train": 0.1, "val": 0.1}},
    "train": {
        "epochs": 1,
        "loss": "CrossEntropyLoss",
        "optimizer": {"type": "SGD", "lr": 0.1},
        "metrics": ["Accuracy"],
        "device": "cpu",
        "tensorboard": False,
    },
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("runs")
    for number, changes in {"2": {}, "10": {"params.width": 16, "train.optimizer.lr": 0.3}}.items():
        train(netspec.compile(SPEC, changes), run_dir=top / "small" / number, progress="none")
    return top


def test_runs_are_listed_with_their_figures(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", str(folder), "--format", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [Path(row["run"]).name for row in rows] == ["2", "10"] and len({row["spec"] for row in rows}) == 2
    for row in rows:
        summary = json.loads(Path(row["run"], "summary.json").read_text())
        assert row["val.accuracy"] == summary["results"]["val"]["accuracy"] and row["status"] == "finished"
    assert main(["runs", str(folder), "--sort", "val.loss", "--reverse", "--format", "csv"]) == 0
    losses = [float(row["val.loss"]) for row in csv.DictReader(io.StringIO(capsys.readouterr().out))]
    assert losses == sorted(losses, reverse=True) and len(losses) == 2
    for wrong in (["runs", str(folder / "none")], ["runs", str(folder), "--sort", "speed"]):
        assert main(wrong) == 2
    capsys.readouterr()


def test_runs_side_by_side_show_what_differs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [str(folder / "small" / number) for number in ("2", "10")]
    assert main(["runs", "--compare", *runs, "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["differences"] == {"params.width": [4, 16], "train.optimizer.lr": [0.1, 0.3]}
    assert main(["runs", "--compare", *runs]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["params.width", "4", "16"] in lines and ["status", "finished", "finished"] in lines
