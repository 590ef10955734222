"""`netspec sweep`: real studies of real runs, small ones. A trial is the run that `--set` gives, bit for bit."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from test_faults import mounted
from test_resume import assert_same

import netspec
from netspec.cli import main
from netspec.compiler import override_texts
from netspec.runtime.errors import RunError
from netspec.runtime.run import train
from netspec.runtime.sweep import sweep
from netspec.runtime.sweep.study import Study
from netspec.variants import variant

optuna = pytest.importorskip("optuna", reason="optuna is not installed")

CLI = "import sys; from netspec.cli import main; sys.exit(main())"
SPEC = """\
netspec: 1
name: swept
params: {width: 8}
model:
  inputs: {features: [N, 4]}
  layers:
    body: {type: Linear, out_features: $width}
    act: ReLU
    head: {type: Linear, out_features: 3}
data:
  source: {type: CSV, path: iris.csv, label: species}
  split: {train: 0.6, val: 0.4, stratify: label}
  transforms: [Standardize]
  batch_size: 16
train:
  epochs: 3
  loss: CrossEntropyLoss
  optimizer: {type: SGD, lr: 0.1}
  metrics: [Accuracy]
  device: cpu
  threads: 1
  tensorboard: false
"""
STUDY = """\
sweep:
  parameters:
    train.optimizer.lr: {type: float, low: 1e-3, high: 1.0, log: true}
    params.width: {type: int, low: 4, high: 16, step: 4}
    train.optimizer.momentum: [0, 0.9]
  trials: 4
  metric: val.loss
"""


@pytest.fixture(autouse=True)
def no_pictures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than these runs; one test looks at the pictures."""
    monkeypatch.setattr("netspec.runtime.run.draw_curves", lambda *_: None)
    for name in ("draw_confusion", "write_report"):
        monkeypatch.setattr(f"netspec.runtime.ending.{name}", lambda *_: None)
    if request.node.name != "test_a_trial_is_the_run_that_set_gives":
        monkeypatch.setattr("netspec.runtime.sweep.results.draw_sweep", lambda *_: None)
        monkeypatch.setattr("netspec.runtime.sweep.Study.importances", lambda _: {})


@pytest.fixture
def spec(root: Path, tmp_path: Path) -> Callable[..., Path]:
    """Writes a spec with a sweep into a folder of its own."""

    def write(study: str = STUDY, **changes: str) -> Path:
        folder = tmp_path / "specs"
        folder.mkdir(exist_ok=True)
        (folder / "iris.csv").write_bytes((root / "specs" / "data" / "iris.csv").read_bytes())
        text = SPEC + study
        for old, new in changes.items():
            assert old in text
            text = text.replace(old, new)
        (folder / "spec.yaml").write_text(text, encoding="utf-8")
        return folder / "spec.yaml"

    return write


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "trials.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def weights_of(run: Path) -> dict[str, Any]:
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    return load_file(run / summary["checkpoint"] / "model.safetensors")


