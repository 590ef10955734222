"""`netspec eval --data`: a run on other data, and `netspec predict` on the same, against figures worked out by hand."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import netspec
from netspec.cli import main
from netspec.runtime.run import train

TABLE = """\
netspec: 1
name: irises
model:
  inputs: {features: [N, 4]}
  layers: {fc: {type: Linear, out_features: 3}}
data:
  source: {type: CSV, path: SOURCE, label: species}
  split: {train: 0.8, val: 0.2, stratify: label}
  transforms: [Standardize]
train:
  epochs: 5
  loss: CrossEntropyLoss
  optimizer: {type: AdamW, lr: 0.05}
  metrics: [Accuracy]
  device: cpu
  tensorboard: false
"""


@pytest.fixture(scope="module")
def run(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("irises")
    (folder / "spec.yaml").write_text(TABLE.replace("SOURCE", str(root / "specs" / "data" / "iris.csv")))
    train(folder / "spec.yaml", run_dir=folder / "run", progress="none")
    return folder / "run"


def rows(root: Path) -> list[list[str]]:
    with (root / "specs" / "data" / "iris.csv").open(encoding="utf-8") as file:
        return list(csv.reader(file))


def write(path: Path, lines: list[list[str]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(lines)
    return path


def test_a_table_elsewhere(run: Path, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its rows in another order, of two classes alone: names, means and deviations are the run's."""
    head, *body = rows(root)
    other = write(tmp_path / "other.csv", [head, *body[::-3][:30]])
    assert main(["eval", str(run), "--data", str(other), "--format", "json"]) == 0
    figures = json.loads(capsys.readouterr().out)[str(other)]
    assert main(["predict", str(run), str(other)]) == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    species = [line[head.index("species")] for line in body[::-3][:30]]
    right = [row["class"] == name for row, name in zip(told, species, strict=True)]
    losses = [-np.log(row["probabilities"][name]) for row, name in zip(told, species, strict=True)]
    assert figures["accuracy"] == pytest.approx(np.mean(right)) and figures["loss"] == pytest.approx(np.mean(losses))
    assert main(["eval", str(run), "--data", str(other), "--classes"]) == 0
    assert str(other) in capsys.readouterr().out.splitlines()[0]


def test_one_row_by_itself(run: Path, root: Path) -> None:
    trained = netspec.load(run)
    row = [float(value) for value in rows(root)[1][:4]]
    whole = trained.predict([row, row])
    assert len(whole) == 2 and trained.predict(row) == whole[:1] == trained.predict(np.array(row))


def test_a_parquet_file_for_a_run_on_csv(
    run: Path, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pandas = pytest.importorskip("pandas")
    pandas.read_csv(root / "specs" / "data" / "iris.csv").to_parquet(tmp_path / "iris.parquet")
    found = []
    for path in (tmp_path / "iris.parquet", root / "specs" / "data" / "iris.csv"):
        assert main(["eval", str(run), "--data", str(path), "--format", "json"]) == 0
        found.append(json.loads(capsys.readouterr().out)[str(path)])
    assert found[0] == found[1]


def test_what_can_not_be_read_is_said(
    run: Path, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    head, *body = rows(root)
    at = head.index("species")
    cases = {
        "there is no file": tmp_path / "none.csv",
        "species": write(tmp_path / "unlabelled.csv", [line[:at] + line[at + 1 :] for line in (head, *body)]),
        "unknown": write(tmp_path / "unknown.csv", [head, [*body[0][:at], "unknown", *body[0][at + 1 :]]]),
    }
    for words, path in cases.items():
        assert main(["eval", str(run), "--data", str(path)]) == 3, words
        said = capsys.readouterr().err
        assert "error[NS92" in said and words in said
    assert main(["eval", str(run), "--data", "x", "--split", "val"]) == 2
    capsys.readouterr()


IMAGES = """\
netspec: 1
name: squares
model:
  inputs: {image: [N, 3, 8, 8]}
  layers: {flat: Flatten, fc: {type: Linear, out_features: 2}}
data:
  source: {type: ImageFolder, root: train}
  split: {train: 0.5, val: 0.5}
  transforms:
    - RandomHorizontalFlip
    - {type: Resize, size: [8, 8]}
    - ToImage
    - {type: ToDtype, dtype: float32, scale: true}
train:
  epochs: 3
  loss: CrossEntropyLoss
  optimizer: {type: SGD, lr: 0.1}
  metrics: [Accuracy]
  device: cpu
  tensorboard: false
"""


def test_a_folder_of_images_elsewhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shades = {"bright": 220, "dark": 30}
    for folder, count in (("train", 8), ("other", 5)):
        for name, shade in shades.items():
            (tmp_path / folder / name).mkdir(parents=True)
            for index in range(count):
                image = np.full((10, 12, 3), shade + index, dtype=np.uint8)
                Image.fromarray(image).save(tmp_path / folder / name / f"{index}.png")
    (tmp_path / "spec.yaml").write_text(IMAGES, encoding="utf-8")
    done = train(tmp_path / "spec.yaml", run_dir=tmp_path / "run", progress="none")
    other = str(tmp_path / "other")
    assert main(["eval", str(tmp_path / "run"), "--data", other, "--format", "json"]) == 0
    figures = json.loads(capsys.readouterr().out)[other]
    assert main(["predict", str(tmp_path / "run"), other, "--format", "csv"]) == 0
    told = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert len(told) == 10
    right = [Path(row["input"]).parent.name == row["class"] for row in told]
    assert figures["accuracy"] == pytest.approx(np.mean(right))
    assert done.directory is not None
    trained = netspec.load(done.directory)
    batch = trained.preprocess([str(tmp_path / "other" / "dark" / "0.png")])
    assert batch.shape == (1, 3, 8, 8) and torch.equal(trained(batch), trained.model(batch))


def test_a_source_without_a_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = TABLE.replace("{type: CSV, path: SOURCE, label: species}", "Iris")
    (tmp_path / "spec.yaml").write_text(spec, encoding="utf-8")
    train(tmp_path / "spec.yaml", run_dir=tmp_path / "run", progress="none")
    assert main(["eval", str(tmp_path / "run"), "--data", str(tmp_path)]) == 3
    assert "error[NS929]: this run learnt from Iris" in capsys.readouterr().err
