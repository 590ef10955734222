"""The `data` section: what is read, what is told without data, and what is said about mistakes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from data_support import epoch, opened, read, recipe

from netspec.catalog import registry
from netspec.catalog.sources import SourceEntry
from netspec.recipe.data import Cut, Sampler


def said(text: str, **options: object) -> list[tuple[str, str]]:
    """Code and message of each diagnostic."""
    _, found = read(text, **options)  # type: ignore[arg-type]
    return [(d.code, d.message) for d in found]


def test_reading_imports_nothing_heavy() -> None:
    program = "import netspec.recipe.data, netspec.recipe.read_data, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    modules = set(done.stdout.split())
    assert "netspec.recipe.read_data" in modules
    assert not modules & {"torch", "torchvision", "numpy", "pandas", "sklearn", "PIL"}


def test_one_source_cut_in_three() -> None:
    found = recipe("""
    source: Digits
    split: {train: 0.7, val: 0.1, test: 0.2, seed: 3, stratify: label}
    batch_size: 128
    """)
    assert list(found.splits) == ["train", "val", "test"]
    assert found.cut == Cut(sizes={"train": 0.7, "val": 0.1, "test": 0.2}, seed=3, stratify="label")
    assert [split.sampler for split in found.splits.values()] == [
        Sampler(type="RandomSampler"),
        Sampler(type="SequentialSampler"),
        Sampler(type="SequentialSampler"),
    ]
    assert (found.batch_size, found.workers, found.cache) == (128, None, None)


def test_transforms_of_a_split_replace_the_shared_ones() -> None:
    found = recipe("""
    source: {type: MNIST, root: ., download: true}
    split: {train: 0.9, val: 0.1}
    transforms: [ToImage, {type: ToDtype, dtype: float32, scale: true}]
    train: {transforms: [{type: RandomCrop, size: 28, padding: 2}, {type: ToDtype, dtype: float32, scale: true}]}
    test: {source: {type: MNIST, root: .}, batch_size: 500}
    """)
    assert [t.type for t in found.splits["train"].transforms] == ["RandomCrop", "ToDtype"]
    assert [t.type for t in found.splits["val"].transforms] == ["ToImage", "ToDtype"]
    assert found.splits["test"].batch_size == 500
    # The part of the data follows the split, unless the spec says otherwise.
    assert [split.source.arguments["train"] for split in found.splits.values()] == [True, True, False]
    assert [split.fractional for split in found.splits.values()] == [True, True, False]


def test_values_may_be_expressions() -> None:
    found = recipe(
        """
        source: Digits
        transforms: [{type: Resize, size: [$side, $(side * 2)]}]
        batch_size: $(train.epochs * 4)
        workers: $(0)
        """,
        {"side": 16, "train": {"epochs": 8}},
    )
    assert found.batch_size == 32
    assert found.workers == 0
    assert (found.fields or {})["image"].shape == (1, 16, 32)


def test_a_value_that_cannot_be_computed_is_told_once() -> None:
    found, diagnostics = read(
        "source: Digits\nbatch_size: $(nothing)\ntransforms: [{type: Pad, padding: [$nothing, 1]}]"
    )
    assert found is None
    assert [d.code[:3] for d in diagnostics] == ["NS2", "NS2"]


def test_paths_are_relative_to_the_file_that_states_them(tmp_path: Path) -> None:
    (tmp_path / "specs" / "data").mkdir(parents=True)
    file = tmp_path / "specs" / "spec.yaml"
    file.write_text("", encoding="utf-8")
    found, diagnostics = read("train: {source: {type: ImageFolder, root: data}}", file=str(file))
    assert found is not None
    assert diagnostics == []
    assert found.paths == {"data.train.source.root": str(tmp_path / "specs" / "data")}
    assert found.splits["train"].source.arguments["root"] == str(tmp_path / "specs" / "data")
    found, diagnostics = read("source: {type: CSV, path: no.csv, target: y}", file=str(file))
    assert found is not None
    (warning,) = diagnostics
    assert (warning.code, warning.severity) == ("NS507", "warning")
    assert "no.csv" in warning.message
    assert warning.span is not None
    assert (warning.span.line, warning.span.column) == (2, 29)


@pytest.mark.parametrize("name", ["Digits", "Iris", "Wine", "BreastCancer", "Diabetes"])
def test_fields_told_are_fields_read(name: str) -> None:
    text = f"source: {name}"
    told = recipe(text).fields
    stream = opened(text).splits["train"]
    assert told == stream.fields
    batch = next(stream.batches(0))
    assert {field: (tuple(v.shape[1:]), str(v.dtype)[6:]) for field, v in batch.items()} == {
        field: (info.shape, info.dtype) for field, info in (told or {}).items()
    }


def test_fields_told_after_transforms_are_fields_read(real_data: Path) -> None:
    text = f"""
    source: {{type: ImageFolder, root: {real_data / "RMB_data"}}}
    transforms:
      - {{type: Resize, size: [40, 50]}}
      - {{type: RandomCrop, size: [32, 36]}}
      - Grayscale
      - {{type: RandomApply, transforms: [RandomVerticalFlip]}}
      - {{type: CenterCrop, size: 30}}
    batch_transforms: [{{type: Pad, padding: 1}}]
    """
    told = recipe(text).fields or {}
    stream = opened(text).splits["train"]
    assert told["image"] == stream.fields["image"]
    assert told["image"].shape == (1, 32, 32)
    assert next(stream.batches(0))["image"].shape[1:] == (1, 32, 32)


def test_fields_of_tables_are_told_as_far_as_they_can_be() -> None:
    def shapes(arguments: str) -> dict[str, object]:
        found, _ = read(f"source: {{type: CSV, path: x.csv, {arguments}}}")
        assert found is not None
        return {name: info.shape for name, info in (found.fields or {}).items()}

    assert shapes("label: y") == {"features": (None,), "label": ()}
    assert shapes("target: [y, z], features: [a, b, c]") == {"features": (3,), "target": (2,)}
    assert shapes("target: y, features: [a, b], categorical: [b]") == {"features": (None,), "target": (1,)}
    unknown, _ = read("source: {type: NumPy, path: x.npz}")
    assert unknown is not None
    assert unknown.fields is None


def test_selected_fields_alone_are_told() -> None:
    assert list(recipe("source: BreastCancer\nfields: [target, features]").fields or {}) == ["features", "target"]
    assert list(epoch(opened("source: BreastCancer\nfields: target").splits["train"])[0]) == ["target"]


@pytest.mark.parametrize(
    ("text", "code", "part"),
    [
        ("batch_size: 4", "NS500", "no data to train on"),
        ("split: {train: 0.5}", "NS500", "no `source` to cut"),
        ("source: Digits\nval: {shuffle: false}", "NS500", "same samples as `train`"),
        ("source: Digits\nsplit: {train: 0.9}\nval: {shuffle: true}", "NS500", "gives it no share"),
        ("source: Digits\nsplit: {train: 0.9, val: 0.1}\nval: {source: Digits}", "NS500", "a share of `split`"),
        ("source: Digitz", "NS501", "no source `Digitz`"),
        ("source: Digits\ntransforms: [{type: RandomApply, transforms: [Blur]}]", "NS501", "no transform `Blur`"),
        ("source: Digits\nsampler: Random", "NS501", "no sampler `Random`"),
        ("source: {type: Digits, scaled: true}", "NS502", "no argument `scaled`"),
        ("source: Digits\ntransforms: [Resize]", "NS502", "Resize needs `size`"),
        ("source: Digits\nsampler: WeightedRandomSampler", "NS502", "needs `weights`"),
        ("source: Digits\nsampler: {type: SequentialSampler, num_samples: 3}", "NS502", "takes no `num_samples`"),
        ("source: Digits\nsampler: {type: RandomSampler, weights: [1]}", "NS502", "takes no `weights`"),
        ("source: {type: Digits, scale: 16}", "NS503", "`scale` takes true or false, and got 16"),
        ("source: Digits\ntransforms: [{type: Pad, padding: -1}]", "NS503", "`padding` takes"),
        ("source: Digits\ntransforms: [{type: RandomApply, transforms: ToImage}]", "NS503", "a list of transforms"),
        (
            "source: Digits\nsampler: {type: RandomSampler, num_samples: many}",
            "NS503",
            "`num_samples` is a whole number from 1",
        ),
        ("source: Digits\nsampler: {type: RandomSampler, replacement: 1}", "NS503", "true or false"),
        ("source: Digits\nsampler: {type: WeightedRandomSampler, weights: [-1]}", "NS503", "numbers from 0"),
        ("source: Digits\ntrain: {shuffle: true, sampler: RandomSampler}", "NS508", "decides the order"),
        ("source: Digits\nsplit: {train: 0.8, val: 0.3}", "NS504", "come to 1.1"),
        ("source: Digits\nsplit: {train: 0, val: 0.3}", "NS504", "above 0 and at most 1, and got 0"),
        ("source: Digits\nsplit: {val: 0.3}", "NS504", "nothing to train on"),
        ("source: Digits\nsplit: {train: 0.8, stratify: labels}", "NS505", "no field `labels`"),
        ("source: Digits\nbalance: kind", "NS505", "no field `kind`; it gives `image`, `label`"),
        ("source: Digits\nfields: [image, x]", "NS505", "no field `x`"),
        ("source: Iris\ntransforms: [{type: Standardize, field: x}]", "NS505", "no field `x`"),
        ("source: Diabetes\nsplit: {train: 0.8, stratify: target}", "NS506", "`target` is float32"),
        ("source: Diabetes\nbalance: features", "NS506", "needs a field of classes"),
        ("source: Digits\nbatch_size: 0", "NS508", "a whole number from 1, and got 0"),
        ("source: Digits\nbatch_size: 8\nglobal_batch_size: 16", "NS508", "give one of them"),
        ("source: Digits\nworkers: many", "NS508", "`workers` is auto or a whole number from 0"),
        ("source: Digits\ncache: maybe", "NS508", "`cache` is true or false"),
        ("source: Digits\nbalance: label\nsampler: RandomSampler", "NS508", "a sampler already"),
        ("source: Digits\ntransforms: [{type: Normalize, mean: [0, 0, 0], std: [1, 1, 1]}]", "NS509", "3 values"),
        ("source: Digits\ntransforms: [{type: Normalize, mean: [0], std: [0]}]", "NS509", "holds a 0"),
        ("source: Digits\ntransforms: [{type: RandomCrop, size: 9}]", "NS509", "a crop of 9 x 9"),
        ("source: {type: ImageFolder, root: .}\ntransforms: [{type: ToDtype, dtype: float32}]", "NS509", "PIL image"),
        (
            "source: {type: ImageFolder, root: .}\ntransforms: [ToImage, {type: Normalize, mean: [0], std: [1]}]",
            "NS509",
            "the image is uint8 here",
        ),
        ("source: {type: ImageFolder, root: .}\ntransforms: [RandomErasing]", "NS509", "still a PIL image"),
        ("source: Digits\ntransforms: [{type: Pad, padding: [1, 2, 3]}]", "NS509", "one number, 2 or 4"),
        ("source: Digits\ntransforms: [{type: Resize, size: 8, max_size: 4}]", "NS509", "has to be greater"),
        ("source: Digits\ntransforms: [{type: Grayscale, num_output_channels: 2}]", "NS509", "1 or 3"),
        ("source: Iris\ntransforms: [RandomHorizontalFlip]", "NS510", "works on images"),
        ("source: Digits\ntransforms: [MixUp]", "NS510", "mixes the samples of a batch"),
        ("source: Iris\nbatch_transforms: [Standardize]", "NS510", "works on samples"),
        ("source: Iris\ntransforms: [{type: Standardize, field: label}]", "NS510", "`label` is int64"),
        (
            "source: Iris\nsplit: {train: 0.8, val: 0.2}\nval: {transforms: [Standardize]}",
            "NS510",
            "`val` standardises `features`, but `train`",
        ),
    ],
)
def test_a_mistake_is_told(text: str, code: str, part: str) -> None:
    found, diagnostics = read(text)
    assert found is None
    (error,) = diagnostics
    assert (error.code, error.severity) == (code, "error")
    assert part in error.message
    assert error.span is not None
    assert error.span.line > 1 or code == "NS500"


def test_all_mistakes_are_told_at_once() -> None:
    codes = [
        code
        for code, _ in said("""
    source: Digits
    split: {train: 0.8, val: 0.3, stratify: nothing}
    transforms: [Resize, {type: Pad, padding: x}, {type: Reszie, size: 3}]
    batch_size: -1
    """)
    ]
    assert codes == ["NS504", "NS505", "NS502", "NS503", "NS501", "NS508"]


def test_a_random_transform_in_evaluation_is_a_warning() -> None:
    found, (warning,) = read("source: Digits\nsplit: {train: 0.8, val: 0.2}\ntransforms: [RandomVerticalFlip]")
    assert found is not None
    assert (warning.code, warning.severity) == ("NS511", "warning")
    assert "RandomVerticalFlip is random" in warning.message
    flip = "{type: RandomApply, transforms: [Identity, {type: RandomVerticalFlip, p: 1}]}"
    _, (warning,) = read(f"source: Digits\nsplit: {{train: 0.8, val: 0.1, test: 0.1}}\ntransforms: [{flip}]")
    assert warning.message.startswith("RandomApply is random")
    _, none = read("source: Digits\nsplit: {train: 0.8, val: 0.2}\ntrain: {transforms: [RandomVerticalFlip]}")
    assert none == []


def test_every_source_has_a_loader_and_a_line_of_its_own() -> None:
    from importlib import import_module

    entries = [registry.lookup(name, "source") for name in registry.names("source")]
    assert entries
    for entry in entries:
        assert isinstance(entry, SourceEntry)
        module, _, function = entry.target.rpartition(".")
        assert callable(getattr(import_module(module), function))
        assert entry.doc.endswith(".")
        assert set(entry.paths) <= {a.name for a in entry.arguments}


IMAGES = "source: {type: NumPy, path: arrays.npz, fields: {image: clean, NAME: noisy}}\ntransforms: [STEPS]"


@pytest.mark.parametrize(
    ("name", "steps", "told"),
    [
        ("noisy", "{type: Resize, size: [8, 8]}", ["transforms work on `image` and `image2`: Resize leaves `noisy`"]),
        ("image2", "{type: Resize, size: [8, 8]}", []),
        (
            "image2",
            "{type: ToDtype, dtype: float32}",
            ["ToDtype without `scale: true` leaves the values from 0 to 255"],
        ),
        ("image2", "{type: ToDtype, dtype: float32, scale: true}", []),
        ("image2", "{type: ToDtype, dtype: float32}, {type: Normalize, mean: [127.5], std: [127.5]}", []),
        ("image2", "{type: ToDtype, dtype: int64}", []),
    ],
)
def test_what_a_transform_does_to_images_is_told(
    name: str, steps: str, told: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    images = np.zeros((4, 3, 16, 16), dtype="uint8")
    np.savez("arrays.npz", clean=images, noisy=images)
    found, said = read(IMAGES.replace("NAME", name).replace("STEPS", steps))
    assert found is not None, said
    assert [one.severity for one in said] == ["warning"] * len(told)
    assert all(one.message.startswith(text) for one, text in zip(said, told, strict=True)), said


def test_images_of_another_name_are_told_theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("arrays.npz", photo=np.zeros((4, 3, 16, 16), dtype="uint8"))
    found, said = read("source: {type: NumPy, path: arrays.npz}\ntransforms: [{type: Resize, size: [8, 8]}]")
    assert found is None
    assert [(one.code, one.severity) for one in said] == [("NS510", "error")]
    assert "`fields: {image: photo, …}`" in (said[0].help or "")
