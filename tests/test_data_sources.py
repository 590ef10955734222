"""Sources against what scikit-learn, torchvision, pandas and numpy read from the same files."""

from __future__ import annotations

import gzip
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import sklearn.datasets
import torch
from data_support import epoch, image_folder, joined, opened, recipe
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from netspec.runtime.data import Stream
from netspec.runtime.errors import RunError


def whole(text: str) -> tuple[Stream, dict[str, Tensor]]:
    """Every sample of a source in its own order."""
    stream = opened(f"source: {text}\nsampler: SequentialSampler\nbatch_size: 1000").splits["train"]
    batches = epoch(stream)
    return stream, {name: joined(batches, name) for name in batches[0]}


@pytest.mark.parametrize(("source", "loader"), [("Iris", "iris"), ("Wine", "wine"), ("BreastCancer", "breast_cancer")])
def test_class_tables_are_scikit_learns(source: str, loader: str) -> None:
    stream, fields = whole(source)
    bunch = getattr(sklearn.datasets, f"load_{loader}")()
    assert torch.equal(fields["features"], torch.tensor(bunch.data, dtype=torch.float32))
    assert fields["label"].tolist() == bunch.target.tolist()
    assert stream.classes == tuple(bunch.target_names)
    assert fields["label"].dtype == torch.int64


def test_two_classes_also_come_as_a_float_target() -> None:
    _, fields = whole("BreastCancer")
    assert fields["target"].shape == (569, 1)
    assert torch.equal(fields["target"][:, 0], fields["label"].float())


def test_diabetes_is_a_regression_whose_target_fits_a_linear_head() -> None:
    _, fields = whole("Diabetes")
    bunch = sklearn.datasets.load_diabetes()
    assert torch.equal(fields["features"], torch.tensor(bunch.data, dtype=torch.float32))
    prediction = torch.nn.Linear(10, 1)(fields["features"])
    assert fields["target"].shape == prediction.shape
    assert fields["target"][:, 0].tolist() == bunch.target.tolist()
    raw = whole("{type: Diabetes, scaled: false}")[1]["features"]
    assert torch.equal(raw, torch.tensor(sklearn.datasets.load_diabetes(scaled=False).data, dtype=torch.float32))


def test_digits_are_images_from_0_to_1() -> None:
    bunch = sklearn.datasets.load_digits()
    _, fields = whole("Digits")
    assert torch.equal(fields["image"][:, 0] * 16, torch.tensor(bunch.images, dtype=torch.float32))
    assert whole("{type: Digits, scale: false}")[1]["image"].max() == 16


@pytest.mark.parametrize("split", ["train", "test"])
def test_mnist_is_torchvisions(real_data: Path, tmp_path: Path, split: str) -> None:
    from torchvision.datasets import MNIST

    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for file in (real_data / "mnist" / "MNIST" / "raw").glob("*.gz"):  # torchvision wants them unzipped
        with gzip.open(file) as packed, (raw / file.stem).open("wb") as unpacked:
            shutil.copyfileobj(packed, unpacked)
    theirs = MNIST(str(tmp_path), train=split == "train")
    for root in (real_data / "mnist", tmp_path, raw):
        text = f"""
        train: {{source: {{type: MNIST, root: {root}}}}}
        test: {{source: {{type: MNIST, root: {root}}}}}
        transforms: [{{type: ToDtype, dtype: uint8}}]
        sampler: SequentialSampler
        batch_size: 10000
        """
        batches = epoch(opened(text, splits=[split]).splits[split])
        assert torch.equal(joined(batches, "image")[:, 0], theirs.data)
        assert torch.equal(joined(batches, "label"), theirs.targets)


def test_fashion_mnist_knows_its_classes(real_data: Path) -> None:
    from torchvision.datasets import KMNIST, MNIST, FashionMNIST

    stream, fields = whole(f"{{type: FashionMNIST, root: {real_data / 'fashion_mnist'}, train: false}}")
    assert stream.classes == tuple(FashionMNIST.classes)
    assert fields["image"].shape == (10000, 1, 28, 28)
    assert fields["label"].bincount().tolist() == [1000] * 10
    told = recipe("source: {type: KMNIST, root: .}").fields or {}
    assert told["label"].classes == tuple(KMNIST.classes)
    digits = recipe("source: {type: MNIST, root: .}").fields or {}
    assert digits["label"].classes == tuple(name[0] for name in MNIST.classes)


