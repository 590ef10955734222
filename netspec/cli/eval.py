"""Measure a trained run on a split of the data that its spec names."""

from __future__ import annotations

import argparse
import json

from netspec.cli import common


def add_arguments(parser: argparse.ArgumentParser) -> None:
    common.add_run(parser)
    parser.add_argument("--split", choices=["train", "val", "test"], default="test", help="default: test")
    parser.add_argument("--format", choices=["text", "json"], default="text", help="default: text")
    common.add_set(parser)
    common.add_plugin(parser)


def run(args: argparse.Namespace) -> int:
    def work() -> int:
        from netspec.runtime.evaluate import evaluate
        from netspec.runtime.journal import figure

        program, good = common.program_of_run(args)
        if not good:
            return common.WRONG_SPEC
        figures = evaluate(
            args.run_dir,
            args.split,
            checkpoint_name=args.checkpoint,
            device=args.device,
            trust=args.trust,
            program=program,
        )
        if args.format == "json":
            print(json.dumps({args.split: figures}, indent=2))
        else:
            print(f"{args.split}: " + "  ".join(f"{name} {figure(value)}" for name, value in figures.items()))
        return common.GOOD

    return common.run_guarded(work, show_traceback=args.traceback)
