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


def test_runs_are_chosen_by_figures_and_by_their_specs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def listed(*words: str) -> list[dict[str, Any]]:
        assert main(["runs", str(folder), "--format", "json", *words]) == 0
        found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
        return found

    assert [Path(row["run"]).name for row in listed("--where", "params.width>4")] == ["10"]
    assert [Path(row["run"]).name for row in listed("--where", "train.optimizer.lr<=0.1")] == ["2"]
    assert len(listed("--where", "status=finished", "--where", "train.optimizer.type = SGD")) == 2
    assert listed("--where", "val.accuracy>1") == [] and listed("--where", "status!=finished") == []
    chosen = listed("--columns", "params.width,val.loss", "--sort", "params.width", "--reverse")
    assert [row["params.width"] for row in chosen] == [16, 4] and set(chosen[0]) == {"run", "params.width", "val.loss"}
    for wrong in (["--where", "params.depth=3"], ["--where", "speed"], ["--columns", "speed"]):
        assert main(["runs", str(folder), *wrong]) == 2
    capsys.readouterr()
    assert main(["runs", str(folder), "--where", "val.accuracy>1"]) == 0
    assert capsys.readouterr().out == "no run is left\n"


DAMAGE: dict[str, Any] = {
    "no summary": lambda run: (run / "summary.json").unlink(),
    "half a summary": lambda run: (run / "summary.json").write_text('{"name": "small", "resul'),
    "a summary that is a list": lambda run: (run / "summary.json").write_text("[1, 2]"),
    "results that are none": lambda run: (run / "summary.json").write_text('{"results": [1], "last": 3, "name": {}}'),
    "results of nothing": lambda run: (run / "summary.json").write_text('{"results": {"val": null}, "epochs": [1]}'),
    "no text": lambda run: (run / "summary.json").write_bytes(b"\xff\xfe\x00"),
    "a spec that is no text": lambda run: (run / "resolved.yaml").write_bytes(b"\xff\xfe\x00"),
    "half a spec": lambda run: (run / "resolved.yaml").write_text("netspec: 1\nmodel: {inputs: {a"),
    "an empty spec": lambda run: (run / "resolved.yaml").write_text(""),
    "half a row": lambda run: (run / "metrics.csv").write_text("epoch,step,val.loss\n1,2,0.5\n2,4"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_runs_are_listed_with_what_is_left(
    name: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    shutil.copytree(folder, tmp_path / "runs")
    hurt = tmp_path / "runs" / "small" / "10"
    if name == "half a row":
        (hurt / "summary.json").write_text('{"name": "small", "status": "running"}')
    DAMAGE[name](hurt)
    for words in ([], ["--compare"], ["--sort", "val.loss"], ["--where", "params.width<100"], ["--format", "csv"]):
        assert main(["runs", str(tmp_path / "runs"), *words]) == 0, words
    capsys.readouterr()
    assert main(["runs", str(tmp_path / "runs"), "--format", "json"]) == 0
    rows = {Path(row["run"]).name: row for row in json.loads(capsys.readouterr().out)}
    assert rows["2"]["status"] == "finished" and set(rows) == {"2", "10"}
    if name == "no summary":  # the last epoch is told by metrics.csv
        assert rows["10"]["epochs"] == 1 and rows["10"]["val.loss"] > 0
    if name == "half a row":
        assert (rows["10"]["status"], rows["10"]["epochs"], rows["10"]["val.loss"]) == ("running", 1, 0.5)