def test_idx_files_that_are_cut_off_are_named(real_data: Path, tmp_path: Path) -> None:
    for file in (real_data / "mnist" / "MNIST" / "raw").glob("t10k*.gz"):
        shutil.copy(file, tmp_path)
    images = tmp_path / "t10k-images-idx3-ubyte.gz"
    data = gzip.decompress(images.read_bytes())
    text = f"source: {{type: MNIST, root: {tmp_path}, train: false}}"
    for damaged in (
        gzip.compress(data[:-1], 1),
        gzip.compress(data[:3]),
        gzip.compress(b"P5 28 28 " + data, 1),
        b"no gzip",
    ):
        images.write_bytes(damaged)
        with pytest.raises(RunError, match="t10k-images") as caught:
            opened(text)
        assert caught.value.code == "NS921"
    with pytest.raises(RunError, match="there is no train-images") as caught:
        opened(f"source: {{type: MNIST, root: {tmp_path}}}")
    assert caught.value.code == "NS920"


def test_cifar_is_torchvisions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a small set in the original's layout; torchvision's checksums are replaced by those of the small files."""
    import hashlib

    from torchvision.datasets import CIFAR10

    folder = tmp_path / CIFAR10.base_folder
    folder.mkdir()
    draw = np.random.default_rng(0)
    sums = {}
    for name in ("data_batch_1", "test_batch"):
        batch = {"data": draw.integers(0, 256, (20, 3072), dtype=np.uint8), "labels": list(range(10)) * 2}
        (folder / name).write_bytes(pickle.dumps(batch))
        sums[name] = hashlib.md5((folder / name).read_bytes()).hexdigest()
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": [f"class {i}" for i in range(10)]}))
    meta_sum = hashlib.md5((folder / "batches.meta").read_bytes()).hexdigest()
    monkeypatch.setattr(CIFAR10, "train_list", [["data_batch_1", sums["data_batch_1"]]])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", sums["test_batch"]]])
    monkeypatch.setattr(CIFAR10, "meta", {"filename": "batches.meta", "key": "label_names", "md5": meta_sum})
    text = f"transforms: [{{type: ToDtype, dtype: uint8}}]\nsource: {{type: CIFAR10, root: {tmp_path}"
    for train in (True, False):
        stream = opened(f"{text}, train: {str(train).lower()}}}\nsampler: SequentialSampler").splits["train"]
        theirs = CIFAR10(str(tmp_path), train=train)
        image = joined(epoch(stream), "image")
        assert torch.equal(image.permute(0, 2, 3, 1), torch.tensor(theirs.data))
        assert joined(epoch(stream), "label").tolist() == theirs.targets
        assert stream.classes == tuple(theirs.classes)
    with pytest.raises(RunError, match="NS920"):
        opened(f"source: {{type: CIFAR100, root: {tmp_path}}}")


def test_cifar_from_numpy_arrays(real_data: Path) -> None:
    path = real_data / "cifar10" / "cifar10_sub_5000_1000.npz"
    source = f"{{type: NumPy, path: {path}, channels_last: true, fields: {{image: x_train, label: y_train}}}}"
    stream, fields = whole(source)
    arrays = np.load(path)
    assert fields["image"].shape == (5000, 3, 32, 32)
    assert fields["image"].dtype == torch.float32
    assert torch.equal(
        (fields["image"] * 255).round().to(torch.uint8).permute(0, 2, 3, 1), torch.tensor(arrays["x_train"])
    )
    assert fields["label"].tolist() == arrays["y_train"].reshape(-1).tolist()
    assert stream.fields["label"].num_classes == 10


def test_numpy_kinds_and_mistakes(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(
        path, x=np.arange(6.0).reshape(3, 2), n=np.array([1, 2, 3], dtype=np.int16), image=np.zeros((3, 4, 4), np.uint8)
    )
    _, fields = whole(f"{{type: NumPy, path: {path}}}")
    assert {name: (str(value.dtype)[6:], *value.shape) for name, value in fields.items()} == {
        "x": ("float32", 3, 2),
        "n": ("int64", 3),
        "image": ("float32", 3, 1, 4, 4),
    }
    with pytest.raises(RunError, match="no array 'y'; it holds x, n, image"):
        opened(f"source: {{type: NumPy, path: {path}, fields: {{label: y}}}}")
    np.savez(path, x=np.zeros(3), y=np.zeros(4))
    with pytest.raises(RunError, match="x 3, y 4"):
        opened(f"source: {{type: NumPy, path: {path}}}")
    np.savez(path, x=np.array([{"a": 1}], dtype=object))
    with pytest.raises(RunError, match="NS921"):
        opened(f"source: {{type: NumPy, path: {path}}}")


def test_image_folders_are_torchvisions(real_data: Path) -> None:
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import v2

    root = real_data / "RMB_data"
    theirs = ImageFolder(str(root), v2.Compose([v2.CenterCrop(8), v2.ToImage()]))
    small = "transforms: [{type: CenterCrop, size: 8}, ToImage, {type: ToDtype, dtype: uint8}]"
    stream = opened(f"source: {{type: ImageFolder, root: {root}}}\nsampler: SequentialSampler\n{small}").splits["train"]
    batches = epoch(stream)
    assert stream.classes == tuple(theirs.classes)
    assert joined(batches, "label").tolist() == theirs.targets
    assert torch.equal(joined(batches, "image"), torch.stack([image for image, _ in theirs]))


def test_a_class_means_the_same_in_every_split(tmp_path: Path) -> None:
    train = image_folder(tmp_path / "train", {"ant": 2, "bee": 2, "cat": 2})
    val = image_folder(tmp_path / "val", {"bee": 1, "cat": 2})  # torchvision would count these from 0 anew
    text = (
        f"train: {{source: {{type: ImageFolder, root: {train}}}}}\nval: {{source: {{type: ImageFolder, root: {val}}}}}"
    )
    assert joined(epoch(opened(text).splits["val"]), "label").tolist() == [1, 2, 2]
    image_folder(val, {"dog": 1})
    with pytest.raises(RunError, match="'dog', which the training data does not have"):
        opened(text)


def test_a_file_that_is_no_image_is_named(tmp_path: Path) -> None:
    root = image_folder(tmp_path / "images", {"a": 3, "b": 2})
    (root / "b" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut off")
    for cache, workers in (("true", 0), ("false", 0), ("false", 1)):
        data = opened(f"source: {{type: ImageFolder, root: {root}}}\ncache: {cache}\nworkers: {workers}")
        with pytest.raises(RunError, match=r"broken\.jpg can't be read as an image") as caught:
            epoch(data.splits["train"])
        assert caught.value.code == "NS921"
        data.close()


def test_folders_without_images_are_named(tmp_path: Path) -> None:
    text = f"source: {{type: ImageFolder, root: {tmp_path / 'x'}}}"
    with pytest.raises(RunError, match="there is no folder"):
        opened(text)
    (tmp_path / "x").mkdir()
    with pytest.raises(RunError, match="one for each class"):
        opened(text)
    (tmp_path / "x" / "empty").mkdir()
    with pytest.raises(RunError, match="empty holds no images"):
        opened(text)


TABLE = """size,colour,price,kind
1.5,red,10,9
2,blue,12.5,10
-3e2,red,9,9
0,green,11,12
"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "table.csv"
    path.write_text(TABLE, encoding="utf-8")
    return path


