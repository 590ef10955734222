"""Trackers that are told of a run through their own clients, which are imported where a spec names them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Protocol

from netspec.recipe.seeing import Tracker as Recipe
from netspec.runtime.errors import MissingPackage, RunError


class Tracker(Protocol):
    def log(self, figures: Mapping[str, float], step: int) -> None: ...
    def close(self, results: Mapping[str, float], files: list[Path], status: str) -> None: ...


class Wandb:
    """Weights & Biases. Without an account, `mode: offline` or WANDB_MODE=offline keeps the run below its folder."""

    def __init__(self, arguments: Mapping[str, Any], name: str, folder: Path, config: Mapping[str, Any]) -> None:
        client = _client("wandb")
        known = folder / "wandb.id"
        # A resumed run goes on where it was, under the identity that it had.
        again = {"id": known.read_text("utf-8").strip(), "resume": "allow"} if known.is_file() else {}
        settings = {"project": name, "name": folder.name, "dir": str(folder), "config": dict(config), **again}
        self.run = _begun("wandb", lambda: client.init(**{**settings, **_plain(arguments)}))
        known.write_text(f"{self.run.id}\n", encoding="utf-8")
        self.client = client

    def log(self, figures: Mapping[str, float], step: int) -> None:
        self.run.log(dict(figures), step=step)

    def close(self, results: Mapping[str, float], files: list[Path], status: str) -> None:
        self.run.summary.update(dict(results))
        images = {path.stem: self.client.Image(str(path)) for path in files if path.suffix == ".png"}
        if images:
            self.run.log(images)
        self.run.finish(exit_code=int(status == "failed"))


class MLflow:
    """MLflow. `tracking_uri` says where the server or database is; `experiment` is the model's name by default."""

    def __init__(self, arguments: Mapping[str, Any], name: str, folder: Path, config: Mapping[str, Any]) -> None:
        client = self.client = _client("mlflow")
        given = _plain(arguments)
        uri, experiment = given.pop("tracking_uri", None), given.pop("experiment", name)
        known = folder / "mlflow.id"
        again = {"run_id": known.read_text("utf-8").strip()} if known.is_file() else {"run_name": folder.name}

        def begin() -> Any:
            if uri is not None:
                client.set_tracking_uri(uri)
            client.set_experiment(experiment)
            return client.start_run(**{**again, **given})

        self.run = _begun("mlflow", begin)
        known.write_text(f"{self.run.info.run_id}\n", encoding="utf-8")
        if "run_id" not in again:
            client.log_params({key: str(value)[:500] for key, value in flat(config).items()})

    def log(self, figures: Mapping[str, float], step: int) -> None:
        self.client.log_metrics({key: value for key, value in figures.items() if math.isfinite(value)}, step=step)

    def close(self, results: Mapping[str, float], files: list[Path], status: str) -> None:
        if results:
            self.client.log_metrics({key: value for key, value in results.items() if math.isfinite(value)})
        for path in files:
            self.client.log_artifact(str(path))
        self.client.end_run({"failed": "FAILED", "finished": "FINISHED"}.get(status, "KILLED"))


ALONE: Final = {"wandb": "mode: offline", "mlflow": 'tracking_uri: "sqlite:///mlflow.db"'}
"""What a tracker takes that is to need no account, no network and no server."""

KINDS: Final[Mapping[str, Callable[..., Tracker]]] = {"wandb": Wandb, "mlflow": MLflow}


def make_trackers(recipes: tuple[Recipe, ...], name: str, folder: Path, config: Mapping[str, Any]) -> list[Tracker]:
    """The trackers of a recipe, begun. config: the spec as plain values.

    Raises RunError NS911 where a client is not installed, NS931 where one refuses.
    """
    return [KINDS[recipe.type](recipe.arguments, name, folder, config) for recipe in recipes]


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, with dotted names."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def _client(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise MissingPackage(f"the tracker {name}", name, name) from error


def _begun(name: str, begin: Any) -> Any:
    try:
        return begin()
    except Exception as error:  # each client has exceptions of its own
        raise RunError(
            "NS931",
            f"the tracker {name} can't begin: {type(error).__name__}: {error}",
            help=f"leave it out with `--set train.track=[]`, or keep the run here: "
            f"`track: {{{name}: {{{ALONE[name]}}}}}`",
        ) from error


def _plain(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments as the client takes them: lists for tuples."""
    return {key: list(value) if isinstance(value, tuple) else value for key, value in arguments.items()}
