"""Print the layers of a spec: what each gives, how many parameters it has, and what it costs for one sample.

FLOPs count 2 for a multiply-add, of convolutions, matrix products and attention. `--resolved` prints the spec itself as
it is after extends, imports, file: and --set.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

from netspec.cli import common

if TYPE_CHECKING:
    from netspec.program import Program


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("spec", metavar="SPEC", help="a spec")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--resolved", action="store_true", help="print the resolved spec instead of the table")
    what.add_argument("--format", choices=["text", "json"], default="text", help="how to print the table")
    parser.add_argument("--depth", type=common.positive, metavar="N", help="only so many levels")
    common.add_set(parser)
    common.add_plugin(parser)


def run(args: argparse.Namespace) -> int:
    if args.resolved:
        return _resolved(args)
    program = common.load(args, args.spec, model_only=True)
    if program is None:
        return common.WRONG_SPEC
    if args.format == "json":
        print(json.dumps(_as_json(program, args.depth), indent=2))
    else:
        _print_table(program, args.depth)
    return common.GOOD


def _resolved(args: argparse.Namespace) -> int:
    from netspec.compose import compose, resolved_text
    from netspec.diagnostics import Diagnostics
    from netspec.schema import knows

    diagnostics = Diagnostics()
    composed = compose(args.spec, args.overrides, diagnostics, knows=knows)
    common.report(diagnostics)
    if composed is None or diagnostics.has_errors:
        return common.WRONG_SPEC
    sys.stdout.write(resolved_text(composed))
    return common.GOOD


def _as_json(program: Program, depth: int | None) -> dict[str, object]:
    from netspec.table import layer_table, totals

    return {
        "name": program.name,
        "inputs": {name: str(type_) for name, type_ in program.inputs.items()},
        "outputs": {name: str(type_) for name, type_ in program.outputs.items()},
        **totals(program),
        "layers": [
            {
                "path": row.path,
                "type": row.type,
                "shape": str(row.shape),
                "parameters": row.parameters,
                "flops": row.flops,
                "frozen": row.frozen,
            }
            for row in layer_table(program, depth)
        ],
    }


def _print_table(program: Program, depth: int | None) -> None:
    from rich.console import Console
    from rich.table import Table

    from netspec.table import layer_table, short, totals

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("layer")
    table.add_column("type")
    table.add_column("output")
    table.add_column("parameters", justify="right")
    table.add_column("FLOPs", justify="right")
    for name, type_ in program.inputs.items():
        table.add_row(name, "input", str(type_), "", "")
    for row in layer_table(program, depth):
        table.add_row(
            "  " * row.depth + row.path.rpartition(".")[2],
            row.type,
            str(row.shape),
            f"{row.parameters:,}" if row.parameters else "",
            short(row.flops) if row.flops else "" if row.flops == 0 else "?",
            style="dim" if row.frozen else None,
        )
    # A table is not cut where it goes into a file or another program.
    console = Console(highlight=False, markup=False)
    console = console if console.is_terminal else Console(highlight=False, markup=False, width=200)
    console.print(table)
    whole = totals(program)
    parts = [f"{whole['parameters']:,} parameters"]
    if whole["trainable"] != whole["parameters"]:
        parts.append(f"{whole['trainable']:,} of them trained")
    if whole["flops"]:
        parts.append(f"{short(whole['flops'])}FLOPs for one sample")
    console.print(f"\n{program.name}: {', '.join(parts)}")
