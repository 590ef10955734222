"""Several processes train as one does: the same batches, the same weights, one that writes, none that is forgotten."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from several_support import BLOCKS, MODEL, SHARDED, TRAIN, assert_close, together, trained, weights, write_spec

from netspec.diagnostics import SpecError
from netspec.runtime import checkpoint
from netspec.runtime.data.order import part
from netspec.runtime.errors import RunError
from netspec.runtime.metrics import R2Score
from netspec.runtime.processes import found_processes
from netspec.runtime.run import train
from netspec.runtime.signals import Stop

NORM = MODEL.replace("    act: ReLU", "    norm: BatchNorm1d\n    act: ReLU")


@pytest.fixture(autouse=True)
def no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than these runs."""
    monkeypatch.setattr("netspec.runtime.run.draw_curves", lambda *_: None)
    monkeypatch.setattr("netspec.runtime.run.leave_report", lambda *_: None)


def figures(folder: Path) -> list[list[float]]:
    with (folder / "metrics.csv").open(encoding="utf-8") as file:
        return [
            [float(value) for name, value in row.items() if name not in ("seconds", "samples_per_second")]
            for row in csv.DictReader(file)
        ]


@pytest.mark.parametrize("streamed", [False, True])
def test_two_processes_train_as_one(tmp_path: Path, streamed: bool) -> None:
    spec = write_spec(tmp_path, streamed=streamed)
    train(spec, run_dir=tmp_path / "one", progress="none")
    assert trained(2, spec, tmp_path / "two") == [0, 0]
    assert_close(tmp_path / "one", tmp_path / "two")
    for one, other in zip(figures(tmp_path / "one"), figures(tmp_path / "two"), strict=True):
        assert other == pytest.approx(one, abs=1e-6)
    summaries = [json.loads((tmp_path / name / "summary.json").read_text()) for name in ("one", "two")]
    assert summaries[1]["processes"] == 2
    for split, of in summaries[0]["results"].items():
        assert summaries[1]["results"][split] == pytest.approx(of, abs=1e-6)


@pytest.mark.parametrize("count", [1, 3])
def test_a_run_of_two_goes_on_with_another_number(tmp_path: Path, count: int) -> None:
    """The batch is per process here, and stays what it was when the run began."""
    spec = write_spec(tmp_path, train=TRAIN.replace("global_batch_size: 8", "batch_size: 4"))
    assert trained(2, spec, tmp_path / "whole") == [0, 0]
    assert trained(2, spec, tmp_path / "cut", **{"train.epochs": 1}) == [0, 0]
    shutil.rmtree(tmp_path / "cut" / "checkpoints" / "step-5")
    assert [one.step for one in checkpoint.stored(tmp_path / "cut" / "checkpoints")] == [3]  # in mid-epoch
    assert trained(count, spec, tmp_path / "cut", resume=True) == [0] * count
    assert_close(tmp_path / "whole", tmp_path / "cut")


def test_batch_norms_see_the_whole_batch(tmp_path: Path) -> None:
    spec = write_spec(tmp_path, model=NORM, train=TRAIN + "  sync_batchnorm: true\n")
    train(spec, run_dir=tmp_path / "one", progress="none")
    assert trained(2, spec, tmp_path / "two") == [0, 0]
    assert_close(tmp_path / "one", tmp_path / "two")
    assert "norm.running_var" in weights(tmp_path / "two")


def test_one_that_is_asked_to_stop_stops_all(tmp_path: Path) -> None:
    spec = write_spec(tmp_path)

    def ask(processes: list[int]) -> None:
        deadline = time.monotonic() + 60
        while not list((tmp_path / "run").glob("checkpoints/step-*")) and time.monotonic() < deadline:
            time.sleep(0.02)
        os.kill(processes[1], signal.SIGTERM)

    def work() -> int:
        return train(spec, run_dir=tmp_path / "run", set={"train.epochs": 100000}, progress="none").exit_code

    assert together(2, work, meanwhile=ask) == [143, 143]
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["status"] == "interrupted"


def test_parts_make_the_batch() -> None:
    for size in range(1, 12):
        for count in range(1, 6):
            parts = [part(7, 7 + size, rank, count) for rank in range(count)]
            own = [place for found in parts for place in found]
            if size >= count:
                assert own == list(range(7, 7 + size))
                assert max(map(len, parts)) - min(map(len, parts)) <= 1
            else:
                assert set(own) == set(range(7, 7 + size)) and all(len(found) == 1 for found in parts)


def test_spread_is_summed_whatever_the_origins() -> None:
    torch.manual_seed(0)
    target, noise = torch.randn(40, 2) * 3 + 100, torch.randn(40, 2)
    whole, parts = R2Score(torch.device("cpu")), [R2Score(torch.device("cpu")) for _ in range(3)]
    whole.update(target + noise, target)
    for metric, rows in zip(parts[:2], (slice(0, 13), slice(13, 40)), strict=True):
        metric.update(target[rows] + noise[rows], target[rows])
    whole_figure = whole.compute()
    whole.state = whole.merged([metric.state for metric in parts])
    assert whole.compute() == pytest.approx(whole_figure, rel=1e-9)


def test_the_environment_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(RunError, match="MASTER_ADDR and MASTER_PORT not set"):
        found_processes()
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    monkeypatch.setenv("MASTER_PORT", "29500")
    assert (found_processes().rank, found_processes().count, found_processes().writes) == (1, 2, False)
    monkeypatch.setenv("RANK", "2")
    with pytest.raises(RunError, match="RANK is 2"):
        found_processes()


