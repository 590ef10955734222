"""torchvision's data sets by name: the catalog against the installed torchvision, and small files read by both."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from data_support import epoch, joined, opened, read, recipe
from torch import Tensor
from torchvision import datasets, tv_tensors
from torchvision.transforms import v2
from vision_support import SETS, celeba, eurosat, flow, moving, pets, phototour, unfetched, voc, write

from netspec.catalog import registry
from netspec.catalog.entry import REQUIRED
from netspec.catalog.left_out import SOURCES
from netspec.catalog.sources import SourceEntry
from netspec.runtime.data.sources import load
from netspec.runtime.errors import RunError

FUNCTIONS = {"transform", "target_transform", "transforms", "loader", "is_valid_file", "kwargs"}
OMITTED: Mapping[str, set[str]] = {
    "ImageFolder": {"allow_empty"},  # a folder without images is an error that names it
    "QMNIST": {"compat"},  # the label is the class
    "Caltech101": {"target_type"},  # outlines of any length
    "Middlebury2014Stereo": {"use_ambient_views"},  # it draws from Python's global generator
}
OTHERWISE = {"SEMEION": "download", "CocoDetection": "", "Kitti": ""}
"""An argument that has another default here: nothing is fetched unasked."""


def entries() -> list[SourceEntry]:
    found = [registry.lookup(name, "source") for name in registry.names("source")]
    ours = [entry for entry in found if isinstance(entry, SourceEntry)]
    return [entry for entry in ours if hasattr(datasets, entry.name)]


def test_every_data_set_of_torchvision_has_a_name_or_a_reason() -> None:
    theirs = {name for name in datasets.__all__ if inspect.isclass(getattr(datasets, name))}
    assert {entry.name for entry in entries()} | (set(SOURCES) & set(dir(datasets))) == theirs
    assert not {entry.name for entry in entries()} & set(SOURCES)


@pytest.mark.parametrize("entry", entries(), ids=lambda entry: entry.name)
def test_arguments_and_defaults_are_torchvisions(entry: SourceEntry) -> None:
    kind = getattr(datasets, entry.name)
    theirs = dict(inspect.signature(kind).parameters)
    if "kwargs" in theirs:  # EMNIST, QMNIST and ImageNet hand the rest on
        parents = inspect.signature(kind.__mro__[1]).parameters
        theirs |= {name: parents[name] for name in ("train", "download") if name in parents and name not in theirs}
    leave = FUNCTIONS | OMITTED.get(entry.name, set())
    defaults = {name: p.default for name, p in theirs.items() if name not in leave}
    ours = {a.name: inspect.Parameter.empty if a.default is REQUIRED else a.default for a in entry.arguments}
    if entry.parts is not None:  # chosen by the split
        part = entry.parts[0]
        assert ours.pop(part) is None
        assert part in defaults
        del defaults[part]
    if OTHERWISE.get(entry.name):
        assert ours.pop(OTHERWISE[entry.name]) is False
        del defaults[OTHERWISE[entry.name]]
    assert ours == defaults


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_what_cannot_be_named_says_why(name: str) -> None:
    _, said = read(f"train: {{source: {{type: {name}, root: x}}}}")
    (wrong,) = [d for d in said if d.severity == "error"]
    assert wrong.code == "NS501"
    assert SOURCES[name] in str(wrong.help)


@pytest.mark.parametrize(
    "entry", [e for e in entries() if "root" in {a.name for a in e.arguments}], ids=lambda e: e.name
)
def test_an_empty_folder_is_an_error_that_says_what_is_missing(entry: SourceEntry, tmp_path: Path) -> None:
    needed = {
        "split": "digits" if entry.name == "EMNIST" else "",
        "name": "liberty",
        "annFile": str(tmp_path / "absent.json"),
    }
    given = {a.name: needed[a.name] for a in entry.arguments if a.required and a.name != "root"}
    text = ", ".join(f"{name}: {value}" for name, value in given.items())
    made = recipe(f"train: {{source: {{type: {entry.name}, root: {tmp_path}{', ' + text if text else ''}}}}}")
    with pytest.raises(RunError) as caught:
        load(made.splits["train"].source)
    assert caught.value.code in ("NS920", "NS911")
    assert str(tmp_path) in caught.value.message or caught.value.code == "NS911"
    assert caught.value.help


def test_each_sample_is_torchvisions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Pixels, classes and their names, whatever the order."""
    layout, more = SETS[name]
    kind = getattr(datasets, name)
    layout(tmp_path)
    unfetched(kind, monkeypatch)
    extra = f", {more}" if more else ""
    made = recipe(f"train: {{source: {{type: {name}, root: {tmp_path}{extra}}}}}")
    source = made.splits["train"].source
    ours = load(source)
    given = {key: value for key, value in source.arguments.items() if value is not None}
    theirs = kind(**given)
    assert len(ours) == len(theirs) > 1
    expected = sorted(_sample(image, label, name, theirs) for image, label in (theirs[i] for i in range(len(theirs))))
    classes = ours.fields["label"].classes
    found = sorted(
        (_bytes(s["image"]), classes[int(s["label"])] if name == "Omniglot" and classes else int(s["label"]))
        for s in (ours.sample(i) for i in range(len(ours)))
    )
    assert found == expected
    assert ours.column("label").tolist() == [int(ours.sample(i)["label"]) for i in range(len(ours))]
    told = made.splits["train"].fields
    assert told is not None
    assert set(told) == set(ours.fields)
    assert classes is None or len(classes) == ours.fields["label"].num_classes
    assert told["label"].classes in (None, classes)
    # And as batches, whatever their sizes.
    sizes = {tuple(v2.functional.get_size(ours.sample(i)["image"])) for i in range(len(ours))}
    if len(sizes) == 1:
        stream = opened(f"train: {{source: {{type: {name}, root: {tmp_path}{extra}}}}}\nbatch_size: 2").splits["train"]
        batch = epoch(stream)[0]
        assert batch["image"].dtype == torch.float32
        shape = told["image"].shape
        assert shape is not None
        assert all(size in (None, real) for size, real in zip(shape, batch["image"].shape[1:], strict=True))


