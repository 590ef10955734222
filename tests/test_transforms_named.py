"""Every transform of the installed v2, named in a spec, does what torchvision's own call does: one seed, the same bits.

On the sample, as a PIL image and as a tensor; on the batch; on boxes, points and frames, from sources that have them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from data_support import epoch, image_folder, opened, read
from test_data_transforms import EXAMPLES, FLOATS, OWN, entries
from torch import Tensor
from torchvision import datasets, tv_tensors
from torchvision.transforms import v2
from vision_support import celeba, moving, unfetched, voc

from netspec.catalog.left_out import TRANSFORMS
from netspec.catalog.transforms import TransformEntry
from netspec.runtime.data.seeds import mix, preserved
from netspec.runtime.data.steps import plain_tensor

CONTAINERS: Mapping[str, tuple[dict[str, Any], list[tuple[str, dict[str, Any]]]]] = {
    "Compose": ({}, [("RandomHorizontalFlip", {"p": 0.5}), ("Resize", {"size": [10, 12]})]),
    "RandomApply": ({"p": 0.7}, [("RandomRotation", {"degrees": 20})]),
    "RandomChoice": ({"p": [0.3, 0.7]}, [("RandomHorizontalFlip", {"p": 1.0}), ("RandomVerticalFlip", {"p": 1.0})]),
    "RandomOrder": ({}, [("RandomRotation", {"degrees": 20}), ("RandomHorizontalFlip", {"p": 0.5})]),
}
OF_BOXES = {
    "ClampBoundingBoxes",
    "ConvertBoundingBoxFormat",
    "SanitizeBoundingBoxes",
    "SetClampingMode",
    "RandomIoUCrop",
}
OF_POINTS = {"ClampKeyPoints", "SanitizeKeyPoints"}
OF_FRAMES = {"UniformTemporalSubsample"}
ELSEWHERE = OF_BOXES | OF_POINTS | OF_FRAMES
FROM_PIL = {"ToImage", "PILToTensor", "ToTensor"}
ON_TENSORS = {
    "GaussianNoise",
    "RandomErasing",
    "LinearTransformation",
    "ToPILImage",
    "Normalize",
    "ConvertImageDtype",
    "ToDtype",
}
"""They take no PIL image."""
NO_BATCH = {"JPEG", "ToPILImage", "RandomShortestSize"}
"""torchvision's own take one image at a time; RandomShortestSize asks for a size of 3 dimensions or PIL."""


HERE = {
    **EXAMPLES,
    "RandomGrayscale": {"p": 0.9},
    "LinearTransformation": {  # as large as a document may hold
        "transformation_matrix": (torch.eye(48) + 0.01).tolist(),
        "mean_vector": torch.linspace(0, 1, 48).tolist(),
    },
}
SMALL = v2.CenterCrop([4, 4])


def named() -> list[TransformEntry]:
    return [entry for entry in entries() if entry.name not in OWN]


def written(name: str) -> str:
    """The transform as one writes it in a spec."""
    if name in CONTAINERS:
        arguments, inner = CONTAINERS[name]
        arguments = {**arguments, "transforms": [{"type": kind, **more} for kind, more in inner]}
    else:
        arguments = HERE.get(name, {})
    return json.dumps({"type": name, **arguments})


def theirs(name: str) -> Any:
    """torchvision's own object, made as its documentation says."""
    if name in CONTAINERS:
        arguments, inner = CONTAINERS[name]
        return getattr(v2, name)(transforms=[getattr(v2, kind)(**more) for kind, more in inner], **arguments)
    arguments = dict(HERE.get(name, {}))
    if "dtype" in arguments:
        arguments["dtype"] = getattr(torch, arguments["dtype"])
    if "policy" in arguments:
        arguments["policy"] = v2.AutoAugmentPolicy(arguments["policy"])
    for key in ("transformation_matrix", "mean_vector"):
        if key in arguments:
            arguments[key] = torch.tensor(arguments[key])
    return getattr(v2, name)(**arguments)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return image_folder(tmp_path_factory.mktemp("named") / "photos", {"a": 2, "b": 2}, size=(32, 24))


