"""How the fields of a sample change on their way through the transforms, told without reading data."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import reduce

from netspec.catalog import registry
from netspec.catalog.entry import REQUIRED
from netspec.catalog.image_rules import ImageType
from netspec.catalog.sources import IMAGES, MAPS, PADDED, STILL, FieldInfo
from netspec.catalog.transforms import TransformEntry
from netspec.diagnostics import Diagnostics, Span
from netspec.document import Mapping, Node
from netspec.recipe.data import Transform
from netspec.recipe.reading import show
from netspec.shapes import Problem

Fields = dict[str, FieldInfo]

_SETS_DTYPE = ("ToDtype", "ConvertImageDtype", "ToTensor")
_SMALL = 2
"""A deviation above it is one of bytes, which lie from 0 to 255."""
_UNKNOWN_IMAGE = ImageType(channels=None, height=None, width=None, dtype="any")


@dataclass(slots=True)
class FieldFlow:
    """The fields of one split; `fields` is None where the source can't tell them."""

    diagnostics: Diagnostics
    split: str
    fields: Fields | None
    image: ImageType | None = None
    unscaled: tuple[Span, str] | None = None
    """Where bytes became floats from 0 to 255, and of which dtype."""

    def start(self, *, pil: bool) -> None:
        if self.fields is None:
            self.image = _UNKNOWN_IMAGE
        elif "image" in self.fields:
            info = self.fields["image"]
            if info.shape is None:
                self.image = replace(_UNKNOWN_IMAGE, dtype=info.dtype)
            else:
                *leading, channels, height, width = info.shape
                self.image = ImageType(
                    channels=channels, height=height, width=width, dtype=info.dtype, pil=pil, leading=tuple(leading)
                )

    def apply(self, transform: Transform, node: Node, *, batch: bool = False) -> None:
        """Change the fields as the transform does, and report at its node where it can't."""
        if transform.random and self.split != "train":
            self.diagnostics.warning(
                "NS511",
                f"{transform.type} is random, and an evaluation should measure the same each time",
                node.span,
                help="write the random transforms under `train: {transforms: […]}`, the others under `data`",
            )
        self._apply(transform, node, batch)

    def _apply(self, transform: Transform, node: Node, batch: bool) -> None:
        span = node.span
        entry = registry.lookup(transform.type, "transform")
        assert isinstance(entry, TransformEntry)
        if entry.applies_to == "table":
            if batch:
                self._wrong("NS510", f"{entry.name} works on samples", span, help="put it under `transforms`")
                return
            self._table(transform, entry, span)
            return
        if self.image is None:
            assert self.fields is not None
            names = ", ".join(f"`{name}`" for name in self.fields)
            other = next((name for name, info in self.fields.items() if _looks_like_image(info)), None)
            mend = f"a field of images is called `image`: `fields: {{image: {other}, …}}` of the source names it so"
            message = f"{entry.name} works on images, and the source gives {names}"
            self._wrong("NS510", message, span, help=mend if other is not None else None)
            return
        if entry.batch_only and not batch:
            self._wrong(
                "NS510",
                f"{entry.name} mixes the samples of a batch",
                span,
                help="put it under `batch_transforms`",
            )
            return
        self._warn_of_others(entry, span)
        if entry.nested:
            self._container(transform, node, batch)
            return
        if entry.moves and not self._can_follow(entry, span, batch):
            return
        if batch and self.image.pil:  # a batch is made of tensors
            self.image = replace(self.image, pil=False)
        arguments = {a.name: a.default for a in entry.arguments if a.default is not REQUIRED} | dict(
            transform.arguments
        )
        answer = entry.image(arguments, self.image)
        if isinstance(answer, Problem):
            at = node.items.get(answer.argument or "", node).span if isinstance(node, Mapping) else span
            self._wrong("NS509", f"{entry.name}: {answer.message}", at, help=answer.help)
        else:
            self._follow_values(entry, arguments, self.image, answer, span)
            self.image = answer
        if entry.batch_only:
            self._mix_labels(transform)

    def _warn_of_others(self, entry: TransformEntry, span: Span) -> None:
        """Other fields that hold images stay as they are: transforms know images by the names of their fields."""
        others = [name for name, info in (self.fields or {}).items() if name not in IMAGES and _looks_like_image(info)]
        if others and not entry.batch_only:
            listed = ", ".join(f"`{name}`" for name in others)
            self.diagnostics.warning(
                "NS510",
                f"transforms work on `image` and `image2`: {entry.name} leaves {listed} as it is",
                span,
                help=f"call a second image `image2`: `fields: {{image: …, image2: {others[0]}}}` of the source",
            )

    def _follow_values(
        self, entry: TransformEntry, arguments: dict[str, object], before: ImageType, after: ImageType, span: Span
    ) -> None:
        """Bytes that became floats without a division; a `Normalize` of such values is one."""
        if entry.name == "ToDtype" and before.dtype == "uint8" and after.dtype.startswith(("float", "bfloat")):
            self.unscaled = None if arguments.get("scale") else (span, after.dtype)
        elif entry.name == "Normalize" and max(arguments["std"], default=0) > _SMALL:  # type: ignore[call-overload]
            self.unscaled = None

    def _can_follow(self, entry: TransformEntry, span: Span, batch: bool) -> bool:
        """Whether all that belongs to places in the image moves with it."""
        for name in self.fields or {}:
            if name in STILL:
                self._wrong(
                    "NS510",
                    f"{entry.name} moves the pixels of the image, and `{name}`, which belongs to them, stays as it is",
                    span,
                    help="transforms of colours and dtypes leave every pixel in its place",
                )
                return False
            if batch and name in (*MAPS, "boxes"):
                self._wrong(
                    "NS510",
                    f"{entry.name} would move the images of a batch, and not its `{name}`",
                    span,
                    help="put it under `transforms`, where both move",
                )
                return False
        return True

    def _container(self, transform: Transform, node: Node, batch: bool) -> None:
        """What `of` does in order; where it may happen or not, only what is the same either way stays known."""
        before = self.image
        assert before is not None
        possible = [before] if transform.type != "RandomChoice" else []
        for inner in transform.of:
            if transform.type == "RandomChoice":
                self.image = before
            self._apply(inner, node, batch)
            possible.append(self.image or before)
        if transform.type != "Compose":
            self.image = reduce(_common, possible or [before])

    def wants_float(self, transforms: Iterable[Transform]) -> bool:
        """Whether nothing decides what the model gets: then a PIL image or bytes become floats from 0 to 1."""
        if self.image is None or self.image.dtype.startswith("float") or any(map(_sets_dtype, transforms)):
            return False
        self.image = replace(self.image, pil=False, dtype="float32")
        return True

    def finish(self) -> Fields | None:
        """The fields behind all transforms; warns of images whose values stay from 0 to 255."""
        if self.unscaled is not None:
            span, dtype = self.unscaled
            self.diagnostics.warning(
                "NS513",
                f"ToDtype without `scale: true` leaves the values from 0 to 255, as {dtype}",
                span,
                help=f"`{{type: ToDtype, dtype: {dtype}, scale: true}}` gives values from 0 to 1",
            )
        if self.fields is None or self.image is None:
            return self.fields
        image, fields = self.image, self.fields
        known = fields["image"].shape is not None or (image.channels, image.height, image.width) != (None, None, None)
        shape = (*image.leading, image.channels, image.height, image.width) if known else None
        images: Fields = {n: replace(fields[n], shape=shape, dtype=image.dtype) for n in IMAGES if n in fields}
        # What belongs to each pixel goes the way of the image; where it can't be followed, its size is not told.
        maps = {
            name: replace(info, shape=None if image.leading else (image.height, image.width))
            for name, info in fields.items()
            if name in MAPS and info.shape is not None
        }
        return {**fields, **images, **maps}

    def _table(self, transform: Transform, entry: TransformEntry, span: Span) -> None:
        name = str(transform.arguments.get("field", "features"))
        if self.fields is None:
            return
        info = self.fields.get(name)
        if info is None:
            names = ", ".join(f"`{field}`" for field in self.fields)
            self._wrong("NS505", f"{entry.name} has no field {show(name)} to work on; the source gives {names}", span)
        elif not info.dtype.startswith("float") and info.dtype != "any":
            self._wrong("NS510", f"{entry.name} works on floats, and `{name}` is {info.dtype}", span)

    def _mix_labels(self, transform: Transform) -> None:
        label = (self.fields or {}).get("label")
        if label is not None and self.fields is not None:
            count = transform.arguments.get("num_classes") or label.num_classes
            self.fields["label"] = replace(label, shape=(count,), dtype="float32")

    def _wrong(self, code: str, message: str, span: Span, *, help: str | None = None) -> None:
        self.diagnostics.error(code, message, span, help=help)


def _common(left: ImageType, right: ImageType) -> ImageType:
    """What two possible types of an image have in common."""
    return ImageType(
        channels=left.channels if left.channels == right.channels else None,
        height=left.height if left.height == right.height else None,
        width=left.width if left.width == right.width else None,
        dtype=left.dtype if left.dtype == right.dtype else "any",
        pil=left.pil and right.pil,
        leading=left.leading,
    )


def _looks_like_image(info: FieldInfo) -> bool:
    """Whether a field that is no known companion of an image has the shape of one, [channels, height, width]."""
    known = info.name in (*MAPS, *STILL, *PADDED)
    return not known and info.shape is not None and len(info.shape) == 3 and info.shape[0] in (1, 3, 4)


def _sets_dtype(transform: Transform) -> bool:
    return transform.type in _SETS_DTYPE or any(_sets_dtype(inner) for inner in transform.of)
