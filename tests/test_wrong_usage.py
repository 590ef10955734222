"""What the verbs say of a run in the place of a spec, a spec in the place of a run, and options that belong into it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from netspec.cli import main

SPEC = """\
netspec: 1
name: small
model:
  inputs: {image: [N, 1, 8, 8]}
  layers:
    flat: {type: flatten, start_dim: 1}
    head: {type: Linear, out_features: 10}
data: {source: Digits, split: {train: 0.8, val: 0.2}, batch_size: 128}
train: {epochs: 1, loss: CrossEntropyLoss, optimizer: {type: SGD, lr: 0.1}}
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A spec with a run of it."""
    folder = tmp_path_factory.mktemp("usage")
    (folder / "small.yaml").write_text(SPEC, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["train", "small.yaml", "--progress", "none"]) == 0
    return folder


@pytest.fixture
def folder(trained: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(trained)
    return trained


RUN, STEP = "runs/small/1", "runs/small/1/checkpoints/step-12"


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        (["eval", "small.yaml"], 3, ["small.yaml is a spec, and this takes a run", f"its newest run is {RUN}"]),
        (["predict", "small.yaml", "a.png"], 3, [f"its newest run is {RUN}"]),
        (["export", "small.yaml", "-o", "a.onnx"], 3, [f"its newest run is {RUN}"]),
        (["cam", "small.yaml", "a.png"], 3, [f"its newest run is {RUN}"]),
        (["eval", "runs"], 3, [f"there is a run in it: {RUN}"]),
        (["eval", "runs/small"], 3, [f"there is a run in it: {RUN}"]),
        (["eval", "runs/small/2"], 3, ["runs/small/2 does not exist", f"there is {RUN}"]),
        (["eval", STEP], 3, ["is a part of a run", f"name its folder: {RUN}"]),
        (["eval", f"{RUN}/resolved.yaml"], 3, [f"name its folder: {RUN}"]),
        (["eval", "nothing"], 3, ["`netspec runs` lists them"]),
        (["train", RUN], 2, [f"netspec train --resume {RUN} goes on with it"]),
        (["train", "--resume", "small.yaml"], 2, ["small.yaml is a spec", f"its newest run is {RUN}"]),
        (["train", "small.yaml", "--epochs", "3"], 2, ["did you mean --set train.epochs=3?"]),
        (["train", "small.yaml", "--seed=3"], 2, ["did you mean --set train.seed=3?"]),
        (["train", "small.yaml", "--lr", "0.1"], 2, ["did you mean --set train.optimizer.lr=0.1?"]),
        (["train", "small.yaml", "--batch-size", "8"], 2, ["did you mean --set data.batch_size=8?"]),
        (["sweep", "small.yaml", "--trials", "8"], 2, ["did you mean --set sweep.trials=8?"]),
        (["train", "small.yaml", "--resum", RUN], 2, ["did you mean --resume?"]),
        (["train", "small.yaml", "--nproc", "all"], 2, ["--nproc is a number of processes"]),
        (["show", "small.yaml", "--size", "T=3"], 2, ["has no size T to fill in", "none but the batch"]),
        (["show", "small.yaml", "--size", "N=3"], 2, ["--batch-size 3"]),
        (["runs", "small.yaml"], 2, ["small.yaml is a file, and runs are folders"]),
        (["validate", "runs"], 2, ["there is no spec below runs"]),
        (["small.yaml"], 2, ["did you mean netspec train small.yaml?"]),
        (["explain", "NS9999"], 2, ["`netspec explain codes` lists them"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_was_meant_is_told(
    argv: list[str], code: int, said: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == code
    shown = capsys.readouterr().err
    assert [text for text in said if text not in shown] == [], shown


def test_an_open_size_is_suggested(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = tmp_path / "open.yaml"
    model = "  inputs: {x: [N, length, 3]}\n  layers: {fc: {type: Linear, out_features: 2}}\n"
    spec.write_text(f"netspec: 1\nname: open\nmodel:\n{model}", encoding="utf-8")
    assert main(["show", str(spec), "--size", "lenght=5"]) == 2
    assert "did you mean length?" in capsys.readouterr().err
    assert main(["show", str(spec), "--size", "length=5"]) == 0


def test_the_specs_of_runs_are_no_specs_of_the_folder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", "."]) == 0
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == ["small.yaml"]
    assert main(["validate", RUN]) == 0
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == [f"{RUN}/resolved.yaml"]


def test_a_run_that_was_killed_before_its_first_step_has_a_name(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing but spec and source lies there then; the run that goes on with it says who it is."""
    run = tmp_path / "killed"
    run.mkdir()
    for name in ("resolved.yaml", "model.py"):
        shutil.copy(Path(RUN, name), run / name)

    def told() -> dict[str, object]:
        capsys.readouterr()
        assert main(["runs", str(run), "--format", "json"]) == 0
        (row,) = json.loads(capsys.readouterr().out)
        return {key: row[key] for key in ("name", "status")}

    assert told() == {"name": "small", "status": "not begun"}
    assert main(["train", "--resume", str(run), "--progress", "none"]) == 0
    assert told() == {"name": "small", "status": "finished"}
    assert json.loads((run / "summary.json").read_text(encoding="utf-8"))["name"] == "small"
