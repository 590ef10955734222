"""How sources are cut and drawn from: counts, columns, files, subsets, weights of samples; tables of Parquet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from data_support import epoch, image_folder, joined, opened, read, recipe

from netspec.runtime.data.sources import load
from netspec.runtime.errors import RunError


def sizes(text: str) -> dict[str, int]:
    return {name: stream.size for name, stream in opened(text).splits.items()}


def frame(rows: int = 30) -> pd.DataFrame:
    draw = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "a": draw.normal(size=rows),
            "b": draw.integers(0, 9, rows),
            "kind": [("ant", "bee", "cow")[i % 3] for i in range(rows)],
            "part": ["train"] * (rows - 10) + ["val"] * 6 + ["test"] * 4,
            "fold": [i % 5 for i in range(rows)],
            "weight": [float(i % 3 == 0) for i in range(rows)],
        }
    )


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    frame().to_csv(tmp_path / "table.csv", index=False)
    return tmp_path / "table.csv"


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        ("{train: rest, val: 100, test: 200}", {"train": 1497, "val": 100, "test": 200}),
        ("{train: 1000, test: 0.1}", {"train": 1000, "test": 180}),
        ("{train: 0.5, val: 2, test: rest}", {"train": 899, "val": 2, "test": 896}),
        ("{train: 0.8, test: 0.2, shuffle: false}", {"train": 1438, "test": 359}),
    ],
)
def test_sizes_are_shares_counts_or_the_rest(split: str, expected: dict[str, int]) -> None:
    text = f"source: Digits\nsplit: {split}"
    assert sizes(text) == expected


def test_in_order_the_parts_follow_each_other() -> None:
    data = opened("source: Digits\nsplit: {train: 1000, val: 500, test: rest, shuffle: false}\ntrain: {shuffle: false}")
    whole = joined(epoch(opened("train: {source: Digits, shuffle: false}").splits["train"]), "image")
    parts = [joined(epoch(data.splits[name]), "image") for name in ("train", "val", "test")]
    assert torch.equal(torch.cat(parts), whole)


def test_a_column_says_which_split_a_row_is_in(csv: Path) -> None:
    text = f"source: {{type: CSV, path: {csv}, label: kind, features: [a, b]}}\nsplit: SPLIT\ntrain: {{shuffle: false}}"
    plain = text.replace("SPLIT", "{column: part, train: train, val: val, test: test}")
    assert sizes(plain) == {"train": 20, "val": 6, "test": 4}
    folds = text.replace("SPLIT", "{column: fold, train: [0, 1, 2], val: 3}")
    expected = frame()
    found = joined(epoch(opened(folds).splits["val"]), "features")
    assert torch.allclose(found, torch.tensor(expected[expected.fold == 3][["a", "b"]].to_numpy(), dtype=torch.float32))
    with pytest.raises(RunError, match="no row has 'dev'"):
        opened(text.replace("SPLIT", "{column: part, train: train, val: dev}"))
    with pytest.raises(RunError, match="no column 'parts'"):
        opened(text.replace("SPLIT", "{column: parts, train: train}"))


def test_the_column_of_a_split_is_no_feature(tmp_path: Path) -> None:
    frame()[["a", "b", "kind", "part"]].to_csv(tmp_path / "x.csv", index=False)
    text = f"source: {{type: CSV, path: {tmp_path / 'x.csv'}, label: kind}}\nsplit: {{column: part, train: train}}"
    assert opened(text).state()["source"]["columns"] == ["a", "b"]


def test_an_array_says_which_split_a_sample_is_in(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", features=np.ones((6, 2)), label=np.arange(6), part=np.array([0, 0, 1, 1, 0, 2]))
    text = f"source: {{type: NumPy, path: {tmp_path / 'x.npz'}}}\nsplit: {{column: part, train: 0, val: [1, 2]}}"
    data = opened(text)
    assert sizes(text) == {"train": 3, "val": 3}
    assert joined(epoch(data.splits["val"]), "label").tolist() == [2, 3, 5]
    assert set(data.splits["train"].fields) == {"features", "label"}


def test_files_list_the_samples_of_each_split(tmp_path: Path) -> None:
    root = image_folder(tmp_path / "photos", {"a": 3, "b": 3})
    (tmp_path / "train.txt").write_text("a/000.png\na/001.png\nb/002.png\n\n")
    (tmp_path / "val.txt").write_text("b/000\na/002\n")
    (tmp_path / "test.txt").write_text("4\n")
    text = (
        f"source: {{type: ImageFolder, root: {root}}}\n"
        f"split: {{train: {tmp_path / 'train.txt'}, val: {tmp_path / 'val.txt'}, test: {tmp_path / 'test.txt'}}}"
    )
    data = opened(text)
    assert {name: stream.size for name, stream in data.splits.items()} == {"train": 3, "val": 2, "test": 1}
    assert joined(epoch(data.splits["val"]), "label").tolist() == [0, 1]
    assert recipe(text).paths["data.split.val"] == str(tmp_path / "val.txt")
    (tmp_path / "test.txt").write_text("a/000.png\n")
    with pytest.raises(RunError, match=r"line 1 of .* a/000.png is in `train` already"):
        opened(text)
    (tmp_path / "test.txt").write_text("c/000.png\n")
    with pytest.raises(RunError, match=r"line 1 of .* names 'c/000.png', which is none of the 6 samples"):
        opened(text)


@pytest.mark.parametrize(
    ("text", "code", "part"),
    [
        ("source: Digits\nsplit: {train: rest, val: rest}", "NS504", "only one split can be `rest`"),
        ("source: Digits\nsplit: {train: 1.0, val: 5}", "NS504", "leave nothing for the others"),
        ("source: Digits\nsplit: {train: 0.8, shuffle: false, stratify: label}", "NS508", "`stratify` draws them"),
        ("source: Digits\nsplit: {train: 0.8, shuffle: false, seed: 3}", "NS508", "`seed` draws them"),
        ("source: Digits\nsplit: {column: part}", "NS504", "nothing to train on"),
        ("source: Digits\nsplit: {column: part, train: a, val: a}", "NS504", "one split only"),
        ("source: Digits\nsplit: {column: part, train: a, seed: 1}", "NS508", "`seed` has no effect"),
        ("source: Digits\nsplit: {train: 0.8, test: x.txt}", "NS504", "and got `x.txt`"),
        ("source: Digits\nsubset: 1.5", "NS508", "a count of samples or a share"),
        ("source: Digits\nskip_unreadable: -1", "NS508", "from 0, and got -1"),
        (
            "source: {type: Text, path: x.txt, length: 8, stride: 1}\nsplit: {train: 0.8, val: 0.2}",
            "NS504",
            "neighbouring samples of Text overlap",
        ),
        ("source: Digits\nsampler: {type: WeightedRandomSampler, weights: {a: 1}}", "NS503", "a column's name"),
    ],
)
def test_a_mistake_is_told(text: str, code: str, part: str) -> None:
    made, said = read(text)
    wrong = [d for d in said if d.severity == "error"]
    assert made is None
    assert [d.code for d in wrong] == [code], wrong
    assert part in wrong[0].message + str(wrong[0].help)


def test_counts_that_look_like_percent_are_a_warning() -> None:
    made, said = read("source: Digits\nsplit: {train: 80, val: 20}")
    assert made is not None
    assert [(d.code, d.severity) for d in said] == [("NS504", "warning")]
    assert "{train: 0.8, val: 0.2}" in str(said[0].help)
    assert not read("source: Digits\nsplit: {train: 80, val: 30}")[1]


def test_too_many_samples_are_asked_for() -> None:
    with pytest.raises(RunError, match="asks for 2100 samples, and the source has 1797"):
        opened("source: Digits\nsplit: {train: 2000, val: 100}")
    with pytest.raises(RunError, match="the others leave nothing"):
        opened("source: Digits\nsplit: {train: 1797, val: rest}")


def test_a_class_of_one_sample_cannot_be_stratified(tmp_path: Path) -> None:
    image_folder(tmp_path / "photos", {"many": 8, "one": 1})
    source = f"{{type: ImageFolder, root: {tmp_path / 'photos'}}}"
    with pytest.raises(RunError, match="the class one has 1 sample, and `stratify` would have to give one") as caught:
        opened(f"source: {source}\nsplit: {{train: 0.6, val: 0.4, stratify: label}}")
    assert "leave out `stratify`" in str(caught.value.help)


def test_fewer_samples_than_a_batch_are_told() -> None:
    with pytest.raises(RunError, match="`train` has 20 samples: no whole batch of 32") as caught:
        opened("train: {source: Digits, subset: 20, drop_last: true}")
    assert "`drop_last: false`" in str(caught.value.help)


def test_no_samples_at_all_are_told(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("a,b\n")
    with pytest.raises(RunError, match="holds no rows below a header") as caught:
        opened(f"train: {{source: {{type: CSV, path: {tmp_path / 'x.csv'}}}}}")
    assert caught.value.help
    np.savez(tmp_path / "x.npz", features=np.ones((0, 3)))
    with pytest.raises(RunError, match="holds no samples"):
        opened(f"train: {{source: {{type: NumPy, path: {tmp_path / 'x.npz'}}}}}")


@pytest.mark.parametrize(("subset", "count"), [(100, 100), (0.25, 449), (5000, 1797)])
def test_a_subset_is_drawn_once(subset: float, count: int) -> None:
    text = f"train: {{source: Digits, shuffle: false, subset: {subset}}}"
    streams = [opened(text, seed=seed).splits["train"] for seed in (0, 1)]
    first, again = (joined(epoch(stream), "image") for stream in streams)
    assert len(first) == count
    assert torch.equal(first, again)
    if count < 1797:
        whole = joined(epoch(opened("train: {source: Digits, shuffle: false}").splits["train"]), "image")
        assert not torch.equal(first, whole[:count])


def test_a_column_weighs_the_samples(csv: Path) -> None:
    text = (
        f"train: {{source: {{type: CSV, path: {csv}, label: kind, features: [a, b]}}, "
        "sampler: {type: WeightedRandomSampler, weights: weight, num_samples: 300}}"
    )
    stream = opened(text).splits["train"]
    batches = epoch(stream, 2)
    rows = joined(batches, "features")
    assert len(rows) == 300
    allowed = frame()[frame().weight == 1][["a", "b"]].to_numpy(dtype=np.float32)
    assert all(any(np.allclose(row, one) for one in allowed) for row in rows.numpy())
    again = [b["features"] for b in epoch(opened(text).splits["train"], 2, start=3)]
    assert torch.equal(torch.cat(again), rows[3 * 32 :])
    with pytest.raises(RunError, match="not all numbers from 0"):
        epoch(opened(text.replace("weights: weight", "weights: part")).splits["train"])
    with pytest.raises(RunError, match="draws 300 samples, and 10 have a weight above 0"):
        epoch(opened(text.replace("num_samples", "replacement: false, num_samples")).splits["train"])


# Tables and arrays


def test_parquet_reads_as_csv_does(tmp_path: Path) -> None:
    table = frame().drop(columns=["part"])
    table["flag"] = table.fold > 2
    table.to_parquet(tmp_path / "x.parquet")
    table["flag"] = table.flag.astype(int)
    table.to_csv(tmp_path / "x.csv", index=False)
    found = []
    for kind, file in (("Parquet", "x.parquet"), ("CSV", "x.csv")):
        text = f"train: {{source: {{type: {kind}, path: {tmp_path / file}, label: kind, target: b}}, shuffle: false}}"
        data = opened(text)
        (batch,) = epoch(data.splits["train"])
        found.append((batch, data.state()["source"], data.splits["train"].classes))
    assert found[0][1:] == found[1][1:]
    assert found[0][2] == ("ant", "bee", "cow")
    for name in ("features", "label", "target"):
        assert torch.equal(found[0][0][name], found[1][0][name])


def test_integers_as_classes_of_parquet(tmp_path: Path) -> None:
    table = pd.DataFrame({"a": [1.0, 2.0, 3.0], "kind": [10, 2, 10], "word": pd.Categorical(["x", "y", "x"])})
    table.to_parquet(tmp_path / "x.parquet")
    text = f"train: {{source: {{type: Parquet, path: {tmp_path / 'x.parquet'}, label: kind, categorical: [word]}}}}"
    stream = opened(text.replace("}}", "}, shuffle: false}")).splits["train"]
    (batch,) = epoch(stream)
    assert stream.classes == ("2", "10")
    assert batch["label"].tolist() == [1, 0, 1]
    assert batch["features"].tolist() == [[1, 1, 0], [2, 0, 1], [3, 1, 0]]


def test_a_cell_of_parquet_that_is_missing_is_named(tmp_path: Path) -> None:
    pd.DataFrame({"a": [1.0, None, 3.0], "b": [1, 2, 3]}).to_parquet(tmp_path / "x.parquet")
    text = f"train: {{source: {{type: Parquet, path: {tmp_path / 'x.parquet'}, target: b}}}}"
    with pytest.raises(RunError, match=r"row 2 of .*: a is empty"):
        opened(text)
    (tmp_path / "x.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(RunError, match="can't be read as Parquet"):
        opened(text)


def test_arrays_of_single_files(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.arange(12.0).reshape(4, 3))
    np.save(tmp_path / "y.npy", np.array([0, 1, 1, 0]))
    path = f"{{features: {tmp_path / 'x.npy'}, label: {tmp_path / 'y.npy'}}}"
    text = f"train: {{source: {{type: NumPy, path: {path}}}, shuffle: false}}"
    (batch,) = epoch(opened(text).splits["train"])
    assert batch["features"].tolist() == np.arange(12.0).reshape(4, 3).tolist()
    assert batch["label"].tolist() == [0, 1, 1, 0]
    stated = {"features": "x.npy", "label": "y.npy"}
    places = {f"data.train.source.path.{field}": str(tmp_path / file) for field, file in stated.items()}
    assert recipe(text).paths == places
    alone = f"{{type: NumPy, path: {tmp_path / 'x.npy'}}}"
    (found,) = epoch(opened(f"train: {{source: {alone}, shuffle: false}}").splits["train"])
    assert torch.equal(found["features"], batch["features"])
    named = alone.replace("NumPy", "NumPy, fields: {sequence: x}")
    assert set(load(recipe(f"train: {{source: {named}}}").splits["train"].source).fields) == {"sequence"}
