"""torchvision's data sets as samples: tensors that lie in memory, image files with a class each, or whatever else.

torchvision reads the lists of files and the annotations; images are decoded here, so that a file that can't be read is
named. Where torchvision takes files in the order in which a folder gives them, they are sorted: the order has to be the
same on every machine.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from netspec.catalog.registry import lookup
from netspec.catalog.sources import FieldInfo, SourceEntry
from netspec.catalog.vision_fields import field_names
from netspec.recipe.data import Source
from netspec.runtime.data.samples import Arrays, ImageFiles, Sample, Samples, infer_fields
from netspec.runtime.errors import RunError

State = Mapping[str, Any]
Files = tuple[Sequence[Any], Sequence[int]]

_ABSENT = (RuntimeError, OSError, ValueError, LookupError)
"""What torchvision raises where files are absent, not as it wants them, or can't be fetched."""


def vision(source: Source, reference: State | None) -> Samples:
    """Any data set of torchvision. Raises RunError NS920 where it is not there."""
    dataset = make(source)
    if source.type in _COLUMNS:
        return _columns(source, _COLUMNS[source.type](dataset), dataset)
    if source.type in _FILES:
        return _image_files(source, dataset)
    return Items(dataset, _entry(source), source)


def make(source: Source) -> Any:
    """torchvision's own object, without transforms."""
    arguments = {name: value for name, value in source.arguments.items() if value is not None}
    try:
        return getattr(import_module("torchvision.datasets"), source.type)(**arguments)
    except ImportError as error:
        raise _missing(source, (error.name or str(error)).split(".")[0]) from error
    except _ABSENT as error:
        if package := next((name for name in ("scipy", "h5py") if f"{name} is not found" in str(error).lower()), None):
            raise _missing(source, package) from error
        raise RunError("NS920", f"{source.type} {_where(source)}: {_first_line(error)}", help=_mend(source)) from error


def _missing(source: Source, package: str) -> RunError:
    message = f"{source.type} needs the package {package}, which is not installed"
    return RunError("NS911", message, help=f"pip install {package}")


def _where(source: Source) -> str:
    return f"under {source.arguments['root']}" if "root" in source.arguments else "can't be made"


def _mend(source: Source) -> str:
    if source.arguments.get("download"):
        return f"put its files where torchvision.datasets.{source.type} looks for them"
    fetch = "; `download: true` fetches it" if "download" in source.arguments else ""
    return f"`root` is the folder that holds what torchvision.datasets.{source.type} expects{fetch}"


def _first_line(error: BaseException) -> str:
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0].replace(" You can use download=True to download it", "").rstrip(". ")


def _entry(source: Source) -> SourceEntry:
    entry = lookup(source.type, "source")
    assert isinstance(entry, SourceEntry)
    return entry


def _fields(source: Source, dataset: Any) -> dict[str, FieldInfo]:
    """The fields that the catalog tells, with the class names that the data set has found."""
    fields = dict((_entry(source).fields(source.arguments)) or {})
    label = next((name for name in ("label", "labels") if name in fields), None)
    names = None if label is None else _class_names(source, dataset)  # Cityscapes', of a mask, are no names
    if names and label is not None:
        fields[label] = replace(fields[label], classes=names, num_classes=len(names))
    return fields


def _class_names(source: Source, dataset: Any) -> tuple[str, ...] | None:
    if source.type == "Omniglot":
        return tuple(sorted(dataset._characters))
    if source.type == "LFWPeople":
        return tuple(sorted(dataset.class_to_idx, key=dataset.class_to_idx.get))
    if source.type == "INaturalist":
        return _ranks(dataset, source.arguments["target_type"])
    found = getattr(dataset, "classes", None) or getattr(dataset, "categories", None)
    if not isinstance(found, Sequence) or not found:
        return None
    # ImageNet's have several names each.
    return tuple(name if isinstance(name, str) else ", ".join(name) for name in found)


def _ranks(dataset: Any, kind: str) -> tuple[str, ...]:
    if kind == "full":
        return tuple(dataset.all_categories)
    index = dataset.categories_index[kind]
    return tuple(sorted(index, key=index.get))


# In memory


def _columns(source: Source, columns: dict[str, Tensor], dataset: Any) -> Arrays:
    origin = str(source.arguments["root"])
    return Arrays(fields=infer_fields(columns, _fields(source, dataset)), columns=columns, origin=origin)


def _images_and(labels: str, *, gray: bool = True) -> Callable[[Any], dict[str, Tensor]]:
    """`data` as images, [N, H, W] where they are grey, and the attribute that holds the classes."""

    def read(dataset: Any) -> dict[str, Tensor]:
        image, label = torch.as_tensor(dataset.data), torch.as_tensor(getattr(dataset, labels))
        if label.ndim > 1:  # QMNIST: the class, and seven facts of the writer
            label = label[:, 0]
        return {"image": image.unsqueeze(1) if gray else image, "label": label.to(torch.int64)}

    return read


