"""Boxes and regions of images, as torchvision.ops has them: overlaps, losses, and values pooled out of regions."""

from __future__ import annotations

from typing import Any

from netspec.catalog.entry import REQUIRED, Argument, Entry, Inferred, Port, Role, Rule
from netspec.catalog.rules import (
    FLOATING,
    Arguments,
    Inputs,
    one,
    refuse,
    rule,
    spread,
    tensor,
)
from netspec.shapes import Dim, TensorType

_EXACT = ("float32", "float64")
_PAIR = ("boxes1", "boxes2")


def _boxes(name: str, inputs: Inputs, port: str, sides: int = 4) -> TensorType:
    """Boxes [..., 4]; refuses what torchvision computes with and nobody means: integers, half precision."""
    x = tensor(inputs, name, port)
    if not x.shape or x.shape[-1] != sides:
        refuse(f"{name} takes boxes [..., {sides}], and got {x}", ports=(port,), code="NS406")
    if x.dtype not in _EXACT:
        refuse(f"{name} takes boxes of float32 or float64, and got {x.dtype}", ports=(port,), code="NS406")
    return x


def _two(name: str, inputs: Inputs) -> tuple[TensorType, TensorType]:
    a, b = (_boxes(name, inputs, port) for port in _PAIR)
    if a.dtype != b.dtype:
        refuse(f"{name} takes boxes of one dtype, and got {a.dtype} and {b.dtype}", ports=_PAIR, code="NS406")
    return a, b


def _overlap(name: str) -> Rule:
    @rule
    def infer(arguments: Arguments, inputs: Inputs) -> Inferred:
        a, b = _two(name, inputs)
        for port, x in zip(_PAIR, (a, b), strict=True):
            if len(x.shape) != 2:
                refuse(f"{name} takes boxes [n, 4], and got {x}", ports=(port,), code="NS406")
        return one((a.shape[0], b.shape[0]), a.dtype)

    return infer


def _loss(name: str) -> Rule:
    @rule
    def infer(arguments: Arguments, inputs: Inputs) -> Inferred:
        a, b = _two(name, inputs)
        if a.shape != b.shape:
            refuse(f"{name} takes pairs of boxes, and got {a} and {b}", ports=_PAIR, code="NS406")
        return one(a.shape[:-1] if arguments["reduction"] == "none" else (), a.dtype)

    return infer


@rule
def _area(arguments: Arguments, inputs: Inputs) -> Inferred:
    x = _boxes("box_area", inputs, "boxes")
    return one(x.shape[:-1], x.dtype)


@rule
def _convert(arguments: Arguments, inputs: Inputs) -> Inferred:
    x = _boxes("box_convert", inputs, "boxes")
    return one(x.shape, x.dtype)


@rule
def _clip(arguments: Arguments, inputs: Inputs) -> Inferred:
    x = _boxes("clip_boxes_to_image", inputs, "boxes")
    return one(x.shape, x.dtype)


@rule
def _focal(arguments: Arguments, inputs: Inputs) -> Inferred:
    name, ports = "sigmoid_focal_loss", ("inputs", "targets")
    x, y = (tensor(inputs, name, port) for port in ports)
    for port, given in zip(ports, (x, y), strict=True):
        if given.dtype not in FLOATING:
            refuse(f"{name} takes floating point, and got {given.dtype}", ports=(port,), code="NS406")
    if x.shape != y.shape:
        refuse(f"{name} takes targets of the scores' shape {x}, and got {y}", ports=ports, code="NS403")
    if x.dtype != y.dtype:
        refuse(f"{name} takes tensors of one dtype, and got {x.dtype} and {y.dtype}", ports=ports, code="NS406")
    if not 0 <= arguments["alpha"] <= 1 and arguments["alpha"] != -1:
        refuse(f"{name} takes an alpha from 0 to 1, or -1", argument="alpha", code="NS404")
    return one(x.shape if arguments["reduction"] == "none" else (), x.dtype)


def _region(name: str, boxes: str, by_place: bool) -> Rule:
    """`by_place`: the channels are shared out over the places of a region."""

    @rule
    def infer(arguments: Arguments, inputs: Inputs) -> Inferred:
        x, regions = tensor(inputs, name), tensor(inputs, name, boxes)
        if len(x.shape) != 4:
            refuse(f"{name} takes [N, C, H, W], and got {x}")
        if len(regions.shape) != 2 or regions.shape[1] != 5:
            refuse(
                f"{name} takes regions [n, 5], and got {regions}",
                help="each is the number of its image, then left, top, right and bottom",
                ports=(boxes,),
            )
        if x.dtype not in _EXACT:
            refuse(f"{name} takes float32 or float64, and got {x.dtype}", code="NS406")
        if regions.dtype != x.dtype:
            refuse(f"{name} takes regions of {x.dtype}, and got {regions.dtype}", ports=("input", boxes), code="NS402")
        size, channels = spread(arguments["output_size"], 2), x.shape[1]
        if by_place:
            area = size[0] * size[1]
            if isinstance(channels, Dim) or channels % area:
                refuse(
                    f"{name}: {channels} channels cannot be shared out over {size[0]} x {size[1]} places",
                    argument="output_size",
                    code="NS404",
                )
            channels = channels // area
        return one((regions.shape[0], channels, *size), x.dtype)

    return infer


