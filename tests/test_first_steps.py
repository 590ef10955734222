"""What somebody who begins gets wrong, from the first spec to the first run, on a table and on digits of their own."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch

import netspec
from netspec.cli import main

HOUSES = """\
netspec: 1
name: houses
model:
  inputs: {features: [N, 2]}
  layers:
    fc: {type: Linear, out_features: 1}
data:
  source: {type: CSV, path: houses.csv, target: price}
  split: {train: 0.8, val: 0.2}
train:
  epochs: 1
  loss: MSELoss
  optimizer: SGD
  metrics: [R2Score]
"""


@pytest.fixture
def houses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A table of forty houses, in a working directory of its own, and a spec for it."""
    monkeypatch.chdir(tmp_path)
    draw = random.Random(0)
    rows = [f"{draw.uniform(0, 1):.3f},{draw.randint(1, 6)},{draw.uniform(1, 9):.2f}" for _ in range(40)]
    Path("houses.csv").write_text("\n".join(["area,rooms,price", *rows]), encoding="utf-8")
    path = Path("houses.yaml")
    path.write_text(HOUSES, encoding="utf-8")
    return path


def train(path: Path, old: str, new: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What `train` says of the spec with a change; it has to fail."""
    assert old in HOUSES
    path.write_text(HOUSES.replace(old, new), encoding="utf-8")
    assert main(["train", str(path)]) in (1, 3)
    shown = capsys.readouterr()
    assert "Traceback" not in shown.err + shown.out
    return shown.err + shown.out


def test_a_table_of_another_width(houses: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Told before the first step, with the shape to write; it was a product of matrices that failed."""
    said = train(houses, "[N, 2]", "[N, 3]", capsys)
    assert "error[NS562]: the model's input `features` takes [N, 3], and a batch of the field" in said
    assert "--> houses.yaml:4:12" in said
    assert "`inputs: {features: [N, 2]}`" in said
    assert not list(Path("runs").rglob("*.py"))


def test_accuracy_of_prices(houses: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = train(houses, "R2Score", "Accuracy", capsys)
    assert (
        "error[NS552]: Accuracy counts right classes, and MSELoss predicts numbers: `target` is float32 [N, 1]" in said
    )
    assert "--> houses.yaml:14:13" in said and "R2Score" in said
    houses.write_text(HOUSES.replace("R2Score", "Accuracy"), encoding="utf-8")
    assert main(["validate", str(houses)]) == 1  # without the data


SEQUENCES = """\
netspec: 1
name: steps
model:
  inputs: {sequence: [N, T, 3]}
  layers:
    lstm: {type: LSTM, hidden_size: 4, batch_first: true}
    last: {compute: "lstm.output[:, -1]"}
    head: {type: Linear, out_features: 2}
data: {source: {type: NumPy, path: seq.npz}}
train: {epochs: 1, loss: CrossEntropyLoss, optimizer: SGD, metrics: [Accuracy]}
"""


@pytest.fixture
def steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twenty sequences of five steps with a class each, and a spec for them."""
    monkeypatch.chdir(tmp_path)
    np.savez("seq.npz", sequence=np.ones((20, 5, 3), dtype="float32"), label=np.arange(20) % 2)
    path = Path("steps.yaml")
    path.write_text(SEQUENCES, encoding="utf-8")
    return path


def test_an_open_length_is_that_of_the_data(steps: Path) -> None:
    assert main(["train", str(steps)]) == 0


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('    last: {compute: "lstm.output[:, -1]"}\n', "", "error[NS552]: CrossEntropyLoss of scores [N, 5, 2] takes"),
        ("sequence: [N", "x: [N", "error[NS555]: the model's input `x` takes the data's field `x`, and the data have"),
        ("[N, T, 3]", "[N, T, 4]", "write `inputs: {sequence: [N, 5, 3]}`"),
        ("out_features: 2", "out_features: 3", "error[NS551]: the data have 2 classes"),
    ],
)
def test_what_only_the_data_tell_is_told_at_its_line(
    old: str, new: str, said: str, steps: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Arrays tell shapes in their headers, and classes when they have been read; the checks are those of any source."""
    assert old in SEQUENCES
    steps.write_text(SEQUENCES.replace(old, new), encoding="utf-8")
    read = "NS551" in said  # how many classes there are stands in no header
    assert main(["validate", str(steps)]) == (0 if read else 1)
    assert main(["train", str(steps)]) == 1
    shown = capsys.readouterr().err
    assert said in shown
    assert "--> steps.yaml:" in shown
    assert not list(Path("runs").rglob("*.py"))


def test_a_split_that_is_evaluated_is_looked_at_before_the_first_step(
    steps: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The shapes of `val` were met at the end of the first epoch, which may be hours later."""
    np.savez("other.npz", sequence=np.ones((20, 5, 4), dtype="float32"), label=np.arange(20) % 2)
    both = "data: {train: {source: {type: NumPy, path: seq.npz}}, val: {source: {type: NumPy, path: other.npz}}}"
    steps.write_text(SEQUENCES.replace("data: {source: {type: NumPy, path: seq.npz}}", both), encoding="utf-8")
    assert main(["train", str(steps)]) == 1
    shown = capsys.readouterr().err
    assert "a batch of the field `sequence` is [N, 5, 4]" in shown
    assert not list(Path("runs").rglob("*.py"))


WIDE = """\
netspec: 1
name: cities
model:
  inputs: {features: [N, 5]}
  layers:
    fc: {type: Linear, out_features: 1}
data:
  source: {type: CSV, path: houses.csv, target: price, categorical: [city]}
train:
  epochs: 1
  optimizer: SGD
  layers:
    found: {use: model, from: features}
    loss: {type: MSELoss, from: [found, target]}
"""


def test_an_objective_of_layers_is_looked_at_before_the_first_step(
    houses: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """How many columns a table of words comes to is known when it has been read."""
    Path("houses.csv").write_text("area,city,price\n1,Oslo,2\n2,Rome,3\n3,Bern,4\n", encoding="utf-8")
    houses.write_text(WIDE, encoding="utf-8")
    assert main(["validate", str(houses)]) == 0
    assert main(["train", str(houses)]) == 1
    shown = capsys.readouterr().err
    assert "houses.yaml:13:5" in shown and "[N, 4]" in shown and "[N, 5]" in shown
    assert not list(Path("runs").rglob("*.py"))
    houses.write_text(WIDE.replace("[N, 5]", "[N, 4]"), encoding="utf-8")
    assert main(["train", str(houses)]) == 0


def test_a_misspelt_column_is_found_without_reading_data(houses: Path, capsys: pytest.CaptureFixture[str]) -> None:
    houses.write_text(HOUSES.replace("target: price", "target: prize"), encoding="utf-8")
    assert main(["validate", str(houses)]) == 1
    shown = capsys.readouterr().err
    assert "error[NS512]: `houses.csv` has no column `prize`" in shown
    assert "did you mean `price`?" in shown
    assert "--> houses.yaml:8:49" in shown
    assert main(["show", str(houses)]) == 0  # the model is as it was
    Path("houses.csv").unlink()
    assert main(["validate", str(houses)]) == 0
    assert "warning[NS507]" in capsys.readouterr().err


def test_the_schema_of_a_parquet_file_is_looked_at(houses: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.table({"area": [1.0, 2.0], "price": [1.0, 2.0]}), "houses.parquet")
    text = HOUSES.replace("{type: CSV, path: houses.csv", "{type: Parquet, path: houses.parquet")
    houses.write_text(text, encoding="utf-8")
    assert main(["validate", str(houses)]) == 1
    assert "write `inputs: {features: [N, 1]}`" in capsys.readouterr().err
    houses.write_text(text.replace("[N, 2]", "[N, 1]").replace("target: price", "target: prices"), encoding="utf-8")
    assert main(["validate", str(houses)]) == 1
    assert "`houses.parquet` has no column `prices`" in capsys.readouterr().err


def test_a_run_is_used_where_its_data_have_changed(houses: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What a run was trained on may be gone or have other columns: it predicts all the same."""
    assert main(["train", str(houses), "--run-dir", "run", "--progress", "none"]) == 0
    Path("new.csv").write_text("area,rooms\n1,2\n", encoding="utf-8")
    Path("houses.csv").write_text("city,price\n1,2\n", encoding="utf-8")
    capsys.readouterr()
    assert main(["predict", "run", "new.csv"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_a_run_that_never_began_leaves_no_folder(houses: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Twenty tries at a spec are no twenty runs; a folder that was there stays."""
    Path("houses.csv").write_text("area,rooms,price\n1,2,cheap\n", encoding="utf-8")
    assert main(["train", str(houses)]) == 3
    assert not list(Path("runs").rglob("*.*"))
    assert not list(Path("runs", "houses").iterdir())
    Path("mine").mkdir()
    assert main(["train", str(houses), "--run-dir", "mine"]) == 3
    assert list(Path("mine").iterdir()) == []


def test_predictions_of_arrays_take_all_fields_by_name(steps: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", str(steps), "--run-dir", "run"]) == 0
    capsys.readouterr()
    assert main(["predict", "run", "seq.npz"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["input"] for row in rows] == [f"seq.npz:{number}" for number in range(1, 21)]
    np.savez("bare.npz", other=np.ones((3, 5, 3)), more=np.ones(3))
    assert main(["predict", "run", "bare.npz"]) == 3
    assert "bare.npz has none of the arrays sequence, label; it holds other, more" in capsys.readouterr().err


def test_a_row_of_another_width_is_told(houses: Path, capsys: pytest.CaptureFixture[str]) -> None:
    houses.write_text(HOUSES.replace("  split:", "  transforms: [Standardize]\n  split:"), encoding="utf-8")
    assert main(["train", str(houses), "--run-dir", "run"]) == 0
    np.save("rows.npy", np.ones((4, 3), dtype="float32"))
    capsys.readouterr()
    assert main(["predict", "run", "rows.npy"]) == 3
    assert "`features` has [3] numbers, and the training data had [2]" in capsys.readouterr().err


def test_floats_of_the_shape_that_the_source_gives_are_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    spec = {
        "model": "{inputs: {image: [N, 1, 8, 8]}, layers: {flat: Flatten, fc: {type: Linear, out_features: 10}}}",
        "data": "{source: Digits}",
        "train": "{steps: 3, loss: CrossEntropyLoss, optimizer: SGD}",
    }
    text = "netspec: 1\nname: net\n" + "\n".join(f"{key}: {value}" for key, value in spec.items())
    Path("net.yaml").write_text(text, encoding="utf-8")
    assert main(["train", "net.yaml", "--run-dir", "run"]) == 0
    images = np.random.default_rng(0).random((4, 1, 8, 8)).astype("float32")
    np.save("images.npy", images)
    capsys.readouterr()
    assert main(["predict", "run", "images.npy"]) == 0
    rows = [json.loads(line)["prediction"] for line in capsys.readouterr().out.splitlines()]
    loaded = netspec.load("run")
    assert rows == loaded(torch.from_numpy(images)).argmax(1).tolist()
