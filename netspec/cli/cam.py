"""Show where in an image a trained run saw what it says of it: class activation maps.

Writes the map over the image as PNG, and its numbers as `.npy`. Images are read and transformed as the run's own were.
"""

from __future__ import annotations

import argparse

from netspec.catalog.seeing import METHODS
from netspec.cli import common


def add_arguments(parser: argparse.ArgumentParser) -> None:
    common.add_run(parser)
    parser.add_argument("inputs", nargs="+", metavar="IMAGE", help="an image, or a folder of images")
    parser.add_argument("--layer", metavar="GLOB", help="the layer, by path (default: the last that gives maps)")
    parser.add_argument("--method", choices=METHODS, default="gradcam", help="default: gradcam")
    parser.add_argument("--class", dest="target", metavar="CLASS", help="map this class (default: the answer)")
    parser.add_argument("-o", "--output", metavar="DIR", help="where to write (default: the folder cam of the run)")
    common.add_set(parser)
    common.add_plugin(parser)


def run(args: argparse.Namespace) -> int:
    def work() -> int:
        from netspec.runtime.cam import cam

        program, good = common.program_of_run(args)
        if not good:
            return common.WRONG_SPEC
        for row in cam(
            args.run_dir,
            args.inputs,
            layer=args.layer,
            method=args.method,
            target=args.target,
            output=args.output,
            checkpoint_name=args.checkpoint,
            device=args.device,
            trust=args.trust,
            program=program,
        ):
            sure = max(row["probabilities"].values(), default=None) if "probabilities" in row else None
            answer = f"{row['class']} {sure:.0%}" if sure is not None else row["prediction"]
            print(f"{row['input']}: {answer}; {row['picture']}, {row['map']} (layer {row['layer']})")
        return common.GOOD

    return common.run_guarded(work, show_traceback=args.traceback)