_FORMATS = ("xyxy", "xywh", "cxcywh")
_REDUCTION = Argument(
    name="reduction",
    kind="choice",
    default="none",
    choices=("none", "mean", "sum"),
    doc="what becomes of the single losses: all of them, their mean or their sum",
)
_EPS = Argument(name="eps", kind="float", default=1e-7, doc="added against division by zero")


def _format(name: str, doc: str, **more: Any) -> Argument:
    return Argument(name=name, kind="choice", choices=_FORMATS, doc=doc, **more)


_FMT = _format("fmt", "what the numbers of a box are: corners, or sizes too", default="xyxy", since="0.29")


def _function(
    name: str,
    rule: Rule,
    doc: str,
    arguments: tuple[Argument, ...],
    inputs: tuple[str, ...] = _PAIR,
    role: Role = "merge",
) -> Entry:
    return Entry(
        name=name,
        category="function",
        target=f"torchvision.ops.{name}",
        arguments=arguments,
        inputs=tuple(Port(name=port) for port in inputs),
        rule=rule,
        role=role,
        doc=doc,
    )


def _regions(layer: str, function: str, by_place: bool, more: tuple[Argument, ...], doc: str) -> tuple[Entry, Entry]:
    def arguments(scale: Any, points: Any) -> tuple[Argument, ...]:
        found = (
            Argument(
                name="output_size", kind="size2", minimum=1, positional=True, doc="height and width of what is pooled"
            ),
            Argument(
                name="spatial_scale",
                kind="float",
                default=scale,
                doc="size of the input as a share of the image's",
            ),
            Argument(
                name="sampling_ratio",
                kind="int",
                default=points,
                doc="points that are looked at for each place and side; -1: as many as needed",
            ),
        )
        return (*(found if "Align" in layer else found[:2]), *more)

    module = Entry(
        name=layer,
        category="layer",
        target=f"torchvision.ops.{layer}",
        arguments=arguments(REQUIRED, REQUIRED),
        inputs=(Port(name="input"), Port(name="rois")),
        rule=_region(layer, "rois", by_place),
        role="pool",
        doc=doc,
    )
    call = _function(
        function, _region(function, "boxes", by_place), doc, arguments(1.0, -1), ("input", "boxes"), "pool"
    )
    return module, call


_ALIGNED = Argument(name="aligned", kind="bool", default=False, doc="whether boxes are moved by half a pixel")

ENTRIES: tuple[Entry, ...] = (
    _function("box_iou", _overlap("box_iou"), "Overlap of every box with every other, from 0 to 1.", (_FMT,)),
    _function(
        "generalized_box_iou",
        _overlap("generalized_box_iou"),
        "Overlap of every box with every other, below 0 for those that are apart.",
        (),
    ),
    _function("distance_box_iou", _overlap("distance_box_iou"), "Overlap less the distance of the centres.", (_EPS,)),
    _function(
        "complete_box_iou",
        _overlap("complete_box_iou"),
        "Overlap less the distance of the centres and of the shapes.",
        (_EPS,),
    ),
    _function("box_area", _area, "Area of boxes.", (_FMT,), ("boxes",), ""),
    _function(
        "box_convert",
        _convert,
        "Tells boxes by other numbers.",
        (_format("in_fmt", "what the numbers are"), _format("out_fmt", "what they are to be")),
        ("boxes",),
        "",
    ),
    _function(
        "clip_boxes_to_image",
        _clip,
        "Moves the corners of boxes into the image.",
        (Argument(name="size", kind="ints", minimum=1, doc="height and width of the image"),),
        ("boxes",),
        "",
    ),
    *(
        _function(f"{kind}_box_iou_loss", _loss(f"{kind}_box_iou_loss"), doc, (_REDUCTION, _EPS))
        for kind, doc in (
            ("generalized", "1 less the generalised overlap of pairs of boxes."),
            ("distance", "1 less the overlap of pairs of boxes, and the distance of their centres."),
            ("complete", "1 less the overlap of pairs of boxes, and the distance of their centres and shapes."),
        )
    ),
    _function(
        "sigmoid_focal_loss",
        _focal,
        "Cross entropy of scores with targets 0 and 1, in which what is right already counts little.",
        (
            Argument(name="alpha", kind="float", default=0.25, doc="weight of targets 1, from 0 to 1; -1: none"),
            Argument(name="gamma", kind="float", default=2, doc="how little what is right counts"),
            _REDUCTION,
        ),
        ("inputs", "targets"),
    ),
    *_regions("RoIAlign", "roi_align", False, (_ALIGNED,), "Pools regions of images, at places between pixels."),
    *_regions("RoIPool", "roi_pool", False, (), "Keeps the largest values of the parts of regions of images."),
    *_regions("PSRoIAlign", "ps_roi_align", True, (), "Pools regions, each part from its own channels."),
    *_regions("PSRoIPool", "ps_roi_pool", True, (), "Averages regions, each part from channels of its own."),
)
