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
from netspec.cli.run_table import RESOLVED, Row, by, columns, differences, row_of, runs_below


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("paths", nargs="*", metavar="DIR", help="folders to look in, or runs (default: runs)")
    parser.add_argument(
        "--compare", action="store_true", help="one column a run: its figures, and what differs in the specs"
    )
    parser.add_argument("--sort", metavar="COLUMN", help="by a column such as val.loss, the lowest first")
    parser.add_argument("--reverse", action="store_true", help="the highest first")
    parser.add_argument("--format", choices=["text", "json", "csv"], default="text", help="default: text")


def run(args: argparse.Namespace) -> int:
    found: list[Path] = []
    for path in map(Path, args.paths or ["runs"]):
        if not path.is_dir():
            common.wrong_usage(args, f"there is no folder {path}")
        found += [path] if (path / RESOLVED).is_file() else runs_below(path)
    found = list(dict.fromkeys(found))
    if not found:
        common.wrong_usage(args, f"there are no runs below {', '.join(args.paths or ['runs'])}")
    rows = [row_of(path) for path in found]
    if args.sort is not None:
        if args.sort not in columns(rows):
            common.wrong_usage(args, f"no run has a column {args.sort}; there are {', '.join(columns(rows))}")
        rows = by(rows, args.sort, reverse=args.reverse)
    if args.compare:
        _print_compared(rows, differences([Path(row["run"]) for row in rows]), args.format)
    elif args.format == "json":
        print(json.dumps(rows, indent=2))
    else:
        names = columns(rows)
        _print_table([names, *([row.get(name) for name in names] for row in rows)], args.format)
    return common.GOOD


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
