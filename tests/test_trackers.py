"""What trackers are told of a run: by clients that note how they are called, and by wandb's own, offline."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from netspec.cli import main
from netspec.runtime.run import train

SPEC = """\
netspec: 1
name: digits
model:
  inputs: {image: [N, 1, 8, 8]}
  layers: {flat: Flatten, fc: {type: Linear, out_features: 10}}
data: {source: Digits, split: {train: 0.8, test: 0.2}, batch_size: 64}
train:
  epochs: 2
  device: cpu
  loss: CrossEntropyLoss
  metrics: [Accuracy]
  optimizer: {type: SGD, lr: 0.1}
  log_every: 10
  tensorboard: false
"""


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    (tmp_path / "spec.yaml").write_text(SPEC, encoding="utf-8")
    return tmp_path / "spec.yaml"


class Called:
    """A client that notes each call as (name, positional, named)."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def noted(self, name: str, answer: Any = None) -> Any:
        def call(*positional: Any, **named: Any) -> Any:
            self.calls.append((name, positional, named))
            return answer

        return call

    def of(self, name: str) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
        return [(positional, named) for called, positional, named in self.calls if called == name]


def fake(monkeypatch: pytest.MonkeyPatch, name: str, **members: Any) -> None:
    module = ModuleType(name)
    vars(module).update(members)
    monkeypatch.setitem(sys.modules, name, module)


def wandb(monkeypatch: pytest.MonkeyPatch) -> Called:
    client = Called()
    run = SimpleNamespace(
        id="abc",
        log=client.noted("log"),
        finish=client.noted("finish"),
        summary=SimpleNamespace(update=client.noted("summary")),
    )
    fake(monkeypatch, "wandb", init=client.noted("init", run), Image=lambda path: f"image {Path(path).name}")
    return client


def test_wandb_is_told_of_each_row(spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = wandb(monkeypatch)
    change: dict[str, Any] = {"train.track": {"wandb": {"project": "mine", "tags": ["a"]}}}
    run = train(spec, set=change, run_dir=tmp_path / "run", progress="none")
    ((_, settings),) = client.of("init")
    assert (settings["project"], settings["name"], settings["tags"]) == ("mine", "run", ["a"])
    assert settings["dir"] == str(tmp_path / "run")
    assert settings["config"]["train"]["optimizer"] == {"type": "SGD", "lr": 0.1}
    rows = [(positional[0], named["step"]) for positional, named in client.of("log") if named]
    assert [step for row, step in rows if "train.loss_step" in row] == [10, 20, 30, 40]
    epochs = [row for row, _ in rows if "train.accuracy" in row]
    assert [row["train.accuracy"] for row in epochs] == [row["train.accuracy"] for row in run.history]
    assert client.of("summary") == [(({f"test.{name}": value for name, value in run.results["test"].items()},), {})]
    assert client.of("log")[-1][0] == ({"curves": "image curves.png", "confusion": "image confusion.png"},)
    assert client.of("finish") == [((), {"exit_code": 0})]

    train(spec, set={**change, "train.epochs": 3}, resume=tmp_path / "run", progress="none")
    _, (_, settings) = client.of("init")
    assert (settings["id"], settings["resume"]) == ("abc", "allow")


def test_mlflow_is_told_of_each_row(spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = Called()
    begun = SimpleNamespace(info=SimpleNamespace(run_id="r1"))
    calls = ("set_tracking_uri", "set_experiment", "log_params", "log_metrics", "log_artifact", "end_run")
    fake(monkeypatch, "mlflow", start_run=client.noted("start_run", begun), **{n: client.noted(n) for n in calls})
    run = train(
        spec,
        set={"train.track": {"mlflow": {"tracking_uri": "file:///tmp/x"}}},
        run_dir=tmp_path / "run",
        progress="none",
    )
    assert client.of("set_tracking_uri") == [(("file:///tmp/x",), {})]
    assert client.of("set_experiment") == [(("digits",), {})]
    assert client.of("start_run") == [((), {"run_name": "run"})]
    ((params,), _) = client.of("log_params")[0]
    assert params["train.optimizer.lr"] == "0.1"
    rows = [(positional[0], named.get("step")) for positional, named in client.of("log_metrics")]
    assert [row["train.loss"] for row, _ in rows if "train.loss" in row] == [row["train.loss"] for row in run.history]
    assert rows[-1][0]["test.accuracy"] == run.results["test"]["accuracy"]
    assert {Path(positional[0]).name for positional, _ in client.of("log_artifact")} >= {"report.html", "curves.png"}
    assert client.of("end_run") == [(("FINISHED",), {})]
    train(
        spec,
        set={"train.track": "mlflow", "train.epochs": 5},
        run_dir=tmp_path / "pruned",
        progress="none",
        prune=lambda row: row["epoch"] == 2,
    )
    assert client.of("end_run")[-1] == (("KILLED",), {})


def test_a_tracker_that_fails_does_not_stop_the_run(
    spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ConnectionError("the server has gone\nand more")

    client = Called()
    run = SimpleNamespace(id="abc", log=fail, finish=client.noted("finish"))
    fake(monkeypatch, "wandb", init=client.noted("init", run))
    said: list[str] = []
    done = train(spec, set={"train.track": ["wandb"]}, run_dir=tmp_path / "run", progress="plain", say=said.append)
    assert done.status == "finished"
    assert [line for line in said if "Wandb" in line] == [
        "Wandb fails and is left out from here on: ConnectionError: the server has gone"
    ]


def test_what_is_not_installed_or_refuses_is_said(
    spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    arguments = ["train", str(spec), "--progress", "none", "--set"]
    assert main([*arguments, "train.track=mlflow", "--run-dir", str(tmp_path / "one")]) == 3
    said = capsys.readouterr().err
    assert "error[NS911]: the tracker mlflow needs the package mlflow" in said
    assert "pip install 'netspec[mlflow]'" in said

    def refuse(**_: Any) -> None:
        raise ValueError("no such mode")

    fake(monkeypatch, "wandb", init=refuse)
    assert main([*arguments, "train.track=wandb", "--run-dir", str(tmp_path / "two")]) == 3
    assert "error[NS931]: the tracker wandb can't begin: ValueError: no such mode" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore")
def test_wandb_itself_takes_it_offline(spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="wandb is not installed")
    monkeypatch.setenv("WANDB_SILENT", "true")
    change = {"train.track": {"wandb": {"mode": "offline"}}}
    run = train(spec, set=change, run_dir=tmp_path / "run", progress="none")
    assert run.status == "finished"
    assert list((tmp_path / "run" / "wandb").glob("offline-run-*/run-*.wandb"))


@pytest.mark.filterwarnings("ignore")
def test_mlflow_itself_keeps_it_in_a_database(spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed")
    monkeypatch.chdir(tmp_path)
    place = f"sqlite:///{tmp_path}/mlflow.db"
    change: dict[str, Any] = {"train.track": {"mlflow": {"tracking_uri": place}}}
    train(spec, set=change, run_dir=tmp_path / "run", progress="none")
    run = train(spec, set={**change, "train.epochs": 3}, resume=tmp_path / "run", progress="none")
    client = mlflow.MlflowClient(tracking_uri=place)
    (experiment,) = (one for one in client.search_experiments() if one.name == "digits")
    (kept,) = client.search_runs([experiment.experiment_id])
    losses = [metric.value for metric in client.get_metric_history(kept.info.run_id, "train.loss")]
    assert losses == [row["train.loss"] for row in run.history] and kept.info.status == "FINISHED"
    assert kept.data.metrics["test.accuracy"] == run.results["test"]["accuracy"]