def _sample(image: Any, label: Any, name: str, theirs: Any) -> tuple[bytes, Any]:
    gray = name in ("Omniglot", "EMNIST", "USPS", "SEMEION", "FER2013")
    if not isinstance(image, Tensor):
        image = image.convert("L" if gray else "RGB")
    return _bytes(image), theirs._characters[label] if name == "Omniglot" else int(label)


def _bytes(image: Any) -> bytes:
    tensor = image.as_subclass(Tensor) if isinstance(image, Tensor) else v2.functional.pil_to_tensor(image)
    return tensor.numpy().tobytes()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.function is test_each_sample_is_torchvisions:
        metafunc.parametrize("name", list(SETS))


def test_noise_is_a_function_of_its_number() -> None:
    stream = opened("train: {source: {type: FakeData, size: 6, image_size: [1, 8, 9], num_classes: 3}}").splits["train"]
    theirs = datasets.FakeData(6, (1, 8, 9), 3)
    batches = epoch(stream)
    order = joined(batches, "label")
    assert sorted(order.tolist()) == sorted(int(theirs[i][1]) for i in range(6))
    assert joined(batches, "image").shape == (6, 1, 8, 9)


def test_parts_follow_the_split_that_a_source_stands_under(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = recipe(
        f"""
        train: {{source: {{type: DTD, root: {tmp_path}}}}}
        val: {{source: {{type: Country211, root: {tmp_path}}}}}
        test: {{source: {{type: ImageNet, root: {tmp_path}}}}}
        """
    )
    assert [made.splits[name].source.arguments["split"] for name in ("train", "val", "test")] == [
        "train",
        "valid",
        "val",
    ]


def test_several_targets_of_one_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pets(tmp_path)
    source = f"{{type: OxfordIIITPet, root: {tmp_path}, target_types: [category, binary-category, segmentation]}}"
    (batch,) = epoch(opened(f"train: {{source: {source}, shuffle: false}}").splits["train"])
    theirs = datasets.OxfordIIITPet(tmp_path, target_types=["category", "binary-category", "segmentation"])
    for index in range(2):
        _, (label, binary, mask) = theirs[index]
        assert batch["label"][index] == label
        assert batch["binary"][index] == binary
        assert torch.equal(batch["mask"][index], torch.from_numpy(np.array(mask)).long())
    celeba(tmp_path)
    unfetched(datasets.CelebA, monkeypatch)
    source = f"{{type: CelebA, root: {tmp_path}, target_type: [attr, identity, bbox, landmarks]}}"
    (batch,) = epoch(opened(f"train: {{source: {source}, shuffle: false}}").splits["train"])
    faces = datasets.CelebA(tmp_path, target_type=["attr", "identity", "bbox", "landmarks"])
    for index in range(2):
        image, (attr, identity, (x, y, width, height), landmarks) = faces[index]
        image.load()
        assert torch.equal(batch["attr"][index], attr)
        assert batch["identity"][index] == identity
        assert batch["boxes"][index].tolist() == [[x, y, x + width, y + height]]
        assert torch.equal(batch["landmarks"][index].flatten().long(), landmarks)


# Boxes, masks and flow


def test_boxes_are_filled_up_and_move_with_the_image(tmp_path: Path) -> None:
    voc(tmp_path)
    text = "train: {source: {type: VOCDetection, root: ROOT}, shuffle: false, transforms: [STEPS]}\ncache: CACHE"
    text = text.replace("ROOT", str(tmp_path))
    for cache in ("true", "false"):
        (batch,) = epoch(opened(text.replace("STEPS", "").replace("CACHE", cache)).splits["train"])
        assert batch["boxes"].tolist() == [[[2, 3, 12, 15], [5, 5, 20, 18]], [[1, 1, 9, 9], [0, 0, 0, 0]]]
        assert batch["labels"].tolist() == [[8, 12], [15, -100]]
        flipped = text.replace("STEPS", "{type: RandomHorizontalFlip, p: 1.0}").replace("CACHE", cache)
        (mirrored,) = epoch(opened(flipped).splits["train"])
        assert torch.equal(mirrored["image"], batch["image"].flip(-1))
        assert mirrored["boxes"][0].tolist() == [[24 - 12, 3, 24 - 2, 15], [24 - 20, 5, 24 - 5, 18]]
    assert opened(text.replace("STEPS", "").replace("CACHE", "auto")).splits["train"].fields["boxes"].shape == (None, 4)
    classes = opened(text.replace("STEPS", "").replace("CACHE", "auto")).splits["train"].classes
    assert classes is not None
    assert classes[8] == "cat"


def test_a_mask_moves_with_the_image(tmp_path: Path) -> None:
    voc(tmp_path)
    text = f"train: {{source: {{type: VOCSegmentation, root: {tmp_path}}}, shuffle: false, transforms: [STEPS]}}"
    (batch,) = epoch(opened(text.replace("STEPS", "")).splits["train"])
    target = datasets.VOCSegmentation(tmp_path)[0][1]
    assert torch.equal(batch["mask"][0], torch.from_numpy(np.array(target)).long())
    assert batch["mask"].dtype == torch.int64
    (mirrored,) = epoch(opened(text.replace("STEPS", "{type: RandomHorizontalFlip, p: 1.0}")).splits["train"])
    assert torch.equal(mirrored["mask"], batch["mask"].flip(-1))
    (smaller,) = epoch(opened(text.replace("STEPS", "{type: Resize, size: [10, 12]}")).splits["train"])
    expected = v2.Resize((10, 12))(tv_tensors.Mask(batch["mask"][0]))
    assert torch.equal(smaller["mask"][0], expected.as_subclass(Tensor))
    told = recipe(text.replace("STEPS", "{type: Resize, size: [10, 12]}")).splits["train"].fields
    assert told is not None
    assert told["mask"].shape == (10, 12)


def test_coco_is_read_as_pycocotools_would(real_data: Path) -> None:
    root = real_data / "coco128"
    (file,) = (root / "annotations").glob("*.json")
    text = f"train: {{source: {{type: CocoDetection, root: {root / 'train2017'}, annFile: {file}}}, shuffle: false}}"
    made = recipe(text)
    samples = load(made.splits["train"].source)
    document = json.loads(file.read_text())
    images = {item["id"]: item["file_name"] for item in document["images"]}
    assert [Path(samples.name(i)).name for i in range(len(samples))] == [images[i] for i in sorted(images)]
    total = 0
    for index, number in enumerate(sorted(images)):
        found = [item for item in document["annotations"] if item["image_id"] == number]
        sample = samples.sample(index) if index < 5 else None
        total += len(found)
        if sample is None:
            continue
        assert sample["labels"].tolist() == [item["category_id"] for item in found]
        corners = [[x, y, x + w, y + h] for x, y, w, h in (item["bbox"] for item in found)]
        assert torch.allclose(sample["boxes"], torch.tensor(corners).reshape(-1, 4))
    assert total == len(document["annotations"])
    first = document["categories"][0]
    assert samples.fields["labels"].classes is not None
    assert samples.fields["labels"].classes[first["id"]] == first["name"]


def test_an_annotation_that_names_a_file_elsewhere_is_refused(tmp_path: Path) -> None:
    document = {"images": [{"id": 1, "file_name": "../secret.jpg"}], "annotations": [], "categories": []}
    write(tmp_path / "list.json", json.dumps(document))
    made = recipe(
        f"train: {{source: {{type: CocoDetection, root: {tmp_path / 'x'}, annFile: {tmp_path / 'list.json'}}}}}"
    )
    with pytest.raises(RunError, match="lies outside"):
        load(made.splits["train"].source)


def test_flow_stays_with_two_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flow(tmp_path)
    # torchvision decodes 16-bit PNGs; PIL writes 8-bit ones, so the reading of a flow is stood in for.
    module = sys.modules["torchvision.datasets._optical_flow"]
    made = np.arange(2 * 20 * 24, dtype=np.float32).reshape(2, 20, 24)
    monkeypatch.setattr(
        module, "_read_16bits_png_with_flow_and_valid_mask", lambda _: (made, np.ones((20, 24), dtype=bool))
    )
    text = f"train: {{source: {{type: KittiFlow, root: {tmp_path}}}, shuffle: false, transforms: [STEPS]}}"
    (batch,) = epoch(opened(text.replace("STEPS", "{type: ColorJitter, brightness: 0.5}")).splits["train"])
    assert {name: (tuple(value.shape), value.dtype) for name, value in batch.items()} == {
        "image": ((2, 3, 20, 24), torch.float32),
        "image2": ((2, 3, 20, 24), torch.float32),
        "flow": ((2, 2, 20, 24), torch.float32),
        "valid": ((2, 20, 24), torch.bool),
    }
    assert torch.equal(batch["flow"][0], torch.from_numpy(made))
    _, said = read(text.replace("STEPS", "RandomHorizontalFlip"))
    assert [(d.code, "`flow`" in d.message) for d in said] == [("NS510", True)]
    _, said = read(
        f"train: {{source: {{type: VOCDetection, root: {tmp_path}}}, batch_transforms: [RandomHorizontalFlip]}}"
    )
    assert [d.code for d in said if d.severity == "error"] == ["NS510"]


def test_pairs_and_frames(tmp_path: Path) -> None:
    phototour(tmp_path)
    moving(tmp_path)
    text = f"train: {{source: {{type: PhotoTour, root: {tmp_path}, name: liberty, train: false}}, shuffle: false}}"
    (batch,) = epoch(opened(text).splits["train"])
    theirs = datasets.PhotoTour(str(tmp_path), "liberty", train=False)
    for index in range(2):
        first, second, same = theirs[index]
        assert torch.equal(batch["image"][index, 0] * 255, first.float())
        assert torch.equal(batch["image2"][index, 0] * 255, second.float())
        assert batch["label"][index] == same
    text = f"train: {{source: {{type: MovingMNIST, root: {tmp_path}, split: train}}, shuffle: false}}"
    (batch,) = epoch(opened(text).splits["train"])
    frames = datasets.MovingMNIST(tmp_path, split="train")
    assert torch.equal((batch["image"][1] * 255).round().to(torch.uint8), frames[1])


@pytest.fixture
def fake_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    import urllib.request
    from urllib.error import URLError

    def refuse(*_: object, **__: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    monkeypatch.setattr(urllib.request, "urlretrieve", refuse)
    yield


@pytest.mark.usefixtures("fake_network")
def test_a_download_without_a_network_says_so(tmp_path: Path) -> None:
    made = recipe(f"train: {{source: {{type: SVHN, root: {tmp_path}, download: true}}}}")
    with pytest.raises(RunError) as caught:
        load(made.splits["train"].source)
    assert caught.value.code == "NS920"
    assert "no route to host" in caught.value.message
    assert "torchvision.datasets.SVHN" in str(caught.value.help)


def test_an_image_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    eurosat(tmp_path)
    bad = tmp_path / "eurosat/2750/Forest/0.jpg"
    bad.write_bytes(bad.read_bytes()[:200])
    with pytest.raises(RunError) as caught:
        epoch(opened(f"train: {{source: {{type: EuroSAT, root: {tmp_path}}}}}").splits["train"])
    assert caught.value.code == "NS921"
    assert str(bad) in caught.value.message


def test_naming_one_does_not_import_torchvision() -> None:
    program = """
import sys
from netspec.catalog import registry
registry.names("source")
print("torchvision" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "False", done.stderr
