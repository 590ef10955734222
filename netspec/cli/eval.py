"""Measure a trained run on a split of the data that its spec names, or on other data of the same kind."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import Any

from netspec.cli import common


def add_arguments(parser: argparse.ArgumentParser) -> None:
    common.add_run(parser)
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--split", choices=["train", "val", "test"], default="test", help="default: test")
    where.add_argument(
        "--data", metavar="PATH", help="a file or a folder in place of the run's own: all that is read there"
    )
    parser.add_argument("--format", choices=["text", "json"], default="text", help="default: text")
    parser.add_argument(
        "--classes", action="store_true", help="of a classifier also each class's figures and the confusion matrix"
    )
    common.add_set(parser)
    common.add_plugin(parser)


def run(args: argparse.Namespace) -> int:
    def work() -> int:
        from netspec.runtime.evaluate import measure
        from netspec.runtime.journal import figure
        from netspec.runtime.monitors.answers import markdown

        program, good = common.program_of_run(args)
        if not good:
            return common.WRONG_SPEC
        figures, answers = measure(
            args.run_dir,
            args.split,
            checkpoint_name=args.checkpoint,
            device=args.device,
            trust=args.trust,
            program=program,
            other=args.data,
        )
        name = args.data or args.split
        if args.format == "json":
            found: dict[str, Any] = {name: figures}
            if args.classes and answers is not None and answers.matrix is not None:
                found["classes"] = [asdict(one) for one in answers.by_class()]
                found["confusion"] = answers.matrix.tolist()
            print(json.dumps(found, indent=2))
            return common.GOOD
        print(f"{name}: " + "  ".join(f"{name} {figure(value)}" for name, value in figures.items()))
        if args.classes and answers is not None and answers.matrix is not None:
            for one in answers.by_class():
                print(
                    f"{one.name}: {one.support} samples  precision {figure(one.precision)}  "
                    f"recall {figure(one.recall)}  f1_score {figure(one.f1_score)}"
                )
            print(markdown(answers.matrix, answers.names))
        return common.GOOD

    return common.run_guarded(work, show_traceback=args.traceback)