def test_a_trial_is_the_run_that_set_gives(
    spec: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = spec()
    assert main(["sweep", str(path), "--sweep-dir", str(tmp_path / "sweep")]) == 0
    said = capsys.readouterr().out
    rows = rows_of(tmp_path / "sweep")
    assert [row["trial"] for row in rows] == ["0", "1", "2", "3"] and {row["state"] for row in rows} == {"complete"}
    assert len({row["train.optimizer.lr"] for row in rows}) == 4
    by_hand = [f"{name}={rows[2][name]}" for name in ("train.optimizer.lr", "params.width", "train.optimizer.momentum")]
    words = [word for setting in by_hand for word in ("--set", setting)]
    assert main(["train", str(path), "--run-dir", str(tmp_path / "hand"), "--progress", "none", *words]) == 0
    trial = tmp_path / "sweep" / "trials" / "2"
    assert_same(trial, tmp_path / "hand")
    assert (trial / "resolved.yaml").read_text() == (tmp_path / "hand" / "resolved.yaml").read_text()
    result = json.loads((tmp_path / "hand" / "summary.json").read_text())["results"]["val"]["loss"]
    assert float(rows[2]["val.loss"]) == result

    # The best is a spec that trains to the same figure.
    best = min(rows, key=lambda row: float(row["val.loss"]))
    assert f"best: trial {best['trial']}, val.loss" in said
    done = train(tmp_path / "sweep" / "best.yaml", run_dir=tmp_path / "best", progress="none")
    assert done.results["val"]["loss"] == float(best["val.loss"])
    assert (tmp_path / "sweep" / "sweep.png").read_bytes().startswith(b"\x89PNG")


def test_trials_are_runs(spec: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = sweep(spec(), set={"sweep.trials": 2}, sweep_dir=tmp_path / "sweep", progress="none").directory
    assert main(["runs", str(folder), "--sort", "val.loss", "--format", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) == 2 and rows[0]["val.loss"] <= rows[1]["val.loss"]
    assert main(["runs", str(folder), "--compare", "--format", "json"]) == 0
    differ = json.loads(capsys.readouterr().out)["differences"]
    assert "train.optimizer.lr" in differ and set(differ) <= {
        "train.optimizer.lr",
        "params.width",
        "train.optimizer.momentum",
    }
    trial = folder / "trials" / "0"
    assert main(["eval", str(trial), "--split", "val"]) == 0
    done = train(trial / "resolved.yaml", resume=trial, set={"train.epochs": 4}, progress="none")
    assert done.epochs == 4


def test_a_grid_is_every_combination(spec: Callable[..., Path], tmp_path: Path) -> None:
    study = """\
sweep:
  parameters:
    train.optimizer.lr: {type: float, low: 0.1, high: 0.3, step: 0.1}
    train.optimizer.weight_decay: [0, 0.01]
  sampler: GridSampler
"""
    done = sweep(spec(study), set={"train.epochs": 1}, sweep_dir=tmp_path / "sweep", progress="none")
    found = {tuple(row.parameters.values()) for row in done.rows}
    assert len(done.rows) == 6 and found == set(product((0.1, 0.2, 0.3), (0, 0.01)))
    assert done.status == "finished" and {row.state for row in done.rows} == {"complete"}


def test_the_pruner_ends_trials_early(spec: Callable[..., Path], tmp_path: Path) -> None:
    study = """\
sweep:
  parameters: {train.optimizer.lr: [0.3, 1e-9, 1e-8]}
  sampler: {type: GridSampler}
  metric: val.accuracy
  pruner: {type: ThresholdPruner, lower: 0.5, n_warmup_steps: 2}
"""
    done = sweep(spec(study), set={"train.epochs": 5}, sweep_dir=tmp_path / "sweep", progress="none")
    for row in done.rows:
        run = tmp_path / "sweep" / "trials" / str(row.number)
        summary = json.loads((run / "summary.json").read_text())
        lines = (run / "metrics.csv").read_text().splitlines()[1:]
        if row.parameters["train.optimizer.lr"] == 0.3:
            assert (row.state, summary["status"], len(lines)) == ("complete", "finished", 5)
        else:
            assert (row.state, summary["status"], len(lines), row.epochs) == ("pruned", "pruned", 2, 2)
            assert summary["results"] == {} and (run / "checkpoints").is_dir()


def test_a_trial_that_fails_is_noted(spec: Callable[..., Path], tmp_path: Path) -> None:
    study = """\
sweep:
  parameters: {train.optimizer.lr: [0.1, 1e30], train.withheld_limit: [1]}
  sampler: GridSampler
"""
    done = sweep(spec(study), sweep_dir=tmp_path / "sweep", progress="none")
    states = {row.parameters["train.optimizer.lr"]: row for row in done.rows}
    assert (states[0.1].state, states[1e30].state, done.exit_code) == ("complete", "failed", 0)
    assert ("NS902" in states[1e30].message and done.best is states[0.1]) or done.best == states[0.1]
    assert "NS902" in (tmp_path / "sweep" / "trials.csv").read_text()


def test_failing_without_end_stops(
    spec: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = spec(STUDY.replace("low: 1e-3, high: 1.0", "low: 1e29, high: 1e30"))
    changes = ["--set", "sweep.trials=50", "--set", "train.withheld_limit=1"]
    assert main(["sweep", str(path), *changes, "--sweep-dir", str(tmp_path / "sweep")]) == 3
    assert "error[NS971]: 5 trials failed one after the other, the last with: NS902" in capsys.readouterr().err
    assert len(rows_of(tmp_path / "sweep")) == 5


def test_choices_may_be_mappings(spec: Callable[..., Path], tmp_path: Path) -> None:
    study = """\
sweep:
  parameters:
    train.optimizer: [{type: SGD, lr: 0.1, momentum: 0.9}, {type: AdamW, lr: 0.01}]
    train.scheduler: [null, {type: ExponentialLR, gamma: 0.9}]
  sampler: GridSampler
"""
    done = sweep(spec(study.replace("null, ", "")), sweep_dir=tmp_path / "sweep", progress="none")
    kinds = set()
    for row in done.rows:
        program = netspec.compile(tmp_path / "sweep" / "trials" / str(row.number) / "resolved.yaml")
        kinds.add(program.recipe.train.optimizer.type)
        assert program.recipe.train.scheduler.type == "ExponentialLR" and program.recipe.sweep is None
    assert kinds == {"SGD", "AdamW"}


def test_a_study_goes_on_as_if_nothing_had_happened(spec: Callable[..., Path], tmp_path: Path) -> None:
    """Two trials and then two more draw what four at once draw, and the half-done one goes on from its checkpoint."""
    path = spec()
    whole = sweep(path, sweep_dir=tmp_path / "whole", progress="none")
    two = sweep(path, set={"sweep.trials": 2}, sweep_dir=tmp_path / "parts", progress="none")
    assert [row.parameters for row in two.rows] == [row.parameters for row in whole.rows[:2]]
    parts = sweep(None, set={"sweep.trials": 4}, resume=tmp_path / "parts", progress="none")
    assert [(row.parameters, row.value) for row in parts.rows] == [(row.parameters, row.value) for row in whole.rows]
    again = sweep(None, resume=tmp_path / "whole", progress="none")
    assert len(again.rows) == 4
    with pytest.raises(RunError, match="NS970"):
        sweep(None, set={"sweep.parameters": {"train.optimizer.lr": [1, 2]}}, resume=tmp_path / "whole")


def killed_at(path: Path, folder: Path, line: str, kind: int, root: Path) -> int:
    """Start a sweep in a process and send it a signal when it says a line that begins so; gives its exit code."""
    command = [sys.executable, "-uc", CLI, "sweep", str(path), "--sweep-dir", str(folder), "--progress", "plain"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        assert process.stdout is not None
        seen = 0
        for said in process.stdout:
            seen += said.startswith("trial 0")
            if seen and said.startswith(line):
                process.send_signal(kind)
                break
        process.stdout.read()
    return process.returncode


@pytest.mark.parametrize(
    "kind", [signal.SIGKILL, signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.long)], ids=lambda k: k.name
)
def test_a_killed_sweep_goes_on(
    spec: Callable[..., Path], tmp_path: Path, root: Path, kind: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    path = spec(**{"epochs: 3": "epochs: 12\n  checkpoint: {every: {epochs: 1}}", "trials: 4": "trials: 3"})
    code = killed_at(path, tmp_path / "killed", "epoch  6/12", kind, root)
    assert code == {signal.SIGKILL: -signal.SIGKILL, signal.SIGINT: 130, signal.SIGTERM: 143}[kind]
    trial = tmp_path / "killed" / "trials" / "1"
    assert json.loads((trial / "summary.json").read_text())["status"] in ("running", "interrupted")
    assert main(["sweep", "--resume", str(tmp_path / "killed")]) == 0
    assert "going on after 1 of 3 trials" in capsys.readouterr().out
    assert json.loads((trial / "summary.json").read_text())["resumed"][0]["step"] >= 6 * 3
    whole = sweep(path, sweep_dir=tmp_path / "whole", progress="none")
    rows = rows_of(tmp_path / "killed")
    assert [row["state"] for row in rows] == ["complete"] * 3
    assert [float(row["val.loss"]) for row in rows] == [row.value for row in whole.rows]
    assert_same(trial, tmp_path / "whole" / "trials" / "1")


@pytest.mark.long
def test_sweeps_killed_at_any_moment_go_on(spec: Callable[..., Path], tmp_path: Path, root: Path) -> None:
    """Killed again and again, wherever it hits, a study ends as one that was left alone."""
    path = spec(**{"epochs: 3": "epochs: 30\n  checkpoint: {every: {epochs: 1}}", "trials: 4": "trials: 6"})
    whole = sweep(path, sweep_dir=tmp_path / "whole", progress="none")
    folder, kills = tmp_path / "killed", 0
    command = [sys.executable, "-uc", CLI, "sweep"]
    start = [str(path), "--sweep-dir", str(folder)]
    while True:
        with subprocess.Popen([*command, *start], cwd=root, stdout=subprocess.DEVNULL) as process:
            try:
                process.wait(timeout=5 + 0.37 * kills)
            except subprocess.TimeoutExpired:
                process.kill()
        if process.returncode == 0:
            break
        kills += 1
        if (folder / "sweep.yaml").is_file():
            start = ["--resume", str(folder)]
    assert kills >= 2
    rows = rows_of(folder)
    assert [float(row["val.loss"]) for row in rows] == [row.value for row in whole.rows]


def test_time_that_is_up_begins_no_trial(spec: Callable[..., Path], tmp_path: Path) -> None:
    began = time.monotonic()
    done = sweep(spec(), set={"sweep.timeout": 0, "sweep.trials": 1000}, sweep_dir=tmp_path / "sweep", progress="none")
    assert (done.status, done.exit_code, list(done.rows)) == ("stopped", 0, []) and time.monotonic() - began < 30


def test_samplers_and_pruners_are_optunas(spec: Callable[..., Path], tmp_path: Path) -> None:
    """Every one that the catalog names can be made as a spec states it, and its arguments are Optuna's."""
    import inspect

    from netspec import catalog

    for category in ("sampler", "pruner"):
        module = getattr(optuna, f"{category}s")
        for name in catalog.names(category):
            entry = catalog.lookup(name, category)
            assert entry is not None
            signature = inspect.signature(getattr(module, name).__init__).parameters
            for argument in entry.arguments:
                assert argument.name in signature, f"{name}.{argument.name}"
            made = {"type": name, **ASKED.get(name, {})}
            plain = STUDY.replace("low: 1e-3, high: 1.0, log: true", "low: 0.1, high: 0.5, step: 0.1")
            study = plain.replace("trials: 4", "trials: 12") + f"  {category}: {json.dumps(made)}\n"
            program = netspec.compile(spec(study))
            (tmp_path / name).mkdir()
            found = Study(tmp_path / name, program.recipe.sweep, name)
            for number in range(3 if name == "GPSampler" else 12):
                trial = found.begin(number)
                assert trial.number == number and set(found.values(trial)) == set(found.paths)
                ended = next((e for e in (1, 2, 3) if found.reached(trial, e, 0.1 * number + 1 / e)), None)
                found.end(trial, "pruned" if ended else "complete", None if ended else 0.1 * number, seconds=0.0)
            states = {row.state for row in found.rows()}
            assert "complete" in states and (states == {"complete"} or category == "pruner")


ASKED: dict[str, dict[str, Any]] = {
    "GPSampler": {"n_startup_trials": 1},
    "NSGAIISampler": {"population_size": 4},
    "PercentilePruner": {"percentile": 25.0},
    "PatientPruner": {"patience": 1},
    "ThresholdPruner": {"upper": 2.0},
    "HyperbandPruner": {"max_resource": 3},
}


def test_without_optuna_the_mend_is_said(
    spec: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert main(["validate", str(spec())]) == 0
    assert main(["sweep", str(spec()), "--sweep-dir", str(tmp_path / "sweep")]) == 3
    said = capsys.readouterr().err
    assert "error[NS911]: a sweep needs the package optuna" in said and "pip install 'netspec[sweep]'" in said


def test_a_spec_in_memory(tmp_path: Path) -> None:
    document: dict[str, Any] = {
        "netspec": 1,
        "name": "small",
        "model": {"inputs": {"features": ["N", 4]}, "layers": {"fc": {"type": "Linear", "out_features": 3}}},
        "data": {"source": "Iris", "split": {"train": 0.6, "val": 0.4}},
        "train": {"epochs": 1, "loss": "CrossEntropyLoss", "optimizer": {"type": "SGD", "lr": 0.1}, "device": "cpu"},
        "sweep": {"parameters": {"train.optimizer.lr": [0.1, 0.01]}, "trials": 2, "seed": 3},
    }
    done = sweep(netspec.compile(document), sweep_dir=tmp_path / "sweep", progress="none")
    assert [row.state for row in done.rows] == ["complete"] * 2
    (tmp_path / "sweep" / "best.yaml").unlink()
    (tmp_path / "sweep" / "trials.csv").unlink()
    sweep(None, resume=tmp_path / "sweep", progress="none")  # nothing to train, and what was lost is there again
    assert (tmp_path / "sweep" / "best.yaml").is_file() and len(rows_of(tmp_path / "sweep")) == 2


def test_a_full_disk_is_no_trials_fault(spec: Callable[..., Path], tmp_path: Path) -> None:
    disk, path = tmp_path / "disk", spec()
    with mounted(disk, "size=400k"):
        with pytest.raises(RunError, match=r"NS90[17] .*No space left on device"):
            sweep(path, set={"sweep.trials": 30}, sweep_dir=disk / "sweep", progress="none")
        subprocess.run(["mount", "-o", "remount,size=20m", disk], check=True)
        made = len(list((disk / "sweep" / "trials").iterdir()))
        assert 1 < made < 30
        done = sweep(None, set={"sweep.trials": made + 1}, resume=disk / "sweep", progress="none")
        assert [row.state for row in done.rows] == ["complete"] * (made + 1)
        whole = sweep(path, set={"sweep.trials": made + 1}, sweep_dir=tmp_path / "whole", progress="none")
        assert [row.value for row in done.rows] == [row.value for row in whole.rows]


def test_the_command_line(spec: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain = spec("")
    assert main(["sweep"]) == 2 and main(["sweep", str(plain), "--resume", "x"]) == 2
    assert main(["sweep", str(plain), "--sweep-dir", str(tmp_path / "x")]) == 3
    assert "error[NS912]: swept has no `sweep` section" in capsys.readouterr().err
    assert main(["sweep", "--resume", str(tmp_path)]) == 3
    assert "error[NS970]" in capsys.readouterr().err


def test_a_spec_with_a_sweep_trains_as_one_without(spec: Callable[..., Path], tmp_path: Path) -> None:
    with_sweep = train(spec(), run_dir=tmp_path / "with", progress="none")
    without = train(spec(""), run_dir=tmp_path / "without", progress="none")
    assert with_sweep.results == without.results
    assert (tmp_path / "with" / "resolved.yaml").read_text() == (tmp_path / "without" / "resolved.yaml").read_text()


def test_files_among_the_choices_are_found_from_the_sweeps_folder(spec: Callable[..., Path], tmp_path: Path) -> None:
    study = """\
sweep:
  parameters: {data.source.path: [iris.csv, more.csv]}
  sampler: GridSampler
"""
    path = spec(study)
    lines = (path.parent / "iris.csv").read_text().splitlines(keepends=True)
    (path.parent / "more.csv").write_text("".join([lines[0], *lines[1::2]]), encoding="utf-8")
    first = sweep(path, set={"sweep.trials": 1}, sweep_dir=tmp_path / "sweep", progress="none")
    assert len(first.rows) == 1
    done = sweep(None, set={"sweep.trials": 2}, resume=tmp_path / "sweep", progress="none")
    assert [row.state for row in done.rows] == ["complete", "complete"]


def test_a_variant_is_what_set_gives() -> None:
    from netspec.diagnostics import Diagnostics

    document: dict[str, Any] = {
        "netspec": 1,
        "name": "small",
        "params": {"width": 4},
        "model": {"inputs": {"x": ["N", 2]}, "layers": {"fc": {"type": "Linear", "out_features": "$width"}}},
    }
    program, diagnostics = netspec.compile(document), Diagnostics()
    values = {"params.width": 7, "model.layers.fc.bias": False}
    found = variant(program.document, program.file, values, diagnostics)
    assert found is not None and not diagnostics.found
    assert found.source("x") == netspec.compile(document, values).source("x")
    assert override_texts(values) == ["params.width=7", "model.layers.fc.bias=false"]
    assert variant(program.document, program.file, {"params.width": 0}, diagnostics) is None