def test_csv_columns_are_those_that_pandas_reads(table: Path) -> None:
    stream, fields = whole(f"{{type: CSV, path: {table}, label: kind, target: price, categorical: [colour]}}")
    frame = pandas.read_csv(table)
    expected = pandas.get_dummies(frame[["size", "colour"]], columns=["colour"], dtype="float32")
    assert fields["features"].tolist() == torch.tensor(expected.to_numpy(dtype="float32")).tolist()
    assert fields["target"].tolist() == frame[["price"]].to_numpy().tolist()
    assert stream.classes == ("9", "10", "12")  # as numbers, not as words
    assert fields["label"].tolist() == [0, 1, 0, 2]


def test_csv_options(table: Path) -> None:
    _, fields = whole(f"{{type: CSV, path: {table}, target: [price, size], features: [kind]}}")
    assert fields["target"].shape == (4, 2)
    assert fields["features"].shape == (4, 1)
    table.write_text(TABLE.replace(",", ";"), encoding="utf-8-sig")
    stream, fields = whole(f"{{type: CSV, path: {table}, delimiter: ;, label: colour, classes: [red, green, blue]}}")
    assert stream.classes == ("red", "green", "blue")
    assert fields["label"].tolist() == [0, 2, 0, 1]


@pytest.mark.parametrize(
    ("before", "after", "arguments", "message"),
    [
        ("2,blue", "two,blue", "target: price", "row 3 of .*: size is 'two', which is no number"),
        ("2,blue", ",blue", "target: price", "row 3 of .*: size is empty"),
        ("2,blue", "nan,blue", "target: price", "row 3 of .*: size is nan, which is no finite number"),
        ("2,blue", "2,blue,7", "target: price", "row 3 of .* has 5 cells, and the header names 4 columns"),
        ("x", "x", "target: prize", "no column 'prize'"),
        ("x", "x", "label: kind, classes: ['9', '10']", "row 5 of .*: kind has the class '12'"),
        (TABLE, "size\n", "target: size", "no rows below a header"),
    ],
)
def test_a_wrong_cell_is_named(table: Path, before: str, after: str, arguments: str, message: str) -> None:
    table.write_text(TABLE.replace(before, after), encoding="utf-8")
    with pytest.raises(RunError, match=message):
        opened(f"source: {{type: CSV, path: {table}, {arguments}, categorical: [colour]}}")


