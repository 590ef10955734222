"""List the runs below a folder, or put some side by side with what differs in their specs."""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from netspec.cli import common
from netspec.cli.run_table import (
    RESOLVED,
    Row,
    by,
    columns,
    condition,
    differences,
    holds,
    known,
    row_of,
    runs_below,
    with_columns,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("paths", nargs="*", metavar="DIR", help="folders to look in, or runs (default: runs)")
    parser.add_argument(
        "--compare", action="store_true", help="one column a run: its figures, and what differs in the specs"
    )
    parser.add_argument("--sort", metavar="COLUMN", help="by a column such as val.loss, the lowest first")
    parser.add_argument("--reverse", action="store_true", help="the highest first")
    parser.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="CONDITION",
        help="only runs of which it holds: val.accuracy>0.9, train.optimizer.type=AdamW; may be repeated",
    )
    parser.add_argument(
        "--columns",
        metavar="NAMES",
        help="these alone: figures, and places of the spec such as params.width",
    )
    parser.add_argument("--format", choices=["text", "json", "csv"], default="text", help="default: text")


def run(args: argparse.Namespace) -> int:
    found: list[Path] = []
    for path in map(Path, args.paths or ["runs"]):
        if not path.is_dir():
            common.wrong_usage(
                args, f"{path} is a file, and runs are folders" if path.exists() else f"there is no folder {path}"
            )
        found += [path] if (path / RESOLVED).is_file() else runs_below(path)
    found = list(dict.fromkeys(found))
    if not found:
        common.wrong_usage(args, f"there are no runs below {', '.join(args.paths or ['runs'])}")
    rows = [row_of(path) for path in found]
    for text in args.where:
        wanted = condition(text)
        if wanted is None:
            common.wrong_usage(args, f"{text!r} is no condition; one is written val.accuracy>0.9")
        _check_column(args, rows, wanted[0])
        rows = [row for row in rows if holds(row, wanted)]
    if args.sort is not None:
        _check_column(args, rows, args.sort)
        rows = by(rows, args.sort, reverse=args.reverse)
    if args.columns is not None and not args.compare:
        names = [name.strip() for name in args.columns.split(",") if name.strip()]
        for name in names:
            _check_column(args, rows, name)
        rows = with_columns(rows, names)
    if not rows:
        if args.format == "text":
            print("no run is left")
        elif args.format == "json":
            print("[]")
    elif args.compare:
        _print_compared(rows, differences([Path(row["run"]) for row in rows]), args.format)
    elif args.format == "json":
        print(json.dumps(rows, indent=2))
    else:
        names = columns(rows)
        _print_table([names, *([row.get(name) for name in names] for row in rows)], args.format)
    return common.GOOD


def _check_column(args: argparse.Namespace, rows: Sequence[Row], name: str) -> None:
    if rows and not known(rows, name):
        common.wrong_usage(
            args, f"no run has a column {name}; there are {', '.join(columns(rows))}, and places of the spec"
        )


def _print_compared(rows: Sequence[Row], differ: Mapping[str, Sequence[Any]], format: str) -> None:
    names = [name for name in columns(rows) if name != "run"]
    if format == "json":
        print(json.dumps({"runs": list(rows), "differences": differ}, indent=2, default=str))
        return
    table: list[Sequence[Any]] = [["", *(row["run"] for row in rows)]]
    table += [[name, *(row.get(name) for row in rows)] for name in names]
    table += [[place, *values] for place, values in differ.items()]
    _print_table(table, format)


def _print_table(lines: Sequence[Sequence[Any]], format: str) -> None:
    cells = [[_cell(value, format) for value in line] for line in lines]
    if format == "csv":
        csv.writer(sys.stdout, lineterminator="\n").writerows(cells)
        return
    widths = [max(len(line[index]) for line in cells) for index in range(len(cells[0]))]
    for line in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _cell(value: Any, format: str) -> str:
    if value is None:
        return "" if format == "csv" else "-"
    return f"{value:.4g}" if isinstance(value, float) and format == "text" else str(value)
