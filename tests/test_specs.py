"""What each spec of `specs/` reaches on real data, measured against a solution that is not ours where there is one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import netspec

SPECS = Path(__file__).resolve().parent.parent / "specs"


def trained(tmp_path: Path, name: str, **overrides: Any) -> netspec.Run:
    """The run of a spec with its own settings."""
    program = netspec.compile(SPECS / name, set={path.replace("__", "."): value for path, value in overrides.items()})
    return netspec.train(program, run_dir=tmp_path / "run", progress="none")


def arrays(name: str) -> dict[str, dict[str, np.ndarray]]:
    """The samples of each split as the model gets them."""
    from netspec.runtime.data import open_data

    recipe = netspec.compile(SPECS / name).recipe
    data = open_data(recipe.data, seed=recipe.train.seed, device=torch.device("cpu"))
    found = {}
    for split, stream in data.splits.items():
        batches = list(stream.batches(0))
        found[split] = {key: torch.cat([batch[key] for batch in batches]).numpy() for key in batches[0]}
    return found


def test_digits(tmp_path: Path) -> None:
    run = trained(tmp_path, "digits.yaml")
    assert run.results["test"]["accuracy"] >= 0.985
    assert run.seconds < 60


def test_linear_regression_ends_at_the_closed_form(tmp_path: Path) -> None:
    from sklearn.linear_model import LinearRegression

    splits = arrays("linear_regression.yaml")
    closed = LinearRegression().fit(splits["train"]["features"], splits["train"]["target"])
    expected = closed.score(splits["test"]["features"], splits["test"]["target"])
    run = trained(tmp_path, "linear_regression.yaml")
    assert run.results["test"]["r2_score"] == pytest.approx(expected, abs=0.001)


def test_logistic_regression_ends_where_scikit_learn_does(tmp_path: Path) -> None:
    from sklearn.linear_model import LogisticRegression

    from netspec.runtime.evaluate import load_run

    splits = arrays("logistic_regression.yaml")
    train, test = splits["train"], splits["test"]
    reference = LogisticRegression(max_iter=10_000, tol=1e-8).fit(train["features"], train["label"])
    run = trained(tmp_path, "logistic_regression.yaml")
    assert run.results["test"]["accuracy"] == pytest.approx(reference.score(test["features"], test["label"]), abs=0.005)
    assert run.directory is not None
    weight = load_run(run.directory).model.get_parameter("linear.weight").detach().numpy()
    assert weight == pytest.approx(reference.coef_, abs=0.02)


def test_mlp_csv(tmp_path: Path) -> None:
    run = trained(tmp_path, "mlp_csv.yaml")
    assert run.results["test"]["accuracy"] >= 0.9


def test_banknotes(tmp_path: Path, real_data: Path) -> None:
    run = trained(tmp_path, "banknotes.yaml", data__source__root=str(real_data / "RMB_data"))
    assert run.results["test"]["accuracy"] >= 39 / 40


@pytest.mark.long
def test_mnist(tmp_path: Path, real_data: Path) -> None:
    root = str(real_data / "mnist")
    run = trained(tmp_path, "mnist.yaml", data__train__source__root=root, data__test__source__root=root)
    assert run.results["test"]["accuracy"] >= 0.992
