"""The transforms that a spec may name: torchvision's v2, by name and with its arguments, and `Standardize` for tables.

Three facts beyond the signature steer how data is kept in memory. A transform without random draws may run once,
before the data is kept; one that is `batchable` gives a batch what it gives each of its images; a `light` one is a few
lines of ours with v2's own values, so that it does not cost the import of torchvision.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from netspec.catalog import image_rules as rules
from netspec.catalog.entry import REQUIRED, Argument, Entry
from netspec.catalog.image_rules import ImageRule


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformEntry(Entry):
    applies_to: Literal["image", "table"] = "image"
    random: bool = True
    batchable: bool = False
    light: bool = False
    batch_only: bool = False
    """It mixes the samples of a batch, and so stands under `batch_transforms`."""
    nested: bool = False
    """Its argument `transforms` is a list of transforms."""
    image: ImageRule = rules.same
    moves: bool = False
    """It takes pixels to other places."""


_INTERPOLATIONS: Final = ("nearest", "nearest-exact", "bilinear", "bicubic", "box", "hamming", "lanczos")
_PADDING_MODES: Final = ("constant", "edge", "reflect", "symmetric")
_NUMBERS: Final = "float|floats"


def _argument(name: str, kind: str, default: Any = REQUIRED, **more: Any) -> Argument:
    return Argument(name=name, kind=kind, default=default, **more)


def _interpolation(default: str) -> Argument:
    return _argument(
        "interpolation", "choice", default, choices=_INTERPOLATIONS, doc="How pixels between pixels are made."
    )


_P: Final = _argument("p", "float", 0.5, minimum=0.0, maximum=1.0, doc="How probably it is applied.")
_FILL: Final = _argument("fill", f"{_NUMBERS}?", 0, doc="The value of pixels from outside the image.")
_NO_FILL: Final = _argument("fill", f"{_NUMBERS}?", None, doc="The value of pixels from outside the image.")
_SIZE: Final = _argument("size", "int|ints", minimum=1, doc="[height, width], or one number for a square.")
_ANTIALIAS: Final = _argument("antialias", "bool?", True, doc="Smooth while shrinking a tensor; PIL images always are.")
_PADDING_MODE: Final = _argument("padding_mode", "choice", "constant", choices=_PADDING_MODES)
_NESTED: Final = _argument("transforms", "any", doc="The transforms, written as in `transforms`.")
_BINS: Final = _argument("num_magnitude_bins", "int", 31, minimum=1)
_CLAMPING: Final = ("soft", "hard")
_LABELS: Final = _argument("labels_getter", "str?", "default", doc="The field that holds the labels.")


def _transform(name: str, doc: str, *arguments: Argument, **more: Any) -> TransformEntry:
    return TransformEntry(
        name=name,
        category="transform",
        target=f"torchvision.transforms.v2.{name}",
        arguments=arguments,
        inputs=(),
        doc=doc,
        **more,
    )


def _fixed(name: str, doc: str, *arguments: Argument, **more: Any) -> TransformEntry:
    return _transform(name, doc, *arguments, random=False, **more)


def _types() -> Iterator[TransformEntry]:
    yield _fixed(
        "ToImage", "Makes a PIL image a uint8 tensor [C, H, W].", light=True, batchable=True, image=rules.to_image
    )
    yield _fixed(
        "ToDtype",
        "Changes the dtype of images, with `scale` also their range: uint8 0…255 becomes float 0…1.",
        _argument("dtype", "dtype", doc="torch's name of the dtype."),
        _argument("scale", "bool", False, doc="Scale from the range of the one dtype to that of the other."),
        light=True,
        batchable=True,
        image=rules.to_dtype,
    )
    yield _fixed(
        "Normalize",
        "(image - mean) / std, channel by channel.",
        _argument("mean", "floats", doc="One value a channel."),
        _argument("std", "floats", doc="One value a channel."),
        _argument("inplace", "bool", False),
        light=True,
        batchable=True,
        image=rules.normalize,
    )
    yield _fixed(
        "ToTensor",
        "`ToImage` and `ToDtype` to float32 in 0…1; torchvision deprecates the name.",
        light=True,
        batchable=True,
        image=rules.to_tensor,
    )
    yield _fixed("PILToTensor", "Makes a PIL image a uint8 tensor [C, H, W].", image=rules.to_image)
    yield _fixed(
        "ConvertImageDtype",
        "`ToDtype` with `scale: true`, under its older name.",
        _argument("dtype", "dtype", "float32"),
        batchable=True,
        image=rules.to_dtype,
    )
    yield _fixed("ToPILImage", "Makes a tensor a PIL image.", _argument("mode", "str?", None), image=rules.to_pil)
    yield _fixed("ToPureTensor", "Makes tv_tensors plain tensors.", batchable=True)
    yield _fixed("Identity", "Changes nothing.", batchable=True)


def _sizes() -> Iterator[TransformEntry]:
    limit = _argument("max_size", "int?", None, minimum=1, doc="The most that the longer edge may come to.")
    shorter = _argument(
        "size",
        "int|ints?",
        minimum=1,
        doc="[height, width], or one number for the shorter edge, which keeps the ratio.",
    )
    yield _fixed(
        "Resize",
        "Resizes.",
        shorter,
        _interpolation("bilinear"),
        limit,
        _ANTIALIAS,
        batchable=True,
        image=rules.resize,
    )
    yield _fixed(
        "CenterCrop", "Cuts the middle; pads with 0 where it is smaller.", _SIZE, batchable=True, image=rules.crop
    )
    yield _transform(
        "RandomCrop",
        "Cuts a random place.",
        _SIZE,
        _argument("padding", "int|ints?", None, minimum=0, doc="Pixels added around the image first."),
        _argument("pad_if_needed", "bool", False),
        _FILL,
        _PADDING_MODE,
        image=rules.random_crop,
    )
    yield _transform(
        "RandomResizedCrop",
        "Cuts a random area of a random shape and resizes it.",
        _SIZE,
        _argument("scale", "float2", (0.08, 1.0), minimum=0.0, doc="Least and greatest share of the area."),
        _argument("ratio", "float2", (0.75, 1.3333333333333333), minimum=0.0, doc="Least and greatest width / height."),
        _interpolation("bilinear"),
        _ANTIALIAS,
        image=rules.crop,
    )
    yield _fixed("FiveCrop", "The four corners and the middle: [5, C, H, W].", _SIZE, image=rules.many_crops(5))
    yield _fixed(
        "TenCrop",
        "`FiveCrop` and its mirror images: [10, C, H, W].",
        _SIZE,
        _argument("vertical_flip", "bool", False),
        image=rules.many_crops(10),
    )
    yield _fixed(
        "Pad",
        "Adds pixels around the image.",
        _argument("padding", "int|ints", minimum=0, doc="One number, [left and right, top and bottom], or four."),
        _FILL,
        _PADDING_MODE,
        batchable=True,
        image=rules.pad,
    )
    yield _transform(
        "RandomResize",
        "Resizes the shorter edge to a random length.",
        _argument("min_size", "int", minimum=1),
        _argument("max_size", "int", minimum=1),
        _interpolation("bilinear"),
        _ANTIALIAS,
        image=rules.unknown_size,
    )
    yield _transform(
        "RandomShortestSize",
        "Resizes the shorter edge to one of some lengths.",
        _argument("min_size", "int|ints", minimum=1),
        limit,
        _interpolation("bilinear"),
        _ANTIALIAS,
        image=rules.unknown_size,
    )
    yield _transform(
        "ScaleJitter",
        "Resizes to a random share of a target size.",
        _argument("target_size", "ints", minimum=1),
        _argument("scale_range", "float2", (0.1, 2.0), minimum=0.0),
        _interpolation("bilinear"),
        _ANTIALIAS,
        image=rules.unknown_size,
    )
    yield _transform(
        "RandomZoomOut",
        "Puts the image on a random larger canvas.",
        _FILL,
        _argument("side_range", "float2", (1.0, 4.0), minimum=1.0),
        _P,
        image=rules.unknown_size,
    )
    yield _transform(
        "RandomIoUCrop",
        "Cuts a random area that keeps enough of some bounding box.",
        _argument("min_scale", "float", 0.3),
        _argument("max_scale", "float", 1.0),
        _argument("min_aspect_ratio", "float", 0.5),
        _argument("max_aspect_ratio", "float", 2.0),
        _argument("sampler_options", "floats?", None),
        _argument("trials", "int", 40, minimum=1),
        image=rules.unknown_size,
    )


def _geometry() -> Iterator[TransformEntry]:
    yield _transform("RandomHorizontalFlip", "Mirrors left and right.", _P)
    yield _transform("RandomVerticalFlip", "Mirrors top and bottom.", _P)
    degrees = _argument("degrees", _NUMBERS, doc="[least, greatest], or one number for -degrees to degrees.")
    center = _argument("center", "floats?", None, doc="[x, y] that stays in place; the middle if left out.")
    yield _transform(
        "RandomRotation",
        "Rotates by a random angle.",
        degrees,
        _interpolation("nearest"),
        _argument("expand", "bool", False, doc="Grow the image so that all of it stays visible."),
        center,
        _FILL,
        image=rules.rotation,
    )
    yield _transform(
        "RandomAffine",
        "Rotates, shifts, scales and shears.",
        degrees,
        _argument(
            "translate", "float2?", None, minimum=0.0, maximum=1.0, doc="Greatest shift, as shares of width, height."
        ),
        _argument("scale", "float2?", None, minimum=0.0, doc="Least and greatest factor."),
        _argument("shear", f"{_NUMBERS}?", None),
        _interpolation("nearest"),
        _FILL,
        center,
    )
    yield _transform(
        "RandomPerspective",
        "Views the image from a random side.",
        _argument("distortion_scale", "float", 0.5, minimum=0.0, maximum=1.0),
        _P,
        _interpolation("bilinear"),
        _FILL,
    )
    yield _transform(
        "ElasticTransform",
        "Shifts pixels by a smooth random field.",
        _argument("alpha", _NUMBERS, 50.0),
        _argument("sigma", _NUMBERS, 5.0),
        _interpolation("bilinear"),
        _FILL,
    )


def _colours() -> Iterator[TransformEntry]:
    yield _fixed(
        "Grayscale",
        "Makes the image grey.",
        _argument("num_output_channels", "int", 1),
        batchable=True,
        image=rules.grayscale,
    )
    yield _fixed("RGB", "Makes a grey image one of three channels.", batchable=True, image=rules.rgb)
    yield _transform(
        "ColorJitter",
        "Changes brightness, contrast, saturation and hue at random.",
        *(_argument(name, f"{_NUMBERS}?", None) for name in ("brightness", "contrast", "saturation", "hue")),
    )
    yield _transform(
        "RandomPhotometricDistort",
        "Changes colours as the SSD paper does.",
        _argument("brightness", "float2", (0.875, 1.125)),
        _argument("contrast", "float2", (0.5, 1.5)),
        _argument("saturation", "float2", (0.5, 1.5)),
        _argument("hue", "float2", (-0.05, 0.05)),
        _P,
    )
    yield _transform(
        "RandomGrayscale",
        "Makes the image grey, with its channels.",
        _argument("p", "float", 0.1, minimum=0.0, maximum=1.0),
    )
    yield _transform("RandomChannelPermutation", "Shuffles the channels.")
    yield _transform("RandomInvert", "Inverts the colours.", _P)
    yield _transform("RandomAutocontrast", "Stretches the values over the whole range.", _P)
    yield _transform("RandomEqualize", "Equalises the histogram.", _P)
    yield _transform(
        "RandomPosterize", "Keeps fewer bits a channel.", _argument("bits", "int", minimum=0, maximum=8), _P
    )
    yield _transform("RandomSolarize", "Inverts values above a threshold.", _argument("threshold", "float"), _P)
    yield _transform(
        "RandomAdjustSharpness", "Blurs or sharpens.", _argument("sharpness_factor", "float", minimum=0.0), _P
    )
    yield _transform(
        "GaussianBlur",
        "Blurs by a random width.",
        _argument("kernel_size", "int|ints", minimum=1),
        _argument("sigma", _NUMBERS, (0.1, 2.0)),
    )
    yield _transform(
        "GaussianNoise",
        "Adds noise to a float image.",
        _argument("mean", "float", 0.0),
        _argument("sigma", "float", 0.1, minimum=0.0),
        _argument("clip", "bool", True, doc="Clip to 0…1 afterwards."),
        image=rules.tensor_only,
    )
    yield _transform("JPEG", "Compresses as JPEG does.", _argument("quality", "int|ints", minimum=1, maximum=100))
    yield _transform(
        "RandomErasing",
        "Erases a random area of a tensor.",
        _P,
        _argument("scale", "float2", (0.02, 0.33), minimum=0.0),
        _argument("ratio", "float2", (0.3, 3.3), minimum=0.0),
        _argument("value", f"{_NUMBERS}|str", 0.0),
        _argument("inplace", "bool", False),
        image=rules.tensor_only,
    )
    yield _fixed(
        "LinearTransformation",
        "Multiplies the flattened float image by a matrix (whitening).",
        _argument("transformation_matrix", "tensor"),
        _argument("mean_vector", "tensor"),
        image=rules.float_only,
    )


def _policies() -> Iterator[TransformEntry]:
    yield _transform(
        "AutoAugment",
        "A policy of operations learnt on a data set.",
        _argument("policy", "choice", "imagenet", choices=("imagenet", "cifar10", "svhn")),
        _interpolation("nearest"),
        _NO_FILL,
    )
    yield _transform(
        "RandAugment",
        "Some random operations of one strength.",
        _argument("num_ops", "int", 2, minimum=0),
        _argument("magnitude", "int", 9, minimum=0),
        _BINS,
        _interpolation("nearest"),
        _NO_FILL,
    )
    yield _transform(
        "TrivialAugmentWide", "One random operation of random strength.", _BINS, _interpolation("nearest"), _NO_FILL
    )
    yield _transform(
        "AugMix",
        "Mixes chains of random operations.",
        _argument("severity", "int", 3, minimum=1, maximum=10),
        _argument("mixture_width", "int", 3, minimum=1),
        _argument("chain_depth", "int", -1),
        _argument("alpha", "float", 1.0),
        _argument("all_ops", "bool", True),
        _interpolation("bilinear"),
        _NO_FILL,
    )
    for name, rule, doc in (
        ("MixUp", rules.float_only, "Blends pairs of samples"),
        ("CutMix", rules.tensor_only, "Pastes a patch of one sample into another"),
    ):
        yield _transform(
            name,
            f"{doc}, and their labels, which become class shares.",
            _argument("alpha", "float", 1.0, minimum=0.0),
            _argument("num_classes", "int?", None, minimum=2, doc="Left out: as many as the data has."),
            _LABELS,
            batch_only=True,
            image=rule,
        )


def _containers() -> Iterator[TransformEntry]:
    yield _fixed("Compose", "One after the other.", _NESTED, nested=True)
    yield _transform("RandomApply", "All of them, or none.", _NESTED, _P, nested=True)
    yield _transform("RandomChoice", "One of them.", _NESTED, _argument("p", "floats?", None), nested=True)
    yield _transform("RandomOrder", "All of them, in a random order.", _NESTED, nested=True)


def _boxes() -> Iterator[TransformEntry]:
    yield _fixed(
        "ClampBoundingBoxes",
        "Keeps boxes inside the image.",
        _argument("clamping_mode", "str?", "auto"),
    )
    yield _fixed("ClampKeyPoints", "Keeps points inside the image.")
    yield _fixed(
        "ConvertBoundingBoxFormat",
        "Writes boxes another way.",
        _argument("format", "choice", choices=("XYXY", "XYWH", "CXCYWH", "XYWHR", "CXCYWHR", "XYXYXYXY")),
    )
    yield _fixed(
        "SetClampingMode", "How later transforms clamp boxes.", _argument("clamping_mode", "choice?", choices=_CLAMPING)
    )
    yield _fixed(
        "SanitizeBoundingBoxes",
        "Drops degenerate boxes, with their labels.",
        _argument("min_size", "float", 1.0),
        _argument("min_area", "float", 1.0),
        _LABELS,
    )
    yield _fixed("SanitizeKeyPoints", "Drops points outside the image.", _argument("labels_getter", "str?", None))
    yield _fixed(
        "UniformTemporalSubsample",
        "Evenly spaced frames of a video.",
        _argument("num_samples", "int", minimum=1),
        image=rules.frames,
    )


def _tables() -> Iterator[TransformEntry]:
    yield TransformEntry(
        name="Standardize",
        category="transform",
        target="netspec.runtime.data.tables.Standardize",
        arguments=(_argument("field", "str", "features", doc="The float field whose columns are standardised."),),
        inputs=(),
        doc="(x - mean) / std column by column, with mean and std of the training split; a constant column becomes 0.",
        applies_to="table",
        random=False,
        batchable=True,
        light=True,
    )


ENTRIES: Final[tuple[TransformEntry, ...]] = (
    *_types(),
    *(replace(entry, moves=True) for entry in (*_sizes(), *_geometry())),
    *_colours(),
    *_policies(),
    *_containers(),
    *_boxes(),
    *_tables(),
)
