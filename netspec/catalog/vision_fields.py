"""torchvision's data sets, by their names and with their arguments, and the fields that a sample of each has.

What torchvision gives as a tuple becomes fields: the image is `image`, of two `image` and `image2`; a class is `label`;
a class for each pixel `mask`; boxes are `boxes`, [number, 4] in pixels as x₁ y₁ x₂ y₂, with `labels`, [number]; optical
flow is `flow`, [2, height, width], a disparity map `disparity`, [1, height, width], each with `valid` where torchvision
says which pixels count. Arguments that are functions are left out: `transforms` has their place.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from netspec.catalog.entry import REQUIRED, Argument
from netspec.catalog.sources import DIGITS, DOWNLOAD, ROOT, FieldInfo, Fields, SourceEntry

CLASSES: Final[Mapping[str, tuple[str, ...]]] = {
    "USPS": DIGITS,
    "SVHN": DIGITS,
    "SEMEION": DIGITS,
    "QMNIST": DIGITS,
    "RenderedSST2": ("negative", "positive"),
    "STL10": ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"),
    "FER2013": ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"),
    "PCAM": ("no tumor", "tumor"),
    "VOCDetection": (
        "__background__",
        "aeroplane",
        "bicycle",
        "bird",
        "boat",
        "bottle",
        "bus",
        "car",
        "cat",
        "chair",
        "cow",
        "diningtable",
        "dog",
        "horse",
        "motorbike",
        "person",
        "pottedplant",
        "sheep",
        "sofa",
        "train",
        "tvmonitor",
    ),
    "Kitti": ("Car", "Van", "Truck", "Pedestrian", "Person_sitting", "Cyclist", "Tram", "Misc", "DontCare"),
}
"""The names of classes that the data set fixes and its files do not tell, or tell always alike."""

THREE: Final = ("train", "val", "test")
"""The parts that most sets have."""

EMNIST: Final = {"byclass": 62, "bymerge": 47, "balanced": 47, "letters": 27, "digits": 10, "mnist": 10}
_COUNTS: Final[Mapping[str, int]] = {"GTSRB": 43, "CLEVRClassification": 11, "Flowers102": 102, "Places365": 365}
PETS: Final = {"category": "label", "binary-category": "binary", "segmentation": "mask"}
FACES: Final = {"attr": "attr", "identity": "identity", "bbox": "boxes", "landmarks": "landmarks"}

_Shape = tuple[int | None, ...]


def _field(name: str, arguments: Mapping[str, Any], image: _Shape, source: str) -> FieldInfo:
    """A field by its name; `image` is the shape of the images."""
    classes = CLASSES.get(source) if name in ("label", "labels") else None
    count: int | None = len(classes) if classes else None
    shape: _Shape | None = ()
    dtype = "int64"
    match name:
        case "image" | "image2":
            shape, dtype = image, "uint8"
        case "label":
            count = count or _COUNTS.get(source)
            count = EMNIST.get(arguments["split"]) if source == "EMNIST" else count
            count = arguments["num_classes"] if source == "FakeData" else count
        case "mask":
            shape = image[-2:]
        case "boxes":
            shape, dtype = (None, 4), "float32"
        case "labels":
            shape = (None,)
        case "flow":
            shape, dtype = (2, *image[-2:]), "float32"
        case "disparity":
            shape, dtype = (1, *image[-2:]), "float32"
        case "valid":
            shape, dtype = image[-2:], "bool"
        case "boundaries":
            shape, dtype = (20, *image[-2:]), "float32"
        case "attr":
            shape = (40,)
        case "landmarks":
            shape, dtype = (5, 2), "float32"
    return FieldInfo(name=name, shape=shape, dtype=dtype, classes=classes, num_classes=count)


def field_names(entry: SourceEntry, arguments: Mapping[str, Any]) -> tuple[str, ...]:
    """The fields of a sample, in the order in which the data set gives their values."""
    match entry.name:
        case "CelebA" | "OxfordIIITPet":
            wanted = arguments["target_type" if entry.name == "CelebA" else "target_types"]
            known = FACES if entry.name == "CelebA" else PETS
            return ("image", *(known[kind] for kind in ([wanted] if isinstance(wanted, str) else wanted)))
        case "SBDataset":
            return ("image", "mask" if arguments["mode"] == "segmentation" else "boundaries")
        case "PhotoTour":
            return ("image",) if arguments["train"] else ("image", "image2", "label")
    return entry.carries


def vision_source(
    name: str,
    doc: str,
    *arguments: Argument,
    carries: tuple[str, ...] = ("image", "label"),
    image: _Shape = (3, None, None),
    parts: tuple[str, Mapping[str, Any]] | None = None,
    paths: tuple[str, ...] = ("root",),
    loader: str = "vision_data.vision",
) -> SourceEntry:
    def fields(given: Mapping[str, Any]) -> Fields:
        shape = tuple(given["image_size"]) if name == "FakeData" else image
        return {field: _field(field, given, shape, name) for field in field_names(entry, given)}

    entry = SourceEntry(
        name=name,
        category="source",
        target=f"netspec.runtime.data.{loader}",
        arguments=arguments if name == "FakeData" else (ROOT, *arguments),
        inputs=(),
        doc=doc,
        fields=fields,
        paths=paths,
        pil=None in image,
        carries=carries,
        parts=parts,
    )
    return entry


def choice(name: str, choices: tuple[str, ...], default: Any = REQUIRED, doc: str = "", **more: Any) -> Argument:
    kind = "choice" if default is REQUIRED or default is not None else "choice?"
    return Argument(name=name, kind=kind, choices=choices, default=default, doc=doc, **more)


def _part(name: str, choices: tuple[str, ...]) -> Argument:
    return choice(name, choices, None, "The part. Left out: the one for the split that it stands under.")


def _split(*choices: str, name: str = "split", **under: str) -> tuple[Argument, tuple[str, Mapping[str, Any]]]:
    """The argument for the part of the data, and what it is where the spec leaves it out."""
    fallback = next((part for part in ("test", "val", "valid") if part in choices), choices[0])
    held = next((part for part in ("val", "valid", "test") if part in choices), choices[0])
    parts = {"train": "train" if "train" in choices else choices[0], "val": held, "test": fallback}
    return _part(name, choices), (name, {**parts, **under})


def in_parts(
    name: str,
    doc: str,
    *choices: str,
    more: tuple[Argument, ...] = (),
    download: bool = True,
    first: tuple[Argument, ...] = (),
    argument: str = "split",
    under: Mapping[str, str] | None = None,
    **rest: Any,
) -> SourceEntry:
    """A data set whose parts an argument chooses between; it stands after `first` and before `more`."""
    part, parts = _split(*choices, name=argument, **(under or {}))
    arguments = (*first, part, *more, *((DOWNLOAD,) if download else ()))
    return vision_source(name, doc, *arguments, parts=parts, **rest)


def whole(name: str, doc: str, *arguments: Argument, download: bool = True, **rest: Any) -> SourceEntry:
    """A data set of one part."""
    return vision_source(name, doc, *arguments, *((DOWNLOAD,) if download else ()), **rest)


def integer(name: str, default: Any, doc: str, minimum: int | None = None, maximum: int | None = None) -> Argument:
    kind = "int?" if default is None else "int"
    return Argument(name=name, kind=kind, default=default, doc=doc, minimum=minimum, maximum=maximum)
