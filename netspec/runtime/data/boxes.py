"""Boxes of images: read from annotations, and carried through the transforms as torchvision's own kind of tensor."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from netspec.catalog.registry import lookup
from netspec.catalog.sources import FieldInfo, SourceEntry
from netspec.catalog.vision_fields import CLASSES
from netspec.recipe.data import Source
from netspec.runtime.data.samples import Sample, Samples, read_image
from netspec.runtime.errors import RunError


def boxes(corners: Sequence[Sequence[float]], image: Any) -> Any:
    """float32 [number, 4], x₁ y₁ x₂ y₂ in pixels of the PIL image, of the kind that v2 moves with it."""
    from torchvision import tv_tensors

    values = torch.tensor(corners, dtype=torch.float32).reshape(-1, 4)
    return tv_tensors.BoundingBoxes(values, format="XYXY", canvas_size=(image.height, image.width))


def annotate(kind: str, target: Any, image: Any) -> dict[str, Any]:
    """`boxes` and `labels` of what a data set of torchvision gives beside the image; nothing for None."""
    if target is None:
        return {}
    if kind == "WIDERFace":
        corners = [[x, y, x + width, y + height] for x, y, width, height in target["bbox"].tolist()]
        return {"boxes": boxes(corners, image)}
    if kind == "Kitti":
        corners, names = [item["bbox"] for item in target], [item["type"] for item in target]
    else:
        things = target["annotation"].get("object", [])
        sides = ("xmin", "ymin", "xmax", "ymax")
        corners = [[float(thing["bndbox"][side]) for side in sides] for thing in things]
        names = [thing["name"] for thing in things]
    known = CLASSES[kind]
    if strange := next((name for name in names if name not in known), None):
        raise ValueError(f"there is no class {strange!r}; known are {', '.join(known)}")
    labels = torch.tensor([known.index(name) for name in names], dtype=torch.int64)
    return {"boxes": boxes(corners, image), "labels": labels}


@dataclass(slots=True)
class Annotated:
    """Image files, each with boxes (x₁ y₁ x₂ y₂) and as many class numbers."""

    fields: Mapping[str, FieldInfo]
    files: list[Path]
    corners: list[list[list[float]]]
    labels: list[list[int]]
    state: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.files)

    def sample(self, index: int) -> Sample:
        image = read_image(self.files[index])
        labels = torch.tensor(self.labels[index], dtype=torch.int64)
        return {"image": image, "boxes": boxes(self.corners[index], image), "labels": labels}

    def name(self, index: int) -> str:
        return str(self.files[index])

    def column(self, name: str) -> Tensor:
        raise KeyError(name)


def coco(source: Source, reference: Mapping[str, Any] | None) -> Samples:
    """The images that a COCO file lists, by ascending number, as pycocotools orders them.

    Raises RunError NS920 where the file is absent, NS921 where it is not COCO's.
    """
    path, root = Path(source.arguments["annFile"]), Path(source.arguments["root"])
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        names = {int(item["id"]): str(item["name"]) for item in document["categories"]}
        images = {int(item["id"]): str(item["file_name"]) for item in document["images"]}
        found: dict[int, tuple[list[list[float]], list[int]]] = {number: ([], []) for number in sorted(images)}
        for item in document["annotations"]:
            x, y, width, height = item["bbox"]
            corners, labels = found[int(item["image_id"])]
            corners.append([x, y, x + width, y + height])
            labels.append(int(item["category_id"]))
    except FileNotFoundError as error:
        raise RunError("NS920", f"there is no file {path}", help="check `annFile`") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        what = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise RunError("NS921", f"{path} can't be read as COCO's annotations: {what}") from error
    if outside := next(
        (name for name in images.values() if not (root / name).resolve().is_relative_to(root.resolve())), None
    ):
        raise RunError("NS921", f"{path} names the image {outside!r}, which lies outside {root}")
    entry = lookup("CocoDetection", "source")
    assert isinstance(entry, SourceEntry)
    fields = dict(entry.fields(source.arguments) or {})
    classes = tuple(names.get(number, "N/A") for number in range(max(names, default=0) + 1))
    fields["labels"] = replace(fields["labels"], classes=classes, num_classes=len(classes))
    return Annotated(
        fields=fields,
        files=[root / images[number] for number in found],
        corners=[corners for corners, _ in found.values()],
        labels=[labels for _, labels in found.values()],
    )