def test_a_column_of_words_asks_for_categorical(table: Path) -> None:
    with pytest.raises(RunError) as caught:
        opened(f"source: {{type: CSV, path: {table}, target: price}}")
    assert caught.value.help == "a column of words goes into `categorical: [colour]`"


def test_a_table_of_classes_alone_has_nothing_to_learn_from(tmp_path: Path) -> None:
    path = tmp_path / "only.csv"
    path.write_text("species\na\nb\n", encoding="utf-8")
    with pytest.raises(RunError, match="no columns but `species`: none is left for `features`") as caught:
        opened(f"source: {{type: CSV, path: {path}, label: species}}")
    assert caught.value.code == "NS924"


def test_standardize_is_scikit_learns_on_the_training_split() -> None:
    text = "source: Wine\nsplit: {train: 0.6, val: 0.2, test: 0.2}\ntransforms: [Standardize]\nbatch_size: 500"
    plain = {
        name: epoch(stream)[0]
        for name, stream in opened(text.replace("transforms", "fields: [features]\n#")).splits.items()
    }
    scaler = StandardScaler().fit(plain["train"]["features"].double().numpy())
    data = opened(text.replace("transforms", "fields: [features]\ntransforms"))
    for name, stream in data.splits.items():
        expected = torch.tensor(scaler.transform(plain[name]["features"].double().numpy())).float()
        torch.testing.assert_close(epoch(stream)[0]["features"], expected, rtol=1e-6, atol=1e-6)
    assert data.state()["standardize"]["features"]["mean"] == pytest.approx(scaler.mean_.tolist(), rel=1e-12)


def test_a_constant_column_is_standardised_to_zeros(tmp_path: Path) -> None:
    path = tmp_path / "constant.csv"
    path.write_text("a,b,y\n" + "".join(f"0.1,{i},{i}\n" for i in range(50)), encoding="utf-8")
    stream = opened(
        f"source: {{type: CSV, path: {path}, target: y}}\ntransforms: [Standardize]\nbatch_size: 50"
    ).splits["train"]
    features = epoch(stream)[0]["features"]
    assert features[:, 0].abs().max() < 1e-6
    assert features[:, 1].std(correction=0) == pytest.approx(1)


def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    blocked: Any = None
    monkeypatch.setitem(sys.modules, "sklearn.datasets", blocked)
    with pytest.raises(RunError) as caught:
        opened("source: Iris")
    assert caught.value.help == "pip install 'netspec[data]'"


@pytest.mark.parametrize(
    ("name", "maker", "arguments"),
    [
        ("Moons", "make_moons", {"n_samples": 40, "noise": 0.1}),
        ("Circles", "make_circles", {"n_samples": 40, "factor": 0.5}),
        ("Blobs", "make_blobs", {"n_samples": 30, "n_features": 4, "centers": 5}),
        ("Classification", "make_classification", {"n_samples": 30, "n_classes": 3, "n_informative": 4}),
        ("Regression", "make_regression", {"n_samples": 30, "n_features": 12, "n_targets": 2, "noise": 0.5}),
    ],
)
def test_generators_are_scikit_learns(name: str, maker: str, arguments: dict[str, Any]) -> None:
    given = ", ".join(f"{key}: {value}" for key, value in arguments.items())
    text = f"train: {{source: {{type: {name}, {given}, random_state: 3}}, shuffle: false}}"
    stream = opened(text).splits["train"]
    features, values = getattr(sklearn.datasets, maker)(**arguments, random_state=3)
    batches = epoch(stream)
    assert torch.equal(joined(batches, "features"), torch.tensor(features, dtype=torch.float32))
    field = "target" if name == "Regression" else "label"
    expected = torch.tensor(values, dtype=torch.float32).reshape(joined(batches, field).shape)
    assert torch.equal(joined(batches, field).float(), expected)
    told = recipe(text).splits["train"].fields
    assert told is not None
    assert {key: info.shape for key, info in told.items()} == {key: info.shape for key, info in stream.fields.items()}
    assert stream.classes == (None if name == "Regression" else told["label"].classes)


def test_what_a_generator_refuses_is_told() -> None:
    with pytest.raises(RunError, match="NS925 Classification can't be made: "):
        opened("train: {source: {type: Classification, n_classes: 30}}")


def test_linnerud_has_three_targets() -> None:
    (batch,) = epoch(opened("train: {source: Linnerud, shuffle: false}").splits["train"])
    bunch = sklearn.datasets.load_linnerud()
    assert batch["features"].tolist() == bunch.data.tolist()
    assert batch["target"].tolist() == bunch.target.tolist()