def _faces(dataset: Any) -> dict[str, Tensor]:
    """FER2013: a list of [48, 48] images with their class, None where the file has none."""
    columns = {"image": torch.stack([image for image, _ in dataset._samples]).unsqueeze(1)}
    labels = [label for _, label in dataset._samples]
    return columns if None in labels else {**columns, "label": torch.tensor(labels, dtype=torch.int64)}


def _patches(dataset: Any) -> dict[str, Tensor]:
    image = dataset.data.unsqueeze(1)
    if dataset.train:
        return {"image": image}
    first, second, same = dataset.matches.to(torch.int64).unbind(1)
    return {"image": image[first], "image2": image[second], "label": same}


_COLUMNS: Final[Mapping[str, Callable[[Any], dict[str, Tensor]]]] = {
    "EMNIST": _images_and("targets"),
    "QMNIST": _images_and("targets"),
    "USPS": _images_and("targets"),
    "SEMEION": _images_and("labels"),
    "SVHN": _images_and("labels", gray=False),
    "STL10": _images_and("labels", gray=False),
    "FER2013": _faces,
    "PhotoTour": _patches,
    "MovingMNIST": lambda dataset: {"image": dataset.data},
}


# Files with a class each


def _pairs(name: str) -> Callable[[Any], Files]:
    return lambda dataset: tuple(zip(*getattr(dataset, name), strict=True)) or ((), ())  # type: ignore[return-value]


def _lists(files: str, labels: str) -> Callable[[Any], Files]:
    return lambda dataset: (getattr(dataset, files), getattr(dataset, labels))


def _caltech(folder: str, name: str) -> Callable[[Any], Files]:
    def read(dataset: Any) -> Files:
        root = Path(dataset.root, folder)
        files = [
            root / dataset.categories[label] / name.format(label + 1, index)
            for label, index in zip(dataset.y, dataset.index, strict=True)
        ]
        return files, dataset.y

    return read


def _characters(dataset: Any) -> Files:
    """Omniglot, whose classes torchvision counts in the order in which folders are listed."""
    rank = {name: number for number, name in enumerate(sorted(dataset._characters))}
    names = [dataset._characters[index] for _, index in dataset._flat_character_images]
    folder = Path(dataset.target_folder)
    files = [folder / name / file for name, (file, _) in zip(names, dataset._flat_character_images, strict=True)]
    return files, [rank[name] for name in names]


def _species(dataset: Any) -> Files:
    (kind,) = dataset.target_type
    files = [Path(dataset.root, dataset.all_categories[number], name) for number, name in dataset.index]
    numbers = [number for number, _ in dataset.index]
    return files, numbers if kind == "full" else [dataset.categories_map[number][kind] for number in numbers]


_FILES: Final[Mapping[str, Callable[[Any], Files]]] = {
    "Caltech101": _caltech("101_ObjectCategories", "image_{1:04d}.jpg"),
    "Caltech256": _caltech("256_ObjectCategories", "{0:03d}_{1:04d}.jpg"),
    "CLEVRClassification": _lists("_image_files", "_labels"),
    "Country211": _pairs("samples"),
    "DTD": _lists("_image_files", "_labels"),
    "EuroSAT": _pairs("samples"),
    "FGVCAircraft": _lists("_image_files", "_labels"),
    "Flowers102": _lists("_image_files", "_labels"),
    "Food101": _lists("_image_files", "_labels"),
    "GTSRB": _pairs("_samples"),
    "ImageNet": _pairs("samples"),
    "Imagenette": _pairs("_samples"),
    "INaturalist": _species,
    "LFWPeople": _lists("data", "targets"),
    "Omniglot": _characters,
    "Places365": _pairs("imgs"),
    "RenderedSST2": _pairs("_samples"),
    "StanfordCars": _pairs("_samples"),
    "SUN397": _lists("_image_files", "_labels"),
}


_AS_LISTED = frozenset(("SUN397", "Omniglot", "INaturalist"))
"""Sets whose files torchvision takes in the order in which a folder gives them."""
_AS_LISTED_ONE_BY_ONE: Final = {"Kitti": "images", "Cityscapes": "images", "Sintel": "_image_list"}
"""The same of sets that are read one by one: where each keeps its files."""


