"""Transforms: the catalog against the installed torchvision, our light ones and the static rules against v2 itself."""

from __future__ import annotations

import inspect
import subprocess
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from data_support import epoch, equal, image_folder, joined, opened, read, recipe
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from netspec.catalog import registry
from netspec.catalog.entry import REQUIRED
from netspec.catalog.image_rules import ImageType
from netspec.catalog.transforms import TransformEntry
from netspec.recipe.data import Transform
from netspec.runtime.data.seeds import preserved
from netspec.runtime.data.steps import build_step, make_v2, plain_tensor
from netspec.runtime.errors import RunError

OWN = {"Standardize"}
NO_TRANSFORMS = {"Transform", "AutoAugmentPolicy", "InterpolationMode", "Lambda"}
"""Classes of v2 that a spec does not name; `Lambda` takes code."""

EXAMPLES: Mapping[str, dict[str, Any]] = {
    "ToDtype": {"dtype": "float32", "scale": True},
    "Normalize": {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.25]},
    "Resize": {"size": 20},
    "CenterCrop": {"size": [10, 40]},
    "RandomCrop": {"size": 16, "padding": [3, 2]},
    "RandomResizedCrop": {"size": [9, 14]},
    "FiveCrop": {"size": 8},
    "TenCrop": {"size": [6, 8], "vertical_flip": True},
    "Pad": {"padding": [1, 2, 3, 4]},
    "RandomResize": {"min_size": 10, "max_size": 20},
    "RandomShortestSize": {"min_size": [10, 12]},
    "ScaleJitter": {"target_size": [20, 20]},
    "RandomRotation": {"degrees": 30},
    "RandomAffine": {"degrees": [-5, 5], "translate": [0.1, 0.2], "shear": 3},
    "ColorJitter": {"brightness": 0.3, "hue": [-0.1, 0.1]},
    "RandomPosterize": {"bits": 3},
    "RandomSolarize": {"threshold": 100.0},
    "RandomAdjustSharpness": {"sharpness_factor": 2.0},
    "GaussianBlur": {"kernel_size": 3},
    "JPEG": {"quality": [20, 80]},
    "AutoAugment": {"policy": "cifar10"},
    "LinearTransformation": {"transformation_matrix": torch.eye(3 * 24 * 32).tolist(), "mean_vector": [0.0] * 2304},
    "ConvertBoundingBoxFormat": {"format": "XYWH"},
    "SetClampingMode": {"clamping_mode": "soft"},
    "UniformTemporalSubsample": {"num_samples": 1},
    "MixUp": {"num_classes": 4},
    "CutMix": {"num_classes": 4},
}
FLOATS = {"Normalize", "GaussianNoise", "LinearTransformation", "MixUp"}
CONTAINERS = {"Compose", "RandomApply", "RandomChoice", "RandomOrder"}
NO_BOXES_HERE = {"RandomIoUCrop", "SanitizeBoundingBoxes", "SanitizeKeyPoints", "UniformTemporalSubsample"}


def entries() -> list[TransformEntry]:
    found = [registry.lookup(name, "transform") for name in registry.names("transform")]
    assert all(isinstance(entry, TransformEntry) for entry in found)
    return [entry for entry in found if isinstance(entry, TransformEntry)]


def transform(name: str, **arguments: Any) -> Transform:
    entry = registry.lookup(name, "transform")
    assert isinstance(entry, TransformEntry)
    return Transform(type=name, target=entry.target, arguments=arguments, random=entry.random, light=entry.light)


def photo(dtype: torch.dtype = torch.uint8) -> Tensor:
    draw = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (3, 24, 32), dtype=torch.uint8, generator=draw)
    return pixels if dtype == torch.uint8 else pixels.to(dtype) / 255


def pil_photo() -> Any:
    return v2.functional.to_pil_image(photo())


def test_the_catalog_names_what_torchvision_has() -> None:
    theirs = {name for name, kind in vars(v2).items() if inspect.isclass(kind)} - NO_TRANSFORMS
    assert {entry.name for entry in entries()} - OWN == theirs


