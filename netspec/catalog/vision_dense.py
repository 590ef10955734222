"""torchvision's data sets of boxes, masks, optical flow and disparity, by their names and with their arguments."""

from __future__ import annotations

from typing import Final

from netspec.catalog.entry import Argument
from netspec.catalog.sources import DOWNLOAD, SourceEntry
from netspec.catalog.vision_fields import THREE, choice, in_parts, vision_source, whole

_BOXES: Final = ("image", "boxes", "labels")
_FLOW: Final = ("image", "image2", "flow")
_STEREO: Final = ("image", "image2", "disparity")
_PASSES: Final = ("clean", "final", "both")

ENTRIES: Final[tuple[SourceEntry, ...]] = (
    whole(
        "CocoDetection",
        "Boxes and classes from COCO's JSON; classes are the file's own numbers.",
        Argument(name="annFile", kind="str", doc="The JSON file."),
        download=False,
        carries=_BOXES,
        paths=("root", "annFile"),
        loader="boxes.coco",
    ),
    in_parts(
        "VOCDetection",
        "Boxes and 20 classes, which are counted from 1.",
        "train",
        "val",
        "trainval",
        "test",
        argument="image_set",
        under={"test": "val"},
        first=(choice("year", tuple(map(str, range(2007, 2013))), "2012", "The year; 2007 has a `test` part."),),
        carries=_BOXES,
    ),
    vision_source(
        "Kitti",
        "Boxes of 8 kinds in traffic. Its test part has none: cut the other with `split`.",
        Argument(name="train", kind="bool", default=True, doc="The part with boxes."),
        DOWNLOAD,
        carries=_BOXES,
    ),
    in_parts("WIDERFace", "Boxes of faces.", *THREE, under={"test": "val"}, carries=("image", "boxes")),
    in_parts(
        "VOCSegmentation",
        "A class for each pixel, 0 to 20; 255 is a border (`ignore_index: 255` of the loss).",
        "train",
        "val",
        "trainval",
        "test",
        argument="image_set",
        under={"test": "val"},
        first=(choice("year", tuple(map(str, range(2007, 2013))), "2012", "The year; 2007 has a `test` part."),),
        carries=("image", "mask"),
    ),
    in_parts(
        "SBDataset",
        "More masks for VOC's images: `mask`, or `boundaries` [20, height, width].",
        "train",
        "val",
        "train_noval",
        argument="image_set",
        more=(choice("mode", ("boundaries", "segmentation"), "boundaries", "What belongs to an image."),),
    ),
    in_parts(
        "Cityscapes",
        "Streets of 50 cities: `mask` has a class or an instance for each pixel.",
        "train",
        "test",
        "val",
        "train_extra",
        under={"test": "val"},
        more=(
            choice("mode", ("fine", "coarse"), "fine", "How exactly it was drawn."),
            choice("target_type", ("instance", "semantic"), "instance", "What the numbers of `mask` are."),
        ),
        download=False,
        carries=("image", "mask"),
    ),
    in_parts("KittiFlow", "Optical flow in traffic.", "train", "test", download=False, carries=(*_FLOW, "valid")),
    in_parts(
        "Sintel",
        "Optical flow in an animated film.",
        "train",
        "test",
        more=(choice("pass_name", _PASSES, "clean", "How it was rendered."),),
        download=False,
        carries=_FLOW,
        image=(3, 436, 1024),
    ),
    in_parts("FlyingChairs", "Optical flow of chairs.", "train", "val", download=False, carries=_FLOW),
    in_parts(
        "FlyingThings3D",
        "Optical flow of things.",
        "train",
        "test",
        more=(
            choice("pass_name", _PASSES, "clean", "How it was rendered."),
            choice("camera", ("left", "right", "both"), "left", "Of which camera."),
        ),
        download=False,
        carries=_FLOW,
    ),
    in_parts("HD1K", "Optical flow in traffic.", "train", "test", download=False, carries=(*_FLOW, "valid")),
    in_parts("Kitti2012Stereo", "Disparity in traffic.", "train", "test", download=False, carries=(*_STEREO, "valid")),
    in_parts("Kitti2015Stereo", "Disparity in traffic.", "train", "test", download=False, carries=(*_STEREO, "valid")),
    whole("CarlaStereo", "Disparity in simulated traffic.", download=False, carries=_STEREO),
    in_parts(
        "Middlebury2014Stereo",
        "Disparity of still lives.",
        "train",
        "test",
        "additional",
        more=(choice("calibration", ("perfect", "imperfect", "both"), "perfect", "Of which calibration."),),
        carries=(*_STEREO, "valid"),
    ),
    whole("CREStereo", "Disparity of rendered scenes.", download=False, carries=_STEREO),
    whole(
        "FallingThingsStereo",
        "Disparity of falling things.",
        choice("variant", ("single", "mixed", "both"), "single", "One thing, or several."),
        download=False,
        carries=_STEREO,
    ),
    whole(
        "SceneFlowStereo",
        "Disparity of rendered scenes.",
        choice("variant", ("FlyingThings3D", "Driving", "Monkaa"), "FlyingThings3D", "Which scenes."),
        choice("pass_name", _PASSES, "clean", "How it was rendered."),
        download=False,
        carries=_STEREO,
    ),
    whole(
        "SintelStereo",
        "Disparity in an animated film.",
        choice("pass_name", ("final", "clean", "both"), "final", "How it was rendered."),
        download=False,
        carries=(*_STEREO, "valid"),
    ),
    in_parts("InStereo2k", "Disparity of rooms.", "train", "test", download=False, carries=_STEREO),
    in_parts("ETH3DStereo", "Disparity of buildings.", "train", "test", download=False, carries=(*_STEREO, "valid")),
)