def _image_files(source: Source, dataset: Any) -> ImageFiles:
    files, labels = _FILES[source.type](dataset)
    order = sorted(range(len(files)), key=lambda i: str(files[i])) if source.type in _AS_LISTED else range(len(files))
    fields, known = _fields(source, dataset), not len(labels) or None not in labels
    return ImageFiles(
        fields=fields if known else {name: info for name, info in fields.items() if name != "label"},
        files=[Path(files[i]) for i in order],
        labels=torch.tensor([int(labels[i]) for i in order], dtype=torch.int64) if known else None,
        mode="L" if (fields["image"].shape or (3,))[0] == 1 else "RGB",
    )


# Everything else


_ONE_AT_A_TIME: Final = threading.Lock()
"""For noise that is drawn from torch's global generator, while samples are read by several threads."""


@dataclass(slots=True)
class Items:
    """What a data set gives one by one, its values named by the fields; what it does not have is left out."""

    dataset: Any
    entry: SourceEntry
    source: Source
    fields: Mapping[str, FieldInfo] = field(init=False)
    state: Mapping[str, Any] = field(default_factory=dict)
    order: list[int] | None = None

    def __post_init__(self) -> None:
        self.fields = _fields(self.source, self.dataset)
        if (kept := _AS_LISTED_ONE_BY_ONE.get(self.source.type)) is not None:
            files = getattr(self.dataset, kept)
            self.order = sorted(range(len(self.dataset)), key=lambda i: str(files[i]))

    def __len__(self) -> int:
        return len(self.dataset)

    def sample(self, index: int) -> Sample:
        place = index if self.order is None else self.order[index]
        try:
            with _ONE_AT_A_TIME if self.source.type == "FakeData" else nullcontext():
                values = self.dataset[place]
            return self._named(values)
        except (*_ABSENT, SyntaxError) as error:
            raise RunError(
                "NS921",
                f"{self.name(index)} can't be read: {_first_line(error)}",
                help="mend the file, or take it out of the data",
            ) from error

    def _named(self, values: Any) -> Sample:
        from netspec.runtime.data.boxes import annotate

        names = field_names(self.entry, self.source.arguments)
        image, *rest = values if isinstance(values, tuple) else (values,)
        if len(rest) == 1 and isinstance(rest[0], tuple):  # several kinds of target
            rest = list(rest[0])
        if names[1:2] == ("boxes",) and self.entry.name != "CelebA":
            return {"image": image.convert(self.mode), **annotate(self.entry.name, rest[0], image)}
        named = zip(names, (image, *rest), strict=False)
        return {name: _value(name, value, image, self.mode) for name, value in named if value is not None}

    @property
    def mode(self) -> str:
        """PIL's name for what the images are."""
        return "L" if (self.fields["image"].shape or (3,))[0] == 1 else "RGB"

    def name(self, index: int) -> str:
        place = index if self.order is None else self.order[index]
        for attribute in ("images", "_images", "_image_list", "data", "filename"):
            files = getattr(self.dataset, attribute, None)
            if isinstance(files, list) and place < len(files):
                first = files[place][0] if isinstance(files[place], tuple | list) else files[place]
                if isinstance(first, str | os.PathLike):
                    return str(first)
        return f"sample {place} of {self.source.type}"

    def column(self, name: str) -> Tensor:
        if name not in self.fields or self.fields[name].dtype != "int64":
            raise KeyError(name)
        for attribute in ("targets", "_labels") if name == "label" else ():
            found = getattr(self.dataset, attribute, None)
            if isinstance(found, list) and all(isinstance(value, int) for value in found):
                order = range(len(found)) if self.order is None else self.order
                return torch.tensor([found[i] for i in order], dtype=torch.int64)
        return torch.stack([self.sample(index)[name] for index in range(len(self))])


def _value(name: str, value: Any, image: Any, mode: str) -> Any:
    """One value of a sample as the field of that name holds it."""
    match name:
        case "image" | "image2":
            return value if value.mode == mode else value.convert(mode)
        case "mask":
            from torchvision import tv_tensors

            return tv_tensors.Mask(torch.from_numpy(np.array(value, dtype=np.int64)))
        case "boxes":  # CelebA: one, as x, y, width, height
            from netspec.runtime.data.boxes import boxes

            x, y, width, height = torch.as_tensor(value).tolist()
            return boxes([[x, y, x + width, y + height]], image)
        case "landmarks":
            from torchvision import tv_tensors

            points = torch.as_tensor(value, dtype=torch.float32).reshape(-1, 2)
            return tv_tensors.KeyPoints(points, canvas_size=(image.height, image.width))
        case "flow" | "disparity" | "boundaries":
            return torch.as_tensor(np.array(value), dtype=torch.float32)
        case "valid":
            return torch.as_tensor(np.array(value), dtype=torch.bool)
    return torch.as_tensor(value, dtype=torch.int64)
