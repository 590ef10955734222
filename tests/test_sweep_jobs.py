"""`netspec sweep --jobs`: trials side by side are the trials that one after the other would have been."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from test_resume import assert_same
from test_sweep import CLI, STUDY, rows_of, spec

import netspec
from netspec.cli import main
from netspec.runtime.cores import lent_cores
from netspec.runtime.sweep import sweep
from netspec.runtime.sweep.parallel import environments

pytest.importorskip("optuna", reason="optuna is not installed")

__all__ = ["spec"]

RANDOM = STUDY + "  sampler: RandomSampler\n"
"""What it draws depends on the number of the trial alone, and not on what others came to."""


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than these runs."""
    monkeypatch.setattr("netspec.runtime.run.draw_curves", lambda *_: None)
    for name in ("draw_confusion", "write_report"):
        monkeypatch.setattr(f"netspec.runtime.ending.{name}", lambda *_: None)
    monkeypatch.setattr("netspec.runtime.sweep.results.draw_sweep", lambda *_: None)
    monkeypatch.setattr("netspec.runtime.sweep.Study.importances", lambda _: {})


def test_side_by_side_is_one_after_the_other(
    spec: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = spec(RANDOM, **{"trials: 4": "trials: 3"})
    assert main(["sweep", str(path), "--jobs", "2", "--sweep-dir", str(tmp_path / "two")]) == 0
    assert capsys.readouterr().out.count("\ntrial ") == 3
    one = sweep(path, sweep_dir=tmp_path / "one", progress="none")
    assert rows_of(tmp_path / "two")[0].keys() == rows_of(tmp_path / "one")[0].keys()
    for row, other in zip(rows_of(tmp_path / "one"), rows_of(tmp_path / "two"), strict=True):
        assert {**row, "seconds": ""} == {**other, "seconds": ""}
        assert_same(*(tmp_path / name / "trials" / row["trial"] for name in ("one", "two")))
    assert one.best is not None
    best = [netspec.compile(tmp_path / name / "best.yaml").recipe.train.optimizer for name in ("one", "two")]
    assert best[0] == best[1]


def test_trials_that_fail_or_are_pruned(spec: Callable[..., Path], tmp_path: Path) -> None:
    study = """\
sweep:
  parameters: {train.optimizer.lr: [0.3, 1e-9, 1e30], train.withheld_limit: [1]}
  sampler: GridSampler
  metric: val.accuracy
  pruner: {type: ThresholdPruner, lower: 0.5, n_warmup_steps: 2}
"""
    done = sweep(spec(study), set={"train.epochs": 5}, sweep_dir=tmp_path / "sweep", progress="none", jobs=3)
    states = {row.parameters["train.optimizer.lr"]: (row.state, row.epochs) for row in done.rows}
    assert states == {0.3: ("complete", 5), 1e-9: ("pruned", 2), 1e30: ("failed", 0)}
    assert any("NS902" in row.message for row in done.rows)


def status_of(folder: Path, number: str) -> str:
    summary = json.loads((folder / "trials" / number / "summary.json").read_text())
    return str(summary["status"])


def children(process: int) -> list[int]:
    """The processes that a process has started."""
    lists = Path(f"/proc/{process}/task").glob("*/children")  # those of a thread are listed with it
    return [int(word) for one in lists for word in one.read_text().split()]


def started(path: Path, folder: Path, root: Path) -> subprocess.Popen[str]:
    """A sweep of two jobs, both of which have a checkpoint."""
    command = [sys.executable, "-uc", CLI, "sweep", str(path), "--jobs", "2", "--sweep-dir", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root)
    until = time.monotonic() + 120
    while not all(list((folder / "trials" / number / "checkpoints").glob("step-*[0-9]")) for number in "01"):
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.02)
    return process


@pytest.mark.parametrize(
    "kind", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.long)], ids=lambda kind: kind.name
)
def test_a_stopped_sweep_goes_on(spec: Callable[..., Path], tmp_path: Path, root: Path, kind: signal.Signals) -> None:
    """By one process, with what two have left; no worker stays behind."""
    changes = {"epochs: 3": "epochs: 80\n  checkpoint: {every: {epochs: 1}}", "trials: 4": "trials: 2"}
    path, folder = spec(RANDOM, **changes), tmp_path / "stopped"
    with started(path, folder, root) as process:
        workers = children(process.pid)
        assert workers
        process.send_signal(kind)
        process.wait(timeout=60)
        assert process.returncode == (130 if kind == signal.SIGINT else -kind)
    until = time.monotonic() + 20
    while any(Path(f"/proc/{worker}").exists() for worker in workers):
        assert time.monotonic() < until
        time.sleep(0.02)
    stopped = [number for number in "01" if status_of(folder, number) != "finished"]
    assert {status_of(folder, number) for number in stopped} == {"running" if kind == signal.SIGKILL else "interrupted"}
    done = sweep(None, resume=folder, progress="none")
    assert [row.state for row in done.rows] == ["complete"] * 2
    for number in stopped:
        assert json.loads((folder / "trials" / number / "summary.json").read_text())["resumed"][0]["step"] >= 3
    whole = sweep(path, set={"sweep.trials": 1}, sweep_dir=tmp_path / "whole", progress="none")
    assert whole.rows[0].value == done.rows[0].value
    assert_same(folder / "trials" / "0", tmp_path / "whole" / "trials" / "0")


@pytest.mark.long
def test_a_trial_whose_process_is_killed_has_failed(spec: Callable[..., Path], tmp_path: Path, root: Path) -> None:
    """As the system does where memory is short; the others go on."""
    changes = {"epochs: 3": "epochs: 150\n  checkpoint: {every: {epochs: 1}}", "trials: 4": "trials: 3"}
    with started(spec(RANDOM, **changes), tmp_path / "sweep", root) as process:
        os.kill(children(process.pid)[0], signal.SIGKILL)
        assert process.wait(timeout=120) == 0
    rows = rows_of(tmp_path / "sweep")
    assert sorted(row["state"] for row in rows) == ["complete", "complete", "failed"]
    assert [row["message"] for row in rows if row["message"]] == ["its process was killed by SIGKILL"]


def test_each_process_has_its_share_of_the_machine(spec: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = netspec.compile(spec(), {"train.device": "auto"}).recipe.train
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert [one["CUDA_VISIBLE_DEVICES"] for one in environments(recipe, 4)] == ["0", "1", "2", "0"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a,GPU-b,5")
    assert [one["CUDA_VISIBLE_DEVICES"] for one in environments(recipe, 2)] == ["GPU-a", "GPU-b"]
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    assert all("CUDA_VISIBLE_DEVICES" not in one for one in environments(recipe, 2))
    cpu = netspec.compile(spec()).recipe.train
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    cores = min(torch.get_num_threads(), lent_cores())
    for jobs in (1, 2, 64):
        assert environments(cpu, jobs) == [{"OMP_NUM_THREADS": str(max(1, cores // jobs))}] * jobs


def test_the_progress_of_one_run_is_none_of_several(
    spec: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sweep", str(spec()), "--jobs", "2", "--progress", "bar"]) == 2
    assert "--progress bar shows one run at a time: leave it out with --jobs" in capsys.readouterr().err
    assert main(["sweep", str(spec()), "--jobs", "0"]) == 2
