"""Apply a trained run to files: images, folders of them, the rows of CSV files, NumPy's arrays.

They are read and transformed as the run's own data were. One line a sample: JSON, or CSV with a column a class. Files
that can't be read are passed over, counted and named.
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
    parser.add_argument(
        "inputs", nargs="+", metavar="INPUT", help="an image, a folder of images, a CSV file, .npy or .npz"
    )
    parser.add_argument("--format", choices=["json", "csv"], default="json", help="default: json")
    parser.add_argument("--batch-size", type=common.positive, default=64, metavar="N", help="default: 64")
    common.add_set(parser)
    common.add_plugin(parser)


def run(args: argparse.Namespace) -> int:
    def work() -> int:
        from netspec.runtime.errors import RunError
        from netspec.runtime.predict import predict

        program, good = common.program_of_run(args)
        if not good:
            return common.WRONG_SPEC
        unreadable: list[RunError] = []
        rows = predict(
            args.run_dir,
            args.inputs,
            checkpoint_name=args.checkpoint,
            device=args.device,
            trust=args.trust,
            program=program,
            batch_size=args.batch_size,
            unreadable=unreadable,
        )
        count = _print_csv(rows) if args.format == "csv" else _print_json(rows)
        for error in unreadable:
            print(error.message, file=sys.stderr)
        if unreadable:
            total = count + len(unreadable)
            print(f"{len(unreadable)} of {total} could not be read", file=sys.stderr)
        return common.FAILED if unreadable and not count else common.GOOD

    return common.run_guarded(work, show_traceback=args.traceback)


def _print_json(rows: Iterable[dict[str, Any]]) -> int:
    """A line a sample. Returns how many there were."""
    count = 0
    for row in rows:
        print(json.dumps(row, ensure_ascii=False))
        count += 1
    return count


def _print_csv(rows: Iterable[dict[str, Any]]) -> int:
    """A header and a line a sample; probabilities, and numbers of a list, each in a column of their own. Returns how
    many samples there were.
    """
    writer: Any = None
    count = 0
    for row in rows:
        flat = _flat(row)
        if writer is None:
            writer = csv.DictWriter(sys.stdout, list(flat), lineterminator="\n")
            writer.writeheader()
        writer.writerow(flat)
        count += 1
    return count


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in row.items():
        if name == "outputs":
            for output, described in value.items():
                flat |= {f"{output}: {key}": part for key, part in _flat(described).items()}
        elif isinstance(value, dict):
            flat |= {f"probability of {label}": part for label, part in value.items()}
        elif isinstance(value, list):
            flat |= {f"{name} {index}": part for index, part in enumerate(value)}
        else:
            flat[name] = value
    return flat
