"""The declared domain of the catalog's oracle: boxes and regions of torchvision.ops."""

from __future__ import annotations

from random import Random
from typing import Any

from domain_base import ARGUMENTS, COMPARES, GUESSES, INPUTS, WHOLE, Inputs, dtype, shape
from domain_losses import alike

from netspec.shapes import TensorType


def boxes(random: Random) -> TensorType:
    sizes = shape(random, 1 if random.random() < 0.9 else random.randint(0, 2), 4)
    kind = random.choice(("float32", "float32", "float32", "float64", dtype(random)))
    return TensorType((*sizes, 4 if random.random() < 0.95 else 3), kind)


def some(random: Random) -> Inputs:
    return [boxes(random)]


def every(random: Random) -> Inputs:
    a, b = boxes(random), boxes(random)
    return [a, TensorType(b.shape, a.dtype if random.random() < 0.85 else b.dtype)]


def pairs(random: Random) -> Inputs:
    a, b = every(random)
    return [a, TensorType(a.shape, b.dtype) if random.random() < 0.9 else b]


for _name in ("box_iou", "generalized_box_iou", "distance_box_iou", "complete_box_iou"):
    INPUTS[_name] = every
for _name in ("generalized_box_iou_loss", "distance_box_iou_loss", "complete_box_iou_loss"):
    INPUTS[_name] = pairs
    COMPARES.add(_name)
for _name in ("box_area", "box_convert", "clip_boxes_to_image"):
    INPUTS[_name] = some
    COMPARES.add(_name)
ARGUMENTS["clip_boxes_to_image"] = {"size": lambda random, inputs: [random.randint(1, 5), random.randint(1, 5)]}
INPUTS["sigmoid_focal_loss"] = alike(2, 0)
ARGUMENTS["sigmoid_focal_loss"] = {
    "alpha": lambda random, inputs: random.choice((0.25, 0.0, 1.0, -1, 1.5)),
    "gamma": lambda random, inputs: random.choice((0.0, 2, 1.5)),
}
COMPARES.add("sigmoid_focal_loss")


def regions(random: Random) -> Inputs:
    """Images and regions of the first one: all numbers of a region are below 1."""
    # Of another rank torchvision refuses them with pages of its own stack, so these are not drawn.
    sizes = (random.randint(1, 3), random.choice((1, 4, 4, 8, 9)), *shape(random, 2, 5))
    kind = random.choice(("float32", "float32", "float32", "float64", dtype(random)))
    row = (random.randint(1, 3), 5 if random.random() < 0.95 else 4)
    return [TensorType(sizes, kind), TensorType(row, kind if random.random() < 0.9 else dtype(random))]


def pooled_size(random: Random, inputs: Inputs) -> Any:
    return random.choice((1, 2, 2, 3))


for _layer, _function in (
    ("RoIAlign", "roi_align"),
    ("RoIPool", "roi_pool"),
    ("PSRoIAlign", "ps_roi_align"),
    ("PSRoIPool", "ps_roi_pool"),
):
    for _name in (_layer, _function):
        INPUTS[_name] = regions
        WHOLE[_name] = {"rois": 0, "boxes": 0}
        ARGUMENTS[_name] = {
            "output_size": pooled_size,
            "spatial_scale": lambda random, inputs: random.choice((1.0, 0.5)),
            "sampling_ratio": lambda random, inputs: random.choice((-1, 1, 2)),
        }


def moved(random: Random) -> Inputs:
    """Images with an offset for each point of a kernel of 2 x 2 with stride 1."""
    batch, channels, height, width = random.randint(1, 3), random.choice((1, 2, 4)), *shape(random, 2, 5)
    kind = "float32" if random.random() < 0.95 else random.choice(("float64", "int64"))
    groups = random.choice((1, 1, 2))
    places = (max(height - 1, 1) + (random.random() < 0.05), max(width - 1, 1))
    return [
        TensorType((batch, channels, height, width), kind),
        TensorType((batch, 8 * groups, *places), kind),
        TensorType((batch, 4 * groups, *places), kind) if random.random() < 0.5 else None,
    ]


INPUTS["DeformConv2d"] = moved
ARGUMENTS["DeformConv2d"] = {
    "kernel_size": lambda random, inputs: 2 if random.random() < 0.95 else 3,
    "stride": lambda random, inputs: 1,
    "padding": lambda random, inputs: 0 if random.random() < 0.95 else 1,
    "dilation": lambda random, inputs: 1,
    "out_channels": lambda random, inputs: random.choice((1, 2, 4)),
    "groups": lambda random, inputs: random.choice((1, 1, 1, 2)),
}
GUESSES["DeformConv2d"] = {"in_channels": 1}
COMPARES.add("DeformConv2d")
