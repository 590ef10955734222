"""What a transform does to an image's channels, size and dtype, told without an image.

A rule takes the transform's arguments and an `ImageType` and answers with another, or with a `Problem` in words. Sizes
and channels that are not known before the data is read are None, and so is what follows from them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from netspec.shapes import Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageType:
    """[*leading, channels, height, width]; `dtype` "any" where unknown; `pil` before it has become a tensor."""

    channels: int | None
    height: int | None
    width: int | None
    dtype: str
    pil: bool = False
    leading: tuple[int | None, ...] = ()


Answer = ImageType | Problem
ImageRule = Callable[[Mapping[str, Any], ImageType], Answer]


def same(arguments: Mapping[str, Any], image: ImageType) -> Answer:
    return image


def unknown(arguments: Mapping[str, Any], image: ImageType) -> Answer:
    """A transform of which nothing is said: a plugin's."""
    return ImageType(channels=None, height=None, width=None, dtype="any", pil=image.pil, leading=image.leading)


def frames(arguments: Mapping[str, Any], image: ImageType) -> Answer:
    """So many of the frames of a video, [..., frames, channels, height, width]."""
    if not image.leading:
        return Problem("works on frames, and an image is one", help="MovingMNIST has frames")
    return replace(image, leading=(*image.leading[:-1], arguments["num_samples"]))


def unknown_size(arguments: Mapping[str, Any], image: ImageType) -> Answer:
    """A random or data-dependent size."""
    return replace(image, height=None, width=None)


def _pair(value: Any) -> tuple[int, int]:
    if isinstance(value, int):
        return value, value
    return (value[0], value[0]) if len(value) == 1 else (value[0], value[1])


def crop(arguments: Mapping[str, Any], image: ImageType) -> Answer:
    """CenterCrop and RandomResizedCrop: the size asked for, whatever comes in."""
    height, width = _pair(arguments["size"])
    return replace(image, height=height, width=width)


def random_crop(arguments: Mapping[str, Any], image: ImageType) -> Answer:
    height, width = _pair(arguments["size"])
    padded = pad({"padding": arguments["padding"] or 0}, image)
    assert isinstance(padded, ImageType)
    small = [
        f"{have} {side}"
        for have, need, side in ((padded.height, height, "high"), (padded.width, width, "wide"))
        if have is not None and have < need
    ]
    if small and not arguments["pad_if_needed"]:
        return Problem(
            f"a crop of {height} x {width} does not fit an image that is {' and '.join(small)}",
            help="a smaller `size`, more `padding`, or `pad_if_needed: true`",
            argument="size",
        )
    return replace(image, height=height, width=width)


def many_crops(count: int) -> ImageRule:
    def rule(arguments: Mapping[str, Any], image: ImageType) -> Answer:
        height, width = _pair(arguments["size"])
        return replace(image, height=height, width=width, leading=(count, *image.leading))

    return rule


def resize(arguments: Mapping[str, Any], image: ImageType) -> Answer:
    size, limit = arguments["size"], arguments["max_size"]
    if size is None and limit is None:
        return Problem("`size: null` needs `max_size`", argument="size")
    if isinstance(size, list | tuple) and len(size) == 2:
        return replace(image, height=size[0], width=size[1])
    if image.height is None or image.width is None:
        return replace(image, height=None, width=None)
    short, long = sorted((image.height, image.width))
    if size is None:
        new_short, new_long = int(limit * short / long), limit
    else:
        new_short = size if isinstance(size, int) else size[0]
        new_long = int(new_short * long / short)
        if limit is not None and limit <= new_short:
            return Problem(f"`max_size` {limit} has to be greater than `size` {new_short}", argument="max_size")
        if limit is not None and new_long > limit:
            new_short, new_long = int(limit * new_short / new_long), limit
    tall = image.height >= image.width
    return replace(image, height=new_long if tall else new_short, width=new_short if tall else new_long)


def pad(arguments: Mapping[str, Any], image: ImageType) -> Answer:
    padding = arguments["padding"]
    if isinstance(padding, int):
        left = top = right = bottom = padding
    elif len(padding) in (1, 2):
        left = right = padding[0]
        top = bottom = padding[-1]
    elif len(padding) == 4:
        left, top, right, bottom = padding
    else:
        return Problem(
            f"`padding` takes one number, 2 or 4, and got {len(padding)}",
            help="[left and right, top and bottom] or [left, top, right, bottom]",
            argument="padding",
        )
    return replace(
        image,
        height=None if image.height is None else image.height + top + bottom,
        width=None if image.width is None else image.width + left + right,
    )


def rotation(arguments: Mapping[str, Any], image: ImageType) -> Answer:
    return unknown_size(arguments, image) if arguments["expand"] else image


def grayscale(arguments: Mapping[str, Any], image: ImageType) -> Answer:
    if arguments["num_output_channels"] not in (1, 3):
        return Problem("`num_output_channels` is 1 or 3", argument="num_output_channels")
    return replace(image, channels=arguments["num_output_channels"])


def rgb(arguments: Mapping[str, Any], image: ImageType) -> Answer:
    return replace(image, channels=3)


def to_image(arguments: Mapping[str, Any], image: ImageType) -> Answer:
    return replace(image, pil=False)


def to_tensor(arguments: Mapping[str, Any], image: ImageType) -> Answer:
    return replace(image, pil=False, dtype="float32")


def to_pil(arguments: Mapping[str, Any], image: ImageType) -> Answer:
    return replace(image, pil=True, dtype="uint8")


def to_dtype(arguments: Mapping[str, Any], image: ImageType) -> Answer:
    # On a PIL image v2 lets ToDtype pass silently; what was asked for would not happen.
    if image.pil:
        return Problem(
            "the image is still a PIL image here, on which a dtype has no effect",
            help="put `ToImage` before it",
        )
    return replace(image, dtype=arguments["dtype"])


def normalize(arguments: Mapping[str, Any], image: ImageType) -> Answer:
    if image.pil or image.dtype not in ("any", "float16", "bfloat16", "float32", "float64"):
        kind = "a PIL image" if image.pil else image.dtype
        first = "ToImage, " if image.pil else ""
        return Problem(
            f"the image is {kind} here, and only floats can be normalised",
            help=f"put `{first}{{type: ToDtype, dtype: float32, scale: true}}` before it",
        )
    for name in ("mean", "std"):
        count = len(arguments[name])
        if image.channels is not None and count not in (1, image.channels):
            return Problem(
                f"`{name}` has {count} values and the image {image.channels} channel{'s' * (image.channels != 1)}",
                help="one value a channel, or a single one for all",
                argument=name,
            )
    if 0 in arguments["std"]:
        return Problem("`std` holds a 0, by which nothing can be divided", argument="std")
    return image


def float_only(arguments: Mapping[str, Any], image: ImageType) -> Answer:
    if image.pil or image.dtype == "uint8":
        kind = "a PIL image" if image.pil else image.dtype
        return Problem(
            f"the image is {kind} here, and this takes floats",
            help="put `ToImage, {type: ToDtype, dtype: float32, scale: true}` before it",
        )
    return image


def tensor_only(arguments: Mapping[str, Any], image: ImageType) -> Answer:
    if image.pil:
        return Problem("the image is still a PIL image here", help="put `ToImage` before it")
    return image
