"""`split: {groups: column}`: whole groups on one side of a cut, held against scikit-learn's GroupShuffleSplit."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from data_support import epoch, image_folder, joined, opened, read
from sklearn.model_selection import GroupShuffleSplit

from netspec.runtime.errors import RunError


def table(folder: Path, groups: Sequence[object], kind: str = "csv") -> str:
    """A source whose only feature is the number of the row."""
    frame = pd.DataFrame({"row": range(len(groups)), "patient": groups, "ill": [i % 2 for i in range(len(groups))]})
    if kind == "NumPy":
        np.savez(folder / "x.npz", features=frame[["row"]].to_numpy(np.float32), patient=np.array(groups))
        return f"source: {{type: NumPy, path: {folder / 'x.npz'}}}"
    if kind == "Parquet":
        frame.to_parquet(folder / "x.parquet")
        return f"source: {{type: Parquet, path: {folder / 'x.parquet'}, label: ill}}"
    frame.to_csv(folder / "x.csv", index=False)
    return f"source: {{type: CSV, path: {folder / 'x.csv'}, label: ill}}"


def cut(source: str, split: str) -> dict[str, list[int]]:
    """The rows of each split."""
    data = opened(f"{source}\nsplit: {split}\ntrain: {{shuffle: false}}")
    return {name: joined(epoch(stream), "features").flatten().int().tolist() for name, stream in data.splits.items()}


def drawn(seed: int, count: int) -> list[str]:
    """Groups of one to some dozens of samples, in a disorder."""
    draw = np.random.default_rng(seed)
    sizes = np.ceil(draw.lognormal(1.5, 1.0, count)).astype(int)
    names = np.repeat([f"p{i}" for i in range(count)], sizes)
    return list(draw.permutation(names))


def groups_of(rows: Sequence[int], groups: Sequence[object]) -> set[object]:
    return {groups[row] for row in rows}


@pytest.mark.parametrize("kind", ["csv", "Parquet", "NumPy"])
def test_no_group_is_on_both_sides(kind: str, tmp_path: Path) -> None:
    groups = drawn(0, 40)
    source = table(tmp_path, groups, kind)
    found = cut(source, "{train: 0.7, val: 0.1, test: 0.2, groups: patient}")
    assert sorted(row for rows in found.values() for row in rows) == list(range(len(groups)))
    assert all(rows == sorted(rows) for rows in found.values())
    for one, other in combinations(found.values(), 2):
        assert not groups_of(one, groups) & groups_of(other, groups)
    assert cut(source, "{train: 0.7, val: 0.1, test: 0.2, groups: patient, seed: 0}") == found
    assert cut(source, "{train: 0.7, val: 0.1, test: 0.2, groups: patient, seed: 1}") != found
    data = opened(f"{source}\nsplit: {{train: 0.8, test: 0.2, groups: patient}}")
    assert data.splits["train"].fields["features"].shape == (1,) and "patient" not in data.splits["train"].fields


@pytest.mark.parametrize("seed", range(5))
def test_the_shares_are_nearer_than_scikit_learns(seed: int, tmp_path: Path) -> None:
    """It takes a share of the groups, and this one of the samples."""
    groups = drawn(seed, 60)
    wanted = round(0.25 * len(groups))
    ours = len(cut(table(tmp_path, groups), f"{{train: 0.75, test: 0.25, groups: patient, seed: {seed}}}")["test"])
    theirs = GroupShuffleSplit(20, test_size=0.25, random_state=seed).split(groups, groups=groups)
    assert abs(ours - wanted) <= min(abs(len(test) - wanted) for _, test in theirs)


@pytest.mark.parametrize(
    "sizes", [[9, 7, 5, 3], [20, 1, 1, 1, 1], [6, 6, 6, 2, 11, 4, 4], [5, 5], [30, 2, 9, 9, 14, 3, 8]]
)
def test_nothing_is_nearer_with_few_groups(sizes: list[int], tmp_path: Path) -> None:
    """Against all ways to choose."""
    groups = [f"p{number}" for number, size in enumerate(sizes) for _ in range(size)]
    wanted = int(0.3 * len(groups) + 0.5)
    ways = [sum(way) for count in range(1, len(sizes)) for way in combinations(sizes, count)]
    source = table(tmp_path, groups)
    for seed in range(4):
        found = len(cut(source, f"{{train: 0.7, val: 0.3, groups: patient, seed: {seed}}}")["val"])
        taken = len(groups) - (len(groups) - wanted)
        assert abs(found - taken) <= min(abs(way - taken) for way in ways) + 1  # the share of `train` is rounded


def test_counts_and_what_is_left_over(tmp_path: Path) -> None:
    groups = [number // 5 for number in range(100)]
    source = table(tmp_path, groups)
    found = cut(source, "{train: rest, val: 20, test: 10, groups: patient}")
    assert {name: len(rows) for name, rows in found.items()} == {"train": 70, "val": 20, "test": 10}
    found = cut(source, "{train: 40, test: 10, groups: patient}")
    assert {name: len(rows) for name, rows in found.items()} == {"train": 40, "test": 10}
    assert not groups_of(found["train"], groups) & groups_of(found["test"], groups)


def test_in_order_groups_follow_each_other(tmp_path: Path) -> None:
    """Days one after the other: the last ones are the test."""
    groups = [number // 7 for number in range(70)]
    found = cut(table(tmp_path, groups), "{train: 0.75, test: 0.25, groups: patient, shuffle: false}")
    assert found == {"train": list(range(56)), "test": list(range(56, 70))}  # 52.5 is nearer to 56 than to 49: a tie


def test_a_field_of_images_names_the_group(tmp_path: Path) -> None:
    root = image_folder(tmp_path / "photos", {"a": 4, "b": 3, "c": 3})
    data = opened(f"source: {{type: ImageFolder, root: {root}}}\nsplit: {{train: 0.6, test: 0.4, groups: label}}")
    sides = [set(joined(epoch(stream), "label").tolist()) for stream in data.splits.values()]
    assert not sides[0] & sides[1] and sides[0] | sides[1] == {0, 1, 2}


@pytest.mark.parametrize(
    ("split", "code", "part"),
    [
        ("{train: 0.8, test: 0.2, groups: lable}", "NS505", "did you mean `label`?"),
        ("{train: 0.8, test: 0.2, groups: label, stratify: label}", "NS508", "`groups` stay whole"),
        ("{train: a.txt, groups: label}", "NS508", "`groups` has no effect"),
        ("{train: a, column: label, groups: label}", "NS508", "`groups` has no effect"),
        ("{train: 0.8, groups: 3}", "NS505", "`groups` names a column, and got 3"),
    ],
)
def test_a_mistake_is_told_at_its_place(split: str, code: str, part: str) -> None:
    made, said = read(f"source: Digits\nsplit: {split}")
    (wrong,) = [d for d in said if d.severity == "error"]
    assert made is None and wrong.code == code and part in wrong.message + str(wrong.help), wrong
    assert wrong.span.line == 3 and wrong.span.column > 10


@pytest.mark.parametrize("kind", ["csv", "Parquet", "NumPy"])
def test_a_misspelt_column_is_told_before_anything_is_read(kind: str, tmp_path: Path) -> None:
    _, said = read(f"{table(tmp_path, [1, 2, 3], kind)}\nsplit: {{train: 0.5, test: 0.5, groups: patients}}")
    (wrong,) = [d for d in said if d.severity == "error"]
    assert wrong.code == "NS512" and "patient" in str(wrong.help) and wrong.span.line == 3


def test_too_few_groups_and_samples_of_none_are_told(tmp_path: Path) -> None:
    split = "{train: 0.6, val: 0.2, test: 0.2, groups: patient}"
    with pytest.raises(RunError, match="NS925 `split` makes 3 parts, and `patient` has 2 groups"):
        cut(table(tmp_path, ["a"] * 5 + ["b"] * 5), split)
    with pytest.raises(RunError, match=r"NS924 row 3 of .*x.csv is in no group: `patient` is empty"):
        cut(table(tmp_path, ["a", "", "b", "c"]), split)
    assert {len(rows) for rows in cut(table(tmp_path, ["a", "b", "c"] * 5), split).values()} == {5}