def test_a_signal_waits_for_the_others() -> None:
    stop = Stop(agree=lambda: None)
    with stop.listening():
        signal.raise_signal(signal.SIGTERM)
    assert (stop.asked, stop.signal) == (signal.SIGTERM, 0)


def start(spec: Path, folder: Path, *options: str) -> subprocess.Popen[str]:
    """`netspec train` in two processes, as a person starts it."""
    line = [sys.executable, "-m", "netspec", "train", str(spec), "--run-dir", str(folder), "--nproc", "2", *options]
    return subprocess.Popen(line, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def wait_for(found: Callable[[], object], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 90
    while not found() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)


def children(process: subprocess.Popen[str]) -> list[int]:
    """The process ids of those that a launcher has started, and that train."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError):
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == process.pid and "spawn_main" in (path / "cmdline").read_text():
                found.append(int(path.name))
    return sorted(found)


def test_a_lost_process_is_told_and_nothing_hangs(tmp_path: Path) -> None:
    spec, folder = write_spec(tmp_path), tmp_path / "run"
    process = start(spec, folder, "--set", "train.epochs=100000")
    wait_for(lambda: list(folder.glob("checkpoints/step-*")), process)
    os.kill(children(process)[1], signal.SIGKILL)
    _, said = process.communicate(timeout=90)
    assert process.returncode == 3
    assert "NS951" in said and "was killed by SIGKILL" in said and f"netspec train --resume {folder}" in said


@pytest.mark.long
def test_processes_that_are_lost_are_started_anew_and_go_on(tmp_path: Path) -> None:
    spec, folder = write_spec(tmp_path), tmp_path / "run"
    process = start(spec, folder, "--max-restarts", "1", "--set", "train.epochs=300")
    wait_for(lambda: list(folder.glob("checkpoints/step-*")), process)
    os.kill(children(process)[0], signal.SIGKILL)
    process.communicate(timeout=180)
    assert process.returncode == 0
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["status"] == "finished" and len(summary["resumed"]) == 1
    train(spec, run_dir=tmp_path / "one", progress="none", set={"train.epochs": 300})
    assert_close(tmp_path / "one", folder, within=1e-5)


@pytest.mark.long
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_to_the_launcher_saves_and_ends(tmp_path: Path, number: int, code: int) -> None:
    spec, folder = write_spec(tmp_path), tmp_path / "run"
    process = start(spec, folder, "--set", "train.epochs=100000")
    wait_for(lambda: list(folder.glob("checkpoints/step-*")), process)
    process.send_signal(number)
    said, _ = process.communicate(timeout=90)
    assert process.returncode == code
    assert f"go on with: netspec train --resume {folder}" in said


def test_a_mean_that_is_not_over_samples_is_that_of_the_whole_batch(tmp_path: Path) -> None:
    losses = """\
  loss:
    main: {type: CrossEntropyLoss, weight: [1.0, 5.0, 0.2], ignore_index: 1, from: [out, label]}
    positive: {type: MultiMarginLoss, from: [out, label], mask: "label > 1"}
    total: {type: CrossEntropyLoss, reduction: sum, weight: 0.01, from: [out, label]}
"""
    spec = write_spec(tmp_path, train=TRAIN.replace("  loss: CrossEntropyLoss\n", losses))
    train(spec, run_dir=tmp_path / "one", progress="none")
    assert trained(2, spec, tmp_path / "two") == [0, 0]
    assert_close(tmp_path / "one", tmp_path / "two")
    for one, other in zip(figures(tmp_path / "one"), figures(tmp_path / "two"), strict=True):
        assert other == pytest.approx(one, abs=1e-5)


def test_what_is_frozen_for_a_time_is_trained_by_all_later(tmp_path: Path) -> None:
    optimizer = "{type: AdamW, lr: 1e-3, eps: 1e-4}"
    text = TRAIN.replace("{type: SGD, lr: 0.1, momentum: 0.9}", optimizer)
    spec = write_spec(tmp_path, train=text + '  freeze: ["hidden.*"]\n  unfreeze: {"hidden.*": {epochs: 1}}\n')
    train(spec, run_dir=tmp_path / "one", progress="none")
    assert trained(2, spec, tmp_path / "two") == [0, 0]
    assert_close(tmp_path / "one", tmp_path / "two")


def test_data_parallel_without_gpus_says_so(tmp_path: Path) -> None:
    spec = write_spec(tmp_path, train=TRAIN + "  distribute: data_parallel\n")
    said: list[str] = []
    train(spec, run_dir=tmp_path / "one", say=said.append, set={"train.epochs": 1})
    assert any("`data_parallel` has 0 GPUs here" in line for line in said)


def test_a_setting_of_another_way_is_told(tmp_path: Path) -> None:
    spec = write_spec(tmp_path, train=TRAIN + "  distribute: {type: data_parallel, static_graph: true}\n")
    with pytest.raises(SpecError, match="`data_parallel` has no setting `static_graph`"):
        train(spec, run_dir=tmp_path / "one", progress="none")


def test_sharded_weights_are_those_of_one_process(tmp_path: Path) -> None:
    spec = write_spec(tmp_path, model=BLOCKS, train=SHARDED)
    train(spec, run_dir=tmp_path / "one", progress="none")
    assert trained(2, spec, tmp_path / "two", **{"train.epochs": 1}) == [0, 0]
    assert trained(3, spec, tmp_path / "two", resume=True, **{"train.epochs": 2}) == [0, 0, 0]
    assert trained(1, spec, tmp_path / "two", resume=True) == [0]
    assert_close(tmp_path / "one", tmp_path / "two")
    for one, other in zip(figures(tmp_path / "one"), figures(tmp_path / "two"), strict=True):
        assert other == pytest.approx(one, abs=1e-6)