def spec(source: str, steps: list[str], batch: list[str] | None = None, size: int = 1) -> str:
    return (
        f"train: {{source: {source}, shuffle: false, transforms: [{', '.join(steps)}], "
        f"batch_transforms: [{', '.join(batch or [])}]}}\nbatch_size: {size}\ncache: false\nworkers: 0"
    )


AFTER = ["ToImage", "{type: ToDtype, dtype: float32}"]
"""At the end, so that nothing is scaled: the values are those that the transform gave."""


@pytest.mark.filterwarnings("ignore:The transform `ToTensor", "ignore:The image decoding and encoding")
@pytest.mark.parametrize(
    "entry", [e for e in named() if e.name not in ELSEWHERE and not e.batch_only], ids=lambda e: e.name
)
@pytest.mark.parametrize("kind", ["pil", "tensor"])
def test_on_a_sample_it_is_torchvisions_own_call(entry: TransformEntry, kind: str, photos: Path) -> None:
    if kind == "tensor" and entry.name in FROM_PIL - {"ToImage"}:
        pytest.skip("takes PIL images alone")
    if kind == "pil" and entry.name in ON_TENSORS:
        pytest.skip("takes tensors alone")
    before = [] if kind == "pil" else ["ToImage"]
    if entry.name in FLOATS:
        before.append("{type: ToDtype, dtype: float32, scale: true}")
    if entry.name == "LinearTransformation":
        before.append("{type: CenterCrop, size: [4, 4]}")
    text = spec(f"{{type: ImageFolder, root: {photos}}}", [*before, written(entry.name), *AFTER])
    found = epoch(opened(text).splits["train"], 1)
    folder = datasets.ImageFolder(str(photos))
    call = theirs(entry.name)
    changed = 0
    for index, batch in enumerate(found):
        image: Any = folder[index][0]
        if kind == "tensor":
            # Noise fills a tensor in the order in which it lies in memory; a sample lies there channel by channel.
            image = tv_tensors.Image(v2.functional.to_image(image).contiguous())
        if entry.name in FLOATS:
            image = v2.functional.to_dtype(image, torch.float32, scale=True)
        if entry.name == "LinearTransformation":
            image = SMALL(image)
        with preserved():
            torch.manual_seed(mix(0, 0, 1, index))
            expected = plain_tensor("image", call(image))
        assert torch.equal(batch["image"][0].float(), expected.float())
        before_it = plain_tensor("image", image)
        changed += expected.shape != before_it.shape or not torch.equal(expected.float(), before_it.float())
    same = {"ToImage", "PILToTensor", "ToPILImage", "ToPureTensor", "Identity", "RGB"}
    assert changed or entry.name in same, "the transform did nothing to any of the images"


@pytest.mark.parametrize(
    "entry", [e for e in named() if e.name not in ELSEWHERE | FROM_PIL | NO_BATCH], ids=lambda e: e.name
)
def test_on_a_batch_it_is_torchvisions_own_call(entry: TransformEntry, photos: Path) -> None:
    scale = ", scale: true" if entry.name in FLOATS else ""
    steps = ["ToImage", f"{{type: ToDtype, dtype: {'float32' if scale else 'uint8'}{scale}}}"]
    if entry.name == "LinearTransformation":
        steps.append("{type: CenterCrop, size: [4, 4]}")
    text = spec(f"{{type: ImageFolder, root: {photos}}}", steps, [written(entry.name)], size=2)
    found = epoch(opened(text).splits["train"], 1)
    folder = datasets.ImageFolder(str(photos))
    call = theirs(entry.name)
    assert len(found) == 2
    for number, batch in enumerate(found):
        samples = [folder[2 * number + i] for i in range(2)]
        image = torch.stack([v2.functional.to_image(one) for one, _ in samples])
        if scale:
            image = v2.functional.to_dtype(image, torch.float32, scale=True)
        if entry.name == "LinearTransformation":
            image = SMALL(image)
        sample = {"image": tv_tensors.Image(image), "label": torch.tensor([label for _, label in samples])}
        with preserved():
            torch.manual_seed(mix(0, 0, 1, number))
            expected = call(sample)
        for field in ("image", "label"):
            assert torch.equal(batch[field], plain_tensor(field, expected[field]))


