"""Apply a trained run to files: images, folders of them, or the rows of CSV files.

They are read and transformed as the run's own data were. One line a sample: JSON, or CSV with a column a class.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Iterable
from typing import Any

from netspec.cli import common


def add_arguments(parser: argparse.ArgumentParser) -> None:
    common.add_run(parser)
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="an image, a folder of images, or a CSV file")
    parser.add_argument("--format", choices=["json", "csv"], default="json", help="default: json")
    parser.add_argument("--batch-size", type=common.positive, default=64, metavar="N", help="default: 64")
    common.add_set(parser)
    common.add_plugin(parser)


def run(args: argparse.Namespace) -> int:
    def work() -> int:
        from netspec.runtime.predict import predict

        program, good = common.program_of_run(args)
        if not good:
            return common.WRONG_SPEC
        rows = predict(
            args.run_dir,
            args.inputs,
            checkpoint_name=args.checkpoint,
            device=args.device,
            trust=args.trust,
            program=program,
            batch_size=args.batch_size,
        )
        if args.format == "json":
            for row in rows:
                print(json.dumps(row, ensure_ascii=False))
        else:
            _print_csv(rows)
        return common.GOOD

    return common.run_guarded(work, show_traceback=args.traceback)


def _print_csv(rows: Iterable[dict[str, Any]]) -> None:
    """A header and a line a sample; probabilities, and numbers of a list, each in a column of their own."""
    writer: Any = None
    for row in rows:
        flat: dict[str, Any] = {}
        for name, value in row.items():
            if isinstance(value, dict):
                flat |= {f"probability of {label}": part for label, part in value.items()}
            elif isinstance(value, list):
                flat |= {f"{name} {index}": part for index, part in enumerate(value)}
            else:
                flat[name] = value
        if writer is None:
            writer = csv.DictWriter(sys.stdout, list(flat), lineterminator="\n")
            writer.writeheader()
        writer.writerow(flat)