@pytest.mark.parametrize("entry", [e for e in entries() if e.name not in OWN], ids=lambda e: e.name)
def test_arguments_and_defaults_are_torchvisions(entry: TransformEntry) -> None:
    signature = inspect.signature(getattr(v2, entry.name).__init__)
    theirs = {name: p.default for name, p in signature.parameters.items() if name != "self"}
    ours = {a.name: (inspect.Parameter.empty if a.default is REQUIRED else a.default) for a in entry.arguments}
    plain = {
        name: str(value).rpartition(".")[2] if isinstance(value, torch.dtype) else getattr(value, "value", value)
        for name, value in theirs.items()
    }
    assert ours == plain
    assert list(ours) == list(plain)


ON_TENSORS = ("ToImage", "ToDtype", "Normalize", "half", "int", "no scale")


@pytest.mark.parametrize(
    ("name", "batch"),
    [("PIL", False), ("ToTensor", False), *((name, batch) for name in ON_TENSORS for batch in (False, True))],
)
def test_the_light_ones_give_v2s_values(name: str, batch: bool) -> None:
    image: Any = photo()
    arguments: dict[str, Any] = {}
    kind = name
    match name:
        case "PIL":
            image, kind = pil_photo(), "ToImage"
        case "ToTensor":
            image = pil_photo()
        case "ToDtype":
            arguments = EXAMPLES["ToDtype"]
        case "Normalize":
            image, arguments = photo(torch.float32), EXAMPLES["Normalize"]
        case "half":
            image, kind, arguments = photo(torch.float32), "ToDtype", {"dtype": "float16", "scale": True}
        case "int":
            image, kind, arguments = photo(torch.float32), "ToDtype", {"dtype": "uint8", "scale": True}
        case "no scale":
            kind, arguments = "ToDtype", {"dtype": "float32"}
    if batch:
        image = torch.stack([image, image.flip(-1)])
    ours = build_step(transform(kind, **arguments), {}, None)({"image": image})["image"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchvision deprecates ToTensor
        theirs = make_v2(transform(kind, **arguments), None)(
            tv_tensors.Image(image) if isinstance(image, Tensor) else image
        )
    assert type(ours) is Tensor
    assert ours.dtype == theirs.dtype
    assert torch.equal(ours, theirs.as_subclass(Tensor))


def test_light_transforms_do_not_import_torchvision(real_data: Path) -> None:
    program = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from data_support import opened
spec = '''
train:
  source: {{type: MNIST, root: {real_data / "mnist"}}}
  transforms: [ToImage, {{type: ToDtype, dtype: float32, scale: true}}, {{type: Normalize, mean: [0.1], std: [0.3]}}%s]
'''
more = sys.argv[1:]
next(opened(spec % "".join(", " + name for name in more)).splits["train"].batches(0))
print("torchvision" in sys.modules)
"""
    for more, expected in (([], "False"), (["RandomHorizontalFlip"], "True")):
        done = subprocess.run([sys.executable, "-c", program, *more], capture_output=True, text=True, check=False)
        assert done.stdout.strip() == expected, done.stderr


@pytest.mark.parametrize(
    "entry", [e for e in entries() if e.name not in OWN | CONTAINERS | NO_BOXES_HERE], ids=lambda e: e.name
)
def test_flags_and_rules_say_what_v2_does(entry: TransformEntry) -> None:
    """Whether it draws, whether a batch gets what each image gets, and which shape and dtype come out."""
    arguments = EXAMPLES.get(entry.name, {})
    full = {a.name: a.default for a in entry.arguments if a.default is not REQUIRED} | arguments
    dtype = torch.float32 if entry.name in FLOATS else torch.uint8
    image = photo(dtype)
    with warnings.catch_warnings(), preserved():
        warnings.simplefilter("ignore")
        call = make_v2(transform(entry.name, **arguments), 4)
        if entry.batch_only:
            state = torch.get_rng_state()
            call({"image": torch.stack([image, image]), "label": torch.tensor([0, 1])})
            assert not torch.equal(state, torch.get_rng_state())
            return
        pil = entry.name in ("ToTensor", "PILToTensor")
        state = torch.get_rng_state()
        given: Any = pil_photo() if pil else tv_tensors.Image(image)
        results = [call(given) for _ in range(5)]
        assert torch.equal(state, torch.get_rng_state()) != entry.random
        if entry.batchable and not pil:
            both = call(tv_tensors.Image(torch.stack([image, image.flip(-1)])))
            assert torch.equal(plain_tensor("", both)[0], plain_tensor("", results[0]))
    before = ImageType(channels=3, height=24, width=32, dtype=str(dtype)[6:], pil=pil)
    after = entry.image(full, before)
    assert isinstance(after, ImageType), after
    for result in results:
        found = plain_tensor("", result)
        expected = (*after.leading, after.channels, after.height, after.width)
        assert len(found.shape) == len(expected)
        assert all(want in (None, have) for want, have in zip(expected, found.shape, strict=True)), (
            expected,
            found.shape,
        )
        assert after.dtype == str(found.dtype)[6:]


@pytest.mark.parametrize("size", [(24, 32), (32, 24), (17, 17)])
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("Resize", {"size": 20}),
        ("Resize", {"size": [9, 12]}),
        ("Resize", {"size": [20], "max_size": 22}),
        ("Resize", {"size": None, "max_size": 31}),
        ("Resize", {"size": 33, "interpolation": "nearest"}),
        ("CenterCrop", {"size": [40, 8]}),
        ("CenterCrop", {"size": [5]}),
        ("Pad", {"padding": 3}),
        ("Pad", {"padding": [3]}),
        ("Pad", {"padding": [3, 1]}),
        ("RandomCrop", {"size": [30, 20], "pad_if_needed": True}),
        ("RandomCrop", {"size": 12, "padding": 4}),
        ("RandomRotation", {"degrees": 45, "expand": True}),
    ],
)
def test_sizes_told_without_data_are_v2s(name: str, arguments: dict[str, Any], size: tuple[int, int]) -> None:
    entry = registry.lookup(name, "transform")
    assert isinstance(entry, TransformEntry)
    full = {a.name: a.default for a in entry.arguments if a.default is not REQUIRED} | arguments
    told = entry.image(full, ImageType(channels=3, height=size[0], width=size[1], dtype="uint8"))
    assert isinstance(told, ImageType), told
    if "interpolation" in arguments:  # older versions take no strings
        arguments = {**arguments, "interpolation": v2.InterpolationMode(arguments["interpolation"])}
    with preserved():
        found = getattr(v2, name)(**arguments)(torch.zeros(3, *size, dtype=torch.uint8)).shape
    if arguments.get("expand"):
        assert (told.height, told.width) == (None, None)
    else:
        assert (told.height, told.width) == tuple(found[1:])


PIPELINE = """
transforms:
  - {type: Resize, size: 14}
  - {type: CenterCrop, size: 12}
  - ToImage
  - {type: ToDtype, dtype: float32, scale: true}
  - {type: Normalize, mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return image_folder(tmp_path_factory.mktemp("images"), {"left": 5, "right": 4})


def test_a_pipeline_on_files_gives_torchvisions_tensors(folder: Path) -> None:
    from torchvision.datasets import ImageFolder

    compose = v2.Compose(
        [
            v2.Resize(14),
            v2.CenterCrop(12),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ]
    )
    theirs = ImageFolder(folder, compose)
    for cache in ("true", "false"):
        text = f"source: {{type: ImageFolder, root: {folder}}}\nsampler: SequentialSampler\ncache: {cache}{PIPELINE}"
        batches = epoch(opened(text).splits["train"])
        assert torch.equal(joined(batches, "image"), torch.stack([image for image, _ in theirs]))
        assert joined(batches, "label").tolist() == theirs.targets


def test_random_transforms_are_v2s_own_under_our_seed(folder: Path) -> None:
    """Each sample of an epoch is one that v2 gives for some seed: an integer crop of that very image."""
    text = f"""
    source: {{type: ImageFolder, root: {folder}}}
    sampler: SequentialSampler
    transforms: [ToImage, {{type: RandomCrop, size: 8}}, {{type: RandomHorizontalFlip, p: 1}}]
    """
    whole = f"source: {{type: ImageFolder, root: {folder}}}\nsampler: SequentialSampler\ntransforms: [ToImage]"
    originals = joined(epoch(opened(whole).splits["train"]), "image")
    crops = joined(epoch(opened(text).splits["train"]), "image").flip(-1)
    for original, crop in zip(originals, crops, strict=True):
        windows = original.unfold(1, 8, 1).unfold(2, 8, 1).permute(1, 2, 0, 3, 4).flatten(0, 1)
        assert (windows == crop).flatten(1).all(1).any()


def test_where_the_deterministic_part_is_kept_does_not_matter(folder: Path) -> None:
    def batches(cache: str, extra: str) -> list[dict[str, Tensor]]:
        text = f"source: {{type: ImageFolder, root: {folder}}}\ncache: {cache}\ntransforms: [{extra}]"
        return epoch(opened(text).splits["train"], 1)

    for extra in (
        "{type: Resize, size: [9, 9]}, RandomHorizontalFlip, ToImage, {type: ToDtype, dtype: float32, scale: true}",
        "{type: RandomResizedCrop, size: 8}, ToImage",
        "ToImage, {type: ToDtype, dtype: float32, scale: true}, {type: RandomErasing, p: 1}",
        "{type: Compose, transforms: [{type: Resize, size: [9, 9]}, ToImage]}",
        "{type: RandomApply, transforms: [{type: ColorJitter, brightness: 0.5}], p: 0.5}, {type: CenterCrop, size: 8}",
    ):
        assert equal(batches("true", extra), batches("false", extra)), extra


def test_crops_are_stacked(folder: Path) -> None:
    text = f"source: {{type: ImageFolder, root: {folder}}}\ntransforms: [{{type: FiveCrop, size: 8}}]\nbatch_size: 3"
    assert next(opened(text).splits["train"].batches(0))["image"].shape == (3, 5, 3, 8, 8)
    assert (recipe(text).fields or {})["image"].shape == (5, 3, 8, 8)


def test_images_of_different_sizes_name_both_files(folder: Path, tmp_path: Path) -> None:
    mixed = image_folder(tmp_path / "mixed", {"a": 1})
    image_folder(mixed, {"b": 1}, size=(10, 10))
    with pytest.raises(RunError) as caught:
        epoch(opened(f"source: {{type: ImageFolder, root: {mixed}}}").splits["train"])
    assert caught.value.code == "NS923"
    assert "000.png" in caught.value.message
    assert "3 x 16 x 20" in caught.value.message
    assert "3 x 10 x 10" in caught.value.message


def test_an_argument_that_torchvision_refuses_is_told_in_its_words() -> None:
    with pytest.raises(RunError, match="RandomRotation refuses"):
        opened("source: Digits\ntransforms: [{type: RandomRotation, degrees: [1, 2, 3]}]")


def test_nothing_decided_means_floats_from_0_to_1(real_data: Path) -> None:
    root = real_data / "mnist"
    source = f"source: {{type: MNIST, root: {root}}}"
    image = next(opened(f"{source}\nbatch_size: 8").splits["train"].batches(0))["image"]
    assert image.dtype == torch.float32
    assert image.max() == 1
    kept = f"{source}\nbatch_size: 8\ntransforms: [{{type: ToDtype, dtype: uint8}}]"
    assert next(opened(kept).splits["train"].batches(0))["image"].dtype == torch.uint8
    told, _ = read(kept)
    assert told is not None
    assert (told.fields or {})["image"].dtype == "uint8"


def test_a_transform_that_fails_names_the_sample(folder: Path) -> None:
    text = f"""
    source: {{type: ImageFolder, root: {folder}}}
    transforms:
      - ToImage
      - {{type: ToDtype, dtype: float32}}
      - {{type: RandomCrop, size: 12}}
      - {{type: LinearTransformation, transformation_matrix: [[1]], mean_vector: [0]}}
    """
    with pytest.raises(RunError, match=r"left/000\.png: the transform LinearTransformation fails"):
        opened(text)


@pytest.mark.parametrize(
    ("container", "shape"),
    [
        ("{type: RandomApply, transforms: [RandomVerticalFlip, ToImage]}", (3, 16, 20)),
        ("{type: RandomApply, transforms: [{type: CenterCrop, size: [16, 8]}]}", (3, 16, None)),
        ("{type: RandomChoice, transforms: [{type: CenterCrop, size: 8}, {type: RandomCrop, size: 8}]}", (3, 8, 8)),
        ("{type: RandomOrder, transforms: [RandomVerticalFlip, {type: Pad, padding: 1}]}", (3, None, None)),
        ("{type: Compose, transforms: [{type: Pad, padding: 1}, Grayscale]}", (1, 18, 22)),
    ],
)
def test_shapes_through_containers(folder: Path, container: str, shape: tuple[int | None, ...]) -> None:
    text = f"source: {{type: ImageFolder, root: {folder}}}\ntransforms: [{{type: Resize, size: [16, 20]}}, {container}]"
    assert (recipe(text).fields or {})["image"].shape == shape
    found = opened(text).splits["train"].fields["image"].shape or ()
    assert all(told in (None, seen) for told, seen in zip(shape, found, strict=True))