@pytest.mark.parametrize("name", sorted(OF_BOXES))
def test_on_boxes_it_is_torchvisions_own_call(name: str, tmp_path: Path) -> None:
    voc(tmp_path)
    text = spec(f"{{type: VOCDetection, root: {tmp_path}}}", ["ToImage", written(name)])
    found = epoch(opened(text).splits["train"], 1)
    dataset = datasets.wrap_dataset_for_transforms_v2(datasets.VOCDetection(tmp_path), target_keys={"boxes", "labels"})
    call = theirs(name)
    for index, batch in enumerate(found):
        image, target = dataset[index]
        boxes = tv_tensors.wrap(target["boxes"].float(), like=target["boxes"])
        with preserved():
            torch.manual_seed(mix(0, 0, 1, index))
            expected = call({"image": v2.functional.to_image(image), "boxes": boxes, "labels": target["labels"]})
        assert torch.equal(batch["boxes"][0], expected["boxes"].as_subclass(Tensor))
        assert torch.equal(batch["labels"][0], expected["labels"])
        assert torch.equal(batch["image"][0], expected["image"].as_subclass(Tensor).float() / 255)


@pytest.mark.parametrize("name", sorted(OF_POINTS))
def test_on_points_it_is_torchvisions_own_call(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    celeba(tmp_path)
    unfetched(datasets.CelebA, monkeypatch)
    source = f"{{type: CelebA, root: {tmp_path}, target_type: landmarks}}"
    moved = "{type: RandomAffine, degrees: 0, translate: [0.4, 0.4]}"
    found = epoch(opened(spec(source, ["ToImage", moved, written(name)])).splits["train"], 1)
    faces = datasets.CelebA(tmp_path, target_type="landmarks")
    calls = [v2.RandomAffine(degrees=0, translate=(0.4, 0.4)), theirs(name)]
    for index, batch in enumerate(found):
        image, points = faces[index]
        canvas = (image.height, image.width)
        sample: Any = {
            "image": v2.functional.to_image(image),
            "landmarks": tv_tensors.KeyPoints(points.reshape(5, 2).float(), canvas_size=canvas),
        }
        with preserved():
            torch.manual_seed(mix(0, 0, 1, index))
            for call in calls:
                sample = call(sample)
        assert torch.equal(batch["landmarks"][0], sample["landmarks"].as_subclass(Tensor))


@pytest.mark.parametrize("name", sorted(OF_FRAMES))
def test_on_frames_it_is_torchvisions_own_call(name: str, tmp_path: Path) -> None:
    moving(tmp_path)
    step = json.dumps({"type": name, "num_samples": 4})
    stream = opened(spec(f"{{type: MovingMNIST, root: {tmp_path}}}", [step])).splits["train"]
    found = epoch(stream)
    frames = datasets.MovingMNIST(tmp_path)
    for index, batch in enumerate(found):
        expected = getattr(v2, name)(num_samples=4)(tv_tensors.Video(frames[index]))
        assert torch.equal((batch["image"][0] * 255).round().to(torch.uint8), expected.as_subclass(Tensor))
    _, said = read(f"train: {{source: {{type: CIFAR10, root: x}}, transforms: [{step}]}}")
    assert [d.code for d in said if d.severity == "error"] == ["NS509"]


def test_all_are_named_or_have_a_reason() -> None:
    """What this file tries is all there is: a new transform of torchvision fails here until it has its place."""
    tried = {entry.name for entry in named()}
    classes = {name for name, kind in vars(v2).items() if isinstance(kind, type) and issubclass(kind, v2.Transform)}
    assert classes - set(TRANSFORMS) == tried


@pytest.mark.parametrize("name", sorted(TRANSFORMS))
def test_what_cannot_be_named_says_why(name: str) -> None:
    _, said = read(f"train: {{source: Digits, transforms: [{{type: {name}}}]}}")
    (wrong,) = [d for d in said if d.severity == "error"]
    assert wrong.code == "NS501"
    assert wrong.help == TRANSFORMS[name]
