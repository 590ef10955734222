"""Write a trained run's model as ONNX, as a program of torch.export, or as weights.

The ending of the file says which: .onnx, .pt2, .safetensors, .pt. The file is compared with the module before it bears
its name, and holds the preprocessing, the class names and the inputs as metadata.
"""

from __future__ import annotations

import argparse

from netspec.cli import common


def add_arguments(parser: argparse.ArgumentParser) -> None:
    common.add_run(parser, device=False)
    parser.add_argument(
        "-o", "--output", required=True, metavar="FILE", help="ends in .onnx, .pt2, .safetensors or .pt"
    )
    parser.add_argument(
        "--tolerance",
        type=float,
        metavar="X",
        help="the difference that passes, as a share of the largest output (default: 1e-4 for .onnx, 1e-5 for .pt2)",
    )
    common.add_set(parser)
    common.add_plugin(parser)


def run(args: argparse.Namespace) -> int:
    def work() -> int:
        from netspec.runtime.export import export

        program, good = common.program_of_run(args)
        if not good:
            return common.WRONG_SPEC
        done = export(
            args.run_dir,
            args.output,
            checkpoint_name=args.checkpoint,
            trust=args.trust,
            program=program,
            tolerance=args.tolerance,
        )
        if done.batches:
            sizes = " and ".join(map(str, done.batches))
            compared = f"differs from the module by {done.difference:.1e} at most, in batches of {sizes}"
        else:
            compared = "holds the module's weights bit for bit"
        print(f"{done.path}: {compared}")
        if done.fixed:
            print(f"fixed at the size it was traced with: {', '.join(done.fixed)}")
        if done.beside is not None:
            print(f"{done.beside}: inputs, preprocessing and classes")
        return common.GOOD

    return common.run_guarded(work, show_traceback=args.traceback)
