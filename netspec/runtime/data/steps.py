"""Transforms as functions on a sample: a few light ones of our own, the rest torchvision's v2.

The light ones do on [C, H, W] or [N, C, H, W] what v2 does, operation by operation, so that training on small images
does not wait for the import of torchvision.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from netspec.catalog.sources import IMAGES
from netspec.recipe.data import Transform
from netspec.runtime.data.samples import Sample
from netspec.runtime.data.tables import Standardize
from netspec.runtime.errors import RunError

Step = Callable[[Sample], Sample]


def build_step(transform: Transform, fitted: Mapping[str, Standardize], num_classes: int | None) -> Step:
    """The function for one transform. `fitted` holds the statistics of `Standardize` by field."""
    arguments = transform.arguments
    match transform.type:
        case "Standardize":
            return fitted[str(arguments.get("field", "features"))]
        case "ToImage":
            return _OnImage(image_to_tensor)
        case "ToTensor":
            return _OnImage(_to_tensor)
        case "ToDtype":
            dtype = getattr(torch, arguments["dtype"])
            return _OnImage(_ToDtype(dtype, scale=arguments.get("scale", False)))
        case "Normalize":
            return _OnImage(_Normalize(arguments["mean"], arguments["std"]))
        case _:
            return _V2(transform, num_classes)


class _OnImage:
    """Applies a function to the images of a sample, where it has any."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.function = function

    def __call__(self, sample: Sample) -> Sample:
        return {**sample, **{name: self._on(sample[name]) for name in IMAGES if name in sample}}

    def _on(self, images: Any) -> Any:
        if isinstance(images, tuple | list):  # FiveCrop and TenCrop
            return [self.function(image) for image in images]
        return self.function(images)


def image_to_tensor(image: Any) -> Tensor:
    """uint8 [C, H, W] of a PIL image (float32 or int32 for its modes of such pixels); a tensor as it is."""
    if isinstance(image, Tensor):
        return image.as_subclass(Tensor)
    import numpy as np

    pixels = np.array(image, copy=True)
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def _to_tensor(image: Any) -> Tensor:
    """torchvision's `ToTensor`: floats stay, bytes are divided by 255."""
    tensor = image_to_tensor(image)
    if tensor.is_floating_point():
        return tensor.to(torch.float32)
    return tensor.to(torch.float32).div_(255 if tensor.dtype == torch.uint8 else 1)


class _ToDtype:
    """v2's `to_dtype` for images."""

    def __init__(self, dtype: torch.dtype, *, scale: bool) -> None:
        self.dtype = dtype
        self.scale = scale

    def __call__(self, value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value  # a PIL image, which v2 leaves alone too
        image = image_to_tensor(value)
        if image.dtype == self.dtype:
            return image
        if not self.scale or (image.is_floating_point() and self.dtype.is_floating_point):
            return image.to(self.dtype)
        if not image.is_floating_point() and self.dtype.is_floating_point:
            greatest = 1 if image.dtype == torch.bool else torch.iinfo(image.dtype).max
            return image.to(self.dtype).mul_(1.0 / greatest)
        functional = import_module("torchvision.transforms.v2.functional")
        return functional.to_dtype_image(image, self.dtype, scale=True)


class _Normalize:
    """v2's `normalize` for float images."""

    def __init__(self, mean: list[float], std: list[float]) -> None:
        self.mean = mean
        self.std = std
        self._constants: dict[tuple[torch.dtype, torch.device], tuple[Tensor, Tensor]] = {}

    def __call__(self, image: Any) -> Tensor:
        if not isinstance(image, Tensor) or not image.is_floating_point():
            kind = str(image.dtype) if isinstance(image, Tensor) else "a PIL image"
            raise RunError(
                "NS922",
                f"Normalize works on float images, and got {kind}",
                help="put `ToImage, {type: ToDtype, dtype: float32, scale: true}` before it",
            )
        key = (image.dtype, image.device)
        if key not in self._constants:  # once: making them for each batch would wait for the device each time
            self._constants[key] = tuple(  # type: ignore[assignment]
                torch.tensor(values, dtype=image.dtype, device=image.device).view(-1, 1, 1)
                for values in (self.mean, self.std)
            )
        mean, std = self._constants[key]
        return image.as_subclass(Tensor).sub(mean).div_(std)


class _V2:
    """A transform of torchvision's, on the whole sample: images, boxes and masks change, other tensors pass."""

    def __init__(self, transform: Transform, num_classes: int | None) -> None:
        self.type = transform.type
        kinds = import_module("torchvision.tv_tensors")
        self.image_type = kinds.Video if transform.type == "UniformTemporalSubsample" else kinds.Image
        self.call = make_v2(transform, num_classes)

    def __call__(self, sample: Sample) -> Sample:
        plain = [name for name in IMAGES if type(sample.get(name)) is Tensor]
        if plain:
            sample = {**sample, **{name: self.image_type(sample[name]) for name in plain}}
        try:
            changed: Sample = self.call(sample)
        except (ValueError, TypeError, RuntimeError, NotImplementedError) as error:
            raise RunError("NS922", f"the transform {self.type} fails: {error}") from error
        return changed


def make_v2(transform: Transform, num_classes: int | None) -> Any:
    """torchvision's own object. Raises RunError NS922 where it refuses the arguments."""
    v2 = import_module("torchvision.transforms.v2")
    arguments = dict(transform.arguments)
    for name in ("transformation_matrix", "mean_vector"):
        if name in arguments:
            arguments[name] = torch.tensor(arguments[name], dtype=torch.float32)
    if isinstance(arguments.get("dtype"), str):
        arguments["dtype"] = getattr(torch, arguments["dtype"])
    if isinstance(arguments.get("interpolation"), str):  # older versions take no strings
        arguments["interpolation"] = v2.InterpolationMode(arguments["interpolation"])
    if "policy" in arguments:
        arguments["policy"] = v2.AutoAugmentPolicy(arguments["policy"])
    if transform.type in ("MixUp", "CutMix") and arguments.get("num_classes") is None:
        arguments["num_classes"] = num_classes
    if transform.of:
        arguments["transforms"] = [make_v2(inner, num_classes) for inner in transform.of]
    module, _, name = transform.target.rpartition(".")
    try:
        return getattr(import_module(module), name)(**arguments)
    except (ValueError, TypeError, RuntimeError) as error:
        raise RunError("NS922", f"the transform {transform.type} refuses its arguments: {error}") from error


def plain_tensor(name: str, value: Any) -> Tensor:
    """What stands in a batch: PIL images as tensors, crops stacked, tv_tensors as plain ones."""
    if isinstance(value, tuple | list):
        return torch.stack([plain_tensor(name, item) for item in value])
    if isinstance(value, Tensor):
        return value.as_subclass(Tensor)
    return image_to_tensor(value)
