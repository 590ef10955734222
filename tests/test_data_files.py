"""Files for a trained model: read and transformed as the evaluation data was, from the run's state alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from data_support import epoch, image_folder, joined, opened, recipe
from PIL import Image

from netspec.runtime.data import preprocess_files
from netspec.runtime.data.opening import open_data
from netspec.runtime.errors import RunError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return image_folder(tmp_path / "images", {"ant": 3, "bee": 2})


def spec(folder: Path) -> str:
    return f"""
    train:
      source: {{type: ImageFolder, root: {folder}}}
      transforms: [{{type: RandomCrop, size: 8}}, RandomHorizontalFlip]
    val:
      source: {{type: ImageFolder, root: {folder}}}
      transforms: [{{type: CenterCrop, size: 8}}]
      batch_transforms: [{{type: Normalize, mean: [0.5], std: [0.25]}}]
    """


def test_images_come_as_they_do_in_evaluation(folder: Path) -> None:
    data = opened(spec(folder))
    state = json.loads(json.dumps(data.state()))
    evaluated = joined(epoch(data.splits["val"]), "image")
    paths = [folder / "ant", folder / "bee" / "000.png", folder / "bee" / "001.png"]
    found = list(preprocess_files(recipe(spec(folder)), paths, state=state))
    assert [Path(name).name for name, _ in found] == ["000.png", "001.png", "002.png", "000.png", "001.png"]
    assert torch.equal(torch.stack([fields["image"] for _, fields in found]), evaluated)
    assert state["source"]["classes"] == ["ant", "bee"]


def test_without_an_evaluation_split_random_transforms_are_left_out(folder: Path) -> None:
    text = f"""
    source: {{type: ImageFolder, root: {folder}}}
    transforms: [{{type: Resize, size: [10, 10]}}, {{type: RandomHorizontalFlip, p: 1}}]
    """
    plain = text.replace(", {type: RandomHorizontalFlip, p: 1}", "")
    state = opened(text).state()
    path = folder / "ant" / "000.png"
    (_, fields), *_ = preprocess_files(recipe(text), [path], state=state)
    (_, expected), *_ = preprocess_files(recipe(plain), [path], state=state)
    assert torch.equal(fields["image"], expected["image"])


def test_a_photo_of_a_digit_becomes_what_the_source_gives(tmp_path: Path) -> None:
    data = opened("source: Digits")
    whole = epoch(opened("source: Digits\nsampler: SequentialSampler").splits["train"])[0]["image"]
    path = tmp_path / "digit.png"
    Image.fromarray((whole[0, 0] * 255).round().to(torch.uint8).numpy()).resize((80, 80), 0).convert("RGB").save(path)
    ((_, fields),) = preprocess_files(recipe("source: Digits"), [path], state=data.state())
    assert fields["image"].shape == (1, 8, 8)
    torch.testing.assert_close(fields["image"], whole[0], rtol=0, atol=0.5 / 255 + 1e-6)
    unscaled = "source: {type: Digits, scale: false}"
    ((_, sixteen),) = preprocess_files(recipe(unscaled), [path], state=opened(unscaled).state())
    torch.testing.assert_close(sixteen["image"], fields["image"] * 16)


def test_rows_of_a_table_need_only_the_features(tmp_path: Path) -> None:
    train = tmp_path / "train.csv"
    train.write_text("a,colour,y\n1,red,u\n2,blue,v\n4,red,v\n", encoding="utf-8")
    text = f"""
    source: {{type: CSV, path: {train}, label: y, categorical: [colour]}}
    transforms: [Standardize]
    sampler: SequentialSampler
    """
    data = opened(text)
    state = json.loads(json.dumps(data.state()))
    new = tmp_path / "new.csv"
    new.write_text("colour,unused,a\nred,9,1\nblue,9,2\n", encoding="utf-8")
    found = list(preprocess_files(recipe(text), [new], state=state))
    assert [name for name, _ in found] == [f"{new}:1", f"{new}:2"]
    expected = epoch(data.splits["train"])[0]["features"][:2]
    assert torch.equal(torch.stack([fields["features"] for _, fields in found]), expected)
    new.write_text("colour,a\ngreen,1\n", encoding="utf-8")
    with pytest.raises(RunError, match="colour has the value 'green'"):
        list(preprocess_files(recipe(text), [new], state=state))


def test_rows_for_a_set_of_scikit_learns_go_by_its_column_names(tmp_path: Path) -> None:
    text = "source: Iris\ntransforms: [Standardize]\nsampler: SequentialSampler\nbatch_size: 150"
    data = opened(text)
    columns = data.state()["source"]["columns"]
    path = tmp_path / "iris.csv"
    path.write_text(",".join(columns) + "\n5.1,3.5,1.4,0.2\n", encoding="utf-8")
    ((_, fields),) = preprocess_files(recipe(text), [path], state=data.state())
    assert torch.equal(fields["features"], epoch(data.splits["train"])[0]["features"][0])


@pytest.mark.parametrize("what", ["absent.png", "words.png", "empty"])
def test_a_file_that_cannot_be_read_is_named(folder: Path, tmp_path: Path, what: str) -> None:
    state = opened(spec(folder)).state()
    (tmp_path / "empty").mkdir()
    (tmp_path / "words.png").write_text("no image")
    with pytest.raises(RunError, match=what) as caught:
        list(preprocess_files(recipe(spec(folder)), [tmp_path / what], state=state))
    assert caught.value.code in ("NS920", "NS921")


def test_a_later_evaluation_learns_nothing_anew(tmp_path: Path) -> None:
    """With a run's state a test split is read without the training data, and by the training data's statistics."""
    train, test = tmp_path / "train.csv", tmp_path / "test.csv"
    train.write_text("a,y\n1,u\n3,v\n", encoding="utf-8")
    test.write_text("a,y\n5,v\n", encoding="utf-8")
    text = f"""
    train: {{source: {{type: CSV, path: {train}, label: y}}}}
    test: {{source: {{type: CSV, path: {test}, label: y}}}}
    transforms: [Standardize]
    """
    first = opened(text)
    known = recipe(text)
    train.unlink()
    again = open_data(known, seed=0, device=torch.device("cpu"), splits=["test"], state=first.state())
    (batch,) = epoch(again.splits["test"])
    assert batch["features"].tolist() == [[3.0]]
    assert batch["label"].tolist() == [1]
    assert again.state() == first.state()
    with pytest.raises(RunError, match=r"there is no file .*train\.csv"):
        opened(text, splits=["test"])
