"""`netspec init --data`: what is made of a table of one's own, and that the spec trains as it stands."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_diabetes

import netspec
from netspec.cli import main

ROWS = 60


@pytest.fixture
def houses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A table as people have them: a number for each row, words, remarks, gaps, and a price at its end."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    with open("houses.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["id", "area", "city", "remark", "lift", "cellar", "price ($)"])
        for row in range(ROWS):
            area = rng.uniform(20, 200)
            cellar = "" if row % 4 else "7"
            city, price = ("Rome", "Oslo", "Bern")[row % 3], 900.5 * area + rng.normal(0, 5000)
            table.writerow([row + 1, "" if row == 5 else round(area, 2), city, f"no {row}!", row % 2, cellar, price])
    return tmp_path


def last(figure: str) -> float:
    """A figure of the run's last epoch."""
    with open("run/metrics.csv", encoding="utf-8") as file:
        return float(list(csv.DictReader(file))[-1][figure])


def test_a_number_is_predicted_as_one(houses: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "csv", "--data", "houses.csv", "-o", "houses.yaml"]) == 0
    said = capsys.readouterr().out
    assert "predicts the number `price ($)`, which has 60 different values" in said
    assert "`--target NAME` takes another" in said
    assert "words become one 0/1 feature for each value: `city` (3)" in said
    assert (
        "left out: `id` (the number of the row), `remark` (60 different words), `cellar` (empty in 45 of 60 rows)"
        in said
    )
    assert "rows left out for an empty cell: 1 of 60" in said
    program = netspec.compile("houses.yaml")
    assert str(program.inputs["features"]) == "[N, 5]"  # area, lift, and one each for three cities
    assert program.recipe.train.losses[0].type == "MSELoss"
    assert main(["validate", "houses.yaml"]) == 0
    assert main(["train", "houses.yaml", "--run-dir", "run", "--progress", "none"]) == 0
    assert last("val.r2_score") > 0.8  # prices are learnt in their own unit


@pytest.mark.parametrize(
    ("options", "said", "loss"),
    [
        (["--target", "city"], "tells the 3 classes of `city` apart", "CrossEntropyLoss"),
        (["--target", "lift"], "tells the 2 classes of `lift` apart; `--task regression`", "CrossEntropyLoss"),
        (["--target", "lift", "--task", "regression"], "predicts the number `lift`", "MSELoss"),
    ],
)
def test_the_target_and_the_task_can_be_said(
    options: list[str], said: str, loss: str, houses: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init", "csv", "--data", "houses.csv", *options]) == 0
    assert said in capsys.readouterr().out
    assert netspec.compile("csv.yaml").recipe.train.losses[0].type == loss
    assert main(["train", "csv.yaml", "--dry-run"]) == 0


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["csv", "--data", "houses.csv", "--target", "pric"], "has no column 'pric'; did you mean 'price ($)'?"),
        (["csv", "--data", "houses.csv", "--target", "remark"], "has 60 different words in 60 rows, too many"),
        (["regression", "--data", "houses.csv", "--target", "city"], "holds words, which no regression predicts"),
        (["digits", "--data", "houses.csv"], "brings its own data"),
        (["csv", "--target", "city"], "netspec init csv --data FILE --target city"),
        (["images", "--task", "regression"], "netspec init csv --data FILE --task regression"),
        (["csv", "--data", "numbers.csv"], "the first row of numbers.csv holds numbers"),
        (["csv", "--data", "twice.csv"], "names the column 'a' twice"),
        (["csv", "--data", "ragged.csv"], "row 3 of ragged.csv has 1 cells, and the header names 2"),
        (["csv", "--data", "same.csv"], "is the same in every row"),
    ],
)
def test_what_no_spec_can_be_made_of_is_told(
    argv: list[str], said: str, houses: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("numbers.csv").write_text("1,2\n3,4\n", encoding="utf-8")
    Path("twice.csv").write_text("a,a\n3,4\n", encoding="utf-8")
    Path("ragged.csv").write_text("a,b\n3,4\n5\n", encoding="utf-8")
    Path("same.csv").write_text("a,b\n3,4\n5,4\n", encoding="utf-8")
    assert main(["init", *argv]) == 2
    assert said in capsys.readouterr().err


def test_a_table_with_semicolons(houses: Path) -> None:
    rng = np.random.default_rng(0)
    lines = [f"{rng.uniform():.3f};{rng.uniform():.3f};{index % 3}" for index in range(30)]
    Path("wine.csv").write_text("\n".join(["acid;sugar;quality", *lines]), encoding="utf-8")
    assert main(["init", "csv", "--data", "wine.csv"]) == 0
    assert netspec.compile("csv.yaml").recipe.data.splits["train"].source.arguments["delimiter"] == ";"
    assert main(["train", "csv.yaml", "--dry-run"]) == 0


def test_a_few_rows_are_not_split(houses: Path) -> None:
    Path("few.csv").write_text("a,b\n1,yes\n2,no\n3,yes\n4,no\n", encoding="utf-8")
    assert main(["init", "csv", "--data", "few.csv"]) == 0
    assert list(netspec.compile("csv.yaml").recipe.data.splits) == ["train"]
    assert main(["train", "csv.yaml", "--dry-run"]) == 0


@pytest.mark.parametrize("kind", ["parquet", "npz", "column"])
def test_a_regression_of_other_files(kind: str, houses: Path) -> None:
    found = load_diabetes()
    x, y = found.data.astype("float32"), found.target.astype("float32")
    if kind == "parquet":
        arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        parquet.write_table(
            arrow.table({"bmi": x[:, 2], "sex": ["f" if s > 0 else "m" for s in x[:, 1]], "y": y}), "d.pq"
        )
    else:
        np.savez("d.npz", x=x, y=y if kind == "npz" else y[:, None])
    file = "d.pq" if kind == "parquet" else "d.npz"
    assert main(["init", "regression", "--data", file]) == 0
    assert str(netspec.compile("regression.yaml").inputs["features"]) == ("[N, 3]" if kind == "parquet" else "[N, 10]")
    assert main(["train", "regression.yaml", "--run-dir", "run", "--progress", "none"]) == 0
    assert last("val.r2_score") > 0.1


def test_arrays_that_are_no_rows_are_told(houses: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez("a.npz", x=np.zeros((4, 3), "float32"), y=np.arange(4))
    assert main(["init", "regression", "--data", "a.npz"]) == 2
    assert "int64 [4], and a regression takes floats: y.astype('float32')" in capsys.readouterr().err
    np.savez("a.npz", x=np.zeros((4, 3), "uint8"), y=np.arange(4) / 3)
    assert main(["init", "regression", "--data", "a.npz"]) == 2
    assert "x.astype('float32')" in capsys.readouterr().err
